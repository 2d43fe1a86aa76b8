//! What a record says, its body aside. Kinds, roles and formats are codes that the engine gives.
//!
//! ```text
//! Write    1 | shard | format | precision | encoding | flags | received_ns
//!            | accepted | rejected | rejected_kept | digest | request_key | database | endpoint
//!            | measurement | time | tags
//! Columns  2 | database | measurement | count | (kind | role | name | physical | unit) ...
//! Drop     3 | database
//! Dropped  4 | database | sequence
//! Keys     5 | count | key ...
//! ```
//!
//! Little-endian; strings stand behind their length in 4 bytes.

use std::borrow::Cow;

use super::fields::{Fields, count, push_string};

/// Largest entry; a longer list of columns or keys becomes several records.
const ENTRY_BYTES_MAX: usize = 1 << 20;
/// What an entry of a write takes at most beside its names.
pub(super) const FIXED_BYTES_MAX: usize = 80;
/// Longest names of a database and of a path together.
pub(super) const NAME_BYTES_MAX: usize = 512;

/// What happened.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Entry<'a> {
    /// Columns of a measurement were decided.
    Columns(Columns<'a>),
    /// A database is dropped: records before this one are not its rows any more.
    Drop {
        /// The database.
        database: &'a str,
    },
    /// The files of a dropped database are gone.
    Dropped {
        /// The database.
        database: &'a str,
        /// The [`Entry::Drop`] that asked for it.
        sequence: u64,
    },
    /// Keys of requests that were stored, oldest first.
    Keys(Cow<'a, [u128]>),
    /// A body was decoded; it is the body of the record.
    Write(Write<'a>),
}

/// The decision of one or more columns of a measurement.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Columns<'a> {
    /// The database.
    pub database: &'a str,
    /// The measurement.
    pub measurement: &'a str,
    /// The columns, in the order of the decision.
    pub columns: Cow<'a, [Column<'a>]>,
}

/// One decided column.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Column<'a> {
    /// As clients call it.
    pub name: &'a str,
    /// As files call it.
    pub physical: &'a str,
    /// Code of its kind.
    pub kind: u8,
    /// Code of its role.
    pub role: u8,
    /// Its unit, or nothing.
    pub unit: &'a str,
}

/// What must be known beside a body to decode it again to the same rows.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Write<'a> {
    /// The database.
    pub database: &'a str,
    /// The shard whose rows they are.
    pub shard: u16,
    /// Code of the format.
    pub format: u8,
    /// Code of the precision.
    pub precision: u8,
    /// Code of the content encoding; the body is as received.
    pub encoding: u8,
    /// Bits of the engine: all or nothing, all rows with times of their own.
    pub flags: u8,
    /// The path that the body was sent to.
    pub endpoint: &'a str,
    /// The measurement that the request names, or nothing; so below.
    pub measurement: &'a str,
    /// The column of times that the request names.
    pub time: &'a str,
    /// The tags that the request names.
    pub tags: &'a str,
    /// The time of rows that carry none, in nanoseconds since 1970-01-01 UTC.
    pub received_ns: i64,
    /// Rows that were accepted.
    pub accepted: u32,
    /// Rows that were rejected.
    pub rejected: u32,
    /// Rejected rows that were kept.
    pub rejected_kept: u16,
    /// Digest of the accepted rows.
    pub digest: u64,
    /// Key of the request.
    pub request_key: u128,
}

impl Entry<'_> {
    /// The bytes, in one or more pieces: each an entry of its own, all together the same.
    pub(super) fn encode(&self) -> Vec<Vec<u8>> {
        let bytes = self.encode_whole();
        let halves = if bytes.len() > ENTRY_BYTES_MAX { self.halves() } else { None };
        if let Some((first, second)) = halves {
            let mut pieces = first.encode();
            pieces.extend(second.encode());
            return pieces;
        }
        vec![bytes]
    }

    /// Two entries that say the same; `None` when it is one thing.
    fn halves(&self) -> Option<(Entry<'_>, Entry<'_>)> {
        match self {
            Self::Columns(all) if all.columns.len() > 1 => {
                let (first, second) = all.columns.split_at(all.columns.len() / 2);
                let half = |columns| {
                    let columns = Cow::Borrowed(columns);
                    Entry::Columns(Columns { columns, ..all.clone() })
                };
                Some((half(first), half(second)))
            }
            Self::Keys(keys) if keys.len() > 1 => {
                let (first, second) = keys.split_at(keys.len() / 2);
                Some((Entry::Keys(Cow::Borrowed(first)), Entry::Keys(Cow::Borrowed(second))))
            }
            _ => None,
        }
    }

    /// The bytes in one piece.
    pub(super) fn encode_whole(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(FIXED_BYTES_MAX);
        match self {
            Self::Write(write) => write.encode(&mut bytes),
            Self::Columns(Columns { database, measurement, columns }) => {
                bytes.push(2);
                push_string(&mut bytes, database);
                push_string(&mut bytes, measurement);
                bytes.extend(count(columns.len()));
                for column in columns.iter() {
                    bytes.extend([column.kind, column.role]);
                    push_string(&mut bytes, column.name);
                    push_string(&mut bytes, column.physical);
                    push_string(&mut bytes, column.unit);
                }
            }
            Self::Drop { database } => {
                bytes.push(3);
                push_string(&mut bytes, database);
            }
            Self::Dropped { database, sequence } => {
                bytes.push(4);
                push_string(&mut bytes, database);
                bytes.extend(sequence.to_le_bytes());
            }
            Self::Keys(keys) => {
                bytes.push(5);
                bytes.extend(count(keys.len()));
                bytes.extend(keys.iter().flat_map(|key| key.to_le_bytes()));
            }
        }
        bytes
    }
}

impl<'a> Entry<'a> {
    /// What `bytes` say; `None` when they are no entry of this version.
    pub(super) fn decode(bytes: &'a [u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        let entry = match fields.u8()? {
            1 => Self::Write(Write::decode(&mut fields)?),
            2 => Self::Columns(Columns::decode(&mut fields)?),
            3 => Self::Drop { database: fields.string()? },
            4 => Self::Dropped { database: fields.string()?, sequence: fields.u64()? },
            5 => {
                let count = fields.count(size_of::<u128>())?;
                Self::Keys((0..count).map(|_| fields.u128()).collect::<Option<_>>()?)
            }
            _ => return None,
        };
        fields.0.is_empty().then_some(entry)
    }
}

impl<'a> Columns<'a> {
    fn decode(fields: &mut Fields<'a>) -> Option<Self> {
        let (database, measurement) = (fields.string()?, fields.string()?);
        let count = fields.count(10)?;
        let columns = (0..count).map(|_| {
            let (kind, role) = (fields.u8()?, fields.u8()?);
            let (name, physical, unit) = (fields.string()?, fields.string()?, fields.string()?);
            Some(Column { name, physical, kind, role, unit })
        });
        let columns = columns.collect::<Option<_>>()?;
        Some(Self { database, measurement, columns })
    }
}

impl<'a> Write<'a> {
    fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.push(1);
        bytes.extend(self.shard.to_le_bytes());
        bytes.extend([self.format, self.precision, self.encoding, self.flags]);
        bytes.extend(self.received_ns.to_le_bytes());
        bytes.extend(self.accepted.to_le_bytes());
        bytes.extend(self.rejected.to_le_bytes());
        bytes.extend(self.rejected_kept.to_le_bytes());
        bytes.extend(self.digest.to_le_bytes());
        bytes.extend(self.request_key.to_le_bytes());
        push_string(bytes, self.database);
        push_string(bytes, self.endpoint);
        push_string(bytes, self.measurement);
        push_string(bytes, self.time);
        push_string(bytes, self.tags);
    }

    fn decode(fields: &mut Fields<'a>) -> Option<Self> {
        Some(Self {
            shard: fields.u16()?,
            format: fields.u8()?,
            precision: fields.u8()?,
            encoding: fields.u8()?,
            flags: fields.u8()?,
            received_ns: fields.i64()?,
            accepted: fields.u32()?,
            rejected: fields.u32()?,
            rejected_kept: fields.u16()?,
            digest: fields.u64()?,
            request_key: fields.u128()?,
            database: fields.string()?,
            endpoint: fields.string()?,
            measurement: fields.string()?,
            time: fields.string()?,
            tags: fields.string()?,
        })
    }
}
