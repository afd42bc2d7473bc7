//! What CONNECT agrees, what DISCONNECT ends, and what a Session keeps in between.

use super::alias::{InboundAliases, OutboundAliases};
use super::{Action, Change, Kept, Limits, Session};
use crate::codec::{Disconnect, Packet, PacketType, Qos, ReasonCode, Version, Violation, encode_ack};
use std::time::Duration;

/// What CONNECT and CONNACK agreed for one Network Connection.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    pub version: Version,
    /// The peer is a bridge (protocol level with the bit 0x80): Retain As Published and No Local go without saying.
    pub bridge: bool,
    /// QoS 1 and 2 PUBLISH packets that may be under way towards the Client [MQTT-3.3.4-9]; at least 1.
    pub receive_maximum: u16,
    /// Largest packet that the Client takes [MQTT-3.1.2-24].
    pub packet_size_max: u32,
    /// Aliases that we may define [MQTT-3.1.2-26].
    pub topic_alias_maximum: u16,
    /// Whether Reason Strings and User Properties may go with any answer [MQTT-3.1.2-29].
    pub problem_information: bool,
    /// How long the Session outlives its Network Connection; 0 = not at all. For ever is never granted.
    pub session_expiry_s: u32,
    /// Keep Alive in force; 0 = none.
    pub keep_alive_s: u16,
}

/// What becomes of the Will when a Client says goodbye.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WillFate {
    /// DISCONNECT with Normal disconnection drops it [MQTT-3.14.4-3].
    Dropped,
    /// Any other end publishes it, at the end of its delay [MQTT-3.1.2-8].
    Due,
}

impl Session {
    /// A Network Connection begins on these terms. Whatever was sent and not settled is sent again first
    /// [MQTT-4.4.0-1]; aliases of a former connection are gone [MQTT-3.3.2-7].
    pub fn attach(&mut self, terms: Terms, authentication_method: Option<&str>) {
        self.connected = true;
        self.fresh = true;
        self.control.clear();
        self.aliases = None;
        self.terms = terms;
        self.authentication_method = authentication_method.map(|method| Box::new(method.into()));
        if let Some(in_flight) = &mut self.in_flight {
            in_flight.resend_all();
        }
    }

    /// CONNACK has been said: now what a former Network Connection left between PUBREC and PUBCOMP goes on.
    pub fn resume(&mut self) {
        let (control, version) = (&mut self.control, self.terms.version);
        if let Some(in_flight) = &mut self.in_flight {
            in_flight.resend_released(|packet_id| {
                encode_ack(PacketType::PubRel, packet_id, ReasonCode::Success, version, control)
            });
        }
    }

    /// The Network Connection has ended. What was to be written and is no PUBLISH is forgotten; it is produced anew by
    /// the resend. QoS 0 Messages stay only where the configuration says so.
    pub fn detach(&mut self, limits: &Limits) -> usize {
        self.connected = false;
        self.note_sent();
        self.control = Vec::new();
        self.aliases = None;
        if let Some(received) = &mut self.received {
            received.forget_owed();
        }
        let mut dropped = 0;
        if let Some(queue) = &mut self.queue
            && !limits.queue_qos0_offline
        {
            dropped = queue.drop_qos0();
        }
        self.shrink();
        dropped
    }

    /// What is under way keeps its Packet Identifiers [MQTT-4.4.0-1]. Those of QoS 2 are known already.
    fn note_sent(&mut self) {
        if let Some(log) = &mut self.log {
            log.withheld = Vec::new();
        }
        if let (true, Some(in_flight)) = (self.kept, &self.in_flight) {
            let changes = in_flight.unacknowledged().filter_map(|(packet_id, queued)| {
                let kept = Kept::of(true, queued, Qos::AtLeastOnce)?;
                Some(Change::Sent(kept, packet_id, queued.outgoing.subscription_ids.clone()))
            });
            let changes: Vec<_> = changes.collect();
            if !changes.is_empty() {
                self.log.get_or_insert_default().changes.extend(changes);
            }
        }
    }

    /// How long the Session lives on without a Network Connection.
    pub fn expiry(&self) -> Duration {
        Duration::from_secs(self.terms.session_expiry_s.into())
    }

    pub(super) fn receive_disconnect<'a>(
        &mut self,
        disconnect: &Disconnect<'_>,
        limits: &Limits,
    ) -> Result<Action<'a>, Violation> {
        if let Some(seconds) = disconnect.session_expiry_interval_s {
            // A Session that was to end with its connection cannot be prolonged at the last moment (3.14.2.2.2).
            if self.terms.session_expiry_s == 0 && seconds != 0 {
                return Err(Violation {
                    reason: ReasonCode::ProtocolError,
                    why: "DISCONNECT prolongs a Session that had no expiry",
                });
            }
            self.terms.session_expiry_s = u64::from(seconds).min(limits.session_expiry_max.as_secs()) as u32;
        }
        Ok(Action::Disconnect(match disconnect.reason {
            ReasonCode::Success => WillFate::Dropped,
            _ => WillFate::Due,
        }))
    }

    /// Says DISCONNECT with this Reason Code, to a Client that knows such a thing; the caller then closes
    /// [MQTT-3.14.4-1]. The reason's text goes along where the Client wants it and it fits [MQTT-3.14.2-3].
    pub fn say_disconnect(&mut self, reason: ReasonCode, why: Option<&str>) {
        if !self.is_v5() {
            return;
        }
        // Reason Strings are allowed in DISCONNECT whatever Request Problem Information says, but nobody asked for them then.
        let mut disconnect =
            Disconnect { reason_string: why.filter(|_| self.terms.problem_information), ..Disconnect::new(reason) };
        let mut bytes = Vec::new();
        Packet::Disconnect(disconnect).encode(self.terms.version, &mut bytes);
        if bytes.len() > self.terms.packet_size_max as usize {
            disconnect.reason_string = None;
            bytes.clear();
            Packet::Disconnect(disconnect).encode(self.terms.version, &mut bytes);
        }
        if bytes.len() <= self.terms.packet_size_max as usize {
            self.control.extend_from_slice(&bytes);
        }
    }

    pub(super) fn inbound_aliases(&mut self, limits: &Limits) -> &mut InboundAliases {
        let inbound = &mut self.aliases.get_or_insert_default().inbound;
        inbound.get_or_insert_with(|| InboundAliases::new(limits.topic_alias_maximum))
    }

    pub(super) fn outbound_aliases(&mut self, limits: &Limits) -> Option<&mut OutboundAliases> {
        let maximum = self.terms.topic_alias_maximum.min(limits.topic_alias_outbound_max);
        if maximum == 0 {
            return None;
        }
        let outbound = &mut self.aliases.get_or_insert_default().outbound;
        Some(outbound.get_or_insert_with(|| OutboundAliases::new(maximum)))
    }
}
