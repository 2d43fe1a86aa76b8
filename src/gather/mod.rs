//! Values to columns to record batches.
//!
//! A shard owns [`Tables`]; a database in it is a [`Database`] of [`TableBuilder`]s, one for every
//! measurement. Decoders append to them; the engine seals them into [`Chunk`]s that `persist`
//! writes. Nothing here knows a wire format, reads a clock, or touches a file.

mod append_error;

mod blocks;

mod column_builder;

mod database;

mod days;

mod key_shape;

mod registry;

mod series;

mod series_cache;

mod table_builder;

mod values;

pub use append_error::AppendError;
pub use database::{Atomicity, Chunk, Database, TableIndex, Tables};
pub use key_shape::{KEY_WINDOW, Literal, Predicted};
pub use registry::{Column, Measurement, Registry, RestoreError, Witness};
pub use series::{SeriesIndex, TagArray, TagKey};
pub use series_cache::UnknownKey;
pub use table_builder::{ColumnIndex, TableBuilder, WholeRows, WholeTimes};
pub use values::{StringValues, TimeValues};
