//! `headwater app reset`: what it shows, what it refuses, and that the application begins anew.

use crate::{
    app::{app, end, slow, text_of},
    fleet::fleet,
    program::{Bench, headwater, output},
    usage::{CONFLICT, NOT_FOUND, failed_by},
};
use std::{path::Path, process::Output};

fn reset(bench: &Bench, flags: &[&str]) -> Output {
    app(&[&["reset"], flags].concat(), &bench.data(), &[])
}

/// The lines about inputs.
fn inputs(told: &str) -> Vec<&str> {
    told.lines().filter(|line| line.starts_with("  car-telemetry-")).collect()
}

#[test]
fn what_a_reset_does_is_shown_and_done_when_it_is_wanted() {
    let bench = Bench::new(&fleet(6, 5, 2_000));
    bench.run();
    let (summary, minutes) = (bench.summary_text(), bench.minutes());
    let told = text_of(&reset(&bench, &["--dry-run"]));
    assert!(told.starts_with("inputs of connected-cars:\n  car-telemetry-0: offset "), "{told}");
    assert!(told.contains("\n  connected-cars-counts-changelog: forgets "), "{told}");
    assert!(told.ends_with("nothing was changed: this was a dry run\n"), "{told}");
    assert!(inputs(&told).iter().all(|line| line.contains(" -> 0, ")), "{told}");
    let unasked = reset(&bench, &[]);
    assert_eq!(unasked.status.code(), Some(1), "nobody can say yes");
    assert_eq!(text_of(&reset(&bench, &["--dry-run"])), told, "nothing has changed");

    let done = text_of(&reset(&bench, &["--force"]));
    assert!(done.ends_with("\nreset connected-cars: started again, it begins anew\n"), "{done}");
    let again = text_of(&reset(&bench, &["--dry-run"]));
    let stays = |line: &&str| line.ends_with("offset 0 -> 0, stays where it is");
    assert!(inputs(&again).iter().all(stays), "{again}");
    bench.run();
    assert_eq!(bench.summary_text(), summary);
    assert_eq!(
        bench.minutes().len(),
        2 * minutes.len(),
        "what was written stays, and is written again"
    );
}

#[test]
fn inputs_are_moved_to_where_they_are_wanted() {
    let bench = Bench::new(&fleet(6, 5, 2_000));
    bench.run();
    let ends = |flags: &[&str]| {
        let told = text_of(&reset(&bench, &[flags, &["--dry-run"]].concat()));
        let moved = |line: &&str| {
            let (_, moved) = line.split_once(": offset ").unwrap();
            let (from, to) = moved.split_once(',').unwrap().0.split_once(" -> ").unwrap();
            (from.parse::<i64>().unwrap(), to.parse::<i64>().unwrap())
        };
        inputs(&told).iter().map(moved).collect::<Vec<_>>()
    };
    let all = |flags: &[&str], is_right: fn((i64, i64)) -> bool| {
        let ends = ends(flags);
        assert!(!ends.is_empty() && ends.iter().copied().all(is_right), "{flags:?}: {ends:?}");
    };
    all(&["--to-earliest"], |(_, to)| to == 0);
    all(&["--to-latest"], |(from, to)| from == to);
    all(&["--to-offset", "3"], |(from, to)| to == from.min(3));
    all(&["--shift-by", "-2"], |(from, to)| to == (from - 2).max(0));
    all(&["--to-datetime", "2999-01-01"], |(from, to)| to == from);
    all(&["--to-datetime", "1999-12-31T23:59:59.999+01:00"], |(_, to)| to == 0);
    all(&["--by-duration", "P99999D"], |(_, to)| to == 0);
    all(&["--by-duration", "PT1S", "--input-topics", "car-telemetry"], |(from, to)| to == from);
}

#[test]
fn a_reset_that_cannot_be_says_why_and_what_to_do() {
    let bench = Bench::new(&fleet(3, 5, 2_000));
    let owner = slow(&bench);
    let id = owner.id().to_string();
    failed_by(
        CONFLICT,
        &reset(&bench, &["--force"]),
        &["is in use by process", &id, "stop that process first"],
    );
    end(owner);
    let none = app(&["reset"], Path::new("/nowhere"), &[]);
    failed_by(NOT_FOUND, &none, &["/nowhere holds no log", "--data-dir"]);
    let other = reset(&bench, &["--application-id", "cars"]);
    failed_by(
        NOT_FOUND,
        &other,
        &["no application `cars`", "there are: connected-cars", "--application-id"],
    );
    let unread = reset(&bench, &["--input-topics", "car-telemetry,cars"]);
    failed_by(
        NOT_FOUND,
        &unread,
        &["has read nothing of topic cars; what it reads: car-telemetry"],
    );
    for flags in
        [["--to-datetime", "yesterday"], ["--by-duration", "P1M"], ["--to-latest", "--to-earliest"]]
    {
        assert_eq!(reset(&bench, &flags).status.code(), Some(2), "{flags:?}");
    }
}

#[test]
fn each_verb_shows_lines_to_type() {
    for verb in ["explain", "pause", "resume", "backup", "restore", "reset"] {
        let help = text_of(&output(headwater().args(["app", verb, "--help"])));
        assert!(
            help.contains(&format!("\n  headwater app {verb} "))
                || help.contains(&format!("\n    headwater app {verb} ")),
            "{help}"
        );
        assert!(help.contains("\n    5  unreachable: no application answers there"), "{help}");
    }
}
