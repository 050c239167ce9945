//! Whether the server does its work. For the service manager's watchdog: both ports answer over a
//! new connection, `cert.db` takes a write, and reports that wait get their answers. For a
//! container's health check: both ports answer.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use ureq::tls::{TlsConfig, TlsProvider};

use crate::base::exit::{Exit, Fatal};
use crate::rt::stop::{Stop, StopSource};
use crate::rt::{service, thread};
use crate::server::api::app::App;
use crate::server::config::ServerConfig;
use crate::server::gate::grpc::probe::{GrpcHealth, reachable};
use crate::server::ingest::intake::Intake;
use crate::server::storage::StorageError;

/// How long a request to itself may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// `oxmon-server --health`: whether the server of this configuration answers that it is well.
pub(crate) fn check(config: &ServerConfig) -> Result<(), Fatal> {
    let ip = config.bind.first().and_then(|address| address.parse::<IpAddr>().ok());
    let address = ip.map(|ip| reachable(SocketAddr::new(ip, config.http_port)));
    let address = address.ok_or_else(|| Fatal::new(Exit::Config, "bind: it names no address"))?;
    let scheme = if config.tls.is_some() { "https" } else { "http" };
    match answers(&format!("{scheme}://{address}/v1/health")) {
        Ok(200) => GrpcHealth::of(config)?
            .check(ANSWER_WITHIN)
            .map_err(|why| Fatal::new(Exit::Failed, why)),
        Ok(status) => Err(Fatal::new(Exit::Failed, format!("the server says {status}"))),
        Err(why) => Err(Fatal::new(Exit::Failed, why)),
    }
}

/// Tells the service manager that the server is alive, as long as it is.
pub(crate) struct Watch(Option<(StopSource, JoinHandle<()>)>);

impl Watch {
    /// Watches when the service manager asks for it (`WATCHDOG_USEC`), three times in its limit.
    pub(crate) fn start(app: &Arc<App>, intake: &Arc<Intake>, http: Option<SocketAddr>) -> Self {
        let Some(limit) = sd_notify::watchdog_enabled() else { return Self(None) };
        let source = StopSource::new();
        let stop = source.stop();
        let (app, intake) = (Arc::clone(app), Arc::clone(intake));
        let scheme = if app.config.tls.is_some() { "https" } else { "http" };
        let url = http.map(|address| format!("{scheme}://{}/v1/health", reachable(address)));
        let handle = thread::spawn("watchdog", move || {
            watch(&stop, limit / 3, &mut Check { app, intake, url, before: None });
            Ok(())
        });
        Self(Some((source, handle)))
    }

    /// Ends the watch; a check that is under way ends within its own limit.
    pub(crate) fn stop(self) {
        if let Some((source, handle)) = self.0 {
            drop(source);
            // A server that stops is busy with that; the thread ends with the process.
            drop(handle);
        }
    }
}

fn watch(stop: &Stop, pause: Duration, check: &mut Check) {
    while !stop.wait(pause) {
        match check.run() {
            Ok(()) => service::alive(),
            Err(why) => log::error!("the server does not do its work: {why}"),
        }
    }
}

struct Check {
    app: Arc<App>,
    intake: Arc<Intake>,
    url: Option<String>,
    /// Reports waiting and answered at the check before.
    before: Option<(u64, u64)>,
}

impl Check {
    fn run(&mut self) -> Result<(), String> {
        let now = self.intake.progress();
        if let Some(before) = self.before.replace(now)
            && is_stuck(before, now)
        {
            return Err(format!("{} reports wait, and none was answered", now.0));
        }
        self.app
            .control
            .write(|_| Ok::<(), StorageError>(()))
            .map_err(|error| format!("cert.db takes no write: {error}"))?;
        self.url.as_deref().map_or(Ok(0), answers)?;
        self.app.grpc_health.check(ANSWER_WITHIN)
    }
}

/// Whether reports waited at both checks and none was answered between them.
fn is_stuck(before: (u64, u64), now: (u64, u64)) -> bool {
    before.0 > 0 && now.0 > 0 && before.1 == now.1
}

/// The status with which it answers.
fn answers(url: &str) -> Result<u16, String> {
    // It is its own certificate, under an address that it need not name.
    let tls = TlsConfig::builder().provider(TlsProvider::NativeTls).disable_verification(true);
    let agent = ureq::Agent::config_builder()
        .timeout_global(Some(ANSWER_WITHIN))
        .tls_config(tls.build())
        .http_status_as_error(false)
        .proxy(None)
        .build()
        .new_agent();
    let answer = agent.get(url).call();
    answer
        .map(|reply| reply.status().as_u16())
        .map_err(|error| format!("{url} does not answer: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_without_an_answer_is_stuck_and_waiting_with_one_is_load() {
        assert!(is_stuck((3, 10), (5, 10)));
        assert!(!is_stuck((3, 10), (5, 11)));
        assert!(!is_stuck((0, 10), (5, 10)));
        assert!(!is_stuck((3, 10), (0, 10)));
    }

    #[test]
    fn a_port_on_all_addresses_is_reached_on_loopback() {
        let shown = |text: &str| text.parse().map(reachable).map(|at| at.to_string());
        assert_eq!(shown("0.0.0.0:80").as_deref(), Ok("127.0.0.1:80"));
        assert_eq!(shown("[::]:80").as_deref(), Ok("[::1]:80"));
        assert_eq!(shown("10.1.2.3:80").as_deref(), Ok("10.1.2.3:80"));
    }

    #[test]
    fn a_port_without_a_server_does_not_answer() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0");
        let port = listener.and_then(|it| it.local_addr()).map_or(1, |at| at.port());
        assert!(answers(&format!("http://127.0.0.1:{port}/")).is_err());
    }
}
