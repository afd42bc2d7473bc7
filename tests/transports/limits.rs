//! Unix sockets, PROXY headers, and how many may come from where.

use crate::world::{World, connect, enter, is_closed, packet, ping, say};
use std::io::Write;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};
use std::{fs, io};
use waypost::config::{Config, Sources};
use waypost::node::Node;

#[test]
fn a_unix_socket_is_served_with_its_mode_and_taken_away_again() {
    let mut world = World::without_node();
    let path = world.path("waypost.sock");
    // What a broker has left behind that was killed.
    drop(UnixListener::bind(&path).expect("a socket"));
    world.start("unix:{dir}/waypost.sock", "unix_mode = '0600'", "");
    assert_eq!(fs::metadata(&path).expect("it is there").permissions().mode() & 0o777, 0o600);
    let mut client = UnixStream::connect(&path).expect("it listens");
    assert_eq!(enter(&mut client, "a").expect("CONNACK"), 0);
    ping(&mut client);
    say(&mut client, &[0xE0, 0]);
    assert!(is_closed(&mut client));
    // A second broker does not take it away from the first.
    assert!(start_again(&world).is_err_and(|why| why.contains("waypost.sock")));
    ping_at(&path);
    drop(world);
    assert!(!path.exists());
}

fn ping_at(path: &std::path::Path) {
    let mut client = UnixStream::connect(path).expect("it listens");
    assert_eq!(enter(&mut client, "b").expect("CONNACK"), 0);
}

fn start_again(world: &World) -> Result<(), String> {
    let sources = Sources { file: Some(world.path("waypost.toml")), ..Sources::default() };
    let config = Config::load(&sources).expect("a valid configuration");
    Node::start(&config).map(drop).map_err(|error| error.to_string())
}

#[test]
fn t04_what_is_no_socket_is_not_replaced() {
    let world = World::without_node();
    let file = world.path("waypost.toml");
    let path = world.path("waypost.sock");
    fs::write(&file, format!("[[listener]]\naddress = 'unix:{}'\n", path.display())).expect("a file");
    fs::write(world.path("precious"), "precious").expect("a file");
    std::os::unix::fs::symlink(world.path("precious"), &path).expect("a link");
    assert!(start_again(&world).is_err_and(|why| why.contains("no socket")));
    fs::remove_file(&path).expect("a link");
    fs::write(&path, "precious").expect("a file");
    assert!(start_again(&world).is_err_and(|why| why.contains("no socket")));
    assert_eq!(fs::read(&path).expect("it is there"), b"precious");
}

const PROXIED: &str = "proxy_protocol = true\nproxy_trusted = ['127.0.0.1']";

fn binary(command: u8, body: &[u8]) -> Vec<u8> {
    [b"\r\n\r\n\0\r\nQUIT\n", &[0x20 | command, 0x11][..], &(body.len() as u16).to_be_bytes(), body].concat()
}

const ADDRESSES: [u8; 12] = [192, 0, 2, 7, 192, 0, 2, 2, 0x30, 0x39, 0x07, 0x5B];

#[test]
fn q12_a_trusted_proxy_says_whom_it_speaks_for() {
    let world = World::new(PROXIED, "");
    let text = b"PROXY TCP4 192.0.2.1 192.0.2.2 12345 1883\r\n".to_vec();
    for header in [text, b"PROXY UNKNOWN\r\n".to_vec(), binary(1, &ADDRESSES), binary(0, &[])] {
        let mut client = world.tcp();
        say(&mut client, &[header.clone(), connect("a")].concat()); // MQTT may follow in the same segment
        assert_eq!(packet(&mut client).expect("CONNACK"), (0x20, vec![0, 0]));
        ping(&mut client);
        let mut client = world.tcp();
        for byte in header {
            say(&mut client, &[byte]);
        }
        assert_eq!(enter(&mut client, "a").expect("CONNACK"), 0);
    }
    for header in [
        connect("a"),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        b"PROXY TCP4 nonsense\r\n".to_vec(),
        binary(1, &ADDRESSES[..4]),
        binary(1, &[&ADDRESSES[..], &[4, 0, 99, 1]].concat()),
        [&b"\r\n\r\n\0\r\nQUIT\n"[..], &[0x21, 0x11, 0xFF, 0xFF, 1]].concat(),
    ] {
        let began = Instant::now();
        let mut client = world.tcp();
        say(&mut client, &header);
        assert!(is_closed(&mut client), "{header:?}");
        assert!(began.elapsed() < Duration::from_secs(5), "{header:?}");
    }
}

#[test]
fn q12_others_are_not_believed() {
    let world = World::new("proxy_protocol = true\nproxy_trusted = ['192.0.2.0/24']", "");
    let mut client = world.tcp();
    let _ = client.write_all(b"PROXY TCP4 192.0.2.1 192.0.2.2 12345 1883\r\n");
    assert!(is_closed(&mut client));
}

#[test]
fn behind_a_proxy_come_tls_and_websocket() {
    let tls = "tls_certificate = ['{dir}/server.pem']\ntls_key = ['{dir}/server.key']";
    let world = World::new(&format!("{PROXIED}\n{tls}"), "");
    let mut client = world.tls(None);
    say(&mut client.sock, &binary(1, &ADDRESSES));
    assert_eq!(enter(&mut client, "a").expect("CONNACK"), 0);
    ping(&mut client);
    let world = World::new(&format!("{PROXIED}\nprotocol = 'websocket'"), "");
    let mut client = world.tcp();
    say(&mut client, b"PROXY UNKNOWN\r\nGET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n");
    let mut answer = [0; 12];
    io::Read::read_exact(&mut client, &mut answer).expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 101");
}

#[test]
fn the_name_in_a_certificate_that_a_proxy_has_checked_lets_in() {
    let identity = "client_identity = 'common_name'\nclient_id_bound = true\nauthentication = ['certificate']\nallow_anonymous = false";
    let world = World::new(&format!("{PROXIED}\n{identity}"), "");
    let through = |name: Option<&[u8]>| {
        let tls = name.map(|name| [&[7, 0, 0, 0, 0, 0x22, 0, name.len() as u8][..], name].concat()).unwrap_or_default();
        let field = if tls.is_empty() { Vec::new() } else { [&[0x20, 0, tls.len() as u8][..], &tls].concat() };
        let mut client = world.tcp();
        say(&mut client, &binary(1, &[&ADDRESSES[..], &field].concat()));
        client
    };
    assert_eq!(enter(&mut through(Some(b"seven")), "seven").expect("CONNACK"), 0);
    assert_eq!(enter(&mut through(Some(b"seven")), "eight").expect("CONNACK"), 2);
    assert_eq!(enter(&mut through(Some(b"a/#")), "a/#").expect("CONNACK"), 5);
    assert_eq!(enter(&mut through(None), "seven").expect("CONNACK"), 5);
}

#[test]
fn connections_of_one_address_are_bounded_and_behind_a_proxy_it_is_the_clients() {
    let world = World::new("", "connections_per_address_max = 2");
    let enters = |stream: &mut TcpStream, name: &str| enter(stream, name).is_ok();
    let (mut one, mut two, mut three) = (world.tcp(), world.tcp(), world.tcp());
    assert!(enters(&mut one, "one") && enters(&mut two, "two"));
    assert!(!enters(&mut three, "three"));
    drop(one);
    let began = Instant::now();
    while !enters(&mut world.tcp(), "four") {
        assert!(began.elapsed() < Duration::from_secs(5), "the place is free again");
    }
    let world = World::new(PROXIED, "connections_per_address_max = 1");
    let through = |address: &str| {
        let mut client = world.tcp();
        say(&mut client, format!("PROXY TCP4 {address} 192.0.2.2 1 1883\r\n").as_bytes());
        let is_in = enter(&mut client, address).is_ok();
        (client, is_in)
    };
    let (_first, is_in) = through("192.0.2.1");
    assert!(is_in);
    assert!(!through("192.0.2.1").1);
    assert!(through("192.0.2.3").1);
}

#[test]
fn who_comes_too_fast_waits() {
    let world = World::new("", "connect_rate_max = 20");
    let began = Instant::now();
    for number in 0..50 {
        assert_eq!(enter(&mut world.tcp(), &format!("c{number}")).expect("CONNACK"), 0);
    }
    assert!(began.elapsed() >= Duration::from_secs(1), "a burst of twenty, and thirty more at twenty a second");
}
