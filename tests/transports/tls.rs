//! TLS: who is served, what is refused, and that bytes come out as they went in.

use crate::world::{PATIENCE, World, enter, is_closed, listen, packet, ping, publish, say};
use rustls::HandshakeKind;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

const TLS: &str = "tls_certificate = ['{dir}/server.pem']\ntls_key = ['{dir}/server.key']";

#[test]
fn both_versions_of_tls_are_spoken() {
    let world = World::new(TLS, "");
    for (version, protocol) in [
        (&rustls::version::TLS12, rustls::ProtocolVersion::TLSv1_2),
        (&rustls::version::TLS13, rustls::ProtocolVersion::TLSv1_3),
    ] {
        let mut client = world.tls_with(world.client_config_of(None, &[version]));
        assert_eq!(enter(&mut client, "a").expect("CONNACK"), 0);
        assert_eq!(client.conn.protocol_version(), Some(protocol));
        assert_eq!(client.conn.alpn_protocol(), Some(&b"mqtt"[..]));
        ping(&mut client);
    }
}

#[test]
fn tls_version_min_keeps_out_1_2() {
    let world = World::new(&format!("{TLS}\ntls_version_min = '1.3'"), "");
    let mut old = world.tls_with(world.client_config_of(None, &[&rustls::version::TLS12]));
    assert!(enter(&mut old, "a").is_err());
    assert_eq!(enter(&mut world.tls(None), "a").expect("CONNACK"), 0);
}

#[test]
fn large_messages_come_as_they_went_and_so_do_many_small_ones() {
    let world = World::new(TLS, "");
    let mut receiver = world.tls(None);
    let mut sender = world.tls(None);
    assert_eq!(enter(&mut receiver, "receiver").expect("CONNACK"), 0);
    assert_eq!(enter(&mut sender, "sender").expect("CONNACK"), 0);
    listen(&mut receiver, "t");
    let sizes = [0, 1, 16_383, 16_384, 70_000, 300_000, 5_000_000];
    let payload = |size: usize| -> Vec<u8> { (0..size).map(|at| (at * 7 + size) as u8).collect() };
    let sending = std::thread::spawn(move || {
        for size in sizes {
            say(&mut sender, &publish("t", &payload(size)));
        }
        for number in 0..2_000_u32 {
            sender.write_all(&publish("t", &number.to_be_bytes())).expect("the node reads");
        }
        sender.flush().expect("the node reads");
        sender
    });
    for size in sizes {
        let (first, body) = packet(&mut receiver).expect("PUBLISH");
        assert_eq!((first, body.len()), (0x30, size + 3));
        assert!(body[3..] == payload(size)[..], "{size} bytes");
    }
    for number in 0..2_000_u32 {
        assert_eq!(packet(&mut receiver).expect("PUBLISH").1[3..], number.to_be_bytes());
    }
    ping(&mut sending.join().expect("it sends"));
}

#[test]
fn a_receiver_that_stops_for_a_while_misses_nothing() {
    let world = World::new(TLS, "queue_qos0_size_max = '64MiB'");
    let mut receiver = world.tls(None);
    let mut sender = world.tls(None);
    enter(&mut receiver, "receiver").expect("CONNACK");
    enter(&mut sender, "sender").expect("CONNACK");
    listen(&mut receiver, "t");
    let payload = vec![7; 100_000];
    for _ in 0..200 {
        say(&mut sender, &publish("t", &payload));
    }
    ping(&mut sender); // all of it has arrived at the node, far more than the sockets hold
    for number in 0..200 {
        let (_, body) = packet(&mut receiver).expect("PUBLISH");
        assert!(body[3..] == payload, "message {number}");
    }
    ping(&mut receiver);
}

#[test]
fn a_session_is_resumed_by_its_ticket() {
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let world = World::new(TLS, "");
        let config = world.client_config_of(None, &[version]);
        for expected in [HandshakeKind::Full, HandshakeKind::Resumed] {
            let mut client = world.tls_with(config.clone());
            assert_eq!(enter(&mut client, "a").expect("CONNACK"), 0);
            assert_eq!(client.conn.handshake_kind(), Some(expected), "{version:?}");
        }
    }
}

#[test]
fn of_several_certificates_the_one_that_is_asked_for_is_shown() {
    let mut world = World::without_node();
    world.authority.server("server", &["localhost"]);
    world.authority.server("other", &["*.example.org", "other.test"]);
    let both =
        "tls_certificate = ['{dir}/server.pem', '{dir}/other.pem']\ntls_key = ['{dir}/server.key', '{dir}/other.key']";
    world.start("127.0.0.1:0", both, "");
    for (name, is_known) in
        [("localhost", true), ("a.example.org", true), ("other.test", true), ("unknown.test", false)]
    {
        let name = rustls::pki_types::ServerName::try_from(name).expect("a name");
        let connection = rustls::ClientConnection::new(world.client_config(None), name.clone()).expect("a connection");
        let mut client = rustls::StreamOwned::new(connection, world.tcp());
        assert_eq!(enter(&mut client, "a").is_ok(), is_known, "{name:?}");
    }
}

#[test]
fn the_last_packet_is_followed_by_close_notify() {
    let world = World::new(TLS, "");
    let mut client = world.tls(None);
    enter(&mut client, "a").expect("CONNACK");
    say(&mut client, &[0xE0, 0]); // DISCONNECT
    assert_eq!(client.read(&mut [0; 16]).expect("closed as TLS closes"), 0);
}

#[test]
fn p06_garbage_and_plain_text_are_refused_at_once_and_others_do_not_notice() {
    let world = World::new(TLS, "");
    let mut bystander = world.tls(None);
    enter(&mut bystander, "bystander").expect("CONNACK");
    let hello = {
        let mut connection = rustls::ClientConnection::new(
            world.client_config(None),
            rustls::pki_types::ServerName::try_from("localhost").expect("a name"),
        )
        .expect("a connection");
        let mut hello = Vec::new();
        connection.write_tls(&mut hello).expect("a hello");
        hello
    };
    let mut endless = hello.clone();
    endless[3..5].copy_from_slice(&[0xFF, 0xFF]); // a record larger than any may be
    let mut damaged = hello.clone();
    damaged[5] = 99;
    let tls_1_0_only = [&[22, 3, 1, 0, 45, 1, 0, 0, 41, 3, 1][..], &[7; 32], &[0, 0, 2, 0, 0x2F, 1, 0]].concat();
    for bytes in [
        crate::world::connect("a"),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n".to_vec(),
        vec![0x80, 0x2E, 1, 0, 2],
        vec![0; 64],
        [&[23, 3, 3, 0, 4][..], &[1; 4]].concat(),
        endless,
        damaged,
        tls_1_0_only,
    ] {
        let began = Instant::now();
        let mut client = world.tcp();
        client.write_all(&bytes).expect("the node reads");
        assert!(is_closed(&mut client), "{bytes:?}");
        assert!(began.elapsed() < Duration::from_secs(5), "{bytes:?}");
        ping(&mut bystander);
    }
    // Cut anywhere, it is a connection that has gone.
    for size in (0..hello.len()).step_by(7) {
        let mut client = world.tcp();
        client.write_all(&hello[..size]).expect("the node reads");
    }
    ping(&mut bystander);
}

#[test]
fn p02_a_slow_handshake_ends_in_time_and_keeps_nobody_waiting() {
    let world = World::new(TLS, "connect_timeout = '1s'");
    let mut slow: Vec<TcpStream> = (0..50).map(|_| world.tcp()).collect();
    for stream in &mut slow {
        stream.write_all(&[22, 3, 1]).expect("the node reads");
    }
    let began = Instant::now();
    let mut client = world.tls(None);
    enter(&mut client, "a").expect("CONNACK");
    assert!(began.elapsed() < Duration::from_millis(900), "a handshake among slow ones");
    for mut stream in slow {
        assert!(is_closed(&mut stream));
    }
    assert!(began.elapsed() < PATIENCE);
    ping(&mut client);
}

#[test]
fn handshakes_are_bounded_in_number_and_refused_early() {
    let world = World::new(TLS, "tls_handshakes_max = 1\nconnect_timeout = '5s'");
    // One that has sent its hello and now says nothing more.
    let mut first = world.tls(None);
    first.conn.write_tls(&mut first.sock).expect("the node reads");
    let mut answered = [0; 1];
    first.sock.read_exact(&mut answered).expect("the node answers: the handshake is under way");
    let began = Instant::now();
    assert!(enter(&mut world.tls(None), "b").is_err(), "a second one at the same time");
    assert!(began.elapsed() < Duration::from_secs(2), "refused early");
    drop(first);
    let began = Instant::now();
    while enter(&mut world.tls(None), "c").is_err() {
        assert!(began.elapsed() < PATIENCE, "the place is free again");
    }
}

#[test]
fn p03_a_peer_that_renews_its_keys_without_end_is_closed() {
    let world = World::new(TLS, "");
    let mut client = world.tls_with(world.client_config_of(None, &[&rustls::version::TLS13]));
    enter(&mut client, "a").expect("CONNACK");
    client.conn.refresh_traffic_keys().expect("a key update");
    ping(&mut client); // one is fine
    let mut refused = false;
    for _ in 0..200 {
        if client.conn.refresh_traffic_keys().is_err() || client.conn.write_tls(&mut client.sock).is_err() {
            refused = true;
            break;
        }
    }
    assert!(refused || is_closed(&mut client));
}

/// A CONNECT in early data could be sent again by whoever has recorded it: tickets do not allow any.
#[test]
fn p07_early_data_is_not_accepted() {
    let world = World::new(TLS, "");
    let mut config = (*world.client_config_of(None, &[&rustls::version::TLS13])).clone();
    config.enable_early_data = true;
    let config = std::sync::Arc::new(config);
    for round in 0..3 {
        let mut client = world.tls_with(std::sync::Arc::clone(&config));
        assert!(client.conn.early_data().is_none(), "round {round}: a ticket that allows early data");
        assert_eq!(enter(&mut client, "a").expect("CONNACK"), 0);
        ping(&mut client); // the ticket has come
        assert!(!client.conn.is_early_data_accepted());
        let kind = client.conn.handshake_kind();
        assert_eq!(kind == Some(HandshakeKind::Resumed), round > 0, "{kind:?}");
    }
}

/// A ClientHello of TLS 1.3 by hand, with these extensions beside what it needs; `grease` adds what nobody knows (RFC 8701).
fn hello(extensions: &[(u16, Vec<u8>)], grease: bool) -> Vec<u8> {
    const GREASE: [u8; 2] = [0x6A, 0x6A];
    let grease = |with: &[u8]| if grease { [&GREASE[..], with].concat() } else { with.to_vec() };
    let sized_8 = |bytes: Vec<u8>| [&[bytes.len() as u8][..], &bytes].concat();
    let sized_16 = |bytes: Vec<u8>| [&(bytes.len() as u16).to_be_bytes()[..], &bytes].concat();
    let key = [&[0, 0x1D, 0, 32, 9][..], &[0; 31]].concat(); // X25519
    let key_share = if grease(&[]).is_empty() { key } else { [&GREASE[..], &[0, 1, 0], &key].concat() };
    let mut all = vec![
        (43, sized_8(grease(&[3, 4]))),
        (10, sized_16(grease(&[0, 0x1D]))),
        (13, sized_16(vec![4, 3, 8, 4, 8, 7])),
        (51, sized_16(key_share)),
    ];
    all.extend_from_slice(extensions);
    if !grease(&[]).is_empty() {
        all.insert(0, (0x6A6A, Vec::new()));
        all.push((0xBABA, vec![0]));
    }
    let list: Vec<u8> =
        all.into_iter().flat_map(|(kind, content)| [&kind.to_be_bytes()[..], &sized_16(content)].concat()).collect();
    let body = [
        &[3, 3][..],
        &[7; 32],
        &sized_8(vec![8; 32]),
        &sized_16(grease(&[0x13, 1, 0x13, 2])),
        &[1, 0],
        &sized_16(list),
    ]
    .concat();
    let message = [&[1, 0][..], &sized_16(body)].concat();
    [&[22, 3, 1][..], &sized_16(message)].concat()
}

#[test]
fn p12_odd_hellos_are_accepted_or_refused_cleanly() {
    let world = World::new(TLS, "");
    let name = |name: &[u8]| {
        let entry = [&[0][..], &(name.len() as u16).to_be_bytes(), name].concat();
        (0, [&(entry.len() as u16).to_be_bytes()[..], &entry].concat())
    };
    let protocol = |name: &[u8]| (16, [&(name.len() as u16 + 1).to_be_bytes()[..], &[name.len() as u8], name].concat());
    const ACCEPTED: u8 = 22;
    const ALERT: u8 = 21;
    for (what, bytes, expected) in [
        ("plain", hello(&[], false), &[ACCEPTED][..]),
        ("GREASE", hello(&[], true), &[ACCEPTED]),
        ("a name", hello(&[name(b"localhost")], true), &[ACCEPTED]),
        ("another name", hello(&[name(b"elsewhere.example")], false), &[ACCEPTED]),
        ("a name of 10 KiB", hello(&[name(&[b'a'; 10 << 10])], false), &[ACCEPTED, ALERT]),
        ("an empty name", hello(&[name(b"")], false), &[ACCEPTED, ALERT]),
        ("a name that is none", hello(&[name(b"\0\xFF")], false), &[ACCEPTED, ALERT]),
        ("a list of names cut short", hello(&[(0, vec![0, 9, 0, 0, 9, b'a'])], false), &[ALERT]),
        ("ours", hello(&[protocol(b"mqtt")], false), &[ACCEPTED]),
        ("an empty protocol", hello(&[protocol(b"")], false), &[ALERT]),
        ("an extension twice", hello(&[protocol(b"mqtt"), protocol(b"mqtt")], false), &[ALERT]),
    ] {
        let mut client = world.tcp();
        client.write_all(&bytes).expect("the node reads");
        let mut record = [0; 5];
        client.read_exact(&mut record).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(expected.contains(&record[0]), "{what}: a record of type {}", record[0]);
        if record[0] == ALERT {
            assert!(is_closed(&mut client), "{what}");
        }
    }
    // Who names protocols, and not ours, is refused; who names none is let in.
    for (protocols, is_in) in [(&[&b"h2"[..], b"http/1.1"][..], false), (&[b"h2", b"mqtt"], true), (&[], true)] {
        let mut config = (*world.client_config(None)).clone();
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        let entered = enter(&mut world.tls_with(std::sync::Arc::new(config)), "a");
        assert_eq!(entered.is_ok(), is_in, "{entered:?}");
    }
}
