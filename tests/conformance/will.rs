//! The Will: sections 3.1.2.5 to 3.1.2.7, 3.1.3.2 and what DISCONNECT says about it.

use crate::house::broker;
use crate::support::TestBroker;
use crate::support::wire::{
    Connect, Value, Version, connect, disconnect, options::*, packet, property, publish, reason::*, will,
};
use crate::talk::{Client, both, number, seconds};

/// Sees each message on `will/…`, with the RETAIN flag as it was published where the version can say so.
fn observer(broker: &TestBroker, version: Version) -> Client {
    let observer = Client::connects(broker, connect(version, "observer"));
    let options = if version.is_v5() { 2 | RETAIN_AS_PUBLISHED } else { 2 };
    observer.subscribes("will/#", options);
    observer
}

fn mortal(version: Version) -> Connect {
    connect(version, "mortal").will(will("will/t", "gone"))
}

both!(
    mqtt_3_1_2_7_the_will_is_kept_with_the_session_and_published_as_it_was_given,
    mqtt311_3_1_2_8_the_will_is_published_when_the_network_connection_ends,
    mqtt31_the_will_is_published_when_the_network_connection_ends,
    |version| {
        let broker = broker();
        let observer = observer(&broker, version);
        for qos in [0, 1, 2] {
            let connect = connect(version, "mortal").will(will("will/t", "gone").qos(qos));
            let client = Client::connects(&broker, connect);
            client.is_alive();
            observer.hears_nothing();
            client.vanishes();
            observer.takes(publish("will/t", "gone").qos(qos, 0)).hears_nothing();
        }
    }
);

#[test]
fn mqtt_3_1_2_7_the_will_carries_its_properties() {
    let broker = broker();
    let observer = observer(&broker, Version::V5);
    let given = will("will/t", "gone")
        .with(property::payload_format_indicator(1))
        .with(property::message_expiry_interval(100))
        .with(property::content_type("text/plain"))
        .with(property::response_topic("answer/here"))
        .with(property::correlation_data(b"\0\xff"))
        .with(property::user_property("k", "v"));
    let expected = publish("will/t", "gone")
        .with(property::payload_format_indicator(1))
        .with(property::message_expiry_interval(100))
        .with(property::content_type("text/plain"))
        .with(property::response_topic("answer/here"))
        .with(property::correlation_data(b"\0\xff"))
        .with(property::user_property("k", "v"));
    Client::connects(&broker, connect(Version::V5, "mortal").will(given)).vanishes();
    observer.receives(expected);
}

#[test]
fn the_will_delay_interval_is_not_part_of_the_message() {
    let broker = broker();
    let observer = observer(&broker, Version::V5);
    let delayed = will("will/t", "gone").with(property::will_delay_interval(0)).with(property::user_property("k", "v"));
    Client::connects(&broker, connect(Version::V5, "mortal").will(delayed)).vanishes();
    observer.receives(publish("will/t", "gone").with(property::user_property("k", "v")));
}

both!(
    mqtt_3_1_2_8_the_will_is_published_after_a_protocol_error_of_its_client,
    mqtt311_3_1_2_8_the_will_is_published_after_a_protocol_error_of_its_client,
    |version| {
        let broker = broker();
        let observer = observer(&broker, version);
        let client = Client::connects(&broker, mortal(version));
        client.says(packet(0x36, b"\0\x01t")).is_thrown_out(&[MALFORMED_PACKET]);
        observer.receives(publish("will/t", "gone"));
    }
);

both!(
    mqtt_3_1_2_8_the_will_is_published_when_its_client_is_taken_over,
    mqtt311_3_1_2_8_the_will_is_published_when_its_client_is_taken_over,
    |version| {
        let broker = broker();
        let observer = observer(&broker, version);
        let old = Client::connects(&broker, mortal(version));
        let new = Client::connects(&broker, connect(version, "mortal"));
        old.is_thrown_out(&[SESSION_TAKEN_OVER]);
        observer.receives(publish("will/t", "gone"));
        new.disconnects();
        observer.hears_nothing();
    }
);

#[test]
fn mqtt_3_1_2_8_the_will_is_published_at_the_end_of_its_delay() {
    let broker = broker();
    let observer = observer(&broker, Version::V5);
    let delayed = will("will/t", "gone").with(property::will_delay_interval(6));
    let connect = connect(Version::V5, "mortal").will(delayed).with(property::session_expiry_interval(100));
    Client::connects(&broker, connect).vanishes();
    observer.hears_nothing();
    broker.advance(seconds(4));
    observer.hears_nothing();
    broker.advance(seconds(4));
    observer.receives(publish("will/t", "gone"));
    broker.advance(seconds(4));
    observer.hears_nothing();
}

#[test]
fn mqtt_3_1_2_8_the_will_is_published_at_the_end_of_the_session_if_that_comes_first() {
    let broker = broker();
    let observer = observer(&broker, Version::V5);
    let delayed = will("will/t", "gone").with(property::will_delay_interval(100));
    let connect = connect(Version::V5, "mortal").will(delayed).with(property::session_expiry_interval(6));
    Client::connects(&broker, connect).vanishes();
    broker.advance(seconds(4));
    observer.hears_nothing();
    broker.advance(seconds(4));
    observer.receives(publish("will/t", "gone"));
}

#[test]
fn mqtt_3_1_2_8_a_session_that_ends_with_its_connection_publishes_a_delayed_will_at_once() {
    let broker = broker();
    let observer = observer(&broker, Version::V5);
    let delayed = will("will/t", "gone").with(property::will_delay_interval(100));
    Client::connects(&broker, connect(Version::V5, "mortal").will(delayed)).vanishes();
    observer.receives(publish("will/t", "gone"));
}

#[test]
fn mqtt_3_1_2_8_a_new_session_of_the_same_client_ends_the_old_one_and_publishes_its_delayed_will() {
    let broker = broker();
    let observer = observer(&broker, Version::V5);
    let delayed = will("will/t", "gone").with(property::will_delay_interval(100));
    let first = connect(Version::V5, "mortal").will(delayed).with(property::session_expiry_interval(1000));
    Client::connects(&broker, first).vanishes();
    observer.hears_nothing();
    let new = Client::connects(&broker, connect(Version::V5, "mortal"));
    observer.receives(publish("will/t", "gone"));
    new.is_alive();
}

both!(
    mqtt_3_1_2_10_a_will_that_was_published_is_forgotten,
    mqtt311_3_1_2_10_a_will_that_was_published_is_forgotten,
    |version| {
        let broker = broker();
        let observer = observer(&broker, version);
        let with_will = connect(version, "mortal").persistent().will(will("will/t", "gone"));
        Client::connects(&broker, with_will).vanishes();
        observer.receives(publish("will/t", "gone"));
        Client::resumes(&broker, connect(version, "mortal").persistent()).vanishes();
        broker.advance(seconds(2));
        observer.hears_nothing();
    }
);

both!(
    mqtt_3_1_2_10_a_will_is_forgotten_after_disconnect,
    mqtt311_3_1_2_10_a_will_is_forgotten_after_disconnect,
    |version| {
        let broker = broker();
        let observer = observer(&broker, version);
        let with_will = connect(version, "mortal").persistent().will(will("will/t", "gone"));
        Client::connects(&broker, with_will).disconnects();
        Client::resumes(&broker, connect(version, "mortal").persistent()).vanishes();
        broker.advance(seconds(2));
        observer.hears_nothing();
    }
);

#[test]
fn mqtt311_3_1_2_12_without_will_flag_nothing_is_published_at_the_end() {
    let broker = broker();
    let all = Client::connects(&broker, connect(Version::V311, "all"));
    all.subscribes("#", 0);
    Client::connects(&broker, connect(Version::V311, "client")).vanishes();
    let client = Client::connects(&broker, connect(Version::V311, "client"));
    client.says(packet(0x36, b"\0\x01t")).is_closed();
    all.hears_nothing();
}

both!(
    mqtt_3_1_2_14_will_retain_0_publishes_an_ordinary_message,
    mqtt311_3_1_2_16_will_retain_0_publishes_an_unretained_message,
    |version| {
        let broker = broker();
        let observer = observer(&broker, version);
        Client::connects(&broker, mortal(version)).vanishes();
        observer.receives(publish("will/t", "gone"));
        let late = Client::connects(&broker, connect(version, "late"));
        late.subscribes("will/t", 0).hears_nothing();
    }
);

both!(
    mqtt_3_1_2_15_will_retain_1_publishes_a_retained_message,
    mqtt311_3_1_2_17_will_retain_1_publishes_a_retained_message,
    |version| {
        let broker = broker();
        let observer = observer(&broker, version);
        Client::connects(&broker, connect(version, "mortal").will(will("will/t", "gone").qos(1).retain())).vanishes();
        let live = publish("will/t", "gone").at_least_once(0);
        observer.receives(if version.is_v5() { live.clone().retain() } else { live });
        let late = Client::connects(&broker, connect(version, "late"));
        late.subscribes("will/t", 1).receives(publish("will/t", "gone").at_least_once(0).retain());
    }
);

#[test]
fn mqtt_3_1_3_9_a_reconnect_within_the_delay_cancels_the_will() {
    let broker = broker();
    let observer = observer(&broker, Version::V5);
    let delayed = will("will/t", "gone").with(property::will_delay_interval(4));
    let first = connect(Version::V5, "mortal").will(delayed).with(property::session_expiry_interval(100));
    Client::connects(&broker, first).vanishes();
    broker.advance(seconds(2));
    let back = Client::resumes(&broker, connect(Version::V5, "mortal").persistent());
    broker.advance(seconds(10));
    observer.hears_nothing();
    back.is_alive();
}

#[test]
fn mqtt_3_1_3_9_a_takeover_of_the_session_within_the_delay_publishes_no_will() {
    let broker = broker();
    let observer = observer(&broker, Version::V5);
    let delayed = will("will/t", "gone").with(property::will_delay_interval(4));
    let first = connect(Version::V5, "mortal").will(delayed).with(property::session_expiry_interval(100));
    let old = Client::connects(&broker, first);
    let new = Client::resumes(&broker, connect(Version::V5, "mortal").persistent());
    old.is_thrown_out(&[SESSION_TAKEN_OVER]);
    broker.advance(seconds(10));
    observer.hears_nothing();
    new.is_alive();
}

#[test]
fn a_reconnect_after_the_delay_does_not_take_the_will_back() {
    let broker = broker();
    let observer = observer(&broker, Version::V5);
    let delayed = will("will/t", "gone").with(property::will_delay_interval(2));
    let connect = connect(Version::V5, "mortal").will(delayed).with(property::session_expiry_interval(100));
    Client::connects(&broker, connect.clone()).vanishes();
    broker.advance(seconds(4));
    observer.receives(publish("will/t", "gone"));
    let back = Client::resumes(&broker, connect.resuming());
    observer.hears_nothing();
    back.vanishes();
    broker.advance(seconds(4));
    observer.receives(publish("will/t", "gone"));
}

#[test]
fn a_delayed_will_begins_to_age_when_it_is_published() {
    let broker = broker();
    let observer = observer(&broker, Version::V5);
    let sleeper = Client::connects(&broker, connect(Version::V5, "sleeper").persistent());
    sleeper.subscribes("will/#", 1).vanishes();
    let aging = will("will/t", "gone")
        .qos(1)
        .with(property::message_expiry_interval(20))
        .with(property::will_delay_interval(5));
    let connect = connect(Version::V5, "mortal").will(aging).with(property::session_expiry_interval(100));
    Client::connects(&broker, connect).vanishes();
    broker.advance(seconds(8));
    let live = &observer.hears_publishes()[0];
    assert!(matches!(number(live.property(property::MESSAGE_EXPIRY_INTERVAL)), Some(17..=20)), "{live:?}");
    let sleeper = Client::resumes(&broker, crate::support::wire::connect(Version::V5, "sleeper").persistent());
    let queued = &sleeper.hears_publishes()[0];
    assert!(matches!(number(queued.property(property::MESSAGE_EXPIRY_INTERVAL)), Some(15..=20)), "{queued:?}");
}

#[test]
fn mqtt_3_1_3_10_the_order_of_the_wills_user_properties_is_kept() {
    let broker = broker();
    let observer = observer(&broker, Version::V5);
    let pairs = [("b", "1"), ("a", "2"), ("b", "0"), ("", ""), ("a", "2")];
    let mut given = will("will/t", "gone");
    let mut expected = publish("will/t", "gone");
    for (key, value) in pairs {
        given = given.with(property::user_property(key, value));
        expected = expected.with(property::user_property(key, value));
    }
    Client::connects(&broker, connect(Version::V5, "mortal").will(given)).vanishes();
    observer.receives(expected);
}

both!(
    mqtt_3_1_3_11_an_ill_formed_will_topic_is_malformed,
    mqtt311_3_1_3_10_an_ill_formed_will_topic_ends_the_connection,
    |version| {
        let broker = broker();
        for topic in [&b"\xff"[..], b"will/\0", b"\xed\xa0\x80"] {
            let mut connect = mortal(version);
            connect.will.as_mut().expect("a mortal has a Will").topic = topic.to_vec();
            Client::tries(&broker, version, connect).is_turned_away(&[MALFORMED_PACKET]);
        }
    }
);

both!(a_will_topic_with_a_wildcard_is_refused, a_will_topic_with_a_wildcard_is_refused_in_3_1_1, |version| {
    let broker = broker();
    let observer = observer(&broker, version);
    for topic in ["will/+", "will/#", "#", "+", ""] {
        let client = Client::tries(&broker, version, connect(version, "mortal").will(will(topic, "gone")));
        client.is_turned_away(&[TOPIC_NAME_INVALID, MALFORMED_PACKET, PROTOCOL_ERROR]);
    }
    observer.hears_nothing();
});

both!(
    mqtt_3_14_4_3_disconnect_drops_the_will_unpublished,
    mqtt311_3_14_4_3_disconnect_drops_the_will_unpublished,
    mqtt31_disconnect_drops_the_will_unpublished,
    |version| {
        let broker = broker();
        let observer = observer(&broker, version);
        let client = Client::connects(&broker, mortal(version));
        client.says(disconnect(0)).is_closed();
        broker.advance(seconds(2));
        observer.hears_nothing();
    }
);

#[test]
fn mqtt_3_14_4_3_disconnect_0x00_drops_a_delayed_will_too() {
    let broker = broker();
    let observer = observer(&broker, Version::V5);
    let delayed = will("will/t", "gone").with(property::will_delay_interval(2));
    let connect = connect(Version::V5, "mortal").will(delayed).with(property::session_expiry_interval(4));
    Client::connects(&broker, connect).disconnects();
    broker.advance(seconds(10));
    observer.hears_nothing();
}

#[test]
fn disconnect_with_will_message_publishes_the_will() {
    let broker = broker();
    let observer = observer(&broker, Version::V5);
    Client::connects(&broker, mortal(Version::V5)).says(disconnect(0x04)).is_closed();
    observer.receives(publish("will/t", "gone"));
}

#[test]
fn disconnect_with_will_message_waits_for_the_delay_or_the_end_of_the_session() {
    let broker = broker();
    let observer = observer(&broker, Version::V5);
    let connect = || {
        let delayed = will("will/t", "gone").with(property::will_delay_interval(6));
        connect(Version::V5, "mortal").will(delayed).with(property::session_expiry_interval(100))
    };
    Client::connects(&broker, connect()).says(disconnect(0x04)).is_closed();
    broker.advance(seconds(4));
    observer.hears_nothing();
    broker.advance(seconds(4));
    observer.receives(publish("will/t", "gone"));
    // The Session ends at once, and so does the wait.
    let ending = disconnect(0x04).with(property::session_expiry_interval(0));
    Client::connects(&broker, connect()).says(ending).is_closed();
    observer.receives(publish("will/t", "gone"));
}

#[test]
fn a_disconnect_that_reports_an_error_publishes_the_will() {
    let broker = broker();
    let observer = observer(&broker, Version::V5);
    for reason in [UNSPECIFIED_ERROR, MALFORMED_PACKET, PROTOCOL_ERROR, IMPLEMENTATION_SPECIFIC_ERROR, PACKET_TOO_LARGE]
    {
        Client::connects(&broker, mortal(Version::V5)).says(disconnect(reason)).is_closed();
        observer.receives(publish("will/t", "gone"));
    }
}

#[test]
fn each_connection_has_its_own_will_and_the_last_one_counts() {
    let broker = broker();
    let observer = observer(&broker, Version::V5);
    let delayed = |payload| will("will/t", payload).with(property::will_delay_interval(4));
    let connect = |payload| connect(Version::V5, "mortal").persistent().will(delayed(payload));
    Client::connects(&broker, connect("first")).vanishes();
    broker.advance(seconds(1));
    Client::resumes(&broker, connect("second")).vanishes();
    broker.advance(seconds(10));
    observer.receives(publish("will/t", "second"));
}

#[test]
fn a_will_with_a_wrong_property_is_malformed() {
    let broker = broker();
    let wrong = [
        property::topic_alias(1),
        property::session_expiry_interval(1),
        property::subscription_identifier(1),
        property::reason_string("x"),
    ];
    for property in wrong {
        let connect = connect(Version::V5, "mortal").will(will("will/t", "gone").with(property));
        Client::tries(&broker, Version::V5, connect).is_turned_away(&[MALFORMED_PACKET, PROTOCOL_ERROR]);
    }
    let twice = will("will/t", "gone").with(property::will_delay_interval(1)).with(property::will_delay_interval(1));
    let connect = connect(Version::V5, "mortal").will(twice);
    Client::tries(&broker, Version::V5, connect).is_turned_away(&[PROTOCOL_ERROR]);
}

#[test]
fn a_will_does_not_come_back_through_a_no_local_subscription_of_its_client() {
    let broker = broker();
    let mortal = Client::connects(&broker, mortal(Version::V5).persistent());
    mortal.subscribes("will/t", 1 | NO_LOCAL).vanishes();
    let back = Client::resumes(&broker, connect(Version::V5, "mortal").persistent());
    back.hears_nothing();
}

#[test]
fn a_binary_will_payload_of_any_length_is_published_unchanged() {
    let broker = broker();
    let observer = observer(&broker, Version::V5);
    for payload in [Vec::new(), vec![0, 1, 2, 255], vec![0x80; 65_535]] {
        let mut connect = mortal(Version::V5);
        connect.will.as_mut().expect("a mortal has a Will").payload.clone_from(&payload);
        Client::connects(&broker, connect).vanishes();
        observer.receives(publish("will/t", payload));
    }
}

#[test]
fn a_will_of_mqtt_5_reaches_a_3_1_1_subscriber_without_properties() {
    let broker = broker();
    let observer = observer(&broker, Version::V311);
    let given = will("will/t", "gone").with((property::USER_PROPERTY, Value::Pair("k".into(), "v".into())));
    Client::connects(&broker, connect(Version::V5, "mortal").will(given)).vanishes();
    observer.receives(publish("will/t", "gone"));
}
