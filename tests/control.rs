//! Asking the application that runs in a data directory: what it answers, who may ask, wherever the directory lies.

use headwater::{
    App, AppError,
    backup::{self, BackupError, restore},
    control::{Control, ControlError},
    log::OpenError,
    prelude::*,
    runtime::StreamsState,
};
use std::{
    error::Error,
    fs::{self, Permissions},
    io::{self, BufRead, BufReader, Read, Write},
    net::Shutdown,
    ops::ControlFlow,
    os::unix::{
        fs::PermissionsExt,
        net::{UnixListener, UnixStream},
    },
    path::Path,
    process::{Command, Stdio},
    thread,
};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

fn start(data: &Path) -> Outcome<App> {
    let builder = StreamsBuilder::new();
    builder.stream::<String, i64>("in").group_by_key().count("counts").to_stream().to("out");
    let app = App::builder("app").topology(builder.build()?).data_dir(data).create_topics(2);
    Ok(app.start()?)
}

fn send(app: &App, values: i64) -> Outcome {
    (0..values).try_for_each(|value| app.send("in", &"a".to_owned(), &value, value))?;
    Ok(())
}

/// How often the key was counted, once all of the input is taken.
fn counted(app: &App) -> Outcome<i64> {
    app.streams().drain()?;
    let counts = app.streams().store::<String, i64>("counts")?;
    Ok(counts.get(&"a".to_owned())?.map_or(0, |row| row.value))
}

fn running(data: &Path) -> Outcome<Control> {
    Ok(Control::connect(data)?.ok_or("nobody answers")?)
}

fn mode(path: &Path) -> io::Result<u32> {
    Ok(fs::metadata(path)?.permissions().mode() & 0o7777)
}

fn on(_: backup::BackupProgress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

#[test]
fn it_is_explained_paused_and_resumed() -> Outcome {
    let dir = tempfile::tempdir()?;
    let app = start(dir.path())?;
    assert!(running(dir.path())?.explain()?.starts_with("app is running\n"));
    running(dir.path())?.pause()?;
    assert!(matches!(app.streams().state(), StreamsState::Paused));
    assert!(running(dir.path())?.explain()?.starts_with("app is paused"));
    running(dir.path())?.resume()?;
    assert!(matches!(app.streams().state(), StreamsState::Running));
    send(&app, 3)?;
    assert_eq!(counted(&app)?, 3);
    let refused = running(dir.path())?.pause();
    assert!(matches!(refused, Err(ControlError::Refused { said }) if said == "app has ended"));
    drop(app);
    assert!(Control::connect(dir.path())?.is_none());
    Ok(())
}

#[test]
fn a_backup_over_the_socket_is_restored_and_goes_on() -> Outcome {
    let dir = tempfile::tempdir()?;
    let (data, to, again) =
        (dir.path().join("data"), dir.path().join("backup"), dir.path().join("again"));
    let app = start(&data)?;
    fs::create_dir_all(data.join("cold/_staging"))?;
    fs::write(data.join("cold/today"), "beside")?;
    send(&app, 5)?;
    let mut told = Vec::new();
    let report = running(&data)?.backup(&to, &mut |progress| {
        told.push(progress.done);
        on(progress)
    })?;
    assert!(report.files > 3 && report.bytes > 0, "{report:?}");
    assert_eq!(fs::read_to_string(to.join("cold/today"))?, "beside");
    assert!(told.is_sorted() && !told.is_empty(), "{told:?}");
    send(&app, 2)?;
    assert_eq!(counted(&app)?, 7);

    restore(&to, &again, &mut on)?;
    assert_eq!(fs::read_to_string(again.join("cold/today"))?, "beside");
    let copy = start(&again)?;
    assert_eq!(counted(&copy)?, 5);

    let refusal = |to: &str| match running(&data)?.backup(&dir.path().join(to), &mut on) {
        Err(ControlError::Refused { said }) => Ok::<_, Box<dyn Error>>(said),
        other => Err(format!("{other:?}").into()),
    };
    let misplaced = |to: &str| match running(&data)?.backup(&dir.path().join(to), &mut on) {
        Err(ControlError::Misplaced { said }) => Ok::<_, Box<dyn Error>>(said),
        other => Err(format!("{other:?}").into()),
    };
    assert!(misplaced("data/backup")?.contains("lies in the data directory"));
    fs::create_dir(dir.path().join("link"))?;
    std::os::unix::fs::symlink(&data, dir.path().join("link/to"))?;
    assert!(misplaced("link/to/new/backup")?.contains("lies in the data directory"));
    assert!(refusal("backup")?.contains("something is there"));
    fs::write(dir.path().join("file"), "")?;
    let failed = running(&data)?.backup(&dir.path().join("file/backup"), &mut on);
    let says = |said: &str| said.contains("Not a directory");
    assert!(matches!(&failed, Err(ControlError::Failed { said }) if says(said)), "{failed:?}");
    Ok(())
}

#[test]
fn a_backup_whose_client_has_gone_ends_and_leaves_nothing() -> Outcome {
    let dir = tempfile::tempdir()?;
    let (data, to) = (dir.path().join("data"), dir.path().join("backup"));
    let app = start(&data)?;
    send(&app, 5)?;
    let cancelled = running(&data)?.backup(&to, &mut |_| ControlFlow::Break(()));
    assert!(matches!(cancelled, Err(ControlError::Cancelled)), "{cancelled:?}");
    // It has ended when its application has.
    drop(app);
    let names: Vec<_> = fs::read_dir(dir.path())?
        .map(|entry| entry.map(|it| it.file_name()))
        .collect::<Result<_, _>>()?;
    assert!(names.iter().all(|name| name == "data" || name == "backup"), "{names:?}");
    Ok(())
}

#[test]
fn nobody_but_the_owner_may_ask() -> Outcome {
    let dir = tempfile::tempdir()?;
    let control = dir.path().join("control");
    // Whatever was there before.
    fs::create_dir(&control)?;
    fs::set_permissions(&control, Permissions::from_mode(0o777))?;
    let app = start(dir.path())?;
    assert_eq!(mode(&control)?, 0o700);
    assert_eq!(mode(&control.join("socket"))?, 0o600);
    for open in [0o701, 0o710, 0o770, 0o777] {
        fs::set_permissions(&control, Permissions::from_mode(open))?;
        let refused = Control::connect(dir.path());
        assert!(
            matches!(&refused, Err(ControlError::Open { mode, .. }) if *mode == open),
            "{refused:?}"
        );
    }
    fs::set_permissions(&control, Permissions::from_mode(0o700))?;
    assert!(running(dir.path())?.explain()?.starts_with("app is running"));
    drop(app);
    Ok(())
}

#[test]
fn a_data_directory_may_lie_deeper_than_a_sockets_address_is_long() -> Outcome {
    let dir = tempfile::tempdir()?;
    let data = (0..6).fold(dir.path().to_owned(), |path, _| path.join("d".repeat(60)));
    let app = start(&data)?;
    assert!(running(&data)?.explain()?.starts_with("app is running"));
    drop(app);
    assert!(Control::connect(&data)?.is_none());
    assert!(!data.join("control/socket").exists());
    Ok(())
}

/// The test runs itself: the child owns a directory until it is killed.
#[test]
fn the_socket_of_an_owner_that_was_killed_is_in_nobodys_way() -> Outcome {
    if let Ok(data) = std::env::var("HEADWATER_CONTROL_TEST") {
        let app = start(Path::new(&data))?;
        send(&app, 4)?;
        writeln!(io::stdout(), "\nsent")?;
        loop {
            thread::park();
        }
    }
    let dir = tempfile::tempdir()?;
    let data = dir.path().join("data");
    let mut child = Command::new(std::env::current_exe()?)
        .args([
            "--exact",
            "the_socket_of_an_owner_that_was_killed_is_in_nobodys_way",
            "--nocapture",
        ])
        .env("HEADWATER_CONTROL_TEST", &data)
        .stdout(Stdio::piped())
        .spawn()?;
    let mut lines = BufReader::new(child.stdout.take().ok_or("no output")?).lines();
    lines.find(|line| line.as_ref().is_ok_and(|line| line == "sent")).ok_or("it ended")??;
    assert!(running(&data)?.explain()?.starts_with("app is running"));
    child.kill()?;
    child.wait()?;
    assert!(data.join("control/socket").exists());
    assert!(Control::connect(&data)?.is_none());
    // Without an owner it is backed up all the same.
    let (to, again) = (dir.path().join("backup"), dir.path().join("again"));
    backup::of_directory(&data, &to, &mut on)?;
    restore(&to, &again, &mut on)?;
    assert_eq!(counted(&start(&again)?)?, 4);
    let app = start(&data)?;
    assert!(running(&data)?.explain()?.starts_with("app is running"));
    assert_eq!(counted(&app)?, 4);
    Ok(())
}

#[test]
fn a_directory_in_use_is_left_alone_and_its_owner_is_named() -> Outcome {
    let dir = tempfile::tempdir()?;
    let (data, to) = (dir.path().join("data"), dir.path().join("backup"));
    let log = EmbeddedLog::open(&data.join("log"), LogOptions::new())?;
    assert!(Control::connect(&data)?.is_none(), "it does not answer");
    let taken = backup::of_directory(&data, &to, &mut on);
    let Err(BackupError::Open(AppError::Open { source: OpenError::Locked { holder, .. }, .. })) =
        taken
    else {
        return Err(format!("{taken:?}").into());
    };
    assert!(holder.contains(&std::process::id().to_string()), "{holder}");
    drop(log);
    backup::of_directory(&data, &to, &mut on)?;
    let inside = backup::of_directory(&data, &data.join("backup"), &mut on);
    assert!(matches!(inside, Err(BackupError::Inside { .. })), "{inside:?}");
    let none = backup::of_directory(&to.join("state"), &dir.path().join("other"), &mut on);
    assert!(matches!(none, Err(BackupError::NoLog { .. } | BackupError::Io { .. })), "{none:?}");
    Ok(())
}

#[test]
fn nonsense_is_refused_and_answered() -> Outcome {
    let dir = tempfile::tempdir()?;
    let app = start(dir.path())?;
    let answer = |request: &[u8]| {
        let mut socket = UnixStream::connect(dir.path().join("control/socket"))?;
        socket.write_all(request)?;
        socket.shutdown(Shutdown::Write)?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer)?;
        Ok::<_, io::Error>(answer)
    };
    let unknown = "refused\nthe application does not know this request";
    for request in [&b"1"[..], b"1\0", b"1\0reset", b"1\0explain\0more", b"1\0backup"] {
        assert_eq!(answer(request)?, unknown, "{request:?}");
    }
    assert_eq!(answer(b"2\0explain")?, "refused\nthe application is of another version");
    assert_eq!(answer(b"")?, "refused\nthe application is of another version");
    assert!(running(dir.path())?.explain()?.starts_with("app is running"));
    drop(app);
    Ok(())
}

#[test]
fn an_owner_that_ends_or_is_no_application_is_told_apart() -> Outcome {
    let dir = tempfile::tempdir()?;
    let control = dir.path().join("control");
    fs::create_dir(&control)?;
    fs::set_permissions(&control, Permissions::from_mode(0o700))?;
    let listener = UnixListener::bind(control.join("socket"))?;
    thread::scope(|scope| {
        let answers = scope.spawn(|| {
            for answer in ["", "nonsense\n", "refused\nno\n", "failed\nno\n", "damaged\nno\n"] {
                let (mut socket, _) = listener.accept()?;
                socket.read_to_end(&mut Vec::new())?;
                socket.write_all(answer.as_bytes())?;
            }
            Ok::<_, io::Error>(())
        });
        for _ in 0..2 {
            let told = running(dir.path())?.explain();
            assert!(matches!(told, Err(ControlError::Ended)), "{told:?}");
        }
        let told = running(dir.path())?.explain();
        assert!(matches!(&told, Err(ControlError::Refused { said }) if said == "no\n"), "{told:?}");
        let told = running(dir.path())?.explain();
        assert!(matches!(&told, Err(ControlError::Failed { said }) if said == "no\n"), "{told:?}");
        let told = running(dir.path())?.explain();
        assert!(matches!(&told, Err(ControlError::Damaged { said }) if said == "no\n"), "{told:?}");
        answers.join().expect("it does not panic")?;
        Ok(())
    })
}
