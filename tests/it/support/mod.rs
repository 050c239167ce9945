//! Starts and stops the built programs, and speaks to them as their users do.

pub mod access;
pub mod agent;
pub mod booted;
pub mod browser;
pub mod disk;
#[allow(dead_code, reason = "the library's own tests use all of it")]
#[path = "../../../src/server/notify/tests/endpoint.rs"]
pub mod endpoint;
pub mod grpc;
pub mod h2;
pub mod inside;
pub mod load;
#[path = "../../../src/server/notify/tests/mail_server.rs"]
pub mod mail_server;
pub mod old_data;
pub mod once;
pub mod pki;
pub mod podman;
pub mod powerless;
pub mod schema;
pub mod server;
pub mod shipped;
pub mod sink;
pub mod sql;
pub mod tools;

use std::net::{IpAddr, TcpListener, UdpSocket};
use std::process::{Child, ExitStatus};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// A port that was free a moment ago; never the same twice in a test.
pub fn free_port() -> u16 {
    static GIVEN: Mutex<Vec<u16>> = Mutex::new(Vec::new());
    let mut given = GIVEN.lock().expect("no thread failed here");
    loop {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let port = listener.local_addr().expect("a bound listener has an address").port();
        if !given.contains(&port) {
            given.push(port);
            return port;
        }
    }
}

/// Waits until `ready` gives a value, asking about every 20 ms; fails the test after `limit`.
pub fn wait_for<T>(what: &str, limit: Duration, mut ready: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = ready() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited {limit:?} in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// As [`wait_for`], for up to a minute and with longer pauses: each question starts a program.
pub fn wait_slowly<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    wait_for(what, Duration::from_secs(60), || {
        ready().or_else(|| {
            std::thread::sleep(Duration::from_millis(150));
            None
        })
    })
}

/// Waits for a program's end.
pub fn wait_exit(child: &mut Child, limit: Duration) -> ExitStatus {
    wait_for("the program to end", limit, || child.try_wait().expect("a child can be waited for"))
}

/// Sends a signal by its name (`TERM`, `KILL`, `HUP`).
pub fn signal(child: &Child, name: &str) {
    let status = std::process::Command::new("kill")
        .args([format!("-{name}"), child.id().to_string()])
        .status()
        .expect("kill runs");
    assert!(status.success(), "kill -{name} {}", child.id());
}

/// An address of this machine other than loopback, by which its own calls look like another's.
pub fn other_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    // Nothing is sent: connecting a datagram socket only chooses a route.
    socket.connect("198.51.100.1:9").ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_loopback() && !ip.is_unspecified()).then_some(ip)
}

/// The most memory that a process has had, bytes.
pub fn peak(process: &std::process::Child) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}
