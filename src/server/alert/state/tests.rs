#![allow(clippy::unwrap_used)]
use super::*;
use proptest::prelude::*;

const POLICY: Policy =
    Policy { hold_ms: 300, repeat_ms: 600, refire_ms: i64::MAX, keep_firing_ms: 0 };

fn input(at_ms: i64, condition: Condition) -> Input {
    Input { at_ms, condition, severity: Severity::Warning, since_ms: None }
}

fn run(policy: Policy, inputs: &[(i64, Condition)]) -> (State, Vec<Action>) {
    let mut state = State::NEW;
    let actions = inputs.iter().map(|(at, condition)| state.step(policy, input(*at, *condition)));
    let actions = actions.collect();
    (state, actions)
}

use Condition::{Between, Breach, Clear, Unknown};

#[test]
fn it_fires_when_every_point_of_the_time_breaches() {
    let (_, actions) = run(POLICY, &[(0, Breach), (100, Breach), (299, Breach), (300, Breach)]);
    let fire = Action::Fire { notify: true };
    assert_eq!(actions, [Action::Keep, Action::Nothing, Action::Nothing, fire]);
    let (state, actions) = run(POLICY, &[(0, Breach), (200, Clear), (250, Breach), (549, Breach)]);
    assert_eq!(actions, [Action::Keep, Action::Keep, Action::Keep, Action::Nothing]);
    assert_eq!((state.phase, state.since_ms), (Phase::Pending, 250));
}

#[test]
fn without_a_duration_the_first_point_fires_and_it_fires_once() {
    let policy = Policy { hold_ms: 0, repeat_ms: 0, ..POLICY };
    let (_, actions) =
        run(policy, &[(0, Breach), (1, Breach), (2, Breach), (3, Clear), (4, Clear)]);
    let (fire, resolve) = (Action::Fire { notify: true }, Action::Resolve { notify: true });
    assert_eq!(actions, [fire, Action::Nothing, Action::Nothing, resolve, Action::Nothing]);
}

#[test]
fn between_neither_starts_nor_ends_it() {
    let policy = Policy { hold_ms: 0, repeat_ms: 0, ..POLICY };
    let (state, actions) = run(policy, &[(0, Between), (1, Breach), (2, Between), (3, Unknown)]);
    let nothing = Action::Nothing;
    assert_eq!(actions, [nothing, Action::Fire { notify: true }, nothing, nothing]);
    assert_eq!(state.phase, Phase::Firing);
    let (state, _) = run(POLICY, &[(0, Breach), (1, Between)]);
    assert_eq!(state.phase, Phase::Ok);
}

#[test]
fn flapping_is_told_once_within_the_silence_and_then_when_it_goes_on() {
    let policy = Policy { hold_ms: 0, ..POLICY };
    let points = [(0, Breach), (10, Clear), (20, Breach), (30, Clear), (40, Breach), (599, Breach)];
    let (mut state, actions) = run(policy, &points);
    let (silent, quiet) = (Action::Fire { notify: false }, Action::Resolve { notify: false });
    let loud = [Action::Fire { notify: true }, Action::Resolve { notify: true }];
    assert_eq!(actions[..2], loud);
    assert_eq!(actions[2..], [silent, quiet, silent, Action::Nothing]);
    assert_eq!(state.step(policy, input(600, Breach)), Action::Notify);
    assert_eq!(state.step(policy, input(700, Breach)), Action::Nothing);
    assert_eq!(state.step(policy, input(800, Clear)), Action::Resolve { notify: true });
}

#[test]
fn what_becomes_graver_is_told_in_spite_of_the_silence() {
    let policy = Policy { hold_ms: 0, ..POLICY };
    let (mut state, _) = run(policy, &[(0, Breach)]);
    let critical = Input { severity: Severity::Critical, ..input(10, Breach) };
    assert_eq!(state.step(policy, critical), Action::Escalate);
    assert_eq!(state.step(policy, Input { at_ms: 20, ..critical }), Action::Nothing);
    assert_eq!(state.step(policy, input(30, Breach)), Action::Nothing);
    assert_eq!(state.severity, Severity::Critical);
}

#[test]
fn one_that_was_closed_by_hand_stays_quiet_until_it_is_clear() {
    let policy = Policy { hold_ms: 0, ..POLICY };
    let (mut state, _) = run(policy, &[(0, Breach)]);
    assert!(state.close(10));
    assert_eq!(state.step(policy, input(20, Breach)), Action::Nothing);
    let mut again = state;
    assert_eq!(again.step(policy, input(610, Breach)), Action::Fire { notify: true });
    assert_eq!(state.step(policy, input(30, Clear)), Action::Keep);
    assert_eq!(state.phase, Phase::Ok);
}

#[test]
fn a_late_good_point_interrupts_what_was_pending() {
    let (mut state, _) = run(POLICY, &[(0, Breach), (200, Breach)]);
    assert!(!state.interrupt(-1));
    assert!(state.interrupt(100));
    assert_eq!(state.step(POLICY, input(300, Breach)), Action::Nothing);
    assert_eq!(state.step(POLICY, input(500, Breach)), Action::Fire { notify: true });
}

#[test]
fn after_a_notified_recovery_the_next_firing_waits_for_refire_at_most() {
    let policy = Policy { hold_ms: 0, repeat_ms: 86_400_000, refire_ms: 600_000, ..POLICY };
    let (mut state, actions) = run(policy, &[(0, Breach), (1_000, Clear), (2_000, Breach)]);
    assert_eq!(actions[2], Action::Fire { notify: false });
    assert_eq!(state.step(policy, input(600_999, Breach)), Action::Nothing);
    assert_eq!(state.step(policy, input(601_000, Breach)), Action::Notify);
}

#[test]
fn keep_firing_damps_what_flaps() {
    let policy = Policy { hold_ms: 0, repeat_ms: 0, keep_firing_ms: 100, ..POLICY };
    let points = [(0, Breach), (10, Clear), (90, Clear), (100, Breach), (110, Clear), (209, Clear)];
    let (mut state, actions) = run(policy, &points);
    assert_eq!(actions[1..], [Action::Nothing; 5]);
    assert_eq!(state.step(policy, input(210, Clear)), Action::Resolve { notify: true });
}

#[test]
fn a_gap_of_several_intervals_starts_the_duration_again() {
    let policy = Policy { hold_ms: 300_000, ..POLICY };
    let (_, actions) = run(policy, &[(0, Breach), (3_600_000, Breach)]);
    assert_eq!(actions, [Action::Keep, Action::Keep]);
    let mut points: Vec<(i64, Condition)> = (0..20).map(|n| (n * 10_000, Breach)).collect();
    points.push((400_000, Breach));
    let (mut state, actions) = run(policy, &points);
    assert_eq!(actions[20], Action::Keep, "210 s are missing");
    assert_eq!(state.since_ms, 400_000);
    for at in (410..=690).step_by(10) {
        assert_eq!(state.step(policy, input(at * 1_000, Breach)), Action::Nothing, "{at}");
    }
    assert_eq!(state.step(policy, input(700_000, Breach)), Action::Fire { notify: true });
    // A series that reports every ten minutes has no gaps.
    let slow: Vec<(i64, Condition)> = (0..3).map(|n| (n * 600_000, Breach)).collect();
    assert_eq!(run(policy, &slow).1[2], Action::Fire { notify: true });
}

proptest! {
    #[test]
    fn it_never_fires_twice_without_an_end(
        hold_ms in 0_i64..50,
        repeat_ms in 0_i64..100,
        steps in prop::collection::vec((0_i64..30, 0..5_u8, 0..3_usize), 1..200),
    ) {
        let policy = Policy { hold_ms, repeat_ms, ..POLICY };
        let (mut state, mut now, mut open, mut notified) = (State::NEW, 0, false, false);
        let mut breaching_since: Option<i64> = None;
        for (pause, kind, severity) in steps {
            now += pause;
            if kind == 4 {
                if state.phase == Phase::Firing {
                    prop_assert_eq!(state.close(now), notified);
                    (open, notified) = (false, false);
                }
                continue;
            }
            let condition = [Unknown, Clear, Between, Breach][usize::from(kind)];
            match condition {
                Breach => breaching_since = breaching_since.or(Some(now)),
                Clear | Between => breaching_since = None,
                Unknown => {}
            }
            let before = state.phase;
            let severity = Severity::ALL[severity];
            let action = state.step(policy, Input { severity, ..input(now, condition) });
            match action {
                Action::Fire { notify } => {
                    prop_assert!(!open, "it fired while it was firing");
                    prop_assert!(condition == Breach);
                    if before != Phase::Closed {
                        prop_assert!(now - breaching_since.unwrap() >= hold_ms);
                    }
                    (open, notified) = (true, notify);
                }
                Action::Resolve { notify } => {
                    prop_assert!(open && condition == Clear);
                    prop_assert_eq!(notify, notified, "a recovery goes to whoever received the firing");
                    (open, notified) = (false, false);
                }
                Action::Notify | Action::Escalate => {
                    prop_assert!(open);
                    prop_assert!(action == Action::Escalate || !notified, "notified twice");
                    notified = true;
                }
                Action::Nothing => prop_assert_eq!(before, state.phase),
                Action::Keep => prop_assert_ne!(before, state.phase),
            }
            prop_assert_eq!(open, state.phase == Phase::Firing);
        }
    }
}
