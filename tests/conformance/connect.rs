//! Section 3.1: CONNECT. What it says about Wills is in `will.rs`.

use crate::house::{broker, keep_alive_max};
use crate::support::wire::{
    AckKind, Connect, PINGREQ, Packet, Value, Version, auth, connect, disconnect, field, packet, packet_sizes,
    properties, property, puback, pubcomp, publish, pubrec, pubrel, reason::*, suback, subscribe, unsubscribe, will,
};
use crate::talk::{Client, both, number, seconds, shows};

// ------------------------------------------------------------------------------------------------- the first packet

both!(
    mqtt_3_1_0_1_a_first_packet_other_than_connect_closes_the_connection,
    mqtt311_3_1_0_1_a_first_packet_other_than_connect_closes_the_connection,
    |version| {
        let broker = broker();
        let observer = Client::connects(&broker, connect(version, "observer"));
        observer.subscribes("#", 0);
        let mut packets = vec![
            vec![0x20, 2, 0, 0],
            publish("t", "x").bytes(version),
            publish("t", "x").at_least_once(1).bytes(version),
            puback(1).bytes(version),
            pubrec(1).bytes(version),
            pubrel(1).bytes(version),
            pubcomp(1).bytes(version),
            subscribe(1).to("t", 0).bytes(version),
            vec![0x90, 3, 0, 1, 0],
            unsubscribe(1).from("t").bytes(version),
            vec![0xb0, 2, 0, 1],
            PINGREQ.to_vec(),
            vec![0xd0, 0],
            disconnect(0).bytes(version),
        ];
        if version.is_v5() {
            packets.push(auth(CONTINUE_AUTHENTICATION).bytes(version));
        }
        for bytes in packets {
            Client::tries(&broker, version, bytes).is_closed();
        }
        observer.hears_nothing();
    }
);

both!(
    mqtt_3_1_0_2_a_second_connect_is_a_protocol_error,
    mqtt311_3_1_0_2_a_second_connect_ends_the_connection,
    mqtt31_a_second_connect_ends_the_connection,
    |version| {
        let broker = broker();
        let observer = Client::connects(&broker, connect(version, "observer"));
        observer.subscribes("will", 0);
        let client = Client::connects(&broker, connect(version, "client").will(will("will", "gone")));
        client.says(connect(version, "client")).is_thrown_out(&[PROTOCOL_ERROR]);
        observer.receives(publish("will", "gone"));
    }
);

// ------------------------------------------------------------------------------------------- protocol name and level

fn connect_header(name: &str, level: u8, flags: u8, version: Version) -> Vec<u8> {
    let properties = if version.is_v5() { properties(&[]) } else { Vec::new() };
    packet(0x10, [field(name), vec![level, flags, 0, 10], properties, field("client")].concat())
}

both!(
    mqtt_3_1_2_1_a_connect_of_another_protocol_name_is_closed,
    mqtt311_3_1_2_1_a_connect_of_another_protocol_name_is_not_processed,
    |version| {
        let broker = broker();
        let level = if version.is_v5() { 5 } else { 4 };
        for name in ["MQTX", "mqtt", "MQT", "MQTTT", "HTTP", ""] {
            let client = Client::tries(&broker, version, connect_header(name, level, 2, version));
            client.is_turned_away(&[UNSUPPORTED_PROTOCOL_VERSION]);
        }
    }
);

#[test]
fn mqtt_3_1_2_2_an_unknown_protocol_version_is_refused_with_0x84_and_closed() {
    let broker = broker();
    for level in [6, 7, 127, 255] {
        let client = Client::tries(&broker, Version::V5, connect_header("MQTT", level, 2, Version::V5));
        let answer = client.hears_bytes();
        let answers: [&[u8]; 3] = [b"", b"\x20\x03\x00\x84\x00", b"\x20\x02\x00\x01"];
        assert!(answers.contains(&&answer[..]), "{answer:02x?}");
        client.is_closed();
    }
}

#[test]
fn mqtt311_3_1_2_2_an_unsupported_level_gets_return_code_1_and_is_closed() {
    let broker = broker();
    for level in [0, 1, 2] {
        let client = Client::tries(&broker, Version::V311, connect_header("MQTT", level, 2, Version::V311));
        assert_eq!(client.hears_bytes(), b"\x20\x02\x00\x01");
        client.is_closed();
    }
}

both!(
    mqtt_3_1_2_3_the_reserved_connect_flag_must_be_0,
    mqtt311_3_1_2_3_the_reserved_connect_flag_must_be_0,
    |version| {
        let broker = broker();
        let level = if version.is_v5() { 5 } else { 4 };
        let client = Client::tries(&broker, version, connect_header("MQTT", level, 3, version));
        client.is_turned_away(&[MALFORMED_PACKET]);
        Client::connects(&broker, connect(version, "client")).is_alive();
    }
);

// -------------------------------------------------------------------------------------------------------- Clean Start

both!(
    mqtt_3_1_2_4_clean_start_1_throws_an_old_session_away,
    mqtt311_3_1_2_6_clean_session_1_drops_the_old_session_for_good,
    |version| {
        let broker = broker();
        let publisher = Client::connects(&broker, connect(version, "publisher"));
        let client = Client::connects(&broker, connect(version, "client").persistent());
        client.subscribes("t", 1).disconnects();
        publisher.publishes(publish("t", "while away").at_least_once(1));

        let client = Client::connects(&broker, connect(version, "client"));
        assert!(!client.session_present());
        client.hears_nothing();
        publisher.publishes(publish("t", "later").at_least_once(2));
        client.hears_nothing().disconnects();

        let client = Client::connects(&broker, connect(version, "client").persistent());
        assert!(!client.session_present());
        client.hears_nothing();
    }
);

both!(
    mqtt_3_1_2_5_clean_start_0_carries_on_from_a_stored_session,
    mqtt311_3_1_2_4_clean_session_0_resumes_the_session,
    |version| {
        let broker = broker();
        let publisher = Client::connects(&broker, connect(version, "publisher"));
        let client = Client::connects(&broker, connect(version, "client").persistent());
        client.subscribes("t", 1).disconnects();

        let client = Client::resumes(&broker, connect(version, "client").persistent());
        client.hears_nothing();
        publisher.publishes(publish("t", "x").at_least_once(1));
        client.takes(publish("t", "x").at_least_once(0)).hears_nothing();
    }
);

both!(
    mqtt_3_1_2_5_qos_1_and_2_messages_are_kept_for_the_session_while_its_client_is_away,
    mqtt311_3_1_2_5_qos_1_and_2_messages_are_kept_for_the_session_while_its_client_is_away,
    mqtt31_qos_1_and_2_messages_are_kept_for_a_client_without_clean_session,
    |version| {
        let broker = broker();
        let publisher = Client::connects(&broker, connect(version, "publisher"));
        let client = Client::connects(&broker, connect(version, "client").persistent());
        client.subscribes("t", 2).vanishes();
        publisher.publishes(publish("t", "1").at_least_once(1));
        publisher.publishes(publish("t", "2").exactly_once(2));

        let client = Client::connects(&broker, connect(version, "client").persistent());
        client.receives_in_any_order([publish("t", "1").at_least_once(0), publish("t", "2").exactly_once(0)]);
    }
);

both!(
    mqtt_3_1_2_6_clean_start_0_without_a_stored_session_makes_a_new_one,
    mqtt311_3_1_2_4_clean_session_0_without_a_session_makes_a_new_one,
    |version| {
        let broker = broker();
        let client = Client::connects(&broker, connect(version, "client").persistent());
        assert!(!client.session_present());
        client.subscribes("t", 1).vanishes();
        Client::resumes(&broker, connect(version, "client").persistent()).is_alive();
    }
);

both!(
    mqtt_3_1_4_4_a_takeover_with_clean_start_1_begins_a_new_session,
    mqtt311_3_1_4_3_a_takeover_with_clean_session_1_begins_a_new_session,
    |version| {
        let broker = broker();
        let publisher = Client::connects(&broker, connect(version, "publisher"));
        let old = Client::connects(&broker, connect(version, "client").persistent());
        old.subscribes("t", 1);
        let new = Client::connects(&broker, connect(version, "client"));
        assert!(!new.session_present());
        old.is_thrown_out(&[SESSION_TAKEN_OVER]);
        publisher.publishes(publish("t", "x").at_least_once(1));
        new.is_alive();
    }
);

both!(
    mqtt_3_1_4_4_a_takeover_with_clean_start_0_carries_the_session_on,
    mqtt311_3_1_4_3_a_takeover_with_clean_session_0_carries_the_session_on,
    |version| {
        let broker = broker();
        let publisher = Client::connects(&broker, connect(version, "publisher"));
        let old = Client::connects(&broker, connect(version, "client").persistent());
        old.subscribes("t", 1);
        publisher.publishes(publish("t", "unacknowledged").at_least_once(1));
        let packet_id = old.receives(publish("t", "unacknowledged").at_least_once(0));

        let new = Client::resumes(&broker, connect(version, "client").persistent());
        old.is_thrown_out(&[SESSION_TAKEN_OVER]);
        new.hears(publish("t", "unacknowledged").at_least_once(packet_id).dup());
        publisher.publishes(publish("t", "live").at_least_once(2));
        new.receives(publish("t", "live").at_least_once(0));
    }
);

// ---------------------------------------------------------------------------------------- flags and fields must agree

/// A CONNECT whose flags and payload fields are put together by hand.
fn connect_of(version: Version, flags: u8, fields: &[&[u8]]) -> Vec<u8> {
    let header = Connect { keep_alive_s: 10, ..connect(version, "") }.start_of_header();
    let (name_and_level, keep_alive) = (&header[..header.len() - 3], &header[header.len() - 2..]);
    let properties = if version.is_v5() { properties(&[]) } else { Vec::new() };
    packet(0x10, [name_and_level, &[flags], keep_alive, &properties, &fields.concat()].concat())
}

fn is_malformed(version: Version, flags: u8, fields: &[&[u8]]) {
    let broker = broker();
    let client = Client::tries(&broker, version, connect_of(version, flags, fields));
    client.is_turned_away(&[MALFORMED_PACKET, PROTOCOL_ERROR]);
}

const CLEAN: u8 = 0x02;
const WILL: u8 = 0x04;
const PASSWORD: u8 = 0x40;
const USER_NAME: u8 = 0x80;

/// The Client Identifier `c`, and other fields of one letter.
const C: &[u8] = b"\0\x01c";
const T: &[u8] = b"\0\x01t";
const W: &[u8] = b"\0\x01w";
const U: &[u8] = b"\0\x01u";
const P: &[u8] = b"\0\x01p";

both!(
    mqtt_3_1_2_9_a_will_flag_without_will_fields_is_malformed,
    mqtt311_3_1_2_9_a_will_flag_without_will_fields_ends_the_connection,
    |version| {
        let no_properties: &[u8] = if version.is_v5() { &[0] } else { &[] };
        is_malformed(version, CLEAN | WILL, &[C]);
        is_malformed(version, CLEAN | WILL, &[C, no_properties, T]);
    }
);

both!(
    mqtt_3_1_2_11_without_will_flag_the_will_qos_is_0,
    mqtt311_3_1_2_11_without_will_flag_the_will_qos_is_0_and_the_fields_are_absent,
    |version| {
        for qos in [1, 2, 3] {
            is_malformed(version, CLEAN | qos << 3, &[C]);
        }
        is_malformed(version, CLEAN, &[C, T, W]);
    }
);

#[test]
fn mqtt311_3_1_2_13_without_will_flag_the_will_qos_is_0() {
    for qos in [1, 2, 3] {
        is_malformed(Version::V311, CLEAN | qos << 3, &[C]);
    }
}

both!(mqtt_3_1_2_12_a_will_qos_of_3_is_malformed, mqtt311_3_1_2_14_a_will_qos_of_3_ends_the_connection, |version| {
    let no_properties: &[u8] = if version.is_v5() { &[0] } else { &[] };
    is_malformed(version, CLEAN | WILL | 3 << 3, &[C, no_properties, T, W]);
});

both!(
    mqtt_3_1_2_13_without_will_flag_will_retain_is_0,
    mqtt311_3_1_2_15_without_will_flag_will_retain_is_0,
    |version| {
        is_malformed(version, CLEAN | 0x20, &[C]);
    }
);

both!(
    mqtt_3_1_2_16_without_its_flag_a_user_name_is_malformed,
    mqtt311_3_1_2_18_without_its_flag_a_user_name_ends_the_connection,
    |version| {
        is_malformed(version, CLEAN, &[C, U]);
    }
);

both!(
    mqtt_3_1_2_17_the_user_name_flag_without_a_user_name_is_malformed,
    mqtt311_3_1_2_19_the_user_name_flag_without_a_user_name_ends_the_connection,
    |version| {
        is_malformed(version, CLEAN | USER_NAME, &[C]);
        let broker = broker();
        Client::connects(&broker, connect(version, "c").user_name("u")).is_alive();
    }
);

both!(
    mqtt_3_1_2_18_without_its_flag_a_password_is_malformed,
    mqtt311_3_1_2_20_without_its_flag_a_password_ends_the_connection,
    |version| {
        is_malformed(version, CLEAN | USER_NAME, &[C, U, P]);
    }
);

both!(
    mqtt_3_1_2_19_the_password_flag_without_a_password_is_malformed,
    mqtt311_3_1_2_21_the_password_flag_without_a_password_ends_the_connection,
    |version| {
        is_malformed(version, CLEAN | USER_NAME | PASSWORD, &[C, U]);
        let broker = broker();
        Client::connects(&broker, connect(version, "c").user_name("u").password(b"\0\xff")).is_alive();
    }
);

#[test]
fn mqtt_3_1_2_19_a_password_needs_no_user_name() {
    let broker = broker();
    Client::connects(&broker, connect(Version::V5, "c").password(b"p")).is_alive();
}

#[test]
fn mqtt311_3_1_2_22_a_password_without_a_user_name_ends_the_connection() {
    is_malformed(Version::V311, CLEAN | PASSWORD, &[C, P]);
}

// --------------------------------------------------------------------------------------------------------- Keep Alive

both!(
    mqtt_3_1_2_22_after_one_and_a_half_keep_alives_of_silence_the_connection_is_closed_and_the_will_is_due,
    mqtt311_3_1_2_24_after_one_and_a_half_keep_alives_of_silence_the_connection_is_closed_and_the_will_is_due,
    mqtt31_after_one_and_a_half_keep_alives_of_silence_the_connection_is_closed_and_the_will_is_due,
    |version| {
        let broker = broker();
        let observer = Client::connects(&broker, connect(version, "observer"));
        observer.subscribes("will", 0);
        let client = Client::connects(&broker, connect(version, "client").keep_alive(10).will(will("will", "gone")));
        broker.advance(seconds(14));
        client.hears_nothing().is_open();
        observer.hears_nothing();
        broker.advance(seconds(4));
        client.is_thrown_out(&[KEEP_ALIVE_TIMEOUT]);
        observer.receives(publish("will", "gone"));
    }
);

both!(
    mqtt_3_1_2_22_each_packet_begins_a_new_keep_alive,
    mqtt311_3_1_2_24_each_packet_begins_a_new_keep_alive,
    |version| {
        let broker = broker();
        let client = Client::connects(&broker, connect(version, "client").keep_alive(6));
        broker.advance(seconds(6));
        client.says(publish("t", "x")).hears_nothing();
        broker.advance(seconds(6));
        client.says(PINGREQ);
        broker.advance(seconds(6));
        client.says(subscribe(1).to("s", 0));
        broker.advance(seconds(6));
        client.is_open();
        broker.advance(seconds(6));
        assert_eq!(client.hears_bytes()[..2], [0xd0, 0]);
    }
);

both!(
    mqtt_3_1_2_22_what_the_broker_sends_does_not_count_as_a_sign_of_life,
    mqtt311_3_1_2_24_what_the_broker_sends_does_not_count_as_a_sign_of_life,
    |version| {
        let broker = broker();
        let publisher = Client::connects(&broker, connect(version, "publisher"));
        let client = Client::connects(&broker, connect(version, "client").keep_alive(6));
        client.subscribes("t", 0);
        for _ in 0..2 {
            broker.advance(seconds(4));
            publisher.says(publish("t", "x"));
            client.receives(publish("t", "x"));
        }
        broker.advance(seconds(4));
        client.is_thrown_out(&[KEEP_ALIVE_TIMEOUT]);
    }
);

#[test]
fn without_a_keep_alive_a_3_1_1_client_may_be_silent_for_long() {
    let broker = broker();
    let client = Client::connects(&broker, connect(Version::V311, "client").keep_alive(0));
    for _ in 0..100 {
        broker.advance(seconds(3600));
    }
    client.is_alive();
}

#[test]
fn a_keep_alive_above_that_of_the_server_is_replaced_by_server_keep_alive_and_enforced() {
    let broker = keep_alive_max(10);
    for asked in [11, 60, 65_535, 0] {
        let client = Client::connects(&broker, connect(Version::V5, "client").keep_alive(asked));
        assert_eq!(number(client.connack().property(property::SERVER_KEEP_ALIVE)), Some(10), "{asked} asked");
        broker.advance(seconds(14));
        client.hears_nothing().is_open();
        broker.advance(seconds(4));
        client.is_thrown_out(&[KEEP_ALIVE_TIMEOUT]);
    }
}

#[test]
fn mqtt_3_2_2_22_without_server_keep_alive_the_clients_own_value_holds() {
    let broker = keep_alive_max(10);
    let client = Client::connects(&broker, connect(Version::V5, "client").keep_alive(4));
    assert_eq!(client.connack().property(property::SERVER_KEEP_ALIVE), None);
    broker.advance(seconds(5));
    client.hears_nothing().is_open();
    broker.advance(seconds(4));
    client.is_thrown_out(&[KEEP_ALIVE_TIMEOUT]);
}

// --------------------------------------------------------------------------------------------------------- properties

#[test]
fn mqtt_3_1_2_23_session_state_outlives_the_connection_when_the_expiry_interval_is_above_0() {
    let broker = broker();
    let kept = connect(Version::V5, "client").with(property::session_expiry_interval(10));
    Client::connects(&broker, kept.clone()).subscribes("t", 1).vanishes();
    broker.advance(seconds(8));
    let client = Client::resumes(&broker, kept.resuming());
    client.subscribes("other", 0).says(publish("t", "x")).receives(publish("t", "x"));
}

#[test]
fn mqtt_3_1_2_24_no_packet_larger_than_the_clients_maximum_packet_size_is_sent() {
    let broker = broker();
    let publisher = Client::connects(&broker, connect(Version::V5, "publisher"));
    let client = Client::connects(&broker, connect(Version::V5, "client").with(property::maximum_packet_size(100)));
    client.subscribes("t", 2);
    for qos in [0, 1, 2] {
        let fitting = publish("t", vec![b'x'; if qos == 0 { 94 } else { 92 }]).qos(qos, 1);
        assert_eq!(fitting.bytes(Version::V5).len(), 100);
        let too_large = publish("t", vec![b'x'; fitting.payload.len() + 1]).qos(qos, 2);
        publisher.publishes(too_large);
        client.hears_nothing();
        publisher.publishes(fitting.clone());
        client.takes(fitting).is_alive();
    }
}

#[test]
fn mqtt_3_1_2_25_a_message_too_large_to_send_counts_as_delivered() {
    let broker = broker();
    let publisher = Client::connects(&broker, connect(Version::V5, "publisher"));
    let narrow = connect(Version::V5, "client")
        .persistent()
        .with(property::maximum_packet_size(100))
        .with(property::receive_maximum(1));
    let client = Client::connects(&broker, narrow.clone());
    client.subscribes("t", 2);
    for (qos, packet_id) in [(1, 1), (2, 2), (1, 3)] {
        publisher.publishes(publish("t", vec![b'x'; 200]).qos(qos, packet_id));
    }
    publisher.publishes(publish("t", "small").at_least_once(4));
    client.takes(publish("t", "small").at_least_once(0)).vanishes();

    publisher.publishes(publish("t", vec![b'x'; 200]).at_least_once(5));
    publisher.publishes(publish("t", "small again").at_least_once(6));
    let client = Client::resumes(&broker, narrow);
    client.takes(publish("t", "small again").at_least_once(0)).vanishes();

    let client = Client::resumes(&broker, connect(Version::V5, "client").persistent());
    client.hears_nothing();
}

/// Publishes to several topics in turn, and returns how the subscriber heard of them: topic as sent, alias.
fn aliases_used(connect: Connect) -> Vec<(String, Option<u32>)> {
    let broker = broker();
    let publisher = Client::connects(&broker, crate::support::wire::connect(Version::V5, "publisher"));
    let client = Client::connects(&broker, connect);
    client.subscribes("t/#", 2);
    let mut used = Vec::new();
    let mut names = std::collections::HashMap::new();
    for round in 0..4 {
        for topic in ["t/one", "t/two", "t/three"] {
            for qos in [0, 1, 2] {
                publisher.publishes(publish(topic, round.to_string()).qos(qos, 1));
                let heard = client.hears_publishes();
                assert_eq!(heard.len(), 1);
                let message = &heard[0];
                client.acknowledges(qos, message.packet_id.unwrap_or_default()).hears_nothing();
                let alias = number(message.property(property::TOPIC_ALIAS));
                let name = String::from_utf8(message.topic.clone()).expect("the parser has seen to it");
                if let (Some(alias), false) = (alias, name.is_empty()) {
                    names.insert(alias, name.clone());
                }
                let resolved = if name.is_empty() { names.get(&alias.unwrap_or_default()) } else { Some(&name) };
                assert_eq!(resolved.map(String::as_str), Some(topic), "{message:?}");
                assert_eq!(message.payload, round.to_string().as_bytes());
                used.push((name, alias));
            }
        }
    }
    used
}

shows!(
    mqtt_3_1_2_26_no_outgoing_alias_is_above_the_clients_topic_alias_maximum,
    mqtt_3_3_2_11_outgoing_aliases_stay_within_the_clients_maximum,
    || {
        for maximum in [1, 2, 10] {
            let connect = connect(Version::V5, "client").with(property::topic_alias_maximum(maximum));
            for (_, alias) in aliases_used(connect) {
                assert!(alias.is_none_or(|alias| alias <= u32::from(maximum)), "{alias:?} above {maximum}");
            }
        }
    }
);

#[test]
fn mqtt_3_1_2_27_without_a_topic_alias_maximum_or_with_0_there_is_no_outgoing_alias() {
    let without = connect(Version::V5, "client");
    let with_0 = connect(Version::V5, "client").with(property::topic_alias_maximum(0));
    for connect in [without, with_0] {
        assert!(aliases_used(connect).iter().all(|(name, alias)| alias.is_none() && !name.is_empty()));
    }
}

#[test]
fn mqtt_3_1_2_28_without_a_request_there_is_no_response_information() {
    let broker = crate::house::response_information("answers/");
    let silent = connect(Version::V5, "client");
    for connect in [silent.clone(), silent.with(property::request_response_information(0))] {
        let client = Client::connects(&broker, connect);
        assert_eq!(client.connack().property(property::RESPONSE_INFORMATION), None);
    }
}

#[test]
fn a_request_for_response_information_is_granted_when_there_is_some() {
    let broker = crate::house::response_information("answers/");
    let asking = connect(Version::V5, "client").with(property::request_response_information(1));
    let client = Client::connects(&broker, asking);
    let information = client.connack().property(property::RESPONSE_INFORMATION).cloned();
    assert!(matches!(&information, Some(Value::Text(text)) if text.contains("answers/")), "{information:?}");
}

#[test]
fn mqtt_3_1_2_29_without_problem_information_only_publish_connack_and_disconnect_explain_themselves() {
    let broker = broker();
    let connect = connect(Version::V5, "client").with(property::request_problem_information(0));
    let client = Client::connects(&broker, connect);
    client.says(subscribe(1).to("a#", 1));
    let suback = client.hears_suback();
    assert_eq!((&suback.codes[..], &suback.properties[..]), (&[TOPIC_FILTER_INVALID][..], &[][..]));
    client.says(unsubscribe(2).from("never subscribed"));
    client.hears(crate::support::wire::unsuback(2, &[NO_SUBSCRIPTION_EXISTED]));
    client.says(pubrel(3)).hears(pubcomp(3).reason(PACKET_IDENTIFIER_NOT_FOUND));
    client.says(pubrec(4)).hears(pubrel(4).reason(PACKET_IDENTIFIER_NOT_FOUND));
    client.says(publish("$SYS/x", "x").at_least_once(5));
    assert_eq!(client.hears_ack(AckKind::PubAck, 5).properties, []);
    client.says(publish("$SYS/x", "x").exactly_once(6));
    assert_eq!(client.hears_ack(AckKind::PubRec, 6).properties, []);
    client.subscribes("t", 0).says(publish("t", "x").with(property::user_property("k", "v")));
    client.receives(publish("t", "x").with(property::user_property("k", "v")));
}

#[test]
fn a_connect_property_that_stands_there_twice_is_a_protocol_error() {
    let broker = broker();
    for property in [
        property::session_expiry_interval(1),
        property::receive_maximum(1),
        property::maximum_packet_size(1000),
        property::topic_alias_maximum(1),
        property::request_response_information(1),
        property::request_problem_information(1),
    ] {
        let twice = connect(Version::V5, "client").with(property.clone()).with(property);
        Client::tries(&broker, Version::V5, twice).is_turned_away(&[PROTOCOL_ERROR]);
    }
}

#[test]
fn connect_properties_out_of_range_are_a_protocol_error() {
    let broker = broker();
    for property in [
        property::receive_maximum(0),
        property::maximum_packet_size(0),
        property::request_response_information(2),
        property::request_problem_information(2),
        property::authentication_data(b"without a method"),
    ] {
        let connect = connect(Version::V5, "client").with(property);
        Client::tries(&broker, Version::V5, connect).is_turned_away(&[PROTOCOL_ERROR]);
    }
}

#[test]
fn a_property_that_does_not_belong_into_connect_is_malformed() {
    let broker = broker();
    for property in [property::topic_alias(1), property::reason_string("x"), property::message_expiry_interval(1)] {
        let connect = connect(Version::V5, "client").with(property);
        Client::tries(&broker, Version::V5, connect).is_turned_away(&[MALFORMED_PACKET, PROTOCOL_ERROR]);
    }
}

// ------------------------------------------------------------------------------------------------------------ payload

both!(
    mqtt_3_1_3_1_the_payload_fields_are_read_in_the_order_of_the_standard,
    mqtt311_3_1_3_1_the_payload_fields_are_read_in_the_order_of_the_standard,
    |version| {
        let broker = broker();
        let observer = Client::connects(&broker, connect(version, "observer"));
        observer.subscribes("#", 0);
        let mut will = will("the will topic", "the will payload");
        let mut expected = publish("the will topic", "the will payload");
        if version.is_v5() {
            will = will.with(property::content_type("a will property"));
            expected = expected.with(property::content_type("a will property"));
        }
        let full = connect(version, "the client id").will(will).user_name("the user name").password(b"the password");
        let client = Client::connects(&broker, full.persistent());
        client.subscribes("t", 0).vanishes();
        observer.receives(expected);
        Client::resumes(&broker, connect(version, "the client id").persistent()).is_alive();
    }
);

both!(
    mqtt_3_1_3_2_each_client_identifier_has_its_own_session,
    mqtt311_3_1_3_2_each_client_identifier_has_its_own_session,
    |version| {
        let broker = broker();
        let publisher = Client::connects(&broker, connect(version, "publisher"));
        let names = ["client", "Client", "client ", "clien"];
        for name in names {
            let client = Client::connects(&broker, connect(version, name).persistent());
            assert!(!client.session_present(), "{name:?} is not one of the others");
            client.subscribes(format!("to/{name}"), 1).disconnects();
        }
        for name in names {
            publisher.publishes(publish(format!("to/{name}"), name).at_least_once(1));
        }
        for name in names {
            let client = Client::resumes(&broker, connect(version, name).persistent());
            client.receives(publish(format!("to/{name}"), name).at_least_once(0));
        }
    }
);

both!(
    mqtt_3_1_3_3_a_connect_without_a_client_identifier_is_malformed,
    mqtt311_3_1_3_3_a_connect_without_a_client_identifier_ends_the_connection,
    |version| {
        is_malformed(version, CLEAN, &[]);
        is_malformed(version, CLEAN, &[b"\0\x05cli"]);
    }
);

both!(
    mqtt_3_1_3_4_an_ill_formed_client_identifier_is_malformed,
    mqtt311_3_1_3_4_an_ill_formed_client_identifier_ends_the_connection,
    |version| {
        is_malformed(version, CLEAN, &[b"\0\x02c\xff"]);
        is_malformed(version, CLEAN, &[b"\0\x03\xed\xa0\x80"]);
    }
);

both!(
    mqtt_3_1_3_5_client_identifiers_of_1_to_23_letters_and_digits_are_accepted,
    mqtt311_3_1_3_5_client_identifiers_of_1_to_23_letters_and_digits_are_accepted,
    |version| {
        let broker = broker();
        let names = ["0123456789abcdefghijklm", "nopqrstuvwxyzABCDEFGHIJ", "KLMNOPQRSTUVWXYZ", "a", "Z", "0"];
        for name in names {
            let client = Client::connects(&broker, connect(version, name));
            assert_eq!(client.connack().property(property::ASSIGNED_CLIENT_IDENTIFIER), None);
            client.is_alive();
        }
    }
);

fn assigned_client_id(client: &Client) -> String {
    match client.connack().property(property::ASSIGNED_CLIENT_IDENTIFIER) {
        Some(Value::Text(id)) => id.clone(),
        other => panic!("an empty Client Identifier is answered with an assigned one, not {other:?}"),
    }
}

shows!(
    mqtt_3_1_3_6_an_empty_client_identifier_gets_a_unique_one,
    mqtt_3_2_2_16_an_empty_client_identifier_is_answered_by_a_new_one,
    || {
        let broker = broker();
        let clients: Vec<Client> = (0..50).map(|_| Client::connects(&broker, connect(Version::V5, ""))).collect();
        let mut ids: Vec<String> = clients.iter().map(assigned_client_id).collect();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 50);
        assert!(ids.iter().all(|id| !id.is_empty()));
        for client in &clients {
            client.is_alive();
        }
    }
);

#[test]
fn mqtt311_3_1_3_6_an_empty_client_identifier_gets_a_unique_one() {
    let broker = broker();
    let clients: Vec<Client> = (0..10).map(|_| Client::connects(&broker, connect(Version::V311, ""))).collect();
    for client in &clients {
        client.is_alive();
    }
}

#[test]
fn mqtt_3_1_3_7_the_assigned_client_identifier_is_used_as_if_the_client_had_sent_it() {
    let broker = broker();
    let first = Client::connects(&broker, connect(Version::V5, "").with(property::session_expiry_interval(100)));
    let id = assigned_client_id(&first);
    first.subscribes("t", 1).vanishes();
    let second = Client::resumes(&broker, connect(Version::V5, &id).persistent());
    assert_eq!(second.connack().property(property::ASSIGNED_CLIENT_IDENTIFIER), None);
    second.subscribes("other", 0).says(publish("t", "x")).receives(publish("t", "x"));
}

#[test]
fn mqtt311_3_1_3_7_an_empty_client_identifier_needs_clean_session_1() {
    let broker = broker();
    Client::connects(&broker, connect(Version::V311, "")).is_alive();
    let client = Client::tries(&broker, Version::V311, connect(Version::V311, "").persistent());
    client.is_refused(&[2]);
}

#[test]
fn mqtt_3_1_3_8_a_client_identifier_too_long_is_refused_with_0x85() {
    let broker = broker();
    for length in [1025, 65_535] {
        let client = Client::tries(&broker, Version::V5, connect(Version::V5, &"x".repeat(length)));
        client.is_refused(&[CLIENT_IDENTIFIER_NOT_VALID]);
    }
}

#[test]
fn mqtt311_3_1_3_8_an_empty_client_identifier_with_clean_session_0_gets_return_code_2() {
    let broker = broker();
    let client = Client::tries(&broker, Version::V311, connect(Version::V311, "").persistent());
    assert_eq!(client.hears_bytes(), b"\x20\x02\x00\x02");
    client.is_closed();
}

#[test]
fn mqtt311_3_1_3_9_a_client_identifier_too_long_gets_return_code_2() {
    let broker = broker();
    let client = Client::tries(&broker, Version::V311, connect(Version::V311, &"x".repeat(1025)));
    assert_eq!(client.hears_bytes(), b"\x20\x02\x00\x02");
    client.is_closed();
}

both!(
    mqtt_3_1_3_12_an_ill_formed_user_name_is_malformed,
    mqtt311_3_1_3_11_an_ill_formed_user_name_ends_the_connection,
    |version| {
        is_malformed(version, CLEAN | USER_NAME, &[C, b"\0\x01\xff"]);
        is_malformed(version, CLEAN | USER_NAME, &[C, b"\0\x01\0"]);
    }
);

// ------------------------------------------------------------------------------------------------------------ actions

both!(
    mqtt_3_1_4_1_a_connect_of_the_wrong_format_ends_the_connection,
    mqtt311_3_1_4_1_a_connect_of_the_wrong_format_is_closed_without_connack,
    |version| {
        let broker = broker();
        let whole = connect(version, "client").will(will("t", "w")).user_name("u").password(b"p").bytes(version);
        let body = &whole[2..];
        for length in 0..body.len() {
            Client::tries(&broker, version, packet(0x10, &body[..length])).is_turned_away(&[MALFORMED_PACKET]);
        }
        for surplus in 1..4 {
            let bytes = packet(0x10, [body, &[0; 4][..surplus]].concat());
            Client::tries(&broker, version, bytes).is_turned_away(&[MALFORMED_PACKET]);
        }
        Client::connects(&broker, connect(version, "client")).is_alive();
    }
);

#[test]
fn mqtt_3_1_4_2_a_connect_that_fails_a_further_check_ends_the_connection() {
    let broker = broker();
    let old = Client::connects(&broker, connect(Version::V5, "client"));
    let unknown = connect(Version::V5, "client").with(property::authentication_method("NOPE"));
    Client::tries(&broker, Version::V5, unknown).is_refused(&[BAD_AUTHENTICATION_METHOD]);
    old.is_alive();
}

both!(
    mqtt_3_1_4_3_a_client_identifier_connected_already_takes_over_from_the_old_connection,
    mqtt311_3_1_4_2_a_client_identifier_connected_already_disconnects_the_old_connection,
    mqtt31_a_client_identifier_connected_already_disconnects_the_old_connection,
    |version| {
        let broker = broker();
        let mut current = Client::connects(&broker, connect(version, "client"));
        let bystander = Client::connects(&broker, connect(version, "bystander"));
        for _ in 0..4 {
            let new = Client::connects(&broker, connect(version, "client"));
            current.is_thrown_out(&[SESSION_TAKEN_OVER]);
            new.is_alive();
            current = new;
        }
        bystander.is_alive();
    }
);

#[test]
fn a_takeover_crosses_protocol_versions() {
    let broker = broker();
    let five = Client::connects(&broker, connect(Version::V5, "client").persistent());
    five.subscribes("t", 1);
    let four = Client::resumes(&broker, connect(Version::V311, "client").persistent());
    five.is_thrown_out(&[SESSION_TAKEN_OVER]);
    four.says(publish("t", "x")).receives(publish("t", "x"));
    let five = Client::resumes(&broker, connect(Version::V5, "client").persistent());
    four.is_closed();
    five.says(publish("t", "x")).receives(publish("t", "x"));
}

#[test]
fn mqtt_3_1_4_5_a_good_connect_is_answered_by_connack_0x00() {
    let broker = broker();
    let client = Client::tries(&broker, Version::V5, connect(Version::V5, "client"));
    let bytes = client.hears_bytes();
    assert_eq!((bytes[0], &bytes[2..4]), (0x20, &[0, 0][..]));
    assert_eq!(packet_sizes(&bytes), [bytes.len()]);
    client.is_open();
}

both!(
    mqtt_3_1_4_5_packets_right_behind_the_connect_are_processed,
    mqtt311_3_1_4_4_a_good_connect_gets_return_code_0,
    |version| {
        let broker = broker();
        let client = Client::opens(&broker, version);
        client.says_at_once(&[&connect(version, "client"), &subscribe(1).to("t", 0), &publish("t", "x"), &PINGREQ]);
        let mut heard = client.hears_all().into_iter();
        let connack = heard.next();
        assert!(matches!(&connack, Some(crate::support::wire::Parsed::ConnAck(ack)) if ack.code == 0), "{connack:?}");
        let rest: Vec<_> = heard.collect();
        assert_eq!(rest.len(), 3, "{rest:?}");
        assert!(rest.contains(&suback(1, &[0])) && rest.contains(&publish("t", "x").into()), "{rest:?}");
        if version == Version::V311 {
            let client = Client::tries(&broker, version, connect(version, "other"));
            assert_eq!(client.hears_bytes(), [0x20, 2, 0, 0]);
        }
    }
);

both!(
    mqtt_3_1_4_6_after_a_refused_connect_nothing_is_processed,
    mqtt311_3_1_4_5_after_a_refused_connect_nothing_is_processed,
    |version| {
        let broker = broker();
        let observer = Client::connects(&broker, connect(version, "observer"));
        observer.subscribes("#", 1);
        let refused = connect(version, &"x".repeat(2000)).will(will("will", "of a refused client"));
        let client = Client::opens(&broker, version);
        client.says_at_once(&[
            &refused,
            &publish("t", "x").retain(),
            &publish("t", "x").at_least_once(1),
            &subscribe(2).to("t", 0),
            &PINGREQ,
        ]);
        let code = if version.is_v5() { CLIENT_IDENTIFIER_NOT_VALID } else { 2 };
        client.is_refused(&[code]);
        client.vanishes();
        observer.hears_nothing();
        observer.subscribes("t", 1).hears_nothing();
    }
);
