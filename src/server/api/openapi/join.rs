//! Schemas that are said to be several at once, made one.

use serde_json::{Map, Value};

/// Makes each `allOf` in `value` one schema. There is one where a field whose type stands inline
/// has a comment of its own, with an object for the comment, which no text is; and where a struct
/// is flattened into another, of which each forbids the other's fields.
pub(super) fn join(value: &mut Value, named: &Map<String, Value>) {
    if let Some(items) = value.as_array_mut() {
        items.iter_mut().for_each(|item| join(item, named));
    }
    let Some(object) = value.as_object_mut() else { return };
    object.values_mut().for_each(|inner| join(inner, named));
    let Some(Value::Array(parts)) = object.remove("allOf") else { return };
    for part in parts {
        let mut part = match part["$ref"].as_str().and_then(|path| path.rsplit('/').next()) {
            Some(name) => named.get(name).cloned().unwrap_or(Value::Null),
            None => part,
        };
        // One that is named may be several at once as well.
        join(&mut part, named);
        if let Value::Object(part) = part {
            absorb(object, part);
        }
    }
}

/// Adds what `part` demands. The first type and the last description stay.
fn absorb(object: &mut Map<String, Value>, part: Map<String, Value>) {
    for (key, value) in part {
        match (object.get_mut(&key), value) {
            (Some(Value::Object(there)), Value::Object(more)) => there.extend(more),
            (Some(Value::Array(there)), Value::Array(more)) => there.extend(more),
            (Some(_), _) if key == "type" => {}
            (_, value) => {
                object.insert(key, value);
            }
        }
    }
}
