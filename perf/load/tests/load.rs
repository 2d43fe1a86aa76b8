//! What the load tester sends is what it says: bodies of every shape and format, decoded by the
//! server; a run against a whole server, counted; the arithmetic of rates, histograms and reports.

#![expect(clippy::expect_used, clippy::unwrap_used, reason = "a test stops at the first surprise")]
#![expect(unreachable_pub, reason = "nothing outside this binary sees these items")]

#[path = "../../../tests/it/support.rs"]
#[expect(dead_code, reason = "shared with the tests of the server")]
mod support;

mod load {
    mod bodies;
}
