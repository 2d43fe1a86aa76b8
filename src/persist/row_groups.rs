//! Columns to the row groups of a Parquet file: tags by [`TagChunk`], all else by the `parquet`
//! crate's writers of columns, one behind the other.

use std::io::Write;
use std::ops::Range;
use std::sync::Arc;

use arrow_schema::{DataType, SchemaRef};
use parquet::arrow::ArrowSchemaConverter;
use parquet::arrow::arrow_writer::{ArrowRowGroupWriterFactory, compute_leaves};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::ColumnPath;

use super::parquet_file::RowSource;
use super::statistics::Nans;
use super::tag_chunk::{Codec, TagChunk};

/// Rows of a row group; a reader's unit of parallel work.
const ROWS_MAX: usize = 1 << 20;
/// Bytes of a row group before they are encoded, for wide measurements.
const BYTES_MAX: usize = 256 << 20;
/// Values given to a writer at a time: it makes an index of eight bytes for each.
const PIECE_ROWS: usize = 16 << 10;

/// A file that is being written.
pub(super) struct RowGroups<W: Write + Send> {
    file: SerializedFileWriter<W>,
    schema: SchemaRef,
    columns: ArrowRowGroupWriterFactory,
    codec: Codec,
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
        Ok(Self { file, schema: Arc::clone(schema), columns, codec })
    }

    /// Writes rows, in as many row groups as they need.
    pub(super) fn write(
        &mut self,
        rows: &(impl RowSource + ?Sized),
        nans: &mut Nans,
    ) -> Result<(), ParquetError> {
        let rows_max = (BYTES_MAX / rows.row_bytes().max(1)).clamp(1, ROWS_MAX);
        let count = rows.row_count();
        for start in (0..count).step_by(rows_max) {
            self.write_group(rows, start..count.min(start + rows_max), nans)?;
        }
        Ok(())
    }

    /// The file; its footer is the caller's.
    pub(super) fn into_file(self) -> SerializedFileWriter<W> {
        self.file
    }

    /// One column after the other, so that only one has memory to work in.
    fn write_group(
        &mut self,
        rows: &(impl RowSource + ?Sized),
        range: Range<usize>,
        nans: &mut Nans,
    ) -> Result<(), ParquetError> {
        let Self { file, schema, columns, codec } = self;
        let writers = columns.create_column_writers(file.flushed_row_groups().len())?;
        let parquet = file.schema_descr().columns().to_vec();
        let mut out = file.next_row_group()?;
        let columns = schema.fields().iter().zip(writers).zip(parquet).enumerate();
        for (at, ((field, mut writer), parquet)) in columns {
            if let DataType::Dictionary(..) = field.data_type() {
                let mut chunk = TagChunk::new(parquet);
                rows.read(at, range.clone(), &mut |array| chunk.write(&array, codec))?;
                let (bytes, close) = chunk.close(codec)?;
                out.append_column(&bytes, close)?;
                continue;
            }
            rows.read(at, range.clone(), &mut |array| {
                nans.look(at, &array);
                (0..array.len()).step_by(PIECE_ROWS).try_for_each(|start| {
                    let piece = array.slice(start, PIECE_ROWS.min(array.len() - start));
                    compute_leaves(field, &piece)?.iter().try_for_each(|it| writer.write(it))
                })
            })?;
            writer.close()?.append_to_row_group(&mut out)?;
        }
        out.close()?;
        Ok(())
    }
}
