//! The table of all keys of `server.toml`: what they mean, their units and their ranges. The checks
//! here and `docs/configuration.md` are made from it; defaults come from the types themselves.

use crate::base::keys::{Key, number, text};

const DAY: i64 = 86_400;

/// Every key but those of `[[alert.rules]]`, in the order of the documentation.
pub const KEYS: &[Key] = &[
    number("grpc_port", "", (1, 65_535), "Port that agents report to."),
    number("http_port", "", (1, 65_535), "Port of the REST API and the dashboard."),
    text("bind", "Addresses to listen on with both ports."),
    text("data_dir", "Folder of the databases. Made when it is missing."),
    number("retention_days", "days", (1, 3_650), "Days of points and alert events that are kept."),
    number(
        "retention_max_bytes",
        "bytes",
        (0, i64::MAX),
        "Size of all day files at the most; the oldest day goes first. 0: no limit.",
    ),
    text("require_agent_auth", "Refuse agents without a token from the whitelist."),
    number(
        "aggregation_window_secs",
        "seconds",
        (0, 3_600),
        "What fires within it for one rule and severity becomes one notification. 0: none wait.",
    ),
    text("log_level", "`error`, `warn`, `info`, `debug` or `trace`."),
    text(
        "time_zone",
        "Zone of times in messages, and of silence windows that name none. Default: the system's.",
    ),
    text(
        "language",
        "Language of mails and chat messages: `en` or `zh-CN`. A channel may have its own.",
    ),
    text(
        "public_url",
        "Where people reach the dashboard, such as `https://oxmon.example.com`: messages then link to \
         their alert.",
    ),
    text("tls.cert_file", "PEM file with the certificate chain of both ports."),
    text("tls.key_file", "PEM file with its private key."),
    text(
        "tls.client_ca_file",
        "PEM file of authorities: agents must then show a certificate of one.",
    ),
    number(
        "tls.hsts_secs",
        "seconds",
        (0, 2 * 365 * DAY),
        "Browsers use HTTPS alone for this host for so long (HSTS). 0: no HSTS. Default: a year.",
    ),
    text(
        "auth.jwt_secret",
        "Key that signs logins, 32 bytes or more. Default: made at the first start, as it also is in \
         place of a secret from a published example.",
    ),
    text(
        "auth.jwt_secret_file",
        "A file that holds it instead. Default: the credential `jwt_secret` of the service manager, where \
         it passes one.",
    ),
    number("auth.token_expire_secs", "seconds", (60, 365 * DAY), "How long a login is good for."),
    text("auth.default_username", "Name of the first user, made when there is none."),
    text(
        "auth.default_password",
        "Password of the first user. Until it is changed, other machines can only change it.",
    ),
    text(
        "auth.default_password_file",
        "A file that holds it instead. Default: the credential `default_password` of the service manager, \
         where it passes one.",
    ),
    number("pools.ingest_workers", "threads", (1, 64), "gRPC completion queues."),
    number(
        "pools.storage_queue",
        "batches",
        (1, 65_536),
        "Batches queued for a writer; when full, agents retry later.",
    ),
    number(
        "pools.alert_workers",
        "threads",
        (1, 64),
        "Threads that evaluate samples; agents are spread over them.",
    ),
    number(
        "pools.alert_queue",
        "batches",
        (1, 65_536),
        "Batches that wait for each of them; then storage waits.",
    ),
    number("pools.notify_workers", "threads", (1, 64), "Threads that send notifications."),
    number("pools.http_workers", "threads", (1, 256), "Threads that answer HTTP requests."),
    number(
        "pools.http_queue",
        "requests",
        (1, 4_096),
        "Requests that wait for them; then 503 is answered.",
    ),
    text(
        "ingest.refuse_twins",
        "Refuse the second of two agents that report with one agent_id. Off: both are stored, and \
         the log and the API name them.",
    ),
    number(
        "storage.commit_max_bytes",
        "bytes",
        (65_536, 1 << 30),
        "Size of one transaction at the most.",
    ),
    number(
        "storage.commit_max_ms",
        "milliseconds",
        (0, 1_000),
        "How long a writer gathers batches before it commits.",
    ),
    number(
        "storage.pack_points",
        "points",
        (16, 65_536),
        "Points of a series that are packed into one chunk.",
    ),
    number(
        "storage.pack_age_secs",
        "seconds",
        (60, DAY),
        "Age at which fewer points are packed all the same.",
    ),
    number(
        "storage.head_max_bytes",
        "bytes",
        (1 << 20, 1 << 36),
        "Memory of the points that are not packed; more are packed early.",
    ),
    number(
        "storage.agents_max",
        "agents",
        (1, 1_000_000),
        "Agents that have points; samples of another one are refused.",
    ),
    number(
        "storage.series_max_bytes",
        "bytes",
        (1 << 20, 1 << 36),
        "Names and labels of all agents, with 128 a series; new series are refused beyond it.",
    ),
    text("cert_check.enabled", "Check certificates of the configured domains."),
    number(
        "cert_check.default_interval_secs",
        "seconds",
        (60, 365 * DAY),
        "Time between two checks of a domain.",
    ),
    number(
        "cert_check.tick_secs",
        "seconds",
        (1, 3_600),
        "How often the scheduler looks for due domains.",
    ),
    number(
        "cert_check.connect_timeout_secs",
        "seconds",
        (1, 300),
        "Time for look-up, connection and handshake together.",
    ),
    number("cert_check.max_concurrent", "threads", (1, 256), "Checks at the same time."),
    text("cert_check.ca_file", "PEM file of authorities to trust besides the system's."),
    number(
        "notify.deliver_within_secs",
        "seconds",
        (1, 30 * DAY),
        "How long a notification is retried before it is given up.",
    ),
    number(
        "notify.timeout_secs",
        "seconds",
        (1, 300),
        "Time for one attempt; with a mail server for one answer, and six times that in all.",
    ),
    number("notify.log_retention_days", "days", (1, 3_650), "Days that the delivery log is kept."),
    text("notify.ca_file", "PEM file of authorities to trust besides the system's."),
    text("prometheus.enabled", "Serve GET /metrics with the server's own state."),
    text("prometheus.agents", "Add the latest value of every series to GET /metrics."),
    text(
        "prometheus.agent_label",
        "The label that holds the agent in PromQL: agent, instance, host or any other.",
    ),
    text(
        "cors.allowed_origins",
        "Origins of other sites whose pages may call the API, such as \"https://ui.example.com\"; \
         \"*\" for any.",
    ),
    text(
        "http.allowed_hosts",
        "Names and addresses in `Host` that are answered, besides loopback and those of `bind`; others \
         get 421. Empty: any.",
    ),
    text(
        "http.trusted_proxies",
        "Addresses and networks of the reverse proxies before the server: only what they send of a \
         client's address counts.",
    ),
    text(
        "http.client_header",
        "Where they say it: `X-Forwarded-For` or `Forwarded` (RFC 7239). The other one is not read.",
    ),
    text(
        "outgoing.deny",
        "Addresses and networks that channels, certificate checks and `[remote]` never connect to.",
    ),
    text(
        "outgoing.proxy",
        "Proxy of webhooks, robots, SMS gateways and `[remote]`, such as \
         \"http://proxy.example.com:3128\"; \"none\" for no proxy. Default: that of the environment.",
    ),
    text(
        "outgoing.no_proxy",
        "Names, domains, addresses and networks that are called directly. Default: `no_proxy` of the \
         environment.",
    ),
    text(
        "remote.write_urls",
        "Remote write URLs of the engine that gets every sample. Empty: none is sent on \
         (docs/scaling.md).",
    ),
    text(
        "remote.read_urls",
        "Base URLs of its Prometheus HTTP API, such as \"http://vm:8428\", for audits and older days.",
    ),
    text(
        "remote.mode",
        "`failover`: the URLs lead to one engine. `ring`: each is a node, and an agent is on \
         `replicas` of them.",
    ),
    number("remote.replicas", "nodes", (1, 8), "Nodes of a ring that get the samples of an agent."),
    text(
        "remote.ack",
        "When an agent's report is acknowledged: `disk`, once it is stored here; `engine`, once the \
         engine has answered 2xx as well.",
    ),
    number(
        "remote.hot_days",
        "days",
        (0, 3_650),
        "Days of samples kept here; older ones leave once they are audited, and are read from the \
         engine. 0: `retention_days`.",
    ),
    text(
        "remote.promql",
        "Who evaluates PromQL over days that are no longer here: `here`, over samples that are read from \
         the engine; `engine`, where that can.",
    ),
    number(
        "remote.audit_after_secs",
        "seconds",
        (1, 3_600),
        "Age at which samples are counted at the engine; it shows new ones only after some seconds.",
    ),
    number(
        "remote.shards",
        "threads",
        (1, 64),
        "Requests under way at a time, agents spread over them.",
    ),
    number("remote.timeout_secs", "seconds", (1, 300), "Time for one request to the engine."),
    text("remote.ca_file", "PEM file of authorities to trust besides the system's."),
    text("remote.insecure_tls", "Do not verify the engine's certificate."),
    text(
        "remote.headers",
        "Headers of every request, such as `{ X-Scope-OrgID = \"ops\" }` for Mimir's tenant.",
    ),
    text("remote.username", "User of HTTP Basic authentication."),
    text("remote.password", "Its password."),
    text(
        "remote.password_file",
        "A file that holds it instead. Default: the credential `remote_password` of the service manager, \
         where it passes one.",
    ),
    text("remote.bearer_token", "Token that is sent as `Authorization: Bearer`."),
    text(
        "remote.bearer_token_file",
        "A file that holds it instead. Default: the credential `remote_bearer_token` of the service \
         manager, where it passes one.",
    ),
    text(
        "remote.labels",
        "Labels that every series has at the engine, such as `{ site = \"berlin\" }`.",
    ),
    text("remote.name_prefix", "What every metric's name begins with at the engine."),
    text(
        "peers.name",
        "This server's name among several with one home (docs/scaling.md). It stays. Empty: there is \
         one server.",
    ),
    text("peers.home", "Name of the server that is home at first; the same on all."),
    text(
        "peers.sisters",
        "Name and base URL of the other servers, as this one reaches their HTTP port.",
    ),
    text(
        "peers.token",
        "Secret of 32 bytes or more by which they know each other; the same on all.",
    ),
    text(
        "peers.token_file",
        "A file that holds it instead. Default: the credential `peers_token` of the service manager, \
         where it passes one.",
    ),
    text("peers.ca_file", "PEM file of authorities to trust besides the system's."),
    text(
        "peers.allow_plain",
        "Reach them by plain HTTP beyond this machine: secrets pass there unencrypted.",
    ),
];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::server::config::ServerConfig;

    /// Keys whose value is left out of the serialised defaults: secrets, and tables that are off.
    const UNSHOWN: [&str; 9] = [
        "peers.token",
        "remote.password",
        "remote.bearer_token",
        "auth.jwt_secret",
        "auth.default_password",
        "tls.cert_file",
        "tls.key_file",
        "tls.client_ca_file",
        "tls.hsts_secs",
    ];

    #[test]
    fn the_table_names_every_key_of_the_types() {
        let defaults = serde_json::to_value(ServerConfig::default()).unwrap();
        let mut paths = Vec::new();
        for (name, value) in defaults.as_object().unwrap() {
            match value.as_object() {
                Some(table) => paths.extend(table.keys().map(|key| format!("{name}.{key}"))),
                None => paths.push(name.clone()),
            }
        }
        paths.retain(|path| path != "alert.rules" && path != "tls");
        paths.extend(UNSHOWN.map(str::to_owned));
        let mut known: Vec<&str> = KEYS.iter().map(|key| key.path).collect();
        known.sort_unstable();
        paths.sort_unstable();
        assert_eq!(paths, known);
    }
}
