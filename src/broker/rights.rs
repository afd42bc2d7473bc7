//! What a Client may do: asked of the rules in force, remembered for the Topics that come again, asked anew when they change.
//!
//! [`Access::decide`] is the one place that decides. Here is who calls it for a Client, and how a reload reaches Sessions:
//! decisions are remembered under the version of the rights that made them, and after a change every Session is looked at,
//! a few in each tick.

use super::client::Client;
use super::router::share_text;
use super::shard::{DENIED, Shard, Wire, may_log};
use crate::access::{Access, Act, Coverage, Identity, Proof, Verdict};
use crate::codec::{Message, ReasonCode};
use crate::faults::{Fault, is_left_out};
use crate::notice::Outside;
use crate::session::Outgoing;
use std::cell::Cell;

/// Sessions that are looked at in one tick after the rights have changed.
const REVIEWS_PER_TICK: u32 = 256;
/// Decisions that a Client has in memory.
const PLACES: usize = 8;

/// Decisions about one Client that need not be made again while the rights are the same.
pub(super) struct Decisions {
    version: u64,
    /// Whatever it subscribes to it may receive, each Topic of it. So it has been from the first subscription on, so that
    /// nothing can wait for it that it may not receive.
    reads_all: bool,
    /// Hashes of what was asked about; the lowest bit is the verdict.
    known: [Cell<u64>; PLACES],
}

/// Stirred into the hash of a Topic, so that one act is not taken for another.
const RECEIVING: u64 = 0x6A09_E667_F3BC_C908;
const PUBLISHING: u64 = 0xBB67_AE85_84CA_A73B;

/// Whose a Session is. It belongs to the user that made it, if that one has proved who it is.
pub(super) enum Owner {
    Comer,
    /// Whoever made it has proved nothing: it may be replaced, but is not handed over.
    Nobody,
    /// Nobody but its user resumes, takes over or deletes it.
    Another,
}

impl Decisions {
    fn new(version: u64, reads_all: bool) -> Self {
        Self { version, reads_all, known: Default::default() }
    }

    /// Whether these rights are the ones in force.
    #[inline]
    fn holds_under(&self, access: &Access) -> bool {
        self.version == access.version() || is_left_out(Fault::DecisionVersion)
    }

    /// The keyed hash stands for the Topic: who could find two that have the same could also guess the key.
    #[inline]
    fn recalled(&self, key: u64) -> Option<Verdict> {
        let known = self.place(key).get();
        let verdict = if known & 1 == 1 { Verdict::Allowed } else { Verdict::Denied };
        (known | 1 == key | 1).then_some(verdict)
    }

    fn remember(&self, key: u64, verdict: Verdict) -> Verdict {
        self.place(key).set(if verdict == Verdict::Allowed { key | 1 } else { key & !1 });
        verdict
    }

    #[inline]
    fn place(&self, key: u64) -> &Cell<u64> {
        &self.known[(key >> 32) as usize % PLACES]
    }
}

impl<W> Client<W> {
    /// Whether it may publish this. `hash` is the Topic's.
    #[inline]
    pub(super) fn may_publish(&mut self, access: &Access, message: &Message, hash: u64) -> Verdict {
        let act = publishing(message);
        if let Some(verdict) = access.decide_at_once(&self.identity, act) {
            return verdict;
        }
        self.decisions(access);
        let Some(decisions) = &self.decisions else { return Verdict::Denied };
        let how = u64::from(message.qos() as u8) << 2 | u64::from(message.retain()) << 1;
        let how = if is_left_out(Fault::DecisionAct) { 0 } else { how };
        let key = hash ^ PUBLISHING ^ how;
        decisions.recalled(key).unwrap_or_else(|| decisions.remember(key, access.decide(&self.identity, act)))
    }

    /// Whether it may receive whatever is for it, under the rights in force, so that no Message need be asked about.
    #[inline]
    pub(super) fn reads_all(&mut self, access: &Access) -> bool {
        match &self.decisions {
            Some(decisions) if decisions.holds_under(access) => decisions.reads_all,
            _ => access.is_open_to(&self.identity) || self.decisions(access).reads_all,
        }
    }

    /// Decisions under the rights in force; those of former rights are of no use any more.
    pub(super) fn decisions(&mut self, access: &Access) -> &mut Decisions {
        if !self.decisions.as_ref().is_some_and(|decisions| decisions.holds_under(access)) {
            let nothing_to_read = self.subscriptions.is_empty()
                && self.shares().is_empty()
                && self.session.waiting().0 == 0
                && self.session.in_flight() == 0;
            self.decisions = Some(Box::new(Decisions::new(access.version(), nothing_to_read)));
        }
        self.decisions.get_or_insert_with(|| Box::new(Decisions::new(access.version(), false))) // it is there
    }

    /// It subscribes to this filter, which it may.
    pub(super) fn note_subscribed(&mut self, access: &Access, filter: &[u8]) {
        if !access.is_open_to(&self.identity) && self.decisions(access).reads_all {
            let covered = access.covers(&self.identity, filter) == Coverage::Everything || is_left_out(Fault::ReadsAll);
            self.decisions(access).reads_all = covered;
        }
    }
}

/// Whether this Client may receive a Message now. Asked when the Message is encoded, on whichever way it came. Not inlined into
/// each of these ways: where there are no rules it is not called, and should cost nothing.
#[inline(never)]
pub(super) fn may_receive(
    access: &Access,
    who: &Identity,
    decisions: Option<&Decisions>,
    outgoing: &Outgoing,
    hash: impl FnOnce(&[u8]) -> u64,
) -> bool {
    let decide = || access.decide(who, Act::Receive { topic: outgoing.message.topic() });
    let verdict = match decisions.filter(|decisions| decisions.holds_under(access)) {
        Some(decisions) if decisions.reads_all => Verdict::Allowed,
        Some(decisions) => {
            let act = if is_left_out(Fault::DecisionAct) { PUBLISHING } else { RECEIVING };
            let key = outgoing.topic_hash(hash) ^ act;
            decisions.recalled(key).unwrap_or_else(|| decisions.remember(key, decide()))
        }
        None => decide(),
    };
    verdict == Verdict::Allowed
}

pub(super) fn publishing(message: &Message) -> Act<'_> {
    Act::Publish { topic: message.topic(), qos: message.qos(), retain: message.retain() }
}

impl<W: Wire> Shard<W> {
    /// Counts a denial and says in the log which rule it was.
    #[cold]
    pub(super) fn note_denial(&mut self, slot: u32, act: Act<'_>) {
        self.statistics.denied.note(&act);
        let Some(client) = self.clients.get(slot) else { return };
        if !may_log(&DENIED, self.now) {
            return;
        }
        let (what, topic) = match act {
            Act::Publish { topic, .. } => ("publish", topic),
            Act::Subscribe { filter } => ("subscribe", filter),
            Act::Receive { topic } => ("receive", topic),
        };
        tracing::info!(
            target: "waypost::access",
            client = %Outside::of(client.id().as_bytes()),
            user = %Outside::of(client.identity.user_name.as_deref().unwrap_or_default().as_bytes()),
            topic = %Outside::of(topic),
            why = %self.access.explain(&client.identity, act),
            "{what} denied"
        );
    }

    /// The rights have changed: every Session will be looked at.
    pub(super) fn begin_review(&mut self) {
        self.review = Some(0);
        self.wants_tick = true;
    }

    pub(super) fn run_review(&mut self) {
        let Some(first) = self.review else { return };
        let end = self.clients.end().min(first.saturating_add(REVIEWS_PER_TICK));
        for slot in first..end {
            self.review_one(slot);
        }
        self.review = (end < self.clients.end()).then_some(end);
    }

    /// Whoever is banned or not known any more leaves, and its Session with it.
    fn review_one(&mut self, slot: u32) {
        let access = std::sync::Arc::clone(&self.access);
        let Some(client) = self.clients.get(slot) else { return };
        let (ban, account) = match client.wire {
            Some(_) => (Fault::Ban, Fault::Account),
            None => (Fault::BanAway, Fault::AccountAway),
        };
        if access.is_banned(&client.identity, self.now) && !is_left_out(ban) {
            let why = access.banned(&client.identity, self.now).map(|ban| ban.to_string()).unwrap_or_default();
            return self.send_away(slot, ReasonCode::AdministrativeAction, &why);
        }
        if !access.knows(&client.identity) && !is_left_out(account) {
            return self.send_away(slot, ReasonCode::NotAuthorized, "the account is gone or has changed");
        }
        self.review_subscriptions(slot);
    }

    fn send_away(&mut self, slot: u32, reason: ReasonCode, why: &str) {
        let Some(client) = self.clients.get(slot) else { return };
        tracing::info!(
            target: "waypost::access",
            client = %Outside::of(client.id().as_bytes()),
            user = %Outside::of(client.identity.user_name.as_deref().unwrap_or_default().as_bytes()),
            "Session ended: {why}"
        );
        let me = client.attached(slot);
        self.say_and_end(me, reason, None);
        if self.clients.get(slot).is_some_and(|client| client.attached(slot) == me) {
            self.end_session(slot);
        }
    }

    /// Subscriptions go that would not be granted now, and the journal is told.
    pub(super) fn review_subscriptions(&mut self, slot: u32) {
        let access = std::sync::Arc::clone(&self.access);
        let Some(client) = self.clients.get(slot).filter(|client| !access.is_open_to(&client.identity)) else { return };
        if is_left_out(if client.wire.is_some() { Fault::Review } else { Fault::ReviewAway }) {
            return;
        }
        let filters: Vec<_> = client.subscriptions.iter().map(|subscription| subscription.filter).collect();
        for id in filters {
            let Some(filter) = self.filter_text(id) else { continue };
            let Some(client) = self.clients.get(slot) else { return };
            let act = Act::Subscribe { filter: &filter };
            if access.decide(&client.identity, act) == Verdict::Denied {
                self.note_denial(slot, act);
                self.remove_subscription(slot, id);
                self.forget_replays(slot, &filter);
                self.note_unsubscribed(slot, &filter);
            }
        }
        let Some(client) = self.clients.get(slot) else { return };
        let denied = |filter: &[u8]| access.decide(&client.identity, Act::Subscribe { filter }) == Verdict::Denied;
        let shares: Vec<_> = client
            .shares()
            .iter()
            .filter(|(seat, _)| denied(&seat.filter))
            .map(|(seat, _)| (seat.name.clone(), seat.filter.clone()))
            .collect();
        for (name, filter) in shares {
            if is_left_out(Fault::ReviewShared) {
                continue;
            }
            self.note_denial(slot, Act::Subscribe { filter: &filter });
            self.expel_from_share(slot, &name, &filter);
            self.note_unsubscribed(slot, &share_text(&name, &filter));
        }
        self.durable.commit(None);
    }

    /// What the Session in this slot is to whoever comes with its Client Identifier.
    pub(super) fn claim_of(&self, slot: u32, comer: &Identity) -> Owner {
        let Some(client) = self.clients.get(slot) else { return Owner::Comer };
        if is_left_out(if client.wire.is_some() { Fault::OwnerConnected } else { Fault::Owner }) {
            return Owner::Comer;
        }
        let owner = &client.identity;
        match (owner.proof != Proof::None, comer.proof != Proof::None) {
            (false, false) => Owner::Comer,
            (true, true) if self.access.are_one(owner, comer) => Owner::Comer,
            (false, true) => Owner::Nobody,
            (true, _) => Owner::Another,
        }
    }
}
