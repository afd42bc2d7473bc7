//! Sections 3.10 and 3.11: UNSUBSCRIBE and UNSUBACK.

use crate::house::broker;
use crate::support::wire::{
    Packet, Version, connect, packet_sizes, puback, pubcomp, publish, pubrec, pubrel, reason::*, unsuback, unsubscribe,
};
use crate::talk::{Client, both, shows};

/// The codes of an UNSUBACK, which 3.1.1 does not have.
fn codes(version: Version, codes: &[u8]) -> &[u8] {
    if version.is_v5() { codes } else { &[] }
}

both!(
    mqtt_3_10_1_1_an_unsubscribe_with_flags_other_than_0010_is_malformed,
    mqtt311_3_10_1_1_an_unsubscribe_with_flags_other_than_0010_ends_the_connection,
    |version| {
        let broker = broker();
        for flags in (0..16).filter(|flags| *flags != 2) {
            let client = Client::connects(&broker, connect(version, "client"));
            client.subscribes("t", 0);
            let mut bytes = unsubscribe(1).from("t").bytes(version);
            bytes[0] = 0xa0 | flags;
            client.says(bytes).is_thrown_out(&[MALFORMED_PACKET]);
        }
    }
);

both!(
    mqtt_3_10_3_1_an_ill_formed_filter_is_malformed,
    mqtt311_3_10_3_1_an_ill_formed_filter_ends_the_connection,
    |version| {
        let broker = broker();
        for filter in [&b"\xff"[..], b"t\0", b"\xed\xa0\x80"] {
            let client = Client::connects(&broker, connect(version, "client"));
            client.says(unsubscribe(1).from("fine").from(filter)).is_thrown_out(&[MALFORMED_PACKET]);
        }
    }
);

both!(
    mqtt_3_10_3_2_an_unsubscribe_without_a_filter_is_a_protocol_error,
    mqtt311_3_10_3_2_an_unsubscribe_without_a_filter_ends_the_connection,
    |version| {
        let broker = broker();
        let client = Client::connects(&broker, connect(version, "client"));
        client.says(unsubscribe(1)).is_thrown_out(&[PROTOCOL_ERROR, MALFORMED_PACKET]);
    }
);

both!(
    mqtt_3_10_4_1_an_exact_match_character_by_character_ends_the_subscription,
    mqtt311_3_10_4_1_an_exact_match_character_by_character_ends_the_subscription,
    |version| {
        let broker = broker();
        let client = Client::connects(&broker, connect(version, "client"));
        client.subscribes("t/+", 0);
        for other in ["t/#", "t/x", "T/+", "t/+/", "/t/+", "t", "#"] {
            client.says(unsubscribe(1).from(other));
            client.hears(unsuback(1, codes(version, &[NO_SUBSCRIPTION_EXISTED])));
            client.says(publish("t/x", other)).receives(publish("t/x", other));
        }
        client.says(unsubscribe(1).from("t/+")).hears(unsuback(1, codes(version, &[0])));
        client.says(publish("t/x", "x")).hears_nothing();
    }
);

both!(
    mqtt_3_10_4_2_after_unsubscribe_no_new_message_is_added,
    mqtt311_3_10_4_2_after_unsubscribe_no_new_message_is_added,
    mqtt31_after_unsubscribe_no_new_message_is_added,
    |version| {
        let broker = broker();
        let publisher = Client::connects(&broker, connect(version, "publisher"));
        let client = Client::connects(&broker, connect(version, "client").persistent());
        client.subscribes("t", 2).subscribes("u", 1).unsubscribes("t");
        for qos in [0, 1, 2] {
            publisher.publishes(publish("t", "x").qos(qos, 1));
        }
        client.hears_nothing().vanishes();
        publisher.publishes(publish("t", "x").at_least_once(1));
        publisher.publishes(publish("u", "x").at_least_once(2));
        let client = Client::resumes(&broker, connect(version, "client").persistent());
        client.receives(publish("u", "x").at_least_once(0));
    }
);

both!(
    mqtt_3_10_4_3_qos_1_and_2_deliveries_already_begun_are_finished,
    mqtt311_3_10_4_3_qos_1_and_2_deliveries_already_begun_are_finished,
    |version| {
        let broker = broker();
        let publisher = Client::connects(&broker, connect(version, "publisher"));
        let client = Client::connects(&broker, connect(version, "client").persistent());
        client.subscribes("t", 2);
        publisher.publishes(publish("t", "1").at_least_once(1));
        let first = client.receives(publish("t", "1").at_least_once(0));
        publisher.publishes(publish("t", "2").exactly_once(2));
        let second = client.receives(publish("t", "2").exactly_once(0));
        publisher.publishes(publish("t", "3").exactly_once(3));
        let third = client.receives(publish("t", "3").exactly_once(0));
        client.unsubscribes("t");
        client.says(pubrec(second)).hears(pubrel(second)).vanishes();

        let client = Client::resumes(&broker, connect(version, "client").persistent());
        client.hears_in_any_order(vec![
            publish("t", "1").at_least_once(first).dup().into(),
            pubrel(second).into(),
            publish("t", "3").exactly_once(third).dup().into(),
        ]);
        client.says(puback(first)).says(pubcomp(second)).says(pubrec(third)).hears(pubrel(third));
        client.says(pubcomp(third)).hears_nothing();
    }
);

both!(
    mqtt_3_10_4_4_each_unsubscribe_gets_an_unsuback,
    mqtt311_3_10_4_4_each_unsubscribe_gets_an_unsuback_with_its_packet_identifier,
    mqtt31_each_unsubscribe_gets_an_unsuback,
    |version| {
        let broker = broker();
        let client = Client::connects(&broker, connect(version, "client"));
        client.subscribes("t", 0);
        client.says(unsubscribe(0x1234).from("t"));
        let v5: &[u8] = &[0xb0, 4, 0x12, 0x34, 0, 0];
        assert_eq!(client.hears_bytes(), if version.is_v5() { v5 } else { &[0xb0, 2, 0x12, 0x34] });
        client.subscribes("t", 0).says_at_once(&[&unsubscribe(6).from("t"), &unsubscribe(7).from("t")]);
        client.hears([unsuback(6, codes(version, &[0])), unsuback(7, codes(version, &[NO_SUBSCRIPTION_EXISTED]))]);
    }
);

both!(
    mqtt_3_10_4_5_also_when_nothing_was_removed_the_unsuback_has_the_packet_identifier,
    mqtt311_3_10_4_5_an_unsuback_comes_also_when_nothing_was_removed,
    |version| {
        let broker = broker();
        let client = Client::connects(&broker, connect(version, "client"));
        for packet_id in [1, 0x0100, 0xffff] {
            let none = codes(version, &[NO_SUBSCRIPTION_EXISTED]);
            client.says(unsubscribe(packet_id).from("never/subscribed")).hears(unsuback(packet_id, none));
        }
    }
);

both!(
    mqtt_3_10_4_6_several_filters_work_like_several_packets_with_one_unsuback,
    mqtt311_3_10_4_6_several_filters_work_like_several_packets_with_one_unsuback,
    |version| {
        let broker = broker();
        let client = Client::connects(&broker, connect(version, "client"));
        client.subscribes("a", 0).subscribes("b", 0).subscribes("c", 0);
        client.says(unsubscribe(1).from("a").from("x").from("c").from("a"));
        let expected = [0, NO_SUBSCRIPTION_EXISTED, 0, NO_SUBSCRIPTION_EXISTED];
        client.hears(unsuback(1, codes(version, &expected)));
        client.says(publish("a", "1")).says(publish("b", "2")).says(publish("c", "3"));
        client.receives(publish("b", "2"));
    }
);

shows!(
    mqtt_3_11_2_1_no_reason_string_makes_unsuback_too_large,
    mqtt_3_11_2_2_no_user_property_makes_unsuback_too_large,
    || {
        let broker = broker();
        let (client, limit) = Client::connects_narrowly(&broker);
        client.says(unsubscribe(1).from("never/subscribed"));
        let answer = client.hears_bytes();
        assert_eq!(packet_sizes(&answer), [answer.len()]);
        assert!(answer.len() <= limit, "{} bytes where {limit} are allowed", answer.len());
        assert_eq!((answer[0], &answer[2..4], answer.last()), (0xb0, &[0, 1][..], Some(&NO_SUBSCRIPTION_EXISTED)));
    }
);

#[test]
fn mqtt_3_11_3_1_the_codes_stand_in_the_order_of_the_filters() {
    let broker = broker();
    let client = Client::connects(&broker, connect(Version::V5, "client"));
    client.subscribes("b", 0).subscribes("d", 0);
    client.says(unsubscribe(1).from("a").from("b").from("c").from("d").from("e"));
    let none = NO_SUBSCRIPTION_EXISTED;
    client.hears(unsuback(1, &[none, 0, none, 0, none]));
}

#[test]
fn mqtt_3_11_3_2_unsuback_has_one_code_of_its_table_per_filter() {
    let broker = broker();
    let client = Client::connects(&broker, connect(Version::V5, "client"));
    client.subscribes("t", 0);
    // The parser holds each code against the table.
    client.says(unsubscribe(1).from("t").from("u").from("a#").from("$share/g/t").from("$share//t"));
    let unsuback = client.hears_all();
    let crate::support::wire::Parsed::UnsubAck(unsuback) = &unsuback[0] else { panic!("{unsuback:?}") };
    assert_eq!(unsuback.codes[..2], [0, NO_SUBSCRIPTION_EXISTED]);
    let none_or_invalid = |code: &u8| [NO_SUBSCRIPTION_EXISTED, TOPIC_FILTER_INVALID].contains(code);
    assert!(unsuback.codes.len() == 5 && unsuback.codes[2..].iter().all(none_or_invalid), "{unsuback:?}");
}

both!(
    unsubscribing_from_a_plain_filter_leaves_the_shared_one_and_the_reverse,
    unsubscribing_from_a_plain_filter_leaves_the_shared_one_and_the_reverse_in_3_1_1,
    |version| {
        let broker = broker();
        let client = Client::connects(&broker, connect(version, "client"));
        client.subscribes("$share/g/t", 0);
        client.says(unsubscribe(1).from("t")).hears(unsuback(1, codes(version, &[NO_SUBSCRIPTION_EXISTED])));
        client.says(publish("t", "x")).receives(publish("t", "x"));
        client.unsubscribes("$share/g/t");
        client.subscribes("t", 0);
        client.says(unsubscribe(2).from("$share/g/t"));
        client.hears(unsuback(2, codes(version, &[NO_SUBSCRIPTION_EXISTED])));
        client.says(publish("t", "x")).receives(publish("t", "x"));
    }
);
