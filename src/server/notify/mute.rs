//! Silence windows: when notifications are held back, and until when. Pure: the time is given.
//!
//! A window goes from `start_time` to `end_time` of the local clock, into the next day where the
//! end is not after the start; `24:00` ends it with the day. It comes `daily`, `weekly` on the
//! `days` on which it starts, or once, from `date` to `end_date`. Where the clock is put forward
//! over one of the times, the window shifts with the clock; where it is put back, a time that comes
//! twice starts the window at its first and ends it at its second coming.

use globset::{Glob, GlobMatcher};
use jiff::civil::{Date, Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};

use crate::base::limits::TEXT_BYTES_MAX;
use crate::server::control::notify::silence::SilenceRow;
use crate::server::control::profiles::AgentPattern;

/// A checked window.
#[derive(Debug, Clone)]
pub(crate) struct SilenceWindow {
    start: Clock,
    end: Clock,
    when: When,
    zone: Option<TimeZone>,
    agent: Option<AgentPattern>,
    metric: Option<GlobMatcher>,
}

/// A time of day; `24:00` is the next day's midnight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Clock {
    minutes: i16,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum When {
    Daily,
    Weekly(Vec<Weekday>),
    Once(Date, Date),
    /// From a moment to another, Unix milliseconds.
    Span(i64, i64),
}

/// Names of days, Monday first; the first three letters do too.
const DAYS: [(&str, Weekday); 7] = [
    ("monday", Weekday::Monday),
    ("tuesday", Weekday::Tuesday),
    ("wednesday", Weekday::Wednesday),
    ("thursday", Weekday::Thursday),
    ("friday", Weekday::Friday),
    ("saturday", Weekday::Saturday),
    ("sunday", Weekday::Sunday),
];

impl Clock {
    fn parse(field: &str, text: &str) -> Result<Self, String> {
        let wrong = || format!("{field}: `{}` is not a time such as 02:00", short(text));
        let (hour, minute) = text.split_once(':').ok_or_else(wrong)?;
        let digits = |part: &str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(hour) || !digits(minute) {
            return Err(wrong());
        }
        let hour: i16 = hour.parse().map_err(|_| wrong())?;
        let minute: i16 = minute.parse().map_err(|_| wrong())?;
        let minutes = hour * 60 + minute;
        if minute > 59 || minutes > DAY_MINUTES || (minutes == DAY_MINUTES && field != "end_time") {
            return Err(wrong());
        }
        Ok(Self { minutes })
    }

    /// Which moment this time of `date` is, as Unix milliseconds.
    fn on(self, date: Date, zone: &TimeZone, last: bool) -> Option<i64> {
        let date = if self.minutes == DAY_MINUTES { next_day(date)? } else { date };
        let minutes = self.minutes % DAY_MINUTES;
        let time = Time::new((minutes / 60) as i8, (minutes % 60) as i8, 0, 0).ok()?;
        let moment = zone.to_ambiguous_timestamp(date.to_datetime(time));
        let moment = if last { moment.later() } else { moment.compatible() };
        moment.ok().map(Timestamp::as_millisecond)
    }
}

const DAY_MINUTES: i16 = 24 * 60;
/// Days that are looked through for the times of a window that comes again.
const SPAN_DAYS_MAX: usize = 400;

fn next_day(date: Date) -> Option<Date> {
    date.checked_add(Span::new().days(1)).ok()
}

fn short(text: &str) -> String {
    text.chars().take(64).collect()
}

impl SilenceWindow {
    /// Checks a row. Where `date` is left out of a window that comes once, or `days` of a weekly
    /// one, it is set in the row: the day on which the window next begins, or has begun and is not
    /// over.
    ///
    /// # Errors
    ///
    /// Names the field that can't be taken.
    pub(crate) fn complete(
        row: &mut SilenceRow,
        zone: &TimeZone,
        now_ms: i64,
    ) -> Result<Self, String> {
        let recurrence = row.recurrence.as_deref().unwrap_or("none");
        let (once, weekly) = (recurrence == "none", recurrence == "weekly");
        if (once && row.date.is_none()) || (weekly && row.days.is_none()) {
            let mut daily = SilenceRow { recurrence: Some("daily".to_owned()), ..row.clone() };
            daily.end_date = None;
            let daily = Self::parse(&daily)?;
            let zone = daily.zone.clone().unwrap_or_else(|| zone.clone());
            let date = daily.next_start(&zone, now_ms).ok_or("start_time: is out of time")?;
            if once {
                row.date = Some(date.to_string());
            } else {
                let name = DAYS.iter().find(|(_, day)| *day == date.weekday());
                row.days = name.map(|(name, _)| name[..3].to_owned());
            }
        }
        if once {
            row.recurrence = None;
        }
        Self::parse(row)
    }

    /// Reads a row.
    ///
    /// # Errors
    ///
    /// Names the field that can't be taken.
    pub(crate) fn parse(row: &SilenceRow) -> Result<Self, String> {
        let start = Clock::parse("start_time", &row.start_time)?;
        let end = Clock::parse("end_time", &row.end_time)?;
        let when = match (row.starts_at_ms, row.ends_at_ms) {
            (Some(from), Some(to)) if to <= from => {
                return Err("ends_at: must be after `starts_at`".to_owned());
            }
            (Some(from), Some(to)) => When::Span(from, to),
            _ => when(row, start, end)?,
        };
        let zone = match row.time_zone.as_deref() {
            None => None,
            Some(name) => Some(TimeZone::get(name).map_err(|_| {
                format!("time_zone: `{}` is not a time zone of this system", short(name))
            })?),
        };
        let pattern = row.agent_pattern.as_deref();
        let agent = match pattern.and_then(AgentPattern::by_tag) {
            Some(tagged) => Some(tagged),
            None => glob("agent_pattern", pattern)?.map(AgentPattern::Glob),
        };
        let metric = glob("metric_pattern", row.metric_pattern.as_deref())?;
        Ok(Self { start, end, when, zone, agent, metric })
    }

    /// Whether the window is about this agent's metric.
    pub(crate) fn is_about(&self, agent: &str, metric: &str) -> bool {
        self.agent.as_ref().is_none_or(|agents| agents.is_match(agent))
            && self.metric.as_ref().is_none_or(|glob| glob.is_match(metric))
    }

    /// When the window that is open at `now_ms` ends, Unix milliseconds; `None` when it is not
    /// open. `zone` is that of windows that name none.
    pub(crate) fn open_until(&self, zone: &TimeZone, now_ms: i64) -> Option<i64> {
        if let When::Span(from, to) = self.when {
            return (from..to).contains(&now_ms).then_some(to);
        }
        let zone = self.zone.as_ref().unwrap_or(zone);
        let today =
            Timestamp::from_millisecond(now_ms).ok()?.to_zoned_datetime(zone.clone()).date();
        // A window that began yesterday may go on over midnight.
        let yesterday = today.checked_sub(Span::new().days(1)).ok()?;
        let starts = match self.when {
            When::Once(from, _) => vec![from],
            _ => vec![yesterday, today],
        };
        let spans = starts.into_iter().filter_map(|date| self.span(date, zone));
        spans.filter(|(start, end)| (*start..*end).contains(&now_ms)).map(|(_, end)| end).max()
    }

    /// The times in which it is open within `from_ms` to `to_ms`, oldest first, at most `most`.
    pub(crate) fn spans(
        &self,
        zone: &TimeZone,
        (from_ms, to_ms): (i64, i64),
        most: usize,
    ) -> Vec<(i64, i64)> {
        if let When::Span(from, to) = self.when {
            return if from < to_ms && to > from_ms { vec![(from, to)] } else { Vec::new() };
        }
        let zone = self.zone.as_ref().unwrap_or(zone);
        let day = |ms| {
            let moment = Timestamp::from_millisecond(ms).ok()?;
            Some(moment.to_zoned_datetime(zone.clone()).date())
        };
        let (Some(first), Some(last)) = (day(from_ms), day(to_ms)) else { return Vec::new() };
        let first = match self.when {
            When::Once(from, _) => from,
            _ => first.checked_sub(Span::new().days(1)).unwrap_or(first),
        };
        let days = first.series(Span::new().days(1)).take_while(|date| *date <= last);
        let spans = days.take(SPAN_DAYS_MAX).filter_map(|date| self.span(date, zone));
        spans.filter(|(start, end)| *start < to_ms && *end > from_ms).take(most).collect()
    }

    /// Start and end of the window that starts on `date`.
    fn span(&self, date: Date, zone: &TimeZone) -> Option<(i64, i64)> {
        let last = match &self.when {
            When::Weekly(days) if !days.contains(&date.weekday()) => return None,
            When::Once(from, _) if *from != date => return None,
            When::Span(..) => return None,
            When::Once(_, to) => *to,
            _ if self.end <= self.start => next_day(date)?,
            _ => date,
        };
        Some((self.start.on(date, zone, false)?, self.end.on(last, zone, true)?))
    }

    fn next_start(&self, zone: &TimeZone, now_ms: i64) -> Option<Date> {
        let today =
            Timestamp::from_millisecond(now_ms).ok()?.to_zoned_datetime(zone.clone()).date();
        let first = today.checked_sub(Span::new().days(1)).ok()?;
        let mut days = first.series(Span::new().days(1)).take(4);
        days.find(|date| self.span(*date, zone).is_some_and(|(_, end)| end > now_ms))
    }
}

fn when(row: &SilenceRow, start: Clock, end: Clock) -> Result<When, String> {
    let recurrence = row.recurrence.as_deref().unwrap_or("none");
    if start == end && (recurrence != "none" || row.end_date.is_none()) {
        return Err("end_time: must differ from start_time; a whole day is 00:00 to 24:00".into());
    }
    if recurrence != "none" && (row.date.is_some() || row.end_date.is_some()) {
        return Err("date: only a window that comes once has dates".to_owned());
    }
    if recurrence != "weekly" && row.days.is_some() {
        return Err("days: only a weekly window has days".to_owned());
    }
    match recurrence {
        "daily" => Ok(When::Daily),
        "weekly" => weekdays(row.days.as_deref().unwrap_or_default()).map(When::Weekly),
        "none" => {
            let from = date("date", row.date.as_deref())?.ok_or("date: is missing")?;
            let natural = if end <= start { next_day(from).unwrap_or(from) } else { from };
            let to = date("end_date", row.end_date.as_deref())?.unwrap_or(natural);
            if (to, end) <= (from, start) {
                return Err("end_date: the window must end after it starts".to_owned());
            }
            Ok(When::Once(from, to))
        }
        other => Err(format!("recurrence: `{}` is not one of daily, weekly, none", short(other))),
    }
}

fn weekdays(text: &str) -> Result<Vec<Weekday>, String> {
    let mut days = Vec::new();
    for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        let lower = name.to_ascii_lowercase();
        let found = DAYS.iter().find(|(day, _)| *day == lower || day[..3] == lower);
        let (_, day) =
            found.ok_or_else(|| format!("days: `{}` is not a day such as mon", short(name)))?;
        days.push(*day);
    }
    if days.is_empty() {
        return Err("days: a weekly window needs days such as [\"sat\", \"sun\"]".to_owned());
    }
    Ok(days)
}

fn date(field: &str, text: Option<&str>) -> Result<Option<Date>, String> {
    let Some(text) = text else { return Ok(None) };
    let parsed = text.parse::<Date>().ok().filter(|_| text.len() == 10);
    parsed
        .map(Some)
        .ok_or_else(|| format!("{field}: `{}` is not a date such as 2026-02-09", short(text)))
}

fn glob(field: &str, pattern: Option<&str>) -> Result<Option<GlobMatcher>, String> {
    let Some(pattern) = pattern else { return Ok(None) };
    if pattern.is_empty() || pattern.len() > TEXT_BYTES_MAX {
        return Err(format!("{field}: must have 1 to {TEXT_BYTES_MAX} bytes"));
    }
    let glob = Glob::new(pattern).map_err(|error| format!("{field}: {error}"))?;
    Ok(Some(glob.compile_matcher()))
}

#[cfg(test)]
mod tests;
