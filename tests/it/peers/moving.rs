//! Two servers with one engine and one home: one of them is killed under load and comes back. No
//! point is lost or doubled, no alert is lost, and each is notified once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use oxmon::base::clock::rfc3339;
use serde_json::{Value, json};

use super::Servers;
use crate::remote::real::Engine;
use crate::support::agent::Agent;
use crate::support::grpc::now_ms;
use crate::support::server::Server;
use crate::support::sink::Sink;
use crate::support::wait_for;

mod fleet;

use fleet::{DISK, Fleet, HEAT, Roamer};

const SOON: Duration = Duration::from_secs(60);
/// Agents of the test itself, and real ones beside them.
const AGENTS: usize = 47;
const REAL: usize = 3;
/// Agents whose alert begins around a kill.
const HOT: usize = 10;
const RULES: &str = "
[[alert.rules]]
name = 'Hot'
type = 'threshold'
metric = 'cpu.usage'
agent_pattern = 'roam-*'
operator = 'greater_than'
value = 90.0
duration_secs = 2
severity = 'critical'
silence_secs = 0
refire_secs = 0

[[alert.rules]]
name = 'Absent'
type = 'no_data'
metric = '*'
agent_pattern = '*'
duration_secs = 12
severity = 'critical'
";

/// Rounds of killing a server: few in the suite, ten by hand.
fn rounds() -> usize {
    std::env::var("OXMON_KILL_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(2)
}

struct Trial {
    begun_ms: i64,
    servers: Servers,
    sink: Sink,
    /// How often the servers say that they may have notified twice: the most that was seen of each
    /// run of each.
    again: f64,
}

/// The notifications of one rule that a real webhook got: agent and event of each.
fn notified(sink: &Sink, rule: &str, status: &str) -> Vec<(String, String)> {
    let mut out = Vec::new();
    for body in sink.bodies() {
        if body["status"] != status || body["rule_name"] != rule {
            continue;
        }
        for alert in body["alerts"].as_array().into_iter().flatten() {
            let text = |name: &str| alert[name].as_str().unwrap_or_default().to_owned();
            out.push((text("agent_id"), text("id")));
        }
    }
    out
}

/// Events by agent.
fn by_agent(found: &[(String, String)]) -> BTreeMap<&str, BTreeSet<&str>> {
    let mut out: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (agent, id) in found {
        out.entry(agent).or_default().insert(id);
    }
    out
}

impl Trial {
    fn figure(&mut self, index: usize, line: &str) -> f64 {
        let server = self.servers.at(index);
        crate::remote::figure(server, line)
    }

    /// The data of a GET; `None` when the server names a sister that it lacks.
    fn read(&mut self, index: usize, path: &str) -> Option<Value> {
        let server = self.servers.at(index);
        let mut answer = server.call("GET", path, None);
        if answer.status == 401 {
            server.forget_login();
            answer = server.call("GET", path, None);
        }
        if answer.status == 503 {
            let said = answer.body["err_msg"].as_str().unwrap_or_default().to_owned();
            eprintln!("not whole: {said}");
            assert!(said.contains("the server `") || said.contains("engine"), "{said}");
            return None;
        }
        assert_eq!(answer.status, 200, "GET {path}: {}", answer.body);
        Some(answer.data().clone())
    }

    /// Every point that was acknowledged before is there once and as it was sent, or the answer
    /// says who is missing. Gives whether it was whole.
    fn check(&mut self, index: usize, agent: &Roamer, (since_ms, to_ms): (i64, i64)) -> bool {
        let wanted: BTreeMap<i64, u64> = agent.told.lock().unwrap().disk.clone();
        let wanted = wanted.range(since_ms..to_ms).map(|(at, bits)| (*at, *bits)).collect();
        let path = format!(
            "/v1/metrics?agent_id__eq={}&metric_name__eq={DISK}&limit=1000\
             &timestamp__gte={}&timestamp__lte={}",
            agent.name,
            rfc3339(since_ms),
            rfc3339(to_ms)
        );
        let Some(rows) = self.read(index, &path) else { return false };
        let mut had: BTreeMap<i64, u64> = BTreeMap::new();
        for row in rows.as_array().unwrap() {
            let at = oxmon::base::clock::parse_rfc3339(row["timestamp"].as_str().unwrap()).unwrap();
            let value = row["value"].as_f64().unwrap().to_bits();
            assert_eq!(had.insert(at, value), None, "{} at {at} stands twice", agent.name);
        }
        let missing = |(at, bits): &(&i64, &u64)| had.get(*at) != Some(*bits);
        let wanted: BTreeMap<i64, u64> = wanted;
        let lost: Vec<_> = wanted.iter().filter(missing).map(|(at, _)| rfc3339(*at)).collect();
        assert!(
            lost.is_empty(),
            "server {index} lacks {} of {} points of {} since {}: {:?}…",
            lost.len(),
            wanted.len(),
            agent.name,
            rfc3339(since_ms),
            &lost[..lost.len().min(5)]
        );
        true
    }

    fn lists_all(&mut self, index: usize) {
        let found = self.read(index, "/v1/agents?limit=1000").expect("a list");
        let found = found.as_array().unwrap().iter();
        let active = found.filter(|agent| agent["active"] == true);
        let names: BTreeSet<&str> = active.filter_map(|agent| agent["agent_id"].as_str()).collect();
        for number in 0..AGENTS {
            assert!(names.contains(&*format!("roam-{number:02}")), "{number}: {names:?}");
        }
        for number in 0..REAL {
            assert!(names.contains(&*format!("real-{number}")), "{number}: {names:?}");
        }
    }

    fn count_again(&mut self, index: usize) {
        self.again += self.figure(index, "oxmon_handover_notified_again_total");
    }

    /// One server is killed while alerts begin, and comes back.
    fn round(&mut self, fleet: &Fleet, round: usize, wait: Duration) {
        let (victim, other) = (round % 2, 1 - round % 2);
        let hot: Vec<Arc<Roamer>> =
            (0..HOT).map(|at| Arc::clone(&fleet.agents[(round * HOT + at) % AGENTS])).collect();
        let before = by_agent(&notified(&self.sink, "Hot", "firing"))
            .into_iter()
            .map(|(agent, ids)| (agent.to_owned(), ids.len()))
            .collect::<BTreeMap<_, _>>();
        let begun_ms = now_ms();
        hot.iter().for_each(|agent| agent.set_heat(95.0));
        std::thread::sleep(wait);
        self.count_again(victim);
        self.servers.at(victim).kill();
        let killed = Instant::now();
        for agent in hot.iter().chain(fleet.agents.iter().take(5)) {
            self.check(other, agent, (begun_ms, now_ms()));
        }
        let fired = |sink: &Sink| {
            let found = notified(sink, "Hot", "firing");
            let counts = by_agent(&found);
            let has = |agent: &Arc<Roamer>| {
                let known = before.get(&agent.name).copied().unwrap_or(0);
                counts.get(&*agent.name).is_some_and(|ids| ids.len() > known)
            };
            hot.iter().all(has)
        };
        wait_for("every alert", SOON, || fired(&self.sink).then_some(()));
        self.lists_all(other);
        let latest = format!("/v1/agents/{}/latest", hot[0].name);
        // Once it reports there.
        wait_for("newest values", SOON, || self.read(other, &latest));
        // What the engine had long before is answered for while the server is away.
        for agent in hot.iter().chain(fleet.agents.iter().take(5)) {
            let times = (self.begun_ms, begun_ms - 15_000);
            assert!(times.1 <= times.0 || self.check(other, agent, times), "old times");
        }
        let down = Duration::from_secs(6).saturating_sub(killed.elapsed());
        std::thread::sleep(down);
        self.servers.at(victim).restart();
        hot.iter().for_each(|agent| agent.set_heat(20.0));
        let ended = |sink: &Sink| {
            let found = notified(sink, "Hot", "resolved");
            let counts = by_agent(&found);
            hot.iter().all(|agent| {
                let known = before.get(&agent.name).copied().unwrap_or(0);
                counts.get(&*agent.name).is_some_and(|ids| ids.len() > known)
            })
        };
        wait_for("every recovery", SOON, || ended(&self.sink).then_some(()));
        // Agents come home, and both servers answer for all.
        wait_for("the agents to come home", SOON, || {
            let home = |(at, agent): (usize, &Arc<Roamer>)| {
                agent.at.load(std::sync::atomic::Ordering::SeqCst) == at as u64 % 2
            };
            fleet.agents.iter().enumerate().all(home).then_some(())
        });
        for index in [victim, other] {
            self.lists_all(index);
            for agent in &hot {
                let whole = self.check(index, agent, (begun_ms, now_ms()));
                assert!(whole, "both servers are there");
            }
        }
        eprintln!("round {round}: killed {victim} after {wait:?}");
    }
}

fn config(engine: &Engine) -> String {
    format!(
        "aggregation_window_secs = 0\n[remote]\nwrite_urls = [\"{}\"]\nread_urls = [\"{}\"]\n\
         {RULES}",
        engine.write_url(),
        engine.url
    )
}

#[test]
fn one_of_two_servers_is_killed_under_load_and_comes_back() {
    let Some(engine) = Engine::victoria(&["-dedup.minScrapeInterval=1ms"]) else { return };
    let sink = Sink::start();
    let mut servers = Servers::start_with(2, &config(&engine));
    servers.at(0).post(
        "/v1/notifications/channels/config",
        json!({"name": "hook", "channel_type": "webhook", "config_json": "{}",
            "recipients": [sink.url("/ok")]}),
    );
    servers.wait_same("/v1/notifications/channels");
    let ports = [0, 1].map(|index| servers.at(index).grpc_port);
    let real: Vec<Agent> = (0..REAL)
        .map(|number| {
            let both = format!(
                "server_endpoints = [\"127.0.0.1:{}\", \"127.0.0.1:{}\"]\n",
                ports[0], ports[1]
            );
            Agent::start_roaming(&format!("real-{number}"), &both)
        })
        .collect();
    let fleet = Fleet::start(AGENTS, ports);
    let begun_ms = now_ms();
    let mut trial = Trial { begun_ms, servers, sink, again: 0.0 };
    wait_for("the first reports", SOON, || {
        fleet.agents.iter().all(|agent| agent.count() > 3).then_some(())
    });
    for index in [0, 1] {
        trial.wait_listed(index);
    }
    for round in 0..rounds() {
        trial.round(&fleet, round, Duration::from_millis(700 * (round as u64 % 6 + 1)));
    }
    trial.absences(&fleet);
    let agents = fleet.end();
    for index in [0, 1] {
        for agent in &agents {
            let sums = format!(
                "/v1/metrics/summary?agent_id={}&metric_name={HEAT}&timestamp__gte={}",
                agent.name,
                rfc3339(begun_ms - 60_000)
            );
            let sums = trial.read(index, &sums).expect("both are there");
            assert_eq!(sums["count"], agent.count(), "{} at {index}", agent.name);
        }
        trial.queries(index, &agents[..5]);
        trial.count_again(index);
    }
    trial.count_notifications();
    drop(real);
}

impl Trial {
    fn wait_listed(&mut self, index: usize) {
        wait_for("all agents", SOON, || {
            let found = self.read(index, "/v1/agents?limit=1000")?;
            (found.as_array()?.len() >= AGENTS + REAL).then_some(())
        });
    }

    /// PromQL counts each point once, and the history has each alert once.
    fn queries(&mut self, index: usize, agents: &[Arc<Roamer>]) {
        let path = "/v1/alerts/history?limit=1000&rule_name__contains=Hot";
        let history = self.read(index, path).expect("both are there");
        let fired = history.as_array().unwrap().iter();
        let fired = fired.filter(|event| event["resolved_at"] != event["timestamp"]);
        assert_eq!(fired.count(), HOT * rounds(), "{history}");
        let server = self.servers.at(index);
        let (url, token) = (server.url(), server.token().expect("a login").to_owned());
        for agent in agents {
            let query = format!("count_over_time({{agent=\"{}\",mount=\"/\"}}[1h])", agent.name);
            let answer = crate::promql::get(&url, &token, "query", &[("query", &query)]);
            let count = answer["data"]["result"][0]["value"][1].as_str().unwrap_or_default();
            assert_eq!(count, agent.count().to_string(), "{answer}");
        }
    }

    /// An agent that ends, and one that ends with its server: each is missed once.
    fn absences(&mut self, fleet: &Fleet) {
        let absent = |sink: &Sink| notified(sink, "Absent", "firing");
        assert_eq!(absent(&self.sink), [], "nobody was absent");
        let (one, two) = (&fleet.agents[2], &fleet.agents[4]);
        one.set_on(false);
        wait_for("an absence", SOON, || (!absent(&self.sink).is_empty()).then_some(()));
        two.set_on(false);
        self.count_again(0);
        self.servers.at(0).kill();
        wait_for("another absence", SOON, || {
            let found = absent(&self.sink);
            found.iter().any(|(agent, _)| *agent == two.name).then_some(())
        });
        self.servers.at(0).restart();
        one.set_on(true);
        two.set_on(true);
        wait_for("their end", SOON, || {
            let ended = notified(&self.sink, "Absent", "resolved");
            (by_agent(&ended).len() == 2).then_some(())
        });
        let found = absent(&self.sink);
        let ids = by_agent(&found);
        assert!(ids.len() == 2 && ids.values().all(|ids| ids.len() == 1), "{found:?}");
    }

    /// Each alert was notified once, but for those that the servers count.
    fn count_notifications(&mut self) {
        let mut twice = 0;
        for (rule, status) in
            [("Hot", "firing"), ("Hot", "resolved"), ("Absent", "firing"), ("Absent", "resolved")]
        {
            let found = notified(&self.sink, rule, status);
            let ids: BTreeSet<&str> = found.iter().map(|(_, id)| id.as_str()).collect();
            eprintln!("{rule} {status}: {} notifications, {} alerts", found.len(), ids.len());
            twice += found.len() - ids.len();
            if rule == "Hot" {
                assert_eq!(ids.len(), HOT * rounds(), "{rule} {status}: {found:?}");
            }
        }
        eprintln!("{twice} notified again, {} counted", self.again);
        assert!(twice as f64 <= self.again, "{twice} notified again, {} counted", self.again);
        let log = |server: &Server| server.log().contains("panicked");
        assert!(![0, 1].iter().any(|index| log(self.servers.at(*index))));
    }
}
