//! The description of the interface as `OpenAPI` 3.1 (spec.openapis.org/oas/v3.1.0), made from what each address tells of itself.

use super::describe::{Answer, Operation};
use crate::web::failure::ProblemDocument;
use crate::web::guard::{Need, need};
use schemars::generate::SchemaSettings;
use schemars::{Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

/// What can go wrong anywhere: status and when.
const PROBLEMS: [(&str, &str); 11] = [
    ("400", "The request is wrong."),
    ("401", "Nobody is signed in."),
    ("403", "Whoever asks lacks the right, another site asks, or the gateway is not set up."),
    ("404", "There is no such thing."),
    ("408", "The request took too long."),
    ("409", "Something else has changed meanwhile."),
    ("413", "The request is too large."),
    ("415", "The request is of a kind that is not taken."),
    ("422", "Something in it does not fit; errors name the fields."),
    ("429", "Too many attempts; Retry-After says when to try again."),
    ("503", "The gateway cannot do this now."),
];

/// The whole document.
pub(super) fn document(operations: &[Operation]) -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut generator = settings.into_generator();
    let problem = generator.subschema_for::<ProblemDocument>();
    let mut paths = Map::new();
    for operation in operations {
        let methods = paths.entry(operation.path).or_insert_with(|| json!({}));
        methods[operation.method.as_str().to_lowercase()] = describe(operation, &problem, &mut generator);
    }
    let mut document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Forebay",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Everything that the page of the gateway does. /live and /ready are open to all, /metrics asks for the right metrics: docs/metrics.md describes them, and docs/interface.md the server-sent events at /events.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "security": [{ "token": [] }, { "session": [] }],
        "paths": paths,
        "components": {
            "schemas": generator.take_definitions(true),
            "securitySchemes": {
                "token": { "type": "http", "scheme": "bearer", "description": "An API token (forebay token add, or the page)." },
                "session": { "type": "apiKey", "in": "cookie", "name": "forebay-session", "description": "The session of someone who is signed in on the page; over HTTPS its name begins with __Host-." },
            },
        },
    });
    bound(&mut document);
    document
}

/// Says of every whole number how far it goes, as its type has it: a description without end would promise what is refused. What
/// may be left out has no value of its own then, so that none is named.
fn bound(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            object.values_mut().for_each(bound);
            let ends = match object.get("format").and_then(Value::as_str) {
                Some("uint" | "uint64") => Some((json!(0), json!(u64::MAX))),
                Some("uint32") => Some((json!(0), json!(u32::MAX))),
                Some("int64") => Some((json!(i64::MIN), json!(i64::MAX))),
                Some("int32") => Some((json!(i32::MIN), json!(i32::MAX))),
                _ => None,
            };
            if let Some((least, most)) = ends {
                object.entry("minimum").or_insert(least);
                object.entry("maximum").or_insert(most);
            }
            if object.get("default").is_some_and(Value::is_null) {
                object.remove("default");
            }
        }
        Value::Array(items) => items.iter_mut().for_each(bound),
        _ => {}
    }
}

fn describe(operation: &Operation, problem: &Schema, generator: &mut SchemaGenerator) -> Value {
    let right = match need(&operation.method, operation.path) {
        Need::Right(right) => format!("Needs the right `{}`.", right.name()),
        _ => "Needs being signed in.".to_owned(),
    };
    let mut parameters: Vec<Value> = in_path(operation).collect();
    if let Some(query) = operation.query {
        parameters.extend(in_query(&query(generator)));
    }
    let (status, answer) = &operation.answer;
    let mut success = json!({ "description": "Done." });
    match answer {
        Answer::Nothing => {}
        Answer::Json(schema) => success["content"] = json!({ "application/json": { "schema": schema(generator) } }),
        Answer::Other(kinds) => {
            let content = kinds.iter().map(|kind| ((*kind).to_owned(), json!({ "schema": { "type": "string" } })));
            success["content"] = Value::Object(content.collect());
        }
    }
    let mut responses = Map::new();
    responses.insert(status.as_str().to_owned(), success);
    for (status, when) in PROBLEMS {
        let content = json!({ "application/problem+json": { "schema": problem } });
        responses.insert(status.to_owned(), json!({ "description": when, "content": content }));
    }
    let mut described = json!({
        "operationId": operation_id(operation),
        "summary": operation.summary,
        "description": right,
        "tags": [operation.path.trim_start_matches("/api/v1/").split('/').find(|part| !part.is_empty()).unwrap_or("gateway")],
        "responses": responses,
    });
    if !parameters.is_empty() {
        described["parameters"] = parameters.into();
    }
    if let Some(body) = operation.body {
        let content = json!({ "application/json": { "schema": body(generator) } });
        described["requestBody"] = json!({ "required": !operation.may_be_empty, "content": content });
    }
    described
}

/// `get_people_name`, from the method and the address.
fn operation_id(operation: &Operation) -> String {
    let path = operation
        .path
        .trim_start_matches("/api/v1/")
        .trim_start_matches('/')
        .replace(['/', '-', '.'], "_")
        .replace(['{', '}'], "");
    format!("{}_{path}", operation.method.as_str().to_lowercase())
}

fn in_path(operation: &Operation) -> impl Iterator<Item = Value> + '_ {
    operation.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).map(|name| {
        let schema = match operation.numbers.iter().find(|(number, _)| *number == name) {
            Some((_, most)) => json!({ "type": "integer", "minimum": 0, "maximum": most }),
            None => json!({ "type": "string", "minLength": 1 }),
        };
        json!({ "name": name, "in": "path", "required": true, "schema": schema })
    })
}

fn in_query(schema: &Schema) -> Vec<Value> {
    let required = schema.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
    let properties = schema.get("properties").and_then(Value::as_object);
    let parameter = |(name, property): (&String, &Value)| {
        let mut property = property.clone();
        let description = property.as_object_mut().and_then(|object| object.remove("description")).unwrap_or_default();
        json!({
            "name": name,
            "in": "query",
            "required": required.iter().any(|key| key == name),
            "description": description,
            "schema": without_null(property),
        })
    };
    properties.into_iter().flatten().map(parameter).collect()
}

/// What may be missing in an address is never sent as null.
fn without_null(mut property: Value) -> Value {
    if let Some(types) = property.get_mut("type").and_then(Value::as_array_mut) {
        types.retain(|kind| kind != "null");
        if let [only] = types.as_slice() {
            property["type"] = only.clone();
        }
    }
    if let Some(kinds) = property.get_mut("anyOf").and_then(Value::as_array_mut) {
        kinds.retain(|kind| kind.get("type").is_none_or(|kind| kind != "null"));
        if let [only] = kinds.as_slice() {
            property = only.clone();
        }
    }
    property
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_address_is_described_once_and_under_a_name_of_its_own() {
        let api = super::super::all();
        let mut names = BTreeSet::new();
        for operation in api.operations() {
            assert!(names.insert(operation_id(operation)), "{} {} is there twice", operation.method, operation.path);
            assert!(operation.path.starts_with("/api/v1/") || operation.path == "/events", "{}", operation.path);
            assert!(operation.summary.ends_with('.'), "{}: {:?}", operation.path, operation.summary);
        }
        let document = document(api.operations());
        let references: BTreeSet<String> = references(&document).into_iter().collect();
        for reference in references {
            let place = reference.trim_start_matches('#');
            assert!(document.pointer(place).is_some(), "{reference} leads nowhere");
        }
    }

    fn references(value: &Value) -> Vec<String> {
        match value {
            Value::Object(object) => {
                let own = object.get("$ref").and_then(Value::as_str).map(ToOwned::to_owned);
                own.into_iter().chain(object.values().flat_map(references)).collect()
            }
            Value::Array(items) => items.iter().flat_map(references).collect(),
            _ => Vec::new(),
        }
    }
}
