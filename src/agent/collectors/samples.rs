//! What a collector writes to: points of one collection, and notes for the log.

use std::time::Instant;

use crate::agent::collectors::CollectError;
use crate::model::point::Point;
use crate::model::series::Labels;

/// The time of one collection.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// Timestamp of all of its points, Unix milliseconds.
    pub timestamp_ms: i64,
    /// The monotonic time, for rates, which a step of the wall clock does not distort.
    pub at: Instant,
    /// Whether this is the collection of the minute that also reads what seldom changes.
    pub slow: bool,
}

/// What the lines of a file say, and what is wrong with the first of those that make no sense.
pub(super) type Lines<T> = (Vec<T>, Option<CollectError>);

/// The points of one collection.
#[derive(Debug)]
pub struct Samples {
    /// When, and how much is wanted.
    pub moment: Moment,
    points: Vec<Point>,
    notes: Vec<Note>,
}

/// Something that a user should know of, such as a mount that is left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// What it is about, such as a mount point.
    pub about: String,
    /// What there is to know. It is logged once, and again when it changes.
    pub text: String,
}

impl Samples {
    /// No points yet.
    pub fn new(moment: Moment) -> Self {
        Self { moment, points: Vec::new(), notes: Vec::new() }
    }

    /// Adds a point without labels.
    pub fn plain(&mut self, metric: &str, value: f64) {
        self.points.push(Point::plain(metric, self.moment.timestamp_ms, value));
    }

    /// Adds a point without labels where there is a value.
    pub fn maybe(&mut self, metric: &str, value: Option<f64>) {
        if let Some(value) = value {
            self.plain(metric, value);
        }
    }

    /// Adds a point with one label.
    pub fn labelled(&mut self, metric: &str, name: &str, label: &str, value: f64) {
        self.points.push(Point::labelled(metric, name, label, self.moment.timestamp_ms, value));
    }

    /// Adds a point with several labels.
    pub fn with(&mut self, metric: &str, labels: &Labels, value: f64) {
        let timestamp_ms = self.moment.timestamp_ms;
        let labels = labels.clone();
        self.points.push(Point { metric: metric.into(), labels, timestamp_ms, value });
    }

    /// Adds a point as it is, with its own time.
    pub fn point(&mut self, point: Point) {
        self.points.push(point);
    }

    /// Has `text` logged, unless the collection before said the same about the same.
    pub fn note(&mut self, about: impl Into<String>, text: impl Into<String>) {
        self.notes.push(Note { about: about.into(), text: text.into() });
    }

    /// Shortens `items` to `most` and notes how many are left out. `key` is the key of the
    /// configuration that chooses among them, where there is one.
    pub fn cap<T>(&mut self, items: &mut Vec<T>, most: usize, what: &str, key: Option<&str>) {
        self.left_out(items.len(), most, what, key);
        items.truncate(most);
    }

    /// Notes that of `there` things only `most` are measured, where there are more.
    pub fn left_out(&mut self, there: usize, most: usize, what: &str, key: Option<&str>) {
        let Some(over) = there.checked_sub(most).filter(|over| *over > 0) else { return };
        let choose = key.map(|key| format!("; choose with {key}")).unwrap_or_default();
        self.note(what, format!("measuring {most} of {there} {what}, {over} are left out{choose}"));
    }

    /// The points and the notes.
    pub fn into_parts(self) -> (Vec<Point>, Vec<Note>) {
        (self.points, self.notes)
    }
}
