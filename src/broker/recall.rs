//! What waits in the store alone comes back: a shard asks for the next part of a Session's queue, somebody who may wait for the disk
//! reads it, and it comes by mail. When, `session/spill.rs` decides.

use super::Shared;
use super::budget::Level;
use super::fields::Fields;
use super::mail::{Mail, SessionRef};
use super::shard::{Shard, Wire};
use crate::codec::{Message, Moment, Origin};
use crate::session::{Bound, Dropped, Kept, Outgoing};
use crate::store::{Entry, Error, Position, Safety, Store};

/// A part of a queue that is to be read.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    to: SessionRef,
    /// Under which the store has the Session.
    queue: u64,
    after: u64,
    count: usize,
    /// What was appended before is to be seen.
    up_to: Position,
    /// And that is all that there was when it was asked for.
    is_all: bool,
}

/// Has parts of queues read, one after the other; does not wait for it.
pub trait Recall: Send + Sync {
    fn recall(&self, wanted: Wanted);
}

/// Bytes that are read at a time, and one Message.
const RECALLED_BYTES_MAX: usize = 4 << 20;

impl Wanted {
    /// Reads it. `None`: the journal has to be written up to [`up_to`](Self::up_to) first.
    ///
    /// # Errors
    /// The disk. Nothing has come of it then; it is to be tried again.
    pub fn read(&mut self, store: &Store) -> Result<Option<Vec<Entry>>, Error> {
        let journal = store.journal();
        if journal.reached(Safety::Written) < self.up_to {
            return Ok(None);
        }
        let found = store.queue(self.queue, self.after, self.count, RECALLED_BYTES_MAX, self.up_to)?;
        if found.is_empty() && !std::mem::replace(&mut self.is_all, true) {
            // What waits was appended, but perhaps not written.
            self.up_to = journal.tail();
            return self.read(store);
        }
        Ok(Some(found))
    }

    pub fn up_to(&self) -> Position {
        self.up_to
    }
}

impl Shared {
    /// Gives a shard what it wanted to have read.
    pub fn recalled(&self, wanted: Wanted, entries: Vec<Entry>) {
        self.ports[usize::from(wanted.to.shard.0)].post_from_outside(Mail::Recalled(Box::new((wanted, entries))));
    }
}

/// Of a delivery that the store is given, and can be asked for again.
pub(super) fn bound(level: Level) -> Bound {
    if level >= Level::High { Bound::StoreEarly } else { Bound::Store }
}

impl<W: Wire> Shard<W> {
    /// Has the next part of a queue read, if it is time for that.
    #[cold]
    pub(super) fn ask_back(&mut self, slot: u32) {
        let to = self.reference(slot);
        let (is_early, limits) = (self.level >= Level::High, &self.shared.settings.session);
        let Some(client) = self.clients.get_mut(slot).filter(|client| client.kept_as != 0) else { return };
        if let Some(asked) = client.session.ask_back(is_early, limits, || self.durable.tail().0) {
            let (queue, up_to) = (client.kept_as, Position(asked.up_to));
            let wanted = Wanted { to, queue, after: asked.after, count: asked.count, up_to, is_all: false };
            self.durable.recall(wanted);
        }
    }

    /// The same for those whose queue has grown.
    #[cold]
    pub(super) fn ask_back_all(&mut self) {
        for slot in std::mem::take(&mut self.durable.spilled) {
            self.ask_back(slot);
        }
    }

    pub(super) fn take_recalled(&mut self, wanted: Wanted, entries: Vec<Entry>) {
        let SessionRef { slot, generation, .. } = wanted.to;
        let (now, now_ms) = (self.now, self.durable.unix_ms(self.now));
        if !self.clients.is_current(slot, generation) {
            return;
        }
        let Some(client) = self.clients.get_mut(slot).filter(|client| client.kept_as == wanted.queue) else { return };
        let here = client.session.kept_after(wanted.after);
        let before = client.session.recalled_before();
        let mut lost = 0;
        let last = entries.last().map(|entry| entry.blob.min(before.saturating_sub(1)));
        for entry in entries.into_iter().take_while(|entry| entry.blob < before) {
            let kept = Kept { record: entry.blob, tag: entry.tag };
            let meta = Fields(&entry.meta).read_meta();
            if here.contains(&kept) || matches!(meta, Some((Some(_), ..))) {
                continue; // under way
            }
            let message = read(&entry, now, now_ms);
            for _ in 0..entry.count.max(1) {
                match (&message, &meta) {
                    (Some(message), Some((_, _, ids))) => {
                        client.session.recalled(Outgoing::with_ids(message.clone(), ids.clone()), kept);
                    }
                    _ => {
                        client.session.recall_lost(meta.as_ref().map_or(0, |(_, size, _)| *size));
                        self.durable.leave(wanted.queue, kept);
                        lost += 1;
                    }
                }
            }
        }
        let ended = client.session.recall_ended(last, &self.shared.settings.session);
        for (reason, count) in [(Dropped::Unreadable, lost + ended.lost), (Dropped::QueueFull, ended.dropped)] {
            self.statistics.dropped.note_some(reason, count);
            (0..count).for_each(|_| client.note_drop(reason, now));
        }
        self.durable.commit(None);
        if client.session.has_changes() {
            self.keep_changes(slot);
        }
        self.mark_dirty(slot);
        self.ask_back(slot);
    }
}

fn read(entry: &Entry, now: Moment, now_ms: u64) -> Option<Message> {
    let message = Message::from_stored(entry.bytes.as_ref()?, Origin::BROKER, now, now_ms)?;
    message.set_record(entry.blob);
    Some(message)
}
