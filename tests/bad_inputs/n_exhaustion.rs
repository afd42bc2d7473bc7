//! N: exhaustion and fairness. Who takes more than there is gets less; everybody else gets theirs.
//!
//! N07 and N15 need a disk and stand in `n_disk.rs`, N19 in `tests/admin.rs`. Rows without a version of their own play both at once.
//! The broker that is tested is not optimized unless the tests are: bounds on time are stretched by `SLOWNESS`.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::client::{Client, Event, PATIENCE, connected, prompt};
use crate::packet::{
    Connect, DISCONNECT, PINGREQ, Version, Will, code, connect, kind, property, publish, subscribe, will,
};
use crate::rules::{SLOWNESS, Scene, busyness, load, load_is_full, unique};

each_version! {
    n01_connect_flood: alone,
    n02_pending_connections: alone,
    n04_blocked_consumer,
    n08_greedy_sender: alone,
    n09_answers_nobody_reads: alone,
    n13_message_rate_limit,
}

// Whoever finds no descriptor waits where nobody has put a layer on yet.
each_version_over_tcp! {
    n03_out_of_descriptors,
}

each_transport! {
    n05_a_thousand_blocked_consumers: alone,
    n06_fan_out_bomb: alone,
    n10_wildcard_explosion: alone,
    n11_very_many_subscriptions: alone,
    n12_share_membership_storm: alone,
    n14_hard_memory_ceiling: alone,
    n16_everything_due_at_once: alone,
}

// The time that names take, and the pace of a neighbour: both are measured, which wants a machine where nothing else is done,
// and both are above the layers.
all_versions_over_tcp! {
    n17_colliding_keys: alone,
    n18_noisy_neighbour: alone,
}

const MIB: usize = 1024 * 1024;

/// As many connections as fast as one likes, for rows that are not about that.
fn without_rates(profile: &mut crate::broker::Profile) -> &mut crate::broker::Profile {
    profile
        .set("limits.connect_rate_max", 1_000_000)
        .set("limits.connect_rate_per_address_max", 1_000_000)
        .set("limits.connections_pending_max", 20_000)
        .set("limits.connect_timeout", "1m")
}

/// A memory budget, which has a least value: it is the same with layers.
fn budget_mib(small: usize) -> usize {
    if load_is_full() { 256 } else { small }
}

/// Seconds of a load.
fn seconds(small: usize, full: usize) -> Duration {
    Duration::from_secs(load(small, full) as u64)
}

/// Sees that something becomes true in time.
#[track_caller]
pub(crate) fn wait_until(what: &str, patience: Duration, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + patience;
    while !is_so() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// The first packet is a CONNACK that lets in; `false`: the connection was closed.
fn is_let_in(client: &mut Client) -> bool {
    match client.event(PATIENCE) {
        Event::Packet(packet) => packet.kind() == kind::CONNACK && packet.connack(client.version()).code == 0,
        Event::Closed => false,
        Event::Silence => panic!("neither an answer nor a close"),
    }
}

/// The time that 99 of a hundred did not exceed.
fn p99(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get((times.len() * 99).div_ceil(100).saturating_sub(1)).copied().unwrap_or_default()
}

/// Publishes QoS 1 to each topic and waits for its acknowledgement, which comes when it has been routed.
#[track_caller]
fn round_trips(scene: &Scene, client: &mut Client, topics: impl Iterator<Item = String>) -> Cost {
    let mut times = Vec::new();
    let spent = scene.cpu_of(|| {
        for topic in topics {
            let begun = Instant::now();
            let reason = client.publish(topic, "x", 1);
            assert!(reason <= code::NO_MATCHING_SUBSCRIBERS, "refused: {reason:#x}");
            times.push(begun.elapsed());
        }
    });
    Cost { each: spent / times.len().max(1) as u32, p99: p99(times) }
}

/// What one of many exchanges costs the broker, that with the innocents included, and what 99 of a hundred take at most. The
/// former does not depend on what else this machine does.
struct Cost {
    each: Duration,
    p99: Duration,
}

impl std::fmt::Display for Cost {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{:.1?} of CPU each and {:.1?} at most", self.each, self.p99)
    }
}

/// Subscribes to many filters, as many in one packet as the broker takes.
#[track_caller]
fn subscribe_to_all(client: &mut Client, filters: &[String], options: u8) {
    for part in filters.chunks(crate::broker::FILTERS_PER_SUBSCRIBE_MAX) {
        let id = client.new_packet_id();
        let list: Vec<_> = part.iter().map(|filter| (filter.as_bytes(), options)).collect();
        let version = client.version();
        client.send(&subscribe(version, id, &list));
        let answer = loop {
            let packet = client.receive();
            if packet.kind() == kind::SUBACK {
                break packet;
            }
        };
        assert!(answer.codes(version).iter().all(|code| *code == options), "{answer:?}");
    }
}

/// One address is let in so often in a second; whoever comes from another one does not even notice.
fn n01_connect_flood(version: Version) {
    // With layers there are fewer that come in a second, too.
    let rate = load(100, 100);
    let scene = Scene::under_load_with(|profile| {
        profile.set("limits.connect_rate_max", 1000).set("limits.connect_rate_per_address_max", rate);
    });
    let address = scene.address();
    let (flooder, other) = (Ipv4Addr::new(127, 0, 0, 2), Ipv4Addr::new(127, 0, 0, 3));
    let begun = Instant::now();
    let lasts = seconds(1, 30);
    let flood = || {
        let (mut let_in, mut refused) = (0, 0);
        let hello = connect(version, "n01").bytes();
        while begun.elapsed() < lasts {
            let mut client = Client::open_from(flooder, address, version);
            client.send(&hello);
            if is_let_in(&mut client) { let_in += 1 } else { refused += 1 }
        }
        (let_in, refused)
    };
    let (let_in, refused) = thread::scope(|scope| {
        let floods: Vec<_> = (0..4).map(|_| scope.spawn(flood)).collect();
        let mut slowest = Duration::ZERO;
        while floods.iter().any(|flood| !flood.is_finished()) {
            let tried = Instant::now();
            let mut client = Client::open_from(other, address, version);
            client.connect(&connect(version, "n01-other"));
            slowest = slowest.max(tried.elapsed());
            client.disconnect();
            thread::sleep(Duration::from_millis(20));
        }
        assert!(slowest <= prompt(), "from another address it took {slowest:?}");
        let counts = floods.into_iter().map(|flood| flood.join().expect("each is let in or closed"));
        counts.fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1))
    });
    let took = begun.elapsed();
    crate::report(&format!("n01: {let_in} let in and {refused} refused in {took:.1?}"));
    let most = rate + (rate as f64 * took.as_secs_f64()).ceil() as usize + 1;
    assert!(let_in >= rate && let_in <= most, "{let_in} were let in within {took:?}, at most {most} should have been");
    scene.rejected(refused);
    scene.holds();
}

/// Connections that do not say CONNECT are bounded in number. Those beyond are closed at once.
fn n02_pending_connections(version: Version) {
    let (pending_max, count) = (load(200, 1000), load(500, 5000));
    let scene = Scene::under_load_with(|profile| {
        without_rates(profile).set("limits.connections_pending_max", pending_max);
    })
    .may_grow_by((count * 16 * 1024 + 16 * MIB) as u64);
    let mut clients: Vec<_> = (0..count).map(|_| scene.open(version)).collect();
    for client in &mut clients[pending_max..] {
        client.expect_close_within(PATIENCE);
    }
    scene.rejected(count - pending_max);
    // The others may still say it, and make room by that.
    for client in &mut clients[..10] {
        client.connect(&connect(version, unique("n02")));
    }
    scene.connected(version, "n02-late").disconnect();
    drop(clients);
    scene.holds();
}

/// Without descriptors nobody is accepted, nothing spins, files can still be read, and places that become free are given.
fn n03_out_of_descriptors(version: Version) {
    let rules = std::env::temp_dir().join(unique("waypost-n03-rules"));
    fs::write(&rules, "topic readwrite #\npattern readwrite #\n").expect("the temporary folder can be written");
    let count = load(400, 2000);
    let scene = Scene::under_load_with(|profile| {
        without_rates(profile)
            .prelude(if load_is_full() { "ulimit -n 1024" } else { "ulimit -n 200" })
            .set("[listener].backlog", 4096)
            .set("acl.files", [rules.display().to_string()]);
    });
    let mut clients: Vec<_> = (0..count).map(|_| scene.open(version)).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.send(&connect(version, format!("n03-{number}")).bytes());
    }
    let mut served = 0;
    while matches!(clients[served].event(Duration::from_millis(300).mul_f64(busyness())), Event::Packet(_)) {
        served += 1;
    }
    assert!(served >= load(100, 900) && served < count, "{served} of {count} were served");
    let spent = scene.cpu_of(|| thread::sleep(Duration::from_secs(1)));
    assert!(spent < Duration::from_millis(40) * SLOWNESS.max(2), "waiting for a descriptor cost {spent:?} in a second");
    let in_force = "access rules are in force";
    let before = scene.log_lines_with(in_force);
    scene.broker().hang_up();
    wait_until("the rules are read again", PATIENCE, || scene.log_lines_with(in_force) > before);
    assert_eq!(scene.log_lines_with("all file descriptors are in use"), 1, "said once");
    let rest = clients.split_off(served);
    clients.truncate(served / 2);
    let freed = Instant::now();
    let mut rest = rest.into_iter();
    let mut next = rest.next().expect("not all were served");
    assert_eq!(next.receive_connack().code, 0);
    assert!(freed.elapsed() <= prompt(), "accepted again after {:?}", freed.elapsed());
    crate::report(&format!(
        "n03: {served} of {count} served, idle wait {spent:.1?} a second, again {:.1?}",
        freed.elapsed()
    ));
    drop((clients, next, rest));
    let _ = fs::remove_file(rules);
    scene.holds();
}

/// Who does not read costs a bounded amount for a bounded time, QoS 0 first. Its publisher notices nothing.
fn n04_blocked_consumer(version: Version) {
    let stall = seconds(1, 20);
    let scene = Scene::under_load_with(|profile| {
        profile
            .set("limits.write_stall_max", format!("{}s", stall.as_secs()))
            .set("limits.queue_qos0_size_max", "4MiB");
    })
    .may_grow_by(24 * MIB as u64);
    let mut consumer = scene.connected(version, "n04-consumer");
    assert_eq!((consumer.subscribe("n04/0", 0), consumer.subscribe("n04/1", 1)), (0, 1));
    let mut publisher = scene.connected(version, "n04-publisher");
    let payload = vec![b'x'; 64 * 1024];
    let rounds = load(16, 100);
    for round in 0..rounds {
        for _ in 0..16 {
            publisher.send(&publish(version, "n04/0", &payload).bytes());
        }
        // The acknowledgement comes behind all of that: the publisher is never kept waiting.
        if round < 50 {
            assert_eq!(publisher.publish("n04/1", round.to_string(), 1), 0, "QoS 1 has room of its own");
        }
    }
    let sent = Instant::now();
    wait_until("the consumer is given up", stall + 2 * prompt() + PATIENCE, || {
        scene.log_lines_with("takes no data") == 1
    });
    let took = sent.elapsed();
    // What was written before stays readable, then it is told why, then there is an end.
    let (mut messages, mut told) = (0, None);
    loop {
        match consumer.event(PATIENCE) {
            Event::Packet(packet) if packet.kind() == kind::PUBLISH => messages += 1,
            Event::Packet(packet) => {
                assert_eq!(packet.kind(), kind::DISCONNECT);
                told = Some(packet.reason());
            }
            Event::Closed => break,
            Event::Silence => panic!("the consumer is not closed"),
        }
    }
    assert_eq!(told, version.is_v5().then_some(code::QUOTA_EXCEEDED));
    let is_too_much = rounds >= 16;
    assert!(!is_too_much || scene.log_lines_with("messages dropped") >= 1, "what is lost is told");
    crate::report(&format!("n04: closed {took:.1?} after the last message, {messages} messages had got through"));
    publisher.disconnect();
    scene.holds();
}

/// A thousand who do not read: the memory of all of them together is bounded, and everything is as before once they are gone.
fn n05_a_thousand_blocked_consumers() {
    let (consumers, budget) = (load(100, 1000), budget_mib(16) * MIB);
    let scene = Scene::under_load_with(|profile| {
        without_rates(profile).set("node.memory_budget", budget);
    })
    .may_grow_by((budget + budget / 10 + 8 * MIB) as u64)
    .may_keep_it();
    let readers: Vec<_> = (0..consumers)
        .map(|number| {
            let version = Version::BOTH[number % 2];
            let mut consumer = scene.connected(version, format!("n05-{number}"));
            consumer.shrink();
            assert_eq!(consumer.subscribe(format!("n05/{number}"), 1), 1);
            consumer
        })
        .collect();
    let mut publisher = scene.connected(Version::V5, "n05-publisher");
    let count = load(6_000, 100_000);
    // Enough to fill the budget, also where there are fewer.
    let payload = vec![b'x'; (30 * MIB / count).max(10 * 1024)];
    let begun = Instant::now();
    for number in 0..count {
        let qos = u8::from(number % 10 == 0);
        let id = publisher.new_packet_id();
        let topic = format!("n05/{}", number % consumers);
        publisher.send(&publish(Version::V5, topic, &payload).qos(qos, id).bytes());
        if qos == 1 {
            let reason = publisher.receive_ack(kind::PUBACK, id);
            assert!(matches!(reason, 0 | code::QUOTA_EXCEEDED), "{reason:#x}");
        }
        let due = begun + Duration::from_secs(1).mul_f64(number as f64 / 5_000.0);
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    publisher.ping();
    crate::report(&format!(
        "n05: {count} messages of {} KiB in {:.1?}, memory +{} KiB",
        payload.len() / 1024,
        begun.elapsed(),
        scene.growth() / 1024
    ));
    assert!(scene.log_lines_with("memory gets short") >= 1, "the budget was reached");
    drop(readers);
    let gone = Instant::now();
    let mut late = scene.connected_when_there_is_room(Version::V5, "n05-late");
    assert_eq!(late.subscribe("n05/late", 1), 1);
    wait_until("all is as before", Duration::from_secs(10).mul_f64(busyness()), || {
        publisher.publish("n05/late", "again", 1) == 0
    });
    assert_eq!(late.receive_message().payload, b"again");
    crate::report(&format!("n05: as before {:.1?} after they were gone", gone.elapsed()));
    drop(late);
    publisher.disconnect();
    scene.holds();
}

/// A large message for many is held once, however many wait for the rest of it.
fn n06_fan_out_bomb() {
    let (subscribers, rounds) = (load(100, 2000), load(5, 50));
    let budget = budget_mib(16) * MIB;
    let scene = Scene::under_load_with(|profile| {
        without_rates(profile).set("node.memory_budget", format!("{}MiB", budget / MIB));
    })
    .may_grow_by(budget as u64);
    let mut readers: Vec<_> = (0..subscribers)
        .map(|number| {
            let mut reader = scene.connected(Version::BOTH[number % 2], format!("n06-{number}"));
            assert_eq!(reader.subscribe("n06", 0), 0);
            reader
        })
        .collect();
    let mut publisher = scene.connected(Version::V5, "n06-publisher");
    let payload = |round: usize| -> Vec<u8> {
        (0..crate::broker::PACKET_SIZE_MAX - 100).map(|at| (at / 7 + round) as u8).collect()
    };
    let begun = Instant::now();
    for round in 0..rounds {
        publisher.send(&publish(Version::V5, "n06", payload(round)).bytes());
        publisher.ping();
        let due = begun + Duration::from_millis(200) * (round as u32 + 1);
        if load_is_full() {
            thread::sleep(due.saturating_duration_since(Instant::now()));
        }
    }
    crate::report(&format!(
        "n06: {rounds} MiB for each of {subscribers} in {:.1?}, memory +{} KiB",
        begun.elapsed(),
        scene.growth() / 1024
    ));
    // What they get in the end is whole.
    for reader in readers.iter_mut().take(4) {
        let first = reader.receive_message();
        assert!(first.payload == payload(0), "{:?}: the first message is not whole", reader.version());
    }
    // They all go at the same moment, with all that they have not taken.
    drop(readers);
    let gone = Instant::now();
    publisher.ping();
    crate::report(&format!("n06: an answer {:.1?} after they were gone", gone.elapsed()));
    publisher.disconnect();
    scene.holds();
}

/// Who sends as fast as it can has its turn, like everybody else.
fn n08_greedy_sender(version: Version) {
    let scene = Scene::under_load();
    let kinds = [publish(version, "n08/nobody", "x").bytes().repeat(2000), PINGREQ.repeat(10_000)];
    for packets in one_or_all(version, kinds) {
        let lasts = seconds(1, 10);
        // Two of them: neither gets much more than the other.
        let [one, other] = thread::scope(|scope| {
            [0, 1]
                .map(|_| scope.spawn(|| send_as_fast_as_possible(scene.address(), version, &packets, lasts)))
                .map(|thread| thread.join().expect("it is served"))
        });
        crate::report(&format!("n08: {one} and {other} KiB"));
        assert!(one * 10 >= other && other * 10 >= one, "{one} and {other} KiB were taken");
    }
    scene.holds();
}

/// Under a small load each version plays another kind of the two.
fn one_or_all<T>(version: Version, [one, other]: [T; 2]) -> Vec<T> {
    match (load_is_full(), version) {
        (true, _) => vec![one, other],
        (false, Version::V5) => vec![one],
        (false, Version::V311) => vec![other],
    }
}

/// Reads whatever is answered meanwhile; gives the KiB that were taken.
fn send_as_fast_as_possible(address: SocketAddr, version: Version, packets: &[u8], lasts: Duration) -> usize {
    let mut client = connected(address, version, unique("greedy"));
    let mut writer = client.writer();
    let over = AtomicBool::new(false);
    let until = Instant::now() + lasts;
    let sent = thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                client.event(Duration::from_millis(50));
            }
        });
        let mut sent = 0;
        while Instant::now() < until && writer.write_all(packets).is_ok() {
            sent += packets.len();
        }
        over.store(true, Ordering::Relaxed);
        sent
    });
    sent / 1024
}

/// Answers that nobody reads stop the questions, and after a while the connection.
fn n09_answers_nobody_reads(version: Version) {
    let scene = Scene::under_load_with(|profile| {
        profile.set("limits.write_stall_max", if load_is_full() { "20s" } else { "1s" });
    });
    let kinds = [PINGREQ.repeat(1000), subscribe(version, 1, &[(b"n09/a", 0)]).repeat(1000)];
    for packets in one_or_all(version, kinds) {
        let closed_before = scene.log_lines_with("takes no data");
        let mut client = scene.connected(version, "n09");
        client.shrink();
        let mut writer = client.writer();
        writer.set_write_timeout(Some(Duration::from_millis(300))).expect("the duration is not zero");
        for _ in 0..1000 {
            // The system takes some of it, whatever the broker does.
            if writer.write_all(&packets).is_err() {
                break;
            }
        }
        wait_until("it is given up", seconds(1, 20) + 2 * prompt() + PATIENCE, || {
            scene.log_lines_with("takes no data") > closed_before
        });
        let mut answers = 0;
        while !matches!(client.event(PATIENCE), Event::Closed) {
            answers += 1;
        }
        crate::report(&format!("n09: {answers} questions were answered"));
        assert!(answers < 500_000, "{answers} of a million questions were answered");
    }
    scene.holds();
}

/// Filters with `+` in every combination of twelve levels, all of which match.
fn n10_wildcard_explosion() {
    const LEVELS: usize = 12;
    let scene = Scene::under_load_with(|profile| {
        profile.set("limits.subscriptions_per_session_max", 10_000);
    });
    let level = |at: usize| char::from(b'a' + at as u8).to_string();
    let filters: Vec<_> = (0..1 << LEVELS)
        .map(|mask: usize| {
            let levels = (0..LEVELS).map(|at| if mask >> at & 1 == 1 { "+".to_owned() } else { level(at) });
            levels.chain(["#".to_owned()]).collect::<Vec<_>>().join("/")
        })
        .collect();
    let mut subscriber = scene.connected(Version::V5, "n10-subscriber");
    subscribe_to_all(&mut subscriber, &filters, 0);
    let mut publisher = scene.connected(Version::V311, "n10-publisher");
    let count = load(100, 1000);
    let path: Vec<_> = (0..LEVELS).map(level).collect();
    // A new topic each time, so that no cache knows it.
    let hits = round_trips(&scene, &mut publisher, (0..count).map(|number| format!("{}/{number}", path.join("/"))));
    for _ in 0..count {
        subscriber.receive_message();
    }
    // Much of that work without any result: the topic is a level too short for all of them.
    let misses = round_trips(
        &scene,
        &mut publisher,
        (0..count).map(|number| format!("{}/{number}", path[..LEVELS - 2].join("/"))),
    );
    assert!(subscriber.settle().iter().all(|packet| packet.kind() != kind::PUBLISH));
    let few = round_trips(&scene, &mut publisher, (0..count).map(|number| format!("x/{number}")));
    crate::report(&format!("n10: {hits} for 4,096 filters, {misses} for none of them, {few} elsewhere"));
    let allowed = Duration::from_millis(2) * SLOWNESS; // of CPU, with all that is not the match
    assert!(hits.each <= allowed && misses.each <= allowed, "of 4,096 filters {hits}, of none {misses}");
    subscriber.disconnect();
    publisher.disconnect();
    scene.may_grow_by(32 * MIB as u64).holds();
}

/// A publish does not take longer for subscriptions that do not concern it.
fn n11_very_many_subscriptions() {
    let (exact, wildcard) = (load(20_000, 100_000), load(2_000, 10_000));
    let scene = Scene::under_load_with(|profile| {
        profile.set("limits.subscriptions_per_session_max", 200_000);
    })
    .may_grow_by(128 * MIB as u64);
    let mut publisher = scene.connected(Version::V5, "n11-publisher");
    let mut subscriber = scene.connected(Version::V311, "n11-subscriber");
    let topics = |round: &str| {
        let round = round.to_owned();
        (0..load(500, 5000)).map(move |number| format!("n11/{}/{round}{number}", number % 100))
    };
    let filters: Vec<_> = (0..100).map(|number| format!("n11/{number}/+")).collect();
    subscribe_to_all(&mut subscriber, &filters, 0);
    round_trips(&scene, &mut publisher, topics("warm").take(200));
    let few = round_trips(&scene, &mut publisher, topics("few"));
    subscriber.settle();
    let filters: Vec<_> = (0..exact).map(|number| format!("n11/{}/exact/{number}", number % 1000)).collect();
    subscribe_to_all(&mut subscriber, &filters, 0);
    let filters: Vec<_> = (0..wildcard).map(|number| format!("n11/+/{number}/wild/#")).collect();
    subscribe_to_all(&mut subscriber, &filters, 0);
    // Whether anything is retained for them is looked up in steps; that is not what is measured.
    round_trips(&scene, &mut publisher, topics("warm again"));
    let many = round_trips(&scene, &mut publisher, topics("many"));
    crate::report(&format!("n11: {few} with 100 filters, {many} with {}", exact + wildcard));
    let noise = Duration::from_micros(20) * SLOWNESS;
    assert!(many.each <= few.each * 2 + noise, "with {} filters {many}, with 100 {few}", exact + wildcard);
    subscriber.settle();
    drop(subscriber);
    publisher.disconnect();
    scene.holds();
}

/// Members come and go, some without a word, while messages flow: each message reaches somebody.
fn n12_share_membership_storm() {
    let (joiners, lasts) = (load(100, 2000), seconds(1, 30));
    let scene = Scene::under_load_with(|profile| {
        without_rates(profile).set("limits.queue_messages_max", 100_000);
    })
    .may_grow_by(load(32, 128) as u64 * MIB as u64);
    let address = scene.address();
    let seen = Mutex::new(HashSet::new());
    let over = AtomicBool::new(false);
    let note = |client: &mut Client, delivery: &crate::packet::Delivery| {
        let number: usize = String::from_utf8_lossy(&delivery.payload).parse().expect("a number");
        seen.lock().expect("nobody panics with it").insert(number);
        client.acknowledge(delivery);
    };
    // Whoever joins takes its turn: subscribes, receives for a moment, and leaves, every other time by hanging up.
    let storm = |first: usize, count: usize| {
        let mut round = 0;
        let mut clients: Vec<Option<Client>> = (0..count).map(|_| None).collect();
        while !over.load(Ordering::Relaxed) {
            for (number, place) in clients.iter_mut().enumerate() {
                let version = Version::BOTH[number % 2];
                let mut client =
                    place.take().unwrap_or_else(|| connected(address, version, format!("n12-{}", first + number)));
                let id = client.new_packet_id();
                let is_joining = round % 2 == 0;
                let packets = if is_joining {
                    client.send(&subscribe(version, id, &[(b"$share/g/n12", 1)]));
                    let mut packets = Vec::new();
                    while let Event::Packet(packet) = client.event(Duration::from_micros(100)) {
                        packets.push(packet);
                    }
                    packets
                } else {
                    // What is on its way to somebody who leaves is its own.
                    client.send(&crate::packet::unsubscribe(version, id, &[b"$share/g/n12"])).settle()
                };
                for packet in packets.iter().filter(|packet| packet.kind() == kind::PUBLISH) {
                    note(&mut client, &packet.delivery(version));
                }
                if is_joining && (round + number) % 7 == 0 {
                    client.reset()
                } else {
                    *place = Some(client)
                }
                if over.load(Ordering::Relaxed) {
                    break;
                }
            }
            round += 1;
        }
        for mut client in clients.into_iter().flatten() {
            for packet in client.settle() {
                if packet.kind() == kind::PUBLISH {
                    let delivery = packet.delivery(client.version());
                    note(&mut client, &delivery);
                }
            }
            // A member until the end: what still comes is for somebody else now.
            client.send(DISCONNECT);
            while let Event::Packet(_) = client.event(PATIENCE) {}
        }
    };
    let stay = |version: Version, name: &str| {
        let mut member = Client::open(address, version);
        member.connect(&persistent(version, name));
        assert_eq!(member.subscribe("$share/g/n12", 1), 1);
        member
    };
    let mut members = [stay(Version::V5, "n12-member-5"), stay(Version::V311, "n12-member-311")];
    let sent = AtomicUsize::new(0);
    let pauses = thread::scope(|scope| {
        let publisher = scope.spawn(|| {
            let mut publisher = connected(address, Version::V5, "n12-publisher");
            let (begun, mut pauses) = (Instant::now(), Vec::new());
            let rate = load(1000, 5000) as f64;
            while begun.elapsed() < lasts {
                let number = sent.fetch_add(1, Ordering::Relaxed);
                let at = Instant::now();
                assert_eq!(publisher.publish("n12", number.to_string(), 1), 0, "somebody takes it");
                pauses.push(at.elapsed());
                let due = begun + Duration::from_secs_f64(number as f64 / rate);
                thread::sleep(due.saturating_duration_since(Instant::now()));
            }
            over.store(true, Ordering::Relaxed);
            publisher.disconnect();
            pauses
        });
        let storm = &storm;
        let storms: Vec<_> = (0..4).map(|part| scope.spawn(move || storm(part * joiners / 4, joiners / 4))).collect();
        // Those who stay read until everything has come.
        let patience = lasts + 4 * PATIENCE;
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            for member in &mut members {
                while let Event::Packet(packet) = member.event(Duration::from_millis(1)) {
                    if packet.kind() == kind::PUBLISH {
                        let delivery = packet.delivery(member.version());
                        note(member, &delivery);
                    }
                }
            }
            let all = sent.load(Ordering::Relaxed);
            if publisher.is_finished()
                && storms.iter().all(|storm| storm.is_finished())
                && seen.lock().expect("nobody panics with it").len() == all
            {
                break;
            }
        }
        storms.into_iter().for_each(|storm| storm.join().expect("members are served"));
        publisher.join().expect("the publisher is served")
    });
    let (sent, seen) = (sent.into_inner(), seen.into_inner().expect("nobody panicked with it"));
    let lost: Vec<_> = (0..sent).filter(|number| !seen.contains(number)).take(10).collect();
    assert!(lost.is_empty(), "{} of {sent} were lost: {lost:?}", sent - seen.len());
    let longest = pauses.iter().max().copied().unwrap_or_default();
    crate::report(&format!("n12: {sent} messages, none lost, longest wait {longest:.1?}, p99 {:.1?}", p99(pauses)));
    assert!(longest <= prompt(), "a publisher waited {longest:?}");
    members.into_iter().for_each(Client::disconnect);
    scene.holds();
}

/// A Session that stays.
fn persistent(version: Version, client_id: impl AsRef<[u8]>) -> Connect {
    Connect {
        clean: false,
        properties: property::of_u32(property::SESSION_EXPIRY_INTERVAL, 3600),
        ..connect(version, client_id)
    }
}

/// Who publishes faster than the configured rate is read later; nothing is lost.
fn n13_message_rate_limit(version: Version) {
    const RATE: usize = 300;
    let scene = Scene::with(|profile| {
        profile.set("limits.message_rate_max", RATE);
    });
    let mut subscriber = scene.connected(version, "n13-subscriber");
    assert_eq!(subscriber.subscribe("n13", 0), 0);
    let mut publisher = scene.connected(version, "n13-publisher");
    let begun = Instant::now();
    let packets: Vec<u8> =
        (0..2 * RATE).flat_map(|number| publish(version, "n13", number.to_string()).bytes()).collect();
    publisher.send(&packets).send(PINGREQ);
    for number in 0..2 * RATE {
        assert_eq!(subscriber.receive_message().payload, number.to_string().as_bytes(), "in order, and all of them");
    }
    // A second's worth may come at once, but what is read in one piece is taken in one piece: the rate shows in what follows.
    publisher.receive_kind(kind::PINGRESP);
    publisher.ping();
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(900), "twice the rate passed in {took:?}");
    publisher.disconnect();
    subscriber.disconnect();
    scene.holds();
}

/// All at once under a ceiling that the system enforces: blocked consumers, everybody asking for everything that is retained,
/// and Sessions with full queues that come back and do not read.
fn n14_hard_memory_ceiling() {
    let full = load_is_full();
    let budget = budget_mib(64) * MIB;
    let scene = Scene::under_load_with(|profile| {
        // Of what a process writes to in memory, which is all that counts here.
        without_rates(profile)
            .prelude(if full { "ulimit -d 524288" } else { "ulimit -d 131072" })
            .set("node.memory_budget", budget);
    })
    .may_grow_by(2 * budget as u64)
    .may_keep_it();
    let address = scene.address();
    let mut publisher = scene.connected(Version::V5, "n14-publisher");
    let payload = vec![b'r'; 1024];
    for number in 0..load(2_000, 20_000) {
        publisher.send(&publish(Version::V5, format!("n14/r/{number}"), &payload).retained().bytes());
    }
    publisher.ping();
    let name = |kind: &str, number: usize| (Version::BOTH[number % 2], format!("n14-{kind}-{number}"));
    let count = load(50, 500);
    for number in 0..count {
        let (version, id) = name("slow", number);
        let mut away = Client::open(address, version);
        away.connect(&persistent(version, id));
        assert_eq!(away.subscribe(format!("n14/s/{number}"), 1), 1);
        away.disconnect();
    }
    let blocked: Vec<_> = (0..count)
        .map(|number| {
            let (version, id) = name("blocked", number);
            let mut client = connected(address, version, id);
            client.shrink();
            assert_eq!(client.subscribe(format!("n14/b/{number}"), 0), 0);
            client
        })
        .collect();
    let payload = vec![b'x'; 10 * 1024];
    let begun = Instant::now();
    let rounds = load(60, 100);
    let mut crowd = Vec::new();
    let mut refused = 0;
    for round in 0..rounds {
        for number in 0..count {
            publisher.send(&publish(Version::V5, format!("n14/b/{number}"), &payload).bytes());
            let id = publisher.new_packet_id();
            publisher.send(&publish(Version::V5, format!("n14/s/{number}"), &payload).qos(1, id).bytes());
            refused += usize::from(publisher.receive_ack(kind::PUBACK, id) == code::QUOTA_EXCEEDED);
        }
        if round == rounds / 2 {
            // In the middle of it, those that were away come back and everybody wants everything.
            for number in 0..count {
                let (version, id) = name("slow", number);
                let mut back = Client::open(address, version);
                back.shrink();
                back.send(&persistent(version, id).bytes());
                let mut asking = Client::open(address, version);
                asking.shrink();
                asking.send(&connect(version, format!("n14-asking-{number}")).bytes());
                asking.send(&subscribe(version, 1, &[(b"n14/r/#", 1)]));
                crowd.extend([back, asking]);
            }
        }
    }
    publisher.ping();
    crate::report(&format!(
        "n14: {} MiB in {:.1?}, {refused} refused, memory +{} KiB",
        2 * rounds * count * 10 / 1024,
        begun.elapsed(),
        scene.growth() / 1024
    ));
    drop((blocked, crowd));
    // Whoever left Sessions takes them away, so that what they held is given back.
    for number in 0..count {
        let (version, id) = name("slow", number);
        scene.connected_when_there_is_room(version, &id).disconnect();
    }
    publisher.disconnect();
    scene.holds();
}

/// Wills, Sessions and retained messages that are all due in the same second: the work is done in steps.
fn n16_everything_due_at_once() {
    let (wills, expiries) = (load(500, 10_000), load(5_000, 90_000));
    let scene = Scene::under_load_with(|profile| {
        without_rates(profile);
    })
    .may_grow_by(load(32, 256) as u64 * MIB as u64);
    let address = scene.address();
    let mut watcher = scene.connected(Version::V311, "n16-watcher");
    assert_eq!(watcher.subscribe("n16/will", 0), 0);
    let dying: Vec<_> = (0..wills)
        .map(|number| {
            let mut client = Client::open(address, Version::V5);
            client.connect(&Connect {
                // The Session ends when the Will goes out.
                properties: property::of_u32(property::SESSION_EXPIRY_INTERVAL, 2),
                will: Some(Will {
                    properties: property::of_u32(property::WILL_DELAY_INTERVAL, 2),
                    ..will("n16/will", number.to_string())
                }),
                ..connect(Version::V5, format!("n16-{number}"))
            });
            client
        })
        .collect();
    let mut publisher = scene.connected(Version::V5, "n16-publisher");
    let due = Instant::now() + seconds(3, 20);
    for number in 0..expiries {
        let left = due.saturating_duration_since(Instant::now()).as_secs().max(1) as u32;
        let expires = property::of_u32(property::MESSAGE_EXPIRY_INTERVAL, left);
        publisher.send(&publish(Version::V5, format!("n16/r/{number}"), "x").retained().with(expires).bytes());
    }
    publisher.ping();
    thread::sleep((due - Duration::from_secs(2)).saturating_duration_since(Instant::now()));
    dying.into_iter().for_each(Client::reset);
    let mut pauses = Vec::new();
    while Instant::now() < due + Duration::from_secs(1) {
        let begun = Instant::now();
        publisher.ping();
        pauses.push(begun.elapsed());
        thread::sleep(Duration::from_millis(2));
    }
    let seen: HashSet<_> = (0..wills).map(|_| watcher.receive_message().payload).collect();
    assert_eq!(seen.len(), wills, "each Will goes out once");
    let longest = pauses.iter().max().copied().unwrap_or_default();
    crate::report(&format!("n16: {wills} Wills and {expiries} expiries, longest pause {longest:.1?}"));
    let allowed = Duration::from_millis(100).mul_f64(busyness()) * SLOWNESS.min(4);
    assert!(longest <= allowed, "a pause of {longest:?}");
    let retained = {
        assert_eq!(publisher.subscribe("n16/r/#", 0), 0);
        publisher.settle().len()
    };
    assert_eq!(retained, 0, "what has expired is not delivered");
    watcher.disconnect();
    publisher.disconnect();
    scene.holds();
}

/// A hash without a key, as some libraries have it: where it starts, and what each byte does to it.
struct Hash {
    name: &'static str,
    start: u32,
    step: fn(u32, u8) -> u32,
}

/// Names that collide under hashes without a key cost no more than others.
fn n17_colliding_keys() {
    let count = load(1_000, 25_000);
    let scene = Scene::under_load_with(|profile| {
        without_rates(profile);
    })
    .may_grow_by(load(64, 512) as u64 * MIB as u64);
    let mut publisher = scene.connected(Version::V5, "n17-publisher");
    let hashes = [
        Hash { name: "times 31", start: 0, step: |hash, byte| hash.wrapping_mul(31).wrapping_add(byte.into()) },
        Hash { name: "times 33", start: 5381, step: |hash, byte| hash.wrapping_mul(33).wrapping_add(byte.into()) },
        Hash {
            name: "FNV-1a",
            start: 0x811C_9DC5,
            step: |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193),
        },
        Hash {
            name: "one at a time",
            start: 0,
            step: |hash, byte| {
                let hash = hash.wrapping_add(byte.into());
                let hash = hash.wrapping_add(hash << 10);
                hash ^ (hash >> 6)
            },
        },
    ];
    for Hash { name, start, step } in hashes {
        let bad = colliding(count, start, step);
        let hash = |text: &String| text.bytes().fold(start, step);
        assert!(bad.iter().all(|text| hash(text) == hash(&bad[0])), "all of them collide");
        let good: Vec<_> = (0..count).map(|number| scrambled(number, bad[0].len())).collect();
        let cost = |publisher: &mut Client, names: &[String]| {
            let mut spent = scene.cpu_of(|| use_names(publisher, scene.address(), names));
            // The better of two, since the innocents and the machine have a say in it.
            spent = spent.min(scene.cpu_of(|| use_names(publisher, scene.address(), names)));
            spent
        };
        let (good, bad) = (cost(&mut publisher, &good), cost(&mut publisher, &bad));
        crate::report(&format!("n17, {name}: {good:.1?} for {count} names, {bad:.1?} for as many that collide"));
        assert!(bad <= good * 2 + Duration::from_millis(20), "{name}: {bad:?} for what usually takes {good:?}");
    }
    publisher.disconnect();
    scene.holds();
}

/// As topics that are retained and cleared, as filters, and as Client Identifiers.
fn use_names(publisher: &mut Client, address: SocketAddr, names: &[String]) {
    for payload in ["x", ""] {
        for name in names {
            publisher.send(&publish(Version::V5, name, payload).retained().bytes());
        }
        publisher.ping();
    }
    for part in names.chunks(500).take(2) {
        subscribe_to_all(publisher, part, 0);
        for part in part.chunks(100) {
            let id = publisher.new_packet_id();
            let list: Vec<_> = part.iter().map(|name| name.as_bytes()).collect();
            publisher.send(&crate::packet::unsubscribe(Version::V5, id, &list));
            publisher.receive_kind(kind::UNSUBACK);
        }
    }
    let clients: Vec<_> = names.iter().take(100).map(|name| connected(address, Version::V5, name)).collect();
    clients.into_iter().for_each(Client::disconnect);
}

/// So many texts of one length that have the same hash: from any state, two blocks that lead to the same next state are found
/// by the birthday paradox, and each such pair doubles the number of texts (Joux, "Multicollisions", 2004).
fn colliding(count: usize, start: u32, step: fn(u32, u8) -> u32) -> Vec<String> {
    let mut texts = vec![String::new()];
    let mut state = start;
    while texts.len() < count {
        let mut seen: HashMap<u32, usize> = HashMap::new();
        let after = |number: usize| scrambled_bytes::<6>(number).into_iter().fold(state, step);
        let (one, other) = (0..)
            .find_map(|number| {
                let before = seen.insert(after(number), number)?;
                (scrambled(before, 6) != scrambled(number, 6)).then_some((before, number))
            })
            .expect("there are more blocks than hashes");
        state = after(one);
        texts = [scrambled(one, 6), scrambled(other, 6)]
            .iter()
            .flat_map(|block| texts.iter().map(move |text| format!("{text}{block}")))
            .collect();
    }
    texts.truncate(count);
    texts
}

/// Letters and digits that differ from number to number.
fn scrambled(number: usize, length: usize) -> String {
    scrambled_bytes::<128>(number)[..length].iter().map(|byte| char::from(*byte)).collect()
}

fn scrambled_bytes<const COUNT: usize>(number: usize) -> [u8; COUNT] {
    const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz012345";
    let mut random = (number as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    std::array::from_fn(|_| {
        random ^= random >> 27;
        random = random.wrapping_mul(0x94D0_49BB_1331_11EB);
        LETTERS[(random >> 59) as usize]
    })
}

/// One user at all of its limits; another one, who sends at an even pace, is served as before.
fn n18_noisy_neighbour() {
    const RATE: usize = 400;
    let scene = Scene::under_load_with(|profile| {
        profile.set("limits.message_rate_max", load(500, 2000)).set("limits.byte_rate_max", "1MiB");
    })
    .may_grow_by(64 * MIB as u64);
    let mut neighbour = scene.connected(Version::V5, "n18-neighbour");
    assert_eq!(neighbour.subscribe("n18/neighbour", 0), 0);
    let lasts = seconds(1, 20);
    let mut through = || {
        let (begun, mut sent, mut received) = (Instant::now(), 0, 0);
        while begun.elapsed() < lasts {
            let due = begun + Duration::from_secs_f64(sent as f64 / RATE as f64);
            if Instant::now() >= due {
                neighbour.send(&publish(Version::V5, "n18/neighbour", "x").bytes());
                sent += 1;
            }
            if let Event::Packet(packet) = neighbour.event(Duration::from_micros(500)) {
                received += usize::from(packet.kind() == kind::PUBLISH);
            }
        }
        received += neighbour.settle().iter().filter(|packet| packet.kind() == kind::PUBLISH).count();
        received
    };
    let before = through();
    let over = AtomicBool::new(false);
    let during = thread::scope(|scope| {
        for number in 0..4 {
            let (over, scene) = (&over, &scene);
            scope.spawn(move || be_noisy(scene.address(), number, over));
        }
        let during = through();
        over.store(true, Ordering::Relaxed);
        during
    });
    crate::report(&format!("n18: {before} messages without and {during} with a noisy neighbour"));
    assert!(during * 10 >= before * 9, "{during} messages instead of {before}");
    drop(neighbour); // a last message may still be on its way to it
    scene.holds();
}

/// Takes whatever it can get: subscriptions, a queue, and as many messages as it may send.
fn be_noisy(address: SocketAddr, number: usize, over: &AtomicBool) {
    let version = Version::BOTH[number % 2];
    let connect = || {
        let noisy = connected(address, version, format!("n18-noisy-{number}"));
        // What somebody has sent who is allowed to send it counts when he has gone, too, and is read at his rate. With the
        // megabytes that a system may keep on the way his connection would be there for many seconds.
        noisy.shrink_sending();
        let writer = noisy.writer();
        writer.set_write_timeout(Some(Duration::from_millis(50))).expect("the duration is not zero");
        (noisy, writer)
    };
    let (mut noisy, mut writer) = connect();
    noisy.shrink();
    let filters: Vec<_> = (0..900).map(|filter| format!("n18/noisy/{number}/+/{filter}/#")).collect();
    subscribe_to_all(&mut noisy, &filters, 1);
    if number == 0 {
        subscribe_to_all(&mut noisy, &["n18/noisy/#".to_owned()], 1);
    }
    let packets: Vec<u8> = (0..100)
        .flat_map(|each| publish(version, format!("n18/noisy/{number}/x/{each}/y"), vec![b'x'; 1000]).bytes())
        .collect();
    while !over.load(Ordering::Relaxed) {
        // In part or not at all: then the packets that follow are nonsense, and so is this Client from then on.
        if writer.write_all(&packets).is_err() {
            (noisy, writer) = connect();
        }
    }
    drop(noisy);
}
