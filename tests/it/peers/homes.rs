//! Homes that are away, that end, and that come back.

use std::os::unix::fs::PermissionsExt as _;

use super::*;

fn rule(name: &str) -> Value {
    json!({"name": name, "rule_type": "threshold", "metric": "cpu.usage",
           "config_json": {"operator": "greater_than", "value": 90.0, "duration_secs": 0}})
}

fn rules(server: &mut Server) -> Vec<String> {
    let all = server.get("/v1/alerts/rules/config");
    let names = all.as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap().to_owned());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

/// A channel is refused with a sentence that names the home.
fn refused(server: &mut Server, home: &str) {
    let answer = server.call("POST", "/v1/alerts/rules", Some(rule("late")));
    assert_eq!((answer.status, answer.code()), (503, 1015), "{}", answer.body);
    let said = answer.body["err_msg"].as_str().unwrap();
    assert!(said.contains(&format!("the server `{home}`")), "{said}");
}

#[test]
fn the_home_dies_another_is_promoted_and_the_old_one_follows_with_its_own_changes_in_a_file() {
    let mut servers = Servers::start(3);
    servers.at(0).post("/v1/alerts/rules", rule("one"));
    for index in 0..3 {
        wait_for("the rule", SOON, || (rules(servers.at(index)) == ["one"]).then_some(()));
    }
    // Two followers stop, and do not get what the home changes next.
    servers.at(1).kill();
    servers.at(2).kill();
    servers.at(0).post("/v1/alerts/rules", rule("lost"));
    let secret = json!({"name": "chat", "channel_type": "webhook",
        "config_json": {"url": "http://127.0.0.1:9/", "headers": {"X-Key": "k3y"}}});
    servers.at(0).call("POST", "/v1/notifications/channels/config", Some(secret));
    servers.at(0).kill();
    // A follower starts while the home is away: it reads, and changes nothing.
    servers.at(1).restart();
    servers.at(2).restart();
    assert_eq!(rules(servers.at(1)), ["one"]);
    servers.at(1).forget_login();
    refused(servers.at(1), "a");
    let promoted = servers.promote(1);
    assert!(promoted.status.success(), "{promoted:?}");
    let said = String::from_utf8_lossy(&promoted.stdout).into_owned();
    assert!(said.starts_with("`b` is home of the configuration from now on: epoch 2"), "{said}");
    let said = String::from_utf8_lossy(&promoted.stderr).into_owned();
    assert!(said.contains("`a` at http://127.0.0.1:"), "{said}");
    servers.wait_home(1, 1);
    servers.wait_home(2, 1);
    // A change through the third one is at both.
    wait_for("a change at the new home", SOON, || {
        let answer = servers.at(2).call("POST", "/v1/alerts/rules", Some(rule("two")));
        (answer.status == 201).then_some(())
    });
    assert_eq!(rules(servers.at(1)), ["one", "two"]);
    assert_eq!(rules(servers.at(2)), ["one", "two"]);
    // The old home comes back.
    servers.at(0).restart();
    servers.wait_home(0, 1);
    servers.wait_followed(0);
    assert_eq!(rules(servers.at(0)), ["one", "two"]);
    let path = servers.at(0).data().join("config-lost-epoch-2-1.json");
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let lost: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    assert_eq!(lost["tables"]["alert_rules"]["rows"][0]["name"], "lost", "{lost}");
    assert_eq!(lost["tables"]["alert_rules"]["rows"].as_array().unwrap().len(), 1, "{lost}");
    let log = servers.at(0).log();
    assert!(log.contains("config-lost-epoch-2-1.json"), "{log}");
    servers.at(0).post("/v1/alerts/rules", rule("three"));
    assert_eq!(servers.wait_same("/v1/alerts/rules/config").as_array().unwrap().len(), 3);
    // Promoted back, without anybody away.
    assert!(servers.promote(0).status.success());
    for index in 0..3 {
        servers.wait_home(index, 0);
    }
    wait_for("a change at the first home", SOON, || {
        let answer = servers.at(1).call("POST", "/v1/alerts/rules", Some(rule("four")));
        (answer.status == 201).then_some(())
    });
    assert_eq!(servers.wait_same("/v1/alerts/rules/config").as_array().unwrap().len(), 4);
    let files = std::fs::read_dir(servers.at(1).data()).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    let lost: Vec<String> = names.filter(|name| name.starts_with("config-lost")).collect();
    assert_eq!(lost, Vec::<String>::new(), "nothing was lost");
}

#[test]
fn two_that_were_promoted_at_once_agree_and_one_that_lost_its_data_changes_nothing() {
    let mut servers = Servers::start(3);
    servers.at(1).post("/v1/alerts/rules", rule("one"));
    for index in 0..3 {
        wait_for("the rule", SOON, || (rules(servers.at(index)) == ["one"]).then_some(()));
    }
    for index in 0..3 {
        servers.at(index).kill();
    }
    // Neither hears of the other: both begin epoch 2.
    for index in [1, 2] {
        assert!(servers.promote(index).status.success());
    }
    for index in [2, 1, 0] {
        servers.at(index).restart();
    }
    for index in 0..3 {
        servers.wait_home(index, 1);
        assert_eq!(servers.peers(index)["epoch"], 2);
        servers.wait_followed_or_home(index, 1);
    }
    servers.at(2).post("/v1/alerts/rules", rule("two"));
    assert_eq!(servers.wait_same("/v1/alerts/rules/config").as_array().unwrap().len(), 2);
    // The home loses its folder, and learns that from the others.
    servers.at(1).kill();
    std::fs::remove_dir_all(servers.at(1).data()).unwrap();
    servers.at(1).forget_login();
    servers.at(1).restart();
    servers.wait_home(1, 1);
    wait_for("a home that knows that it is behind", SOON, || {
        let answer = servers.at(1).call("POST", "/v1/alerts/rules", Some(rule("late")));
        (answer.status == 503).then_some(())
    });
    assert_eq!(rules(servers.at(2)), ["one", "two"], "nobody takes the empty configuration");
    // It never had the configuration of epoch 2, and so can't be promoted.
    let promoted = servers.promote(1);
    assert!(!promoted.status.success(), "{promoted:?}");
    assert!(servers.promote(0).status.success());
    for index in 0..3 {
        servers.wait_home(index, 0);
        servers.wait_followed_or_home(index, 0);
    }
    assert_eq!(servers.wait_same("/v1/alerts/rules/config").as_array().unwrap().len(), 2);
}

#[test]
fn a_home_that_hangs_holds_up_no_reads_and_programs_change_nothing_elsewhere() {
    let mut servers = Servers::start(2);
    servers.at(0).post("/v1/alerts/rules", rule("one"));
    // What writes without a server is refused where the home is another one.
    let dir = servers.at(1).dir.path().to_owned();
    let seed = dir.join("rules.json");
    std::fs::write(&seed, json!({"rules": [rule("seeded")]}).to_string()).unwrap();
    let run = |index: usize, servers: &mut Servers| {
        let config = servers.at(index).dir.path().join("server.toml");
        let program = crate::support::server::program();
        let mut command = std::process::Command::new(program);
        command.arg("init-rules").arg(config).arg(&seed).output().unwrap()
    };
    let refused_there = run(1, &mut servers);
    let said = String::from_utf8_lossy(&refused_there.stderr).into_owned();
    assert!(!refused_there.status.success() && said.contains("home"), "{said}");
    assert!(run(0, &mut servers).status.success());
    wait_for("the rule of the seed", SOON, || {
        (rules(servers.at(1)) == ["one", "seeded"]).then_some(())
    });
    crate::support::signal(&servers.at(0).child, "STOP");
    // It hangs: the first change takes as long as one may, the others are answered soon.
    wait_for("the silence of the home", SOON, || {
        let said = servers.peers_if_any(1)?;
        said["sisters"][0]["error"].as_str().map(drop)
    });
    let begun = std::time::Instant::now();
    refused(servers.at(1), "a");
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    assert_eq!(rules(servers.at(1)), ["one", "seeded"]);
    let login = servers.at(1).log_in("admin", "changeme");
    assert_eq!(servers.at(1).call_as(Some(&login), "GET", "/v1/users", None).status, 200);
    assert_eq!(servers.at(1).get("/v1/certs/domains"), json!([]), "what is here");
    crate::support::signal(&servers.at(0).child, "CONT");
    wait_for("a change", SOON, || {
        let answer = servers.at(1).call("POST", "/v1/alerts/rules", Some(rule("two")));
        (answer.status == 201).then_some(())
    });
    let names = rules(servers.at(1));
    assert!(names.contains(&"two".to_owned()), "{names:?}");
}
