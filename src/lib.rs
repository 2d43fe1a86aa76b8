//! Peristyle.

pub mod decode;

pub mod gather;

pub mod limits;

pub mod schema;

pub mod timestamp;
