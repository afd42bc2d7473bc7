//! Two devices with one Client Identifier take over each other again and again; here that becomes slow, and nobody else
//! notices.
//!
//! So many takeovers a minute are free. After that a new Network Connection waits for its CONNACK while the old one goes on,
//! and only the last that came waits: however often somebody knocks, one of them is kept for each Client.

use super::connect::Request;
use super::shard::{Shard, Wire, may_log};
use crate::codec::Moment;
use crate::notice::{LINES_PER_SECOND_MAX, Limited, Outside};
use std::time::Duration;

/// How often one Client has been taken over lately. Stays with the Client Identifier, whatever becomes of the Session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Takeovers {
    /// The moment at which all of them are paid for; each costs its part of a minute.
    paid: Moment,
    /// The Network Connection that waits; 0 = none.
    waiting: u64,
}

/// Whether it is a new Network Connection's turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    Now,
    /// Ask again at this moment.
    Later(Moment),
    /// Another has come since.
    Lost,
}

/// What may be spent in advance.
const BURST: Duration = Duration::from_secs(60);
static DELAYED: Limited = Limited::new(LINES_PER_SECOND_MAX);

impl Takeovers {
    /// Whether nothing is left of them.
    pub(super) fn are_over(&self, now: Moment) -> bool {
        self.paid <= now
    }

    fn turn(&mut self, now: Moment, per_minute_max: u32, mine: Option<u64>, number: u64) -> Turn {
        if mine.is_some_and(|mine| mine != self.waiting) {
            return Turn::Lost;
        }
        let paid = self.paid.max(now).plus(BURST / per_minute_max.max(1));
        if paid > now.plus(BURST) {
            self.waiting = number;
            return Turn::Later(now.plus(paid.since(now.plus(BURST))));
        }
        *self = Self { paid, waiting: 0 };
        Turn::Now
    }
}

impl<W: Wire> Shard<W> {
    /// Whether this Client, which lives here, may be taken over now if it is connected. A request that has to wait is told
    /// by `request.waits_as` when it comes again.
    pub(super) fn turn_of(&mut self, slot: u32, request: &mut Request) -> Turn {
        let (number, now) = (self.next_attachment(), self.now);
        let Some(client) = self.clients.get_mut(slot).filter(|client| client.wire.is_some()) else { return Turn::Now };
        let per_minute_max = self.shared.settings.takeovers_per_minute_max;
        let turn = client.rare().takeovers.turn(now, per_minute_max, request.waits_as, number);
        if let Turn::Later(_) = turn {
            request.waits_as = Some(number);
            self.statistics.takeovers_delayed += 1;
            if may_log(&DELAYED, now) {
                tracing::info!(
                    target: "waypost::client",
                    client = %Outside::of(client.id().as_bytes()),
                    "taken over too often: do two devices have this Client Identifier?"
                );
            }
        }
        turn
    }
}

#[cfg(test)]
mod tests {
    use super::{Takeovers, Turn};
    use crate::codec::Moment;

    #[test]
    fn a_minutes_worth_is_free_and_then_each_waits_for_its_part_of_a_minute() {
        let (mut takeovers, at) = (Takeovers::default(), |seconds: u64| Moment::from_millis(seconds * 1000));
        for number in 1..=3 {
            assert_eq!(takeovers.turn(at(100), 3, None, number), Turn::Now);
        }
        assert_eq!(takeovers.turn(at(100), 3, None, 4), Turn::Later(at(120)));
        assert_eq!(takeovers.turn(at(120), 3, Some(4), 5), Turn::Now);
        assert_eq!(takeovers.turn(at(120), 3, None, 6), Turn::Later(at(140)));
        assert!(!takeovers.are_over(at(179)) && takeovers.are_over(at(180)));
        // After a quiet minute they are free again.
        for number in 7..=9 {
            assert_eq!(takeovers.turn(at(300), 3, None, number), Turn::Now);
        }
    }

    #[test]
    fn only_the_last_that_came_waits() {
        let (mut takeovers, at) = (Takeovers::default(), |seconds: u64| Moment::from_millis(seconds * 1000));
        assert_eq!(takeovers.turn(at(0), 1, None, 1), Turn::Now);
        assert_eq!(takeovers.turn(at(0), 1, None, 2), Turn::Later(at(60)));
        assert_eq!(takeovers.turn(at(1), 1, None, 3), Turn::Later(at(60)));
        assert_eq!(takeovers.turn(at(60), 1, Some(2), 4), Turn::Lost);
        assert_eq!(takeovers.turn(at(60), 1, Some(3), 5), Turn::Now);
    }
}
