//! The part of a long queue that is in the store and not in memory: only how much it is, and where it begins, is known here.
//!
//! The store has every QoS 1 and 2 Message of a Session that outlives its Network Connection, in the order of their numbers there.
//! So what waits in memory may end anywhere, if all that is behind it has higher numbers: it is read back from the store, in
//! order, when what is in memory gets short. A Message whose number is not higher (another shard has put it into the store, and
//! its mail took longer than that of others) waits in memory, whatever the bounds say.

use super::log::Kept;
use super::queue::{Bound, Dropped, How, Outgoing, Queue, Queued};
use super::{Limits, Session};
use crate::codec::Qos;
use foldhash::fast::RandomState;
use std::collections::HashSet;
use std::rc::Rc;

/// What waits in the store.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Spilled {
    pub(super) messages: usize,
    pub(super) bytes: usize,
    /// All of it has higher numbers in the store, and nothing else of this Session has, but for what is under way.
    after: u64,
    /// What has lower numbers than that may have been sent by a former process, if its QoS is 1.
    again_before: u64,
    /// Some of it is being read.
    is_asked_for: bool,
    /// What has come since that was asked for and is late has at least this number: from there on the answer may lack something.
    late_from: Option<u64>,
    /// Some of it was put into the store before it was put into this queue: what is read next has to have seen all that the
    /// store has by then.
    is_late: bool,
    /// What was read last has seen all that the store had up to there.
    seen_to: u64,
    /// It is more than the queue may hold, since the oldest are to go and are not here yet.
    is_too_much: bool,
}

/// What is to be read from the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recall {
    /// The first that is wanted has a higher number than this.
    pub after: u64,
    /// Messages.
    pub count: usize,
    /// What the store was given up to there has to be seen by then.
    pub up_to: u64,
}

/// Messages that wait in memory while that is short.
const AT_HAND_WHEN_SHORT: usize = 16;
/// Messages that are read at a time, at most.
const RECALLED_MAX: usize = 1000;

impl Limits {
    /// Messages that wait in memory before others wait in the store alone.
    pub(super) fn at_hand_max(&self, is_short: bool) -> usize {
        if is_short { AT_HAND_WHEN_SHORT.min(self.queue_at_hand_max) } else { self.queue_at_hand_max }
    }
}

impl Queue {
    /// Queues what [`push`](Self::push) has refused: in the store, if only memory is short. `highest` is the highest number in the
    /// store of what this Session has in memory.
    pub(super) fn push_or_spill(
        &mut self,
        outgoing: &Rc<Outgoing>,
        how: How,
        limits: &Limits,
        highest: impl FnOnce(&Self) -> u64,
    ) -> Result<(), Dropped> {
        if !matches!(how.bound, Bound::Store | Bound::StoreEarly) {
            return self.push(outgoing, how, limits);
        }
        if self.is_full(1, outgoing.message.size(), limits) {
            return Err(Dropped::QueueFull);
        }
        if !self.lacks_room(how.bound, limits) {
            self.append(outgoing, how, outgoing.message.size());
        } else {
            self.spill(outgoing, how, highest);
        }
        Ok(())
    }

    fn spill(&mut self, outgoing: &Rc<Outgoing>, how: How, highest: impl FnOnce(&Self) -> u64) {
        let (record, size) = (outgoing.message.record(), outgoing.message.size());
        let after = self.spilled.as_ref().map_or_else(|| highest(self), |spilled| spilled.after);
        // One that is not in the store yet is going to be the last.
        if record != 0 && record <= after {
            return self.append(outgoing, how, size);
        }
        // What was settled just now may still be in the store: so the first that is read is read behind all that.
        let begin = || Box::new(Spilled { after, is_late: true, ..Spilled::default() });
        let spilled = self.spilled.get_or_insert_with(begin);
        spilled.messages += 1;
        spilled.bytes += size;
        if record != 0 {
            spilled.is_late = true;
            if spilled.is_asked_for {
                spilled.late_from = Some(spilled.late_from.map_or(record, |from| from.min(record)));
            }
        }
    }
}

impl Session {
    /// Whether something of the queue is in the store alone.
    #[inline]
    pub fn is_spilled(&self) -> bool {
        self.spilled
    }

    /// Queues a delivery that [`push`](Self::push) has refused: there may be room now, or in the store.
    ///
    /// # Errors
    /// `QueueFull`; nothing has changed.
    pub fn push_or_spill(&mut self, outgoing: &Rc<Outgoing>, how: How, limits: &Limits) -> Result<(), Dropped> {
        let in_flight = &self.in_flight;
        let highest = |queue: &Queue| {
            let sent = in_flight.iter().flat_map(|in_flight| in_flight.kept());
            queue.kept().chain(sent).map(|kept| kept.record).max().unwrap_or(0)
        };
        let queue = self.queue.get_or_insert_with(|| Queue::new(limits));
        let pushed = queue.push_or_spill(outgoing, how, limits, highest);
        self.spilled = queue.spilled.is_some();
        pushed
    }

    /// Queues one more although there is no room, since the oldest, which are to go for it, have to be read first. `false`: they
    /// are here.
    pub(super) fn spill_over(&mut self, outgoing: &Rc<Outgoing>, how: How) -> bool {
        let Some(queue) = self.queue.as_mut().filter(|queue| queue.spilled.is_some()) else { return false };
        queue.spill(outgoing, how, |_| 0);
        if let Some(spilled) = &mut queue.spilled {
            spilled.is_too_much = true;
        }
        true
    }

    /// What waits in the store alone after a start.
    pub(super) fn restore_spilled(&mut self, messages: usize, bytes: usize, again_before: u64, is_late: bool) {
        if messages > 0 {
            let spilled = Spilled { messages, bytes, again_before, is_late, ..Spilled::default() };
            self.queue.get_or_insert_default().spilled = Some(Box::new(spilled));
            self.spilled = true;
        }
    }

    /// Whether a part of what is in the store may have been sent by a former process.
    pub(super) fn has_spilled_again(&self) -> bool {
        let spilled = self.queue.as_ref().and_then(|queue| queue.spilled.as_ref());
        spilled.is_some_and(|spilled| spilled.after < spilled.again_before)
    }

    /// What is to be read from the store now, so that the Client does not wait for it, or so that the oldest can go. It is asked
    /// for once, until [`recalled`](Self::recalled) or [`recall_failed`](Self::recall_failed).
    ///
    /// `tail` is where the store ends by now.
    pub fn ask_back(&mut self, is_early: bool, limits: &Limits, tail: impl FnOnce() -> u64) -> Option<Recall> {
        let at_hand_max = limits.at_hand_max(is_early);
        let connected = self.connected;
        let queue = self.queue.as_mut()?;
        let at_hand = queue.at_hand();
        let spilled = queue.spilled.as_mut()?;
        let is_short = (connected && at_hand <= at_hand_max / 2) || (spilled.is_too_much && at_hand == 0);
        if !is_short || std::mem::replace(&mut spilled.is_asked_for, true) {
            return None;
        }
        spilled.late_from = None;
        let count = (at_hand_max - at_hand.min(at_hand_max)).clamp(1, RECALLED_MAX);
        if std::mem::take(&mut spilled.is_late) {
            spilled.seen_to = tail();
        }
        Some(Recall { after: spilled.after, count, up_to: spilled.seen_to })
    }

    /// Of what was asked for, what has this number or a higher one is to be asked for again.
    pub fn recalled_before(&self) -> u64 {
        let spilled = self.queue.as_ref().and_then(|queue| queue.spilled.as_ref());
        spilled.map_or(0, |spilled| spilled.late_from.unwrap_or(u64::MAX))
    }

    /// Puts one behind what is in memory. They come in order, each as often as it waits.
    pub fn recalled(&mut self, outgoing: Rc<Outgoing>, kept: Kept) {
        let Some(queue) = &mut self.queue else { return };
        let Some(spilled) = &mut queue.spilled else { return };
        spilled.after = spilled.after.max(kept.record);
        spilled.messages = spilled.messages.saturating_sub(1);
        spilled.bytes = spilled.bytes.saturating_sub(outgoing.message.size());
        let again = kept.record < spilled.again_before;
        if let Some(qos @ (Qos::AtLeastOnce | Qos::ExactlyOnce)) = kept.qos() {
            let queued = Queued::restored(outgoing, kept.tag as u32);
            let again = again && qos == Qos::AtLeastOnce;
            queue.restore(if again { queued.again() } else { queued }, qos);
        }
    }

    /// One of those that wait cannot be read.
    pub fn recall_lost(&mut self, size: usize) {
        if let Some(spilled) = self.queue.as_mut().and_then(|queue| queue.spilled.as_mut()) {
            spilled.messages = spilled.messages.saturating_sub(1);
            spilled.bytes = spilled.bytes.saturating_sub(size);
        }
    }

    /// What is in memory although its number is higher than that: what was a group's.
    pub fn kept_after(&self, after: u64) -> HashSet<Kept, RandomState> {
        let waiting = self.queue.iter().flat_map(|queue| queue.kept());
        let sent = self.in_flight.iter().flat_map(|in_flight| in_flight.kept());
        waiting.chain(sent).filter(|kept| kept.record > after).collect()
    }

    /// What was asked for has come up to this number, if anything has.
    pub fn recall_ended(&mut self, last: Option<u64>, limits: &Limits) -> Recalled {
        let Some(queue) = &mut self.queue else { return Recalled::default() };
        let Some(spilled) = &mut queue.spilled else { return Recalled::default() };
        spilled.is_asked_for = false;
        let is_too_much = std::mem::take(&mut spilled.is_too_much);
        let mut ended = Recalled::default();
        match last {
            Some(last) => spilled.after = spilled.after.max(last),
            None => ended.lost = std::mem::take(&mut spilled.messages),
        }
        if spilled.messages == 0 {
            queue.spilled = None;
            self.spilled = false;
        }
        if is_too_much {
            let (kept, log) = (self.kept, &mut self.log);
            let on_dropped = |queued: &Queued, qos| super::log::note_left(kept, log, queued, qos);
            let is_over = |queue: &Queue| queue.is_over(limits);
            ended.dropped = queue.drop_oldest(&[1, 2], is_over, on_dropped);
            let is_too_much = is_over(queue);
            if let Some(spilled) = &mut queue.spilled {
                spilled.is_too_much = is_too_much;
            }
        }
        ended
    }
}

/// Messages that a recall has not brought to the Client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recalled {
    /// The oldest, for which there is no room.
    pub dropped: usize,
    /// What should have been there.
    pub lost: usize,
}
