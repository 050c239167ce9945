//! A plain client of the wire contract, for what an agent of ours would never send.

use std::sync::Arc;
use std::time::Duration;

use grpcio::{CallOption, ChannelBuilder, EnvBuilder, MetadataBuilder, RpcStatus};
use oxmon::model::point::{Batch, Point};
use oxmon::wire::batch_to_proto;
use oxmon::wire::pb::metrics::{MetricBatchProto, ReportResponse};
use oxmon::wire::pb::metrics_grpc::MetricServiceClient;

/// A client on one connection.
pub struct Client(pub MetricServiceClient);

impl Client {
    pub fn to(grpc_port: u16) -> Self {
        let env = Arc::new(EnvBuilder::new().cq_count(1).build());
        let channel = ChannelBuilder::new(env)
            .initial_reconnect_backoff(Duration::from_millis(50))
            .max_reconnect_backoff(Duration::from_millis(200))
            .connect(&format!("127.0.0.1:{grpc_port}"));
        Self(MetricServiceClient::new(channel))
    }

    /// Reports without a token.
    pub fn report(&self, batch: &MetricBatchProto) -> Result<ReportResponse, RpcStatus> {
        self.report_with(batch, &[])
    }

    /// Reports with metadata.
    pub fn report_with(
        &self,
        batch: &MetricBatchProto,
        metadata: &[(&str, &str)],
    ) -> Result<ReportResponse, RpcStatus> {
        let mut builder = MetadataBuilder::new();
        for (name, value) in metadata {
            builder.add_str(name, value).expect("metadata is ASCII");
        }
        let options = CallOption::default()
            .wait_for_ready(true)
            .timeout(Duration::from_secs(10))
            .headers(builder.build());
        self.0.report_metrics_opt(batch, options).map_err(|error| match error {
            grpcio::Error::RpcFailure(status) => status,
            other => panic!("the call broke: {other}"),
        })
    }
}

/// A batch of one agent with these points.
pub fn batch(agent: &str, timestamp_ms: i64, points: &[(&str, f64)]) -> MetricBatchProto {
    batch_to_proto(&Batch {
        agent_id: agent.into(),
        timestamp_ms,
        points: points
            .iter()
            .map(|(name, value)| Point::plain(name, timestamp_ms, *value))
            .collect(),
    })
}

/// The machine's time in Unix milliseconds.
pub fn now_ms() -> i64 {
    use oxmon::base::clock::{Clock, SystemClock};
    SystemClock.now_ms()
}
