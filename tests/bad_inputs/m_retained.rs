//! M: retained messages.

use std::collections::{HashMap, HashSet};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::broker::Place;
use crate::client::{Client, Event, PATIENCE};
use crate::disk::{files_below, room_taken};
use crate::g_authentication::{Files, by_password, with};
use crate::k_sessions::{Gauge, STORED};
use crate::packet::{Version, ack, code, kind, property, publish, subscribe, subscribe_with};
use crate::rules::{Scene, busyness, load, unique};
use waypost::broker::TABLES;
use waypost::store::{Options, Store};

const MIB: u64 = 1024 * 1024;

each_version! {
    m01_unlimited_topics: alone,
    m01_unlimited_bytes,
    m02_everyone_asks_for_everything: alone,
    m03_amplification: alone,
    m04_too_large_to_retain,
    m05_retain_switched_off,
    m06_races: alone,
    m08_right_shape,
}

only_v5! {
    m07_expiry_unobserved,
    m09_retain_handling,
}

/// Publishes with RETAIN and completes the exchange; gives the Reason Code.
#[track_caller]
pub(crate) fn retain(client: &mut Client, topic: impl AsRef<[u8]>, payload: impl AsRef<[u8]>, qos: u8) -> u8 {
    let id = client.new_packet_id();
    client.send(&publish(client.version(), topic, payload).retained().qos(qos, id).bytes());
    client.finish_publish(qos, id)
}

/// What is retained below a filter, of which there must be so many: the payload by topic.
#[track_caller]
fn retained(scene: &Scene, filter: &str, count: usize) -> HashMap<String, Vec<u8>> {
    let mut client = scene.connected(Version::V5, unique("m-reader"));
    let found = replay(&mut client, filter, count);
    client.disconnect();
    found
}

/// The same as this Client gets it on SUBSCRIBE.
#[track_caller]
fn replay(client: &mut Client, filter: &str, count: usize) -> HashMap<String, Vec<u8>> {
    let id = client.new_packet_id();
    client.send(&subscribe(client.version(), id, &[(filter.as_bytes(), 0)]));
    let mut found = HashMap::new();
    let mut granted = false;
    while !granted || found.len() < count {
        let packet = client.receive();
        if packet.kind() == kind::SUBACK {
            granted = true;
            continue;
        }
        let message = packet.delivery(client.version());
        assert!(message.retain, "{message:?}");
        let topic = String::from_utf8(message.topic).expect("a topic is UTF-8");
        assert_eq!(found.insert(topic, message.payload), None, "twice");
    }
    client.ping();
    found
}

/// Retains so many numbered messages at once, as fast as the broker takes them.
#[track_caller]
fn retain_many(client: &mut Client, folder: &str, numbers: std::ops::Range<usize>, size: usize) {
    let numbers: Vec<usize> = numbers.collect();
    for batch in numbers.chunks(100) {
        let mut bytes = Vec::new();
        for (number, id) in batch.iter().zip(1..) {
            let message = publish(client.version(), format!("{folder}/{number}"), vec![b'x'; size]);
            bytes.extend(message.retained().qos(1, id).bytes());
        }
        client.send(&bytes);
        for _ in batch {
            assert!(client.receive_kind(kind::PUBACK).reason() < 0x80);
        }
    }
}

#[track_caller]
fn clear_many(client: &mut Client, folder: &str, numbers: std::ops::Range<usize>) {
    retain_many(client, folder, numbers, 0);
}

/// What is said to somebody whose message is not retained.
fn over_the_limit(version: Version) -> u8 {
    if version.is_v5() { code::QUOTA_EXCEEDED } else { 0 }
}

/// So many topics for a user, whichever of its Clients they come from, and so many for all.
fn m01_unlimited_topics(version: Version) {
    let (per_user, all) = (load(500, 10_000), load(1200, 100_000));
    let files = Files::new();
    let users = files.users(&["alice", "bob", "carol"], 1);
    let scene = Scene::under_load_with(|profile| {
        by_password(profile, &users);
        profile.set("limits.retained_per_user_max", per_user).set("limits.retained_messages_max", all);
        profile.set("sys.interval", "0s");
    })
    .may_grow_by(64 * MIB);
    let login = |user: &str, client_id: &str| {
        let mut client = scene.open(version);
        client.connect(&with(version, client_id, user, "right"));
        client
    };
    let (mut alice, mut again) = (login("alice", "m01-alice"), login("alice", "m01-again"));
    retain_many(&mut alice, "ok/alice", 0..per_user / 2, 8);
    retain_many(&mut again, "ok/alice", per_user / 2..per_user, 8);
    // Beyond the limit nothing is kept, however much of it there is.
    let more = load(3_000, 1_000_000);
    for number in 0..more / 100 {
        let mut bytes = Vec::new();
        for id in 1..=100 {
            let message = publish(version, format!("ok/more/{number}/{id}"), "more").retained();
            bytes.extend(if id % 2 == 0 { message.qos(1, id) } else { message }.bytes());
        }
        again.send(&bytes);
        for _ in 0..50 {
            let reason = again.receive_kind(kind::PUBACK).reason();
            assert!(reason == over_the_limit(version) || (!version.is_v5() && reason == 0), "{reason:02x}");
        }
    }
    let grown = scene.growth();
    // What takes the place of one's own needs no room, and what is cleared makes some.
    assert!(retain(&mut alice, "ok/alice/0", "other", 1) < 0x80);
    assert!(retain(&mut alice, "ok/alice/1", "", 1) < 0x80);
    assert!(retain(&mut again, "ok/alice/one", "x", 1) < 0x80);
    assert_eq!(retain(&mut alice, "ok/alice/1", "x", 1), refused_or_delivered(version));
    // Others are not concerned, until all is full.
    let (mut bob, mut carol) = (login("bob", "m01-bob"), login("carol", "m01-carol"));
    retain_many(&mut bob, "ok/bob", 0..per_user, 8);
    // Nobody takes over the place of another beyond what is its own.
    assert_eq!(retain(&mut bob, "ok/alice/0", "mine", 1), refused_or_delivered(version));
    let left = all - 2 * per_user;
    if left <= per_user {
        retain_many(&mut carol, "ok/carol", 0..left, 8);
        assert_eq!(retain(&mut carol, "ok/carol/more", "x", 1), refused_or_delivered(version));
        clear_many(&mut carol, "ok/carol", 0..left);
    }
    let kept = retained(&scene, "ok/alice/#", per_user);
    assert_eq!((kept["ok/alice/0"].as_slice(), kept["ok/alice/one"].as_slice()), (&b"other"[..], &b"x"[..]));
    assert!(retained(&scene, "ok/more/#", 0).is_empty());
    crate::report(&format!("m01: {more} refused, {grown} bytes for {per_user}"));
    assert!(retain(&mut again, "ok/alice/one", "", 1) < 0x80);
    clear_many(&mut alice, "ok/alice", 0..per_user);
    clear_many(&mut bob, "ok/bob", 0..per_user);
    drop((alice, again, bob, carol));
    scene.holds();
}

/// Where nobody listens, an older Client is told nothing, and a newer one that it is too much.
fn refused_or_delivered(version: Version) -> u8 {
    over_the_limit(version)
}

/// Messages of the greatest size, until there is no room.
fn m01_unlimited_bytes(version: Version) {
    let scene = Scene::with(|profile| {
        profile.set("limits.retained_size_max", "8MiB");
    })
    .may_grow_by(24 * MIB)
    .may_keep_it();
    let mut client = scene.connected(version, "m01-bytes");
    let large = vec![b'x'; MIB as usize - 400];
    scene.repeat(3, |_| {
        let answers: Vec<u8> =
            (0..24).map(|number| retain(&mut client, format!("ok/m01/{number}"), &large, 1)).collect();
        let kept =
            answers.iter().take_while(|answer| **answer == code::NO_MATCHING_SUBSCRIBERS || **answer == 0).count();
        if version.is_v5() {
            assert_eq!(kept, 8);
            assert!(answers[kept..].iter().all(|answer| *answer == code::QUOTA_EXCEEDED), "{answers:02x?}");
        }
        let kept = retained(&scene, "ok/m01/#", 8);
        assert!((0..8).all(|number| kept[&format!("ok/m01/{number}")] == large));
        // A smaller one in the place of another makes room for a little.
        assert!(retain(&mut client, "ok/m01/0", "small", 1) < 0x80);
        assert!(retain(&mut client, "ok/m01/more", vec![b'x'; 100_000], 1) < 0x80);
        for topic in (0..8).map(|number| number.to_string()).chain(["more".to_owned()]) {
            assert!(retain(&mut client, format!("ok/m01/{topic}"), "", 1) < 0x80);
        }
        assert!(retained(&scene, "ok/m01/#", 0).is_empty());
    });
    drop(client);
    scene.holds();
}

/// Many Clients ask for all of it at the same time, and get it.
fn m02_everyone_asks_for_everything(version: Version) {
    let (count, clients) = (load(2_000, 100_000), load(10, 100));
    let scene = Scene::under_load_with(|profile| {
        profile.set("limits.retained_messages_max", 200_000);
    });
    let most = count as u64 * 1024 + clients as u64 * 512 * 1024 + 32 * MIB;
    let scene = scene.may_grow_by(most).may_keep_it();
    let mut sender = scene.connected(version, "m02-sender");
    retain_many(&mut sender, "ok/m02", 0..count, 20);
    // More threads than there are cores for would only take the processor from the broker.
    let readers = 5;
    let (grown, begun, start) = (scene.growth(), Instant::now(), Barrier::new(readers));
    thread::scope(|scope| {
        for reader in 0..readers {
            let (scene, start) = (&scene, &start);
            scope.spawn(move || {
                let mut asking: Vec<(Client, HashSet<Vec<u8>>)> = (0..clients / readers)
                    .map(|number| (scene.connected(version, format!("m02-{reader}-{number}")), HashSet::new()))
                    .collect();
                start.wait();
                for (client, _) in &mut asking {
                    client.send(&subscribe(version, 1, &[(b"#", 0)]));
                }
                let mut last = Instant::now();
                while asking.iter().any(|(_, found)| found.len() < count) {
                    for (client, found) in &mut asking {
                        let mut patience = Duration::from_millis(1);
                        while let Event::Packet(packet) = client.event(patience) {
                            patience = Duration::ZERO; // what has come already
                            if packet.kind() == kind::PUBLISH && packet.first & 1 == 1 {
                                let topic = packet.delivery(version).topic;
                                assert!(topic.starts_with(b"ok/m02/"), "more than there is");
                                assert!(found.insert(topic), "twice");
                                last = Instant::now();
                            }
                        }
                    }
                    let silent = last.elapsed();
                    assert!(silent < PATIENCE.mul_f64(busyness()), "nothing more has come for {silent:?}");
                }
            });
        }
    });
    let took = begun.elapsed();
    let during = scene.growth() - grown;
    crate::report(&format!("m02: {clients} replays of {count} in {took:.1?}, {during} bytes"));
    // Less than a buffer and a packet for each of them.
    assert!(during <= clients as u64 * 300 * 1024 + 8 * MIB, "{during} bytes for {clients} replays");
    clear_many(&mut sender, "ok/m02", 0..count);
    drop(sender);
    scene.holds();
}

/// Asking for everything again and again, and taking nothing of it, ends soon and costs little.
fn m03_amplification(version: Version) {
    let count = load(5_000, 15_000);
    let mut scene = Scene::under_load_with(|profile| {
        profile.set("limits.write_stall_max", "1s");
    })
    .may_grow_by(96 * MIB);
    let mut sender = scene.connected(version, "m03-sender");
    retain_many(&mut sender, "ok/m03", 0..count, 4000);
    scene.set_baseline();
    let mut attacker = scene.connected(version, "m03");
    let begun = Instant::now();
    let spent = scene.cpu_of(|| {
        let lasts = Duration::from_secs(load(10, 60) as u64).mul_f64(busyness());
        let mut filters = ["#", "+/#", "ok/#", "ok/+/#", "ok/m03/+"].into_iter().cycle();
        while scene.log_lines_with("takes no data") == 0 {
            assert!(begun.elapsed() < lasts, "still there after {lasts:?}");
            let id = attacker.new_packet_id();
            let filter = filters.next().expect("they go round");
            attacker.send(&subscribe(version, id, &[(filter.as_bytes(), 1)]));
            thread::sleep(Duration::from_millis(100));
        }
    });
    let grown = scene.growth();
    crate::report(&format!("m03: disconnected after {:.1?}, {grown} bytes, {spent:?} busy", begun.elapsed()));
    assert!(grown <= 4 * MIB, "{grown} bytes for a Client that takes nothing");
    drop(attacker);
    clear_many(&mut sender, "ok/m03", 0..count);
    drop(sender);
    scene.holds();
}

/// What is too large to be kept is refused as a whole, where somebody can be told; the value before it stays.
fn m04_too_large_to_retain(version: Version) {
    let scene = Scene::with(|profile| {
        profile.set("limits.retained_payload_size_max", 1000);
    });
    let mut receiver = scene.connected(version, "m04-receiver");
    receiver.subscribe("ok/m04/#", 0);
    let mut sender = scene.connected(version, "m04-sender");
    scene.repeat(20, |_| {
        for qos in 1..=2 {
            assert_eq!(retain(&mut sender, "ok/m04/fits", vec![b'x'; 1000], qos), 0);
            assert_eq!(receiver.receive_message().payload.len(), 1000);
            for topic in ["ok/m04/fits", "ok/m04/new"] {
                assert_eq!(retain(&mut sender, topic, vec![b'y'; 1001], qos), over_the_limit(version));
                if !version.is_v5() {
                    assert_eq!(receiver.receive_message().payload.len(), 1001);
                }
            }
            receiver.ping();
            let kept = retained(&scene, "ok/m04/#", 1);
            assert_eq!(kept["ok/m04/fits"], vec![b'x'; 1000]);
            // Without RETAIN there is no such limit.
            assert_eq!(sender.publish("ok/m04/fits", vec![b'z'; 1001], qos), 0);
            assert_eq!(receiver.receive_message().payload.len(), 1001);
        }
        // Whom nobody can tell is delivered and not kept.
        sender.send(&publish(version, "ok/m04/new", vec![b'y'; 1001]).retained().bytes());
        assert_eq!(receiver.receive_message().payload.len(), 1001);
        assert_eq!(retain(&mut sender, "ok/m04/fits", "", 1), 0);
        assert_eq!(receiver.receive_message().payload, b"");
        assert!(retained(&scene, "ok/m04/#", 0).is_empty());
    });
    drop((receiver, sender));
    scene.holds();
}

/// A broker that retains nothing says so, and does not pretend.
fn m05_retain_switched_off(version: Version) {
    let scene = Scene::with(|profile| {
        profile.set("mqtt.retain_available", false);
    });
    scene.repeat(20, |_| {
        for qos in 0..=2 {
            for payload in ["x", ""] {
                let mut client = scene.open(version);
                let answer = client.connect(&crate::packet::connect(version, "m05"));
                if version.is_v5() {
                    assert_eq!(answer.property(property::RETAIN_AVAILABLE), Some(&[0][..]));
                }
                scene.rejected(1);
                client.send(&publish(version, "bad/m05", payload).retained().qos(qos, 5).bytes());
                client.expect_refusal(&[code::RETAIN_NOT_SUPPORTED]);
            }
        }
    });
    scene.holds();
}

/// Many set, replace, clear and let expire the same topic while others come to see it.
fn m06_races(version: Version) {
    const WRITERS: usize = 8;
    let rounds = load(40, 1250);
    let operations = load(20, 100);
    let scene = Scene::under_load();
    let topic = "ok/m06/topic";
    let is_over = AtomicBool::new(false);
    let mut writers: Vec<Client> =
        (0..WRITERS).map(|number| scene.connected(version, format!("m06-{number}"))).collect();
    let joined = thread::scope(|scope| {
        let joiner = scope.spawn(|| {
            let mut joined = 0;
            while !is_over.load(Ordering::Relaxed) {
                let mut client = scene.connected(version, "m06-joiner");
                client.subscribe("ok/m06/#", 0);
                joined += 1;
            }
            joined
        });
        for round in 0..rounds {
            // Each ends with an operation of its own kind; the last of one of them must be the last of all.
            let last: Vec<Vec<u8>> = thread::scope(|scope| {
                let threads: Vec<_> = writers
                    .iter_mut()
                    .enumerate()
                    .map(|(writer, client)| {
                        scope.spawn(move || {
                            let mut value = Vec::new();
                            for number in 0..operations {
                                let id = client.new_packet_id();
                                value = match (writer + number + round) % 4 {
                                    0 => Vec::new(),
                                    _ => format!("{round}-{writer}-{number}").into_bytes(),
                                };
                                let mut message = publish(version, topic, &value).retained();
                                if (writer + number) % 5 == 0 && number + 1 < operations {
                                    message = message.with(property::of_u32(property::MESSAGE_EXPIRY_INTERVAL, 1));
                                }
                                client.send(&message.qos(1, id).bytes());
                                assert!(client.receive_ack(kind::PUBACK, id) < 0x80);
                            }
                            value
                        })
                    })
                    .collect();
                threads.into_iter().map(|thread| thread.join().expect("each is acknowledged")).collect()
            });
            let wanted: HashSet<&[u8]> = last.iter().map(Vec::as_slice).collect();
            let mut reader = scene.connected(Version::V5, "m06-reader");
            let id = reader.new_packet_id();
            reader.send(&subscribe(Version::V5, id, &[(topic.as_bytes(), 0)]));
            reader.receive_kind(kind::SUBACK);
            let found = reader.settle();
            assert!(found.len() <= 1, "{found:02x?}");
            let found = found.first().map(|packet| packet.delivery(Version::V5).payload).unwrap_or_default();
            assert!(wanted.contains(found.as_slice()), "{:?} is not the last of any", found.escape_ascii().to_string());
            reader.disconnect();
            // And one that comes after all of them is the one that stays.
            let writer = &mut writers[round % WRITERS];
            assert!(retain(writer, topic, "last", 1) < 0x80);
            assert_eq!(retained(&scene, topic, 1)[topic], b"last");
        }
        is_over.store(true, Ordering::Relaxed);
        joiner.join().expect("a joiner sees what there is")
    });
    crate::report(&format!("m06: {} operations, {joined} subscribers", rounds * operations * WRITERS));
    assert!(retain(&mut writers[0], topic, "", 1) < 0x80);
    drop(writers);
    scene.holds();
}

/// What has expired goes, although nobody asks for it.
fn m07_expiry_unobserved() {
    let version = Version::V5;
    let count = load(2_000, 10_000);
    let scene = Scene::under_load_with(|profile| {
        profile.set("sys.interval", "100ms");
    })
    .may_grow_by(96 * MIB)
    .may_keep_it();
    let mut gauge = Gauge::of(&scene, "$SYS/broker/retained messages/count");
    let before = gauge.next();
    let mut sender = scene.connected(version, "m07");
    let expiry = property::of_u32(property::MESSAGE_EXPIRY_INTERVAL, 1);
    for batch in 0..count / 100 {
        let mut bytes = Vec::new();
        for id in 1..=100 {
            let message = publish(version, format!("ok/m07/{batch}/{id}"), vec![b'x'; 4000]).with(&expiry);
            bytes.extend(message.retained().qos(1, id).bytes());
        }
        sender.send(&bytes);
        (0..100).for_each(|_| drop(sender.receive_kind(kind::PUBACK)));
    }
    drop(sender);
    let begun = Instant::now();
    // What the gauge said before they came is not what it says after they went.
    gauge.reaches("retained", |value| value >= before + 50, Duration::from_secs(60));
    // The number of `$SYS` topics changes a little while they are published for the first time.
    gauge.reaches("retained", |value| value < before + 50, Duration::from_secs(60));
    crate::report(&format!("m07: {count} gone after {:.1?}", begun.elapsed()));
    Gauge::of(&scene, STORED).reaches("stored", |bytes| bytes < MIB, PATIENCE);
    drop(gauge);
    assert!(retained(&scene, "ok/m07/#", 0).is_empty());
    scene.holds();
}

/// A retained message is sent as its subscription wants it.
fn m08_right_shape(version: Version) {
    let scene = Scene::start();
    let mut sender = scene.connected(version, "m08-sender");
    scene.repeat(10, |_| {
        for published in 0..=2 {
            assert!(retain(&mut sender, "ok/m08", "kept", published) < 0x80);
            sender.ping();
            for wanted in 0..=2 {
                let mut client = scene.connected(version, "m08");
                let id = client.new_packet_id();
                let list = [property::SUBSCRIPTION_IDENTIFIER, 0xFF, 0x7F];
                client.send(&subscribe_with(version, id, &list, &[(b"ok/m08", wanted)]));
                assert_eq!(client.receive_suback(id), wanted);
                let message = client.receive_message();
                assert_eq!((message.payload.as_slice(), message.retain, message.dup), (&b"kept"[..], true, false));
                assert_eq!(message.qos, wanted.min(published));
                if version.is_v5() {
                    let identifier = message.property(property::SUBSCRIPTION_IDENTIFIER);
                    assert_eq!(identifier, Some(&16_383_u32.to_be_bytes()[..]));
                }
                client.finish_delivery(&message);
                client.ping(); // once
                client.disconnect();
            }
        }
        retain(&mut sender, "ok/m08", "", 1);
    });
    drop(sender);
    scene.holds();
}

/// Retain Handling: at each SUBSCRIBE, at a new subscription only, never; and never for a share.
fn m09_retain_handling() {
    let version = Version::V5;
    let scene = Scene::start();
    let mut sender = scene.connected(version, "m09-sender");
    retain(&mut sender, "ok/m09", "kept", 1);
    scene.repeat(10, |_| {
        let mut client = scene.connected(version, "m09");
        let mut sent = |filter: &str, handling: u8| {
            let id = client.new_packet_id();
            client.send(&subscribe(version, id, &[(filter.as_bytes(), 1 | handling << 4)]));
            let mut packets = vec![client.receive()];
            packets.extend(client.settle());
            let messages = packets.iter().filter(|packet| packet.kind() == kind::PUBLISH);
            let messages: Vec<_> = messages.map(|packet| packet.delivery(version)).collect();
            for message in &messages {
                assert_eq!((message.payload.as_slice(), message.retain), (&b"kept"[..], true));
                client.send(&ack(kind::PUBACK, message.packet_id));
            }
            messages.len()
        };
        assert_eq!((sent("ok/m09", 0), sent("ok/m09", 0)), (1, 1));
        assert_eq!((sent("ok/m09", 1), sent("ok/m09", 2)), (0, 0));
        assert_eq!((sent("ok/+", 1), sent("ok/+", 1), sent("ok/+", 0)), (1, 0, 1));
        assert_eq!((sent("ok/#", 2), sent("ok/#", 2), sent("ok/#", 1), sent("ok/#", 0)), (0, 0, 0, 1));
        for handling in 0..=2 {
            assert_eq!(sent(&format!("$share/g{handling}/ok/m09"), handling), 0);
            assert_eq!(sent(&format!("$share/g{handling}/ok/m09"), handling), 0);
        }
        client.disconnect();
    });
    retain(&mut sender, "ok/m09", "", 1);
    drop(sender);
    scene.holds();
}

/// A retained message for each topic until there is no room, and much more of them, large ones too: what is refused takes nothing of the
/// disk, and what was taken is there in the broker's next life.
#[test]
fn m01_what_is_refused_takes_no_disk() {
    let place = Place::new();
    let (all, more) = (load(200, 10_000), load(1_000, 1_000_000));
    let scene = Scene::under_load_with(|profile| {
        profile.keeps_in(&place).set("limits.retained_messages_max", all + 100);
        profile.set("limits.retained_size_max", "8MiB").set("sys.interval", "0s");
    });
    let scene = scene.may_grow_by(64 * MIB).may_keep_it();
    let mut clients = Version::BOTH.map(|version| scene.connected(version, unique("m01-disk")));
    let used = || -> usize { files_below(&place.data()).iter().map(|path| crate::disk::used(path).len()).sum() };
    retain_many(&mut clients[0], "ok/m01-disk", 0..all, 8);
    retain_many(&mut clients[1], "ok/m01-more", 0..100, 8);
    let before = used();
    for client in &mut clients {
        let version = client.version();
        for number in 0..more / 100 {
            let ids = 1..=100;
            let message = |id| publish(version, format!("ok/m01-none/{number}/{id}"), "none").retained().qos(1, id);
            client.send(&ids.clone().flat_map(|id| message(id).bytes()).collect::<Vec<_>>());
            for _ in ids {
                assert_eq!(client.receive_kind(kind::PUBACK).reason(), over_the_limit(version));
            }
        }
    }
    let grown = used().saturating_sub(before);
    // The time of day, and nothing else.
    assert!(grown <= 4096, "{grown} bytes of the disk for messages that were refused");
    clear_many(&mut clients[1], "ok/m01-more", 0..100);
    let large = vec![b'x'; MIB as usize - 400];
    let before = used();
    for number in 0..24 {
        retain(&mut clients[number % 2], format!("ok/m01-large/{number}"), &large, 1);
    }
    let grown = used().saturating_sub(before);
    assert!(grown <= 9 * MIB as usize, "{grown} bytes of the disk for eight large messages");
    crate::report(&format!("m01: {} MiB of the disk", room_taken(&place.data()) / MIB));
    drop(clients);
    scene.falls();
    let scene = Scene::with(|profile| {
        profile.keeps_in(&place);
    });
    let scene = scene.may_grow_by(64 * MIB).may_keep_it();
    assert_eq!(retained(&scene, "ok/m01-disk/#", all).len(), all);
    let kept = retained(&scene, "ok/m01-large/#", 7);
    assert!(kept.values().all(|payload| *payload == large) && kept.len() <= 8, "{} large ones", kept.len());
    assert!(retained(&scene, "ok/m01-more/#", 0).is_empty() && retained(&scene, "ok/m01-none/#", 0).is_empty());
    scene.holds();
}

/// What has expired takes no room on the disk either, although nobody has asked for it.
#[test]
fn m07_expired_takes_no_disk() {
    let place = Place::new();
    let scene = Scene::under_load_with(|profile| {
        profile.keeps_in(&place).set("sys.interval", "100ms");
    });
    let scene = scene.may_grow_by(64 * MIB).may_keep_it();
    let mut stored = Gauge::of(&scene, STORED);
    let mut sender = scene.connected(Version::V5, "m07-disk");
    let count = load(500, 10_000);
    let expiry = property::of_u32(property::MESSAGE_EXPIRY_INTERVAL, 1);
    for batch in 0..count / 100 {
        let message = |id| publish(Version::V5, format!("ok/m07/{batch}/{id}"), vec![b'x'; 4000]).with(&expiry);
        sender.send(&(1..=100).flat_map(|id| message(id).retained().qos(1, id).bytes()).collect::<Vec<_>>());
        (0..100).for_each(|_| drop(sender.receive_kind(kind::PUBACK)));
    }
    drop(sender);
    // What it says before they came is not what it says after they went.
    stored.reaches("stored", |bytes| bytes > 400_000, Duration::from_secs(60));
    stored.reaches("stored", |bytes| bytes < 200_000, Duration::from_secs(60));
    drop(stored);
    scene.holds();
    let (store, _) = Store::open(&place.data(), Options::default(), &mut |_, _| ()).expect("the store opens");
    let mut left = Vec::new();
    let table = TABLES.iter().find(|(_, name)| name.starts_with("retained")).expect("there is one").0;
    store
        .rows(table, &mut |topic, _, _| left.push(String::from_utf8_lossy(topic).into_owned()))
        .expect("rows are read");
    left.retain(|topic| topic.starts_with("ok/"));
    let contents = store.contents().expect("it is read");
    assert!(left.is_empty() && contents.blobs == 0, "{} blobs and {left:?}", contents.blobs);
}
