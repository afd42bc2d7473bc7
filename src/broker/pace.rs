//! How fast a Client may send: messages and bytes in a second. Whoever is faster is read later, and TCP tells it so; nothing is lost.
//!
//! What a Client has sent costs time: each message and each byte so much, at the configured rates. A second of it may be spent in
//! advance; while it owes more, it is not read.

use crate::codec::Moment;

/// What may be sent at once by a Client that has been quiet.
const BURST_NS: u64 = NS_PER_SECOND;
const NS_PER_SECOND: u64 = 1_000_000_000;
const NS_PER_MS: u64 = 1_000_000;

/// What one message and one byte cost.
#[derive(Clone, Copy, Debug)]
pub(super) struct Costs {
    message_ns: u64,
    /// In 1/1024 of a nanosecond, so that a gigabyte a second can be told from two.
    byte_ns_1024: u64,
}

/// How much time a Client has spent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    /// The moment, in nanoseconds, at which all is paid.
    paid_ns: u64,
}

impl Costs {
    pub(super) fn new(messages_per_second: u32, bytes_per_second: u64) -> Self {
        Self {
            message_ns: NS_PER_SECOND / u64::from(messages_per_second.max(1)),
            byte_ns_1024: (NS_PER_SECOND << 10) / bytes_per_second.max(1),
        }
    }

    /// What a message costs on top of that where its own rate is lower.
    pub(super) fn extra_ns(&self, messages_per_second: u32) -> u64 {
        (NS_PER_SECOND / u64::from(messages_per_second.max(1))).saturating_sub(self.message_ns)
    }
}

impl Pace {
    /// The dearer of the two counts: so many messages in so many bytes.
    #[inline]
    pub(super) fn spend(&mut self, now: Moment, messages: u64, bytes: usize, costs: &Costs) {
        let bytes_ns = (bytes as u64).saturating_mul(costs.byte_ns_1024) >> 10;
        self.spend_ns(now, bytes_ns.max(messages * costs.message_ns));
    }

    pub(super) fn spend_ns(&mut self, now: Moment, ns: u64) {
        self.paid_ns = self.paid_ns.max(now.as_millis().saturating_mul(NS_PER_MS)).saturating_add(ns);
    }

    /// Whether it may be read now. If not, [`Pace::due`] says when.
    #[inline]
    pub(super) fn may_send(self, now: Moment) -> bool {
        self.paid_ns <= now.as_millis().saturating_mul(NS_PER_MS) + BURST_NS
    }

    /// From when on it may be read.
    pub(super) fn due(self) -> Moment {
        Moment::from_millis(self.paid_ns.saturating_sub(BURST_NS).div_ceil(NS_PER_MS))
    }
}

#[cfg(test)]
mod tests {
    use super::{Costs, Pace};
    use crate::codec::Moment;

    #[test]
    fn a_second_may_be_spent_in_advance_and_then_the_rate_holds() {
        let (costs, mut pace) = (Costs::new(100, 1 << 20), Pace::default());
        let at = Moment::from_millis;
        pace.spend(at(5_000), 100, 100, &costs);
        assert!(pace.may_send(at(5_000)));
        pace.spend(at(5_000), 50, 100, &costs);
        assert!(!pace.may_send(at(5_000)));
        assert_eq!(pace.due(), at(5_500));
        assert!(!pace.may_send(at(5_499)) && pace.may_send(at(5_500)));
        // Ten seconds later nothing is left of it.
        pace.spend(at(15_000), 99, 0, &costs);
        assert!(pace.may_send(at(15_000)));
    }

    #[test]
    fn bytes_count_where_they_are_dearer() {
        let (costs, mut pace) = (Costs::new(1_000_000, 1 << 20), Pace::default());
        pace.spend(Moment::default(), 1, 3 << 20, &costs);
        assert!(!pace.may_send(Moment::from_millis(1_990)));
        assert!(pace.may_send(Moment::from_millis(2_010)));
    }
}
