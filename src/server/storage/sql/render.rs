//! Rows as a table for people, as CSV (RFC 4180), or as a JSON array.

use rusqlite::types::ValueRef;
use serde_json::Value;

use crate::base::ids::hex;

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// Columns of equal width.
    Table,
    /// RFC 4180, with a header. A text that a spreadsheet would take for a formula has a `'` before
    /// it.
    Csv,
    /// An array of objects.
    Json,
}

impl Format {
    /// The format of this name.
    pub(super) fn named(name: &str) -> Option<Self> {
        match name {
            "table" => Some(Self::Table),
            "csv" => Some(Self::Csv),
            "json" => Some(Self::Json),
            _ => None,
        }
    }
}

/// Rows of a table that are looked at for the columns' widths before the first is written, so that
/// a long answer starts at once.
const TABLE_ROWS_LOOKED_AT: usize = 200;

/// What is written, piece by piece.
pub(super) struct Output {
    format: Format,
    names: Vec<String>,
    /// Columns of the terminal, to which a table's lines are cut; `None`: as long as they are.
    terminal: Option<usize>,
    rows: usize,
    waiting: Vec<Vec<String>>,
    widths: Option<Vec<usize>>,
}

impl Output {
    /// Output with these columns; a table is at most `terminal` characters wide.
    pub(super) fn new(format: Format, names: Vec<String>, terminal: Option<usize>) -> Self {
        let names = match format {
            Format::Table => names.iter().map(|name| line(name)).collect(),
            Format::Csv | Format::Json => names,
        };
        Self { format, names, terminal, rows: 0, waiting: Vec::new(), widths: None }
    }

    /// The text of one more row, as far as it can be written yet.
    pub(super) fn row(&mut self, values: &[ValueRef<'_>]) -> String {
        self.rows += 1;
        match self.format {
            Format::Csv => {
                let head = if self.rows == 1 { self.csv_head() } else { String::new() };
                let cells = values.iter().map(|value| match value {
                    ValueRef::Text(_) => harmless(text(*value)),
                    other => text(*other),
                });
                head + &csv(&cells.collect::<Vec<_>>())
            }
            Format::Json => {
                let before = if self.rows == 1 { "[\n" } else { ",\n" };
                // By hand, because a map of serde_json sorts its keys: columns stay as selected.
                let cells = self.names.iter().zip(values).map(|(name, value)| {
                    let cell = format!("{}:{}", Value::from(name.as_str()), json(*value));
                    // What JSON may hold as it is, and a terminal obeys.
                    if cell.contains(is_obeyed) { escaped(&cell) } else { cell }
                });
                format!("{before}{{{}}}", cells.collect::<Vec<_>>().join(","))
            }
            Format::Table => {
                self.waiting.push(values.iter().map(|value| line(&text(*value))).collect());
                if self.widths.is_none() && self.waiting.len() < TABLE_ROWS_LOOKED_AT {
                    return String::new();
                }
                self.flush()
            }
        }
    }

    /// The text after the last row.
    pub(super) fn end(&mut self) -> String {
        match self.format {
            Format::Csv if self.rows == 0 => self.csv_head(),
            Format::Csv => String::new(),
            Format::Json if self.rows == 0 => "[]\n".to_owned(),
            Format::Json => "\n]\n".to_owned(),
            Format::Table => self.flush(),
        }
    }

    fn csv_head(&self) -> String {
        csv(&self.names.iter().cloned().map(harmless).collect::<Vec<_>>())
    }

    fn flush(&mut self) -> String {
        let mut out = String::new();
        if self.widths.is_none() {
            let mut widths: Vec<usize> = (0..self.names.len())
                .map(|column| {
                    let cells = self.waiting.iter().filter_map(|row| row.get(column));
                    let names = self.names.get(column);
                    cells.chain(names).map(|cell| cell.chars().count()).max().unwrap_or(0)
                })
                .collect();
            fit(&mut widths, self.terminal);
            let lines: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
            out = self.padded(&self.names, &widths) + &self.padded(&lines, &widths);
            self.widths = Some(widths);
        }
        let widths = self.widths.clone().unwrap_or_default();
        for row in std::mem::take(&mut self.waiting) {
            out.push_str(&self.padded(&row, &widths));
        }
        out
    }

    /// A line of the table. Rows after those that gave the widths may be wider; they are cut for a
    /// terminal, and never for a file.
    fn padded(&self, cells: &[String], widths: &[usize]) -> String {
        let cells = cells.iter().zip(widths).map(|(cell, width)| match self.terminal {
            Some(_) => format!("{:<width$}", cut(cell, *width)),
            None => format!("{cell:<width$}"),
        });
        format!("{}\n", cells.collect::<Vec<_>>().join(GAP).trim_end())
    }
}

/// Between two columns of a table.
const GAP: &str = "  ";

/// The least that a column is narrowed to.
const WIDTH_LEAST: usize = 8;

/// Narrows the widest columns until a line fits the terminal, as far as that goes.
fn fit(widths: &mut [usize], terminal: Option<usize>) {
    let Some(terminal) = terminal else { return };
    let gaps = GAP.len() * widths.len().saturating_sub(1);
    while widths.iter().sum::<usize>() + gaps > terminal {
        let widest = widths.iter_mut().max_by_key(|width| **width);
        match widest {
            Some(width) if *width > WIDTH_LEAST => *width -= 1,
            _ => return,
        }
    }
}

/// A cell of at most `width` characters; one that is cut ends with an ellipsis.
fn cut(cell: &str, width: usize) -> String {
    if cell.chars().count() <= width {
        return cell.to_owned();
    }
    cell.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

/// Control characters, and those that turn the direction of text or end a line.
fn is_obeyed(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(c, '\u{2066}'..='\u{2069}')
}

/// A cell on one line: line ends and other characters that a terminal obeys are escapes.
fn line(cell: &str) -> String {
    let mut out = String::with_capacity(cell.len());
    for c in cell.chars() {
        match is_obeyed(c) {
            true => out.extend(c.escape_default()),
            false => out.push(c),
        }
    }
    out
}

/// JSON whose strings name such characters by their numbers.
fn escaped(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        match is_obeyed(c) {
            true => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            false => out.push(c),
        }
    }
    out
}

/// A text that no spreadsheet runs: what begins as a formula does has a `'` before it. Numbers stay
/// as they are.
fn harmless(cell: String) -> String {
    let formula = cell.starts_with(['=', '+', '-', '@', '\t', '\r', '\n', '＝', '＋', '－', '＠']);
    let number = cell.parse::<f64>().is_ok_and(f64::is_finite);
    if formula && !number { format!("'{cell}") } else { cell }
}

fn csv(cells: &[String]) -> String {
    let quoted: Vec<String> = cells
        .iter()
        .map(|cell| {
            if cell.contains([',', '"', '\n', '\r']) || cell.starts_with('\'') {
                format!("\"{}\"", cell.replace('"', "\"\""))
            } else {
                cell.clone()
            }
        })
        .collect();
    format!("{}\r\n", quoted.join(","))
}

fn text(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Null => String::new(),
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Real(number) => number.to_string(),
        ValueRef::Text(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        ValueRef::Blob(bytes) => hex(bytes),
    }
}

fn json(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => number.into(),
        ValueRef::Real(number) => number.into(),
        other => text(other).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(format: Format, rows: &[[ValueRef<'_>; 2]]) -> String {
        let mut out = Output::new(format, vec!["a".to_owned(), "b".to_owned()], None);
        let mut text: String = rows.iter().map(|row| out.row(row)).collect();
        text.push_str(&out.end());
        text
    }

    #[test]
    fn each_format_is_whole_with_and_without_rows() {
        let rows = [
            [ValueRef::Integer(1), ValueRef::Text(b"x,\"y\"")],
            [ValueRef::Null, ValueRef::Real(2.5)],
        ];
        assert_eq!(all(Format::Csv, &rows), "a,b\r\n1,\"x,\"\"y\"\"\"\r\n,2.5\r\n");
        assert_eq!(all(Format::Csv, &[]), "a,b\r\n");
        assert_eq!(
            all(Format::Json, &rows),
            "[\n{\"a\":1,\"b\":\"x,\\\"y\\\"\"},\n{\"a\":null,\"b\":2.5}\n]\n"
        );
        assert_eq!(all(Format::Json, &[]), "[]\n");
        assert_eq!(all(Format::Table, &rows), "a  b\n-  -----\n1  x,\"y\"\n   2.5\n");
        assert_eq!(all(Format::Table, &[]), "a  b\n-  -\n");
    }

    #[test]
    fn csv_holds_no_formula_and_json_nothing_that_a_terminal_obeys() {
        for (cell, written) in [
            ("=1+1", "\"'=1+1\""),
            ("+cmd|' /C calc'!A0", "\"'+cmd|' /C calc'!A0\""),
            ("-2+3", "\"'-2+3\""),
            ("@SUM(1)", "\"'@SUM(1)\""),
            ("\t=1", "\"'\t=1\""),
            ("\r=1", "\"'\r=1\""),
            ("-2.5e3", "-2.5e3"),
            ("+1", "+1"),
            ("web-1", "web-1"),
        ] {
            let rows = [[ValueRef::Text(cell.as_bytes()), ValueRef::Real(-2.5)]];
            assert_eq!(all(Format::Csv, &rows), format!("a,b\r\n{written},-2.5\r\n"));
        }
        let rows = [[ValueRef::Text("a\u{9b}31m\u{202e}".as_bytes()), ValueRef::Null]];
        let json = all(Format::Json, &rows);
        assert!(json.contains(r#""a\u009b31m\u202e""#), "{json}");
        let parsed: Value = serde_json::from_str(&json).unwrap_or_default();
        assert_eq!(parsed[0]["a"], "a\u{9b}31m\u{202e}");
    }

    #[test]
    fn columns_stay_in_the_order_of_the_select() {
        let names = ["z", "a", "m"].map(str::to_owned).to_vec();
        let mut out = Output::new(Format::Json, names, None);
        let row = out.row(&[ValueRef::Integer(1), ValueRef::Integer(2), ValueRef::Integer(3)]);
        assert_eq!(row, "[\n{\"z\":1,\"a\":2,\"m\":3}");
    }

    #[test]
    fn a_table_fits_the_terminal_and_a_file_gets_all_of_it() {
        let long = "x".repeat(60);
        let row = [ValueRef::Text(b"web-01"), ValueRef::Text(long.as_bytes())];
        let names = || vec!["agent_id".to_owned(), "labels".to_owned()];
        let mut out = Output::new(Format::Table, names(), Some(40));
        let text = out.row(&row) + &out.end();
        assert!(text.lines().all(|line| line.chars().count() <= 40), "{text}");
        assert!(text.trim_end().ends_with('…'), "{text}");
        let mut out = Output::new(Format::Table, names(), None);
        let text = out.row(&row) + &out.end();
        assert!(text.contains(&long), "{text}");
        let mut out = Output::new(Format::Table, names(), Some(10));
        assert!(!(out.row(&row) + &out.end()).is_empty());
        let mut out = Output::new(Format::Table, names(), None);
        let text = out.row(&[ValueRef::Text(b"a\nb\x1b[1m"), ValueRef::Null]) + &out.end();
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(!text.contains('\x1b'), "{text}");
    }
}
