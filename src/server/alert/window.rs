//! The recent points of one series, in the order of their time, whatever the order they came in.

use std::collections::VecDeque;

/// Points that a window keeps at the least before it thins out.
const KEEP: usize = 256;

/// Recent points of one series. It holds at most twice as many points as it must be able to hold:
/// when there are more, every second of the older half goes. Length and slope stay what they are.
#[derive(Debug, Clone, Default)]
pub struct Window {
    span_ms: i64,
    cap: usize,
    points: VecDeque<(i64, f64)>,
}

impl Window {
    /// A window that reaches back `span_ms` from its newest point and can hold `points` of them.
    pub fn new(span_ms: i64, points: usize) -> Self {
        Self { span_ms, cap: KEEP.max(points.saturating_mul(2)), points: VecDeque::new() }
    }

    /// A window that holds nothing, for types that look at one point alone.
    pub fn none() -> Self {
        Self::default()
    }

    /// Puts a point in its place, drops what is older than the window reaches, and replaces a
    /// point of the same time.
    pub fn push(&mut self, at_ms: i64, value: f64) {
        if self.cap == 0 {
            return;
        }
        let newest = self.points.back().map_or(i64::MIN, |(newest, _)| *newest);
        if at_ms > newest {
            self.points.push_back((at_ms, value));
        } else if at_ms >= newest.saturating_sub(self.span_ms) {
            match self.points.binary_search_by_key(&at_ms, |(time, _)| *time) {
                Ok(index) => self.points[index].1 = value,
                Err(index) => self.points.insert(index, (at_ms, value)),
            }
        }
        let newest = self.points.back().map_or(at_ms, |(newest, _)| *newest);
        let start = newest.saturating_sub(self.span_ms);
        while self.points.front().is_some_and(|(time, _)| *time < start) {
            self.points.pop_front();
        }
        if self.points.len() > self.cap {
            self.thin();
        }
    }

    fn thin(&mut self) {
        let half = self.points.len() / 2;
        let mut index = 0;
        self.points.retain(|_| {
            index += 1;
            index > half || index % 2 == 1
        });
    }

    /// Drops what is after a time: the clock that its points are notified by was put back.
    pub fn put_back(&mut self, at_ms: i64) {
        while self.newest().is_some_and(|newest| newest > at_ms) {
            self.points.pop_back();
        }
    }

    /// Time of the newest point, Unix milliseconds.
    pub fn newest(&self) -> Option<i64> {
        self.points.back().map(|(at_ms, _)| *at_ms)
    }

    /// The oldest point: time in Unix milliseconds, and value.
    pub fn oldest(&self) -> Option<(i64, f64)> {
        self.points.front().copied()
    }

    /// The time from its oldest point to its newest, milliseconds.
    pub fn span_ms(&self) -> i64 {
        match (self.points.front(), self.points.back()) {
            (Some((oldest, _)), Some((newest, _))) => newest.saturating_sub(*oldest),
            _ => 0,
        }
    }

    /// The points, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = (i64, f64)> + Clone {
        self.points.iter().copied()
    }

    /// How many points it holds.
    pub fn len(&self) -> usize {
        self.points.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.points.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_stand_in_the_order_of_their_time() {
        let mut window = Window::new(100, 0);
        for at in [50, 10, 30, 30, 120, 5] {
            window.push(at, at as f64);
        }
        assert_eq!(window.iter().map(|(at, _)| at).collect::<Vec<_>>(), [30, 50, 120]);
        assert_eq!(window.oldest(), Some((30, 30.0)));
    }

    #[test]
    fn a_full_window_thins_out_and_still_reaches_back() {
        let mut window = Window::new(1_000_000, 0);
        for at in 0..100_000 {
            window.push(at, 1.0);
        }
        assert!(window.len() <= KEEP && window.len() > KEEP / 2, "{}", window.len());
        assert_eq!(window.oldest(), Some((0, 1.0)));
    }

    #[test]
    fn a_window_of_nothing_holds_nothing() {
        let mut window = Window::none();
        window.push(1, 1.0);
        assert!(window.is_empty());
    }
}
