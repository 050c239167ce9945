//! What is due when, by a clock that is moved by hand.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::base::clock::{ManualClock, SECOND_MS};
use crate::server::cert::board::{Board, Ended};
use crate::server::cert::scheduler::Schedule;
use crate::server::control::Control;
use crate::server::control::certs::{self, DomainRow, SEEN, UNSEEN};
use crate::server::storage::StorageError;

const START_MS: i64 = 1_770_625_800_000;
const DAY_SECS: i64 = 86_400;

struct Scene {
    _dir: tempfile::TempDir,
    control: Control,
    clock: Arc<ManualClock>,
    schedule: Schedule,
}

fn domain(id: &str, interval: Option<i64>, enabled: bool) -> DomainRow {
    DomainRow {
        id: id.to_owned(),
        domain: format!("{id}.example"),
        port: 443,
        enabled,
        check_interval_secs: interval,
        note: None,
        starttls: None,
        last_checked_at: None,
        created_at: 0,
        updated_at: 0,
    }
}

impl Scene {
    fn new(max_concurrent: usize, domains: Vec<DomainRow>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let control = Control::open(dir.path()).unwrap();
        let clock = ManualClock::at(START_MS);
        let schedule = Schedule {
            control: control.clone(),
            clock: Arc::clone(&clock) as _,
            board: Arc::new(Board::default()),
            enabled: true,
            is_active: Arc::new(true.into()),
            default_secs: DAY_SECS,
            max_concurrent,
        };
        let scene = Self { _dir: dir, control, clock, schedule };
        scene.write(move |tx| domains.iter().try_for_each(|row| certs::insert(tx, row).map(drop)));
        scene
    }

    fn write(
        &self,
        body: impl FnOnce(&rusqlite::Connection) -> rusqlite::Result<()> + Send + 'static,
    ) {
        self.control.write(move |tx| -> Result<(), StorageError> { Ok(body(tx)?) }).unwrap();
    }

    /// What begins at the next tick, sorted.
    fn tick(&self) -> Vec<String> {
        self.schedule.board.tick();
        let mut next = self.schedule.next();
        next.sort();
        next
    }

    /// Ends a check that began, with a certificate or without.
    fn done(&self, id: &str, state: &'static str) {
        let (row, now_secs) = (self.row(id), self.schedule.clock.now_ms() / SECOND_MS);
        self.write(move |tx| certs::set_checked(tx, &row, state, now_secs).map(drop));
        self.schedule.board.end(id, &Ended::Gone);
    }

    fn row(&self, id: &str) -> DomainRow {
        self.control.read(|db| certs::get(db, id)).unwrap().unwrap()
    }

    fn pass(&self, secs: i64) {
        self.clock.advance(secs * SECOND_MS);
    }
}

#[test]
fn a_domain_is_due_at_once_and_then_by_its_own_interval_or_the_default() {
    let off = domain("off", None, false);
    let scene =
        Scene::new(9, vec![domain("own", Some(600), true), domain("usual", None, true), off]);
    assert_eq!(scene.tick(), ["own", "usual"]);
    assert!(scene.tick().is_empty(), "what is under way is not begun again");
    scene.done("own", SEEN);
    scene.done("usual", SEEN);
    assert!(scene.tick().is_empty());
    scene.pass(599);
    assert!(scene.tick().is_empty());
    scene.pass(1);
    assert_eq!(scene.tick(), ["own"]);
    scene.done("own", SEEN);
    scene.pass(DAY_SECS - 601);
    assert_eq!(scene.tick(), ["own"]);
    scene.pass(1);
    assert_eq!(scene.tick(), ["usual"]);
}

#[test]
fn where_another_server_checks_nothing_is_due_here() {
    let scene = Scene::new(9, vec![domain("a", None, true)]);
    scene.schedule.is_active.store(false, Ordering::Release);
    assert!(scene.tick().is_empty());
    scene.schedule.is_active.store(true, Ordering::Release);
    assert_eq!(scene.tick(), ["a"]);
}

#[test]
fn one_that_shows_nothing_is_due_sooner() {
    let domains = vec![domain("day", None, true), domain("minute", Some(60), true)];
    let scene = Scene::new(9, [domains, vec![domain("short", Some(5), true)]].concat());
    assert_eq!(scene.tick().len(), 3);
    for id in ["day", "minute", "short"] {
        scene.done(id, UNSEEN);
    }
    scene.pass(5);
    assert_eq!(scene.tick(), ["short"]);
    scene.pass(55);
    assert_eq!(scene.tick(), ["minute"]);
    scene.pass(3_539);
    assert!(scene.tick().is_empty());
    scene.pass(1);
    assert_eq!(scene.tick(), ["day"]);
}

#[test]
fn another_port_makes_it_due_and_a_check_of_the_old_one_does_not_count() {
    let scene = Scene::new(9, vec![domain("a", None, true)]);
    assert_eq!(scene.tick(), ["a"]);
    let before = scene.row("a");
    let moved = DomainRow { port: 8443, ..before.clone() };
    scene.write(move |tx| certs::update(tx, &moved));
    scene.write(move |tx| {
        assert!(!certs::set_checked(tx, &before, SEEN, 1)?);
        Ok(())
    });
    scene.schedule.board.again("a");
    assert_eq!(scene.schedule.next(), ["a"]);
    scene.done("a", SEEN);
    assert!(scene.tick().is_empty());
    let noted = DomainRow { note: Some("mine".to_owned()), ..scene.row("a") };
    scene.write(move |tx| certs::update(tx, &noted));
    assert!(scene.tick().is_empty(), "a note changes nothing");
}

#[test]
fn no_more_begin_than_there_are_checkers_and_the_rest_follows() {
    let domains = (0..7).map(|number| domain(&format!("d{number}"), None, true)).collect();
    let scene = Scene::new(3, domains);
    let first = scene.tick();
    assert_eq!(first, ["d0", "d1", "d2"]);
    assert!(scene.schedule.next().is_empty());
    scene.done("d1", SEEN);
    assert_eq!(scene.schedule.next(), ["d3"], "without waiting for a tick");
    let (waiter, _told) = crossbeam_channel::bounded(1);
    scene.schedule.board.ask("d6", true, waiter);
    scene.done("d0", SEEN);
    assert_eq!(scene.schedule.next(), ["d6"], "what people ask for goes first");
    for id in ["d2", "d3", "d6"] {
        scene.done(id, SEEN);
    }
    let mut rest = scene.schedule.next();
    rest.sort();
    assert_eq!(rest, ["d4", "d5"]);
}

#[test]
fn a_clock_that_is_set_back_does_not_put_checks_off() {
    let scene = Scene::new(9, vec![domain("a", None, true)]);
    assert_eq!(scene.tick(), ["a"]);
    scene.done("a", SEEN);
    scene.pass(-30 * DAY_SECS);
    assert_eq!(scene.tick(), ["a"]);
}

#[test]
fn without_the_scheduler_only_what_is_asked_for_begins() {
    let mut scene = Scene::new(9, vec![domain("a", None, true), domain("b", None, false)]);
    scene.schedule.enabled = false;
    assert!(scene.tick().is_empty());
    let (waiter, _told) = crossbeam_channel::bounded(1);
    scene.schedule.board.ask("b", true, waiter);
    assert_eq!(scene.tick(), ["b"]);
}

#[test]
fn a_domain_put_in_by_hand_is_checked_like_any_other() {
    let scene = Scene::new(9, Vec::new());
    scene.write(|tx| {
        tx.execute(
            "INSERT INTO cert_domains (id, domain, port, enabled, created_at, updated_at)
             VALUES ('manual-001', 'example.com', 443, 1, strftime('%s','now'),
                     strftime('%s','now'))",
            [],
        )
        .map(drop)
    });
    assert_eq!(scene.tick(), ["manual-001"]);
}
