//! A journal that a test holds in its hand: what is safe, and what it was told to delete.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use waypost::store::{Appended, Batch, Journal, Operation, Position, Safety, Statistics};

/// A row that is deleted: its table, and its key without the number of the Session.
pub type Deleted = (u8, String);

/// Takes everything in, counted in batches, and keeps the first so many of those safe that it was told to commit: all, unless the
/// test says otherwise.
pub struct TestJournal {
    appended: AtomicU64,
    due: AtomicU64,
    safe: AtomicU64,
    has_moved: AtomicBool,
    deleted: Mutex<Vec<Deleted>>,
}

impl TestJournal {
    /// Everything is safe at once.
    pub fn new() -> Arc<Self> {
        Self::safe_up_to(u64::MAX)
    }

    pub fn safe_up_to(batches: u64) -> Arc<Self> {
        Arc::new(Self {
            appended: AtomicU64::new(0),
            due: AtomicU64::new(0),
            safe: AtomicU64::new(batches),
            has_moved: AtomicBool::new(false),
            deleted: Mutex::default(),
        })
    }

    /// Nothing more becomes safe.
    pub fn sticks(&self) {
        self.safe.store(self.appended.load(Relaxed), Relaxed);
    }

    pub fn is_let_go(&self) {
        self.safe.store(u64::MAX, Relaxed);
    }

    pub fn keeps_more(&self, batches: u64) {
        self.safe.store(self.safe.load(Relaxed).saturating_add(batches), Relaxed);
    }

    /// Whether it was told to commit since the last call.
    pub fn has_moved(&self) -> bool {
        self.has_moved.swap(false, Relaxed)
    }

    /// What was deleted since the last call, in order of the alphabet.
    pub fn deleted(&self) -> Vec<Deleted> {
        let mut deleted = std::mem::take(&mut *self.deleted.lock().expect("nobody has panicked"));
        deleted.sort();
        deleted
    }
}

impl Journal for TestJournal {
    fn append(&self, batch: &Batch, _: Safety) -> Appended {
        for operation in batch.operations() {
            if let Operation::Delete { table, key } | Operation::DeleteOf { table, key, .. } = operation {
                let key = String::from_utf8_lossy(key).trim_start_matches(|letter| letter < ' ').to_owned();
                self.deleted.lock().expect("nobody has panicked").push((table, key));
            }
        }
        let id = self.appended.fetch_add(1, Relaxed) + 1;
        Appended { id, end: Position(id) }
    }

    fn sync_soon(&self) {}

    fn commit_soon(&self) {
        self.due.store(self.appended.load(Relaxed), Relaxed);
        self.has_moved.store(true, Relaxed);
    }

    fn reached(&self, _: Safety) -> Position {
        Position(self.safe.load(Relaxed).min(self.due.load(Relaxed)))
    }

    fn tail(&self) -> Position {
        Position(self.appended.load(Relaxed))
    }

    fn statistics(&self) -> Statistics {
        Statistics::default()
    }

    fn trouble(&self) -> Option<Arc<str>> {
        None
    }
}
