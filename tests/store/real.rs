//! The real disk and the real rest: processes that are killed, a checkpoint that the power cuts, and files that are damaged.

use crate::{Place, entries, rows};
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use waypost::store::{Batch, BlobRef, Findings, Options, Position, Safety, Store};

/// Names the directory of a child.
const CHILD: &str = "WAYPOST_STORE_CHILD";

/// How many entries stay in a queue.
const KEPT: u64 = 40;

fn options() -> Options {
    Options { segment_size: 16 << 10, checkpoint_segments: 1, memtable_bytes: 64 << 10, ..Options::default() }
}

fn open(dir: &Path) -> (Store, Findings) {
    Store::open(dir, options(), &mut |_, _| {}).expect("the store opens")
}

/// The blob of a step.
fn body(step: u64) -> Vec<u8> {
    vec![step as u8; 50 + (step % 400) as usize]
}

/// Takes steps.
struct Steps {
    taken: u64,
    /// Blobs of the last ones.
    kept: VecDeque<u64>,
    batch: Batch,
}

impl Steps {
    /// Goes on where a store is, once that is found right.
    fn of(store: &Store) -> Self {
        let (taken, kept) = check(store);
        Self { taken, kept: kept.into_iter().map(|(_, blob)| blob).collect(), batch: Batch::new() }
    }

    fn take(&mut self, store: &Store, count: u64) -> Position {
        let mut end = Position(0);
        for _ in 0..count {
            self.taken += 1;
            let before = (self.taken > KEPT).then(|| self.kept.pop_front().expect("that many are kept"));
            step(&mut self.batch, self.taken, before);
            let appended = store.journal().append(&self.batch, Safety::Synced);
            self.kept.push_back(appended.id);
            end = appended.end;
        }
        store.journal().commit_soon();
        end
    }
}

/// What happens in each step is known from its number: it says how many there were, keeps a blob in one of four queues, and lets go
/// of the one that was kept `KEPT` steps before.
fn step(batch: &mut Batch, step: u64, id_before: Option<u64>) {
    batch.clear();
    batch.blob(&[&body(step)]);
    batch.put(0, b"steps", &step.to_be_bytes(), BlobRef::None);
    batch.put(1, &(step % 50).to_be_bytes(), &step.to_be_bytes(), BlobRef::This);
    batch.enter(step % 4, BlobRef::This, step, b"meta");
    if let Some(id) = id_before {
        batch.leave((step - KEPT) % 4, id, step - KEPT);
    }
}

/// Checks a store, and says how many steps it has taken and the blobs of its last ones.
fn check(store: &Store) -> (u64, Vec<(u64, u64)>) {
    let steps = rows(store, 0).first().map_or(0, |(_, value, _)| number(value));
    let mut kept: Vec<(u64, u64)> = entries(store).into_iter().map(|(_, blob, tag, ..)| (tag, blob)).collect();
    kept.sort_unstable();
    let first = steps.saturating_sub(KEPT) + 1;
    assert!(kept.iter().map(|(step, _)| *step).eq(first..=steps), "{steps} steps, kept {kept:?}");
    for (step, blob) in &kept {
        assert_eq!(store.blob(*blob).expect("it is read").as_deref(), Some(&body(*step)[..]), "step {step}");
    }
    let others = rows(store, 1);
    assert_eq!(others.len() as u64, steps.min(50));
    for (key, value, blob) in others {
        assert_eq!(number(&value) % 50, number(&key));
        assert_eq!(store.blob(blob).expect("it is read"), Some(body(number(&value))));
    }
    (steps, kept)
}

fn number(bytes: &[u8]) -> u64 {
    u64::from_be_bytes(bytes.try_into().expect("eight bytes"))
}

/// Takes steps until it is killed, and says which are safe.
#[test]
fn a_child_that_is_to_be_killed() {
    let Some(dir) = std::env::var_os(CHILD) else { return };
    let (store, findings) = open(Path::new(&dir));
    assert_eq!(findings.damage, []);
    let mut steps = Steps::of(&store);
    let journal = store.journal();
    let moved = parking_lot::Condvar::new();
    let lock = parking_lot::Mutex::new(());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            store.run_commits(&|| {
                let _lock = lock.lock();
                moved.notify_all();
            });
        });
        scope.spawn(|| store.run_checkpoints(&|| ()));
        let mut out = std::io::stdout();
        writeln!(out, "ready {}", steps.taken).expect("somebody reads");
        loop {
            let end = steps.take(&store, 20);
            let mut guard = lock.lock();
            while journal.reached(Safety::Synced) < end {
                moved.wait(&mut guard);
            }
            drop(guard);
            writeln!(out, "safe {}", steps.taken).expect("somebody reads");
        }
    });
}

#[test]
fn a_process_that_is_killed_has_kept_all_it_said_it_has() {
    let place = Place::new();
    let program = std::env::current_exe().expect("a test is a program");
    for round in 0..12u64 {
        let mut child = Command::new(&program)
            .args(["--exact", "real::a_child_that_is_to_be_killed", "--nocapture", "--test-threads=1"])
            .env(CHILD, place.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("a child starts");
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let mut safe = 0;
        let mut said = 0;
        for line in lines.map_while(Result::ok) {
            if let Some((_, steps)) = line.split_once("safe ") {
                safe = steps.trim().parse().expect("a number");
                said += 1;
                if said == 1 + round * 7 % 40 {
                    break;
                }
            }
        }
        assert!(said > 0, "the child took some steps");
        child.kill().expect("it is there");
        child.wait().expect("it was there");
        let (store, findings) = open(place.path());
        assert_eq!(findings.damage, []);
        let (steps, _) = check(&store);
        assert!(steps >= safe, "{safe} were safe, {steps} are there");
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a directory is made");
    for entry in std::fs::read_dir(from).expect("it is there") {
        let entry = entry.expect("it is read");
        if entry.path().is_dir() {
            copy(&entry.path(), &to.join(entry.file_name()));
        } else {
            std::fs::copy(entry.path(), to.join(entry.file_name())).expect("it is copied");
        }
    }
}

#[test]
fn a_checkpoint_that_the_power_cuts_is_done_again() {
    let place = Place::new();
    let (store, _) = open(place.path());
    let mut steps = Steps::of(&store);
    steps.take(&store, 300);
    store.commit(&|| {}).expect("the disk takes it");
    store.checkpoint().expect("rest takes it");
    steps.take(&store, 3_000); // of several pieces
    store.commit(&|| {}).expect("the disk takes it");
    let before = Place::new();
    copy(place.path(), before.path());
    let names = std::fs::read_dir(place.path().join("rest")).expect("it is there").map_while(Result::ok);
    let journals: Vec<_> =
        names.map(|entry| entry.file_name()).filter(|name| name.to_string_lossy().ends_with(".jnl")).collect();
    let [name] = &journals[..] else { panic!("the engine has other journals now, see engine.rs: {journals:?}") };
    let engine_journal = |dir: &Path| dir.join("rest").join(name);
    let old = std::fs::read(engine_journal(before.path())).expect("it is read");
    store.checkpoint().expect("rest takes it");
    let new = std::fs::read(engine_journal(place.path())).expect("it is read");
    let changed = |at: &usize| old.get(*at) != new.get(*at);
    let first = (0..new.len()).find(changed).expect("the checkpoint was written");
    let last = (0..new.len()).rev().find(changed).expect("the checkpoint was written");
    let mut unfinished = 0;
    for cut in [first + 1, first + 100, (first + last) / 2, last - 20, last] {
        // All of it arrived but for one place; and only the front of it did.
        let mut hole = new.clone();
        let end = (cut + 64).min(hole.len());
        hole[cut..end].fill(0);
        let mut torn = new.clone();
        torn[cut..].fill(0);
        for bytes in [hole, torn] {
            let after = Place::new();
            copy(before.path(), after.path());
            std::fs::write(engine_journal(after.path()), bytes).expect("it is written");
            let (store, findings) = open(after.path());
            assert_eq!(findings.damage, [], "cut at {cut} of {first} to {last}");
            assert_eq!(check(&store).0, 3_300, "cut at {cut} of {first} to {last}");
            unfinished += findings.unfinished;
        }
    }
    assert!(unfinished > 0, "in none of them did the engine refuse to open");
}

/// Every file below a directory.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).expect("it is there").map_while(Result::ok) {
        if entry.path().is_dir() {
            files.extend(self::files(&entry.path()));
        } else {
            files.push(entry.path());
        }
    }
    files.sort();
    files
}

#[test]
fn whatever_is_damaged_at_rest_the_store_opens_and_makes_nothing_up() {
    let place = Place::new();
    let (store, _) = open(place.path());
    let mut steps = Steps::of(&store);
    for _ in 0..8 {
        steps.take(&store, 200);
        store.commit(&|| {}).expect("the disk takes it");
        store.checkpoint().expect("rest takes it");
    }
    store.stop();
    store.run_commits(&|| {});
    drop(store);
    // The engine's journal takes more room than it uses; copies need not.
    for journal in files(place.path()).iter().filter(|file| file.extension().is_some_and(|kind| kind == "jnl")) {
        let bytes = std::fs::read(journal).expect("it is read");
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        std::fs::write(journal, &bytes[..used]).expect("it is written");
    }
    let mut lot = crate::model::Lot::new(5);
    let names: Vec<PathBuf> = files(&place.path().join("rest"));
    for round in 0..12 {
        let after = Place::new();
        copy(place.path(), after.path());
        let name = names[lot.below(names.len() as u64) as usize].strip_prefix(place.path()).expect("it is within");
        let file = after.path().join(name);
        let mut bytes = std::fs::read(&file).expect("it is read");
        let used = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0) as u64 + 1;
        let at = lot.below(used) as usize;
        match lot.below(3) {
            _ if bytes.is_empty() => {}
            0 => bytes[at] ^= 1 << lot.below(8),
            1 => bytes.truncate(at),
            _ => bytes[at..].iter_mut().take(64).for_each(|byte| *byte = 0),
        }
        std::fs::write(&file, bytes).expect("it is written");
        let what = format!("round {round}, {} at {at}", name.display());
        let opened = Store::open(after.path(), options(), &mut |_, _| {});
        let (store, findings) = opened.unwrap_or_else(|error| panic!("{what}: {error}"));
        for (queue, blob, tag, meta, count) in entries(&store) {
            assert_eq!((queue, &meta[..], count), (tag % 4, &b"meta"[..], 1), "{what}");
            let bytes = store.blob(blob).unwrap_or_else(|error| panic!("{what}: {error}"));
            assert!(bytes.is_none_or(|bytes| bytes == body(tag)), "{what}");
        }
        let seen = (rows(&store, 0).len(), rows(&store, 1).len());
        assert!(seen <= (1, 50), "{what}");
        if findings.damage.is_empty() && findings.unfinished == 0 && store.take_damage().is_empty() {
            assert_eq!(check(&store).0, 1_600, "{what}: nobody noticed");
        }
        // And it goes on.
        let mut batch = Batch::new();
        batch.blob(&[b"new"]);
        batch.enter(1 << 40, BlobRef::This, 1, b"new");
        let new = store.journal().append(&batch, Safety::Synced);
        store.commit(&|| {}).expect("the disk takes it");
        drop(store);
        let (store, _) = open(after.path());
        assert_eq!(entries(&store).last(), Some(&(1 << 40, new.id, 1, b"new".to_vec(), 1)), "{what}");
        assert_eq!(store.blob(new.id).expect("it is read").as_deref(), Some(&b"new"[..]), "{what}");
    }
}
