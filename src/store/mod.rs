//! What survives. Knows no MQTT: batches of rows, queue entries and blobs go in as bytes, positions come out.
//!
//! One append-only journal (`journal.rs`) is the only commit point: whoever must know that a change is safe compares the
//! position that [`Journal::append`] returned with [`Journal::reached`], and waits for nothing else. What outlives its journal
//! segment is moved to rest (`rest.rs`) by a checkpoint (`checkpoint.rs`), and recovery is the same checkpoint over whatever the
//! journal still holds. The room starts no thread and reads no clock: the roof lends it one thread for
//! [`Store::run_commits`] and one for [`Store::run_checkpoints`]. Read `batch.rs` next, then `journal.rs`.
//!
//! # What is promised
//!
//! - A [`Batch`] survives whole or not at all, and never without those appended before it.
//! - `reached(Safety::Written)`: survives the end of the process however it ends, not the end of the machine.
//! - `reached(Safety::Synced)`: survives power loss, as far as the disk keeps what it says it has kept.
//! - After a failed write or sync nothing that the file took since its last good sync is trusted: the bytes are kept in memory
//!   and written anew to another file, until that works. Until then `reached` does not move and [`Journal::trouble`] says why.
//! - A blob that no row and no entry refers to when its segment is brought to rest is gone, even if a later batch would refer to
//!   it: whoever hands one on keeps hold of it until the other has.
//! - A store opens on a disk that is full: what recovery cannot bring to rest is held in memory, and done again later.
//! - A damaged record costs that record. Its bytes are moved to `quarantine/` with a report, and [`Findings`] names them.

mod batch;
mod checkpoint;
mod disk;
mod engine;
mod held;
mod home;
mod journal;
mod memory;
mod queue;
mod record;
mod recovery;
mod rest;
mod segment;
mod transfer;
mod whole;

pub use batch::{Batch, BlobRef, Operation};
pub use disk::{Disk, DiskFile, Folder};
pub use memory::Memory;
pub use rest::{Change, Each, Rest, Space};
pub use transfer::Contents;
pub use whole::{EachBlob, EachEntry, EachRow, Entry, Store};

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Byte offset in the journal since the store was made. Only grows. A blob's id is the position of its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct Position(pub u64);

/// How safe a record must be before it counts as reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Safety {
    /// The operating system has it.
    Written,
    /// The disk says it has it.
    Synced,
}

/// Where a batch went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Where its record begins: the id of its blob.
    pub id: u64,
    /// Where its record ends. It is safe once `reached` is not before this.
    pub end: Position,
}

/// The commit point, shared by all shards.
pub trait Journal: Send + Sync {
    /// Takes a batch in and never waits for a disk. The blob's id is valid at once; its bytes can be read when it is committed.
    /// `safety` says what its owner will wait for: one who waits for `Synced` makes the next commit a synced one.
    fn append(&self, batch: &Batch, safety: Safety) -> Appended;

    /// All that was appended is to be synced with the next commit, whatever those who appended it said.
    fn sync_soon(&self);

    /// Has all that was appended committed. Called by whoever has appended once nothing more is about to follow, so that what
    /// was done in one go is one commit. Never waits for a disk.
    fn commit_soon(&self);

    /// Everything up to here is that safe. Never ahead of the truth.
    fn reached(&self, safety: Safety) -> Position;

    /// Everything appended so far lies before this.
    fn tail(&self) -> Position;

    fn statistics(&self) -> Statistics;

    /// `Some` while the disk does not take what is appended, or not as fast: what is wrong, for people. Ends by itself. What is
    /// appended meanwhile is kept in memory, so whoever can refuse work should.
    fn trouble(&self) -> Option<Arc<str>>;

    /// `Some` while what outlives its segment cannot be moved to rest: why, for people. Nothing is lost by that, but the journal
    /// grows.
    fn rest_trouble(&self) -> Option<Arc<str>> {
        None
    }
}

/// How a store works. The default is what a broker wants.
#[derive(Clone, Debug)]
pub struct Options {
    /// Bytes of a journal segment; a larger record gets a segment of its own. 8 MiB.
    pub segment_size: u64,
    /// The longest that a commit waits for more to gather. None by default: what gathers while one commit runs is the next.
    pub commit_wait: Duration,
    /// Bytes not yet committed at which [`Journal::trouble`] says that the disk is too slow. 64 MiB.
    pub pending_bytes_max: usize,
    /// Bytes that nobody wants synced are synced at the latest when there are this many. 4 MiB.
    pub unsynced_bytes_max: usize,
    /// Closed segments at which a checkpoint begins. 3.
    pub checkpoint_segments: usize,
    /// How long to wait after a failure before the next try; doubles up to a hundredfold. 50 ms.
    pub retry_wait: Duration,
    /// Bytes of memory for what is read from rest. 8 MiB.
    pub cache_bytes: u64,
    /// Bytes of memory in each of the five spaces at rest for what is not sorted into tables yet; of a new store. 4 MiB.
    pub memtable_bytes: u64,
    /// Bytes of memory for what a queue that is being read has in the journal; four times as much for all of them. 4 MiB.
    pub window_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_size: 8 << 20,
            commit_wait: Duration::ZERO,
            pending_bytes_max: 64 << 20,
            unsynced_bytes_max: 4 << 20,
            checkpoint_segments: 3,
            retry_wait: Duration::from_millis(50),
            cache_bytes: 8 << 20,
            memtable_bytes: 4 << 20,
            window_bytes: 4 << 20,
        }
    }
}

/// Why a store cannot be opened or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{} is in use by {}: stop that one, or give this one a data directory of its own", .dir.display(), holder_in_words(*.holder))]
    Locked { dir: PathBuf, holder: Option<u32> },
    #[error("{} was written by a newer version (format {found}, this one knows {known}): start that version, or export there and import here", .path.display())]
    Newer { path: PathBuf, found: u32, known: u32 },
    #[error("cannot {what}: {source}{}", hint(source))]
    Io { what: String, source: std::io::Error },
    #[error("what is at rest cannot be {what}: {why}")]
    Rest { what: &'static str, why: String },
}

fn holder_in_words(holder: Option<u32>) -> String {
    holder.map_or_else(|| "another process".into(), |pid| format!("process {pid}"))
}

/// What to do about the usual reasons.
fn hint(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::StorageFull => "; make room on that disk, or choose another data directory",
        std::io::ErrorKind::QuotaExceeded => "; raise the quota of that disk, or choose another data directory",
        std::io::ErrorKind::ReadOnlyFilesystem => "; mount it writable, or choose another data directory",
        std::io::ErrorKind::PermissionDenied => "; the user that Waypost runs as has to own the data directory",
        _ => "",
    }
}

/// What recovery found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Records that were read from the journal.
    pub records: u64,
    /// Bytes of the journal that were read.
    pub bytes: u64,
    /// Bytes at the end that a crash left unfinished. Nobody had been told that they are safe.
    pub torn_bytes: u64,
    /// Changes at rest that a crash left unfinished, and that the journal still held.
    pub unfinished: u64,
    /// What was damaged, in the order found.
    pub damage: Vec<Damage>,
}

/// Something that was safe and is not readable any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file, relative to the data directory.
    pub file: String,
    /// Where in the journal it began; 0 for what is not of the journal.
    pub position: Position,
    /// How much is lost.
    pub bytes: u64,
    /// What is wrong, for people.
    pub what: String,
}

/// Plain counters since the store was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    pub records_appended: u64,
    pub bytes_appended: u64,
    pub commits: u64,
    pub syncs: u64,
    pub failures: u64,
    /// Segments that exist now.
    pub segments: u64,
    pub checkpoints: u64,
    pub checkpoint_failures: u64,
    /// Keys and values written to rest.
    pub bytes_to_rest: u64,
    /// Bytes appended that no disk has yet.
    pub bytes_pending: u64,
}
