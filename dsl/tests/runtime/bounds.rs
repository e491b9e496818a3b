//! What waits in memory has a bound, whatever other threads and the log are at.

use super::lifecycle::{Outcome, Run};
use headwater_core::memory::MemoryBudget;
use headwater_dsl::StreamsBuilder;
use headwater_engine::{
    runtime::{ProcessingGuarantee, RuntimeConfig, StreamsConfig},
    topology::Topology,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

/// How much there is to take, all of it in one partition.
const RECORDS: usize = 1_000;

/// A copy of `in`, and how many records it has taken.
fn copying() -> Outcome<(Topology, Arc<AtomicUsize>)> {
    let (builder, taken) = (StreamsBuilder::new(), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&taken);
    let stream = builder.stream::<String, Vec<u8>>("in");
    let counted = stream.peek(move |_, _| {
        count.fetch_add(1, Ordering::Relaxed);
    });
    counted.to("out");
    Ok((builder.build()?, taken))
}

/// Appends records of 1,000 bytes, and steps these threads alone until they sleep, 10 ms passing before each step.
fn fed_to(run: &mut Run, actors: &[usize]) -> Outcome {
    (0..RECORDS).try_for_each(|_| run.append_value("a", &[0; 1_000]))?;
    for _ in 0..10_000 {
        run.clock.advance(Duration::from_millis(10));
        let awake: Vec<_> = actors.iter().copied().filter(|it| run.stepper.is_awake(*it)).collect();
        if awake.is_empty() {
            return Ok(());
        }
        for actor in awake {
            run.stepper.step(actor);
        }
    }
    Err("they do not come to rest".into())
}

#[test]
fn who_has_given_its_part_of_a_commit_takes_no_more_than_a_commit_holds() -> Outcome {
    let (topology, taken) = copying()?;
    let mut run = Run::new()?;
    let mut config = StreamsConfig::new("test").with_batch_rows_max(1);
    config.commit_bytes_max = 100_000;
    run.start(topology, config)?;
    run.rest()?;
    // The other thread is at something that lasts, and has yet to give its part.
    fed_to(&mut run, &[0])?;
    assert!((50..200).contains(&taken.load(Ordering::Relaxed)), "{taken:?}");
    run.rest()?;
    assert_eq!(run.committed("test")?, (1_000, 1_000));
    assert_eq!(taken.load(Ordering::Relaxed), RECORDS);
    Ok(())
}

#[test]
fn outputs_that_are_sent_ahead_wait_for_the_log_within_their_share_of_memory() -> Outcome {
    let (topology, taken) = copying()?;
    // An eighth of it is for outputs and changes.
    let memory = Arc::new(MemoryBudget::new(1 << 20));
    let mut run = Run::on(RuntimeConfig::new(2).with_memory(memory))?;
    let config = StreamsConfig::new("test").with_batch_rows_max(1);
    run.start(topology, config.with_processing_guarantee(ProcessingGuarantee::AtLeastOnce))?;
    run.rest()?;
    // The committer waits for the log.
    fed_to(&mut run, &[0, 1])?;
    assert!((100..400).contains(&taken.load(Ordering::Relaxed)), "{taken:?}");
    run.rest()?;
    assert_eq!(run.committed("test")?, (1_000, 1_000));
    assert_eq!(taken.load(Ordering::Relaxed), RECORDS);
    Ok(())
}
