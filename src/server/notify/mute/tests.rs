#![allow(clippy::unwrap_used)]
use super::*;
use crate::base::clock::parse_rfc3339;

fn row(start: &str, end: &str, recurrence: Option<&str>) -> SilenceRow {
    SilenceRow {
        start_time: start.to_owned(),
        end_time: end.to_owned(),
        recurrence: recurrence.map(str::to_owned),
        ..SilenceRow::default()
    }
}

fn ms(text: &str) -> i64 {
    parse_rfc3339(text).unwrap()
}

fn berlin() -> TimeZone {
    TimeZone::get("Europe/Berlin").unwrap()
}

/// Whether the window is open at a time, and until when.
fn until(window: &SilenceWindow, zone: &TimeZone, at: &str) -> Option<String> {
    window.open_until(zone, ms(at)).map(crate::base::clock::rfc3339)
}

#[test]
fn a_daily_window_includes_its_start_and_not_its_end() {
    let window = SilenceWindow::parse(&row("02:00", "04:00", Some("daily"))).unwrap();
    let utc = TimeZone::UTC;
    assert_eq!(until(&window, &utc, "2026-02-09T01:59:59.999Z"), None);
    assert_eq!(until(&window, &utc, "2026-02-09T02:00:00Z").unwrap(), "2026-02-09T04:00:00Z");
    assert_eq!(until(&window, &utc, "2026-02-09T03:59:59.999Z").unwrap(), "2026-02-09T04:00:00Z");
    assert_eq!(until(&window, &utc, "2026-02-09T04:00:00Z"), None);
    let shanghai = TimeZone::get("Asia/Shanghai").unwrap();
    assert!(until(&window, &shanghai, "2026-02-08T18:30:00Z").is_some());
}

#[test]
fn a_window_goes_over_midnight() {
    let window = SilenceWindow::parse(&row("22:00", "06:00", Some("daily"))).unwrap();
    let utc = TimeZone::UTC;
    assert_eq!(until(&window, &utc, "2026-02-09T23:00:00Z").unwrap(), "2026-02-10T06:00:00Z");
    assert_eq!(until(&window, &utc, "2026-02-10T00:00:00Z").unwrap(), "2026-02-10T06:00:00Z");
    assert_eq!(until(&window, &utc, "2026-02-10T06:00:00Z"), None);
    let whole = SilenceWindow::parse(&row("00:00", "24:00", Some("daily"))).unwrap();
    assert_eq!(until(&whole, &utc, "2026-02-10T00:00:00Z").unwrap(), "2026-02-11T00:00:00Z");
}

#[test]
fn a_weekly_window_belongs_to_the_day_on_which_it_starts() {
    let mut weekly = row("22:00", "02:00", Some("weekly"));
    weekly.days = Some("sat,Sunday".to_owned());
    let window = SilenceWindow::parse(&weekly).unwrap();
    let utc = TimeZone::UTC;
    // 2026-02-07 is a Saturday.
    assert!(until(&window, &utc, "2026-02-07T23:00:00Z").is_some());
    assert!(until(&window, &utc, "2026-02-09T01:00:00Z").is_some(), "Sunday's, on Monday morning");
    assert!(until(&window, &utc, "2026-02-09T23:00:00Z").is_none(), "Monday has none");
    assert!(until(&window, &utc, "2026-02-07T01:00:00Z").is_none(), "Friday has none");
}

#[test]
fn a_weekly_window_without_days_comes_on_the_day_on_which_it_was_asked_for() {
    let utc = TimeZone::UTC;
    let mut weekly = row("02:00", "04:00", Some("weekly"));
    // 2026-02-09 is a Monday, and its window has ended.
    SilenceWindow::complete(&mut weekly, &utc, ms("2026-02-09T05:00:00Z")).unwrap();
    assert_eq!(weekly.days.as_deref(), Some("tue"));
    let mut open = row("22:00", "06:00", Some("weekly"));
    let window = SilenceWindow::complete(&mut open, &utc, ms("2026-02-10T05:00:00Z")).unwrap();
    assert_eq!(open.days.as_deref(), Some("mon"), "it is Monday's, and open");
    assert!(until(&window, &utc, "2026-02-17T05:59:00Z").is_some());
    assert!(until(&window, &utc, "2026-02-17T22:30:00Z").is_none());
}

#[test]
fn a_window_without_recurrence_comes_once() {
    let mut once = row("22:00", "06:00", None);
    let utc = TimeZone::UTC;
    let window = SilenceWindow::complete(&mut once, &utc, ms("2026-02-09T23:00:00Z")).unwrap();
    assert_eq!(once.date.as_deref(), Some("2026-02-09"), "it is open now");
    assert!(until(&window, &utc, "2026-02-10T05:00:00Z").is_some());
    assert!(until(&window, &utc, "2026-02-10T23:00:00Z").is_none());
    let mut once = row("02:00", "04:00", Some("none"));
    SilenceWindow::complete(&mut once, &utc, ms("2026-02-09T05:00:00Z")).unwrap();
    assert_eq!(once.date.as_deref(), Some("2026-02-10"), "today's has ended");
    let mut range = row("18:00", "08:00", None);
    range.date = Some("2026-12-24".to_owned());
    range.end_date = Some("2027-01-02".to_owned());
    let window = SilenceWindow::complete(&mut range, &utc, 0).unwrap();
    assert_eq!(until(&window, &utc, "2026-12-31T23:59:00Z").unwrap(), "2027-01-02T08:00:00Z");
    assert!(until(&window, &utc, "2026-12-24T17:59:00Z").is_none());
}

#[test]
fn the_clock_put_forward_shifts_a_window_with_it() {
    // In Berlin 02:00 to 03:00 of 2026-03-29 did not happen: 01:59:59 +01 is followed by
    // 03:00:00 +02, which is 01:00:00 UTC.
    let zone = berlin();
    let inside = SilenceWindow::parse(&row("02:15", "02:45", Some("daily"))).unwrap();
    assert_eq!(until(&inside, &zone, "2026-03-29T01:20:00Z").unwrap(), "2026-03-29T01:45:00Z");
    assert_eq!(until(&inside, &zone, "2026-03-29T01:14:59Z"), None);
    let over = SilenceWindow::parse(&row("01:30", "03:30", Some("daily"))).unwrap();
    assert_eq!(until(&over, &zone, "2026-03-29T00:30:00Z").unwrap(), "2026-03-29T01:30:00Z");
    let start = SilenceWindow::parse(&row("02:00", "04:00", Some("daily"))).unwrap();
    assert_eq!(until(&start, &zone, "2026-03-29T01:00:00Z").unwrap(), "2026-03-29T02:00:00Z");
    assert_eq!(until(&start, &zone, "2026-03-29T00:59:59Z"), None);
}

#[test]
fn the_clock_put_back_lets_no_gap_open_in_a_window() {
    // In Berlin 02:00 to 03:00 of 2026-10-25 came twice: 00:00 to 01:00 UTC and 01:00 to 02:00 UTC.
    let zone = berlin();
    let both = SilenceWindow::parse(&row("01:00", "02:30", Some("daily"))).unwrap();
    for at in ["2026-10-24T23:00:00Z", "2026-10-25T00:45:00Z", "2026-10-25T01:29:59Z"] {
        assert_eq!(until(&both, &zone, at).unwrap(), "2026-10-25T01:30:00Z", "{at}");
    }
    assert_eq!(until(&both, &zone, "2026-10-25T01:30:00Z"), None);
    let inside = SilenceWindow::parse(&row("02:00", "03:00", Some("daily"))).unwrap();
    assert_eq!(until(&inside, &zone, "2026-10-25T00:00:00Z").unwrap(), "2026-10-25T02:00:00Z");
}

#[test]
fn a_window_may_name_its_zone_and_what_it_is_about() {
    let mut named = row("02:00", "04:00", Some("daily"));
    named.time_zone = Some("Asia/Shanghai".to_owned());
    named.agent_pattern = Some("web-*".to_owned());
    named.metric_pattern = Some("disk.*".to_owned());
    let window = SilenceWindow::parse(&named).unwrap();
    assert!(until(&window, &berlin(), "2026-02-08T18:30:00Z").is_some());
    assert!(window.is_about("web-1", "disk.used_percent"));
    assert!(!window.is_about("db-1", "disk.used_percent"));
    assert!(!window.is_about("web-1", "cpu.usage"));
}

#[test]
fn a_field_that_can_not_be_taken_is_named() {
    let refuse = |change: &dyn Fn(&mut SilenceRow)| {
        let mut bad = row("02:00", "04:00", Some("daily"));
        change(&mut bad);
        SilenceWindow::complete(&mut bad, &TimeZone::UTC, 0).unwrap_err()
    };
    for text in ["2:00", "25:00", "02:60", "24:00", "ab:cd", "", "+1:00"] {
        let why = refuse(&|row| row.start_time = text.to_owned());
        assert!(why.starts_with("start_time: "), "{why}");
    }
    assert!(refuse(&|row| row.end_time = "02:00".into()).starts_with("end_time: must differ"));
    assert!(
        refuse(&|row| row.recurrence = Some("yearly".into())).starts_with("recurrence: `yearly`")
    );
    let no_day = |row: &mut SilenceRow| {
        row.recurrence = Some("weekly".into());
        row.days = Some(" , ".into());
    };
    assert!(refuse(&no_day).starts_with("days: a weekly"));
    assert!(refuse(&|row| row.days = Some("mon".into())).starts_with("days: only"));
    assert!(refuse(&|row| row.time_zone = Some("Mars".into())).starts_with("time_zone: `Mars`"));
    assert!(refuse(&|row| row.agent_pattern = Some("[".into())).starts_with("agent_pattern: "));
    assert!(refuse(&|row| row.date = Some("2026-02-09".into())).starts_with("date: only"));
    let once = |row: &mut SilenceRow| row.recurrence = None;
    assert!(
        refuse(&|row| {
            once(row);
            row.date = Some("9 Feb".into())
        })
        .starts_with("date: `9 Feb`")
    );
}
