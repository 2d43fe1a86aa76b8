//! The only test binary; `tests/README.md` says what each file is for.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod config;

mod gather;

mod line_protocol;

mod lines;

#[path = "../naive/mod.rs"]
mod naive;

mod number;

mod schemas;

mod support;

mod tidy;

mod vectors;
