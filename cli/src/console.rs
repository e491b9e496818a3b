//! Lines for people: results and plain progress on standard output, errors on standard error.
//!
//! # Invariants
//!
//! - A reader who has gone, as in `… | head`, ends the output quietly; and a run that would go on for that reader alone.
//! - Text that comes from data, paths or errors goes through [`shown`] before it is printed.

use crate::{
    failure::Failure,
    text::{cut, width},
};
use headwater::text::shown;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{OFlags, fcntl_getfl},
    io::Errno,
};
use std::{
    env,
    io::{self, IsTerminal, Write},
};

/// No cell of a table is wider.
const CELL_WIDTH_MAX: usize = 48;

/// Whether the output is a terminal that can move its cursor, so that a view may redraw itself.
pub(crate) fn is_terminal() -> bool {
    let is_dumb = env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
    !is_dumb && io::stdout().is_terminal() && io::stderr().is_terminal()
}

/// Prints lines to standard output at once.
pub(crate) fn print_lines(text: &str) -> io::Result<()> {
    // The library takes one that was opened to be read alone for one that takes everything.
    if fcntl_getfl(io::stdout()).is_ok_and(|flags| flags & OFlags::ACCMODE == OFlags::RDONLY) {
        return Err(Errno::BADF.into());
    }
    print(io::stdout().lock(), text)
}

/// Prints lines to standard error.
pub(crate) fn error_lines(text: &str) -> io::Result<()> {
    print(io::stderr().lock(), text)
}

/// Whether standard output is a pipe that nobody reads any more.
pub(crate) fn is_reader_gone() -> bool {
    let out = io::stdout();
    let mut polled = [PollFd::new(&out, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut polled, Some(&now)).is_ok() && polled[0].revents().contains(PollFlags::ERR)
}

fn print(mut out: impl Write, text: &str) -> io::Result<()> {
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        // There is nobody to report it to.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// The failure of a run that did its work and could not show it.
pub(crate) fn unwritten(error: io::Error) -> Failure {
    let remedy = "give it a standard output that can be written to";
    Failure::new("cannot write to standard output", error, remedy)
}

/// A number of bytes: `823 bytes`, `1.2 GiB`.
pub(crate) fn bytes(number: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    // The largest unit of which there is one.
    let steps = (number.max(1).ilog2() / 10).min(4);
    let Some(unit) = steps.checked_sub(1).and_then(|step| units.get(step as usize)) else {
        return format!("{number} bytes");
    };
    let tenths = (u128::from(number) * 10) >> (10 * steps);
    format!("{}.{} {unit}", tenths / 10, tenths % 10)
}

/// Foreign text as a cell: without what steers a terminal, and cut where it is long.
pub(crate) fn cell(text: &str) -> String {
    cut(&shown(text), CELL_WIDTH_MAX)
}

/// Rows under a heading, each column as wide as its widest cell; columns from `numbers_from` on stand to the right. Cells
/// are shown without what steers a terminal, and cut where they are long.
pub(crate) fn table(heading: &[&str], rows: &[Vec<String>], numbers_from: usize) -> String {
    let safe = |row: &Vec<String>| -> Vec<String> { row.iter().map(|text| cell(text)).collect() };
    let mut lines = vec![heading.iter().map(ToString::to_string).collect::<Vec<_>>()];
    lines.extend(rows.iter().map(safe));
    let mut widths = vec![0; heading.len()];
    for row in &lines {
        for (widest, cell) in widths.iter_mut().zip(row) {
            *widest = (*widest).max(width(cell));
        }
    }
    let line = |cells: &Vec<String>| {
        let mut out = String::from(" ");
        for (column, (cell, widest)) in cells.iter().zip(&widths).enumerate() {
            let fill = " ".repeat(widest.saturating_sub(width(cell)));
            let cell = if column < numbers_from {
                format!(" {cell}{fill} ")
            } else {
                format!(" {fill}{cell} ")
            };
            out.push_str(&cell);
        }
        out.trim_end().to_owned()
    };
    lines.iter().map(line).collect::<Vec<_>>().join("\n")
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
    fn bytes_are_in_the_largest_unit_of_which_there_is_one() {
        assert_eq!(
            [0, 1023, 1024, 1_992_294, 1 << 30, 5 << 40, u64::MAX].map(bytes),
            ["0 bytes", "1023 bytes", "1.0 KiB", "1.8 MiB", "1.0 GiB", "5.0 TiB", "16777215.9 TiB"]
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

    #[test]
    fn a_cell_is_one_line_of_the_width_that_it_takes_on_a_terminal() {
        let row = |cell: &str| vec![cell.to_owned(), "1".to_owned()];
        let rows =
            [row("標準"), row("e\u{301}"), row("a\r\n  row\u{1b}[2J"), row(&"x".repeat(1 << 20))];
        let text = table(&["model", "n"], &rows, 1);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 5, "{text}");
        assert_eq!(lines[1].trim_end_matches('1').trim_end(), "  標準");
        assert_eq!(lines[3].split(" 1").next().unwrap().trim_end(), r"  a\r\n  row\u{1b}[2J");
        assert!(lines.iter().all(|line| width(line) == width(lines[0])), "{text}");
        assert!(lines[4].contains("xx…  1"), "{text}");
    }
}
