//! Passing over values without reading them: where they end, and of which classes they are.
//!
//! Iterative, whatever the nesting: the work is bounded by the bytes passed over.

use super::error::Break;
use super::token::{Reader, Token};

/// The classes of values met in a run; see [`Reader::skip_values`].
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Classes(u8);

impl Classes {
    pub(super) const NIL: Self = Self(1);
    pub(super) const INT: Self = Self(2);
    pub(super) const FLOAT: Self = Self(4);
    pub(super) const STR: Self = Self(8);
    pub(super) const OTHER: Self = Self(16);

    pub(super) fn contains(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    #[inline(always)]
    fn add(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

/// What skipping a value found out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Nesting {
    /// Within the levels given.
    Fits,
    /// Deeper.
    TooDeep,
}

/// How far a token reaches.
enum Extent {
    /// To this byte.
    Scalar(usize),
    /// Its header to this byte, and then this many values.
    Container(usize, usize),
}

impl Reader<'_> {
    /// Moves behind a map of up to 15 pairs of such strings.
    #[inline(always)]
    pub(super) fn skip_fixstr_map(&mut self) -> Option<()> {
        let mut it = *self;
        let pairs = it.bytes.get(it.at)? ^ 0x80;
        if pairs >= 16 {
            return None;
        }
        it.at += 1;
        for _ in 0..2 * pairs {
            it.fixstr()?;
        }
        *self = it;
        Some(())
    }

    /// How far the token at the position reaches, and its class.
    #[inline(always)]
    fn extent(&self, classes: &mut Classes) -> Result<Extent, Break> {
        let (class, len) = match self.peek()? {
            0x00..=0x7f | 0xe0..=0xff => (Classes::INT, 1),
            0xc0 => (Classes::NIL, 1),
            marker @ 0xa0..=0xbf => (Classes::STR, 1 + usize::from(marker & 0x1f)),
            0xca => (Classes::FLOAT, 5),
            0xcb => (Classes::FLOAT, 9),
            0xcc | 0xd0 => (Classes::INT, 2),
            0xcd | 0xd1 => (Classes::INT, 3),
            0xce | 0xd2 => (Classes::INT, 5),
            0xcf | 0xd3 => (Classes::INT, 9),
            0xc2 | 0xc3 => (Classes::OTHER, 1),
            _ => return self.rare_extent(classes),
        };
        classes.add(class);
        let end = self.at + len;
        if end > self.bytes.len() {
            return Err(match class {
                Classes::STR => self.length(self.at, self.at + 1, len as u64 - 1),
                _ => self.end(),
            });
        }
        Ok(Extent::Scalar(end))
    }

    /// Strings with a length of their own, binary, extensions, containers.
    fn rare_extent(&self, classes: &mut Classes) -> Result<Extent, Break> {
        let mut it = *self;
        Ok(match it.token()? {
            Token::Array(values) => {
                classes.add(Classes::OTHER);
                Extent::Container(it.at, values)
            }
            Token::Map(pairs) => {
                classes.add(Classes::OTHER);
                Extent::Container(it.at, pairs * 2)
            }
            Token::Str(_) => {
                classes.add(Classes::STR);
                Extent::Scalar(it.at)
            }
            _ => {
                classes.add(Classes::OTHER);
                Extent::Scalar(it.at)
            }
        })
    }

    /// Moves behind the value at the position; `levels` is how deep it may nest.
    ///
    /// # Errors
    /// [`Break`] when the value has no end.
    #[inline(always)]
    pub(super) fn skip(&mut self, levels: usize) -> Result<Nesting, Break> {
        self.skip_values(1, levels).map(|(_, nesting)| nesting)
    }

    /// Moves behind `values` values and says of which classes they are.
    ///
    /// # Errors
    /// [`Break`] when one of them has no end.
    #[inline(always)]
    pub(super) fn skip_values(
        &mut self,
        mut values: usize,
        levels: usize,
    ) -> Result<(Classes, Nesting), Break> {
        let mut classes = Classes::default();
        let mut nesting = Nesting::Fits;
        while values > 0 {
            values -= 1;
            match self.extent(&mut classes)? {
                Extent::Scalar(end) => self.at = end,
                Extent::Container(first, inner) => {
                    self.at = first;
                    if self.skip_container(inner, levels)? == Nesting::TooDeep {
                        nesting = Nesting::TooDeep;
                    }
                }
            }
        }
        Ok((classes, nesting))
    }

    /// Moves behind `values` values if all have the same marker, one of a number of 8 bytes or of
    /// a string of up to 31: then they stand at equal distances.
    #[inline]
    pub(super) fn skip_uniform(&mut self, values: usize) -> Option<(Classes, u8)> {
        let marker = *self.bytes.get(self.at)?;
        let (class, stride) = match marker {
            0xcb => (Classes::FLOAT, 9),
            0xcf | 0xd3 => (Classes::INT, 9),
            0xa0..=0xbf => (Classes::STR, 1 + usize::from(marker & 0x1f)),
            _ => return None,
        };
        let end = self.at.checked_add(values.checked_mul(stride)?)?;
        let run = self.bytes.get(self.at..end)?;
        if run.get(stride).is_some_and(|second| *second != marker) {
            return None;
        }
        let other = if stride == 9 {
            // The distance is known here, and eight markers are compared at a time.
            let (blocks, rest) = run.as_chunks::<72>();
            let block = |other: u8, it: &[u8; 72]| {
                let low = (it[0] ^ marker) | (it[9] ^ marker) | (it[18] ^ marker);
                let high = (it[45] ^ marker) | (it[54] ^ marker) | (it[63] ^ marker);
                other | low | (it[27] ^ marker) | (it[36] ^ marker) | high
            };
            let other = blocks.iter().fold(0, block);
            rest.iter().step_by(9).fold(other, |other, it| other | (it ^ marker))
        } else {
            run.iter().step_by(stride).fold(0, |other, it| other | (it ^ marker))
        };
        let is_uniform = other == 0;
        is_uniform.then(|| self.at = end)?;
        Some((class, marker))
    }

    /// Moves behind a container whose `values` values start at the position.
    fn skip_container(&mut self, mut values: usize, levels: usize) -> Result<Nesting, Break> {
        let mut classes = Classes::default();
        // A flat container is the rule, and needs no stack.
        while values > 0 && levels > 0 {
            values -= 1;
            match self.extent(&mut classes)? {
                Extent::Scalar(end) => self.at = end,
                Extent::Container(first, inner) => {
                    self.at = first;
                    return self.skip_nested(values, inner, levels);
                }
            }
        }
        if levels > 0 { Ok(Nesting::Fits) } else { self.skip_nested(0, values, 0) }
    }

    /// Moves behind a container of which `outer` values are left behind the inner container whose
    /// `inner` values start at the position. The outer one is the first of `levels`.
    #[cold]
    fn skip_nested(&mut self, outer: usize, inner: usize, levels: usize) -> Result<Nesting, Break> {
        let mut open: Vec<usize> = Vec::new();
        let mut nesting = Nesting::Fits;
        // Values left in the innermost container, or, too deep, in all of them.
        let mut values = inner;
        if levels < 2 {
            nesting = Nesting::TooDeep;
            values += outer;
        } else {
            open.push(outer);
        }
        let mut classes = Classes::default();
        loop {
            while values == 0 {
                let Some(outer) = open.pop() else { return Ok(nesting) };
                values = outer;
            }
            values -= 1;
            match self.extent(&mut classes)? {
                Extent::Scalar(end) => self.at = end,
                Extent::Container(first, inner) => {
                    self.at = first;
                    if open.len() + 2 <= levels && nesting == Nesting::Fits {
                        open.push(values);
                        values = inner;
                    } else {
                        nesting = Nesting::TooDeep;
                        values += inner + open.drain(..).sum::<usize>();
                        self.values(first, values)?;
                        values = self.skip_short_heads(values);
                    }
                }
            }
        }
    }

    /// Moves behind the heads of short containers, of which the values are counted in `values`, as
    /// far as there are bytes for these; returns how many are left. What is too deep often is
    /// nothing else: a step costs a compare.
    fn skip_short_heads(&mut self, mut values: usize) -> usize {
        while values > 0
            && let Some(marker @ 0x80..=0x9f) = self.bytes.get(self.at)
        {
            let of_map = usize::from(*marker < 0x90);
            let left = values - 1 + (usize::from(marker & 0x0f) << of_map);
            if left > self.bytes.len() - self.at - 1 {
                break;
            }
            values = left;
            self.at += 1;
        }
        values
    }
}
