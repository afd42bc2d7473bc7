//! The store of a node: opened before anybody is served, its two threads, and its end.

use super::NodeError;
use crate::broker::{Counts, Keeping, Recall, RestoredClient, Shared, Wanted};
use crate::config::{Config, Durability};
use crate::net::Clock;
use crate::store::{Damage, Options, Safety, Store};
use std::cell::Cell;
use std::io;
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often the log is told how far a start is.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// A store that is open. With `durability = "memory"` there is none.
pub(super) struct Keeper {
    store: Arc<Store>,
    /// To the thread that reads what the shards want; `None` ends it.
    wanted: mpsc::Sender<Option<Wanted>>,
    /// Until that thread has it.
    asked: Mutex<Option<mpsc::Receiver<Option<Wanted>>>>,
    threads: Vec<JoinHandle<()>>,
}

/// Queues of which the shards want a part.
struct Asked(mpsc::Sender<Option<Wanted>>);

impl Recall for Asked {
    fn recall(&self, wanted: Wanted) {
        let _ = self.0.send(Some(wanted)); // the node has ended
    }
}

/// Opens the store, and says what was found in it.
///
/// # Errors
/// It is in use by another process, of a newer version, or cannot be read or written.
pub(super) fn open(config: &Config, clock: Clock) -> Result<Option<(Keeper, Keeping)>, NodeError> {
    let safety = match config.store.durability {
        Durability::Memory => return Ok(None),
        Durability::Os => Safety::Written,
        Durability::Disk => Safety::Synced,
    };
    let options = Options { commit_wait: config.store.commit_wait, ..Options::default() };
    let folder = &config.node.data_dir;
    let mut said = 0;
    let mut progress = |done: u64, of: u64| {
        let tenth = (done * 10).checked_div(of).unwrap_or(10);
        if of > 0 && tenth > said {
            said = tenth;
            tracing::info!(target: "waypost::store", done, of, "reading the journal");
        }
    };
    let (store, findings) = Store::open(folder, options, &mut progress)?;
    if findings.torn_bytes > 0 {
        let bytes = findings.torn_bytes;
        tracing::info!(target: "waypost::store", bytes, "the end of the journal was not complete; nobody had been told that it is safe");
    }
    for damage in &findings.damage {
        note_damage(damage, &format!("in {}", folder.join("quarantine").display()));
    }
    let began_unix_ms = ((super::logins::wall_clock() * 1000.0) as u64).saturating_sub(clock.now().as_millis());
    let (wanted, asked) = mpsc::channel();
    let recall: Arc<dyn Recall> = Arc::new(Asked(wanted.clone()));
    let keeping = Keeping { journal: store.journal(), recall: Some(recall), safety, began_unix_ms };
    Ok(Some((Keeper { store: Arc::new(store), wanted, asked: Mutex::new(Some(asked)), threads: Vec::new() }, keeping)))
}

impl Keeper {
    /// What the store holds, for each shard.
    ///
    /// # Errors
    /// It cannot be read.
    pub(super) fn restore(&self, shared: &Shared, clock: Clock) -> Result<Vec<Vec<RestoredClient>>, NodeError> {
        let mut said = clock.now();
        let (clients, counts) = shared.restore(&self.store, clock.now(), &mut |retained, of| {
            if said.plus(PROGRESS_EVERY) <= clock.now() {
                said = clock.now();
                tracing::info!(target: "waypost::store", retained, of, "reading the store");
            }
        })?;
        let Counts { sessions, subscriptions, retained, queued, expired, unreadable } = counts;
        tracing::info!(target: "waypost::store", sessions, subscriptions, retained, queued, expired, "the store is read");
        if unreadable > 0 {
            tracing::error!(target: "waypost::store", unreadable, "rows of the store that cannot be read are left out");
        }
        Ok(clients)
    }

    /// Starts the threads that commit, that move to rest, and that read what is in the store alone.
    ///
    /// # Errors
    /// The system has no thread for us.
    pub(super) fn start(&mut self, shared: &Arc<Shared>) -> io::Result<()> {
        let for_recalls = Arc::clone(shared);
        let (store, shared) = (Arc::clone(&self.store), Arc::clone(shared));
        let commits = std::thread::Builder::new().name("waypost-commit".to_owned());
        self.threads.push(commits.spawn(move || {
            let journal = store.journal();
            let told = Cell::new(false);
            store.run_commits(&|| {
                note_trouble(journal.trouble(), &told, "the disk does not take what is to be kept");
                shared.note_journal_moved();
            });
        })?);
        if let Some(asked) = self.asked.get_mut().ok().and_then(Option::take) {
            let (store, shared) = (Arc::clone(&self.store), Arc::clone(&for_recalls));
            let recalls = std::thread::Builder::new().name("waypost-recall".to_owned());
            self.threads.push(recalls.spawn(move || run_recalls(&asked, &store, &shared))?);
        }
        let store = Arc::clone(&self.store);
        let checkpoints = std::thread::Builder::new().name("waypost-rest".to_owned());
        self.threads.push(checkpoints.spawn(move || {
            let (journal, told) = (store.journal(), Cell::new(false));
            store.run_checkpoints(&|| {
                note_trouble(journal.rest_trouble(), &told, "the journal grows, since it cannot be moved to rest");
                store.take_damage().iter().for_each(|damage| note_damage(damage, "in the data folder"));
            });
        })?);
        Ok(())
    }

    pub(super) fn store(&self) -> Arc<Store> {
        Arc::clone(&self.store)
    }

    /// Commits what is left and closes. Nobody may append any more.
    pub(super) fn stop(self) {
        self.store.stop();
        let _ = self.wanted.send(None); // it has ended
        for thread in self.threads {
            let _ = thread.join(); // it has panicked, and the log says so
        }
    }
}

/// Reads what the shards want, until the store stops. What the disk does not give is tried again.
fn run_recalls(asked: &mpsc::Receiver<Option<Wanted>>, store: &Store, shared: &Shared) {
    while let Ok(Some(mut wanted)) = asked.recv() {
        let mut told = false;
        while !store.is_stopping() {
            match wanted.read(store) {
                Ok(Some(entries)) => {
                    shared.recalled(wanted, entries);
                    break;
                }
                Ok(None) => store.wait_for_written(wanted.up_to()),
                Err(error) => {
                    if !std::mem::replace(&mut told, true) {
                        tracing::error!(target: "waypost::store", "what waits on the disk cannot be read, and is tried again: {error}");
                    }
                    std::thread::park_timeout(TRIES_AGAIN_AFTER);
                }
            }
        }
    }
}

/// After the disk has not given what it was asked for.
const TRIES_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// Trouble with the disk, and its end, are said once each.
fn note_trouble(trouble: Option<Arc<str>>, told: &Cell<bool>, what: &str) {
    match (&trouble, told.replace(trouble.is_some())) {
        (Some(why), false) => tracing::error!(target: "waypost::store", "{what}: {why}"),
        (None, true) => tracing::info!(target: "waypost::store", "no more: {what}"),
        _ => {}
    }
}

fn note_damage(damage: &Damage, aside: &str) {
    let Damage { file, position, bytes, what } = damage;
    tracing::error!(target: "waypost::store", file, position = position.0, bytes, "damaged, and put aside {aside}: {what}");
}
