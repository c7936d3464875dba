//! The API's description against the API: what it answers has the described form, and what it takes is what is described.

use lameduck::config::duration;
use serde_json::{Map, Value, json};

use crate::server::Server;

/// What is wrong with a value by a schema of the description, as far as the description uses JSON Schema.
fn faults(document: &Value, schema: &Value, value: &Value, at: &str) -> Vec<String> {
    if let Some(reference) = schema["$ref"].as_str() {
        let target = document.pointer(reference.trim_start_matches('#'));
        let target = target.unwrap_or_else(|| panic!("{reference} leads nowhere"));
        return faults(document, target, value, at);
    }
    let mut found = Vec::new();
    let types: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let has_type = |name: &&str| match *name {
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "null" => value.is_null(),
        other => panic!("{at}: the test doesn't know the type {other}"),
    };
    if !types.is_empty() && !types.iter().any(has_type) {
        found.push(format!("{at}: {value} is not {types:?}"));
    }
    let choices = schema["enum"].as_array();
    if choices.is_some_and(|choices| !choices.contains(value)) {
        found.push(format!("{at}: {value} is not one of {}", schema["enum"]));
    }
    if let (Some(pattern), Some(text)) = (schema["pattern"].as_str(), value.as_str())
        && !regex::Regex::new(pattern).unwrap().is_match(text)
    {
        found.push(format!("{at}: {value} is not of the form {pattern}"));
    }
    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
        if schema.get("items").is_some() {
            let at = format!("{at}[{index}]");
            found.extend(faults(document, &schema["items"], item, &at));
        }
    }
    let none = Map::new();
    let properties = schema["properties"].as_object().unwrap_or(&none);
    let members = value.as_object().unwrap_or(&none);
    for (name, member) in members {
        match properties.get(name) {
            Some(schema) => {
                found.extend(faults(document, schema, member, &format!("{at}.{name}")));
            }
            None if properties.is_empty() => {}
            None => found.push(format!("{at}.{name} is not described")),
        }
    }
    for name in schema["required"].as_array().into_iter().flatten() {
        if value.is_object() && !members.contains_key(name.as_str().unwrap()) {
            found.push(format!("{at}.{name} is missing"));
        }
    }
    found
}

fn schema(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

#[lameduck_rig::test]
async fn answers_have_the_form_that_is_described() {
    let server = Server::start().await;
    let document = server.ask("GET", "/v1/openapi.json", None).await.json();
    let backend = "/v1/pools/app/backends/app-1";
    let new = "/v1/pools/app/backends/new";
    let pools = json!({"type": "array", "items": schema("Pool")});
    let asked = json!({"wait": false, "timeout": "1m30s", "expires": "2h", "reason": "x"});
    for (method, path, body, schema) in [
        ("GET", "/v1/pools".to_owned(), None, pools.clone()),
        ("GET", "/v1/pools/app".to_owned(), None, schema("Pool")),
        ("GET", backend.to_owned(), None, schema("Backend")),
        (
            "POST",
            format!("{backend}/drain"),
            Some(asked),
            schema("DrainResponse"),
        ),
        (
            "GET",
            "/v1/restarts?limit=9".to_owned(),
            None,
            schema("RestartList"),
        ),
        // With a drain in it, and without what is null where there is none.
        ("GET", "/v1/pools".to_owned(), None, pools),
        (
            "POST",
            format!("{backend}/resume"),
            Some(json!({})),
            schema("Backend"),
        ),
        (
            "PUT",
            new.to_owned(),
            Some(json!({"address": "127.0.0.1:1"})),
            schema("Backend"),
        ),
        (
            "DELETE",
            format!("{new}?timeout=1s"),
            None,
            schema("DrainResponse"),
        ),
        (
            "POST",
            "/v1/lame-duck".to_owned(),
            Some(json!({})),
            schema("LameDuck"),
        ),
        (
            "POST",
            "/v1/pools/app/pause".to_owned(),
            Some(json!({"for": "1m", "page": "soon"})),
            schema("PauseResponse"),
        ),
        ("GET", "/v1/pools/app".to_owned(), None, schema("Pool")),
        (
            "DELETE",
            "/v1/pools/app/pause".to_owned(),
            None,
            schema("PauseResponse"),
        ),
        ("GET", "/v1/pools/nope".to_owned(), None, schema("Problem")),
        (
            "POST",
            format!("{backend}/drain"),
            Some(json!({"wait": 1})),
            schema("Problem"),
        ),
    ] {
        let answer = server.ask(method, &path, body).await.json();
        let wrong = faults(&document, &schema, &answer, "answer");
        assert!(wrong.is_empty(), "{method} {path}: {wrong:#?}\n{answer:#}");
    }
    server.stop().await;
}

/// The schemas of requests, and where they are sent, with what is needed there.
fn requests() -> [(&'static str, &'static str, &'static str, Value); 5] {
    [
        (
            "DrainRequest",
            "POST",
            "/v1/pools/app/backends/app-1/drain",
            json!({"wait": false}),
        ),
        (
            "ResumeRequest",
            "POST",
            "/v1/pools/app/backends/app-1/resume",
            json!({}),
        ),
        (
            "RegisterRequest",
            "PUT",
            "/v1/pools/app/backends/new",
            json!({"address": "127.0.0.1:1"}),
        ),
        ("LameDuckRequest", "POST", "/v1/lame-duck", json!({})),
        (
            "PauseRequest",
            "POST",
            "/v1/pools/app/pause",
            json!({"page": "soon"}),
        ),
    ]
}

#[lameduck_rig::test]
async fn null_is_taken_where_it_is_described_and_nowhere_else() {
    let server = Server::start().await;
    let document = server.ask("GET", "/v1/openapi.json", None).await.json();
    let mut tried = 0;
    for (name, method, path, body) in requests() {
        let properties = &document["components"]["schemas"][name]["properties"];
        for (member, described) in properties.as_object().unwrap() {
            let mut body = body.clone();
            // A drain that is waited for would wait.
            let waits = (name, &**member) == ("DrainRequest", "wait");
            body[member] = Value::Null;
            if waits {
                body["timeout"] = json!("10ms");
            }
            let answer = server.ask(method, path, Some(body)).await;
            let is_described = faults(&document, described, &Value::Null, member).is_empty();
            let is_taken = answer.status == 200;
            assert_eq!(
                is_taken, is_described,
                "{name}.{member}: {} {}",
                answer.status, answer.body
            );
            tried += 1;
        }
    }
    assert!(tried >= 15, "{tried}");
    server.stop().await;
}

#[lameduck_rig::test]
async fn durations_have_the_pattern_of_their_parser() {
    let server = Server::start().await;
    let document = server.ask("GET", "/v1/openapi.json", None).await.json();
    let mut found = 0;
    let mut left = vec![&document];
    while let Some(value) = left.pop() {
        let says = value["description"].as_str().unwrap_or_default();
        if says.contains("a duration") {
            let own = value["pattern"].as_str();
            let pattern = own.or(value["schema"]["pattern"].as_str());
            assert_eq!(pattern, Some(duration::PATTERN), "{value:#}");
            found += 1;
        }
        left.extend(value.as_object().into_iter().flat_map(Map::values));
        left.extend(value.as_array().into_iter().flatten());
    }
    assert!(found >= 6, "{found}");
    // The API and the description agree on what they take, also on what would be no time at all.
    let (_, method, path, _) = requests()[0].clone();
    let pattern = regex::Regex::new(duration::PATTERN).unwrap();
    for text in [
        "30s",
        "1m30s",
        "1m 30s",
        "1.5h",
        "0",
        "0s",
        "7us",
        " 5s ",
        "1ns",
        "0.0000000001s",
        "0.5us",
        "5",
        "5x",
        "-1s",
        "1y",
        "5 minutes",
        "",
        "1d\u{0}",
    ] {
        let body = json!({"wait": false, "timeout": text});
        let answer = server.ask(method, path, Some(body)).await;
        let expected = if pattern.is_match(text) { 200 } else { 422 };
        assert_eq!(answer.status, expected, "{text:?}: {}", answer.body);
    }
    server.stop().await;
}

#[lameduck_rig::test]
async fn splits_have_the_form_that_is_described() {
    let server = Server::start().await;
    server.split().await;
    let document = server.ask("GET", "/v1/openapi.json", None).await.json();
    let path = "/v1/routes/shop/split";
    let other = json!({"weights": {"app": 1, "next": 2}});
    let plan = format!("{path}/plan");
    let wanted = json!({"pool": "next", "to": 12.5, "in": "10m", "abort_on": ["5xx>1%", "p99>2x"]});
    let splits = json!({"type": "array", "items": schema("Split")});
    let pools = json!({"type": "array", "items": schema("Pool")});
    for (method, path, body, schema) in [
        ("GET", path, None, schema("Split")),
        ("PUT", path, Some(other), schema("Split")),
        ("GET", path, None, schema("Split")),
        ("GET", "/v1/pools", None, pools.clone()),
        ("DELETE", path, None, schema("Split")),
        ("GET", &plan, None, schema("Problem")),
        ("POST", &plan, Some(wanted), schema("SplitPlan")),
        ("GET", &plan, None, schema("SplitPlan")),
        ("GET", path, None, schema("Split")),
        ("GET", "/v1/pools", None, pools.clone()),
        ("GET", "/v1/splits", None, splits.clone()),
        (
            "DELETE",
            &format!("{plan}?back=true"),
            None,
            schema("SplitPlan"),
        ),
        ("GET", "/v1/splits", None, splits),
        ("DELETE", &plan, None, schema("Problem")),
        ("GET", "/v1/routes/shp/split", None, schema("Problem")),
    ] {
        let answer = server.ask(method, path, body).await.json();
        let wrong = faults(&document, &schema, &answer, "answer");
        assert!(wrong.is_empty(), "{method} {path}: {wrong:#?}\n{answer:#}");
    }
    server.stop().await;
}
