//! B: CONNECT. Rows that need a wrong password or an authenticator that takes its time are in `authenticating`.

use std::collections::HashSet;
use std::fs;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use crate::broker::{Broker, CLIENT_ID_SIZE_MAX, KEEP_ALIVE_MAX_S, Profile};
use crate::client::{Client, Event, PATIENCE, connected, prompt};
use crate::packet::{
    Connect, PINGREQ, Place, Version, Will, ack, code, connect, kind, packet, property, publish, string, subscribe,
    will,
};
use crate::rules::{Scene, load, quiet, unique};

each_version! {
    b01_second_connect,
    b02_wrong_name_or_level,
    b03_reserved_connect_flag,
    b04_will_flags_inconsistent,
    b05_password_without_user_name,
    b06_flags_and_payload_disagree,
    b07_empty_client_id,
    b08_guessable_assigned_ids,
    b09_client_id_too_long,
    b10_odd_client_ids,
    b16_pipelined_connect,
    b17_keep_alive,
    b17_peer_that_vanished,
    b18_version_not_allowed_here,
    b20_many_connects_with_one_client_id: alone,
    b21_odd_but_legal,
}

only_v5! {
    b11_wrong_properties,
    b12_forbidden_values,
    b13_authentication_data_alone,
    b14_unknown_method,
}

each_transport! {
    b_quiet_after_many_connects,
}

/// Return codes of an MQTT 3.1.1 CONNACK.
const WRONG_VERSION: u8 = 1;
const WRONG_IDENTIFIER: u8 = 2;

/// A second CONNECT is a protocol error, and the Will says that this connection did not end well.
fn b01_second_connect(version: Version) {
    let mut scene = Scene::start();
    for round in 0..20 {
        let connect = Connect { will: Some(will("bad/will", "lost")), ..connect(version, "b01") };
        let mut client = scene.open(version);
        scene.rejected(1);
        if round % 2 == 0 {
            client.connect(&connect);
            client.send(&connect.bytes());
        } else {
            client.send(&connect.bytes().repeat(2));
            assert_eq!(client.receive_connack().code, 0);
        }
        client.expect_refusal(&[code::PROTOCOL_ERROR]);
        scene.observe(b"lost");
    }
    scene.holds();
}

/// A protocol that we do not speak is refused in its own form where that is known, and else without a word.
fn b02_wrong_name_or_level(version: Version) {
    let scene = Scene::start();
    let names: [&[u8]; 6] = [b"mqtt", b"MQTT\0", b"MQT", b"", b"\xFF\xFF\xFF\xFF", &[b'M'; 60 * 1024]];
    scene.repeat(20, |_| {
        for name in names {
            scene.rejected(1);
            let connect = Connect { name: name.to_vec(), ..connect(version, "bad-client") };
            let mut client = scene.open(version);
            client.send(&connect.bytes());
            if version.is_v5() {
                client.expect_connack_or_close(&[code::UNSUPPORTED_PROTOCOL_VERSION]);
            } else {
                client.expect_close();
            }
        }
        for (name, level) in [("MQTT", 0), ("MQTT", 2), ("MQTT", 6), ("MQTT", 127), ("MQTT", 132), ("MQIsdp", 5)] {
            scene.rejected(1);
            let connect = Connect { name: name.into(), level, ..connect(version, "bad-client") };
            // Nobody knows the form that a CONNACK of such a version has: it is that of MQTT 3.1.1 or of MQTT 5.
            let mut client = scene.open(version);
            client.send(&connect.bytes());
            match client.event(prompt()) {
                Event::Packet(answer) => {
                    let old = [0, WRONG_VERSION];
                    let new = [0, code::UNSUPPORTED_PROTOCOL_VERSION];
                    assert_eq!(answer.kind(), kind::CONNACK);
                    assert!(answer.body == old || answer.body[..2] == new, "{name} level {level}: {answer:02x?}");
                    client.expect_close();
                }
                Event::Closed if version.is_v5() || name == "MQIsdp" => {}
                other => panic!("{name} level {level}: {other:02x?}"),
            }
        }
    });
    scene.holds();
}

/// Bit 0 of the Connect Flags is reserved.
fn b03_reserved_connect_flag(version: Version) {
    let scene = Scene::start();
    let connect = connect(version, "bad-client");
    scene.repeat(100, |_| {
        scene.rejected(1);
        let mut client = scene.open(version);
        client.send(&connect.bytes_with_flags(connect.flags() | 1));
        if version.is_v5() {
            client.expect_connack_or_close(&[code::MALFORMED_PACKET]);
        } else {
            client.expect_close();
        }
    });
    scene.holds();
}

/// Without a Will there is no Will QoS and no Will Retain, and no Will has QoS 3.
fn b04_will_flags_inconsistent(version: Version) {
    let scene = Scene::start();
    let refusals = [code::MALFORMED_PACKET, code::PROTOCOL_ERROR];
    let without = connect(version, "bad-client");
    let with = Connect { will: Some(will("bad/will", "w")), ..without.clone() };
    scene.repeat(50, |_| {
        for flags in [0x08, 0x10, 0x18, 0x20, 0x28, 0x38] {
            scene.expect_refusal(version, &without.bytes_with_flags(without.flags() | flags), &refusals);
        }
        for flags in [0x18, 0x38] {
            scene.expect_refusal(version, &with.bytes_with_flags(with.flags() | flags), &refusals);
        }
    });
    scene.holds();
}

/// MQTT 5 allows a password alone, for the authenticator to judge; MQTT 3.1.1 does not.
fn b05_password_without_user_name(version: Version) {
    let scene = Scene::start();
    scene.repeat(20, |_| {
        let connect = Connect { password: Some(b"secret".to_vec()), ..connect(version, "b05") };
        let mut client = scene.open(version);
        client.send(&connect.bytes());
        if version.is_v5() {
            client.expect_connack(&[0, code::BAD_USER_NAME_OR_PASSWORD, code::NOT_AUTHORIZED]);
        } else {
            scene.rejected(1);
            client.expect_close();
        }
    });
    scene.holds();
}

/// Each field is there exactly when its flag says so.
fn b06_flags_and_payload_disagree(version: Version) {
    let scene = Scene::start();
    let full = Connect {
        will: Some(will("bad/will", "w")),
        user_name: Some(b"user".to_vec()),
        password: Some(b"password".to_vec()),
        ..connect(version, "bad-client")
    };
    let flags = full.flags();
    let (will_flag, password_flag, user_flag) = (0x04, 0x40, 0x80);
    let without_will = Connect { will: None, ..full.clone() };
    let without_user = Connect { user_name: None, ..full.clone() };
    let without_password = Connect { password: None, ..full.clone() };
    let empty = Connect { will: None, user_name: None, password: None, ..full.clone() };
    let mut lies = vec![
        without_will.bytes_with_flags(flags),
        without_user.bytes_with_flags(flags),
        without_password.bytes_with_flags(flags),
        empty.bytes_with_flags(flags),
        empty.bytes_with_flags(2 | will_flag),
        empty.bytes_with_flags(2 | user_flag),
        full.bytes_with_flags(2),
        full.bytes_with_flags(flags & !password_flag),
        full.bytes_with_flags(flags & !(user_flag | password_flag)),
        without_user.bytes_with_flags(2),
        without_password.bytes_with_flags(2),
    ];
    if version.is_v5() {
        lies.extend([empty.bytes_with_flags(2 | password_flag), full.bytes_with_flags(flags & !user_flag)]);
    }
    // No Client Identifier at all, not even an empty one: shorter than any CONNECT can be.
    let head = [string("MQTT"), vec![version.level(), 2, 0, 60]].concat();
    let properties: &[u8] = if version.is_v5() { &[0] } else { &[] };
    let nameless = packet(0x10, &[&head, properties].concat());
    scene.open(version).send(&nameless).expect_connack_or_close(&[code::MALFORMED_PACKET]);
    scene.repeat(50, |_| {
        for lie in &lies {
            scene.expect_refusal(version, lie, &[code::MALFORMED_PACKET]);
        }
    });
    scene.holds();
}

/// A Client without an identifier gets one, which MQTT 5 tells; MQTT 3.1.1 has no way to resume such a Session.
fn b07_empty_client_id(version: Version) {
    let scene = Scene::start();
    scene.repeat(20, |_| {
        for clean in [false, true] {
            let connect = Connect { clean, ..connect(version, "") };
            let mut client = scene.open(version);
            if version.is_v5() {
                let answer = client.connect(&connect);
                let assigned = answer.property(property::ASSIGNED_CLIENT_IDENTIFIER);
                assert!(assigned.is_some_and(|id| !id.is_empty()), "{answer:?}");
                client.disconnect();
            } else if clean {
                client.connect(&connect);
                client.disconnect();
            } else {
                scene.rejected(1);
                client.send(&connect.bytes()).expect_connack(&[WRONG_IDENTIFIER]);
                client.expect_close();
            }
        }
    });
    scene.holds();
}

/// Who can guess an assigned identifier can take its Session over.
fn b08_guessable_assigned_ids(version: Version) {
    let scene = Scene::start();
    if !version.is_v5() {
        // Nobody is told; but none may push another out.
        let mut clients: Vec<_> = (0..200).map(|_| scene.connected(version, "")).collect();
        clients.iter_mut().for_each(Client::ping);
        clients.into_iter().for_each(Client::disconnect);
        scene.holds();
        return;
    }
    let ids: Vec<Vec<u8>> = (0..load(1500, 10_000))
        .map(|_| {
            let mut client = scene.open(version);
            let answer = client.connect(&connect(version, ""));
            client.disconnect();
            answer.property(property::ASSIGNED_CLIENT_IDENTIFIER).expect("an assigned identifier").to_vec()
        })
        .collect();
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len(), "an identifier was assigned twice");
    // What differs from one to the next carries the randomness: for each place, as many bits as letters were seen there.
    let shortest = ids.iter().map(Vec::len).min().expect("there are some");
    let bits: f64 = (0..shortest)
        .map(|place| {
            let letters: HashSet<u8> = ids.iter().map(|id| id[place]).collect();
            // Half of all neighbours in time must differ here, else it is a counter or a clock and no randomness.
            let changes = ids.windows(2).filter(|pair| pair[0][place] != pair[1][place]).count();
            if changes * 2 >= ids.len() - 1 - ids.len() / 20 { (letters.len() as f64).log2() } else { 0.0 }
        })
        .sum();
    assert!(bits >= 96.0, "about {bits:.0} random bits in identifiers such as {:?}", String::from_utf8_lossy(&ids[0]));
    scene.holds();
}

/// An identifier over the limit is refused as an identifier, one at the limit is fine.
fn b09_client_id_too_long(version: Version) {
    let scene = Scene::start();
    scene.repeat(20, |_| {
        for length in [CLIENT_ID_SIZE_MAX + 1, 65_535] {
            scene.rejected(1);
            let mut client = scene.open(version);
            client.send(&connect(version, vec![b'x'; length]).bytes());
            client.expect_connack(&[if version.is_v5() {
                code::CLIENT_IDENTIFIER_NOT_VALID
            } else {
                WRONG_IDENTIFIER
            }]);
            client.expect_close();
        }
        scene.connected(version, vec![b'x'; CLIENT_ID_SIZE_MAX]).disconnect();
    });
    scene.holds();
}

/// Identifiers that no string may hold end the connection; those that only look bad are accepted or refused as a setting
/// says, and in no case can they write into the log what they like.
fn b10_odd_client_ids(version: Version) {
    for strict in [false, true] {
        let scene = Scene::with(|profile| {
            profile.set("mqtt.strict_characters", strict);
        });
        let ill_formed: [&[u8]; 6] =
            [b"a\0b", b"\0", b"a\xC0\x80b", b"a\xED\xA0\x80b", b"a\xF4\x90\x80\x80b", b"a\xE2\x82"];
        let odd = ["a\nFORGED level=error", "a\rb", "a\x1b[2Jb", "a\x7fb", "a\u{FFFE}b", "a\u{202E}b", "a\u{0085}b"];
        scene.repeat(10, |_| {
            for id in ill_formed {
                scene.expect_refusal(version, &connect(version, id).bytes(), &[code::MALFORMED_PACKET]);
            }
            for id in odd {
                let mut client = scene.open(version);
                client.send(&connect(version, id).bytes());
                let answer = client.event(prompt());
                match answer {
                    Event::Closed if strict && !version.is_v5() => scene.rejected(1),
                    Event::Packet(packet) => {
                        let answer = packet.connack(version);
                        let refusals: &[u8] = match (version, strict) {
                            (Version::V311, _) => &[WRONG_IDENTIFIER],
                            (Version::V5, false) => &[code::CLIENT_IDENTIFIER_NOT_VALID],
                            (Version::V5, true) => &[code::CLIENT_IDENTIFIER_NOT_VALID, code::MALFORMED_PACKET],
                        };
                        if answer.code == 0 {
                            // The log may now show this Client leave without a word.
                            assert!(!strict || id == "a\u{202E}b", "{id:?} was accepted");
                        } else {
                            assert!(refusals.contains(&answer.code), "{id:?}: {answer:02x?}");
                            scene.rejected(1);
                            client.expect_close();
                        }
                    }
                    other => panic!("{id:?}: {other:02x?}"),
                }
            }
        });
        let forged = scene.broker().log().lines().any(|line| line.starts_with("FORGED"));
        assert!(!forged, "a Client Identifier wrote a line of its own into the log");
        scene.holds();
    }
}

/// CONNECT has each property once, and only those of CONNECT.
fn b11_wrong_properties() {
    let scene = Scene::start();
    let method = property::of_string(property::AUTHENTICATION_METHOD, "x");
    scene.repeat(20, |_| {
        for (id, bytes) in property::all() {
            if Place::Connect.allows(id) {
                if id == property::USER_PROPERTY {
                    continue;
                }
                let mut twice = bytes.repeat(2);
                if id == property::AUTHENTICATION_DATA {
                    twice.extend(&method);
                }
                scene.expect_refusal(Version::V5, &Place::Connect.packet(&twice), &[code::PROTOCOL_ERROR]);
            } else {
                let refusals = [code::MALFORMED_PACKET, code::PROTOCOL_ERROR];
                scene.expect_refusal(Version::V5, &Place::Connect.packet(&bytes), &refusals);
            }
        }
    });
    scene.holds();
}

/// Values that the standard gives no meaning.
fn b12_forbidden_values() {
    let scene = Scene::start();
    let lists = [
        property::of_u16(property::RECEIVE_MAXIMUM, 0),
        property::of_u32(property::MAXIMUM_PACKET_SIZE, 0),
        property::of_byte(property::REQUEST_PROBLEM_INFORMATION, 2),
        property::of_byte(property::REQUEST_RESPONSE_INFORMATION, 2),
        property::of_byte(property::REQUEST_PROBLEM_INFORMATION, 255),
    ];
    scene.repeat(100, |_| {
        for list in &lists {
            let refusals = [code::PROTOCOL_ERROR, code::MALFORMED_PACKET];
            scene.expect_refusal(Version::V5, &Place::Connect.packet(list), &refusals);
        }
    });
    scene.holds();
}

/// Authentication Data without a method that could read it.
fn b13_authentication_data_alone() {
    let scene = Scene::start();
    let data = property::of_string(property::AUTHENTICATION_DATA, "data");
    scene.repeat(100, |_| {
        scene.expect_refusal(Version::V5, &Place::Connect.packet(&data), &[code::PROTOCOL_ERROR]);
    });
    scene.holds();
}

/// A method that this broker does not have, however long its name.
fn b14_unknown_method() {
    let scene = Scene::start();
    scene.repeat(20, |_| {
        for method in ["NOPE".to_owned(), "N".repeat(60 * 1024)] {
            let list = property::of_string(property::AUTHENTICATION_METHOD, method);
            scene.expect_refusal(Version::V5, &Place::Connect.packet(&list), &[code::BAD_AUTHENTICATION_METHOD]);
        }
    });
    scene.holds();
}

/// A Client need not wait for CONNACK; what it sends at once is done in order.
fn b16_pipelined_connect(version: Version) {
    let mut scene = Scene::start();
    for _ in 0..20 {
        let said = [
            connect(version, "b16").bytes(),
            subscribe(version, 1, &[(b"ok/b16", 1)]),
            publish(version, "bad/b16", "first").bytes(),
            publish(version, "ok/b16", "own").qos(1, 2).bytes(),
            PINGREQ.to_vec(),
        ];
        let mut client = scene.open(version);
        client.send(&said.concat());
        assert_eq!(client.receive_connack().code, 0);
        assert_eq!(client.receive_suback(1), 1);
        // The message comes back and its PUBACK too, in either order, the message perhaps after PINGRESP.
        let mut kinds = Vec::new();
        for _ in 0..3 {
            kinds.push(client.receive().kind());
        }
        kinds.sort_unstable();
        assert_eq!(kinds, [kind::PUBLISH, kind::PUBACK, kind::PINGRESP]);
        scene.observe(b"first");
        client.disconnect();
    }
    scene.holds();
}

/// A Client that asks for no Keep Alive, or for a longer one than the broker allows, does not stay for ever in silence.
fn b17_keep_alive(version: Version) {
    if version.is_v5() {
        // What is told with the limits of the test profile...
        let scene = Scene::start();
        for keep_alive_s in [0, 65_535] {
            let mut client = scene.open(version);
            let answer = client.connect(&Connect { keep_alive_s, ..connect(version, "b17") });
            assert_eq!(answer.property(property::SERVER_KEEP_ALIVE), Some(&KEEP_ALIVE_MAX_S.to_be_bytes()[..]));
            client.disconnect();
        }
        scene.holds();
    }
    // ... and what is done, with a limit that passes in the time of a test. An observer would be silent for too long itself.
    let mut profile = Profile::test();
    profile.set("limits.keep_alive_max", "1s");
    let broker = Broker::start(&profile);
    let asked: &[u16] = if version.is_v5() { &[0, 1, 65_535] } else { &[1] };
    let mut clients = Vec::new();
    for (number, keep_alive_s) in asked.iter().cycle().take(10).enumerate() {
        let mut client = Client::open(broker.address(), version);
        client.connect(&Connect { keep_alive_s: *keep_alive_s, ..connect(version, format!("b17-{number}")) });
        clients.push(client);
    }
    let silent_since = Instant::now();
    for client in &mut clients {
        if version.is_v5() {
            let packet = client.receive_kind(kind::DISCONNECT);
            assert_eq!(packet.reason(), code::KEEP_ALIVE_TIMEOUT);
        }
        client.expect_close_within(PATIENCE);
    }
    let waited = silent_since.elapsed();
    assert!(
        waited >= Duration::from_millis(1400) && waited <= Duration::from_millis(1500) + prompt(),
        "closed after {waited:?}"
    );
    assert!(!broker.log().contains("panicked at"));
}

/// A peer that vanished without FIN is noticed by probes of TCP, whatever its Keep Alive was.
///
/// Without a network to cut, the timer that the system keeps for the socket is what can be seen: /proc/net/tcp names it in
/// the form `02:XXXXXXXX`, a probe due after so many hundredths of a second.
fn b17_peer_that_vanished(version: Version) {
    let scene = Scene::start();
    let mut client = scene.open(version);
    client.connect(&Connect { keep_alive_s: 0, ..connect(version, "b17-vanished") });
    let (ours, theirs) = (client.local_port(), scene.address().port());
    let deadline = Instant::now() + prompt();
    loop {
        let table = fs::read_to_string("/proc/net/tcp").expect("Linux shows its sockets");
        let line = table.lines().find(|line| {
            let mut fields = line.split_whitespace().skip(1);
            let mut ends_with = |port: u16| fields.next().is_some_and(|end| end.ends_with(&format!(":{port:04X}")));
            ends_with(theirs) && ends_with(ours)
        });
        let timer = line.and_then(|line| line.split_whitespace().nth(5)).expect("the broker's end is in the table");
        // While CONNACK is not acknowledged the timer is that of a resend (01).
        if let Some(due) = timer.strip_prefix("02:") {
            let due = u64::from_str_radix(due, 16).expect("a hexadecimal number");
            assert!(due <= 90 * 100, "the first probe is due only in {} s", due / 100);
            break;
        }
        assert!(Instant::now() < deadline, "no probe is planned: {timer}");
        thread::sleep(Duration::from_millis(10));
    }
    client.disconnect();
    scene.holds();
}

/// A listener may speak one version only.
fn b18_version_not_allowed_here(version: Version) {
    let (here, refusal) = match version {
        Version::V5 => ("3.1.1", code::UNSUPPORTED_PROTOCOL_VERSION),
        Version::V311 => ("5.0", WRONG_VERSION),
    };
    let mut profile = Profile::test();
    profile.set("[listener].versions", [here]);
    // The innocents need both versions, so that they cannot be here.
    let broker = Broker::start(&profile);
    let other = if version.is_v5() { Version::V311 } else { Version::V5 };
    for _ in 0..20 {
        let mut client = Client::open(broker.address(), version);
        client.send(&connect(version, "b18").bytes()).expect_connack(&[refusal]);
        client.expect_close();
        connected(broker.address(), other, "b18").disconnect();
    }
    assert!(!broker.log().contains("panicked at"));
}

/// Of many that claim one identifier at once exactly one is left, and all others know it.
fn b20_many_connects_with_one_client_id(version: Version) {
    let scene = Scene::under_load();
    let crowd = load(20, 100);
    for round in 0..load(5, 100) {
        let id = format!("b20-{round}");
        let begun = Instant::now();
        let start = Barrier::new(crowd);
        let mut clients: Vec<Client> = thread::scope(|scope| {
            let threads: Vec<_> = (0..crowd)
                .map(|_| {
                    scope.spawn(|| {
                        let mut client = scene.open(version);
                        start.wait();
                        client.send(&connect(version, &id).bytes());
                        client
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().expect("a connection")).collect()
        });
        // A PINGREQ sorts them: whoever answers it is alive. The last CONNECT may still be on its way, so ask until one is left.
        let mut alive = crowd;
        while alive > 1 {
            assert!(begun.elapsed() < Duration::from_secs(10), "round {round}: {alive} of {crowd} are still there");
            clients.retain_mut(still_there);
            alive = clients.len();
        }
        assert_eq!(alive, 1, "round {round}: nobody is left");
        clients[0].ping();
    }
    scene.holds();
}

/// Whether this Client is connected. One that is not has been told so in the way of its version.
fn still_there(client: &mut Client) -> bool {
    let version = client.version();
    client.send(PINGREQ);
    loop {
        match client.event(PATIENCE) {
            Event::Closed => return false,
            Event::Silence => panic!("neither answered nor closed"),
            Event::Packet(packet) => match packet.kind() {
                kind::PINGRESP => return true,
                kind::CONNACK => {
                    let answer = packet.connack(version);
                    assert!(answer.code == 0 || (version.is_v5() && answer.code == code::SERVER_BUSY), "{answer:02x?}");
                }
                kind::DISCONNECT if version.is_v5() => {
                    assert_eq!(packet.reason(), code::SESSION_TAKEN_OVER)
                }
                _ => panic!("a loser was told {packet:02x?}"),
            },
        }
    }
}

/// Every field of CONNECT at its maximum is much, and allowed.
fn b21_odd_but_legal(version: Version) {
    let scene = Scene::start();
    let user_properties = |count: usize| property::user("k".repeat(500), "v".repeat(495)).repeat(count);
    let properties = [
        property::of_u32(property::SESSION_EXPIRY_INTERVAL, u32::MAX),
        property::of_u16(property::RECEIVE_MAXIMUM, u16::MAX),
        property::of_u32(property::MAXIMUM_PACKET_SIZE, u32::MAX),
        property::of_u16(property::TOPIC_ALIAS_MAXIMUM, u16::MAX),
        property::of_byte(property::REQUEST_RESPONSE_INFORMATION, 1),
        property::of_byte(property::REQUEST_PROBLEM_INFORMATION, 1),
        user_properties(32),
    ];
    let will_properties = [
        property::of_u32(property::WILL_DELAY_INTERVAL, u32::MAX),
        property::of_byte(property::PAYLOAD_FORMAT_INDICATOR, 1),
        property::of_u32(property::MESSAGE_EXPIRY_INTERVAL, u32::MAX),
        property::of_string(property::CONTENT_TYPE, "t".repeat(8000)),
        property::of_string(property::RESPONSE_TOPIC, "r".repeat(8000)),
        property::of_string(property::CORRELATION_DATA, "c".repeat(8000)),
        user_properties(20),
    ];
    let connect = Connect {
        keep_alive_s: u16::MAX,
        properties: properties.concat(),
        client_id: vec![b'i'; CLIENT_ID_SIZE_MAX],
        will: Some(Will {
            qos: 2,
            retain: true,
            properties: will_properties.concat(),
            topic: vec![b'w'; 65_535],
            payload: vec![b'p'; 65_535],
        }),
        user_name: Some(vec![b'u'; 65_535]),
        password: Some(vec![b'*'; 65_535]),
        ..connect(version, "")
    };
    let size = connect.bytes().len();
    assert!(size <= 384 * 1024, "the limit for CONNECT is lower than {size}");
    for _ in 0..10 {
        let mut client = scene.open(version);
        client.connect(&connect);
        client.ping();
        client.disconnect();
    }
    // The Session of MQTT 5 outlives its connection: a clean start without expiry ends it, as G3 would notice.
    scene.connected(version, vec![b'i'; CLIENT_ID_SIZE_MAX]).disconnect();
    scene.holds();
}

/// G4 for this section: refused and accepted Clients that fall silent cost nothing.
fn b_quiet_after_many_connects() {
    quiet(|address| {
        let mut idle = Vec::new();
        for version in Version::BOTH {
            for number in 0..50 {
                idle.push(connected(address, version, format!("quiet-{version:?}-{number}")));
                idle.push(Client::open(address, version));
                let connect = connect(version, unique("refused"));
                Client::open(address, version).send(&connect.bytes_with_flags(1)).send(&ack(kind::PUBACK, 1));
            }
        }
        idle
    });
}
