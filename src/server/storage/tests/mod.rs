//! The engine through its boundary: against a simple model, and through faults.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;
use std::sync::Arc;

use crossbeam_channel::bounded;

use crate::base::clock::{DAY_MS, ManualClock};
use crate::model::point::{Batch, Point};
use crate::model::series::{Labels, SeriesKey};
use crate::server::config::ServerConfig;
use crate::server::storage::engine::Engine;
use crate::server::storage::{StorageError, Store, Stored, submit_batch};

mod basics;
mod crash;
mod faults;
mod feed;
mod model;
mod packing;

/// Noon of 2026-02-09 in UTC.
pub(super) const NOON: i64 = 1_770_638_400_000;
/// First millisecond of that day.
pub(super) const MIDNIGHT: i64 = NOON - DAY_MS / 2;

/// A configuration on a folder, with small bounds so that tests meet them.
pub(super) fn config(folder: &Path) -> ServerConfig {
    let mut config = ServerConfig { data_dir: folder.to_owned(), ..ServerConfig::default() };
    config.storage.pack_points = 16;
    config
}

/// An engine on a folder, at a time.
pub(super) fn open_at(config: &ServerConfig, clock: &Arc<ManualClock>) -> Arc<Engine> {
    let clock: Arc<ManualClock> = Arc::clone(clock);
    Engine::open(config, clock, &prometheus::Registry::new()).unwrap()
}

/// An engine on a folder, at noon.
pub(super) fn open(folder: &Path) -> Arc<Engine> {
    open_at(&config(folder), &ManualClock::at(NOON))
}

/// Stores a batch and waits for what became of it.
pub(super) fn store(
    engine: &Engine,
    agent: &str,
    points: Vec<Point>,
) -> Result<Stored, StorageError> {
    let (send, receive) = bounded(1);
    let batch = Batch { agent_id: agent.into(), timestamp_ms: NOON, points };
    let ack = Box::new(move |outcome| send.send(outcome).unwrap());
    assert!(submit_batch(engine, batch, ack).is_ok(), "the queue has room");
    receive.recv().unwrap()
}

/// A series without labels.
pub(super) fn key(agent: &str, metric: &str) -> SeriesKey {
    SeriesKey { agent: agent.into(), metric: metric.into(), labels: Labels::none() }
}

/// Waits until `is_so`, for thirty seconds at the most.
pub(super) fn wait_for(what: &str, is_so: impl Fn() -> bool) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while !is_so() {
        assert!(std::time::Instant::now() < deadline, "waited in vain for {what}");
        std::thread::park_timeout(std::time::Duration::from_millis(2));
    }
}
