//! Which file systems to measure, from /proc/self/mountinfo (proc_pid_mountinfo(5)).

use std::collections::{HashMap, HashSet};
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use procfs::process::MountInfo;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::agent::collectors::CollectError;
use crate::agent::collectors::procfile::ProcFile;
use crate::agent::filters::MountFilter;

/// One file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mount {
    /// Where it is mounted.
    pub point: String,
    /// Whether asking it may hang: it is not on a local disk, as far as its type says.
    pub doubtful: bool,
    /// Major and minor number of its device; `None` where stat(2) says another one than mountinfo,
    /// as for btrfs and overlay.
    pub device: Option<(u32, u32)>,
    /// Whether its superblock is read-only. A mount alone may be so for this process, as all are
    /// under a service manager that protects the system from it.
    pub read_only: bool,
    /// Whether the configuration names it, so that it is measured whatever it is.
    pub wanted: bool,
}

/// The mounts to measure, read again when the kernel says that they have changed.
pub(super) struct Mounts {
    file: ProcFile,
    filter: MountFilter,
    mounts: Vec<Mount>,
    read_at: Option<Instant>,
}

/// The kernel notifies of every change; this is for roots that are copies, which do not.
const READ_AGAIN_AFTER: Duration = Duration::from_secs(300);

/// File systems that are on local disks or in memory: asking them can't wait for anybody.
const LOCAL: &[&str] = &[
    "ext2", "ext3", "ext4", "xfs", "btrfs", "bcachefs", "zfs", "f2fs", "jfs", "reiserfs", "nilfs2",
    "ntfs3", "vfat", "msdos", "exfat", "hfs", "hfsplus", "ufs", "udf", "iso9660", "minix", "tmpfs",
    "devtmpfs", "ramfs", "squashfs", "erofs",
];

impl Mounts {
    /// The mounts of a mountinfo file that pass the filter.
    pub(super) fn new(file: ProcFile, filter: MountFilter) -> Self {
        Self { file, filter, mounts: Vec::new(), read_at: None }
    }

    /// The mounts now, sorted by their mount point, and whether they were read again, which `again`
    /// asks for: a file system that turns read-only by itself does not change the mounts.
    ///
    /// # Errors
    ///
    /// When the file can't be read.
    pub(super) fn current(
        &mut self,
        now: Instant,
        again: bool,
    ) -> Result<(&[Mount], bool), CollectError> {
        let old = self.read_at.is_none_or(|read| now.duration_since(read) > READ_AGAIN_AFTER);
        let read = old || again || self.changed();
        if read {
            self.mounts = parse(&self.file.read()?, &self.filter);
            self.read_at = Some(now);
        }
        Ok((&self.mounts, read))
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

/// The visible mounts that pass the filter, one for each device: `/` before others, then the
/// device's own root before bind mounts of its folders, then the one that was mounted first. A
/// line that can't be parsed is left out.
fn parse(text: &str, filter: &MountFilter) -> Vec<Mount> {
    let all: Vec<MountInfo> =
        text.lines().filter_map(|line| MountInfo::from_line(line).ok()).collect();
    let points: Vec<String> =
        all.iter().map(|info| unescape(&info.mount_point.to_string_lossy())).collect();
    let hidden = hidden(&all, &points);
    let mut found: Vec<(usize, Mount)> = Vec::new();
    for (index, info) in all.iter().enumerate() {
        let point = &points[index];
        if hidden[index] || !filter.take(point, &info.fs_type) {
            continue;
        }
        let device = device(&info.majmin);
        // Each subvolume, and each overlay, has a device number of its own to stat(2).
        let own = matches!(info.fs_type.as_str(), "btrfs" | "bcachefs" | "overlay" | "aufs");
        found.push((
            index,
            Mount {
                point: point.clone(),
                doubtful: !LOCAL.contains(&info.fs_type.as_str()),
                device: device.filter(|_| !own),
                read_only: info.super_options.contains_key("ro"),
                wanted: filter.names(point),
            },
        ));
    }
    found.sort_by_key(|(index, mount)| {
        (mount.point != "/", !mount.wanted, all[*index].root != "/", *index)
    });
    let mut devices = HashSet::new();
    let mut seen = HashSet::new();
    found.retain(|(index, mount)| {
        seen.insert(mount.point.clone()) && devices.insert(all[*index].majmin.as_str())
    });
    let mut mounts: Vec<Mount> = found.into_iter().map(|(_, mount)| mount).collect();
    mounts.sort_by(|a, b| a.point.cmp(&b.point));
    mounts
}

/// Mounts over one another that are followed.
const CHAIN_MAX: usize = 1_000;

/// Which mounts can't be reached since another one covers them: at the same mount point, where
/// the later one has the earlier as its parent, or above it, where both have the same parent.
fn hidden(all: &[MountInfo], points: &[String]) -> Vec<bool> {
    let by_id: HashMap<i32, usize> =
        all.iter().enumerate().map(|(index, info)| (info.mnt_id, index)).collect();
    // By parent and mount point, so that none is compared with all the others.
    let mut children: HashMap<(i32, &str), Vec<usize>> = HashMap::new();
    for (index, info) in all.iter().enumerate() {
        children.entry((info.pid, points[index].as_str())).or_default().push(index);
    }
    let covered = |index: usize| {
        let above = children.get(&(all[index].mnt_id, points[index].as_str()));
        above.is_some_and(|above| above.iter().any(|other| *other != index))
    };
    let shadowed = |index: usize| {
        let parent = all[index].pid;
        folders(&points[index]).any(|above| children.contains_key(&(parent, above)))
    };
    let unreachable = |start: usize| {
        let mut at = start;
        // A damaged file may have a ring of parents, or a chain without an end.
        for _ in 0..CHAIN_MAX {
            if shadowed(at) {
                return true;
            }
            let Some(parent) = by_id.get(&all[at].pid).filter(|parent| **parent != at) else {
                break;
            };
            if points[*parent] != points[at] && covered(*parent) {
                return true;
            }
            at = *parent;
        }
        covered(start)
    };
    (0..all.len()).map(unreachable).collect()
}

/// The folders that a path is inside of, but for `/`.
fn folders(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(at, _)| &path[..at]).filter(|folder| folder.len() > 1)
}

fn device(majmin: &str) -> Option<(u32, u32)> {
    let (major, minor) = majmin.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
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

    pub(crate) fn parse_any(text: &str) {
        let _ = parse(text, &Filters::default().mounts());
    }

    fn points(text: &str, filters: &Filters) -> Vec<String> {
        parse(text, &filters.mounts()).into_iter().map(|mount| mount.point).collect()
    }

    #[test]
    fn real_file_systems_come_once_each_with_their_names_whole() {
        let text = std::fs::read_to_string("tests/fixtures/proc/mountinfo").unwrap();
        let filters = Filters::default();
        let mounts = parse(&text, &filters.mounts());
        let points: Vec<&str> = mounts.iter().map(|mount| mount.point.as_str()).collect();
        assert_eq!(points, ["/", "/boot/efi", "/mnt/my disk", "/srv/nfs"]);
        let doubtful: Vec<bool> = mounts.iter().map(|mount| mount.doubtful).collect();
        assert_eq!(doubtful, [false, false, false, true]);
    }

    #[test]
    fn a_disk_is_read_only_where_its_superblock_is() {
        let text = "20 1 8:1 / / ro,relatime - ext4 /dev/sda1 rw,errors=remount-ro\n\
                    21 20 8:17 / /srv rw,relatime - ext4 /dev/sdb1 ro,errors=remount-ro\n";
        let mounts = parse(text, &Filters::default().mounts());
        let seen: Vec<bool> = mounts.iter().map(|mount| mount.read_only).collect();
        assert_eq!(seen, [false, true], "the first is protected from this process alone");
    }

    #[test]
    fn a_bind_mount_does_not_take_the_place_of_the_mount_itself() {
        let text = "20 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
                    21 20 8:17 /www /a rw - ext4 /dev/sdb1 rw\n\
                    22 20 8:17 / /srv/data rw - ext4 /dev/sdb1 rw\n\
                    23 20 8:17 / /b rw - ext4 /dev/sdb1 rw\n";
        assert_eq!(points(text, &Filters::default()), ["/", "/srv/data"]);
    }

    #[test]
    fn what_another_mount_covers_is_left_out() {
        // /mnt/a, then a disk over /mnt, then another disk over /opt, twice.
        let text = "20 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
                    21 20 8:17 / /mnt/a rw - ext4 /dev/sdb1 rw\n\
                    22 20 8:33 / /mnt rw - ext4 /dev/sdc1 rw\n\
                    23 20 8:49 / /opt rw - ext4 /dev/sdd1 rw\n\
                    24 23 8:65 / /opt rw - xfs /dev/sde1 rw\n";
        let mounts = parse(text, &Filters::default().mounts());
        let seen: Vec<(&str, Option<(u32, u32)>)> =
            mounts.iter().map(|mount| (mount.point.as_str(), mount.device)).collect();
        let expected = [("/", Some((8, 1))), ("/mnt", Some((8, 33))), ("/opt", Some((8, 65)))];
        assert_eq!(seen, expected);
    }

    #[test]
    fn only_whole_path_components_are_left_out_and_an_include_wins() {
        let text = "20 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
                    21 20 8:2 / /devops rw - ext4 a rw\n\
                    22 20 8:3 / /system-data rw - ext4 a rw\n\
                    23 20 8:4 / /run/media/usb rw - vfat a rw\n\
                    24 20 0:5 / /dev rw - devtmpfs a rw\n\
                    25 24 0:6 / /dev/shm rw - tmpfs a rw\n\
                    26 20 0:7 / /data/engine/overlay2/1/merged rw - overlay a rw\n\
                    27 20 7:8 / /images/1 ro - erofs a ro\n";
        let plain = ["/", "/devops", "/run/media/usb", "/system-data"];
        assert_eq!(points(text, &Filters::default()), plain);
        let filters = Filters { mounts_include: vec!["/dev/shm".into()], ..Filters::default() };
        assert_eq!(points(text, &filters), ["/dev/shm"]);
    }

    #[test]
    fn a_file_system_whose_type_is_not_known_to_be_local_may_hang() {
        for kind in ["virtiofs", "vboxsf", "gpfs", "ceph", "9p", "fuse.sshfs", "new-thing"] {
            let line = format!("20 1 0:50 / /x rw - {kind} a rw\n");
            assert!(parse(&line, &Filters::default().mounts())[0].doubtful, "{kind}");
        }
    }

    #[test]
    fn escapes_are_undone() {
        assert_eq!(unescape(r"/a\040b\134c\011"), "/a b\\c\t");
        assert_eq!(unescape(r"/a\04"), r"/a\04");
        assert_eq!(unescape(r"/a\999"), r"/a\999");
    }
}
