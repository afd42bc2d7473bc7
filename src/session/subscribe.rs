//! SUBSCRIBE and UNSUBSCRIBE as far as they concern one Session: identifiers that are free, and the answers.
//!
//! Which filters are allowed and what they match is the hall's business (`broker/subscribe.rs`); it hands the verdicts
//! back to `subscribed` and `unsubscribed`, one for each filter and in their order.

use super::{Action, Session};
use crate::codec::{PacketId, ReasonCode, Subscribe, Unsubscribe, Violation, encode_suback, encode_unsuback};

/// A 3.x Client breaks its protocol with it [MQTT-3.1.1: 4.7.3-1]; a 5.0 one is told 0x8F for that filter.
const EMPTY_FILTER: Violation = Violation { reason: ReasonCode::TopicFilterInvalid, why: "an empty Topic Filter" };

impl Session {
    pub(super) fn receive_subscribe<'a>(&mut self, subscribe: Subscribe<'a>) -> Result<Action<'a>, Violation> {
        // Before 5.0 there is no word for it; the two kinds of exchange do not disturb each other.
        if self.is_v5() && self.is_receiving(subscribe.packet_id) {
            let codes = vec![ReasonCode::PacketIdentifierInUse; subscribe.filters.len()];
            self.subscribed(subscribe.packet_id, &codes);
            return Ok(Action::Nothing);
        }
        // No Local on a shared subscription would let a Message vanish [MQTT-3.8.3-4].
        let wrong = subscribe.filters.iter().any(|(filter, options)| options.no_local && filter.starts_with("$share/"));
        if wrong {
            return Err(Violation { reason: ReasonCode::ProtocolError, why: "No Local on a shared subscription" });
        }
        if !self.is_v5() && subscribe.filters.iter().any(|(filter, _)| filter.is_empty()) {
            return Err(EMPTY_FILTER);
        }
        Ok(Action::Subscribe(subscribe))
    }

    pub(super) fn receive_unsubscribe<'a>(&mut self, unsubscribe: Unsubscribe<'a>) -> Result<Action<'a>, Violation> {
        if self.is_v5() && self.is_receiving(unsubscribe.packet_id) {
            let codes = vec![ReasonCode::PacketIdentifierInUse; unsubscribe.filters.len()];
            self.unsubscribed(unsubscribe.packet_id, &codes);
            return Ok(Action::Nothing);
        }
        if !self.is_v5() && unsubscribe.filters.iter().any(str::is_empty) {
            return Err(EMPTY_FILTER);
        }
        Ok(Action::Unsubscribe(unsubscribe))
    }

    /// SUBACK with one code for each filter, in their order [MQTT-3.9.3-1].
    pub fn subscribed(&mut self, packet_id: PacketId, codes: &[ReasonCode]) {
        encode_suback(packet_id, codes, self.terms.version, &mut self.control);
    }

    /// UNSUBACK with one code for each filter, in their order [MQTT-3.11.3-1]; a 3.x one carries none.
    pub fn unsubscribed(&mut self, packet_id: PacketId, codes: &[ReasonCode]) {
        encode_unsuback(packet_id, codes, self.terms.version, &mut self.control);
    }
}
