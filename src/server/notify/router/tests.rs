//! Whatever happens to alerts in whatever order, what is notified ends with what is true.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use proptest::prelude::*;
use rusqlite::Connection;

use super::*;
use crate::base::clock::{DAY_MS, HOUR_MS};
use crate::model::alert::AlertStatus;
use crate::model::series::Labels;
use crate::server::control::notify::silence::SilenceRow;
use crate::server::control::notify::{SCHEMA, SCHEMA_2, SCHEMA_SILENCES};

#[derive(Debug, Clone)]
enum Op {
    Fire(usize, Severity),
    Recover(usize),
    Advance(i64),
}

/// Alerts of one rule and mostly of one severity, in steps that are parts of the aggregation
/// window: so that groups overlap.
fn ops() -> impl Strategy<Value = Vec<Op>> {
    let severity = prop_oneof![1 => Just(Severity::Warning), 4 => Just(Severity::Critical)];
    let op = prop_oneof![
        3 => (0..8_usize, severity).prop_map(|(alert, severity)| Op::Fire(alert, severity)),
        3 => (0..8_usize).prop_map(Op::Recover),
        4 => prop_oneof![50 => 5..25_i64, 1 => 0..7_200_i64].prop_map(Op::Advance),
    ];
    prop::collection::vec(op, 1..120)
}

fn event(alert: usize, severity: Severity, number: usize, now_ms: i64) -> AlertEvent {
    AlertEvent {
        id: format!("event-{number}"),
        rule_id: "rule".to_owned(),
        rule_name: "Rule".to_owned(),
        agent_id: format!("web-{alert}"),
        metric_name: "m".to_owned(),
        severity,
        message: String::new(),
        labels: Labels::none(),
        value: 1.0,
        threshold: 0.0,
        timestamp_ms: now_ms,
        predicted_breach_ms: None,
        first_triggered_at_ms: now_ms,
        status: AlertStatus::Firing,
        resolved_at_ms: None,
        facts: None,
    }
}

struct Bench<'a> {
    tx: Transaction<'a>,
    routing: Routing,
    now_ms: i64,
}

impl<'a> Bench<'a> {
    fn new(db: &'a mut Connection, window_ms: i64, silence: bool) -> Self {
        db.execute_batch(SCHEMA).unwrap();
        db.execute_batch(SCHEMA_2).unwrap();
        db.execute_batch(SCHEMA_SILENCES).unwrap();
        let tx = db.transaction().unwrap();
        let channel = ChannelRow {
            id: "c".to_owned(),
            name: "c".to_owned(),
            channel_type: "webhook".to_owned(),
            description: None,
            min_severity: Severity::Info,
            enabled: true,
            config_json: "{}".to_owned(),
            recipients: Vec::new(),
            created_at: 0,
            updated_at: 0,
        };
        channels::put(&tx, &channel).unwrap();
        let window = SilenceRow {
            id: "w".to_owned(),
            start_time: "00:40".to_owned(),
            end_time: "00:50".to_owned(),
            recurrence: Some("daily".to_owned()),
            agent_pattern: Some("web-[0-5]".to_owned()),
            ..SilenceRow::default()
        };
        if silence {
            self::silence::insert(&tx, &window).unwrap();
        }
        let routing = Routing { window_ms, deliver_within_ms: DAY_MS, zone: TimeZone::UTC };
        // 00:30 of some day: the silence window is ten minutes ahead.
        Self { tx, routing, now_ms: 20_000 * DAY_MS + HOUR_MS / 2 }
    }

    fn advance(&mut self, secs: i64) {
        self.now_ms += secs * 1_000;
        self.routing.route(&self.tx, self.now_ms).unwrap();
    }

    fn note(&self, event: &AlertEvent, kind: Kind) {
        let done = match kind {
            Kind::Resolved => self.routing.recover(&self.tx, event, self.now_ms),
            _ => self.routing.fire(&self.tx, event, self.now_ms),
        };
        done.unwrap();
    }

    /// What the channel is notified of each agent, in order.
    fn told(&self) -> BTreeMap<String, Vec<Kind>> {
        let sql = "SELECT n.kind, n.events FROM outbox o
                   JOIN notifications n ON n.id = o.notification_id ORDER BY o.id";
        let mut query = self.tx.prepare(sql).unwrap();
        let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        let mut told: BTreeMap<String, Vec<Kind>> = BTreeMap::new();
        for row in rows {
            let (kind, events): (String, String) = row.unwrap();
            let items: Vec<AlertEvent> = serde_json::from_str(&events).unwrap();
            for item in items {
                told.entry(item.agent_id).or_default().push(Kind::from_name(&kind));
            }
        }
        told
    }
}

proptest! {
    #[test]
    fn what_is_told_ends_with_what_is_true(
        ops in ops(),
        window in prop_oneof![1 => Just(0_i64), 3 => Just(60_000)],
        silence: bool,
    ) {
        let mut db = Connection::open_in_memory().unwrap();
        let mut bench = Bench::new(&mut db, window, silence);
        let mut firing: BTreeMap<usize, Severity> = BTreeMap::new();
        for (number, op) in ops.into_iter().enumerate() {
            match op {
                Op::Fire(alert, severity) => {
                    bench.note(&event(alert, severity, number, bench.now_ms), Kind::Firing);
                    firing.insert(alert, severity);
                }
                Op::Recover(alert) => {
                    let Some(severity) = firing.remove(&alert) else { continue };
                    bench.note(&event(alert, severity, number, bench.now_ms), Kind::Resolved);
                }
                Op::Advance(secs) => bench.advance(secs),
            }
        }
        // Every window and every group has ended after this.
        for _ in 0..30 {
            bench.advance(3_600);
        }
        prop_assert_eq!(outbox::depth(&bench.tx).unwrap().1, 0, "nothing waits for ever");
        let told = bench.told();
        for alert in 0..8 {
            let told = told.get(&format!("web-{alert}")).cloned().unwrap_or_default();
            let last = told.last();
            if firing.contains_key(&alert) {
                prop_assert_eq!(last, Some(&Kind::Firing), "{} fires: {:?}", alert, told);
            } else {
                prop_assert_ne!(last, Some(&Kind::Firing), "{} has ended: {:?}", alert, told);
            }
            prop_assert_ne!(told.first(), Some(&Kind::Resolved), "a recovery of nothing");
            let twice = told.windows(2).any(|two| two == [Kind::Resolved, Kind::Resolved]);
            prop_assert!(!twice, "{}: {:?}", alert, told);
        }
    }
}
