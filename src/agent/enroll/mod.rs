//! Joining a server with one command: a code that is good once buys the agent's token, which goes
//! into the configuration and nowhere else.

mod edit;
#[cfg(test)]
mod tests;

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::agent::config::AgentConfig;
use crate::agent::reporter::target::{CALL_TIMEOUT, Target};
use crate::base::exit::{Exit, Fatal};
use crate::wire::pb::metrics::EnrollRequest;

/// What `oxmon-agent enroll` was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Options {
    /// `host:port` of the server's gRPC port.
    pub server: String,
    /// The code, good once.
    pub code: String,
    /// This host's id; without it, that of the configuration, or the host's name.
    pub agent_id: Option<String>,
    /// The configuration to write.
    pub config: PathBuf,
    /// Whether to speak TLS.
    pub tls: bool,
    /// The authorities to trust, instead of the system's.
    pub ca_file: Option<PathBuf>,
}

/// Fetches the token and writes it to the configuration; returns what to say about it.
///
/// # Errors
///
/// When the configuration can't be read, would not be a good one, or can't be written, and when
/// the server can't be reached or does not take the code.
pub(crate) fn run(options: &Options) -> Result<String, Fatal> {
    let path = fs::canonicalize(&options.config).unwrap_or_else(|_| options.config.clone());
    let before = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => {
            return Err(config(format!("cannot read {}: {error}", path.display())));
        }
    };
    // The new file is written and checked before the code is spent.
    let mut draft = Draft::create(&path)?;
    draft.write(&edited(options, &before, "-")?)?;
    let parsed = AgentConfig::load(&draft.path)
        .map_err(|error| config(error.to_string().replace(&draft.shown(), &options.shown())))?;
    let mut target = Target::of(&parsed);
    target.token = None;
    let token = fetch(&target, &options.code)?;
    draft.write(&edited(options, &before, &token)?)?;
    draft.put()?;
    let (agent, server) = (&parsed.agent_id, &options.server);
    Ok(format!(
        "{agent} may report to {server}; its token is in {}.\nStart the agent, or reload it \
         (systemctl reload oxmon-agent) where it runs.\n",
        options.shown()
    ))
}

impl Options {
    fn shown(&self) -> String {
        self.config.display().to_string()
    }
}

fn edited(options: &Options, before: &str, token: &str) -> Result<String, Fatal> {
    let edit = || {
        let mut text = edit::set_string(before, "server_endpoint", &options.server)?;
        let id = options.agent_id.clone();
        // The token is for one id, so the id is written down even where it is the host's name.
        if let Some(id) = id.or_else(|| edit::string(before, "agent_id")).or_else(host_name) {
            text = edit::set_string(&text, "agent_id", &id)?;
        }
        text = edit::set_string(&text, "auth_token", token)?;
        if let Some(ca_file) = &options.ca_file {
            text = edit::set_ca_file(&text, &ca_file.to_string_lossy())?;
        } else if options.tls {
            text = edit::enable_tls(&text)?;
        }
        Ok(text)
    };
    edit().map_err(|error: toml::de::Error| {
        config(format!("{} is not TOML: {}", options.shown(), error.message()))
    })
}

fn host_name() -> Option<String> {
    let name = rustix::system::uname().nodename().to_str().ok()?.to_owned();
    (!name.is_empty()).then_some(name)
}

fn fetch(target: &Target, code: &str) -> Result<String, Fatal> {
    let failed = |text: String| {
        Fatal::new(Exit::Failed, format!("cannot enroll at {}: {text}", target.endpoint(0)))
    };
    let env = Target::environment();
    let client = target.connect(0, &env).map_err(failed)?;
    let mut request = EnrollRequest::new();
    request.code = code.to_owned();
    request.agent_id = target.agent_id.clone();
    let option = target.call_option(Some(CALL_TIMEOUT)).map_err(failed)?;
    match client.enroll_opt(&request, option) {
        Ok(response) if response.success && !response.token.is_empty() => Ok(response.token),
        Ok(response) => Err(failed(response.message)),
        Err(error) => Err(failed(crate::agent::reporter::explain(&error))),
    }
}

fn config(message: String) -> Fatal {
    Fatal::new(Exit::Config, message)
}

/// The group of the packaged unit, whose user reads the configuration.
const UNIT_GROUP: &str = "oxmon-agent";

/// Who may read a configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Access {
    uid: u32,
    gid: u32,
    mode: u32,
}

/// Who may read the new configuration. An existing file keeps its owner, group and mode, unless
/// everybody can read it: a token is not for everybody, so it goes to the group of the unit. A new
/// file goes to that group too. Without that group the folder's owner gets it, alone.
fn access_of(existing: Option<Access>, folder: Access, unit_gid: Option<u32>) -> Access {
    match (existing, unit_gid) {
        (Some(old), _) if old.mode & 0o007 == 0 => old,
        (Some(old), Some(gid)) => Access { uid: old.uid, gid, mode: 0o640 },
        (Some(old), None) => Access { mode: old.mode & 0o700, ..old },
        (None, Some(gid)) => Access { uid: folder.uid, gid, mode: 0o640 },
        (None, None) => Access { mode: 0o600, ..folder },
    }
}

/// The number of a group in the text of /etc/group (group(5)).
fn gid_in(groups: &str, name: &str) -> Option<u32> {
    let mut lines = groups.lines().map(|line| line.split(':'));
    let mut fields = lines.find(|fields| fields.clone().next() == Some(name))?;
    fields.nth(2)?.parse().ok()
}

fn access(path: &Path) -> std::io::Result<Access> {
    let found = fs::metadata(path)?;
    Ok(Access { uid: found.uid(), gid: found.gid(), mode: found.mode() & 0o777 })
}

/// The new configuration beside the old one. Nobody else reads it before it has its owner.
struct Draft {
    path: PathBuf,
    goal: PathBuf,
    file: File,
}

impl Draft {
    fn create(goal: &Path) -> Result<Self, Fatal> {
        let name = goal.file_name().unwrap_or_default().to_string_lossy();
        let path = goal.with_file_name(format!(".{name}.{}.new", std::process::id()));
        let fail = |error| config(format!("cannot write beside {}: {error}", goal.display()));
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(fail)?;
        let draft = Self { path, goal: goal.to_owned(), file };
        let folder = goal.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = access(folder.unwrap_or(Path::new("."))).map_err(fail)?;
        let mine = access(&draft.path).map_err(fail)?;
        let groups = fs::read_to_string("/etc/group").unwrap_or_default();
        // Only root can give a file to a group that it is not in.
        let unit_gid = gid_in(&groups, UNIT_GROUP).filter(|_| mine.uid == 0);
        let wanted = access_of(access(goal).ok(), folder, unit_gid);
        if (wanted.uid, wanted.gid) != (mine.uid, mine.gid) {
            std::os::unix::fs::fchown(&draft.file, Some(wanted.uid), Some(wanted.gid))
                .map_err(fail)?;
        }
        let permissions = fs::Permissions::from_mode(wanted.mode);
        draft.file.set_permissions(permissions).map_err(fail)?;
        Ok(draft)
    }

    fn write(&mut self, text: &str) -> Result<(), Fatal> {
        use std::io::Seek as _;
        self.file
            .set_len(0)
            .and_then(|()| self.file.rewind())
            .and_then(|()| self.file.write_all(text.as_bytes()))
            .and_then(|()| self.file.sync_all())
            .map_err(|error| config(format!("cannot write {}: {error}", self.shown())))
    }

    fn put(mut self) -> Result<(), Fatal> {
        fs::rename(&self.path, &self.goal)
            .map_err(|error| config(format!("cannot replace {}: {error}", self.goal.display())))?;
        self.path = PathBuf::new();
        Ok(())
    }

    fn shown(&self) -> String {
        self.path.display().to_string()
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.path.as_os_str().is_empty() {
            let _ = fs::remove_file(&self.path);
        }
    }
}
