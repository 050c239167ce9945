//! A folder that only this user can enter, for the sockets between the gate and what is behind it.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use crate::base::ids::random_hex;

/// Bytes that the path of a Unix socket may have: `sun_path` of unix(7), which ends with a zero.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// A folder of mode 0700. It and what is in it go when it is dropped.
#[derive(Debug)]
pub(crate) struct PrivateFolder(PathBuf);

impl PrivateFolder {
    /// A new folder in the first of `parents` that takes one.
    ///
    /// # Errors
    ///
    /// The last parent's error where none of them does.
    pub(crate) fn create(parents: &[PathBuf]) -> io::Result<Self> {
        let mut refused = io::Error::from(io::ErrorKind::NotFound);
        for parent in parents {
            let folder = parent.join(format!("oxmon-{}", random_hex(8)));
            // Room for the name of a socket.
            if folder.as_os_str().len() + 8 > SOCKET_PATH_BYTES_MAX {
                refused = io::ErrorKind::InvalidFilename.into();
                continue;
            }
            match DirBuilder::new().mode(0o700).create(&folder) {
                Ok(()) => return Ok(Self(folder)),
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }

    /// Where the folder is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for PrivateFolder {
    fn drop(&mut self) {
        // One that stays is empty, or holds names that nothing listens to.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
