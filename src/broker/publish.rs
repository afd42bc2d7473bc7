//! May it be published, is it retained, who subscribes; into each Session, then the journal, then the answer.
//!
//! A Message reaches the subscribers of its own shard at once and those of others by mail, both in the order in which its
//! publisher sent it. More receivers than one tick should serve become a [`Fanout`], first come, first served.
//! `session/deliver.rs` is where it goes next.

use super::budget::Level;
use super::client::{Client, Will};
use super::durable::{Durable, Say, Until, is_kept};
use super::flush::Flushes;
use super::mail::{Exchange, Mail, Route};
use super::recall;
use super::retained::Kept;
use super::rights::publishing;
use super::router::{FilterId, Matched};
use super::shard::{Attachment, Shard, Wire};
use super::slab::Slab;
use super::subscribe::{Subscriber, Subscribers};
use super::sys::Statistics;
use super::{Durability, Shared};
use crate::access::Verdict;
use crate::codec::{Message, Moment, Origin, Qos, ReasonCode};
use crate::faults::{Fault, is_left_out};
use crate::session::{Answer, Arrived, Bound, Dropped, GroupId, How, Limits, Outgoing};
use foldhash::fast::RandomState;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

/// Receivers up to which a Message is delivered at once.
const DIRECT_MAX: usize = 256;
/// Filters up to which that is so: a Client that has all of them is looked up once for each of them.
const DIRECT_FILTERS_MAX: usize = 32;
/// Filters that match a Topic which is remembered with them: the memory for all such Topics of a shard is bounded by this.
const CACHED_FILTERS_MAX: usize = 256;
/// Bytes that may wait for a Client that keeps up with what is sent to it.
const KEEPS_UP_BYTES: usize = 4 << 10;
/// Bytes that it may not have acknowledged yet, if all Messages on their way to it are as large as the next.
const KEEPS_UP_IN_FLIGHT_BYTES: usize = 16 << 10;

/// A Message on its way to many receivers. Lists are walked from the end to the start: a subscriber who leaves meanwhile can
/// only move one who was served already, and `Client::fanout_seen` knows those.
pub(super) struct Fanout {
    outgoing: Rc<Outgoing>,
    matched: Arc<Matched>,
    number: u64,
    /// Filters still to be walked, the last one first, and subscribers of that one still to be served.
    filters: usize,
    subscribers: Option<usize>,
    route: Route,
    /// Sessions that have it, of an exchange.
    takers: Vec<u64>,
}

impl Fanout {
    /// The number of the Message, if it is one of this shard's.
    pub(super) fn route_from(&self, shard: usize) -> Option<u64> {
        (self.route.number != 0 && usize::from(self.route.from.0) == shard).then_some(self.route.number)
    }
}

/// What routing came to.
#[derive(Clone, Copy, Default)]
pub(super) struct Routed {
    matched: bool,
    /// Some Session has taken it, or will.
    pub(super) taken: bool,
    /// A queue was full.
    pub(super) full: bool,
    /// Receivers here get it in later ticks.
    deferred: bool,
    /// Shards that have to be done with it before its publisher is told, as bits.
    needs: u64,
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
        let hash = self.shared.router.epochs.hash(message.topic());
        let Some(client) = self.clients.get_mut(me.slot).filter(|client| client.attachment == me.number) else {
            return;
        };
        let knows_reasons = client.session.terms().version.is_v5();
        let writer = message.retain().then(|| Arc::clone(&client.identity));
        let check = [Fault::PublishQos0, Fault::PublishQos1, Fault::PublishQos2][message.qos() as usize];
        if client.may_publish(&self.access, &message, hash) == Verdict::Denied && !is_left_out(check) {
            self.note_denial(me.slot, publishing(&message));
            return self.answer(me, answer, ReasonCode::NotAuthorized);
        }
        if let Some(rate) = self.access.rate(&client.identity, publishing(&message)) {
            client.pace.spend_ns(self.now, self.costs.extra_ns(rate));
        }
        let kept_as = client.kept_as;
        if self.durable.is_in_trouble()
            && knows_reasons
            && answer != Answer::None
            && self.is_for_the_disk(&message, hash, kept_as)
        {
            return self.answer(me, answer, ReasonCode::QuotaExceeded);
        }
        // Whoever can be told, is; for the others the Message goes to those who are there, and is not kept.
        if let Some(writer) = writer {
            let retained = match answer {
                Answer::None => self.retain_untold(&message, writer),
                _ => self.retain(&message, writer),
            };
            if let Err(reason) = retained
                && answer != Answer::None
                && knows_reasons
            {
                return self.answer(me, answer, reason);
            }
        }
        if self.durable.is_on() {
            return self.publish_durably(me, message, answer, hash, kept_as);
        }
        let routed = self.route(message, hash);
        if answer != Answer::None {
            self.answer(me, answer, routed.reason());
        }
    }

    /// An Application Message is ours once it is in every matching Session [MQTT-4.5.0-1] and the journal has it.
    fn publish_durably(&mut self, me: Attachment, message: Message, answer: Answer, hash: u64, kept_as: u64) {
        let about = message.clone();
        let exchange = match answer {
            Answer::PubRec(packet_id) if kept_as != 0 => Some(Exchange { session: kept_as, packet_id }),
            _ => None,
        };
        self.durable.begin_exchange(exchange);
        let routed = self.route(message, hash);
        let mut until = Until { needs: routed.needs, ..Until::default() };
        if let Some(exchange) = exchange {
            let is_on_its_way = routed.needs != 0;
            self.durable.receive(exchange, &about, is_on_its_way);
            until.received = is_on_its_way.then_some(exchange);
        } else if routed.needs != 0 {
            until.held = self.durable.hold(self.id);
        }
        until.safety = Some(self.durable.safety());
        let is_passing = self.durable.is_passing();
        until.position = self.durable.commit(Some(&about)).filter(|_| !is_passing);
        if answer == Answer::None {
            return;
        }
        if self.durable.is_open(&until, || self.clients.get(me.slot).map_or(0, |client| client.unanswered)) {
            self.answer(me, answer, routed.reason());
        } else {
            self.durable.wait(until, me, Say::Answer(answer, routed.reason()));
            if let Some(client) = self.clients.get_mut(me.slot) {
                client.unanswered = client.unanswered.saturating_add(1);
            }
            self.wants_tick = true;
        }
    }

    /// Whether something of this Message would have to be kept. Of other shards' Sessions nobody knows: it may be.
    #[cold]
    fn is_for_the_disk(&mut self, message: &Message, hash: u64, publisher: u64) -> bool {
        if self.is_passing(message) {
            return false;
        }
        if message.retain() || (publisher != 0 && message.qos() == Qos::ExactlyOnce) {
            return true;
        }
        let matched = self.matched(message.topic(), hash);
        let is_durable = |subscriber: &Subscriber| {
            subscriber.qos() != Qos::AtMostOnce
                && self.clients.get(subscriber.slot).is_some_and(|client| client.kept_as != 0)
        };
        matched.reach.has_others_than(self.id)
            || matched.groups.iter().any(|seat| seat.kept_as() != 0)
            || matched
                .filters
                .iter()
                .filter_map(|filter| self.subscribers.get(filter))
                .any(|subscribers| subscribers.list().iter().any(is_durable))
    }

    /// Whether the rules say that nothing of this Message is to be kept.
    pub(super) fn is_passing(&mut self, message: &Message) -> bool {
        if self.shared.settings.durability.is_empty() || message.qos() == Qos::ExactlyOnce {
            return false;
        }
        let hash = self.shared.router.epochs.hash(message.topic());
        self.matched(message.topic(), hash).durability == Durability::Memory
    }

    /// Tells the publisher. If it has gone meanwhile, a QoS 2 exchange is still remembered for its return.
    pub(super) fn answer(&mut self, me: Attachment, answer: Answer, reason: ReasonCode) {
        let Some(client) = self.clients.get_mut(me.slot) else { return };
        match answer {
            _ if client.attachment == me.number => client.session.answer(answer, reason),
            Answer::PubRec(packet_id) => client.session.answer_late(packet_id, reason),
            _ => return,
        }
        self.mark_dirty(me.slot);
    }

    /// The Will of a Client that has gone. Rights are asked again: they may have changed since CONNECT.
    pub(super) fn publish_will(&mut self, slot: u32, will: &Will) {
        let Some(client) = self.clients.get(slot) else { return };
        let writer = Arc::clone(&client.identity);
        if self.access.is_banned(&writer, self.now) && !is_left_out(Fault::BanWill) {
            return;
        }
        let check = if will.delay.is_zero() { Fault::Will } else { Fault::DelayedWill };
        if self.access.decide(&writer, publishing(&will.message)) == Verdict::Denied && !is_left_out(check) {
            return self.note_denial(slot, publishing(&will.message));
        }
        let message = will.message.at(self.now); // its Message Expiry Interval begins now
        if message.retain() {
            let _ = self.retain_untold(&message, writer); // [MQTT-3.1.2-15]; a full store is counted there
        }
        let hash = self.shared.router.epochs.hash(message.topic());
        let about = self.durable.is_on().then(|| message.clone());
        let routed = self.route(message, hash);
        if let Some(about) = about {
            let held = if routed.needs != 0 { self.durable.hold(self.id) } else { None };
            let safety = Some(self.durable.safety());
            let position = self.durable.commit(Some(&about));
            if held.is_some() {
                let until = Until { needs: routed.needs, held, position, safety, ..Until::default() };
                let nobody = Attachment { slot, number: 0 };
                self.durable.wait(until, nobody, Say::Nothing);
            }
        }
    }

    /// The broker's own Messages.
    pub(super) fn publish_own(&mut self, message: Message) {
        if message.retain() {
            self.shared.retained.set(Kept { message: message.clone(), writer: None, share: None });
        }
        let hash = self.shared.router.epochs.hash(message.topic());
        self.route(message, hash);
        self.durable.begin_message(Durability::Usual, Qos::AtMostOnce);
    }

    /// To all whose subscriptions match. `hash` is the Topic's.
    fn route(&mut self, message: Message, hash: u64) -> Routed {
        let matched = self.matched(message.topic(), hash);
        let mut routed =
            Routed { matched: !matched.filters.is_empty() || !matched.groups.is_empty(), ..Routed::default() };
        // Sessions that the store knows may be anywhere: those who publish wait until all shards have told it.
        let is_kept = self.durable.is_on()
            && self.durable.begin_message(matched.durability, message.qos())
            && message.qos() != Qos::AtMostOnce
            && (!matched.filters.is_empty() || matched.groups.iter().any(|seat| seat.kept_as() != 0));
        let route =
            if is_kept { self.durable.next_route(self.id) } else { Route { from: self.id, number: 0, exchange: None } };
        let mut others = 0;
        for shard in matched.reach.iter() {
            if shard != self.id {
                self.mail(shard, Mail::Publish(message.clone(), Arc::clone(&matched), route));
                routed.taken = true;
                others += 1;
                routed.needs |= u64::from(is_kept) << shard.0;
            }
        }
        if !matched.groups.is_empty() {
            let own = self.offer(&matched, &message);
            routed.taken |= own.taken;
            routed.full |= own.full;
            // Its home may be done with it before others there are.
            others += usize::from(!matched.filters.is_empty());
        }
        if matched.shards.contains(self.id) {
            let about = (is_kept && others > 0).then(|| message.clone());
            let own = self.deliver(message, &matched, &route);
            routed.taken |= own.taken;
            routed.full |= own.full;
            routed.needs |= u64::from(is_kept && own.deferred) << self.id.0;
            others += usize::from(own.deferred);
            if let Some(about) = about.filter(|_| others > 1) {
                self.durable.blob(&about); // once for all, before several of them do so
            }
        } else if is_kept && others > 1 {
            self.durable.blob(&message);
        }
        if is_kept {
            self.durable.take_in(route);
        }
        routed
    }

    pub(super) fn matched(&mut self, topic: &[u8], hash: u64) -> Arc<Matched> {
        let router = &self.shared.router;
        let search = || Arc::new(router.search(topic));
        self.cache.get_or_search(topic, hash, &router.epochs, search, |found| found.filters.len() <= CACHED_FILTERS_MAX)
    }

    /// To the subscribers that live in this shard.
    pub(super) fn deliver(&mut self, message: Message, matched: &Arc<Matched>, route: &Route) -> Routed {
        let origin = message.origin();
        let outgoing = Outgoing::new(message);
        let behind = !self.fanouts.is_empty() && self.fanouts_of.contains_key(&origin);
        if behind || self.has_many_receivers(matched) {
            // Kept in order behind what the same publisher has under way.
            self.begin_fanout(outgoing, matched, origin, *route);
            return Routed { taken: true, deferred: true, ..Routed::default() };
        }
        let mut round = Round::of(self, &outgoing, matched, None);
        for filter in &matched.filters {
            let Some(subscribers) = round.subscribers.get(filter) else { continue };
            for subscriber in subscribers.list().iter().rev() {
                round.deliver(*filter, subscriber);
            }
        }
        round.routed
    }

    fn has_many_receivers(&self, matched: &Matched) -> bool {
        let mut left = DIRECT_MAX;
        matched.filters.len() > DIRECT_FILTERS_MAX
            || matched.filters.iter().filter_map(|filter| self.subscribers.get(filter)).any(|subscribers| {
                let many = subscribers.len() > left;
                left = left.saturating_sub(subscribers.len());
                many
            })
    }

    // --- fan-outs -------------------------------------------------------------------------------------------------

    fn begin_fanout(&mut self, outgoing: Rc<Outgoing>, matched: &Arc<Matched>, origin: Origin, route: Route) {
        self.fanout_number += 1;
        *self.fanouts_of.entry(origin).or_default() += 1;
        let filters = matched.filters.len();
        self.fanouts.push_back(Fanout {
            outgoing,
            matched: Arc::clone(matched),
            number: self.fanout_number,
            filters,
            subscribers: None,
            route,
            takers: self.durable.takers.clone(), // the groups have it already
        });
        self.wants_tick = true;
    }

    pub(super) fn run_fanouts(&mut self, mut budget: usize) {
        while budget > 0 {
            let Some(mut fanout) = self.fanouts.pop_front() else { return };
            self.durable.begin_exchange(fanout.route.exchange);
            self.durable.begin_message(fanout.matched.durability, fanout.outgoing.message.qos());
            self.durable.takers = std::mem::take(&mut fanout.takers);
            let is_done = self.run_fanout(&mut fanout, &mut budget);
            self.durable.note_taken(self.id);
            fanout.takers = std::mem::take(&mut self.durable.takers);
            self.durable.commit(Some(&fanout.outgoing.message));
            if is_done {
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
        let mut round = Round::of(self, &fanout.outgoing, &fanout.matched, Some(fanout.number));
        while fanout.filters > 0 {
            let filter = fanout.matched.filters[fanout.filters - 1];
            let subscribers = round.subscribers.get(&filter).map_or(&[][..], |subscribers| subscribers.list());
            let left = fanout.subscribers.unwrap_or(subscribers.len()).min(subscribers.len());
            let step = left.min(*budget);
            for subscriber in subscribers[left - step..left].iter().rev() {
                round.deliver(filter, subscriber);
            }
            *budget -= step;
            if step < left {
                fanout.subscribers = Some(left - step);
                return false;
            }
            fanout.filters -= 1;
            fanout.subscribers = None;
        }
        true
    }
}

/// One Message and those parts of the shard that delivering it needs.
struct Round<'a, W> {
    outgoing: &'a Rc<Outgoing>,
    filters: &'a [FilterId],
    /// The number of the fan-out that this is part of.
    fanout: Option<u64>,
    subscribers: &'a HashMap<FilterId, Subscribers, RandomState>,
    clients: &'a mut Slab<Client<W>>,
    flushes: &'a mut Flushes,
    durable: &'a mut Durable,
    statistics: &'a mut Statistics,
    shared: &'a Shared,
    limits: &'a Limits,
    now: Moment,
    level: Level,
    routed: Routed,
}

impl<'a, W: Wire> Round<'a, W> {
    fn of(shard: &'a mut Shard<W>, outgoing: &'a Rc<Outgoing>, matched: &'a Matched, fanout: Option<u64>) -> Self {
        Self {
            outgoing,
            filters: &matched.filters,
            fanout,
            subscribers: &shard.subscribers,
            clients: &mut shard.clients,
            flushes: &mut shard.flushes,
            durable: &mut shard.durable,
            statistics: &mut shard.statistics,
            shared: &shard.shared,
            limits: &shard.shared.settings.session,
            now: shard.now,
            level: shard.level,
            routed: Routed::default(),
        }
    }

    /// To one subscriber of one filter.
    #[inline]
    fn deliver(&mut self, filter: FilterId, subscriber: &Subscriber) {
        let slot = subscriber.slot;
        let message = &self.outgoing.message;
        let Some(client) = self.clients.get_mut(slot) else { return };
        if let Some(number) = self.fanout {
            if client.fanout_seen == number {
                return;
            }
            client.fanout_seen = number;
        }
        let mut how = How {
            qos: subscriber.qos(),
            retain: message.retain() && subscriber.retain_as_published(), // [MQTT-3.3.1-12] [MQTT-3.3.1-13]
            subscription_id: subscriber.subscription_id,
            group: GroupId::NONE,
            bound: Bound::Queue,
        };
        let mut several = None;
        if self.filters.len() > 1 && client.subscriptions.len() > 1 {
            match merge(self.subscribers, self.filters, client, message) {
                None => return,
                // Served by another of its filters.
                Some(merged) if self.fanout.is_none() && merged.first != filter => return,
                Some(merged) => {
                    how.qos = merged.qos;
                    how.retain = merged.retain;
                    how.subscription_id = merged.subscription_ids.first().copied().unwrap_or(0);
                    if merged.subscription_ids.len() > 1 {
                        let subscription_ids = merged.subscription_ids.into();
                        several = Some(Outgoing::with_ids(message.clone(), subscription_ids));
                    }
                }
            }
        } else if subscriber.no_local() && message.origin() == client.origin {
            return; // [MQTT-3.8.3-3]
        }
        how.qos = how.qos.min(message.qos()); // [MQTT-3.8.4-8]
        let is_kept = is_kept(client.kept_as, how.qos) && !self.durable.is_passing();
        if is_kept && self.durable.can_recall() {
            how.bound = recall::bound(self.level);
        } else if self.level != Level::Normal && is_too_much(self.level, how.qos, message.size(), client, self.limits) {
            self.routed.full = true;
            self.statistics.dropped.note(Dropped::QueueFull);
            return client.note_drop(Dropped::QueueFull, self.now);
        }
        let outgoing = several.as_ref().unwrap_or(self.outgoing);
        let pushed = match client.session.push(outgoing, how, self.limits) {
            Err(Dropped::QueueFull) => {
                let pushed = push_where_full(client, outgoing, how, self.shared, self.now, self.statistics);
                if client.session.is_spilled() {
                    self.durable.note_spilled(slot);
                }
                pushed
            }
            pushed => pushed,
        };
        match pushed {
            Ok(()) => {
                self.routed.taken = true;
                if is_kept {
                    self.durable.enter(client.kept_as, message, how.tag(), &outgoing.subscription_ids);
                    if client.wire.is_none() && client.session.has_changes() {
                        self.durable.note(client.kept_as, &client.session.take_changes().0, |_| 0); // what had to make room
                    }
                }
                match self.fanout {
                    None => self.flushes.mark(slot, client),
                    Some(_) => self.flushes.mark_bulk(slot, client),
                }
            }
            Err(reason) => {
                self.statistics.dropped.note(reason);
                if reason == Dropped::Offline {
                    // Being away takes nothing from a QoS 0 Message: nobody promised it, and the log says nothing of it.
                    self.routed.taken = true;
                } else {
                    self.routed.full |= reason == Dropped::QueueFull;
                    client.note_drop(reason, self.now);
                }
            }
        }
    }
}

/// There is no place in memory: what has expired makes some, or the user may have some more, or the store, or others go.
#[cold]
fn push_where_full<W>(
    client: &mut Client<W>,
    outgoing: &Rc<Outgoing>,
    how: How,
    shared: &Shared,
    now: Moment,
    statistics: &mut Statistics,
) -> Result<(), Dropped> {
    let limits = &shared.settings.session;
    statistics.dropped.note_some(Dropped::Expired, client.session.drop_expired(now));
    if how.qos != Qos::AtMostOnce {
        let identity = &client.identity;
        client.session.widen(outgoing.message.size(), limits, || shared.account_of(identity));
    }
    let pushed = client.session.push_or_spill(outgoing, how, limits);
    if pushed.is_ok() || how.qos == Qos::AtMostOnce {
        return pushed;
    }
    let dropped = client.session.push_over(outgoing, how, limits)?;
    for _ in 0..dropped {
        statistics.dropped.note(Dropped::QueueFull);
        client.note_drop(Dropped::QueueFull, now);
    }
    Ok(())
}

/// Memory is short: QoS 0 goes first. A Client that takes what it gets does not lose for the sake of those who do not.
#[cold]
fn is_too_much<W>(level: Level, qos: Qos, size: usize, client: &Client<W>, limits: &Limits) -> bool {
    let waiting = client.session.waiting().1;
    let unsettled = if qos == Qos::AtMostOnce { 0 } else { client.session.in_flight() };
    let keeps_up = client.wire.is_some()
        && client.tail.is_none()
        && waiting < KEEPS_UP_BYTES
        && unsettled * size < KEEPS_UP_IN_FLIGHT_BYTES;
    match (level, qos) {
        (Level::Full, _) | (Level::Critical, Qos::AtMostOnce) => !keeps_up,
        (Level::High, Qos::AtMostOnce) => waiting > limits.queue_qos0_bytes_max / 4,
        _ => false,
    }
}

/// Several matching subscriptions of one Client in one.
struct Merged {
    first: FilterId,
    qos: Qos,
    retain: bool,
    subscription_ids: Vec<u32>,
}

/// A Client with several matching subscriptions gets one copy, by the first of them (in a fan-out: by the one that is met
/// first), with the highest QoS [MQTT-3.3.4-2] and all Subscription Identifiers [MQTT-3.3.4-4]. `None`: nothing for it.
fn merge<W>(
    subscribers: &HashMap<FilterId, Subscribers, RandomState>,
    filters: &[FilterId],
    client: &Client<W>,
    message: &Message,
) -> Option<Merged> {
    let mut merged: Option<Merged> = None;
    let mut echo = true;
    let own = message.origin() == client.origin;
    for filter in filters {
        let Ok(place) = client.subscriptions.binary_search_by_key(filter, |subscription| subscription.filter) else {
            continue;
        };
        let merged = merged.get_or_insert_with(|| Merged {
            first: *filter,
            qos: Qos::AtMostOnce,
            retain: false,
            subscription_ids: Vec::new(),
        });
        let place = client.subscriptions[place].place as usize;
        let Some(one) = subscribers.get(filter).and_then(|subscribers| subscribers.list().get(place)) else { continue };
        if own && one.no_local() {
            continue; // [MQTT-3.8.3-3]
        }
        echo = false;
        merged.qos = merged.qos.max(one.qos());
        merged.retain |= message.retain() && one.retain_as_published();
        if one.subscription_id != 0 {
            merged.subscription_ids.push(one.subscription_id);
        }
    }
    merged.filter(|_| !echo)
}
