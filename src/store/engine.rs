//! Rest in fjall, a log-structured store of keys and values.
//!
//! fjall writes each batch to a journal of its own, whose blocks a power cut may keep in any order; then it refuses to open. The
//! batch in question is then one that our own journal still holds, so the end of fjall's is cut off and the checkpoint done
//! again. Where it does not open for other reasons, all of it is put aside. `Keyspace::clear` is never called: it is not safe
//! when a crash follows.

use super::rest::{Change, Each, Rest, Space};
use super::{Damage, Error, Findings, Position};
use fjall::{Database, Error as FjallError, Keyspace, KeyspaceCreateOptions, LsmError, PersistMode};
use parking_lot::RwLock;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// Where it is in the data directory.
const FOLDER: &str = "rest";

/// What has been written and not yet sorted into tables, for each space. It is memory.
const MEMTABLE_BYTES: u64 = 8 << 20;

/// fjall's least.
const OWN_JOURNALS_BYTES: u64 = 64 << 20;

/// Tables kept open.
const OPEN_FILES_MAX: usize = 128;

/// What fjall ends each batch of its journal with.
const END_OF_BATCH: &[u8] = b"FJL\x03";

/// So many batches are cut off at most before all is put aside.
const CUTS_MAX: usize = 64;

/// Rest in a folder of the data directory.
pub(super) struct Engine {
    dir: PathBuf,
    cache_bytes: u64,
    /// `None` after a failure: fjall takes nothing more then, and is opened anew.
    open: RwLock<Option<Open>>,
}

struct Open {
    database: Database,
    spaces: [Keyspace; Space::ALL.len()],
}

impl Open {
    fn space(&self, space: Space) -> &Keyspace {
        &self.spaces[space as usize]
    }
}

impl Engine {
    /// Opens what is there. What is damaged is put aside; only what may be better another time is an error.
    pub(super) fn open(dir: &Path, cache_bytes: u64, findings: &mut Findings) -> Result<Self, Error> {
        let open = match open_or_cut(dir, cache_bytes, findings) {
            Ok(open) => open,
            Err(error) if is_damage(&error) => {
                put_aside(dir, &error, findings)?;
                open_once(dir, cache_bytes).map_err(fault("opened"))?
            }
            Err(error) => return Err(fault("opened")(error)),
        };
        Ok(Self { dir: dir.to_owned(), cache_bytes, open: RwLock::new(Some(open)) })
    }

    fn with<T>(&self, what: &'static str, job: impl Fn(&Open) -> Result<T, FjallError>) -> Result<T, Error> {
        if let Some(open) = &*self.open.read() {
            return job(open).map_err(fault(what));
        }
        let mut place = self.open.write();
        if place.is_none() {
            let open = open_or_cut(&self.dir, self.cache_bytes, &mut Findings::default());
            *place = Some(open.map_err(fault("opened again"))?);
        }
        place.as_ref().map_or_else(|| Err(fault(what)(FjallError::Poisoned)), |open| job(open).map_err(fault(what)))
    }
}

impl Rest for Engine {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.with("read", |open| Ok(open.space(space).get(key)?.map(|value| value.to_vec())))
    }

    fn scan(&self, space: Space, prefix: &[u8], each: &mut Each<'_>) -> Result<(), Error> {
        let found = self.with("read", |open| Ok(open.space(space).prefix(prefix)))?;
        for pair in found {
            let (key, value) = pair.into_inner().map_err(fault("read"))?;
            if !each(&key, &value) {
                break;
            }
        }
        Ok(())
    }

    fn apply(&self, changes: Vec<Change>) -> Result<(), Error> {
        let done = self.with("written", |open| {
            let mut batch = open.database.batch().durability(Some(PersistMode::SyncAll));
            for (space, key, value) in &changes {
                match value {
                    Some(value) => batch.insert(open.space(*space), key.as_slice(), value.as_slice()),
                    None => batch.remove(open.space(*space), key.as_slice()),
                }
            }
            batch.commit()
        });
        if done.is_err() {
            *self.open.write() = None;
        }
        done
    }
}

fn fault(what: &'static str) -> impl FnOnce(FjallError) -> Error {
    move |error| Error::Rest { what, why: format!("{error:?}") }
}

fn open_once(dir: &Path, cache_bytes: u64) -> Result<Open, FjallError> {
    let database = Database::builder(dir.join(FOLDER))
        .cache_size(cache_bytes)
        .worker_threads(1)
        .max_cached_files(Some(OPEN_FILES_MAX))
        .max_journaling_size(OWN_JOURNALS_BYTES)
        .manual_journal_persist(true)
        .open()?;
    let space = |name| {
        database.keyspace(name, || {
            KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES).manual_journal_persist(true)
        })
    };
    // In the order of `Space::ALL`. The names are for ever.
    let spaces = [space("rows")?, space("entries")?, space("blobs")?, space("references")?, space("about")?];
    Ok(Open { database, spaces })
}

/// Opens it; while fjall's own journal does not add up, its last batch is cut off.
fn open_or_cut(dir: &Path, cache_bytes: u64, findings: &mut Findings) -> Result<Open, FjallError> {
    for _ in 0..CUTS_MAX {
        match open_once(dir, cache_bytes) {
            Err(FjallError::JournalRecovery(_)) => match cut_last_batch(dir) {
                Ok(Some(file)) => findings.damage.push(Damage {
                    file,
                    position: Position(0),
                    bytes: 0,
                    what: "the last change of what is at rest was not finished; it was undone".into(),
                }),
                _ => break,
            },
            other => return other,
        }
    }
    open_once(dir, cache_bytes)
}

/// Takes the end off the last batch in fjall's journal, which is then not finished, and which fjall then leaves out.
fn cut_last_batch(dir: &Path) -> io::Result<Option<String>> {
    let mut journals: Vec<(u64, PathBuf)> = Vec::new();
    for file in fs::read_dir(dir.join(FOLDER))? {
        let path = file?.path();
        let number = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse().ok());
        if let Some(number) = number.filter(|_| path.extension().is_some_and(|extension| extension == "jnl")) {
            journals.push((number, path));
        }
    }
    journals.sort();
    for (_, path) in journals.into_iter().rev() {
        let bytes = fs::read(&path)?;
        if let Some(end) = memchr::memmem::rfind(&bytes, END_OF_BATCH) {
            let file = File::options().write(true).open(&path)?;
            file.set_len(end as u64)?;
            file.sync_all()?;
            let name = path.strip_prefix(dir).unwrap_or(&path).to_string_lossy().into_owned();
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// Whether an error says that the files are damaged, and not that they cannot be read now or by this version.
fn is_damage(error: &FjallError) -> bool {
    let io = |error: &io::Error| {
        use io::ErrorKind::{InvalidData, InvalidInput, NotFound, Other, UnexpectedEof};
        matches!(error.kind(), InvalidData | InvalidInput | NotFound | Other | UnexpectedEof)
    };
    match error {
        FjallError::Io(error) | FjallError::Storage(LsmError::Io(error)) => io(error),
        FjallError::Locked | FjallError::Poisoned | FjallError::InvalidVersion(Some(_)) => false,
        _ => true,
    }
}

fn put_aside(dir: &Path, error: &FjallError, findings: &mut Findings) -> Result<(), Error> {
    let quarantine = dir.join("quarantine");
    let moved = fs::create_dir_all(&quarantine).and_then(|()| {
        let free = (1..).map(|number| quarantine.join(format!("{FOLDER}-{number}"))).find(|path| !path.exists());
        let to = free.ok_or(io::ErrorKind::AlreadyExists)?;
        fs::rename(dir.join(FOLDER), &to)?;
        File::open(&quarantine)?.sync_all()?;
        File::open(dir)?.sync_all()?;
        Ok(to)
    });
    let to = moved.map_err(|source| Error::Io { what: "put aside what is damaged at rest".into(), source })?;
    findings.damage.push(Damage {
        file: FOLDER.into(),
        position: Position(0),
        bytes: 0,
        what: format!("what is at rest is damaged ({error:?}); it is now {}", to.display()),
    });
    Ok(())
}
