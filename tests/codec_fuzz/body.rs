//! What must hold for any bytes whatever: the body that the fuzz target and the bounded tests share.
//! It panics where a promise of the codec is broken, and never because of what the bytes say.
//! Read `../codec_fuzz.rs` for the bounded test, `../../fuzz` for the target.

use std::num::NonZeroU16;

use waypost::codec::{
    Characters, Delivery, Header, Limits, Message, MessageParts, Moment, Origin, OutAlias, Packet, PacketId, Publish,
    Qos, Sender, TopicLimits, Version, check_filter, check_name, encode_publish, publish_size,
};

/// The first byte chooses who sends, in which version and under which limits; the rest is what was received.
pub(crate) fn check(data: &[u8]) {
    let Some((&choice, mut received)) = data.split_first() else {
        return;
    };
    let from = if choice & 1 == 0 { Sender::Client } else { Sender::Server };
    let mut version = match choice >> 1 & 3 {
        0 => Version::V3_1,
        1 => Version::V3_1_1,
        _ => Version::V5,
    };
    let limits = limits(choice);
    while let Ok(Some(header)) = Header::decode(received, from, version, &limits) {
        check_header(received, &header, from, version, &limits);
        let Some(packet) = received.get(..header.packet_size()) else {
            return;
        };
        let Ok(decoded) = Packet::decode(&header, &packet[header.header_size()..], version, &limits) else {
            return;
        };
        if let Packet::Connect(connect) = &decoded {
            version = connect.version;
        }
        check_packet(packet, &decoded, from, version, &limits);
        received = &received[header.packet_size()..];
    }
}

fn limits(choice: u8) -> Limits {
    let strict = choice & 8 == 0;
    let small = choice & 16 != 0;
    Limits {
        packet_size_max: if small { 64 } else { 1 << 20 },
        user_properties_max: if small { 2 } else { 64 },
        property_bytes_max: if small { 32 } else { 1 << 16 },
        characters: if strict { Characters::Strict } else { Characters::Lenient },
    }
}

/// A fixed header says the same however much follows it, and nothing before it is whole.
fn check_header(received: &[u8], header: &Header, from: Sender, version: Version, limits: &Limits) {
    assert!(header.packet_size() <= limits.packet_size_max as usize);
    for end in 0..=header.header_size() {
        let again = Header::decode(&received[..end], from, version, limits);
        let expected = (end == header.header_size()).then_some(*header);
        assert_eq!(again, Ok(expected));
    }
}

/// A packet that was accepted is encoded in a form that is accepted and says the same, and which is stable.
fn check_packet(bytes: &[u8], packet: &Packet<'_>, from: Sender, version: Version, limits: &Limits) {
    let mut encoded = Vec::new();
    packet.encode(version, &mut encoded);
    // The encoded form may be longer than the received one by what the short forms leave out.
    assert!(encoded.len() <= bytes.len() + 3, "{packet:?}");
    let limits = Limits { packet_size_max: limits.packet_size_max + 3, ..*limits };
    let again = decode(&encoded, from, version, &limits);
    assert_eq!(&again, packet);
    let mut encoded_again = Vec::new();
    again.encode(version, &mut encoded_again);
    assert_eq!(encoded_again, encoded);
    match packet {
        Packet::Connect(connect) => {
            if let Some(will) = &connect.will {
                let message = Message::of_will(will, version, Origin::new(1), Moment::default());
                assert_eq!(message.topic(), will.topic.as_bytes());
                assert_eq!(message.payload(), will.payload);
                check_message(&message, &limits);
            }
        }
        Packet::Publish(publish) => check_publish(publish, version, &limits),
        Packet::Subscribe(subscribe) => {
            assert_eq!(subscribe.filters.iter().count(), subscribe.filters.len());
            for (filter, _) in subscribe.filters.iter() {
                let _ = check_filter(filter, TopicLimits::NONE);
            }
        }
        Packet::Unsubscribe(unsubscribe) => {
            assert_eq!(unsubscribe.filters.iter().count(), unsubscribe.filters.len());
        }
        _ => {}
    }
}

fn decode<'a>(bytes: &'a [u8], from: Sender, version: Version, limits: &Limits) -> Packet<'a> {
    let header = Header::decode(bytes, from, version, limits)
        .expect("what was encoded has a good fixed header")
        .expect("what was encoded has a whole fixed header");
    assert_eq!(header.packet_size(), bytes.len());
    Packet::decode(&header, &bytes[header.header_size()..], version, limits).expect("what was encoded is accepted")
}

fn check_publish(publish: &Publish<'_>, version: Version, limits: &Limits) {
    let topic = if publish.topic.is_empty() { "resolved" } else { publish.topic };
    assert!(publish.topic.is_empty() || check_name(topic, TopicLimits::NONE).is_ok());
    let message = if publish.topic.is_empty() {
        Message::with_topic(publish, topic.as_bytes(), version, Origin::new(1), Moment::default())
    } else {
        Message::of_publish(publish, version, Origin::new(1), Moment::default())
    };
    assert_eq!(message.topic(), topic.as_bytes());
    assert_eq!(message.payload(), publish.payload);
    assert_eq!((message.qos(), message.retain()), (publish.qos, publish.retain));
    assert_eq!(message.expiry_interval_s(), publish.message_expiry_interval_s);
    let user_properties = publish.properties().user_properties();
    assert_eq!(message.property_list().user_properties(), user_properties);
    check_message(&message, limits);
}

/// A Message reaches every kind of receiver whole, in as many bytes as foretold, and survives being stored.
fn check_message(message: &Message, limits: &Limits) {
    let restored = Message::of_parts(&MessageParts {
        topic: message.topic(),
        payload: message.payload(),
        qos: message.qos(),
        retain: message.retain(),
        properties: message.property_list(),
        expiry_interval_s: message.expiry_interval_s(),
        origin: message.origin(),
        born: message.born(),
    });
    let limits = Limits { packet_size_max: u32::MAX, property_bytes_max: limits.property_bytes_max + 16, ..*limits };
    let ids = [1, 268_435_455];
    for version in [Version::V3_1, Version::V3_1_1, Version::V5] {
        for choice in 0..8 {
            let packet_id = if choice & 1 == 0 { None } else { PacketId::new(0xffff) };
            let alias = OutAlias { alias: NonZeroU16::MIN, name_known: choice & 2 != 0 };
            let delivery = Delivery {
                qos: if packet_id.is_some() { Qos::AtLeastOnce } else { Qos::AtMostOnce },
                packet_id,
                dup: packet_id.is_some(),
                retain: choice & 4 != 0,
                subscription_ids: if choice & 4 == 0 { &[] } else { &ids },
                alias: (choice & 6 != 0).then_some(alias),
            };
            let now = Moment::from_millis(2_500);
            let mut out = Vec::new();
            let fits = encode_publish(message, &delivery, version, now, u32::MAX, &mut out);
            assert_eq!(out.len(), publish_size(message, &delivery, version));
            let mut out_of_restored = Vec::new();
            assert_eq!(encode_publish(&restored, &delivery, version, now, u32::MAX, &mut out_of_restored), fits);
            assert_eq!(out_of_restored, out);
            let Packet::Publish(publish) = decode(&out, Sender::Server, version, &limits) else {
                panic!("a PUBLISH became another packet");
            };
            assert_eq!(publish.payload, message.payload());
            assert_eq!(publish.packet_id, packet_id);
            let is_known = version.is_v5() && delivery.alias.is_some_and(|alias| alias.name_known);
            assert_eq!(publish.topic.as_bytes(), if is_known { b"" } else { message.topic() });
            if version.is_v5() {
                let sent = publish.properties().user_properties();
                assert_eq!(sent, message.property_list().user_properties());
                let expiry = message.expiry_interval_s().map(|seconds| seconds.saturating_sub(2));
                assert_eq!(publish.message_expiry_interval_s, expiry);
            } else {
                assert!(publish.properties().is_empty());
            }
        }
    }
}
