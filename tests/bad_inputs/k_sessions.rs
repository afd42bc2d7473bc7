//! K: Sessions. K01 is played in `tests/rights/accounts.rs`, K04 in `tests/hall.rs`.
//!
//! What of a row needs a disk stands in `k_restarts.rs`. K14 waits for an administration that can kick.

use std::collections::{HashMap, HashSet};
use std::io::Read as _;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::client::{Client, Event, PATIENCE, prompt};
use crate::e_qos::{forget, lasting, open_session, publish_many};
use crate::packet::{Connect, Received, Version, ack, code, connect, disconnect_with, kind, property, publish, will};
use crate::rules::{Scene, busyness, load, load_is_full, rounds, unique};

const MIB: u64 = 1024 * 1024;
const KIB: usize = 1024;
/// Return code of an MQTT 3.1.1 CONNACK.
const SERVER_UNAVAILABLE: u8 = 3;

each_version! {
    k02_takeover_by_the_owner,
    k03_two_devices_with_one_client_id,
    k03_only_the_last_that_came_waits,
    k05_clean_start_frees,
    k06_expiry_fires,
    k07_slow_resume: alone,
    k09_session_present_never_lies,
    k10_full_offline_queue_drops_the_newest,
    k10_full_offline_queue_drops_the_oldest,
    k11_takeover_while_writing: alone,
    k12_other_version_resumes,
    k13_shared_member_vanishes,
}

/// What a Client has received, whatever connection it came by, with the memory of QoS 2 that a Client needs. A payload begins
/// with a number.
#[derive(Default)]
pub(crate) struct Inbox {
    /// Numbers of QoS 1, which may come again, and of QoS 2, which may not.
    numbers: [HashSet<u32>; 2],
    /// QoS 2 messages that are not released yet.
    held: HashMap<u16, u32>,
}

impl Inbox {
    /// Whether the message with this number has come with this QoS.
    pub(crate) fn has(&self, qos: u8, number: u32) -> bool {
        self.numbers[usize::from(qos) - 1].contains(&number)
    }

    /// No exchange of QoS 2 is half done.
    pub(crate) fn holds_nothing(&self) -> bool {
        self.held.is_empty()
    }

    /// Takes one packet in and answers it.
    #[track_caller]
    pub(crate) fn take(&mut self, client: &mut Client, packet: &Received) {
        match packet.kind() {
            kind::PUBLISH => {
                let message = packet.delivery(client.version());
                let number = message.payload.first_chunk().map(|bytes| u32::from_be_bytes(*bytes)).expect("a number");
                if message.qos == 2 {
                    match self.held.insert(message.packet_id, number) {
                        Some(held) => {
                            assert_eq!((held, message.dup), (number, true), "another under a held identifier")
                        }
                        None => assert!(self.numbers[1].insert(number), "QoS 2 message {number} came twice"),
                    }
                } else {
                    self.numbers[0].insert(number);
                }
                client.acknowledge(&message);
            }
            kind::PUBREL => {
                self.held.remove(&packet.packet_id());
                client.send(&ack(kind::PUBCOMP, packet.packet_id()));
            }
            _ => panic!("expected a message, got {packet:02x?}"),
        }
    }

    /// Takes in what is left on a connection that another has taken over: the last word is 0x8E, and no other.
    #[track_caller]
    fn drain_taken_over(&mut self, mut client: Client) {
        let mut told = !client.version().is_v5();
        loop {
            match client.event(PATIENCE) {
                Event::Packet(packet) if packet.kind() == kind::DISCONNECT => {
                    assert_eq!(packet.reason(), code::SESSION_TAKEN_OVER);
                    told = true;
                }
                Event::Packet(packet) => self.take(&mut client, &packet),
                Event::Closed => break,
                Event::Silence => panic!("taken over, and still there"),
            }
        }
        assert!(told, "closed without a word");
    }

    /// Takes in messages until all of these numbers have come in both QoS, and nothing is left undone.
    #[track_caller]
    fn complete(&mut self, client: &mut Client, count: usize) {
        while self.numbers.iter().any(|numbers| numbers.len() < count) {
            let packet = client.receive();
            self.take(client, &packet);
        }
        loop {
            let packets = client.settle();
            if packets.is_empty() {
                break;
            }
            packets.iter().for_each(|packet| self.take(client, packet));
        }
        assert!(self.held.is_empty(), "never released: {:?}", self.held);
    }
}

/// CONNECT again with the same Client Identifier; the Session is there.
#[track_caller]
fn resume(scene: &Scene, version: Version, client_id: &str) -> Client {
    let mut client = scene.open(version);
    assert!(client.connect(&lasting(version, client_id, 100)).session_present, "the Session is gone");
    client
}

fn numbered(number: u32, size: usize) -> Vec<u8> {
    let mut payload = number.to_be_bytes().to_vec();
    payload.resize(size.max(4), b'x');
    payload
}

/// A Client that comes back again and again, before the broker has noticed that it was gone, loses nothing.
fn k02_takeover_by_the_owner(version: Version) {
    let scene = Scene::under_load();
    let mut sender = scene.connected(version, "k02-sender");
    let mut owner = open_session(&scene, version, "k02", 100);
    owner.subscribe("ok/k02/1", 1);
    owner.subscribe("ok/k02/2", 2);
    let (mut inbox, rounds) = (Inbox::default(), load(400, 6000));
    let begun = Instant::now();
    for round in 0..rounds {
        let due = begun + Duration::from_millis(5) * round as u32;
        thread::sleep(due.saturating_duration_since(Instant::now())); // 200 takeovers a second
        for qos in 1..=2 {
            assert!(sender.publish(format!("ok/k02/{qos}"), numbered(round as u32, 4), qos) < 0x80);
        }
        // Now more and now less of it is done before the next one comes, but never so little that the queue gets full.
        for _ in 0..round % 5 {
            if let Event::Packet(packet) = owner.event(Duration::from_micros(500)) {
                inbox.take(&mut owner, &packet);
            }
        }
        while inbox.numbers.iter().any(|numbers| numbers.len() + 200 < round) {
            let packet = owner.receive();
            inbox.take(&mut owner, &packet);
        }
        let old = std::mem::replace(&mut owner, resume(&scene, version, "k02"));
        inbox.drain_taken_over(old);
    }
    crate::report(&format!("k02: {:.0} takeovers a second", rounds as f64 / begun.elapsed().as_secs_f64()));
    inbox.complete(&mut owner, rounds);
    drop((owner, sender));
    forget(&scene, version, "k02");
    scene.holds();
}

/// Two devices with the same Client Identifier, each of which comes back as soon as the other has taken over.
fn k03_two_devices_with_one_client_id(version: Version) {
    let per_minute = 60;
    let scene = Scene::under_load_with(|profile| {
        profile.set("limits.takeovers_per_minute_max", per_minute);
    });
    let (connected, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let lasts = Duration::from_secs(load(2, 60) as u64);
    let (begun, mut slowest) = (Instant::now(), Duration::ZERO);
    let too_often = || !scene.broker().is_ours() || scene.log_lines_with("taken over too often") > 0;
    let over = AtomicBool::new(false);
    let is_over = || over.load(Ordering::Relaxed) || begun.elapsed() > lasts + 3 * PATIENCE;
    let spent = scene.cpu_of(|| {
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !is_over() {
                        let mut device = scene.open(version);
                        device.send(&lasting(version, "k03", 10).bytes());
                        while !is_over() {
                            match device.event(Duration::from_millis(100)) {
                                Event::Closed => break,
                                Event::Packet(packet) if packet.kind() == kind::CONNACK => {
                                    let answer = packet.connack(version).code;
                                    assert!([0, busy(version)].contains(&answer), "{answer:02x}");
                                    if answer == 0 { &connected } else { &refused }.fetch_add(1, Ordering::Relaxed);
                                }
                                Event::Packet(packet) => {
                                    assert_eq!((packet.kind(), packet.reason()), (kind::DISCONNECT, 0x8E));
                                }
                                Event::Silence => {}
                            }
                        }
                    }
                });
            }
            // Nobody else has to wait, for so long and until they have been too often.
            while begun.elapsed() < lasts || (!too_often() && begun.elapsed() < lasts + 2 * PATIENCE) {
                let knocked = Instant::now();
                scene.connected(version, "k03-other").disconnect();
                slowest = slowest.max(knocked.elapsed());
                thread::sleep(Duration::from_millis(20));
            }
            over.store(true, Ordering::Relaxed);
        });
    });
    let (connected, refused) = (connected.into_inner(), refused.into_inner());
    crate::report(&format!(
        "k03: {connected} takeovers and {refused} refusals in {:.1?}, broker {spent:.1?} busy",
        begun.elapsed()
    ));
    // A minute's worth at once, then so many a minute.
    let most = per_minute + per_minute * begun.elapsed().as_secs() as usize / 60 + 3;
    assert!(connected <= most, "{connected} takeovers in {:?}, {most} are allowed", begun.elapsed());
    assert!(connected > per_minute / 2, "only {connected} takeovers, of which {per_minute} are free");
    assert!(slowest <= prompt(), "another Client has waited for {slowest:?}");
    assert!(too_often(), "the log does not say why");
    forget_in_time(&scene, version, "k03");
    scene.holds();
}

/// What is said to whoever waits in vain.
fn busy(version: Version) -> u8 {
    if version.is_v5() { code::SERVER_BUSY } else { SERVER_UNAVAILABLE }
}

/// As `forget`, for a Client Identifier whose last Network Connection may not have been noticed to have gone.
#[track_caller]
fn forget_in_time(scene: &Scene, version: Version, client_id: &str) {
    let mut client = scene.open(version);
    client.send(&connect(version, client_id).bytes());
    match client.event(2 * PATIENCE) {
        Event::Packet(packet) => assert_eq!(packet.connack(version).code, 0),
        other => panic!("expected a CONNACK, got {other:?}"),
    }
    client.disconnect();
}

/// However often somebody knocks, one waits, and the others are sent away.
fn k03_only_the_last_that_came_waits(version: Version) {
    let scene = Scene::with(|profile| {
        profile.set("limits.takeovers_per_minute_max", 30);
    });
    let mut old = open_session(&scene, version, "k03-last", 10);
    old.subscribe("ok/k03", 1);
    for _ in 0..30 {
        let new = resume(&scene, version, "k03-last");
        Inbox::default().drain_taken_over(std::mem::replace(&mut old, new));
    }
    let mut waiting: Vec<Client> = (0..20)
        .map(|_| {
            let mut client = scene.open(version);
            client.send(&lasting(version, "k03-last", 10).bytes());
            client
        })
        .collect();
    // Meanwhile the one that is there is served.
    let mut sender = scene.connected(version, "k03-sender");
    assert!(sender.publish("ok/k03", numbered(1, 4), 1) < 0x80);
    let message = old.receive_message();
    old.finish_delivery(&message);
    old.ping();
    // They were sent at the same time, so that the one that waits may be any of them.
    let answers: Vec<u8> = waiting
        .iter_mut()
        .map(|client| match client.event(PATIENCE) {
            Event::Packet(packet) => packet.connack(version).code,
            other => panic!("expected a CONNACK, got {other:?}"),
        })
        .collect();
    assert_eq!(answers.iter().filter(|answer| **answer == 0).count(), 1, "{answers:02x?}");
    assert!(answers.iter().all(|answer| [0, busy(version)].contains(answer)), "{answers:02x?}");
    Inbox::default().drain_taken_over(old);
    drop((waiting, sender));
    forget_in_time(&scene, version, "k03-last");
    scene.holds();
}

/// A clean start gives back all that the Session had.
fn k05_clean_start_frees(version: Version) {
    let scene = Scene::with(|profile| {
        profile.set("sys.interval", "100ms");
    });
    // Three times 28 MB, in the place of one another.
    let scene = scene.may_grow_by(48 * MIB).may_keep_it();
    let mut stored = Gauge::of(&scene, STORED);
    let sessions: Vec<String> = (0..4).map(|number| format!("k05-{number}")).collect();
    let mut sender = scene.connected(version, "k05-sender");
    for _ in 0..rounds(3) {
        for client_id in &sessions {
            let mut client = open_session(&scene, version, client_id, 100);
            client.subscribe(format!("ok/{client_id}"), 1);
            client.disconnect();
            let payloads = (0..1000).map(|number| numbered(number, 7 * KIB));
            publish_many(&mut sender, &format!("ok/{client_id}"), payloads);
        }
        stored.reaches("stored", |bytes| bytes > 28_000_000, PATIENCE);
        for client_id in &sessions {
            let mut client = scene.open(version);
            assert!(!client.connect(&connect(version, client_id)).session_present);
            client.ping(); // and nothing comes
            client.disconnect();
        }
        stored.reaches("stored", |bytes| bytes < 100_000, Duration::from_secs(10));
    }
    drop((sender, stored));
    scene.holds();
}

/// The bytes of all messages in the broker.
pub(crate) const STORED: &str = "$SYS/broker/store/messages/bytes";

/// The values of a Topic as they change.
pub(crate) struct Gauge(Client);

impl Gauge {
    #[track_caller]
    pub(crate) fn of(scene: &Scene, topic: &str) -> Self {
        let mut client = scene.connected(Version::V5, unique("gauge"));
        let id = client.new_packet_id();
        client.send(&crate::packet::subscribe(Version::V5, id, &[(topic.as_bytes(), 0)]));
        client.receive_kind(kind::SUBACK);
        Self(client)
    }

    #[track_caller]
    pub(crate) fn next(&mut self) -> u64 {
        let value = self.0.receive_message().payload;
        String::from_utf8_lossy(&value).parse().unwrap_or_else(|_| panic!("{value:?} is no number"))
    }

    /// Waits until the value is `wanted`.
    #[track_caller]
    pub(crate) fn reaches(&mut self, what: &str, wanted: impl Fn(u64) -> bool, patience: Duration) {
        let deadline = Instant::now() + patience;
        loop {
            let value = self.next();
            if wanted(value) {
                return;
            }
            assert!(Instant::now() < deadline, "{what} is {value} after {patience:?}");
        }
    }
}

/// Sessions end when their time is over, ten thousand at once.
fn k06_expiry_fires(version: Version) {
    let all = [1, 5];
    for seconds in &all[..load(1, 2)] {
        let scene = Scene::under_load_with(|profile| {
            profile.set("limits.session_expiry_max", format!("{seconds}s")).set("sys.interval", "100ms");
        })
        .may_grow_by(64 * MIB);
        let mut total = Gauge::of(&scene, "$SYS/broker/clients/total");
        let before = settled(&mut total);
        let others = load(500, 10_000);
        let properties = property::of_u32(property::SESSION_EXPIRY_INTERVAL, u32::MAX);
        let session = |number: usize| {
            let client_id = format!("k06-{number}");
            let properties = properties.clone();
            Connect { clean: false, properties, ..connect(version, client_id) }
        };
        let mut open: Vec<Client> = (0..others)
            .map(|number| {
                let mut client = scene.open(version);
                client.connect(&session(number));
                if number < 10 {
                    client.subscribe("ok/k06", 1);
                }
                client
            })
            .collect();
        let last = open.pop().expect("there are some");
        open.into_iter().for_each(Client::disconnect);
        let gone = Instant::now();
        last.disconnect();
        let expiry = Duration::from_secs(*seconds);
        let late = expiry.mul_f64(1.05) + Duration::from_secs(1).mul_f64(busyness()) + Duration::from_millis(100);
        total.reaches("Sessions", |value| value <= before, late);
        let took = gone.elapsed();
        assert!(took >= expiry, "they have ended after {took:?}");
        crate::report(&format!("k06: {others} Sessions of {expiry:?} ended after {took:.2?}"));
        let mut client = scene.open(version);
        assert!(!client.connect(&session(0)).session_present);
        let mut sender = scene.connected(version, "k06-sender");
        sender.publish("ok/k06", "x", 1);
        client.ping(); // its subscription is gone as well
        drop((client, sender, total));
        forget(&scene, version, "k06-0");
        scene.holds();
    }
}

/// The value once it stays the same: innocents may still be arriving when the first comes.
#[track_caller]
fn settled(gauge: &mut Gauge) -> u64 {
    let mut value = gauge.next();
    while let Event::Packet(packet) = gauge.0.event(Duration::from_millis(400)) {
        let text = packet.delivery(Version::V5).payload;
        value = String::from_utf8_lossy(&text).parse().expect("a number");
    }
    value
}

/// Sessions with full queues come back, and take a byte a second.
fn k07_slow_resume(version: Version) {
    let count = load(8, 1000);
    let (messages, size) = if load_is_full() { (100, KIB) } else { (500, 8 * KIB) };
    let full = (count * messages * (size + 200)) as u64;
    let scene = Scene::under_load();
    let scene = scene.may_grow_by(full + count as u64 * 320 * KIB as u64 + 16 * MIB).may_keep_it();
    let mut sender = scene.connected(version, "k07-sender");
    let name = |number: usize| format!("k07-{number}");
    for number in 0..count {
        let mut client = open_session(&scene, version, &name(number), 100);
        client.subscribe(format!("ok/{}", name(number)), 1);
        client.disconnect();
        let payloads = (0..messages as u32).map(|number| numbered(number, size));
        publish_many(&mut sender, &format!("ok/{}", name(number)), payloads);
    }
    let queued = scene.growth();
    let slow: Vec<Client> = (0..count)
        .map(|number| {
            let mut client = scene.open(version);
            client.send(&lasting(version, &name(number), 100).bytes());
            client
        })
        .collect();
    for _ in 0..load(1, 10) {
        for client in &slow {
            let mut byte = [0];
            let mut stream = client.socket();
            stream.set_read_timeout(Some(PATIENCE)).expect("the duration is not zero");
            assert!(matches!(stream.read(&mut byte), Ok(1)), "there is something to read");
        }
        thread::sleep(Duration::from_secs(1));
    }
    crate::report(&format!("k07: {queued} bytes with {full} queued, {} while they were read", scene.growth()));
    drop(slow);
    // Nothing of it is lost.
    let mut client = scene.open(version);
    client.send(&lasting(version, &name(0), 100).bytes());
    assert!(client.receive_connack().session_present);
    for number in 0..messages as u32 {
        let message = client.receive_message();
        assert_eq!(message.payload, numbered(number, size));
        client.acknowledge(&message);
    }
    client.ping();
    drop((client, sender));
    (0..count).for_each(|number| forget(&scene, version, &name(number)));
    scene.holds();
}

/// Who is told that its Session is there, finds it; who is told otherwise, has nothing.
fn k09_session_present_never_lies(version: Version) {
    let scene = Scene::start();
    let mut sender = scene.connected(version, "k09-sender");
    let mut present = |how: &str, expected: bool, connect: &Connect| {
        assert!(sender.publish("ok/k09", "x", 1) < 0x80);
        let mut client = scene.open(version);
        assert_eq!(client.connect(connect).session_present, expected, "{how}");
        if expected {
            let message = client.receive_message();
            client.finish_delivery(&message);
        }
        client.ping();
        client.subscribe("ok/k09", 1);
        client
    };
    let back = lasting(version, "k09", 10);
    scene.repeat(10, |_| {
        present("never seen", false, &back).disconnect();
        present("left", true, &back).reset();
        let lost = present("lost", true, &back);
        let taken_over = present("taken over", true, &back);
        let replaced = present("replaced", false, &connect(version, "k09"));
        drop((lost, taken_over));
        replaced.disconnect();
        // A clean Session of an older Client ends with its connection, and so does one of 5.0 that asks for no expiry.
        let mut gone = present("ended", false, &back);
        if version.is_v5() {
            gone.send(&disconnect_with(0, &property::of_u32(property::SESSION_EXPIRY_INTERVAL, 0))).expect_close();
            present("ended by DISCONNECT", false, &back).disconnect();
        } else {
            gone.disconnect();
        }
        // A CONNECT that is refused says nothing of the Session, and does nothing to it.
        let refused = Connect { will: Some(will("bad/#", "x")), ..back.clone() };
        scene.expect_refusal(version, &refused.bytes(), &[code::TOPIC_NAME_INVALID]);
        present("after a refusal", true, &back).disconnect();
        forget(&scene, version, "k09");
    });
    drop(sender);
    scene.holds();
    // Another broker, which has lost all of it.
    let scene = Scene::start();
    let mut client = scene.open(version);
    assert!(!client.connect(&back).session_present);
    client.disconnect();
    forget(&scene, version, "k09");
    scene.holds();
}

/// How many wait for a Session in the test profile.
const QUEUE_MAX: u32 = 1000;

/// Publishes ten more than the Session that is away can take; gives the codes and what the Session finds on its return.
#[track_caller]
fn overfill(scene: &Scene, version: Version, qos: u8) -> (Vec<u8>, Vec<u32>) {
    let mut client = open_session(scene, version, "k10", 100);
    client.subscribe("ok/k10", 2);
    client.disconnect();
    let mut sender = scene.connected(version, "k10-sender");
    // Those who are away are promised nothing of QoS 0, and it takes nobody's place.
    sender.send(&publish(version, "ok/k10", "not kept").bytes().repeat(10));
    let codes = (0..QUEUE_MAX + 10).map(|number| sender.publish("ok/k10", numbered(number, 4), qos)).collect();
    sender.disconnect();
    let mut client = resume(scene, version, "k10");
    let mut found = Vec::new();
    for _ in 0..QUEUE_MAX {
        let message = loop {
            let packet = client.receive();
            match packet.kind() {
                kind::PUBREL => drop(client.send(&ack(kind::PUBCOMP, packet.packet_id()))),
                _ => break packet.delivery(version),
            }
        };
        assert_eq!(message.qos, qos);
        client.acknowledge(&message);
        found.push(u32::from_be_bytes(message.payload.try_into().expect("a number")));
    }
    loop {
        let packets = client.settle();
        if packets.is_empty() {
            break;
        }
        for packet in packets {
            assert_eq!(packet.kind(), kind::PUBREL, "more than the queue holds");
            client.send(&ack(kind::PUBCOMP, packet.packet_id()));
        }
    }
    client.disconnect();
    forget(scene, version, "k10");
    (codes, found)
}

/// The default: what was acknowledged is kept, and whoever publishes more is told so.
fn k10_full_offline_queue_drops_the_newest(version: Version) {
    // In one shard: a publisher is told by its own, and what a Session of another cannot take is counted, and said to nobody.
    let scene = Scene::with(|profile| {
        profile.set("node.shards", 1).set("sys.interval", "100ms");
    });
    for (round, qos) in [(1, 1), (2, 2)] {
        let (codes, found) = overfill(&scene, version, qos);
        let (taken, refused) = codes.split_at(QUEUE_MAX as usize);
        assert!(taken.iter().all(|code| *code == 0), "{taken:02x?}");
        let told = if version.is_v5() { code::QUOTA_EXCEEDED } else { 0 };
        assert!(refused.iter().all(|code| *code == told), "{refused:02x?}");
        assert!(found.iter().copied().eq(0..QUEUE_MAX), "{found:?}");
        counts_dropped(&scene, round * 20);
    }
    scene.holds();
}

/// By choice: what is new replaces what is old.
fn k10_full_offline_queue_drops_the_oldest(version: Version) {
    let scene = Scene::with(|profile| {
        profile.set("limits.queue_drops", "oldest").set("sys.interval", "100ms");
    });
    for (round, qos) in [(1, 1), (2, 2)] {
        let (codes, found) = overfill(&scene, version, qos);
        assert!(codes.iter().all(|code| *code == 0), "{codes:02x?}");
        assert!(found.iter().copied().eq(10..QUEUE_MAX + 10), "{found:?}");
        counts_dropped(&scene, round * 20);
    }
    scene.holds();
}

/// The ten of QoS 0 and the ten over the limit are counted, and the log knows of a Client that loses messages.
#[track_caller]
fn counts_dropped(scene: &Scene, count: u64) {
    let mut dropped = Gauge::of(scene, "$SYS/broker/publish/messages/dropped");
    dropped.reaches("dropped", |value| value == count, PATIENCE);
    dropped.0.disconnect();
    if scene.broker().is_ours() {
        assert!(scene.log_lines_with("messages dropped") > 0, "the log says nothing");
    }
}

/// Resumed while the old connection is in the middle of a packet that its Client does not take.
fn k11_takeover_while_writing(version: Version) {
    let scene = Scene::under_load().may_grow_by(32 * MIB);
    let mut owner = open_session(&scene, version, "k11", 100);
    owner.subscribe("ok/k11/1", 1);
    owner.subscribe("ok/k11/2", 2);
    let mut sender = scene.connected(version, "k11-sender");
    let mut sent = 0;
    let mut send = |count: u32| {
        for number in sent..sent + count {
            for qos in 1..=2 {
                let reason = sender.publish(format!("ok/k11/{qos}"), numbered(number, 40 * KIB), qos);
                assert_eq!(reason, 0);
            }
        }
        sent += count;
        sent
    };
    // 4 MB: more than sockets hold, less than the queue.
    send(50);
    let mut inbox = Inbox::default();
    let rounds = load(60, 10_000);
    for round in 0..rounds {
        for _ in 0..round % 7 {
            let packet = owner.receive();
            inbox.take(&mut owner, &packet);
        }
        // Fifty or more are always under way, and never so many that the queue is full.
        let arrived = inbox.numbers.iter().map(HashSet::len).min().unwrap_or(0);
        let sent = send(0);
        send((arrived as u32 + 50).saturating_sub(sent));
        // What is on the way to the old connection is lost with it.
        owner = resume(&scene, version, "k11");
    }
    let sent = send(0);
    inbox.complete(&mut owner, sent as usize);
    drop((owner, sender));
    forget(&scene, version, "k11");
    scene.holds();
}

/// A Session that was begun by one version of the protocol goes on with the other.
fn k12_other_version_resumes(version: Version) {
    let other = if version.is_v5() { Version::V311 } else { Version::V5 };
    let scene = Scene::start();
    let mut sender = scene.connected(Version::V5, "k12-sender");
    let mut send = |numbers: std::ops::Range<u32>| {
        for number in numbers {
            for qos in 1..=2 {
                let id = sender.new_packet_id();
                let properties = [property::user("k", "v"), property::of_string(property::CONTENT_TYPE, "t")].concat();
                let message = publish(Version::V5, format!("ok/k12/{qos}"), numbered(number, 100));
                sender.send(&message.with(properties).qos(qos, id).bytes());
                assert_eq!(sender.finish_publish(qos, id), 0);
            }
        }
    };
    scene.repeat(10, |_| {
        let mut inbox = Inbox::default();
        let mut client = open_session(&scene, version, "k12", 10);
        client.subscribe("ok/k12/1", 1);
        client.subscribe("ok/k12/2", 2);
        let mut sent = 0;
        for version in [version, other, version, other] {
            send(sent..sent + 20);
            sent += 20;
            // Some are done, some half, the rest not at all.
            for _ in 0..5 {
                let packet = client.receive();
                inbox.take(&mut client, &packet);
            }
            drop(client);
            client = scene.open(version);
            assert!(client.connect(&lasting(version, "k12", 10)).session_present);
        }
        inbox.complete(&mut client, sent as usize);
        client.disconnect();
        forget(&scene, other, "k12");
    });
    drop(sender);
    scene.holds();
}

/// A member of a share goes with a hundred messages that it has not acknowledged.
fn k13_shared_member_vanishes(version: Version) {
    let scene = Scene::start();
    let mut sender = scene.connected(version, "k13-sender");
    scene.repeat(5, |_| {
        let mut member = open_session(&scene, version, "k13-member", 100);
        assert_eq!(member.subscribe("$share/k13/ok/k13/#", 2), 2);
        for number in 0..50 {
            for qos in 1..=2 {
                assert_eq!(sender.publish(format!("ok/k13/{qos}"), numbered(number, 4), qos), 0);
            }
        }
        (0..100).for_each(|_| drop(member.receive_message()));
        let mut other = open_session(&scene, version, "k13-other", 100);
        assert_eq!(other.subscribe("$share/k13/ok/k13/#", 2), 2);
        member.reset();
        // While it is away the other gets all that is new, and perhaps what it had of QoS 1, but nothing of QoS 2.
        let mut given = Inbox::default();
        sender.publish("ok/k13/1", numbered(50, 4), 1);
        while !given.numbers[0].contains(&50) {
            let packet = other.receive();
            given.take(&mut other, &packet);
        }
        assert!(given.numbers[1].is_empty(), "QoS 2 went to another: {:?}", given.numbers[1]);
        let mut member = resume(&scene, version, "k13-member");
        let mut kept = Inbox::default();
        // What had not been acknowledged with QoS 1 comes to the one or the other, whenever it does.
        let deadline = Instant::now() + PATIENCE.mul_f64(busyness());
        let has = |inbox: &Inbox, number: u32| inbox.numbers[0].contains(&number);
        while kept.numbers[1].len() < 50 || (0..=50).any(|number| !has(&kept, number) && !has(&given, number)) {
            for (client, inbox) in [(&mut member, &mut kept), (&mut other, &mut given)] {
                if let Event::Packet(packet) = client.event(Duration::from_millis(1)) {
                    inbox.take(client, &packet);
                }
            }
            assert!(Instant::now() < deadline, "lost: {:?} and {:?}", kept.numbers, given.numbers);
        }
        kept.complete(&mut member, 0);
        given.complete(&mut other, 0);
        assert!(given.numbers[1].is_empty(), "QoS 2 went to another: {:?}", given.numbers[1]);
        // And the share goes on.
        for number in 100..120 {
            sender.publish("ok/k13/1", numbered(number, 4), 1);
        }
        let mut rest = Inbox::default();
        let deadline = Instant::now() + PATIENCE;
        while rest.numbers[0].len() < 20 {
            for client in [&mut member, &mut other] {
                if let Event::Packet(packet) = client.event(Duration::from_millis(1)) {
                    rest.take(client, &packet);
                }
            }
            assert!(Instant::now() < deadline, "stuck: {:?}", rest.numbers[0]);
        }
        member.disconnect();
        other.disconnect();
        forget(&scene, version, "k13-member");
        forget(&scene, version, "k13-other");
    });
    drop(sender);
    scene.holds();
}
