//! The only test binary; `tests/README.md` says what each file is for.

mod http;

mod http_client;

mod inflate;
