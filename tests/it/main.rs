//! The one test binary; `tests/README.md` says what is where.

mod layout;

mod persist;
