use super::{LIMITS, Memory, query};
use crate::server::promql::eval::Steps;
use crate::server::promql::parse::parse;
use crate::server::promql::value::is_absent;

/// The answer to a range query from 0 s on: one series a line, `_` where it has no value.
fn ask(memory: &Memory, text: &str, step_secs: i64, count: usize) -> String {
    let expr = parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    let steps = Steps { start_ms: 0, step_ms: step_secs * 1_000, count };
    let found = match query(memory, LIMITS).range(&expr, steps, steps.time(steps.count - 1)) {
        Ok(found) => found,
        Err(error) => return format!("error: {error}"),
    };
    let value = |value: &f64| if is_absent(*value) { "_".to_owned() } else { value.to_string() };
    let line = |row: &crate::server::promql::eval::Row| {
        let values: Vec<String> = row.values.iter().map(value).collect();
        format!("{} {}", row.labels, values.join(" "))
    };
    found.rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_series_ends_five_minutes_after_its_last_sample() {
    let memory = Memory::default().with("g", "1 2");
    assert_eq!(ask(&memory, "g", 100, 5), "g{} 1 2 2 2 _");
    // Open on the left: at 310 s the sample of 10 s is too old by a hair.
    assert_eq!(ask(&memory, "g", 310, 2), "g{} 1 _");
    assert_eq!(ask(&memory, "g offset 1m", 100, 5), "g{} _ 2 2 2 _");
}

#[test]
fn every_step_has_its_own_window() {
    let memory = Memory::default().with("c", "0 1 2 3 4 5 6").with("d", "0 1 _ _ 4 0 1");
    assert_eq!(ask(&memory, "count_over_time(c[20s])", 10, 9), "{} 1 2 2 2 2 2 2 1 _");
    assert_eq!(ask(&memory, "increase(c[20s])", 20, 4), "{} _ 2 2 2");
    assert_eq!(ask(&memory, "sum_over_time(d[20s])", 10, 7), "{} 0 1 1 _ 4 4 1");
    assert_eq!(ask(&memory, "sum(c) + sum(d)", 20, 4), "{} 0 3 8 7");
    assert_eq!(ask(&memory, "c > 2", 20, 4), "c{} _ _ 4 6");
    assert_eq!(ask(&memory, "topk(1, {__name__=~\"c|d\"})", 10, 2), "c{} 0 1");
    assert_eq!(ask(&memory, "c @ end()", 20, 4), "c{} 6 6 6 6");
    assert_eq!(ask(&memory, "c @ start()", 20, 4), "c{} 0 0 0 0");
    assert_eq!(ask(&memory, "time()", 20, 3), "{} 0 20 40");
    assert_eq!(ask(&memory, "absent(c offset 5m)", 100, 4), "{} 1 1 1 _");
    assert_eq!(ask(&memory, "max_over_time(c[20s:10s])", 20, 4), "{} 0 2 4 6");
    assert!(ask(&memory, "c[20s]", 20, 4).contains("invalid expression type"));
}

#[test]
fn series_of_two_sides_meet_step_by_step() {
    // The side with one has two series, but never both at the same step.
    let memory = Memory::default()
        .with("m{a=\"1\"}", "1 1 1 1 1 1 1")
        .with("o{b=\"x\"}", "10")
        .with("o{b=\"y\"}", "_ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ 20");
    let found = ask(&memory, "last_over_time(m[10m]) * on () group_left (b) o", 310, 2);
    assert_eq!(found, "{a=\"1\", b=\"x\"} 10 _\n{a=\"1\", b=\"y\"} _ 20");
    let found = ask(&memory, "last_over_time(m[10m]) * on () group_left () o", 310, 2);
    assert_eq!(found, "{a=\"1\"} 10 20");
}
