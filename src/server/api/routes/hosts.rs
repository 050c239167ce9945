//! What agents say of their hosts, as the API shows it: the facts of an agent, and the processes of
//! an alert.

use serde::Serialize;
use utoipa::ToSchema;

use crate::model::host::{HostFacts, ProcessSnapshot, ProcessUse};
use crate::server::api::schema::Time;

/// What a host is, as its agent last said. Texts are empty where the agent could not find out.
#[derive(Serialize, ToSchema)]
pub(super) struct Facts {
    hostname: String,
    /// Such as `Debian GNU/Linux 12 (bookworm)`.
    os: String,
    /// Such as `Linux 6.1.0-18-amd64`.
    kernel: String,
    /// Such as `x86_64`.
    architecture: String,
    /// `none`, or what the system runs in, such as `kvm` or `docker`.
    virtualization: String,
    cpu_model: String,
    cpu_cores: Option<u32>,
    memory_bytes: Option<u64>,
    boot_time: Option<Time>,
    /// Such as `Europe/Berlin`.
    time_zone: String,
    /// IP addresses but for those of loopback and of one link.
    addresses: Vec<String>,
    agent_version: String,
    /// When they last changed.
    updated_at: Time,
}

impl Facts {
    pub(super) fn new(facts: HostFacts, updated_ms: i64) -> Self {
        Self {
            hostname: facts.hostname,
            os: facts.os,
            kernel: facts.kernel,
            architecture: facts.architecture,
            virtualization: facts.virtualization,
            cpu_model: facts.cpu_model,
            cpu_cores: Some(facts.cpu_cores).filter(|cores| *cores > 0),
            memory_bytes: Some(facts.memory_bytes).filter(|bytes| *bytes > 0),
            boot_time: Some(facts.boot_time_ms).filter(|ms| *ms > 0).map(Time),
            time_zone: facts.time_zone,
            addresses: facts.addresses,
            agent_version: facts.agent_version,
            updated_at: Time(updated_ms),
        }
    }
}

/// The processes that used the most CPU time, memory or I/O on a host while an alert was pending
/// or firing.
#[derive(Serialize, ToSchema)]
pub(super) struct Processes {
    taken_at: Time,
    /// Over how long CPU time and I/O were measured.
    window_ms: u32,
    /// Processes that the agent saw.
    processes_seen: u32,
    /// What the agent could not read, and why.
    incomplete: Option<String>,
    /// Those with the most CPU time first.
    processes: Vec<Process>,
}

/// What a process used.
#[derive(Serialize, ToSchema)]
pub(super) struct Process {
    pid: u32,
    name: String,
    /// The user's name, or its number where the host's /etc/passwd has none.
    user: String,
    started_at: Option<Time>,
    /// Such as `/system.slice/nginx.service`.
    cgroup: String,
    /// 100 for each core that is fully used.
    cpu_percent: f64,
    /// Resident memory.
    memory_bytes: u64,
    /// A second; null where the agent may not see it.
    read_bytes: Option<f64>,
    /// A second; null where the agent may not see it.
    write_bytes: Option<f64>,
    /// Null unless the agent's `snapshot.arguments` is true.
    arguments: Option<String>,
}

impl From<ProcessSnapshot> for Processes {
    fn from(snapshot: ProcessSnapshot) -> Self {
        Self {
            taken_at: Time(snapshot.taken_at_ms),
            window_ms: snapshot.window_ms,
            processes_seen: snapshot.processes_seen,
            incomplete: Some(snapshot.incomplete).filter(|text| !text.is_empty()),
            processes: snapshot.processes.into_iter().map(Process::from).collect(),
        }
    }
}

impl From<ProcessUse> for Process {
    fn from(process: ProcessUse) -> Self {
        Self {
            pid: process.pid,
            name: process.name,
            user: process.user,
            started_at: Some(process.started_at_ms).filter(|ms| *ms > 0).map(Time),
            cgroup: process.cgroup,
            cpu_percent: process.cpu_percent,
            memory_bytes: process.memory_bytes,
            read_bytes: process.read_bytes,
            write_bytes: process.write_bytes,
            arguments: process.arguments,
        }
    }
}
