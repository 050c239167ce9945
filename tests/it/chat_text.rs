//! What hosts call themselves and their disks is plain text in every message: in a chat's
//! Markdown, in XML and in forms. Control characters come in nowhere.

use std::time::Duration;

use oxmon::model::point::{Batch, Point};
use oxmon::wire::batch_to_proto;
use serde_json::{Value, json};

use crate::support::endpoint::{Act, Endpoint};
use crate::support::grpc::{Client, batch, now_ms};
use crate::support::server::Server;
use crate::support::wait_for;

const CONFIG: &str = "/v1/notifications/channels/config";
const AGENT: &str = "@all ![i](http://evil.example/i.png)";
const MOUNT: &str = "/<@everyone> **b** & '\"]](x)";

fn robot() -> Endpoint {
    Endpoint::start(|_, _| Act::Answer(200, r#"{"errcode":0,"errmsg":"ok"}"#.to_owned()))
}

fn channel(server: &mut Server, name: &str, kind: &str, config: Value) {
    let body = json!({"name": name, "channel_type": kind, "config_json": config});
    server.post(CONFIG, body);
}

/// A rule that fires at once, and a host with bad manners that has it fire.
fn fire(server: &mut Server) {
    let config = json!({"operator": "greater_than", "value": 90.0});
    server.post(
        "/v1/alerts/rules",
        json!({"name": "Hot", "rule_type": "threshold", "metric": "disk.used_percent",
               "severity": "critical", "config_json": config, "silence_secs": 0}),
    );
    let at = now_ms();
    let points = vec![Point::labelled("disk.used_percent", "mount", MOUNT, at, 95.0)];
    let sent = Batch { agent_id: AGENT.into(), timestamp_ms: at, points };
    let reply = Client::to(server.grpc_port).report(&batch_to_proto(&sent)).unwrap();
    assert!(reply.success, "{}", reply.message);
}

#[test]
fn chats_show_hosts_and_labels_as_plain_text() {
    let (dingtalk, weixin) = (robot(), robot());
    let mut server = Server::start("aggregation_window_secs = 0\n");
    channel(&mut server, "d", "dingtalk", json!({"webhook_url": dingtalk.url("/")}));
    channel(&mut server, "w", "weixin", json!({"webhook_url": weixin.url("/")}));
    fire(&mut server);
    let sent = dingtalk.wait(1)[0].json();
    let content = weixin.wait(1)[0].json()["markdown"]["content"].clone();
    let texts = [&sent["markdown"]["title"], &sent["markdown"]["text"], &content];
    for text in texts.map(|text| text.as_str().unwrap()) {
        assert!(
            text.contains("[CRITICAL] Hot: ＠all ! [i] (http: //evil.example/i.png)"),
            "{text}"
        );
        for markup in ["@", "](", "![", "**", "<", ">", "://"] {
            assert!(!text.contains(markup), "`{markup}` is in {text}");
        }
    }
}

#[test]
fn templates_escape_by_the_type_of_their_body() {
    let endpoint = Endpoint::start(|_, _| Act::ok());
    let mut server = Server::start("aggregation_window_secs = 0\n");
    for (name, kind, template) in [
        ("xml", "application/xml", "<a host='{{agent_id}}'>{{labels.mount}}</a>"),
        ("form", "application/x-www-form-urlencoded", "host={{agent_id}}&mount={{labels.mount}}"),
        ("json", "application/json", r#"{"host": "{{agent_id}}", "mount": "{{labels.mount}}"}"#),
    ] {
        let config = json!({"url": endpoint.url(&format!("/{name}")), "body_template": template,
            "headers": {"Content-Type": kind}});
        channel(&mut server, name, "webhook", config);
    }
    let plain = json!({"url": endpoint.url("/plain"), "body_template": "<a>{{labels.mount}}</a>"});
    channel(&mut server, "plain", "webhook", plain);
    fire(&mut server);
    let requests = endpoint.wait(4);
    let of = |path: &str| requests.iter().find(|request| request.target() == path).unwrap();
    let mount = "/&lt;@everyone&gt; **b** &amp; &#39;&quot;]](x)";
    assert_eq!(of("/xml").body, format!("<a host='{AGENT}'>{mount}</a>"));
    assert_eq!(of("/plain").body, format!("<a>{mount}</a>"));
    assert_eq!(of("/plain").header("content-type"), "application/xml; charset=utf-8");
    assert_eq!(of("/json").json(), json!({"host": AGENT, "mount": MOUNT}));
    let form = &of("/form").body;
    let fields: Vec<(String, String)> = form
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| {
            let text = percent_encoding::percent_decode_str(value).decode_utf8().unwrap();
            (name.to_owned(), text.into_owned())
        })
        .collect();
    let wanted = [("host", AGENT), ("mount", MOUNT)].map(|(n, v)| (n.to_owned(), v.to_owned()));
    assert_eq!(fields, wanted, "{form}");
}

#[test]
fn control_characters_in_an_agent_id_are_refused_wherever_one_comes_in() {
    let mut server = Server::start("");
    for bad in ["web\n1", "web\u{1b}[2J", "web\r\nX: y", "web\u{0}", "web\u{85}"] {
        let reply =
            Client::to(server.grpc_port).report(&batch(bad, now_ms(), &[("cpu.usage", 1.0)]));
        let reply = reply.unwrap();
        assert!(!reply.success && reply.message.contains("control characters"), "{reply:?}");
        for path in ["/v1/agents/whitelist", "/v1/agents/enroll-codes"] {
            let answer = server.call("POST", path, Some(json!({"agent_id": bad})));
            assert_eq!((answer.status, answer.code()), (400, 1001), "{path}: {answer:?}");
        }
        let escaped: String = bad.chars().map(|c| format!("\\u{:04x}", u32::from(c))).collect();
        let config = server.dir.path().join("agent.toml");
        std::fs::write(&config, format!("agent_id = \"{escaped}\"\n")).unwrap();
        let out = std::process::Command::new(crate::support::agent::program())
            .args([config.to_str().unwrap(), "--check-config"])
            .output()
            .unwrap();
        assert_eq!(out.status.code(), Some(oxmon::base::exit::Exit::Config as i32), "{out:?}");
    }
    wait_for("nothing of it", Duration::from_secs(5), || {
        server.get("/v1/agents").as_array().filter(|list| list.is_empty()).map(drop)
    });
}
