//! The one test binary; `tests/README.md` says what each file is for.

mod config;

mod schemas;
