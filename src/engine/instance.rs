//! The identity of a journal, and what goes by it in tables and file names.

use std::fmt::Write as _;

/// Made when a journal is; another journal over the same tables is another instance, so that its
/// sequences are not taken for those of this one.
#[derive(Clone, Debug)]
pub(super) struct Instance {
    /// 32 hex digits.
    hex: String,
}

impl Instance {
    pub(super) fn new(id: [u8; 16]) -> Self {
        let hex = id.iter().fold(String::new(), |mut hex, byte| {
            // Writing to a string does not fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        });
        Self { hex }
    }

    /// Application id of a shard's sequences in the `txn` actions of a table.
    pub(super) fn shard(&self, shard: u16) -> String {
        format!("{}/{shard}", self.hex)
    }

    /// Application id of the sequences that files are named by.
    pub(super) fn segments(&self) -> String {
        format!("{}/segments", self.hex)
    }

    /// Application id of the last sequence of all shards, which a new journal goes on behind.
    pub(super) fn journal(&self) -> String {
        format!("{}/journal", self.hex)
    }

    /// The whole of it: 32 hex digits.
    pub(super) fn hex(&self) -> &str {
        &self.hex
    }

    /// The beginning of the names of its files: 8 hex digits.
    pub(super) fn short(&self) -> String {
        self.hex.get(..8).unwrap_or_default().to_owned()
    }
}
