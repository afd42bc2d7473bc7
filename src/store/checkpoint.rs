//! Moves what outlives its segment from the journal to rest.
//!
//! A piece of the journal is read twice: once to find out what is left when it ends, which for most Messages is nothing, and once
//! for the blobs of what is left. What has changed at rest, with the position that it includes, is one atomic change: a checkpoint that a crash
//! interrupts has not happened, and is done again. Only of a long queue that is cleared the most part goes before that, piece by
//! piece, since whatever comes the piece says that it goes.

use super::Error;
use super::batch::{BlobRef, Operation};
use super::rest::{
    Change, EntryId, Rest, Space, entry_value, number_value, read_entry, read_number, read_row, row_key, row_value,
};
use crate::faults::{self, Fault};
use foldhash::{HashMap, HashSet};
use std::collections::hash_map::{Entry as MapEntry, OccupiedEntry};
use std::ops::Range;

/// Under which the position is kept up to which rest includes the journal.
pub(super) const POSITION: &[u8] = b"position";

/// Entries of a queue that is cleared which go at a time.
const CLEARED_AT_ONCE: usize = 10_000;

/// What a piece of the journal changes.
pub(super) struct Overlay<'a> {
    rest: &'a dyn Rest,
    /// Where the piece begins: nothing at rest knows of a blob from here on.
    from: u64,
    /// `None`: it goes.
    rows: HashMap<(u8, Vec<u8>), Option<Row>>,
    queues: HashMap<u64, Queue>,
    /// In all queues.
    entries: usize,
    /// Those of the entries, one after the other: what comes and goes is not worth an allocation.
    metas: Vec<u8>,
}

struct Row {
    value: Vec<u8>,
    blob: u64,
}

#[derive(Debug, Default)]
struct Queue {
    /// Nothing that is at rest is left of it, unless it is among the entries.
    is_cleared: bool,
    /// By blob and tag.
    entries: HashMap<(u64, u64), Entry>,
}

#[derive(Clone, Debug, Default)]
struct Entry {
    /// Whether it is at rest.
    was: bool,
    /// How often it entered and did not leave.
    count: u32,
    /// Where it is in the overlay's.
    meta: Range<usize>,
}

impl<'a> Overlay<'a> {
    pub(super) fn new(rest: &'a dyn Rest, from: u64) -> Self {
        Self { rest, from, rows: HashMap::default(), queues: HashMap::default(), entries: 0, metas: Vec::new() }
    }

    /// Rows and entries of which something may have to be written.
    pub(super) fn left(&self) -> usize {
        self.rows.len() + self.entries
    }

    /// Takes in the operations of the record at this position.
    pub(super) fn add(&mut self, position: u64, operations: Vec<Operation<'_>>) -> Result<(), Error> {
        let id_of = |blob| match blob {
            BlobRef::None => 0,
            BlobRef::This => position,
            BlobRef::Of(id) => id,
        };
        for operation in operations {
            match operation {
                Operation::Blob(_) => {}
                Operation::Put { table, key, value, blob } => {
                    self.rows.insert((table, key.to_vec()), Some(Row { value: value.to_vec(), blob: id_of(blob) }));
                }
                Operation::Delete { table, key } => {
                    self.rows.insert((table, key.to_vec()), None);
                }
                Operation::DeleteOf { table, key, blob } => {
                    let key = (table, key.to_vec());
                    if self.blob_of(&key, blob)? == Some(blob) {
                        self.rows.insert(key, None);
                    }
                }
                Operation::Enter { queue, blob, tag, meta } => {
                    let meta = self.keep_meta(meta);
                    let mut entry = self.entry(EntryId { queue, blob: id_of(blob), tag })?;
                    let entry = entry.get_mut();
                    entry.count = entry.count.saturating_add(1);
                    entry.meta = meta;
                }
                Operation::Mark { queue, blob, tag, meta } => {
                    let meta = self.keep_meta(meta);
                    let mut entry = self.entry(EntryId { queue, blob, tag })?;
                    if entry.get().count > 0 {
                        entry.get_mut().meta = meta;
                    }
                }
                Operation::Leave { queue, blob, tag } => {
                    let mut place = self.entry(EntryId { queue, blob, tag })?;
                    let entry = place.get_mut();
                    let left = if faults::is_left_out(Fault::StoreCount) { entry.count } else { 1 };
                    entry.count = entry.count.saturating_sub(left);
                    if entry.count == 0 && !entry.was {
                        place.remove();
                        self.entries -= 1;
                    }
                }
                Operation::ClearQueue(queue) => {
                    let queue = self.queues.entry(queue).or_default();
                    queue.is_cleared = true;
                    self.entries -= queue.entries.len();
                    queue.entries.retain(|_, entry| {
                        entry.count = 0;
                        entry.was
                    });
                    self.entries += queue.entries.len();
                }
            }
        }
        Ok(())
    }

    /// The blob of a row as it is by now. One that is at rest is asked for only where it may be the one that is meant.
    fn blob_of(&self, key: &(u8, Vec<u8>), meant: u64) -> Result<Option<u64>, Error> {
        match self.rows.get(key) {
            Some(known) => Ok(known.as_ref().map(|row| row.blob)),
            None if meant >= self.from => Ok(None),
            None => {
                let stored = self.rest.get(Space::Rows, &row_key(key.0, &key.1))?;
                Ok(stored.as_deref().and_then(read_row).map(|(blob, ..)| blob))
            }
        }
    }

    fn keep_meta(&mut self, meta: &[u8]) -> Range<usize> {
        let start = self.metas.len();
        self.metas.extend_from_slice(meta);
        start..self.metas.len()
    }

    /// An entry as it is by now.
    fn entry(&mut self, id: EntryId) -> Result<OccupiedEntry<'_, (u64, u64), Entry>, Error> {
        let queue = self.queues.entry(id.queue).or_default();
        let place = match queue.entries.entry((id.blob, id.tag)) {
            MapEntry::Occupied(known) => return Ok(known),
            MapEntry::Vacant(place) => place,
        };
        let mut entry = Entry::default();
        if id.blob < self.from
            && let Some(stored) = self.rest.get(Space::Entries, &id.key())?
            && let Some((count, meta)) = read_entry(&stored)
        {
            entry.was = true;
            if !queue.is_cleared {
                entry.count = count;
                let start = self.metas.len();
                self.metas.extend_from_slice(meta);
                entry.meta = start..self.metas.len();
            }
        }
        self.entries += 1;
        Ok(place.insert_entry(entry))
    }

    /// Takes long queues that are cleared away from rest, all but the end, which goes with the other changes. `before` is called
    /// before anything is changed: the piece must be safe then, since it says that they go.
    pub(super) fn clear_long(&self, before: &mut dyn FnMut() -> Result<(), Error>) -> Result<(), Error> {
        let cleared = || self.queues.iter().filter(|(_, queue)| queue.is_cleared);
        if cleared().next().is_none() {
            return Ok(());
        }
        let entered = self.queues.values().flat_map(|queue| &queue.entries);
        let entered = entered.filter(|(_, entry)| entry.count > 0).map(|((blob, _), _)| *blob);
        let put = self.rows.values().flatten().map(|row| row.blob);
        let is_kept: HashSet<u64> = entered.chain(put).filter(|blob| *blob < self.from).collect();
        for (number, queue) in cleared() {
            let mut from = Vec::new();
            loop {
                let mut ids: Vec<EntryId> = Vec::new();
                self.rest.scan(Space::Entries, &number.to_be_bytes(), &from, &mut |key, _| {
                    let id = EntryId::read(key);
                    ids.extend(id.filter(|id| !queue.entries.contains_key(&(id.blob, id.tag))));
                    ids.len() <= CLEARED_AT_ONCE
                })?;
                if ids.len() <= CLEARED_AT_ONCE {
                    break;
                }
                from = ids.last().map_or(Vec::new(), |id| id.key());
                ids.pop();
                before()?;
                self.rest.apply(self.cleared(&ids, &is_kept)?)?;
            }
        }
        Ok(())
    }

    /// What is to be changed when these entries at rest go. Blobs that the piece keeps stay, even if nothing at rest refers to them.
    fn cleared(&self, ids: &[EntryId], is_kept: &HashSet<u64>) -> Result<Vec<Change>, Error> {
        let mut changes: Vec<Change> = ids.iter().map(|id| (Space::Entries, id.key(), None)).collect();
        for of_blob in ids.chunk_by(|one, other| one.blob == other.blob).filter(|of_blob| of_blob[0].blob != 0) {
            let blob = of_blob[0].blob;
            let key = blob.to_be_bytes().to_vec();
            let Some(count) = self.rest.get(Space::References, &key)?.as_deref().and_then(read_number) else {
                continue;
            };
            let left = count.saturating_sub(of_blob.len() as u64);
            if left > 0 || is_kept.contains(&blob) {
                changes.push((Space::References, key, Some(number_value(left))));
            } else {
                changes.push((Space::Blobs, key.clone(), None));
                changes.push((Space::References, key, None));
            }
        }
        Ok(changes)
    }

    /// What is to be changed at rest when the journal up to `to` is included. `blob` reads one that lies in the piece.
    pub(super) fn changes(
        mut self,
        to: u64,
        blob: &mut dyn FnMut(u64) -> Result<Option<Vec<u8>>, Error>,
    ) -> Result<Vec<Change>, Error> {
        let mut changes: Vec<Change> = Vec::new();
        let mut references: HashMap<u64, i64> = HashMap::default();
        self.find_cleared()?;
        // In the order of their keys, in which tables take them fastest.
        let mut queues: Vec<(u64, Queue)> = std::mem::take(&mut self.queues).into_iter().collect();
        queues.sort_unstable_by_key(|(number, _)| *number);
        for (number, queue) in queues {
            let mut entries: Vec<((u64, u64), Entry)> = queue.entries.into_iter().collect();
            entries.sort_unstable_by_key(|(id, _)| *id);
            for ((blob, tag), entry) in entries {
                let id = EntryId { queue: number, blob, tag };
                let is = entry.count > 0;
                *references.entry(blob).or_default() += i64::from(is) - i64::from(entry.was);
                match (entry.was, is) {
                    (false, false) => {}
                    (true, false) => changes.push((Space::Entries, id.key(), None)),
                    (_, true) => {
                        let value = entry_value(entry.count, &self.metas[entry.meta]);
                        changes.push((Space::Entries, id.key(), Some(value)));
                    }
                }
            }
        }
        for ((table, key), row) in std::mem::take(&mut self.rows) {
            let stored = row_key(table, &key);
            let before = self.rest.get(Space::Rows, &stored)?;
            if let Some((blob, ..)) = before.as_deref().and_then(read_row) {
                *references.entry(blob).or_default() -= 1;
            }
            match row {
                Some(Row { value, blob }) => {
                    *references.entry(blob).or_default() += 1;
                    changes.push((Space::Rows, stored, Some(row_value(&key, &value, blob))));
                }
                None if before.is_some() => changes.push((Space::Rows, stored, None)),
                None => {}
            }
        }
        references.remove(&0);
        self.blobs(references, &mut changes, blob)?;
        let to = if faults::is_left_out(Fault::StoreRestPosition) { to + 1 } else { to };
        changes.push((Space::About, POSITION.to_vec(), Some(number_value(to))));
        Ok(changes)
    }

    /// Entries at rest of queues that were cleared.
    fn find_cleared(&mut self) -> Result<(), Error> {
        for (number, queue) in self.queues.iter_mut().filter(|(_, queue)| queue.is_cleared) {
            self.rest.scan(Space::Entries, &number.to_be_bytes(), &[], &mut |key, _| {
                if let Some(id) = EntryId::read(key) {
                    queue.entries.entry((id.blob, id.tag)).or_insert(Entry { was: true, ..Entry::default() });
                }
                true
            })?;
        }
        Ok(())
    }

    /// Which blobs stay, come and go, when so many more rows and entries than before refer to them.
    fn blobs(
        &self,
        references: HashMap<u64, i64>,
        changes: &mut Vec<Change>,
        blob: &mut dyn FnMut(u64) -> Result<Option<Vec<u8>>, Error>,
    ) -> Result<(), Error> {
        let mut ids: Vec<(u64, i64)> = references.into_iter().filter(|(_, more)| *more != 0).collect();
        ids.sort_unstable();
        for (id, more) in ids {
            let key = id.to_be_bytes().to_vec();
            let is_new = id >= self.from;
            let before = if is_new { None } else { self.rest.get(Space::References, &key)? };
            let before = before.as_deref().and_then(read_number);
            let count = before.unwrap_or(0).saturating_add_signed(more);
            if count == 0 && !faults::is_left_out(Fault::StoreReferences) {
                if before.is_some() {
                    changes.push((Space::Blobs, key.clone(), None));
                    changes.push((Space::References, key, None));
                }
            } else if is_new {
                // One that is damaged is missed by whoever asks for it.
                if let Some(bytes) = blob(id)? {
                    changes.push((Space::Blobs, key.clone(), Some(bytes)));
                    changes.push((Space::References, key, Some(number_value(count))));
                }
            } else if before.is_some() {
                changes.push((Space::References, key, Some(number_value(count))));
            }
        }
        Ok(())
    }
}
