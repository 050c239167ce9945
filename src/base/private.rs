//! Files for their owner alone, whatever the umask of whoever started the program.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

/// Has every file and folder that the process makes from now on be for its owner alone, those of
/// SQLite included. Called before there are threads.
#[cfg(any(feature = "agent", feature = "server"))]
pub(crate) fn for_owner_alone() {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
}

/// Bits of a mode for others than the owner.
const OTHERS: u32 = 0o077;
/// The sticky bit, which folders have that are everybody's, such as `/tmp`.
const STICKY: u32 = 0o1000;

/// Takes the access of others from a folder, and from its files of which `is_ours` knows the name.
/// Logs in one line what was changed, and what could not be.
pub(crate) fn narrow(folder: &Path, is_ours: impl Fn(&str) -> bool) {
    let mut narrowed = Vec::new();
    let mut failed = Vec::new();
    let mut take = |path: &Path, shown: String| match narrow_one(path) {
        Ok(None) => {}
        Ok(Some(mode)) => narrowed.push(format!("{shown} (was {mode:04o})")),
        Err(error) => failed.push(format!("{shown}: {error}")),
    };
    take(folder, "the folder".to_owned());
    let names = fs::read_dir(folder).into_iter().flatten().flatten();
    let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.filter(|name| is_ours(name)).collect();
    names.sort();
    for name in names {
        take(&folder.join(&name), name);
    }
    let folder = folder.display();
    if !narrowed.is_empty() {
        log::warn!("{folder}: others could read it; now its owner alone: {}", listed(&narrowed));
    }
    if !failed.is_empty() {
        log::warn!("{folder}: others can read it, and that can't be changed: {}", listed(&failed));
    }
}

/// Files that a line names before it counts the rest.
const SHOWN: usize = 8;

fn listed(names: &[String]) -> String {
    let rest = names.len().saturating_sub(SHOWN);
    let more = if rest > 0 { format!(" and {rest} more") } else { String::new() };
    let shown: Vec<&str> = names.iter().take(SHOWN).map(String::as_str).collect();
    format!("{}{more}", shown.join(", "))
}

/// The mode that a file had, where others had a right to it.
fn narrow_one(path: &Path) -> io::Result<Option<u32>> {
    let found = fs::symlink_metadata(path)?;
    let mode = found.mode() & 0o7777;
    let plain = found.is_file() || found.is_dir();
    if !plain || mode & OTHERS == 0 || mode & STICKY != 0 {
        return Ok(None);
    }
    fs::set_permissions(path, Permissions::from_mode(mode & !OTHERS))?;
    Ok(Some(mode))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn what_others_could_read_is_taken_from_them() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("data");
        fs::create_dir(&folder).unwrap();
        let (ours, other) = (folder.join("cert.db"), folder.join("notes.txt"));
        for path in [&ours, &other] {
            fs::write(path, "").unwrap();
            fs::set_permissions(path, Permissions::from_mode(0o664)).unwrap();
        }
        fs::set_permissions(&folder, Permissions::from_mode(0o755)).unwrap();
        narrow(&folder, |name| name.ends_with(".db"));
        assert_eq!((mode(&folder), mode(&ours), mode(&other)), (0o700, 0o600, 0o664));
        fs::set_permissions(&folder, Permissions::from_mode(0o1777)).unwrap();
        narrow(&folder, |_| false);
        assert_eq!(mode(&folder), 0o1777, "a folder of everybody stays");
        narrow(&dir.path().join("none"), |_| true);
    }

    #[test]
    fn many_names_are_counted() {
        let names: Vec<String> = (0..10).map(|index| index.to_string()).collect();
        assert_eq!(listed(&names), "0, 1, 2, 3, 4, 5, 6, 7 and 2 more");
    }
}
