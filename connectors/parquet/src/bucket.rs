//! Directories by event time, in Hive's form: `date=2026-11-01/hour=05`, in UTC.

use crate::columns::MOMENTS;
use headwater_core::record::Timestamp;
use serde::Deserialize;

const MS_PER_HOUR: i64 = 3_600_000;
/// Hive's name for a value that is null; readers take it as that.
const NO_VALUE: &str = "__HIVE_DEFAULT_PARTITION__";

/// How files are spread over directories.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PartitionBy {
    /// By day.
    #[default]
    Day,
    /// By day and hour.
    Hour,
}

impl PartitionBy {
    /// The columns that the directories stand for.
    pub(crate) fn names(self) -> &'static [&'static str] {
        match self {
            Self::Day => &["date"],
            Self::Hour => &["date", "hour"],
        }
    }

    /// The directory of an event time, as a number; `None` for times outside the years 1 to 9999.
    pub(crate) fn bucket(self, event_time: Timestamp) -> Option<i64> {
        let hour = event_time.div_euclid(MS_PER_HOUR);
        MOMENTS.contains(&event_time).then_some(match self {
            Self::Day => hour.div_euclid(24),
            Self::Hour => hour,
        })
    }

    /// The path of a directory below the sink's.
    pub(crate) fn path(self, bucket: Option<i64>) -> String {
        match (self, bucket) {
            (Self::Day, None) => format!("date={NO_VALUE}"),
            (Self::Hour, None) => format!("date={NO_VALUE}/hour={NO_VALUE}"),
            (Self::Day, Some(day)) => format!("date={}", date(day)),
            (Self::Hour, Some(hour)) => {
                format!("date={}/hour={:02}", date(hour.div_euclid(24)), hour.rem_euclid(24))
            }
        }
    }
}

/// The civil date of a day since 1970-01-01, after Howard Hinnant's `civil_from_days`: eras of 400 years that begin on
/// the first of March, so that the leap day comes last.
fn date(day: i64) -> String {
    let day = day + 719_468;
    let (era, day_of_era) = (day.div_euclid(146_097), day.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day_of_month:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(by: PartitionBy, event_time: i64) -> String {
        by.path(by.bucket(event_time))
    }

    #[test]
    fn directories_are_dates_and_hours_in_utc() {
        assert_eq!(path(PartitionBy::Hour, 1_793_520_000_000), "date=2026-11-01/hour=08");
        assert_eq!(path(PartitionBy::Day, 951_782_400_000), "date=2000-02-29");
        assert_eq!(path(PartitionBy::Day, 951_782_400_000 + 86_400_000), "date=2000-03-01");
        assert_eq!(path(PartitionBy::Hour, -1), "date=1969-12-31/hour=23");
        assert_eq!(path(PartitionBy::Day, 0), "date=1970-01-01");
        assert_eq!(path(PartitionBy::Day, 4_102_444_799_999), "date=2099-12-31");
    }

    #[test]
    fn times_that_no_date_reaches_have_a_directory_too() {
        assert_eq!(path(PartitionBy::Day, *MOMENTS.start()), "date=0001-01-01");
        assert_eq!(path(PartitionBy::Day, *MOMENTS.end()), "date=9999-12-31");
        for beyond in [i64::MIN, i64::MAX, MOMENTS.start() - 1, MOMENTS.end() + 1] {
            assert_eq!(path(PartitionBy::Day, beyond), format!("date={NO_VALUE}"));
        }
        assert_eq!(path(PartitionBy::Hour, i64::MAX), format!("date={NO_VALUE}/hour={NO_VALUE}"));
    }
}
