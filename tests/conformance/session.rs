//! Sections 4.1 and 4.2: Session State and Network Connections.

use crate::house::broker;
use crate::support::wire::{
    AckKind, PINGREQ, Packet, Parsed, Version, connect, connect_v5, options::*, property, puback, pubcomp, publish,
    pubrec, pubrel, subscribe,
};
use crate::talk::{Client, both, seconds};

both!(
    mqtt_4_1_0_1_session_state_is_never_dropped_while_the_connection_is_open,
    mqtt311_4_1_0_2_a_session_lasts_at_least_as_long_as_its_connection,
    |version| {
        let broker = broker();
        let publisher = Client::connects(&broker, connect(version, "publisher").keep_alive(60));
        let mut client = connect(version, "client").keep_alive(60);
        if version.is_v5() {
            client = client.with(property::session_expiry_interval(1));
        }
        let client = Client::connects(&broker, client);
        client.subscribes("t", 2);
        publisher.publishes(publish("t", "open").exactly_once(1));
        let packet_id = client.receives(publish("t", "open").exactly_once(0));
        client.says(publish("u", "open").exactly_once(5));
        client.hears_ack(AckKind::PubRec, 5);
        for _ in 0..4 {
            broker.advance(seconds(5));
            client.is_alive();
            publisher.is_alive();
        }
        client.says(pubrec(packet_id)).hears(pubrel(packet_id)).says(pubcomp(packet_id));
        client.says(pubrel(5)).hears(pubcomp(5));
        publisher.publishes(publish("t", "live").at_least_once(2));
        client.takes(publish("t", "live").at_least_once(0));
    }
);

both!(
    mqtt_4_1_0_1_all_session_state_is_there_after_a_reconnect,
    mqtt311_4_1_0_1_session_state_is_stored_as_long_as_the_session_lasts,
    mqtt31_session_state_is_stored_for_a_client_without_clean_session,
    |version| {
        let broker = broker();
        let publisher = Client::connects(&broker, connect(version, "publisher"));
        let client = Client::connects(&broker, connect(version, "client").persistent());
        client.subscribes("t/#", 2);
        // sent and not acknowledged at all
        publisher.publishes(publish("t/1", "1").at_least_once(1));
        let first = client.receives(publish("t/1", "1").at_least_once(0));
        // sent, and acknowledged by PUBREC only
        publisher.publishes(publish("t/2", "2").exactly_once(2));
        let second = client.receives(publish("t/2", "2").exactly_once(0));
        client.says(pubrec(second)).hears(pubrel(second));
        // received, and not yet released
        client.says(publish("u", "3").exactly_once(3)).hears_ack(AckKind::PubRec, 3);
        client.vanishes();
        // waiting to be sent
        publisher.publishes(publish("t/4", "4").at_least_once(4));

        let client = Client::resumes(&broker, connect(version, "client").persistent());
        let heard = client.hears_all();
        assert_eq!(heard.len(), 3, "{heard:?}");
        assert!(heard.contains(&publish("t/1", "1").at_least_once(first).dup().into()), "{heard:?}");
        assert!(heard.contains(&pubrel(second).into()), "{heard:?}");
        let queued = heard.iter().find_map(|parsed| match parsed {
            Parsed::Publish(message) if message.payload == b"4" => message.packet_id,
            _ => None,
        });
        let queued = queued.expect("the queued message is there");
        assert!(heard.contains(&publish("t/4", "4").at_least_once(queued).into()), "{heard:?}");
        client.says(puback(first)).says(pubcomp(second)).says(puback(queued)).hears_nothing();
        client.says(pubrel(3)).hears(pubcomp(3));
        publisher.publishes(publish("t/5", "5").exactly_once(5));
        client.takes(publish("t/5", "5").exactly_once(0)).vanishes();
        Client::resumes(&broker, connect(version, "client").persistent()).hears_nothing();
    }
);

#[test]
fn mqtt_4_1_0_2_session_state_goes_when_the_expiry_interval_has_passed() {
    let broker = broker();
    let publisher = Client::connects(&broker, connect_v5("publisher"));
    let client = connect_v5("client").with(property::session_expiry_interval(4));
    let first = Client::connects(&broker, client.clone());
    first.subscribes("t", 1);
    assert_eq!((broker.sessions(), broker.subscriptions()), (2, 1));
    first.vanishes();
    publisher.publishes(publish("t", "x").at_least_once(1));
    broker.advance(seconds(2));
    assert_eq!((broker.sessions(), broker.subscriptions()), (2, 1));
    broker.advance(seconds(4));
    assert_eq!((broker.sessions(), broker.subscriptions()), (1, 0));
    let second = Client::connects(&broker, client.resuming());
    assert!(!second.session_present());
    second.hears_nothing();
    publisher.publishes(publish("t", "y").at_least_once(2));
    second.hears_nothing();
}

#[test]
fn mqtt_4_1_0_2_a_session_of_0_seconds_goes_with_its_connection() {
    let broker = broker();
    for connect in [connect_v5("client"), connect_v5("client").with(property::session_expiry_interval(0))] {
        Client::connects(&broker, connect).subscribes("t", 1).vanishes();
        assert_eq!((broker.sessions(), broker.subscriptions()), (0, 0));
        assert!(!Client::connects(&broker, connect_v5("client").resuming()).session_present());
    }
}

#[test]
fn the_expiry_interval_begins_when_the_connection_ends() {
    let broker = broker();
    let connect = connect_v5("client").with(property::session_expiry_interval(4));
    let client = Client::connects(&broker, connect.clone());
    for _ in 0..3 {
        broker.advance(seconds(4));
        client.is_alive();
    }
    client.vanishes();
    broker.advance(seconds(2));
    Client::resumes(&broker, connect.resuming()).is_alive();
}

#[test]
fn each_connect_sets_the_expiry_interval_anew() {
    let broker = broker();
    let with = |seconds| connect_v5("client").resuming().with(property::session_expiry_interval(seconds));
    Client::connects(&broker, with(100)).vanishes();
    Client::resumes(&broker, with(2)).vanishes();
    broker.advance(seconds(4));
    assert!(!Client::connects(&broker, with(100)).session_present());
    Client::resumes(&broker, connect_v5("client").resuming()).vanishes();
    assert!(!Client::connects(&broker, with(100)).session_present());
}

#[test]
fn a_session_of_3_1_1_without_clean_session_outlives_days() {
    let broker = broker();
    Client::connects(&broker, connect(Version::V311, "client").persistent()).subscribes("t", 1).vanishes();
    broker.advance(seconds(3 * 24 * 3600));
    let client = Client::resumes(&broker, connect(Version::V311, "client").persistent());
    client.says(publish("t", "x")).receives(publish("t", "x"));
}

#[test]
fn a_session_of_3_1_1_with_clean_session_ends_with_its_connection() {
    let broker = broker();
    let client = Client::connects(&broker, connect(Version::V311, "client"));
    client.subscribes("t", 1);
    assert_eq!((broker.sessions(), broker.subscriptions()), (1, 1));
    client.vanishes();
    assert_eq!((broker.sessions(), broker.subscriptions()), (0, 0));
}

#[test]
fn the_options_of_a_subscription_belong_to_the_session() {
    let broker = broker();
    let client = Client::connects(&broker, connect_v5("client").persistent());
    client.subscribes("t/local", 1 | NO_LOCAL).subscribes("t/retain", 1 | RETAIN_AS_PUBLISHED).vanishes();
    let client = Client::resumes(&broker, connect_v5("client").persistent());
    client.says(publish("t/local", "x")).hears_nothing();
    client.says(publish("t/retain", "x").retain()).receives(publish("t/retain", "x").retain());
}

both!(
    mqtt_4_2_0_1_the_transport_is_an_ordered_lossless_byte_stream,
    mqtt311_7_1_1_1_the_transport_is_an_ordered_lossless_byte_stream,
    |version| {
        let broker = broker();
        let client = Client::opens(&broker, version);
        let mut said = connect(version, "client").bytes(version);
        said.extend(subscribe(1).to("t", 1).bytes(version));
        said.extend((1..=20).flat_map(|number| publish("t", [number as u8; 300]).at_least_once(number).bytes(version)));
        said.extend(PINGREQ);
        for piece in said.chunks(7) {
            client.says(piece);
        }
        let mut heard = client.hears_all();
        assert!(matches!(heard.remove(0), Parsed::ConnAck(_)));
        let payloads: Vec<Vec<u8>> = heard
            .iter()
            .filter_map(|parsed| match parsed {
                Parsed::Publish(message) => Some(message.payload.clone()),
                _ => None,
            })
            .collect();
        assert_eq!(payloads, (1..=20).map(|number| vec![number; 300]).collect::<Vec<_>>());
        let acks = heard.iter().filter(|parsed| matches!(parsed, Parsed::Ack(ack) if ack.kind == AckKind::PubAck));
        assert_eq!(acks.count(), 20);
        assert_eq!(heard.len(), 42);
        client.is_open();
    }
);

both!(any_split_of_the_bytes_says_the_same, any_split_of_the_bytes_says_the_same_in_3_1_1, |version| {
    let broker = broker();
    let observer = Client::connects(&broker, connect(version, "observer"));
    observer.subscribes("t", 0);
    let connect = connect(version, "client").bytes(version);
    let publish_bytes = publish("t", vec![b'x'; 200]).bytes(version);
    for place in 1..connect.len() {
        let client = Client::opens(&broker, version);
        client.says(&connect[..place]).hears_nothing().is_open();
        client.says(&connect[place..]).says(&publish_bytes[..place]);
        observer.hears_nothing();
        client.says(&publish_bytes[place..]);
        observer.receives(publish("t", vec![b'x'; 200]));
        client.vanishes();
    }
});
