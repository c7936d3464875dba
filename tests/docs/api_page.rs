//! docs/api.md is made from the API's description.

use std::fmt::Write;

use lameduck_rig::pages::check_generated;
use serde_json::{Map, Value};

const BEGIN: &str = "<!-- requests: begin (generated; see tests/docs/api_page.rs) -->\n";
const END: &str = "<!-- requests: end -->";

const METHODS: [&str; 4] = ["get", "put", "post", "delete"];

struct ApiPage {
    document: Value,
    text: String,
}

impl ApiPage {
    fn resolve<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value["$ref"].as_str() {
            Some(reference) => self
                .document
                .pointer(reference.trim_start_matches('#'))
                .unwrap_or_else(|| panic!("{reference} leads nowhere")),
            None => value,
        }
    }

    /// A schema in a few words, with a link where it has a place of its own.
    fn form(&self, schema: &Value) -> String {
        if let Some(reference) = schema["$ref"].as_str() {
            let name = reference.rsplit('/').next().unwrap();
            return format!("[{name}](#{})", name.to_lowercase());
        }
        for several in ["oneOf", "anyOf", "allOf"] {
            if let Some(choices) = schema[several].as_array() {
                let forms: Vec<_> = choices.iter().map(|one| self.form(one)).collect();
                return forms.join(" or ");
            }
        }
        let words = |value: &Value| value.as_str().map(str::to_owned);
        let types = match &schema["type"] {
            Value::Array(several) => several.iter().filter_map(words).collect(),
            one => words(one).into_iter().collect::<Vec<_>>(),
        };
        let kind = match &schema["enum"] {
            Value::Array(choices) => {
                let shown: Vec<_> = choices.iter().map(|one| format!("`{one}`")).collect();
                shown.join(", ").replace("`\"", "`").replace("\"`", "`")
            }
            _ => types.join(" or "),
        };
        match schema.get("items") {
            Some(items) => format!("{kind} of {}", self.form(items)),
            None => kind,
        }
    }

    fn fields(&mut self, schema: &Value) {
        let none = Map::new();
        let properties = schema["properties"].as_object().unwrap_or(&none);
        if properties.is_empty() {
            return;
        }
        let needed: Vec<_> = schema["required"]
            .as_array()
            .into_iter()
            .flatten()
            .collect();
        self.text
            .push_str("| field | form | default | meaning |\n|---|---|---|---|\n");
        for (name, field) in properties {
            let default = match field.get("default") {
                Some(default) => format!("`{default}`"),
                None if needed.iter().any(|one| *one == name) => "(always there)".to_owned(),
                None => String::new(),
            };
            let form = self.form(field).replace('|', "\\|");
            let meaning = field["description"].as_str().unwrap_or_default();
            let meaning = meaning.replace('|', "\\|").replace('\n', " ");
            let _ = writeln!(self.text, "| `{name}` | {form} | {default} | {meaning} |");
        }
        self.text.push('\n');
    }

    fn operation(&mut self, path: &str, method: &str, operation: &Value, shared: &Value) {
        let _ = writeln!(self.text, "### `{} {path}`\n", method.to_uppercase());
        for part in ["summary", "description"] {
            if let Some(text) = operation[part].as_str() {
                let _ = writeln!(
                    self.text,
                    "{text}{}\n",
                    if text.ends_with('.') { "" } else { "." }
                );
            }
        }
        let parameters = [shared, &operation["parameters"]];
        for parameter in parameters.into_iter().filter_map(Value::as_array).flatten() {
            let parameter = self.resolve(parameter);
            let name = parameter["name"].as_str().unwrap();
            let place = parameter["in"].as_str().unwrap();
            let meaning = parameter["description"].as_str().unwrap_or_default();
            let form = self.form(&parameter["schema"]);
            let line = format!("- `{name}` ({place}, {form}): {meaning}\n");
            self.text.push_str(&line);
        }
        if !self.text.ends_with("\n\n") {
            self.text.push('\n');
        }
        if let Some(content) = operation["requestBody"]["content"].as_object() {
            let (kind, body) = content.iter().next().unwrap();
            let needed = match operation["requestBody"]["required"] == true {
                true => "",
                false => ", may be left out",
            };
            let form = self.form(&body["schema"]);
            let _ = writeln!(self.text, "Takes ({kind}{needed}): {form}\n");
            if body["schema"].get("$ref").is_none() {
                self.fields(&body["schema"].clone());
            }
        }
        let responses = operation["responses"].as_object().unwrap();
        for (code, response) in responses.iter().filter(|(code, _)| *code != "default") {
            let response = self.resolve(response).clone();
            let said = response["description"].as_str().unwrap_or_default();
            let content = response["content"]
                .as_object()
                .and_then(|all| all.iter().next());
            let form = content.map(|(kind, body)| match self.form(&body["schema"]) {
                form if form.is_empty() => format!(" ({kind})"),
                form => format!(" ({kind}): {form}"),
            });
            let _ = writeln!(
                self.text,
                "Answers {code}: {said}{}\n",
                form.unwrap_or_default()
            );
        }
    }

    fn write(mut self) -> String {
        let _ = write!(
            self.text,
            "\n{}\n\n## Requests\n\n",
            self.document["info"]["description"].as_str().unwrap()
        );
        let paths = self.document["paths"].as_object().unwrap().clone();
        for (path, item) in &paths {
            for method in METHODS {
                if let Some(operation) = item.get(method) {
                    self.operation(path, method, operation, &item["parameters"]);
                }
            }
        }
        self.text.push_str("## Forms\n\n");
        let schemas = self.document["components"]["schemas"]
            .as_object()
            .unwrap()
            .clone();
        for (name, schema) in &schemas {
            let _ = writeln!(self.text, "### {name}\n");
            if let Some(text) = schema["description"].as_str() {
                let _ = writeln!(self.text, "{text}\n");
            }
            match schema.get("properties") {
                Some(_) => self.fields(schema),
                None => {
                    let form = self.form(schema);
                    let _ = writeln!(self.text, "{form}\n");
                }
            }
        }
        self.text
    }
}

#[test]
fn page_of_the_api_is_its_description() {
    let text = std::fs::read_to_string("src/admin/openapi.json").unwrap();
    let page = ApiPage {
        document: serde_json::from_str(&text).unwrap(),
        text: String::new(),
    };
    let text = page.write();
    assert!(text.matches("\n### `").count() > 30, "{text}");
    check_generated("docs/api.md", BEGIN, END, &text);
}
