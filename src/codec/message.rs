//! Application Messages: what the broker keeps of a PUBLISH or a Will, and how it goes out to each receiver.
//! A Message never changes; it is one allocation that holds the bytes as they arrived, shared by all receivers.
//! Read `publish.rs` for what came before.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::num::NonZeroU16;
use std::time::Duration;

use triomphe::ThinArc;

use super::connect::Will;
use super::header::PacketType;
use super::primitive::{
    BODY_SIZE_MAX, Moment, PacketId, Qos, Version, variable_byte_integer_size,
    write_variable_byte_integer,
};
use super::properties::{Properties, Property, PropertyId};
use super::publish::Publish;

/// Who published a Message: a keyed hash of the Client Identifier, made by the caller. Used for No Local.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Origin(u64);

impl Origin {
    /// The broker itself.
    pub const BROKER: Self = Self(0);

    /// A hash that comes out as that of [`Origin::BROKER`] is moved beside it.
    pub const fn new(hash: u64) -> Self {
        Self(if hash == 0 { 1 } else { hash })
    }

    pub const fn value(self) -> u64 {
        self.0
    }
}

/// One accepted Application Message. Cloning it counts a reference, no bytes are copied.
#[derive(Clone)]
pub struct Message(ThinArc<Head, u8>);

struct Head {
    facts: Facts,
    size: LiveSize,
}

/// What is known about the bytes of a Message: Topic Name with its length, Packet Identifier (if it came with one), in
/// MQTT 5 Property Length and properties, then the payload.
#[derive(Clone, Copy)]
struct Facts {
    born: Moment,
    origin: Origin,
    /// Where the properties begin, behind the Property Length.
    properties_at: u32,
    payload_at: u32,
    /// Where the value of the Message Expiry Interval begins; 0 if the bytes have none.
    expiry_at: u32,
    expiry_interval_s: u32,
    topic_size: u16,
    qos: Qos,
    retain: bool,
    expires: bool,
    has_packet_id: bool,
    has_properties: bool,
}

/// What a Message is made of where there is no packet to copy: one read back from storage, for instance.
#[derive(Clone, Copy, Debug)]
pub struct MessageParts<'a> {
    pub topic: &'a [u8],
    pub payload: &'a [u8],
    pub qos: Qos,
    pub retain: bool,
    /// Topic Alias, Subscription Identifiers and Will Delay Interval are left out of the Message.
    pub properties: Properties<'a>,
    /// When it expires, counted from `born`. What a receiver is told is this value, less the time waited, in the place
    /// of the property; without the property it is told nothing.
    pub expiry_interval_s: Option<u32>,
    pub origin: Origin,
    pub born: Moment,
}

impl Message {
    /// Copies an accepted PUBLISH once, as it came. `retain`, `qos` and the expiry are taken from the fields, all else
    /// from the packet. A Topic Alias and Subscription Identifiers are cut out: they belong to the connection that the
    /// packet came on [MQTT-3.3.2-7].
    #[inline]
    pub fn of_publish(
        publish: &Publish<'_>,
        version: Version,
        origin: Origin,
        now: Moment,
    ) -> Self {
        let as_it_came = !publish.body.is_empty()
            && publish.topic_alias.is_none()
            && !publish.subscription_ids_present;
        if !as_it_came {
            return Self::with_topic(publish, publish.topic.as_bytes(), version, origin, now);
        }
        let properties = publish.properties();
        let payload_at = (publish.body.len() - publish.payload.len()) as u32;
        let properties_at = payload_at - properties.as_bytes().len() as u32;
        let expiry_interval_s = publish.message_expiry_interval_s;
        let expiry_at = match expiry_interval_s {
            None => 0,
            Some(_) => expiry_offset(properties).map_or(0, |offset| properties_at + offset),
        };
        Self::allocate(
            Facts {
                born: now,
                origin,
                properties_at,
                payload_at,
                expiry_at,
                expiry_interval_s: expiry_interval_s.unwrap_or(0),
                topic_size: publish.topic.len() as u16,
                qos: publish.qos,
                retain: publish.retain,
                expires: expiry_interval_s.is_some(),
                has_packet_id: publish.tail_at as usize != 2 + publish.topic.len(),
                has_properties: version.is_v5(),
            },
            publish.body,
        )
    }

    /// The same for a PUBLISH whose Topic Alias was resolved to `topic`, of at most 65,535 bytes.
    pub fn with_topic(
        publish: &Publish<'_>,
        topic: &[u8],
        version: Version,
        origin: Origin,
        now: Moment,
    ) -> Self {
        let parts = MessageParts {
            topic,
            payload: publish.payload,
            qos: publish.qos,
            retain: publish.retain,
            properties: publish.properties(),
            expiry_interval_s: publish.message_expiry_interval_s,
            origin,
            born: now,
        };
        Self::compose(&parts, version)
    }

    /// The Message that a Will becomes, without the Will Delay Interval. A delayed one is made anew by [`Message::at`]
    /// when it is published.
    pub fn of_will(will: &Will<'_>, version: Version, origin: Origin, now: Moment) -> Self {
        let expiry_interval_s = will.properties.iter().find_map(|property| match property {
            Property::MessageExpiryInterval(seconds) => Some(seconds),
            _ => None,
        });
        let parts = MessageParts {
            topic: will.topic.as_bytes(),
            payload: will.payload,
            qos: will.qos,
            retain: will.retain,
            properties: will.properties,
            expiry_interval_s,
            origin,
            born: now,
        };
        Self::compose(&parts, version)
    }

    /// A Message of the broker's own, which does not expire. A topic beyond 65,535 bytes is cut.
    pub fn new(topic: &str, payload: &[u8], qos: Qos, retain: bool, now: Moment) -> Self {
        Self::of_parts(&MessageParts {
            topic: topic.as_bytes(),
            payload,
            qos,
            retain,
            properties: Properties::default(),
            expiry_interval_s: None,
            origin: Origin::BROKER,
            born: now,
        })
    }

    /// A Message put together from its parts. A topic beyond 65,535 bytes is cut.
    pub fn of_parts(parts: &MessageParts<'_>) -> Self {
        Self::compose(parts, Version::V5)
    }

    /// The same Message, born at `now`: a delayed Will starts to age when it is published.
    #[must_use]
    pub fn at(&self, now: Moment) -> Self {
        Self::allocate(
            Facts {
                born: now,
                ..*self.facts()
            },
            self.bytes(),
        )
    }

    /// The same Message with RETAIN 0.
    #[must_use]
    pub fn without_retain(&self) -> Self {
        Self::allocate(
            Facts {
                retain: false,
                ..*self.facts()
            },
            self.bytes(),
        )
    }

    #[inline]
    pub fn topic(&self) -> &[u8] {
        let end = 2 + usize::from(self.facts().topic_size);
        self.bytes().get(2..end).unwrap_or_default()
    }

    #[inline]
    pub fn payload(&self) -> &[u8] {
        self.bytes_from(self.facts().payload_at)
    }

    #[inline]
    pub fn qos(&self) -> Qos {
        self.facts().qos
    }

    #[inline]
    pub fn retain(&self) -> bool {
        self.facts().retain
    }

    #[inline]
    pub fn origin(&self) -> Origin {
        self.facts().origin
    }

    #[inline]
    pub fn born(&self) -> Moment {
        self.facts().born
    }

    /// The Message Expiry Interval as it was given, not what remains of it.
    #[inline]
    pub fn expiry_interval_s(&self) -> Option<u32> {
        let facts = self.facts();
        facts.expires.then_some(facts.expiry_interval_s)
    }

    /// When the Message expires, if ever.
    #[inline]
    pub fn expires_at(&self) -> Option<Moment> {
        let seconds = self.expiry_interval_s()?;
        Some(self.born().plus(Duration::from_secs(u64::from(seconds))))
    }

    /// Whether the Message Expiry Interval has passed [MQTT-3.3.2-5]; an interval of 0 has from the start.
    #[inline]
    pub fn is_expired(&self, now: Moment) -> bool {
        self.expires_at().is_some_and(|end| now >= end)
    }

    /// The stored properties, without Property Length; see [`Message::property_list`] for what they say.
    #[inline]
    pub fn properties(&self) -> &[u8] {
        let facts = self.facts();
        self.bytes()
            .get(facts.properties_at as usize..facts.payload_at as usize)
            .unwrap_or_default()
    }

    /// The stored properties, to be read one by one.
    #[inline]
    pub fn property_list(&self) -> Properties<'_> {
        Properties::of_checked(self.properties())
    }

    /// Bytes of the allocation.
    #[inline]
    pub fn size(&self) -> usize {
        self.0.header.header.size.0 as usize
    }

    /// Whether both are the same allocation.
    pub fn is_same(&self, other: &Self) -> bool {
        std::ptr::eq(&self.0.header.header, &other.0.header.header)
    }

    /// Writes the parts into this thread's scratch, then copies them into their allocation.
    fn compose(parts: &MessageParts<'_>, version: Version) -> Self {
        thread_local! {
            static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
        }
        let mut bytes = SCRATCH.take();
        bytes.clear();
        let topic_size = u16::try_from(parts.topic.len()).unwrap_or(u16::MAX);
        bytes.extend_from_slice(&topic_size.to_be_bytes());
        bytes.extend_from_slice(
            parts
                .topic
                .get(..usize::from(topic_size))
                .unwrap_or_default(),
        );
        let mut properties_at = bytes.len() as u32;
        let mut expiry_at = 0;
        if version.is_v5() {
            let kept = || {
                parts.properties.parts().filter(|(id, _)| {
                    !matches!(
                        id,
                        PropertyId::TopicAlias
                            | PropertyId::SubscriptionIdentifier
                            | PropertyId::WillDelayInterval
                    )
                })
            };
            write_variable_byte_integer(kept().map(|(_, part)| part.len()).sum(), &mut bytes);
            properties_at = bytes.len() as u32;
            for (id, part) in kept() {
                if id == PropertyId::MessageExpiryInterval && parts.expiry_interval_s.is_some() {
                    expiry_at = bytes.len() as u32 + 1;
                }
                bytes.extend_from_slice(part);
            }
        }
        let payload_at = bytes.len() as u32;
        bytes.extend_from_slice(parts.payload);
        let message = Self::allocate(
            Facts {
                born: parts.born,
                origin: parts.origin,
                properties_at,
                payload_at,
                expiry_at,
                expiry_interval_s: parts.expiry_interval_s.unwrap_or(0),
                topic_size,
                qos: parts.qos,
                retain: parts.retain,
                expires: parts.expiry_interval_s.is_some(),
                has_packet_id: false,
                has_properties: version.is_v5(),
            },
            &bytes,
        );
        if bytes.capacity() <= SCRATCH_KEPT_MAX {
            SCRATCH.set(bytes);
        }
        message
    }

    #[inline]
    fn allocate(facts: Facts, bytes: &[u8]) -> Self {
        let size = LiveSize::count(OVERHEAD + bytes.len());
        Self(ThinArc::from_header_and_slice(Head { facts, size }, bytes))
    }

    #[inline]
    fn facts(&self) -> &Facts {
        &self.0.header.header.facts
    }

    #[inline]
    fn bytes(&self) -> &[u8] {
        &self.0.slice
    }

    #[inline]
    fn bytes_from(&self, offset: u32) -> &[u8] {
        self.bytes().get(offset as usize..).unwrap_or_default()
    }
}

/// Shows neither topic nor payload.
impl fmt::Debug for Message {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Message")
            .field("topic_bytes", &self.topic().len())
            .field("payload_bytes", &self.payload().len())
            .field("qos", &self.qos())
            .field("retain", &self.retain())
            .field("born", &self.born())
            .finish_non_exhaustive()
    }
}

/// Where among the properties the value of the Message Expiry Interval begins.
fn expiry_offset(properties: Properties<'_>) -> Option<u32> {
    let mut offset = 0;
    for (id, part) in properties.parts() {
        if id == PropertyId::MessageExpiryInterval {
            return Some(offset + 1);
        }
        offset += part.len() as u32;
    }
    None
}

/// Bytes of an allocation besides those of the packet: the count of references, the length, and the head.
const OVERHEAD: usize = 2 * size_of::<usize>() + size_of::<Head>();

/// A thread's scratch keeps at most this much between two Messages.
const SCRATCH_KEPT_MAX: usize = 64 * 1024;

thread_local! {
    static LIVE_BYTES: Cell<i64> = const { Cell::new(0) };
}

/// Bytes of all live Messages that were made on this thread, minus those that were dropped on it. Negative where more is
/// dropped than made; the sum over all threads is the truth.
pub fn live_bytes() -> i64 {
    LIVE_BYTES.get()
}

/// The size of one allocation, counted in [`live_bytes`] as long as it lives.
struct LiveSize(u32);

impl LiveSize {
    #[inline]
    fn count(size: usize) -> Self {
        let size = size.next_multiple_of(align_of::<Head>()) as u32;
        LIVE_BYTES.set(LIVE_BYTES.get() + i64::from(size));
        Self(size)
    }
}

impl Drop for LiveSize {
    fn drop(&mut self) {
        LIVE_BYTES.set(LIVE_BYTES.get() - i64::from(self.0));
    }
}

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
/// The caller has made sure that the Message is not expired and that [`publish_size`] suits the receiver; what no
/// packet can hold appends nothing.
#[inline]
pub fn encode_publish(
    message: &Message,
    delivery: &Delivery<'_>,
    version: Version,
    now: Moment,
    out: &mut Vec<u8>,
) {
    debug_assert_eq!(
        delivery.qos == Qos::AtMostOnce,
        delivery.packet_id.is_none()
    );
    let layout = Layout::of(message, delivery, version);
    if layout.body_size > BODY_SIZE_MAX as usize {
        return;
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
}

/// The exact number of bytes that [`encode_publish`] appends for this receiver, for its Maximum Packet Size
/// [MQTT-3.1.2-24]; more than [`super::PACKET_SIZE_MAX`] if no packet can hold it. Nothing is encoded for that.
#[inline]
pub fn publish_size(message: &Message, delivery: &Delivery<'_>, version: Version) -> usize {
    let body_size = Layout::of(message, delivery, version).body_size;
    1 + variable_byte_integer_size(body_size) + body_size
}

const PACKET_HEADER_MAX: usize = 5;
const PACKET_ID_SIZE: usize = 2;
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
        let topic_size = if delivery.alias.is_some_and(|alias| alias.name_known) && version.is_v5()
        {
            0
        } else {
            usize::from(facts.topic_size)
        };
        let packet_id_size = if delivery.packet_id.is_some() {
            PACKET_ID_SIZE
        } else {
            0
        };
        let start_size = 2 + topic_size + packet_id_size;
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
            is_as_stored: property_size.is_none() && start_size == tail_from as usize,
        }
    }

    fn write_start(&self, message: &Message, delivery: &Delivery<'_>, out: &mut Vec<u8>) {
        let packet_id_size = if delivery.packet_id.is_some() {
            PACKET_ID_SIZE
        } else {
            0
        };
        match self.start_size - packet_id_size {
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
    const fn adds_nothing(&self) -> bool {
        self.alias.is_none() && self.subscription_ids.is_empty()
    }

    fn additions_size(&self) -> usize {
        let ids = self.subscription_ids.iter();
        let ids_size: usize = ids
            .map(|&id| 1 + variable_byte_integer_size(id as usize))
            .sum();
        ids_size + if self.alias.is_some() { ALIAS_SIZE } else { 0 }
    }
}

impl Facts {
    /// Where in the stored bytes Topic Name and Packet Identifier are over.
    #[inline]
    const fn tail_at(&self) -> u32 {
        2 + self.topic_size as u32
            + if self.has_packet_id {
                PACKET_ID_SIZE as u32
            } else {
                0
            }
    }

    /// What remains of the Message Expiry Interval, begun seconds counted as whole.
    fn remaining_s(&self, now: Moment) -> u32 {
        let waited_s = now.since(self.born).as_secs();
        self.expiry_interval_s
            .saturating_sub(u32::try_from(waited_s).unwrap_or(u32::MAX))
    }
}

#[inline]
fn patch<const SIZE: usize>(out: &mut [u8], at: usize, bytes: [u8; SIZE]) {
    if let Some(place) = out.get_mut(at..at + SIZE) {
        place.copy_from_slice(&bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Characters, Header, Limits, Packet, Sender};
    use super::{
        Delivery, Message, MessageParts, Moment, NonZeroU16, Origin, OutAlias, PacketId,
        Properties, Property, Publish, Qos, Version, Will, encode_publish, live_bytes,
        publish_size,
    };

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
        encode_publish(message, delivery, version, now, &mut out);
        let packet = out.strip_prefix(b"before").expect("appended");
        assert_eq!(packet.len(), publish_size(message, delivery, version));
        let header = Header::decode(packet, Sender::Server, version, &LIMITS)
            .expect("good")
            .expect("whole");
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
        let header = Header::decode(&bytes, Sender::Client, version, &LIMITS)
            .expect("good")
            .expect("whole");
        match Packet::decode(&header, &bytes[header.header_size()..], version, &LIMITS) {
            Ok(Packet::Publish(publish)) => {
                Message::of_publish(&publish, version, Origin::new(7), now)
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_shape_reaches_every_receiver() {
        let mut storage = Vec::new();
        let properties = [
            Property::UserProperty("k", "v"),
            Property::MessageExpiryInterval(10),
            Property::CorrelationData(b"cd"),
        ];
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
            (
                Message::new(
                    "a/b",
                    b"payload",
                    Qos::AtLeastOnce,
                    false,
                    Moment::default(),
                ),
                false,
            ),
        ];
        let many = [1, 200, 268_435_455];
        let aliases = [
            None,
            Some(OutAlias {
                alias: NonZeroU16::MAX,
                name_known: false,
            }),
            Some(OutAlias {
                alias: NonZeroU16::MAX,
                name_known: true,
            }),
        ];
        let now = Moment::from_millis(3_999);
        for (message, is_rich) in &messages {
            for version in [Version::V3_1, Version::V3_1_1, Version::V5] {
                for (qos, packet_id) in [(Qos::AtMostOnce, None), (Qos::ExactlyOnce, packet_id(9))]
                {
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
                                    expected.extend(
                                        alias.map(|alias| Property::TopicAlias(alias.alias)),
                                    );
                                    expected.extend(
                                        ids.iter().copied().map(Property::SubscriptionIdentifier),
                                    );
                                    if *is_rich {
                                        expected.push(properties[0]);
                                        expected.push(Property::MessageExpiryInterval(7));
                                        expected.push(properties[2]);
                                    }
                                }
                                assert_eq!(
                                    publish.properties().iter().collect::<Vec<_>>(),
                                    expected
                                );
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
        for (now, remaining) in [
            (0, 2),
            (500, 2),
            (1_499, 2),
            (1_500, 1),
            (2_499, 1),
            (9_999, 0),
        ] {
            let delivery = Delivery::default();
            received(
                &message,
                &delivery,
                Version::V5,
                Moment::from_millis(now),
                |publish| {
                    assert_eq!(
                        publish.message_expiry_interval_s,
                        Some(remaining),
                        "at {now}"
                    );
                },
            );
        }
        assert_eq!(
            message.clone().without_retain().expires_at(),
            message.expires_at()
        );
    }

    #[test]
    fn a_will_goes_without_its_delay() {
        let mut storage = Vec::new();
        let properties = [
            Property::WillDelayInterval(5),
            Property::ContentType("c"),
            Property::MessageExpiryInterval(u32::MAX),
        ];
        let will = Will {
            topic: "w",
            payload: b"p",
            qos: Qos::AtLeastOnce,
            retain: true,
            delay_interval_s: 5,
            properties: Properties::write(&properties, &mut storage),
        };
        let message = Message::of_will(&will, Version::V5, Origin::new(0), Moment::default());
        assert_ne!(message.origin(), Origin::BROKER);
        assert_eq!(message.topic(), b"w");
        assert_eq!(message.payload(), b"p");
        assert_eq!((message.qos(), message.retain()), (Qos::AtLeastOnce, true));
        assert_eq!(
            message.property_list().iter().collect::<Vec<_>>(),
            properties[1..]
        );
        assert_eq!(message.expiry_interval_s(), Some(u32::MAX));
        let again = Message::of_parts(&MessageParts {
            topic: message.topic(),
            payload: message.payload(),
            qos: message.qos(),
            retain: message.retain(),
            properties: message.property_list(),
            expiry_interval_s: message.expiry_interval_s(),
            origin: message.origin(),
            born: message.born(),
        });
        assert_eq!(again.properties(), message.properties());
        assert_eq!(again.size(), message.size());
    }

    #[test]
    fn live_bytes_follow_what_lives() {
        let before = live_bytes();
        let message = Message::new("t", &[0; 1000], Qos::AtMostOnce, false, Moment::default());
        let clone = message.clone();
        assert!(message.is_same(&clone));
        assert!(
            message.size() >= 1003 + size_of::<super::Head>() && message.size().is_multiple_of(8)
        );
        assert_eq!(live_bytes() - before, message.size() as i64);
        drop(message);
        assert_eq!(live_bytes() - before, clone.size() as i64);
        let elsewhere = std::thread::spawn(move || {
            drop(clone);
            live_bytes()
        });
        let there = elsewhere.join().expect("the thread ends");
        assert_eq!(live_bytes() - before, -there);
    }
}
