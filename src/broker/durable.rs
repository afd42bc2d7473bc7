//! What must survive, and which answer waits for it.
//!
//! Each change to what outlives a Network Connection becomes part of a batch in the journal, which all shards share. Whoever asked
//! for the change is answered from a first-in, first-out gate, once its batch is safe and the other shards that a Message goes to
//! have theirs in the journal too. With `durability = "memory"` there is no journal, and the gate stays empty. Rules may say of
//! a Topic that its Messages are kept better or worse than all else ([`Durability`]): the router's answer says so.
//!
//! The tables below are the form on disk: numbers and encodings are for ever.

use super::fields::{Fields, put_identity, put_meta, put_text};
use super::mail::{Exchange, Route};
use super::recall::Wanted;
use super::shard::{Attachment, Shard, Wire};
use super::{Durability, Keeping, ShardId};
use crate::access::Identity;
use crate::codec::{Message, Moment, Options, PacketId, Qos, ReasonCode};
use crate::session::{Answer, Change, GroupId, Kept};
use crate::store::{Batch, BlobRef, Position, Safety};
use std::collections::VecDeque;
use std::time::Duration;

/// Key: Client Identifier. Value: [`SessionRow`](super::restore::SessionRow). Blob: its Will.
pub(super) const SESSIONS: u8 = 1;
/// Key: number of the Session, then the filter as it was subscribed to. Value: options, Subscription Identifier.
pub(super) const SUBSCRIPTIONS: u8 = 2;
/// Key: Topic Name. Value: who has published it. Blob: the Message.
pub(super) const RETAINED: u8 = 3;
/// Key: number of the Session, then the Packet Identifier of a QoS 2 PUBLISH that it has sent us. Value: whether every Session has
/// the Message; as long as one may lack it, it is the blob, and the Sessions that have it follow.
pub(super) const RECEIVED: u8 = 4;
/// Key: number of the Session, then the Packet Identifier of a QoS 2 delivery between PUBREC and PUBCOMP.
pub(super) const RELEASED: u8 = 5;
/// Key: [`CLOCK`].
pub(super) const META: u8 = 6;
/// Key: that of [`RECEIVED`], and a shard. Value: the Sessions there that have got the Message or had it.
pub(super) const TAKEN: u8 = 7;
/// Key: shard and number of a Message that other shards have to be done with. Blob: the Message, so that it stays until they are.
pub(super) const HELD: u8 = 8;
/// Key: number of a shared subscription that has had a member whose Session is kept. Value: its filter, as it is subscribed to.
/// What waits for it, or is with a member that may not have it, is in the queue of that number.
pub(super) const GROUPS: u8 = 9;
/// When the node was last known to run, in milliseconds since 1970.
pub(super) const CLOCK: &[u8] = b"clock";

/// The tables in words.
pub const TABLES: &[(u8, &str)] = &[
    (SESSIONS, "sessions"),
    (SUBSCRIPTIONS, "subscriptions"),
    (RETAINED, "retained messages"),
    (GROUPS, "shared subscriptions"),
    (RECEIVED, "QoS 2 messages that Clients have not released"),
    (RELEASED, "QoS 2 deliveries that Clients have not completed"),
];

/// Of all entries in the queue of a group: in which form its member gets it, is decided when it gets it.
pub(super) const GROUPS_TAG: u64 = 0;

/// Values of [`RECEIVED`] begin with one of these.
pub(super) const ON_ITS_WAY: u8 = 1;
pub(super) const EVERYWHERE: u8 = 0;

/// How often [`CLOCK`] is written.
const CLOCK_EVERY: Duration = Duration::from_secs(10);

/// What is said once its time has come.
pub(super) enum Say {
    /// To a publisher.
    Answer(Answer, ReasonCode),
    /// SUBACK or UNSUBACK, encoded. A Client that waits for many answers is read no further.
    Granted(Vec<u8>),
    /// Packets, encoded.
    Packets(Vec<u8>),
    /// Nothing: of a Will nobody is told.
    Nothing,
    /// CONNACK, which is among the packets of the Session already: they may be written from now on.
    Welcome,
}

struct Waiting {
    /// Not before the other shards are done with it.
    elsewhere: Option<Box<Elsewhere>>,
    position: Position,
    safety: Safety,
    to: Attachment,
    say: Say,
}

struct Elsewhere {
    /// Shards that must be done with our Message number `routed`, as bits.
    needs: u64,
    routed: u64,
    /// A QoS 2 exchange of which all is known once the shards are done.
    received: Option<Exchange>,
    /// The Message is held until then.
    held: Option<Route>,
}

/// What an answer waits for.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Until {
    pub(super) needs: u64,
    pub(super) received: Option<Exchange>,
    pub(super) held: Option<Route>,
    pub(super) position: Option<Position>,
    /// How safe it has to be; `None`: as all else.
    pub(super) safety: Option<Safety>,
}

/// The batch that is being put together, and the answers that wait.
pub(super) struct Durable {
    keeping: Option<Keeping>,
    batch: Batch,
    /// Of the entry that is being put into it.
    meta: Vec<u8>,
    /// The batch has the Message that it is about as its blob.
    has_blob: bool,
    /// Sessions that have got the Message of the batch, if it belongs to an exchange.
    pub(super) takers: Vec<u64>,
    /// Clients of which something went into the store alone: it may be time to read it back.
    pub(super) spilled: Vec<u32>,
    /// What the batch is about.
    pub(super) exchange: Option<Exchange>,
    waiting: VecDeque<Waiting>,
    /// So many at the front of those wait for their position and for nothing else.
    settled: usize,
    /// Messages that other shards, or later ticks, have to be done with: their last number.
    routed: u64,
    /// By shard, the last number of its Messages that we have taken in.
    taken_in: Vec<u64>,
    /// What the rules say of the Message that the batch is about.
    about: Durability,
    /// Where the last batch ends.
    last: Position,
    /// The journal has not been told yet that there is something to commit.
    has_appended: bool,
    /// Up to here, at least, the journal knows that it is to be synced.
    asked_for: Position,
    clock_due: Moment,
}

impl Durable {
    pub(super) fn new(keeping: Option<Keeping>, shards: usize) -> Self {
        Self {
            about: Durability::Usual,
            keeping,
            batch: Batch::new(),
            meta: Vec::new(),
            has_blob: false,
            takers: Vec::new(),
            spilled: Vec::new(),
            exchange: None,
            waiting: VecDeque::new(),
            settled: 0,
            routed: 0,
            taken_in: vec![0; shards],
            last: Position(0),
            has_appended: false,
            asked_for: Position(0),
            clock_due: Moment::default(),
        }
    }

    /// Whether anything is to survive at all.
    #[inline]
    pub(super) fn is_on(&self) -> bool {
        self.keeping.is_some()
    }

    /// The disk takes nothing at the moment.
    #[inline]
    pub(super) fn is_in_trouble(&self) -> bool {
        self.keeping.as_ref().is_some_and(|keeping| keeping.journal.trouble().is_some())
    }

    /// Bytes that wait in memory for a disk that takes nothing; `None` while it does, and nothing has to be asked.
    pub(super) fn stuck_bytes(&self) -> Option<u64> {
        let keeping = self.keeping.as_ref().filter(|_| self.is_in_trouble())?;
        Some(keeping.journal.statistics().bytes_pending)
    }

    /// Milliseconds since 1970.
    pub(super) fn unix_ms(&self, now: Moment) -> u64 {
        self.keeping.as_ref().map_or(0, |keeping| keeping.began_unix_ms.saturating_add(now.as_millis()))
    }

    /// Where the last batch of this shard ends.
    pub(super) fn last(&self) -> Position {
        self.last
    }

    /// Where the journal ends.
    pub(super) fn tail(&self) -> Position {
        self.keeping.as_ref().map_or(Position(0), |keeping| keeping.journal.tail())
    }

    /// What waits for a Session may wait in the store alone.
    pub(super) fn can_recall(&self) -> bool {
        self.keeping.as_ref().is_some_and(|keeping| keeping.recall.is_some())
    }

    #[inline]
    pub(super) fn has_spilled(&self) -> bool {
        !self.spilled.is_empty()
    }

    /// Something of this Client's queue is in the store alone.
    pub(super) fn note_spilled(&mut self, slot: u32) {
        if self.spilled.last() != Some(&slot) {
            self.spilled.push(slot);
        }
    }

    /// Has something read back.
    pub(super) fn recall(&self, wanted: Wanted) {
        if let Some(recall) = self.keeping.as_ref().and_then(|keeping| keeping.recall.as_ref()) {
            recall.recall(wanted);
        }
    }

    // --- the batch --------------------------------------------------------------------------------------------------

    /// The Message, whose bytes go along unless the journal has them.
    pub(super) fn blob(&mut self, message: &Message) -> BlobRef {
        match (message.record(), &self.keeping) {
            (0, Some(keeping)) => {
                if !self.has_blob {
                    let (head, bytes) = message.to_stored(keeping.began_unix_ms);
                    self.batch.blob(&[&head, bytes]);
                    self.has_blob = true;
                }
                BlobRef::This
            }
            (record, _) => BlobRef::Of(record),
        }
    }

    /// The batch is about a Message of which the rules say this. Whether it is kept.
    #[inline]
    pub(super) fn begin_message(&mut self, says: Durability, qos: Qos) -> bool {
        self.about = match (says, qos) {
            (Durability::Memory | Durability::Os, Qos::ExactlyOnce) => Durability::Usual,
            _ => says,
        };
        !self.is_passing()
    }

    /// The Message that the batch is about is not kept.
    #[inline]
    pub(super) fn is_passing(&self) -> bool {
        self.about == Durability::Memory
    }

    /// How safe the Message that the batch is about has to be.
    pub(super) fn safety(&self) -> Safety {
        match (self.about, &self.keeping) {
            (Durability::Os, _) => Safety::Written,
            (Durability::Disk, _) | (_, None) => Safety::Synced,
            (Durability::Usual | Durability::Memory, Some(keeping)) => keeping.safety,
        }
    }

    fn put_meta(&mut self, packet_id: Option<PacketId>, size: usize, subscription_ids: &[u32]) {
        self.meta.clear();
        put_meta(&mut self.meta, packet_id, size, subscription_ids);
    }

    /// A Session waits for the Message.
    pub(super) fn enter(&mut self, session: u64, message: &Message, tag: u64, subscription_ids: &[u32]) {
        let blob = self.blob(message);
        self.put_meta(None, message.size(), subscription_ids);
        self.batch.enter(session, blob, tag, &self.meta);
        if self.exchange.is_some() {
            self.takers.push(session);
        }
    }

    pub(super) fn retain(&mut self, message: &Message, writer: &Identity) {
        let blob = self.blob(message);
        let mut value = Vec::new();
        put_text(&mut value, &writer.client_id);
        put_identity(&mut value, writer);
        self.batch.put(RETAINED, message.topic(), &value, blob);
    }

    pub(super) fn clear_retained(&mut self, topic: &[u8]) {
        self.batch.delete(RETAINED, topic);
    }

    /// It is retained no more, and nobody has said so: another may have taken its place meanwhile. One that the journal does not
    /// have yet is found at the next start.
    pub(super) fn end_retained(&mut self, message: &Message) {
        if self.is_on() && message.record() != 0 {
            self.batch.delete_of(RETAINED, message.topic(), message.record());
        }
    }

    /// The batch is about the Message of this exchange.
    #[inline]
    pub(super) fn begin_exchange(&mut self, exchange: Option<Exchange>) {
        self.exchange = exchange;
        self.takers.clear();
    }

    /// The Message that the batch has brought stays until the other shards are done with it.
    pub(super) fn hold(&mut self, from: ShardId) -> Option<Route> {
        let route = Route { from, number: self.routed, exchange: None };
        self.has_blob.then(|| {
            self.batch.put(HELD, &route.key(), &[], BlobRef::This);
            route
        })
    }

    /// A Session has sent us a QoS 2 PUBLISH, which Sessions here have got; those of other shards have not yet.
    pub(super) fn receive(&mut self, exchange: Exchange, message: &Message, is_on_its_way: bool) {
        if is_on_its_way {
            let blob = self.blob(message);
            let value = sessions(ON_ITS_WAY, &std::mem::take(&mut self.takers));
            self.batch.put(RECEIVED, &exchange.key(), &value, blob);
        } else {
            self.batch.put(RECEIVED, &exchange.key(), &[EVERYWHERE], BlobRef::None);
        }
        self.exchange = None;
    }

    /// Sessions of this shard have got the Message of another shard's exchange, or of one that takes several ticks.
    pub(super) fn note_taken(&mut self, by: ShardId) {
        if let Some(exchange) = self.exchange.take()
            && !self.takers.is_empty()
        {
            self.batch.put(TAKEN, &exchange.key_of(by.0), &sessions(EVERYWHERE, &self.takers), BlobRef::None);
        }
    }

    pub(super) fn subscribe(&mut self, session: u64, filter: &str, options: Options, subscription_id: u32) {
        let mut value = vec![Fields::options(options)];
        value.extend_from_slice(&subscription_id.to_be_bytes());
        self.batch.put(SUBSCRIPTIONS, &subscription(session, filter.as_bytes()), &value, BlobRef::None);
    }

    pub(super) fn unsubscribe(&mut self, session: u64, filter: &[u8]) {
        self.batch.delete(SUBSCRIPTIONS, &subscription(session, filter));
    }

    /// A shared subscription has this number. The row is in the journal when this returns, before any entry.
    pub(super) fn begin_group(&mut self, number: u64, text: &[u8]) {
        self.batch.put(GROUPS, &number.to_be_bytes(), text, BlobRef::None);
        self.commit(None);
    }

    /// The last member of a shared subscription has left.
    pub(super) fn end_group(&mut self, number: u64) {
        if number != 0 {
            self.batch.clear_queue(number);
            self.batch.delete(GROUPS, &number.to_be_bytes());
        }
    }

    /// What a Session was to get cannot be had.
    pub(super) fn leave(&mut self, session: u64, kept: Kept) {
        self.batch.leave(session, kept.record, kept.tag);
    }

    /// A Message waits for a shared subscription.
    pub(super) fn enter_group(&mut self, group: u64, message: &Message) {
        self.enter(group, message, GROUPS_TAG, &[]);
    }

    /// A member of a shared subscription is done with the Message, or nobody will get it. `true`: the batch says so; the next
    /// one that is given to the journal takes it along, at the latest in the next tick.
    pub(super) fn leave_group(&mut self, group: u64, record: u64) -> bool {
        let is_there = group != 0 && record != 0;
        if is_there {
            self.batch.leave(group, record, GROUPS_TAG);
        }
        is_there
    }

    /// What was the group's is this Session's from now on.
    pub(super) fn take_over(&mut self, group: u64, session: u64, kept: Kept, packet_id: Option<PacketId>) {
        // In this order: the Message is always somebody's.
        self.put_meta(packet_id, 0, &[]);
        self.batch.enter(session, BlobRef::Of(kept.record), kept.tag, &self.meta);
        self.leave_group(group, kept.record);
    }

    pub(super) fn session(&mut self, client_id: &str, value: &[u8], will: Option<&Message>) {
        let blob = will.map_or(BlobRef::None, |will| self.blob(will));
        self.batch.put(SESSIONS, client_id.as_bytes(), value, blob);
    }

    pub(super) fn forget_session(&mut self, client_id: &str, session: u64, exchanges: &[(u8, PacketId)]) {
        self.batch.delete(SESSIONS, client_id.as_bytes());
        self.batch.clear_queue(session);
        for (table, packet_id) in exchanges {
            self.batch.delete(*table, &Exchange { session, packet_id: *packet_id }.key());
        }
    }

    /// What a Session has gone through. `group_number`: under which number the store has a group.
    pub(super) fn note(&mut self, session: u64, changes: &[Change], group_number: impl Fn(GroupId) -> u64) {
        let key = |packet_id: &PacketId| Exchange { session, packet_id: *packet_id }.key();
        for change in changes {
            match change {
                Change::Left(Kept { record, tag }) => self.batch.leave(session, *record, *tag),
                Change::Sent(Kept { record, tag }, packet_id, ids) => {
                    self.put_meta(Some(*packet_id), 0, ids);
                    self.batch.mark(session, *record, *tag, &self.meta);
                }
                Change::Taken(kept, packet_id, group) => {
                    self.take_over(group_number(*group), session, *kept, Some(*packet_id));
                }
                Change::Released(Kept { record, tag }, packet_id) => {
                    self.batch.leave(session, *record, *tag);
                    self.batch.put(RELEASED, &key(packet_id), &[], BlobRef::None);
                }
                Change::Completed(packet_id) => self.batch.delete(RELEASED, &key(packet_id)),
                Change::Finished(packet_id) => self.batch.delete(RECEIVED, &key(packet_id)),
            }
        }
    }

    /// Gives the batch to the journal. `message` is what it was about, which has a number from then on. `None`: it was empty.
    pub(super) fn commit(&mut self, message: Option<&Message>) -> Option<Position> {
        let safety = if message.is_some() { self.safety() } else { self.usual(None) };
        self.commit_as(safety, message)
    }

    /// The same of something that nobody waits for: it goes along with what is synced next.
    pub(super) fn commit_unawaited(&mut self) {
        self.commit_as(Safety::Written, None);
    }

    fn commit_as(&mut self, safety: Safety, message: Option<&Message>) -> Option<Position> {
        if self.batch.is_empty() {
            return None;
        }
        let appended = self.keeping.as_ref()?.journal.append(&self.batch, safety);
        if safety == Safety::Synced {
            self.asked_for = appended.end;
        }
        if let Some(message) = message.filter(|_| self.has_blob) {
            message.set_record(appended.id);
        }
        self.batch.clear();
        self.has_blob = false;
        self.exchange = None;
        self.last = appended.end;
        self.has_appended = true;
        Some(appended.end)
    }

    /// The journal has been given something that it is to commit when the tick has been through all.
    #[inline]
    pub(super) fn has_appended(&self) -> bool {
        self.has_appended
    }

    /// Has it commit what it was given since the last tick.
    pub(super) fn commit_soon(&mut self) {
        if std::mem::take(&mut self.has_appended)
            && let Some(keeping) = &self.keeping
        {
            keeping.journal.commit_soon();
        }
    }

    // --- between shards ---------------------------------------------------------------------------------------------

    /// The next Message that others have to be done with.
    pub(super) fn next_route(&mut self, from: ShardId) -> Route {
        self.routed += 1;
        Route { from, number: self.routed, exchange: self.exchange }
    }

    pub(super) fn take_in(&mut self, route: Route) {
        let taken_in = &mut self.taken_in[usize::from(route.from.0)];
        *taken_in = (*taken_in).max(route.number);
    }

    // --- the gate ---------------------------------------------------------------------------------------------------

    /// Whether an answer may go now: what it waits for has come, and none to the same Client waits, of which there are so many.
    #[inline]
    pub(super) fn is_open(&self, until: &Until, unanswered: impl FnOnce() -> u16) -> bool {
        until.needs == 0
            && until.position.is_none_or(|position| self.is_safe(position, self.usual(until.safety)))
            && (self.waiting.is_empty() || unanswered() == 0)
    }

    fn usual(&self, safety: Option<Safety>) -> Safety {
        safety.or(self.keeping.as_ref().map(|keeping| keeping.safety)).unwrap_or(Safety::Synced)
    }

    fn is_safe(&self, position: Position, safety: Safety) -> bool {
        self.keeping.as_ref().is_none_or(|keeping| position <= keeping.journal.reached(safety))
    }

    pub(super) fn wait(&mut self, until: Until, to: Attachment, say: Say) {
        let position = until.position.unwrap_or(Position(0));
        let safety = self.usual(until.safety);
        let Until { needs, received, held, .. } = until;
        if needs == 0 && safety == Safety::Synced && position > self.asked_for {
            self.ask_for_sync();
        }
        let elsewhere = || Box::new(Elsewhere { needs, routed: self.routed, received, held });
        let elsewhere = (needs != 0).then(elsewhere);
        self.waiting.push_back(Waiting { elsewhere, position, safety, to, say });
    }

    /// Somebody will wait until all that is in the journal is synced, which whoever appended it may not have asked for.
    fn ask_for_sync(&mut self) {
        if let Some(keeping) = &self.keeping {
            self.asked_for = keeping.journal.tail();
            self.has_appended = true;
            keeping.journal.sync_soon();
        }
    }

    /// The next that may be said.
    fn release(&mut self) -> Option<(Attachment, Say)> {
        let front = self.waiting.front().filter(|_| self.settled > 0)?;
        if !self.is_safe(front.position, front.safety) {
            return None;
        }
        self.settled -= 1;
        self.waiting.pop_front().map(|waiting| (waiting.to, waiting.say))
    }

    /// Finds out what those wait for whose Messages the other shards are done with: all of them together, since what is written
    /// about one would have to be waited for by the next. `is_done`: whether a shard is done with our Message of this number;
    /// `is_there`: whether the Session of an exchange is.
    fn settle(&mut self, is_done: impl Fn(usize, u64) -> bool, is_there: impl Fn(Attachment, Exchange) -> bool) {
        let is_open = |waiting: &Waiting| {
            waiting.elsewhere.as_ref().is_none_or(|elsewhere| {
                let is_left = |shard: &usize| elsewhere.needs & 1 << shard != 0;
                (0..u64::BITS as usize).filter(is_left).all(|shard| is_done(shard, elsewhere.routed))
            })
        };
        let more = self.waiting.iter().skip(self.settled).take_while(|waiting| is_open(waiting)).count();
        if more == 0 {
            return;
        }
        let new = self.settled..self.settled + more;
        self.settled = new.end;
        // Whatever the others have put into the journal lies before its end.
        let is_elsewhere = |waiting: &&Waiting| waiting.elsewhere.is_some();
        let strictest = self.waiting.range(new.clone()).filter(is_elsewhere).map(|waiting| waiting.safety).max();
        let Some(strictest) = strictest else { return };
        let tail = self.tail();
        if strictest == Safety::Synced {
            self.ask_for_sync();
        }
        let mut finished = Vec::new();
        for (waiting, at) in self.waiting.range_mut(new.clone()).zip(new) {
            let Some(elsewhere) = waiting.elsewhere.take() else { continue };
            waiting.position = tail;
            if let Some(route) = elsewhere.held {
                self.batch.delete(HELD, &route.key());
            }
            if let Some(exchange) = elsewhere.received {
                finished.push(at);
                if is_there(waiting.to, exchange) {
                    self.batch.put(RECEIVED, &exchange.key(), &[EVERYWHERE], BlobRef::None);
                } else {
                    self.batch.delete(RECEIVED, &exchange.key()); // its Session has ended meanwhile
                }
                for shard in (0..u64::BITS as u16).filter(|shard| elsewhere.needs & 1 << shard != 0) {
                    self.batch.delete(TAKEN, &exchange.key_of(shard));
                }
            }
        }
        if finished.is_empty() {
            self.commit_unawaited();
        } else if let Some(end) = self.commit(None) {
            finished.into_iter().for_each(|at| self.waiting[at].position = end);
        }
    }

    fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// While the disk takes nothing: those who can be told. What is theirs is in the journal's hands and will be committed and
    /// delivered: at QoS 1 that is no harm, as they may send it again. At QoS 2 it would come twice, so they wait.
    fn take_answers(&mut self, mut may_be_told: impl FnMut(Attachment) -> bool) -> Vec<(Attachment, Answer)> {
        let mut told = Vec::new();
        self.settled = 0; // those that stay are found again
        self.waiting.retain_mut(|waiting| match waiting.say {
            Say::Answer(answer @ Answer::PubAck(_), _) if may_be_told(waiting.to) => {
                told.push((waiting.to, answer));
                waiting.say = Say::Nothing;
                waiting.elsewhere.as_ref().is_some_and(|elsewhere| elsewhere.held.is_some()) // it has to be let go
            }
            _ => true,
        });
        told
    }
}

impl<W: Wire> Shard<W> {
    /// Says what has become safe, and tells the other shards how far we are with their Messages.
    pub(super) fn release_answers(&mut self) {
        if !self.durable.is_on() {
            return;
        }
        self.durable.commit_unawaited(); // what was settled of shared subscriptions since
        self.report_progress();
        let (id, shared, clients) = (self.id, &self.shared, &self.clients);
        self.durable.settle(
            |shard, number| shared.is_done(id, shard, number),
            |to, exchange| clients.get(to.slot).is_some_and(|client| client.kept_as == exchange.session),
        );
        loop {
            while let Some((to, say)) = self.durable.release() {
                self.say(to, say);
            }
            self.shared.set_waiting(self.id, self.durable.is_waiting());
            // What became safe before that was set has woken nobody.
            match self.durable.release() {
                Some((to, say)) => self.say(to, say),
                None => break,
            }
        }
        if self.durable.is_waiting() && self.durable.is_in_trouble() {
            self.tell_trouble();
        }
    }

    fn say(&mut self, to: Attachment, say: Say) {
        match say {
            Say::Answer(answer, reason) => {
                self.answer(to, answer, reason);
                if let Some(client) = self.client_mut(to) {
                    client.note_answered();
                }
            }
            Say::Nothing => {}
            Say::Granted(packets) => {
                if let Some(client) = self.client_mut(to) {
                    client.session.say_encoded(&packets);
                    client.note_answered();
                    self.mark_dirty(to.slot);
                }
            }
            Say::Packets(packets) => {
                if let Some(client) = self.client_mut(to) {
                    client.session.say_encoded(&packets);
                    self.mark_dirty(to.slot);
                }
            }
            Say::Welcome => {
                if let Some(client) = self.client_mut(to) {
                    client.welcome();
                    self.mark_dirty(to.slot);
                    self.resume_replay_if_room(to.slot);
                }
            }
        }
    }

    /// The disk takes nothing: MQTT 5 Clients that wait at QoS 1 are told so, all others wait for it.
    #[cold]
    fn tell_trouble(&mut self) {
        let clients = &self.clients;
        let knows_reasons =
            |to: Attachment| clients.get(to.slot).is_some_and(|client| client.session.terms().version.is_v5());
        for (to, answer) in self.durable.take_answers(knows_reasons) {
            self.say(to, Say::Answer(answer, ReasonCode::QuotaExceeded));
        }
    }

    /// The other shards' Messages that all Sessions of this one have.
    fn report_progress(&mut self) {
        for from in 0..self.durable.taken_in.len() {
            let taken_in = self.durable.taken_in[from];
            let under_way = self.fanouts.iter().filter_map(|fanout| fanout.route_from(from)).min();
            let done = under_way.map_or(taken_in, |number| number - 1);
            self.shared.note_done(ShardId(from as u16), self.id, done);
        }
    }

    /// Gives the store what a Session has gone through, before anything is said to its Client.
    #[cold]
    pub(super) fn keep_changes(&mut self, slot: u32) {
        let Some(client) = self.clients.get_mut(slot) else { return };
        let (changes, withheld) = client.session.take_changes();
        let (session, me) = (client.kept_as, client.attached(slot));
        self.durable.note(session, &changes, |group| client.seat_of(group).map_or(0, |seat| seat.kept_as()));
        if withheld.is_empty() {
            self.durable.commit_unawaited();
        } else {
            let position = self.durable.commit(None).or(Some(self.durable.last));
            self.durable.wait(Until { position, ..Until::default() }, me, Say::Packets(withheld));
            self.wants_tick = true;
        }
        self.ask_back(slot); // something was sent or settled
    }

    /// Writes down that the node runs.
    pub(super) fn keep_clock(&mut self) {
        if self.clock_due().is_some_and(|due| due <= self.now) {
            // While the disk takes nothing, one that waits says enough.
            if !self.durable.is_in_trouble() {
                let now_ms = self.durable.unix_ms(self.now);
                self.durable.batch.put(META, CLOCK, &now_ms.to_be_bytes(), BlobRef::None);
                self.durable.commit(None);
            }
            self.durable.clock_due = self.now.plus(CLOCK_EVERY);
        }
    }

    pub(super) fn clock_due(&self) -> Option<Moment> {
        (self.durable.is_on() && self.id == ShardId(0)).then_some(self.durable.clock_due)
    }
}

impl Route {
    fn key(self) -> Vec<u8> {
        [&self.from.0.to_be_bytes()[..], &self.number.to_be_bytes()].concat()
    }
}

impl Exchange {
    pub(super) fn key(self) -> Vec<u8> {
        [&self.session.to_be_bytes()[..], &self.packet_id.get().to_be_bytes()].concat()
    }

    fn key_of(self, shard: u16) -> Vec<u8> {
        [&self.key()[..], &shard.to_be_bytes()].concat()
    }
}

/// A byte, and numbers of Sessions.
fn sessions(first: u8, numbers: &[u64]) -> Vec<u8> {
    std::iter::once(first).chain(numbers.iter().flat_map(|number| number.to_be_bytes())).collect()
}

fn subscription(session: u64, filter: &[u8]) -> Vec<u8> {
    [&session.to_be_bytes()[..], filter].concat()
}

/// Whether a delivery of this QoS is one that the store is to know.
#[inline]
pub(super) fn is_kept(session: u64, qos: Qos) -> bool {
    qos != Qos::AtMostOnce && session != 0
}
