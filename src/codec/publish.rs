//! PUBLISH and its four acknowledgements PUBACK, PUBREC, PUBREL and PUBCOMP.
//! Topic Aliases are read, never resolved; which Packet Identifiers are open is the Session's knowledge.
//! Read `message.rs` for what becomes of a PUBLISH that was accepted.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::arithmetic_side_effects)]

use std::num::NonZeroU16;

use super::header::{Header, PacketType, Sender};
use super::primitive::{PacketId, Qos, Reader, Version, protocol_error, write_packet, write_string, write_with_length};
use super::properties::{Place, Properties, Property, PropertyId, UserProperties, read_section};
use super::{Limits, ReasonCode, Violation, text};

/// A PUBLISH. The fields are what most readers need of it; [`Publish::properties`] has the rest.
#[derive(Clone, Copy, Debug)]
pub struct Publish<'a> {
    pub dup: bool,
    pub retain: bool,
    pub qos: Qos,
    /// There exactly when the QoS is above 0 [MQTT-2.2.1-2] [MQTT-3.1.1: 2.3.1-5].
    pub packet_id: Option<PacketId>,
    /// Empty only if there is a Topic Alias.
    pub topic: &'a str,
    pub topic_alias: Option<NonZeroU16>,
    pub message_expiry_interval_s: Option<u32>,
    /// The Payload Format Indicator is 1. Whether the payload keeps this promise is not checked.
    pub payload_is_utf8: bool,
    pub response_topic: Option<&'a str>,
    pub subscription_ids_present: bool,
    pub payload: &'a [u8],
    properties: Properties<'a>,
    /// The bytes that it was decoded from, for `Message` to copy; empty in one made by hand.
    pub(super) body: &'a [u8],
    /// Where in `body` Topic Name and Packet Identifier are over.
    pub(super) tail_at: u32,
}

impl<'a> Publish<'a> {
    /// A PUBLISH of QoS 0 without properties, for a Client to send.
    pub fn new(topic: &'a str, payload: &'a [u8]) -> Self {
        Self {
            dup: false,
            retain: false,
            qos: Qos::AtMostOnce,
            packet_id: None,
            topic,
            topic_alias: None,
            message_expiry_interval_s: None,
            payload_is_utf8: false,
            response_topic: None,
            subscription_ids_present: false,
            payload,
            properties: Properties::default(),
            body: &[],
            tail_at: 0,
        }
    }

    /// The same with these properties, and the fields set to what they say.
    #[must_use]
    pub fn with_properties(mut self, properties: Properties<'a>) -> Self {
        for property in properties.iter() {
            self.take_note(property);
        }
        self.properties = properties;
        self.body = &[];
        self
    }

    /// All its properties as they came, Topic Alias and Subscription Identifiers included.
    #[inline]
    pub const fn properties(&self) -> Properties<'a> {
        self.properties
    }

    /// Decodes the `body` behind `header`, which [`Header::decode`] found good. The Topic Name is checked against
    /// wildcards (0x90) and against being empty without a Topic Alias (0x82); how many levels it has is not counted.
    #[inline]
    pub fn decode(header: &Header, body: &'a [u8], version: Version, limits: &Limits) -> Result<Self, Violation> {
        let mut reader = Reader::new(body);
        let topic = text::decode_topic_name(reader.binary()?, limits.characters)?; // [MQTT-3.3.2-1]
        let qos = header.qos();
        let packet_id = match qos {
            Qos::AtMostOnce => None,
            Qos::AtLeastOnce | Qos::ExactlyOnce => Some(reader.packet_id()?),
        };
        let mut publish = Self::new(topic, &[]);
        publish.dup = header.flags() & 0b1000 != 0;
        publish.retain = header.flags() & 0b0001 != 0;
        publish.qos = qos;
        publish.packet_id = packet_id;
        publish.body = body;
        publish.tail_at = body.len().wrapping_sub(reader.rest().len()) as u32; // the rest is a part of it
        if version.is_v5() {
            let place = match header.from() {
                Sender::Client => Place::PublishByClient,
                Sender::Server => Place::PublishByServer,
            };
            publish.properties = read_section(&mut reader, place, limits, |property| {
                publish.take_note(property);
                Ok(())
            })?;
        }
        if topic.is_empty() && publish.topic_alias.is_none() {
            // [MQTT-4.7.3-1] [MQTT-3.1.1: 4.7.3-1]
            return Err(protocol_error("a PUBLISH with neither Topic Name nor Topic Alias"));
        }
        publish.payload = reader.rest();
        Ok(publish)
    }

    #[inline]
    fn take_note(&mut self, property: Property<'a>) {
        match property {
            Property::TopicAlias(alias) => self.topic_alias = Some(alias),
            Property::MessageExpiryInterval(seconds) => self.message_expiry_interval_s = Some(seconds),
            Property::PayloadFormatIndicator(is_utf8) => self.payload_is_utf8 = is_utf8,
            Property::ResponseTopic(topic) => self.response_topic = Some(topic),
            Property::SubscriptionIdentifier(_) => self.subscription_ids_present = true,
            _ => {}
        }
    }

    /// For a Client that sends, and for tests: the broker sends by [`super::encode_publish`].
    pub(super) fn encode(&self, version: Version, out: &mut Vec<u8>) {
        let flags = u8::from(self.dup) << 3 | self.qos.value() << 1 | u8::from(self.retain);
        write_packet(PacketType::Publish.first_byte() | flags, out, |out| {
            write_string(self.topic, out);
            if let Some(packet_id) = self.packet_id {
                out.extend_from_slice(&packet_id.get().to_be_bytes());
            }
            if version.is_v5() {
                write_with_length(out, |out| self.encode_properties(out));
            }
            out.extend_from_slice(self.payload);
        });
    }

    /// The properties in their order, with the values that the fields have, then what only the fields say.
    fn encode_properties(&self, out: &mut Vec<u8>) {
        let mut alias = self.topic_alias.map(Property::TopicAlias);
        let mut expiry = self.message_expiry_interval_s.map(Property::MessageExpiryInterval);
        let mut response_topic = self.response_topic.map(Property::ResponseTopic);
        let mut format = self.payload_is_utf8.then_some(Property::PayloadFormatIndicator(true));
        for (id, bytes) in self.properties.parts() {
            let property = match id {
                PropertyId::TopicAlias => alias.take(),
                PropertyId::MessageExpiryInterval => expiry.take(),
                PropertyId::ResponseTopic => response_topic.take(),
                PropertyId::PayloadFormatIndicator => {
                    Some(format.take().unwrap_or(Property::PayloadFormatIndicator(false)))
                }
                _ => {
                    out.extend_from_slice(bytes);
                    None
                }
            };
            if let Some(property) = property {
                property.encode(out);
            }
        }
        for property in [alias, expiry, response_topic, format].into_iter().flatten() {
            property.encode(out);
        }
    }
}

/// Equal in everything they say, wherever the bytes came from.
impl PartialEq for Publish<'_> {
    fn eq(&self, other: &Self) -> bool {
        let said = |publish: &Self| {
            (
                (publish.dup, publish.retain, publish.qos, publish.packet_id),
                (publish.topic_alias, publish.message_expiry_interval_s, publish.payload_is_utf8),
                publish.subscription_ids_present,
            )
        };
        said(self) == said(other)
            && self.topic == other.topic
            && self.response_topic == other.response_topic
            && self.payload == other.payload
            && self.properties == other.properties
    }
}

impl Eq for Publish<'_> {}

/// A PUBACK, PUBREC, PUBREL or PUBCOMP. In older versions it is a Packet Identifier and means success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack<'a> {
    pub packet_id: PacketId,
    pub reason: ReasonCode,
    pub reason_string: Option<&'a str>,
    pub user_properties: UserProperties<'a>,
}

impl<'a> Ack<'a> {
    /// An acknowledgement without properties.
    pub fn new(packet_id: PacketId, reason: ReasonCode) -> Self {
        Self { packet_id, reason, reason_string: None, user_properties: UserProperties::default() }
    }

    /// Two bytes mean success, and a Reason Code may be the end.
    #[inline]
    pub(super) fn decode(
        header: &Header,
        body: &'a [u8],
        version: Version,
        limits: &Limits,
    ) -> Result<Self, Violation> {
        let mut reader = Reader::new(body);
        let mut ack = Self::new(reader.packet_id()?, ReasonCode::Success);
        if version.is_v5() && !reader.is_empty() {
            ack.read_rest(&mut reader, header, limits)?;
        }
        reader.finish()?;
        Ok(ack)
    }

    fn read_rest(&mut self, reader: &mut Reader<'a>, header: &Header, limits: &Limits) -> Result<(), Violation> {
        let kind = header.kind();
        self.reason = ReasonCode::decode(reader.u8()?, kind, header.from())?;
        if reader.is_empty() {
            return Ok(());
        }
        let section = read_section(reader, place(kind), limits, |property| {
            if let Property::ReasonString(text) = property {
                self.reason_string = Some(text);
            }
            Ok(())
        })?;
        self.user_properties = section.user_properties();
        Ok(())
    }

    pub(super) fn encode(&self, kind: PacketType, version: Version, out: &mut Vec<u8>) {
        if self.reason_string.is_none() && self.user_properties.is_empty() {
            encode_ack(kind, self.packet_id, self.reason, version, out);
            return;
        }
        write_packet(kind.first_byte(), out, |out| {
            out.extend_from_slice(&self.packet_id.get().to_be_bytes());
            if version.is_v5() {
                out.push(self.reason.value());
                write_with_length(out, |out| {
                    if let Some(text) = self.reason_string {
                        Property::ReasonString(text).encode(out);
                    }
                    self.user_properties.encode(out);
                });
            }
        });
    }
}

const fn place(kind: PacketType) -> Place {
    match kind {
        PacketType::PubRec => Place::PubRec,
        PacketType::PubRel => Place::PubRel,
        PacketType::PubComp => Place::PubComp,
        _ => Place::PubAck,
    }
}

/// Appends a PUBACK, PUBREC, PUBREL or PUBCOMP without properties: four bytes for success and for older versions, else
/// six, with the Property Length that a common client waits for even where the standard lets it be left out.
#[inline]
pub fn encode_ack(kind: PacketType, packet_id: PacketId, reason: ReasonCode, version: Version, out: &mut Vec<u8>) {
    let [high, low] = packet_id.get().to_be_bytes();
    let first = kind.first_byte();
    if reason == ReasonCode::Success || !version.is_v5() {
        out.extend_from_slice(&[first, 2, high, low]);
    } else {
        out.extend_from_slice(&[first, 4, high, low, reason.value(), 0]);
    }
}
