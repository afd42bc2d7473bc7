//! Clients by number: slots that are reused, with a generation that tells an old reference from a new tenant.
//!
//! Grows a chunk at a time, so that no insertion ever copies what is already there.

/// Slots per chunk.
const CHUNK: usize = 128;

pub(super) struct Slab<T> {
    chunks: Vec<Vec<Entry<T>>>,
    free: Vec<u32>,
    len: usize,
}

struct Entry<T> {
    generation: u32,
    value: Option<T>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { chunks: Vec::new(), free: Vec::new(), len: 0 }
    }
}

impl<T> Slab<T> {
    /// Slot and generation of the new value.
    pub(super) fn insert(&mut self, value: T) -> (u32, u32) {
        self.len += 1;
        if let Some(slot) = self.free.pop() {
            let entry = self.entry_mut(slot).expect("a free slot has been used before");
            entry.value = Some(value);
            return (slot, entry.generation);
        }
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        let slot = (self.chunks.len() - 1) * CHUNK;
        let chunk = self.chunks.last_mut().expect("one was just added");
        chunk.push(Entry { generation: 0, value: Some(value) });
        ((slot + chunk.len() - 1) as u32, 0)
    }

    pub(super) fn get(&self, slot: u32) -> Option<&T> {
        self.chunks.get(slot as usize / CHUNK)?.get(slot as usize % CHUNK)?.value.as_ref()
    }

    pub(super) fn get_mut(&mut self, slot: u32) -> Option<&mut T> {
        self.entry_mut(slot)?.value.as_mut()
    }

    /// Whether the slot still has the tenant of that generation.
    pub(super) fn is_current(&self, slot: u32, generation: u32) -> bool {
        self.chunks
            .get(slot as usize / CHUNK)
            .and_then(|chunk| chunk.get(slot as usize % CHUNK))
            .is_some_and(|entry| entry.generation == generation && entry.value.is_some())
    }

    /// The generation of the present tenant, or of the next one where there is none.
    pub(super) fn generation(&self, slot: u32) -> u32 {
        self.chunks
            .get(slot as usize / CHUNK)
            .and_then(|chunk| chunk.get(slot as usize % CHUNK))
            .map_or(0, |entry| entry.generation)
    }

    pub(super) fn remove(&mut self, slot: u32) -> Option<T> {
        let entry = self.entry_mut(slot)?;
        let value = entry.value.take()?;
        entry.generation = entry.generation.wrapping_add(1);
        self.free.push(slot);
        self.len -= 1;
        Some(value)
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Slots that may be in use are below this.
    pub(super) fn end(&self) -> u32 {
        self.chunks.last().map_or(0, |last| ((self.chunks.len() - 1) * CHUNK + last.len()) as u32)
    }

    fn entry_mut(&mut self, slot: u32) -> Option<&mut Entry<T>> {
        self.chunks.get_mut(slot as usize / CHUNK)?.get_mut(slot as usize % CHUNK)
    }
}
