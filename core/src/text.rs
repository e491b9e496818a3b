//! Foreign text for a terminal: keys, values, names and messages may hold what steers it.

use std::fmt::Write as _;

/// Gives the text as one line without what steers a terminal.
///
/// Control characters are escaped, and those that hide text or change its order, and bytes that are not UTF-8.
///
/// ```
/// use headwater_core::text::shown;
///
/// assert_eq!(shown("Kombi \"é\""), "Kombi \"é\"");
/// assert_eq!(shown("\u{1b}[2J\r\n"), r"\u{1b}[2J\r\n");
/// assert_eq!(shown(b"\xff"), r"\xff");
/// ```
#[must_use]
pub fn shown(text: impl AsRef<[u8]>) -> String {
    let mut out = String::new();
    for chunk in text.as_ref().utf8_chunks() {
        for char in chunk.valid().chars() {
            if steers(char) {
                out.extend(char.escape_default());
            } else {
                out.push(char);
            }
        }
        for byte in chunk.invalid() {
            // Writing to a `String` never fails.
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out
}

/// A number with its thousands apart.
///
/// ```
/// use headwater_core::text::grouped;
///
/// assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
/// ```
#[must_use]
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Tells whether a terminal or a reader would take it for something else than a character at its place.
///
/// These are controls, marks of direction, characters without a width, separators of lines, and tags.
#[must_use]
pub fn steers(char: char) -> bool {
    char.is_control()
        || matches!(char,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_shown_steers_a_terminal() {
        let controls = "\u{1b}[2J\u{7}\r\n\t\u{9b}\u{7f}";
        assert_eq!(shown(controls), r"\u{1b}[2J\u{7}\r\n\t\u{9b}\u{7f}");
        let hidden = "a\u{202e}b\u{2066}c\u{200b}\u{2028}";
        assert_eq!(shown(hidden), r"a\u{202e}b\u{2066}c\u{200b}\u{2028}");
        assert_eq!(shown(b"caf\xe9\x1b/\xff"), r"caf\xe9\u{1b}/\xff");
        for text in ["Kombi é \"L\" 'x' \\", "標準", "e\u{301}", ""] {
            assert_eq!(shown(text), text);
        }
    }
}
