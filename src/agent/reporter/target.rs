//! The server to report to, and a gRPC channel to it.

use std::ffi::CStr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use grpcio::{
    CallOption, ChannelBuilder, ChannelCredentials, ChannelCredentialsBuilder, EnvBuilder,
    Environment, MetadataBuilder,
};

use crate::agent::config::AgentConfig;
use crate::base::cli::VERSION;
use crate::base::ids::random_hex;
use crate::rt::thread::{self, TimerSlack};
use crate::wire::pb::metrics_grpc::MetricServiceClient;
use crate::wire::{META_AGENT_ID, META_AUTHORIZATION, META_BOOT_ID, META_INSTANCE};

/// How long a call may take.
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// How late gRPC's own timers may be. Its core wakes two threads once a second, whatever there is
/// to do; with a slack they wake a third as often, and a call that nobody answers ends that much
/// later.
const TIMER_SLACK: Duration = Duration::from_secs(2);
/// Answers are one message long; a server that says more than this is none of ours.
const RECEIVE_BYTES_MAX: i32 = 256 * 1024;

/// What grpcio has no method for (grpc/impl/codegen/grpc_types.h).
const CHANNEL_ARGS: [(&CStr, i32); 4] = [
    // A few bytes of an answer may unpack to a gigabyte.
    (c"grpc.per_message_decompression", 0),
    (c"grpc.service_config_disable_resolution", 1),
    // Statistics that nobody asks for.
    (c"grpc.enable_channelz", 0),
    // No thread is needed to notice that nothing is sent: a sample set comes each interval.
    (c"grpc.client_idle_timeout_ms", i32::MAX),
];

/// Where to report, as whom, and how the connection is made safe.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// This host's name for itself.
    pub(crate) agent_id: String,
    /// `host:port` of the servers, in the order in which they are tried; one or more.
    pub(crate) endpoints: Vec<String>,
    /// The agent's secret, where the server asks for one.
    pub(crate) token: Option<String>,
    /// `None`: in the clear.
    pub(crate) tls: Option<Tls>,
}

/// Files are read again for each connection, so that a renewed certificate needs no restart.
#[derive(Clone, PartialEq, Eq, Default)]
pub(crate) struct Tls {
    /// PEM; without it, the system's authorities.
    pub(crate) ca_file: Option<PathBuf>,
    /// The client's certificate and key, PEM.
    pub(crate) identity: Option<(PathBuf, PathBuf)>,
    /// The name to look for in the server's certificate, where it is not that of the endpoint.
    pub(crate) server_name: Option<String>,
}

impl Target {
    /// The target that a configuration names.
    pub(crate) fn of(config: &AgentConfig) -> Self {
        let tls = &config.tls;
        Self {
            agent_id: config.agent_id.clone(),
            endpoints: endpoints(config),
            token: config.auth_token.clone(),
            tls: tls.enabled.then(|| Tls {
                ca_file: tls.ca_file.clone(),
                identity: tls.cert_file.clone().zip(tls.key_file.clone()),
                server_name: tls.server_name.clone(),
            }),
        }
    }

    /// What gRPC runs on: one thread that waits for the network, and its core's own.
    pub(crate) fn environment() -> Arc<Environment> {
        grpcio::redirect_log();
        let env = EnvBuilder::new().cq_count(1).name_prefix("grpc");
        // Not the thread of the network: the library sleeps for moments in it, and others wait.
        let build = |usual: TimerSlack| env.after_start(move || usual.restore()).build();
        Arc::new(thread::with_timer_slack(TIMER_SLACK, build))
    }

    /// The server at a place of the order; places go round.
    pub(crate) fn endpoint(&self, place: usize) -> &str {
        self.endpoints.get(place % self.endpoints.len().max(1)).map_or("", String::as_str)
    }

    /// A client on a new channel to the server at a place of the order. Nothing is connected before
    /// the first call.
    pub(crate) fn connect(
        &self,
        place: usize,
        env: &Arc<Environment>,
    ) -> Result<MetricServiceClient, String> {
        let endpoint = no_nul(self.endpoint(place).to_owned(), "server_endpoint")?;
        let mut builder = ChannelBuilder::new(Arc::clone(env))
            .primary_user_agent(&format!("oxmon-agent/{VERSION}"))
            .keepalive_time(Duration::from_secs(60))
            .keepalive_timeout(CALL_TIMEOUT)
            .keepalive_permit_without_calls(false)
            .max_receive_message_len(RECEIVE_BYTES_MAX)
            .enable_http_proxy(false)
            .enable_retry(false)
            // The bandwidth probe pings after every answer; a batch of a few kilobytes fits in the
            // smallest window.
            .http2_bdp_probe(false)
            // A new channel starts without what an earlier one remembers of failures: when to try
            // again is the reporter's decision alone.
            .use_local_subchannel_pool(true);
        for (name, value) in CHANNEL_ARGS {
            builder = builder.raw_cfg_int(name.to_owned(), value);
        }
        if let Some(tls) = &self.tls {
            if let Some(name) = &tls.server_name {
                builder = builder.override_ssl_target(no_nul(name.clone(), "tls.server_name")?);
            }
            builder = builder.set_credentials(tls.credentials()?);
        }
        let channel = thread::with_timer_slack(TIMER_SLACK, |_| builder.connect(&endpoint));
        Ok(MetricServiceClient::new(channel))
    }

    /// What every call carries: who this is, and a time limit.
    pub(crate) fn call_option(&self, timeout: Option<Duration>) -> Result<CallOption, String> {
        let mut metadata = MetadataBuilder::with_capacity(4);
        let mut add = |key: &str, value: &str| match metadata.add_str(key, value) {
            Ok(_) => Ok(()),
            Err(_) => Err(format!("{key}: has characters that a request can't carry")),
        };
        add(META_AGENT_ID, &self.agent_id)?;
        let (instance, boot_id) = identity();
        add(META_INSTANCE, instance)?;
        if !boot_id.is_empty() {
            add(META_BOOT_ID, boot_id)?;
        }
        if let Some(token) = &self.token {
            add(META_AUTHORIZATION, &format!("Bearer {token}"))?;
        }
        let option = CallOption::default().headers(metadata.build());
        Ok(match timeout {
            Some(timeout) => option.timeout(timeout),
            None => option,
        })
    }
}

/// The servers of a configuration in this agent's order: the greatest weight first, so that agents
/// are spread over the servers, and the agents of one that is away over all others.
fn endpoints(config: &AgentConfig) -> Vec<String> {
    if config.server_endpoints.is_empty() {
        return vec![config.server_endpoint.clone()];
    }
    let weight = |endpoint: &String| {
        // FNV-1a, then mixed, since the ends of names differ in their last bits.
        let bytes = endpoint.bytes().chain([0]).chain(config.agent_id.bytes());
        let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        let hash = bytes.fold(0xcbf2_9ce4_8422_2325, step);
        let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        std::cmp::Reverse(hash ^ (hash >> 33))
    };
    let mut endpoints = config.server_endpoints.clone();
    endpoints.sort_by_key(weight);
    endpoints.dedup();
    endpoints
}

/// What tells this process from others with the same agent id: a random text, and the boot id of
/// the host (random(4)), which is empty where there is none.
fn identity() -> (&'static str, &'static str) {
    static IDENTITY: OnceLock<(String, String)> = OnceLock::new();
    let (instance, boot_id) = IDENTITY.get_or_init(|| {
        let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
        let boot_id = boot_id.unwrap_or_default().trim().to_owned();
        let is_id = boot_id.len() <= 64 && boot_id.bytes().all(|byte| byte.is_ascii_graphic());
        (random_hex(8), if is_id { boot_id } else { String::new() })
    });
    (instance, boot_id)
}

impl Tls {
    fn credentials(&self) -> Result<ChannelCredentials, String> {
        let mut builder = ChannelCredentialsBuilder::new();
        if let Some(path) = &self.ca_file {
            builder = builder.root_cert(read_pem(path)?);
        }
        if let Some((cert, key)) = &self.identity {
            builder = builder.cert(read_pem(cert)?, read_pem(key)?);
        }
        Ok(builder.build())
    }
}

fn read_pem(path: &Path) -> Result<Vec<u8>, String> {
    let bytes =
        std::fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    if bytes.contains(&0) || !bytes.windows(11).any(|window| window == b"-----BEGIN ") {
        return Err(format!("{} is not a PEM file", path.display()));
    }
    Ok(bytes)
}

fn no_nul(text: String, key: &str) -> Result<String, String> {
    if text.contains('\0') { Err(format!("{key}: has a NUL character")) } else { Ok(text) }
}
