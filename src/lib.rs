//! A columnar ingest engine.

pub mod persist;

pub mod schema;

pub mod segment;

pub mod timestamp;
