//! Health, a store that can't keep up, and the end.

use crossbeam_channel::{Receiver, bounded};

use super::*;
use crate::server::storage::{Observer, SampleSet};
use crate::wire::pb::health::HealthCheckRequest;
use crate::wire::pb::health::health_check_response::ServingStatus;

/// Holds the writer after its commit until the other end of the channel goes.
struct Held(Receiver<()>);

impl Observer for Held {
    fn stored(&self, _: &str, _: Vec<SampleSet>) {
        let _ = self.0.recv();
    }
}

fn numbered(number: usize) -> MetricBatchProto {
    batch("busy", vec![point(&format!("m{number}"), 1.0)])
}

#[test]
fn health_is_told_of_what_is_served() {
    let bench = Bench::start(|_| {});
    let ask = |service: &str| {
        let mut request = HealthCheckRequest::new();
        request.service = service.to_owned();
        bench.health().check_opt(&request, options(&[])).map_err(|e| status_of(e).code())
    };
    for service in ["", "oxmon.MetricService"] {
        let status = ask(service).unwrap().status.enum_value();
        assert_eq!(status, Ok(ServingStatus::SERVING), "{service}");
    }
    assert_eq!(ask("other").unwrap_err(), RpcStatusCode::NOT_FOUND);
    bench.intake.stop();
    assert_eq!(ask("").unwrap().status.enum_value(), Ok(ServingStatus::NOT_SERVING));
    let refused = bench.report(&numbered(0)).unwrap_err();
    assert_eq!(refused, RpcStatusCode::UNAVAILABLE);
}

#[test]
fn a_full_queue_sends_agents_away_and_loses_nothing_that_it_took() {
    let bench = Bench::start(|config| config.pools.storage_queue = 2);
    let (release, held) = bounded(0);
    bench.store.observe(Arc::new(Held(held)));
    let client = bench.client();
    let mut taken = 0;
    let mut refused = None;
    // One is with the writer, two wait; with those that the writer took before it was held there
    // may be more, but soon there is no room.
    wait_until("a refusal", || {
        let call = client.report_metrics_async_opt(&numbered(taken), options(&[])).unwrap();
        match crate::server::ingest::grpc::wait(call, Duration::from_millis(100)) {
            Some(Err(error)) => refused = Some(status_of(error)),
            Some(Ok(reply)) => {
                assert!(reply.success);
                taken += 1;
            }
            None => taken += 1,
        }
        refused.is_some()
    });
    let status = refused.unwrap();
    assert_eq!(status.code(), RpcStatusCode::RESOURCE_EXHAUSTED, "{}", status.message());
    drop(release);
    // The client gave those up that had no answer in time: what was taken is stored all the same.
    wait_until("all that was taken", || bench.latest("busy").len() == taken);
    assert!(bench.report(&numbered(taken)).unwrap().success, "there is room again");
}

#[test]
fn calls_that_wait_when_it_stops_are_answered() {
    let mut bench = Bench::start(|_| {});
    let (release, held) = bounded(0);
    bench.store.observe(Arc::new(Held(held)));
    let client = bench.client();
    let calls: Vec<_> = (0..8)
        .map(|number| client.report_metrics_async_opt(&numbered(number), options(&[])).unwrap())
        .collect();
    // The writer answers before it tells the observer, which then holds it.
    wait_until("all calls at the store", || {
        let (waiting, answered) = bench.intake.progress();
        waiting + answered == 8
    });
    let server = bench.server.take().unwrap();
    let stopping = std::thread::spawn(move || server.stop());
    wait_until("the stop", || !bench.intake.is_serving());
    drop(release);
    for call in calls {
        let reply = crate::server::ingest::grpc::wait(call, Duration::from_secs(20));
        assert!(reply.expect("an answer").unwrap().success);
    }
    stopping.join().unwrap();
    assert_eq!(bench.latest("busy").len(), 8);
}

#[test]
fn a_taken_port_is_named() {
    let bench = Bench::start(|_| {});
    let config = ServerConfig {
        bind: vec!["127.0.0.1".to_owned()],
        grpc_port: bench.port,
        ..ServerConfig::default()
    };
    let fatal =
        GrpcServer::start(&config, Arc::clone(&bench.intake), None, &prometheus::Registry::new())
            .err()
            .unwrap();
    assert_eq!(fatal.exit, crate::base::exit::Exit::PortTaken);
    assert!(fatal.message.contains(&bench.port.to_string()), "{}", fatal.message);
}
