//! The only test binary; `tests/README.md` says what each file is for.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod config;

mod gather;

mod layout;

mod persist;

mod schemas;

mod support;

mod tidy;
