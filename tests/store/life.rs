//! A store that lives: batches by lot, commits and checkpoints between them, and what must be there after each.

use crate::model::{Crash, Event, Failure, Follower, Image, Lot, Model};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use waypost::store::{Batch, BlobRef, Disk, Entry, Findings, Options, Position, Rest, Safety, Space, Store};

/// What a store must hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct State {
    rows: BTreeMap<(u8, Vec<u8>), (Vec<u8>, u64)>,
    entries: BTreeMap<(u64, u64, u64), (Vec<u8>, u32)>,
}

impl State {
    fn enter(&mut self, queue: u64, blob: u64, tag: u64, meta: &[u8]) {
        let entry = self.entries.entry((queue, blob, tag)).or_insert((Vec::new(), 0));
        *entry = (meta.to_vec(), entry.1 + 1);
    }

    fn mark(&mut self, queue: u64, blob: u64, tag: u64, meta: &[u8]) {
        if let Some(entry) = self.entries.get_mut(&(queue, blob, tag)) {
            entry.0 = meta.to_vec();
        }
    }

    fn leave(&mut self, queue: u64, blob: u64, tag: u64) {
        if let Some(entry) = self.entries.get_mut(&(queue, blob, tag)) {
            entry.1 -= 1;
            if entry.1 == 0 {
                self.entries.remove(&(queue, blob, tag));
            }
        }
    }

    /// Blobs that something refers to.
    fn blobs(&self) -> BTreeSet<u64> {
        let rows = self.rows.values().map(|(_, blob)| *blob);
        rows.chain(self.entries.keys().map(|(_, blob, _)| *blob)).filter(|blob| *blob != 0).collect()
    }
}

/// All that was appended, and what it made.
#[derive(Clone, Default)]
pub(crate) struct History {
    /// The state when the journal had come so far.
    states: Vec<(u64, State)>,
    blobs: BTreeMap<u64, Vec<u8>>,
    /// Metas that entries were given, also when they were gone or went in the same batch: damage may have lost how they went.
    metas: BTreeSet<((u64, u64, u64), Vec<u8>)>,
}

impl History {
    fn now(&self) -> State {
        self.states.last().map(|(_, state)| state.clone()).unwrap_or_default()
    }

    /// The state of a journal that ends there, if that is where a record ends.
    fn at(&self, position: u64) -> Option<State> {
        match self.states.binary_search_by_key(&position, |(end, _)| *end) {
            Ok(at) => Some(self.states[at].1.clone()),
            Err(0) if position == FIRST => Some(State::default()),
            Err(_) => None,
        }
    }

    /// The state of a journal that ends there. A last record, which says that the store was closed, is nobody's.
    fn before(&self, position: u64) -> Option<State> {
        (position.saturating_sub(32)..=position).rev().find_map(|end| self.at(end))
    }

    /// So many entries of a queue behind a blob, and all that have the last one's.
    fn entries_of(&self, state: &State, queue: u64, after: u64, count: usize) -> Vec<Entry> {
        let mut found: Vec<Entry> = Vec::new();
        let behind = state.entries.range((queue, after + 1, 0)..).take_while(|(key, _)| key.0 == queue);
        for ((_, blob, tag), (meta, count_in)) in behind {
            if found.len() >= count && found.last().is_some_and(|last| last.blob != *blob) {
                break;
            }
            let bytes = self.blobs.get(blob).cloned();
            found.push(Entry { blob: *blob, tag: *tag, meta: meta[..].into(), count: *count_in, bytes });
        }
        found
    }

    fn cut(&mut self, position: u64) {
        self.states.retain(|(end, _)| *end <= position);
    }
}

/// Where a store begins.
const FIRST: u64 = 1;

pub(crate) fn options() -> Options {
    Options {
        segment_size: 40 + 400,
        unsynced_bytes_max: 300,
        pending_bytes_max: 1_000,
        retry_wait: Duration::ZERO,
        // Three entries.
        window_bytes: 300,
        ..Options::default()
    }
}

pub(crate) fn open(model: &Model) -> Result<(Store, Findings), String> {
    let disk: Arc<dyn Disk> = Arc::new(model.clone());
    let rest: Arc<dyn Rest> = Arc::new(model.clone());
    Store::open_on(disk, rest, Path::new("model"), options(), &mut |_, _| {}).map_err(|error| error.to_string())
}

/// Lives on this disk for so many steps. Says what was appended.
pub(crate) fn live(model: &Model, store: &Store, history: &mut History, steps: usize, lot: &mut Lot) {
    let journal = store.journal();
    let moved = || {
        let reached = Event::Reached(journal.reached(Safety::Written).0, journal.reached(Safety::Synced).0);
        model.world().events.push(reached);
    };
    let mut batch = Batch::new();
    for _ in 0..steps {
        match lot.below(20) {
            0..=10 => append(store, history, &mut batch, lot),
            // A failure is tried again with the next commit.
            11..=16 => drop(store.commit(&moved)),
            17..=18 => drop(store.checkpoint()),
            _ => check_queues(store, history, lot),
        }
    }
    if lot.below(3) == 0 {
        store.stop();
        store.run_commits(&moved);
    }
}

/// Every queue is read from somewhere in it on, in steps: what is written is there, in order, with its bytes. A step that needs not
/// have seen all of it shows the queue as it was at some time.
fn check_queues(store: &Store, history: &History, lot: &mut Lot) {
    let journal = store.journal();
    let written = journal.reached(Safety::Written).0;
    let state = history.before(written).expect("a record ends there");
    for queue in 0..4 {
        let blobs: Vec<u64> = state.entries.keys().filter(|key| key.0 == queue).map(|key| key.1).collect();
        let mut after = if lot.below(2) == 0 { 0 } else { blobs.get(blobs.len() / 2).copied().unwrap_or_default() };
        for step in 0.. {
            let count = lot.below(3) as usize + 1;
            let up_to = if step == 0 || lot.below(2) == 0 { written } else { 0 };
            let found = match store.queue(queue, after, count, usize::MAX, Position(up_to)) {
                Ok(found) => found,
                Err(_) if journal.trouble().is_some() => break,
                Err(error) => panic!("it is read: {error}"),
            };
            let is_of = |state: &State| {
                let expected = history.entries_of(state, queue, after, count);
                // There may be no room for all that is wanted.
                expected.starts_with(&found) && found.is_empty() == expected.is_empty()
            };
            let is_right = is_of(&state) || (up_to == 0 && history.states.iter().any(|(_, state)| is_of(state)));
            let expected = || history.entries_of(&state, queue, after, count);
            assert!(is_right, "{queue} after {after}: {found:?}\nnot {:?}", expected());
            match found.last() {
                Some(last) => after = last.blob,
                None => break,
            }
        }
    }
}

fn append(store: &Store, history: &mut History, batch: &mut Batch, lot: &mut Lot) {
    batch.clear();
    let mut state = history.now();
    let kept: Vec<u64> = state.blobs().into_iter().collect();
    let id = store.journal().tail().0;
    let has_blob = lot.below(3) > 0;
    if has_blob {
        let bytes: Vec<u8> = (0..lot.below(60)).map(|_| lot.next() as u8).collect();
        batch.blob(&[&bytes[..bytes.len() / 2], &bytes[bytes.len() / 2..]]);
        history.blobs.insert(id, bytes);
    }
    let blob = |lot: &mut Lot| match lot.below(4) {
        0 if !kept.is_empty() => {
            let id = kept[lot.below(kept.len() as u64) as usize];
            (BlobRef::Of(id), id)
        }
        1..=3 if has_blob => (BlobRef::This, id),
        _ => (BlobRef::None, 0),
    };
    for _ in 0..lot.below(4) + 1 {
        let known = |lot: &mut Lot, state: &State| {
            let at = lot.below(state.entries.len() as u64 + 1) as usize;
            state.entries.keys().nth(at).copied().unwrap_or((lot.below(4), lot.below(900), lot.below(2)))
        };
        let (table, key) = (lot.below(2) as u8, vec![b'k'; lot.below(5) as usize]);
        let text: Vec<u8> = (0..lot.below(12)).map(|_| lot.next() as u8).collect();
        match lot.below(12) {
            0..=2 => {
                let (reference, id) = blob(lot);
                batch.put(table, &key, &text, reference);
                state.rows.insert((table, key), (text, id));
            }
            3 if lot.below(2) == 0 => {
                batch.delete(table, &key);
                state.rows.remove(&(table, key));
            }
            3 => {
                let there = state.rows.get(&(table, key.clone())).map(|(_, blob)| *blob);
                let meant = if lot.below(3) == 0 { lot.below(900) } else { there.unwrap_or_default() };
                batch.delete_of(table, &key, meant);
                if there == Some(meant) {
                    state.rows.remove(&(table, key));
                }
            }
            4..=6 => {
                let (reference, id) = blob(lot);
                let (queue, tag) = (lot.below(4), lot.below(2));
                batch.enter(queue, reference, tag, &text);
                history.metas.insert(((queue, id, tag), text.clone()));
                state.enter(queue, id, tag, &text);
            }
            7 => {
                let (queue, blob, tag) = known(lot, &state);
                batch.mark(queue, blob, tag, &text);
                history.metas.insert(((queue, blob, tag), text.clone()));
                state.mark(queue, blob, tag, &text);
            }
            8..=10 => {
                let (queue, blob, tag) = known(lot, &state);
                batch.leave(queue, blob, tag);
                state.leave(queue, blob, tag);
            }
            _ => {
                let queue = lot.below(8);
                batch.clear_queue(queue);
                state.entries.retain(|(of, ..), _| *of != queue);
            }
        }
    }
    let safety = if lot.below(2) == 0 { Safety::Synced } else { Safety::Written };
    let appended = store.journal().append(batch, safety);
    assert_eq!(appended.id, id);
    history.states.push((appended.end.0, state));
}

/// Whether the store that this image holds is what was promised: all that was reached, and nothing but a beginning of what was
/// appended. `Err` says what is wrong.
pub(crate) fn check(image: Image, history: &History, reached: u64) -> Result<(Model, Store, u64), String> {
    let model = Model::of(image);
    let (store, findings) = open(&model)?;
    if !findings.damage.is_empty() {
        return Err(format!("a crash looks like damage: {:?}", findings.damage));
    }
    let tail = store.journal().tail().0;
    if tail < reached {
        return Err(format!("safe up to {reached}, there up to {tail}"));
    }
    let state = history.before(tail).ok_or_else(|| format!("{tail} is not where a record ends"))?;
    compare(&store, &state, history)?;
    let kept = model.world().rest.keys().filter(|(space, _)| *space == Space::Blobs).count();
    if kept != state.blobs().len() {
        return Err(format!("{kept} blobs are kept, {} are referred to", state.blobs().len()));
    }
    Ok((model, store, tail))
}

fn compare(store: &Store, state: &State, history: &History) -> Result<(), String> {
    let wrong = |error: waypost::store::Error| error.to_string();
    let mut found = State::default();
    for table in 0..2 {
        store
            .rows(table, &mut |key, value, blob| {
                found.rows.insert((table, key.to_vec()), (value.to_vec(), blob));
            })
            .map_err(wrong)?;
    }
    store
        .entries(&mut |queue, blob, tag, meta, count| {
            found.entries.insert((queue, blob, tag), (meta.to_vec(), count));
        })
        .map_err(wrong)?;
    if found != *state {
        return Err(format!("found {found:?}\nnot {state:?}"));
    }
    let mut ids: Vec<u64> = state.blobs().into_iter().flat_map(|blob| [blob - 1, blob, blob]).collect();
    ids.sort_unstable();
    let mut read = vec![None; ids.len()];
    store.blobs(&ids, &mut |place, bytes| read[place] = Some(bytes.map(<[u8]>::to_vec))).map_err(wrong)?;
    for (id, read) in ids.iter().zip(read) {
        let bytes = store.blob(*id).map_err(wrong)?;
        if state.blobs().contains(id) && bytes.as_ref() != history.blobs.get(id) {
            return Err(format!("blob {id} is {bytes:?}"));
        }
        if read != Some(bytes) {
            return Err(format!("blob {id} is {read:?} when it is read among others"));
        }
    }
    Ok(())
}

/// Whether a store with damaged bytes opens, and holds nothing that never was: each row and each entry was once there like this, and
/// each blob is what it was or is missed.
pub(crate) fn check_damaged(image: Image, history: &History) -> Result<(), String> {
    let model = Model::of(image);
    let (store, _) = open(&model)?;
    let mut wrong = None;
    let mut blobs = BTreeSet::new();
    for table in 0..2 {
        let rows = store.rows(table, &mut |key, value, blob| {
            let row = ((table, key.to_vec()), (value.to_vec(), blob));
            blobs.insert(blob);
            if !history.states.iter().any(|(_, state)| state.rows.get(&row.0) == Some(&row.1)) {
                wrong = Some(format!("the row {row:?} never was"));
            }
        });
        rows.map_err(|error| error.to_string())?;
    }
    let entries = store.entries(&mut |queue, blob, tag, meta, _| {
        blobs.insert(blob);
        let id = (queue, blob, tag);
        if !history.metas.contains(&(id, meta.to_vec())) {
            wrong = Some(format!("the entry {id:?} never was with {meta:?}"));
        }
    });
    entries.map_err(|error| error.to_string())?;
    for blob in blobs {
        let bytes = store.blob(blob).map_err(|error| error.to_string())?;
        if bytes.is_some() && bytes.as_ref() != history.blobs.get(&blob) {
            wrong = Some(format!("blob {blob} is {bytes:?}"));
        }
    }
    wrong.map_or(Ok(()), Err)
}

const CRASHES: [Crash; 6] =
    [Crash::Kill, Crash::Power(0), Crash::Power(8), Crash::Power(13), Crash::Torn, Crash::Power(16)];

/// Lives, and crashes after each thing that was done to the disk, in each way; now and then once more during recovery, and now and
/// then it lives on and crashes again. Returns how many states were checked.
pub(crate) fn crash_everywhere(
    image: Image,
    mut history: History,
    failing: Option<crate::model::Failing>,
    lot: &mut Lot,
    again: u32,
) -> Result<u64, String> {
    let model = Model::of(image.clone());
    model.world().failing = failing.filter(|failing| failing.error == Failure::RestFull);
    let (store, _) = open(&model)?;
    let began = store.journal().tail().0;
    let state = history.before(began).ok_or_else(|| format!("{began} is not where a record ends"))?;
    compare(&store, &state, &history)?;
    history.cut(began);
    let is_failing = failing.is_some();
    model.world().failing = failing;
    live(&model, &store, &mut history, 30, lot);
    drop(store);
    let events = std::mem::take(&mut model.world().events);
    let mut checked = crash_after_each(&image, &events, &history, began, lot, &CRASHES)?;
    if again > 0 && !is_failing {
        let mut follower = Follower::of(&image);
        let cut = lot.below(events.len() as u64) as usize;
        events[..cut].iter().for_each(|event| follower.follow(event, lot));
        let left = follower.crash(Crash::Power(8), lot);
        let (recovered, ..) = check(left.clone(), &history, follower.reached.1)?;
        let recovery = std::mem::take(&mut recovered.world().events);
        checked += crash_after_each(&left, &recovery, &history, follower.reached.1, lot, &CRASHES[1..3])?;
        checked += crash_everywhere(left, history, None, lot, again - 1)?;
    }
    Ok(checked)
}

fn crash_after_each(
    image: &Image,
    events: &[Event],
    history: &History,
    reached: u64,
    lot: &mut Lot,
    crashes: &[Crash],
) -> Result<u64, String> {
    let mut follower = Follower::of(image);
    let mut checked = 0;
    for (at, event) in events.iter().enumerate() {
        follower.follow(event, lot);
        for crash in crashes {
            let (written, synced) = follower.reached;
            let reached = reached.max(if *crash == Crash::Kill { written } else { synced });
            check(follower.crash(*crash, lot), history, reached)
                .map_err(|wrong| format!("{crash:?} after {at} ({event:?}): {wrong}"))?;
            checked += 1;
        }
    }
    Ok(checked)
}
