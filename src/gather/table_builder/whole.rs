//! Rows that come whole: arrays that become a chunk of the table as they are (decision 4).
//!
//! ```text
//! open chunk     row 0 .. 99 | row 100 .. 149
//! whole rows                 ^ 20000 rows, before row 100
//! sealed         row 0 .. 99 | 20000 rows | row 100 .. 149      three chunks, nothing copied
//! ```
//!
//! They wait beside the open chunk until the write ends, so that undoing a body stays a truncation
//! of the open chunk, and then cut it: the order of rows is kept.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, TimestampMicrosecondType, UInt64Type};
use arrow_array::{Array, ArrayRef, PrimitiveArray, RecordBatch};
use arrow_buffer::ScalarBuffer;
use arrow_schema::Schema;

use super::{ColumnIndex, TableBuilder};
use crate::gather::Atomicity;
use crate::gather::column_builder::{Values, empty, unsigned_array};
use crate::gather::registry::{time_field, time_ns_field};
use crate::gather::values::TimeValues;
use crate::schema::{ColumnKind, Role, Unsigned};

/// The times of rows that come whole.
#[derive(Debug)]
pub enum WholeTimes {
    /// Microseconds, every one within [`Timestamp::MIN`](crate::timestamp::Timestamp::MIN) and
    /// [`Timestamp::MAX`](crate::timestamp::Timestamp::MAX).
    Us(ScalarBuffer<i64>),
    /// Times that had to be converted.
    Values(TimeValues),
}

/// Rows that come as arrays.
///
/// | column          | array                                                              |
/// |-----------------|--------------------------------------------------------------------|
/// | Bool, I64, F64  | `Boolean`, `Int64`, `Float64`                                      |
/// | U64             | `UInt64`                                                           |
/// | String          | `Utf8`, none longer than `limits.string_bytes_max`                 |
/// | a tag           | `Dictionary(UInt32, Utf8)`, no value null, empty or over its limit |
/// | Time            | `Timestamp(us, UTC)`, in range                                     |
#[derive(Debug)]
pub struct WholeRows {
    /// One for each row.
    pub times: WholeTimes,
    /// The other columns, each once, as long as `times`. Each row has a field that is not null.
    pub columns: Vec<(ColumnIndex, ArrayRef)>,
    /// Bytes of memory that the arrays keep alive.
    pub bytes: usize,
}

/// Rows that came whole and wait for the end of the write.
#[derive(Debug)]
pub(super) struct Whole {
    /// The row of the open chunk that they stand before.
    pub(super) before: usize,
    pub(super) batch: RecordBatch,
    pub(super) bytes: usize,
}

/// The kind of column that `array` is for, with its role; `None` for an array of another type.
fn kind_of(array: &ArrayRef) -> Option<(ColumnKind, Role)> {
    use arrow_schema::DataType::{
        Boolean, Dictionary, Float64, Int64, Timestamp, UInt32, UInt64, Utf8,
    };
    Some(match array.data_type() {
        Boolean => (ColumnKind::Bool, Role::Field),
        Int64 => (ColumnKind::I64, Role::Field),
        UInt64 => (ColumnKind::U64, Role::Field),
        Float64 => (ColumnKind::F64, Role::Field),
        Utf8 => (ColumnKind::String, Role::Field),
        Dictionary(keys, values) if (&**keys, &**values) == (&UInt32, &Utf8) => {
            (ColumnKind::String, Role::Tag)
        }
        Timestamp(..) => (ColumnKind::Time, Role::Field),
        _ => return None,
    })
}

/// `array` as the table writes it; `None` when it cannot hold every value. What is below a null
/// counts too.
fn written(array: ArrayRef, unsigned: Unsigned) -> Option<ArrayRef> {
    let Some(values) = array.as_primitive_opt::<UInt64Type>() else { return Some(array) };
    if unsigned == Unsigned::Decimal {
        return Some(unsigned_array(values.values().to_vec(), values.nulls().cloned(), unsigned));
    }
    let all = values.values().iter().fold(0, |all, value| all | value);
    i64::try_from(all).ok()?;
    // The same 64 bits mean the same number.
    let same = ScalarBuffer::from(values.values().inner().clone());
    Some(Arc::new(PrimitiveArray::<Int64Type>::new(same, values.nulls().cloned())))
}

impl TableBuilder {
    /// Whether [`Self::append_whole`] may be tried: not in a write that is undone as a whole.
    pub fn takes_whole_rows(&self) -> bool {
        self.atomicity == Atomicity::Rows
    }

    /// The kind of a column, once a value has fixed it.
    pub fn kind(&self, column: ColumnIndex) -> Option<ColumnKind> {
        self.column(column)?.kind()
    }

    /// Appends rows that become a chunk as they are, behind all rows committed before.
    ///
    /// `None` when a column has another kind or role than its array, or cannot be made, or the rows
    /// are of too many days; the caller rolls back and appends the rows in another way.
    ///
    /// # Panics
    /// When the arrays do not have one length: a bug of the decoder.
    pub fn append_whole(&mut self, rows: WholeRows) -> Option<()> {
        let WholeRows { times, columns, bytes } = rows;
        if !self.takes_whole_rows() {
            return None;
        }
        let unsigned = self.measurement.unsigned();
        let mut arrays = Vec::with_capacity(columns.len());
        for (index, array) in columns {
            let (kind, role) = kind_of(&array)?;
            arrays.push((index, kind, written(array, unsigned)?));
            let column = self.columns.get_mut(index.as_usize())?;
            if matches!(column.values, Values::Unset) {
                column.values = empty(kind, role);
                self.pending.push(index);
            }
            (column.kind() == Some(kind) && column.role == role).then_some(())?;
        }
        let looked = self.days.look(match &times {
            WholeTimes::Us(us) => us,
            WholeTimes::Values(values) => values.since(0),
        })?;
        if !self.pending.is_empty() || !self.is_adopted {
            self.commit_pending().ok()?;
        }
        let known = self.measurement.fields();
        let (mut fields, mut whole) = (Vec::new(), Vec::new());
        let (time, time_ns) = finish_times(times);
        fields.push(time_field());
        whole.push(time);
        if let Some(time_ns) = time_ns {
            fields.push(time_ns_field());
            whole.push(time_ns);
        }
        for (index, kind, array) in arrays {
            let column = self.column(index)?;
            // Another shard may have been the first with this name.
            (column.kind() == Some(kind)).then_some(())?;
            fields.push(known.get(column.slot?)?.clone());
            whole.push(array);
        }
        let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), whole);
        #[expect(clippy::expect_used, reason = "the types were compared; see # Panics")]
        let batch = batch.expect("arrays of one length");
        self.days.commit(looked);
        self.wholes.push(Whole { before: self.rows, batch, bytes });
        self.shapes.rollback();
        Some(())
    }

    /// Rows that came whole in the open write.
    pub(in crate::gather) fn whole_count(&self) -> usize {
        self.wholes.iter().map(|whole| whole.batch.num_rows()).sum()
    }
}

/// `time` and perhaps `time_ns`.
fn finish_times(times: WholeTimes) -> (ArrayRef, Option<ArrayRef>) {
    match times {
        WholeTimes::Us(us) => {
            let time = PrimitiveArray::<TimestampMicrosecondType>::new(us, None);
            (Arc::new(time.with_timezone("UTC")), None)
        }
        WholeTimes::Values(mut values) => values.finish(),
    }
}
