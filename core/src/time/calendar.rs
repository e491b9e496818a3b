//! Dates and times of day for people, in UTC: ISO 8601, as Kafka's tools take and show them.

use crate::record::Timestamp;

const DAY_MS: i64 = 86_400_000;

/// A moment as `2026-11-27T22:54:03Z`, with its milliseconds where it has some.
///
/// ```
/// use headwater_core::time::date_time;
///
/// assert_eq!(date_time(1_793_520_059_000), "2026-11-01T08:00:59Z");
/// assert_eq!(date_time(-1), "1969-12-31T23:59:59.999Z");
/// ```
#[must_use]
pub fn date_time(at: Timestamp) -> String {
    let (days, of_day) = (at.div_euclid(DAY_MS), at.rem_euclid(DAY_MS));
    let (year, month, day) = civil(days);
    let (seconds, ms) = (of_day / 1_000, of_day % 1_000);
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    let fraction = if ms == 0 { String::new() } else { format!(".{ms:03}") };
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z")
}

/// The moment of `YYYY-MM-DDThh:mm:ss.sss`, in UTC unless it ends with `Z` or an offset such as `+02:00`; without a time of day,
/// midnight.
///
/// `None` if it is no such text, or no such day.
///
/// ```
/// use headwater_core::time::parse_date_time;
///
/// let moment = Some(1_793_520_059_000);
/// assert_eq!(parse_date_time("2026-11-01T08:00:59"), moment);
/// assert_eq!(parse_date_time("2026-11-01T10:00:59.000+02:00"), moment);
/// assert_eq!(parse_date_time("2026-11-01"), Some(1_793_491_200_000));
/// assert_eq!(parse_date_time("2026-02-30"), None, "there is no such day");
/// ```
#[must_use]
pub fn parse_date_time(text: &str) -> Option<Timestamp> {
    let (date, time) = text.split_once('T').unwrap_or((text, "00:00:00"));
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let days = days_of(year, month, day);
    if civil(days) != (year, month, day) {
        return None;
    }
    let (time, offset_minutes) = split_offset(time)?;
    let (clock, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let [hour, minute, second] = match clock.len() {
        5 => numbers(clock, ':', [2, 2]).map(|[hour, minute]| [hour, minute, 0])?,
        _ => numbers(clock, ':', [2, 2, 2])?,
    };
    let digits = fraction.len();
    if hour > 23 || minute > 59 || second > 59 || digits > 3 {
        return None;
    }
    let ms = number(fraction, digits)? * 10_i64.pow(3 - u32::try_from(digits).ok()?);
    let minutes = hour * 60 + minute - offset_minutes;
    Some(days * DAY_MS + (minutes * 60 + second) * 1_000 + ms)
}

/// The time of day, and by how many minutes its clock is ahead of UTC.
fn split_offset(time: &str) -> Option<(&str, i64)> {
    if let Some(time) = time.strip_suffix('Z') {
        return Some((time, 0));
    }
    let Some(at) = time.rfind(['+', '-']) else { return Some((time, 0)) };
    let (time, offset) = time.split_at_checked(at)?;
    let sign = if offset.starts_with('-') { -1 } else { 1 };
    let [hours, minutes] = numbers(offset.get(1..)?, ':', [2, 2])?;
    Some((time, sign * (hours * 60 + minutes)))
}

/// Numbers of so many digits with `between` them.
fn numbers<const N: usize>(text: &str, between: char, digits: [usize; N]) -> Option<[i64; N]> {
    let mut parts = text.split(between);
    let mut all = [0; N];
    for (slot, digits) in all.iter_mut().zip(digits) {
        *slot = number(parts.next()?, digits)?;
    }
    parts.next().is_none().then_some(all)
}

fn number(text: &str, digits: usize) -> Option<i64> {
    let is_number = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_number)
}

/// Days since 1970-01-01 of a day of the Gregorian calendar. Years are counted from March, so that a leap day ends one.
fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let year = if month > 2 { year } else { year - 1 };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// The year, month and day that lie so many days after 1970-01-01.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = (from_march + 2) % 12 + 1;
    let year = year + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_day_of_eight_centuries_is_its_own_and_comes_back() {
        let (mut date, from) = ((1600, 1, 1), days_of(1600, 1, 1));
        for days in from..from + 2 * 146_097 {
            assert_eq!(civil(days), date);
            let (year, month, day) = date;
            assert_eq!(days_of(year, month, day), days);
            let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let last = match month {
                2 if is_leap => 29,
                2 => 28,
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            date = match (day == last, month) {
                (false, _) => (year, month, day + 1),
                (true, 12) => (year + 1, 1, 1),
                (true, _) => (year, month + 1, 1),
            };
        }
        assert_eq!(date, (2400, 1, 1));
    }

    #[test]
    fn what_is_shown_is_read() {
        for at in [0, 1, 999, 1_000, DAY_MS - 1, -DAY_MS, 1_793_520_059_123] {
            assert_eq!(parse_date_time(&date_time(at)), Some(at), "{}", date_time(at));
        }
    }

    #[test]
    fn what_is_no_moment_is_refused() {
        for text in [
            "",
            "2026",
            "2026-13-01",
            "2026-00-01",
            "2026-04-31",
            "2025-02-29",
            "2026-04-01T24:00:00",
            "2026-04-01T12:60:00",
            "2026-04-01T12:00:61",
            "2026-04-01T12:00:00.1234",
            "2026-4-1",
            "2026-04-01 12:00:00",
            "2026-04-01T12:00:00+2",
            "2026-04-01T12:00:00.",
            "+026-04-01",
            "yesterday",
            "2026-04-01T",
            "2026-04-01T12:00:00ZZ",
        ] {
            assert_eq!(parse_date_time(text), None, "{text}");
        }
        assert_eq!(parse_date_time("2026-04-01T12:00"), parse_date_time("2026-04-01T12:00:00.0Z"));
        assert_eq!(parse_date_time("1970-01-01T00:00:00-00:01"), Some(60_000));
    }
}
