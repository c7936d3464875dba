//! The dashboard for Grafana and the rules for Prometheus in `deploy/`: made of metrics and labels that there are, each
//! alert explained and tested. docs/metrics.md is what there is: a test beside the metrics holds it to the product.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use lameduck_rig::place;
use serde_json::Value;

const DASHBOARD: &str = "deploy/grafana/lameduck-overview.json";
const RULES: &str = "deploy/prometheus/lameduck-rules.yaml";

/// A metric as docs/metrics.md has it.
struct Documented {
    labels: BTreeSet<String>,
    is_histogram: bool,
    words: String,
}

fn documented() -> BTreeMap<String, Documented> {
    let text = std::fs::read_to_string("docs/metrics.md").unwrap();
    let mut all = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with("| `lameduck_")) {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let labels = cells[3]
            .split(',')
            .map(|label| label.trim().trim_matches('`'));
        let documented = Documented {
            labels: labels
                .filter(|label| !label.is_empty())
                .map(str::to_owned)
                .collect(),
            is_histogram: cells[2] == "histogram",
            words: cells[4..].join("|"),
        };
        all.insert(cells[1].trim_matches('`').to_owned(), documented);
    }
    assert!(all.len() > 50, "{}", all.len());
    all
}

/// A label, an operator and a value.
type Matcher = (String, String, String);

/// What an expression uses: metrics with the matchers of their selectors, and the labels that it groups by.
#[derive(Debug, Default)]
struct Used {
    metrics: Vec<(String, Vec<Matcher>)>,
    grouped: BTreeSet<String>,
}

fn used(expr: &str) -> Used {
    let token = regex::Regex::new(
        r#"(?x)
        (?P<by>\b(?:by|on|without|ignoring|group_left)\s*\(([^)]*)\))
        |(?P<name>(?:[a-z_]+:)?(?:lameduck|process|up\b)[a-zA-Z0-9_:]*)\s*(?:\{(?P<selector>[^}]*)\})?
        "#,
    )
    .unwrap();
    let matcher = regex::Regex::new(r#"(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)""#).unwrap();
    let mut used = Used::default();
    for found in token.captures_iter(expr) {
        if let Some(labels) = found.get(2) {
            let labels = labels.as_str().split(',').map(str::trim);
            let labels = labels.filter(|label| !label.is_empty());
            used.grouped.extend(labels.map(str::to_owned));
            continue;
        }
        let selector = found
            .name("selector")
            .map_or("", |selector| selector.as_str());
        let matchers = matcher.captures_iter(selector);
        let matchers =
            matchers.map(|one| (one[1].to_owned(), one[2].to_owned(), one[3].to_owned()));
        used.metrics
            .push((found["name"].to_owned(), matchers.collect()));
    }
    used
}

/// The name without what a histogram adds to it.
fn family<'a>(name: &'a str, documented: &BTreeMap<String, Documented>) -> &'a str {
    let base = ["_bucket", "_sum", "_count"]
        .iter()
        .find_map(|end| name.strip_suffix(end));
    base.filter(|base| documented.get(*base).is_some_and(|one| one.is_histogram))
        .unwrap_or(name)
}

fn check(place: &str, expr: &str, recorded: &BTreeSet<String>) {
    // The client library's, as docs/metrics.md says in a line.
    let process = [
        "process_cpu_seconds_total",
        "process_open_fds",
        "process_max_fds",
        "process_resident_memory_bytes",
    ];
    let documented = documented();
    let everywhere = ["job", "instance"].map(str::to_owned);
    let used = used(expr);
    assert!(!used.metrics.is_empty(), "{place}: no metric in {expr}");
    let mut labels: BTreeSet<String> = everywhere.clone().into();
    for (name, matchers) in &used.metrics {
        let own: BTreeSet<String> = match name.as_str() {
            "up" => BTreeSet::new(),
            name if process.contains(&name) => BTreeSet::new(),
            name if name.contains(':') => {
                assert!(recorded.contains(name), "{place}: no rule records {name}");
                ["pool".to_owned()].into()
            }
            name => {
                let family = family(name, &documented);
                let found = documented.get(family);
                let found = found.unwrap_or_else(|| panic!("{place}: there is no {name}"));
                assert!(
                    !found.is_histogram || family != name,
                    "{place}: {name} is a histogram"
                );
                let mut own = found.labels.clone();
                if name.ends_with("_bucket") {
                    own.insert("le".to_owned());
                }
                for (label, operator, value) in matchers {
                    let is_word = operator == "=" && label != "code" && !value.is_empty();
                    if is_word && !value.starts_with('$') {
                        let said = format!("`{value}`");
                        let words = &found.words;
                        assert!(
                            words.contains(&said),
                            "{place}: {name} has no {label}={value}"
                        );
                    }
                }
                own
            }
        };
        for (label, _, _) in matchers {
            let is_known = own.contains(label) || everywhere.contains(label);
            assert!(is_known, "{place}: {name} has no label {label}");
        }
        labels.extend(own);
    }
    for label in &used.grouped {
        assert!(
            labels.contains(label),
            "{place}: nothing has the label {label}: {expr}"
        );
    }
}

/// An alert or a record: its fields as lines of the file. The file keeps to a plain form, which this reads.
#[derive(Debug, Default)]
struct Rule {
    name: String,
    is_alert: bool,
    fields: BTreeMap<String, String>,
}

fn rules() -> Vec<Rule> {
    let text = std::fs::read_to_string(RULES).unwrap();
    let mut rules: Vec<Rule> = Vec::new();
    let mut open: Option<String> = None;
    for line in text.lines() {
        let trimmed = line.trim();
        let begins = ["alert", "record"].into_iter().find_map(|kind| {
            let name = trimmed.strip_prefix(&format!("- {kind}: "))?;
            Some((kind, name))
        });
        if let Some((kind, name)) = begins {
            rules.push(Rule {
                name: name.to_owned(),
                is_alert: kind == "alert",
                fields: BTreeMap::new(),
            });
            open = None;
            continue;
        }
        let Some(rule) = rules.last_mut() else {
            continue;
        };
        let keys = [
            "expr",
            "for",
            "severity",
            "summary",
            "description",
            "runbook_url",
        ];
        let field = keys.into_iter().find_map(|key| {
            let value = trimmed.strip_prefix(&format!("{key}: "))?;
            Some((key, value))
        });
        if let Some((key, value)) = field {
            let value =
                value.trim_start_matches([">", "|", "-"].map(|sign| sign.chars().next().unwrap()));
            rule.fields
                .insert(key.to_owned(), value.trim_matches('\'').to_owned());
            open = Some(key.to_owned());
        } else if ["labels:", "annotations:", "rules:"].contains(&trimmed)
            || trimmed.starts_with("- name")
        {
            open = None;
        } else if let Some(key) = &open {
            let value = rule.fields.get_mut(key).unwrap();
            value.push_str(trimmed);
            value.push(' ');
        }
    }
    rules
}

#[test]
fn rules_use_metrics_and_labels_that_there_are() {
    let rules = rules();
    let recorded: BTreeSet<_> = rules
        .iter()
        .filter(|rule| !rule.is_alert)
        .map(|rule| rule.name.clone())
        .collect();
    assert_eq!(recorded.len(), 3);
    for rule in &rules {
        check(&rule.name, &rule.fields["expr"], &recorded);
    }
}

#[test]
fn each_alert_says_what_to_do_and_has_a_heading_and_a_test() {
    let page = std::fs::read_to_string("docs/monitoring.md").unwrap();
    let tests = std::fs::read_to_string("deploy/prometheus/lameduck-rules_test.yaml").unwrap();
    let mut names = BTreeSet::new();
    for rule in rules().into_iter().filter(|rule| rule.is_alert) {
        let (name, fields) = (&rule.name, &rule.fields);
        assert!(names.insert(name.clone()), "{name} is there twice");
        for key in ["summary", "description", "severity", "runbook_url"] {
            assert!(
                fields
                    .get(key)
                    .is_some_and(|value| !value.trim().is_empty()),
                "{name} has no {key}"
            );
        }
        let severity = &*fields["severity"];
        assert!(
            ["critical", "warning", "info"].contains(&severity),
            "{name}: {severity}"
        );
        assert!(fields["description"].len() > 60, "{name} says little");
        let heading = format!("monitoring.md#{}", name.to_lowercase());
        assert_eq!(fields["runbook_url"].trim(), heading);
        assert!(
            tests.contains(&format!("alertname=\"{name}\"")),
            "{name} has no unit test"
        );
        let severity = format!("\n### {name}\n\n*{severity}*,");
        assert!(
            page.contains(&severity),
            "docs/monitoring.md lacks{severity}"
        );
        // Labels in its words are those that its series have.
        let documented = documented();
        let mut labels: BTreeSet<_> = ["job", "instance", "pool"].map(str::to_owned).into();
        for (metric, _) in used(&fields["expr"]).metrics {
            labels.extend(
                documented
                    .get(&metric)
                    .into_iter()
                    .flat_map(|one| one.labels.clone()),
            );
        }
        for part in format!("{} {}", fields["summary"], fields["description"])
            .split("$labels.")
            .skip(1)
        {
            let label: String = part
                .chars()
                .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
                .collect();
            assert!(labels.contains(&label), "{name}: no label {label}");
        }
    }
    let headings = page.lines().filter_map(|line| line.strip_prefix("### "));
    let headings: BTreeSet<_> = headings.map(str::to_owned).collect();
    assert_eq!(headings, names);
    assert!(names.len() > 25);
}

#[test]
fn promtool_takes_the_rules_and_their_tests_pass() {
    let Some(promtool) = place::prometheus("promtool") else {
        lameduck_rig::setting::skip("promtool", "promtool (run tests/setup.sh)");
        return;
    };
    for words in [
        ["check", "rules", "lameduck-rules.yaml"],
        ["test", "rules", "lameduck-rules_test.yaml"],
    ] {
        let ended = Command::new(&promtool)
            .args(words)
            .current_dir("deploy/prometheus")
            .output();
        let ended = ended.unwrap();
        let said = String::from_utf8_lossy(&ended.stdout).into_owned()
            + &String::from_utf8_lossy(&ended.stderr);
        assert!(ended.status.success(), "{said}");
    }
}

fn dashboard() -> Value {
    serde_json::from_str(&std::fs::read_to_string(DASHBOARD).unwrap()).unwrap()
}

#[test]
fn dashboard_uses_metrics_and_labels_that_there_are() {
    let dashboard = dashboard();
    let mut seen = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let (title, expr) = (
                panel["title"].as_str().unwrap(),
                target["expr"].as_str().unwrap(),
            );
            check(title, expr, &BTreeSet::new());
            let documented = documented();
            let names = used(expr).metrics.into_iter();
            seen.extend(names.map(|(name, _)| family(&name, &documented).to_owned()));
            // What a legend names is what the query leaves.
            let legend = target["legendFormat"].as_str().unwrap();
            for part in legend.split("{{").skip(1) {
                let label = part.split("}}").next().unwrap();
                assert!(
                    used(expr).grouped.contains(label),
                    "{title}: the legend's {label} is summed away"
                );
            }
        }
    }
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        if let Some(query) = variable["query"]["query"].as_str() {
            check("a variable", query, &BTreeSet::new());
        }
    }
    assert!(seen.len() > 40, "{seen:?}");
}

/// As far as its form can be told without a Grafana: what the importer and the panels read.
#[test]
fn dashboard_has_the_form_that_grafana_reads() {
    let dashboard = dashboard();
    for (key, is_right) in [
        (
            "uid",
            dashboard["uid"].as_str().is_some_and(|uid| uid.len() <= 40),
        ),
        ("title", dashboard["title"].is_string()),
        (
            "schemaVersion",
            dashboard["schemaVersion"]
                .as_u64()
                .is_some_and(|version| version >= 36),
        ),
        // One that has a number is another dashboard's to the importer.
        ("id", dashboard["id"].is_null()),
        (
            "time",
            dashboard["time"]["from"].is_string() && dashboard["time"]["to"].is_string(),
        ),
        ("annotations", dashboard["annotations"]["list"].is_array()),
    ] {
        assert!(is_right, "{key}");
    }
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    let mut known: BTreeSet<_> = variables
        .iter()
        .map(|one| one["name"].as_str().unwrap())
        .collect();
    assert_eq!(known, ["datasource", "instance", "job", "pool"].into());
    known.extend(["__rate_interval", "__range"]);
    let variable = regex::Regex::new(r"\$\{?(\w+)").unwrap();
    let text = std::fs::read_to_string(DASHBOARD).unwrap();
    for found in variable.captures_iter(&text) {
        assert!(
            known.contains(&found[1]) || &found[1] == "__all",
            "${}",
            &found[1]
        );
    }
    let (mut ids, mut cells) = (BTreeSet::new(), BTreeSet::new());
    for panel in dashboard["panels"].as_array().unwrap() {
        let title = panel["title"].as_str().unwrap();
        assert!(
            !title.is_empty() && ids.insert(panel["id"].as_u64().unwrap()),
            "{title}"
        );
        let kind = panel["type"].as_str().unwrap();
        assert!(
            ["row", "stat", "timeseries", "state-timeline"].contains(&kind),
            "{title}: {kind}"
        );
        let side = |name: &str| panel["gridPos"][name].as_u64().unwrap();
        assert!(side("x") + side("w") <= 24, "{title} is too wide");
        for x in side("x")..side("x") + side("w") {
            for y in side("y")..side("y") + side("h") {
                assert!(cells.insert((x, y)), "{title} lies over another panel");
            }
        }
        if kind == "row" {
            continue;
        }
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
        assert!(
            panel["fieldConfig"]["defaults"]["unit"].is_string() || kind == "state-timeline",
            "{title}"
        );
        let mut references = BTreeSet::new();
        for target in panel["targets"].as_array().unwrap() {
            assert!(
                references.insert(target["refId"].as_str().unwrap()),
                "{title}"
            );
            assert_eq!(target["datasource"], panel["datasource"], "{title}");
        }
        assert!(!references.is_empty(), "{title}");
    }
}
