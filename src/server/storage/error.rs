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
    /// An agent has more series than it may have; the series is not taken.
    #[error("agent {0} has more series than it may have in a day")]
    TooManySeries(String),
    /// The server is stopping.
    #[error("the server is stopping")]
    Stopping,
    /// A day file was dropped or set aside while it was read. Asking again gives what is there now.
    #[error("{0} was dropped while it was read; ask again")]
    Moved(String),
}

impl StorageError {
    /// The same error once more, for each of the batches that share a transaction. What can't be
    /// cloned becomes [`StorageError::Io`] with the same message.
    pub fn repeat(&self) -> Self {
        match self {
            Self::DiskFull => Self::DiskFull,
            Self::Stopping => Self::Stopping,
            Self::Moved(file) => Self::Moved(file.clone()),
            Self::Damaged { file, what } => {
                Self::Damaged { file: file.clone(), what: what.clone() }
            }
            other => Self::Io(std::io::Error::other(other.to_string())),
        }
    }
}
