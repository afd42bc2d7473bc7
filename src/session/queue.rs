//! Messages that wait for one Client: three lanes by delivered QoS, each in the order of arrival.
//!
//! The order that the standard demands holds within a Topic and QoS [MQTT-4.6.0-5], so lanes can never break it, and
//! urgent lanes may overtake. It never encodes anything and never decides what is sent: `deliver.rs` does. Where much waits, its
//! front is in memory and the rest in the store: `spill.rs`.

use super::Limits;
use super::allowance::{Account, Allowance, Amount};
use super::log::Kept;
use super::spill::Spilled;
use crate::codec::{LiveBytes, Message, Moment, Qos};
use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

/// One Message on its way to receivers of one shard: shared by all of them, counted without atomics.
#[derive(Debug)]
pub struct Outgoing {
    pub message: Message,
    /// Subscription Identifiers, where one delivery has several [MQTT-3.3.4-4]. Otherwise empty.
    pub subscription_ids: Box<[u32]>,
    /// What the first receiver that had to be decided about has made of the Topic; 0 = none has been yet.
    topic_hash: Cell<u64>,
}

impl Outgoing {
    pub fn new(message: Message) -> Rc<Self> {
        Self::with_ids(message, Box::default())
    }

    pub fn with_ids(message: Message, subscription_ids: Box<[u32]>) -> Rc<Self> {
        Rc::new(Self { message, subscription_ids, topic_hash: Cell::new(0) })
    }

    /// The hash of the Topic, by a function that is always the same: it is called once for all receivers.
    #[inline]
    pub fn topic_hash(&self, hash: impl FnOnce(&[u8]) -> u64) -> u64 {
        if self.topic_hash.get() == 0 {
            self.topic_hash.set(hash(self.message.topic()));
        }
        self.topic_hash.get()
    }
}

/// The shared subscription that a delivery was taken from; unique for the life of the process. 0 = none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct GroupId(pub u32);

impl GroupId {
    pub const NONE: Self = Self(0);

    pub fn is_some(self) -> bool {
        self != Self::NONE
    }
}

/// Who sees to it that a queue does not grow without end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// The queue itself: beyond its limits a Message is refused.
    Queue,
    /// The same; and where many wait in memory already, it waits in the store, which gets it in any case.
    Store,
    /// The same, and memory is short.
    StoreEarly,
    /// Whoever pushes: a shared subscription by its member's window, a replay by the room that it looks for.
    Caller,
}

/// Which QoS 1 or 2 Message goes where there is no room for one more. Those under way stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drops {
    /// The one that comes.
    Newest,
    /// Those that have waited longest, of QoS 1 first.
    Oldest,
    /// Those of a lower QoS than the one that comes, as far as they wait in memory; where there is none, the one that comes.
    Lowest,
}

/// How a Message is to be delivered to one Client.
#[derive(Clone, Copy, Debug)]
pub struct How {
    pub qos: Qos,
    /// RETAIN as the receiver will see it.
    pub retain: bool,
    /// A single Subscription Identifier, 0 = none; several are in the [`Outgoing`].
    pub subscription_id: u32,
    pub group: GroupId,
    pub bound: Bound,
}

/// One delivery that waits or is in flight: 16 bytes.
#[derive(Clone, Debug)]
pub struct Queued {
    pub outgoing: Rc<Outgoing>,
    /// Subscription Identifier (28 bits) and flags above it.
    packed: u32,
    pub group: GroupId,
}

const RETAIN: u32 = 1 << 28;
/// Only with a seeded fault: it came while the Client was away.
const AWAY: u32 = 1 << 29;
/// It may have been sent before, by a process that has ended.
const AGAIN: u32 = 1 << 30;
/// The store has it in the queue of its group.
const GROUPS: u32 = 1 << 31;
const SUBSCRIPTION_ID: u32 = RETAIN - 1;

/// Subscription Identifier and RETAIN.
pub(super) fn packed(how: How) -> u32 {
    (how.subscription_id & SUBSCRIPTION_ID) | if how.retain { RETAIN } else { 0 }
}

impl How {
    pub(super) fn while_away(self) -> Self {
        Self { subscription_id: self.subscription_id | AWAY, ..self }
    }

    /// The same of a Message that the store has in the queue of its group.
    pub fn kept_by_group(self) -> Self {
        Self { subscription_id: self.subscription_id | GROUPS, ..self }
    }

    pub fn is_kept_by_group(self) -> bool {
        self.subscription_id & GROUPS != 0
    }
}

impl Queued {
    fn new(outgoing: &Rc<Outgoing>, how: How) -> Self {
        let marks = how.subscription_id & (AWAY | GROUPS);
        Self { outgoing: Rc::clone(outgoing), packed: packed(how) | marks, group: how.group }
    }

    pub(super) fn restored(outgoing: Rc<Outgoing>, packed: u32) -> Self {
        Self { outgoing, packed: packed & (SUBSCRIPTION_ID | RETAIN), group: GroupId::NONE }
    }

    pub fn message(&self) -> &Message {
        &self.outgoing.message
    }

    pub fn retain(&self) -> bool {
        self.packed & RETAIN != 0
    }

    pub(super) fn waited_away(&self) -> bool {
        self.packed & AWAY != 0
    }

    pub fn subscription_id(&self) -> u32 {
        self.packed & SUBSCRIPTION_ID
    }

    pub(super) fn packed(&self) -> u32 {
        self.packed & !(AWAY | AGAIN | GROUPS)
    }

    /// Whether the store has it in the queue of its group.
    #[inline]
    pub fn is_groups(&self) -> bool {
        self.packed & GROUPS != 0
    }

    /// What the group may forget once this is settled: [`Message::record`]; 0 = nothing.
    pub(super) fn groups_record(&self) -> u64 {
        if self.is_groups() { self.message().record() } else { 0 }
    }

    /// From now on the store has it as the Session's.
    pub(super) fn make_own(&mut self) {
        self.packed &= !GROUPS;
    }

    pub(super) fn again(self) -> Self {
        Self { packed: self.packed | AGAIN, ..self }
    }

    /// Whether it goes out as a repetition although this process sends it for the first time [MQTT-3.3.1-1].
    pub(super) fn is_again(&self) -> bool {
        self.packed & AGAIN != 0
    }
}

/// Why a delivery was not queued or not sent. Each has a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dropped {
    /// The queue of the receiving Session is full.
    QueueFull,
    /// QoS 0, and the Client is away.
    Offline,
    /// The Message expired while it waited [MQTT-3.3.2-5].
    Expired,
    /// Larger than the receiver's Maximum Packet Size [MQTT-3.1.2-25].
    PacketTooLarge,
    /// The receiver may not read this Topic.
    NotAuthorized,
    /// It waited in the store, and cannot be read there any more.
    Unreadable,
}

/// What the lanes are for.
pub(super) const LANES: [Qos; 3] = [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce];

/// The lanes. Exists only while something has been queued.
#[derive(Default)]
pub(super) struct Queue {
    lanes: [VecDeque<Queued>; 3],
    /// Bytes of Messages in the lanes: QoS 0, and QoS 1 and 2 together.
    bytes: [usize; 2],
    /// Deficit round robin between the lanes; see `deliver.rs`.
    pub(super) credit: [i64; 3],
    /// The places of the lanes, taken or not.
    places: LiveBytes,
    /// How much of QoS 1 and 2 there is room for.
    allowance: Allowance,
    /// What waits behind all that is here, in the store.
    pub(super) spilled: Option<Box<Spilled>>,
}

impl Queue {
    pub(super) fn new(limits: &Limits) -> Box<Self> {
        Box::new(Self { allowance: Allowance::free(limits.queue_max()), ..Self::default() })
    }

    /// Appends to the lane of the delivered QoS.
    ///
    /// # Errors
    /// `QueueFull`: the bound of the lane is reached, or there is no more place in memory; nothing was queued.
    #[inline]
    pub(super) fn push(&mut self, outgoing: &Rc<Outgoing>, how: How, limits: &Limits) -> Result<(), Dropped> {
        let kept = usize::from(how.qos != Qos::AtMostOnce);
        let size = outgoing.message.size();
        let lacks_room = |queue: &Self| how.bound != Bound::Queue && queue.lacks_room(how.bound, limits);
        if how.bound != Bound::Caller && (self.is_full(kept, size, limits) || lacks_room(self)) {
            return Err(Dropped::QueueFull);
        }
        self.append(outgoing, how, size);
        Ok(())
    }

    /// Whether what comes next of QoS 1 or 2 does not wait in memory.
    pub(super) fn lacks_room(&self, bound: Bound, limits: &Limits) -> bool {
        self.spilled.is_some() || self.at_hand() >= limits.at_hand_max(bound == Bound::StoreEarly)
    }

    /// QoS 1 and 2 Messages in memory.
    #[inline]
    pub(super) fn at_hand(&self) -> usize {
        self.lanes[1].len() + self.lanes[2].len()
    }

    #[inline]
    pub(super) fn append(&mut self, outgoing: &Rc<Outgoing>, how: How, size: usize) {
        self.bytes[usize::from(how.qos != Qos::AtMostOnce)] += size;
        let lane = &mut self.lanes[how.qos as usize];
        let places = lane.capacity();
        lane.push_back(Queued::new(outgoing, how));
        if lane.capacity() != places {
            self.count_places();
        }
    }

    /// Puts back what was queued before. It was within the bounds then.
    pub(super) fn restore(&mut self, queued: Queued, qos: Qos) {
        self.bytes[usize::from(qos != Qos::AtMostOnce)] += queued.message().size();
        self.lanes[qos as usize].push_back(queued);
        self.count_places();
    }

    /// Drops the oldest of what waits in these lanes in memory until it is no longer full, the lowest first, and says how many
    /// that were. What came from a shared subscription is its group's, and stays.
    pub(super) fn drop_oldest(
        &mut self,
        lanes: &[usize],
        is_full: impl Fn(&Self) -> bool,
        mut on_dropped: impl FnMut(&Queued, Qos),
    ) -> usize {
        let mut dropped = 0;
        while is_full(self)
            && let Some(lane) = lanes.iter().copied().find(|lane| self.is_own(*lane))
        {
            if let Some(queued) = self.pop(lane) {
                on_dropped(&queued, LANES[lane]);
            }
            dropped += 1;
        }
        dropped
    }

    /// Whether the first in this lane belongs to the Session.
    fn is_own(&self, lane: usize) -> bool {
        self.lanes[lane].front().is_some_and(|queued| !queued.group.is_some())
    }

    /// Many Messages that are small, or that are shared with others, take less than the queues that they wait in.
    #[cold]
    fn count_places(&mut self) {
        self.places.set(self.lanes.iter().map(VecDeque::capacity).sum::<usize>() * size_of::<Queued>());
    }

    pub(super) fn is_full(&self, kept: usize, size: usize, limits: &Limits) -> bool {
        if kept == 0 {
            self.lanes[0].len() >= limits.queue_qos0_messages_max || self.bytes[0] + size > limits.queue_qos0_bytes_max
        } else {
            let (messages, bytes) = self.kept_size();
            !self.allowance.holds(messages + 1, bytes + size)
        }
    }

    /// Asks for room for one more of this size.
    pub(super) fn widen(&mut self, size: usize, limits: &Limits, account: impl FnOnce() -> Option<Arc<Account>>) {
        let (messages, bytes) = self.kept_size();
        self.allowance.widen(Amount { messages: messages + 1, bytes: bytes + size }, limits.queue_max(), account);
    }

    /// What is here was here before.
    pub(super) fn charge(&mut self, account: Option<Arc<Account>>) {
        let (messages, bytes) = self.kept_size();
        self.allowance.charge(Amount { messages, bytes }, account);
    }

    #[cold]
    fn narrow(&mut self) {
        let (messages, bytes) = self.kept_size();
        self.allowance.narrow(Amount { messages, bytes });
    }

    /// Whether more waits with QoS 1 and 2 than may.
    pub(super) fn is_over(&self, limits: &Limits) -> bool {
        let (messages, bytes) = self.kept_size();
        messages > limits.queue_messages_max || bytes > limits.queue_bytes_max
    }

    /// What waits with QoS 1 and 2, wherever, and its bytes.
    fn kept_size(&self) -> (usize, usize) {
        let (messages, bytes) = self.spilled.as_ref().map_or((0, 0), |spilled| (spilled.messages, spilled.bytes));
        (self.at_hand() + messages, self.bytes[1] + bytes)
    }

    /// Places of expired Messages are free places. Only looks at the fronts, where the oldest are.
    pub(super) fn drop_expired(&mut self, now: Moment, mut on_expired: impl FnMut(&Queued, Qos)) {
        for (lane, qos) in LANES.into_iter().enumerate() {
            while self.lanes[lane]
                .front()
                .is_some_and(|queued| queued.message().is_expired(now) && !queued.group.is_some())
            {
                if let Some(queued) = self.pop(lane) {
                    on_expired(&queued, qos);
                }
            }
        }
    }

    pub(super) fn front(&self, lane: usize) -> Option<&Queued> {
        self.lanes[lane].front()
    }

    /// Whether this is all that waits, in the lane of QoS 0.
    #[inline]
    pub(super) fn holds_only(&self, one: &Queued) -> bool {
        let [lane, other, another] = &self.lanes;
        lane.len() == 1
            && other.is_empty()
            && another.is_empty()
            && lane.front().is_some_and(|queued| {
                Rc::ptr_eq(&queued.outgoing, &one.outgoing) && queued.packed == one.packed && !queued.group.is_some()
            })
    }

    #[inline]
    pub(super) fn pop(&mut self, lane: usize) -> Option<Queued> {
        let queued = self.lanes[lane].pop_front()?;
        self.bytes[usize::from(lane != 0)] -= queued.message().size();
        if self.allowance.is_counted() {
            self.narrow();
        }
        Some(queued)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.spilled.is_none() && self.lanes.iter().all(VecDeque::is_empty)
    }

    /// Whether something could be sent: QoS 0 always, the others while there is send quota.
    pub(super) fn can_send(&self, quota: bool) -> bool {
        !self.lanes[0].is_empty() || (quota && !(self.lanes[1].is_empty() && self.lanes[2].is_empty()))
    }

    pub(super) fn len(&self) -> usize {
        self.lanes[0].len() + self.kept_size().0
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes[0] + self.kept_size().1
    }

    /// What waits here and is in the store, or is to be.
    pub(super) fn kept(&self) -> impl Iterator<Item = Kept> {
        let lanes = LANES.into_iter().zip(&self.lanes);
        lanes.flat_map(|(qos, lane)| lane.iter().filter_map(move |queued| Kept::of(true, queued, qos)))
    }

    /// How many were dropped.
    pub(super) fn drop_qos0(&mut self) -> usize {
        let dropped = self.lanes[0].len();
        self.lanes[0] = VecDeque::new();
        self.bytes[0] = 0;
        self.count_places();
        dropped
    }

    /// What came from this shared subscription belongs to the Session from now on.
    pub(super) fn own_group(&mut self, group: GroupId, mut on_owned: impl FnMut(&mut Queued, Qos)) {
        for (lane, qos) in self.lanes.iter_mut().zip(LANES) {
            for queued in lane.iter_mut().filter(|queued| queued.group == group) {
                queued.group = GroupId::NONE;
                on_owned(queued, qos);
            }
        }
    }

    /// Takes out what came from these shared subscriptions, in order; for another member to get it.
    pub(super) fn take_shared(&mut self, of: impl Fn(GroupId) -> bool, mut take: impl FnMut(Queued, Qos)) {
        let of = |group: GroupId| group.is_some() && of(group);
        for (lane, qos) in LANES.into_iter().enumerate() {
            if !self.lanes[lane].iter().any(|queued| of(queued.group)) {
                continue;
            }
            for queued in std::mem::take(&mut self.lanes[lane]) {
                if of(queued.group) {
                    self.bytes[usize::from(lane != 0)] -= queued.message().size();
                    take(queued, qos);
                } else {
                    self.lanes[lane].push_back(queued);
                }
            }
        }
        self.count_places();
    }
}
