//! The columns of several batches, brought to one schema, and rows gathered out of them.
//!
//! ```text
//! request's schema   time  host   usage  temp       (temp has no value in any batch)
//! batch 0            time  host   usage        ->   time  host  usage
//! batch 1            usage time                ->   time  null  usage
//! ```
//!
//! A column that a batch has not got is one array of nulls, shared by all of its kind. Tag columns
//! that are gathered from share one dictionary, so that a gathered row is a key and not a string.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::new_null_array;
use arrow_array::types::UInt32Type;
use arrow_array::{Array, ArrayRef, DictionaryArray, RecordBatch, StringArray, UInt32Array};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};
use arrow_select::concat::concat;
use arrow_select::interleave::interleave;
use foldhash::fast::RandomState;
use parquet::errors::ParquetError;

/// Rows of a run that is worth a call of its own.
const LONG_RUN_ROWS: usize = 4 << 10;

/// One column of every batch.
#[derive(Debug)]
pub(super) struct Column {
    /// One for each batch; only the keys when there is a shared dictionary.
    arrays: Vec<ArrayRef>,
    /// What the keys of all arrays mean, after [`Column::share_dictionary`].
    dictionary: Option<ArrayRef>,
}

/// The columns of `schema` that have a value in one of `batches`, each with one array per batch.
///
/// # Errors
/// When a batch has a column that `schema` has not, or has with another type.
pub(super) fn align(
    schema: &Schema,
    batches: &[&RecordBatch],
) -> Result<(SchemaRef, Vec<Column>), ArrowError> {
    let place_of: HashMap<&str, usize> =
        schema.fields().iter().enumerate().map(|(at, it)| (it.name().as_str(), at)).collect();
    let mut places: Vec<Vec<Option<ArrayRef>>> =
        schema.fields().iter().map(|_| vec![None; batches.len()]).collect();
    for (at, batch) in batches.iter().enumerate() {
        for (field, array) in batch.schema_ref().fields().iter().zip(batch.columns()) {
            let place = place_of.get(field.name().as_str());
            let expected = place.and_then(|&it| schema.fields().get(it));
            check_column(field, expected.map(AsRef::as_ref))?;
            let slot = place.and_then(|&it| places.get_mut(it)).and_then(|it| it.get_mut(at));
            if let Some(slot) = slot {
                *slot = (array.null_count() < array.len()).then(|| Arc::clone(array));
            }
        }
    }
    let rows: Vec<_> = batches.iter().map(|it| it.num_rows()).collect();
    let mut nulls = Nulls { rows_max: rows.iter().copied().max().unwrap_or(0), ..Nulls::default() };
    let mut fields = Vec::new();
    let mut columns = Vec::new();
    for (field, places) in schema.fields().iter().zip(places) {
        if places.iter().any(Option::is_some) {
            fields.push(Arc::clone(field));
            let arrays = places
                .into_iter()
                .zip(&rows)
                .map(|(array, &rows)| array.unwrap_or_else(|| nulls.of(field.data_type(), rows)))
                .collect();
            columns.push(Column { arrays, dictionary: None });
        }
    }
    Ok((Arc::new(Schema::new(fields)), columns))
}

/// Whether a batch's column is the one that the schema expects under its name.
fn check_column(found: &Field, expected: Option<&Field>) -> Result<(), ArrowError> {
    match expected {
        Some(expected) if expected.data_type() == found.data_type() => Ok(()),
        Some(expected) => Err(ArrowError::SchemaError(format!(
            "column {}: expected {}, found {}",
            found.name(),
            expected.data_type(),
            found.data_type()
        ))),
        None => Err(ArrowError::SchemaError(format!(
            "expected only columns of the schema, found {}",
            found.name()
        ))),
    }
}

/// Arrays of nothing but nulls, one allocation for each type.
#[derive(Debug, Default)]
struct Nulls {
    rows_max: usize,
    arrays: HashMap<DataType, ArrayRef>,
}

impl Nulls {
    fn of(&mut self, data_type: &DataType, rows: usize) -> ArrayRef {
        let rows_max = self.rows_max;
        self.arrays
            .entry(data_type.clone())
            .or_insert_with(|| new_null_array(data_type, rows_max))
            .slice(0, rows)
    }
}

impl Column {
    /// One for each batch; only the keys of a tag column after [`Column::share_dictionary`].
    pub(super) fn arrays(&self) -> &[ArrayRef] {
        &self.arrays
    }

    /// About the bytes of all rows, the values of dictionaries not counted.
    pub(super) fn bytes(&self) -> usize {
        self.arrays.iter().map(bytes).sum()
    }

    /// About the bytes of a row.
    pub(super) fn row_bytes(&self) -> usize {
        let rows = self.arrays.iter().map(Array::len).sum();
        self.bytes().checked_div(rows).unwrap_or(0)
    }

    /// Makes a tag column ready to be gathered from: one dictionary for all batches.
    ///
    /// The values could be more than an array can hold; then each gathered batch gets a dictionary
    /// of its own, which costs a hash for each of its rows.
    ///
    /// # Errors
    /// When a dictionary holds anything but strings: a mistake of ours.
    pub(super) fn share_dictionary(&mut self) -> Result<(), ArrowError> {
        let tags: Vec<_> =
            self.arrays.iter().filter_map(|it| it.as_dictionary_opt::<UInt32Type>()).collect();
        if tags.is_empty() || tags.len() < self.arrays.len() {
            return Ok(());
        }
        let mut values: Vec<&str> = Vec::new();
        let mut keys_of: HashMap<&str, u32, RandomState> = HashMap::default();
        let mut bytes = 0;
        let (dictionaries, places) = dictionaries(&tags)?;
        let mut shared = Vec::with_capacity(dictionaries.len());
        for dictionary in dictionaries {
            let mut shared_keys = Vec::with_capacity(dictionary.len());
            for value in dictionary {
                let value = value.unwrap_or_default();
                let next = u32::try_from(values.len()).unwrap_or(u32::MAX);
                let key = *keys_of.entry(value).or_insert_with(|| {
                    values.push(value);
                    bytes += value.len();
                    next
                });
                shared_keys.push(key);
            }
            if i32::try_from(bytes).is_err() {
                return Ok(());
            }
            shared.push(shared_keys);
        }
        let arrays = tags.iter().zip(places).map(|(tag, place)| {
            let keys = keys_in(tag, shared.get(place).map(Vec::as_slice).unwrap_or_default())?;
            Ok(Arc::new(keys) as ArrayRef)
        });
        let arrays = arrays.collect::<Result<_, ArrowError>>()?;
        self.dictionary = Some(Arc::new(StringArray::from_iter_values(values)));
        self.arrays = arrays;
        Ok(())
    }

    /// Hands on the rows of `runs`, which are parts of batches: long ones as they are, short ones
    /// copied together, at most `rows_max` rows of them. Those of tags are keys of their batch's
    /// dictionary, and stay alone.
    ///
    /// # Errors
    /// Those of `take`, and when the strings are more than an array can hold.
    pub(super) fn join(
        &self,
        runs: impl Iterator<Item = (usize, Range<usize>)>,
        rows_max: usize,
        take: &mut dyn FnMut(ArrayRef) -> Result<(), ParquetError>,
    ) -> Result<(), ParquetError> {
        let mut give = |short: &mut Vec<ArrayRef>| {
            let joined = match short.as_slice() {
                [] => return Ok(()),
                [one] => Arc::clone(one),
                _ => concat(&short.iter().map(AsRef::as_ref).collect::<Vec<_>>())?,
            };
            short.clear();
            take(joined)
        };
        let (mut short, mut rows) = (Vec::new(), 0);
        for (batch, range) in runs {
            let foreign = || ParquetError::General(format!("expected batch {batch}"));
            let array = self.arrays.get(batch).ok_or_else(foreign)?;
            let count = range.len();
            let is_alone = count >= LONG_RUN_ROWS || array.as_any_dictionary_opt().is_some();
            if is_alone || rows + count > rows_max {
                give(&mut short)?;
                rows = 0;
            }
            short.push(array.slice(range.start, count));
            rows += count;
            if is_alone {
                give(&mut short)?;
                rows = 0;
            }
        }
        give(&mut short)
    }

    /// The rows at `places`, which are pairs of batch and row.
    ///
    /// # Errors
    /// When the strings are more than an array can hold.
    pub(super) fn gather(&self, places: &[(usize, usize)]) -> Result<ArrayRef, ArrowError> {
        let arrays: Vec<&dyn Array> = self.arrays.iter().map(AsRef::as_ref).collect();
        let gathered = interleave(&arrays, places)?;
        let Some(dictionary) = &self.dictionary else { return Ok(gathered) };
        let keys = gathered.as_primitive::<UInt32Type>().clone();
        Ok(Arc::new(DictionaryArray::try_new(keys, Arc::clone(dictionary))?))
    }
}

/// The dictionaries of tag columns, each once, and for each column which it has: those of one shard
/// often share theirs.
///
/// # Errors
/// When one holds anything but strings: a mistake of ours.
pub(super) fn dictionaries<'a>(
    tags: &[&'a DictionaryArray<UInt32Type>],
) -> Result<(Vec<&'a StringArray>, Vec<usize>), ArrowError> {
    let mut known: Vec<&ArrayRef> = Vec::new();
    let mut places = Vec::with_capacity(tags.len());
    for tag in tags {
        let place = known.iter().position(|it| ArrayRef::ptr_eq(it, tag.values()));
        places.push(place.unwrap_or(known.len()));
        if place.is_none() {
            known.push(tag.values());
        }
    }
    let strings = known.into_iter().map(|it| it.as_string_opt::<i32>());
    let wrong = || ArrowError::SchemaError("expected a dictionary of strings".to_owned());
    Ok((strings.collect::<Option<_>>().ok_or_else(wrong)?, places))
}

/// The keys of a tag column, each replaced by that in `translated`. The one below a null is
/// arbitrary; it stays below a null.
///
/// # Errors
/// Those of the array.
pub(super) fn keys_in(
    tag: &DictionaryArray<UInt32Type>,
    translated: &[u32],
) -> Result<UInt32Array, ArrowError> {
    let of = |key: &u32| usize::try_from(*key).ok().and_then(|it| translated.get(it));
    let keys: Vec<u32> =
        tag.keys().values().iter().map(|it| of(it).copied().unwrap_or_default()).collect();
    UInt32Array::try_new(keys.into(), tag.nulls().cloned())
}

/// About the bytes of an array's rows, the values of a dictionary not counted.
pub(super) fn bytes(array: &ArrayRef) -> usize {
    let width = match array.data_type() {
        DataType::Dictionary(key, _) => key.primitive_width(),
        DataType::Utf8 => Some(size_of::<i32>()),
        other => other.primitive_width(),
    };
    width.unwrap_or(1) * array.len() + array.as_string_opt().map_or(0, string_bytes)
}

/// Bytes between the first and the last offset.
fn string_bytes(array: &StringArray) -> usize {
    let offsets = array.value_offsets();
    let ends = offsets.first().zip(offsets.last());
    ends.and_then(|(first, last)| usize::try_from(last - first).ok()).unwrap_or(0)
}
