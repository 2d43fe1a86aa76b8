//! The only test binary; `tests/README.md` says what each file is for.

mod gather;

mod line_protocol;

mod lines;

#[path = "../naive/mod.rs"]
mod naive;

mod number;

mod support;

mod vectors;
