//! `docs/configuration.md`, made from the configuration's types and their tables of keys.

use oxmon::server::config::ServerConfig;
use oxmon::server::config::keys::{KEYS, Key};
use serde_json::Value;

const HEAD: &str = "\
# Configuration

Made from the configuration types by `make docs`; a test fails when it is stale. A key that is not
known, of a wrong type or out of its range is refused at start-up with file, line and key;
`--check-config` does only that.

## Server: `server.toml`

| key | default | range | meaning |
|---|---|---|---|
";

fn default_of(defaults: &Value, path: &str) -> String {
    let value = path.split('.').try_fold(defaults, |value, part| value.get(part));
    match value {
        None | Some(Value::Null) => "–".to_owned(),
        Some(value) => format!("`{value}`"),
    }
}

fn range_of(key: &Key) -> String {
    let unit = if key.unit.is_empty() { String::new() } else { format!(" {}", key.unit) };
    match key.range {
        None => "–".to_owned(),
        Some((least, i64::MAX)) => format!("{least} or more{unit}"),
        Some((least, most)) => format!("{least} to {most}{unit}"),
    }
}

fn render() -> String {
    let defaults = serde_json::to_value(ServerConfig::default()).expect("defaults serialise");
    let mut out = HEAD.to_owned();
    for key in KEYS {
        let default = default_of(&defaults, key.path);
        out.push_str(&format!(
            "| `{}` | {default} | {} | {} |\n",
            key.path,
            range_of(key),
            key.help
        ));
    }
    out.push_str(
        "\n`[[alert.rules]]` has a page of its own: [alert-rules.md](alert-rules.md). The first \
         user's password is `changeme` until it is changed.\n",
    );
    out
}

#[test]
fn configuration_is_documented() {
    let fresh = render();
    assert!(fresh.contains("| `grpc_port` | `9090` |"));
    super::check("configuration.md", &fresh);
}
