//! Columns to Parquet, in memory.

use std::rc::Rc;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use peristyle::persist::parquet_file::{About, encode};

use crate::rounds::{Comparison, Pair, work};
use crate::tables::{ROWS, Table, narrow, tags, wide};

/// Columns of a table.
struct Columns {
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
}

impl Columns {
    fn of(table: &Table, columns: &[usize]) -> Rc<Self> {
        let schema = Arc::new(table.schema.project(columns).unwrap());
        let batches = table.batches.iter().map(|it| it.project(columns).unwrap()).collect();
        Rc::new(Self { schema, batches })
    }

    fn ours(&self) -> usize {
        let about =
            About { database: "db", measurement: "cpu", sort_key: &[], sequence: 1, journal: 1 };
        let mut file = Vec::new();
        encode(&mut file, &self.schema, &about, &self.batches[..]).unwrap();
        file.len()
    }

    fn arrow_writer(&self, properties: WriterProperties) -> usize {
        let mut file = Vec::new();
        let schema = Arc::clone(&self.schema);
        let mut writer = ArrowWriter::try_new(&mut file, schema, Some(properties)).unwrap();
        self.batches.iter().for_each(|it| writer.write(it).unwrap());
        writer.close().unwrap();
        file.len()
    }
}

/// Everything from columns to files.
pub(crate) fn comparisons() -> Vec<Comparison> {
    let of = |shape, prepare: fn() -> Pair| Comparison::new("Parquet", shape, prepare);
    vec![
        of("ten tags, in order", || dictionaries(&tags("tags", false))),
        of("ten tags, at random", || dictionaries(&tags("tags", true))),
        of("ten integers", || plain(&wide(), &(11..21).collect::<Vec<_>>())),
        of("three floats", || plain(&narrow("floats", 100), &[2, 3, 4])),
    ]
}

/// Ten tags beside an `ArrowWriter` of the same pages and compression.
fn dictionaries(table: &Table) -> Pair {
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_write_batch_size(8_192)
        .build();
    pair(&Columns::of(table, &(1..11).collect::<Vec<_>>()), properties)
}

/// Some columns beside an `ArrowWriter` that encodes and compresses nothing.
fn plain(table: &Table, columns: &[usize]) -> Pair {
    let properties = WriterProperties::builder()
        .set_dictionary_enabled(false)
        .set_encoding(Encoding::PLAIN)
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .build();
    pair(&Columns::of(table, columns), properties)
}

fn pair(columns: &Rc<Columns>, properties: WriterProperties) -> Pair {
    let bytes = columns.batches.iter().map(RecordBatch::get_array_memory_size).sum();
    let (ours, floor) = (Rc::clone(columns), Rc::clone(columns));
    Pair {
        bytes,
        rows: ROWS as u64,
        ours: work(move || ours.ours()),
        floor: work(move || floor.arrow_writer(properties.clone())),
    }
}
