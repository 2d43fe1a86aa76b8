//! Names of clients as path components: one name, one component, wherever the files are.

use std::path::{Component, Path};

use peristyle::persist::layout;
use proptest::prelude::*;

/// Names that look like each other, like paths, or like devices.
fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[a-cA-C._~@%/-]{0,4}",
        "(con|CON|nul|Com|lpt|prn|aux)[0-9.]{0,2}[a-z]{0,2}",
        "[aA@%\u{e9}]{55,70}",
        "[a-zA-Z/.]{170,400}",
    ]
}

fn check(name: &str, component: &str) {
    assert_eq!(layout::encode_name(name), component);
    assert_eq!(layout::decode_name(component).as_deref(), Some(name));
}

#[test]
fn encodes_names_as_the_contract_says() {
    let contract = include_str!("../../schemas/segment.md");
    let rows = contract.lines().skip_while(|it| *it != "| name | component |").skip(2);
    let mut count = 0;
    for row in rows.take_while(|it| it.starts_with('|')) {
        let cells: Vec<_> = row.split('`').collect();
        check(cells[1], cells[3]);
        count += 1;
    }
    assert!(count > 10);
}

#[test]
fn encodes_what_would_be_hidden_or_a_device() {
    check("", "@");
    check(".", "@2E");
    check("..", "@2E@2E");
    check("...", "@2E.@2E");
    check(".a.", "@2Ea@2E");
    check("_rejected", "@5Frejected");
    check("-rf", "@2Drf");
    check("con", "@63on");
    check("nul.txt", "@6Eul.txt");
    check("com1", "@63om1");
    check("com", "com");
    check("com10", "com10");
    check("console", "console");
    check("conin$", "conin@24");
}

#[test]
fn hashes_what_is_longer_than_180_bytes() {
    check(&"a".repeat(180), &"a".repeat(180));
    check(&"A".repeat(60), &"@41".repeat(60));
    // The hash is a contract with the files that exist: xxHash3, 128 bits, seed 0.
    assert_eq!(
        layout::encode_name(&"a".repeat(181)),
        format!("{}@@90fb9e9ed1e34829d4aa11618d0b1550", "a".repeat(100))
    );
    assert_eq!(layout::decode_name(&layout::encode_name(&"a".repeat(181))), None);
}

#[test]
fn decodes_only_what_it_encodes() {
    for component in
        ["A", "@4", "%41", "@zz", "@61", "@ff", "a b", ".a", "_a", "a.", "nul", "@2f", "a@"]
    {
        assert_eq!(layout::decode_name(component), None, "{component}");
    }
}

#[test]
fn dates_are_days_of_the_years_1_to_9999() {
    let date = |day| layout::date_of(day);
    assert_eq!(date(0).as_deref(), Some("1970-01-01"));
    assert_eq!(date(-1).as_deref(), Some("1969-12-31"));
    assert_eq!(date(20_779).as_deref(), Some("2026-11-22"));
    assert_eq!(date(-719_162).as_deref(), Some("0001-01-01"));
    assert_eq!(date(2_932_896).as_deref(), Some("9999-12-31"));
    assert_eq!(date(-719_163), None);
    assert_eq!(date(2_932_897), None);
    assert_eq!(date(i64::MAX), None);
}

#[test]
fn a_segment_has_its_place() {
    assert_eq!(
        layout::segment_path("mydb/rp", "cpu", "2026-11-22", "9b1c03de", 42, 1),
        Path::new("tables/mydb@2Frp/cpu/date=2026-11-22/9b1c03de-000000000000002a-0001.parquet")
    );
}

proptest! {
    #[test]
    fn a_component_is_one_safe_component(name in name()) {
        let component = layout::encode_name(&name);
        prop_assert!(!component.is_empty() && component.len() <= 255);
        prop_assert!(component.bytes().all(|it| it.is_ascii_graphic() && it != b'%'));
        prop_assert!(!component.starts_with(['.', '_', '-']) && !component.ends_with('.'));
        let parts: Vec<_> = Path::new(&component).components().collect();
        prop_assert_eq!(parts, [Component::Normal(component.as_ref())]);
        let stem = component.split('.').next().unwrap_or_default();
        prop_assert!(!["con", "prn", "aux", "nul", "com1", "lpt9"].contains(&stem));
        match layout::decode_name(&component) {
            Some(decoded) => prop_assert_eq!(decoded, name),
            None => prop_assert!(component.contains("@@")),
        }
    }

    #[test]
    fn two_names_never_share_a_component_even_without_case(left in name(), right in name()) {
        let [left_component, right_component] =
            [&left, &right].map(|it| layout::encode_name(it).to_lowercase());
        prop_assert_eq!(left == right, left_component == right_component);
    }

    #[test]
    fn a_name_and_its_case_twin_do_not_share_a_component(name in name()) {
        let twin = name.to_uppercase();
        prop_assume!(twin != name);
        prop_assert_ne!(
            layout::encode_name(&name).to_lowercase(),
            layout::encode_name(&twin).to_lowercase()
        );
    }
}
