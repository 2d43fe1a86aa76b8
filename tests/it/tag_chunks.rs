//! Tag columns in Parquet: what is written from dictionaries reads as what `ArrowWriter` writes
//! from them, rows, nulls and statistics.

#![expect(clippy::indexing_slicing, reason = "a test stops at the first surprise")]

use std::ops::Range;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::UInt32Type;
use arrow_array::{
    ArrayRef, DictionaryArray, RecordBatch, StringArray, TimestampMicrosecondArray, UInt32Array,
};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};
use parquet::basic::{Compression, Encoding};
use parquet::errors::ParquetError;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, RowGroupMetaData};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::statistics::Statistics;
use peristyle::persist::parquet_file::{About, RowSource, encode};

use crate::machine::seeds;
use crate::sim_disk::Random;

/// Rows of a page, and of a row group.
const PAGE: usize = 64 << 10;
const ROW_GROUP: usize = 1 << 20;

fn schema() -> SchemaRef {
    let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let tag = DataType::Dictionary(Box::new(DataType::UInt32), Box::new(DataType::Utf8));
    Arc::new(Schema::new(vec![Field::new("time", utc, false), Field::new("host", tag, true)]))
}

/// A batch with these keys of a dictionary.
fn batch(keys: UInt32Array, values: Arc<StringArray>) -> RecordBatch {
    let rows = i64::try_from(keys.len()).unwrap();
    let time = TimestampMicrosecondArray::from_iter_values(0..rows).with_timezone("UTC");
    let tags = DictionaryArray::new(keys, values);
    RecordBatch::try_new(schema(), vec![Arc::new(time), Arc::new(tags)]).unwrap()
}

/// As many values as there are keys, each once.
fn numbered(keys: impl Iterator<Item = Option<u32>>, count: u32, name: &str) -> RecordBatch {
    let values = (0..count).map(|it| format!("{name}{it}"));
    batch(keys.collect(), Arc::new(StringArray::from_iter_values(values)))
}

const ABOUT: About<'_> =
    About { database: "d", measurement: "m", sort_key: &[], sequence: 1, journal: 1 };

fn ours(batches: &[RecordBatch]) -> Bytes {
    let key = ["time".to_owned()];
    let about = About { sort_key: &key, ..ABOUT };
    let mut file = Vec::new();
    let columns = encode(&mut file, &schema(), &about, batches).unwrap();
    assert_eq!(columns.len(), 2);
    file.into()
}

/// The slow twin.
fn theirs(batches: &[RecordBatch]) -> Bytes {
    let properties = WriterProperties::builder()
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_max_row_group_row_count(Some(ROW_GROUP))
        .build();
    let mut file = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut file, schema(), Some(properties)).unwrap();
    for batch in batches {
        writer.write(batch).unwrap();
    }
    writer.close().unwrap();
    file.into()
}

fn tags_of(array: &ArrayRef) -> Vec<Option<String>> {
    let strings = array.as_string_opt::<i32>();
    if let Some(strings) = strings {
        return strings.iter().map(|it| it.map(str::to_owned)).collect();
    }
    let tags = array.as_dictionary::<UInt32Type>();
    let values = tags.values().as_string::<i32>();
    let value = |key: u32| values.value(key as usize).to_owned();
    tags.keys().iter().map(|key| key.map(value)).collect()
}

/// The tags of a file, and its footer; page index and all.
fn read(file: &Bytes) -> (Vec<Option<String>>, ParquetMetaData) {
    let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Required);
    let metadata = ArrowReaderMetadata::load(file, options).unwrap();
    let footer = metadata.metadata().as_ref().clone();
    let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(file.clone(), metadata);
    let batches = reader.build().unwrap();
    (batches.flat_map(|it| tags_of(it.unwrap().column(1))).collect(), footer)
}

/// Bounds, whether they are values, and nulls, for each row group.
fn statistics(footer: &ParquetMetaData) -> Vec<impl PartialEq + std::fmt::Debug + use<>> {
    let groups = footer.row_groups().iter();
    let statistics = groups.map(|group| match group.column(1).statistics() {
        Some(Statistics::ByteArray(it)) => {
            let text = |bytes: &parquet::data_type::ByteArray| bytes.as_utf8().unwrap().to_owned();
            let (min, max) = (it.min_opt().map(text), it.max_opt().map(text));
            (min, max, it.min_is_exact(), it.max_is_exact(), it.null_count_opt(), group.num_rows())
        }
        other => panic!("expected bounds of strings, found {other:?}"),
    });
    statistics.collect()
}

/// That both writers say the same; returns our footer.
fn check(batches: &[RecordBatch]) -> ParquetMetaData {
    let sent: Vec<_> = batches.iter().flat_map(|it| tags_of(it.column(1))).collect();
    let (stored, footer) = read(&ours(batches));
    assert!(stored == sent, "the rows of {} batches", batches.len());
    let (_, expected) = read(&theirs(batches));
    assert_eq!(statistics(&footer), statistics(&expected));
    let rows: i64 = footer.row_groups().iter().map(|it| it.column(1).num_values()).sum();
    assert_eq!(usize::try_from(rows).unwrap(), sent.len());
    footer
}

fn encodings(footer: &ParquetMetaData) -> Vec<Encoding> {
    footer.row_group(0).column(1).encodings().collect()
}

#[test]
fn dictionaries_of_every_width_come_back() {
    for bits in (0..10).chain([16]) {
        for count in [(1_u32 << bits) - 1, 1 << bits, (1 << bits) + 1] {
            let count = count.max(1);
            // Short values, so that the dictionary has room for all of them.
            let rows = (0..count).chain((0..count).rev()).map(Some);
            let footer = check(&[numbered(rows, count, "")]);
            let is_full = encodings(&footer).contains(&Encoding::RLE_DICTIONARY);
            assert!(is_full, "{count} values");
        }
    }
}

#[test]
fn pages_and_row_groups_end_where_they_end() {
    for limit in [8, PAGE, ROW_GROUP] {
        for rows in limit - 1..=limit + 1 {
            let keys = (0..u32::try_from(rows).unwrap()).map(|row| Some(row % 5));
            check(&[numbered(keys, 5, "h")]);
            if limit == ROW_GROUP {
                continue;
            }
            let keys = (0..u32::try_from(rows).unwrap()).map(|row| (row % 3 > 0).then_some(0));
            check(&[numbered(keys, 1, "h")]);
        }
    }
}

/// Rows that say they are larger than they are.
struct Heavy {
    rows: RecordBatch,
    row_bytes: usize,
}

impl RowSource for Heavy {
    fn row_count(&self) -> usize {
        self.rows.num_rows()
    }

    fn row_bytes(&self) -> usize {
        self.row_bytes
    }

    fn read(
        &self,
        column: usize,
        rows: Range<usize>,
        take: &mut dyn FnMut(ArrayRef) -> Result<(), ParquetError>,
    ) -> Result<(), ParquetError> {
        [self.rows.clone()].read(column, rows, take)
    }
}

/// The bound that `schemas/segment.md` states, on the bytes of a row group's rows.
#[test]
fn a_row_group_of_large_rows_ends_before_its_rows() {
    for (row_bytes, rows, groups) in [
        (64 << 20, 3, &[3_i64][..]),
        (64 << 20, 4, &[4]),
        (64 << 20, 5, &[4, 1]),
        ((64 << 20) + 1, 4, &[3, 1]),
        (1 << 30, 2, &[1, 1]),
    ] {
        let source = Heavy { rows: numbered((0..rows).map(Some), rows, "h"), row_bytes };
        let mut file = Vec::new();
        encode(&mut file, &schema(), &ABOUT, &source).unwrap();
        let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(file)).unwrap();
        let found = reader.metadata().row_groups().iter().map(RowGroupMetaData::num_rows);
        assert_eq!(found.collect::<Vec<_>>(), groups, "{row_bytes}");
        let read: Vec<_> = reader.build().unwrap().map(Result::unwrap).collect();
        let tags = read.iter().flat_map(|it| it.column(1).as_string::<i32>());
        let expected = (0..rows).map(|row| format!("h{row}"));
        assert!(tags.map(Option::unwrap).eq(expected), "{row_bytes}");
    }
}

#[test]
fn runs_of_many_dictionaries_come_back() {
    // Of these 64 are remembered.
    for count in [1, 2, 63, 64, 65, 200] {
        let of = |at: u32| numbered([Some(1), None, Some(0)].into_iter(), 2, &format!("{at}_"));
        let batches: Vec<_> = (0..count).map(of).collect();
        let twice: Vec<_> = batches.iter().chain(batches.iter().rev()).cloned().collect();
        check(&twice);
    }
}

#[test]
fn rows_without_a_tag_have_no_dictionary() {
    let footer = check(&[numbered((0..100).map(|_| None), 1, "h")]);
    assert_eq!(footer.row_group(0).column(1).dictionary_page_offset(), None);
    // All of a row group, beside one that has values.
    let keys = (0..ROW_GROUP + 10).map(|row| (row >= ROW_GROUP).then_some(0));
    assert_eq!(check(&[numbered(keys, 1, "h")]).num_row_groups(), 2);
}

#[test]
fn what_finds_no_room_in_a_full_dictionary_is_plain() {
    // 24 bytes a value: the dictionary is full after 43,691 of them, in the middle of a page.
    let name = "a name of 15 by";
    let keys = |first: u32| (first..first + 60_000).map(|key| (key % 7 > 0).then_some(key));
    let batches: Vec<_> = (0..3).map(|it| numbered(keys(it * 20_000), 100_000, name)).collect();
    let found = encodings(&check(&batches));
    assert!(found.contains(&Encoding::RLE_DICTIONARY) && found.contains(&Encoding::PLAIN));
    // The next row group has a dictionary of its own.
    let many = (0..u32::try_from(ROW_GROUP).unwrap()).map(Some);
    let many = numbered(many, u32::try_from(ROW_GROUP).unwrap(), name);
    let footer = check(&[many, numbered((0..9).map(Some), 9, "few")]);
    let last = footer.row_group(1).column(1);
    assert!(!last.page_encoding_stats_mask().unwrap().is_set(Encoding::PLAIN));
}

#[test]
fn bounds_of_long_values_are_cut_like_those_of_others() {
    let long = |tail: &str| format!("{}{tail}", "x".repeat(63));
    let lists: [Vec<String>; 6] = [
        vec![long(""), long("a"), long("ab")],
        vec![long("ab"), long("abc")],
        // Cut in the middle of a letter, and letters that have no next of their length.
        vec![long("\u{e9}"), long("\u{e9}\u{e9}")],
        vec![long("\u{7f}y"), long("\u{7ff}y")],
        vec!["\u{10ffff}".repeat(20)],
        vec![String::new(), "\u{0}".repeat(70)],
    ];
    for list in lists {
        let count = u32::try_from(list.len()).unwrap();
        let keys = (0..count).map(Some).collect();
        check(&[batch(keys, Arc::new(StringArray::from(list)))]);
    }
}

/// A dictionary and rows of it: in order, in runs, at random, with nulls, with values twice.
fn any_batch(random: &mut Random) -> RecordBatch {
    let names = ["", "h", "a longer name of a host, as clouds have them, "];
    let name = names[random.index(names.len())];
    let count = [1, 2, 9, 300, 5_000][random.index(5)];
    let is_double = random.below(8) == 0;
    let values = (0..count).map(|it| format!("{name}{}", if is_double { it / 2 } else { it }));
    let values: StringArray = values.map(Some).collect();
    let rows = [0, 1, 7, 100, 3_000, PAGE + 5][random.index(6)];
    let (run, nulls) = ([1, 1, 5, 100][random.index(4)], [0, 0, 2, 50][random.index(4)]);
    let is_random = random.below(2) == 0;
    let mut key = 0;
    let keys = (0..rows).map(|row| {
        if row % run == 0 {
            key = if is_random { random.index(count) } else { row / run % count };
        }
        let is_null = nulls > 0 && random.below(nulls) == 0;
        (!is_null).then_some(u32::try_from(key).unwrap())
    });
    batch(keys.collect(), Arc::new(values))
}

#[test]
#[expect(clippy::print_stdout, reason = "the seed is how a failure is repeated")]
fn any_batches_read_as_those_of_the_arrow_writer() {
    for seed in 0..seeds(60) {
        let mut random = Random(seed);
        let mut batches: Vec<_> = (0..=random.index(4)).map(|_| any_batch(&mut random)).collect();
        // Pieces of one dictionary, and no rows.
        if let Some(last) = batches.pop() {
            let middle = random.index(last.num_rows() + 1);
            batches.push(last.slice(0, middle));
            batches.push(last.slice(middle, last.num_rows() - middle));
        }
        if batches.iter().all(|it| it.num_rows() == 0) {
            continue;
        }
        println!("seed {seed}");
        check(&batches);
    }
}

#[test]
fn pages_that_do_not_get_smaller_are_not_compressed() {
    let codec = |file: &ParquetMetaData| file.row_group(0).column(1).compression();
    let mut random = Random(1);
    let keys: Vec<_> = (0..PAGE).map(|_| Some(u32::try_from(random.below(256)).unwrap())).collect();
    assert_eq!(codec(&check(&[numbered(keys.into_iter(), 256, "")])), Compression::UNCOMPRESSED);
    let keys = (0..u32::try_from(PAGE).unwrap()).map(|row| Some(row % 200));
    let found = codec(&check(&[numbered(keys, 200, "")]));
    assert!(matches!(found, Compression::ZSTD(_)), "{found}");
}
