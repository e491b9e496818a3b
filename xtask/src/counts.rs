//! `cargo xtask counts`: the instructions that the hot loops take a record, beside those that were written down.
//!
//! A clock on a shared machine moves by a fifth from minute to minute; a count of instructions does not. It says nothing of waits
//! for memory or of syscalls: the figures of `bench/README.md` do.
//!
//! # Invariants
//!
//! - What was written down by another compiler, or for another kind of machine, is compared with nothing.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::console::say;
use crate::failure::Failure;
use crate::{help, metadata, process, setup};

const LOOPS: [&str; 6] = ["chain", "count", "window", "foreign-key", "fetch", "encode"];
const BASELINE: &str = "bench/counts/baseline.txt";
const PACKAGE: &str = "headwater-bench-counts";
/// How far a count may be from what was written down, in percent of it.
const PERCENT_MAX: f64 = 3.0;

/// Instructions a record, by loop, and what they were counted with.
#[derive(Debug, Clone, PartialEq)]
struct Counts {
    with: String,
    loops: Vec<(String, f64)>,
}

/// The verb itself.
pub(crate) fn run(root: &Path, arguments: &[String]) -> Result<(), Failure> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        [] => check(root),
        ["--accept"] => {
            let counted = count(root)?;
            let path = root.join(BASELINE);
            fs::write(&path, counted.text()).map_err(Failure::io("write", &path))?;
            say(&format!("{}\nwritten to {BASELINE}", table(&counted, None)));
            Ok(())
        }
        [.., other] => Err(help::unexpected("counts", other)),
    }
}

/// Counts and compares; a step of CI.
pub(crate) fn check(root: &Path) -> Result<(), Failure> {
    let path = root.join(BASELINE);
    let text = fs::read_to_string(&path).map_err(Failure::io("read", &path))?;
    let before = Counts::of_text(&text)?;
    let counted = count(root)?;
    say(&table(&counted, Some(&before)));
    let wrong = findings(&counted, &before);
    if wrong.is_empty() { Ok(()) } else { Err(Failure::Checks(wrong.join("\n"))) }
}

fn count(root: &Path) -> Result<Counts, Failure> {
    setup::for_counting()?;
    let build = ["build", "--profile", "counts", "--locked", "-p", PACKAGE];
    process::run(&mut process::cargo(root, &build))?;
    let program = metadata::target(root)?.join("counts").join(PACKAGE);
    let version = process::output(Command::new("rustc").arg("-vV"))?;
    let loops = LOOPS.iter().map(|name| Ok(((*name).to_owned(), count_loop(&program, name)?)));
    Ok(Counts { with: compiler(&version), loops: loops.collect::<Result<_, Failure>>()? })
}

/// The instructions of a loop, a record.
fn count_loop(program: &Path, name: &str) -> Result<f64, Failure> {
    let mut command = Command::new("valgrind");
    // Else glibc raises this by what other threads free, and a list that grows is copied a word at a time in one run and mapped
    // anew in another.
    command
        .env("GLIBC_TUNABLES", "glibc.malloc.mmap_threshold=131072")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg("--toggle-collect=headwater_bench_counts::counted*")
        .arg(program)
        .arg(name)
        .stdin(Stdio::null());
    process::announce(&command);
    let start = |source| Failure::Start { program: "valgrind".to_owned(), source };
    let output = command.output().map_err(start)?;
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    match (number_after(&err, "Collected : "), number_after(&out, "records ")) {
        (Some(instructions), Some(records)) if output.status.success() && records > 0.0 => {
            Ok(instructions / records)
        }
        _ => Err(Failure::unreadable(format!("the count of {name}"), format!("{out}{err}"))),
    }
}

fn number_after(text: &str, word: &str) -> Option<f64> {
    let (_, rest) = text.split_once(word)?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

/// The compiler's release and for what it compiles, of what `rustc -vV` says.
fn compiler(version: &str) -> String {
    let value = |key: &str| version.lines().find_map(|line| line.strip_prefix(key)).unwrap_or("?");
    format!("rustc {}, {}", value("release: "), value("host: "))
}

impl Counts {
    fn text(&self) -> String {
        let lines = self.loops.iter().map(|(name, count)| format!("{name} {count:.1}\n"));
        format!("with {}\n{}", self.with, lines.collect::<String>())
    }

    fn of_text(text: &str) -> Result<Self, Failure> {
        let mut counts = Self { with: String::new(), loops: Vec::new() };
        for line in text.lines() {
            let unreadable = || Failure::unreadable(BASELINE, format!("`{line}`"));
            let (name, value) = line.split_once(' ').ok_or_else(unreadable)?;
            if name == "with" {
                counts.with = value.to_owned();
            } else {
                counts.loops.push((name.to_owned(), value.parse().map_err(|_| unreadable())?));
            }
        }
        Ok(counts)
    }

    fn of(&self, wanted: &str) -> Option<f64> {
        self.loops.iter().find(|(name, _)| name == wanted).map(|(_, count)| *count)
    }
}

fn percent(now: f64, before: f64) -> f64 {
    (now / before - 1.0) * 100.0
}

/// What does not fit to what was written down.
fn findings(now: &Counts, before: &Counts) -> Vec<String> {
    let accept = "; `cargo xtask counts --accept` writes it down";
    if now.with != before.with {
        let (now, before) = (&now.with, &before.with);
        return vec![format!("{BASELINE} was counted with {before}, and this is {now}{accept}")];
    }
    let mut wrong = Vec::new();
    for (name, count) in &now.loops {
        let Some(known) = before.of(name) else {
            wrong.push(format!("{BASELINE} does not know {name}{accept}"));
            continue;
        };
        let percent = percent(*count, known);
        if percent.abs() > PERCENT_MAX {
            wrong.push(format!(
                "{name} takes {count:.1} instructions a record, {percent:+.1} % of {known:.1}; if it is meant, say why in \
                 the commit that changes {BASELINE}{accept}"
            ));
        }
    }
    wrong
}

fn table(now: &Counts, before: Option<&Counts>) -> String {
    let mut text = format!(
        "\ninstructions a record, {}\n{:<8} {:>10} {:>10}",
        now.with, "loop", "now", "before"
    );
    for (name, count) in &now.loops {
        text.push_str(&format!("\n{name:<8} {count:>10.1}"));
        if let Some(known) = before.and_then(|before| before.of(name)) {
            text.push_str(&format!(" {known:>10.1} {:>+6.1} %", percent(*count, known)));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(chain: f64) -> Counts {
        Counts { with: "rustc 1.95.0, here".to_owned(), loops: vec![("chain".to_owned(), chain)] }
    }

    #[test]
    fn more_and_fewer_instructions_are_told_beyond_three_percent() {
        for (now, is_told) in
            [(100.0, false), (102.9, false), (97.1, false), (103.1, true), (96.9, true)]
        {
            assert_eq!(!findings(&counts(now), &counts(100.0)).is_empty(), is_told, "{now}");
        }
    }

    #[test]
    fn what_another_compiler_counted_or_nobody_did_is_told() {
        let other = Counts { with: "rustc 1.96.0, here".to_owned(), ..counts(100.0) };
        assert!(findings(&counts(100.0), &other)[0].contains("was counted with rustc 1.96.0"));
        let none = Counts { loops: Vec::new(), ..counts(100.0) };
        assert!(findings(&counts(100.0), &none)[0].contains("does not know chain"));
    }

    #[test]
    fn a_baseline_is_read_as_it_was_written() {
        let written = counts(812.3).text();
        assert_eq!(written, "with rustc 1.95.0, here\nchain 812.3\n");
        assert_eq!(Counts::of_text(&written).unwrap(), counts(812.3));
        assert!(Counts::of_text("chain many\n").is_err());
    }

    #[test]
    fn numbers_and_the_compiler_are_found_in_what_programs_say() {
        let said = "==7== Events    : Ir\n==7== Collected : 1234567\n";
        assert_eq!(number_after(said, "Collected : "), Some(1_234_567.0));
        assert_eq!(number_after(said, "records "), None);
        let version =
            "rustc 1.95.0 (5980 2026-04-14)\nhost: x86_64-unknown-linux-gnu\nrelease: 1.95.0\n";
        assert_eq!(compiler(version), "rustc 1.95.0, x86_64-unknown-linux-gnu");
    }
}
