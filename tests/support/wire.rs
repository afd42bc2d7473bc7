//! MQTT packets as bytes, put together and taken apart by hand.
//!
//! Nothing here uses `waypost::codec`: two hands that write the same language independently find each other's
//! mistakes. The builder refuses nothing (a test may well want to say something wrong); the parser refuses everything
//! that a server must not say, and panics with a sentence about it, so that each test checks the shape of each answer.

/// The protocol version that a Network Connection speaks. `V31` is the one that calls itself `MQIsdp`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Version {
    V31,
    V311,
    V5,
}

impl Version {
    pub(crate) fn is_v5(self) -> bool {
        self == Self::V5
    }
}

/// The value of a property. An ill-formed string is written as `Bytes`: both travel with a length of two bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Value {
    Byte(u8),
    TwoBytes(u16),
    FourBytes(u32),
    Variable(u32),
    Text(String),
    Bytes(Vec<u8>),
    Pair(String, String),
}

/// The 27 properties of MQTT 5, each by its name.
pub(crate) mod property {
    use super::Value;

    pub(crate) const PAYLOAD_FORMAT_INDICATOR: u8 = 1;
    pub(crate) const MESSAGE_EXPIRY_INTERVAL: u8 = 2;
    pub(crate) const CONTENT_TYPE: u8 = 3;
    pub(crate) const RESPONSE_TOPIC: u8 = 8;
    pub(crate) const CORRELATION_DATA: u8 = 9;
    pub(crate) const SUBSCRIPTION_IDENTIFIER: u8 = 11;
    pub(crate) const SESSION_EXPIRY_INTERVAL: u8 = 17;
    pub(crate) const ASSIGNED_CLIENT_IDENTIFIER: u8 = 18;
    pub(crate) const SERVER_KEEP_ALIVE: u8 = 19;
    pub(crate) const AUTHENTICATION_METHOD: u8 = 21;
    pub(crate) const AUTHENTICATION_DATA: u8 = 22;
    pub(crate) const REQUEST_PROBLEM_INFORMATION: u8 = 23;
    pub(crate) const WILL_DELAY_INTERVAL: u8 = 24;
    pub(crate) const REQUEST_RESPONSE_INFORMATION: u8 = 25;
    pub(crate) const RESPONSE_INFORMATION: u8 = 26;
    pub(crate) const SERVER_REFERENCE: u8 = 28;
    pub(crate) const REASON_STRING: u8 = 31;
    pub(crate) const RECEIVE_MAXIMUM: u8 = 33;
    pub(crate) const TOPIC_ALIAS_MAXIMUM: u8 = 34;
    pub(crate) const TOPIC_ALIAS: u8 = 35;
    pub(crate) const MAXIMUM_QOS: u8 = 36;
    pub(crate) const RETAIN_AVAILABLE: u8 = 37;
    pub(crate) const USER_PROPERTY: u8 = 38;
    pub(crate) const MAXIMUM_PACKET_SIZE: u8 = 39;
    pub(crate) const WILDCARD_SUBSCRIPTION_AVAILABLE: u8 = 40;
    pub(crate) const SUBSCRIPTION_IDENTIFIER_AVAILABLE: u8 = 41;
    pub(crate) const SHARED_SUBSCRIPTION_AVAILABLE: u8 = 42;

    pub(crate) fn payload_format_indicator(value: u8) -> (u8, Value) {
        (PAYLOAD_FORMAT_INDICATOR, Value::Byte(value))
    }
    pub(crate) fn message_expiry_interval(seconds: u32) -> (u8, Value) {
        (MESSAGE_EXPIRY_INTERVAL, Value::FourBytes(seconds))
    }
    pub(crate) fn content_type(text: &str) -> (u8, Value) {
        (CONTENT_TYPE, Value::Text(text.to_owned()))
    }
    pub(crate) fn response_topic(topic: &str) -> (u8, Value) {
        (RESPONSE_TOPIC, Value::Text(topic.to_owned()))
    }
    pub(crate) fn correlation_data(data: &[u8]) -> (u8, Value) {
        (CORRELATION_DATA, Value::Bytes(data.to_owned()))
    }
    pub(crate) fn subscription_identifier(id: u32) -> (u8, Value) {
        (SUBSCRIPTION_IDENTIFIER, Value::Variable(id))
    }
    pub(crate) fn session_expiry_interval(seconds: u32) -> (u8, Value) {
        (SESSION_EXPIRY_INTERVAL, Value::FourBytes(seconds))
    }
    pub(crate) fn authentication_method(name: &str) -> (u8, Value) {
        (AUTHENTICATION_METHOD, Value::Text(name.to_owned()))
    }
    pub(crate) fn authentication_data(data: &[u8]) -> (u8, Value) {
        (AUTHENTICATION_DATA, Value::Bytes(data.to_owned()))
    }
    pub(crate) fn request_problem_information(value: u8) -> (u8, Value) {
        (REQUEST_PROBLEM_INFORMATION, Value::Byte(value))
    }
    pub(crate) fn will_delay_interval(seconds: u32) -> (u8, Value) {
        (WILL_DELAY_INTERVAL, Value::FourBytes(seconds))
    }
    pub(crate) fn request_response_information(value: u8) -> (u8, Value) {
        (REQUEST_RESPONSE_INFORMATION, Value::Byte(value))
    }
    pub(crate) fn reason_string(text: &str) -> (u8, Value) {
        (REASON_STRING, Value::Text(text.to_owned()))
    }
    pub(crate) fn receive_maximum(value: u16) -> (u8, Value) {
        (RECEIVE_MAXIMUM, Value::TwoBytes(value))
    }
    pub(crate) fn topic_alias_maximum(value: u16) -> (u8, Value) {
        (TOPIC_ALIAS_MAXIMUM, Value::TwoBytes(value))
    }
    pub(crate) fn topic_alias(value: u16) -> (u8, Value) {
        (TOPIC_ALIAS, Value::TwoBytes(value))
    }
    pub(crate) fn user_property(key: &str, value: &str) -> (u8, Value) {
        (USER_PROPERTY, Value::Pair(key.to_owned(), value.to_owned()))
    }
    pub(crate) fn maximum_packet_size(bytes: u32) -> (u8, Value) {
        (MAXIMUM_PACKET_SIZE, Value::FourBytes(bytes))
    }
}

// ---------------------------------------------------------------------------------------------- the pieces of a packet

/// A Variable Byte Integer in its shortest form.
pub(crate) fn variable(mut value: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let seven_bits = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            bytes.push(seven_bits);
            return bytes;
        }
        bytes.push(seven_bits | 0x80);
    }
}

/// A length of two bytes and that many bytes: a UTF-8 Encoded String or Binary Data.
pub(crate) fn field(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let bytes = bytes.as_ref();
    let length = u16::try_from(bytes.len()).expect("a field of a test has at most 65,535 bytes");
    [&length.to_be_bytes()[..], bytes].concat()
}

/// A packet out of its first byte and everything that follows the Remaining Length.
pub(crate) fn packet(first_byte: u8, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let length = u32::try_from(body.len()).expect("a packet of a test fits its length field");
    [&[first_byte][..], &variable(length), body].concat()
}

/// The Property Length and the properties, in the order given.
pub(crate) fn properties(list: &[(u8, Value)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (id, value) in list {
        bytes.extend(variable(u32::from(*id)));
        match value {
            Value::Byte(value) => bytes.push(*value),
            Value::TwoBytes(value) => bytes.extend(value.to_be_bytes()),
            Value::FourBytes(value) => bytes.extend(value.to_be_bytes()),
            Value::Variable(value) => bytes.extend(variable(*value)),
            Value::Text(text) => bytes.extend(field(text)),
            Value::Bytes(data) => bytes.extend(field(data)),
            Value::Pair(key, value) => bytes.extend([field(key), field(value)].concat()),
        }
    }
    let length = u32::try_from(bytes.len()).expect("properties of a test fit their length field");
    [variable(length), bytes].concat()
}

fn properties_if_v5(list: &[(u8, Value)], version: Version) -> Vec<u8> {
    if version.is_v5() { properties(list) } else { Vec::new() }
}

// ------------------------------------------------------------------------------------------------------- the packets

/// Anything that can be said on a Network Connection.
pub(crate) trait Packet {
    fn bytes(&self, version: Version) -> Vec<u8>;
}

impl Packet for Vec<u8> {
    fn bytes(&self, _: Version) -> Vec<u8> {
        self.clone()
    }
}

impl Packet for &[u8] {
    fn bytes(&self, _: Version) -> Vec<u8> {
        self.to_vec()
    }
}

impl<const N: usize> Packet for [u8; N] {
    fn bytes(&self, _: Version) -> Vec<u8> {
        self.to_vec()
    }
}

/// CONNECT. Starts out with Clean Start 1, a Keep Alive of 600 s and nothing optional.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Connect {
    pub(crate) version: Version,
    pub(crate) client_id: Vec<u8>,
    pub(crate) clean_start: bool,
    pub(crate) keep_alive_s: u16,
    pub(crate) properties: Vec<(u8, Value)>,
    pub(crate) will: Option<Will>,
    pub(crate) user_name: Option<Vec<u8>>,
    pub(crate) password: Option<Vec<u8>>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Will {
    pub(crate) topic: Vec<u8>,
    pub(crate) payload: Vec<u8>,
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    pub(crate) properties: Vec<(u8, Value)>,
}

pub(crate) fn connect(version: Version, client_id: &str) -> Connect {
    Connect {
        version,
        client_id: client_id.as_bytes().to_vec(),
        clean_start: true,
        keep_alive_s: 600,
        properties: Vec::new(),
        will: None,
        user_name: None,
        password: None,
    }
}

pub(crate) fn connect_v5(client_id: &str) -> Connect {
    connect(Version::V5, client_id)
}

/// MQTT 3.1.1, which calls itself level 4.
pub(crate) fn connect_v4(client_id: &str) -> Connect {
    connect(Version::V311, client_id)
}

/// MQTT 3.1, which calls itself `MQIsdp` level 3.
pub(crate) fn connect_v3(client_id: &str) -> Connect {
    connect(Version::V31, client_id)
}

impl Connect {
    /// Clean Start 0, and a Session that outlives the connection: of 1,000 s in MQTT 5, of whatever the server grants
    /// a CleanSession of 0 before that.
    pub(crate) fn persistent(self) -> Self {
        let version = self.version;
        let resuming = self.resuming();
        if version.is_v5() { resuming.with(property::session_expiry_interval(1000)) } else { resuming }
    }

    /// Clean Start 0, and nothing said about how long the Session lasts.
    pub(crate) fn resuming(mut self) -> Self {
        self.clean_start = false;
        self
    }

    pub(crate) fn keep_alive(mut self, seconds: u16) -> Self {
        self.keep_alive_s = seconds;
        self
    }

    pub(crate) fn with(mut self, property: (u8, Value)) -> Self {
        self.properties.push(property);
        self
    }

    pub(crate) fn will(mut self, will: Will) -> Self {
        self.will = Some(will);
        self
    }

    pub(crate) fn user_name(mut self, name: &str) -> Self {
        self.user_name = Some(name.as_bytes().to_vec());
        self
    }

    pub(crate) fn password(mut self, password: &[u8]) -> Self {
        self.password = Some(password.to_vec());
        self
    }

    pub(crate) fn flags(&self) -> u8 {
        let will = self.will.as_ref().map_or(0, |will| 0x04 | will.qos << 3 | u8::from(will.retain) << 5);
        u8::from(self.clean_start) << 1
            | will
            | u8::from(self.password.is_some()) << 6
            | u8::from(self.user_name.is_some()) << 7
    }

    /// The protocol name and level, the flags and the Keep Alive.
    pub(crate) fn start_of_header(&self) -> Vec<u8> {
        let (name, level) = match self.version {
            Version::V31 => ("MQIsdp", 3),
            Version::V311 => ("MQTT", 4),
            Version::V5 => ("MQTT", 5),
        };
        [field(name), vec![level, self.flags()], self.keep_alive_s.to_be_bytes().to_vec()].concat()
    }

    pub(crate) fn payload(&self) -> Vec<u8> {
        let mut bytes = field(&self.client_id);
        if let Some(will) = &self.will {
            bytes.extend(properties_if_v5(&will.properties, self.version));
            bytes.extend(field(&will.topic));
            bytes.extend(field(&will.payload));
        }
        bytes.extend(self.user_name.as_ref().map(field).unwrap_or_default());
        bytes.extend(self.password.as_ref().map(field).unwrap_or_default());
        bytes
    }
}

impl Packet for Connect {
    fn bytes(&self, _: Version) -> Vec<u8> {
        let properties = properties_if_v5(&self.properties, self.version);
        packet(0x10, [self.start_of_header(), properties, self.payload()].concat())
    }
}

pub(crate) fn will(topic: &str, payload: &str) -> Will {
    Will {
        topic: topic.as_bytes().to_vec(),
        payload: payload.as_bytes().to_vec(),
        qos: 0,
        retain: false,
        properties: Vec::new(),
    }
}

impl Will {
    pub(crate) fn qos(mut self, qos: u8) -> Self {
        self.qos = qos;
        self
    }

    pub(crate) fn retain(mut self) -> Self {
        self.retain = true;
        self
    }

    pub(crate) fn with(mut self, property: (u8, Value)) -> Self {
        self.properties.push(property);
        self
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ConnAck {
    pub(crate) session_present: bool,
    /// A Reason Code, or before MQTT 5 a return code.
    pub(crate) code: u8,
    pub(crate) properties: Vec<(u8, Value)>,
}

impl ConnAck {
    pub(crate) fn property(&self, id: u8) -> Option<&Value> {
        find(&self.properties, id)
    }
}

/// PUBLISH. Starts out with QoS 0 and all flags 0.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Publish {
    pub(crate) dup: bool,
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    pub(crate) topic: Vec<u8>,
    pub(crate) packet_id: Option<u16>,
    pub(crate) properties: Vec<(u8, Value)>,
    pub(crate) payload: Vec<u8>,
}

impl std::fmt::Debug for Publish {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let show = |bytes: &[u8]| match bytes.get(..60) {
            Some(start) => format!("{}… ({} bytes)", start.escape_ascii(), bytes.len()),
            None => bytes.escape_ascii().to_string(),
        };
        write!(
            formatter,
            "PUBLISH(dup {}, qos {}, retain {}, id {:?}, {:?} = {:?}, {:?})",
            u8::from(self.dup),
            self.qos,
            u8::from(self.retain),
            self.packet_id,
            show(&self.topic),
            show(&self.payload),
            self.properties
        )
    }
}

pub(crate) fn publish(topic: impl AsRef<[u8]>, payload: impl AsRef<[u8]>) -> Publish {
    Publish {
        dup: false,
        qos: 0,
        retain: false,
        topic: topic.as_ref().to_vec(),
        packet_id: None,
        properties: Vec::new(),
        payload: payload.as_ref().to_vec(),
    }
}

impl Publish {
    pub(crate) fn at_least_once(self, packet_id: u16) -> Self {
        self.qos(1, packet_id)
    }

    pub(crate) fn exactly_once(self, packet_id: u16) -> Self {
        self.qos(2, packet_id)
    }

    /// The Packet Identifier is left out at QoS 0.
    pub(crate) fn qos(mut self, qos: u8, packet_id: u16) -> Self {
        self.qos = qos;
        self.packet_id = (qos > 0).then_some(packet_id);
        self
    }

    pub(crate) fn retain(mut self) -> Self {
        self.retain = true;
        self
    }

    pub(crate) fn dup(mut self) -> Self {
        self.dup = true;
        self
    }

    pub(crate) fn with(mut self, property: (u8, Value)) -> Self {
        self.properties.push(property);
        self
    }

    pub(crate) fn property(&self, id: u8) -> Option<&Value> {
        find(&self.properties, id)
    }

    pub(crate) fn has(&self, id: u8) -> bool {
        self.property(id).is_some()
    }
}

impl Packet for Publish {
    fn bytes(&self, version: Version) -> Vec<u8> {
        let first_byte = 0x30 | u8::from(self.dup) << 3 | self.qos << 1 | u8::from(self.retain);
        let packet_id = self.packet_id.map(|id| id.to_be_bytes().to_vec()).unwrap_or_default();
        let properties = properties_if_v5(&self.properties, version);
        packet(first_byte, [field(&self.topic), packet_id, properties, self.payload.clone()].concat())
    }
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Ack {
    pub(crate) kind: AckKind,
    pub(crate) packet_id: u16,
    pub(crate) reason: u8,
    pub(crate) properties: Vec<(u8, Value)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(clippy::enum_variant_names, reason = "these are their names")]
pub(crate) enum AckKind {
    PubAck = 4,
    PubRec = 5,
    PubRel = 6,
    PubComp = 7,
}

fn ack(kind: AckKind, packet_id: u16) -> Ack {
    Ack { kind, packet_id, reason: 0, properties: Vec::new() }
}

pub(crate) fn puback(packet_id: u16) -> Ack {
    ack(AckKind::PubAck, packet_id)
}

pub(crate) fn pubrec(packet_id: u16) -> Ack {
    ack(AckKind::PubRec, packet_id)
}

pub(crate) fn pubrel(packet_id: u16) -> Ack {
    ack(AckKind::PubRel, packet_id)
}

pub(crate) fn pubcomp(packet_id: u16) -> Ack {
    ack(AckKind::PubComp, packet_id)
}

impl Ack {
    pub(crate) fn reason(mut self, reason: u8) -> Self {
        self.reason = reason;
        self
    }

    pub(crate) fn with(mut self, property: (u8, Value)) -> Self {
        self.properties.push(property);
        self
    }
}

impl Packet for Ack {
    fn bytes(&self, version: Version) -> Vec<u8> {
        let flags = if self.kind == AckKind::PubRel { 2 } else { 0 };
        let first_byte = (self.kind as u8) << 4 | flags;
        let mut body = self.packet_id.to_be_bytes().to_vec();
        if version.is_v5() && (self.reason != 0 || !self.properties.is_empty()) {
            body.push(self.reason);
            body.extend(properties(&self.properties));
        }
        packet(first_byte, body)
    }
}

/// SUBSCRIBE: Topic Filters, each with its Subscription Options as they travel (in 3.x the requested QoS).
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Subscribe {
    pub(crate) packet_id: u16,
    pub(crate) properties: Vec<(u8, Value)>,
    pub(crate) filters: Vec<(Vec<u8>, u8)>,
}

/// The bits of the Subscription Options, to be put together with `|` and a QoS.
pub(crate) mod options {
    pub(crate) const NO_LOCAL: u8 = 0x04;
    pub(crate) const RETAIN_AS_PUBLISHED: u8 = 0x08;
    pub(crate) const SEND_RETAINED_IF_NEW: u8 = 0x10;
    pub(crate) const DO_NOT_SEND_RETAINED: u8 = 0x20;
}

pub(crate) fn subscribe(packet_id: u16) -> Subscribe {
    Subscribe { packet_id, properties: Vec::new(), filters: Vec::new() }
}

impl Subscribe {
    pub(crate) fn to(mut self, filter: impl AsRef<[u8]>, options: u8) -> Self {
        self.filters.push((filter.as_ref().to_vec(), options));
        self
    }

    pub(crate) fn with(mut self, property: (u8, Value)) -> Self {
        self.properties.push(property);
        self
    }
}

impl Packet for Subscribe {
    fn bytes(&self, version: Version) -> Vec<u8> {
        let mut body = self.packet_id.to_be_bytes().to_vec();
        body.extend(properties_if_v5(&self.properties, version));
        for (filter, options) in &self.filters {
            body.extend(field(filter));
            body.push(*options);
        }
        packet(0x82, body)
    }
}

/// SUBACK, or UNSUBACK (which has no codes before MQTT 5).
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct SubAck {
    pub(crate) packet_id: u16,
    pub(crate) codes: Vec<u8>,
    pub(crate) properties: Vec<(u8, Value)>,
}

/// What a server answers; to be compared with what it did answer.
pub(crate) fn suback(packet_id: u16, codes: &[u8]) -> Parsed {
    Parsed::SubAck(SubAck { packet_id, codes: codes.to_vec(), properties: Vec::new() })
}

/// What a server answers; to be compared with what it did answer.
pub(crate) fn unsuback(packet_id: u16, codes: &[u8]) -> Parsed {
    Parsed::UnsubAck(SubAck { packet_id, codes: codes.to_vec(), properties: Vec::new() })
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Unsubscribe {
    pub(crate) packet_id: u16,
    pub(crate) properties: Vec<(u8, Value)>,
    pub(crate) filters: Vec<Vec<u8>>,
}

pub(crate) fn unsubscribe(packet_id: u16) -> Unsubscribe {
    Unsubscribe { packet_id, properties: Vec::new(), filters: Vec::new() }
}

impl Unsubscribe {
    pub(crate) fn from(mut self, filter: impl AsRef<[u8]>) -> Self {
        self.filters.push(filter.as_ref().to_vec());
        self
    }
}

impl Packet for Unsubscribe {
    fn bytes(&self, version: Version) -> Vec<u8> {
        let mut body = self.packet_id.to_be_bytes().to_vec();
        body.extend(properties_if_v5(&self.properties, version));
        body.extend(self.filters.iter().flat_map(field));
        packet(0xa2, body)
    }
}

pub(crate) const PINGREQ: [u8; 2] = [0xc0, 0];

/// DISCONNECT or AUTH: a Reason Code and properties. A DISCONNECT of 3.x has neither.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Farewell {
    first_byte: u8,
    pub(crate) reason: u8,
    pub(crate) properties: Vec<(u8, Value)>,
}

pub(crate) fn disconnect(reason: u8) -> Farewell {
    Farewell { first_byte: 0xe0, reason, properties: Vec::new() }
}

pub(crate) fn auth(reason: u8) -> Farewell {
    Farewell { first_byte: 0xf0, reason, properties: Vec::new() }
}

impl Farewell {
    pub(crate) fn with(mut self, property: (u8, Value)) -> Self {
        self.properties.push(property);
        self
    }

    pub(crate) fn property(&self, id: u8) -> Option<&Value> {
        find(&self.properties, id)
    }
}

impl Packet for Farewell {
    fn bytes(&self, version: Version) -> Vec<u8> {
        let is_short = !version.is_v5() || (self.reason == 0 && self.properties.is_empty());
        let body = if is_short { Vec::new() } else { [vec![self.reason], properties(&self.properties)].concat() };
        packet(self.first_byte, body)
    }
}

// -------------------------------------------------------------------------------------------------------- the parser

/// A packet that a server sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Parsed {
    ConnAck(ConnAck),
    Publish(Publish),
    Ack(Ack),
    SubAck(SubAck),
    UnsubAck(SubAck),
    PingResp,
    Disconnect(Farewell),
    Auth(Farewell),
}

impl From<Publish> for Parsed {
    fn from(publish: Publish) -> Self {
        Self::Publish(publish)
    }
}

impl From<Ack> for Parsed {
    fn from(ack: Ack) -> Self {
        Self::Ack(ack)
    }
}

impl From<ConnAck> for Parsed {
    fn from(connack: ConnAck) -> Self {
        Self::ConnAck(connack)
    }
}

/// Takes apart what a server sent: whole packets and nothing else.
///
/// # Panics
///
/// On anything that a server must not send: half a packet, a packet that only Clients send, wrong flags, a length that
/// is not in its shortest form, a property where it does not belong or twice, a code that is not in the table of its packet.
pub(crate) fn parse(bytes: &[u8], v5: bool) -> Vec<Parsed> {
    let mut rest = Reader { bytes };
    let mut packets = Vec::new();
    while !rest.is_empty() {
        let first_byte = rest.byte();
        let length = rest.variable() as usize;
        let body = Reader { bytes: rest.take(length) };
        packets.push(parse_packet(first_byte, body, v5));
    }
    packets
}

/// The sizes of the packets in what a server sent.
pub(crate) fn packet_sizes(bytes: &[u8]) -> Vec<usize> {
    let mut rest = Reader { bytes };
    let mut sizes = Vec::new();
    while !rest.is_empty() {
        let before = rest.bytes.len();
        rest.byte();
        let length = rest.variable() as usize;
        rest.take(length);
        sizes.push(before - rest.bytes.len());
    }
    sizes
}

fn parse_packet(first_byte: u8, mut body: Reader<'_>, v5: bool) -> Parsed {
    let kind = first_byte >> 4;
    if kind == 3 {
        return Parsed::Publish(parse_publish(first_byte, body, v5));
    }
    let flags = if kind == 6 { 2 } else { 0 };
    assert_eq!(first_byte & 0x0f, flags, "the server sent packet type {kind} with wrong flags");
    let parsed = match kind {
        2 => Parsed::ConnAck(parse_connack(&mut body, v5)),
        4 => Parsed::Ack(parse_ack(AckKind::PubAck, &mut body, v5)),
        5 => Parsed::Ack(parse_ack(AckKind::PubRec, &mut body, v5)),
        6 => Parsed::Ack(parse_ack(AckKind::PubRel, &mut body, v5)),
        7 => Parsed::Ack(parse_ack(AckKind::PubComp, &mut body, v5)),
        9 => Parsed::SubAck(parse_suback(&mut body, v5)),
        11 => Parsed::UnsubAck(parse_unsuback(&mut body, v5)),
        13 => Parsed::PingResp,
        14 if v5 => Parsed::Disconnect(parse_farewell(first_byte, &mut body, DISCONNECT_CODES)),
        15 if v5 => Parsed::Auth(parse_farewell(first_byte, &mut body, AUTH_CODES)),
        _ => panic!("a server never sends packet type {kind} (MQTT 5: {v5})"),
    };
    assert!(body.is_empty(), "the server sent {parsed:?} and {} bytes too many", body.bytes.len());
    parsed
}

fn parse_connack(body: &mut Reader<'_>, v5: bool) -> ConnAck {
    let flags = body.byte();
    assert_eq!(flags & 0xfe, 0, "bits 7 to 1 of the Connect Acknowledge Flags are 0, not {flags:#04x}");
    let code = body.byte();
    let codes = if v5 { CONNACK_CODES } else { RETURN_CODES };
    assert!(codes.contains(&code), "{code:#04x} is not a code for CONNACK");
    let properties = body.properties_if(v5, CONNACK_PROPERTIES);
    ConnAck { session_present: flags == 1, code, properties }
}

fn parse_publish(first_byte: u8, mut body: Reader<'_>, v5: bool) -> Publish {
    let qos = first_byte >> 1 & 3;
    assert!(qos < 3, "the server sent a PUBLISH of QoS 3");
    let dup = first_byte & 8 != 0;
    assert!(qos > 0 || !dup, "the server sent a PUBLISH of QoS 0 with DUP 1");
    let topic = body.text();
    assert!(!topic.contains(['+', '#']), "the server sent the Topic Name {topic:?} with a wildcard in it");
    let packet_id = (qos > 0).then(|| body.packet_id());
    let properties = body.properties_if(v5, PUBLISH_PROPERTIES);
    let has_alias = find(&properties, property::TOPIC_ALIAS).is_some();
    assert!(!topic.is_empty() || has_alias, "the server sent a PUBLISH with neither a Topic Name nor a Topic Alias");
    assert_ne!(find(&properties, property::TOPIC_ALIAS), Some(&Value::TwoBytes(0)), "the server sent Topic Alias 0");
    Publish {
        dup,
        qos,
        retain: first_byte & 1 != 0,
        topic: topic.into_bytes(),
        packet_id,
        properties,
        payload: body.bytes.to_vec(),
    }
}

fn parse_ack(kind: AckKind, body: &mut Reader<'_>, v5: bool) -> Ack {
    let packet_id = body.packet_id();
    let (mut reason, mut properties) = (0, Vec::new());
    if v5 && !body.is_empty() {
        reason = body.byte();
        if !body.is_empty() {
            properties = body.properties(REASON_PROPERTIES);
        }
    }
    let codes = match kind {
        AckKind::PubAck | AckKind::PubRec => PUBACK_CODES,
        AckKind::PubRel | AckKind::PubComp => PUBREL_CODES,
    };
    assert!(codes.contains(&reason), "{reason:#04x} is not a Reason Code for {kind:?}");
    Ack { kind, packet_id, reason, properties }
}

fn parse_suback(body: &mut Reader<'_>, v5: bool) -> SubAck {
    let packet_id = body.packet_id();
    let properties = body.properties_if(v5, REASON_PROPERTIES);
    let codes = body.rest();
    let table = if v5 { SUBACK_CODES } else { SUBACK_RETURN_CODES };
    assert!(codes.iter().all(|code| table.contains(code)), "{codes:x?} are not codes for SUBACK");
    SubAck { packet_id, codes, properties }
}

fn parse_unsuback(body: &mut Reader<'_>, v5: bool) -> SubAck {
    let packet_id = body.packet_id();
    let properties = body.properties_if(v5, REASON_PROPERTIES);
    let codes = if v5 { body.rest() } else { Vec::new() };
    assert!(codes.iter().all(|code| UNSUBACK_CODES.contains(code)), "{codes:x?} are not codes for UNSUBACK");
    SubAck { packet_id, codes, properties }
}

fn parse_farewell(first_byte: u8, body: &mut Reader<'_>, codes: &[u8]) -> Farewell {
    let reason = if body.is_empty() { 0 } else { body.byte() };
    assert!(codes.contains(&reason), "a server does not say {reason:#04x} in packet type {}", first_byte >> 4);
    let allowed = if first_byte == 0xe0 { DISCONNECT_PROPERTIES } else { AUTH_PROPERTIES };
    let properties = if body.is_empty() { Vec::new() } else { body.properties(allowed) };
    Farewell { first_byte, reason, properties }
}

const RETURN_CODES: &[u8] = &[0, 1, 2, 3, 4, 5];
const CONNACK_CODES: &[u8] = &[
    0x00, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x8c, 0x90, 0x95, 0x97, 0x99, 0x9a, 0x9b,
    0x9c, 0x9d, 0x9f,
];
const PUBACK_CODES: &[u8] = &[0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99];
const PUBREL_CODES: &[u8] = &[0x00, 0x92];
const SUBACK_CODES: &[u8] = &[0x00, 0x01, 0x02, 0x80, 0x83, 0x87, 0x8f, 0x91, 0x97, 0x9e, 0xa1, 0xa2];
const SUBACK_RETURN_CODES: &[u8] = &[0x00, 0x01, 0x02, 0x80];
const UNSUBACK_CODES: &[u8] = &[0x00, 0x11, 0x80, 0x83, 0x87, 0x8f, 0x91];
/// Those that a server may say.
const DISCONNECT_CODES: &[u8] = &[
    0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8b, 0x8d, 0x8e, 0x8f, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9a,
    0x9b, 0x9c, 0x9d, 0x9e, 0x9f, 0xa0, 0xa1, 0xa2,
];
/// Those that a server may say.
const AUTH_CODES: &[u8] = &[0x00, 0x18];

const CONNACK_PROPERTIES: &[u8] = &[
    property::SESSION_EXPIRY_INTERVAL,
    property::RECEIVE_MAXIMUM,
    property::MAXIMUM_QOS,
    property::RETAIN_AVAILABLE,
    property::MAXIMUM_PACKET_SIZE,
    property::ASSIGNED_CLIENT_IDENTIFIER,
    property::TOPIC_ALIAS_MAXIMUM,
    property::REASON_STRING,
    property::USER_PROPERTY,
    property::WILDCARD_SUBSCRIPTION_AVAILABLE,
    property::SUBSCRIPTION_IDENTIFIER_AVAILABLE,
    property::SHARED_SUBSCRIPTION_AVAILABLE,
    property::SERVER_KEEP_ALIVE,
    property::RESPONSE_INFORMATION,
    property::SERVER_REFERENCE,
    property::AUTHENTICATION_METHOD,
    property::AUTHENTICATION_DATA,
];
const PUBLISH_PROPERTIES: &[u8] = &[
    property::PAYLOAD_FORMAT_INDICATOR,
    property::MESSAGE_EXPIRY_INTERVAL,
    property::TOPIC_ALIAS,
    property::RESPONSE_TOPIC,
    property::CORRELATION_DATA,
    property::USER_PROPERTY,
    property::SUBSCRIPTION_IDENTIFIER,
    property::CONTENT_TYPE,
];
const REASON_PROPERTIES: &[u8] = &[property::REASON_STRING, property::USER_PROPERTY];
/// A server's DISCONNECT has no Session Expiry Interval [MQTT-3.14.2-2].
const DISCONNECT_PROPERTIES: &[u8] = &[property::REASON_STRING, property::USER_PROPERTY, property::SERVER_REFERENCE];
const AUTH_PROPERTIES: &[u8] =
    &[property::AUTHENTICATION_METHOD, property::AUTHENTICATION_DATA, property::REASON_STRING, property::USER_PROPERTY];

fn find(properties: &[(u8, Value)], id: u8) -> Option<&Value> {
    properties.iter().find(|(each, _)| *each == id).map(|(_, value)| value)
}

struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    fn take(&mut self, length: usize) -> &'a [u8] {
        assert!(length <= self.bytes.len(), "the server sent {} bytes where {length} belong", self.bytes.len());
        let (taken, rest) = self.bytes.split_at(length);
        self.bytes = rest;
        taken
    }

    fn rest(&mut self) -> Vec<u8> {
        self.take(self.bytes.len()).to_vec()
    }

    fn byte(&mut self) -> u8 {
        self.take(1)[0]
    }

    fn two_bytes(&mut self) -> u16 {
        u16::from_be_bytes(self.take(2).try_into().expect("two bytes were taken"))
    }

    fn four_bytes(&mut self) -> u32 {
        u32::from_be_bytes(self.take(4).try_into().expect("four bytes were taken"))
    }

    fn packet_id(&mut self) -> u16 {
        let id = self.two_bytes();
        assert_ne!(id, 0, "the server sent Packet Identifier 0");
        id
    }

    fn variable(&mut self) -> u32 {
        let mut value = 0;
        for place in 0..4 {
            let byte = self.byte();
            value |= u32::from(byte & 0x7f) << (7 * place);
            if byte & 0x80 == 0 {
                assert!(byte != 0 || place == 0, "the server sent a Variable Byte Integer longer than it needs to be");
                return value;
            }
        }
        panic!("the server sent a Variable Byte Integer of more than four bytes");
    }

    fn binary(&mut self) -> Vec<u8> {
        let length = self.two_bytes();
        self.take(usize::from(length)).to_vec()
    }

    fn text(&mut self) -> String {
        let text = String::from_utf8(self.binary()).expect("a server sends well-formed UTF-8");
        assert!(!text.contains('\0'), "the server sent U+0000 in {text:?}");
        text
    }

    fn properties_if(&mut self, v5: bool, allowed: &[u8]) -> Vec<(u8, Value)> {
        if v5 { self.properties(allowed) } else { Vec::new() }
    }

    fn properties(&mut self, allowed: &[u8]) -> Vec<(u8, Value)> {
        let length = self.variable() as usize;
        let mut inner = Reader { bytes: self.take(length) };
        let mut list: Vec<(u8, Value)> = Vec::new();
        while !inner.is_empty() {
            let id = u8::try_from(inner.variable()).expect("no property has a number above 42");
            assert!(allowed.contains(&id), "the server sent property {id} where it does not belong");
            let may_repeat = id == property::USER_PROPERTY || id == property::SUBSCRIPTION_IDENTIFIER;
            assert!(may_repeat || find(&list, id).is_none(), "the server sent property {id} twice");
            list.push((id, inner.value(id)));
        }
        list
    }

    fn value(&mut self, id: u8) -> Value {
        match id {
            1 | 23 | 25 | 36 | 37 | 40..=42 => Value::Byte(self.byte()),
            19 | 33..=35 => Value::TwoBytes(self.two_bytes()),
            2 | 17 | 24 | 39 => Value::FourBytes(self.four_bytes()),
            11 => Value::Variable(self.variable()),
            9 | 22 => Value::Bytes(self.binary()),
            38 => Value::Pair(self.text(), self.text()),
            _ => Value::Text(self.text()),
        }
    }
}

/// The Reason Codes that tests name.
pub(crate) mod reason {
    pub(crate) const NO_MATCHING_SUBSCRIBERS: u8 = 0x10;
    pub(crate) const NO_SUBSCRIPTION_EXISTED: u8 = 0x11;
    pub(crate) const CONTINUE_AUTHENTICATION: u8 = 0x18;
    pub(crate) const RE_AUTHENTICATE: u8 = 0x19;
    pub(crate) const UNSPECIFIED_ERROR: u8 = 0x80;
    pub(crate) const MALFORMED_PACKET: u8 = 0x81;
    pub(crate) const PROTOCOL_ERROR: u8 = 0x82;
    pub(crate) const IMPLEMENTATION_SPECIFIC_ERROR: u8 = 0x83;
    pub(crate) const UNSUPPORTED_PROTOCOL_VERSION: u8 = 0x84;
    pub(crate) const CLIENT_IDENTIFIER_NOT_VALID: u8 = 0x85;
    pub(crate) const BAD_USER_NAME_OR_PASSWORD: u8 = 0x86;
    pub(crate) const NOT_AUTHORIZED: u8 = 0x87;
    pub(crate) const BAD_AUTHENTICATION_METHOD: u8 = 0x8c;
    pub(crate) const KEEP_ALIVE_TIMEOUT: u8 = 0x8d;
    pub(crate) const SESSION_TAKEN_OVER: u8 = 0x8e;
    pub(crate) const TOPIC_FILTER_INVALID: u8 = 0x8f;
    pub(crate) const TOPIC_NAME_INVALID: u8 = 0x90;
    pub(crate) const PACKET_IDENTIFIER_NOT_FOUND: u8 = 0x92;
    pub(crate) const RECEIVE_MAXIMUM_EXCEEDED: u8 = 0x93;
    pub(crate) const TOPIC_ALIAS_INVALID: u8 = 0x94;
    pub(crate) const PACKET_TOO_LARGE: u8 = 0x95;
    pub(crate) const PAYLOAD_FORMAT_INVALID: u8 = 0x99;
    pub(crate) const RETAIN_NOT_SUPPORTED: u8 = 0x9a;
    pub(crate) const QOS_NOT_SUPPORTED: u8 = 0x9b;
    pub(crate) const SHARED_SUBSCRIPTIONS_NOT_SUPPORTED: u8 = 0x9e;
    pub(crate) const WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED: u8 = 0xa2;
}
