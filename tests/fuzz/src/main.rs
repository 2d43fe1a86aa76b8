//! Fuzz targets: bytes to a part of the engine, and to whatever says that it is right.
//!
//! One binary, so that one link does; `PERISTYLE_FUZZ` names the target. The rest is libFuzzer's:
//! options, corpora, and files to run again. `README.md` says what each target asks.

#![no_main]
#![expect(unreachable_pub, reason = "nothing outside this binary sees these items")]

#[path = "../../naive/mod.rs"]
mod naive;

#[path = "../../it/agree.rs"]
mod agree;

#[expect(dead_code, reason = "tests use the rest")]
#[path = "../../it/lines.rs"]
mod lines;

#[expect(dead_code, reason = "tests use the rest")]
#[path = "../../it/sim_disk.rs"]
mod sim_disk;

#[expect(dead_code, reason = "tests use the rest")]
#[path = "../../it/sim_logs.rs"]
mod sim_logs;

#[path = "../../it/support.rs"]
mod support;

mod arrow;

mod heap;

mod http;

mod inflate;

mod journal;

mod names;

mod rows;

mod text;

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;

type Target = fn(&[u8]);

const TARGETS: &[(&str, Target)] = &[
    ("arrow", arrow::run),
    ("http", http::run),
    ("inflate", inflate::run),
    ("journal", journal::run),
    ("json", text::json),
    ("line_protocol", text::line_protocol),
    ("msgpack", text::msgpack),
    ("names", names::run),
    ("rows", rows::run),
];

fn target() -> Target {
    let name = std::env::var("PERISTYLE_FUZZ").unwrap_or_default();
    let Some((_, target)) = TARGETS.iter().find(|(it, _)| *it == name) else {
        let names: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
        panic!("PERISTYLE_FUZZ: expected one of {names:?}, found {name:?}");
    };
    *target
}

static TARGET: OnceLock<Target> = OnceLock::new();

fuzz_target!(init: heap::tell_of_panics(), |input: &[u8]| TARGET.get_or_init(target)(input));
