//! The fuzz targets of WebSocket and the PROXY protocol, bounded and on stable: sound beginnings, and mutations of them.
//! It finds less than the targets, but it runs every time. `SEED=… CASES=… cargo test --test doors_fuzz` repeats or extends a run.

#[path = "doors_fuzz/body.rs"]
mod body;
#[path = "support/random.rs"]
#[allow(unreachable_pub, reason = "other test programs share it")]
mod random;

use random::{Random, from_environment, mutate_text};
use std::panic::{AssertUnwindSafe, catch_unwind};

const REQUEST: &str = "GET /mqtt HTTP/1.1\r\nHost: broker\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n\
Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n";

/// What requests and headers of version 1 are made of.
const WORDS: &[&str] = &[
    "\r\n",
    "\n",
    "\r\n\r\n",
    ":",
    ": ",
    ",",
    " ",
    "\0",
    "é",
    "GET ",
    "POST ",
    "/",
    "?",
    " HTTP/1.1",
    " HTTP/1.0",
    "Upgrade",
    "upgrade: WEBSOCKET\r\n",
    "Connection",
    "Origin: https://example.com\r\n",
    "Sec-WebSocket-Protocol: mqttv3.1\r\n",
    "Sec-WebSocket-Key",
    "Sec-WebSocket-Version: 8\r\n",
    "Content-Length: 1\r\n",
    "Transfer-Encoding: chunked\r\n",
    "PROXY ",
    "TCP4 ",
    "TCP6 ",
    "UNKNOWN",
    "192.0.2.1 ",
    "::1 ",
    "65536",
    "-1",
];

const PROXY: &[&[u8]] = &[
    b"PROXY TCP4 192.0.2.1 192.0.2.2 12345 1883\r\n",
    b"PROXY TCP6 2001:db8::1 2001:db8::2 12345 1883\r\n",
    b"PROXY UNKNOWN\r\n",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\xc0\0\x02\x02\x30\x39\x07\x5b",
    b"\r\n\r\n\0\r\nQUIT\n\x20\x00\0\0",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x1b\xc0\0\x02\x01\xc0\0\x02\x02\x30\x39\x07\x5b\x20\0\x0c\x07\0\0\0\0\x22\0\x04dev1",
];

#[test]
fn any_upgrade_request_is_answered_and_any_frame_is_taken_apart() {
    let seed = from_environment("SEED", 1);
    let mut random = Random::new(seed);
    check(body::websocket, &[&[0], REQUEST.as_bytes()].concat(), "a whole one");
    for _ in 0..from_environment("CASES", 100_000) {
        let mut data = if random.one_in(3) { REQUEST.as_bytes().to_vec() } else { frames(&mut random) };
        let choice = if data.starts_with(b"GET") { 0 } else { 64 + random.below(192) as u8 };
        for _ in 0..random.below(5) {
            mutate_text(&mut data, &mut random, WORDS);
        }
        data.insert(0, choice);
        check(body::websocket, &data, &format!("SEED={seed}"));
    }
}

#[test]
fn any_proxy_header_is_read_or_refused() {
    let seed = from_environment("SEED", 1);
    let mut random = Random::new(seed);
    for header in PROXY {
        check(body::proxy, header, "a whole one");
    }
    for _ in 0..from_environment("CASES", 100_000) {
        let mut data = random.pick(PROXY).to_vec();
        for _ in 0..random.below(5) {
            mutate_text(&mut data, &mut random, WORDS);
        }
        check(body::proxy, &data, &format!("SEED={seed}"));
    }
}

/// Frames as a Client sends them, most of them sound.
fn frames(random: &mut Random) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..random.below(6) {
        bytes.push([0x82, 0x02, 0x00, 0x80, 0x89, 0x8A, 0x88, 0x81][random.below(8)]);
        let size = [0, 1, 2, 5, 125, 126, 300][random.below(7)];
        match size {
            0..=125 => bytes.push(0x80 | size as u8),
            _ => {
                bytes.push(0x80 | 126);
                bytes.extend_from_slice(&(size as u16).to_be_bytes());
            }
        }
        bytes.extend(random.next().to_be_bytes().into_iter().take(4));
        bytes.extend((0..size).map(|_| random.byte()));
    }
    bytes
}

/// Says which one broke the promise.
fn check(body: fn(&[u8]), data: &[u8], whence: &str) {
    if catch_unwind(AssertUnwindSafe(|| body(data))).is_err() {
        panic!("{whence} broke a promise: {:?}", data.escape_ascii().to_string());
    }
}
