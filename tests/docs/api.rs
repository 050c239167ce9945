//! `docs/api-reference.md` and its Chinese edition, made from the OpenAPI document.

use std::fmt::Write as _;

use serde_json::{Map, Value};

/// The words of one edition.
struct Edition {
    file: &'static str,
    head: &'static str,
    columns: &'static str,
    objects: &'static str,
    object_columns: &'static str,
    parameters: &'static str,
    body: &'static str,
    gives: &'static str,
    errors: &'static str,
    everyone: &'static str,
    viewer: &'static str,
    admin: &'static str,
    required: &'static str,
}

const ENGLISH: Edition = Edition {
    file: "api-reference.md",
    head: include_str!("api.head.md"),
    columns: "| method and path | who | what |\n|---|---|---|\n",
    objects: "Objects",
    object_columns: "| field | type |\n|---|---|\n",
    parameters: "Parameters",
    body: "Body",
    gives: "Gives",
    errors: "Errors (HTTP status)",
    everyone: "everyone",
    viewer: "logged in",
    admin: "admin",
    required: "required",
};

const CHINESE: Edition = Edition {
    file: "api-reference.zh-CN.md",
    head: include_str!("api.head.zh-CN.md"),
    columns: "| 方法与路径 | 权限 | 说明 |\n|---|---|---|\n",
    objects: "对象",
    object_columns: "| 字段 | 类型 |\n|---|---|\n",
    parameters: "参数",
    body: "请求体",
    gives: "返回",
    errors: "错误（HTTP 状态）",
    everyone: "所有人",
    viewer: "已登录",
    admin: "管理员",
    required: "必填",
};

/// What each endpoint does, in Chinese, by `METHOD path`.
const CHINESE_SUMMARIES: &str = include_str!("api.zh-CN.json");

fn operations(document: &Value) -> Vec<(String, String, &Value)> {
    let paths = document["paths"].as_object().expect("paths");
    let mut found = Vec::new();
    for (path, item) in paths {
        for (method, operation) in item.as_object().expect("a path item") {
            found.push((method.to_uppercase(), path.clone(), operation));
        }
    }
    found.sort_by_key(|(method, path, operation)| {
        (operation["tags"][0].as_str().unwrap_or_default().to_owned(), path.clone(), method.clone())
    });
    found
}

/// A schema as one word: `string`, `[Agent]`, `integer?`.
fn word(schema: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str() {
        let name = name.rsplit('/').next().unwrap_or_default();
        return format!("[{name}](#{})", name.to_lowercase());
    }
    for key in ["oneOf", "anyOf", "allOf"] {
        if let Some(options) = schema[key].as_array() {
            let null = options.iter().any(|option| option["type"] == "null");
            let words: Vec<String> =
                options.iter().filter(|option| option["type"] != "null").map(word).collect();
            return words.join(" or ") + if null { "?" } else { "" };
        }
    }
    if let Some(words) = schema["enum"].as_array() {
        let words: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
        return words.join(", ");
    }
    let types: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(many) => many.iter().filter_map(Value::as_str).collect(),
        _ => vec!["any"],
    };
    let null = if types.contains(&"null") { "?" } else { "" };
    let kind = types.iter().find(|kind| **kind != "null").copied().unwrap_or("null");
    let shown = match kind {
        "array" => format!("[ {} ]", word(&schema["items"])),
        "string" if schema["format"] == "date-time" => "time".to_owned(),
        "object" if schema["additionalProperties"].is_object() => {
            format!("map of {}", word(&schema["additionalProperties"]))
        }
        other => other.to_owned(),
    };
    shown + null
}

fn fields(schema: &Map<String, Value>) -> Vec<(String, String)> {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
        return Vec::new();
    };
    let required: Vec<&str> = schema
        .get("required")
        .and_then(Value::as_array)
        .map(|names| names.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    properties
        .iter()
        .map(|(name, schema)| {
            let mark = if required.contains(&name.as_str()) { "" } else { " (optional)" };
            (name.clone(), word(schema) + mark)
        })
        .collect()
}

fn access<'a>(operation: &Value, edition: &'a Edition) -> &'a str {
    if operation["security"].as_array().is_none_or(Vec::is_empty) {
        edition.everyone
    } else if operation["description"].as_str().is_some_and(|text| text.contains("Admin")) {
        edition.admin
    } else {
        edition.viewer
    }
}

fn describe(out: &mut String, operation: &Value, edition: &Edition) {
    let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
    let query: Vec<String> = parameters
        .iter()
        .filter(|parameter| parameter["in"] == "query")
        .map(|parameter| {
            let name = parameter["name"].as_str().unwrap_or_default();
            let must = if parameter["required"] == true {
                format!(" ({})", edition.required)
            } else {
                String::new()
            };
            format!("`{name}`{must}")
        })
        .collect();
    if !query.is_empty() {
        let _ = writeln!(out, "{}: {}\n", edition.parameters, query.join(", "));
    }
    let body = &operation["requestBody"]["content"]["application/json"]["schema"];
    if !body.is_null() {
        let _ = writeln!(out, "{}: {}\n", edition.body, word(body));
    }
    let responses = operation["responses"].as_object().expect("responses");
    for (status, response) in responses.iter().filter(|(status, _)| status.starts_with('2')) {
        let content = response["content"].as_object();
        let Some((kind, content)) = content.and_then(|content| content.iter().next()) else {
            continue;
        };
        let data = &content["schema"]["properties"]["data"];
        let shown = if data.is_null() { format!("`{kind}`") } else { word(data) };
        let _ = writeln!(out, "{}: {status}, {shown}\n", edition.gives);
    }
    let errors: Vec<&str> =
        responses.keys().filter(|status| !status.starts_with('2')).map(String::as_str).collect();
    let _ = writeln!(out, "{}: {}\n", edition.errors, errors.join(", "));
}

fn render(document: &Value, edition: &Edition, summary: impl Fn(&str, &Value) -> String) -> String {
    let mut out = edition.head.to_owned();
    let operations = operations(document);
    let mut tag = String::new();
    for (method, path, operation) in &operations {
        let now = operation["tags"][0].as_str().unwrap_or_default();
        if now != tag {
            tag = now.to_owned();
            let _ = write!(out, "\n## {tag}\n\n{}", edition.columns);
            for (method, path, operation) in
                operations.iter().filter(|(_, _, other)| other["tags"][0] == *now)
            {
                let who = access(operation, edition);
                let what = summary(&format!("{method} {path}"), operation);
                let _ = writeln!(out, "| {method} `{path}` | {who} | {what} |");
            }
        }
        let _ = write!(out, "\n### {method} {path}\n\n");
        describe(&mut out, operation, edition);
    }
    let _ = write!(out, "\n## {}\n", edition.objects);
    let schemas = document["components"]["schemas"].as_object().expect("schemas");
    for (name, schema) in schemas {
        let fields = fields(schema.as_object().expect("a schema"));
        if fields.is_empty() {
            let _ = write!(out, "\n### {name}\n\n{}\n", word(schema));
            continue;
        }
        let _ = write!(out, "\n### {name}\n\n{}", edition.object_columns);
        for (field, kind) in fields {
            let _ = writeln!(out, "| `{field}` | {kind} |");
        }
    }
    while out.contains("\n\n\n") {
        out = out.replace("\n\n\n", "\n\n");
    }
    format!("{}\n", out.trim_end())
}

#[test]
fn the_api_is_documented_in_english() {
    let document = oxmon::server::api::openapi::document();
    let fresh = render(&document, &ENGLISH, |_, operation| {
        operation["summary"].as_str().unwrap_or_default().to_owned()
    });
    super::check(ENGLISH.file, &fresh);
}

#[test]
fn the_api_is_documented_in_chinese_with_the_same_endpoints() {
    let document = oxmon::server::api::openapi::document();
    let summaries: Value = serde_json::from_str(CHINESE_SUMMARIES).expect("a JSON object");
    let mut missing = Vec::new();
    for (method, path, _) in operations(&document) {
        if summaries[format!("{method} {path}")].as_str().is_none_or(str::is_empty) {
            missing.push(format!("{method} {path}"));
        }
    }
    assert!(missing.is_empty(), "tests/docs/api.zh-CN.json lacks {missing:#?}");
    for endpoint in summaries.as_object().expect("an object").keys() {
        let known = operations(&document)
            .iter()
            .any(|(method, path, _)| *endpoint == format!("{method} {path}"));
        assert!(known, "tests/docs/api.zh-CN.json names {endpoint}, which is not an endpoint");
    }
    let fresh = render(&document, &CHINESE, |endpoint, _| {
        summaries[endpoint].as_str().unwrap_or_default().to_owned()
    });
    super::check(CHINESE.file, &fresh);
}

#[test]
fn both_readmes_name_the_same_metrics_and_commands() {
    let root = std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let code = |file: &str| -> std::collections::BTreeSet<String> {
        let text = std::fs::read_to_string(root.join(file)).expect("a README");
        let words = text.split('`').skip(1).step_by(2).filter(|word| !word.contains('\n'));
        words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
    };
    let (english, chinese) = (code("README.md"), code("README.zh-CN.md"));
    let differ: Vec<&String> = english.symmetric_difference(&chinese).collect();
    assert!(differ.is_empty(), "only one README has {differ:?}");
}
