//! Matches that were found before, kept by topic and dropped when a subscription could have changed them.
//! It never says which subscriptions changed, and never searches: whoever misses here searches the tree and comes back.
//! Read `retained.rs` next.
//!
//! One set of [`Epochs`] is shared by all threads; each thread has a [`MatchCache`] of its own. When a filter appears or
//! disappears, one epoch goes up, chosen by how the filter begins. A topic depends on four epochs: that of itself, of its
//! first two levels, of its first level, and of the filters that begin with a wildcard. A match remembers the four as
//! they were before the search, and is good as long as they are the same. So the commonest change by far, a filter
//! `commands/<some client>/#`, disturbs one cached topic in 65,536.

use std::sync::atomic::{AtomicU32, Ordering};

use triomphe::ThinArc;

use super::hash::{HashKey, first_levels};

const EXACT_COUNT: usize = 4096;
const TWO_COUNT: usize = 65_536;
const ONE_COUNT: usize = 1024;
const SLOTS_MIN: usize = 16;
/// Matches that one thread keeps.
const SLOTS_MAX: usize = 8192;
/// A longer topic is not kept, so that 8,192 of them take at most 8 MiB.
const TOPIC_BYTES_MAX: usize = 1024;

/// What changed, by how filters begin. 276 KiB, shared by all threads.
pub struct Epochs {
    /// For filters without a wildcard, by the hash of the filter.
    exact: Box<[AtomicU32; EXACT_COUNT]>,
    /// For filters whose first wildcard comes after two or more levels, by the hash of the first two.
    two: Box<[AtomicU32]>,
    /// For filters whose first wildcard is the second level, by the hash of the first.
    one: Box<[AtomicU32; ONE_COUNT]>,
    /// For filters that begin with a wildcard.
    any: AtomicU32,
    key: HashKey,
}

/// The four epochs of a topic at one moment. Read them before searching the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamps {
    exact: Stamp,
    two: Stamp,
    one: Stamp,
    any: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    place: u16,
    epoch: u32,
}

/// One thread's matches: up to 8,192 topics of up to 1 KiB. It starts empty, takes memory as topics come, and forgets
/// the older of two when they compete for a place.
pub struct MatchCache<V: Clone> {
    /// Pairs; in each, the match that was used last comes first. 16 bytes each, so that doubling copies at most 64 KiB.
    slots: Vec<Slot<V>>,
    used: usize,
}

#[derive(Clone)]
struct Slot<V: Clone> {
    hash: u64,
    /// The match and its topic.
    found: Option<ThinArc<Found<V>, u8>>,
}

struct Found<V> {
    stamps: Stamps,
    value: V,
}

impl Epochs {
    /// All epochs at the beginning, with a key of their own.
    pub fn new() -> Self {
        Self::with_key(HashKey::random())
    }

    /// All epochs at the beginning. The key decides which topics compete for a place.
    pub fn with_key(key: HashKey) -> Self {
        Self {
            exact: Box::new([const { AtomicU32::new(0) }; EXACT_COUNT]),
            two: (0..TWO_COUNT).map(|_| AtomicU32::new(0)).collect(),
            one: Box::new([const { AtomicU32::new(0) }; ONE_COUNT]),
            any: AtomicU32::new(0),
            key,
        }
    }

    /// The hash of a topic that the caches and [`stamps`](Self::stamps) go by.
    #[inline]
    pub fn hash(&self, topic: &[u8]) -> u64 {
        self.key.hash(topic)
    }

    /// Says that this filter appeared, disappeared or changed its value. Call it after the change of the tree, or while
    /// nobody else can search the tree: whoever reads the new epoch must find the new tree.
    pub fn bump(&self, filter: &[u8]) {
        let epoch = match Beginning::of(filter) {
            Beginning::Literal => &self.exact[place(self.key.hash(filter), EXACT_COUNT)],
            Beginning::Two(levels) => &self.two[place(self.key.hash(levels), TWO_COUNT)],
            Beginning::One(level) => &self.one[place(self.key.hash(level), ONE_COUNT)],
            Beginning::Wildcard => &self.any,
        };
        epoch.fetch_add(1, Ordering::Release);
    }

    /// The epochs that a search for this topic depends on, as they are now.
    pub fn stamps(&self, topic: &[u8], hash: u64) -> Stamps {
        // A topic of one level has no two; no filter of that class matches it, and any epoch does.
        let (one, two) = (first_levels(topic, 1), first_levels(topic, 2));
        Stamps {
            exact: Stamp::read(&self.exact[..], hash),
            two: Stamp::read(&self.two[..], self.key.hash(two)),
            one: Stamp::read(&self.one[..], self.key.hash(one)),
            any: self.any.load(Ordering::Acquire),
        }
    }

    #[inline]
    fn are_as_in(&self, stamps: &Stamps) -> bool {
        let exact = self.exact[usize::from(stamps.exact.place) % EXACT_COUNT].load(Ordering::Acquire);
        let two = self.two[usize::from(stamps.two.place) % TWO_COUNT].load(Ordering::Acquire);
        let one = self.one[usize::from(stamps.one.place) % ONE_COUNT].load(Ordering::Acquire);
        let any = self.any.load(Ordering::Acquire);
        (exact, two, one, any) == (stamps.exact.epoch, stamps.two.epoch, stamps.one.epoch, stamps.any)
    }
}

impl Default for Epochs {
    fn default() -> Self {
        Self::new()
    }
}

impl Stamp {
    fn read(epochs: &[AtomicU32], hash: u64) -> Self {
        let place = place(hash, epochs.len());
        Self { place: place as u16, epoch: epochs[place].load(Ordering::Acquire) }
    }
}

impl<V: Clone> MatchCache<V> {
    /// Takes no memory until something is inserted.
    pub const fn new() -> Self {
        Self { slots: Vec::new(), used: 0 }
    }

    /// What was found for this topic; if that is not known, or not good any more, what `search` finds now, which is kept if
    /// `is_kept`. `hash` is [`Epochs::hash`] of the topic.
    #[inline]
    pub fn get_or_search(
        &mut self,
        topic: &[u8],
        hash: u64,
        epochs: &Epochs,
        search: impl FnOnce() -> V,
        is_kept: impl FnOnce(&V) -> bool,
    ) -> V {
        if let Some(found) = self.lookup(topic, hash, epochs) {
            return found.clone();
        }
        let stamps = epochs.stamps(topic, hash);
        let found = search();
        if is_kept(&found) {
            self.insert(topic, hash, stamps, found.clone());
        }
        found
    }

    /// What was found for this topic, if nothing has changed since that could change it. `hash` is
    /// [`Epochs::hash`] of the topic.
    #[inline]
    pub fn lookup(&mut self, topic: &[u8], hash: u64, epochs: &Epochs) -> Option<&V> {
        let first = pair_of(hash, self.slots.len());
        let [recent, older] = self.slots.get_mut(first..)?.first_chunk_mut::<2>()?;
        if !recent.is_for(topic, hash) {
            if !older.is_for(topic, hash) {
                return None;
            }
            std::mem::swap(recent, older);
        }
        let found = &recent.found.as_ref()?.header.header;
        epochs.are_as_in(&found.stamps).then_some(&found.value)
    }

    /// Keeps what a search found. `stamps` were read before that search; if something changed during it, the next
    /// look-up misses. Topics of more than 1 KiB are not kept.
    pub fn insert(&mut self, topic: &[u8], hash: u64, stamps: Stamps, value: V) {
        if topic.len() > TOPIC_BYTES_MAX {
            return;
        }
        if self.slots.is_empty() || self.is_full_for(topic, hash) {
            self.double();
        }
        let found = Some(ThinArc::from_header_and_slice(Found { stamps, value }, topic));
        let first = pair_of(hash, self.slots.len());
        let [recent, older] = &mut self.slots[first..first + 2] else {
            return;
        };
        if !recent.is_for(topic, hash) {
            std::mem::swap(recent, older);
        }
        // Now the first of the pair is this topic's own, or the one that was not used for longer.
        self.used += usize::from(recent.found.is_none());
        *recent = Slot { hash, found };
    }

    /// Forgets everything and gives the memory back.
    pub fn clear(&mut self) {
        *self = Self::new();
    }

    /// Whether something has to be forgotten to keep this topic, although the cache may still grow.
    fn is_full_for(&self, topic: &[u8], hash: u64) -> bool {
        let first = pair_of(hash, self.slots.len());
        // While most places are empty it is chance, or somebody's skill, that two topics compete.
        let may_grow = self.slots.len() < SLOTS_MAX && self.used * 16 > self.slots.len();
        may_grow && self.slots[first..first + 2].iter().all(|slot| slot.found.is_some() && !slot.is_for(topic, hash))
    }

    fn double(&mut self) {
        let len = (self.slots.len() * 2).max(SLOTS_MIN);
        let old = std::mem::replace(&mut self.slots, vec![Slot { hash: 0, found: None }; len]);
        // A pair is spread over two pairs, so that all of them find room. The older come first and end up behind.
        for slot in old.into_iter().rev().filter(|slot| slot.found.is_some()) {
            let first = pair_of(slot.hash, len);
            self.slots.swap(first, first + 1);
            self.slots[first] = slot;
        }
    }
}

impl<V: Clone> Default for MatchCache<V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<V: Clone> Slot<V> {
    #[inline]
    fn is_for(&self, topic: &[u8], hash: u64) -> bool {
        self.hash == hash && self.found.as_ref().is_some_and(|found| found.slice == *topic)
    }
}

/// How a filter begins.
enum Beginning<'a> {
    /// There is no wildcard in it.
    Literal,
    /// The first two levels, with the slash between them: no wildcards, but one follows.
    Two(&'a [u8]),
    /// The first level: no wildcard, but the second is one.
    One(&'a [u8]),
    Wildcard,
}

impl<'a> Beginning<'a> {
    fn of(filter: &'a [u8]) -> Self {
        // The ends of the first two levels.
        let mut ends = [0, 0];
        for (number, level) in filter.split(|byte| *byte == b'/').enumerate() {
            if let b"+" | b"#" = level {
                return match number {
                    0 => Self::Wildcard,
                    1 => Self::One(&filter[..ends[0]]),
                    _ => Self::Two(&filter[..ends[1]]),
                };
            }
            match number {
                0 => ends = [level.len(), 0],
                1 => ends[1] = ends[0] + 1 + level.len(),
                _ => {}
            }
        }
        Self::Literal
    }
}

/// The high bits choose an epoch, the low ones a pair of slots.
#[inline]
fn place(hash: u64, count: usize) -> usize {
    (hash >> 32) as usize % count
}

#[inline]
fn pair_of(hash: u64, slots: usize) -> usize {
    hash as usize & slots.saturating_sub(1) & !1
}

#[cfg(test)]
mod tests {
    use super::{Beginning, Epochs, MatchCache, SLOTS_MAX};
    use crate::topic::HashKey;

    fn epochs() -> Epochs {
        Epochs::with_key(HashKey::fixed(1))
    }

    fn keep(cache: &mut MatchCache<u32>, epochs: &Epochs, topic: &str, value: u32) {
        let hash = epochs.hash(topic.as_bytes());
        let stamps = epochs.stamps(topic.as_bytes(), hash);
        cache.insert(topic.as_bytes(), hash, stamps, value);
    }

    fn look(cache: &mut MatchCache<u32>, epochs: &Epochs, topic: &str) -> Option<u32> {
        cache.lookup(topic.as_bytes(), epochs.hash(topic.as_bytes()), epochs).copied()
    }

    #[test]
    fn a_match_is_found_again_until_a_filter_that_could_match_changes() {
        for (topic, filter) in [
            ("a/b/c", "a/b/c"),
            ("a/b/c", "a/b/+"),
            ("a/b/c", "a/b/#"),
            ("a/b", "a/b/#"),
            ("a/b/c", "a/b/c/#"),
            ("a/b/c", "a/+/c"),
            ("a/b/c", "a/#"),
            ("a", "a/#"),
            ("a/b/c", "#"),
            ("a/b/c", "+/b/c"),
            ("/", "/+"),
            ("/x", "/#"),
            ("//x", "//+"),
        ] {
            let (epochs, mut cache) = (epochs(), MatchCache::new());
            assert_eq!(look(&mut cache, &epochs, topic), None);
            keep(&mut cache, &epochs, topic, 7);
            assert_eq!(look(&mut cache, &epochs, topic), Some(7));
            epochs.bump(filter.as_bytes());
            assert_eq!(look(&mut cache, &epochs, topic), None, "{topic} after {filter}");
            keep(&mut cache, &epochs, topic, 8);
            assert_eq!(look(&mut cache, &epochs, topic), Some(8));
        }
    }

    #[test]
    fn other_filters_disturb_nothing() {
        let (epochs, mut cache) = (epochs(), MatchCache::new());
        keep(&mut cache, &epochs, "a/b/c", 7);
        for filter in ["x", "a", "a/b", "a/x/#", "x/+", "x/b/c"] {
            epochs.bump(filter.as_bytes());
        }
        assert_eq!(look(&mut cache, &epochs, "a/b/c"), Some(7));
    }

    #[test]
    fn a_change_during_the_search_makes_the_next_lookup_miss() {
        let (epochs, mut cache) = (epochs(), MatchCache::new());
        let hash = epochs.hash(b"a/b");
        let stamps = epochs.stamps(b"a/b", hash);
        epochs.bump(b"a/b");
        cache.insert(b"a/b", hash, stamps, 1);
        assert_eq!(cache.lookup(b"a/b", hash, &epochs), None);
    }

    #[test]
    fn a_thousand_changes_for_other_clients_leave_most_matches() {
        let (epochs, mut cache) = (epochs(), MatchCache::new());
        for client in 0..1000 {
            keep(&mut cache, &epochs, &format!("state/{client}/temperature"), client);
        }
        for client in 0..1000 {
            epochs.bump(format!("commands/{client}/#").as_bytes());
        }
        let kept = (0..1000)
            .filter(|client| look(&mut cache, &epochs, &format!("state/{client}/temperature")).is_some())
            .count();
        assert!(kept > 700, "{kept}");
    }

    #[test]
    fn it_grows_with_use_and_not_beyond() {
        let (epochs, mut cache) = (epochs(), MatchCache::new());
        assert_eq!(cache.slots.capacity(), 0);
        for number in 0..10 {
            keep(&mut cache, &epochs, &format!("a/{number}"), number);
        }
        assert!(cache.slots.len() <= 32);
        for number in 0..50_000 {
            keep(&mut cache, &epochs, &format!("a/{number}"), number);
            assert_eq!(look(&mut cache, &epochs, &format!("a/{number}")), Some(number));
        }
        assert_eq!(cache.slots.len(), SLOTS_MAX);
        assert!(cache.used <= SLOTS_MAX);
        cache.clear();
        assert_eq!(look(&mut cache, &epochs, "a/49999"), None);
    }

    #[test]
    fn a_search_is_made_once() {
        let (epochs, mut cache) = (epochs(), MatchCache::new());
        let hash = epochs.hash(b"a");
        assert_eq!(cache.get_or_search(b"a", hash, &epochs, || 1, |_| true), 1);
        assert_eq!(cache.get_or_search(b"a", hash, &epochs, || panic!("it is known"), |_| true), 1);
        epochs.bump(b"a");
        assert_eq!(cache.get_or_search(b"a", hash, &epochs, || 2, |_| false), 2);
    }

    #[test]
    fn of_two_that_compete_the_one_used_last_stays() {
        let (epochs, mut cache) = (epochs(), MatchCache::new());
        let stamps = epochs.stamps(b"x", 0);
        // Hashes that agree in all the bits that choose a pair.
        cache.insert(b"first", 0 << 40, stamps, 1);
        cache.insert(b"second", 1 << 40, stamps, 2);
        assert_eq!(cache.lookup(b"first", 0 << 40, &epochs), Some(&1));
        cache.insert(b"third", 2 << 40, stamps, 3);
        assert_eq!(cache.lookup(b"first", 0 << 40, &epochs), Some(&1));
        assert_eq!(cache.lookup(b"second", 1 << 40, &epochs), None);
        assert_eq!(cache.lookup(b"third", 2 << 40, &epochs), Some(&3));
    }

    #[test]
    fn long_topics_are_not_kept() {
        let (epochs, mut cache) = (epochs(), MatchCache::new());
        for (len, kept) in [(1024, true), (1025, false)] {
            let topic = "x".repeat(len);
            keep(&mut cache, &epochs, &topic, 1);
            assert_eq!(look(&mut cache, &epochs, &topic).is_some(), kept);
        }
    }

    #[test]
    fn beginnings() {
        let name = |filter: &'static str| match Beginning::of(filter.as_bytes()) {
            Beginning::Literal => "literal".to_owned(),
            Beginning::Two(levels) => format!("two {}", String::from_utf8_lossy(levels)),
            Beginning::One(level) => format!("one {}", String::from_utf8_lossy(level)),
            Beginning::Wildcard => "wildcard".to_owned(),
        };
        for (filter, expected) in [
            ("a", "literal"),
            ("", "literal"),
            ("a/b/c/d", "literal"),
            ("a+/b", "literal"),
            ("a/b/#", "two a/b"),
            ("aa/bb/cc/+/d", "two aa/bb"),
            ("//+", "two /"),
            ("aa/+", "one aa"),
            ("/#", "one "),
            ("+/a", "wildcard"),
            ("#", "wildcard"),
        ] {
            assert_eq!(name(filter), expected, "{filter}");
        }
    }
}
