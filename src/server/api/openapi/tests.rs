#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;

#[test]
fn every_route_is_in_the_document_and_nothing_else() {
    let document = document();
    let paths = document["paths"].as_object().unwrap();
    let mut wanted = BTreeSet::new();
    for route in routes() {
        if route.path.starts_with("/v1/") {
            assert!(route.is_endpoint(), "{} stands under /v1 and is no endpoint", route.path);
        } else if !route.is_endpoint() {
            assert!(paths.get(route.path).is_none(), "{} is a file of the dashboard", route.path);
            continue;
        }
        let method = route.method.name().to_lowercase();
        assert!(paths[route.path][&method].is_object(), "{method} {} is missing", route.path);
        assert!(wanted.insert((route.path, method)), "{} stands there twice", route.path);
        assert!(!route.summary.is_empty(), "{} has no summary", route.path);
    }
    let listed: usize = paths.values().map(|item| item.as_object().unwrap().len()).sum();
    assert_eq!(listed, wanted.len());
}

#[test]
fn no_schema_is_several_at_once() {
    let document = document();
    assert!(!document.to_string().contains("allOf"));
    let schemas = &document["components"]["schemas"];
    let status = &schemas["Agent"]["properties"]["status"];
    assert_eq!(status["enum"], json!(["active", "inactive", "unknown"]));
    let severity = &schemas["Channel"]["properties"]["min_severity"];
    assert_eq!(
        (&severity["type"], severity["enum"].as_array().unwrap().len()),
        (&json!("string"), 3)
    );
    let alert = &schemas["BacktestAlert"];
    let required = alert["required"].as_array().unwrap();
    assert!(required.contains(&json!("rule_name")) && required.contains(&json!("fired_at")));
    assert_eq!(required.len(), alert["properties"].as_object().unwrap().len());
}
