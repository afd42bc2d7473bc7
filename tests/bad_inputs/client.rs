//! A Client of bytes: it sends what a test wrote and says what came back, each wait with a deadline.
//!
//! Writing never fails a test: the broker may have closed the Network Connection for good reason. Only what is read,
//! or not read in time, decides.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::packet::{
    self, ConnAck, Connect, DISCONNECT, Delivery, PINGREQ, Received, Version, ack, connect, kind, publish, subscribe,
};
use crate::rules::INNOCENT_TOPICS;
use crate::transport::{End, Link, Transport, Writer};

pub(crate) use crate::transport::PATIENCE;

/// How long the broker may take to act on a fault after the byte that shows it: a second, and longer by as much as this
/// machine has more to do than it has cores for.
pub(crate) fn prompt() -> Duration {
    Duration::from_secs(1).mul_f64(crate::rules::busyness())
}

/// What one wait ended with.
#[derive(Debug)]
pub(crate) enum Event {
    Packet(Received),
    Closed,
    Silence,
}

pub(crate) struct Client {
    link: Link,
    version: Version,
    /// Bytes received; those before `taken` have been handed out as packets.
    received: Vec<u8>,
    taken: usize,
    last_packet_id: u16,
    /// The beginning of what was sent last, for whoever reads a failure.
    sent_last: Vec<u8>,
}

impl Client {
    /// A Network Connection on which nothing has been said, over what is spoken at this address.
    pub(crate) fn open(address: SocketAddr, version: Version) -> Self {
        Self::open_over(Transport::at(address), address, version)
    }

    /// The same over something else than what is spoken there.
    pub(crate) fn open_over(transport: Transport, address: SocketAddr, version: Version) -> Self {
        let stream = TcpStream::connect_timeout(&address, PATIENCE).expect("the broker accepts connections");
        Self::over(stream, transport, version)
    }

    /// The same from another address of this machine.
    pub(crate) fn open_from(source: Ipv4Addr, address: SocketAddr, version: Version) -> Self {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let socket = socket.expect("the system has sockets");
        socket.bind(&SocketAddr::from((source, 0)).into()).expect("all of 127.0.0.0/8 is this machine");
        socket.connect_timeout(&address.into(), PATIENCE).expect("the broker accepts connections");
        Self::over(socket.into(), Transport::at(address), version)
    }

    fn over(stream: TcpStream, transport: Transport, version: Version) -> Self {
        stream.set_nodelay(true).expect("TCP has this option");
        stream.set_write_timeout(Some(PATIENCE)).expect("the duration is not zero");
        Self {
            link: Link::over(stream, transport),
            version,
            received: Vec::new(),
            taken: 0,
            last_packet_id: 0,
            sent_last: Vec::new(),
        }
    }

    pub(crate) fn version(&self) -> Version {
        self.version
    }

    pub(crate) fn local_port(&self) -> u16 {
        self.link.socket().local_addr().expect("a connected socket has an address").port()
    }

    /// A Packet Identifier that this Client has not used lately.
    pub(crate) fn new_packet_id(&mut self) -> u16 {
        self.last_packet_id = self.last_packet_id % 60_000 + 1;
        self.last_packet_id
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> &mut Self {
        let _ = self.try_send(bytes);
        self
    }

    /// Whether the bytes could be handed to the system within the deadline.
    pub(crate) fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.sent_last.clear();
        self.sent_last.extend(bytes.iter().take(48));
        self.link.writer().send(bytes).is_ok()
    }

    /// A writer of its own, for a thread that sends while this one reads.
    pub(crate) fn writer(&self) -> Writer {
        self.link.writer()
    }

    /// What lies below all layers.
    pub(crate) fn socket(&self) -> &TcpStream {
        self.link.socket()
    }

    /// From now on the system keeps little for us: who does not read is noticed soon.
    pub(crate) fn shrink(&self) {
        socket2::SockRef::from(self.link.socket()).set_recv_buffer_size(4096).expect("TCP has this option");
    }

    /// From now on the system keeps little of what we send and the broker has not read: it is gone soon when we are.
    pub(crate) fn shrink_sending(&self) {
        socket2::SockRef::from(self.link.socket()).set_send_buffer_size(4096).expect("TCP has this option");
    }

    /// Ends the sending side only: the broker reads an end, we still read what it says.
    pub(crate) fn finish_sending(&mut self) {
        self.link.finish_sending();
    }

    /// The same without a word of TLS or WebSocket about it.
    pub(crate) fn cut_off_sending(&mut self) {
        self.link.cut_off_sending();
    }

    /// Ends WebSocket by a Close frame, with which nothing may be sent any more in either direction.
    pub(crate) fn close_websocket(&mut self) {
        self.link.close_websocket();
    }

    /// Breaks the connection off with RST.
    pub(crate) fn reset(self) {
        socket2::SockRef::from(self.link.socket()).set_linger(Some(Duration::ZERO)).expect("TCP has this option");
    }

    /// The next packet, the end of the connection, or silence for this long.
    pub(crate) fn event(&mut self, patience: Duration) -> Event {
        let deadline = Instant::now() + patience;
        loop {
            if let Some((packet, size)) = Received::take(&self.received[self.taken..]) {
                self.taken += size;
                return Event::Packet(packet);
            }
            if self.link.end().is_some() {
                return Event::Closed;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Event::Silence;
            }
            self.read(left);
        }
    }

    fn read(&mut self, patience: Duration) {
        self.received.drain(..self.taken);
        self.taken = 0;
        self.link.read(patience, &mut self.received);
    }

    /// The next packet that is not a message of the innocents, which a Client that subscribes to `#` also gets.
    fn next(&mut self, patience: Duration) -> Event {
        loop {
            let event = self.event(patience);
            let Event::Packet(packet) = &event else {
                return event;
            };
            if packet.kind() != kind::PUBLISH {
                return event;
            }
            let delivery = packet.delivery(self.version);
            if !delivery.topic.starts_with(INNOCENT_TOPICS.as_bytes()) {
                return event;
            }
            self.acknowledge(&delivery);
        }
    }

    #[track_caller]
    pub(crate) fn receive(&mut self) -> Received {
        match self.next(PATIENCE) {
            Event::Packet(packet) => packet,
            other => panic!("expected a packet, got {other:?} after {:02x?}", self.sent_last),
        }
    }

    #[track_caller]
    pub(crate) fn receive_kind(&mut self, kind: u8) -> Received {
        let packet = self.receive();
        assert_eq!(packet.kind(), kind, "expected a packet of type {kind}, got {packet:02x?}");
        packet
    }

    /// A message; whatever QoS it has, it is not acknowledged.
    #[track_caller]
    pub(crate) fn receive_message(&mut self) -> Delivery {
        self.receive_kind(kind::PUBLISH).delivery(self.version)
    }

    /// The packet that acknowledges `packet_id` in this way; gives its Reason Code.
    #[track_caller]
    pub(crate) fn receive_ack(&mut self, kind: u8, packet_id: u16) -> u8 {
        let answer = self.receive_kind(kind);
        assert_eq!(answer.packet_id(), packet_id, "an answer to another packet: {answer:02x?}");
        answer.reason()
    }

    #[track_caller]
    pub(crate) fn receive_connack(&mut self) -> ConnAck {
        self.receive_kind(kind::CONNACK).connack(self.version)
    }

    /// Sends CONNECT and sees it accepted.
    #[track_caller]
    pub(crate) fn connect(&mut self, connect: &Connect) -> ConnAck {
        self.send(&connect.bytes());
        let answer = self.receive_connack();
        assert_eq!(answer.code, 0, "CONNECT was refused: {answer:02x?}");
        answer
    }

    /// Subscribes to one filter; gives the code of the answer.
    #[track_caller]
    pub(crate) fn subscribe(&mut self, filter: impl AsRef<[u8]>, options: u8) -> u8 {
        let id = self.new_packet_id();
        self.send(&subscribe(self.version, id, &[(filter.as_ref(), options)]));
        self.receive_suback(id)
    }

    /// The one code of the SUBACK to `packet_id`. Retained messages may come before it; they are acknowledged and lost.
    #[track_caller]
    pub(crate) fn receive_suback(&mut self, packet_id: u16) -> u8 {
        loop {
            let packet = self.receive();
            if packet.kind() == kind::PUBLISH {
                self.acknowledge(&packet.delivery(self.version));
                continue;
            }
            assert_eq!(
                (packet.kind(), packet.packet_id()),
                (kind::SUBACK, packet_id),
                "expected a SUBACK: {packet:02x?}"
            );
            let codes = packet.codes(self.version);
            assert_eq!(codes.len(), 1, "one filter, one code: {packet:02x?}");
            return codes[0];
        }
    }

    /// Publishes and completes the exchange; gives the Reason Code of the first acknowledgement.
    #[track_caller]
    pub(crate) fn publish(&mut self, topic: impl AsRef<[u8]>, payload: impl AsRef<[u8]>, qos: u8) -> u8 {
        let id = self.new_packet_id();
        self.send(&publish(self.version, topic, payload).qos(qos, id).bytes());
        self.finish_publish(qos, id)
    }

    /// The rest of an exchange whose PUBLISH has been sent.
    #[track_caller]
    pub(crate) fn finish_publish(&mut self, qos: u8, packet_id: u16) -> u8 {
        match qos {
            0 => 0,
            1 => self.receive_ack(kind::PUBACK, packet_id),
            _ => {
                let reason = self.receive_ack(kind::PUBREC, packet_id);
                if reason < 0x80 {
                    self.send(&ack(kind::PUBREL, packet_id));
                    assert_eq!(self.receive_ack(kind::PUBCOMP, packet_id), 0, "PUBCOMP of a known identifier");
                }
                reason
            }
        }
    }

    /// Sends the acknowledgement that a delivery waits for first: PUBACK or PUBREC, or nothing for QoS 0.
    pub(crate) fn acknowledge(&mut self, delivery: &Delivery) {
        match delivery.qos {
            0 => {}
            1 => drop(self.send(&ack(kind::PUBACK, delivery.packet_id))),
            _ => drop(self.send(&ack(kind::PUBREC, delivery.packet_id))),
        }
    }

    /// Completes the exchange of a delivery that this Client has received.
    #[track_caller]
    pub(crate) fn finish_delivery(&mut self, delivery: &Delivery) {
        self.acknowledge(delivery);
        if delivery.qos == 2 {
            self.receive_ack(kind::PUBREL, delivery.packet_id);
            self.send(&ack(kind::PUBCOMP, delivery.packet_id));
        }
    }

    /// Sees that the connection works and that nothing but the answer to a PINGREQ comes.
    #[track_caller]
    pub(crate) fn ping(&mut self) {
        self.send(PINGREQ);
        self.receive_kind(kind::PINGRESP);
    }

    /// All that comes until a PINGREQ sent now is answered.
    #[track_caller]
    pub(crate) fn settle(&mut self) -> Vec<Received> {
        self.send(PINGREQ);
        let mut all = Vec::new();
        loop {
            let packet = self.receive();
            if packet.kind() == kind::PINGRESP {
                return all;
            }
            all.push(packet);
        }
    }

    /// The messages before one with this payload, each of them with its exchange completed.
    #[track_caller]
    pub(crate) fn messages_until(&mut self, payload: &[u8]) -> Vec<Delivery> {
        let mut all = Vec::new();
        loop {
            let packet = self.receive();
            match packet.kind() {
                kind::PUBLISH => {
                    let delivery = packet.delivery(self.version);
                    self.acknowledge(&delivery);
                    if delivery.payload == payload {
                        if delivery.qos == 2 {
                            self.receive_ack(kind::PUBREL, delivery.packet_id);
                            self.send(&ack(kind::PUBCOMP, delivery.packet_id));
                        }
                        return all;
                    }
                    all.push(delivery);
                }
                kind::PUBREL => drop(self.send(&ack(kind::PUBCOMP, packet.packet_id()))),
                _ => panic!("expected a message, got {packet:02x?}"),
            }
        }
    }

    /// Says DISCONNECT and sees the connection close.
    #[track_caller]
    pub(crate) fn disconnect(mut self) {
        self.send(DISCONNECT);
        self.expect_close();
    }

    /// The broker closes the Network Connection without another word.
    #[track_caller]
    pub(crate) fn expect_close(&mut self) {
        self.expect_close_within(prompt());
    }

    #[track_caller]
    pub(crate) fn expect_close_within(&mut self, patience: Duration) {
        match self.next(patience) {
            Event::Closed => self.check_end(),
            other => panic!("expected the connection to close, got {other:02x?} after {:02x?}", self.sent_last),
        }
    }

    /// However sudden it was for this Client, the broker has ended every layer as it should be ended, so that nobody takes
    /// the end for an attack on the way.
    #[track_caller]
    fn check_end(&self) {
        assert_ne!(self.link.end(), Some(End::CutOff), "a layer was cut off after {:02x?}", self.sent_last);
    }

    /// The connection is refused: MQTT 5 is told one of these codes in a DISCONNECT, MQTT 3.1.1 nothing; both are closed.
    #[track_caller]
    pub(crate) fn expect_refusal(&mut self, codes: &[u8]) {
        if self.version.is_v5() {
            match self.next(prompt()) {
                Event::Packet(packet) if packet.kind() == kind::DISCONNECT => self.check_refusal(&packet, codes),
                other => panic!(
                    "expected a DISCONNECT with one of {codes:02x?}, got {other:02x?} after {:02x?}",
                    self.sent_last
                ),
            }
        }
        self.expect_close();
    }

    /// The same when answers to earlier packets may come first; gives those.
    #[track_caller]
    pub(crate) fn expect_refusal_after_answers(&mut self, codes: &[u8], patience: Duration) -> Vec<Received> {
        let mut answers = Vec::new();
        loop {
            match self.next(patience) {
                Event::Packet(packet) if packet.kind() == kind::DISCONNECT && self.version.is_v5() => {
                    self.check_refusal(&packet, codes);
                    self.expect_close();
                    return answers;
                }
                Event::Packet(packet) => answers.push(packet),
                Event::Closed if !self.version.is_v5() => {
                    self.check_end();
                    return answers;
                }
                other => panic!("expected a refusal with one of {codes:02x?}, got {other:02x?} after {answers:02x?}"),
            }
        }
    }

    #[track_caller]
    fn check_refusal(&self, packet: &Received, codes: &[u8]) {
        assert!(
            codes.contains(&packet.reason()),
            "expected one of {codes:02x?}, got {packet:02x?} after {:02x?}",
            self.sent_last
        );
        for (id, value) in packet.properties() {
            if id == packet::property::REASON_STRING {
                crate::rules::check_reason_string(&value);
            }
        }
    }

    /// CONNECT is refused: MQTT 5 gets a CONNACK with one of these codes, MQTT 3.1.1 nothing; both are closed.
    #[track_caller]
    pub(crate) fn expect_connect_refusal(&mut self, codes: &[u8]) {
        if self.version.is_v5() {
            self.expect_connack(codes);
        }
        self.expect_close();
    }

    /// CONNECT is refused by a CONNACK with one of these codes, in the form of this Client's version, or by a close.
    #[track_caller]
    pub(crate) fn expect_connack_or_close(&mut self, codes: &[u8]) {
        match self.next(prompt()) {
            Event::Closed => return self.check_end(),
            Event::Packet(packet) => {
                let answer = packet.connack(self.version);
                assert!(
                    codes.contains(&answer.code),
                    "expected one of {codes:02x?}, got {answer:02x?} after {:02x?}",
                    self.sent_last
                );
            }
            Event::Silence => {
                panic!("expected a CONNACK with one of {codes:02x?} or a close, got silence")
            }
        }
        self.expect_close();
    }

    /// CONNECT is refused by a CONNACK with one of these codes, in the form of this Client's version.
    #[track_caller]
    pub(crate) fn expect_connack(&mut self, codes: &[u8]) {
        match self.next(prompt()) {
            Event::Packet(packet) => {
                let answer = packet.connack(self.version);
                assert!(
                    codes.contains(&answer.code),
                    "expected one of {codes:02x?}, got {answer:02x?} after {:02x?}",
                    self.sent_last
                );
                assert!(!answer.session_present, "a refusing CONNACK has no Session");
            }
            other => {
                panic!("expected a CONNACK with one of {codes:02x?}, got {other:02x?} after {:02x?}", self.sent_last)
            }
        }
    }
}

/// An accepted Client with a fresh Session.
#[track_caller]
pub(crate) fn connected(address: SocketAddr, version: Version, client_id: impl AsRef<[u8]>) -> Client {
    let mut client = Client::open(address, version);
    client.connect(&connect(version, client_id));
    client
}
