//! N: those rows of exhaustion in which the disk is what there is too little of, or what there is most of.

use std::time::{Duration, Instant};

use crate::broker::{Broker, Place, Profile};
use crate::client::{Client, Event, PATIENCE, connected};
use crate::disk::Disk;
use crate::packet::{Connect, Version, code, connect, kind, property, publish};
use crate::rules::{Scene, Turn, busyness, load};

each_version_over_tcp! {
    n07_disk_slower_than_publishers,
}

all_versions_over_tcp! {
    n15_more_on_disk_than_in_memory,
}

const MIB: u64 = 1024 * 1024;

/// Publishers send as fast as they can what the disk takes slowly: they get their answers late, then they are not read any more, and
/// the memory does not grow by what they have sent.
fn n07_disk_slower_than_publishers(version: Version) {
    let (disk, place) = (Disk::new(), Place::new());
    let rate = load(512 * 1024, MIB as usize) as i64;
    let scene = Scene::under_load_with(|profile| disk.give_to(profile, &place));
    let mut client = scene.connected(version, "n07");
    let mut quick = scene.connected(version, "n07-quick");
    client.shrink_sending();
    disk.takes(rate);
    let payload = vec![b'x'; 16 * 1024];
    let lasts = Duration::from_secs(load(2, 30) as u64);
    let begun = Instant::now();
    let (mut sent, mut told, mut refused, mut slowest) = (Vec::new(), 0, 0, Duration::ZERO);
    let mut due = Instant::now();
    while begun.elapsed() < lasts || told + refused < sent.len() {
        // Twenty times as much as the disk takes, as far as MQTT 5 allows it; older Clients know no bound of the broker's.
        let is_sending = begun.elapsed() < lasts;
        let is_allowed = !version.is_v5() || sent.len() - told - refused < 90;
        if is_sending && is_allowed && Instant::now() >= due {
            due += Duration::from_secs_f64(payload.len() as f64 / (20.0 * rate as f64));
            let id = (sent.len() % 60_000 + 1) as u16;
            let message = publish(version, format!("ok/n07/{}", id % 20), &payload).retained().qos(1, id);
            client.socket().set_nonblocking(false).expect("a socket has this");
            if !client.try_send(&message.bytes()) {
                break; // it is not read any more: what is sent now would be cut
            }
            sent.push(Instant::now());
        }
        match client.event(Duration::from_millis(1)) {
            Event::Packet(packet) if packet.kind() == kind::PUBACK => {
                let late = sent[told + refused].elapsed();
                slowest = slowest.max(late);
                match packet.reason() {
                    0..=code::NO_MATCHING_SUBSCRIBERS => told += 1,
                    reason => {
                        assert_eq!(reason, code::QUOTA_EXCEEDED, "{packet:02x?}");
                        refused += 1;
                    }
                }
            }
            Event::Packet(packet) => panic!("a publisher got {packet:02x?}"),
            Event::Closed => panic!("a publisher that waits is thrown out"),
            Event::Silence => {
                let patience = 6 * PATIENCE.mul_f64(busyness());
                assert!(begun.elapsed() < lasts + patience, "{told} of {} are answered", sent.len());
            }
        }
    }
    // Who asks for nothing of the disk waits for nothing.
    let passing = Instant::now();
    quick.ping();
    let passed = passing.elapsed();
    crate::report(&format!(
        "n07: {} KiB a second of {} that the disk takes, {refused} refused, answers after {slowest:.1?} at most, memory +{} KiB",
        (told * payload.len()) as f64 as u64 / 1024 / begun.elapsed().as_secs().max(1),
        rate / 1024,
        scene.growth() / 1024
    ));
    assert!(passed <= crate::client::prompt(), "another waits for {passed:?}");
    // What is under way at a time is bounded, and so is the time for it.
    let most = Duration::from_secs_f64(8.0 * MIB as f64 / rate as f64).mul_f64(busyness());
    assert!(slowest <= most, "an answer after {slowest:?}, {most:?} are allowed");
    disk.takes(0);
    for number in 0..20 {
        let clear = publish(version, format!("ok/n07/{number}"), "").retained().qos(1, 1);
        quick.send(&clear.bytes()).receive_ack(kind::PUBACK, 1);
    }
    client.disconnect();
    quick.disconnect();
    scene.may_grow_by(64 * MIB).may_keep_it().holds();
}

/// More waits on the disk than there is memory for: a broker that starts is ready soon, and stays within its budget, while it runs
/// and when it is asked for all of it.
fn n15_more_on_disk_than_in_memory() {
    const SESSIONS: usize = 4;
    let _turn = Turn::beside_others();
    let place = Place::new();
    let (budget, queued) = (load(64, 256) as u64 * MIB, load(192, 1024) as u64 * MIB);
    let mut profile = Profile::test();
    profile
        .keeps_in(&place)
        .set("node.memory_budget", budget)
        .set("limits.queue_size_max", queued)
        .set("limits.queue_messages_max", 1_000_000)
        .set("limits.queue_memory_messages_max", 64);
    let mut broker = Broker::start(&profile);
    let payload = |number: u32| [&number.to_be_bytes()[..], &[b'x'; 64 * 1024]].concat();
    let staying = |number: usize| Connect {
        clean: false,
        properties: property::of_u32(property::SESSION_EXPIRY_INTERVAL, 3600),
        ..connect(Version::BOTH[number % 2], format!("n15-{number}"))
    };
    let returns = |broker: &Broker, number: usize| {
        let connect = staying(number);
        let mut client = Client::open(broker.address(), connect.version);
        let present = client.connect(&connect).session_present;
        (client, present)
    };
    for number in 0..SESSIONS {
        let (mut client, _) = returns(&broker, number);
        assert_eq!(client.subscribe(format!("ok/n15/{number}"), 1), 1);
        client.disconnect();
    }
    let mut sender = connected(broker.address(), Version::V5, "n15-sender");
    let count = (queued / (64 * 1024)) as u32;
    for part in (0..count).collect::<Vec<_>>().chunks(50) {
        for (number, id) in part.iter().zip(1..) {
            let topic = format!("ok/n15/{}", *number as usize % SESSIONS);
            sender.send(&publish(Version::V5, topic, payload(*number)).qos(1, id).bytes());
        }
        part.iter().for_each(|_| assert_eq!(sender.receive_kind(kind::PUBACK).reason(), 0, "it is kept"));
    }
    // The budget is of what Clients cause; code, what is on its way to the disk and the store's caches are beside it.
    let most = budget + budget / 10 + 96 * MIB;
    let peak = |broker: &Broker| broker.usage().expect("it is ours").peak_bytes;
    let filled = peak(&broker);
    assert!(filled <= most, "{filled} bytes while it was filled");
    broker.kill();
    let begun = Instant::now();
    let mut broker = Broker::start(&profile);
    let ready = begun.elapsed();
    assert!(ready <= Duration::from_secs(10).mul_f64(busyness()), "ready after {ready:?}");
    let started = peak(&broker);
    for number in 0..SESSIONS {
        let (mut client, present) = returns(&broker, number);
        assert!(present, "it was kept");
        for number in (number as u32..count).step_by(SESSIONS) {
            let message = client.receive_message();
            assert!(message.payload == payload(number), "{number} is not the next");
            client.finish_delivery(&message);
        }
        client.ping();
        client.disconnect();
    }
    let read = peak(&broker);
    crate::report(&format!(
        "n15: {} MiB queued, budget {}; {} MiB when filled, ready after {ready:.1?} with {}, {} when all was read",
        queued / MIB,
        budget / MIB,
        filled / MIB,
        started / MIB,
        read / MIB
    ));
    assert!(started.max(read) <= most, "{started} bytes at the start, {read} when it was read");
    assert!(broker.is_alive() && !broker.log().contains("panicked"));
}
