//! Builders to a record batch.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::{ArrowError, Schema};

use super::TableBuilder;
use crate::gather::Chunk;
use crate::gather::column_builder::Values;
use crate::gather::registry::{time_field, time_ns_field};
use crate::gather::series::{SeriesRows, SeriesSet, TagValues};

impl TableBuilder {
    /// All rows in their order: the open chunk, cut where rows that came whole stand between its
    /// own, and these.
    pub(in crate::gather) fn seal(&mut self) -> Vec<Chunk> {
        let wholes = std::mem::take(&mut self.wholes);
        let open = (self.rows > 0).then(|| {
            let sealed = self.seal_open();
            #[expect(
                clippy::expect_used,
                reason = "every array has the table's row count and the type of its field: both \
                          are made side by side in `seal_open`"
            )]
            sealed.expect("arrays that match their schema")
        });
        // The pieces of the open chunk share its buffers: the first one is accounted for all.
        let (open, mut open_bytes) = open.unzip();
        let rows = open.as_ref().map_or(0, RecordBatch::num_rows);
        let mut chunks = Vec::with_capacity(2 * wholes.len() + 1);
        let chunk =
            |batch, bytes| Chunk { measurement: Arc::clone(&self.measurement), batch, bytes };
        let mut start = 0;
        let ends = wholes.iter().map(|whole| whole.before).chain([rows]).collect::<Vec<_>>();
        let mut wholes = wholes.into_iter();
        for end in ends {
            if let Some(open) = &open
                && end > start
            {
                let piece = open.slice(start, end - start);
                chunks.push(chunk(piece, open_bytes.take().unwrap_or(0)));
                start = end;
            }
            chunks.extend(wholes.next().map(|whole| chunk(whole.batch, whole.bytes)));
        }
        chunks
    }

    /// The open chunk as a record batch, and an empty builder set that keeps names, kinds and
    /// shapes.
    ///
    /// Field columns move; tag columns are gathered from the series numbers. Columns without a
    /// value in this chunk are left out.
    ///
    /// Also its bytes, without those of dictionaries that a chunk before accounts for.
    fn seal_open(&mut self) -> Result<(RecordBatch, usize), ArrowError> {
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
        let mut taken_bytes = 0;
        for column in &mut self.columns {
            let keys = keys.next().flatten();
            let Some(field) = column.slot.and_then(|slot| known.get(slot)) else { continue };
            let array = match &mut column.values {
                Values::Tag(values) => keys.map(|keys| {
                    let (tags, taken) = series.finish(keys, values);
                    taken_bytes += taken;
                    tags
                }),
                _ => column.finish(rows, self.measurement.unsigned()),
            };
            if let Some(array) = array {
                fields.push(field.clone());
                arrays.push(array);
            }
        }
        self.dictionary_bytes = self.count_dictionary_bytes();
        let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)?;
        let bytes = batch.get_array_memory_size() - taken_bytes;
        Ok((batch, bytes))
    }

    /// Forgets all series and tag values: there are too many to keep. Only right after a seal.
    pub(in crate::gather) fn forget_series(&mut self) {
        self.series = SeriesSet::default();
        self.dictionary_bytes = 0;
        self.tag_order.forget_values();
        for column in &mut self.columns {
            if let Values::Tag(values) = &mut column.values {
                **values = TagValues::default();
            }
        }
    }
}
