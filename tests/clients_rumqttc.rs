//! rumqttc, the client of most Rust programs, against the built broker: both of its versions, every QoS.
//!
//! Each test starts a broker of its own. `WAYPOST_TEST_PORT=1883 cargo test --test clients_rumqttc` talks to whatever
//! listens there instead, which is how these tests were tried on a broker that is known to work.
#![expect(clippy::print_stdout, reason = "a failing test says where it was")]
#![expect(clippy::disallowed_methods, reason = "who meets the broker from outside has clocks and tasks of his own")]

use rumqttc::{Packet, mqttbytes, v5};
use std::collections::BTreeSet;
use std::future::Future;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// One test for each version, over all QoS.
macro_rules! every_version {
    ($($v311:ident $v5:ident $story:ident;)*) => {$(
        #[test]
        fn $v311() {
            in_every_qos(Version::V311, $story);
        }
        #[test]
        fn $v5() {
            in_every_qos(Version::V5, $story);
        }
    )*};
}

every_version! {
    v311_a_message_arrives v5_a_message_arrives a_message_arrives;
    v311_messages_arrive_in_order v5_messages_arrive_in_order messages_arrive_in_order;
    v311_a_retained_message_waits v5_a_retained_message_waits a_retained_message_waits;
    v311_a_will_is_published v5_a_will_is_published a_will_is_published;
    v311_a_group_shares_the_work v5_a_group_shares_the_work a_group_shares_the_work;
    v311_any_size_arrives v5_any_size_arrives any_size_arrives;
    v311_a_session_waits v5_a_session_waits a_session_waits;
}

async fn a_message_arrives(at: Place) {
    let (mut receiver, mut sender) = (at.client().await, at.client().await);
    receiver.subscribe("plain", at.qos).await;
    sender.publish("plain", false, b"hello").await;
    assert_eq!(receiver.next().await, at.message("plain", false, b"hello"));
    sender.close().await;
    receiver.close().await;
}

async fn messages_arrive_in_order(at: Place) {
    let (mut receiver, sender) = (at.client().await, at.client().await);
    receiver.subscribe("order", at.qos).await;
    for number in 0..200 {
        sender.hand_over("order", false, number.to_string().as_bytes()).await;
    }
    for number in 0..200 {
        assert_eq!(receiver.next().await, at.message("order", false, number.to_string().as_bytes()));
    }
}

async fn a_retained_message_waits(at: Place) {
    let (mut watcher, mut sender) = (at.client().await, at.client().await);
    watcher.subscribe("retained", at.qos).await;
    sender.publish("retained", true, b"kept").await;
    assert_eq!(watcher.next().await, at.message("retained", false, b"kept"));
    let mut late = at.client().await;
    late.subscribe("retained", at.qos).await;
    assert_eq!(late.next().await, at.message("retained", true, b"kept"));

    sender.publish("retained", true, b"").await;
    assert_eq!(watcher.next().await, at.message("retained", false, b""), "the removal is a message too");
    let mut later = at.client().await;
    later.subscribe("retained", at.qos).await;
    sender.publish("retained", false, b"live").await;
    assert_eq!(later.next().await, at.message("retained", false, b"live"));
}

async fn a_will_is_published(at: Place) {
    let mut watcher = at.client().await;
    watcher.subscribe("will", at.qos).await;
    let mortal = at.open(Wishes { will: Some(("will", b"gone")), ..Wishes::default() }).await;
    mortal.vanish().await;
    assert_eq!(watcher.next().await, at.message("will", false, b"gone"));
}

async fn a_group_shares_the_work(at: Place) {
    let (mut one, mut two, sender) = (at.client().await, at.client().await, at.client().await);
    one.subscribe("$share/group/work", at.qos).await;
    two.subscribe("$share/group/work", at.qos).await;
    let total = 40;
    for number in 0..total {
        sender.hand_over("work", false, number.to_string().as_bytes()).await;
    }
    let (mut done, mut counts) = (BTreeSet::new(), [0, 0]);
    while done.len() < total {
        let (member, message) = tokio::select! {
            message = one.next() => (0, message),
            message = two.next() => (1, message),
        };
        assert!(done.insert(message.payload), "a message was delivered to the group twice");
        counts[member] += 1;
    }
    assert!(!counts.contains(&0), "one member did everything: {counts:?}");
}

async fn any_size_arrives(at: Place) {
    let (mut receiver, mut sender) = (at.client().await, at.client().await);
    receiver.subscribe("size", at.qos).await;
    for size in [0, 1, 127, 128, 16_383, 16_384, 65_536, 1024 * 1024] {
        let payload: Vec<u8> = (0..=255).cycle().take(size).collect();
        sender.publish("size", false, &payload).await;
        let got = receiver.next().await;
        assert_eq!(got.payload.len(), size);
        assert!(got == at.message("size", false, &payload), "{size} bytes did not come as they were published");
    }
}

async fn a_session_waits(at: Place) {
    let lasting = || Wishes { lasts: true, ..Wishes::default() };
    let mut first = at.open(lasting()).await;
    first.subscribe("waits", at.qos).await;
    first.close().await;

    let mut sender = at.client().await;
    for number in 0..20 {
        sender.publish("waits", false, number.to_string().as_bytes()).await;
    }
    let mut again = at.open(lasting()).await;
    assert!(again.session_present, "CONNACK does not say that the Session was kept");
    // What is published at QoS 0 to somebody who is away need not wait.
    for number in 0..20 * u8::from(at.qos > 0) {
        assert_eq!(again.next().await, at.message("waits", false, number.to_string().as_bytes()));
    }
    again.close().await;
}

#[derive(Clone, Copy, Debug)]
enum Version {
    V311,
    V5,
}

/// A version and a QoS at a broker.
#[derive(Clone, Copy)]
struct Place {
    port: u16,
    version: Version,
    qos: u8,
}

#[derive(Default)]
struct Wishes {
    /// The Session outlives the connection and waits for the next one with the same wish.
    lasts: bool,
    will: Option<(&'static str, &'static [u8])>,
}

const PATIENCE: Duration = Duration::from_secs(15);
const PACKET_SIZE_MAX: u32 = 2 * 1024 * 1024;

fn in_every_qos<Story: Future<Output = ()>>(version: Version, story: impl Fn(Place) -> Story) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    for qos in 0..=2 {
        println!("{version:?} at QoS {qos}");
        let broker = Broker::start();
        runtime.block_on(story(Place { port: broker.port, version, qos }));
    }
}

impl Place {
    async fn client(self) -> Client {
        self.open(Wishes::default()).await
    }

    async fn open(self, wishes: Wishes) -> Client {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let client_id = match wishes.lasts {
            true => format!("lasting-{:?}-{}", self.version, self.qos),
            false => format!("rumqttc-{number}"),
        };
        let (answers_in, answers) = mpsc::unbounded_channel();
        let (messages_in, messages) = mpsc::unbounded_channel();
        let inbox = Inbox { answers: answers_in, messages: messages_in };
        let (requests, pump) = match self.version {
            Version::V311 => {
                let mut options = rumqttc::MqttOptions::new(client_id, "127.0.0.1", self.port);
                options.set_clean_session(!wishes.lasts);
                options.set_max_packet_size(PACKET_SIZE_MAX as usize, PACKET_SIZE_MAX as usize);
                if let Some((topic, payload)) = wishes.will {
                    options.set_last_will(rumqttc::LastWill::new(topic, payload, v311_qos(self.qos), false));
                }
                let (requests, connection) = rumqttc::AsyncClient::new(options, 256);
                (Requests::V311(requests), tokio::spawn(pump_v311(connection, inbox)))
            }
            Version::V5 => {
                let mut options = v5::MqttOptions::new(client_id, "127.0.0.1", self.port);
                options.set_clean_start(!wishes.lasts);
                options.set_session_expiry_interval(wishes.lasts.then_some(3600));
                options.set_max_packet_size(Some(PACKET_SIZE_MAX));
                if let Some((topic, payload)) = wishes.will {
                    let will = v5::mqttbytes::v5::LastWill::new(topic, payload, v5_qos(self.qos), false, None);
                    options.set_last_will(will);
                }
                let (requests, connection) = v5::AsyncClient::new(options, 256);
                (Requests::V5(requests), tokio::spawn(pump_v5(connection, inbox)))
            }
        };
        let mut client = Client { at: self, requests, pump, answers, messages, session_present: false };
        match client.answer().await {
            Answer::Connected { session_present } => client.session_present = session_present,
            other => panic!("{other:?} instead of CONNACK"),
        }
        client
    }

    fn message(self, topic: &str, retain: bool, payload: &[u8]) -> Message {
        Message { topic: topic.to_owned(), qos: self.qos, retain, payload: payload.to_vec() }
    }
}

/// A connected client, whose event loop is a task of its own.
struct Client {
    at: Place,
    requests: Requests,
    pump: JoinHandle<()>,
    answers: mpsc::UnboundedReceiver<Answer>,
    messages: mpsc::UnboundedReceiver<Message>,
    session_present: bool,
}

enum Requests {
    V311(rumqttc::AsyncClient),
    V5(v5::AsyncClient),
}

#[derive(Debug, PartialEq)]
struct Message {
    topic: String,
    qos: u8,
    retain: bool,
    payload: Vec<u8>,
}

#[derive(Debug, PartialEq)]
enum Answer {
    Connected {
        session_present: bool,
    },
    /// A SUBACK with its first code.
    Subscribed(u8),
    /// PUBACK or PUBCOMP: the broker has taken a Message over.
    Taken,
    Failed(String),
}

impl Client {
    async fn subscribe(&mut self, filter: &str, qos: u8) {
        let asked = match &self.requests {
            Requests::V311(requests) => requests.subscribe(filter, v311_qos(qos)).await.is_ok(),
            Requests::V5(requests) => requests.subscribe(filter, v5_qos(qos)).await.is_ok(),
        };
        assert!(asked, "the connection is gone: {:?}", self.answers.try_recv());
        assert_eq!(self.answer().await, Answer::Subscribed(qos));
    }

    /// Returns when the broker has taken the Message over; at QoS 0 nobody can know.
    async fn publish(&mut self, topic: &str, retain: bool, payload: &[u8]) {
        self.hand_over(topic, retain, payload).await;
        if self.at.qos > 0 {
            assert_eq!(self.answer().await, Answer::Taken);
        }
    }

    /// Returns when the event loop has the Message.
    async fn hand_over(&self, topic: &str, retain: bool, payload: &[u8]) {
        let qos = self.at.qos;
        let asked = match &self.requests {
            Requests::V311(requests) => requests.publish(topic, v311_qos(qos), retain, payload).await.is_ok(),
            Requests::V5(requests) => requests.publish(topic, v5_qos(qos), retain, payload.to_vec()).await.is_ok(),
        };
        assert!(asked, "the connection is gone");
    }

    async fn next(&mut self) -> Message {
        let message = tokio::time::timeout(PATIENCE, self.messages.recv()).await;
        let Ok(Some(message)) = message else { panic!("no message; {:?}", self.answers.try_recv()) };
        message
    }

    async fn answer(&mut self) -> Answer {
        let answer = tokio::time::timeout(PATIENCE, self.answers.recv()).await.expect("an answer in time");
        answer.expect("the connection stands")
    }

    /// Says DISCONNECT and waits until it is sent.
    async fn close(mut self) {
        let asked = match &self.requests {
            Requests::V311(requests) => requests.disconnect().await.is_ok(),
            Requests::V5(requests) => requests.disconnect().await.is_ok(),
        };
        assert!(asked, "the connection is gone");
        tokio::time::timeout(PATIENCE, &mut self.pump).await.expect("an end in time").expect("the pump does not panic");
    }

    /// The network fails: no DISCONNECT.
    async fn vanish(mut self) {
        self.pump.abort();
        assert!((&mut self.pump).await.is_err_and(|error| error.is_cancelled()), "the connection had ended before");
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.pump.abort();
    }
}

/// Where the event loop of a Client puts what comes. Nobody need be listening any more.
struct Inbox {
    answers: mpsc::UnboundedSender<Answer>,
    messages: mpsc::UnboundedSender<Message>,
}

impl Inbox {
    fn answer(&self, answer: Answer) {
        let _ = self.answers.send(answer);
    }

    fn message(&self, topic: String, qos: u8, retain: bool, payload: &[u8]) {
        let _ = self.messages.send(Message { topic, qos, retain, payload: payload.to_vec() });
    }
}

async fn pump_v311(mut connection: rumqttc::EventLoop, inbox: Inbox) {
    use rumqttc::Event;
    loop {
        match connection.poll().await {
            Ok(Event::Incoming(Packet::ConnAck(connack))) => {
                inbox.answer(Answer::Connected { session_present: connack.session_present });
            }
            Ok(Event::Incoming(Packet::SubAck(suback))) => {
                inbox.answer(Answer::Subscribed(match suback.return_codes[..] {
                    [rumqttc::SubscribeReasonCode::Success(qos), ..] => qos as u8,
                    _ => 0x80,
                }))
            }
            Ok(Event::Incoming(Packet::PubAck(_) | Packet::PubComp(_))) => inbox.answer(Answer::Taken),
            Ok(Event::Incoming(Packet::Publish(publish))) => {
                inbox.message(publish.topic, publish.qos as u8, publish.retain, &publish.payload);
            }
            Ok(Event::Outgoing(rumqttc::Outgoing::Disconnect)) => return,
            Ok(_) => {}
            Err(error) => return inbox.answer(Answer::Failed(error.to_string())),
        }
    }
}

async fn pump_v5(mut connection: v5::EventLoop, inbox: Inbox) {
    use v5::Event;
    use v5::mqttbytes::v5::{Packet, SubscribeReasonCode};
    loop {
        match connection.poll().await {
            Ok(Event::Incoming(Packet::ConnAck(connack))) => {
                inbox.answer(Answer::Connected { session_present: connack.session_present });
            }
            Ok(Event::Incoming(Packet::SubAck(suback))) => {
                inbox.answer(Answer::Subscribed(match suback.return_codes[..] {
                    [SubscribeReasonCode::Success(qos), ..] => qos as u8,
                    _ => 0x80,
                }))
            }
            Ok(Event::Incoming(Packet::PubAck(_) | Packet::PubComp(_))) => inbox.answer(Answer::Taken),
            Ok(Event::Incoming(Packet::Publish(publish))) => {
                let topic = String::from_utf8_lossy(&publish.topic).into_owned();
                inbox.message(topic, publish.qos as u8, publish.retain, &publish.payload);
            }
            Ok(Event::Outgoing(rumqttc::Outgoing::Disconnect)) => return,
            Ok(_) => {}
            Err(error) => return inbox.answer(Answer::Failed(error.to_string())),
        }
    }
}

fn v311_qos(qos: u8) -> rumqttc::QoS {
    mqttbytes::qos(qos).expect("0 to 2")
}

fn v5_qos(qos: u8) -> v5::mqttbytes::QoS {
    v5::mqttbytes::qos(qos).expect("0 to 2")
}

/// The built broker in a process of its own, on a free port, with a data directory that goes away with it.
struct Broker {
    port: u16,
    own: Option<(Child, PathBuf)>,
}

impl Broker {
    fn start() -> Self {
        if let Ok(port) = std::env::var("WAYPOST_TEST_PORT") {
            return Self { port: port.parse().expect("a port in WAYPOST_TEST_PORT"), own: None };
        }
        let port =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|socket| socket.local_addr()).expect("a port").port();
        let directory = std::env::temp_dir().join(format!("waypost-rumqttc-{}-{port}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("a temporary directory");
        let process = Command::new(env!("CARGO_BIN_EXE_waypost"))
            .args(["-p", &port.to_string(), "--data-dir"])
            .arg(directory.join("data"))
            .env("WAYPOST__ADMIN__ADDRESS", "off")
            .stdin(Stdio::null())
            .spawn()
            .expect("the built broker");
        let mut broker = Self { port, own: Some((process, directory)) };
        broker.wait_until_it_listens();
        broker
    }

    fn wait_until_it_listens(&mut self) {
        let end = Instant::now() + PATIENCE;
        while TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_err() {
            let (process, _) = self.own.as_mut().expect("it was started just now");
            let ended = process.try_wait().expect("the state of a child");
            assert!(ended.is_none(), "the broker ended instead of starting: {ended:?}");
            assert!(Instant::now() < end, "the broker does not listen on port {}", self.port);
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some((process, directory)) = &mut self.own {
            let _ = process.kill();
            let _ = process.wait();
            let _ = std::fs::remove_dir_all(directory);
        }
    }
}
