//! The power of a real file system is cut at random moments, again and again: ext4 on a loop device is shut down without a
//! flush of its journal while a process writes, and mounted anew.
//!
//! It needs root and a loop device; where there is none it says so, and how many cuts there were is told in any case.
//! `HEADWATER_POWER_CUTS` is how many are made.

#![expect(clippy::unwrap_used, reason = "what a test needs around its cases fails the test")]

mod numbers;

use numbers::{Writer, check, random, write_if_told};
use rustix::ioctl::{self, Setter};
use std::{
    env,
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
    process::Command,
};

const CUTS: u64 = 100;
/// After how many it says so.
const PROGRESS: u64 = 100;
const SEED: &str = "HEADWATER_TEST_SEED";
const TEST: &str = "power_cuts_of_a_file_system_take_nothing_acknowledged";
const IMAGE_BYTES: u64 = 256 << 20;
/// `EXT4_IOC_SHUTDOWN`: `_IOR('X', 125, u32)`.
const SHUTDOWN: ioctl::Opcode = 0x8004_587D;
const NO_LOG_FLUSH: u32 = 2;

fn run(program: &str, arguments: &[&Path]) -> Result<(), String> {
    let output = Command::new(program).args(arguments).output();
    let output = output.map_err(|error| format!("{program} cannot be run: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

/// A file system in a file.
struct Disk {
    image: PathBuf,
    mounted_at: PathBuf,
    _dir: tempfile::TempDir,
}

impl Disk {
    fn make() -> Result<Self, String> {
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let disk = Self {
            image: dir.path().join("image"),
            mounted_at: dir.path().join("disk"),
            _dir: dir,
        };
        File::create(&disk.image).unwrap().set_len(IMAGE_BYTES).unwrap();
        std::fs::create_dir(&disk.mounted_at).unwrap();
        run("mkfs.ext4", &[Path::new("-q"), Path::new("-F"), &disk.image])?;
        disk.mount()?;
        Ok(disk)
    }

    fn mount(&self) -> Result<(), String> {
        run("mount", &[Path::new("-o"), Path::new("loop"), &self.image, &self.mounted_at])
    }

    #[expect(unsafe_code, reason = "no safe wrapper knows the call")]
    fn cut_power(&self) {
        let root = File::open(&self.mounted_at).unwrap();
        // SAFETY: the call reads one u32 behind the pointer that it gets, as its number says.
        let shutdown = unsafe { ioctl::ioctl(&root, Setter::<SHUTDOWN, u32>::new(NO_LOG_FLUSH)) };
        shutdown.unwrap();
    }

    fn restart(&self) {
        run("umount", &[&self.mounted_at]).unwrap();
        self.mount().unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: after a failure something may still be open there.
        let _unmounted = run("umount", &[Path::new("-l"), &self.mounted_at]);
    }
}

/// Says it past the harness, which keeps to itself what a test that passes prints.
fn tell(line: &str) {
    let mut out = io::stdout().lock();
    writeln!(out, "\n{line}").unwrap();
}

#[test]
fn power_cuts_of_a_file_system_take_nothing_acknowledged() {
    if write_if_told() {
        return;
    }
    let number = |name| env::var(name).ok().and_then(|number| number.parse().ok());
    let mut state = number(SEED).unwrap_or(20_261_127);
    let disk = match Disk::make() {
        Ok(disk) => disk,
        Err(why) => {
            return tell(&format!("power cuts: 0, for want of root and a loop device ({why})"));
        }
    };
    let dir = disk.mounted_at.join("log");
    let (mut acknowledged, mut most) = (0, 0);
    let cuts = number("HEADWATER_POWER_CUTS").unwrap_or(CUTS);
    for cut in 0..cuts {
        let mut writer = Writer::start(TEST, &dir);
        // Every fifth falls into the recovery from the one before, which nobody has looked at.
        let wanted = if cut % 5 == 4 { 0 } else { 1 + random(&mut state, 80) };
        writer.run(wanted, random(&mut state, 400_000));
        disk.cut_power();
        writer.kill();
        disk.restart();
        acknowledged = acknowledged.max(writer.acknowledged);
        most = most.max(acknowledged + 3);
        if cut % 5 != 3 {
            let held = check(&dir);
            assert!(held >= acknowledged, "cut {cut}: {acknowledged} acknowledged, {held} held");
            assert!(held <= most, "cut {cut}: {held} held, more than was under way");
            acknowledged = held;
        }
        if cut % PROGRESS == PROGRESS - 1 && cut + 1 < cuts {
            tell(&format!("{} of {cuts} power cuts", cut + 1));
        }
    }
    assert!(acknowledged > i64::try_from(cuts).unwrap(), "only {acknowledged} commits");
    tell(&format!("power cuts: {cuts} of a file system, with {acknowledged} commits"));
}
