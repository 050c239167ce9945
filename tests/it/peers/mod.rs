//! Several servers with one home: what is changed at any of them is at all of them.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::server::{Answer, Server};
use crate::support::{free_port, wait_for};

mod changes;
mod homes;
mod moving;
mod strangers;

const SOON: Duration = Duration::from_secs(40);
const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// Servers `a`, `b`, … on loopback, the first of which is home. The ports are known before they
/// start.
struct Servers {
    ports: Vec<(u16, u16)>,
    dirs: Vec<Option<TempDir>>,
    running: Vec<Option<Server>>,
    extra: String,
}

fn name(index: usize) -> char {
    char::from(b'a' + u8::try_from(index).unwrap())
}

impl Servers {
    /// Starts so many.
    fn start(count: usize) -> Self {
        Self::start_with(count, "")
    }

    /// Starts so many with further lines of configuration.
    fn start_with(count: usize, extra: &str) -> Self {
        let ports = (0..count).map(|_| (free_port(), free_port())).collect();
        let dirs = (0..count).map(|_| Some(tempfile::tempdir().unwrap())).collect();
        let running = (0..count).map(|_| None).collect();
        let mut servers = Self { ports, dirs, running, extra: extra.to_owned() };
        for index in 0..count {
            servers.begin(index);
        }
        for index in 1..count {
            servers.wait_followed(index);
        }
        servers
    }

    /// Starts one of them for the first time.
    fn begin(&mut self, index: usize) {
        let sisters: Vec<String> = (0..self.ports.len())
            .map(|other| format!("{} = 'http://127.0.0.1:{}'", name(other), self.ports[other].1))
            .collect();
        let extra = format!(
            "{}\n[peers]\nname = '{}'\nhome = 'a'\ntoken = '{TOKEN}'\nsisters = {{ {} }}\n\
             [cert_check]\nenabled = false\n{}",
            self.extra,
            name(index),
            sisters.join(", "),
            // The others get its key.
            if index == 0 {
                "[auth]\njwt_secret = 'fedcba9876543210fedcba9876543210'\n"
            } else {
                ""
            },
        );
        let dir = self.dirs[index].take().unwrap();
        self.running[index] = Some(Server::start_at(dir, &extra, self.ports[index]));
    }

    fn at(&mut self, index: usize) -> &mut Server {
        self.running[index].as_mut().unwrap()
    }

    /// What a server says of all.
    fn peers(&mut self, index: usize) -> Value {
        self.at(index).get("/v1/peers")
    }

    /// Waits until a server has the configuration of the home.
    fn wait_followed(&mut self, index: usize) {
        wait_for("the configuration of the home", SOON, || {
            let said = self.peers_if_any(index)?;
            let follows = said["lag_secs"].is_u64() && said["config_epoch"] == said["epoch"];
            (follows && said["error"].is_null() && said["epoch"] != 0).then_some(())
        });
    }

    /// As [`Self::wait_followed`], unless it is the home.
    fn wait_followed_or_home(&mut self, index: usize, home: usize) {
        if index != home {
            self.wait_followed(index);
        }
    }

    fn peers_if_any(&mut self, index: usize) -> Option<Value> {
        // The key that signs logins may have come from the home meanwhile.
        let server = self.at(index);
        let answer = server.call("GET", "/v1/peers", None);
        if answer.status == 401 {
            server.forget_login();
            return None;
        }
        assert_eq!(answer.status, 200, "{}", answer.body);
        Some(answer.data().clone())
    }

    /// Waits until a GET gives the same at all servers, and gives that.
    fn wait_same(&mut self, path: &str) -> Value {
        wait_for(&format!("the same {path}"), SOON, || {
            let all: Vec<Value> =
                (0..self.ports.len()).map(|index| self.at(index).get(path)).collect();
            all.iter().all(|one| *one == all[0]).then(|| all[0].clone())
        })
    }

    /// `oxmon-server promote` for one of them.
    fn promote(&mut self, index: usize) -> std::process::Output {
        let config = self.at(index).dir.path().join("server.toml");
        std::process::Command::new(crate::support::server::program())
            .arg("promote")
            .arg(config)
            .output()
            .unwrap()
    }

    /// Waits until a server is home, or takes another one for it.
    fn wait_home(&mut self, index: usize, home: usize) {
        let home = name(home).to_string();
        wait_for(&format!("`{home}` to be home"), SOON, || {
            (self.peers_if_any(index)?["home"] == home).then_some(())
        });
    }
}

/// A request to `/v1/peers/…` with this token.
fn ask(server: &Server, token: Option<&str>, method: &str, path: &str, body: &str) -> Answer {
    let body = (!body.is_empty()).then(|| serde_json::from_str(body).unwrap());
    server.call_as(token, method, path, body)
}
