//! Looks at names with several addresses, and at endpoints that take their time.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{EC, Made, Tls, free_port};
use crate::base::clock::{Clock, DAY_MS, SystemClock};
use crate::rt::stop::{Stop, StopSource};
use crate::server::cert::assess::Assessment;
use crate::server::cert::fault::Kind;
use crate::server::cert::lookup::{Look, Lookups};
use crate::server::cert::probe::{Prober, Target};
use crate::server::cert::trust::Trust;

/// A prober for which every name has these addresses.
pub(super) fn prober(ca: Option<&Path>, hosts: &[&str], timeout: Duration, stop: Stop) -> Prober {
    let hosts: Vec<IpAddr> = hosts.iter().map(|host| host.parse().unwrap()).collect();
    let look: Look = Arc::new(move |_, port| {
        Ok(hosts.iter().map(|host| SocketAddr::new(*host, port)).collect())
    });
    Prober {
        trust: Trust::new(ca).unwrap(),
        lookups: Lookups::new(look, 2),
        timeout,
        denied: crate::server::config::Outgoing::default().denied(),
        stop,
    }
}

fn target(port: u16) -> Target<'static> {
    Target { host: "cluster.example", port, starttls: None }
}

fn now_ms() -> i64 {
    SystemClock.now_ms()
}

#[test]
fn each_address_is_tried_and_says_what_it_serves() {
    let made = Made::new();
    let names = "subjectAltName=DNS:cluster.example";
    let new = made.certificate("new", EC, "90", &[names]);
    let old = made.certificate("old", EC, "9", &[names]);
    let both = [std::fs::read(&new).unwrap(), std::fs::read(&old).unwrap()].concat();
    std::fs::write(made.path("ca.pem"), both).unwrap();
    let port = free_port();
    let _servers = [Tls::start(&new, "127.0.0.2", port), Tls::start(&old, "127.0.0.3", port)];
    let addresses = ["127.0.0.2", "127.0.0.3", "127.0.0.4"];
    let prober =
        prober(Some(&made.path("ca.pem")), &addresses, Duration::from_secs(20), Stop::never());

    let assessment = Assessment::of(prober.look(target(port), now_ms()));
    assert!(assessment.is_valid && assessment.chain_valid, "{assessment:?}");
    let shown = assessment.shown.unwrap();
    assert_eq!(shown.leaf.subject_cn.as_deref(), Some("old"), "the one that ends first");
    assert_eq!(shown.tls_version.as_deref(), Some("TLSv1.3"));
    assert!(shown.cipher_suite.unwrap().starts_with("TLS_"));
    assert_eq!(assessment.serving, ["127.0.0.3"]);
    let said: Vec<(&str, bool, Option<&str>)> = assessment
        .addresses
        .iter()
        .map(|at| (at.address.as_str(), at.is_valid, at.error_kind.as_deref()))
        .collect();
    let refused = Some("connection_refused");
    let wanted =
        [("127.0.0.2", true, None), ("127.0.0.3", true, None), ("127.0.0.4", false, refused)];
    assert_eq!(said, wanted);

    // Three weeks later, by the clock that the check is given, one of them has ended.
    let later = Assessment::of(prober.look(target(port), now_ms() + 21 * DAY_MS));
    assert!(!later.is_valid && later.chain_valid);
    let fault = later.fault.unwrap();
    assert_eq!(fault.kind, Kind::Expired);
    assert!(fault.sentence.starts_with("at 127.0.0.3: the certificate expired on "), "{fault}");
}

#[test]
fn an_address_that_hangs_takes_no_time_from_the_others() {
    let made = Made::new();
    let pem = made.certificate("one", EC, "9", &["subjectAltName=DNS:cluster.example"]);
    let port = free_port();
    let _server = Tls::start(&pem, "127.0.0.6", port);
    // It takes connections and never says a word.
    let _mute = TcpListener::bind(("127.0.0.5", port)).unwrap();
    let timeout = Duration::from_secs(4);
    let prober = prober(Some(&pem), &["127.0.0.5", "127.0.0.6"], timeout, Stop::never());
    let started = Instant::now();
    let assessment = Assessment::of(prober.look(target(port), now_ms()));
    assert!(started.elapsed() < timeout + Duration::from_secs(2), "{:?}", started.elapsed());
    assert!(assessment.is_valid, "{assessment:?}");
    assert_eq!(assessment.addresses[0].error_kind.as_deref(), Some("timeout"));
}

#[test]
fn a_look_up_that_hangs_is_given_up_and_too_many_are_refused() {
    let look: Look = Arc::new(|_, _| {
        loop {
            std::thread::park();
        }
    });
    let prober = Prober {
        trust: Trust::new(None).unwrap(),
        lookups: Lookups::new(look, 2),
        timeout: Duration::from_millis(300),
        denied: Default::default(),
        stop: Stop::never(),
    };
    for expected in ["took too long", "took too long", "too many look-ups hang"] {
        let started = Instant::now();
        let fault = prober.look(target(1), now_ms()).unwrap_err();
        assert_eq!(fault.kind, Kind::Timeout);
        assert!(fault.sentence.ends_with(expected), "{fault}");
        assert!(started.elapsed() < Duration::from_secs(3));
    }
}

#[test]
fn a_name_without_an_address_is_told_from_a_resolver_that_fails() {
    let kind = |text: String| {
        let look: Look = Arc::new(move |_, _| Err(io::Error::other(text.clone())));
        let prober = Prober {
            trust: Trust::new(None).unwrap(),
            lookups: Lookups::new(look, 9),
            timeout: Duration::from_secs(5),
            denied: Default::default(),
            stop: Stop::never(),
        };
        prober.look(target(1), now_ms()).unwrap_err().kind
    };
    let cases = [
        ("Name or service not known", Kind::NoSuchName),
        ("Name does not resolve", Kind::NoSuchName),
        ("Temporary failure in name resolution", Kind::LookupFailed),
        ("Try again", Kind::LookupFailed),
        // For good, as EAI_FAIL is: that says nothing of the name either.
        ("Non-recoverable failure in name resolution", Kind::LookupFailed),
        ("Unrecoverable error", Kind::LookupFailed),
        ("System error", Kind::LookupFailed),
    ];
    for (said, wanted) in cases {
        assert_eq!(kind(format!("failed to lookup address information: {said}")), wanted, "{said}");
    }
    let none = prober(None, &[], Duration::from_secs(5), Stop::never());
    assert_eq!(none.look(target(1), now_ms()).unwrap_err().kind, Kind::NoSuchName);
}

#[test]
fn the_stop_signal_ends_a_look_at_once() {
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = mute.local_addr().unwrap().port();
    let source = StopSource::new();
    let prober = prober(None, &["127.0.0.1"], Duration::from_secs(60), source.stop());
    let started = Instant::now();
    let look = std::thread::spawn(move || prober.look(target(port), now_ms()));
    // The look is under way once its connection is there.
    let _connection = mute.accept().unwrap();
    drop(source);
    let seen = look.join().unwrap().unwrap();
    assert_eq!(seen[0].outcome.as_ref().unwrap_err().kind, Kind::Timeout);
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

#[test]
fn a_file_of_authorities_that_is_none_is_refused() {
    let made = Made::new();
    let fail = |path: &Path| Trust::new(Some(path)).err().unwrap();
    assert!(fail(&made.path("missing.pem")).starts_with("cert_check.ca_file: "));
    std::fs::write(made.path("empty.pem"), "no certificate\n").unwrap();
    assert!(fail(&made.path("empty.pem")).ends_with("it holds no PEM certificate"));
}
