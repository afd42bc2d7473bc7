//! WebSocket: the upgrade, frames in every form, and MQTT that does not care how it is cut.

use crate::world::{Odd, World, connect, enter, is_closed, listen, packet, ping, publish, say};
use std::io::{self, Read, Write};
use std::time::{Duration, Instant};
use tungstenite::client::IntoClientRequest;
use tungstenite::http::HeaderValue;
use tungstenite::{Message, WebSocket};

const WEBSOCKET: &str = "protocol = 'websocket'";

const HEADERS: &str = "Host: localhost\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n\
     Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
const SUBPROTOCOL: &str = "Sec-WebSocket-Protocol: mqtt\r\n";

fn request(line: &str, more: &str) -> Vec<u8> {
    format!("{line}\r\n{HEADERS}{more}\r\n").into_bytes()
}

fn good_request() -> Vec<u8> {
    request("GET /mqtt HTTP/1.1", SUBPROTOCOL)
}

/// The head of an HTTP answer.
fn answer(stream: &mut impl Read) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).is_ok() {
        head.push(byte[0]);
    }
    String::from_utf8(head).expect("text")
}

/// A stream after its upgrade.
fn upgraded<S: Read + Write>(mut stream: S) -> S {
    say(&mut stream, &good_request());
    assert!(answer(&mut stream).starts_with("HTTP/1.1 101 "));
    stream
}

/// A masked frame.
fn frame(first: u8, content: &[u8]) -> Vec<u8> {
    crate::frame::frame(first, content, [0x11, 0x22, 0x33, 0x44])
}

/// First byte and content of the next frame.
fn next_frame(stream: &mut impl Read) -> io::Result<(u8, Vec<u8>)> {
    let mut header = [0; 2];
    stream.read_exact(&mut header)?;
    assert_eq!(header[1] & 0x80, 0, "a server masks nothing");
    let size = match header[1] {
        126 => {
            let mut size = [0; 2];
            stream.read_exact(&mut size)?;
            u64::from(u16::from_be_bytes(size))
        }
        127 => {
            let mut size = [0; 8];
            stream.read_exact(&mut size)?;
            u64::from_be_bytes(size)
        }
        size => u64::from(size),
    };
    let mut content = vec![0; size as usize];
    stream.read_exact(&mut content)?;
    Ok((header[0], content))
}

/// The code with which the node closes this.
fn close_code(stream: &mut impl Read) -> Option<u16> {
    loop {
        match next_frame(stream) {
            Ok((0x88, content)) => return Some(u16::from_be_bytes([content[0], content[1]])),
            Ok(_) => {}
            Err(_) => return None,
        }
    }
}

/// Another implementation's Client, as a stream of bytes.
struct Other<S>(WebSocket<S>, Vec<u8>);

impl<S: Read + Write> Other<S> {
    fn new(stream: S, subprotocol: &str) -> Self {
        let mut request = "ws://localhost/mqtt".into_client_request().expect("a request");
        let subprotocol = HeaderValue::from_str(subprotocol).expect("a header");
        request.headers_mut().insert("sec-websocket-protocol", subprotocol);
        let (socket, _) = tungstenite::client(request, stream).map_err(|_| "refused").expect("an upgrade");
        Self(socket, Vec::new())
    }
}

impl<S: Read + Write> Read for Other<S> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.1.is_empty() {
            match self.0.read().map_err(io::Error::other)? {
                Message::Binary(content) => self.1.extend_from_slice(&content),
                Message::Close(_) => return Ok(0),
                _ => {}
            }
        }
        let count = out.len().min(self.1.len());
        out[..count].copy_from_slice(&self.1[..count]);
        self.1.drain(..count);
        Ok(count)
    }
}

impl<S: Read + Write> Write for Other<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(Message::binary(bytes.to_vec())).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().map_err(io::Error::other)
    }
}

/// CONNECT of 5.0, as that of 3.1.1 in `world.rs`.
const CONNECT_V5: &[u8] = b"\x10\x0e\0\x04MQTT\x05\x02\0\0\0\0\x01a";

#[test]
fn mqtt_6_0_0_4_the_subprotocol_is_selected() {
    the_subprotocol_is_selected();
}

#[test]
fn mqtt311_6_0_0_4_the_subprotocol_is_selected() {
    the_subprotocol_is_selected();
}

fn the_subprotocol_is_selected() {
    let world = World::new(WEBSOCKET, "");
    for (offered, selected) in [
        ("mqtt", Some("mqtt")),
        ("chat, mqttv3.1 ,mqtt", Some("mqtt")),
        ("mqttv3.1", Some("mqttv3.1")),
        ("mqttv5", None),
        ("", None),
    ] {
        let mut stream = world.tcp();
        say(&mut stream, &request("GET /mqtt HTTP/1.1", &format!("Sec-WebSocket-Protocol: {offered}\r\n")));
        let answer = answer(&mut stream);
        match selected {
            Some(selected) => {
                assert!(answer.starts_with("HTTP/1.1 101 "), "{offered}: {answer}");
                assert!(answer.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{answer}");
                assert!(answer.contains(&format!("Sec-WebSocket-Protocol: {selected}\r\n")), "{offered}: {answer}");
                assert!(!answer.to_lowercase().contains("extensions"), "{answer}");
            }
            None => {
                assert!(answer.starts_with("HTTP/1.1 400 "), "{offered}: {answer}");
                assert!(is_closed(&mut stream));
            }
        }
    }
}

#[test]
fn other_implementations_talk_through_it_and_messages_of_all_sizes_pass() {
    let world = World::new(WEBSOCKET, "");
    let mut receiver = Other::new(world.tcp(), "mqtt");
    let mut sender = Other::new(world.tcp(), "mqttv3.1");
    assert_eq!(enter(&mut receiver, "receiver").expect("CONNACK"), 0);
    assert_eq!(enter(&mut sender, "sender").expect("CONNACK"), 0);
    listen(&mut receiver, "t");
    for size in [0, 100, 125, 126, 65_535, 65_536, 1_000_000] {
        let payload: Vec<u8> = (0..size).map(|at| (at * 31) as u8).collect();
        say(&mut sender, &publish("t", &payload));
        assert!(packet(&mut receiver).expect("PUBLISH").1[3..] == payload[..], "{size} bytes");
    }
    receiver.0.send(Message::Ping(b"are you there".to_vec().into())).expect("it is sent");
    ping(&mut receiver);
}

#[test]
fn over_tls_it_is_the_same() {
    let tls = "tls_certificate = ['{dir}/server.pem']\ntls_key = ['{dir}/server.key']\nclient_auth = 'required'\nclient_ca = '{dir}/ca.pem'";
    let mut world = World::without_node();
    world.authority.server("server", &["localhost"]);
    world.authority.client("good", "good", Odd::default());
    world.authority.client("expired", "expired", Odd { expired: true, ..Odd::default() });
    world.start("127.0.0.1:0", &format!("{WEBSOCKET}\n{tls}"), "");
    let config = |name| {
        let mut config = (*world.client_config(Some(name))).clone();
        config.alpn_protocols = vec![b"http/1.1".to_vec()]; // as browsers do
        std::sync::Arc::new(config)
    };
    let mut receiver = Other::new(world.tls_with(config("good")), "mqtt");
    let mut sender = Other::new(world.tls_with(config("good")), "mqtt");
    enter(&mut receiver, "receiver").expect("CONNACK");
    enter(&mut sender, "sender").expect("CONNACK");
    listen(&mut receiver, "t");
    let payload: Vec<u8> = (0..3_000_000).map(|at| (at * 31) as u8).collect();
    say(&mut sender, &publish("t", &payload));
    assert!(packet(&mut receiver).expect("PUBLISH").1[3..] == payload[..]);
    // P04 is the same behind WebSocket.
    let mut refused = world.tls_with(config("expired"));
    assert!(refused.write_all(&good_request()).and_then(|()| refused.read_exact(&mut [0])).is_err());
}

#[test]
fn mqtt_6_0_0_2_q02_packets_need_not_align_with_frames() {
    packets_need_not_align_with_frames(CONNECT_V5);
}

#[test]
fn mqtt311_6_0_0_2_q02_packets_need_not_align_with_frames() {
    packets_need_not_align_with_frames(&connect("a"));
}

fn packets_need_not_align_with_frames(connect: &[u8]) {
    let world = World::new(WEBSOCKET, "");
    // Each byte in a frame of its own, empty ones and a Ping in between.
    let mut client = upgraded(world.tcp());
    let packets = [connect, &[0xC0, 0]].concat();
    for (at, byte) in packets.iter().enumerate() {
        say(&mut client, &frame(0x82, &[*byte]));
        say(&mut client, &frame(0x82, &[]));
        if at == 3 {
            say(&mut client, &frame(0x89, b"hello"));
        }
    }
    let mut content = Vec::new();
    let mut pong = None;
    while !content.ends_with(&[0xD0, 0]) {
        match next_frame(&mut client).expect("a frame") {
            (0x82, part) => content.extend(part),
            (0x8A, part) => pong = Some(part),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(content[0], 0x20);
    assert_eq!(pong.as_deref(), Some(&b"hello"[..]));
    // All in one frame; and one message over several frames, a Ping between them, cut anywhere on the wire.
    let mut client = upgraded(world.tcp());
    say(&mut client, &frame(0x82, &packets));
    let mut bytes = frame(0x02, &[0xC0]);
    bytes.extend(frame(0x00, &[]));
    bytes.extend(frame(0x89, b""));
    bytes.extend(frame(0x80, &[0]));
    for byte in bytes {
        say(&mut client, &[byte]);
    }
    let mut content = Vec::new();
    while !content.ends_with(&[0xD0, 0, 0xD0, 0]) {
        if let (0x82, part) = next_frame(&mut client).expect("a frame") {
            content.extend(part);
        }
    }
    assert_eq!(content[0], 0x20);
}

#[test]
fn mqtt_6_0_0_1_q01_text_is_refused() {
    text_is_refused(CONNECT_V5);
}

#[test]
fn mqtt311_6_0_0_1_q01_text_is_refused() {
    text_is_refused(&connect("a"));
}

fn text_is_refused(connect: &[u8]) {
    let world = World::new(WEBSOCKET, "");
    let mut client = upgraded(world.tcp());
    say(&mut client, &frame(0x81, connect));
    assert_eq!(close_code(&mut client), Some(1003));
    assert!(is_closed(&mut client));
}

#[test]
fn q03_q05_frames_that_break_the_rules_close_the_connection() {
    let world = World::new(WEBSOCKET, "");
    let unmasked = [&[0x82, 14][..], &connect("a")[..14]].concat();
    let lying = [&[0x82, 0xFF][..], &(1_u64 << 63).to_be_bytes(), &[0; 4]].concat();
    for (bytes, code) in [
        (unmasked, 1002),
        (lying, 1009),
        (frame(0xC2, b"x"), 1002),
        (frame(0xA2, b"x"), 1002),
        (frame(0x83, b"x"), 1002),
        (frame(0x8B, b"x"), 1002),
        (frame(0x80, b"x"), 1002),                                     // continues nothing
        ([frame(0x02, b"\x10"), frame(0x82, b"\x0d")].concat(), 1002), // begins within another
        (frame(0x09, b"x"), 1002),                                     // a control frame in parts
        (frame(0x89, &[0; 126]), 1002),                                // and a long one
        (frame(0x88, b"\x03"), 1002),                                  // half a code
        (frame(0x88, b"\x03\xED"), 1002),                              // 1005 is never said
        (frame(0x88, &[0x03, 0xE8, 0xFF]), 1002),                      // a reason that is no UTF-8
        (frame(0x88, b"\x03\xE8bye"), 1000),
        (frame(0x88, b"\x0F\xA0"), 4000),
        (frame(0x88, b""), 1000),
    ] {
        let mut client = upgraded(world.tcp());
        say(&mut client, &bytes);
        assert_eq!(close_code(&mut client), Some(code), "{bytes:?}");
        assert!(is_closed(&mut client), "{bytes:?}");
    }
}

#[test]
fn the_end_of_mqtt_is_the_end_of_websocket() {
    let world = World::new(WEBSOCKET, "");
    let mut client = upgraded(world.tcp());
    say(&mut client, &frame(0x82, &connect("a")));
    assert_eq!(next_frame(&mut client).expect("CONNACK").1, [0x20, 2, 0, 0]);
    say(&mut client, &frame(0x82, &[0xE0, 0]));
    assert_eq!(close_code(&mut client), Some(1000));
    assert!(is_closed(&mut client));
    // A CONNECT that is refused is answered first.
    let mut client = upgraded(world.tcp());
    let mut unknown = connect("a");
    unknown[8] = 9;
    say(&mut client, &frame(0x82, &unknown));
    assert_eq!(next_frame(&mut client).expect("CONNACK").1[..2], [0x20, 2]);
    assert_eq!(close_code(&mut client), Some(1000));
}

#[test]
fn q04_a_million_empty_continuations_do_no_harm() {
    let world = World::new(WEBSOCKET, "");
    let mut client = upgraded(world.tcp());
    say(&mut client, &frame(0x02, &connect("a")));
    let many = frame(0x00, &[]).repeat(10_000);
    for _ in 0..100 {
        say(&mut client, &many);
    }
    say(&mut client, &frame(0x80, &[0xC0, 0]));
    assert_eq!(next_frame(&mut client).expect("CONNACK").1, [0x20, 2, 0, 0]);
    assert_eq!(next_frame(&mut client).expect("PINGRESP").1, [0xD0, 0]);
}

#[test]
fn q07_pings_of_somebody_who_never_reads_are_bounded() {
    let world = World::new(WEBSOCKET, "");
    let mut client = upgraded(world.tcp());
    say(&mut client, &frame(0x82, &connect("a")));
    let many = frame(0x89, &[7; 125]).repeat(1_000);
    for _ in 0..100 {
        say(&mut client, &many);
    }
    say(&mut client, &frame(0x82, &[0xC0, 0]));
    let mut answered = 0;
    loop {
        match next_frame(&mut client).expect("a frame") {
            (0x8A, content) => {
                assert_eq!(content, [7; 125]);
                answered += 1;
            }
            (_, content) if content == [0xD0, 0] => break,
            _ => {}
        }
    }
    assert!((1..=100_000).contains(&answered));
}

#[test]
fn q06_compression_is_not_negotiated() {
    let world = World::new(WEBSOCKET, "");
    let mut client = world.tcp();
    let offer = format!("{SUBPROTOCOL}Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n");
    say(&mut client, &request("GET / HTTP/1.1", &offer));
    assert!(!answer(&mut client).to_lowercase().contains("deflate"));
    say(&mut client, &frame(0xC2, b"x"));
    assert_eq!(close_code(&mut client), Some(1002));
}

#[test]
fn q08_bad_requests_are_answered_at_once() {
    let world = World::new(&format!("{WEBSOCKET}\nwebsocket_path = '/mqtt'"), "");
    let get = |headers: &str| format!("GET /mqtt HTTP/1.1\r\n{headers}\r\n").into_bytes();
    let without = |name: &str| {
        let kept: String = format!("{HEADERS}{SUBPROTOCOL}")
            .lines()
            .filter(|line| !line.starts_with(name))
            .map(|line| format!("{line}\r\n"))
            .collect();
        get(&kept)
    };
    let many = (0..10_000).map(|number| format!("X-{number}: y\r\n")).collect::<String>();
    for (request, status) in [
        (request("GET /other HTTP/1.1", SUBPROTOCOL), "404"),
        (request("GET /mqtt HTTP/1.0", SUBPROTOCOL), "400"),
        (request("POST /mqtt HTTP/1.1", SUBPROTOCOL), "400"),
        (request("GET /mqtt HTTP/1.1", &format!("{SUBPROTOCOL}Content-Length: 5\r\n")), "400"),
        (
            request("GET /mqtt HTTP/1.1", &format!("{SUBPROTOCOL}Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n")),
            "400",
        ),
        (without("Upgrade"), "426"),
        (without("Connection"), "426"),
        (without("Sec-WebSocket-Version"), "426"),
        (without("Sec-WebSocket-Key"), "400"),
        (without("Sec-WebSocket-Protocol"), "400"),
        (get(&many), "431"),
        (get(&format!("X: {}\r\n", "y".repeat(1 << 20))), "431"),
        (b"NONSENSE\r\n\r\n".to_vec(), "400"),
        (b"GET /mqtt HTTP/1.1\r\nA: \x01\x02\r\n\r\n".to_vec(), "400"),
    ] {
        let mut client = world.tcp();
        let began = Instant::now();
        let _ = client.write_all(&request); // the answer may come before all of it is sent
        let answer = answer(&mut client);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{status}: {answer}");
        assert!(began.elapsed() < Duration::from_secs(2), "{status}");
        assert!(is_closed(&mut client));
    }
    // Who speaks something else gets no HTTP.
    for bytes in [connect("a"), vec![0x16, 3, 1, 0, 5]] {
        let mut client = world.tcp();
        say(&mut client, &bytes);
        let mut answer = Vec::new();
        let _ = client.read_to_end(&mut answer);
        assert_eq!(answer, b"");
    }
    let mut good = world.tcp();
    say(&mut good, &good_request());
    assert!(answer(&mut good).starts_with("HTTP/1.1 101 "));
}

#[test]
fn q08_a_request_that_never_ends_is_closed_in_time() {
    let world = World::new(WEBSOCKET, "connect_timeout = '500ms'");
    let mut client = world.tcp();
    say(&mut client, b"GET /mqtt HTTP/1.1\r\nHost: a");
    let began = Instant::now();
    assert!(is_closed(&mut client));
    assert!(began.elapsed() < Duration::from_secs(5));
    // A request byte by byte is a request.
    let mut client = world.tcp();
    for byte in good_request() {
        say(&mut client, &[byte]);
    }
    assert!(answer(&mut client).starts_with("HTTP/1.1 101 "));
}

#[test]
fn q09_web_pages_of_others_are_kept_out() {
    let status = |world: &World, origin: &str| {
        let mut client = world.tcp();
        say(&mut client, &request("GET /mqtt HTTP/1.1", &format!("{SUBPROTOCOL}{origin}")));
        answer(&mut client)[9..12].to_owned()
    };
    let ours = "Origin: https://ours.example\r\n";
    let world = World::new(&format!("{WEBSOCKET}\nwebsocket_origins = ['https://ours.example']"), "");
    for (origin, expected) in [
        (ours, "101"),
        ("Origin: https://other.example\r\n", "403"),
        ("Origin: https://ours.example.org\r\n", "403"),
        ("Origin: null\r\n", "403"),
        ("", "403"),
        ("Origin: https://ours.example\r\nOrigin: https://other.example\r\n", "403"),
    ] {
        assert_eq!(status(&world, origin), expected, "{origin}");
    }
    let world = World::new(&format!("{WEBSOCKET}\nwebsocket_origins = ['https://ours.example', 'none']"), "");
    assert_eq!((status(&world, "").as_str(), status(&world, "Origin: null\r\n").as_str()), ("101", "403"));
}

/// What a peer says about where it comes from is not believed, whatever the header is called: for that there is the PROXY
/// protocol, and a list of those who may speak it.
#[test]
fn q10_a_forwarded_address_is_not_believed() {
    let headers = [
        "X-Forwarded-For: 192.0.2.1\r\n",
        "X-Forwarded-For: 192.0.2.2, 127.0.0.1\r\n",
        "X-Forwarded-For: 192.0.2.3\r\nX-Forwarded-For: 192.0.2.4\r\n",
        "X-Real-IP: 192.0.2.5\r\n",
        "Forwarded: for=192.0.2.6;by=127.0.0.1\r\n",
        "X-Forwarded-For: \r\n",
    ];
    let status = |stream: &mut std::net::TcpStream, header: &str| {
        say(stream, &request("GET /mqtt HTTP/1.1", &format!("{SUBPROTOCOL}{header}")));
        answer(stream)
    };
    // All of them are the same address, of which there may be two.
    let world = World::new(WEBSOCKET, "connections_per_address_max = 2");
    let mut taken = [world.tcp(), world.tcp()];
    for (stream, header) in taken.iter_mut().zip(headers) {
        assert!(status(stream, header).starts_with("HTTP/1.1 101 "), "{header}");
    }
    for header in headers {
        let mut third = world.tcp();
        let _ = third.write_all(&request("GET /mqtt HTTP/1.1", &format!("{SUBPROTOCOL}{header}")));
        assert!(is_closed(&mut third), "{header}");
    }
    // Behind a trusted proxy it is the address that the proxy says in its own words.
    let proxied = format!("{WEBSOCKET}\nproxy_protocol = true\nproxy_trusted = ['127.0.0.1']");
    let world = World::new(&proxied, "connections_per_address_max = 1");
    let through = |address: &str, header: &str| {
        let mut stream = world.tcp();
        say(&mut stream, format!("PROXY TCP4 {address} 192.0.2.100 1 8083\r\n").as_bytes());
        let _ = stream.write_all(&request("GET /mqtt HTTP/1.1", &format!("{SUBPROTOCOL}{header}")));
        let mut first = [0; 12];
        let is_in = stream.read_exact(&mut first).is_ok() && &first == b"HTTP/1.1 101";
        (stream, is_in)
    };
    let (_first, is_in) = through("192.0.2.1", headers[0]);
    assert!(is_in);
    for header in headers {
        assert!(!through("192.0.2.1", header).1, "{header}");
    }
    assert!(through("192.0.2.2", headers[0]).1, "another Client, though the header names the first one");
}

#[test]
fn q11_an_upgrade_where_there_is_no_websocket() {
    // A listener of WebSocket has its path, and all others are nowhere.
    let world = World::new(&format!("{WEBSOCKET}\nwebsocket_path = '/elsewhere'"), "");
    for _ in 0..10 {
        let mut client = world.tcp();
        say(&mut client, &good_request());
        assert!(answer(&mut client).starts_with("HTTP/1.1 404 "));
        assert!(is_closed(&mut client));
    }
    // One of MQTT knows no HTTP, with or without TLS, and says nothing that a browser could take for an answer.
    let world = World::new("", "");
    for _ in 0..10 {
        let mut client = world.tcp();
        say(&mut client, &good_request());
        let mut said = Vec::new();
        let _ = client.read_to_end(&mut said);
        assert!(said.is_empty(), "{said:?}");
    }
    assert_eq!(enter(&mut world.tcp(), "a").expect("CONNACK"), 0);
    let world = World::new("tls_certificate = ['{dir}/server.pem']\ntls_key = ['{dir}/server.key']", "");
    let mut client = world.tls(None);
    let _ = client.write_all(&good_request());
    let mut said = Vec::new();
    let _ = client.read_to_end(&mut said);
    assert!(said.is_empty(), "{said:?}");
    assert_eq!(enter(&mut world.tls(None), "a").expect("CONNACK"), 0);
}
