//! Two Clients who remember: what the one was told to be kept must reach the other, whatever happens to the broker in between.
//!
//! The messages are numbered, of QoS 1 and 2 in turn; now and then the number is retained as well. After a fall the publisher sends again
//! what it was not told about, as the standard wants it, and the subscriber sees to it that nothing of QoS 2 comes twice.

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use crate::client::{Client, Event, PATIENCE, connected};
use crate::k_sessions::Inbox;
use crate::packet::{Connect, Version, ack, code, connect, kind, property, publish, subscribe};
use crate::rules::{busyness, unique};

/// Messages that are under way at a time, of the hundred that broker and Clients allow.
const WINDOW: usize = 30;
/// Return code of an MQTT 3.1.1 CONNACK.
const SERVER_UNAVAILABLE: u8 = 3;
/// Every so manyth message is retained, and goes nowhere else.
const RETAINED: u32 = 10;

#[derive(Clone, Copy, Debug)]
struct Sent {
    number: u32,
    qos: u8,
    is_retained: bool,
    is_released: bool,
}

pub(crate) struct Flow {
    version: Version,
    name: String,
    clients: Option<[Client; 2]>,
    /// Its Sessions have been there when it was told so.
    was_in: bool,
    payload_bytes: usize,
    next: u32,
    /// What the publisher has not been told all about, in the order in which it was sent.
    open: BTreeMap<u32, Sent>,
    told: HashSet<u32>,
    refused: HashSet<u32>,
    retained_told: Option<u32>,
    inbox: Inbox,
}

/// One of each version, on the same broker.
pub(crate) struct Flows([Flow; 2]);

impl Flows {
    pub(crate) fn new(name: &str) -> Self {
        Self(Version::BOTH.map(|version| Flow::new(version, name)))
    }

    #[track_caller]
    pub(crate) fn come(&mut self, address: SocketAddr) {
        self.0.iter_mut().for_each(|flow| flow.comes(address));
    }

    #[track_caller]
    pub(crate) fn go_on(&mut self, lasts: Duration) {
        let end = Instant::now() + lasts;
        self.go_on_until(|| Instant::now() >= end);
    }

    /// Until something is so. `false`: somebody was cut off.
    #[track_caller]
    pub(crate) fn go_on_until(&mut self, is_so: impl Fn() -> bool) -> bool {
        while !is_so() {
            let turn = Instant::now() + Duration::from_millis(10);
            if !self.0.iter_mut().all(|flow| flow.goes_on_until(|_| Instant::now() >= turn || is_so())) {
                return false;
            }
        }
        true
    }

    #[track_caller]
    pub(crate) fn fall(&mut self) {
        self.0.iter_mut().for_each(Flow::falls);
    }

    #[track_caller]
    pub(crate) fn end(&mut self, address: SocketAddr) {
        self.0.iter_mut().for_each(|flow| flow.ends(address));
    }

    /// Messages that the broker has said it keeps.
    pub(crate) fn told(&self) -> usize {
        self.0.iter().map(Flow::told).sum()
    }
}

fn packet_id(number: u32) -> u16 {
    (number % 60_000 + 1) as u16
}

impl Flow {
    pub(crate) fn new(version: Version, name: &str) -> Self {
        Self {
            version,
            name: unique(name),
            clients: None,
            was_in: false,
            payload_bytes: 40,
            next: 1,
            open: BTreeMap::new(),
            told: HashSet::new(),
            refused: HashSet::new(),
            retained_told: None,
            inbox: Inbox::default(),
        }
    }

    /// Each message has so many bytes.
    pub(crate) fn of_size(mut self, bytes: usize) -> Self {
        self.payload_bytes = bytes;
        self
    }

    fn connect(&self, who: &str) -> Connect {
        let properties = [
            property::of_u32(property::SESSION_EXPIRY_INTERVAL, 3600),
            property::of_u16(property::RECEIVE_MAXIMUM, 100),
        ];
        Connect {
            clean: false,
            properties: properties.concat(),
            ..connect(self.version, format!("{}-{who}", self.name))
        }
    }

    /// Both come, or come back: then the broker knows them, and has what it said it has.
    #[track_caller]
    pub(crate) fn comes(&mut self, address: SocketAddr) {
        let mut clients = ["publisher", "subscriber"].map(|who| {
            let (client, present) = self.is_let_in(address, who);
            assert_eq!(present, self.was_in, "whether {who} has a Session");
            client
        });
        if !self.was_in {
            for qos in 1..=2 {
                self.retries("it may not subscribe", || {
                    let code = clients[1].subscribe(format!("ok/{}/{qos}", self.name), qos);
                    assert!([qos, 0x80, code::QUOTA_EXCEEDED].contains(&code), "SUBACK with {code:02x}");
                    (code == qos).then_some(())
                });
            }
        }
        self.was_in = true;
        self.check_retained(address);
        for sent in self.open.values() {
            let id = packet_id(sent.number);
            clients[0].send(&match sent.is_released {
                true => ack(kind::PUBREL, id),
                false => self.packet(sent).repeated().bytes(),
            });
        }
        self.clients = Some(clients);
    }

    /// A broker whose disk is in trouble takes nobody in who is to be kept, and says so.
    #[track_caller]
    fn is_let_in(&self, address: SocketAddr, who: &str) -> (Client, bool) {
        self.retries("it is not let in", || {
            let mut client = Client::open(address, self.version);
            let answer = client.send(&self.connect(who).bytes()).receive_connack();
            let refusals = [SERVER_UNAVAILABLE, code::SERVER_UNAVAILABLE, code::SERVER_BUSY, code::QUOTA_EXCEEDED];
            assert!(answer.code == 0 || refusals.contains(&answer.code), "CONNECT was refused: {answer:02x?}");
            (answer.code == 0).then_some((client, answer.session_present))
        })
    }

    #[track_caller]
    fn retries<T>(&self, what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + 2 * PATIENCE.mul_f64(busyness());
        loop {
            if let Some(done) = attempt() {
                return done;
            }
            assert!(Instant::now() < deadline, "{what}, for too long");
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn packet(&self, sent: &Sent) -> crate::packet::Publish {
        let mut payload = sent.number.to_be_bytes().to_vec();
        payload.resize(self.payload_bytes, b'x');
        let packet = match sent.is_retained {
            true => publish(self.version, format!("ok/{}/kept", self.name), payload).retained(),
            false => publish(self.version, format!("ok/{}/{}", self.name, sent.qos), payload),
        };
        packet.qos(sent.qos, packet_id(sent.number))
    }

    /// What is retained is the last number that the publisher was told about, or one that it sent later.
    #[track_caller]
    fn check_retained(&self, address: SocketAddr) {
        let Some(told) = self.retained_told else { return };
        let mut reader = connected(address, Version::V5, unique("flow-reader"));
        reader.send(&subscribe(Version::V5, 1, &[(format!("ok/{}/kept", self.name).as_bytes(), 0)]));
        reader.receive_kind(kind::SUBACK);
        let kept = reader.receive_message().payload;
        let number = u32::from_be_bytes(*kept.first_chunk().expect("a number"));
        assert!((told..self.next).contains(&number), "retained is {number}, {told} was told to be kept");
        reader.disconnect();
    }

    /// Messages that the broker has said it keeps.
    pub(crate) fn told(&self) -> usize {
        self.told.len()
    }

    /// Messages that the broker has refused.
    pub(crate) fn refused(&self) -> usize {
        self.refused.len()
    }

    /// Both do what they do for a while, or until one of them is cut off.
    #[track_caller]
    pub(crate) fn goes_on(&mut self, lasts: Duration) {
        let end = Instant::now() + lasts;
        self.goes_on_until(|_| Instant::now() >= end);
    }

    /// The same until something is so. `false`: one of them was cut off.
    #[track_caller]
    pub(crate) fn goes_on_until(&mut self, is_so: impl Fn(&Self) -> bool) -> bool {
        self.runs(true, is_so)
    }

    fn runs(&mut self, sends: bool, is_so: impl Fn(&Self) -> bool) -> bool {
        let mut clients = self.clients.take().expect("they are connected");
        let mut is_connected = true;
        while is_connected && !is_so(self) {
            let mut bytes = Vec::new();
            while sends && self.open.len() < WINDOW {
                let number = self.next;
                self.next += 1;
                let is_retained = number.is_multiple_of(RETAINED);
                let sent = Sent { number, qos: 1 + (number % 2) as u8, is_retained, is_released: false };
                bytes.extend(self.packet(&sent).bytes());
                self.open.insert(number, sent);
            }
            if !bytes.is_empty() {
                clients[0].send(&bytes);
            }
            is_connected = self.takes_in(&mut clients, Duration::from_millis(1));
        }
        self.clients = Some(clients);
        is_connected
    }

    /// Takes in what both have got, until nothing more comes within this time. `false`: one of them was cut off.
    #[track_caller]
    fn takes_in(&mut self, [publisher, subscriber]: &mut [Client; 2], patience: Duration) -> bool {
        let is_publisher_in = loop {
            match publisher.event(patience) {
                Event::Packet(packet) => self.is_told(publisher, &packet),
                other => break matches!(other, Event::Silence),
            }
        };
        let is_subscriber_in = loop {
            match subscriber.event(patience) {
                Event::Packet(packet) => self.inbox.take(subscriber, &packet),
                other => break matches!(other, Event::Silence),
            }
        };
        is_publisher_in && is_subscriber_in
    }

    #[track_caller]
    fn is_told(&mut self, publisher: &mut Client, packet: &crate::packet::Received) {
        let id = packet.packet_id();
        let sent = self.open.values_mut().find(|sent| packet_id(sent.number) == id);
        let Some(sent) = sent else { panic!("about a message that was not sent: {packet:02x?}") };
        let (number, is_retained) = (sent.number, sent.is_retained);
        match packet.kind() {
            kind::PUBACK | kind::PUBREC if packet.reason() >= 0x80 => {
                assert_eq!(packet.reason(), code::QUOTA_EXCEEDED, "{packet:02x?}");
                self.refused.insert(number);
                self.open.remove(&number);
            }
            kind::PUBACK | kind::PUBREC => {
                self.told.insert(number);
                if is_retained {
                    self.retained_told = self.retained_told.max(Some(number));
                }
                if packet.kind() == kind::PUBACK {
                    self.open.remove(&number);
                } else {
                    sent.is_released = true;
                    publisher.send(&ack(kind::PUBREL, id));
                }
            }
            // After a fall the broker may have forgotten it already.
            kind::PUBCOMP => drop(self.open.remove(&number)),
            _ => panic!("a publisher got {packet:02x?}"),
        }
    }

    /// The broker has ended, or will not be heard any more: what it had said before still arrives.
    #[track_caller]
    pub(crate) fn falls(&mut self) {
        let mut clients = self.clients.take().expect("they are connected");
        self.takes_in(&mut clients, Duration::from_millis(20));
    }

    fn missing(&self) -> Vec<u32> {
        let has = |number: &u32| self.inbox.has(1 + (number % 2) as u8, *number);
        self.told.iter().copied().filter(|number| number % RETAINED != 0 && !has(number)).collect()
    }

    /// The publisher is told about the rest, and the subscriber gets all that it was told about, before both leave for ever.
    #[track_caller]
    pub(crate) fn ends(&mut self, address: SocketAddr) {
        let deadline = Instant::now() + 2 * PATIENCE.mul_f64(busyness());
        let is_done = |flow: &Self| flow.open.is_empty() && flow.missing().is_empty() && flow.inbox.holds_nothing();
        let is_connected = self.runs(false, |flow| is_done(flow) || Instant::now() > deadline);
        let mut missing = self.missing();
        missing.sort_unstable();
        assert!(
            is_connected && is_done(self),
            "of {} messages told to be kept, lost: {missing:?}; never answered: {:?}; connected: {is_connected}",
            self.told.len(),
            self.open.values().take(10).collect::<Vec<_>>(),
        );
        let mut clients = self.clients.take().expect("they are connected");
        self.takes_in(&mut clients, Duration::from_millis(1));
        drop(clients);
        for who in ["publisher", "subscriber"] {
            connected(address, self.version, format!("{}-{who}", self.name)).disconnect();
        }
        let mut cleaner = connected(address, self.version, unique("flow-cleaner"));
        let clear = publish(self.version, format!("ok/{}/kept", self.name), "").retained().qos(1, 1);
        cleaner.send(&clear.bytes()).receive_ack(kind::PUBACK, 1);
        cleaner.disconnect();
    }
}
