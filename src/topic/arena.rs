//! Numbered places for values, in chunks, so that growing never moves what is already there.
//! A value is never moved while it lives, and no growth copies more than 64 KiB.
//! Read `tree.rs` next, which keeps its nodes here.

use std::collections::BTreeSet;
use std::ops::{Index, IndexMut};

const CHUNK_BITS: u32 = 12;
/// Places in one chunk.
const CHUNK_LEN: usize = 1 << CHUNK_BITS;
/// The most that is copied to let the first chunk grow; all other chunks are made full size.
const COPY_BYTES_MAX: usize = 64 * 1024;
/// No place.
pub(super) const NONE: u32 = u32::MAX;

/// Values under numbers. A number stays good until its value is removed and may then name another one.
pub(super) struct Arena<T> {
    chunks: Vec<Chunk<T>>,
    /// The chunk that takes the next value if it has room.
    current: usize,
    /// All other chunks that have room, the lowest first, so that high chunks get a chance to become empty.
    roomy: BTreeSet<usize>,
    len: usize,
}

struct Chunk<T> {
    slots: Vec<Slot<T>>,
    first_free: u32,
    live: u32,
}

enum Slot<T> {
    Used(T),
    Free { next: u32 },
}

impl<T> Arena<T> {
    pub(super) const fn new() -> Self {
        Self { chunks: Vec::new(), current: 0, roomy: BTreeSet::new(), len: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(super) fn get(&self, place: u32) -> Option<&T> {
        let place = place as usize;
        match self.chunks.get(place >> CHUNK_BITS)?.slots.get(place & (CHUNK_LEN - 1))? {
            Slot::Used(value) => Some(value),
            Slot::Free { .. } => None,
        }
    }

    #[inline]
    pub(super) fn get_mut(&mut self, place: u32) -> Option<&mut T> {
        let place = place as usize;
        match self.chunks.get_mut(place >> CHUNK_BITS)?.slots.get_mut(place & (CHUNK_LEN - 1))? {
            Slot::Used(value) => Some(value),
            Slot::Free { .. } => None,
        }
    }

    pub(super) fn insert(&mut self, value: T) -> u32 {
        let number = self.chunk_with_room();
        let chunk = &mut self.chunks[number];
        chunk.live += 1;
        self.len += 1;
        let offset = if chunk.first_free == NONE {
            chunk.append(value, number)
        } else {
            let offset = chunk.first_free as usize;
            if let Slot::Free { next } = std::mem::replace(&mut chunk.slots[offset], Slot::Used(value)) {
                chunk.first_free = next;
            }
            offset
        };
        u32::try_from((number << CHUNK_BITS) | offset)
            .ok()
            .filter(|place| *place != NONE)
            .expect("fewer than 2^32 values: with their bookkeeping they would not fit into memory")
    }

    /// Takes the value out. An emptied chunk gives its memory back, unless it is the one to be filled next and others are
    /// in use.
    pub(super) fn remove(&mut self, place: u32) -> Option<T> {
        let (number, offset) = (place as usize >> CHUNK_BITS, place as usize & (CHUNK_LEN - 1));
        let chunk = self.chunks.get_mut(number)?;
        let slot = chunk.slots.get_mut(offset)?;
        if matches!(slot, Slot::Free { .. }) {
            return None;
        }
        let taken = std::mem::replace(slot, Slot::Free { next: chunk.first_free });
        chunk.first_free = offset as u32;
        chunk.live -= 1;
        self.len -= 1;
        if self.len == 0 {
            self.chunks = Vec::new();
            self.roomy.clear();
            self.current = 0;
        } else if number != self.current {
            self.roomy.insert(number);
            if chunk.live == 0 {
                chunk.slots = Vec::new();
                chunk.first_free = NONE;
            }
        }
        match taken {
            Slot::Used(value) => Some(value),
            Slot::Free { .. } => None,
        }
    }

    /// The values from `place` on, in the order of their places.
    pub(super) fn iter_from(&self, place: u32) -> impl Iterator<Item = (u32, &T)> {
        let (first, offset) = (place as usize >> CHUNK_BITS, place as usize & (CHUNK_LEN - 1));
        self.chunks.iter().enumerate().skip(first).flat_map(move |(number, chunk)| {
            let skipped = if number == first { offset } else { 0 };
            chunk.slots.iter().enumerate().skip(skipped).filter_map(move |(offset, slot)| match slot {
                Slot::Used(value) => Some((((number << CHUNK_BITS) | offset) as u32, value)),
                Slot::Free { .. } => None,
            })
        })
    }

    fn chunk_with_room(&mut self) -> usize {
        if self.chunks.get(self.current).is_some_and(Chunk::has_room) {
            return self.current;
        }
        self.current = self.roomy.pop_first().unwrap_or(self.chunks.len());
        if self.current == self.chunks.len() {
            self.chunks.push(Chunk { slots: Vec::new(), first_free: NONE, live: 0 });
        }
        self.current
    }
}

impl<T> Chunk<T> {
    fn has_room(&self) -> bool {
        (self.live as usize) < CHUNK_LEN
    }

    fn append(&mut self, value: T, number: usize) -> usize {
        let offset = self.slots.len();
        if offset == self.slots.capacity() {
            let copied = offset * 2 * size_of::<Slot<T>>();
            let grown = if number == 0 && copied <= COPY_BYTES_MAX { (offset * 2).max(4) } else { CHUNK_LEN };
            self.slots.reserve_exact(grown.min(CHUNK_LEN) - offset);
        }
        self.slots.push(Slot::Used(value));
        offset
    }
}

/// For places that the owner of the arena took from it and has not given back: a free one is a broken invariant.
impl<T> Index<u32> for Arena<T> {
    type Output = T;

    #[inline]
    fn index(&self, place: u32) -> &T {
        self.get(place).expect("a place that was not given back holds a value")
    }
}

impl<T> IndexMut<u32> for Arena<T> {
    #[inline]
    fn index_mut(&mut self, place: u32) -> &mut T {
        self.get_mut(place).expect("a place that was not given back holds a value")
    }
}

#[cfg(test)]
mod tests {
    use super::{Arena, CHUNK_LEN};

    #[test]
    fn places_are_used_again_and_never_shared() {
        let mut arena = Arena::new();
        let places: Vec<u32> = (0..10).map(|value| arena.insert(value)).collect();
        assert_eq!(arena.remove(places[3]), Some(3));
        assert_eq!(arena.remove(places[3]), None);
        assert_eq!(arena.get(places[3]), None);
        assert_eq!(arena.insert(33), places[3]);
        assert_eq!(arena.iter_from(0).map(|(_, value)| *value).collect::<Vec<_>>(), [0, 1, 2, 33, 4, 5, 6, 7, 8, 9]);
        assert_eq!(arena.iter_from(places[8]).count(), 2);
        assert_eq!(arena.get(u32::MAX), None);
    }

    #[test]
    fn an_empty_arena_takes_no_memory() {
        let mut arena = Arena::new();
        let places: Vec<u32> = (0..CHUNK_LEN * 2).map(|value| arena.insert(value)).collect();
        for place in places {
            assert!(arena.remove(place).is_some());
        }
        assert_eq!((arena.chunks.capacity(), arena.roomy.len()), (0, 0));
        assert_eq!(arena.insert(7), 0);
    }

    #[test]
    fn an_emptied_chunk_gives_its_memory_back_and_is_filled_again() {
        let mut arena = Arena::new();
        let places: Vec<u32> = (0..CHUNK_LEN * 3).map(|value| arena.insert(value)).collect();
        for place in &places[CHUNK_LEN..] {
            arena.remove(*place);
        }
        assert_eq!(arena.len(), CHUNK_LEN);
        assert_eq!(arena.chunks[1].slots.capacity(), 0, "emptied");
        assert!(arena.chunks[2].slots.capacity() > 0, "the one that is filled next stays");
        let again: Vec<u32> = (0..CHUNK_LEN * 2).map(|value| arena.insert(value)).collect();
        assert_eq!(arena.chunks.len(), 3);
        assert!(again.iter().enumerate().all(|(value, place)| arena[*place] == value));
        assert!(places[..CHUNK_LEN].iter().enumerate().all(|(value, place)| arena[*place] == value));
    }
}
