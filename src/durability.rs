//! What an acknowledged row has survived.

/// What an acknowledged row has survived.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Durability {
    /// The loss of power: its record is on disk.
    #[default]
    Fsync,
    /// The end of the process: the operating system has its record.
    Os,
    /// Nothing: it is in memory until it is published.
    Memory,
}

impl Durability {
    /// The name users see in settings, in a header of answers and in `/health`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fsync => "fsync",
            Self::Os => "os",
            Self::Memory => "memory",
        }
    }

    /// The level of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Fsync, Self::Os, Self::Memory].into_iter().find(|it| it.name() == name)
    }
}
