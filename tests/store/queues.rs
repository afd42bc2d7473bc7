//! A queue is read while the store is at work: wherever it lies, whatever moves, in bounded memory.

use crate::entries;
use crate::life::options;
use crate::model::{Crash, Event, Failing, Failure, Follower, Lot, Model};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use waypost::store::{
    Appended, Batch, BlobRef, Change, Each, Entry, Error, Options, Position, Rest, Safety, Space, Store,
};

const QUEUE: u64 = 7;

fn open(model: &Model, rest: Arc<dyn Rest>, options: Options) -> Store {
    let (store, findings) =
        Store::open_on(Arc::new(model.clone()), rest, Path::new("model"), options, &mut |_, _| {}).expect("it opens");
    assert_eq!(findings.damage, []);
    store
}

fn does(store: &Store, what: impl FnOnce(&mut Batch)) -> Appended {
    let mut batch = Batch::new();
    what(&mut batch);
    let appended = store.journal().append(&batch, Safety::Synced);
    store.commit(&|| {}).expect("the disk takes it");
    appended
}

/// Puts a new blob into the queue.
fn enter(store: &Store, text: &str) -> u64 {
    let appended = does(store, |batch| {
        batch.blob(&[text.as_bytes()]);
        batch.enter(QUEUE, BlobRef::This, 1, b"meta");
    });
    appended.id
}

fn read(store: &Store, after: u64, count: usize) -> Vec<Entry> {
    let all = store.journal().tail();
    store.queue(QUEUE, after, count, usize::MAX, all).expect("it is read")
}

fn texts(entries: &[Entry]) -> Vec<String> {
    let text = |entry: &Entry| String::from_utf8(entry.bytes.clone().expect("nothing is lost")).expect("it is text");
    entries.iter().map(text).collect()
}

/// All of the queue, so many at a time.
fn drain(store: &Store, mut after: u64, count: usize) -> Vec<String> {
    let mut all = Vec::new();
    loop {
        let found = store.queue(QUEUE, after, count, usize::MAX, Position(0)).expect("it is read");
        let Some(last) = found.last() else { return all };
        after = last.blob;
        all.extend(texts(&found));
    }
}

#[test]
fn what_is_in_the_journal_at_rest_or_in_both_is_read_alike() {
    let model = Model::default();
    let store = open(&model, Arc::new(model.clone()), options());
    let at_rest = enter(&store, "at rest");
    let marked = enter(&store, "marked");
    let left = enter(&store, "left");
    for _ in 0..20 {
        does(&store, |batch| batch.put(1, b"key", &[0; 100], BlobRef::None));
    }
    store.checkpoint().expect("rest takes it");
    assert_eq!(texts(&read(&store, 0, 9)), ["at rest", "marked", "left"]);
    does(&store, |batch| batch.mark(QUEUE, marked, 1, b"another"));
    does(&store, |batch| batch.leave(QUEUE, left, 1));
    does(&store, |batch| batch.enter(QUEUE, BlobRef::Of(at_rest), 1, b"meta"));
    enter(&store, "in the journal");
    let found = read(&store, 0, 9);
    assert_eq!(texts(&found), ["at rest", "marked"], "there is no room for three");
    assert_eq!((found[0].count, found[1].count, &*found[1].meta), (2, 1, &b"another"[..]));
    assert_eq!(texts(&read(&store, marked, 9)), ["in the journal"]);

    does(&store, |batch| {
        batch.clear_queue(QUEUE);
        batch.enter(QUEUE, BlobRef::Of(marked), 1, b"meta");
    });
    assert_eq!(texts(&read(&store, 0, 9)), ["marked"]);
    assert_eq!(read(&store, marked, 9), []);
}

#[test]
fn what_has_come_to_rest_since_it_was_looked_for_is_known_there() {
    let model = Model::default();
    let store = open(&model, Arc::new(model.clone()), options());
    let blobs: Vec<u64> = (0..40).map(|number| enter(&store, &number.to_string())).collect();
    // The window has room for three.
    assert_eq!(texts(&read(&store, 0, 1)), ["0"]);
    store.checkpoint().expect("rest takes it");
    assert_eq!(texts(&read(&store, blobs[2], 2)), ["3", "4"]);
    does(&store, |batch| batch.mark(QUEUE, blobs[6], 1, b"another"));
    let found = read(&store, blobs[4], 3);
    assert_eq!((texts(&found), &*found[1].meta), (vec!["5".into(), "6".into(), "7".into()], &b"another"[..]));
}

/// A rest that goes on just before it is asked for the nth time, or just after; what is to leave does so before that, and rest knows it then.
struct Moving {
    rest: Model,
    store: Arc<OnceLock<Weak<Store>>>,
    calls_left: Arc<AtomicU64>,
    /// 0: nothing.
    leaves: Arc<AtomicU64>,
}

impl Moving {
    fn called(&self) {
        let left = self.calls_left.load(Ordering::Relaxed);
        self.calls_left.store(left.saturating_sub(1), Ordering::Relaxed);
        if left == 1
            && let Some(store) = self.store.get().and_then(Weak::upgrade)
        {
            let leaves = self.leaves.load(Ordering::Relaxed);
            if leaves != 0 {
                does(&store, |batch| batch.leave(QUEUE, leaves, 1));
                (0..20).for_each(|_| {
                    does(&store, |batch| batch.put(1, b"key", &[0; 100], BlobRef::None));
                });
            }
            store.checkpoint().expect("rest takes it");
        }
    }
}

impl Rest for Moving {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.called();
        let found = self.rest.get(space, key);
        self.called();
        found
    }

    fn scan(&self, space: Space, prefix: &[u8], from: &[u8], each: &mut Each<'_>) -> Result<(), Error> {
        self.called();
        let done = self.rest.scan(space, prefix, from, each);
        self.called();
        done
    }

    fn apply(&self, changes: Vec<Change>) -> Result<(), Error> {
        self.rest.apply(changes)
    }
}

#[test]
fn rest_may_move_at_any_time_while_a_queue_is_read() {
    for (call, count, leaves_58) in (1..300).flat_map(|call| [(call, 1, false), (call, 1, true), (call, 4, true)]) {
        let model = Model::default();
        let (place, calls_left, leaves) =
            (Arc::new(OnceLock::new()), Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let moving = Moving {
            rest: model.clone(),
            store: Arc::clone(&place),
            calls_left: Arc::clone(&calls_left),
            leaves: Arc::clone(&leaves),
        };
        let store = Arc::new(open(&model, Arc::new(moving), options()));
        place.set(Arc::downgrade(&store)).expect("it is new");
        let mut blobs: Vec<u64> = (0..40).map(|number| enter(&store, &number.to_string())).collect();
        store.checkpoint().expect("rest takes it");
        // Of what is at rest, and of what is not.
        for gone in [1, 3, 4, 39] {
            does(&store, |batch| batch.leave(QUEUE, blobs[gone], 1));
        }
        does(&store, |batch| batch.enter(QUEUE, BlobRef::Of(blobs[7]), 1, b"meta"));
        blobs.extend((40..60).map(|number| enter(&store, &number.to_string())));
        does(&store, |batch| batch.enter(QUEUE, BlobRef::Of(blobs[42]), 1, b"meta"));
        leaves.store(if leaves_58 { blobs[58] } else { 0 }, Ordering::Relaxed);

        calls_left.store(call, Ordering::Relaxed);
        let (mut after, mut up_to) = (0, store.journal().tail());
        let mut found = Vec::new();
        loop {
            let has_moved = calls_left.load(Ordering::Relaxed) == 0;
            let entries = store.queue(QUEUE, after, count, usize::MAX, up_to).expect("it is read");
            let Some(last) = entries.last() else { break };
            (after, up_to) = (last.blob, Position(0));
            let is_gone = |entry: &Entry| leaves_58 && entry.blob == blobs[58];
            assert!(!has_moved || !entries.iter().any(is_gone), "rest moves at call {call}");
            found.extend(entries.into_iter().filter(|entry| !is_gone(entry)));
        }
        let found = found.into_iter().flat_map(|entry| vec![entry.clone(); entry.count as usize]);
        let twice = |number: u64| vec![number.to_string(); if [7, 42].contains(&number) { 2 } else { 1 }];
        let gone = if leaves_58 { &[1, 3, 4, 39, 58][..] } else { &[1, 3, 4, 39] };
        let expected = (0..60).filter(|number| !gone.contains(number));
        let expected: Vec<String> = expected.flat_map(twice).collect();
        assert_eq!(texts(&found.collect::<Vec<_>>()), expected, "rest moves at call {call}");
    }
}

#[test]
fn a_queue_is_read_over_what_a_full_disk_has_not_taken() {
    let model = Model::default();
    let store = open(&model, Arc::new(model.clone()), options());
    let mut expected: Vec<String> = (0..30).map(|number| number.to_string()).collect();
    let blobs: Vec<u64> = expected.iter().map(|text| enter(&store, text)).collect();
    store.checkpoint().expect("rest takes it");
    does(&store, |batch| batch.leave(QUEUE, blobs[2], 1));
    drop(store);
    model.world().failing = Some(Failing { from: 0, calls: u64::MAX, error: Failure::RestFull });
    let store = open(&model, Arc::new(model.clone()), options());
    assert!(store.journal().rest_trouble().is_some(), "rest takes nothing");
    does(&store, |batch| batch.leave(QUEUE, blobs[5], 1));
    enter(&store, "new");
    expected.push("new".into());
    expected.retain(|text| text != "2" && text != "5");
    assert_eq!(texts(&read(&store, 0, 1)), ["0"]);
    assert_eq!(drain(&store, 0, 3), expected);
    model.world().failing = None;
    for _ in 0..20 {
        does(&store, |batch| batch.put(1, b"key", &[0; 100], BlobRef::None));
    }
    store.checkpoint().expect("rest takes it");
    assert_eq!(drain(&store, 0, 3), expected);
}

#[test]
fn a_long_queue_takes_little_memory_and_does_not_read_the_journal_again_and_again() {
    const MESSAGES: usize = 30_000;
    let model = Model::default();
    let window_bytes = 48 << 10;
    let store = open(&model, Arc::new(model.clone()), Options { window_bytes, ..Options::default() });
    let journal = store.journal();
    let mut batch = Batch::new();
    for number in 0..MESSAGES {
        batch.clear();
        batch.blob(&[&[b'.'; 60], number.to_string().as_bytes()]);
        batch.enter(QUEUE, BlobRef::This, 1, b"meta");
        batch.enter(QUEUE + 1, BlobRef::This, 1, b"meta");
        journal.append(&batch, Safety::Synced);
    }
    store.commit(&|| {}).expect("the disk takes it");
    let before = model.world().bytes_read;
    let mut expected = (0..MESSAGES).map(|number| format!("{}{number}", ".".repeat(60)));
    let mut after = read(&store, 0, 1)[0].blob;
    assert_eq!(expected.next(), Some(format!("{}0", ".".repeat(60))));
    loop {
        let found = store.queue(QUEUE, after, 100, usize::MAX, Position(0)).expect("it is read");
        let Some(last) = found.last() else { break };
        after = last.blob;
        assert!(texts(&found).into_iter().eq(expected.by_ref().take(found.len())));
        // As a Client that takes them does.
        batch.clear();
        found.iter().for_each(|entry| batch.leave(QUEUE, entry.blob, 1));
        journal.append(&batch, Safety::Synced);
        store.commit(&|| {}).expect("the disk takes it");
    }
    assert_eq!(expected.next(), None);
    let read = model.world().bytes_read - before;
    // Each window reads a chunk of 256 KiB, and each blob is read by itself.
    let windows = (MESSAGES * 100).div_ceil(window_bytes) as u64;
    let most = 4 * journal.tail().0 + windows * (256 << 10) * 3 / 2;
    assert!(read < most, "{read} bytes were read of a journal of {}, not {most}", journal.tail().0);
}

#[test]
fn a_long_queue_is_cleared_piece_by_piece_and_no_crash_brings_it_back() {
    let options = || Options { segment_size: 256 << 10, ..Options::default() };
    let model = Model::default();
    let store = open(&model, Arc::new(model.clone()), options());
    let journal = store.journal();
    let mut batch = Batch::new();
    let mut blobs = Vec::new();
    for _ in 0..25_000 {
        batch.clear();
        batch.blob(&[b"blob"]);
        batch.enter(QUEUE, BlobRef::This, 1, b"meta");
        blobs.push(journal.append(&batch, Safety::Written).id);
    }
    let filler = |batch: &mut Batch| batch.put(1, b"key", &[0; 256 << 10], BlobRef::None);
    does(&store, filler);
    store.checkpoint().expect("rest takes it");
    does(&store, |batch| batch.enter(QUEUE + 1, BlobRef::Of(blobs[5]), 1, b"handed on"));
    does(&store, |batch| {
        batch.clear_queue(QUEUE);
        batch.enter(QUEUE, BlobRef::Of(blobs[6]), 1, b"again");
    });
    does(&store, filler);
    let (image, mut lot) = (model.image(), Lot::new(1));
    drop(store);
    let model = Model::of(image.clone());
    open(&model, Arc::new(model.clone()), options());
    let events = std::mem::take(&mut model.world().events);
    let most = |event: &Event| if let Event::Applied(changes) = event { changes.len() } else { 0 };
    let most = events.iter().map(most).max();
    assert!(most < Some(3 * 10_000 + 100), "{most:?} changes at once");
    let mut follower = Follower::of(&image);
    for (at, event) in events.iter().enumerate() {
        follower.follow(event, &mut lot);
        let model = Model::of(follower.crash(Crash::Power(8), &mut lot));
        let store = open(&model, Arc::new(model.clone()), options());
        let expected = [(QUEUE, blobs[6], 1, b"again".to_vec(), 1), (QUEUE + 1, blobs[5], 1, b"handed on".to_vec(), 1)];
        assert_eq!(entries(&store), expected, "after {at} of {}", events.len());
        assert_eq!(texts(&read(&store, 0, 9)), ["blob"]);
        let kept = model.world().rest.keys().filter(|(space, _)| *space == Space::Blobs).count();
        assert_eq!(kept, 2, "after {at} of {}", events.len());
    }
}
