//! J09, J10, J16, J18, J19, J20: who may publish.

use crate::stage::{Stage, denied, hello_as};
use crate::support::talk::{Client, both, seconds};
use crate::support::wire::{AckKind, Version, property, puback, pubcomp, publish, pubrec, pubrel, subscribe};
use std::io::Write;
use std::sync::{Arc, Mutex};

both!(j09_denied_publish, j09_denied_publish_in_3_1_1, |version| {
    let stage = Stage::new();
    let (root, mallory) = (stage.enter(version, "root"), stage.enter(version, "mallory"));
    root.subscribes("#", 2);
    let refused = |ack: crate::support::wire::Ack| if version.is_v5() { ack.reason(0x87) } else { ack };
    mallory.says(publish("b/x", "0")).hears_nothing();
    mallory.says(publish("b/x", "1").at_least_once(1)).hears(refused(puback(1)));
    mallory.says(publish("b/x", "2").exactly_once(2)).hears(refused(pubrec(2)));
    if !version.is_v5() {
        mallory.says(pubrel(2)).hears(pubcomp(2));
    }
    mallory.says(publish("b/x", "kept").retain()).hears_nothing();
    mallory.says(publish("b/x", "kept").retain().at_least_once(3)).hears(refused(puback(3)));
    assert_eq!(stage.broker.retained("b/x"), None);
    root.hears_nothing();
    assert_eq!(stage.broker.statistics().denied.total(), 5);
    mallory.is_alive();
});

#[test]
fn j09_denied_publish_by_alias() {
    let stage = Stage::new();
    let (root, alice) = (stage.enter(Version::V5, "root"), stage.enter(Version::V5, "alice"));
    root.subscribes("#", 1);
    let by_alias = |topic: &str, packet_id| publish(topic, "x").at_least_once(packet_id).with(property::topic_alias(1));
    alice.says(by_alias("b/x", 1)).hears(puback(1).reason(0x87)); // the alias is defined, the PUBLISH is denied
    alice.says(by_alias("", 2)).hears(puback(2).reason(0x87));
    root.hears_nothing();
    alice.publishes(by_alias("a/x", 3)).publishes(by_alias("", 4));
    assert_eq!(root.hears_publishes().len(), 2);
}

both!(j09_a_denied_publish_does_not_clear_what_is_retained, j09_nor_in_3_1_1, |version| {
    let stage = Stage::new();
    stage.enter(version, "root").publishes(publish("b/x", "kept").retain().at_least_once(1));
    stage.enter(version, "mallory").says(publish("b/x", "").retain());
    assert_eq!(stage.broker.retained("b/x"), Some(b"kept".to_vec()));
});

both!(j10_right_lost_between_publish_and_pubrel, j10_right_lost_between_publish_and_pubrel_in_3_1_1, |version| {
    let stage = Stage::new();
    let (root, alice) = (stage.enter(version, "root"), stage.stay(version, "alice"));
    root.subscribes("a/#", 0);
    alice.says(publish("a/t", "once").exactly_once(7)).hears(pubrec(7));
    root.receives(publish("a/t", "once")); // a Message is passed on when it comes, not when it is released
    stage.revoke(&["topic a/#"]);
    alice.vanishes();
    let alice = stage.resume(version, "alice");
    alice.says(publish("a/t", "once").exactly_once(7).dup()).hears(pubrec(7));
    alice.says(pubrel(7)).hears(pubcomp(7));
    let again = alice.says(publish("a/t", "new").exactly_once(7)).hears_ack(AckKind::PubRec, 7);
    assert_eq!(again.reason, if version.is_v5() { 0x87 } else { 0 });
    root.hears_nothing();
});

both!(j16_rule_cache, j16_rule_cache_in_3_1_1, |version| {
    let stage = Stage::new();
    let (root, alice) = (stage.enter(version, "root"), stage.enter(version, "alice"));
    root.subscribes("#", 0);
    for round in 0..3 {
        for _ in 0..3 {
            alice.publishes(publish("a/t", "yes").at_least_once(1));
            root.receives(publish("a/t", "yes"));
        }
        stage.revoke(&["topic a/#"]);
        for _ in 0..3 {
            alice.says(publish("a/t", format!("no {round}")).at_least_once(2)).hears_ack(AckKind::PubAck, 2);
            root.hears_nothing();
        }
        stage.look_again();
    }
});

#[test]
fn j16_names_that_look_alike_when_put_together_are_not_mixed_up() {
    let stage = Stage::with("pattern readwrite %u/%c\n");
    stage.people.admit("a:b", b"a:b");
    stage.people.admit("a", b"a");
    let one = Client::connects(&stage.broker, hello_as(Version::V5, "c", "a:b"));
    let other = Client::connects(&stage.broker, hello_as(Version::V5, "b:c", "a"));
    for _ in 0..2 {
        one.says(publish("a:b/c", "").at_least_once(1)).hears(puback(1).reason(0x10));
        one.says(publish("a/b:c", "").at_least_once(1)).hears(puback(1).reason(0x87));
        other.says(publish("a/b:c", "").at_least_once(1)).hears(puback(1).reason(0x10));
        other.says(publish("a:b/c", "").at_least_once(1)).hears(puback(1).reason(0x87));
    }
}

both!(j18_features_that_carry_a_topic_inside, j18_features_that_carry_a_topic_inside_in_3_1_1, |version| {
    let stage = Stage::new();
    let (root, alice) = (stage.enter(version, "root"), stage.enter(version, "alice"));
    root.subscribes("#", 0);
    for topic in ["$delayed/1/b/x", "$exclusive/b/x", "$queue/b/x", "$share/g/b/x", "$delayed/1/a/x"] {
        alice.says(publish(topic, "x"));
    }
    stage.broker.advance(seconds(5));
    root.hears_nothing();
    for filter in ["$queue/b/x", "$exclusive/b/x", "$share/g/b/x"] {
        alice.says(subscribe(1).to(filter, 0)).hears_suback_codes(1, &[denied(version)]);
    }
});

both!(j19_loopback_is_not_special, j19_loopback_is_not_special_in_3_1_1, |version| {
    let stage = Stage::new();
    stage.people.come_from("127.0.0.1".parse().expect("an address"));
    let mallory = stage.enter(version, "mallory");
    mallory.says(subscribe(1).to("a/t", 0)).hears_suback_codes(1, &[denied(version)]);
    mallory.says(publish("a/t", "x").retain());
    assert_eq!(stage.broker.retained("a/t"), None);
});

both!(j20_tenants, j20_tenants_in_3_1_1, |version| {
    let stage = Stage::with("pattern readwrite %u/#\nuser root\ntopic #\n");
    let (alice, bob) = (stage.enter(version, "alice"), stage.enter(version, "bob"));
    bob.subscribes("bob/#", 0);
    bob.publishes(publish("bob/kept", "his").retain().at_least_once(1));
    bob.hears_publishes();
    let tries = ["bob/x", "alice/../bob/x", "../bob/x", "/bob/x", "bob", "$SYS/bob", "$share/g/bob/x"];
    for topic in tries {
        alice.says(publish(topic, "hers").at_least_once(1)).hears_all();
        alice.says(publish(topic, "hers").retain());
    }
    bob.hears_nothing();
    let filters = ["bob/#", "+/#", "#", "/bob/#", "bob/kept", "$share/bob/bob/#", "$share/g/#", "+/kept"];
    for filter in filters {
        alice.says(subscribe(2).to(filter, 0)).hears_suback_codes(2, &[denied(version)]);
    }
    bob.publishes(publish("bob/x", "his").at_least_once(3));
    alice.hears_nothing();
    assert_eq!(stage.broker.retained("bob/kept"), Some(b"his".to_vec()));
});

#[test]
fn the_log_line_of_a_denial_names_the_rule() {
    let stage = Stage::with("# rules\nuser alice\ntopic a/#\ntopic deny a/secret\n");
    // The lines of this class are counted by the second, in the whole process: one in which no other test is.
    stage.broker.advance(seconds(86_400));
    let heard = Log::default();
    let (writer, alice) = (heard.clone(), stage.enter(Version::V5, "alice"));
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    tracing::subscriber::with_default(subscriber, || {
        alice.says(publish("a/secret", "x").at_least_once(1)).hears(puback(1).reason(0x87));
        alice.says(subscribe(2).to("b\u{7}/#", 0));
    });
    let text = heard.text();
    assert!(text.contains("publish denied") && text.contains("acl.conf:4 (user alice): topic deny a/secret"), "{text}");
    assert!(text.contains("subscribe denied") && text.contains("no rule allows it"), "{text}");
    assert!(!text.contains('\u{7}'), "what a peer says is escaped: {text}");
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().expect("nobody panics in here").clone()).expect("a log is text")
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("nobody panics in here").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
