//! The only test binary; `tests/README.md` says what each file is for.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod binary;

mod config;

mod gather;

mod http;

mod http_client;

mod inflate;

mod live;

mod schemas;

mod support;

mod tidy;
