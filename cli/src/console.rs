//! Lines for people: results and plain progress on standard output, errors on standard error.
//!
//! # Invariants
//!
//! - A reader who has gone, as in `… | head`, ends the output and nothing else.

use std::io::{self, IsTerminal, Write};

/// Whether the output is a terminal, so that a view may redraw itself.
pub(crate) fn is_terminal() -> bool {
    io::stdout().is_terminal() && io::stderr().is_terminal()
}

/// Prints lines to standard output at once.
pub(crate) fn print_lines(text: &str) {
    let mut out = io::stdout().lock();
    // If nobody reads any more, there is nobody to report it to.
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// Prints lines to standard error.
pub(crate) fn error_lines(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// A number with separators: `115,700`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Rows under a heading, each column as wide as its widest cell; columns from `numbers_from` on stand to the right.
pub(crate) fn table(heading: &[&str], rows: &[Vec<String>], numbers_from: usize) -> String {
    let mut widths: Vec<usize> = heading.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut out = String::from(" ");
        for (column, (cell, width)) in cells.zip(&widths).enumerate() {
            let cell = if column < numbers_from {
                format!(" {cell:<width$}")
            } else {
                format!(" {cell:>width$}")
            };
            out.push_str(&cell);
            out.push(' ');
        }
        out.trim_end().to_owned()
    };
    let mut lines = vec![line(&mut heading.iter().copied())];
    lines.extend(rows.iter().map(|row| line(&mut row.iter().map(String::as_str))));
    lines.join("\n")
}

/// A moment as `2026-11-01 05:12:33`, in UTC; its number for years that have no four digits.
pub(crate) fn moment(ms: i64) -> String {
    let (days, second) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000) / 1000);
    if !(-719_162..=2_932_896).contains(&days) {
        return ms.to_string();
    }
    // Civil date from days, in years that begin in March, so that a leap day comes last (Howard Hinnant).
    let day = days + 719_468;
    let (era, of_era) = (day.div_euclid(146_097), day.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let of_month = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{of_month:02} {hour:02}:{minute:02}:{second:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        assert_eq!(
            [0, 999, 1000, 115_700, 1_234_567].map(grouped),
            ["0", "999", "1,000", "115,700", "1,234,567"]
        );
    }

    #[test]
    fn moments_are_shown_in_utc() {
        assert_eq!(moment(1_793_520_181_000), "2026-11-01 08:03:01");
        assert_eq!(moment(951_782_400_000), "2000-02-29 00:00:00");
        assert_eq!(moment(i64::MAX), i64::MAX.to_string());
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows =
            [vec!["WHW1".to_owned(), "9.5".to_owned()], vec!["W".to_owned(), "10.5".to_owned()]];
        assert_eq!(table(&["car", "l"], &rows, 1), "  car      l\n  WHW1   9.5\n  W     10.5");
    }
}
