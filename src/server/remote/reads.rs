//! Reads of what the engine has, for agents whose samples are not all here.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::server::remote::gaps::Times;
use crate::server::remote::old::BySeries;
use crate::server::remote::{Inner, joined};
use crate::server::storage::{Bucket, Listing, Page, PointFilter, PointRow, StorageError};

/// Reads samples of the engine, joined with what is here of the same times.
pub(crate) struct Reads(pub(super) Arc<Inner>);

impl Reads {
    /// The series of an agent and of a metric, or of all, with their samples, oldest first.
    ///
    /// # Errors
    ///
    /// [`StorageError::Behind`], which names the address, when the engine does not answer.
    pub(crate) fn points(
        &self,
        agent: Option<&str>,
        metric: Option<&str>,
        times: Times,
    ) -> Result<BySeries, StorageError> {
        self.0.old_points(agent, metric, self.0.kept(times))
    }

    /// A list whose newest part is `out`, the page of what comes after `old`, newest first.
    ///
    /// # Errors
    ///
    /// As [`Self::points`].
    pub(crate) fn list_on(
        &self,
        filter: &PointFilter,
        page: Page,
        out: Listing<PointRow>,
        old: Times,
    ) -> Result<Listing<PointRow>, StorageError> {
        joined::list_on(&self.0, filter, page, out, self.0.kept(old))
    }

    /// Unix milliseconds: samples that arrived before are at the engine, as far as it answers, or
    /// are none that it takes.
    pub(crate) fn settled_ms(&self) -> i64 {
        let gaps = self.0.targets.iter().filter_map(|target| target.gaps.oldest_ms());
        gaps.fold(self.0.sent_to_ms(), i64::min)
    }
}

/// The buckets of points, oldest first, with `step_ms` each, by their start.
pub(crate) fn buckets(points: &[(i64, f64)], step_ms: i64) -> BTreeMap<i64, Bucket> {
    joined::buckets_of(points, step_ms)
}

/// Points as a list shows them, newest first.
pub(crate) fn rows(found: BySeries) -> Vec<PointRow> {
    joined::rows_of(found)
}
