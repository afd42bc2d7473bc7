//! Section 3.2: CONNACK.

use crate::house::{broker, maximum_qos, packet_size_max, topic_alias_maximum, without_retain};
use crate::support::wire::{
    AckKind, PINGREQ, Packet, Parsed, Version, connect, packet, packet_sizes, property, publish, reason::*, subscribe,
    will,
};
use crate::talk::{Client, both, number, shows};

both!(
    mqtt_3_2_0_1_connack_comes_before_anything_else,
    mqtt311_3_2_0_1_connack_is_the_servers_first_packet,
    |version| {
        let broker = broker();
        let publisher = Client::connects(&broker, connect(version, "publisher"));
        let client = Client::connects(&broker, connect(version, "client").persistent());
        client.subscribes("t", 2).vanishes();
        for packet_id in 1..10 {
            publisher.publishes(publish("t", "waiting").qos(1 + (packet_id % 2) as u8, packet_id));
        }
        let client = Client::tries(&broker, version, connect(version, "client").persistent());
        let heard = client.hears_all();
        assert!(matches!(&heard[0], Parsed::ConnAck(connack) if connack.code == 0), "{heard:?}");
        assert_eq!(heard.len(), 10);
        assert!(heard[1..].iter().all(|parsed| matches!(parsed, Parsed::Publish(_))), "{heard:?}");
    }
);

both!(mqtt_3_2_0_2_there_is_at_most_one_connack, mqtt311_3_2_0_1_there_is_no_second_connack, |version| {
    let broker = broker();
    let client = Client::opens(&broker, version);
    client.says_at_once(&[&connect(version, "client"), &connect(version, "client"), &PINGREQ]);
    let connacks = client.hears_all().into_iter().filter(|parsed| matches!(parsed, Parsed::ConnAck(_))).count();
    assert_eq!(connacks, 1);
    client.is_closed();
});

both!(
    mqtt_3_2_2_1_bits_7_to_1_of_the_acknowledge_flags_are_0,
    mqtt311_3_2_2_1_the_acknowledge_flags_hold_nothing_but_session_present,
    |version| {
        let broker = broker();
        for expected in [0, 1, 1] {
            let client = Client::tries(&broker, version, connect(version, "client").persistent());
            let bytes = client.hears_bytes();
            assert_eq!((bytes[0], &bytes[2..4]), (0x20, &[expected, 0][..]));
            client.vanishes();
        }
        let client = Client::tries(&broker, version, connect(version, "client"));
        assert_eq!(client.hears_bytes()[2], 0);
    }
);

both!(
    mqtt_3_2_2_2_clean_start_1_is_accepted_with_session_present_0,
    mqtt311_3_2_2_1_clean_session_1_is_accepted_with_session_present_0,
    |version| {
        let broker = broker();
        assert!(!Client::connects(&broker, connect(version, "client")).session_present());
        Client::connects(&broker, connect(version, "client").persistent()).vanishes();
        assert!(!Client::connects(&broker, connect(version, "client")).session_present());
    }
);

both!(
    mqtt_3_2_2_3_clean_start_0_is_told_whether_state_was_stored,
    mqtt311_3_2_2_2_clean_session_0_with_stored_state_is_accepted_with_session_present_1,
    |version| {
        let broker = broker();
        let client = Client::connects(&broker, connect(version, "client").persistent());
        assert!(!client.session_present());
        client.disconnects();
        let client = Client::connects(&broker, connect(version, "client").persistent());
        assert!(client.session_present());
        // once more, while it is connected
        assert!(Client::connects(&broker, connect(version, "client").persistent()).session_present());
        assert!(!Client::connects(&broker, connect(version, "another").persistent()).session_present());
    }
);

#[test]
fn mqtt311_3_2_2_3_clean_session_0_without_stored_state_is_accepted_with_session_present_0() {
    let broker = broker();
    let client = Client::connects(&broker, connect(Version::V311, "client"));
    client.subscribes("t", 1).disconnects();
    assert!(!Client::connects(&broker, connect(Version::V311, "client").persistent()).session_present());
}

#[test]
fn mqtt_3_2_2_3_a_session_without_expiry_interval_ends_with_its_connection() {
    let broker = broker();
    Client::connects(&broker, connect(Version::V5, "client").resuming()).vanishes();
    assert!(!Client::connects(&broker, connect(Version::V5, "client").resuming()).session_present());
}

both!(
    mqtt_3_2_2_6_a_refusal_has_session_present_0_even_when_there_is_a_session,
    mqtt311_3_2_2_4_a_refusal_has_session_present_0,
    |version| {
        let broker = broker();
        if version.is_v5() {
            Client::connects(&broker, connect(version, "client").persistent()).vanishes();
            let refused = connect(version, "client").persistent().with(property::authentication_method("NOPE"));
            let client = Client::tries(&broker, version, refused);
            assert_eq!(client.hears_bytes()[2..4], [0, BAD_AUTHENTICATION_METHOD]);
            Client::resumes(&broker, connect(version, "client").persistent()).is_alive();
        } else {
            let client = Client::tries(&broker, version, connect(version, "").persistent());
            assert_eq!(client.hears_bytes(), [0x20, 2, 0, 2]);
        }
    }
);

both!(mqtt_3_2_2_7_a_refusal_is_followed_by_closing, mqtt311_3_2_2_5_a_refusal_is_followed_by_closing, |version| {
    let broker = broker();
    let client = Client::tries(&broker, version, connect(version, &"x".repeat(2000)));
    let code = if version.is_v5() { CLIENT_IDENTIFIER_NOT_VALID } else { 2 };
    client.is_refused(&[code]);
});

#[test]
fn mqtt311_3_2_2_6_where_no_return_code_fits_the_connection_is_closed_without_connack() {
    let broker = broker();
    let wildcard = connect(Version::V311, "client").will(will("a/+", "x"));
    Client::tries(&broker, Version::V311, wildcard).is_closed();
}

#[test]
fn mqtt_3_2_2_8_connack_uses_only_codes_of_its_own_table() {
    let broker = broker();
    let plain = || connect(Version::V5, "client");
    let connects = [
        (plain().with(property::authentication_method("NOPE")), &[BAD_AUTHENTICATION_METHOD][..]),
        (plain().with(property::receive_maximum(0)), &[PROTOCOL_ERROR]),
        (plain().with(property::topic_alias(1)), &[MALFORMED_PACKET, PROTOCOL_ERROR]),
        (plain().will(will("#", "x")), &[TOPIC_NAME_INVALID]),
        (connect(Version::V5, &"x".repeat(2000)), &[CLIENT_IDENTIFIER_NOT_VALID]),
    ];
    // The parser holds each code against the table.
    for (connect, codes) in connects {
        Client::tries(&broker, Version::V5, connect).is_refused(codes);
    }
}

// ------------------------------------------------------------------------------------------- what a server cannot do

#[test]
fn mqtt_3_2_2_9_a_server_without_qos_1_or_2_says_so() {
    for qos in [0, 1] {
        let broker = maximum_qos(qos);
        let client = Client::connects(&broker, connect(Version::V5, "client"));
        assert_eq!(number(client.connack().property(property::MAXIMUM_QOS)), Some(u32::from(qos)));
    }
    let client = Client::connects(&broker(), connect(Version::V5, "client"));
    assert_eq!(client.connack().property(property::MAXIMUM_QOS), None, "2 is never said");
}

#[test]
fn mqtt_3_2_2_10_a_server_without_qos_1_or_2_accepts_subscriptions_of_any_qos() {
    for maximum in [0, 1] {
        let broker = maximum_qos(maximum);
        let client = Client::connects(&broker, connect(Version::V5, "client"));
        client.says(subscribe(1).to("0", 0).to("1", 1).to("2", 2));
        // Whether it grants what was asked for or what it has is the server's to choose.
        let suback = client.hears_suback();
        let granted: Vec<u8> = suback.codes.iter().map(|code| (*code).min(maximum)).collect();
        assert_eq!((suback.packet_id, granted), (1, vec![0, maximum.min(1), maximum.min(2)]));
        assert!(suback.codes.iter().zip(0..3).all(|(code, asked)| *code <= asked), "{suback:?}");
        client.says(publish("2", "x")).receives(publish("2", "x"));
    }
}

#[test]
fn mqtt_3_2_2_11_a_publish_above_the_maximum_qos_is_refused_with_0x9b() {
    let broker = maximum_qos(1);
    let client = Client::connects(&broker, connect(Version::V5, "client"));
    client.publishes(publish("t", "x").at_least_once(1));
    client.says(publish("t", "x").exactly_once(2)).is_thrown_out(&[QOS_NOT_SUPPORTED]);
}

#[test]
fn mqtt_3_2_2_12_a_will_above_the_maximum_qos_is_refused_with_0x9b() {
    let broker = maximum_qos(1);
    Client::connects(&broker, connect(Version::V5, "client").will(will("t", "x").qos(1))).is_alive();
    let client = Client::tries(&broker, Version::V5, connect(Version::V5, "other").will(will("t", "x").qos(2)));
    client.is_refused(&[QOS_NOT_SUPPORTED]);
}

#[test]
fn mqtt_3_2_2_13_a_retained_will_without_retain_is_refused_with_0x9a() {
    let broker = without_retain();
    let client = Client::connects(&broker, connect(Version::V5, "client").will(will("t", "x")));
    assert_eq!(number(client.connack().property(property::RETAIN_AVAILABLE)), Some(0));
    let client = Client::tries(&broker, Version::V5, connect(Version::V5, "other").will(will("t", "x").retain()));
    client.is_refused(&[RETAIN_NOT_SUPPORTED]);
}

#[test]
fn mqtt_3_2_2_14_a_retained_publish_without_retain_is_refused_with_0x9a() {
    let broker = without_retain();
    let client = Client::connects(&broker, connect(Version::V5, "client"));
    assert_eq!(number(client.connack().property(property::RETAIN_AVAILABLE)), Some(0));
    client.publishes(publish("t", "x").at_least_once(1));
    client.says(publish("t", "x").retain()).is_thrown_out(&[RETAIN_NOT_SUPPORTED]);
}

#[test]
fn mqtt_3_2_2_15_a_packet_above_the_servers_maximum_packet_size_is_refused_with_0x95() {
    let broker = packet_size_max(1000);
    let client = Client::connects(&broker, connect(Version::V5, "client"));
    assert_eq!(number(client.connack().property(property::MAXIMUM_PACKET_SIZE)), Some(1000));
    client.subscribes("t", 0);
    let fitting = publish("t", vec![b'x'; 993]);
    assert_eq!(fitting.bytes(Version::V5).len(), 1000);
    client.says(fitting.clone()).receives(fitting);
    client.says(publish("t", vec![b'x'; 994])).is_thrown_out(&[PACKET_TOO_LARGE]);
}

#[test]
fn a_packet_too_large_is_refused_before_its_body_arrives() {
    let broker = packet_size_max(1000);
    for version in [Version::V5, Version::V311] {
        let client = Client::connects(&broker, connect(version, "client"));
        client.says([0x30, 0xff, 0xff, 0x7f]).is_thrown_out(&[PACKET_TOO_LARGE]);
    }
}

#[test]
fn mqtt_3_2_2_17_an_alias_above_the_servers_topic_alias_maximum_is_refused_with_0x94() {
    let broker = topic_alias_maximum(3);
    let client = Client::connects(&broker, connect(Version::V5, "client"));
    assert_eq!(number(client.connack().property(property::TOPIC_ALIAS_MAXIMUM)), Some(3));
    client.publishes(publish("t", "x").with(property::topic_alias(3)).at_least_once(1));
    client.says(publish("t", "x").with(property::topic_alias(4))).is_thrown_out(&[TOPIC_ALIAS_INVALID]);
}

#[test]
fn mqtt_3_2_2_18_a_server_without_topic_aliases_refuses_each_of_them() {
    let broker = topic_alias_maximum(0);
    for alias in [1, 2, 65_535] {
        let client = Client::connects(&broker, connect(Version::V5, "client"));
        assert!(matches!(number(client.connack().property(property::TOPIC_ALIAS_MAXIMUM)), None | Some(0)));
        client.says(publish("t", "x").with(property::topic_alias(alias))).is_thrown_out(&[TOPIC_ALIAS_INVALID]);
    }
}

shows!(
    mqtt_3_2_2_19_no_reason_string_makes_connack_too_large_for_the_client,
    mqtt_3_2_2_20_no_user_property_makes_connack_too_large_for_the_client,
    || {
        let broker = broker();
        for limit in [5, 6, 8, 12, 20, 40] {
            let narrow = connect(Version::V5, "client")
                .with(property::maximum_packet_size(limit))
                .with(property::authentication_method("NOPE"));
            let client = Client::tries(&broker, Version::V5, narrow);
            let bytes = client.hears_bytes();
            assert_eq!(packet_sizes(&bytes).len(), 1);
            assert!(bytes.len() <= limit as usize, "{} bytes where {limit} are allowed", bytes.len());
            assert_eq!((bytes[0], &bytes[2..4]), (0x20, &[0, BAD_AUTHENTICATION_METHOD][..]));
            client.is_closed();
        }
    }
);

#[test]
fn the_receive_maximum_and_the_other_limits_of_the_server_are_announced() {
    let broker = crate::house::receive_maximum(7);
    let client = Client::connects(&broker, connect(Version::V5, "client"));
    assert_eq!(number(client.connack().property(property::RECEIVE_MAXIMUM)), Some(7));
    for available in [
        property::RETAIN_AVAILABLE,
        property::WILDCARD_SUBSCRIPTION_AVAILABLE,
        property::SUBSCRIPTION_IDENTIFIER_AVAILABLE,
        property::SHARED_SUBSCRIPTION_AVAILABLE,
    ] {
        assert!(matches!(number(client.connack().property(available)), None | Some(1)));
    }
}

#[test]
fn a_session_expiry_interval_above_that_of_the_server_is_answered_by_the_one_it_will_use() {
    let broker = broker();
    let for_ever = connect(Version::V5, "client").with(property::session_expiry_interval(u32::MAX));
    let client = Client::connects(&broker, for_ever);
    let a_week = 7 * 24 * 3600;
    assert_eq!(number(client.connack().property(property::SESSION_EXPIRY_INTERVAL)), Some(a_week));
    let short = connect(Version::V5, "other").with(property::session_expiry_interval(60));
    let client = Client::connects(&broker, short);
    assert!(matches!(number(client.connack().property(property::SESSION_EXPIRY_INTERVAL)), None | Some(60)));
}

both!(a_connack_is_never_sent_by_a_client, a_connack_is_never_sent_by_a_client_in_3_1_1, |version| {
    let broker = broker();
    let own: [&[u8]; 4] = [&[0x20, 2, 0, 0], &[0x90, 3, 0, 1, 0], &[0xb0, 2, 0, 1], &[0xd0, 0]];
    let own_v5: [&[u8]; 4] = [&[0x20, 3, 0, 0, 0], &[0x90, 4, 0, 1, 0, 0], &[0xb0, 4, 0, 1, 0, 0], &[0xd0, 0]];
    for bytes in if version.is_v5() { own_v5 } else { own } {
        let client = Client::connects(&broker, connect(version, "client"));
        client.says(bytes).is_thrown_out(&[PROTOCOL_ERROR, MALFORMED_PACKET]);
    }
});

#[test]
fn packets_of_type_0_and_in_3_1_1_of_type_15_are_refused() {
    let broker = broker();
    for version in [Version::V5, Version::V311] {
        let client = Client::connects(&broker, connect(version, "client"));
        client.says(packet(0x00, [])).is_thrown_out(&[MALFORMED_PACKET]);
    }
    let client = Client::connects(&broker, connect(Version::V311, "client"));
    client.says(packet(0xf0, [0x19, 0])).is_closed();
}

#[test]
fn a_publish_above_the_maximum_qos_in_3_1_1_closes_the_connection() {
    let broker = maximum_qos(1);
    let client = Client::connects(&broker, connect(Version::V311, "client"));
    client.says(publish("t", "x").at_least_once(1));
    assert_eq!(client.hears_ack(AckKind::PubAck, 1).reason, 0);
    client.says(publish("t", "x").exactly_once(2)).is_closed();
}
