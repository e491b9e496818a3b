//! Foreign text for people and for a shell: cut to a width, and quoted so that it can be pasted.

use headwater::text::{shown, steers};
use std::{ffi::OsStr, os::unix::ffi::OsStrExt};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// A path or an argument, shown as text.
pub(crate) fn shown_os(text: impl AsRef<OsStr>) -> String {
    shown(text.as_ref().as_bytes())
}

/// How many columns of a terminal the text takes.
pub(crate) fn width(text: &str) -> usize {
    text.width()
}

/// The text if it is at most `max` columns wide, else its beginning and `…`.
pub(crate) fn cut(text: &str, max: usize) -> String {
    if text.len() <= max || width(text) <= max {
        return text.to_owned();
    }
    let mut room = max.saturating_sub(1);
    let fits = |char: &char| {
        let left = room.checked_sub(char.width().unwrap_or(0));
        room = left.unwrap_or(room);
        left.is_some()
    };
    text.chars().take_while(fits).chain(['…']).collect()
}

/// The word as a shell takes it back: as it is, in single quotes, or in `$'…'` if it holds what cannot be shown.
pub(crate) fn quoted(word: impl AsRef<OsStr>) -> String {
    let bytes = word.as_ref().as_bytes();
    // A shell may take a word that begins with `=` for a command.
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-./:,+@%=".contains(byte);
    let is_plain = |bytes: &[u8]| bytes.iter().all(is_plain) && !bytes.starts_with(b"=");
    let text = word.as_ref().to_str().filter(|text| !text.chars().any(steers));
    match text {
        Some(text) if !text.is_empty() && is_plain(bytes) => text.to_owned(),
        Some(text) => format!("'{}'", text.replace('\'', r"'\''")),
        None => {
            let mut out = String::from("$'");
            for byte in bytes {
                match byte {
                    b'\'' | b'\\' => out.extend(['\\', char::from(*byte)]),
                    b' '..=b'~' => out.push(char::from(*byte)),
                    // Three octal digits: shells end them there, whatever comes next.
                    _ => out.push_str(&format!("\\{byte:03o}")),
                }
            }
            out.push('\'');
            out
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{ffi::OsString, os::unix::ffi::OsStringExt, process::Command};

    #[test]
    fn a_text_is_cut_at_the_column_and_not_within_a_character() {
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(cut("abcd", 3), "ab…");
        assert_eq!(cut("標準準", 5), "標準…");
        assert_eq!(cut("標準準", 4), "標…");
    }

    /// What a shell makes of a word is asked of shells: `sh` for quotes, `bash` for the form that not every `sh` has.
    #[test]
    fn a_quoted_word_is_taken_back_by_a_shell() {
        let unquoted = |shell: &str, word: &OsString| {
            let script = format!("printf %s {}", quoted(word));
            Command::new(shell).args(["-c", &script]).output().ok().map(|output| output.stdout)
        };
        for word in [
            "",
            "/tmp/a",
            "a b",
            "it's",
            "-x",
            "~",
            "$HOME `id` \"\\\"",
            "*?[",
            "標準",
            "#a",
            "=ls",
            "!!",
        ] {
            let word = OsString::from(word);
            assert_eq!(unquoted("sh", &word).unwrap(), word.as_bytes(), "{word:?}");
        }
        for bytes in [&b"a\nb"[..], b"\xff'\\1", b"\x1b7\r\t!", "\u{202e}é".as_bytes()] {
            let word = OsString::from_vec(bytes.to_vec());
            assert!(quoted(&word).bytes().all(|byte| matches!(byte, b' '..=b'~')));
            // A machine without bash shows less.
            if let Some(taken) = unquoted("bash", &word) {
                assert_eq!(taken, bytes, "{word:?}");
            }
        }
    }
}
