//! The table of SECURITY.md, row by row against the built server, and every route by its access.

use std::collections::BTreeMap;

use base64::Engine as _;
use oxmon::server::api::router::{ADMIN, Access, Method, Route, VIEWER};
use oxmon::server::api::routes::all as routes;
use serde_json::{Value, json};

use crate::support::endpoint::{Act, Endpoint};
use crate::support::grpc::{Client, batch, now_ms};
use crate::support::server::Server;
use crate::support::tools::root;

const ACTORS: [&str; 4] = ["stranger", "agent", "viewer", "administrator"];
const OPEN: &str = "health, the dashboard's files, the OpenAPI documents, login";
const REPORT: &str = "report samples over gRPC";
const WRITE: &str = "write samples over HTTP (remote write, OTLP, InfluxDB)";
const ENROLL: &str = "redeem an enrolment code";
const READ: &str =
    "read hosts, samples, alerts, certificates, rules, channels, `GET /metrics`, PromQL";
const OWN: &str = "the own password, session and API tokens";
const CONFIGURATION: &str = "read the configuration in force and of channels, users, everyone's \
                             tokens, the audit log";
const CHANGE: &str = "change rules, channels, silence windows, domains, agents, users; \
                      acknowledge an alert";
const BODIES: &str = "read bodies of the delivery log and whole URLs of recipients";
const SECRETS: &str = "read a stored password, token or secret";
const PROGRAMS: &str = "run a program on a host or on the server";

/// What the table says: of each row, who may.
fn table() -> BTreeMap<String, [bool; 4]> {
    let text = std::fs::read_to_string(root().join("SECURITY.md")).unwrap();
    let section = text.split("## Who can do what").nth(1).unwrap().split("\n## ").next().unwrap();
    let mut lines = section.lines().filter(|line| line.starts_with('|'));
    let cells = |line: &str| -> Vec<String> {
        line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()
    };
    assert_eq!(cells(lines.next().unwrap())[1..], ACTORS);
    let rows = lines.skip(1).map(|line| {
        let row = cells(line);
        let may = |cell: &String| match cell.split([',', ' ']).next().unwrap() {
            "yes" => true,
            "no" => false,
            other => panic!("`{other}` in {line}"),
        };
        (row[0].clone(), [may(&row[1]), may(&row[2]), may(&row[3]), may(&row[4])])
    });
    rows.collect()
}

/// A server that asks agents for tokens, and who calls it.
struct Cast {
    server: Server,
    agent: String,
    viewer: String,
    admin: String,
}

impl Cast {
    fn new() -> Self {
        let mut server = Server::start(
            "require_agent_auth = true\naggregation_window_secs = 0\n[cert_check]\nenabled = false\n",
        );
        let made = server.post("/v1/agents/whitelist", json!({"agent_id": "web-01"}));
        server.post("/v1/users", json!({"username": "eve", "password": "only looking"}));
        let viewer = server.log_in("eve", "only looking");
        let admin = server.token().unwrap().to_owned();
        Self { server, agent: made["token"].as_str().unwrap().to_owned(), viewer, admin }
    }

    /// The Bearer tokens, in the order of [`ACTORS`].
    fn tokens(&self) -> [Option<&str>; 4] {
        [None, Some(&self.agent), Some(&self.viewer), Some(&self.admin)]
    }

    /// Who is not turned away with 401 or 403.
    fn admitted(&self, method: &str, path: &str, body: Option<Value>) -> [bool; 4] {
        self.tokens().map(|token| {
            let answer = self.server.call_as(token, method, path, body.clone());
            !matches!(answer.status, 401 | 403)
        })
    }
}

/// The row that a route belongs to, by its access alone where that says it.
fn row_of(route: &Route) -> &'static str {
    let writes = [
        "/api/v1/write",
        "/api/v1/otlp/v1/metrics",
        "/api/v1/influx/write",
        "/api/v1/influx/api/v2/write",
    ];
    // A POST of Prometheus' API is a query; a backtest stores nothing.
    let reads = route.method == Method::Get
        || route.is_prometheus()
        || route.path == "/v1/alerts/rules/test";
    match route.access {
        _ if writes.contains(&route.path) => WRITE,
        Access::Public => OPEN,
        access if access == VIEWER && reads => READ,
        access if access == VIEWER => OWN,
        access if access == ADMIN && reads => CONFIGURATION,
        _ => CHANGE,
    }
}

#[test]
fn every_route_admits_whom_its_row_says() {
    let cast = Cast::new();
    let table = table();
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for route in routes().filter(|route| route.access != Access::Peer && row_of(route) != WRITE) {
        let row = row_of(route);
        *seen.entry(row).or_default() += 1;
        // The end of a login would end those of this test.
        let ends = route.path == "/v1/auth/logout"
            || (route.path == "/v1/auth/session" && route.method != Method::Get);
        if ends {
            continue;
        }
        let parts = route.path.split('/').map(|it| if it.starts_with('{') { "none" } else { it });
        let path = parts.collect::<Vec<_>>().join("/");
        let body = route.body.map(|_| json!({}));
        let label = format!("{} {}: {row}", route.method.name(), route.path);
        assert_eq!(cast.admitted(route.method.name(), &path, body), table[row], "{label}");
    }
    for (row, least) in [(OPEN, 8), (READ, 25), (OWN, 4), (CONFIGURATION, 6), (CHANGE, 25)] {
        let count = seen.get(row).copied().unwrap_or_default();
        assert!(count >= least, "{count} routes of: {row}");
    }
}

#[test]
fn samples_come_from_whom_the_table_says() {
    let cast = Cast::new();
    let sent = batch("web-01", now_ms(), &[("a", 1.0)]);
    let over_grpc = cast.tokens().map(|token| {
        let bearer = format!("Bearer {}", token.unwrap_or_default());
        let mut metadata = vec![("agent-id", "web-01")];
        metadata.extend(token.map(|_| ("authorization", bearer.as_str())));
        Client::to(cast.server.grpc_port).report_with(&sent, &metadata).is_ok_and(|it| it.success)
    });
    assert_eq!(over_grpc, table()[REPORT]);
    let other = batch("web-02", now_ms(), &[("a", 1.0)]);
    let bearer = format!("Bearer {}", cast.agent);
    let metadata = [("agent-id", "web-01"), ("authorization", bearer.as_str())];
    assert!(
        Client::to(cast.server.grpc_port).report_with(&other, &metadata).is_err(),
        "its own id"
    );

    let basic = base64::prelude::BASE64_STANDARD.encode(format!("web-01:{}", cast.agent));
    let logins = [None, Some(format!("Basic {basic}"))].into_iter();
    let logins = logins.chain([&cast.viewer, &cast.admin].map(|it| Some(format!("Bearer {it}"))));
    let over_http: Vec<bool> = logins
        .map(|login| {
            let mut post = ureq::post(format!("{}/api/v1/influx/write", cast.server.url()))
                .config()
                .http_status_as_error(false)
                .build()
                .content_type("text/plain");
            if let Some(login) = &login {
                post = post.header("Authorization", login);
            }
            let status = post.send("cpu,agent=web-01 usage=1").unwrap().status().as_u16();
            assert!(matches!(status, 204 | 401 | 403), "{login:?}: {status}");
            status == 204
        })
        .collect();
    assert_eq!(over_http, table()[WRITE]);
}

#[test]
fn what_is_secret_is_shown_to_whom_the_table_says() {
    let mut cast = Cast::new();
    let endpoint = Endpoint::start(|_, _| Act::Answer(200, "the answer's body".to_owned()));
    let hook = endpoint.url("/services/abc?key=q-secret-1");
    let config = json!({"headers": {"Authorization": "Bearer h-secret-2"}});
    let body = json!({"name": "c", "channel_type": "webhook", "config_json": config,
        "recipients": [hook]});
    cast.server.post("/v1/notifications/channels/config", body);
    cast.server.post("/v1/notifications/channels/c/test", json!({}));
    let made = cast.server.post("/v1/auth/tokens", json!({"name": "t"}));
    let api_token = made["token"].as_str().unwrap().to_owned();
    let shown = |path: &str, word: &str| {
        cast.tokens().map(|token| {
            cast.server.call_as(token, "GET", path, None).body.to_string().contains(word)
        })
    };
    let table = table();
    assert_eq!(shown("/v1/notifications/logs", "the answer's body"), table[BODIES]);
    assert_eq!(shown("/v1/notifications/channels/c/recipients", "/services/abc"), table[BODIES]);
    let known =
        ["q-secret-1", "h-secret-2", &cast.agent, &api_token, "only looking", "argon2", "changeme"];
    for route in routes().filter(|route| route.method == Method::Get) {
        let parts = route.path.split('/').map(|it| match it {
            "{id}" if route.path.contains("/users/") => "eve",
            "{id}" if route.path.contains("/channels/") => "c",
            it if it.starts_with('{') => "web-01",
            it => it,
        });
        let path = parts.collect::<Vec<_>>().join("/");
        // The dashboard says what the default password is; the document describes it.
        if route.access == Access::Public {
            continue;
        }
        for secret in known {
            assert_eq!(shown(&path, secret), table[SECRETS], "{secret} in GET {path}");
        }
    }
}

#[test]
fn a_code_is_good_for_anybody_and_no_route_runs_a_program() {
    let mut cast = Cast::new();
    let table = table();
    assert_eq!(table[ENROLL], [true; 4]);
    // Whoever has the code: the call takes no other proof.
    let code = cast.server.post("/v1/agents/enroll-codes", json!({"agent_id": "new-01"}));
    let dir = tempfile::tempdir().unwrap();
    let out = std::process::Command::new(crate::support::agent::program())
        .args(["enroll", "--server", &format!("127.0.0.1:{}", cast.server.grpc_port)])
        .args(["--code", code["code"].as_str().unwrap(), "--agent-id", "new-01", "--config"])
        .arg(dir.path().join("agent.toml"))
        .output()
        .unwrap();
    assert!(out.status.success(), "{out:?}");
    assert_eq!(table[PROGRAMS], [false; 4]);
    let running: Vec<&str> = routes()
        .map(|route| route.path)
        .filter(|path| ["exec", "command", "shell", "script"].iter().any(|it| path.contains(it)))
        .collect();
    assert!(running.is_empty(), "{running:?}");
    let rows =
        [OPEN, REPORT, WRITE, ENROLL, READ, OWN, CONFIGURATION, CHANGE, BODIES, SECRETS, PROGRAMS];
    let mut rows = rows.map(str::to_owned).to_vec();
    rows.sort();
    assert_eq!(table.into_keys().collect::<Vec<_>>(), rows, "each row has its test");
}
