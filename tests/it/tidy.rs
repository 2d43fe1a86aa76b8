//! The house rules that a compiler does not know: sizes, layering, owners, words, leftovers.
//!
//! The rules are the tables below; the tests read every text file of the tree. What `.clippy.toml`
//! and `[lints]` check (functions of 70 lines, unsafe, unwrap) is not repeated here.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Lines of a source file before its `#[cfg(test)]`.
const FILE_LINES_MAX: usize = 500;
/// Columns of a line.
const COLUMNS_MAX: usize = 100;

/// Files with a bound of their own, in lines.
const LINES_MAX: &[(&str, usize)] =
    &[("ARCHITECTURE.md", 250), ("README.md", 120), ("src/lib.rs", 120), ("src/main.rs", 80)];

/// Files whose lines may be longer: entries of one line. So may rows of tables and addresses.
const LONG_LINES: &[&str] = &[".clippy.toml", "CHANGELOG.md", "Cargo.toml", "perf/load/Cargo.toml"];

/// What may stand in the visible root. The last two are not tracked.
const ROOT: &[&str] = &[
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "benches",
    "perf",
    "schemas",
    "src",
    "tests",
    "peristyle-data",
    "target",
];

/// Leaves that everyone may import and that import only each other.
const VOCABULARY: &[&str] =
    &["access", "disk", "durability", "error", "limits", "schema", "segment", "stats", "timestamp"];

/// Who may import whom, the vocabulary aside.
const EDGES: &[(&str, &[&str])] = &[
    ("main", &["config", "inspect", "serve", "shown", "tokens"]),
    ("inspect", &["config", "engine"]),
    ("serve", &["accept", "config", "engine", "supervised", "system"]),
    ("shown", &["config"]),
    ("supervised", &[]),
    ("system", &[]),
    ("tokens", &["config"]),
    ("accept", &["engine"]),
    ("config", &[]),
    ("decode", &["gather"]),
    ("engine", &["config", "decode", "gather", "journal", "persist", "publish"]),
    ("gather", &[]),
    ("journal", &[]),
    ("persist", &[]),
    ("publish", &[]),
];

/// Which modules use a dependency; one owner each, so that replacing it touches one folder.
const OWNERS: &[(&str, &[&str])] = &[
    ("arrow_array", &["decode", "engine", "gather", "persist", "publish"]),
    ("arrow_buffer", &["decode", "engine", "gather", "persist"]),
    ("arrow_ipc", &["decode"]),
    ("arrow_row", &["persist"]),
    ("arrow_schema", &["gather", "persist", "publish", "schema"]),
    ("arrow_select", &["gather", "persist"]),
    ("async_trait", &["publish"]),
    ("base64", &["accept"]),
    ("bytes", &["accept", "persist"]),
    ("chrono", &["persist"]),
    ("clap", &["config", "main"]),
    ("clap_complete", &["config"]),
    ("clap_mangen", &["config"]),
    ("crc32c", &["journal", "persist", "publish"]),
    ("crc32fast", &["decode"]),
    ("delta_kernel", &["publish"]),
    ("delta_kernel_default_engine", &["publish"]),
    ("flate2", &["decode"]),
    ("foldhash", &["gather", "persist"]),
    ("form_urlencoded", &["accept"]),
    ("futures_util", &["publish"]),
    ("getrandom", &["access"]),
    ("hashbrown", &["gather", "persist"]),
    ("http_body_util", &["accept"]),
    ("hyper", &["accept"]),
    ("hyper_util", &["accept"]),
    ("lexical_core", &["decode"]),
    ("libc", &["accept", "disk", "system"]),
    ("libdeflater", &["decode"]),
    ("lz4_flex", &["decode"]),
    ("memchr", &["accept", "decode"]),
    ("libmimalloc_sys", &["system"]),
    ("mimalloc", &["system"]),
    ("object_store", &["publish"]),
    ("parquet", &["persist"]),
    ("prometheus_client", &["accept"]),
    ("rmp", &["decode"]),
    ("rustix", &["accept", "engine"]),
    ("sd_notify", &["supervised"]),
    ("sha2", &["access"]),
    ("simd_json", &["accept", "access", "decode", "inspect", "publish", "schema"]),
    ("socket2", &["accept"]),
    ("strsim", &["config"]),
    ("subtle", &["access"]),
    ("tokio", &["accept", "engine", "journal", "serve"]),
    ("tokio_rustls", &["accept"]),
    ("toml", &["config"]),
    (
        "tracing",
        &[
            "accept",
            "engine",
            "inspect",
            "journal",
            "main",
            "persist",
            "publish",
            "serve",
            "supervised",
            "tokens",
        ],
    ),
    ("tracing_subscriber", &["main"]),
    ("twox_hash", &["engine", "persist"]),
    ("zstd", &["decode", "persist"]),
];

/// Words that may stand nowhere in code; cut in two so that this file passes.
const LEFTOVERS: &[&str] = &[
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
    concat!("HA", "CK"),
    concat!("to", "do!("),
    concat!("unimple", "mented!("),
    concat!("db", "g!("),
];
/// Parts of names that say nothing.
const EMPTY_NAMES: &[&str] = &["manager", "helper", "util", "common"];
/// Words of history in comments; history is git's.
const HISTORY: &[&str] = &[concat!("previ", "ously"), concat!("no lon", "ger ")];
/// What tests may not do: wait, or be left out.
const WAITS: &[&str] =
    &[concat!("thread::", "sleep"), concat!("tokio::time::", "sleep"), concat!("#[ign", "ore")];

/// Every text file of the tree by its path from the root, in order.
fn files() -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    walk(Path::new(env!("CARGO_MANIFEST_DIR")), "", &mut files);
    assert!(files.len() > 10, "the tree was not found");
    files
}

fn walk(dir: &Path, prefix: &str, files: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let path = format!("{prefix}{name}");
        if entry.file_type().unwrap().is_dir() {
            let is_hidden = name.starts_with('.') && ![".cargo", ".ci"].contains(&name.as_str());
            if !is_hidden && !["__pycache__", "peristyle-data", "target"].contains(&name.as_str()) {
                walk(&entry.path(), &format!("{path}/"), files);
            }
        } else if !path.starts_with("tests/corpus/") || has_extension(&path, &["md"]) {
            files.extend(fs::read_to_string(entry.path()).map(|text| (path, text)));
        }
    }
}

/// Code of the server or of the load tester.
fn is_source(path: &str) -> bool {
    path.starts_with("src/") || path.starts_with("perf/load/src/")
}

fn has_extension(path: &str, extensions: &[&str]) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.rsplit_once('.').is_some_and(|(_, found)| extensions.contains(&found))
}

/// Rust files of `src`, with the top-level module each belongs to.
fn sources(files: &BTreeMap<String, String>) -> Vec<(&str, &str, &str)> {
    files
        .iter()
        .filter(|(path, _)| path.starts_with("src/") && has_extension(path, &["rs"]))
        .map(|(path, text)| {
            let module = path.trim_start_matches("src/").split(['/', '.']).next().unwrap();
            (path.as_str(), module, text.as_str())
        })
        .collect()
}

/// The lines of a source that are code, numbered from 1.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    (1..).zip(text.lines()).filter(|(_, line)| !line.trim_start().starts_with("//"))
}

/// The names that follow `prefix` in `line`: of `a::{b, c::d}` after `a::`, `b` and `c`.
fn names_after<'a>(line: &'a str, prefix: &str) -> Vec<&'a str> {
    let is_name = |char: char| char.is_ascii_alphanumeric() || char == '_';
    let first = |text: &'a str| text.split(|char| !is_name(char)).next().unwrap_or_default();
    let mut names = Vec::new();
    for (at, _) in line.match_indices(prefix) {
        if line[..at].ends_with(|char| is_name(char) || char == ':') {
            continue;
        }
        let rest = &line[at + prefix.len()..];
        match rest.strip_prefix('{') {
            None => names.push(first(rest)),
            Some(group) => names.extend(group.split(',').map(|part| first(part.trim_start()))),
        }
    }
    names
}

/// Fails with all of `faults`, one a line.
#[track_caller]
fn none(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

/// The dependencies that `Cargo.toml` lists, with their lines.
fn dependencies(manifest: &str) -> Vec<(&str, &str)> {
    let mut is_list = false;
    let mut found = Vec::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            is_list = line.ends_with("dependencies]");
        } else if is_list && line.starts_with(|char: char| char.is_ascii_lowercase()) {
            found.push((line.split([' ', '=']).next().unwrap(), line));
        }
    }
    found
}

#[test]
fn files_are_short() {
    let mut faults = Vec::new();
    for (path, text) in files() {
        let own = LINES_MAX.iter().find(|(name, _)| *name == path).map(|(_, max)| *max);
        let Some(max) = own.or_else(|| is_source(&path).then_some(FILE_LINES_MAX)) else {
            continue;
        };
        let lines = text.lines().take_while(|line| *line != "#[cfg(test)]").count();
        if lines > max {
            faults.push(format!("{path}: {lines} lines, at most {max}: does it hold two things?"));
        }
    }
    none(&faults);
}

#[test]
fn lines_are_short_and_clean() {
    let mut faults = Vec::new();
    for (path, text) in files() {
        let is_checked = has_extension(&path, &["rs", "md", "toml", "sh", "py", "ebnf"]);
        if !is_checked && path != ".ci/run" {
            continue;
        }
        for (number, line) in (1..).zip(text.lines()) {
            let text = line.trim_start_matches("//! ").trim_start_matches("/// ");
            let is_exempt = text.starts_with('|') || text.contains("://");
            let is_long = line.chars().count() > COLUMNS_MAX;
            if is_long && !is_exempt && !LONG_LINES.contains(&path.as_str()) {
                faults.push(format!("{path}:{number}: longer than {COLUMNS_MAX} columns"));
            }
            if line.contains('\t') || line.ends_with([' ', '\r']) {
                faults.push(format!("{path}:{number}: a tab, or a space at the end"));
            }
        }
        if !text.ends_with('\n') || text.ends_with("\n\n") {
            faults.push(format!("{path}: does not end in one line feed"));
        }
    }
    none(&faults);
}

#[test]
fn code_is_ascii() {
    let mut faults = Vec::new();
    for (path, text) in files() {
        if has_extension(&path, &["rs", "toml", "sh", "py"]) || path == ".ci/run" {
            let foreign = (1..).zip(text.lines()).filter(|(_, line)| !line.is_ascii());
            faults.extend(foreign.map(|(number, _)| format!("{path}:{number}: not ASCII")));
        }
    }
    none(&faults);
}

#[test]
fn stages_import_only_what_the_star_allows() {
    let files = files();
    let sources = sources(&files);
    let modules: BTreeSet<&str> = sources.iter().map(|(_, module, _)| *module).collect();
    let mut faults = Vec::new();
    for (path, module, text) in &sources {
        let allowed = match EDGES.iter().find(|(from, _)| from == module) {
            Some((_, allowed)) => *allowed,
            None if VOCABULARY.contains(module) || *module == "lib" => &[],
            None => {
                faults.push(format!("{path}: module {module} has no row in EDGES"));
                continue;
            }
        };
        for (number, line) in code(text) {
            let paths = ["crate::", "super::", "peristyle::"];
            for name in paths.iter().flat_map(|prefix| names_after(line, prefix)) {
                let is_free = name == *module || VOCABULARY.contains(&name);
                if modules.contains(name) && !is_free && !allowed.contains(&name) {
                    faults.push(format!("{path}:{number}: {module} may not import {name}"));
                }
            }
        }
    }
    none(&faults);
}

#[test]
fn every_dependency_has_one_owner_and_a_reason() {
    let files = files();
    let manifest = &files["Cargo.toml"];
    let mut faults = Vec::new();
    for path in ["Cargo.toml", "perf/load/Cargo.toml"] {
        for (name, line) in dependencies(&files[path]) {
            if !line.contains(" # ") {
                faults.push(format!("{path}: {name} does not say who needs it and why"));
            }
        }
    }
    let (_, rest) = manifest.split_once("\n[dependencies]").unwrap();
    let (own, _) = rest.split_once("\n[").unwrap();
    let own = format!("[dependencies]{own}");
    let linked: BTreeSet<String> =
        dependencies(&own).iter().map(|(name, _)| name.replace('-', "_")).collect();
    let owned: BTreeSet<String> = OWNERS.iter().map(|(name, _)| (*name).to_owned()).collect();
    for name in linked.symmetric_difference(&owned) {
        faults.push(format!("{name}: in one of Cargo.toml and OWNERS, not in both"));
    }
    for (path, module, text) in sources(&files) {
        for (number, line) in code(text) {
            for (name, owners) in OWNERS {
                let used = !names_after(line, &format!("{name}::")).is_empty();
                if used && !owners.contains(&module) {
                    faults.push(format!("{path}:{number}: {name} belongs to {owners:?}"));
                }
            }
        }
    }
    none(&faults);
}

#[test]
fn no_module_is_named_after_a_dependency_or_after_nothing() {
    let files = files();
    let mut taken: Vec<String> =
        dependencies(&files["Cargo.toml"]).iter().map(|(name, _)| name.replace('-', "_")).collect();
    taken.extend(["arrow", "bytes", "http"].map(str::to_owned));
    let mut faults = Vec::new();
    for path in files.keys().filter(|path| has_extension(path, &["rs", "py", "sh"])) {
        let parts = path.split(['/', '.']).filter(|part| *part != "rs");
        for part in parts {
            if EMPTY_NAMES.iter().any(|word| part.trim_end_matches('s') == *word) {
                faults.push(format!("{path}: {part} says nothing"));
            }
            if path.starts_with("src/") && taken.iter().any(|name| name == part) {
                faults.push(format!("{path}: {part} is the name of a dependency"));
            }
        }
    }
    none(&faults);
}

#[test]
fn names_and_comments_say_what_is() {
    let mut faults = Vec::new();
    for (path, text) in files() {
        if !has_extension(&path, &["rs", "py", "sh"]) {
            continue;
        }
        for (number, line) in (1..).zip(text.lines()) {
            let found = LEFTOVERS.iter().find(|word| line.contains(**word));
            faults.extend(found.map(|word| format!("{path}:{number}: leftover {word}")));

            let (_, comment) = line.split_once("//").unwrap_or_default();
            let comment = comment.to_lowercase().replace(concat!("no lon", "ger than"), "");
            let found = HISTORY.iter().find(|word| comment.contains(**word));
            faults.extend(found.map(|word| format!("{path}:{number}: history: {word}")));

            for item in ["struct ", "enum ", "trait ", "type ", "mod "] {
                for name in names_after(line, item) {
                    let name = name.to_lowercase();
                    if EMPTY_NAMES.iter().any(|word| name.contains(word)) {
                        faults.push(format!("{path}:{number}: {name} says nothing"));
                    }
                }
            }
        }
    }
    none(&faults);
}

#[test]
fn tests_neither_wait_nor_are_left_out() {
    let mut faults = Vec::new();
    for (path, text) in files() {
        if path.starts_with("tests/") && has_extension(&path, &["rs"]) {
            for (number, line) in (1..).zip(text.lines()) {
                let found = WAITS.iter().find(|word| line.contains(**word));
                faults.extend(found.map(|word| format!("{path}:{number}: {word}")));
            }
        }
    }
    none(&faults);
}

#[test]
fn the_root_holds_what_it_should() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for name in ROOT.iter().take(ROOT.len() - 2) {
        assert!(root.join(name).exists(), "{name} is missing");
    }
    for entry in fs::read_dir(root).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(name.starts_with('.') || ROOT.contains(&name.as_str()), "{name} in the root");
    }
}

#[test]
fn folders_of_data_say_where_it_comes_from() {
    fn check(dir: &Path, faults: &mut Vec<String>) {
        let mut has_files = false;
        for entry in fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                check(&entry.path(), faults);
            } else {
                has_files = true;
            }
        }
        if has_files && !dir.join("README.md").exists() {
            faults.push(format!("{}: no README.md", dir.display()));
        }
    }
    let mut faults = Vec::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for dir in ["schemas", "tests/corpus", "tests/clients", "perf", "perf/results"] {
        let dir = root.join(dir);
        if dir.ends_with("corpus") && dir.exists() {
            check(&dir, &mut faults);
        } else if dir.exists() && !dir.join("README.md").exists() {
            faults.push(format!("{}: no README.md", dir.display()));
        }
    }
    none(&faults);
}

#[test]
fn every_test_file_is_in_the_table_of_tests() {
    let files = files();
    let table = &files["tests/README.md"];
    let mut faults = Vec::new();
    for path in files.keys() {
        let Some(name) = path.strip_prefix("tests/it/") else { continue };
        let name = name.split('/').next().unwrap();
        let is_there =
            table.contains(&format!("| `{name}`")) || table.contains(&format!("`{name}/"));
        if name != "main.rs" && !is_there {
            faults.push(format!("{path}: not in tests/README.md"));
        }
    }
    none(&faults);
}

#[test]
fn every_schema_is_read_by_someone() {
    let files = files();
    // Examples are run by what runs the clients.
    let is_reader = |reader: &str, path: &str| {
        let is_example = path.starts_with("schemas/examples/");
        (has_extension(reader, &["rs"]) && reader != "tests/it/tidy.rs")
            || (is_example && reader.starts_with("tests/clients/"))
    };
    let mut faults = Vec::new();
    for path in files.keys().filter(|path| path.starts_with("schemas/")) {
        let name = path.trim_start_matches("schemas/").rsplit('/').next().unwrap();
        let is_read =
            files.iter().any(|(reader, text)| is_reader(reader, path) && text.contains(name));
        if !is_read && name != "README.md" {
            faults.push(format!("{path}: no source and no test mentions it"));
        }
    }
    none(&faults);
}
