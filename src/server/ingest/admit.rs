//! Admission: the rules of the wire for batches and for points.

use std::fmt::Write as _;

use crate::base::limits::{
    BATCH_POINTS_MAX, FUTURE_MS_MAX, LABEL_NAME_BYTES_MAX, LABEL_VALUE_BYTES_MAX, LABELS_MAX,
    METRIC_NAME_BYTES_MAX,
};
use crate::model::agent_id::check_agent_id;
use crate::server::storage::{SeriesLimit, StorageError};

/// Why a point is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// NaN or infinite.
    NotFinite,
    /// An empty or too long metric name.
    MetricName,
    /// An empty or too long label name, or a too long label value.
    Label,
    /// Too many labels.
    TooManyLabels,
    /// Before the retention window.
    TooOld,
    /// More than an hour ahead of the server's clock.
    TooFarAhead,
    /// A series number that the stream has not defined.
    UnknownSeries,
    /// The store has no room for it: too many series of one agent, or a day that was just deleted.
    NoRoom,
    /// There are as many agents as there may be.
    Agents,
    /// Names and labels, of the agent or of all, have as many bytes as they may have.
    SeriesBytes,
}

impl Reason {
    /// All reasons, in the order of their counters.
    pub(crate) const ALL: [Self; 10] = [
        Self::NotFinite,
        Self::MetricName,
        Self::Label,
        Self::TooManyLabels,
        Self::TooOld,
        Self::TooFarAhead,
        Self::UnknownSeries,
        Self::NoRoom,
        Self::Agents,
        Self::SeriesBytes,
    ];

    /// The reason of a series that the store does not take.
    pub(crate) fn of(error: &StorageError) -> Self {
        match error {
            StorageError::NoRoom(SeriesLimit::Agents) => Self::Agents,
            StorageError::NoRoom(SeriesLimit::AgentBytes | SeriesLimit::AllBytes) => {
                Self::SeriesBytes
            }
            _ => Self::NoRoom,
        }
    }

    /// The reason's name as the value of a metric's label.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::NotFinite => "not_finite",
            Self::MetricName => "metric_name",
            Self::Label => "label",
            Self::TooManyLabels => "too_many_labels",
            Self::TooOld => "too_old",
            Self::TooFarAhead => "too_far_ahead",
            Self::UnknownSeries => "unknown_series",
            Self::NoRoom => "no_room",
            Self::Agents => "agents",
            Self::SeriesBytes => "series_bytes",
        }
    }

    /// The reason in words.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::NotFinite => "not a finite number",
            Self::MetricName => "metric name empty or too long",
            Self::Label => "label name empty, or label too long",
            Self::TooManyLabels => "too many labels",
            Self::TooOld => "older than the retention",
            Self::TooFarAhead => "more than an hour ahead of the server's clock",
            Self::UnknownSeries => "series not defined on this stream",
            Self::NoRoom => "too many series of this agent, or a day that is not kept",
            Self::Agents => "too many agents: raise storage.agents_max",
            Self::SeriesBytes => "names and labels of this agent, or of all, take too many bytes",
        }
    }
}

/// Counts of rejected points, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Rejected([u32; Reason::ALL.len()]);

impl Rejected {
    /// Counts one.
    pub(crate) fn add(&mut self, reason: Reason) {
        self.add_many(reason, 1);
    }

    /// Counts several.
    pub(crate) fn add_many(&mut self, reason: Reason, points: usize) {
        if let Some(count) = self.0.get_mut(reason as usize) {
            *count = count.saturating_add(u32::try_from(points).unwrap_or(u32::MAX));
        }
    }

    /// How many over all reasons.
    pub(crate) fn total(&self) -> u32 {
        self.0.iter().sum()
    }

    /// Reasons that have a count.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (Reason, u32)> {
        Reason::ALL.into_iter().zip(self.0).filter(|(_, count)| *count > 0)
    }

    /// The message for the agent; empty when nothing was rejected.
    pub(crate) fn message(&self, of: usize) -> String {
        let total = self.total();
        if total == 0 {
            return String::new();
        }
        let mut text = format!("{total} of {of} points were rejected:");
        for (index, (reason, count)) in self.counts().enumerate() {
            let gap = if index > 0 { "," } else { "" };
            // Writing to a String does not fail.
            let _ = write!(text, "{gap} {count} {}", reason.words());
        }
        text
    }
}

/// The range of times that is accepted, Unix milliseconds, both ends included.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AcceptedTimes {
    from_ms: i64,
    to_ms: i64,
}

impl AcceptedTimes {
    /// The range for a retention of `retention_ms`, when the time now is between `earliest_ms` and
    /// `latest_ms`.
    pub(crate) fn at((earliest_ms, latest_ms): (i64, i64), retention_ms: i64) -> Self {
        let from_ms = earliest_ms.saturating_sub(retention_ms);
        Self { from_ms, to_ms: latest_ms.saturating_add(FUTURE_MS_MAX) }
    }

    /// Checks the time and the value of a point.
    ///
    /// # Errors
    ///
    /// Why it is rejected.
    pub(crate) fn check(&self, timestamp_ms: i64, value: f64) -> Result<(), Reason> {
        if !value.is_finite() {
            Err(Reason::NotFinite)
        } else if timestamp_ms < self.from_ms {
            Err(Reason::TooOld)
        } else if timestamp_ms > self.to_ms {
            Err(Reason::TooFarAhead)
        } else {
            Ok(())
        }
    }
}

/// Checks a metric's name and labels.
///
/// # Errors
///
/// Why its points are rejected.
pub(crate) fn check_series<'a>(
    metric: &str,
    labels: impl ExactSizeIterator<Item = (&'a str, &'a str)>,
) -> Result<(), Reason> {
    if metric.is_empty() || metric.len() > METRIC_NAME_BYTES_MAX {
        return Err(Reason::MetricName);
    }
    if labels.len() > LABELS_MAX {
        return Err(Reason::TooManyLabels);
    }
    for (name, value) in labels {
        let name_fits = (1..=LABEL_NAME_BYTES_MAX).contains(&name.len());
        if !name_fits || value.len() > LABEL_VALUE_BYTES_MAX {
            return Err(Reason::Label);
        }
    }
    Ok(())
}

/// Checks a batch as a whole.
///
/// # Errors
///
/// The message for the agent, which drops the batch.
pub(crate) fn check_batch(agent_id: &str, points: usize) -> Result<(), String> {
    check_agent_id(agent_id)?;
    if points == 0 {
        return Err("the batch has no points".to_owned());
    }
    if points > BATCH_POINTS_MAX {
        return Err(format!("the batch has {points} points; the maximum is {BATCH_POINTS_MAX}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: i64 = 1_770_625_800_000;

    #[test]
    fn a_point_is_accepted_within_the_times_only() {
        let times = AcceptedTimes::at((NOW_MS, NOW_MS), 1_000);
        assert_eq!(times.check(NOW_MS - 1_000, 1.0), Ok(()));
        assert_eq!(times.check(NOW_MS - 1_001, 1.0), Err(Reason::TooOld));
        assert_eq!(times.check(NOW_MS + FUTURE_MS_MAX, 1.0), Ok(()));
        assert_eq!(times.check(NOW_MS + FUTURE_MS_MAX + 1, 1.0), Err(Reason::TooFarAhead));
        assert_eq!(times.check(0, 1.0), Err(Reason::TooOld));
        assert_eq!(times.check(i64::MIN, 1.0), Err(Reason::TooOld));
        assert_eq!(times.check(i64::MAX, 1.0), Err(Reason::TooFarAhead));
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(times.check(NOW_MS, value), Err(Reason::NotFinite));
        }
    }

    #[test]
    fn a_series_is_checked_against_every_limit() {
        let check =
            |metric: &str, labels: &[(&str, &str)]| check_series(metric, labels.iter().copied());
        let long = |bytes: usize| "x".repeat(bytes);
        assert_eq!(check(&long(METRIC_NAME_BYTES_MAX), &[]), Ok(()));
        assert_eq!(check(&long(METRIC_NAME_BYTES_MAX + 1), &[]), Err(Reason::MetricName));
        assert_eq!(check("", &[]), Err(Reason::MetricName));
        let name = long(LABEL_NAME_BYTES_MAX);
        let value = long(LABEL_VALUE_BYTES_MAX);
        assert_eq!(check("m", &[(&name, &value), ("empty", "")]), Ok(()));
        assert_eq!(check("m", &[(&format!("{name}x"), "")]), Err(Reason::Label));
        assert_eq!(check("m", &[("n", &format!("{value}x"))]), Err(Reason::Label));
        assert_eq!(check("m", &[("", "v")]), Err(Reason::Label));
        assert_eq!(check("m", &[("n", "v"); LABELS_MAX]), Ok(()));
        assert_eq!(check("m", &[("n", "v"); LABELS_MAX + 1]), Err(Reason::TooManyLabels));
    }

    #[test]
    fn the_message_counts_rejected_points_by_reason() {
        let mut rejected = Rejected::default();
        assert_eq!(rejected.message(3), "");
        rejected.add(Reason::NotFinite);
        rejected.add(Reason::TooOld);
        rejected.add(Reason::TooOld);
        assert_eq!(
            rejected.message(60),
            "3 of 60 points were rejected: 1 not a finite number, 2 older than the retention"
        );
    }

    #[test]
    fn reasons_are_in_the_order_of_their_counters() {
        for (index, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index, "{}", reason.name());
        }
    }

    #[test]
    fn the_message_of_a_bad_batch_says_why() {
        assert_eq!(check_batch("a", BATCH_POINTS_MAX), Ok(()));
        assert!(check_batch("a", BATCH_POINTS_MAX + 1).is_err_and(|text| text.contains("10001")));
        assert!(check_batch("", 1).is_err_and(|text| text.contains("agent_id")));
        assert!(check_batch("a", 0).is_err_and(|text| text.contains("no points")));
        assert!(check_batch("a\nb", 1).is_err_and(|text| text.contains("control characters")));
    }
}
