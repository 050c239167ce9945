//! A real client over loopback, the real store in a temporary folder.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod batches;
mod life;
mod streams;
mod tokens;

use std::sync::Arc;
use std::time::{Duration, Instant};

use grpcio::{
    CallOption, ChannelBuilder, EnvBuilder, Environment, MetadataBuilder, RpcStatus, RpcStatusCode,
};
use tempfile::TempDir;

use super::auth::Whitelist;
use super::grpc::GrpcServer;
use super::intake::Intake;
use super::senders::Senders;
use crate::base::clock::{Clock, ManualClock};
use crate::model::point::{Batch, Point};
use crate::server::config::ServerConfig;
use crate::server::control::Control;
use crate::server::storage::engine::Engine;
use crate::server::storage::{LatestRow, Store};
use crate::wire::batch_to_proto;
use crate::wire::pb::health_grpc::HealthClient;
use crate::wire::pb::metrics::{MetricBatchProto, ReportResponse};
use crate::wire::pb::metrics_grpc::MetricServiceClient;

const NOW_MS: i64 = 1_770_625_800_000;

struct Bench {
    server: Option<GrpcServer>,
    intake: Arc<Intake>,
    store: Arc<Engine>,
    whitelist: Arc<Whitelist>,
    port: u16,
    clients: Arc<Environment>,
    _dir: TempDir,
}

impl Bench {
    fn start(change: impl FnOnce(&mut ServerConfig)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = ServerConfig {
            data_dir: dir.path().join("data"),
            bind: vec!["127.0.0.1".to_owned()],
            // Port 0: any that is free.
            grpc_port: 0,
            ..ServerConfig::default()
        };
        change(&mut config);
        let clock: Arc<dyn Clock> = ManualClock::at(NOW_MS);
        let registry = prometheus::Registry::new();
        let store = Engine::open(&config, Arc::clone(&clock), &registry).unwrap();
        let control = Control::open(&config.data_dir).unwrap();
        let whitelist = Arc::new(Whitelist::open(control, Arc::clone(&clock)).unwrap());
        let intake = Intake::new(
            &config,
            Arc::clone(&whitelist),
            Arc::new(Senders::new(config.ingest.refuse_twins, Box::new(|_, _| {}))),
            Arc::clone(&store) as Arc<dyn Store>,
            clock,
            &registry,
        );
        let intake = Arc::new(intake.unwrap());
        let server = GrpcServer::start(&config, Arc::clone(&intake), None, &registry).unwrap();
        let port = server.addresses()[0].port();
        let clients = Arc::new(EnvBuilder::new().cq_count(1).build());
        Self { server: Some(server), intake, store, whitelist, port, clients, _dir: dir }
    }

    fn channel(&self) -> grpcio::Channel {
        ChannelBuilder::new(Arc::clone(&self.clients))
            .max_send_message_len(-1)
            .initial_reconnect_backoff(Duration::from_millis(20))
            .connect(&format!("127.0.0.1:{}", self.port))
    }

    fn client(&self) -> MetricServiceClient {
        MetricServiceClient::new(self.channel())
    }

    fn health(&self) -> HealthClient {
        HealthClient::new(self.channel())
    }

    fn report(&self, batch: &MetricBatchProto) -> Result<ReportResponse, RpcStatusCode> {
        self.report_with(batch, &[]).map_err(|status| status.code())
    }

    fn report_with(
        &self,
        batch: &MetricBatchProto,
        metadata: &[(&str, &str)],
    ) -> Result<ReportResponse, RpcStatus> {
        self.client().report_metrics_opt(batch, options(metadata)).map_err(status_of)
    }

    fn latest(&self, agent: &str) -> Vec<LatestRow> {
        self.store.latest(agent).unwrap()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            server.stop();
        }
        self.store.stop();
    }
}

fn options(metadata: &[(&str, &str)]) -> CallOption {
    let mut builder = MetadataBuilder::new();
    for (name, value) in metadata {
        builder.add_str(name, value).unwrap();
    }
    CallOption::default()
        .wait_for_ready(true)
        .timeout(Duration::from_secs(20))
        .headers(builder.build())
}

fn status_of(error: grpcio::Error) -> RpcStatus {
    match error {
        grpcio::Error::RpcFailure(status) => status,
        other => panic!("the call broke: {other}"),
    }
}

fn batch(agent: &str, points: Vec<Point>) -> MetricBatchProto {
    batch_to_proto(&Batch { agent_id: agent.into(), timestamp_ms: NOW_MS, points })
}

fn point(metric: &str, value: f64) -> Point {
    Point::plain(metric, NOW_MS, value)
}

/// Waits until `ready`, asking now and then.
fn wait_until(what: &str, mut ready: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !ready() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}
