//! Receiving a PUBLISH: Topic Alias, Packet Identifier, Receive Maximum; which answer is owed, and when.
//!
//! Nothing is acknowledged here: the hall decides about the Message, and [`Session::answer`] says so to the Client once
//! every matching Session (and the journal) has it. `broker/publish.rs` is where it goes next.

use super::{Action, Arrival, Change, Limits, Session};
use crate::codec::{Message, PacketId, PacketType, Publish, Qos, ReasonCode, Violation};

/// An Application Message that a Client has handed over, and the answer that it waits for.
#[derive(Debug)]
pub struct Arrived {
    pub message: Message,
    pub answer: Answer,
}

/// The answer owed for a PUBLISH.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// QoS 0: none.
    None,
    /// QoS 1 [MQTT-4.3.2-4].
    PubAck(PacketId),
    /// QoS 2 [MQTT-4.3.3-8].
    PubRec(PacketId),
}

/// What has been received and is not finished. Together never more than the Receive Maximum that we announced.
#[derive(Default)]
pub(super) struct Received {
    /// QoS 1 PUBLISH packets that wait for their PUBACK.
    owed_puback: u32,
    /// QoS 2 Packet Identifiers between PUBLISH and PUBREL, sorted.
    unreleased: Vec<Unreleased>,
}

struct Unreleased {
    packet_id: PacketId,
    /// PUBREC has been sent. Before that a repeated PUBLISH is not answered a second time.
    answered: bool,
    /// It was repeated before that, on the connection that there is now.
    repeated: bool,
}

impl Received {
    pub(super) fn is_empty(&self) -> bool {
        self.owed_puback == 0 && self.unreleased.is_empty()
    }

    fn under_way(&self) -> usize {
        self.owed_puback as usize + self.unreleased.len()
    }

    fn find(&self, packet_id: PacketId) -> Result<usize, usize> {
        // Clients count upwards, so the end is the likely place.
        match self.unreleased.last() {
            None => Err(0),
            Some(last) if last.packet_id < packet_id => Err(self.unreleased.len()),
            Some(_) => self.unreleased.binary_search_by_key(&packet_id, |unreleased| unreleased.packet_id),
        }
    }

    pub(super) fn restore(mut packet_ids: Vec<PacketId>) -> Self {
        packet_ids.sort_unstable();
        packet_ids.dedup();
        // All count as answered: whoever repeats a PUBLISH gets its PUBREC.
        let unreleased =
            packet_ids.into_iter().map(|packet_id| Unreleased { packet_id, answered: true, repeated: false }).collect();
        Self { owed_puback: 0, unreleased }
    }

    pub(super) fn unreleased(&self) -> impl Iterator<Item = PacketId> {
        self.unreleased.iter().map(|unreleased| unreleased.packet_id)
    }

    /// The connection that waited for these answers is gone; the Client will repeat what it does not know to be ours.
    pub(super) fn forget_owed(&mut self) {
        self.owed_puback = 0;
        self.unreleased.iter_mut().for_each(|unreleased| unreleased.repeated = false);
    }
}

impl Session {
    pub(super) fn receive_publish<'a>(
        &mut self,
        publish: &Publish<'_>,
        limits: &Limits,
        arrival: &Arrival,
    ) -> Result<Action<'a>, Violation> {
        check_topic(publish.topic.as_bytes(), limits)?;
        if let Some(response_topic) = publish.response_topic
            && !limits.topic.hold(response_topic.as_bytes())
        {
            return Err(Violation {
                reason: ReasonCode::ProtocolError,
                why: "a Response Topic that is too long or has too many levels",
            });
        }
        if publish.qos > limits.maximum_qos {
            return Err(Violation { reason: ReasonCode::QosNotSupported, why: "a QoS above our Maximum QoS" }); // [MQTT-3.2.2-11]
        }
        if publish.retain && !limits.retain_available {
            return Err(Violation { reason: ReasonCode::RetainNotSupported, why: "RETAIN is not available here" }); // [MQTT-3.2.2-14]
        }
        // The alias is learnt even from a repeated PUBLISH: the Client counts on it from now on.
        let resolved = match publish.topic_alias {
            None => None,
            Some(alias) => {
                let aliases = self.inbound_aliases(limits);
                if alias.get() > aliases.maximum() {
                    return Err(Violation {
                        reason: ReasonCode::TopicAliasInvalid,
                        why: "a Topic Alias above our maximum",
                    }); // [MQTT-3.2.2-17]
                }
                if !publish.topic.is_empty() {
                    aliases.define(alias, publish.topic.as_bytes());
                    None
                } else {
                    let Some(topic) = aliases.resolve(alias) else {
                        return Err(Violation {
                            reason: ReasonCode::ProtocolError,
                            why: "a Topic Alias that was never defined",
                        });
                    };
                    Some(topic.to_vec())
                }
            }
        };
        let answer = match (publish.qos, publish.packet_id) {
            (Qos::AtLeastOnce, Some(packet_id)) => self.begin_qos1(packet_id, limits)?,
            (Qos::ExactlyOnce, Some(packet_id)) => match self.begin_qos2(packet_id, limits)? {
                Some(answer) => answer,
                None => return Ok(Action::Nothing),
            },
            _ => Answer::None,
        };
        if limits.validate_utf8_payload
            && publish.payload_is_utf8
            && simdutf8::basic::from_utf8(publish.payload).is_err()
        {
            if answer == Answer::None {
                return Err(Violation {
                    reason: ReasonCode::PayloadFormatInvalid,
                    why: "a payload that is not the UTF-8 it claims to be",
                });
            }
            self.answer(answer, ReasonCode::PayloadFormatInvalid);
            return Ok(Action::Nothing);
        }
        let message = match resolved {
            Some(topic) => Message::with_topic(publish, &topic, self.terms.version, arrival.origin, arrival.now),
            None => Message::of_publish(publish, self.terms.version, arrival.origin, arrival.now),
        };
        Ok(Action::Publish(Arrived { message, answer }))
    }

    fn begin_qos1(&mut self, packet_id: PacketId, limits: &Limits) -> Result<Answer, Violation> {
        let is_v5 = self.terms.version.is_v5();
        let received = self.received.get_or_insert_default();
        if is_v5 {
            check_receive_maximum(received, limits)?; // others know no such maximum: the hall stops reading from them
        }
        received.owed_puback += 1;
        Ok(Answer::PubAck(packet_id))
    }

    /// `None`: this PUBLISH is a repetition and must not be passed on again [MQTT-4.3.3-10].
    fn begin_qos2(&mut self, packet_id: PacketId, limits: &Limits) -> Result<Option<Answer>, Violation> {
        let received = self.received.get_or_insert_default();
        match received.find(packet_id) {
            Ok(place) => {
                if received.unreleased[place].answered {
                    self.acknowledge(PacketType::PubRec, packet_id, ReasonCode::Success);
                } else {
                    received.unreleased[place].repeated = true;
                }
                Ok(None)
            }
            Err(place) => {
                check_receive_maximum(received, limits)?;
                received.unreleased.insert(place, Unreleased { packet_id, answered: false, repeated: false });
                Ok(Some(Answer::PubRec(packet_id)))
            }
        }
    }

    /// Says what became of a Message: `Success` and `NoMatchingSubscribers` take it over, anything from 0x80 refuses it
    /// and frees its Packet Identifier [MQTT-4.3.3-9]. A 3.x Client has no words for a refusal: it gets the ordinary
    /// acknowledgement [MQTT-3.1.1: 3.3.5-2].
    pub fn answer(&mut self, answer: Answer, reason: ReasonCode) {
        let Some(received) = &mut self.received else { return };
        match answer {
            Answer::None => {}
            Answer::PubAck(packet_id) => {
                received.owed_puback = received.owed_puback.saturating_sub(1);
                self.acknowledge(PacketType::PubAck, packet_id, reason);
            }
            Answer::PubRec(packet_id) => {
                let Ok(place) = received.find(packet_id) else { return };
                if reason.is_error() && self.terms.version.is_v5() {
                    received.unreleased.remove(place);
                } else {
                    received.unreleased[place].answered = true;
                }
                self.acknowledge(PacketType::PubRec, packet_id, reason);
            }
        }
    }

    /// The same for a QoS 2 Message that came by a former connection. Whoever has not repeated it on this one yet will do so, and
    /// is answered then: two answers to one PUBLISH would be one too many.
    pub fn answer_late(&mut self, packet_id: PacketId, reason: ReasonCode) {
        let Some(received) = &mut self.received else { return };
        let Ok(place) = received.find(packet_id) else { return };
        if received.unreleased[place].repeated {
            self.answer(Answer::PubRec(packet_id), reason);
        } else if reason.is_error() && self.terms.version.is_v5() {
            received.unreleased.remove(place);
        } else {
            received.unreleased[place].answered = true;
        }
    }

    /// Whether this QoS 2 Packet Identifier, or any QoS 1 one, is still under way towards us.
    pub(super) fn is_receiving(&self, packet_id: PacketId) -> bool {
        self.received.as_ref().is_some_and(|received| received.find(packet_id).is_ok())
    }

    pub(super) fn receive_pubrel<'a>(&mut self, packet_id: PacketId) -> Action<'a> {
        let known = self.received.as_mut().is_some_and(|received| match received.find(packet_id) {
            Ok(place) => {
                received.unreleased.remove(place);
                true
            }
            Err(_) => false,
        });
        if known {
            self.note(|| Change::Finished(packet_id));
        }
        // An identifier that the store still knew would make the next Message under it a repetition.
        let reason = if known { ReasonCode::Success } else { ReasonCode::PacketIdentifierNotFound };
        self.acknowledge_safely(PacketType::PubComp, packet_id, reason); // [MQTT-4.3.3-11]
        Action::Nothing
    }
}

fn check_receive_maximum(received: &Received, limits: &Limits) -> Result<(), Violation> {
    if received.under_way() >= usize::from(limits.receive_maximum) {
        // [MQTT-3.3.4-7]
        return Err(Violation {
            reason: ReasonCode::ReceiveMaximumExceeded,
            why: "more unanswered PUBLISH packets than our Receive Maximum",
        });
    }
    Ok(())
}

fn check_topic(topic: &[u8], limits: &Limits) -> Result<(), Violation> {
    if !limits.topic.hold(topic) {
        let why = "a Topic Name that is too long or has too many levels";
        return Err(Violation { reason: ReasonCode::TopicNameInvalid, why });
    }
    Ok(())
}
