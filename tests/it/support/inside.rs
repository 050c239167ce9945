//! A server in a network of its own, asked from within it.

use std::process::Command;

use serde_json::{Value, json};

use super::wait_slowly;

/// The REST API of a server in another network namespace.
pub struct Api {
    /// The option of nsenter(1) that names the namespace.
    net: String,
    token: Option<String>,
}

impl Api {
    /// Waits until the server on port 8080 answers, and logs in as its first user.
    pub fn new(net: String) -> Self {
        let mut api = Self { net, token: None };
        wait_slowly("the server's health", || api.get("/v1/health"));
        let login = json!({"username": "admin", "password": "changeme"});
        let answer = api.call("POST", "/v1/auth/login", Some(login)).expect("a login");
        api.token = answer["token"].as_str().map(str::to_owned);
        assert!(api.token.is_some(), "no token: {answer}");
        api
    }

    /// `data` of a GET; `None` where the server does not answer or refuses.
    pub fn get(&self, path: &str) -> Option<Value> {
        self.call("GET", path, None)
    }

    /// `data` of a call; `None` where the server does not answer or refuses.
    pub fn call(&self, method: &str, path: &str, body: Option<Value>) -> Option<Value> {
        let mut command = Command::new("nsenter");
        command.args([&self.net, "curl", "-sS", "-m", "10", "-X", method]);
        if let Some(token) = &self.token {
            command.args(["-H", &format!("Authorization: Bearer {token}")]);
        }
        if let Some(body) = body {
            command.args(["-H", "Content-Type: application/json", "-d", &body.to_string()]);
        }
        let out = command.arg(format!("http://127.0.0.1:8080{path}")).output().ok()?;
        let answer: Value = serde_json::from_slice(&out.stdout).ok()?;
        (answer["err_code"] == 0).then(|| answer["data"].clone())
    }

    /// The newest value of each series of an agent, by metric and labels as `--once` writes them.
    pub fn latest(&self, agent: &str) -> Option<super::once::Rows> {
        let data = self.get(&format!("/v1/agents/{agent}/latest?limit=1000"))?;
        let rows = data.as_array()?.iter().map(|row| {
            let labels = row["labels"].as_object().into_iter().flatten();
            let labels: Vec<String> = labels
                .map(|(key, value)| format!("{key}=\"{}\"", value.as_str().unwrap_or_default()))
                .collect();
            let name = row["metric_name"].as_str().unwrap_or_default().to_owned();
            ((name, labels.join(",")), row["value"].as_f64().unwrap_or(f64::NAN))
        });
        Some(rows.collect())
    }

    /// Times of the stored samples of a metric of an agent, milliseconds, oldest first.
    pub fn times(&self, agent: &str, metric: &str) -> Vec<i64> {
        let mut times = Vec::new();
        for page in 0.. {
            let path = format!(
                "/v1/metrics?agent_id__eq={agent}&metric_name__eq={metric}&limit=1000&offset={}",
                page * 1000
            );
            let data = self.get(&path).unwrap_or_default();
            let rows = data.as_array().cloned().unwrap_or_default();
            let time = |row: &Value| {
                oxmon::base::clock::parse_rfc3339(row["timestamp"].as_str().unwrap_or_default())
            };
            times.extend(rows.iter().filter_map(time));
            if rows.len() < 1_000 {
                break;
            }
        }
        times.sort_unstable();
        times
    }
}
