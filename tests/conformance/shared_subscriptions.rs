//! Section 4.8: Subscriptions, shared and not.

use crate::house::broker;
use crate::support::TestBroker;
use crate::support::wire::{
    Publish, Version, connect, connect_v5, options::*, property, puback, pubcomp, publish, pubrec, pubrel, reason::*,
    suback, subscribe,
};
use crate::talk::{Client, both, seconds};

/// Two with lasting Sessions who share `t` with this QoS, and one who publishes.
fn group(broker: &TestBroker, qos: u8) -> (Client, [Client; 2]) {
    let publisher = Client::connects(broker, connect_v5("publisher"));
    let members = ["one", "two"].map(|name| {
        let member = Client::connects(broker, connect_v5(name).persistent());
        member.subscribes("$share/group/t", qos);
        member
    });
    (publisher, members)
}

/// Publishes one message and finds out which of two members got it: its place, the other's place, what it got.
fn chosen(publisher: &Client, members: &[Client; 2], message: Publish) -> (usize, usize, Publish) {
    publisher.publishes(message);
    let mut heard = [members[0].hears_publishes(), members[1].hears_publishes()];
    let (place, other) = if heard[0].is_empty() { (1, 0) } else { (0, 1) };
    assert!(heard[other].is_empty() && heard[place].len() == 1, "one member gets one copy, not {heard:?}");
    (place, other, heard[place].remove(0))
}

const NAMES: [&str; 2] = ["one", "two"];

fn back(broker: &TestBroker, place: usize) -> Client {
    Client::resumes(broker, connect_v5(NAMES[place]).persistent())
}

both!(
    mqtt_4_8_2_1_a_shared_filter_has_a_share_name_of_at_least_one_character,
    shared_filters_are_held_to_the_same_rules_in_3_1_1,
    |version| {
        let broker = broker();
        let client = Client::connects(&broker, connect(version, "client"));
        let refused = if version.is_v5() { TOPIC_FILTER_INVALID } else { 0x80 };
        for filter in ["$share//t", "$share/", "$share//", "$share///"] {
            client.says(subscribe(1).to(filter, 1)).hears_suback_codes(1, &[refused]);
        }
        assert_eq!(broker.subscriptions(), 0);
        client.says(subscribe(2).to("$share/g/t", 1).to("$share/\u{e9}/t", 0)).hears(suback(2, &[1, 0]));
    }
);

both!(
    mqtt_4_8_2_2_a_share_name_has_no_wildcards_and_is_followed_by_a_filter,
    shared_filters_need_a_filter_in_3_1_1,
    |version| {
        let broker = broker();
        let client = Client::connects(&broker, connect(version, "client"));
        let refused = if version.is_v5() { TOPIC_FILTER_INVALID } else { 0x80 };
        for filter in ["$share/g", "$share/g/", "$share/+/t", "$share/#/t", "$share/g+/t", "$share/g#/t", "$share/#"] {
            client.says(subscribe(1).to(filter, 1)).hears_suback_codes(1, &[refused]);
        }
        for filter in ["$share/g/a#", "$share/g/#/b", "$share/g/a+"] {
            client.says(subscribe(1).to(filter, 1)).hears_suback_codes(1, &[refused]);
        }
        assert_eq!(broker.subscriptions(), 0);
        client.subscribes("$share/g//", 0).says(publish("/", "x")).receives(publish("/", "x"));
        client.subscribes("$share/h/+/x", 0).says(publish("y/x", "x")).receives(publish("y/x", "x"));
    }
);

#[test]
fn mqtt_4_8_2_3_the_qos_granted_to_the_chosen_member_is_respected() {
    let broker = broker();
    let publisher = Client::connects(&broker, connect_v5("publisher"));
    for granted in [0, 1, 2] {
        let member = Client::connects(&broker, connect_v5("member"));
        member.subscribes(format!("$share/group{granted}/t"), granted);
        for published in [0, 1, 2] {
            publisher.publishes(publish("t", "x").qos(published, 1));
            member.takes(publish("t", "x").qos(published.min(granted), 0)).hears_nothing();
        }
    }
}

#[test]
fn mqtt_4_8_2_3_members_of_different_qos_each_get_their_own() {
    let broker = broker();
    let publisher = Client::connects(&broker, connect_v5("publisher"));
    let low = Client::connects(&broker, connect_v5("low"));
    let high = Client::connects(&broker, connect_v5("high"));
    low.subscribes("$share/group/t", 0);
    high.subscribes("$share/group/t", 2);
    let mut count = 0;
    for _ in 0..10 {
        publisher.publishes(publish("t", "x").exactly_once(1));
        for message in low.hears_publishes() {
            assert_eq!(message.qos, 0);
            count += 1;
        }
        for message in high.hears_publishes() {
            assert_eq!(message.qos, 2);
            high.acknowledges(2, message.packet_id.unwrap_or_default()).hears_nothing();
            count += 1;
        }
    }
    assert_eq!(count, 10);
}

#[test]
fn mqtt_4_8_2_4_a_qos_2_delivery_begun_is_finished_with_the_same_member_when_it_is_back() {
    let broker = broker();
    let (publisher, members) = group(&broker, 2);
    // before PUBREC
    let (place, other, message) = chosen(&publisher, &members, publish("t", "x").exactly_once(1));
    let packet_id = message.packet_id.unwrap_or_default();
    members[place].vanishes();
    broker.advance(seconds(5));
    members[other].hears_nothing();
    let member = back(&broker, place);
    member.hears(publish("t", "x").exactly_once(packet_id).dup());
    // after PUBREC
    member.says(pubrec(packet_id)).hears(pubrel(packet_id)).vanishes();
    members[other].hears_nothing();
    let member = back(&broker, place);
    member.hears(pubrel(packet_id)).says(pubcomp(packet_id)).hears_nothing();
    members[other].hears_nothing();
}

#[test]
fn mqtt_4_8_2_5_if_the_members_session_ends_first_the_qos_2_message_goes_to_no_other_member() {
    let broker = broker();
    let (publisher, members) = group(&broker, 2);
    let (place, other, _) = chosen(&publisher, &members, publish("t", "x").exactly_once(1));
    members[place].vanishes();
    let anew = Client::connects(&broker, connect_v5(NAMES[place]));
    assert!(!anew.session_present());
    anew.hears_nothing();
    members[other].hears_nothing();

    let (publisher, members) = group(&broker, 2);
    let (place, other, _) = chosen(&publisher, &members, publish("t", "y").exactly_once(1));
    members[place].vanishes();
    broker.advance(seconds(600));
    publisher.is_alive();
    members[other].is_alive();
    broker.advance(seconds(500));
    members[other].is_alive();
    assert!(!Client::connects(&broker, connect_v5(NAMES[place]).persistent()).session_present());
}

#[test]
fn mqtt_4_8_2_6_a_puback_that_refuses_discards_the_message() {
    let broker = broker();
    let (publisher, members) = group(&broker, 1);
    let (place, other, message) = chosen(&publisher, &members, publish("t", "x").at_least_once(1));
    members[place].says(puback(message.packet_id.unwrap_or_default()).reason(UNSPECIFIED_ERROR)).hears_nothing();
    members[other].hears_nothing();
    members[place].vanishes();
    members[other].hears_nothing();
    back(&broker, place).hears_nothing();
}

#[test]
fn mqtt_4_8_2_6_a_pubrec_that_refuses_discards_the_message() {
    let broker = broker();
    let (publisher, members) = group(&broker, 2);
    let (place, other, message) = chosen(&publisher, &members, publish("t", "x").exactly_once(1));
    members[place].says(pubrec(message.packet_id.unwrap_or_default()).reason(NOT_AUTHORIZED)).hears_nothing();
    members[other].hears_nothing();
    members[place].vanishes();
    members[other].hears_nothing();
    back(&broker, place).hears_nothing();
}

// ------------------------------------------------------------------------------------------ what the text says besides

#[test]
fn each_message_goes_to_one_member_of_each_group_and_to_each_plain_subscriber() {
    let broker = broker();
    let publisher = Client::connects(&broker, connect_v5("publisher"));
    let subscribed = |name: &str, filter: &str| {
        let client = Client::connects(&broker, connect_v5(name));
        client.subscribes(filter, 1);
        client
    };
    let red = [subscribed("r1", "$share/red/t"), subscribed("r2", "$share/red/t"), subscribed("r3", "$share/red/t")];
    let blue = [subscribed("b1", "$share/blue/t"), subscribed("b2", "$share/blue/t")];
    let plain = [subscribed("p1", "t"), subscribed("p2", "t")];
    for _ in 0..30 {
        publisher.publishes(publish("t", "x").at_least_once(1));
    }
    let count = |client: &Client| {
        let mut count = 0;
        loop {
            let heard = client.hears_publishes();
            if heard.is_empty() {
                return count;
            }
            count += heard.len();
            for message in heard {
                client.says(puback(message.packet_id.unwrap_or_default()));
            }
        }
    };
    let red: Vec<usize> = red.iter().map(count).collect();
    let blue: Vec<usize> = blue.iter().map(count).collect();
    let plain: Vec<usize> = plain.iter().map(count).collect();
    assert_eq!((red.iter().sum(), blue.iter().sum::<usize>()), (30, 30));
    assert!(red.iter().chain(&blue).all(|share| *share > 0), "everybody gets some: {red:?} {blue:?}");
    assert_eq!(plain, [30, 30]);
}

#[test]
fn no_retained_message_is_sent_because_of_a_shared_subscription() {
    let broker = broker();
    let publisher = Client::connects(&broker, connect_v5("publisher"));
    publisher.publishes(publish("t", "retained").at_least_once(1).retain());
    let client = Client::connects(&broker, connect_v5("client"));
    client.subscribes("$share/group/t", 1).hears_nothing();
    client.subscribes("$share/group/t", 1).hears_nothing();
    client.subscribes("$share/group/#", 1 | SEND_RETAINED_IF_NEW).hears_nothing();
    publisher.publishes(publish("u", "live").at_least_once(2).retain());
    client.takes(publish("u", "live").at_least_once(0)).hears_nothing();
}

#[test]
fn a_member_gets_its_own_subscription_identifier_and_retain_as_published() {
    let broker = broker();
    let publisher = Client::connects(&broker, connect_v5("publisher"));
    let client = Client::connects(&broker, connect_v5("client"));
    let shared = subscribe(1).to("$share/group/t", 1 | RETAIN_AS_PUBLISHED);
    client.subscribes_with(shared.with(property::subscription_identifier(77)));
    publisher.publishes(publish("t", "x").at_least_once(1).retain());
    client.receives(publish("t", "x").at_least_once(0).retain().with(property::subscription_identifier(77)));
}

#[test]
fn a_member_that_is_away_does_not_stop_the_others() {
    let broker = broker();
    let (publisher, members) = group(&broker, 1);
    members[0].vanishes();
    for number in 1..=6 {
        publisher.publishes(publish("t", number.to_string()).at_least_once(number));
        members[1].takes(publish("t", number.to_string()).at_least_once(0)).hears_nothing();
    }
    back(&broker, 0).hears_nothing();
}

#[test]
fn with_all_members_away_the_messages_wait() {
    let broker = broker();
    let (publisher, members) = group(&broker, 1);
    for member in &members {
        member.vanishes();
    }
    for number in 1..=6 {
        publisher.publishes(publish("t", number.to_string()).at_least_once(number));
    }
    let mut heard: Vec<Vec<u8>> = Vec::new();
    for place in [0, 1] {
        let member = back(&broker, place);
        heard.extend(member.hears_publishes().into_iter().map(|message| message.payload));
    }
    heard.sort();
    assert_eq!(heard, [b"1", b"2", b"3", b"4", b"5", b"6"]);
}

#[test]
fn a_qos_1_message_of_a_member_whose_session_ends_goes_to_another_member() {
    let broker = broker();
    let (publisher, members) = group(&broker, 1);
    let (place, other, _) = chosen(&publisher, &members, publish("t", "x").at_least_once(1));
    members[place].vanishes();
    // The Session ends because a new one begins.
    let anew = Client::connects(&broker, connect_v5(NAMES[place]));
    anew.hears_nothing();
    let heard = members[other].hears_publishes();
    let [again] = &heard[..] else { panic!("the message is sent to the other member, not {heard:?}") };
    assert_eq!((&again.payload[..], again.qos), (&b"x"[..], 1));
}

#[test]
fn a_client_may_be_in_a_group_and_subscribed_to_the_same_topic_besides() {
    let broker = broker();
    let publisher = Client::connects(&broker, connect_v5("publisher"));
    let client = Client::connects(&broker, connect_v5("client"));
    client.subscribes("$share/group/t", 0).subscribes("t", 0);
    publisher.says(publish("t", "x"));
    client.receives_all([publish("t", "x"), publish("t", "x")]);
    client.unsubscribes("$share/group/t");
    publisher.says(publish("t", "y"));
    client.receives(publish("t", "y"));
}

#[test]
fn a_member_that_leaves_gets_nothing_more_and_the_others_get_all() {
    let broker = broker();
    let (publisher, members) = group(&broker, 1);
    members[0].unsubscribes("$share/group/t");
    for number in 1..=4 {
        publisher.publishes(publish("t", number.to_string()).at_least_once(number));
        members[1].takes(publish("t", number.to_string()).at_least_once(0)).hears_nothing();
    }
    members[0].hears_nothing();
    members[1].unsubscribes("$share/group/t");
    publisher.publishes(publish("t", "nobody").at_least_once(9));
    members[1].hears_nothing();
    assert_eq!(broker.subscriptions(), 0);
}

#[test]
fn a_message_too_large_for_one_member_goes_to_another() {
    let broker = broker();
    let publisher = Client::connects(&broker, connect_v5("publisher"));
    let narrow = Client::connects(&broker, connect_v5("narrow").with(property::maximum_packet_size(60)));
    let wide = Client::connects(&broker, connect_v5("wide"));
    narrow.subscribes("$share/group/t", 1);
    wide.subscribes("$share/group/t", 1);
    for number in 1..=6 {
        publisher.publishes(publish("t", [b'x'; 100]).at_least_once(number));
        wide.takes(publish("t", [b'x'; 100]).at_least_once(0)).hears_nothing();
    }
    narrow.hears_nothing();
}

#[test]
fn clients_of_both_versions_share() {
    let broker = broker();
    let publisher = Client::connects(&broker, connect_v5("publisher"));
    let members = [Version::V5, Version::V311].map(|version| {
        let member = Client::connects(&broker, connect(version, &format!("{version:?}")));
        member.subscribes("$share/group/t", 0);
        member
    });
    for _ in 0..10 {
        publisher.says(publish("t", "x"));
    }
    let counts = members.map(|member| member.hears_publishes().len());
    assert_eq!(counts.iter().sum::<usize>(), 10);
    assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
}
