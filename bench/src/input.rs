//! Records as they are written, and those that a pipeline has beside the cars'.

use crate::fleet::{Reading, SEED, START, below, next};
use headwater::record::Timestamp;
use std::{
    fmt::Write as _,
    io::{self, Write},
};

/// Fleets that the cars belong to.
pub(crate) const FLEETS: u32 = 1_000;
/// Words in a line.
pub(crate) const WORDS_A_LINE: u64 = 10;
/// How long after a record its alarm is raised.
pub(crate) const ALARM_AFTER_MS: i64 = 500;

/// A record that can be written.
pub(crate) trait Written {
    fn timestamp(&self) -> Timestamp;
    fn write_key(&self, out: &mut Vec<u8>) -> io::Result<()>;
    fn write_value(&self, out: &mut Vec<u8>) -> io::Result<()>;
}

/// A row of a table that is there before the first record: a car's owner or a fleet's name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row {
    of: &'static str,
    number: u32,
}

/// The name in the row of `number` in the table of `of`.
pub(crate) fn name(of: &str, number: u32) -> String {
    let kind = if of == "VIN" { "owner" } else { "fleet" };
    format!("{kind} {number:08}")
}

/// The owner of each of so many cars.
pub(crate) fn owners(cars: u32) -> impl Iterator<Item = Row> {
    (0..cars).map(|number| Row { of: "VIN", number })
}

/// All fleets.
pub(crate) fn fleets() -> impl Iterator<Item = Row> {
    (0..FLEETS).map(|number| Row { of: "FLT", number })
}

/// The key of a car's fleet.
pub(crate) fn fleet_of(car: u32) -> String {
    format!("FLT{:08}", car % FLEETS)
}

impl Written for Row {
    fn timestamp(&self) -> Timestamp {
        START - 1
    }

    fn write_key(&self, out: &mut Vec<u8>) -> io::Result<()> {
        write!(out, "{}{:08}", self.of, self.number)
    }

    fn write_value(&self, out: &mut Vec<u8>) -> io::Result<()> {
        out.write_all(name(self.of, self.number).as_bytes())
    }
}

/// A hot record's alarm: when the record was.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Alarm(pub(crate) Reading);

impl Written for Alarm {
    fn timestamp(&self) -> Timestamp {
        self.0.timestamp + ALARM_AFTER_MS
    }

    fn write_key(&self, out: &mut Vec<u8>) -> io::Result<()> {
        self.0.write_key(out)
    }

    fn write_value(&self, out: &mut Vec<u8>) -> io::Result<()> {
        out.write_all(&self.0.timestamp.to_be_bytes())
    }
}

/// A line of words.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    number: u64,
    pub(crate) words: Vec<u32>,
}

/// So many words in lines, of so many different ones: some come often, most seldom.
pub(crate) fn lines(words: u64, different: u32) -> impl Iterator<Item = Line> {
    let mut state = SEED;
    (0..words.div_ceil(WORDS_A_LINE)).map(move |number| {
        let count = WORDS_A_LINE.min(words - number * WORDS_A_LINE);
        let mut word = || {
            let bits = next(&mut state);
            let (high, low) = (bits >> 32, bits & 0xffff_ffff);
            below((high * low) >> 32, u64::from(different))
        };
        Line { number, words: (0..count).map(|_| word()).collect() }
    })
}

impl Written for Line {
    fn timestamp(&self) -> Timestamp {
        START + i64::try_from(self.number).unwrap_or(i64::MAX - START)
    }

    fn write_key(&self, out: &mut Vec<u8>) -> io::Result<()> {
        write!(out, "{}", self.number)
    }

    fn write_value(&self, out: &mut Vec<u8>) -> io::Result<()> {
        let mut line = String::new();
        for (at, word) in self.words.iter().enumerate() {
            let space = if at == 0 { "" } else { " " };
            write!(line, "{space}wrd{word}").map_err(io::Error::other)?;
        }
        out.write_all(line.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(record: &impl Written) -> (String, String) {
        let (mut key, mut value) = (Vec::new(), Vec::new());
        record.write_key(&mut key).unwrap();
        record.write_value(&mut value).unwrap();
        (String::from_utf8(key).unwrap(), String::from_utf8(value).unwrap())
    }

    #[test]
    fn rows_have_the_keys_that_are_looked_up() {
        let owner = owners(8).nth(7).map(|row| written(&row));
        assert_eq!(owner, Some(("VIN00000007".to_owned(), name("VIN", 7))));
        let fleet = fleets().nth(7).map(|row| written(&row));
        assert_eq!(fleet, Some((fleet_of(2_007), name("FLT", 7))));
        assert_eq!(fleets().count(), 1_000);
    }

    #[test]
    fn lines_hold_all_words_and_some_come_often() {
        let all: Vec<Line> = lines(1_005, 100).collect();
        assert_eq!((all.len(), all.last().map(|line| line.words.len())), (101, Some(5)));
        let words = || all.iter().flat_map(|line| &line.words);
        assert_eq!((words().count(), words().max() < Some(&100)), (1_005, true));
        let often = words().filter(|word| **word < 10).count();
        assert!(often > 250, "{often} of 1,005 words are of the first tenth");
        let (key, line) = written(all.last().unwrap());
        assert_eq!((key.as_str(), line.split(' ').count()), ("100", 5));
        assert!(line.split(' ').all(|word| word.starts_with("wrd")), "{line}");
    }
}
