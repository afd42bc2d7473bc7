//! Sections 1.5 and 2: data representation, fixed header, Packet Identifiers, properties.

use crate::house::broker;
use crate::support::wire::{
    Packet, Value, Version, connect, disconnect, field, packet, packet_sizes, property, puback, pubcomp, publish,
    pubrec, pubrel, reason::*, suback, subscribe, unsuback, unsubscribe, will,
};
use crate::talk::{Client, both};

/// Packets that a connected Client may say, each with `string` in one of its string fields.
fn packets_with(string: &[u8], version: Version) -> Vec<Vec<u8>> {
    let text = Value::Bytes(string.to_vec());
    let mut packets = vec![
        publish(string, "x").bytes(version),
        publish(string, "x").exactly_once(1).bytes(version),
        subscribe(1).to(string, 0).bytes(version),
        subscribe(1).to("fine", 0).to(string, 0).bytes(version),
        unsubscribe(1).from(string).bytes(version),
    ];
    if version.is_v5() {
        packets.extend([
            publish("t", "x").with((property::CONTENT_TYPE, text.clone())).bytes(version),
            publish("t", "x").with((property::RESPONSE_TOPIC, text.clone())).bytes(version),
            puback(1).with((property::REASON_STRING, text.clone())).bytes(version),
            pubrec(1).with((property::REASON_STRING, text.clone())).bytes(version),
            pubrel(1).with((property::REASON_STRING, text.clone())).bytes(version),
            pubcomp(1).with((property::REASON_STRING, text.clone())).bytes(version),
            disconnect(0).with((property::REASON_STRING, text)).bytes(version),
        ]);
        packets.extend(user_properties(string).map(|pair| publish_with_raw_properties(&pair)));
    }
    packets
}

/// A User Property with `string` as its key, and one with it as its value.
fn user_properties(string: &[u8]) -> [Vec<u8>; 2] {
    [
        [vec![property::USER_PROPERTY], field(string), field("value")].concat(),
        [vec![property::USER_PROPERTY], field("key"), field(string)].concat(),
    ]
}

fn publish_with_raw_properties(properties: &[u8]) -> Vec<u8> {
    let length = u8::try_from(properties.len()).expect("the properties of this test are short");
    packet(0x30, [field("t"), vec![length], properties.to_vec(), b"x".to_vec()].concat())
}

/// CONNECT packets, each with `string` in one of its string fields.
fn connects_with(string: &[u8], version: Version) -> Vec<Vec<u8>> {
    let mut client_id = connect(version, "");
    client_id.client_id = string.to_vec();
    let mut will_topic = connect(version, "someone").will(will("", "x"));
    will_topic.will.as_mut().expect("a Will was set").topic = string.to_vec();
    let mut user_name = connect(version, "someone").user_name("");
    user_name.user_name = Some(string.to_vec());
    let mut connects = vec![client_id, will_topic, user_name];
    if version.is_v5() {
        let text = Value::Bytes(string.to_vec());
        connects.extend([
            connect(version, "someone").with((property::AUTHENTICATION_METHOD, text.clone())),
            connect(version, "someone").will(will("t", "x").with((property::CONTENT_TYPE, text.clone()))),
            connect(version, "someone").will(will("t", "x").with((property::RESPONSE_TOPIC, text))),
        ]);
    }
    connects.iter().map(|connect| connect.bytes(version)).collect()
}

fn nobody_may_say(strings: &[&[u8]], version: Version) {
    let broker = broker();
    for string in strings {
        for bytes in packets_with(string, version) {
            let client = Client::connects(&broker, connect(version, "someone"));
            client.says(bytes).is_thrown_out(&[MALFORMED_PACKET]);
        }
        for bytes in connects_with(string, version) {
            Client::tries(&broker, version, bytes).is_turned_away(&[MALFORMED_PACKET]);
        }
    }
}

both!(
    mqtt_1_5_4_1_ill_formed_utf8_in_any_string_ends_the_connection,
    mqtt311_1_5_3_1_ill_formed_utf8_in_any_string_ends_the_connection,
    |version| {
        nobody_may_say(
            &[
                b"\xff",             // never occurs in UTF-8
                b"t\xc3",            // cut short
                b"\xc0\xaf",         // longer than it needs to be
                b"\xed\xa0\x80",     // the surrogate U+D800
                b"\xed\xbf\xbf",     // the surrogate U+DFFF
                b"\xf4\x90\x80\x80", // above U+10FFFF
            ],
            version,
        );
    }
);

both!(
    mqtt_1_5_4_2_u_0000_in_any_string_ends_the_connection,
    mqtt311_1_5_3_2_u_0000_in_any_string_ends_the_connection,
    |version| {
        nobody_may_say(&[b"\0", b"a\0b"], version);
    }
);

both!(
    mqtt_1_5_4_3_ef_bb_bf_stays_the_character_u_feff,
    mqtt311_1_5_3_3_ef_bb_bf_stays_the_character_u_feff,
    |version| {
        let broker = broker();
        let marked = Client::connects(&broker, connect(version, "marked"));
        let plain = Client::connects(&broker, connect(version, "plain"));
        let publisher = Client::connects(&broker, connect(version, "publisher"));
        marked.subscribes(b"\xef\xbb\xbft", 0);
        plain.subscribes("t", 0);

        publisher.says(publish(b"\xef\xbb\xbft", b"\xef\xbb\xbfx"));
        marked.receives(publish(b"\xef\xbb\xbft", b"\xef\xbb\xbfx"));
        plain.hears_nothing();

        publisher.says(publish("t", "x"));
        plain.receives(publish("t", "x"));
        marked.hears_nothing();
    }
);

#[test]
fn mqtt_1_5_5_1_a_remaining_length_longer_than_it_needs_to_be_is_malformed() {
    let broker = broker();
    let subscriber = Client::connects(&broker, connect(Version::V5, "subscriber"));
    subscriber.subscribes("#", 0);
    for length in [&[0x84, 0x00][..], &[0x84, 0x80, 0x00], &[0x84, 0x80, 0x80, 0x00]] {
        let client = Client::connects(&broker, connect(Version::V5, "client"));
        client.says([&[0x30][..], length, &[0, 1, b't', 0]].concat()).is_thrown_out(&[MALFORMED_PACKET]);
    }
    subscriber.hears_nothing();
}

#[test]
fn mqtt_1_5_5_1_a_property_length_longer_than_it_needs_to_be_is_malformed() {
    let broker = broker();
    for length in [&[0x80, 0x00][..], &[0x80, 0x80, 0x00], &[0x80, 0x80, 0x80, 0x00]] {
        let client = Client::connects(&broker, connect(Version::V5, "client"));
        client.says(packet(0x30, [&[0, 1, b't'][..], length, b"x"].concat())).is_thrown_out(&[MALFORMED_PACKET]);
    }
}

both!(
    mqtt_1_5_5_1_the_broker_writes_the_shortest_length_at_each_boundary,
    mqtt311_2_2_2_1_the_remaining_length_is_right_at_each_boundary,
    |version| {
        let broker = broker();
        let subscriber = Client::connects(&broker, connect(version, "subscriber"));
        let publisher = Client::connects(&broker, connect(version, "publisher"));
        subscriber.subscribes("t", 0);
        let header = if version.is_v5() { 4 } else { 3 };
        for (remaining_length, length_bytes) in [(127, 1), (128, 2), (16_383, 2), (16_384, 3)] {
            let message = publish("t", vec![b'x'; remaining_length - header]);
            publisher.says(message.clone());
            let bytes = subscriber.hears_bytes();
            assert_eq!(bytes, message.bytes(version));
            assert_eq!(packet_sizes(&bytes), [1 + length_bytes + remaining_length]);
        }
    }
);

#[test]
fn mqtt_1_5_7_1_key_and_value_of_a_user_property_obey_the_string_rules() {
    let broker = broker();
    for string in [&b"\xed\xa0\x80"[..], b"\xff", b"\0"] {
        for pair in user_properties(string) {
            let client = Client::connects(&broker, connect(Version::V5, "client"));
            client.says(publish_with_raw_properties(&pair)).is_thrown_out(&[MALFORMED_PACKET]);
        }
    }
}

#[test]
fn mqtt_1_5_7_1_a_pair_of_empty_strings_is_well_formed() {
    let broker = broker();
    let client = Client::connects(&broker, connect(Version::V5, "client"));
    client.subscribes("t", 0);
    let message = publish("t", "x").with(property::user_property("", ""));
    client.says(message.clone()).receives(message);
}

/// Each packet that a connected Client may say, but PUBLISH, with the flags that it must have.
fn packets_with_reserved_flags(version: Version) -> Vec<(Vec<u8>, u8)> {
    vec![
        (puback(1).bytes(version), 0),
        (pubrec(1).bytes(version), 0),
        (pubrel(1).bytes(version), 2),
        (pubcomp(1).bytes(version), 0),
        (subscribe(1).to("t", 0).bytes(version), 2),
        (unsubscribe(1).from("t").bytes(version), 2),
        (vec![0xc0, 0], 0),
        (disconnect(0).bytes(version), 0),
    ]
}

both!(
    mqtt_2_1_3_1_any_other_value_in_reserved_flags_is_malformed,
    mqtt311_2_2_2_2_wrong_flags_end_the_connection,
    |version| {
        let broker = broker();
        for (bytes, right) in packets_with_reserved_flags(version) {
            for wrong in (0..16).filter(|flags| *flags != right) {
                let mut bytes = bytes.clone();
                bytes[0] = bytes[0] & 0xf0 | wrong;
                let client = Client::connects(&broker, connect(version, "client"));
                client.says(bytes).is_thrown_out(&[MALFORMED_PACKET]);
            }
        }
    }
);

both!(
    mqtt_2_1_3_1_wrong_flags_on_connect_are_malformed,
    mqtt311_2_2_2_1_wrong_flags_on_connect_end_the_connection,
    |version| {
        let broker = broker();
        for wrong in 1..16 {
            let mut bytes = connect(version, "client").bytes(version);
            bytes[0] |= wrong;
            Client::tries(&broker, version, bytes).is_turned_away(&[MALFORMED_PACKET]);
        }
    }
);

both!(
    mqtt_2_2_1_2_a_qos_0_publish_has_no_packet_identifier,
    mqtt311_2_3_1_5_a_qos_0_publish_has_no_packet_identifier,
    |version| {
        let broker = broker();
        let client = Client::connects(&broker, connect(version, "client"));
        client.subscribes("a/b", 2);
        client.says(publish("a/b", "12"));
        let expected: &[u8] = match version {
            Version::V5 => b"\x30\x08\x00\x03a/b\x0012",
            _ => b"\x30\x07\x00\x03a/b12",
        };
        assert_eq!(client.hears_bytes(), expected);
    }
);

both!(
    mqtt_2_2_1_3_packet_identifier_0_ends_the_connection,
    mqtt311_2_3_1_1_packet_identifier_0_ends_the_connection,
    |version| {
        let broker = broker();
        let packets = [
            publish("t", "x").at_least_once(0).bytes(version),
            publish("t", "x").exactly_once(0).bytes(version),
            subscribe(0).to("t", 0).bytes(version),
            unsubscribe(0).from("t").bytes(version),
        ];
        for bytes in packets {
            let client = Client::connects(&broker, connect(version, "client"));
            client.says(bytes).is_thrown_out(&[MALFORMED_PACKET, PROTOCOL_ERROR]);
        }
    }
);

both!(
    mqtt_2_2_1_4_the_broker_picks_a_free_packet_identifier_for_each_message,
    mqtt311_2_3_1_4_the_broker_picks_a_free_packet_identifier_for_each_message,
    |version| {
        let broker = broker();
        let subscriber = Client::connects(&broker, connect(version, "subscriber"));
        let publisher = Client::connects(&broker, connect(version, "publisher"));
        subscriber.subscribes("t/#", 2);
        let mut open = Vec::new();
        for number in 0..20 {
            let message = publish("t/1", number.to_string()).qos(1 + number % 2, 7);
            publisher.publishes(message.clone());
            let packet_id = subscriber.receives(message.clone());
            assert_ne!(packet_id, 0);
            assert!(!open.contains(&packet_id), "{packet_id} is in use: {open:?}");
            if number % 3 == 0 {
                subscriber.acknowledges(message.qos, packet_id).hears_nothing();
            } else {
                open.push(packet_id);
            }
        }
    }
);

both!(
    mqtt_2_2_1_5_each_acknowledgement_repeats_the_packet_identifier_of_its_publish,
    mqtt311_2_3_1_6_each_acknowledgement_repeats_the_packet_identifier_of_its_publish,
    |version| {
        let broker = broker();
        let client = Client::connects(&broker, connect(version, "client"));
        client.subscribes("somewhere/else", 0);
        let listener = Client::connects(&broker, connect(version, "listener"));
        listener.subscribes("t", 2);
        for packet_id in [1, 0x1234, 0xffff] {
            client.says(publish("t", "x").at_least_once(packet_id)).hears(puback(packet_id));
            client.says(publish("t", "x").exactly_once(packet_id)).hears(pubrec(packet_id));
            client.says(pubrel(packet_id)).hears(pubcomp(packet_id));
            for message in listener.hears_publishes() {
                let packet_id = message.packet_id.expect("these have a QoS above 0");
                listener.acknowledges(message.qos, packet_id).hears_nothing();
            }
        }
    }
);

both!(
    mqtt_2_2_1_6_suback_and_unsuback_repeat_the_packet_identifier_of_the_request,
    mqtt311_2_3_1_7_suback_and_unsuback_repeat_the_packet_identifier_of_the_request,
    |version| {
        let broker = broker();
        let client = Client::connects(&broker, connect(version, "client"));
        let codes: &[u8] = if version.is_v5() { &[0] } else { &[] };
        for packet_id in [1, 0x1234, 0xffff] {
            client.says(subscribe(packet_id).to("t", 1)).hears(suback(packet_id, &[1]));
            client.says(unsubscribe(packet_id).from("t")).hears(unsuback(packet_id, codes));
        }
    }
);

#[test]
fn mqtt_2_2_2_1_no_properties_are_written_as_a_property_length_of_0() {
    let broker = broker();
    let client = Client::connects(&broker, connect(Version::V5, "client"));
    client.says(subscribe(10).to("a/b", 1));
    assert_eq!(client.hears_bytes(), b"\x90\x04\x00\x0a\x00\x01");
    client.says(publish("a/b", "x"));
    assert_eq!(client.hears_bytes(), b"\x30\x07\x00\x03a/b\x00x");
    client.says(unsubscribe(11).from("a/b"));
    assert_eq!(client.hears_bytes(), b"\xb0\x04\x00\x0b\x00\x00");
}

#[test]
fn mqtt_2_2_2_1_a_packet_without_its_property_length_is_malformed() {
    let broker = broker();
    let cut = [packet(0x30, field("t")), packet(0x82, [0, 1]), packet(0xa2, [0, 1])];
    for bytes in cut {
        let client = Client::connects(&broker, connect(Version::V5, "client"));
        client.says(bytes).is_thrown_out(&[MALFORMED_PACKET]);
    }
}

#[test]
fn after_a_reason_code_the_property_length_is_always_written() {
    let broker = broker();
    let client =
        Client::connects(&broker, connect(Version::V5, "client").with(property::request_problem_information(0)));
    client.says(pubrel(9));
    assert_eq!(client.hears_bytes(), b"\x70\x04\x00\x09\x92\x00");
}
