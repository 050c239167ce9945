//! Notification sequences: after each step, what each recipient has received so far.

use std::time::Duration;

use oxmon::base::clock::SECOND_MS;
use serde_json::{Value, json};

use crate::support::endpoint::{Act, Endpoint};
use crate::support::grpc::{Client, batch, now_ms};
use crate::support::server::Server;
use crate::support::wait_for;

const SOON: Duration = Duration::from_secs(30);
const WINDOWS: &str = "/v1/notifications/silence-windows";

/// What happens.
enum Step {
    /// A value over the threshold.
    Bad,
    /// A value under it.
    Good,
    /// A silence window opens over everything.
    Mute,
    /// It ends.
    Unmute,
    /// The server is killed and started again.
    Kill,
    /// The server is stopped and started again.
    Restart,
    /// The rule gets another threshold, under which the alert still fires.
    Edit,
    /// The rule is disabled.
    Disable,
}

use Step::{Bad, Disable, Edit, Good, Kill, Mute, Restart, Unmute};

/// Recipients: `well` takes everything, `gone` refuses the first message for good.
struct Case {
    name: &'static str,
    silence_secs: u64,
    config: Value,
    /// Each step with what `well` has received after it: `f` a firing, `r` a recovery.
    steps: Vec<(Step, &'static str)>,
    /// What `gone` was sent in all, the refused firing among it.
    gone: &'static str,
}

fn cases() -> Vec<Case> {
    let plain = || json!({"operator": "greater_than", "value": 90});
    vec![
        Case {
            name: "fire, restart, kill, end",
            silence_secs: 600,
            config: plain(),
            steps: vec![(Bad, "f"), (Bad, "f"), (Restart, "f"), (Kill, "f"), (Good, "fr")],
            gone: "f",
        },
        Case {
            name: "a flap after a sent recovery is held for refire_secs",
            silence_secs: 86_400,
            config: plain(),
            steps: vec![(Bad, "f"), (Good, "fr"), (Bad, "fr"), (Good, "fr"), (Kill, "fr")],
            gone: "f",
        },
        Case {
            name: "without refire_secs the next outage is sent at once",
            silence_secs: 86_400,
            config: json!({"operator": "greater_than", "value": 90, "refire_secs": 0}),
            steps: vec![(Bad, "f"), (Good, "fr"), (Bad, "frf"), (Good, "frfr")],
            gone: "ffr",
        },
        Case {
            name: "what flapped in a window and fires at its end is sent then",
            silence_secs: 86_400,
            config: plain(),
            steps: vec![
                (Mute, ""),
                (Bad, ""),
                (Good, ""),
                (Bad, ""),
                (Kill, ""),
                (Unmute, "f"),
                (Good, "fr"),
            ],
            gone: "f",
        },
        Case {
            name: "a recovery in a window that no longer holds at its end is dropped",
            silence_secs: 86_400,
            config: plain(),
            steps: vec![
                (Bad, "f"),
                (Mute, "f"),
                (Good, "f"),
                (Bad, "f"),
                (Unmute, "f"),
                (Restart, "f"),
                (Good, "fr"),
            ],
            gone: "f",
        },
        Case {
            name: "an edit keeps the alert, disabling ends it",
            silence_secs: 0,
            config: plain(),
            steps: vec![(Bad, "f"), (Edit, "f"), (Bad, "f"), (Disable, "fr")],
            gone: "f",
        },
    ]
}

fn received(endpoint: &Endpoint) -> String {
    let letter = |status: &Value| if status == "firing" { 'f' } else { 'r' };
    endpoint.requests().iter().map(|request| letter(&request.json()["status"])).collect()
}

struct Run {
    server: Server,
    rule: String,
    window: Option<String>,
    at_ms: i64,
}

impl Run {
    fn report(&mut self, value: f64) {
        self.at_ms += SECOND_MS;
        let points = batch("web-01", self.at_ms, &[("cpu.usage", value)]);
        assert!(Client::to(self.server.grpc_port).report(&points).unwrap().success);
        let fires = value > 90.0;
        wait_for("the evaluation", SOON, || {
            let active = self.server.get("/v1/alerts/active");
            (active.as_array().unwrap().is_empty() != fires).then_some(())
        });
    }

    fn step(&mut self, step: &Step) {
        let rule = format!("/v1/alerts/rules/{}", self.rule);
        match step {
            Bad => self.report(99.0),
            Good => self.report(10.0),
            Kill => self.server.kill_and_restart(),
            Restart => {
                assert_eq!(self.server.stop().code(), Some(0));
                self.server.restart();
            }
            Mute => {
                let window =
                    json!({"start_time": "00:00", "end_time": "24:00", "recurrence": "daily"});
                let made = self.server.post(WINDOWS, window);
                self.window = made["id"].as_str().map(str::to_owned);
            }
            Unmute => {
                let path = format!("{WINDOWS}/{}", self.window.take().unwrap());
                assert_eq!(self.server.call("DELETE", &path, None).status, 200);
            }
            Edit => {
                let config = json!({"config_json": {"operator": "greater_than", "value": 50}});
                assert_eq!(self.server.call("PUT", &rule, Some(config)).status, 200);
            }
            Disable => {
                let body = json!({"enabled": false});
                let answer = self.server.call("PUT", &format!("{rule}/enable"), Some(body));
                assert_eq!(answer.status, 200);
            }
        }
    }
}

#[test]
fn after_each_step_each_recipient_has_received_what_is_true() {
    for case in cases() {
        let well = Endpoint::start(|_, _| Act::ok());
        let gone = Endpoint::start(|_, number| match number {
            0 => Act::Answer(410, "gone".to_owned()),
            _ => Act::ok(),
        });
        let mut server = Server::start("aggregation_window_secs = 0\n");
        server.post(
            "/v1/notifications/channels/config",
            json!({"name": "hook", "channel_type": "webhook", "config_json": {},
                   "recipients": [well.url("/"), gone.url("/")]}),
        );
        let rule = server.post(
            "/v1/alerts/rules",
            json!({"name": "hot", "rule_type": "threshold", "metric": "cpu.usage",
                   "config_json": case.config, "silence_secs": case.silence_secs}),
        );
        let rule = rule["id"].as_str().unwrap().to_owned();
        let mut run = Run { server, rule, window: None, at_ms: now_ms() - 120 * SECOND_MS };
        for (number, (step, expected)) in case.steps.iter().enumerate() {
            run.step(step);
            wait_for(&format!("{}, step {number}: {expected}", case.name), SOON, || {
                (received(&well) == *expected).then_some(())
            });
        }
        // What would come too much comes before this.
        let marker = json!({"name": "marker", "rule_type": "threshold", "metric": "m",
            "config_json": {"operator": "greater_than", "value": 0}});
        run.server.post("/v1/alerts/rules", marker);
        let points = batch("web-01", run.at_ms + SECOND_MS, &[("m", 1.0)]);
        assert!(Client::to(run.server.grpc_port).report(&points).unwrap().success);
        let (_, last) = case.steps.last().unwrap();
        for (endpoint, expected) in [(&well, *last), (&gone, case.gone)] {
            wait_for(&format!("{}: {expected} and the marker", case.name), SOON, || {
                (received(endpoint) == format!("{expected}f")).then_some(())
            });
        }
    }
}
