//! The agent as its host and its users meet it: odd configurations, signals, an end in a hurry,
//! exporters beside it, and another agent with the same id.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::support::agent::{Agent, program};
use crate::support::server::{self, Server};
use crate::support::{free_port, peak, signal, wait_for};

const WITHIN: Duration = Duration::from_secs(60);

/// Waits until the server has a value of this agent's metric.
fn wait_value(server: &mut Server, agent: &str, metric: &str) -> f64 {
    wait_for(metric, WITHIN, || {
        let latest = server.call("GET", &format!("/v1/agents/{agent}/latest"), None);
        let rows = latest.data().as_array()?.clone();
        rows.iter().find(|row| row["metric_name"] == metric)?["value"].as_f64()
    })
}

#[test]
fn a_stop_soon_after_the_first_report_is_instant() {
    let mut server = Server::start("");
    // At the moment of the first report, and at moments between the next ones.
    for reports in [1, 2, 3, 4] {
        let id = format!("hasty-{reports}");
        let mut agent = Agent::start(&id, server.grpc_port, "");
        wait_for("the first report", WITHIN, || agent.log().contains("connected to").then_some(()));
        wait_for("later reports", WITHIN, || {
            let query = "/v1/metrics?metric_name__eq=load.uptime&agent_id__eq=";
            let stored = server.call("GET", &format!("{query}{id}"), None);
            (stored.total? >= reports).then_some(())
        });
        let started = Instant::now();
        assert!(agent.stop().success());
        let took = started.elapsed();
        assert!(took < Duration::from_millis(900), "after {reports} reports: {took:?}");
        assert!(!agent.log().contains("did not stop"), "{}", agent.log());
    }
}

#[test]
fn signals_that_mean_nothing_do_nothing() {
    let mut server = Server::start("");
    let mut agent = Agent::start("signalled", server.grpc_port, "");
    wait_value(&mut server, "signalled", "load.load_1");
    for name in ["USR1", "USR2"] {
        signal(&agent.child, name);
    }
    let stored = wait_value(&mut server, "signalled", "load.uptime");
    wait_for("a later report", WITHIN, || {
        (wait_value(&mut server, "signalled", "load.uptime") > stored + 1.0).then_some(())
    });
    assert!(agent.stop().success());
}

#[test]
fn an_error_at_start_has_its_exit_status_though_nobody_reads_it() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("bad.toml");
    std::fs::write(&config, "no_such_key = 1\n").unwrap();
    for program in [program(), server::program()] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let status = Command::new(program).arg(&config).stderr(writer).status().unwrap();
        assert_eq!(status.code(), Some(3), "{program}");
    }
}

#[test]
fn an_id_that_can_not_be_sent_is_refused_when_it_is_checked() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("agent.toml");
    std::fs::write(&config, "agent_id = \"büro-nas\"\n").unwrap();
    let out = Command::new(program()).arg("--check-config").arg(&config).output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(3), "{said}");
    assert!(said.contains("agent.toml:1: agent_id: \"büro-nas\" cannot be an agent id"), "{said}");
}

#[test]
fn the_log_has_one_format_while_the_server_is_away() {
    let port = free_port();
    let agent = Agent::start("alone", port, "log_level = \"info\"\n");
    wait_for("the first failure", WITHIN, || agent.log().contains("cannot reach").then_some(()));
    // What gRPC's own core would write comes with its attempts to connect: three more of them.
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let mut attempts = 0;
    wait_for("further attempts", WITHIN, || {
        attempts += usize::from(listener.accept().is_ok());
        (attempts >= 3).then_some(())
    });
    for line in agent.log().lines() {
        assert!(line.starts_with("20") && line.contains("Z "), "{line}");
    }
}

#[test]
fn once_names_each_collector_that_fails() {
    let dir = tempfile::tempdir().unwrap();
    let proc = dir.path().join("proc");
    std::fs::create_dir(&proc).unwrap();
    std::fs::write(proc.join("meminfo"), "garbage\n").unwrap();
    let config = dir.path().join("agent.toml");
    std::fs::write(&config, format!("proc_root = {:?}\n", proc.display().to_string())).unwrap();
    let out = Command::new(program()).arg("--once").arg(&config).output().unwrap();
    let said = String::from_utf8_lossy(&out.stdout);
    assert!(said.contains("collector `memory` failed: cannot parse /proc/meminfo"), "{said}");
    assert!(said.contains("collector `cpu` failed: cannot read"), "{said}");
}

/// A memory cgroup of this process' own with a limit, and the words that run a program in it.
/// `None` where this process may not make one.
fn memory_cgroup(bytes: u64) -> Option<(std::path::PathBuf, Vec<String>)> {
    let own = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let of = |line: &&str| line.contains(":memory:") || line.starts_with("0::/");
    let line = own.lines().find(of)?;
    let path = line.rsplit(':').next()?.trim_start_matches('/');
    let (root, limit) = match line.contains(":memory:") {
        true => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
        false => ("/sys/fs/cgroup", "memory.max"),
    };
    let folder = std::path::Path::new(root).join(path).join(format!("oxmon-{}", free_port()));
    std::fs::create_dir(&folder).ok()?;
    if std::fs::write(folder.join(limit), bytes.to_string()).is_err() {
        let _ = std::fs::remove_dir(&folder);
        return None;
    }
    let enter = "echo $$ >\"$0/cgroup.procs\" && exec \"$@\"".to_owned();
    let words = vec!["sh".to_owned(), "-c".to_owned(), enter, folder.display().to_string()];
    Some((folder, words))
}

#[test]
fn memory_is_the_hosts_whatever_limit_the_agent_has_itself() {
    let Some((folder, words)) = memory_cgroup(128 << 20) else {
        eprintln!("skipped: this process may not make a memory cgroup");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("agent.toml");
    std::fs::write(&config, "").unwrap();
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).arg(program()).arg("--once").arg(&config);
    let out = command.output().unwrap();
    std::fs::remove_dir(&folder).unwrap();
    let said = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{said} {}", String::from_utf8_lossy(&out.stderr));
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap();
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:")).unwrap();
    let kib: u64 = total.trim().trim_end_matches(" kB").parse().unwrap();
    let line = said.lines().find(|line| line.contains("memory.total")).unwrap();
    let value: f64 = line.split_whitespace().find_map(|word| word.parse().ok()).unwrap();
    assert_eq!(value, (kib * 1_024) as f64, "{line}");
    // docs/install.md says so.
    let docs = include_str!("../../docs/install.md");
    assert!(
        docs.contains("`memory.total`") && docs.contains("limit"),
        "the docs say what is measured"
    );
}

#[test]
fn exporters_and_text_files_reach_the_server_with_their_own_names() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let _ = stream.read(&mut [0; 2_048]);
            let body = "# TYPE pg_up gauge\npg_up 1\ngo_threads 7\npg_rows{table=\"a\"} 12.5\n";
            let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
            let _ = write!(stream, "{head}{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
        }
    });
    let text = tempfile::tempdir().unwrap();
    std::fs::write(text.path().join("backup.prom"), "backup_bytes 4096\n").unwrap();
    let mut server = Server::start("");
    let extra = format!(
        "textfile_dir = {:?}\nprocesses = [\"oxmon-agent\"]\n[[scrape]]\n\
         url = \"http://127.0.0.1:{port}/metrics\"\nname = \"pg\"\ndrop = [\"go_*\"]\n\
         [[scrape]]\nurl = \"http://127.0.0.1:{}/\"\nname = \"away\"\n",
        text.path().display().to_string(),
        free_port()
    );
    let _agent = Agent::start("exporting", server.grpc_port, &extra);
    assert_eq!(wait_value(&mut server, "exporting", "pg_rows"), 12.5);
    assert_eq!(wait_value(&mut server, "exporting", "backup_bytes"), 4_096.0);
    assert!(wait_value(&mut server, "exporting", "process.running") >= 1.0);
    assert!(wait_value(&mut server, "exporting", "agent.clock_skew").abs() < 30.0);
    let latest = server.call("GET", "/v1/agents/exporting/latest", None);
    let rows = latest.data().as_array().unwrap().clone();
    let success = |target: &str| {
        let of = |row: &&serde_json::Value| {
            row["metric_name"] == "scrape.success" && row["labels"]["target"] == target
        };
        rows.iter().find(of).map(|row| row["value"].as_f64().unwrap())
    };
    assert_eq!((success("pg"), success("away")), (Some(1.0), Some(0.0)), "{rows:?}");
    assert!(rows.iter().all(|row| row["metric_name"] != "go_threads"));
}

#[test]
fn two_agents_with_one_id_are_noticed() {
    let server = Server::start("");
    let _one = Agent::start("twin", server.grpc_port, "");
    let _two = Agent::start("twin", server.grpc_port, "");
    wait_for("the server's warning", WITHIN, || {
        server.log().contains("two agents on one host report as `twin`").then_some(())
    });
}

#[test]
fn a_token_in_a_file_of_its_own_is_used_and_a_credential_too() {
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("auth_token");
    std::fs::write(&token, "not a token\n").unwrap();
    let config = dir.path().join("agent.toml");
    std::fs::write(&config, "").unwrap();
    let check = |with: Option<&std::path::Path>| {
        let mut command = Command::new(program());
        command.arg("--check-config").arg(&config).stdout(Stdio::null());
        if let Some(dir) = with {
            command.env("CREDENTIALS_DIRECTORY", dir);
        }
        let out = command.output().unwrap();
        (out.status.code(), String::from_utf8_lossy(&out.stderr).into_owned())
    };
    assert_eq!(check(None).0, Some(0));
    let (code, said) = check(Some(dir.path()));
    assert!(code == Some(3) && said.contains("must hold visible ASCII"), "{said}");
    std::fs::write(&token, "a-token\n").unwrap();
    assert_eq!(check(Some(dir.path())).0, Some(0));
}

/// Writes what a message is as its bytes.
#[allow(clippy::ptr_arg, reason = "the library's type of it")]
fn write_bytes(bytes: &Vec<u8>, to: &mut grpcio::GrpcSlice) -> grpcio::Result<()> {
    *to = bytes.clone().into();
    Ok(())
}

/// A server whose every answer is 64 MiB, which gzip makes 64 KB.
fn server_of_large_answers() -> (grpcio::Server, u16, Arc<AtomicUsize>) {
    const METHOD: grpcio::Method<(), Vec<u8>> = grpcio::Method {
        ty: grpcio::MethodType::Unary,
        name: "/oxmon.MetricService/ReportMetrics",
        req_mar: grpcio::Marshaller { ser: |_, _| Ok(()), de: |_| Ok(()) },
        resp_mar: grpcio::Marshaller { ser: write_bytes, de: |_| Ok(Vec::new()) },
    };
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    // A `ReportResponse` with a message of 64 MiB.
    let mut answer = vec![0x12, 0x80, 0x80, 0x80, 0x20];
    answer.resize(answer.len() + (64 << 20), b'a');
    let service = grpcio::ServiceBuilder::new()
        .add_unary_handler(&METHOD, move |_, (), sink| {
            counted.fetch_add(1, Ordering::SeqCst);
            sink.success(answer.clone());
        })
        .build();
    let env = Arc::new(grpcio::EnvBuilder::new().cq_count(1).build());
    let port = free_port();
    let arguments = grpcio::ChannelBuilder::new(Arc::clone(&env))
        .max_send_message_len(-1)
        // Gzip.
        .raw_cfg_int(c"grpc.default_compression_algorithm".to_owned(), 2)
        .build_args();
    let mut server = grpcio::ServerBuilder::new(env)
        .channel_args(arguments)
        .register_service(service)
        .build()
        .unwrap();
    let address = format!("127.0.0.1:{port}");
    server.add_listening_port(address, grpcio::ServerCredentials::insecure()).unwrap();
    server.start();
    (server, port, calls)
}

#[test]
fn an_answer_that_unpacks_to_much_costs_an_agent_no_more_than_it_is() {
    let (_server, port, calls) = server_of_large_answers();
    let agent = Agent::start("web-01", port, "");
    wait_for("some answers", Duration::from_secs(40), || {
        (calls.load(Ordering::SeqCst) >= 3).then_some(())
    });
    let peak = peak(&agent.child);
    assert!(peak < 32 << 20, "the agent took {} MiB:\n{}", peak >> 20, agent.log());
}
