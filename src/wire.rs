//! Between the messages of `proto/` and the model.

use crate::model::host::{HostFacts, ProcessSnapshot, ProcessUse};
use crate::model::point::{Batch, Point};

#[allow(
    missing_docs,
    renamed_and_removed_lints,
    unsafe_code,
    clippy::all,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "generated from proto/, which holds the documentation"
)]
pub mod pb {
    include!(concat!(env!("OUT_DIR"), "/pb/mod.rs"));
}

/// The feature that tells agents of `ReportPacked`.
pub const FEATURE_PACKED: &str = "packed";
/// Metadata key of the bearer token.
pub const META_AUTHORIZATION: &str = "authorization";
/// Metadata key of the agent's id.
pub const META_AGENT_ID: &str = "agent-id";
/// Metadata key of a random text that is the same for the life of the agent's process: by it, a
/// server tells two agents with one id apart.
pub const META_INSTANCE: &str = "agent-instance";
/// Metadata key of the boot id of the agent's host.
pub const META_BOOT_ID: &str = "agent-boot-id";

/// A batch as `ReportMetrics` takes it.
pub fn batch_to_proto(batch: &Batch) -> pb::metrics::MetricBatchProto {
    points_to_proto(&batch.agent_id, batch.timestamp_ms, &batch.points)
}

/// Points of one agent as `ReportMetrics` takes them; each keeps its own time.
pub fn points_to_proto<'a>(
    agent_id: &str,
    timestamp_ms: i64,
    points: impl IntoIterator<Item = &'a Point>,
) -> pb::metrics::MetricBatchProto {
    let mut message = pb::metrics::MetricBatchProto::new();
    message.agent_id = agent_id.to_owned();
    message.timestamp_ms = timestamp_ms;
    message.data_points = points
        .into_iter()
        .map(|point| {
            let mut out = pb::metrics::MetricDataPointProto::new();
            out.timestamp_ms = point.timestamp_ms;
            out.agent_id = agent_id.to_owned();
            out.metric_name = point.metric.to_string();
            out.value = point.value;
            out.labels = point.labels.iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
            out
        })
        .collect();
    message
}

/// The facts of a host as a message.
#[cfg(feature = "agent")]
pub(crate) fn facts_to_proto(facts: HostFacts) -> pb::metrics::HostFacts {
    let mut out = pb::metrics::HostFacts::new();
    out.hostname = facts.hostname;
    out.os = facts.os;
    out.kernel = facts.kernel;
    out.architecture = facts.architecture;
    out.virtualization = facts.virtualization;
    out.cpu_model = facts.cpu_model;
    out.cpu_cores = facts.cpu_cores;
    out.memory_bytes = facts.memory_bytes;
    out.boot_time_ms = facts.boot_time_ms;
    out.time_zone = facts.time_zone;
    out.addresses = facts.addresses;
    out.agent_version = facts.agent_version;
    out
}

/// The facts of a message, inside their limits.
#[cfg(feature = "server")]
pub(crate) fn facts_from_proto(message: pb::metrics::HostFacts) -> HostFacts {
    let facts = HostFacts {
        hostname: message.hostname,
        os: message.os,
        kernel: message.kernel,
        architecture: message.architecture,
        virtualization: message.virtualization,
        cpu_model: message.cpu_model,
        cpu_cores: message.cpu_cores,
        memory_bytes: message.memory_bytes,
        boot_time_ms: message.boot_time_ms,
        time_zone: message.time_zone,
        addresses: message.addresses,
        agent_version: message.agent_version,
    };
    facts.bounded()
}

/// A snapshot of processes as a message.
#[cfg(feature = "agent")]
pub(crate) fn snapshot_to_proto(snapshot: ProcessSnapshot) -> pb::metrics::ProcessSnapshot {
    let mut out = pb::metrics::ProcessSnapshot::new();
    out.taken_at_ms = snapshot.taken_at_ms;
    out.window_ms = snapshot.window_ms;
    out.processes_seen = snapshot.processes_seen;
    out.incomplete = snapshot.incomplete;
    out.processes = snapshot.processes.into_iter().map(process_to_proto).collect();
    out
}

#[cfg(feature = "agent")]
fn process_to_proto(process: ProcessUse) -> pb::metrics::ProcessUse {
    let mut out = pb::metrics::ProcessUse::new();
    out.pid = process.pid;
    out.name = process.name;
    out.user = process.user;
    out.started_at_ms = process.started_at_ms;
    out.cgroup = process.cgroup;
    out.cpu_percent = process.cpu_percent;
    out.memory_bytes = process.memory_bytes;
    out.read_bytes = process.read_bytes;
    out.write_bytes = process.write_bytes;
    out.arguments = process.arguments;
    out
}

/// The snapshot of a message, inside its limits.
#[cfg(feature = "server")]
pub(crate) fn snapshot_from_proto(message: pb::metrics::ProcessSnapshot) -> ProcessSnapshot {
    let processes = message.processes.into_iter().map(|process| ProcessUse {
        pid: process.pid,
        name: process.name,
        user: process.user,
        started_at_ms: process.started_at_ms,
        cgroup: process.cgroup,
        cpu_percent: process.cpu_percent,
        memory_bytes: process.memory_bytes,
        read_bytes: process.read_bytes,
        write_bytes: process.write_bytes,
        arguments: process.arguments,
    });
    let snapshot = ProcessSnapshot {
        taken_at_ms: message.taken_at_ms,
        window_ms: message.window_ms,
        processes_seen: message.processes_seen,
        incomplete: message.incomplete,
        processes: processes.collect(),
    };
    snapshot.bounded()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::series::Labels;

    /// A message of `ReportMetrics` as the model has it, without the points' own `agent_id`.
    fn batch_from_proto(message: pb::metrics::MetricBatchProto) -> Batch {
        let points = message
            .data_points
            .into_iter()
            .map(|point| Point {
                metric: point.metric_name.into(),
                labels: Labels::from_pairs(point.labels),
                timestamp_ms: point.timestamp_ms,
                value: point.value,
            })
            .collect();
        Batch { agent_id: message.agent_id.into(), timestamp_ms: message.timestamp_ms, points }
    }

    #[test]
    fn a_batch_survives_the_wire() {
        let batch = Batch {
            agent_id: "web-01".into(),
            timestamp_ms: 1_770_625_800_000,
            points: vec![
                Point::plain("cpu.usage", 1_770_625_800_000, 12.5),
                Point::labelled("disk.total", "mount", "/", 1_770_625_800_000, 1e12),
            ],
        };
        assert_eq!(batch_from_proto(batch_to_proto(&batch)), batch);
    }
}
