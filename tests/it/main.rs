//! The only test binary; `tests/README.md` says what each file is for.

#![expect(clippy::expect_used, clippy::unwrap_used, reason = "a test stops at the first surprise")]
#![expect(unreachable_pub, reason = "nothing outside this binary sees these items")]

#[path = "../naive/mod.rs"]
mod naive;

mod access;

mod admission;

mod agree;

mod arc_failures;

mod arrow;

mod arrow_bodies;

mod backup;

mod binary;

mod book;

mod bulk;

mod clients;

mod config;

mod connections;

mod damage;

mod deploy;

mod disk;

mod errors;

mod faults;

mod formats_agree;

mod framing;

mod gather;

mod hostile;

mod http;

mod http_client;

mod inflate;

mod inspect;

mod journal;

mod json;

mod json_bodies;

mod layout;

mod limits;

mod line_protocol;

mod lines;

mod live;

mod logs;

mod machine;

mod metrics;

mod msgpack;

mod msgpack_bodies;

mod number;

mod persist;

mod power;

mod processes;

mod publish;

mod questdb;

mod rejected;

mod restart;

mod retries;

mod schemas;

mod sim_disk;

mod sim_logs;

mod support;

mod tag_chunks;

mod tidy;

mod tls;

mod vectors;

mod wire;
