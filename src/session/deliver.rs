//! The sending side: into the queue, out of it within the send quota, and what the Client's acknowledgements settle.
//!
//! Packet Identifiers are given when a PUBLISH is encoded, so nothing that waits holds one. Nothing is ever sent twice on
//! one Network Connection [MQTT-4.4.0-1]; what is repeated after a resumption goes first, in its first order, with DUP.
//! `queue.rs` and `in_flight.rs` are the two places where a delivery can be.

use super::in_flight::{self, Slot};
use super::log::{Change, Kept, note_left};
use super::queue::{Dropped, Drops, GroupId, How, LANES, Outgoing, Queue, Queued};
use super::{Account, Action, Limits, Session};
use crate::codec::{Delivery, Message, Moment, PacketId, PacketType, Qos, ReasonCode, Version, encode_publish};
use crate::faults::{Fault, is_left_out};
use std::rc::Rc;
use std::sync::Arc;

/// What one call of [`Session::fill`] did. Reused by the caller, who empties it.
#[derive(Default, Debug)]
pub struct Filled {
    /// PUBLISH packets encoded.
    pub published: u64,
    /// Deliveries given up, with the reason.
    pub dropped: Vec<Dropped>,
    /// Deliveries of shared subscriptions that are over.
    pub settled: Vec<Settled>,
    /// Messages of shared subscriptions that this receiver cannot take.
    pub handed_back: Vec<HandedBack>,
    /// What was appended, if it was one PUBLISH of QoS 0 and nothing else.
    sole: Option<Sole>,
    /// The Message of the last PUBLISH that was appended, if its payload is large.
    large: Option<Message>,
    /// Bytes of PUBLISH packets that go out once they are safe.
    withheld: usize,
}

/// A PUBLISH as one receiver got it. The next receiver of a fan-out may need the very same bytes.
#[derive(Debug)]
struct Sole {
    queued: Queued,
    version: Version,
    size: usize,
}

impl Filled {
    /// Whether no delivery was given up, settled or handed back.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.dropped.is_empty() && self.settled.is_empty() && self.handed_back.is_empty()
    }

    /// What was appended last is used no more, or time has gone on.
    pub fn forget_sole(&mut self) {
        self.sole = None;
        self.large = None;
    }

    /// The Message whose payload ends what was appended last, where that is so large that it should not be copied to wait.
    pub fn large(&self) -> Option<&Message> {
        self.large.as_ref()
    }
}

/// A Message of a shared subscription that goes back to its group.
#[derive(Debug)]
pub struct HandedBack {
    pub group: GroupId,
    pub message: Message,
    pub qos: Qos,
    /// The store has it in the queue of its group.
    pub is_kept: bool,
}

impl HandedBack {
    fn of(queued: &Queued, qos: Qos) -> Self {
        Self { group: queued.group, message: queued.message().clone(), qos, is_kept: queued.is_groups() }
    }
}

/// A delivery of a shared subscription, at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    pub group: GroupId,
    /// What the group need not keep any more: [`Message::record`]; 0 = nothing.
    pub record: u64,
}

impl Settled {
    fn of(queued: &Queued) -> Self {
        Self { group: queued.group, record: queued.groups_record() }
    }
}

/// What was its group's so far, and is the Session's now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owned {
    /// What the group need not keep any more: [`Message::record`].
    pub record: u64,
    /// How the store is to know it instead, if it is to.
    pub kept: Option<Kept>,
}

/// Payloads of which no receiver should hold a copy, while many may wait for the rest of it.
const LARGE_BYTES: usize = 16 << 10;

#[inline]
fn large(message: &Message) -> Option<Message> {
    (message.payload().len() >= LARGE_BYTES).then(|| message.clone())
}

/// Weights of the lanes QoS 0, 1, 2 in bytes a round: with all three full each gets its share, and a QoS 0 head waits
/// for at most 48 KiB and one packet of each higher lane.
const QUANTUM: [i64; 3] = [4 << 10, 16 << 10, 32 << 10];

impl Session {
    /// Queues a delivery.
    ///
    /// # Errors
    /// The reason why it was not queued; nothing has changed then.
    #[inline]
    pub fn push(&mut self, outgoing: &Rc<Outgoing>, how: How, limits: &Limits) -> Result<(), Dropped> {
        if !self.connected && how.qos == Qos::AtMostOnce && !limits.queue_qos0_offline {
            return Err(Dropped::Offline);
        }
        let how = if is_left_out(Fault::Queued) && !self.connected { how.while_away() } else { how };
        self.queue.get_or_insert_with(|| Queue::new(limits)).push(outgoing, how, limits)
    }

    /// Drops what has expired in the front of the queue, so that a delivery that was refused may find room, and says how much that
    /// was.
    pub fn drop_expired(&mut self, now: Moment) -> usize {
        let (kept, log) = (self.kept, &mut self.log);
        let mut dropped = 0;
        if let Some(queue) = &mut self.queue {
            queue.drop_expired(now, |queued, qos| {
                dropped += 1;
                note_left(kept, log, queued, qos);
            });
        }
        dropped
    }

    /// Asks for room for one more Message of this size, of QoS 1 or 2. `account`: the user's, which all its Sessions share.
    pub fn widen(&mut self, size: usize, limits: &Limits, account: impl FnOnce() -> Option<Arc<Account>>) {
        self.queue.get_or_insert_with(|| Queue::new(limits)).widen(size, limits, account);
    }

    /// What [`restore`](Self::restore) has put back counts from now on.
    pub fn charge(&mut self, account: Option<Arc<Account>>) {
        if let Some(queue) = &mut self.queue {
            queue.charge(account);
        }
    }

    /// Queues a delivery of QoS 1 or 2 that the full queue has refused in place of others that wait there, as the limits say
    /// ([`Drops`]). How many had to go.
    ///
    /// # Errors
    /// `QueueFull`: it is the one that has to go.
    pub fn push_over(&mut self, outgoing: &Rc<Outgoing>, how: How, limits: &Limits) -> Result<usize, Dropped> {
        let lanes: &[usize] = match (limits.queue_drops, how.qos) {
            (Drops::Oldest, _) => &[1, 2],
            (Drops::Lowest, Qos::ExactlyOnce) => &[1],
            (Drops::Lowest | Drops::Newest, _) => &[],
        };
        if lanes.is_empty() || outgoing.message.size() > limits.queue_bytes_max {
            return Err(Dropped::QueueFull);
        }
        let queue = self.queue.get_or_insert_with(|| Queue::new(limits));
        let (kept, log) = (self.kept, &mut self.log);
        let on_dropped = |queued: &Queued, qos| note_left(kept, log, queued, qos);
        let is_full = |queue: &Queue| queue.is_full(1, outgoing.message.size(), limits);
        let dropped = queue.drop_oldest(lanes, is_full, on_dropped);
        if is_full(queue) && limits.queue_drops == Drops::Oldest && self.spill_over(outgoing, how) {
            return Ok(dropped);
        }
        self.push_or_spill(outgoing, how, limits).map(|()| dropped)
    }

    /// Messages that wait, and their bytes.
    pub fn waiting(&self) -> (usize, usize) {
        self.queue.as_ref().map_or((0, 0), |queue| (queue.len(), queue.bytes()))
    }

    /// QoS 1 and 2 deliveries that are not settled.
    pub fn in_flight(&self) -> usize {
        self.in_flight.as_ref().map_or(0, |in_flight| in_flight.len())
    }

    /// How many more QoS 1 and 2 PUBLISH packets may be sent now [MQTT-4.9.0-2].
    pub(super) fn quota(&self) -> u32 {
        let maximum = self.terms.receive_maximum;
        match &self.in_flight {
            None => maximum.into(),
            Some(in_flight) if in_flight.has_room(maximum) => u32::from(maximum) - in_flight.open(),
            Some(_) => 0,
        }
    }

    /// Appends what may be sent now to `out`, at most `room` bytes and one packet, and says whether there is more.
    /// `may_receive` decides for each Message, at the last moment, whether this Client may still read it.
    pub fn fill(
        &mut self,
        out: &mut Vec<u8>,
        room: usize,
        limits: &Limits,
        now: Moment,
        may_receive: impl Fn(&Outgoing) -> bool,
        filled: &mut Filled,
    ) -> bool {
        filled.forget_sole();
        filled.withheld = 0;
        if !self.control.is_empty() {
            // Acknowledgements are small and open other people's windows.
            out.append(&mut self.control);
            if std::mem::take(&mut self.fresh) {
                self.control = Vec::new(); // most Clients have nothing more to be answered for a long time
            }
        }
        let end = out.len() + room;
        if self.in_flight.as_ref().is_some_and(|in_flight| in_flight.has_resends()) {
            self.fill_resends(out, end, now, &may_receive, filled);
            if self.in_flight.as_ref().is_some_and(|in_flight| in_flight.has_resends()) {
                return self.has_something_to_send(); // nothing new before all that is old [MQTT-3.1.1: 4.6.0-1]
            }
        }
        while let Some((lane, credit)) = self.next_lane() {
            // A lane that is alone goes on as long as it is; so does one that has credit.
            let before = out.len() + filled.withheld;
            let stop = credit.map_or(end, |credit| end.min(before + credit));
            while self.is_ready(lane) {
                if out.len() + filled.withheld >= stop {
                    break;
                }
                self.send_from(lane, out, limits, now, &may_receive, filled);
            }
            if let (Some(queue), Some(_)) = (&mut self.queue, credit) {
                queue.credit[lane] -= (out.len() + filled.withheld - before) as i64;
            }
            if out.len() + filled.withheld >= end {
                return self.has_something_to_send();
            }
        }
        false
    }

    /// Whether what [`fill`](Self::fill) appended last, for another receiver and at the same time, is just what this one
    /// would get, and all that it would get; then it counts as sent.
    #[inline]
    pub fn repeat(&mut self, may_receive: impl Fn(&Outgoing) -> bool, filled: &mut Filled) -> bool {
        let (Some(sole), Some(queue)) = (&filled.sole, &mut self.queue) else { return false };
        let plain = self.control.is_empty()
            && self.terms.version == sole.version
            && self.terms.topic_alias_maximum == 0
            && sole.size <= self.terms.packet_size_max as usize
            && self.in_flight.as_ref().is_none_or(|in_flight| !in_flight.has_resends());
        let same = plain
            && queue.holds_only(&sole.queued)
            && (may_receive(&sole.queued.outgoing) || is_left_out(Fault::Repeated));
        if same {
            queue.pop(0);
            filled.published += 1;
        }
        same
    }

    /// Whether this lane has something that may be sent: QoS 0 always, the others while there is send quota.
    #[inline]
    fn is_ready(&self, lane: usize) -> bool {
        self.queue.as_ref().is_some_and(|queue| queue.front(lane).is_some()) && (lane == 0 || self.quota() > 0)
    }

    /// Deficit round robin: the highest lane that has something to send and credit left; when none has, a new round. A lane
    /// that is alone needs no credit.
    fn next_lane(&mut self) -> Option<(usize, Option<usize>)> {
        let ready = [0, 1, 2].map(|lane| self.is_ready(lane));
        let queue = self.queue.as_mut()?;
        if let [true, false, false] | [false, true, false] | [false, false, true] = ready {
            queue.credit = [0; 3];
            return ready.iter().position(|ready| *ready).map(|lane| (lane, None));
        }
        if !ready.contains(&true) {
            return None;
        }
        let lanes = || [2, 1, 0].into_iter().filter(|lane| ready[*lane]);
        let mut chosen = lanes().find(|lane| queue.credit[*lane] > 0);
        if chosen.is_none() {
            for lane in [0, 1, 2] {
                queue.credit[lane] = if ready[lane] { queue.credit[lane] + QUANTUM[lane] } else { 0 };
            }
            chosen = lanes().find(|lane| queue.credit[*lane] > 0);
        }
        let lane = chosen.unwrap_or_else(|| {
            // A packet larger than the quantum has left a deep debt in each: forgotten rather than paid in rounds.
            queue.credit = QUANTUM;
            lanes().next().unwrap_or(0)
        });
        Some((lane, Some(queue.credit[lane] as usize)))
    }

    fn send_from(
        &mut self,
        lane: usize,
        out: &mut Vec<u8>,
        limits: &Limits,
        now: Moment,
        may_receive: &impl Fn(&Outgoing) -> bool,
        filled: &mut Filled,
    ) {
        let Some(queued) = self.queue.as_mut().and_then(|queue| queue.pop(lane)) else { return };
        let message = queued.message();
        let qos = LANES[lane];
        if message.is_expired(now) {
            return self.give_up(&queued, qos, Dropped::Expired, filled);
        }
        if !may_receive(&queued.outgoing) && !is_unchecked(&queued) {
            return self.give_up(&queued, qos, Dropped::NotAuthorized, filled);
        }
        if self.kept && qos == Qos::ExactlyOnce && message.record() != 0 {
            return self.send_safely(queued, now, filled);
        }
        let single = [queued.subscription_id()];
        let mut delivery = Delivery {
            qos,
            packet_id: self.next_packet_id(qos),
            dup: queued.is_again(),
            retain: queued.retain(),
            subscription_ids: identifiers(&queued, &single),
            alias: None,
        };
        let (version, size_max) = (self.terms.version, self.terms.packet_size_max);
        if self.terms.topic_alias_maximum > 0 {
            delivery.alias = self.outbound_aliases(limits).and_then(|aliases| aliases.choose(message.topic()));
        }
        let before = out.len();
        let mut fits = encode_publish(message, &delivery, version, now, size_max, out);
        if !fits && delivery.alias.take().is_some() {
            // The alias property was the straw too many; the pair is forgotten at the other end's expense, not ours.
            if let Some(aliases) = &mut self.aliases {
                aliases.outbound = None;
            }
            fits = encode_publish(message, &delivery, version, now, size_max, out);
        }
        if !fits {
            if queued.group.is_some() {
                return filled.handed_back.push(HandedBack::of(&queued, qos));
            }
            return self.give_up(&queued, qos, Dropped::PacketTooLarge, filled); // [MQTT-3.1.2-24] [MQTT-3.1.2-25]
        }
        filled.sole = None;
        filled.large = large(message);
        filled.published += 1;
        match qos {
            Qos::AtMostOnce if queued.group.is_some() => filled.settled.push(Settled::of(&queued)),
            Qos::AtMostOnce => {
                let sole = before == 0 && delivery.alias.is_none();
                filled.sole = sole.then(|| Sole { queued, version, size: out.len() });
            }
            Qos::AtLeastOnce => {
                self.in_flight.get_or_insert_default().begin(Slot::AtLeastOnce(queued));
                if self.spilled {
                    self.call_for_more();
                }
            }
            Qos::ExactlyOnce => self.in_flight.get_or_insert_default().begin(Slot::ExactlyOnce(queued)),
        }
    }

    /// The hall looks when there is a log, and has more read back.
    #[cold]
    #[inline(never)]
    fn call_for_more(&mut self) {
        self.log.get_or_insert_default();
    }

    /// The same for a QoS 2 delivery that the store knows: which Packet Identifier it has, must be safe before the Client sees it.
    /// Without a Topic Alias, since others go out meanwhile.
    #[cold]
    fn send_safely(&mut self, mut queued: Queued, now: Moment, filled: &mut Filled) {
        let Some(packet_id) = self.next_packet_id(Qos::ExactlyOnce) else { return };
        let single = [queued.subscription_id()];
        let delivery = Delivery {
            qos: Qos::ExactlyOnce,
            packet_id: Some(packet_id),
            dup: false,
            retain: queued.retain(),
            subscription_ids: identifiers(&queued, &single),
            alias: None,
        };
        let log = self.log.get_or_insert_default();
        let (version, size_max) = (self.terms.version, self.terms.packet_size_max);
        let before = log.withheld.len();
        if !encode_publish(queued.message(), &delivery, version, now, size_max, &mut log.withheld) {
            if queued.group.is_some() {
                return filled.handed_back.push(HandedBack::of(&queued, Qos::ExactlyOnce));
            }
            return self.give_up(&queued, Qos::ExactlyOnce, Dropped::PacketTooLarge, filled);
        }
        filled.withheld += log.withheld.len() - before;
        let was_groups = queued.is_groups();
        queued.make_own();
        log.changes.extend(Kept::of(true, &queued, Qos::ExactlyOnce).map(|kept| match was_groups {
            true => Change::Taken(kept, packet_id, queued.group),
            false => Change::Sent(kept, packet_id, queued.outgoing.subscription_ids.clone()),
        }));
        filled.sole = None;
        filled.large = None;
        filled.published += 1;
        self.in_flight.get_or_insert_default().begin(Slot::ExactlyOnce(queued));
    }

    /// The Packet Identifier that the next delivery takes, where it takes one [MQTT-2.2.1-4].
    #[inline]
    fn next_packet_id(&self, qos: Qos) -> Option<PacketId> {
        (qos != Qos::AtMostOnce)
            .then(|| self.in_flight.as_ref().map_or(in_flight::FIRST, |in_flight| in_flight.next_packet_id()))
    }

    fn give_up(&mut self, queued: &Queued, qos: Qos, reason: Dropped, filled: &mut Filled) {
        self.note_left(queued, qos);
        filled.dropped.push(reason);
        if queued.group.is_some() {
            filled.settled.push(Settled::of(queued));
        }
    }

    /// Sends again the PUBLISH packets that a former Network Connection left unsettled, with DUP [MQTT-3.3.1-1].
    fn fill_resends(
        &mut self,
        out: &mut Vec<u8>,
        end: usize,
        now: Moment,
        may_receive: &impl Fn(&Outgoing) -> bool,
        filled: &mut Filled,
    ) {
        while out.len() < end {
            let Some(in_flight) = &mut self.in_flight else { return };
            let Some(packet_id) = in_flight.next_resend(self.terms.receive_maximum) else { return };
            self.resend(packet_id, out, now, may_receive, filled);
        }
    }

    fn resend(
        &mut self,
        packet_id: PacketId,
        out: &mut Vec<u8>,
        now: Moment,
        may_receive: &impl Fn(&Outgoing) -> bool,
        filled: &mut Filled,
    ) {
        let Some(in_flight) = &mut self.in_flight else { return };
        let (queued, qos) = match in_flight.sent(packet_id) {
            Some(Slot::AtLeastOnce(queued)) => (queued.clone(), Qos::AtLeastOnce),
            Some(Slot::ExactlyOnce(queued)) => (queued.clone(), Qos::ExactlyOnce),
            _ => return,
        };
        if !may_receive(&queued.outgoing) && !is_left_out(Fault::Resent) {
            in_flight.finish(packet_id);
            return self.give_up(&queued, qos, Dropped::NotAuthorized, filled);
        }
        let single = [queued.subscription_id()];
        let delivery = Delivery {
            qos,
            packet_id: Some(packet_id),
            dup: true,
            retain: queued.retain(),
            subscription_ids: identifiers(&queued, &single),
            alias: None,
        };
        let size_max = self.terms.packet_size_max;
        if !encode_publish(queued.message(), &delivery, self.terms.version, now, size_max, out) {
            // The Client came back with a smaller Maximum Packet Size: as if it had been delivered.
            in_flight.finish(packet_id);
            return self.give_up(&queued, qos, Dropped::PacketTooLarge, filled);
        }
        filled.large = large(queued.message());
        filled.published += 1;
    }

    pub(super) fn receive_puback<'a>(&mut self, packet_id: PacketId) -> Action<'a> {
        let Some(in_flight) = &mut self.in_flight else { return Action::Nothing };
        match in_flight.sent(packet_id) {
            // A reason of 0x80 or above settles it as well: no resend [MQTT-4.4.0-2].
            Some(Slot::AtLeastOnce(queued)) => {
                let over = Settled::of(queued);
                note_left(self.kept, &mut self.log, queued, Qos::AtLeastOnce);
                in_flight.finish(packet_id);
                settled(over)
            }
            // A PUBACK for a QoS 2 delivery settles nothing; it stays open and is sent again after a reconnect.
            _ => Action::Nothing,
        }
    }

    pub(super) fn receive_pubrec<'a>(&mut self, packet_id: PacketId, reason: ReasonCode) -> Action<'a> {
        let mut over = Settled { group: GroupId::NONE, record: 0 };
        let answer = match self.in_flight.as_mut().and_then(|in_flight| in_flight.sent(packet_id)) {
            Some(Slot::ExactlyOnce(queued)) if reason.is_error() => {
                over = Settled::of(queued);
                note_left(self.kept, &mut self.log, queued, Qos::ExactlyOnce);
                None
            }
            Some(slot @ Slot::ExactlyOnce(_)) => {
                if let Slot::ExactlyOnce(queued) = slot {
                    over = Settled::of(queued);
                    if let Some(kept) = Kept::of(self.kept, queued, Qos::ExactlyOnce) {
                        self.log.get_or_insert_default().changes.push(Change::Released(kept, packet_id));
                    }
                    *slot = Slot::Released(queued.group);
                }
                Some(ReasonCode::Success) // [MQTT-4.3.3-4]
            }
            Some(Slot::Released(_) | Slot::ReleasedBefore(_)) if !reason.is_error() => Some(ReasonCode::Success),
            Some(_) => return Action::Nothing,
            None if reason.is_error() => return Action::Nothing,
            None => Some(ReasonCode::PacketIdentifierNotFound),
        };
        match answer {
            Some(reason) => {
                // A PUBREL that the store did not know of would be followed by the PUBLISH, after a restart.
                self.acknowledge_safely(PacketType::PubRel, packet_id, reason);
                if over.record != 0 { Action::Received(over) } else { Action::Nothing }
            }
            None => {
                if let Some(in_flight) = &mut self.in_flight {
                    in_flight.finish(packet_id);
                }
                settled(over)
            }
        }
    }

    pub(super) fn receive_pubcomp<'a>(&mut self, packet_id: PacketId) -> Action<'a> {
        let Some(in_flight) = &mut self.in_flight else { return Action::Nothing };
        match in_flight.sent(packet_id) {
            Some(Slot::Released(group) | Slot::ReleasedBefore(group)) => {
                let group = *group;
                in_flight.finish(packet_id);
                self.note(|| Change::Completed(packet_id));
                settled(Settled { group, record: 0 })
            }
            _ => Action::Nothing,
        }
    }

    /// The Client has left this shared subscription: what it was given already is its own, to be finished as usual
    /// [MQTT-3.10.4-3]. Returns what the store has as the group's.
    pub fn own_group(&mut self, group: GroupId) -> Vec<Owned> {
        let (is_kept, mut owned) = (self.kept, Vec::new());
        let mut on_owned = |queued: &mut Queued, qos| {
            let record = queued.groups_record();
            queued.make_own();
            if record != 0 {
                owned.push(Owned { record, kept: Kept::of(is_kept, queued, qos) });
            }
        };
        if let Some(in_flight) = &mut self.in_flight {
            in_flight.own_group(group, &mut on_owned);
        }
        if let Some(queue) = &mut self.queue {
            queue.own_group(group, &mut on_owned);
        }
        owned
    }

    /// Takes out everything of shared subscriptions that another member may have instead: what was never sent, and QoS 1
    /// deliveries without their PUBACK. In the order in which they came.
    pub fn take_shared(&mut self, into: &mut Vec<HandedBack>) {
        if let Some(in_flight) = &mut self.in_flight {
            in_flight.take_shared(|queued| into.push(HandedBack::of(&queued, Qos::AtLeastOnce)));
        }
        self.take_waiting(|_| true, into);
    }

    /// Takes out what waits here for these shared subscriptions and was never sent, in order.
    pub fn take_waiting(&mut self, of: impl Fn(GroupId) -> bool, into: &mut Vec<HandedBack>) {
        if let Some(queue) = &mut self.queue {
            queue.take_shared(of, |queued, qos| into.push(HandedBack::of(&queued, qos)));
        }
    }
}

/// Whether a test leaves the check of this delivery out.
#[inline]
fn is_unchecked(queued: &Queued) -> bool {
    is_left_out(match () {
        () if queued.group.is_some() => Fault::Shared,
        () if queued.waited_away() => Fault::Queued,
        () if queued.retain() => Fault::Retained,
        () => Fault::Live,
    })
}

fn settled<'a>(over: Settled) -> Action<'a> {
    if over.group.is_some() { Action::Settled(over) } else { Action::Nothing }
}

fn identifiers<'a>(queued: &'a Queued, single: &'a [u32; 1]) -> &'a [u32] {
    if !queued.outgoing.subscription_ids.is_empty() {
        &queued.outgoing.subscription_ids
    } else if single[0] != 0 {
        single
    } else {
        &[]
    }
}
