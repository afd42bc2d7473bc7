//! Strings that come from outside, made safe to show in a log line or an error message.
//! `Outside` never allocates, never fails and never writes more than `OUTSIDE_SIZE_MAX` bytes, whatever it is given.
//! Read `crate::log` next, which puts what is shown here into lines.

use std::fmt;

/// Most bytes that one outside string takes in a log line, the mark of a cut included.
pub const OUTSIDE_SIZE_MAX: usize = 256;

/// Ends a string that was cut.
const CUT_MARK: &str = "…";

/// A string of a peer, a file or an operator, as it may be shown.
///
/// Control characters, ill-formed UTF-8, invisible characters and those that turn the writing direction are escaped
/// (`\n`, `\u{202e}`, `\xff`), and so is the backslash, so that two different strings look different until they are cut.
#[derive(Clone, Copy)]
pub struct Outside<'a>(&'a [u8]);

impl<'a> Outside<'a> {
    /// Wraps text or bytes; nothing is looked at until it is shown.
    pub fn of<T: AsRef<[u8]> + ?Sized>(text: &'a T) -> Self {
        Self(text.as_ref())
    }
}

impl fmt::Display for Outside<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Each byte of input shows as at least one byte, so what lies further on cannot be shown anyway; the three
        // bytes more keep the last character whole.
        let near = &self.0[..self.0.len().min(OUTSIDE_SIZE_MAX + 3)];
        if escaped_size(near) <= OUTSIDE_SIZE_MAX {
            return pieces(near).try_for_each(|piece| piece.write(out));
        }
        let mut room = OUTSIDE_SIZE_MAX - CUT_MARK.len();
        for piece in pieces(near) {
            let size = piece.size();
            if size > room {
                break;
            }
            room -= size;
            piece.write(out)?;
        }
        out.write_str(CUT_MARK)
    }
}

/// The same as `Display`, so that `?` in a log macro is as safe as `%`.
impl fmt::Debug for Outside<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

/// One character or one byte of ill-formed UTF-8.
enum Piece {
    Plain(char),
    Backslash,
    Escaped(char),
    Byte(u8),
}

impl Piece {
    fn of(character: char) -> Self {
        match character {
            '\\' => Self::Backslash,
            _ if misleads(character) => Self::Escaped(character),
            _ => Self::Plain(character),
        }
    }

    fn size(&self) -> usize {
        match self {
            Self::Plain(character) => character.len_utf8(),
            Self::Backslash => 2,
            Self::Escaped(character) => character.escape_default().len(),
            Self::Byte(_) => 4,
        }
    }

    fn write(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(character) => fmt::Write::write_char(out, *character),
            Self::Backslash => out.write_str("\\\\"),
            Self::Escaped(character) => write!(out, "{}", character.escape_default()),
            Self::Byte(byte) => write!(out, "\\x{byte:02x}"),
        }
    }
}

/// Whether a character, shown as it is, could make a line look like something else.
pub(crate) fn misleads(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{00ad}' | '\u{034f}' | '\u{061c}' | '\u{115f}' | '\u{1160}' | '\u{180e}' // invisible, and the Arabic direction mark
            | '\u{200b}'..='\u{200f}'                   // zero width, and direction marks
            | '\u{2028}'..='\u{202e}'                   // line and paragraph separators, direction embeddings and overrides
            | '\u{2060}'..='\u{206f}'                   // invisible operators, direction isolates
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}'      // byte order mark, interlinear annotation
            | '\u{e0000}'..='\u{e0fff}'                 // tags and other invisible characters
        )
}

fn escaped_size(text: &[u8]) -> usize {
    pieces(text).map(|piece| piece.size()).sum()
}

fn pieces(text: &[u8]) -> impl Iterator<Item = Piece> {
    text.utf8_chunks().flat_map(|chunk| {
        let characters = chunk.valid().chars().map(Piece::of);
        characters.chain(chunk.invalid().iter().map(|byte| Piece::Byte(*byte)))
    })
}

#[cfg(test)]
mod tests {
    use super::{OUTSIDE_SIZE_MAX, Outside};

    fn shown<T: AsRef<[u8]> + ?Sized>(text: &T) -> String {
        Outside::of(text).to_string()
    }

    #[test]
    fn ordinary_text_of_any_language_is_left_alone() {
        for text in ["", "sensors/kitchen/1", "größe", "दिल्ली/तापमान", "温度", "\"quoted\" it's"]
        {
            assert_eq!(shown(text), text);
        }
    }

    #[test]
    fn what_could_forge_a_line_is_escaped() {
        assert_eq!(shown("a\r\n2026 INFO b"), "a\\r\\n2026 INFO b");
        assert_eq!(shown("\u{1b}[31mred"), "\\u{1b}[31mred");
        assert_eq!(shown("\0\u{7f}\u{85}"), "\\u{0}\\u{7f}\\u{85}");
        assert_eq!(shown("abc\u{202e}fed\u{2066}x\u{200f}"), "abc\\u{202e}fed\\u{2066}x\\u{200f}");
        assert_eq!(shown("\u{2028}\u{feff}\u{e0041}"), "\\u{2028}\\u{feff}\\u{e0041}");
    }

    #[test]
    fn different_strings_look_different() {
        assert_eq!(shown("a\\nb"), "a\\\\nb");
        assert_ne!(shown("a\\nb"), shown("a\nb"));
        assert_ne!(shown(b"\xff".as_slice()), shown("\\xff"));
    }

    #[test]
    fn ill_formed_bytes_are_shown_in_hexadecimal() {
        assert_eq!(shown(b"a\xff\xc3b\xf0\x9f".as_slice()), "a\\xff\\xc3b\\xf0\\x9f");
    }

    #[test]
    fn nothing_is_longer_than_the_bound_and_a_cut_is_marked() {
        assert_eq!(shown(&"x".repeat(OUTSIDE_SIZE_MAX)), "x".repeat(OUTSIDE_SIZE_MAX));
        let cut = shown(&"x".repeat(OUTSIDE_SIZE_MAX + 1));
        assert_eq!(cut, format!("{}…", "x".repeat(OUTSIDE_SIZE_MAX - 3)));
        for text in ["€".repeat(100_000), "\n".repeat(100_000), "\u{202e}".repeat(100), "😀".repeat(64) + "x"] {
            let cut = shown(&text);
            assert!(cut.ends_with('…') && cut.len() <= OUTSIDE_SIZE_MAX, "{} bytes", cut.len());
        }
        assert_eq!(shown(&"😀".repeat(64)), "😀".repeat(64));
        assert!(shown(&[0xff; 1000]).len() <= OUTSIDE_SIZE_MAX);
    }

    #[test]
    fn debug_is_as_safe_as_display() {
        assert_eq!(format!("{:?}", Outside::of("a\nb")), "a\\nb");
    }
}
