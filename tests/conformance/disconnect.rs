//! Section 3.14: DISCONNECT. What it does to a Will is in `will.rs`.

use crate::house::{broker, receive_maximum};
use crate::support::wire::{
    Packet, Version, connect, connect_v5, disconnect, packet, packet_sizes, property, publish, pubrel, reason::*,
    subscribe, will,
};
use crate::talk::{Client, both, number, seconds, shows};

#[test]
fn mqtt_3_14_0_1_no_disconnect_comes_before_a_successful_connack() {
    let broker = broker();
    let plain = || connect_v5("client");
    let first_packets: Vec<Vec<u8>> = vec![
        plain().with(property::authentication_method("NOPE")).bytes(Version::V5),
        plain().with(property::receive_maximum(0)).bytes(Version::V5),
        plain().with(property::topic_alias(1)).bytes(Version::V5),
        plain().will(will("#", "x")).bytes(Version::V5),
        connect_v5(&"x".repeat(2000)).bytes(Version::V5),
        packet(0x10, b"\0\x04MQTT\x06\x02\0\0\0\0\0"),
        packet(0x10, b"\0\x04MQTT\x05\x03\0\0\0\0\0"),
        packet(0x11, b"\0\x04MQTT\x05\x02\0\0\0\0\0"),
        subscribe(1).to("t", 0).bytes(Version::V5),
        publish("t", "x").bytes(Version::V5),
        vec![0x00, 0],
        vec![0xff; 5],
    ];
    for bytes in first_packets {
        let client = Client::tries(&broker, Version::V5, bytes);
        // The parser knows DISCONNECT; what comes is a CONNACK or nothing.
        let answer = client.hears_bytes();
        assert!(answer.is_empty() || answer[0] == 0x20, "{answer:02x?}");
        assert!(packet_sizes(&answer).len() <= 1);
        client.is_closed();
    }
}

both!(
    mqtt_3_14_1_1_reserved_bits_that_are_not_0_are_answered_by_disconnect_0x81,
    mqtt311_3_14_1_1_reserved_bits_that_are_not_0_disconnect_the_client,
    |version| {
        let broker = broker();
        let observer = Client::connects(&broker, connect(version, "observer"));
        observer.subscribes("will", 0);
        for flags in 1..16 {
            let client = Client::connects(&broker, connect(version, "client").will(will("will", "gone")));
            client.says([0xe0 | flags, 0]).is_thrown_out(&[MALFORMED_PACKET]);
            observer.receives(publish("will", "gone"));
        }
    }
);

/// Provokes a DISCONNECT with each Reason Code that this broker has an easy reason for.
fn provoked() -> Vec<(u8, Vec<u8>)> {
    let publish_of = |property| publish("t", "x").with(property).bytes(Version::V5);
    vec![
        (MALFORMED_PACKET, packet(0x36, b"\0\x01t")),
        (PROTOCOL_ERROR, connect_v5("client").bytes(Version::V5)),
        (PROTOCOL_ERROR, publish_of(property::subscription_identifier(1))),
        (TOPIC_ALIAS_INVALID, publish_of(property::topic_alias(0))),
        (TOPIC_ALIAS_INVALID, publish_of(property::topic_alias(60_000))),
        (PACKET_TOO_LARGE, vec![0x30, 0xff, 0xff, 0xff, 0x7f]),
        (
            RECEIVE_MAXIMUM_EXCEEDED,
            (1..=4).flat_map(|packet_id| publish("t", "x").exactly_once(packet_id).bytes(Version::V5)).collect(),
        ),
    ]
}

shows!(
    mqtt_3_14_2_1_the_servers_disconnect_has_only_codes_of_its_table,
    mqtt_3_14_2_2_the_servers_disconnect_has_no_session_expiry_interval,
    || {
        let broker = receive_maximum(3);
        for (reason, bytes) in provoked() {
            let client = Client::connects(&broker, connect_v5("client").with(property::session_expiry_interval(100)));
            client.says(bytes);
            // The parser holds the code and the properties against their tables.
            let heard = client.hears_all();
            let disconnect = heard.iter().find_map(|parsed| match parsed {
                crate::support::wire::Parsed::Disconnect(disconnect) => Some(disconnect),
                _ => None,
            });
            let disconnect = disconnect.unwrap_or_else(|| panic!("DISCONNECT {reason:#x} expected, not {heard:?}"));
            assert_eq!(disconnect.reason, reason, "{heard:?}");
            assert_eq!(disconnect.property(property::SESSION_EXPIRY_INTERVAL), None);
            client.is_closed();
        }
    }
);

#[test]
fn mqtt_3_14_2_1_a_code_that_is_not_a_clients_to_say_is_refused() {
    let broker = broker();
    let observer = Client::connects(&broker, connect_v5("observer"));
    observer.subscribes("will", 0);
    let unknown = [0x01, 0x02, 0x05, 0x18, 0x7f, 0xff];
    for reason in unknown {
        let client = Client::connects(&broker, connect_v5("client").will(will("will", "gone")));
        client.says(packet(0xe0, [reason, 0])).is_thrown_out(&[PROTOCOL_ERROR, MALFORMED_PACKET]);
        observer.receives(publish("will", "gone"));
    }
}

#[test]
fn mqtt_3_14_2_1_each_code_of_a_client_ends_the_connection_without_an_answer() {
    let broker = broker();
    for reason in [0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99] {
        let client = Client::connects(&broker, connect_v5("client"));
        client.says(packet(0xe0, [reason, 0])).is_closed();
    }
}

#[test]
fn a_disconnect_may_leave_out_its_property_length_and_its_reason_code() {
    let broker = broker();
    for body in [&b""[..], b"\x00", b"\x00\x00", b"\x04", b"\x00\x05\x11\x00\x00\x00\x00"] {
        let client = Client::connects(&broker, connect_v5("client"));
        client.says(packet(0xe0, body)).is_closed();
    }
}

shows!(
    mqtt_3_14_2_3_no_reason_string_makes_disconnect_too_large,
    mqtt_3_14_2_4_no_user_property_makes_disconnect_too_large,
    || {
        let broker = broker();
        for (reason, bytes) in provoked().into_iter().take(6) {
            let (client, limit) = Client::connects_narrowly(&broker);
            client.says(bytes);
            let answer = client.hears_bytes();
            assert_eq!(packet_sizes(&answer), [answer.len()]);
            assert!(answer.len() <= limit, "{} bytes where {limit} are allowed", answer.len());
            assert_eq!((answer[0], answer[2]), (0xe0, reason));
            client.is_closed();
        }
    }
);

#[test]
fn mqtt_3_14_4_1_the_server_sends_nothing_after_its_disconnect() {
    let broker = broker();
    let publisher = Client::connects(&broker, connect_v5("publisher"));
    let client = Client::connects(&broker, connect_v5("client").persistent());
    client.subscribes("t", 1);
    client.says_at_once(&[
        &packet(0x36, b"\0\x01t"),
        &publish("t", "x").at_least_once(1),
        &subscribe(2).to("u", 0),
        &crate::support::wire::PINGREQ,
    ]);
    publisher.publishes(publish("t", "live").at_least_once(1));
    client.is_thrown_out(&[MALFORMED_PACKET]);
}

#[test]
fn mqtt_3_14_4_1_what_a_client_says_after_its_disconnect_is_not_processed() {
    let broker = broker();
    for version in [Version::V5, Version::V311] {
        let observer = Client::connects(&broker, connect(version, "observer"));
        observer.subscribes("t", 0);
        let client = Client::connects(&broker, connect(version, "client"));
        client.says_at_once(&[&publish("t", "before"), &disconnect(0), &publish("t", "after"), &disconnect(0)]);
        client.is_closed();
        observer.receives(publish("t", "before"));
    }
}

both!(
    mqtt_3_14_4_2_the_connection_is_closed_after_disconnect,
    a_connection_is_closed_after_disconnect_in_3_1_1,
    |version| {
        let broker = broker();
        let client = Client::connects(&broker, connect(version, "client"));
        client.says(disconnect(0)).is_closed();
        let client = Client::connects(&broker, connect(version, "client"));
        client.says(packet(0x36, b"\0\x01t")).is_thrown_out(&[MALFORMED_PACKET]);
    }
);

both!(a_disconnect_with_surplus_bytes_is_malformed, a_disconnect_with_surplus_bytes_is_malformed_in_3_1_1, |version| {
    let broker = broker();
    let observer = Client::connects(&broker, connect(version, "observer"));
    observer.subscribes("will", 0);
    let client = Client::connects(&broker, connect(version, "client").will(will("will", "gone")));
    client.says(packet(0xe0, b"\0\0x")).is_thrown_out(&[MALFORMED_PACKET]);
    observer.receives(publish("will", "gone"));
});

// ------------------------------------------------------------------------------- Session Expiry Interval in DISCONNECT

#[test]
fn a_disconnect_may_shorten_the_session() {
    let broker = broker();
    let client = Client::connects(&broker, connect_v5("client").with(property::session_expiry_interval(100)));
    client.says(disconnect(0).with(property::session_expiry_interval(3))).is_closed();
    broker.advance(seconds(6));
    assert!(!Client::connects(&broker, connect_v5("client").resuming()).session_present());
}

#[test]
fn a_disconnect_may_end_the_session() {
    let broker = broker();
    let client = Client::connects(&broker, connect_v5("client").with(property::session_expiry_interval(100)));
    client.says(disconnect(0).with(property::session_expiry_interval(0))).is_closed();
    assert!(!Client::connects(&broker, connect_v5("client").resuming()).session_present());
}

#[test]
fn a_disconnect_may_lengthen_the_session() {
    let broker = broker();
    let client = Client::connects(&broker, connect_v5("client").with(property::session_expiry_interval(2)));
    client.says(disconnect(0).with(property::session_expiry_interval(100))).is_closed();
    broker.advance(seconds(6));
    Client::resumes(&broker, connect_v5("client").resuming()).is_alive();
}

#[test]
fn a_disconnect_without_the_interval_leaves_the_session_as_it_was() {
    let broker = broker();
    let client = Client::connects(&broker, connect_v5("client").with(property::session_expiry_interval(100)));
    client.says(disconnect(0)).is_closed();
    broker.advance(seconds(6));
    Client::resumes(&broker, connect_v5("client").resuming()).is_alive();
}

#[test]
fn a_disconnect_cannot_give_a_session_of_0_seconds_a_longer_life() {
    let broker = broker();
    let observer = Client::connects(&broker, connect_v5("observer"));
    observer.subscribes("will", 0);
    let client = Client::connects(&broker, connect_v5("client").will(will("will", "gone")));
    client.says(disconnect(0).with(property::session_expiry_interval(10))).is_thrown_out(&[PROTOCOL_ERROR]);
    observer.receives(publish("will", "gone"));
    assert!(!Client::connects(&broker, connect_v5("client").resuming()).session_present());
}

#[test]
fn a_property_that_stands_in_disconnect_twice_or_wrongly_is_refused() {
    let broker = broker();
    let twice = disconnect(0).with(property::reason_string("a")).with(property::reason_string("b"));
    let client = Client::connects(&broker, connect_v5("client"));
    client.says(twice).is_thrown_out(&[PROTOCOL_ERROR]);
    let client = Client::connects(&broker, connect_v5("client"));
    client.says(disconnect(0).with(property::topic_alias(1))).is_thrown_out(&[MALFORMED_PACKET, PROTOCOL_ERROR]);
}

#[test]
fn a_session_expiry_interval_above_that_of_the_server_is_clamped_in_disconnect_too() {
    let broker = broker();
    let client = Client::connects(&broker, connect_v5("client").with(property::session_expiry_interval(u32::MAX)));
    let granted = number(client.connack().property(property::SESSION_EXPIRY_INTERVAL));
    let granted = u64::from(granted.expect("the test profile does not keep Sessions for ever"));
    client.says(disconnect(0).with(property::session_expiry_interval(u32::MAX))).is_closed();
    broker.advance(seconds(granted + 10));
    assert!(!Client::connects(&broker, connect_v5("client").resuming()).session_present());
}

#[test]
fn a_pubrel_after_disconnect_is_not_answered() {
    let broker = broker();
    let client = Client::connects(&broker, connect_v5("client"));
    client.says_at_once(&[&disconnect(0), &pubrel(1)]).is_closed();
}

#[test]
fn a_server_that_shuts_down_says_so_with_0x8b() {
    let broker = broker();
    let five = Client::connects(&broker, connect_v5("five"));
    let four = Client::connects(&broker, connect(Version::V311, "four"));
    broker.stop();
    five.is_thrown_out(&[0x8b]);
    four.is_closed();
}
