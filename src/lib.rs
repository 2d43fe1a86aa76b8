//! Peristyle.

pub mod gather;

pub mod persist;

pub mod config;

pub mod limits;

pub mod schema;

pub mod segment;

pub mod timestamp;
