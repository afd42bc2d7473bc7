//! K01, G08, G11, G15: whose a Session is, and for how long somebody is who it was.

use crate::stage::{Stage, hello, hello_as, not_authorized};
use crate::support::talk::{Client, both, seconds};
use crate::support::wire::{connect, puback, publish, will};
use waypost::access::Token;
use waypost::session::Amount;

both!(k01_someone_elses_client_id, k01_someone_elses_client_id_in_3_1_1, |version| {
    let stage = Stage::new();
    let (root, alice) = (stage.enter(version, "root"), stage.stay(version, "alice"));
    root.subscribes("#", 0);
    alice.subscribes("a/#", 1);
    let intrudes = || {
        for connect in [hello_as(version, "alice", "bob"), hello_as(version, "alice", "bob").persistent()] {
            Client::tries(&stage.broker, version, connect).is_refused(&[not_authorized(version)]);
        }
        // Nor does somebody without a name, or somebody with a Will.
        let nobody = connect(version, "alice");
        Client::tries(&stage.broker, version, nobody).is_refused(&[not_authorized(version)]);
        let connect = hello_as(version, "alice", "bob").will(will("b/x", "his"));
        Client::tries(&stage.broker, version, connect).is_refused(&[not_authorized(version)]);
    };
    intrudes(); // while she is there
    alice.is_alive();
    alice.vanishes();
    root.publishes(publish("a/t", "queued").at_least_once(1));
    intrudes(); // and while she is not
    let heard = root.hears_publishes();
    assert!(heard.iter().all(|publish| publish.topic == b"a/t"), "no Will of an intruder: {heard:?}");
    let alice = stage.resume(version, "alice");
    alice.takes(publish("a/t", "queued").qos(1, 0));
    root.publishes(publish("a/t", "live").at_least_once(2));
    alice.takes(publish("a/t", "live").qos(1, 0));
    alice.disconnects();
});

both!(k01_a_session_without_an_owner_is_replaced, k01_a_session_without_an_owner_is_replaced_in_3_1_1, |version| {
    let stage = Stage::with("topic a/#\nuser alice\ntopic a/#\n");
    let nobody = Client::connects(&stage.broker, connect(version, "alice").persistent());
    nobody.subscribes("a/#", 1).vanishes();
    stage.enter(version, "alice").publishes(publish("a/t", "x").at_least_once(1)).disconnects();
    // Whoever proves who it is takes the name over, and nothing else.
    let alice = stage.stay(version, "alice");
    assert!(!alice.session_present());
    alice.is_alive();
});

both!(k01_its_own_user_takes_a_session_over, k01_its_own_user_takes_a_session_over_in_3_1_1, |version| {
    let stage = Stage::new();
    let first = stage.stay(version, "alice");
    first.subscribes("a/#", 1);
    let second = stage.resume(version, "alice");
    first.is_thrown_out(&[0x8e]);
    second.publishes(publish("a/t", "x").at_least_once(1));
    second.takes(publish("a/t", "x").qos(1, 0));
});

both!(g08_token_runs_out, g08_token_runs_out_in_3_1_1, |version| {
    let stage = Stage::new();
    let root = stage.enter(version, "root");
    root.subscribes("a/#", 0);
    let expires_at = Some(stage.broker.now().plus(seconds(3)));
    stage.people.give_token("alice", Token { expires_at, ..Token::default() });
    let alice = Client::connects(&stage.broker, hello(version, "alice").persistent().will(will("a/will", "hers")));
    alice.subscribes("a/t", 1);
    stage.broker.advance(seconds(2));
    alice.is_alive();
    stage.broker.advance(seconds(2));
    alice.is_thrown_out(&[0x87]);
    root.receives(publish("a/will", "hers"));
    // The Session stays for whoever comes with a new one.
    root.publishes(publish("a/t", "queued").at_least_once(1));
    let expires_at = Some(stage.broker.now().plus(seconds(3)));
    stage.people.give_token("alice", Token { expires_at, ..Token::default() });
    let alice = stage.resume(version, "alice");
    alice.takes(publish("a/t", "queued").qos(1, 0));
});

both!(g11_failed_connect_does_nothing, g11_failed_connect_does_nothing_in_3_1_1, |version| {
    let stage = Stage::new();
    let (root, alice) = (stage.enter(version, "root"), stage.stay(version, "alice"));
    root.subscribes("#", 0);
    alice.subscribes("a/#", 0);
    for connect in [hello(version, "alice"), hello(version, "alice").persistent()] {
        let guesses = connect.password(b"wrong").will(will("a/x", "forged").retain());
        Client::tries(&stage.broker, version, guesses).is_refused(&[if version.is_v5() { 0x86 } else { 4 }]);
    }
    alice.is_alive();
    root.hears_nothing();
    assert_eq!(stage.broker.sessions(), 2);
    assert_eq!(stage.broker.retained("a/x"), None);
});

both!(g15_account_removed_while_connected, g15_account_removed_while_connected_in_3_1_1, |version| {
    let stage = Stage::new();
    let (root, alice) = (stage.enter(version, "root"), stage.stay(version, "alice"));
    alice.subscribes("a/#", 1);
    stage.people.remove("alice");
    stage.look_again();
    alice.is_thrown_out(&[0x87]);
    assert_eq!((stage.broker.sessions(), stage.broker.subscriptions()), (1, 0));
    root.publishes(publish("a/t", "x").at_least_once(1)).is_alive();
    Client::tries(&stage.broker, version, hello(version, "alice")).is_refused(&[if version.is_v5() {
        0x86
    } else {
        4
    }]);
});

both!(g15_account_changed_while_offline, g15_account_changed_while_offline_in_3_1_1, |version| {
    let stage = Stage::new();
    let (root, alice) = (stage.enter(version, "root"), stage.stay(version, "alice"));
    alice.subscribes("a/#", 1).vanishes();
    root.publishes(publish("a/t", "queued").at_least_once(1));
    stage.people.admit("alice", b"another password");
    stage.look_again();
    assert_eq!(stage.broker.sessions(), 1);
    let connect = hello(version, "alice").persistent().password(b"another password");
    let alice = Client::connects(&stage.broker, connect);
    assert!(!alice.session_present());
    alice.is_alive();
});

both!(g15_account_removed_and_made_again, g15_account_removed_and_made_again_in_3_1_1, |version| {
    let stage = Stage::new();
    let alice = stage.stay(version, "alice");
    alice.subscribes("a/#", 1).vanishes();
    stage.people.remove("alice");
    stage.look_again();
    stage.people.admit("alice", b"alice");
    stage.look_again();
    assert!(!stage.stay(version, "alice").session_present());
});

both!(g15_account_removed_during_a_login, g15_account_removed_during_a_login_in_3_1_1, |version| {
    let stage = Stage::new();
    stage.people.take_their_time();
    let alice = Client::tries(&stage.broker, version, hello(version, "alice").persistent());
    alice.hears_nothing();
    // Her password was right when it was looked at. Before she is let in, the account goes.
    stage.people.remove("alice");
    stage.look_again();
    stage.people.answer();
    stage.broker.settle();
    alice.is_refused(&[not_authorized(version)]);
    assert_eq!(stage.broker.sessions(), 0);
});

#[test]
fn g15_many_sessions_of_a_removed_account_go_in_steps() {
    let stage = Stage::new();
    let clients = stage.crowd();
    stage.people.remove("alice");
    stage.look_again();
    assert_eq!(stage.broker.sessions(), 500);
    for (number, client) in clients.iter().enumerate() {
        match (number % 2, number % 3) {
            (0, 0) => client.is_closed(),
            (0, _) => drop(client.is_thrown_out(&[0x87])),
            (_, 0) => {}
            _ => drop(client.is_alive()),
        }
    }
}

both!(
    k10_what_waits_for_all_sessions_of_a_user_is_bounded,
    k10_what_waits_for_all_sessions_of_a_user_is_bounded_in_3_1_1,
    |version| {
        let stage =
            Stage::with_settings(|settings| settings.queue_per_user_max = Amount { messages: 36, bytes: 1 << 20 });
        let is_away = |client_id, user, filter| {
            let client = Client::connects(&stage.broker, hello_as(version, client_id, user).persistent());
            client.subscribes(filter, 1).vanishes();
        };
        is_away("alice-1", "alice", "a/#");
        is_away("alice-2", "alice", "a/#");
        is_away("bob-1", "bob", "b/#");
        let root = stage.enter(version, "root");
        let publishes = |topic, count| {
            for id in 1..=count {
                root.says(publish(topic, id.to_string()).at_least_once(id)).hears_all();
            }
        };
        // Comes back, takes all that waits and goes again.
        let finds = |client_id, user| {
            let client = Client::resumes(&stage.broker, hello_as(version, client_id, user).persistent());
            let mut found = 0;
            loop {
                let heard = client.hears_publishes();
                if heard.is_empty() {
                    client.vanishes();
                    return found;
                }
                found += heard.len();
                heard.iter().filter_map(|one| one.packet_id).for_each(|id| _ = client.says(puback(id)));
            }
        };
        publishes("a/t", 300);
        publishes("b/t", 90);
        assert_eq!(stage.broker.statistics().dropped.queue_full, 2 * (300 - 64 - 18));
        assert_eq!((finds("alice-1", "alice"), finds("bob-1", "bob")), (64 + 18, 90), "64 are free in each Session");
        // What one Session has given back another may have.
        publishes("a/t", 300);
        assert_eq!((finds("alice-1", "alice"), finds("alice-2", "alice")), (64, 64 + 36));
        publishes("a/t", 300);
        assert_eq!((finds("alice-1", "alice"), finds("alice-2", "alice")), (64 + 18, 64 + 18), "all was given back");
    }
);
