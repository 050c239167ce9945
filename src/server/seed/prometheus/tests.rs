#![allow(clippy::unwrap_used)]
use super::*;

const FILE: &str = r#"
groups:
  - name: hosts
    interval: 30s
    limit: 10
    rules:
      - alert: HostOutOfMemory
        expr: node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes * 100 < 10
        for: 2m
        keep_firing_for: 90s
        labels:
          severity: critical
          team: infra
        annotations:
          summary: Host out of memory (instance {{ $labels.instance }})
          description: "Node memory is at {{ $value | humanize }}%\n  LABELS = {{ $labels }}"
          runbook_url: https://example.org/memory
          dashboard: abc
      - record: job:up:sum
        expr: sum by (job) (up)
      - alert: HostOutOfMemory
        labels: {severity: sev2}
        expr: vector(1)
      - alert: WithQuery
        expr: up == 0
        annotations:
          summary: '{{ with query "up" }}x{{ end }}'
      - "alert": Broken
        expr: sum(up
      - alert: Number
        expr: 1
"#;

#[test]
fn what_can_be_taken_is_and_the_rest_is_named_with_its_line() {
    let checked = check("r.yml", FILE, 1).unwrap();
    let names: Vec<(&str, usize, &str)> = checked
        .taken
        .iter()
        .map(|taken| (taken.row.name.as_str(), taken.line, taken.row.severity.as_str()))
        .collect();
    assert_eq!(
        names,
        [("HostOutOfMemory", 7, "critical"), ("HostOutOfMemory (hosts)", 21, "warning")]
    );
    let config: Value = serde_json::from_str(&checked.taken[0].row.config_json).unwrap();
    assert_eq!(
        config,
        json!({
            "expr": "node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes * 100 < 10",
            "duration_secs": 120, "keep_firing_secs": 90, "interval_secs": 30,
            "alert_labels": {"severity": "critical", "team": "infra"},
            "message": "Host out of memory (instance {{ $labels.instance }}) Node memory is at \
                        {{ $value | humanize }}%\n  LABELS = {{ $labels }} \
                        (https://example.org/memory)",
        })
    );
    assert_eq!(
        checked.taken[0].notes,
        ["`limit` of its group is left out", "the annotation `dashboard` is left out"]
    );
    let [record, query, broken, number] = &checked.wrong[..] else { panic!("{checked:?}") };
    assert!(record.starts_with("r.yml:19: rule `job:up:sum`: recording rules"), "{record}");
    assert!(query.starts_with("r.yml:24: rule `WithQuery`: `message` has"), "{query}");
    assert!(broken.starts_with("r.yml:28: rule `Broken`: `expr` 1:7: parse error"), "{broken}");
    assert!(number.starts_with("r.yml:30: rule `Number`: `expr` must give"), "{number}");
}

#[test]
fn what_is_not_a_rule_file_is_refused_with_its_line() {
    let error = check("r.yml", "groups:\n  - name: [\n", 1).unwrap_err();
    assert!(error.starts_with(|first: char| first.is_ascii_digit()), "{error}");
    assert_eq!(check("r.yml", "[]", 1).unwrap_err(), "1: a rule file has a list of `groups`");
    let error = check("r.yml", &"[".repeat(10_000), 1).unwrap_err();
    assert!(error.contains("recursion limit"), "{error}");
    let checked = check("r.yml", "groups: [{name: a, rules: [{alert: A, expr: up, for: x}]}]", 1);
    assert!(checked.unwrap().wrong[0].contains("`for` is not a duration: x"));
}
