//! Record batches to the row groups of a Parquet file: tags by [`TagChunk`], all else by the
//! `parquet` crate's writers of columns, put side by side.

use std::io::Write;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::{DataType, SchemaRef};
use parquet::arrow::ArrowSchemaConverter;
use parquet::arrow::arrow_writer::{ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::ColumnPath;

use super::tag_chunk::{Codec, TagChunk};

/// Rows of a row group; a reader's unit of parallel work, and what a writer holds in memory.
const ROWS_MAX: usize = 1 << 20;
/// Bytes of a row group, for wide measurements.
const BYTES_MAX: usize = 128 << 20;

/// A file that is being written.
pub(super) struct RowGroups<W: Write + Send> {
    file: SerializedFileWriter<W>,
    schema: SchemaRef,
    columns: ArrowRowGroupWriterFactory,
    codec: Codec,
    open: Option<RowGroup>,
}

/// The row group that is being written.
struct RowGroup {
    columns: Vec<Column>,
    rows: usize,
}

enum Column {
    Plain(Box<ArrowColumnWriter>),
    Tag(Box<TagChunk>),
}

impl<W: Write + Send> RowGroups<W> {
    pub(super) fn new(
        sink: W,
        schema: &SchemaRef,
        properties: WriterProperties,
    ) -> Result<Self, ParquetError> {
        let parquet = ArrowSchemaConverter::new().convert(schema)?;
        let codec = Codec::new(properties.compression(&ColumnPath::new(Vec::new())));
        let file = SerializedFileWriter::new(sink, parquet.root_schema_ptr(), properties.into())?;
        let columns = ArrowRowGroupWriterFactory::new(&file, Arc::clone(schema));
        Ok(Self { file, schema: Arc::clone(schema), columns, codec, open: None })
    }

    /// Appends rows, in as many row groups as they need.
    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<(), ParquetError> {
        let mut start = 0;
        while start < batch.num_rows() {
            let group = match self.open.take() {
                Some(group) => group,
                None => self.begin()?,
            };
            let rows = group.room().min(batch.num_rows() - start);
            if rows == 0 {
                self.finish(group)?;
                continue;
            }
            let group = self.open.insert(group);
            group.write(&batch.slice(start, rows), &self.schema, &mut self.codec)?;
            start += rows;
        }
        Ok(())
    }

    /// Ends the last row group; the footer is the caller's.
    pub(super) fn into_file(mut self) -> Result<SerializedFileWriter<W>, ParquetError> {
        if let Some(group) = self.open.take() {
            self.finish(group)?;
        }
        Ok(self.file)
    }

    fn begin(&self) -> Result<RowGroup, ParquetError> {
        let writers = self.columns.create_column_writers(self.file.flushed_row_groups().len())?;
        let parquet = self.file.schema_descr().columns();
        let columns = self.schema.fields().iter().zip(writers).zip(parquet);
        let columns = columns.map(|((field, writer), column)| match field.data_type() {
            DataType::Dictionary(..) => Column::Tag(TagChunk::new(Arc::clone(column)).into()),
            _ => Column::Plain(Box::new(writer)),
        });
        Ok(RowGroup { columns: columns.collect(), rows: 0 })
    }

    fn finish(&mut self, group: RowGroup) -> Result<(), ParquetError> {
        let mut out = self.file.next_row_group()?;
        for column in group.columns {
            match column {
                Column::Plain(writer) => writer.close()?.append_to_row_group(&mut out)?,
                Column::Tag(chunk) => {
                    let (bytes, close) = chunk.close(&mut self.codec)?;
                    out.append_column(&bytes, close)?;
                }
            }
        }
        out.close()?;
        Ok(())
    }
}

impl RowGroup {
    /// How many rows more it may have, if they are like those that it has.
    fn room(&self) -> usize {
        let bytes: usize = self.columns.iter().map(Column::estimated_bytes).sum();
        let by_bytes = match bytes.checked_div(self.rows) {
            None => ROWS_MAX,
            Some(row) => BYTES_MAX.saturating_sub(bytes) / row.max(1),
        };
        by_bytes.min(ROWS_MAX - self.rows)
    }

    fn write(
        &mut self,
        batch: &RecordBatch,
        schema: &SchemaRef,
        codec: &mut Codec,
    ) -> Result<(), ParquetError> {
        let arrays = batch.columns().iter().zip(schema.fields());
        for (column, (array, field)) in self.columns.iter_mut().zip(arrays) {
            match column {
                Column::Plain(writer) => {
                    compute_leaves(field, array)?.iter().try_for_each(|it| writer.write(it))?;
                }
                Column::Tag(chunk) => chunk.write(array, codec)?,
            }
        }
        self.rows += batch.num_rows();
        Ok(())
    }
}

impl Column {
    /// About the bytes that its chunk will have.
    fn estimated_bytes(&self) -> usize {
        match self {
            Self::Plain(writer) => writer.get_estimated_total_bytes(),
            Self::Tag(chunk) => chunk.estimated_bytes(),
        }
    }
}
