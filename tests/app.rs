//! One way to start an application: in memory and in a directory, topics, a second owner, a signal.

use headwater::{App, AppError, prelude::*};
use std::{error::Error, path::Path};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

fn counts() -> Result<Topology, TopologyError> {
    let builder = StreamsBuilder::new();
    builder.stream::<String, i64>("in").group_by_key().count("counts").to_stream().to("out");
    builder.build()
}

fn count_in(path: &Path) -> Outcome<i64> {
    let app = App::builder("app").topology(counts()?).data_dir(path).create_topics(2).start()?;
    app.send("in", &"a".to_owned(), &7_i64, 1)?;
    app.streams().drain()?;
    let counts = app.streams().store::<String, i64>("counts")?;
    Ok(counts.get(&"a".to_owned())?.map_or(0, |row| row.value))
}

#[test]
fn a_directory_is_gone_on_with_where_the_last_run_was() -> Outcome {
    let dir = tempfile::tempdir()?;
    let data = dir.path().join("data");
    for expected in 1..4 {
        assert_eq!(count_in(&data)?, expected);
    }
    Ok(())
}

#[test]
fn what_is_cleaned_up_is_rebuilt_at_the_next_start() -> Outcome {
    let dir = tempfile::tempdir()?;
    for expected in 1..4 {
        let app = App::builder("app").topology(counts()?).data_dir(dir.path()).create_topics(2);
        let app = app.metrics("0").start()?;
        let restored = app.streams().metrics().restored;
        assert_eq!(restored > 0, expected > 1, "{restored} records were replayed");
        app.send("in", &"a".to_owned(), &7_i64, expected)?;
        app.streams().drain()?;
        let counts = app.streams().store::<String, i64>("counts")?;
        assert_eq!(counts.get(&"a".to_owned())?.map(|row| row.value), Some(expected));
        drop(counts);
        app.clean_up()?;
    }
    Ok(())
}

#[test]
fn a_state_directory_holds_those_of_applications_that_have_no_other() -> Outcome {
    let dir = tempfile::tempdir()?;
    for expected in 1..3 {
        let app = App::builder("app").topology(counts()?).create_topics(1);
        let app = app.config(|config| config.with_state_dir(dir.path())).start()?;
        app.send("in", &"a".to_owned(), &7_i64, 1)?;
        app.streams().drain()?;
        let counts = app.streams().store::<String, i64>("counts")?;
        assert_eq!(counts.get(&"a".to_owned())?.map(|row| row.value), Some(expected));
    }
    assert!(dir.path().join("app").join("log").is_dir());
    Ok(())
}

#[test]
fn a_second_owner_of_a_directory_is_refused() -> Outcome {
    let dir = tempfile::tempdir()?;
    let app = || App::builder("app").topology(counts().expect("it is one")).create_topics(1);
    let first = app().data_dir(dir.path()).start()?;
    let second = app().data_dir(dir.path()).start();
    assert!(matches!(second, Err(AppError::Open { path, .. }) if path == dir.path()));
    first.streams().close()?;
    Ok(())
}

#[test]
fn what_is_missing_is_said() -> Outcome {
    assert!(matches!(App::builder("app").start(), Err(AppError::NoTopology)));
    let missing = App::builder("app").topology(counts()?).start();
    let Err(AppError::Streams(StreamsError::MissingTopic { topic })) = missing else {
        return Err("it starts".into());
    };
    assert_eq!(topic.as_str(), "in");
    let app = App::builder("app").topology(counts()?).create_topics(1).start()?;
    assert!(matches!(app.send("none", &String::new(), &1_i64, 1), Err(AppError::Log(_))));
    assert!(matches!(app.send("", &String::new(), &1_i64, 1), Err(AppError::TopicName(_))));
    Ok(())
}

#[test]
fn a_failure_ends_the_wait() -> Outcome {
    let builder = StreamsBuilder::new();
    builder.stream::<String, i64>("in").for_each(|_, _| panic!("on purpose"));
    let app = App::builder("app").topology(builder.build()?).create_topics(1).start()?;
    app.send("in", &"a".to_owned(), &7_i64, 1)?;
    assert!(matches!(app.wait(), Err(AppError::Streams(StreamsError::Panicked { .. }))));
    Ok(())
}

/// The test runs itself: the child waits for the signal.
#[cfg(target_os = "linux")]
#[test]
fn a_signal_closes_it_with_a_commit() -> Outcome {
    let Ok(data) = std::env::var("HEADWATER_APP_TEST") else {
        let dir = tempfile::tempdir()?;
        let mut child = std::process::Command::new(std::env::current_exe()?)
            .args(["--exact", "a_signal_closes_it_with_a_commit", "--nocapture"])
            .env("HEADWATER_APP_TEST", dir.path())
            .spawn()?;
        // The child sends itself the signal, once it waits.
        assert!(child.wait()?.success());
        assert_eq!(count_in(dir.path())?, 2);
        return Ok(());
    };
    let app = App::builder("app").topology(counts()?).data_dir(data).create_topics(2).start()?;
    app.send("in", &"a".to_owned(), &7_i64, 1)?;
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| app.wait());
        while !waits.is_finished() {
            // Before it waits, the signal would end the child.
            if is_handled() {
                signal_hook::low_level::raise(signal_hook::consts::SIGTERM)?;
                break;
            }
            std::thread::yield_now();
        }
        waits.join().expect("it does not panic")?;
        Ok(())
    })
}

/// Whether this process handles SIGTERM.
#[cfg(target_os = "linux")]
fn is_handled() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask >> (signal_hook::consts::SIGTERM - 1) & 1 == 1
}
