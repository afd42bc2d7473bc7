//! J01 to J08: who may subscribe, and what then comes.

use crate::stage::{Stage, denied, hello, hello_as};
use crate::support::talk::{Client, both, seconds};
use crate::support::wire::{Version, publish, subscribe, will};
use waypost::access::{Form, Rules, Source};

both!(j01_wider_than_allowed, j01_wider_than_allowed_in_3_1_1, |version| {
    let stage = Stage::new();
    let (root, alice) = (stage.enter(version, "root"), stage.enter(version, "alice"));
    for (filter, code) in [("#", 1), ("+/#", 1), ("+/x", 1), ("b/#", 1), ("pub/#", 0), ("a/+/#", 0)] {
        let code = if code == 1 { denied(version) } else { 0 };
        alice.says(subscribe(1).to(filter, 0)).hears_suback_codes(1, &[code]);
    }
    for topic in ["b/x", "x", "a/b/c", "pub/news", "c/x", "a", "dev/alice/x"] {
        root.publishes(publish(topic, "x").at_least_once(1));
    }
    // `a/+/#` does not match `a`.
    alice.receives_in_any_order([publish("a/b/c", "x"), publish("pub/news", "x")]);
});

/// All but `secret/#` is allowed.
const HOLE: &str = "user alice\ntopic #\ntopic deny secret/#\nuser root\ntopic #\n";

both!(j02_allow_with_a_hole, j02_allow_with_a_hole_in_3_1_1, |version| {
    let stage = Stage::with(HOLE);
    let root = stage.enter(version, "root");
    for topic in ["secret", "secret/kept", "open"] {
        root.publishes(publish(topic, "kept").retain().at_least_once(1));
    }
    let alice = stage.stay(version, "alice");
    alice.subscribes("#", 1);
    alice.takes(publish("open", "kept").retain().qos(1, 0)); // retained
    for qos in [0, 1, 2] {
        root.publishes(publish("secret/live", "x").qos(qos, 1)).publishes(publish("open", "x").qos(qos, 1));
        alice.takes(publish("open", "x").qos(qos.min(1), 0)); // live
    }
    alice.vanishes();
    for topic in ["secret/queued", "open"] {
        root.publishes(publish(topic, "queued").at_least_once(1));
    }
    let goes = Client::connects(&stage.broker, hello_as(version, "goes", "root").will(will("secret/will", "x").qos(1)));
    goes.vanishes();
    let alice = stage.resume(version, "alice");
    alice.takes(publish("open", "queued").qos(1, 0)); // queued
    let goes = Client::connects(&stage.broker, hello_as(version, "goes", "root").will(will("secret/will", "x").qos(1)));
    goes.vanishes();
    alice.is_alive();
});

both!(j02_a_hole_in_a_shared_subscription, j02_a_hole_in_a_shared_subscription_in_3_1_1, |version| {
    let stage = Stage::with(HOLE);
    let (root, alice) = (stage.enter(version, "root"), stage.stay(version, "alice"));
    alice.subscribes("$share/g/#", 2);
    for qos in [0, 1, 2] {
        root.publishes(publish("secret/x", "x").qos(qos, 1)).publishes(publish("open", "x").qos(qos, 1));
        alice.takes(publish("open", "x").qos(qos, 0));
    }
    alice.vanishes();
    root.publishes(publish("secret/x", "x").at_least_once(1)).publishes(publish("open", "late").at_least_once(1));
    let alice = stage.resume(version, "alice");
    alice.takes(publish("open", "late").qos(1, 0));
    alice.is_alive();
});

both!(j02_a_hole_under_several_subscriptions, j02_a_hole_under_several_subscriptions_in_3_1_1, |version| {
    let stage = Stage::with(HOLE);
    let (root, alice) = (stage.enter(version, "root"), stage.enter(version, "alice"));
    // The first one is free of holes, and what was remembered for it must not hold for the second.
    alice.subscribes("open/#", 0).subscribes("#", 0).subscribes("+/x", 0);
    root.publishes(publish("secret/x", "x").at_least_once(1)).publishes(publish("open/x", "x").at_least_once(1));
    alice.receives(publish("open/x", "x"));
    alice.unsubscribes("#").unsubscribes("+/x");
    alice.subscribes("#", 0);
    root.publishes(publish("secret/x", "x").at_least_once(1));
    alice.hears_nothing();
});

both!(j02_a_hole_in_a_large_fan_out, j02_a_hole_in_a_large_fan_out_in_3_1_1, |version| {
    let stage = Stage::with(HOLE);
    let root = stage.enter(version, "root");
    let id = |number: usize| format!("reader-{number}");
    let readers: Vec<Client> = (0..300)
        .map(|number| {
            let user = if number % 3 == 0 { "root" } else { "alice" };
            let reader = Client::connects(&stage.broker, hello_as(version, &id(number), user));
            reader.subscribes("#", 0);
            reader
        })
        .collect();
    root.publishes(publish("secret/x", "s").at_least_once(1)).publishes(publish("open", "o").at_least_once(1));
    for (number, reader) in readers.iter().enumerate() {
        let heard = reader.hears_publishes();
        let expected: &[&[u8]] = if number % 3 == 0 { &[b"s", b"o"] } else { &[b"o"] };
        assert_eq!(heard.iter().map(|publish| &*publish.payload).collect::<Vec<_>>(), expected, "reader {number}");
    }
});

both!(j03_mixed_list, j03_mixed_list_in_3_1_1, |version| {
    let stage = Stage::new();
    let (root, alice) = (stage.enter(version, "root"), stage.enter(version, "alice"));
    alice
        .says(subscribe(1).to("a/one", 0).to("b/x", 1).to("a/two", 2).to("$share/g/b/x", 0))
        .hears_suback_codes(1, &[0, denied(version), 2, denied(version)]);
    for topic in ["a/one", "b/x", "a/two"] {
        root.publishes(publish(topic, "x").at_least_once(1));
    }
    alice.receives_in_any_order([publish("a/one", "x"), publish("a/two", "x").qos(1, 0)]);
    assert_eq!(stage.broker.subscriptions(), 2);
});

both!(j04_share_prefix_hides_the_filter, j04_share_prefix_hides_the_filter_in_3_1_1, |version| {
    let stage = Stage::new();
    let (root, alice) = (stage.enter(version, "root"), stage.enter(version, "alice"));
    for filter in ["$share/g/b/x", "$share/a/b/x", "$share/a/#", "$share/g/+/x"] {
        alice.says(subscribe(1).to(filter, 1)).hears_suback_codes(1, &[denied(version)]);
    }
    alice.subscribes("$share/b/a/x", 0);
    root.publishes(publish("b/x", "x").at_least_once(1)).publishes(publish("a/x", "x").at_least_once(1));
    alice.receives(publish("a/x", "x"));
});

#[test]
fn j05_old_protocol_same_rules() {
    let stage = Stage::new();
    let (root, alice) = (stage.enter(Version::V5, "root"), stage.enter(Version::V31, "alice"));
    alice.says(subscribe(1).to("b/#", 0).to("#", 1).to("a/x", 0));
    alice.hears_suback();
    root.publishes(publish("b/x", "kept").retain().at_least_once(1)).publishes(publish("a/x", "x").at_least_once(1));
    alice.receives(publish("a/x", "x"));
    alice.says(publish("b/x", "hers"));
    assert_eq!(stage.broker.retained("b/x"), Some(b"kept".to_vec()));
}

both!(j06_substitution, j06_substitution_in_3_1_1, |version| {
    let stage = Stage::with("pattern readwrite dev/%c/#\npattern read home/%u\nuser root\ntopic #\n");
    let root = stage.enter(version, "root");
    root.subscribes("dev/#", 0);
    for name in ["+", "#", "a/b", ".*", "^", "%u", "%c", "a+", "a#", "/", "other"] {
        stage.people.admit(name, name.as_bytes());
        let client = Client::connects(&stage.broker, hello(version, name));
        // Other people's topics, whatever it calls itself.
        for topic in ["dev/victim/x", "dev/a/b/x", "dev//x", "dev/x", "home/victim"] {
            client.says(publish(topic, name).at_least_once(1)).hears_all();
        }
        root.hears_nothing();
        for filter in ["dev/#", "dev/+/x", "dev/victim/#", "home/+", "home/#", "#", "dev/a/#", "home/victim", "dev/+/#"]
        {
            client.says(subscribe(1).to(filter, 0)).hears_suback_codes(1, &[denied(version)]);
        }
        let is_plain = !name.contains(['+', '#', '/']);
        if is_plain {
            client.publishes(publish(format!("dev/{name}/x"), "own").at_least_once(1));
            root.receives(publish(format!("dev/{name}/x"), "own"));
            client.subscribes(format!("home/{name}"), 0);
        }
        client.disconnects();
    }
});

both!(j07_empty_or_broken_rules, j07_empty_or_broken_rules_in_3_1_1, |version| {
    for rules in ["", "# only a comment\n", "\n\n", "user alice\n"] {
        let stage = Stage::with(rules);
        let (alice, bob) = (stage.enter(version, "alice"), stage.enter(version, "bob"));
        alice.says(subscribe(1).to("a/t", 0)).hears_suback_codes(1, &[denied(version)]);
        bob.says(publish("a/t", "x").retain());
        assert_eq!(stage.broker.retained("a/t"), None);
        alice.hears_nothing();
    }
    for broken in ["topics a/#\n", "topic a/#/b\n", "user alice\ntopic a/#\nallow b\n"] {
        let sources = [Source { name: "acl.conf", text: broken.as_bytes(), form: Form::Mosquitto }];
        assert!(Rules::read(&sources).is_err(), "there is no half of a rule set: {broken}");
    }
});

both!(j08_rules_per_listener, j08_rules_per_listener_in_3_1_1, |version| {
    let stage = Stage::new();
    stage.rule_natively(
        "[user.alice]\nallow = [\n  { all = \"in/#\", listener = \"inner\" },\n  { all = \"out/#\", listener = \"outer\" },\n]\n",
    );
    for (listener, allowed, other) in [("inner", "in/x", "out/x"), ("outer", "out/x", "in/x")] {
        stage.people.come_through(listener);
        let alice = stage.enter(version, "alice");
        alice.says(subscribe(1).to(allowed, 0).to(other, 0)).hears_suback_codes(1, &[0, denied(version)]);
        alice.says(publish(other, "x").retain());
        assert_eq!(stage.broker.retained(other), None);
        alice.disconnects();
    }
    // Neither of them.
    stage.people.come_through("third");
    stage.enter(version, "alice").says(subscribe(1).to("in/x", 0)).hears_suback_codes(1, &[denied(version)]);
});

both!(
    j08_a_session_resumed_through_another_listener,
    j08_a_session_resumed_through_another_listener_in_3_1_1,
    |version| {
        let stage = Stage::new();
        stage.rule_natively(
            "[user.alice]\nallow = { all = \"in/#\", listener = \"inner\" }\n[user.root]\nallow = { all = \"#\" }\n",
        );
        let root = stage.enter(version, "root");
        stage.people.come_through("inner");
        let alice = stage.stay(version, "alice");
        alice.subscribes("in/#", 1).vanishes();
        root.publishes(publish("in/x", "queued").at_least_once(1));
        stage.people.come_through("outer");
        let alice = stage.resume(version, "alice");
        alice.hears_nothing();
        root.publishes(publish("in/x", "live").at_least_once(1));
        stage.broker.advance(seconds(1));
        alice.hears_nothing().is_alive();
    }
);
