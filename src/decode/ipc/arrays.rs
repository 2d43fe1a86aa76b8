//! Buffers to arrays: every length, offset, key and view is checked before it is believed.
//!
//! | layout                           | array                       | copies                        |
//! |----------------------------------|-----------------------------|-------------------------------|
//! | bool, 64-bit numbers, timestamps | the same                    | 0                             |
//! | smaller numbers, date32          | 64 bits                     | 1, converted                  |
//! | utf8                             | the same                    | 0                             |
//! | large utf8                       | utf8                        | 1 of the offsets              |
//! | utf8 view                        | utf8                        | 1                             |
//! | keys of 32 bits                  | the same                    | 0; 1 of other widths          |
//! | a buffer that is not aligned     |                             | 1                             |
//! | a compressed buffer              |                             | 1, decompressed               |
//!
//! What is copied counts against `limits.inflated_bytes_max`.

use std::collections::HashMap;
use std::io::Read;

use arrow_array::types::{Int64Type, UInt64Type};
use arrow_array::{
    Array, ArrowPrimitiveType, BooleanArray, Float64Array, Int64Array, PrimitiveArray, StringArray,
    StringViewArray, UInt32Array, UInt64Array,
};
use arrow_buffer::{
    ArrowNativeType, BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer,
};
use arrow_ipc::{CompressionType, RecordBatch};

use super::error::{Fault, StreamError};
use super::fields::{Layout, Text};
use super::message::Message;
use super::values::{Allowance, Values};
use crate::decode::inflate::{Encoding, Inflater};
use crate::limits::Limits;

/// What went wrong with a column whose name the caller knows.
#[derive(Debug)]
pub(super) enum Broken {
    Fault(Fault),
    Stream(StreamError),
}

impl From<Fault> for Broken {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<StreamError> for Broken {
    fn from(error: StreamError) -> Self {
        Self::Stream(error)
    }
}

/// The arrays of one record batch, read in the order of its columns.
#[derive(Debug)]
pub(super) struct Arrays<'a> {
    body: &'a Buffer,
    message: &'a Message<'a>,
    batch: RecordBatch<'a>,
    pub(super) rows: usize,
    codec: Option<CompressionType>,
    node: usize,
    buffer: usize,
    variadic: usize,
    allowance: &'a mut Allowance,
    limits: &'a Limits,
}

impl<'a> Arrays<'a> {
    /// # Errors
    /// `Metadata`.
    pub(super) fn new(
        body: &'a Buffer,
        message: &'a Message<'a>,
        batch: RecordBatch<'a>,
        allowance: &'a mut Allowance,
        limits: &'a Limits,
    ) -> Result<Self, StreamError> {
        let rows = usize::try_from(batch.length()).map_err(|_| StreamError::Metadata)?;
        let codec = batch.compression().map(|compression| compression.codec());
        if codec
            .is_some_and(|it| ![CompressionType::LZ4_FRAME, CompressionType::ZSTD].contains(&it))
        {
            return Err(StreamError::Codec);
        }
        let (node, buffer, variadic) = (0, 0, 0);
        Ok(Self { body, message, batch, rows, codec, node, buffer, variadic, allowance, limits })
    }

    /// The values of the next column.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn column(
        &mut self,
        layout: Layout,
        dictionaries: &HashMap<i64, StringArray>,
    ) -> Result<Values, Broken> {
        let node = self.batch.nodes().filter(|nodes| self.node < nodes.len());
        let node = node.ok_or(Fault::Bounds)?.get(self.node);
        self.node += 1;
        // A count below zero would be none to one reader and some to another.
        if usize::try_from(node.length()) != Ok(self.rows) || node.null_count() < 0 {
            return Err(Fault::Length.into());
        }
        if layout == Layout::Null {
            return Ok(Values::Null);
        }
        let nulls = self.nulls(node.null_count())?;
        let values = match layout {
            Layout::Null => Values::Null,
            Layout::Bool => Values::Bool(self.bools(nulls)?),
            Layout::Int(bytes) => Values::Int(self.ints(bytes, nulls)?),
            Layout::Uint(bytes) => Values::Uint(self.uints(bytes, nulls)?),
            Layout::Float(bytes) => Values::Float(self.floats(bytes, nulls)?),
            Layout::Text(text) => Values::Text(self.text(text, nulls)?),
            Layout::Time(unit, bytes) => Values::Time(unit, self.ints(bytes, nulls)?),
            Layout::Dictionary { id, key_bytes, is_signed } => {
                let keys = self.keys(key_bytes, is_signed, nulls)?;
                dictionary(keys, dictionaries.get(&id), self.allowance)?
            }
        };
        Ok(values.or_null())
    }

    /// The next buffer, decompressed.
    fn buffer(&mut self) -> Result<Buffer, Broken> {
        let buffers = self.batch.buffers().filter(|buffers| self.buffer < buffers.len());
        let buffer = *buffers.ok_or(Fault::Bounds)?.get(self.buffer);
        self.buffer += 1;
        let offset = usize::try_from(buffer.offset()).map_err(|_| Fault::Bounds)?;
        let length = usize::try_from(buffer.length()).map_err(|_| Fault::Bounds)?;
        let end = offset.checked_add(length).ok_or(Fault::Bounds)?;
        if end > self.message.buffers.len() {
            return Err(Fault::Bounds.into());
        }
        let start = self.message.buffers.start + offset;
        let buffer = self.body.slice_with_length(start, length);
        match self.codec {
            Some(codec) if length > 0 => self.decompress(codec, &buffer),
            _ => Ok(buffer),
        }
    }

    fn decompress(&mut self, codec: CompressionType, buffer: &Buffer) -> Result<Buffer, Broken> {
        let (length, compressed) = buffer.split_first_chunk::<8>().ok_or(Fault::Compressed)?;
        let length = i64::from_le_bytes(*length);
        if length == -1 {
            return Ok(buffer.slice(8));
        }
        let length = usize::try_from(length).map_err(|_| Fault::Compressed)?;
        self.allowance.take(length, 1)?;
        // Not more than was received can account for: a length is only said.
        let likely = length.min(compressed.len().saturating_mul(256));
        let mut bytes = Vec::with_capacity(likely);
        if codec == CompressionType::ZSTD {
            let mut inflater = Inflater::default();
            let limits = Limits { inflated_bytes_max: length, ..*self.limits };
            inflater
                .inflate(Encoding::Zstd, compressed, &mut bytes, &limits, &mut |_| Ok(()))
                .map_err(|_| Fault::Compressed)?;
        } else {
            let most = u64::try_from(length).unwrap_or(u64::MAX).saturating_add(1);
            lz4_flex::frame::FrameDecoder::new(compressed)
                .take(most)
                .read_to_end(&mut bytes)
                .map_err(|_| Fault::Compressed)?;
        }
        if bytes.len() != length {
            return Err(Fault::Compressed.into());
        }
        Ok(Buffer::from_vec(bytes))
    }

    /// The next buffer as `count` values, copied only if it is not aligned.
    fn values<T: ArrowNativeType>(&mut self, count: usize) -> Result<ScalarBuffer<T>, Broken> {
        let buffer = self.buffer()?;
        let bytes = count.checked_mul(size_of::<T>()).ok_or(Fault::Short)?;
        if buffer.len() < bytes {
            return Err(Fault::Short.into());
        }
        let buffer = buffer.slice_with_length(0, bytes);
        if buffer.as_ptr().align_offset(align_of::<T>()) == 0 {
            return Ok(buffer.into());
        }
        self.allowance.take(bytes, 1)?;
        Ok(Buffer::from_slice_ref(buffer.as_slice()).into())
    }

    /// The next buffer as bits, one for each row.
    fn bits(&mut self) -> Result<BooleanBuffer, Broken> {
        let buffer = self.buffer()?;
        if buffer.len() < self.rows.div_ceil(8) {
            return Err(Fault::Short.into());
        }
        Ok(BooleanBuffer::new(buffer, 0, self.rows))
    }

    /// The next buffer as a bitmap of nulls, which is not looked at when there are none.
    fn nulls(&mut self, count: i64) -> Result<Option<NullBuffer>, Broken> {
        if count == 0 {
            self.buffer += 1;
            return Ok(None);
        }
        Ok(Some(NullBuffer::new(self.bits()?)))
    }

    fn bools(&mut self, nulls: Option<NullBuffer>) -> Result<BooleanArray, Broken> {
        Ok(BooleanArray::new(self.bits()?, nulls))
    }

    /// Values of fewer bytes as those of `T`.
    fn widened<S, T>(&mut self, nulls: Option<NullBuffer>) -> Result<PrimitiveArray<T>, Broken>
    where
        S: ArrowNativeType,
        T: ArrowPrimitiveType,
        T::Native: From<S>,
    {
        self.allowance.take(self.rows, size_of::<T::Native>())?;
        let values = self.values::<S>(self.rows)?;
        let wide: Vec<T::Native> = values.iter().copied().map(T::Native::from).collect();
        Ok(PrimitiveArray::new(wide.into(), nulls))
    }

    fn ints(&mut self, bytes: usize, nulls: Option<NullBuffer>) -> Result<Int64Array, Broken> {
        match bytes {
            1 => self.widened::<i8, Int64Type>(nulls),
            2 => self.widened::<i16, Int64Type>(nulls),
            4 => self.widened::<i32, Int64Type>(nulls),
            _ => Ok(Int64Array::new(self.values(self.rows)?, nulls)),
        }
    }

    fn uints(&mut self, bytes: usize, nulls: Option<NullBuffer>) -> Result<UInt64Array, Broken> {
        match bytes {
            1 => self.widened::<u8, UInt64Type>(nulls),
            2 => self.widened::<u16, UInt64Type>(nulls),
            4 => self.widened::<u32, UInt64Type>(nulls),
            _ => Ok(UInt64Array::new(self.values(self.rows)?, nulls)),
        }
    }

    fn floats(&mut self, bytes: usize, nulls: Option<NullBuffer>) -> Result<Float64Array, Broken> {
        if bytes == 8 {
            return Ok(Float64Array::new(self.values(self.rows)?, nulls));
        }
        self.allowance.take(self.rows, size_of::<f64>())?;
        let wide: Vec<f64> = if bytes == 4 {
            self.values::<f32>(self.rows)?.iter().copied().map(f64::from).collect()
        } else {
            self.values::<u16>(self.rows)?.iter().copied().map(half).collect()
        };
        Ok(Float64Array::new(wide.into(), nulls))
    }

    fn keys(
        &mut self,
        bytes: usize,
        is_signed: bool,
        nulls: Option<NullBuffer>,
    ) -> Result<UInt32Array, Broken> {
        if bytes == 4 {
            // A negative key becomes one that no dictionary has.
            return Ok(UInt32Array::new(self.values(self.rows)?, nulls));
        }
        let narrow = |key: i64| u32::try_from(key).unwrap_or(u32::MAX);
        self.allowance.take(self.rows, size_of::<u32>())?;
        let keys: Vec<u32> = match (bytes, is_signed) {
            (1, true) => {
                self.values::<i8>(self.rows)?.iter().map(|it| narrow((*it).into())).collect()
            }
            (1, false) => self.values::<u8>(self.rows)?.iter().map(|it| (*it).into()).collect(),
            (2, true) => {
                self.values::<i16>(self.rows)?.iter().map(|it| narrow((*it).into())).collect()
            }
            (2, false) => self.values::<u16>(self.rows)?.iter().map(|it| (*it).into()).collect(),
            (_, true) => self.values::<i64>(self.rows)?.iter().map(|it| narrow(*it)).collect(),
            (_, false) => {
                let keys = self.values::<u64>(self.rows)?;
                keys.iter().map(|it| u32::try_from(*it).unwrap_or(u32::MAX)).collect()
            }
        };
        Ok(UInt32Array::new(keys.into(), nulls))
    }

    fn text(&mut self, text: Text, nulls: Option<NullBuffer>) -> Result<StringArray, Broken> {
        match text {
            Text::Utf8 => {
                let offsets = self.offsets::<i32>()?;
                let bytes = self.buffer()?;
                strings(offsets, bytes, nulls)
            }
            Text::LargeUtf8 => {
                let wide = self.offsets::<i64>()?;
                self.allowance.take(wide.len(), size_of::<i32>())?;
                let narrow = wide.iter().map(|offset| i32::try_from(*offset));
                let offsets: Vec<i32> =
                    narrow.collect::<Result<_, _>>().map_err(|_| Fault::Offsets)?;
                let bytes = self.buffer()?;
                strings(offsets.into(), bytes, nulls)
            }
            Text::Utf8View => self.views(nulls),
        }
    }

    /// One offset more than there are rows; an array of no rows may have none.
    fn offsets<T: ArrowNativeType>(&mut self) -> Result<ScalarBuffer<T>, Broken> {
        if self.rows == 0 {
            self.buffer()?;
            return Ok(vec![T::default()].into());
        }
        let count = self.rows.checked_add(1).ok_or(Fault::Short)?;
        self.values(count)
    }

    fn views(&mut self, nulls: Option<NullBuffer>) -> Result<StringArray, Broken> {
        let counts = self.batch.variadicBufferCounts();
        let counts = counts.filter(|counts| self.variadic < counts.len()).ok_or(Fault::View)?;
        let count = usize::try_from(counts.get(self.variadic)).map_err(|_| Fault::View)?;
        self.variadic += 1;
        let views = self.values::<u128>(self.rows)?;
        let mut buffers = Vec::new();
        for _ in 0..count {
            buffers.push(self.buffer()?);
        }
        // Views may all be of one long text: before anything is done for each, what they come to.
        let lengths = views.iter().map(|view| (view & u128::from(u32::MAX)).as_usize());
        self.allowance.take(lengths.sum(), 1)?;
        self.allowance.take(self.rows, size_of::<i32>())?;
        let views = StringViewArray::try_new(views, buffers, nulls).map_err(|_| Fault::View)?;
        Ok(StringArray::from_iter(&views))
    }
}

/// A half-precision float, exactly.
fn half(bits: u16) -> f64 {
    let sign = u64::from(bits >> 15) << 63;
    let exponent = u64::from(bits >> 10 & 0x1f);
    let fraction = u64::from(bits & 0x3ff);
    let magnitude = match exponent {
        0 => (f64::from(bits & 0x3ff) * 2_f64.powi(-24)).to_bits(),
        0x1f if fraction == 0 => 0x7ff << 52,
        // A quiet NaN, as processors convert it, with what it carries.
        0x1f => 0xfff << 51 | fraction << 42,
        _ => (exponent + 1_023 - 15) << 52 | fraction << 42,
    };
    f64::from_bits(sign | magnitude)
}

/// Text cut by offsets, once both are found to be sound.
fn strings(
    offsets: ScalarBuffer<i32>,
    bytes: Buffer,
    nulls: Option<NullBuffer>,
) -> Result<StringArray, Broken> {
    let is_rising = offsets.windows(2).all(|pair| matches!(pair, [low, high] if low <= high));
    let is_within = |offset: &i32| usize::try_from(*offset).is_ok_and(|it| it <= bytes.len());
    let ends = offsets.first().is_some_and(is_within) && offsets.last().is_some_and(is_within);
    if !is_rising || !ends {
        return Err(Fault::Offsets.into());
    }
    let strings = StringArray::try_new(OffsetBuffer::new(offsets), bytes, nulls);
    Ok(strings.map_err(|_| Fault::Utf8)?)
}

/// Keys with their dictionary. A key to a null is a null.
fn dictionary(
    keys: UInt32Array,
    values: Option<&StringArray>,
    allowance: &mut Allowance,
) -> Result<Values, Broken> {
    // Where all keys are null there need not be a dictionary.
    let values = values.cloned().unwrap_or_else(|| StringArray::new_null(0));
    let is_in = |key: &u32| key.as_usize() < values.len();
    let keys = if keys.values().iter().all(is_in) {
        keys
    } else {
        // Only a null may be another key; nobody behind has to know of those.
        let row_keys = keys.iter().map(|key| key.map_or(Some(0), |key| is_in(&key).then_some(key)));
        allowance.take(keys.len(), size_of::<u32>())?;
        let sound: Vec<u32> = row_keys.collect::<Option<_>>().ok_or(Fault::Key)?;
        UInt32Array::new(sound.into(), keys.nulls().cloned())
    };
    let no_values = values.nulls().filter(|nulls| nulls.null_count() > 0).cloned();
    let Some(no_values) = no_values else {
        return Ok(Values::Dictionary(keys, values));
    };
    allowance.take(keys.len().div_ceil(8), 1)?;
    let is_value = |row: usize, key: &u32| keys.is_valid(row) && no_values.is_valid(key.as_usize());
    let all = keys.values();
    let nulls: NullBuffer = all.iter().enumerate().map(|(row, key)| is_value(row, key)).collect();
    let keys = UInt32Array::new(all.clone(), Some(nulls));
    let (offsets, bytes, _) = values.into_parts();
    Ok(Values::Dictionary(keys, StringArray::new(offsets, bytes, None)))
}
