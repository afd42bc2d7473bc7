//! Certificates of Clients: who is let in, as whom, and what happens when the files change.

use crate::world::{Authority, Odd, PATIENCE, World, enter, is_closed, ping};
use rcgen::SanType;
use std::fs;
use std::io::Read;
use std::time::Instant;

const REQUIRED: &str = "tls_certificate = ['{dir}/server.pem']\ntls_key = ['{dir}/server.key']\nclient_auth = 'required'\nclient_ca = '{dir}/ca.pem'";

/// A node whose folder has these Clients' certificates already.
fn world(listener: &str, prepare: impl FnOnce(&Authority)) -> World {
    let mut world = World::without_node();
    world.authority.server("server", &["localhost"]);
    prepare(&world.authority);
    world.start("127.0.0.1:0", listener, "");
    world
}

fn enters(world: &World, certificate: Option<&str>) -> bool {
    enter(&mut world.tls(certificate), "a").is_ok_and(|code| code == 0)
}

#[test]
fn p04_only_good_certificates_are_let_in() {
    let world = world(REQUIRED, |authority| {
        authority.client("good", "good", Odd::default());
        authority.client("expired", "expired", Odd { expired: true, ..Odd::default() });
        authority.client("early", "early", Odd { not_yet: true, ..Odd::default() });
        authority.client("usage", "usage", Odd { for_servers: true, ..Odd::default() });
    });
    let other = Authority::new(&world.folder, "other");
    other.client("stranger", "stranger", Odd::default());
    assert!(enters(&world, Some("good")));
    for certificate in ["expired", "early", "usage", "stranger"] {
        assert!(!enters(&world, Some(certificate)), "{certificate}");
    }
    assert!(!enters(&world, None), "no certificate");
    assert!(enters(&world, Some("good")));
}

#[test]
fn a_folder_of_authorities_is_read_by_the_names_that_hashing_gives() {
    let mut world = World::without_node();
    world.authority.server("server", &["localhost"]);
    let folder = world.folder.join("authorities");
    fs::create_dir_all(&folder).expect("a folder");
    let others = ["one", "two", "three"].map(|name| {
        let authority = Authority::new(&world.folder, name);
        authority.client(&format!("of-{name}"), name, Odd::default());
        (name, fs::read(world.path(&format!("{name}.pem"))).expect("its certificate"))
    });
    for ((_, certificate), name) in others.iter().zip(["0a1b2c3d.0", "0a1b2c3d.1", "three.pem"]) {
        fs::write(folder.join(name), certificate).expect("a file");
    }
    fs::write(folder.join("0a1b2c3d.r0"), "no certificate").expect("a file");
    let listener = REQUIRED.replace("client_ca = '{dir}/ca.pem'", "client_ca_folder = '{dir}/authorities'");
    world.start("127.0.0.1:0", &listener, "");
    for (name, expected) in [("one", true), ("two", true), ("three", false)] {
        assert_eq!(enters(&world, Some(&format!("of-{name}"))), expected, "{name}");
    }
    // One goes, another comes.
    fs::remove_file(folder.join("0a1b2c3d.1")).expect("it was there");
    fs::rename(folder.join("three.pem"), folder.join("ffffffff.0")).expect("it was there");
    assert!(world.node().reload_certificates().is_empty());
    for (name, expected) in [("one", true), ("two", false), ("three", true)] {
        assert_eq!(enters(&world, Some(&format!("of-{name}"))), expected, "{name}");
    }
    // A folder without any lets nobody in, so it is not taken.
    fs::rename(folder.join("ffffffff.0"), folder.join("three.pem")).expect("it was there");
    fs::remove_file(folder.join("0a1b2c3d.0")).expect("it was there");
    let failures: Vec<String> = world.node().reload_certificates().iter().map(ToString::to_string).collect();
    assert!(
        failures.len() == 1 && failures[0].ends_with("in a file that is called by its hash; run `openssl rehash`"),
        "{failures:?}"
    );
    assert!(enters(&world, Some("of-three")));
}

#[test]
fn optional_certificates_must_be_good_when_they_are_shown() {
    let world = world(&REQUIRED.replace("required", "optional"), |authority| {
        authority.client("good", "good", Odd::default());
        authority.client("expired", "expired", Odd { expired: true, ..Odd::default() });
    });
    assert!(enters(&world, None));
    assert!(enters(&world, Some("good")));
    assert!(!enters(&world, Some("expired")));
}

#[test]
fn p08_a_ticket_is_worth_no_more_than_its_certificate() {
    let listener = format!("{REQUIRED}\nclient_crl = ['{{dir}}/crl.pem']");
    let world = world(&listener, |authority| {
        authority.client("good", "good", Odd::default());
        authority.revoke("crl.pem", &[], false);
    });
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        world.authority.revoke("crl.pem", &[], false);
        assert!(world.node().reload_certificates().is_empty());
        let config = world.client_config_of(Some("good"), &[version]);
        assert_eq!(enter(&mut world.tls_with(config.clone()), "a").expect("CONNACK"), 0);
        let mut resumed = world.tls_with(config.clone());
        assert_eq!(enter(&mut resumed, "a").expect("CONNACK"), 0);
        assert_eq!(resumed.conn.handshake_kind(), Some(rustls::HandshakeKind::Resumed));
        world.authority.revoke("crl.pem", &[0], false);
        assert!(world.node().reload_certificates().is_empty());
        assert!(enter(&mut world.tls_with(config), "a").is_err(), "{version:?}");
    }
}

#[test]
fn p05_a_new_list_closes_the_connections_of_those_that_it_revokes_and_of_nobody_else() {
    let listener = format!("{REQUIRED}\nclient_crl = ['{{dir}}/crl.pem']");
    let world = world(&listener, |authority| {
        authority.client("stays", "stays", Odd { serial: 1, ..Odd::default() });
        authority.client("leaves", "leaves", Odd { serial: 2, ..Odd::default() });
        authority.revoke("crl.pem", &[], false);
    });
    // Several of each: they live on both shards.
    let connected = |name: &'static str| -> Vec<_> {
        (0..4)
            .map(|number| {
                let mut client = world.tls(Some(name));
                assert_eq!(enter(&mut client, &format!("{name}{number}")).expect("CONNACK"), 0);
                client
            })
            .collect()
    };
    let (mut staying, mut leaving) = (connected("stays"), connected("leaves"));
    world.authority.revoke("crl.pem", &[2], false); // noticed without being told
    for client in &mut leaving {
        assert!(is_closed(client));
    }
    staying.iter_mut().for_each(ping);
    assert!(!enters(&world, Some("leaves")));
    assert!(enters(&world, Some("stays")));
}

#[test]
fn p05_a_list_that_cannot_be_used_lets_nobody_in() {
    let listener = format!("{REQUIRED}\nclient_crl = ['{{dir}}/crl.pem']");
    let mut world = World::without_node();
    world.authority.server("server", &["localhost"]);
    world.authority.client("good", "good", Odd::default());
    // Out of date, and from somebody else: the Clients of this authority are in doubt.
    world.authority.revoke("crl.pem", &[], true);
    world.start("127.0.0.1:0", &listener, "");
    assert!(!enters(&world, Some("good")), "out of date");
    Authority::new(&world.folder, "other").revoke("crl.pem", &[], false);
    assert!(world.node().reload_certificates().is_empty());
    assert!(!enters(&world, Some("good")), "from another issuer");
    // Malformed or missing: what was in force stays.
    world.authority.revoke("crl.pem", &[], false);
    assert!(world.node().reload_certificates().is_empty());
    assert!(enters(&world, Some("good")));
    for content in [&b"nonsense"[..], b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n", b""] {
        fs::write(world.path("crl.pem"), content).expect("a file");
        let failures = world.node().reload_certificates();
        assert_eq!(failures[0].file, world.path("crl.pem"), "{failures:?}");
        assert!(enters(&world, Some("good")));
    }
    fs::remove_file(world.path("crl.pem")).expect("a file");
    assert!(world.node().reload_certificates()[0].to_string().contains("there is no such file"));
}

#[test]
fn p09_new_files_come_into_force_and_bad_ones_do_not() {
    let world = world("tls_certificate = ['{dir}/server.pem']\ntls_key = ['{dir}/server.key']", |_| ());
    let shown = || {
        let mut client = world.tls(None);
        enter(&mut client, "x").expect("CONNACK");
        client.conn.peer_certificates().expect("a certificate")[0].clone()
    };
    let mut connected = world.tls(None);
    enter(&mut connected, "connected").expect("CONNACK");
    let first = shown();
    let (old_pem, old_key) =
        (fs::read(world.path("server.pem")).expect("a file"), fs::read(world.path("server.key")).expect("a file"));

    world.authority.server("server", &["localhost"]);
    let began = Instant::now();
    while shown() == first {
        assert!(began.elapsed() < PATIENCE, "the new certificate is noticed without being told");
    }
    let second = shown();
    let key = fs::read(world.path("server.key")).expect("a file");
    let pem = fs::read(world.path("server.pem")).expect("a file");
    for (file, content, why) in [
        ("server.key", &old_key[..], "not the private key of the certificate"),
        ("server.key", b"nonsense", "no private key in PEM"),
        ("server.pem", b"nonsense", "no certificate in PEM"),
        ("server.pem", &old_pem, "not the private key of the certificate"),
    ] {
        fs::write(world.path(file), content).expect("a file");
        let failures = world.node().reload_certificates();
        assert!(failures[0].to_string().contains(why), "{failures:?}");
        assert_eq!(shown(), second);
        fs::write(world.path("server.key"), &key).expect("a file");
        fs::write(world.path("server.pem"), &pem).expect("a file");
    }
    assert!(world.node().reload_certificates().is_empty());
    ping(&mut connected);
}

#[test]
fn the_client_identifier_is_bound_to_what_the_certificate_says() {
    let uri = SanType::URI("urn:device:7".try_into().expect("a URI"));
    let email = SanType::Rfc822Name("seven@example.org".try_into().expect("an address"));
    let dns = SanType::DnsName("seven.example.org".try_into().expect("a name"));
    for (identity, client_id) in [
        ("common_name", "seven"),
        ("san_dns", "seven.example.org"),
        ("san_email", "seven@example.org"),
        ("san_uri", "urn:device:7"),
        ("subject", "CN=seven"),
    ] {
        let names = vec![uri.clone(), email.clone(), dns.clone()];
        let listener = format!("{REQUIRED}\nclient_identity = '{identity}'\nclient_id_bound = true");
        let world = world(&listener, |authority| {
            authority.client("seven", "seven", Odd { names, ..Odd::default() });
            authority.client("bare", "", Odd::default());
        });
        assert_eq!(enter(&mut world.tls(Some("seven")), client_id).expect("CONNACK"), 0, "{identity}");
        assert_eq!(enter(&mut world.tls(Some("seven")), "eight").expect("CONNACK"), 2, "{identity}");
        if identity != "subject" {
            assert_eq!(enter(&mut world.tls(Some("bare")), client_id).expect("CONNACK"), 5, "{identity}");
        }
    }
}

#[test]
fn g14_names_that_mean_something_elsewhere_are_no_names() {
    let odd = ["", "a/#", "+", "a\u{0}b", "a\nb"];
    let world = world(&format!("{REQUIRED}\nclient_identity = 'common_name'"), |authority| {
        for (number, name) in odd.iter().enumerate() {
            authority.client(&format!("odd{number}"), name, Odd::default());
        }
        authority.client("long", &"x".repeat(2_000), Odd::default());
    });
    for (number, name) in odd.iter().enumerate() {
        let code = enter(&mut world.tls(Some(&format!("odd{number}"))), "a").expect("CONNACK");
        assert_eq!(code, 5, "{name:?}");
    }
    assert_eq!(enter(&mut world.tls(Some("long")), "a").expect("CONNACK"), 5);
}

#[test]
fn the_reason_is_told_before_a_connection_is_closed_for_its_certificate() {
    let listener = format!("{REQUIRED}\nclient_crl = ['{{dir}}/crl.pem']");
    let world = world(&listener, |authority| {
        authority.client("leaves", "leaves", Odd { serial: 2, ..Odd::default() });
        authority.revoke("crl.pem", &[], false);
    });
    let mut client = world.tls(Some("leaves"));
    let connect = b"\x10\x0e\0\x04MQTT\x05\x02\0\0\0\0\x01a";
    crate::world::say(&mut client, connect);
    crate::world::packet(&mut client).expect("CONNACK");
    world.authority.revoke("crl.pem", &[2], false);
    world.node().reload_certificates();
    let (first, body) = crate::world::packet(&mut client).expect("DISCONNECT");
    assert_eq!((first, body[0]), (0xE0, 0x87));
    assert_eq!(client.read(&mut [0; 16]).expect("closed as TLS closes"), 0);
}

#[test]
fn a_client_goes_to_its_home_shard_with_its_tls_and_its_certificate() {
    let listener = format!("{REQUIRED}\nclient_crl = ['{{dir}}/crl.pem']");
    let world = world(&listener, |authority| {
        authority.client("one", "one", Odd { serial: 1, ..Odd::default() });
        authority.revoke("crl.pem", &[], false);
    });
    // Of two shards, the other one accepts the second connection, and the name lives where the first one is.
    let mut first = world.tls(Some("one"));
    assert_eq!(enter(&mut first, "same").expect("CONNACK"), 0);
    let mut second = world.tls(Some("one"));
    assert_eq!(enter(&mut second, "same").expect("CONNACK"), 0);
    assert!(is_closed(&mut first), "taken over");
    crate::world::listen(&mut second, "t");
    let payload = vec![9; 200_000];
    crate::world::say(&mut second, &crate::world::publish("t", &payload));
    assert!(crate::world::packet(&mut second).expect("PUBLISH").1[3..] == payload[..]);
    world.authority.revoke("crl.pem", &[1], false);
    assert!(world.node().reload_certificates().is_empty());
    assert!(is_closed(&mut second));
}

#[test]
fn when_certificates_end_can_be_asked() {
    let world = world(REQUIRED, |_| ());
    let expiries = world.node().certificate_expiries();
    assert_eq!(expiries.len(), 2);
    assert_eq!(expiries[0].file, world.path("server.pem"));
    assert!(expiries[0].not_after_s > 1_700_000_000);
}
