//! The templates of Prometheus' rule files, as far as most rules use them: `{{ $labels.x }}`,
//! `{{ $value | humanize }}`, `{{ printf "%.1f" $value }}`. No conditions, loops or queries.

use std::fmt::Write as _;

use super::humanize;

/// Parentheses inside of each other.
const DEPTH_MAX: usize = 8;
/// Characters that one `{{ … }}` gives at the most.
const VALUE_CHARS_MAX: usize = 4_096;
/// Width and precision of a verb of `printf`.
const WIDTH_MAX: usize = 64;

/// A text with `{{ … }}` in it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq)]
enum Part {
    Text(String),
    Value(Pipeline),
}

/// Commands of which each gives its value to the next as the last argument.
type Pipeline = Vec<Command>;

#[derive(Debug, Clone, PartialEq)]
struct Command {
    does: Does,
    args: Vec<Arg>,
}

#[derive(Debug, Clone, PartialEq)]
enum Arg {
    Label(String),
    Labels,
    Value,
    Text(String),
    Number(f64),
    Inner(Pipeline),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Does {
    /// The argument itself.
    Give,
    Humanize,
    Humanize1024,
    Duration,
    Percentage,
    Timestamp,
    Printf,
    Title,
    Upper,
    Lower,
    /// `index $labels "name"`
    Index,
}

const FUNCTIONS: [(&str, Does); 10] = [
    ("humanize", Does::Humanize),
    ("humanize1024", Does::Humanize1024),
    ("humanizeDuration", Does::Duration),
    ("humanizePercentage", Does::Percentage),
    ("humanizeTimestamp", Does::Timestamp),
    ("printf", Does::Printf),
    ("title", Does::Title),
    ("toUpper", Does::Upper),
    ("toLower", Does::Lower),
    ("index", Does::Index),
];

#[derive(Debug, Clone)]
enum Val {
    Text(String),
    Number(f64),
}

impl Val {
    fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Number(number) => humanize::shortest(*number),
        }
    }

    fn number(&self) -> Option<f64> {
        match self {
            Self::Text(text) => text.trim().parse().ok(),
            Self::Number(number) => Some(*number),
        }
    }
}

/// Gives the label of a name; of the empty name all of them.
pub(crate) type Lookup<'a> = &'a dyn Fn(&str) -> String;

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    ///
    /// Names what is not known of Prometheus' templates, or what is not one.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        let mut trim = false;
        while let Some(at) = rest.find("{{") {
            let (before, after) = (&rest[..at], &rest[at + 2..]);
            let (trim_before, after) = match after.strip_prefix("- ") {
                Some(after) => (true, after),
                None => (false, after),
            };
            let before = if trim { before.trim_start() } else { before };
            let before = if trim_before { before.trim_end() } else { before };
            push_text(&mut parts, before);
            let end = end_of(after).ok_or("has a `{{` without its `}}`")?;
            let inside = &after[..end];
            let (inside, trim_after) = match inside.strip_suffix(" -") {
                Some(inside) => (inside, true),
                None => (inside, false),
            };
            if !inside.trim_start().starts_with("/*") {
                let mut words = Words { rest: inside, depth: 0 };
                parts.push(Part::Value(words.pipeline(false)?));
            }
            (rest, trim) = (&after[end + 2..], trim_after);
        }
        push_text(&mut parts, if trim { rest.trim_start() } else { rest });
        Ok(Self(parts))
    }

    /// The text for these labels and this value.
    pub(crate) fn render(&self, label: Lookup<'_>, value: f64) -> String {
        let mut out = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Value(pipeline) => {
                    let given = run(pipeline, label, value).text();
                    out.extend(given.chars().take(VALUE_CHARS_MAX));
                }
            }
        }
        out
    }
}

fn push_text(parts: &mut Vec<Part>, text: &str) {
    if !text.is_empty() {
        parts.push(Part::Text(text.to_owned()));
    }
}

/// Where the `}}` is that is not inside of a quoted text.
fn end_of(text: &str) -> Option<usize> {
    let mut quote = None;
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate() {
        match (quote, byte) {
            (Some(_), _) if escaped => escaped = false,
            (Some(b'"'), b'\\') => escaped = true,
            (Some(open), byte) if open == byte => quote = None,
            (Some(_), _) => {}
            (None, b'"' | b'`') => quote = Some(byte),
            (None, b'}') if text[at..].starts_with("}}") => return Some(at),
            (None, _) => {}
        }
    }
    None
}

/// What is left of the inside of a `{{ … }}`.
struct Words<'a> {
    rest: &'a str,
    depth: usize,
}

impl Words<'_> {
    fn pipeline(&mut self, inner: bool) -> Result<Pipeline, String> {
        let mut commands = vec![self.command(true)?];
        loop {
            self.rest = self.rest.trim_start();
            if let Some(rest) = self.rest.strip_prefix('|') {
                self.rest = rest;
                commands.push(self.command(false)?);
            } else if inner {
                let rest = self.rest.strip_prefix(')').ok_or("has a `(` without its `)`")?;
                self.rest = rest;
                return Ok(commands);
            } else if self.rest.is_empty() {
                return Ok(commands);
            } else {
                return Err(format!("has `{}` where a `|` or the end belongs", short(self.rest)));
            }
        }
    }

    fn command(&mut self, first: bool) -> Result<Command, String> {
        self.rest = self.rest.trim_start();
        let is_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
        let name: String = self.rest.chars().take_while(|letter| is_name(*letter)).collect();
        let is_function = name.starts_with(|letter: char| letter.is_ascii_alphabetic());
        let mut does = Does::Give;
        if is_function {
            let known = FUNCTIONS.iter().find(|(known, _)| *known == name);
            let (_, known) = known.ok_or_else(|| {
                format!("has the function or word `{name}`, which is not supported")
            })?;
            does = *known;
            self.rest = &self.rest[name.len()..];
        }
        let mut args = Vec::new();
        while let Some(arg) = self.arg()? {
            args.push(arg);
        }
        let piped = usize::from(!first);
        let wanted = match does {
            Does::Give => 1,
            Does::Printf => args.len().max(1),
            Does::Index => 2,
            _ => 1,
        };
        let given = args.len() + if does == Does::Give { 0 } else { piped };
        if given != wanted && !(does == Does::Printf && given > 0) {
            let what = if is_function { name } else { "{{ }}".to_owned() };
            return Err(format!("has `{what}` with {given} arguments, not {wanted}"));
        }
        if does == Does::Index && args.first() != Some(&Arg::Labels) {
            return Err("has an `index` of something else than `$labels`".to_owned());
        }
        if does == Does::Give && !first {
            return Err("has a `|` without a function after it".to_owned());
        }
        Ok(Command { does, args })
    }

    fn arg(&mut self) -> Result<Option<Arg>, String> {
        self.rest = self.rest.trim_start();
        let Some(first) = self.rest.chars().next() else { return Ok(None) };
        match first {
            '|' | ')' => Ok(None),
            '(' => {
                self.depth += 1;
                if self.depth > DEPTH_MAX {
                    return Err(format!("has over {DEPTH_MAX} parentheses inside of each other"));
                }
                self.rest = &self.rest[1..];
                let inner = self.pipeline(true)?;
                self.depth -= 1;
                Ok(Some(Arg::Inner(inner)))
            }
            '"' | '`' => self.quoted(first).map(|text| Some(Arg::Text(text))),
            '$' | '.' => self.variable().map(Some),
            _ => {
                let end = self.rest.find([' ', '|', ')', '\n', '\t']).unwrap_or(self.rest.len());
                let word = &self.rest[..end];
                let number: Result<f64, _> = word.parse();
                let number = number.map_err(|_| {
                    format!("has the function or word `{}`, which is not supported", short(word))
                })?;
                self.rest = &self.rest[end..];
                Ok(Some(Arg::Number(number)))
            }
        }
    }

    fn quoted(&mut self, quote: char) -> Result<String, String> {
        let mut out = String::new();
        let mut letters = self.rest.char_indices().skip(1);
        while let Some((at, letter)) = letters.next() {
            if letter == quote {
                self.rest = &self.rest[at + 1..];
                return Ok(out);
            }
            if letter == '\\' && quote == '"' {
                match letters.next().map(|(_, letter)| letter) {
                    Some('n') => out.push('\n'),
                    Some('t') => out.push('\t'),
                    Some(letter) => out.push(letter),
                    None => break,
                }
            } else {
                out.push(letter);
            }
        }
        Err("has a quoted text without its end".to_owned())
    }

    fn variable(&mut self) -> Result<Arg, String> {
        let is_part = |letter: char| letter.is_ascii_alphanumeric() || "_.$".contains(letter);
        let end = self.rest.find(|letter| !is_part(letter)).unwrap_or(self.rest.len());
        let word = &self.rest[..end];
        let arg = match word {
            "$value" | ".Value" => Arg::Value,
            "$labels" | ".Labels" => Arg::Labels,
            _ => {
                let name = word.strip_prefix("$labels.").or_else(|| word.strip_prefix(".Labels."));
                let name = name.filter(|name| !name.is_empty() && !name.contains('.'));
                let name =
                    name.ok_or_else(|| format!("has `{}`, which is not supported", short(word)))?;
                Arg::Label(name.to_owned())
            }
        };
        self.rest = &self.rest[end..];
        Ok(arg)
    }
}

fn short(text: &str) -> String {
    text.chars().take(30).collect()
}

fn run(pipeline: &Pipeline, label: Lookup<'_>, value: f64) -> Val {
    let mut last = None;
    for command in pipeline {
        let mut args: Vec<Val> = command.args.iter().map(|arg| given(arg, label, value)).collect();
        args.extend(last.take());
        last = Some(apply(command.does, &args, label));
    }
    last.unwrap_or(Val::Text(String::new()))
}

fn given(arg: &Arg, label: Lookup<'_>, value: f64) -> Val {
    match arg {
        Arg::Label(name) => Val::Text(label(name)),
        Arg::Labels => Val::Text(label("")),
        Arg::Value => Val::Number(value),
        Arg::Text(text) => Val::Text(text.clone()),
        Arg::Number(number) => Val::Number(*number),
        Arg::Inner(pipeline) => run(pipeline, label, value),
    }
}

fn apply(does: Does, args: &[Val], label: Lookup<'_>) -> Val {
    let last = args.last().cloned().unwrap_or(Val::Text(String::new()));
    // What is not a number stays as it is.
    let number = |write: fn(f64) -> String| match last.number() {
        Some(number) => write(number),
        None => last.text(),
    };
    Val::Text(match does {
        Does::Give => return last,
        Does::Humanize => number(humanize::humanize),
        Does::Humanize1024 => number(humanize::humanize_1024),
        Does::Duration => number(humanize::duration),
        Does::Percentage => number(humanize::percentage),
        Does::Timestamp => number(humanize::timestamp),
        Does::Printf => printf(args),
        Does::Title => title(&last.text()),
        Does::Upper => last.text().to_uppercase(),
        Does::Lower => last.text().to_lowercase(),
        Does::Index => label(&last.text()),
    })
}

fn title(text: &str) -> String {
    let mut start = true;
    let letters = text.chars().map(|letter| {
        let out = if start { letter.to_ascii_uppercase() } else { letter };
        start = !letter.is_alphanumeric();
        out
    });
    letters.collect()
}

/// The first argument with its verbs replaced by the others.
fn printf(args: &[Val]) -> String {
    let Some((format, rest)) = args.split_first() else { return String::new() };
    let format = format.text();
    let mut values = rest.iter();
    let mut out = String::new();
    let mut letters = format.chars().peekable();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            out.push(letter);
            continue;
        }
        let mut spec = String::new();
        while let Some(next) = letters.next_if(|next| "+-# 0.123456789".contains(*next)) {
            spec.push(next);
        }
        match letters.next() {
            Some('%') => out.push('%'),
            Some(verb) => match values.next() {
                Some(value) => out.push_str(&verb_text(&spec, verb, value)),
                // As Go says it.
                None => drop(write!(out, "%!{verb}(MISSING)")),
            },
            None => out.push_str("%!(NOVERB)"),
        }
    }
    out
}

fn verb_text(spec: &str, verb: char, value: &Val) -> String {
    let (width, precision) = match spec.split_once('.') {
        Some((width, precision)) => (width, Some(precision.parse().unwrap_or(0_usize))),
        None => (spec, None),
    };
    let precision = precision.map(|digits| digits.min(WIDTH_MAX));
    let flags = width.len() - width.trim_start_matches(['+', '-', '#', ' ', '0']).len();
    let (flags, width) = width.split_at(flags);
    let width: usize = width.parse().unwrap_or(0).min(WIDTH_MAX);
    let number = value.number();
    let mut text = match (verb, number) {
        ('f' | 'F', Some(number)) => format!("{number:.*}", precision.unwrap_or(6)),
        ('g' | 'G', Some(number)) => match precision {
            Some(digits) => humanize::significant(number, digits),
            None => humanize::shortest(number),
        },
        ('e' | 'E', Some(number)) => exponent(number, precision.unwrap_or(6)),
        ('d', Some(number)) => format!("{number:.0}"),
        ('q', _) => format!("{:?}", value.text()),
        _ => value.text(),
    };
    if let (Some(most), 's' | 'v') = (precision, verb) {
        text = text.chars().take(most).collect();
    }
    if flags.contains('+') && number.is_some_and(|number| number >= 0.0) && verb != 's' {
        text.insert(0, '+');
    }
    if flags.contains('-') {
        format!("{text:<width$}")
    } else if flags.contains('0') && number.is_some() {
        format!("{text:0>width$}")
    } else {
        format!("{text:>width$}")
    }
}

fn exponent(number: f64, digits: usize) -> String {
    let text = format!("{number:.digits$e}");
    let Some((mantissa, exponent)) = text.split_once('e') else { return text };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    format!("{mantissa}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn rendered(text: &str) -> String {
        let label = |name: &str| match name {
            "" => "map[instance:web]".to_owned(),
            "instance" => "web".to_owned(),
            _ => String::new(),
        };
        Template::parse(text).unwrap().render(&label, 1_234.5)
    }

    #[test]
    fn what_rules_use_is_written_as_prometheus_writes_it() {
        for (text, wanted) in [
            ("plain } {", "plain } {"),
            ("{{ $labels.instance }} is {{$value}}", "web is 1234.5"),
            ("{{ .Labels.instance }} {{ .Value }}", "web 1234.5"),
            ("{{ $labels.none }}.", "."),
            ("{{ $value | humanize }}B", "1.234kB"),
            ("{{ humanize1024 $value }}B", "1.206kiB"),
            ("{{ $value | humanizeDuration }}", "20m 34s"),
            ("{{ printf \"%.1f\" $value }}%", "1234.5%"),
            ("{{ $value | printf \"%.2f\" }}", "1234.50"),
            (
                "{{ printf \"%s: %8.1f|%-6d|%05d\" $labels.instance $value 3 42 }}",
                "web:   1234.5|3     |00042",
            ),
            ("{{ printf \"%q %v %%\" $labels.instance $value }}", "\"web\" 1234.5 %"),
            ("{{ printf \"%d\" }}", "%!d(MISSING)"),
            ("{{ (printf \"a}}%s\" $labels.instance) | toUpper }}", "A}}WEB"),
            ("{{ index $labels \"instance\" | title }}", "Web"),
            ("{{ $labels }}", "map[instance:web]"),
            ("a {{- \" \" -}} b", "a b"),
            ("{{/* a comment */}}x", "x"),
        ] {
            assert_eq!(rendered(text), wanted, "{text}");
        }
    }

    #[test]
    fn what_is_not_supported_is_named() {
        for (text, wanted) in [
            ("{{ query \"up\" | first }}", "`query`"),
            ("{{ if gt $value 5 }}a{{ end }}", "`if`"),
            ("{{ $externalLabels.region }}", "`$externalLabels.region`"),
            ("{{ $value | reReplaceAll \"a\" \"b\" }}", "`reReplaceAll`"),
            ("{{ $value", "`{{` without"),
            ("{{ }}", "with 0 arguments"),
            ("{{ $value $value }}", "with 2 arguments"),
            ("{{ $value | }}", "arguments"),
            ("{{ ((((((((($value))))))))) }}", "over 8 parentheses"),
            ("{{ \"x }}", "without"),
            ("{{ index $value \"a\" }}", "`index`"),
        ] {
            let error = Template::parse(text).unwrap_err();
            assert!(error.contains(wanted), "{text}: {error}");
        }
    }

    #[test]
    fn widths_are_bounded() {
        let text = rendered("{{ printf \"%999999999d %.999999999f\" 1 1.5 }}");
        assert!(text.len() < 200, "{}", text.len());
    }
}
