//! Parts of a UTC date, from Unix seconds.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

fn part(secs: i64, part: impl Fn(DateTime) -> i16) -> f64 {
    // Years that a calendar does not have, before -9999 or after 9999, have no parts.
    let moment = Timestamp::from_second(secs).ok();
    moment.map_or(f64::NAN, |at| f64::from(part(TimeZone::UTC.to_datetime(at))))
}

/// 0 to 59.
pub(crate) fn minute(secs: i64) -> f64 {
    part(secs, |at| i16::from(at.minute()))
}

/// 0 to 23.
pub(crate) fn hour(secs: i64) -> f64 {
    part(secs, |at| i16::from(at.hour()))
}

/// 0 for Sunday to 6.
pub(crate) fn day_of_week(secs: i64) -> f64 {
    part(secs, |at| i16::from(at.weekday().to_sunday_zero_offset()))
}

/// 1 to 31.
pub(crate) fn day_of_month(secs: i64) -> f64 {
    part(secs, |at| i16::from(at.day()))
}

/// 1 to 366.
pub(crate) fn day_of_year(secs: i64) -> f64 {
    part(secs, |at| at.date().day_of_year())
}

/// 28 to 31.
pub(crate) fn days_in_month(secs: i64) -> f64 {
    part(secs, |at| i16::from(at.date().days_in_month()))
}

/// 1 to 12.
pub(crate) fn month(secs: i64) -> f64 {
    part(secs, |at| i16::from(at.month()))
}

/// Such as 2026.
pub(crate) fn year(secs: i64) -> f64 {
    part(secs, |at| at.year())
}
