//! A Client of the standard that talks with the broker and insists on what it hears: all of it, and nothing else.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use crate::support::wire::{
    self, Ack, AckKind, ConnAck, Connect, Farewell, PINGREQ, Packet, Parsed, Publish, SubAck, Subscribe, Value,
    Version, property,
};
use crate::support::{Link, TestBroker};

pub(crate) struct Client {
    link: Link,
    version: Version,
    /// Heard and not yet asked for.
    heard: RefCell<Vec<Parsed>>,
    connack: RefCell<Option<ConnAck>>,
    next_packet_id: Cell<u16>,
}

impl Client {
    /// A Network Connection on which nothing was said yet.
    pub(crate) fn opens(broker: &TestBroker, version: Version) -> Self {
        Self {
            link: broker.link(),
            version,
            heard: RefCell::default(),
            connack: RefCell::default(),
            next_packet_id: Cell::new(40_000),
        }
    }

    /// Connects and is accepted. What the broker says after its CONNACK stays to be heard.
    #[track_caller]
    pub(crate) fn connects(broker: &TestBroker, connect: Connect) -> Self {
        let client = Self::opens(broker, connect.version);
        client.says(connect.clone());
        let mut heard = client.hears_all();
        assert!(!heard.is_empty(), "no CONNACK for {connect:?}");
        let Parsed::ConnAck(connack) = heard.remove(0) else {
            panic!("the first packet of a server is a CONNACK, not {heard:?}");
        };
        assert_eq!(connack.code, 0, "{connect:?} was refused: {connack:?}");
        *client.heard.borrow_mut() = heard;
        *client.connack.borrow_mut() = Some(connack);
        client
    }

    /// Connects and is told that the broker knows its Session.
    #[track_caller]
    pub(crate) fn resumes(broker: &TestBroker, connect: Connect) -> Self {
        let client = Self::connects(broker, connect);
        // MQTT 3.1 has no Session Present.
        assert!(client.session_present() || client.version == Version::V31, "the Session should have been there");
        client
    }

    /// Sends a CONNECT on a new Network Connection; what comes back stays to be heard.
    #[track_caller]
    pub(crate) fn tries(broker: &TestBroker, version: Version, connect: impl Packet) -> Self {
        let client = Self::opens(broker, version);
        client.says(connect);
        client
    }

    /// A Client of MQTT 5 that takes no packet larger than its CONNACK, and the size of that.
    #[track_caller]
    pub(crate) fn connects_narrowly(broker: &TestBroker) -> (Self, usize) {
        let probe = Self::tries(broker, Version::V5, wire::connect_v5("narrow"));
        let size = probe.hears_bytes().len();
        probe.disconnects();
        let maximum = property::maximum_packet_size(u32::try_from(size).expect("a CONNACK is small"));
        (Self::connects(broker, wire::connect_v5("narrow").with(maximum)), size)
    }

    pub(crate) fn connack(&self) -> ConnAck {
        self.connack.borrow().clone().expect("the Client was connected with `connects`")
    }

    pub(crate) fn session_present(&self) -> bool {
        self.connack().session_present
    }

    // ----------------------------------------------------------------------------------------------------- speaking

    pub(crate) fn says(&self, packet: impl Packet) -> &Self {
        self.link.send(&packet.bytes(self.version));
        self
    }

    /// Everything in one segment.
    pub(crate) fn says_at_once(&self, packets: &[&dyn Packet]) -> &Self {
        let bytes: Vec<u8> = packets.iter().flat_map(|packet| packet.bytes(self.version)).collect();
        self.link.send(&bytes);
        self
    }

    /// Publishes, goes through the whole handshake of the QoS and sees it succeed. Other packets stay to be heard.
    #[track_caller]
    pub(crate) fn publishes(&self, publish: Publish) -> &Self {
        let (qos, packet_id) = (publish.qos, publish.packet_id.unwrap_or_default());
        self.says(publish);
        match qos {
            1 => self.is_acknowledged(AckKind::PubAck, packet_id),
            2 => {
                self.is_acknowledged(AckKind::PubRec, packet_id);
                self.says(wire::pubrel(packet_id));
                self.is_acknowledged(AckKind::PubComp, packet_id);
            }
            _ => {}
        }
        self
    }

    #[track_caller]
    fn is_acknowledged(&self, kind: AckKind, packet_id: u16) {
        let is_it =
            |parsed: &Parsed| matches!(parsed, Parsed::Ack(ack) if ack.kind == kind && ack.packet_id == packet_id);
        match self.takes_first(is_it) {
            Parsed::Ack(ack) => assert!(ack.reason < 0x80, "{ack:?} should have been a success"),
            _ => unreachable!("only an acknowledgement was asked for"),
        }
    }

    /// Subscribes to one filter, and is granted the QoS that it asked for. Other packets stay to be heard.
    #[track_caller]
    pub(crate) fn subscribes(&self, filter: impl AsRef<[u8]>, options: u8) -> &Self {
        self.subscribes_with(wire::subscribe(self.packet_id()).to(filter, options))
    }

    /// Subscribes, and is granted what it asked for. Other packets stay to be heard: a server may send matching
    /// messages before its SUBACK.
    #[track_caller]
    pub(crate) fn subscribes_with(&self, subscribe: Subscribe) -> &Self {
        let granted: Vec<u8> = subscribe.filters.iter().map(|(_, options)| options & 3).collect();
        let packet_id = subscribe.packet_id;
        self.says(subscribe);
        assert_eq!(self.hears_suback(), wire_suback(packet_id, granted));
        self
    }

    /// Unsubscribes from one filter that it was subscribed to.
    #[track_caller]
    pub(crate) fn unsubscribes(&self, filter: &str) -> &Self {
        let packet_id = self.packet_id();
        self.says(wire::unsubscribe(packet_id).from(filter));
        let codes: &[u8] = if self.version.is_v5() { &[0] } else { &[] };
        let unsuback = self.takes_first(|parsed| matches!(parsed, Parsed::UnsubAck(_)));
        assert_eq!(unsuback, wire::unsuback(packet_id, codes));
        self
    }

    /// The network fails: no DISCONNECT.
    pub(crate) fn vanishes(&self) -> &Self {
        self.link.drop_connection();
        self
    }

    /// Says DISCONNECT with Reason Code 0x00.
    pub(crate) fn disconnects(&self) -> &Self {
        self.says(wire::disconnect(0));
        self.link.drop_connection();
        self
    }

    /// Its socket takes no more bytes.
    pub(crate) fn stops_reading(&self) {
        self.link.stop_reading();
    }

    pub(crate) fn resumes_reading(&self) {
        self.link.resume_reading();
    }

    fn packet_id(&self) -> u16 {
        let id = self.next_packet_id.get();
        self.next_packet_id.set(id + 1);
        id
    }

    // ------------------------------------------------------------------------------------------------------ hearing

    /// The bytes that came, as they came.
    pub(crate) fn hears_bytes(&self) -> Vec<u8> {
        assert!(self.heard.borrow().is_empty(), "some packets were taken apart already");
        self.link.received()
    }

    /// All packets that came.
    pub(crate) fn hears_all(&self) -> Vec<Parsed> {
        let mut heard = self.heard.take();
        heard.extend(wire::parse(&self.link.received(), self.version.is_v5()));
        heard
    }

    /// Exactly these packets, in this order.
    #[track_caller]
    pub(crate) fn hears(&self, expected: impl Packets) -> &Self {
        assert_eq!(self.hears_all(), expected.parsed());
        self
    }

    /// Exactly these packets, in any order.
    #[track_caller]
    pub(crate) fn hears_in_any_order(&self, expected: Vec<Parsed>) -> &Self {
        let heard = self.hears_all();
        let mut rest = heard.clone();
        for parsed in &expected {
            let place = rest.iter().position(|each| each == parsed);
            rest.remove(place.unwrap_or_else(|| panic!("{parsed:?} is not among {heard:?}")));
        }
        assert_eq!(rest, [], "more than expected in {heard:?}");
        self
    }

    #[track_caller]
    pub(crate) fn hears_nothing(&self) -> &Self {
        assert_eq!(self.hears_all(), []);
        self
    }

    /// One acknowledgement and nothing else; its Reason Code is for the caller to judge.
    #[track_caller]
    pub(crate) fn hears_ack(&self, kind: AckKind, packet_id: u16) -> Ack {
        let heard = self.hears_all();
        match &heard[..] {
            [Parsed::Ack(ack)] if ack.kind == kind && ack.packet_id == packet_id => ack.clone(),
            _ => panic!("expected {kind:?} {packet_id} and nothing else, not {heard:?}"),
        }
    }

    /// The SUBACK, wherever it stands among what came; the rest stays to be heard.
    #[track_caller]
    pub(crate) fn hears_suback(&self) -> SubAck {
        match self.takes_first(|parsed| matches!(parsed, Parsed::SubAck(_))) {
            Parsed::SubAck(suback) => suback,
            _ => unreachable!("only a SUBACK was asked for"),
        }
    }

    /// One SUBACK and nothing else. Reason Strings and User Properties are the broker's to choose.
    #[track_caller]
    pub(crate) fn hears_suback_codes(&self, packet_id: u16, codes: &[u8]) -> &Self {
        let suback = self.hears_suback();
        assert_eq!((suback.packet_id, &suback.codes[..]), (packet_id, codes));
        self.hears_nothing()
    }

    #[track_caller]
    fn takes_first(&self, is_wanted: impl Fn(&Parsed) -> bool) -> Parsed {
        let mut heard = self.hears_all();
        let place = heard.iter().position(is_wanted);
        let place = place.unwrap_or_else(|| panic!("what was expected is not among {heard:?}"));
        let found = heard.remove(place);
        *self.heard.borrow_mut() = heard;
        found
    }

    /// Exactly this PUBLISH and nothing else, whatever Packet Identifier the broker chose for it. Returns that.
    #[track_caller]
    pub(crate) fn receives(&self, expected: Publish) -> u16 {
        self.receives_all([expected])[0]
    }

    /// Exactly these PUBLISH packets in this order and nothing else. Returns their Packet Identifiers (0 for none).
    #[track_caller]
    pub(crate) fn receives_all<const N: usize>(&self, expected: [Publish; N]) -> Vec<u16> {
        let heard = self.hears_publishes();
        let got: Vec<Publish> = heard.iter().cloned().map(without_packet_id).collect();
        assert_eq!(got, expected.map(without_packet_id));
        heard.iter().map(|publish| publish.packet_id.unwrap_or_default()).collect()
    }

    /// Exactly these PUBLISH packets and nothing else, in any order.
    #[track_caller]
    pub(crate) fn receives_in_any_order<const N: usize>(&self, expected: [Publish; N]) {
        let sorted = |publishes: Vec<Publish>| {
            let mut publishes: Vec<Publish> = publishes.into_iter().map(without_packet_id).collect();
            publishes.sort_by(|one, other| (&one.topic, &one.payload).cmp(&(&other.topic, &other.payload)));
            publishes
        };
        assert_eq!(sorted(self.hears_publishes()), sorted(expected.to_vec()));
    }

    /// Exactly this PUBLISH, and acknowledges it as its QoS asks.
    #[track_caller]
    pub(crate) fn takes(&self, expected: Publish) -> &Self {
        let qos = expected.qos;
        let packet_id = self.receives(expected);
        self.acknowledges(qos, packet_id)
    }

    /// Goes through the receiver's side of the handshake of a QoS.
    #[track_caller]
    pub(crate) fn acknowledges(&self, qos: u8, packet_id: u16) -> &Self {
        match qos {
            1 => {
                self.says(wire::puback(packet_id));
            }
            2 => {
                self.says(wire::pubrec(packet_id)).hears(wire::pubrel(packet_id)).says(wire::pubcomp(packet_id));
            }
            _ => {}
        }
        self
    }

    /// All that came, which are PUBLISH packets and nothing else. Properties are put in the order of their numbers;
    /// those of the same number keep theirs.
    #[track_caller]
    pub(crate) fn hears_publishes(&self) -> Vec<Publish> {
        let only_publish = |parsed| match parsed {
            Parsed::Publish(mut publish) => {
                publish.properties.sort_by_key(|(id, _)| *id);
                publish
            }
            other => panic!("expected PUBLISH packets only, not {other:?}"),
        };
        self.hears_all().into_iter().map(only_publish).collect()
    }

    // ---------------------------------------------------------------------------------------------- how it may end

    #[track_caller]
    pub(crate) fn is_open(&self) -> &Self {
        assert!(!self.link.is_closed(), "the broker closed the Network Connection");
        self
    }

    /// The Network Connection is there and answers, and had nothing else to say.
    #[track_caller]
    pub(crate) fn is_alive(&self) -> &Self {
        self.says(PINGREQ).hears(Parsed::PingResp).is_open()
    }

    /// The broker closed the Network Connection and said nothing.
    #[track_caller]
    pub(crate) fn is_closed(&self) {
        self.hears_nothing();
        assert!(self.link.is_closed(), "the broker left the Network Connection open");
    }

    /// The broker closed the Network Connection: in MQTT 5 with a DISCONNECT that gives one of these reasons, before
    /// that without a word.
    #[track_caller]
    pub(crate) fn is_thrown_out(&self, reasons: &[u8]) -> Option<Farewell> {
        let mut farewell = None;
        if self.version.is_v5() {
            let heard = self.hears_all();
            match &heard[..] {
                [Parsed::Disconnect(disconnect)] => {
                    assert!(reasons.contains(&disconnect.reason), "{reasons:02x?} expected, not {disconnect:02x?}");
                    farewell = Some(disconnect.clone());
                }
                _ => panic!("expected DISCONNECT {reasons:02x?} and nothing else, not {heard:02x?}"),
            }
        }
        self.is_closed();
        farewell
    }

    /// The CONNECT was refused: with a CONNACK that gives one of these codes, and a closed Network Connection.
    #[track_caller]
    pub(crate) fn is_refused(&self, codes: &[u8]) -> ConnAck {
        let heard = self.hears_all();
        match &heard[..] {
            [Parsed::ConnAck(connack)] => {
                assert!(codes.contains(&connack.code), "{codes:02x?} expected, not {connack:02x?}");
                assert!(!connack.session_present, "a refusal has Session Present 0");
                self.is_closed();
                connack.clone()
            }
            _ => panic!("expected CONNACK {codes:02x?} and nothing else, not {heard:02x?}"),
        }
    }

    /// The CONNECT was ill-formed: closed, in MQTT 5 perhaps after a CONNACK with one of these codes.
    #[track_caller]
    pub(crate) fn is_turned_away(&self, codes: &[u8]) {
        let heard = self.hears_all();
        match &heard[..] {
            [] => {}
            [Parsed::ConnAck(connack)] if self.version.is_v5() => {
                assert!(codes.contains(&connack.code), "{codes:02x?} expected, not {connack:02x?}");
                assert!(!connack.session_present, "a refusal has Session Present 0");
            }
            _ => panic!("expected nothing or CONNACK {codes:02x?}, not {heard:02x?}"),
        }
        self.is_closed();
    }
}

fn without_packet_id(mut publish: Publish) -> Publish {
    publish.packet_id = None;
    publish.properties.sort_by_key(|(id, _)| *id);
    publish
}

fn wire_suback(packet_id: u16, codes: Vec<u8>) -> SubAck {
    SubAck { packet_id, codes, properties: Vec::new() }
}

/// One or several packets that are expected.
pub(crate) trait Packets {
    fn parsed(self) -> Vec<Parsed>;
}

impl Packets for Parsed {
    fn parsed(self) -> Vec<Parsed> {
        vec![self]
    }
}

impl Packets for Ack {
    fn parsed(self) -> Vec<Parsed> {
        vec![self.into()]
    }
}

impl Packets for Publish {
    fn parsed(self) -> Vec<Parsed> {
        vec![self.into()]
    }
}

impl<T: Packets, const N: usize> Packets for [T; N] {
    fn parsed(self) -> Vec<Parsed> {
        self.into_iter().flat_map(Packets::parsed).collect()
    }
}

impl<T: Packets> Packets for Vec<T> {
    fn parsed(self) -> Vec<Parsed> {
        self.into_iter().flat_map(Packets::parsed).collect()
    }
}

pub(crate) fn seconds(number: u64) -> Duration {
    Duration::from_secs(number)
}

/// The number of seconds, sizes and so on in a property.
pub(crate) fn number(value: Option<&Value>) -> Option<u32> {
    value.map(|value| match value {
        Value::Byte(value) => u32::from(*value),
        Value::TwoBytes(value) => u32::from(*value),
        Value::FourBytes(value) | Value::Variable(value) => *value,
        other => panic!("{other:?} is not a number"),
    })
}

/// One story in several versions of the protocol, with a name for each: two names are for MQTT 5 and 3.1.1, a third is
/// for 3.1.
macro_rules! both {
    ($five:ident, $four:ident, |$version:ident| $story:block) => {
        #[test]
        fn $five() {
            let $version = crate::support::wire::Version::V5;
            $story
        }

        #[test]
        fn $four() {
            let $version = crate::support::wire::Version::V311;
            $story
        }
    };
    ($five:ident, $four:ident, $three:ident, |$version:ident| $story:block) => {
        both!($five, $four, |$version| $story);

        #[test]
        fn $three() {
            let $version = crate::support::wire::Version::V31;
            $story
        }
    };
}
pub(crate) use both;

/// One story that shows several statements at once, with a name for each.
macro_rules! shows {
    ($($name:ident,)+ || $story:block) => {
        $(
            #[test]
            fn $name() $story
        )+
    };
}
pub(crate) use shows;
