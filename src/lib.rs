#![doc = include_str!("../ARCHITECTURE.md")]

// The data path, in its order.

pub mod accept;

pub mod decode;

pub mod gather;

pub mod journal;

pub mod persist;

pub mod publish;

// What ties it together.

pub mod engine;

pub mod config;

// The vocabulary.

pub mod access;

pub mod disk;

pub mod durability;

pub mod error;

pub mod limits;

pub mod schema;

pub mod segment;

pub mod stats;

pub mod timestamp;
