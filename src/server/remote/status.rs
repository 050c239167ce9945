//! What each target has, lacks and refuses, for people.

use crate::base::clock::SECOND_MS;
use crate::server::remote::Inner;
use crate::server::remote::target::Target;

/// What is known of one engine or node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TargetStatus {
    /// `engine`, or host and port of a node.
    pub(crate) name: String,
    /// Whether the last request was answered.
    pub(crate) is_up: bool,
    /// Age of the oldest sample in memory that it has not taken, seconds.
    pub(crate) lag_secs: i64,
    /// Times of agents that it lacks and that are read from the store later.
    pub(crate) gaps: usize,
    /// Their length, seconds.
    pub(crate) gap_secs: i64,
    /// Samples that it has taken since the start.
    pub(crate) sent: u64,
    /// Samples that it refused since the start.
    pub(crate) refused: u64,
    /// Samples that it lacks although they were sent several times.
    pub(crate) missing: u64,
    /// Until when everything was counted there, Unix milliseconds; `None` before the first audit.
    pub(crate) audited_to_ms: Option<i64>,
}

impl Inner {
    /// Seconds that a target is behind.
    pub(super) fn lag_secs(&self, target: &Target) -> i64 {
        target.oldest_ms().map_or(0, |at| (self.clock.now_ms() - at).max(0) / SECOND_MS)
    }

    /// The status of every target.
    pub(super) fn status(&self) -> Vec<TargetStatus> {
        let of = |target: &std::sync::Arc<Target>| {
            let (gaps, length_ms) = target.gaps.total();
            TargetStatus {
                name: target.name.clone(),
                is_up: target.metrics.up.get() == 1,
                lag_secs: self.lag_secs(target),
                gaps,
                gap_secs: length_ms / SECOND_MS,
                sent: target.metrics.sent.get(),
                refused: target.metrics.refused_total(),
                missing: target.metrics.missing.get(),
                audited_to_ms: target.audit.done_ms(),
            }
        };
        self.targets.iter().map(of).collect()
    }
}
