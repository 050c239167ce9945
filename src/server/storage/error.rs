//! Why the store fails.

/// Why the store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// An error of SQLite.
    #[error("{0}")]
    Sqlite(#[from] rusqlite::Error),
    /// An error of the file system.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// No room on the disk: ingest refuses until there is some again, reads go on.
    #[error("the disk that holds data_dir is full; free some space, agents keep their batches")]
    DiskFull,
    /// A file does not hold what was written.
    #[error("{file} is damaged: {what}")]
    Damaged {
        /// The file's name, without its folder.
        file: String,
        /// What is wrong.
        what: String,
    },
    /// The caller asked for something that can't be.
    #[error("{0}")]
    Invalid(String),
    /// Another server holds the data directory.
    #[error(
        "{0} is in use by another oxmon-server; stop that one, or give this one its own data_dir"
    )]
    Locked(String),
    /// There is no room for another series or agent.
    #[error("{0}")]
    NoRoom(#[from] SeriesLimit),
    /// The samples are stored here, and not yet where the caller wants them as well.
    #[error("{0}")]
    Behind(String),
    /// The server is stopping.
    #[error("the server is stopping")]
    Stopping,
    /// A day file was dropped or set aside while it was read. Asking again gives what is there now.
    #[error("{0} was dropped while it was read; ask again")]
    Moved(String),
}

/// Which limit a new series or agent would exceed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SeriesLimit {
    /// `storage.agents_max`.
    #[error("too many agents: raise storage.agents_max, or remove some")]
    Agents,
    /// Series of the agent.
    #[error("too many series of this agent")]
    AgentSeries,
    /// Bytes of names and labels of the agent.
    #[error("names and labels of this agent take too many bytes")]
    AgentBytes,
    /// `storage.series_max_bytes`.
    #[error("names and labels of all agents take too many bytes: raise storage.series_max_bytes")]
    AllBytes,
}

impl SeriesLimit {
    /// All of them, in the order of their counters.
    pub(crate) const ALL: [Self; 4] =
        [Self::Agents, Self::AgentSeries, Self::AgentBytes, Self::AllBytes];

    /// The value of the metric's label `reason`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Agents => "agents",
            Self::AgentSeries => "agent_series",
            Self::AgentBytes => "agent_bytes",
            Self::AllBytes => "all_bytes",
        }
    }
}

impl StorageError {
    /// The same error once more, for each of the batches that share a transaction. What can't be
    /// cloned becomes [`StorageError::Io`] with the same message.
    pub fn repeat(&self) -> Self {
        match self {
            Self::DiskFull => Self::DiskFull,
            Self::Stopping => Self::Stopping,
            Self::Behind(why) => Self::Behind(why.clone()),
            Self::Moved(file) => Self::Moved(file.clone()),
            Self::Damaged { file, what } => {
                Self::Damaged { file: file.clone(), what: what.clone() }
            }
            other => Self::Io(std::io::Error::other(other.to_string())),
        }
    }
}
