//! Holds an answer against its schema of the OpenAPI document. What a schema says that is not
//! understood here fails the test, so that nothing passes unread.

use serde_json::{Map, Value};

/// What of `value` does not fit `schema`; `document` holds what a `$ref` points to.
pub fn faults(document: &Value, schema: &Value, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    Check { document, found: &mut found }.check(schema, value, "$");
    found
}

struct Check<'a> {
    document: &'a Value,
    found: &'a mut Vec<String>,
}

impl Check<'_> {
    fn fault(&mut self, at: &str, what: impl std::fmt::Display) {
        self.found.push(format!("{at}: {what}"));
    }

    fn fits(&self, schema: &Value, value: &Value) -> bool {
        faults(self.document, schema, value).is_empty()
    }

    fn check(&mut self, schema: &Value, value: &Value, at: &str) {
        let Some(schema) = schema.as_object() else { return self.fault(at, "no schema") };
        for (word, says) in schema {
            match word.as_str() {
                "$ref" => {
                    let path = says.as_str().and_then(|text| text.strip_prefix('#'));
                    match path.and_then(|path| self.document.pointer(path)) {
                        Some(target) => self.check(&target.clone(), value, at),
                        None => self.fault(at, format!("{says} points nowhere")),
                    }
                }
                "type" => self.check_type(says, value, at),
                "const" if says != value => self.fault(at, format!("{value} is not {says}")),
                "enum" if !says.as_array().is_some_and(|all| all.contains(value)) => {
                    self.fault(at, format!("{value} is none of {says}"));
                }
                "oneOf" | "anyOf" => {
                    let options = says.as_array().map_or(&[][..], Vec::as_slice);
                    let fitting = options.iter().filter(|option| self.fits(option, value)).count();
                    if fitting == 0 || (word == "oneOf" && fitting > 1) {
                        self.fault(at, format!("{value} fits {fitting} of {says}"));
                    }
                }
                "allOf" => {
                    for part in says.as_array().into_iter().flatten() {
                        self.check(part, value, at);
                    }
                }
                "properties" | "required" | "additionalProperties" => {}
                "propertyNames" => {
                    for name in value.as_object().into_iter().flat_map(Map::keys) {
                        self.check(says, &Value::from(name.as_str()), &format!("{at}.{name}"));
                    }
                }
                "items" => {
                    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                        self.check(says, item, &format!("{at}[{index}]"));
                    }
                }
                "format" => self.check_format(says, value, at),
                "minimum" if value.is_number() && value.as_f64() < says.as_f64() => {
                    self.fault(at, "too small")
                }
                "maximum" if value.is_number() && value.as_f64() > says.as_f64() => {
                    self.fault(at, "too large")
                }
                "uniqueItems" => {
                    let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
                    if (1..items.len()).any(|at| items[..at].contains(&items[at])) {
                        self.fault(at, "an item is listed twice");
                    }
                }
                "const" | "enum" | "minimum" | "maximum" | "description" | "title" => {}
                other => self.fault(at, format!("`{other}` is not understood by this test")),
            }
        }
        if let Some(object) = value.as_object() {
            self.check_object(schema, object, at);
        }
    }

    fn check_type(&mut self, says: &Value, value: &Value, at: &str) {
        let one = |name: &str| match name {
            "null" => value.is_null(),
            "boolean" => value.is_boolean(),
            "integer" => value.is_i64() || value.is_u64(),
            "number" => value.is_number(),
            "string" => value.is_string(),
            "array" => value.is_array(),
            "object" => value.is_object(),
            _ => false,
        };
        let names = says.as_array().cloned().unwrap_or_else(|| vec![says.clone()]);
        if !names.iter().filter_map(Value::as_str).any(one) {
            self.fault(at, format!("{value} is no {says}"));
        }
    }

    fn check_format(&mut self, says: &Value, value: &Value, at: &str) {
        let Some(text) = value.as_str() else { return };
        let fits = says != "date-time"
            || (text.ends_with('Z') && oxmon::base::clock::parse_rfc3339(text).is_some());
        if !fits {
            self.fault(at, format!("{text} is not an RFC 3339 time in UTC"));
        }
    }

    fn check_object(&mut self, schema: &Map<String, Value>, object: &Map<String, Value>, at: &str) {
        let empty = Map::new();
        let known = schema.get("properties").and_then(Value::as_object).unwrap_or(&empty);
        for name in schema.get("required").and_then(Value::as_array).into_iter().flatten() {
            let name = name.as_str().unwrap_or_default();
            if !object.contains_key(name) {
                self.fault(at, format!("`{name}` is missing"));
            }
        }
        for (name, value) in object {
            let at = format!("{at}.{name}");
            match (known.get(name), schema.get("additionalProperties")) {
                (Some(schema), _) => self.check(schema, value, &at),
                (None, Some(Value::Bool(false))) => self.fault(&at, "is not in the schema"),
                (None, Some(schema @ Value::Object(_))) => self.check(schema, value, &at),
                (None, _) => {}
            }
        }
    }
}
