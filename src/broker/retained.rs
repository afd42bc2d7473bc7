//! Retained Messages: kept on PUBLISH, replayed on SUBSCRIBE by a cursor, under back-pressure.
//!
//! However many match, all of them arrive, and nobody else waits meanwhile: each tick spends a bounded number of entries on
//! replays, and only for Clients whose queue has room. The value sent is the one current when it is sent.

use super::budget::Level;
use super::durable::is_kept;
use super::rights::publishing;
use super::shard::{Shard, Wire, may_log};
use super::subscribe::Subscriber;
use crate::access::{Access, Identity, Verdict};
use crate::codec::{Message, Moment, ReasonCode};
use crate::faults::{Fault, is_left_out};
use crate::notice::{LINES_PER_SECOND_MAX, Limited, Outside};
use crate::session::{Bound, GroupId, How, Outgoing, Session};
use crate::topic::{self, Cursor, Kept as _, Progress, SweepCursor};
use dashmap::DashMap;
use foldhash::fast::RandomState;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// A Message that is retained, and who has published it; `None`: the broker.
#[derive(Clone)]
pub(super) struct Kept {
    pub(super) message: Message,
    pub(super) writer: Option<Arc<Identity>>,
    /// Counts it for the user who has published it, as long as it is there.
    pub(super) share: Option<Share>,
}

/// One of the retained Messages of a user. All of a user's hold the same `Arc`, so that there are as many as there are holders,
/// however one of them goes: cleared, replaced, expired.
#[derive(Clone)]
pub(super) struct Share(Arc<()>);

impl Share {
    /// How many other Messages of this user are retained.
    fn others(&self) -> usize {
        Arc::strong_count(&self.0).saturating_sub(2) // the map's and this one
    }
}

impl PartialEq for Share {
    /// Whether both are of the same user.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// The users who have something retained, and some who had.
#[derive(Default)]
pub(super) struct Retainers {
    users: DashMap<Box<str>, Arc<()>, RandomState>,
    /// So many users there may be before those who have nothing any more are forgotten.
    enough: AtomicUsize,
}

/// Fewer users than this are not worth looking through.
const RETAINERS_KEPT: usize = 1024;

impl Retainers {
    pub(super) fn share_of(&self, user: &str) -> Share {
        if let Some(known) = self.users.get(user) {
            return Share(Arc::clone(&known));
        }
        if self.users.len() >= self.enough.load(Ordering::Relaxed).max(RETAINERS_KEPT) {
            self.users.retain(|_, share| Arc::strong_count(share) > 1);
            self.enough.store(self.users.len() * 2, Ordering::Relaxed);
        }
        Share(Arc::clone(&self.users.entry(user.into()).or_default()))
    }
}

impl topic::Kept for Kept {
    fn topic(&self) -> &[u8] {
        self.message.topic()
    }

    fn is_expired(&self, now: Moment) -> bool {
        self.message.is_expired(now)
    }

    fn size(&self) -> usize {
        self.message.size()
    }
}

impl Kept {
    /// Whether whoever published it still may.
    fn is_rightful(&self, access: &Access) -> bool {
        if is_left_out(Fault::RetainedWriter) {
            return true;
        }
        let allowed = |writer| access.decide(writer, publishing(&self.message)) == Verdict::Allowed;
        self.writer.as_deref().is_none_or(allowed)
    }
}

/// A replay under way.
pub(super) struct Replay {
    cursor: Cursor,
    filter: Box<[u8]>,
    subscriber: Subscriber,
}

/// A replay goes on while less than this waits for the Client.
const ROOM_BYTES: usize = super::flush::FLUSH_BYTES;
const ROOM_MESSAGES: usize = 1024;
/// Entries visited under one lock.
const ENTRIES_PER_STEP: usize = 256;
/// Entries that one sweep looks at, and how often there is one.
const ENTRIES_PER_SWEEP: usize = 1024;
const SWEEP_EVERY: Duration = Duration::from_secs(1);
static NOT_RETAINED: Limited = Limited::new(LINES_PER_SECOND_MAX);

/// Removing what has expired: goes round the store as long as something that this shard has retained can expire.
#[derive(Default)]
pub(super) struct Sweep {
    cursor: SweepCursor,
    due: Moment,
    /// When the last of them expires. Then there is one more round, and rest.
    until: Moment,
    /// Sweeps that are left of that round.
    last_round: usize,
}

impl Sweep {
    pub(super) fn due(&self) -> Option<Moment> {
        (self.until > Moment::default()).then_some(self.due)
    }
}

/// Whether more retained Messages may be queued for this Client.
pub(super) fn has_room(session: &Session) -> bool {
    let (messages, bytes) = session.waiting();
    messages < ROOM_MESSAGES && bytes < ROOM_BYTES && !session.is_spilled()
}

impl<W: Wire> Shard<W> {
    /// Keeps or clears the retained Message of a Topic; before any acknowledgement, so that whoever has seen that finds it.
    ///
    /// # Errors
    /// `QuotaExceeded`: the Message is too large, or the store or the user's part of it is full; what was retained before stays.
    pub(super) fn retain(&mut self, message: &Message, writer: Arc<Identity>) -> Result<(), ReasonCode> {
        let is_passing = self.is_passing(message);
        let retained = &self.shared.retained;
        if message.payload().is_empty() {
            // [MQTT-3.3.1-6] [MQTT-3.3.1-7]
            if retained.clear(message.topic()) && self.durable.is_on() {
                self.durable.clear_retained(message.topic());
            }
            return Ok(());
        }
        let settings = &self.shared.settings;
        let share = writer.proven_name().map(|user| self.shared.retainers.share_of(user));
        let too_large = message.payload().len() > settings.retained_payload_bytes_max;
        let full = self.level == Level::Full
            || retained.len() >= settings.retained_messages_max
            || retained.bytes() + message.size() > settings.retained_bytes_max;
        let users_full = share.as_ref().is_some_and(|share| share.others() >= settings.retained_per_user_max);
        // One that takes the place of another may still fit.
        let replaces = |known: &Kept| {
            retained.bytes().saturating_sub(known.message.size()) + message.size() <= settings.retained_bytes_max
                && (!users_full || known.share == share)
        };
        if too_large || ((full || users_full) && !retained.get(message.topic()).as_ref().is_some_and(replaces)) {
            self.statistics.retained_refused += 1;
            return Err(ReasonCode::QuotaExceeded);
        }
        if is_passing {
            // What the store has of the Topic would come back in its place.
            if let Some(known) = retained.get(message.topic()) {
                self.durable.end_retained(&known.message);
            }
        } else if self.durable.is_on() {
            self.durable.retain(message, &writer);
        }
        retained.set(Kept { message: message.clone(), writer: Some(writer), share }); // [MQTT-3.3.1-5]
        if let Some(expires) = message.expires_at() {
            self.sweep.until = self.sweep.until.max(expires);
        }
        Ok(())
    }

    /// The same for a Message of which nobody is told whether it is kept, so that nothing holds back whoever sends it: while the
    /// disk takes nothing it is not kept, or the journal would grow without a bound.
    ///
    /// # Errors
    /// As [`retain`](Self::retain).
    pub(super) fn retain_untold(&mut self, message: &Message, writer: Arc<Identity>) -> Result<(), ReasonCode> {
        if self.durable.is_in_trouble() && !message.payload().is_empty() && !self.is_passing(message) {
            self.statistics.retained_refused += 1;
            if may_log(&NOT_RETAINED, self.now) {
                let (client, topic) = (Outside::of(writer.client_id.as_bytes()), Outside::of(message.topic()));
                tracing::warn!(target: "waypost::store", %client, %topic, "not retained: the disk takes nothing");
            }
            return Err(ReasonCode::QuotaExceeded);
        }
        self.retain(message, writer)
    }

    /// Some of what was read at the start may expire.
    pub(super) fn expect_expiries(&mut self) {
        self.sweep.until = Moment::from_millis(self.shared.retained_until.load(Ordering::Relaxed));
    }

    /// A subscription wants what is retained for it; one that was `known` may have asked before, and begins anew.
    pub(super) fn begin_replay(&mut self, slot: u32, filter: &[u8], subscriber: &Subscriber, known: bool) {
        if self.shared.retained.is_empty() {
            return;
        }
        let Some(client) = self.clients.get_mut(slot) else { return };
        if known {
            client.rare().replays.retain(|replay| *replay.filter != *filter);
        }
        let replay = Replay { cursor: Cursor::new(filter), filter: filter.into(), subscriber: *subscriber };
        client.rare().replays.push(replay);
        self.resume_replay_if_room(slot);
    }

    pub(super) fn forget_replays(&mut self, slot: u32, filter: &[u8]) {
        if let Some(client) = self.clients.get_mut(slot).filter(|client| client.has_replays()) {
            client.rare().replays.retain(|replay| *replay.filter != *filter);
        }
    }

    pub(super) fn resume_replay_if_room(&mut self, slot: u32) {
        if let Some(client) = self.clients.get_mut(slot)
            && client.replay_waits()
            && has_room(&client.session)
        {
            client.rare().replaying = true;
            self.replays.push_back(self.reference(slot));
            self.wants_tick = true;
        }
    }

    pub(super) fn run_sweep(&mut self) {
        if self.sweep.due().is_none_or(|due| due > self.now) {
            return;
        }
        let (shared, durable) = (Arc::clone(&self.shared), &mut self.durable);
        shared.retained.sweep(self.now, &mut self.sweep.cursor, ENTRIES_PER_SWEEP, &mut |kept: &Kept| {
            durable.end_retained(&kept.message);
        });
        self.durable.commit(None);
        self.sweep.due = self.now.plus(SWEEP_EVERY);
        if self.now < self.sweep.until {
            self.sweep.last_round = self.shared.retained.len() / ENTRIES_PER_SWEEP + 2;
        } else if self.sweep.last_round > 0 {
            self.sweep.last_round -= 1;
        } else {
            self.sweep.until = Moment::default();
        }
    }

    /// Each Client that replays gets a step in turn.
    pub(super) fn run_replays(&mut self, entries: usize) {
        if self.level != Level::Normal {
            return;
        }
        for _ in 0..(entries / ENTRIES_PER_STEP).min(self.replays.len().max(1) * 4) {
            let Some(session) = self.replays.pop_front() else { return };
            if self.clients.is_current(session.slot, session.generation) && self.step_replay(session.slot) {
                self.replays.push_back(session);
            }
        }
    }

    /// `true`: go on in a later step. `false`: done, or waiting until the Client has taken what is queued.
    fn step_replay(&mut self, slot: u32) -> bool {
        let (now, shared, access) = (self.now, Arc::clone(&self.shared), Arc::clone(&self.access));
        let mut wrongful: Vec<Box<[u8]>> = Vec::new();
        let Some(client) = self.clients.get_mut(slot) else { return false };
        let mut pushed = false;
        let mut go_on = false;
        if client.wire.is_some()
            && let Some(mut replay) = client.rare().replays.pop()
        {
            let (session, origin, subscriber) = (&mut client.session, client.origin, replay.subscriber);
            let (durable, kept_as) = (&mut self.durable, client.kept_as);
            let progress = shared.retained.step(&mut replay.cursor, ENTRIES_PER_STEP, now, &mut |kept: &Kept| {
                if !kept.is_rightful(&access) {
                    wrongful.push(kept.topic().into());
                    return ControlFlow::Continue(());
                }
                let message = &kept.message;
                if subscriber.no_local() && message.origin() == origin {
                    return ControlFlow::Continue(());
                }
                let how = How {
                    qos: subscriber.qos().min(message.qos()),
                    retain: true, // [MQTT-3.1.1: 3.3.1-8]
                    subscription_id: subscriber.subscription_id,
                    group: GroupId::NONE,
                    bound: Bound::Caller,
                };
                if !has_room(session)
                    || session.push(&Outgoing::new(message.clone()), how, &shared.settings.session).is_err()
                {
                    return ControlFlow::Break(());
                }
                pushed = true;
                if is_kept(kept_as, how.qos) && message.record() != 0 {
                    durable.enter(kept_as, message, how.tag(), &[]);
                }
                ControlFlow::Continue(())
            });
            // Its writer has lost the right to it since: nobody gets it any more. Another may have taken its place meanwhile.
            for topic in wrongful {
                shared.retained.clear_if(&topic, |kept| {
                    let is_wrongful = !kept.is_rightful(&access);
                    if is_wrongful {
                        self.durable.end_retained(&kept.message);
                    }
                    is_wrongful
                });
            }
            self.durable.commit(None);
            if progress != Progress::Done {
                client.rare().replays.push(replay);
            }
            go_on = client.has_replays() && has_room(&client.session);
        }
        client.rare().replaying = go_on;
        if pushed {
            self.flushes.mark_bulk(slot, client);
        }
        go_on
    }
}
