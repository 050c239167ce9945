//! What stops, restarts and kills must not change.

use super::*;

const FIRED: &str = "cpu.usage on web is 95, over 90 (rule high-cpu)";

#[test]
fn a_firing_alert_is_told_once_over_a_restart_and_its_recovery_too() {
    let world = World::new(&high_cpu(0));
    let process = world.start(0);
    process.feed(0, 95.0);
    process.feed(10, 96.0);
    assert_eq!(process.alerts.active().len(), 1);
    process.alerts.stop();
    let process = world.start(30);
    assert_eq!(process.alerts.active().len(), 1);
    process.feed(30, 97.0);
    assert_eq!(world.notified(), [FIRED]);
    process.feed(40, 20.0);
    assert!(process.alerts.active().is_empty());
    process.alerts.stop();
    let notified = world.notified();
    assert_eq!(notified.len(), 2);
    assert_eq!(notified[1], "cpu.usage on web is back at 20 after 40s (rule high-cpu)");
    let history = world.store.history();
    let status: Vec<i64> = history.iter().map(|event| event.status as i64).collect();
    assert_eq!(status, [3, 3]);
    assert_eq!(history[0].resolved_at_ms, Some(START + 40_000));
}

#[test]
fn a_firing_alert_is_told_once_over_a_kill() {
    let world = World::new(&high_cpu(0));
    let process = world.start(0);
    process.feed(0, 95.0);
    process.kill();
    let process = world.start(10);
    process.feed(10, 95.0);
    assert_eq!(world.notified(), [FIRED]);
    assert_eq!(process.alerts.active().len(), 1);
    wait_for("the event in the day file", || world.store.history().len() == 1);
}

#[test]
fn a_pending_alert_goes_on_from_where_it_was() {
    let world = World::new(&high_cpu(60));
    let process = world.start(0);
    process.feed(0, 95.0);
    process.feed(30, 95.0);
    process.kill();
    let process = world.start(40);
    process.feed(59, 95.0);
    assert!(world.notified().is_empty());
    process.feed(60, 95.0);
    assert_eq!(world.notified().len(), 1);
    assert_eq!(process.alerts.active()[0].first_triggered_at_ms, START);
}

#[test]
fn a_recovery_that_came_meanwhile_is_told() {
    let world = World::new(&high_cpu(0));
    let process = world.start(0);
    process.feed(0, 95.0);
    process.kill();
    world.store_only(10, 20.0);
    let process = world.start(20);
    assert!(process.alerts.active().is_empty());
    assert_eq!(world.notified().len(), 2);
    process.kill();
    let _third = world.start(30);
    assert_eq!(world.notified().len(), 2, "it notifies once");
}

#[test]
fn points_that_were_stored_and_not_judged_are_judged_at_the_start() {
    let world = World::new(&high_cpu(20));
    let process = world.start(0);
    process.feed(0, 10.0);
    write_watermark(&process.alerts.shared, START);
    process.kill();
    for secs in [10, 20, 30] {
        world.store_only(secs, 95.0);
    }
    let process = world.start(100);
    assert_eq!(world.notified().len(), 1);
    assert_eq!(process.alerts.active()[0].timestamp_ms, START + 30_000);
    process.kill();
    let process = world.start(110);
    assert_eq!((world.notified().len(), process.alerts.active().len()), (1, 1));
}

#[test]
fn a_kill_right_after_the_first_start_hides_nothing() {
    let world = World::new(&high_cpu(0));
    world.start(0).kill();
    world.store_only(10, 95.0);
    let process = world.start(20);
    assert_eq!((world.notified().len(), process.alerts.active().len()), (1, 1));
}

#[test]
fn windows_are_filled_from_history() {
    let rule = "[[alert.rules]]\nname = \"spike\"\ntype = \"rate_of_change\"\n\
        metric = \"cpu.usage\"\nrate_threshold = 50\nwindow_secs = 300\n";
    let world = World::new(rule);
    let process = world.start(0);
    process.feed(0, 20.0);
    process.feed(10, 21.0);
    process.kill();
    let process = world.start(60);
    process.feed(60, 40.0);
    assert_eq!(
        world.notified(),
        ["cpu.usage on web rose by 100% within 5m, from 20 to 40, more than 50% (rule spike)"]
    );
}

#[test]
fn who_does_not_come_back_after_a_restart_is_missed() {
    let rule = "[[alert.rules]]\nname = \"gone\"\ntype = \"no_data\"\nmetric = \"*\"\n\
        duration_secs = 60\n";
    let world = World::new(rule);
    let process = world.start(0);
    process.feed(0, 1.0);
    process.alerts.stop();
    let process = world.start(600);
    process.clock.set(START + 661_000);
    wait_for("the alert", || process.alerts.active().len() == 1);
    assert_eq!(world.notified(), ["web has not reported for 11m 1s, over 1m (rule gone)"]);
    process.kill();
    let process = world.start(700);
    process.feed(700, 1.0);
    assert_eq!(world.notified().len(), 2);
    assert!(process.alerts.active().is_empty());
}

#[test]
fn ten_thousand_alerts_at_once_are_few_transactions() {
    let world = World::new(&high_cpu(0));
    let process = world.start(0);
    for agent in 0..10_000 {
        process.feed_series(&cpu(&format!("web-{agent}")), 1, 95.0);
    }
    process.settle();
    assert_eq!(world.notified().len(), 10_000);
    let commits = world.notifier.commits.load(Ordering::SeqCst);
    assert!(commits <= 200, "{commits} transactions");
    assert_eq!(process.alerts.active().len(), 10_000);
    process.alerts.stop();
    assert_eq!(world.store.history().len(), 10_000);
    let process = world.start(10);
    assert_eq!((process.alerts.active().len(), world.notified().len()), (10_000, 10_000));
}
