//! Sections 4.3 to 4.6 and 4.9: Quality of Service, retry, receipt, order, flow control.

use std::sync::Arc;

use crate::house::broker;
use crate::support::wire::{
    AckKind, PINGREQ, Parsed, Publish, Version, connect, connect_v5, property, puback, pubcomp, publish, pubrec,
    pubrel, reason::*,
};
use crate::support::{TestBroker, TestJournal};
use crate::talk::{Client, both, seconds};

/// One who publishes, and one with a lasting Session who is subscribed to `t/#` with QoS 2.
fn pair(broker: &TestBroker, version: Version) -> (Client, Client) {
    let publisher = Client::connects(broker, connect(version, "publisher"));
    let subscriber = Client::connects(broker, connect(version, "subscriber").persistent());
    subscriber.subscribes("t/#", 2);
    (publisher, subscriber)
}

fn subscriber_again(broker: &TestBroker, version: Version) -> Client {
    Client::resumes(broker, connect(version, "subscriber").persistent())
}

// -------------------------------------------------------------------------------------------------------------- QoS 0

both!(
    mqtt_4_3_1_1_a_qos_0_message_is_sent_with_qos_0_and_dup_0,
    mqtt311_4_3_1_1_a_qos_0_message_is_sent_with_qos_0_and_dup_0,
    mqtt31_a_qos_0_message_is_sent_with_qos_0_and_dup_0,
    |version| {
        let broker = broker();
        let (publisher, subscriber) = pair(&broker, version);
        publisher.says(publish("t/x", "x"));
        let expected: &[u8] = if version.is_v5() { b"\x30\x07\0\x03t/x\0x" } else { b"\x30\x06\0\x03t/xx" };
        assert_eq!(subscriber.hears_bytes(), expected);
        publisher.hears_nothing();
        subscriber.vanishes();
        subscriber_again(&broker, version).hears_nothing();
    }
);

// -------------------------------------------------------------------------------------------------------------- QoS 1

both!(
    mqtt_4_3_2_1_each_new_qos_1_message_has_a_free_packet_identifier,
    mqtt311_4_3_2_1_each_new_qos_1_message_has_a_free_packet_identifier_and_dup_0,
    |version| {
        let broker = broker();
        let (publisher, subscriber) = pair(&broker, version);
        let mut open = Vec::new();
        for number in 0..15 {
            publisher.publishes(publish("t/x", number.to_string()).at_least_once(9));
            let packet_id = subscriber.receives(publish("t/x", number.to_string()).at_least_once(0));
            assert!(packet_id != 0 && !open.contains(&packet_id), "{packet_id} among {open:?}");
            open.push(packet_id);
        }
    }
);

#[test]
fn mqtt_4_3_2_2_a_qos_1_message_is_first_sent_with_dup_0() {
    let broker = broker();
    let (publisher, subscriber) = pair(&broker, Version::V5);
    publisher.publishes(publish("t/x", "x").at_least_once(1));
    let bytes = subscriber.hears_bytes();
    let packet_id = [bytes[7], bytes[8]];
    assert_ne!(packet_id, [0, 0]);
    assert_eq!(bytes, [b"\x32\x09\0\x03t/x", &packet_id[..], b"\0x"].concat());
}

both!(
    mqtt_4_3_2_3_a_qos_1_message_is_open_until_its_puback_came,
    mqtt311_4_3_2_1_a_qos_1_message_is_open_until_its_puback_came,
    |version| {
        let broker = broker();
        let (publisher, subscriber) = pair(&broker, version);
        publisher.publishes(publish("t/x", "x").at_least_once(1));
        let packet_id = subscriber.receives(publish("t/x", "x").at_least_once(0));
        let mut subscriber = subscriber;
        for _ in 0..3 {
            subscriber.vanishes();
            subscriber = subscriber_again(&broker, version);
            subscriber.hears(publish("t/x", "x").at_least_once(packet_id).dup());
        }
        // Neither another identifier nor another packet settles it.
        subscriber.says(puback(packet_id ^ 0x4000)).vanishes();
        let subscriber = subscriber_again(&broker, version);
        subscriber.hears(publish("t/x", "x").at_least_once(packet_id).dup());
        subscriber.says(puback(packet_id)).vanishes();
        subscriber_again(&broker, version).hears_nothing();
    }
);

both!(
    mqtt_4_3_2_4_a_puback_comes_once_the_message_belongs_to_the_broker,
    mqtt311_4_3_2_2_a_puback_comes_once_the_message_belongs_to_the_broker,
    |version| {
        let broker = broker();
        let (publisher, subscriber) = pair(&broker, version);
        subscriber.vanishes();
        publisher.says(publish("t/x", "x").at_least_once(7)).hears(puback(7)).vanishes();
        subscriber_again(&broker, version).takes(publish("t/x", "x").at_least_once(0));
    }
);

both!(
    mqtt_4_3_2_5_after_its_puback_the_same_packet_identifier_is_a_new_message,
    mqtt311_4_3_2_2_after_its_puback_the_same_packet_identifier_is_a_new_message,
    |version| {
        let broker = broker();
        let (publisher, subscriber) = pair(&broker, version);
        for payload in ["1", "2"] {
            publisher.says(publish("t/x", payload).at_least_once(7)).hears(puback(7));
            subscriber.takes(publish("t/x", payload).at_least_once(0));
            publisher.says(publish("t/x", payload).at_least_once(7).dup()).hears(puback(7));
            subscriber.takes(publish("t/x", payload).at_least_once(0));
        }
    }
);

// -------------------------------------------------------------------------------------------------------------- QoS 2

both!(
    mqtt_4_3_3_1_each_new_qos_2_message_has_a_free_packet_identifier,
    mqtt311_4_3_3_1_each_new_qos_2_message_has_a_free_packet_identifier_and_dup_0,
    |version| {
        let broker = broker();
        let (publisher, subscriber) = pair(&broker, version);
        let mut open = Vec::new();
        for number in 0..15 {
            publisher.publishes(publish("t/x", number.to_string()).exactly_once(9));
            let packet_id = subscriber.receives(publish("t/x", number.to_string()).exactly_once(0));
            assert!(packet_id != 0 && !open.contains(&packet_id), "{packet_id} among {open:?}");
            // An identifier stays in use while its PUBCOMP is missing.
            if number % 2 == 0 {
                subscriber.says(pubrec(packet_id)).hears(pubrel(packet_id));
            }
            open.push(packet_id);
        }
    }
);

#[test]
fn mqtt_4_3_3_2_a_qos_2_message_is_first_sent_with_dup_0() {
    let broker = broker();
    let (publisher, subscriber) = pair(&broker, Version::V5);
    publisher.publishes(publish("t/x", "x").exactly_once(1));
    let bytes = subscriber.hears_bytes();
    let packet_id = [bytes[7], bytes[8]];
    assert_ne!(packet_id, [0, 0]);
    assert_eq!(bytes, [b"\x34\x09\0\x03t/x", &packet_id[..], b"\0x"].concat());
}

both!(
    mqtt_4_3_3_3_a_qos_2_publish_is_open_until_pubrec_came,
    mqtt311_4_3_3_1_a_qos_2_publish_is_open_until_pubrec_came,
    |version| {
        let broker = broker();
        let (publisher, subscriber) = pair(&broker, version);
        publisher.publishes(publish("t/x", "x").exactly_once(1));
        let packet_id = subscriber.receives(publish("t/x", "x").exactly_once(0));
        let mut subscriber = subscriber;
        for _ in 0..3 {
            subscriber.vanishes();
            subscriber = subscriber_again(&broker, version);
            subscriber.hears(publish("t/x", "x").exactly_once(packet_id).dup());
        }
        subscriber.acknowledges(2, packet_id).vanishes();
        subscriber_again(&broker, version).hears_nothing();
    }
);

both!(
    mqtt_4_3_3_4_a_pubrec_is_answered_by_a_pubrel_with_the_same_packet_identifier,
    mqtt311_4_3_3_1_a_pubrec_is_answered_by_a_pubrel_with_the_same_packet_identifier,
    |version| {
        let broker = broker();
        let (publisher, subscriber) = pair(&broker, version);
        publisher.publishes(publish("t/x", "x").exactly_once(1));
        let packet_id = subscriber.receives(publish("t/x", "x").exactly_once(0));
        subscriber.says(pubrec(packet_id));
        let [high, low] = packet_id.to_be_bytes();
        assert_eq!(subscriber.hears_bytes(), [0x62, 2, high, low]);
    }
);

#[test]
fn mqtt_4_3_3_4_a_pubrec_with_no_matching_subscribers_is_a_success_too() {
    let broker = broker();
    let (publisher, subscriber) = pair(&broker, Version::V5);
    publisher.publishes(publish("t/x", "x").exactly_once(1));
    let packet_id = subscriber.receives(publish("t/x", "x").exactly_once(0));
    subscriber.says(pubrec(packet_id).reason(NO_MATCHING_SUBSCRIBERS)).hears(pubrel(packet_id));
}

both!(
    mqtt_4_3_3_5_a_pubrel_is_open_until_pubcomp_came,
    mqtt311_4_3_3_1_a_pubrel_is_open_until_pubcomp_came,
    |version| {
        let broker = broker();
        let (publisher, subscriber) = pair(&broker, version);
        publisher.publishes(publish("t/x", "x").exactly_once(1));
        let packet_id = subscriber.receives(publish("t/x", "x").exactly_once(0));
        subscriber.says(pubrec(packet_id)).hears(pubrel(packet_id)).vanishes();
        for _ in 0..3 {
            subscriber_again(&broker, version).hears(pubrel(packet_id)).vanishes();
        }
        subscriber_again(&broker, version).hears(pubrel(packet_id)).says(pubcomp(packet_id)).vanishes();
        subscriber_again(&broker, version).hears_nothing();
    }
);

both!(
    mqtt_4_3_3_6_a_publish_is_not_sent_again_once_its_pubrel_was_sent,
    mqtt311_4_3_3_1_a_publish_is_not_sent_again_once_its_pubrel_was_sent,
    |version| {
        let broker = broker();
        let (publisher, subscriber) = pair(&broker, version);
        publisher.publishes(publish("t/x", "x").exactly_once(1));
        let packet_id = subscriber.receives(publish("t/x", "x").exactly_once(0));
        subscriber.says(pubrec(packet_id)).hears(pubrel(packet_id));
        subscriber.says(pubrec(packet_id)).hears(pubrel(packet_id)).vanishes();
        subscriber_again(&broker, version).hears(pubrel(packet_id));
    }
);

#[test]
fn mqtt_4_3_3_7_a_message_does_not_expire_once_its_publish_was_sent() {
    let broker = broker();
    let (publisher, subscriber) = pair(&broker, Version::V5);
    let message = publish("t/x", "x").exactly_once(1).with(property::message_expiry_interval(2));
    publisher.publishes(message.clone());
    let packet_id = subscriber.receives(message);
    subscriber.vanishes();
    broker.advance(seconds(6));
    let subscriber = subscriber_again(&broker, Version::V5);
    let heard = subscriber.hears_publishes();
    let [again] = &heard[..] else { panic!("one PUBLISH expected, not {heard:?}") };
    assert_eq!((again.packet_id, again.dup, &again.payload[..]), (Some(packet_id), true, &b"x"[..]));
    subscriber.acknowledges(2, packet_id).hears_nothing();
}

both!(
    mqtt_4_3_3_8_a_pubrec_comes_once_the_message_belongs_to_the_broker,
    mqtt311_4_3_3_2_a_pubrec_comes_once_the_message_belongs_to_the_broker,
    |version| {
        let broker = broker();
        let (publisher, subscriber) = pair(&broker, version);
        subscriber.vanishes();
        publisher.says(publish("t/x", "x").exactly_once(7)).hears(pubrec(7)).says(pubrel(7)).hears(pubcomp(7));
        publisher.vanishes();
        subscriber_again(&broker, version).takes(publish("t/x", "x").exactly_once(0));
    }
);

#[test]
fn mqtt_4_3_3_9_after_a_pubrec_that_refuses_the_same_packet_identifier_is_a_new_message() {
    let broker = broker();
    let (publisher, subscriber) = pair(&broker, Version::V5);
    publisher.says(publish("$SYS/forged", "x").exactly_once(7));
    assert_eq!(publisher.hears_ack(AckKind::PubRec, 7).reason, NOT_AUTHORIZED);
    publisher.says(publish("t/x", "new").exactly_once(7)).hears(pubrec(7));
    publisher.says(pubrel(7)).hears(pubcomp(7));
    subscriber.takes(publish("t/x", "new").exactly_once(0)).hears_nothing();
}

#[test]
fn a_pubrel_for_a_refused_publish_finds_no_packet_identifier() {
    let broker = broker();
    let client = Client::connects(&broker, connect_v5("client"));
    client.says(publish("$SYS/forged", "x").exactly_once(7));
    assert_eq!(client.hears_ack(AckKind::PubRec, 7).reason, NOT_AUTHORIZED);
    client.says(pubrel(7)).hears_ack(AckKind::PubComp, 7);
    assert_eq!(client.says(pubrel(7)).hears_ack(AckKind::PubComp, 7).reason, PACKET_IDENTIFIER_NOT_FOUND);
}

both!(
    mqtt_4_3_3_10_a_repeated_qos_2_publish_is_routed_once,
    mqtt311_4_3_3_2_a_repeated_qos_2_publish_is_routed_once,
    mqtt31_a_repeated_qos_2_publish_is_routed_once,
    |version| {
        let broker = broker();
        let (publisher, subscriber) = pair(&broker, version);
        publisher.says(publish("t/x", "x").exactly_once(7)).hears(pubrec(7));
        publisher.says(publish("t/x", "x").exactly_once(7).dup()).hears(pubrec(7));
        publisher.says(publish("t/x", "x").exactly_once(7)).hears(pubrec(7));
        publisher.says(pubrel(7)).hears(pubcomp(7));
        subscriber.takes(publish("t/x", "x").exactly_once(0)).hears_nothing();
    }
);

both!(
    mqtt_4_3_3_10_a_qos_2_publish_repeated_on_a_new_connection_is_routed_once,
    mqtt311_4_3_3_2_a_qos_2_publish_repeated_on_a_new_connection_is_routed_once,
    |version| {
        let broker = broker();
        let (_, subscriber) = pair(&broker, version);
        let lasting = || connect(version, "lasting").persistent();
        let publisher = Client::connects(&broker, lasting());
        publisher.says(publish("t/x", "x").exactly_once(7)).hears(pubrec(7)).vanishes();
        let publisher = Client::resumes(&broker, lasting());
        publisher.says(publish("t/x", "x").exactly_once(7).dup()).hears(pubrec(7)).vanishes();
        let publisher = Client::resumes(&broker, lasting());
        publisher.says(pubrel(7)).hears(pubcomp(7));
        subscriber.takes(publish("t/x", "x").exactly_once(0)).hears_nothing();
    }
);

both!(
    mqtt_4_3_3_11_a_pubrel_is_answered_by_a_pubcomp_with_the_same_packet_identifier,
    mqtt311_4_3_3_2_a_pubrel_is_answered_by_a_pubcomp_with_the_same_packet_identifier,
    |version| {
        let broker = broker();
        let (publisher, _subscriber) = pair(&broker, version);
        for packet_id in [1, 0x1234, 0xffff] {
            publisher.says(publish("t/x", "x").exactly_once(packet_id)).hears(pubrec(packet_id));
        }
        for packet_id in [0x1234, 0xffff, 1] {
            publisher.says(pubrel(packet_id));
            let [high, low] = packet_id.to_be_bytes();
            assert_eq!(publisher.hears_bytes(), [0x70, 2, high, low]);
        }
    }
);

both!(
    mqtt_4_3_3_12_after_its_pubcomp_the_same_packet_identifier_is_a_new_message,
    mqtt311_4_3_3_2_after_its_pubcomp_the_same_packet_identifier_is_a_new_message,
    |version| {
        let broker = broker();
        let (publisher, subscriber) = pair(&broker, version);
        for _ in 0..3 {
            publisher.says(publish("t/x", "x").exactly_once(7)).hears(pubrec(7)).says(pubrel(7)).hears(pubcomp(7));
            subscriber.takes(publish("t/x", "x").exactly_once(0)).hears_nothing();
        }
        // Whatever DUP says.
        publisher.says(publish("t/x", "x").exactly_once(7).dup()).hears(pubrec(7)).says(pubrel(7)).hears(pubcomp(7));
        subscriber.takes(publish("t/x", "x").exactly_once(0)).hears_nothing();
    }
);

#[test]
fn mqtt_4_3_3_13_the_handshake_is_finished_even_if_the_message_has_expired() {
    let broker = broker();
    let (publisher, subscriber) = pair(&broker, Version::V5);
    let message = publish("t/x", "x").exactly_once(7).with(property::message_expiry_interval(2));
    publisher.says(message.clone()).hears(pubrec(7));
    let packet_id = subscriber.receives(message.clone());
    broker.advance(seconds(4));
    publisher.says(message.dup()).hears(pubrec(7)).says(pubrel(7)).hears(pubcomp(7));
    subscriber.says(pubrec(packet_id)).hears(pubrel(packet_id));
    broker.advance(seconds(4));
    subscriber.vanishes();
    let subscriber = subscriber_again(&broker, Version::V5);
    subscriber.hears(pubrel(packet_id)).says(pubcomp(packet_id)).hears_nothing();
}

both!(
    both_directions_may_use_the_same_packet_identifiers,
    both_directions_may_use_the_same_packet_identifiers_in_3_1_1,
    |version| {
        let broker = broker();
        let (publisher, subscriber) = pair(&broker, version);
        publisher.publishes(publish("t/x", "to").exactly_once(1));
        let packet_id = subscriber.receives(publish("t/x", "to").exactly_once(0));
        subscriber.says(publish("u", "from").exactly_once(packet_id));
        subscriber.hears_ack(AckKind::PubRec, packet_id);
        subscriber.says(pubrec(packet_id)).hears(pubrel(packet_id));
        subscriber.says(pubrel(packet_id)).hears(pubcomp(packet_id));
        subscriber.says(pubcomp(packet_id)).hears_nothing();
        subscriber.says(publish("u", "from").at_least_once(packet_id)).hears_ack(AckKind::PubAck, packet_id);
        subscriber.is_alive();
    }
);

both!(
    the_wrong_acknowledgement_does_not_settle_a_message,
    the_wrong_acknowledgement_does_not_settle_a_message_in_3_1_1,
    |version| {
        let broker = broker();
        let (publisher, mut subscriber) = pair(&broker, version);
        publisher.publishes(publish("t/x", "2").exactly_once(1));
        let packet_id = subscriber.receives(publish("t/x", "2").exactly_once(0));
        for wrong in [puback(packet_id), pubcomp(packet_id)] {
            subscriber.says(wrong);
            let heard = subscriber.hears_all();
            assert!(matches!(&heard[..], [] | [Parsed::Disconnect(_)]), "{heard:?}");
            subscriber.vanishes();
            subscriber = subscriber_again(&broker, version);
            subscriber.hears(publish("t/x", "2").exactly_once(packet_id).dup());
        }
    }
);

// ------------------------------------------------------------------------------------- what the journal has not yet got

fn broker_with_a_journal(receive_maximum: u16) -> (TestBroker, Arc<TestJournal>) {
    let journal = TestJournal::new();
    let change = |settings: &mut crate::support::Settings| settings.session.receive_maximum = receive_maximum;
    (TestBroker::with_journal(change, Some(Arc::clone(&journal)), false), journal)
}

fn let_go(broker: &TestBroker, journal: &TestJournal) {
    journal.is_let_go();
    (0..broker.shards()).for_each(|shard| broker.tick(shard));
    broker.settle();
}

/// One who publishes and one who is away, with their Sessions in one shard or in two.
fn away(broker: &TestBroker, version: Version, in_one_shard: bool) -> Client {
    Client::connects(broker, connect(version, "away").persistent()).subscribes("t/#", 2).vanishes();
    if in_one_shard {
        // Shards get new connections in turn.
        Client::connects(broker, connect(version, "between"));
    }
    Client::connects(broker, connect(version, "publisher"))
}

fn an_acknowledgement_waits_for_the_journal(version: Version, in_one_shard: bool) {
    let (broker, journal) = broker_with_a_journal(10);
    let publisher = away(&broker, version, in_one_shard);
    journal.sticks();
    publisher.says(publish("t/x", "1").at_least_once(1)).hears_nothing();
    publisher.says(publish("t/x", "2").exactly_once(2)).hears_nothing();
    // Sent again it is answered once, and passed on once.
    publisher.says(publish("t/x", "2").exactly_once(2).dup()).hears_nothing();
    let_go(&broker, &journal);
    publisher.hears([puback(1), pubrec(2)]).says(pubrel(2)).hears(pubcomp(2));
    let back = Client::resumes(&broker, connect(version, "away").persistent());
    back.receives_in_any_order([publish("t/x", "1").at_least_once(0), publish("t/x", "2").exactly_once(0)]);
}

both!(
    mqtt_4_3_2_4_an_acknowledgement_waits_until_the_journal_has_the_message,
    mqtt311_4_3_2_2_an_acknowledgement_waits_until_the_journal_has_the_message,
    |version| { an_acknowledgement_waits_for_the_journal(version, true) }
);

both!(
    mqtt_4_3_3_8_an_acknowledgement_waits_until_the_journals_of_other_shards_have_the_message,
    mqtt311_4_3_3_2_an_acknowledgement_waits_until_the_journals_of_other_shards_have_the_message,
    |version| { an_acknowledgement_waits_for_the_journal(version, false) }
);

#[test]
fn mqtt_3_3_4_7_what_waits_for_the_journal_counts_towards_the_servers_receive_maximum() {
    let (broker, journal) = broker_with_a_journal(3);
    let publisher = away(&broker, Version::V5, true);
    journal.sticks();
    publisher.says(publish("t/x", "1").at_least_once(1)).says(publish("t/x", "2").exactly_once(2));
    publisher.says(publish("t/x", "3").at_least_once(3)).hears_nothing();
    let_go(&broker, &journal);
    publisher.hears([puback(1).into(), pubrec(2).into(), Parsed::from(puback(3))]);
    journal.sticks();
    publisher.says(publish("t/x", "4").at_least_once(4)).says(publish("t/x", "5").at_least_once(5)).hears_nothing();
    publisher.says(publish("t/x", "6").at_least_once(6)).is_thrown_out(&[RECEIVE_MAXIMUM_EXCEEDED]);
}

both!(
    a_late_acknowledgement_does_not_reach_the_next_connection,
    a_late_acknowledgement_does_not_reach_the_next_connection_in_3_1_1,
    |version| {
        let (broker, journal) = broker_with_a_journal(10);
        away(&broker, version, true).vanishes();
        let lasting = || connect(version, "lasting").persistent();
        let publisher = Client::connects(&broker, lasting());
        journal.sticks();
        publisher.says(publish("t/x", "1").at_least_once(1)).says(publish("t/x", "2").exactly_once(2)).vanishes();
        let publisher = Client::tries(&broker, version, lasting());
        publisher.hears_nothing(); // that the Session is there is not safe either
        let_go(&broker, &journal);
        // Nobody asked for these on this connection; what is asked again is answered.
        let mut heard = publisher.hears_all();
        assert!(matches!(heard.remove(0), Parsed::ConnAck(connack) if connack.session_present));
        assert!(heard.iter().all(|parsed| *parsed == Parsed::from(pubrec(2))), "{heard:?}");
        publisher.says(publish("t/x", "2").exactly_once(2).dup()).hears(pubrec(2)).says(pubrel(2)).hears(pubcomp(2));
        let back = Client::resumes(&broker, connect(version, "away").persistent());
        back.receives_in_any_order([publish("t/x", "1").at_least_once(0), publish("t/x", "2").exactly_once(0)]);
    }
);

// -------------------------------------------------------------------------------------------------------------- retry

both!(
    mqtt_4_4_0_1_open_packets_are_resent_with_their_identifiers_on_resuming_a_session,
    mqtt311_4_4_0_1_open_packets_are_resent_with_their_identifiers_on_resuming_a_session,
    |version| {
        let broker = broker();
        let (publisher, subscriber) = pair(&broker, version);
        let ids: Vec<u16> = [(1, "1"), (2, "2"), (1, "3"), (2, "4")]
            .map(|(qos, payload)| {
                publisher.publishes(publish("t/x", payload).qos(qos, 9));
                subscriber.receives(publish("t/x", payload).qos(qos, 0))
            })
            .to_vec();
        subscriber.says(pubrec(ids[1])).hears(pubrel(ids[1])).vanishes();
        let expected = || {
            vec![
                publish("t/x", "1").at_least_once(ids[0]).dup().into(),
                pubrel(ids[1]).into(),
                publish("t/x", "3").at_least_once(ids[2]).dup().into(),
                publish("t/x", "4").exactly_once(ids[3]).dup().into(),
            ]
        };
        for _ in 0..3 {
            subscriber_again(&broker, version).hears_in_any_order(expected()).vanishes();
        }
    }
);

both!(
    mqtt_4_4_0_1_nothing_is_resent_at_any_other_time,
    mqtt311_4_4_0_1_nothing_needs_to_be_resent_while_the_connection_lasts,
    |version| {
        let broker = broker();
        let (publisher, subscriber) = pair(&broker, version);
        publisher.publishes(publish("t/x", "1").at_least_once(1));
        publisher.publishes(publish("t/x", "2").exactly_once(2));
        assert_eq!(subscriber.hears_publishes().len(), 2);
        for _ in 0..5 {
            broker.advance(seconds(6));
            subscriber.is_alive();
        }
        subscriber.subscribes("t/#", 2).hears_nothing();
    }
);

#[test]
fn mqtt_4_4_0_2_a_puback_that_refuses_settles_the_message() {
    let broker = broker();
    let (publisher, subscriber) = pair(&broker, Version::V5);
    publisher.publishes(publish("t/x", "1").at_least_once(1));
    let packet_id = subscriber.receives(publish("t/x", "1").at_least_once(0));
    subscriber.says(puback(packet_id).reason(UNSPECIFIED_ERROR)).hears_nothing().vanishes();
    subscriber_again(&broker, Version::V5).hears_nothing();
}

#[test]
fn mqtt_4_4_0_2_a_pubrec_that_refuses_settles_the_message() {
    let broker = broker();
    let (publisher, subscriber) = pair(&broker, Version::V5);
    for reason in [0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99] {
        publisher.publishes(publish("t/x", "1").exactly_once(1));
        let packet_id = subscriber.receives(publish("t/x", "1").exactly_once(0));
        subscriber.says(pubrec(packet_id).reason(reason)).hears_nothing();
    }
    subscriber.vanishes();
    subscriber_again(&broker, Version::V5).hears_nothing();
}

// ---------------------------------------------------------------------------------------------------- receipt, order

both!(
    mqtt_4_5_0_1_an_accepted_message_joins_every_session_with_a_matching_subscription,
    mqtt311_4_5_0_1_an_accepted_message_joins_every_session_with_a_matching_subscription,
    |version| {
        let broker = broker();
        let publisher = Client::connects(&broker, connect(version, "publisher"));
        let filters = ["t/x", "t/+", "t/#", "#", "+/x", "+/+", "u"];
        let clients: Vec<Client> = filters
            .iter()
            .enumerate()
            .map(|(number, filter)| {
                let client = Client::connects(&broker, connect(version, &format!("client{number}")).persistent());
                client.subscribes(filter, 1);
                if number % 2 == 1 {
                    client.vanishes();
                }
                client
            })
            .collect();
        publisher.says(publish("t/x", "x").at_least_once(1)).hears(puback(1)).vanishes();
        for (number, (filter, client)) in filters.iter().zip(clients).enumerate() {
            let client = if number % 2 == 1 {
                Client::resumes(&broker, connect(version, &format!("client{number}")).persistent())
            } else {
                client
            };
            if *filter == "u" {
                client.hears_nothing();
            } else {
                client.takes(publish("t/x", "x").at_least_once(0)).hears_nothing();
            }
        }
    }
);

both!(
    a_message_reaches_each_of_very_many_subscribers_once_and_in_order,
    a_message_reaches_each_of_very_many_subscribers_once_and_in_order_in_3_1_1,
    |version| {
        let broker = broker();
        let publisher = Client::connects(&broker, connect(version, "publisher"));
        let clients: Vec<Client> = (0..700)
            .map(|number| {
                let client = Client::connects(&broker, connect(version, &format!("client{number}")));
                client.subscribes("t/x", 1);
                if number % 3 == 0 {
                    // Overlapping: still one copy, with the highest QoS.
                    client.subscribes("t/#", 2);
                }
                client
            })
            .collect();
        for number in 0..4 {
            publisher.publishes(publish("t/x", number.to_string()).exactly_once(1));
        }
        for (number, client) in clients.iter().enumerate() {
            let qos = if number % 3 == 0 { 2 } else { 1 };
            let heard = client.hears_publishes();
            assert_eq!(payloads(&heard, "t/x"), ["0", "1", "2", "3"]);
            assert!(heard.iter().all(|message| message.qos == qos && !message.dup && !message.retain), "{heard:?}");
        }
    }
);

fn payloads(publishes: &[Publish], topic: &str) -> Vec<String> {
    let of_topic = publishes.iter().filter(|publish| publish.topic == topic.as_bytes());
    of_topic.map(|publish| String::from_utf8_lossy(&publish.payload).into_owned()).collect()
}

both!(
    mqtt_4_6_0_5_per_topic_qos_and_publisher_messages_are_forwarded_in_the_order_received,
    mqtt311_4_6_0_6_per_topic_qos_and_publisher_messages_go_out_in_the_order_received,
    |version| {
        let broker = broker();
        let (_, subscriber) = pair(&broker, version);
        let publishers = ["one", "two"].map(|name| (name, Client::connects(&broker, connect(version, name))));
        for number in 0..30 {
            for qos in [0, 1, 2] {
                for (name, publisher) in &publishers {
                    publisher.publishes(publish(format!("t/{name}/{qos}"), number.to_string()).qos(qos, 1));
                }
            }
        }
        let mut heard = Vec::new();
        loop {
            let packets = subscriber.hears_all();
            if packets.is_empty() {
                break;
            }
            for parsed in packets {
                match parsed {
                    Parsed::Publish(message) => {
                        let packet_id = message.packet_id.unwrap_or_default();
                        match message.qos {
                            0 => &subscriber,
                            1 => subscriber.says(puback(packet_id)),
                            _ => subscriber.says(pubrec(packet_id)),
                        };
                        heard.push(message);
                    }
                    Parsed::Ack(ack) if ack.kind == AckKind::PubRel => {
                        subscriber.says(pubcomp(ack.packet_id));
                    }
                    other => panic!("{other:?} does not belong here"),
                }
            }
        }
        let in_order: Vec<String> = (0..30).map(|number| number.to_string()).collect();
        for (name, _) in &publishers {
            for qos in [0, 1, 2] {
                assert_eq!(payloads(&heard, &format!("t/{name}/{qos}")), in_order, "{name} {qos}");
            }
        }
    }
);

both!(
    mqtt_4_6_0_6_each_topic_is_ordered_through_a_queue_and_a_reconnect,
    mqtt311_4_6_0_5_each_topic_is_ordered_through_a_queue_and_a_reconnect,
    |version| {
        let broker = broker();
        let (publisher, subscriber) = pair(&broker, version);
        for number in 0..5 {
            publisher.publishes(publish("t/x", number.to_string()).at_least_once(1));
        }
        assert_eq!(subscriber.hears_publishes().len(), 5);
        subscriber.vanishes();
        for number in 5..10 {
            publisher.publishes(publish("t/x", number.to_string()).at_least_once(1));
        }
        let subscriber = subscriber_again(&broker, version);
        publisher.publishes(publish("t/x", "10").at_least_once(1));
        let heard = subscriber.hears_publishes();
        let in_order: Vec<String> = (0..=10).map(|number| number.to_string()).collect();
        assert_eq!(payloads(&heard, "t/x"), in_order);
        assert!(heard.iter().enumerate().all(|(number, message)| message.dup == (number < 5)), "{heard:?}");
    }
);

both!(
    mqtt_4_6_0_6_all_that_is_resent_comes_before_anything_new_however_much_it_is,
    mqtt311_4_6_0_1_all_that_is_resent_comes_before_anything_new_however_much_it_is,
    |version| {
        let broker = broker();
        let (publisher, subscriber) = pair(&broker, version);
        let numbered = |number: u8| publish("t/x", vec![number; 5000]).at_least_once(1);
        for number in 0..60 {
            publisher.publishes(numbered(number));
        }
        assert_eq!(subscriber.hears_publishes().len(), 60);
        subscriber.vanishes();
        for number in 60..80 {
            publisher.publishes(numbered(number));
        }
        let heard = subscriber_again(&broker, version).hears_publishes();
        let numbers: Vec<u8> = heard.iter().map(|message| message.payload[0]).collect();
        assert_eq!(numbers, (0..80).collect::<Vec<u8>>());
        assert!(heard.iter().enumerate().all(|(number, message)| message.dup == (number < 60)));
    }
);

#[test]
fn mqtt_4_6_0_6_each_topic_is_ordered_through_a_narrow_window() {
    let broker = broker();
    let publisher = Client::connects(&broker, connect_v5("publisher"));
    let client = Client::connects(&broker, connect_v5("client").with(property::receive_maximum(3)));
    client.subscribes("t", 1);
    for number in 0..20 {
        publisher.publishes(publish("t", number.to_string()).at_least_once(1));
    }
    let mut heard = Vec::new();
    loop {
        let some = client.hears_publishes();
        let Some(last) = some.last() else { break };
        assert!(some.len() <= 3);
        for message in &some {
            client.says(puback(message.packet_id.unwrap_or_default()));
        }
        assert!(last.qos == 1);
        heard.extend(some);
    }
    assert_eq!(payloads(&heard, "t"), (0..20).map(|number| number.to_string()).collect::<Vec<_>>());
}

both!(
    open_publish_packets_are_resent_in_their_first_order,
    mqtt311_4_6_0_1_publish_packets_are_resent_in_their_first_order,
    |version| {
        let broker = broker();
        let (publisher, subscriber) = pair(&broker, version);
        for number in 0..9 {
            publisher.publishes(publish("t/x", number.to_string()).qos(1 + number as u8 % 2, 1));
        }
        let first: Vec<Publish> = subscriber.hears_publishes();
        subscriber.vanishes();
        let again: Vec<Publish> = subscriber_again(&broker, version).hears_publishes();
        let ids = |heard: &[Publish]| heard.iter().map(|message| message.packet_id).collect::<Vec<_>>();
        assert_eq!(ids(&first).len(), 9);
        assert_eq!(ids(&first), ids(&again));
        assert!(again.iter().all(|message| message.dup));
    }
);

// ------------------------------------------------------------------------------------------------------- flow control

#[test]
fn mqtt_4_9_0_1_the_send_quota_starts_at_the_receive_maximum_on_each_connection() {
    let broker = broker();
    let publisher = Client::connects(&broker, connect_v5("publisher"));
    let narrow = || connect_v5("client").persistent().with(property::receive_maximum(2));
    let client = Client::connects(&broker, narrow());
    client.subscribes("t", 1);
    for number in 0..6 {
        publisher.publishes(publish("t", number.to_string()).at_least_once(1));
    }
    for _ in 0..3 {
        let client = Client::resumes(&broker, narrow());
        let heard = client.hears_publishes();
        assert_eq!(payloads(&heard, "t"), ["0", "1"]);
        client.vanishes();
    }
    let wider = connect_v5("client").persistent().with(property::receive_maximum(5));
    assert_eq!(payloads(&Client::resumes(&broker, wider).hears_publishes(), "t"), ["0", "1", "2", "3", "4"]);
    let unbounded = connect_v5("client").persistent();
    assert_eq!(Client::resumes(&broker, unbounded).hears_publishes().len(), 6);
}

#[test]
fn mqtt_4_9_0_2_at_quota_0_no_publish_of_qos_1_or_2_is_sent() {
    let broker = broker();
    let publisher = Client::connects(&broker, connect_v5("publisher"));
    let client = Client::connects(&broker, connect_v5("client").with(property::receive_maximum(2)));
    client.subscribes("t", 2);
    for number in 1..=5 {
        publisher.publishes(publish("t", number.to_string()).exactly_once(1));
    }
    let first = publish("t", "1").exactly_once(0);
    let ids = client.receives_all([first, publish("t", "2").exactly_once(0)]);
    // PUBREC does not free a place, PUBCOMP does.
    client.says(pubrec(ids[0])).hears(pubrel(ids[0]));
    client.says(pubcomp(ids[0]));
    let third = client.receives(publish("t", "3").exactly_once(0));
    // A PUBREC that refuses does.
    client.says(pubrec(ids[1]).reason(UNSPECIFIED_ERROR));
    let fourth = client.receives(publish("t", "4").exactly_once(0));
    // Acknowledgements that were said already do not free another place.
    client.says(pubcomp(ids[0])).hears_nothing();
    client.says(puback(ids[0])).hears_nothing();
    client.says(pubrec(third)).hears(pubrel(third));
    client.says(pubcomp(third));
    let fifth = client.receives(publish("t", "5").exactly_once(0));
    client.acknowledges(2, fourth).acknowledges(2, fifth).hears_nothing();
}

#[test]
fn mqtt_4_9_0_2_acknowledgements_said_twice_do_not_widen_the_window() {
    let broker = broker();
    let publisher = Client::connects(&broker, connect_v5("publisher"));
    let client = Client::connects(&broker, connect_v5("client").with(property::receive_maximum(1)));
    client.subscribes("t", 1);
    for number in 0..6 {
        publisher.publishes(publish("t", number.to_string()).at_least_once(1));
    }
    for number in 0..6 {
        let packet_id = client.receives(publish("t", number.to_string()).at_least_once(0));
        client.says_at_once(&[&puback(packet_id), &puback(packet_id), &puback(packet_id)]);
    }
    client.hears_nothing();
}

#[test]
fn mqtt_4_9_0_3_at_quota_0_all_other_packets_are_processed_and_answered() {
    let broker = broker();
    let publisher = Client::connects(&broker, connect_v5("publisher"));
    let client = Client::connects(&broker, connect_v5("client").with(property::receive_maximum(1)));
    client.subscribes("t", 2);
    publisher.publishes(publish("t", "1").exactly_once(1));
    publisher.publishes(publish("t", "2").exactly_once(2));
    let packet_id = client.receives(publish("t", "1").exactly_once(0));
    client.says(PINGREQ).hears(Parsed::PingResp);
    client.subscribes("u", 0).unsubscribes("u");
    client.publishes(publish("v", "x").at_least_once(1)).publishes(publish("v", "x").exactly_once(2));
    client.says(pubrec(packet_id)).hears(pubrel(packet_id)).is_alive();
    client.says(pubcomp(packet_id)).receives(publish("t", "2").exactly_once(0));
}

both!(
    a_client_that_reads_slowly_gets_everything_in_order_afterwards,
    a_client_that_reads_slowly_gets_everything_in_order_afterwards_in_3_1_1,
    |version| {
        let broker = broker();
        let (publisher, subscriber) = pair(&broker, version);
        subscriber.stops_reading();
        for number in 0..40 {
            for qos in [0, 1, 2] {
                publisher.publishes(publish(format!("t/{qos}"), number.to_string()).qos(qos, 1));
            }
        }
        subscriber.hears_nothing().resumes_reading();
        let mut heard = subscriber.hears_publishes();
        for message in &heard {
            match message.qos {
                1 => subscriber.says(puback(message.packet_id.unwrap_or_default())),
                2 => subscriber.says(pubrec(message.packet_id.unwrap_or_default()).reason(0)),
                _ => &subscriber,
            };
        }
        heard.extend(subscriber.hears_all().into_iter().filter_map(|parsed| match parsed {
            Parsed::Publish(message) => Some(message),
            _ => None,
        }));
        let in_order: Vec<String> = (0..40).map(|number| number.to_string()).collect();
        for qos in [0, 1, 2] {
            assert_eq!(payloads(&heard, &format!("t/{qos}")), in_order, "QoS {qos}");
        }
    }
);

#[test]
fn a_message_expires_while_it_waits_for_a_client_that_does_not_read() {
    let broker = broker();
    let (publisher, subscriber) = pair(&broker, Version::V5);
    subscriber.stops_reading();
    // What the socket took already cannot expire any more; so fill it with something else first.
    publisher.publishes(publish("t/first", "x"));
    for (topic, qos) in [("t/0", 0), ("t/1", 1), ("t/2", 2)] {
        let short = property::message_expiry_interval(3);
        publisher.publishes(publish(topic, "short").qos(qos, 1).with(short));
        publisher.publishes(publish(topic, "lasting").qos(qos, 1));
    }
    broker.advance(seconds(8));
    subscriber.resumes_reading();
    let heard = subscriber.hears_publishes();
    for topic in ["t/0", "t/1", "t/2"] {
        assert_eq!(payloads(&heard, topic), ["lasting"]);
    }
}

#[test]
fn packet_identifiers_go_round_without_0_and_without_those_in_use() {
    let broker = broker();
    let (publisher, subscriber) = pair(&broker, Version::V5);
    let some = |client: &Client| -> Vec<u16> {
        let messages: Vec<Vec<u8>> = (1..=50u16).map(|id| wire_bytes(&publish("t/x", "x").at_least_once(id))).collect();
        client.says(messages.concat()).hears_all();
        subscriber.hears_publishes().iter().filter_map(|message| message.packet_id).collect()
    };
    let mut count = 0;
    let mut open = None;
    while count < 70_000 {
        let ids = some(&publisher);
        count += ids.len();
        assert!(
            !ids.is_empty() && ids.iter().all(|id| Some(*id) != open),
            "{open:?} is in use, and was used again: {ids:?}"
        );
        let mut acks: Vec<u8> = ids.iter().flat_map(|id| wire_bytes(&puback(*id))).collect();
        // Just before the identifiers begin anew one of them stays open, and a little later it is let go.
        if count > 65_400 && open.is_none() {
            open = ids.first().copied();
            acks.drain(..4);
        } else if count > 65_700 && open.is_some_and(|id| id != 0) {
            acks.extend(wire_bytes(&puback(open.unwrap_or_default())));
            open = Some(0);
        }
        subscriber.says(acks);
    }
    subscriber.is_alive();
}

fn wire_bytes(packet: &impl crate::support::wire::Packet) -> Vec<u8> {
    packet.bytes(Version::V5)
}

both!(a_large_payload_arrives_byte_by_byte, a_large_payload_arrives_byte_by_byte_in_3_1_1, |version| {
    let broker = broker();
    let (publisher, subscriber) = pair(&broker, version);
    let payload: Vec<u8> = (0..900_000u32).map(|number| (number.wrapping_mul(number) >> 7) as u8).collect();
    for qos in [0, 1, 2] {
        publisher.publishes(publish("t/large", &payload).qos(qos, 1));
        subscriber.takes(publish("t/large", &payload).qos(qos, 0));
    }
});
