//! DISCONNECT: the last packet of a Network Connection.
//! What it does to Will and Session is decided elsewhere.
//! Read `reason_code.rs` for the codes that each side may give.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::arithmetic_side_effects)]

use super::header::{Header, PacketType, Sender};
use super::primitive::{Reader, Version, write_packet, write_with_length};
use super::properties::{Place, Property, UserProperties, read_section};
use super::{Limits, ReasonCode, Violation};

/// A DISCONNECT. In older versions it is two bytes and means a normal disconnection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disconnect<'a> {
    pub reason: ReasonCode,
    /// Never in one that the Server sends [MQTT-3.14.2-2].
    pub session_expiry_interval_s: Option<u32>,
    pub reason_string: Option<&'a str>,
    pub server_reference: Option<&'a str>,
    pub user_properties: UserProperties<'a>,
}

impl<'a> Disconnect<'a> {
    /// A DISCONNECT without properties.
    pub fn new(reason: ReasonCode) -> Self {
        Self {
            reason,
            session_expiry_interval_s: None,
            reason_string: None,
            server_reference: None,
            user_properties: UserProperties::default(),
        }
    }

    /// An empty body means a normal disconnection, and the Reason Code may be the end.
    pub(super) fn decode(
        header: &Header,
        body: &'a [u8],
        version: Version,
        limits: &Limits,
    ) -> Result<Self, Violation> {
        let mut disconnect = Self::new(ReasonCode::NormalDisconnection);
        let mut reader = Reader::new(body);
        if version.is_v5() && !reader.is_empty() {
            disconnect.reason = ReasonCode::decode(reader.u8()?, PacketType::Disconnect, header.from())?;
        }
        if version.is_v5() && !reader.is_empty() {
            disconnect.read_properties(&mut reader, header.from(), limits)?;
        }
        reader.finish()?;
        Ok(disconnect)
    }

    fn read_properties(&mut self, reader: &mut Reader<'a>, from: Sender, limits: &Limits) -> Result<(), Violation> {
        let place = match from {
            Sender::Client => Place::DisconnectByClient,
            Sender::Server => Place::DisconnectByServer,
        };
        let section = read_section(reader, place, limits, |property| {
            match property {
                Property::SessionExpiryInterval(value) => self.session_expiry_interval_s = Some(value),
                Property::ReasonString(value) => self.reason_string = Some(value),
                Property::ServerReference(value) => self.server_reference = Some(value),
                _ => {}
            }
            Ok(())
        })?;
        self.user_properties = section.user_properties();
        Ok(())
    }

    /// Reason Code and Property Length are always written: a common client waits for the latter.
    pub(super) fn encode(&self, version: Version, out: &mut Vec<u8>) {
        write_packet(PacketType::Disconnect.first_byte(), out, |out| {
            if version.is_v5() {
                out.push(self.reason.value());
                write_with_length(out, |out| self.encode_properties(out));
            }
        });
    }

    fn encode_properties(&self, out: &mut Vec<u8>) {
        let listed = [
            self.session_expiry_interval_s.map(Property::SessionExpiryInterval),
            self.reason_string.map(Property::ReasonString),
            self.server_reference.map(Property::ServerReference),
        ];
        for property in listed.into_iter().flatten() {
            property.encode(out);
        }
        self.user_properties.encode(out);
    }
}
