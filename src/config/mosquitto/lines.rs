//! The text of a mosquitto.conf as lines that say something, with the words and values on them as mosquitto's `conf.c` reads them.
//! It knows no option: whatever follows the first word is handed on as it stands, and no input makes it panic.
//! Read `options.rs` next, the table of all options.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::arithmetic_side_effects)]

use crate::notice::Outside;

/// A line that is neither empty nor a comment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    /// From 1.
    pub(super) number: usize,
    /// Its first word, up to a space. A tab does not end it.
    pub(super) option: &'a str,
    /// What follows that space, without the end of the line.
    pub(super) rest: &'a str,
}

/// The lines that say something. Only a `#` in the first column begins a comment.
pub(super) fn lines(text: &str) -> impl Iterator<Item = Line<'_>> {
    text.split('\n').zip(1..).filter_map(|(line, number)| {
        if line.starts_with(['#', '\r']) {
            return None;
        }
        let line = line.trim_end_matches('\r').trim_start_matches(' ');
        let (option, rest) = line.split_once(' ').unwrap_or((line, ""));
        (!option.is_empty()).then_some(Line { number, option, rest })
    })
}

impl<'a> Line<'a> {
    /// What stands between the spaces behind the option.
    pub(super) fn words(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.rest.split(' ').filter(|word| !word.is_empty())
    }

    /// The first of them. The error is the rest of a sentence that begins with the option.
    pub(super) fn word(&self) -> Result<&'a str, String> {
        self.words().next().ok_or_else(|| "has no value".to_owned())
    }

    /// All that follows, spaces within it included.
    pub(super) fn text(&self) -> Result<&'a str, String> {
        let text = trimmed(self.rest);
        if text.is_empty() {
            return Err("has no value".to_owned());
        }
        if text.contains(|c: char| c.is_control()) {
            return Err(format!("is \"{}\", which holds control characters", Outside::of(text)));
        }
        Ok(text)
    }

    /// What follows `word` and the spaces and tabs behind it.
    pub(super) fn text_after(&self, word: &str) -> &'a str {
        self.rest.trim_start_matches(' ').strip_prefix(word).map_or("", trimmed)
    }

    /// `true`, `false`, `1` or `0`; what follows is not looked at.
    pub(super) fn switch(&self) -> Result<bool, String> {
        match self.word().map(trimmed)? {
            "true" | "1" => Ok(true),
            "false" | "0" => Ok(false),
            other => Err(format!("is \"{}\"; allowed: true, false, 1 or 0", Outside::of(other))),
        }
    }

    /// A whole number; what follows is not looked at.
    pub(super) fn number(&self) -> Result<i64, String> {
        number(self.word().map(trimmed)?)
    }
}

/// Decimal, or hexadecimal with `0x`. With a zero in front mosquitto 2.1 reads it as octal and 2.0 as decimal.
pub(super) fn number(written: &str) -> Result<i64, String> {
    let wrong = |why: &str| Err(format!("is \"{}\", {why}", Outside::of(written)));
    let (negative, digits) = match written.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, written.strip_prefix('+').unwrap_or(written)),
    };
    let (radix, digits) = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(digits) => (16, digits),
        None if digits.len() > 1 && digits.starts_with('0') => {
            return wrong("which mosquitto 2.1 reads as octal and 2.0 as decimal; write it without the zero in front");
        }
        None => (10, digits),
    };
    if digits.is_empty() || !digits.bytes().all(|digit| char::from(digit).is_digit(radix)) {
        return wrong("which is not a whole number");
    }
    // What does not fit is larger than anything that is allowed, whatever the option.
    let size = i64::from_str_radix(digits, radix).unwrap_or(i64::MAX);
    Ok(if negative { size.saturating_neg() } else { size })
}

fn trimmed(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_ascii_whitespace() || c == '\u{b}')
}

#[cfg(test)]
mod tests {
    use super::{Line, lines, number};

    fn line(text: &str) -> Line<'_> {
        lines(text).next().expect("a line that says something")
    }

    #[test]
    fn what_is_a_line_and_what_is_not() {
        let text = "# comment\n\n\r\nlistener 1883\r\n  port  1884 # note\n   \n\t\n #\nx\n";
        let found: Vec<_> = lines(text).map(|line| (line.number, line.option, line.rest)).collect();
        assert_eq!(
            found,
            [(4, "listener", "1883"), (5, "port", " 1884 # note"), (7, "\t", ""), (8, "#", ""), (9, "x", "")]
        );
        assert_eq!(line("port\t1883").option, "port\t1883", "a tab does not end a word");
    }

    #[test]
    fn values_as_mosquitto_reads_them() {
        assert_eq!(line("a  b  c").words().collect::<Vec<_>>(), ["b", "c"]);
        assert_eq!(line("password_file  /a dir/file # x \t").text(), Ok("/a dir/file # x"));
        assert_eq!(line("log_dest file  /a b ").text_after("file"), "/a b");
        for (text, value) in [("a true", true), ("a 1 # b", true), ("a  false", false), ("a 0\t", false)] {
            assert_eq!(line(text).switch(), Ok(value), "{text}");
        }
        for text in ["a", "a yes", "a TRUE", "a true# b", "a \u{1b}[31m"] {
            assert!(line(text).switch().is_err(), "{text}");
        }
        assert_eq!(line("a ").text(), Err("has no value".to_owned()));
        assert!(line("a b\0c").text().is_err());
    }

    #[test]
    fn numbers_as_mosquitto_reads_them() {
        for (text, value) in
            [("0", 0), ("10", 10), ("-1", -1), ("+7", 7), ("0x1F", 31), ("99999999999999999999999", i64::MAX)]
        {
            assert_eq!(number(text), Ok(value), "{text}");
        }
        for text in ["", "-", "0x", "1.5", "10k", "010", "--1", "0x-1", "１"] {
            assert!(number(text).is_err(), "{text}");
        }
    }
}
