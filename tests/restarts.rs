//! What survives a process that ends, in order or without a word: conversations with a broker whose store is a real one.

mod support;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use support::TestBroker;
use support::talk::{Client, both};
use support::wire::{
    Connect, PINGREQ, Packet, Parsed, Version, connect, connect_v5, options, property, puback, pubcomp, publish,
    pubrec, pubrel, will,
};
use waypost::broker::TABLES;
use waypost::store::{Options, Store};

/// A broker with a store in a folder of its own.
fn broker() -> TestBroker {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("restarts-{}-{number}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    TestBroker::on_disk(
        |_| (),
        false,
        move || {
            let options = Options { segment_size: 1 << 16, ..Options::default() };
            Store::open(&folder, options, &mut |_, _| ()).expect("the folder is ours").0
        },
    )
}

const AT_ONCE: Duration = Duration::ZERO;

fn lasting(version: Version, client_id: &str) -> Connect {
    connect(version, client_id).persistent()
}

both!(what_waits_for_a_client_that_is_away, what_waits_for_a_client_that_is_away_in_3_1_1, |version| {
    let broker = broker();
    Client::connects(&broker, lasting(version, "away")).subscribes("t/#", 2).vanishes();
    let publisher = Client::connects(&broker, connect(version, "publisher"));
    publisher.publishes(publish("t/0", "0")).publishes(publish("t/1", "1").at_least_once(1));
    publisher.publishes(publish("t/2", "2").exactly_once(2)).publishes(publish("else", "3").at_least_once(3));
    for _ in 0..3 {
        broker.is_killed(AT_ONCE);
    }
    let away = Client::resumes(&broker, lasting(version, "away"));
    away.receives_in_any_order([publish("t/1", "1").at_least_once(0), publish("t/2", "2").exactly_once(0)]);
    // Its subscription is there, and what is settled does not come back.
    Client::connects(&broker, connect(version, "publisher")).publishes(publish("t/4", "4").at_least_once(1));
    away.takes(publish("t/4", "4").at_least_once(0));
});

both!(what_is_settled_stays_settled, what_is_settled_stays_settled_in_3_1_1, |version| {
    let broker = broker();
    let subscriber = Client::connects(&broker, lasting(version, "subscriber"));
    subscriber.subscribes("t", 2);
    let publisher = Client::connects(&broker, connect(version, "publisher"));
    for qos in [1, 2] {
        publisher.publishes(publish("t", "x").qos(qos, 1));
        subscriber.takes(publish("t", "x").qos(qos, 0));
    }
    broker.is_killed(AT_ONCE);
    Client::resumes(&broker, lasting(version, "subscriber")).hears_nothing();
});

both!(a_delivery_of_qos_2_goes_on_where_it_was, a_delivery_of_qos_2_goes_on_where_it_was_in_3_1_1, |version| {
    let broker = broker();
    let subscriber = Client::connects(&broker, lasting(version, "subscriber"));
    subscriber.subscribes("t/#", 2);
    let publisher = Client::connects(&broker, connect(version, "publisher"));
    publisher.publishes(publish("t/1", "1").exactly_once(1)).publishes(publish("t/2", "2").exactly_once(2));
    let ids = subscriber.receives_all([publish("t/1", "1").exactly_once(0), publish("t/2", "2").exactly_once(0)]);
    subscriber.says(pubrec(ids[0])).hears(pubrel(ids[0]));
    broker.is_killed(AT_ONCE);
    let subscriber = Client::resumes(&broker, lasting(version, "subscriber"));
    subscriber.hears_in_any_order(vec![pubrel(ids[0]).into(), publish("t/2", "2").exactly_once(ids[1]).dup().into()]);
    subscriber.says(pubcomp(ids[0])).says(pubrec(ids[1])).hears(pubrel(ids[1])).says(pubcomp(ids[1]));
    broker.is_killed(AT_ONCE);
    Client::resumes(&broker, lasting(version, "subscriber")).hears_nothing();
});

both!(a_message_of_qos_2_is_taken_once, a_message_of_qos_2_is_taken_once_in_3_1_1, |version| {
    for between in [0, 1] {
        let broker = broker();
        Client::connects(&broker, lasting(version, "away")).subscribes("t", 2).vanishes();
        // In the same shard as the subscriber, and in another one.
        (0..between).for_each(|number| drop(Client::connects(&broker, connect(version, &format!("between-{number}")))));
        let publisher = Client::connects(&broker, lasting(version, "publisher"));
        publisher.says(publish("t", "x").exactly_once(7)).hears(pubrec(7));
        broker.is_killed(AT_ONCE);
        // It has not seen the PUBREC, or has: both are as if nothing had happened.
        let publisher = Client::resumes(&broker, lasting(version, "publisher"));
        publisher.says(publish("t", "x").exactly_once(7).dup()).hears(pubrec(7)).says(pubrel(7)).hears(pubcomp(7));
        broker.is_killed(AT_ONCE);
        // And the identifier is free for the next.
        let publisher = Client::resumes(&broker, lasting(version, "publisher"));
        publisher.says(publish("t", "y").exactly_once(7)).hears(pubrec(7)).says(pubrel(7)).hears(pubcomp(7));
        let away = Client::resumes(&broker, lasting(version, "away"));
        away.receives_all([publish("t", "x").exactly_once(0), publish("t", "y").exactly_once(0)]);
    }
});

both!(
    what_was_sent_keeps_its_identifier_over_an_orderly_stop,
    what_was_sent_keeps_its_identifier_in_3_1_1,
    |version| {
        let broker = broker();
        let subscriber = Client::connects(&broker, lasting(version, "subscriber"));
        subscriber.subscribes("t", 1);
        let publisher = Client::connects(&broker, connect(version, "publisher"));
        publisher.publishes(publish("t", "1").at_least_once(1)).publishes(publish("t", "2").at_least_once(2));
        let ids = subscriber.receives_all([publish("t", "1").at_least_once(0), publish("t", "2").at_least_once(0)]);
        subscriber.says(puback(ids[0])).says(PINGREQ);
        broker.restarts(AT_ONCE);
        let subscriber = Client::resumes(&broker, lasting(version, "subscriber"));
        subscriber.hears(publish("t", "2").at_least_once(ids[1]).dup());
    }
);

both!(retained_messages, retained_messages_in_3_1_1, |version| {
    let broker = broker();
    let publisher = Client::connects(&broker, connect(version, "publisher"));
    publisher.publishes(publish("kept/0", "0").retain()).publishes(publish("kept/1", "1").at_least_once(1).retain());
    publisher.publishes(publish("kept/1", "one").exactly_once(1).retain());
    publisher.publishes(publish("gone", "x").retain()).publishes(publish("gone", "").retain());
    for _ in 0..2 {
        broker.is_killed(AT_ONCE);
        let reader = Client::connects(&broker, connect(version, "reader"));
        reader.subscribes("#", 2);
        reader.receives_in_any_order([
            publish("kept/0", "0").retain(),
            publish("kept/1", "one").exactly_once(0).retain(),
        ]);
    }
});

both!(what_a_client_has_ended_is_gone, what_a_client_has_ended_is_gone_in_3_1_1, |version| {
    let broker = broker();
    let client = Client::connects(&broker, lasting(version, "client"));
    client.subscribes("a", 1).subscribes("b", 1).unsubscribes("a").vanishes();
    let publisher = || Client::connects(&broker, connect(version, "publisher"));
    publisher().publishes(publish("a", "x").at_least_once(1)).publishes(publish("b", "y").at_least_once(2));
    broker.is_killed(AT_ONCE);
    Client::resumes(&broker, lasting(version, "client")).takes(publish("b", "y").at_least_once(0)).vanishes();
    // Clean Start ends it, and nothing of it comes back.
    let clean = connect(version, "client");
    Client::connects(&broker, clean).vanishes();
    broker.is_killed(AT_ONCE);
    let client = Client::connects(&broker, lasting(version, "client"));
    assert!(!client.session_present());
    publisher().publishes(publish("b", "z").at_least_once(1));
    client.hears_nothing();
});

#[test]
fn sessions_of_clients_that_do_not_stay_are_not_kept() {
    let broker = broker();
    let client = Client::connects(&broker, connect_v5("passing"));
    client.subscribes("t", 2);
    broker.is_killed(AT_ONCE);
    assert_eq!(broker.sessions(), 0);
}

#[test]
fn time_passes_while_nobody_is_there() {
    let broker = broker();
    let short = || connect_v5("short").with(property::session_expiry_interval(60));
    Client::connects(&broker, short()).subscribes("t", 1).vanishes();
    Client::connects(&broker, lasting(Version::V5, "long")).subscribes("t", 1).vanishes();
    let publisher = Client::connects(&broker, connect_v5("publisher"));
    publisher.publishes(publish("t", "stale").at_least_once(1).with(property::message_expiry_interval(30)));
    publisher.publishes(publish("t", "fresh").at_least_once(2).with(property::message_expiry_interval(300)));
    publisher.publishes(publish("r/stale", "x").retain().with(property::message_expiry_interval(30)));
    broker.is_killed(Duration::from_secs(100));
    let long = Client::resumes(&broker, lasting(Version::V5, "long"));
    long.takes(publish("t", "fresh").at_least_once(0).with(property::message_expiry_interval(200)));
    long.subscribes("r/#", 0).hears_nothing();
    assert!(!Client::connects(&broker, short()).session_present());
}

#[test]
fn a_will_that_waits_goes_out_when_its_time_has_come() {
    let farewell = |seconds| will("will", "farewell").with(property::will_delay_interval(seconds));
    let with_will = |seconds| lasting(Version::V5, "mortal").will(farewell(seconds));
    let listener = |broker: &TestBroker| {
        let listener = Client::connects(broker, connect_v5("listener"));
        listener.subscribes("will", 0);
        listener
    };
    // It had gone before the process ended.
    let broker = broker();
    Client::connects(&broker, with_will(100)).vanishes();
    broker.advance(Duration::from_secs(20));
    broker.is_killed(Duration::from_secs(30));
    let waiting = listener(&broker);
    broker.advance(Duration::from_secs(40));
    waiting.hears_nothing();
    broker.advance(Duration::from_secs(20));
    waiting.hears(publish("will", "farewell"));
    broker.is_killed(AT_ONCE);
    let waiting = listener(&broker);
    broker.advance(Duration::from_secs(200));
    waiting.hears_nothing(); // once
    // It was there when the process ended, and comes back in time.
    Client::connects(&broker, with_will(100));
    broker.is_killed(Duration::from_secs(50));
    let waiting = listener(&broker);
    Client::resumes(&broker, lasting(Version::V5, "mortal")).disconnects();
    broker.advance(Duration::from_secs(200));
    waiting.hears_nothing();
}

#[test]
fn several_subscription_identifiers_come_back() {
    let broker = broker();
    let client = Client::connects(&broker, lasting(Version::V5, "client"));
    client.subscribes_with(support::wire::subscribe(1).to("a/#", 1).with(property::subscription_identifier(7)));
    client.subscribes_with(support::wire::subscribe(2).to("a/b", 2).with(property::subscription_identifier(9)));
    client.vanishes();
    let publisher = Client::connects(&broker, connect_v5("publisher"));
    publisher.publishes(publish("a/b", "x").exactly_once(1));
    broker.is_killed(AT_ONCE);
    let client = Client::resumes(&broker, lasting(Version::V5, "client"));
    let heard = client.hears_publishes();
    let [only] = &heard[..] else { panic!("{heard:?}") };
    let ids = only.properties.iter().filter(|property| property.0 == 0x0b).count();
    assert_eq!((ids, only.qos), (2, 2));
    publisher_again(&broker).publishes(publish("a/c", "y").at_least_once(1));
    let heard = client.hears_publishes();
    assert!(matches!(&heard[..], [one] if one.properties.iter().filter(|property| property.0 == 0x0b).count() == 1));
}

fn publisher_again(broker: &TestBroker) -> Client {
    Client::connects(broker, connect_v5("publisher"))
}

#[test]
fn no_local_and_retain_as_published_come_back() {
    let broker = broker();
    let client = Client::connects(&broker, lasting(Version::V5, "client"));
    client.subscribes("t", 1 | options::NO_LOCAL | options::RETAIN_AS_PUBLISHED);
    broker.is_killed(AT_ONCE);
    let client = Client::resumes(&broker, lasting(Version::V5, "client"));
    client.publishes(publish("t", "own").at_least_once(1)).hears_nothing();
    publisher_again(&broker).publishes(publish("t", "other").at_least_once(1).retain());
    let heard: Vec<Parsed> = client.hears_all();
    assert!(matches!(&heard[..], [Parsed::Publish(one)] if one.retain), "{heard:?}");
}

// Shared subscriptions. The broker has two shards, and Clients are put into them in turn: some members live at the home of
// their group, some do not.

const GROUP: &str = "$share/group/t/#";

both!(what_waits_in_a_group, what_waits_in_a_group_in_3_1_1, |version| {
    for between in [0, 1] {
        let broker = broker();
        for name in ["one", "other"] {
            Client::connects(&broker, lasting(version, name)).subscribes(GROUP, 2).vanishes();
        }
        // Home of the group or not, the publisher waits for it.
        (0..between).for_each(|number| drop(Client::connects(&broker, connect(version, &format!("between-{number}")))));
        let publisher = Client::connects(&broker, lasting(version, "publisher"));
        publisher.publishes(publish("t/0", "0")).publishes(publish("t/1", "1").at_least_once(1));
        publisher.publishes(publish("t/2", "2").exactly_once(2)).publishes(publish("else", "3").at_least_once(3));
        for _ in 0..3 {
            broker.is_killed(AT_ONCE);
        }
        let other = Client::resumes(&broker, lasting(version, "other"));
        let waited = [publish("t/1", "1").at_least_once(0), publish("t/2", "2").exactly_once(0)];
        other.receives_in_any_order(waited);
        let one = Client::resumes(&broker, lasting(version, "one"));
        one.hears_nothing();
        // Both are members still.
        let publisher = Client::resumes(&broker, lasting(version, "publisher"));
        publisher.publishes(publish("t/4", "4").at_least_once(1)).publishes(publish("t/5", "5").at_least_once(2));
        let heard: Vec<usize> = [&one, &other].map(|member| member.hears_publishes().len()).into();
        assert_eq!(heard, [1, 1]);
    }
});

both!(
    what_a_member_has_not_acknowledged_goes_to_another,
    what_a_member_has_not_acknowledged_goes_to_another_in_3_1_1,
    |version| {
        // The one that has it may have a Session that lasts or not, and live in this shard or that one.
        for (holder, first) in [(lasting as fn(Version, &str) -> Connect, 0), (lasting, 1), (connect, 0), (connect, 1)]
        {
            let broker = broker();
            let join = |number: usize| {
                let connect = if number == first { holder(version, "holder") } else { lasting(version, "away") };
                let member = Client::connects(&broker, connect);
                member.subscribes(GROUP, 1);
                member
            };
            let [holder, away] = if first == 0 {
                [join(0), join(1)]
            } else {
                let away = join(0);
                [join(1), away]
            };
            away.vanishes();
            let publisher = Client::connects(&broker, connect(version, "publisher"));
            publisher.publishes(publish("t", "1").at_least_once(1)).publishes(publish("t", "2").exactly_once(2));
            let ids = holder.receives_all([publish("t", "1").at_least_once(0), publish("t", "2").at_least_once(0)]);
            holder.says(puback(ids[0]));
            broker.is_killed(AT_ONCE);
            let away = Client::resumes(&broker, lasting(version, "away"));
            let id =
                away.hears_publishes()[..].iter().map(|one| (one.payload.clone(), one.packet_id)).collect::<Vec<_>>();
            let [(payload, Some(id))] = &id[..] else { panic!("{id:?}") };
            assert_eq!(payload, b"2");
            away.says(puback(*id)).vanishes();
            broker.is_killed(AT_ONCE);
            Client::resumes(&broker, lasting(version, "away")).hears_nothing();
        }
    }
);

both!(an_exchange_of_qos_2_stays_with_its_member, an_exchange_of_qos_2_stays_with_its_member_in_3_1_1, |version| {
    for first in ["member", "other"] {
        let broker = broker();
        let join = |name: &str| {
            let member = Client::connects(&broker, lasting(version, name));
            member.subscribes(GROUP, 2);
            member
        };
        let (mut member, mut other) = (None, None);
        for name in if first == "member" { ["member", "other"] } else { ["other", "member"] } {
            *(if name == "member" { &mut member } else { &mut other }) = Some(join(name));
        }
        let (Some(member), Some(other)) = (member, other) else { panic!("both have joined") };
        other.vanishes();
        let publisher = Client::connects(&broker, connect(version, "publisher"));
        publisher.publishes(publish("t", "1").exactly_once(1)).publishes(publish("t", "2").exactly_once(2));
        let ids = member.receives_all([publish("t", "1").exactly_once(0), publish("t", "2").exactly_once(0)]);
        member.says(pubrec(ids[0])).hears(pubrel(ids[0]));
        broker.is_killed(AT_ONCE);
        // It is the member's to end, whoever else is there.
        let other = Client::resumes(&broker, lasting(version, "other"));
        other.hears_nothing();
        let member = Client::resumes(&broker, lasting(version, "member"));
        member.hears_in_any_order(vec![pubrel(ids[0]).into(), publish("t", "2").exactly_once(ids[1]).dup().into()]);
        member.says(pubcomp(ids[0])).says(pubrec(ids[1])).hears(pubrel(ids[1])).says(pubcomp(ids[1]));
        broker.is_killed(AT_ONCE);
        Client::resumes(&broker, lasting(version, "member")).hears_nothing();
        Client::resumes(&broker, lasting(version, "other")).hears_nothing();
    }
});

#[test]
fn an_exchange_of_qos_2_with_a_session_that_does_not_last() {
    for is_received in [false, true] {
        let broker = broker();
        Client::connects(&broker, lasting(Version::V5, "away")).subscribes(GROUP, 2).vanishes();
        let passing = Client::connects(&broker, connect_v5("passing"));
        passing.subscribes(GROUP, 2);
        publisher_again(&broker).publishes(publish("t", "x").exactly_once(1));
        let id = passing.receives(publish("t", "x").exactly_once(0));
        if is_received {
            passing.says(pubrec(id)).hears(pubrel(id));
        }
        broker.is_killed(AT_ONCE);
        // The Session is gone: it comes to the group again, unless its Client has it.
        let away = Client::resumes(&broker, lasting(Version::V5, "away"));
        if is_received {
            away.hears_nothing()
        } else {
            away.takes(publish("t", "x").exactly_once(0))
        };
    }
}

#[test]
fn an_exchange_of_qos_2_ends_with_a_session_that_ends() {
    let broker = broker();
    Client::connects(&broker, lasting(Version::V5, "away")).subscribes(GROUP, 2).vanishes();
    let passing = Client::connects(&broker, connect_v5("passing"));
    passing.subscribes(GROUP, 2);
    publisher_again(&broker).publishes(publish("t", "x").exactly_once(1));
    passing.receives(publish("t", "x").exactly_once(0));
    passing.vanishes();
    for _ in 0..2 {
        // [MQTT-4.8.2-5]
        Client::resumes(&broker, lasting(Version::V5, "away")).hears_nothing().vanishes();
        broker.is_killed(AT_ONCE);
    }
}

/// Shared subscriptions that the store knew when it was opened.
fn groups(store: &Store) -> usize {
    let (table, _) = TABLES.iter().find(|(_, name)| *name == "shared subscriptions").expect("there is such a table");
    let mut count = 0;
    store.rows(*table, &mut |_, _, _| count += 1).expect("the store can be read");
    count
}

both!(a_group_ends_with_its_last_member, a_group_ends_with_its_last_member_in_3_1_1, |version| {
    let publisher = |broker: &TestBroker| Client::connects(broker, connect(version, "publisher"));
    for leaves in ["unsubscribes", "ends", "expires"] {
        let broker = broker();
        let member = Client::connects(&broker, lasting(version, "member"));
        member.subscribes(GROUP, 1).vanishes();
        publisher(&broker).publishes(publish("t", "x").at_least_once(1));
        match leaves {
            "unsubscribes" => {
                let member = Client::resumes(&broker, lasting(version, "member"));
                let id = member.receives(publish("t", "x").at_least_once(0));
                member.unsubscribes(GROUP);
                // What it was given is its own, and the group is another from now on.
                member.subscribes(GROUP, 1);
                broker.is_killed(AT_ONCE);
                let member = Client::resumes(&broker, lasting(version, "member"));
                member.hears(publish("t", "x").at_least_once(id).dup()).says(puback(id)).unsubscribes(GROUP);
            }
            "ends" => drop(Client::connects(&broker, connect(version, "member"))),
            _ => broker.is_killed(Duration::from_secs(8 * 24 * 3600)),
        }
        broker.is_killed(AT_ONCE);
        broker.is_killed_on(AT_ONCE, |store| {
            let mut queues = 0;
            store.entries(&mut |_, _, _, _, _| queues += 1).expect("the store can be read");
            assert_eq!((groups(store), queues), (0, 0), "one that {leaves}");
        });
        let member = Client::connects(&broker, lasting(version, "member"));
        member.subscribes(GROUP, 1).hears_nothing();
        // And the next under that name is kept as the first was.
        member.vanishes();
        publisher(&broker).publishes(publish("t", "y").at_least_once(1));
        broker.is_killed(AT_ONCE);
        Client::resumes(&broker, lasting(version, "member")).takes(publish("t", "y").at_least_once(0));
    }
});

#[test]
fn a_group_without_lasting_sessions_ends_with_the_process() {
    let broker = broker();
    let passing = Client::connects(&broker, connect_v5("passing"));
    let lasting_once = Client::connects(&broker, lasting(Version::V5, "member"));
    passing.subscribes(GROUP, 1);
    lasting_once.subscribes(GROUP, 1).unsubscribes(GROUP);
    publisher_again(&broker).publishes(publish("t", "x").at_least_once(1));
    passing.receives(publish("t", "x").at_least_once(0));
    broker.is_killed(AT_ONCE);
    Client::resumes(&broker, lasting(Version::V5, "member")).subscribes(GROUP, 1).hears_nothing();
}

#[test]
fn what_waits_already_is_kept_once_a_lasting_session_joins() {
    let broker = broker();
    let passing = Client::connects(&broker, connect_v5("passing").with(property::receive_maximum(1)));
    passing.subscribes(GROUP, 2);
    let publisher = publisher_again(&broker);
    for (number, payload) in [(1, "1"), (2, "2"), (3, "3")] {
        publisher.publishes(publish("t", payload).exactly_once(number));
    }
    passing.receives(publish("t", "1").exactly_once(0));
    let member = Client::connects(&broker, lasting(Version::V5, "member").with(property::receive_maximum(1)));
    member.subscribes(GROUP, 2);
    let id = member.receives(publish("t", "2").exactly_once(0));
    broker.is_killed(AT_ONCE);
    let member = Client::resumes(&broker, lasting(Version::V5, "member").with(property::receive_maximum(1)));
    member.hears(publish("t", "2").exactly_once(id).dup());
    member
        .says(pubrec(id))
        .hears(pubrel(id))
        .says(pubcomp(id))
        .takes(publish("t", "3").exactly_once(0))
        .hears_nothing();
}

#[test]
fn a_message_of_qos_2_that_others_take_later_is_the_groups_once() {
    let broker = broker();
    // Of the two shards the first is the home of the group. In it a Client has so many filters that match that it is served
    // apart, and later.
    Client::connects(&broker, lasting(Version::V5, "member")).subscribes(GROUP, 2).vanishes();
    Client::connects(&broker, connect_v5("elsewhere"));
    let filters = (0..33).map(|bits| match bits {
        32 => "t/#".to_owned(),
        _ => (0..5).fold("t".to_owned(), |filter, bit| filter + if bits >> bit & 1 == 0 { "/x" } else { "/+" }),
    });
    let many = Client::connects(&broker, lasting(Version::V5, "many"));
    let subscribe = filters.fold(support::wire::subscribe(1), |subscribe, filter| subscribe.to(filter, 2));
    many.subscribes_with(subscribe).vanishes();
    let by_hand = broker.held();
    let publisher = by_hand.link();
    publisher.send(&lasting(Version::V5, "publisher").bytes(Version::V5));
    broker.settle();
    publisher.send(&publish("t/x/x/x/x/x", "1").exactly_once(7).bytes(Version::V5));
    assert!(by_hand.read(publisher.number()));
    by_hand.tick(1); // it is on its way
    by_hand.tick(0); // all there have it
    by_hand.commit(); // and before the publisher's shard hears of that, the process ends
    by_hand.is_killed(AT_ONCE);
    for name in ["member", "many"] {
        let client = Client::resumes(&broker, lasting(Version::V5, name));
        client.takes(publish("t/x/x/x/x/x", "1").exactly_once(0)).hears_nothing();
    }
}
