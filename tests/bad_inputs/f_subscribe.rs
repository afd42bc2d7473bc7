//! F: SUBSCRIBE and UNSUBSCRIBE.

use std::thread;
use std::time::{Duration, Instant};

use crate::broker::{FILTERS_PER_SUBSCRIBE_MAX, SUBSCRIPTIONS_PER_SESSION_MAX};
use crate::client::{Client, Event, PATIENCE, connected, prompt};
use crate::packet::{
    Connect, PINGREQ, Received, Version, ack, code, connect, kind, packet, property, publish, subscribe, unsubscribe,
};
use crate::rules::{Scene, load, quiet, unique};

const MIB: u64 = 1024 * 1024;

each_version! {
    f01_empty_lists,
    f02_bad_options,
    f04_too_many_in_one_packet,
    f05_too_many_in_one_session,
    f06_same_filter_again_and_again: alone,
    f07_churn_of_new_filters: alone,
    f08_plain_and_shared_mixed_up,
    f09_overlapping_filters: alone,
    f10_busy_packet_id,
    f11_subscribe_against_teardown: alone,
    f12_options_change,
}

only_v5! {
    f03_no_local_on_a_share,
}

each_transport! {
    f_quiet_with_many_subscriptions,
}

/// The code that says "over the limit" in a SUBACK.
fn over_the_limit(version: Version) -> u8 {
    if version.is_v5() { code::QUOTA_EXCEEDED } else { 0x80 }
}

/// Sends UNSUBSCRIBE; gives the code, which only MQTT 5 has.
#[track_caller]
fn leave(client: &mut Client, filter: &str) -> u8 {
    let (version, id) = (client.version(), client.new_packet_id());
    client.send(&unsubscribe(version, id, &[filter.as_bytes()]));
    let answer = client.receive_kind(kind::UNSUBACK);
    assert_eq!(answer.packet_id(), id);
    answer.codes(version).first().copied().unwrap_or(0)
}

/// A packet that asks for nothing.
fn f01_empty_lists(version: Version) {
    let scene = Scene::start();
    scene.repeat(100, |_| {
        for packet in [subscribe(version, 9, &[]), unsubscribe(version, 9, &[])] {
            scene.expect_refusal(version, &packet, &[code::PROTOCOL_ERROR, code::MALFORMED_PACKET]);
        }
    });
    scene.holds();
}

/// Options with values that the standard gives no meaning.
fn f02_bad_options(version: Version) {
    let scene = Scene::start();
    let (reserved, others) = match version {
        // No Local, Retain As Published and Retain Handling are reserved bits in MQTT 3.1.1.
        Version::V311 => (vec![0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0xFC], vec![0x03]),
        Version::V5 => (vec![0x40, 0x80, 0xC0, 0xC1], vec![0x03, 0x30, 0x31, 0x33]),
    };
    scene.repeat(50, |_| {
        for options in &reserved {
            let packet = subscribe(version, 9, &[(b"ok/a", 0), (b"bad/t", *options)]);
            scene.expect_refusal(version, &packet, &[code::MALFORMED_PACKET]);
        }
        for options in &others {
            let packet = subscribe(version, 9, &[(b"bad/t", *options)]);
            scene.expect_refusal(version, &packet, &[code::PROTOCOL_ERROR, code::MALFORMED_PACKET]);
        }
    });
    scene.holds();
}

/// A share has no notion of "not to me".
fn f03_no_local_on_a_share() {
    let scene = Scene::start();
    scene.repeat(100, |_| {
        let packet = subscribe(Version::V5, 9, &[(b"$share/g/bad/t", 0x04)]);
        scene.expect_refusal(Version::V5, &packet, &[code::PROTOCOL_ERROR]);
    });
    scene.holds();
}

/// As many filters in a packet as fit: each has its answer, and those over the limit are refused.
fn f04_too_many_in_one_packet(version: Version) {
    let scene = Scene::start();
    let filters: Vec<String> = (0..10_000).map(|number| format!("ok/f04/{number}")).collect();
    let filters: Vec<(&[u8], u8)> = filters.iter().map(|filter| (filter.as_bytes(), 1)).collect();
    let whole = subscribe(version, 9, &filters);
    scene.repeat(10, |_| {
        let mut client = scene.connected(version, "f04");
        client.send(&whole);
        match client.event(prompt()) {
            Event::Packet(answer) if answer.kind() == kind::SUBACK => {
                let codes = answer.codes(version);
                assert_eq!(codes.len(), 10_000);
                let (taken, refused) = codes.split_at(FILTERS_PER_SUBSCRIBE_MAX);
                assert!(taken.iter().all(|code| *code == 1), "{taken:02x?}");
                assert!(refused.iter().all(|code| *code == over_the_limit(version)), "{:02x?}", &refused[..10]);
                client.ping();
            }
            Event::Packet(answer) if version.is_v5() && answer.kind() == kind::DISCONNECT => {
                assert_eq!(answer.reason(), code::QUOTA_EXCEEDED);
            }
            other => panic!("expected a SUBACK, got {other:02x?}"),
        }
    });
    scene.holds();
}

/// A Session has so many subscriptions and no more; one that leaves makes room, one that is renewed needs none.
fn f05_too_many_in_one_session(version: Version) {
    let scene = Scene::start();
    let mut client = scene.connected(version, "f05");
    for number in 0..SUBSCRIPTIONS_PER_SESSION_MAX {
        assert_eq!(client.subscribe(format!("ok/f05/{number}"), 1), 1);
    }
    assert_eq!(client.subscribe("ok/f05/more", 1), over_the_limit(version));
    assert_eq!(client.subscribe("ok/f05/0", 0), 0);
    leave(&mut client, "ok/f05/0");
    assert_eq!(client.subscribe("ok/f05/more", 1), 1);
    assert_eq!(client.subscribe("ok/f05/0", 1), over_the_limit(version));
    client.disconnect();
    scene.holds();
}

/// One filter, subscribed to for the thousandth time, is one subscription.
fn f06_same_filter_again_and_again(version: Version) {
    let scene = Scene::under_load();
    let mut sender = scene.connected(version, "f06-sender");
    sender.send(&publish(version, "ok/f06", "kept").retained().bytes()).ping();
    let mut client = scene.connected(version, "f06");
    let rounds = load(40, 10_000);
    scene.repeat(4, |_| {
        for _ in 0..rounds / 4 {
            let id = client.new_packet_id();
            client.send(&subscribe(version, id, &[(b"ok/f06", 0)]).repeat(100));
            let (mut answers, mut replays) = (0, 0);
            while answers < 100 {
                let packet = client.receive();
                if packet.kind() == kind::SUBACK {
                    assert_eq!(packet.codes(version), [0]);
                    answers += 1;
                } else {
                    assert_eq!(packet.delivery(version).payload, b"kept");
                    replays += 1;
                }
            }
            // One replay for each at most; the last may still come.
            assert!(replays <= 100, "{replays} replays");
        }
    });
    client.settle();
    sender.send(&publish(version, "ok/f06", "once").bytes()).ping();
    sender.send(&publish(version, "ok/f06", "end").bytes()).ping();
    let once = client.messages_until(b"end").into_iter().filter(|message| message.payload == b"once").count();
    assert_eq!(once, 1);
    leave(&mut client, "ok/f06");
    sender.send(&publish(version, "ok/f06", "").retained().bytes()).ping();
    client.ping();
    drop((client, sender));
    scene.holds();
}

/// What the index of filters keeps for a filter goes when the filter goes.
fn f07_churn_of_new_filters(version: Version) {
    let scene = Scene::under_load();
    let mut client = scene.connected(version, "f07");
    let rounds = load(60, 10_000);
    scene.repeat(4, |quarter| {
        for round in 0..rounds / 4 {
            let name = |number| format!("ok/{quarter}/{round}/{number}/+/some/level/#");
            let filters: Vec<String> = (0..100).map(name).collect();
            let with_options: Vec<(&[u8], u8)> = filters.iter().map(|filter| (filter.as_bytes(), 1)).collect();
            let plain: Vec<&[u8]> = filters.iter().map(|filter| filter.as_bytes()).collect();
            client.send(&subscribe(version, 9, &with_options));
            assert_eq!(client.receive_kind(kind::SUBACK).codes(version), [1; 100]);
            client.send(&unsubscribe(version, 9, &plain));
            assert!(client.receive_kind(kind::UNSUBACK).codes(version).iter().all(|code| *code == 0));
        }
    });
    client.disconnect();
    scene.holds();
}

/// A plain filter and a shared one of the same topic are two subscriptions; leaving one is not leaving the other.
fn f08_plain_and_shared_mixed_up(version: Version) {
    let scene = Scene::start();
    let mut client = scene.connected(version, "f08");
    let rounds = load(100, 100_000);
    let none_existed = if version.is_v5() { code::NO_SUBSCRIPTION_EXISTED } else { 0 };
    scene.repeat(rounds, |_| {
        for (there, not_there) in [("$share/g/ok/f08", "ok/f08"), ("ok/f08", "$share/g/ok/f08")] {
            let granted = client.subscribe(there, 1);
            // MQTT 3.1.1 may have no shares.
            if !version.is_v5() && granted == 0x80 {
                continue;
            }
            assert_eq!(granted, 1);
            assert_eq!(leave(&mut client, not_there), none_existed);
            if version.is_v5() || there == "ok/f08" {
                client.send(&publish(version, "ok/f08", "x").bytes());
                assert_eq!(client.receive_message().payload, b"x");
            }
            assert_eq!(leave(&mut client, there), 0);
            client.send(&publish(version, "ok/f08", "x").bytes()).ping();
        }
    });
    client.disconnect();
    scene.holds();
}

/// A thousand filters of one Client that all match: the same rule each time, and the payload is not copied for each.
fn f09_overlapping_filters(version: Version) {
    let mut scene = Scene::under_load();
    let mut client = scene.connected(version, "f09");
    let topic = "a/b/c/d/e/f/g/h/i/j";
    let count = SUBSCRIPTIONS_PER_SESSION_MAX;
    let filter = |number: usize| -> String {
        let level = |(place, name): (usize, &'static str)| {
            if number >> place & 1 == 1 { "+" } else { name }
        };
        topic.split('/').enumerate().map(level).collect::<Vec<_>>().join("/")
    };
    let filters: Vec<String> = (0..count).map(filter).collect();
    for some in filters.chunks(FILTERS_PER_SUBSCRIBE_MAX) {
        let some: Vec<(&[u8], u8)> = some.iter().map(|filter| (filter.as_bytes(), 0)).collect();
        client.send(&subscribe(version, 9, &some));
        assert!(client.receive_kind(kind::SUBACK).codes(version).iter().all(|code| *code == 0));
    }
    scene.set_baseline();
    let payload = vec![b'x'; 256 * 1024];
    let mut sender = scene.connected(version, "f09-sender");
    let mut copies = Vec::new();
    for _ in 0..load(3, 20) {
        sender.send(&publish(version, topic, &payload).bytes());
        sender.send(&publish(version, topic, "end").bytes());
        copies.push(client.messages_until(b"end").into_iter().filter(|message| message.payload == payload).count());
        // The other copies of the end, if there are copies.
        while matches!(client.event(Duration::from_millis(50)), Event::Packet(_)) {}
    }
    assert!(copies.iter().all(|number| *number == copies[0]), "now so, now so: {copies:?}");
    assert!(copies[0] == 1 || copies[0] == count, "{} copies for {count} filters", copies[0]);
    assert!(scene.growth() <= 16 * MIB, "{} bytes for a payload of 256 KiB", scene.growth());
    drop((client, sender));
    scene.holds();
}

/// An identifier that is in use for something else.
fn f10_busy_packet_id(version: Version) {
    let scene = Scene::start();
    scene.repeat(20, |_| {
        let mut client = scene.connected(version, "f10");
        client.send(&publish(version, "ok/f10", "x").qos(2, 5).bytes());
        client.receive_ack(kind::PUBREC, 5);
        client.send(&subscribe(version, 5, &[(b"ok/f10/other", 0)]));
        match client.event(prompt()) {
            Event::Packet(answer) if answer.kind() == kind::SUBACK => {
                let expected = if version.is_v5() { code::PACKET_IDENTIFIER_IN_USE } else { 0 };
                assert_eq!(answer.codes(version), [expected]);
            }
            Event::Packet(answer) if version.is_v5() && answer.kind() == kind::DISCONNECT => {
                assert!(
                    [code::PACKET_IDENTIFIER_IN_USE, code::PROTOCOL_ERROR].contains(&answer.reason()),
                    "{answer:02x?}"
                );
                client.expect_close();
                return;
            }
            Event::Closed if !version.is_v5() => return,
            other => panic!("expected a SUBACK, got {other:02x?}"),
        }
        // The exchange that had the identifier first ends as it should.
        client.send(&ack(kind::PUBREL, 5));
        assert_eq!(client.receive_ack(kind::PUBCOMP, 5), 0);
        client.disconnect();
    });
    scene.holds();
}

/// Four connections fight for one Session and its subscriptions; in the end there is nothing that nobody owns.
fn f11_subscribe_against_teardown(version: Version) {
    let scene = Scene::under_load();
    let rounds = load(200, 100_000);
    thread::scope(|scope| {
        for fighter in 0..4 {
            let scene = &scene;
            scope.spawn(move || {
                for round in 0..rounds / 4 {
                    let mut client = scene.open(version);
                    let lasting = property::of_u32(property::SESSION_EXPIRY_INTERVAL, u32::from(round % 3 == 0) * 60);
                    let clean = (round + fighter) % 2 == 0;
                    client.send(&Connect { clean, properties: lasting, ..connect(version, "f11") }.bytes());
                    client.send(&subscribe(version, 1, &[(b"ok/f11", 1), (b"ok/f11/+", 2)]));
                    client.send(&unsubscribe(version, 2, &[b"ok/f11/+"]));
                    client.send(&subscribe(version, 3, &[(b"$share/g/ok/f11", 1)])).send(PINGREQ);
                    // Some stay until they have been answered or thrown out, some are gone at once.
                    if round % 2 == 0 {
                        wait_for_pingresp_or_end(&mut client);
                    }
                }
            });
        }
    });
    // With a clean start the Session is new, and when it ends nothing is left of all that.
    let deadline = Instant::now() + PATIENCE;
    let mut sender = scene.connected(version, "f11-sender");
    loop {
        scene.connected(version, "f11").disconnect();
        let reason = sender.publish("ok/f11", "x", 1);
        if !version.is_v5() || reason == code::NO_MATCHING_SUBSCRIBERS {
            break;
        }
        assert!(Instant::now() < deadline, "a subscription is left that nobody owns");
    }
    let mut client = scene.connected(version, "f11");
    sender.publish("ok/f11", "x", 1);
    sender.publish("ok/f11/a", "x", 1);
    client.ping();
    drop((client, sender));
    scene.holds();
}

fn wait_for_pingresp_or_end(client: &mut Client) {
    loop {
        match client.event(PATIENCE) {
            Event::Packet(packet) if packet.kind() != kind::PINGRESP => {}
            Event::Silence => panic!("neither answered nor closed"),
            _ => return,
        }
    }
}

/// New options of a subscription hold from then on; what is under way goes on as it began.
fn f12_options_change(version: Version) {
    let scene = Scene::start();
    let mut sender = scene.connected(version, "f12-sender");
    scene.repeat(10, |_| {
        let mut client = scene.open(version);
        let properties = property::of_u16(property::RECEIVE_MAXIMUM, 3);
        client.connect(&Connect { properties, ..connect(version, unique("f12")) });
        assert_eq!(client.subscribe("ok/f12", 2), 2);
        sender.publish("ok/f12", "1", 2);
        let first = client.receive_message();
        assert_eq!((first.qos, first.payload.as_slice()), (2, &b"1"[..]));
        assert_eq!(client.subscribe("ok/f12", 0), 0);
        sender.publish("ok/f12", "2", 2);
        let second = client.receive_message();
        assert_eq!((second.qos, second.payload.as_slice()), (0, &b"2"[..]));
        assert_eq!(client.subscribe("ok/f12", 2), 2);
        sender.publish("ok/f12", "3", 2);
        let third = client.receive_message();
        assert_eq!((third.qos, third.payload.as_slice()), (2, &b"3"[..]));
        assert_ne!(third.packet_id, first.packet_id);
        client.finish_delivery(&first);
        client.finish_delivery(&third);
        // All places of the window are free again.
        for _ in 0..3 {
            sender.publish("ok/f12", "last", 2);
        }
        let last: Vec<Received> = (0..3).map(|_| client.receive()).collect();
        assert!(last.iter().all(|packet| packet.delivery(version).payload == b"last"), "{last:02x?}");
        drop(client);
    });
    drop(sender);
    scene.holds();
}

/// G4 for this section: subscriptions, however many and whoever has left them, cost nothing while nobody publishes.
fn f_quiet_with_many_subscriptions() {
    quiet(|address| {
        let mut idle = Vec::new();
        for version in Version::BOTH {
            for number in 0..20 {
                let mut client = connected(address, version, format!("quiet-{version:?}-{number}"));
                for filter in 0..50 {
                    client.subscribe(format!("ok/{filter}/+/#"), 1);
                }
                client.send(&packet(0x82, &[0, 0]));
                idle.push(client);
            }
        }
        idle
    });
}
