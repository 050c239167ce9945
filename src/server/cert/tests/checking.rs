//! What becomes of a check's result, whatever the store and the database say.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::looking::prober;
use super::{EC, Made, Tls, free_port};
use crate::base::clock::{Clock, DAY_MS, ManualClock, SystemClock};
use crate::base::limits::CERT_CHECKS_PER_DOMAIN_MAX;
use crate::model::point::Batch;
use crate::rt::stop::StopSource;
use crate::server::cert::board::Ended;
use crate::server::cert::checker::{Checker, Submit};
use crate::server::cert::metrics::Metrics;
use crate::server::control::Control;
use crate::server::control::certs::checks::{self, CertificateFilter, CheckRow};
use crate::server::control::certs::{self, DomainRow};
use crate::server::storage::{Page, Refused, RefusedWhy, StorageError, Stored};

const ALL: Page = Page { limit: 1_000, offset: 0 };

struct Scene {
    _made: Made,
    _dir: tempfile::TempDir,
    _server: Tls,
    _stop: StopSource,
    control: Control,
    clock: Arc<ManualClock>,
    checker: Checker,
}

impl Scene {
    /// The domain `a` on a real TLS server, and a store that does as `submit` says.
    fn new(submit: Submit) -> Self {
        let made = Made::new();
        let pem = made.certificate("a", EC, "9", &["subjectAltName=DNS:a.example"]);
        let port = free_port();
        let server = Tls::start(&pem, "127.0.0.1", port);
        let dir = tempfile::tempdir().unwrap();
        let control = Control::open(dir.path()).unwrap();
        let row = DomainRow {
            id: "a".to_owned(),
            domain: "a.example".to_owned(),
            port: port.into(),
            enabled: true,
            check_interval_secs: None,
            note: None,
            starttls: None,
            last_checked_at: None,
            created_at: 0,
            updated_at: 0,
        };
        control
            .write(move |tx| -> Result<_, StorageError> { Ok(certs::insert(tx, &row)?) })
            .unwrap();
        let (stop, clock) = (StopSource::new(), ManualClock::at(SystemClock.now_ms()));
        let checker = Checker {
            prober: prober(Some(&pem), &["127.0.0.1"], Duration::from_secs(20), stop.stop()),
            submit,
            explain: Arc::new(|_, _| ()),
            control: control.clone(),
            clock: Arc::clone(&clock) as _,
            keep_ms: 7 * DAY_MS,
            metrics: Metrics::register(&prometheus::Registry::new()).unwrap(),
        };
        let (made, server) = (made, server);
        Self { _made: made, _dir: dir, _server: server, _stop: stop, control, clock, checker }
    }

    fn history(&self) -> Vec<CheckRow> {
        self.control.read(|db| checks::history(db, "a", ALL)).unwrap().items
    }

    fn due(&self) -> bool {
        let now_secs = self.clock.now_ms() / 1_000;
        !self.control.read(|db| certs::due(db, now_secs, 86_400, 9)).unwrap().is_empty()
    }
}

fn taken(batches: &Arc<Mutex<Vec<Batch>>>) -> Submit {
    let batches = Arc::clone(batches);
    Arc::new(move |batch, ack| {
        batches.lock().unwrap().push(batch);
        ack(Ok(Stored::default()));
        Ok(())
    })
}

#[test]
fn a_result_becomes_points_a_row_of_history_and_the_newest_certificate() {
    let batches: Arc<Mutex<Vec<Batch>>> = Arc::default();
    let scene = Scene::new(taken(&batches));
    let Some(Ended::Done(check)) = scene.checker.check("a") else { panic!("a result") };
    assert!(check.is_valid, "{check:?}");
    let batch = batches.lock().unwrap()[0].clone();
    assert_eq!(batch.agent_id.as_ref(), "cert-checker");
    let port = check_port(&scene);
    for (point, (metric, value)) in batch
        .points
        .iter()
        .zip([("certificate.days_until_expiry", 8.0), ("certificate.is_valid", 1.0)])
    {
        assert_eq!((point.metric.as_ref(), point.value), (metric, value));
        assert_eq!(point.labels.get("domain"), Some("a.example"));
        assert_eq!(point.labels.get("port"), Some(port.as_str()));
        assert_eq!(point.timestamp_ms, scene.clock.now_ms());
    }
    assert_eq!(scene.history(), [(*check).clone()]);
    assert!(!scene.due());
    let found =
        scene.control.read(|db| checks::certificates(db, &CertificateFilter::default(), ALL));
    let first = found.unwrap().items.remove(0);
    scene.clock.advance(DAY_MS);
    assert!(scene.due());
    assert!(matches!(scene.checker.check("a"), Some(Ended::Done(_))));
    let again = scene.control.read(|db| checks::certificate(db, "a.example")).unwrap().unwrap();
    assert_eq!((&again.id, again.created_at), (&first.id, first.created_at), "one row a domain");
    assert_eq!(again.last_checked_ms, scene.clock.now_ms());
}

fn check_port(scene: &Scene) -> String {
    let row = scene.control.read(|db| certs::get(db, "a")).unwrap().unwrap();
    row.port.to_string()
}

#[test]
fn a_full_queue_is_waited_for() {
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&tries);
    let scene = Scene::new(Arc::new(move |_, ack| {
        if counted.fetch_add(1, Ordering::SeqCst) < 2 {
            return Err(Refused { ack, error: RefusedWhy::QueueFull });
        }
        ack(Ok(Stored::default()));
        Ok(())
    }));
    assert!(matches!(scene.checker.check("a"), Some(Ended::Done(_))));
    assert_eq!(tries.load(Ordering::SeqCst), 3);
}

#[test]
fn a_result_that_the_store_does_not_take_is_said_and_stays_due() {
    let scene = Scene::new(Arc::new(|_, ack| {
        ack(Err(StorageError::DiskFull));
        Ok(())
    }));
    assert!(matches!(scene.checker.check("a"), Some(Ended::NotStored)));
    assert_eq!(scene.checker.metrics.not_stored.get(), 1);
    assert!(scene.due() && scene.history().is_empty());
    let stopping = Scene::new(Arc::new(|_, ack| Err(Refused { ack, error: RefusedWhy::Stopping })));
    assert!(matches!(stopping.checker.check("a"), Some(Ended::NotStored)));
    assert!(stopping.due());
}

#[test]
fn a_domain_that_goes_or_moves_during_its_check_gets_no_result() {
    let control: Arc<Mutex<Option<Control>>> = Arc::default();
    let moved = Arc::clone(&control);
    let scene = Scene::new(Arc::new(move |_, ack| {
        let control = moved.lock().unwrap().clone().unwrap();
        let sql = "UPDATE cert_domains SET port = port + 1, state = 'new' WHERE id = 'a'";
        let changed =
            control.write(move |tx| -> Result<_, StorageError> { Ok(tx.execute(sql, [])?) });
        assert_eq!(changed.unwrap(), 1);
        ack(Ok(Stored::default()));
        Ok(())
    }));
    *control.lock().unwrap() = Some(scene.control.clone());
    assert!(scene.checker.check("a").is_none());
    assert!(scene.history().is_empty() && scene.due());
    assert!(matches!(scene.checker.check("b"), Some(Ended::Gone)));
}

#[test]
fn history_ends_with_the_retention_and_at_its_number() {
    let batches: Arc<Mutex<Vec<Batch>>> = Arc::default();
    let scene = Scene::new(taken(&batches));
    assert!(matches!(scene.checker.check("a"), Some(Ended::Done(_))));
    // As many again as may be kept, a millisecond apart, six days ago.
    let sql = format!(
        "WITH RECURSIVE count(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM count
           WHERE n < {CERT_CHECKS_PER_DOMAIN_MAX})
         INSERT INTO cert_checks (id, domain_id, is_valid, chain_valid, addresses, checked_at_ms)
         SELECT printf('old-%06d', n), 'a', 1, 1, '[]', {} + n FROM count",
        scene.clock.now_ms() - 6 * DAY_MS
    );
    scene
        .control
        .write(move |tx| -> Result<_, StorageError> { Ok(tx.execute(&sql, [])?) })
        .unwrap();
    let total =
        |scene: &Scene| scene.control.read(|db| checks::history(db, "a", ALL)).unwrap().total;
    assert_eq!(total(&scene), CERT_CHECKS_PER_DOMAIN_MAX.unsigned_abs() + 1);
    scene.clock.advance(DAY_MS / 2);
    assert!(matches!(scene.checker.check("a"), Some(Ended::Done(_))));
    assert_eq!(total(&scene), CERT_CHECKS_PER_DOMAIN_MAX.unsigned_abs());
    scene.clock.advance(7 * DAY_MS + DAY_MS / 4);
    assert!(matches!(scene.checker.check("a"), Some(Ended::Done(_))));
    assert_eq!(total(&scene), 1, "what is past the retention went");
}
