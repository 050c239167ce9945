//! The checks of `server.toml`.

#![allow(clippy::unwrap_used)]

use super::*;

fn refuse(text: &str) -> String {
    ServerConfig::from_source(&Source::embedded("s.toml", text)).unwrap_err().0
}

#[test]
fn an_empty_file_is_all_defaults() {
    let config = ServerConfig::from_source(&Source::embedded("s.toml", "")).unwrap();
    assert_eq!((config.grpc_port, config.http_port, config.retention_days), (9090, 8080, 7));
}

#[test]
fn a_table_keeps_the_defaults_of_what_it_leaves_out() {
    let tables = "[auth]\n[pools]\n[storage]\n[cert_check]\n[notify]\n[prometheus]\n[cors]\n[http]\n[outgoing]\n[remote]\n[alert]";
    let config = ServerConfig::from_source(&Source::embedded("s.toml", tables)).unwrap();
    let shown = |config| serde_json::to_value(config).unwrap();
    assert_eq!(shown(config), shown(ServerConfig::default()));
}

#[test]
fn mistakes_are_refused_with_line_and_key() {
    assert_eq!(
        refuse("\nretention_days = 0"),
        "s.toml:2: retention_days: must be 1 to 3650 days, is 0"
    );
    assert!(refuse("[pools]\nhttp_workers = 100000").starts_with("s.toml:2: pools.http_workers:"));
    assert!(refuse("bind = ['here']").contains("`here` is not a valid IP address"));
    assert!(refuse("grpc_port = 8080").starts_with("s.toml:1: http_port: must differ"));
    assert!(refuse("log_level = 'loud'").starts_with("s.toml:1: log_level: must be"));
    assert!(
        refuse("[tls]\ncert_file='/no/c.pem'\nkey_file='k'")
            .starts_with("s.toml:2: tls.cert_file: cannot read")
    );
    assert!(
        refuse("[auth]\ndefault_password = 'short'")
            .starts_with("s.toml:2: auth.default_password: must have 8")
    );
    assert!(refuse("[http]\nallowed_hosts = ['https://a']").contains("`https://a` must be a host"));
    assert!(refuse("[outgoing]\ndeny = ['10/8']").starts_with("s.toml:2: outgoing.deny: `10/8`"));
    assert!(refuse("http_prt = 1").contains("did you mean `http_port`?"));
    assert!(refuse("time_zone = 'Mars/Base'").contains("not a time zone"));
    assert!(refuse("language = 'fr'").contains("must be one of en, zh-CN"));
    for url in ["oxmon.example", "https://", "https://a.example/?x=1", "https://a b/"] {
        assert!(refuse(&format!("public_url = '{url}'")).contains("must be a URL"), "{url}");
    }
}

#[test]
fn a_published_secret_counts_as_absent_and_a_short_one_is_taken() {
    let load = |secret: &str| {
        let text = format!("[auth]\njwt_secret = '{secret}'");
        ServerConfig::from_source(&Source::embedded("s.toml", &text)).unwrap()
    };
    let published = load("your-secret-key-here");
    assert_eq!(published.auth.jwt_secret, None);
    assert!(published.warnings[0].starts_with("s.toml:2: auth.jwt_secret: is that of a pub"));
    let short = load("0123456789");
    assert_eq!(short.auth.jwt_secret.as_deref(), Some("0123456789"));
    assert!(short.warnings[0].starts_with("s.toml:2: auth.jwt_secret: has 10 bytes"));
    let long = load("abcdefghijklmnopqrstuvwxyz0123456789");
    assert!(long.auth.jwt_secret.is_some() && long.warnings.is_empty());
}

#[test]
fn secrets_stay_out_of_debug_output() {
    let text = "[auth]\njwt_secret = 'abcdefghijklmnopqrstuvwxyz0123456789'";
    let config = ServerConfig::from_source(&Source::embedded("s.toml", text)).unwrap();
    let shown = format!("{config:?}");
    assert!(!shown.contains("abcdef") && !shown.contains("changeme"), "{shown}");
}

#[test]
fn origins_have_a_scheme_and_a_host_and_no_path() {
    for good in ["*", "https://a.example", "http://127.0.0.1:3000", "http://[::1]:3000"] {
        assert!(is_origin(good), "{good}");
    }
    for bad in ["", "a.example", "https://", "https://a/", "ftp://a", "https://a b", "null"] {
        assert!(!is_origin(bad), "{bad}");
    }
}
