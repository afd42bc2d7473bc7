//! UNSUBSCRIBE and UNSUBACK.
//! As in SUBSCRIBE, the grammar of a Topic Filter is not the packet's fault and is not looked at.
//! Read `topic.rs` for that grammar.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::arithmetic_side_effects)]

use std::fmt;

use super::header::{PacketType, Sender};
use super::primitive::{PacketId, Reader, Version, protocol_error, write_packet, write_string, write_with_length};
use super::properties::{Place, UserProperties, read_section};
use super::subscribe::{read_explanation, write_explanation};
use super::{Limits, ReasonCode, Violation, text};

/// An UNSUBSCRIBE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsubscribe<'a> {
    pub packet_id: PacketId,
    pub user_properties: UserProperties<'a>,
    /// At least one.
    pub filters: TopicFilters<'a>,
}

/// Topic Filters, as the bytes they came in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TopicFilters<'a> {
    bytes: &'a [u8],
    count: usize,
}

impl<'a> Unsubscribe<'a> {
    pub(super) fn decode(body: &'a [u8], version: Version, limits: &Limits) -> Result<Self, Violation> {
        let mut reader = Reader::new(body);
        let packet_id = reader.packet_id()?;
        let mut user_properties = UserProperties::default();
        if version.is_v5() {
            let section = read_section(&mut reader, Place::Unsubscribe, limits, |_| Ok(()))?;
            user_properties = section.user_properties();
        }
        let filters = TopicFilters::decode(reader.rest(), limits)?;
        Ok(Self { packet_id, user_properties, filters })
    }

    pub(super) fn encode(&self, version: Version, out: &mut Vec<u8>) {
        write_packet(PacketType::Unsubscribe.first_byte(), out, |out| {
            out.extend_from_slice(&self.packet_id.get().to_be_bytes());
            if version.is_v5() {
                write_with_length(out, |out| self.user_properties.encode(out));
            }
            out.extend_from_slice(self.filters.bytes);
        });
    }
}

impl<'a> TopicFilters<'a> {
    /// Writes `filters` into `storage`, which is emptied first, and borrows them from there.
    pub fn write(filters: &[&str], storage: &'a mut Vec<u8>) -> Self {
        storage.clear();
        for filter in filters {
            write_string(filter, storage);
        }
        Self { bytes: storage, count: filters.len() }
    }

    /// Each filter, in the order they came in.
    pub fn iter(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let mut reader = Reader::new(self.bytes);
        std::iter::from_fn(move || str::from_utf8(reader.binary().ok()?).ok())
    }

    /// How many there are.
    pub const fn len(&self) -> usize {
        self.count
    }

    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn decode(bytes: &'a [u8], limits: &Limits) -> Result<Self, Violation> {
        let mut reader = Reader::new(bytes);
        let mut count = 0_usize;
        while !reader.is_empty() {
            // [MQTT-3.10.3-1] [MQTT-3.1.1: 3.10.3-1]
            text::decode_topic_filter(reader.binary()?, limits.characters)?;
            count = count.saturating_add(1);
        }
        if count == 0 {
            // [MQTT-3.10.3-2] [MQTT-3.1.1: 3.10.3-2]
            return Err(protocol_error("an UNSUBSCRIBE without a Topic Filter"));
        }
        Ok(Self { bytes, count })
    }
}

impl fmt::Debug for TopicFilters<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.iter()).finish()
    }
}

/// An UNSUBACK, as a Client gets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnsubAck<'a> {
    pub packet_id: PacketId,
    pub reason_string: Option<&'a str>,
    pub user_properties: UserProperties<'a>,
    /// One Reason Code per Topic Filter; older versions have none.
    pub codes: &'a [u8],
}

impl<'a> UnsubAck<'a> {
    pub(super) fn decode(body: &'a [u8], version: Version, limits: &Limits) -> Result<Self, Violation> {
        let mut reader = Reader::new(body);
        let packet_id = reader.packet_id()?;
        if !version.is_v5() {
            reader.finish()?;
            let user_properties = UserProperties::default();
            return Ok(Self { packet_id, reason_string: None, user_properties, codes: &[] });
        }
        let (reason_string, user_properties) = read_explanation(&mut reader, Place::UnsubAck, limits)?;
        let codes = reader.rest();
        if codes.is_empty() {
            return Err(protocol_error("an UNSUBACK without a Reason Code")); // [MQTT-3.11.3-2]
        }
        for &code in codes {
            ReasonCode::decode(code, PacketType::UnsubAck, Sender::Server)?;
        }
        Ok(Self { packet_id, reason_string, user_properties, codes })
    }

    pub(super) fn encode(&self, version: Version, out: &mut Vec<u8>) {
        write_packet(PacketType::UnsubAck.first_byte(), out, |out| {
            out.extend_from_slice(&self.packet_id.get().to_be_bytes());
            if version.is_v5() {
                write_explanation(self.reason_string, &self.user_properties, out);
                out.extend_from_slice(self.codes);
            }
        });
    }
}

/// Appends an UNSUBACK without properties, with one code per Topic Filter in their order [MQTT-3.11.3-1]; older versions
/// have no codes.
pub fn encode_unsuback(packet_id: PacketId, codes: &[ReasonCode], version: Version, out: &mut Vec<u8>) {
    write_packet(PacketType::UnsubAck.first_byte(), out, |out| {
        out.extend_from_slice(&packet_id.get().to_be_bytes());
        if version.is_v5() {
            out.push(0);
            out.extend(codes.iter().map(|code| code.value()));
        }
    });
}
