//! D: properties, which only MQTT 5 has. Rows with two tests show what an MQTT 3.1.1 Client sees of them.

use std::thread;
use std::time::Duration;

use crate::broker::{SESSION_EXPIRY_MAX_S, TOPIC_ALIAS_MAXIMUM, TOPIC_LEVELS_MAX};
use crate::client::{Client, Event, PATIENCE, connected, prompt};
use crate::packet::{
    ConnAck, Connect, Delivery, PINGREQ, Place, Version, ack, ack_with, code, connect, disconnect_with, kind, property,
    publish, subscribe_with, variable, will,
};
use crate::rules::{SLOWNESS, Scene, load, quiet, some_of, unique};

const V5: Version = Version::V5;
const MIB: u64 = 1024 * 1024;

each_version! {
    d06_properties_times_fan_out: alone,
    d09_alias_leaks_to_receivers,
    d13_expiry_while_queued,
    d13_expired_messages_free_their_place,
    d13_expiry_while_the_send_window_is_full,
}

only_v5! {
    d01_unknown_identifiers,
    d02_property_in_the_wrong_packet,
    d03_duplicates,
    d04_lying_property_length,
    d05_user_property_flood: alone,
    d07_alias_abuse,
    d08_alias_churn: alone,
    d10_subscription_identifier,
    d11_response_topic,
    d12_payload_format,
    d14_disconnect_raises_expiry,
    d15_tiny_receivers,
    d16_properties_in_acks: alone,
    d17_forged_broker_properties,
}

each_transport! {
    d_quiet_while_much_is_about_to_expire,
}

/// Identifiers that the standard does not define.
fn d01_unknown_identifiers() {
    let scene = Scene::start();
    let known: Vec<u8> = property::all().into_iter().map(|(id, _)| id).collect();
    for place in Place::ALL {
        for id in some_of((0..128).filter(|id| !known.contains(id)), 12) {
            scene.expect_refusal(V5, &place.packet(&[id, 0, 0, 0, 0]), &refusals_at(place));
        }
        for id in [&[0x80, 0x01][..], &[0x81, 0x00], &[0xA6, 0x00], &[0xFF, 0x7F], &[0x80, 0x80, 0x80, 0x80, 0x01]] {
            scene.expect_refusal(V5, &place.packet(&[id, &[0, 0, 0, 0]].concat()), &refusals_at(place));
        }
    }
    scene.holds();
}

/// A malformed property, wherever it is, is a malformed packet; AUTH is out of place by itself, whatever it holds.
fn refusals_at(place: Place) -> Vec<u8> {
    if place == Place::Auth { vec![code::MALFORMED_PACKET, code::PROTOCOL_ERROR] } else { vec![code::MALFORMED_PACKET] }
}

/// Every property in every packet that must not have it.
fn d02_property_in_the_wrong_packet() {
    let mut scene = Scene::start();
    let refusals = [code::MALFORMED_PACKET, code::PROTOCOL_ERROR];
    for place in Place::ALL {
        for (id, list) in property::all() {
            if id == property::SERVER_REFERENCE && place == Place::Disconnect {
                continue;
            }
            if !place.allows(id) {
                scene.expect_refusal(V5, &place.packet(&list), &refusals);
            } else if !matches!(place, Place::Connect | Place::Will | Place::Disconnect | Place::Auth) {
                let mut client = scene.connected(V5, "d02");
                client.send(&place.packet(&list));
                client.settle();
            }
        }
    }
    // Those PUBLISH that were allowed have been seen.
    scene.observed();
    scene.holds();
}

/// Every property that may be there once, twice.
fn d03_duplicates() {
    let scene = Scene::start();
    for place in Place::ALL {
        for (id, list) in property::all() {
            if !place.allows(id) || id == property::USER_PROPERTY {
                continue;
            }
            // The second may have the same value or another.
            let mut other = list.clone();
            let last = other.last_mut().expect("a property has a value");
            *last = if *last == b'x' { b'y' } else { 0 };
            for twice in [list.repeat(2), [list.clone(), other, property::user("k", "v")].concat()] {
                scene.expect_refusal(V5, &place.packet(&twice), &[code::PROTOCOL_ERROR]);
            }
        }
    }
    scene.holds();
}

/// A property length that promises more than there is, or is no length at all, or ends inside a value.
fn d04_lying_property_length() {
    let scene = Scene::start();
    let user = property::user("key", "value");
    let lies: Vec<Vec<u8>> = vec![
        [variable(200), user.clone()].concat(),
        [variable(0x0FFF_FFFF), user.clone()].concat(),
        [&[0x80, 0x80, 0x80, 0x80, 0x01], user.as_slice()].concat(),
        [&[0xFF, 0xFF, 0xFF, 0xFF, 0x7F], user.as_slice()].concat(),
        [&[0x80 | user.len() as u8, 0x00], user.as_slice()].concat(),
        [&[0x80 | user.len() as u8, 0x80, 0x00], user.as_slice()].concat(),
        vec![0x80],
        vec![0xFF, 0xFF],
        [&[1], user.as_slice()].concat(),
        [&[2], user.as_slice()].concat(),
        [&[user.len() as u8 - 1], user.as_slice()].concat(),
    ];
    scene.repeat(5, |_| {
        for place in Place::ALL {
            for lie in &lies {
                let whole = place.packet_raw(lie);
                scene.expect_refusal(V5, &whole, &refusals_at(place));
            }
        }
    });
    scene.holds();
}

/// Hundreds of thousands of empty User Properties in one packet are refused, and reading them costs no more than their bytes.
fn d05_user_property_flood() {
    let scene = Scene::under_load();
    let refusals =
        [code::QUOTA_EXCEEDED, code::MALFORMED_PACKET, code::IMPLEMENTATION_SPECIFIC, code::PACKET_TOO_LARGE];
    let flood = property::user("", "").repeat(200_000);
    let packet = Place::Publish.packet(&flood);
    let few = Place::Publish.packet(&property::user("", "").repeat(1000));
    let count = load(20, 1000);
    let send = |packet: &[u8]| {
        scene.cpu_of(|| {
            for _ in 0..count {
                scene.expect_refusal(V5, packet, &refusals);
            }
        }) / count as u32
    };
    let (for_few, for_many) = (send(&few), send(&packet));
    let allowed = Duration::from_millis(20) * SLOWNESS.min(5);
    assert!(for_many <= allowed, "{for_many:?} on a processor for one packet, {for_few:?} for one of 5 KB");
    for place in Place::ALL {
        if place != Place::Auth {
            scene.expect_refusal(V5, &place.packet(&property::user("", "").repeat(60_000)), &refusals);
        }
    }
    scene.holds();
}

/// What a message carries is held once, however many get it; MQTT 3.1.1 gets the message without.
fn d06_properties_times_fan_out(version: Version) {
    let mut scene = Scene::under_load();
    let count = load(200, 1000);
    let mut receivers: Vec<Client> = (0..count)
        .map(|number| {
            let mut receiver = scene.connected(version, format!("d06-{number}"));
            assert_eq!(receiver.subscribe("ok/d06", 0), 0);
            receiver
        })
        .collect();
    scene.set_baseline();
    let list = property::user("k".repeat(500), "v".repeat(495)).repeat(60);
    let mut sender = scene.connected(V5, "d06-sender");
    for round in 0..3_u8 {
        sender.send(&publish(V5, "ok/d06", [round]).with(&list).bytes());
        for receiver in &mut receivers {
            let message = receiver.receive_message();
            assert_eq!(message.payload, [round]);
            assert_eq!(message.properties.len(), if version.is_v5() { 60 } else { 0 });
        }
    }
    let grown = scene.growth();
    assert!(grown <= 16 * MIB, "{grown} bytes to carry 60 KB to {count}");
    drop((receivers, sender));
    // The Clients were part of the baseline: what is left must be less.
    scene.holds();
}

/// Topic Aliases that are not there, not allowed, or of another connection.
fn d07_alias_abuse() {
    let scene = Scene::start();
    let alias = |number| property::of_u16(property::TOPIC_ALIAS, number);
    scene.repeat(20, |_| {
        for number in [0, TOPIC_ALIAS_MAXIMUM + 1, u16::MAX] {
            for topic in ["bad/a", ""] {
                let packet = publish(V5, topic, "x").with(alias(number)).bytes();
                scene.expect_refusal(V5, &packet, &[code::TOPIC_ALIAS_INVALID]);
            }
        }
        for number in 1..=TOPIC_ALIAS_MAXIMUM {
            let packet = publish(V5, "", "x").with(alias(number)).qos(1, 9).bytes();
            scene.expect_refusal(V5, &packet, &[code::PROTOCOL_ERROR]);
        }
        // Known on one connection, unknown on the next, though the Session is the same.
        let session = Connect {
            clean: false,
            properties: property::of_u32(property::SESSION_EXPIRY_INTERVAL, 60),
            ..connect(V5, "d07")
        };
        let mut client = scene.open(V5);
        let answer = client.connect(&session);
        assert_eq!(answer.property(property::TOPIC_ALIAS_MAXIMUM), Some(&TOPIC_ALIAS_MAXIMUM.to_be_bytes()[..]));
        client.send(&publish(V5, "ok/a", "x").with(alias(3)).bytes());
        client.send(&publish(V5, "", "x").with(alias(3)).bytes()).ping();
        client.disconnect();
        let mut client = scene.open(V5);
        client.connect(&session);
        client.send(&publish(V5, "", "x").with(alias(3)).bytes()).expect_refusal(&[code::PROTOCOL_ERROR]);
        scene.rejected(1);
    });
    scene.connected(V5, "d07").disconnect();
    scene.holds();
}

/// An alias that is bound again forgets its topic: sixteen are held, not every one there has been.
fn d08_alias_churn() {
    let scene = Scene::under_load();
    let mut client = scene.connected(V5, "d08");
    let rounds = load(1000, 50_000);
    scene.repeat(4, |quarter| {
        for number in 0..rounds / 4 {
            let topic = format!("ok/{quarter}/{number}/{}", "t".repeat(60_000));
            let alias = (number % usize::from(TOPIC_ALIAS_MAXIMUM)) as u16 + 1;
            client.send(&publish(V5, topic, "x").with(property::of_u16(property::TOPIC_ALIAS, alias)).bytes());
        }
        client.ping();
    });
    client.disconnect();
    scene.holds();
}

/// Aliases are between a Client and the broker. A receiver sees the broker's own, if it allows any.
fn d09_alias_leaks_to_receivers(version: Version) {
    let scene = Scene::start();
    scene.repeat(10, |_| {
        let maxima: &[u16] = if version.is_v5() { &[0, 5] } else { &[0] };
        let mut receivers: Vec<_> = maxima
            .iter()
            .map(|maximum| {
                let mut receiver = scene.open(version);
                let properties = property::of_u16(property::TOPIC_ALIAS_MAXIMUM, *maximum);
                receiver.connect(&Connect { properties, ..connect(version, format!("d09-{maximum}")) });
                receiver.subscribe("ok/d09/+", 0);
                receiver
            })
            .collect();
        let mut sender = scene.connected(V5, "d09-sender");
        for round in 0..3 {
            for number in 1..=10_u16 {
                let topic = if round == 0 { format!("ok/d09/{number}") } else { String::new() };
                let alias = property::of_u16(property::TOPIC_ALIAS, number);
                sender.send(&publish(V5, topic, number.to_string()).with(alias).bytes());
            }
        }
        sender.ping();
        for (receiver, maximum) in receivers.iter_mut().zip(maxima) {
            let mut aliases = vec![None; usize::from(*maximum) + 1];
            for _ in 0..30 {
                let message = receiver.receive_message();
                let mut topic = message.topic.clone();
                if let Some(alias) = message.property(property::TOPIC_ALIAS) {
                    let alias = usize::from(u16::from_be_bytes([alias[0], alias[1]]));
                    assert!((1..=usize::from(*maximum)).contains(&alias), "alias {alias} where {maximum} are allowed");
                    if topic.is_empty() {
                        topic = aliases[alias].clone().expect("an alias is bound before it is used");
                    }
                    aliases[alias] = Some(topic.clone());
                }
                assert_eq!(topic, [b"ok/d09/", message.payload.as_slice()].concat());
            }
        }
    });
    scene.holds();
}

/// Subscription Identifiers are from 1 to 268,435,455, once in a SUBSCRIBE, and never from a Client in a PUBLISH.
fn d10_subscription_identifier() {
    let scene = Scene::start();
    let identifier = |value| [vec![property::SUBSCRIPTION_IDENTIFIER], variable(value)].concat();
    scene.repeat(20, |_| {
        let protocol_error = [code::PROTOCOL_ERROR];
        scene.expect_refusal(V5, &Place::Publish.packet(&identifier(1)), &protocol_error);
        scene.expect_refusal(V5, &Place::Subscribe.packet(&identifier(0)), &protocol_error);
        let twice = [identifier(1), identifier(2)].concat();
        scene.expect_refusal(V5, &Place::Subscribe.packet(&twice), &protocol_error);
        let refusals = [code::MALFORMED_PACKET, code::PROTOCOL_ERROR];
        scene.expect_refusal(V5, &Place::Subscribe.packet(&identifier(268_435_456)), &refusals);
        let mut client = scene.connected(V5, "d10");
        client.send(&subscribe_with(V5, 9, &identifier(268_435_455), &[(b"ok/d10", 0)]));
        assert_eq!(client.receive_suback(9), 0);
        client.send(&publish(V5, "ok/d10", "x").bytes());
        let message = client.receive_message();
        let expected = 268_435_455_u32.to_be_bytes();
        assert_eq!(message.property(property::SUBSCRIPTION_IDENTIFIER), Some(&expected[..]));
        client.disconnect();
    });
    scene.holds();
}

/// A Response Topic is a Topic Name.
fn d11_response_topic() {
    let scene = Scene::start();
    let refusals = [code::PROTOCOL_ERROR, code::MALFORMED_PACKET, code::TOPIC_NAME_INVALID];
    let too_deep = format!("r{}", "/x".repeat(TOPIC_LEVELS_MAX));
    scene.repeat(20, |_| {
        for topic in ["", "#", "a/+", "a/#", "+/a", &too_deep] {
            let list = property::of_string(property::RESPONSE_TOPIC, topic);
            scene.expect_refusal(V5, &Place::Publish.packet(&list), &refusals);
            scene.expect_refusal(V5, &Place::Will.packet(&list), &refusals);
        }
    });
    scene.holds();
}

/// The Payload Format Indicator is 0 or 1; whether a payload keeps what it promises is checked where a setting says so.
fn d12_payload_format() {
    let indicator = |value| property::of_byte(property::PAYLOAD_FORMAT_INDICATOR, value);
    for validated in [false, true] {
        let scene = Scene::with(|profile| {
            profile.set("mqtt.validate_utf8_payload", validated);
        });
        let refusals = [code::PROTOCOL_ERROR, code::MALFORMED_PACKET];
        let mut receiver = scene.connected(V5, "d12-receiver");
        receiver.subscribe("ok/d12", 0);
        scene.repeat(20, |_| {
            for value in [2, 255] {
                scene.expect_refusal(V5, &Place::Publish.packet(&indicator(value)), &refusals);
                scene.expect_refusal(V5, &Place::Will.packet(&indicator(value)), &refusals);
            }
            for payload in [&b"\xFF\xFE"[..], b"\xC0\x80", b"cut\xE2\x82"] {
                for qos in 1..=2 {
                    let mut sender = scene.connected(V5, "d12-sender");
                    sender.send(&publish(V5, "ok/d12", payload).with(indicator(1)).qos(qos, 9).bytes());
                    let answer = sender.finish_publish(qos, 9);
                    if validated {
                        assert_eq!(answer, code::PAYLOAD_FORMAT_INVALID);
                    } else {
                        assert!(answer < 0x80);
                        assert_eq!(receiver.receive_message().payload, payload);
                    }
                }
            }
            let mut sender = scene.connected(V5, "d12-sender");
            sender.send(&publish(V5, "ok/d12", "fine \u{1F600}").with(indicator(1)).bytes());
            assert_eq!(receiver.receive_message().payload, "fine \u{1F600}".as_bytes());
        });
        drop(receiver);
        scene.holds();
    }
}

fn expiring_in(seconds: u32) -> Vec<u8> {
    property::of_u32(property::MESSAGE_EXPIRY_INTERVAL, seconds)
}

/// A Session that stays while its Client is away.
fn lasting(version: Version, client_id: &str) -> Connect {
    let properties = property::of_u32(property::SESSION_EXPIRY_INTERVAL, 60);
    Connect { clean: false, properties, ..connect(version, client_id) }
}

/// Connects again with a clean start and leaves, so that nothing of the Session stays.
#[track_caller]
fn forget(scene: &Scene, version: Version, client_id: &str) {
    scene.connected(version, client_id).disconnect();
}

/// Lets this much time pass, which is what the row is about.
fn let_pass(duration: Duration) {
    thread::sleep(duration);
}

/// What expired while its receiver was away is not sent; what is sent says how long it has left.
fn d13_expiry_while_queued(version: Version) {
    let scene = Scene::start();
    let ids: Vec<String> = (0..10).map(|number| format!("d13-{number}")).collect();
    for id in &ids {
        let mut receiver = scene.open(version);
        receiver.connect(&lasting(version, id));
        assert_eq!(receiver.subscribe("ok/d13", 1), 1);
        receiver.disconnect();
    }
    let mut sender = scene.connected(V5, "d13-sender");
    for (number, list) in [expiring_in(0), expiring_in(1), expiring_in(u32::MAX), Vec::new()].iter().enumerate() {
        sender.send(&publish(V5, "ok/d13", number.to_string()).with(list).qos(1, 9).bytes());
        assert!(sender.receive_ack(kind::PUBACK, 9) < 0x80);
    }
    let_pass(Duration::from_millis(1100));
    sender.publish("ok/d13", "end", 1);
    for id in &ids {
        let mut receiver = scene.open(version);
        assert!(receiver.connect(&lasting(version, id)).session_present);
        let messages = receiver.messages_until(b"end");
        let payloads: Vec<_> = messages.iter().map(|message| message.payload.as_slice()).collect();
        assert_eq!(payloads, [b"2", b"3"]);
        if version.is_v5() {
            let left = messages[0].property(property::MESSAGE_EXPIRY_INTERVAL).expect("it still expires");
            let left = u32::from_be_bytes([left[0], left[1], left[2], left[3]]);
            assert!(left < u32::MAX && left > u32::MAX - 10, "{left} s are left of {}", u32::MAX);
            assert_eq!(messages[1].property(property::MESSAGE_EXPIRY_INTERVAL), None);
        }
        receiver.disconnect();
        forget(&scene, version, id);
    }
    sender.disconnect();
    scene.holds();
}

/// An expired message does not take the place of one that has not expired.
fn d13_expired_messages_free_their_place(version: Version) {
    let scene = Scene::with(|profile| {
        profile.set("limits.queue_messages_max", 10);
    });
    let mut receiver = scene.open(version);
    receiver.connect(&lasting(version, "d13"));
    assert_eq!(receiver.subscribe("ok/d13", 1), 1);
    receiver.disconnect();
    let mut sender = scene.connected(V5, "d13-sender");
    for _ in 0..10 {
        sender.send(&publish(V5, "ok/d13", "old").with(expiring_in(1)).qos(1, 9).bytes());
        assert!(sender.receive_ack(kind::PUBACK, 9) < 0x80);
    }
    let_pass(Duration::from_millis(1100));
    for number in 0..10_u8 {
        assert!(sender.publish("ok/d13", [number], 1) < 0x80);
    }
    sender.disconnect();
    let mut receiver = scene.open(version);
    receiver.connect(&lasting(version, "d13"));
    for number in 0..10_u8 {
        let message = receiver.receive_message();
        receiver.acknowledge(&message);
        assert_eq!(message.payload, [number]);
    }
    receiver.disconnect();
    forget(&scene, version, "d13");
    scene.holds();
}

/// A message that expires while the receiver's window is full is not sent when there is room again, and frees no more
/// room than there is.
fn d13_expiry_while_the_send_window_is_full(version: Version) {
    let scene = Scene::with(|profile| {
        profile.set("limits.in_flight_max", 1);
    });
    let mut receiver = scene.open(version);
    let properties = property::of_u16(property::RECEIVE_MAXIMUM, 1);
    receiver.connect(&Connect { properties, ..connect(version, "d13-blocked") });
    receiver.subscribe("ok/d13", 1);
    let mut sender = scene.connected(V5, "d13-sender");
    sender.publish("ok/d13", "first", 1);
    for _ in 0..10 {
        sender.send(&publish(V5, "ok/d13", "late").with(expiring_in(1)).qos(1, 9).bytes());
        assert!(sender.receive_ack(kind::PUBACK, 9) < 0x80);
    }
    sender.publish("ok/d13", "second", 1);
    sender.publish("ok/d13", "third", 1);
    let first = receiver.receive_message();
    assert_eq!(first.payload, b"first");
    let_pass(Duration::from_millis(1100));
    receiver.ping();
    receiver.acknowledge(&first);
    let second = receiver.receive_message();
    assert_eq!(second.payload, b"second");
    receiver.ping();
    receiver.acknowledge(&second);
    assert_eq!(receiver.receive_message().payload, b"third");
    drop((receiver, sender));
    scene.holds();
}

/// A Session that was to end with its connection cannot be prolonged by DISCONNECT, and none beyond the broker's cap.
fn d14_disconnect_raises_expiry() {
    let scene = Scene::start();
    let expiry = |seconds| property::of_u32(property::SESSION_EXPIRY_INTERVAL, seconds);
    scene.repeat(10, |_| {
        scene.expect_refusal(V5, &disconnect_with(0, &expiry(10)), &[code::PROTOCOL_ERROR]);
        let told = |answer: &ConnAck| answer.property(property::SESSION_EXPIRY_INTERVAL).map(<[u8]>::to_vec);
        let mut client = scene.open(V5);
        let answer = client.connect(&Connect { properties: expiry(u32::MAX), ..connect(V5, "d14") });
        assert_eq!(told(&answer), Some(SESSION_EXPIRY_MAX_S.to_be_bytes().to_vec()));
        client.disconnect();
        // Above the cap in DISCONNECT it is lowered, which nobody can be told any more: the Session is there.
        let mut client = scene.open(V5);
        client.connect(&Connect { properties: expiry(10), ..connect(V5, "d14") });
        client.send(&disconnect_with(0, &expiry(u32::MAX))).expect_close();
        let mut client = scene.open(V5);
        assert!(client.connect(&Connect { clean: false, ..connect(V5, "d14") }).session_present);
        client.disconnect();
        // And lowered to nothing it is gone.
        let mut client = scene.open(V5);
        client.connect(&Connect { properties: expiry(10), ..connect(V5, "d14") });
        client.send(&disconnect_with(0, &expiry(0))).expect_close();
        let mut client = scene.open(V5);
        assert!(!client.connect(&Connect { clean: false, ..connect(V5, "d14") }).session_present);
        client.disconnect();
    });
    scene.holds();
}

/// A Client that takes only tiny packets gets the tiny ones; others do not suffer, and its own acknowledgements stay tiny.
fn d15_tiny_receivers() {
    let scene = Scene::start();
    let tiny = || Connect {
        properties: [
            property::of_u32(property::MAXIMUM_PACKET_SIZE, 20),
            property::of_u16(property::RECEIVE_MAXIMUM, 2),
        ]
        .concat(),
        ..connect(V5, unique("d15-tiny"))
    };
    let large = "x".repeat(100);
    scene.repeat(10, |_| {
        let mut receiver = scene.open(V5);
        // Even CONNACK has to fit.
        let connect = tiny();
        receiver.send(&connect.bytes());
        let answer = receiver.receive();
        assert!(answer.body.len() + 2 <= 20, "a CONNACK of {} bytes", answer.body.len() + 2);
        assert_eq!(answer.connack(V5).code, 0);
        receiver.subscribe("ok/d/#", 2);
        let mut other = scene.connected(V5, "d15-other");
        other.subscribe("ok/d/#", 2);
        let mut sender = scene.connected(V5, "d15-sender");
        for qos in 0..=2 {
            // More large ones than fit the window: if one of them held a place in it, nothing would follow.
            for _ in 0..5 {
                assert!(sender.publish("ok/d/a", &large, qos) < 0x80);
                let message = other.receive_message();
                assert_eq!(message.payload, large.as_bytes());
                other.finish_delivery(&message);
            }
            assert!(sender.publish("ok/d/a", "s", qos) < 0x80);
            let small = receiver.receive_message();
            assert_eq!((small.payload.as_slice(), small.qos), (&b"s"[..], qos));
            receiver.finish_delivery(&small);
            let small = other.receive_message();
            other.finish_delivery(&small);
        }
        // Retained and too large: left out.
        sender.send(&publish(V5, "ok/kept", &large).retained().bytes()).ping();
        receiver.send(&subscribe_with(V5, 9, &[], &[(b"ok/kept", 1)]));
        let packets = receiver.settle();
        assert_eq!(packets.len(), 1, "only the SUBACK fits: {packets:02x?}");
        sender.send(&publish(V5, "ok/kept", "").retained().bytes()).ping();
        assert_eq!(receiver.receive_message().payload, b"");
        // What it publishes itself is acknowledged without words, though refused.
        receiver.send(&publish(V5, "$x", "x").qos(1, 9).bytes());
        let answer = receiver.receive_kind(kind::PUBACK);
        assert!(answer.body.len() + 2 <= 20 && answer.properties().is_empty(), "{answer:02x?}");
        // A share goes to the member that can take it, each time.
        let mut member = scene.open(V5);
        member.connect(&tiny());
        assert_eq!(member.subscribe("$share/d15/ok/share", 1), 1);
        assert_eq!(other.subscribe("$share/d15/ok/share", 1), 1);
        for _ in 0..6 {
            assert!(sender.publish("ok/share", &large, 1) < 0x80);
            let message = other.receive_message();
            assert_eq!(message.payload, large.as_bytes());
            other.finish_delivery(&message);
        }
        member.ping();
    });
    scene.holds();
}

/// Properties of acknowledgements are read and forgotten.
fn d16_properties_in_acks() {
    let scene = Scene::under_load();
    let mut client = scene.connected(V5, "d16");
    let list = [
        property::of_string(property::REASON_STRING, "r".repeat(1000)),
        property::user("k".repeat(500), "v".repeat(495)).repeat(59),
    ]
    .concat();
    let count = load(500, 10_000);
    scene.repeat(4, |_| {
        for _ in 0..count / 4 {
            client.send(&ack_with(kind::PUBACK, 9, 0, &list));
            client.send(&ack_with(kind::PUBREC, 9, 0, &list));
            assert_eq!(client.receive_ack(kind::PUBREL, 9), code::PACKET_IDENTIFIER_NOT_FOUND);
        }
        client.ping();
    });
    client.disconnect();
    scene.holds();
}

/// Names that the broker itself gives to User Properties cannot be used to lie; all others pass in their order.
fn d17_forged_broker_properties() {
    let scene = Scene::start();
    let mut receiver = scene.connected(V5, "d17-receiver");
    receiver.subscribe("ok/d17", 0);
    let mut sender = scene.connected(V5, "d17-sender");
    let names = |message: &Delivery| -> Vec<Vec<u8>> {
        let user = message.properties.iter().filter(|(id, _)| *id == property::USER_PROPERTY);
        user.map(|(_, pair)| pair.clone()).collect()
    };
    scene.repeat(10, |_| {
        sender.send(&publish(V5, "ok/d17", "plain").bytes());
        let added = names(&receiver.receive_message());
        let added_names: Vec<Vec<u8>> =
            added.iter().map(|pair| pair.split(|byte| *byte == b'=').next().unwrap_or_default().to_vec()).collect();
        let mut lies = Vec::new();
        for name in added_names.iter().map(Vec::as_slice).chain([&b"z"[..], b"a", b"z"]) {
            lies.extend(property::user(name, "lie"));
        }
        sender.send(&publish(V5, "ok/d17", "forged").with(lies).bytes());
        let got = names(&receiver.receive_message());
        for name in &added_names {
            assert!(!got.contains(&[name.as_slice(), b"=lie"].concat()), "{} was forged", name.escape_ascii());
        }
        let ours: Vec<_> = got.into_iter().filter(|pair| pair.ends_with(b"=lie")).collect();
        assert_eq!(ours, [b"z=lie", b"a=lie", b"z=lie"]);
    });
    drop((receiver, sender));
    scene.holds();
}

/// G4 for this section: messages that wait to expire and Sessions that wait to end wait without cost.
fn d_quiet_while_much_is_about_to_expire() {
    quiet(|address| {
        let mut idle = Vec::new();
        for number in 0..20 {
            let id = format!("quiet-{number}");
            let mut client = Client::open(address, V5);
            let will_properties = property::of_u32(property::WILL_DELAY_INTERVAL, 1000);
            let will = crate::packet::Will { properties: will_properties, ..will("ok/will", "w") };
            client.connect(&Connect { will: Some(will), ..lasting(V5, &id) });
            client.subscribe("ok/quiet", 1);
            drop(client);
        }
        let mut sender = connected(address, V5, "quiet-sender");
        for _ in 0..50 {
            sender.send(&publish(V5, "ok/quiet", "x").with(expiring_in(1000)).qos(1, 9).bytes());
            sender.receive_ack(kind::PUBACK, 9);
        }
        sender.send(PINGREQ).send(&ack(kind::PUBACK, 77));
        while !matches!(sender.event(prompt().min(PATIENCE)), Event::Packet(packet) if packet.kind() == kind::PINGRESP)
        {
        }
        idle.push(sender);
        idle
    });
}
