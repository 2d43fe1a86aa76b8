//! What every measurement's columns are, decided once and for all shards.
//!
//! A shard asks here only when it meets a column for the first time; the first *accepted* value
//! fixes kind and role for ever (decision 5). A row that is rejected never gets this far.
//!
//! For ever means across restarts: what is decided is told to a [`Witness`], who writes it down
//! before any row that relies on it, and [`Registry::restore`] brings it back.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};

use super::AppendError;
use super::column_builder::ColumnBuilder;
use crate::limits::Limits;
use crate::schema::pinned::PinnedSchema;
use crate::schema::{
    ColumnKind, DATE, METADATA_KIND, METADATA_NAME, METADATA_ROLE, METADATA_UNIT, Role, TIME,
    TIME_NS, Unsigned, physical_name,
};

/// A column as the registry knows it.
#[derive(Clone, Debug)]
pub struct Column {
    /// The name on the wire.
    pub name: Arc<str>,
    /// The name in files; see [`physical_name`].
    pub physical: Arc<str>,
    /// Fixed by the first accepted value, or pinned.
    pub kind: ColumnKind,
    /// Fixed by the first accepted row, or pinned.
    pub role: Role,
    /// The unit of its values, if a pin states one.
    pub unit: Option<Arc<str>>,
}

/// The columns of a measurement.
#[derive(Debug, Default)]
struct Columns {
    /// In the order of first acceptance; a column's index here is its slot.
    list: Vec<Column>,
    /// How many names there are for each lower-case form.
    twins: HashMap<String, usize>,
}

impl Columns {
    fn find(&self, name: &str) -> Option<(usize, &Column)> {
        self.list.iter().enumerate().find(|(_, it)| &*it.name == name)
    }

    /// Adds a column and returns its slot.
    fn insert(&mut self, name: &str, kind: ColumnKind, role: Role, unit: Option<&str>) -> usize {
        let folded = name.to_lowercase();
        let reserved = usize::from([DATE, TIME, TIME_NS].contains(&folded.as_str()));
        let twins = self.twins.entry(folded).or_insert(reserved);
        let physical = physical_name(name, *twins).into();
        *twins += 1;
        let unit = unit.map(Arc::from);
        self.list.push(Column { name: name.into(), physical, kind, role, unit });
        self.list.len() - 1
    }

    /// Adds a column under the name in files that it had.
    fn restore(&mut self, column: &Column) {
        let slot = self.insert(&column.name, column.kind, column.role, column.unit.as_deref());
        if let Some(inserted) = self.list.get_mut(slot) {
            inserted.physical = Arc::clone(&column.physical);
        }
    }

    /// The name in files of a column, or of `time`.
    fn physical(&self, name: &str) -> String {
        let column = self.list.iter().find(|it| &*it.name == name);
        column.map_or(name, |it| &*it.physical).to_owned()
    }
}

/// One measurement of one database, shared by all shards.
#[derive(Debug)]
pub struct Measurement {
    /// Its database.
    pub database: Arc<str>,
    /// Its name on the wire.
    pub name: Arc<str>,
    /// Whether unknown columns are refused instead of widening it.
    is_closed: bool,
    /// How its U64 columns are written.
    unsigned: Unsigned,
    /// The order of its rows in files, by physical names.
    sort_key: Vec<String>,
    columns: Mutex<Columns>,
    /// Rows accepted, in this run or before.
    rows: AtomicU64,
    /// Segments written, in this run or before.
    files: AtomicU64,
    bytes: AtomicU64,
}

impl Measurement {
    fn new(
        database: &Arc<str>,
        name: &str,
        unsigned: Unsigned,
        pin: Option<&PinnedSchema>,
        decided: &[Column],
    ) -> Self {
        let mut columns = Columns::default();
        for column in decided {
            columns.restore(column);
        }
        for column in pin.into_iter().flat_map(|pin| &pin.columns) {
            if columns.find(&column.name).is_none() {
                columns.insert(&column.name, column.kind, column.role, column.unit.as_deref());
            }
        }
        let sort_key = pin.map_or_else(
            || vec![TIME.to_owned()],
            |pin| pin.sort_key.iter().map(|name| columns.physical(name)).collect(),
        );
        Self {
            database: Arc::clone(database),
            name: name.into(),
            is_closed: pin.is_some_and(|pin| pin.closed),
            unsigned,
            sort_key,
            columns: Mutex::new(columns),
            rows: AtomicU64::new(0),
            files: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Columns> {
        // A panic while the lock is held leaves whole columns only: every change is one insert.
        self.columns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether unknown columns are refused.
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// How its U64 columns are written.
    pub fn unsigned(&self) -> Unsigned {
        self.unsigned
    }

    /// The order of its rows in files: physical names of columns or `time`, as pinned.
    pub fn sort_key(&self) -> &[String] {
        &self.sort_key
    }

    /// The columns, `time` not among them, in the order of first acceptance.
    pub fn columns(&self) -> Vec<Column> {
        self.lock().list.clone()
    }

    /// The column of that name and its slot.
    pub(super) fn find(&self, name: &str) -> Option<(usize, Column)> {
        self.lock().find(name).map(|(slot, it)| (slot, it.clone()))
    }

    /// Makes the `pending` columns of a shard known, or none of them.
    ///
    /// Another shard may have come first with the same name: a kind that holds our values without
    /// loss is adopted, anything else is a conflict. At most `limits.columns_per_table_max` columns
    /// become known. The registry's witness is told of them before another shard can see them.
    pub(super) fn register(
        &self,
        pending: &mut [&mut ColumnBuilder],
        registry: &Registry,
    ) -> Result<(), AppendError> {
        let max = registry.limits.columns_per_table_max;
        let mut columns = self.lock();
        for builder in pending.iter_mut() {
            let Some((slot, known)) = columns.find(&builder.name) else { continue };
            if known.role != builder.role {
                return Err(AppendError::RoleConflict {
                    measurement: (&*self.name).into(),
                    column: (&*known.name).into(),
                    expected: known.role,
                    found: builder.role,
                });
            }
            if let Err(found) = builder.convert(known.kind) {
                return Err(AppendError::KindConflict {
                    measurement: (&*self.name).into(),
                    column: (&*known.name).into(),
                    expected: known.kind,
                    found,
                });
            }
            builder.slot = Some(slot);
        }
        // The shards together hold no more than one of them may.
        let is_new = |it: &&&mut ColumnBuilder| it.slot.is_none() && it.kind().is_some();
        let new = pending.iter().filter(is_new).count();
        if new > 0 && columns.list.len() + new > max {
            return Err(AppendError::TooManyColumns { max });
        }
        let known = columns.list.len();
        for builder in pending.iter_mut().filter(|it| it.slot.is_none()) {
            if let Some(kind) = builder.kind() {
                builder.slot = Some(columns.insert(&builder.name, kind, builder.role, None));
            }
        }
        registry.witness(self, columns.list.get(known..).unwrap_or_default());
        Ok(())
    }

    /// Takes over columns that were decided in an earlier run; those that are known stay.
    fn restore(&self, restored: &[Column]) -> Result<(), RestoreError> {
        let mut columns = self.lock();
        for column in restored {
            if let Some((_, known)) = columns.find(&column.name) {
                if (known.kind, known.role) != (column.kind, column.role) {
                    return Err(RestoreError {
                        measurement: Arc::clone(&self.name),
                        column: Arc::clone(&column.name),
                        expected: (known.kind, known.role),
                        found: (column.kind, column.role),
                    });
                }
                continue;
            }
            columns.restore(column);
        }
        Ok(())
    }

    /// The Arrow fields of all columns, by slot.
    pub(super) fn fields(&self) -> Vec<Field> {
        self.lock().list.iter().map(|column| self.field(column)).collect()
    }

    /// The whole schema a segment of this measurement may have: `time`, `time_ns`, then the
    /// columns in the order of first acceptance.
    pub fn schema(&self) -> SchemaRef {
        let mut fields = vec![time_field(), time_ns_field()];
        fields.extend(self.fields());
        Arc::new(Schema::new(fields))
    }

    fn field(&self, column: &Column) -> Field {
        let data_type = match (column.kind, column.role) {
            (ColumnKind::String, Role::Tag) => {
                DataType::Dictionary(Box::new(DataType::UInt32), Box::new(DataType::Utf8))
            }
            (ColumnKind::String, _) => DataType::Utf8,
            (ColumnKind::Bool, _) => DataType::Boolean,
            (ColumnKind::F64, _) => DataType::Float64,
            (ColumnKind::U64, _) if self.unsigned == Unsigned::Decimal => {
                DataType::Decimal128(20, 0)
            }
            (ColumnKind::I64 | ColumnKind::U64, _) => DataType::Int64,
            (ColumnKind::Time, _) => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        };
        let mut metadata = HashMap::from([
            (METADATA_ROLE.to_owned(), column.role.name().to_owned()),
            (METADATA_NAME.to_owned(), column.name.to_string()),
            (METADATA_KIND.to_owned(), column.kind.name().to_owned()),
        ]);
        if let Some(unit) = &column.unit {
            metadata.insert(METADATA_UNIT.to_owned(), unit.to_string());
        }
        Field::new(&*column.physical, data_type, true).with_metadata(metadata)
    }

    /// Rows accepted, in this run or before.
    pub fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }

    /// Segments written, in this run or before.
    pub fn files(&self) -> u64 {
        self.files.load(Ordering::Relaxed)
    }

    /// Bytes of the segments written, in this run or before.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Counts accepted rows.
    pub(super) fn add_rows(&self, rows: u64) {
        self.rows.fetch_add(rows, Ordering::Relaxed);
    }

    /// Counts what was written in earlier runs.
    pub fn add_stored(&self, rows: u64, files: u64, bytes: u64) {
        self.add_rows(rows);
        self.add_files(files, bytes);
    }

    /// Takes accepted rows back: a replay met them again.
    pub(super) fn remove_rows(&self, rows: u64) {
        self.rows.fetch_sub(rows, Ordering::Relaxed);
    }

    /// Counts written segments, of so many bytes together.
    pub fn add_files(&self, files: u64, bytes: u64) {
        self.files.fetch_add(files, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// The `time` column: never null.
pub(super) fn time_field() -> Field {
    Field::new(TIME, DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), false)
        .with_metadata(HashMap::from([(METADATA_ROLE.to_owned(), Role::Time.name().to_owned())]))
}

/// The `time_ns` column: nanoseconds below the microsecond of `time`, null meaning none.
pub(super) fn time_ns_field() -> Field {
    Field::new(TIME_NS, DataType::Int16, true)
        .with_metadata(HashMap::from([(METADATA_ROLE.to_owned(), Role::Time.name().to_owned())]))
}

/// Databases by name, and in each the measurements by name.
type Databases = BTreeMap<Arc<str>, BTreeMap<Arc<str>, Arc<Measurement>>>;

/// Who is told of every decision: a measurement and columns that became known. It is called under
/// the lock that makes the decision, by the shard whose row needs it.
pub type Witness = Box<dyn Fn(&Measurement, &[Column]) + Send + Sync>;

/// A column that an earlier run decided otherwise.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RestoreError {
    /// The measurement.
    pub measurement: Arc<str>,
    /// The column.
    pub column: Arc<str>,
    /// What it is known as.
    pub expected: (ColumnKind, Role),
    /// What it was.
    pub found: (ColumnKind, Role),
}

impl fmt::Display for RestoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { measurement, column, expected, found } = self;
        write!(
            f,
            "column '{column}' of '{measurement}': expected a {} of kind {}, found a {} of kind {}",
            expected.1, expected.0, found.1, found.0
        )
    }
}

impl std::error::Error for RestoreError {}

/// All databases and their measurements; what a client may have created and what rows made known.
pub struct Registry {
    limits: Limits,
    unsigned: Unsigned,
    pins: BTreeMap<String, PinnedSchema>,
    databases: Mutex<Databases>,
    witness: OnceLock<Witness>,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("databases", &self.databases).finish_non_exhaustive()
    }
}

impl Registry {
    /// An empty registry; `pins` are consulted by measurement name, in every database.
    pub fn new(limits: Limits, unsigned: Unsigned, pins: Vec<PinnedSchema>) -> Self {
        Self {
            limits,
            unsigned,
            pins: pins.into_iter().map(|pin| (pin.measurement.clone(), pin)).collect(),
            databases: Mutex::default(),
            witness: OnceLock::new(),
        }
    }

    /// Has every decision from here on told to `witness`; the first one stays.
    pub fn set_witness(&self, witness: Witness) {
        // A second witness would be a second engine over one registry: the first goes on.
        drop(self.witness.set(witness));
    }

    fn witness(&self, measurement: &Measurement, columns: &[Column]) {
        if let (Some(witness), false) = (self.witness.get(), columns.is_empty()) {
            witness(measurement, columns);
        }
    }

    /// Makes known what an earlier run decided: a measurement, its columns in their order, and how
    /// its unsigned columns are written. Where it is known already, columns are added to it.
    /// Columns that only a pin states come behind those that rows have decided.
    ///
    /// # Errors
    /// [`RestoreError`]: a column is known with another kind or role.
    pub fn restore(
        &self,
        database: &str,
        name: &str,
        columns: &[Column],
        unsigned: Option<Unsigned>,
    ) -> Result<Arc<Measurement>, RestoreError> {
        let mut databases = self.lock();
        let key = databases.get_key_value(database).map(|(known, _)| Arc::clone(known));
        let database = key.unwrap_or_else(|| database.into());
        let measurements = databases.entry(Arc::clone(&database)).or_default();
        if let Some(known) = measurements.get(name) {
            known.restore(columns)?;
            return Ok(Arc::clone(known));
        }
        let unsigned = unsigned.unwrap_or(self.unsigned);
        let restored = Measurement::new(&database, name, unsigned, self.pins.get(name), columns);
        let restored = Arc::new(restored);
        measurements.insert(Arc::clone(&restored.name), Arc::clone(&restored));
        Ok(restored)
    }

    /// The bounds in force.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    fn lock(&self) -> MutexGuard<'_, Databases> {
        // Every change under this lock is one map operation: nothing is left half done by a panic.
        self.databases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Names of all databases, sorted.
    pub fn databases(&self) -> Vec<Arc<str>> {
        self.lock().keys().cloned().collect()
    }

    /// Makes a database known; `false` when there is no room for another
    /// (`limits.databases_max`).
    pub fn create_database(&self, name: &str) -> bool {
        let mut databases = self.lock();
        if !databases.contains_key(name) {
            if databases.len() >= self.limits.databases_max {
                return false;
            }
            databases.insert(name.into(), BTreeMap::new());
        }
        true
    }

    /// Forgets a database and its measurements.
    pub fn drop_database(&self, name: &str) -> bool {
        self.lock().remove(name).is_some()
    }

    /// The measurements of one database or of all, sorted by database and name.
    pub fn measurements(&self, database: Option<&str>) -> Vec<Arc<Measurement>> {
        self.lock()
            .iter()
            .filter(|(name, _)| database.is_none_or(|it| it == &***name))
            .flat_map(|(_, measurements)| measurements.values().cloned())
            .collect()
    }

    /// The measurement and whether it is known; one that is not becomes so by
    /// [`Registry::adopt`].
    pub(super) fn open(&self, database: &Arc<str>, name: &str) -> (Arc<Measurement>, bool) {
        let known = self.lock().get(database).and_then(|it| it.get(name)).cloned();
        if let Some(known) = known {
            return (known, true);
        }
        let pin = self.pins.get(name);
        (Arc::new(Measurement::new(database, name, self.unsigned, pin, &[])), false)
    }

    /// Makes `candidate` known with its first row; returns the one that came first.
    pub(super) fn adopt(
        &self,
        candidate: &Arc<Measurement>,
    ) -> Result<Arc<Measurement>, AppendError> {
        let mut databases = self.lock();
        let measurements = databases.entry(Arc::clone(&candidate.database)).or_default();
        if let Some(known) = measurements.get(&candidate.name) {
            return Ok(Arc::clone(known));
        }
        let max = self.limits.tables_per_database_max;
        if measurements.len() >= max {
            return Err(AppendError::TooManyTables { max });
        }
        measurements.insert(Arc::clone(&candidate.name), Arc::clone(candidate));
        // What a pin states is a decision like any other.
        self.witness(candidate, &candidate.columns());
        Ok(Arc::clone(candidate))
    }
}
