//! A gRPC server that stores nothing but remembers what came.

use std::collections::VecDeque;
use std::sync::Arc;

use futures_util::{SinkExt as _, StreamExt as _};
use grpcio::{
    CertificateRequestType, DuplexSink, Environment, RequestStream, RpcContext, RpcStatus,
    RpcStatusCode, Server, ServerBuilder, ServerCredentials, ServerCredentialsBuilder, UnarySink,
    WriteFlags,
};
use parking_lot::{Mutex, MutexGuard};

use crate::wire::pb::metrics::{MetricBatchProto, PackedAck, PackedBatch, ReportResponse};
use crate::wire::pb::metrics_grpc::{MetricService, create_metric_service};

/// What the server answers to one call.
#[derive(Clone, Copy)]
pub(super) enum Say {
    Ok,
    Refuse,
    Status(RpcStatusCode),
}

/// A call that came.
#[derive(Clone)]
pub(super) struct Seen {
    pub agent: String,
    pub token: String,
    /// The times of its sample sets.
    pub times: Vec<i64>,
    pub stored: bool,
    pub packed: bool,
    /// Whether it had facts of the host, and a snapshot of its processes.
    pub host: (bool, bool),
}

#[derive(Default)]
struct Inner {
    script: VecDeque<Say>,
    refused_ms: Option<i64>,
    seen: Vec<Seen>,
    /// Whether packed batches are offered, and, if so, whether the call is there.
    packed: Option<bool>,
    /// Whether each answer asks for a snapshot.
    asks: bool,
}

#[derive(Clone, Default)]
struct Fake(Arc<Mutex<Inner>>);

/// The running server.
pub(super) struct FakeServer {
    fake: Fake,
    /// Certificate and key, where it speaks TLS. Clients must show a certificate of the same.
    identity: Option<(String, String)>,
    server: Option<Server>,
    port: u16,
}

impl FakeServer {
    pub(super) fn start(script: &[Say]) -> Self {
        let fake = Fake::default();
        fake.lock().script.extend(script);
        let mut server = Self { fake, identity: None, server: None, port: 0 };
        server.restart();
        server
    }

    pub(super) fn start_tls(cert: &str, key: &str) -> Self {
        let identity = Some((cert.to_owned(), key.to_owned()));
        let mut server = Self { fake: Fake::default(), identity, server: None, port: 0 };
        server.restart();
        server
    }

    fn credentials(&self) -> ServerCredentials {
        let Some((cert, key)) = &self.identity else { return ServerCredentials::insecure() };
        let ask = CertificateRequestType::RequestAndRequireClientCertificateAndVerify;
        ServerCredentialsBuilder::new()
            .root_cert(cert.as_str(), ask)
            .add_cert(cert.clone().into_bytes(), key.clone().into_bytes())
            .build()
    }

    pub(super) fn restart(&mut self) {
        let env = Arc::new(Environment::new(1));
        let mut server = ServerBuilder::new(env)
            .register_service(create_metric_service(self.fake.clone()))
            .build()
            .unwrap();
        let address = format!("127.0.0.1:{}", self.port);
        self.port = server.add_listening_port(address, self.credentials()).unwrap();
        server.start();
        self.server = Some(server);
    }

    pub(super) fn stop(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.cancel_all_calls();
            futures_executor_wait(server.shutdown());
        }
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.fake.lock().seen.clone()
    }

    pub(super) fn say(&self, say: Say) {
        self.fake.lock().script.push_back(say);
    }

    /// Refuses every call that has a sample set of this time.
    pub(super) fn refuse(&self, time_ms: i64) {
        self.fake.lock().refused_ms = Some(time_ms);
    }

    pub(super) fn ask_for_snapshots(&self) {
        self.fake.lock().asks = true;
    }

    pub(super) fn offer_packed(&self, is_there: bool) {
        self.fake.lock().packed = Some(is_there);
    }
}

/// Waits for a future on this thread.
fn futures_executor_wait(future: impl Future) {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut context = std::task::Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    while future.as_mut().poll(&mut context).is_pending() {
        std::thread::park();
    }
}

impl Fake {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock()
    }

    fn judge(
        &self,
        ctx_meta: (String, String),
        mut times: Vec<i64>,
        packed: bool,
        host: (bool, bool),
    ) -> Say {
        let mut inner = self.lock();
        times.dedup();
        let mut say = inner.script.pop_front().unwrap_or(Say::Ok);
        if inner.refused_ms.is_some_and(|time| times.contains(&time)) && matches!(say, Say::Ok) {
            say = Say::Refuse;
        }
        let (agent, token) = ctx_meta;
        let stored = matches!(say, Say::Ok);
        inner.seen.push(Seen { agent, token, times, stored, packed, host });
        say
    }
}

fn metadata(ctx: &RpcContext<'_>) -> (String, String) {
    let find = |key: &str| {
        let found = ctx.request_headers().iter().find(|(name, _)| *name == key);
        found.map(|(_, value)| String::from_utf8_lossy(value).into_owned()).unwrap_or_default()
    };
    (find("agent-id"), find("authorization"))
}

impl MetricService for Fake {
    fn report_metrics(
        &mut self,
        ctx: RpcContext<'_>,
        batch: MetricBatchProto,
        sink: UnarySink<ReportResponse>,
    ) {
        let times = batch.data_points.iter().map(|point| point.timestamp_ms).collect();
        let mut response = ReportResponse::new();
        if self.lock().packed.is_some() {
            response.features.push("packed".to_owned());
        }
        response.snapshot_wanted = self.lock().asks;
        let host = (batch.facts.is_some(), batch.snapshot.is_some());
        let reply = match self.judge(metadata(&ctx), times, false, host) {
            Say::Ok => {
                response.success = true;
                sink.success(response)
            }
            Say::Refuse => {
                response.message = "no".to_owned();
                sink.success(response)
            }
            Say::Status(code) => sink.fail(RpcStatus::new(code)),
        };
        ctx.spawn(async move {
            let _ = reply.await;
        });
    }

    fn report_packed(
        &mut self,
        ctx: RpcContext<'_>,
        mut batches: RequestStream<PackedBatch>,
        mut sink: DuplexSink<PackedAck>,
    ) {
        if self.lock().packed != Some(true) {
            let end = sink.fail(RpcStatus::new(RpcStatusCode::UNIMPLEMENTED));
            ctx.spawn(async move {
                let _ = end.await;
            });
            return;
        }
        let who = metadata(&ctx);
        let fake = self.clone();
        ctx.spawn(async move {
            while let Some(Ok(batch)) = batches.next().await {
                let times = batch.ticks.iter().map(|set| set.timestamp_ms).collect();
                let mut ack = PackedAck::new();
                ack.sequence = batch.sequence;
                ack.snapshot_wanted = fake.lock().asks;
                let host = (batch.facts.is_some(), batch.snapshot.is_some());
                match fake.judge(who.clone(), times, true, host) {
                    Say::Ok => ack.success = true,
                    Say::Refuse => {}
                    Say::Status(_) => ack.retry = true,
                }
                if sink.send((ack, WriteFlags::default())).await.is_err() {
                    return;
                }
            }
            let _ = sink.close().await;
        });
    }
}
