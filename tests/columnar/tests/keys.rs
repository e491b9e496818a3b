//! The bytes that the kernel gets for a key: those of the log where its serde has one form, what it writes elsewhere.

use headwater_core::{
    record::{Headers, RecordSetBuilder},
    serde::{Bytes, Data, Exact, I64, Json, Serde, SerdeError, SharedSerde, Utf8},
};
use headwater_engine::{kernel::Skin, store::KeyBatch, topology::Decoder};
use headwater_tests_columnar::{ColumnDecoder, FoldSkin};
use std::{error::Error, sync::Arc};

type Outcome = Result<(), Box<dyn Error>>;

/// What the kernel gets for keys that the log holds as `written`.
fn keys_of<K: Data>(
    keys: &SharedSerde<K>,
    written: &[&str],
) -> Result<Vec<String>, Box<dyn Error>> {
    let mut records = RecordSetBuilder::default();
    for key in written {
        let set = records.push(0, Some(key.as_bytes()), Some(b"value"), &Headers::new());
        set.map_err(|full| full.to_string())?;
    }
    let values: SharedSerde<Vec<u8>> = Arc::new(Bytes);
    let mut decoder = ColumnDecoder::new(keys, &values);
    let mut decoded = decoder.decode(&records.build(), &[], 0, written.len());
    let mut skin = FoldSkin::<K, Vec<u8>, Vec<u8>, ()>::new(keys, |value, _| Some(value.clone()));
    let mut batch = KeyBatch::default();
    skin.begin(decoded.rows.take(written.len()), &mut batch)?;
    let texts = batch.iter().map(|key| String::from_utf8_lossy(key.unwrap_or(b"-")).into_owned());
    Ok(texts.collect())
}

/// Reads texts, and cannot write them.
struct Read {
    has_one_form: bool,
}

impl Serde<String> for Read {
    fn serialize(&self, _: &String, _: &mut Vec<u8>) -> Result<bool, SerdeError> {
        Err(SerdeError::Null)
    }

    fn deserialize(&self, bytes: Option<&[u8]>) -> Result<String, SerdeError> {
        Utf8.deserialize(bytes)
    }

    fn has_one_form(&self) -> bool {
        self.has_one_form
    }

    fn schema(&self) -> String {
        "read".into()
    }
}

#[test]
fn a_key_of_one_form_is_not_written_again() -> Outcome {
    let keys = |has_one_form| -> SharedSerde<String> { Arc::new(Read { has_one_form }) };
    assert_eq!(keys_of(&keys(true), &["a", "", "b"])?, ["a", "", "b"]);
    assert_eq!(keys_of(&keys(false), &["a", "", "b"])?, ["-", "-", "-"]);
    let numbers: SharedSerde<i64> = Arc::new(I64);
    assert_eq!(keys_of(&numbers, &["8 bytes."])?, ["8 bytes."]);
    Ok(())
}

#[test]
fn a_key_of_several_forms_is_what_its_serde_writes() -> Outcome {
    // That values read back equal says nothing about what else is read as one.
    let keys: [SharedSerde<f64>; 2] = [Arc::new(Json), Arc::new(Exact::new(Json, |_: &f64| 8))];
    for keys in keys {
        assert_eq!(keys_of(&keys, &["1.0", "1", "1e0", "2"])?, ["1.0", "1.0", "1.0", "2.0"]);
    }
    Ok(())
}
