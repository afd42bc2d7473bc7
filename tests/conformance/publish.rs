//! Sections 3.3 to 3.7: PUBLISH and its acknowledgements.

use crate::house::{broker, receive_maximum, that_validates_payloads};
use crate::support::TestBroker;
use crate::support::wire::{
    Ack, AckKind, Packet, Parsed, Publish, Value, Version, connect, field, options::*, packet, packet_sizes,
    properties, property, puback, pubcomp, publish, pubrec, pubrel, reason::*, subscribe,
};
use crate::talk::{Client, both, number, seconds, shows};

/// One who publishes and one who is subscribed to `t/#` with QoS 2.
fn pair(broker: &TestBroker, version: Version) -> (Client, Client) {
    let publisher = Client::connects(broker, connect(version, "publisher"));
    let subscriber = Client::connects(broker, connect(version, "subscriber"));
    subscriber.subscribes("t/#", 2);
    (publisher, subscriber)
}

// ---------------------------------------------------------------------------------------------------------- DUP, QoS

both!(
    mqtt_3_3_1_1_dup_is_1_on_a_redelivered_publish,
    mqtt311_3_3_1_1_dup_is_1_on_a_redelivered_publish,
    mqtt31_dup_is_1_on_a_redelivered_publish,
    |version| {
        for qos in [1, 2] {
            let broker = broker();
            let publisher = Client::connects(&broker, connect(version, "publisher"));
            let client = Client::connects(&broker, connect(version, "client").persistent());
            client.subscribes("t/#", 2);
            let message = publish("t/x", "x").qos(qos, 1);
            publisher.publishes(message.clone());
            let packet_id = client.receives(message.clone());
            client.vanishes();

            let client = Client::resumes(&broker, connect(version, "client").persistent());
            client.hears(message.qos(qos, packet_id).dup()).acknowledges(qos, packet_id).vanishes();
            Client::resumes(&broker, connect(version, "client").persistent()).hears_nothing();
        }
    }
);

both!(mqtt_3_3_1_2_dup_1_at_qos_0_is_malformed, mqtt311_3_3_1_2_dup_1_at_qos_0_ends_the_connection, |version| {
    let broker = broker();
    let (publisher, subscriber) = pair(&broker, version);
    publisher.says(publish("t/x", "x").dup()).is_thrown_out(&[MALFORMED_PACKET, PROTOCOL_ERROR]);
    subscriber.hears_nothing();
});

shows!(mqtt_3_3_1_2_dup_is_0_on_a_publish_of_qos_0, mqtt311_3_3_1_2_dup_is_0_on_a_publish_of_qos_0, || {
    let broker = broker();
    for version in [Version::V5, Version::V311] {
        let (publisher, subscriber) = pair(&broker, version);
        subscriber.subscribes("t/#", 0);
        publisher.publishes(publish("t/x", "x").at_least_once(1).dup());
        assert_eq!(subscriber.hears_bytes()[0], 0x30);
    }
});

both!(
    mqtt_3_3_1_3_outgoing_dup_does_not_depend_on_incoming_dup,
    mqtt311_3_3_1_3_outgoing_dup_does_not_depend_on_incoming_dup,
    |version| {
        let broker = broker();
        let (publisher, subscriber) = pair(&broker, version);
        publisher.publishes(publish("t/x", "x").at_least_once(1).dup());
        subscriber.takes(publish("t/x", "x").at_least_once(0));
        publisher.publishes(publish("t/x", "x").exactly_once(1).dup());
        subscriber.takes(publish("t/x", "x").exactly_once(0));
    }
);

both!(mqtt_3_3_1_4_both_qos_bits_set_is_malformed, mqtt311_3_3_1_4_both_qos_bits_set_ends_the_connection, |version| {
    let broker = broker();
    let (_, subscriber) = pair(&broker, version);
    for flags in [0x06, 0x07, 0x0e, 0x0f] {
        let client = Client::connects(&broker, connect(version, "client"));
        let properties = if version.is_v5() { properties(&[]) } else { Vec::new() };
        client.says(packet(0x30 | flags, [field("t/x"), vec![0, 1], properties, vec![b'x']].concat()));
        client.is_thrown_out(&[MALFORMED_PACKET]);
    }
    subscriber.hears_nothing();
});

// ------------------------------------------------------------------------------------------------------------- RETAIN

/// What a new Client gets that subscribes to `filter` now.
fn retained_for_a_newcomer(broker: &TestBroker, version: Version, filter: &str) -> Vec<Publish> {
    let newcomer = Client::connects(broker, connect(version, "newcomer"));
    newcomer.subscribes(filter, 2);
    let heard = newcomer.hears_publishes();
    newcomer.disconnects();
    let mut heard: Vec<Publish> = heard.into_iter().map(|message| Publish { packet_id: None, ..message }).collect();
    heard.sort_by(|one, other| one.topic.cmp(&other.topic));
    heard
}

/// A retained message as it is compared with that: without a Packet Identifier.
fn stored(topic: &str, payload: &str, qos: u8) -> Publish {
    Publish { packet_id: None, ..publish(topic, payload).qos(qos, 0).retain() }
}

both!(
    mqtt_3_3_1_5_a_retained_publish_replaces_the_stored_message_of_its_topic,
    mqtt311_3_3_1_5_a_retained_publish_is_stored_with_its_qos_and_replaces_the_last,
    |version| {
        let broker = broker();
        let publisher = Client::connects(&broker, connect(version, "publisher"));
        for (number, qos) in [(1, 1), (2, 2), (3, 0), (4, 1)] {
            publisher.publishes(publish("t/x", number.to_string()).qos(qos, number).retain());
            let expected = [stored("t/x", &number.to_string(), qos)];
            assert_eq!(retained_for_a_newcomer(&broker, version, "t/x"), expected);
        }
    }
);

both!(
    mqtt_3_3_1_5_retained_messages_of_different_topics_do_not_touch_each_other,
    mqtt311_3_3_1_6_a_new_subscription_gets_the_last_retained_message_of_each_matching_topic,
    mqtt31_a_new_subscription_gets_the_last_retained_message_of_each_matching_topic,
    |version| {
        let broker = broker();
        let publisher = Client::connects(&broker, connect(version, "publisher"));
        for (topic, payload) in [("t", "0"), ("t/a", "1"), ("t/b", "2"), ("t/a/c", "3"), ("u", "4"), ("t/a", "5")] {
            publisher.publishes(publish(topic, payload).retain());
        }
        let all = |filter| retained_for_a_newcomer(&broker, version, filter);
        let expected = [stored("t", "0", 0), stored("t/a", "5", 0), stored("t/a/c", "3", 0), stored("t/b", "2", 0)];
        assert_eq!(all("t/#"), expected);
        assert_eq!(all("t/+"), [stored("t/a", "5", 0), stored("t/b", "2", 0)]);
        assert_eq!(all("t/a"), [stored("t/a", "5", 0)]);
        assert_eq!(all("v"), []);
    }
);

shows!(
    mqtt311_3_3_1_7_a_qos_0_retained_publish_discards_what_was_stored_and_replaces_it,
    mqtt_3_3_1_5_a_qos_0_retained_publish_replaces_what_was_stored,
    || {
        for version in [Version::V5, Version::V311] {
            let broker = broker();
            let publisher = Client::connects(&broker, connect(version, "publisher"));
            publisher.publishes(publish("t/x", "old").exactly_once(1).retain());
            publisher.publishes(publish("t/x", "new").retain());
            assert_eq!(retained_for_a_newcomer(&broker, version, "t/x"), [stored("t/x", "new", 0)]);
        }
    }
);

both!(
    mqtt_3_3_1_6_an_empty_retained_payload_is_forwarded_and_deletes_what_was_stored,
    mqtt311_3_3_1_10_an_empty_retained_payload_is_forwarded_and_removes_what_was_stored,
    |version| {
        let broker = broker();
        let (publisher, subscriber) = pair(&broker, version);
        for qos in [0, 1, 2] {
            publisher.publishes(publish("t/x", "x").at_least_once(1).retain());
            subscriber.takes(publish("t/x", "x").at_least_once(0));
            publisher.publishes(publish("t/x", "").qos(qos, 2).retain());
            subscriber.takes(publish("t/x", "").qos(qos, 0));
            assert_eq!(retained_for_a_newcomer(&broker, version, "t/x"), []);
        }
        assert_eq!(broker.retained("t/x"), None);
    }
);

both!(
    mqtt_3_3_1_7_an_empty_retained_payload_is_never_stored,
    mqtt311_3_3_1_11_an_empty_retained_payload_is_not_stored,
    |version| {
        let broker = broker();
        let (publisher, subscriber) = pair(&broker, version);
        for qos in [0, 1, 2] {
            publisher.publishes(publish("t/x", "").qos(qos, 1).retain());
            subscriber.takes(publish("t/x", "").qos(qos, 0));
            assert_eq!(retained_for_a_newcomer(&broker, version, "t/#"), []);
        }
        assert_eq!(broker.retained("t/x"), None);
    }
);

both!(
    mqtt_3_3_1_8_an_unretained_publish_leaves_the_stored_message_alone,
    mqtt311_3_3_1_12_an_unretained_publish_leaves_the_stored_message_alone,
    |version| {
        let broker = broker();
        let publisher = Client::connects(&broker, connect(version, "publisher"));
        publisher.publishes(publish("t/x", "kept").at_least_once(1).retain());
        for (payload, qos) in [("live", 0), ("live", 1), ("live", 2), ("", 0), ("", 1)] {
            publisher.publishes(publish("t/x", payload).qos(qos, 2));
            assert_eq!(retained_for_a_newcomer(&broker, version, "t/x"), [stored("t/x", "kept", 1)]);
        }
        publisher.publishes(publish("t/other", "live"));
        assert_eq!(retained_for_a_newcomer(&broker, version, "t/other"), []);
    }
);

both!(
    mqtt_3_3_1_9_retain_handling_0_sends_matching_retained_messages_on_each_subscribe,
    mqtt311_3_3_1_8_retain_is_1_on_what_is_sent_because_of_a_new_subscription,
    |version| {
        let broker = broker();
        let publisher = Client::connects(&broker, connect(version, "publisher"));
        publisher.publishes(publish("t/x", "x").at_least_once(1).retain());
        let client = Client::connects(&broker, connect(version, "client"));
        for filter in ["t/x", "t/x", "t/#", "+/x"] {
            client.subscribes(filter, 1).takes(publish("t/x", "x").at_least_once(0).retain()).hears_nothing();
        }
    }
);

#[test]
fn mqtt_3_3_1_10_retain_handling_1_sends_retained_messages_only_to_a_new_subscription() {
    let broker = broker();
    let publisher = Client::connects(&broker, connect(Version::V5, "publisher"));
    publisher.publishes(publish("t/x", "x").retain());
    let client = Client::connects(&broker, connect(Version::V5, "client").persistent());
    client.subscribes("t/x", SEND_RETAINED_IF_NEW).receives(stored("t/x", "x", 0));
    client.subscribes("t/x", SEND_RETAINED_IF_NEW).hears_nothing();
    client.subscribes("t/x", 1 | SEND_RETAINED_IF_NEW).hears_nothing();
    client.disconnects();

    let client = Client::resumes(&broker, connect(Version::V5, "client").persistent());
    client.subscribes("t/x", SEND_RETAINED_IF_NEW).hears_nothing();
    client.unsubscribes("t/x");
    client.subscribes("t/x", SEND_RETAINED_IF_NEW).receives(stored("t/x", "x", 0));
}

#[test]
fn mqtt_3_3_1_11_retain_handling_2_never_sends_retained_messages_on_subscribe() {
    let broker = broker();
    let publisher = Client::connects(&broker, connect(Version::V5, "publisher"));
    publisher.publishes(publish("t/x", "x").retain());
    let client = Client::connects(&broker, connect(Version::V5, "client"));
    client.subscribes("t/x", DO_NOT_SEND_RETAINED).hears_nothing();
    client.subscribes("t/x", DO_NOT_SEND_RETAINED).hears_nothing();
    publisher.publishes(publish("t/x", "y").retain());
    client.receives(publish("t/x", "y"));
}

#[test]
fn retain_handling_is_each_filters_own() {
    let broker = broker();
    let publisher = Client::connects(&broker, connect(Version::V5, "publisher"));
    for topic in ["a", "b", "c"] {
        publisher.publishes(publish(topic, topic).retain());
    }
    let client = Client::connects(&broker, connect(Version::V5, "client"));
    client.subscribes("b", 0).receives(stored("b", "b", 0));
    client.subscribes_with(subscribe(1).to("a", 0).to("b", SEND_RETAINED_IF_NEW).to("c", DO_NOT_SEND_RETAINED));
    client.receives(stored("a", "a", 0));
}

both!(
    mqtt_3_3_1_12_without_retain_as_published_live_messages_carry_retain_0,
    mqtt311_3_3_1_9_retain_is_0_on_messages_for_subscriptions_that_stood,
    |version| {
        let broker = broker();
        let (publisher, subscriber) = pair(&broker, version);
        for qos in [0, 1, 2] {
            publisher.publishes(publish("t/x", "x").qos(qos, 1).retain());
            subscriber.takes(publish("t/x", "x").qos(qos, 0));
        }
    }
);

#[test]
fn mqtt_3_3_1_13_with_retain_as_published_live_messages_keep_the_retain_flag() {
    let broker = broker();
    let (publisher, _subscriber) = pair(&broker, Version::V5);
    let client = Client::connects(&broker, connect(Version::V5, "client"));
    client.subscribes("t/#", 2 | RETAIN_AS_PUBLISHED);
    for qos in [0, 1, 2] {
        publisher.publishes(publish("t/x", "x").qos(qos, 1).retain());
        client.takes(publish("t/x", "x").qos(qos, 0).retain());
        publisher.publishes(publish("t/x", "x").qos(qos, 1));
        client.takes(publish("t/x", "x").qos(qos, 0));
    }
}

#[test]
fn mqtt_3_3_1_13_with_retain_as_published_queued_messages_keep_the_retain_flag() {
    let broker = broker();
    let publisher = Client::connects(&broker, connect(Version::V5, "publisher"));
    let client = Client::connects(&broker, connect(Version::V5, "client").persistent());
    client.subscribes("t/as", 1 | RETAIN_AS_PUBLISHED).subscribes("t/not", 1).vanishes();
    publisher.publishes(publish("t/as", "x").at_least_once(1).retain());
    publisher.publishes(publish("t/not", "x").at_least_once(2).retain());
    let client = Client::resumes(&broker, connect(Version::V5, "client").persistent());
    client.receives_in_any_order([
        publish("t/as", "x").at_least_once(0).retain(),
        publish("t/not", "x").at_least_once(0),
    ]);
}

#[test]
fn a_retained_message_has_retain_1_on_subscribe_even_without_retain_as_published() {
    let broker = broker();
    let publisher = Client::connects(&broker, connect(Version::V5, "publisher"));
    publisher.publishes(publish("t/x", "x").retain());
    let client = Client::connects(&broker, connect(Version::V5, "client"));
    client.subscribes("t/x", 0).receives(stored("t/x", "x", 0));
    client.subscribes("t/x", RETAIN_AS_PUBLISHED).receives(stored("t/x", "x", 0));
}

#[test]
fn the_retained_message_is_the_one_that_was_published_with_all_its_properties() {
    let broker = broker();
    let publisher = Client::connects(&broker, connect(Version::V5, "publisher"));
    let message = || {
        publish("t/x", "x")
            .at_least_once(1)
            .retain()
            .with(property::payload_format_indicator(1))
            .with(property::content_type("text"))
            .with(property::user_property("k", "v"))
    };
    publisher.publishes(message());
    for client_id in ["one", "another"] {
        let client = Client::connects(&broker, connect(Version::V5, client_id));
        client.subscribes("t/#", 2).receives(message());
    }
}

both!(
    however_many_retained_messages_match_all_of_them_arrive,
    however_many_retained_messages_match_all_of_them_arrive_in_3_1_1,
    |version| {
        let broker = broker();
        let publisher = Client::connects(&broker, connect(version, "publisher"));
        for number in 0..2500 {
            publisher.publishes(publish(format!("t/{}/{number}", number % 7), "x").at_least_once(1).retain());
        }
        let client = Client::connects(&broker, connect(version, "client"));
        client.subscribes("t/#", 1);
        let mut topics = std::collections::BTreeSet::new();
        loop {
            let heard = client.hears_publishes();
            if heard.is_empty() {
                break;
            }
            let acks: Vec<Vec<u8>> =
                heard.iter().map(|message| puback(message.packet_id.unwrap_or_default()).bytes(version)).collect();
            assert!(heard.iter().all(|message| message.retain && message.qos == 1));
            for message in heard {
                assert!(topics.insert(message.topic), "each comes once");
            }
            client.says(acks.concat());
        }
        assert_eq!(topics.len(), 2500);
        let other = Client::connects(&broker, connect(version, "other"));
        other.subscribes("t/+/+", 0);
        assert_eq!(other.hears_publishes().len(), 2500);
    }
);

// --------------------------------------------------------------------------------------------------------- Topic Name

both!(
    mqtt_3_3_2_1_the_topic_name_comes_first_and_is_a_utf8_string,
    mqtt311_3_3_2_1_the_topic_name_comes_first_and_is_a_utf8_string,
    |version| {
        let broker = broker();
        let (publisher, subscriber) = pair(&broker, version);
        publisher.says(publish("t/\u{e9}\u{1f600}", "x"));
        assert_eq!(subscriber.hears_bytes()[2..12], *b"\x00\x08t/\xc3\xa9\xf0\x9f\x98\x80");
        publisher.says(publish(b"t/\xc3", "x")).is_thrown_out(&[MALFORMED_PACKET]);
        subscriber.hears_nothing();
    }
);

both!(
    mqtt_3_3_2_2_a_wildcard_in_a_topic_name_is_refused,
    mqtt311_3_3_2_2_a_wildcard_in_a_topic_name_ends_the_connection,
    |version| {
        let broker = broker();
        let (_, subscriber) = pair(&broker, version);
        subscriber.subscribes("#", 2);
        for topic in ["t/+", "t/#", "#", "+", "t/a+", "t/a#b"] {
            for qos in [0, 1, 2] {
                let client = Client::connects(&broker, connect(version, "client"));
                client.says(publish(topic, "x").qos(qos, 1));
                client.is_thrown_out(&[TOPIC_NAME_INVALID, PROTOCOL_ERROR, MALFORMED_PACKET]);
            }
        }
        subscriber.hears_nothing();
    }
);

both!(
    mqtt_3_3_2_3_a_forwarded_topic_name_matches_the_filter_subscribed_to,
    mqtt311_3_3_2_3_a_forwarded_topic_name_matches_the_filter_subscribed_to,
    |version| {
        let broker = broker();
        let publisher = Client::connects(&broker, connect(version, "publisher"));
        let client = Client::connects(&broker, connect(version, "client"));
        client.subscribes("a/+/c", 0).subscribes("x/#", 0);
        for topic in ["a/b/d", "a/b", "a/b/c/d", "b/b/c", "y", "a"] {
            publisher.says(publish(topic, "no"));
        }
        for topic in ["a/b/c", "a//c", "x", "x/y", "x/y/z"] {
            publisher.says(publish(topic, "yes"));
            client.receives(publish(topic, "yes"));
        }
        client.hears_nothing();
    }
);

// --------------------------------------------------------------------------------------------------------- properties

/// Says one message with one property, and hears it come through unchanged: live, retained and queued.
fn is_forwarded_unchanged(properties: &[(u8, Value)]) {
    let broker = broker();
    let publisher = Client::connects(&broker, connect(Version::V5, "publisher"));
    let asleep = connect(Version::V5, "asleep").persistent();
    Client::connects(&broker, asleep.clone()).subscribes("t", 1).vanishes();
    let awake = Client::connects(&broker, connect(Version::V5, "awake"));
    awake.subscribes("t", 1);
    let mut message = publish("t", "x").at_least_once(1);
    message.properties = properties.to_vec();
    publisher.publishes(message.clone().retain());
    awake.receives(message.clone());
    Client::resumes(&broker, asleep).receives(message.clone());
    let late = Client::connects(&broker, connect(Version::V5, "late"));
    late.subscribes("t", 1).receives(message.retain());
}

#[test]
fn mqtt_3_3_2_4_the_payload_format_indicator_is_forwarded_unchanged() {
    is_forwarded_unchanged(&[property::payload_format_indicator(0)]);
    is_forwarded_unchanged(&[property::payload_format_indicator(1)]);
}

#[test]
fn a_payload_format_indicator_above_1_is_a_protocol_error() {
    let broker = broker();
    let client = Client::connects(&broker, connect(Version::V5, "client"));
    client.says(publish("t", "x").with(property::payload_format_indicator(2)));
    client.is_thrown_out(&[PROTOCOL_ERROR, MALFORMED_PACKET]);
}

#[test]
fn mqtt_3_3_2_5_an_expired_message_is_not_sent_any_more() {
    let broker = broker();
    let publisher = Client::connects(&broker, connect(Version::V5, "publisher"));
    let client = Client::connects(&broker, connect(Version::V5, "client").persistent());
    client.subscribes("t", 2).vanishes();
    publisher.publishes(publish("t", "short").at_least_once(1).with(property::message_expiry_interval(2)));
    publisher.publishes(publish("t", "short too").exactly_once(2).with(property::message_expiry_interval(2)));
    publisher.publishes(publish("t", "for ever").at_least_once(3));
    broker.advance(seconds(4));
    let client = Client::resumes(&broker, connect(Version::V5, "client").persistent());
    client.takes(publish("t", "for ever").at_least_once(0)).hears_nothing();
}

#[test]
fn mqtt_3_3_2_5_an_expired_retained_message_is_not_sent_any_more() {
    let broker = broker();
    let publisher = Client::connects(&broker, connect(Version::V5, "publisher"));
    publisher.publishes(publish("t/short", "x").retain().with(property::message_expiry_interval(2)));
    publisher.publishes(publish("t/long", "x").retain());
    broker.advance(seconds(4));
    assert_eq!(retained_for_a_newcomer(&broker, Version::V5, "t/#"), [stored("t/long", "x", 0)]);
    assert_eq!(retained_for_a_newcomer(&broker, Version::V5, "t/short"), []);
    assert_eq!(retained_for_a_newcomer(&broker, Version::V311, "t/short"), []);
}

#[test]
fn mqtt_3_3_2_5_an_expired_message_in_front_of_a_full_window_frees_its_place() {
    let broker = broker();
    let publisher = Client::connects(&broker, connect(Version::V5, "publisher"));
    let client = Client::connects(&broker, connect(Version::V5, "client").with(property::receive_maximum(1)));
    client.subscribes("t", 1);
    publisher.publishes(publish("t", "1").at_least_once(1));
    let packet_id = client.receives(publish("t", "1").at_least_once(0));
    publisher.publishes(publish("t", "2").at_least_once(2).with(property::message_expiry_interval(2)));
    publisher.publishes(publish("t", "3").at_least_once(3));
    broker.advance(seconds(4));
    client.says(puback(packet_id)).takes(publish("t", "3").at_least_once(0)).hears_nothing();
}

#[test]
fn mqtt_3_3_2_6_the_expiry_interval_is_reduced_by_the_time_waited_in_the_server() {
    let broker = broker();
    let publisher = Client::connects(&broker, connect(Version::V5, "publisher"));
    let client = Client::connects(&broker, connect(Version::V5, "client").persistent());
    client.subscribes("t", 1);
    let message = || publish("t", "x").at_least_once(1).with(property::message_expiry_interval(20));
    publisher.publishes(message().retain());
    client.takes(message()).vanishes();
    publisher.publishes(message());
    broker.advance(seconds(5));

    let client = Client::resumes(&broker, connect(Version::V5, "client").persistent());
    let left = |heard: &[Publish]| number(heard[0].property(property::MESSAGE_EXPIRY_INTERVAL));
    let heard = client.hears_publishes();
    assert!(heard.len() == 1 && matches!(left(&heard), Some(14 | 15)), "{heard:?}");
    let heard = retained_for_a_newcomer(&broker, Version::V5, "t");
    assert!(heard.len() == 1 && matches!(left(&heard), Some(14 | 15)), "{heard:?}");
}

#[test]
fn mqtt_3_3_2_6_a_message_that_does_not_wait_keeps_its_expiry_interval() {
    let broker = broker();
    let (publisher, subscriber) = pair(&broker, Version::V5);
    for interval in [1, 60, u32::MAX] {
        publisher.says(publish("t/x", "x").with(property::message_expiry_interval(interval)));
        subscriber.receives(publish("t/x", "x").with(property::message_expiry_interval(interval)));
    }
}

#[test]
fn mqtt_3_3_2_7_a_clients_aliases_die_with_its_network_connection() {
    let broker = broker();
    let (_, subscriber) = pair(&broker, Version::V5);
    let client = Client::connects(&broker, connect(Version::V5, "client").persistent());
    client.says(publish("t/x", "1").with(property::topic_alias(1)));
    client.says(publish("", "2").with(property::topic_alias(1)));
    subscriber.receives_all([publish("t/x", "1"), publish("t/x", "2")]);
    client.vanishes();
    let client = Client::resumes(&broker, connect(Version::V5, "client").persistent());
    client.says(publish("", "3").with(property::topic_alias(1)));
    client.is_thrown_out(&[PROTOCOL_ERROR, TOPIC_ALIAS_INVALID]);
    subscriber.hears_nothing();
}

#[test]
fn mqtt_3_3_2_7_the_servers_aliases_die_with_the_network_connection() {
    let broker = broker();
    let publisher = Client::connects(&broker, connect(Version::V5, "publisher"));
    let connect = connect(Version::V5, "client").persistent().with(property::topic_alias_maximum(5));
    let client = Client::connects(&broker, connect.clone());
    client.subscribes("t/#", 1);
    for _ in 0..2 {
        publisher.publishes(publish("t/a/long/topic/name", "x").at_least_once(1));
        for message in client.hears_publishes() {
            client.says(puback(message.packet_id.unwrap_or_default()));
        }
    }
    client.vanishes();
    let client = Client::resumes(&broker, connect);
    publisher.publishes(publish("t/a/long/topic/name", "x").at_least_once(1));
    let heard = client.hears_publishes();
    assert_eq!((heard.len(), &heard[0].topic[..]), (1, &b"t/a/long/topic/name"[..]));
}

#[test]
fn a_message_is_resent_on_a_new_connection_with_its_topic_name() {
    let broker = broker();
    let publisher = Client::connects(&broker, connect(Version::V5, "publisher"));
    let connect = connect(Version::V5, "client").persistent().with(property::topic_alias_maximum(5));
    let client = Client::connects(&broker, connect.clone());
    client.subscribes("t/#", 1);
    for packet_id in 1..4 {
        publisher.publishes(publish("t/a/long/topic/name", packet_id.to_string()).at_least_once(packet_id));
    }
    assert_eq!(client.hears_publishes().len(), 3);
    client.vanishes();
    let client = Client::resumes(&broker, connect);
    let heard = client.hears_publishes();
    assert_eq!(heard.len(), 3);
    assert_eq!(&heard[0].topic[..], b"t/a/long/topic/name");
    assert!(heard.iter().all(|message| message.dup));
}

#[test]
fn mqtt_3_3_2_8_alias_0_is_refused_with_0x94() {
    let broker = broker();
    let (publisher, subscriber) = pair(&broker, Version::V5);
    publisher.says(publish("t/x", "x").with(property::topic_alias(0))).is_thrown_out(&[TOPIC_ALIAS_INVALID]);
    subscriber.hears_nothing();
}

#[test]
fn mqtt_3_3_2_9_an_alias_above_the_servers_maximum_is_refused_with_0x94() {
    let broker = broker();
    let (publisher, subscriber) = pair(&broker, Version::V5);
    let maximum = number(publisher.connack().property(property::TOPIC_ALIAS_MAXIMUM)).unwrap_or_default();
    let above = u16::try_from(maximum + 1).expect("the maximum of the test profile is small");
    publisher.says(publish("t/x", "x").with(property::topic_alias(above))).is_thrown_out(&[TOPIC_ALIAS_INVALID]);
    subscriber.hears_nothing();
}

#[test]
fn mqtt_3_3_2_12_each_alias_from_1_to_the_announced_maximum_is_accepted() {
    let broker = broker();
    let (publisher, subscriber) = pair(&broker, Version::V5);
    let maximum = number(publisher.connack().property(property::TOPIC_ALIAS_MAXIMUM)).unwrap_or_default();
    let maximum = u16::try_from(maximum).expect("the maximum of the test profile is small");
    assert!(maximum > 1);
    for alias in 1..=maximum {
        publisher.says(publish(format!("t/{alias}"), "named").with(property::topic_alias(alias)));
        subscriber.receives(publish(format!("t/{alias}"), "named"));
    }
    for alias in 1..=maximum {
        publisher.publishes(publish("", "aliased").at_least_once(alias).with(property::topic_alias(alias)));
        subscriber.takes(publish(format!("t/{alias}"), "aliased").at_least_once(0));
    }
    publisher.says(publish("t/other", "bound anew").with(property::topic_alias(1)));
    publisher.says(publish("", "aliased").with(property::topic_alias(1)));
    subscriber.receives_all([publish("t/other", "bound anew"), publish("t/other", "aliased")]);
}

#[test]
fn an_alias_that_was_never_bound_is_a_protocol_error() {
    let broker = broker();
    let (publisher, subscriber) = pair(&broker, Version::V5);
    publisher.says(publish("", "x").with(property::topic_alias(1)));
    publisher.is_thrown_out(&[PROTOCOL_ERROR, TOPIC_ALIAS_INVALID]);
    subscriber.hears_nothing();
}

#[test]
fn a_publish_that_is_not_passed_on_binds_its_alias_all_the_same() {
    let broker = broker();
    let (publisher, subscriber) = pair(&broker, Version::V5);
    let aliased = || publish("t/x", "1").exactly_once(7).with(property::topic_alias(1));
    publisher.says(publish("t/x", "1").exactly_once(7)).hears(pubrec(7));
    // Sent again, and now with an alias.
    publisher.says(aliased().dup()).hears(pubrec(7)).says(pubrel(7)).hears(pubcomp(7));
    publisher.says(publish("", "2").with(property::topic_alias(1)));
    subscriber.receives_in_any_order([publish("t/x", "1").exactly_once(0), publish("t/x", "2")]);
    // Refused, and known by its alias: refused again.
    publisher.says(publish("$SYS/forged", "3").at_least_once(8).with(property::topic_alias(1)));
    assert_eq!(publisher.hears_ack(AckKind::PubAck, 8).reason, NOT_AUTHORIZED);
    publisher.says(publish("", "4").at_least_once(9).with(property::topic_alias(1)));
    assert_eq!(publisher.hears_ack(AckKind::PubAck, 9).reason, NOT_AUTHORIZED);
    subscriber.hears_nothing();
}

#[test]
fn a_payload_that_is_not_what_its_indicator_says_is_refused_with_0x99_where_that_is_checked() {
    let broker = that_validates_payloads();
    let (publisher, subscriber) = pair(&broker, Version::V5);
    let text = |payload: &[u8]| publish("t/x", payload).with(property::payload_format_indicator(1));
    publisher.says(text(b"\xff").at_least_once(1));
    assert_eq!(publisher.hears_ack(AckKind::PubAck, 1).reason, PAYLOAD_FORMAT_INVALID);
    publisher.says(text(b"\xff").exactly_once(2));
    assert_eq!(publisher.hears_ack(AckKind::PubRec, 2).reason, PAYLOAD_FORMAT_INVALID);
    subscriber.hears_nothing();
    publisher.publishes(text("\u{e9}".as_bytes()).at_least_once(3));
    subscriber.takes(text("\u{e9}".as_bytes()).at_least_once(0));
    publisher.publishes(publish("t/x", b"\xff").at_least_once(4).with(property::payload_format_indicator(0)));
    assert_eq!(subscriber.hears_publishes().len(), 1);
}

#[test]
fn each_clients_aliases_are_its_own() {
    let broker = broker();
    let (one, subscriber) = pair(&broker, Version::V5);
    let other = Client::connects(&broker, connect(Version::V5, "other"));
    one.says(publish("t/one", "1").with(property::topic_alias(1)));
    other.says(publish("t/other", "2").with(property::topic_alias(1)));
    one.says(publish("", "3").with(property::topic_alias(1)));
    other.says(publish("", "4").with(property::topic_alias(1)));
    let expected = [publish("t/one", "1"), publish("t/other", "2"), publish("t/one", "3"), publish("t/other", "4")];
    subscriber.receives_all(expected);
}

#[test]
fn a_retained_publish_by_alias_is_stored_under_its_name() {
    let broker = broker();
    let publisher = Client::connects(&broker, connect(Version::V5, "publisher"));
    publisher.says(publish("t/x", "1").with(property::topic_alias(1)));
    publisher.says(publish("", "2").retain().with(property::topic_alias(1)));
    assert_eq!(retained_for_a_newcomer(&broker, Version::V5, "#"), [stored("t/x", "2", 0)]);
}

#[test]
fn mqtt_3_3_2_13_an_ill_formed_response_topic_is_malformed() {
    let broker = broker();
    for topic in [&b"\xff"[..], b"a\0", b"\xed\xbf\xbf"] {
        let client = Client::connects(&broker, connect(Version::V5, "client"));
        client.says(publish("t", "x").with((property::RESPONSE_TOPIC, Value::Bytes(topic.to_vec()))));
        client.is_thrown_out(&[MALFORMED_PACKET]);
    }
}

#[test]
fn mqtt_3_3_2_14_a_response_topic_with_a_wildcard_is_a_protocol_error() {
    let broker = broker();
    for topic in ["a/+", "a/#", "+", "#"] {
        let client = Client::connects(&broker, connect(Version::V5, "client"));
        client.says(publish("t", "x").with(property::response_topic(topic)));
        client.is_thrown_out(&[PROTOCOL_ERROR, MALFORMED_PACKET, TOPIC_NAME_INVALID]);
    }
}

#[test]
fn mqtt_3_3_2_15_the_response_topic_is_forwarded_unchanged() {
    is_forwarded_unchanged(&[property::response_topic("answers/\u{fc}ber/here")]);
}

#[test]
fn mqtt_3_3_2_16_correlation_data_is_forwarded_unchanged() {
    is_forwarded_unchanged(&[property::correlation_data(b"")]);
    is_forwarded_unchanged(&[property::correlation_data(b"\0\xff\xfe not text")]);
}

#[test]
fn mqtt_3_3_2_17_all_user_properties_are_forwarded_unchanged() {
    is_forwarded_unchanged(&[property::user_property("key", "value")]);
    is_forwarded_unchanged(&[
        property::user_property("", ""),
        property::user_property("k", &"v".repeat(1000)),
        property::user_property("k", "\u{1f600}"),
    ]);
}

#[test]
fn mqtt_3_3_2_18_the_order_of_user_properties_is_kept() {
    let pairs = [("b", "2"), ("a", "1"), ("b", "1"), ("c", ""), ("a", "1"), ("", "z")];
    is_forwarded_unchanged(&pairs.map(|(key, value)| property::user_property(key, value)));
}

#[test]
fn mqtt_3_3_2_18_the_order_is_kept_when_other_properties_stand_in_between() {
    let broker = broker();
    let (publisher, subscriber) = pair(&broker, Version::V5);
    let message = publish("t/x", "x")
        .with(property::user_property("2", ""))
        .with(property::topic_alias(3))
        .with(property::user_property("1", ""))
        .with(property::content_type("text"))
        .with(property::message_expiry_interval(100))
        .with(property::user_property("3", ""));
    publisher.says(message);
    subscriber.receives(
        publish("t/x", "x")
            .with(property::message_expiry_interval(100))
            .with(property::content_type("text"))
            .with(property::user_property("2", ""))
            .with(property::user_property("1", ""))
            .with(property::user_property("3", "")),
    );
}

#[test]
fn mqtt_3_3_2_19_an_ill_formed_content_type_is_malformed() {
    let broker = broker();
    for text in [&b"\xff"[..], b"a\0", b"\xed\xbf\xbf"] {
        let client = Client::connects(&broker, connect(Version::V5, "client"));
        client.says(publish("t", "x").with((property::CONTENT_TYPE, Value::Bytes(text.to_vec()))));
        client.is_thrown_out(&[MALFORMED_PACKET]);
    }
}

#[test]
fn mqtt_3_3_2_20_the_content_type_is_forwarded_unchanged() {
    is_forwarded_unchanged(&[property::content_type("application/json; charset=\u{fc}")]);
}

#[test]
fn a_publish_property_that_stands_there_twice_is_a_protocol_error() {
    let broker = broker();
    for property in [
        property::payload_format_indicator(1),
        property::message_expiry_interval(1),
        property::topic_alias(1),
        property::response_topic("r"),
        property::correlation_data(b"c"),
        property::content_type("c"),
    ] {
        let client = Client::connects(&broker, connect(Version::V5, "client"));
        client.says(publish("t", "x").with(property.clone()).with(property)).is_thrown_out(&[PROTOCOL_ERROR]);
    }
}

#[test]
fn a_publish_of_mqtt_5_reaches_a_3_1_1_subscriber_without_properties() {
    let broker = broker();
    let publisher = Client::connects(&broker, connect(Version::V5, "of mqtt 5"));
    let (_, subscriber) = pair(&broker, Version::V311);
    let message = publish("t/x", "x").with(property::user_property("k", "v")).with(property::topic_alias(1));
    let message = message.with(property::message_expiry_interval(9));
    publisher.publishes(message.clone().exactly_once(1));
    subscriber.takes(publish("t/x", "x").exactly_once(0));
    publisher.publishes(message.at_least_once(1).retain());
    subscriber.takes(publish("t/x", "x").at_least_once(0));
    assert_eq!(retained_for_a_newcomer(&broker, Version::V311, "t/x"), [stored("t/x", "x", 1)]);
}

#[test]
fn a_publish_of_3_1_1_reaches_a_subscriber_of_mqtt_5_with_no_properties() {
    let broker = broker();
    let publisher = Client::connects(&broker, connect(Version::V311, "of mqtt 3.1.1"));
    let (_, subscriber) = pair(&broker, Version::V5);
    publisher.says(publish("t/x", "x").retain());
    assert_eq!(subscriber.hears_bytes(), b"\x30\x07\x00\x03t/x\x00x");
    assert_eq!(retained_for_a_newcomer(&broker, Version::V5, "t/x"), [stored("t/x", "x", 0)]);
}

// ------------------------------------------------------------------------------------------------------------ actions

both!(
    mqtt_3_3_4_1_each_publish_gets_the_answer_that_its_qos_asks_for,
    mqtt311_3_3_4_1_each_publish_gets_the_answer_that_its_qos_asks_for,
    mqtt31_each_publish_gets_the_answer_that_its_qos_asks_for,
    |version| {
        let broker = broker();
        let (publisher, subscriber) = pair(&broker, version);
        publisher.says(publish("t/x", "0")).hears_nothing();
        publisher.says(publish("t/x", "1").at_least_once(11));
        assert_eq!(publisher.hears_bytes(), [0x40, 2, 0, 11]);
        publisher.says(publish("t/x", "2").exactly_once(12));
        assert_eq!(publisher.hears_bytes(), [0x50, 2, 0, 12]);
        publisher.says(pubrel(12));
        assert_eq!(publisher.hears_bytes(), [0x70, 2, 0, 12]);
        let expected = [publish("t/x", "0"), publish("t/x", "1").at_least_once(0), publish("t/x", "2").exactly_once(0)];
        subscriber.receives_all(expected);
        publisher.hears_nothing().is_open();
    }
);

both!(
    mqtt_3_3_4_2_overlapping_subscriptions_deliver_with_the_highest_qos_among_them,
    mqtt311_3_3_5_1_overlapping_subscriptions_deliver_with_the_highest_qos_among_them,
    |version| {
        let broker = broker();
        let publisher = Client::connects(&broker, connect(version, "publisher"));
        let client = Client::connects(&broker, connect(version, "client"));
        client.subscribes("t/x", 0).subscribes("t/#", 2).subscribes("+/x", 1);
        for qos in [2, 1, 0] {
            publisher.publishes(publish("t/x", "x").qos(qos, 1));
            client.takes(publish("t/x", "x").qos(qos, 0)).hears_nothing();
        }
        client.unsubscribes("t/#");
        publisher.publishes(publish("t/x", "x").exactly_once(1));
        client.takes(publish("t/x", "x").at_least_once(0)).hears_nothing();
    }
);

fn identifiers(message: &Publish) -> Vec<u32> {
    let of_subscriptions = message.properties.iter().filter(|(id, _)| *id == property::SUBSCRIPTION_IDENTIFIER);
    let mut identifiers: Vec<u32> = of_subscriptions.filter_map(|(_, value)| number(Some(value))).collect();
    identifiers.sort_unstable();
    identifiers
}

#[test]
fn mqtt_3_3_4_3_the_identifiers_of_overlapping_subscriptions_go_with_the_message() {
    let broker = broker();
    let publisher = Client::connects(&broker, connect(Version::V5, "publisher"));
    let client = Client::connects(&broker, connect(Version::V5, "client"));
    client.subscribes_with(subscribe(1).to("t/x", 0).with(property::subscription_identifier(1)));
    client.subscribes_with(subscribe(2).to("t/#", 0).with(property::subscription_identifier(268_435_455)));
    client.subscribes_with(subscribe(3).to("u/#", 0).with(property::subscription_identifier(3)));
    client.subscribes_with(subscribe(4).to("+/x", 0));
    publisher.says(publish("t/x", "x"));
    let heard: Vec<u32> = client.hears_publishes().iter().flat_map(identifiers).collect();
    assert_eq!(heard, [1, 268_435_455]);
    publisher.says(publish("u/y", "x"));
    assert_eq!(client.hears_publishes().iter().map(identifiers).collect::<Vec<_>>(), [[3]]);
    publisher.says(publish("v/x", "x"));
    client.receives(publish("v/x", "x"));
}

#[test]
fn mqtt_3_3_4_4_one_copy_carries_the_identifiers_of_all_matching_subscriptions() {
    let broker = broker();
    let publisher = Client::connects(&broker, connect(Version::V5, "publisher"));
    let client = Client::connects(&broker, connect(Version::V5, "client"));
    for (number, filter) in [(1, "t/x"), (2, "t/+"), (3, "t/#"), (4, "+/x"), (5, "#"), (6, "t/y")] {
        let identified = subscribe(number).to(filter, (number % 3) as u8);
        client.subscribes_with(identified.with(property::subscription_identifier(u32::from(number))));
    }
    publisher.publishes(publish("t/x", "x").exactly_once(1));
    let heard = client.hears_publishes();
    assert_eq!((heard.len(), heard[0].qos), (1, 2));
    assert_eq!(identifiers(&heard[0]), [1, 2, 3, 4, 5]);
}

#[test]
fn mqtt_3_3_4_5_each_copy_carries_the_identifier_of_its_own_subscription() {
    let broker = broker();
    let publisher = Client::connects(&broker, connect(Version::V5, "publisher"));
    let client = Client::connects(&broker, connect(Version::V5, "client"));
    client.subscribes_with(subscribe(1).to("t/#", 1).with(property::subscription_identifier(1)));
    client.subscribes_with(subscribe(2).to("$share/group/t/#", 1).with(property::subscription_identifier(2)));
    publisher.publishes(publish("t/x", "x").at_least_once(1));
    let heard = client.hears_publishes();
    let all: Vec<u32> = heard.iter().flat_map(identifiers).collect();
    assert!(heard.iter().all(|copy| !identifiers(copy).is_empty()), "{heard:?}");
    assert!(matches!(&all[..], [1, 2] | [2, 1]), "{heard:?}");
}

#[test]
fn a_subscription_identifier_is_replaced_or_removed_when_the_filter_is_subscribed_to_again() {
    let broker = broker();
    let publisher = Client::connects(&broker, connect(Version::V5, "publisher"));
    let client = Client::connects(&broker, connect(Version::V5, "client"));
    for (again, expected) in [(Some(5), vec![5]), (Some(6), vec![6]), (None, vec![])] {
        let mut subscribe = subscribe(1).to("t", 0);
        subscribe.properties.extend(again.map(property::subscription_identifier));
        client.subscribes_with(subscribe);
        publisher.says(publish("t", "x"));
        assert_eq!(client.hears_publishes().iter().map(identifiers).collect::<Vec<_>>(), [expected]);
    }
}

#[test]
fn a_subscription_identifier_belongs_to_the_session_and_to_retained_messages_too() {
    let broker = broker();
    let publisher = Client::connects(&broker, connect(Version::V5, "publisher"));
    publisher.publishes(publish("t", "retained").at_least_once(1).retain());
    let client = Client::connects(&broker, connect(Version::V5, "client").persistent());
    client.subscribes_with(subscribe(1).to("t", 1).with(property::subscription_identifier(9)));
    let with_9 = |message: Publish| message.with(property::subscription_identifier(9));
    client.takes(with_9(publish("t", "retained").at_least_once(0).retain())).vanishes();
    publisher.publishes(publish("t", "queued").at_least_once(2));
    let client = Client::resumes(&broker, connect(Version::V5, "client").persistent());
    client.takes(with_9(publish("t", "queued").at_least_once(0)));
    publisher.publishes(publish("t", "live").at_least_once(3));
    client.takes(with_9(publish("t", "live").at_least_once(0)));
}

#[test]
fn mqtt_3_3_4_6_a_subscription_identifier_in_a_clients_publish_is_a_protocol_error() {
    let broker = broker();
    let (publisher, subscriber) = pair(&broker, Version::V5);
    publisher.says(publish("t/x", "x").with(property::subscription_identifier(1))).is_thrown_out(&[PROTOCOL_ERROR]);
    subscriber.hears_nothing();
}

#[test]
fn mqtt_3_3_4_7_more_publishes_than_the_servers_receive_maximum_are_refused_with_0x93() {
    let broker = receive_maximum(3);
    let client = Client::connects(&broker, connect(Version::V5, "client"));
    for packet_id in 1..=3 {
        client.says(publish("t", "x").exactly_once(packet_id));
        client.hears_ack(AckKind::PubRec, packet_id);
    }
    client.publishes(publish("t", "QoS 0 does not count"));
    client.says(pubrel(2)).hears(pubcomp(2));
    client.says(publish("t", "x").exactly_once(4));
    client.hears_ack(AckKind::PubRec, 4);
    client.says(publish("t", "x").exactly_once(5)).is_thrown_out(&[RECEIVE_MAXIMUM_EXCEEDED]);
}

#[test]
fn what_was_acknowledged_or_sent_again_does_not_count_towards_the_servers_receive_maximum() {
    let broker = receive_maximum(2);
    let client = Client::connects(&broker, connect(Version::V5, "client"));
    for packet_id in 1..20 {
        client.publishes(publish("t", "x").at_least_once(packet_id));
        client.publishes(publish("t", "x").exactly_once(packet_id));
    }
    for packet_id in [1, 2, 1, 2, 1] {
        client.says(publish("t", "x").exactly_once(packet_id).dup());
        client.hears_ack(AckKind::PubRec, packet_id);
    }
    client.is_alive();
}

#[test]
fn mqtt_3_3_4_9_the_server_keeps_to_the_clients_receive_maximum() {
    for maximum in [1, 2, 5] {
        let broker = broker();
        let publisher = Client::connects(&broker, connect(Version::V5, "publisher"));
        let narrow = connect(Version::V5, "client").with(property::receive_maximum(maximum));
        let client = Client::connects(&broker, narrow);
        client.subscribes("t", 2);
        for packet_id in 1..=12 {
            publisher.publishes(publish("t", packet_id.to_string()).qos(1 + (packet_id % 2) as u8, packet_id));
        }
        let mut open = client.hears_publishes();
        let mut received = Vec::new();
        while let Some(message) = open.pop() {
            assert_eq!(open.len() + 1, usize::from(maximum).min(12 - received.len()));
            received.push(message.payload);
            let packet_id = message.packet_id.unwrap_or_default();
            if message.qos == 2 {
                client.says(pubrec(packet_id)).hears(pubrel(packet_id));
                client.says(pubcomp(packet_id));
            } else {
                client.says(puback(packet_id));
            }
            open.extend(client.hears_publishes());
        }
        received.sort();
        received.dedup();
        assert_eq!(received.len(), 12);
    }
}

#[test]
fn mqtt_3_3_4_10_a_full_window_holds_back_only_publish_packets() {
    let broker = broker();
    let publisher = Client::connects(&broker, connect(Version::V5, "publisher"));
    let client = Client::connects(&broker, connect(Version::V5, "client").with(property::receive_maximum(1)));
    client.subscribes("t", 2);
    publisher.publishes(publish("t", "1").exactly_once(1));
    publisher.publishes(publish("t", "2").exactly_once(2));
    let packet_id = client.receives(publish("t", "1").exactly_once(0));
    client.is_alive();
    client.says(subscribe(7).to("u", 1)).hears(crate::support::wire::suback(7, &[1]));
    client.says(crate::support::wire::unsubscribe(8).from("u")).hears(crate::support::wire::unsuback(8, &[0]));
    client.says(publish("v", "x").at_least_once(9));
    client.hears_ack(AckKind::PubAck, 9);
    client.says(publish("v", "x").exactly_once(10));
    client.hears_ack(AckKind::PubRec, 10);
    client.says(pubrel(10)).hears(pubcomp(10));
    client.says(pubrec(packet_id)).hears(pubrel(packet_id));
    client.says(pubcomp(packet_id)).receives(publish("t", "2").exactly_once(0));
}

#[test]
fn mqtt_3_3_4_10_a_full_window_holds_back_no_pubrel_when_a_session_is_resumed() {
    let broker = broker();
    let publisher = Client::connects(&broker, connect(Version::V5, "publisher"));
    let client = Client::connects(&broker, connect(Version::V5, "client").persistent());
    client.subscribes("t", 2);
    let ids = ["1", "2", "3"].map(|payload| {
        publisher.publishes(publish("t", payload).exactly_once(1));
        client.receives(publish("t", payload).exactly_once(0))
    });
    client.says(pubrec(ids[2])).hears(pubrel(ids[2])).vanishes();
    // It comes back with place for one PUBLISH; the PUBREL is none. Whether the exchange that it belongs to still takes
    // a place is the server's to decide.
    let narrow = connect(Version::V5, "client").persistent().with(property::receive_maximum(1));
    let client = Client::resumes(&broker, narrow);
    let first = || Parsed::from(publish("t", "1").exactly_once(ids[0]).dup());
    let heard = client.hears_all();
    assert!(heard.contains(&pubrel(ids[2]).into()), "no PUBREL among {heard:?}");
    assert!(heard.len() == 1 || (heard.len() == 2 && heard.contains(&first())), "{heard:?}");
    client.says(pubcomp(ids[2]));
    if heard.len() == 1 {
        client.hears(first());
    }
    client.hears_nothing().says(pubrec(ids[0])).hears(pubrel(ids[0]));
    client.says(pubcomp(ids[0])).hears(publish("t", "2").exactly_once(ids[1]).dup());
}

#[test]
fn a_full_window_does_not_hold_back_messages_of_qos_0() {
    let broker = broker();
    let publisher = Client::connects(&broker, connect(Version::V5, "publisher"));
    let client = Client::connects(&broker, connect(Version::V5, "client").with(property::receive_maximum(1)));
    client.subscribes("t", 1);
    publisher.publishes(publish("t", "1").at_least_once(1));
    client.receives(publish("t", "1").at_least_once(0));
    publisher.publishes(publish("t", "2").at_least_once(2));
    publisher.publishes(publish("t", "3"));
    client.receives(publish("t", "3"));
}

#[test]
fn mqtt311_3_3_5_2_an_unauthorized_publish_is_acknowledged_as_usual_or_the_connection_closed() {
    let broker = broker();
    let observer = Client::connects(&broker, connect(Version::V311, "observer"));
    observer.subscribes("$SYS/forged", 0);
    for qos in [1, 2] {
        let client = Client::connects(&broker, connect(Version::V311, "client"));
        client.says(publish("$SYS/forged", "x").qos(qos, 1));
        let heard = client.hears_all();
        let expected: Parsed = if qos == 1 { puback(1).into() } else { pubrec(1).into() };
        if heard.is_empty() {
            client.is_closed();
        } else {
            assert_eq!(heard, [expected]);
            client.is_alive();
        }
    }
    observer.hears_nothing();
}

// --------------------------------------------------------------------------------------- PUBACK, PUBREC, PUBREL, PUBCOMP

/// Provokes each acknowledgement of a server with each Reason Code that it has a reason for.
fn provoked(client: &Client) -> Vec<Ack> {
    let mut acks = Vec::new();
    for packet in [
        publish("t/x", "with a subscriber").at_least_once(1),
        publish("nobody/listens", "x").at_least_once(2),
        publish("$SYS/forged", "x").at_least_once(3),
        publish("t/x", "with a subscriber").exactly_once(4),
        publish("nobody/listens", "x").exactly_once(5),
        publish("$SYS/forged", "x").exactly_once(6),
    ] {
        let kind = if packet.qos == 1 { AckKind::PubAck } else { AckKind::PubRec };
        let packet_id = packet.packet_id.unwrap_or_default();
        acks.push(client.says(packet).hears_ack(kind, packet_id));
    }
    for packet_id in [4, 77] {
        acks.push(client.says(pubrel(packet_id)).hears_ack(AckKind::PubComp, packet_id));
        acks.push(client.says(pubrec(packet_id)).hears_ack(AckKind::PubRel, packet_id));
    }
    acks
}

fn reasons(acks: &[Ack], kind: AckKind) -> Vec<u8> {
    acks.iter().filter(|ack| ack.kind == kind).map(|ack| ack.reason).collect()
}

shows!(
    mqtt_3_4_2_1_puback_has_only_codes_of_its_table,
    mqtt_3_5_2_1_pubrec_has_only_codes_of_its_table,
    mqtt_3_6_2_1_pubrel_has_only_codes_of_its_table,
    mqtt_3_7_2_1_pubcomp_has_only_codes_of_its_table,
    || {
        let broker = broker();
        let (publisher, _subscriber) = pair(&broker, Version::V5);
        // The parser holds each code against its table.
        let acks = provoked(&publisher);
        for kind in [AckKind::PubAck, AckKind::PubRec] {
            let reasons = reasons(&acks, kind);
            assert_eq!(reasons[0], 0);
            assert!(matches!(reasons[1], 0 | NO_MATCHING_SUBSCRIBERS), "{reasons:02x?}");
            assert_eq!(reasons[2], NOT_AUTHORIZED);
        }
        assert_eq!(reasons(&acks, AckKind::PubComp), [0, PACKET_IDENTIFIER_NOT_FOUND]);
        assert_eq!(reasons(&acks, AckKind::PubRel), [PACKET_IDENTIFIER_NOT_FOUND; 2]);
    }
);

/// The four acknowledgements in turn, each with a code that is not in its table.
fn a_code_of_another_table_is_refused(ack: fn(u16) -> Ack, codes: &[u8]) {
    let broker = broker();
    for code in codes {
        let client = Client::connects(&broker, connect(Version::V5, "client"));
        client.says(ack(1).reason(*code)).is_thrown_out(&[PROTOCOL_ERROR, MALFORMED_PACKET]);
    }
}

#[test]
fn mqtt_3_4_2_1_a_puback_with_a_code_of_another_table_is_refused() {
    a_code_of_another_table_is_refused(puback, &[0x01, 0x11, 0x81, 0x8f, 0x92, 0xff]);
}

#[test]
fn mqtt_3_5_2_1_a_pubrec_with_a_code_of_another_table_is_refused() {
    a_code_of_another_table_is_refused(pubrec, &[0x01, 0x11, 0x81, 0x8f, 0x92, 0xff]);
}

#[test]
fn mqtt_3_6_2_1_a_pubrel_with_a_code_of_another_table_is_refused() {
    a_code_of_another_table_is_refused(pubrel, &[0x01, 0x10, 0x80, 0x91, 0xff]);
}

#[test]
fn mqtt_3_7_2_1_a_pubcomp_with_a_code_of_another_table_is_refused() {
    a_code_of_another_table_is_refused(pubcomp, &[0x01, 0x10, 0x80, 0x91, 0xff]);
}

shows!(
    mqtt_3_4_2_2_no_reason_string_makes_puback_too_large,
    mqtt_3_4_2_3_no_user_property_makes_puback_too_large,
    mqtt_3_5_2_2_no_reason_string_makes_pubrec_too_large,
    mqtt_3_5_2_3_no_user_property_makes_pubrec_too_large,
    mqtt_3_6_2_2_no_reason_string_makes_pubrel_too_large,
    mqtt_3_6_2_3_no_user_property_makes_pubrel_too_large,
    mqtt_3_7_2_2_no_reason_string_makes_pubcomp_too_large,
    mqtt_3_7_2_3_no_user_property_makes_pubcomp_too_large,
    || {
        let broker = broker();
        let (client, limit) = Client::connects_narrowly(&broker);
        let refused = [
            (publish("$SYS/forged", "x").at_least_once(3).bytes(Version::V5), 0x40, NOT_AUTHORIZED),
            (publish("$SYS/forged", "x").exactly_once(3).bytes(Version::V5), 0x50, NOT_AUTHORIZED),
            (pubrec(3).bytes(Version::V5), 0x62, PACKET_IDENTIFIER_NOT_FOUND),
            (pubrel(3).bytes(Version::V5), 0x70, PACKET_IDENTIFIER_NOT_FOUND),
        ];
        for (bytes, first_byte, reason) in refused {
            client.says(bytes);
            let answer = client.hears_bytes();
            assert_eq!(packet_sizes(&answer), [answer.len()]);
            assert!(answer.len() <= limit, "{} bytes where {limit} are allowed", answer.len());
            assert_eq!((answer[0], &answer[2..5]), (first_byte, &[0, 3, reason][..]));
        }
        client.is_alive();
    }
);

both!(
    mqtt_3_6_1_1_a_pubrel_with_flags_other_than_0010_is_malformed,
    mqtt311_3_6_1_1_a_pubrel_with_flags_other_than_0010_ends_the_connection,
    |version| {
        let broker = broker();
        for flags in (0..16).filter(|flags| *flags != 2) {
            let client = Client::connects(&broker, connect(version, "client"));
            client.says(publish("t", "x").exactly_once(1));
            client.hears_ack(AckKind::PubRec, 1);
            client.says([0x60 | flags, 2, 0, 1]).is_thrown_out(&[MALFORMED_PACKET]);
        }
    }
);

both!(
    acknowledgements_for_unknown_packet_identifiers_do_no_harm,
    acknowledgements_for_unknown_packet_identifiers_do_no_harm_in_3_1_1,
    |version| {
        let broker = broker();
        let client = Client::connects(&broker, connect(version, "client"));
        client.says(puback(1)).hears_nothing().says(pubcomp(2)).hears_nothing();
        let unknown = client.says(pubrel(3)).hears_ack(AckKind::PubComp, 3);
        assert_eq!(unknown.reason, if version.is_v5() { PACKET_IDENTIFIER_NOT_FOUND } else { 0 });
        client.is_alive();
    }
);

#[test]
fn an_acknowledgement_may_be_short_or_long() {
    let broker = broker();
    let publisher = Client::connects(&broker, connect(Version::V5, "publisher"));
    let client = Client::connects(&broker, connect(Version::V5, "client").with(property::receive_maximum(1)));
    client.subscribes("t", 1);
    let long = |id: u16| puback(id).with(property::reason_string("thanks")).with(property::user_property("k", "v"));
    let forms: [&dyn Fn(u16) -> Vec<u8>; 4] = [
        &|id| vec![0x40, 2, (id >> 8) as u8, id as u8],
        &|id| vec![0x40, 3, (id >> 8) as u8, id as u8, 0x00],
        &|id| vec![0x40, 4, (id >> 8) as u8, id as u8, 0x10, 0],
        &|id| long(id).bytes(Version::V5),
    ];
    for (number, form) in forms.into_iter().enumerate() {
        publisher.publishes(publish("t", number.to_string()).at_least_once(1));
        let packet_id = client.receives(publish("t", number.to_string()).at_least_once(0));
        client.says(form(packet_id)).hears_nothing();
    }
    client.is_alive();
}
