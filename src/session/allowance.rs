//! What may wait in one queue: as much as its own bounds and those of its user allow, whose Sessions share an [`Account`].
//!
//! The account is asked in steps, so that most Messages do not touch it: what waits for a Session counts rounded up to the next
//! step, and the first step of each is free.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Messages and bytes of a step. A longer queue takes an eighth of its length at a time.
const STEP: Amount = Amount { messages: 64, bytes: 64 << 10 };

/// QoS 1 and 2 Messages that wait, and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    pub messages: usize,
    pub bytes: usize,
}

impl Amount {
    fn map(self, other: Self, of: impl Fn(usize, usize) -> usize) -> Self {
        Self { messages: of(self.messages, other.messages), bytes: of(self.bytes, other.bytes) }
    }

    fn min(self, other: Self) -> Self {
        self.map(other, usize::min)
    }

    fn max(self, other: Self) -> Self {
        self.map(other, usize::max)
    }

    fn plus(self, other: Self) -> Self {
        self.map(other, usize::saturating_add)
    }

    /// Nothing is less than nothing.
    fn minus(self, other: Self) -> Self {
        self.map(other, usize::saturating_sub)
    }

    fn with_a_step(self) -> Self {
        self.plus(STEP).plus(self.map(self, |amount, _| amount / 8))
    }

    /// The part that is not free.
    fn charged(self) -> Self {
        self.minus(STEP)
    }

    fn fits(self, bound: Self) -> bool {
        self.messages <= bound.messages && self.bytes <= bound.bytes
    }
}

/// What waits for all Sessions of one user, whichever shards they are in.
#[derive(Debug)]
pub struct Account {
    bound: Amount,
    messages: AtomicUsize,
    bytes: AtomicUsize,
}

impl Account {
    pub fn new(bound: Amount) -> Arc<Self> {
        Arc::new(Self { bound, messages: AtomicUsize::new(0), bytes: AtomicUsize::new(0) })
    }

    /// `false`: there is not so much left, and nothing was taken.
    fn take(&self, amount: Amount) -> bool {
        let fits = self.take_anyway(amount).fits(self.bound);
        if !fits {
            self.give_back(amount);
        }
        fits
    }

    /// Says how much that is in all.
    fn take_anyway(&self, amount: Amount) -> Amount {
        let before = Amount {
            messages: self.messages.fetch_add(amount.messages, Relaxed),
            bytes: self.bytes.fetch_add(amount.bytes, Relaxed),
        };
        before.plus(amount)
    }

    fn give_back(&self, amount: Amount) {
        self.messages.fetch_sub(amount.messages, Relaxed);
        self.bytes.fetch_sub(amount.bytes, Relaxed);
    }
}

/// What one queue may hold at the moment. Of nothing by itself: the queue has to [`widen`](Self::widen) it.
#[derive(Default)]
pub(super) struct Allowance {
    held: Amount,
    /// Who has what of it is not free. `None`: nobody asked, or nobody is to be asked.
    account: Option<Arc<Account>>,
}

impl Allowance {
    /// The first step, which is free.
    pub(super) fn free(most: Amount) -> Self {
        Self { held: STEP.min(most), account: None }
    }

    #[inline]
    pub(super) fn holds(&self, messages: usize, bytes: usize) -> bool {
        messages <= self.held.messages && bytes <= self.held.bytes
    }

    /// Makes room for that much, as far as the queue's bounds and the user's account allow. `account`: the user's, if it has one.
    pub(super) fn widen(&mut self, needed: Amount, most: Amount, account: impl FnOnce() -> Option<Arc<Account>>) {
        if self.account.is_none() {
            self.account = account();
        }
        let Some(account) = &self.account else {
            self.held = most;
            return;
        };
        for wanted in [needed.with_a_step(), needed] {
            let wanted = wanted.min(most).max(self.held);
            if account.take(wanted.charged().minus(self.held.charged())) {
                self.held = wanted;
                return;
            }
        }
    }

    /// That much is there, whatever the bounds say.
    pub(super) fn charge(&mut self, there: Amount, account: Option<Arc<Account>>) {
        if let Some(account) = account {
            account.take_anyway(there.charged());
            *self = Self { held: there, account: Some(account) };
        }
    }

    #[inline]
    pub(super) fn is_counted(&self) -> bool {
        self.account.is_some()
    }

    /// Only that much is there any more: gives back what is far beyond it.
    pub(super) fn narrow(&mut self, there: Amount) {
        let enough = there.with_a_step();
        if let Some(account) = &self.account
            && !self.held.fits(enough.with_a_step())
        {
            let held = self.held.min(enough);
            account.give_back(self.held.charged().minus(held.charged()));
            self.held = held;
        }
    }
}

impl Drop for Allowance {
    fn drop(&mut self) {
        if let Some(account) = &self.account {
            account.give_back(self.held.charged());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANY: Amount = Amount { messages: 1_000_000, bytes: 1 << 40 };

    fn messages(messages: usize) -> Amount {
        Amount { messages, bytes: 1 }
    }

    fn taken(account: &Account) -> usize {
        account.messages.load(Relaxed)
    }

    #[test]
    fn queues_of_one_user_share_what_it_may_have_waiting() {
        let account = Account::new(Amount { messages: 1000, ..MANY });
        let (mut one, mut other) = (Allowance::free(MANY), Allowance::free(MANY));
        one.widen(messages(700), MANY, || Some(Arc::clone(&account)));
        assert!(one.holds(700, 1) && taken(&account) == 700 + 64 + 87 - 64);
        // What is left is less than a step beyond what is needed.
        other.widen(messages(250), MANY, || Some(Arc::clone(&account)));
        assert!(other.holds(250, 1) && !other.holds(251, 1), "{}", taken(&account));
        other.widen(messages(300), MANY, || None);
        assert!(!other.holds(300, 1));
        one.narrow(messages(10));
        other.widen(messages(300), MANY, || None);
        assert!(other.holds(300, 1));
        drop((one, other));
        assert_eq!(taken(&account), 0);
    }

    #[test]
    fn what_was_there_before_counts_although_it_is_too_much() {
        let account = Account::new(Amount { messages: 1000, ..MANY });
        let (mut restored, mut new) = (Allowance::default(), Allowance::free(MANY));
        restored.charge(messages(5000), Some(Arc::clone(&account)));
        new.widen(messages(65), MANY, || Some(Arc::clone(&account)));
        assert!(new.holds(64, 1) && !new.holds(65, 1), "the first step is free, and nothing else");
        restored.narrow(messages(100));
        new.widen(messages(65), MANY, || None);
        assert!(new.holds(65, 1));
        drop((restored, new));
        assert_eq!(taken(&account), 0);
    }
}
