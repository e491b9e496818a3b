//! What falls due between several rows that one record has become, as below a `flat_map` or a processor that forwards several.
//!
//! Two times are at work. Stream time is the task's, and moves by the records that it takes: what it makes due, punctuations and timers,
//! comes between records, after all rows of the one that has made it due. Windows live by the rows that they take themselves: what a
//! row closes comes after that row, and before the next.

use headwater_dsl::{EmitStrategy, KStream, SessionWindows, StreamsBuilder, TimeWindows};
use headwater_engine::{
    processor::{
        Cancellable, Context, FixedKeyContext, FixedKeyProcessor, FixedKeyRecord, InitContext,
        Processor, ProcessorError, PunctuationType, Record,
    },
    runtime::StreamsConfig,
    store::Windowed,
    topology::Topology,
};
use headwater_testkit::TopologyTestDriver;
use std::{error::Error, time::Duration};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;
type Texts = KStream<String, String>;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// What a topology makes of records that are there at once, at each of several sizes of a batch.
fn check(topology: impl Fn() -> Outcome<Topology>, records: &str, expected: &str) -> Outcome {
    for rows_max in [1, 2, 8_192] {
        let config = StreamsConfig::new("test").with_batch_rows_max(rows_max);
        let driver = TopologyTestDriver::with(topology()?, config, &[].into())?.by_hand();
        driver.pipe::<String, String>("in", records)?;
        driver.run_until_idle()?;
        driver.commit()?;
        assert_eq!(driver.read::<String, String>("out")?, expected, "{rows_max} rows a batch");
    }
    Ok(())
}

/// Forwards the row and, every 10 ms of stream time, a tick.
struct Ticks;

impl Processor<String, String> for Ticks {
    type KOut = String;
    type VOut = String;

    fn process(
        &mut self,
        record: Record<String, String>,
        context: &mut Context<'_, String, String>,
    ) -> Result<(), ProcessorError> {
        let value = format!("{}<{}", record.value, context.current_stream_time());
        context.forward(record.with_value(value));
        Ok(())
    }

    fn punctuate(
        &mut self,
        _: Cancellable,
        time: i64,
        context: &mut Context<'_, String, String>,
    ) -> Result<(), ProcessorError> {
        context.forward(Record::new("tick".to_owned(), "-".to_owned(), time));
        Ok(())
    }
}

fn ticking(stream: &Texts) -> Texts {
    let make = |context: &mut InitContext<'_>| {
        context.schedule(ms(10), PunctuationType::StreamTime);
        Ok(Ticks)
    };
    stream.process(make, &[])
}

/// A row for each letter of the value.
fn letters(stream: &Texts) -> Texts {
    stream.flat_map_values(|text| text.chars().map(|letter| letter.to_string()).collect::<Vec<_>>())
}

#[test]
fn a_punctuation_comes_after_all_rows_of_the_record_that_makes_it_due() -> Outcome {
    let records = "a=xyz@1 a=u@5 a=vw@12 b=st@40";
    let expected = "a=x<1@1 a=y<1@1 a=z<1@1 tick=-@1 a=u<5@5 a=v<12@12 a=w<12@12 tick=-@12 \
                    b=s<40@40 b=t<40@40 tick=-@40";
    check(
        || {
            let builder = StreamsBuilder::new();
            ticking(&letters(&builder.stream("in"))).to("out");
            Ok(builder.build()?)
        },
        records,
        expected,
    )?;
    // Below two ways from one node, where rows go one by one.
    let expected = "a=x<1@1 a=x<1@1 a=y<1@1 a=y<1@1 tick=-@1 b=s<40@40 b=s<40@40 tick=-@40";
    check(
        || {
            let builder = StreamsBuilder::new();
            let rows = letters(&builder.stream("in"));
            ticking(&rows.peek(|_, _| {}).merge(&rows)).to("out");
            Ok(builder.build()?)
        },
        "a=xy@1 b=s@40",
        expected,
    )
}

/// Forwards a row at each of the times that the value names.
struct At;

impl FixedKeyProcessor<String, String> for At {
    type VOut = String;

    fn process(
        &mut self,
        record: FixedKeyRecord<String, String>,
        context: &mut FixedKeyContext<'_, String, String>,
    ) -> Result<(), ProcessorError> {
        for time in record.value.clone().split('+') {
            let time: i64 = time.parse().map_err(ProcessorError::record)?;
            context.forward(record.clone().with_value(format!("r{time}")).with_timestamp(time));
        }
        Ok(())
    }
}

#[test]
fn rows_of_other_times_move_no_stream_time() -> Outcome {
    let topology = || {
        let builder = StreamsBuilder::new();
        let rows = builder.stream::<String, String>("in").process_values(|_| Ok(At), &[]);
        ticking(&rows).to("out");
        Ok(builder.build()?)
    };
    let expected = "a=r5<1@5 a=r90<1@90 tick=-@1 a=r91<9@91 a=r2<20@2 a=r3<20@3 tick=-@20";
    check(topology, "a=5+90@1 a=91@9 a=2+3@20", expected)
}

/// The rows, and beside them what `finals` makes of them.
fn beside(finals: impl Fn(&Texts) -> KStream<Windowed<String>, i64>) -> Outcome<Topology> {
    let builder = StreamsBuilder::new();
    let rows = builder.stream::<String, String>("in").process_values(|_| Ok(At), &[]);
    let counts = finals(&rows).map(|at, count| (format!("{}[{}]", at.key, at.window.start), count));
    counts.map_values(|count| count.to_string()).merge(&rows).to("out");
    Ok(builder.build()?)
}

#[test]
fn what_a_row_closes_comes_before_the_next_row() -> Outcome {
    let windows = || TimeWindows::of_size_with_no_grace(ms(10));
    let on_close = |rows: &Texts| {
        let windowed = rows.group_by_key().windowed_by(windows());
        let counts = windowed.emit_strategy(EmitStrategy::on_window_close()).count("counts");
        counts.to_stream().drop_null_values()
    };
    // The row at 7 is late, since the one before it has closed its window.
    let records = "a=1+2+25+7+26+99@1 a=100+110@2";
    let expected = "a=r1@1 a=r2@2 a=r25@25 a[0]=2@2 a=r7@7 a=r26@26 a=r99@99 a[20]=2@26 \
                    a=r100@100 a[90]=1@99 a=r110@110 a[100]=1@100";
    check(|| beside(on_close), records, expected)?;
    // A session is closed once time is past its end by more than the gap.
    let sessions = |rows: &Texts| {
        let gap = SessionWindows::of_inactivity_gap_with_no_grace(ms(5));
        let windowed = rows.group_by_key().windowed_by(gap);
        let counts = windowed.emit_strategy(EmitStrategy::on_window_close()).count("counts");
        counts.to_stream().drop_null_values()
    };
    let expected = "a=r1@1 a=r2@2 a=r25@25 a[1]=2@2 a=r7@7 a=r26@26 a=r99@99 a[25]=2@26 \
                    a=r100@100 a=r110@110 a[99]=2@100";
    check(|| beside(sessions), records, expected)
}
