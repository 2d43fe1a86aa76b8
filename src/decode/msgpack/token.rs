//! A bounded reader of one `MessagePack` token at a time.
//!
//! ```text
//! 00-7f  positive fixint    c0     nil             ca cb  float 32, 64    d9-db  str 8 .. 32
//! 80-8f  fixmap             c1     unassigned      cc-cf  uint 8 .. 64    dc dd  array 16, 32
//! 90-9f  fixarray           c2 c3  false, true     d0-d3  int 8 .. 64     de df  map 16, 32
//! a0-bf  fixstr             c4-c6  bin 8 .. 32     d4-d8  fixext 1 .. 16  c7-c9  ext 8 .. 32
//! e0-ff  negative fixint
//! ```
//!
//! Nothing is allocated and nothing recurses. A length is believed only as far as the body goes: a
//! string of `n` bytes needs `n` bytes behind its header, an array of `n` values at least `n`, a
//! map of `n` pairs at least `2n`. So the values still to be read never outnumber the bytes left,
//! which bounds the work of [`Reader::skip`] by the length of the body. How values are passed over
//! is in `skip`.

use rmp::Marker;

use super::error::{Break, Found};

/// One token: a scalar with its value, or the header of a container.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Token<'a> {
    Nil,
    Bool(bool),
    /// Any integer that fits, whatever its marker: clients do not agree on signed and unsigned.
    Int(i64),
    /// An integer above `i64::MAX`.
    Unsigned(u64),
    Float(f64),
    /// Not checked to be UTF-8.
    Str(&'a [u8]),
    Bin(&'a [u8]),
    /// Values that follow.
    Array(usize),
    /// Pairs that follow.
    Map(usize),
    Ext(i8, &'a [u8]),
}

impl Token<'_> {
    pub(super) fn found(&self) -> Found {
        match self {
            Self::Nil => Found::Nil,
            Self::Bool(_) => Found::Boolean,
            Self::Int(_) | Self::Unsigned(_) => Found::Integer,
            Self::Float(_) => Found::Float,
            Self::Str(_) => Found::String,
            Self::Bin(_) => Found::Binary,
            Self::Array(_) => Found::Array,
            Self::Map(_) => Found::Map,
            Self::Ext(-1, data) if [4, 8, 12].contains(&data.len()) => Found::Timestamp,
            Self::Ext(..) => Found::Extension,
        }
    }
}

/// A position in a body. `at <= bytes.len()`, except behind a predicted key that ran into the
/// slack: then the next read is a [`Break::End`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at }
    }

    /// The same body from `at` on.
    pub(super) fn moved(&self, at: usize) -> Self {
        Self { at, ..*self }
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.at >= self.bytes.len()
    }

    /// The bytes from `start` to the position.
    #[inline]
    pub(super) fn since(&self, start: usize) -> &'a [u8] {
        self.bytes.get(start..self.at).unwrap_or_default()
    }

    /// The bytes from the position to `end`.
    #[inline]
    pub(super) fn until(&self, end: usize) -> &'a [u8] {
        self.bytes.get(self.at..end).unwrap_or_default()
    }

    #[cold]
    pub(super) fn end(&self) -> Break {
        Break::End { at: self.bytes.len() }
    }

    #[cold]
    pub(super) fn length(&self, at: usize, header: usize, declared: u64) -> Break {
        let rest = self.bytes.len().saturating_sub(header);
        Break::Length { at, declared, rest: u64::try_from(rest).unwrap_or(u64::MAX) }
    }

    /// The marker at the position; it is not consumed.
    #[inline(always)]
    pub(super) fn peek(&self) -> Result<u8, Break> {
        self.bytes.get(self.at).copied().ok_or_else(|| self.end())
    }

    #[inline(always)]
    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Break> {
        let Some(bytes) = self.bytes.get(self.at..).and_then(|it| it.first_chunk::<N>()) else {
            return Err(self.end());
        };
        self.at += N;
        Ok(*bytes)
    }

    #[inline(always)]
    fn take(&mut self, marker_at: usize, len: usize) -> Result<&'a [u8], Break> {
        let Some(bytes) = self.bytes.get(self.at..).and_then(|it| it.get(..len)) else {
            return Err(self.length(marker_at, self.at, len as u64));
        };
        self.at += len;
        Ok(bytes)
    }

    #[inline(always)]
    fn len8(&mut self) -> Result<usize, Break> {
        self.fixed().map(|it: [u8; 1]| usize::from(u8::from_be_bytes(it)))
    }

    #[inline(always)]
    fn len16(&mut self) -> Result<usize, Break> {
        self.fixed().map(|it| usize::from(u16::from_be_bytes(it)))
    }

    #[inline(always)]
    fn len32(&mut self) -> Result<usize, Break> {
        self.fixed().map(|it| u32::from_be_bytes(it) as usize)
    }

    /// Values of a container whose header ends at the position, if the body can hold them.
    #[inline(always)]
    pub(super) fn values(&self, marker_at: usize, values: usize) -> Result<usize, Break> {
        if values > self.bytes.len().saturating_sub(self.at) {
            return Err(self.length(marker_at, self.at, values as u64));
        }
        Ok(values)
    }

    #[inline(always)]
    fn pairs(&self, marker_at: usize, pairs: usize) -> Result<usize, Break> {
        self.values(marker_at, pairs.saturating_mul(2)).map(|_| pairs)
    }

    #[inline(always)]
    fn ext(&mut self, marker_at: usize, len: usize) -> Result<Token<'a>, Break> {
        let kind = i8::from_be_bytes(self.fixed()?);
        Ok(Token::Ext(kind, self.take(marker_at, len)?))
    }

    /// Reads one token.
    ///
    /// # Errors
    /// [`Break`]; the position is of no use afterwards.
    #[inline(always)]
    pub(super) fn token(&mut self) -> Result<Token<'a>, Break> {
        let at = self.at;
        let marker = Marker::from_u8(self.peek()?);
        self.at += 1;
        Ok(match marker {
            Marker::FixPos(value) => Token::Int(i64::from(value)),
            Marker::FixNeg(value) => Token::Int(i64::from(value)),
            Marker::Null => Token::Nil,
            Marker::False => Token::Bool(false),
            Marker::True => Token::Bool(true),
            Marker::F32 => Token::Float(f64::from(f32::from_be_bytes(self.fixed()?))),
            Marker::F64 => Token::Float(f64::from_be_bytes(self.fixed()?)),
            Marker::U8 => Token::Int(i64::from(u8::from_be_bytes(self.fixed()?))),
            Marker::U16 => Token::Int(i64::from(u16::from_be_bytes(self.fixed()?))),
            Marker::U32 => Token::Int(i64::from(u32::from_be_bytes(self.fixed()?))),
            Marker::U64 => {
                let value = u64::from_be_bytes(self.fixed()?);
                i64::try_from(value).map_or(Token::Unsigned(value), Token::Int)
            }
            Marker::I8 => Token::Int(i64::from(i8::from_be_bytes(self.fixed()?))),
            Marker::I16 => Token::Int(i64::from(i16::from_be_bytes(self.fixed()?))),
            Marker::I32 => Token::Int(i64::from(i32::from_be_bytes(self.fixed()?))),
            Marker::I64 => Token::Int(i64::from_be_bytes(self.fixed()?)),
            Marker::FixStr(len) => Token::Str(self.take(at, usize::from(len))?),
            Marker::FixArray(len) => Token::Array(self.values(at, usize::from(len))?),
            Marker::FixMap(len) => Token::Map(self.pairs(at, usize::from(len))?),
            other => return self.rare(at, other),
        })
    }

    // The commonest tokens, each read without going through a `Token` in memory: that is a stalled
    // load in a loop over values. `None` is another token, or a break; the position stays.

    /// Reads a `float 64`.
    #[inline(always)]
    pub(super) fn float_64(&mut self) -> Option<f64> {
        let [0xcb, value @ ..] = self.bytes.get(self.at..)?.first_chunk::<9>()? else {
            return None;
        };
        self.at += 9;
        Some(f64::from_be_bytes(*value))
    }

    /// Reads a fixint, or an integer of 64 bits that fits an `i64`.
    #[inline(always)]
    pub(super) fn common_integer(&mut self) -> Option<i64> {
        let rest = self.bytes.get(self.at..)?;
        let marker = *rest.first()?;
        if !(0x80..0xe0).contains(&marker) {
            self.at += 1;
            return Some(i64::from(marker.cast_signed()));
        }
        let [0xcf | 0xd3, value @ ..] = rest.first_chunk::<9>()? else { return None };
        let value = i64::from_be_bytes(*value);
        if marker == 0xcf && value < 0 {
            return None;
        }
        self.at += 9;
        Some(value)
    }

    /// Reads a string of up to 31 bytes.
    #[inline(always)]
    pub(super) fn fixstr(&mut self) -> Option<&'a [u8]> {
        let rest = self.bytes.get(self.at..)?;
        let len = usize::from(rest.first()? ^ 0xa0);
        if len >= 32 {
            return None;
        }
        let text = rest.get(1..=len)?;
        self.at += 1 + len;
        Some(text)
    }

    /// Tokens that no hot path waits for.
    fn rare(&mut self, at: usize, marker: Marker) -> Result<Token<'a>, Break> {
        let len = match marker {
            Marker::Str8 | Marker::Bin8 | Marker::Ext8 => self.len8()?,
            Marker::Str16 | Marker::Bin16 | Marker::Ext16 | Marker::Array16 | Marker::Map16 => {
                self.len16()?
            }
            Marker::Str32 | Marker::Bin32 | Marker::Ext32 | Marker::Array32 | Marker::Map32 => {
                self.len32()?
            }
            Marker::FixExt1 => 1,
            Marker::FixExt2 => 2,
            Marker::FixExt4 => 4,
            Marker::FixExt8 => 8,
            Marker::FixExt16 => 16,
            _ => return Err(Break::Reserved { at }),
        };
        Ok(match marker {
            Marker::Str8 | Marker::Str16 | Marker::Str32 => Token::Str(self.take(at, len)?),
            Marker::Bin8 | Marker::Bin16 | Marker::Bin32 => Token::Bin(self.take(at, len)?),
            Marker::Array16 | Marker::Array32 => Token::Array(self.values(at, len)?),
            Marker::Map16 | Marker::Map32 => Token::Map(self.pairs(at, len)?),
            _ => self.ext(at, len)?,
        })
    }
}
