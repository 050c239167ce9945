//! Counters that only grow, and what they did since the collection before.

/// How much a counter grew. One that is smaller than before was reset, or has wrapped: what it did
/// in between is not known, so there is no growth rather than a spike.
pub fn growth(before: u64, now: u64) -> Option<u64> {
    now.checked_sub(before)
}

#[cfg(test)]
mod tests {
    use super::growth;

    #[test]
    fn a_counter_that_went_back_gives_nothing() {
        assert_eq!(growth(10, 25), Some(15));
        assert_eq!(growth(10, 10), Some(0));
        assert_eq!(growth(u64::MAX, 3), None);
        assert_eq!(growth(u64::from(u32::MAX), 100), None);
    }
}
