//! Builders to a record batch.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::{ArrowError, Schema};

use super::TableBuilder;
use crate::gather::column_builder::Values;
use crate::gather::registry::{time_field, time_ns_field};
use crate::gather::series::{SeriesRows, SeriesSet, TagValues};

impl TableBuilder {
    /// The rows as a record batch, and an empty builder set that keeps names, kinds and shapes.
    ///
    /// Field columns move; tag columns are gathered from the series numbers. Columns without a
    /// value in this chunk are left out.
    pub(in crate::gather) fn seal(&mut self) -> Result<RecordBatch, ArrowError> {
        let rows = std::mem::take(&mut self.rows);
        let known = self.measurement.fields();
        let (time, time_ns) = self.times.finish();
        let mut fields = vec![time_field()];
        let mut arrays = vec![time];
        if let Some(time_ns) = time_ns {
            fields.push(time_ns_field());
            arrays.push(time_ns);
        }
        let series_rows = std::mem::take(&mut self.series_rows);
        let series = SeriesRows::new(&self.series, &series_rows, rows);
        let mut keys = series.keys(&self.series, self.columns.len()).into_iter();
        for column in &mut self.columns {
            let keys = keys.next().flatten();
            let Some(field) = column.slot.and_then(|slot| known.get(slot)) else { continue };
            let array = match &column.values {
                Values::Tag(values) => keys.map(|keys| series.finish(keys, values)),
                _ => column.finish(rows, self.measurement.unsigned()),
            };
            if let Some(array) = array {
                fields.push(field.clone());
                arrays.push(array);
            }
        }
        RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)
    }

    /// Forgets all series and tag values: there are too many to keep. Only right after a seal.
    pub(in crate::gather) fn forget_series(&mut self) {
        self.series = SeriesSet::default();
        for column in &mut self.columns {
            if let Values::Tag(values) = &mut column.values {
                **values = TagValues::default();
            }
        }
    }
}
