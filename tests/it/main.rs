//! The one test binary; `tests/README.md` says what each file is for.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod config;

mod schemas;

mod tidy;
