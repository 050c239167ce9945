//! InfluxDB's line protocol, as Telegraf sends it: `cpu,host=web-01 idle=99.5,busy=1i 1700000000`.
//! A field is the metric `measurement_field`, a tag a label; texts are passed over.

use super::{Incoming, Receiver, Refusal, Request, Writer, Written};

/// A line that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct BadLine;

/// What one line says.
#[derive(Debug, PartialEq)]
struct Line {
    measurement: String,
    tags: Vec<(String, String)>,
    fields: Vec<(String, f64)>,
    time: Option<i64>,
}

/// Nanoseconds of a unit of `precision`; `None` for one that is not known.
pub(crate) fn unit_ns(precision: &str) -> Option<i64> {
    Some(match precision {
        "" | "n" | "ns" => 1,
        "u" | "us" | "µ" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

impl Receiver {
    /// Takes lines, their times in units of `unit_ns`. A line that is none costs itself alone.
    ///
    /// # Errors
    ///
    /// When the text is not UTF-8, or the store can't take it now.
    pub(crate) fn lines(
        &self,
        writer: &Writer,
        body: &[u8],
        unit_ns: i64,
        now_ms: i64,
    ) -> Result<Written, Refusal> {
        let text = std::str::from_utf8(body);
        let text = text.map_err(|_| Refusal::Malformed("the lines are not UTF-8".to_owned()))?;
        let mut request = self.request(writer);
        for line in text.lines().map(str::trim) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match parse(line) {
                Ok(line) => add(&line, self.agent_label(), unit_ns, now_ms, &mut request),
                Err(BadLine) => request.written.malformed += 1,
            }
        }
        request.store()
    }
}

fn add(line: &Line, agent_label: &str, unit_ns: i64, now_ms: i64, request: &mut Request<'_>) {
    let tag = |name: &str| line.tags.iter().find(|(tag, _)| tag == name);
    // Telegraf says where it runs in `host`.
    let agent = tag(agent_label).or_else(|| tag("host"));
    let labels: Vec<(&str, &str)> = line
        .tags
        .iter()
        .filter(|pair| Some(*pair) != agent)
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let ns = line.time.map(|time| i128::from(time) * i128::from(unit_ns));
    let ms = ns.map_or(now_ms, |ns| i64::try_from(ns.div_euclid(1_000_000)).unwrap_or(i64::MAX));
    for (field, value) in &line.fields {
        request.add(&Incoming {
            metric: &format!("{}_{field}", line.measurement),
            labels: &labels,
            agent: agent.map(|(_, agent)| agent.as_str()),
            samples: &[(ms, *value)],
        });
    }
}

fn parse(line: &str) -> Result<Line, BadLine> {
    let mut rest = line;
    let (measurement, mut end) = word(&mut rest, &[',', ' '])?;
    if measurement.is_empty() {
        return Err(BadLine);
    }
    let mut tags = Vec::new();
    while end == Some(',') {
        let (name, equals) = word(&mut rest, &['=', ',', ' '])?;
        if equals != Some('=') || name.is_empty() {
            return Err(BadLine);
        }
        let (value, next) = word(&mut rest, &[',', ' '])?;
        if !value.is_empty() {
            tags.push((name, value));
        }
        end = next;
    }
    if end != Some(' ') {
        return Err(BadLine);
    }
    rest = rest.trim_start_matches(' ');
    let mut fields = Vec::new();
    let mut end = Some(',');
    while end == Some(',') {
        let (name, equals) = word(&mut rest, &['=', ',', ' '])?;
        if equals != Some('=') || name.is_empty() {
            return Err(BadLine);
        }
        let (value, next) = if rest.starts_with('"') {
            (None, quoted(&mut rest)?)
        } else {
            let (text, next) = word(&mut rest, &[',', ' '])?;
            (Some(number(&text)?), next)
        };
        fields.extend(value.map(|value| (name, value)));
        end = next;
    }
    let time = rest.trim();
    let time = if time.is_empty() { None } else { Some(time.parse().map_err(|_| BadLine)?) };
    Ok(Line { measurement, tags, fields, time })
}

/// Takes a word up to one of `ends`, which is taken too. A backslash before one of the signs of the
/// protocol makes that a part of the word.
fn word(rest: &mut &str, ends: &[char]) -> Result<(String, Option<char>), BadLine> {
    let mut out = String::new();
    let mut letters = rest.char_indices().peekable();
    while let Some((at, letter)) = letters.next() {
        if letter == '\\'
            && let Some(&(_, next @ (',' | '=' | ' ' | '\\'))) = letters.peek()
        {
            out.push(next);
            letters.next();
        } else if ends.contains(&letter) {
            *rest = &rest[at + letter.len_utf8()..];
            return Ok((out, Some(letter)));
        } else {
            out.push(letter);
        }
    }
    *rest = "";
    Ok((out, None))
}

/// Passes over a text in quotes; gives the sign after it, which is taken too.
fn quoted(rest: &mut &str) -> Result<Option<char>, BadLine> {
    let mut escaped = false;
    for (at, letter) in rest.char_indices().skip(1) {
        if escaped {
            escaped = false;
        } else if letter == '\\' {
            escaped = true;
        } else if letter == '"' {
            *rest = &rest[at + 1..];
            let next = rest.chars().next();
            if next.is_some_and(|next| next != ',' && next != ' ') {
                return Err(BadLine);
            }
            *rest = rest.get(1..).unwrap_or("");
            return Ok(next);
        }
    }
    Err(BadLine)
}

fn number(text: &str) -> Result<f64, BadLine> {
    match text {
        "t" | "T" | "true" | "True" | "TRUE" => return Ok(1.0),
        "f" | "F" | "false" | "False" | "FALSE" => return Ok(0.0),
        _ => {}
    }
    if let Some(whole) = text.strip_suffix('i') {
        return whole.parse::<i64>().map(|number| number as f64).map_err(|_| BadLine);
    }
    if let Some(whole) = text.strip_suffix('u') {
        return whole.parse::<u64>().map(|number| number as f64).map_err(|_| BadLine);
    }
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
    if plain { text.parse().map_err(|_| BadLine) } else { Err(BadLine) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn lines_are_read() {
        let line = parse(r#"we\ ather,loc\,x=a\=b,host=h t=-1.5e1,n=3i,u=4u,s="a, \" b",b=t 12"#);
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        let field = |name: &str, value: f64| (name.to_owned(), value);
        let wanted = Line {
            measurement: "we ather".to_owned(),
            tags: vec![pair("loc,x", "a=b"), pair("host", "h")],
            fields: vec![field("t", -15.0), field("n", 3.0), field("u", 4.0), field("b", 1.0)],
            time: Some(12),
        };
        assert_eq!(line, Ok(wanted));
        assert_eq!(parse("m v=1").unwrap().time, None);
        assert_eq!(parse(r#"m v="x""#).unwrap().fields, []);
    }

    #[test]
    fn what_is_no_line_is_refused() {
        for text in [
            "m",
            "m ",
            ",a=b v=1",
            "m,a v=1",
            "m v",
            "m v=",
            "m v=x",
            "m v=1 x",
            "m v=1 1 1",
            r#"m v="x"#,
            r#"m v="x"y"#,
            "m v=1,",
            "m v=1ix",
            "m v=NaN",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn nothing_panics(text in "[a-c,= \\\\\"0-9ituµ.-]{0,60}") {
            let _ = parse(&text);
        }
    }
}
