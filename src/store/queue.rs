//! A queue is read: what is at rest of it, and over that what the journal holds and rest does not include yet.
//!
//! A piece of the journal is read once for a queue, and what it does to the lowest entries is remembered in a [`Window`]: not what
//! changes, but what they are when the piece ends. So it holds over rest wherever between the beginning and the end of the piece that
//! is by now, and nobody waits for a checkpoint. A window takes no more than `Options::window_bytes`, whatever the journal holds:
//! what has no room is read again when those before it are gone, from where it lies on. A queue of which each entry
//! came with its own blob, as Messages do, has then been read twice in all, however long it is.
//!
//! Each queue reads the journal for itself. Where hundreds are read at once that costs about what it costs to bring it to rest, which
//! goes on meanwhile and leaves four segments to read.

use super::batch::{BlobRef, Operation, Operations};
use super::checkpoint::POSITION;
use super::recovery::fault;
use super::rest::{EntryId, Space, read_entry, read_number};
use super::segment::{Found, Reader};
use super::{Entry, Error, Journal, Position, Safety, Store};
use foldhash::HashMap;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::io;

/// What an entry takes in memory beside its meta, about.
const SEEN_BYTES: usize = 96;

/// Queues that are remembered. All of them take no more than `SHARES` windows may.
const QUEUES_MAX: usize = 1_000;
const SHARES: usize = 4;

/// What a piece of the journal makes of a queue.
struct Window {
    /// Entries whose blobs come after this are known.
    after: u64,
    /// The piece begins here or before, but for what is about entries up to `after`.
    base: u64,
    /// And ends here.
    end: u64,
    /// What is not among the entries and has a lower blob is gone, whatever rest says.
    cleared_before: u64,
    /// From this blob on nothing is known, for want of room.
    bound: Option<u64>,
    /// All that the piece says about those from there on is that they have entered, each with its own blob.
    is_plain_beyond: bool,
    /// By blob and tag: those that the piece is about. Others are what they are at rest.
    entries: BTreeMap<(u64, u64), Seen>,
    /// What the entries take, and may.
    bytes: usize,
    bytes_max: usize,
    /// Rest has come further than an operation that is applied to what is at rest.
    is_overtaken: bool,
    used: u64,
}

/// An entry when the piece ends.
#[derive(Debug)]
struct Seen {
    /// 0: it is gone.
    count: u32,
    /// It has entered with its own blob, and that is all.
    is_plain: bool,
    meta: Box<[u8]>,
}

impl Seen {
    fn cost(&self) -> usize {
        SEEN_BYTES + self.meta.len()
    }
}

/// Which records of the piece are taken in.
#[derive(Clone, Copy)]
enum Part {
    All,
    /// What has entered with its own blob, from this one on.
    Plain(u64),
}

impl Window {
    fn new(after: u64, at_rest: u64, bytes_max: usize) -> Self {
        Self {
            after,
            base: at_rest,
            end: at_rest,
            cleared_before: 0,
            bound: None,
            is_plain_beyond: true,
            entries: BTreeMap::new(),
            bytes: 0,
            bytes_max,
            is_overtaken: false,
            used: 0,
        }
    }

    /// Whether it says the truth over rest that includes the journal up to there.
    fn holds_over(&self, at_rest: u64) -> bool {
        self.base <= at_rest && at_rest <= self.end
    }

    /// Lets go of entries up to there.
    fn pass(&mut self, after: u64) {
        self.after = self.after.max(after);
        while let Some(first) = self.entries.first_entry().filter(|first| first.key().0 <= after) {
            self.bytes -= first.remove().cost();
        }
    }

    /// Lets go of the highest, down to so many bytes; those of one blob stay.
    fn cut(&mut self, bytes_max: usize) {
        let first = self.entries.first_key_value().map(|((blob, _), _)| *blob);
        while let Some(last) = self.entries.last_entry()
            && (self.bytes > bytes_max || self.bound == Some(last.key().0))
            && first != Some(last.key().0)
        {
            let ((blob, _), seen) = last.remove_entry();
            self.bytes -= seen.cost();
            self.is_plain_beyond &= seen.is_plain;
            self.bound = Some(blob);
        }
    }

    /// Takes in the batch of the record at this position. `at_rest` is asked for an entry that rest knew before the piece.
    fn add(
        &mut self,
        queue: u64,
        position: u64,
        batch: &[u8],
        part: Part,
        at_rest: &dyn Fn(EntryId) -> Result<Option<Seen>, Error>,
    ) -> Result<(), Error> {
        for operation in Operations::new(batch) {
            match (operation, part) {
                (Operation::Enter { queue: of, blob, tag, meta }, _) if of == queue => {
                    let id = match blob {
                        BlobRef::This => position,
                        BlobRef::None => 0,
                        BlobRef::Of(id) => id,
                    };
                    let is_plain = blob == BlobRef::This;
                    if matches!(part, Part::Plain(from) if !is_plain || id < from) {
                        continue;
                    }
                    self.change(EntryId { queue, blob: id, tag }, is_plain, at_rest, |seen| {
                        seen.count = seen.count.saturating_add(1);
                        seen.meta = meta.into();
                    })?;
                }
                (Operation::Mark { queue: of, blob, tag, meta }, Part::All) if of == queue => {
                    self.change(EntryId { queue, blob, tag }, false, at_rest, |seen| {
                        if seen.count > 0 {
                            seen.meta = meta.into();
                        }
                    })?;
                }
                (Operation::Leave { queue: of, blob, tag }, Part::All) if of == queue => {
                    let id = EntryId { queue, blob, tag };
                    self.change(id, false, at_rest, |seen| seen.count = seen.count.saturating_sub(1))?;
                }
                (Operation::ClearQueue(of), Part::All) if of == queue => {
                    self.entries.clear();
                    self.bytes = 0;
                    self.bound = None;
                    self.is_plain_beyond = true;
                    self.cleared_before = position;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn change(
        &mut self,
        id: EntryId,
        is_plain: bool,
        at_rest: &dyn Fn(EntryId) -> Result<Option<Seen>, Error>,
        change: impl FnOnce(&mut Seen),
    ) -> Result<(), Error> {
        let key = (id.blob, id.tag);
        if id.blob <= self.after {
            return Ok(());
        }
        if self.bound.is_some_and(|bound| id.blob >= bound) {
            self.is_plain_beyond &= is_plain;
            return Ok(());
        }
        let known = self.entries.remove(&key);
        self.bytes -= known.as_ref().map_or(0, Seen::cost);
        let mut seen = match known {
            Some(seen) => Seen { is_plain: seen.is_plain && is_plain, ..seen },
            None => {
                let was_there = id.blob < self.base && id.blob >= self.cleared_before;
                let before = if was_there { at_rest(id)? } else { None };
                before.unwrap_or(Seen { count: 0, is_plain, meta: Box::default() })
            }
        };
        change(&mut seen);
        self.bytes += seen.cost();
        self.entries.insert(key, seen);
        self.cut(self.bytes_max);
        Ok(())
    }
}

/// What is remembered of queues that are being read.
#[derive(Default)]
pub(super) struct Windows {
    by_queue: HashMap<u64, Window>,
    uses: u64,
}

impl Windows {
    fn keep(&mut self, queue: u64, mut window: Window) {
        self.uses += 1;
        window.used = self.uses;
        if self.by_queue.len() >= QUEUES_MAX {
            let longest_ago = self.by_queue.iter().min_by_key(|(_, window)| window.used).map(|(queue, _)| *queue);
            longest_ago.map(|queue| self.by_queue.remove(&queue));
        }
        let bytes_max = window.bytes_max;
        self.by_queue.insert(queue, window);
        let share = (bytes_max * SHARES / self.by_queue.len()).min(bytes_max);
        self.by_queue.values_mut().for_each(|window| window.cut(share));
    }

    /// Rest includes the journal up to there: pieces before that are of no use any more.
    pub(super) fn forget_before(&mut self, at_rest: u64) {
        self.by_queue.retain(|_, window| window.end > at_rest);
    }
}

impl Store {
    /// The first `count` entries of a queue whose blob comes after `after`, in order, as far as there is room for their blobs in
    /// `bytes_max`, and one more; and all that have the last one's blob. Fewer where a window has no room for so many, and none only
    /// where there is none. `after` is 0 or the id of a blob.
    ///
    /// They are what they are when the journal has come to some position, not before `up_to` as far as that is written; where
    /// nothing is found, not before all that is written when this is called. Any thread may ask, and waits for the disk. Beside
    /// what is returned this takes up to `Options::window_bytes` and one record; what is remembered of all queues for the next
    /// call takes four times as much, at most.
    pub fn queue(
        &self,
        queue: u64,
        after: u64,
        count: usize,
        bytes_max: usize,
        up_to: Position,
    ) -> Result<Vec<Entry>, Error> {
        let written = self.log.reached(Safety::Written).0;
        let mut needed = up_to.0.min(written);
        let mut passed = after;
        let mut remembered = self.windows.lock().by_queue.remove(&queue);
        loop {
            let at_rest = self.position_at_rest()?;
            let remembered_here =
                remembered.take().filter(|window| window.after <= passed && window.holds_over(at_rest));
            let mut window = remembered_here.unwrap_or_else(|| Window::new(passed, at_rest, self.options.window_bytes));
            window.pass(passed);
            if window.end < needed && !self.go_on(&mut window, queue, after)? {
                continue;
            }
            let mut found = self.over_rest(&window, queue, count)?;
            if !window.holds_over(self.position_at_rest()?) {
                continue;
            }
            match window.bound {
                _ if !found.is_empty() => {
                    if window.end > window.base {
                        self.windows.lock().keep(queue, window);
                    }
                    self.read_blobs(&mut found, bytes_max)?;
                    return Ok(found);
                }
                Some(bound) => {
                    passed = bound.saturating_sub(1);
                    needed = window.end;
                    if window.is_plain_beyond {
                        self.fill(&mut window, queue, bound)?;
                        remembered = Some(window);
                    }
                }
                None if window.end < written => {
                    needed = written;
                    remembered = Some(window);
                }
                None => return Ok(found),
            }
        }
    }

    /// Rest, with what is held over it, includes the journal up to here.
    fn position_at_rest(&self) -> Result<u64, Error> {
        let position = self.get(Space::About, POSITION)?.as_deref().and_then(read_number);
        Ok(position.unwrap_or(0).max(self.recovered))
    }

    /// Lengthens the piece of a window to what is written by now. `false`: rest has overtaken that; it is to be done anew.
    fn go_on(&self, window: &mut Window, queue: u64, after: u64) -> Result<bool, Error> {
        // What is about an entry lies behind its blob.
        let (begin, end) = (window.end, self.log.reached(Safety::Written).0);
        let is_whole = self.read_piece(window, queue, begin.max(after), end, Part::All)?;
        window.end = end;
        Ok(is_whole && !window.is_overtaken)
    }

    /// Reads entries from the bound of a window on, as many as there is room for: what has come to rest meanwhile is read there.
    fn fill(&self, window: &mut Window, queue: u64, bound: u64) -> Result<(), Error> {
        window.base = window.base.max(self.position_at_rest()?);
        window.pass(bound.saturating_sub(1));
        window.bound = None;
        let (begin, end) = (window.base.max(bound), window.end);
        self.read_piece(window, queue, begin, end, Part::Plain(bound)).map(|_| ())
    }

    /// `false`: rest includes some of it by now, and it may not have been there any more.
    fn read_piece(&self, window: &mut Window, queue: u64, begin: u64, end: u64, part: Part) -> Result<bool, Error> {
        let segments = self.segments.all();
        if self.position_at_rest()? > begin && matches!(part, Part::All) {
            return Ok(false);
        }
        for (segment, next) in segments {
            let end = next.unwrap_or(end).min(end);
            if end <= begin {
                continue;
            }
            let unreadable = || fault("read the journal");
            let mut reader = Reader::new(&segment, self.id, begin, Some(end)).map_err(unreadable())?;
            while let Some(found) = reader.next().map_err(unreadable())? {
                match found {
                    Found::Record { position, .. } => {
                        let overtaken = Cell::new(false);
                        let at_rest = |id: EntryId| {
                            let stored = self.get(Space::Entries, &id.key())?;
                            overtaken.set(self.position_at_rest()? > position);
                            let entry = stored.as_deref().and_then(read_entry);
                            Ok(entry.map(|(count, meta)| Seen { count, is_plain: false, meta: meta.into() }))
                        };
                        window.add(queue, position, reader.batch(), part, &at_rest)?;
                        window.is_overtaken |= overtaken.get();
                    }
                    // It may be of a file that failed, and is going to be written anew.
                    Found::Damaged { end: damaged, .. }
                        if damaged > self.log.reached(Safety::Synced).0 && self.log.trouble().is_some() =>
                    {
                        return Err(unreadable()(io::Error::other("it is being written anew")));
                    }
                    // The checkpoint puts it aside.
                    Found::Damaged { .. } | Found::End { .. } => {}
                }
                if window.is_overtaken || (matches!(part, Part::Plain(_)) && window.bound.is_some()) {
                    return Ok(!window.is_overtaken);
                }
            }
        }
        Ok(true)
    }

    /// The first entries of a window and those at rest between them, and what else there is of the last one's blob.
    fn over_rest(&self, window: &Window, queue: u64, count: usize) -> Result<Vec<Entry>, Error> {
        let entry =
            |id: (u64, u64), count, meta: &[u8]| Entry { blob: id.0, tag: id.1, meta: meta.into(), count, bytes: None };
        let is_enough =
            |found: &[Entry], next: u64| found.len() >= count && found.last().is_none_or(|last| last.blob != next);
        let mut found: Vec<Entry> = Vec::new();
        let mut seen = window.entries.iter().peekable();
        let first = window.after.saturating_add(1).max(window.cleared_before);
        let first = EntryId { queue, blob: first, tag: 0 }.key();
        self.scan(Space::Entries, &queue.to_be_bytes(), &first, &mut |key, stored| {
            let (Some(id), Some((stored_count, meta))) = (EntryId::read(key), read_entry(stored)) else { return true };
            let id = (id.blob, id.tag);
            while let Some((before, seen)) = seen.next_if(|(before, _)| **before < id) {
                if seen.count > 0 && !is_enough(&found, before.0) {
                    found.push(entry(*before, seen.count, &seen.meta));
                }
            }
            if window.bound.is_some_and(|bound| id.0 >= bound) || is_enough(&found, id.0) {
                return false;
            }
            match seen.next_if(|(same, _)| **same == id) {
                Some((_, seen)) if seen.count > 0 => found.push(entry(id, seen.count, &seen.meta)),
                Some(_) => {}
                None => found.push(entry(id, stored_count, meta)),
            }
            true
        })?;
        for (id, seen) in seen.filter(|(_, seen)| seen.count > 0) {
            if is_enough(&found, id.0) {
                break;
            }
            found.push(entry(*id, seen.count, &seen.meta));
        }
        Ok(found)
    }

    /// Reads blobs as far as there is room for them; entries without room go.
    fn read_blobs(&self, found: &mut Vec<Entry>, bytes_max: usize) -> Result<(), Error> {
        let mut bytes = 0;
        for at in 0..found.len() {
            let before = at.checked_sub(1).map(|before| &found[before]).filter(|before| before.blob == found[at].blob);
            let of_blob = match before {
                Some(before) => before.bytes.clone(),
                None if bytes > bytes_max => {
                    found.truncate(at);
                    break;
                }
                None => self.blob(found[at].blob)?,
            };
            bytes += of_blob.as_ref().map_or(0, Vec::len);
            found[at].bytes = of_blob;
        }
        Ok(())
    }
}
