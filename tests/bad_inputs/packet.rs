//! Packets built byte by byte, true or lying, and a reader for what the broker answers.
//!
//! Nothing here uses the broker's own codec, so that neither can hide a fault of the other, and nothing here refuses
//! to build what the standard forbids. Each builder writes a valid packet; a test then replaces the one field it is about.

/// The protocol version that a Client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    V311,
    V5,
}

impl Version {
    pub(crate) const BOTH: [Self; 2] = [Self::V311, Self::V5];

    pub(crate) fn is_v5(self) -> bool {
        self == Self::V5
    }

    pub(crate) fn level(self) -> u8 {
        if self.is_v5() { 5 } else { 4 }
    }
}

/// Packet types, as in the upper half of the first byte.
pub(crate) mod kind {
    pub(crate) const CONNECT: u8 = 1;
    pub(crate) const CONNACK: u8 = 2;
    pub(crate) const PUBLISH: u8 = 3;
    pub(crate) const PUBACK: u8 = 4;
    pub(crate) const PUBREC: u8 = 5;
    pub(crate) const PUBREL: u8 = 6;
    pub(crate) const PUBCOMP: u8 = 7;
    pub(crate) const SUBACK: u8 = 9;
    pub(crate) const UNSUBACK: u8 = 11;
    pub(crate) const PINGRESP: u8 = 13;
    pub(crate) const DISCONNECT: u8 = 14;
    pub(crate) const AUTH: u8 = 15;
}

/// Reason Codes that the tests expect.
pub(crate) mod code {
    pub(crate) const NO_MATCHING_SUBSCRIBERS: u8 = 0x10;
    pub(crate) const NO_SUBSCRIPTION_EXISTED: u8 = 0x11;
    pub(crate) const MALFORMED_PACKET: u8 = 0x81;
    pub(crate) const PROTOCOL_ERROR: u8 = 0x82;
    pub(crate) const IMPLEMENTATION_SPECIFIC: u8 = 0x83;
    pub(crate) const UNSUPPORTED_PROTOCOL_VERSION: u8 = 0x84;
    pub(crate) const CLIENT_IDENTIFIER_NOT_VALID: u8 = 0x85;
    pub(crate) const BAD_USER_NAME_OR_PASSWORD: u8 = 0x86;
    pub(crate) const NOT_AUTHORIZED: u8 = 0x87;
    pub(crate) const SERVER_UNAVAILABLE: u8 = 0x88;
    pub(crate) const SERVER_BUSY: u8 = 0x89;
    pub(crate) const BANNED: u8 = 0x8A;
    pub(crate) const SERVER_SHUTTING_DOWN: u8 = 0x8B;
    pub(crate) const BAD_AUTHENTICATION_METHOD: u8 = 0x8C;
    pub(crate) const KEEP_ALIVE_TIMEOUT: u8 = 0x8D;
    pub(crate) const SESSION_TAKEN_OVER: u8 = 0x8E;
    pub(crate) const TOPIC_FILTER_INVALID: u8 = 0x8F;
    pub(crate) const TOPIC_NAME_INVALID: u8 = 0x90;
    pub(crate) const PACKET_IDENTIFIER_IN_USE: u8 = 0x91;
    pub(crate) const PACKET_IDENTIFIER_NOT_FOUND: u8 = 0x92;
    pub(crate) const RECEIVE_MAXIMUM_EXCEEDED: u8 = 0x93;
    pub(crate) const TOPIC_ALIAS_INVALID: u8 = 0x94;
    pub(crate) const PACKET_TOO_LARGE: u8 = 0x95;
    pub(crate) const QUOTA_EXCEEDED: u8 = 0x97;
    pub(crate) const PAYLOAD_FORMAT_INVALID: u8 = 0x99;
    pub(crate) const RETAIN_NOT_SUPPORTED: u8 = 0x9A;
    pub(crate) const QOS_NOT_SUPPORTED: u8 = 0x9B;
}

/// Variable Byte Integer in its shortest form.
pub(crate) fn variable(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = (value % 128) as u8;
        value /= 128;
        if value == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

/// A packet of this first byte and body; its Remaining Length is true.
pub(crate) fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    claiming(first, body.len(), body)
}

/// A packet whose Remaining Length says `length`, whatever its body has.
pub(crate) fn claiming(first: u8, length: usize, body: &[u8]) -> Vec<u8> {
    [&[first], variable(length).as_slice(), body].concat()
}

/// The same packet with `surplus` more bytes of body, counted in its Remaining Length.
pub(crate) fn lengthened(whole: &[u8], surplus: &[u8]) -> Vec<u8> {
    packet(whole[0], &[body_of(whole), surplus].concat())
}

/// The same packet with only `keep` bytes of its body, and a Remaining Length that says so.
pub(crate) fn shortened(whole: &[u8], keep: usize) -> Vec<u8> {
    packet(whole[0], &body_of(whole)[..keep])
}

/// What follows the fixed header of a packet that is written correctly.
pub(crate) fn body_of(whole: &[u8]) -> &[u8] {
    let length_bytes = whole[1..].iter().take_while(|byte| **byte >= 0x80).count() + 1;
    &whole[1 + length_bytes..]
}

/// Two bytes of length, then the bytes: a string or binary data.
pub(crate) fn string(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let bytes = bytes.as_ref();
    let length = u16::try_from(bytes.len()).expect("test strings fit their length");
    [length.to_be_bytes().as_slice(), bytes].concat()
}

/// A property list with its true length, for MQTT 5; nothing for older versions.
fn properties(version: Version, list: &[u8]) -> Vec<u8> {
    if version.is_v5() { [variable(list.len()).as_slice(), list].concat() } else { Vec::new() }
}

pub(crate) const PINGREQ: &[u8] = &[0xC0, 0x00];
pub(crate) const DISCONNECT: &[u8] = &[0xE0, 0x00];

#[derive(Clone)]
pub(crate) struct Connect {
    pub(crate) version: Version,
    pub(crate) name: Vec<u8>,
    pub(crate) level: u8,
    pub(crate) clean: bool,
    pub(crate) keep_alive_s: u16,
    pub(crate) properties: Vec<u8>,
    pub(crate) client_id: Vec<u8>,
    pub(crate) will: Option<Will>,
    pub(crate) user_name: Option<Vec<u8>>,
    pub(crate) password: Option<Vec<u8>>,
}

#[derive(Clone)]
pub(crate) struct Will {
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    pub(crate) properties: Vec<u8>,
    pub(crate) topic: Vec<u8>,
    pub(crate) payload: Vec<u8>,
}

pub(crate) fn connect(version: Version, client_id: impl AsRef<[u8]>) -> Connect {
    Connect {
        version,
        name: b"MQTT".to_vec(),
        level: version.level(),
        clean: true,
        keep_alive_s: 60,
        properties: Vec::new(),
        client_id: client_id.as_ref().to_vec(),
        will: None,
        user_name: None,
        password: None,
    }
}

pub(crate) fn will(topic: impl AsRef<[u8]>, payload: impl AsRef<[u8]>) -> Will {
    Will {
        qos: 0,
        retain: false,
        properties: Vec::new(),
        topic: topic.as_ref().to_vec(),
        payload: payload.as_ref().to_vec(),
    }
}

impl Connect {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.bytes_with_flags(self.flags())
    }

    /// The Connect Flags that tell the truth about the payload.
    pub(crate) fn flags(&self) -> u8 {
        let mut flags = u8::from(self.clean) << 1;
        if let Some(will) = &self.will {
            flags |= 0x04 | will.qos << 3 | u8::from(will.retain) << 5;
        }
        flags |= u8::from(self.password.is_some()) << 6;
        flags | u8::from(self.user_name.is_some()) << 7
    }

    pub(crate) fn bytes_with_flags(&self, flags: u8) -> Vec<u8> {
        let mut body = string(&self.name);
        body.extend([self.level, flags]);
        body.extend(self.keep_alive_s.to_be_bytes());
        body.extend(properties(self.version, &self.properties));
        body.extend(string(&self.client_id));
        if let Some(will) = &self.will {
            body.extend(properties(self.version, &will.properties));
            body.extend(string(&will.topic));
            body.extend(string(&will.payload));
        }
        for credential in [&self.user_name, &self.password].into_iter().flatten() {
            body.extend(string(credential));
        }
        packet(0x10, &body)
    }
}

#[derive(Clone)]
pub(crate) struct Publish {
    pub(crate) version: Version,
    pub(crate) dup: bool,
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    pub(crate) topic: Vec<u8>,
    /// Written when the QoS asks for one.
    pub(crate) packet_id: u16,
    pub(crate) properties: Vec<u8>,
    pub(crate) payload: Vec<u8>,
}

/// A PUBLISH of QoS 0; its Packet Identifier is 1 if a test raises the QoS.
pub(crate) fn publish(version: Version, topic: impl AsRef<[u8]>, payload: impl AsRef<[u8]>) -> Publish {
    Publish {
        version,
        dup: false,
        qos: 0,
        retain: false,
        topic: topic.as_ref().to_vec(),
        packet_id: 1,
        properties: Vec::new(),
        payload: payload.as_ref().to_vec(),
    }
}

impl Publish {
    pub(crate) fn qos(mut self, qos: u8, packet_id: u16) -> Self {
        (self.qos, self.packet_id) = (qos, packet_id);
        self
    }

    pub(crate) fn retained(mut self) -> Self {
        self.retain = true;
        self
    }

    pub(crate) fn repeated(mut self) -> Self {
        self.dup = true;
        self
    }

    /// Adds MQTT 5 properties; older versions write none.
    pub(crate) fn with(mut self, list: impl AsRef<[u8]>) -> Self {
        self.properties.extend_from_slice(list.as_ref());
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut body = string(&self.topic);
        if self.qos > 0 {
            body.extend(self.packet_id.to_be_bytes());
        }
        body.extend(properties(self.version, &self.properties));
        body.extend(&self.payload);
        packet(0x30 | u8::from(self.dup) << 3 | self.qos << 1 | u8::from(self.retain), &body)
    }
}

/// A PUBLISH of QoS 0 that is exactly `size` bytes, its fixed header included.
pub(crate) fn publish_of_size(version: Version, topic: &str, size: usize) -> Vec<u8> {
    let header_and_rest = publish(version, topic, vec![b'x'; size]).bytes().len() - size;
    let whole = publish(version, topic, vec![b'x'; size - header_and_rest]).bytes();
    assert_eq!(whole.len(), size, "the length field does not shrink at the sizes that tests use");
    whole
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP in its shortest form, which means success.
pub(crate) fn ack(kind: u8, packet_id: u16) -> Vec<u8> {
    packet(acks_first_byte(kind), &packet_id.to_be_bytes())
}

/// The same with a Reason Code and properties (MQTT 5).
pub(crate) fn ack_with(kind: u8, packet_id: u16, reason: u8, list: &[u8]) -> Vec<u8> {
    let body = [&packet_id.to_be_bytes()[..], &[reason], &properties(Version::V5, list)].concat();
    packet(acks_first_byte(kind), &body)
}

fn acks_first_byte(kind: u8) -> u8 {
    kind << 4 | if kind == kind::PUBREL { 2 } else { 0 }
}

pub(crate) fn subscribe(version: Version, packet_id: u16, filters: &[(&[u8], u8)]) -> Vec<u8> {
    subscribe_with(version, packet_id, &[], filters)
}

pub(crate) fn subscribe_with(version: Version, packet_id: u16, list: &[u8], filters: &[(&[u8], u8)]) -> Vec<u8> {
    let mut body = packet_id.to_be_bytes().to_vec();
    body.extend(properties(version, list));
    for (filter, options) in filters {
        body.extend(string(filter));
        body.push(*options);
    }
    packet(0x82, &body)
}

pub(crate) fn unsubscribe(version: Version, packet_id: u16, filters: &[&[u8]]) -> Vec<u8> {
    let mut body = packet_id.to_be_bytes().to_vec();
    body.extend(properties(version, &[]));
    for filter in filters {
        body.extend(string(filter));
    }
    packet(0xA2, &body)
}

/// DISCONNECT with a Reason Code and properties (MQTT 5).
pub(crate) fn disconnect_with(reason: u8, list: &[u8]) -> Vec<u8> {
    packet(0xE0, &[&[reason], properties(Version::V5, list).as_slice()].concat())
}

/// The properties of MQTT 5 by their identifiers.
pub(crate) mod property {
    use super::string;

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

    /// All of them, each with a value that is valid for it.
    pub(crate) fn all() -> Vec<(u8, Vec<u8>)> {
        let byte = |id| (id, of_byte(id, 1));
        let two = |id| (id, of_u16(id, 1));
        let four = |id| (id, of_u32(id, 100));
        let text = |id| (id, of_string(id, "x"));
        vec![
            byte(PAYLOAD_FORMAT_INDICATOR),
            four(MESSAGE_EXPIRY_INTERVAL),
            text(CONTENT_TYPE),
            text(RESPONSE_TOPIC),
            text(CORRELATION_DATA),
            byte(SUBSCRIPTION_IDENTIFIER),
            four(SESSION_EXPIRY_INTERVAL),
            text(ASSIGNED_CLIENT_IDENTIFIER),
            two(SERVER_KEEP_ALIVE),
            text(AUTHENTICATION_METHOD),
            text(AUTHENTICATION_DATA),
            byte(REQUEST_PROBLEM_INFORMATION),
            four(WILL_DELAY_INTERVAL),
            byte(REQUEST_RESPONSE_INFORMATION),
            text(RESPONSE_INFORMATION),
            text(SERVER_REFERENCE),
            text(REASON_STRING),
            two(RECEIVE_MAXIMUM),
            two(TOPIC_ALIAS_MAXIMUM),
            two(TOPIC_ALIAS),
            byte(MAXIMUM_QOS),
            byte(RETAIN_AVAILABLE),
            (USER_PROPERTY, user("key", "value")),
            four(MAXIMUM_PACKET_SIZE),
            byte(WILDCARD_SUBSCRIPTION_AVAILABLE),
            byte(SUBSCRIPTION_IDENTIFIER_AVAILABLE),
            byte(SHARED_SUBSCRIPTION_AVAILABLE),
        ]
    }

    pub(crate) fn of_byte(id: u8, value: u8) -> Vec<u8> {
        vec![id, value]
    }

    pub(crate) fn of_u16(id: u8, value: u16) -> Vec<u8> {
        [&[id], value.to_be_bytes().as_slice()].concat()
    }

    pub(crate) fn of_u32(id: u8, value: u32) -> Vec<u8> {
        [&[id], value.to_be_bytes().as_slice()].concat()
    }

    pub(crate) fn of_string(id: u8, value: impl AsRef<[u8]>) -> Vec<u8> {
        [&[id], string(value).as_slice()].concat()
    }

    pub(crate) fn user(key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Vec<u8> {
        [&[USER_PROPERTY], string(key).as_slice(), string(value).as_slice()].concat()
    }
}

/// A place in a packet of a Client where MQTT 5 has a property list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Connect,
    Will,
    Publish,
    PubAck,
    PubRec,
    PubRel,
    PubComp,
    Subscribe,
    Unsubscribe,
    Disconnect,
    Auth,
}

impl Place {
    pub(crate) const ALL: [Self; 11] = [
        Self::Connect,
        Self::Will,
        Self::Publish,
        Self::PubAck,
        Self::PubRec,
        Self::PubRel,
        Self::PubComp,
        Self::Subscribe,
        Self::Unsubscribe,
        Self::Disconnect,
        Self::Auth,
    ];

    /// Properties that the standard allows here in a packet of a Client. Server Reference is in no list: the table of
    /// the standard allows it in DISCONNECT, its text only to a Server.
    pub(crate) fn allows(self, id: u8) -> bool {
        use property::*;
        let message =
            [PAYLOAD_FORMAT_INDICATOR, MESSAGE_EXPIRY_INTERVAL, CONTENT_TYPE, RESPONSE_TOPIC, CORRELATION_DATA];
        match self {
            _ if id == USER_PROPERTY => true,
            Self::Connect => [
                SESSION_EXPIRY_INTERVAL,
                AUTHENTICATION_METHOD,
                AUTHENTICATION_DATA,
                REQUEST_PROBLEM_INFORMATION,
                REQUEST_RESPONSE_INFORMATION,
                RECEIVE_MAXIMUM,
                TOPIC_ALIAS_MAXIMUM,
                MAXIMUM_PACKET_SIZE,
            ]
            .contains(&id),
            Self::Will => id == WILL_DELAY_INTERVAL || message.contains(&id),
            Self::Publish => id == TOPIC_ALIAS || message.contains(&id),
            Self::PubAck | Self::PubRec | Self::PubRel | Self::PubComp => id == REASON_STRING,
            Self::Subscribe => id == SUBSCRIPTION_IDENTIFIER,
            Self::Unsubscribe => false,
            Self::Disconnect => [SESSION_EXPIRY_INTERVAL, REASON_STRING].contains(&id),
            Self::Auth => [AUTHENTICATION_METHOD, AUTHENTICATION_DATA, REASON_STRING].contains(&id),
        }
    }

    /// A whole packet with this property list here, its length told truly.
    pub(crate) fn packet(self, list: &[u8]) -> Vec<u8> {
        self.packet_raw(&[variable(list.len()).as_slice(), list].concat())
    }

    /// A whole packet with these bytes where the property length and the list belong.
    pub(crate) fn packet_raw(self, length_and_list: &[u8]) -> Vec<u8> {
        let id = 7_u16.to_be_bytes();
        let ack = |first| packet(first, &[&id[..], &[0], length_and_list].concat());
        match self {
            Self::Connect => {
                let head = [string("MQTT"), vec![5, 2, 0, 60]].concat();
                packet(0x10, &[head, length_and_list.to_vec(), string("bad-place")].concat())
            }
            Self::Will => {
                let head = [string("MQTT"), vec![5, 6, 0, 60, 0], string("bad-place")].concat();
                packet(0x10, &[head, length_and_list.to_vec(), string("bad/will"), string("w")].concat())
            }
            Self::Publish => packet(0x30, &[string("bad/place").as_slice(), length_and_list, b"payload"].concat()),
            Self::PubAck => ack(0x40),
            Self::PubRec => ack(0x50),
            Self::PubRel => ack(0x62),
            Self::PubComp => ack(0x70),
            Self::Subscribe => packet(0x82, &[&id[..], length_and_list, string("bad/place").as_slice(), &[0]].concat()),
            Self::Unsubscribe => packet(0xA2, &[&id[..], length_and_list, string("bad/place").as_slice()].concat()),
            Self::Disconnect => packet(0xE0, &[&[0], length_and_list].concat()),
            Self::Auth => packet(0xF0, &[&[0x18], length_and_list].concat()),
        }
    }
}

/// A packet from the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) first: u8,
    pub(crate) body: Vec<u8>,
}

/// A property as received: its identifier and the bytes of its value without a length in front.
pub(crate) type Properties = Vec<(u8, Vec<u8>)>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConnAck {
    pub(crate) session_present: bool,
    pub(crate) code: u8,
    pub(crate) properties: Properties,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Delivery {
    pub(crate) dup: bool,
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    pub(crate) topic: Vec<u8>,
    pub(crate) packet_id: u16,
    pub(crate) properties: Properties,
    pub(crate) payload: Vec<u8>,
}

impl Received {
    /// Takes one packet off the front of `bytes`, if it is all there; says how many bytes that was.
    pub(crate) fn take(bytes: &[u8]) -> Option<(Self, usize)> {
        let first = *bytes.first()?;
        let (length, length_bytes) = take_variable(&bytes[1..])?;
        let head = 1 + length_bytes;
        let body = bytes.get(head..head + length)?.to_vec();
        Some((Self { first, body }, head + length))
    }

    pub(crate) fn kind(&self) -> u8 {
        self.first >> 4
    }

    pub(crate) fn connack(&self, version: Version) -> ConnAck {
        assert_eq!(self.kind(), kind::CONNACK, "expected a CONNACK, got {self:02x?}");
        let (flags, rest) = self.body.split_first().expect("a CONNACK has flags");
        assert!(*flags <= 1, "reserved CONNACK flags in {self:02x?}");
        let (code, rest) = rest.split_first().expect("a CONNACK has a code");
        if !version.is_v5() {
            assert!(rest.is_empty(), "CONNACK too long for MQTT 3.1.1: {self:02x?}");
        }
        ConnAck { session_present: *flags == 1, code: *code, properties: take_properties(version, rest).0 }
    }

    pub(crate) fn delivery(&self, version: Version) -> Delivery {
        assert_eq!(self.kind(), kind::PUBLISH, "expected a PUBLISH, got {self:02x?}");
        let qos = self.first >> 1 & 3;
        let (topic, mut rest) = take_string(&self.body);
        let mut packet_id = 0;
        if qos > 0 {
            packet_id = u16::from_be_bytes([rest[0], rest[1]]);
            rest = &rest[2..];
        }
        let (properties, payload) = take_properties(version, rest);
        Delivery {
            dup: self.first & 8 != 0,
            qos,
            retain: self.first & 1 != 0,
            topic,
            packet_id,
            properties,
            payload: payload.to_vec(),
        }
    }

    /// The Packet Identifier of an acknowledgement, SUBACK and UNSUBACK included; 0 where there is none.
    pub(crate) fn packet_id(&self) -> u16 {
        self.body.first_chunk().map_or(0, |bytes| u16::from_be_bytes(*bytes))
    }

    /// The Reason Code of PUBACK, PUBREC, PUBREL, PUBCOMP, DISCONNECT or AUTH; a missing one is success.
    pub(crate) fn reason(&self) -> u8 {
        let at = if matches!(self.kind(), kind::DISCONNECT | kind::AUTH) { 0 } else { 2 };
        self.body.get(at).copied().unwrap_or(0)
    }

    /// The properties of PUBACK, PUBREC, PUBREL, PUBCOMP, DISCONNECT or AUTH.
    pub(crate) fn properties(&self) -> Properties {
        let at = if matches!(self.kind(), kind::DISCONNECT | kind::AUTH) { 1 } else { 3 };
        self.body
            .get(at..)
            .filter(|rest| !rest.is_empty())
            .map_or_else(Vec::new, |rest| take_properties(Version::V5, rest).0)
    }

    /// The Authentication Data of an AUTH packet.
    pub(crate) fn authentication_data(&self) -> Vec<u8> {
        assert_eq!(self.kind(), kind::AUTH, "expected an AUTH, got {self:02x?}");
        value_of(&self.properties(), property::AUTHENTICATION_DATA).expect("it has data").to_vec()
    }

    /// The codes of a SUBACK or UNSUBACK; an MQTT 3.1.1 UNSUBACK has none.
    pub(crate) fn codes(&self, version: Version) -> Vec<u8> {
        take_properties(version, self.body.get(2..).unwrap_or_default()).1.to_vec()
    }
}

impl Delivery {
    pub(crate) fn property(&self, id: u8) -> Option<&[u8]> {
        value_of(&self.properties, id)
    }
}

impl ConnAck {
    pub(crate) fn property(&self, id: u8) -> Option<&[u8]> {
        value_of(&self.properties, id)
    }
}

fn value_of(list: &Properties, id: u8) -> Option<&[u8]> {
    list.iter().find(|(found, _)| *found == id).map(|(_, value)| value.as_slice())
}

fn take_variable(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut value = 0;
    for (index, byte) in bytes.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7F) << (7 * index);
        if *byte < 0x80 {
            return Some((value, index + 1));
        }
    }
    assert!(bytes.len() < 4, "the broker wrote a length of more than four bytes");
    None
}

fn take_string(bytes: &[u8]) -> (Vec<u8>, &[u8]) {
    let length = usize::from(u16::from_be_bytes([bytes[0], bytes[1]]));
    (bytes[2..2 + length].to_vec(), &bytes[2 + length..])
}

/// Reads a property list where the version has one; gives what follows it.
fn take_properties(version: Version, bytes: &[u8]) -> (Properties, &[u8]) {
    use property::*;
    if !version.is_v5() {
        return (Vec::new(), bytes);
    }
    let (length, length_bytes) =
        take_variable(bytes).expect("a property length in every MQTT 5 packet that has room for it");
    let (mut list, rest) = bytes[length_bytes..].split_at(length);
    let mut found = Vec::new();
    while let Some((&id, tail)) = list.split_first() {
        let (value, tail) = match id {
            PAYLOAD_FORMAT_INDICATOR
            | REQUEST_PROBLEM_INFORMATION
            | REQUEST_RESPONSE_INFORMATION
            | MAXIMUM_QOS
            | RETAIN_AVAILABLE
            | WILDCARD_SUBSCRIPTION_AVAILABLE
            | SUBSCRIPTION_IDENTIFIER_AVAILABLE
            | SHARED_SUBSCRIPTION_AVAILABLE => (tail[..1].to_vec(), &tail[1..]),
            SERVER_KEEP_ALIVE | RECEIVE_MAXIMUM | TOPIC_ALIAS_MAXIMUM | TOPIC_ALIAS => (tail[..2].to_vec(), &tail[2..]),
            MESSAGE_EXPIRY_INTERVAL | SESSION_EXPIRY_INTERVAL | WILL_DELAY_INTERVAL | MAXIMUM_PACKET_SIZE => {
                (tail[..4].to_vec(), &tail[4..])
            }
            SUBSCRIPTION_IDENTIFIER => {
                let (value, size) = take_variable(tail).expect("a whole Subscription Identifier");
                ((value as u32).to_be_bytes().to_vec(), &tail[size..])
            }
            USER_PROPERTY => {
                let (key, tail) = take_string(tail);
                let (value, tail) = take_string(tail);
                ([key, value].join(&b'='), tail)
            }
            CONTENT_TYPE
            | RESPONSE_TOPIC
            | CORRELATION_DATA
            | ASSIGNED_CLIENT_IDENTIFIER
            | AUTHENTICATION_METHOD
            | AUTHENTICATION_DATA
            | RESPONSE_INFORMATION
            | SERVER_REFERENCE
            | REASON_STRING => take_string(tail),
            unknown => panic!("the broker wrote an unknown property {unknown} in {bytes:02x?}"),
        };
        found.push((id, value));
        list = tail;
    }
    (found, rest)
}
