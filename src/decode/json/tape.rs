//! One document on simd-json's tape, and where its values stand in the body.
//!
//! ```text
//! text       {"a":[1,2],"b":"x"}
//! nodes      0 object(2 pairs, 5 nodes), 1 "a", 2 array(2 values, 2 nodes), 3 1, 4 2, 5 "b", 6 "x"
//! ```
//!
//! simd-json decodes strings in place, so a document is read from a copy of its bytes, and the body
//! stays as it was received. It reads into the padding behind the copy, where it would otherwise
//! make one of its own.
//!
//! Memory: for each byte of the document, one of text, at most one of unescaped strings, at most 4
//! of positions and 24 of nodes, these two for each token; `limits.json_marks_max` bounds the
//! tokens of a document to three times as many. Room is kept from body to body up to
//! [`KEPT_BYTES_MAX`].

use std::cell::Cell;
use std::fmt;

use simd_json::{Buffers, ErrorType, INPUT_PADDING, Node, StaticNode, Tape, fill_tape_padded};

use super::error::{Excerpt, Fault, Found, ItemError};
use super::extent::{atom, string};
use super::mend::{Flaw, Mended, mend};
use crate::decode::cursor::Body;

/// Bytes of text and nodes that are kept for the next body.
const KEPT_BYTES_MAX: usize = 8 << 20;

/// Room that documents are read in, kept from body to body.
pub struct Scratch {
    text: Vec<u8>,
    buffers: Buffers,
    nodes: Vec<Node<'static>>,
}

impl fmt::Debug for Scratch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scratch").finish_non_exhaustive()
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self { text: Vec::new(), buffers: Buffers::new(0), nodes: Vec::new() }
    }
}

impl Scratch {
    /// Gives back room that a large body needed.
    pub(super) fn shrink(&mut self) {
        let node_bytes = self.nodes.capacity() * size_of::<Node<'static>>();
        if self.text.capacity() + node_bytes > KEPT_BYTES_MAX {
            *self = Self::default();
        }
    }

    /// Reads the document at `start..end` of `body` and shows it to `walk`. `false`: it is not
    /// JSON, and was not shown.
    pub(super) fn read(
        &mut self,
        body: Body<'_>,
        start: usize,
        end: usize,
        walk: impl FnOnce(&Document<'_>),
    ) -> bool {
        let Self { text, buffers, nodes, .. } = self;
        copy(text, body, start, end);
        let base = text.as_ptr().addr();
        let mut tape = Tape(std::mem::take(nodes)).reset();
        let is_read = fill_tape_padded(text, end - start, buffers, &mut tape).is_ok();
        if is_read {
            walk(&Document {
                nodes: &tape.0,
                tokens: buffers.structural_indexes(),
                flaws: &[],
                open: &[],
                base,
                body: body.bytes(),
                start,
                end,
                cursor: Cell::default(),
            });
        }
        *nodes = tape.reset().0;
        is_read
    }

    /// As [`Self::read`], of a document that was not JSON: mends it, and shows as much as can be
    /// read, and where and why the rest cannot, if there is such a rest.
    #[cold]
    pub(super) fn read_mended(
        &mut self,
        body: Body<'_>,
        start: usize,
        end: usize,
        walk: impl FnOnce(&Document<'_>, Option<ItemError>),
    ) {
        let Self { text, buffers, nodes, .. } = self;
        copy(text, body, start, end);
        let base = text.as_ptr().addr();
        let Mended { flaws, mut broken } = mend(text.get_mut(..end - start).unwrap_or_default());
        let len = broken.map_or(end - start, |(_, at)| at);
        let mut tape = Tape(std::mem::take(nodes)).reset();
        let mut open = Vec::new();
        // An empty text has no nodes, and positions of another.
        let read = if len == 0 { Ok(()) } else { fill_tape_padded(text, len, buffers, &mut tape) };
        if let Err(error) = read {
            let ran_out = matches!(error.error(), ErrorType::Syntax);
            let at = if ran_out { len } else { error.index().min(len) };
            broken = broken.filter(|_| ran_out).or_else(|| Some((expected(error.error()), at)));
            let raw = body.bytes().get(start..).unwrap_or_default();
            let tokens = buffers.structural_indexes();
            let count = unclosed(raw, tokens, at, &mut open);
            tape.0.truncate(count);
        }
        let document = Document {
            nodes: &tape.0,
            tokens: buffers.structural_indexes(),
            flaws: &flaws,
            open: &open,
            base,
            body: body.bytes(),
            start,
            end,
            cursor: Cell::default(),
        };
        let broken = broken.map(|(expected, at)| {
            let at = start + at;
            let found = body.bytes().get(..end).and_then(|bytes| bytes.get(at)).copied();
            ItemError::Malformed { expected, found, at }
        });
        walk(&document, broken);
        *nodes = tape.reset().0;
    }
}

/// Makes `text` the document and the padding that simd-json reads into; what is behind a document
/// in a body does for that.
fn copy(text: &mut Vec<u8>, body: Body<'_>, start: usize, end: usize) {
    text.clear();
    text.extend_from_slice(body.padded().get(start..end + INPUT_PADDING).unwrap_or_default());
}

/// What has to stand where simd-json found something else.
fn expected(error: &ErrorType) -> &'static str {
    match error {
        ErrorType::DepthLimitExceeded => "at most 1024 brackets in each other",
        ErrorType::ExpectedArrayContent => "',' or ']'",
        ErrorType::ExpectedFalse => "false",
        ErrorType::ExpectedNull => "null",
        ErrorType::ExpectedObjectColon => "':'",
        ErrorType::ExpectedObjectContent => "a key, ',' or '}'",
        ErrorType::ExpectedObjectKey => "a key",
        ErrorType::ExpectedTrue => "true",
        ErrorType::InvalidNumber => "a number",
        ErrorType::Syntax => "the rest of the document",
        ErrorType::TrailingData => "the end of the document",
        _ => "a value",
    }
}

/// Whether a token is a value or a key, and not what stands between them.
fn is_node(byte: Option<&u8>) -> bool {
    !matches!(byte, Some(b',' | b':' | b'}' | b']') | None)
}

/// Finds the nodes of the brackets that are open at byte `until` of the document `raw`, and says
/// how many nodes there are before it.
fn unclosed(raw: &[u8], tokens: &[u32], until: usize, open: &mut Vec<usize>) -> usize {
    let mut count = 0;
    for token in tokens.iter().map(|it| *it as usize).take_while(|it| *it < until) {
        match raw.get(token) {
            Some(b'{' | b'[') => open.push(count),
            Some(b'}' | b']') => _ = open.pop(),
            _ => {}
        }
        count += usize::from(is_node(raw.get(token)));
    }
    count
}

/// A node and its token.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Place {
    node: usize,
    token: usize,
}

/// One value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value<'t> {
    Null,
    Bool(bool),
    Int(i64),
    /// Above `i64::MAX`.
    Unsigned(u64),
    Float(f64),
    Str(&'t str),
    Faulty(Fault),
    /// How many values it has.
    Array(usize),
    /// How many pairs it has.
    Object(usize),
}

impl Value<'_> {
    /// What it is called. What cannot be read would have been a string, for all that is known.
    pub(super) fn found(&self) -> Found {
        match self {
            Self::Null => Found::Null,
            Self::Bool(_) => Found::Boolean,
            Self::Int(_) | Self::Unsigned(_) => Found::Integer,
            Self::Float(_) => Found::Float,
            Self::Str(_) | Self::Faulty(_) => Found::String,
            Self::Array(_) => Found::Array,
            Self::Object(_) => Found::Object,
        }
    }
}

/// One document as a tape.
#[derive(Debug)]
pub(super) struct Document<'t> {
    /// Its values and keys in their order; see [`Self::next`].
    pub(super) nodes: &'t [Node<'t>],
    /// Where its tokens stand, in the document.
    tokens: &'t [u32],
    flaws: &'t [Flaw],
    /// The brackets that nothing closes.
    open: &'t [usize],
    /// Address of the text that the strings are in.
    base: usize,
    /// The whole body.
    pub(super) body: &'t [u8],
    /// First byte of the document in it.
    start: usize,
    /// Byte behind the document's last.
    pub(super) end: usize,
    /// The last row that was looked for; the next one is behind it.
    cursor: Cell<Place>,
}

impl<'t> Document<'t> {
    /// The value at node `at`; null where a broken document ends before it.
    #[inline(always)]
    pub(super) fn value(&self, at: usize) -> Value<'t> {
        match self.nodes.get(at) {
            Some(Node::Static(StaticNode::F64(value))) => Value::Float(*value),
            Some(Node::Static(StaticNode::U64(value))) => match i64::try_from(*value) {
                Ok(value) => Value::Int(value),
                Err(_) => Value::Unsigned(*value),
            },
            Some(Node::Static(StaticNode::I64(value))) => Value::Int(*value),
            Some(Node::Static(StaticNode::Bool(value))) => Value::Bool(*value),
            Some(Node::Static(StaticNode::Null)) | None => Value::Null,
            Some(Node::String(text)) => match self.fault(text) {
                None => Value::Str(text),
                Some(fault) => Value::Faulty(fault),
            },
            Some(Node::Array { len, .. }) => Value::Array(*len),
            Some(Node::Object { len, .. }) => Value::Object(*len),
        }
    }

    /// The key at node `at`.
    ///
    /// # Errors
    /// [`ItemError::Faulty`].
    #[inline(always)]
    pub(super) fn key(&self, at: usize) -> Result<&'t str, ItemError> {
        let Some(Node::String(key)) = self.nodes.get(at) else { return Ok("") };
        match self.fault(key) {
            None => Ok(key),
            Some(fault) => {
                let at = self.offset(key) - 1;
                let end = string(self.body, at).unwrap_or(self.end);
                let name = Excerpt::new(self.body.get(at + 1..end - 1).unwrap_or_default());
                Err(ItemError::Faulty { name, fault, at })
            }
        }
    }

    /// What is wrong with the value that `text` stands for.
    #[inline(always)]
    fn fault(&self, text: &str) -> Option<Fault> {
        if self.flaws.is_empty() {
            return None;
        }
        let at = self.offset(text) - 1 - self.start;
        let found = self.flaws.binary_search_by_key(&at, |flaw| flaw.at).ok()?;
        self.flaws.get(found).map(|flaw| flaw.fault)
    }

    /// Whether all of it was read as it stands.
    #[inline(always)]
    pub(super) fn is_flawless(&self) -> bool {
        self.flaws.is_empty()
    }

    /// The node behind the value at node `at`, and behind all that is in it.
    #[inline(always)]
    pub(super) fn next(&self, at: usize) -> usize {
        match self.nodes.get(at) {
            Some(Node::Array { count, .. } | Node::Object { count, .. }) => {
                if self.is_open(at) {
                    self.nodes.len()
                } else {
                    at + 1 + count
                }
            }
            _ => at + 1,
        }
    }

    /// Whether nothing closes the bracket at node `at`.
    #[inline(always)]
    pub(super) fn is_open(&self, at: usize) -> bool {
        !self.open.is_empty() && self.open.contains(&at)
    }

    /// Where the inside of the string `text` of a node begins, in the body.
    #[inline(always)]
    pub(super) fn offset(&self, text: &str) -> usize {
        text.as_ptr().addr().wrapping_sub(self.base).wrapping_add(self.start)
    }

    /// The string `text` of a node as it stands in the body, quotes included. `None` when there
    /// are escapes in it.
    ///
    /// Escapes are longer than what they stand for, so the same bytes with a quote behind them
    /// can only be the same string: a quote inside would need a backslash before it, and that one
    /// another, down to the first, which is not what it stands for.
    #[inline]
    pub(super) fn plain(&self, text: &str) -> Option<&'t [u8]> {
        let at = self.offset(text);
        let raw = self.body.get(at.checked_sub(1)?..=at + text.len())?;
        matches!(raw, [_, inside @ .., b'"'] if inside == text.as_bytes()).then_some(raw)
    }

    /// The byte of token `token`, if it is one of the document's.
    fn token(&self, token: usize) -> Option<usize> {
        self.tokens.get(token).map(|at| self.start + *at as usize)
    }

    /// The place of node `at`, looked for from `from` on. Cost: the tokens between.
    #[cold]
    fn seek(&self, from: Place, at: usize) -> Place {
        let mut place = if from.node <= at { from } else { Place::default() };
        while place.node < at && place.token < self.tokens.len() {
            place.token += 1;
            let byte = self.token(place.token).and_then(|it| self.body.get(it));
            place.node += usize::from(is_node(byte));
        }
        place
    }

    /// First byte of node `at`, from the last row on.
    #[cold]
    pub(super) fn byte(&self, at: usize) -> usize {
        self.token(self.seek(self.cursor.get(), at).token).unwrap_or(self.end)
    }

    /// First byte of node `at`, looked for from `from` on, which moves there.
    #[cold]
    pub(super) fn byte_from(&self, from: &mut Place, at: usize) -> usize {
        *from = self.seek(*from, at);
        self.token(from.token).unwrap_or(self.end)
    }

    /// First byte of the value at node `at` and the byte behind its last; later rows are looked for
    /// from there on.
    #[cold]
    pub(super) fn span(&self, at: usize) -> (usize, usize) {
        let place = self.seek(self.cursor.get(), at);
        self.cursor.set(place);
        let Some(start) = self.token(place.token) else { return (self.end, self.end) };
        if self.is_open(at) {
            return (start, self.end);
        }
        let end = match self.body.get(start) {
            Some(b'{' | b'[') => self.closing(place.token).map_or(self.end, |it| it + 1),
            Some(b'"') => string(self.body, start).unwrap_or(self.end),
            _ => atom(self.body, start),
        };
        (start, end.min(self.end))
    }

    /// The byte of the bracket that closes the one at `token`.
    fn closing(&self, token: usize) -> Option<usize> {
        let mut depth = 0_usize;
        for at in (token..self.tokens.len()).map_while(|token| self.token(token)) {
            match self.body.get(at) {
                Some(b'{' | b'[') => depth += 1,
                Some(b'}' | b']') => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return Some(at);
            }
        }
        None
    }
}
