//! What packets are made of: versions, QoS, Packet Identifiers, integers, strings, and the cursor that reads them.
//! It knows no packet, and never allocates what was only declared.
//! Read `text.rs` for what a string may hold, then `properties.rs`.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::arithmetic_side_effects)]

use std::num::NonZeroU16;
use std::time::Duration;

use super::{ReasonCode, Violation, text};

/// The largest value of a Variable Byte Integer, and so the largest Remaining Length: 268,435,455.
pub const BODY_SIZE_MAX: u32 = (1 << 28) - 1;
/// The largest packet that MQTT can express, in bytes: a body of that size behind a fixed header of five bytes.
pub const PACKET_SIZE_MAX: u32 = BODY_SIZE_MAX + 5;

/// Bytes of a Packet Identifier.
pub(super) const PACKET_ID_SIZE: usize = 2;

/// A version of MQTT, by its protocol level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Version {
    V3_1 = 3,
    V3_1_1 = 4,
    V5 = 5,
}

impl Version {
    /// Whether packets of this version have properties and Reason Codes.
    #[inline]
    pub const fn is_v5(self) -> bool {
        matches!(self, Self::V5)
    }

    /// The version of this protocol level.
    pub const fn from_level(level: u8) -> Option<Self> {
        match level {
            3 => Some(Self::V3_1),
            4 => Some(Self::V3_1_1),
            5 => Some(Self::V5),
            _ => None,
        }
    }
}

/// Quality of Service, in ascending order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Qos {
    #[default]
    AtMostOnce = 0,
    AtLeastOnce = 1,
    ExactlyOnce = 2,
}

impl Qos {
    /// The number on the wire.
    #[inline]
    pub const fn value(self) -> u8 {
        self as u8
    }

    /// The QoS of this number; `None` for 3 and above.
    pub const fn from_value(value: u8) -> Option<Self> {
        match value {
            0 => Some(Self::AtMostOnce),
            1 => Some(Self::AtLeastOnce),
            2 => Some(Self::ExactlyOnce),
            _ => None,
        }
    }
}

/// A Packet Identifier, which is never 0 [MQTT-2.2.1-3] [MQTT-2.2.1-4] [MQTT-3.1.1: 2.3.1-1].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PacketId(NonZeroU16);

impl PacketId {
    /// `None` for 0.
    #[inline]
    pub const fn new(value: u16) -> Option<Self> {
        match NonZeroU16::new(value) {
            Some(value) => Some(Self(value)),
            None => None,
        }
    }

    #[inline]
    pub const fn get(self) -> u16 {
        self.0.get()
    }
}

/// A point in time: milliseconds since the node started. It comes in from outside, the codec has no clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(u64);

impl Moment {
    pub const fn from_millis(milliseconds: u64) -> Self {
        Self(milliseconds)
    }

    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// That much later, in whole milliseconds; stops at the end of time instead of wrapping.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        let milliseconds = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(milliseconds))
    }

    /// How long after `earlier` this is; zero when it is not after it.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

#[cold]
pub(super) const fn violation(reason: ReasonCode, why: &'static str) -> Violation {
    Violation { reason, why }
}

#[cold]
pub(super) const fn malformed(why: &'static str) -> Violation {
    violation(ReasonCode::MalformedPacket, why)
}

#[cold]
pub(super) const fn protocol_error(why: &'static str) -> Violation {
    violation(ReasonCode::ProtocolError, why)
}

/// Reads fields off the front of a body or of a property section. A field that reaches beyond the end is malformed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    #[inline]
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What has not been read yet.
    #[inline]
    pub(super) const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    #[inline]
    pub(super) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Everything must have been read: surplus bytes are malformed.
    #[inline]
    pub(super) fn finish(&self) -> Result<(), Violation> {
        if self.is_empty() { Ok(()) } else { Err(malformed("bytes behind the last field")) }
    }

    #[inline]
    pub(super) fn array<const SIZE: usize>(&mut self) -> Result<[u8; SIZE], Violation> {
        let (array, rest) = self.rest.split_first_chunk().ok_or_else(cut_off)?;
        self.rest = rest;
        Ok(*array)
    }

    #[inline]
    pub(super) fn u8(&mut self) -> Result<u8, Violation> {
        self.array::<1>().map(|[byte]| byte)
    }

    #[inline]
    pub(super) fn u16(&mut self) -> Result<u16, Violation> {
        self.array().map(u16::from_be_bytes)
    }

    #[inline]
    pub(super) fn u32(&mut self) -> Result<u32, Violation> {
        self.array().map(u32::from_be_bytes)
    }

    #[inline]
    pub(super) fn take(&mut self, size: usize) -> Result<&'a [u8], Violation> {
        let (taken, rest) = self.rest.split_at_checked(size).ok_or_else(cut_off)?;
        self.rest = rest;
        Ok(taken)
    }

    #[inline]
    pub(super) fn packet_id(&mut self) -> Result<PacketId, Violation> {
        PacketId::new(self.u16()?).ok_or_else(|| malformed("Packet Identifier 0"))
    }

    /// A Variable Byte Integer, in its shortest form [MQTT-1.5.5-1].
    #[inline]
    #[expect(clippy::arithmetic_side_effects, reason = "four times seven bits")]
    pub(super) fn variable_byte_integer(&mut self) -> Result<u32, Violation> {
        let mut value = 0;
        for index in 0..4 {
            let byte = self.u8()?;
            value |= u32::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                if byte == 0 && index > 0 {
                    return Err(malformed("a Variable Byte Integer that is not in its shortest form"));
                }
                return Ok(value);
            }
        }
        Err(malformed("a Variable Byte Integer of more than four bytes"))
    }

    /// Binary Data: two bytes of length, then that many bytes.
    #[inline]
    pub(super) fn binary(&mut self) -> Result<&'a [u8], Violation> {
        let size = self.u16()?;
        self.take(usize::from(size))
    }

    /// A UTF-8 Encoded String that may hold anything such a string may hold.
    pub(super) fn string(&mut self) -> Result<&'a str, Violation> {
        text::decode(self.binary()?)
    }
}

#[cold]
fn cut_off() -> Violation {
    malformed("a field reaches beyond its end")
}

/// How many bytes a Variable Byte Integer of this value takes: 1 to 4.
#[inline]
pub(super) const fn variable_byte_integer_size(value: usize) -> usize {
    match value {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        0x4000..0x20_0000 => 3,
        _ => 4,
    }
}

/// Appends a Variable Byte Integer, which must not be above [`BODY_SIZE_MAX`].
#[inline]
pub(super) fn write_variable_byte_integer(mut value: usize, out: &mut Vec<u8>) {
    debug_assert!(value <= BODY_SIZE_MAX as usize);
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends Binary Data. Beyond 65,535 bytes it is cut, so that what is written stays well formed.
pub(super) fn write_binary(bytes: &[u8], out: &mut Vec<u8>) {
    let size = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&size.to_be_bytes());
    out.extend_from_slice(bytes.get(..usize::from(size)).unwrap_or_default());
}

/// Appends a UTF-8 Encoded String. Beyond 65,535 bytes it is cut between two characters.
pub(super) fn write_string(string: &str, out: &mut Vec<u8>) {
    let end = string.floor_char_boundary(usize::from(u16::MAX));
    write_binary(string.get(..end).unwrap_or_default().as_bytes(), out);
}

/// Appends what `write` appends, with its length as a Variable Byte Integer before it.
///
/// For packets that are rare or small: what was written moves up by the size of its length.
pub(super) fn write_with_length(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    write(out);
    let mut length = [0; 4];
    let mut length_size = 0_usize;
    let mut value = out.len().saturating_sub(start);
    debug_assert!(value <= BODY_SIZE_MAX as usize);
    for slot in &mut length {
        *slot = (value & 0x7f) as u8;
        value >>= 7;
        length_size = length_size.saturating_add(1);
        if value == 0 {
            break;
        }
        *slot |= 0x80;
    }
    out.splice(start..start, length.into_iter().take(length_size));
}

/// Appends a packet: its first byte, the Remaining Length, then what `write` appends.
pub(super) fn write_packet(first_byte: u8, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    out.push(first_byte);
    write_with_length(out, write);
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "a test may panic")]
mod tests {
    use std::time::Duration;

    use super::{
        BODY_SIZE_MAX, Moment, Reader, variable_byte_integer_size, write_string, write_variable_byte_integer,
        write_with_length,
    };

    #[test]
    fn variable_byte_integers_both_ways() {
        let bounds: [(u32, &[u8]); 8] = [
            (0, &[0]),
            (127, &[0x7f]),
            (128, &[0x80, 0x01]),
            (16_383, &[0xff, 0x7f]),
            (16_384, &[0x80, 0x80, 0x01]),
            (2_097_151, &[0xff, 0xff, 0x7f]),
            (2_097_152, &[0x80, 0x80, 0x80, 0x01]),
            (BODY_SIZE_MAX, &[0xff, 0xff, 0xff, 0x7f]),
        ];
        for (value, bytes) in bounds {
            let mut written = Vec::new();
            write_variable_byte_integer(value as usize, &mut written);
            assert_eq!(written, bytes);
            assert_eq!(variable_byte_integer_size(value as usize), bytes.len());
            let mut reader = Reader::new(bytes);
            assert_eq!(reader.variable_byte_integer(), Ok(value));
            assert_eq!(reader.finish(), Ok(()));
            for end in 0..bytes.len() {
                assert!(Reader::new(&bytes[..end]).variable_byte_integer().is_err());
            }
        }
        for bad in [&[0x80, 0x00][..], &[0xff, 0x80, 0x00], &[0x80, 0x80, 0x80, 0x00], &[0x80; 5]] {
            assert!(Reader::new(bad).variable_byte_integer().is_err(), "{bad:02x?}");
        }
    }

    #[test]
    fn a_length_goes_before_what_was_written() {
        for size in [0, 1, 127, 128, 16_383, 16_384, 2_097_152] {
            let mut out = b"before".to_vec();
            write_with_length(&mut out, |out| out.resize(out.len() + size, b'x'));
            let mut expected = b"before".to_vec();
            write_variable_byte_integer(size, &mut expected);
            expected.resize(expected.len() + size, b'x');
            assert!(out == expected, "{size}");
        }
    }

    #[test]
    fn a_string_too_long_is_cut_between_characters() {
        let mut out = Vec::new();
        write_string(&"é".repeat(40_000), &mut out);
        assert_eq!(Reader::new(&out).string(), Ok("é".repeat(32_767).as_str()));
    }

    #[test]
    fn moments() {
        let moment = Moment::from_millis(5).plus(Duration::from_secs(1));
        assert_eq!(moment.as_millis(), 1_005);
        assert_eq!(moment.since(Moment::from_millis(5)), Duration::from_secs(1));
        assert_eq!(Moment::default().since(moment), Duration::ZERO);
        assert_eq!(moment.plus(Duration::MAX).as_millis(), u64::MAX);
    }
}
