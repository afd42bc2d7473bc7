//! How a batch lies in a journal segment: sixteen bytes of header, then the batch.
//!
//! ```text
//! length u32 | back u32 | head u32 | body u32 | batch          little endian
//! ```
//!
//! `body` is the checksum of the batch, and `head` that of everything else, with the record's position and the store's id: a
//! record from another place or another store never passes. `back` says how far before the record the journal was known to be
//! synced when it was appended. So recovery can tell a hole that a crash left (nothing after it knows it to be synced, and it ends
//! the journal) from damage (something does).

use crate::faults::{self, Fault};
use xxhash_rust::xxh3::xxh3_64;

/// Before each batch.
pub(super) const HEADER_BYTES: usize = 16;

/// The longest batch that is believed when read: more than any caller can append.
pub(super) const BATCH_BYTES_MAX: usize = 1 << 30;

/// The header of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Bytes of the batch.
    pub(super) length: usize,
    /// The journal was synced up to so many bytes before the record.
    pub(super) back: u32,
    body: u32,
}

impl Header {
    /// For a batch with this checksum that will lie at `position` of a journal that is synced up to `synced`.
    pub(super) fn write(store: u64, position: u64, length: usize, body: u32, synced: u64) -> [u8; HEADER_BYTES] {
        let length = u32::try_from(length).expect("batches are shorter than BATCH_BYTES_MAX");
        let back = u32::try_from(position.saturating_sub(synced)).unwrap_or(u32::MAX);
        let mut bytes = [0; HEADER_BYTES];
        bytes[..4].copy_from_slice(&length.to_le_bytes());
        bytes[4..8].copy_from_slice(&back.to_le_bytes());
        bytes[8..12].copy_from_slice(&head(store, position, length, back, body).to_le_bytes());
        bytes[12..].copy_from_slice(&body.to_le_bytes());
        bytes
    }

    /// Whether these bytes are the header of a record at this position of this store. `None`: they are not.
    pub(super) fn read(store: u64, position: u64, bytes: &[u8]) -> Option<Self> {
        let field = |at: usize| bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes);
        let (length, back, check, body) = (field(0)?, field(4)?, field(8)?, field(12)?);
        let is_right = length as usize <= BATCH_BYTES_MAX && head(store, position, length, back, body) == check;
        is_right.then_some(Self { length: length as usize, back, body })
    }

    /// Whether this is the batch that was written.
    pub(super) fn is_of(&self, batch: &[u8]) -> bool {
        batch.len() == self.length && (checksum(batch) == self.body || faults::is_left_out(Fault::StoreChecksum))
    }

    /// Header and batch.
    pub(super) fn whole(&self) -> usize {
        HEADER_BYTES + self.length
    }
}

/// Of a batch.
pub(super) fn checksum(batch: &[u8]) -> u32 {
    xxh3_64(batch) as u32
}

fn head(store: u64, position: u64, length: u32, back: u32, body: u32) -> u32 {
    let mut bytes = [0; 28];
    bytes[..8].copy_from_slice(&store.to_le_bytes());
    if !faults::is_left_out(Fault::StorePosition) {
        bytes[8..16].copy_from_slice(&position.to_le_bytes());
    }
    bytes[16..20].copy_from_slice(&length.to_le_bytes());
    bytes[20..24].copy_from_slice(&back.to_le_bytes());
    bytes[24..].copy_from_slice(&body.to_le_bytes());
    xxh3_64(&bytes) as u32
}

/// How many bytes at the front of these framed records, which were made by this process, are whole records of no more than `room`.
pub(super) fn whole_records_within(records: &[u8], room: usize) -> usize {
    let mut end = 0;
    while let Some(next) = first_record(&records[end..]) {
        if end + next > room {
            break;
        }
        end += next;
    }
    end
}

/// Bytes of the first of these framed records, which were made by this process.
pub(super) fn first_record(records: &[u8]) -> Option<usize> {
    let length: [u8; 4] = records.get(..4)?.try_into().ok()?;
    Some(HEADER_BYTES + u32::from_le_bytes(length) as usize)
}
