//! E: QoS flows and their Packet Identifiers.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use crate::broker::RECEIVE_MAXIMUM;
use crate::client::{Client, Event, PATIENCE, connected, prompt};
use crate::packet::{
    Connect, DISCONNECT, Delivery, Received, Version, ack, ack_with, code, connect, kind, packet, property, publish,
    subscribe, unsubscribe, will,
};
use crate::rules::{Scene, load, quiet};

each_version! {
    e01_qos_3,
    e02_packet_id_0,
    e03_dup_on_qos_0,
    e04_receive_maximum_overrun,
    e05_same_qos_2_id_for_ever: alone,
    e06_same_id_other_content,
    e07_unknown_ids: alone,
    e08_wrong_ack,
    e10_quota_inflation,
    e11_ids_run_out: alone,
    e12_early_id_reuse,
    e13_both_directions_with_the_same_ids,
    e14_header_larger_than_the_packet,
    e15_resend_storm: alone,
    e16_order_under_pressure,
    e17_send_and_vanish,
    e18_nobody_listens: alone,
    e19_denied_qos_2,
    e20_unfinished_qos_2_over_a_reconnect,
}

only_v5! {
    e09_pubrec_that_refuses,
}

each_transport! {
    e_quiet_with_unfinished_exchanges,
}

/// A Session that stays while its Client is away, and takes this many messages at once.
pub(crate) fn lasting(version: Version, client_id: &str, receive_maximum: u16) -> Connect {
    let properties = [
        property::of_u32(property::SESSION_EXPIRY_INTERVAL, 60),
        property::of_u16(property::RECEIVE_MAXIMUM, receive_maximum),
    ];
    Connect { clean: false, properties: properties.concat(), ..connect(version, client_id) }
}

#[track_caller]
pub(crate) fn open_session(scene: &Scene, version: Version, client_id: &str, receive_maximum: u16) -> Client {
    let mut client = scene.open(version);
    client.connect(&lasting(version, client_id, receive_maximum));
    client
}

/// Connects with a clean start and leaves, so that nothing of the Session stays.
#[track_caller]
pub(crate) fn forget(scene: &Scene, version: Version, client_id: &str) {
    scene.connected(version, client_id).disconnect();
}

/// Publishes many of QoS 1 at once, as many as the broker takes, and sees all acknowledged.
#[track_caller]
pub(crate) fn publish_many(sender: &mut Client, topic: &str, payloads: impl Iterator<Item = Vec<u8>>) {
    let version = sender.version();
    let payloads: Vec<_> = payloads.collect();
    for batch in payloads.chunks(usize::from(RECEIVE_MAXIMUM)) {
        let mut bytes = Vec::new();
        for (payload, id) in batch.iter().zip(1..) {
            bytes.extend(publish(version, topic, payload).qos(1, id).bytes());
        }
        sender.send(&bytes);
        for _ in batch {
            sender.receive_kind(kind::PUBACK);
        }
    }
}

/// Both QoS bits set.
fn e01_qos_3(version: Version) {
    let scene = Scene::start();
    scene.repeat(50, |_| {
        for publish in [publish(version, "bad/t", "x").qos(3, 9), publish(version, "bad/t", "x").qos(3, 9).retained()] {
            scene.expect_refusal(version, &publish.bytes(), &[code::MALFORMED_PACKET]);
            scene.expect_refusal(version, &publish.repeated().bytes(), &[code::MALFORMED_PACKET]);
        }
    });
    scene.holds();
}

/// Packet Identifier 0 identifies nothing.
fn e02_packet_id_0(version: Version) {
    let scene = Scene::start();
    let mut packets = vec![
        publish(version, "bad/t", "x").qos(1, 0).bytes(),
        publish(version, "bad/t", "x").qos(2, 0).bytes(),
        subscribe(version, 0, &[(b"bad/t", 0)]),
        unsubscribe(version, 0, &[b"bad/t"]),
    ];
    packets.extend([kind::PUBACK, kind::PUBREC, kind::PUBREL, kind::PUBCOMP].map(|kind| ack(kind, 0)));
    scene.repeat(50, |_| {
        for packet in &packets {
            scene.expect_refusal(version, packet, &[code::MALFORMED_PACKET, code::PROTOCOL_ERROR]);
        }
    });
    scene.holds();
}

/// What is sent once at most cannot be a repetition.
fn e03_dup_on_qos_0(version: Version) {
    let scene = Scene::start();
    scene.repeat(100, |_| {
        let packet = publish(version, "bad/t", "x").repeated();
        let refusals = [code::MALFORMED_PACKET, code::PROTOCOL_ERROR];
        scene.expect_refusal(version, &packet.bytes(), &refusals);
        scene.expect_refusal(version, &packet.retained().bytes(), &refusals);
    });
    scene.holds();
}

/// More unfinished QoS 2 messages than the broker has said it takes.
fn e04_receive_maximum_overrun(version: Version) {
    let scene = Scene::start();
    scene.repeat(10, |_| {
        let mut client = scene.open(version);
        let answer = client.connect(&connect(version, "e04"));
        if version.is_v5() {
            let told = answer.property(property::RECEIVE_MAXIMUM);
            assert_eq!(told, Some(&RECEIVE_MAXIMUM.to_be_bytes()[..]));
            for id in 1..=RECEIVE_MAXIMUM + 1 {
                client.send(&publish(version, "ok/e04", "x").qos(2, id).bytes());
            }
            scene.rejected(1);
            let answers = client.expect_refusal_after_answers(&[code::RECEIVE_MAXIMUM_EXCEEDED], prompt());
            assert!(answers.iter().all(|packet| packet.kind() == kind::PUBREC), "{answers:02x?}");
            return;
        }
        // MQTT 3.1.1 knows no such limit. The broker stops reading, or closes; it does not keep whatever comes.
        let mut answered: Vec<u16> = Vec::new();
        let many: Vec<u8> =
            (1..=1000).flat_map(|id| publish(version, "ok/e04", vec![b'x'; 100]).qos(2, id).bytes()).collect();
        client.send(&many);
        loop {
            match client.event(Duration::from_millis(50)) {
                Event::Packet(packet) => {
                    assert_eq!(packet.kind(), kind::PUBREC);
                    answered.push(packet.packet_id());
                }
                Event::Closed => return,
                Event::Silence => break,
            }
        }
        assert!(answered.len() <= usize::from(RECEIVE_MAXIMUM), "{} unfinished messages were taken", answered.len());
        // Finishing them lets the rest in.
        let mut finished = 0;
        while finished < 1000 {
            for id in answered.drain(..) {
                client.send(&ack(kind::PUBREL, id));
            }
            let packet = client.receive();
            match packet.kind() {
                kind::PUBREC => answered.push(packet.packet_id()),
                _ => finished += usize::from(packet.kind() == kind::PUBCOMP),
            }
        }
        client.disconnect();
    });
    scene.holds();
}

/// One identifier, sent again and again and never released, is one message.
fn e05_same_qos_2_id_for_ever(version: Version) {
    let scene = Scene::under_load();
    let mut receiver = scene.connected(version, "e05-receiver");
    receiver.subscribe("ok/e05", 0);
    let mut sender = scene.connected(version, "e05-sender");
    let first = publish(version, "ok/e05", vec![b'x'; 200]).qos(2, 5);
    sender.send(&first.bytes());
    assert!(sender.receive_ack(kind::PUBREC, 5) < 0x80);
    let again = first.repeated().bytes().repeat(100);
    let rounds = load(200, 10_000);
    scene.repeat(4, |_| {
        for _ in 0..rounds / 4 {
            sender.send(&again);
            for _ in 0..100 {
                let reason = sender.receive_ack(kind::PUBREC, 5);
                assert!(reason < 0x80 || reason == code::PACKET_IDENTIFIER_IN_USE, "{reason:02x}");
            }
        }
    });
    sender.send(&ack(kind::PUBREL, 5));
    assert_eq!(sender.receive_ack(kind::PUBCOMP, 5), 0);
    sender.send(&publish(version, "ok/e05", "end").bytes()).ping();
    assert_eq!(receiver.messages_until(b"end").len(), 1);
    drop((sender, receiver));
    scene.holds();
}

/// Until it is released an identifier stands for its first message, whatever else is sent under it.
fn e06_same_id_other_content(version: Version) {
    let scene = Scene::start();
    let mut receiver = scene.connected(version, "e06-receiver");
    receiver.subscribe("ok/e06/#", 0);
    let mut sender = scene.connected(version, "e06-sender");
    scene.repeat(10, |_| {
        for (topic, payload, dup) in [("ok/e06", "x", false), ("ok/e06", "y", false), ("ok/e06/other", "z", true)] {
            let mut publish = publish(version, topic, payload).qos(2, 5);
            publish.dup = dup;
            sender.send(&publish.bytes());
            let reason = sender.receive_ack(kind::PUBREC, 5);
            assert!(reason < 0x80 || (payload != "x" && reason == code::PACKET_IDENTIFIER_IN_USE), "{reason:02x}");
        }
        sender.send(&ack(kind::PUBREL, 5));
        assert_eq!(sender.receive_ack(kind::PUBCOMP, 5), 0);
        sender.send(&publish(version, "ok/e06", "end").bytes()).ping();
        let got: Vec<_> = receiver.messages_until(b"end").into_iter().map(|message| message.payload).collect();
        assert_eq!(got, [b"x"]);
    });
    drop((sender, receiver));
    scene.holds();
}

/// Acknowledgements of what never was are answered where the standard has an answer, and change nothing.
fn e07_unknown_ids(version: Version) {
    let scene = Scene::under_load();
    let mut client = scene.connected(version, "e07");
    client.subscribe("ok/e07", 2);
    let rounds = load(60, 10_000);
    scene.repeat(4, |quarter| {
        for round in 0..rounds / 4 {
            let first_id = ((quarter * rounds + round) % 600 * 100 + 1) as u16;
            let ids = first_id..first_id + 100;
            let all = |kind| -> Vec<u8> { ids.clone().flat_map(|id| ack(kind, id)).collect() };
            client.send(&all(kind::PUBREL));
            for id in ids.clone() {
                let reason = client.receive_ack(kind::PUBCOMP, id);
                assert_eq!(reason, if version.is_v5() { code::PACKET_IDENTIFIER_NOT_FOUND } else { 0 });
            }
            client.send(&all(kind::PUBREC));
            let answers = client.settle();
            assert!(answers.len() == 100 || (answers.is_empty() && !version.is_v5()), "{} answers", answers.len());
            for (packet, id) in answers.iter().zip(ids.clone()) {
                let expected = if version.is_v5() { code::PACKET_IDENTIFIER_NOT_FOUND } else { 0 };
                assert_eq!((packet.kind(), packet.packet_id(), packet.reason()), (kind::PUBREL, id, expected));
            }
            client.send(&all(kind::PUBACK)).send(&all(kind::PUBCOMP)).ping();
        }
    });
    // What is due still works.
    client.send(&publish(version, "ok/e07", "x").qos(2, 1).bytes()).send(&ack(kind::PUBREL, 1));
    let mut kinds: Vec<u8> = (0..3).map(|_| client.receive().kind()).collect();
    kinds.sort_unstable();
    assert_eq!(kinds, [kind::PUBLISH, kind::PUBREC, kind::PUBCOMP]);
    drop(client);
    scene.holds();
}

/// An acknowledgement of another QoS than the delivery has does not complete it.
fn e08_wrong_ack(version: Version) {
    let scene = Scene::start();
    let mut sender = scene.connected(version, "e08-sender");
    scene.repeat(10, |_| {
        for (qos, wrong) in [(2, kind::PUBACK), (1, kind::PUBREC), (1, kind::PUBCOMP), (2, kind::PUBCOMP)] {
            let mut receiver = open_session(&scene, version, "e08", 10);
            receiver.subscribe("ok/e08", qos);
            sender.publish("ok/e08", "x", qos);
            let message = receiver.receive_message();
            assert_eq!(message.qos, qos);
            receiver.send(&ack(wrong, message.packet_id)).send(&[0xC0, 0]);
            loop {
                match receiver.event(prompt()) {
                    Event::Packet(packet) => match packet.kind() {
                        kind::PINGRESP => break,
                        kind::DISCONNECT => assert_eq!(packet.reason(), code::PROTOCOL_ERROR),
                        // For a PUBREC this identifier is unknown, and saying so completes nothing.
                        kind::PUBREL if wrong == kind::PUBREC => {
                            assert!(!version.is_v5() || packet.reason() == code::PACKET_IDENTIFIER_NOT_FOUND);
                        }
                        _ => panic!("answered by {packet:02x?}"),
                    },
                    Event::Closed => break,
                    Event::Silence => panic!("neither answered nor closed"),
                }
            }
            drop(receiver);
            let mut receiver = open_session(&scene, version, "e08", 10);
            let again = receiver.receive_message();
            assert_eq!((again.dup, again.qos, again.packet_id), (true, qos, message.packet_id));
            assert_eq!(again.payload, b"x");
            receiver.finish_delivery(&again);
            receiver.ping();
            receiver.disconnect();
            forget(&scene, version, "e08");
        }
    });
    drop(sender);
    scene.holds();
}

/// A PUBREC with an error ends the exchange: nothing is released, and there is room for the next message.
fn e09_pubrec_that_refuses() {
    let scene = Scene::start();
    let mut sender = scene.connected(Version::V5, "e09-sender");
    scene.repeat(10, |_| {
        let mut receiver = open_session(&scene, Version::V5, "e09", 1);
        receiver.subscribe("ok/e09", 2);
        for reason in [0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99] {
            assert!(sender.publish("ok/e09", "x", 2) < 0x80);
            let message = receiver.receive_message();
            receiver.send(&ack_with(kind::PUBREC, message.packet_id, reason, &[])).ping();
        }
        sender.publish("ok/e09", "end", 2);
        let message = receiver.receive_message();
        assert_eq!(message.payload, b"end");
        receiver.finish_delivery(&message);
        receiver.ping();
        receiver.disconnect();
        // And nothing comes again.
        open_session(&scene, Version::V5, "e09", 1).ping();
        forget(&scene, Version::V5, "e09");
    });
    drop(sender);
    scene.holds();
}

/// Saying thrice that one message has arrived makes no room for three.
fn e10_quota_inflation(version: Version) {
    let scene = Scene::with(|profile| {
        profile.set("limits.in_flight_max", 1);
    });
    let mut sender = scene.connected(version, "e10-sender");
    scene.repeat(5, |_| {
        let mut receiver = open_session(&scene, version, "e10", 1);
        receiver.subscribe("ok/e10", 2);
        for number in 0..10_u8 {
            for qos in 1..=2 {
                assert!(sender.publish("ok/e10", [number], qos) < 0x80);
            }
        }
        // One after the other, in the order of each QoS.
        let mut next = [0_u8; 3];
        for _ in 0..20 {
            let message = receiver.receive_message();
            let expected = &mut next[usize::from(message.qos)];
            assert_eq!(message.payload, [*expected]);
            *expected += 1;
            receiver.ping();
            if message.qos == 1 {
                receiver.send(&ack(kind::PUBACK, message.packet_id).repeat(3));
            } else {
                receiver.send(&ack(kind::PUBREC, message.packet_id).repeat(3));
                let answers = receiver.settle();
                let releases = |packet: &Received| packet.kind() == kind::PUBREL;
                assert!(!answers.is_empty() && answers.iter().all(releases), "{answers:02x?}");
                receiver.send(&ack(kind::PUBCOMP, message.packet_id).repeat(3));
            }
        }
        receiver.ping();
        receiver.disconnect();
        forget(&scene, version, "e10");
    });
    drop(sender);
    scene.holds();
}

/// A Client that never acknowledges gets as many messages as there are identifiers, each with its own.
fn e11_ids_run_out(version: Version) {
    let scene = Scene::under_load_with(|profile| {
        profile.set("limits.in_flight_max", 65_535);
    })
    .may_grow_by(64 * 1024 * 1024);
    let mut receiver = open_session(&scene, version, "e11", 65_535);
    receiver.subscribe("ok/e11", 1);
    let mut sender = scene.connected(version, "e11-sender");
    let mut ids = HashSet::new();
    let mut take = |receiver: &mut Client| {
        let message = receiver.receive_message();
        assert!(message.packet_id != 0, "identifier 0");
        assert!(ids.insert(message.packet_id), "identifier {} again", message.packet_id);
    };
    // In step with the receiver, whose window is what is tested here and not its queue.
    for number in 0..65_535 / 100 {
        publish_many(&mut sender, "ok/e11", (0..100_u8).map(|low| vec![low, number as u8]));
        (0..100).for_each(|_| take(&mut receiver));
    }
    let rest = load(1000, 135_000);
    publish_many(&mut sender, "ok/e11", (0..rest).map(|_| b"rest".to_vec()));
    (0..65_535 % 100).for_each(|_| take(&mut receiver));
    receiver.ping();
    // One more identifier, one more message, and it is the one that has become free.
    for id in 1..=3 {
        receiver.send(&ack(kind::PUBACK, id));
        assert_eq!(receiver.receive_message().packet_id, id);
        receiver.ping();
    }
    drop((receiver, sender));
    forget(&scene, version, "e11");
    scene.holds();
}

/// An identifier rests before it is used again, so that a late acknowledgement does not meet its successor.
fn e12_early_id_reuse(version: Version) {
    let scene = Scene::with(|profile| {
        profile.set("limits.in_flight_max", 10);
    });
    let mut receiver = open_session(&scene, version, "e12", 10);
    receiver.subscribe("ok/e12", 1);
    let mut sender = scene.connected(version, "e12-sender");
    publish_many(&mut sender, "ok/e12", (0..800_u16).map(|number| number.to_be_bytes().to_vec()));
    let mut pending: VecDeque<Delivery> = VecDeque::new();
    let mut just_acknowledged = 0;
    for number in 0..800_u16 {
        if pending.len() == 10 {
            // Now the oldest and now the youngest, so that identifiers do not come free in their order.
            let done = if number % 3 == 0 { pending.pop_back() } else { pending.pop_front() };
            let done = done.expect("ten are pending");
            receiver.acknowledge(&done);
            just_acknowledged = done.packet_id;
        }
        let message = receiver.receive_message();
        assert_eq!(message.payload, number.to_be_bytes());
        assert_ne!(message.packet_id, just_acknowledged, "used again at once");
        assert!(pending.iter().all(|other| other.packet_id != message.packet_id), "used twice");
        pending.push_back(message);
    }
    drop((receiver, sender));
    forget(&scene, version, "e12");
    scene.holds();
}

/// Identifiers of the two directions have nothing to do with one another.
fn e13_both_directions_with_the_same_ids(version: Version) {
    let scene = Scene::start();
    let count = RECEIVE_MAXIMUM;
    let mut other = scene.connected(version, "e13-other");
    other.subscribe("ok/e13/out", 0);
    scene.repeat(10, |_| {
        let mut client = open_session(&scene, version, "e13", count);
        client.subscribe("ok/e13/in", 2);
        for id in 1..=count {
            other.send(&publish(version, "ok/e13/in", "in").qos(2, id).bytes());
            client.send(&publish(version, "ok/e13/out", "out").qos(2, id).bytes());
        }
        let (mut sent, mut received) = (HashMap::new(), HashMap::new());
        let done = |steps: &HashMap<u16, u8>| steps.values().filter(|kind| **kind == kind::PUBCOMP).count();
        let (mut acknowledged, mut arrived) = (0, 0);
        let deadline = Instant::now() + PATIENCE;
        while done(&sent) < count.into() || done(&received) < count.into() || acknowledged < count || arrived < count {
            assert!(Instant::now() < deadline, "{sent:?} {received:?} {acknowledged} {arrived}");
            // The other only does what it must; a broker may wait for its PUBREL before it delivers.
            while let Event::Packet(packet) = other.event(Duration::from_micros(100)) {
                match packet.kind() {
                    kind::PUBREC => drop(other.send(&ack(kind::PUBREL, packet.packet_id()))),
                    kind::PUBCOMP => acknowledged += 1,
                    _ => arrived += u16::from(packet.kind() == kind::PUBLISH),
                }
            }
            // All that is there: a wait costs a tick of the system however short it is.
            while let Event::Packet(packet) = client.event(Duration::from_micros(100)) {
                if packet.kind() == kind::PUBLISH {
                    let message = packet.delivery(version);
                    assert_eq!((message.qos, received.insert(message.packet_id, kind::PUBLISH)), (2, None));
                    client.acknowledge(&message);
                    continue;
                }
                assert!(packet.reason() < 0x80, "{packet:02x?}");
                let id = packet.packet_id();
                match packet.kind() {
                    kind::PUBREC => {
                        assert_eq!(sent.insert(id, kind::PUBREC), None);
                        client.send(&ack(kind::PUBREL, id));
                    }
                    kind::PUBCOMP => assert_eq!(sent.insert(id, kind::PUBCOMP), Some(kind::PUBREC)),
                    kind::PUBREL => {
                        assert_eq!(received.insert(id, kind::PUBCOMP), Some(kind::PUBLISH));
                        client.send(&ack(kind::PUBCOMP, id));
                    }
                    _ => panic!("{packet:02x?}"),
                }
            }
        }
        client.disconnect();
        forget(&scene, version, "e13");
    });
    drop(other);
    scene.holds();
}

/// A topic that is longer than the packet that it is in.
fn e14_header_larger_than_the_packet(version: Version) {
    let scene = Scene::start();
    let topic = [b'b'; 64];
    let cases = [
        [&[0x30, 2, 0, 64][..], &topic].concat(),
        [&[0x32, 4, 0, 64, 0, 9][..], &topic].concat(),
        [&[0x30, 2, 0xFF, 0xFF][..], &topic].concat(),
        [&[0x30, 1, 0][..], &topic].concat(),
        [packet(0x32, &[0, 2, b'b', b'/']), topic.to_vec()].concat(),
        [packet(0x32, &[0, 2, b'b', b'/', 0]), topic.to_vec()].concat(),
    ];
    scene.repeat(100, |_| {
        for bytes in &cases {
            scene.expect_refusal(version, bytes, &[code::MALFORMED_PACKET]);
        }
    });
    scene.holds();
}

/// A Client that repeats itself on one connection publishes once; the broker itself repeats only after a reconnect.
fn e15_resend_storm(version: Version) {
    let scene = Scene::under_load();
    let mut receiver = open_session(&scene, version, "e15", 10);
    receiver.subscribe("ok/e15", 2);
    let mut sender = scene.connected(version, "e15-sender");
    sender.publish("ok/e15", "first", 2);
    let message = publish(version, "ok/e15", "second").qos(2, 5);
    sender.send(&message.bytes());
    let again = message.repeated().bytes();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(load(1, 30) as u64) {
        sender.send(&again);
        if let Event::Packet(packet) = sender.event(Duration::from_millis(10)) {
            assert_eq!((packet.kind(), packet.packet_id()), (kind::PUBREC, 5));
        }
    }
    sender.send(&ack(kind::PUBREL, 5));
    while sender.receive().kind() != kind::PUBCOMP {}
    // All that time nothing was acknowledged, and still the broker has said each once.
    let said: Vec<_> = (0..2).map(|_| receiver.receive_message()).collect();
    assert_eq!((said[0].payload.as_slice(), said[1].payload.as_slice()), (&b"first"[..], &b"second"[..]));
    receiver.ping();
    drop(receiver);
    let mut receiver = open_session(&scene, version, "e15", 10);
    for message in said {
        let again = receiver.receive_message();
        assert_eq!((again.dup, again.packet_id, again.payload), (true, message.packet_id, message.payload));
    }
    receiver.ping();
    drop((receiver, sender));
    forget(&scene, version, "e15");
    scene.holds();
}

/// Messages of one publisher, topic and QoS arrive in their order, through a small window and many lost connections.
fn e16_order_under_pressure(version: Version) {
    let scene = Scene::with(|profile| {
        profile.set("limits.in_flight_max", 10);
    });
    let mut sender = scene.connected(version, "e16-sender");
    let mut receiver = open_session(&scene, version, "e16", 10);
    receiver.subscribe("ok/e16/1", 1);
    receiver.subscribe("ok/e16/2", 2);
    let rounds = load(20, 2000) as u32;
    let mut orders = [Order::default(), Order::default()];
    for round in 0..rounds {
        let half = u32::from(RECEIVE_MAXIMUM) / 2;
        for number in round * half..(round + 1) * half {
            let id = (number % half) as u16 + 1;
            for (qos, id) in [(1, id), (2, id + 100)] {
                sender.send(&publish(version, format!("ok/e16/{qos}"), number.to_be_bytes()).qos(qos, id).bytes());
            }
        }
        let mut unfinished = 2 * half;
        while unfinished > 0 {
            let packet = sender.receive();
            match packet.kind() {
                kind::PUBREC => drop(sender.send(&ack(kind::PUBREL, packet.packet_id()))),
                _ => unfinished -= 1,
            }
        }
        // Some arrive and are lost again with their connection, at another place each time.
        for _ in 0..round % 10 {
            let packet = receiver.receive();
            take_in_order(&mut receiver, &packet, &mut orders, round % 2 == 0);
        }
        drop(receiver);
        receiver = open_session(&scene, version, "e16", 10);
        orders.iter_mut().for_each(Order::reconnect);
        while orders.iter().any(|order| order.next < (round + 1) * half) {
            let packet = receiver.receive();
            take_in_order(&mut receiver, &packet, &mut orders, true);
        }
    }
    // The last exchanges end too, and nothing comes again.
    loop {
        let packets = receiver.settle();
        if packets.is_empty() {
            break;
        }
        packets.iter().for_each(|packet| take_in_order(&mut receiver, packet, &mut orders, true));
    }
    drop((sender, receiver));
    forget(&scene, version, "e16");
    scene.holds();
}

/// What one receiver has got of one topic.
#[derive(Default)]
struct Order {
    /// The number that comes next for the first time.
    next: u32,
    /// Received on this connection. Which of them the broker knows to have arrived is not known when the connection is lost.
    received: HashSet<u32>,
    /// Received on the connection before this one: they may come again.
    repeatable: HashSet<u32>,
    last_repeated: Option<u32>,
}

impl Order {
    fn reconnect(&mut self) {
        self.repeatable = std::mem::take(&mut self.received);
        self.last_repeated = None;
    }

    #[track_caller]
    fn take(&mut self, message: &Delivery) {
        let number = u32::from_be_bytes(message.payload.as_slice().try_into().expect("a number"));
        if number == self.next {
            self.next += 1;
        } else {
            assert!(self.repeatable.remove(&number), "{number} where {} is next", self.next);
            assert!(message.dup, "{number} is repeated without saying so");
            assert!(self.last_repeated < Some(number), "{number} is repeated after {:?}", self.last_repeated);
            self.last_repeated = Some(number);
        }
        self.received.insert(number);
    }
}

/// One packet of an order test: checked, and answered where `answers` says so.
#[track_caller]
fn take_in_order(receiver: &mut Client, packet: &Received, orders: &mut [Order; 2], answers: bool) {
    match packet.kind() {
        kind::PUBLISH => {
            let message = packet.delivery(receiver.version());
            orders[usize::from(message.qos) - 1].take(&message);
            if answers {
                receiver.acknowledge(&message);
            }
        }
        kind::PUBREL => drop(receiver.send(&ack(kind::PUBCOMP, packet.packet_id()))),
        _ => panic!("{packet:02x?}"),
    }
}

/// All that has arrived is done, even if the Client left at once.
fn e17_send_and_vanish(version: Version) {
    let scene = Scene::start();
    let mut observer = scene.connected(version, "e17-observer");
    observer.subscribe("ok/e17/out", 0);
    scene.repeat(10, |round| {
        let mut client = open_session(&scene, version, "e17", 100);
        client.subscribe("ok/e17/in", 1);
        let mut sender = scene.connected(version, "e17-sender");
        publish_many(&mut sender, "ok/e17/in", (0..10_u8).map(|number| vec![number]));
        sender.disconnect();
        let mut last_words = Vec::new();
        for _ in 0..10 {
            last_words.extend(ack(kind::PUBACK, client.receive_message().packet_id));
        }
        for id in 1..=RECEIVE_MAXIMUM {
            last_words.extend(publish(version, "ok/e17/out", id.to_be_bytes()).qos(1, id).bytes());
        }
        if round % 2 == 0 {
            client.send(&last_words);
            client.reset();
        } else {
            last_words.extend(DISCONNECT);
            client.send(&last_words);
            drop(client);
        }
        for id in 1..=RECEIVE_MAXIMUM {
            assert_eq!(observer.receive_message().payload, id.to_be_bytes(), "round {round}");
        }
        // The acknowledgements counted too: nothing comes again.
        let mut again = open_session(&scene, version, "e17", 100);
        again.ping();
        again.disconnect();
        forget(&scene, version, "e17");
    });
    drop(observer);
    scene.holds();
}

/// Messages that nobody wants are acknowledged and forgotten.
fn e18_nobody_listens(version: Version) {
    let scene = Scene::under_load();
    let mut sender = scene.connected(version, "e18");
    let rounds = load(100, 10_000);
    scene.repeat(4, |_| {
        for _ in 0..rounds / 4 {
            let mut bytes = Vec::new();
            for id in 1..=RECEIVE_MAXIMUM {
                bytes.extend(publish(version, "ok/nobody", vec![b'x'; 100]).qos(2, id).bytes());
            }
            sender.send(&bytes);
            let mut releases = Vec::new();
            for id in 1..=RECEIVE_MAXIMUM {
                let reason = sender.receive_ack(kind::PUBREC, id);
                assert!([0, code::NO_MATCHING_SUBSCRIBERS].contains(&reason), "{reason:02x}");
                releases.extend(ack(kind::PUBREL, id));
            }
            sender.send(&releases);
            for id in 1..=RECEIVE_MAXIMUM {
                assert_eq!(sender.receive_ack(kind::PUBCOMP, id), 0);
            }
        }
    });
    sender.disconnect();
    scene.holds();
}

/// A refused QoS 2 message has ended with its refusal: its identifier is unknown, and free.
fn e19_denied_qos_2(version: Version) {
    let scene = Scene::start();
    let mut receiver = scene.connected(version, "e19-receiver");
    receiver.subscribe("ok/e19", 0);
    scene.repeat(10, |_| {
        let mut sender = scene.connected(version, "e19-sender");
        let denied = publish(version, "$SYS/forged", "x").qos(2, 5).bytes();
        if version.is_v5() {
            for _ in 0..2 {
                sender.send(&denied);
                assert_eq!(sender.receive_ack(kind::PUBREC, 5), code::NOT_AUTHORIZED);
                sender.send(&ack(kind::PUBREL, 5));
                assert_eq!(sender.receive_ack(kind::PUBCOMP, 5), code::PACKET_IDENTIFIER_NOT_FOUND);
            }
        } else {
            sender.send(&denied);
            match sender.event(prompt()) {
                Event::Packet(packet) => {
                    assert_eq!((packet.kind(), packet.packet_id()), (kind::PUBREC, 5));
                    sender.send(&ack(kind::PUBREL, 5));
                    sender.receive_ack(kind::PUBCOMP, 5);
                }
                _ => sender = scene.connected(version, "e19-sender"),
            }
        }
        sender.send(&publish(version, "ok/e19", "allowed").qos(2, 5).bytes());
        assert!(sender.finish_publish(2, 5) < 0x80);
        assert_eq!(receiver.receive_message().payload, b"allowed");
        receiver.ping();
        sender.disconnect();
    });
    drop(receiver);
    scene.holds();
}

/// An exchange goes on where the lost connection left it, and the message is as it was sent.
fn e20_unfinished_qos_2_over_a_reconnect(version: Version) {
    let scene = Scene::start();
    let mut receiver = scene.connected(version, "e20-receiver");
    let retain_as_published = if version.is_v5() { 0x08 } else { 0 };
    receiver.subscribe("ok/e20", 2 | retain_as_published);
    scene.repeat(10, |round| {
        let payload = round.to_be_bytes();
        let mut sender = open_session(&scene, version, "e20", 10);
        let message = publish(version, "ok/e20", payload).qos(2, 5).retained();
        sender.send(&message.bytes());
        assert!(sender.receive_ack(kind::PUBREC, 5) < 0x80);
        drop(sender);
        let mut sender = scene.open(version);
        assert!(sender.connect(&lasting(version, "e20", 10)).session_present);
        if round % 2 == 1 {
            // Perhaps the PUBREC was lost on the way.
            sender.send(&message.repeated().bytes());
            assert!(sender.receive_ack(kind::PUBREC, 5) < 0x80);
        }
        sender.send(&ack(kind::PUBREL, 5));
        assert_eq!(sender.receive_ack(kind::PUBCOMP, 5), 0);
        let got = receiver.receive_message();
        assert_eq!((got.payload.as_slice(), got.qos, got.retain), (&payload[..], 2, version.is_v5()));
        receiver.finish_delivery(&got);
        sender.publish("ok/e20", "fence", 2);
        let fence = receiver.receive_message();
        assert_eq!(fence.payload, b"fence", "delivered twice");
        receiver.finish_delivery(&fence);
        sender.send(&publish(version, "ok/e20", "").retained().bytes()).ping();
        assert_eq!(receiver.receive_message().payload, b"");
        sender.disconnect();
        forget(&scene, version, "e20");
    });
    drop(receiver);
    scene.holds();
}

/// G4 for this section: exchanges that nobody finishes wait without cost.
fn e_quiet_with_unfinished_exchanges() {
    quiet(|address| {
        let mut idle = Vec::new();
        for version in Version::BOTH {
            let mut receiver = connected(address, version, format!("quiet-{version:?}"));
            receiver.subscribe("ok/quiet", 2);
            let mut sender = Client::open(address, version);
            sender.connect(&Connect { will: Some(will("ok/will", "w")), ..connect(version, format!("s-{version:?}")) });
            for id in 1..=RECEIVE_MAXIMUM / 2 {
                sender.send(&publish(version, "ok/quiet", "x").qos(2, id).bytes());
                sender.receive_ack(kind::PUBREC, id);
                // Half of them are not even released.
                if id % 2 == 0 {
                    sender.send(&ack(kind::PUBREL, id));
                    sender.receive_ack(kind::PUBCOMP, id);
                    receiver.receive_message();
                }
            }
            idle.extend([receiver, sender]);
        }
        idle
    });
}
