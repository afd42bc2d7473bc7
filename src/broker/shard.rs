//! All that one thread owns, and its tick.
//!
//! Bytes of a Network Connection come in through [`Shard::receive`]; whatever that causes is collected and written once, at the
//! end of the [`Shard::tick`] that follows. Every loop here has a budget; what is left is done in the next tick.
//! `connect.rs`, `publish.rs`, `subscribe.rs`, `share.rs` and `retained.rs` add what happens to each kind of packet.

use super::budget::Level;
use super::client::{Client, Partial};
use super::directory::Home;
use super::durable::Durable;
use super::flush::Flushes;
use super::mail::{Mail, Offered, SessionRef};
use super::pace::Costs;
use super::publish::Fanout;
use super::retained::Sweep;
use super::router::{FilterId, Matched};
use super::share::SharedGroup;
use super::slab::Slab;
use super::subscribe::Subscribers;
use super::sys::{Statistics, SysTopics};
use super::timer::Due;
use super::{ShardId, Shared};
use crate::access::Access;
use crate::codec::{Header, LiveBytes, Moment, Origin, Packet, ReasonCode, Sender, Violation, live_bytes};
use crate::notice::{LINES_PER_SECOND_MAX, Limited, Outside, Permit};
use crate::session::{Action, Arrival, Dropped, Filled, GroupId, WillFate};
use crate::topic::MatchCache;
use foldhash::fast::RandomState;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::task::Waker;

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
/// Fan-outs that may wait before the shard stops reading from its Clients.
const FANOUTS_MAX: usize = 256;
/// Acknowledgements and the like that may wait for a Client that does not read, before we stop reading from it.
const CONTROL_BYTES_MAX: usize = 64 << 10;
/// Packets in what was read at a time, beyond which it took so long that others wait.
const MANY_PACKETS: u64 = 512;
/// Of a packet that is not complete yet, what is still taken when the memory budget is used up.
const PARTIAL_BYTES_WHEN_FULL: usize = 64 << 10;
/// Lines that Clients can cause as often as they like, by class.
static REFUSED: Limited = Limited::new(LINES_PER_SECOND_MAX);
static MEMORY: Limited = Limited::new(1);
pub(super) static DENIED: Limited = Limited::new(LINES_PER_SECOND_MAX);
/// Bytes that count as much as a complete packet for Keep Alive [MQTT-3.1.2-22].
const SIGN_OF_LIFE_BYTES: usize = 1024;

pub struct Shard<W: Wire> {
    pub(super) id: ShardId,
    pub(super) shared: Arc<Shared>,
    pub(super) access: Arc<Access>,
    pub(super) now: Moment,
    pub(super) clients: Slab<Client<W>>,
    pub(super) subscribers: HashMap<FilterId, Subscribers, RandomState>,
    pub(super) groups: HashMap<GroupId, SharedGroup, RandomState>,
    /// Deliveries of other shards' groups that found their member gone: home, group, member, and what it was.
    pub(super) refused_shares: Vec<(ShardId, GroupId, SessionRef, Offered)>,
    pub(super) cache: MatchCache<Arc<Matched>>,
    pub(super) fanouts: VecDeque<Fanout>,
    pub(super) fanouts_of: HashMap<Origin, u32, RandomState>,
    pub(super) fanout_number: u64,
    pub(super) replays: VecDeque<SessionRef>,
    pub(super) sweep: Sweep,
    pub(super) flushes: Flushes,
    pub(super) timers: BTreeSet<(Due, u32)>,
    /// While it is Some, timers are late: none fires before this moment.
    pub(super) late_until: Option<Moment>,
    /// Network Connections that have ended and have something left to be written; their readers fetch it.
    parting: HashMap<Attachment, (W, Vec<u8>), RandomState>,
    pub(super) outgoing: Vec<Vec<Mail>>,
    incoming: VecDeque<Mail>,
    pub(super) leaving: Vec<(Arc<str>, Home)>,
    pub(super) durable: Durable,
    pub(super) statistics: Statistics,
    pub(super) costs: Costs,
    /// Of what is sent; `None`: it is not counted.
    pub(super) costs_out: Option<Costs>,
    pub(super) sys: SysTopics,
    pub(super) level: Level,
    /// The next slot to be looked at since the rights have changed.
    pub(super) review: Option<u32>,
    /// Other shards whose letter box is too full for more of ours.
    congested: u64,
    /// Connections that wait until the shard reads again.
    paused: Vec<Waker>,
    attachments: u64,
    pub(super) wants_tick: bool,
    pub(super) out: Vec<u8>,
    /// Bytes encoded by the flushes of this tick so far.
    pub(super) flushed: usize,
    pub(super) filled: Filled,
}

impl<W: Wire> Shard<W> {
    pub fn new(id: ShardId, shared: Arc<Shared>, now: Moment) -> Self {
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
            flushes: Flushes::default(),
            timers: BTreeSet::new(),
            late_until: None,
            parting: HashMap::default(),
            outgoing: (0..shards).map(|_| Vec::new()).collect(),
            incoming: VecDeque::new(),
            leaving: Vec::new(),
            durable: Durable::new(shared.keeping.clone(), shards),
            statistics: Statistics::default(),
            costs: Costs::new(shared.settings.message_rate_max, shared.settings.byte_rate_max),
            costs_out: Costs::bounding(shared.settings.message_rate_out_max, shared.settings.byte_rate_out_max),
            sys: SysTopics::new(now),
            level: Level::Normal,
            review: None,
            congested: 0,
            paused: Vec::new(),
            attachments: 0,
            wants_tick: true,
            out: Vec::new(),
            flushed: 0,
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
        let (now, waiting_max) = (self.now, self.shared.settings.session.receive_maximum);
        let Some(client) = self.client_mut(me) else { return true };
        // MQTT 5 Clients have a Receive Maximum; others are read no further while so many answers wait for the disk.
        let waits_too_much = client.unanswered >= waiting_max;
        client.held = !client.pace.may_send(now);
        if client.held {
            self.set_timer(me.slot);
            return false;
        }
        // A Client that sends and never reads is answered no further than this; writability wakes the reader.
        (client.tail.is_none() || client.session.control_len() < CONTROL_BYTES_MAX) && !waits_too_much
    }

    /// Whether less than usual is to be read at a time from this Network Connection, since it brings very many packets.
    pub fn sends_many(&self, me: Attachment) -> bool {
        self.client(me).is_some_and(|client| client.sends_many)
    }

    /// Takes bytes as they came from the socket.
    pub fn receive(&mut self, me: Attachment, bytes: &[u8], now: Moment) {
        self.now = now;
        self.statistics.bytes_received += bytes.len() as u64;
        let (packets, messages) = (self.statistics.packets_received, self.statistics.messages_received);
        self.receive_packets(me, bytes, now);
        let (packets, costs) = (self.statistics.packets_received - packets, self.costs);
        let messages = self.statistics.messages_received - messages;
        if let Some(client) = self.client_mut(me) {
            client.pace.spend(now, messages, bytes.len(), &costs);
            client.sends_many = packets > MANY_PACKETS;
        }
    }

    fn receive_packets(&mut self, me: Attachment, mut bytes: &[u8], now: Moment) {
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
                client.partial =
                    Some(Box::new(Partial { bytes: bytes.to_vec(), size, live: LiveBytes::of(bytes.len()) }));
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
                    partial.live.set(partial.bytes.capacity());
                    if self.level == Level::Full && partial.bytes.len() > PARTIAL_BYTES_WHEN_FULL {
                        self.refuse(me, &Violation { reason: ReasonCode::QuotaExceeded, why: "memory is short" });
                    }
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
                    Action::Settled(over) => self.settle(me.slot, over),
                    Action::Received(over) => self.forget_shared(me.slot, over),
                    Action::Authenticate(auth) => self.reauthenticate(me, &auth),
                    Action::Disconnect(fate) => self.end(me, End::Goodbye(fate)),
                }
            }
        }
    }

    /// Ends a Network Connection for what its Client did: says why, closes, and the Will is due.
    pub(super) fn refuse(&mut self, me: Attachment, violation: &Violation) {
        let Some(client) = self.client(me) else { return };
        if may_log(&REFUSED, self.now) {
            tracing::info!(
                target: "waypost::client",
                client = %Outside::of(client.id().as_bytes()),
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
            self.filled.forget_sole(); // the next tick may be at another time
        }
    }

    /// Ends the Network Connection; the Session stays or goes as agreed.
    pub(super) fn end(&mut self, me: Attachment, end: End) {
        if self.client(me).is_none() {
            return;
        }
        self.flush_control(me.slot);
        let now = self.now;
        let last_words = self.last_words(me.slot, end);
        if let Some(wire) = self.clients.get_mut(me.slot).and_then(|client| client.wire.take()) {
            wire.reader().wake_by_ref();
            if let Some(words) = last_words {
                self.parting.insert(me, (wire, words));
            }
        }
        self.leave_groups(me.slot);
        let settings = &self.shared.settings;
        let Some(client) = self.clients.get_mut(me.slot) else { return };
        self.statistics.dropped.note_some(Dropped::Offline, client.session.detach(&settings.session));
        self.shared.ends.note(end);
        client.detach(now);
        self.shared.connections[usize::from(self.id.0)].fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
        tracing::debug!(target: "waypost::client", client = %Outside::of(client.id().as_bytes()), ?end, "disconnected");
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
            if client.session.has_changes() {
                self.keep_changes(me.slot);
            }
            self.keep_session(me.slot);
            self.publish_will_if_due(me.slot);
            self.set_timer(me.slot);
        }
        self.wants_tick = true;
    }

    /// What is left to say to a Client that is told why it is disconnected, but takes nothing now.
    fn last_words(&mut self, slot: u32, end: End) -> Option<Vec<u8>> {
        let client = self.clients.get_mut(slot)?;
        let tail = client.tail.take()?;
        if !matches!(end, End::Refused(_)) || self.level != Level::Normal || client.session.control_len() == 0 {
            return None;
        }
        self.out.clear();
        client.session.take_control(&mut self.out);
        tail.last_words(&self.out)
    }

    /// The writing side of a Network Connection that the shard has let go of, and what is to be written before it is closed,
    /// as far as the Client takes it in a bounded time.
    pub fn take_parting(&mut self, me: Attachment) -> Option<(W, Vec<u8>)> {
        self.parting.remove(&me)
    }

    /// The Session is over: subscriptions, queue and name go; a Will that was still waiting goes out now.
    pub(super) fn end_session(&mut self, slot: u32) {
        if let Some(will) = self.clients.get_mut(slot).and_then(|client| client.will.take()) {
            self.publish_will(slot, &will);
        }
        self.forget_kept(slot);
        self.remove_all_subscriptions(slot);
        self.drop_timer(slot);
        let generation = self.reference(slot).generation;
        if let Some(client) = self.clients.remove(slot) {
            self.shared.directory.note_ended(&client.identity);
            self.leaving.push((Arc::clone(client.id()), Home { shard: self.id, slot, generation }));
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
        self.run_review();
        self.run_sweep();
        self.run_sys();
        self.keep_clock();
        if self.durable.has_spilled() {
            self.ask_back_all();
        }
        self.release_answers();
        self.post_mail();
        self.flush_all();
        self.durable.commit_soon();
        self.forget_leaving();
        self.wants_tick |= self.has_more();
        if !self.paused.is_empty() && self.fanouts.len() <= FANOUTS_MAX && self.congested == 0 {
            self.paused.drain(..).for_each(Waker::wake);
        }
    }

    /// Whether there is work for a tick. The caller sees to it that a tick follows soon.
    pub fn wants_tick(&self) -> bool {
        self.wants_tick
            || self.durable.has_appended()
            || !self.flushes.is_empty()
            || !self.leaving.is_empty()
            || self.has_mail()
    }

    /// Whether ticks that use up their budgets are to come, so that others should have a turn after each of them.
    pub fn has_long_work(&self) -> bool {
        !self.fanouts.is_empty() || !self.replays.is_empty() || self.review.is_some()
    }

    /// When the next tick is due even if nothing happens.
    pub fn deadline(&self) -> Option<Moment> {
        let sys = self.sys.due(self.id, &self.shared.settings);
        [self.timer_due(), self.sweep.due(), sys, self.clock_due()].into_iter().flatten().min()
    }

    fn has_mail(&self) -> bool {
        self.shared.ports[usize::from(self.id.0)].has_mail()
    }

    fn has_more(&self) -> bool {
        !(self.incoming.is_empty() && self.fanouts.is_empty() && self.flushes.is_empty() && self.leaving.is_empty())
            || self.review.is_some()
            || (!self.replays.is_empty() && self.level == Level::Normal)
            || self.outgoing.iter().any(|mail| !mail.is_empty())
            || self.has_mail()
    }

    /// Memory and statistics are summed up here and not for each Message.
    fn measure(&mut self) {
        self.shared.budget.report(self.id, live_bytes());
        if self.durable.is_on() {
            self.shared.budget.report_stuck(self.durable.stuck_bytes());
        }
        let level = self.shared.budget.level();
        if level > self.level && may_log(&MEMORY, self.now) {
            tracing::warn!(target: "waypost::memory", ?level, used = self.shared.budget.used(), "memory gets short");
        }
        self.level = level;
        if !Arc::ptr_eq(&self.access, &self.shared.access.load()) {
            self.access = self.shared.access.load_full();
            self.begin_review();
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
                Mail::Publish(message, matched, route) => {
                    let about = self.durable.is_on().then(|| message.clone());
                    self.durable.begin_exchange(route.exchange);
                    self.durable.begin_message(matched.durability, message.qos());
                    self.offer(&matched, &message);
                    if matched.shards.contains(self.id) {
                        self.deliver(message, &matched, &route);
                    }
                    self.durable.note_taken(self.id);
                    self.durable.take_in(route);
                    self.durable.commit(about.as_ref());
                }
                Mail::Deliver(home, to, message, how) => self.deliver_shared(home, to, message, how),
                Mail::Recalled(recalled) => self.take_recalled(recalled.0, recalled.1),
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
    #[inline]
    pub fn matching(&mut self, topic: &[u8]) -> usize {
        let hash = self.shared.router.epochs.hash(topic);
        self.matched(topic, hash).filters.len()
    }

    /// Publishes the Wills that are due when their Network Connections end, while all are still there to receive them. For a
    /// node that stops, before [`stop`](Self::stop). Delayed Wills of Sessions that live on stay with these.
    pub fn publish_last_wills(&mut self, now: Moment) {
        self.now = now;
        for slot in 0..self.clients.end() {
            let Some(client) = self.clients.get_mut(slot).filter(|client| client.wire.is_some()) else { continue };
            let expiry = client.session.expiry();
            if let Some(will) = client.will.take_if(|will| will.delay.min(expiry).is_zero()) {
                self.publish_will(slot, &will);
            }
        }
        self.wants_tick = true;
    }

    /// Ends all Network Connections with this Reason Code; Sessions stay. For a node that stops.
    pub fn stop(&mut self, reason: ReasonCode, now: Moment) {
        self.now = now;
        for slot in 0..self.clients.end() {
            if let Some(client) = self.clients.get(slot).filter(|client| client.wire.is_some()) {
                let me = client.attached(slot);
                self.say_and_end(me, reason, None);
            }
        }
    }
}

/// Whether one more line of this class may be written; says how many were not.
pub(super) fn may_log(class: &Limited, now: Moment) -> bool {
    match class.permit(now.as_millis()) {
        Permit::Suppress => false,
        Permit::Log { suppressed: 0 } => true,
        Permit::Log { suppressed } => {
            tracing::info!(target: "waypost::client", "suppressed {suppressed} lines like the next");
            true
        }
    }
}
