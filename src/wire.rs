//! Between the messages of `proto/` and the model.

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
