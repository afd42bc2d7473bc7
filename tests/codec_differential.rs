//! The codec against three others, each written by other people: mqttbytes, rmqtt-codec and mqtt5-protocol. Every packet
//! of the tables, every cut of it and many mutations go through all of them; each difference is a row below that says
//! who is right by which clause, a difference without a row fails, and so does a row without a difference.
//! `SEED=… CASES=… cargo test --test codec_differential` looks further.

#[path = "../src/codec/packets.rs"]
mod packets;
#[path = "support/random.rs"]
#[allow(unreachable_pub, reason = "other test programs share it")]
mod random;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::BytesMut;
use mqtt5_protocol::FixedHeader;
use mqtt5_protocol::packet::MqttPacket;
use mqtt5_protocol::packet::pingreq::PingReqPacket;
use mqtt5_protocol::packet::pingresp::PingRespPacket;
use random::{Random, from_environment};
use rmqtt_codec::error::{DecodeError, EncodeError};
use tokio_util::codec::{Decoder, Encoder};
use waypost::codec::{Characters, Header, Limits, Packet, PacketType, ReasonCode, Sender, Version, protocol};

use crate::Codec::{Mqtt5V4, Mqtt5V5, MqttBytesV4, MqttBytesV5, RmqttV3, RmqttV5};

/// The other codecs, by the part of them that does the version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Codec {
    MqttBytesV5,
    MqttBytesV4,
    RmqttV5,
    RmqttV3,
    Mqtt5V5,
    Mqtt5V4,
}

const ALL: &[Codec] = &[MqttBytesV5, MqttBytesV4, RmqttV5, RmqttV3, Mqtt5V5, Mqtt5V4];
const ALL_V5: &[Codec] = &[MqttBytesV5, RmqttV5, Mqtt5V5];
const ALL_BUT_MQTT5: &[Codec] = &[MqttBytesV5, MqttBytesV4, RmqttV5, RmqttV3];

/// What we refuse in these words, who accepts it in some packet, and the clause that demands the refusal: a statement of
/// MQTT 5.0, of 3.1.1 where it says so, or a section where the text has no number of its own.
#[rustfmt::skip]
const THEY_ACCEPT: &[(&str, &[Codec], &str)] = &[
    // The fixed header.
    ("packet type 15", &[Mqtt5V4], "3.1.1 section 2.2.1: reserved, forbidden"),
    ("flags of the fixed header that this packet cannot have", &[MqttBytesV5, MqttBytesV4], "MQTT-2.1.3-1; 3.1.1 MQTT-2.2.2-2"),
    ("DUP on a PUBLISH of QoS 0", ALL_BUT_MQTT5, "MQTT-3.3.1-2; 3.1.1 MQTT-3.3.1-2"),
    ("a Remaining Length that is not in its shortest form", ALL, "MQTT-1.5.5-1; in 3.1.1 our choice, the same everywhere"),
    ("a Remaining Length that this packet cannot have", ALL, "sections 3.2 to 3.15: more or fewer bytes than its fields take"),
    // CONNECT and CONNACK.
    ("an unknown protocol level", &[RmqttV3, Mqtt5V5, Mqtt5V4], "MQTT-3.1.2-2; 3.1.1 MQTT-3.1.2-2"),
    ("a CONNECT of another version", &[MqttBytesV5, MqttBytesV4, Mqtt5V5, Mqtt5V4], "section 3.1.2.2: the level decides the layout"),
    ("the reserved flag of CONNECT is set", &[MqttBytesV5, MqttBytesV4], "MQTT-3.1.2-3; 3.1.1 MQTT-3.1.2-3"),
    ("flags of a Will without a Will", &[RmqttV5], "MQTT-3.1.2-11, MQTT-3.1.2-13"),
    ("a Will of QoS 3", &[RmqttV5], "MQTT-3.1.2-12: it is not looked at without a Will"),
    ("a password without a user name", &[MqttBytesV4, RmqttV3], "3.1.1 MQTT-3.1.2-22"),
    ("an empty Will Topic", ALL, "MQTT-4.7.3-1; 3.1.1 MQTT-4.7.3-1"),
    ("a Receive Maximum of 0", &[MqttBytesV5, Mqtt5V5], "section 3.1.2.11.3"),
    ("a Maximum Packet Size of 0", ALL_V5, "sections 3.1.2.11.4 and 3.2.2.3.6; rmqtt-codec in CONNACK only"),
    ("Authentication Data without an Authentication Method", ALL_V5, "section 3.1.2.11.10"),
    ("reserved flags of CONNACK are set", &[MqttBytesV5, MqttBytesV4], "MQTT-3.2.2-1"),
    ("a Session that is present in a CONNACK that refuses", ALL, "MQTT-3.2.2-6; 3.1.1 MQTT-3.2.2-4"),
    ("a return code of CONNACK that is not defined", &[RmqttV3, Mqtt5V4], "3.1.1 section 3.2.2.3: reserved"),
    ("a Maximum QoS other than 0 and 1", ALL_V5, "section 3.2.2.3.4"),
    // Strings and topics.
    ("U+0000 in a string", ALL_BUT_MQTT5, "MQTT-1.5.4-2; 3.1.1 MQTT-1.5.3-2"),
    ("U+0000 in a topic", ALL_BUT_MQTT5, "MQTT-1.5.4-2, MQTT-4.7.3-2; 3.1.1 MQTT-1.5.3-2"),
    ("a wildcard in a Topic Name", ALL, "MQTT-3.3.2-2, MQTT-4.7.0-1; 3.1.1 MQTT-3.3.2-2"),
    ("a PUBLISH with neither Topic Name nor Topic Alias", &[MqttBytesV5, MqttBytesV4, RmqttV5, Mqtt5V5, Mqtt5V4], "MQTT-4.7.3-1, section 3.3.2.1; 3.1.1 MQTT-4.7.3-1"),
    ("a Response Topic that is no Topic Name", ALL_V5, "MQTT-3.3.2-14, MQTT-4.7.3-1"),
    // Fields and properties.
    ("Packet Identifier 0", &[MqttBytesV5, MqttBytesV4, Mqtt5V5, Mqtt5V4], "MQTT-2.2.1-3, MQTT-2.2.1-4; 3.1.1 MQTT-2.3.1-1"),
    ("bytes behind the last field", ALL, "section 1.2: a packet that cannot be parsed as specified is malformed"),
    ("a field reaches beyond its end", &[MqttBytesV5], "section 2.2.2: properties are read beyond the Property Length"),
    ("a Variable Byte Integer that is not in its shortest form", ALL_V5, "MQTT-1.5.5-1"),
    ("a property that is not defined", &[MqttBytesV5, Mqtt5V5], "section 2.2.2.2: what lies beyond the Property Length, and identifiers that are not in their shortest form"),
    ("a property that does not belong into this packet", &[Mqtt5V5], "section 2.2.2.2: not looked at when reading"),
    ("a property twice", &[MqttBytesV5, Mqtt5V5], "section 2.2.2.2: the last one counts; in mqtt5-protocol the Subscription Identifier of SUBSCRIBE only"),
    ("a property of one bit that is neither 0 nor 1", &[MqttBytesV5, Mqtt5V5], "sections 3.1.2.11.6, 3.2.2.3.5 and 3.3.2.3.2"),
    ("a Topic Alias of 0", &[MqttBytesV5, Mqtt5V5], "MQTT-3.3.2-8"),
    ("a Subscription Identifier of 0", &[MqttBytesV5, Mqtt5V5], "sections 3.3.2.3.8 and 3.8.2.1.2"),
    // SUBSCRIBE, UNSUBSCRIBE and their answers.
    ("a SUBSCRIBE without a Topic Filter", &[MqttBytesV5, MqttBytesV4], "MQTT-3.8.3-2; 3.1.1 MQTT-3.8.3-3"),
    ("an UNSUBSCRIBE without a Topic Filter", &[MqttBytesV5, MqttBytesV4], "MQTT-3.10.3-2; 3.1.1 MQTT-3.10.3-2"),
    ("reserved bits of the Subscription Options are set", &[MqttBytesV5, MqttBytesV4, RmqttV3, Mqtt5V4], "MQTT-3.8.3-5; 3.1.1 MQTT-3-8.3-4"),
    ("a subscription of QoS 3", &[Mqtt5V4], "3.1.1 MQTT-3-8.3-4"),
    ("No Local on a Shared Subscription", ALL_V5, "MQTT-3.8.3-4"),
    ("a return code of SUBACK that is not defined", &[Mqtt5V4], "3.1.1 MQTT-3.9.3-2"),
    ("a SUBACK without a Reason Code", &[RmqttV5], "MQTT-3.8.4-6"),
    ("an UNSUBACK without a Reason Code", &[RmqttV5], "MQTT-3.11.3-2"),
    // DISCONNECT and AUTH.
    ("a Reason Code that is not defined", &[Mqtt5V5], "MQTT-3.15.2-1: AUTH takes any byte"),
    ("something that neither side may send", ALL_V5, "MQTT-3.14.2-1, MQTT-3.14.2-2, MQTT-3.15.2-1: codes and properties of the other side"),
    ("an AUTH without an Authentication Method", &[RmqttV5, Mqtt5V5], "section 3.15.2.2.2"),
];

/// What we accept and they refuse, with the beginning of their error, and the clause that allows it.
#[rustfmt::skip]
const THEY_REFUSE: &[(Codec, PacketType, &str, &str)] = &[
    (MqttBytesV5, PacketType::Auth, "InvalidPacketType", "section 3.15; enhanced authentication is unknown to it"),
    (MqttBytesV5, PacketType::Connect, "TopicNotUtf8", "section 3.1.3.6: the password is Binary Data"),
    (MqttBytesV5, PacketType::Disconnect, "PayloadRequired", "section 3.14.2.1: the commonest DISCONNECT has no body"),
    (MqttBytesV5, PacketType::Disconnect, "InvalidConnectReturnCode", "section 2.4 gives 0x8C to DISCONNECT, the table of 3.14.2.1 lacks it"),
    (MqttBytesV4, PacketType::Connect, "TopicNotUtf8", "3.1.1 section 3.1.3.5: the password is binary"),
    (MqttBytesV4, PacketType::Connect, "InvalidProtocolLevel", "the bridge bit in the level, a convention beside the standard"),
    (RmqttV5, PacketType::Publish, "MalformedPacket", "section 3.3.2.3.3: a Message Expiry Interval may be 0"),
    (RmqttV5, PacketType::Connect, "MalformedPacket", "section 3.1.3.2.4: a Message Expiry Interval of a Will may be 0"),
    (RmqttV5, PacketType::Connect, "InvalidClientId", "MQTT-3.1.3-6: an empty Client Identifier is assigned one, whatever Clean Start says"),
    (RmqttV3, PacketType::Connect, "UnsupportedProtocolLevel", "the bridge bit in the level, a convention beside the standard"),
    (RmqttV3, PacketType::Connect, "InvalidClientId", "3.1.1 MQTT-3.1.3-8: an empty Client Identifier is answered, by whoever has the Session"),
    (RmqttV3, PacketType::Connect, "InvalidLength", "3.1 section 3.1: credentials may be missing that the flags announce"),
    (RmqttV3, PacketType::ConnAck, "ConnAckReservedFlagSet", "3.1 section 3.2: this byte is reserved and not used"),
    (RmqttV3, PacketType::PubRel, "UnsupportedPacketType", "3.1 section 2.1: DUP is set on a repeated PUBREL"),
    (RmqttV3, PacketType::Subscribe, "UnsupportedPacketType", "3.1 section 2.1: DUP is set on a repeated SUBSCRIBE"),
    (RmqttV3, PacketType::Unsubscribe, "UnsupportedPacketType", "3.1 section 2.1: DUP is set on a repeated UNSUBSCRIBE"),
    (RmqttV3, PacketType::Subscribe, "InvalidTopicFilter", "3.1.1 section 3.9.3: one bad filter has a code of its own, 0x80"),
    (RmqttV3, PacketType::Unsubscribe, "InvalidTopicFilter", "3.1.1 MQTT-3.10.4-5: a filter that nobody can have subscribed is answered like any other"),
    (Mqtt5V5, PacketType::Connect, "MalformedPacket(\"Password without username", "MQTT-3.1.2-19: allowed since 5.0"),
    (Mqtt5V5, PacketType::Disconnect, "MalformedPacket(\"Invalid DISCONNECT reason code: BadAuth", "section 2.4 gives 0x8C to DISCONNECT, the table of 3.14.2.1 lacks it"),
];

/// Who asks for more bytes although the packet is whole, which lets one packet stall a connection.
#[rustfmt::skip]
const THEY_WAIT: &[(Codec, &str)] = &[
    (MqttBytesV5, "a field that ends too early is reported as if the stream did; so is a DISCONNECT with a Reason Code only"),
];

/// What both accept and they write back with another meaning, or in a form that we refuse.
#[rustfmt::skip]
const THEY_REWRITE: &[(Codec, PacketType, &str)] = &[
    (MqttBytesV5, PacketType::Connect, "an empty user name or password is written as absent: section 3.1.2.8"),
    (MqttBytesV4, PacketType::Connect, "an empty user name or password is written as absent: 3.1.1 section 3.1.2.8"),
    (MqttBytesV5, PacketType::ConnAck, "without properties the Property Length is left out: MQTT-2.2.2-1"),
    (MqttBytesV5, PacketType::Publish, "the Property Length counts one byte for every Subscription Identifier: section 3.3.2.3.8"),
    (RmqttV5, PacketType::ConnAck, "a property whose value is the default is left out, which is allowed, and means the same"),
    (RmqttV5, PacketType::Publish, "a Payload Format Indicator of 0 gets lost: MQTT-3.3.2-4"),
    (RmqttV3, PacketType::Connect, "MQIsdp is written with level 4: 3.1 section 3.1"),
    (Mqtt5V5, PacketType::Connect, "properties come out in an order of chance, which is allowed; User Properties keep theirs"),
    (Mqtt5V5, PacketType::Publish, "properties come out in an order of chance, which is allowed; User Properties keep theirs"),
];

/// Limits that nobody meets, and none of the characters that only our setting refuses.
const LIMITS: Limits = Limits {
    packet_size_max: 1 << 20,
    user_properties_max: 64,
    property_bytes_max: 1 << 16,
    characters: Characters::Lenient,
};

#[test]
fn every_difference_has_a_row_and_every_row_a_difference() {
    let inputs = inputs();
    let mut found = BTreeMap::new();
    for (version, bytes) in &inputs {
        for &codec in codecs(*version) {
            if let Some(difference) = difference(codec, *version, bytes) {
                found.entry(difference).or_insert_with(|| hex(bytes));
            }
        }
    }
    let explained = explained();
    let surprises: Vec<_> = found.iter().filter(|(difference, _)| !explained.contains(*difference)).collect();
    assert!(surprises.is_empty(), "differences without a row: {surprises:#?}");
    let idle: Vec<_> = explained.iter().filter(|difference| !found.contains_key(*difference)).collect();
    assert!(idle.is_empty(), "rows without a difference: {idle:#?}");
}

/// What another codec does and we do not.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Difference {
    Accepts(Codec, String),
    /// Of the error, as much as a row has, or all of it if there is no row.
    Refuses(Codec, PacketType, String),
    Waits(Codec),
    Panics(Codec),
    Rewrites(Codec, PacketType),
}

fn explained() -> BTreeSet<Difference> {
    let accept = THEY_ACCEPT
        .iter()
        .flat_map(|(why, codecs, _)| codecs.iter().map(|&codec| Difference::Accepts(codec, (*why).to_owned())));
    let refuse = THEY_REFUSE.iter().map(|&(codec, kind, error, _)| Difference::Refuses(codec, kind, error.to_owned()));
    let wait = THEY_WAIT.iter().map(|&(codec, _)| Difference::Waits(codec));
    let rewrite = THEY_REWRITE.iter().map(|&(codec, kind, _)| Difference::Rewrites(codec, kind));
    accept.chain(refuse).chain(wait).chain(rewrite).collect()
}

fn codecs(version: Version) -> &'static [Codec] {
    match version {
        Version::V3_1 => &[RmqttV3],
        Version::V3_1_1 => &[MqttBytesV4, RmqttV3, Mqtt5V4],
        Version::V5 => ALL_V5,
    }
}

/// What one codec makes of a buffer.
enum Theirs {
    /// It read a packet, and this is what it writes for it.
    Accepts(Result<Vec<u8>, String>),
    Refuses(String),
    Waits,
    Panics,
}

fn difference(codec: Codec, version: Version, bytes: &[u8]) -> Option<Difference> {
    let ours = decode(bytes, version);
    let theirs = catch_unwind(AssertUnwindSafe(|| run(codec, bytes))).unwrap_or(Theirs::Panics);
    match (ours, theirs) {
        (_, Theirs::Panics) => Some(Difference::Panics(codec)),
        // What is refused by its fixed header may still be waited for.
        (Err(_), Theirs::Refuses(_)) => None,
        (Err(_), Theirs::Waits) => is_whole(bytes).then_some(Difference::Waits(codec)),
        (Err(why), Theirs::Accepts(_)) => Some(Difference::Accepts(codec, why.to_owned())),
        (Ok(_), Theirs::Waits) => Some(Difference::Waits(codec)),
        (Ok(packet), Theirs::Refuses(error)) => {
            let kind = PacketType::ALL[usize::from(bytes[0] >> 4) - 1];
            let row = THEY_REFUSE.iter().find(|(named, named_kind, begin, _)| {
                (*named, *named_kind) == (codec, kind) && error.starts_with(begin)
            });
            let error = row.map_or_else(|| format!("{error} for {packet:?}"), |row| row.2.to_owned());
            Some(Difference::Refuses(codec, kind, error))
        }
        (Ok(packet), Theirs::Accepts(written)) => {
            let is_same = written.is_ok_and(|written| decode(&written, version) == Ok(packet));
            let kind = PacketType::ALL[usize::from(bytes[0] >> 4) - 1];
            (!is_same).then_some(Difference::Rewrites(codec, kind))
        }
    }
}

/// Whether the buffer holds all of the packet that its fixed header declares, in one byte of length.
fn is_whole(bytes: &[u8]) -> bool {
    matches!(bytes, [_, size @ 0..0x80, body @ ..] if body.len() >= usize::from(*size))
}

/// Our verdict: the packet, or in which words it is refused. The other codecs do not know which side sent it, so it is
/// enough if one of the two may send it.
fn decode(bytes: &[u8], version: Version) -> Result<Packet<'_>, &'static str> {
    const OF_ONE_SIDE: &[&str] = &[
        "a packet that this side never sends",
        "a Reason Code that this packet cannot have",
        "a Subscription Identifier in a Client's PUBLISH",
        "a Session Expiry Interval in a Server's DISCONNECT",
    ];
    let by_client = decode_from(bytes, Sender::Client, version);
    let by_server = decode_from(bytes, Sender::Server, version);
    match (by_client, by_server) {
        (Ok(packet), _) | (_, Ok(packet)) => Ok(packet),
        (Err(why), Err(_)) if !OF_ONE_SIDE.contains(&why) => Err(why),
        (Err(_), Err(why)) if !OF_ONE_SIDE.contains(&why) => Err(why),
        (Err(_), Err(_)) => Err("something that neither side may send"),
    }
}

fn decode_from(bytes: &[u8], from: Sender, version: Version) -> Result<Packet<'_>, &'static str> {
    let header = Header::decode(bytes, from, version, &LIMITS)
        .map_err(|violation| violation.why)?
        .ok_or("the fixed header is not whole")?;
    let body = bytes.get(header.header_size()..header.packet_size()).ok_or("the packet is not whole")?;
    if header.kind() == PacketType::Connect
        && protocol(body, true)
            .is_ok_and(|protocol| protocol.is_some_and(|protocol| protocol.version.is_v5() != version.is_v5()))
    {
        return Err("a CONNECT of another version");
    }
    Packet::decode(&header, body, version, &LIMITS).map_err(|violation| violation.why)
}

fn run(codec: Codec, bytes: &[u8]) -> Theirs {
    match codec {
        MqttBytesV5 => mqttbytes_v5(bytes),
        MqttBytesV4 => mqttbytes_v4(bytes),
        RmqttV5 => {
            let mut codec = rmqtt_codec::v5::Codec::new(LIMITS.packet_size_max, 0);
            rmqtt(codec.decode(&mut bytes.into()), |packet, out| rmqtt_codec::v5::Codec::new(0, 0).encode(packet, out))
        }
        RmqttV3 => {
            let mut codec = rmqtt_codec::v3::Codec::new(LIMITS.packet_size_max);
            rmqtt(codec.decode(&mut bytes.into()), |packet, out| rmqtt_codec::v3::Codec::new(0).encode(packet, out))
        }
        Mqtt5V5 => mqtt5(bytes, 5),
        Mqtt5V4 => mqtt5(bytes, 4),
    }
}

fn mqttbytes_v5(bytes: &[u8]) -> Theirs {
    use mqttbytes::v5::{Packet, PingReq, PingResp, read};
    let packet = match read(&mut bytes.into(), LIMITS.packet_size_max as usize) {
        Ok(packet) => packet,
        Err(mqttbytes::Error::InsufficientBytes(_)) => return Theirs::Waits,
        Err(error) => return Theirs::Refuses(format!("{error:?}")),
    };
    let mut out = BytesMut::new();
    let written = match packet {
        Packet::Connect(packet) => packet.write(&mut out),
        Packet::ConnAck(packet) => packet.write(&mut out),
        Packet::Publish(packet) => packet.write(&mut out),
        Packet::PubAck(packet) => packet.write(&mut out),
        Packet::PubRec(packet) => packet.write(&mut out),
        Packet::PubRel(packet) => packet.write(&mut out),
        Packet::PubComp(packet) => packet.write(&mut out),
        Packet::Subscribe(packet) => packet.write(&mut out),
        Packet::SubAck(packet) => packet.write(&mut out),
        Packet::Unsubscribe(packet) => packet.write(&mut out),
        Packet::UnsubAck(packet) => packet.write(&mut out),
        Packet::PingReq => PingReq.write(&mut out),
        Packet::PingResp => PingResp.write(&mut out),
        Packet::Disconnect(packet) => packet.write(&mut out),
    };
    accepted(written, &out)
}

fn mqttbytes_v4(bytes: &[u8]) -> Theirs {
    use mqttbytes::v4::{Disconnect, Packet, PingReq, PingResp, read};
    let packet = match read(&mut bytes.into(), LIMITS.packet_size_max as usize) {
        Ok(packet) => packet,
        Err(mqttbytes::Error::InsufficientBytes(_)) => return Theirs::Waits,
        Err(error) => return Theirs::Refuses(format!("{error:?}")),
    };
    let mut out = BytesMut::new();
    let written = match packet {
        Packet::Connect(packet) => packet.write(&mut out),
        Packet::ConnAck(packet) => packet.write(&mut out),
        Packet::Publish(packet) => packet.write(&mut out),
        Packet::PubAck(packet) => packet.write(&mut out),
        Packet::PubRec(packet) => packet.write(&mut out),
        Packet::PubRel(packet) => packet.write(&mut out),
        Packet::PubComp(packet) => packet.write(&mut out),
        Packet::Subscribe(packet) => packet.write(&mut out),
        Packet::SubAck(packet) => packet.write(&mut out),
        Packet::Unsubscribe(packet) => packet.write(&mut out),
        Packet::UnsubAck(packet) => packet.write(&mut out),
        Packet::PingReq => PingReq.write(&mut out),
        Packet::PingResp => PingResp.write(&mut out),
        Packet::Disconnect => Disconnect.write(&mut out),
    };
    accepted(written, &out)
}

fn rmqtt<P>(
    read: Result<Option<(P, u32)>, DecodeError>,
    write: impl FnOnce(P, &mut BytesMut) -> Result<(), EncodeError>,
) -> Theirs {
    match read {
        Ok(Some((packet, _))) => {
            let mut out = BytesMut::new();
            let written = write(packet, &mut out);
            accepted(written, &out)
        }
        Ok(None) => Theirs::Waits,
        Err(error) => Theirs::Refuses(format!("{error:?}")),
    }
}

fn mqtt5(bytes: &[u8], level: u8) -> Theirs {
    use mqtt5_protocol::Packet;
    let mut rest = bytes;
    let header = match FixedHeader::decode(&mut rest) {
        Ok(header) => header,
        Err(error) => return Theirs::Refuses(format!("{error:?}")),
    };
    let Some(mut body) = rest.get(..header.remaining_length as usize) else {
        return Theirs::Waits;
    };
    let read = Packet::decode_from_body_with_version(header.packet_type, &header, &mut body, level);
    let packet = match read {
        Ok(packet) => packet,
        Err(error) => return Theirs::Refuses(format!("{error:?}")),
    };
    let mut out = BytesMut::new();
    let written = match packet {
        Packet::Connect(packet) => packet.encode(&mut out),
        Packet::ConnAck(packet) => packet.encode(&mut out),
        Packet::Publish(packet) => packet.encode(&mut out),
        Packet::PubAck(packet) => packet.encode(&mut out),
        Packet::PubRec(packet) => packet.encode(&mut out),
        Packet::PubRel(packet) => packet.encode(&mut out),
        Packet::PubComp(packet) => packet.encode(&mut out),
        Packet::Subscribe(packet) => packet.encode(&mut out),
        Packet::SubAck(packet) => packet.encode(&mut out),
        Packet::Unsubscribe(packet) => packet.encode(&mut out),
        Packet::UnsubAck(packet) => packet.encode(&mut out),
        Packet::PingReq => PingReqPacket::default().encode(&mut out),
        Packet::PingResp => PingRespPacket::default().encode(&mut out),
        Packet::Disconnect(packet) => packet.encode(&mut out),
        Packet::Auth(packet) => packet.encode(&mut out),
    };
    accepted(written, &out)
}

fn accepted<T, E: std::fmt::Debug>(written: Result<T, E>, out: &[u8]) -> Theirs {
    Theirs::Accepts(written.map(|_| out.to_vec()).map_err(|error| format!("{error:?}")))
}

/// The tables, a few packets that chance seldom finds, every cut with its length made right, and mutations of all that.
fn inputs() -> Vec<(Version, Vec<u8>)> {
    let mut inputs = Vec::new();
    inputs.extend(packets::VALID.iter().map(|&(_, version, hex)| (version, packets::bytes(hex))));
    inputs.extend(packets::VALID_OTHERWISE.iter().map(|&(_, version, hex, _)| (version, packets::bytes(hex))));
    inputs.extend(packets::REFUSED.iter().map(|&(_, version, hex, _)| (version, packets::bytes(hex))));
    inputs.extend(SELDOM.iter().map(|&(version, hex)| (version, packets::bytes(hex))));
    let whole = inputs.len();
    for index in 0..whole {
        let (version, packet) = inputs[index].clone();
        for end in 2..packet.len() {
            let mut cut = packet[..end].to_vec();
            cut[1] = (end - 2) as u8;
            inputs.push((version, cut));
        }
    }
    let mut random = Random(from_environment("SEED", 1));
    for _ in 0..from_environment("CASES", 30_000) {
        let (version, mut packet) = inputs[random.below(whole)].clone();
        for _ in 0..=random.below(2) {
            mutate(&mut packet, &mut random);
        }
        inputs.push((version, packet));
    }
    inputs
}

const SELDOM: &[(Version, &str)] = &[
    (Version::V5, "100c 0004 4d515454 04 02 0000 0000"),
    (Version::V3_1_1, "100d 0004 4d515454 05 02 003c 00 0000"),
    (Version::V3_1_1, "100d 0004 4d515454 03 02 003c 0001 63"),
    (Version::V3_1_1, "1013 0004 4d515454 04 c2 003c 0001 63 0001 75 0001 80"),
    (Version::V3_1_1, "1013 0004 4d515454 04 c2 003c 0001 63 0001 75 0000 "),
    (Version::V5, "100d 0004 4d515454 05 00 003c 00 0000"),
    (Version::V5, "100e 0004 4d515454 05 1a 003c 00 0001 63"),
    (Version::V5, "1019 0004 4d515454 05 06 003c 00 0001 63 05 0200000000 0001 77 0000"),
    (Version::V5, "2008 00 00 05 2700000000"),
    (Version::V5, "3007 0001 61 03 8100 00"),
    (Version::V5, "e014 9c 11 11 11111111 1f0001 72 1c0003 737276 0000"),
    (Version::V3_1_1, "e08000"),
    (Version::V3_1_1, "3803 0001 61"),
    (Version::V5, "e007 8e 05 1100000001"),
    (Version::V5, "e001 8c"),
    (Version::V5, "f006 b8 04 160001 01"),
    (Version::V5, "f002 02 00"),
    (Version::V5, "9003 0001 00"),
    (Version::V3_1_1, "8205 0001 0000 00"),
    (Version::V3_1_1, "a204 0001 0000"),
];

/// One fault, after which the packet still has a fixed header, whose length is mostly right.
fn mutate(packet: &mut Vec<u8>, random: &mut Random) {
    let place = random.below(packet.len());
    match random.below(5) {
        0 => packet[place] ^= 1 << random.below(8),
        1 => packet[place] = [0, 1, 2, 0x7f, 0x80, 0xff][random.below(6)],
        2 => packet.insert(place, [0, 1, b'a', b'+', b'#', 0x26][random.below(6)]),
        3 if packet.len() > 2 => {
            packet.remove(place);
        }
        _ => {
            let end = place + random.below(packet.len() - place);
            let copied = packet[place..end].to_vec();
            packet.splice(place..place, copied);
        }
    }
    if random.below(8) != 0 {
        packet[1] = (packet.len() - 2).min(0x7f) as u8;
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
