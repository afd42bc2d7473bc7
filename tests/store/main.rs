//! The store met as the hall meets it: batches go in, and after every kind of end what was promised is there.

mod crashes;
mod damage;
mod faults;
mod life;
mod model;
mod queues;
mod real;
#[cfg(feature = "seeded-faults")]
mod seeded;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use waypost::store::{Batch, BlobRef, Error, Findings, Options, Safety, Store};

/// A directory of its own that goes with the test.
struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self(std::env::temp_dir().join(format!("waypost-store-{}-{number}", std::process::id())))
    }

    fn path(&self) -> &Path {
        &self.0
    }

    fn open(&self) -> (Store, Findings) {
        Store::open(self.path(), Options::default(), &mut |_, _| {}).expect("the store opens")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn rows(store: &Store, table: u8) -> Vec<(Vec<u8>, Vec<u8>, u64)> {
    let mut rows = Vec::new();
    store.rows(table, &mut |key, value, blob| rows.push((key.to_vec(), value.to_vec(), blob))).expect("rows are read");
    rows
}

fn entries(store: &Store) -> Vec<(u64, u64, u64, Vec<u8>, u32)> {
    let mut entries = Vec::new();
    store
        .entries(&mut |queue, blob, tag, meta, count| entries.push((queue, blob, tag, meta.to_vec(), count)))
        .expect("entries are read");
    entries
}

#[test]
fn what_was_reached_is_there_when_the_store_is_opened_again() {
    let place = Place::new();
    let (store, findings) = place.open();
    assert_eq!(findings, Findings::default());
    let journal = store.journal();
    let mut batch = Batch::new();
    batch.blob(&[b"hello ", b"world"]);
    batch.put(1, b"topic", b"retained", BlobRef::This);
    batch.enter(7, BlobRef::This, 1, b"first");
    let message = journal.append(&batch, Safety::Synced);
    batch.clear();
    batch.put(1, b"another", b"", BlobRef::None);
    batch.enter(7, BlobRef::Of(message.id), 1, b"second");
    let last = journal.append(&batch, Safety::Synced);
    assert!(journal.reached(Safety::Synced) < message.end, "nothing is committed yet");
    store.commit(&|| {}).expect("the disk takes it");
    assert_eq!(journal.reached(Safety::Synced), last.end);
    assert_eq!(store.blob(message.id).expect("the journal is read").expect("it is kept"), b"hello world");
    drop((store, journal));

    let (store, findings) = place.open();
    assert_eq!((findings.records, findings.damage.len()), (2, 0));
    assert_eq!(
        rows(&store, 1),
        [(b"another".to_vec(), b"".to_vec(), 0), (b"topic".to_vec(), b"retained".to_vec(), message.id)]
    );
    assert_eq!(entries(&store), [(7, message.id, 1, b"second".to_vec(), 2)]);
    assert_eq!(store.blob(message.id).expect("rest is read").expect("it is kept"), b"hello world");
    assert_eq!(store.journal().tail(), last.end);
}

#[test]
fn a_directory_is_for_one_store_at_a_time() {
    let place = Place::new();
    let (store, _) = place.open();
    match Store::open(place.path(), Options::default(), &mut |_, _| {}) {
        Err(Error::Locked { dir, holder }) => {
            assert_eq!((dir.as_path(), holder), (place.path(), Some(std::process::id())));
        }
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("two stores have the directory"),
    }
    drop(store);
    place.open();
}

#[test]
fn what_is_exported_is_imported_again() {
    let place = Place::new();
    let (store, _) = place.open();
    let mut batch = Batch::new();
    batch.blob(&[b"kept by both"]);
    batch.put(3, &[0, 255, 10], b"value", BlobRef::This);
    batch.put(200, &[b'k'; 65_535], b"a long key", BlobRef::None);
    batch.enter(7, BlobRef::This, 1, b"meta");
    batch.enter(7, BlobRef::This, 1, b"meta");
    let message = store.journal().append(&batch, Safety::Synced);
    store.commit(&|| {}).expect("the disk takes it");
    drop(store);
    let (store, _) = place.open();
    let mut lines = Vec::new();
    let exported = store.export(&mut lines).expect("it is read");
    assert_eq!((exported.rows, exported.entries, exported.blobs, exported.without_blob), (2, 1, 1, 0));
    assert_eq!(store.contents().expect("it is read"), exported);

    let other = Place::new();
    let imported = Store::import(other.path(), &Options::default(), &mut &lines[..]).expect("it is filled");
    assert_eq!(imported, exported);
    let again = Store::import(other.path(), &Options::default(), &mut &lines[..]).expect_err("it is not empty");
    assert!(again.to_string().contains("there is a store in this directory already"), "{again}");
    let (copy, findings) = other.open();
    assert_eq!(findings, Findings::default());
    let mut lines_again = Vec::new();
    copy.export(&mut lines_again).expect("it is read");
    assert_eq!(String::from_utf8(lines_again), String::from_utf8(lines));
    assert!(copy.journal().tail().0 > message.id, "a new blob gets an id of its own");

    let broken = Place::new();
    let lines = b"{\"waypost-store\":1}\n{\"blob\":1}\n";
    let wrong = Store::import(broken.path(), &Options::default(), &mut &lines[..]).expect_err("it is no line");
    assert!(wrong.to_string().contains("line 2"), "{wrong}");
}
