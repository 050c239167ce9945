//! What every room of the server shares: the handles that requests and workers reach it by.

use std::sync::Arc;

use crate::base::clock::Clock;
use crate::server::alert::Alerts;
use crate::server::api;
use crate::server::api::auth::Auth;
use crate::server::cert::Certs;
use crate::server::config::ServerConfig;
use crate::server::control::Control;
use crate::server::gate::grpc::probe::GrpcHealth;
use crate::server::handover::Handover;
use crate::server::ingest::auth::Whitelist;
use crate::server::ingest::senders::Senders;
use crate::server::notify::Notifier;
use crate::server::peers::Peers;
use crate::server::receive::Receiver;
use crate::server::remote::Remote;
use crate::server::storage::Store;

/// The server's parts. Each owns its state and is the only one that changes it: a route calls a
/// method of the part, which writes the database and publishes what is now in force.
pub struct App {
    /// Whether the gRPC port answers.
    pub(crate) grpc_health: GrpcHealth,
    /// The configuration that the process started with.
    pub config: Arc<ServerConfig>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Points and alert events, by day.
    pub store: Arc<dyn Store>,
    /// `cert.db`: users, whitelist, domains, rules, channels, outbox.
    pub control: Control,
    /// Users, logins and API tokens.
    pub auth: Arc<Auth>,
    /// Agents that may report, and their tokens.
    pub whitelist: Arc<Whitelist>,
    /// Who reports, and what is odd about it.
    pub(crate) senders: Arc<Senders>,
    /// Rules and their state.
    pub alerts: Arc<Alerts>,
    /// Channels, silence windows and the outbox.
    pub notifier: Arc<Notifier>,
    /// Samples from others than agents.
    pub receiver: Arc<Receiver>,
    /// The other servers; `None` where there is one server.
    pub(crate) peers: Option<Arc<Peers>>,
    /// Where agents report; `None` where there is one server.
    pub(crate) handover: Option<Arc<Handover>>,
    /// Domains and their checks.
    pub certs: Arc<Certs>,
    /// The engine beyond this machine, where there is one.
    pub(crate) remote: Option<Arc<Remote>>,
    /// The server's own metrics. Each part registers its own when it is made.
    pub registry: prometheus::Registry,
    /// What the API tells of itself.
    pub api_metrics: api::metrics::Metrics,
    /// When the process started, Unix milliseconds.
    pub started_ms: i64,
}
