//! Who is home. [`Recorded`] knows it from `cert.db`: `oxmon-server promote` writes it there, and
//! the epoch passes between servers with everything that they say. Whoever wants to have it decided
//! by a lease (etcd, say) writes another [`Lead`].

use parking_lot::RwLock;

use crate::server::control::Control;
use crate::server::control::shared::{self, Rank, State};
use crate::server::storage::StorageError;

/// What this server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Role {
    /// Changes are made here.
    Home,
    /// Another server is home.
    Follower(Rank),
    /// It would be home, and another server has newer rows of the same epoch, or of a later one:
    /// its own are from a backup, or were lost.
    Behind,
}

/// Decides who is home.
pub(crate) trait Lead: Send + Sync {
    /// Where this server is, as it was last looked at.
    fn state(&self) -> State;

    /// What this server is.
    fn role(&self) -> Role;

    /// Looks at what other programs have written.
    ///
    /// # Errors
    ///
    /// When `cert.db` can't be read.
    fn look(&self) -> Result<State, StorageError>;

    /// Takes what another server says: who is home, and whose rows it has at which version. True
    /// where this changes who is home.
    ///
    /// # Errors
    ///
    /// When `cert.db` can't be written. It counts all the same, until the process ends.
    fn heard(&self, lead: &Rank, of: &Rank, version: i64) -> Result<bool, StorageError>;
}

/// Who is home as `cert.db` says.
pub(super) struct Recorded {
    control: Control,
    name: String,
    /// `peers.home`: of two homes of one epoch this one counts.
    first: String,
    now: RwLock<State>,
    /// Another server has a later version of this one's own epoch.
    behind: RwLock<bool>,
}

impl Recorded {
    /// Reads it, and makes this server home where nobody was yet and the configuration says so.
    ///
    /// # Errors
    ///
    /// When `cert.db` can't be written.
    pub(super) fn open(control: Control, name: &str, first: &str) -> Result<Self, StorageError> {
        let (own, home) = (name.to_owned(), first.to_owned());
        let now = control.write(move |tx| -> Result<State, StorageError> {
            shared::prune(tx)?;
            Ok(shared::start(tx, &own, &home)?)
        })?;
        let (name, first) = (name.to_owned(), first.to_owned());
        Ok(Self { control, name, first, now: RwLock::new(now), behind: RwLock::new(false) })
    }
}

impl Lead for Recorded {
    fn state(&self) -> State {
        self.now.read().clone()
    }

    fn role(&self) -> Role {
        let now = self.now.read();
        if now.lead.home != self.name {
            Role::Follower(now.lead.clone())
        } else if now.writable && !*self.behind.read() {
            Role::Home
        } else {
            Role::Behind
        }
    }

    fn look(&self) -> Result<State, StorageError> {
        let now = self.control.read(|db| -> Result<_, StorageError> { Ok(shared::state(db)?) })?;
        let mut kept = self.now.write();
        if kept.lead != now.lead {
            *self.behind.write() = false;
        }
        // What was heard counts before it is written, unless a later epoch was begun here since.
        let heard = std::mem::replace(&mut *kept, now);
        if outranks(&heard.lead, &kept.lead, &self.first) {
            kept.lead = heard.lead;
            kept.writable = false;
        }
        Ok(kept.clone())
    }

    fn heard(&self, lead: &Rank, of: &Rank, version: i64) -> Result<bool, StorageError> {
        let mut now = self.now.write();
        if !outranks(lead, &now.lead, &self.first) {
            let is_newer = |now: &State| now.writable && now.of == *of && version > now.version;
            let seems_newer = is_newer(&now);
            drop(now);
            // What is here may have been written a moment ago.
            if seems_newer && is_newer(&self.look()?) {
                *self.behind.write() = true;
            }
            return Ok(false);
        }
        // From this moment on, whether or not it can be written.
        now.writable = false;
        now.lead = lead.clone();
        drop(now);
        let next = lead.clone();
        self.control.write(move |tx| -> Result<(), StorageError> {
            // A promotion may have been written since.
            if shared::state(tx)?.lead.epoch <= next.epoch {
                shared::follow(tx, &next)?;
            }
            Ok(())
        })?;
        self.look()?;
        Ok(true)
    }
}

/// Whether one home counts more than another: that of the higher epoch, or else the one that the
/// configuration names, or else the one whose name comes first.
fn outranks(one: &Rank, other: &Rank, first: &str) -> bool {
    let of = |rank: &Rank| (rank.epoch, rank.home == first);
    match of(one).cmp(&of(other)) {
        std::cmp::Ordering::Equal => one.home < other.home,
        order => order.is_gt(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn rank(epoch: i64, home: &str) -> Rank {
        Rank { epoch, home: home.to_owned() }
    }

    #[test]
    fn of_two_homes_every_server_takes_the_same() {
        for (more, less) in [
            (rank(2, "c"), rank(1, "a")),
            (rank(2, "b"), rank(2, "a")),
            (rank(2, "a"), rank(2, "c")),
        ] {
            assert!(outranks(&more, &less, "b"), "{more:?} {less:?}");
            assert!(!outranks(&less, &more, "b"), "{more:?} {less:?}");
            assert!(!outranks(&more, &more, "b"));
        }
    }

    #[test]
    fn a_home_that_hears_of_another_one_or_of_newer_rows_takes_no_more_changes() {
        let dir = tempfile::tempdir().unwrap();
        let control = Control::open(dir.path()).unwrap();
        let lead = Recorded::open(control.clone(), "a", "a").unwrap();
        assert_eq!(lead.role(), Role::Home);
        let version = lead.state().version;
        assert!(!lead.heard(&rank(0, "a"), &rank(0, ""), 99).unwrap(), "somebody new");
        assert!(!lead.heard(&rank(1, "a"), &rank(1, "a"), version).unwrap());
        assert_eq!(lead.role(), Role::Home);
        lead.heard(&rank(1, "a"), &rank(1, "a"), version + 1).unwrap();
        assert_eq!(lead.role(), Role::Behind);
        assert!(lead.heard(&rank(2, "b"), &rank(2, "b"), 5).unwrap());
        assert_eq!(lead.role(), Role::Follower(rank(2, "b")));
        assert!(!lead.heard(&rank(1, "a"), &rank(1, "a"), 5).unwrap(), "an old one");
        // It stays so.
        let lead = Recorded::open(control.clone(), "a", "a").unwrap();
        assert_eq!(lead.role(), Role::Follower(rank(2, "b")));
        // A promotion by another program.
        control
            .write(|tx| -> Result<(), StorageError> { Ok(shared::begin_epoch(tx, &rank(3, "a"))?) })
            .unwrap();
        lead.look().unwrap();
        assert_eq!(lead.role(), Role::Home);
    }
}
