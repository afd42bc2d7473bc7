//! One Client's Session as a state machine: packets, Messages and the time go in; packets and decisions come out.
//!
//! It never touches a socket, a clock or another Session, and it knows neither subscriptions nor rights: those belong to
//! the hall, which asks it only "what does this packet mean for you?" and "what may be sent now?".
//! Read `publish.rs` (receiving) and `deliver.rs` (sending) next.
//!
//! ```text
//!   PUBLISH QoS 1  ──▶ owed ──(answer)──▶ PUBACK                   receiving: publish.rs
//!   PUBLISH QoS 2  ──▶ owed ──(answer)──▶ PUBREC ──PUBREL──▶ PUBCOMP
//!
//!   push ──▶ Queue ──(fill)──▶ PUBLISH QoS 0                       sending: deliver.rs
//!                          ├─▶ PUBLISH QoS 1 ──PUBACK──▶ done
//!                          └─▶ PUBLISH QoS 2 ──PUBREC──▶ PUBREL ──PUBCOMP──▶ done
//! ```

mod alias;
mod allowance;
mod connect;
mod deliver;
mod in_flight;
mod log;
mod publish;
mod queue;
mod spill;
mod subscribe;

pub use allowance::{Account, Amount};
pub use connect::{Terms, WillFate};
pub use deliver::{Filled, HandedBack, Owned, Settled};
pub use log::{Change, Kept, Restored};
pub use publish::{Answer, Arrived};
pub use queue::{Bound, Dropped, Drops, GroupId, How, Outgoing, Queued};
pub use spill::{Recall, Recalled};

use crate::codec::{Auth, Packet, PacketType, ReasonCode, Subscribe, Unsubscribe, Version, Violation};
use crate::codec::{Limits as CodecLimits, Moment, Qos, TopicLimits};
use alias::Aliases;
use in_flight::InFlight;
use log::Log;
use publish::Received;
use queue::Queue;
use std::time::Duration;

/// What one Client's Session is: the Session State of the standard [MQTT-3.1.2-23] without the subscriptions, and the
/// terms of the Network Connection it has at the moment. An idle one owns no buffer.
pub struct Session {
    terms: Terms,
    connected: bool,
    /// Nothing has been sent on this Network Connection.
    fresh: bool,
    /// Packets other than PUBLISH that wait to be written, encoded, in order.
    control: Vec<u8>,
    queue: Option<Box<Queue>>,
    in_flight: Option<Box<InFlight>>,
    received: Option<Box<Received>>,
    aliases: Option<Box<Aliases>>,
    /// What the Client named in CONNECT and we have confirmed. Twice boxed: few have one, and all have its place.
    authentication_method: Option<Box<Box<str>>>,
    /// Whether the store is to know what happens.
    kept: bool,
    /// See [`is_spilled`](Self::is_spilled).
    spilled: bool,
    log: Option<Box<Log>>,
}

/// The bounds of a Session. All are finite; each is a key of the configuration.
#[derive(Clone, Debug)]
pub struct Limits {
    /// What the codec refuses by itself.
    pub codec: CodecLimits,
    /// Unanswered QoS 1 and 2 PUBLISH packets that a Client may have under way towards us.
    pub receive_maximum: u16,
    /// Topic Aliases that a Client may define.
    pub topic_alias_maximum: u16,
    /// Topic Aliases that we define towards a Client, where it allows so many.
    pub topic_alias_outbound_max: u16,
    /// Of Topic Names and Topic Filters.
    pub topic: TopicLimits,
    /// Highest QoS a Client may publish with.
    pub maximum_qos: Qos,
    /// Whether a Client may publish with RETAIN.
    pub retain_available: bool,
    /// Whether a payload is checked against its Payload Format Indicator.
    pub validate_utf8_payload: bool,
    /// Longest Session Expiry Interval that is granted.
    pub session_expiry_max: Duration,
    /// Longest Keep Alive that is granted.
    pub keep_alive_max: Duration,
    /// Unacknowledged deliveries to a Client that named no Receive Maximum, and a cap for those who did.
    pub in_flight_max: u16,
    /// QoS 1 and 2 Messages of one Session that wait in memory; more wait in the store, where that has them.
    pub queue_at_hand_max: usize,
    /// QoS 1 and 2 Messages that wait in one Session.
    pub queue_messages_max: usize,
    /// Bytes of them.
    pub queue_bytes_max: usize,
    /// Which of them goes when there is no more room.
    pub queue_drops: Drops,
    /// QoS 0 Messages that wait for a connected Client that reads slowly.
    pub queue_qos0_messages_max: usize,
    /// Bytes of them.
    pub queue_qos0_bytes_max: usize,
    /// Whether QoS 0 Messages are kept for a Client that is away.
    pub queue_qos0_offline: bool,
    /// Filters in one SUBSCRIBE; those beyond it are answered with 0x97.
    pub filters_per_subscribe_max: usize,
}

impl Limits {
    fn queue_max(&self) -> Amount {
        Amount { messages: self.queue_messages_max, bytes: self.queue_bytes_max }
    }
}

/// What the hall has to do about one packet. A packet asks for at most one thing.
#[derive(Debug)]
pub enum Action<'a> {
    /// Nothing, or nothing beyond flushing what the Session has to say.
    Nothing,
    /// Decide about this Message, then call [`Session::answer`].
    Publish(Arrived),
    /// Decide about these filters, then call [`Session::subscribed`].
    Subscribe(Subscribe<'a>),
    /// Remove these filters, then call [`Session::unsubscribed`].
    Unsubscribe(Unsubscribe<'a>),
    /// A delivery that came from a shared subscription is settled; its group has a place free.
    Settled(Settled),
    /// The Client has a QoS 2 Message of a shared subscription: its group may forget it. The exchange goes on.
    Received(Settled),
    /// The Client continues or begins a re-authentication.
    Authenticate(Auth<'a>),
    /// The Client said goodbye; close the Network Connection without a packet.
    Disconnect(WillFate),
}

impl Session {
    /// A new Session for a Client that is connecting on these terms.
    pub fn new(terms: Terms) -> Self {
        Self {
            terms,
            connected: false,
            fresh: false,
            control: Vec::new(),
            queue: None,
            in_flight: None,
            received: None,
            aliases: None,
            authentication_method: None,
            kept: false,
            spilled: false,
            log: None,
        }
    }

    /// The terms of the present or last Network Connection.
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// The Authentication Method of the present or last Network Connection.
    pub fn authentication_method(&self) -> Option<&str> {
        self.authentication_method.as_ref().map(|method| &***method)
    }

    pub fn is_connected(&self) -> bool {
        self.connected
    }

    /// Takes one packet of the Client.
    ///
    /// # Errors
    /// A [`Violation`] ends the Network Connection with its Reason Code; nothing of the packet has taken effect.
    pub fn receive<'a>(
        &mut self,
        packet: Packet<'a>,
        limits: &Limits,
        arrival: &Arrival,
    ) -> Result<Action<'a>, Violation> {
        match packet {
            Packet::Publish(publish) => self.receive_publish(&publish, limits, arrival),
            Packet::PubAck(ack) => Ok(self.receive_puback(ack.packet_id)),
            Packet::PubRec(ack) => Ok(self.receive_pubrec(ack.packet_id, ack.reason)),
            Packet::PubRel(ack) => Ok(self.receive_pubrel(ack.packet_id)),
            Packet::PubComp(ack) => Ok(self.receive_pubcomp(ack.packet_id)),
            Packet::Subscribe(subscribe) => self.receive_subscribe(subscribe),
            Packet::Unsubscribe(unsubscribe) => self.receive_unsubscribe(unsubscribe),
            Packet::PingReq => {
                Packet::PingResp.encode(self.terms.version, &mut self.control); // [MQTT-3.12.4-1]
                Ok(Action::Nothing)
            }
            Packet::Disconnect(disconnect) => self.receive_disconnect(&disconnect, limits),
            Packet::Auth(auth) => self.receive_auth(auth),
            // A second CONNECT is a protocol error [MQTT-3.1.0-2].
            Packet::Connect(_) => Err(Violation { reason: ReasonCode::ProtocolError, why: "a second CONNECT" }),
            Packet::ConnAck(_) | Packet::SubAck(_) | Packet::UnsubAck(_) | Packet::PingResp => {
                Err(Violation { reason: ReasonCode::ProtocolError, why: "a packet that only a Server sends" })
            }
        }
    }

    /// AUTH belongs to Clients that named an Authentication Method in CONNECT, and repeats that method
    /// [MQTT-4.12.0-7] [MQTT-4.12.1-1].
    fn receive_auth<'a>(&self, auth: Auth<'a>) -> Result<Action<'a>, Violation> {
        match (self.authentication_method(), auth.method) {
            (None, _) => Err(Violation {
                reason: ReasonCode::ProtocolError,
                why: "AUTH without an Authentication Method in CONNECT",
            }),
            (Some(agreed), Some(method)) if agreed == method => Ok(Action::Authenticate(auth)),
            _ => Err(Violation { reason: ReasonCode::ProtocolError, why: "AUTH with another Authentication Method" }),
        }
    }

    /// Appends a packet that is not a PUBLISH to what is written next. Reason String and User Properties
    /// must already be within what the Client allows.
    pub fn say(&mut self, packet: &Packet<'_>) {
        packet.encode(self.terms.version, &mut self.control);
    }

    /// Appends AUTH, with the method that was agreed [MQTT-4.12.0-5].
    pub fn say_auth(&mut self, reason: ReasonCode, data: Option<&[u8]>) {
        let method = self.authentication_method.as_ref().map(|method| &***method);
        Packet::Auth(Auth { data, ..Auth::new(reason, method) }).encode(self.terms.version, &mut self.control);
    }

    /// Appends a packet that is encoded already.
    pub fn say_encoded(&mut self, packet: &[u8]) {
        self.control.extend_from_slice(packet);
    }

    /// Moves what waits to be written, PUBLISH packets not counted, to `out`.
    pub fn take_control(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.control);
    }

    /// Takes back what was said since there were `len` bytes of it ([`control_len`](Self::control_len)).
    pub fn take_back(&mut self, len: usize) -> Vec<u8> {
        self.control.split_off(len.min(self.control.len()))
    }

    /// Bytes of encoded packets that wait to be written, PUBLISH packets not counted.
    pub fn control_len(&self) -> usize {
        self.control.len()
    }

    /// Whether the store is to know what happens from now on.
    pub fn keep(&mut self, kept: bool) {
        self.kept = kept;
        self.log = None;
    }

    /// Whether there is something that the store does not know yet.
    #[inline]
    pub fn has_changes(&self) -> bool {
        self.log.is_some()
    }

    /// What the store does not know yet, in order, and the packets that may be written ([`say_encoded`](Self::say_encoded)) once
    /// it does.
    pub fn take_changes(&mut self) -> (Vec<Change>, Vec<u8>) {
        self.log.take().map(|log| (log.changes, log.withheld)).unwrap_or_default()
    }

    #[inline]
    fn note(&mut self, change: impl FnOnce() -> Change) {
        if self.kept {
            self.log.get_or_insert_default().changes.push(change());
        }
    }

    #[inline]
    fn note_left(&mut self, queued: &Queued, qos: Qos) {
        log::note_left(self.kept, &mut self.log, queued, qos);
    }

    /// An acknowledgement that must not be seen before the store knows what it says.
    fn acknowledge_safely(&mut self, kind: PacketType, packet_id: crate::codec::PacketId, reason: ReasonCode) {
        let version = self.terms.version;
        let out = if self.kept { &mut self.log.get_or_insert_default().withheld } else { &mut self.control };
        crate::codec::encode_ack(kind, packet_id, reason, version, out);
    }

    /// Whether [`Session::fill`] would write anything now.
    pub fn has_something_to_send(&self) -> bool {
        !self.control.is_empty()
            || match &self.in_flight {
                Some(in_flight) if in_flight.has_resends() => in_flight.can_resend(self.terms.receive_maximum),
                _ => self.queue.as_ref().is_some_and(|queue| queue.can_send(self.quota() > 0)),
            }
    }

    /// Gives back the memory of buffers that hold nothing. For Clients that have been quiet for a while.
    pub fn shrink(&mut self) {
        if self.control.is_empty() {
            self.control = Vec::new();
        }
        if self.queue.as_ref().is_some_and(|queue| queue.is_empty()) {
            self.queue = None;
        }
        if self.received.as_ref().is_some_and(|received| received.is_empty()) {
            self.received = None;
        }
        if let Some(in_flight) = &mut self.in_flight {
            in_flight.shrink();
        }
    }

    fn is_v5(&self) -> bool {
        self.terms.version == Version::V5
    }

    fn acknowledge(&mut self, kind: PacketType, packet_id: crate::codec::PacketId, reason: ReasonCode) {
        crate::codec::encode_ack(kind, packet_id, reason, self.terms.version, &mut self.control);
    }
}

/// When and from whom a packet came.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    pub now: Moment,
    pub origin: crate::codec::Origin,
}
