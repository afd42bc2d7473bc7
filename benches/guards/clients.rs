//! One shard with Clients on it, and no socket: bytes go in, and what comes out is counted and thrown away.
//! For the guard benchmarks and the tests that count allocations: nothing in here costs more than it has to.
#![allow(dead_code, unreachable_pub, reason = "each program that includes this uses some of it")]

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;

use waypost::access::{Access, Identity};
use waypost::broker::{Attachment, Broken, Handshake, Opened, Settings, Shard, Shared, Versions, Wire};
use waypost::codec::{Connect, Moment, Packet, PacketId, Publish, Qos, Version};
use waypost::config::Config;

pub const NOW: Moment = Moment::from_millis(1_000);
pub const PAYLOAD: [u8; 80] = [b'x'; 80];

/// The only shard of a broker, with the settings that a node has when nobody configures anything.
pub struct Hall {
    shard: Shard<Counter>,
    shared: Arc<Shared>,
    written: Rc<Cell<Written>>,
}

/// What all Clients together have been sent.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Written {
    pub writes: usize,
    pub bytes: usize,
}

/// Takes everything and keeps nothing.
struct Counter(Rc<Cell<Written>>);

impl Wire for Counter {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Broken> {
        let Written { writes, bytes: before } = self.0.get();
        self.0.set(Written { writes: writes + 1, bytes: before + bytes.len() });
        Ok(bytes.len())
    }

    fn reader(&self) -> &Waker {
        Waker::noop()
    }
}

impl Hall {
    pub fn new() -> Self {
        let settings = Settings {
            shards: 1,
            seed: Some(1),
            subscriptions_per_session_max: usize::MAX,
            ..waypost::node::settings(&Config::default())
        };
        let shared = Shared::new(settings);
        let shard = shared.shards().map(|id| Shard::new(id, Arc::clone(&shared), NOW));
        let mut hall = Self { shard: shard.last().expect("there is one"), shared, written: Rc::default() };
        hall.work();
        hall
    }

    /// The same, with other rights than all.
    pub fn with_rights(access: Access) -> Self {
        let mut hall = Self::new();
        hall.shared.set_access(access);
        hall.work();
        hall
    }

    /// A Client that is connected, with a Receive Maximum of 100 and no Topic Aliases.
    pub fn connect(&mut self, client_id: &str) -> Attachment {
        let mut bytes = Vec::new();
        Packet::Connect(Connect { receive_maximum: 100, ..Connect::new(Version::V5, client_id) })
            .encode(Version::V5, &mut bytes);
        let request = Handshake::new(Versions::ALL)
            .receive(&bytes, self.shared.settings(), NOW, |client_id| self.shared.origin_of(client_id))
            .expect("a CONNECT that nobody refuses")
            .expect("all of it");
        let wire = Counter(Rc::clone(&self.written));
        match self.shard.open(request, Identity::default(), wire, NOW) {
            Opened::Here(me) => {
                self.work();
                me
            }
            Opened::Elsewhere(..) | Opened::Later(..) | Opened::Refused(..) => panic!("there is one shard, and room"),
        }
    }

    /// Bytes as they come from a socket; what they cause is done by [`Hall::work`].
    #[inline]
    pub fn receive(&mut self, from: Attachment, bytes: &[u8]) {
        self.shard.receive(from, bytes, NOW);
    }

    /// Ticks until there is nothing left to do.
    #[inline]
    pub fn work(&mut self) {
        while self.shard.wants_tick() {
            self.shard.tick(NOW);
        }
    }

    /// How many filters match a Topic Name.
    #[inline]
    pub fn matching(&mut self, topic: &str) -> usize {
        self.shard.matching(topic.as_bytes())
    }

    pub fn written(&self) -> Written {
        self.written.get()
    }
}

/// A PUBLISH of 5.0 without properties; its Packet Identifier is 1 where it needs one.
pub fn publish(topic: &str, qos: Qos) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut publish = Publish::new(topic, &PAYLOAD);
    publish.qos = qos;
    publish.packet_id = PacketId::new(1).filter(|_| qos != Qos::AtMostOnce);
    Packet::Publish(publish).encode(Version::V5, &mut bytes);
    bytes
}

/// A SUBSCRIBE of 5.0 to these filters, none of them longer than a kilobyte.
pub fn subscribe(filters: &[&str], qos: Qos) -> Vec<u8> {
    packet(0x82, filters, &[qos as u8])
}

/// The same with QoS 0, of a Client that has no use for what is retained.
pub fn subscribe_without_replay(filters: &[&str]) -> Vec<u8> {
    packet(0x82, filters, &[0x20])
}

pub fn unsubscribe(filters: &[&str]) -> Vec<u8> {
    packet(0xA2, filters, &[])
}

fn packet(first: u8, filters: &[&str], options: &[u8]) -> Vec<u8> {
    let mut body = vec![0, 1, 0]; // Packet Identifier 1, no properties
    for filter in filters {
        body.extend_from_slice(&(filter.len() as u16).to_be_bytes());
        body.extend_from_slice(filter.as_bytes());
        body.extend_from_slice(options);
    }
    let mut bytes = vec![first];
    let mut rest = body.len();
    while rest >= 128 {
        bytes.push((rest % 128) as u8 | 128);
        rest /= 128;
    }
    bytes.push(rest as u8);
    bytes.append(&mut body);
    bytes
}

pub fn puback(packet_id: u16) -> [u8; 4] {
    let [high, low] = packet_id.to_be_bytes();
    [0x40, 2, high, low]
}
