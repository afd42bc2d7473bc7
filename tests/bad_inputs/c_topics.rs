//! C: strings, Topic Names and Topic Filters.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use crate::broker::TOPIC_LEVELS_MAX;
use crate::client::{Client, Event, prompt};
use crate::packet::{
    Connect, PINGREQ, Place, Received, Version, Will, ack_with, code, connect, disconnect_with, kind, property,
    publish, subscribe, subscribe_with, unsubscribe, will,
};
use crate::rules::{Scene, quiet, some_of, unique};

each_version! {
    c01_ill_formed_utf8,
    c02_null_character,
    c03_byte_order_mark,
    c04_control_and_non_characters,
    c05_wildcard_in_a_topic_name,
    c06_empty_topic,
    c07_too_many_levels,
    c08_one_very_long_level,
    c09_forged_dollar_topics,
    c10_wildcards_versus_dollar,
    c11_bad_filters,
    c12_bad_shared_filters,
    c13_slash_edge_cases,
    c14_case_and_look_alikes,
}

each_transport! {
    c_quiet_with_many_filters,
}

/// Packets that have `text` in one string field each, and where that is.
fn with_string(version: Version, text: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let base = connect(version, "bad-client");
    let mut packets = vec![
        ("Client Identifier", Connect { client_id: text.to_vec(), ..base.clone() }.bytes()),
        ("User Name", Connect { user_name: Some(text.to_vec()), ..base.clone() }.bytes()),
        ("Will Topic", Connect { will: Some(will(text, "w")), ..base }.bytes()),
        ("Topic Name", publish(version, [b"bad/", text].concat(), "x").bytes()),
        ("Topic Name with QoS 2", publish(version, [b"bad/", text].concat(), "x").qos(2, 9).bytes()),
        ("Topic Filter", subscribe(version, 9, &[(b"ok/a", 0), (&[b"bad/", text].concat(), 0)])),
        ("Topic Filter to leave", unsubscribe(version, 9, &[b"ok/a", &[b"bad/", text].concat()])),
    ];
    if version.is_v5() {
        let strings = [
            ("User Property key in", property::user(text, "v")),
            ("User Property value in", property::user("k", text)),
        ];
        for place in Place::ALL.into_iter().filter(|place| *place != Place::Auth) {
            packets.extend(strings.iter().map(|(what, list)| (*what, place.packet(list))));
        }
        for place in [Place::Will, Place::Publish] {
            packets.push(("Response Topic in", place.packet(&property::of_string(property::RESPONSE_TOPIC, text))));
            packets.push(("Content Type in", place.packet(&property::of_string(property::CONTENT_TYPE, text))));
        }
        let reason = property::of_string(property::REASON_STRING, text);
        for kind in [kind::PUBACK, kind::PUBREC, kind::PUBREL, kind::PUBCOMP] {
            packets.push(("Reason String in an acknowledgement", ack_with(kind, 9, 0, &reason)));
        }
        packets.push(("Reason String in DISCONNECT", disconnect_with(0, &reason)));
        let method = property::of_string(property::AUTHENTICATION_METHOD, text);
        packets.push(("Authentication Method", Place::Connect.packet(&method)));
    }
    packets
}

/// Bytes that are no UTF-8 end the connection, in whatever string they are.
fn c01_ill_formed_utf8(version: Version) {
    let scene = Scene::start();
    let ill_formed: [&[u8]; 12] = [
        b"\xC0\x80",
        b"a\xC1\xBFb",
        b"\xE0\x80\xAF",
        b"\xF0\x80\x80\xAF",
        b"\xED\xA0\x80",
        b"\xED\xBF\xBF",
        b"\xF4\x90\x80\x80",
        b"\xF8\x88\x80\x80\x80",
        b"a\x80b",
        b"cut\xE2\x82",
        b"cut\xF0\x9F\x98",
        b"\xFF\xFE",
    ];
    for text in ill_formed {
        for (_, packet) in some_of(with_string(version, text), 5) {
            scene.expect_refusal(version, &packet, &[code::MALFORMED_PACKET]);
        }
    }
    scene.holds();
}

/// U+0000 is in no string.
fn c02_null_character(version: Version) {
    let scene = Scene::start();
    scene.repeat(5, |_| {
        for text in [&b"\0"[..], b"a\0", b"\0a", b"a\0b"] {
            for (_, packet) in with_string(version, text) {
                scene.expect_refusal(version, &packet, &[code::MALFORMED_PACKET]);
            }
        }
    });
    scene.holds();
}

/// Subscribes one Client to each filter, publishes each topic once, and says which payloads (topics) each Client got.
#[track_caller]
fn delivered(scene: &Scene, version: Version, filters: &[&[u8]], topics: &[&[u8]]) -> Vec<Vec<Vec<u8>>> {
    let fence = unique("fence");
    let mut receivers: Vec<Client> = filters
        .iter()
        .map(|filter| {
            let mut receiver = scene.connected(version, unique("receiver"));
            assert_eq!(receiver.subscribe(filter, 1), 1, "filter {}", filter.escape_ascii());
            assert!(receiver.subscribe(&fence, 1) <= 1);
            receiver
        })
        .collect();
    let mut sender = scene.connected(version, unique("sender"));
    for topic in topics {
        assert!(sender.publish(topic, topic, 1) <= code::NO_MATCHING_SUBSCRIBERS, "topic {}", topic.escape_ascii());
    }
    sender.publish(&fence, &fence, 1);
    sender.disconnect();
    receivers
        .iter_mut()
        .map(|receiver| {
            let messages = receiver.messages_until(fence.as_bytes());
            messages.into_iter().map(|message| message.payload).collect()
        })
        .collect()
}

/// Sees that each of these topics is one of its own: subscribing to it brings it and none of the others.
#[track_caller]
fn all_distinct(version: Version, topics: &[&str]) {
    let scene = Scene::start();
    let topics: Vec<&[u8]> = topics.iter().map(|topic| topic.as_bytes()).collect();
    scene.repeat(10, |_| {
        for (topic, got) in topics.iter().zip(delivered(&scene, version, &topics, &topics)) {
            assert_eq!(got, [topic.to_vec()], "filter {}", topic.escape_ascii());
        }
    });
    scene.holds();
}

/// U+FEFF is a character like others and is not taken away.
fn c03_byte_order_mark(version: Version) {
    all_distinct(version, &["\u{FEFF}t", "t", "t\u{FEFF}", "\u{FEFF}/t", "\u{FEFF}"]);
}

/// One setting decides about control characters and non-characters, for every packet alike.
fn c04_control_and_non_characters(version: Version) {
    let odd = ['\u{1}', '\n', '\u{1F}', '\u{7F}', '\u{80}', '\u{9F}', '\u{FFFE}', '\u{FFFF}', '\u{FDD0}', '\u{1FFFE}'];
    let lenient = Scene::start();
    for character in odd {
        let topic = format!("ok/a{character}b");
        let mut receiver = lenient.connected(version, "c04-receiver");
        assert_eq!(receiver.subscribe(&topic, 0), 0, "{character:?}");
        let mut sender = lenient.open(version);
        sender.connect(&Connect { will: Some(will(&topic, "will")), ..connect(version, "c04-sender") });
        sender.send(&publish(version, &topic, "live").bytes()).ping();
        assert_eq!(receiver.receive_message().payload, b"live", "{character:?}");
        drop(sender);
        let will = receiver.receive_message();
        assert_eq!((will.payload.as_slice(), will.topic.as_slice()), (&b"will"[..], topic.as_bytes()), "{character:?}");
        let id = receiver.new_packet_id();
        receiver.send(&unsubscribe(version, id, &[topic.as_bytes()]));
        let answer = receiver.receive_kind(kind::UNSUBACK);
        assert!(answer.codes(version).iter().all(|code| *code == 0), "{character:?}: {answer:02x?}");
        receiver.disconnect();
    }
    lenient.holds();

    let strict = Scene::with(|profile| {
        profile.set("mqtt.strict_characters", true);
    });
    for character in odd {
        let topic = format!("bad/a{character}b");
        for packet in [
            publish(version, &topic, "x").bytes(),
            publish(version, &topic, "x").qos(1, 9).bytes(),
            subscribe(version, 9, &[(topic.as_bytes(), 0)]),
            unsubscribe(version, 9, &[topic.as_bytes()]),
            Connect { will: Some(will(&topic, "w")), ..connect(version, "bad-client") }.bytes(),
        ] {
            strict.expect_refusal(version, &packet, &[code::MALFORMED_PACKET]);
        }
    }
    strict.holds();
}

/// Wildcards are for filters.
fn c05_wildcard_in_a_topic_name(version: Version) {
    let scene = Scene::start();
    scene.repeat(20, |_| {
        for topic in ["bad/+", "bad/#", "+", "#", "bad/+/x", "bad/x#", "bad/x+"] {
            let refusals = [code::TOPIC_NAME_INVALID, code::PROTOCOL_ERROR];
            for qos in 0..=2 {
                scene.expect_refusal(version, &publish(version, topic, "x").qos(qos, 9).bytes(), &refusals);
                scene.expect_refusal(version, &publish(version, topic, "x").qos(qos, 9).retained().bytes(), &refusals);
            }
            let connect = Connect { will: Some(will(topic, "w")), ..connect(version, "bad-client") };
            scene.expect_refusal(version, &connect.bytes(), &[code::TOPIC_NAME_INVALID]);
        }
    });
    scene.holds();
}

/// A topic has a character at least.
fn c06_empty_topic(version: Version) {
    let scene = Scene::start();
    scene.repeat(20, |_| {
        for qos in 0..=2 {
            let refusals = [code::PROTOCOL_ERROR, code::TOPIC_NAME_INVALID];
            scene.expect_refusal(version, &publish(version, "", "x").qos(qos, 9).bytes(), &refusals);
        }
        let connect = Connect { will: Some(will("", "w")), ..connect(version, "bad-client") };
        let refusals = [code::TOPIC_NAME_INVALID, code::MALFORMED_PACKET, code::PROTOCOL_ERROR];
        scene.expect_refusal(version, &connect.bytes(), &refusals);
        for packet in [subscribe(version, 9, &[(b"", 0)]), unsubscribe(version, 9, &[b""])] {
            let mut client = scene.connected(version, "bad-client");
            client.send(&packet);
            if version.is_v5() {
                expect_filter_refused(&mut client, &[code::MALFORMED_PACKET, code::PROTOCOL_ERROR]);
            } else {
                client.expect_close();
            }
        }
    });
    scene.holds();
}

/// A filter is refused in its acknowledgement, or the connection is: then MQTT 5 is told one of `disconnects`.
#[track_caller]
fn expect_filter_refused(client: &mut Client, disconnects: &[u8]) {
    let version = client.version();
    match client.event(prompt()) {
        Event::Packet(packet) if matches!(packet.kind(), kind::SUBACK | kind::UNSUBACK) => {
            let refusal = if version.is_v5() { code::TOPIC_FILTER_INVALID } else { 0x80 };
            if packet.kind() == kind::SUBACK || version.is_v5() {
                assert_eq!(packet.codes(version), [refusal], "{packet:02x?}");
            }
            client.ping();
        }
        Event::Packet(packet) if packet.kind() == kind::DISCONNECT && version.is_v5() => {
            assert!(disconnects.contains(&packet.reason()), "{packet:02x?}");
            client.expect_close();
        }
        Event::Closed if !version.is_v5() => {}
        other => panic!("expected a refused filter, got {other:02x?}"),
    }
}

/// More levels than the limit are refused everywhere, and no number of them needs much stack.
fn c07_too_many_levels(version: Version) {
    for stack in [None, Some(256 * 1024)] {
        let scene = Scene::with(|profile| {
            if let Some(bytes) = stack {
                profile.environment("RUST_MIN_STACK", bytes.to_string());
            }
        });
        let just_too_many = format!("bad{}", "/x".repeat(TOPIC_LEVELS_MAX));
        let slashes = "/".repeat(65_535);
        scene.repeat(4, |_| {
            for topic in [&just_too_many, &slashes] {
                for qos in 0..=2 {
                    scene.rejected(1);
                    let mut client = scene.connected(version, "bad-client");
                    client.send(&publish(version, topic, "x").qos(qos, 9).bytes());
                    expect_topic_refused(&mut client, qos);
                }
                for packet in
                    [subscribe(version, 9, &[(topic.as_bytes(), 0)]), unsubscribe(version, 9, &[topic.as_bytes()])]
                {
                    let mut client = scene.connected(version, "bad-client");
                    expect_filter_refused(client.send(&packet), &[]);
                }
                let connect = Connect { will: Some(will(topic, "w")), ..connect(version, "bad-client") };
                scene.expect_refusal(version, &connect.bytes(), &[code::TOPIC_NAME_INVALID]);
                if version.is_v5() {
                    // All properties together have a limit too, which is lower than the longest string.
                    let topic = &topic[..topic.len().min(60_000)];
                    let list = property::of_string(property::RESPONSE_TOPIC, topic);
                    scene.expect_refusal(version, &Place::Publish.packet(&list), &[code::PROTOCOL_ERROR]);
                }
            }
            // As many as are allowed work.
            let many = format!("ok{}", "/x".repeat(TOPIC_LEVELS_MAX - 1));
            let got = delivered(&scene, version, &[many.as_bytes(), b"ok/#"], &[many.as_bytes()]);
            assert_eq!(got, [[many.as_bytes()], [many.as_bytes()]]);
        });
        scene.holds();
    }
}

/// A PUBLISH to a Topic Name that is not acceptable here: refused in its acknowledgement or by the connection's end.
#[track_caller]
fn expect_topic_refused(client: &mut Client, qos: u8) {
    let acknowledged = if qos == 1 { kind::PUBACK } else { kind::PUBREC };
    match client.event(prompt()) {
        Event::Packet(packet) if client.version().is_v5() && packet.kind() == kind::DISCONNECT => {
            assert_eq!(packet.reason(), code::TOPIC_NAME_INVALID);
            client.expect_close();
        }
        Event::Packet(packet) if client.version().is_v5() && qos > 0 && packet.kind() == acknowledged => {
            assert_eq!(packet.reason(), code::TOPIC_NAME_INVALID);
        }
        Event::Closed if !client.version().is_v5() => {}
        other => panic!("expected a refused topic, got {other:02x?}"),
    }
}

/// A level may be as long as a string may be.
fn c08_one_very_long_level(version: Version) {
    let scene = Scene::start();
    let topic = vec![b't'; 65_535];
    scene.repeat(5, |_| {
        let got = delivered(&scene, version, &[&topic, b"#", b"+"], &[&topic]);
        for payloads in got {
            assert!(payloads.contains(&topic), "a filter did not match");
        }
        let mut sender = scene.connected(version, "c08-sender");
        sender.send(&publish(version, &topic, "kept").qos(1, 9).retained().bytes());
        sender.receive_ack(kind::PUBACK, 9);
        for filter in [&topic[..], b"#", b"+"] {
            let mut receiver = scene.connected(version, "c08-receiver");
            receiver.send(&subscribe(version, 7, &[(filter, 0)]));
            let mut kinds = [receiver.receive(), receiver.receive()];
            kinds.sort_by_key(Received::kind);
            assert_eq!((kinds[0].kind(), kinds[1].kind()), (kind::PUBLISH, kind::SUBACK));
            let message = kinds[0].delivery(version);
            assert!(message.topic == topic && message.payload == b"kept" && message.retain);
            receiver.disconnect();
        }
        sender.send(&publish(version, &topic, "").qos(1, 9).retained().bytes());
        sender.receive_ack(kind::PUBACK, 9);
        sender.disconnect();
    });
    scene.holds();
}

/// Topics that begin with `$` belong to the broker; nobody else speaks there.
fn c09_forged_dollar_topics(version: Version) {
    let scene = Scene::start();
    let topics: [&[u8]; 5] = [b"$SYS/x", b"$SYS", b"$CONTROL/a", b"$", b"$x/y"];
    let payload = unique("forged");
    scene.repeat(10, |_| {
        let mut receiver = scene.connected(version, "c09-receiver");
        for topic in topics {
            receiver.subscribe(topic, 0);
        }
        for topic in topics {
            for qos in 0..=2 {
                let mut sender = scene.connected(version, "c09-sender");
                sender.send(&publish(version, topic, &payload).qos(qos, 9).retained().bytes());
                match (version, qos) {
                    (_, 0) => {}
                    (Version::V5, _) => {
                        let acknowledgement = if qos == 1 { kind::PUBACK } else { kind::PUBREC };
                        assert_eq!(sender.receive_ack(acknowledgement, 9), code::NOT_AUTHORIZED);
                    }
                    (Version::V311, _) => {
                        if let Event::Packet(packet) = sender.event(prompt()) {
                            assert!(matches!(packet.kind(), kind::PUBACK | kind::PUBREC), "{packet:02x?}");
                            sender.disconnect();
                        }
                        continue;
                    }
                }
                sender.ping();
                sender.disconnect();
            }
            let mut sender = scene.open(version);
            let will = Will { retain: true, ..will(topic, &payload) };
            sender.send(&Connect { will: Some(will), ..connect(version, "c09-will") }.bytes());
            // Refused at once, or accepted and dropped when its time comes.
            if let Event::Packet(packet) = sender.event(prompt()) {
                let answer = packet.connack(version);
                assert!([0, 5, code::NOT_AUTHORIZED, code::TOPIC_NAME_INVALID].contains(&answer.code), "{answer:02x?}");
            }
        }
        let mut fence = scene.connected(version, "c09-fence");
        receiver.subscribe("ok/fence", 0);
        fence.send(&publish(version, "ok/fence", "fence").bytes()).ping();
        for message in receiver.messages_until(b"fence") {
            assert_ne!(message.payload, payload.as_bytes(), "delivered on {}", message.topic.escape_ascii());
        }
        // Nothing of it is kept either.
        let mut late = scene.connected(version, "c09-late");
        let filters: Vec<_> = topics.iter().map(|topic| (*topic, 0)).collect();
        late.send(&subscribe(version, 9, &filters));
        for packet in late.settle() {
            assert!(packet.kind() == kind::SUBACK || packet.delivery(version).payload != payload.as_bytes());
        }
    });
    scene.holds();
}

/// A filter that begins with a wildcard matches no topic that begins with `$`.
fn c10_wildcards_versus_dollar(version: Version) {
    let scene = Scene::with(|profile| {
        profile.set("sys.interval", "200ms");
    });
    let filters: [&[u8]; 6] = [b"#", b"+/#", b"+/broker/#", b"+/broker/+", b"+/x", b"+/broker/uptime"];
    let shared: [&[u8]; 3] = [b"$share/c10/#", b"$share/c10/+/#", b"$share/c10/+/x"];
    let mut receivers = Vec::new();
    for filter in filters.iter().chain(if version.is_v5() { &shared[..] } else { &[] }) {
        let mut receiver = scene.connected(version, unique("c10"));
        assert_eq!(receiver.subscribe(filter, 0), 0);
        receivers.push(receiver);
    }
    // A Session whose messages wait while its Client is away.
    let mut away = connect(version, unique("c10-away"));
    away.clean = false;
    away.properties = property::of_u32(property::SESSION_EXPIRY_INTERVAL, 60);
    let mut client = scene.open(version);
    client.connect(&away);
    for filter in filters {
        assert_eq!(client.subscribe(filter, 1), 1);
    }
    client.disconnect();
    // The broker speaks under $SYS while all these listen, at least twice.
    let mut witness = scene.connected(version, unique("c10-witness"));
    let mut spoken = HashSet::new();
    let deadline = Instant::now() + Duration::from_secs(4);
    if witness.subscribe("$SYS/#", 0) == 0 {
        loop {
            let message = witness.receive_message();
            assert!(message.topic.starts_with(b"$SYS/"));
            if !message.retain && !spoken.insert(message.topic) {
                break;
            }
            assert!(Instant::now() < deadline, "the broker is silent about itself");
        }
    } else {
        // Nobody may listen: then time alone can tell.
        while Instant::now() < deadline {
            witness.event(deadline - Instant::now());
        }
    }
    let mut again = scene.open(version);
    let answer = again.connect(&away);
    assert!(answer.session_present);
    again.subscribe("ok/fence", 1);
    again.publish_and_await_own("ok/fence", "away");
    for mut receiver in receivers {
        for packet in receiver.settle() {
            let message = packet.delivery(version);
            assert!(!message.topic.starts_with(b"$"), "{}", message.topic.escape_ascii());
        }
        // The fence of the one who was away may still be on its way to some of them: no DISCONNECT, just the end.
        drop(receiver);
    }
    drop((again, witness));
    let mut end = scene.open(version);
    end.connect(&Connect { clean: true, properties: Vec::new(), ..away });
    end.disconnect();
    scene.holds();
}

impl Client {
    /// Publishes to itself and sees that nothing on a `$` topic comes before.
    #[track_caller]
    fn publish_and_await_own(&mut self, topic: &str, payload: &str) {
        let version = self.version();
        self.send(&publish(version, topic, payload).bytes());
        for message in self.messages_until(payload.as_bytes()) {
            let innocent = message.topic.starts_with(crate::rules::INNOCENT_TOPICS.as_bytes());
            assert!(innocent || !message.topic.starts_with(b"$"), "{}", message.topic.escape_ascii());
        }
    }
}

/// Filters that break the rules of filters.
fn c11_bad_filters(version: Version) {
    let scene = Scene::start();
    scene.repeat(20, |_| {
        for filter in
            ["bad/#/b", "bad#", "+bad", "bad+/b", "##", "#/", "bad/##", "bad/+#", "bad/#+", "#/bad", "++", "bad/b+"]
        {
            let mut client = scene.connected(version, "bad-client");
            expect_filter_refused(
                client.send(&subscribe(version, 9, &[(filter.as_bytes(), 0)])),
                &[code::MALFORMED_PACKET],
            );
        }
    });
    // Among good ones, only the bad one is refused.
    if version.is_v5() {
        let mut client = scene.connected(version, "c11");
        client.send(&subscribe(version, 9, &[(b"ok/a", 0), (b"bad#", 0), (b"ok/b", 2)]));
        match client.receive() {
            answer if answer.kind() == kind::SUBACK => {
                assert_eq!(answer.codes(version), [0, code::TOPIC_FILTER_INVALID, 2]);
            }
            answer => assert_eq!(answer.reason(), code::MALFORMED_PACKET, "{answer:02x?}"),
        }
    }
    scene.holds();
}

/// Shared filters without a group, without a filter, or with wildcards in the group's name.
fn c12_bad_shared_filters(version: Version) {
    let scene = Scene::start();
    let disconnects = [code::MALFORMED_PACKET, code::PROTOCOL_ERROR];
    let filters = [
        "$share",
        "$share/",
        "$share/g",
        "$share/g/",
        "$share//t",
        "$share/+/t",
        "$share/g#/t",
        "$share/g/t#",
        "$share/#",
    ];
    scene.repeat(20, |_| {
        for filter in filters {
            let mut client = scene.connected(version, "bad-client");
            let packet = subscribe(version, 9, &[(filter.as_bytes(), 0)]);
            expect_filter_refused(client.send(&packet), &disconnects);
        }
    });
    // Nothing of it became a subscription of any kind.
    let mut client = scene.connected(version, "c12");
    for filter in filters {
        client.send(&subscribe(version, 9, &[(filter.as_bytes(), 0)]));
        client.send(PINGREQ);
        loop {
            match client.event(prompt()) {
                Event::Packet(packet) if packet.kind() != kind::PINGRESP => {}
                Event::Packet(_) => break,
                _ => {
                    client = scene.connected(version, "c12");
                    break;
                }
            }
        }
    }
    let mut sender = scene.connected(version, "c12-sender");
    for topic in ["t", "g", "g/t", "share/g/t"] {
        sender.publish(topic, "x", 1);
    }
    assert_eq!(client.settle(), [], "a refused filter matched");
    drop((client, sender));
    scene.holds();
}

/// Slashes make levels, empty ones too.
fn c13_slash_edge_cases(version: Version) {
    let scene = Scene::start();
    let topics: [&[u8]; 7] = [b"/", b"//", b"a/", b"/a", b"a", b"a/b", b"a//b"];
    let expected: [(&[u8], &[&[u8]]); 12] = [
        (b"+", &[b"a"]),
        (b"+/+", &[b"/", b"a/", b"/a", b"a/b"]),
        (b"/+", &[b"/", b"/a"]),
        (b"+/", &[b"/", b"a/"]),
        (b"a/#", &[b"a/", b"a", b"a/b", b"a//b"]),
        (b"a/+", &[b"a/", b"a/b"]),
        (b"/#", &[b"/", b"//", b"/a"]),
        (b"/", &[b"/"]),
        (b"//", &[b"//"]),
        (b"+/+/+", &[b"//", b"a//b"]),
        (b"a/", &[b"a/"]),
        (b"#", &topics),
    ];
    let filters: Vec<_> = expected.iter().map(|(filter, _)| *filter).collect();
    scene.repeat(10, |_| {
        for ((filter, expected), got) in expected.iter().zip(delivered(&scene, version, &filters, &topics)) {
            // The fence has a name of one level without a slash, which `+` and `#` match as well.
            let got: Vec<_> = got.into_iter().filter(|payload| !payload.starts_with(b"fence")).collect();
            assert_eq!(got, *expected, "filter {}", filter.escape_ascii());
        }
    });
    scene.holds();
}

/// Topics are bytes: nothing is folded and nothing is composed.
fn c14_case_and_look_alikes(version: Version) {
    all_distinct(version, &["A", "a", "\u{E9}", "e\u{301}", "\u{FB01}", "fi", "\u{212A}", "K", "k", "a ", " a"]);
}

/// G4 for this section: Clients with refused and accepted filters of every kind cost nothing while nobody publishes.
fn c_quiet_with_many_filters() {
    quiet(|address| {
        let mut idle = Vec::new();
        for version in Version::BOTH {
            for number in 0..20 {
                let mut client = crate::client::connected(address, version, format!("quiet-{version:?}-{number}"));
                for filter in ["#", "+/+", "a/#", &"x/".repeat(100), "bad#"] {
                    let list = if version.is_v5() { property::user("k", "v") } else { Vec::new() };
                    client.send(&subscribe_with(version, 9, &list, &[(filter.as_bytes(), 1)]));
                    client.send(&publish(version, "$SYS/forged", "x").qos(1, 9).bytes());
                }
                idle.push(client);
            }
        }
        idle
    });
}
