//! Slows down whoever guesses: by address, and by user.
//!
//! Failures fill a bucket that drains in `window`; when it is full, each further one shuts the door for twice as long as the
//! one before, up to `block_max`, until nothing has failed for a whole `window`. A user's bucket is filled from all addresses together, but shuts the door only to addresses
//! that have failed lately themselves: whoever guesses at a user cannot lock that user out. Nothing here knows a clock.

use crate::codec::Moment;
use core::net::IpAddr;
use foldhash::quality::RandomState;
use parking_lot::Mutex;
use std::hash::BuildHasher;
use std::time::Duration;

/// How patient the doors are with failed logins.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Failures of one address, or at one user, that cost nothing. At least 1.
    pub failures_max: u32,
    /// In which they are forgotten. At least one millisecond for each.
    pub window: Duration,
    /// The longest that a door is shut at once.
    pub block_max: Duration,
}

/// Who has failed lately. Holds at most 16,384 addresses and as many users; beyond that, those that failed least are
/// forgotten first.
pub struct Throttle {
    patience: Patience,
    hasher: RandomState,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    addresses: Table,
    users: Table,
}

/// Who is held up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    Address,
    User,
}

/// The first time that a door is shut; then it doubles.
const FIRST_BLOCK: Duration = Duration::from_secs(1);

impl Throttle {
    pub fn new(patience: Patience) -> Self {
        Self { patience, hasher: RandomState::default(), state: Mutex::default() }
    }

    /// Whether a login from there, of that user, may be tried now.
    pub fn check(&self, now: Moment, address: Option<IpAddr>, user: Option<&str>) -> Option<Held> {
        let (address, user) = self.keys(address, user);
        let now = now.as_millis();
        let state = self.state.lock();
        let from = state.addresses.get(address);
        if from.is_some_and(|entry| entry.blocked_until > now) {
            return Some(Held::Address);
        }
        let has_failed = from.is_some_and(|entry| entry.empty_at > now);
        let at_user = user.and_then(|user| state.users.get(user));
        (has_failed && at_user.is_some_and(|entry| entry.blocked_until > now)).then_some(Held::User)
    }

    /// One has failed.
    pub fn failed(&self, now: Moment, address: Option<IpAddr>, user: Option<&str>) {
        let (address, user) = self.keys(address, user);
        let mut state = self.state.lock();
        state.addresses.fail(address, now.as_millis(), &self.patience);
        if let Some(user) = user {
            state.users.fail(user, now.as_millis(), &self.patience);
        }
    }

    /// Names and addresses are kept as keyed hashes. An IPv6 network of /64 counts as one address: whoever has one of it, has
    /// all of it.
    fn keys(&self, address: Option<IpAddr>, user: Option<&str>) -> (u64, Option<u64>) {
        let address = match address.map(|address| address.to_canonical()) {
            Some(IpAddr::V6(address)) => Some(IpAddr::from((address.to_bits() >> 64 << 64).to_be_bytes())),
            other => other,
        };
        (self.hasher.hash_one(address), user.map(|user| self.hasher.hash_one(user)))
    }
}

/// Failures under one key; all zero = none.
#[derive(Clone, Copy, Default)]
struct Entry {
    key: u64,
    /// When the bucket will have drained, in milliseconds.
    empty_at: u64,
    blocked_until: u64,
    /// Times in a row that the door was shut.
    strikes: u32,
}

/// A fixed number of places, eight of which can hold a key. Allocated with the first failure.
#[derive(Default)]
struct Table {
    places: Vec<Entry>,
}

const SETS: usize = 2048;
const WAYS: usize = 8;

impl Table {
    fn set(key: u64) -> std::ops::Range<usize> {
        let first = (key as usize % SETS) * WAYS;
        first..first + WAYS
    }

    fn get(&self, key: u64) -> Option<&Entry> {
        self.places.get(Self::set(key))?.iter().find(|entry| entry.key == key)
    }

    fn fail(&mut self, key: u64, now: u64, patience: &Patience) {
        if self.places.is_empty() {
            self.places = vec![Entry::default(); SETS * WAYS];
        }
        let set = &mut self.places[Self::set(key)];
        let place = set.iter().position(|entry| entry.key == key).unwrap_or_else(|| {
            let least = (0..WAYS).min_by_key(|place| set[*place].empty_at.max(set[*place].blocked_until));
            least.expect("a set has places")
        });
        let entry = &mut set[place];
        if entry.key != key || entry.empty_at.max(entry.blocked_until) <= now {
            *entry = Entry { key, empty_at: now, blocked_until: now, strikes: 0 };
        }
        let window = patience.window.as_millis() as u64;
        let each = (window / u64::from(patience.failures_max.max(1))).max(1);
        entry.empty_at = entry.empty_at.max(now) + each;
        if entry.strikes > 0 || entry.empty_at.saturating_sub(now) > window.saturating_sub(each) {
            let block = FIRST_BLOCK.saturating_mul(1 << entry.strikes.min(20)).min(patience.block_max);
            entry.blocked_until = now + block.as_millis() as u64;
            entry.strikes += 1;
            entry.empty_at = entry.blocked_until + window;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Held, Patience, SETS, Throttle, WAYS};
    use crate::codec::Moment;
    use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
    use std::time::Duration;

    fn throttle() -> Throttle {
        Throttle::new(Patience {
            failures_max: 10,
            window: Duration::from_secs(60),
            block_max: Duration::from_secs(30),
        })
    }

    fn at(seconds: f64) -> Moment {
        Moment::from_millis((seconds * 1000.0) as u64)
    }

    fn host(number: u8) -> Option<IpAddr> {
        Some(IpAddr::V4(Ipv4Addr::new(10, 0, 0, number)))
    }

    #[test]
    fn ten_failures_cost_nothing_and_the_eleventh_waits() {
        let throttle = throttle();
        for _ in 0..10 {
            assert_eq!(throttle.check(at(1.0), host(1), Some("alice")), None);
            throttle.failed(at(1.0), host(1), Some("alice"));
        }
        assert_eq!(throttle.check(at(1.9), host(1), Some("alice")), Some(Held::Address));
        assert_eq!(throttle.check(at(1.9), host(1), Some("bob")), Some(Held::Address));
        assert_eq!(throttle.check(at(2.0), host(1), Some("alice")), None);
    }

    #[test]
    fn each_further_failure_waits_twice_as_long() {
        let throttle = throttle();
        (0..10).for_each(|_| throttle.failed(at(0.0), host(1), None));
        let mut now = 0.0;
        for block in [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0] {
            assert_eq!(throttle.check(at(now + block - 0.1), host(1), None), Some(Held::Address), "{block}");
            assert_eq!(throttle.check(at(now + block), host(1), None), None, "{block}");
            now += block;
            throttle.failed(at(now), host(1), None);
        }
        // And is forgotten when nothing happens for a while.
        now += 30.0 + 60.0;
        throttle.failed(at(now), host(1), None);
        assert_eq!(throttle.check(at(now), host(1), None), None);
    }

    #[test]
    fn who_guesses_at_a_user_does_not_lock_the_user_out() {
        let throttle = throttle();
        for guesser in 1..=50 {
            throttle.failed(at(0.5), host(guesser), Some("alice"));
        }
        assert_eq!(throttle.check(at(1.0), host(7), Some("alice")), Some(Held::User));
        assert_eq!(throttle.check(at(1.0), host(7), Some("bob")), None);
        assert_eq!(throttle.check(at(1.0), host(200), Some("alice")), None);
    }

    #[test]
    fn a_slow_failure_now_and_then_is_no_attack() {
        let throttle = throttle();
        for minute in 0..1000 {
            let now = at(f64::from(minute) * 6.0);
            assert_eq!(throttle.check(now, host(1), Some("alice")), None);
            throttle.failed(now, host(1), Some("alice"));
        }
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one() {
        let throttle = throttle();
        let address = |low: u16| Some(IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 1, low, 0, 0, low)));
        (0..10).for_each(|low| throttle.failed(at(0.0), address(low), None));
        assert_eq!(throttle.check(at(0.0), address(77), None), Some(Held::Address));
        let other = Some(IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 2, 0, 0, 0, 1)));
        assert_eq!(throttle.check(at(0.0), other, None), None);
        // The same IPv4 address by way of an IPv6 socket is the same.
        let mapped = Some(IpAddr::V6(Ipv4Addr::new(10, 0, 0, 1).to_ipv6_mapped()));
        (0..10).for_each(|_| throttle.failed(at(0.0), mapped, None));
        assert_eq!(throttle.check(at(0.0), host(1), None), Some(Held::Address));
    }

    #[test]
    fn memory_is_bounded_and_who_failed_most_is_remembered() {
        let throttle = throttle();
        (0..10).for_each(|_| throttle.failed(at(0.0), host(1), Some("alice")));
        for number in 0..1_000_000_u32 {
            throttle.failed(at(0.0), Some(IpAddr::V4(number.into())), None);
        }
        assert_eq!(throttle.state.lock().addresses.places.len(), SETS * WAYS);
        assert_eq!(throttle.check(at(0.5), host(1), None), Some(Held::Address));
    }
}
