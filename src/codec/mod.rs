//! Bytes to packets and back, for MQTT 5.0, 3.1.1 and 3.1: decoding borrows from the received bytes and
//! checks everything in one pass, encoding appends to a buffer of the caller.
//! It never does I/O, looks at a clock, remembers a connection or decides a policy: bounds come in as [`Limits`].
//! Read `header.rs` next (where a packet begins and ends), then `publish.rs`, `message.rs` and `delivery.rs` (the hot path).

mod auth;
mod connect;
mod delivery;
mod disconnect;
mod header;
mod message;
#[cfg(test)]
mod packets;
mod ping;
mod primitive;
mod properties;
mod publish;
mod reason_code;
mod subscribe;
#[cfg(test)]
mod sweeps;
mod text;
mod topic;
mod unsubscribe;
#[cfg(test)]
mod vectors;

use std::fmt;

pub use auth::Auth;
pub use connect::{ConnAck, ConnAckProperties, Connect, Protocol, UnknownProtocol, Will, protocol};
pub use delivery::{Delivery, OutAlias, encode_publish, publish_size};
pub use disconnect::Disconnect;
pub use header::{Header, PacketType, Sender};
pub use message::{LiveBytes, Message, MessageParts, Origin, STORED_HEAD, live_bytes};
pub use ping::{encode_pingreq, encode_pingresp};
pub use primitive::{BODY_SIZE_MAX, Moment, PACKET_SIZE_MAX, PacketId, Qos, Version};
pub use properties::{Place, Properties, Property, PropertyId, UserProperties};
pub use publish::{Ack, Publish, encode_ack};
pub use reason_code::ReasonCode;
pub use subscribe::{Filters, Options, RetainHandling, SubAck, Subscribe, encode_suback};
pub use topic::{SubscriptionFilter, TopicLimits, check_filter, check_name, filter_matches};
pub use unsubscribe::{TopicFilters, UnsubAck, Unsubscribe, encode_unsuback};

use primitive::malformed;

/// A peer's fault that ends the Network Connection [MQTT-4.13.1-1] [MQTT-3.1.1: 4.8.0-1].
///
/// `reason` is what an MQTT 5 peer is told. `why` is a short English fragment for the log and the Reason String;
/// it is fixed text, so nothing of the input gets into either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Violation {
    pub reason: ReasonCode,
    pub why: &'static str,
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} (0x{:02x})", self.why, self.reason.value())
    }
}

impl std::error::Error for Violation {}

/// What one Network Connection accepts. All bounds are the caller's; the codec has no defaults of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest packet in bytes, fixed header included. Above it: 0x95, known from the fixed header alone.
    pub packet_size_max: u32,
    /// Most User Properties in one property section. Above it: 0x97.
    pub user_properties_max: u16,
    /// Most bytes in one property section. Above it: 0x97.
    pub property_bytes_max: u32,
    pub characters: Characters,
}

/// Whether the characters that the standard discourages pass in Topic Names, Topic Filters, Response Topics,
/// Will Topics and Client Identifiers: U+0001 to U+001F, U+007F to U+009F and the Unicode non-characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Characters {
    /// They make the packet malformed (0x81), and the Client Identifier not valid (0x85).
    Strict,
    Lenient,
}

/// One MQTT Control Packet, borrowed from the bytes it came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    Connect(Connect<'a>),
    ConnAck(ConnAck<'a>),
    Publish(Publish<'a>),
    PubAck(Ack<'a>),
    PubRec(Ack<'a>),
    PubRel(Ack<'a>),
    PubComp(Ack<'a>),
    Subscribe(Subscribe<'a>),
    SubAck(SubAck<'a>),
    Unsubscribe(Unsubscribe<'a>),
    UnsubAck(UnsubAck<'a>),
    PingReq,
    PingResp,
    Disconnect(Disconnect<'a>),
    Auth(Auth<'a>),
}

impl<'a> Packet<'a> {
    /// Decodes the `body` that follows `header`: exactly `header.body_size()` bytes.
    ///
    /// A CONNECT says its own version, so `version` counts for all other packets only. After an error the packet
    /// had no effect, and nothing of it may have one: the Network Connection has to end.
    #[inline]
    pub fn decode(header: &Header, body: &'a [u8], version: Version, limits: &Limits) -> Result<Self, Violation> {
        if body.len() != header.body_size() {
            return Err(malformed("the packet is not as long as its fixed header says"));
        }
        match header.kind() {
            PacketType::Publish => Publish::decode(header, body, version, limits).map(Self::Publish),
            PacketType::PubAck => Ack::decode(header, body, version, limits).map(Self::PubAck),
            PacketType::PubRec => Ack::decode(header, body, version, limits).map(Self::PubRec),
            PacketType::PubRel => Ack::decode(header, body, version, limits).map(Self::PubRel),
            PacketType::PubComp => Ack::decode(header, body, version, limits).map(Self::PubComp),
            PacketType::PingReq => Ok(Self::PingReq),
            PacketType::PingResp => Ok(Self::PingResp),
            PacketType::Connect => Connect::decode(body, limits).map(Self::Connect),
            PacketType::ConnAck => ConnAck::decode(body, version, limits).map(Self::ConnAck),
            PacketType::Subscribe => Subscribe::decode(body, version, limits).map(Self::Subscribe),
            PacketType::SubAck => SubAck::decode(body, version, limits).map(Self::SubAck),
            PacketType::Unsubscribe => Unsubscribe::decode(body, version, limits).map(Self::Unsubscribe),
            PacketType::UnsubAck => UnsubAck::decode(body, version, limits).map(Self::UnsubAck),
            PacketType::Disconnect => Disconnect::decode(header, body, version, limits).map(Self::Disconnect),
            PacketType::Auth => Auth::decode(header, body, limits).map(Self::Auth),
        }
    }

    /// Appends the packet to `out`, in the form that `version` has for it; a CONNECT is written in its own version.
    ///
    /// What an older version cannot say (properties, most Reason Codes) is left out; a packet that it does not have
    /// at all appends nothing: AUTH, and a CONNACK whose code has no counterpart [MQTT-3.1.1: 3.2.2-6].
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        match self {
            Self::Connect(connect) => connect.encode(out),
            Self::ConnAck(connack) => connack.encode(version, out),
            Self::Publish(publish) => publish.encode(version, out),
            Self::PubAck(ack) => ack.encode(PacketType::PubAck, version, out),
            Self::PubRec(ack) => ack.encode(PacketType::PubRec, version, out),
            Self::PubRel(ack) => ack.encode(PacketType::PubRel, version, out),
            Self::PubComp(ack) => ack.encode(PacketType::PubComp, version, out),
            Self::Subscribe(subscribe) => subscribe.encode(version, out),
            Self::SubAck(suback) => suback.encode(version, out),
            Self::Unsubscribe(unsubscribe) => unsubscribe.encode(version, out),
            Self::UnsubAck(unsuback) => unsuback.encode(version, out),
            Self::PingReq => encode_pingreq(out),
            Self::PingResp => encode_pingresp(out),
            Self::Disconnect(disconnect) => disconnect.encode(version, out),
            Self::Auth(auth) => auth.encode(version, out),
        }
    }
}
