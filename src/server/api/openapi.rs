//! The OpenAPI document, made from the route table and the types that serve the requests.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};
use utoipa::openapi::schema::Schema;
use utoipa::openapi::{Ref, RefOr};

use crate::model::role::Role;
use crate::server::api::reply::Code;
use crate::server::api::router::{Access, Gives, Kind, Param, Route};
use crate::server::api::routes;
use crate::server::api::schema::Shape;

mod join;

/// The document, OpenAPI 3.1.
pub fn document() -> Value {
    let mut schemas = Map::new();
    let mut paths: Map<String, Value> = Map::new();
    for route in routes::all().filter(|route| route.is_endpoint()) {
        let item = paths.entry(route.path.to_owned()).or_insert_with(|| json!({}));
        if let Some(item) = item.as_object_mut() {
            item.insert(route.method.name().to_lowercase(), operation(route, &mut schemas));
        }
    }
    let named = schemas.clone();
    schemas.values_mut().for_each(|schema| join::join(schema, &named));
    for shape in routes::all().filter_map(|route| route.body).filter(|it| it.alias.is_some()) {
        forbid_null(schemas.get_mut(shape.alias.unwrap_or_default()), shape.required);
    }
    schemas.insert("Error".to_owned(), error_schema());
    let description = "Every answer in JSON is one envelope: `err_code` (0: success), `err_msg`, \
        `trace_id` and `data`. `trace_id` also stands in the header `X-Trace-Id` and in the \
        server's log.";
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "oxmon",
            "version": env!("CARGO_PKG_VERSION"),
            "description": description,
            "license": { "name": "MIT", "identifier": "MIT" },
        },
        "servers": [{ "url": "/" }],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": { "bearer": {
                "type": "http",
                "scheme": "bearer",
                "description": "The token of a login, or an API token.",
            } },
        },
    })
}

/// What must be there must have a value.
fn forbid_null(schema: Option<&mut Value>, required: &[&str]) {
    let Some(schema) = schema else { return };
    for name in required {
        if let Some(Value::Array(types)) = schema["properties"][name].get_mut("type") {
            types.retain(|kind| kind != "null");
        }
    }
}

fn operation(route: &Route, schemas: &mut Map<String, Value>) -> Value {
    let mut parameters: Vec<Value> = path_names(route.path)
        .map(|name| {
            json!({
                "name": name,
                "in": "path",
                "required": true,
                "schema": { "type": "string", "minLength": 1, "maxLength": 1024 },
            })
        })
        .collect();
    parameters.extend(route.params().map(parameter));
    let mut operation = json!({
        "operationId": operation_id(route),
        "summary": route.summary,
        "tags": [tag(route.path)],
        "parameters": parameters,
        "responses": responses(route, schemas),
        "security": [],
    });
    if let Access::User(least) = route.access {
        operation["security"] = json!([{ "bearer": [] }]);
        if least == Role::Admin {
            operation["description"] = json!("Administrators only.");
        }
    }
    if let Some(shape) = &route.body {
        operation["requestBody"] = json!({
            "required": true,
            "content": { "application/json": { "schema": reference(shape, schemas, true) } },
        });
    }
    operation
}

/// A name of its own for each operation: `get_v1_agents_id_latest`.
fn operation_id(route: &Route) -> String {
    let path = route.path.replace(['{', '}'], "").replace(['/', '.', '-'], "_");
    format!("{}{path}", route.method.name().to_lowercase())
}

/// The first part of the path after the version: the resource.
fn tag(path: &str) -> &str {
    let path = path.strip_prefix("/v1").unwrap_or(path);
    path.split('/').nth(1).unwrap_or("")
}

fn path_names(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
}

fn parameter(param: &Param) -> Value {
    let schema = match (param.kind, param.name) {
        (Kind::Rows, _) => json!({ "type": "integer", "minimum": 0, "default": 20 }),
        (Kind::Count, "offset") => {
            json!({ "type": "integer", "minimum": 0, "maximum": u32::MAX, "default": 0 })
        }
        (Kind::Count, _) => json!({ "type": "integer", "minimum": 0, "maximum": u32::MAX }),
        (Kind::Text, _) => json!({ "type": "string", "maxLength": 1024 }),
        (Kind::Flag, _) => json!({ "type": "boolean" }),
        (Kind::Time, _) => json!({ "type": "string", "format": "date-time" }),
        (Kind::TimeOrSecs, _) => json!({ "anyOf": [
            { "type": "string", "format": "date-time" },
            { "type": "integer" },
        ] }),
        (Kind::Word(words), _) => json!({ "type": "string", "enum": words }),
    };
    json!({
        "name": param.name,
        "in": "query",
        "required": param.required,
        "description": param.help,
        "schema": schema,
    })
}

fn responses(route: &Route, schemas: &mut Map<String, Value>) -> Value {
    let mut responses = Map::new();
    responses.insert(route.status.to_string(), success(route, schemas));
    for (status, codes) in error_codes(route) {
        let list: Vec<String> = codes.iter().map(u16::to_string).collect();
        let mut response = json!({
            "description": format!("Not done; `err_code` is {}.", list.join(" or ")),
            "headers": { "X-Trace-Id": trace_header() },
            "content": { "application/json": {
                "schema": { "$ref": "#/components/schemas/Error" },
            } },
        });
        if matches!(status, 429 | 503) {
            response["headers"]["Retry-After"] = json!({
                "description": "Seconds to wait.",
                "schema": { "type": "integer", "minimum": 0 },
            });
        }
        responses.insert(status.to_string(), response);
    }
    Value::Object(responses)
}

fn trace_header() -> Value {
    json!({ "description": "The request's trace id.", "schema": { "type": "string" } })
}

/// What any request may be answered that comes too slowly, or with too long a line or header.
const EARLY: [(u16, Code); 3] =
    [(408, Code::BadRequest), (414, Code::TooLarge), (431, Code::TooLarge)];

/// The error codes that a route may answer, by HTTP status.
fn error_codes(route: &Route) -> Vec<(u16, BTreeSet<u16>)> {
    // Any route may be asked with a parameter that it does not know, a body over the limit, or
    // while all workers are busy; and may meet a fault of the server.
    let mut codes =
        vec![Code::BadRequest, Code::TooLarge, Code::Busy, Code::Internal, Code::Storage];
    if let Access::User(least) = route.access {
        codes.extend([Code::Unauthenticated, Code::TokenExpired]);
        if !route.with_default_password {
            codes.push(Code::ChangePassword);
        }
        if least == Role::Admin || route.path.starts_with("/v1/auth/") {
            codes.push(Code::Forbidden);
        }
    }
    if route.body.is_some() {
        codes.extend([Code::LengthRequired, Code::NotJson]);
    }
    if route.path.contains('{') {
        codes.push(Code::NotFound);
    }
    codes.extend(route.errors);
    let mut statuses: Vec<u16> = codes.iter().map(|code| code.http_status()).collect();
    statuses.sort_unstable();
    statuses.dedup();
    let of = |status: u16| {
        codes.iter().filter(|code| code.http_status() == status).map(|code| *code as u16).collect()
    };
    let answers = statuses.iter().map(|status| (*status, of(*status)));
    // An incomplete request is answered before its route is known.
    let early = EARLY.map(|(status, code)| (status, BTreeSet::from([code as u16])));
    let all: BTreeMap<u16, BTreeSet<u16>> = answers.chain(early).collect();
    all.into_iter().collect()
}

fn success(route: &Route, schemas: &mut Map<String, Value>) -> Value {
    let mut headers = json!({ "X-Trace-Id": trace_header() });
    if let Gives::Raw(content_type) = route.gives {
        return json!({
            "description": "Done.",
            "headers": headers,
            "content": { content_type: { "schema": raw_schema(content_type) } },
        });
    }
    let data = match &route.gives {
        Gives::Nothing | Gives::Raw(_) | Gives::File | Gives::Prometheus | Gives::Peer => {
            json!({ "type": "null" })
        }
        Gives::One(shape) => reference(shape, schemas, false),
        Gives::Many(shape) | Gives::List(shape) => {
            json!({ "type": "array", "items": reference(shape, schemas, false) })
        }
    };
    if matches!(route.gives, Gives::List(_)) {
        headers["X-Total-Count"] = json!({
            "description": "The number of all matches.",
            "schema": { "type": "integer", "minimum": 0 },
        });
    }
    json!({
        "description": "Done.",
        "headers": headers,
        "content": { "application/json": { "schema": {
            "type": "object",
            "required": ["err_code", "err_msg", "trace_id", "data"],
            "additionalProperties": false,
            "properties": {
                "err_code": { "const": 0 },
                "err_msg": { "const": "success" },
                "trace_id": { "type": "string" },
                "data": data,
            },
        } } },
    })
}

fn raw_schema(content_type: &str) -> Value {
    if matches!(content_type, "application/json" | "application/yaml") {
        json!({ "type": "object" })
    } else {
        json!({ "type": "string" })
    }
}

fn error_schema() -> Value {
    json!({
        "type": "object",
        "required": ["err_code", "err_msg", "trace_id", "data"],
        "additionalProperties": false,
        "properties": {
            "err_code": { "type": "integer", "minimum": 1000, "maximum": 1999 },
            "err_msg": { "type": "string", "description": "What is wrong with what." },
            "trace_id": { "type": "string" },
            "data": { "type": "null" },
        },
    })
}

/// Puts a shape and its parts among the schemas and points to it.
fn reference(shape: &Shape, schemas: &mut Map<String, Value>, request: bool) -> Value {
    let name = shape.alias.map_or_else(shape.name, Cow::Borrowed);
    let schema = (shape.schema)();
    let mut parts = Vec::new();
    (shape.parts)(&mut parts);
    for (part, schema) in parts {
        // Times stand in place, since a name for them says nothing.
        schemas.entry(part).or_insert_with(|| strict(&schema, request));
    }
    if is_plain(&schema) {
        return strict(&schema, request);
    }
    let mut whole = strict(&schema, request);
    if !shape.required.is_empty() {
        whole["required"] = json!(shape.required);
    }
    schemas.insert(name.to_string(), whole);
    serde_json::to_value(Ref::from_schema_name(name)).unwrap_or(Value::Null)
}

/// Whether a schema is a plain type such as a string, which needs no name.
fn is_plain(schema: &RefOr<Schema>) -> bool {
    match schema {
        RefOr::T(Schema::Object(object)) => {
            object.properties.is_empty() && object.enum_values.is_none()
        }
        _ => false,
    }
}

/// The schema as JSON. Objects with named fields take no others; an answer always holds all of its
/// fields, a field without a value being null.
fn strict(schema: &RefOr<Schema>, request: bool) -> Value {
    let mut value = serde_json::to_value(schema).unwrap_or(Value::Null);
    tighten(&mut value, request);
    value
}

fn tighten(value: &mut Value, request: bool) {
    if let Some(object) = value.as_object_mut() {
        unwrap_described(object);
        let names: Option<Vec<Value>> = object
            .get("properties")
            .and_then(Value::as_object)
            .map(|fields| fields.keys().cloned().map(Value::String).collect());
        if let Some(names) = names {
            object.insert("additionalProperties".to_owned(), Value::Bool(false));
            if !request {
                object.insert("required".to_owned(), Value::Array(names));
            }
        }
        object.values_mut().for_each(|inner| tighten(inner, request));
    } else if let Some(items) = value.as_array_mut() {
        items.iter_mut().for_each(|inner| tighten(inner, request));
    }
}

/// A field whose type is a list of words and that has a comment comes as `allOf` of the words and
/// of an object with nothing but the comment, which no value can be. The words and the comment are
/// put in its place.
fn unwrap_described(object: &mut Map<String, Value>) {
    let Some(Value::Array(parts)) = object.get("allOf") else { return };
    let is_comment = |part: &Value| {
        let fields = part.as_object();
        fields.is_some_and(|it| it.keys().all(|key| key == "type" || key == "description"))
    };
    let (comments, mut kept): (Vec<Value>, Vec<Value>) =
        parts.iter().cloned().partition(is_comment);
    if let ([comment], [Value::Object(inner)]) = (&comments[..], &mut kept[..]) {
        let mut whole = std::mem::take(inner);
        whole.insert("description".to_owned(), comment["description"].clone());
        *object = whole;
    }
}

#[cfg(test)]
mod tests;
