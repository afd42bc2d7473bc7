//! The fixed header: where a packet begins and ends, and everything that can be refused before its body is there.
//! It never waits for bytes that could not change the verdict.
//! Read `mod.rs` for what happens with the body.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::arithmetic_side_effects)]

use super::primitive::{BODY_SIZE_MAX, Qos, Version, malformed, protocol_error, violation};
use super::{Limits, ReasonCode, Violation};

/// Which side sent the packet that is being decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    Client,
    Server,
}

/// The types of MQTT Control Packets, with their numbers on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum PacketType {
    Connect = 1,
    ConnAck,
    Publish,
    PubAck,
    PubRec,
    PubRel,
    PubComp,
    Subscribe,
    SubAck,
    Unsubscribe,
    UnsubAck,
    PingReq,
    PingResp,
    Disconnect,
    Auth,
}

impl PacketType {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 15] = [
        Self::Connect,
        Self::ConnAck,
        Self::Publish,
        Self::PubAck,
        Self::PubRec,
        Self::PubRel,
        Self::PubComp,
        Self::Subscribe,
        Self::SubAck,
        Self::Unsubscribe,
        Self::UnsubAck,
        Self::PingReq,
        Self::PingResp,
        Self::Disconnect,
        Self::Auth,
    ];

    /// The number in the upper half of the first byte.
    pub const fn value(self) -> u8 {
        self as u8
    }

    /// The first byte of a packet of this type with the flags that the standard demands [MQTT-2.1.3-1]; for a
    /// PUBLISH that is QoS 0 with neither DUP nor RETAIN.
    pub const fn first_byte(self) -> u8 {
        let flags = match self {
            Self::PubRel | Self::Subscribe | Self::Unsubscribe => 0b0010,
            _ => 0,
        };
        self.value() << 4 | flags
    }

    const fn from_first_byte(first: u8) -> Option<Self> {
        Some(match first >> 4 {
            1 => Self::Connect,
            2 => Self::ConnAck,
            3 => Self::Publish,
            4 => Self::PubAck,
            5 => Self::PubRec,
            6 => Self::PubRel,
            7 => Self::PubComp,
            8 => Self::Subscribe,
            9 => Self::SubAck,
            10 => Self::Unsubscribe,
            11 => Self::UnsubAck,
            12 => Self::PingReq,
            13 => Self::PingResp,
            14 => Self::Disconnect,
            15 => Self::Auth,
            _ => return None,
        })
    }
}

/// A fixed header that was read whole and found good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    kind: PacketType,
    flags: u8,
    header_size: u8,
    from: Sender,
    body_size: u32,
}

impl Header {
    /// Reads the fixed header at the start of `bytes`; `Ok(None)` means that it goes on behind them.
    ///
    /// Refused at once, whatever follows: types and flags that do not exist, a PUBLISH of QoS 3 or with DUP at QoS 0,
    /// a Remaining Length of five bytes or not in its shortest form, a length that this type cannot have, and a packet
    /// that this side never sends (0x82). A packet above `limits.packet_size_max` is 0x95. MQTT 3.1.1 leaves open
    /// whether a longer form of the Remaining Length is an error; here it is one in every version, because before
    /// CONNECT there is no version. MQTT 3.1 has DUP on PUBREL, SUBSCRIBE and UNSUBSCRIBE too, which is let through.
    #[inline]
    pub fn decode(bytes: &[u8], from: Sender, version: Version, limits: &Limits) -> Result<Option<Self>, Violation> {
        let Some((&first, rest)) = bytes.split_first() else {
            return Ok(None);
        };
        let Some(kind) = PacketType::from_first_byte(first) else {
            return Err(malformed("packet type 0"));
        };
        let flags = first & 0x0f;
        check_first_byte(kind, flags, from, version)?;
        let Some((body_size, length_size)) = decode_remaining_length(rest)? else {
            return Ok(None);
        };
        let header = Self { kind, flags, header_size: length_size.wrapping_add(1), from, body_size };
        check_body_size(kind, flags, body_size, version)?;
        if header.packet_size() > limits.packet_size_max as usize {
            return Err(violation(ReasonCode::PacketTooLarge, "a packet above the Maximum Packet Size"));
        }
        Ok(Some(header))
    }

    #[inline]
    pub const fn kind(&self) -> PacketType {
        self.kind
    }

    /// The lower half of the first byte.
    #[inline]
    pub const fn flags(&self) -> u8 {
        self.flags
    }

    /// Which side sent it.
    #[inline]
    pub const fn from(&self) -> Sender {
        self.from
    }

    /// Bytes of the fixed header: 2 to 5.
    #[inline]
    pub const fn header_size(&self) -> usize {
        self.header_size as usize
    }

    /// Bytes after the fixed header: the Remaining Length, 0 to 268,435,455.
    #[inline]
    pub const fn body_size(&self) -> usize {
        self.body_size as usize
    }

    /// Bytes of the whole packet.
    #[inline]
    #[expect(clippy::arithmetic_side_effects, reason = "four bytes and 28 bits")]
    pub const fn packet_size(&self) -> usize {
        self.header_size() + self.body_size()
    }

    /// The QoS bits of a PUBLISH.
    #[inline]
    pub(super) const fn qos(&self) -> Qos {
        match self.flags >> 1 & 0b11 {
            0 => Qos::AtMostOnce,
            1 => Qos::AtLeastOnce,
            _ => Qos::ExactlyOnce,
        }
    }
}

/// Remaining Length and the bytes it takes; `Ok(None)` when it goes on behind `bytes`.
#[inline]
#[expect(clippy::arithmetic_side_effects, reason = "four times seven bits")]
fn decode_remaining_length(bytes: &[u8]) -> Result<Option<(u32, u8)>, Violation> {
    if let Some(&byte @ 0..0x80) = bytes.first() {
        return Ok(Some((u32::from(byte), 1)));
    }
    let mut value = 0;
    for (index, &byte) in (0u8..4).zip(bytes) {
        value |= u32::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            if byte == 0 && index > 0 {
                return Err(malformed("a Remaining Length that is not in its shortest form")); // [MQTT-1.5.5-1]
            }
            return Ok(Some((value, index + 1)));
        }
    }
    if bytes.len() >= 4 {
        return Err(malformed("a Remaining Length of more than four bytes"));
    }
    Ok(None)
}

#[inline]
fn check_first_byte(kind: PacketType, flags: u8, from: Sender, version: Version) -> Result<(), Violation> {
    if kind == PacketType::Publish {
        return match flags & 0b1110 {
            0b0110 | 0b1110 => Err(malformed("a PUBLISH of QoS 3")), // [MQTT-3.3.1-4] [MQTT-3.1.1: 3.3.1-4]
            0b1000 => Err(malformed("DUP on a PUBLISH of QoS 0")),   // [MQTT-3.3.1-2] [MQTT-3.1.1: 3.3.1-2]
            _ => Ok(()),
        };
    }
    if kind == PacketType::Auth && !version.is_v5() {
        return Err(malformed("packet type 15"));
    }
    // [MQTT-2.1.3-1] [MQTT-3.6.1-1] [MQTT-3.8.1-1] [MQTT-3.10.1-1] [MQTT-3.14.1-1] [MQTT-3.15.1-1]
    // [MQTT-3.1.1: 2.2.2-1] [MQTT-3.1.1: 2.2.2-2]
    let defined = kind.first_byte() & 0x0f;
    let repeated_in_v3_1 = version == Version::V3_1 && defined != 0 && flags == defined | 0b1000;
    if flags != defined && !repeated_in_v3_1 {
        return Err(malformed("flags of the fixed header that this packet cannot have"));
    }
    let never_sent = match from {
        Sender::Client => {
            matches!(kind, PacketType::ConnAck | PacketType::SubAck | PacketType::UnsubAck | PacketType::PingResp)
        }
        Sender::Server => {
            matches!(kind, PacketType::Connect | PacketType::Subscribe | PacketType::Unsubscribe | PacketType::PingReq)
                || kind == PacketType::Disconnect && !version.is_v5()
        }
    };
    if never_sent {
        return Err(protocol_error("a packet that this side never sends"));
    }
    Ok(())
}

/// Whether a packet of this type can have a body of this size. What only the content shows is left to it: an empty
/// Topic Name or an empty list of filters has another Reason Code than a packet that is too short.
#[inline]
#[expect(clippy::arithmetic_side_effects, reason = "small numbers")]
fn check_body_size(kind: PacketType, flags: u8, body_size: u32, version: Version) -> Result<(), Violation> {
    let v5 = version.is_v5();
    let property_length = u32::from(v5);
    let possible = match kind {
        PacketType::Publish => {
            let packet_id = if flags & 0b0110 == 0 { 0 } else { 2 };
            body_size >= 2 + packet_id + property_length
        }
        PacketType::PubAck | PacketType::PubRec | PacketType::PubRel | PacketType::PubComp => {
            if v5 {
                body_size >= 2
            } else {
                body_size == 2
            }
        }
        PacketType::PingReq | PacketType::PingResp => body_size == 0,
        PacketType::Connect => body_size >= 12,
        PacketType::ConnAck => {
            if v5 {
                body_size >= 3
            } else {
                body_size == 2
            }
        }
        PacketType::Subscribe | PacketType::Unsubscribe => body_size >= 2 + property_length,
        PacketType::SubAck => body_size >= 3 + property_length,
        PacketType::UnsubAck => {
            if v5 {
                body_size >= 4
            } else {
                body_size == 2
            }
        }
        PacketType::Disconnect => v5 || body_size == 0,
        PacketType::Auth => body_size != 1,
    };
    if !possible || body_size > BODY_SIZE_MAX {
        return Err(malformed("a Remaining Length that this packet cannot have"));
    }
    Ok(())
}
