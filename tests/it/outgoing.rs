//! Addresses that channels and certificate checks never connect to.

use std::net::TcpListener;

use serde_json::{Value, json};

use crate::support::endpoint::{Act, Endpoint};
use crate::support::server::Server;

const CONFIG: &str = "/v1/notifications/channels/config";

/// Makes a channel and tries it; gives what the server says of the failure.
fn refused(server: &mut Server, kind: &str, config: Value, recipients: &[&str]) -> String {
    let body = json!({"name": "c", "channel_type": kind, "config_json": config,
        "recipients": recipients});
    server.post(CONFIG, body);
    let answer = server.call("POST", "/v1/notifications/channels/c/test", None);
    assert_eq!((answer.status, answer.code()), (424, 1013), "{answer:?}");
    assert_eq!(server.call("DELETE", &format!("{CONFIG}/c"), None).status, 200);
    answer.body["err_msg"].as_str().unwrap().to_owned()
}

#[test]
fn metadata_services_are_not_reached_however_they_are_named() {
    let mut server = Server::start("");
    let denied = "169.254.169.254 is not allowed: `169.254.0.0/16` is in outgoing.deny";
    for url in [
        "http://169.254.169.254/latest/meta-data/",
        "http://2852039166/",
        "http://0xa9fea9fe/",
        "http://[::ffff:169.254.169.254]/",
        "https://169.254.169.254/",
    ] {
        let said = refused(&mut server, "webhook", json!({"url": url}), &[]);
        assert!(said.contains(denied), "{url}: {said}");
    }
    let link = "http://169.254.169.254/";
    for (kind, config, to) in [
        ("dingtalk", json!({"webhook_url": link}), vec![]),
        ("weixin", json!({"webhook_url": link}), vec![]),
        ("sms", json!({"gateway_url": link, "api_key": "key-123456"}), vec!["10086"]),
        (
            "email",
            json!({"smtp_host": "169.254.169.254", "smtp_port": 25, "from_name": "o",
                "from_email": "a@example.com"}),
            vec!["ops@example.com"],
        ),
    ] {
        let said = refused(&mut server, kind, config, &to);
        assert!(said.contains(denied), "{kind}: {said}");
    }
    let said = refused(&mut server, "webhook", json!({"url": "http://[fe80::1]/"}), &[]);
    assert!(said.contains("`fe80::/10`"), "{said}");
    let logs = server.get("/v1/notifications/logs?limit=1");
    let row = &logs["items"][0];
    assert!(row["error_message"].as_str().unwrap().contains("outgoing.deny"), "{row}");
}

#[test]
fn a_name_counts_by_the_address_that_is_connected_to() {
    let endpoint = Endpoint::start(|_, _| Act::ok());
    let mut server = Server::start("[outgoing]\ndeny = [\"127.0.0.0/8\", \"::1\"]\n");
    let url = format!("http://localhost:{}/", endpoint.port);
    let said = refused(&mut server, "webhook", json!({"url": url}), &[]);
    assert!(said.contains("is not allowed") && said.contains("outgoing.deny"), "{said}");
    assert!(endpoint.requests().is_empty());
    let mut server = Server::start("[outgoing]\ndeny = []\n");
    let body = json!({"name": "c", "channel_type": "webhook", "config_json": {"url": url}});
    server.post(CONFIG, body);
    server.post("/v1/notifications/channels/c/test", json!({}));
    assert_eq!(endpoint.requests().len(), 1);
}

#[test]
fn a_certificate_check_says_that_the_address_is_denied() {
    // It would hang, not refuse, if it were connected to.
    let listener = TcpListener::bind("127.0.0.2:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut server = Server::start("[outgoing]\ndeny = [\"127.0.0.2\", \"169.254.0.0/16\"]\n");
    for (domain, port) in [("127.0.0.2", port), ("169.254.169.254", 443)] {
        let made = server.post("/v1/certs/domains", json!({"domain": domain, "port": port}));
        let id = made["id"].as_str().unwrap();
        let check = server.post(&format!("/v1/certs/domains/{id}/check"), json!({}));
        let error = check["error"].as_str().unwrap();
        assert!(error.contains(&format!("connecting to {domain} is not allowed")), "{error}");
    }
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "something connected");
    let metrics = server.call("GET", "/metrics", None).body;
    // The schedule may have checked them as well.
    let counted = metrics.as_str().unwrap().split_once("=\"denied\"} ").unwrap().1;
    let counted: u64 = counted.lines().next().unwrap().parse().unwrap();
    assert!(counted >= 2, "{metrics}");
}
