//! What happens seldom, counted for whoever watches the broker. Never on the way of a PUBLISH: there, each shard counts for
//! itself in plain numbers.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only grows, until the process ends.
#[derive(Debug, Default)]
pub struct Tally(AtomicU64);

impl Tally {
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// One more.
    pub fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How often something went well, and how often not.
#[derive(Debug, Default)]
pub struct Outcomes {
    pub well: Tally,
    pub badly: Tally,
}

impl Outcomes {
    /// Counts what came of it, and hands it on.
    pub fn note<T, E>(&self, outcome: Result<T, E>) -> Result<T, E> {
        if outcome.is_ok() {
            self.well.add()
        } else {
            self.badly.add()
        }
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::Outcomes;

    #[test]
    fn what_came_of_it_is_counted() {
        let outcomes = Outcomes::default();
        for outcome in [Ok(1), Err("no"), Ok(2)] {
            assert_eq!(outcomes.note(outcome), outcome);
        }
        assert_eq!((outcomes.well.get(), outcomes.badly.get()), (2, 1));
    }
}
