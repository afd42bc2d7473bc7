//! The journal: what is appended gathers in memory, and one thread commits what has gathered.
//!
//! ```text
//! append ──> gathering ──commit──> held ──> segment ──sync──> let go
//! ```
//!
//! A commit begins when somebody says that he has appended what he had (`commit_soon`), or when much has gathered. What comes while
//! one is under way is the next: so one Client that waits alone waits for one sync, and many share one.
//!
//! A position is given when a batch is appended; into which file its record goes is decided when it is committed. What is written
//! and not yet synced is held: after a failure a new segment is made that begins at the last synced position with the very same
//! bytes, and only when it is whole and synced does it get its name, by which it takes the place of whatever the old one held
//! from there on.

use super::disk::{Disk, write_all};
use super::record::{self, BATCH_BYTES_MAX, HEADER_BYTES, Header};
use super::segment::{self, SEGMENT_HEADER_BYTES, Segment, Segments};
use super::{Appended, Batch, Error, Journal, Options, Position, Safety, Statistics};
use crate::faults::{self, Fault};
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// After `stop`, so many tries are made to commit what is left.
const LAST_TRIES: u32 = 3;

/// When so much has gathered, it is committed even if nobody has asked for that yet.
const GATHERED_BYTES_MAX: usize = 256 << 10;

/// Buffers larger than this are not kept.
const SPARE_BYTES_MAX: usize = 1 << 20;

/// What all shards share.
pub(super) struct Log {
    disk: Arc<dyn Disk>,
    store: u64,
    options: Options,
    pub(super) segments: Arc<Segments>,
    gathering: Mutex<Gathering>,
    /// The commit thread sleeps here while nothing is to be committed.
    something: Condvar,
    /// And here while it waits on purpose; `stop` ends that.
    halt: Condvar,
    /// Here others wait for it.
    committed: Condvar,
    written: AtomicU64,
    synced: AtomicU64,
    in_trouble: AtomicBool,
    troubles: Mutex<Troubles>,
    pub(super) counters: Counters,
}

#[derive(Default)]
pub(super) struct Counters {
    pub(super) records: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) commits: AtomicU64,
    pub(super) syncs: AtomicU64,
    pub(super) failures: AtomicU64,
    pub(super) checkpoints: AtomicU64,
    pub(super) checkpoint_failures: AtomicU64,
    pub(super) bytes_to_rest: AtomicU64,
}

#[derive(Default)]
struct Gathering {
    /// Records, framed.
    bytes: Vec<u8>,
    /// The position after them.
    tail: u64,
    /// It is time for the next commit.
    is_due: bool,
    /// Somebody will wait until it is synced.
    is_to_be_synced: bool,
    /// Somebody will wait until it is written, and no longer.
    is_to_be_told: bool,
    /// Bytes that are on their way, and not yet as safe as somebody wants.
    in_commit: usize,
    is_committer_asleep: bool,
    is_stopping: bool,
}

impl Gathering {
    /// To write, or to sync of what is written.
    fn has_something(&self) -> bool {
        !self.bytes.is_empty() || self.is_to_be_synced
    }
}

#[derive(Default)]
struct Troubles {
    failure: Option<Arc<str>>,
    behind: Option<Arc<str>>,
    /// Concerns nobody who waits.
    at_rest: Option<Arc<str>>,
}

impl Log {
    /// A journal that goes on at `tail`, up to which all is synced.
    pub(super) fn new(
        disk: Arc<dyn Disk>,
        store: u64,
        tail: u64,
        segments: Arc<Segments>,
        options: Options,
    ) -> Arc<Self> {
        Arc::new(Self {
            disk,
            store,
            options,
            segments,
            gathering: Mutex::new(Gathering { tail, ..Gathering::default() }),
            something: Condvar::new(),
            halt: Condvar::new(),
            committed: Condvar::new(),
            written: AtomicU64::new(tail),
            synced: AtomicU64::new(tail),
            in_trouble: AtomicBool::new(false),
            troubles: Mutex::default(),
            counters: Counters::default(),
        })
    }

    pub(super) fn stop(&self) {
        self.gathering.lock().is_stopping = true;
        self.something.notify_all();
        self.halt.notify_all();
        self.committed.notify_all();
    }

    /// Returns when all is written up to there, or when the journal is to stop.
    pub(super) fn wait_for_written(&self, position: u64) {
        let mut gathering = self.gathering.lock();
        while self.written.load(Ordering::Acquire) < position && !gathering.is_stopping {
            self.committed.wait(&mut gathering);
        }
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.gathering.lock().is_stopping
    }

    /// What became of moving something to rest.
    pub(super) fn note_rest(&self, trouble: Option<&Error>) {
        let text = trouble.map(|error| Arc::from(error.to_string()));
        self.say(|troubles| troubles.at_rest = text);
    }

    fn make_due(&self, gathering: &mut Gathering) {
        gathering.is_due = true;
        if std::mem::take(&mut gathering.is_committer_asleep) {
            self.something.notify_one();
        }
    }

    fn say(&self, change: impl FnOnce(&mut Troubles)) {
        let mut troubles = self.troubles.lock();
        change(&mut troubles);
        self.in_trouble.store(troubles.failure.is_some() || troubles.behind.is_some(), Ordering::Release);
    }

    /// Commits until `stop`, and then what is left.
    pub(super) fn run(&self, committer: &mut Committer, moved: &dyn Fn()) {
        while self.wait_for_something() {
            if self.commit_until_done(committer, moved).is_err() {
                return;
            }
        }
        // What nobody waits for is synced too; then a last record says so to whoever opens the store.
        for _ in 0..2 {
            if committer.has_begun() {
                self.append(&Batch::new(), Safety::Synced);
                if self.commit_until_done(committer, moved).is_err() {
                    return;
                }
            }
        }
    }

    /// Whether there is something to commit. No: the journal stops.
    fn wait_for_something(&self) -> bool {
        let mut gathering = self.gathering.lock();
        while !gathering.is_due && !gathering.is_stopping {
            gathering.is_committer_asleep = true;
            self.something.wait(&mut gathering);
        }
        gathering.is_committer_asleep = false;
        if !self.options.commit_wait.is_zero() && !gathering.is_stopping {
            self.halt.wait_for(&mut gathering, self.options.commit_wait);
        }
        gathering.has_something()
    }

    /// Tries until it works; when the journal is to stop, not for ever.
    fn commit_until_done(&self, committer: &mut Committer, moved: &dyn Fn()) -> io::Result<()> {
        let mut wait = self.options.retry_wait;
        let mut last_tries = 0;
        while let Err(error) = self.commit(committer, moved) {
            let mut gathering = self.gathering.lock();
            if gathering.is_stopping {
                last_tries += 1;
                if last_tries == LAST_TRIES {
                    return Err(error);
                }
            } else {
                self.halt.wait_for(&mut gathering, wait);
                wait = (wait * 2).min(self.options.retry_wait * 100);
            }
        }
        Ok(())
    }

    /// Commits what has gathered, once. After an error nothing is lost, and nothing counts as reached that was not; the next
    /// call tries again.
    pub(super) fn commit(&self, committer: &mut Committer, moved: &dyn Fn()) -> io::Result<()> {
        let done = self.try_commit(committer, moved);
        match &done {
            Ok(()) => self.say(|troubles| troubles.failure = None),
            Err(error) => {
                self.counters.failures.fetch_add(1, Ordering::Relaxed);
                committer.is_broken = !faults::is_left_out(Fault::StoreBeginAnew);
                let text = Arc::from(format!("the journal cannot be written: {error}"));
                self.say(|troubles| troubles.failure = Some(text));
            }
        }
        moved();
        done
    }

    fn try_commit(&self, committer: &mut Committer, moved: &dyn Fn()) -> io::Result<()> {
        if committer.is_broken {
            self.begin_anew(committer)?;
        }
        let (bytes, is_to_be_synced, is_to_be_told) = self.take(committer);
        let start = committer.tail;
        committer.tail += bytes.len() as u64;
        if !bytes.is_empty() {
            committer.held_bytes += bytes.len();
            committer.held.push_back((start, bytes));
            self.write(committer, start)?;
        }
        self.written.store(committer.tail, Ordering::Release);
        self.counters.commits.fetch_add(1, Ordering::Relaxed);
        if is_to_be_synced || committer.held_bytes > self.options.unsynced_bytes_max {
            if is_to_be_told {
                moved();
            }
            self.sync(committer)?;
        }
        let mut gathering = self.gathering.lock();
        gathering.in_commit = 0;
        self.committed.notify_all();
        if gathering.bytes.len() <= self.options.pending_bytes_max / 2 {
            self.say(|troubles| troubles.behind = None);
        }
        Ok(())
    }

    /// What has gathered, whether somebody waits for the disk, and whether somebody waits for no more than the write.
    fn take(&self, committer: &mut Committer) -> (Vec<u8>, bool, bool) {
        let spare = std::mem::take(&mut committer.spare);
        let mut gathering = self.gathering.lock();
        let bytes = std::mem::replace(&mut gathering.bytes, spare);
        gathering.in_commit += bytes.len();
        gathering.is_due = false;
        let is_to_be_synced = std::mem::take(&mut gathering.is_to_be_synced);
        (bytes, is_to_be_synced, std::mem::take(&mut gathering.is_to_be_told))
    }

    /// Writes the group that begins at `start`, the last one held, into this segment and as many more as it takes.
    fn write(&self, committer: &mut Committer, start: u64) -> io::Result<()> {
        let (_, group) = committer.held.pop_back().expect("the group was held just now");
        let done = self.write_group(committer, start, &group);
        committer.held.push_back((start, group));
        done
    }

    fn write_group(&self, committer: &mut Committer, start: u64, group: &[u8]) -> io::Result<()> {
        let mut at = 0;
        while at < group.len() {
            let position = start + at as u64;
            let rest = &group[at..];
            let fits = committer.open.as_ref().map_or(0, |open| {
                let room = usize::try_from(open.end.saturating_sub(position)).unwrap_or(usize::MAX);
                if rest.len() <= room { rest.len() } else { record::whole_records_within(rest, room) }
            });
            if fits == 0 {
                if committer.open.is_some() {
                    if !faults::is_left_out(Fault::StoreSyncAtEnd) {
                        self.sync_open(committer)?;
                    }
                    // A failure from here on is to begin anew with the next segment, not before it.
                    self.synced.store(position, Ordering::Release);
                }
                let size = record::first_record(rest).unwrap_or(0).max(self.room_of_a_segment());
                self.begin(committer, position, size, &[])?;
                continue;
            }
            let open = committer.open.as_ref().expect("only an open segment has room");
            write_all(&*open.segment.file, &rest[..fits], open.segment.offset(position))?;
            at += fits;
        }
        Ok(())
    }

    fn room_of_a_segment(&self) -> usize {
        usize::try_from(self.options.segment_size).unwrap_or(usize::MAX).saturating_sub(SEGMENT_HEADER_BYTES)
    }

    fn begin(&self, committer: &mut Committer, first: u64, room: usize, records: &[&[u8]]) -> io::Result<()> {
        let size = (SEGMENT_HEADER_BYTES + room) as u64;
        let segment = segment::make(&*self.disk, self.store, first, size, records)?;
        self.segments.add(Arc::clone(&segment));
        committer.open = Some(Open { segment, end: first + room as u64 });
        Ok(())
    }

    /// After a failure: a new segment, from the last synced position on.
    fn begin_anew(&self, committer: &mut Committer) -> io::Result<()> {
        let synced = self.synced.load(Ordering::Acquire);
        let held = std::mem::take(&mut committer.held);
        let records: Vec<&[u8]> = held
            .iter()
            .map(|(start, bytes)| {
                let done = usize::try_from(synced.saturating_sub(*start)).unwrap_or(usize::MAX);
                bytes.get(done..).unwrap_or_default()
            })
            .collect();
        let bytes: usize = records.iter().map(|bytes| bytes.len()).sum();
        let done = self.begin(committer, synced, bytes.max(self.room_of_a_segment()), &records);
        drop(records);
        committer.held = held;
        done?;
        committer.is_broken = false;
        self.counters.syncs.fetch_add(1, Ordering::Relaxed);
        self.written.store(committer.tail, Ordering::Release);
        self.now_synced(committer);
        Ok(())
    }

    fn sync(&self, committer: &mut Committer) -> io::Result<()> {
        if !faults::is_left_out(Fault::StoreSync) {
            self.sync_open(committer)?;
        }
        self.now_synced(committer);
        Ok(())
    }

    fn sync_open(&self, committer: &Committer) -> io::Result<()> {
        if let Some(open) = &committer.open {
            open.segment.file.sync()?;
            self.counters.syncs.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    fn now_synced(&self, committer: &mut Committer) {
        self.synced.store(committer.tail, Ordering::Release);
        committer.held_bytes = 0;
        for (_, mut bytes) in committer.held.drain(..) {
            if bytes.capacity() <= SPARE_BYTES_MAX && bytes.capacity() > committer.spare.capacity() {
                bytes.clear();
                committer.spare = bytes;
            }
        }
    }
}

impl Journal for Log {
    fn append(&self, batch: &Batch, safety: Safety) -> Appended {
        let batch = batch.bytes();
        assert!(
            batch.len() <= BATCH_BYTES_MAX,
            "a batch of {} bytes would not be believed when it is read",
            batch.len()
        );
        let body = record::checksum(batch);
        let synced = self.synced.load(Ordering::Relaxed);
        let mut gathering = self.gathering.lock();
        let id = gathering.tail;
        gathering.bytes.extend_from_slice(&Header::write(self.store, id, batch.len(), body, synced));
        gathering.bytes.extend_from_slice(batch);
        gathering.tail += (HEADER_BYTES + batch.len()) as u64;
        match safety {
            Safety::Synced => gathering.is_to_be_synced = true,
            Safety::Written => gathering.is_to_be_told = true,
        }
        let end = Position(gathering.tail);
        if gathering.bytes.len() > self.options.pending_bytes_max {
            let text = || Arc::from(format!("the disk is too slow: {} bytes wait for it", gathering.bytes.len()));
            self.say(|troubles| troubles.behind = Some(troubles.behind.take().unwrap_or_else(text)));
        }
        if gathering.bytes.len() > GATHERED_BYTES_MAX {
            self.make_due(&mut gathering);
        }
        drop(gathering);
        self.counters.records.fetch_add(1, Ordering::Relaxed);
        self.counters.bytes.fetch_add(end.0 - id, Ordering::Relaxed);
        Appended { id, end }
    }

    fn sync_soon(&self) {
        self.gathering.lock().is_to_be_synced = true;
    }

    fn commit_soon(&self) {
        let mut gathering = self.gathering.lock();
        if gathering.has_something() {
            self.make_due(&mut gathering);
        }
    }

    fn reached(&self, safety: Safety) -> Position {
        Position(match safety {
            Safety::Written => self.written.load(Ordering::Acquire),
            Safety::Synced => self.synced.load(Ordering::Acquire),
        })
    }

    fn tail(&self) -> Position {
        Position(self.gathering.lock().tail)
    }

    fn statistics(&self) -> Statistics {
        let pending = {
            let gathering = self.gathering.lock();
            gathering.bytes.len() + gathering.in_commit
        };
        let counters = &self.counters;
        Statistics {
            records_appended: counters.records.load(Ordering::Relaxed),
            bytes_appended: counters.bytes.load(Ordering::Relaxed),
            commits: counters.commits.load(Ordering::Relaxed),
            syncs: counters.syncs.load(Ordering::Relaxed),
            failures: counters.failures.load(Ordering::Relaxed),
            segments: self.segments.count() as u64,
            checkpoints: counters.checkpoints.load(Ordering::Relaxed),
            checkpoint_failures: counters.checkpoint_failures.load(Ordering::Relaxed),
            bytes_to_rest: counters.bytes_to_rest.load(Ordering::Relaxed),
            bytes_pending: pending as u64,
        }
    }

    fn trouble(&self) -> Option<Arc<str>> {
        if !self.in_trouble.load(Ordering::Acquire) {
            return None;
        }
        let troubles = self.troubles.lock();
        troubles.failure.clone().or_else(|| troubles.behind.clone())
    }

    fn rest_trouble(&self) -> Option<Arc<str>> {
        self.troubles.lock().at_rest.clone()
    }
}

/// What only the thread that commits has.
pub(super) struct Committer {
    open: Option<Open>,
    /// Groups that are not synced, each with its position, in order.
    held: VecDeque<(u64, Vec<u8>)>,
    held_bytes: usize,
    /// After them.
    tail: u64,
    /// A write or sync has failed: the open segment is not to be written to any more.
    is_broken: bool,
    spare: Vec<u8>,
}

struct Open {
    segment: Arc<Segment>,
    /// The position at which it is full.
    end: u64,
}

impl Committer {
    pub(super) fn new(tail: u64) -> Self {
        Self { open: None, held: VecDeque::new(), held_bytes: 0, tail, is_broken: false, spare: Vec::new() }
    }

    fn has_begun(&self) -> bool {
        self.open.is_some()
    }
}
