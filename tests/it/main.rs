//! The only test binary; `tests/README.md` says what each file is for.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod config;

mod gather;

mod msgpack;

mod msgpack_bodies;

#[path = "../naive/mod.rs"]
mod naive;

mod schemas;

mod support;

mod tidy;
