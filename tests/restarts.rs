//! What survives a process that ends, in order or without a word: conversations with a broker whose store is a real one.

#[path = "store/model.rs"]
#[allow(dead_code, reason = "the tests of the store need more of it")]
mod model;
mod support;

use model::{Event, Failing, Failure, Lot, Model};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use support::TestBroker;
use support::people::People;
use support::talk::{Client, both};
use support::wire::{
    AckKind, Connect, PINGREQ, Packet, Parsed, Version, connect, connect_v5, options, property, puback, pubcomp,
    publish, pubrec, pubrel, subscribe, will,
};
use waypost::broker::{Durability, TABLES};
use waypost::session::{Amount, Drops};
use waypost::store::{Options, Store};

/// A broker with a store in a folder of its own.
fn broker() -> TestBroker {
    broker_with(|_| ())
}

fn broker_with(change: impl FnOnce(&mut support::Settings)) -> TestBroker {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("restarts-{}-{number}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    TestBroker::on_disk(change, false, move || {
        let options = Options { segment_size: 1 << 16, ..Options::default() };
        Store::open(&folder, options, &mut |_, _| ()).expect("the folder is ours").0
    })
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

// A queue of which only the front is in memory.

both!(what_waits_on_the_disk_alone, what_waits_on_the_disk_alone_in_3_1_1, |version| {
    for deaths in [0, 1] {
        let broker = broker_with(|settings| settings.session.queue_at_hand_max = 4);
        Client::connects(&broker, lasting(version, "away")).subscribes("t/#", 2).vanishes();
        let publisher = Client::connects(&broker, connect(version, "publisher"));
        let number = |number: u16| publish(format!("t/{}", number % 3), number.to_string());
        for id in 1..=40 {
            publisher.publishes(number(id).at_least_once(id));
        }
        for _ in 0..deaths {
            broker.is_killed(AT_ONCE);
        }
        // One by one, the last four after another death in the middle of it.
        let away = Client::resumes(&broker, lasting(version, "away"));
        let heard = away.hears_publishes();
        let payload = |one: &support::wire::Publish| String::from_utf8_lossy(&one.payload).into_owned();
        assert_eq!(heard.iter().map(payload).collect::<Vec<_>>(), (1..=40).map(|n| n.to_string()).collect::<Vec<_>>());
        for one in &heard[..36] {
            away.says(puback(one.packet_id.expect("of QoS 1")));
        }
        broker.is_killed(AT_ONCE);
        let away = Client::resumes(&broker, lasting(version, "away"));
        let heard = away.hears_publishes();
        assert_eq!(heard.iter().map(payload).collect::<Vec<_>>(), ["37", "38", "39", "40"]);
        assert!(heard.iter().all(|one| one.dup), "they may have come before");
    }
});

#[test]
fn the_oldest_go_from_the_disk() {
    let broker = broker_with(|settings| {
        settings.session.queue_at_hand_max = 2;
        settings.session.queue_messages_max = 10;
        settings.session.queue_drops = Drops::Oldest;
    });
    Client::connects(&broker, lasting(Version::V5, "away")).subscribes("t", 1).vanishes();
    let publisher = Client::connects(&broker, connect_v5("publisher"));
    for id in 1..=40 {
        publisher.publishes(publish("t", id.to_string()).at_least_once(id));
    }
    assert_eq!(broker.statistics().dropped.queue_full, 30);
    broker.is_killed(AT_ONCE);
    let heard = Client::resumes(&broker, lasting(Version::V5, "away")).hears_publishes();
    let payloads: Vec<_> = heard.iter().map(|one| String::from_utf8_lossy(&one.payload).into_owned()).collect();
    assert_eq!(payloads, (31..=40).map(|number| number.to_string()).collect::<Vec<_>>());
}

#[test]
fn a_full_queue_counts_what_is_on_the_disk() {
    let broker = broker_with(|settings| {
        settings.shards = 1;
        settings.session.queue_at_hand_max = 2;
        settings.session.queue_messages_max = 10;
    });
    Client::connects(&broker, lasting(Version::V5, "away")).subscribes("t", 1).vanishes();
    let publisher = Client::connects(&broker, connect_v5("publisher"));
    for id in 1..=10 {
        publisher.publishes(publish("t", "x").at_least_once(id));
    }
    for between in [false, true] {
        if between {
            broker.is_killed(AT_ONCE);
        }
        let publisher = publisher_again(&broker);
        publisher.says(publish("t", "too much").at_least_once(1)).hears(puback(1).reason(0x97));
    }
    let heard = Client::resumes(&broker, lasting(Version::V5, "away")).hears_publishes();
    assert_eq!(heard.len(), 10);
}

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
fn what_is_over_leaves_nothing_at_rest() {
    let contents = |broker: &TestBroker| {
        let mut contents = None;
        broker.is_killed_on(AT_ONCE, |_| ());
        broker.is_killed_on(AT_ONCE, |store| contents = Some(store.contents().expect("it can be read")));
        let contents = contents.expect("it was asked");
        (contents.rows, contents.entries, contents.blobs)
    };
    for over_while_down in [false, true] {
        let broker = broker();
        assert_eq!(contents(&broker), (1, 0, 0), "the clock, and nothing else");
        let publisher = Client::connects(&broker, connect_v5("publisher"));
        let short = || property::message_expiry_interval(30);
        let lasting_a_while = |client_id: &str| {
            let lasting = connect_v5(client_id).with(property::session_expiry_interval(60));
            lasting.will(will("r/will", "x").retain().with(property::message_expiry_interval(5)))
        };
        // In both shards; with everything that a Session can have.
        for client_id in ["one", "two", "three"] {
            let client = Client::connects(&broker, lasting_a_while(client_id));
            client.subscribes("t/#", 2).subscribes("$share/g/t", 1).subscribes("u", 1).unsubscribes("u");
            publisher.publishes(publish("t/1", "x").at_least_once(1).with(short()));
            publisher.publishes(publish("t/2", "x").exactly_once(2));
            let heard = client.hears_publishes();
            let sent = heard.iter().find(|publish| publish.qos == 2).and_then(|publish| publish.packet_id);
            client.says(pubrec(sent.expect("QoS 2 has one")));
            client.says(publish("t/3", "x").exactly_once(9)).says(publish("v", "x").exactly_once(10));
            client.vanishes();
            publisher.publishes(publish("t/1", "x").at_least_once(3)).publishes(publish("t/2", "x").exactly_once(4));
        }
        for number in 0..100 {
            publisher.publishes(publish(format!("r/{number}"), "x").at_least_once(1).retain().with(short()));
        }
        let later = property::message_expiry_interval(90);
        publisher.publishes(publish("r/late", "x").at_least_once(1).retain().with(later));
        // One that expires is replaced by one that does not, which is cleared.
        publisher.publishes(publish("r/0", "y").at_least_once(1).retain());
        broker.advance(Duration::from_secs(40));
        assert_eq!(broker.retained("r/0"), Some(b"y".to_vec()));
        publisher.publishes(publish("r/0", "").at_least_once(1).retain());
        if over_while_down {
            broker.is_killed(Duration::from_secs(100));
        }
        broker.advance(Duration::from_secs(200));
        assert_eq!(broker.sessions(), usize::from(!over_while_down), "the publisher is still connected");
        assert_eq!(contents(&broker), (1, 0, 0), "over while down: {over_while_down}");
    }
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
    client.subscribes_with(subscribe(1).to("a/#", 1).with(property::subscription_identifier(7)));
    client.subscribes_with(subscribe(2).to("a/b", 2).with(property::subscription_identifier(9)));
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

// ----------------------------------------------------------------------------------------------- a disk that is full

/// A broker on a disk that can be filled.
struct Full {
    broker: TestBroker,
    disk: Model,
}

impl Full {
    /// A broker of one shard; one Client is away, and what is published to `t` has to be kept for it.
    fn begins() -> Self {
        Self::begins_with(1, &[])
    }

    /// The same with so many shards, and with rules.
    fn begins_with(shards: usize, rules: &[(&str, Durability)]) -> Self {
        let rules: Vec<_> = rules.iter().map(|(filter, says)| ((*filter).to_owned(), *says)).collect();
        let disk = Model::default();
        let below = disk.clone();
        let broker = TestBroker::on_disk(
            move |settings| {
                (settings.shards, settings.memory_budget) = (shards, 32 << 20);
                settings.durability = rules;
                settings.session.queue_at_hand_max = 3;
                settings.sys_interval = Duration::from_secs(1);
            },
            false,
            move || {
                let (disk, rest) = (Arc::new(below.clone()), Arc::new(below.clone()));
                Store::open_on(disk, rest, Path::new("model"), Options::default(), &mut |_, _| ()).expect("it opens").0
            },
        );
        Client::connects(&broker, lasting(Version::V5, "away")).subscribes("t", 1).vanishes();
        Self { broker, disk }
    }

    /// How often the disk was asked to keep what it was given.
    fn syncs(&self) -> usize {
        self.disk.world().events.iter().filter(|event| matches!(event, Event::Sync(_))).count()
    }

    /// From now on, until there is room again.
    fn fills(&self) {
        let mut world = self.disk.world();
        let from = world.calls + 1;
        world.failing = Some(Failing { from, calls: u64::MAX - from, error: Failure::Full });
    }

    fn has_room_again(&self) {
        self.disk.world().failing = None;
        self.broker.commit();
        self.broker.settle();
    }
}

#[test]
fn while_the_disk_is_full_nothing_is_kept_for_those_who_are_not_told() {
    let full = Full::begins();
    let (publisher, listener) = (
        Client::connects(&full.broker, connect_v5("publisher")),
        Client::connects(&full.broker, connect_v5("listener")),
    );
    let old = Client::connects(&full.broker, connect(Version::V311, "old"));
    listener.subscribes("#", 1);
    publisher.publishes(publish("r/before", "x").retain());
    listener.receives(publish("r/before", "x"));
    full.fills();
    old.says(publish("t", "waits").at_least_once(1)).hears_nothing();
    listener.takes(publish("t", "waits").at_least_once(0));
    let refused = full.broker.statistics().retained_refused;
    for number in 0..10 {
        publisher.says(publish("r/now", "y").retain());
        listener.receives(publish("r/now", "y"));
        let mortal = connect_v5(&format!("mortal-{number}")).will(will("r/will", "z").retain());
        Client::connects(&full.broker, mortal).vanishes();
        listener.receives(publish("r/will", "z"));
    }
    assert_eq!(full.broker.statistics().retained_refused - refused, 20);
    assert_eq!((full.broker.retained("r/now"), full.broker.retained("r/will")), (None, None));
    // Those who can be told, are.
    assert_eq!(
        publisher.says(publish("r/now", "y").at_least_once(2).retain()).hears_ack(AckKind::PubAck, 2).reason,
        0x97
    );
    // What was there can be cleared, and what comes later is kept.
    publisher.says(publish("r/before", "").retain());
    full.has_room_again();
    old.hears(puback(1));
    publisher.says(publish("r/then", "y").retain());
    full.broker.is_killed(AT_ONCE);
    assert_eq!(full.broker.retained("r/before"), None);
    assert_eq!(full.broker.retained("r/then"), Some(b"y".to_vec()));
}

#[test]
fn while_the_disk_is_full_no_session_begins_that_is_to_last() {
    let full = Full::begins();
    let lasts = Client::connects(&full.broker, lasting(Version::V5, "lasts"));
    let lasts_in_3_1_1 = Client::connects(&full.broker, lasting(Version::V311, "lasts-3"));
    full.fills();
    Client::connects(&full.broker, connect(Version::V311, "old"))
        .says(publish("t", "x").at_least_once(1))
        .hears_nothing();
    for (version, code) in [(Version::V5, 0x97), (Version::V311, 3), (Version::V31, 3)] {
        // Whoever is there already stays.
        for client_id in ["new", "away", "lasts"] {
            let refused = Client::tries(&full.broker, version, lasting(version, client_id));
            let heard = refused.hears_all();
            assert!(matches!(&heard[..], [Parsed::ConnAck(connack)] if connack.code == code), "{heard:?}");
        }
    }
    lasts.says(PINGREQ).hears(vec![Parsed::PingResp]);
    // MQTT 5 is told of each subscription, others wait; UNSUBACK always waits.
    lasts.says(subscribe(7).to("a", 1).to("b", 1)).hears_suback_codes(7, &[0x97, 0x97]);
    lasts_in_3_1_1.says(subscribe(7).to("a", 1)).hears_nothing();
    // Sessions that do not last have all they ever had.
    let passing = Client::connects(&full.broker, connect_v5("passing"));
    passing.subscribes("p", 1).publishes(publish("p", "y").at_least_once(1));
    passing.takes(publish("p", "y").at_least_once(0)).unsubscribes("p");
    full.has_room_again();
    lasts_in_3_1_1.hears_suback_codes(7, &[1]);
    full.broker.is_killed(AT_ONCE);
    Client::resumes(&full.broker, lasting(Version::V311, "lasts-3"));
    passing_again(&full.broker).publishes(publish("a", "z").at_least_once(1));
    assert_eq!(full.broker.sessions(), 4);
}

fn passing_again(broker: &TestBroker) -> Client {
    Client::connects(broker, connect_v5("passing"))
}

#[test]
fn sys_says_how_the_store_is() {
    let full = Full::begins();
    let watcher = Client::connects(&full.broker, connect_v5("watcher"));
    watcher.subscribes("$SYS/broker/store/state", 0).receives(publish("$SYS/broker/store/state", "ok").retain());
    full.fills();
    watcher.says(publish("t", "x").at_least_once(1)).hears_ack(AckKind::PubAck, 1);
    full.broker.advance(Duration::from_secs(2));
    let said = watcher.hears_publishes();
    assert!(matches!(&said[..], [one] if one.payload.starts_with(b"the journal cannot be written")), "{said:?}");
    full.has_room_again();
    full.broker.advance(Duration::from_secs(2));
    watcher.receives(publish("$SYS/broker/store/state", "ok"));
}

#[test]
fn what_waits_for_a_full_disk_counts_towards_the_memory_budget() {
    let full = Full::begins();
    full.fills();
    let payload = "x".repeat(100 << 10);
    let sends_and_goes = |number| {
        let client = Client::tries(&full.broker, Version::V311, connect(Version::V311, &format!("old-{number}")));
        client.says(publish("r", &payload).at_least_once(1).retain());
        let is_in = matches!(&client.hears_all()[..], [Parsed::ConnAck(connack), ..] if connack.code == 0);
        client.vanishes();
        is_in
    };
    // Whoever comes, leaves something and goes, is not held back by waiting for an answer.
    let come = (0..10_000).take_while(|number| sends_and_goes(*number)).count();
    assert!((100..400).contains(&come), "{come} times 100 KiB within 32 MiB");
    full.has_room_again();
    assert!(sends_and_goes(10_000));
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

// ------------------------------------------------------------------------------------------------ durability by Topic

#[test]
fn by_a_rule_telemetry_is_in_memory_and_alarms_are_on_disk() {
    for shards in [1, 2] {
        // The first that matches decides.
        let rules = [("a/alarm", Durability::Disk), ("a/#", Durability::Memory), ("#", Durability::Usual)];
        let full = Full::begins_with(shards, &rules);
        let broker = &full.broker;
        Client::connects(broker, lasting(Version::V5, "late")).subscribes("a/#", 2).subscribes("b", 1).vanishes();
        let stays = Client::connects(broker, lasting(Version::V5, "stays"));
        stays.subscribes("a/#", 1).subscribes("$share/g/a/shared", 1);
        let publisher = Client::connects(broker, connect_v5("publisher"));
        let syncs = full.syncs();
        publisher
            .publishes(publish("a/1", "x").at_least_once(1))
            .publishes(publish("a/kept", "x").at_least_once(2).retain());
        stays.receives_in_any_order([publish("a/1", "x").at_least_once(0), publish("a/kept", "x").at_least_once(0)]);
        publisher.publishes(publish("a/shared", "x").at_least_once(3));
        stays.hears_publishes();
        assert_eq!(full.syncs(), syncs, "nobody waits for the disk");
        publisher
            .publishes(publish("a/alarm", "y").at_least_once(4).retain())
            .publishes(publish("b", "y").at_least_once(5));
        publisher.publishes(publish("a/2", "exactly once").exactly_once(6));
        assert!(full.syncs() > syncs);
        stays.hears_publishes();
        // It waits like any other Message as long as the process is there.
        let late = Client::resumes(broker, lasting(Version::V5, "late"));
        assert_eq!(late.hears_publishes().len(), 6);
        late.vanishes();
        broker.is_killed(AT_ONCE);
        assert_eq!((broker.retained("a/kept"), broker.retained("a/alarm")), (None, Some(b"y".to_vec())));
        let late = Client::resumes(broker, lasting(Version::V5, "late"));
        late.receives_in_any_order([
            publish("a/alarm", "y").at_least_once(0).dup(),
            publish("b", "y").at_least_once(0).dup(),
            publish("a/2", "exactly once").exactly_once(0).dup(),
        ]);
    }
}

#[test]
fn what_a_rule_keeps_in_memory_waits_beside_a_long_queue_on_the_disk() {
    for shards in [1, 2] {
        let full = Full::begins_with(shards, &[("t/memory", Durability::Memory)]);
        Client::connects(&full.broker, lasting(Version::V5, "away-too")).subscribes("t/#", 1).vanishes();
        let publisher = Client::connects(&full.broker, connect_v5("publisher"));
        for number in 1..=20 {
            let topic = if number % 2 == 0 { "t/memory" } else { "t/disk" };
            publisher.publishes(publish(topic, number.to_string()).at_least_once(number));
        }
        let away = Client::resumes(&full.broker, lasting(Version::V5, "away-too"));
        let heard = away.hears_publishes();
        assert_eq!(heard.len(), 20);
        for topic in ["t/memory", "t/disk"] {
            let of_topic = heard.iter().filter(|publish| publish.topic == topic.as_bytes());
            let numbers: Vec<u16> =
                of_topic.map(|publish| String::from_utf8_lossy(&publish.payload).parse().expect("a number")).collect();
            assert!(numbers.len() == 10 && numbers.is_sorted(), "{topic}: {numbers:?}");
        }
    }
}

#[test]
fn by_a_rule_in_memory_a_full_disk_matters_to_nobody() {
    let full = Full::begins_with(1, &[("t/#", Durability::Memory)]);
    let publisher = Client::connects(&full.broker, connect_v5("publisher"));
    full.fills();
    publisher.says(publish("else", "x").at_least_once(1).retain()).hears_ack(AckKind::PubAck, 1);
    publisher.publishes(publish("t", "1").at_least_once(2)).publishes(publish("t/kept", "2").retain());
    publisher.publishes(publish("t/kept", "3").at_least_once(3).retain());
    assert_eq!(full.broker.retained("t/kept"), Some(b"3".to_vec()));
    publisher.says(publish("t", "4").exactly_once(4)).hears_ack(AckKind::PubRec, 4);
}

#[test]
fn a_rule_that_is_new_leaves_nothing_of_the_former_one_behind() {
    let full = Full::begins_with(1, &[("t/#", Durability::Memory)]);
    let publisher = Client::connects(&full.broker, connect_v5("publisher"));
    publisher.publishes(publish("t/kept", "old").exactly_once(1).retain()); // as it was before the rule
    full.broker.is_killed(AT_ONCE);
    assert_eq!(full.broker.retained("t/kept"), Some(b"old".to_vec()));
    let publisher = Client::connects(&full.broker, connect_v5("publisher"));
    publisher.publishes(publish("t/kept", "new").at_least_once(1).retain());
    full.broker.commit();
    full.broker.is_killed(AT_ONCE);
    assert_eq!(full.broker.retained("t/kept"), None);
}

#[test]
fn by_a_rule_the_operating_system_is_enough_and_others_still_wait_for_the_disk() {
    for shards in [1, 2] {
        let full = Full::begins_with(shards, &[("os/#", Durability::Os)]);
        Client::connects(&full.broker, lasting(Version::V5, "away")).subscribes("os", 1).vanishes();
        let publisher = Client::connects(&full.broker, connect_v5("publisher"));
        let syncs = full.syncs();
        publisher
            .publishes(publish("os", "1").at_least_once(1))
            .publishes(publish("os/kept", "2").at_least_once(2).retain());
        assert_eq!(full.syncs(), syncs, "written is enough");
        publisher.publishes(publish("t", "3").at_least_once(3));
        assert!(full.syncs() > syncs);
        publisher.publishes(publish("os", "4").at_least_once(4));
        Client::connects(&full.broker, lasting(Version::V5, "another")).subscribes("t", 1);
        full.broker.is_killed(AT_ONCE);
        assert_eq!(full.broker.retained("os/kept"), Some(b"2".to_vec()));
        let away = Client::resumes(&full.broker, lasting(Version::V5, "away"));
        assert_eq!(away.hears_publishes().len(), 3, "of os and of t");
    }
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
    let subscribe = filters.fold(subscribe(1), |subscribe, filter| subscribe.to(filter, 2));
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

#[test]
fn what_waits_for_a_user_counts_after_a_restart() {
    let most = |settings: &mut support::Settings| settings.queue_per_user_max = Amount { messages: 20, bytes: 1 << 20 };
    let broker = broker_with(most).guarded_by(People::named(&["alice"]));
    let of_alice = |client_id| lasting(Version::V5, client_id).user_name("alice").password(b"alice");
    Client::connects(&broker, of_alice("one")).subscribes("t", 1).vanishes();
    let publishes = |count| {
        let publisher = Client::connects(&broker, connect_v5("publisher"));
        for id in 1..=count {
            publisher.says(publish("t", id.to_string()).at_least_once(id)).hears_all();
        }
    };
    publishes(90);
    broker.is_killed(AT_ONCE);
    Client::connects(&broker, of_alice("two")).subscribes("t", 1).vanishes();
    publishes(90);
    let finds = |client_id| takes_all(&Client::resumes(&broker, of_alice(client_id)));
    assert_eq!((finds("one"), finds("two")), (64 + 20, 64));
}

// Nothing is dropped silently.

/// What was published to three subscribers came to each of them, or is counted as dropped for it: whichever bound a queue reaches,
/// whichever Message goes, whoever is away meanwhile and whatever expires. A publisher that is told of a full queue is counted too.
#[test]
fn what_is_published_is_delivered_or_reported() {
    let (mut delivered_in_all, mut dropped_in_all) = (0, 0);
    for seed in 1..=12 {
        let mut lot = Lot::new(seed);
        let (at_hand, drops, shards) = (1 + lot.below(6) as usize, lot.below(3) as usize, 1 + lot.below(3) as usize);
        let broker = broker_with(|settings| {
            settings.shards = shards;
            settings.session.queue_at_hand_max = at_hand;
            settings.session.queue_messages_max = 12;
            settings.session.queue_drops = [Drops::Newest, Drops::Oldest, Drops::Lowest][drops];
        });
        let names = ["one", "two", "three"];
        let mut here = names.map(|name| Some(Client::connects(&broker, lasting(Version::V5, name))));
        here.iter().flatten().for_each(|client| _ = client.subscribes("t", 2));
        let publisher = publisher_again(&broker);
        let (mut published, mut delivered) = (0, 0);
        for id in 1..=120 {
            let which = lot.below(3) as usize;
            match lot.below(12) {
                0 => drop(here[which].take().map(|client| client.vanishes().is_closed())),
                1 if here[which].is_none() => {
                    here[which] = Some(Client::resumes(&broker, lasting(Version::V5, names[which])));
                }
                2 => broker.advance(Duration::from_secs(lot.below(8))),
                _ => {
                    let mut message = publish("t", id.to_string()).at_least_once(id);
                    if lot.below(5) == 0 {
                        message = message.with(property::message_expiry_interval(10));
                    }
                    publisher.says(message).hears_ack(AckKind::PubAck, id);
                    published += 3;
                }
            }
            delivered += here.iter().flatten().map(takes_all).sum::<u64>();
        }
        for (name, here) in names.iter().zip(here) {
            let client = here.unwrap_or_else(|| Client::resumes(&broker, lasting(Version::V5, name)));
            delivered += takes_all(&client);
        }
        let dropped = broker.statistics().dropped;
        assert_eq!(published, delivered + dropped.total(), "seed {seed}: {delivered} delivered, {dropped:?}");
        delivered_in_all += delivered;
        dropped_in_all += dropped.queue_full.min(dropped.expired);
    }
    assert!(delivered_in_all > 300 && dropped_in_all > 0, "{delivered_in_all}, {dropped_in_all}");
}

/// Acknowledges whatever comes, and says how much that was.
fn takes_all(client: &Client) -> u64 {
    let heard = client.hears_publishes();
    heard.iter().filter_map(|one| one.packet_id).for_each(|id| _ = client.says(puback(id)));
    if heard.is_empty() { 0 } else { heard.len() as u64 + takes_all(client) }
}
