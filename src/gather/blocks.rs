//! Runs of items, kept in blocks: what grows with every new series is neither copied nor doubled,
//! for most of the time that a new series takes went into pages that were touched twice.
//!
//! ```text
//! blocks   [ run 0 | run 1 | run 2 .]  [ run 3, longer than a block ]  [ run 4 | ..      ]
//! ```
//!
//! Invariant: no run crosses the end of a block.

/// Items of a block, unless its only run is longer.
const BLOCK_LEN: usize = 1 << 17;

/// Where a run is; by default, that of no items.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Run {
    block: u32,
    start: u32,
    /// Items.
    pub(super) len: u32,
}

/// Runs, each at the place that it was given when it was added.
#[derive(Debug)]
pub(super) struct Blocks<T> {
    blocks: Vec<Vec<T>>,
    len: usize,
}

impl<T> Default for Blocks<T> {
    fn default() -> Self {
        Self { blocks: Vec::new(), len: 0 }
    }
}

/// `number` as runs have it.
fn narrow(number: usize) -> u32 {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a run is a part of one body, of less than 4 GiB; a block of several has \
                  BLOCK_LEN items at most, and there are fewer blocks than fit the memory"
    )]
    {
        number as u32
    }
}

impl<T: Copy> Blocks<T> {
    /// Items of all runs.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Adds a run behind all others.
    pub(super) fn push(&mut self, run: &[T]) -> Run {
        let has_room = |block: &Vec<T>| block.len() + run.len() <= BLOCK_LEN;
        if !self.blocks.last().is_some_and(has_room) {
            // The first one grows as it needs to: most tables have few series.
            let capacity = if self.blocks.is_empty() { 0 } else { BLOCK_LEN };
            self.blocks.push(Vec::with_capacity(capacity));
        }
        self.len += run.len();
        let at = self.blocks.len() - 1;
        let Some(block) = self.blocks.last_mut() else { return Run::default() };
        let start = block.len();
        block.extend_from_slice(run);
        Run { block: narrow(at), start: narrow(start), len: narrow(run.len()) }
    }

    /// The items of a run.
    #[inline(always)]
    pub(super) fn get(&self, run: Run) -> &[T] {
        let (start, len) = (run.start as usize, run.len as usize);
        let block = self.blocks.get(run.block as usize);
        block.and_then(|it| it.get(start..start + len)).unwrap_or_default()
    }

    /// Forgets the runs behind `last`.
    pub(super) fn truncate(&mut self, last: Run) {
        self.blocks.truncate(last.block as usize + 1);
        if let Some(block) = self.blocks.last_mut() {
            block.truncate((last.start + last.len) as usize);
        }
        self.len = self.blocks.iter().map(Vec::len).sum();
    }
}
