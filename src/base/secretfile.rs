//! Secrets in files of their own, and those that the service manager passes (systemd.exec(5):
//! `LoadCredential=`), so that none need be in a configuration that others read.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::base::limits::SECRET_FILE_BYTES_MAX;

/// A secret, and what should be changed about its file.
pub(crate) struct Secret {
    /// The text, without blanks and line ends around it.
    pub text: String,
    /// That every user can read or change the file.
    pub warning: Option<String>,
}

/// Reads a secret from a file.
///
/// # Errors
///
/// When it can't be read, has more than [`SECRET_FILE_BYTES_MAX`] bytes, or is empty.
pub(crate) fn read(path: &Path) -> io::Result<Secret> {
    let file = File::open(path)?;
    let mode = file.metadata()?.mode();
    let mut text = String::new();
    file.take(SECRET_FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > SECRET_FILE_BYTES_MAX {
        return Err(io::Error::other(format!("it has over {SECRET_FILE_BYTES_MAX} bytes")));
    }
    let text = text.trim().to_owned();
    if text.is_empty() {
        return Err(io::Error::other("it is empty"));
    }
    Ok(Secret { text, warning: warning_of(path, mode) })
}

/// What should be changed about the mode of a file that holds a secret: every user can read or
/// change it. `None` where the mode is good, or can't be read.
pub(crate) fn warning(path: &Path) -> Option<String> {
    warning_of(path, std::fs::metadata(path).ok()?.mode())
}

fn warning_of(path: &Path, mode: u32) -> Option<String> {
    let (can, rights) = match mode & 0o006 {
        0 => return None,
        0o004 => ("read", "r"),
        0o002 => ("changed", "w"),
        _ => ("read and changed", "rw"),
    };
    let shown = path.display();
    Some(format!("{shown} can be {can} by every user: chmod o-{rights} {shown}"))
}

/// The file of a credential that the service manager passes, where it does.
pub(crate) fn credential(name: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("CREDENTIALS_DIRECTORY")?;
    Some(PathBuf::from(folder).join(name)).filter(|path| path.exists())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_secret_is_read_bare_and_an_open_file_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), " s3cret\n").unwrap();
        let secret = read(file.path()).unwrap();
        assert_eq!((secret.text.as_str(), secret.warning), ("s3cret", None));
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o644)).unwrap();
        let warning = read(file.path()).unwrap().warning.unwrap();
        assert!(warning.contains("can be read by every user: chmod o-r "), "{warning}");
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o666)).unwrap();
        let open = super::warning(file.path()).unwrap();
        assert!(open.contains("can be read and changed by every user: chmod o-rw "), "{open}");
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(super::warning(file.path()), None, "a group is chosen");
        std::fs::write(file.path(), "\n").unwrap();
        assert!(read(file.path()).is_err());
        std::fs::write(file.path(), "x".repeat(SECRET_FILE_BYTES_MAX as usize + 1)).unwrap();
        assert!(read(file.path()).is_err());
        assert!(read(Path::new("/none")).is_err());
    }
}
