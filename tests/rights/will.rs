//! L01 and J14: the last word of somebody who may not say it.

use crate::stage::{Stage, hello, not_authorized};
use crate::support::talk::{Client, both, seconds};
use crate::support::wire::{Version, property, publish, will};

both!(l01_will_to_a_denied_topic, l01_will_to_a_denied_topic_in_3_1_1, |version| {
    let stage = Stage::new();
    let root = stage.enter(version, "root");
    root.subscribes("#", 0).subscribes("$SYS/#", 0);
    for topic in ["b/x", "$SYS/x", "$CONTROL/x", "pub/x"] {
        let connect = hello(version, "alice").will(will(topic, "hers").retain());
        Client::tries(&stage.broker, version, connect).is_refused(&[not_authorized(version)]);
    }
    assert_eq!(stage.broker.sessions(), 1, "a refused CONNECT leaves no Session");
    root.hears_nothing();
    let alice = Client::connects(&stage.broker, hello(version, "alice").will(will("a/x", "hers")));
    alice.vanishes();
    root.receives(publish("a/x", "hers"));
});

both!(l01_a_refused_will_disturbs_nobody, l01_a_refused_will_disturbs_nobody_in_3_1_1, |version| {
    let stage = Stage::new();
    let (root, alice) = (stage.enter(version, "root"), stage.stay(version, "alice"));
    alice.subscribes("a/#", 0);
    let connect = hello(version, "alice").will(will("b/x", "hers"));
    Client::tries(&stage.broker, version, connect).is_refused(&[not_authorized(version)]);
    root.publishes(publish("a/x", "x").at_least_once(1));
    alice.receives(publish("a/x", "x"));
    alice.is_alive();
});

both!(j14_writer_revoked_will_stays, j14_writer_revoked_will_stays_in_3_1_1, |version| {
    let stage = Stage::new();
    let root = stage.enter(version, "root");
    root.subscribes("#", 0);
    let alice = Client::connects(&stage.broker, hello(version, "alice").will(will("a/x", "hers").retain()));
    stage.revoke(&["topic a/#"]);
    alice.vanishes();
    root.hears_nothing();
    assert_eq!(stage.broker.retained("a/x"), None);
});

#[test]
fn j14_writer_revoked_while_its_will_waits() {
    let stage = Stage::new();
    let root = stage.enter(Version::V5, "root");
    root.subscribes("#", 0);
    let delayed = will("a/x", "hers").with(property::will_delay_interval(10));
    let alice = Client::connects(&stage.broker, hello(Version::V5, "alice").persistent().will(delayed.clone()));
    alice.vanishes();
    stage.broker.advance(seconds(5));
    stage.revoke(&["topic a/#"]);
    stage.broker.advance(seconds(10));
    root.hears_nothing();
    // A right that comes back later wakes no Will that is over.
    stage.look_again();
    stage.broker.advance(seconds(10));
    root.hears_nothing();
    let alice = Client::resumes(&stage.broker, hello(Version::V5, "alice").persistent().will(delayed));
    alice.vanishes();
    stage.broker.advance(seconds(11));
    root.receives(publish("a/x", "hers"));
}

both!(j14_receiver_revoked_before_a_will, j14_receiver_revoked_before_a_will_in_3_1_1, |version| {
    let stage = Stage::new();
    let alice = stage.enter(version, "alice");
    alice.subscribes("a/#", 0);
    let goes = Client::connects(&stage.broker, hello(version, "root").will(will("a/x", "its")));
    stage.revoke(&["topic a/#"]);
    goes.vanishes();
    alice.is_alive();
});
