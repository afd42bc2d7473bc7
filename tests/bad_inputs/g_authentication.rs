//! G: authentication, in the built binary with a password file, tokens, SCRAM or a service that is asked.
//!
//! G14 needs TLS: it stands with those who do that.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use aws_lc_rs::{digest, hmac, pbkdf2};
use base64ct::{Base64, Encoding};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use waypost::access::password::{Hash, Scheme};

use crate::broker::{Broker, Profile};
use crate::client::{Client, PATIENCE, prompt};
use crate::packet::{Connect, Place, Version, code, connect, property, publish, will};
use crate::rules::{Scene, load, rounds, unique};

each_version! {
    g02_anonymous_off,
    g04_password_bytes,
    g06_authenticator_fails,
    g06_keys_at_a_url,
    g07_bad_tokens,
    g08_token_runs_out,
    g09_parameter_injection,
    g10_guessing,
    g11_failed_connect_does_nothing,
    g15_account_removed_or_changed,
    g16_slow_authenticator,
    g17_hot_reload_of_credentials,
}

only_v5! {
    g12_re_authentication,
    g13_auth_flood,
    b15_traffic_during_scram,
}

// Return codes of 3.1.1.
const SERVER_UNAVAILABLE: u8 = 3;
const BAD_USER_NAME_OR_PASSWORD: u8 = 4;
const NOT_AUTHORIZED: u8 = 5;

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

/// The code of this version.
fn either(version: Version, v5: u8, v311: u8) -> u8 {
    if version.is_v5() { v5 } else { v311 }
}

fn wrong(version: Version) -> u8 {
    either(version, code::BAD_USER_NAME_OR_PASSWORD, BAD_USER_NAME_OR_PASSWORD)
}

/// A folder for what a broker judges by.
pub(crate) struct Files(PathBuf);

impl Files {
    pub(crate) fn new() -> Self {
        let folder = std::env::temp_dir().join(unique("waypost-bad-inputs-g"));
        fs::create_dir_all(&folder).expect("the temporary folder can be written");
        Self(folder)
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        // As a whole, as `waypost passwd` does it.
        fs::write(self.0.join("beside"), content).expect("the temporary folder can be written");
        fs::rename(self.0.join("beside"), self.0.join(name)).expect("the temporary folder can be written");
        self.path(name)
    }

    /// Users whose password is `right`.
    pub(crate) fn users(&self, names: &[&str], iterations: u32) -> String {
        self.write("passwd", lines(names, "right", iterations))
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        // What cannot be removed stays where the system cleans up.
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn lines(names: &[&str], password: &str, iterations: u32) -> String {
    let line = |name: &&str| {
        let hash = Hash::create(Scheme::Pbkdf2, password.as_bytes(), Some(iterations)).expect("a good password");
        format!("{name}:{hash}\n")
    };
    names.iter().map(line).collect()
}

/// A profile whose listener asks for passwords, and lets in the innocents, who have none.
pub(crate) fn by_password(profile: &mut Profile, file: &str) {
    profile.set("[listener].authentication", ["password"]).set("password.file", file);
    profile.set("limits.failed_logins_max", 1_000_000);
}

pub(crate) fn with(version: Version, client_id: &str, user: &str, password: impl AsRef<[u8]>) -> Connect {
    Connect {
        user_name: Some(user.as_bytes().to_vec()),
        password: Some(password.as_ref().to_vec()),
        ..connect(version, client_id)
    }
}

/// What a CONNECT is answered by; the connection ends after a refusal.
#[track_caller]
fn answer(mut client: Client, connect: &Connect) -> u8 {
    let answer = client.send(&connect.bytes()).receive_connack().code;
    if answer == 0 {
        client.disconnect();
    } else {
        client.expect_close();
    }
    answer
}

/// Without any configuration nobody but this machine is served.
#[test]
fn g01_nothing_configured() {
    let files = Files::new();
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
    let port = free.local_addr().expect("it is bound").port();
    drop(free);
    let mut command = Command::new(env!("CARGO_BIN_EXE_waypost"));
    command.args(["-p", &port.to_string(), "--data-dir", &files.path("data")]);
    let mut child = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().expect("the binary runs");
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let deadline = Instant::now() + PATIENCE;
    while std::net::TcpStream::connect(address).is_err() && Instant::now() < deadline {
        thread::yield_now();
    }
    // Its listening sockets: address and port in hexadecimal, state 0A.
    let here = format!("0100007F:{port:04X}");
    let sockets = ["tcp", "tcp6"].map(|table| fs::read_to_string(format!("/proc/net/{table}")).unwrap_or_default());
    let sockets: Vec<String> = sockets
        .iter()
        .flat_map(|table| table.lines())
        .map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        .filter(|fields| fields.get(3).is_some_and(|state| state == "0A"))
        .filter_map(|fields| fields.get(1).cloned())
        .filter(|local| local.ends_with(&format!(":{port:04X}")))
        .collect();
    let served = Client::open(address, Version::V5);
    let answer = answer(served, &connect(Version::V5, "g01"));
    let _ = child.kill();
    let _ = child.wait();
    assert_eq!((sockets, answer), (vec![here], 0));
}

fn g02_anonymous_off(version: Version) {
    let files = Files::new();
    let mut profile = Profile::test();
    by_password(&mut profile, &files.users(&["alice"], 100));
    profile.set("[listener].allow_anonymous", false);
    let broker = Broker::start(&profile);
    let refused = either(version, code::NOT_AUTHORIZED, NOT_AUTHORIZED);
    let plain = connect(version, "g02");
    for _ in 0..rounds(10) {
        let open = || Client::open(broker.address(), version);
        assert_eq!(answer(open(), &plain), refused);
        for user in ["", "alice", "nobody"] {
            let named = Connect { user_name: Some(user.as_bytes().to_vec()), ..plain.clone() };
            assert_eq!(answer(open(), &named), wrong(version), "{user:?}");
        }
        assert_eq!(answer(open(), &with(version, "g02", "", "")), wrong(version));
        assert_eq!(answer(open(), &with(version, "g02", "alice", "right")), 0);
    }
    assert!(!broker.log().contains("panicked at"));
}

/// The time of a refusal does not tell whether the user exists.
#[test]
fn g03_telling_users_apart() {
    let files = Files::new();
    let mut profile = Profile::test();
    by_password(&mut profile, &files.users(&["alice", "bob"], 2_000));
    let broker = Broker::start(&profile);
    let times = |user: &str| {
        let mut client = Client::open(broker.address(), Version::V5);
        let begun = Instant::now();
        client.send(&with(Version::V5, "g03", user, "wrong").bytes());
        assert_eq!(client.receive_connack().code, code::BAD_USER_NAME_OR_PASSWORD);
        begun.elapsed().as_secs_f64()
    };
    // Noise of this machine goes by; a difference stays.
    let mut t = f64::INFINITY;
    for _ in 0..3 {
        let (mut known, mut unknown) = (Vec::new(), Vec::new());
        for _ in 0..load(300, 10_000) {
            known.push(times("alice"));
            unknown.push(times("carol"));
        }
        t = welch(&mut known, &mut unknown);
        if t < 4.5 {
            break;
        }
    }
    crate::report(&format!("g03: t = {t:.2}"));
    assert!(t < 4.5, "unknown users are told by the time: t = {t:.2}");
}

/// Welch's t of two samples, without the slowest twentieth of each, which are the scheduler's.
fn welch(one: &mut [f64], other: &mut [f64]) -> f64 {
    let describe = |sample: &mut [f64]| {
        sample.sort_by(f64::total_cmp);
        let sample = &sample[..sample.len() * 19 / 20];
        let count = sample.len() as f64;
        let mean = sample.iter().sum::<f64>() / count;
        let variance = sample.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0);
        (mean, variance / count)
    };
    let ((mean, spread), (other_mean, other_spread)) = (describe(one), describe(other));
    (mean - other_mean).abs() / (spread + other_spread).sqrt()
}

fn g04_password_bytes(version: Version) {
    let files = Files::new();
    let line = |user: &str, scheme, password: &[u8], iterations| {
        format!("{user}:{}\n", Hash::create(scheme, password, iterations).expect("a good password"))
    };
    let file = [
        line("six", Scheme::Sha512, b"right", None),
        line("seven", Scheme::Pbkdf2, b"right", Some(100)),
        line("argon", Scheme::Argon2id, b"right", Some(1)),
        line("scram", Scheme::Scram, b"right", Some(100)),
        line("eight-bit", Scheme::Pbkdf2, b"\xff\x80right", Some(100)),
    ];
    let file = files.write("passwd", file.concat());
    // What Argon2 takes for its work it gives back.
    let scene = Scene::with(|profile| by_password(profile, &file)).may_grow_by(48 << 20);
    scene.repeat(4, |_| {
        for user in ["six", "seven", "argon", "scram"] {
            assert_eq!(answer(scene.open(version), &with(version, "g04", user, "right")), 0, "{user}");
            for password in [
                &b""[..],
                b"\0",
                b"right\0",
                b"right\0right",
                b"\0right",
                b"rig\0ht",
                b"righ",
                b"rightx",
                b"RIGHT",
                b"right ",
                b"right\xff",
                b"\xff\x80right",
                b"r\xc3\xafght",
            ] {
                let refused = answer(scene.open(version), &with(version, "g04", user, password));
                assert_eq!(refused, wrong(version), "{user} {password:?}");
            }
        }
        assert_eq!(answer(scene.open(version), &with(version, "g04", "eight-bit", b"\xff\x80right")), 0);
        assert_eq!(answer(scene.open(version), &with(version, "g04", "eight-bit", "right")), wrong(version));
    });
    scene.holds();
}

/// A broker with such a file does not start, and says which line is wrong.
#[test]
fn g05_damaged_password_file() {
    let files = Files::new();
    let good = lines(&["alice"], "right", 100);
    let cut = |by: usize| format!("{}\n", &good[..good.len() - by]);
    for (damaged, line) in [
        (format!("{good}\n"), 2),
        (format!("\n{good}"), 1),
        (format!("{good}bob\n"), 2),
        (format!("{good}bob:\n"), 2),
        (format!("{good}:\n"), 2),
        (format!("{good}bob:$7$\n"), 2),
        (good.replace('\n', "\r\n"), 1),
        (cut(2), 1),
        (cut(20), 1),
        (cut(80), 1),
        (cut(100), 1),
        (format!("{good}{good}"), 2),
        (good.replace("$7$100$", "$7$4294967295$"), 1),
        (good.replace("$7$", "$9$"), 1),
    ] {
        let path = files.write("passwd", &damaged);
        let mut profile = Profile::test();
        by_password(&mut profile, &path);
        let config = files.write("broker.toml", profile.to_toml(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))));
        for (command, code) in [(&["check", "-c", &config][..], 2), (&["-c", &config], 1)] {
            let mut waypost = Command::new(env!("CARGO_BIN_EXE_waypost"));
            let output = waypost.args(command).stdin(Stdio::null()).output().expect("the binary runs");
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(code), "{damaged:?}: {said}");
            assert!(said.contains(&format!("{path}:{line}: ")), "{damaged:?}: {said}");
        }
    }
}

/// A service that answers each request as the test says, in turn, the last one for ever; and what it was asked.
struct Service {
    address: SocketAddr,
    asked: Receiver<String>,
}

impl Service {
    fn start(takes: Duration, answers: Vec<String>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
        let address = listener.local_addr().expect("it is bound");
        let (tell, asked) = channel();
        thread::spawn(move || {
            let mut answers = answers.into_iter();
            let mut answer = answers.next().unwrap_or_default();
            for stream in listener.incoming() {
                let (Ok(mut stream), tell, said) = (stream, tell.clone(), answer.clone()) else { return };
                answer = answers.next().unwrap_or(answer);
                thread::spawn(move || {
                    let mut request = Vec::new();
                    let mut some = [0; 4096];
                    while !is_whole(&request) {
                        match stream.read(&mut some) {
                            Ok(count) if count > 0 => request.extend_from_slice(&some[..count]),
                            _ => return,
                        }
                    }
                    let _ = tell.send(String::from_utf8_lossy(&request).into_owned());
                    thread::sleep(takes);
                    let _ = stream.write_all(said.as_bytes());
                });
            }
        });
        Self { address, asked }
    }
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    body.len() >= length.unwrap_or(0_usize)
}

fn says(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}

fn by_service(profile: &mut Profile, service: SocketAddr) {
    profile.set("[listener].authentication", ["http"]).set("http_login.url", format!("http://{service}/login"));
    profile.set("http_login.cache_time", "0s").set("http_login.failures_max", 10_000);
    profile.set("limits.failed_logins_max", 1_000_000);
}

fn g06_authenticator_fails(version: Version) {
    let answers = [
        says("404 Not Found", r#"{"result": "allow"}"#),
        says("500 Internal Server Error", r#"{"result": "allow"}"#),
        says("302 Found", ""),
        says("200 OK", ""),
        says("200 OK", r#"{"result": "all"#),
        says("200 OK", r#"{"result": true}"#),
        says("200 OK", r#"["allow"]"#),
        says("200 OK", r#"{"Result": "allow"}"#),
        says("200 OK", &format!(r#"{{"result": "allow", "x": "{}"}}"#, "x".repeat(100_000))),
        says("200 OK", &"[".repeat(10_000)),
        says("200 OK", r#"{"result": "allow"}"#).replace("Length: 19", "Length: 50"),
        "SSH-2.0-OpenSSH\r\n".to_owned(),
        String::new(),
    ];
    let count = answers.len();
    let rounds: Vec<String> = std::iter::repeat_n(answers, 3).flatten().collect();
    let service = Service::start(Duration::ZERO, rounds);
    let scene = Scene::with(|profile| by_service(profile, service.address));
    let refused = either(version, code::SERVER_UNAVAILABLE, SERVER_UNAVAILABLE);
    scene.repeat(3, |_| {
        for number in 0..count {
            let code = answer(scene.open(version), &with(version, "g06", "alice", "right"));
            assert_eq!(code, refused, "answer {number}");
        }
    });
    scene.holds();
    // Nobody there, and somebody who says nothing.
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
    let address = silent.local_addr().expect("it is bound");
    let scene = Scene::with(|profile| {
        by_service(profile, address);
        profile.set("http_login.timeout", "100ms");
    });
    assert_eq!(answer(scene.open(version), &with(version, "g06", "alice", "right")), refused);
    drop(silent);
    assert_eq!(answer(scene.open(version), &with(version, "g06", "alice", "right")), refused);
    scene.holds();
}

/// Keys of tokens at a URL: while there are none, or not the right one, it is a no, and their server is not asked by each login.
fn g06_keys_at_a_url(version: Version) {
    let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("a key");
    let pair = Ed25519KeyPair::from_pkcs8(document.as_ref()).expect("a key");
    let x = base64ct::Base64UrlUnpadded::encode_string(pair.public_key().as_ref());
    let keys = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "k1", "x": x, "alg": "EdDSA"}]}).to_string();
    let service = Service::start(
        Duration::ZERO,
        vec![says("503 Service Unavailable", ""), says("200 OK", "{}"), says("200 OK", &keys)],
    );
    let scene = Scene::with(|profile| {
        profile.set("[listener].authentication", ["jwt"]).set("limits.failed_logins_max", 1_000_000);
        profile.set("jwt.jwks_url", format!("http://{}/keys", service.address)).set("jwt.jwks_refresh", "1s");
    });
    let private = EncodingKey::from_ed_der(document.as_ref());
    let signed_by = |key: &str| {
        let header = Header { kid: Some(key.to_owned()), ..Header::new(Algorithm::EdDSA) };
        encode(&header, &json!({"sub": "alice", "exp": now_s() + 600}), &private).expect("a token")
    };
    let came = with(version, "g06", "alice", signed_by("k1"));
    let doubt = either(version, code::SERVER_UNAVAILABLE, SERVER_UNAVAILABLE);
    let deadline = Instant::now() + PATIENCE;
    loop {
        match answer(scene.open(version), &came) {
            0 => break,
            code => assert_eq!(code, doubt),
        }
        assert!(Instant::now() < deadline, "the keys are there and are not fetched");
    }
    assert!(service.asked.try_iter().count() >= 3);
    let began = Instant::now();
    for number in 0..20 {
        let code = answer(scene.open(version), &with(version, "g06", "alice", signed_by(&format!("unknown {number}"))));
        assert_eq!(code, wrong(version));
    }
    let asked = service.asked.try_iter().count() as u64;
    assert!(asked <= began.elapsed().as_secs() + 2, "{asked} times in {:?}", began.elapsed());
    assert_eq!(answer(scene.open(version), &came), 0);
    scene.holds();
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("it is after 1970").as_secs()
}

fn signed(header: &Header, claims: &Value, secret: &[u8]) -> String {
    encode(header, claims, &EncodingKey::from_secret(secret)).expect("a token")
}

fn g07_bad_tokens(version: Version) {
    let files = Files::new();
    let key = files.write("secret", SECRET);
    let scene = Scene::with(|profile| {
        profile.set("[listener].authentication", ["jwt"]).set("limits.failed_logins_max", 1_000_000);
        profile.set("jwt.key_file", key).set("jwt.algorithm", "HS256").set("jwt.audience", "mqtt");
    });
    let plain = Header::new(Algorithm::HS256);
    let soon = now_s() + 600;
    let good = json!({"sub": "alice", "exp": soon, "aud": "mqtt"});
    let token = signed(&plain, &good, SECRET);
    let parts: Vec<&str> = token.split('.').collect();
    let base64 = base64ct::Base64UrlUnpadded::encode_string;
    let none = base64(br#"{"alg":"none","typ":"JWT"}"#);
    let traversal = Header { kid: Some("../../../../dev/null".to_owned()), ..plain.clone() };
    let elsewhere = Header { jku: Some("http://127.0.0.1:1/keys".to_owned()), ..plain.clone() };
    let bad = [
        format!("{none}.{}.", parts[1]),
        format!("{none}.{}.{}", parts[1], parts[2]),
        format!("{}.{}.", parts[0], parts[1]),
        signed(&Header::new(Algorithm::HS512), &good, SECRET),
        signed(&plain, &good, b"another secret of thirty-two bytes"),
        signed(&traversal, &good, b""),
        signed(&elsewhere, &good, b""),
        signed(&plain, &json!({"sub": "alice", "aud": "mqtt"}), SECRET),
        signed(&plain, &json!({"sub": "alice", "exp": 1, "aud": "mqtt"}), SECRET),
        signed(&plain, &json!({"sub": "alice", "exp": soon, "nbf": soon, "aud": "mqtt"}), SECRET),
        signed(&plain, &json!({"sub": "alice", "exp": soon, "aud": "web"}), SECRET),
        signed(&plain, &json!({"sub": "alice", "exp": soon}), SECRET),
        signed(&plain, &json!({"sub": "bob", "exp": soon, "aud": "mqtt"}), SECRET),
        signed(&plain, &json!({"exp": soon, "aud": "mqtt"}), SECRET),
        format!("{}.{}.{}", parts[0], base64(&b"[".repeat(20_000)), parts[2]),
        format!("{}.{}", token, "A".repeat(60_000)),
        format!("e.{}.e", "A".repeat(60_000)),
        "e..".to_owned(),
        "..".to_owned(),
        "right".to_owned(),
    ];
    scene.repeat(10, |_| {
        for token in &bad {
            let code = answer(scene.open(version), &with(version, "g07", "alice", token));
            assert_eq!(code, wrong(version), "{token:.80}");
        }
        assert_eq!(answer(scene.open(version), &with(version, "g07", "alice", &token)), 0);
    });
    scene.holds();
}

/// Who came with a token that has run out is put out, and does not get in again.
fn g08_token_runs_out(version: Version) {
    let files = Files::new();
    let key = files.write("secret", SECRET);
    let scene = Scene::with(|profile| {
        profile.set("[listener].authentication", ["jwt"]).set("limits.failed_logins_max", 1_000_000);
        profile.set("jwt.key_file", key).set("jwt.algorithm", "HS256");
    });
    let claims = json!({"sub": "alice", "exp": now_s() + 3});
    let came = with(version, "g08", "alice", signed(&Header::new(Algorithm::HS256), &claims, SECRET));
    let mut client = scene.open(version);
    client.connect(&came);
    client.ping();
    if version.is_v5() {
        let goodbye = match client.event(Duration::from_secs(5)) {
            crate::client::Event::Packet(packet) => packet,
            event => panic!("expected a DISCONNECT, got {event:?}"),
        };
        assert_eq!((goodbye.first, goodbye.reason()), (0xE0, code::NOT_AUTHORIZED));
    }
    client.expect_close_within(Duration::from_secs(5));
    assert_eq!(answer(scene.open(version), &came), wrong(version));
    scene.holds();
}

fn g09_parameter_injection(version: Version) {
    let service = Service::start(Duration::ZERO, vec![says("200 OK", r#"{"result": "deny"}"#)]);
    let scene = Scene::with(|profile| by_service(profile, service.address));
    for value in
        ["a&b=c", "%41", "a\r\nX-Admin: 1\r\n\r\n", "\"'`", "${x} $(x) {{x}}", "\u{1}\u{7f}\u{202e}", "\\\"", "'; --"]
    {
        let code = answer(scene.open(version), &with(version, "g09", value, value));
        assert_eq!(code, wrong(version), "{value:?}");
        let request = service.asked.recv_timeout(PATIENCE).expect("the service was asked");
        let (head, body) = request.split_once("\r\n\r\n").expect("a head and a body");
        assert!(!head.contains("X-Admin"), "{head}");
        let body: Value = serde_json::from_str(body).expect("one JSON value and nothing behind it");
        assert_eq!((&body["user_name"], &body["password"]), (&json!(value), &json!(value)));
        assert_eq!((&body["client_id"], &body["address"]), (&json!("g09"), &json!("127.0.0.1")));
    }
    scene.holds();
}

/// Guessing from one address costs little, and from many it does not lock out the one it is about.
fn g10_guessing(version: Version) {
    let files = Files::new();
    // About 10 ms for each on this kind of machine: guessing must not be answered by hashing.
    let file = files.users(&["victim"], 10_000);
    let scene = Scene::under_load_with(|profile| {
        by_password(profile, &file);
        profile.set("limits.failed_logins_max", 10).set("limits.failed_logins_window", "1m");
    });
    let guess = |source: Ipv4Addr| {
        let client = Client::open_from(source, scene.address(), version);
        answer(client, &with(version, "g10", "victim", "wrong"))
    };
    let guesser = Ipv4Addr::new(127, 0, 0, 2);
    let held = either(version, code::BANNED, NOT_AUTHORIZED);
    let (mut refused, mut blocked) = (0, 0);
    let begun = Instant::now();
    let cpu = scene.cpu_of(|| {
        for _ in 0..load(2_000, 10_000) {
            match guess(guesser) {
                code if code == held => blocked += 1,
                code => {
                    assert_eq!(code, wrong(version));
                    refused += 1;
                }
            }
        }
    });
    let took = begun.elapsed();
    // Ten are free, and then one for each time that the door opens again.
    let opened = 2 + (took.as_secs_f64() + 1.0).log2() as usize;
    assert!((10..=10 + opened).contains(&refused), "{refused} were hashed, {blocked} were not, in {took:?}");
    assert!(cpu <= took / 2 + Duration::from_millis(500), "{cpu:?} of a core in {took:?}");
    for host in 1..=50 {
        for _ in 0..3 {
            let code = guess(Ipv4Addr::new(127, 0, 1, host));
            assert!([held, wrong(version)].contains(&code), "{code:#x}");
        }
    }
    let begun = Instant::now();
    let victim = Client::open_from(Ipv4Addr::new(127, 0, 2, 1), scene.address(), version);
    assert_eq!(answer(victim, &with(version, "g10-victim", "victim", "right")), 0);
    assert!(begun.elapsed() <= prompt(), "the victim waited for {:?}", begun.elapsed());
    // Even the right password is not looked at where guesses come from.
    let late = Client::open_from(guesser, scene.address(), version);
    assert_eq!(answer(late, &with(version, "g10", "victim", "right")), held);
    scene.holds();
}

fn g11_failed_connect_does_nothing(version: Version) {
    let files = Files::new();
    let file = files.users(&["alice"], 100);
    let scene = Scene::with(|profile| by_password(profile, &file));
    let mut alice = scene.open(version);
    alice.connect(&with(version, "g11", "alice", "right"));
    assert_eq!(alice.subscribe("g11", 1), 1);
    scene.repeat(10, |round| {
        for clean in [true, false] {
            let attack =
                Connect { clean, will: Some(will("bad/g11", "of a stranger")), ..with(version, "g11", "alice", "no") };
            assert_eq!(answer(scene.open(version), &attack), wrong(version));
        }
        let payload = round.to_string();
        alice.publish("g11", &payload, 1);
        let delivery = alice.receive_message();
        assert_eq!(delivery.payload, payload.as_bytes());
        alice.acknowledge(&delivery);
    });
    alice.disconnect();
    scene.holds();
}

/// Whose account is gone or has another password is put out, and a Session that waits for it is not given to anybody.
fn g15_account_removed_or_changed(version: Version) {
    let files = Files::new();
    let names = ["removed", "changed", "away", "stays"];
    let file = files.users(&names, 10);
    let scene = Scene::with(|profile| by_password(profile, &file));
    let durable = |user: &str, password: &str| {
        let properties =
            if version.is_v5() { property::of_u32(property::SESSION_EXPIRY_INTERVAL, 600) } else { Vec::new() };
        Connect { clean: false, properties, ..with(version, &format!("g15-{user}"), user, password) }
    };
    let enter = |user: &str| {
        let mut client = scene.open(version);
        client.connect(&durable(user, "right"));
        assert_eq!(client.subscribe("g15", 1), 1);
        client
    };
    let (mut removed, mut changed, mut stays) = (enter("removed"), enter("changed"), enter("stays"));
    enter("away").disconnect();
    let kept: String = fs::read_to_string(files.path("passwd"))
        .expect("it is there")
        .lines()
        .filter(|line| line.starts_with("stays:"))
        .collect();
    files.write("passwd", format!("{kept}\n{}", lines(&["changed"], "new", 10)));
    scene.broker().hang_up();
    for client in [&mut removed, &mut changed] {
        if version.is_v5() {
            let goodbye = client.receive();
            assert!(goodbye.first == 0xE0 && [code::NOT_AUTHORIZED, 0x98].contains(&goodbye.reason()), "{goodbye:?}");
        }
        client.expect_close_within(Duration::from_secs(2));
    }
    stays.ping();
    for (user, password, expected) in [
        ("removed", "right", wrong(version)),
        ("changed", "right", wrong(version)),
        ("away", "right", wrong(version)),
        ("changed", "new", 0),
    ] {
        let mut client = scene.open(version);
        let answer = client.send(&durable(user, password).bytes()).receive_connack();
        assert_eq!((answer.code, answer.session_present), (expected, false), "{user} {password}");
    }
    // An account of the old name that comes back is another one.
    files.write("passwd", format!("{kept}\n{}", lines(&["away"], "right", 10)));
    scene.broker().hang_up();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut client = scene.open(version);
        let answer = client.send(&durable("away", "right").bytes()).receive_connack();
        if answer.code == 0 {
            assert!(!answer.session_present, "the Session of an account that was removed");
            break;
        }
        assert!(Instant::now() < deadline, "the account does not come back");
    }
    drop((removed, changed));
    stays.disconnect();
    scene.holds();
}

/// A Client of SCRAM-SHA-256, and what an AUTH packet of it is.
struct Scram {
    user: &'static str,
    password: &'static str,
}

const METHOD: &str = "SCRAM-SHA-256";
const NONCE: &str = "fyko+d2lbbFgONRv9qkxdawL";

impl Scram {
    fn first(&self) -> String {
        format!("n,,n={},r={NONCE}", self.user)
    }

    /// The answer to a challenge, and the signature that the broker owes for it.
    fn last(&self, challenge: &[u8]) -> (String, String) {
        let challenge = std::str::from_utf8(challenge).expect("a challenge is text");
        let mut parts = challenge.split(',').map(|part| &part[2..]);
        let (nonce, salt, count) = (parts.next(), parts.next(), parts.next());
        let salt = Base64::decode_vec(salt.expect("a salt")).expect("base64");
        let count = count.expect("a count").parse().expect("a number");
        let mut salted = [0; 32];
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, count, &salt, self.password.as_bytes(), &mut salted);
        let mac = |key: &[u8], text: &[u8]| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text);
        let client_key = mac(&salted, b"Client Key");
        let stored_key = digest::digest(&digest::SHA256, client_key.as_ref());
        let without_proof = format!("c=biws,r={}", nonce.expect("a nonce"));
        let all = format!("{},{challenge},{without_proof}", &self.first()[3..]);
        let signature = mac(stored_key.as_ref(), all.as_bytes());
        let proof: Vec<u8> = client_key.as_ref().iter().zip(signature.as_ref()).map(|(key, mask)| key ^ mask).collect();
        let theirs = mac(mac(&salted, b"Server Key").as_ref(), all.as_bytes());
        let owed = format!("v={}", Base64::encode_string(theirs.as_ref()));
        (format!("{without_proof},p={}", Base64::encode_string(&proof)), owed)
    }

    fn connect(&self) -> Connect {
        Connect { properties: method_and_data(METHOD, &self.first()), ..connect(Version::V5, "g12") }
    }

    /// Goes through a login or re-authentication whose first packet has been sent: the last packet of it, whatever it is.
    fn finishes(&self, client: &mut Client) -> String {
        let challenge = client.receive();
        assert_eq!((challenge.first, challenge.reason()), (0xF0, 0x18));
        let (last, owed) = self.last(&challenge.authentication_data());
        client.send(&auth(0x18, METHOD, &last));
        owed
    }
}

fn method_and_data(method: &str, data: &str) -> Vec<u8> {
    let method = property::of_string(property::AUTHENTICATION_METHOD, method);
    [method, property::of_string(property::AUTHENTICATION_DATA, data)].concat()
}

fn auth(reason: u8, method: &str, data: &str) -> Vec<u8> {
    let mut packet = Place::Auth.packet(&method_and_data(method, data));
    // Behind the fixed header, whose length takes one byte or two.
    let at = if packet[1] & 0x80 == 0 { 2 } else { 3 };
    let at = if at == 3 && packet[2] & 0x80 != 0 { 4 } else { at };
    packet[at] = reason;
    packet
}

const ALICE: Scram = Scram { user: "alice", password: "right" };

fn by_scram(files: &Files) -> String {
    let users = ["alice", "bob"].map(|user| {
        let hash = Hash::create(Scheme::Scram, b"right", Some(4096)).expect("a good password");
        format!("{user}:{hash}\n")
    });
    files.write("passwd", users.concat())
}

fn scram_scene(file: &str, adapt: impl FnOnce(&mut Profile)) -> Scene {
    Scene::with(|profile| {
        by_password(profile, file);
        profile.set("[listener].authentication", ["scram", "password"]);
        adapt(profile);
    })
}

fn g12_re_authentication() {
    let files = Files::new();
    let file = by_scram(&files);
    let scene = scram_scene(&file, |_| {});
    let enter = || {
        let mut client = scene.open(Version::V5);
        client.send(&ALICE.connect().bytes());
        let owed = ALICE.finishes(&mut client);
        let connack = client.receive_connack();
        assert_eq!(connack.code, 0);
        let signature = connack.property(property::AUTHENTICATION_DATA).expect("the signature");
        assert_eq!(signature, owed.as_bytes(), "the broker knows the password, too");
        client
    };
    scene.repeat(10, |_| {
        // Who proves it again stays, and so does the Session.
        let mut client = enter();
        client.send(&auth(0x19, METHOD, &ALICE.first()));
        ALICE.finishes(&mut client);
        let done = client.receive();
        assert_eq!((done.first, done.reason()), (0xF0, 0));
        client.ping();
        client.disconnect();
        // Without a method in CONNECT there is no AUTH.
        let mut plain = scene.open(Version::V5);
        plain.connect(&with(Version::V5, "g12", "alice", "right"));
        plain.send(&auth(0x19, METHOD, &ALICE.first())).expect_refusal(&[code::PROTOCOL_ERROR]);
        for (packet, codes) in [
            (auth(0x19, "OTHER", &ALICE.first()), [code::PROTOCOL_ERROR, code::BAD_AUTHENTICATION_METHOD]),
            (auth(0x18, METHOD, &ALICE.first()), [code::PROTOCOL_ERROR, code::NOT_AUTHORIZED]),
            (auth(0x19, METHOD, "nonsense"), [code::NOT_AUTHORIZED, 0x80]),
        ] {
            enter().send(&packet).expect_refusal(&codes);
        }
        let refusals = [code::NOT_AUTHORIZED, 0x80, code::BAD_USER_NAME_OR_PASSWORD];
        for other in [Scram { user: "alice", password: "wrong" }, Scram { user: "bob", password: "right" }] {
            let mut client = enter();
            client.send(&auth(0x19, METHOD, &other.first()));
            match client.event(PATIENCE) {
                // Another user is refused at once.
                crate::client::Event::Packet(packet) if packet.first == 0xE0 => {
                    assert!(refusals.contains(&packet.reason()), "{packet:?}");
                    client.expect_close();
                }
                crate::client::Event::Packet(packet) => {
                    let data = packet.authentication_data();
                    client.send(&auth(0x18, METHOD, &other.last(&data).0)).expect_refusal(&refusals);
                }
                event => panic!("expected an answer, got {event:?}"),
            }
        }
        // Strangers and wrong passwords do not get in to begin with, and are told the same.
        for other in [Scram { user: "alice", password: "wrong" }, Scram { user: "mallory", password: "right" }] {
            let mut client = scene.open(Version::V5);
            client.send(&other.connect().bytes());
            other.finishes(&mut client);
            client.expect_connack(&[code::NOT_AUTHORIZED]);
            client.expect_close();
        }
    });
    scene.holds();
}

fn g13_auth_flood() {
    let files = Files::new();
    let file = by_scram(&files);
    let scene = scram_scene(&file, |profile| {
        profile.set("limits.property_size_max", "64KiB");
    });
    let refusals = [code::QUOTA_EXCEEDED, code::PROTOCOL_ERROR, code::NOT_AUTHORIZED];
    let flood = auth(0x18, METHOD, &"x".repeat(60 * 1024));
    for _ in 0..load(200, 2_000) {
        let mut client = scene.open(Version::V5);
        client.send(&ALICE.connect().bytes());
        assert_eq!(client.receive().first, 0xF0);
        client.send(&flood.repeat(3)).expect_connack(&refusals);
    }
    let mut client = scene.open(Version::V5);
    client.send(&ALICE.connect().bytes());
    ALICE.finishes(&mut client);
    assert_eq!(client.receive_connack().code, 0);
    // Again and again, without ever an answer.
    for _ in 0..3 {
        client.send(&auth(0x19, METHOD, &ALICE.first()));
    }
    client.expect_refusal_after_answers(&[code::PROTOCOL_ERROR, code::NOT_AUTHORIZED], PATIENCE);
    scene.holds();
}

/// So many wait for a slow service, the others are refused at once, and nobody else notices.
fn g16_slow_authenticator(version: Version) {
    const WAITING: usize = 50;
    let takes = Duration::from_millis(if crate::rules::load_is_full() { 3_000 } else { 1_000 });
    let service = Service::start(takes, vec![says("200 OK", r#"{"result": "allow"}"#)]);
    let scene = Scene::under_load_with(|profile| {
        by_service(profile, service.address);
        profile.set("http_login.requests_max", WAITING).set("limits.logins_waiting_max", WAITING);
        profile.set("limits.connections_pending_max", 10_000);
    });
    let busy = either(version, code::SERVER_BUSY, SERVER_UNAVAILABLE);
    let count = load(500, 5_000);
    let mut clients: Vec<Client> = (0..count)
        .map(|number| {
            let mut client = scene.open(version);
            client.send(&with(version, &format!("g16-{number}"), "alice", "right").bytes());
            client
        })
        .collect();
    let (mut accepted, mut refused) = (0, 0);
    for client in &mut clients {
        match client.receive_connack().code {
            0 => accepted += 1,
            code => {
                assert_eq!(code, busy);
                refused += 1;
            }
        }
    }
    // A second round may have begun while Clients were still coming.
    assert!((WAITING..=3 * WAITING).contains(&accepted), "{accepted} were let in, {refused} refused");
    drop(clients);
    scene.holds();
}

/// However often the file is replaced, each login is judged by one file or the next, and never by a broken one.
fn g17_hot_reload_of_credentials(version: Version) {
    let files = Files::new();
    let names: Vec<String> = (0..100).map(|number| format!("user-{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    // Her line stays what it is: a password that was hashed anew would have to be proved anew.
    let alice = lines(&["alice"], "right", 10);
    let file = files.write("passwd", format!("{alice}{}", lines(&names, "right", 10)));
    let scene = Scene::with(|profile| by_password(profile, &file));
    let (stop, logins) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let address = scene.address();
    let others = format!("{alice}{}", lines(&names, "right", 10));
    thread::scope(|scope| {
        let people = [0, 1].map(|number| {
            let (stop, logins) = (Arc::clone(&stop), Arc::clone(&logins));
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let id = format!("g17-{number}");
                    let open = || Client::open(address, version);
                    assert_eq!(answer(open(), &with(version, &id, "alice", "right")), 0);
                    assert_eq!(answer(open(), &with(version, &id, "alice", "wrong")), wrong(version));
                    assert_eq!(answer(open(), &with(version, &id, "alic", "right")), wrong(version));
                    logins.fetch_add(3, Ordering::Relaxed);
                }
            })
        });
        let lines_with = |text: &str| scene.log_lines_with(text);
        let reloads = |text: &str, before: usize| {
            let deadline = Instant::now() + PATIENCE;
            while lines_with(text) == before {
                assert!(Instant::now() < deadline, "no line with {text:?}:\n{}", scene.broker().log());
                thread::sleep(Duration::from_millis(5));
            }
        };
        for round in 0..10 {
            let text = if round % 2 == 0 { &others } else { &format!("{others}more:$6$c2FsdA==$broken\n") };
            let said = if round % 2 == 0 { "password file read again" } else { "the former one stays in force" };
            let before = lines_with(said);
            files.write("passwd", text);
            scene.broker().hang_up();
            reloads(said, before);
        }
        // Whoever is at it is done before the user goes.
        stop.store(true, Ordering::Relaxed);
        people.into_iter().for_each(|person| person.join().expect("every login was answered as it should be"));
        let before = lines_with("password file read again");
        files.write("passwd", lines(&["bob"], "right", 10));
        scene.broker().hang_up();
        reloads("password file read again", before);
    });
    // And what is taken, is taken: the user is gone.
    assert_eq!(answer(scene.open(version), &with(version, "g17", "alice", "right")), wrong(version));
    assert_eq!(answer(scene.open(version), &with(version, "g17", "bob", "right")), 0);
    assert!(logins.load(Ordering::Relaxed) > 0);
    assert!(scene.log_lines_with("panicked") == 0);
    scene.holds();
}

/// Between the challenge and the proof there is nothing but AUTH.
fn b15_traffic_during_scram() {
    let files = Files::new();
    let file = by_scram(&files);
    let scene = scram_scene(&file, |_| {});
    let mut client = scene.open(Version::V5);
    client.send(&ALICE.connect().bytes());
    assert_eq!(client.receive().first, 0xF0);
    client.send(&publish(Version::V5, "bad/t", "x").bytes()).expect_connack_or_close(&[code::PROTOCOL_ERROR]);
    scene.holds();
}
