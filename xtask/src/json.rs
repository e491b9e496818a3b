//! As much of a JSON reader as `cargo metadata` asks for.
//!
//! # Not here
//!
//! Numbers, booleans and null are recognised and thrown away: nothing that xtask asks cargo for is one.

use std::iter::Peekable;
use std::str::Chars;

/// Nesting beyond this is refused, so that no text can use up the stack.
const DEPTH_MAX: usize = 128;

/// A JSON value.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Json {
    /// A string, unescaped.
    Text(String),
    /// An array.
    List(Vec<Json>),
    /// An object, in the order of the text.
    Object(Vec<(String, Json)>),
    /// Null, a boolean or a number.
    Other,
}

impl Json {
    /// Reads one value that is the whole text.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut reader = Reader { rest: text.chars().peekable(), depth: 0 };
        let value = reader.value()?;
        match reader.next_token() {
            None => Ok(value),
            Some(extra) => Err(format!("`{extra}` follows the value")),
        }
    }

    /// The value of a field, if this is an object that has it.
    pub(crate) fn get(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Object(fields) => {
                fields.iter().find(|(it, _)| it == name).map(|(_, value)| value)
            }
            Self::Text(_) | Self::List(_) | Self::Other => None,
        }
    }

    /// The string of a field, if it is there and is one.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        match self.get(name) {
            Some(Self::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// The elements of a field; none if it is no array.
    pub(crate) fn list(&self, name: &str) -> &[Self] {
        match self.get(name) {
            Some(Self::List(values)) => values,
            _ => &[],
        }
    }
}

struct Reader<'a> {
    rest: Peekable<Chars<'a>>,
    depth: usize,
}

impl Reader<'_> {
    fn value(&mut self) -> Result<Json, String> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(format!("nested deeper than {DEPTH_MAX}"));
        }
        let value = match self.next_token() {
            Some('{') => self.object(),
            Some('[') => self.array(),
            Some('"') => self.string().map(Json::Text),
            Some(first) => self.word(first),
            None => Err("the text ends where a value should be".to_owned()),
        };
        self.depth -= 1;
        value
    }

    fn object(&mut self) -> Result<Json, String> {
        let mut fields = Vec::new();
        loop {
            match self.next_token() {
                Some('}') if fields.is_empty() => return Ok(Json::Object(fields)),
                Some('"') => {}
                other => return Err(unexpected(other, "the name of a field")),
            }
            let name = self.string()?;
            self.require(':')?;
            fields.push((name, self.value()?));
            match self.next_token() {
                Some(',') => {}
                Some('}') => return Ok(Json::Object(fields)),
                other => return Err(unexpected(other, "`,` or `}`")),
            }
        }
    }

    fn array(&mut self) -> Result<Json, String> {
        let mut values = Vec::new();
        if self.peek_token() == Some(']') {
            self.rest.next();
            return Ok(Json::List(values));
        }
        loop {
            values.push(self.value()?);
            match self.next_token() {
                Some(',') => {}
                Some(']') => return Ok(Json::List(values)),
                other => return Err(unexpected(other, "`,` or `]`")),
            }
        }
    }

    fn string(&mut self) -> Result<String, String> {
        let mut text = String::new();
        loop {
            match self.rest.next() {
                Some('"') => return Ok(text),
                Some('\\') => text.push(self.escape()?),
                Some(plain) => text.push(plain),
                None => return Err("a string has no end".to_owned()),
            }
        }
    }

    fn escape(&mut self) -> Result<char, String> {
        Ok(match self.rest.next() {
            Some('n') => '\n',
            Some('t') => '\t',
            Some('r') => '\r',
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some('u') => return self.unicode(),
            Some(same @ ('"' | '\\' | '/')) => same,
            other => return Err(unexpected(other, "an escape")),
        })
    }

    /// Four hexadecimal digits, or two times four that are the halves of one character.
    fn unicode(&mut self) -> Result<char, String> {
        let first = self.code_unit()?;
        let mut units = vec![first];
        if (0xD800..0xDC00).contains(&first) {
            if (self.rest.next(), self.rest.next()) != (Some('\\'), Some('u')) {
                return Err("half a character in an escape".to_owned());
            }
            units.push(self.code_unit()?);
        }
        match char::decode_utf16(units).next() {
            Some(Ok(character)) => Ok(character),
            _ => Err("half a character in an escape".to_owned()),
        }
    }

    fn code_unit(&mut self) -> Result<u16, String> {
        let digits: String = self.rest.by_ref().take(4).collect();
        u16::from_str_radix(&digits, 16).map_err(|_| format!("`\\u{digits}` is no character"))
    }

    fn word(&mut self, first: char) -> Result<Json, String> {
        let mut word = String::from(first);
        while let Some(next) =
            self.rest.next_if(|it| it.is_ascii_alphanumeric() || "+-.".contains(*it))
        {
            word.push(next);
        }
        let known = matches!(word.as_str(), "null" | "true" | "false");
        if known || word.parse::<f64>().is_ok() {
            Ok(Json::Other)
        } else {
            Err(format!("`{word}` is no value"))
        }
    }

    fn require(&mut self, wanted: char) -> Result<(), String> {
        match self.next_token() {
            Some(found) if found == wanted => Ok(()),
            other => Err(unexpected(other, &format!("`{wanted}`"))),
        }
    }

    fn peek_token(&mut self) -> Option<char> {
        while self.rest.next_if(char::is_ascii_whitespace).is_some() {}
        self.rest.peek().copied()
    }

    fn next_token(&mut self) -> Option<char> {
        self.peek_token()?;
        self.rest.next()
    }
}

fn unexpected(found: Option<char>, wanted: &str) -> String {
    match found {
        Some(found) => format!("`{found}` where {wanted} should be"),
        None => format!("the text ends where {wanted} should be"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_name() {
        let json = Json::parse(r#" {"a": [1, -2.5e3, null, true], "b": {"c": "d"}, "e": []} "#);
        let json = json.unwrap();
        assert_eq!(json.list("a").len(), 4);
        assert_eq!(json.get("b").and_then(|it| it.text("c")), Some("d"));
        assert_eq!(json.list("e"), []);
        assert_eq!(json.text("nothing"), None);
    }

    #[test]
    fn escapes_are_resolved() {
        let json = Json::parse(r#"{"a": "\"\\\/\n\u00e9\ud83d\ude97"}"#).unwrap();
        assert_eq!(json.text("a"), Some("\"\\/\né🚗"));
    }

    #[test]
    fn what_is_not_json_is_refused() {
        for text in
            ["", "{", "[1,]", "[1 2]", "{\"a\" 1}", "\"a", "nul", "1 2", r#""\ud83d""#, "{,}"]
        {
            assert!(Json::parse(text).is_err(), "{text} was taken");
        }
    }

    #[test]
    fn nesting_is_bounded() {
        assert!(Json::parse(&"[".repeat(1_000_000)).is_err());
    }
}
