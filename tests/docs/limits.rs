//! `docs/limits.md`, made from `src/base/limits.rs`.

const SOURCE: &str = include_str!("../../src/base/limits.rs");

const HEAD: &str = "\
# Limits

Made from `src/base/limits.rs` by `make docs`; a test fails when it is stale.

Everything that comes from outside has a limit. What exceeds it is rejected, or left out of its
batch, with an answer that says so.

| name | value | what it bounds |
|---|---|---|
";

fn render() -> String {
    let mut out = HEAD.to_owned();
    let mut help: Vec<&str> = Vec::new();
    for line in SOURCE.lines() {
        if let Some(text) = line.strip_prefix("/// ") {
            help.push(text);
        } else if let Some(rest) = line.strip_prefix("pub const ") {
            let (name, rest) = rest.split_once(':').expect("a constant has a type");
            let (_, value) = rest.split_once('=').expect("a constant has a value");
            let value = value.trim().trim_end_matches(';').replace('_', "");
            out.push_str(&format!("| `{name}` | {value} | {} |\n", help.join(" ")));
            help.clear();
        } else {
            help.clear();
        }
    }
    out
}

#[test]
fn limits_are_documented() {
    let fresh = render();
    assert!(fresh.contains("`BATCH_POINTS_MAX` | 10000 |"));
    super::check("limits.md", &fresh);
}
