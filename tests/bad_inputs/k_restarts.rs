//! K: what of Sessions must outlive the broker, and what of it is on the disk.

use std::fs;
use std::io::Read as _;
use std::thread;
use std::time::{Duration, Instant};

use crate::broker::{Broker, Place, Profile, Signal};
use crate::client::{Client, PATIENCE};
use crate::disk::{Disk, room_taken};
use crate::e_qos::{forget, lasting, publish_many};
use crate::flow::Flows;
use crate::k_sessions::{Gauge, STORED};
use crate::n_exhaustion::wait_until;
use crate::packet::{Connect, DISCONNECT, Version, ack, code, connect, kind, property};
use crate::rules::{Scene, Turn, busyness, load, rounds};
use crate::transport::Noise;
use waypost::store::{Options, Store};

each_version! {
    k06_expiry_over_a_restart,
    k08_restored_means_reachable,
    k09_session_present_after_a_loss,
}

const MIB: u64 = 1024 * 1024;

fn profile_in(place: &Place) -> Profile {
    let mut profile = Profile::test();
    profile.keeps_in(place);
    profile
}

fn staying(version: Version, client_id: &str, expiry_s: u32) -> Connect {
    let properties = property::of_u32(property::SESSION_EXPIRY_INTERVAL, expiry_s);
    Connect { clean: false, properties, ..connect(version, client_id) }
}

/// What clean starts have given up takes no room: not in memory, and not on the disk, however often it is done.
#[test]
fn k05_clean_start_frees_the_disk() {
    let (place, queue) = (Place::new(), |number: usize| vec![number as u8; 7 * 1024]);
    let scene = Scene::under_load_with(|profile| {
        profile.keeps_in(&place).set("sys.interval", "100ms");
    });
    let scene = scene.may_grow_by(96 * MIB).may_keep_it();
    let mut stored = Gauge::of(&scene, STORED);
    let mut sender = scene.connected(Version::V5, "k05-sender");
    // More than journals hold: what they had is at rest, or gone.
    for round in 0..load(10, 40) {
        let version = Version::BOTH[round % 2];
        let mut client = scene.open(version);
        client.connect(&lasting(version, "k05", 100));
        client.subscribe("ok/k05", 1);
        client.disconnect();
        publish_many(&mut sender, "ok/k05", (0..1000).map(queue));
        stored.reaches("stored", |bytes| bytes > 7_000_000, PATIENCE.mul_f64(busyness()));
        forget(&scene, version, "k05");
        stored.reaches("stored", |bytes| bytes < 100_000, Duration::from_secs(10).mul_f64(busyness()));
    }
    // Three segments of 32 MiB, and what the engine takes beforehand.
    let bounded = || room_taken(&place.data()) <= 3 * 32 * MIB + 24 * MIB;
    wait_until("the disk is free again", Duration::from_secs(10).mul_f64(busyness()), bounded);
    crate::report(&format!("k05: {} MiB on the disk", room_taken(&place.data()) / MIB));
    drop((sender, stored));
    scene.holds();
    let (store, _) = Store::open(&place.data(), Options::default(), &mut |_, _| ()).expect("the store opens");
    let contents = store.contents().expect("it is read");
    assert_eq!((contents.entries, contents.blobs), (0, 0), "messages of Sessions that are gone");
}

/// The time of a Session goes on while there is no broker.
fn k06_expiry_over_a_restart(version: Version) {
    let place = Place::new();
    // An older Client's Session lasts as long as the broker keeps any: the cap is what both versions are told by.
    let capped = |seconds: u64| {
        let mut profile = profile_in(&place);
        profile.set("limits.session_expiry_max", format!("{seconds}s"));
        profile
    };
    let leaves = |broker: &Broker, id: &str, was_there: bool| {
        let mut client = Client::open(broker.address(), version);
        assert_eq!(client.connect(&staying(version, id, u32::MAX)).session_present, was_there, "{id}");
        client.subscribe("ok/k06", 1);
        client.disconnect();
        Instant::now()
    };
    // Of so many, those that came last have some of their time left when the broker falls.
    let (expiry, others) = (Duration::from_secs(2), load(50, 10_000));
    let mut broker = Broker::start(&capped(2));
    let mut left = Instant::now();
    for number in 0..others {
        left = leaves(&broker, &format!("k06-{number}"), false);
    }
    broker.kill();
    thread::sleep((expiry + Duration::from_millis(100)).saturating_sub(left.elapsed()));
    let mut broker = Broker::start(&capped(2));
    // The first that comes, before the broker has had time to look.
    leaves(&broker, &format!("k06-{}", others - 1), false);
    leaves(&broker, "k06-0", false);
    let left = leaves(&broker, "k06-late", false);
    broker.kill();
    // And what was left of the time when the broker fell is what is left afterwards.
    let scene = Scene::with(|profile| {
        profile.keeps_in(&place).set("limits.session_expiry_max", "2s");
    });
    let late = expiry.mul_f64(1.05) + Duration::from_secs(1).mul_f64(busyness());
    thread::sleep(late.saturating_sub(left.elapsed()));
    for (id, is_there) in [("k06-late", false), ("k06-0", false)] {
        let mut client = scene.open(version);
        assert_eq!(client.connect(&staying(version, id, u32::MAX)).session_present, is_there, "{id}");
        client.disconnect();
        forget(&scene, version, id);
    }
    scene.holds();
}

/// Sessions with full queues come back to a broker that has just started, and take a byte a second: their queues are read from the
/// disk in steps, so that little of them is in memory, and nothing of them is lost.
#[test]
fn k07_slow_resume_after_a_restart() {
    let place = Place::new();
    let (count, messages) = (load(8, 1000), load(300, 100));
    let payload = |number: u32| [&number.to_be_bytes()[..], &[b'x'; 8 * 1024]].concat();
    let name = |number: usize| (Version::BOTH[number % 2], format!("k07-{number}"));
    let mut broker = Broker::start(&profile_in(&place));
    let mut sender = Client::open(broker.address(), Version::V5);
    sender.connect(&connect(Version::V5, "k07-sender"));
    for number in 0..count {
        let (version, id) = name(number);
        let mut client = Client::open(broker.address(), version);
        client.connect(&lasting(version, &id, 100));
        client.subscribe(format!("ok/{id}"), 1);
        client.disconnect();
        publish_many(&mut sender, &format!("ok/{id}"), (0..messages as u32).map(payload));
    }
    broker.kill();
    let scene = Scene::under_load_with(|profile| {
        profile.keeps_in(&place).set("limits.queue_memory_messages_max", 16);
    });
    let restored = scene.broker().usage().expect("it is ours").resident_bytes;
    // Sixteen of each queue at a time, read and on the way out, and what the store keeps in its cache.
    let queued = count as u64 * messages as u64 * 8 * 1024;
    let in_memory = count as u64 * 3 * 16 * 8 * 1024;
    let scene = scene.may_grow_by(in_memory + 16 * MIB).may_keep_it();
    let mut slow: Vec<Client> = (0..count)
        .map(|number| {
            let (version, id) = name(number);
            let mut client = scene.open(version);
            client.send(&lasting(version, &id, 100).bytes());
            client
        })
        .collect();
    for _ in 0..load(1, 10) {
        for client in &slow {
            let mut stream = client.socket();
            stream.set_read_timeout(Some(PATIENCE)).expect("the duration is not zero");
            assert!(matches!(stream.read(&mut [0]), Ok(1)), "there is something to read");
        }
        thread::sleep(Duration::from_secs(1));
    }
    crate::report(&format!(
        "k07: {} MiB queued, {} MiB after the start, {} KiB more while they were read",
        queued / MIB,
        restored / MIB,
        scene.growth() / 1024
    ));
    slow.clear();
    for number in 0..count.min(2) {
        let (version, id) = name(number);
        let mut client = scene.open(version);
        assert!(client.connect(&lasting(version, &id, 100)).session_present);
        for number in 0..messages as u32 {
            let message = client.receive_message();
            assert_eq!(message.payload, payload(number));
            client.acknowledge(&message);
        }
        client.ping();
    }
    (0..count).map(name).for_each(|(version, id)| forget(&scene, version, &id));
    scene.holds();
}

/// A Session that comes back with the broker is one that messages reach, before its Client has come back and without its having
/// subscribed again.
fn k08_restored_means_reachable(version: Version) {
    let place = Place::new();
    let away = staying(version, "k08", 3600);
    let publishes = |broker: &Broker, life: usize| {
        let mut sender = Client::open(broker.address(), version);
        sender.connect(&connect(version, "k08-sender"));
        for qos in 1..=2 {
            // Somebody waits for it, which an MQTT 5 Client is told.
            assert_eq!(sender.publish("ok/k08", format!("{life} {qos}"), qos), 0);
        }
        sender.disconnect();
    };
    let returns = |broker: &Broker, life: usize| {
        let mut client = Client::open(broker.address(), version);
        assert_eq!(client.connect(&away).session_present, life > 0, "life {life}");
        if life == 0 {
            assert_eq!(client.subscribe("ok/k08", 2), 2);
            return client.disconnect();
        }
        let (mut missing, mut released) = (vec![1, 2], None);
        while !missing.is_empty() || released.is_some() {
            let packet = client.receive();
            if packet.kind() == kind::PUBREL {
                // Of this one, or of one before: that we were done with it was not kept yet.
                released.take_if(|id| *id == packet.packet_id());
                client.send(&ack(kind::PUBCOMP, packet.packet_id()));
                continue;
            }
            let message = packet.delivery(version);
            client.acknowledge(&message);
            if message.payload == format!("{life} {}", message.qos).into_bytes() {
                missing.retain(|qos| *qos != message.qos);
                released = if message.qos == 2 { Some(message.packet_id) } else { released };
            } else {
                assert_eq!((message.qos, message.dup), (1, true), "an older one: {message:?}");
            }
        }
        client.ping();
        client.disconnect();
    };
    let lives = rounds(12);
    for life in 0..lives {
        let mut broker = Broker::start(&profile_in(&place));
        if life > 0 {
            publishes(&broker, life);
        }
        returns(&broker, life);
        // In good order, and without a word.
        if life % 2 == 0 {
            broker.kill();
        } else {
            broker.signal(Signal::TERM);
            assert_eq!(broker.exit_code(2 * PATIENCE.mul_f64(busyness())), Some(0));
        }
    }
    let scene = Scene::with(|profile| {
        profile.keeps_in(&place);
    });
    publishes(scene.broker(), lives);
    returns(scene.broker(), lives);
    forget(&scene, version, "k08");
    scene.holds();
}

/// Of the data some is lost, or all: whoever is told that the Session is there, finds it.
fn k09_session_present_after_a_loss(version: Version) {
    let lives = |place: &Place| {
        let mut broker = Broker::start(&profile_in(place));
        let mut client = Client::open(broker.address(), version);
        client.connect(&staying(version, "k09", 3600));
        assert_eq!(client.subscribe("ok/k09", 1), 1);
        client.disconnect();
        let mut sender = Client::open(broker.address(), version);
        sender.connect(&connect(version, "k09-sender"));
        assert_eq!(sender.publish("ok/k09", "kept", 1), 0);
        broker.kill();
    };
    // What is lost, whether the Session had been brought to rest by then, and whether it is there afterwards.
    for (lost, is_at_rest, is_there) in [
        (&["journal", "rest", "format"][..], false, false),
        (&["rest"], false, true),
        (&["journal"], false, false),
        (&["rest"], true, false),
        (&["journal"], true, true),
    ] {
        let place = Place::new();
        lives(&place);
        if is_at_rest {
            drop(Store::open(&place.data(), Options::default(), &mut |_, _| ()).expect("the store opens"));
        }
        for name in lost {
            let path = place.data().join(name);
            let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.expect("it is ours");
        }
        let broker = Broker::start(&profile_in(&place));
        let mut client = Client::open(broker.address(), version);
        let present = client.connect(&staying(version, "k09", 3600)).session_present;
        assert_eq!(present, is_there, "without {lost:?}, at rest: {is_at_rest}");
        if present {
            let message = client.receive_message();
            assert_eq!(message.payload, b"kept");
            client.finish_delivery(&message);
        }
        client.ping();
        let mut sender = Client::open(broker.address(), Version::V5);
        sender.connect(&connect(Version::V5, "k09-sender"));
        let answer = if present { 0 } else { code::NO_MATCHING_SUBSCRIBERS };
        assert_eq!(sender.publish("ok/k09", "more", 1), answer, "its subscription is there when it is");
        client.send(DISCONNECT);
    }
}

/// Taken over again and again, by publisher and subscriber, while each sync takes a while.
#[test]
fn k11_takeover_while_the_disk_writes() {
    let _turn = Turn::beside_others();
    let (disk, place) = (Disk::new(), Place::new());
    let scene = Scene::under_load_with(|profile| disk.give_to(profile, &place));
    let mut flows = Flows::new("k11");
    let mut noise = Noise(0x1111_2545_F491_4F6C);
    flows.come(scene.address());
    disk.syncs_in(Duration::from_millis(15));
    let rounds = load(15, 10_000);
    for _ in 0..rounds {
        flows.go_on(Duration::from_millis(u64::from(noise.byte() / 4)));
        flows.come(scene.address());
    }
    disk.syncs_in(Duration::ZERO);
    flows.end(scene.address());
    crate::report(&format!("k11: {} kept over {rounds} takeovers of each", flows.told()));
    scene.may_grow_by(32 * MIB).holds();
}
