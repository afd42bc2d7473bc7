//! J11 to J13: rights that are lost while Messages are under way.

use crate::stage::{Stage, denied, hello};
use crate::support::TestJournal;
use crate::support::talk::{Client, both};
use crate::support::wire::{Parsed, Version, options, publish, pubrel, subscribe, unsuback, unsubscribe};

const ALICE_READS: &[&str] = &["topic a/#"];

both!(j11_read_right_revoked_client_connected, j11_read_right_revoked_client_connected_in_3_1_1, |version| {
    let stage = Stage::new();
    let (root, alice) = (stage.enter(version, "root"), stage.enter(version, "alice"));
    alice.subscribes("a/t", 2).subscribes("pub/#", 0).subscribes("$share/g/a/#", 1);
    root.publishes(publish("a/t", "1").exactly_once(1));
    assert_eq!(alice.hears_publishes().len(), 2);
    stage.revoke(ALICE_READS);
    for qos in [0, 1, 2] {
        root.publishes(publish("a/t", "2").qos(qos, 2));
    }
    alice.is_alive();
    root.publishes(publish("pub/x", "3").at_least_once(3));
    alice.receives(publish("pub/x", "3"));
    assert_eq!(stage.broker.subscriptions(), 1);
    // A right that comes back brings no subscription back.
    stage.look_again();
    root.publishes(publish("a/t", "4").at_least_once(4));
    alice.is_alive();
    alice.says(unsubscribe(9).from("a/t")).hears(unsuback(9, if version.is_v5() { &[0x11] } else { &[] }));
});

both!(j11_part_of_a_right_revoked, j11_part_of_a_right_revoked_in_3_1_1, |version| {
    let stage = Stage::new();
    let (root, alice) = (stage.enter(version, "root"), stage.enter(version, "alice"));
    alice.subscribes("a/#", 0);
    root.publishes(publish("a/x", "1").at_least_once(1)).publishes(publish("a/t", "1").at_least_once(1));
    alice.receives_all([publish("a/x", "1"), publish("a/t", "1")]);
    stage.rule("user alice\ntopic deny a/t\ntopic a/#\nuser root\ntopic #\n");
    root.publishes(publish("a/t", "2").at_least_once(1)).publishes(publish("a/x", "2").at_least_once(1));
    alice.receives(publish("a/x", "2"));
});

both!(j11_what_waits_for_a_slow_client, j11_what_waits_for_a_slow_client_in_3_1_1, |version| {
    let stage = Stage::new();
    let (root, alice) = (stage.enter(version, "root"), stage.enter(version, "alice"));
    alice.subscribes("a/t", 1).stops_reading();
    for number in 0..10 {
        root.publishes(publish("a/t", format!("{number}")).at_least_once(1));
    }
    stage.revoke(ALICE_READS);
    alice.resumes_reading();
    // What had been written to its socket before comes, nothing else.
    let heard = alice.hears_publishes();
    assert!(heard.len() <= 1, "{heard:?}");
});

both!(j11_a_replay_under_way, j11_a_replay_under_way_in_3_1_1, |version| {
    let stage = Stage::new();
    let (root, alice) = (stage.enter(version, "root"), stage.enter(version, "alice"));
    for number in 0..3000 {
        root.publishes(publish(format!("a/{number}"), "kept").retain().at_least_once(1));
    }
    alice.stops_reading();
    alice.says(subscribe(1).to("a/#", 0));
    stage.revoke(ALICE_READS);
    alice.resumes_reading();
    let heard = alice.hears_all();
    assert!(heard.len() < 3000, "the replay went on: {}", heard.len());
});

both!(j12_read_right_revoked_client_offline, j12_read_right_revoked_client_offline_in_3_1_1, |version| {
    let stage = Stage::new();
    let (root, alice) = (stage.enter(version, "root"), stage.stay(version, "alice"));
    alice.subscribes("a/#", 2).vanishes();
    for number in 0..100 {
        root.publishes(publish("a/t", format!("{number}")).qos(1 + number % 2, 1));
    }
    stage.revoke(ALICE_READS);
    assert_eq!(stage.broker.subscriptions(), 0);
    let alice = stage.resume(version, "alice");
    alice.hears_nothing();
    root.publishes(publish("a/t", "later").at_least_once(1));
    alice.hears_nothing();
    // The right comes back, the subscription and the queue do not.
    stage.look_again();
    root.publishes(publish("a/t", "later still").at_least_once(1));
    alice.hears_nothing().is_alive();
});

both!(j12_a_right_that_came_back_before_the_client, j12_a_right_that_came_back_before_the_client_in_3_1_1, |version| {
    let stage = Stage::new();
    let (root, alice) = (stage.enter(version, "root"), stage.stay(version, "alice"));
    alice.subscribes("a/#", 1).vanishes();
    stage.revoke(ALICE_READS);
    stage.look_again();
    root.publishes(publish("a/t", "x").at_least_once(1));
    stage.resume(version, "alice").is_alive();
});

both!(j12_what_would_be_sent_again, j12_what_would_be_sent_again_in_3_1_1, |version| {
    for qos in [1, 2] {
        let stage = Stage::new();
        let (root, alice) = (stage.enter(version, "root"), stage.stay(version, "alice"));
        alice.subscribes("a/#", 2).subscribes("pub/#", 2);
        root.publishes(publish("a/t", "denied").qos(qos, 1)).publishes(publish("pub/t", "allowed").qos(qos, 1));
        assert_eq!(alice.hears_publishes().len(), 2);
        alice.vanishes();
        stage.revoke(ALICE_READS);
        let alice = stage.resume(version, "alice");
        alice.takes(publish("pub/t", "allowed").qos(qos, 0).dup());
        alice.is_alive();
        // The Packet Identifier of what was given up is free again.
        root.publishes(publish("pub/t", "new").qos(qos, 1));
        alice.takes(publish("pub/t", "new").qos(qos, 0));
    }
});

both!(j12_an_exchange_that_was_begun_is_finished, j12_an_exchange_that_was_begun_is_finished_in_3_1_1, |version| {
    let stage = Stage::new();
    let (root, alice) = (stage.enter(version, "root"), stage.stay(version, "alice"));
    alice.subscribes("a/#", 2);
    root.publishes(publish("a/t", "x").exactly_once(1));
    let packet_id = alice.receives(publish("a/t", "x").qos(2, 0));
    alice.says(crate::support::wire::pubrec(packet_id)).hears(pubrel(packet_id)).vanishes();
    stage.revoke(ALICE_READS);
    let alice = stage.resume(version, "alice");
    alice.hears(pubrel(packet_id)).says(crate::support::wire::pubcomp(packet_id)).is_alive();
});

both!(j12_a_revoked_member_leaves_its_group, j12_a_revoked_member_leaves_its_group_in_3_1_1, |version| {
    let stage = Stage::new();
    let (root, alice) = (stage.enter(version, "root"), stage.stay(version, "alice"));
    let other = Client::connects(&stage.broker, crate::stage::hello_as(version, "other", "root"));
    alice.subscribes("$share/g/a/#", 1);
    other.subscribes("$share/g/a/#", 1);
    stage.revoke(ALICE_READS);
    for number in 0..10 {
        root.publishes(publish("a/t", format!("{number}")).at_least_once(1));
    }
    assert_eq!(other.hears_publishes().len(), 10, "nobody takes from the group what it may not have");
    alice.is_alive();
});

both!(
    j12_what_a_revoked_member_was_not_sent_goes_to_another,
    j12_what_a_revoked_member_was_not_sent_in_3_1_1,
    |version| {
        let stage = Stage::new();
        let (root, alice) = (stage.enter(version, "root"), stage.stay(version, "alice"));
        alice.subscribes("$share/g/a/#", 1).stops_reading();
        for number in 0..10 {
            root.publishes(publish("a/t", format!("{number}")).at_least_once(1));
        }
        let other = Client::connects(&stage.broker, crate::stage::hello_as(version, "other", "root"));
        other.subscribes("$share/g/a/#", 1);
        stage.revoke(ALICE_READS);
        alice.resumes_reading();
        let payloads = |client: &Client| client.hears_publishes().into_iter().map(|publish| publish.payload).collect();
        let (had, rest): (Vec<_>, Vec<_>) = (payloads(&alice), payloads(&other));
        assert!(had.len() <= 1, "only what was in her socket: {had:?}");
        let all: Vec<Vec<u8>> = (0..10).map(|number: u8| vec![b'0' + number]).collect();
        assert_eq!([had, rest].concat(), all);
    }
);

both!(j13_writer_revoked_retained_stays, j13_writer_revoked_retained_stays_in_3_1_1, |version| {
    let stage = Stage::new();
    let (root, bob) = (stage.enter(version, "root"), stage.enter(version, "bob"));
    bob.publishes(publish("b/x", "his").retain().at_least_once(1));
    bob.publishes(publish("b/plain", "his").retain().at_least_once(1));
    root.publishes(publish("b/root", "its").retain().at_least_once(1));
    stage.revoke(&["topic b/#"]);
    root.subscribes("b/+", 0);
    root.receives(publish("b/root", "its").retain());
    assert_eq!(stage.broker.retained("b/x"), None, "and removed");
    assert_eq!(stage.broker.retained("b/root"), Some(b"its".to_vec()));
    // It is gone for good, not only while the right is.
    stage.look_again();
    root.subscribes("b/x", 0).hears_nothing();
});

both!(j13_writer_revoked_one_topic, j13_writer_revoked_one_topic_in_3_1_1, |version| {
    let stage = Stage::new();
    let (root, bob) = (stage.enter(version, "root"), stage.enter(version, "bob"));
    bob.publishes(publish("b/x", "his").retain().at_least_once(1));
    stage.revoke(&["topic b/#"]);
    root.publishes(publish("b/x", "new").retain().at_least_once(1)); // and is rightful now
    root.subscribes("b/x", 0);
    root.receives(publish("b/x", "new").retain());
});

#[test]
fn j13_writer_that_has_left_is_judged_as_it_was() {
    let stage = Stage::with("pattern readwrite dev/%c/#\nuser root\ntopic #\n");
    let device = Client::connects(&stage.broker, crate::stage::hello_as(Version::V5, "seven", "carol"));
    device.publishes(publish("dev/seven/x", "kept").retain().at_least_once(1)).disconnects();
    let root = stage.enter(Version::V5, "root");
    root.subscribes("dev/#", options::RETAIN_AS_PUBLISHED);
    root.receives(publish("dev/seven/x", "kept").retain());
}

#[test]
fn a_subscription_that_only_mosquitto_would_grant_is_silent_and_not_dead() {
    let stage = Stage::new();
    let alice = Client::connects(&stage.broker, hello(Version::V5, "alice"));
    alice.says(subscribe(1).to("#", 0).to("a/#", 0)).hears_suback_codes(1, &[denied(Version::V5), 0]);
    let heard = alice.hears_all();
    assert!(!heard.iter().any(|packet| matches!(packet, Parsed::Publish(_))), "{heard:?}");
}

#[test]
fn j12_what_the_journal_is_told() {
    // A store that is to come must not bring back what a change of rights has taken.
    let journal = TestJournal::new();
    let stage = Stage::with_journal(&journal);
    let (root, alice) = (stage.enter(Version::V5, "root"), stage.stay(Version::V5, "alice"));
    alice
        .subscribes("a/#", 1)
        .subscribes("$share/g/a/t", 1)
        .publishes(publish("a/kept", "hers").retain().at_least_once(1));
    alice.vanishes();
    journal.deleted();
    stage.revoke(ALICE_READS);
    root.subscribes("a/kept", 0).hears_nothing();
    let row = |table, key: &str| (table, key.to_owned());
    // She was the last of the group.
    assert_eq!(journal.deleted(), [row(2, "$share/g/a/t"), row(2, "a/#"), row(3, "a/kept"), row(9, "")]);
}
