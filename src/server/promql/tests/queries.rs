use super::{LIMITS, Memory, ask, query};
use crate::server::promql::eval::Limits;
use crate::server::promql::parse::parse;
use crate::server::promql::{Instant, PromError};

fn memory() -> Memory {
    Memory::default()
        .with("c{agent=\"a\",cpu=\"0\"}", "0 10 20 30 40 50 60 70 80 90 100")
        .with("c{agent=\"a\",cpu=\"1\"}", "0 5 10 15 20 25 30 0 5 10 15")
        .with("g{agent=\"a\"}", "1 2 3 4 5 6 7 8 9 10 11")
        .with("g{agent=\"b\"}", "3 1 4 1 5 9 2 6 5 3 5")
        .with("g{agent=\"gone\"}", "7 7")
        .with("info{agent=\"a\",os=\"linux\"}", "1 1 1 1 1 1 1 1 1 1 1")
        .with("info{agent=\"b\",os=\"bsd\"}", "1 1 1 1 1 1 1 1 1 1 1")
        .with("h_bucket{le=\"0.1\"}", "0 0 0 0 0 0 0 0 0 0 2")
        .with("h_bucket{le=\"1\"}", "0 0 0 0 0 0 0 0 0 0 6")
        .with("h_bucket{le=\"+Inf\"}", "0 0 0 0 0 0 0 0 0 0 10")
}

/// Queries at 100 s with their answers.
const ANSWERS: &[(&str, &str)] = &[
    ("1 + 2 * 3 ^ 2", "19"),
    ("-2 ^ 2", "-4"),
    ("7 % 4 == bool 3", "1"),
    ("1 / 0", "inf"),
    ("time()", "100"),
    ("'text'", "text"),
    ("g", "g{agent=\"a\"} 11\ng{agent=\"b\"} 5\ng{agent=\"gone\"} 7"),
    ("g{agent=\"a\"}", "g{agent=\"a\"} 11"),
    ("g{agent=~\"a|b\"} > 5", "g{agent=\"a\"} 11"),
    ("5 < g{agent=~\"a|b\"}", "g{agent=\"a\"} 11"),
    ("g{agent!~\"gone|b\"} > bool 5", "{agent=\"a\"} 1"),
    ("g{agent=\"a\"} offset 30s", "g{agent=\"a\"} 8"),
    ("g{agent=\"a\"} offset -10s", "g{agent=\"a\"} 11"),
    ("g{agent=\"a\"} @ 20", "g{agent=\"a\"} 3"),
    ("g{agent=\"a\"} @ end() offset 20s", "g{agent=\"a\"} 9"),
    ("-g{agent=\"a\"}", "{agent=\"a\"} -11"),
    ("g{agent=\"a\"}[30s]", "g{agent=\"a\"} 9@80 10@90 11@100"),
    ("limitk(2, g)", "g{agent=\"a\"} 11\ng{agent=\"b\"} 5"),
    ("limitk(0, g)", ""),
    (
        "limitk by (os) (1, info)",
        "info{agent=\"a\", os=\"linux\"} 1\ninfo{agent=\"b\", os=\"bsd\"} 1",
    ),
    ("count(limit_ratio(1, g))", "{} 3"),
    ("count(limit_ratio(0.4, g) or limit_ratio(-0.6, g))", "{} 3"),
    ("count(limit_ratio(0.4, g) and limit_ratio(-0.6, g))", ""),
    ("sum_over_time(g{agent=\"a\"}[30s])", "{agent=\"a\"} 30"),
    ("count_over_time(g[30s])", "{agent=\"a\"} 3\n{agent=\"b\"} 3"),
    ("avg_over_time(g{agent=\"b\"}[50s])", "{agent=\"b\"} 4.2"),
    ("min_over_time(g{agent=\"b\"}[50s])", "{agent=\"b\"} 2"),
    ("max_over_time(g{agent=\"b\"}[1m])", "{agent=\"b\"} 9"),
    ("last_over_time(g{agent=\"b\"}[50s])", "g{agent=\"b\"} 5"),
    ("first_over_time(g{agent=\"b\"}[50s])", "g{agent=\"b\"} 2"),
    ("quantile_over_time(0.5, g{agent=\"b\"}[50s])", "{agent=\"b\"} 5"),
    ("quantile_over_time(2, g{agent=\"b\"}[50s])", "{agent=\"b\"} inf"),
    ("mad_over_time(g{agent=\"a\"}[50s])", "{agent=\"a\"} 1"),
    ("stdvar_over_time(g{agent=\"a\"}[50s])", "{agent=\"a\"} 2"),
    ("stddev_over_time(g{agent=\"a\"}[20s])", "{agent=\"a\"} 0.5"),
    ("present_over_time(g{agent=\"a\"}[20s])", "{agent=\"a\"} 1"),
    ("changes(g{agent=\"b\"}[1m])", "{agent=\"b\"} 5"),
    ("resets(g{agent=\"b\"}[1m])", "{agent=\"b\"} 3"),
    ("delta(g{agent=\"a\"}[50s])", "{agent=\"a\"} 5"),
    ("idelta(g{agent=\"b\"}[1m])", "{agent=\"b\"} 2"),
    ("deriv(g{agent=\"a\"}[50s])", "{agent=\"a\"} 0.1"),
    ("predict_linear(g{agent=\"a\"}[50s], 100)", "{agent=\"a\"} 21"),
    // Five samples, 40 s apart at most, in a window of 50 s that begins just after the one before.
    ("rate(c{cpu=\"0\"}[50s])", "{agent=\"a\", cpu=\"0\"} 1"),
    ("increase(c{cpu=\"0\"}[50s])", "{agent=\"a\", cpu=\"0\"} 50"),
    ("irate(c{cpu=\"1\"}[50s])", "{agent=\"a\", cpu=\"1\"} 0.5"),
    // 30, 0, 5, 10, 15: the counter began again, and 15 were counted since.
    ("increase(c{cpu=\"1\"}[50s])", "{agent=\"a\", cpu=\"1\"} 18.75"),
    ("rate(g{agent=\"gone\"}[10s])", ""),
    ("sum(g)", "{} 23"),
    ("sum by (cpu) (c)", "{cpu=\"0\"} 100\n{cpu=\"1\"} 15"),
    ("sum without (cpu) (c)", "{agent=\"a\"} 115"),
    ("avg(g{agent=~\"a|b\"})", "{} 8"),
    ("min(g)", "{} 5"),
    ("max(g)", "{} 11"),
    ("count(g)", "{} 3"),
    ("group(g)", "{} 1"),
    ("stdvar(g{agent=~\"a|b\"})", "{} 9"),
    ("stddev(g{agent=~\"a|b\"})", "{} 3"),
    ("quantile(0.5, g)", "{} 7"),
    ("topk(1, g)", "g{agent=\"a\"} 11"),
    ("topk(2, g)", "g{agent=\"a\"} 11\ng{agent=\"gone\"} 7"),
    ("bottomk(1, g)", "g{agent=\"b\"} 5"),
    ("topk(0, g)", ""),
    ("count_values(\"v\", info)", "{v=\"1\"} 2"),
    (
        "g * on (agent) group_left (os) info",
        "{agent=\"a\", os=\"linux\"} 11\n{agent=\"b\", os=\"bsd\"} 5",
    ),
    (
        "info * on (agent) group_right (os) g",
        "{agent=\"a\", os=\"linux\"} 11\n{agent=\"b\", os=\"bsd\"} 5",
    ),
    ("g + ignoring (os) info", "{agent=\"a\"} 12\n{agent=\"b\"} 6"),
    ("g > on (agent) info * 6", "{agent=\"a\"} 11"),
    ("g / g", "{agent=\"a\"} 1\n{agent=\"b\"} 1\n{agent=\"gone\"} 1"),
    ("g and on (agent) info", "g{agent=\"a\"} 11\ng{agent=\"b\"} 5"),
    ("g unless on (agent) info", "g{agent=\"gone\"} 7"),
    ("g{agent=\"a\"} or g", "g{agent=\"a\"} 11\ng{agent=\"b\"} 5\ng{agent=\"gone\"} 7"),
    ("vector(3)", "{} 3"),
    ("scalar(g{agent=\"a\"})", "11"),
    ("scalar(g)", "NaN"),
    ("absent(nope{a=\"b\",c=~\"d\"})", "{a=\"b\"} 1"),
    ("absent(g)", ""),
    ("absent_over_time(nope{a=\"b\"}[5m])", "{a=\"b\"} 1"),
    ("absent(sum(nope))", "{} 1"),
    ("timestamp(g{agent=\"gone\"})", "{agent=\"gone\"} 10"),
    ("timestamp(g{agent=\"gone\"} * 1)", "{agent=\"gone\"} 100"),
    ("abs(-g{agent=\"a\"})", "{agent=\"a\"} 11"),
    ("clamp(g, 6, 10)", "{agent=\"a\"} 10\n{agent=\"b\"} 6\n{agent=\"gone\"} 7"),
    ("clamp(g, 10, 6)", ""),
    ("clamp_max(g{agent=\"a\"}, 3)", "{agent=\"a\"} 3"),
    ("clamp_min(g{agent=\"a\"}, 30)", "{agent=\"a\"} 30"),
    ("round(g{agent=\"a\"} / 4)", "{agent=\"a\"} 3"),
    ("round(g{agent=\"a\"} / 4, 0.5)", "{agent=\"a\"} 3"),
    ("sgn(g{agent=\"a\"} - 12)", "{agent=\"a\"} -1"),
    ("year(vector(1604325763))", "{} 2020"),
    ("month(vector(1604325763))", "{} 11"),
    ("day_of_month(vector(1604325763))", "{} 2"),
    ("day_of_week(vector(1604325763))", "{} 1"),
    ("day_of_year(vector(1604325763))", "{} 307"),
    ("days_in_month(vector(1604325763))", "{} 30"),
    ("hour(vector(1604325763))", "{} 14"),
    ("minute(vector(1604325763))", "{} 2"),
    ("minute()", "{} 1"),
    ("sort(g)", "g{agent=\"b\"} 5\ng{agent=\"gone\"} 7\ng{agent=\"a\"} 11"),
    ("sort_desc(g)", "g{agent=\"a\"} 11\ng{agent=\"gone\"} 7\ng{agent=\"b\"} 5"),
    (
        "sort_by_label_desc(info, \"os\")",
        "info{agent=\"a\", os=\"linux\"} 1\ninfo{agent=\"b\", os=\"bsd\"} 1",
    ),
    (
        "label_replace(info, \"x\", \"$1-y\", \"os\", \"(l).*\")",
        "info{agent=\"a\", os=\"linux\", x=\"l-y\"} 1\ninfo{agent=\"b\", os=\"bsd\"} 1",
    ),
    (
        "label_join(info{agent=\"a\"}, \"x\", \"/\", \"agent\", \"os\")",
        "info{agent=\"a\", os=\"linux\", x=\"a/linux\"} 1",
    ),
    ("histogram_quantile(0.5, h_bucket)", "{} 0.775"),
    ("histogram_quantile(0.1, h_bucket)", "{} 0.05"),
    ("histogram_quantile(0.9, h_bucket)", "{} 1"),
    ("max_over_time(sum(g)[50s:10s])", "{} 23"),
    ("sum_over_time(g{agent=\"a\"}[30s:10s])", "{agent=\"a\"} 30"),
    ("sum_over_time(g{agent=\"a\"}[30s:10s] offset 10s)", "{agent=\"a\"} 27"),
    ("double_exponential_smoothing(g{agent=\"a\"}[50s], 0.5, 0.5)", "{agent=\"a\"} 11"),
    ("pi() > bool 3", "1"),
    ("{__name__=~\"info|g\",agent=\"b\"}", "g{agent=\"b\"} 5\ninfo{agent=\"b\", os=\"bsd\"} 1"),
];

#[test]
fn answers_follow_from_the_definitions() {
    let memory = memory();
    let mut wrong = Vec::new();
    for (text, wanted) in ANSWERS {
        let found = ask(&memory, text, 100);
        if found != *wanted {
            wrong.push(format!("{text}\n  is      {found:?}\n  must be {wanted:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_the_data_does_not_allow_is_said() {
    let memory = memory();
    for (text, part) in [
        (
            "g * on (agent) c",
            "found duplicate series for the match group {agent=\"a\"} on the right",
        ),
        ("c * on (agent) info", "many-to-one matching must be explicit"),
        ("info * on () group_left () g", "on the right hand-side"),
        ("abs({__name__=~\"g|info\",agent=\"gone\"} or g)", ""),
        ("label_replace(g, \"agent\", \"x\", \"\", \"\")", "same labelset"),
        ("label_replace(g, \"\", \"x\", \"agent\", \".*\")", "invalid destination label name"),
        ("label_replace(g, \"x\", \"x\", \"agent\", \"(\")", "invalid regular expression"),
        ("double_exponential_smoothing(g[1m], 2, 0.5)", "invalid smoothing factor"),
        ("topk(NaN, g)", "NaN"),
    ] {
        let found = ask(&memory, text, 100);
        assert!(found.contains(part), "{text}: {found}");
    }
}

#[test]
fn limits_end_a_query() {
    let memory = memory();
    let at = |text: &str, limits: Limits| {
        let expr = parse(text).unwrap();
        query(&memory, limits).instant(&expr, 100_000)
    };
    let message = |found: Result<Instant, PromError>| found.unwrap_err().to_string();
    let few = Limits { samples: 20, ..LIMITS };
    assert!(message(at("sum_over_time(g[5m])", few)).contains("too many samples"));
    let few = Limits { series: 2, ..LIMITS };
    assert!(message(at("g", few)).contains("over 2 series"));
    let small = Limits { bytes: 200, ..LIMITS };
    assert!(message(at("topk(1, g)", small)).contains("memory"));
    let short = Limits { time: std::time::Duration::ZERO, ..LIMITS };
    assert!(matches!(at("g", short), Err(PromError::Timeout)));
    let few = Limits { subquery_steps: 5, ..LIMITS };
    assert!(message(at("sum_over_time(g[5m:1s])", few)).contains("subquery"));
    let gone = || true;
    let canceled = super::Query { canceled: &gone, ..query(&memory, LIMITS) };
    let found = canceled.instant(&parse("g").unwrap(), 100_000);
    assert!(matches!(found, Err(PromError::Canceled)));
}

/// A tree as deep as the parser lets through is walked on the stack that workers have.
#[test]
fn the_deepest_query_fits_the_stack() {
    let levels = crate::base::limits::PROMQL_DEPTH_MAX - 4;
    let deep = format!("{}g{}", "abs(".repeat(levels), ")".repeat(levels));
    let long = format!("g{}", " + g".repeat(levels));
    let run = move || {
        let memory = Memory::default().with("g", "1 2");
        assert_eq!(ask(&memory, &deep, 10), "{} 2");
        assert_eq!(ask(&memory, &long, 10), format!("{{}} {}", 2 * (levels + 1)));
    };
    std::thread::Builder::new().stack_size(2 * 1024 * 1024).spawn(run).unwrap().join().unwrap();
}
