//! An engine beyond this machine: real ones from packages, and a fake one that misbehaves.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use oxmon::model::point::{Batch, Point};
use oxmon::wire::batch_to_proto;

use crate::support::grpc::{Client, now_ms};
use crate::support::server::Server;
use crate::support::wait_for;

mod audited;
mod check;
mod fake;
mod faults;
pub mod real;
mod ring;
mod two;

use fake::{Act, Fake};

const SOON: Duration = Duration::from_secs(60);
/// Threads that send, each with agents of its own.
const WRITERS: usize = 4;
const METRICS: [&str; 3] = ["cpu.usage", "disk.used_percent", "node_load1"];

/// Agent, metric and time of a sample.
type Point3 = (String, String, i64);

fn value(at_ms: i64, index: usize) -> f64 {
    let value = match index {
        // As agents report: VictoriaMetrics keeps about 15 digits.
        0 => ((at_ms as f64 / 977.0).sin() * 10_000.0).round() / 100.0,
        1 => (at_ms % 17) as f64 / 100.0,
        _ => -((at_ms % 1_000_003) as f64) / 8.0,
    };
    // A protobuf message of one report has no sign of a zero.
    value + 0.0
}

fn batch(agent: &str, at_ms: i64) -> Batch {
    let point = |(index, metric): (usize, &&str)| match index {
        1 => Point::labelled(metric, "mount", "/", at_ms, value(at_ms, index)),
        _ => Point::plain(metric, at_ms, value(at_ms, index)),
    };
    let points = METRICS.iter().enumerate().map(point).collect();
    Batch { agent_id: agent.into(), timestamp_ms: at_ms, points }
}

/// Agents that report, whatever happens to the server.
struct Load {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<Mutex<BTreeMap<Point3, u64>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    /// `agents` agents that report to `port` one after the other, again and again.
    fn start(port: u16, agents: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let acknowledged: Arc<Mutex<BTreeMap<Point3, u64>>> = Arc::default();
        let clock = Arc::new(AtomicI64::new(now_ms()));
        let threads = (0..WRITERS).map(|writer| {
            let (stop, all) = (Arc::clone(&stop), Arc::clone(&acknowledged));
            let clock = Arc::clone(&clock);
            std::thread::spawn(move || {
                let client = Client::to(port);
                let mine = (0..agents).filter(|number| number % WRITERS == writer);
                for number in mine.cycle() {
                    if stop.load(Ordering::SeqCst) {
                        return;
                    }
                    let agent = format!("load-{number:03}");
                    // No two reports at one time, and none ahead of the clock.
                    let at = clock.fetch_add(1, Ordering::SeqCst).max(now_ms() - 60_000);
                    let batch = batch(&agent, at);
                    // Sent until it is acknowledged, as agents do.
                    while !client.report(&batch_to_proto(&batch)).is_ok_and(|r| r.success) {
                        if stop.load(Ordering::SeqCst) {
                            return;
                        }
                        std::thread::sleep(Duration::from_millis(20));
                    }
                    let mut all = all.lock().unwrap();
                    for point in &batch.points {
                        let key = (agent.clone(), point.metric.to_string(), at);
                        all.insert(key, point.value.to_bits());
                    }
                    drop(all);
                    std::thread::sleep(Duration::from_millis(2));
                }
            })
        });
        let threads = threads.collect();
        Self { stop, acknowledged, threads }
    }

    fn count(&self) -> usize {
        self.acknowledged.lock().unwrap().len()
    }

    /// Waits for so many more acknowledged samples.
    fn wait_for_more(&self, more: usize) {
        let goal = self.count() + more;
        wait_for("acknowledged samples", SOON, || (self.count() >= goal).then_some(()));
    }

    /// Ends the agents; gives the bits of every acknowledged sample.
    fn end(self) -> BTreeMap<Point3, u64> {
        self.stop.store(true, Ordering::SeqCst);
        self.threads.into_iter().for_each(|thread| thread.join().expect("an agent"));
        Arc::try_unwrap(self.acknowledged).expect("nobody else").into_inner().unwrap()
    }
}

/// What a fake engine has of these agents.
fn had_by(fake: &Fake) -> BTreeMap<Point3, u64> {
    let kept = fake.kept();
    let of = |((labels, ms), value): (fake::Key, f64)| {
        let agent = labels.get("agent")?.clone();
        let name = labels.get("oxmon_metric").or_else(|| labels.get("__name__"))?.clone();
        agent.starts_with("load-").then_some(((agent, name, ms), value.to_bits()))
    };
    kept.into_iter().filter_map(of).collect()
}

/// Waits until a fake engine has every acknowledged sample, to the bit.
fn wait_until_whole(fake: &Fake, acknowledged: &BTreeMap<Point3, u64>, server: &Server) {
    let missing = |had: &BTreeMap<Point3, u64>| {
        acknowledged.iter().filter(|(key, bits)| had.get(*key) != Some(*bits)).count()
    };
    let deadline = std::time::Instant::now() + SOON;
    loop {
        let had = had_by(fake);
        if missing(&had) == 0 {
            return;
        }
        if std::time::Instant::now() > deadline {
            let some: Vec<_> =
                acknowledged.keys().filter(|key| !had.contains_key(*key)).take(5).collect();
            panic!(
                "{} of {} samples are missing, {some:?} among them; {:?}\n{}",
                missing(&had),
                acknowledged.len(),
                fake.seen().into_iter().rev().take(10).collect::<Vec<_>>(),
                server.log()
            );
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The value of one of the server's own figures.
pub fn figure(server: &mut Server, line: &str) -> f64 {
    if server.token().is_none() {
        server.get("/v1/agents");
    }
    let token = server.token().expect("a login");
    let mut answer = ureq::get(format!("{}/metrics", server.url()))
        .header("Authorization", format!("Bearer {token}"))
        .call()
        .expect("an answer");
    let text = answer.body_mut().read_to_string().expect("a body");
    let found = text.lines().find_map(|row| row.strip_prefix(line)?.trim().parse().ok());
    found.unwrap_or(0.0)
}
