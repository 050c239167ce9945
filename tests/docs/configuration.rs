//! `docs/configuration.md`, made from the configurations' types and their tables of keys.

use oxmon::agent::config::AgentConfig;
use oxmon::agent::keys::KEYS as AGENT_KEYS;
use oxmon::base::keys::Key;
use oxmon::server::config::ServerConfig;
use oxmon::server::config::keys::KEYS as SERVER_KEYS;
use serde_json::Value;

const HEAD: &str = "\
# Configuration

Made from the configuration types by `make docs`; a test fails when it is stale. A key that is not
known, of a wrong type or out of its range is refused at start-up with file, line and key;
`--check-config` does only that.
";

fn default_of(defaults: &Value, path: &str) -> String {
    let value = path.split('.').try_fold(defaults, |value, part| value.get(part));
    match value {
        None | Some(Value::Null) => "–".to_owned(),
        Some(value) => format!("`{value}`"),
    }
}

fn unit_of(key: &Key) -> &str {
    if key.unit.is_empty() { "–" } else { key.unit }
}

fn range_of(key: &Key) -> String {
    match key.range {
        None => "–".to_owned(),
        Some((least, i64::MAX)) => format!("{least} or more"),
        Some((least, most)) => format!("{least} to {most}"),
    }
}

fn table(out: &mut String, title: &str, keys: &[Key], defaults: &Value) {
    out.push_str(&format!(
        "\n## {title}\n\n| key | default | unit | range | meaning |\n|---|---|---|---|---|\n"
    ));
    for key in keys {
        out.push_str(&format!(
            "| `{}` | {} | {} | {} | {} |\n",
            key.path,
            default_of(defaults, key.path),
            unit_of(key),
            range_of(key),
            key.help
        ));
    }
}

fn agent_defaults() -> Value {
    // What is this machine's own is not a default.
    let config =
        AgentConfig { agent_id: String::new(), buffer_dir: None, ..AgentConfig::default() };
    let mut defaults = serde_json::to_value(config).expect("defaults serialise");
    defaults["agent_id"] = Value::Null;
    defaults
}

fn render() -> String {
    let server = serde_json::to_value(ServerConfig::default()).expect("defaults serialise");
    let mut out = HEAD.to_owned();
    table(&mut out, "Server: `server.toml`", SERVER_KEYS, &server);
    out.push_str(
        "\n`[[alert.rules]]` has a page of its own: [alert-rules.md](alert-rules.md). The first \
         user's password is `changeme` until it is changed.\n",
    );
    table(&mut out, "Agent: `agent.toml`", AGENT_KEYS, &agent_defaults());
    out
}

#[test]
fn configuration_is_documented() {
    let fresh = render();
    assert!(fresh.contains("| `grpc_port` | `9090` | – | 1 to 65535 |"));
    assert!(fresh.contains("| `collection_interval_secs` | `10` | seconds | 1 to 3600 |"));
    super::check("configuration.md", &fresh);
}

#[test]
fn the_table_names_every_key_of_the_agents_types() {
    let defaults = agent_defaults();
    let mut paths = vec!["auth_token".to_owned()];
    for (name, value) in defaults.as_object().expect("a table") {
        match value.as_object() {
            Some(inner) => paths.extend(inner.keys().map(|key| format!("{name}.{key}"))),
            None => paths.push(name.clone()),
        }
    }
    // The keys of a table that there is none of by default.
    let scrape = ["url", "name", "interval_secs", "timeout_secs", "series_max", "keep", "drop"];
    paths.extend(scrape.iter().chain(&["labels"]).map(|key| format!("scrape.{key}")));
    let mut known: Vec<&str> = AGENT_KEYS.iter().map(|key| key.path).collect();
    known.sort_unstable();
    paths.sort_unstable();
    assert_eq!(paths, known);
}
