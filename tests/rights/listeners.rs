//! J08: listeners with rules and users of their own.

use crate::stage::{Stage, denied, hello, not_authorized};
use crate::support::talk::{Client, both, seconds};
use crate::support::wire::{Version, property, publish, subscribe, will};

/// At `inner` alice has `in/#`, and nothing that the page gives her.
const INNER: &str = "[user.alice]\nallow = { all = \"in/#\" }\n[user.root]\nallow = { all = \"#\" }\n";

both!(j08_a_listener_with_rules_of_its_own, j08_a_listener_with_rules_of_its_own_in_3_1_1, |version| {
    let stage = Stage::new();
    stage.rule_at("inner", INNER);
    for (listener, allowed, other) in
        [("inner", "in/x", "a/x"), ("outer", "a/x", "in/x"), ("127.0.0.1:1883", "a/x", "in/x")]
    {
        stage.people.come_through(listener);
        let alice = stage.enter(version, "alice");
        alice.says(subscribe(1).to(allowed, 0).to(other, 0)).hears_suback_codes(1, &[0, denied(version)]);
        alice.publishes(publish(allowed, "x").at_least_once(1)).receives(publish(allowed, "x"));
        alice.says(publish(other, "x").retain());
        assert_eq!(stage.broker.retained(other), None);
        alice.disconnects();
    }
});

both!(
    j08_what_waits_is_judged_by_the_listener_of_the_last_connection,
    j08_what_waits_is_judged_by_the_listener_of_the_last_connection_in_3_1_1,
    |version| {
        let stage = Stage::new();
        stage.rule_at("inner", INNER);
        let root = stage.enter(version, "root");
        stage.people.come_through("inner");
        let alice = stage.stay(version, "alice");
        alice.subscribes("in/#", 1).vanishes();
        root.publishes(publish("in/x", "queued").at_least_once(1));
        // By the way she came, it is hers.
        let alice = stage.resume(version, "alice");
        alice.takes(publish("in/x", "queued").qos(1, 0)).vanishes();
        root.publishes(publish("in/x", "queued").at_least_once(1));
        stage.people.come_through("outer");
        let alice = stage.resume(version, "alice");
        root.publishes(publish("in/x", "live").at_least_once(1));
        alice.hears_nothing().is_alive();
        // And back again: what was lost on the way stays so.
        alice.vanishes();
        stage.people.come_through("inner");
        stage.resume(version, "alice").hears_nothing().is_alive();
    }
);

both!(j08_a_will_is_judged_by_its_listener, j08_a_will_is_judged_by_its_listener_in_3_1_1, |version| {
    let stage = Stage::new();
    stage.rule_at("inner", INNER);
    let root = stage.enter(version, "root");
    root.subscribes("#", 0);
    stage.people.come_through("inner");
    let connect = hello(version, "alice").will(will("a/x", "hers"));
    Client::tries(&stage.broker, version, connect).is_refused(&[not_authorized(version)]);
    let alice = Client::connects(&stage.broker, hello(version, "alice").will(will("in/x", "hers")));
    alice.vanishes();
    root.receives(publish("in/x", "hers"));
    // The rules of the listener change while she is there.
    let alice = Client::connects(&stage.broker, hello(version, "alice").will(will("in/x", "hers")));
    stage.rule_at("inner", "");
    alice.vanishes();
    root.hears_nothing();
});

#[test]
fn j08_a_delayed_will_is_judged_by_its_listener() {
    let stage = Stage::new();
    stage.rule_at("inner", INNER);
    let root = stage.enter(Version::V5, "root");
    root.subscribes("#", 0);
    stage.people.come_through("inner");
    let delayed = will("in/x", "hers").with(property::will_delay_interval(10));
    let alice = Client::connects(&stage.broker, hello(Version::V5, "alice").persistent().will(delayed));
    alice.vanishes();
    stage.rule_at("inner", "");
    stage.broker.advance(seconds(20));
    root.hears_nothing();
}

both!(j08_rules_of_one_listener_change, j08_rules_of_one_listener_change_in_3_1_1, |version| {
    let stage = Stage::new();
    stage.rule_at("inner", INNER);
    let root = stage.enter(version, "root");
    stage.people.come_through("inner");
    let alice = stage.enter(version, "alice");
    alice.subscribes("in/#", 0);
    stage.people.come_through("outer");
    let bob = stage.enter(version, "bob");
    bob.subscribes("b/#", 0);
    stage.rule_at("inner", "[user.alice]\nallow = { all = \"other/#\" }\n");
    root.publishes(publish("in/x", "x").at_least_once(1)).publishes(publish("b/x", "x").at_least_once(1));
    alice.hears_nothing().is_alive();
    bob.receives(publish("b/x", "x"));
});

both!(
    j08_retained_messages_are_judged_by_the_listener_of_their_writer,
    j08_retained_messages_are_judged_by_the_listener_of_their_writer_in_3_1_1,
    |version| {
        let stage = Stage::new();
        stage.rule_at("inner", INNER);
        let root = stage.enter(version, "root");
        stage.people.come_through("inner");
        stage.enter(version, "alice").publishes(publish("in/x", "hers").retain().at_least_once(1)).disconnects();
        root.subscribes("in/x", 0);
        root.receives(publish("in/x", "hers").retain());
        stage.rule_at("inner", "");
        root.subscribes("in/x", 0).hears_nothing();
    }
);

both!(
    k01_a_user_of_the_same_name_at_another_listener,
    k01_a_user_of_the_same_name_at_another_listener_in_3_1_1,
    |version| {
        let stage = Stage::new();
        stage.people.are_apart_by_listener();
        stage.people.come_through("inner");
        let alice = stage.stay(version, "alice");
        alice.subscribes("a/#", 1);
        let intrudes = || {
            stage.people.come_through("outer");
            for connect in [hello(version, "alice"), hello(version, "alice").persistent()] {
                Client::tries(&stage.broker, version, connect).is_refused(&[not_authorized(version)]);
            }
            stage.people.come_through("inner");
        };
        intrudes();
        alice.is_alive();
        alice.vanishes();
        intrudes();
        stage.resume(version, "alice").is_alive();
    }
);
