//! Rows that need an authenticator: wrong passwords, slow ones, and AUTH. The shipped binary has none yet, so a node runs
//! inside the test process, with one that knows `right` as the password of everybody.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use waypost::access::{Authenticator, Exchange, Identity, Login, Pending, Step};
use waypost::codec::ReasonCode;
use waypost::config::{Config, Sources};
use waypost::node::{Node, settings};

use crate::broker::Profile;
use crate::client::{Client, Event, PATIENCE, prompt};
use crate::packet::{
    Connect, PINGREQ, Place, Version, ack, code, connect, kind, property, publish, subscribe, unsubscribe,
};
use crate::rules::{Turn, load, rounds, unique};

each_version! {
    b16_pipelined_connect_with_a_password,
    b16_pipelined_connect_while_the_authenticator_takes_its_time,
    b19_credential_size_bomb,
}

only_v5! {
    b14_unknown_method_where_others_are_known,
    b15_traffic_during_enhanced_authentication,
    b15_authentication_that_is_given_up,
}

/// Return code of an MQTT 3.1.1 CONNACK.
const BAD_USER_NAME_OR_PASSWORD: u8 = 4;

/// The methods that this authenticator knows by AUTH, the number of steps they take and how slow it is.
struct Guard {
    takes: Duration,
    asked: AtomicUsize,
}

const METHOD: &str = "STEPS";

impl Authenticator for Guard {
    fn begin(&self, login: Login) -> Pending {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let step = match login.method.as_deref() {
            Some(METHOD) => Step::Challenge { data: b"first".to_vec(), exchange: Box::new(Steps(1)) },
            Some(_) => Step::Refuse(ReasonCode::BadAuthenticationMethod, "as the test wants it"),
            None if login.password.as_deref() == Some(b"right") => {
                Step::Accept { identity: Identity::believed(login.user_name), data: None }
            }
            None => Step::Refuse(ReasonCode::BadUserNameOrPassword, "as the test wants it"),
        };
        let takes = self.takes;
        Box::pin(async move {
            tokio::time::sleep(takes).await;
            step
        })
    }
}

/// An exchange of challenges, which ends well when each was answered by `answer`.
struct Steps(u32);

impl Exchange for Steps {
    fn proceed(self: Box<Self>, data: Option<Box<[u8]>>) -> Pending {
        let step = match (data.as_deref(), self.0) {
            (Some(b"answer"), 0) => Step::Accept { identity: Identity::default(), data: Some(b"done".to_vec()) },
            (Some(b"answer"), left) => Step::Challenge { data: b"more".to_vec(), exchange: Box::new(Self(left - 1)) },
            _ => Step::Refuse(ReasonCode::NotAuthorized, "as the test wants it"),
        };
        Box::pin(std::future::ready(step))
    }
}

/// A node in this process, and how many logins its authenticator has been asked about.
struct Guarded {
    node: Option<Node>,
    address: SocketAddr,
    guard: Arc<Guard>,
    _turn: Turn,
}

impl Guarded {
    fn start(takes: Duration) -> Self {
        Self::set(takes, Turn::beside_others())
    }

    /// The memory of the node is that of the whole test process: who measures it wants nothing else to run in there.
    fn alone(takes: Duration) -> Self {
        Self::set(takes, Turn::alone_in_this_process())
    }

    fn set(takes: Duration, turn: Turn) -> Self {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
        let address = free.local_addr().expect("a bound socket has an address");
        drop(free);
        let folder = std::env::temp_dir().join(unique("waypost-bad-inputs-node"));
        fs::create_dir_all(&folder).expect("the temporary folder can be written");
        let file = folder.join("broker.toml");
        let mut profile = Profile::test();
        profile.set("node.data_dir", folder.join("data"));
        fs::write(&file, profile.to_toml(address)).expect("the temporary folder can be written");
        let config = Config::load(&Sources { file: Some(file), ..Sources::default() });
        let _ = fs::remove_dir_all(&folder);
        let config = config.unwrap_or_else(|errors| panic!("the test profile is wrong: {errors}"));
        let guard = Arc::new(Guard { takes, asked: AtomicUsize::new(0) });
        let known = Arc::clone(&guard) as Arc<dyn Authenticator>;
        let node = Node::start_with(&config, settings(&config), Some(known)).expect("the node starts");
        Self { node: Some(node), address, guard, _turn: turn }
    }

    fn open(&self, version: Version) -> Client {
        Client::open(self.address, version)
    }

    #[track_caller]
    fn enter(&self, version: Version, client_id: &str) -> Client {
        let mut client = self.open(version);
        client.connect(&with_password(version, client_id, b"right"));
        client
    }

    /// Ends the node and sees that none of its threads had panicked.
    #[track_caller]
    fn holds(mut self) {
        let node = self.node.take().expect("a node is stopped once");
        node.stop().expect("G1: no thread has panicked");
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        if let Some(node) = self.node.take() {
            let _ = node.stop();
        }
    }
}

fn with_password(version: Version, client_id: &str, password: &[u8]) -> Connect {
    Connect { user_name: Some(b"alice".to_vec()), password: Some(password.to_vec()), ..connect(version, client_id) }
}

/// What a refused password is answered by.
fn refused(version: Version) -> u8 {
    if version.is_v5() { code::BAD_USER_NAME_OR_PASSWORD } else { BAD_USER_NAME_OR_PASSWORD }
}

/// CONNECT for an exchange of AUTH packets.
fn by_steps() -> Vec<u8> {
    let properties = property::of_string(property::AUTHENTICATION_METHOD, METHOD);
    Connect { properties, ..connect(Version::V5, "b15") }.bytes()
}

fn auth(reason: u8, method: &str, data: &str) -> Vec<u8> {
    let list = [
        property::of_string(property::AUTHENTICATION_METHOD, method),
        property::of_string(property::AUTHENTICATION_DATA, data),
    ]
    .concat();
    let mut packet = Place::Auth.packet(&list);
    packet[2] = reason;
    packet
}

/// An unknown method and a wrong step of a known one are refused, each with its code, and never crash the exchange.
fn b14_unknown_method_where_others_are_known() {
    let node = Guarded::start(Duration::ZERO);
    for _ in 0..rounds(20) {
        for method in ["NOPE".to_owned(), "N".repeat(60 * 1024), METHOD.to_lowercase()] {
            let properties = property::of_string(property::AUTHENTICATION_METHOD, method);
            let mut client = node.open(Version::V5);
            client.send(&Connect { properties, ..connect(Version::V5, "b14") }.bytes());
            client.expect_connack(&[code::BAD_AUTHENTICATION_METHOD]);
            client.expect_close();
        }
        let mut client = node.open(Version::V5);
        client.send(&by_steps());
        assert_eq!(client.receive().first, 0xF0);
        client.send(&auth(0x18, METHOD, "wrong")).expect_connack(&[code::NOT_AUTHORIZED]);
        client.expect_close();
        // And one that does all of it is let in.
        let mut client = node.open(Version::V5);
        client.send(&by_steps());
        for _ in 0..2 {
            assert_eq!(client.receive().first, 0xF0);
            client.send(&auth(0x18, METHOD, "answer"));
        }
        assert_eq!(client.receive_connack().code, 0);
        client.ping();
        client.disconnect();
    }
    node.holds();
}

/// Between CONNECT and CONNACK a Client says AUTH, or leaves; anything else ends the connection and is not done.
fn b15_traffic_during_enhanced_authentication() {
    let node = Guarded::start(Duration::ZERO);
    let version = Version::V5;
    let mut observer = node.enter(version, "b15-observer");
    observer.subscribe("bad/#", 0);
    let refusals =
        [code::PROTOCOL_ERROR, code::MALFORMED_PACKET, code::PACKET_TOO_LARGE, code::BAD_AUTHENTICATION_METHOD];
    let intruders = [
        subscribe(version, 9, &[(b"bad/t", 0)]),
        unsubscribe(version, 9, &[b"bad/t"]),
        publish(version, "bad/t", "x").bytes(),
        publish(version, "bad/t", "x").qos(1, 9).bytes(),
        publish(version, "bad/t", "x").qos(2, 9).retained().bytes(),
        PINGREQ.to_vec(),
        ack(kind::PUBACK, 9),
        ack(kind::PUBREL, 9),
        by_steps(),
        connect(version, "b15").bytes(),
        auth(0x00, METHOD, "answer"),
        auth(0x19, METHOD, "answer"),
        auth(0x18, "OTHER", "answer"),
        vec![0xF1, 0],
        vec![0xF0, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F],
        vec![0xF0, 0xFF, 0xFF, 0xFF, 0x7F],
    ];
    for _ in 0..rounds(10) {
        for intruder in &intruders {
            // After the challenge has come, and at once behind CONNECT.
            let mut client = node.open(version);
            client.send(&by_steps());
            assert_eq!(client.receive().first, 0xF0);
            client.send(intruder).expect_connack_or_close(&refusals);
            let mut client = node.open(version);
            client.send(&[by_steps(), intruder.clone()].concat());
            assert_eq!(client.receive().first, 0xF0);
            client.expect_connack_or_close(&refusals);
        }
    }
    observer.ping();
    let mut late = node.enter(version, "b15-late");
    late.subscribe("bad/#", 0);
    late.ping();
    drop((observer, late));
    node.holds();
}

/// What is sent behind CONNECT is done once the password has been found right, and forgotten when it was wrong.
fn b16_pipelined_connect_with_a_password(version: Version) {
    let node = Guarded::start(Duration::from_millis(20));
    let mut observer = node.enter(version, "b16-observer");
    observer.subscribe("ok/b16", 0);
    let said = |password: &[u8], payload: &str| {
        let mut bytes = with_password(version, "b16", password).bytes();
        bytes.extend(subscribe(version, 1, &[(b"ok/own", 0)]));
        bytes.extend(publish(version, "ok/b16", payload).qos(1, 2).retained().bytes());
        bytes.extend(PINGREQ);
        bytes
    };
    for _ in 0..rounds(10) {
        let mut client = node.open(version);
        client.send(&said(b"wrong", "wrong")).expect_connack(&[refused(version)]);
        client.expect_close();
        let mut client = node.open(version);
        client.send(&said(b"right", "right"));
        assert_eq!(client.receive_connack().code, 0);
        assert_eq!(client.receive_suback(1), 0);
        let mut kinds = [client.receive().kind(), client.receive().kind()];
        kinds.sort_unstable();
        assert_eq!(kinds, [kind::PUBACK, kind::PINGRESP]);
        assert_eq!(observer.receive_message().payload, b"right");
        client.disconnect();
    }
    observer.ping();
    drop(observer);
    node.holds();
}

/// Who is not yet known is not read from: what follows CONNECT waits at its sender.
fn b16_pipelined_connect_while_the_authenticator_takes_its_time(version: Version) {
    let node = Guarded::alone(Duration::from_millis(load(1000, 3000) as u64));
    let before = own_resident_bytes();
    let mut client = node.open(version);
    client.send(&with_password(version, "b16-slow", b"right").bytes());
    let mut writer = client.writer();
    let chunk = publish(version, "ok/b16", vec![b'x'; 60_000]).bytes().repeat(16);
    let chunks = load(20, 100);
    // What the system takes for a socket is not the broker's memory; the rest of the 100 MB must still be here.
    let written = thread::scope(|scope| {
        let sender = scope.spawn(|| {
            use std::io::Write as _;
            (0..chunks).map_while(|_| writer.write_all(&chunk).ok()).count()
        });
        let mut grown = 0;
        while matches!(client.event(Duration::from_millis(10)), Event::Silence) {
            grown = grown.max(own_resident_bytes().saturating_sub(before));
        }
        // The chunk itself is ours.
        assert!(grown <= 4 * 1024 * 1024, "{grown} bytes grew while nothing should have been read");
        sender.join().expect("a sender does not panic")
    });
    assert_eq!(written, chunks, "all that was sent is read in the end");
    client.ping();
    // The time is the authenticator's, and others are not held up by one who waits.
    let begun = Instant::now();
    let mut others: Vec<Client> = (0..5)
        .map(|number| {
            let mut other = node.open(version);
            other.send(&with_password(version, &format!("b16-{number}"), b"right").bytes());
            other
        })
        .collect();
    for other in &mut others {
        assert_eq!(other.receive_connack().code, 0);
    }
    assert!(begun.elapsed() <= node.guard.takes + prompt(), "logins waited for one another: {:?}", begun.elapsed());
    drop((client, others));
    node.holds();
}

/// User names and passwords of the greatest length, many of them, are refused without holding anybody else up.
fn b19_credential_size_bomb(version: Version) {
    let node = Guarded::start(Duration::from_millis(5));
    let bomb =
        Connect { user_name: Some(vec![b'u'; 65_535]), ..with_password(version, "b19", &[b'*'; 65_535]) }.bytes();
    let count = load(200, 6000);
    thread::scope(|scope| {
        let attack = scope.spawn(|| {
            for _ in 0..count {
                let mut client = node.open(version);
                client.send(&bomb).expect_connack(&[refused(version)]);
                client.expect_close();
            }
        });
        while !attack.is_finished() {
            let begun = Instant::now();
            node.enter(version, "b19-innocent").disconnect();
            assert!(begun.elapsed() <= prompt(), "a login took {:?}", begun.elapsed());
        }
        attack.join().expect("each is refused");
    });
    assert!(node.guard.asked.load(Ordering::Relaxed) > 0, "the authenticator was asked");
    node.holds();
}

/// Resident memory of this process, the node's included.
fn own_resident_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux shows processes");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("every process has memory");
    line.split_whitespace().next().and_then(|number| number.parse::<u64>().ok()).expect("a number") * 1024
}

/// A login that nobody waits for any more, and one that nobody answers, end by themselves.
fn b15_authentication_that_is_given_up() {
    let node = Guarded::start(Duration::from_millis(50));
    for _ in 0..rounds(50) {
        let mut gone = node.open(Version::V5);
        gone.send(&by_steps());
        drop(gone);
        let mut reset = node.open(Version::V5);
        reset.send(&by_steps()).send(&auth(0x18, METHOD, "answer"));
        reset.reset();
    }
    let mut silent = node.open(Version::V5);
    silent.send(&by_steps());
    assert_eq!(silent.receive().first, 0xF0);
    silent.expect_close_within(2 * PATIENCE);
    node.enter(Version::V5, "b15-after").disconnect();
    node.holds();
}
