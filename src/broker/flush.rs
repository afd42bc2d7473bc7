//! Writing: once in a tick for each Client that has something to send, whatever has gathered for it.
//!
//! A Client whose socket takes everything is served until nothing is left; one whose socket does not is left alone until it
//! can be written again. What is sent in which order, `session/deliver.rs` decides.

use super::client::{Client, Dirty, Tail};
use super::pace::{Costs, Pace};
use super::rights::may_receive;
use super::shard::{Broken, Shard, Wire};
use crate::codec::Moment;
use crate::session::{Dropped, Filled, Limits, Outgoing, Session};
use std::collections::VecDeque;

const FLUSHES_PER_TICK: usize = 128;
const BULK_FLUSHES_PER_TICK: usize = 64;
/// Bytes that one flush of one Client encodes at most, and one packet.
pub(super) const FLUSH_BYTES: usize = 64 << 10;
/// Bytes that the flushes of one tick encode, for each of its two queues, before everybody else has a turn.
const BYTES_PER_TICK: usize = 4 << 20;
/// How often one Client is filled and written in a row.
const FLUSH_ROUNDS: usize = 64;

/// Who is to be flushed. A slot may stand in both queues, or have a new tenant: only the Client's mark counts.
#[derive(Default)]
pub(super) struct Flushes {
    soon: VecDeque<u32>,
    /// The receivers of large fan-outs and replays, who do not hold up others.
    bulk: VecDeque<u32>,
}

impl Flushes {
    /// The Client has something to send. Flushed at the end of the tick.
    #[inline]
    pub(super) fn mark<W>(&mut self, slot: u32, client: &mut Client<W>) {
        if matches!(client.dirty, Dirty::No | Dirty::Bulk) && client.wire.is_some() {
            client.dirty = Dirty::Yes;
            self.soon.push_back(slot);
        }
    }

    #[inline]
    pub(super) fn mark_bulk<W>(&mut self, slot: u32, client: &mut Client<W>) {
        if client.dirty == Dirty::No && client.wire.is_some() {
            client.dirty = Dirty::Bulk;
            self.bulk.push_back(slot);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.soon.is_empty() && self.bulk.is_empty()
    }
}

/// Appends one Message after another as long as the Client may be sent more, and says whether there is more that may be sent
/// now. What is no Message goes in any case.
#[cold]
#[expect(clippy::too_many_arguments, reason = "what `Session::fill` takes, and the pace")]
fn fill_slowly(
    session: &mut Session,
    pace: &mut Pace,
    costs: &Costs,
    out: &mut Vec<u8>,
    limits: &Limits,
    now: Moment,
    may_receive: &dyn Fn(&Outgoing) -> bool,
    filled: &mut Filled,
) -> bool {
    while out.len() < FLUSH_BYTES {
        if !pace.may_send(now) {
            session.take_control(out);
            return false;
        }
        let (bytes, messages) = (out.len(), filled.published);
        let more = session.fill(out, 1, limits, now, may_receive, filled);
        pace.spend(now, filled.published - messages, out.len() - bytes, costs);
        if !more {
            return false;
        }
    }
    true
}

impl<W: Wire> Shard<W> {
    pub(super) fn mark_dirty(&mut self, slot: u32) {
        if let Some(client) = self.clients.get_mut(slot) {
            self.flushes.mark(slot, client);
        }
    }

    pub(super) fn flush_all(&mut self) {
        self.flushed = 0;
        for _ in 0..self.flushes.soon.len().min(FLUSHES_PER_TICK) {
            if let Some(slot) = self.flushes.soon.pop_front() {
                self.flush_if(slot, Dirty::Yes);
            }
            if self.flushed > BYTES_PER_TICK {
                break;
            }
        }
        self.flushed = 0;
        for _ in 0..self.flushes.bulk.len().min(BULK_FLUSHES_PER_TICK) {
            if let Some(slot) = self.flushes.bulk.pop_front() {
                self.flush_if(slot, Dirty::Bulk);
            }
            if self.flushed > BYTES_PER_TICK {
                break;
            }
        }
        self.filled.forget_sole();
        if self.out.capacity() > 4 * FLUSH_BYTES {
            self.out = Vec::with_capacity(FLUSH_BYTES);
        }
    }

    #[inline]
    fn flush_if(&mut self, slot: u32, dirty: Dirty) {
        if let Some(client) = self.clients.get_mut(slot)
            && client.dirty == dirty
        {
            client.dirty = Dirty::No;
            self.flush(slot);
        }
    }

    /// Writes what one Client may be sent: what the socket left over, then acknowledgements, then Messages.
    #[inline]
    pub(super) fn flush(&mut self, slot: u32) {
        let now = self.now;
        let Some(client) = self.clients.get_mut(slot) else { return };
        let reads_all = client.reads_all(&self.access);
        let Some(wire) = &mut client.wire else { return };
        if let Some(tail) = &mut client.tail {
            match tail.write(wire, now, &mut self.statistics.bytes_sent) {
                Ok(false) => return,
                Ok(true) => client.tail = None,
                // The reader notices and reports the loss; there is nothing to be encoded for nobody.
                Err(Broken) => return client.tail = None,
            }
        }
        if let Some(costs) = &self.costs_out
            && !client.pace_out.covers(now, FLUSH_BYTES, costs)
        {
            return self.flush_slowly(slot);
        }
        let (access, epochs) = (&self.access, &self.shared.router.epochs);
        let (identity, decisions) = (&client.identity, client.decisions.as_deref());
        let may_receive = |outgoing: &Outgoing| {
            reads_all || may_receive(access, identity, decisions, outgoing, |topic| epochs.hash(topic))
        };
        let limits = &self.shared.settings.session;
        let repeated = client.session.repeat(may_receive, &mut self.filled);
        let (mut more, mut encoded) = (false, 0);
        // As long as the socket takes everything: whoever keeps up must not lose to those who send.
        for _ in 0..FLUSH_ROUNDS {
            if !repeated {
                self.out.clear();
                more = client.session.fill(&mut self.out, FLUSH_BYTES, limits, now, may_receive, &mut self.filled);
            }
            if self.out.is_empty() {
                break;
            }
            encoded += self.out.len();
            let Ok(written) = wire.write(&self.out) else {
                more = false; // broken: the reader will notice
                break;
            };
            self.statistics.bytes_sent += written as u64;
            if written < self.out.len() {
                client.tail = Some(Box::new(Tail::new(&self.out[written..], self.filled.large(), now)));
                wire.reader().wake_by_ref();
                break;
            }
            let goes_on = |costs: &Costs| client.pace_out.covers(now, encoded + FLUSH_BYTES, costs);
            if !more || !self.costs_out.as_ref().is_none_or(goes_on) {
                break;
            }
        }
        self.flushed += encoded;
        if let Some(costs) = &self.costs_out {
            client.pace_out.spend(now, self.filled.published, encoded, costs);
        }
        self.statistics.messages_sent += std::mem::take(&mut self.filled.published);
        let (blocked, replay_waits) = (client.tail.is_some(), client.replay_waits());
        let has_changes = client.session.has_changes();
        if more && !blocked {
            self.flushes.mark(slot, client);
        }
        if has_changes {
            self.keep_changes(slot);
        }
        if blocked {
            self.set_timer(slot);
        }
        if replay_waits {
            self.resume_replay_if_room(slot);
        }
        if !self.filled.is_empty() {
            self.account_filled(slot);
        }
    }

    /// The same for a Client that has got nearly all of its share: Message by Message, as long as it may be sent more. Apart, so
    /// that those who are far from it do not pay.
    #[cold]
    #[inline(never)]
    fn flush_slowly(&mut self, slot: u32) {
        let now = self.now;
        let (Some(client), Some(costs)) = (self.clients.get_mut(slot), &self.costs_out) else { return };
        let Some(wire) = &mut client.wire else { return };
        let (access, epochs) = (&self.access, &self.shared.router.epochs);
        let (identity, decisions) = (&client.identity, client.decisions.as_deref());
        let reads_all = access.is_open_to(identity);
        let may_receive: &dyn Fn(&Outgoing) -> bool =
            &|outgoing| reads_all || may_receive(access, identity, decisions, outgoing, |topic| epochs.hash(topic));
        let limits = &self.shared.settings.session;
        self.out.clear();
        self.filled.forget_sole();
        let (session, pace, filled) = (&mut client.session, &mut client.pace_out, &mut self.filled);
        let more = fill_slowly(session, pace, costs, &mut self.out, limits, now, may_receive, filled);
        self.flushed += self.out.len();
        // Broken: the reader will notice.
        let written = if self.out.is_empty() { 0 } else { wire.write(&self.out).unwrap_or(self.out.len()) };
        self.statistics.bytes_sent += written as u64;
        if written < self.out.len() {
            client.tail = Some(Box::new(Tail::new(&self.out[written..], self.filled.large(), now)));
            wire.reader().wake_by_ref();
        } else if more {
            self.flushes.mark(slot, client);
        }
        client.held_out = !client.pace_out.may_send(now) && client.session.has_something_to_send();
        self.statistics.messages_sent += std::mem::take(&mut self.filled.published);
        self.filled.forget_sole();
        if client.session.has_changes() {
            self.keep_changes(slot);
        }
        self.set_timer(slot);
        self.resume_replay_if_room(slot);
        if !self.filled.is_empty() {
            self.account_filled(slot);
        }
    }

    /// The last words before a Network Connection is closed: acknowledgements and DISCONNECT, no Messages.
    pub(super) fn flush_control(&mut self, slot: u32) {
        let Some(client) = self.clients.get_mut(slot).filter(|client| client.dirty != Dirty::Held) else { return };
        let Some(wire) = &mut client.wire else { return };
        if let Some(tail) = &mut client.tail {
            match tail.write(wire, self.now, &mut self.statistics.bytes_sent) {
                Ok(true) => client.tail = None,
                _ => return,
            }
        }
        self.out.clear();
        self.filled.forget_sole();
        client.session.take_control(&mut self.out);
        if !self.out.is_empty() {
            self.statistics.bytes_sent += wire.write(&self.out).unwrap_or(0) as u64;
        }
    }

    #[cold]
    fn account_filled(&mut self, slot: u32) {
        let mut filled = std::mem::take(&mut self.filled);
        for reason in filled.dropped.drain(..) {
            self.count_drop(slot, reason);
        }
        for over in filled.settled.drain(..) {
            self.settle(slot, over);
        }
        for handed_back in filled.handed_back.drain(..) {
            self.hand_on(slot, handed_back);
        }
        self.filled = filled;
    }

    /// Counts a delivery that was given up. That nobody is there for a QoS 0 Message is how it should be: the log says
    /// nothing of that.
    pub(super) fn count_drop(&mut self, slot: u32, reason: Dropped) {
        self.statistics.dropped.note(reason);
        if reason != Dropped::Offline
            && let Some(client) = self.clients.get_mut(slot)
        {
            client.note_drop(reason, self.now);
        }
    }
}
