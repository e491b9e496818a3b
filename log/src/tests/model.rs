//! Random appends, closes and crashes, compared with plain vectors.

use super::*;
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Step {
    /// (partition, records, gap in front) of each append.
    Commit(Vec<(u32, usize, i64)>),
    Offset(i64),
    Reopen,
    Crash,
    /// A crash that leaves bytes past what the journal and the segments hold.
    CrashWithGarbage(u8),
    Fetch(u32, prop::sample::Index, usize),
}

fn step() -> impl Strategy<Value = Step> {
    let append = (0..3_u32, 0..6_usize, prop_oneof![4 => Just(0), 1 => 1..9_i64]);
    prop_oneof![
        8 => prop::collection::vec(append, 1..5).prop_map(Step::Commit),
        2 => (0..100_i64).prop_map(Step::Offset),
        1 => Just(Step::Reopen),
        2 => Just(Step::Crash),
        1 => any::<u8>().prop_map(Step::CrashWithGarbage),
        4 => (0..3_u32, any::<prop::sample::Index>(), 1..2000_usize).prop_map(|(p, at, max)| Step::Fetch(p, at, max)),
    ]
}

#[derive(Debug, Default)]
struct Model {
    partitions: [Vec<(i64, String)>; 3],
    ends: [i64; 3],
    offset: Option<i64>,
    count: usize,
}

fn run_commit(log: &EmbeddedLog, model: &mut Model, appends: &[(u32, usize, i64)]) {
    let mut commit = Commit::default();
    for (number, count, gap) in appends {
        let at = *number as usize;
        let base = model.ends[at] + gap;
        let values: Vec<_> = (0..*count).map(|i| format!("value {}", model.count + i)).collect();
        model.count += count;
        for (offset, value) in (base..).zip(&values) {
            model.partitions[at].push((offset, value.clone()));
            model.ends[at] = offset + 1;
        }
        let values: Vec<_> = values.iter().map(String::as_str).collect();
        let base_offset = (*gap > 0).then_some(base);
        commit.appends.push(Append { base_offset, ..append(&partition("t", *number), &values) });
    }
    log.commit(commit).unwrap().wait().unwrap();
}

fn check(log: &EmbeddedLog, model: &Model) {
    for number in 0..3 {
        let id = partition("t", number);
        assert_eq!(log.offsets(&id).unwrap().end, model.ends[number as usize]);
        assert_eq!(read_all(log, &id), model.partitions[number as usize]);
    }
    let committed =
        log.committed("g", &partition("t", 0)).unwrap().map(|committed| committed.offset);
    assert_eq!(committed, model.offset);
}

fn scribble(dir: &Path, garbage: u8) {
    use std::io::Write;
    for number in 0..3 {
        let segments = dir.join(format!("t-{number}"));
        if let Some(last) =
            segments.is_dir().then(|| files(&segments, "log")).and_then(|mut all| all.pop())
        {
            let mut file = fs::OpenOptions::new().append(true).open(last).unwrap();
            file.write_all(&vec![garbage; usize::from(garbage) * 3]).unwrap();
        }
    }
    for journal in files(&dir.join("journal"), "journal") {
        let mut file = fs::OpenOptions::new().append(true).open(journal).unwrap();
        file.write_all(&vec![garbage; usize::from(garbage) * 3]).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn the_log_is_its_model_over_closes_and_crashes(steps in prop::collection::vec(step(), 1..60)) {
        let mut dir = memory_dir();
        let mut log = open(dir.path());
        log.create_topics(&[TopicSpec::new(topic("t"), 3)]).unwrap();
        let mut model = Model::default();
        for step in steps {
            match step {
                Step::Commit(appends) => run_commit(&log, &mut model, &appends),
                Step::Offset(offset) => {
                    let offsets = vec![position("g", &partition("t", 0), offset, "")];
                    log.commit(Commit { offsets, ..Commit::default() }).unwrap().wait().unwrap();
                    model.offset = Some(offset);
                }
                Step::Reopen => {
                    log.close().unwrap();
                    log = open(dir.path());
                    check(&log, &model);
                }
                Step::Crash | Step::CrashWithGarbage(_) => {
                    let image = crash_image(&log, dir.path());
                    if let Step::CrashWithGarbage(garbage) = step {
                        scribble(image.path(), garbage);
                    }
                    drop(log);
                    dir = image;
                    log = open(dir.path());
                    check(&log, &model);
                }
                Step::Fetch(number, at, bytes_max) => {
                    let id = partition("t", number);
                    let end = usize::try_from(model.ends[number as usize]).unwrap();
                    let from = i64::try_from(at.index(end + 1)).unwrap();
                    let fetched = log.fetch(&id, from, bytes_max).unwrap();
                    let expected = model.partitions[number as usize].iter().filter(|(offset, _)| *offset >= from);
                    let expected: Vec<_> = expected.take(fetched.records.len()).map(|(offset, _)| *offset).collect();
                    let seen: Vec<_> = fetched.records.iter().map(|record| record.offset).collect();
                    prop_assert_eq!(&seen, &expected);
                    prop_assert!(!seen.is_empty() || fetched.next_offset == fetched.end);
                }
            }
        }
        check(&log, &model);
    }
}
