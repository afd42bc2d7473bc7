//! Conversations made by chance, with a whole broker: several Clients of all versions, each packet likely right, some of them
//! broken, cut anywhere, in any order, with lost connections and time that passes.
//!
//! After each conversation two innocents still exchange a message. Whatever the broker has said must be well formed and in its
//! place; what the codec calls malformed must have ended its connection, in MQTT 5 with its Reason Code. After each round
//! everybody is gone and every Session has expired, and nothing of them is left.
//!
//! `SEED=… CASES=… cargo test --test wire_fuzz` repeats or extends a run.

#[path = "support/grammar.rs"]
#[allow(unreachable_pub, reason = "other test programs share it")]
mod grammar;
#[path = "support/random.rs"]
#[allow(unreachable_pub, reason = "other test programs share it")]
mod random;
#[path = "support/mod.rs"]
mod support;

use random::{Random, from_environment};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;
use support::{Link, TestBroker, settings};
use waypost::codec::{Header, Limits, Packet, ReasonCode, Sender, Version};

/// Packets that were sent, broken ones included.
const CASES_DEFAULT: u64 = 40_000;
const CONVERSATIONS_PER_ROUND: usize = 20;
/// The longest life of a Session without a Client.
const EXPIRY_MAX: Duration = Duration::from_secs(600);

/// One end of a Network Connection, and all that was sent from it.
struct Talker {
    link: Link,
    version: u8,
    sent: Vec<u8>,
    heard: Vec<u8>,
    /// A piece of a packet whose end comes later.
    owed: Vec<u8>,
}

#[test]
fn whatever_clients_say_the_broker_keeps_its_countenance() {
    let seed = from_environment("SEED", 1);
    let cases = from_environment("CASES", CASES_DEFAULT);
    let (mut sent, mut round) = (0, 0);
    while sent < cases {
        let mut packets = 0;
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            play_round(&mut Random::new(seed.wrapping_add(round)), &mut packets);
        }));
        assert!(outcome.is_ok(), "SEED={} CASES=1 cargo test --test wire_fuzz", seed.wrapping_add(round));
        sent += packets;
        round += 1;
    }
}

fn play_round(random: &mut Random, packets: &mut u64) {
    let broker = TestBroker::with(|settings| settings.session.session_expiry_max = EXPIRY_MAX);
    let innocents = [connected(&broker, 5, "innocent-5"), connected(&broker, 4, "innocent-4")];
    innocents[1].send(b"\x82\x0d\0\x01\0\x08innocent\x01");
    assert_eq!(innocents[1].received(), b"\x90\x03\0\x01\x01");
    for _ in 0..CONVERSATIONS_PER_ROUND {
        converse(&broker, random, packets);
        innocents[0].send(b"\x32\x0e\0\x08innocent\0\x07\0!");
        assert_eq!(innocents[0].received().first(), Some(&0x40), "the innocent's PUBLISH is acknowledged");
        let message = innocents[1].received();
        assert_eq!((message[0], message.last()), (0x32, Some(&b'!')), "and comes through: {message:02x?}");
        innocents[1].send(&[0x40, 2, message[12], message[13]]);
    }
    innocents.iter().for_each(Link::drop_connection);
    broker.advance(EXPIRY_MAX + Duration::from_secs(1));
    assert_eq!((broker.sessions(), broker.subscriptions(), broker.filters()), (0, 0, 0), "nobody and nothing is left");
}

fn connected(broker: &TestBroker, version: u8, client_id: &str) -> Link {
    let link = broker.link();
    let properties: &[u8] = if version == 5 { &[0] } else { &[] };
    let body = [&b"\0\x04MQTT"[..], &[version, 2, 0, 0], properties, &[0, client_id.len() as u8], client_id.as_bytes()];
    let body = body.concat();
    link.send(&[&[0x10, body.len() as u8][..], &body].concat());
    assert_eq!(link.received().first(), Some(&0x20));
    link
}

fn converse(broker: &TestBroker, random: &mut Random, packets: &mut u64) {
    let mut talkers: Vec<Talker> = (0..2 + random.below(4)).map(|_| Talker::new(broker, random)).collect();
    for _ in 0..10 + random.below(30) {
        let talker = random.below(talkers.len());
        let talker = &mut talkers[talker];
        match random.below(40) {
            0 => talker.link.drop_connection(),
            1 => broker.advance(Duration::from_millis(random.below(5_000) as u64)),
            2 => {
                talker.link.drop_connection();
                *talker = Talker::new(broker, random);
            }
            3 => talker.link.stop_reading(),
            4 => talker.link.resume_reading(),
            _ => {
                *packets += 1;
                talker.speak(random);
            }
        }
    }
    for talker in &mut talkers {
        talker.link.resume_reading();
        talker.say(Vec::new());
    }
    broker.settle();
    for talker in &mut talkers {
        talker.hear();
        talker.is_as_it_should_be();
        talker.link.drop_connection();
    }
}

impl Talker {
    fn new(broker: &TestBroker, random: &mut Random) -> Self {
        let version = 3 + random.below(3) as u8;
        Self { link: broker.link(), version, sent: Vec::new(), heard: Vec::new(), owed: Vec::new() }
    }

    fn speak(&mut self, random: &mut Random) {
        let begins = self.sent.is_empty() && !random.one_in(20);
        let kind = [1, 3, 3, 3, 3, 4, 5, 6, 7, 8, 8, 8, 10, 12, 14, 15][random.below(16)];
        let mut packet = match (begins, kind) {
            (true, _) => grammar::packet(grammar::CONNECT, self.version, random),
            (false, 1) if !random.one_in(4) => grammar::packet(12, self.version, random),
            (false, kind) => grammar::packet(kind, self.version, random),
        };
        if random.one_in(if begins { 12 } else { 20 }) {
            grammar::mutate(&mut packet, random);
        }
        let later = if random.one_in(4) { packet.split_off(random.below(packet.len() + 1)) } else { Vec::new() };
        self.say(packet);
        self.owed = later;
    }

    /// Sends what is still owed, and then this.
    fn say(&mut self, bytes: Vec<u8>) {
        let bytes = [std::mem::take(&mut self.owed), bytes].concat();
        self.sent.extend_from_slice(&bytes);
        self.link.send(&bytes);
        self.hear();
    }

    fn hear(&mut self) {
        self.heard.extend(self.link.received());
    }

    /// What was heard against what was said.
    fn is_as_it_should_be(&self) {
        let (version, fault) = self.fault();
        let Some(version) = version else {
            // Whatever came before a CONNECT that can be read is answered by nothing, or by a CONNACK that says no.
            assert!(self.heard.first().is_none_or(|first| *first == 0x20), "{self}");
            assert!(fault.is_none() || self.link.is_closed(), "{self}");
            return;
        };
        let mut rest = &self.heard[..];
        let mut last = None;
        while let Some((packet, after)) = self.next_packet(rest, Sender::Server, version) {
            let is_first = rest.len() == self.heard.len();
            let greets = matches!(packet, Packet::ConnAck(_));
            assert!(is_first == greets, "a CONNACK comes first and once, and nothing before it\n{self}");
            assert!(!matches!(last, Some(Packet::Disconnect(_))), "nothing follows a DISCONNECT\n{self}");
            last = Some(packet);
            rest = after;
        }
        assert!(rest.is_empty() || self.link.is_closed(), "half a packet: {rest:02x?}\n{self}");
        if let Some(reason) = fault {
            assert!(self.link.is_closed(), "malformed, and still connected\n{self}");
            // Another fault may have ended it before.
            if let Some(Packet::Disconnect(disconnect)) = last {
                assert!(disconnect.reason as u8 >= 0x80, "{reason:?}\n{self}");
            }
        }
    }

    /// The version of the CONNECT, if there was one, and what the codec says is wrong with the bytes that were sent.
    fn fault(&self) -> (Option<Version>, Option<ReasonCode>) {
        let mut version = None;
        let mut rest = &self.sent[..];
        loop {
            match decode(rest, Sender::Client, version.unwrap_or(Version::V5)) {
                Ok(Some((Packet::Connect(connect), after))) => (version, rest) = (Some(connect.version), after),
                Ok(Some((Packet::Disconnect(_), _)) | None) => return (version, None),
                Ok(Some((_, after))) => rest = after,
                Err(reason) => return (version, Some(reason)),
            }
        }
    }

    fn next_packet<'a>(&self, bytes: &'a [u8], from: Sender, version: Version) -> Option<(Packet<'a>, &'a [u8])> {
        decode(bytes, from, version).unwrap_or_else(|reason| panic!("the broker says {bytes:02x?}: {reason:?}\n{self}"))
    }
}

impl std::fmt::Display for Talker {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { version, sent, heard, .. } = self;
        write!(formatter, "level {version}\nsent  {sent:02x?}\nheard {heard:02x?}")
    }
}

type Decoded<'a> = Result<Option<(Packet<'a>, &'a [u8])>, ReasonCode>;

fn decode(bytes: &[u8], from: Sender, version: Version) -> Decoded<'_> {
    let limits = Limits { packet_size_max: 1 << 28, ..settings().session.codec };
    let Some(header) = Header::decode(bytes, from, version, &limits).map_err(|fault| fault.reason)? else {
        return Ok(None);
    };
    let Some((packet, rest)) = bytes.split_at_checked(header.packet_size()) else { return Ok(None) };
    let packet = Packet::decode(&header, &packet[header.header_size()..], version, &limits);
    packet.map(|packet| Some((packet, rest))).map_err(|fault| fault.reason)
}
