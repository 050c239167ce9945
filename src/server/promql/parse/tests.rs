#![allow(clippy::unwrap_used)]

use super::{parse, parse_duration, parse_selector};
use crate::base::limits::{PROMQL_BYTES_MAX, PROMQL_DEPTH_MAX};
use crate::server::promql::ast::Type;

/// Queries, each with its text as it is printed.
const GOOD: &[(&str, &str)] = &[
    ("1", "1"),
    ("-1", "-1"),
    ("+1.5e3", "1500"),
    ("0x1F", "31"),
    ("1_000", "1000"),
    (".5", "0.5"),
    ("1h30m", "5400"),
    ("Inf", "+Inf"),
    ("-iNF", "-Inf"),
    ("NaN", "NaN"),
    ("-2 ^ 2", "-2 ^ 2"),
    ("-x ^ 2", "-x ^ 2"),
    ("1 + 2 * 3 ^ 2 ^ 2", "1 + 2 * 3 ^ 2 ^ 2"),
    ("a+on(x)group_left(y)b", "a + on (x) group_left (y) b"),
    ("a and ignoring (x) b or c", "a and ignoring (x) b or c"),
    ("a > BOOL 1", "a > bool 1"),
    ("SUM BY (x, y,) (a)", "sum by (x, y) (a)"),
    ("sum(a) without (x)", "sum without (x) (a)"),
    ("topk(3, a)", "topk(3, a)"),
    ("count_values by (x) (\"v\", a)", "count_values by (x) (\"v\", a)"),
    ("sum", "sum"),
    ("offset", "offset"),
    ("sum{by=\"x\"}", "sum{by=\"x\"}"),
    ("a:b:c{x=~\"a|b\", y!=''}[5m] offset -1h", "a:b:c{x=~\"a|b\",y!=\"\"}[5m] offset -1h"),
    ("{\"cpu.usage\", \"host.name\"='x'}", "{\"cpu.usage\",\"host.name\"=\"x\"}"),
    ("{__name__=\"up\"}", "up"),
    ("{__name__=~\"u.\"}", "{__name__=~\"u.\"}"),
    ("rate(a[5m:])", "rate(a[5m:])"),
    ("max_over_time(rate(a[1m30s])[1h:1m] @ end())[2h:30s] offset 1w", ""),
    ("a @ 1609746000.5 offset 5m", "a @ 1609746000.500 offset 5m"),
    ("a offset 5m @ start()", "a @ start() offset 5m"),
    ("a offset 300", "a offset 5m"),
    ("# a comment\nx # and another", "x"),
    ("\"a\\n\\x41\\u00e9\\101\"", "\"a\\nA\u{e9}A\""),
    ("`a\\n`", "\"a\\\\n\""),
    ("round(a)", "round(a)"),
    ("hour()", "hour()"),
    ("label_join(a, \"x\", \"-\")", "label_join(a, \"x\", \"-\")"),
    ("label_join(a, \"x\", \"-\", \"b\", \"c\", \"d\")", ""),
    ("a atan2 b", "a atan2 b"),
    ("(a)", "(a)"),
    ("\"text\"", "\"text\""),
];

/// Texts that are none, each with a part of the message.
const BAD: &[(&str, &str)] = &[
    ("", "1:1: parse error: no expression found"),
    ("a +", "1:4: parse error: unexpected end of input"),
    ("(a", "1:3: parse error: unexpected end of input in parenthesized expression"),
    ("a\n  ) b", "2:3: parse error: unexpected \")\""),
    ("{}", "at least one non-empty matcher"),
    ("{x=~\".*\"}", "at least one non-empty matcher"),
    ("a{x=\"y\"", "unexpected end of input in label matching"),
    ("a{x=~\"(\"}", "error parsing regexp"),
    ("a[5m] offset 1m offset 2m", "offset may not be set multiple times"),
    ("a[5m", "in range selector"),
    ("a[0s]", "duration must be greater than 0"),
    ("a[5m][5m]", "ranges only allowed for vector selectors"),
    ("a offset 5m [5m]", "no offset or @ modifiers allowed before range"),
    ("(a)[5m]", "ranges only allowed for vector selectors"),
    ("1[5m:]", "subquery is only allowed on instant vector"),
    ("sum(a) offset 5m", "offset modifier must be preceded"),
    ("rate(a)", "expected type range vector in call to function \"rate\", got instant vector"),
    ("abs(a[5m])", "expected type instant vector"),
    ("nope(a)", "unknown function with name \"nope\""),
    ("rate()", "expected 1 argument(s) in call to \"rate\", got 0"),
    ("round(a, 1, 2)", "expected at most 2 argument(s)"),
    ("sum(a, b)", "wrong number of arguments for aggregate expression provided"),
    ("topk(a)", "wrong number of arguments for aggregate expression provided"),
    ("1 > 2", "comparisons between scalars must use BOOL modifier"),
    ("a + bool b", "bool modifier can only be used on comparison operators"),
    ("1 and a", "set operator \"and\" not allowed in binary scalar expression"),
    ("a and on (x) group_left b", "no grouping allowed for \"and\" operation"),
    ("a + on (x) group_left (x) b", "must not occur in ON and GROUP clause at once"),
    ("1 + on (x) a", "vector matching only allowed between instant vectors"),
    ("-a[5m]", "unary expression only allowed"),
    ("a[5m] + 1", "binary expression must contain only scalar and instant vector types"),
    ("'abc", "unterminated quoted string"),
    ("'\\q'", "unknown escape sequence"),
    ("1x", "bad number or duration syntax"),
    ("a ? b", "unexpected character: '?'"),
    ("5m1h", "bad number or duration syntax"),
    ("a @ b", "in @ modifier"),
];

#[test]
fn queries_are_read_and_printed() {
    for (text, printed) in GOOD {
        let expr = parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let again = expr.to_string();
        let wanted = if printed.is_empty() { text } else { printed };
        assert_eq!(&again, wanted);
        assert_eq!(parse(&again).unwrap().to_string(), again, "{text}");
    }
}

#[test]
fn mistakes_are_named_with_their_place() {
    for (text, part) in BAD {
        let error = parse(text).err().unwrap_or_else(|| panic!("{text}")).to_string();
        assert!(error.contains(part), "{text:?}: {error}");
    }
}

#[test]
fn depth_and_length_are_bounded() {
    let within = PROMQL_DEPTH_MAX - 10;
    assert!(parse(&format!("{}1{}", "(".repeat(within), ")".repeat(within))).is_ok());
    assert!(parse(&format!("x{}", " + x".repeat(within))).is_ok());
    for (open, close) in [("(", ")"), ("abs(", ")"), ("-", ""), ("2 ^ ", ""), ("sum(", ")")] {
        let deep = format!("{}x{}", open.repeat(9_000), close.repeat(9_000));
        let error = parse(&deep).unwrap_err().to_string();
        assert!(error.contains("levels deep"), "{open}: {error}");
    }
    for chain in [" + x".repeat(9_000), " or x".repeat(9_000), "[1h:1m]".repeat(5_000)] {
        let error = parse(&format!("x{chain}")).unwrap_err().to_string();
        assert!(error.contains("levels deep") || error.contains("subquery"), "{error}");
    }
    let long = "x".repeat(PROMQL_BYTES_MAX + 1);
    assert!(parse(&long).unwrap_err().to_string().contains("bytes"));
}

#[test]
fn types_are_known() {
    let kind = |text: &str| parse(text).unwrap().kind();
    assert_eq!(kind("1 + 2"), Type::Scalar);
    assert_eq!(kind("1 + a"), Type::Vector);
    assert_eq!(kind("a[5m]"), Type::Matrix);
    assert_eq!(kind("time()"), Type::Scalar);
    assert_eq!(kind("(('x'))"), Type::Text);
}

#[test]
fn selectors_and_durations_are_read_alone() {
    assert_eq!(parse_selector("up{a='b'}").unwrap().len(), 2);
    assert!(parse_selector("sum(up)").is_err());
    assert!(parse_selector("up[5m]").is_err());
    assert_eq!(parse_duration("15"), Some(15_000));
    assert_eq!(parse_duration("1.5"), Some(1_500));
    assert_eq!(parse_duration("1h5m"), Some(3_900_000));
    assert_eq!(parse_duration("x"), None);
}

proptest::proptest! {
    /// Whatever comes in, there is an answer, and what is taken prints as what is taken again.
    #[test]
    fn nothing_panics(parts in proptest::collection::vec(0..PIECES.len(), 0..40)) {
        let text: String = parts.iter().map(|&piece| PIECES[piece]).collect();
        if let Ok(expr) = parse(&text) {
            let printed = expr.to_string();
            let again = parse(&printed).unwrap_or_else(|e| panic!("{text} -> {printed}: {e}"));
            assert_eq!(again.to_string(), printed, "{text}");
        }
    }
}

const PIECES: &[&str] = &[
    "a",
    " b",
    "{",
    "}",
    "(",
    ")",
    "[5m]",
    "[1h:5m]",
    "[",
    "]",
    ":",
    ",",
    "x=",
    "=~",
    "\"v\"",
    "'",
    "rate(",
    "sum(",
    "sum by (x) (",
    " by (",
    " + ",
    " - ",
    "-",
    " ^ ",
    " and ",
    " or on (x) ",
    " > bool ",
    "1",
    "0x",
    "1e3",
    "5m",
    " offset 1m",
    " @ 5",
    " @ end()",
    " group_left (",
    "topk(2, ",
    "\\",
    "\u{e9}",
    "\n",
    "#",
    ".",
    "abs(",
    "Inf",
    "NaN",
    "__name__=",
    "\"cpu.usage\"",
    "label_replace(a, ",
    "!",
    "%",
    "/",
    "*",
];
