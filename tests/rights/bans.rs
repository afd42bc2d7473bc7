//! J15: users, Client Identifiers and addresses that are banned.

use crate::stage::{Stage, banned, hello, hello_as};
use crate::support::talk::{Client, both, seconds};
use crate::support::wire::{Version, connect, property, publish, pubrec, will};

/// Alice by her name, by her Client Identifier and by where she is, if she is at 10.0.0.1.
const ALICE: [&str; 3] =
    ["[[ban]]\nuser = 'alice'\n", "[[ban]]\nclient_id = 'alice'\n", "[[ban]]\naddress = '10.0.0.0/24'\n"];

/// Alice is at 10.0.0.1, and everybody who comes later is somewhere else.
fn alice_comes(stage: &Stage, connect: crate::support::wire::Connect) -> Client {
    stage.people.come_from([10, 0, 0, 1].into());
    let alice = Client::connects(&stage.broker, connect);
    stage.people.come_from([10, 9, 9, 9].into());
    alice
}

fn alice_stays_outside(stage: &Stage, version: Version) {
    stage.people.come_from([10, 0, 0, 1].into());
    for connect in [hello(version, "alice"), hello(version, "alice").persistent().will(will("a/x", "hers"))] {
        Client::tries(&stage.broker, version, connect).is_refused(&[banned(version)]);
    }
    stage.people.come_from([10, 9, 9, 9].into());
}

both!(j15_banned_while_connected, j15_banned_while_connected_in_3_1_1, |version| {
    for ban in ALICE {
        let stage = Stage::new();
        let alice = alice_comes(&stage, hello(version, "alice").persistent().will(will("a/x", "her Will").retain()));
        let (root, bob) = (stage.enter(version, "root"), stage.enter(version, "bob"));
        root.subscribes("#", 0);
        alice.subscribes("a/#", 1).subscribes("$share/g/a/#", 1);
        bob.subscribes("b/#", 0);
        stage.ban(ban);
        alice.is_thrown_out(&[0x98]);
        root.hears_nothing();
        assert_eq!(stage.broker.retained("a/x"), None, "no Will of somebody who is banned");
        assert_eq!((stage.broker.sessions(), stage.broker.subscriptions()), (2, 2), "and no Session");
        alice_stays_outside(&stage, version);
        root.hears_nothing();
        // Others are not touched.
        bob.publishes(publish("b/x", "x").at_least_once(1)).receives(publish("b/x", "x"));
        root.receives(publish("b/x", "x"));
        // The ban ends; what was hers does not come back.
        stage.look_again();
        stage.people.come_from([10, 0, 0, 1].into());
        let alice = stage.stay(version, "alice");
        assert!(!alice.session_present());
        alice.is_alive();
    }
});

both!(j15_banned_while_away, j15_banned_while_away_in_3_1_1, |version| {
    for ban in ALICE {
        let stage = Stage::new();
        let alice = alice_comes(&stage, hello(version, "alice").persistent());
        let root = stage.enter(version, "root");
        alice.subscribes("a/#", 2).vanishes();
        for qos in [1, 2] {
            root.publishes(publish("a/t", "queued").qos(qos, 1));
        }
        stage.ban(ban);
        assert_eq!((stage.broker.sessions(), stage.broker.subscriptions()), (1, 0));
        alice_stays_outside(&stage, version);
        stage.look_again();
        stage.people.come_from([10, 0, 0, 1].into());
        let alice = stage.stay(version, "alice");
        assert!(!alice.session_present());
        alice.hears_nothing().is_alive();
    }
});

#[test]
fn j15_a_delayed_will_of_somebody_who_is_banned() {
    for ban in ALICE {
        let stage = Stage::new();
        let delayed = will("a/x", "hers").retain().with(property::will_delay_interval(10));
        let alice = alice_comes(&stage, hello(Version::V5, "alice").persistent().will(delayed));
        let root = stage.enter(Version::V5, "root");
        root.subscribes("#", 0);
        alice.vanishes();
        stage.broker.advance(seconds(5));
        stage.ban(ban);
        stage.broker.advance(seconds(10));
        root.hears_nothing();
        assert_eq!((stage.broker.retained("a/x"), stage.broker.sessions()), (None, 1));
        stage.look_again();
        stage.broker.advance(seconds(10));
        root.hears_nothing();
    }
}

both!(j15_what_lies_in_other_queues_stays, j15_what_lies_in_other_queues_stays_in_3_1_1, |version| {
    let stage = Stage::new();
    let (alice, root) = (stage.enter(version, "alice"), stage.stay(version, "root"));
    root.subscribes("a/#", 2).vanishes();
    alice.publishes(publish("a/1", "hers").at_least_once(1));
    alice.publishes(publish("a/kept", "hers").retain().at_least_once(2));
    // Of QoS 2 it was ours with the PUBREC, whether she can still say PUBREL or not.
    alice.says(publish("a/2", "hers").exactly_once(3)).hears(pubrec(3));
    stage.ban("[[ban]]\nuser = 'alice'\n");
    alice.is_thrown_out(&[0x98]);
    let root = stage.resume(version, "root");
    let heard = root.hears_publishes();
    let topics: Vec<&[u8]> = heard.iter().map(|publish| publish.topic.as_slice()).collect();
    assert_eq!(topics.len(), 3, "{topics:?}");
    assert_eq!(stage.broker.retained("a/kept"), Some(b"hers".to_vec()));
});

both!(j15_a_name_that_nobody_has_proved, j15_a_name_that_nobody_has_proved_in_3_1_1, |version| {
    // Nobody asks for passwords here.
    let broker = crate::support::TestBroker::new();
    let rules = |text: &str| {
        let sources =
            [waypost::access::Source { name: "acl.toml", text: text.as_bytes(), form: waypost::access::Form::Native }];
        let rules = waypost::access::Rules::read(&sources).expect("the bans of a test are bans");
        broker.set_access(waypost::access::Access::with_rules(rules));
    };
    let everyone = "[everyone]\nallow = { all = '#' }\n";
    rules(everyone);
    let (mallory, nobody) = (
        Client::connects(&broker, connect(version, "one").user_name("mallory")),
        Client::connects(&broker, connect(version, "mallory")),
    );
    rules(&format!("{everyone}[[ban]]\nuser = 'mallory'\n"));
    mallory.is_thrown_out(&[0x98]);
    nobody.is_alive();
    let again = connect(version, "two").user_name("mallory");
    Client::tries(&broker, version, again).is_refused(&[banned(version)]);
    Client::connects(&broker, connect(version, "one")).is_alive();
});

both!(j15_a_ban_ends, j15_a_ban_ends_in_3_1_1, |version| {
    let stage = Stage::new();
    let alice = stage.enter(version, "alice");
    stage.ban("[[ban]]\nuser = 'alice'\nuntil = 1970-01-01T00:01:00Z\nreason = 'a minute to think'\n");
    alice.is_thrown_out(&[0x98]);
    stage.broker.advance(seconds(59));
    Client::tries(&stage.broker, version, hello(version, "alice")).is_refused(&[banned(version)]);
    stage.broker.advance(seconds(1));
    stage.enter(version, "alice").is_alive();
});

both!(j15_banned_during_a_login, j15_banned_during_a_login_in_3_1_1, |version| {
    for ban in ALICE {
        let stage = Stage::new();
        stage.people.take_their_time();
        stage.people.come_from([10, 0, 0, 1].into());
        let alice = Client::tries(&stage.broker, version, hello(version, "alice").persistent());
        alice.hears_nothing();
        stage.ban(ban);
        stage.people.answer();
        stage.broker.settle();
        alice.is_refused(&[banned(version)]);
        assert_eq!(stage.broker.sessions(), 0);
    }
});

both!(j15_a_banned_intruder_disturbs_nobody, j15_a_banned_intruder_disturbs_nobody_in_3_1_1, |version| {
    let stage = Stage::new();
    stage.ban("[[ban]]\nuser = 'mallory'\n");
    let alice = stage.stay(version, "alice");
    alice.subscribes("a/#", 1);
    for connect in [hello_as(version, "alice", "mallory"), hello_as(version, "alice", "mallory").persistent()] {
        Client::tries(&stage.broker, version, connect).is_refused(&[banned(version)]);
    }
    alice.is_alive();
});

#[test]
fn j15_many_who_are_banned_go_in_steps() {
    let stage = Stage::new();
    let clients = stage.crowd();
    stage.ban("[[ban]]\nuser = 'alice'\n");
    assert_eq!(stage.broker.sessions(), 500);
    for (number, client) in clients.iter().enumerate() {
        match (number % 2, number % 3) {
            (_, 0) => {}
            (0, _) => drop(client.is_thrown_out(&[0x98])),
            _ => drop(client.is_alive()),
        }
    }
}
