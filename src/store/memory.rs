//! `durability = "memory"`.

use super::{Appended, Batch, Journal, Position, Safety, Statistics, record};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A journal in which everything is safe at once, and of which nothing is left when the process ends.
#[derive(Debug)]
pub struct Memory {
    tail: AtomicU64,
}

impl Default for Memory {
    fn default() -> Self {
        // No blob has the id 0.
        Self { tail: AtomicU64::new(1) }
    }
}

impl Memory {
    pub fn new() -> Self {
        Self::default()
    }
}

impl Journal for Memory {
    fn append(&self, batch: &Batch, _: Safety) -> Appended {
        let bytes = (record::HEADER_BYTES + batch.bytes().len()) as u64;
        let id = self.tail.fetch_add(bytes, Ordering::Relaxed);
        Appended { id, end: Position(id + bytes) }
    }

    fn sync_soon(&self) {}

    fn commit_soon(&self) {}

    fn reached(&self, _: Safety) -> Position {
        self.tail()
    }

    fn tail(&self) -> Position {
        Position(self.tail.load(Ordering::Relaxed))
    }

    fn statistics(&self) -> Statistics {
        Statistics::default()
    }

    fn trouble(&self) -> Option<Arc<str>> {
        None
    }
}
