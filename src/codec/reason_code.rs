//! Reason Codes: every value that MQTT 5.0 defines, which packets of which side may carry it, and what the older
//! versions say instead. It never decides which code fits a fault.
//! Read `header.rs` next.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::arithmetic_side_effects)]

use std::fmt;

use super::Violation;
use super::header::{PacketType, Sender};
use super::primitive::{malformed, protocol_error};

macro_rules! reason_codes {
    ($($name:ident = $value:literal $text:literal,)*) => {
        /// A Reason Code of MQTT 5.0, one byte on the wire. `Display` writes the standard's name of it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum ReasonCode {
            $($name = $value,)*
        }

        impl ReasonCode {
            /// All of them, in ascending order.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The code with this value, or `None` if MQTT 5.0 defines none.
            pub const fn from_value(value: u8) -> Option<Self> {
                match value {
                    $($value => Some(Self::$name),)*
                    _ => None,
                }
            }

            const fn text(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

reason_codes! {
    Success = 0x00 "Success",
    GrantedQos1 = 0x01 "Granted QoS 1",
    GrantedQos2 = 0x02 "Granted QoS 2",
    DisconnectWithWillMessage = 0x04 "Disconnect with Will Message",
    NoMatchingSubscribers = 0x10 "No matching subscribers",
    NoSubscriptionExisted = 0x11 "No subscription existed",
    ContinueAuthentication = 0x18 "Continue authentication",
    ReAuthenticate = 0x19 "Re-authenticate",
    UnspecifiedError = 0x80 "Unspecified error",
    MalformedPacket = 0x81 "Malformed Packet",
    ProtocolError = 0x82 "Protocol Error",
    ImplementationSpecificError = 0x83 "Implementation specific error",
    UnsupportedProtocolVersion = 0x84 "Unsupported Protocol Version",
    ClientIdentifierNotValid = 0x85 "Client Identifier not valid",
    BadUserNameOrPassword = 0x86 "Bad User Name or Password",
    NotAuthorized = 0x87 "Not authorized",
    ServerUnavailable = 0x88 "Server unavailable",
    ServerBusy = 0x89 "Server busy",
    Banned = 0x8a "Banned",
    ServerShuttingDown = 0x8b "Server shutting down",
    BadAuthenticationMethod = 0x8c "Bad authentication method",
    KeepAliveTimeout = 0x8d "Keep Alive timeout",
    SessionTakenOver = 0x8e "Session taken over",
    TopicFilterInvalid = 0x8f "Topic Filter invalid",
    TopicNameInvalid = 0x90 "Topic Name invalid",
    PacketIdentifierInUse = 0x91 "Packet Identifier in use",
    PacketIdentifierNotFound = 0x92 "Packet Identifier not found",
    ReceiveMaximumExceeded = 0x93 "Receive Maximum exceeded",
    TopicAliasInvalid = 0x94 "Topic Alias invalid",
    PacketTooLarge = 0x95 "Packet too large",
    MessageRateTooHigh = 0x96 "Message rate too high",
    QuotaExceeded = 0x97 "Quota exceeded",
    AdministrativeAction = 0x98 "Administrative action",
    PayloadFormatInvalid = 0x99 "Payload format invalid",
    RetainNotSupported = 0x9a "Retain not supported",
    QosNotSupported = 0x9b "QoS not supported",
    UseAnotherServer = 0x9c "Use another server",
    ServerMoved = 0x9d "Server moved",
    SharedSubscriptionsNotSupported = 0x9e "Shared Subscriptions not supported",
    ConnectionRateExceeded = 0x9f "Connection rate exceeded",
    MaximumConnectTime = 0xa0 "Maximum connect time",
    SubscriptionIdentifiersNotSupported = 0xa1 "Subscription Identifiers not supported",
    WildcardSubscriptionsNotSupported = 0xa2 "Wildcard Subscriptions not supported",
}

impl ReasonCode {
    /// What 0x00 is called in DISCONNECT.
    #[expect(non_upper_case_globals, reason = "stands where a variant would stand")]
    pub const NormalDisconnection: Self = Self::Success;
    /// What 0x00 is called in SUBACK.
    #[expect(non_upper_case_globals, reason = "stands where a variant would stand")]
    pub const GrantedQos0: Self = Self::Success;

    /// The byte on the wire.
    pub const fn value(self) -> u8 {
        self as u8
    }

    /// Whether the code says that something failed: 0x80 and above.
    pub const fn is_error(self) -> bool {
        self.value() >= 0x80
    }

    /// The CONNACK return code of MQTT 3.1.1 and 3.1 that says the same, or `None` where none fits: then the
    /// Network Connection closes without a CONNACK [MQTT-3.1.1: 3.2.2-6].
    pub const fn return_code(self) -> Option<u8> {
        match self {
            Self::Success => Some(0),
            Self::UnsupportedProtocolVersion => Some(1),
            Self::ClientIdentifierNotValid => Some(2),
            Self::ServerUnavailable
            | Self::ServerBusy
            | Self::ServerShuttingDown
            | Self::QuotaExceeded
            | Self::UseAnotherServer
            | Self::ServerMoved
            | Self::ConnectionRateExceeded => Some(3),
            Self::BadUserNameOrPassword => Some(4),
            Self::NotAuthorized | Self::Banned | Self::BadAuthenticationMethod => Some(5),
            _ => None,
        }
    }

    /// The other way: what a return code of MQTT 3.1.1 or 3.1 is called in MQTT 5.0.
    pub const fn from_return_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Success),
            1 => Some(Self::UnsupportedProtocolVersion),
            2 => Some(Self::ClientIdentifierNotValid),
            3 => Some(Self::ServerUnavailable),
            4 => Some(Self::BadUserNameOrPassword),
            5 => Some(Self::NotAuthorized),
            _ => None,
        }
    }

    /// Whether a packet of this type from this side may carry the code: the tables of sections 3.2 to 3.15.
    ///
    /// One addition: a Server's DISCONNECT may say 0x8C, which section 2.4 allows and the table of 3.14 lacks.
    pub const fn is_of(self, kind: PacketType, from: Sender) -> bool {
        let value = self.value();
        match kind {
            // [MQTT-3.2.2-8]
            PacketType::ConnAck => matches!(
                value,
                0x00 | 0x80..=0x8a | 0x8c | 0x90 | 0x95 | 0x97 | 0x99..=0x9d | 0x9f
            ),
            // [MQTT-3.4.2-1] [MQTT-3.5.2-1]
            PacketType::PubAck | PacketType::PubRec => {
                matches!(value, 0x00 | 0x10 | 0x80 | 0x83 | 0x87 | 0x90 | 0x91 | 0x97 | 0x99)
            }
            // [MQTT-3.6.2-1] [MQTT-3.7.2-1]
            PacketType::PubRel | PacketType::PubComp => matches!(value, 0x00 | 0x92),
            // [MQTT-3.9.3-2]
            PacketType::SubAck => {
                matches!(value, 0x00..=0x02 | 0x80 | 0x83 | 0x87 | 0x8f | 0x91 | 0x97 | 0x9e | 0xa1 | 0xa2)
            }
            // [MQTT-3.11.3-2]
            PacketType::UnsubAck => {
                matches!(value, 0x00 | 0x11 | 0x80 | 0x83 | 0x87 | 0x8f | 0x91)
            }
            // [MQTT-3.14.2-1]
            PacketType::Disconnect => match from {
                Sender::Client => {
                    matches!(value, 0x00 | 0x04 | 0x80..=0x83 | 0x90 | 0x93..=0x99)
                }
                Sender::Server => matches!(
                    value,
                    0x00 | 0x80..=0x83 | 0x87 | 0x89 | 0x8b..=0x90 | 0x93..=0xa2
                ),
            },
            // [MQTT-3.15.2-1]
            PacketType::Auth => match from {
                Sender::Client => matches!(value, 0x18 | 0x19),
                Sender::Server => matches!(value, 0x00 | 0x18),
            },
            PacketType::Connect
            | PacketType::Publish
            | PacketType::Subscribe
            | PacketType::Unsubscribe
            | PacketType::PingReq
            | PacketType::PingResp => false,
        }
    }

    /// A Reason Code as it stands in a packet. A value that MQTT does not define is malformed; one that this packet
    /// may not carry is a Protocol Error.
    pub(super) fn decode(value: u8, kind: PacketType, from: Sender) -> Result<Self, Violation> {
        let reason = Self::from_value(value).ok_or_else(|| malformed("a Reason Code that is not defined"))?;
        if !reason.is_of(kind, from) {
            return Err(protocol_error("a Reason Code that this packet cannot have"));
        }
        Ok(reason)
    }
}

impl fmt::Display for ReasonCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.text())
    }
}

#[cfg(test)]
mod tests {
    use super::ReasonCode;

    #[test]
    fn values_and_names() {
        assert_eq!(ReasonCode::ALL.len(), 43);
        for value in 0..=255 {
            match ReasonCode::from_value(value) {
                Some(reason) => {
                    assert_eq!(reason.value(), value);
                    assert!(ReasonCode::ALL.contains(&reason));
                    assert_eq!(reason.is_error(), value & 0x80 != 0);
                }
                None => assert!(ReasonCode::ALL.iter().all(|reason| reason.value() != value)),
            }
        }
        assert_eq!(ReasonCode::GrantedQos0, ReasonCode::NormalDisconnection);
        assert_eq!(ReasonCode::QosNotSupported.to_string(), "QoS not supported");
    }

    #[test]
    fn return_codes_of_older_versions() {
        for code in 0..=5 {
            let reason = ReasonCode::from_return_code(code).expect("defined");
            assert_eq!(reason.return_code(), Some(code));
        }
        assert_eq!(ReasonCode::from_return_code(6), None);
        assert_eq!(ReasonCode::MalformedPacket.return_code(), None);
    }
}
