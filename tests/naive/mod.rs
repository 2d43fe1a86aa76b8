//! The slow, obvious decoders: the oracle of the property tests.

pub mod line_protocol;
