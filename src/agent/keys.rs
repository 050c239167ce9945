//! The table of all keys of `agent.toml`: what they mean, their units and their ranges.

use crate::base::keys::{Key, number, text};

/// Every key, in the order of the documentation.
pub const KEYS: &[Key] = &[
    text("agent_id", "This host's name on the server. Default: the host name."),
    text("server_endpoint", "The server's gRPC address, `host:port`."),
    text(
        "server_endpoints",
        "Several servers that share one engine. The agent reports to one: the first that answers, in an order that its id gives. Empty: `server_endpoint`.",
    ),
    text("auth_token", "The token that the server asks for, as the whitelist gave it."),
    text(
        "auth_token_file",
        "A file that holds the token instead. Default: the credential `auth_token` of the service manager (`LoadCredential=auth_token:FILE`), where it passes one.",
    ),
    number("collection_interval_secs", "seconds", (1, 3_600), "Time between two collections."),
    number(
        "buffer_max_size",
        "batches",
        (1, 100_000),
        "Batches kept while the server is away; the oldest goes first.",
    ),
    text(
        "buffer_dir",
        "Folder of the batches that must survive a restart. Default: the unit's state folder.",
    ),
    text("log_level", "`error`, `warn`, `info`, `debug` or `trace`."),
    text("proc_root", "The root of /proc; `OXMON_HOST_PROC` sets it too."),
    text("sys_root", "The root of /sys; `OXMON_HOST_SYS` sets it too."),
    text("root", "The root of the mounts; `OXMON_HOST_ROOT` sets it too."),
    text("tls.enabled", "Encrypt the connection. A `[tls]` table means yes; so does `tls = true`."),
    text("tls.ca_file", "PEM file of the authorities to trust in place of the system's."),
    text("tls.cert_file", "PEM file of the agent's own certificate."),
    text("tls.key_file", "PEM file of its key."),
    text("tls.server_name", "Name of the server's certificate, where it is not the endpoint's."),
    text("units", "Units of systemd to watch, such as `nginx.service`."),
    text(
        "processes",
        "Names of processes to watch, such as `postgres`; their first 15 characters count.",
    ),
    text(
        "textfile_dir",
        "Folder of files `*.prom` in Prometheus' text format, as node_exporter reads them.",
    ),
    text("scrape", "Exporters of this host, each a `[[scrape]]` with the keys below."),
    text(
        "scrape.url",
        "`http://` and one of the host's own addresses, such as `http://127.0.0.1:9100/metrics`.",
    ),
    text("scrape.name", "The target's name in `scrape.success`. Default: the URL."),
    text(
        "scrape.interval_secs",
        "Seconds between two fetches, 1 to 3600. Default: each collection.",
    ),
    text("scrape.timeout_secs", "Seconds that a fetch may take, 1 to 60. Default: 5."),
    text("scrape.series_max", "Series to take at the most, 1 to 3000. Default: 2000."),
    text("scrape.keep", "Metrics to take, by patterns. Empty: all that are not dropped."),
    text("scrape.drop", "Metrics to leave out, by patterns."),
    text(
        "scrape.labels",
        "Labels to add to the series, so that those of two exporters stay apart.",
    ),
    text("collectors.enable", "Collectors to run beside the usual ones, by name."),
    text("collectors.disable", "Collectors not to run, by name; docs/metrics.md lists them."),
    text(
        "snapshot.enabled",
        "Send the processes with the most CPU time, memory and I/O once when an alert of this host is pending or firing. Default: `true`.",
    ),
    text(
        "snapshot.arguments",
        "`true` sends their command lines too, which may hold secrets. Default: `false`.",
    ),
    text(
        "filters.mounts_include",
        "Mount points to measure, whatever their type. Empty: all that are not excluded. An include wins over an exclude that is less specific.",
    ),
    text("filters.mounts_exclude", "Mount points to leave out."),
    text("filters.fs_types_exclude", "Types of file systems to leave out."),
    text("filters.interfaces_include", "Interfaces to measure. Empty: all that are not excluded."),
    text("filters.interfaces_exclude", "Interfaces to leave out."),
    text(
        "filters.disks_include",
        "Disks of `diskio` to measure. Empty: all that are not excluded.",
    ),
    text("filters.disks_exclude", "Disks of `diskio` to leave out."),
    text("filters.disk_partitions", "`true` measures partitions beside whole disks."),
];
