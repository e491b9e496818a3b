//! How keys and values are written: as themselves, or by serdes that refuse some and do not give the others back equal.

use headwater_core::serde::{I64, Serde, SerdeError, SharedSerde, Utf8};
use headwater_dsl::Grouped;
use headwater_engine::DefaultSerde;
use proptest::prelude::*;
use std::sync::Arc;

/// How keys or values are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Plain,
    /// Some are refused, and the others do not read back equal.
    Picky,
}

pub(crate) fn any_form() -> impl Strategy<Value = Form> {
    prop_oneof![Just(Form::Plain), Just(Form::Picky)]
}

pub(crate) fn value_serde(form: Form) -> SharedSerde<i64> {
    match form {
        Form::Plain => Arc::new(I64),
        Form::Picky => Arc::new(PickyValues),
    }
}

pub(crate) fn in_forms(key: Form, value: Form) -> Grouped<String, i64> {
    let key: SharedSerde<String> = match key {
        Form::Plain => Arc::new(Utf8),
        Form::Picky => Arc::new(PickyKeys),
    };
    Grouped::with(key, value_serde(value))
}

/// An aggregate that stores refuse to keep if it is one of every four. It reads back equal: of others a store
/// gives back what it was given until it has evicted it, so that it shows where a commit fell.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Picked(pub(crate) i64);

impl DefaultSerde for Picked {
    fn default_serde() -> SharedSerde<Self> {
        Arc::new(PickyAggregates)
    }
}

fn refused(what: impl std::fmt::Display) -> SerdeError {
    let detail = format!("{what} is one of those");
    SerdeError::Malformed { expected: "what can be written", detail }
}

/// Refuses every fourth value, and writes the others without their lowest bit.
struct PickyValues;

impl Serde<i64> for PickyValues {
    fn serialize(&self, value: &i64, out: &mut Vec<u8>) -> Result<bool, SerdeError> {
        if value.rem_euclid(4) == 2 {
            return Err(refused(value));
        }
        I64.serialize(&(value & !1), out)
    }

    fn deserialize(&self, bytes: Option<&[u8]>) -> Result<i64, SerdeError> {
        I64.deserialize(bytes)
    }

    fn schema(&self) -> String {
        "picky".into()
    }
}

/// Refuses every fourth aggregate.
struct PickyAggregates;

impl Serde<Picked> for PickyAggregates {
    fn serialize(&self, value: &Picked, out: &mut Vec<u8>) -> Result<bool, SerdeError> {
        if value.0.rem_euclid(4) == 2 {
            return Err(refused(value.0));
        }
        I64.serialize(&value.0, out)
    }

    fn deserialize(&self, bytes: Option<&[u8]>) -> Result<Picked, SerdeError> {
        I64.deserialize(bytes).map(Picked)
    }

    fn schema(&self) -> String {
        "picky-aggregates".into()
    }
}

/// Refuses the keys that end with 2, and writes the others in lower case to read them in upper case.
struct PickyKeys;

impl Serde<String> for PickyKeys {
    fn serialize(&self, key: &String, out: &mut Vec<u8>) -> Result<bool, SerdeError> {
        if key.ends_with('2') {
            return Err(refused(key));
        }
        Utf8.serialize(&key.to_lowercase(), out)
    }

    fn deserialize(&self, bytes: Option<&[u8]>) -> Result<String, SerdeError> {
        Utf8.deserialize(bytes).map(|key: String| key.to_uppercase())
    }

    fn schema(&self) -> String {
        "picky-keys".into()
    }
}
