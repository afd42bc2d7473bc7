//! SUBSCRIBE and UNSUBSCRIBE: the verdict on each filter, the shard's own table of subscribers, and the shared tree.
//!
//! A filter is in the tree as long as some shard has a subscriber for it; who that is, only the shard knows. What is
//! retained is sent by `retained.rs`, shared subscriptions are `share.rs`.

use super::durable::{Say, Until};
use super::mail::Member;
use super::router::FilterId;
use super::shard::{Shard, Wire};
use crate::access::{Act, Verdict};
use crate::codec::{
    Options, Qos, ReasonCode, RetainHandling, Subscribe, SubscriptionFilter, Unsubscribe, Version, check_filter,
};
use crate::faults::{Fault, is_left_out};
use crate::session::Session;
use crate::store::Position;
use crate::topic::NodeId;
use smallvec::SmallVec;

/// What a Client keeps of one subscription: the filter, and its place in the list of that filter's subscribers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subscription {
    pub(super) filter: FilterId,
    pub(super) place: u32,
}

/// One subscriber of one filter: 12 bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subscriber {
    pub(super) slot: u32,
    /// 0 = none.
    pub(super) subscription_id: u32,
    qos: Qos,
    no_local: bool,
    retain_as_published: bool,
}

impl Subscriber {
    pub(super) fn qos(&self) -> Qos {
        self.qos
    }

    pub(super) fn no_local(&self) -> bool {
        self.no_local
    }

    pub(super) fn retain_as_published(&self) -> bool {
        self.retain_as_published
    }
}

/// The subscribers of one filter in this shard.
pub(super) struct Subscribers {
    node: NodeId,
    list: SmallVec<[Subscriber; 1]>,
}

impl Subscribers {
    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    pub(super) fn list(&self) -> &[Subscriber] {
        &self.list
    }
}

impl<W: Wire> Shard<W> {
    pub(super) fn subscribe(&mut self, slot: u32, subscribe: &Subscribe<'_>) {
        let before = self.durable.last();
        let mut codes = Vec::with_capacity(subscribe.filters.len());
        for (index, (filter, options)) in subscribe.filters.iter().enumerate() {
            codes.push(if index < self.shared.settings.session.filters_per_subscribe_max {
                self.subscribe_one(slot, filter, options, subscribe.subscription_id.unwrap_or(0))
            } else {
                ReasonCode::QuotaExceeded
            });
        }
        // [MQTT-3.8.4-1] [MQTT-3.8.4-5]
        self.say_when_safe(slot, before, |session| session.subscribed(subscribe.packet_id, &codes));
    }

    /// Says it once what has changed is safe, since the journal of this shard ended at `before`.
    fn say_when_safe(&mut self, slot: u32, before: Position, say: impl FnOnce(&mut Session)) {
        self.durable.commit(None);
        let last = self.durable.last();
        let until = Until { position: (last != before).then_some(last), ..Until::default() };
        let Some(client) = self.clients.get_mut(slot) else { return };
        let said = client.session.control_len();
        say(&mut client.session);
        if !self.durable.is_open(&until, || client.unanswered) {
            let me = client.attached(slot);
            client.unanswered = client.unanswered.saturating_add(1);
            self.durable.wait(until, me, Say::Granted(client.session.take_back(said)));
            self.wants_tick = true;
        }
    }

    fn subscribe_one(&mut self, slot: u32, text: &str, options: Options, subscription_id: u32) -> ReasonCode {
        let settings = &self.shared.settings;
        let parsed = match check_filter(text, settings.session.topic) {
            Ok(parsed) => parsed,
            Err(reason) => return reason,
        };
        if parsed.share.is_some() && !settings.shared_subscription_available {
            return ReasonCode::SharedSubscriptionsNotSupported;
        }
        if !settings.wildcard_subscription_available && memchr::memchr2(b'+', b'#', parsed.filter.as_bytes()).is_some()
        {
            return ReasonCode::WildcardSubscriptionsNotSupported;
        }
        let Some(client) = self.clients.get(slot) else { return ReasonCode::UnspecifiedError };
        let act = Act::Subscribe { filter: parsed.filter.as_bytes() };
        let check = if parsed.share.is_some() { Fault::SubscribeShared } else { Fault::Subscribe };
        if self.access.decide(&client.identity, act) == Verdict::Denied && !is_left_out(check) {
            self.note_denial(slot, act);
            return ReasonCode::NotAuthorized;
        }
        let room = client.subscriptions.len() + client.shares().len() < settings.subscriptions_per_session_max;
        let known = match parsed.share {
            Some(share) => client
                .shares()
                .iter()
                .any(|(seat, _)| *seat.name == *share && *seat.filter == *parsed.filter.as_bytes()),
            None => self.find_subscription(slot, parsed.filter.as_bytes()).is_some(),
        };
        if !known && !room {
            return ReasonCode::QuotaExceeded;
        }
        let kept_as = client.kept_as;
        let terms = client.session.terms();
        // What a bridge of 3.x means without saying it. With No Local, a Message could vanish in a shared subscription.
        let version = terms.version;
        let is_bridge = terms.bridge && version != Version::V5 && parsed.share.is_none();
        let options = Options {
            no_local: options.no_local || is_bridge,
            retain_as_published: options.retain_as_published || is_bridge,
            ..options
        };
        if let Some(client) = self.clients.get_mut(slot) {
            client.note_subscribed(&self.access, parsed.filter.as_bytes());
        }
        if kept_as != 0 && version.is_v5() && self.durable.is_in_trouble() {
            return ReasonCode::QuotaExceeded; // others wait for it
        }
        if kept_as != 0 {
            self.durable.subscribe(kept_as, text, options, subscription_id);
        }
        match parsed.share {
            Some(share) => self.join_share(slot, share, parsed.filter.as_bytes(), options, subscription_id),
            None => self.add_subscription(slot, &parsed, options, subscription_id, known),
        }
        match options.qos {
            Qos::AtMostOnce => ReasonCode::GrantedQos0, // [MQTT-3.8.4-7]
            Qos::AtLeastOnce => ReasonCode::GrantedQos1,
            Qos::ExactlyOnce => ReasonCode::GrantedQos2,
        }
    }

    pub(super) fn add_subscription(
        &mut self,
        slot: u32,
        parsed: &SubscriptionFilter<'_>,
        options: Options,
        subscription_id: u32,
        known: bool,
    ) {
        let filter = parsed.filter.as_bytes();
        let Options { qos, no_local, retain_as_published, .. } = options;
        let subscriber = Subscriber { slot, subscription_id, qos, no_local, retain_as_published };
        if known {
            // Replaced in place: no Message is lost in between [MQTT-3.8.4-3] [MQTT-3.8.4-4].
            if let Some((id, place)) = self.find_subscription(slot, filter)
                && let Some(subscribers) = self.subscribers.get_mut(&id)
                && let Some(entry) = subscribers.list.get_mut(place)
            {
                *entry = subscriber;
            }
        } else {
            // The shard's bit is set and the caches are told before the list has the entry and SUBACK is sent.
            let (id, node) = self.shared.router.subscribe(filter, self.id);
            let subscribers = self.subscribers.entry(id).or_insert_with(|| Subscribers { node, list: SmallVec::new() });
            let place = subscribers.list.len() as u32;
            subscribers.list.push(subscriber);
            if let Some(client) = self.clients.get_mut(slot) {
                let at = client.subscriptions.partition_point(|subscription| subscription.filter < id);
                client.subscriptions.insert(at, Subscription { filter: id, place });
            }
            self.statistics.subscriptions += 1;
        }
        let replay = match options.retain_handling {
            RetainHandling::Send => true,        // [MQTT-3.3.1-9]
            RetainHandling::SendIfNew => !known, // [MQTT-3.3.1-10]
            RetainHandling::DoNotSend => false,  // [MQTT-3.3.1-11]
        };
        if replay {
            self.begin_replay(slot, filter, &subscriber, known);
        }
    }

    /// The filter's number and the subscriber's place in its list, if this Client subscribes to this very filter.
    fn find_subscription(&self, slot: u32, filter: &[u8]) -> Option<(FilterId, usize)> {
        let client = self.clients.get(slot)?;
        if client.subscriptions.is_empty() {
            return None;
        }
        let id = self.shared.router.find(filter)?;
        let at = client.subscriptions.binary_search_by_key(&id, |subscription| subscription.filter).ok()?;
        Some((id, client.subscriptions[at].place as usize))
    }

    pub(super) fn unsubscribe(&mut self, slot: u32, unsubscribe: &Unsubscribe<'_>) {
        let before = self.durable.last();
        let mut codes = Vec::with_capacity(unsubscribe.filters.len());
        for text in unsubscribe.filters.iter() {
            codes.push(self.unsubscribe_one(slot, text));
        }
        // [MQTT-3.10.4-4] [MQTT-3.10.4-5]
        self.say_when_safe(slot, before, |session| session.unsubscribed(unsubscribe.packet_id, &codes));
    }

    /// What was queued or begun stays and is finished [MQTT-3.10.4-3].
    fn unsubscribe_one(&mut self, slot: u32, text: &str) -> ReasonCode {
        let parsed = match check_filter(text, self.shared.settings.session.topic) {
            Ok(parsed) => parsed,
            Err(reason) => return reason,
        };
        let removed = match parsed.share {
            Some(share) => self.leave_share(slot, share, parsed.filter.as_bytes()),
            None => match self.find_subscription(slot, parsed.filter.as_bytes()) {
                Some((id, _)) => {
                    self.remove_subscription(slot, id);
                    self.forget_replays(slot, parsed.filter.as_bytes());
                    true
                }
                None => false,
            },
        };
        if !removed {
            return ReasonCode::NoSubscriptionExisted;
        }
        self.note_unsubscribed(slot, text.as_bytes());
        ReasonCode::Success
    }

    pub(super) fn note_unsubscribed(&mut self, slot: u32, filter: &[u8]) {
        if let Some(client) = self.clients.get(slot)
            && client.kept_as != 0
        {
            self.durable.unsubscribe(client.kept_as, filter);
        }
    }

    /// The text of a filter that somebody of this shard subscribes to.
    pub(super) fn filter_text(&self, id: FilterId) -> Option<Vec<u8>> {
        self.subscribers.get(&id).map(|subscribers| self.shared.router.filter_of(subscribers.node))
    }

    /// Takes one subscriber out of its list; the last one of the list moves into the gap.
    pub(super) fn remove_subscription(&mut self, slot: u32, id: FilterId) {
        let Some(client) = self.clients.get_mut(slot) else { return };
        let Ok(at) = client.subscriptions.binary_search_by_key(&id, |subscription| subscription.filter) else { return };
        let place = client.subscriptions.remove(at).place as usize;
        let Some(subscribers) = self.subscribers.get_mut(&id) else { return };
        if place < subscribers.list.len() {
            subscribers.list.swap_remove(place);
            self.statistics.subscriptions -= 1;
        }
        if let Some(moved) = subscribers.list.get(place)
            && let Some(client) = self.clients.get_mut(moved.slot)
            && let Ok(at) = client.subscriptions.binary_search_by_key(&id, |subscription| subscription.filter)
        {
            client.subscriptions[at].place = place as u32;
        }
        if subscribers.list.is_empty() {
            let node = subscribers.node;
            self.subscribers.remove(&id);
            self.shared.router.unsubscribe(node, self.id);
        } else if subscribers.list.spilled() && subscribers.list.len() * 4 < subscribers.list.capacity() {
            subscribers.list.shrink_to_fit();
        }
    }

    /// A Session ends: nothing of it stays in any list.
    pub(super) fn remove_all_subscriptions(&mut self, slot: u32) {
        while let Some(last) = self.clients.get(slot).and_then(|client| client.subscriptions.last().copied()) {
            self.remove_subscription(slot, last.filter);
        }
        self.leave_all_shares(slot);
    }

    pub(super) fn member(&self, slot: u32, options: Options, subscription_id: u32) -> Option<Member> {
        let client = self.clients.get(slot)?;
        let terms = client.session.terms();
        Some(Member {
            session: self.reference(slot),
            qos: options.qos,
            retain_as_published: options.retain_as_published,
            subscription_id,
            window: u32::from(terms.receive_maximum).min(super::share::WINDOW_MAX),
            packet_size_max: terms.packet_size_max,
            online: client.wire.is_some(),
        })
    }
}
