//! What the load tester sends is what it says: bodies of every shape and format, decoded by the
//! server; runs against a whole server, counted; the arithmetic of rates, histograms and reports.

#![expect(clippy::expect_used, reason = "a test stops at the first surprise")]
#![expect(unreachable_pub, reason = "nothing outside this binary sees these items")]

#[path = "../../../tests/it/http_client.rs"]
#[expect(dead_code, reason = "shared with the tests of the server")]
mod http_client;

#[path = "../../../tests/it/live.rs"]
#[expect(dead_code, reason = "shared with the tests of the server")]
mod live;

#[path = "../../../tests/it/processes.rs"]
#[expect(dead_code, reason = "shared with the tests of the server")]
mod processes;

#[path = "../../../tests/it/support.rs"]
#[expect(dead_code, reason = "shared with the tests of the server")]
mod support;

mod load {
    mod bodies;

    mod figures;

    mod runs;
}
