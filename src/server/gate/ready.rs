//! Which sockets are ready: epoll(7) on Linux, poll(2) elsewhere. Both are told of a socket under a
//! number, and answer with the numbers of those that something can be done with.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::Timespec;

use super::wire::Want;

#[cfg(target_os = "linux")]
pub type Ready = Epoll;
#[cfg(not(target_os = "linux"))]
pub type Ready = Poll;

/// A socket that is ready: its number, and whether its far side is gone.
pub type Found = (u64, bool);

fn timespec(limit: Duration) -> Timespec {
    let secs = limit.as_secs().try_into().unwrap_or(i64::MAX);
    Timespec { tv_sec: secs, tv_nsec: limit.subsec_nanos().into() }
}

/// epoll(7): its cost does not grow with those that are silent.
#[cfg(target_os = "linux")]
pub struct Epoll(std::os::fd::OwnedFd);

#[cfg(target_os = "linux")]
impl Epoll {
    /// Waits for nothing yet.
    ///
    /// # Errors
    ///
    /// When the system refuses it.
    pub fn new() -> io::Result<Self> {
        use rustix::event::epoll;
        Ok(Self(epoll::create(epoll::CreateFlags::CLOEXEC)?))
    }

    /// Waits for `source` from now on: for its far side's end where it wants nothing.
    ///
    /// # Errors
    ///
    /// When the system refuses it.
    pub fn add(&mut self, source: impl AsFd, id: u64, want: Option<Want>) -> io::Result<()> {
        use rustix::event::epoll;
        Ok(epoll::add(&self.0, source, epoll::EventData::new_u64(id), Self::flags(want))?)
    }

    /// Changes what is waited for.
    ///
    /// # Errors
    ///
    /// When the system refuses it.
    pub fn change(&mut self, source: impl AsFd, id: u64, want: Option<Want>) -> io::Result<()> {
        use rustix::event::epoll;
        Ok(epoll::modify(&self.0, source, epoll::EventData::new_u64(id), Self::flags(want))?)
    }

    /// Waits for `source` no more.
    ///
    /// # Errors
    ///
    /// When the system refuses it.
    pub fn forget(&mut self, source: impl AsFd, _id: u64) -> io::Result<()> {
        Ok(rustix::event::epoll::delete(&self.0, source)?)
    }

    /// Those that are ready, after `limit` at the latest: some of them where there are many.
    ///
    /// # Errors
    ///
    /// When the system refuses it.
    pub fn wait(&mut self, limit: Option<Duration>) -> io::Result<Vec<Found>> {
        use rustix::event::epoll::{self, Event, EventFlags};
        const EVENTS_A_TURN: usize = 256;
        let limit = limit.map(timespec);
        let mut events: Vec<Event> = Vec::with_capacity(EVENTS_A_TURN);
        let spare = rustix::buffer::spare_capacity(&mut events);
        match epoll::wait(&self.0, spare, limit.as_ref()) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => events.clear(),
            Err(error) => return Err(error.into()),
        }
        let gone = EventFlags::ERR | EventFlags::HUP;
        Ok(events.iter().map(|it| (it.data.u64(), { it.flags }.intersects(gone))).collect())
    }

    fn flags(want: Option<Want>) -> rustix::event::epoll::EventFlags {
        use rustix::event::epoll::EventFlags;
        match want {
            None => EventFlags::empty(),
            Some(Want::Read) => EventFlags::IN,
            Some(Want::Write) => EventFlags::OUT,
        }
    }
}

/// poll(2): every system has it, and it looks at all sockets each time.
#[cfg(any(not(target_os = "linux"), test))]
pub struct Poll(std::collections::BTreeMap<u64, (std::os::fd::OwnedFd, Option<Want>)>);

#[cfg(any(not(target_os = "linux"), test))]
impl Poll {
    /// Waits for nothing yet.
    ///
    /// # Errors
    ///
    /// Never; epoll's counterpart may.
    pub fn new() -> io::Result<Self> {
        Ok(Self(std::collections::BTreeMap::new()))
    }

    /// As [`Epoll::add`]. Keeps a descriptor of its own, so the socket stays open until it is
    /// forgotten.
    ///
    /// # Errors
    ///
    /// When there is no descriptor left.
    pub fn add(&mut self, source: impl AsFd, id: u64, want: Option<Want>) -> io::Result<()> {
        self.0.insert(id, (source.as_fd().try_clone_to_owned()?, want));
        Ok(())
    }

    /// As [`Epoll::change`].
    ///
    /// # Errors
    ///
    /// Never; epoll's counterpart may.
    pub fn change(&mut self, _source: impl AsFd, id: u64, want: Option<Want>) -> io::Result<()> {
        if let Some(entry) = self.0.get_mut(&id) {
            entry.1 = want;
        }
        Ok(())
    }

    /// As [`Epoll::forget`].
    ///
    /// # Errors
    ///
    /// Never; epoll's counterpart may.
    pub fn forget(&mut self, _source: impl AsFd, id: u64) -> io::Result<()> {
        self.0.remove(&id);
        Ok(())
    }

    /// As [`Epoll::wait`].
    ///
    /// # Errors
    ///
    /// When the system refuses it.
    pub fn wait(&mut self, limit: Option<Duration>) -> io::Result<Vec<Found>> {
        use rustix::event::{PollFd, PollFlags};
        let limit = limit.map(timespec);
        let flags = |want: &Option<Want>| match want {
            None => PollFlags::empty(),
            Some(Want::Read) => PollFlags::IN,
            Some(Want::Write) => PollFlags::OUT,
        };
        let mut waiting: Vec<PollFd<'_>> =
            self.0.values().map(|(fd, want)| PollFd::new(fd, flags(want))).collect();
        match rustix::event::poll(&mut waiting, limit.as_ref()) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        }
        let gone = PollFlags::ERR | PollFlags::HUP;
        let told = self.0.keys().zip(&waiting).filter(|(_, fd)| !fd.revents().is_empty());
        Ok(told.map(|(id, fd)| (*id, fd.revents().intersects(gone))).collect())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixStream;

    use super::*;

    /// What both ways of waiting must do alike.
    macro_rules! behaves {
        ($name:ident, $ready:ty) => {
            #[test]
            fn $name() {
                let now = Some(Duration::ZERO);
                let mut ready = <$ready>::new().unwrap();
                let (mut ours, mut theirs) = UnixStream::pair().unwrap();
                ready.add(&ours, 7, Some(Want::Read)).unwrap();
                assert_eq!(ready.wait(now).unwrap(), []);
                theirs.write_all(b"x").unwrap();
                assert_eq!(ready.wait(None).unwrap(), [(7, false)]);
                ready.change(&ours, 7, None).unwrap();
                assert_eq!(ready.wait(now).unwrap(), []);
                ready.change(&ours, 7, Some(Want::Write)).unwrap();
                assert_eq!(ready.wait(None).unwrap(), [(7, false)]);
                ready.change(&ours, 7, None).unwrap();
                ours.read_exact(&mut [0]).unwrap();
                drop(theirs);
                assert_eq!(ready.wait(None).unwrap(), [(7, true)], "the far side's end is told");
                ready.forget(&ours, 7).unwrap();
                assert_eq!(ready.wait(now).unwrap(), []);
            }
        };
    }

    #[cfg(target_os = "linux")]
    behaves!(epoll_tells_what_is_ready, Epoll);
    behaves!(poll_tells_what_is_ready, Poll);
}
