//! Sections 3.8 and 3.9: SUBSCRIBE and SUBACK.

use crate::house::{broker, without_shared_subscriptions, without_wildcards};
use crate::support::wire::{
    AckKind, Packet, Value, Version, connect, field, options::*, packet, packet_sizes, properties, property, pubcomp,
    publish, pubrel, reason::*, suback, subscribe, unsuback, unsubscribe,
};
use crate::talk::{Client, both, shows};

both!(
    mqtt_3_8_1_1_a_subscribe_with_flags_other_than_0010_is_malformed,
    mqtt311_3_8_1_1_a_subscribe_with_flags_other_than_0010_ends_the_connection,
    |version| {
        let broker = broker();
        for flags in (0..16).filter(|flags| *flags != 2) {
            let mut bytes = subscribe(1).to("t", 0).bytes(version);
            bytes[0] = 0x80 | flags;
            let client = Client::connects(&broker, connect(version, "client"));
            client.says(bytes).is_thrown_out(&[MALFORMED_PACKET]);
        }
        assert_eq!(broker.subscriptions(), 0);
    }
);

both!(
    mqtt_3_8_3_1_an_ill_formed_filter_is_malformed,
    mqtt311_3_8_3_1_an_ill_formed_filter_ends_the_connection,
    |version| {
        let broker = broker();
        for filter in [&b"\xff"[..], b"t\0", b"\xed\xa0\x80", b"t/\xc0\xaf"] {
            let client = Client::connects(&broker, connect(version, "client"));
            client.says(subscribe(1).to("fine", 0).to(filter, 0)).is_thrown_out(&[MALFORMED_PACKET]);
        }
        assert_eq!(broker.subscriptions(), 0);
    }
);

both!(
    mqtt_3_8_3_2_a_subscribe_without_a_filter_is_a_protocol_error,
    mqtt311_3_8_3_3_a_subscribe_without_a_filter_ends_the_connection,
    |version| {
        let broker = broker();
        let client = Client::connects(&broker, connect(version, "client"));
        client.says(subscribe(1)).is_thrown_out(&[PROTOCOL_ERROR, MALFORMED_PACKET]);
    }
);

both!(
    mqtt_3_8_3_2_a_filter_without_its_options_is_malformed,
    mqtt311_3_8_3_3_a_filter_without_its_qos_ends_the_connection,
    |version| {
        let broker = broker();
        let client = Client::connects(&broker, connect(version, "client"));
        let properties = if version.is_v5() { properties(&[]) } else { Vec::new() };
        client.says(packet(0x82, [vec![0, 1], properties, field("t")].concat()));
        client.is_thrown_out(&[MALFORMED_PACKET, PROTOCOL_ERROR]);
    }
);

#[test]
fn mqtt311_3_8_3_2_a_server_without_wildcards_refuses_filters_that_have_them() {
    let broker = without_wildcards();
    let client = Client::connects(&broker, connect(Version::V311, "client"));
    client.says(subscribe(1).to("t/#", 1).to("t/x", 1).to("+", 0)).hears(suback(1, &[0x80, 1, 0x80]));
    client.says(publish("t/y", "x")).says(publish("u", "x")).hears_nothing();
}

#[test]
fn a_server_without_wildcards_says_so_and_refuses_them_with_0xa2() {
    let broker = without_wildcards();
    let client = Client::connects(&broker, connect(Version::V5, "client"));
    let available = client.connack().property(property::WILDCARD_SUBSCRIPTION_AVAILABLE).cloned();
    assert_eq!(available, Some(Value::Byte(0)));
    client.says(subscribe(1).to("t/#", 1).to("t/x", 1));
    client.hears_suback_codes(1, &[WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED, 1]);
}

#[test]
fn a_server_without_shared_subscriptions_says_so_and_refuses_them_with_0x9e() {
    let broker = without_shared_subscriptions();
    let client = Client::connects(&broker, connect(Version::V5, "client"));
    let available = client.connack().property(property::SHARED_SUBSCRIPTION_AVAILABLE).cloned();
    assert_eq!(available, Some(Value::Byte(0)));
    client.says(subscribe(1).to("$share/g/t", 1).to("t", 1));
    client.hears_suback_codes(1, &[SHARED_SUBSCRIPTIONS_NOT_SUPPORTED, 1]);
}

#[test]
fn mqtt_3_8_3_3_no_local_keeps_a_client_from_hearing_itself() {
    let broker = broker();
    let client = Client::connects(&broker, connect(Version::V5, "client").persistent());
    let other = Client::connects(&broker, connect(Version::V5, "other"));
    client.subscribes("t/#", 2 | NO_LOCAL);
    other.subscribes("t/#", 2);
    for qos in [0, 1, 2] {
        let message = publish("t/x", "mine").qos(qos, 1);
        client.publishes(message.clone()).hears_nothing();
        other.takes(message);
        let message = publish("t/x", "theirs").qos(qos, 1);
        other.publishes(message.clone()).takes(message.clone());
        client.takes(message);
    }
    client.subscribes("t/x", 0);
    client.says(publish("t/x", "through the other subscription"));
    client.receives(publish("t/x", "through the other subscription"));
}

#[test]
fn mqtt_3_8_3_3_no_local_goes_by_client_identifier_and_not_by_connection() {
    let broker = broker();
    let client = Client::connects(&broker, connect(Version::V5, "client").persistent());
    client.subscribes("t", 1 | NO_LOCAL);
    client.publishes(publish("t", "before").at_least_once(1)).vanishes();
    let client = Client::resumes(&broker, connect(Version::V5, "client").persistent());
    client.publishes(publish("t", "after").at_least_once(2)).hears_nothing();
}

#[test]
fn mqtt_3_8_3_3_a_no_local_subscription_adds_nothing_to_the_clients_own_messages() {
    let broker = broker();
    let client = Client::connects(&broker, connect(Version::V5, "client"));
    let id = property::subscription_identifier;
    client.subscribes_with(subscribe(1).to("t/#", 2 | NO_LOCAL | RETAIN_AS_PUBLISHED).with(id(1)));
    client.subscribes_with(subscribe(2).to("t/x", 1).with(id(2)));
    // What comes back comes through the other subscription: with its QoS, its options and its identifier.
    client.publishes(publish("t/x", "x").exactly_once(1).retain());
    client.takes(publish("t/x", "x").at_least_once(0).with(id(2))).hears_nothing();
}

#[test]
fn mqtt_3_8_3_3_no_local_holds_for_retained_messages_too() {
    let broker = broker();
    let client = Client::connects(&broker, connect(Version::V5, "client"));
    client.publishes(publish("t/mine", "x").at_least_once(1).retain());
    Client::connects(&broker, connect(Version::V5, "other")).publishes(publish("t/theirs", "x").retain());
    client.subscribes("t/#", 1 | NO_LOCAL).takes(publish("t/theirs", "x").retain()).hears_nothing();
    client
        .subscribes("t/+", 1)
        .receives_in_any_order([publish("t/mine", "x").at_least_once(0).retain(), publish("t/theirs", "x").retain()]);
}

#[test]
fn a_packet_identifier_that_is_in_use_is_refused_with_0x91() {
    let broker = broker();
    let client = Client::connects(&broker, connect(Version::V5, "client"));
    client.says(publish("u", "x").exactly_once(7)).hears_ack(AckKind::PubRec, 7);
    client.says(subscribe(7).to("t", 0).to("v", 1)).hears_suback_codes(7, &[0x91, 0x91]);
    client.says(publish("t", "x")).hears_nothing();
    client.subscribes("w", 0);
    client.says(unsubscribe(7).from("w")).hears(unsuback(7, &[0x91]));
    client.says(publish("w", "x")).receives(publish("w", "x"));
    client.says(pubrel(7)).hears(pubcomp(7)).says(subscribe(7).to("t", 0)).hears(suback(7, &[0]));
}

both!(
    a_subscription_counts_from_its_suback_on_and_until_its_unsuback,
    a_subscription_counts_from_its_suback_on_and_until_its_unsuback_in_3_1_1,
    |version| {
        let broker = broker();
        let publisher = Client::connects(&broker, connect(version, "publisher"));
        let clients = ["one", "two", "three", "four"].map(|name| Client::connects(&broker, connect(version, name)));
        for filter in ["t/x", "t/+", "#", "+/x", "t/#", "t/x"] {
            publisher.publishes(publish("t/x", "nobody yet").at_least_once(1));
            for (count, client) in clients.iter().enumerate() {
                client.hears_nothing().subscribes(filter, 1);
                publisher.publishes(publish("t/x", filter).at_least_once(2));
                for subscribed in &clients[..=count] {
                    subscribed.takes(publish("t/x", filter).at_least_once(0)).hears_nothing();
                }
            }
            for (count, client) in clients.iter().enumerate() {
                client.unsubscribes(filter);
                publisher.publishes(publish("t/x", filter).at_least_once(3));
                for subscribed in &clients[count + 1..] {
                    subscribed.takes(publish("t/x", filter).at_least_once(0)).hears_nothing();
                }
            }
        }
        publisher.publishes(publish("t/x", "nobody any more").at_least_once(4));
        for client in &clients {
            client.hears_nothing();
        }
    }
);

#[test]
fn without_no_local_a_client_hears_itself() {
    let broker = broker();
    for version in [Version::V31, Version::V311, Version::V5] {
        let client = Client::connects(&broker, connect(version, "client"));
        client.subscribes("t", 0).says(publish("t", "x")).receives(publish("t", "x"));
    }
}

#[test]
fn mqtt_3_8_3_4_no_local_on_a_shared_subscription_is_a_protocol_error() {
    let broker = broker();
    let client = Client::connects(&broker, connect(Version::V5, "client"));
    client.says(subscribe(1).to("$share/group/t", 1 | NO_LOCAL)).is_thrown_out(&[PROTOCOL_ERROR]);
    assert_eq!(broker.subscriptions(), 0);
}

#[test]
fn mqtt_3_8_3_5_reserved_option_bits_that_are_not_0_are_malformed() {
    let broker = broker();
    for bits in [0x40, 0x80, 0xc0] {
        let client = Client::connects(&broker, connect(Version::V5, "client"));
        client.says(subscribe(1).to("t", 1 | bits)).is_thrown_out(&[MALFORMED_PACKET]);
    }
}

#[test]
fn a_requested_qos_of_3_or_a_retain_handling_of_3_is_a_protocol_error() {
    let broker = broker();
    for options in [0x03, 0x30, 0x33] {
        let client = Client::connects(&broker, connect(Version::V5, "client"));
        client.says(subscribe(1).to("t", options)).is_thrown_out(&[PROTOCOL_ERROR, MALFORMED_PACKET]);
    }
}

#[test]
fn mqtt311_3_8_3_4_reserved_bits_or_qos_3_in_the_payload_end_the_connection() {
    let broker = broker();
    for options in [0x03, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0xff] {
        let client = Client::connects(&broker, connect(Version::V311, "client"));
        client.says(subscribe(1).to("fine", 0).to("t", options)).is_closed();
    }
    assert_eq!(broker.subscriptions(), 0);
}

both!(
    mqtt_3_8_4_1_each_subscribe_gets_a_suback,
    mqtt311_3_8_4_1_each_subscribe_gets_a_suback,
    mqtt31_each_subscribe_gets_a_suback,
    |version| {
        let broker = broker();
        let client = Client::connects(&broker, connect(version, "client"));
        client.says(subscribe(5).to("t", 0));
        let expected: &[u8] = if version.is_v5() { &[0x90, 4, 0, 5, 0, 0] } else { &[0x90, 3, 0, 5, 0] };
        assert_eq!(client.hears_bytes(), expected);
        client.says_at_once(&[&subscribe(6).to("t", 1), &subscribe(7).to("u", 2), &subscribe(8).to("t", 0)]);
        client.hears([suback(6, &[1]), suback(7, &[2]), suback(8, &[0])]);
    }
);

both!(
    mqtt_3_8_4_2_the_suback_has_the_packet_identifier_of_its_subscribe,
    mqtt311_3_8_4_2_the_suback_has_the_packet_identifier_of_its_subscribe,
    |version| {
        let broker = broker();
        let client = Client::connects(&broker, connect(version, "client"));
        for packet_id in [0xffff, 1, 0x0100, 0x00ff] {
            client.says(subscribe(packet_id).to("t", 0)).hears(suback(packet_id, &[0]));
        }
    }
);

both!(
    mqtt_3_8_4_3_the_same_filter_again_replaces_the_subscription,
    mqtt311_3_8_4_3_the_same_filter_again_replaces_the_subscription,
    |version| {
        let broker = broker();
        let publisher = Client::connects(&broker, connect(version, "publisher"));
        let client = Client::connects(&broker, connect(version, "client"));
        for qos in [0, 2, 1, 0, 1] {
            client.subscribes("t/+", qos);
            publisher.publishes(publish("t/x", "x").exactly_once(1));
            client.takes(publish("t/x", "x").qos(qos, 0)).hears_nothing();
        }
        client.unsubscribes("t/+");
        publisher.says(publish("t/x", "x"));
        client.hears_nothing();
    }
);

#[test]
fn mqtt_3_8_4_3_the_options_are_replaced_too() {
    let broker = broker();
    let client = Client::connects(&broker, connect(Version::V5, "client"));
    client.subscribes("t", 1 | NO_LOCAL | RETAIN_AS_PUBLISHED);
    client.says(publish("t", "x").retain()).hears_nothing();
    client.subscribes("t", RETAIN_AS_PUBLISHED | DO_NOT_SEND_RETAINED);
    client.says(publish("t", "x").retain()).receives(publish("t", "x").retain());
    client.subscribes("t", DO_NOT_SEND_RETAINED);
    client.says(publish("t", "x").retain()).receives(publish("t", "x"));
}

both!(
    mqtt_3_8_4_4_a_replaced_subscription_sends_retained_messages_again,
    mqtt311_3_8_4_3_a_replaced_subscription_sends_retained_messages_again,
    |version| {
        let broker = broker();
        let publisher = Client::connects(&broker, connect(version, "publisher"));
        publisher.publishes(publish("t/x", "retained").retain());
        let client = Client::connects(&broker, connect(version, "client"));
        for _ in 0..3 {
            client.subscribes("t/x", 1).receives(publish("t/x", "retained").retain());
        }
    }
);

both!(
    mqtt_3_8_4_4_replacing_a_subscription_loses_no_live_messages,
    mqtt311_3_8_4_3_replacing_a_subscription_loses_no_live_messages,
    |version| {
        let broker = broker();
        let publisher = Client::connects(&broker, connect(version, "publisher"));
        let client = Client::connects(&broker, connect(version, "client").persistent());
        client.subscribes("t", 1);
        let mut open = Vec::new();
        for number in 1..=10 {
            let message = publish("t", number.to_string()).at_least_once(number);
            publisher.publishes(message.clone());
            client.subscribes("t", 1);
            open.push(client.receives(message));
        }
        // Nor does it touch what was sent and not acknowledged.
        client.vanishes();
        let client = Client::resumes(&broker, connect(version, "client").persistent());
        let again = client.hears_publishes();
        assert_eq!(again.iter().filter_map(|message| message.packet_id).collect::<Vec<_>>(), open);
    }
);

both!(
    mqtt_3_8_4_5_several_filters_work_like_several_packets_with_one_suback,
    mqtt311_3_8_4_4_several_filters_work_like_several_packets_with_one_suback,
    |version| {
        let broker = broker();
        let publisher = Client::connects(&broker, connect(version, "publisher"));
        publisher.publishes(publish("b", "retained").at_least_once(1).retain());
        let client = Client::connects(&broker, connect(version, "client"));
        client.subscribes_with(subscribe(1).to("a", 0).to("b", 1).to("c/#", 2).to("a", 1));
        client.takes(publish("b", "retained").at_least_once(0).retain());
        for (topic, granted) in [("a", 1), ("b", 1), ("c", 2), ("c/d", 2)] {
            publisher.publishes(publish(topic, "live").exactly_once(2));
            client.takes(publish(topic, "live").qos(granted, 0)).hears_nothing();
        }
    }
);

both!(mqtt_3_8_4_6_the_suback_has_one_code_per_filter, mqtt311_3_8_4_5_the_suback_has_one_code_per_filter, |version| {
    let broker = broker();
    let client = Client::connects(&broker, connect(version, "client"));
    for count in [1, 2, 7, 100] {
        let several = (0..count).fold(subscribe(9), |subscribe, number| subscribe.to(format!("t/{number}"), 1));
        client.says(several).hears(suback(9, &vec![1; count]));
    }
});

shows!(mqtt_3_8_4_7_each_code_is_the_qos_granted_or_a_failure, mqtt_3_9_3_2_suback_has_only_codes_of_its_table, || {
    let broker = broker();
    let client = Client::connects(&broker, connect(Version::V5, "client"));
    // The parser holds each code against the table.
    client.says(subscribe(1).to("a", 0).to("b", 1).to("c", 2).to("a#", 1).to("$share/g", 1).to("$share//t", 1));
    let invalid = TOPIC_FILTER_INVALID;
    client.hears_suback_codes(1, &[0, 1, 2, invalid, invalid, invalid]);
});

shows!(
    mqtt311_3_9_3_2_suback_codes_are_0_1_2_or_0x80,
    mqtt311_3_8_4_5_each_code_is_the_qos_granted_or_a_failure,
    || {
        let broker = broker();
        let client = Client::connects(&broker, connect(Version::V311, "client"));
        client.says(subscribe(1).to("a", 0).to("a#", 0).to("b", 1).to("c", 2).to("+b", 2));
        client.hears(suback(1, &[0, 0x80, 1, 2, 0x80]));
    }
);

both!(
    mqtt_3_8_4_8_the_delivery_qos_is_the_lower_of_published_and_granted_qos,
    mqtt311_3_8_4_6_the_delivery_qos_is_the_lower_of_published_and_granted_qos,
    mqtt31_the_delivery_qos_is_the_lower_of_published_and_granted_qos,
    |version| {
        let broker = broker();
        let publisher = Client::connects(&broker, connect(version, "publisher"));
        let clients = [0, 1, 2].map(|granted| {
            let client = Client::connects(&broker, connect(version, &format!("client{granted}")));
            client.subscribes("t", granted);
            (granted, client)
        });
        for published in [0, 1, 2] {
            publisher.publishes(publish("t", "x").qos(published, 1));
            for (granted, client) in &clients {
                client.takes(publish("t", "x").qos(published.min(*granted), 0)).hears_nothing();
            }
        }
    }
);

#[test]
fn a_retained_message_too_is_sent_with_the_lower_qos() {
    let broker = broker();
    let publisher = Client::connects(&broker, connect(Version::V5, "publisher"));
    for published in [0, 1, 2] {
        publisher.publishes(publish("t", "x").qos(published, 1).retain());
        for granted in [0, 1, 2] {
            let client = Client::connects(&broker, connect(Version::V5, "client"));
            client.subscribes("t", granted).takes(publish("t", "x").qos(published.min(granted), 0).retain());
        }
    }
}

shows!(
    mqtt_3_9_2_1_no_reason_string_makes_suback_too_large,
    mqtt_3_9_2_2_no_user_property_makes_suback_too_large,
    || {
        let broker = broker();
        let (client, limit) = Client::connects_narrowly(&broker);
        client.says(subscribe(1).to("a#", 0));
        let answer = client.hears_bytes();
        assert_eq!(packet_sizes(&answer), [answer.len()]);
        assert!(answer.len() <= limit, "{} bytes where {limit} are allowed", answer.len());
        assert_eq!((answer[0], &answer[2..4], answer.last()), (0x90, &[0, 1][..], Some(&TOPIC_FILTER_INVALID)));
    }
);

both!(
    mqtt_3_9_3_1_the_codes_stand_in_the_order_of_the_filters,
    mqtt311_3_9_3_1_the_codes_stand_in_the_order_of_the_filters,
    |version| {
        let broker = broker();
        let client = Client::connects(&broker, connect(version, "client"));
        let refused = if version.is_v5() { TOPIC_FILTER_INVALID } else { 0x80 };
        client.says(subscribe(1).to("a", 2).to("a/#/b", 1).to("b", 0).to("c", 1).to("d+", 0).to("e", 2));
        client.hears_suback_codes(1, &[2, refused, 0, 1, refused, 2]);
    }
);

#[test]
fn a_subscription_identifier_of_0_or_twice_is_a_protocol_error() {
    let broker = broker();
    let client = Client::connects(&broker, connect(Version::V5, "client"));
    client.says(subscribe(1).to("t", 0).with(property::subscription_identifier(0))).is_thrown_out(&[PROTOCOL_ERROR]);
    let client = Client::connects(&broker, connect(Version::V5, "client"));
    let id = property::subscription_identifier;
    client.says(subscribe(1).to("t", 0).with(id(1)).with(id(2))).is_thrown_out(&[PROTOCOL_ERROR]);
    assert_eq!(broker.subscriptions(), 0);
}

#[test]
fn a_property_that_does_not_belong_into_subscribe_is_malformed() {
    let broker = broker();
    for property in [property::topic_alias(1), property::reason_string("x"), property::message_expiry_interval(1)] {
        let client = Client::connects(&broker, connect(Version::V5, "client"));
        client.says(subscribe(1).to("t", 0).with(property)).is_thrown_out(&[MALFORMED_PACKET, PROTOCOL_ERROR]);
    }
}

both!(a_refused_filter_subscribes_to_nothing, a_refused_filter_subscribes_to_nothing_in_3_1_1, |version| {
    let broker = broker();
    let client = Client::connects(&broker, connect(version, "client"));
    let refused = if version.is_v5() { TOPIC_FILTER_INVALID } else { 0x80 };
    client.says(subscribe(1).to("a/#/b", 0).to("good", 0)).hears_suback_codes(1, &[refused, 0]);
    assert_eq!(broker.subscriptions(), 1);
    client.says(publish("a/x/b", "x")).says(publish("a", "x")).hears_nothing();
    client.says(publish("good", "x")).receives(publish("good", "x"));
});
