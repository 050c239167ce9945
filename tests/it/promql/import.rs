//! `import-rules`: rules of Prometheus become rules of oxmon.

use std::process::Command;

use serde_json::json;

use crate::support::server::{Server, program};
use crate::support::tools;

const RULES: &str = "groups:
  - name: hosts
    interval: 30s
    rules:
      - alert: HostDown
        expr: up == 0
        for: 5m
        labels: { severity: page }
        annotations: { summary: '{{ $labels.instance }} is down' }
      - record: job:up:sum
        expr: sum by (job) (up)
      - alert: Loop
        expr: up == 0
        annotations: { summary: '{{ range query \"up\" }}x{{ end }}' }
";

#[test]
fn rules_of_prometheus_are_taken_and_the_rest_is_named() {
    let mut server = Server::start("");
    let file = server.data().parent().expect("a folder").join("rules.yml");
    std::fs::write(&file, RULES).expect("a file");
    if let Some(promtool) = tools::find("promtool") {
        let out = Command::new(promtool).args(["check", "rules"]).arg(&file).output();
        let out = out.expect("promtool runs");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    }
    let config = file.with_file_name("server.toml").display().to_string();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(program());
        command.arg("import-rules").arg(&config).arg(&file).args(arguments);
        let out = command.output().expect("it runs");
        let said = String::from_utf8_lossy(&out.stdout).into_owned();
        let wrong = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(3), "{said}{wrong}");
        let path = file.display();
        assert!(
            wrong.contains(&format!("{path}:10: rule `job:up:sum`: recording rules")),
            "{wrong}"
        );
        assert!(wrong.contains(&format!("{path}:12: rule `Loop`: ")), "{wrong}");
        assert!(wrong.contains("`range`"), "{wrong}");
        said
    };
    let said = run(&["--dry-run"]);
    assert!(said.contains(":5: would make rule `HostDown`"), "{said}");
    assert_eq!(server.get("/v1/alerts/rules/config"), json!([]));
    let said = run(&[]);
    assert!(said.contains("made rule `HostDown` (promql)"), "{said}");
    let said = run(&[]);
    assert!(said.contains("skipped rule `HostDown` (promql): the name exists"), "{said}");
    server.stop();
    server.restart();
    let rules = server.get("/v1/alerts/rules/config");
    assert_eq!(
        (&rules[0]["name"], &rules[0]["severity"]),
        (&json!("HostDown"), &json!("critical"))
    );
    let config: serde_json::Value =
        serde_json::from_str(rules[0]["config_json"].as_str().expect("a text")).expect("JSON");
    assert_eq!(
        config,
        json!({
            "expr": "up == 0", "duration_secs": 300, "interval_secs": 30,
            "message": "{{ $labels.instance }} is down", "alert_labels": {"severity": "page"},
        })
    );
}
