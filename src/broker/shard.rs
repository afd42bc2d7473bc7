//! All that one thread owns, and its tick.
//!
//! Bytes of a Network Connection come in through [`Shard::receive`]; whatever that causes is collected and written once, at the
//! end of the [`Shard::tick`] that follows. Every loop here has a budget; what is left is done in the next tick.
//! `connect.rs`, `publish.rs`, `subscribe.rs`, `share.rs` and `retained.rs` add what happens to each kind of packet.

use super::budget::Level;
use super::directory::Home;
use super::durable::Durable;
use super::mail::{Mail, SessionRef};
use super::publish::Fanout;
use super::retained::{Replay, Sweep};
use super::router::{FilterId, Matched, Seat};
use super::share::SharedGroup;
use super::slab::Slab;
use super::subscribe::{Subscribers, Subscription};
use super::sys::{Statistics, SysTopics};
use super::{ShardId, Shared};
use crate::access::{Access, Act, Identity, Login, Verdict};
use crate::codec::{Header, Message, Moment, Origin, Packet, Qos, ReasonCode, Sender, Violation, live_bytes};
use crate::notice::{LINES_PER_SECOND_MAX, Limited, Outside, Permit};
use crate::session::{Action, Arrival, Dropped, Filled, GroupId, Session, WillFate};
use crate::store::Journal;
use crate::topic::MatchCache;
use foldhash::fast::RandomState;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;
use thin_vec::ThinVec;

/// What the shard writes to: one per Network Connection.
pub trait Wire {
    /// Writes what can be written without waiting and says how much that was.
    ///
    /// # Errors
    /// [`Broken`]: nothing can be written any more; the reading side will notice and report the loss.
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Broken>;

    /// Who reads this Network Connection: woken when writing is blocked, and when the shard has let go of it.
    fn reader(&self) -> &Waker;
}

/// The Network Connection cannot be written to any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken;

/// One Network Connection of one Client of this shard. A later connection of the same Client has another number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Attachment {
    pub(super) slot: u32,
    pub(super) number: u64,
}

/// Why a Network Connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The Client said DISCONNECT.
    Goodbye(WillFate),
    /// The Client's side was closed or failed, without a DISCONNECT.
    Lost,
    /// We end it; the Client has been told, if its protocol has words for it.
    Refused(ReasonCode),
}

/// The budgets of one tick.
const MAIL_PER_TICK: usize = 1024;
const PUSHES_PER_TICK: usize = 4096;
const REPLAY_ENTRIES_PER_TICK: usize = 1024;
const FLUSHES_PER_TICK: usize = 128;
const BULK_FLUSHES_PER_TICK: usize = 64;
/// Bytes that one flush of one Client encodes at most, and one packet.
pub(super) const FLUSH_BYTES: usize = 64 << 10;
/// How often one Client is filled and written in a row.
const FLUSH_ROUNDS: usize = 64;
/// Fan-outs that may wait before the shard stops reading from its Clients.
const FANOUTS_MAX: usize = 256;
/// Acknowledgements and the like that may wait for a Client that does not read, before we stop reading from it.
const CONTROL_BYTES_MAX: usize = 64 << 10;
/// Lines that Clients can cause as often as they like, by class.
static REFUSED: Limited = Limited::new(LINES_PER_SECOND_MAX);
static DROPPED: Limited = Limited::new(LINES_PER_SECOND_MAX);
/// How often the log is told what one Client loses.
const DROPS_SAID_EVERY: Duration = Duration::from_secs(60);
static MEMORY: Limited = Limited::new(1);
pub(super) static DENIED: Limited = Limited::new(LINES_PER_SECOND_MAX);
/// Bytes that count as much as a complete packet for Keep Alive [MQTT-3.1.2-22].
const SIGN_OF_LIFE_BYTES: usize = 1024;
/// Timers are kept to a quarter of a second.
const TIMER_GRAIN_MS: u64 = 250;

pub(super) struct Client<W> {
    pub(super) id: Arc<str>,
    pub(super) origin: Origin,
    pub(super) identity: Identity,
    pub(super) session: Session,
    pub(super) wire: Option<W>,
    /// Counts Network Connections, so that late events of a former one are recognised.
    pub(super) attachment: u64,
    /// An incomplete packet, and the size that it will have (0: not known yet).
    partial: Option<Box<Partial>>,
    /// What the socket did not take.
    tail: Option<Box<Tail>>,
    /// By filter, ascending.
    pub(super) subscriptions: ThinVec<Subscription>,
    pub(super) shares: ThinVec<(Arc<Seat>, super::mail::Member)>,
    pub(super) replays: ThinVec<Replay>,
    pub(super) will: Option<Box<Will>>,
    /// When the last packet came or, for a Client that is away, when it left.
    last_received: Moment,
    /// The earliest timer that is set for this Client.
    timer: Option<Moment>,
    pub(super) fanout_seen: u64,
    pub(super) dirty: Dirty,
    pub(super) replaying: bool,
    drops: Option<Box<Drops>>,
    /// An AUTH packet that the door has to deal with.
    pub(super) reauthentication: Option<Box<(ReasonCode, Login)>>,
}

/// A Will, and when it goes out once the Network Connection has ended.
pub(super) struct Will {
    pub(super) message: Message,
    pub(super) delay: Duration,
    pub(super) due: Option<Moment>,
}

/// What a Client has lost, and when the log was told.
pub(super) struct Drops {
    said: Option<Moment>,
    /// Since then.
    since: u64,
}

struct Partial {
    bytes: Vec<u8>,
    size: usize,
}

struct Tail {
    bytes: Vec<u8>,
    written: usize,
    /// Since when the socket has taken nothing.
    since: Moment,
}

/// Which queue for flushing a Client stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dirty {
    No,
    Bulk,
    Yes,
}

pub struct Shard<W: Wire> {
    pub(super) id: ShardId,
    pub(super) shared: Arc<Shared>,
    pub(super) access: Arc<Access>,
    pub(super) now: Moment,
    pub(super) clients: Slab<Client<W>>,
    pub(super) subscribers: HashMap<FilterId, Subscribers, RandomState>,
    pub(super) groups: HashMap<GroupId, SharedGroup, RandomState>,
    /// Deliveries of other shards' groups that found their member gone: home, group, member, and what it was.
    pub(super) refused_shares: Vec<(ShardId, GroupId, SessionRef, (Message, Qos))>,
    pub(super) cache: MatchCache<Arc<Matched>>,
    pub(super) fanouts: VecDeque<Fanout>,
    pub(super) fanouts_of: HashMap<Origin, u32, RandomState>,
    pub(super) fanout_number: u64,
    pub(super) replays: VecDeque<SessionRef>,
    pub(super) sweep: Sweep,
    dirty: VecDeque<u32>,
    dirty_bulk: VecDeque<u32>,
    timers: BTreeMap<Moment, Vec<SessionRef>>,
    pub(super) outgoing: Vec<Vec<Mail>>,
    incoming: VecDeque<Mail>,
    pub(super) leaving: Vec<(Arc<str>, Home)>,
    pub(super) durable: Durable,
    pub(super) statistics: Statistics,
    pub(super) sys: SysTopics,
    pub(super) level: Level,
    /// Other shards whose letter box is too full for more of ours.
    congested: u64,
    /// Connections that wait until the shard reads again.
    paused: Vec<Waker>,
    attachments: u64,
    pub(super) wants_tick: bool,
    out: Vec<u8>,
    filled: Filled,
}

impl<W: Wire> Shard<W> {
    pub fn new(id: ShardId, shared: Arc<Shared>, journal: Box<dyn Journal>, now: Moment) -> Self {
        let shards = shared.ports.len();
        Self {
            id,
            access: shared.access.load_full(),
            now,
            clients: Slab::default(),
            subscribers: HashMap::default(),
            groups: HashMap::default(),
            refused_shares: Vec::new(),
            cache: MatchCache::default(),
            fanouts: VecDeque::new(),
            fanouts_of: HashMap::default(),
            fanout_number: 0,
            replays: VecDeque::new(),
            sweep: Sweep::default(),
            dirty: VecDeque::new(),
            dirty_bulk: VecDeque::new(),
            timers: BTreeMap::new(),
            outgoing: (0..shards).map(|_| Vec::new()).collect(),
            incoming: VecDeque::new(),
            leaving: Vec::new(),
            durable: Durable::new(journal),
            statistics: Statistics::default(),
            sys: SysTopics::new(now),
            level: Level::Normal,
            congested: 0,
            paused: Vec::new(),
            attachments: 0,
            wants_tick: true,
            out: Vec::new(),
            filled: Filled::default(),
            shared,
        }
    }

    pub fn id(&self) -> ShardId {
        self.id
    }

    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Whether this is still the Client's Network Connection. If not, whoever reads it should stop.
    pub fn is_attached(&self, me: Attachment) -> bool {
        self.client(me).is_some()
    }

    /// Whether the socket has to become writable before more can be sent.
    pub fn is_blocked(&self, me: Attachment) -> bool {
        self.client(me).is_some_and(|client| client.tail.is_some())
    }

    /// Whether to read from this Network Connection now. If not, `waker` is woken when it is worth asking again.
    pub fn may_read(&mut self, me: Attachment, waker: &Waker) -> bool {
        if self.fanouts.len() > FANOUTS_MAX || self.congested != 0 {
            self.paused.push(waker.clone());
            return false;
        }
        // A Client that sends and never reads is answered no further than this; writability wakes the reader.
        self.client(me).is_none_or(|client| client.tail.is_none() || client.session.control_len() < CONTROL_BYTES_MAX)
    }

    /// Takes bytes as they came from the socket.
    pub fn receive(&mut self, me: Attachment, mut bytes: &[u8], now: Moment) {
        self.now = now;
        self.statistics.bytes_received += bytes.len() as u64;
        let Some(client) = self.client_mut(me) else { return };
        // Large packets may take their time; a trickle of bytes is no sign of life.
        if bytes.len() >= SIGN_OF_LIFE_BYTES {
            client.last_received = now;
        }
        if let Some(mut partial) = client.partial.take() {
            let Some(rest) = self.complete(me, &mut partial, bytes) else {
                if let Some(client) = self.client_mut(me) {
                    client.partial = Some(partial);
                }
                return;
            };
            bytes = rest;
        }
        while !bytes.is_empty() {
            let Some(client) = self.client(me) else { return };
            let header = Header::decode(
                bytes,
                Sender::Client,
                client.session.terms().version,
                &self.shared.settings.session.codec,
            );
            let size = match header {
                Err(violation) => return self.refuse(me, &violation),
                Ok(Some(header)) if header.packet_size() <= bytes.len() => {
                    let (packet, rest) = bytes.split_at(header.packet_size());
                    self.receive_packet(me, &header, &packet[header.header_size()..]);
                    bytes = rest;
                    continue;
                }
                Ok(Some(header)) => header.packet_size(),
                Ok(None) => 0,
            };
            if let Some(client) = self.client_mut(me) {
                client.partial = Some(Box::new(Partial { bytes: bytes.to_vec(), size }));
            }
            return;
        }
    }

    /// Adds to an incomplete packet. `None`: it is still incomplete, or the connection has ended. Memory grows with what
    /// has arrived, never with what was announced.
    fn complete<'b>(&mut self, me: Attachment, partial: &mut Partial, mut bytes: &'b [u8]) -> Option<&'b [u8]> {
        let version = self.client(me)?.session.terms().version;
        loop {
            if partial.size == 0 {
                // The fixed header has at most five bytes: take them one at a time.
                let (first, rest) = bytes.split_first()?;
                partial.bytes.push(*first);
                bytes = rest;
                match Header::decode(&partial.bytes, Sender::Client, version, &self.shared.settings.session.codec) {
                    Err(violation) => {
                        self.refuse(me, &violation);
                        return None;
                    }
                    Ok(Some(header)) => partial.size = header.packet_size(),
                    Ok(None) => {}
                }
            }
            if partial.size != 0 {
                let missing = partial.size.saturating_sub(partial.bytes.len());
                let (head, rest) = bytes.split_at(missing.min(bytes.len()));
                partial.bytes.extend_from_slice(head);
                if partial.bytes.len() < partial.size {
                    return None;
                }
                match Header::decode(&partial.bytes, Sender::Client, version, &self.shared.settings.session.codec) {
                    Ok(Some(header)) => self.receive_packet(me, &header, &partial.bytes[header.header_size()..]),
                    _ => unreachable!("this header was decoded before"),
                }
                return self.is_attached(me).then_some(rest);
            }
        }
    }

    fn receive_packet(&mut self, me: Attachment, header: &Header, body: &[u8]) {
        self.statistics.packets_received += 1;
        let Some(client) = self.clients.get_mut(me.slot) else { return };
        client.last_received = self.now;
        let limits = &self.shared.settings.session;
        let arrival = Arrival { now: self.now, origin: client.origin };
        let action = Packet::decode(header, body, client.session.terms().version, &limits.codec)
            .and_then(|packet| client.session.receive(packet, limits, &arrival));
        match action {
            Err(violation) => self.refuse(me, &violation),
            Ok(action) => {
                self.mark_dirty(me.slot);
                match action {
                    Action::Nothing => {}
                    Action::Publish(arrived) => self.publish(me, arrived),
                    Action::Subscribe(subscribe) => self.subscribe(me.slot, &subscribe),
                    Action::Unsubscribe(unsubscribe) => self.unsubscribe(me.slot, &unsubscribe),
                    Action::Settled(group) => self.settle(group, me.slot),
                    Action::Authenticate(auth) => self.reauthenticate(me, &auth),
                    Action::Disconnect(fate) => self.end(me, End::Goodbye(fate)),
                }
            }
        }
    }

    /// Ends a Network Connection for what its Client did: says why, closes, and the Will is due.
    pub(super) fn refuse(&mut self, me: Attachment, violation: &Violation) {
        let Some(client) = self.client(me) else { return };
        if self.may_log(&REFUSED) {
            tracing::info!(
                target: "waypost::client",
                client = %Outside::of(client.id.as_bytes()),
                reason = %violation.reason,
                "disconnected: {}", violation.why
            );
        }
        self.statistics.refused += 1;
        self.say_and_end(me, violation.reason, Some(violation.why));
    }

    /// Says DISCONNECT and closes.
    pub fn say_and_end(&mut self, me: Attachment, reason: ReasonCode, why: Option<&str>) {
        if let Some(client) = self.client_mut(me) {
            client.session.say_disconnect(reason, why);
            self.end(me, End::Refused(reason));
        }
    }

    /// The peer has closed, or the socket has failed.
    pub fn lost(&mut self, me: Attachment, now: Moment) {
        self.now = now;
        self.end(me, End::Lost);
    }

    /// The socket can be written again.
    pub fn writable(&mut self, me: Attachment, now: Moment) {
        self.now = now;
        if self.client(me).is_some_and(|client| client.tail.is_some()) {
            self.flush(me.slot);
        }
    }

    /// Ends the Network Connection; the Session stays or goes as agreed.
    pub(super) fn end(&mut self, me: Attachment, end: End) {
        if self.client(me).is_none() {
            return;
        }
        self.flush_control(me.slot);
        let now = self.now;
        if let Some(wire) = self.clients.get_mut(me.slot).and_then(|client| client.wire.take()) {
            wire.reader().wake_by_ref();
        }
        self.leave_groups(me.slot);
        let settings = &self.shared.settings;
        let Some(client) = self.clients.get_mut(me.slot) else { return };
        client.partial = None;
        client.tail = None;
        client.reauthentication = None;
        self.statistics.dropped += client.session.detach(&settings.session) as u64;
        self.shared.connections[usize::from(self.id.0)].fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
        tracing::debug!(target: "waypost::client", client = %Outside::of(client.id.as_bytes()), ?end, "disconnected");
        let expiry = client.session.expiry();
        match end {
            End::Goodbye(WillFate::Dropped) => client.will = None, // [MQTT-3.1.2-10] [MQTT-3.14.4-3]
            _ => {
                if let Some(will) = &mut client.will {
                    // At the end of the delay or of the Session, whichever is first [MQTT-3.1.2-8].
                    will.due = Some(now.plus(will.delay.min(expiry)));
                }
            }
        }
        client.last_received = now;
        if expiry.is_zero() {
            self.end_session(me.slot);
        } else {
            self.publish_will_if_due(me.slot);
            self.set_timer(me.slot);
        }
        self.wants_tick = true;
    }

    /// The Session is over: subscriptions, queue and name go; a Will that was still waiting goes out now.
    pub(super) fn end_session(&mut self, slot: u32) {
        if let Some(will) = self.clients.get_mut(slot).and_then(|client| client.will.take()) {
            self.publish_will(slot, &will.message);
        }
        self.remove_all_subscriptions(slot);
        let generation = self.reference(slot).generation;
        if let Some(client) = self.clients.remove(slot) {
            self.note_session_end(&client);
            self.leaving.push((client.id, Home { shard: self.id, slot, generation }));
            self.wants_tick = true;
        }
    }

    /// One round of work. Call it when [`Shard::wants_tick`], and when [`Shard::deadline`] has come.
    pub fn tick(&mut self, now: Moment) {
        self.now = now;
        self.wants_tick = false;
        self.measure();
        self.take_mail();
        self.run_fanouts(PUSHES_PER_TICK);
        self.run_replays(REPLAY_ENTRIES_PER_TICK);
        self.run_timers();
        self.run_sweep();
        self.run_sys();
        self.release_answers();
        self.post_mail();
        self.flush_all();
        self.forget_leaving();
        self.wants_tick |= self.has_more();
        if !self.paused.is_empty() && self.fanouts.len() <= FANOUTS_MAX && self.congested == 0 {
            self.paused.drain(..).for_each(Waker::wake);
        }
    }

    /// Whether there is work for a tick. The caller sees to it that a tick follows soon.
    pub fn wants_tick(&self) -> bool {
        self.wants_tick
            || !self.dirty.is_empty()
            || !self.dirty_bulk.is_empty()
            || !self.leaving.is_empty()
            || self.has_mail()
    }

    /// When the next tick is due even if nothing happens.
    pub fn deadline(&self) -> Option<Moment> {
        let timer = self.timers.first_key_value().map(|(moment, _)| *moment);
        [timer, self.sweep.due(), self.sys.due(self.id, &self.shared.settings)].into_iter().flatten().min()
    }

    fn has_mail(&self) -> bool {
        self.shared.ports[usize::from(self.id.0)].has_mail()
    }

    fn has_more(&self) -> bool {
        !(self.incoming.is_empty()
            && self.fanouts.is_empty()
            && self.dirty.is_empty()
            && self.dirty_bulk.is_empty()
            && self.leaving.is_empty())
            || (!self.replays.is_empty() && self.level == Level::Normal)
            || self.outgoing.iter().any(|mail| !mail.is_empty())
            || self.has_mail()
    }

    /// Memory and statistics are summed up here and not for each Message.
    fn measure(&mut self) {
        self.shared.budget.report(self.id, live_bytes());
        let level = self.shared.budget.level();
        if level > self.level && self.may_log(&MEMORY) {
            tracing::warn!(target: "waypost::memory", ?level, used = self.shared.budget.used(), "memory gets short");
        }
        self.level = level;
        if !Arc::ptr_eq(&self.access, &self.shared.access.load()) {
            self.access = self.shared.access.load_full();
        }
        for to in 0..self.shared.ports.len() {
            if self.congested & (1 << to) != 0 && !self.shared.ports[to].is_congested(self.id) {
                self.congested &= !(1 << to);
            }
        }
    }

    /// Mail stays in its letter box, and slows its senders down, while what was taken before is not done.
    fn take_mail(&mut self) {
        if self.incoming.is_empty() {
            let shared = Arc::clone(&self.shared);
            let relieved = shared.ports[usize::from(self.id.0)].take(&mut self.incoming);
            for from in shared.shards().filter(|from| relieved & (1 << from.0) != 0) {
                shared.ports[usize::from(from.0)].call();
            }
        }
        for _ in 0..MAIL_PER_TICK {
            if self.fanouts.len() > FANOUTS_MAX {
                break;
            }
            let Some(mail) = self.incoming.pop_front() else { break };
            match mail {
                Mail::Publish(message, matched) => {
                    self.deliver(message, &matched);
                }
                Mail::Deliver(home, to, message, how) => self.deliver_shared(home, to, message, how),
                other => self.take_group_mail(other),
            };
        }
        self.hand_back_refused();
    }

    pub(super) fn mail(&mut self, to: ShardId, mail: Mail) {
        self.outgoing[usize::from(to.0)].push(mail);
        self.wants_tick = true;
    }

    fn post_mail(&mut self) {
        for to in 0..self.outgoing.len() {
            if !self.outgoing[to].is_empty() && self.shared.ports[to].post(self.id, &mut self.outgoing[to]) {
                self.congested |= 1 << to;
            }
        }
    }

    /// Only now, with this tick's mail posted, may another shard become the home of these names.
    fn forget_leaving(&mut self) {
        for (client_id, home) in self.leaving.drain(..) {
            self.shared.directory.forget(&client_id, home);
        }
    }

    fn release_answers(&mut self) {
        while let Some((to, answer, reason)) = self.durable.release() {
            self.answer(to, answer, reason);
        }
    }

    // --- flushing -------------------------------------------------------------------------------------------------

    /// The Client has something to send. Flushed at the end of the tick.
    pub(super) fn mark_dirty(&mut self, slot: u32) {
        if let Some(client) = self.clients.get_mut(slot)
            && client.wire.is_some()
            && client.dirty != Dirty::Yes
        {
            client.dirty = Dirty::Yes;
            self.dirty.push_back(slot);
        }
    }

    /// The same for the receivers of a large fan-out, who do not hold up others.
    pub(super) fn mark_dirty_bulk(&mut self, slot: u32) {
        if let Some(client) = self.clients.get_mut(slot)
            && client.wire.is_some()
            && client.dirty == Dirty::No
        {
            client.dirty = Dirty::Bulk;
            self.dirty_bulk.push_back(slot);
        }
    }

    fn flush_all(&mut self) {
        for _ in 0..self.dirty.len().min(FLUSHES_PER_TICK) {
            if let Some(slot) = self.dirty.pop_front() {
                self.flush_if(slot, Dirty::Yes);
            }
        }
        for _ in 0..self.dirty_bulk.len().min(BULK_FLUSHES_PER_TICK) {
            if let Some(slot) = self.dirty_bulk.pop_front() {
                self.flush_if(slot, Dirty::Bulk);
            }
        }
    }

    /// A slot may stand in both queues, or have a new tenant: only the mark counts.
    fn flush_if(&mut self, slot: u32, dirty: Dirty) {
        if let Some(client) = self.clients.get_mut(slot)
            && client.dirty == dirty
        {
            client.dirty = Dirty::No;
            self.flush(slot);
        }
    }

    /// Writes what one Client may be sent: what the socket left over, then acknowledgements, then Messages.
    fn flush(&mut self, slot: u32) {
        let now = self.now;
        let Some(client) = self.clients.get_mut(slot) else { return };
        let Some(wire) = &mut client.wire else { return };
        if let Some(tail) = &mut client.tail {
            match wire.write(&tail.bytes[tail.written..]) {
                Ok(0) => return,
                Err(Broken) => client.tail = None, // the reader notices and reports the loss
                Ok(count) => {
                    self.statistics.bytes_sent += count as u64;
                    tail.written += count;
                    tail.since = now;
                    if tail.written < tail.bytes.len() {
                        return;
                    }
                    client.tail = None;
                }
            }
        }
        let (access, identity) = (&self.access, &client.identity);
        let may_receive =
            |message: &Message| access.decide(identity, Act::Receive { topic: message.topic() }) == Verdict::Allowed;
        let limits = &self.shared.settings.session;
        self.filled.clear();
        // As long as the socket takes everything: whoever keeps up must not lose to those who send.
        for _ in 0..FLUSH_ROUNDS {
            self.out.clear();
            client.session.fill(&mut self.out, FLUSH_BYTES, limits, now, may_receive, &mut self.filled);
            if self.out.is_empty() {
                break;
            }
            let written = wire.write(&self.out).unwrap_or(self.out.len()); // broken: the reader will notice
            self.statistics.bytes_sent += written as u64;
            if written < self.out.len() {
                client.tail = Some(Box::new(Tail { bytes: self.out[written..].to_vec(), written: 0, since: now }));
                wire.reader().wake_by_ref();
                break;
            }
            if !client.session.has_something_to_send() {
                break;
            }
        }
        self.statistics.messages_sent += self.filled.published;
        let blocked = client.tail.is_some();
        let more = !blocked && client.session.has_something_to_send();
        let replay = !client.replays.is_empty() && !client.replaying && super::retained::has_room(&client.session);
        if more {
            self.mark_dirty(slot);
        }
        if blocked {
            self.set_timer(slot);
        }
        if replay {
            self.resume_replay(slot);
        }
        self.account_filled(slot);
        if self.out.capacity() > 4 * FLUSH_BYTES {
            self.out = Vec::with_capacity(FLUSH_BYTES);
        }
    }

    /// The last words before a Network Connection is closed: acknowledgements and DISCONNECT, no Messages.
    fn flush_control(&mut self, slot: u32) {
        let Some(client) = self.clients.get_mut(slot) else { return };
        let Some(wire) = &mut client.wire else { return };
        if let Some(tail) = &client.tail {
            match wire.write(&tail.bytes[tail.written..]) {
                Ok(count) if count == tail.bytes.len() - tail.written => client.tail = None,
                _ => return,
            }
        }
        self.out.clear();
        client.session.take_control(&mut self.out);
        if !self.out.is_empty() {
            self.statistics.bytes_sent += wire.write(&self.out).unwrap_or(0) as u64;
        }
    }

    fn account_filled(&mut self, slot: u32) {
        if self.filled.dropped.is_empty() && self.filled.settled.is_empty() && self.filled.handed_back.is_empty() {
            return;
        }
        let mut filled = std::mem::take(&mut self.filled);
        for reason in filled.dropped.drain(..) {
            self.count_drop(slot, reason);
        }
        for group in filled.settled.drain(..) {
            self.settle(group, slot);
        }
        for handed_back in filled.handed_back.drain(..) {
            self.hand_on(slot, handed_back);
        }
        self.filled = filled;
    }

    /// Whether one more line of this class may be written; says how many were not.
    pub(super) fn may_log(&self, class: &Limited) -> bool {
        match class.permit(self.now.as_millis()) {
            Permit::Suppress => false,
            Permit::Log { suppressed: 0 } => true,
            Permit::Log { suppressed } => {
                tracing::info!(target: "waypost::client", "suppressed {suppressed} lines like the next");
                true
            }
        }
    }

    /// Counts a delivery that was given up, and says so in the log, once a minute for each Client.
    pub(super) fn count_drop(&mut self, slot: u32, reason: Dropped) {
        self.statistics.dropped += 1;
        let now = self.now;
        let Some(client) = self.clients.get_mut(slot) else { return };
        // That nobody is there for a QoS 0 Message is how it should be.
        if reason == Dropped::Offline {
            return;
        }
        let drops = client.drops.get_or_insert_with(|| Box::new(Drops { said: None, since: 0 }));
        drops.since += 1;
        if drops.said.is_none_or(|said| said.plus(DROPS_SAID_EVERY) <= now) {
            drops.said = Some(now);
            let count = std::mem::take(&mut drops.since);
            let id = Arc::clone(&client.id);
            if self.may_log(&DROPPED) {
                tracing::warn!(target: "waypost::drop", client = %Outside::of(id.as_bytes()), ?reason, count, "messages dropped");
            }
        }
    }

    // --- timers ---------------------------------------------------------------------------------------------------

    /// Sets the Client's timer to whatever is due next for it. Traffic never moves a timer: when it fires, the Client's
    /// state tells whether anything is due.
    pub(super) fn set_timer(&mut self, slot: u32) {
        let session = self.reference(slot);
        let write_stall_max = self.shared.settings.write_stall_max;
        let Some(client) = self.clients.get_mut(slot) else { return };
        let Some(due) = client.next_due(write_stall_max) else { return };
        let due = Moment::from_millis(due.as_millis().div_ceil(TIMER_GRAIN_MS) * TIMER_GRAIN_MS);
        if client.timer.is_none_or(|set| due < set) {
            client.timer = Some(due);
            self.timers.entry(due).or_default().push(session);
        }
    }

    fn run_timers(&mut self) {
        while let Some(entry) = self.timers.first_entry() {
            if *entry.key() > self.now {
                return;
            }
            let (moment, sessions) = entry.remove_entry();
            for session in sessions {
                if self.clients.is_current(session.slot, session.generation) {
                    self.run_timer(session.slot, moment);
                }
            }
        }
    }

    fn run_timer(&mut self, slot: u32, moment: Moment) {
        let now = self.now;
        let write_stall_max = self.shared.settings.write_stall_max;
        let Some(client) = self.clients.get_mut(slot) else { return };
        if client.timer != Some(moment) {
            return; // an earlier one was set meanwhile
        }
        client.timer = None;
        let me = Attachment { slot, number: client.attachment };
        if client.wire.is_some() {
            if client.keep_alive_ends().is_some_and(|end| end <= now) {
                // [MQTT-3.1.2-22]
                self.say_and_end(me, ReasonCode::KeepAliveTimeout, None);
                return;
            }
            if client.tail.as_ref().is_some_and(|tail| tail.since.plus(write_stall_max) <= now) {
                tracing::info!(target: "waypost::client", client = %Outside::of(client.id.as_bytes()), "disconnected: takes no data");
                self.end(me, End::Refused(ReasonCode::QuotaExceeded));
                return;
            }
            client.session.shrink();
        } else if !self.run_due(slot) {
            return;
        }
        self.set_timer(slot);
    }

    /// A Will whose delay is over, and the end of a Session whose time is. `false`: it has ended.
    pub(super) fn run_due(&mut self, slot: u32) -> bool {
        let now = self.now;
        self.publish_will_if_due(slot);
        if self.clients.get(slot).is_some_and(|client| client.wire.is_none() && client.expires() <= now) {
            self.statistics.expired += 1;
            self.end_session(slot);
            return false;
        }
        true
    }

    // --- looking things up ------------------------------------------------------------------------------------------

    pub(super) fn client(&self, me: Attachment) -> Option<&Client<W>> {
        self.clients.get(me.slot).filter(|client| client.attachment == me.number && client.wire.is_some())
    }

    pub(super) fn client_mut(&mut self, me: Attachment) -> Option<&mut Client<W>> {
        self.clients.get_mut(me.slot).filter(|client| client.attachment == me.number && client.wire.is_some())
    }

    pub(super) fn reference(&self, slot: u32) -> SessionRef {
        SessionRef { shard: self.id, slot, generation: self.clients.generation(slot) }
    }

    pub(super) fn next_attachment(&mut self) -> u64 {
        self.attachments += 1;
        self.attachments
    }

    /// Sessions of this shard, connected or not.
    pub fn sessions(&self) -> usize {
        self.clients.len()
    }

    /// How many filters match a Topic Name, asked as a PUBLISH asks; shared subscriptions are not among them.
    pub fn matching(&mut self, topic: &[u8]) -> usize {
        self.matched(topic).filters.len()
    }

    /// Ends all Network Connections with this Reason Code; Sessions stay. For a node that stops.
    pub fn stop(&mut self, reason: ReasonCode, now: Moment) {
        self.now = now;
        for slot in 0..self.clients.end() {
            if let Some(client) = self.clients.get(slot).filter(|client| client.wire.is_some()) {
                let me = Attachment { slot, number: client.attachment };
                self.say_and_end(me, reason, None);
            }
        }
    }
}

impl<W> Client<W> {
    pub(super) fn new(id: Arc<str>, origin: Origin, session: Session, now: Moment) -> Self {
        Self {
            id,
            origin,
            identity: Identity::default(),
            session,
            wire: None,
            attachment: 0,
            partial: None,
            tail: None,
            subscriptions: ThinVec::new(),
            shares: ThinVec::new(),
            replays: ThinVec::new(),
            will: None,
            last_received: now,
            timer: None,
            fanout_seen: 0,
            dirty: Dirty::No,
            replaying: false,
            drops: None,
            reauthentication: None,
        }
    }

    /// A Network Connection begins.
    pub(super) fn attach(&mut self, wire: W, attachment: u64, now: Moment) {
        self.wire = Some(wire);
        self.attachment = attachment;
        self.last_received = now;
        self.dirty = Dirty::No;
    }

    pub(super) fn is_durable(&self) -> bool {
        !self.session.expiry().is_zero()
    }

    /// When the Session of a Client that is away is over.
    fn expires(&self) -> Moment {
        self.last_received.plus(self.session.expiry())
    }

    /// One and a half times the Keep Alive after the last packet [MQTT-3.1.2-22].
    fn keep_alive_ends(&self) -> Option<Moment> {
        let keep_alive_ms = u64::from(self.session.terms().keep_alive_s) * 1000;
        (keep_alive_ms != 0).then(|| self.last_received.plus(Duration::from_millis(keep_alive_ms / 2 * 3)))
    }

    fn next_due(&self, write_stall_max: Duration) -> Option<Moment> {
        if self.wire.is_some() {
            let stalled = self.tail.as_ref().map(|tail| tail.since.plus(write_stall_max));
            [self.keep_alive_ends(), stalled].into_iter().flatten().min()
        } else {
            let will = self.will.as_ref().and_then(|will| will.due);
            [Some(self.expires()), will].into_iter().flatten().min()
        }
    }
}
