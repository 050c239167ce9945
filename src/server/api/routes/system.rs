//! The server itself: what it runs with, what it keeps.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::base::clock::rfc3339;
use crate::server::api::reply::{ApiError, Code, Reply};
use crate::server::api::request::Call;
use crate::server::api::router::{ADMIN, Gives, Method, Route};
use crate::server::api::schema::Shape;
use crate::server::config::ServerConfig;
use crate::server::config::keys::KEYS;
use crate::server::control::notify::channels;
use crate::server::remote::TargetStatus;
use crate::server::storage::{self, StorageReport};

/// The endpoints.
pub(crate) const ROUTES: &[Route] = &[
    Route {
        access: ADMIN,
        ..Route::get(
            "/v1/system/config",
            "The configuration in force, secrets masked.",
            Gives::One(Shape::of::<RuntimeConfig>()),
            config,
        )
    },
    Route::get(
        "/v1/system/storage",
        "What stands on the disk, by day.",
        Gives::One(Shape::of::<Storage>()),
        report,
    ),
    Route::get(
        "/v1/system/remote",
        "What the engine of `[remote]`, or each of its nodes, has and lacks.",
        Gives::One(Shape::of::<RemoteTargets>()),
        remote,
    ),
    Route {
        method: Method::Post,
        access: ADMIN,
        errors: &[Code::Storage],
        ..Route::get(
            "/v1/system/storage/cleanup",
            "Drop the days past the retention now, and say which went.",
            Gives::One(Shape::of::<Cleanup>()),
            clean_up,
        )
    },
];

/// What stands in place of a secret.
const MASK: &str = "***";

#[derive(Serialize, ToSchema)]
struct RuntimeConfig {
    grpc_port: u16,
    http_port: u16,
    data_dir: String,
    retention_days: u32,
    require_agent_auth: bool,
    cert_check_enabled: bool,
    cert_check_default_interval_secs: u64,
    cert_check_tick_secs: u64,
    cert_check_max_concurrent: usize,
    notification_aggregation_window_secs: u64,
    /// Rules in force.
    alert_rules_count: usize,
    /// Channels, those that are not enabled among them.
    notification_channels_count: u64,
    /// The value of every key of the configuration file, by its dotted name; null where it is not
    /// set and has no default.
    settings: BTreeMap<String, Value>,
}

#[derive(Serialize, ToSchema)]
struct Partition {
    /// The day, `YYYY-MM-DD` in UTC.
    date: String,
    /// Bytes of its file.
    size_bytes: u64,
}

impl From<storage::Partition> for Partition {
    fn from(day: storage::Partition) -> Self {
        Self { date: day.date, size_bytes: day.size_bytes }
    }
}

#[derive(Serialize, ToSchema)]
struct Storage {
    /// Days, oldest first.
    partitions: Vec<Partition>,
    total_partitions: u64,
    /// Bytes of all days.
    total_size_bytes: u64,
    /// Bytes of everything in the data folder.
    data_dir_bytes: u64,
    /// Files that were set aside as damaged.
    damaged: Vec<String>,
    /// Whether the last write found no room on the disk.
    disk_full: bool,
    /// Bytes of points in memory that are not packed yet.
    head_bytes: u64,
    /// Series of those points.
    head_series: u64,
}

#[derive(Serialize, ToSchema)]
struct Cleanup {
    /// Days that went, oldest first.
    removed: Vec<Partition>,
    removed_partitions: u64,
    /// The same number, by the name that earlier releases gave it.
    partitions_removed: u64,
    /// Bytes that they held.
    freed_bytes: u64,
}

#[derive(Serialize, ToSchema)]
struct RemoteTarget {
    /// `engine`, or host and port of a node of a ring.
    target: String,
    /// Whether the last request was answered.
    up: bool,
    /// Age of the oldest sample in memory that it has not taken.
    lag_secs: i64,
    /// Times of agents that it lacks; they are read from the day files and sent.
    gaps: u64,
    /// Their length together.
    gap_secs: i64,
    /// Samples that it has taken since the start.
    sent_samples: u64,
    /// Samples that it refused since the start.
    refused_samples: u64,
    /// Samples that it lacks although they were sent several times.
    missing_samples: u64,
    /// Until when what it has was counted and is whole; null before the first audit.
    audited_to: Option<String>,
}

#[derive(Serialize, ToSchema)]
struct RemoteTargets {
    /// Empty without `[remote]`.
    targets: Vec<RemoteTarget>,
}

fn remote(call: &Call<'_>) -> Result<Reply, ApiError> {
    let all = call.app.remote.as_ref().map(|remote| remote.status()).unwrap_or_default();
    let target = |one: TargetStatus| RemoteTarget {
        target: one.name,
        up: one.is_up,
        lag_secs: one.lag_secs,
        gaps: one.gaps as u64,
        gap_secs: one.gap_secs,
        sent_samples: one.sent,
        refused_samples: one.refused,
        missing_samples: one.missing,
        audited_to: one.audited_to_ms.map(rfc3339),
    };
    Ok(Reply::ok(&RemoteTargets { targets: all.into_iter().map(target).collect() }))
}

fn config(call: &Call<'_>) -> Result<Reply, ApiError> {
    let config = &call.app.config;
    let checks = &config.cert_check;
    Ok(Reply::ok(&RuntimeConfig {
        grpc_port: config.grpc_port,
        http_port: config.http_port,
        data_dir: config.data_dir.display().to_string(),
        retention_days: config.retention_days,
        require_agent_auth: config.require_agent_auth,
        cert_check_enabled: checks.enabled,
        cert_check_default_interval_secs: checks.default_interval_secs,
        cert_check_tick_secs: checks.tick_secs,
        cert_check_max_concurrent: checks.max_concurrent,
        notification_aggregation_window_secs: config.aggregation_window_secs,
        alert_rules_count: call.app.alerts.rules().enabled().count(),
        notification_channels_count: call.app.control.read(channels::count)?,
        settings: settings(config),
    }))
}

/// Every key with its value. Secrets are not serialised, so that none can slip through here.
fn settings(config: &ServerConfig) -> BTreeMap<String, Value> {
    // Plain data always serialises.
    let values = serde_json::to_value(config).unwrap_or(Value::Null);
    let mut all: BTreeMap<String, Value> = KEYS
        .iter()
        .map(|key| {
            let value = key.path.split('.').try_fold(&values, |value, part| value.get(part));
            (key.path.to_owned(), value.cloned().unwrap_or(Value::Null))
        })
        .collect();
    let masked = |is_set: bool| if is_set { Value::from(MASK) } else { Value::Null };
    all.insert("auth.jwt_secret".to_owned(), masked(config.auth.jwt_secret.is_some()));
    all.insert("auth.default_password".to_owned(), masked(true));
    all.insert("peers.token".to_owned(), masked(config.peers.token.is_some()));
    all
}

/// Bytes of all days.
pub(crate) fn day_bytes(report: &StorageReport) -> u64 {
    report.partitions.iter().map(|day| day.size_bytes).sum()
}

fn report(call: &Call<'_>) -> Result<Reply, ApiError> {
    let report = call.app.store.report()?;
    Ok(Reply::ok(&Storage {
        total_partitions: report.partitions.len() as u64,
        total_size_bytes: day_bytes(&report),
        data_dir_bytes: report.total_bytes,
        partitions: report.partitions.into_iter().map(Partition::from).collect(),
        damaged: report.damaged,
        disk_full: report.disk_full,
        head_bytes: report.head_bytes,
        head_series: report.head_series,
    }))
}

fn clean_up(call: &Call<'_>) -> Result<Reply, ApiError> {
    let gone = call.app.store.cleanup()?;
    Ok(Reply::ok(&Cleanup {
        removed_partitions: gone.removed.len() as u64,
        partitions_removed: gone.removed.len() as u64,
        freed_bytes: gone.freed_bytes,
        removed: gone.removed.into_iter().map(Partition::from).collect(),
    }))
}
