//! Names of clients: one name, one path component inside of its directory; one name, one column.

use std::collections::HashSet;
use std::path::{Component, Path};

use peristyle::persist::layout;
use peristyle::schema::{Role, TIME};
use peristyle::timestamp::Timestamp;

use crate::support::Shard;

/// The first two names become paths, all of them columns of one table.
pub fn run(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let names: Vec<&str> = text.split('\0').take(8).collect();
    for name in &names {
        is_safe(name);
    }
    if let [first, second, ..] = *names {
        differ(first, second);
        is_inside(first, second);
    }
    columns(&names);
    // Whatever is found on a disk: a name, or nobody's.
    if let Some(name) = layout::decode_name(&text) {
        assert_eq!(layout::encode_name(&name), text);
    }
    layout::parse_segment_name(&text);
}

fn is_safe(name: &str) {
    let component = layout::encode_name(name);
    let is_verbatim = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.@".contains(&byte);
    assert!(component.bytes().all(is_verbatim), "{component:?}");
    assert!(!component.is_empty() && component.len() <= 255, "{component:?}");
    assert!(!component.starts_with(['.', '_', '-']) && !component.ends_with('.'), "{component:?}");
    let parts: Vec<Component<'_>> = Path::new(&component).components().collect();
    assert!(matches!(*parts, [Component::Normal(it)] if it == component.as_str()), "{parts:?}");
    let stem = component.split('.').next().unwrap_or_default().to_ascii_lowercase();
    let is_numbered = ["com", "lpt"].iter().any(|it| stem.starts_with(it)) && stem.len() == 4;
    let is_device = ["con", "prn", "aux", "nul"].contains(&&*stem)
        || (is_numbered && stem.ends_with(|it: char| it.is_ascii_digit()));
    assert!(!is_device, "{component:?}");
    match layout::decode_name(&component) {
        Some(decoded) => assert_eq!(decoded, name),
        // Told by its hash alone.
        None => assert!(component.len() == 134 && component[100..].starts_with("@@")),
    }
}

/// Two names never meet, on a disk without upper and lower case either.
fn differ(first: &str, second: &str) {
    let [one, other] = [first, second].map(|it| layout::encode_name(it).to_ascii_lowercase());
    assert_eq!(first == second, one == other, "{first:?} {second:?}");
}

fn is_inside(database: &str, measurement: &str) {
    let path = layout::segment_path(database, measurement, "2026-11-22", "00000000", 1, 0);
    let depth = path.components().count();
    let is_normal = path.components().all(|it| matches!(it, Component::Normal(_)));
    assert!(is_normal && depth == 5 && path.starts_with("tables"), "{}", path.display());
}

/// Every name is a column of its own, whose name in files Delta can hold and nobody confuses.
fn columns(names: &[&str]) {
    let mut shard = Shard::new();
    let mut taken = HashSet::new();
    shard.write(peristyle::gather::Atomicity::Rows, |database| {
        let table = database.table("m").expect("room for a table");
        for (at, name) in names.iter().enumerate() {
            let table = database.table_mut(table);
            let appended = if at % 2 == 0 {
                table.append_tag(name, "v").map(drop)
            } else {
                table.field(name).and_then(|column| table.append_i64(column, 1))
            };
            let only = table.field("only").and_then(|column| table.append_i64(column, 1));
            let is_whole = appended.and(only).and_then(|()| table.commit_row(Timestamp::default()));
            if is_whole.is_ok() {
                taken.insert(*name);
            } else {
                table.rollback_row();
            }
        }
    });
    let Some(measurement) = shard.registry.measurements(None).pop() else { return };
    let columns = measurement.columns();
    let known: HashSet<&str> = columns.iter().map(|it| &*it.name).collect();
    assert!(taken.iter().all(|name| name.is_empty() || *name == TIME || known.contains(name)));
    let mut folded = HashSet::from(["time".to_owned(), "time_ns".into(), "date".into()]);
    for column in &columns {
        assert!(folded.insert(column.physical.to_lowercase()), "{columns:?}");
        let is_held = |it: char| !it.is_control() && !" ,;{}()=".contains(it);
        assert!(column.physical.chars().all(is_held), "{column:?}");
        assert_ne!(column.role, Role::Time);
    }
}
