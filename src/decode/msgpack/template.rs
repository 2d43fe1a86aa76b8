//! Templates of rows: what every row of one shape has, and where its values stand.
//!
//! ```text
//! 84 a1 'm' a3 'cpu' a1 't' d3 00 05 .. a4 'tags' | 82 a4 'host' .. | a6 'fields' 83 .. cb 40 ..
//! literal                      time     literal   | tags            | literal             hole
//! stretch                                         | behind it       | stretch
//! ```
//!
//! A template is learnt from a row that [`Decoder::stream_row`] took. The literals hold the map
//! header, the measurement, the keys and the markers, so where they match again, the row has the
//! same pairs and belongs to the same table. Rows are taken by their templates in `foreseen`.
//!
//! [`Decoder::stream_row`]: super::item::Decoder::stream_row

use std::ops::Range;

use super::error::Key;
use super::token::{Reader, Token};
use crate::decode::cursor::Body;
use crate::gather::{ColumnIndex, KEY_WINDOW, Literal, TableBuilder, TableIndex};

/// Templates kept for a body: measurements, times the shapes they come in.
const TEMPLATES_MAX: usize = 16;

/// Templates pay while they foresee one row in so many: a row that they foresee is worth looking
/// for that many times in vain.
const WORTH: u32 = 4;

/// What is put into templates at first, and most of what they can earn.
const WORTH_MAX: u32 = 24;

/// Where they do not pay, one row in so many is looked at all the same.
const LOOK_EVERY: u32 = 64;

/// Parts a row can have: time, tags and fields.
pub(super) const MARKS_MAX: usize = 3;

/// What stands behind a key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Part {
    /// The fields, under this key; read one by one.
    Fields(Key),
    /// The fields as the template knows them: keys to columns.
    KnownFields,
    /// The map of tags.
    Tags,
    /// The time, under this key.
    Time(Key),
}

/// A part of a row, and where it stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    pub(super) part: Part,
    pub(super) start: usize,
    pub(super) end: usize,
}

/// A time of eight bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Clock {
    /// 30 bits of nanoseconds and 34 bits of seconds.
    Extension,
    Integer,
}

/// A field's value of eight bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Hole {
    /// Where it begins in its stretch.
    pub(super) at: usize,
    pub(super) column: ColumnIndex,
    pub(super) is_float: bool,
}

/// Bytes of one length in every row: literals, and values between them.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Stretch {
    /// The bytes a window at a time; those of values do not count.
    literals: Vec<Literal>,
    pub(super) len: usize,
    /// Where the time begins, if it is here.
    pub(super) time: Option<(usize, Clock)>,
    /// Whether the values of the fields are in it.
    pub(super) has_holes: bool,
    /// What stands behind it, unless the row ends there.
    pub(super) behind: Option<Part>,
}

impl Stretch {
    /// Whether these bytes stand at `it`, which reads `body`.
    #[inline(always)]
    pub(super) fn is_at(&self, body: Body<'_>, it: &Reader<'_>) -> bool {
        let is_literal = |(index, literal): (usize, &Literal)| {
            body.window(it.at + index * KEY_WINDOW).is_some_and(|window| literal.begins(window))
        };
        it.at + self.len <= it.bytes.len() && self.literals.iter().enumerate().all(is_literal)
    }
}

/// Stretches being put together: the bytes of the last one, and which of them count.
#[derive(Default)]
struct Draft {
    done: Vec<Stretch>,
    holes: Vec<Hole>,
    open: Stretch,
    bytes: Vec<u8>,
    mask: Vec<u8>,
}

impl Draft {
    fn literal(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.mask.resize(self.bytes.len(), 0xff);
    }

    /// Leaves room for a value, and says where it begins.
    fn hole(&mut self) -> usize {
        let at = self.bytes.len();
        self.bytes.resize(at + 8, 0);
        self.mask.resize(at + 8, 0);
        at
    }

    fn close(&mut self, behind: Option<Part>) {
        let windows = self.bytes.chunks(KEY_WINDOW).zip(self.mask.chunks(KEY_WINDOW));
        let literals = windows.filter_map(|(bytes, mask)| Literal::masked(bytes, mask)).collect();
        let len = self.bytes.len();
        let open = std::mem::take(&mut self.open);
        self.done.push(Stretch { literals, len, behind, ..open });
        self.bytes.clear();
        self.mask.clear();
    }
}

/// The fields of a row: keys and columns in their order, and where the values stand.
struct Fields {
    keys: Vec<(Literal, ColumnIndex)>,
    values: Vec<Range<usize>>,
    /// First byte of the first key.
    start: usize,
}

impl Fields {
    /// Reads the map of fields at `mark`. `None`: it is none, a key is too long, or a field was
    /// not stored.
    fn new(body: Body<'_>, table: &mut TableBuilder, mark: &Mark) -> Option<Self> {
        let mut it = Reader::new(body.bytes().get(..mark.end)?, mark.start);
        let Token::Map(pairs) = it.token().ok()? else { return None };
        let start = it.at;
        let (mut keys, mut values) = (Vec::with_capacity(pairs), Vec::with_capacity(pairs));
        for _ in 0..pairs {
            let key_at = it.at;
            let (Token::Str(name) | Token::Bin(name)) = it.token().ok()? else { return None };
            let key = Literal::new(it.since(key_at))?;
            let value_at = it.at;
            if it.token().ok()? == Token::Nil {
                return None;
            }
            keys.push((key, table.field(std::str::from_utf8(name).ok()?).ok()?));
            values.push(value_at..it.at);
        }
        Some(Self { keys, values, start })
    }

    /// Adds keys and values to `draft` as literals and holes. `None`: not all values have eight
    /// bytes.
    fn fill_in(&self, body: Body<'_>, draft: &mut Draft) -> Option<()> {
        let mut from = self.start;
        draft.open.has_holes = true;
        (!self.keys.is_empty()).then_some(())?;
        for ((_, column), value) in self.keys.iter().zip(&self.values) {
            let marker = *body.bytes().get(value.start)?;
            if !matches!(marker, 0xcb | 0xd3) {
                return None;
            }
            draft.literal(body.bytes().get(from..=value.start)?);
            let hole = Hole { at: draft.hole(), column: *column, is_float: marker == 0xcb };
            draft.holes.push(hole);
            from = value.end;
        }
        Some(())
    }
}

/// The stretches of the row at `row`, whose parts are `marks`, and the holes for `fields`, if they
/// are given. `None`: they cannot be holes.
fn stretches(
    body: Body<'_>,
    row: Range<usize>,
    marks: &[Mark],
    fields: Option<&Fields>,
) -> Option<(Vec<Stretch>, Vec<Hole>)> {
    let bytes = body.bytes();
    let mut draft = Draft::default();
    let mut from = row.start;
    for mark in marks {
        draft.literal(bytes.get(from..mark.start)?);
        match (mark.part, bytes.get(mark.start..mark.end)?, fields) {
            (Part::Time(_), [0xd3, ..], _) => {
                draft.literal(&[0xd3]);
                draft.open.time = Some((draft.hole(), Clock::Integer));
            }
            (Part::Time(_), [0xd7, 0xff, ..], _) => {
                draft.literal(&[0xd7, 0xff]);
                draft.open.time = Some((draft.hole(), Clock::Extension));
            }
            (Part::KnownFields, _, Some(fields)) => fields.fill_in(body, &mut draft)?,
            (part, ..) => draft.close(Some(part)),
        }
        from = mark.end;
    }
    draft.literal(bytes.get(from..row.end)?);
    if !draft.bytes.is_empty() {
        draft.close(None);
    }
    Some((draft.done, draft.holes))
}

/// Rows of one table with the same keys in the same order.
#[derive(Debug)]
pub(super) struct Template {
    pub(super) table: TableIndex,
    /// The stretches without the fields, which are [`Part::KnownFields`].
    outline: Vec<Stretch>,
    /// Their keys in their order, and where their values go.
    pub(super) fields: Vec<(Literal, ColumnIndex)>,
    /// The stretches that rows are compared with: those with holes for the fields, or the outline
    /// where values were seen in other widths, or refused.
    pub(super) stretches: Vec<Stretch>,
    /// The holes of the fields, all in one stretch; `None` where there are none.
    pub(super) holes: Option<Vec<Hole>>,
    /// The template of the row after this one, the last time.
    pub(super) next: usize,
}

impl Template {
    /// Has the values of the fields read one by one from here on.
    #[cold]
    pub(super) fn loosen(&mut self) {
        self.stretches.clone_from(&self.outline);
        self.holes = None;
    }

    /// Whether the row at `it` begins like this one.
    #[inline(always)]
    fn begins(&self, body: Body<'_>, it: &Reader<'_>) -> bool {
        self.stretches.first().is_some_and(|first| first.is_at(body, it))
    }
}

/// The templates of a body.
///
/// Writers that give each row's keys an order of its own have more shapes than there are templates:
/// comparing and learning in vain would cost them more than reading.
#[derive(Debug)]
pub(super) struct Templates {
    pub(super) all: Vec<Template>,
    /// What they have earned: [`WORTH`] for a row foreseen, less one for each that was not.
    earned: u32,
    /// Rows left until the next one is looked at, while nothing is earned.
    unseen: u32,
    /// The template of the last row.
    pub(super) last: usize,
    /// Bytes of the tags that were not foreseen last, and whether those before had as many.
    pub(super) tags_len: usize,
    pub(super) is_length_kept: bool,
}

impl Default for Templates {
    fn default() -> Self {
        Self {
            all: Vec::new(),
            earned: WORTH_MAX,
            unseen: 0,
            last: 0,
            tags_len: 0,
            is_length_kept: false,
        }
    }
}

impl Templates {
    /// Whether the next row should be compared, and learnt from.
    #[inline(always)]
    pub(super) fn are_worth_a_look(&self) -> bool {
        self.earned > 0 || self.unseen == 0
    }

    /// So many rows were foreseen.
    #[inline(always)]
    pub(super) fn hit(&mut self, rows: usize) {
        let rows = u32::try_from(rows).unwrap_or(WORTH_MAX).min(WORTH_MAX);
        self.earned = (self.earned + rows * WORTH).min(WORTH_MAX);
    }

    /// A row was not foreseen.
    #[inline(always)]
    pub(super) fn miss(&mut self) {
        self.earned = self.earned.saturating_sub(1);
        self.unseen = self.unseen.checked_sub(1).unwrap_or(LOOK_EVERY);
    }

    /// Learns from the row of `table` that stands at `row`. `None`: it is like none that a
    /// template can describe, or there is no room for another.
    #[cold]
    pub(super) fn learn(
        &mut self,
        body: Body<'_>,
        table: (TableIndex, &mut TableBuilder),
        row: Range<usize>,
        marks: &[Option<Mark>],
    ) -> Option<()> {
        let (table, builder) = table;
        let mut marks: Vec<Mark> = marks.iter().copied().flatten().collect();
        let mut fields = None;
        if let Some(mark) = marks.iter_mut().find(|mark| matches!(mark.part, Part::Fields(_)))
            && let Some(known) = Fields::new(body, builder, mark)
        {
            *mark = Mark { part: Part::KnownFields, start: known.start, end: mark.end };
            fields = Some(known);
        }
        let (outline, _) = stretches(body, row.clone(), &marks, None)?;
        let (stretches, holes) = match &fields {
            Some(fields) => stretches(body, row, &marks, Some(fields)).unzip(),
            None => (None, None),
        };
        let stretches = stretches.unwrap_or_else(|| outline.clone());
        let fields = fields.map_or_else(Vec::new, |fields| fields.keys);
        let is_it =
            |it: &Template| it.table == table && it.outline == outline && it.fields == fields;
        let at = self.all.iter().position(is_it).unwrap_or(self.all.len());
        match self.all.get_mut(at) {
            Some(known) if known.stretches != stretches => known.loosen(),
            Some(_) => {}
            None if at < TEMPLATES_MAX => {
                self.all.push(Template { table, outline, fields, stretches, holes, next: 0 });
            }
            None => return None,
        }
        if let Some(before) = self.all.get_mut(self.last) {
            before.next = at;
        }
        self.last = at;
        Some(())
    }
}

/// The template that the row at `it` begins like: the one that followed the last one before, or
/// whichever does.
#[inline(always)]
pub(super) fn foresee(
    templates: &mut [Template],
    last: usize,
    body: Body<'_>,
    it: &Reader<'_>,
) -> Option<usize> {
    let next = templates.get(last)?.next;
    if templates.get(next)?.begins(body, it) {
        Some(next)
    } else {
        look_up(templates, last, body, it)
    }
}

#[inline(never)]
fn look_up(
    templates: &mut [Template],
    last: usize,
    body: Body<'_>,
    it: &Reader<'_>,
) -> Option<usize> {
    let found = templates.iter().position(|template| template.begins(body, it))?;
    templates.get_mut(last)?.next = found;
    Some(found)
}
