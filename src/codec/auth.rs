//! AUTH, the packet of enhanced authentication in MQTT 5.0.
//! Methods and their data are opaque here, and which step is due is the Session's knowledge.
//! Read `connect.rs` for the CONNECT that begins the exchange.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::arithmetic_side_effects)]

use std::fmt;

use super::header::{Header, PacketType};
use super::primitive::{Reader, Version, protocol_error, write_packet, write_with_length};
use super::properties::{Place, Property, UserProperties, read_section};
use super::{Limits, ReasonCode, Violation};

/// An AUTH.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Auth<'a> {
    pub reason: ReasonCode,
    /// Absent only where a Server says success and nothing else, which has a short form without any properties; that
    /// the method belongs into every AUTH [MQTT-4.12.0-5] is for the Session to hold against it.
    pub method: Option<&'a str>,
    pub data: Option<&'a [u8]>,
    pub reason_string: Option<&'a str>,
    pub user_properties: UserProperties<'a>,
}

impl<'a> Auth<'a> {
    /// An AUTH with a method and nothing else.
    pub fn new(reason: ReasonCode, method: Option<&'a str>) -> Self {
        let user_properties = UserProperties::default();
        Self { reason, method, data: None, reason_string: None, user_properties }
    }

    /// An empty body means success.
    pub(super) fn decode(header: &Header, body: &'a [u8], limits: &Limits) -> Result<Self, Violation> {
        let mut reader = Reader::new(body);
        let code = if reader.is_empty() { 0 } else { reader.u8()? };
        let mut auth = Self::new(ReasonCode::decode(code, PacketType::Auth, header.from())?, None);
        if body.is_empty() {
            return Ok(auth);
        }
        let section = read_section(&mut reader, Place::Auth, limits, |property| {
            match property {
                Property::AuthenticationMethod(value) => auth.method = Some(value),
                Property::AuthenticationData(value) => auth.data = Some(value),
                Property::ReasonString(value) => auth.reason_string = Some(value),
                _ => {}
            }
            Ok(())
        })?;
        auth.user_properties = section.user_properties();
        reader.finish()?;
        if auth.method.is_none() && (auth.reason != ReasonCode::Success || auth.data.is_some()) {
            return Err(protocol_error("an AUTH without an Authentication Method"));
        }
        Ok(auth)
    }

    /// MQTT 3.1.1 and 3.1 have no AUTH, and nothing is appended.
    pub(super) fn encode(&self, version: Version, out: &mut Vec<u8>) {
        if !version.is_v5() {
            return;
        }
        write_packet(PacketType::Auth.first_byte(), out, |out| {
            out.push(self.reason.value());
            write_with_length(out, |out| {
                let listed = [
                    self.method.map(Property::AuthenticationMethod),
                    self.data.map(Property::AuthenticationData),
                    self.reason_string.map(Property::ReasonString),
                ];
                for property in listed.into_iter().flatten() {
                    property.encode(out);
                }
                self.user_properties.encode(out);
            });
        });
    }
}

/// Shows everything but the Authentication Data.
impl fmt::Debug for Auth<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Auth")
            .field("reason", &self.reason)
            .field("method", &self.method)
            .field("data", &self.data.map(|_| "not shown"))
            .field("reason_string", &self.reason_string)
            .field("user_properties", &self.user_properties)
            .finish()
    }
}
