//! The server's life: what starts, in which order, and how it stops the other way round.
//!
//! ```text
//! agents ─→ grpc ─→ store ─→ alerts ─→ notifier ─→ endpoints
//! domains ─→ certs ──┘  └──→ http ←─ people
//! ```
//!
//! Start goes against the flow, so that whatever takes finds where to give; stop goes with it, so
//! that whatever was taken is finished, and what was acknowledged is on the disk.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;

use crate::base::cli::VERSION;
use crate::base::clock::{Clock, SystemClock};
use crate::base::exit::{Exit, Fatal};
use crate::base::logging;
use crate::base::steady::SteadyClock;
use crate::rt::stop::{Ask, signals};
use crate::rt::{memory, service};
use crate::server::alert::{self, Alerts, Notify};
use crate::server::api::app::App;
use crate::server::api::auth::Auth;
use crate::server::api::server::HttpServer;
use crate::server::cert::Certs;
use crate::server::config::ServerConfig;
use crate::server::control::{Control, profiles, removed};
use crate::server::gate::grpc::probe::GrpcHealth;
use crate::server::gate::tls::{Acceptor, Port};
use crate::server::handover::everywhere::Everywhere;
use crate::server::handover::{self, Handover};
use crate::server::import;
use crate::server::ingest::auth::{Whitelist, WhitelistError};
use crate::server::ingest::grpc::GrpcServer;
use crate::server::ingest::hosts::Hosts;
use crate::server::ingest::intake::Intake;
use crate::server::ingest::senders::Senders;
use crate::server::notify::{Gate, Notifier};
use crate::server::peers::enroll::{self, Enrol};
use crate::server::peers::{Peers, Publish};
use crate::server::receive;
use crate::server::remote::Remote;
use crate::server::storage::engine::Engine;
use crate::server::storage::{Feed, Observer, StorageError, Store};
use crate::server::{alive, api, process};

/// How often what is no longer needed in memory is forgotten.
const HOUSEKEEPING: Duration = Duration::from_secs(60);

/// Runs the server until SIGTERM or SIGINT.
///
/// # Errors
///
/// When the configuration is wrong, a port is taken, or the data folder can't be used: each with
/// its own exit status.
pub(crate) fn run(path: &Path) -> Result<(), Fatal> {
    memory::set_up();
    let config = alert::load_config(path)?;
    set_log_level(&config);
    warn(&config);
    let asks = signals()
        .map_err(|error| Fatal::new(Exit::Failed, format!("cannot handle signals: {error}")))?;
    import::folder::refuse(&config.data_dir, path)?;
    let server = Server::start(config)?;
    for address in server.http.addresses() {
        log::info!("oxmon-server {VERSION} answers HTTP on {address}");
    }
    for address in server.grpc.addresses() {
        log::info!("agents report to {address}");
    }
    service::ready();

    server.serve(&asks, path);

    service::stopping();
    let asked = Instant::now();
    server.stop();
    log::info!("stopped within {} ms", asked.elapsed().as_millis());
    Ok(())
}

/// The running parts, in the order of their start.
struct Server {
    app: Arc<App>,
    intake: Arc<Intake>,
    http: HttpServer,
    grpc: GrpcServer,
    alive: alive::Watch,
}

impl Server {
    fn start(config: ServerConfig) -> Result<Self, Fatal> {
        let config = Arc::new(config);
        let clock: Arc<dyn Clock> = Arc::new(SteadyClock::new(SystemClock));
        let registry = prometheus::Registry::new();
        let started_ms = clock.now_ms();
        process::register(&registry, started_ms)?;
        let api_metrics = api::metrics::Metrics::register(&registry)?;
        let dir = config.data_dir.display();
        let unusable = |error| data_dir_error(&dir.to_string(), error);
        let tls = config.tls.as_ref().map(|tls| Acceptor::open(tls, Port::Grpc)).transpose();
        let tls = tls.map_err(|error| Fatal::new(Exit::Config, error))?.map(Arc::new);

        let engine = Engine::open(&config, Arc::clone(&clock), &registry).map_err(unusable)?;
        let control = Control::open(&config.data_dir).map_err(unusable)?;
        control.register(&registry)?;
        know_agents(&engine, &control).map_err(unusable)?;
        let auth = Arc::new(Auth::open(&config, &control, started_ms)?);
        let whitelist = Whitelist::open(control.clone(), Arc::clone(&clock)).map_err(unusable)?;
        let whitelist = Arc::new(whitelist);
        let notifier = Notifier::start(control.clone(), Arc::clone(&clock), &config, &registry)?;
        let feed = Arc::clone(&engine) as Arc<dyn Feed>;
        let remote = Remote::start(&config, feed, control.clone(), Arc::clone(&clock), &registry)?;
        let local = || Arc::clone(&engine) as Arc<dyn Store>;
        let store = remote.as_ref().map_or_else(local, |remote| remote.store());
        let alerts = alerts_of(&config, &store, (&control, &clock), &registry, &notifier)?;
        store.observe(Arc::clone(&alerts) as Arc<dyn Observer>);
        let senders = Arc::new(senders_of(&config, &alerts));
        let certs = certs_of(&config, local(), (&control, &clock), &registry, &alerts)?;
        let receiver = receiver_of(&config, &store, &clock, &registry)?;
        let peers = Peers::open(&config, &control, Arc::clone(&clock), &registry)?;
        let parts = handover::Parts {
            peers: peers.as_ref(),
            remote: remote.as_deref(),
            local: local(),
            alerts: &alerts,
            control: control.clone(),
            clock: Arc::clone(&clock),
            registry: &registry,
        };
        let (store, handover) = over_all(store, parts, &notifier)?;
        let app = Arc::new(App {
            grpc_health: GrpcHealth::of(&config)?,
            config,
            clock,
            store,
            control,
            auth,
            whitelist,
            senders,
            alerts,
            notifier,
            receiver,
            peers,
            handover,
            certs,
            remote,
            registry,
            api_metrics,
            started_ms,
        });
        begin_among_peers(&app);
        let intake = Arc::new(intake_of(&app)?);
        let http = HttpServer::start(Arc::clone(&app))?;
        let grpc = GrpcServer::start(&app.config, Arc::clone(&intake), tls, &app.registry)?;
        let alive = alive::Watch::start(&app, &intake, http.addresses().first().copied());
        Ok(Self { app, intake, http, grpc, alive })
    }

    /// Answers signals until it is time to stop.
    fn serve(&self, asks: &Receiver<Ask>, path: &Path) {
        let mut next = Instant::now() + HOUSEKEEPING;
        loop {
            match asks.recv_deadline(next) {
                Ok(Ask::Stop) => return,
                Ok(Ask::Reload) => service::reloading(|| self.reload(path)),
                Err(error) if error.is_disconnected() => return,
                Err(_) => {
                    next = Instant::now() + HOUSEKEEPING;
                    self.intake.sweep();
                    forget_returned(&self.app);
                    memory::give_back();
                }
            }
        }
    }

    /// Takes what can change while it runs (`RELOADED` in the configuration), secrets, and the
    /// certificate of both ports. Names what has changed and needs a restart.
    fn reload(&self, path: &Path) {
        match alert::load_config(path) {
            Ok(config) => {
                set_log_level(&config);
                warn(&config);
                match self.app.alerts.reload_file_rules(&config) {
                    Ok(()) => log::info!("read {} again", path.display()),
                    Err(error) => log::error!("kept the rules as they were: {error}"),
                }
                if let Err(error) = self.app.auth.reload(&config) {
                    log::error!("kept the secrets as they were: {error}");
                }
                if let Err(error) = self.app.notifier.reload(&config) {
                    log::error!("kept how notifications are sent as it was: {error}");
                }
                if let Some(peers) = &self.app.peers {
                    peers.reload(&config);
                }
                self.app.senders.set_refuse_twins(config.ingest.refuse_twins);
                let later = config.needs_restart(&self.app.config);
                if !later.is_empty() {
                    log::warn!("restart oxmon-server for the new values of {}", later.join(", "));
                }
                if let Err(error) = self.app.certs.reload(&config) {
                    log::error!("kept the authorities of certificate checks as they were: {error}");
                }
            }
            Err(error) => log::error!("kept the configuration as it was: {error}"),
        }
        if let Err(error) = self.grpc.reload().and_then(|()| self.http.reload()) {
            log::error!("kept the certificate as it was: {error}");
        }
    }

    /// Sources first, then each part as its last work has come, storage last.
    fn stop(self) {
        self.alive.stop();
        // What waits for changes at the HTTP workers has its answer.
        if let Some(peers) = &self.app.peers {
            peers.stop();
        }
        self.grpc.stop();
        // Before HTTP, whose workers may wait for a check.
        self.app.certs.stop();
        self.http.stop();
        if let Some(handover) = &self.app.handover {
            handover.stop();
        }
        self.app.alerts.stop();
        self.app.notifier.stop();
        self.app.store.stop();
        // After the store, whose last samples it notes as not sent.
        if let Some(remote) = &self.app.remote {
            remote.stop();
        }
    }
}

/// What takes samples from others than agents.
fn receiver_of(
    config: &ServerConfig,
    store: &Arc<dyn Store>,
    clock: &Arc<dyn Clock>,
    registry: &prometheus::Registry,
) -> Result<Arc<receive::Receiver>, Fatal> {
    let (store, clock) = (Arc::clone(store), Arc::clone(clock));
    Ok(Arc::new(receive::Receiver::new(config, store, clock, registry)?))
}

/// Reads the agents' tags, and leaves those that were removed, and have not reported since, out of
/// the lists.
fn know_agents(store: &Engine, control: &Control) -> Result<(), StorageError> {
    profiles::load_tags(control)?;
    let agents = control.read(|db| -> Result<_, StorageError> { Ok(removed::all(db)?) })?;
    if agents.is_empty() {
        return Ok(());
    }
    let seen = store.agents_seen()?;
    for (agent, removed_ms) in agents {
        let mut reports = seen.iter().filter(|seen| seen.agent_id == agent);
        if !reports.any(|seen| seen.last_seen_ms > removed_ms) {
            store.hide_agent(&agent);
        }
    }
    Ok(())
}

/// Forgets the removal of agents that have reported since.
fn forget_returned(app: &App) {
    let forget = || -> Result<(), StorageError> {
        let agents = app.control.read(|db| -> Result<_, StorageError> { Ok(removed::all(db)?) })?;
        if agents.is_empty() {
            return Ok(());
        }
        let seen = app.store.agents_seen()?;
        for (agent, _) in agents {
            if seen.iter().any(|seen| seen.agent_id == agent) {
                app.control.write(move |tx| -> Result<(), StorageError> {
                    Ok(removed::delete(tx, &agent)?)
                })?;
            }
        }
        Ok(())
    };
    if let Err(error) = forget() {
        log::warn!("failed to update the removed agents: {error}");
    }
}

fn data_dir_error(dir: &str, error: StorageError) -> Fatal {
    match error {
        StorageError::Locked(_) => Fatal::new(Exit::Locked, error.to_string()),
        error => Fatal::new(Exit::DataDir, format!("cannot use data_dir {dir}: {error}")),
    }
}

fn warn(config: &ServerConfig) {
    config.warnings.iter().for_each(|warning| log::warn!("{warning}"));
}

fn set_log_level(config: &ServerConfig) {
    logging::init(logging::parse_level(&config.log_level).unwrap_or(log::LevelFilter::Info));
}

fn senders_of(config: &ServerConfig, alerts: &Arc<Alerts>) -> Senders {
    let skewed = Arc::clone(alerts);
    let on_skew = Box::new(move |agent: &str, ahead_ms| skewed.note_skew(agent, ahead_ms));
    Senders::new(config.ingest.refuse_twins, on_skew)
}

/// Follows the home of the configuration, or is it.
fn begin_among_peers(app: &Arc<App>) {
    if let Some(peers) = &app.peers {
        peers.run(Arc::clone(app) as Arc<dyn Publish>);
    }
}

/// What several parts need: `cert.db` and the time.
type Needed<'a> = (&'a Control, &'a Arc<dyn Clock>);

fn alerts_of(
    config: &ServerConfig,
    store: &Arc<dyn Store>,
    (control, clock): Needed<'_>,
    registry: &prometheus::Registry,
    notifier: &Arc<Notifier>,
) -> Result<Arc<Alerts>, Fatal> {
    let notify = Arc::clone(notifier) as Arc<dyn Notify>;
    let (store, clock) = (Arc::clone(store), Arc::clone(clock));
    Alerts::start(store, control.clone(), clock, config, registry, notify)
}

fn certs_of(
    config: &ServerConfig,
    local: Arc<dyn Store>,
    (control, clock): Needed<'_>,
    registry: &prometheus::Registry,
    alerts: &Arc<Alerts>,
) -> Result<Arc<Certs>, Fatal> {
    let (alerts, clock) = (Arc::clone(alerts), Arc::clone(clock));
    Certs::start(
        local,
        control.clone(),
        clock,
        config,
        registry,
        Arc::new(move |labels, reason| alerts.explain(labels, reason)),
    )
}

/// The store as the API sees it, and who knows where agents report.
type OverAll = (Arc<dyn Store>, Option<Arc<Handover>>);

/// Goes on with agents that move between servers. Gives the store as the API sees it, over all
/// servers where there are several; notifications then wait until the others know of them.
fn over_all(
    store: Arc<dyn Store>,
    parts: handover::Parts<'_>,
    notifier: &Notifier,
) -> Result<OverAll, Fatal> {
    let has_peers = parts.peers.is_some();
    let handover = Handover::start(parts)?;
    let Some(known) = handover.as_ref() else { return Ok((store, handover)) };
    notifier.set_gate(Arc::clone(known) as Arc<dyn Gate>);
    if !has_peers {
        return Ok((store, handover));
    }
    let all = Everywhere::new(store, Arc::clone(known));
    Ok((Arc::new(all), handover))
}

fn intake_of(app: &App) -> Result<Intake, prometheus::Error> {
    let intake = Intake::new(
        &app.config,
        Arc::clone(&app.whitelist),
        Arc::clone(&app.senders),
        Arc::clone(&app.store),
        Arc::clone(&app.clock),
        &app.registry,
    )?;
    let alerts = Arc::clone(&app.alerts);
    let wanted = Box::new(move |agent: &str| alerts.ask_for_snapshot(agent));
    let intake = intake.with_hosts(Hosts::new(app.control.clone(), Arc::clone(&app.clock), wanted));
    let Some(peers) = app.peers.clone() else { return Ok(intake) };
    Ok(intake.with_elsewhere(Box::new(move |code, agent_id, address| {
        let (code, agent_id) = (code.to_owned(), agent_id.to_owned());
        let outcome = peers.enroll(&Enrol { code, agent_id, address })?;
        Some(outcome.map_err(WhitelistError::Away).and_then(|outcome| {
            outcome.map_err(|(why, text)| match why {
                enroll::INVALID => WhitelistError::Invalid(text),
                enroll::BOUND => WhitelistError::Bound(text),
                _ => WhitelistError::BadCode,
            })
        }))
    })))
}
