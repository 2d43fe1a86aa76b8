//! Peristyle.

pub mod accept;

pub mod engine;

pub mod decode;

pub mod gather;

pub mod persist;

pub mod config;

pub mod error;

pub mod limits;

pub mod schema;

pub mod segment;

pub mod stats;

pub mod timestamp;
