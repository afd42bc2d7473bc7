//! Application Messages: what the broker keeps of a PUBLISH or a Will, in one allocation with the bytes as they came.
//! A Message never changes and knows no receiver; all of them share it.
//! Read `delivery.rs` next: how it goes out to each.

#![deny(clippy::indexing_slicing, clippy::unwrap_used)]

use std::cell::{Cell, RefCell};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use triomphe::ThinArc;

use super::connect::Will;
use super::primitive::{Moment, PACKET_ID_SIZE, Qos, Version, variable_byte_integer_size, write_variable_byte_integer};
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
    /// See [`Message::record`].
    record: AtomicU64,
}

/// What is known about the bytes of a Message: Topic Name with its length, Packet Identifier (if it came with one), in
/// MQTT 5 Property Length and properties, then the payload.
#[derive(Clone, Copy)]
pub(super) struct Facts {
    pub(super) born: Moment,
    pub(super) origin: Origin,
    /// Where the properties begin, behind the Property Length.
    pub(super) properties_at: u32,
    pub(super) payload_at: u32,
    /// Where the value of the Message Expiry Interval begins; 0 if the bytes have none.
    pub(super) expiry_at: u32,
    pub(super) expiry_interval_s: u32,
    pub(super) topic_size: u16,
    pub(super) qos: Qos,
    pub(super) retain: bool,
    pub(super) expires: bool,
    pub(super) has_packet_id: bool,
    pub(super) has_properties: bool,
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
    pub fn of_publish(publish: &Publish<'_>, version: Version, origin: Origin, now: Moment) -> Self {
        let as_it_came = !publish.body.is_empty() && publish.topic_alias.is_none() && !publish.subscription_ids_present;
        if !as_it_came {
            return Self::with_topic(publish, publish.topic.as_bytes(), version, origin, now);
        }
        let properties = publish.properties();
        let property_size = properties.as_bytes().len();
        let length_size = if version.is_v5() { variable_byte_integer_size(property_size) } else { 0 };
        let properties_at = publish.tail_at + length_size as u32;
        let topic_size = publish.body.first_chunk().map_or(0, |size| u16::from_be_bytes(*size));
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
                payload_at: properties_at + property_size as u32,
                expiry_at,
                expiry_interval_s: expiry_interval_s.unwrap_or(0),
                topic_size,
                qos: publish.qos,
                retain: publish.retain,
                expires: expiry_interval_s.is_some(),
                has_packet_id: publish.tail_at != 2 + u32::from(topic_size),
                has_properties: version.is_v5(),
            },
            publish.body,
        )
    }

    /// The same for a PUBLISH whose Topic Alias was resolved to `topic`, of at most 65,535 bytes.
    pub fn with_topic(publish: &Publish<'_>, topic: &[u8], version: Version, origin: Origin, now: Moment) -> Self {
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
        Self::allocate(Facts { born: now, ..*self.facts() }, self.bytes())
    }

    /// The same Message as one that the store does not know.
    #[must_use]
    pub fn anew(&self) -> Self {
        Self::allocate(*self.facts(), self.bytes())
    }

    /// The same Message with RETAIN 0.
    #[must_use]
    pub fn without_retain(&self) -> Self {
        Self::allocate(Facts { retain: false, ..*self.facts() }, self.bytes())
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
        self.bytes().get(facts.properties_at as usize..facts.payload_at as usize).unwrap_or_default()
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
        bytes.extend_from_slice(parts.topic.get(..usize::from(topic_size)).unwrap_or_default());
        let mut properties_at = bytes.len() as u32;
        let mut expiry_at = 0;
        if version.is_v5() {
            let kept = || {
                parts.properties.parts().filter(|(id, _)| {
                    !matches!(
                        id,
                        PropertyId::TopicAlias | PropertyId::SubscriptionIdentifier | PropertyId::WillDelayInterval
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
        Self(ThinArc::from_header_and_slice(Head { facts, size, record: AtomicU64::new(0) }, bytes))
    }

    /// The number under which the bytes are kept on disk; 0 = they are not.
    #[inline]
    pub fn record(&self) -> u64 {
        self.0.header.header.record.load(Ordering::Relaxed)
    }

    /// Whoever keeps the bytes says under which number. Two who do so at the same time both have kept them.
    pub fn set_record(&self, record: u64) {
        self.0.header.header.record.store(record, Ordering::Relaxed);
    }

    /// The Message in a form that outlives the process: what is known about the bytes, in a fixed size, and the bytes.
    /// `began_ms` is when the hall's time was 0, in milliseconds since 1970. Who has published it is not in there.
    pub fn to_stored(&self, began_ms: u64) -> ([u8; STORED_HEAD], &[u8]) {
        let facts = self.facts();
        let flags = facts.qos as u8
            | u8::from(facts.retain) << 2
            | u8::from(facts.expires) << 3
            | u8::from(facts.has_packet_id) << 4
            | u8::from(facts.has_properties) << 5;
        let mut head = [0; STORED_HEAD];
        head[..8].copy_from_slice(&began_ms.saturating_add(facts.born.as_millis()).to_be_bytes());
        head[8..12].copy_from_slice(&facts.properties_at.to_be_bytes());
        head[12..16].copy_from_slice(&facts.payload_at.to_be_bytes());
        head[16..20].copy_from_slice(&facts.expiry_at.to_be_bytes());
        head[20..24].copy_from_slice(&facts.expiry_interval_s.to_be_bytes());
        head[24..26].copy_from_slice(&facts.topic_size.to_be_bytes());
        head[26] = flags;
        (head, self.bytes())
    }

    /// Reads what [`Message::to_stored`] has written. `now_ms` is the time of day; the Message Expiry Interval has run while nobody
    /// was there. `None`: the bytes are no such thing.
    pub fn from_stored(stored: &[u8], origin: Origin, now: Moment, now_ms: u64) -> Option<Self> {
        let (born, rest) = stored.split_first_chunk()?;
        let (properties_at, rest) = rest.split_first_chunk()?;
        let (payload_at, rest) = rest.split_first_chunk()?;
        let (expiry_at, rest) = rest.split_first_chunk()?;
        let (expiry_interval_s, rest) = rest.split_first_chunk()?;
        let (topic_size, rest) = rest.split_first_chunk()?;
        let (flags, bytes) = rest.split_first()?;
        let age_ms = now_ms.saturating_sub(u64::from_be_bytes(*born));
        let waited_s = u32::try_from(age_ms / 1000).unwrap_or(u32::MAX);
        let facts = Facts {
            born: now,
            origin,
            properties_at: u32::from_be_bytes(*properties_at),
            payload_at: u32::from_be_bytes(*payload_at),
            expiry_at: u32::from_be_bytes(*expiry_at),
            expiry_interval_s: u32::from_be_bytes(*expiry_interval_s).saturating_sub(waited_s),
            topic_size: u16::from_be_bytes(*topic_size),
            qos: Qos::from_value(flags & 3)?,
            retain: flags & 1 << 2 != 0,
            expires: flags & 1 << 3 != 0,
            has_packet_id: flags & 1 << 4 != 0,
            has_properties: flags & 1 << 5 != 0,
        };
        let in_order = facts.tail_at() <= facts.properties_at
            && facts.properties_at <= facts.payload_at
            && facts.payload_at as usize <= bytes.len()
            && (facts.expiry_at == 0 || facts.expiry_at.checked_add(4)? <= facts.payload_at);
        in_order.then(|| Self::allocate(facts, bytes))
    }

    #[inline]
    pub(super) fn facts(&self) -> &Facts {
        &self.0.header.header.facts
    }

    #[inline]
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0.slice
    }

    #[inline]
    pub(super) fn bytes_from(&self, offset: u32) -> &[u8] {
        self.bytes().get(offset as usize..).unwrap_or_default()
    }
}

impl Facts {
    /// Where in the stored bytes Topic Name and Packet Identifier are over.
    #[inline]
    pub(super) const fn tail_at(&self) -> u32 {
        2 + self.topic_size as u32 + if self.has_packet_id { PACKET_ID_SIZE as u32 } else { 0 }
    }

    /// What remains of the Message Expiry Interval, begun seconds counted as whole.
    pub(super) fn remaining_s(&self, now: Moment) -> u32 {
        let waited_s = now.since(self.born).as_secs();
        self.expiry_interval_s.saturating_sub(u32::try_from(waited_s).unwrap_or(u32::MAX))
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

/// Bytes of what [`Message::to_stored`] writes in front of the bytes of the packet.
pub const STORED_HEAD: usize = 27;

/// A thread's scratch keeps at most this much between two Messages.
const SCRATCH_KEPT_MAX: usize = 64 * 1024;

thread_local! {
    static LIVE_BYTES: Cell<i64> = const { Cell::new(0) };
}

/// Bytes of all live Messages and [`LiveBytes`] that were made on this thread, minus those that were dropped on it. Negative
/// where more is dropped than made; the sum over all threads is the truth.
pub fn live_bytes() -> i64 {
    LIVE_BYTES.get()
}

/// Bytes that are held beside Messages, for packets that have come in part or wait to be written: counted in [`live_bytes`]
/// as long as this lives.
#[derive(Debug, Default)]
pub struct LiveBytes(usize);

impl LiveBytes {
    pub fn of(size: usize) -> Self {
        let mut live = Self::default();
        live.set(size);
        live
    }

    /// From now on so many are held.
    #[inline]
    pub fn set(&mut self, size: usize) {
        LIVE_BYTES.set(LIVE_BYTES.get() + size as i64 - self.0 as i64);
        self.0 = size;
    }
}

impl Drop for LiveBytes {
    fn drop(&mut self) {
        self.set(0);
    }
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

#[cfg(test)]
mod tests {
    use super::super::{Characters, Header, Limits, Publish, Sender};
    use super::{
        LiveBytes, Message, MessageParts, Moment, Origin, Properties, Property, Qos, Version, Will, live_bytes,
    };

    #[test]
    fn a_will_goes_without_its_delay() {
        let mut storage = Vec::new();
        let properties =
            [Property::WillDelayInterval(5), Property::ContentType("c"), Property::MessageExpiryInterval(u32::MAX)];
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
        assert_eq!(message.property_list().iter().collect::<Vec<_>>(), properties[1..]);
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
    fn what_is_kept_is_the_packet_and_not_what_became_of_its_fields() {
        let limits = Limits {
            packet_size_max: 100,
            user_properties_max: 1,
            property_bytes_max: 100,
            characters: Characters::Strict,
        };
        let packet = b"\x32\x0e\0\x03a/b\0\x01\x04\x03\0\x01cxyz";
        let header = Header::decode(packet, Sender::Client, Version::V5, &limits).expect("good").expect("whole");
        let Ok(mut publish) = Publish::decode(&header, &packet[2..], Version::V5, &limits) else {
            panic!("a good PUBLISH");
        };
        (publish.topic, publish.payload, publish.packet_id) = ("elsewhere", b"longer than it was", None);
        publish.retain = true;
        publish.message_expiry_interval_s = Some(1);
        let message = Message::of_publish(&publish, Version::V5, Origin::new(1), Moment::default());
        assert_eq!((message.topic(), message.payload()), (&b"a/b"[..], &b"xyz"[..]));
        assert_eq!(message.properties(), b"\x03\0\x01c");
        assert!(message.retain());
        assert_eq!(message.expiry_interval_s(), Some(1));
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a thread that is joined at once, to drop something there")]
    fn live_bytes_follow_what_lives() {
        let before = live_bytes();
        let mut beside = LiveBytes::of(100);
        beside.set(700);
        assert_eq!(live_bytes() - before, 700);
        drop(beside);
        let message = Message::new("t", &[0; 1000], Qos::AtMostOnce, false, Moment::default());
        let clone = message.clone();
        assert!(message.is_same(&clone));
        assert!(message.size() >= 1003 + size_of::<super::Head>() && message.size().is_multiple_of(8));
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
