//! Tables: their logs against the files on disk, the footers in these, and the journal.

use std::collections::{HashMap, HashSet};
use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use super::wal::Wal;
use super::{Check, Inspection};
use crate::disk::Disk;
use crate::engine::instance::Instance;
use crate::engine::publisher::with_sources;
use crate::engine::recovery::WAL;
use crate::error::ServerError;
use crate::persist::{self, Footer, FoundSegment, Inventory, layout};
use crate::publish::{self, Catalog, LiveFile, PublishError, TableState, TableView};
use crate::schema::{ColumnKind, StoredType};

/// A look at all tables.
#[derive(Debug)]
pub(super) struct Tables<'a> {
    disk: &'a Arc<dyn Disk>,
    data_dir: &'a Path,
    wal: Option<&'a Wal>,
    inventory: &'a Inventory,
    found: &'a mut Inspection,
    /// The last sequence that a table names, by database and shard.
    pub(super) published: HashMap<(String, u16), u64>,
    /// The last sequence of the journal that a table names.
    journal: u64,
}

impl<'a> Tables<'a> {
    pub(super) fn new(
        disk: &'a Arc<dyn Disk>,
        data_dir: &'a Path,
        wal: Option<&'a Wal>,
        inventory: &'a Inventory,
        found: &'a mut Inspection,
    ) -> Self {
        Self { disk, data_dir, wal, inventory, found, published: HashMap::new(), journal: 0 }
    }

    /// Looks at all of them.
    pub(super) fn run(&mut self, catalog: &Catalog) -> Result<(), ServerError> {
        for directory in catalog.table_directories()? {
            if self.is_being_dropped(&directory) {
                continue;
            }
            if let Err(error) = self.directory(catalog, &directory) {
                self.log_error(&directory, &error);
            }
        }
        self.journal_end();
        let name = |it: &TableState| (it.database.clone(), it.measurement.clone());
        self.found.tables.sort_by_cached_key(name);
        Ok(())
    }

    fn is_being_dropped(&self, directory: &Path) -> bool {
        let mut drops = self.wal.iter().flat_map(|it| it.survey.unfinished_drops());
        drops.any(|it| directory.starts_with(layout::database_directory(it)))
    }

    fn log_error(&mut self, directory: &Path, error: &PublishError) {
        let (path, what) = match &error.cause {
            publish::Cause::Broken { file } => {
                (directory.join("_delta_log").join(file), error.cause.to_string())
            }
            _ => (directory.to_owned(), with_sources(error)),
        };
        self.found.is_inconsistent(Check::Log, &path, what);
    }

    fn directory(&mut self, catalog: &Catalog, directory: &Path) -> Result<(), PublishError> {
        let Some(view) = catalog.view(directory)? else {
            self.unknown_files(directory, &[], &HashMap::new(), &HashMap::new());
            return Ok(());
        };
        let TableView { state, files, broken, damaged, .. } = &view;
        if let Some(file) = broken {
            let what = "is not whole: no reader can go beyond it; a start moves it aside if it \
                        is the last";
            self.found.is_inconsistent(Check::Log, file, what);
        }
        for file in damaged {
            let what = "is not as it was written; readers can do without it";
            self.found.is_inconsistent(Check::Log, file, what);
        }
        let expected = layout::table_directory(&state.database, &state.measurement);
        if expected != *directory {
            let what = format!("expected the table of {}, found another", expected.display());
            self.found.is_inconsistent(Check::Log, directory, what);
        }
        self.columns(directory, state);
        for file in files {
            self.file(state, file);
        }
        let shards = self.shards(&view)?;
        let mut committed = HashMap::new();
        if let Some(instance) = self.wal.and_then(|it| it.instance.as_ref()) {
            committed.insert(instance.short(), sequence(view.txn(&instance.segments())?));
            self.journal = self.journal.max(sequence(view.txn(&instance.journal())?));
        }
        self.unknown_files(directory, files, &committed, &shards);
        self.found.tables.push(view.state);
        Ok(())
    }

    /// The sequences that the table names for the shards that wrote to its database.
    fn shards(&mut self, view: &TableView) -> Result<HashMap<u16, u64>, PublishError> {
        let mut shards = HashMap::new();
        let Some((wal, instance)) = self.wal.and_then(|it| Some((it, it.instance.as_ref()?)))
        else {
            return Ok(shards);
        };
        let database = &view.state.database;
        for (of, shard) in wal.writes.keys().filter(|(of, _)| of == database) {
            let upto = sequence(view.txn(&instance.shard(*shard))?);
            shards.insert(*shard, upto);
            let most = self.published.entry((of.clone(), *shard)).or_default();
            *most = upto.max(*most);
        }
        Ok(shards)
    }

    /// Kinds against types, and against what the journal says was decided.
    fn columns(&mut self, directory: &Path, state: &TableState) {
        for name in &state.foreign_columns {
            let what = format!("column {name}: of a type that is not ours");
            self.found.note(Check::Columns, directory, what);
        }
        for column in &state.columns {
            let publish::Column { physical, kind, stored, role, .. } = column;
            if !fits(*kind, *stored) {
                let what = format!("column {physical}: {kind} cannot be written as {stored:?}");
                self.found.is_inconsistent(Check::Columns, directory, what);
            }
            let key = (state.database.clone(), state.measurement.clone(), physical.clone());
            let decided = self.wal.and_then(|it| it.columns.get(&key));
            if let Some((sequence, decided)) = decided
                && (decided.kind, decided.role) != (*kind, *role)
            {
                let what = format!(
                    "column {physical}: expected {} ({}) as in record {sequence} of the journal, \
                     found {kind} ({role})",
                    decided.kind, decided.role
                );
                self.found.is_inconsistent(Check::Columns, directory, what);
            }
        }
    }

    /// A live file against what the log says of it.
    fn file(&mut self, state: &TableState, file: &LiveFile) {
        let name = file.path.file_name().unwrap_or_default().to_string_lossy();
        let is_ours = layout::parse_segment_name(&name).is_some();
        let what = match Footer::read(self.disk.as_ref(), &self.data_dir.join(&file.path)) {
            Ok(footer) => disagreement(&footer, state, file, is_ours)
                .or_else(|| self.checksum(&file.path).filter(|_| is_ours)),
            Err(error) => Some(unreadable(&error)),
        };
        if let Some(what) = what {
            self.found.is_inconsistent(Check::File, &file.path, what);
        }
    }

    /// In what the bytes of a segment are not those that were written.
    fn checksum(&self, path: &Path) -> Option<String> {
        match persist::is_intact(self.disk.as_ref(), &self.data_dir.join(path)) {
            Ok(Some(true)) => None,
            Ok(Some(false)) => Some("is damaged: its checksum is another".to_owned()),
            Ok(None) => Some("expected a checksum in the footer, found none".to_owned()),
            Err(error) => Some(unreadable(&error)),
        }
    }

    /// Segments in `directory` that are not live: below what is committed they never should be.
    fn unknown_files(
        &mut self,
        directory: &Path,
        live: &[LiveFile],
        committed: &HashMap<String, u64>,
        shards: &HashMap<u16, u64>,
    ) {
        let live: HashSet<&Path> = live.iter().map(|it| it.path.as_path()).collect();
        let mut committed = committed.clone();
        for file in &live {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            if let Some((instance, sequence)) = layout::parse_segment_name(&name) {
                let last = committed.entry(instance.to_owned()).or_default();
                *last = sequence.max(*last);
            }
        }
        let inventory = self.inventory;
        let is_unknown =
            |it: &&FoundSegment| it.table == directory && !live.contains(it.path.as_path());
        for segment in inventory.segments.iter().filter(is_unknown) {
            self.unknown_file(segment, committed.get(&segment.instance).copied(), shards);
        }
    }

    fn unknown_file(
        &mut self,
        segment: &FoundSegment,
        committed: Option<u64>,
        shards: &HashMap<u16, u64>,
    ) {
        let FoundSegment { path, instance, sequence, .. } = segment;
        let of_journal = self.wal.and_then(|it| it.instance.as_ref()).map(Instance::short);
        let is_ours = of_journal.as_ref() == Some(instance);
        if let Some(committed) = committed.filter(|it| sequence <= it) {
            let what = format!(
                "is not in the log, which has files of this journal up to {committed:016x}"
            );
            self.found.is_inconsistent(Check::Orphan, path, what);
        } else if !is_ours {
            let what = "is not in the log, and of another journal: no reader knows it";
            self.found.note(Check::Orphan, path, what);
        } else if self.has_records(segment, shards) {
            let what = "is not in the log yet: its rows are in the journal";
            self.found.note(Check::Orphan, path, what);
        } else {
            let what = "is not in the log, and the journal has no record of its rows";
            self.found.is_inconsistent(Check::Sequence, path, what);
        }
    }

    /// Whether the journal has a request whose rows may be in `segment` and not in its table.
    fn has_records(&self, segment: &FoundSegment, shards: &HashMap<u16, u64>) -> bool {
        let mut writes = self.wal.iter().flat_map(|it| &it.writes);
        writes.any(|((database, shard), sequences)| {
            let upto = shards.get(shard).copied().unwrap_or_default();
            segment.table.starts_with(layout::database_directory(database))
                && sequences.iter().any(|sequence| *sequence > upto)
        })
    }

    /// That the journal goes as far as tables name it. It was read before them: it is read again
    /// before it is said to be short.
    fn journal_end(&mut self) {
        let is_short = |wal: &Wal| wal.report.last_sequence < self.journal;
        if !self.wal.is_some_and(is_short) {
            return;
        }
        let Ok(wal) = Wal::read(self.disk, self.data_dir) else { return };
        if is_short(&wal) {
            let (named, last) = (self.journal, wal.report.last_sequence);
            let what = format!(
                "tables name record {named}, found {last} as the last: its end was lost, which \
                 only --durability os allows for"
            );
            self.found.is_inconsistent(Check::Sequence, Path::new(WAL), what);
        }
    }
}

/// A sequence as a table names it.
fn sequence(txn: Option<i64>) -> u64 {
    txn.and_then(|it| u64::try_from(it).ok()).unwrap_or_default()
}

/// Whether values of a kind can be written so.
fn fits(kind: ColumnKind, stored: StoredType) -> bool {
    match kind {
        ColumnKind::Bool => stored == StoredType::Boolean,
        ColumnKind::F64 => stored == StoredType::Float64,
        ColumnKind::I64 => matches!(stored, StoredType::Int16 | StoredType::Int64),
        ColumnKind::String => stored == StoredType::String,
        ColumnKind::Time => stored == StoredType::Timestamp,
        ColumnKind::U64 => matches!(stored, StoredType::Decimal | StoredType::Int64),
    }
}

/// Why a footer cannot be read, without the path.
fn unreadable(error: &persist::PersistError) -> String {
    match &error.cause {
        persist::Cause::Io(cause) if cause.kind() == std::io::ErrorKind::NotFound => {
            "is in the log and not on disk".to_owned()
        }
        _ => error.source().map_or_else(|| error.to_string(), with_sources),
    }
}

/// The first thing in which a footer is not what the log says.
fn disagreement(
    footer: &Footer,
    state: &TableState,
    file: &LiveFile,
    is_ours: bool,
) -> Option<String> {
    let differ = |what: &str, expected: &str, found: &str| {
        (expected != found).then(|| format!("{what}: expected {expected}, found {found}"))
    };
    let numbers = [
        ("bytes", file.bytes, footer.bytes),
        ("rows", file.rows.unwrap_or(footer.rows), footer.rows),
        ("rows of all groups", footer.rows, footer.group_rows),
    ];
    let of_numbers = numbers.into_iter().find_map(|(what, expected, found)| {
        differ(what, &expected.to_string(), &found.to_string())
    });
    if of_numbers.is_some() || !is_ours {
        return of_numbers;
    }
    let names = [
        ("database", &state.database, &footer.database),
        ("measurement", &state.measurement, &footer.measurement),
    ];
    let of_names = names.into_iter().find_map(|(what, expected, found)| {
        differ(what, expected, found.as_deref().unwrap_or("none"))
    });
    of_names.or_else(|| footer.columns.iter().find_map(|found| of_column(found, state)))
}

/// In what a column of a footer is not that of the table.
fn of_column(found: &persist::FooterColumn, state: &TableState) -> Option<String> {
    let name = &found.name;
    let Some(column) = state.columns.iter().find(|it| it.physical == *name) else {
        return Some(format!("column {name}: the table has none of this name"));
    };
    let is_same = found.stored == Some(column.stored)
        && found.kind.is_none_or(|it| it == column.kind)
        && found.role.is_none_or(|it| it == column.role);
    (!is_same).then(|| {
        let publish::Column { kind, role, stored, .. } = column;
        let persist::FooterColumn { kind: its_kind, role: its_role, stored: its_stored, .. } =
            found;
        format!(
            "column {name}: expected {kind} ({role}, {stored:?}), found {} ({}, {})",
            its_kind.map_or("no kind", ColumnKind::name),
            its_role.map_or("no role", crate::schema::Role::name),
            its_stored.map_or_else(|| "another type".to_owned(), |it| format!("{it:?}")),
        )
    })
}
