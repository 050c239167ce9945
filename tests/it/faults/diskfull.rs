//! A server on a file system that runs full: it says so, goes on reading, and goes on writing when
//! there is room again; nothing acknowledged is lost, and nothing is stored twice.

use std::collections::BTreeMap;
use std::time::Duration;

use grpcio::RpcStatusCode;
use oxmon::base::clock::{DAY_MS, HOUR_MS, SECOND_MS};
use oxmon::wire::pb::metrics::MetricBatchProto;

use crate::support::agent::Agent;
use crate::support::disk::SmallDisk;
use crate::support::grpc::{Client, batch, now_ms};
use crate::support::server::Server;
use crate::support::{sql, wait_for};

const METRICS: [&str; 4] = ["a", "b", "c", "d"];

fn sent(agent: &str, base_ms: i64, number: i64) -> MetricBatchProto {
    let value = (base_ms + number) as f64 * 0.37;
    let points = METRICS.map(|metric| (metric, value));
    batch(agent, base_ms + number * 100, &points)
}

/// Times at which a metric of an agent is stored, each once, with its value.
fn stored(server: &Server, agent: &str, metric: &str) -> BTreeMap<i64, f64> {
    let query = format!(
        "SELECT timestamp, value FROM metrics
         WHERE agent_id = '{agent}' AND metric_name = '{metric}'"
    );
    let mut rows = BTreeMap::new();
    for row in sql::csv(&server.data(), &query).lines().skip(1) {
        let (at, value) = row.split_once(',').expect("two columns");
        let at: i64 = at.parse().expect("a time");
        let twice = rows.insert(at, value.parse().expect("a number"));
        assert!(twice.is_none(), "{agent} {metric} at {at} is stored twice");
    }
    rows
}

fn count(server: &mut Server, agent: &str, from_ms: i64) -> u64 {
    let from = oxmon::base::clock::rfc3339(from_ms);
    let path = format!("/v1/metrics/summary?agent_id={agent}&metric_name=a&timestamp__gte={from}");
    server.get(&path)["count"].as_u64().expect("a count")
}

#[test]
fn a_full_disk_costs_nothing_but_time() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(&dir.path().join("data"), "12m") else { return };
    let config = "[storage]\npack_points = 16\n[cert_check]\nenabled = false\n";
    let mut server = Server::start_in(dir, config);
    let port = server.grpc_port;
    let old_ms = now_ms() - 2 * DAY_MS - HOUR_MS;
    let client = Client::to(port);
    for number in 0..200 {
        assert!(client.report(&sent("old", old_ms, number)).unwrap().success);
    }
    // After a restart nobody has the older day open.
    assert_eq!(server.stop().code(), Some(0));
    server.restart();
    let agent = Agent::start("web-01", port, "");
    let base_ms = now_ms() - HOUR_MS;
    let client = Client::to(port);
    let mut number = 0;
    for _ in 0..100 {
        assert!(client.report(&sent("new", base_ms, number)).unwrap().success);
        number += 1;
    }
    wait_for("the agent's first value", Duration::from_secs(20), || {
        (!stored(&server, "web-01", "load.uptime").is_empty()).then_some(())
    });
    assert_eq!(count(&mut server, "new", base_ms), 100);

    disk.fill();
    number = report_until_refused(&client, base_ms, number);
    for _ in 0..3 {
        // Reads go on, of the day that is written and of one that nobody has open.
        assert_eq!(count(&mut server, "new", base_ms), number as u64);
        assert_eq!(count(&mut server, "old", old_ms), 200);
        assert!(client.report(&sent("new", base_ms, number)).is_err());
    }
    let ill = server.log();
    assert!(ill.contains("the disk that holds data_dir is full"), "{ill}");
    let refused = now_ms();
    wait_for("the agent to be refused", Duration::from_secs(20), || {
        (now_ms() > refused + 3 * SECOND_MS).then_some(())
    });

    disk.empty();
    let emptied = now_ms();
    wait_for("room", Duration::from_secs(20), || {
        client.report(&sent("new", base_ms, number)).is_ok_and(|reply| reply.success).then_some(())
    });
    number += 1;
    let ticks = wait_for("the agent's backlog", Duration::from_secs(60), || {
        let ticks: Vec<i64> = stored(&server, "web-01", "load.uptime").into_keys().collect();
        let whole = ticks.windows(2).all(|pair| pair[1] - pair[0] <= 2 * SECOND_MS);
        (whole && ticks.last().is_some_and(|last| *last > emptied)).then_some(ticks)
    });
    assert!(ticks.iter().any(|at| *at > refused && *at < emptied), "{ticks:?}");
    drop(agent);
    // The same holds after the server has read its files back.
    server.kill_and_restart();
    expect_all(&server, base_ms, number);
}

/// Values that no packing makes small, so that what room there is goes soon.
fn bulk(at_ms: i64, random: &mut fastrand::Rng) -> MetricBatchProto {
    let names: Vec<String> = (0..400).map(|index| format!("bulk-{index}")).collect();
    let points: Vec<(&str, f64)> = names.iter().map(|name| (&**name, random.f64())).collect();
    batch("bulk", at_ms, &points)
}

/// Reports from `number` on until the disk is full, and gives the number that was refused.
fn report_until_refused(client: &Client, base_ms: i64, mut number: i64) -> i64 {
    let mut random = fastrand::Rng::with_seed(1);
    let told = wait_for("the disk to be full", Duration::from_secs(60), || {
        // Refused or not: what fits still may be small.
        let _ = client.report(&bulk(base_ms + number * 100, &mut random));
        match client.report(&sent("new", base_ms, number)) {
            Ok(reply) => {
                assert!(reply.success, "{}", reply.message);
                number += 1;
                None
            }
            Err(status) => Some(status),
        }
    });
    assert_eq!(told.code(), RpcStatusCode::RESOURCE_EXHAUSTED, "{told:?}");
    assert!(told.message().contains("disk") && told.message().contains("full"), "{told:?}");
    number
}

/// Every report below `number` is there once, and so are those of the older day.
fn expect_all(server: &Server, base_ms: i64, number: i64) {
    for metric in METRICS {
        let expected: BTreeMap<i64, f64> = (0..number)
            .map(|number| (base_ms + number * 100, (base_ms + number) as f64 * 0.37))
            .collect();
        assert_eq!(stored(server, "new", metric), expected, "{metric}");
        assert_eq!(stored(server, "old", metric).len(), 200);
    }
}

#[test]
fn a_server_that_died_starts_again_on_a_full_disk_and_reads() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(&dir.path().join("data"), "16m") else { return };
    let config = "[storage]\npack_points = 16\n[cert_check]\nenabled = false\n";
    let mut server = Server::start_in(dir, config);
    let (base_ms, old_ms) = (now_ms() - HOUR_MS, now_ms() - 2 * DAY_MS - HOUR_MS);
    let client = Client::to(server.grpc_port);
    for number in 0..200 {
        assert!(client.report(&sent("new", base_ms, number)).unwrap().success);
        assert!(client.report(&sent("old", old_ms, number)).unwrap().success);
    }
    let reserve = server.data().join(".reserve");
    wait_for("room to be set aside", Duration::from_secs(20), || {
        reserve.metadata().is_ok_and(|meta| meta.len() == 1 << 20).then_some(())
    });
    // Once as after a crash, once as after an orderly stop that took the logs' files with it.
    server.kill();
    disk.fill();
    server.restart();
    assert!(server.log().contains("that were set aside"), "{}", server.log());
    assert!(!reserve.exists());
    assert_eq!(count(&mut server, "new", base_ms), 200);
    assert_eq!(count(&mut server, "old", old_ms), 200);
    let client = Client::to(server.grpc_port);
    let number = report_until_refused(&client, base_ms, 200);
    assert_eq!(count(&mut server, "new", base_ms), number as u64);

    disk.empty();
    wait_for("room", Duration::from_secs(20), || {
        client.report(&sent("new", base_ms, number)).is_ok_and(|reply| reply.success).then_some(())
    });
    assert_eq!(server.stop().code(), Some(0));
    server.restart();
    wait_for("room to be set aside", Duration::from_secs(20), || reserve.exists().then_some(()));
    assert_eq!(server.stop().code(), Some(0));
    disk.fill();
    server.restart();
    expect_all(&server, base_ms, number + 1);
    disk.empty();
}

#[test]
fn a_new_server_on_a_full_disk_says_so_and_ends() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let Some(disk) = SmallDisk::mount(&data, "2m") else { return };
    disk.fill();
    let config = dir.path().join("server.toml");
    std::fs::write(&config, format!("data_dir = {:?}\n", data.display().to_string())).unwrap();
    let out = std::process::Command::new(crate::support::server::program())
        .arg(&config)
        .output()
        .expect("the program runs");
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(5), "{said}");
    assert!(said.contains("full"), "{said}");
}
