//! Files of the journal, and how they are read.
//!
//! A segment is named by the position of its first record, in 16 hexadecimal digits. It ends where the next one begins: what it
//! may hold beyond that is not of the journal. Its 40 bytes of header are magic, format, store id, first position and a checksum.

use super::disk::{Disk, DiskFile, read_full, write_all};
use super::record::{BATCH_BYTES_MAX, HEADER_BYTES, Header};
use crate::faults::{self, Fault};
use parking_lot::{Condvar, Mutex};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use xxhash_rust::xxh3::xxh3_64;

/// Where segments are.
pub(super) const FOLDER: &str = "journal";

/// A segment that is being made.
pub(super) const NEXT: &str = "journal/next";

/// Before the first record of a segment.
pub(super) const SEGMENT_HEADER_BYTES: usize = 40;

const MAGIC: &[u8; 8] = b"waypostJ";
const FORMAT: u64 = 1;

/// Read at once.
const CHUNK_BYTES: usize = 256 << 10;

const ZEROS: &[u8] = &[0; 512];

pub(super) fn name_of(first: u64) -> String {
    format!("{FOLDER}/{first:016x}.log")
}

/// The first position of the segment with this name within the folder.
pub(super) fn first_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".log")?;
    (digits.len() == 16).then(|| u64::from_str_radix(digits, 16).ok())?
}

pub(super) fn segment_header(store: u64, first: u64) -> [u8; SEGMENT_HEADER_BYTES] {
    let mut bytes = [0; SEGMENT_HEADER_BYTES];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..16].copy_from_slice(&FORMAT.to_le_bytes());
    bytes[16..24].copy_from_slice(&store.to_le_bytes());
    bytes[24..32].copy_from_slice(&first.to_le_bytes());
    let check = xxh3_64(&bytes[..32]);
    bytes[32..].copy_from_slice(&check.to_le_bytes());
    bytes
}

/// The store that a segment says it is of. `None`: its header is damaged.
pub(super) fn store_of(file: &dyn DiskFile) -> io::Result<Option<u64>> {
    let mut bytes = [0; SEGMENT_HEADER_BYTES];
    read_full(file, &mut bytes, 0)?;
    let is_right = bytes[..8] == *MAGIC && bytes[32..] == xxh3_64(&bytes[..32]).to_le_bytes();
    Ok(is_right.then(|| u64::from_le_bytes([16, 17, 18, 19, 20, 21, 22, 23].map(|at: usize| bytes[at]))))
}

/// A file of the journal.
pub(super) struct Segment {
    pub(super) first: u64,
    pub(super) file: Box<dyn DiskFile>,
}

impl Segment {
    /// Where in the file a position is.
    pub(super) fn offset(&self, position: u64) -> u64 {
        position.saturating_sub(self.first) + SEGMENT_HEADER_BYTES as u64
    }

    /// The batch of the record at this position, if there is one.
    pub(super) fn batch(&self, store: u64, position: u64) -> io::Result<Option<Vec<u8>>> {
        let mut header = [0; HEADER_BYTES];
        read_full(&*self.file, &mut header, self.offset(position))?;
        let Some(header) = Header::read(store, position, &header) else { return Ok(None) };
        let mut batch = vec![0; header.length];
        read_full(&*self.file, &mut batch, self.offset(position) + HEADER_BYTES as u64)?;
        Ok(header.is_of(&batch).then_some(batch))
    }
}

/// The segments that there are, by first position. Whoever holds one can read it, even when its file is removed.
#[derive(Default)]
pub(super) struct Segments {
    by_first: Mutex<BTreeMap<u64, Arc<Segment>>>,
    /// One more is closed, or it is time to stop.
    more: Condvar,
}

impl Segments {
    pub(super) fn add(&self, segment: Arc<Segment>) {
        self.by_first.lock().insert(segment.first, segment);
        self.more.notify_all();
    }

    /// Returns when so many are closed, or when it is time to stop and `wake` was called.
    pub(super) fn wait_for_closed(&self, count: usize, is_stopping: impl Fn() -> bool) {
        let mut segments = self.by_first.lock();
        while segments.len() <= count && !is_stopping() {
            self.more.wait(&mut segments);
        }
    }

    /// Returns when `wake` was called, or after this time.
    pub(super) fn wait_for(&self, time: Duration) {
        self.more.wait_for(&mut self.by_first.lock(), time);
    }

    pub(super) fn wake(&self) {
        let _segments = self.by_first.lock();
        self.more.notify_all();
    }

    pub(super) fn count(&self) -> usize {
        self.by_first.lock().len()
    }

    /// The segment in which this position lies, if it is in the journal still.
    pub(super) fn at(&self, position: u64) -> Option<Arc<Segment>> {
        self.by_first.lock().range(..=position).next_back().map(|(_, segment)| Arc::clone(segment))
    }

    /// Those that have a successor, each with where it ends.
    pub(super) fn closed(&self) -> Vec<(Arc<Segment>, u64)> {
        self.all().into_iter().filter_map(|(segment, end)| Some((segment, end?))).collect()
    }

    /// All, each with where it ends, if it has a successor.
    pub(super) fn all(&self) -> Vec<(Arc<Segment>, Option<u64>)> {
        let segments = self.by_first.lock();
        let ends = segments.keys().skip(1).copied().map(Some).chain([None]);
        segments.values().map(Arc::clone).zip(ends).collect()
    }

    pub(super) fn forget(&self, first: u64) {
        self.by_first.lock().remove(&first);
    }
}

/// Makes a segment that begins with these bytes of records, all of it synced before it has its name.
pub(super) fn make(disk: &dyn Disk, store: u64, first: u64, size: u64, records: &[&[u8]]) -> io::Result<Arc<Segment>> {
    let file = disk.create(NEXT)?;
    file.reserve(size)?;
    write_all(&*file, &segment_header(store, first), 0)?;
    let mut offset = SEGMENT_HEADER_BYTES as u64;
    for bytes in records {
        write_all(&*file, bytes, offset)?;
        offset += bytes.len() as u64;
    }
    if !faults::is_left_out(Fault::StoreWholeFirst) {
        file.sync()?;
    }
    disk.rename(NEXT, &name_of(first))?;
    if !faults::is_left_out(Fault::StoreSyncFolder) {
        disk.sync_folder(FOLDER)?;
    }
    Ok(Arc::new(Segment { first, file }))
}

/// What a reader came upon.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    Record {
        position: u64,
        end: u64,
    },
    /// Bytes that are no record, before a record that knows them to have been safe, or before the end that was given.
    Damaged {
        position: u64,
        end: u64,
    },
    /// The end of the journal. So many bytes after it were written and not finished.
    End {
        position: u64,
        torn: u64,
    },
}

/// Reads the records of a segment in order.
pub(super) struct Reader<'a> {
    segment: &'a Segment,
    store: u64,
    /// Of the next record.
    position: u64,
    /// Where the segment ends: where the next one begins, or as far as the file goes.
    limit: u64,
    /// No further than that and than the file goes.
    readable: u64,
    /// Whether another segment begins at the limit.
    is_closed: bool,
    buffer: Vec<u8>,
    /// Position of the buffer's first byte.
    buffered_from: u64,
    /// Of the record found last, in the buffer.
    batch: std::ops::Range<usize>,
}

impl<'a> Reader<'a> {
    /// From a position in the segment to where the next segment begins, or to the end of the file where there is none.
    pub(super) fn new(segment: &'a Segment, store: u64, from: u64, next: Option<u64>) -> io::Result<Self> {
        let records = segment.file.size()?.saturating_sub(SEGMENT_HEADER_BYTES as u64);
        let position = from.max(segment.first);
        let end_of_file = segment.first + records;
        let limit = match next {
            Some(next) if !faults::is_left_out(Fault::StoreEnd) => next,
            _ => end_of_file,
        };
        let limit = limit.max(position);
        Ok(Self {
            segment,
            store,
            position,
            limit,
            readable: limit.min(end_of_file),
            is_closed: next.is_some(),
            buffer: Vec::new(),
            buffered_from: position,
            batch: 0..0,
        })
    }

    /// The batch of the record found last.
    pub(super) fn batch(&self) -> &[u8] {
        &self.buffer[self.batch.clone()]
    }

    /// The batch of the record at this position, if there is one. Cheap where the positions that are asked for grow: the file is
    /// read in chunks. Not to be mixed with `next`.
    pub(super) fn batch_at(&mut self, position: u64) -> io::Result<Option<&[u8]>> {
        if position < self.segment.first {
            return Ok(None);
        }
        Ok(self.record_at(position)?.is_some().then(|| self.batch()))
    }

    /// What comes next. `None`: the segment is closed, and this was all.
    pub(super) fn next(&mut self) -> io::Result<Option<Found>> {
        if self.position >= self.limit && self.is_closed {
            return Ok(None);
        }
        if let Some(end) = self.record_at(self.position)? {
            let position = std::mem::replace(&mut self.position, end);
            return Ok(Some(Found::Record { position, end }));
        }
        let position = self.position;
        let (next, written) = self.next_record(position)?;
        match next {
            Some((next, synced)) if self.is_closed || synced > position || faults::is_left_out(Fault::StoreHole) => {
                self.position = next;
                Ok(Some(Found::Damaged { position, end: next }))
            }
            None if self.is_closed => {
                self.position = self.limit;
                Ok(Some(Found::Damaged { position, end: self.limit }))
            }
            _ => {
                self.limit = position;
                self.is_closed = true;
                Ok(Some(Found::End { position, torn: written - position }))
            }
        }
    }

    /// Where the record at this position ends, if there is one; its batch is then in the buffer.
    fn record_at(&mut self, position: u64) -> io::Result<Option<u64>> {
        let Some(header) = self.header_at(position)? else { return Ok(None) };
        let end = position + header.whole() as u64;
        let Some(start) = self.buffered(position, header.whole())? else { return Ok(None) };
        let batch = start + HEADER_BYTES..start + header.whole();
        if !header.is_of(&self.buffer[batch.clone()]) {
            return Ok(None);
        }
        self.batch = batch;
        Ok(Some(end))
    }

    fn header_at(&mut self, position: u64) -> io::Result<Option<Header>> {
        let Some(start) = self.buffered(position, HEADER_BYTES)? else { return Ok(None) };
        let header = Header::read(self.store, position, &self.buffer[start..start + HEADER_BYTES]);
        Ok(header.filter(|header| header.length <= BATCH_BYTES_MAX))
    }

    /// Looks for the next record after bytes that are none: where it is and up to where it says the journal was synced; where
    /// several are found, the furthest that any says. And where the last byte lies that is not zero.
    fn next_record(&mut self, after: u64) -> io::Result<(Option<(u64, u64)>, u64)> {
        let mut found: Option<(u64, u64)> = None;
        let mut written = after;
        let mut position = after + 1;
        while position < self.readable {
            if let Some(header) = self.header_at(position)?
                && let Some(end) = self.record_at(position)?
            {
                let synced = position.saturating_sub(u64::from(header.back));
                found = Some(found.map_or((position, synced), |(first, most)| (first, most.max(synced))));
                if self.is_closed || synced > after {
                    return Ok((found, end));
                }
                written = end;
                position = end;
                continue;
            }
            position = self.skip_zeros(position, &mut written)?;
        }
        Ok((found, written))
    }

    /// The next position at which a record can begin: a header is never all zeros, so zeros are skipped but for what could be the
    /// front of one.
    fn skip_zeros(&mut self, position: u64, written: &mut u64) -> io::Result<u64> {
        let room = usize::try_from(self.readable - position).unwrap_or(usize::MAX).min(CHUNK_BYTES / 2);
        let Some(start) = self.buffered(position, room)? else { return Ok(self.readable) };
        let bytes = &self.buffer[start..start + room];
        let zeros = bytes.chunks_exact(ZEROS.len()).take_while(|chunk| *chunk == ZEROS).count() * ZEROS.len();
        match bytes[zeros..].iter().position(|byte| *byte != 0).map(|at| zeros + at) {
            None => Ok(position + (room.saturating_sub(HEADER_BYTES)).max(1) as u64),
            Some(at) => {
                *written = (*written).max(position + at as u64 + 1);
                Ok(position + (at.saturating_sub(HEADER_BYTES)).max(1) as u64)
            }
        }
    }

    /// Where in the buffer so many bytes of a position are. `None`: the file, or the segment, does not go so far.
    fn buffered(&mut self, position: u64, length: usize) -> io::Result<Option<usize>> {
        if position + length as u64 > self.readable {
            return Ok(None);
        }
        let end = self.buffered_from + self.buffer.len() as u64;
        if position < self.buffered_from || position + length as u64 > end {
            let want = usize::try_from(self.readable - position).unwrap_or(usize::MAX).min(length.max(CHUNK_BYTES));
            self.buffer.resize(want, 0);
            let read = read_full(&*self.segment.file, &mut self.buffer, self.segment.offset(position))?;
            self.buffer.truncate(read);
            self.buffered_from = position;
            if read < length {
                return Ok(None);
            }
        }
        Ok(Some((position - self.buffered_from) as usize))
    }
}
