//! `oxmon-mock bench`: simulated agents in a closed loop or at an interval, each on a connection of
//! its own, against a running server; prints what the server took and what it cost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, bounded};
use futures_util::{SinkExt as _, StreamExt as _};
use grpcio::{Environment, RpcStatusCode, WriteFlags};

use crate::base::cli::print;
use crate::base::clock::{Clock as _, HOUR_MS, SystemClock};
use crate::base::exit::{Exit, Fatal};
use crate::base::limits::PACKED_POINTS_MAX;
use crate::mock::client::{self, Endpoint};
use crate::mock::measure;
use crate::mock::pace::{Pace, Pacer};
use crate::mock::workload::Host;
use crate::rt::stop::Stop;
use crate::wire::pb::metrics::{
    MetricBatchProto, MetricDataPointProto, PackedBatch, PackedSeries, PackedTick,
};
use crate::wire::pb::metrics_grpc::MetricServiceClient;

/// Which call the agents use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// `ReportMetrics`, a batch a call.
    Unary,
    /// `ReportPacked`, with as many ticks a message as an agent sends after an outage.
    Packed,
}

/// What to run.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// The server.
    pub endpoint: Endpoint,
    /// Its HTTP address, to count what it holds in the end.
    pub http: Option<String>,
    /// Its process, to measure what it costs.
    pub pid: Option<u32>,
    /// Simulated agents.
    pub agents: usize,
    /// Series of each.
    pub points: usize,
    /// Seconds that count.
    pub seconds: u64,
    /// Seconds before them.
    pub warm_up: u64,
    /// The call.
    pub mode: Mode,
    /// Seed of the workload.
    pub seed: u64,
    /// Simulated time between two ticks of an agent.
    pub step_ms: i64,
    /// Time between two reports of an agent; zero: the next follows the answer.
    pub every: Duration,
}

#[derive(Default)]
struct Counters {
    acknowledged: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
    calls: AtomicU64,
    stop: AtomicBool,
}

/// Runs and prints.
///
/// # Errors
///
/// When the server can't be reached, or holds another number of points than it acknowledged.
pub(crate) fn run(options: &Options) -> Result<(), Fatal> {
    let env = client::environment(1);
    let counters = Arc::new(Counters::default());
    // Times lie in the past and move faster than the clock, so that each tick is a new one.
    let start_ms = (SystemClock.now_ms() - 3 * HOUR_MS) / options.step_ms * options.step_ms;
    let (end, ended) = bounded::<()>(0);
    let pacer = Pacer::start();
    for number in 0..options.agents {
        let agent = Agent::new(options, number, start_ms, &env, (&counters, &pacer))?;
        agent.start(options.mode, end.clone());
    }
    drop(end);
    let wait = Stop::never();
    wait.wait(Duration::from_secs(options.warm_up));
    let before = Reading::take(&counters, options.pid);
    wait.wait(Duration::from_secs(options.seconds));
    let after = Reading::take(&counters, options.pid);
    counters.stop.store(true, Ordering::SeqCst);
    pacer.stop();
    // Every agent's task holds a sender until its last call is answered.
    let _ = ended.recv_timeout(Duration::from_secs(30));
    report(options, &counters, &before, &after)
}

struct Reading {
    at: Instant,
    acknowledged: u64,
    calls: u64,
    cpu_secs: Option<f64>,
}

impl Reading {
    fn take(counters: &Counters, pid: Option<u32>) -> Self {
        Self {
            at: Instant::now(),
            acknowledged: counters.acknowledged.load(Ordering::SeqCst),
            calls: counters.calls.load(Ordering::SeqCst),
            cpu_secs: pid.and_then(measure::cpu_secs),
        }
    }
}

fn report(
    options: &Options,
    counters: &Counters,
    before: &Reading,
    after: &Reading,
) -> Result<(), Fatal> {
    let secs = after.at.duration_since(before.at).as_secs_f64();
    let points = after.acknowledged - before.acknowledged;
    let mut out = format!(
        "acknowledged_points_per_s {:.0}\ncalls_per_s {:.0}\n",
        points as f64 / secs,
        (after.calls - before.calls) as f64 / secs
    );
    if let (Some(a), Some(b)) = (before.cpu_secs, after.cpu_secs) {
        let per_million = (b - a) / (points as f64 / 1e6);
        out.push_str(&format!("server_cpu_s_per_million_points {per_million:.2}\n"));
    }
    if let Some(mb) = options.pid.and_then(measure::peak_rss_mb) {
        out.push_str(&format!("server_peak_rss_mb {mb:.1}\n"));
    }
    let refused = counters.refused.load(Ordering::SeqCst);
    let failed = counters.failed.load(Ordering::SeqCst);
    out.push_str(&format!("refused_calls {refused}\nfailed_calls {failed}\n"));
    print(&out);
    let Some(base) = &options.http else { return Ok(()) };
    let stored = measure::stored_points(base, "admin", "changeme")?;
    let acknowledged = counters.acknowledged.load(Ordering::SeqCst);
    print(&format!("stored_points {stored}\nacknowledged_points {acknowledged}\n"));
    // A call without an answer may have been stored all the same; the other way round never.
    if stored < acknowledged || (failed == 0 && stored != acknowledged) {
        let message = format!("the server holds {stored} points and acknowledged {acknowledged}");
        return Err(Fatal::new(Exit::Failed, message));
    }
    Ok(())
}

struct Agent {
    service: MetricServiceClient,
    id: String,
    host: Host,
    at_ms: i64,
    step_ms: i64,
    counters: Arc<Counters>,
    pace: Pace,
}

impl Agent {
    fn new(
        options: &Options,
        number: usize,
        at_ms: i64,
        env: &Arc<Environment>,
        (counters, pacer): (&Arc<Counters>, &Pacer),
    ) -> Result<Self, Fatal> {
        let seed = options.seed.wrapping_mul(1_000_003).wrapping_add(number as u64);
        Ok(Self {
            service: MetricServiceClient::new(client::connect(env, &options.endpoint)?),
            id: format!("bench-{number:05}"),
            host: Host::new(seed, options.points),
            at_ms,
            step_ms: options.step_ms,
            counters: Arc::clone(counters),
            pace: pacer.pace(number, options.agents, options.every),
        })
    }

    /// Runs as a task on gRPC's own completion queue.
    fn start(self, mode: Mode, end: Sender<()>) {
        let service = self.service.clone();
        match mode {
            Mode::Unary => service.spawn(async move {
                let _end = end;
                self.unary().await;
            }),
            Mode::Packed => service.spawn(async move {
                let _end = end;
                self.packed().await;
            }),
        }
    }

    fn running(&self) -> bool {
        !self.counters.stop.load(Ordering::Relaxed)
    }

    async fn unary(mut self) {
        let mut batch = MetricBatchProto::new();
        batch.agent_id.clone_from(&self.id);
        for series in &self.host.series {
            let mut point = MetricDataPointProto::new();
            point.agent_id.clone_from(&self.id);
            point.metric_name = series.metric.to_owned();
            point.labels = series.labels.to_map().into_iter().collect();
            batch.data_points.push(point);
        }
        let points = batch.data_points.len() as u64;
        while self.running() {
            self.pace.wait().await;
            self.at_ms += self.step_ms;
            batch.timestamp_ms = self.at_ms;
            let at_ms = self.at_ms;
            self.host.step(self.step_ms, |index, value| {
                batch.data_points[index].timestamp_ms = at_ms;
                batch.data_points[index].value = value;
            });
            // A refused batch is sent again until it is taken, as an agent does.
            while self.running() {
                self.counters.calls.fetch_add(1, Ordering::Relaxed);
                let Ok(call) = client::options(&self.id, None) else { return };
                let Ok(receiver) = self.service.report_metrics_async_opt(&batch, call) else {
                    return;
                };
                match receiver.await {
                    Ok(reply) if reply.success => {
                        self.counters.acknowledged.fetch_add(points, Ordering::Relaxed);
                        break;
                    }
                    Err(grpcio::Error::RpcFailure(status))
                        if status.code() == RpcStatusCode::RESOURCE_EXHAUSTED =>
                    {
                        self.counters.refused.fetch_add(1, Ordering::Relaxed);
                    }
                    _ => {
                        self.counters.failed.fetch_add(1, Ordering::Relaxed);
                        return;
                    }
                }
            }
        }
    }

    fn message(&mut self, sequence: u64) -> PackedBatch {
        let mut batch = PackedBatch::new();
        batch.sequence = sequence;
        if sequence == 1 {
            batch.agent_id.clone_from(&self.id);
            for series in &self.host.series {
                let mut named = PackedSeries::new();
                named.metric_name = series.metric.to_owned();
                named.labels = series.labels.to_map().into_iter().collect();
                batch.new_series.push(named);
            }
        }
        let count = self.host.series.len();
        // The first message names the series, with one tick: as an agent's does.
        let most = (PACKED_POINTS_MAX / count.max(1)).max(1);
        let ticks = if sequence == 1 || !self.pace.is_closed_loop() { 1 } else { most };
        for tick in 0..ticks {
            let mut packed = PackedTick::new();
            self.at_ms += self.step_ms;
            packed.timestamp_ms = self.at_ms;
            if sequence == 1 && tick == 0 {
                packed.series = (0..count as u32).collect();
            }
            packed.values.reserve(count);
            self.host.step(self.step_ms, |_, value| packed.values.push(value));
            batch.ticks.push(packed);
        }
        batch
    }

    async fn packed(mut self) {
        let Ok(call) = client::options(&self.id, None) else { return };
        let call = call.timeout(Duration::from_secs(3_600));
        let Ok((mut sink, mut replies)) = self.service.report_packed_opt(call) else { return };
        let mut sequence = 0;
        while self.running() {
            self.pace.wait().await;
            sequence += 1;
            let batch = self.message(sequence);
            let points = (self.host.series.len() * batch.ticks.len()) as u64;
            loop {
                self.counters.calls.fetch_add(1, Ordering::Relaxed);
                if sink.send((batch.clone(), WriteFlags::default())).await.is_err() {
                    self.counters.failed.fetch_add(1, Ordering::Relaxed);
                    return;
                }
                match replies.next().await {
                    Some(Ok(ack)) if ack.success => {
                        self.counters.acknowledged.fetch_add(points, Ordering::Relaxed);
                        break;
                    }
                    Some(Ok(ack)) if ack.retry && self.running() => {
                        self.counters.refused.fetch_add(1, Ordering::Relaxed);
                    }
                    _ => {
                        self.counters.failed.fetch_add(1, Ordering::Relaxed);
                        return;
                    }
                }
            }
        }
        let _ = sink.close().await;
    }
}
