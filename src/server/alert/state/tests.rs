#![allow(clippy::unwrap_used)]
use super::*;
use proptest::prelude::*;

const POLICY: Policy = Policy { hold_ms: 300, silence_ms: 600 };

fn input(at_ms: i64, verdict: Verdict) -> Input {
    Input { at_ms, verdict, severity: Severity::Warning, since_ms: None }
}

fn run(policy: Policy, inputs: &[(i64, Verdict)]) -> (State, Vec<Action>) {
    let mut state = State::NEW;
    let actions = inputs.iter().map(|(at, verdict)| state.step(policy, input(*at, *verdict)));
    let actions = actions.collect();
    (state, actions)
}

use Verdict::{Between, Breach, Clear, Unknown};

#[test]
fn it_fires_when_every_point_of_the_time_breaches() {
    let (_, actions) = run(POLICY, &[(0, Breach), (100, Breach), (299, Breach), (300, Breach)]);
    let fire = Action::Fire { tell: true };
    assert_eq!(actions, [Action::Keep, Action::Nothing, Action::Nothing, fire]);
    let (state, actions) = run(POLICY, &[(0, Breach), (200, Clear), (250, Breach), (549, Breach)]);
    assert_eq!(actions, [Action::Keep, Action::Keep, Action::Keep, Action::Nothing]);
    assert_eq!((state.phase, state.since_ms), (Phase::Pending, 250));
}

#[test]
fn without_a_duration_the_first_point_fires_and_it_fires_once() {
    let policy = Policy { hold_ms: 0, silence_ms: 0 };
    let (_, actions) =
        run(policy, &[(0, Breach), (1, Breach), (2, Breach), (3, Clear), (4, Clear)]);
    let (fire, resolve) = (Action::Fire { tell: true }, Action::Resolve { tell: true });
    assert_eq!(actions, [fire, Action::Nothing, Action::Nothing, resolve, Action::Nothing]);
}

#[test]
fn between_neither_starts_nor_ends_it() {
    let policy = Policy { hold_ms: 0, silence_ms: 0 };
    let (state, actions) = run(policy, &[(0, Between), (1, Breach), (2, Between), (3, Unknown)]);
    let nothing = Action::Nothing;
    assert_eq!(actions, [nothing, Action::Fire { tell: true }, nothing, nothing]);
    assert_eq!(state.phase, Phase::Firing);
    let (state, _) = run(POLICY, &[(0, Breach), (1, Between)]);
    assert_eq!(state.phase, Phase::Ok);
}

#[test]
fn flapping_is_told_once_within_the_silence_and_then_when_it_goes_on() {
    let policy = Policy { hold_ms: 0, silence_ms: 600 };
    let points = [(0, Breach), (10, Clear), (20, Breach), (30, Clear), (40, Breach), (599, Breach)];
    let (mut state, actions) = run(policy, &points);
    let (silent, quiet) = (Action::Fire { tell: false }, Action::Resolve { tell: false });
    let loud = [Action::Fire { tell: true }, Action::Resolve { tell: true }];
    assert_eq!(actions[..2], loud);
    assert_eq!(actions[2..], [silent, quiet, silent, Action::Nothing]);
    assert_eq!(state.step(policy, input(600, Breach)), Action::Tell);
    assert_eq!(state.step(policy, input(700, Breach)), Action::Nothing);
    assert_eq!(state.step(policy, input(800, Clear)), Action::Resolve { tell: true });
}

#[test]
fn what_becomes_graver_is_told_in_spite_of_the_silence() {
    let policy = Policy { hold_ms: 0, silence_ms: 600 };
    let (mut state, _) = run(policy, &[(0, Breach)]);
    let critical = Input { severity: Severity::Critical, ..input(10, Breach) };
    assert_eq!(state.step(policy, critical), Action::Escalate);
    assert_eq!(state.step(policy, Input { at_ms: 20, ..critical }), Action::Nothing);
    assert_eq!(state.step(policy, input(30, Breach)), Action::Nothing);
    assert_eq!(state.severity, Severity::Critical);
}

#[test]
fn one_that_was_closed_by_hand_stays_quiet_until_it_is_clear() {
    let policy = Policy { hold_ms: 0, silence_ms: 600 };
    let (mut state, _) = run(policy, &[(0, Breach)]);
    assert!(state.close(10));
    assert_eq!(state.step(policy, input(20, Breach)), Action::Nothing);
    let mut again = state;
    assert_eq!(again.step(policy, input(610, Breach)), Action::Fire { tell: true });
    assert_eq!(state.step(policy, input(30, Clear)), Action::Keep);
    assert_eq!(state.phase, Phase::Ok);
}

#[test]
fn a_late_good_point_interrupts_what_was_pending() {
    let (mut state, _) = run(POLICY, &[(0, Breach), (200, Breach)]);
    assert!(!state.interrupt(-1));
    assert!(state.interrupt(100));
    assert_eq!(state.step(POLICY, input(300, Breach)), Action::Nothing);
    assert_eq!(state.step(POLICY, input(500, Breach)), Action::Fire { tell: true });
}

proptest! {
    #[test]
    fn it_never_fires_twice_without_an_end(
        hold_ms in 0_i64..50,
        silence_ms in 0_i64..100,
        steps in prop::collection::vec((0_i64..30, 0..5_u8, 0..3_usize), 1..200),
    ) {
        let policy = Policy { hold_ms, silence_ms };
        let (mut state, mut now, mut open, mut told) = (State::NEW, 0, false, false);
        let mut breaching_since: Option<i64> = None;
        for (pause, kind, severity) in steps {
            now += pause;
            if kind == 4 {
                if state.phase == Phase::Firing {
                    prop_assert_eq!(state.close(now), told);
                    (open, told) = (false, false);
                }
                continue;
            }
            let verdict = [Unknown, Clear, Between, Breach][usize::from(kind)];
            match verdict {
                Breach => breaching_since = breaching_since.or(Some(now)),
                Clear | Between => breaching_since = None,
                Unknown => {}
            }
            let before = state.phase;
            let severity = Severity::ALL[severity];
            let action = state.step(policy, Input { severity, ..input(now, verdict) });
            match action {
                Action::Fire { tell } => {
                    prop_assert!(!open, "it fired while it was firing");
                    prop_assert!(verdict == Breach);
                    if before != Phase::Closed {
                        prop_assert!(now - breaching_since.unwrap() >= hold_ms);
                    }
                    (open, told) = (true, tell);
                }
                Action::Resolve { tell } => {
                    prop_assert!(open && verdict == Clear);
                    prop_assert_eq!(tell, told, "a recovery goes to whoever heard of the firing");
                    (open, told) = (false, false);
                }
                Action::Tell | Action::Escalate => {
                    prop_assert!(open);
                    prop_assert!(action == Action::Escalate || !told, "told twice");
                    told = true;
                }
                Action::Nothing => prop_assert_eq!(before, state.phase),
                Action::Keep => prop_assert_ne!(before, state.phase),
            }
            prop_assert_eq!(open, state.phase == Phase::Firing);
        }
    }
}
