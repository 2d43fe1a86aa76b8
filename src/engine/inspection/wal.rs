//! The journal, read from end to end without touching it.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::JournalReport;
use crate::disk::Disk;
use crate::engine::codes;
use crate::engine::instance::Instance;
use crate::engine::recovery::{Survey, WAL};
use crate::gather::Column;
use crate::journal::{self, Columns, Entry, JournalError, Record};

/// How often the journal is read while each time something else stands in the way.
const TRIES: u32 = 20;

/// A column that was decided: database, measurement and name in files.
type Decided = (String, String, String);

/// What a journal says.
#[derive(Debug, Default)]
pub(super) struct Wal {
    pub(super) report: JournalReport,
    /// What commits go by; that of no table where there is no journal.
    pub(super) instance: Option<Instance>,
    pub(super) survey: Survey,
    /// The unfinished record at the end, by file and offset.
    pub(super) torn: Option<(PathBuf, u64)>,
    /// Sequences of the requests with rows, by database and shard.
    pub(super) writes: BTreeMap<(String, u16), Vec<u64>>,
    /// The last decision of each column.
    pub(super) columns: HashMap<Decided, (u64, Column)>,
    /// Columns that were decided twice, and not alike.
    pub(super) conflicts: Vec<(u64, String)>,
}

impl Wal {
    /// Reads the journal of `data_dir`. A running server writes behind what was read and takes
    /// away what is old, which looks like damage, but in another place each time: an error is one
    /// when it is met twice in the same place.
    pub(super) fn read(disk: &Arc<dyn Disk>, data_dir: &Path) -> Result<Self, JournalError> {
        let mut last: Option<JournalError> = None;
        for _ in 1..TRIES {
            match Self::try_read(disk, data_dir) {
                Ok(wal) => return Ok(wal),
                Err(error) => {
                    let is_same = |it: &JournalError| {
                        (&it.file, it.offset, it.operation)
                            == (&error.file, error.offset, error.operation)
                    };
                    if last.as_ref().is_some_and(is_same) {
                        return Err(error);
                    }
                    last = Some(error);
                }
            }
        }
        Self::try_read(disk, data_dir)
    }

    fn try_read(disk: &Arc<dyn Disk>, data_dir: &Path) -> Result<Self, JournalError> {
        let options = journal::Options::default();
        let recovered = journal::open(Arc::clone(disk), &data_dir.join(WAL), &options)?;
        let mut wal = Self::default();
        recovered.records(|record| {
            wal.record(&record);
            Ok::<(), JournalError>(())
        })?;
        if recovered.segment_count() > 0 {
            let instance = Instance::new(recovered.instance);
            wal.report.instance = Some(instance.hex().to_owned());
            wal.instance = Some(instance);
        }
        wal.report.files = recovered.segment_count();
        wal.report.records = recovered.record_count();
        wal.report.last_sequence = recovered.last_sequence();
        let relative = |file: &Path| file.strip_prefix(data_dir).unwrap_or(file).to_owned();
        wal.torn = recovered.torn().map(|it| (relative(&it.file), it.offset));
        let Self { survey, writes, columns, .. } = &mut wal;
        for ((database, _), sequences) in writes {
            sequences.retain(|sequence| !survey.is_dropped(database, *sequence));
        }
        columns.retain(|(database, ..), (sequence, _)| !survey.is_dropped(database, *sequence));
        Ok(wal)
    }

    /// Requests above what any table of their database names for their shard. A shard's tables are
    /// sealed together, so that those below are published, or were about to be.
    pub(super) fn unpublished(&self, published: &HashMap<(String, u16), u64>) -> u64 {
        let count = |(key, sequences): (&(String, u16), &Vec<u64>)| {
            let upto = published.get(key).copied().unwrap_or_default();
            sequences.iter().filter(|sequence| **sequence > upto).count() as u64
        };
        self.writes.iter().map(count).sum()
    }

    fn record(&mut self, record: &Record<'_>) {
        if self.report.first_sequence == 0 {
            self.report.first_sequence = record.sequence;
        }
        self.survey.note(record);
        match &record.entry {
            Entry::Write(write) if write.accepted > 0 || write.rejected_kept > 0 => {
                let key = (write.database.to_owned(), write.shard);
                self.writes.entry(key).or_default().push(record.sequence);
            }
            Entry::Columns(decided) => self.decided(record.sequence, decided),
            // What was decided before is of another measurement of the same name.
            Entry::Drop { database } => self.columns.retain(|(of, ..), _| of != database),
            _ => {}
        }
    }

    fn decided(&mut self, sequence: u64, decided: &Columns<'_>) {
        for coded in decided.columns.iter() {
            let name = coded.physical;
            let of = format!("{}/{}: column {name}", decided.database, decided.measurement);
            let Some(column) = codes::to_column(coded) else {
                self.conflicts.push((sequence, format!("{of}: expected a known kind and role")));
                continue;
            };
            let key =
                (decided.database.to_owned(), decided.measurement.to_owned(), name.to_owned());
            match self.columns.get(&key) {
                Some((_, known)) if (known.kind, known.role) != (column.kind, column.role) => {
                    let what = format!("{of}: expected {}, found {}", known.kind, column.kind);
                    self.conflicts.push((sequence, what));
                }
                _ => drop(self.columns.insert(key, (sequence, column))),
            }
        }
    }
}
