//! The store: journal and rest together.

use super::disk::Folder;
use super::engine::Engine;
use super::held::{Held, Over};
use super::home::{self, Format};
use super::journal::{Committer, Log};
use super::queue::Windows;
use super::recovery::{Move, Recovered, blob_in, fault, position_of};
use super::rest::{Each, EntryId, Rest, Space, read_entry, read_row, whole_key};
use super::segment::{self, Segment, Segments};
use super::{Damage, Disk, Error, Findings, Journal, Options, Position};
use crate::faults::{self, Fault};
use parking_lot::{Mutex, RwLock};
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Is told a row: key, value, id of the blob (0: none).
pub type EachRow<'a> = dyn FnMut(&[u8], &[u8], u64) + 'a;

/// Is told an entry: queue, blob, tag, meta, how often it entered.
pub type EachEntry<'a> = dyn FnMut(u64, u64, u64, &[u8], u32) + 'a;

/// Is told the place of an id among those that were asked for, and the bytes of its blob if it is there.
pub type EachBlob<'a> = dyn FnMut(usize, Option<&[u8]>) + 'a;

/// Blobs that nobody asked for and that are passed over before it is worth looking for the next one.
const PASSED_MAX: usize = 32;

/// Segments that come to rest as one piece, where little is left of them.
const SEGMENTS_AT_ONCE: usize = 8;

/// What waits in a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub blob: u64,
    pub tag: u64,
    pub meta: Box<[u8]>,
    /// How often it entered.
    pub count: u32,
    /// Of the blob. `None`: they are lost.
    pub bytes: Option<Vec<u8>>,
}

/// What survives, in a directory.
pub struct Store {
    disk: Arc<dyn Disk>,
    rest: Arc<dyn Rest>,
    pub(super) id: u64,
    pub(super) options: Options,
    pub(super) log: Arc<Log>,
    pub(super) segments: Arc<Segments>,
    pub(super) windows: Mutex<Windows>,
    committer: Mutex<Committer>,
    /// Rest includes the journal up to here.
    at_rest: Mutex<u64>,
    /// Where the journal went on when the store was opened.
    pub(super) recovered: u64,
    /// What is not at rest up to there.
    held: RwLock<Option<Held>>,
    damage: Mutex<Vec<Damage>>,
    /// Last, so that nobody else has the directory while something of this is alive.
    _lock: Option<File>,
}

impl Store {
    /// Locks the directory against other processes and recovers what it holds. What is damaged is put aside and never prevents
    /// this. `progress` is told now and then how far recovery is: bytes of the journal done, and of how many.
    pub fn open(dir: &Path, options: Options, progress: &mut dyn FnMut(u64, u64)) -> Result<(Self, Findings), Error> {
        let lock = home::lock(dir)?;
        let disk = Arc::new(Folder(dir.to_owned()));
        let mut findings = Findings::default();
        // Before anything of a newer format is touched.
        home::read_format(&*disk, dir)?;
        let rest = Arc::new(Engine::open(dir, &options, &mut findings)?);
        let (mut store, more) = Self::open_on(disk, rest, dir, options, progress)?;
        store._lock = Some(lock);
        findings.damage.extend(more.damage);
        Ok((store, Findings { damage: findings.damage, unfinished: findings.unfinished, ..more }))
    }

    /// On any disk, with any rest. `dir` is for messages only.
    pub fn open_on(
        disk: Arc<dyn Disk>,
        rest: Arc<dyn Rest>,
        dir: &Path,
        options: Options,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(Self, Findings), Error> {
        let mut findings = Findings::default();
        let (id, is_known) = identify(&*disk, dir, &mut findings)?;
        let recovered = Move { disk: &*disk, rest: &*rest, store: id }.all(is_known, &mut findings, progress)?;
        let Recovered { tail, at_rest, held, segments: left, trouble } = recovered;
        // Last, so that a store with a format has a position at rest.
        if !is_known {
            home::write_format(&*disk, id).map_err(fault("write the format file"))?;
        }
        findings.damage.extend(rest.take_damage());
        let segments = Arc::new(Segments::default());
        left.into_iter().for_each(|segment| segments.add(Arc::new(segment)));
        let log = Log::new(Arc::clone(&disk), id, tail, Arc::clone(&segments), options.clone());
        log.note_rest(trouble.as_ref());
        let store = Self {
            disk,
            rest,
            id,
            options,
            log,
            segments,
            windows: Mutex::default(),
            committer: Mutex::new(Committer::new(tail)),
            at_rest: Mutex::new(at_rest),
            recovered: tail,
            held: RwLock::new(held),
            damage: Mutex::default(),
            _lock: None,
        };
        Ok((store, findings))
    }

    pub fn journal(&self) -> Arc<dyn Journal> {
        Arc::clone(&self.log) as Arc<dyn Journal>
    }

    /// All rows of a table as recovery found them, in order of keys.
    pub fn rows(&self, table: u8, each: &mut EachRow<'_>) -> Result<(), Error> {
        self.scan(Space::Rows, &[table], &[], &mut |key, stored| {
            if let Some((blob, value, rest)) = read_row(stored) {
                match rest {
                    [] => each(key.get(1..).unwrap_or_default(), value, blob),
                    _ => each(&whole_key(key, rest), value, blob),
                }
            }
            true
        })
    }

    /// All entries as recovery found them, in order of queue and blob.
    pub fn entries(&self, each: &mut EachEntry<'_>) -> Result<(), Error> {
        self.scan(Space::Entries, &[], &[], &mut |key, stored| {
            if let (Some(id), Some((count, meta))) = (EntryId::read(key), read_entry(stored)) {
                each(id.queue, id.blob, id.tag, meta, count);
            }
            true
        })
    }

    /// Returns when the journal is written up to this position, which somebody else commits, or when it is time to stop.
    pub fn wait_for_written(&self, position: Position) {
        self.log.wait_for_written(position.0);
    }

    /// The bytes of a blob, wherever they lie. `None`: nothing keeps it, it is damaged, or it is not written yet. Any thread may
    /// ask, and waits for the disk.
    pub fn blob(&self, id: u64) -> Result<Option<Vec<u8>>, Error> {
        if let Some(segment) = self.segments.at(id)
            && let Some(batch) = segment.batch(self.id, id).map_err(fault("read the journal"))?
        {
            return Ok(blob_in(&batch).map(<[u8]>::to_vec));
        }
        self.get(Space::Blobs, &id.to_be_bytes())
    }

    /// The bytes of many blobs, whose ids are given in ascending order: `each` is told the place of an id and its bytes, as soon as
    /// they are found. Several times as fast as [`blob`](Self::blob) for those that lie together at rest.
    pub fn blobs(&self, ids: &[u64], each: &mut EachBlob<'_>) -> Result<(), Error> {
        let mut elsewhere = Vec::new();
        let mut next = 0;
        while let Some(first) = ids.get(next) {
            let (mut passed, mut is_end) = (0, true);
            self.scan(Space::Blobs, &[], &first.to_be_bytes(), &mut |key, bytes| {
                let id = key.try_into().map_or(0, u64::from_be_bytes);
                while ids.get(next).is_some_and(|wanted| *wanted < id) {
                    elsewhere.push(next);
                    next += 1;
                }
                let before = next;
                while ids.get(next) == Some(&id) {
                    each(next, Some(bytes));
                    next += 1;
                }
                passed = if next > before { 0 } else { passed + 1 };
                is_end = passed < PASSED_MAX && next < ids.len();
                is_end
            })?;
            if is_end {
                elsewhere.extend(next..ids.len());
                break;
            }
        }
        for place in elsewhere {
            each(place, self.blob(ids[place])?.as_deref());
        }
        Ok(())
    }

    pub(super) fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        match &*self.held.read() {
            None => self.rest.get(space, key),
            Some(held) => Over { rest: &*self.rest, held }.get(space, key),
        }
    }

    pub(super) fn scan(&self, space: Space, prefix: &[u8], from: &[u8], each: &mut Each<'_>) -> Result<(), Error> {
        match &*self.held.read() {
            None => self.rest.scan(space, prefix, from, each),
            Some(held) => Over { rest: &*self.rest, held }.scan(space, prefix, from, each),
        }
    }

    /// Commits what is appended until `stop`, and then what is left. For a thread of the caller's. `moved` is called whenever
    /// `reached` or `trouble` may have changed. Where the disk fails for good after `stop`, it gives up after some tries.
    pub fn run_commits(&self, moved: &dyn Fn()) {
        self.log.run(&mut self.committer.lock(), moved);
    }

    /// Commits what has gathered, once, instead of `run_commits`. After an error nothing is lost: the next call tries again.
    pub fn commit(&self, moved: &dyn Fn()) -> io::Result<()> {
        self.log.commit(&mut self.committer.lock(), moved)
    }

    /// Moves what outlives its segment to rest, until `stop`. For a thread of the caller's. `tried` is called at the beginning and
    /// whenever `rest_trouble` or `take_damage` may have changed.
    pub fn run_checkpoints(&self, tried: &dyn Fn()) {
        while !self.log.is_stopping() {
            tried();
            let is_held = self.held.read().is_some();
            if is_held {
                self.segments.wait_for(self.options.retry_wait * 100);
            } else {
                self.segments.wait_for_closed(self.options.checkpoint_segments, || self.log.is_stopping());
            }
            if self.log.is_stopping() {
                break;
            }
            let failed = self.checkpoint().err();
            self.log.note_rest(failed.as_ref());
            if failed.is_some() {
                self.log.counters.checkpoint_failures.fetch_add(1, Ordering::Relaxed);
                tried();
                self.segments.wait_for(self.options.retry_wait * 100);
            }
        }
    }

    /// Moves closed segments to rest, once. After an error they are where they were.
    pub fn checkpoint(&self) -> Result<(), Error> {
        let mut at_rest = self.at_rest.lock();
        // What failed may be at rest all the same.
        if !faults::is_left_out(Fault::StoreRestAgain)
            && let Some(position) = position_of(&*self.rest)?
        {
            *at_rest = position;
        }
        let closed = self.segments.closed();
        let mut left = closed.as_slice();
        while let [(first, end), after @ ..] = left
            && !self.log.is_stopping()
        {
            if *end <= *at_rest {
                self.remove(first)?;
                left = after;
                continue;
            }
            if faults::is_left_out(Fault::StoreRestFirst) {
                self.remove(first)?;
            }
            // What is held comes to rest before anything newer does.
            let at_once = if self.held.read().is_some() { 1 } else { SEGMENTS_AT_ONCE };
            let piece: Vec<_> = left.iter().take(at_once).map(|(segment, end)| (&**segment, Some(*end))).collect();
            let journal = Move { disk: &*self.disk, rest: &*self.rest, store: self.id };
            let mut findings = Findings::default();
            let moved = journal.piece(&piece, *at_rest, &mut findings);
            self.damage.lock().append(&mut findings.damage);
            let moved = moved?;
            *at_rest = moved.to;
            self.windows.lock().forget_before(moved.to);
            self.log.counters.checkpoints.fetch_add(1, Ordering::Relaxed);
            self.log.counters.bytes_to_rest.fetch_add(moved.bytes as u64, Ordering::Relaxed);
            if *at_rest >= self.recovered && self.held.read().is_some() {
                *self.held.write() = None;
            }
        }
        Ok(())
    }

    fn remove(&self, segment: &Segment) -> Result<(), Error> {
        let name = segment::name_of(segment.first);
        match self.disk.remove(&name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(fault(format!("remove {name}"))(error));
            }
            _ => {}
        }
        self.segments.forget(segment.first);
        self.disk.sync_folder(segment::FOLDER).map_err(fault("sync the journal's folder"))
    }

    /// What was found to be damaged since the store was opened, or since this was asked last: reading goes on without it.
    pub fn take_damage(&self) -> Vec<Damage> {
        let mut damage = std::mem::take(&mut *self.damage.lock());
        damage.extend(self.rest.take_damage());
        damage
    }

    pub fn is_stopping(&self) -> bool {
        self.log.is_stopping()
    }

    /// Ends `run_commits` and `run_checkpoints`.
    pub fn stop(&self) {
        self.log.stop();
        self.segments.wake();
    }

    /// Whether there is a store in this directory, or what is left of one.
    pub fn is_in(dir: &Path) -> bool {
        [home::FORMAT_FILE, segment::FOLDER].iter().any(|name| dir.join(name).exists())
    }
}

/// The id of the store in this directory, and whether the format file knows it; a new one where there is none.
pub(super) fn identify(disk: &dyn Disk, dir: &Path, findings: &mut Findings) -> Result<(u64, bool), Error> {
    match home::read_format(disk, dir)? {
        Format::Store(id) => return Ok((id, true)),
        Format::None => {}
        Format::Damaged => home::put_aside(disk, "format", Position(0), "the format file is damaged", findings),
    }
    let id = match id_in_journal(disk)? {
        Some(id) => id,
        None => {
            let mut bytes = [0; 8];
            let source = |error| io::Error::other(format!("{error}"));
            getrandom::fill(&mut bytes).map_err(source).map_err(fault("make an id for the store"))?;
            u64::from_le_bytes(bytes)
        }
    };
    Ok((id, false))
}

/// What the segments say, where the format file says nothing.
fn id_in_journal(disk: &dyn Disk) -> Result<Option<u64>, Error> {
    for name in disk.list(segment::FOLDER).map_err(fault("list the journal"))? {
        if let Some(first) = segment::first_of(&name)
            && let Ok(file) = disk.open(&segment::name_of(first))
            && let Ok(Some(id)) = segment::store_of(&*file)
        {
            return Ok(Some(id));
        }
    }
    Ok(None)
}

/// Whether there is a journal.
pub(super) fn has_segments(disk: &dyn Disk) -> Result<bool, Error> {
    let names = disk.list(segment::FOLDER).map_err(fault("list the journal"))?;
    Ok(names.iter().any(|name| segment::first_of(name).is_some()))
}
