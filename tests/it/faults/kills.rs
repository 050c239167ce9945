//! SIGKILL at any moment between a point and the message about it. The moments are random, by a
//! seed that a failure prints; `OXMON_SEED` runs one again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::endpoint::{Act, Endpoint};
use crate::support::grpc::{Client, batch, now_ms};
use crate::support::server::Server;
use crate::support::wait_for;

const ROUNDS: usize = 5;
const AGENTS_A_ROUND: usize = 10;
const LIMIT: Duration = Duration::from_secs(60);

/// Ids of the notifications by agent and status, in the order of their first coming.
type Told = BTreeMap<(String, String), Vec<String>>;

fn told(endpoint: &Endpoint) -> Told {
    let mut told = Told::new();
    for request in endpoint.requests() {
        let body = request.json();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let key = (text(&body["alerts"][0]["agent_id"]), text(&body["status"]));
        let ids = told.entry(key).or_default();
        let id = text(&body["notification_id"]);
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    told
}

#[test]
fn kills_at_any_moment_lose_no_alert_and_no_recovery_and_double_none() {
    let seed = std::env::var("OXMON_SEED").ok().and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(|| now_ms().unsigned_abs());
    eprintln!("OXMON_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let endpoint = Endpoint::start(|_, _| {
        // Slow enough for a kill to meet messages on their way.
        std::thread::sleep(Duration::from_millis(15));
        Act::ok()
    });
    let mut server = Server::start("aggregation_window_secs = 0\n");
    server.post(
        "/v1/notifications/channels/config",
        json!({"name": "hook", "channel_type": "webhook", "config_json": "{}",
               "recipients": [endpoint.url("/")]}),
    );
    server.post(
        "/v1/alerts/rules",
        json!({"name": "Hot", "rule_type": "threshold", "metric": "cpu.usage", "silence_secs": 0,
               "config_json": {"operator": "greater_than", "value": 90}}),
    );
    for (status, value) in [("firing", 95.0), ("resolved", 10.0)] {
        for round in 0..ROUNDS {
            let client = Client::to(server.grpc_port);
            for agent in 0..AGENTS_A_ROUND {
                let name = format!("web-{round}-{agent}");
                let points = batch(&name, now_ms(), &[("cpu.usage", value)]);
                assert!(client.report(&points).unwrap().success);
            }
            drop(client);
            std::thread::sleep(Duration::from_millis(random.u64(0..200)));
            server.kill_and_restart();
        }
        wait_for(status, LIMIT, || {
            let count = told(&endpoint).keys().filter(|(_, told)| told == status).count();
            (count >= ROUNDS * AGENTS_A_ROUND).then_some(())
        });
    }
    let told = told(&endpoint);
    assert_eq!(told.len(), 2 * ROUNDS * AGENTS_A_ROUND);
    let doubled: Vec<_> = told.iter().filter(|(_, ids)| ids.len() != 1).collect();
    assert!(doubled.is_empty(), "an alert became two notifications: {doubled:?}");
    // What was on its way at a kill comes again, and nothing else.
    let all: BTreeSet<&String> = told.values().flatten().collect();
    let repeats = endpoint.requests().len() - all.len();
    assert!(repeats <= 2 * ROUNDS, "{repeats} messages came twice");
    let active = server.get("/v1/alerts/active");
    assert_eq!(active, json!([]));
}
