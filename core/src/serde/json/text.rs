//! The text that a walk through a value writes, or does not.

use super::shape::Unwritable;
use serde::ser::{Error, Serializer};
use sonic_rs::Serializer as Scalars;

/// Takes a text piece by piece. Every item of a list or an object comes with a comma in front; the first of them becomes the
/// bracket once the last was written.
pub(super) trait Text {
    /// How many bytes there are.
    fn len(&self) -> usize;

    fn push(&mut self, byte: u8);

    /// A number, a text or null.
    fn scalar(
        &mut self,
        write: impl FnOnce(&mut Scalars<&mut Vec<u8>>) -> sonic_rs::Result<()>,
    ) -> Result<(), Unwritable>;

    /// The name of a member, and its colon.
    fn name(&mut self, name: &'static str) -> Result<(), Unwritable>;

    /// The same of what was written from `start` on: a number becomes a text.
    fn end_name(&mut self, start: usize);

    /// Ends the list or the object that begins at `start`.
    fn close(&mut self, start: usize, brackets: [u8; 2]);

    /// What follows says itself what its text is.
    fn foreign(&self) -> Result<(), Unwritable>;
}

/// None.
pub(super) struct NoText;

impl Text for NoText {
    fn len(&self) -> usize {
        0
    }

    fn push(&mut self, _: u8) {}

    fn scalar(
        &mut self,
        _: impl FnOnce(&mut Scalars<&mut Vec<u8>>) -> sonic_rs::Result<()>,
    ) -> Result<(), Unwritable> {
        Ok(())
    }

    fn name(&mut self, _: &'static str) -> Result<(), Unwritable> {
        Ok(())
    }

    fn end_name(&mut self, _: usize) {}

    fn close(&mut self, _: usize, _: [u8; 2]) {}

    fn foreign(&self) -> Result<(), Unwritable> {
        Ok(())
    }
}

impl Text for &mut Vec<u8> {
    fn len(&self) -> usize {
        Vec::len(self)
    }

    #[inline]
    fn push(&mut self, byte: u8) {
        Vec::push(self, byte);
    }

    #[inline]
    fn scalar(
        &mut self,
        write: impl FnOnce(&mut Scalars<&mut Vec<u8>>) -> sonic_rs::Result<()>,
    ) -> Result<(), Unwritable> {
        write(&mut Scalars::new(&mut **self)).map_err(Unwritable::custom)
    }

    #[inline]
    fn name(&mut self, name: &'static str) -> Result<(), Unwritable> {
        let is_plain = |byte: u8| byte >= b' ' && byte != b'"' && byte != b'\\';
        if name.bytes().all(is_plain) {
            self.reserve(name.len() + 3);
            self.push(b'"');
            self.extend_from_slice(name.as_bytes());
            self.extend_from_slice(b"\":");
            return Ok(());
        }
        self.scalar(|writer| writer.serialize_str(name))?;
        self.push(b':');
        Ok(())
    }

    fn end_name(&mut self, start: usize) {
        if self.get(start) != Some(&b'"') {
            self.insert(start, b'"');
            self.push(b'"');
        }
        self.push(b':');
    }

    #[inline]
    fn close(&mut self, start: usize, [open, close]: [u8; 2]) {
        match self.get_mut(start) {
            Some(comma) => *comma = open,
            None => self.push(open),
        }
        self.push(close);
    }

    fn foreign(&self) -> Result<(), Unwritable> {
        Err(Unwritable::Foreign)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{super::ReadBack, shape};
    use serde::Serialize;
    use std::collections::BTreeMap;

    #[derive(Serialize)]
    enum Part {
        Nothing,
        One(f32),
        Two(i64, Option<String>),
        #[serde(rename = "a \"name\"\\\n")]
        Named {
            z: char,
            a: Option<Vec<u8>>,
        },
    }

    #[derive(Serialize)]
    struct Unit;

    #[derive(Serialize)]
    struct Wrapped(u128);

    #[derive(Serialize)]
    struct Whole {
        #[serde(rename = "\u{e9}\u{1f}")]
        float: f64,
        tuple: (i8, [u8; 2], Unit, ()),
        parts: Vec<Part>,
        empty: (Vec<i64>, BTreeMap<String, i64>, [i64; 0]),
        numbered: BTreeMap<i64, BTreeMap<bool, Wrapped>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        left_out: Option<i64>,
        #[serde(flatten)]
        rest: BTreeMap<char, &'static str>,
    }

    fn whole(float: f64) -> Whole {
        Whole {
            float,
            tuple: (-1, [1, 2], Unit, ()),
            parts: vec![
                Part::Nothing,
                Part::One(0.1),
                Part::Two(i64::MIN, None),
                Part::Two(7, Some("\u{0}\"\u{1f980}".to_owned())),
                Part::Named { z: '"', a: Some(vec![0, 255]) },
                Part::Named { z: '\u{e9}', a: None },
            ],
            empty: (Vec::new(), BTreeMap::new(), []),
            numbered: [(-3, [(true, Wrapped(u128::MAX)), (false, Wrapped(0))].into())].into(),
            left_out: None,
            rest: [('x', "y"), ('"', "\\")].into(),
        }
    }

    fn text<T: Serialize>(value: &T) -> String {
        let mut out = b"before".to_vec();
        shape::write(value, &ReadBack::default(), &mut out).unwrap();
        String::from_utf8(out.split_off(6)).unwrap()
    }

    #[test]
    fn a_text_is_the_one_that_is_written_without_a_walk() {
        for float in [0.0, -0.0, 1.0, 0.1, 1e300, -1.5e-9, 123_456_789.125, f64::MIN_POSITIVE] {
            let whole = whole(float);
            assert_eq!(text(&whole), sonic_rs::to_string(&whole).unwrap());
            assert_eq!(text(&Some(float)), sonic_rs::to_string(&Some(float)).unwrap());
        }
        assert_eq!(
            (text(&Unit), text(&""), text(&Vec::<i64>::new())),
            ("null".into(), "\"\"".into(), "[]".into())
        );
    }
}
