//! Rest in fjall, a log-structured store of keys and values.
//!
//! fjall writes each batch to a journal of its own, whose blocks a power cut may keep in any order; then it refuses to open. The
//! batch in question is then one that our own journal still holds, so the end of fjall's is cut off and the checkpoint done
//! again. Where it does not open for other reasons, as little of it as will do is put aside. `Keyspace::clear` is never called: it is not safe
//! when a crash follows.

use super::rest::{Change, Each, Rest, Space};
use super::{Damage, Error, Findings, Options, Position};
use fjall::config::{FilterPolicy, PartitioningPolicy};
use fjall::{Database, Error as FjallError, Keyspace, KeyspaceCreateOptions, LsmError, PersistMode};
use parking_lot::{Mutex, RwLock};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use xxhash_rust::xxh3::xxh3_128;

/// Where it is in the data directory.
const FOLDER: &str = "rest";

/// fjall's least.
const OWN_JOURNALS_BYTES: u64 = 64 << 20;

/// Tables kept open.
const OPEN_FILES_MAX: usize = 128;

/// What fjall counts for a key and a value beside their bytes.
const PAIR_BYTES: u64 = 64;

/// What fjall ends each batch of its journal with.
const END_OF_BATCH: &[u8] = b"FJL\x03";

/// What fjall marks its folder with, in the one format of its that this version knows.
const FORMAT_MARK: &[u8] = b"FJL\x03";

/// So many batches are cut off at most before all is put aside.
const CUTS_MAX: usize = 64;

/// Rest in a folder of the data directory.
pub(super) struct Engine {
    dir: PathBuf,
    options: Options,
    /// `None` after a failure: fjall takes nothing more then, and is opened anew.
    open: RwLock<Option<Open>>,
    damage: Mutex<Vec<Damage>>,
}

struct Open {
    database: Database,
    spaces: [Keyspace; Space::ALL.len()],
    /// Bytes in the newest memtable of each, or fewer there.
    in_memory: [AtomicU64; Space::ALL.len()],
}

impl Open {
    fn space(&self, space: Space) -> &Keyspace {
        &self.spaces[space as usize]
    }

    /// So many bytes were written to each space. fjall has its one worker begin a new memtable, and while that merges tables, which takes
    /// seconds, the old one grows; where one is begun here, fjall makes us wait when four of a space are to be flushed.
    fn keep_memtables_small(&self, bytes: [u64; Space::ALL.len()], bytes_max: u64) -> Result<(), FjallError> {
        for ((space, in_memory), bytes) in self.spaces.iter().zip(&self.in_memory).zip(bytes) {
            if in_memory.fetch_add(bytes, Ordering::Relaxed) + bytes > bytes_max {
                in_memory.store(0, Ordering::Relaxed);
                space.rotate_memtable()?;
            }
        }
        Ok(())
    }
}

impl Engine {
    /// Opens what is there. What is damaged is put aside; only what may be better another time is an error.
    pub(super) fn open(dir: &Path, options: &Options, findings: &mut Findings) -> Result<Self, Error> {
        mend_mark(dir, findings)?;
        let open = match open_or_cut(dir, options, findings) {
            Ok(open) => open,
            Err(error) if is_damage(&error) => open_what_is_left(dir, options, &error, findings)?,
            Err(error) => return Err(fault("opened")(error)),
        };
        Ok(Self {
            dir: dir.to_owned(),
            options: options.clone(),
            open: RwLock::new(Some(open)),
            damage: Mutex::default(),
        })
    }

    fn with<T>(&self, what: &'static str, job: impl FnOnce(&Open) -> Result<T, FjallError>) -> Result<T, Error> {
        if let Some(open) = &*self.open.read() {
            return job(open).map_err(fault(what));
        }
        let mut place = self.open.write();
        if place.is_none() {
            let open = open_or_cut(&self.dir, &self.options, &mut Findings::default());
            *place = Some(open.map_err(fault("opened again"))?);
        }
        let open = place.as_ref().ok_or_else(|| fault(what)(FjallError::Poisoned))?;
        job(open).map_err(fault(what))
    }
}

/// Damaged places that are passed over to find what can be read behind them.
const FAULTS_MAX: usize = 1_000;

impl Engine {
    /// From the end backwards to what is damaged: the first key after it. The end itself may be damaged in one of several tables.
    fn first_after_damage(&self, space: Space, prefix: &[u8], after: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let pairs = self.with("read", |open| Ok(open.space(space).prefix(prefix)))?;
        let (mut first, mut faults) = (None, 0);
        for pair in pairs.rev() {
            match pair.key() {
                Ok(key) if &*key > after => first = Some(key.to_vec()),
                Err(_) if faults < FAULTS_MAX => faults += 1,
                _ => break,
            }
        }
        Ok(first)
    }

    fn note(&self, space: Space, what: &str, error: &FjallError) {
        self.damage.lock().push(Damage {
            file: FOLDER.into(),
            position: Position(0),
            bytes: 0,
            what: format!("{what} of the {space:?} at rest cannot be read: {error:?}"),
        });
    }
}

impl Rest for Engine {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.with("read", |open| match open.space(space).get(key) {
            Ok(value) => Ok(value.map(|value| value.to_vec())),
            Err(error) if is_damage(&error) => {
                self.note(space, "a value", &error);
                Ok(None)
            }
            Err(error) => Err(error),
        })
    }

    fn scan(&self, space: Space, prefix: &[u8], from: &[u8], each: &mut Each<'_>) -> Result<(), Error> {
        let mut from = prefix.max(from).to_vec();
        loop {
            let pairs = self.with("read", |open| Ok(open.space(space).range(from.as_slice()..)))?;
            let mut last = None;
            let mut fault_found = None;
            for pair in pairs {
                match pair.into_inner() {
                    Ok((key, value)) => {
                        if !key.starts_with(prefix) || !each(&key, &value) {
                            return Ok(());
                        }
                        last = Some(key);
                    }
                    Err(error) if is_damage(&error) => {
                        fault_found = Some(error);
                        break;
                    }
                    Err(error) => return Err(fault("read")(error)),
                }
            }
            let Some(error) = fault_found else { return Ok(()) };
            self.note(space, "a part", &error);
            let after = last.map_or(from, |key| key.to_vec());
            match self.first_after_damage(space, prefix, &after)? {
                Some(next) => from = next,
                None => return Ok(()),
            }
        }
    }

    fn take_damage(&self) -> Vec<Damage> {
        std::mem::take(&mut self.damage.lock())
    }

    fn apply(&self, changes: Vec<Change>) -> Result<(), Error> {
        let done = self.with("written", |open| {
            let mut batch = open.database.batch().durability(Some(PersistMode::SyncAll));
            let mut bytes = [0; Space::ALL.len()];
            // One by one, so that a large change is not there twice.
            for (space, key, value) in changes {
                bytes[space as usize] += (key.len() + value.as_ref().map_or(0, Vec::len)) as u64 + PAIR_BYTES;
                match value {
                    Some(value) => batch.insert(open.space(space), key, value),
                    None => batch.remove(open.space(space), key),
                }
            }
            batch.commit()?;
            open.keep_memtables_small(bytes, self.options.memtable_bytes)
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

/// fjall marks its folder last when it makes it, and makes nothing where something is. Without a mark either it was not done with
/// that when the process ended, and nothing is in there yet, or the mark is lost.
fn mend_mark(dir: &Path, findings: &mut Findings) -> Result<(), Error> {
    let folder = dir.join(FOLDER);
    if !folder.exists() || folder.join("version").exists() {
        return Ok(());
    }
    let names = |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let has_content = |path: PathBuf| fs::read(path).is_ok_and(|bytes| bytes.iter().any(|byte| *byte != 0));
    let io = |source| Error::Io { what: "mend the mark of what is at rest".into(), source };
    let what = if names(&folder.join("keyspaces")).next().is_some() {
        fs::write(folder.join("version"), FORMAT_MARK).map_err(io)?;
        "the mark of the format at rest is missing".into()
    } else if names(&folder).any(has_content) {
        format!("the spaces at rest are missing; what is left is now {}", put_aside(dir, &folder, FOLDER)?.display())
    } else {
        return fs::remove_dir_all(&folder).map_err(io);
    };
    findings.damage.push(Damage { file: FOLDER.into(), position: Position(0), bytes: 0, what });
    Ok(())
}

fn open_once(dir: &Path, options: &Options) -> Result<Open, FjallError> {
    if !manifests_are_right(dir)? {
        return Err(FjallError::Unrecoverable);
    }
    let database = Database::builder(dir.join(FOLDER))
        .cache_size(options.cache_bytes)
        .worker_threads(1)
        .max_cached_files(Some(OPEN_FILES_MAX))
        .max_journaling_size(OWN_JOURNALS_BYTES)
        .manual_journal_persist(true)
        .open()?;
    // What is asked for is there, nearly always: a filter, which is read whole and for a large table is a megabyte, saves nothing.
    let space = |name| {
        database.keyspace(name, || {
            KeyspaceCreateOptions::default()
                .max_memtable_size(2 * options.memtable_bytes)
                .filter_policy(FilterPolicy::disabled())
                .index_block_partitioning_policy(PartitioningPolicy::all(true))
                .manual_journal_persist(true)
        })
    };
    // In the order of `Space::ALL`. The names are for ever.
    let spaces = [space("rows")?, space("entries")?, space("blobs")?, space("references")?, space("about")?];
    Ok(Open { database, spaces, in_memory: Default::default() })
}

/// Opens it; while fjall's own journal does not add up, its last batch is cut off.
fn open_or_cut(dir: &Path, options: &Options, findings: &mut Findings) -> Result<Open, FjallError> {
    for _ in 0..CUTS_MAX {
        match open_once(dir, options) {
            Err(FjallError::JournalRecovery(_)) if cut_last_batch(dir)? => findings.unfinished += 1,
            other => return other,
        }
    }
    open_once(dir, options)
}

/// Takes the end off the last batch in fjall's journal, which is then not finished, and which fjall then leaves out. Says whether
/// there was one.
fn cut_last_batch(dir: &Path) -> io::Result<bool> {
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
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether an error says that the files are damaged, and not that they cannot be read now or by this version.
fn is_damage(error: &FjallError) -> bool {
    let io = |error: &io::Error| {
        use io::ErrorKind::{InvalidData, InvalidInput, NotFound, Other, UnexpectedEof};
        matches!(error.kind(), InvalidData | InvalidInput | NotFound | Other | UnexpectedEof)
    };
    match error {
        FjallError::Io(error) | FjallError::Storage(LsmError::Io(error)) => io(error),
        FjallError::Locked | FjallError::Poisoned => false,
        _ => true,
    }
}

/// One part may be damaged and the others whole: what fjall knows about the whole, or one of the spaces. Each in turn is replaced by
/// one of a fresh database, which has the same number there. Where that does not help, all is put aside.
fn open_what_is_left(
    dir: &Path,
    options: &Options,
    error: &FjallError,
    findings: &mut Findings,
) -> Result<Open, Error> {
    let io = |source| Error::Io { what: "replace what is damaged at rest".into(), source };
    let mut lost = |what: String, to: Option<&Path>| {
        let to = to.map(|to| format!("; it is now {}", to.display())).unwrap_or_default();
        let what = format!("{what} is damaged ({error:?}){to}");
        findings.damage.push(Damage { file: FOLDER.into(), position: Position(0), bytes: 0, what });
    };
    // Another format of fjall's would be another format of ours.
    if let FjallError::InvalidVersion(_) = error {
        fs::write(dir.join(FOLDER).join("version"), FORMAT_MARK).map_err(io)?;
        if let Ok(open) = open_or_cut(dir, options, &mut Findings::default()) {
            lost("the mark of the format at rest".into(), None);
            return Ok(open);
        }
    }
    let fresh = dir.join(format!("{FOLDER}-fresh"));
    let _ = fs::remove_dir_all(&fresh);
    drop(open_once(&fresh, options).map_err(fault("opened"))?);
    for number in 0..=Space::ALL.len() {
        let folder = dir.join(FOLDER).join("keyspaces").join(format!("{number}"));
        let aside = dir.join(format!("{FOLDER}-damaged"));
        let _ = fs::remove_dir_all(&aside);
        if fs::rename(&folder, &aside).is_err() {
            fs::create_dir_all(&aside).map_err(io)?;
        }
        fs::rename(fresh.join(FOLDER).join("keyspaces").join(format!("{number}")), &folder).map_err(io)?;
        if let Ok(open) = open_or_cut(dir, options, &mut Findings::default()) {
            let _ = fs::remove_dir_all(&fresh);
            let space = number.checked_sub(1).map(|at| Space::ALL[at]);
            let name = space.map_or("names".into(), |space| format!("{space:?}").to_lowercase());
            let to = put_aside(dir, &aside, &format!("{FOLDER}-{name}"))?;
            lost(format!("the folder of the {name} at rest"), Some(&to));
            return Ok(open);
        }
        fs::remove_dir_all(&folder).and_then(|()| fs::rename(&aside, &folder)).map_err(io)?;
    }
    let _ = fs::remove_dir_all(&fresh);
    let to = put_aside(dir, &dir.join(FOLDER), FOLDER)?;
    lost("what is at rest".into(), Some(&to));
    open_once(dir, options).map_err(fault("opened"))
}

/// Whether what fjall reads without checking it, and would panic over, is what it wrote: the list of tables of each space. The file
/// `current` has its number and its checksum. Where that is missing, fjall takes the space for one that was not finished, and
/// removes it: which it is only when no other was made after it.
fn manifests_are_right(dir: &Path) -> io::Result<bool> {
    let folders = match fs::read_dir(dir.join(FOLDER).join("keyspaces")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        folders => folders?,
    };
    let number = |folder: &Path| folder.file_name().and_then(|name| name.to_str()?.parse::<u64>().ok());
    let (mut unfinished, mut finished) = (None, None);
    for folder in folders {
        let folder = folder?.path();
        let current = match fs::read(folder.join("current")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                unfinished = unfinished.max(number(&folder));
                continue;
            }
            current => current?,
        };
        finished = finished.max(number(&folder));
        let Some((list, check)) = current.split_first_chunk::<8>() else { return Ok(false) };
        let check = check.first_chunk::<16>().map(|check| u128::from_le_bytes(*check));
        let list = fs::read(folder.join(format!("v{}", u64::from_le_bytes(*list)))).unwrap_or_default();
        if check != Some(xxh3_128(&list)) {
            return Ok(false);
        }
    }
    Ok(unfinished.is_none() || unfinished > finished)
}

/// Moves a folder into quarantine, under this name and a number. Returns where it is then.
fn put_aside(dir: &Path, folder: &Path, name: &str) -> Result<PathBuf, Error> {
    let quarantine = dir.join("quarantine");
    let moved = fs::create_dir_all(&quarantine).and_then(|()| {
        let free = (1..).map(|number| quarantine.join(format!("{name}-{number}"))).find(|path| !path.exists());
        let to = free.ok_or(io::ErrorKind::AlreadyExists)?;
        fs::rename(folder, &to)?;
        File::open(&quarantine)?.sync_all()?;
        File::open(dir)?.sync_all()?;
        Ok(to)
    });
    moved.map_err(|source| Error::Io { what: "put aside what is damaged at rest".into(), source })
}
