//! SUBSCRIBE and SUBACK.
//! A Topic Filter with bad grammar is no fault of the packet: it gets its own code in the SUBACK, see `topic.rs`.
//! Read `unsubscribe.rs` for the counterpart.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::arithmetic_side_effects)]

use std::fmt;

use super::header::{PacketType, Sender};
use super::primitive::{
    PacketId, Qos, Reader, Version, malformed, protocol_error, write_packet, write_string, write_with_length,
};
use super::properties::{Place, Property, UserProperties, read_section};
use super::{Limits, ReasonCode, Violation, text};

/// A SUBSCRIBE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscribe<'a> {
    pub packet_id: PacketId,
    /// 1 to 268,435,455.
    pub subscription_id: Option<u32>,
    pub user_properties: UserProperties<'a>,
    /// At least one.
    pub filters: Filters<'a>,
}

/// What one Topic Filter is subscribed with. MQTT 3.1.1 and 3.1 have only the QoS; the rest is the default there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    pub qos: Qos,
    pub no_local: bool,
    pub retain_as_published: bool,
    pub retain_handling: RetainHandling,
}

/// Which retained messages a new subscription gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum RetainHandling {
    #[default]
    Send = 0,
    SendIfNew = 1,
    DoNotSend = 2,
}

/// Topic Filters with their options, as the bytes they came in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Filters<'a> {
    bytes: &'a [u8],
    count: usize,
}

impl<'a> Subscribe<'a> {
    pub(super) fn decode(body: &'a [u8], version: Version, limits: &Limits) -> Result<Self, Violation> {
        let mut reader = Reader::new(body);
        let packet_id = reader.packet_id()?;
        let mut subscription_id = None;
        let mut user_properties = UserProperties::default();
        if version.is_v5() {
            let section = read_section(&mut reader, Place::Subscribe, limits, |property| {
                if let Property::SubscriptionIdentifier(id) = property {
                    subscription_id = Some(id);
                }
                Ok(())
            })?;
            user_properties = section.user_properties();
        }
        let filters = Filters::decode(reader.rest(), version, limits)?;
        Ok(Self { packet_id, subscription_id, user_properties, filters })
    }

    pub(super) fn encode(&self, version: Version, out: &mut Vec<u8>) {
        write_packet(PacketType::Subscribe.first_byte(), out, |out| {
            out.extend_from_slice(&self.packet_id.get().to_be_bytes());
            if version.is_v5() {
                write_with_length(out, |out| {
                    if let Some(id) = self.subscription_id {
                        Property::SubscriptionIdentifier(id).encode(out);
                    }
                    self.user_properties.encode(out);
                });
            }
            for (filter, options) in self.filters.iter() {
                write_string(filter, out);
                out.push(if version.is_v5() { options.value() } else { options.qos.value() });
            }
        });
    }
}

impl<'a> Filters<'a> {
    /// Writes `filters` into `storage`, which is emptied first, and borrows them from there.
    pub fn write(filters: &[(&str, Options)], storage: &'a mut Vec<u8>) -> Self {
        storage.clear();
        for (filter, options) in filters {
            write_string(filter, storage);
            storage.push(options.value());
        }
        Self { bytes: storage, count: filters.len() }
    }

    /// Each filter with its options, in the order they came in.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, Options)> + use<'a> {
        let mut reader = Reader::new(self.bytes);
        std::iter::from_fn(move || {
            let filter = str::from_utf8(reader.binary().ok()?).ok()?;
            let options = Options::decode(reader.u8().ok()?, Version::V5).ok()?;
            Some((filter, options))
        })
    }

    /// How many there are.
    pub const fn len(&self) -> usize {
        self.count
    }

    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn decode(bytes: &'a [u8], version: Version, limits: &Limits) -> Result<Self, Violation> {
        let mut reader = Reader::new(bytes);
        let mut count = 0_usize;
        while !reader.is_empty() {
            // [MQTT-3.8.3-1] [MQTT-3.1.1: 3.8.3-1]
            let filter = text::decode_topic_filter(reader.binary()?, limits.characters)?;
            let options = Options::decode(reader.u8()?, version)?;
            if options.no_local && filter.starts_with("$share/") {
                return Err(protocol_error("No Local on a Shared Subscription")); // [MQTT-3.8.3-4]
            }
            count = count.saturating_add(1);
        }
        if count == 0 {
            // [MQTT-3.8.3-2] [MQTT-3.1.1: 3.8.3-3]
            return Err(protocol_error("a SUBSCRIBE without a Topic Filter"));
        }
        Ok(Self { bytes, count })
    }
}

impl fmt::Debug for Filters<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.iter()).finish()
    }
}

impl Options {
    /// The byte behind a Topic Filter.
    const fn value(self) -> u8 {
        self.qos.value()
            | (self.no_local as u8) << 2
            | (self.retain_as_published as u8) << 3
            | (self.retain_handling as u8) << 4
    }

    fn decode(byte: u8, version: Version) -> Result<Self, Violation> {
        let reserved = if version.is_v5() { 0b1100_0000 } else { 0b1111_1100 };
        if byte & reserved != 0 {
            // [MQTT-3.8.3-5] [MQTT-3.1.1: 3-8.3-4]
            return Err(malformed("reserved bits of the Subscription Options are set"));
        }
        let qos = Qos::from_value(byte & 0b11).ok_or_else(|| protocol_error("a subscription of QoS 3"))?;
        let retain_handling = match byte >> 4 & 0b11 {
            0 => RetainHandling::Send,
            1 => RetainHandling::SendIfNew,
            2 => RetainHandling::DoNotSend,
            _ => return Err(protocol_error("a Retain Handling of 3")),
        };
        Ok(Self { qos, no_local: byte & 0b100 != 0, retain_as_published: byte & 0b1000 != 0, retain_handling })
    }
}

/// A SUBACK, as a Client gets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubAck<'a> {
    pub packet_id: PacketId,
    pub reason_string: Option<&'a str>,
    pub user_properties: UserProperties<'a>,
    /// One Reason Code per Topic Filter; in older versions the QoS granted or 0x80.
    pub codes: &'a [u8],
}

impl<'a> SubAck<'a> {
    pub(super) fn decode(body: &'a [u8], version: Version, limits: &Limits) -> Result<Self, Violation> {
        let mut reader = Reader::new(body);
        let packet_id = reader.packet_id()?;
        let (reason_string, user_properties) = if version.is_v5() {
            read_explanation(&mut reader, Place::SubAck, limits)?
        } else {
            (None, UserProperties::default())
        };
        let codes = reader.rest();
        if codes.is_empty() {
            return Err(protocol_error("a SUBACK without a Reason Code")); // [MQTT-3.8.4-6]
        }
        for &code in codes {
            let reason = ReasonCode::decode(code, PacketType::SubAck, Sender::Server)?;
            if !version.is_v5() && reason.value() > 2 && reason != ReasonCode::UnspecifiedError {
                return Err(malformed("a return code of SUBACK that is not defined")); // [MQTT-3.1.1: 3.9.3-2]
            }
        }
        Ok(Self { packet_id, reason_string, user_properties, codes })
    }

    pub(super) fn encode(&self, version: Version, out: &mut Vec<u8>) {
        write_packet(PacketType::SubAck.first_byte(), out, |out| {
            out.extend_from_slice(&self.packet_id.get().to_be_bytes());
            if version.is_v5() {
                write_explanation(self.reason_string, &self.user_properties, out);
                out.extend_from_slice(self.codes);
            } else {
                out.extend(self.codes.iter().map(|&code| code.min(0x80)));
            }
        });
    }
}

/// Appends a SUBACK without properties, with one code per Topic Filter in their order [MQTT-3.8.4-6] [MQTT-3.9.3-1].
/// Older versions have 0x80 for every error [MQTT-3.1.1: 3.9.3-2].
pub fn encode_suback(packet_id: PacketId, codes: &[ReasonCode], version: Version, out: &mut Vec<u8>) {
    write_packet(PacketType::SubAck.first_byte(), out, |out| {
        out.extend_from_slice(&packet_id.get().to_be_bytes());
        if version.is_v5() {
            out.push(0);
        }
        out.extend(codes.iter().map(|code| match code.value() {
            error @ 0x80.. if !version.is_v5() => error.min(0x80),
            value => value,
        }));
    });
}

/// The properties of SUBACK and UNSUBACK: Reason String and User Properties.
pub(super) fn read_explanation<'a>(
    reader: &mut Reader<'a>,
    place: Place,
    limits: &Limits,
) -> Result<(Option<&'a str>, UserProperties<'a>), Violation> {
    let mut reason_string = None;
    let section = read_section(reader, place, limits, |property| {
        if let Property::ReasonString(text) = property {
            reason_string = Some(text);
        }
        Ok(())
    })?;
    Ok((reason_string, section.user_properties()))
}

/// Appends what [`read_explanation`] reads.
pub(super) fn write_explanation(reason_string: Option<&str>, user_properties: &UserProperties<'_>, out: &mut Vec<u8>) {
    write_with_length(out, |out| {
        if let Some(text) = reason_string {
            Property::ReasonString(text).encode(out);
        }
        user_properties.encode(out);
    });
}
