//! Guard benchmarks of the codec: from the bytes of a packet to one that borrows them or a Message that owns a copy, and from a
//! Message or an acknowledgement to bytes. `guards/main.rs` says how they are run.
//!
//! A program of their own: in one with the hall the compiler inlines less of the codec, and that would be what is measured.

#![allow(unused_qualifications, reason = "gungraun's macros write them")]

#[path = "guards/limits.rs"]
mod limits;

use std::hint::black_box;

use gungraun::prelude::*;
use limits::at_most;
use waypost::codec::{
    Characters, Delivery, Header, Limits, Message, Moment, Origin, Packet, PacketId, PacketType, Properties, Property,
    Publish, Qos, ReasonCode, Sender, Version, Violation, encode_ack, encode_publish,
};

const LIMITS: Limits = Limits {
    packet_size_max: 1 << 20,
    user_properties_max: 64,
    property_bytes_max: 1 << 16,
    characters: Characters::Strict,
};
const TOPIC: &str = "plant/hall-07/line-03/machine-0042/state";
const PAYLOAD: [u8; 80] = [b'x'; 80];
const NOW: Moment = Moment::from_millis(1_000);
const TIMES: u64 = 1_000;

// --- from bytes ------------------------------------------------------------------------------------------------------

struct Received {
    bytes: Vec<u8>,
    version: Version,
}

fn publish(version: Version) -> Received {
    publish_with(version, &[])
}

fn publish_with(version: Version, properties: &[Property<'_>]) -> Received {
    let mut storage = Vec::new();
    let properties = Properties::write(properties, &mut storage);
    let mut bytes = Vec::new();
    Packet::Publish(Publish::new(TOPIC, &PAYLOAD).with_properties(properties)).encode(version, &mut bytes);
    Received { bytes, version }
}

fn publish_with_3_user_properties(version: Version) -> Received {
    let properties = [
        Property::UserProperty("unit", "kelvin"),
        Property::UserProperty("source", "sensor-12"),
        Property::UserProperty("schema", "state/v3"),
    ];
    publish_with(version, &properties)
}

fn puback(version: Version) -> Received {
    Received { bytes: vec![0x40, 2, 0, 7], version }
}

// 690, 1,842 and 670.
#[library_benchmark]
#[bench::publish(args = (Version::V5), setup = publish, config = at_most(700, TIMES))]
#[bench::publish_3_user_properties(
    args = (Version::V5), setup = publish_with_3_user_properties, config = at_most(1_900, TIMES)
)]
#[bench::publish_3_1_1(args = (Version::V3_1_1), setup = publish, config = at_most(700, TIMES))]
fn own(received: Received) -> Received {
    for _ in 0..TIMES {
        black_box(message_of(black_box(&received.bytes), black_box(received.version)));
    }
    received
}

// 437 and 188.
#[library_benchmark]
#[bench::publish(args = (Version::V5), setup = publish, config = at_most(450, TIMES))]
#[bench::puback(args = (Version::V5), setup = puback, config = at_most(200, TIMES))]
fn decode(received: Received) -> Received {
    for _ in 0..TIMES {
        let _ = black_box(packet_of(black_box(&received.bytes), black_box(received.version)));
    }
    received
}

fn message_of(bytes: &[u8], version: Version) -> Message {
    match packet_of(bytes, version) {
        Ok(Packet::Publish(publish)) => Message::of_publish(&publish, version, Origin::new(7), NOW),
        _ => unreachable!("only PUBLISH is given"),
    }
}

#[inline]
fn packet_of(bytes: &[u8], version: Version) -> Result<Packet<'_>, Violation> {
    let Some(header) = Header::decode(bytes, Sender::Client, version, &LIMITS)? else {
        unreachable!("only whole packets are given");
    };
    let body = &bytes[header.header_size()..header.packet_size()];
    Packet::decode(&header, body, version, &LIMITS)
}

library_benchmark_group!(name = from_bytes, benchmarks = [own, decode]);

// --- to bytes --------------------------------------------------------------------------------------------------------

/// What is written in front of a Message for one receiver, and where to.
struct Sending {
    message: Message,
    delivery: Delivery<'static>,
    version: Version,
    out: Vec<u8>,
}

/// The Message was published with 5.0, whatever its receiver speaks.
fn sending(delivery: Delivery<'static>, version: Version) -> Sending {
    let Received { bytes, version: published } = publish(Version::V5);
    Sending { message: message_of(&bytes, published), delivery, version, out: Vec::with_capacity(64 * 1024) }
}

fn qos0(version: Version) -> Sending {
    sending(Delivery::default(), version)
}

fn qos1(version: Version) -> Sending {
    sending(Delivery { qos: Qos::AtLeastOnce, packet_id: PacketId::new(77), ..Delivery::default() }, version)
}

fn subscription_id(version: Version) -> Sending {
    sending(Delivery { subscription_ids: &[1_000], ..Delivery::default() }, version)
}

// 149, 226, 334 and 211.
#[library_benchmark]
#[bench::publish(args = (Version::V5), setup = qos0, config = at_most(230, TIMES))]
#[bench::publish_qos1(args = (Version::V5), setup = qos1, config = at_most(250, TIMES))]
#[bench::publish_subscription_id(args = (Version::V5), setup = subscription_id, config = at_most(340, TIMES))]
#[bench::publish_to_3_1_1(args = (Version::V3_1_1), setup = qos0, config = at_most(230, TIMES))]
fn encode(mut sending: Sending) -> Sending {
    for _ in 0..TIMES {
        let Sending { message, delivery, version, out } = black_box(&mut sending);
        out.clear();
        let _ = encode_publish(message, delivery, *version, NOW, u32::MAX, out);
    }
    sending
}

// 18.
#[library_benchmark]
#[bench::puback(args = (64), setup = Vec::with_capacity, config = at_most(60, TIMES))]
fn encode_acknowledgement(mut out: Vec<u8>) -> Vec<u8> {
    let packet_id = PacketId::new(7).expect("not 0");
    for _ in 0..TIMES {
        out.clear();
        let packet_id = black_box(packet_id);
        encode_ack(PacketType::PubAck, packet_id, ReasonCode::Success, black_box(Version::V5), &mut out);
        black_box(&out);
    }
    out
}

library_benchmark_group!(name = to_bytes, benchmarks = [encode, encode_acknowledgement]);

main!(library_benchmark_groups = [from_bytes, to_bytes]);
