//! How fast a Client may send and be sent to: messages and bytes in a second. Whoever sends faster is read later, and TCP tells it
//! so; what is for a Client that gets its share already waits in its queue.
//!
//! What a Client has sent or got costs time: each message and each byte so much, at the configured rates. A second of it may be
//! spent in advance; while it owes more, it is not read, or sent nothing but acknowledgements.

use crate::codec::Moment;

/// What may be sent at once by a Client that has been quiet.
const BURST_NS: u64 = NS_PER_SECOND;
const NS_PER_SECOND: u64 = 1_000_000_000;
const NS_PER_MS: u64 = 1_000_000;
/// The smallest PUBLISH: two bytes of header, a Topic Name of one character with its length, and no payload.
const PUBLISH_SIZE_MIN: usize = 5;

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

    /// The same; `None` where nobody can be that fast, so that nothing need be counted.
    pub(super) fn bounding(messages_per_second: u32, bytes_per_second: u64) -> Option<Self> {
        let costs = Self::new(messages_per_second, bytes_per_second);
        (costs.message_ns > 1 || costs.byte_ns_1024 > 0).then_some(costs)
    }

    fn ns(&self, messages: u64, bytes: usize) -> u64 {
        let bytes_ns = (bytes as u64).saturating_mul(self.byte_ns_1024) >> 10;
        bytes_ns.max(messages.saturating_mul(self.message_ns))
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
        self.spend_ns(now, costs.ns(messages, bytes));
    }

    pub(super) fn spend_ns(&mut self, now: Moment, ns: u64) {
        self.paid_ns = self.paid_ns.max(now.as_millis().saturating_mul(NS_PER_MS)).saturating_add(ns);
    }

    /// Whether it may be sent so much at once, whatever size the messages have.
    #[inline]
    pub(super) fn covers(self, now: Moment, bytes: usize, costs: &Costs) -> bool {
        let ns = costs.ns((bytes / PUBLISH_SIZE_MIN) as u64, bytes);
        let now_ns = now.as_millis().saturating_mul(NS_PER_MS);
        self.paid_ns.max(now_ns).saturating_add(ns) <= now_ns + BURST_NS
    }

    /// Whether it may be read now, or sent one more. If not, [`Pace::due`] says when.
    #[inline]
    pub(super) fn may_send(self, now: Moment) -> bool {
        self.paid_ns <= now.as_millis().saturating_mul(NS_PER_MS) + BURST_NS
    }

    /// From when on it may be.
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
    fn what_nobody_can_reach_is_not_counted() {
        assert!(Costs::bounding(1_000_000_000, 1 << 40).is_none());
        assert!(Costs::bounding(1_000_000_000, 1 << 30).is_some());
        assert!(Costs::bounding(1_000_000, 1 << 40).is_some());
    }

    #[test]
    fn a_flush_is_covered_or_goes_message_by_message() {
        let now = Moment::from_millis(5_000);
        let fast = Costs::new(1_000_000, 1 << 30);
        assert!(Pace::default().covers(now, 64 << 10, &fast));
        let mut spent = Pace::default();
        spent.spend(now, 990_000, 0, &fast);
        assert!(!spent.covers(now, 64 << 10, &fast) && spent.may_send(now));
        assert!(!Pace::default().covers(now, 64 << 10, &Costs::new(10_000, 1 << 30)), "13,107 small ones");
        assert!(!Pace::default().covers(now, 64 << 10, &Costs::new(1_000_000, 1 << 10)));
    }

    #[test]
    fn bytes_count_where_they_are_dearer() {
        let (costs, mut pace) = (Costs::new(1_000_000, 1 << 20), Pace::default());
        pace.spend(Moment::default(), 1, 3 << 20, &costs);
        assert!(!pace.may_send(Moment::from_millis(1_990)));
        assert!(pace.may_send(Moment::from_millis(2_010)));
    }
}
