//! A part of the server over a store in a temporary folder, for targets that store what they take.

use std::sync::Arc;

use crate::base::clock::{Clock, ManualClock};
use crate::server::config::ServerConfig;
use crate::server::storage::Store;
use crate::server::storage::engine::Engine;

/// What the clock of every bench says.
pub(super) const NOW_MS: i64 = 1_770_625_800_000;
/// Inputs after which a store is replaced, since series and agents of a day stay in its memory.
const INPUTS_A_STORE: u32 = 2_000;

/// What a part is made of.
pub(super) struct Parts<'a> {
    pub config: &'a ServerConfig,
    pub store: Arc<dyn Store>,
    pub clock: Arc<dyn Clock>,
    pub registry: prometheus::Registry,
}

struct Bench<T> {
    part: T,
    store: Arc<Engine>,
    _dir: tempfile::TempDir,
}

impl<T> Drop for Bench<T> {
    fn drop(&mut self) {
        self.store.stop();
    }
}

/// The part, made again over a new store now and then.
pub(super) struct Benches<T> {
    make: fn(Parts<'_>) -> T,
    bench: Option<Bench<T>>,
    inputs: u32,
}

impl<T> Benches<T> {
    pub(super) fn new(make: fn(Parts<'_>) -> T) -> Self {
        Self { make, bench: None, inputs: 0 }
    }

    /// The part for the next input.
    pub(super) fn next(&mut self) -> &T {
        if self.inputs.is_multiple_of(INPUTS_A_STORE) {
            self.bench = None;
        }
        self.inputs += 1;
        &self.bench.get_or_insert_with(|| bench(self.make)).part
    }
}

fn bench<T>(make: fn(Parts<'_>) -> T) -> Bench<T> {
    let dir = tempfile::tempdir().unwrap();
    let config = ServerConfig { data_dir: dir.path().join("data"), ..ServerConfig::default() };
    let clock: Arc<dyn Clock> = ManualClock::at(NOW_MS);
    let registry = prometheus::Registry::new();
    let store = Engine::open(&config, Arc::clone(&clock), &registry).unwrap();
    let shared = Arc::clone(&store) as Arc<dyn Store>;
    let part = make(Parts { config: &config, store: shared, clock, registry });
    Bench { part, store, _dir: dir }
}
