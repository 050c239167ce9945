//! Files for their owner alone, whatever the umask, and narrowed at the start where they are wider.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::support::agent;
use crate::support::grpc::{Client, batch, now_ms};
use crate::support::server::{Server, program};
use crate::support::{free_port, wait_for};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn set(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// The files of a folder whose mode gives others anything, and the folder itself.
fn open_to_others(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    for path in files.chain([folder.to_path_buf()]) {
        // A file of SQLite's may go between the two.
        let Ok(meta) = fs::metadata(&path) else { continue };
        let bits = meta.permissions().mode() & 0o7777;
        if bits & 0o077 != 0 {
            found.push(format!("{} {bits:04o}", path.display()));
        }
    }
    found
}

/// Words that run a program with the widest umask.
fn wide() -> Vec<String> {
    ["sh", "-c", "umask 000; exec \"$@\"", "sh"].map(str::to_owned).to_vec()
}

#[test]
fn a_servers_files_and_backups_are_for_its_user_whatever_the_umask() {
    let server = Server::start_under(&wide(), "");
    let reply = Client::to(server.grpc_port).report(&batch("web-1", now_ms(), &[("a", 1.0)]));
    assert!(reply.unwrap().success);
    let data = server.data();
    assert!(fs::read_dir(&data).unwrap().count() > 3, "a day file is there");
    assert_eq!(open_to_others(&data), Vec::<String>::new());
    let copies = server.dir.path().join("copies");
    let out = Command::new("sh")
        .args(["-c", "umask 000; exec \"$@\"", "sh", program(), "backup"])
        .arg(server.dir.path().join("server.toml"))
        .arg(&copies)
        .output()
        .unwrap();
    assert!(out.status.success(), "{out:?}");
    assert_eq!(open_to_others(&copies), Vec::<String>::new());
}

#[test]
fn what_is_wider_is_narrowed_at_the_start_with_one_line() {
    let mut server = Server::start("");
    let reply = Client::to(server.grpc_port).report(&batch("web-1", now_ms(), &[("a", 1.0)]));
    assert!(reply.unwrap().success);
    assert!(!server.log().contains("others could read"), "{}", server.log());
    server.kill();
    let data = server.data();
    for entry in fs::read_dir(&data).unwrap() {
        set(&entry.unwrap().path(), 0o664);
    }
    set(&data, 0o755);
    let other = data.join("notes.txt");
    fs::write(&other, "mine").unwrap();
    set(&other, 0o644);
    server.restart();
    assert_eq!(open_to_others(&data), [format!("{} 0644", other.display())]);
    let log = server.log();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("others could read")).collect();
    assert_eq!(lines.len(), 1, "{log}");
    for named in ["the folder (was 0755), .lock (was 0664)", ".db (was 0664)", " more"] {
        assert!(lines[0].contains(named), "{}", lines[0]);
    }
}

#[test]
fn an_agents_buffer_is_for_its_user_alone() {
    let dir = tempfile::tempdir().unwrap();
    let buffer = dir.path().join("buffer");
    fs::create_dir(&buffer).unwrap();
    let old = buffer.join("lock");
    fs::write(&old, "").unwrap();
    set(&old, 0o666);
    set(&buffer, 0o777);
    let config = dir.path().join("agent.toml");
    // Nothing listens there: what is collected waits in the buffer.
    let text = format!(
        "server_endpoint = \"127.0.0.1:{}\"\ncollection_interval_secs = 1\nbuffer_dir = {buffer:?}\n",
        free_port()
    );
    fs::write(&config, text).unwrap();
    let log = fs::File::create(dir.path().join("agent.log")).unwrap();
    let mut child = Command::new("sh")
        .args(["-c", "umask 000; exec \"$@\"", "sh", agent::program()])
        .arg(&config)
        .stderr(log)
        .spawn()
        .unwrap();
    wait_for("a segment", Duration::from_secs(30), || {
        (fs::read_dir(&buffer).unwrap().count() > 1).then_some(())
    });
    let open = open_to_others(&buffer);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(open, Vec::<String>::new());
    assert_eq!(mode(&buffer), 0o700);
    let log = fs::read_to_string(dir.path().join("agent.log")).unwrap();
    assert!(log.contains("the folder (was 0777), lock (was 0666)"), "{log}");
}
