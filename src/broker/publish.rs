//! May it be published, is it retained, who subscribes; into each Session, then the journal, then the answer.
//!
//! A Message reaches the subscribers of its own shard at once and those of others by mail, both in the order in which its
//! publisher sent it. More receivers than one tick should serve become a [`Fanout`], first come, first served.
//! `session/deliver.rs` is where it goes next.

use super::budget::Level;
use super::durable::Change;
use super::mail::Mail;
use super::router::{FilterId, Matched};
use super::shard::{Attachment, DENIED, Shard, Wire};
use crate::access::{Act, Verdict};
use crate::codec::{Message, Origin, Qos, ReasonCode};
use crate::notice::Outside;
use crate::session::{Answer, Arrived, Bound, Dropped, GroupId, How, Outgoing};
use crate::store::Position;
use std::rc::Rc;
use std::sync::Arc;

/// Receivers up to which a Message is delivered at once.
const DIRECT_MAX: usize = 256;

/// A Message on its way to many receivers. Lists are walked from the end to the start: a subscriber who leaves meanwhile can
/// only move one who was served already, and `Client::fanout_seen` knows those.
pub(super) struct Fanout {
    outgoing: Rc<Outgoing>,
    matched: Arc<Matched>,
    number: u64,
    /// Filters still to be walked, the last one first, and subscribers of that one still to be served.
    filters: usize,
    subscribers: Option<usize>,
}

/// What routing came to.
#[derive(Clone, Copy, Default)]
pub(super) struct Routed {
    matched: bool,
    /// Some Session has taken it, or will.
    taken: bool,
    /// A queue was full.
    full: bool,
    /// The last record that this Message left in the journal.
    position: Option<Position>,
}

impl Routed {
    /// What the publisher is told: success, nobody there [0x10], or that nobody could take it [0x97].
    fn reason(self) -> ReasonCode {
        match self {
            Self { matched: false, .. } => ReasonCode::NoMatchingSubscribers,
            Self { taken: false, full: true, .. } => ReasonCode::QuotaExceeded,
            _ => ReasonCode::Success,
        }
    }
}

impl<W: Wire> Shard<W> {
    pub(super) fn publish(&mut self, me: Attachment, arrived: Arrived) {
        self.statistics.messages_received += 1;
        let Arrived { message, answer } = arrived;
        let Some(client) = self.client(me) else { return };
        let act = Act::Publish { topic: message.topic(), qos: message.qos(), retain: message.retain() };
        if self.access.decide(&client.identity, act) == Verdict::Denied {
            if self.may_log(&DENIED) {
                tracing::info!(
                    target: "waypost::access",
                    client = %Outside::of(client.id.as_bytes()),
                    topic = %Outside::of(message.topic()),
                    "publish denied"
                );
            }
            self.statistics.denied += 1;
            return self.answer(me, answer, ReasonCode::NotAuthorized);
        }
        let knows_reasons = client.session.terms().version.is_v5();
        let mut position = None;
        if message.retain() {
            match self.retain(&message) {
                Ok(kept) => position = kept,
                // Whoever can be told, is; for the others the Message goes to those who are there, and is not kept.
                Err(reason) if answer != Answer::None && knows_reasons => return self.answer(me, answer, reason),
                Err(_) => {}
            }
        }
        let routed = self.route(message);
        let position = position.max(routed.position);
        // An Application Message is ours once it is in every matching Session [MQTT-4.5.0-1] and the journal has it.
        if answer == Answer::None {
            return;
        }
        if self.durable.is_open(position) {
            self.answer(me, answer, routed.reason());
        } else {
            self.durable.wait(position, me, answer, routed.reason());
        }
    }

    /// Tells the publisher. If it has gone meanwhile, a QoS 2 exchange is still remembered for its return.
    pub(super) fn answer(&mut self, me: Attachment, answer: Answer, reason: ReasonCode) {
        if let Some(client) = self.clients.get_mut(me.slot)
            && (client.attachment == me.number || matches!(answer, Answer::PubRec(_)))
        {
            client.session.answer(answer, reason);
            self.mark_dirty(me.slot);
        }
    }

    /// The Will of a Client that has gone. Rights are asked again: they may have changed since CONNECT.
    pub(super) fn publish_will(&mut self, slot: u32, will: &Message) {
        let Some(client) = self.clients.get(slot) else { return };
        let act = Act::Publish { topic: will.topic(), qos: will.qos(), retain: will.retain() };
        if self.access.decide(&client.identity, act) == Verdict::Denied {
            self.statistics.denied += 1;
            return;
        }
        let message = will.at(self.now); // its Message Expiry Interval begins now
        if message.retain() {
            let _ = self.retain(&message); // [MQTT-3.1.2-15]; a full store is counted there
        }
        self.route(message);
    }

    /// The broker's own Messages.
    pub(super) fn publish_own(&mut self, message: Message) {
        if message.retain() {
            self.shared.retained.set(message.clone());
        }
        self.route(message);
    }

    /// To all whose subscriptions match.
    pub(super) fn route(&mut self, message: Message) -> Routed {
        let matched = self.matched(message.topic());
        let mut routed =
            Routed { matched: !matched.filters.is_empty() || !matched.groups.is_empty(), ..Routed::default() };
        for shard in matched.shards.iter() {
            if shard != self.id {
                self.mail(shard, Mail::Publish(message.clone(), Arc::clone(&matched)));
                routed.taken = true;
            }
        }
        for seat in &matched.groups {
            routed.taken |= self.offer(seat, &message);
        }
        if message.qos() != Qos::AtMostOnce && (matched.shards.has_others_than(self.id) || !matched.groups.is_empty()) {
            // Sessions of other shards may be durable, and nobody waits for their journals: this one answers for the
            // Message until theirs have it.
            routed.position = Some(self.durable.note_message(Change::Message, &message));
        }
        if matched.shards.contains(self.id) {
            let own = self.deliver(message, &matched);
            routed.taken |= own.taken;
            routed.full |= own.full;
            routed.position = routed.position.max(own.position);
        }
        routed
    }

    pub(super) fn matched(&mut self, topic: &[u8]) -> Arc<Matched> {
        let router = &self.shared.router;
        self.cache.get_or_search(topic, &router.epochs, || Arc::new(router.search(topic)))
    }

    /// To the subscribers that live in this shard.
    pub(super) fn deliver(&mut self, message: Message, matched: &Arc<Matched>) -> Routed {
        let origin = message.origin();
        let outgoing = Outgoing::new(message);
        let receivers = || {
            matched
                .filters
                .iter()
                .filter_map(|filter| self.subscribers.get(filter))
                .map(|subscribers| subscribers.len())
                .sum::<usize>()
        };
        let behind = !self.fanouts.is_empty() && self.fanouts_of.contains_key(&origin);
        if behind || receivers() > DIRECT_MAX {
            // Kept in order behind what the same publisher has under way.
            self.begin_fanout(outgoing, matched, origin);
            return Routed { taken: true, ..Routed::default() };
        }
        let mut routed = Routed::default();
        for place in 0..matched.filters.len() {
            let filter = matched.filters[place];
            let Some(subscribers) = self.subscribers.get(&filter) else { continue };
            for index in (0..subscribers.len()).rev() {
                self.deliver_to(filter, index, matched, &outgoing, false, &mut routed);
            }
        }
        routed
    }

    /// To one subscriber of one filter. A Client with several matching subscriptions gets one copy, by the first of them (in
    /// a fan-out: by the one that is met first), with the highest QoS [MQTT-3.3.4-2] and all Subscription Identifiers [MQTT-3.3.4-4].
    fn deliver_to(
        &mut self,
        filter: FilterId,
        index: usize,
        matched: &Matched,
        outgoing: &Rc<Outgoing>,
        bulk: bool,
        routed: &mut Routed,
    ) {
        let Some(subscriber) = self.subscribers.get(&filter).and_then(|subscribers| subscribers.get(index)) else {
            return;
        };
        let slot = subscriber.slot;
        let message = &outgoing.message;
        let Some(client) = self.clients.get_mut(slot) else { return };
        let mut how = How {
            qos: subscriber.qos(),
            retain: message.retain() && subscriber.retain_as_published(), // [MQTT-3.3.1-12] [MQTT-3.3.1-13]
            subscription_id: subscriber.subscription_id,
            group: GroupId::NONE,
            bound: Bound::Queue,
        };
        let own = message.origin() == client.origin;
        let mut echo = own && subscriber.no_local(); // [MQTT-3.8.3-3]
        let mut several = None;
        if matched.filters.len() > 1 && client.subscriptions.len() > 1 {
            let mut identifiers: Vec<u32> = Vec::new();
            let mut first = None;
            (how.qos, how.retain, echo) = (Qos::AtMostOnce, false, true);
            for other in &matched.filters {
                let Ok(place) = client.subscriptions.binary_search_by_key(other, |subscription| subscription.filter)
                else {
                    continue;
                };
                first = first.or(Some(*other));
                let place = client.subscriptions[place].place as usize;
                let Some(one) = self.subscribers.get(other).and_then(|subscribers| subscribers.get(place)) else {
                    continue;
                };
                if own && one.no_local() {
                    continue;
                }
                echo = false;
                how.qos = how.qos.max(one.qos());
                how.retain |= message.retain() && one.retain_as_published();
                if one.subscription_id != 0 {
                    identifiers.push(one.subscription_id);
                }
            }
            if !bulk && first != Some(filter) {
                return; // served by another of its filters
            }
            how.subscription_id = identifiers.first().copied().unwrap_or(0);
            if identifiers.len() > 1 {
                several = Some(Rc::new(Outgoing { message: message.clone(), subscription_ids: identifiers.into() }));
            }
        }
        if echo {
            return;
        }
        how.qos = how.qos.min(message.qos()); // [MQTT-3.8.4-8]
        let crowded = self.level == Level::High
            && how.qos == Qos::AtMostOnce
            && client.session.waiting().1 > self.shared.settings.session.queue_qos0_bytes_max / 4;
        if crowded || self.level == Level::Full || (how.qos == Qos::AtMostOnce && self.level == Level::Critical) {
            routed.full = true;
            return self.count_drop(slot, Dropped::QueueFull);
        }
        let durable = how.qos != Qos::AtMostOnce && client.is_durable();
        match client.session.push(several.as_ref().unwrap_or(outgoing), how, &self.shared.settings.session, self.now) {
            Ok(()) => {
                routed.taken = true;
                if durable && routed.position.is_none() {
                    routed.position = Some(self.durable.note_message(Change::Message, message));
                }
                if bulk { self.mark_dirty_bulk(slot) } else { self.mark_dirty(slot) }
            }
            Err(reason) => {
                routed.full |= reason == Dropped::QueueFull;
                // Being away takes nothing from a QoS 0 Message: nobody promised it.
                routed.taken |= reason == Dropped::Offline;
                self.count_drop(slot, reason);
            }
        }
    }

    // --- fan-outs -------------------------------------------------------------------------------------------------

    fn begin_fanout(&mut self, outgoing: Rc<Outgoing>, matched: &Arc<Matched>, origin: Origin) {
        self.fanout_number += 1;
        *self.fanouts_of.entry(origin).or_default() += 1;
        let filters = matched.filters.len();
        self.fanouts.push_back(Fanout {
            outgoing,
            matched: Arc::clone(matched),
            number: self.fanout_number,
            filters,
            subscribers: None,
        });
        self.wants_tick = true;
    }

    pub(super) fn run_fanouts(&mut self, mut budget: usize) {
        while budget > 0 {
            let Some(mut fanout) = self.fanouts.pop_front() else { return };
            if self.run_fanout(&mut fanout, &mut budget) {
                let origin = fanout.outgoing.message.origin();
                if let Some(count) = self.fanouts_of.get_mut(&origin) {
                    *count -= 1;
                    if *count == 0 {
                        self.fanouts_of.remove(&origin);
                    }
                }
            } else {
                self.fanouts.push_front(fanout);
            }
        }
    }

    /// `true`: done.
    fn run_fanout(&mut self, fanout: &mut Fanout, budget: &mut usize) -> bool {
        let mut routed = Routed::default();
        while fanout.filters > 0 {
            let filter = fanout.matched.filters[fanout.filters - 1];
            let count = self.subscribers.get(&filter).map_or(0, |subscribers| subscribers.len());
            let mut left = fanout.subscribers.unwrap_or(count).min(count);
            while left > 0 {
                if *budget == 0 {
                    fanout.subscribers = Some(left);
                    return false;
                }
                *budget -= 1;
                left -= 1;
                let slot = self
                    .subscribers
                    .get(&filter)
                    .and_then(|subscribers| subscribers.get(left))
                    .map(|subscriber| subscriber.slot);
                let seen = slot
                    .and_then(|slot| self.clients.get(slot))
                    .is_some_and(|client| client.fanout_seen == fanout.number);
                if let Some(slot) = slot
                    && !seen
                {
                    if let Some(client) = self.clients.get_mut(slot) {
                        client.fanout_seen = fanout.number;
                    }
                    self.deliver_to(filter, left, &fanout.matched, &fanout.outgoing, true, &mut routed);
                }
            }
            fanout.filters -= 1;
            fanout.subscribers = None;
        }
        true
    }
}
