//! CONNECT: from the first byte of a Network Connection to a Session that is open, resumed or taken over.
//!
//! [`Handshake`] reads CONNECT without a shard, so that nothing is spent on a peer before it has said who it is. Who that is,
//! is decided outside (it may take time); [`Shard::open`] then does the rest in the Client's home shard, where takeover is
//! plain code. Re-authentication of an open connection comes back here as well.

use super::budget::Level;
use super::client::{Client, Will};
use super::directory::Claim;
use super::durable::{Say, Until};
use super::rights::{Owner, publishing};
use super::shard::{Attachment, End, Shard, Wire};
use super::takeover::{Takeovers, Turn};
use super::{Settings, ShardId};
use crate::access::{Access, Identity, Login, Verdict};
use crate::codec::{
    Auth, ConnAck, ConnAckProperties, Connect, Delivery, Header, Message, Moment, Origin, Packet, PacketId, Property,
    Qos, ReasonCode, Sender, TopicLimits, UnknownProtocol, Version, Violation, check_name, protocol, publish_size,
};
use crate::faults::{Fault, is_left_out};
use crate::session::{Session, Terms};
use std::sync::Arc;
use std::time::Duration;

/// Protocol versions that a listener serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    pub v3_1: bool,
    pub v3_1_1: bool,
    pub v5: bool,
}

impl Versions {
    pub const ALL: Self = Self { v3_1: true, v3_1_1: true, v5: true };

    fn has(self, version: Version) -> bool {
        match version {
            Version::V3_1 => self.v3_1,
            Version::V3_1_1 => self.v3_1_1,
            Version::V5 => self.v5,
        }
    }
}

/// A Network Connection before its CONNECT is complete. Memory grows with what has arrived, never with what is announced.
pub struct Handshake {
    received: Vec<u8>,
    versions: Versions,
}

/// A complete CONNECT that passed every check but the identity's.
#[derive(Debug)]
pub struct Request {
    pub version: Version,
    bridge: bool,
    pub client_id: Arc<str>,
    /// We chose the Client Identifier and have to tell it.
    assigned: bool,
    clean_start: bool,
    keep_alive: Duration,
    pub login: Login,
    will: Option<(Message, Duration)>,
    session_expiry: Duration,
    /// As the Client asked for it.
    session_expiry_asked_s: u32,
    receive_maximum: u16,
    packet_size_max: u32,
    topic_alias_maximum: u16,
    response_information: bool,
    problem_information: bool,
    /// What came after CONNECT in the same bytes.
    pub rest: Vec<u8>,
    /// Authentication Data that goes into CONNACK.
    pub authentication_data: Option<Vec<u8>>,
    /// The number under which it waits to take over its Client.
    pub(super) waits_as: Option<u64>,
    /// How often its Client was taken over lately.
    takeovers: Takeovers,
}

/// A Network Connection that gets no further: send `answer` (it may be empty), then close.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused {
    pub answer: Vec<u8>,
    /// What the answer says, or would say if it were not too large; `None`: nothing may be said.
    pub reason: Option<ReasonCode>,
    pub why: &'static str,
}

/// What became of a CONNECT in a shard.
pub enum Opened<W> {
    /// The Client is connected; its CONNACK follows with the next tick.
    Here(Attachment),
    /// Its home is another shard; take both there.
    Elsewhere(ShardId, Box<Request>, W),
    /// Its Client is taken over too often: come again at this moment, with both.
    Later(Moment, Box<Request>, W),
    /// Refused after all.
    Refused(Refused, W),
}

impl Handshake {
    pub fn new(versions: Versions) -> Self {
        Self { received: Vec::new(), versions }
    }

    /// Takes what has arrived. `Ok(None)`: CONNECT is not complete yet.
    ///
    /// # Errors
    /// [`Refused`] as soon as the bytes show it.
    pub fn receive(
        &mut self,
        bytes: &[u8],
        settings: &Settings,
        now: Moment,
        origin: impl Fn(&str) -> Origin,
    ) -> Result<Option<Box<Request>>, Refused> {
        self.received.extend_from_slice(bytes);
        let Some(first) = self.received.first() else { return Ok(None) };
        if *first != 0x10 {
            return Err(Refused::silently(guess(&self.received))); // [MQTT-3.1.0-1]
        }
        let limits =
            crate::codec::Limits { packet_size_max: settings.connect_packet_size_max, ..settings.session.codec };
        // The fixed header of CONNECT is the same in all versions.
        let Some(header) = Header::decode(&self.received, Sender::Client, Version::V5, &limits)
            .map_err(|violation| Refused::silently(violation.why))?
        else {
            return Ok(None);
        };
        let body = &self.received[header.header_size()..];
        let body = &body[..body.len().min(header.body_size())];
        let complete = body.len() == header.body_size();
        let agreed = match protocol(body, settings.bridge_bit) {
            Ok(Some(agreed)) => agreed,
            Ok(None) if complete => return Err(Refused::silently("CONNECT ends before its protocol level")),
            Ok(None) => return Ok(None),
            Err(UnknownProtocol::Name) => return Err(Refused::silently("a protocol name that is not MQTT")), // [MQTT-3.1.2-1]
            // [MQTT-3.1.2-2]: told in the form of the version that the rest of the packet is written in.
            Err(UnknownProtocol::Level) => {
                return if complete { Err(unknown_level(&header, body, &limits)) } else { Ok(None) };
            }
        };
        let version = agreed.version;
        if !self.versions.has(version) {
            return Err(Refused::with(
                version,
                ReasonCode::UnsupportedProtocolVersion,
                "a protocol version that this listener does not serve",
            ));
        }
        if !complete {
            return Ok(None);
        }
        let connect = match Packet::decode(&header, body, version, &limits) {
            Ok(Packet::Connect(connect)) => connect,
            Ok(_) => return Err(Refused::silently("not CONNECT")),
            // An ill-formed CONNECT of 3.x gets no CONNACK [MQTT-3.1.1: 3.1.4-1].
            Err(violation) if !version.is_v5() => return Err(Refused::silently(violation.why)),
            Err(violation) => return Err(Refused::with(version, violation.reason, violation.why)),
        };
        let rest = self.received[header.packet_size()..].to_vec();
        Request::new(&connect, settings, now, origin, rest).map(|request| Some(Box::new(request)))
    }

    /// Bytes held.
    pub fn size(&self) -> usize {
        self.received.len()
    }
}

/// Level unknown: a 5.0-shaped CONNECT gets the 5.0 answer, any other the one of 3.1.1.
fn unknown_level(header: &Header, body: &[u8], limits: &crate::codec::Limits) -> Refused {
    const LEVEL: usize = 6;
    let mut body = body.to_vec();
    if let Some(level) = body.get_mut(LEVEL) {
        *level = Version::V5 as u8;
    }
    let like_v5 = Packet::decode(header, &body, Version::V5, limits).is_ok();
    let version = if like_v5 { Version::V5 } else { Version::V3_1_1 };
    Refused::with(version, ReasonCode::UnsupportedProtocolVersion, "an unknown protocol level")
}

/// What a peer that does not speak MQTT probably speaks. For the log.
fn guess(received: &[u8]) -> &'static str {
    match received {
        [0x16, 0x03, ..] => "not MQTT: looks like a TLS handshake on a plain listener",
        [b'G', b'E', ..]
        | [b'P', b'O', ..]
        | [b'H', b'E', ..]
        | [b'O', b'P', ..]
        | [b'D', b'E', ..]
        | [b'P', b'U', ..] => "not MQTT: looks like HTTP",
        [b'P', b'R', ..] | [0x0D, 0x0A, 0x0D, 0x0A, ..] => "not MQTT: looks like the PROXY protocol",
        _ => "the first packet is not CONNECT",
    }
}

impl Refused {
    fn silently(why: &'static str) -> Self {
        Self { answer: Vec::new(), reason: None, why }
    }

    /// The same for a Client that has said how large a packet it takes: one that is too large is not sent [MQTT-3.1.2-24].
    pub fn within(packet_size_max: u32, version: Version, reason: ReasonCode, why: &'static str) -> Self {
        let mut refused = Self::with(version, reason, why);
        if refused.answer.len() > packet_size_max as usize {
            refused.answer.clear();
        }
        refused
    }

    /// CONNACK with a Reason Code, or the return code nearest to it; Session Present is 0 [MQTT-3.2.2-6].
    pub fn with(version: Version, reason: ReasonCode, why: &'static str) -> Self {
        let mut answer = Vec::new();
        Packet::ConnAck(ConnAck { session_present: false, reason, properties: ConnAckProperties::default() })
            .encode(version, &mut answer);
        Self { answer, reason: Some(reason), why }
    }
}

impl Request {
    fn new(
        connect: &Connect<'_>,
        settings: &Settings,
        now: Moment,
        origin: impl Fn(&str) -> Origin,
        rest: Vec<u8>,
    ) -> Result<Self, Refused> {
        let version = connect.version;
        let refuse = |reason, why| Err(Refused::within(connect.packet_size_max, version, reason, why));
        if connect.client_id.len() > settings.client_id_size_max {
            return refuse(ReasonCode::ClientIdentifierNotValid, "a Client Identifier that is too long"); // [MQTT-3.1.3-8]
        }
        let assigned = connect.client_id.is_empty();
        if assigned && (version == Version::V3_1 || (version == Version::V3_1_1 && !connect.clean_start)) {
            // [MQTT-3.1.1: 3.1.3-8]; in 3.1 an identifier has at least one character.
            return refuse(ReasonCode::ClientIdentifierNotValid, "an empty Client Identifier");
        }
        let client_id: Arc<str> =
            if assigned { assign(&settings.assigned_client_id_prefix).into() } else { connect.client_id.into() };
        let will = match &connect.will {
            None => None,
            Some(will) => {
                let message = Message::of_will(will, version, origin(&client_id), now);
                match check_will(will, &message, version, settings) {
                    Ok(()) => {}
                    Err((reason, why)) if version.is_v5() => return refuse(reason, why),
                    Err((_, why)) => return Err(Refused::silently(why)), // no return code says any of this
                }
                Some((message, Duration::from_secs(will.delay_interval_s.into())))
            }
        };
        let expiry_max = settings.session.session_expiry_max;
        let session_expiry = match version {
            Version::V5 => Duration::from_secs(connect.session_expiry_interval_s.into()).min(expiry_max),
            _ if connect.clean_start => Duration::ZERO, // [MQTT-3.1.1: 3.1.2-6]
            _ => expiry_max,                            // [MQTT-3.1.1: 3.1.2-4]
        };
        Ok(Self {
            version,
            bridge: connect.bridge,
            login: Login {
                client_id: (*client_id).into(),
                user_name: connect.user_name.map(Into::into),
                password: connect.password.map(Into::into),
                method: connect.authentication_method.map(Into::into),
                data: connect.authentication_data.map(Into::into),
                ..Login::default()
            },
            client_id,
            assigned,
            clean_start: connect.clean_start,
            keep_alive: Duration::from_secs(connect.keep_alive_s.into()),
            will,
            session_expiry,
            session_expiry_asked_s: connect.session_expiry_interval_s,
            receive_maximum: connect.receive_maximum,
            packet_size_max: connect.packet_size_max,
            topic_alias_maximum: connect.topic_alias_maximum,
            response_information: connect.request_response_information,
            problem_information: connect.request_problem_information,
            rest,
            authentication_data: None,
            waits_as: None,
            takeovers: Takeovers::default(),
        })
    }

    /// A refusal that this Client can take.
    pub fn refused(&self, reason: ReasonCode, why: &'static str) -> Refused {
        Refused::within(self.packet_size_max, self.version, reason, why)
    }

    /// Whoever is banned by its Client Identifier or address is told before anybody looks at its password.
    pub fn refuse_banned(&self, access: &Access, now: Moment) -> Option<Refused> {
        let Login { address, listener, .. } = &self.login;
        let client_id = Arc::clone(&self.client_id);
        let comer = Identity { client_id, address: *address, listener: listener.clone(), ..Identity::default() };
        access.is_banned(&comer, now).then(|| self.refused(ReasonCode::Banned, BANNED))
    }

    /// Whether a packet of this size may be sent to it [MQTT-3.1.2-24].
    pub fn takes(&self, packet: &[u8]) -> bool {
        packet.len() <= self.packet_size_max as usize
    }

    /// For CONNACK: what the Client asked for and what it gets, where they differ.
    fn terms(&self, settings: &Settings) -> (Terms, Option<u16>) {
        let maximum = settings.session.keep_alive_max;
        // MQTT 5 Clients are told [MQTT-3.2.2-22]; for others their own value holds, and 0 is trusted.
        let server_keep_alive = self.version.is_v5() && (self.keep_alive.is_zero() || self.keep_alive > maximum);
        let keep_alive = if server_keep_alive { maximum } else { self.keep_alive };
        let terms = Terms {
            version: self.version,
            bridge: self.bridge,
            receive_maximum: self.receive_maximum.min(settings.session.in_flight_max),
            packet_size_max: self.packet_size_max,
            topic_alias_maximum: self.topic_alias_maximum,
            problem_information: self.problem_information,
            session_expiry_s: self.session_expiry.as_secs().min(u64::from(u32::MAX)) as u32,
            keep_alive_s: keep_alive.as_secs().min(u64::from(u16::MAX)) as u16,
        };
        (terms, server_keep_alive.then(|| maximum.as_secs().min(u64::from(u16::MAX)) as u16))
    }
}

/// Whether a Client may leave this behind: what a PUBLISH would be refused for, a Will is.
fn check_will(
    will: &crate::codec::Will<'_>,
    message: &Message,
    version: Version,
    settings: &Settings,
) -> Result<(), (ReasonCode, &'static str)> {
    let limits = &settings.session;
    if let Err(reason) = check_name(will.topic, limits.topic) {
        return Err((reason, "a Will Topic that is no Topic Name"));
    }
    if will.qos > limits.maximum_qos {
        return Err((ReasonCode::QosNotSupported, "a Will QoS above our Maximum QoS")); // [MQTT-3.2.2-12]
    }
    if will.retain && !limits.retain_available {
        return Err((ReasonCode::RetainNotSupported, "a retained Will")); // [MQTT-3.2.2-13]
    }
    let packet_id = PacketId::new(u16::from(will.qos != Qos::AtMostOnce)); // any will do, and 0 is none
    let delivery = Delivery { qos: will.qos, packet_id, ..Delivery::default() };
    if publish_size(message, &delivery, version) > limits.codec.packet_size_max as usize {
        return Err((ReasonCode::PacketTooLarge, "a Will larger than our Maximum Packet Size"));
    }
    if will.retain && will.payload.len() > settings.retained_payload_bytes_max {
        return Err((ReasonCode::QuotaExceeded, "a Will that is too large to be retained"));
    }
    if has_deep_response_topic(will, limits.topic) {
        return Err((ReasonCode::ProtocolError, "a Response Topic that is too long or has too many levels"));
    }
    if limits.validate_utf8_payload && claims_utf8(will) && std::str::from_utf8(will.payload).is_err() {
        return Err((ReasonCode::PayloadFormatInvalid, "a Will payload that is not the UTF-8 it claims to be"));
    }
    Ok(())
}

fn has_deep_response_topic(will: &crate::codec::Will<'_>, limits: TopicLimits) -> bool {
    let too_deep = |topic: &str| check_name(topic, limits).is_err();
    will.properties.iter().any(|property| matches!(property, Property::ResponseTopic(topic) if too_deep(topic)))
}

fn claims_utf8(will: &crate::codec::Will<'_>) -> bool {
    will.properties.iter().any(|property| property == Property::PayloadFormatIndicator(true))
}

/// A Client Identifier that nobody guesses: 128 random bits [MQTT-3.1.3-6] [MQTT-3.2.2-16].
fn assign(prefix: &str) -> String {
    use std::fmt::Write;
    let mut random = [0; 16];
    getrandom::fill(&mut random).expect("the system has random numbers; without them no identifier is safe");
    random.iter().fold(prefix.to_owned(), |mut id, byte| {
        let _ = write!(id, "{byte:02x}");
        id
    })
}

const BANNED: &str = "banned";
const GONE: &str = "the account has gone or changed during the login";

impl<W: Wire> Shard<W> {
    /// Opens, resumes or takes over the Session of a Client that has been recognised.
    pub fn open(&mut self, request: Box<Request>, identity: Identity, wire: W, now: Moment) -> Opened<W> {
        self.now = now;
        let identity = Arc::new(Identity { client_id: Arc::clone(&request.client_id), ..identity });
        let before = self.durable.last();
        let opened = self.open_for(identity, request, wire);
        // CONNACK says what has become of the Session: that must be safe first.
        if let Opened::Here(me) = &opened
            && self.durable.last() != before
            && let Some(client) = self.client_mut(*me)
        {
            client.hold_welcome();
            let until = Until { position: Some(self.durable.last()), ..Until::default() };
            self.durable.wait(until, *me, Say::Welcome);
            self.wants_tick = true;
        }
        opened
    }

    fn open_for(&mut self, identity: Arc<Identity>, mut request: Box<Request>, wire: W) -> Opened<W> {
        if let Some(refused) = self.refuse_open(&request, &identity, &self.access) {
            self.statistics.refused += 1;
            return Opened::Refused(refused, wire);
        }
        let (terms, server_keep_alive) = request.terms(&self.shared.settings);
        let shared = Arc::clone(&self.shared);
        let (clients, now) = (&mut self.clients, self.now);
        let claim = shared.directory.claim(self.id, &request.client_id, || {
            let origin = shared.directory.origin_of(&request.client_id);
            clients.insert(Client::new(Arc::clone(&identity), origin, Session::new(terms), now))
        });
        let (slot, session_present) = match claim {
            Claim::Elsewhere(home) => return Opened::Elsewhere(home, request, wire),
            Claim::New(home) => {
                shared.directory.note_begun(&identity);
                (home.slot, false)
            }
            // Its last Session has ended in this very tick; the name is still ours.
            Claim::Here(home) if !self.clients.is_current(home.slot, home.generation) => {
                shared.directory.forget(&request.client_id, home);
                return self.open_for(identity, request, wire);
            }
            Claim::Here(home) => {
                let owner = self.claim_of(home.slot, &identity);
                if matches!(owner, Owner::Another) {
                    self.statistics.refused += 1;
                    let why = "the Client Identifier belongs to another user";
                    return Opened::Refused(request.refused(ReasonCode::NotAuthorized, why), wire);
                }
                match self.turn_of(home.slot, &mut request) {
                    Turn::Now => {}
                    Turn::Later(due) => return Opened::Later(due, request, wire),
                    Turn::Lost => {
                        self.statistics.refused += 1;
                        let why = "another Network Connection of the same Client has come meanwhile";
                        return Opened::Refused(request.refused(ReasonCode::ServerBusy, why), wire);
                    }
                }
                request.takeovers = self.clients.get(home.slot).map(Client::takeovers).unwrap_or_default();
                self.take_over(home.slot);
                // Timers are coarse: what was due before this CONNECT happens before it.
                self.run_due(home.slot);
                if !self.clients.is_current(home.slot, home.generation) {
                    shared.directory.forget(&request.client_id, home);
                    return self.open_for(identity, request, wire);
                }
                if request.clean_start || matches!(owner, Owner::Nobody) {
                    self.end_session(home.slot); // [MQTT-3.1.2-4]
                    shared.directory.forget(&request.client_id, home);
                    return self.open_for(identity, request, wire);
                }
                (home.slot, true) // [MQTT-3.1.2-5]
            }
        };
        let is_another = self.clients.get(slot).is_some_and(|client| client.identity != identity);
        let me = self.attach(slot, &request, identity, terms, wire);
        if is_another {
            self.review_subscriptions(slot); // through another listener or with another token it may have other rights
        }
        if !self.say_connack(slot, &request, session_present, server_keep_alive) {
            self.end(me, End::Refused(ReasonCode::PacketTooLarge));
            return Opened::Here(me);
        }
        self.rejoin_groups(slot);
        self.set_timer(slot);
        self.mark_dirty(slot);
        self.ask_back(slot);
        self.resume_replay_if_room(slot);
        Opened::Here(me)
    }

    fn attach(&mut self, slot: u32, request: &Request, identity: Arc<Identity>, terms: Terms, wire: W) -> Attachment {
        let number = self.next_attachment();
        let now = self.now;
        self.shared.connections[usize::from(self.id.0)].fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.statistics.connects += 1;
        if let Some(client) = self.clients.get_mut(slot) {
            client.session.attach(terms, request.login.method.as_deref());
            client.identity = identity;
            client.decisions = None;
            client.attach(wire, number, now);
            if request.takeovers != Takeovers::default() {
                client.rare().takeovers = request.takeovers;
            }
            // A Will of the former connection that still waited is cancelled [MQTT-3.1.3-9].
            client.will = request.will.clone().map(|(message, delay)| Box::new(Will { message, delay, due: None })); // [MQTT-3.1.2-7]
        }
        self.settle_durability(slot);
        Attachment { slot, number }
    }

    fn refuse_open(&self, request: &Request, identity: &Identity, access: &Access) -> Option<Refused> {
        if access.is_banned(identity, self.now) && !is_left_out(Fault::BanAtConnect) {
            return Some(request.refused(ReasonCode::Banned, BANNED));
        }
        // A login takes time, and the account may have gone or changed after it was looked at.
        if !access.knows(identity) && !is_left_out(Fault::AccountAtLogin) {
            return Some(request.refused(ReasonCode::NotAuthorized, GONE));
        }
        // Whoever has a Session may come back: it is they who empty the queues.
        if self.level >= Level::Critical && !self.shared.directory.knows(&request.client_id) {
            return Some(request.refused(ReasonCode::QuotaExceeded, "the memory budget is used up"));
        }
        if self.shared.directory.sessions_of(identity) >= self.shared.settings.sessions_per_user_max
            && !self.shared.directory.knows(&request.client_id)
        {
            return Some(request.refused(ReasonCode::QuotaExceeded, "the user has too many Sessions"));
        }
        // CONNACK would wait for the disk, and every new attempt would add to what does.
        if !request.session_expiry.is_zero() && self.durable.is_in_trouble() {
            return Some(
                request.refused(ReasonCode::QuotaExceeded, "the disk takes nothing, and the Session is to last"),
            );
        }
        let (will, _) = request.will.as_ref()?;
        (access.decide(identity, publishing(will)) == Verdict::Denied && !is_left_out(Fault::WillAtConnect))
            .then(|| request.refused(ReasonCode::NotAuthorized, "a Will that the Client may not publish"))
    }

    /// Another Network Connection of the same Client: the old one gives way [MQTT-3.1.4-3].
    fn take_over(&mut self, slot: u32) {
        if let Some(client) = self.clients.get(slot)
            && client.wire.is_some()
        {
            let me = client.attached(slot);
            self.say_and_end(me, ReasonCode::SessionTakenOver, None);
        }
    }

    /// CONNACK, the first packet of the connection [MQTT-3.2.0-1]. `false`: even the barest one is larger than the Client
    /// takes, so that nothing can be said.
    fn say_connack(
        &mut self,
        slot: u32,
        request: &Request,
        session_present: bool,
        server_keep_alive: Option<u16>,
    ) -> bool {
        let settings = &self.shared.settings;
        let response_information = format!("{}{}", settings.response_information, request.client_id);
        let mut properties = ConnAckProperties::default();
        if request.version.is_v5() {
            let limits = &settings.session;
            let expiry_s = request.session_expiry.as_secs() as u32;
            properties = ConnAckProperties {
                session_expiry_interval_s: (expiry_s != request.session_expiry_asked_s).then_some(expiry_s),
                receive_maximum: (limits.receive_maximum != u16::MAX).then_some(limits.receive_maximum),
                maximum_qos: (limits.maximum_qos != Qos::ExactlyOnce).then_some(limits.maximum_qos), // [MQTT-3.2.2-9]
                retain_available: (!limits.retain_available).then_some(false),
                packet_size_max: Some(limits.codec.packet_size_max),
                assigned_client_id: request.assigned.then_some(&request.client_id), // [MQTT-3.1.3-7]
                topic_alias_maximum: (limits.topic_alias_maximum > 0).then_some(limits.topic_alias_maximum),
                wildcard_subscription_available: (!settings.wildcard_subscription_available).then_some(false),
                shared_subscription_available: (!settings.shared_subscription_available).then_some(false),
                server_keep_alive_s: server_keep_alive,
                // [MQTT-3.1.2-28]
                response_information: (request.response_information && !settings.response_information.is_empty())
                    .then_some(&response_information),
                authentication_method: request.login.method.as_deref(), // [MQTT-4.12.0-5]
                authentication_data: request.authentication_data.as_deref(),
                ..ConnAckProperties::default()
            };
        }
        let mut connack = ConnAck { session_present, reason: ReasonCode::Success, properties };
        let mut bytes = Vec::new();
        Packet::ConnAck(connack).encode(request.version, &mut bytes);
        if bytes.len() > request.packet_size_max as usize {
            // What the Client can do without, goes first.
            connack.properties.packet_size_max = None;
            connack.properties.topic_alias_maximum = None;
            connack.properties.response_information = None;
            bytes.clear();
            Packet::ConnAck(connack).encode(request.version, &mut bytes);
        }
        let fits = bytes.len() <= request.packet_size_max as usize;
        if fits && let Some(client) = self.clients.get_mut(slot) {
            client.session.say_encoded(&bytes);
            client.session.resume();
        }
        fits
    }

    /// The Client wants to prove again who it is. The door does that and calls [`Shard::reauthenticated`].
    pub(super) fn reauthenticate(&mut self, me: Attachment, auth: &Auth<'_>) {
        if self.client_mut(me).is_some_and(|client| client.rare().reauthentication.is_some()) {
            let why = "AUTH before the last one was answered";
            return self.refuse(me, &Violation { reason: ReasonCode::ProtocolError, why });
        }
        let reason = auth.reason;
        let data = auth.data.map(Into::into);
        if let Some(client) = self.client_mut(me) {
            let login = Login {
                client_id: (**client.id()).into(),
                user_name: client.identity.user_name.clone(),
                method: client.session.authentication_method().map(Into::into),
                address: client.identity.address,
                listener: client.identity.listener.clone(),
                data,
                ..Login::default()
            };
            client.rare().reauthentication = Some(Box::new((reason, login)));
            if let Some(wire) = &client.wire {
                wire.reader().wake_by_ref();
            }
        }
    }

    /// An AUTH packet that waits for the door: its Reason Code, and who says so with which data.
    pub fn take_reauthentication(&mut self, me: Attachment) -> Option<Box<(ReasonCode, Login)>> {
        self.client_mut(me)?.take_reauthentication()
    }

    /// Goes on with a re-authentication: AUTH to the Client, and its new identity when it has been accepted.
    pub fn say_auth(&mut self, me: Attachment, reason: ReasonCode, data: Option<&[u8]>, identity: Option<Identity>) {
        let Some(client) = self.client(me) else { return };
        // The Network Connection is the same, whatever was proved anew.
        let identity = identity.map(|identity| {
            let Identity { client_id, listener, address, .. } = (*client.identity).clone();
            Identity { client_id, listener, address, ..identity }
        });
        if let Some(identity) = &identity {
            // The Session belongs to its user, whoever else can prove to be somebody.
            if identity.user_name != client.identity.user_name {
                return self.reauthentication_failed(me, ReasonCode::NotAuthorized);
            }
            if !self.access.knows(identity) {
                return self.refuse(me, &Violation { reason: ReasonCode::NotAuthorized, why: GONE });
            }
        }
        let Some(client) = self.client_mut(me) else { return };
        client.session.say_auth(reason, data);
        if let Some(identity) = identity {
            client.identity = Arc::new(identity);
            client.decisions = None;
            self.review_subscriptions(me.slot);
            self.set_timer(me.slot);
        }
        self.mark_dirty(me.slot);
    }

    /// A re-authentication failed [MQTT-4.12.1-2].
    pub fn reauthentication_failed(&mut self, me: Attachment, reason: ReasonCode) {
        self.refuse(me, &Violation { reason, why: "re-authentication failed" });
    }

    /// Publishes a Will whose delay has passed.
    pub(super) fn publish_will_if_due(&mut self, slot: u32) {
        let now = self.now;
        let Some(client) = self.clients.get_mut(slot) else { return };
        if client.will.as_ref().is_some_and(|will| will.due.is_some_and(|due| due <= now))
            && let Some(will) = client.will.take()
        {
            self.publish_will(slot, &will);
            self.keep_session(slot);
        }
    }
}
