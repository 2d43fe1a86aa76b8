//! The column chunk of a tag: written from the dictionaries that batches bring, not from strings.
//!
//! ```text
//! batch 0   keys 0 1 1 .   dictionary [a b]     keys of the chunk 0 1 1 .
//! batch 1   keys 1 0 1 1   dictionary [c b]                       1 2 1 1     dictionary [a b c]
//!
//! chunk     dictionary page: 1 a 1 b 1 c    data page: levels, width, keys    data page ...
//! ```
//!
//! A dictionary's value is looked up once for all its rows. Once the chunk's own dictionary is
//! full, the rows that follow are PLAIN pages, as by other writers.
//!
//! Invariants: the values of the dictionary are those of rows, each once, in the order of their
//! first row. All pages have one codec: none, where the first does not get smaller by an eighth.

use std::fmt;
use std::mem;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::UInt32Type;
use arrow_array::{Array, ArrayRef, DictionaryArray, StringArray};
use arrow_buffer::BooleanBufferBuilder;
use bytes::Bytes;
use parquet::basic::{Compression, Encoding, EncodingMask, PageType};
use parquet::column::page::{CompressedPage, Page, PageWriter};
use parquet::column::writer::ColumnCloseResult;
use parquet::data_type::ByteArray;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ColumnChunkMetaData, OffsetIndexBuilder, PageEncodingStats};
use parquet::file::statistics::{Statistics, ValueStatistics};
use parquet::file::writer::{SerializedPageWriter, TrackedWrite};
use parquet::schema::types::ColumnDescPtr;

use super::dictionary::{Dictionary, put_plain, put_with_length};
use super::hybrid;
use super::statistics::{bound_above, bound_below};

/// Rows of a data page.
const PAGE_ROWS_MAX: usize = 64 << 10;
/// Bytes of the values of a PLAIN page, exceeded by less than a value.
const PLAIN_BYTES_MAX: usize = 1 << 20;
/// Dictionaries of batches that are remembered: those of shards come back, run by run.
const DICTIONARIES_MAX: usize = 64;
/// Keys that are translated at a time.
const RUN_ROWS: usize = 256;
/// The key of a value that was not looked up.
const UNKNOWN: u32 = u32::MAX;

/// The compression of a file's pages.
pub(super) struct Codec {
    compression: Compression,
    /// Made for the first page that is worth it.
    zstd: Option<zstd::bulk::Compressor<'static>>,
}

impl Codec {
    /// Pages are compressed by zstd or not at all.
    pub(super) fn new(compression: Compression) -> Self {
        Self { compression, zstd: None }
    }

    /// The bytes, compressed.
    fn compress(&mut self, bytes: &[u8]) -> Result<Option<Vec<u8>>, ParquetError> {
        let Compression::ZSTD(level) = self.compression else { return Ok(None) };
        let zstd = match &mut self.zstd {
            Some(zstd) => zstd,
            none => none.insert(zstd::bulk::Compressor::new(level.compression_level())?),
        };
        Ok(Some(zstd.compress(bytes)?))
    }
}

/// A data page, levels and all.
#[derive(Debug)]
struct DataPage {
    bytes: Vec<u8>,
    /// Before compression.
    raw_bytes: usize,
    is_compressed: bool,
    rows: usize,
    encoding: Encoding,
}

impl DataPage {
    fn compress(&mut self, codec: &mut Codec) -> Result<(), ParquetError> {
        if !self.is_compressed
            && let Some(bytes) = codec.compress(&self.bytes)?
        {
            (self.bytes, self.is_compressed) = (bytes, true);
        }
        Ok(())
    }
}

/// The rows since the last page.
#[derive(Debug)]
struct OpenPage {
    validity: BooleanBufferBuilder,
    nulls: usize,
    /// Of valid rows, in the dictionary of the chunk.
    keys: Vec<u32>,
    /// Values of valid rows, as PLAIN has them.
    plain: Vec<u8>,
}

impl OpenPage {
    fn is_full(&self) -> bool {
        self.validity.len() >= PAGE_ROWS_MAX || self.plain.len() >= PLAIN_BYTES_MAX
    }
}

/// A column chunk of tags that is being written.
#[derive(Debug)]
pub(super) struct TagChunk {
    column: ColumnDescPtr,
    dictionary: Dictionary,
    /// The dictionaries of batches, and the keys of their values in that of the chunk.
    translated: Vec<(ArrayRef, Vec<u32>)>,
    /// Which of them is that of the last rows.
    current: usize,
    /// The dictionary is full: what follows is PLAIN.
    is_plain: bool,
    page: OpenPage,
    pages: Vec<DataPage>,
    /// The least and the greatest value of PLAIN pages.
    bounds: Option<(Box<str>, Box<str>)>,
    rows: usize,
    nulls: usize,
}

impl TagChunk {
    pub(super) fn new(column: ColumnDescPtr) -> Self {
        let (keys, plain) = (Vec::new(), Vec::new());
        Self {
            column,
            dictionary: Dictionary::default(),
            translated: Vec::new(),
            current: 0,
            is_plain: false,
            page: OpenPage { validity: BooleanBufferBuilder::new(0), nulls: 0, keys, plain },
            pages: Vec::new(),
            bounds: None,
            rows: 0,
            nulls: 0,
        }
    }

    /// About the bytes that the chunk will have.
    pub(super) fn estimated_bytes(&self) -> usize {
        let pages: usize = self.pages.iter().map(|it| it.bytes.len()).sum();
        let open = self.page.plain.len() + self.page.keys.len() * 2;
        self.dictionary.plain.len() + pages + open
    }

    /// Appends the rows of a tag column.
    ///
    /// # Errors
    /// When it is no dictionary of strings: a mistake of ours.
    pub(super) fn write(
        &mut self,
        array: &ArrayRef,
        codec: &mut Codec,
    ) -> Result<(), ParquetError> {
        let tags = array.as_dictionary_opt::<UInt32Type>();
        let values = tags.and_then(|it| it.values().as_string_opt::<i32>());
        let (Some(tags), Some(values)) = (tags, values) else {
            let found = array.data_type();
            let message = format!("expected a dictionary of strings, found {found}");
            return Err(ParquetError::General(message));
        };
        self.translate_from(tags.values());
        let mut start = 0;
        while start < tags.len() {
            let room = PAGE_ROWS_MAX - self.page.validity.len();
            let piece = tags.slice(start, room.min(tags.len() - start));
            let taken = if self.is_plain {
                self.take_values(&piece, values)
            } else {
                self.take_keys(&piece, values)
            };
            self.take_validity(&piece.slice(0, taken));
            start += taken;
            if taken < piece.len() && !self.is_plain {
                self.cut(codec)?;
                self.is_plain = true;
            } else if self.page.is_full() {
                self.cut(codec)?;
            }
        }
        Ok(())
    }

    /// The values of a dictionary are looked up once, however often its rows come back.
    fn translate_from(&mut self, values: &ArrayRef) {
        let known = self.translated.iter().position(|(it, _)| ArrayRef::ptr_eq(it, values));
        self.current = known.unwrap_or_else(|| {
            if self.translated.len() >= DICTIONARIES_MAX {
                self.translated.clear();
            }
            self.translated.push((ArrayRef::clone(values), vec![UNKNOWN; values.len()]));
            self.translated.len() - 1
        });
    }

    /// Returns how many rows there was room for in the dictionary.
    fn take_keys(&mut self, tags: &DictionaryArray<UInt32Type>, values: &StringArray) -> usize {
        let keys = tags.keys();
        self.page.keys.reserve(keys.len());
        let nulls = keys.nulls().filter(|it| it.null_count() > 0);
        let mut first = 0;
        for run in keys.values().chunks(RUN_ROWS) {
            if nulls.is_some() || !self.take_known(run) {
                let rows = (first..).zip(run);
                let valid = rows.filter(|(row, _)| !nulls.is_some_and(|it| it.is_null(*row)));
                for (row, key) in valid {
                    let Some(key) = self.key_of(*key, values) else { return row };
                    self.page.keys.push(key);
                }
            }
            first += run.len();
        }
        keys.len()
    }

    /// Takes keys that were all looked up before, or none.
    fn take_known(&mut self, keys: &[u32]) -> bool {
        let Some((_, translated)) = self.translated.get(self.current) else { return false };
        let start = self.page.keys.len();
        let known = |key: &u32| translated.get(*key as usize).copied().unwrap_or(UNKNOWN);
        self.page.keys.extend(keys.iter().map(known));
        // One pass without a way out, which is many keys at a time.
        let taken = self.page.keys.iter().skip(start);
        let is_known = taken.fold(0, |greatest, key| greatest.max(*key)) < UNKNOWN;
        if !is_known {
            self.page.keys.truncate(start);
        }
        is_known
    }

    /// The key in the dictionary of the chunk; `None` when it is new, and there is no room.
    fn key_of(&mut self, key: u32, values: &StringArray) -> Option<u32> {
        let (_, translated) = self.translated.get_mut(self.current)?;
        let place = translated.get_mut(key as usize)?;
        if *place == UNKNOWN {
            *place = self.dictionary.key_of(values.value(key as usize))?;
        }
        Some(*place)
    }

    /// Returns how many rows there was room for in the page, at least one.
    fn take_values(&mut self, tags: &DictionaryArray<UInt32Type>, values: &StringArray) -> usize {
        for (row, key) in tags.keys().iter().enumerate() {
            if self.page.plain.len() >= PLAIN_BYTES_MAX {
                return row;
            }
            let Some(key) = key else { continue };
            let value = values.value(key as usize);
            put_plain(&mut self.page.plain, value);
            match &mut self.bounds {
                None => self.bounds = Some((value.into(), value.into())),
                Some((min, _)) if value < &**min => *min = value.into(),
                Some((_, max)) if value > &**max => *max = value.into(),
                Some(_) => {}
            }
        }
        tags.len()
    }

    fn take_validity(&mut self, tags: &DictionaryArray<UInt32Type>) {
        match tags.keys().nulls() {
            Some(nulls) => self.page.validity.append_buffer(nulls.inner()),
            None => self.page.validity.append_n(tags.len(), true),
        }
        self.page.nulls += tags.null_count();
    }

    /// Ends the page, if it has a row.
    fn cut(&mut self, codec: &mut Codec) -> Result<(), ParquetError> {
        let rows = self.page.validity.len();
        if rows == 0 {
            return Ok(());
        }
        let mut bytes = Vec::with_capacity(self.page.plain.len() + self.page.keys.len() + 64);
        if self.column.max_def_level() > 0 {
            put_with_length(&mut bytes, |bytes| {
                if self.page.nulls == 0 {
                    hybrid::put_run(bytes, rows, 1, 1);
                } else {
                    hybrid::put_levels(bytes, &self.page.validity.finish_cloned());
                }
            });
        }
        // Without a single value there is no dictionary either.
        let encoding = if self.is_plain || self.dictionary.len() == 0 {
            bytes.extend_from_slice(&self.page.plain);
            Encoding::PLAIN
        } else {
            let width = hybrid::width_of(self.dictionary.len());
            bytes.extend(width.to_le_bytes().first());
            hybrid::put_keys(&mut bytes, &self.page.keys, width);
            Encoding::RLE_DICTIONARY
        };
        let raw_bytes = bytes.len();
        let mut page = DataPage { bytes, raw_bytes, is_compressed: false, rows, encoding };
        if self.is_plain {
            page.compress(codec)?;
        }
        self.pages.push(page);
        self.rows += rows;
        self.nulls += self.page.nulls;
        self.page.validity.truncate(0);
        self.page.nulls = 0;
        self.page.keys.clear();
        self.page.plain.clear();
        Ok(())
    }

    /// The bytes of the chunk, and what the footer says of it.
    ///
    /// # Errors
    /// When the compressor fails.
    pub(super) fn close(
        mut self,
        codec: &mut Codec,
    ) -> Result<(Bytes, ColumnCloseResult), ParquetError> {
        self.cut(codec)?;
        let is_compressed = self.compress(codec)?;
        let (in_footer, has_dictionary) = (self.statistics(), self.dictionary.len() > 0);
        let mut sink = TrackedWrite::new(Vec::with_capacity(self.estimated_bytes()));
        let mut pages = SerializedPageWriter::new(&mut sink);
        let mut encodings = EncodingMask::new_from_encodings([Encoding::RLE].iter());
        let mut statistics = Vec::new();
        let mut count = |page_type, encoding| {
            encodings.insert(encoding);
            statistics.push(PageEncodingStats { page_type, encoding, count: 1 });
        };
        let (mut raw_bytes, mut data_offset) = (0, 0);
        if has_dictionary {
            let plain = mem::take(&mut self.dictionary.plain);
            let raw = plain.len();
            let compressed = if is_compressed { codec.compress(&plain)? } else { None };
            let page = Page::DictionaryPage {
                buf: compressed.unwrap_or(plain).into(),
                num_values: narrow(self.dictionary.len())?,
                encoding: Encoding::PLAIN,
                is_sorted: false,
            };
            let written = pages.write_page(CompressedPage::new(page, raw))?;
            count(PageType::DICTIONARY_PAGE, Encoding::PLAIN);
            (raw_bytes, data_offset) = (written.uncompressed_size, written.compressed_size);
        }
        let mut offsets = OffsetIndexBuilder::new();
        for page in mem::take(&mut self.pages) {
            let data = Page::DataPage {
                buf: page.bytes.into(),
                num_values: narrow(page.rows)?,
                encoding: page.encoding,
                def_level_encoding: Encoding::RLE,
                rep_level_encoding: Encoding::RLE,
                statistics: None,
            };
            let written = pages.write_page(CompressedPage::new(data, page.raw_bytes))?;
            count(PageType::DATA_PAGE, page.encoding);
            raw_bytes += written.uncompressed_size;
            offsets.append_row_count(narrow(page.rows)?);
            offsets
                .append_offset_and_size(narrow(written.offset)?, narrow(written.compressed_size)?);
        }
        let bytes = sink.into_inner()?;
        let compression = if is_compressed { codec.compression } else { Compression::UNCOMPRESSED };
        let metadata = ColumnChunkMetaData::builder(Arc::clone(&self.column))
            .set_compression(compression)
            .set_encodings_mask(encodings)
            .set_page_encoding_stats(merged(statistics))
            .set_total_compressed_size(narrow(bytes.len())?)
            .set_total_uncompressed_size(narrow(raw_bytes)?)
            .set_num_values(narrow(self.rows)?)
            .set_dictionary_page_offset(has_dictionary.then_some(0))
            .set_data_page_offset(narrow(data_offset)?)
            .set_statistics(in_footer)
            .build()?;
        let close = ColumnCloseResult {
            bytes_written: bytes.len() as u64,
            rows_written: self.rows as u64,
            metadata,
            bloom_filter: None,
            column_index: None,
            offset_index: Some(offsets.build()),
        };
        Ok((bytes.into(), close))
    }

    /// Compresses all pages, if that pays or some are already; returns whether it is so.
    fn compress(&mut self, codec: &mut Codec) -> Result<bool, ParquetError> {
        if !self.pages.iter().any(|it| it.is_compressed)
            && let Some(first) = self.pages.first()
        {
            let compressed = codec.compress(&first.bytes)?;
            if compressed.is_none_or(|it| it.len() > first.raw_bytes / 8 * 7) {
                return Ok(false);
            }
        }
        self.pages.iter_mut().try_for_each(|it| it.compress(codec))?;
        Ok(!self.pages.is_empty())
    }

    /// The order of strings is that of their bytes.
    fn statistics(&self) -> Statistics {
        let bounds = self.bounds.iter().flat_map(|(min, max)| [min.as_bytes(), max.as_bytes()]);
        let mut values = bounds.chain(self.dictionary.values());
        let extremes = values
            .next()
            .map(|first| values.fold((first, first), |(min, max), it| (min.min(it), max.max(it))));
        let text = |value| str::from_utf8(value).unwrap_or_default();
        let min = extremes.map(|(min, _)| text(min));
        let max = extremes.map(|(_, max)| text(max));
        let (least, greatest) = (min.map(bound_below), max.map(bound_above));
        let (min_is_exact, max_is_exact) = (least == min, greatest.as_deref() == max);
        let statistics = ValueStatistics::new(
            least.map(ByteArray::from),
            greatest.map(|it| ByteArray::from(it.into_bytes())),
            None,
            Some(self.nulls as u64),
            false,
        );
        let statistics = statistics.with_min_is_exact(min_is_exact);
        Statistics::ByteArray(statistics.with_max_is_exact(max_is_exact))
    }
}

/// Pages that follow one another and are alike are one entry of the footer.
fn merged(pages: Vec<PageEncodingStats>) -> Vec<PageEncodingStats> {
    let mut merged: Vec<PageEncodingStats> = Vec::new();
    for page in pages {
        match merged.last_mut() {
            Some(last) if (last.page_type, last.encoding) == (page.page_type, page.encoding) => {
                last.count += page.count;
            }
            _ => merged.push(page),
        }
    }
    merged
}

/// A count as the footer has it.
fn narrow<T: TryFrom<N>, N: Copy + fmt::Display>(count: N) -> Result<T, ParquetError> {
    T::try_from(count)
        .map_err(|_| ParquetError::General(format!("expected a smaller page, found {count}")))
}
