//! A hash table from 32-bit hashes to 32-bit numbers that grows and shrinks in small steps.
//! It never looks at what the numbers stand for: it stores the hash, and the caller says which of the few numbers under
//! it is meant. Read `tree.rs` next, whose edges live here.
//!
//! The table is cut into segments of at most 64 KiB. The low bits of a hash choose the segment, the high bits the place
//! in it. When the table fills up, one segment is split in two, the oldest first, and the others stay as they are (this
//! is known as linear hashing). So one insertion moves at most one segment, however large the table is.

/// An empty place.
const EMPTY: Entry = Entry { hash: 0, number: u32::MAX };
const SEGMENT_LEN_MIN: usize = 8;
/// 64 KiB.
const SEGMENT_LEN_MAX: usize = 8192;
/// A segment is split when the segments hold more than this on average. Those not yet split then hold up to twice as
/// many, give or take what chance does: less than three quarters of a segment.
const AVERAGE_MAX: usize = SEGMENT_LEN_MAX * 11 / 32;
/// Two segments are joined when the segments hold fewer than this on average.
const AVERAGE_MIN: usize = AVERAGE_MAX / 4;
/// A segment is made smaller when less than one in so many of its places is taken.
const SPARSE: usize = 16;

pub(super) struct Index {
    /// There are `base + split` segments; `base` is a power of two. The first `split` of them, and their `split` other
    /// halves at the end, take one more bit of the hash into account than the ones between.
    segments: Vec<Segment>,
    base: usize,
    split: usize,
    len: usize,
}

/// Open addressing with linear probing: one cache line answers most questions.
struct Segment {
    entries: Box<[Entry]>,
    len: u32,
}

#[derive(Clone, Copy)]
struct Entry {
    hash: u32,
    number: u32,
}

impl Entry {
    #[inline]
    fn is_empty(self) -> bool {
        self.number == u32::MAX
    }
}

impl Index {
    /// Takes no memory to speak of until something is inserted.
    pub(super) fn new() -> Self {
        Self { segments: vec![Segment::new()], base: 1, split: 0, len: 0 }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The number under `hash` of which `is_it` says yes.
    #[inline]
    pub(super) fn find(&self, hash: u32, is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        self.segments[self.segment_of(hash)].find(hash, is_it)
    }

    /// Adds a number, which must not be `u32::MAX`, and is not looked for before.
    pub(super) fn insert(&mut self, hash: u32, number: u32) {
        let segment = self.segment_of(hash);
        self.segments[segment].insert(Entry { hash, number });
        self.len += 1;
        if self.len > self.segments.len() * AVERAGE_MAX {
            self.split_one();
        }
    }

    /// Takes out the given number, if it is there under `hash`.
    pub(super) fn remove(&mut self, hash: u32, number: u32) -> bool {
        let segment = self.segment_of(hash);
        let removed = self.segments[segment].remove(hash, number);
        self.len -= usize::from(removed);
        if self.segments.len() > 1 && self.len < self.segments.len() * AVERAGE_MIN {
            self.join_two();
        }
        removed
    }

    #[inline]
    fn segment_of(&self, hash: u32) -> usize {
        let hash = hash as usize;
        let coarse = hash & (self.base - 1);
        if coarse < self.split { hash & (self.base * 2 - 1) } else { coarse }
    }

    fn split_one(&mut self) {
        let half = self.segments[self.split].len as usize / 2;
        let old = std::mem::replace(&mut self.segments[self.split], Segment::with_room(half));
        self.segments.push(Segment::with_room(half));
        self.split += 1;
        if self.split == self.base {
            self.base *= 2;
            self.split = 0;
        }
        self.take_over(old);
    }

    fn join_two(&mut self) {
        let Some(last) = self.segments.pop() else {
            return;
        };
        if self.split == 0 {
            self.base /= 2;
            self.split = self.base;
        }
        self.split -= 1;
        self.take_over(last);
    }

    fn take_over(&mut self, segment: Segment) {
        for entry in segment.entries.iter().filter(|entry| !entry.is_empty()) {
            let place = self.segment_of(entry.hash);
            self.segments[place].insert(*entry);
        }
    }
}

impl Segment {
    fn new() -> Self {
        Self { entries: Box::default(), len: 0 }
    }

    /// Three quarters of the places suffice for so many.
    fn with_room(count: usize) -> Self {
        let len = (count * 4 / 3 + 1).next_power_of_two().max(SEGMENT_LEN_MIN);
        Self { entries: vec![EMPTY; len].into_boxed_slice(), len: 0 }
    }

    /// Where the search for `hash` begins: its high bits, since all hashes of a segment agree in the low ones.
    #[inline]
    fn home(&self, hash: u32) -> usize {
        ((u64::from(hash) * self.entries.len() as u64) >> 32) as usize
    }

    #[inline]
    fn after(&self, place: usize) -> usize {
        (place + 1) & (self.entries.len() - 1)
    }

    #[inline]
    fn find(&self, hash: u32, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let mut place = self.home(hash);
        // An empty place is always met, since a segment is never more than three quarters full; a segment without any
        // memory answers at once.
        while let Some(entry) = self.entries.get(place) {
            if entry.is_empty() {
                return None;
            }
            if entry.hash == hash && is_it(entry.number) {
                return Some(entry.number);
            }
            place = self.after(place);
        }
        None
    }

    fn insert(&mut self, entry: Entry) {
        // More than 64 KiB only if chance, or equal hashes, fill one segment far beyond the average.
        if (self.len as usize + 1) * 4 > self.entries.len() * 3 {
            self.resize(self.entries.len());
        }
        self.put(entry);
        self.len += 1;
    }

    fn put(&mut self, entry: Entry) {
        let mut place = self.home(entry.hash);
        while !self.entries[place].is_empty() {
            place = self.after(place);
        }
        self.entries[place] = entry;
    }

    fn remove(&mut self, hash: u32, number: u32) -> bool {
        if self.entries.is_empty() {
            return false;
        }
        let mut hole = self.home(hash);
        while self.entries[hole].number != number {
            if self.entries[hole].is_empty() {
                return false;
            }
            hole = self.after(hole);
        }
        // Later entries of the same run move up into the hole, if that brings them no further forward than their home.
        let mask = self.entries.len() - 1;
        let mut place = self.after(hole);
        while !self.entries[place].is_empty() {
            let home = self.home(self.entries[place].hash);
            if place.wrapping_sub(home) & mask >= place.wrapping_sub(hole) & mask {
                self.entries[hole] = self.entries[place];
                hole = place;
            }
            place = self.after(place);
        }
        self.entries[hole] = EMPTY;
        self.len -= 1;
        if self.entries.len() > SEGMENT_LEN_MIN && self.len as usize * SPARSE < self.entries.len() {
            self.resize(self.len as usize * 2);
        }
        true
    }

    /// Makes room for so many, which is at least what is there.
    fn resize(&mut self, count: usize) {
        let old = std::mem::replace(self, Self::with_room(count));
        for entry in old.entries.iter().filter(|entry| !entry.is_empty()) {
            self.put(*entry);
        }
        self.len = old.len;
    }
}

#[cfg(test)]
mod tests {
    use super::{Index, SEGMENT_LEN_MAX, SPARSE};
    use crate::topic::hash::mix;

    fn hash_of(number: u32) -> u32 {
        (mix(u64::from(number) ^ 0x5DEE_CE66_D1CE_4E5B, 0x9E37_79B9_7F4A_7C15) >> 32) as u32
    }

    #[test]
    fn everything_is_found_while_the_table_grows_and_shrinks() {
        let mut index = Index::new();
        let count = 100_000;
        for number in 0..count {
            index.insert(hash_of(number), number);
        }
        assert_eq!(index.len(), count as usize);
        assert!(index.segments.len() > 16, "{}", index.segments.len());
        assert!(index.segments.iter().all(|segment| segment.entries.len() <= SEGMENT_LEN_MAX));
        for number in 0..count {
            assert_eq!(index.find(hash_of(number), |found| found == number), Some(number));
            assert_eq!(index.find(hash_of(number), |_| false), None);
        }
        for number in (0..count).filter(|number| number % 100 != 0) {
            assert!(index.remove(hash_of(number), number));
            assert!(!index.remove(hash_of(number), number));
        }
        assert!(index.segments.len() <= 2, "{}", index.segments.len());
        let places: usize = index.segments.iter().map(|segment| segment.entries.len()).sum();
        assert!(places <= 1000 * SPARSE, "{places}");
        for number in 0..count {
            let expected = (number % 100 == 0).then_some(number);
            assert_eq!(index.find(hash_of(number), |found| found == number), expected);
        }
    }

    #[test]
    fn equal_hashes_are_told_apart_by_the_caller() {
        let mut index = Index::new();
        for number in 0..20 {
            index.insert(u32::MAX, number);
        }
        assert!(index.remove(u32::MAX, 7));
        for number in 0..20 {
            assert_eq!(index.find(u32::MAX, |found| found == number), (number != 7).then_some(number));
        }
    }
}
