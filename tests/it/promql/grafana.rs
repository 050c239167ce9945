//! The dashboards of `docs/grafana`: each query in them is one that the server answers, over
//! metrics that there are.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{data, get, server};
use crate::support::grpc::{Client, batch, now_ms};
use crate::support::tools::root;

/// Queries of a dashboard, with their place.
fn queries(name: &str, dashboard: &Value) -> Vec<(String, String)> {
    let mut out = Vec::new();
    for panel in dashboard["panels"].as_array().expect("panels") {
        for target in panel["targets"].as_array().expect("targets") {
            let expr = target["expr"].as_str().expect("a query");
            let expr = expr
                .replace("$__rate_interval", "5m")
                .replace("$__interval", "1m")
                .replace("$agent", "web-01")
                .replace("$domain", ".*");
            assert!(!expr.contains('$'), "{name}: a variable that is not known: {expr}");
            out.push((format!("{name}: {}", panel["title"]), expr));
        }
    }
    out
}

/// The names of metrics in a query's tree.
fn metrics(tree: &Value, out: &mut BTreeSet<String>) {
    match tree {
        Value::Object(map) => {
            let is_selector = map
                .get("type")
                .and_then(Value::as_str)
                .is_some_and(|kind| ["vectorSelector", "matrixSelector"].contains(&kind));
            if is_selector {
                out.insert(map["name"].as_str().unwrap_or_default().to_owned());
            }
            map.values().for_each(|value| metrics(value, out));
        }
        Value::Array(list) => list.iter().for_each(|value| metrics(value, out)),
        _ => {}
    }
}

#[test]
fn every_query_of_the_dashboards_is_answered_over_metrics_that_there_are() {
    let (mut server, token) = server("");
    let url = server.url();
    // Every metric that an agent may send, and one by remote write, so that its figures are there.
    let page = std::fs::read_to_string(root().join("docs/metrics.md")).expect("the page");
    let names: Vec<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .filter(|name| name.contains('.'))
        .collect();
    let points: Vec<(&str, f64)> = names.iter().map(|name| (*name, 1.0)).collect();
    for part in points.chunks(100) {
        let reply = Client::to(server.grpc_port).report(&batch("web-01", now_ms(), part));
        assert!(reply.expect("an answer").success);
    }
    let labels = vec![("__name__".to_owned(), "m".to_owned())];
    let series: data::Series = (labels, vec![(now_ms(), 1.0)]);
    let bearer = format!("Bearer {token}");
    let message = data::request(std::slice::from_ref(&series));
    assert_eq!(data::write(&url, &bearer, super::TYPE, &message), 204);
    let known = get(&url, &token, "label/__name__/values", &[]);
    let known = known["data"].as_array().expect("names").iter().filter_map(Value::as_str);
    let mut known: BTreeSet<String> = known.map(str::to_owned).collect();
    let own = super::receive::get_text(&url, &token, "/metrics");
    for line in own.lines().filter(|line| !line.starts_with('#')) {
        known.extend(line.split(['{', ' ']).next().map(str::to_owned));
    }
    let mut asked = 0;
    let mut files = 0;
    for file in std::fs::read_dir(root().join("docs/grafana")).expect("the folder") {
        let path = file.expect("a file").path();
        if path.extension().is_none_or(|ending| ending != "json") {
            continue;
        }
        files += 1;
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).expect("a dashboard");
        let dashboard: Value = serde_json::from_str(&text).expect("JSON");
        for (place, query) in queries(&name, &dashboard) {
            let tree = get(&url, &token, "parse_query", &[("query", &query)]);
            assert_eq!(tree["status"], "success", "{place}: {query}: {tree}");
            let mut found = BTreeSet::new();
            metrics(&tree["data"], &mut found);
            let unknown: Vec<&String> = found.difference(&known).collect();
            assert!(unknown.is_empty(), "{place}: {query}: {unknown:?}");
            let now = now_ms() / 1_000;
            let (from, to) = ((now - 3_600).to_string(), now.to_string());
            let over: &[(&str, &str)] =
                &[("query", &query), ("start", &from), ("end", &to), ("step", "15")];
            for (path, parameters) in [("query", &over[..1]), ("query_range", over)] {
                let answer = get(&url, &token, path, parameters);
                assert_eq!(answer["status"], "success", "{place}: {query}: {answer}");
            }
            asked += 1;
        }
    }
    assert!(files == 4 && asked > 50, "{files} files, {asked} queries");
    let listed = server.get("/v1/metrics/names");
    assert!(listed.as_array().is_some_and(|names| !names.is_empty()));
}
