//! The names that engines gave containers, from the engines' own files where those can be read.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::agent::collectors::procfile::{names, value};

/// Bytes of an engine's file; a larger one is not read.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Names that are looked at in one folder.
const NAMES_MAX: usize = 10_000;
/// Bytes of a name.
const NAME_BYTES_MAX: usize = 255;

/// What the engines' files say.
pub(super) struct Engines {
    root: PathBuf,
    /// Podman's lists, one after the other.
    podman: String,
    /// Names by id, of engines that keep one file of each container.
    by_id: HashMap<String, String>,
}

impl Engines {
    /// Reads the files below the host's root. What can't be read gives no names.
    pub(super) fn read(root: &Path) -> Self {
        let mut by_id = HashMap::new();
        nerdctl(&root.join("var/lib/nerdctl"), &mut by_id);
        kubernetes(&root.join("var/log/containers"), &mut by_id);
        let podman = podman(&root.join("var/lib/containers/storage"));
        Self { root: root.to_owned(), podman, by_id }
    }

    /// The name of a container with an id of 64 hexadecimal digits.
    pub(super) fn name(&self, id: &str) -> Option<String> {
        if id.len() != 64 {
            return None;
        }
        let docker = self.root.join("var/lib/docker/containers").join(id).join("config.v2.json");
        if let Some(text) = read(&docker) {
            let name = string_after(&text, "\"Name\":")?;
            return Some(name.trim_start_matches('/').to_owned());
        }
        self.by_id.get(id).cloned().or_else(|| {
            let of_id = &self.podman[self.podman.find(id)?..];
            string_after(of_id, "\"names\":[").map(str::to_owned)
        })
    }
}

/// Podman's lists of all containers with their names: one of each storage driver, and one of
/// containers that go when they end.
fn podman(storage: &Path) -> String {
    let mut lists = String::new();
    for driver in ["overlay", "vfs", "btrfs", "zfs"] {
        let folder = storage.join(format!("{driver}-containers"));
        for file in ["containers.json", "volatile-containers.json"] {
            lists.push_str(&read(&folder.join(file)).unwrap_or_default());
        }
    }
    lists
}

/// nerdctl keeps a file of each name, which holds the id: ADDRESS/names/NAMESPACE/NAME.
fn nerdctl(folder: &Path, by_id: &mut HashMap<String, String>) {
    for address in names(folder, NAMES_MAX) {
        let spaces = folder.join(address).join("names");
        for space in names(&spaces, NAMES_MAX) {
            for name in names(&spaces.join(&space), NAMES_MAX) {
                if let Some(id) = value(&spaces.join(&space).join(&name)) {
                    by_id.insert(id, name);
                }
            }
        }
    }
}

/// Kubernetes' node agent keeps a link to the log of each container: POD_NAMESPACE_NAME-ID.log.
fn kubernetes(folder: &Path, by_id: &mut HashMap<String, String>) {
    for file in names(folder, NAMES_MAX) {
        let parts = file.strip_suffix(".log").and_then(|stem| stem.rsplit_once('-'));
        let Some((stem, id)) = parts else { continue };
        if let [pod, namespace, name] = stem.split('_').collect::<Vec<_>>()[..] {
            by_id.insert(id.to_owned(), format!("{namespace}/{pod}/{name}"));
        }
    }
}

/// The text of a file; `None` where it can't be read or is too large.
fn read(path: &Path) -> Option<String> {
    let size = std::fs::metadata(path).ok()?.len();
    if size > FILE_BYTES_MAX { None } else { std::fs::read_to_string(path).ok() }
}

/// The string that follows a key. A name has no character that JSON would escape.
fn string_after<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let rest = text[text.find(key)? + key.len()..].trim_start().strip_prefix('"')?;
    rest.split('"').next().filter(|name| !name.is_empty() && name.len() <= NAME_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn each_engine_keeps_its_names_in_files_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let id = |digit: &str| digit.repeat(64);
        let docker = format!("var/lib/docker/containers/{}/config.v2.json", id("a"));
        write(&docker, "{\"Path\":\"x\",\"Name\":\"/web-1\",\"Driver\":\"overlay2\"}");
        let list = |ids: &[(&str, &str)]| {
            let one = |(digit, name): &(&str, &str)| {
                format!("{{\"id\":\"{}\",\"names\":[\"{name}\"],\"image\":\"x\"}}", id(digit))
            };
            format!("[{}]", ids.iter().map(one).collect::<Vec<_>>().join(","))
        };
        let podman = "var/lib/containers/storage";
        let lasting = list(&[("b", "db"), ("c", "cache")]);
        write(&format!("{podman}/overlay-containers/containers.json"), &lasting);
        let passing = format!("{podman}/overlay-containers/volatile-containers.json");
        write(&passing, &list(&[("d", "job")]));
        write("var/lib/nerdctl/1935db59/names/default/proxy", &id("e"));
        let log = format!("var/log/containers/api-7d9c-x2_shop_api-{}.log", id("f"));
        write(&log, "");
        let engines = Engines::read(dir.path());
        for (digit, name) in [
            ("a", Some("web-1")),
            ("b", Some("db")),
            ("c", Some("cache")),
            ("d", Some("job")),
            ("e", Some("proxy")),
            ("f", Some("shop/api-7d9c-x2/api")),
            ("0", None),
        ] {
            assert_eq!(engines.name(&id(digit)).as_deref(), name, "{digit}");
        }
        assert_eq!(engines.name("web"), None, "a name of its own");
        assert_eq!(Engines::read(Path::new("/none")).name(&id("a")), None);
    }
}
