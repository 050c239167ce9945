//! The agent's life: what starts, in which order, and how it stops the other way round.
//!
//! ```text
//! signals ─→ main: reload, watchdog, stop
//!                    │ reload           │ reload
//!                    ▼                  ▼
//!            collector ─ sets (8) ──→ reporter ─→ buffer, gRPC
//! ```
//!
//! The collector is never blocked: where the queue is full, its oldest sample set goes and is
//! counted.

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::agent::alive::Alive;
use crate::agent::buffer::Buffer;
use crate::agent::collect::{CollectLoop, SampleQueue};
use crate::agent::config::AgentConfig;
use crate::agent::host::Sources;
use crate::agent::reporter::target::Target;
use crate::agent::reporter::{Inputs, Reload, Reporter, Stats};
use crate::base::cli::VERSION;
use crate::base::clock::{Clock as _, SystemClock};
use crate::base::exit::{Exit, Fatal};
use crate::base::logging;
use crate::rt::stop::{Ask, StopSource, signals};
use crate::rt::{service, thread};

/// How long the end may take before the process leaves anyway.
const END_WITHIN: Duration = Duration::from_millis(1_800);

/// Runs the agent until SIGTERM or SIGINT.
///
/// # Errors
///
/// When the configuration is wrong, or the system refuses signal handlers.
pub(crate) fn run(path: &Path) -> Result<(), Fatal> {
    let config = AgentConfig::load(path)?;
    set_log_level(&config);
    warn(&config);
    let asks = signals()
        .map_err(|error| Fatal::new(Exit::Failed, format!("cannot handle signals: {error}")))?;
    let agent = Agent::start(&config);
    log::info!(
        "oxmon-agent {VERSION} reports as {} to {} every {} s",
        config.agent_id,
        config.servers(),
        config.collection_interval_secs
    );
    if config.agent_id == "localhost" || config.agent_id.starts_with("localhost.") {
        log::warn!("reporting as {:?}, as other hosts may: set agent_id", config.agent_id);
    }
    service::ready();

    agent.serve(&asks, path, &config);

    service::stopping();
    agent.stop();
    log::info!("stopped");
    Ok(())
}

/// The running parts.
struct Agent {
    stats: Arc<Stats>,
    collector_reloads: Sender<AgentConfig>,
    reporter_reloads: Sender<Reload>,
    stop: StopSource,
    /// Closed when both loops have ended.
    ended: Receiver<()>,
    threads: [JoinHandle<()>; 2],
}

impl Agent {
    fn start(config: &AgentConfig) -> Self {
        let stats = Arc::new(Stats::default());
        let stop = StopSource::new();
        let (end, ended) = bounded(0);
        let (queue, sets) = SampleQueue::new(Arc::clone(&stats));
        // Room for one: a reload that comes before the last one was seen waits in `serve`.
        let (reporter_reloads, reloads) = bounded(1);
        let (collector_reloads, collector_reload) = bounded(1);

        let dir = config.buffer_dir.as_deref();
        let buffer = Buffer::open(dir, config.buffer_max_size, SystemClock.now_ms());
        let reporter = {
            let sources = Sources::of(config);
            Reporter::new(Target::of(config), sources, buffer, Arc::clone(&stats))
        };
        let inputs = Inputs { sets, reloads, stop: stop.stop() };
        let alive: Sender<()> = end.clone();
        let reporter = thread::spawn("reporter", move || {
            let _alive = alive;
            reporter.run(&inputs)
        });

        let mut collecting = CollectLoop {
            config: config.clone(),
            reloads: collector_reload,
            stop: stop.stop(),
            stats: Arc::clone(&stats),
            queue,
        };
        let collector = thread::spawn("collector", move || {
            let _alive = end;
            collecting.run(&SystemClock);
            Ok(())
        });
        let threads = [collector, reporter];
        Self { stats, collector_reloads, reporter_reloads, stop, ended, threads }
    }

    /// Answers signals and the watchdog until it is time to stop.
    fn serve(&self, asks: &Receiver<Ask>, path: &Path, config: &AgentConfig) {
        let mut alive = Alive::new(Arc::clone(&self.stats), config.collection_interval_secs);
        let mut next = Instant::now() + alive.pause();
        loop {
            match asks.recv_deadline(next) {
                Ok(Ask::Stop) => return,
                Ok(Ask::Reload) => service::reloading(|| self.reload(path, &mut alive)),
                Err(error) if error.is_disconnected() => return,
                Err(_) => {
                    next = Instant::now() + alive.pause();
                    alive.notify();
                }
            }
        }
    }

    fn reload(&self, path: &Path, alive: &mut Alive) {
        match AgentConfig::load(path) {
            Ok(config) => {
                set_log_level(&config);
                warn(&config);
                alive.interval_secs = config.collection_interval_secs;
                let reload = Reload {
                    target: Target::of(&config),
                    buffer_dir: config.buffer_dir.clone(),
                    buffer_max_size: config.buffer_max_size,
                    sources: Sources::of(&config),
                };
                // Both loops look at least every few seconds; only an end leaves these unread.
                let _ = self.reporter_reloads.send(reload);
                let _ = self.collector_reloads.send(config);
                log::info!("reloaded {}", path.display());
            }
            Err(error) => log::error!("cannot reload, keeping the old configuration: {error}"),
        }
    }

    /// The collector ends first, then the reporter, which sends or keeps the last sample set.
    fn stop(self) {
        drop(self.stop);
        if self.ended.recv_timeout(END_WITHIN).is_err_and(|error| error.is_timeout()) {
            log::warn!(
                "a loop did not stop within {} ms; exiting without it",
                END_WITHIN.as_millis()
            );
            return;
        }
        for thread in self.threads {
            // A thread that failed has ended the process already.
            let _ = thread.join();
        }
    }
}

fn warn(config: &AgentConfig) {
    config.warnings.iter().for_each(|warning| log::warn!("{warning}"));
}

fn set_log_level(config: &AgentConfig) {
    logging::init(logging::parse_level(&config.log_level).unwrap_or(log::LevelFilter::Info));
}
