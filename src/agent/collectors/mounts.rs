//! Which file systems to measure, from /proc/self/mountinfo (proc_pid_mountinfo(5)).

use std::collections::HashSet;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use procfs::process::MountInfo;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::agent::collectors::CollectError;
use crate::agent::collectors::procfile::ProcFile;
use crate::agent::filters::Patterns;

/// One file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Where it is mounted.
    pub point: String,
    /// Whether asking it may hang: it is served by a network or by a process.
    pub remote: bool,
}

/// The mounts to measure, read anew when the kernel says that they have changed.
pub struct Mounts {
    file: ProcFile,
    points: Patterns,
    types: Patterns,
    mounts: Vec<Mount>,
    read_at: Option<Instant>,
}

/// The kernel tells of every change; this is for roots that are copies, which tell of none.
const READ_AGAIN_AFTER: Duration = Duration::from_secs(300);

impl Mounts {
    /// The mounts of a mountinfo file that pass both filters.
    pub fn new(file: ProcFile, points: Patterns, types: Patterns) -> Self {
        Self { file, points, types, mounts: Vec::new(), read_at: None }
    }

    /// The mounts now, sorted by their mount point.
    ///
    /// # Errors
    ///
    /// When the file can't be read.
    pub fn current(&mut self, now: Instant) -> Result<&[Mount], CollectError> {
        let old = self.read_at.is_none_or(|read| now.duration_since(read) > READ_AGAIN_AFTER);
        if old || self.changed() {
            let (points, types) = (&self.points, &self.types);
            self.mounts = parse(&self.file.read()?, points, types);
            self.read_at = Some(now);
        }
        Ok(&self.mounts)
    }

    /// Whether the kernel says that the mounts have changed since the file was last polled:
    /// "poll(2) … POLLPRI" of proc_pid_mounts(5).
    fn changed(&self) -> bool {
        let Some(file) = self.file.file() else { return true };
        let mut polled = [PollFd::from_borrowed_fd(file.as_fd(), PollFlags::PRI)];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        match poll(&mut polled, Some(&at_once)) {
            Ok(ready) => ready > 0 && polled[0].revents().intersects(PollFlags::PRI),
            Err(_) => true,
        }
    }
}

/// File systems whose server may be gone while the mount stands.
fn is_remote(kind: &str) -> bool {
    kind.starts_with("nfs")
        || kind.starts_with("fuse")
        || matches!(kind, "cifs" | "smb3" | "smbfs" | "9p" | "ceph" | "afs" | "ncpfs" | "glusterfs")
        || matches!(kind, "lustre" | "gfs2" | "ocfs2" | "beegfs" | "autofs")
}

/// One mount for each device, the one with the shortest mount point: bind mounts show the same
/// device again. A line that makes no sense is passed over.
fn parse(text: &str, points: &Patterns, types: &Patterns) -> Vec<Mount> {
    let mut found: Vec<(String, Mount)> = text
        .lines()
        .filter_map(|line| MountInfo::from_line(line).ok())
        .filter(|info| types.take(&info.fs_type))
        .map(|info| {
            let point = unescape(&info.mount_point.to_string_lossy());
            let remote = is_remote(&info.fs_type);
            (info.majmin, Mount { point, remote })
        })
        .filter(|(_, mount)| points.take(&mount.point))
        .collect();
    found.sort_by(|(_, a), (_, b)| (a.point.len(), &a.point).cmp(&(b.point.len(), &b.point)));
    let mut devices = HashSet::new();
    let mut seen = HashSet::new();
    found.retain(|(device, mount)| {
        seen.insert(mount.point.clone()) && devices.insert(device.clone())
    });
    let mut mounts: Vec<Mount> = found.into_iter().map(|(_, mount)| mount).collect();
    mounts.sort_by(|a, b| a.point.cmp(&b.point));
    mounts
}

/// The kernel writes space, tab, line end and backslash as `\` and three octal digits.
fn unescape(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let octal = bytes.get(at + 1..at + 4).filter(|_| bytes[at] == b'\\').and_then(|digits| {
            let digits = std::str::from_utf8(digits).ok()?;
            u8::from_str_radix(digits, 8).ok()
        });
        out.push(octal.unwrap_or(bytes[at]));
        at += if octal.is_some() { 4 } else { 1 };
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::agent::filters::Filters;

    pub fn parse_any(text: &str) {
        let filters = Filters::default();
        let _ = parse(text, &filters.mounts(), &filters.fs_types());
    }

    #[test]
    fn real_file_systems_come_once_each_with_their_names_whole() {
        let text = std::fs::read_to_string("tests/fixtures/proc/mountinfo").unwrap();
        let filters = Filters::default();
        let mounts = parse(&text, &filters.mounts(), &filters.fs_types());
        let points: Vec<&str> = mounts.iter().map(|mount| mount.point.as_str()).collect();
        assert_eq!(points, ["/", "/boot/efi", "/mnt/my disk", "/srv/nfs"]);
        let remote: Vec<bool> = mounts.iter().map(|mount| mount.remote).collect();
        assert_eq!(remote, [false, false, false, true]);
    }

    #[test]
    fn escapes_are_undone() {
        assert_eq!(unescape(r"/a\040b\134c\011"), "/a b\\c\t");
        assert_eq!(unescape(r"/a\04"), r"/a\04");
        assert_eq!(unescape(r"/a\999"), r"/a\999");
    }
}
