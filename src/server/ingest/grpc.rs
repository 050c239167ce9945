//! The gRPC port: the C core behind its gate, limits and the end. What its calls do is in `calls`.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use grpcio::{
    ChannelBuilder, EnvBuilder, Environment, ResourceQuota, Server, ServerBuilder,
    ServerCredentials,
};

use super::calls::{self, Handler, UnderWay};
use super::intake::{Caller, Intake};
use crate::base::exit::{Exit, Fatal};
use crate::base::limits::{GRPC_MEMORY_BYTES_MAX, GRPC_MESSAGE_BYTES_MAX, GRPC_STREAMS_MAX};
use crate::rt::thread::{self, TimerSlack};
use crate::server::config::ServerConfig;
use crate::server::gate::grpc::admission::Admission;
use crate::server::gate::private::PrivateFolder;
use crate::server::gate::running::Gate;
use crate::server::gate::tls::Acceptor;
use crate::server::gate::{grpc, listener};

/// How long calls may go on after the port has closed.
const DRAIN_WITHIN: Duration = Duration::from_millis(2_000);
/// How long the library may take to close what is left.
const CLOSE_WITHIN: Duration = Duration::from_millis(1_000);

/// How late gRPC's own timers may be, which look after connections: its core wakes threads for them
/// up to 64 times a second on a machine of many cores.
const TIMER_SLACK: Duration = Duration::from_secs(1);

/// The running gRPC server.
pub(crate) struct GrpcServer {
    server: Server,
    env: Arc<Environment>,
    intake: Arc<Intake>,
    under_way: Arc<UnderWay>,
    gate: Gate,
    /// Holds the socket between gate and core.
    _folder: PrivateFolder,
}

impl GrpcServer {
    /// Listens on every address of `bind` at `grpc_port`, with TLS where there is an acceptor.
    ///
    /// # Errors
    ///
    /// When a port is taken, or no folder takes the socket inside.
    pub(crate) fn start(
        config: &ServerConfig,
        intake: Arc<Intake>,
        tls: Option<Arc<Acceptor>>,
        registry: &prometheus::Registry,
    ) -> Result<Self, Fatal> {
        grpcio::redirect_log();
        let listeners = listener::bind(&config.bind, config.grpc_port, "gRPC")?;
        let failed = |error: &dyn std::fmt::Display| {
            Fatal::new(Exit::Failed, format!("cannot start the gRPC server: {error}"))
        };
        let parents = [std::env::temp_dir(), config.data_dir.clone()];
        let folder = PrivateFolder::create(&parents).map_err(|error| failed(&error))?;
        let core = folder.path().join("grpc");
        let env = EnvBuilder::new().cq_count(config.pools.ingest_workers).name_prefix("ingest");
        // Not the workers: the library sleeps for moments in them while others wait for its locks.
        let build = |usual: TimerSlack| env.after_start(move || usual.restore()).build();
        let env = Arc::new(thread::with_timer_slack(TIMER_SLACK, build));
        let under_way = Arc::new(UnderWay::default());
        let handler = Handler::new(Arc::clone(&intake), Arc::clone(&under_way));
        let mut server = ServerBuilder::new(Arc::clone(&env))
            .channel_args(limits(&env).build_args())
            .register_service(calls::service(&handler))
            .build()
            .map_err(|error| failed(&error))?;
        // In the clear: the folder keeps everybody else out, and TLS ends at the gate.
        server
            .add_listening_port(format!("unix:{}", core.display()), ServerCredentials::insecure())
            .map_err(|error| failed(&error))?;
        server.start();
        let behind = grpc::Behind { core, admission: admission(&intake) };
        let gate = Gate::start::<grpc::Serve>(listeners, tls, behind, registry)?;
        Ok(Self { server, env, intake, under_way, gate, _folder: folder })
    }

    /// The addresses that it listens on.
    pub(crate) fn addresses(&self) -> &[SocketAddr] {
        self.gate.addresses()
    }

    /// Uses the certificate on the disk for new connections.
    ///
    /// # Errors
    ///
    /// When it can't be used; the one before stays in force.
    pub(crate) fn reload(&self) -> Result<(), String> {
        self.gate.reload()
    }

    /// Says NOT_SERVING, takes no more calls, waits for the answers of those under way while the
    /// store still writes, and ends the streams.
    pub(crate) fn stop(mut self) {
        self.intake.stop();
        self.gate.stop_accepting();
        let closed = self.server.shutdown();
        if !self.under_way.wait_until_none(DRAIN_WITHIN) {
            log::warn!("some reports were not answered in time; their agents send them again");
        }
        self.server.cancel_all_calls();
        if wait(closed, CLOSE_WITHIN).is_none() {
            log::warn!("the gRPC server did not close in time");
            // The library ends the process when a server goes that has not closed.
            std::mem::forget(self.server);
            std::mem::forget(self.env);
        }
    }
}

fn limits(env: &Arc<Environment>) -> ChannelBuilder {
    let quota = ResourceQuota::new(Some("ingest")).resize_memory(GRPC_MEMORY_BYTES_MAX);
    ChannelBuilder::new(Arc::clone(env))
        .max_receive_message_len(GRPC_MESSAGE_BYTES_MAX as i32)
        .max_concurrent_stream(GRPC_STREAMS_MAX)
        .set_resource_quota(quota)
        // A few bytes may unpack to a gigabyte.
        .raw_cfg_int(c"grpc.per_message_decompression".to_owned(), 0)
        // Finds connections whose peer is gone without closing them.
        .keepalive_time(Duration::from_secs(120))
        .keepalive_timeout(Duration::from_secs(20))
        .keepalive_permit_without_calls(true)
        .http2_min_recv_ping_interval_without_data(Duration::from_secs(5))
        .http2_max_ping_strikes(5)
        // Reports are small: probing the bandwidth would cost a ping for each.
        .http2_bdp_probe(false)
}

/// Who may report, where tokens are required.
fn admission(intake: &Arc<Intake>) -> Admission {
    if !intake.requires_auth() {
        return Admission::default();
    }
    let intake = Arc::clone(intake);
    Admission::by(move |agent_id, authorization| {
        intake.authenticate(&Caller::new(agent_id, authorization)).is_ok()
    })
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for a future on this thread; `None` when it takes longer than `within`.
pub(super) fn wait<F: Future>(future: F, within: Duration) -> Option<F::Output> {
    let deadline = Instant::now() + within;
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Some(output);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return None;
        }
        std::thread::park_timeout(left);
    }
}
