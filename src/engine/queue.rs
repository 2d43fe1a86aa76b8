//! Who waits for room, and whose turn it is.
//!
//! ```text
//! greedy  given 900 KiB   [64] [64] [64] [64] ...
//! polite  given 128 KiB   [64]                       <- the next turn: it was given least
//! ```
//!
//! Room goes to the tenant that was given the fewest bytes while anybody waited (max-min fairness,
//! by start-time fair queueing): one that asks for less than its share gets all it asks for, and
//! what it leaves is shared by the others. Within a tenant, whoever came first. A body that does
//! not fit keeps its turn, so that small ones do not starve it.
//!
//! A tenant that comes begins where the one served last began its turn: it neither saves up while
//! it asks for nothing nor pays for others. Where all places are taken, the one that came last of
//! the tenant with the most bytes waiting gives way.
//!
//! Cost: a step for each tenant that waits, at each turn.

use std::borrow::Cow;
use std::collections::VecDeque;

/// Who shares room with others: the holder of a token. Where nobody had to say who they are it is
/// the database: addresses say little behind a proxy, and cost nothing to have more of.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Tenant<'a> {
    /// The number of a token.
    Token(u64),
    /// The name of a database.
    Database(Cow<'a, str>),
}

impl Tenant<'_> {
    fn into_owned(self) -> Tenant<'static> {
        match self {
            Self::Token(id) => Tenant::Token(id),
            Self::Database(name) => Tenant::Database(Cow::Owned(name.into_owned())),
        }
    }
}

/// Those who wait, each with the bytes it asks for and a value.
#[derive(Debug)]
pub struct FairQueue<T> {
    /// Tenants that wait, and those that were given more than `level` and might come again.
    lines: Vec<Line<T>>,
    len: usize,
    len_max: usize,
    bytes: usize,
    /// What the tenant served last had been given before.
    level: u64,
    next_ticket: u64,
}

/// The place of one that waits.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct QueueTicket(u64);

/// What waits of one tenant.
#[derive(Debug)]
struct Line<T> {
    tenant: Tenant<'static>,
    /// Bytes given, counted from where it began.
    given: u64,
    waiting: VecDeque<Waiting<T>>,
    bytes: usize,
}

#[derive(Debug)]
struct Waiting<T> {
    ticket: u64,
    bytes: usize,
    value: T,
}

impl<T> FairQueue<T> {
    /// A queue of at most `len_max` places, at least one.
    pub fn new(len_max: usize) -> Self {
        let len_max = len_max.max(1);
        Self { lines: Vec::new(), len: 0, len_max, bytes: 0, level: 0, next_ticket: 0 }
    }

    /// Places taken.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What all who wait ask for.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes a place. Also gives back who had to give way for it, if anybody: it may be `value`.
    pub fn push(&mut self, tenant: Tenant<'_>, bytes: usize, value: T) -> (QueueTicket, Option<T>) {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let waiting = Waiting { ticket, bytes, value };
        match self.lines.iter_mut().find(|line| line.tenant == tenant) {
            Some(line) => {
                line.given = line.given.max(if line.waiting.is_empty() { self.level } else { 0 });
                line.bytes += bytes;
                line.waiting.push_back(waiting);
            }
            None => self.lines.push(Line {
                tenant: tenant.into_owned(),
                given: self.level,
                waiting: VecDeque::from([waiting]),
                bytes,
            }),
        }
        self.len += 1;
        self.bytes += bytes;
        let gave_way = if self.len > self.len_max { self.pop_last_of_largest() } else { None };
        (QueueTicket(ticket), gave_way)
    }

    /// Takes out whose turn it is, with the bytes it asked for, if these `fits`.
    pub fn pop(&mut self, fits: impl FnOnce(usize) -> bool) -> Option<(usize, T)> {
        let turn = |line: &&mut Line<T>| {
            line.waiting.front().map_or((u64::MAX, u64::MAX), |first| (line.given, first.ticket))
        };
        let line = self.lines.iter_mut().min_by_key(turn)?;
        let bytes = line.waiting.front()?.bytes;
        if !fits(bytes) {
            return None;
        }
        let first = line.waiting.pop_front()?;
        self.level = line.given;
        line.given += bytes as u64;
        line.bytes -= bytes;
        self.leave(bytes);
        Some((bytes, first.value))
    }

    /// Takes out one that waits no more; `None` when it is gone.
    pub fn remove(&mut self, ticket: QueueTicket) -> Option<T> {
        let (line, at) = self.lines.iter_mut().find_map(|line| {
            // They are in the order of their tickets.
            let at = line.waiting.binary_search_by_key(&ticket.0, |it| it.ticket).ok()?;
            Some((line, at))
        })?;
        let Waiting { bytes, value, .. } = line.waiting.remove(at)?;
        line.bytes -= bytes;
        self.leave(bytes);
        Some(value)
    }

    fn pop_last_of_largest(&mut self) -> Option<T> {
        let line = self.lines.iter_mut().max_by_key(|line| line.bytes)?;
        let Waiting { bytes, value, .. } = line.waiting.pop_back()?;
        line.bytes -= bytes;
        self.leave(bytes);
        Some(value)
    }

    fn leave(&mut self, bytes: usize) {
        self.len -= 1;
        self.bytes -= bytes;
        if self.len == 0 {
            self.lines.clear();
            self.level = 0;
        } else {
            let level = self.level;
            self.lines.retain(|line| !line.waiting.is_empty() || line.given > level);
        }
    }
}
