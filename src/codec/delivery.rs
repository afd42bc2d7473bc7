//! How one receiver gets a Message: the one function that encodes a PUBLISH of the broker's.
//! It patches what differs between receivers and copies the rest; whom a Message goes to is decided elsewhere.
//! Read `message.rs` for the bytes it copies.

#![deny(clippy::indexing_slicing, clippy::unwrap_used)]

use std::num::NonZeroU16;

use super::header::PacketType;
use super::message::Message;
use super::primitive::{
    BODY_SIZE_MAX, Moment, PACKET_ID_SIZE, PacketId, Qos, Version, variable_byte_integer_size,
    write_variable_byte_integer,
};
use super::properties::Property;

/// How one receiver gets a Message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delivery<'a> {
    pub qos: Qos,
    /// There exactly when `qos` is above 0 [MQTT-2.2.1-2] [MQTT-2.2.1-4].
    pub packet_id: Option<PacketId>,
    /// This packet is a repetition [MQTT-3.3.1-1] [MQTT-3.3.1-3].
    pub dup: bool,
    pub retain: bool,
    /// The identifiers of all subscriptions that this packet is for [MQTT-3.3.4-3], each 1 to 268,435,455.
    pub subscription_ids: &'a [u32],
    pub alias: Option<OutAlias>,
}

/// A Topic Alias towards a receiver that allows it [MQTT-3.3.2-11].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutAlias {
    pub alias: NonZeroU16,
    /// The receiver got the Topic Name with this alias before, so it is left out.
    pub name_known: bool,
}

/// Appends the PUBLISH by which one receiver gets a Message: a header, then the stored bytes, copied once or, around
/// what changed in the middle, twice. Properties go as they came [MQTT-3.3.2-4] [MQTT-3.3.2-15] [MQTT-3.3.2-16]
/// [MQTT-3.3.2-17] [MQTT-3.3.2-20], except that the Message Expiry Interval is what remains of it [MQTT-3.3.2-6].
/// Older versions get no properties, alias or Subscription Identifiers.
///
/// The caller has made sure that the Message is not expired. `false`: the packet would be larger than `packet_size_max`,
/// the receiver's Maximum Packet Size [MQTT-3.1.2-24], or than any packet can be; nothing was appended.
#[inline]
#[must_use]
pub fn encode_publish(
    message: &Message,
    delivery: &Delivery<'_>,
    version: Version,
    now: Moment,
    packet_size_max: u32,
    out: &mut Vec<u8>,
) -> bool {
    debug_assert_eq!(delivery.qos == Qos::AtMostOnce, delivery.packet_id.is_none());
    let layout = Layout::of(message, delivery, version);
    if layout.packet_size() > packet_size_max as usize || layout.body_size > BODY_SIZE_MAX as usize {
        return false;
    }
    out.reserve(PACKET_HEADER_MAX + layout.body_size);
    let flags = u8::from(delivery.dup) << 3 | delivery.qos.value() << 1 | u8::from(delivery.retain);
    out.push(PacketType::Publish.first_byte() | flags);
    write_variable_byte_integer(layout.body_size, out);
    if layout.is_as_stored {
        let packet_id_at = out.len() + layout.start_size - PACKET_ID_SIZE;
        out.extend_from_slice(message.bytes());
        if let Some(packet_id) = delivery.packet_id {
            patch(out, packet_id_at, packet_id.get().to_be_bytes());
        }
    } else {
        layout.write_start(message, delivery, out);
        if let Some(property_size) = layout.property_size {
            write_variable_byte_integer(property_size, out);
            layout.write_additions(delivery, out);
        }
        out.extend_from_slice(message.bytes_from(layout.tail_from));
    }
    let facts = message.facts();
    if facts.expiry_at != 0 && version.is_v5() {
        let expiry_at = out.len() - (message.bytes().len() - facts.expiry_at as usize);
        patch(out, expiry_at, facts.remaining_s(now).to_be_bytes());
    }
    true
}

/// The exact number of bytes that [`encode_publish`] appends for this receiver, for its Maximum Packet Size
/// [MQTT-3.1.2-24]; more than [`super::PACKET_SIZE_MAX`] if no packet can hold it. Nothing is encoded for that.
#[inline]
pub fn publish_size(message: &Message, delivery: &Delivery<'_>, version: Version) -> usize {
    Layout::of(message, delivery, version).packet_size()
}

const PACKET_HEADER_MAX: usize = 5;
const ALIAS_SIZE: usize = 3;

/// How a packet is put together from the stored bytes: Topic Name and Packet Identifier at the start, then perhaps a
/// Property Length and properties of its own, then the stored rest.
struct Layout {
    body_size: usize,
    /// Topic Name with its length, and Packet Identifier.
    start_size: usize,
    /// The Property Length, where the stored one is not right.
    property_size: Option<usize>,
    /// Where the stored rest begins.
    tail_from: u32,
    /// The packet differs from the stored bytes in values at most.
    is_as_stored: bool,
}

impl Layout {
    #[inline]
    fn of(message: &Message, delivery: &Delivery<'_>, version: Version) -> Self {
        let facts = message.facts();
        let topic_size = if delivery.alias.is_some_and(|alias| alias.name_known) && version.is_v5() {
            0
        } else {
            usize::from(facts.topic_size)
        };
        let start_size = 2 + topic_size + delivery.packet_id_size();
        let mut property_size = None;
        let mut additions_size = 0;
        let tail_from = if !version.is_v5() {
            facts.payload_at
        } else if facts.has_properties && delivery.adds_nothing() {
            facts.tail_at()
        } else {
            additions_size = delivery.additions_size();
            let size = additions_size + message.properties().len();
            property_size = Some(size);
            additions_size += variable_byte_integer_size(size);
            facts.properties_at
        };
        let tail_size = message.bytes().len() - tail_from as usize;
        Self {
            body_size: start_size + additions_size + tail_size,
            start_size,
            property_size,
            tail_from,
            is_as_stored: property_size.is_none() && tail_from == facts.tail_at() && tail_from as usize == start_size,
        }
    }

    #[inline]
    fn packet_size(&self) -> usize {
        1 + variable_byte_integer_size(self.body_size) + self.body_size
    }

    fn write_start(&self, message: &Message, delivery: &Delivery<'_>, out: &mut Vec<u8>) {
        match self.start_size - delivery.packet_id_size() {
            2 => out.extend_from_slice(&[0, 0]),
            size => out.extend_from_slice(message.bytes().get(..size).unwrap_or_default()),
        }
        if let Some(packet_id) = delivery.packet_id {
            out.extend_from_slice(&packet_id.get().to_be_bytes());
        }
    }

    fn write_additions(&self, delivery: &Delivery<'_>, out: &mut Vec<u8>) {
        if let Some(alias) = &delivery.alias {
            Property::TopicAlias(alias.alias).encode(out);
        }
        for &id in delivery.subscription_ids {
            Property::SubscriptionIdentifier(id).encode(out);
        }
    }
}

impl Delivery<'_> {
    #[inline]
    const fn packet_id_size(&self) -> usize {
        if self.packet_id.is_some() { PACKET_ID_SIZE } else { 0 }
    }

    #[inline]
    const fn adds_nothing(&self) -> bool {
        self.alias.is_none() && self.subscription_ids.is_empty()
    }

    fn additions_size(&self) -> usize {
        let ids = self.subscription_ids.iter();
        let ids_size: usize = ids.map(|&id| 1 + variable_byte_integer_size(id as usize)).sum();
        ids_size + if self.alias.is_some() { ALIAS_SIZE } else { 0 }
    }
}

#[inline]
fn patch<const SIZE: usize>(out: &mut [u8], at: usize, bytes: [u8; SIZE]) {
    if let Some(place) = out.get_mut(at..at + SIZE) {
        place.copy_from_slice(&bytes);
    }
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "a test may panic")]
mod tests {
    use super::super::{Characters, Header, Limits, Message, Moment, Origin, Packet, Properties, Publish, Sender};
    use super::{Delivery, NonZeroU16, OutAlias, PacketId, Property, Qos, Version, encode_publish, publish_size};

    const LIMITS: Limits = Limits {
        packet_size_max: u32::MAX,
        user_properties_max: 9,
        property_bytes_max: 1000,
        characters: Characters::Strict,
    };

    /// The PUBLISH that a receiver of this version gets, decoded; its size is what was foretold.
    fn received(
        message: &Message,
        delivery: &Delivery<'_>,
        version: Version,
        now: Moment,
        check: impl FnOnce(&Publish<'_>),
    ) {
        let mut out = b"before".to_vec();
        assert!(encode_publish(message, delivery, version, now, u32::MAX, &mut out));
        let packet = out.strip_prefix(b"before").expect("appended");
        assert_eq!(packet.len(), publish_size(message, delivery, version));
        let header = Header::decode(packet, Sender::Server, version, &LIMITS).expect("good").expect("whole");
        assert_eq!(header.packet_size(), packet.len());
        match Packet::decode(&header, &packet[header.header_size()..], version, &LIMITS) {
            Ok(Packet::Publish(publish)) => check(&publish),
            other => panic!("{other:?}"),
        }
    }

    fn packet_id(value: u16) -> Option<PacketId> {
        PacketId::new(value)
    }

    /// Encodes `publish`, decodes it as a broker does and keeps it.
    fn stored(publish: &Publish<'_>, version: Version, now: Moment) -> Message {
        let mut bytes = Vec::new();
        Packet::Publish(*publish).encode(version, &mut bytes);
        let header = Header::decode(&bytes, Sender::Client, version, &LIMITS).expect("good").expect("whole");
        match Packet::decode(&header, &bytes[header.header_size()..], version, &LIMITS) {
            Ok(Packet::Publish(publish)) => Message::of_publish(&publish, version, Origin::new(7), now),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_shape_reaches_every_receiver() {
        let mut storage = Vec::new();
        let properties =
            [Property::UserProperty("k", "v"), Property::MessageExpiryInterval(10), Property::CorrelationData(b"cd")];
        let mut plain = Publish::new("a/b", b"payload");
        plain.qos = Qos::AtLeastOnce;
        plain.packet_id = packet_id(300);
        let rich = plain.with_properties(Properties::write(&properties, &mut storage));
        let mut aliased = rich;
        aliased.topic_alias = NonZeroU16::new(3);
        let mut qos0 = Publish::new("a/b", b"payload");
        qos0.retain = true;

        let messages = [
            (stored(&plain, Version::V3_1_1, Moment::default()), false),
            (stored(&plain, Version::V5, Moment::default()), false),
            (stored(&qos0, Version::V3_1, Moment::default()), false),
            (stored(&qos0, Version::V5, Moment::default()), false),
            (stored(&rich, Version::V5, Moment::default()), true),
            (stored(&aliased, Version::V5, Moment::default()), true),
            (Message::new("a/b", b"payload", Qos::AtLeastOnce, false, Moment::default()), false),
        ];
        let many = [1, 200, 268_435_455];
        let aliases = [
            None,
            Some(OutAlias { alias: NonZeroU16::MAX, name_known: false }),
            Some(OutAlias { alias: NonZeroU16::MAX, name_known: true }),
        ];
        let now = Moment::from_millis(3_999);
        for (message, is_rich) in &messages {
            for version in [Version::V3_1, Version::V3_1_1, Version::V5] {
                for (qos, packet_id) in [(Qos::AtMostOnce, None), (Qos::ExactlyOnce, packet_id(9))] {
                    for ids in [&[][..], &many[..1], &many] {
                        for alias in aliases {
                            let delivery = Delivery {
                                qos,
                                packet_id,
                                dup: packet_id.is_some(),
                                retain: true,
                                subscription_ids: ids,
                                alias,
                            };
                            received(message, &delivery, version, now, |publish| {
                                let v5 = version.is_v5();
                                let known = v5 && alias.is_some_and(|alias| alias.name_known);
                                assert_eq!(publish.topic, if known { "" } else { "a/b" });
                                assert_eq!(publish.payload, b"payload");
                                assert_eq!(publish.qos, qos);
                                assert_eq!(publish.packet_id, packet_id);
                                assert_eq!(publish.dup, packet_id.is_some());
                                assert!(publish.retain);
                                let mut expected = Vec::new();
                                if v5 {
                                    expected.extend(alias.map(|alias| Property::TopicAlias(alias.alias)));
                                    expected.extend(ids.iter().copied().map(Property::SubscriptionIdentifier));
                                    if *is_rich {
                                        expected.push(properties[0]);
                                        expected.push(Property::MessageExpiryInterval(7));
                                        expected.push(properties[2]);
                                    }
                                }
                                assert_eq!(publish.properties().iter().collect::<Vec<_>>(), expected);
                            });
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_message_ages_from_when_it_was_born() {
        let mut publish = Publish::new("t", b"");
        publish.message_expiry_interval_s = Some(2);
        let message = stored(&publish, Version::V5, Moment::from_millis(500));
        assert_eq!(message.expires_at(), Some(Moment::from_millis(2_500)));
        assert!(!message.is_expired(Moment::from_millis(2_499)));
        assert!(message.is_expired(Moment::from_millis(2_500)));
        let later = message.at(Moment::from_millis(10_000));
        assert!(!later.is_expired(Moment::from_millis(11_000)));
        for (now, remaining) in [(0, 2), (500, 2), (1_499, 2), (1_500, 1), (2_499, 1), (9_999, 0)] {
            let delivery = Delivery::default();
            received(&message, &delivery, Version::V5, Moment::from_millis(now), |publish| {
                assert_eq!(publish.message_expiry_interval_s, Some(remaining), "at {now}");
            });
        }
        assert_eq!(message.clone().without_retain().expires_at(), message.expires_at());
    }
}
