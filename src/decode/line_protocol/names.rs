//! The names of one line: without escapes, and each only once.

use super::LineError;
use super::escape::{Dialect, Place, Scratch};
use super::token::{Span, Tokens};
use crate::decode::Reason;
use crate::gather::AppendError;
use crate::schema::{Role, TIME};

/// Why a line is not taken.
pub(super) enum Refusal {
    /// By itself: read by the other backslash rule it may be fine.
    Line(Reason),
    /// The columns do not take it.
    Columns(AppendError),
}

impl From<LineError> for Refusal {
    fn from(error: LineError) -> Self {
        Self::Line(Reason::LineProtocol(error))
    }
}

/// The text of spans.
pub(super) struct Names<'a, 's> {
    /// Valid text that holds the line, and where in the body it starts.
    pub(super) text: &'a str,
    pub(super) text_start: usize,
    pub(super) scratch: &'s mut [Scratch; 2],
    pub(super) dialect: Dialect,
    /// Whether there may be escapes at all.
    pub(super) has_backslash: bool,
}

impl Names<'_, '_> {
    /// `span` without its escapes.
    pub(super) fn plain(&mut self, span: Span, place: Place) -> &str {
        let Self { text, text_start, dialect, has_backslash, .. } = *self;
        let [scratch, _] = self.scratch;
        let text = text_of(text, text_start, span);
        if has_backslash { plain(text, scratch, place, dialect) } else { text }
    }

    /// Key and value of a tag without their escapes.
    pub(super) fn tag(&mut self, key: Span, value: Span) -> (&str, &str) {
        let Self { text, text_start, dialect, has_backslash, .. } = *self;
        let [of_key, of_value] = self.scratch;
        let (key, value) = (text_of(text, text_start, key), text_of(text, text_start, value));
        if !has_backslash {
            return (key, value);
        }
        let key = plain(key, of_key, Place::Key, dialect);
        (key, plain(value, of_value, Place::Key, dialect))
    }
}

/// Spans lie in the line, and the line in the text.
fn text_of(text: &str, text_start: usize, span: Span) -> &str {
    text.get(span.start - text_start..span.end - text_start).unwrap_or_default()
}

fn plain<'a>(text: &'a str, scratch: &'a mut Scratch, place: Place, dialect: Dialect) -> &'a str {
    match memchr::memchr(b'\\', text.as_bytes()) {
        None => text,
        Some(_) => scratch.unescape(text, place, dialect),
    }
}

/// Refuses the line when a name is given twice, or a tag is called `time`.
#[cold]
pub(super) fn check_names(tokens: &Tokens, names: &mut Names<'_, '_>) -> Result<(), Refusal> {
    check_repeated(tokens, names)?;
    for (key, _) in &tokens.tags {
        if names.plain(*key, Place::Key) == TIME {
            let error = AppendError::ReservedName { role: Role::Tag };
            return Err(Refusal::Line(Reason::Append(error)));
        }
    }
    Ok(())
}

/// Refuses the line when a name is given twice: the first of these places counts.
#[cold]
pub(super) fn check_repeated(tokens: &Tokens, names: &mut Names<'_, '_>) -> Result<(), Refusal> {
    let keys = tokens.tags.iter().map(|(key, _)| key).chain(tokens.fields.iter().map(|it| &it.0));
    let mut sorted: Vec<(String, usize)> = keys
        .enumerate()
        .map(|(place, key)| (names.plain(*key, Place::Key).to_owned(), place))
        .collect();
    sorted.sort_unstable();
    let repeated = sorted.windows(2).filter_map(|pair| match pair {
        [(first, earlier), (second, place)] if first == second => Some((*place, *earlier, second)),
        _ => None,
    });
    let Some((place, earlier, name)) = repeated.min() else { return Ok(()) };
    let role_at = |at| if at < tokens.tags.len() { Role::Tag } else { Role::Field };
    if role_at(place) != role_at(earlier) {
        return Err(LineError::SameName.into());
    }
    let error = AppendError::DuplicateColumn { column: (**name).into(), role: role_at(place) };
    Err(Refusal::Line(Reason::Append(error)))
}
