//! The properties of MQTT 5.0: one table says what each is, where it may stand and how often; one loop reads them all.
//! A section that was read stays as the bytes it came in: nothing is collected, an iterator reads it again.
//! Read `publish.rs` for a user of it.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::arithmetic_side_effects)]

use std::fmt;
use std::num::{NonZeroU16, NonZeroU32};

use super::primitive::{
    Qos, Reader, malformed, protocol_error, violation, write_binary, write_string, write_variable_byte_integer,
};
use super::{Limits, ReasonCode, Violation, text};

/// Where a property section stands: in a packet of this type, or before the Will Topic in a CONNECT.
///
/// PUBLISH and DISCONNECT differ by the side that sends them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Place {
    Connect,
    Will,
    ConnAck,
    PublishByClient,
    PublishByServer,
    PubAck,
    PubRec,
    PubRel,
    PubComp,
    Subscribe,
    SubAck,
    Unsubscribe,
    UnsubAck,
    DisconnectByClient,
    DisconnectByServer,
    Auth,
}

impl Place {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::Connect,
        Self::Will,
        Self::ConnAck,
        Self::PublishByClient,
        Self::PublishByServer,
        Self::PubAck,
        Self::PubRec,
        Self::PubRel,
        Self::PubComp,
        Self::Subscribe,
        Self::SubAck,
        Self::Unsubscribe,
        Self::UnsubAck,
        Self::DisconnectByClient,
        Self::DisconnectByServer,
        Self::Auth,
    ];

    const fn bit(self) -> u16 {
        1 << self as u8
    }
}

/// What follows the identifier of a property.
#[derive(Clone, Copy)]
enum Form {
    Boolean,
    U16,
    U16NotZero,
    TopicAlias,
    U32,
    U32NotZero,
    Qos,
    VariableNotZero,
    Text,
    ResponseTopic,
    Binary,
    Pair,
}

/// Each property: its name, its identifier, the form of its value, and where it may stand.
macro_rules! properties {
    ($($name:ident = $id:literal $form:ident [$($place:ident)*],)*) => {
        /// The identifier of a property.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum PropertyId {
            $($name = $id,)*
        }

        impl PropertyId {
            /// All of them, in ascending order.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The identifier with this number, or `None` if MQTT 5.0 defines none.
            #[inline]
            pub const fn from_value(value: u8) -> Option<Self> {
                match value {
                    $($id => Some(Self::$name),)*
                    _ => None,
                }
            }

            #[inline]
            const fn form(self) -> Form {
                match self {
                    $(Self::$name => Form::$form,)*
                }
            }

            const fn places(self) -> u16 {
                match self {
                    $(Self::$name => 0 $(| Place::$place.bit())*,)*
                }
            }
        }
    };
}

properties! {
    PayloadFormatIndicator = 0x01 Boolean [PublishByClient PublishByServer Will],
    MessageExpiryInterval = 0x02 U32 [PublishByClient PublishByServer Will],
    ContentType = 0x03 Text [PublishByClient PublishByServer Will], // [MQTT-3.3.2-19]
    ResponseTopic = 0x08 ResponseTopic [PublishByClient PublishByServer Will],
    CorrelationData = 0x09 Binary [PublishByClient PublishByServer Will],
    // A Client never sends it with a PUBLISH [MQTT-3.3.4-6]; read_section says 0x82 then, not 0x81.
    SubscriptionIdentifier = 0x0b VariableNotZero [PublishByServer Subscribe],
    SessionExpiryInterval = 0x11 U32 [Connect ConnAck DisconnectByClient], // [MQTT-3.14.2-2]
    AssignedClientIdentifier = 0x12 Text [ConnAck],
    ServerKeepAlive = 0x13 U16 [ConnAck],
    AuthenticationMethod = 0x15 Text [Connect ConnAck Auth],
    AuthenticationData = 0x16 Binary [Connect ConnAck Auth],
    RequestProblemInformation = 0x17 Boolean [Connect],
    WillDelayInterval = 0x18 U32 [Will],
    RequestResponseInformation = 0x19 Boolean [Connect],
    ResponseInformation = 0x1a Text [ConnAck],
    ServerReference = 0x1c Text [ConnAck DisconnectByClient DisconnectByServer],
    ReasonString = 0x1f Text [
        ConnAck PubAck PubRec PubRel PubComp SubAck UnsubAck DisconnectByClient DisconnectByServer Auth
    ],
    ReceiveMaximum = 0x21 U16NotZero [Connect ConnAck],
    TopicAliasMaximum = 0x22 U16 [Connect ConnAck],
    TopicAlias = 0x23 TopicAlias [PublishByClient PublishByServer],
    MaximumQos = 0x24 Qos [ConnAck],
    RetainAvailable = 0x25 Boolean [ConnAck],
    UserProperty = 0x26 Pair [
        Connect Will ConnAck PublishByClient PublishByServer PubAck PubRec PubRel PubComp Subscribe
        SubAck Unsubscribe UnsubAck DisconnectByClient DisconnectByServer Auth
    ],
    MaximumPacketSize = 0x27 U32NotZero [Connect ConnAck],
    WildcardSubscriptionAvailable = 0x28 Boolean [ConnAck],
    SubscriptionIdentifierAvailable = 0x29 Boolean [ConnAck],
    SharedSubscriptionAvailable = 0x2a Boolean [ConnAck],
}

impl PropertyId {
    /// The number on the wire.
    #[inline]
    pub const fn value(self) -> u8 {
        self as u8
    }

    /// Whether the property may stand there.
    #[inline]
    pub const fn is_allowed(self, place: Place) -> bool {
        self.places() & place.bit() != 0
    }

    /// Whether the property may stand there more than once.
    #[inline]
    pub const fn is_repeatable(self, place: Place) -> bool {
        match self {
            Self::UserProperty => true,
            Self::SubscriptionIdentifier => matches!(place, Place::PublishByServer),
            _ => false,
        }
    }
}

/// One property with its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Property<'a> {
    PayloadFormatIndicator(bool),
    MessageExpiryInterval(u32),
    ContentType(&'a str),
    ResponseTopic(&'a str),
    CorrelationData(&'a [u8]),
    /// 1 to 268,435,455.
    SubscriptionIdentifier(u32),
    SessionExpiryInterval(u32),
    AssignedClientIdentifier(&'a str),
    ServerKeepAlive(u16),
    AuthenticationMethod(&'a str),
    AuthenticationData(&'a [u8]),
    RequestProblemInformation(bool),
    WillDelayInterval(u32),
    RequestResponseInformation(bool),
    ResponseInformation(&'a str),
    ServerReference(&'a str),
    ReasonString(&'a str),
    ReceiveMaximum(NonZeroU16),
    TopicAliasMaximum(u16),
    TopicAlias(NonZeroU16),
    /// Never `ExactlyOnce`: that is said by leaving the property out.
    MaximumQos(Qos),
    RetainAvailable(bool),
    UserProperty(&'a str, &'a str),
    MaximumPacketSize(NonZeroU32),
    WildcardSubscriptionAvailable(bool),
    SubscriptionIdentifierAvailable(bool),
    SharedSubscriptionAvailable(bool),
}

impl<'a> Property<'a> {
    pub const fn id(&self) -> PropertyId {
        match self {
            Self::PayloadFormatIndicator(_) => PropertyId::PayloadFormatIndicator,
            Self::MessageExpiryInterval(_) => PropertyId::MessageExpiryInterval,
            Self::ContentType(_) => PropertyId::ContentType,
            Self::ResponseTopic(_) => PropertyId::ResponseTopic,
            Self::CorrelationData(_) => PropertyId::CorrelationData,
            Self::SubscriptionIdentifier(_) => PropertyId::SubscriptionIdentifier,
            Self::SessionExpiryInterval(_) => PropertyId::SessionExpiryInterval,
            Self::AssignedClientIdentifier(_) => PropertyId::AssignedClientIdentifier,
            Self::ServerKeepAlive(_) => PropertyId::ServerKeepAlive,
            Self::AuthenticationMethod(_) => PropertyId::AuthenticationMethod,
            Self::AuthenticationData(_) => PropertyId::AuthenticationData,
            Self::RequestProblemInformation(_) => PropertyId::RequestProblemInformation,
            Self::WillDelayInterval(_) => PropertyId::WillDelayInterval,
            Self::RequestResponseInformation(_) => PropertyId::RequestResponseInformation,
            Self::ResponseInformation(_) => PropertyId::ResponseInformation,
            Self::ServerReference(_) => PropertyId::ServerReference,
            Self::ReasonString(_) => PropertyId::ReasonString,
            Self::ReceiveMaximum(_) => PropertyId::ReceiveMaximum,
            Self::TopicAliasMaximum(_) => PropertyId::TopicAliasMaximum,
            Self::TopicAlias(_) => PropertyId::TopicAlias,
            Self::MaximumQos(_) => PropertyId::MaximumQos,
            Self::RetainAvailable(_) => PropertyId::RetainAvailable,
            Self::UserProperty(..) => PropertyId::UserProperty,
            Self::MaximumPacketSize(_) => PropertyId::MaximumPacketSize,
            Self::WildcardSubscriptionAvailable(_) => PropertyId::WildcardSubscriptionAvailable,
            Self::SubscriptionIdentifierAvailable(_) => PropertyId::SubscriptionIdentifierAvailable,
            Self::SharedSubscriptionAvailable(_) => PropertyId::SharedSubscriptionAvailable,
        }
    }

    /// Appends identifier and value. Strings and Binary Data beyond 65,535 bytes are cut.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.id().value());
        match *self {
            Self::PayloadFormatIndicator(value)
            | Self::RequestProblemInformation(value)
            | Self::RequestResponseInformation(value)
            | Self::RetainAvailable(value)
            | Self::WildcardSubscriptionAvailable(value)
            | Self::SubscriptionIdentifierAvailable(value)
            | Self::SharedSubscriptionAvailable(value) => out.push(u8::from(value)),
            Self::MaximumQos(qos) => out.push(qos.value()),
            Self::ServerKeepAlive(value) | Self::TopicAliasMaximum(value) => {
                out.extend_from_slice(&value.to_be_bytes());
            }
            Self::ReceiveMaximum(value) | Self::TopicAlias(value) => {
                out.extend_from_slice(&value.get().to_be_bytes());
            }
            Self::MessageExpiryInterval(value)
            | Self::SessionExpiryInterval(value)
            | Self::WillDelayInterval(value) => out.extend_from_slice(&value.to_be_bytes()),
            Self::MaximumPacketSize(value) => out.extend_from_slice(&value.get().to_be_bytes()),
            Self::SubscriptionIdentifier(value) => write_variable_byte_integer(value as usize, out),
            Self::ContentType(value)
            | Self::ResponseTopic(value)
            | Self::AssignedClientIdentifier(value)
            | Self::AuthenticationMethod(value)
            | Self::ResponseInformation(value)
            | Self::ServerReference(value)
            | Self::ReasonString(value) => write_string(value, out),
            Self::CorrelationData(value) | Self::AuthenticationData(value) => {
                write_binary(value, out);
            }
            Self::UserProperty(name, value) => {
                write_string(name, out);
                write_string(value, out);
            }
        }
    }

    /// Reads the value that follows the identifier.
    fn decode_value(id: PropertyId, reader: &mut Reader<'a>) -> Result<Self, Violation> {
        Ok(match id.form() {
            Form::Boolean => Self::of_boolean(id, decode_boolean(reader)?),
            Form::Text => Self::of_text(id, reader.string()?),
            Form::U16 => match id {
                PropertyId::ServerKeepAlive => Self::ServerKeepAlive(reader.u16()?),
                _ => Self::TopicAliasMaximum(reader.u16()?),
            },
            Form::U32 => match id {
                PropertyId::MessageExpiryInterval => Self::MessageExpiryInterval(reader.u32()?),
                PropertyId::SessionExpiryInterval => Self::SessionExpiryInterval(reader.u32()?),
                _ => Self::WillDelayInterval(reader.u32()?),
            },
            Form::Binary => match id {
                PropertyId::CorrelationData => Self::CorrelationData(reader.binary()?),
                _ => Self::AuthenticationData(reader.binary()?),
            },
            // Both are UTF-8 Encoded Strings [MQTT-1.5.7-1].
            Form::Pair => Self::UserProperty(reader.string()?, reader.string()?),
            Form::ResponseTopic => Self::ResponseTopic(reader.string()?), // [MQTT-3.3.2-13]
            Form::U16NotZero => Self::ReceiveMaximum(
                NonZeroU16::new(reader.u16()?).ok_or_else(|| protocol_error("a Receive Maximum of 0"))?,
            ),
            Form::U32NotZero => Self::MaximumPacketSize(
                NonZeroU32::new(reader.u32()?).ok_or_else(|| protocol_error("a Maximum Packet Size of 0"))?,
            ),
            Form::TopicAlias => Self::TopicAlias(
                // [MQTT-3.3.2-8]
                NonZeroU16::new(reader.u16()?)
                    .ok_or_else(|| violation(ReasonCode::TopicAliasInvalid, "a Topic Alias of 0"))?,
            ),
            Form::Qos => Self::MaximumQos(match reader.u8()? {
                0 => Qos::AtMostOnce,
                1 => Qos::AtLeastOnce,
                _ => return Err(protocol_error("a Maximum QoS other than 0 and 1")),
            }),
            Form::VariableNotZero => match reader.variable_byte_integer()? {
                0 => return Err(protocol_error("a Subscription Identifier of 0")),
                value => Self::SubscriptionIdentifier(value),
            },
        })
    }

    const fn of_boolean(id: PropertyId, value: bool) -> Self {
        match id {
            PropertyId::PayloadFormatIndicator => Self::PayloadFormatIndicator(value),
            PropertyId::RequestProblemInformation => Self::RequestProblemInformation(value),
            PropertyId::RequestResponseInformation => Self::RequestResponseInformation(value),
            PropertyId::RetainAvailable => Self::RetainAvailable(value),
            PropertyId::WildcardSubscriptionAvailable => Self::WildcardSubscriptionAvailable(value),
            PropertyId::SubscriptionIdentifierAvailable => Self::SubscriptionIdentifierAvailable(value),
            _ => Self::SharedSubscriptionAvailable(value),
        }
    }

    const fn of_text(id: PropertyId, value: &'a str) -> Self {
        match id {
            PropertyId::ContentType => Self::ContentType(value),
            PropertyId::AssignedClientIdentifier => Self::AssignedClientIdentifier(value),
            PropertyId::AuthenticationMethod => Self::AuthenticationMethod(value),
            PropertyId::ResponseInformation => Self::ResponseInformation(value),
            PropertyId::ServerReference => Self::ServerReference(value),
            _ => Self::ReasonString(value),
        }
    }
}

#[inline]
fn decode_boolean(reader: &mut Reader<'_>) -> Result<bool, Violation> {
    match reader.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(protocol_error("a property of one bit that is neither 0 nor 1")),
    }
}

/// Passes over a value that was found good before.
fn skip_value(id: PropertyId, reader: &mut Reader<'_>) -> Result<(), Violation> {
    match id.form() {
        Form::Boolean | Form::Qos => reader.take(1)?,
        Form::U16 | Form::U16NotZero | Form::TopicAlias => reader.take(2)?,
        Form::U32 | Form::U32NotZero => reader.take(4)?,
        Form::VariableNotZero => {
            reader.variable_byte_integer()?;
            &[]
        }
        Form::Text | Form::ResponseTopic | Form::Binary => reader.binary()?,
        Form::Pair => {
            reader.binary()?;
            reader.binary()?
        }
    };
    Ok(())
}

/// The properties of a packet, as the bytes they came in, without the Property Length; found good when it was read.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Properties<'a> {
    bytes: &'a [u8],
}

impl<'a> Properties<'a> {
    /// Checks the bytes of a property section (without the Property Length before it).
    pub fn decode(bytes: &'a [u8], place: Place, limits: &Limits) -> Result<Self, Violation> {
        decode_all(bytes, place, limits, |_| Ok(()))
    }

    /// Writes `properties` into `storage`, which is emptied first, and borrows them from there.
    ///
    /// Nothing checks whether they may stand together: that is for whoever makes up a packet.
    pub fn write(properties: &[Property<'_>], storage: &'a mut Vec<u8>) -> Self {
        storage.clear();
        for property in properties {
            property.encode(storage);
        }
        Self { bytes: storage }
    }

    /// For bytes that were checked before they were stored.
    #[inline]
    pub(super) const fn of_checked(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// The section as it stands in the packet, without the Property Length.
    #[inline]
    pub const fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The properties in the order they came in.
    pub fn iter(&self) -> impl Iterator<Item = Property<'a>> + use<'a> {
        let mut reader = Reader::new(self.bytes);
        std::iter::from_fn(move || {
            let id = PropertyId::from_value(reader.u8().ok()?)?;
            Property::decode_value(id, &mut reader).ok()
        })
    }

    /// Each property as bytes, identifier and value; nothing is checked again.
    pub(super) fn parts(&self) -> impl Iterator<Item = (PropertyId, &'a [u8])> + use<'a> {
        let mut reader = Reader::new(self.bytes);
        std::iter::from_fn(move || {
            let before = reader.rest();
            let id = PropertyId::from_value(reader.u8().ok()?)?;
            skip_value(id, &mut reader).ok()?;
            let size = before.len().checked_sub(reader.rest().len())?;
            Some((id, before.get(..size)?))
        })
    }

    /// The User Properties among them.
    #[inline]
    pub const fn user_properties(&self) -> UserProperties<'a> {
        UserProperties { section: *self }
    }
}

impl fmt::Debug for Properties<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.iter()).finish()
    }
}

/// The User Properties of a packet: pairs of strings, whose order is kept [MQTT-3.3.2-18] [MQTT-3.1.3-10] and whose
/// names may repeat.
#[derive(Clone, Copy, Default)]
pub struct UserProperties<'a> {
    section: Properties<'a>,
}

impl<'a> UserProperties<'a> {
    /// Writes `pairs` into `storage`, which is emptied first, and borrows them from there.
    pub fn write(pairs: &[(&str, &str)], storage: &'a mut Vec<u8>) -> Self {
        storage.clear();
        for (name, value) in pairs {
            Property::UserProperty(name, value).encode(storage);
        }
        Self { section: Properties { bytes: storage } }
    }

    /// Name and value of each, in the order they came in.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        self.section.iter().filter_map(|property| match property {
            Property::UserProperty(name, value) => Some((name, value)),
            _ => None,
        })
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        for (name, value) in self.iter() {
            Property::UserProperty(name, value).encode(out);
        }
    }
}

impl PartialEq for UserProperties<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for UserProperties<'_> {}

impl fmt::Debug for UserProperties<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.iter()).finish()
    }
}

/// Reads Property Length and the section behind it, and hands each property to `each` as soon as it was found good.
///
/// The section ends inside the packet and each property inside the section. An identifier that is unknown or does not
/// belong here is malformed (0x81), one that stands twice without being repeatable a Protocol Error (0x82), more than
/// `limits` allow is 0x97.
#[inline]
pub(super) fn read_section<'a>(
    reader: &mut Reader<'a>,
    place: Place,
    limits: &Limits,
    each: impl FnMut(Property<'a>) -> Result<(), Violation>,
) -> Result<Properties<'a>, Violation> {
    let size = reader.variable_byte_integer()?; // [MQTT-2.2.2-1]
    if size == 0 {
        return Ok(Properties::default());
    }
    let bytes = reader.take(size as usize)?;
    if size > limits.property_bytes_max {
        return Err(violation(ReasonCode::QuotaExceeded, "more bytes of properties than allowed"));
    }
    decode_all(bytes, place, limits, each)
}

fn decode_all<'a>(
    bytes: &'a [u8],
    place: Place,
    limits: &Limits,
    mut each: impl FnMut(Property<'a>) -> Result<(), Violation>,
) -> Result<Properties<'a>, Violation> {
    let mut reader = Reader::new(bytes);
    let mut seen = 0u64;
    let mut user_properties = 0;
    while !reader.is_empty() {
        // Identifiers are Variable Byte Integers, but all that exist take one byte.
        let Some(id) = PropertyId::from_value(reader.u8()?) else {
            return Err(malformed("a property that is not defined"));
        };
        check_place(id, place)?;
        let bit = 1 << id.value();
        if seen & bit != 0 && !id.is_repeatable(place) {
            return Err(protocol_error("a property twice"));
        }
        seen |= bit;
        if id == PropertyId::UserProperty {
            if user_properties == limits.user_properties_max {
                return Err(violation(ReasonCode::QuotaExceeded, "more User Properties than allowed"));
            }
            user_properties = user_properties.saturating_add(1);
        }
        let property = Property::decode_value(id, &mut reader)?;
        if let Property::ResponseTopic(topic) = property {
            text::check_response_topic(topic, limits.characters)?;
        }
        each(property)?;
    }
    Ok(Properties { bytes })
}

#[inline]
fn check_place(id: PropertyId, place: Place) -> Result<(), Violation> {
    if id.is_allowed(place) {
        return Ok(());
    }
    match (id, place) {
        (PropertyId::SubscriptionIdentifier, Place::PublishByClient) => {
            Err(protocol_error("a Subscription Identifier in a Client's PUBLISH"))
        }
        (PropertyId::SessionExpiryInterval, Place::DisconnectByServer) => {
            Err(protocol_error("a Session Expiry Interval in a Server's DISCONNECT"))
        }
        _ => Err(malformed("a property that does not belong into this packet")),
    }
}
