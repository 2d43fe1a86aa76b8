//! The only test binary; `tests/README.md` says what each file is for.

mod gather;

mod support;
