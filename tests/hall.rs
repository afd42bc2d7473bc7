//! What the hall promises beyond the standard, in memory and in virtual time.

mod support;

use std::time::Duration;
use support::talk::{Client, seconds};
use support::{Link, TestBroker, wire};
use waypost::access::{Authenticator, Identity, Login, Pending, Proof, Step};
use waypost::codec::{
    Connect, Filters, Options, Packet, PacketId, Property, Publish, Qos, RetainHandling, Subscribe, UserProperties,
    Version, Will,
};
use waypost::session::Drops;

fn connected(broker: &TestBroker, client_id: &str) -> Link {
    let link = broker.link();
    link.send(&encoded(&Packet::Connect(Connect::new(Version::V5, client_id))));
    assert_eq!(link.received()[3], 0, "CONNACK says success");
    link
}

fn encoded(packet: &Packet<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    packet.encode(Version::V5, &mut bytes);
    bytes
}

fn retained(topic: &str, payload: &[u8], expiry_s: Option<u32>) -> Vec<u8> {
    let mut storage = Vec::new();
    let properties: Vec<Property<'_>> = expiry_s.map(Property::MessageExpiryInterval).into_iter().collect();
    let properties = waypost::codec::Properties::write(&properties, &mut storage);
    let mut publish = Publish::new(topic, payload).with_properties(properties);
    publish.retain = true;
    encoded(&Packet::Publish(publish))
}

fn subscribed(filter: &str, qos: Qos) -> Vec<u8> {
    let options = Options { qos, no_local: false, retain_as_published: false, retain_handling: RetainHandling::Send };
    let mut storage = Vec::new();
    let filters = Filters::write(&[(filter, options)], &mut storage);
    let packet_id = PacketId::new(1).expect("1 is not 0");
    encoded(&Packet::Subscribe(Subscribe {
        packet_id,
        subscription_id: None,
        user_properties: UserProperties::default(),
        filters,
    }))
}

#[test]
fn what_has_expired_leaves_the_retained_store_without_being_asked_for() {
    let broker = TestBroker::new();
    let client = connected(&broker, "publisher");
    client.send(&retained("brief", b"x", Some(5)));
    client.send(&retained("lasting", b"x", None));
    broker.advance(Duration::from_secs(4));
    assert_eq!(broker.retained("brief"), Some(b"x".to_vec()));
    broker.advance(Duration::from_secs(6));
    assert_eq!(broker.retained("brief"), None);
    assert_eq!(broker.retained("lasting"), Some(b"x".to_vec()));
}

#[test]
fn all_retained_messages_arrive_however_many_and_however_slowly_they_are_read() {
    let broker = TestBroker::with(|settings| settings.session.codec.packet_size_max = 1 << 20);
    let publisher = connected(&broker, "publisher");
    let count = 20_000;
    for number in 0..count {
        publisher.send(&retained(&format!("store/{number}/value"), &[b'x'; 40], None));
    }
    let reader = connected(&broker, "reader");
    reader.stop_reading();
    reader.send(&subscribed("store/+/value", Qos::AtMostOnce));
    let mut heard = 0;
    let mut rounds = 0;
    while heard < count && rounds < 10_000 {
        reader.resume_reading();
        let bytes = reader.received();
        heard += bytes.windows(6).filter(|window| window == b"store/").count();
        reader.stop_reading();
        rounds += 1;
        // Others are served meanwhile.
        publisher.send(&[0xC0, 0]);
        assert_eq!(publisher.received(), [0xD0, 0]);
    }
    assert_eq!(heard, count);
}

#[test]
fn a_client_that_takes_nothing_for_too_long_is_disconnected() {
    let broker = TestBroker::new();
    let reader = connected(&broker, "reader");
    reader.send(&subscribed("t", Qos::AtMostOnce));
    reader.received();
    reader.stop_reading();
    let publisher = connected(&broker, "publisher");
    publisher.send(&encoded(&Packet::Publish(Publish::new("t", b"x"))));
    broker.advance(Duration::from_secs(19));
    assert!(!reader.is_closed());
    broker.advance(Duration::from_secs(2));
    assert!(reader.is_closed());
}

/// Everybody has proved to be who it says.
struct Trusting;

impl Authenticator for Trusting {
    fn begin(&self, login: Login) -> Pending {
        let name = login.user_name.unwrap_or_default();
        Box::pin(std::future::ready(Step::Accept { identity: Identity::proven(&name, Proof::Shown), data: None }))
    }
}

#[test]
fn a_client_that_is_faster_than_its_rate_is_read_later_and_loses_nothing() {
    let broker = TestBroker::with(|settings| settings.message_rate_max = 100);
    let subscriber = connected(&broker, "subscriber");
    subscriber.send(&subscribed("t", Qos::AtMostOnce));
    subscriber.received();
    let publisher = connected(&broker, "publisher");
    let one = encoded(&Packet::Publish(Publish::new("t", b"")));
    let arrived = || subscriber.received().len() / one.len();
    // Each is read at once, as a socket's buffer is.
    publisher.send(&one.repeat(100));
    publisher.send(&one.repeat(150));
    assert_eq!(arrived(), 250);
    publisher.send(&one.repeat(50));
    assert_eq!(arrived(), 0, "two seconds and a half are spent, of which one may be in advance");
    broker.advance(Duration::from_millis(1_250));
    assert_eq!(arrived(), 0);
    broker.advance(Duration::from_millis(500));
    assert_eq!(arrived(), 50);
}

/// At 100 messages in a second.
fn slow_delivery(change: impl FnOnce(&mut waypost::broker::Settings)) -> TestBroker {
    TestBroker::with(|settings| {
        settings.message_rate_out_max = 100;
        settings.session.in_flight_max = 1_000;
        change(settings);
    })
}

fn numbers(publishes: &[wire::Publish]) -> Vec<usize> {
    let text = |publish: &wire::Publish| String::from_utf8_lossy(&publish.payload).parse();
    publishes.iter().map(|publish| text(publish).expect("a number")).collect()
}

#[test]
fn a_client_is_sent_messages_at_its_rate_and_loses_nothing() {
    for qos in [0, 1, 2] {
        let broker = slow_delivery(|_| ());
        let receiver = Client::connects(&broker, wire::connect_v5("receiver"));
        let publisher = Client::connects(&broker, wire::connect_v5("publisher"));
        receiver.subscribes("t", qos);
        for number in 0..300 {
            publisher.publishes(wire::publish("t", format!("{number}")).qos(qos, 1));
        }
        let mut heard = numbers(&receiver.hears_publishes());
        assert!((100..=101).contains(&heard.len()), "a second's worth comes at once: {}", heard.len());
        // What is no Message does not wait.
        receiver.is_alive();
        for second in 1..=3 {
            broker.advance(seconds(1));
            heard.extend(numbers(&receiver.hears_publishes()));
            let share = 100 * (second + 1);
            assert!(
                (share - 30..=share + 30).contains(&heard.len()) || heard.len() == 300,
                "{second} s: {}",
                heard.len()
            );
            receiver.is_alive();
        }
        assert_eq!(heard, (0..300).collect::<Vec<_>>(), "all of them, in order");
        // Whoever has been quiet may have a second's worth again.
        broker.advance(seconds(5));
        for number in 0..100 {
            publisher.publishes(wire::publish("t", format!("{number}")).qos(qos, 1));
        }
        assert_eq!(numbers(&receiver.hears_publishes()).len(), 100);
    }
}

#[test]
fn over_a_long_time_the_rate_is_what_was_asked_for() {
    let broker = slow_delivery(|settings| settings.session.queue_qos0_messages_max = 10_000);
    let receiver = Client::connects(&broker, wire::connect_v5("receiver"));
    let publisher = Client::connects(&broker, wire::connect_v5("publisher"));
    receiver.subscribes("t", 0);
    for number in 0..3_000 {
        publisher.says(wire::publish("t", format!("{number}")));
    }
    let mut count = receiver.hears_publishes().len();
    for _ in 0..20 {
        broker.advance(seconds(1));
        count += receiver.hears_publishes().len();
    }
    assert!((2_070..=2_130).contains(&count), "{count} in the first moment and 20 seconds");
}

#[test]
fn a_client_is_sent_bytes_at_its_rate() {
    let broker = TestBroker::with(|settings| settings.byte_rate_out_max = 10 << 10);
    let receiver = Client::connects(&broker, wire::connect_v5("receiver"));
    let publisher = Client::connects(&broker, wire::connect_v5("publisher"));
    receiver.subscribes("t", 1);
    for _ in 0..50 {
        publisher.publishes(wire::publish("t", vec![b'x'; 1 << 10]).at_least_once(1));
    }
    let mut count = receiver.hears_publishes().len();
    assert!((9..=11).contains(&count), "{count}");
    for _ in 0..3 {
        broker.advance(seconds(1));
        count += receiver.hears_publishes().len();
    }
    assert!((35..=43).contains(&count), "{count}");
    broker.advance(seconds(2));
    assert_eq!(count + receiver.hears_publishes().len(), 50);
    // One that is larger than a second's worth comes, and is paid for.
    broker.advance(seconds(10));
    publisher.publishes(wire::publish("t", vec![b'x'; 50 << 10]).at_least_once(1));
    publisher.publishes(wire::publish("t", "after it").at_least_once(1));
    assert_eq!(receiver.hears_publishes().len(), 1);
    broker.advance(seconds(3));
    assert_eq!(receiver.hears_publishes().len(), 0);
    broker.advance(seconds(2));
    assert_eq!(receiver.hears_publishes().len(), 1);
    receiver.is_alive();
}

#[test]
fn what_waits_for_a_client_that_has_its_share_has_the_bounds_of_its_queue() {
    let broker = slow_delivery(|settings| {
        settings.session.queue_qos0_messages_max = 50;
        settings.session.queue_messages_max = 50;
    });
    let receiver = Client::connects(&broker, wire::connect_v5("receiver"));
    let other = Client::connects(&broker, wire::connect_v5("other"));
    let publisher = Client::connects(&broker, wire::connect_v5("publisher"));
    receiver.subscribes("t", 0);
    other.subscribes("u", 0);
    for number in 0..300 {
        publisher.says(wire::publish("t", format!("{number}")));
    }
    let share = receiver.hears_publishes().len();
    assert!((100..=101).contains(&share), "{share}");
    assert_eq!(broker.statistics().dropped.queue_full, 300 - 50 - share as u64);
    // Nobody else waits, and nobody is sent away.
    publisher.says(wire::publish("u", "x"));
    assert_eq!(other.hears_publishes().len(), 1);
    broker.advance(seconds(2));
    assert_eq!(receiver.hears_publishes().len(), 50);
    receiver.is_alive();
}

#[test]
fn a_client_that_comes_back_has_no_new_share() {
    let broker = slow_delivery(|_| ());
    let receiver = Client::connects(&broker, wire::connect_v5("receiver").persistent());
    let publisher = Client::connects(&broker, wire::connect_v5("publisher"));
    receiver.subscribes("t", 1);
    for number in 0..200 {
        publisher.publishes(wire::publish("t", format!("{number}")).at_least_once(1));
    }
    let first = numbers(&receiver.hears_publishes());
    receiver.vanishes();
    let receiver = Client::resumes(&broker, wire::connect_v5("receiver").persistent());
    let mut again = numbers(&receiver.hears_publishes());
    assert!(first.len() >= 100 && again.len() <= 1, "{first:?} and {again:?}");
    // What it had not acknowledged is sent again, and counts.
    broker.advance(seconds(1));
    again.extend(numbers(&receiver.hears_publishes()));
    assert!(again.len() <= 130 && again.starts_with(&first[..70]), "{again:?}");
    broker.advance(seconds(2));
    again.extend(numbers(&receiver.hears_publishes()));
    assert_eq!(again, (0..200).collect::<Vec<_>>());
}

#[test]
fn k04_one_user_cannot_pile_up_sessions() {
    let broker = TestBroker::with(|settings| settings.sessions_per_user_max = 3).guarded_by(Trusting);
    let connect = |user: &str, client_id: &str, expiry_s: u32| {
        let link = broker.link();
        let mut connect = Connect::new(Version::V5, client_id);
        connect.user_name = Some(user);
        connect.session_expiry_interval_s = expiry_s;
        link.send(&encoded(&Packet::Connect(connect)));
        let code = link.received()[3];
        (link, code)
    };
    for number in 0..3 {
        let (link, code) = connect("alice", &format!("id-{number}"), u32::MAX);
        assert_eq!(code, 0);
        link.send(&[0xE0, 0]); // DISCONNECT; the Session stays
    }
    assert_eq!(connect("alice", "id-3", u32::MAX).1, 0x97);
    assert_eq!(connect("bob", "id-4", u32::MAX).1, 0, "others are not concerned");
    assert_eq!(connect("alice", "id-2", 0).1, 0, "a Session that is there can be resumed");
    broker.advance(Duration::from_secs(8 * 24 * 3600));
    assert_eq!(connect("alice", "id-3", 0).1, 0, "those that have ended do not count");
}

/// A user with a lasting Session, and what CONNACK says.
fn login(broker: &TestBroker, user: &str, client_id: &str, expiry_s: u32) -> Link {
    let link = broker.link();
    let mut connect = Connect::new(Version::V5, client_id);
    connect.user_name = Some(user);
    connect.session_expiry_interval_s = expiry_s;
    connect.clean_start = false;
    link.send(&encoded(&Packet::Connect(connect)));
    link
}

#[test]
fn m01_whatever_becomes_of_a_users_retained_messages_makes_room_for_others() {
    let broker = TestBroker::with(|settings| settings.retained_per_user_max = 3).guarded_by(Trusting);
    let (alice, bob) = (login(&broker, "alice", "a", 0), login(&broker, "bob", "b", 0));
    let keeps = |topic: &str, expiry_s: Option<u32>| {
        let before = broker.statistics().retained_refused;
        alice.send(&retained(topic, b"x", expiry_s));
        let refused = broker.statistics().retained_refused - before;
        assert_eq!(refused == 0, broker.retained(topic).is_some(), "what is not kept is counted");
        refused == 0
    };
    assert!(keeps("a", None) && keeps("b", None) && keeps("c", Some(5)));
    assert!(!keeps("d", None));
    assert!(keeps("a", None), "in the place of its own");
    alice.send(&retained("a", b"", None));
    assert!(keeps("d", None), "one was cleared");
    bob.send(&retained("b", b"bob's", None));
    assert!(keeps("e", None), "one is another's now");
    assert!(!keeps("f", None));
    alice.send(&retained("b", b"alice's", None));
    assert_eq!(broker.retained("b"), Some(b"bob's".to_vec()), "and cannot be had back");
    broker.advance(Duration::from_secs(20));
    assert!(keeps("f", None), "one has expired");
    assert!(!keeps("g", None));
}

#[test]
fn k03_takeovers_are_slowed_down_whatever_becomes_of_the_session() {
    let broker = TestBroker::with(|settings| settings.takeovers_per_minute_max = 3);
    for expiry_s in [0, 1000] {
        let client_id = format!("twice-{expiry_s}");
        let knock = || login(&broker, "", &client_id, expiry_s);
        let code = |link: &Link| link.received().get(3).copied();
        let mut there = knock();
        for _ in 0..3 {
            let next = knock();
            assert_eq!(code(&next), Some(0));
            assert!(there.is_closed());
            there = next;
        }
        let (early, late) = (knock(), knock());
        broker.advance(Duration::from_secs(19));
        assert!(!there.is_closed() && !early.is_closed());
        assert_eq!((code(&early), code(&late)), (None, None));
        there.send(&[0xC0, 0]);
        assert_eq!(there.received(), [0xD0, 0], "it is served meanwhile");
        broker.advance(Duration::from_secs(2));
        assert_eq!((code(&early), code(&late)), (Some(0x89), Some(0)));
        assert!(early.is_closed() && there.is_closed() && !late.is_closed());
        // Somebody else is not concerned, and a Client that has gone is not taken over.
        assert_eq!(code(&login(&broker, "", "else", 0)), Some(0));
        late.send(&[0xE0, 0]);
        assert_eq!(code(&knock()), Some(0));
    }
}

#[test]
fn l07_a_stop_publishes_the_wills_that_are_due_before_it_says_goodbye() {
    let broker = TestBroker::new();
    // On both shards, before and after the heir.
    let dying = |client_id: &str, expiry_s: u32, delay_s: u32| {
        let link = broker.link();
        let mut connect = Connect::new(Version::V5, client_id);
        connect.session_expiry_interval_s = expiry_s;
        connect.will = Some(Will {
            topic: "wills",
            payload: client_id.as_bytes(),
            qos: Qos::AtMostOnce,
            retain: false,
            delay_interval_s: delay_s,
            properties: waypost::codec::Properties::default(),
        });
        link.send(&encoded(&Packet::Connect(connect)));
        assert_eq!(link.received()[3], 0);
        link
    };
    let mut links = vec![dying("will-1", 0, 0), dying("will-2", 100, 0)];
    let heir = connected(&broker, "heir");
    heir.send(&subscribed("wills", Qos::AtMostOnce));
    heir.received();
    links.extend([dying("will-3", 0, 100), dying("late-4", 100, 100), dying("will-5", 100, 0)]);
    broker.stop();
    let said = heir.received();
    let text = String::from_utf8_lossy(&said);
    for client_id in ["will-1", "will-2", "will-3", "will-5"] {
        assert_eq!(text.matches(client_id).count(), 1, "{client_id} in {text:?}");
    }
    assert!(!text.contains("late-4"), "its Session lives on: {text:?}");
    assert!(heir.is_closed() && said.ends_with(&[0xE0, 2, 0x8B, 0]), "{said:02x?}");
}

#[test]
fn k10_where_the_oldest_goes_it_is_the_oldest_of_qos_1_first() {
    assert_eq!(kept_of_six(Drops::Oldest), [3, 5, 6]);
}

#[test]
fn k10_where_the_lowest_goes_only_a_higher_qos_replaces_it() {
    assert_eq!(kept_of_six(Drops::Lowest), [1, 3, 5]);
}

#[test]
fn k10_where_the_newest_goes_what_waits_stays() {
    assert_eq!(kept_of_six(Drops::Newest), [1, 2, 3]);
}

/// Six Messages come to a queue for three: which stay. The second and the fourth are of QoS 1, the others of QoS 2.
fn kept_of_six(drops: Drops) -> Vec<u16> {
    let broker = TestBroker::with(|settings| {
        settings.session.queue_messages_max = 3;
        settings.session.queue_drops = drops;
    });
    let away = login(&broker, "", "away", 1000);
    away.send(&subscribed("t", Qos::ExactlyOnce));
    away.send(&[0xE0, 0]);
    let publisher = connected(&broker, "publisher");
    for (number, qos) in [(1, 2), (2, 1), (3, 2), (4, 1), (5, 2), (6, 2)] {
        let payload = format!("message-{number}");
        let mut publish = Publish::new("t", payload.as_bytes());
        (publish.qos, publish.packet_id) = (Qos::from_value(qos).expect("a QoS"), PacketId::new(number));
        publisher.send(&encoded(&Packet::Publish(publish)));
    }
    assert_eq!(broker.statistics().dropped.queue_full, 3);
    let back = login(&broker, "", "away", 1000);
    let found = back.received();
    let found = String::from_utf8_lossy(&found);
    (1..=6).filter(|number| found.contains(&format!("message-{number}"))).collect()
}

#[test]
fn a_publisher_is_told_that_a_group_is_full() {
    let broker = TestBroker::with(|settings| {
        settings.shards = 1;
        settings.session.queue_messages_max = 2;
    });
    let member = || wire::connect_v5("member").persistent();
    Client::connects(&broker, member()).subscribes("$share/group/t", 1).vanishes();
    let publisher = Client::connects(&broker, wire::connect_v5("publisher"));
    publisher.publishes(wire::publish("t", "1").at_least_once(1)).publishes(wire::publish("t", "2").at_least_once(2));
    publisher.says(wire::publish("t", "3").at_least_once(3));
    assert_eq!(publisher.hears_ack(wire::AckKind::PubAck, 3).reason, 0x97);
    let member = Client::resumes(&broker, member());
    let waited = ["1", "2"].map(|payload| wire::publish("t", payload).at_least_once(0));
    member.receives_all(waited);
}
