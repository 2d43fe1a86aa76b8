//! `peristyle-load`: bodies of known rows, sent over HTTP as fast as a server answers or at a rate,
//! and what came of it.
//!
//! ```text
//! shape -> encode -> compress -> body (made once, its times moved at each sending)
//!                                  | connection threads (run), each with a histogram
//! target: where and how     ->     v
//! process: CPU, memory      ->   report -> text, JSON, HTML; compare
//! ```
//!
//! The sender shares the machine with the server, so a sending costs it little: one write of bytes
//! that are ready, one read of an answer. There is a thread for each connection, and no more in
//! flight than connections.

pub mod body;

pub mod client;

pub mod clock;

pub mod compare;

pub mod compress;

pub mod encode;

pub mod html;

mod live;

pub mod measure;

pub mod options;

mod own_server;

pub mod process;

pub mod random;

pub mod report;

pub mod run;

pub mod scenario;

pub mod shape;

pub mod tables;

pub mod target;

mod telegraf;
