//! WHEN: `12`, `2026-11-03`, `2026-11-03 14:00`, `2 days ago`, `latest`. The client's own time zone counts, for it is a
//! person there who says "yesterday". Pure: the present moment is an argument.

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, Zoned};

use crate::backup::when::When;

/// What can be written, for help and errors.
pub const FORMS: &str = "a snapshot's number, 2026-11-03, '2026-11-03 14:00', '2 days ago' or latest";

/// A WHEN as it was written, now being `now`. A date alone means the end of that day.
///
/// # Errors
/// A sentence that names the text and says what can be written.
pub fn parse_when(text: &str, now: &Zoned) -> Result<When, String> {
    let text = text.trim();
    let secs = match text {
        "latest" => return Ok(When::Latest),
        _ if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) => {
            return text.parse().map(When::Number).map_err(|_| wrong(text));
        }
        _ => moment(text, now).or_else(|| ago(text, now)).ok_or_else(|| wrong(text))?,
    };
    Ok(When::Before { secs })
}

/// As [`parse_when`], now.
///
/// # Errors
/// As there.
pub fn parse_when_now(text: &str) -> Result<When, String> {
    parse_when(text, &Zoned::now())
}

fn wrong(text: &str) -> String {
    format!("'{text}' is not a moment; write {FORMS}")
}

/// A date, a date and a time, or either with its zone, as this program prints them too.
fn moment(text: &str, now: &Zoned) -> Option<i64> {
    let local = |moment: DateTime, zone: TimeZone| Some(moment.to_zoned(zone).ok()?.timestamp().as_second());
    if let Ok(exact) = text.parse::<Timestamp>() {
        return Some(exact.as_second());
    }
    let (text, zone) = match text.strip_suffix(" UTC") {
        Some(text) => (text, TimeZone::UTC),
        None => (text, now.time_zone().clone()),
    };
    for form in ["%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M"] {
        if let Ok(moment) = DateTime::strptime(form, text) {
            return local(moment, zone);
        }
    }
    let day = Date::strptime("%Y-%m-%d", text).ok()?;
    // The last second of that day, however long it is.
    Some(local(day.tomorrow().ok()?.at(0, 0, 0, 0), zone)? - 1)
}

/// `2 days ago`, `an hour ago`, `1 week 2 days ago`.
fn ago(text: &str, now: &Zoned) -> Option<i64> {
    let mut words = text.strip_suffix("ago")?.split_whitespace().peekable();
    let mut span = Span::new();
    words.peek()?;
    while let Some(count) = words.next() {
        let count: i64 = match count {
            "a" | "an" => 1,
            digits => digits.parse().ok().filter(|count| (0..1_000_000).contains(count))?,
        };
        let unit = words.next()?;
        span = match unit.strip_suffix('s').unwrap_or(unit) {
            "second" | "sec" => span.try_seconds(count),
            "minute" | "min" => span.try_minutes(count),
            "hour" => span.try_hours(count),
            "day" => span.try_days(count),
            "week" => span.try_weeks(count),
            "month" => span.try_months(count),
            "year" => span.try_years(count),
            _ => return None,
        }
        .ok()?;
    }
    Some(now.checked_sub(span).ok()?.timestamp().as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Zoned {
        "2026-11-21T15:30:00[Europe/Madrid]".parse().unwrap()
    }

    fn secs(text: &str) -> i64 {
        text.parse::<Zoned>().unwrap().timestamp().as_second()
    }

    fn before(text: &str) -> i64 {
        match parse_when(text, &now()) {
            Ok(When::Before { secs }) => secs,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn numbers_and_latest() {
        assert_eq!(parse_when("12", &now()), Ok(When::Number(12)));
        assert_eq!(parse_when(" latest ", &now()), Ok(When::Latest));
    }

    #[test]
    fn a_moment_is_local_and_a_date_means_its_end() {
        assert_eq!(before("2026-11-03 14:00"), secs("2026-11-03T14:00:00[Europe/Madrid]"));
        assert_eq!(before("2026-11-03 14:00:07"), secs("2026-11-03T14:00:07[Europe/Madrid]"));
        assert_eq!(before("2026-11-03T14:00"), before("2026-11-03 14:00"));
        assert_eq!(before("2026-11-03"), secs("2026-11-03T23:59:59[Europe/Madrid]"));
        assert_eq!(before("2026-10-25"), secs("2026-10-25T23:59:59[Europe/Madrid]"), "a day of 25 hours");
        assert_eq!(before("2026-11-03 14:00:00 UTC"), secs("2026-11-03T14:00:00[UTC]"), "as errors write it");
        assert_eq!(before("2026-11-03T14:00:00Z"), secs("2026-11-03T14:00:00[UTC]"));
        assert_eq!(before("2027-01-01"), secs("2027-01-01T23:59:59[Europe/Madrid]"), "it may be to come");
    }

    #[test]
    fn some_time_ago() {
        assert_eq!(before("2 days ago"), secs("2026-11-19T15:30:00[Europe/Madrid]"));
        assert_eq!(before("1 month ago"), secs("2026-10-21T15:30:00[Europe/Madrid]"), "by the calendar");
        assert_eq!(before("an hour ago"), secs("2026-11-21T14:30:00[Europe/Madrid]"));
        assert_eq!(before("1 week 2 days ago"), secs("2026-11-12T15:30:00[Europe/Madrid]"));
        assert_eq!(before("90 min ago"), secs("2026-11-21T14:00:00[Europe/Madrid]"));
    }

    #[test]
    fn what_is_no_moment_is_named_with_what_would_be() {
        let bad = [
            "",
            "ago",
            "2 ago",
            "days ago",
            "yesterweek",
            "2026-13-01",
            "2026-02-30",
            "-1 days ago",
            "2 days",
            "99999999999999999999",
            "99999999 years ago",
            "14:00",
            "2026-11",
            "last",
            "1e3",
        ];
        for text in bad {
            let error = parse_when(text, &now()).unwrap_err();
            assert!(error.contains(&format!("'{text}'")) && error.contains("2 days ago"), "{error}");
        }
    }
}
