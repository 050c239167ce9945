#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;

#[test]
fn every_route_is_in_the_document_and_nothing_else() {
    let document = document();
    let paths = document["paths"].as_object().unwrap();
    let mut wanted = BTreeSet::new();
    // What servers say to each other is their own affair.
    for route in routes::all().filter(|route| route.access != Access::Peer) {
        if route.path.starts_with("/v1/") {
            assert!(route.is_endpoint(), "{} is under /v1 and is not an endpoint", route.path);
        } else if !route.is_endpoint() {
            assert!(paths.get(route.path).is_none(), "{} is a file of the dashboard", route.path);
            continue;
        }
        let method = route.method.name().to_lowercase();
        assert!(paths[route.path][&method].is_object(), "{method} {} is missing", route.path);
        assert!(wanted.insert((route.path, method)), "{} is listed twice", route.path);
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

/// Calls `visit` with every object of the document.
fn walk(value: &Value, visit: &mut impl FnMut(&Map<String, Value>)) {
    match value {
        Value::Object(object) => {
            visit(object);
            object.values().for_each(|inner| walk(inner, visit));
        }
        Value::Array(items) => items.iter().for_each(|inner| walk(inner, visit)),
        _ => {}
    }
}

#[test]
fn every_reference_leads_somewhere_and_no_schema_rules_out_everything() {
    let document = document();
    let mut references = 0;
    walk(&document, &mut |object| {
        if let Some(target) = object.get("$ref").and_then(Value::as_str) {
            let path = target.strip_prefix('#').unwrap();
            assert!(document.pointer(path).is_some(), "{target} leads nowhere");
            references += 1;
        }
        // All of several schemas fits nothing when they are of unlike types.
        let parts = object.get("allOf").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let types: BTreeSet<String> =
            parts.iter().filter_map(|part| Some(part.get("type")?.to_string())).collect();
        assert!(types.len() <= 1, "{object:?}");
    });
    assert!(references > 50, "{references}");
    let role = &document["components"]["schemas"]["User"]["properties"]["role"];
    assert_eq!(role["enum"], json!(["viewer", "admin"]));
    assert_eq!(role["description"], "What the user may do.");
}

#[test]
fn what_an_operation_takes_and_who_may_call_it_is_said() {
    let document = document();
    let config = &document["paths"]["/v1/system/config"]["get"];
    assert_eq!(config["security"], json!([{ "bearer": [] }]));
    assert!(config["responses"]["403"].is_object(), "{config}");
    let health = &document["paths"]["/v1/health"]["get"];
    assert_eq!(health["security"], json!([]));
    assert!(health["responses"]["401"].is_null(), "{health}");
    let list = &document["paths"]["/v1/users"]["get"];
    let names: Vec<&str> =
        list["parameters"].as_array().unwrap().iter().filter_map(|p| p["name"].as_str()).collect();
    assert_eq!(names, ["limit", "offset"]);
    assert!(list["responses"]["200"]["headers"]["X-Total-Count"].is_object());
    let body = &document["paths"]["/v1/users"]["post"]["requestBody"];
    let schema = &body["content"]["application/json"]["schema"];
    assert_eq!(schema["$ref"], "#/components/schemas/NewUser");
    let required = &document["components"]["schemas"]["NewUser"]["required"];
    assert_eq!(*required, json!(["username", "password"]));
}
