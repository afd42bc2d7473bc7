//! The smallest conversations that once showed a fault of the hall or of what lies under it, each named after what must hold.

#[path = "support/mod.rs"]
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake, Waker};
use std::time::Duration;
use support::wire::{self, Connect, Packet, Parsed, Publish, Version, connect_v4, connect_v5, property};
use support::{Link, TestBroker};
use waypost::access::Identity;
use waypost::broker::{Attachment, Broken, Handshake, Opened, Settings, Shard, ShardId, Shared, Versions, Wire};
use waypost::codec::Moment;

struct Client {
    link: Link,
    version: Version,
}

impl Client {
    fn connect(broker: &TestBroker, connect: Connect) -> Self {
        let client = Self { link: broker.link(), version: connect.version };
        client.says(connect);
        client
    }
    fn says(&self, packet: impl Packet) {
        self.link.send(&packet.bytes(self.version));
    }
    fn hears(&self) -> Vec<Parsed> {
        wire::parse(&self.link.received(), self.version.is_v5())
    }
    fn publishes(&self) -> Vec<Publish> {
        self.hears()
            .into_iter()
            .filter_map(|packet| if let Parsed::Publish(publish) = packet { Some(publish) } else { None })
            .collect()
    }
    fn payloads(&self) -> Vec<String> {
        self.publishes().iter().map(|publish| String::from_utf8_lossy(&publish.payload).into_owned()).collect()
    }
}

fn one_shard() -> TestBroker {
    TestBroker::with(|settings| settings.shards = 1)
}

// ------------------------------------------------------------------------------------------------------------ shared

/// It once ended the process by an endless recursion.
#[test]
fn a_shared_member_whose_queue_is_full_does_not_end_the_process() {
    let broker = TestBroker::with(|settings| {
        settings.shards = 1;
        settings.session.queue_qos0_messages_max = 3;
    });
    let member = Client::connect(&broker, connect_v5("member"));
    member.says(wire::subscribe(1).to("$share/g/t", 0));
    member.link.stop_reading();
    let publisher = Client::connect(&broker, connect_v5("publisher"));
    for number in 0..20 {
        publisher.says(wire::publish("t", format!("{number}")));
    }
}

#[test]
fn the_same_over_two_shards_comes_to_rest() {
    let broker = TestBroker::with(|settings| {
        settings.shards = 2;
        settings.session.queue_qos0_messages_max = 3;
    });
    // home of the group: shard 0; the member that is full: shard 1.
    let home = Client::connect(&broker, connect_v5("home").persistent());
    home.says(wire::subscribe(1).to("$share/g/t", 0));
    let member = Client::connect(&broker, connect_v5("member"));
    member.says(wire::subscribe(1).to("$share/g/t", 0));
    home.link.drop_connection();
    member.link.stop_reading();
    let publisher = Client::connect(&broker, connect_v5("publisher"));
    for number in 0..20 {
        publisher.says(wire::publish("t", format!("{number}"))); // "the broker never comes to rest"
    }
}

#[test]
fn a_member_with_a_small_maximum_packet_size_gets_what_fits() {
    let broker = one_shard();
    let member = Client::connect(&broker, connect_v5("member").with(property::maximum_packet_size(40)));
    member.says(wire::subscribe(1).to("$share/g/t", 1));
    member.hears();
    let publisher = Client::connect(&broker, connect_v5("publisher"));
    publisher.says(wire::publish("t", "ten bytes!").at_least_once(1)); // a packet of 18 bytes
    assert_eq!(member.payloads(), ["ten bytes!"]);
}

#[test]
fn a_group_keeps_its_queue_when_one_member_leaves_after_another_has_joined() {
    let broker = TestBroker::by_hand(|settings| settings.shards = 3);
    let read = || {
        (0..4).for_each(|link| {
            broker.read(link);
        })
    };
    let run = || (0..9).for_each(|n| broker.tick(n % 3));
    let leaver = Client::connect(&broker, connect_v5("leaver").persistent()); // shard 0
    let joiner = Client::connect(&broker, connect_v5("joiner")); // shard 1
    let founder = Client::connect(&broker, connect_v5("founder")); // shard 2, the home
    let gone = broker.link(); // shard 0, for later
    read();
    run();
    founder.says(wire::subscribe(1).to("$share/g/t", 1));
    read();
    run();
    leaver.says(wire::subscribe(1).to("$share/g/t", 1));
    read();
    run();
    founder.says(wire::unsubscribe(2).from("$share/g/t"));
    leaver.link.drop_connection();
    read();
    run();
    founder.says(wire::publish("t", "kept").at_least_once(3)); // waits in the group, at home
    read();
    run();
    joiner.hears();
    joiner.says(wire::subscribe(1).to("$share/g/t", 1));
    read();
    broker.tick(1);
    assert!(!joiner.hears().is_empty(), "SUBACK: a member from now on");
    gone.send(&connect_v5("leaver").bytes(Version::V5)); // Clean Start: the former Session ends
    read();
    broker.tick(0);
    run(); // shard 2 finds both letters, and opens them by the number of their senders
    assert_eq!(joiner.payloads(), ["kept"]);
}

#[test]
fn a_qos_1_delivery_of_a_group_that_was_left_is_sent_again_after_a_reconnect() {
    let broker = one_shard();
    let member = Client::connect(&broker, connect_v5("member").persistent());
    member.says(wire::subscribe(1).to("$share/g/t", 1).to("$share/h/other", 1));
    let publisher = Client::connect(&broker, connect_v5("publisher"));
    publisher.says(wire::publish("t", "begun").at_least_once(1));
    assert_eq!(member.payloads(), ["begun"]);
    member.says(wire::unsubscribe(2).from("$share/g/t")); // not yet acknowledged: must be completed [MQTT-3.10.4-3]
    member.link.drop_connection();
    let member = Client::connect(&broker, connect_v5("member").persistent().resuming());
    assert_eq!(member.payloads(), ["begun"]);
}

#[test]
fn what_a_member_in_another_shard_gives_back_keeps_its_order() {
    let broker = TestBroker::by_hand(|settings| settings.shards = 2);
    let publisher = Client::connect(&broker, connect_v5("publisher")); // shard 0
    let member = Client::connect(&broker, connect_v5("member").persistent()); // shard 1
    let read = |links: usize| {
        (0..links).for_each(|link| {
            broker.read(link);
        })
    };
    let run = || (0..6).for_each(|n| broker.tick(n % 2));
    read(2);
    run();
    publisher.says(wire::subscribe(1).to("$share/g/t", 1)); // home: shard 0
    read(2);
    run();
    member.says(wire::subscribe(1).to("$share/g/t", 1));
    read(2);
    run();
    publisher.says(wire::unsubscribe(2).from("$share/g/t"));
    read(2);
    run();
    member.hears();
    for number in 1..=3_u16 {
        publisher.says(wire::publish("t", format!("{number}")).at_least_once(number));
    }
    read(2);
    broker.tick(0); // three deliveries are under way
    member.link.drop_connection();
    run();
    let member = Client::connect(&broker, connect_v5("member").persistent().resuming());
    read(3);
    run();
    read(3);
    run();
    assert_eq!(member.payloads(), ["1", "2", "3"]);
}

#[test]
fn qos_0_deliveries_that_died_with_a_connection_do_not_take_places_for_ever() {
    let broker = one_shard();
    let connect = || connect_v5("member").persistent().with(property::receive_maximum(2));
    let member = Client::connect(&broker, connect());
    member.says(wire::subscribe(1).to("$share/g/t", 0));
    let publisher = Client::connect(&broker, connect_v5("publisher"));
    member.link.stop_reading();
    for number in 0..10 {
        publisher.says(wire::publish("t", format!("{number}")));
    }
    member.link.drop_connection();
    let member = Client::connect(&broker, connect());
    for number in 10..13 {
        publisher.says(wire::publish("t", format!("{number}")));
    }
    let got = member.payloads();
    assert!(got.iter().any(|payload| payload == "12"), "a connected member with nothing to do gets {got:?}");
}

// ---------------------------------------------------------------------------------------------------------- retained

#[test]
fn a_retained_message_that_no_queue_takes_does_not_spin_the_shard() {
    let broker = TestBroker::with(|settings| {
        settings.shards = 1;
        settings.session.queue_qos0_bytes_max = 10_000;
    });
    let publisher = Client::connect(&broker, connect_v5("publisher"));
    publisher.says(wire::publish("a/large", vec![b'x'; 20_000]).retain());
    publisher.says(wire::publish("a/small", "small").retain());
    let subscriber = Client::connect(&broker, connect_v5("subscriber"));
    subscriber.says(wire::subscribe(1).to("a/#", 0)); // "the broker never comes to rest"
    assert!(subscriber.payloads().contains(&"small".to_owned()));
}

#[test]
fn a_replay_to_a_client_that_acknowledges_nothing_does_not_spin_the_shard() {
    let broker = TestBroker::with(|settings| {
        settings.shards = 1;
        settings.session.queue_messages_max = 100; // below the replay's own idea of room, 1024
    });
    let publisher = Client::connect(&broker, connect_v5("publisher"));
    for number in 0..300_u16 {
        publisher.says(wire::publish(format!("a/{number}"), "x").at_least_once(number + 1).retain());
    }
    let subscriber = Client::connect(&broker, connect_v5("subscriber").with(property::receive_maximum(1)));
    subscriber.says(wire::subscribe(1).to("a/#", 1));
}

#[test]
fn all_retained_messages_arrive_however_many_filters_ask_for_them() {
    let broker = TestBroker::with(|settings| {
        settings.shards = 1;
        settings.subscriptions_per_session_max = 10_000;
        settings.session.filters_per_subscribe_max = 1000;
        settings.session.queue_qos0_messages_max = 100_000;
    });
    let publisher = Client::connect(&broker, connect_v5("publisher"));
    for number in 0..1500 {
        publisher.says(wire::publish(format!("a/{number}"), "x").retain());
    }
    let subscriber = Client::connect(&broker, connect_v5("subscriber"));
    subscriber.hears();
    let mut bytes = Vec::new();
    for packet in 0..3_u16 {
        let mut subscribe = wire::subscribe(packet + 1);
        for number in 0..500 {
            subscribe = subscribe.to(format!("a/{}", usize::from(packet) * 500 + number), 0);
        }
        bytes.extend(subscribe.bytes(Version::V5));
    }
    assert!(bytes.len() < 64 << 10); // one read
    subscriber.link.send(&bytes);
    assert_eq!(subscriber.payloads().len(), 1500);
}

#[test]
fn expired_retained_messages_give_their_place_back() {
    let broker = TestBroker::with(|settings| {
        settings.shards = 1;
        settings.retained_messages_max = 10;
    });
    let publisher = Client::connect(&broker, connect_v5("publisher"));
    for number in 0..10 {
        publisher.says(wire::publish(format!("old/{number}"), "x").retain().with(property::message_expiry_interval(1)));
    }
    broker.advance(Duration::from_secs(20));
    publisher.hears();
    publisher.says(wire::publish("new", "x").at_least_once(1).retain());
    assert!(broker.retained("new").is_some(), "an hour later ten expired messages still fill the store");
}

#[test]
fn a_full_retained_store_does_not_take_the_message_from_live_subscribers_of_a_3_1_1_publisher() {
    let broker = TestBroker::with(|settings| {
        settings.shards = 1;
        settings.retained_messages_max = 1;
    });
    let publisher = Client::connect(&broker, connect_v4("publisher"));
    publisher.says(wire::publish("first", "x").retain());
    let subscriber = Client::connect(&broker, connect_v5("subscriber"));
    subscriber.says(wire::subscribe(1).to("t", 1));
    subscriber.hears();
    publisher.hears();
    publisher.says(wire::publish("t", "alarm").at_least_once(1).retain());
    assert_eq!(publisher.hears(), [Parsed::from(wire::puback(1))]); // told: it is ours
    assert_eq!(subscriber.payloads(), ["alarm"]);
}

// ------------------------------------------------------------------------------------------------------------ memory

#[test]
fn a_client_whose_queue_fills_the_memory_may_come_back_for_it() {
    let broker = TestBroker::with(|settings| {
        settings.shards = 1;
        settings.memory_budget = 1 << 20;
    });
    let subscriber = Client::connect(&broker, connect_v5("subscriber").persistent());
    subscriber.says(wire::subscribe(1).to("t", 1));
    let publisher = Client::connect(&broker, connect_v5("publisher"));
    subscriber.link.drop_connection();
    for number in 0..40_u16 {
        publisher.says(wire::publish("t", vec![b'x'; 50_000]).at_least_once(number + 1));
    }
    let subscriber = Client::connect(&broker, connect_v5("subscriber").persistent().resuming());
    assert!(!subscriber.publishes().is_empty(), "0x97 for ever: nobody else can empty this queue");
}

#[test]
fn the_memory_budget_holds_for_qos_1() {
    let broker = TestBroker::with(|settings| {
        settings.shards = 1;
        settings.memory_budget = 1 << 20;
    });
    // It reads everything and acknowledges nothing; in_flight_max is 100, and does not cap a 5.0 Client.
    let subscriber = Client::connect(&broker, connect_v5("subscriber"));
    subscriber.says(wire::subscribe(1).to("t", 1));
    let publisher = Client::connect(&broker, connect_v5("publisher"));
    let mut accepted = 0;
    for number in 0..400_u16 {
        publisher.says(wire::publish("t", vec![b'x'; 50_000]).at_least_once(number + 1));
        subscriber.link.received();
        for packet in publisher.hears() {
            if let Parsed::Ack(ack) = packet {
                accepted += usize::from(ack.reason < 0x80);
            }
        }
    }
    assert!(accepted * 50_000 < 2 << 20, "{accepted} messages of 50 kB accepted and kept with a budget of 1 MiB");
}

// ------------------------------------------------------------------------------------------------------ between shards

#[test]
fn a_shard_that_falls_behind_slows_the_senders() {
    let broker = TestBroker::by_hand(|settings| {
        settings.shards = 2;
        settings.session.queue_qos0_messages_max = 1_000_000;
        settings.session.queue_qos0_bytes_max = 1 << 30;
    });
    let publisher = Client::connect(&broker, connect_v5("publisher")); // shard 0, link 0
    let subscriber = Client::connect(&broker, connect_v5("subscriber")); // shard 1
    (0..2).for_each(|link| {
        broker.read(link);
    });
    (0..4).for_each(|n| broker.tick(n % 2));
    subscriber.says(wire::subscribe(1).to("t", 0));
    broker.read(1);
    (0..4).for_each(|n| broker.tick(n % 2));
    subscriber.hears();
    // 3,000 messages of 1 kB for each tick of the receiver, which takes 1,024.
    let one = wire::publish("t", vec![b'x'; 1000]).bytes(Version::V5);
    let mut delivered = 0;
    for round in 0..60_usize {
        publisher.link.send(&one.repeat(3000));
        if !broker.read(publisher.link.number()) {
            return; // shard 0 does not want to read: the receiver has slowed it down
        }
        broker.tick(0);
        broker.tick(1);
        delivered += wire::packet_sizes(&subscriber.link.received()).len();
        let backlog = (round + 1) * 3000 - delivered;
        assert!(backlog * 1000 < 64 << 20, "{} MB wait between two shards, and nobody is slowed", backlog / 1000);
    }
}

#[test]
fn a_subscriber_that_takes_everything_loses_nothing_to_eight_publishers() {
    let broker = TestBroker::by_hand(|settings| {
        settings.shards = 1;
        settings.session.queue_qos0_messages_max = 100_000; // the default
        settings.session.queue_qos0_bytes_max = 16 << 20;
    });
    let subscriber = Client::connect(&broker, connect_v4("subscriber"));
    let publishers: Vec<Client> =
        (0..8).map(|number| Client::connect(&broker, connect_v4(&format!("p{number}")))).collect();
    (0..9).for_each(|link| {
        broker.read(link);
    });
    subscriber.says(wire::subscribe(1).to("t", 0));
    broker.read(0);
    broker.tick(0);
    let one = wire::publish("t", "0123456789").bytes(Version::V311);
    let segment = one.repeat((64 << 10) / one.len());
    for _ in 0..20 {
        // As the thread does it: each connection is read once (64 KiB), then the tick runs.
        for publisher in &publishers {
            publisher.link.send(&segment);
            broker.read(publisher.link.number());
        }
        broker.tick(0);
        subscriber.link.received();
    }
    let dropped = broker.statistics().dropped.total();
    assert_eq!(dropped, 0, "of {} messages", 20 * 8 * segment.len() / one.len());
}

struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// A socket that takes everything.
struct Sink;

impl Wire for Sink {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Broken> {
        Ok(bytes.len())
    }

    fn reader(&self) -> &Waker {
        Waker::noop()
    }
}

const START: Moment = Moment::from_millis(0);

/// The shards of a node, for tests that say themselves when each of them ticks.
fn shards(change: impl FnOnce(&mut Settings)) -> Vec<Shard<Sink>> {
    let mut settings = support::settings();
    change(&mut settings);
    let shared = Shared::new(settings);
    shared.shards().map(|id| Shard::new(id, Arc::clone(&shared), START)).collect()
}

fn open(shard: &mut Shard<Sink>, id: &str) -> Attachment {
    let shared = Arc::clone(shard.shared());
    let request = Handshake::new(Versions::ALL)
        .receive(&connect_v5(id).bytes(Version::V5), shared.settings(), START, |id| shared.origin_of(id))
        .expect("fine")
        .expect("complete");
    match shard.open(request, Identity::default(), Sink, START) {
        Opened::Here(me) => me,
        _ => panic!("not here"),
    }
}

/// A thread sleeps until the deadline that it saw after its last tick. One that came nearer later was noticed only when
/// something else wanted a tick: a Client that was alone on its thread was read every ten seconds, whatever its rate.
#[test]
fn whoever_is_held_back_is_read_again_in_time() {
    let shard = &mut shards(|settings| settings.message_rate_max = 100)[0];
    let publisher = open(shard, "publisher");
    shard.receive(publisher, &wire::publish("t", Vec::new()).bytes(Version::V5).repeat(200), START);
    while shard.wants_tick() {
        shard.tick(START);
    }
    assert!(!shard.may_read(publisher, Waker::noop()), "it has spent two seconds, of which one may be in advance");
    assert!(shard.wants_tick(), "who sleeps until the deadline does not know that it has come nearer");
    shard.tick(START);
    let deadline = shard.deadline().expect("it is read again");
    assert!(deadline <= Moment::from_millis(1_250), "{deadline:?}");
}

/// The relief of a congested sender that is just awake is not remembered: it goes to sleep with paused readers.
#[test]
fn a_sender_that_is_relieved_while_it_is_awake_wakes_its_readers() {
    let now = START;
    let mut shards = shards(|settings| settings.shards = 2);
    let shared = Arc::clone(shards[0].shared());
    let publisher = open(&mut shards[0], "publisher");
    let subscriber = open(&mut shards[1], "subscriber");
    shards[1].receive(subscriber, &wire::subscribe(1).to("t", 0).bytes(Version::V5), now);
    shards[1].tick(now);
    shards[0].tick(now);
    let large = wire::publish("t", vec![b'x'; 900_000]).bytes(Version::V5);
    for _ in 0..12 {
        shards[0].receive(publisher, &large, now);
    }
    shards[0].tick(now); // posts 10 MB: congested
    let reader = Arc::new(Count(AtomicUsize::new(0)));
    assert!(!shards[0].may_read(publisher, &Waker::from(Arc::clone(&reader))), "congested");
    let sleeper = Arc::new(Count(AtomicUsize::new(0)));
    shared.set_waker(ShardId(0), Waker::from(Arc::clone(&sleeper)));
    shards[0].tick(now); // still congested
    shards[1].tick(now); // takes the mail and tells shard 0, which is still awake
    shared.fall_asleep(ShardId(0));
    let woken = sleeper.0.load(Ordering::SeqCst) > 0;
    assert!(woken || shards[0].wants_tick(), "shard 0 sleeps; its readers wait for a tick that nobody asks for");
}

#[test]
fn what_was_published_after_an_acknowledgement_does_not_overtake() {
    let broker = TestBroker::by_hand(|settings| settings.shards = 3);
    let late = Client::connect(&broker, connect_v5("late")); // shard 0
    let early = Client::connect(&broker, connect_v5("early")); // shard 1
    let subscriber = Client::connect(&broker, connect_v5("subscriber")); // shard 2
    let read = || {
        (0..3).for_each(|link| {
            broker.read(link);
        })
    };
    read();
    (0..6).for_each(|n| broker.tick(n % 3));
    subscriber.says(wire::subscribe(1).to("t", 1));
    read();
    (0..6).for_each(|n| broker.tick(n % 3));
    subscriber.hears();
    early.hears();
    early.says(wire::publish("t", "off").at_least_once(1));
    broker.read(1);
    broker.tick(1);
    assert_eq!(early.hears(), [Parsed::from(wire::puback(1))]);
    // The same user's next command, begun after the first was acknowledged.
    late.says(wire::publish("t", "on").at_least_once(1));
    broker.read(0);
    broker.tick(0);
    (0..6).for_each(|n| broker.tick(n % 3));
    assert_eq!(subscriber.payloads(), ["off", "on"]);
}

// -------------------------------------------------------------------------------------------------------------- others

#[test]
fn a_will_whose_delay_has_passed_is_published_though_the_client_returns_before_the_timer_runs() {
    let broker = one_shard();
    let watcher = Client::connect(&broker, connect_v5("watcher"));
    watcher.says(wire::subscribe(1).to("will", 0));
    watcher.hears();
    broker.advance(Duration::from_millis(10));
    let client = Client::connect(
        &broker,
        connect_v5("client").persistent().will(wire::will("will", "gone").with(property::will_delay_interval(1))),
    );
    client.link.drop_connection();
    broker.advance(Duration::from_millis(1200)); // the delay ended 200 ms ago
    let _back = Client::connect(&broker, connect_v5("client").persistent().resuming());
    assert_eq!(watcher.payloads(), ["gone"]);
}

/// Shards without a world around them.
mod bare {
    use super::*;
    use waypost::access::Identity;
    use waypost::broker::{Attachment, Broken, Handshake, Opened, Shard, Shared, Versions, Wire};
    use waypost::codec::Moment;

    /// Takes nothing at first, then fails for ever: a Client that was slow, and has reset its connection.
    struct Failing(Arc<AtomicUsize>);

    impl Wire for Failing {
        fn write(&mut self, bytes: &[u8]) -> Result<usize, Broken> {
            match self.0.load(Ordering::SeqCst) {
                0 => Ok(bytes.len()),
                1 => Ok(0),
                _ => Err(Broken),
            }
        }
        fn reader(&self) -> &Waker {
            Waker::noop()
        }
    }

    fn open(shard: &mut Shard<Failing>, bytes: &[u8], state: &Arc<AtomicUsize>) -> Attachment {
        let now = Moment::from_millis(0);
        let shared = Arc::clone(shard.shared());
        let request = Handshake::new(Versions::ALL)
            .receive(bytes, shared.settings(), now, |id| shared.origin_of(id))
            .expect("fine")
            .expect("complete");
        match shard.open(request, Identity::default(), Failing(Arc::clone(state)), now) {
            Opened::Here(me) => me,
            _ => panic!("not here"),
        }
    }

    fn shard() -> Shard<Failing> {
        let mut settings = support::settings();
        settings.shards = 1;
        let shared = Shared::new(settings);
        let id = shared.shards().next().expect("one");
        Shard::new(id, shared, Moment::from_millis(0))
    }

    /// `poll_read_shard` loops while the connection is blocked and the socket is writable; a failed socket is for ever.
    #[test]
    fn a_socket_that_fails_is_not_blocked_any_more() {
        let now = Moment::from_millis(0);
        let mut shard = shard();
        let state = Arc::new(AtomicUsize::new(0));
        let me = open(&mut shard, &connect_v4("slow").bytes(Version::V311), &state);
        shard.tick(now);
        state.store(1, Ordering::SeqCst);
        shard.receive(me, &wire::PINGREQ.bytes(Version::V311), now);
        shard.tick(now);
        assert!(shard.is_blocked(me));
        state.store(2, Ordering::SeqCst);
        shard.writable(me, now);
        assert!(!shard.is_blocked(me), "the door calls writable() again and again and never comes to read the reset");
    }

    #[test]
    fn an_auth_of_a_former_connection_is_not_the_next_ones() {
        let now = Moment::from_millis(0);
        let mut shard = shard();
        let state = Arc::new(AtomicUsize::new(0));
        let connect = connect_v5("client").persistent().with(property::authentication_method("SCRAM"));
        let me = open(&mut shard, &connect.bytes(Version::V5), &state);
        shard.tick(now);
        let mut bytes = wire::auth(0x19).with(property::authentication_method("SCRAM")).bytes(Version::V5);
        bytes.extend([0xF0, 0x01, 0xFF]); // and something malformed behind it, in the same segment
        shard.receive(me, &bytes, now);
        assert!(!shard.is_attached(me));
        let me = open(&mut shard, &connect.bytes(Version::V5), &state);
        assert!(shard.take_reauthentication(me).is_none(), "the former Client's proof of identity goes to this one");
    }
}
