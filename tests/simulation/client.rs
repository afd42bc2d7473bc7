//! A Client that keeps to the standard: its half of every exchange, its own Session State, and the checks that a
//! receiver can make by itself.

use crate::random::Random;
use crate::support::{Link, TestBroker};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use waypost::codec::{
    Ack, Characters, Connect, Filters, Header, Limits, Options, Packet, PacketId, Publish, Qos, ReasonCode,
    RetainHandling, Sender, Subscribe, TopicFilters, Unsubscribe, UserProperties, Version, filter_matches,
};

/// Only steady Clients join it, always with QoS 2; see `Simulation::check_steady_share`.
pub const STEADY_SHARE: &str = "$share/steady/s/+";

const LIMITS: Limits = Limits {
    packet_size_max: 1 << 20,
    user_properties_max: 100,
    property_bytes_max: 1 << 16,
    characters: Characters::Lenient,
};

thread_local! {
    /// Counts what happens in the whole simulation: "before" and "after" for the checks.
    static NOW: Cell<u64> = const { Cell::new(0) };
}

fn now() -> u64 {
    NOW.set(NOW.get() + 1);
    NOW.get()
}

/// A Message that this Client has published.
#[derive(Debug)]
pub struct Sent {
    pub serial: u64,
    pub topic: &'static str,
    pub qos: Qos,
    pub at: u64,
    /// The broker has said that it is its own.
    pub acknowledged: bool,
    packet_id: Option<PacketId>,
    stage: Stage,
}

#[derive(Debug, PartialEq)]
enum Stage {
    WaitsForPubAck,
    WaitsForPubRec,
    WaitsForPubComp,
    Over,
}

/// A Message that this Client has received, each first arrival and each repetition.
pub struct Got {
    pub publisher: usize,
    pub serial: u64,
    /// Came by the steady shared subscription.
    pub by_steady_share: bool,
}

/// Messages among which order must hold.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Stream {
    publisher: usize,
    topic: String,
    published_qos: u8,
    delivered_qos: u8,
}

/// A subscription of a steady Client that was acknowledged.
pub struct Steady {
    pub filter: &'static str,
    pub qos: Qos,
    pub since: u64,
}

pub struct Client {
    pub number: usize,
    pub steady: bool,
    pub sent: Vec<Sent>,
    pub received: Vec<Got>,
    pub steady_filters: Vec<Steady>,
    version: Version,
    link: Option<Link>,
    connected: bool,
    inbox: Vec<u8>,
    next_id: u16,
    serials: u64,
    /// Filters asked for in this Session, whether still standing or not.
    filters: BTreeSet<&'static str>,
    asked: BTreeMap<u16, (&'static str, Qos)>,
    /// QoS 2 identifiers between PUBLISH and PUBREL.
    unreleased: BTreeSet<u16>,
    /// Answers that this Client owes and gives late.
    owed: VecDeque<Vec<u8>>,
    /// The last (connection, serial number) of each stream.
    last: BTreeMap<Stream, (u64, u64)>,
    /// The Session was made with Clean Session of MQTT 3.1.1: nothing of it may be used again.
    ends_with_connection: bool,
    /// Asked for a new Session and was never told that it has one.
    clean_unanswered: bool,
    /// The same, and then the broker died: nobody knows which Session is there.
    must_be_clean: bool,
    /// Network Connections so far.
    connections: u64,
    /// QoS 1 Messages since the last connect, for "once only on an undisturbed connection".
    this_connection: BTreeSet<(usize, u64, u64)>,
    unanswered_qos1: VecDeque<u16>,
}

impl Client {
    pub fn new(number: usize, steady: bool, random: &mut Random) -> Self {
        Self {
            number,
            steady,
            version: if random.one_in(2) { Version::V5 } else { Version::V3_1_1 },
            sent: Vec::new(),
            received: Vec::new(),
            steady_filters: Vec::new(),
            link: None,
            connected: false,
            inbox: Vec::new(),
            next_id: 1,
            serials: 0,
            filters: BTreeSet::new(),
            asked: BTreeMap::new(),
            unreleased: BTreeSet::new(),
            owed: VecDeque::new(),
            last: BTreeMap::new(),
            ends_with_connection: false,
            clean_unanswered: false,
            must_be_clean: false,
            connections: 0,
            this_connection: BTreeSet::new(),
            unanswered_qos1: VecDeque::new(),
        }
    }

    // --- connecting -----------------------------------------------------------------------------------------------

    pub fn connect(&mut self, broker: &TestBroker, random: &mut Random) {
        if self.link.is_some() && !random.one_in(10) {
            return; // now and then a Client takes itself over
        }
        let clean = !self.steady && (random.one_in(2) || self.must_be_clean);
        self.send_connect(broker, clean, random);
    }

    pub fn connect_steadily(&mut self, broker: &TestBroker, random: &mut Random) {
        if self.link.is_none() {
            self.send_connect(broker, self.must_be_clean, random);
        }
    }

    /// The broker dies.
    pub fn sees_death(&mut self) {
        self.must_be_clean |= self.clean_unanswered;
        self.lose_connection();
    }

    fn send_connect(&mut self, broker: &TestBroker, clean: bool, random: &mut Random) {
        let id = format!("client-{}", self.number);
        let mut connect = Connect::new(self.version, &id);
        connect.clean_start = clean;
        connect.session_expiry_interval_s = 3600;
        connect.receive_maximum = [1, 2, 3, 10, 100][random.below(5)];
        self.forget_connection();
        self.clean_unanswered |= clean;
        let link = broker.link();
        crate::talk(format_args!("{} connects, clean {clean}, link {}", self.number, link.number()));
        link.send(&encoded(&Packet::Connect(connect), self.version));
        self.ends_with_connection = clean && self.version != Version::V5; // MQTT 3.1.1, 3.1.2.4
        if clean {
            // The old Session ends now, also if this connection is lost before its CONNACK is read.
            broker.read(link.number());
            self.forget_session();
        }
        self.link = Some(link);
    }

    pub fn lose_connection(&mut self) {
        if let Some(link) = self.link.take() {
            link.drop_connection();
            self.forget_connection();
        }
    }

    fn forget_connection(&mut self) {
        if let Some(link) = self.link.take() {
            // The old socket is left open: the broker has to take the Session over.
            drop(link);
        }
        self.connected = false;
        self.inbox.clear();
        self.owed.clear();
        self.asked.clear();
        self.this_connection.clear();
        self.unanswered_qos1.clear();
        if self.ends_with_connection {
            self.forget_session();
        }
    }

    fn forget_session(&mut self) {
        self.filters.clear();
        self.unreleased.clear();
        self.last.clear();
        for sent in &mut self.sent {
            sent.stage = Stage::Over;
        }
    }

    fn connected(&mut self, session_present: bool) {
        self.connected = true;
        self.connections += 1;
        self.clean_unanswered = false;
        self.must_be_clean = false;
        if !session_present {
            assert!(
                !self.steady || self.received.is_empty() && self.steady_filters.is_empty(),
                "client {}: the broker has lost its Session",
                self.number
            );
            self.forget_session();
            return;
        }
        // What is open is sent again, in its first order.
        let again: Vec<Vec<u8>> = self
            .sent
            .iter()
            .filter_map(|sent| {
                let packet_id = sent.packet_id?;
                match sent.stage {
                    Stage::Over => None,
                    Stage::WaitsForPubComp => {
                        Some(encoded(&Packet::PubRel(Ack::new(packet_id, ReasonCode::Success)), self.version))
                    }
                    Stage::WaitsForPubAck | Stage::WaitsForPubRec => Some(self.publish_packet(sent, true)),
                }
            })
            .collect();
        for sent in &self.sent {
            if sent.stage == Stage::WaitsForPubAck {
                self.unanswered_qos1.extend(sent.packet_id.map(PacketId::get));
            }
        }
        for packet in again {
            self.send(&packet);
        }
    }

    // --- what it does ---------------------------------------------------------------------------------------------

    pub fn publish(&mut self, topic: &'static str, random: &mut Random) {
        let open = self.sent.iter().filter(|sent| sent.stage != Stage::Over).count();
        if !self.connected || open >= 90 {
            return;
        }
        let qos = [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce][random.below(3)];
        let (packet_id, stage) = match qos {
            Qos::AtMostOnce => (None, Stage::Over),
            Qos::AtLeastOnce => (Some(self.free_id()), Stage::WaitsForPubAck),
            Qos::ExactlyOnce => (Some(self.free_id()), Stage::WaitsForPubRec),
        };
        self.serials += 1;
        let sent = Sent { serial: self.serials, topic, qos, at: now(), acknowledged: false, packet_id, stage };
        if sent.stage == Stage::WaitsForPubAck {
            self.unanswered_qos1.extend(packet_id.map(PacketId::get));
        }
        let packet = self.publish_packet(&sent, false);
        self.sent.push(sent);
        self.send(&packet);
    }

    fn publish_packet(&self, sent: &Sent, dup: bool) -> Vec<u8> {
        // A repeated QoS 1 PUBLISH is another Message to the broker, so each says on which connection it was sent.
        let payload = format!("{} {} {} {}", self.number, sent.serial, sent.qos as u8, self.connections);
        let mut publish = Publish::new(sent.topic, payload.as_bytes());
        publish.qos = sent.qos;
        publish.packet_id = sent.packet_id;
        publish.dup = dup;
        encoded(&Packet::Publish(publish), self.version)
    }

    pub fn subscribe(&mut self, filter: &'static str, random: &mut Random) {
        if !self.connected {
            return;
        }
        let mut qos = [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce][random.below(3)];
        if filter.starts_with("$share") && self.steady != (filter == STEADY_SHARE) {
            return;
        }
        if self.steady && self.filters.contains(filter) {
            return; // what is steady does not change
        }
        if filter == STEADY_SHARE {
            qos = Qos::ExactlyOnce;
        }
        let options =
            Options { qos, no_local: false, retain_as_published: false, retain_handling: RetainHandling::Send };
        let packet_id = self.free_id();
        let mut storage = Vec::new();
        let filters = Filters::write(&[(filter, options)], &mut storage);
        let packet = encoded(
            &Packet::Subscribe(Subscribe {
                packet_id,
                subscription_id: None,
                user_properties: UserProperties::default(),
                filters,
            }),
            self.version,
        );
        self.asked.insert(packet_id.get(), (filter, qos));
        self.filters.insert(filter);
        self.send(&packet);
    }

    pub fn unsubscribe(&mut self, filter: &'static str) {
        if !self.connected || self.steady {
            return;
        }
        let packet_id = self.free_id();
        let mut storage = Vec::new();
        let filters = TopicFilters::write(&[filter], &mut storage);
        let packet = encoded(
            &Packet::Unsubscribe(Unsubscribe { packet_id, user_properties: UserProperties::default(), filters }),
            self.version,
        );
        self.send(&packet);
    }

    pub fn let_broker_read(&self, broker: &TestBroker) {
        if let Some(link) = &self.link {
            broker.read(link.number());
        }
    }

    /// Reads some of what has come, and gives some of the answers that it owes.
    pub fn read(&mut self, random: &mut Random) {
        self.take_bytes();
        while !random.one_in(4) && self.read_packet() {}
        while !random.one_in(3) && self.give_answer() {}
    }

    /// `true`: something has come.
    pub fn read_all(&mut self) -> bool {
        self.take_bytes();
        let mut any = false;
        while self.read_packet() {
            any = true;
        }
        while self.give_answer() {}
        any
    }

    pub fn is_quiet(&self) -> bool {
        self.connected
            && self.inbox.is_empty()
            && self.owed.is_empty()
            && self.sent.iter().all(|sent| sent.stage == Stage::Over)
    }

    fn take_bytes(&mut self) {
        let Some(link) = &self.link else { return };
        self.inbox.extend(link.received());
        if link.is_closed() && self.inbox.is_empty() {
            self.forget_connection();
        }
    }

    fn give_answer(&mut self) -> bool {
        let Some(answer) = self.owed.pop_front() else { return false };
        self.send(&answer);
        true
    }

    fn send(&self, packet: &[u8]) {
        crate::talk(format_args!("{} -> {}", self.number, packet.escape_ascii()));
        if let Some(link) = &self.link {
            link.send(packet);
        }
    }

    fn free_id(&mut self) -> PacketId {
        loop {
            let candidate = self.next_id;
            self.next_id = if candidate == u16::MAX { 1 } else { candidate + 1 };
            let busy = self
                .sent
                .iter()
                .any(|sent| sent.stage != Stage::Over && sent.packet_id.map(PacketId::get) == Some(candidate));
            if !busy && !self.asked.contains_key(&candidate) {
                return PacketId::new(candidate).expect("never 0");
            }
        }
    }

    // --- what it receives -----------------------------------------------------------------------------------------

    fn read_packet(&mut self) -> bool {
        let header = match Header::decode(&self.inbox, Sender::Server, self.version, &LIMITS) {
            Ok(Some(header)) if header.packet_size() <= self.inbox.len() => header,
            Ok(_) => return false,
            Err(violation) => panic!("client {}: the broker sent a bad header: {violation}", self.number),
        };
        let bytes: Vec<u8> = self.inbox.drain(..header.packet_size()).collect();
        crate::talk(format_args!("{} <- {:?} {}", self.number, header.kind(), bytes.escape_ascii()));
        let packet = match Packet::decode(&header, &bytes[header.header_size()..], self.version, &LIMITS) {
            Ok(packet) => packet,
            Err(violation) => panic!("client {}: the broker sent a bad packet: {violation}", self.number),
        };
        match packet {
            Packet::ConnAck(connack) => {
                assert_eq!(connack.reason, ReasonCode::Success);
                self.connected(connack.session_present);
            }
            Packet::Publish(publish) => self.receive_publish(&publish),
            Packet::PubAck(ack) => self.receive_puback(ack.packet_id),
            Packet::PubRec(ack) => self.receive_pubrec(ack.packet_id),
            Packet::PubComp(ack) => self.receive_pubcomp(ack.packet_id),
            Packet::PubRel(ack) => {
                self.unreleased.remove(&ack.packet_id.get());
                self.owed
                    .push_back(encoded(&Packet::PubComp(Ack::new(ack.packet_id, ReasonCode::Success)), self.version));
            }
            Packet::SubAck(suback) => {
                if let Some((filter, qos)) = self.asked.remove(&suback.packet_id.get())
                    && suback.codes[0] < 0x80
                    && self.steady
                {
                    self.steady_filters.push(Steady { filter, qos, since: now() });
                }
            }
            Packet::UnsubAck(_) | Packet::PingResp => {}
            Packet::Disconnect(disconnect) => {
                assert_eq!(disconnect.reason, ReasonCode::SessionTakenOver, "client {} was disconnected", self.number);
                self.forget_connection();
            }
            other => panic!("client {}: the broker sent {other:?}", self.number),
        }
        true
    }

    fn receive_publish(&mut self, publish: &Publish<'_>) {
        assert!(self.connected, "PUBLISH before CONNACK");
        let text = std::str::from_utf8(publish.payload).expect("our own payload");
        let mut parts = text.split(' ').map(|part| part.parse::<u64>().expect("our own payload"));
        let (Some(publisher), Some(serial), Some(published_qos), Some(connection)) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            panic!("payload {text}")
        };
        let publisher = publisher as usize;
        let plain = self.filters.iter().any(|filter| {
            !filter.starts_with('$')
                && !publish.topic.starts_with("s/")
                && filter_matches(filter.as_bytes(), publish.topic.as_bytes())
        });
        let by_steady_share = publish.topic.starts_with("s/");
        let shared = by_steady_share
            || self
                .filters
                .iter()
                .filter_map(|filter| filter.strip_prefix("$share/g/"))
                .any(|filter| filter_matches(filter.as_bytes(), publish.topic.as_bytes()));
        assert!(plain || shared, "client {}: got {} without a subscription", self.number, publish.topic);
        assert!(u64::from(publish.qos as u8) <= published_qos, "delivered above the published QoS");
        if let Some(packet_id) = publish.packet_id {
            match publish.qos {
                Qos::ExactlyOnce => {
                    self.owed
                        .push_back(encoded(&Packet::PubRec(Ack::new(packet_id, ReasonCode::Success)), self.version));
                    if !self.unreleased.insert(packet_id.get()) {
                        assert!(publish.dup, "client {}: an identifier was used again before PUBREL", self.number);
                        return; // a repetition: known, not passed on
                    }
                }
                _ => self
                    .owed
                    .push_back(encoded(&Packet::PubAck(Ack::new(packet_id, ReasonCode::Success)), self.version)),
            }
        }
        if !shared {
            let topic = publish.topic.to_owned();
            let stream =
                Stream { publisher, topic, published_qos: published_qos as u8, delivered_qos: publish.qos as u8 };
            let last = self.last.entry(stream).or_default();
            // A repetition of QoS 1 may come after a reconnect, marked as such; everything else only moves forward.
            assert!(
                (connection, serial) > *last || (publish.qos == Qos::AtLeastOnce && publish.dup),
                "client {}: message {serial} of client {publisher} on {} came after {last:?} (QoS {published_qos} as {:?}, dup {})",
                self.number,
                publish.topic,
                publish.qos,
                publish.dup
            );
            *last = (connection, serial).max(*last);
            assert!(
                self.this_connection.insert((publisher, serial, connection)),
                "client {}: message {serial} of client {publisher} twice on one connection",
                self.number
            );
        }
        self.received.push(Got { publisher, serial, by_steady_share });
    }

    fn receive_puback(&mut self, packet_id: PacketId) {
        assert_eq!(
            self.unanswered_qos1.pop_front(),
            Some(packet_id.get()),
            "client {}: PUBACKs out of order",
            self.number
        );
        self.settle(packet_id, &Stage::WaitsForPubAck, Stage::Over);
    }

    fn receive_pubrec(&mut self, packet_id: PacketId) {
        self.settle(packet_id, &Stage::WaitsForPubRec, Stage::WaitsForPubComp);
        self.send(&encoded(&Packet::PubRel(Ack::new(packet_id, ReasonCode::Success)), self.version));
    }

    fn receive_pubcomp(&mut self, packet_id: PacketId) {
        self.settle(packet_id, &Stage::WaitsForPubComp, Stage::Over);
    }

    fn settle(&mut self, packet_id: PacketId, from: &Stage, to: Stage) {
        if let Some(sent) = self.sent.iter_mut().find(|sent| sent.packet_id == Some(packet_id) && sent.stage == *from) {
            sent.stage = to;
            sent.acknowledged = true;
        }
    }
}

fn encoded(packet: &Packet<'_>, version: Version) -> Vec<u8> {
    let mut bytes = Vec::new();
    packet.encode(version, &mut bytes);
    bytes
}
