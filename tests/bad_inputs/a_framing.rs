//! A: framing and first bytes. None of these needs credentials.

use std::io::Write as _;
use std::thread;
use std::time::{Duration, Instant};

use crate::broker::PACKET_SIZE_MAX;
use crate::client::{Client, Event, PATIENCE, connected, prompt};
use crate::packet::{
    Connect, DISCONNECT, PINGREQ, Place, Version, Will, ack, ack_with, claiming, code, connect, kind, lengthened,
    packet, property, publish, publish_of_size, shortened, subscribe, unsubscribe, will,
};
use crate::rules::{SLOWNESS, Scene, load, load_is_full, quiet, rounds, unique};
use crate::transport::{Noise, Transport, play_over};

each_version! {
    a01_first_packet_is_not_connect,
    a02_huge_body_before_connect: alone,
    a03_body_promised_and_withheld,
    a04_remaining_length_of_five_bytes,
    a05_length_not_in_its_shortest_form,
    a06_truncation_then_fin,
    a06_truncation_with_its_length_rewritten,
    a07_surplus_bytes,
    a08_reserved_flag_bits,
    a09_reserved_types,
    a10_one_byte_per_segment: alone,
    a11_many_packets_per_segment: alone,
    a12_one_byte_too_large,
    a13_exactly_the_limit,
    a14_server_only_packets_from_a_client,
    a15_half_close,
    a16_silent_connections,
    a17_wrong_protocol,
}

only_v5! {
    a18_the_reason_arrives,
}

each_transport! {
    a17_wrong_door,
    a_quiet_while_half_a_packet_is_there,
}

/// A valid packet of a Client, and the shorter bodies of it that happen to be valid as well.
struct Sample {
    name: &'static str,
    bytes: Vec<u8>,
    valid_cuts: Vec<usize>,
}

/// One of each packet that a Client may send after CONNACK, in several forms. Those that a lone Client without deliveries
/// has no reason to send (PUBACK and its kin) are valid all the same.
fn samples(version: Version) -> Vec<Sample> {
    let sample = |name, bytes: Vec<u8>, valid_cuts: &[usize]| Sample { name, bytes, valid_cuts: valid_cuts.to_vec() };
    let v5 = usize::from(version.is_v5());
    let ack_cuts: &[usize] = if version.is_v5() { &[2] } else { &[] };
    // After the topic `bad/t` (7 bytes), a Packet Identifier where there is one, and an empty property list any payload is one.
    let mut samples = vec![
        sample("PUBLISH QoS 0", publish(version, "bad/t", "hello").bytes(), &Vec::from_iter(7 + v5..12 + v5)),
        sample("PUBLISH QoS 1", publish(version, "bad/t", "hello").qos(1, 9).bytes(), &Vec::from_iter(9 + v5..14 + v5)),
        sample("PUBLISH QoS 2", publish(version, "bad/t", "hello").qos(2, 9).bytes(), &Vec::from_iter(9 + v5..14 + v5)),
        sample("PUBACK", ack(kind::PUBACK, 9), &[]),
        sample("PUBREC", ack(kind::PUBREC, 9), &[]),
        sample("PUBREL", ack(kind::PUBREL, 9), &[]),
        sample("PUBCOMP", ack(kind::PUBCOMP, 9), &[]),
        sample("SUBSCRIBE", subscribe(version, 9, &[(b"ok/a", 0), (b"ok/+", 1)]), &[9 + v5]),
        sample("UNSUBSCRIBE", unsubscribe(version, 9, &[b"ok/a", b"ok/+"]), &[8 + v5]),
        sample("PINGREQ", PINGREQ.to_vec(), &[]),
        sample("DISCONNECT", DISCONNECT.to_vec(), &[]),
    ];
    if version.is_v5() {
        let user = property::user("k", "v");
        let full = [
            property::of_byte(property::PAYLOAD_FORMAT_INDICATOR, 1),
            property::of_u32(property::MESSAGE_EXPIRY_INTERVAL, 60),
            property::of_string(property::CONTENT_TYPE, "text"),
            property::of_string(property::RESPONSE_TOPIC, "ok/answer"),
            property::of_string(property::CORRELATION_DATA, "17"),
            property::of_u16(property::TOPIC_ALIAS, 1),
            user.clone(),
        ]
        .concat();
        let body = 7 + 1 + full.len();
        let reason = [property::of_string(property::REASON_STRING, "because"), user].concat();
        samples.extend([
            sample("PUBLISH with properties", publish(version, "bad/t", "hi").with(full).bytes(), &[body, body + 1]),
            sample("PUBACK with a reason", ack_with(kind::PUBACK, 9, 0x10, &reason), ack_cuts),
            sample("PUBREC with a reason", ack_with(kind::PUBREC, 9, 0x10, &reason), ack_cuts),
            sample("PUBREL with a reason", ack_with(kind::PUBREL, 9, 0x92, &reason), ack_cuts),
            sample("PUBCOMP with a reason", ack_with(kind::PUBCOMP, 9, 0x92, &reason), ack_cuts),
        ]);
        // An acknowledgement of three bytes has a Reason Code and, by the standard, an implied empty property list.
        for sample in samples.iter_mut().filter(|sample| sample.name.ends_with("a reason")) {
            sample.valid_cuts.push(3);
        }
    }
    samples
}

/// CONNECT with all that it can have.
fn full_connect(version: Version) -> Vec<u8> {
    let properties = [
        property::of_u32(property::SESSION_EXPIRY_INTERVAL, 0),
        property::of_u16(property::RECEIVE_MAXIMUM, 10),
        property::of_u32(property::MAXIMUM_PACKET_SIZE, 1000),
        property::of_u16(property::TOPIC_ALIAS_MAXIMUM, 10),
        property::of_byte(property::REQUEST_RESPONSE_INFORMATION, 1),
        property::of_byte(property::REQUEST_PROBLEM_INFORMATION, 1),
        property::user("k", "v"),
    ];
    let will_properties = [property::of_u32(property::WILL_DELAY_INTERVAL, 0), property::user("k", "v")].concat();
    Connect {
        properties: properties.concat(),
        will: Some(Will { qos: 1, properties: will_properties, ..will("bad/will", "w") }),
        user_name: Some(b"user".to_vec()),
        password: Some(b"password".to_vec()),
        ..connect(version, "bad-client")
    }
    .bytes()
}

/// The first packet has to be CONNECT; anything else ends the Network Connection without an answer.
fn a01_first_packet_is_not_connect(version: Version) {
    let scene = Scene::start();
    let answers = [
        ("CONNACK", packet(0x20, if version.is_v5() { &[0, 0, 0] } else { &[0, 0] })),
        ("SUBACK", packet(0x90, if version.is_v5() { &[0, 9, 0, 0] } else { &[0, 9, 0] })),
        ("UNSUBACK", packet(0xB0, if version.is_v5() { &[0, 9, 0, 0] } else { &[0, 9] })),
        ("PINGRESP", vec![0xD0, 0]),
        ("AUTH", Place::Auth.packet(&property::of_string(property::AUTHENTICATION_METHOD, "x"))),
        ("reserved", vec![0x00, 0]),
    ];
    let others = samples(version).into_iter().map(|sample| (sample.name, sample.bytes));
    let first: Vec<_> = others.chain(answers).collect();
    scene.repeat(20, |_| {
        for (_, bytes) in &first {
            scene.rejected(1);
            scene.open(version).send(bytes).expect_close();
        }
    });
    scene.holds();
}

/// A length of 240 MB from somebody who has not even said CONNECT costs nothing: the fixed header is refused.
fn a02_huge_body_before_connect(version: Version) {
    let scene = Scene::under_load().may_grow_by(2 * 1024 * 1024);
    let filler = vec![b'x'; 1024 * 1024];
    let filler_count = load(4, 100);
    let attack = |first: u8| {
        let mut client = scene.open(version);
        client.send(&claiming(first << 4 | if matches!(first, 6 | 8 | 10) { 2 } else { 0 }, 240_000_000, b"xxxx"));
        if first == kind::CONNECT && version.is_v5() {
            client.expect_connack_or_close(&[code::PACKET_TOO_LARGE]);
        } else {
            client.expect_close();
        }
        // The rest goes nowhere; nothing waits for it and nothing keeps it.
        for _ in 0..filler_count {
            if !client.try_send(&filler) {
                break;
            }
        }
    };
    scene.rejected(14);
    thread::scope(|scope| {
        for first in 1..=14 {
            scope.spawn(move || attack(first));
        }
    });
    scene.holds();
}

/// A promised body costs memory only as it arrives, and it has to arrive before the time for CONNECT is over.
fn a03_body_promised_and_withheld(version: Version) {
    let patience = if load_is_full() { 5 } else { 2 };
    let count = load(200, 1000);
    let mut scene = Scene::under_load_with(|profile| {
        profile.set("limits.connect_timeout", format!("{patience}s"));
        profile.set("limits.connections_pending_max", 2000);
    });
    scene.set_baseline();
    let begin = &connect(version, "bad-client").bytes()[2..];
    let promise = claiming(0x10, 380 * 1024, begin);
    let opened = Instant::now();
    let mut clients: Vec<_> = (0..count).map(|_| scene.open(version)).collect();
    for client in &mut clients {
        client.send(&promise);
    }
    while opened.elapsed() + Duration::from_secs(1) < Duration::from_secs(patience) {
        thread::sleep(Duration::from_secs(1));
        for client in &mut clients {
            client.send(b"x");
        }
    }
    let grown = scene.growth();
    assert!(grown <= count as u64 * 8192 + 1024 * 1024, "{grown} bytes for {count} promises");
    for client in &mut clients {
        client.expect_close_within(Duration::from_secs(patience) + prompt());
    }
    assert!(
        opened.elapsed() < Duration::from_secs(patience) + 2 * prompt(),
        "closed only after {:?}",
        opened.elapsed()
    );
    assert!(opened.elapsed() + Duration::from_millis(500) > Duration::from_secs(patience), "closed before its time");
    drop(clients);
    scene.rejected(count);
    scene.may_grow_by(count as u64 * 8192 + 16 * 1024 * 1024).holds();
}

/// A Remaining Length has four bytes at most.
fn a04_remaining_length_of_five_bytes(version: Version) {
    let scene = Scene::start();
    scene.repeat(50, |_| {
        for length in [[0xFF, 0xFF, 0xFF, 0xFF, 0x7F], [0x80, 0x80, 0x80, 0x80, 0x01]] {
            for first in [0x10, 0x30, 0x82, 0xC0] {
                let header = [&[first][..], &length].concat();
                scene.rejected(2);
                scene.open(version).send(&header).expect_close();
                scene.connected(version, "bad-client").send(&header).expect_refusal(&[code::MALFORMED_PACKET]);
            }
            // The fifth byte need not even come: the fourth has already said that it would.
            let header = [&[0x30][..], &length[..4]].concat();
            scene.connected(version, "bad-client").send(&header).expect_refusal(&[code::MALFORMED_PACKET]);
        }
    });
    scene.holds();
}

/// A length written with more bytes than it needs is malformed in MQTT 5. MQTT 3.1.1 leaves it open: then it is one choice
/// for every packet.
fn a05_length_not_in_its_shortest_form(version: Version) {
    let mut scene = Scene::start();
    let padded = |whole: &[u8], length_bytes: usize| {
        let body = crate::packet::body_of(whole);
        let mut length = vec![0x80; length_bytes];
        length[0] |= u8::try_from(body.len()).expect("short packets here");
        length[length_bytes - 1] &= 0x7F;
        [&whole[..1], &length, body].concat()
    };
    let wholes = [
        PINGREQ.to_vec(),
        publish(version, "bad/t", "hello").bytes(),
        subscribe(version, 9, &[(b"ok/a", 0)]),
        unsubscribe(version, 9, &[b"ok/a"]),
        ack(kind::PUBREL, 9),
    ];
    let mut accepted = 0;
    let mut closed = 0;
    scene.repeat(50, |_| {
        for whole in &wholes {
            for length_bytes in 2..=4 {
                scene.rejected(1);
                let mut client = scene.connected(version, "bad-client");
                client.send(&padded(whole, length_bytes));
                if version.is_v5() {
                    client.expect_refusal(&[code::MALFORMED_PACKET]);
                    continue;
                }
                client.send(PINGREQ);
                match client.event(prompt()) {
                    Event::Closed => closed += 1,
                    Event::Packet(_) => accepted += 1,
                    Event::Silence => panic!("neither accepted nor closed: {whole:02x?}"),
                }
            }
        }
        let long_connect = padded(&connect(version, "bad-client").bytes(), 2);
        let mut client = scene.open(version);
        client.send(&long_connect);
        if version.is_v5() {
            client.expect_connack_or_close(&[code::MALFORMED_PACKET]);
        } else {
            match client.event(prompt()) {
                Event::Closed => closed += 1,
                Event::Packet(_) => accepted += 1,
                Event::Silence => panic!("neither accepted nor closed: CONNECT"),
            }
        }
    });
    assert!(accepted == 0 || closed == 0, "accepted {accepted} times and closed {closed} times");
    if accepted > 0 {
        scene.observed();
    }
    scene.holds();
}

/// A packet that ends early, at any byte, is a lost connection and nothing else: no answer, no effect, and the Will.
fn a06_truncation_then_fin(version: Version) {
    let mut scene = Scene::start();
    let full = full_connect(version);
    for cut in 0..full.len() {
        let mut client = scene.open(version);
        client.send(&full[..cut]).finish_sending();
        client.expect_close();
    }
    for sample in samples(version) {
        for cut in 0..sample.bytes.len() {
            let mut client = scene.connected(version, unique("bad-client"));
            client.send(&sample.bytes[..cut]).finish_sending();
            client.expect_close();
        }
    }
    assert_eq!(scene.observed(), Vec::<Vec<u8>>::new(), "half a packet did something");
    let mut client = scene.open(version);
    client.connect(&Connect { will: Some(will("bad/will", "lost")), ..connect(version, "bad-client") });
    client.send(&publish(version, "bad/t", "hello").bytes()[..9]).finish_sending();
    client.expect_close();
    scene.observe(b"lost");
    scene.holds();
}

/// Bytes of a CONNECT with an empty Client Identifier and without properties.
const SHORTEST_CONNECT: usize = 12;

/// A packet whose body was cut and whose length says so is malformed, unless what is left happens to be valid.
fn a06_truncation_with_its_length_rewritten(version: Version) {
    let mut scene = Scene::start();
    let refusals = [code::MALFORMED_PACKET, code::PROTOCOL_ERROR];
    let full = full_connect(version);
    let body = crate::packet::body_of(&full).len();
    for cut in 0..body {
        let bytes = shortened(&full, cut);
        scene.rejected(1);
        if version.is_v5() && cut < SHORTEST_CONNECT {
            // Whatever the version, no CONNECT is so short; where the level is not even there, nobody can be told.
            scene.open(version).send(&bytes).expect_connack_or_close(&refusals);
        } else {
            scene.expect_refusal(version, &bytes, &refusals);
        }
    }
    for sample in samples(version) {
        for cut in 0..crate::packet::body_of(&sample.bytes).len() {
            let bytes = shortened(&sample.bytes, cut);
            let mut client = scene.connected(version, unique("bad-client"));
            client.send(&bytes);
            if sample.valid_cuts.contains(&cut) {
                client.settle();
            } else {
                scene.rejected(1);
                client.expect_refusal(&refusals);
            }
        }
    }
    // Prefixes of this payload are all that could be published.
    for payload in scene.observed() {
        assert!(b"hello".starts_with(&payload) || payload == b"h", "published {payload:02x?}");
    }
    scene.holds();
}

/// Bytes that a packet's length counts and its fields do not are malformed.
fn a07_surplus_bytes(version: Version) {
    let scene = Scene::start();
    scene.repeat(10, |_| {
        for surplus in 1..=8 {
            let zeros = vec![0; surplus];
            scene.expect_refusal(version, &lengthened(&full_connect(version), &zeros), &[code::MALFORMED_PACKET]);
            for sample in samples(version) {
                // More bytes of a PUBLISH are more payload.
                if sample.name.starts_with("PUBLISH") {
                    continue;
                }
                // Without reason and properties an MQTT 5 packet has room for both. A zero reads as success, and the next
                // as no properties.
                let bare =
                    version.is_v5() && crate::packet::body_of(&sample.bytes).len() <= 2 && sample.name != "PINGREQ";
                if bare && surplus <= 2 {
                    continue;
                }
                // Two zeros are one more filter, an empty one, which is another fault.
                if sample.name.ends_with("SUBSCRIBE") && surplus >= 2 {
                    continue;
                }
                scene.expect_refusal(version, &lengthened(&sample.bytes, &zeros), &[code::MALFORMED_PACKET]);
            }
            let options = vec![0xFF; surplus];
            let subscribe = subscribe(version, 9, &[(b"ok/a", 0)]);
            scene.expect_refusal(version, &lengthened(&subscribe, &options), &[code::MALFORMED_PACKET]);
            let unsubscribe = unsubscribe(version, 9, &[b"ok/a"]);
            scene.expect_refusal(version, &lengthened(&unsubscribe, &options), &[code::MALFORMED_PACKET]);
        }
    });
    scene.holds();
}

/// The low half of the first byte is fixed for every type but PUBLISH.
fn a08_reserved_flag_bits(version: Version) {
    let scene = Scene::start();
    scene.repeat(10, |_| {
        for flags in 1..16 {
            let mut client = scene.open(version);
            client.send(&packet(0x10 | flags, crate::packet::body_of(&connect(version, "bad-client").bytes())));
            scene.rejected(1);
            if version.is_v5() {
                client.expect_connack_or_close(&[code::MALFORMED_PACKET]);
            } else {
                client.expect_close();
            }
        }
        let mut wholes: Vec<_> = samples(version).into_iter().map(|sample| sample.bytes).collect();
        wholes.retain(|bytes| bytes[0] >> 4 != kind::PUBLISH);
        if version.is_v5() {
            wholes.push(Place::Auth.packet(&property::of_string(property::AUTHENTICATION_METHOD, "x")));
        }
        for whole in &wholes {
            for flags in (0..16).filter(|flags| *flags != whole[0] & 0x0F) {
                let bytes = [&[whole[0] & 0xF0 | flags], &whole[1..]].concat();
                scene.expect_refusal(version, &bytes, &[code::MALFORMED_PACKET]);
            }
        }
    });
    scene.holds();
}

/// Type 0 is reserved, and type 15 was before MQTT 5.
fn a09_reserved_types(version: Version) {
    let scene = Scene::start();
    let mut types = vec![0_u8];
    if !version.is_v5() {
        types.push(15);
    }
    scene.repeat(20, |_| {
        for kind in &types {
            for flags in 0..16 {
                for body in [&[][..], &[0], &[0, 1, b'a', 0]] {
                    scene.expect_refusal(version, &packet(kind << 4 | flags, body), &[code::MALFORMED_PACKET]);
                }
            }
        }
    });
    scene.holds();
}

/// Packets may arrive a byte at a time, and waiting for the rest must not cost more the more of it is there.
fn a10_one_byte_per_segment(version: Version) {
    let scene = Scene::under_load();
    let mut client = scene.open(version);
    let dribble = |client: &mut Client, bytes: &[u8]| {
        for byte in bytes.chunks(1) {
            client.send(byte);
        }
    };
    dribble(&mut client, &connect(version, "a10").bytes());
    assert_eq!(client.receive_connack().code, 0);
    dribble(&mut client, &subscribe(version, 9, &[(b"ok/a", 0)]));
    assert_eq!(client.receive_suback(9), 0);
    let mut spend = |size: usize| {
        let whole = publish_of_size(version, "ok/a", size);
        scene.cpu_of(|| {
            dribble(&mut client, &whole);
            // Four bytes of fixed header, six of topic, and an empty property list.
            assert_eq!(client.receive_message().payload.len() + 10 + usize::from(version.is_v5()), size);
        })
    };
    // Each byte is a segment and may be a read of its own, which is the price of the sender's choice; not a copy of all
    // that came before.
    let size = load(128 * 1024, PACKET_SIZE_MAX).max(40 * 1024);
    // How many segments one read finds is chance, and a read is what costs: what is quadratic is so each time.
    let mut spent = (0..3).map(|_| (spend(size / 2), spend(size)));
    let is_linear = |(half, whole): &(Duration, Duration)| *whole <= 3 * *half + Duration::from_millis(100);
    let Some((_, whole)) = spent.find(is_linear) else {
        panic!("more than three times as long for twice {size} / 2 bytes")
    };
    let allowed = Duration::from_secs(2).mul_f64(size as f64 / PACKET_SIZE_MAX as f64) * SLOWNESS;
    assert!(whole <= allowed, "{whole:?} on a processor for {size} bytes, {allowed:?} allowed");
    client.disconnect();
    scene.holds();
}

/// Thousands of packets in one segment are all answered, and others are served in between.
fn a11_many_packets_per_segment(version: Version) {
    let scene = Scene::under_load();
    let mut client = scene.connected(version, "a11");
    let writer = client.writer();
    let pings = PINGREQ.repeat(5000);
    let duration = Duration::from_millis(load(2_000, 10_000) as u64);
    let mut answers = 0;
    let sent = thread::scope(|scope| {
        let sender = scope.spawn(move || {
            let mut writer = writer;
            let begun = Instant::now();
            let mut sent = 0;
            while begun.elapsed() < duration {
                writer.write_all(&pings).expect("a Client that breaks no rule is not closed");
                sent += 5000;
            }
            sent
        });
        while !sender.is_finished() {
            if let Event::Packet(packet) = client.event(Duration::from_millis(50)) {
                assert_eq!(packet.kind(), kind::PINGRESP);
                answers += 1;
            }
        }
        sender.join().expect("the sender says what failed")
    });
    while answers < sent {
        client.receive_kind(kind::PINGRESP);
        answers += 1;
    }
    client.disconnect();
    scene.holds();
}

/// A packet over the limit is refused by its fixed header; its body need not come.
fn a12_one_byte_too_large(version: Version) {
    let scene = Scene::start();
    scene.repeat(50, |_| {
        scene.rejected(1);
        let whole = publish_of_size(version, "bad/t", PACKET_SIZE_MAX + 1);
        let mut client = scene.open(version);
        let answer = client.connect(&connect(version, "bad-client"));
        if version.is_v5() {
            let announced = answer.property(property::MAXIMUM_PACKET_SIZE);
            assert_eq!(announced, Some(&(PACKET_SIZE_MAX as u32).to_be_bytes()[..]));
        }
        client.send(&whole[..4]).expect_refusal(&[code::PACKET_TOO_LARGE]);
        scene.connected(version, "bad-client").send(&whole).expect_refusal(&[code::PACKET_TOO_LARGE]);
    });
    scene.holds();
}

/// A packet of exactly the limit is allowed.
fn a13_exactly_the_limit(version: Version) {
    let scene = Scene::start();
    scene.repeat(10, |_| {
        let mut receiver = scene.connected(version, "a13-receiver");
        receiver.subscribe("ok/a", 0);
        let mut sender = scene.connected(version, "a13-sender");
        sender.send(&publish_of_size(version, "ok/a", PACKET_SIZE_MAX)).ping();
        assert!(receiver.receive_message().payload.len() > PACKET_SIZE_MAX - 20);
        sender.disconnect();
        receiver.disconnect();
    });
    scene.holds();
}

/// What only a Server says is not said by a Client.
fn a14_server_only_packets_from_a_client(version: Version) {
    let scene = Scene::start();
    let refusals = [code::PROTOCOL_ERROR, code::MALFORMED_PACKET];
    scene.repeat(20, |_| {
        for first in [0x20, 0x90, 0xB0, 0xD0] {
            for body in [&[][..], &[0], &[0, 0], &[0, 9], &[0, 9, 0], &[0, 9, 0, 0], &[0, 9, 0xFF, 0xFF], &[0xFF; 64]] {
                scene.expect_refusal(version, &packet(first, body), &refusals);
            }
        }
    });
    scene.holds();
}

/// What a Client says in the half-close rows: all of it is to be done.
fn last_words(version: Version) -> Vec<u8> {
    let connect = Connect { will: Some(will("bad/will", "lost")), ..connect(version, unique("a15")) };
    let said = [
        connect.bytes(),
        subscribe(version, 1, &[(b"ok/a15", 0)]),
        publish(version, "bad/a15", "said").qos(1, 2).bytes(),
    ];
    said.concat()
}

/// All that came before the end of the sending side is done and answered; then the connection counts as lost. So it is after
/// TLS has said that it ends, and after a FIN of which it has said nothing.
fn a15_half_close(version: Version) {
    let mut scene = Scene::start();
    for round in 0..rounds(10) {
        let mut client = scene.open(version);
        client.send(&last_words(version));
        if round % 2 == 0 {
            client.finish_sending();
        } else {
            client.cut_off_sending();
        }
        assert_eq!(client.receive_connack().code, 0);
        assert_eq!(client.receive_suback(1), 0);
        assert!(client.receive_ack(kind::PUBACK, 2) <= code::NO_MATCHING_SUBSCRIBERS);
        client.expect_close();
        scene.observe(b"said");
        scene.observe(b"lost");
    }
    scene.holds();
}

/// A Close frame ends both directions (RFC 6455, 5.5.1): what came before it is done, the answers may not come any more, and
/// a Close frame does.
#[test]
fn a15_close_frame() {
    play_over(&[Transport::Ws, Transport::Wss], || {
        let mut scene = Scene::start();
        for version in Version::BOTH {
            let mut client = scene.open(version);
            client.send(&last_words(version)).close_websocket();
            scene.observe(b"said");
            scene.observe(b"lost");
            while let Event::Packet(_) = client.event(prompt()) {}
            client.expect_close();
        }
        scene.holds();
    });
}

/// Connections that say nothing cost nothing and end when the time for CONNECT is over.
fn a16_silent_connections(version: Version) {
    let patience = if load_is_full() { 5 } else { 2 };
    let count = load(300, 950);
    let scene = Scene::under_load_with(|profile| {
        profile.set("limits.connect_timeout", format!("{patience}s"));
    });
    let second = || scene.cpu_of(|| thread::sleep(Duration::from_secs(1)));
    let for_innocents = second();
    let mut clients: Vec<_> = (0..count).map(|_| scene.open(version)).collect();
    let opened = Instant::now();
    let spent = second();
    // Some of the second may have gone into accepting the last of them.
    let accepting = Duration::from_micros(50) * SLOWNESS.min(4) * count as u32;
    let allowed = for_innocents + for_innocents / 2 + Duration::from_millis(10) + accepting;
    assert!(spent <= allowed, "{spent:?} a second on a processor while all are silent, {for_innocents:?} before");
    for client in &mut clients {
        client.expect_close_within(Duration::from_secs(patience) + prompt());
    }
    assert!(opened.elapsed() <= Duration::from_secs(patience) + prompt(), "closed only after {:?}", opened.elapsed());
    drop(clients);
    scene.rejected(count);
    scene.holds();
}

/// What is not MQTT at all gets a close, no answer, and one log line that guesses what it was.
fn a17_wrong_protocol(version: Version) {
    let scene = Scene::start();
    let hello =
        [&[0x16, 3, 1, 0, 0x2F, 1, 0, 0, 0x2B, 3, 3][..], &[7; 32], &[0, 0, 4, 0x13, 1, 0x13, 2, 1, 0]].concat();
    let known: [(&str, Vec<u8>); 4] = [
        ("TLS", hello),
        ("HTTP", b"GET /secret-path HTTP/1.1\r\nHost: secret.example\r\n\r\n".to_vec()),
        ("PROXY", b"PROXY TCP4 192.0.2.1 192.0.2.2 1000 1883\r\n".to_vec()),
        ("PROXY", [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0C"[..], &[1; 12]].concat()),
    ];
    for (guess, bytes) in &known {
        let before = scene.log_lines_with(guess);
        scene.rejected(1);
        scene.open(version).send(bytes).expect_close();
        if scene.broker().is_ours() {
            let deadline = Instant::now() + prompt();
            while scene.log_lines_with(guess) == before {
                assert!(Instant::now() < deadline, "no log line that guesses {guess}");
                thread::sleep(Duration::from_millis(5));
            }
        }
    }
    assert_eq!(scene.log_lines_with("secret"), 0, "the log repeats what a stranger said");
    let mut noise = Noise(0x2545_F491_4F6C_DD1D);
    scene.repeat(500, |_| {
        let mut bytes: Vec<u8> = (0..64).map(|_| noise.byte()).collect();
        // Type 1 could be a CONNECT, which is waited for.
        if bytes[0] >> 4 == kind::CONNECT {
            bytes[0] ^= 0x80;
        }
        let mut client = scene.open(version);
        client.send(&bytes);
        // Four bytes of length may still be missing, or not be a length at all; the type alone decides.
        client.expect_close();
    });
    scene.holds();
}

/// A Client at the door of another transport gets an end at once, never a CONNACK, and the log guesses what it spoke.
fn a17_wrong_door() {
    use Transport::{Tcp, Tls, Ws, Wss};
    let scene = Scene::start();
    let others: &[(Transport, &str)] = match Transport::of_this_test() {
        Tcp => &[(Tls, "looks like a TLS handshake"), (Ws, "looks like HTTP"), (Wss, "looks like a TLS handshake")],
        Tls => &[(Tcp, "MQTT without TLS"), (Ws, "HTTP without TLS"), (Wss, "looks like HTTP")],
        Ws => &[(Tcp, "MQTT without WebSocket"), (Tls, "looks like TLS"), (Wss, "looks like TLS")],
        Wss => &[(Tcp, "MQTT without TLS"), (Ws, "HTTP without TLS"), (Tls, "MQTT without WebSocket")],
    };
    for version in Version::BOTH {
        for (other, guess) in others {
            let before = scene.log_lines_with(guess);
            scene.rejected(1);
            let begun = Instant::now();
            let mut client = Client::open_over(*other, scene.address(), version);
            client.send(&connect(version, "bad-client").bytes());
            // An alert of TLS or an answer of HTTP may come, which are no packets.
            while let Event::Packet(packet) = client.event(prompt()) {
                assert_ne!(packet.kind(), kind::CONNACK, "{other:?} was let in");
            }
            client.expect_close();
            assert!(begun.elapsed() <= prompt(), "{other:?} was closed after {:?}", begun.elapsed());
            let deadline = Instant::now() + prompt();
            while scene.broker().is_ours() && scene.log_lines_with(guess) == before {
                assert!(Instant::now() < deadline, "no log line that guesses {guess:?} of {other:?}");
                thread::sleep(Duration::from_millis(5));
            }
        }
    }
    scene.holds();
}

/// The reason for a close can be read, however much more the Client had to say.
fn a18_the_reason_arrives() {
    let scene = Scene::start();
    let malformed = publish(Version::V5, "bad/t", "x").qos(3, 9).bytes();
    let much = [malformed, vec![0; 1024 * 1024]].concat();
    scene.repeat(100, |_| {
        scene.rejected(1);
        let mut client = connected(scene.address(), Version::V5, "bad-client");
        client.send(&much).expect_refusal(&[code::MALFORMED_PACKET]);
    });
    scene.holds();
}

/// G8: whoever is refused very often fills no disk; the log says how much it has left out.
#[test]
fn a_log_says_how_much_it_leaves_out() {
    let scene = Scene::start();
    for _ in 0..500 {
        scene.rejected(1);
        scene.open(Version::V5).send(PINGREQ).expect_close();
    }
    if scene.broker().is_ours() {
        let deadline = Instant::now() + PATIENCE;
        while scene.log_lines_with("suppressed") == 0 {
            assert!(Instant::now() < deadline, "500 refusals, and the log does not say that it left any out");
            // It may wait for the next one to say so.
            scene.open(Version::V5).send(PINGREQ).expect_close();
            thread::sleep(Duration::from_millis(100));
        }
    }
    scene.holds();
}

/// G4 for this section: half-sent packets and lengths that never come true wait without cost.
fn a_quiet_while_half_a_packet_is_there() {
    quiet(|address| {
        let mut waiting = Vec::new();
        for version in Version::BOTH {
            for number in 0..20 {
                let mut client = connected(address, version, format!("quiet-{version:?}-{number}"));
                client.send(&publish(version, "ok/a", vec![0; 4096]).bytes()[..1000 + number]);
                waiting.push(client);
                Client::open(address, version).send(&[0x30; 64]).expect_close_within(PATIENCE);
            }
        }
        waiting
    });
}
