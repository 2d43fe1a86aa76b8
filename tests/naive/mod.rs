//! The slow, obvious decoders: the oracle of the property tests.

pub(crate) mod arrow;

pub(crate) mod json;

pub(crate) mod line_protocol;

pub(crate) mod msgpack;

pub(crate) mod questdb;
