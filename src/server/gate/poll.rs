//! Which sockets are poller: epoll(7) on Linux, poll(2) elsewhere. A socket is registered under a
//! token, and events come with the token.
//!
//! `polling` would need `unsafe` here, and `mio` reports a socket only once.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::Timespec;

use super::stream::Interest;

#[cfg(target_os = "linux")]
pub(crate) type Poller = Epoll;
#[cfg(not(target_os = "linux"))]
pub(crate) type Poller = Poll;

/// A socket that is poller: its token, and whether its peer has gone.
pub(crate) type Event = (u64, bool);

fn timespec(limit: Duration) -> Timespec {
    let secs = limit.as_secs().try_into().unwrap_or(i64::MAX);
    Timespec { tv_sec: secs, tv_nsec: limit.subsec_nanos().into() }
}

/// epoll(7): its cost does not grow with idle sockets.
#[cfg(target_os = "linux")]
pub(crate) struct Epoll(std::os::fd::OwnedFd);

#[cfg(target_os = "linux")]
impl Epoll {
    /// Waits for nothing yet.
    pub(crate) fn new() -> io::Result<Self> {
        use rustix::event::epoll;
        Ok(Self(epoll::create(epoll::CreateFlags::CLOEXEC)?))
    }

    /// Registers `source`; with no interest, only the end of its peer is reported.
    pub(crate) fn add(
        &mut self,
        source: impl AsFd,
        id: u64,
        want: Option<Interest>,
    ) -> io::Result<()> {
        use rustix::event::epoll;
        Ok(epoll::add(&self.0, source, epoll::EventData::new_u64(id), Self::flags(want))?)
    }

    /// Changes what is waited for.
    pub(crate) fn change(
        &mut self,
        source: impl AsFd,
        id: u64,
        want: Option<Interest>,
    ) -> io::Result<()> {
        use rustix::event::epoll;
        Ok(epoll::modify(&self.0, source, epoll::EventData::new_u64(id), Self::flags(want))?)
    }

    /// Removes `source`.
    pub(crate) fn remove(&mut self, source: impl AsFd, _id: u64) -> io::Result<()> {
        Ok(rustix::event::epoll::delete(&self.0, source)?)
    }

    /// The sockets that are ready, after `limit` at the latest: some of them where there are many.
    pub(crate) fn wait(&mut self, limit: Option<Duration>) -> io::Result<Vec<Event>> {
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

    fn flags(want: Option<Interest>) -> rustix::event::epoll::EventFlags {
        use rustix::event::epoll::EventFlags;
        match want {
            None => EventFlags::empty(),
            Some(Interest::Read) => EventFlags::IN,
            Some(Interest::Write) => EventFlags::OUT,
            Some(Interest::Both) => EventFlags::IN | EventFlags::OUT,
            Some(Interest::End) => EventFlags::RDHUP,
        }
    }
}

/// poll(2): every system has it, and it checks all sockets each time.
#[cfg(any(not(target_os = "linux"), test))]
pub(crate) struct Poll(std::collections::BTreeMap<u64, (std::os::fd::OwnedFd, Option<Interest>)>);

#[cfg(any(not(target_os = "linux"), test))]
impl Poll {
    /// Waits for nothing yet.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(std::collections::BTreeMap::new()))
    }

    /// As [`Epoll::add`]. Keeps a descriptor of its own, so the socket stays open until it is
    /// forgotten.
    ///
    /// # Errors
    ///
    /// When there is no descriptor left.
    pub(crate) fn add(
        &mut self,
        source: impl AsFd,
        id: u64,
        want: Option<Interest>,
    ) -> io::Result<()> {
        self.0.insert(id, (source.as_fd().try_clone_to_owned()?, want));
        Ok(())
    }

    /// As [`Epoll::change`].
    pub(crate) fn change(
        &mut self,
        _source: impl AsFd,
        id: u64,
        want: Option<Interest>,
    ) -> io::Result<()> {
        if let Some(entry) = self.0.get_mut(&id) {
            entry.1 = want;
        }
        Ok(())
    }

    /// As [`Epoll::remove`].
    pub(crate) fn remove(&mut self, _source: impl AsFd, id: u64) -> io::Result<()> {
        self.0.remove(&id);
        Ok(())
    }

    /// As [`Epoll::wait`].
    pub(crate) fn wait(&mut self, limit: Option<Duration>) -> io::Result<Vec<Event>> {
        use rustix::event::{PollFd, PollFlags};
        let limit = limit.map(timespec);
        let flags = |want: &Option<Interest>| match want {
            None | Some(Interest::End) => PollFlags::empty(),
            Some(Interest::Read) => PollFlags::IN,
            Some(Interest::Write) => PollFlags::OUT,
            Some(Interest::Both) => PollFlags::IN | PollFlags::OUT,
        };
        let mut waiting: Vec<PollFd<'_>> =
            self.0.values().map(|(fd, want)| PollFd::new(fd, flags(want))).collect();
        match rustix::event::poll(&mut waiting, limit.as_ref()) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        }
        let gone = PollFlags::ERR | PollFlags::HUP;
        let found = self.0.keys().zip(&waiting).filter(|(_, fd)| !fd.revents().is_empty());
        Ok(found.map(|(id, fd)| (*id, fd.revents().intersects(gone))).collect())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixStream;

    use super::*;

    /// What both pollers must do alike.
    macro_rules! behaves {
        ($name:ident, $poller:ty) => {
            #[test]
            fn $name() {
                let now = Some(Duration::ZERO);
                let mut poller = <$poller>::new().unwrap();
                let (mut ours, mut theirs) = UnixStream::pair().unwrap();
                poller.add(&ours, 7, Some(Interest::Read)).unwrap();
                assert_eq!(poller.wait(now).unwrap(), []);
                theirs.write_all(b"x").unwrap();
                assert_eq!(poller.wait(None).unwrap(), [(7, false)]);
                poller.change(&ours, 7, None).unwrap();
                assert_eq!(poller.wait(now).unwrap(), []);
                poller.change(&ours, 7, Some(Interest::Write)).unwrap();
                assert_eq!(poller.wait(None).unwrap(), [(7, false)]);
                poller.change(&ours, 7, None).unwrap();
                ours.read_exact(&mut [0]).unwrap();
                drop(theirs);
                assert_eq!(poller.wait(None).unwrap(), [(7, true)], "the peer's end is reported");
                poller.remove(&ours, 7).unwrap();
                assert_eq!(poller.wait(now).unwrap(), []);
            }
        };
    }

    #[cfg(target_os = "linux")]
    behaves!(epoll_reports_what_is_ready, Epoll);
    behaves!(poll_reports_what_is_ready, Poll);
}
