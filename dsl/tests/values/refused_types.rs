//! A type that can never be written, or is never read back, is refused when the topology is built, by its name.

use headwater_core::serde::for_type;
use headwater_dsl::{StreamsBuilder, TimeWindows};
use headwater_engine::{
    processor::{FixedKeyContext, FixedKeyProcessor, FixedKeyRecord, ProcessorError},
    store::KeyValueStore,
};
use std::{collections::BTreeMap, error::Error, time::Duration};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// Forwards what it takes.
struct Pass;

impl FixedKeyProcessor<String, f64> for Pass {
    type VOut = f64;

    fn process(
        &mut self,
        record: FixedKeyRecord<String, f64>,
        context: &mut FixedKeyContext<'_, String, f64>,
    ) -> Result<(), ProcessorError> {
        context.forward(record);
        Ok(())
    }
}

type Pairs = BTreeMap<(String, i64), u64>;

type Draw = fn(&StreamsBuilder);

/// Each of these would keep or send a type that JSON has no form for; `build` names it.
#[test]
fn a_type_that_cannot_be_written_is_refused_at_build() {
    let refused = |draw: Draw| {
        let builder = StreamsBuilder::new();
        draw(&builder);
        builder.build().map_or_else(|error| error.to_string(), |_| "built".to_owned())
    };
    let ways: [(&str, Draw); 8] = [
        ("kept", |builder| {
            let grouped = builder.stream::<String, f64>("in").group_by_key();
            grouped.aggregate(Pairs::new, |_, _, pairs| pairs, "kept").to_stream().to("out");
        }),
        ("windows", |builder| {
            let windows = TimeWindows::of_size_with_no_grace(Duration::from_secs(1));
            let grouped = builder.stream::<String, f64>("in").group_by_key().windowed_by(windows);
            let kept = grouped.aggregate(Vec::<Pairs>::new, |_, _, pairs| pairs, "windows");
            kept.to_stream().map(|key, _| (key.key, 1_i64)).to("out");
        }),
        ("table", |builder| {
            let table = builder.table_with::<String, Pairs>("in", Default::default(), "table");
            table.to_stream().map_values(|_| 1_i64).to("out");
        }),
        ("KSTREAM-SINK-out-0000000000", |builder| {
            builder.stream::<String, f64>("in").map_values(|_| Pairs::new()).to("out");
        }),
        ("KSTREAM-SINK-out-0000000000", |builder| {
            builder.stream::<String, f64>("in").map(|_, _| (Pairs::new(), 1_i64)).to("out");
        }),
        ("counts-repartition-sink", |builder| {
            let mapped = builder.stream::<String, f64>("in").map(|key, _| (key, Pairs::new()));
            mapped.group_by_key().count("counts").to_stream().to("out");
        }),
        ("counts", |builder| {
            let grouped = builder.stream::<String, f64>("in").group_by(|_, _| Pairs::new());
            grouped.count("counts").to_stream().map(|_, n| (1_i64, n)).to("out");
        }),
        ("own", |builder| {
            let (keys, values) = (for_type::<String>(), for_type::<Option<(i64, Pairs)>>());
            builder.add_state_store(KeyValueStore::builder("own", keys, values));
            let stream = builder.stream::<String, f64>("in");
            stream.process_values(|_| Ok(Pass), &["own"]).to("out");
        }),
    ];
    for (place, draw) in ways {
        let refused = refused(draw);
        assert!(refused.starts_with(&format!("`{place}` cannot keep `")), "{refused}");
        assert!(refused.contains("BTreeMap<(alloc::string::String, i64), u64>"), "{refused}");
        assert!(refused.contains("maps in JSON have texts or numbers for keys"), "{refused}");
    }
}

/// What is written under one name is read under another, where nothing is.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
struct Trip {
    #[serde(rename(serialize = "km"), default)]
    distance: i64,
}

#[test]
fn a_type_that_loses_what_it_writes_is_refused_where_it_is_kept() -> Outcome {
    let builder = StreamsBuilder::new();
    let trips = builder.stream::<String, i64>("in").map_values(|distance| Trip { distance });
    trips.to("out");
    builder.build()?;
    let _ = trips.group_by_key().reduce(|_, trip| trip, "trips");
    let refused = builder.build().map_or_else(|error| error.to_string(), |_| "built".to_owned());
    assert_eq!(
        refused,
        "`trips` cannot keep `values::refused_types::Trip`: {\"km\":1} is read back as {\"km\":0}; \
         change the type, or give it another serde"
    );
    Ok(())
}

/// What is written under one name is needed under another.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
struct Stop {
    #[serde(rename(serialize = "km"))]
    distance: i64,
}

#[test]
fn a_type_that_cannot_read_what_it_writes_is_refused_where_it_is_sent() {
    let ways: [Draw; 3] = [
        |stops| {
            let stops = stops.stream::<i64, i64>("in").map_values(|distance| Stop { distance });
            stops.to("out");
        },
        |stops| {
            let stops = stops.stream::<i64, i64>("in").map(|distance, n| (Stop { distance }, n));
            stops.to("out");
        },
        |stops| {
            let stops = stops.stream::<i64, i64>("in").map_values(|distance| Stop { distance });
            stops.map_values(Some).to("out");
        },
    ];
    for draw in ways {
        let builder = StreamsBuilder::new();
        draw(&builder);
        let refused = builder.build().map_or_else(|error| error.to_string(), |_| "built".into());
        assert!(refused.starts_with("`KSTREAM-SINK-out-0000000000` cannot keep `"), "{refused}");
        assert!(refused.contains("refused_types::Stop"), "{refused}");
        assert!(refused.contains("cannot be read back"), "{refused}");
    }
}
