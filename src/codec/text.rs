//! UTF-8 Encoded Strings: what they may hold, in general and where a topic or a Client Identifier is meant.
//! It never changes a string: U+FEFF stays where it is, nothing is normalized [MQTT-1.5.4-3] [MQTT-4.7.3-4].
//! Read `topic.rs` for the grammar of names and filters.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::arithmetic_side_effects)]

use super::primitive::{malformed, protocol_error, violation};
use super::{Characters, ReasonCode, Violation};

/// A string: well-formed UTF-8 without surrogates [MQTT-1.5.4-1] and without U+0000 [MQTT-1.5.4-2]; in MQTT 3.1.1
/// [MQTT-3.1.1: 1.5.3-1] [MQTT-3.1.1: 1.5.3-2].
pub(super) fn decode(bytes: &[u8]) -> Result<&str, Violation> {
    let text = utf8(bytes)?;
    if has_nul(bytes) {
        return Err(malformed("U+0000 in a string"));
    }
    Ok(text)
}

/// A Topic Name, which holds no wildcard [MQTT-3.3.2-2] [MQTT-3.1.1: 3.3.2-2]; empty is for the caller to judge.
#[inline]
pub(super) fn decode_topic_name(bytes: &[u8], characters: Characters) -> Result<&str, Violation> {
    let text = utf8(bytes)?;
    if !is_plain(bytes) {
        check_topic(text, characters)?;
        if memchr::memchr2(b'+', b'#', bytes).is_some() {
            return Err(violation(ReasonCode::TopicNameInvalid, "a wildcard in a Topic Name"));
        }
    }
    Ok(text)
}

/// A Response Topic: not empty, and without wildcards [MQTT-3.3.2-14].
pub(super) fn check_response_topic(text: &str, characters: Characters) -> Result<(), Violation> {
    check_topic(text, characters)?;
    if text.is_empty() || memchr::memchr2(b'+', b'#', text.as_bytes()).is_some() {
        return Err(protocol_error("a Response Topic that is no Topic Name"));
    }
    Ok(())
}

/// A Topic Filter as a string. Its grammar is not looked at: one bad filter fails alone, not the whole packet.
pub(super) fn decode_topic_filter(bytes: &[u8], characters: Characters) -> Result<&str, Violation> {
    let text = utf8(bytes)?;
    if !is_plain(bytes) {
        check_topic(text, characters)?;
    }
    Ok(text)
}

/// A Client Identifier.
pub(super) fn decode_client_id(bytes: &[u8], characters: Characters) -> Result<&str, Violation> {
    let text = decode(bytes)?;
    if characters == Characters::Strict && !is_plain(bytes) && has_discouraged(text) {
        return Err(violation(
            ReasonCode::ClientIdentifierNotValid,
            "a control or non-character in the Client Identifier",
        ));
    }
    Ok(text)
}

#[inline]
fn utf8(bytes: &[u8]) -> Result<&str, Violation> {
    simdutf8::basic::from_utf8(bytes).map_err(|_| malformed("a string that is not UTF-8"))
}

/// Most strings are so short that setting up a vector search costs more than it saves.
#[inline]
fn has_nul(bytes: &[u8]) -> bool {
    if bytes.len() < BLOCK {
        bytes.iter().fold(false, |found, &byte| found | (byte == 0))
    } else {
        memchr::memchr(0, bytes).is_some()
    }
}

/// The characters of a topic, whatever its grammar: no U+0000, and under `Strict` none that is discouraged.
#[cold]
fn check_topic(text: &str, characters: Characters) -> Result<(), Violation> {
    if memchr::memchr(0, text.as_bytes()).is_some() {
        return Err(malformed("U+0000 in a topic"));
    }
    if characters == Characters::Strict && has_discouraged(text) {
        return Err(malformed("a control or non-character in a topic"));
    }
    Ok(())
}

/// Whether every byte is printable ASCII other than `+` and `#`: nothing is left to check in such a topic.
///
/// Blocks of a fixed size, of which the last may overlap the one before, become a few vector instructions each.
#[inline]
fn is_plain(bytes: &[u8]) -> bool {
    let Some(last) = bytes.last_chunk() else {
        return !bytes.iter().any(|&byte| is_special(byte));
    };
    let mut found = [0; BLOCK];
    for block in bytes.as_chunks().0 {
        mark_special(block, &mut found);
    }
    mark_special(last, &mut found);
    found == [0; BLOCK]
}

const BLOCK: usize = 16;

#[inline(always)]
fn mark_special(block: &[u8; BLOCK], found: &mut [u8; BLOCK]) {
    for (found, &byte) in found.iter_mut().zip(block) {
        *found |= u8::from(is_special(byte));
    }
}

/// Below U+0020, U+007F, beyond ASCII, or one of `+` and `#`, which differ in one bit.
#[inline]
const fn is_special(byte: u8) -> bool {
    (byte.wrapping_sub(0x20) >= 0x5f) | (byte & 0xf7 == b'#')
}

/// Control characters other than U+0000, and the non-characters of Unicode.
fn has_discouraged(text: &str) -> bool {
    text.chars().any(|character| {
        let code = u32::from(character);
        matches!(code, 0x01..=0x1f | 0x7f..=0x9f | 0xfdd0..=0xfdef) || code & 0xfffe == 0xfffe
    })
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "a test may panic")]
mod tests {
    use super::{BLOCK, has_nul, is_plain};

    #[test]
    fn one_special_byte_is_found_wherever_it_stands() {
        for size in 0..4 * BLOCK {
            let plain = vec![b'a'; size];
            assert!(is_plain(&plain));
            for place in 0..size {
                for byte in 0..=255 {
                    let mut bytes = plain.clone();
                    bytes[place] = byte;
                    let expected = matches!(byte, 0x20..=0x7e) && byte != b'+' && byte != b'#';
                    assert_eq!(is_plain(&bytes), expected, "{byte:02x} at {place} of {size}");
                    assert_eq!(has_nul(&bytes), byte == 0, "{byte:02x} at {place} of {size}");
                }
            }
        }
    }
}
