//! One atomic change, as it is written and as it is read again.
//!
//! A batch is a row of operations, each a byte that says which and its fields. Numbers and lengths are LEB128.

use std::fmt;

/// Numbers of operations. They are for ever.
const BLOB: u8 = 1;
const PUT: u8 = 2;
const DELETE: u8 = 3;
const ENTER: u8 = 4;
const MARK: u8 = 5;
const LEAVE: u8 = 6;
const CLEAR_QUEUE: u8 = 7;
const DELETE_OF: u8 = 8;

/// The blob that a row or an entry keeps alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlobRef {
    None,
    /// That of the same batch.
    This,
    /// That of an earlier batch. It must still be kept alive by a row or an entry when this batch is appended.
    Of(u64),
}

/// One atomic change: all of it survives or nothing. Reused by its owner: `clear` keeps the buffer.
#[derive(Clone, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    has_blob: bool,
}

impl Batch {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn clear(&mut self) {
        self.bytes.clear();
        self.has_blob = false;
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Bytes that it takes.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// At most one in a batch; its id is the position that `append` returns. `parts` are concatenated. It lives as long as a row
    /// or an entry refers to it.
    pub fn blob(&mut self, parts: &[&[u8]]) {
        assert!(!self.has_blob, "a batch has one blob, whose id is the batch's position");
        self.has_blob = true;
        self.bytes.push(BLOB);
        self.number(parts.iter().map(|part| part.len() as u64).sum());
        for part in parts {
            self.bytes.extend_from_slice(part);
        }
    }

    /// The last one wins. The row keeps `blob` alive until it is replaced or deleted.
    pub fn put(&mut self, table: u8, key: &[u8], value: &[u8], blob: BlobRef) {
        self.bytes.extend([PUT, table]);
        self.text(key);
        self.text(value);
        self.reference(blob);
    }

    pub fn delete(&mut self, table: u8, key: &[u8]) {
        self.bytes.extend([DELETE, table]);
        self.text(key);
    }

    /// Deletes the row if it is one that keeps this blob: whoever has put another there meanwhile is not concerned.
    pub fn delete_of(&mut self, table: u8, key: &[u8], blob: u64) {
        self.bytes.extend([DELETE_OF, table]);
        self.text(key);
        self.number(blob);
    }

    /// An entry of a queue. An equal one (queue, blob, tag) that exists already is counted: it then takes as many `leave`s, and
    /// has the meta that was given last.
    pub fn enter(&mut self, queue: u64, blob: BlobRef, tag: u64, meta: &[u8]) {
        self.bytes.push(ENTER);
        self.number(queue);
        self.reference(blob);
        self.number(tag);
        self.text(meta);
    }

    /// Replaces the meta of an entry; nothing where there is none.
    pub fn mark(&mut self, queue: u64, blob: u64, tag: u64, meta: &[u8]) {
        self.bytes.push(MARK);
        self.number(queue);
        self.number(blob);
        self.number(tag);
        self.text(meta);
    }

    /// Undoes one `enter`; nothing where there is none.
    pub fn leave(&mut self, queue: u64, blob: u64, tag: u64) {
        self.bytes.push(LEAVE);
        self.number(queue);
        self.number(blob);
        self.number(tag);
    }

    /// All entries of the queue go.
    pub fn clear_queue(&mut self, queue: u64) {
        self.bytes.push(CLEAR_QUEUE);
        self.number(queue);
    }

    /// What it does, in order.
    pub fn operations(&self) -> impl Iterator<Item = Operation<'_>> {
        Operations::new(&self.bytes)
    }

    /// As they are written.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.bytes.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.bytes.push(number as u8);
    }

    fn text(&mut self, text: &[u8]) {
        self.number(text.len() as u64);
        self.bytes.extend_from_slice(text);
    }

    fn reference(&mut self, blob: BlobRef) {
        match blob {
            BlobRef::None => self.bytes.push(0),
            BlobRef::This => self.bytes.push(1),
            BlobRef::Of(id) => {
                self.bytes.push(2);
                self.number(id);
            }
        }
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_list().entries(Operations::new(&self.bytes)).finish()
    }
}

/// One operation of a batch, as it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation<'a> {
    Blob(&'a [u8]),
    Put { table: u8, key: &'a [u8], value: &'a [u8], blob: BlobRef },
    Delete { table: u8, key: &'a [u8] },
    DeleteOf { table: u8, key: &'a [u8], blob: u64 },
    Enter { queue: u64, blob: BlobRef, tag: u64, meta: &'a [u8] },
    Mark { queue: u64, blob: u64, tag: u64, meta: &'a [u8] },
    Leave { queue: u64, blob: u64, tag: u64 },
    ClearQueue(u64),
}

/// Reads a batch. Ends early where the bytes are none: a record whose checksum is right is never cut, so that only a record of a
/// version that knows more operations is.
pub(super) struct Operations<'a> {
    rest: &'a [u8],
}

impl<'a> Operations<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// All of them. `None`: some of the bytes are none.
    pub(super) fn whole(mut self) -> Option<Vec<Operation<'a>>> {
        let operations = self.by_ref().collect();
        self.rest.is_empty().then_some(operations)
    }

    fn read(rest: &mut &'a [u8]) -> Option<Operation<'a>> {
        Some(match byte(rest)? {
            BLOB => Operation::Blob(text(rest)?),
            PUT => Operation::Put { table: byte(rest)?, key: text(rest)?, value: text(rest)?, blob: reference(rest)? },
            DELETE => Operation::Delete { table: byte(rest)?, key: text(rest)? },
            DELETE_OF => Operation::DeleteOf { table: byte(rest)?, key: text(rest)?, blob: number(rest)? },
            ENTER => {
                Operation::Enter { queue: number(rest)?, blob: reference(rest)?, tag: number(rest)?, meta: text(rest)? }
            }
            MARK => {
                Operation::Mark { queue: number(rest)?, blob: number(rest)?, tag: number(rest)?, meta: text(rest)? }
            }
            LEAVE => Operation::Leave { queue: number(rest)?, blob: number(rest)?, tag: number(rest)? },
            CLEAR_QUEUE => Operation::ClearQueue(number(rest)?),
            _ => return None,
        })
    }
}

impl<'a> Iterator for Operations<'a> {
    type Item = Operation<'a>;

    fn next(&mut self) -> Option<Operation<'a>> {
        let mut rest = self.rest;
        let operation = Self::read(&mut rest)?;
        self.rest = rest;
        Some(operation)
    }
}

fn byte(rest: &mut &[u8]) -> Option<u8> {
    let (first, after) = rest.split_first()?;
    *rest = after;
    Some(*first)
}

#[inline]
pub(super) fn number(rest: &mut &[u8]) -> Option<u64> {
    let (first, after) = rest.split_first()?;
    if *first < 0x80 {
        *rest = after;
        return Some(u64::from(*first));
    }
    long_number(rest)
}

fn long_number(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let next = byte(rest)?;
        number |= u64::from(next & 0x7f) << shift;
        if next < 0x80 {
            return Some(number);
        }
    }
    None
}

fn text<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(number(rest)?).ok()?;
    let (text, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(text)
}

fn reference(rest: &mut &[u8]) -> Option<BlobRef> {
    Some(match byte(rest)? {
        0 => BlobRef::None,
        1 => BlobRef::This,
        2 => BlobRef::Of(number(rest)?),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_reads_as_it_was_written() {
        let mut batch = Batch::new();
        batch.blob(&[b"to", b"", b"pic"]);
        batch.put(3, b"key", b"value", BlobRef::This);
        batch.delete(255, b"");
        batch.delete_of(9, b"key", 300);
        batch.enter(u64::MAX, BlobRef::Of(1 << 63), 127, b"meta");
        batch.mark(128, 0, 300, &[7; 200]);
        batch.leave(1, 2, 3);
        batch.clear_queue(9);
        let read: Vec<Operation<'_>> = Operations::new(batch.bytes()).collect();
        assert_eq!(
            read,
            [
                Operation::Blob(b"topic"),
                Operation::Put { table: 3, key: b"key", value: b"value", blob: BlobRef::This },
                Operation::Delete { table: 255, key: b"" },
                Operation::DeleteOf { table: 9, key: b"key", blob: 300 },
                Operation::Enter { queue: u64::MAX, blob: BlobRef::Of(1 << 63), tag: 127, meta: b"meta" },
                Operation::Mark { queue: 128, blob: 0, tag: 300, meta: &[7; 200] },
                Operation::Leave { queue: 1, blob: 2, tag: 3 },
                Operation::ClearQueue(9),
            ]
        );
        assert_eq!(Operations::new(batch.bytes()).whole(), Some(read));
    }

    #[test]
    fn any_bytes_are_read_without_harm_and_known_to_be_cut() {
        let mut batch = Batch::new();
        batch.put(3, b"key", b"value", BlobRef::Of(99));
        for cut in 1..batch.bytes().len() {
            assert_eq!(Operations::new(&batch.bytes()[..cut]).whole(), None, "{cut}");
        }
        let mut seed = 1u64;
        for _ in 0..2_000 {
            let noise: Vec<u8> = (0..40)
                .map(|_| {
                    seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    ((seed >> 60) as u8).wrapping_mul(if seed & 1 == 0 { 1 } else { 31 })
                })
                .collect();
            let _ = Operations::new(&noise).count();
        }
    }
}
