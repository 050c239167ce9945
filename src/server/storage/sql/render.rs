//! Rows as a table for people, as CSV (RFC 4180), or as a JSON array.

use rusqlite::types::ValueRef;
use serde_json::{Map, Value};

use crate::base::ids::hex;

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Columns of equal width.
    Table,
    /// RFC 4180, with a header.
    Csv,
    /// An array of objects.
    Json,
}

impl Format {
    /// The format of this name.
    pub fn named(name: &str) -> Option<Self> {
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
pub struct Output {
    format: Format,
    names: Vec<String>,
    rows: usize,
    waiting: Vec<Vec<String>>,
    widths: Option<Vec<usize>>,
}

impl Output {
    /// Output with these columns.
    pub fn new(format: Format, names: Vec<String>) -> Self {
        Self { format, names, rows: 0, waiting: Vec::new(), widths: None }
    }

    /// The text of one more row, as far as it can be written yet.
    pub fn row(&mut self, values: &[ValueRef<'_>]) -> String {
        self.rows += 1;
        match self.format {
            Format::Csv => {
                let head = if self.rows == 1 { csv(&self.names) } else { String::new() };
                head + &csv(&values.iter().map(|value| text(*value)).collect::<Vec<_>>())
            }
            Format::Json => {
                let before = if self.rows == 1 { "[\n" } else { ",\n" };
                let object: Map<String, Value> =
                    self.names.iter().cloned().zip(values.iter().map(|v| json(*v))).collect();
                format!("{before}{}", Value::Object(object))
            }
            Format::Table => {
                self.waiting.push(values.iter().map(|value| text(*value)).collect());
                if self.widths.is_none() && self.waiting.len() < TABLE_ROWS_LOOKED_AT {
                    return String::new();
                }
                self.flush()
            }
        }
    }

    /// The text after the last row.
    pub fn end(&mut self) -> String {
        match self.format {
            Format::Csv if self.rows == 0 => csv(&self.names),
            Format::Csv => String::new(),
            Format::Json if self.rows == 0 => "[]\n".to_owned(),
            Format::Json => "\n]\n".to_owned(),
            Format::Table => self.flush(),
        }
    }

    fn flush(&mut self) -> String {
        let mut out = String::new();
        if self.widths.is_none() {
            let widths: Vec<usize> = (0..self.names.len())
                .map(|column| {
                    let cells = self.waiting.iter().filter_map(|row| row.get(column));
                    let names = self.names.get(column);
                    cells.chain(names).map(|cell| cell.chars().count()).max().unwrap_or(0)
                })
                .collect();
            let lines: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
            out = padded(&self.names, &widths) + &padded(&lines, &widths);
            self.widths = Some(widths);
        }
        let widths = self.widths.clone().unwrap_or_default();
        for row in self.waiting.drain(..) {
            out.push_str(&padded(&row, &widths));
        }
        out
    }
}

fn padded(cells: &[String], widths: &[usize]) -> String {
    let line: Vec<String> =
        cells.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
    format!("{}\n", line.join("  ").trim_end())
}

fn csv(cells: &[String]) -> String {
    let quoted: Vec<String> = cells
        .iter()
        .map(|cell| {
            if cell.contains([',', '"', '\n', '\r']) {
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
        let mut out = Output::new(format, vec!["a".to_owned(), "b".to_owned()]);
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
}
