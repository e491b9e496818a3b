//! One bit of a directory is flipped after its process was killed: what the log then holds is right, or it says what is
//! damaged. `HEADWATER_FLIPS` is how many bits are tried.

use super::{
    model::{Loss, State},
    number, tell,
    world::{Cuts, World, open_on},
};
use crate::{
    batch::Header,
    disk::read_if_there,
    journal::frame,
    simulated::{SimulatedDisk, random::Random},
};
use headwater_core::ports::disk::{Disk, Found, OpenMode};
use std::{
    collections::BTreeMap,
    ops::Range,
    path::{Path, PathBuf},
};

/// How many bits are flipped.
const FLIPS: u64 = 500;
/// How many bits are flipped in one directory.
const FLIPS_EACH: u64 = 50;

/// What a byte is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    FrameHeader,
    FramePayload,
    FramePadding,
    JournalZeros,
    BatchHeader,
    BatchRecords,
    Checkpoint,
    PreviousCheckpoint,
    Hint,
    Other,
}

/// Bytes that are alike.
#[derive(Debug)]
struct Stretch {
    path: PathBuf,
    bytes: Range<usize>,
}

type Stretches = BTreeMap<Class, Vec<Stretch>>;

fn add(all: &mut Stretches, class: Class, path: &Path, bytes: Range<usize>) {
    if !bytes.is_empty() {
        all.entry(class).or_default().push(Stretch { path: path.to_owned(), bytes });
    }
}

fn in_journal(all: &mut Stretches, path: &Path, bytes: &[u8]) {
    let mut at = 0;
    while at < bytes.len() {
        let Some(header) = frame::start(&bytes[at..]) else {
            let end = (at + frame::ALIGNMENT).min(bytes.len());
            add(all, Class::JournalZeros, path, at..end);
            at = end;
            continue;
        };
        let length = |bytes: u64| usize::try_from(bytes).unwrap();
        let (payload, end) = (at + frame::HEADER_BYTES, at + length(header.bytes()));
        let next = at + length(header.stride());
        add(all, Class::FrameHeader, path, at..payload);
        add(all, Class::FramePayload, path, payload..end);
        add(all, Class::FramePadding, path, end..next.min(bytes.len()));
        at = next;
    }
}

fn in_segment(all: &mut Stretches, path: &Path, bytes: &[u8]) {
    let mut at = 0;
    while let Ok(header) = Header::parse(&bytes[at..]) {
        let (records, end) = (at + crate::batch::HEADER_BYTES, at + header.size);
        add(all, Class::BatchHeader, path, at..records);
        add(all, Class::BatchRecords, path, records..end.min(bytes.len()));
        at = end.min(bytes.len());
    }
}

/// All bytes below a directory.
fn stretches(disk: &SimulatedDisk, dir: &Path, all: &mut Stretches) {
    for path in disk.list(dir).unwrap() {
        if disk.find(&path).unwrap() == Some(Found::Dir) {
            stretches(disk, &path, all);
            continue;
        }
        let bytes = read_if_there(disk, &path).unwrap().unwrap();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        match name.rsplit('.').next().unwrap_or_default() {
            "journal" => in_journal(all, &path, &bytes),
            "log" => in_segment(all, &path, &bytes),
            "index" | "timeindex" | "checksum" => add(all, Class::Hint, &path, 0..bytes.len()),
            "checkpoint" => add(all, Class::Checkpoint, &path, 0..bytes.len()),
            "previous" => add(all, Class::PreviousCheckpoint, &path, 0..bytes.len()),
            _ => add(all, Class::Other, &path, 0..bytes.len()),
        }
    }
}

/// What is there after a kill, with one bit flipped; and what that bit was.
fn flip(
    disk: &SimulatedDisk,
    all: &Stretches,
    random: &mut Random,
) -> (SimulatedDisk, Class, String) {
    let index =
        |random: &mut Random, length: usize| usize::try_from(random.below(length as u64)).unwrap();
    let (class, of_class) = all.iter().nth(index(random, all.len())).unwrap();
    let Stretch { path, bytes } = &of_class[index(random, of_class.len())];
    let (at, bit) = (bytes.start + index(random, bytes.len()), random.below(8));
    let flipped = disk.kill();
    let file = flipped.open(path, OpenMode::Existing).unwrap();
    let mut byte = [0];
    assert_eq!(file.read_at(&mut byte, at as u64).unwrap(), 1);
    byte[0] ^= 1 << bit;
    file.write_at(&byte, at as u64).unwrap();
    (flipped, *class, format!("{class:?}: bit {bit} of byte {at} of {}", path.display()))
}

/// What the log says of a directory, or what it holds.
fn found(disk: &SimulatedDisk) -> Result<State, String> {
    let log = open_on(disk).map_err(|error| error.to_string())?;
    State::of(&log).map_err(|error| error.to_string())
}

#[test]
fn a_flipped_bit_anywhere_is_harmless_or_said_aloud() {
    let wanted = number("HEADWATER_FLIPS").unwrap_or(FLIPS);
    let mut told: BTreeMap<Class, (u64, u64)> = BTreeMap::new();
    for seed in 0..wanted.div_ceil(FLIPS_EACH) {
        let mut world = World::new(seed, Cuts::Never, SimulatedDisk::new());
        world.run_until_killed().unwrap();
        let mut all = Stretches::new();
        stretches(&world.disk, Path::new("/log"), &mut all);
        let mut random = Random::new(seed);
        for _ in 0..FLIPS_EACH {
            let (disk, class, what) = flip(&world.disk, &all, &mut random);
            let counts = told.entry(class).or_default();
            counts.0 += 1;
            // The first opening may repair what the second one trips over.
            for opening in 0..2 {
                match found(&disk) {
                    Ok(state) => {
                        let judged = world.judge(&state, Loss::Power);
                        assert!(
                            judged.is_ok(),
                            "seed {seed}, {what}, opening {opening}: {judged:?}"
                        );
                    }
                    Err(said) => {
                        assert_ne!(class, Class::Hint, "seed {seed}, {what}: {said}");
                        counts.1 += 1;
                        break;
                    }
                }
            }
        }
    }
    let (flips, aloud) = told.values().fold((0, 0), |sum, of| (sum.0 + of.0, sum.1 + of.1));
    for (class, (flips, aloud)) in &told {
        println!("{class:?}: {flips} flips, {aloud} said aloud");
    }
    assert!(flips >= wanted && told.len() == 10, "{told:?}");
    tell(&format!("bit flips: {flips}, {aloud} said aloud, the others harmless"));
}
