//! L: Wills. L01 is played in `tests/rights/will.rs`.

use std::time::{Duration, Instant};

use crate::broker::{Broker, Profile, TOPIC_LEVELS_MAX};
use crate::client::{Client, Event, PATIENCE, connected};
use crate::e_qos::{forget, lasting};
use crate::k_sessions::{Gauge, STORED};
use crate::m_retained::retain;
use crate::packet::{Connect, DISCONNECT, Place, Version, Will, code, connect, disconnect_with, kind, property, will};
use crate::rules::{Scene, busyness, load, rounds};

const MIB: u64 = 1024 * 1024;

each_version! {
    l02_bad_will,
    l05_when_it_must_and_must_not_be_sent,
    l06_mass_death: alone,
    l07_shutdown,
    l07_what_survives_a_shutdown,
}

only_v5! {
    l03_leak_in_the_wills_properties: alone,
    l04_delay_beyond_the_session,
}

/// CONNECT of a Client with a Will, whose Session ends with its connection.
fn leaving_behind(version: Version, client_id: &str, will: Will) -> Connect {
    Connect { will: Some(will), ..connect(version, client_id) }
}

/// The same for a Session that stays, whose Will waits where the version has such a thing.
fn lasting_with(version: Version, client_id: &str, will: Will, delay_s: u32) -> Connect {
    let properties = property::of_u32(property::WILL_DELAY_INTERVAL, delay_s);
    Connect { will: Some(Will { properties, ..will }), ..lasting(version, client_id, 10) }
}

/// A Will that could not be published is refused together with its CONNECT.
fn l02_bad_will(version: Version) {
    let refuse = |scene: &Scene, refused: Will, codes: &[u8], allowed: Will| {
        scene.repeat(20, |_| {
            scene.expect_refusal(version, &leaving_behind(version, "l02", refused.clone()).bytes(), codes);
        });
        let mut client = scene.open(version);
        client.connect(&leaving_behind(version, "l02-allowed", allowed));
        client.disconnect();
    };
    let levels = |count: usize| format!("bad{}", "/x".repeat(count - 1));
    let scene = Scene::start();
    for topic in ["bad/#", "bad/+/x", "+", "#", "", &levels(TOPIC_LEVELS_MAX + 1)] {
        let codes = [code::TOPIC_NAME_INVALID, code::MALFORMED_PACKET, code::PROTOCOL_ERROR];
        refuse(&scene, will(topic, "x"), &codes, will(levels(TOPIC_LEVELS_MAX), "x"));
    }
    scene.holds();
    let scene = Scene::with(|profile| {
        profile.set("mqtt.maximum_qos", 1);
    });
    for retain in [false, true] {
        let of_qos = |qos| Will { qos, retain, ..will("bad/will", "x") };
        refuse(&scene, of_qos(2), &[code::QOS_NOT_SUPPORTED], of_qos(1));
    }
    scene.holds();
    let scene = Scene::with(|profile| {
        profile.set("mqtt.retain_available", false);
    });
    for qos in 0..=2 {
        let retained = |retain| Will { qos, retain, ..will("bad/will", "x") };
        refuse(&scene, retained(true), &[code::RETAIN_NOT_SUPPORTED], retained(false));
    }
    scene.holds();
    // As a PUBLISH it would be larger than the broker takes one.
    let scene = Scene::with(|profile| {
        profile.set("limits.packet_size_max", "1KiB");
    });
    for qos in 0..=2 {
        let of_size = |size| Will { qos, ..will("bad/will", vec![b'x'; size]) };
        refuse(&scene, of_size(1020), &[code::PACKET_TOO_LARGE], of_size(1000));
        refuse(&scene, of_size(65_535), &[code::PACKET_TOO_LARGE], of_size(0));
    }
    scene.holds();
    let scene = Scene::with(|profile| {
        profile.set("limits.retained_payload_size_max", 100);
    });
    let of_size = |size, retain| Will { retain, ..will("bad/will", vec![b'x'; size]) };
    refuse(&scene, of_size(101, true), &[code::QUOTA_EXCEEDED], of_size(100, true));
    refuse(&scene, of_size(65_535, true), &[code::QUOTA_EXCEEDED], of_size(65_535, false));
    scene.holds();
}

/// A Will's property list that breaks off at its last member, when all the others have been read.
fn l03_leak_in_the_wills_properties() {
    let version = Version::V5;
    let scene = Scene::under_load();
    let (allowed, others): (Vec<_>, Vec<_>) = property::all().into_iter().partition(|(id, _)| Place::Will.allows(*id));
    let all: Vec<u8> = allowed.iter().flat_map(|(_, list)| list.clone()).collect();
    let mut wrong: Vec<Vec<u8>> = others.iter().map(|(_, list)| [all.clone(), list.clone()].concat()).collect();
    for (id, _) in &allowed {
        // The value is one of another type: a string where a number belongs, a number where a string does.
        let before: Vec<u8> =
            allowed.iter().filter(|(other, _)| other != id).flat_map(|(_, list)| list.clone()).collect();
        for value in [&b"\x00\x03abc"[..], b"\x02", b"\xFF\xFF", b"\xFF\xFF\xFF\xFF", b"\x00"] {
            wrong.push([before.as_slice(), &[*id], value].concat());
        }
    }
    let count = load(2_000, 100_000);
    let (mut refused, mut tried) = (0, 0);
    scene.repeat(10, |_| {
        let mut sent = 0;
        while sent < count / 10 {
            for list in &wrong {
                let mut client = scene.open(version);
                client.send(&Place::Will.packet(list));
                match client.event(PATIENCE) {
                    Event::Packet(packet) => {
                        let code = packet.connack(version).code;
                        // Some of these values are right by accident: four bytes of 0xFF are a Will Delay.
                        refused += usize::from(code != 0);
                        assert!([0, code::MALFORMED_PACKET, code::PROTOCOL_ERROR].contains(&code), "{code:02x}");
                        if code == 0 {
                            client.disconnect();
                        }
                    }
                    other => panic!("expected a CONNACK, got {other:?} for {list:02x?}"),
                }
                sent += 1;
            }
        }
        tried += sent;
    });
    scene.rejected(refused);
    crate::report(&format!("l03: {refused} refused"));
    assert!(refused > tried / 2, "most of them are wrong, and of {tried} {refused} were refused");
    scene.holds();
}

/// A Will waits for its delay or for the end of the Session, whichever comes first.
fn l04_delay_beyond_the_session() {
    let version = Version::V5;
    let scene = Scene::start();
    let mut observer = scene.connected(version, "l04-observer");
    observer.subscribe("ok/l04", 0);
    let asking_for = |client_id: &str, expiry_s: u32, delay_s: u32| Connect {
        properties: property::of_u32(property::SESSION_EXPIRY_INTERVAL, expiry_s),
        ..lasting_with(version, client_id, will("ok/l04", client_id), delay_s)
    };
    let lose = |connect: &Connect| {
        let mut client = scene.open(version);
        client.connect(connect);
        client.reset();
    };
    let begun = Instant::now();
    lose(&asking_for("ends after a second", 1, 60));
    assert_eq!(observer.receive_message().payload, b"ends after a second");
    let (took, second) = (begun.elapsed(), Duration::from_secs(1));
    let late = second.mul_f64(1.05) + second.mul_f64(busyness());
    assert!(took >= second && took <= late, "published after {took:?}");
    scene.repeat(20, |_| {
        lose(&asking_for("ends at once", 0, u32::MAX));
        assert_eq!(observer.receive_message().payload, b"ends at once");
        lose(&asking_for("for ever", u32::MAX, u32::MAX));
        observer.ping();
        // Only a clean start ends it.
        scene.connected(version, "for ever").disconnect();
        assert_eq!(observer.receive_message().payload, b"for ever");
        observer.ping();
    });
    drop(observer);
    scene.holds();
}

/// Each way to go, and whether the Will goes out.
fn l05_when_it_must_and_must_not_be_sent(version: Version) {
    let scene = Scene::start();
    let mut observer = scene.connected(Version::V5, "l05-observer");
    observer.subscribe("ok/l05/#", 1);
    let is_v5 = version.is_v5();
    let about = |case: &str| will("ok/l05/will", case);
    let enter = |connect: Connect| {
        let mut client = scene.open(version);
        client.connect(&connect);
        client
    };
    let client_id = "l05";
    let passing = |case: &str| leaving_behind(version, client_id, about(case));
    let published = |observer: &mut Client| {
        observer.publish("ok/l05/fence", "fence", 0);
        let messages = observer.messages_until(b"fence");
        messages.into_iter().map(|message| String::from_utf8_lossy(&message.payload).into_owned()).collect::<Vec<_>>()
    };
    scene.repeat(5, |_| {
        enter(passing("said goodbye")).disconnect();
        assert!(published(&mut observer).is_empty());

        // Whoever is back within the delay has not gone. Before 5.0 there is no delay.
        enter(lasting_with(version, client_id, about("lost"), 60)).reset();
        if !is_v5 {
            assert_eq!(observer.receive_message().payload, b"lost");
        }
        enter(lasting(version, client_id, 10)).disconnect();
        assert!(published(&mut observer).is_empty());
        forget(&scene, version, client_id);
        assert!(published(&mut observer).is_empty());

        if is_v5 {
            let mut client = enter(passing("said goodbye with its Will"));
            client.send(&disconnect_with(0x04, &[])).expect_close();
            assert_eq!(observer.receive_message().payload, b"said goodbye with its Will");
        }

        // Taken over: its connection was not closed by a DISCONNECT of its own.
        let old = enter(lasting_with(version, client_id, about("taken over"), 0));
        let new = enter(lasting(version, client_id, 10));
        assert_eq!(observer.receive_message().payload, b"taken over");
        new.disconnect();
        drop(old);
        let old = enter(lasting_with(version, client_id, about("taken over within the delay"), 60));
        let new = enter(lasting(version, client_id, 10));
        if !is_v5 {
            assert_eq!(observer.receive_message().payload, b"taken over within the delay");
        }
        assert!(published(&mut observer).is_empty());
        new.disconnect();
        drop(old);
        // A clean start ends the Session, and the delay with it.
        let old = enter(lasting_with(version, client_id, about("replaced"), 60));
        let new = enter(connect(version, client_id));
        assert_eq!(observer.receive_message().payload, b"replaced");
        new.disconnect();
        drop(old);

        let mut client = enter(passing("broke the protocol"));
        client.send(&[0x30 | 0x06, 0]);
        assert_eq!(observer.receive_message().payload, b"broke the protocol");
        drop(client);
        enter(passing("reset")).reset();
        assert_eq!(observer.receive_message().payload, b"reset");
        drop(enter(passing("closed")));
        assert_eq!(observer.receive_message().payload, b"closed");
        // Half a packet is no goodbye.
        let mut client = enter(passing("cut off"));
        client.send(&DISCONNECT[..1]);
        drop(client);
        assert_eq!(observer.receive_message().payload, b"cut off");
        assert!(published(&mut observer).is_empty(), "published twice");
    });
    let silent = Connect { keep_alive_s: 1, ..passing("silent") };
    let (begun, silent) = (Instant::now(), enter(silent));
    assert_eq!(observer.receive_message().payload, b"silent");
    assert!(begun.elapsed() >= Duration::from_millis(1500), "published after {:?}", begun.elapsed());
    drop((silent, observer));
    scene.holds();
}

/// A thousand Clients with Wills of the greatest size are lost at the same moment.
fn l06_mass_death(version: Version) {
    let count = load(100, 1000);
    let scene = Scene::under_load_with(|profile| {
        profile.set("limits.retained_size_max", "128MiB").set("sys.interval", "100ms");
    })
    .may_grow_by(count as u64 * 96 * 1024 + 16 * MIB)
    .may_keep_it();
    let mut retained = Gauge::of(&scene, "$SYS/broker/retained messages/count");
    let dying: Vec<Client> = (0..count)
        .map(|number| {
            let last = Will { qos: 1, retain: true, ..will(format!("ok/l06/{number}"), vec![b'x'; 65_535]) };
            let mut client = scene.open(version);
            client.connect(&leaving_behind(version, &format!("l06-{number}"), last));
            client
        })
        .collect();
    let before = retained.next();
    let begun = Instant::now();
    dying.into_iter().for_each(Client::reset);
    retained.reaches("retained", |value| value >= before + count as u64, Duration::from_secs(30).mul_f64(busyness()));
    crate::report(&format!("l06: {count} Wills published after {:.2?}", begun.elapsed()));
    // Each of them can be had, and be cleared.
    let mut heir = scene.connected(version, "l06-heir");
    let id = heir.new_packet_id();
    heir.send(&crate::packet::subscribe(version, id, &[(b"ok/l06/#", 0)]));
    let mut topics = Vec::new();
    while topics.len() < count {
        let packet = heir.receive();
        if packet.kind() == kind::PUBLISH {
            let will = packet.delivery(version);
            assert_eq!(will.payload.len(), 65_535);
            topics.push(will.topic);
        }
    }
    topics.sort_unstable();
    topics.dedup();
    assert_eq!(topics.len(), count);
    drop(heir);
    let mut cleaner = scene.connected(version, "l06-cleaner");
    for topic in &topics {
        retain(&mut cleaner, topic, "", 1);
    }
    Gauge::of(&scene, STORED).reaches("stored", |bytes| bytes < MIB, PATIENCE);
    drop((cleaner, retained));
    scene.holds();
}

/// An orderly stop publishes what is due when a connection ends, to everybody who is still there, and then says goodbye. Wills
/// that wait for a Session that lives on stay with it.
fn l07_shutdown(version: Version) {
    for _ in 0..3 {
        let mut broker = Broker::start(&Profile::test());
        if !broker.is_ours() {
            return;
        }
        let mut heirs: Vec<Client> = (0..4)
            .map(|number| {
                let version = Version::BOTH[number % 2];
                let mut heir = connected(broker.address(), version, format!("l07-heir-{number}"));
                heir.subscribe("ok/l07/#", (number % 3) as u8);
                heir
            })
            .collect();
        let mut leaving = Vec::new();
        let mut expected = Vec::new();
        for number in 0..100 {
            let client_id = format!("l07-{number:03}");
            let last = Will { qos: number % 3, ..will(format!("ok/l07/{number}"), &client_id) };
            let mut client = Client::open(broker.address(), version);
            let stays = version.is_v5() && number % 10 == 0;
            client.connect(&match number % 10 {
                0 => lasting_with(version, &client_id, last, 60),
                1 => lasting_with(version, &client_id, last, 0),
                _ => leaving_behind(version, &client_id, last),
            });
            if !stays {
                expected.push(client_id.into_bytes());
            }
            leaving.push(client);
        }
        broker.terminate();
        for heir in &mut heirs {
            let mut inherited = Vec::new();
            loop {
                match heir.event(2 * PATIENCE) {
                    Event::Packet(packet) if packet.kind() == kind::PUBLISH => {
                        let message = packet.delivery(heir.version());
                        heir.acknowledge(&message);
                        inherited.push(message.payload);
                    }
                    Event::Packet(packet) if packet.kind() == kind::DISCONNECT => {
                        assert_eq!(packet.reason(), code::SERVER_SHUTTING_DOWN);
                    }
                    Event::Packet(packet) => assert_eq!(packet.kind(), kind::PUBREL, "{packet:02x?}"),
                    Event::Closed => break,
                    Event::Silence => panic!("the broker does not say goodbye"),
                }
            }
            inherited.sort_unstable();
            assert_eq!(inherited, expected);
        }
        drop((heirs, leaving));
        assert_eq!(broker.exit_code(Duration::from_secs(10)), Some(0));
        assert!(!broker.log().contains("panicked at"), "G1: a panic in the log");
    }
}

/// What an orderly stop has published waits for whoever is away, and Wills that wait for their time come when it has come, in the
/// broker's next life: each once.
fn l07_what_survives_a_shutdown(version: Version) {
    let place = crate::broker::Place::new();
    let mut profile = Profile::test();
    profile.keeps_in(&place);
    let mut broker = Broker::start(&profile);
    let away = leaving_as(version, "l07-away");
    let mut heir = Client::open(broker.address(), version);
    heir.connect(&away);
    assert_eq!(heir.subscribe("ok/l07-kept/#", 1), 1);
    heir.disconnect();
    let count = rounds(30);
    let dying: Vec<Client> = (0..count)
        .map(|number| {
            let client_id = format!("l07-kept-{number:02}");
            let last = Will { qos: 1, ..will(format!("ok/l07-kept/{number}"), &client_id) };
            let mut client = Client::open(broker.address(), version);
            client.connect(&match number % 2 {
                0 => lasting_with(version, &client_id, last, 1),
                _ => leaving_behind(version, &client_id, last),
            });
            client
        })
        .collect();
    broker.terminate();
    let told = Instant::now();
    drop(dying);
    assert_eq!(broker.exit_code(2 * PATIENCE.mul_f64(busyness())), Some(0));
    let log = broker.log();
    assert!(log.contains("stopped") && !log.contains("panicked"), "{log}");
    drop(broker);
    let scene = Scene::with(|profile| {
        profile.keeps_in(&place);
    });
    let mut heir = scene.open(version);
    assert!(heir.connect(&away).session_present, "the Session has survived");
    let mut inherited = Vec::new();
    for _ in 0..count {
        let message = heir.receive_message();
        heir.acknowledge(&message);
        inherited.push(String::from_utf8(message.payload).expect("a Client Identifier"));
    }
    assert!(told.elapsed() >= Duration::from_secs(1) || !version.is_v5(), "before their time");
    inherited.sort_unstable();
    assert!(inherited.iter().cloned().eq((0..count).map(|number| format!("l07-kept-{number:02}"))), "{inherited:?}");
    heir.ping();
    heir.disconnect();
    forget(&scene, version, "l07-away");
    for number in (0..count).step_by(2) {
        forget(&scene, version, &format!("l07-kept-{number:02}"));
    }
    scene.holds();
}

fn leaving_as(version: Version, client_id: &str) -> Connect {
    let properties = property::of_u32(property::SESSION_EXPIRY_INTERVAL, 3600);
    Connect { clean: false, properties, ..connect(version, client_id) }
}
