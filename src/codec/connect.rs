//! CONNECT and CONNACK: how a Client introduces itself and what the Server answers.
//! Whether the Client may enter is not looked at, and an empty Client Identifier is left to whoever assigns one.
//! Read `properties.rs` for the section both have in MQTT 5.0.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::arithmetic_side_effects)]

use std::fmt;
use std::num::{NonZeroU16, NonZeroU32};

use super::header::{PacketType, Sender};
use super::primitive::{
    Qos, Reader, Version, malformed, protocol_error, violation, write_binary, write_packet, write_string,
    write_with_length,
};
use super::properties::{Place, Properties, Property, PropertyId, UserProperties, read_section};
use super::{Limits, ReasonCode, Violation, text};

const RESERVED_FLAG: u8 = 0x01;
const CLEAN_START_FLAG: u8 = 0x02;
const WILL_FLAG: u8 = 0x04;
const WILL_QOS_FLAGS: u8 = 0x18;
const WILL_RETAIN_FLAG: u8 = 0x20;
const PASSWORD_FLAG: u8 = 0x40;
const USER_NAME_FLAG: u8 = 0x80;
/// Set in the protocol level by bridges of MQTT 3.1 and 3.1.1.
const BRIDGE_BIT: u8 = 0x80;

/// What the first fields of a CONNECT say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protocol {
    pub version: Version,
    /// The peer is a bridge of MQTT 3.1 or 3.1.1, which sets the highest bit of the protocol level.
    pub bridge: bool,
}

/// Why the first fields of a CONNECT cannot be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownProtocol {
    /// Not a name of MQTT: close [MQTT-3.1.2-1] [MQTT-3.1.1: 3.1.2-1].
    Name,
    /// A name of MQTT with another level: CONNACK 0x84 or return code 1, then close [MQTT-3.1.2-2]
    /// [MQTT-3.1.1: 3.1.2-2].
    Level,
}

/// Looks at protocol name and level only, at the start of a CONNECT's `body` or of as much of it as is there.
///
/// `Ok(None)` means that more bytes are needed. The bridge bit is refused unless `bridge_bit` allows it.
pub fn protocol(body: &[u8], bridge_bit: bool) -> Result<Option<Protocol>, UnknownProtocol> {
    const NAME: &[u8] = b"\0\x04MQTT";
    const NAME_OF_V3_1: &[u8] = b"\0\x06MQIsdp";
    let named = [NAME, NAME_OF_V3_1].into_iter().find(|name| body.starts_with(name));
    let Some(name) = named else {
        let may_become_one = NAME.starts_with(body) || NAME_OF_V3_1.starts_with(body);
        return if may_become_one { Ok(None) } else { Err(UnknownProtocol::Name) };
    };
    let Some(&level) = body.get(name.len()) else {
        return Ok(None);
    };
    let bridge = bridge_bit && level & BRIDGE_BIT != 0;
    let version = match (name == NAME, if bridge { level & !BRIDGE_BIT } else { level }) {
        (true, 5) if !bridge => Version::V5,
        (true, 4) => Version::V3_1_1,
        (false, 3) => Version::V3_1,
        _ => return Err(UnknownProtocol::Level),
    };
    Ok(Some(Protocol { version, bridge }))
}

/// A CONNECT. Values that the packet does not have are the standard's defaults.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Connect<'a> {
    pub version: Version,
    pub bridge: bool,
    pub clean_start: bool,
    /// 0: no Keep Alive.
    pub keep_alive_s: u16,
    /// May be empty, in every version: whether that is served is the Session's business.
    pub client_id: &'a str,
    pub user_name: Option<&'a str>,
    pub password: Option<&'a [u8]>,
    pub will: Option<Will<'a>>,
    /// 0 when absent; `u32::MAX` means that the Session does not expire.
    pub session_expiry_interval_s: u32,
    /// 65,535 when absent; never 0.
    pub receive_maximum: u16,
    /// `u32::MAX` when absent; never 0.
    pub packet_size_max: u32,
    /// 0 when absent.
    pub topic_alias_maximum: u16,
    /// `false` when absent.
    pub request_response_information: bool,
    /// `true` when absent.
    pub request_problem_information: bool,
    pub authentication_method: Option<&'a str>,
    pub authentication_data: Option<&'a [u8]>,
    pub user_properties: UserProperties<'a>,
}

/// The Will Message of a CONNECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Will<'a> {
    pub topic: &'a str,
    pub payload: &'a [u8],
    pub qos: Qos,
    pub retain: bool,
    /// 0 when absent.
    pub delay_interval_s: u32,
    /// All Will Properties as they came; a Message made of the Will goes without the Will Delay Interval.
    pub properties: Properties<'a>,
}

impl<'a> Connect<'a> {
    /// A CONNECT of this version without options: no Will, no credentials, no properties, Keep Alive 0.
    pub fn new(version: Version, client_id: &'a str) -> Self {
        Self {
            version,
            bridge: false,
            clean_start: true,
            keep_alive_s: 0,
            client_id,
            user_name: None,
            password: None,
            will: None,
            session_expiry_interval_s: 0,
            receive_maximum: u16::MAX,
            packet_size_max: u32::MAX,
            topic_alias_maximum: 0,
            request_response_information: false,
            request_problem_information: true,
            authentication_method: None,
            authentication_data: None,
            user_properties: UserProperties::default(),
        }
    }

    pub(super) fn decode(body: &'a [u8], limits: &Limits) -> Result<Self, Violation> {
        let Protocol { version, bridge } = match protocol(body, true) {
            Ok(Some(protocol)) => protocol,
            Ok(None) => return Err(malformed("a CONNECT that ends within its protocol name")),
            Err(UnknownProtocol::Name) => {
                return Err(violation(ReasonCode::UnsupportedProtocolVersion, "an unknown protocol name"));
            }
            Err(UnknownProtocol::Level) => {
                return Err(violation(ReasonCode::UnsupportedProtocolVersion, "an unknown protocol level"));
            }
        };
        let mut reader = Reader::new(body);
        reader.binary()?; // the protocol name
        reader.u8()?; // its level
        let flags = reader.u8()?;
        check_flags(flags, version)?;
        let mut connect = Self::new(version, "");
        connect.bridge = bridge;
        connect.clean_start = flags & CLEAN_START_FLAG != 0;
        connect.keep_alive_s = reader.u16()?;
        if version.is_v5() {
            connect.read_properties(&mut reader, limits)?;
        }
        // The payload has its fields in this order [MQTT-3.1.3-1], the Client Identifier always [MQTT-3.1.3-3].
        connect.client_id = text::decode_client_id(reader.binary()?, limits.characters)?; // [MQTT-3.1.3-4]
        if flags & WILL_FLAG != 0 {
            connect.will = Some(Will::decode(&mut reader, flags, version, limits)?); // [MQTT-3.1.2-9]
        }
        // MQTT 3.1 lets credentials be missing that its flags announce, if nothing follows at all.
        let may_be_missing = version == Version::V3_1;
        if flags & USER_NAME_FLAG != 0 && !(may_be_missing && reader.is_empty()) {
            connect.user_name = Some(reader.string()?); // [MQTT-3.1.2-17] [MQTT-3.1.3-12]
        }
        if flags & PASSWORD_FLAG != 0 && !(may_be_missing && reader.is_empty()) {
            connect.password = Some(reader.binary()?); // [MQTT-3.1.2-19]
        }
        reader.finish()?; // [MQTT-3.1.2-16] [MQTT-3.1.2-18]
        Ok(connect)
    }

    fn read_properties(&mut self, reader: &mut Reader<'a>, limits: &Limits) -> Result<(), Violation> {
        let section = read_section(reader, Place::Connect, limits, |property| {
            match property {
                Property::SessionExpiryInterval(value) => self.session_expiry_interval_s = value,
                Property::ReceiveMaximum(value) => self.receive_maximum = value.get(),
                Property::MaximumPacketSize(value) => self.packet_size_max = value.get(),
                Property::TopicAliasMaximum(value) => self.topic_alias_maximum = value,
                Property::RequestResponseInformation(value) => self.request_response_information = value,
                Property::RequestProblemInformation(value) => self.request_problem_information = value,
                Property::AuthenticationMethod(value) => self.authentication_method = Some(value),
                Property::AuthenticationData(value) => self.authentication_data = Some(value),
                _ => {}
            }
            Ok(())
        })?;
        self.user_properties = section.user_properties();
        if self.authentication_data.is_some() && self.authentication_method.is_none() {
            return Err(protocol_error("Authentication Data without an Authentication Method"));
        }
        Ok(())
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        write_packet(PacketType::Connect.first_byte(), out, |out| {
            let name = if self.version == Version::V3_1 { "MQIsdp" } else { "MQTT" };
            write_string(name, out);
            let level = self.version as u8;
            out.push(if self.bridge { level | BRIDGE_BIT } else { level });
            out.push(self.flags());
            out.extend_from_slice(&self.keep_alive_s.to_be_bytes());
            if self.version.is_v5() {
                write_with_length(out, |out| self.encode_properties(out));
            }
            write_string(self.client_id, out);
            if let Some(will) = &self.will {
                will.encode(self.version, out);
            }
            if let Some(user_name) = self.user_name {
                write_string(user_name, out);
            }
            if let Some(password) = self.password {
                write_binary(password, out);
            }
        });
    }

    fn flags(&self) -> u8 {
        let mut flags = if self.clean_start { CLEAN_START_FLAG } else { 0 };
        if let Some(will) = &self.will {
            flags |= WILL_FLAG | will.qos.value() << 3;
            flags |= if will.retain { WILL_RETAIN_FLAG } else { 0 };
        }
        flags |= if self.password.is_some() { PASSWORD_FLAG } else { 0 };
        flags |= if self.user_name.is_some() { USER_NAME_FLAG } else { 0 };
        flags
    }

    /// What differs from the defaults.
    fn encode_properties(&self, out: &mut Vec<u8>) {
        if self.session_expiry_interval_s != 0 {
            Property::SessionExpiryInterval(self.session_expiry_interval_s).encode(out);
        }
        if let Some(value) = NonZeroU16::new(self.receive_maximum)
            && value != NonZeroU16::MAX
        {
            Property::ReceiveMaximum(value).encode(out);
        }
        if let Some(value) = NonZeroU32::new(self.packet_size_max)
            && value != NonZeroU32::MAX
        {
            Property::MaximumPacketSize(value).encode(out);
        }
        if self.topic_alias_maximum != 0 {
            Property::TopicAliasMaximum(self.topic_alias_maximum).encode(out);
        }
        if self.request_response_information {
            Property::RequestResponseInformation(true).encode(out);
        }
        if !self.request_problem_information {
            Property::RequestProblemInformation(false).encode(out);
        }
        if let Some(method) = self.authentication_method {
            Property::AuthenticationMethod(method).encode(out);
        }
        if let Some(data) = self.authentication_data {
            Property::AuthenticationData(data).encode(out);
        }
        self.user_properties.encode(out);
    }
}

/// Shows everything but the password.
impl fmt::Debug for Connect<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Connect")
            .field("version", &self.version)
            .field("bridge", &self.bridge)
            .field("clean_start", &self.clean_start)
            .field("keep_alive_s", &self.keep_alive_s)
            .field("client_id", &self.client_id)
            .field("user_name", &self.user_name)
            .field("password", &self.password.map(|_| "not shown"))
            .field("will", &self.will)
            .field("session_expiry_interval_s", &self.session_expiry_interval_s)
            .field("receive_maximum", &self.receive_maximum)
            .field("packet_size_max", &self.packet_size_max)
            .field("topic_alias_maximum", &self.topic_alias_maximum)
            .field("request_response_information", &self.request_response_information)
            .field("request_problem_information", &self.request_problem_information)
            .field("authentication_method", &self.authentication_method)
            .field("authentication_data", &self.authentication_data.map(|_| "not shown"))
            .field("user_properties", &self.user_properties)
            .finish()
    }
}

fn check_flags(flags: u8, version: Version) -> Result<(), Violation> {
    if flags & RESERVED_FLAG != 0 {
        return Err(malformed("the reserved flag of CONNECT is set")); // [MQTT-3.1.2-3] [MQTT-3.1.1: 3.1.2-3]
    }
    if flags & WILL_QOS_FLAGS == WILL_QOS_FLAGS {
        return Err(malformed("a Will of QoS 3")); // [MQTT-3.1.2-12] [MQTT-3.1.1: 3.1.2-14]
    }
    if flags & WILL_FLAG == 0 && flags & (WILL_QOS_FLAGS | WILL_RETAIN_FLAG) != 0 {
        // [MQTT-3.1.2-11] [MQTT-3.1.2-13] [MQTT-3.1.1: 3.1.2-11]
        return Err(malformed("flags of a Will without a Will"));
    }
    if !version.is_v5() && flags & (USER_NAME_FLAG | PASSWORD_FLAG) == PASSWORD_FLAG {
        return Err(malformed("a password without a user name")); // [MQTT-3.1.1: 3.1.2-22]
    }
    Ok(())
}

impl<'a> Will<'a> {
    fn decode(reader: &mut Reader<'a>, flags: u8, version: Version, limits: &Limits) -> Result<Self, Violation> {
        let mut delay_interval_s = 0;
        let properties = if version.is_v5() {
            read_section(reader, Place::Will, limits, |property| {
                if let Property::WillDelayInterval(value) = property {
                    delay_interval_s = value;
                }
                Ok(())
            })?
        } else {
            Properties::default()
        };
        let topic = text::decode_topic_name(reader.binary()?, limits.characters)?; // [MQTT-3.1.3-11]
        if topic.is_empty() {
            return Err(violation(ReasonCode::TopicNameInvalid, "an empty Will Topic")); // [MQTT-4.7.3-1]
        }
        let payload = reader.binary()?;
        let qos = Qos::from_value((flags & WILL_QOS_FLAGS) >> 3).unwrap_or_default();
        let retain = flags & WILL_RETAIN_FLAG != 0;
        Ok(Self { topic, payload, qos, retain, delay_interval_s, properties })
    }

    fn encode(&self, version: Version, out: &mut Vec<u8>) {
        if version.is_v5() {
            write_with_length(out, |out| self.encode_properties(out));
        }
        write_string(self.topic, out);
        write_binary(self.payload, out);
    }

    /// The Will Properties in their order, with the delay that the field says.
    fn encode_properties(&self, out: &mut Vec<u8>) {
        let mut delay_is_due = self.delay_interval_s != 0;
        for (id, bytes) in self.properties.parts() {
            if id == PropertyId::WillDelayInterval {
                Property::WillDelayInterval(self.delay_interval_s).encode(out);
                delay_is_due = false;
            } else {
                out.extend_from_slice(bytes);
            }
        }
        if delay_is_due {
            Property::WillDelayInterval(self.delay_interval_s).encode(out);
        }
    }
}

/// A CONNACK. Older versions have `session_present` and a return code, see [`ReasonCode::return_code`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnAck<'a> {
    pub session_present: bool,
    pub reason: ReasonCode,
    pub properties: ConnAckProperties<'a>,
}

/// The properties of a CONNACK; `None` is absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnAckProperties<'a> {
    pub session_expiry_interval_s: Option<u32>,
    /// 0 cannot be said and is left out.
    pub receive_maximum: Option<u16>,
    /// `ExactlyOnce` is said by leaving the property out.
    pub maximum_qos: Option<Qos>,
    pub retain_available: Option<bool>,
    /// 0 cannot be said and is left out.
    pub packet_size_max: Option<u32>,
    pub assigned_client_id: Option<&'a str>,
    pub topic_alias_maximum: Option<u16>,
    pub reason_string: Option<&'a str>,
    pub user_properties: UserProperties<'a>,
    pub wildcard_subscription_available: Option<bool>,
    pub subscription_identifiers_available: Option<bool>,
    pub shared_subscription_available: Option<bool>,
    pub server_keep_alive_s: Option<u16>,
    pub response_information: Option<&'a str>,
    pub server_reference: Option<&'a str>,
    pub authentication_method: Option<&'a str>,
    pub authentication_data: Option<&'a [u8]>,
}

impl<'a> ConnAck<'a> {
    pub(super) fn decode(body: &'a [u8], version: Version, limits: &Limits) -> Result<Self, Violation> {
        let mut reader = Reader::new(body);
        let flags = reader.u8()?;
        let code = reader.u8()?;
        // MQTT 3.1 has a reserved byte here, which nobody looks at.
        let session_present = version != Version::V3_1 && flags & 1 != 0;
        if flags & 0xfe != 0 && version != Version::V3_1 {
            return Err(malformed("reserved flags of CONNACK are set")); // [MQTT-3.2.2-1]
        }
        let reason = if version.is_v5() {
            ReasonCode::decode(code, PacketType::ConnAck, Sender::Server)?
        } else {
            ReasonCode::from_return_code(code)
                .ok_or_else(|| malformed("a return code of CONNACK that is not defined"))?
        };
        if session_present && reason != ReasonCode::Success {
            // [MQTT-3.2.2-6] [MQTT-3.1.1: 3.2.2-4]
            return Err(protocol_error("a Session that is present in a CONNACK that refuses"));
        }
        let properties = if version.is_v5() {
            ConnAckProperties::decode(&mut reader, limits)?
        } else {
            ConnAckProperties::default()
        };
        reader.finish()?;
        Ok(Self { session_present, reason, properties })
    }

    pub(super) fn encode(&self, version: Version, out: &mut Vec<u8>) {
        let code = if version.is_v5() {
            self.reason.value()
        } else {
            match self.reason.return_code() {
                Some(code) => code,
                None => return, // [MQTT-3.1.1: 3.2.2-6]
            }
        };
        write_packet(PacketType::ConnAck.first_byte(), out, |out| {
            let session_present = self.session_present && version != Version::V3_1;
            out.extend_from_slice(&[u8::from(session_present), code]);
            if version.is_v5() {
                write_with_length(out, |out| self.properties.encode(out));
            }
        });
    }
}

impl<'a> ConnAckProperties<'a> {
    fn decode(reader: &mut Reader<'a>, limits: &Limits) -> Result<Self, Violation> {
        let mut all = Self::default();
        let section = read_section(reader, Place::ConnAck, limits, |property| {
            match property {
                Property::SessionExpiryInterval(value) => all.session_expiry_interval_s = Some(value),
                Property::ReceiveMaximum(value) => all.receive_maximum = Some(value.get()),
                Property::MaximumQos(value) => all.maximum_qos = Some(value),
                Property::RetainAvailable(value) => all.retain_available = Some(value),
                Property::MaximumPacketSize(value) => all.packet_size_max = Some(value.get()),
                Property::AssignedClientIdentifier(value) => all.assigned_client_id = Some(value),
                Property::TopicAliasMaximum(value) => all.topic_alias_maximum = Some(value),
                Property::ReasonString(value) => all.reason_string = Some(value),
                Property::WildcardSubscriptionAvailable(value) => {
                    all.wildcard_subscription_available = Some(value);
                }
                Property::SubscriptionIdentifierAvailable(value) => {
                    all.subscription_identifiers_available = Some(value);
                }
                Property::SharedSubscriptionAvailable(value) => {
                    all.shared_subscription_available = Some(value);
                }
                Property::ServerKeepAlive(value) => all.server_keep_alive_s = Some(value),
                Property::ResponseInformation(value) => all.response_information = Some(value),
                Property::ServerReference(value) => all.server_reference = Some(value),
                Property::AuthenticationMethod(value) => all.authentication_method = Some(value),
                Property::AuthenticationData(value) => all.authentication_data = Some(value),
                _ => {}
            }
            Ok(())
        })?;
        all.user_properties = section.user_properties();
        Ok(all)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        let listed = [
            self.session_expiry_interval_s.map(Property::SessionExpiryInterval),
            self.receive_maximum.and_then(NonZeroU16::new).map(Property::ReceiveMaximum),
            self.maximum_qos.filter(|&qos| qos != Qos::ExactlyOnce).map(Property::MaximumQos),
            self.retain_available.map(Property::RetainAvailable),
            self.packet_size_max.and_then(NonZeroU32::new).map(Property::MaximumPacketSize),
            self.assigned_client_id.map(Property::AssignedClientIdentifier),
            self.topic_alias_maximum.map(Property::TopicAliasMaximum),
            self.reason_string.map(Property::ReasonString),
            self.wildcard_subscription_available.map(Property::WildcardSubscriptionAvailable),
            self.subscription_identifiers_available.map(Property::SubscriptionIdentifierAvailable),
            self.shared_subscription_available.map(Property::SharedSubscriptionAvailable),
            self.server_keep_alive_s.map(Property::ServerKeepAlive),
            self.response_information.map(Property::ResponseInformation),
            self.server_reference.map(Property::ServerReference),
            self.authentication_method.map(Property::AuthenticationMethod),
            self.authentication_data.map(Property::AuthenticationData),
        ];
        for property in listed.into_iter().flatten() {
            property.encode(out);
        }
        self.user_properties.encode(out);
    }
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "a test may panic")]
mod tests {
    use super::{Connect, Protocol, UnknownProtocol, Version, protocol};

    fn known(version: Version, bridge: bool) -> Result<Option<Protocol>, UnknownProtocol> {
        Ok(Some(Protocol { version, bridge }))
    }

    #[test]
    fn b02_names_and_levels() {
        for level in 0..=255 {
            let bytes = [b"\0\x04MQTT".as_slice(), &[level]].concat();
            let expected = match level {
                4 => known(Version::V3_1_1, false),
                5 => known(Version::V5, false),
                _ => Err(UnknownProtocol::Level),
            };
            assert_eq!(protocol(&bytes, false), expected, "{level}");
            let with_bridges = if level == 0x84 { known(Version::V3_1_1, true) } else { expected };
            assert_eq!(protocol(&bytes, true), with_bridges, "{level}");

            let bytes = [b"\0\x06MQIsdp".as_slice(), &[level]].concat();
            let expected = if level == 3 { known(Version::V3_1, false) } else { Err(UnknownProtocol::Level) };
            assert_eq!(protocol(&bytes, false), expected, "{level}");
            let with_bridges = if level == 0x83 { known(Version::V3_1, true) } else { expected };
            assert_eq!(protocol(&bytes, true), with_bridges, "{level}");
        }
        for name in [&b"\0\x04mqtt"[..], b"\0\x05MQTT\0", b"\xea\x60", b"\0\0", b"\0\x06MQTTxx", b"GET / HTTP"] {
            assert_eq!(protocol(name, true), Err(UnknownProtocol::Name), "{name:02x?}");
        }
    }

    #[test]
    fn a_protocol_waits_for_its_last_byte_only() {
        for bytes in [&b"\0\x04MQTT\x05"[..], b"\0\x06MQIsdp\x03"] {
            for end in 0..bytes.len() {
                assert_eq!(protocol(&bytes[..end], false), Ok(None));
            }
            assert!(protocol(bytes, false).is_ok_and(|protocol| protocol.is_some()));
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let mut connect = Connect::new(Version::V5, "c");
        connect.password = Some(b"hunter2");
        connect.authentication_data = Some(b"hunter2");
        let shown = format!("{connect:?}");
        let numbers = format!("{:?}", b"hunter2");
        assert!(!shown.contains("hunter2") && !shown.contains(&numbers), "{shown}");
    }
}
