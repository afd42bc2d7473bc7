//! What is due at a time: Keep Alive, stalled writing, reading and sending on, the end of a token, a delayed Will, the end of a Session.
//!
//! A Client has one timer at most. Traffic never moves it: when it fires, the Client's state tells whether anything is due.

use super::shard::{Shard, Wire};
use crate::codec::{Moment, ReasonCode};
use crate::notice::Outside;
use std::time::Duration;

/// When a timer fires: quarters of a second since the node started, which is fine enough, and small.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Due(u32);

/// No timer is set.
pub(super) const NEVER: Due = Due(u32::MAX);
const GRAIN_MS: u64 = 250;

impl Due {
    /// Never before that moment.
    fn of(moment: Moment) -> Self {
        Self(u32::try_from(moment.as_millis().div_ceil(GRAIN_MS)).unwrap_or(u32::MAX - 1))
    }

    pub(super) fn moment(self) -> Moment {
        Moment::from_millis(u64::from(self.0) * GRAIN_MS)
    }
}

/// A timer that fires later than this shows that the process was stopped, or starved: what Clients have sent meanwhile lies in
/// their sockets, and is read before anybody is taken for gone.
const LATE: Duration = Duration::from_secs(1);
/// The time for reading it.
const LATE_GRACE: Duration = Duration::from_millis(250);

/// Timers that fire in one tick; a hundred thousand Sessions may well end in the same second.
const TIMERS_PER_TICK: usize = 1024;

impl<W: Wire> Shard<W> {
    /// Sets the Client's timer to whatever is due next for it.
    pub(super) fn set_timer(&mut self, slot: u32) {
        let Some(client) = self.clients.get_mut(slot) else { return };
        let Some(due) = client.next_due(self.shared.settings.write_stall_max) else { return };
        let due = Due::of(due);
        if due < client.timer {
            self.timers.remove(&(client.timer, slot));
            client.timer = due;
            self.timers.insert((due, slot));
            // Whoever sleeps until the deadline has to hear that it has come nearer, which only a tick tells.
            self.wants_tick |= self.timers.first() == Some(&(due, slot));
        }
    }

    /// A Session has ended, and its timer with it.
    pub(super) fn drop_timer(&mut self, slot: u32) {
        if let Some(client) = self.clients.get_mut(slot)
            && client.timer != NEVER
        {
            self.timers.remove(&(client.timer, slot));
            client.timer = NEVER;
        }
    }

    /// When the first timer fires.
    pub(super) fn timer_due(&self) -> Option<Moment> {
        let due = self.timers.first()?.0.moment();
        Some(self.late_until.map_or(due, |until| due.max(until)))
    }

    /// Whether timers may fire: not right after the process has slept through some of them.
    fn is_reading_first(&mut self) -> bool {
        let is_late = self.timers.first().is_some_and(|(due, _)| due.moment().plus(LATE) < self.now);
        self.late_until = is_late.then(|| self.late_until.unwrap_or(self.now.plus(LATE_GRACE)));
        self.late_until.is_some_and(|until| until > self.now)
    }

    pub(super) fn run_timers(&mut self) {
        if self.is_reading_first() {
            return;
        }
        for _ in 0..TIMERS_PER_TICK {
            match self.timers.first() {
                Some((due, slot)) if due.moment() <= self.now => {
                    let slot = *slot;
                    self.timers.pop_first();
                    self.run_timer(slot);
                }
                _ => return,
            }
        }
    }

    fn run_timer(&mut self, slot: u32) {
        let now = self.now;
        let Some(client) = self.clients.get_mut(slot) else { return };
        client.timer = NEVER;
        let me = client.attached(slot);
        if client.wire.is_some() {
            if client.keep_alive_ends().is_some_and(|end| end <= now) {
                return self.say_and_end(me, ReasonCode::KeepAliveTimeout, None); // [MQTT-3.1.2-22]
            }
            if client.token_ends().is_some_and(|end| end <= now) {
                return self.say_and_end(me, ReasonCode::NotAuthorized, Some("the token has expired"));
            }
            let write_stall_max = self.shared.settings.write_stall_max;
            if client.tail.as_ref().is_some_and(|tail| tail.since.plus(write_stall_max) <= now) {
                tracing::info!(target: "waypost::client", client = %Outside::of(client.id().as_bytes()), "disconnected: takes no data");
                return self.say_and_end(me, ReasonCode::QuotaExceeded, Some("takes no data"));
            }
            if client.held
                && client.pace.may_send(now)
                && let Some(wire) = &client.wire
            {
                client.held = false;
                wire.reader().wake_by_ref();
            }
            if client.held_out && client.pace_out.may_send(now) {
                client.held_out = false;
                self.flushes.mark(slot, client);
            }
            client.shrink(now);
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
}
