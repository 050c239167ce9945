//! What an import did, as the person who runs it reads it.

use std::fmt::Write as _;

/// Counts of one kind of thing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Kind {
    /// Brought over now.
    pub new: u64,
    /// There already, and left as it is.
    pub existing: u64,
    /// Not brought over.
    pub skipped: u64,
}

/// Counts by kind, and a line for everything that did not come over as it was.
#[derive(Debug, Default)]
pub(super) struct Report {
    kinds: Vec<(&'static str, Kind)>,
    /// Things that did not come over.
    pub skipped: Vec<String>,
    /// Things that came over changed, and advice.
    pub notes: Vec<String>,
}

impl Report {
    /// The counts of a kind, such as `users`.
    pub(super) fn kind(&mut self, name: &'static str) -> &mut Kind {
        let place = match self.kinds.iter().position(|(known, _)| *known == name) {
            Some(place) => place,
            None => {
                self.kinds.push((name, Kind::default()));
                self.kinds.len() - 1
            }
        };
        &mut self.kinds[place].1
    }

    /// Notes a thing that does not come over.
    pub(super) fn skip(&mut self, kind: &'static str, what: &str, why: impl std::fmt::Display) {
        self.kind(kind).skipped += 1;
        self.skipped.push(format!("{what}: {why}"));
    }

    /// The whole report.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for (name, kind) in &self.kinds {
            let Kind { new, existing, skipped } = kind;
            // Writing to a String does not fail.
            let _ = writeln!(text, "{name}: {new} new, {existing} existing, {skipped} skipped");
        }
        for note in &self.notes {
            let _ = writeln!(text, "note: {note}");
        }
        for line in &self.skipped {
            let _ = writeln!(text, "skipped {line}");
        }
        text
    }
}
