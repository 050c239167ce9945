//! Agents of the test: each reports to one of two servers, goes to the other when that does not
//! answer, and comes home after some seconds, as real agents do after minutes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use grpcio::{CallOption, ChannelBuilder, EnvBuilder};
use oxmon::model::point::{Batch, Point};
use oxmon::wire::batch_to_proto;
use oxmon::wire::pb::metrics_grpc::MetricServiceClient;

use crate::support::grpc::now_ms;

/// How often each agent reports.
const EVERY: Duration = Duration::from_millis(500);
/// How long an agent stays with a server that is not its first.
const AWAY: Duration = Duration::from_secs(4);
/// The metric of the rules.
pub const HEAT: &str = "cpu.usage";
/// Another one, with a label.
pub const DISK: &str = "disk.used_percent";

/// What an agent reports and what was acknowledged of it.
#[derive(Default)]
pub struct Told {
    /// Bits of the values by time, of both metrics.
    pub heat: BTreeMap<i64, u64>,
    pub disk: BTreeMap<i64, u64>,
}

/// One agent.
pub struct Roamer {
    pub name: String,
    /// The value that it reports as [`HEAT`], as bits.
    heat: AtomicU64,
    /// Whether it reports.
    on: AtomicBool,
    /// The server that took its last report.
    pub at: AtomicU64,
    pub told: Mutex<Told>,
}

impl Roamer {
    pub fn set_heat(&self, value: f64) {
        self.heat.store(value.to_bits(), Ordering::SeqCst);
    }

    pub fn set_on(&self, on: bool) {
        self.on.store(on, Ordering::SeqCst);
    }

    /// How many reports were acknowledged.
    pub fn count(&self) -> usize {
        self.told.lock().unwrap().heat.len()
    }
}

/// The agents, each on a thread.
pub struct Fleet {
    pub agents: Vec<Arc<Roamer>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Fleet {
    pub fn start(count: usize, ports: [u16; 2]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let env = Arc::new(EnvBuilder::new().cq_count(2).build());
        let mut agents = Vec::new();
        let mut threads = Vec::new();
        for number in 0..count {
            let agent = Arc::new(Roamer {
                name: format!("roam-{number:02}"),
                heat: AtomicU64::new(20_f64.to_bits()),
                on: AtomicBool::new(true),
                at: AtomicU64::new(number as u64 % 2),
                told: Mutex::default(),
            });
            let clients = ports.map(|port| {
                let channel = ChannelBuilder::new(Arc::clone(&env))
                    .raw_cfg_int(c"grpc.use_local_subchannel_pool".into(), 1)
                    .initial_reconnect_backoff(Duration::from_millis(100))
                    .max_reconnect_backoff(Duration::from_millis(500))
                    .connect(&format!("127.0.0.1:{port}"));
                MetricServiceClient::new(channel)
            });
            agents.push(Arc::clone(&agent));
            let stop = Arc::clone(&stop);
            threads.push(std::thread::spawn(move || roam(&agent, &clients, number, &stop)));
        }
        Self { agents, stop, threads }
    }

    /// Ends the agents, each once its last report is acknowledged.
    pub fn end(self) -> Vec<Arc<Roamer>> {
        self.stop.store(true, Ordering::SeqCst);
        self.threads.into_iter().for_each(|thread| thread.join().expect("an agent"));
        self.agents
    }
}

fn roam(agent: &Roamer, clients: &[MetricServiceClient; 2], number: usize, stop: &AtomicBool) {
    let first = number % 2;
    let mut current = first;
    let mut home_at: Option<Instant> = None;
    std::thread::sleep(EVERY * number as u32 / 50);
    while !stop.load(Ordering::SeqCst) {
        let begun = Instant::now();
        if agent.on.load(Ordering::SeqCst) {
            if home_at.is_some_and(|at| at <= begun) {
                (current, home_at) = (first, None);
            }
            report(agent, clients, &mut current);
            agent.at.store(current as u64, Ordering::SeqCst);
            if current != first {
                // Not all in one moment.
                home_at.get_or_insert(begun + AWAY + EVERY * (number as u32 % 8));
            }
        }
        std::thread::sleep(EVERY.saturating_sub(begun.elapsed()));
    }
}

/// Sends one report until it is acknowledged, by the one server or the other.
fn report(agent: &Roamer, clients: &[MetricServiceClient; 2], current: &mut usize) {
    let at = now_ms();
    let heat = f64::from_bits(agent.heat.load(Ordering::SeqCst));
    let disk = (at % 9_973) as f64 / 100.0;
    let points = vec![Point::plain(HEAT, at, heat), Point::labelled(DISK, "mount", "/", at, disk)];
    let batch = Batch { agent_id: agent.name.as_str().into(), timestamp_ms: at, points };
    let proto = batch_to_proto(&batch);
    loop {
        let options = CallOption::default().timeout(Duration::from_secs(5));
        let reply = clients[*current].report_metrics_opt(&proto, options);
        if reply.is_ok_and(|reply| reply.success) {
            break;
        }
        *current = 1 - *current;
        std::thread::sleep(Duration::from_millis(100));
    }
    let mut told = agent.told.lock().unwrap();
    told.heat.insert(at, heat.to_bits());
    told.disk.insert(at, disk.to_bits());
}
