//! What has outlived its journal segment, at rest in a store of keys and values.
//!
//! Five spaces: rows (table, key), entries (queue, blob, tag), blobs by id, how many rows and entries refer to each blob, and what
//! is to be known about the whole. Numbers in keys are big endian, so that the order of keys is theirs.

use super::batch::number;
use super::{Damage, Error};
use xxhash_rust::xxh3::xxh3_128;

/// A folder of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Space {
    Rows,
    Entries,
    Blobs,
    /// How many rows and entries keep a blob. A blob that nobody keeps is not there.
    References,
    About,
}

impl Space {
    pub const ALL: [Self; 5] = [Self::Rows, Self::Entries, Self::Blobs, Self::References, Self::About];
}

/// One key with its value, or without one if it is to go.
pub type Change = (Space, Vec<u8>, Option<Vec<u8>>);

/// Is told keys and values; `false` ends it.
pub type Each<'a> = dyn FnMut(&[u8], &[u8]) -> bool + 'a;

/// A store of keys and values. Keys are shorter than 64 KiB.
pub trait Rest: Send + Sync {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, Error>;
    /// All keys that begin so, in order; those before `from` are passed over.
    fn scan(&self, space: Space, prefix: &[u8], from: &[u8], each: &mut Each<'_>) -> Result<(), Error>;
    /// All of it or nothing; it is on the disk when this returns. After an error it may be there or not.
    fn apply(&self, changes: Vec<Change>) -> Result<(), Error>;
    /// What was found to be damaged since this was asked last. What is damaged reads as if it were not there.
    fn take_damage(&self) -> Vec<Damage> {
        Vec::new()
    }
}

/// Longer keys of rows are cut, with a hash of the rest; the rest stands in the value.
const ROW_KEY_BYTES_MAX: usize = 60_000;

pub(super) fn row_key(table: u8, key: &[u8]) -> Vec<u8> {
    let mut stored = Vec::with_capacity(1 + key.len().min(ROW_KEY_BYTES_MAX + 16));
    stored.push(table);
    match key.split_at_checked(ROW_KEY_BYTES_MAX) {
        None => stored.extend_from_slice(key),
        Some((front, rest)) => {
            stored.extend_from_slice(front);
            stored.extend_from_slice(&xxh3_128(rest).to_be_bytes());
        }
    }
    stored
}

pub(super) fn row_value(key: &[u8], value: &[u8], blob: u64) -> Vec<u8> {
    let rest = key.get(ROW_KEY_BYTES_MAX..).unwrap_or_default();
    let mut stored = Vec::with_capacity(10 + rest.len() + value.len());
    put_number(&mut stored, blob);
    put_number(&mut stored, rest.len() as u64);
    stored.extend_from_slice(rest);
    stored.extend_from_slice(value);
    stored
}

/// Blob and value of a row, and the rest of its key.
pub(super) fn read_row(mut stored: &[u8]) -> Option<(u64, &[u8], &[u8])> {
    let blob = number(&mut stored)?;
    let rest = usize::try_from(number(&mut stored)?).ok()?;
    let (rest, value) = stored.split_at_checked(rest)?;
    Some((blob, value, rest))
}

/// The key of a row, as its owner gave it.
pub(super) fn whole_key(stored: &[u8], rest: &[u8]) -> Vec<u8> {
    let front = stored.get(1..).unwrap_or_default();
    let mut key = front[..front.len().min(ROW_KEY_BYTES_MAX)].to_vec();
    key.extend_from_slice(rest);
    key
}

/// A queue's entry: queue, blob, tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct EntryId {
    pub(super) queue: u64,
    pub(super) blob: u64,
    pub(super) tag: u64,
}

impl EntryId {
    pub(super) fn key(self) -> Vec<u8> {
        [self.queue.to_be_bytes(), self.blob.to_be_bytes(), self.tag.to_be_bytes()].concat()
    }

    pub(super) fn read(key: &[u8]) -> Option<Self> {
        let field = |at: usize| key.get(at..at + 8)?.try_into().ok().map(u64::from_be_bytes);
        Some(Self { queue: field(0)?, blob: field(8)?, tag: field(16)? })
    }
}

pub(super) fn entry_value(count: u32, meta: &[u8]) -> Vec<u8> {
    let mut stored = Vec::with_capacity(5 + meta.len());
    put_number(&mut stored, u64::from(count));
    stored.extend_from_slice(meta);
    stored
}

/// How often it entered, and its meta.
pub(super) fn read_entry(mut stored: &[u8]) -> Option<(u32, &[u8])> {
    let count = number(&mut stored)?.try_into().ok()?;
    Some((count, stored))
}

pub(super) fn number_value(number: u64) -> Vec<u8> {
    let mut stored = Vec::new();
    put_number(&mut stored, number);
    stored
}

pub(super) fn read_number(mut stored: &[u8]) -> Option<u64> {
    number(&mut stored)
}

fn put_number(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}
