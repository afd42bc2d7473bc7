//! A disk that forgets: what is not synced may be lost, torn or kept when the power goes, and calls fail when told to.
//!
//! Everything that is done to it is an event. What a crash leaves is made out of the events before it, by lot where the disk has
//! promised nothing: sector by sector for what was written to a file, and in order for what was done to names.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use waypost::store::{Change, Disk, DiskFile, Each, Error, Rest, Space};

/// What the disk writes whole or not at all. Small, so that small records tear.
const SECTOR_BYTES: usize = 16;

pub(crate) type Names = BTreeMap<String, usize>;
pub(crate) type Resting = BTreeMap<(Space, Vec<u8>), Vec<u8>>;

#[derive(Clone, Debug)]
pub(crate) enum Event {
    Create(String, usize),
    Rename(String, String),
    Remove(String),
    SyncFolder,
    Write(usize, u64, Vec<u8>),
    Reserve(usize, u64),
    Sync(usize),
    /// The call failed, and what was to be synced is lost or not, for ever.
    SyncFailed(usize),
    /// A checkpoint is at rest.
    Applied(Vec<Change>),
    /// The journal said that it has come this far: written, synced.
    Reached(u64, u64),
}

/// How calls fail from some call on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failing {
    /// The first call that fails: calls that change something are counted.
    pub(crate) from: u64,
    /// How many fail.
    pub(crate) calls: u64,
    pub(crate) error: Failure,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Failure {
    Broken,
    Full,
    /// Half of it is written, and the next call fails.
    Short,
    /// A signal came; nothing is wrong.
    Interrupted,
    /// Only what goes to rest fails, and is there all the same.
    AtRest,
    /// Only what goes to rest fails.
    RestFull,
}

#[derive(Default)]
pub(crate) struct World {
    pub(crate) events: Vec<Event>,
    pub(crate) rest: Resting,
    names: Names,
    files: BTreeMap<usize, Vec<u8>>,
    next: usize,
    pub(crate) calls: u64,
    /// Bytes that were read from files.
    pub(crate) bytes_read: u64,
    pub(crate) failing: Option<Failing>,
}

/// The disk and the rest of one store.
#[derive(Clone, Default)]
pub(crate) struct Model(Arc<Mutex<World>>);

impl Model {
    pub(crate) fn of(image: Image) -> Self {
        let mut world = World { rest: image.rest, ..World::default() };
        for (name, bytes) in image.files {
            world.files.insert(world.next, bytes);
            world.names.insert(name, world.next);
            world.next += 1;
        }
        Self(Arc::new(Mutex::new(world)))
    }

    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().expect("no test panics with it")
    }

    /// All that there is, as it would be if nothing were lost.
    pub(crate) fn image(&self) -> Image {
        let world = self.world();
        let files = world.names.iter().map(|(name, file)| (name.clone(), world.files[file].clone())).collect();
        Image { files, rest: world.rest.clone() }
    }
}

impl World {
    /// Whether this call fails, and how.
    fn failure(&mut self) -> Option<Failure> {
        self.calls += 1;
        let failing = self.failing?;
        (failing.from..failing.from + failing.calls).contains(&self.calls).then_some(failing.error)
    }

    fn call(&mut self) -> io::Result<()> {
        self.disk_failure().map_or(Ok(()), |failure| Err(failure.into()))
    }

    fn disk_failure(&mut self) -> Option<Failure> {
        self.failure().filter(|failure| !matches!(failure, Failure::AtRest | Failure::RestFull))
    }
}

impl From<Failure> for io::Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Broken | Failure::Short | Failure::AtRest | Failure::RestFull => Self::other("the disk is broken"),
            Failure::Full => io::ErrorKind::StorageFull.into(),
            Failure::Interrupted => io::ErrorKind::Interrupted.into(),
        }
    }
}

impl Disk for Model {
    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let mut world = self.world();
        world.call()?;
        let file = world.next;
        world.next += 1;
        world.files.insert(file, Vec::new());
        world.names.insert(name.to_owned(), file);
        world.events.push(Event::Create(name.to_owned(), file));
        Ok(Box::new(ModelFile { model: self.clone(), file }))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let file = *self.world().names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(ModelFile { model: self.clone(), file }))
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let prefix = format!("{folder}/");
        Ok(self.world().names.keys().filter_map(|name| name.strip_prefix(&prefix)).map(str::to_owned).collect())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut world = self.world();
        world.call()?;
        let file = world.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        world.names.insert(to.to_owned(), file);
        world.events.push(Event::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut world = self.world();
        world.call()?;
        world.names.remove(name).ok_or(io::ErrorKind::NotFound)?;
        world.events.push(Event::Remove(name.to_owned()));
        Ok(())
    }

    fn sync_folder(&self, _: &str) -> io::Result<()> {
        let mut world = self.world();
        world.call()?;
        world.events.push(Event::SyncFolder);
        Ok(())
    }
}

struct ModelFile {
    model: Model,
    file: usize,
}

impl ModelFile {
    fn put(&self, world: &mut World, bytes: &[u8], offset: u64) {
        put(world.files.get_mut(&self.file).expect("files stay"), bytes, offset as usize);
        world.events.push(Event::Write(self.file, offset, bytes.to_vec()));
    }
}

fn put(content: &mut Vec<u8>, bytes: &[u8], offset: usize) {
    let end = offset + bytes.len();
    content.resize(content.len().max(end), 0);
    content[offset..end].copy_from_slice(bytes);
}

impl DiskFile for ModelFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let mut world = self.model.world();
        match world.disk_failure() {
            None => {
                self.put(&mut world, bytes, offset);
                Ok(bytes.len())
            }
            Some(Failure::Short) if bytes.len() > 1 => {
                self.put(&mut world, &bytes[..bytes.len() / 2], offset);
                Ok(bytes.len() / 2)
            }
            Some(failure) => Err(failure.into()),
        }
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut world = self.model.world();
        let content = world.files[&self.file].get(offset as usize..).unwrap_or_default();
        let length = content.len().min(bytes.len());
        bytes[..length].copy_from_slice(&content[..length]);
        world.bytes_read += length as u64;
        Ok(length)
    }

    fn reserve(&self, size: u64) -> io::Result<()> {
        let mut world = self.model.world();
        world.call()?;
        world.files.get_mut(&self.file).expect("files stay").resize(size as usize, 0);
        world.events.push(Event::Reserve(self.file, size));
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.model.world().files[&self.file].len() as u64)
    }

    fn sync(&self) -> io::Result<()> {
        let mut world = self.model.world();
        let failure = world.disk_failure();
        world.events.push(if failure.is_none() { Event::Sync(self.file) } else { Event::SyncFailed(self.file) });
        failure.map_or(Ok(()), |failure| Err(failure.into()))
    }
}

impl Rest for Model {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.world().rest.get(&(space, key.to_vec())).cloned())
    }

    fn scan(&self, space: Space, prefix: &[u8], from: &[u8], each: &mut Each<'_>) -> Result<(), Error> {
        let world = self.world();
        for ((found, key), value) in world.rest.range((space, prefix.max(from).to_vec())..) {
            if *found != space || !key.starts_with(prefix) || !each(key, value) {
                break;
            }
        }
        Ok(())
    }

    fn apply(&self, changes: Vec<Change>) -> Result<(), Error> {
        let mut world = self.world();
        let failure = world.failure();
        // One that failed may have done what it was to do.
        if failure.is_none_or(|failure| failure == Failure::AtRest) {
            change(&mut world.rest, &changes);
            world.events.push(Event::Applied(changes));
        }
        failure.map_or(Ok(()), |failure| Err(Error::Rest { what: "written", why: format!("{failure:?}") }))
    }
}

fn change(rest: &mut Resting, changes: &[Change]) {
    for (space, key, value) in changes {
        match value {
            Some(value) => rest.insert((*space, key.clone()), value.clone()),
            None => rest.remove(&(*space, key.clone())),
        };
    }
}

/// What a crash left.
#[derive(Clone, Default, Debug)]
pub(crate) struct Image {
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    pub(crate) rest: Resting,
}

/// How a crash ends things.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Crash {
    /// The process is killed; the machine goes on.
    Kill,
    /// The power goes. So many of 16 sectors that were on their way arrived.
    Power(u32),
    /// The power goes, and what was on its way arrived in order, up to some sector.
    Torn,
}

/// Follows the events, and makes what a crash would leave.
#[derive(Clone, Default)]
pub(crate) struct Follower {
    names: Names,
    kept_names: Names,
    /// What was done to names since the last sync.
    names_pending: Vec<Event>,
    files: BTreeMap<usize, File>,
    rest: Resting,
    /// How far the journal said it has come: written, synced.
    pub(crate) reached: (u64, u64),
}

#[derive(Clone, Default)]
struct File {
    now: Vec<u8>,
    kept: Vec<u8>,
    pending: Vec<Pending>,
}

#[derive(Clone)]
enum Pending {
    Write(u64, Vec<u8>),
    Reserve(u64),
}

fn rename(names: &mut Names, event: &Event) {
    match event {
        Event::Create(name, file) => drop(names.insert(name.clone(), *file)),
        Event::Rename(from, to) => {
            if let Some(file) = names.remove(from) {
                names.insert(to.clone(), file);
            }
        }
        Event::Remove(name) => drop(names.remove(name)),
        _ => {}
    }
}

impl Follower {
    /// From an image, all of which is safe.
    pub(crate) fn of(image: &Image) -> Self {
        let mut follower = Self { rest: image.rest.clone(), ..Self::default() };
        for (file, (name, bytes)) in image.files.iter().enumerate() {
            follower.names.insert(name.clone(), file);
            follower.files.insert(file, File { now: bytes.clone(), kept: bytes.clone(), pending: Vec::new() });
        }
        follower.kept_names = follower.names.clone();
        follower
    }

    pub(crate) fn follow(&mut self, event: &Event, lot: &mut Lot) {
        match event {
            Event::Create(_, file) => {
                self.files.insert(*file, File::default());
                rename(&mut self.names, event);
                self.names_pending.push(event.clone());
            }
            Event::Rename(..) | Event::Remove(_) => {
                rename(&mut self.names, event);
                self.names_pending.push(event.clone());
            }
            Event::SyncFolder => {
                self.kept_names = self.names.clone();
                self.names_pending.clear();
            }
            Event::Write(file, offset, bytes) => {
                let file = self.files.get_mut(file).expect("it was made");
                put(&mut file.now, bytes, *offset as usize);
                file.pending.push(Pending::Write(*offset, bytes.clone()));
            }
            Event::Reserve(file, size) => {
                let file = self.files.get_mut(file).expect("it was made");
                file.now.resize(*size as usize, 0);
                file.pending.push(Pending::Reserve(*size));
            }
            Event::Sync(file) => {
                let file = self.files.get_mut(file).expect("it was made");
                for pending in std::mem::take(&mut file.pending) {
                    file.keep(&pending, &mut |_| true);
                }
            }
            Event::SyncFailed(file) => {
                let file = self.files.get_mut(file).expect("it was made");
                for pending in std::mem::take(&mut file.pending) {
                    file.keep(&pending, &mut |_| lot.below(2) == 0);
                }
            }
            Event::Applied(changes) => change(&mut self.rest, changes),
            Event::Reached(written, synced) => self.reached = (*written, *synced),
        }
    }

    pub(crate) fn crash(&self, crash: Crash, lot: &mut Lot) -> Image {
        let mut names = self.kept_names.clone();
        if crash == Crash::Kill {
            names.clone_from(&self.names);
        } else {
            let arrived = lot.below(self.names_pending.len() as u64 + 1) as usize;
            self.names_pending[..arrived].iter().for_each(|event| rename(&mut names, event));
        }
        let mut files = BTreeMap::new();
        for (name, file) in names {
            files.insert(name, self.files[&file].after(crash, lot));
        }
        Image { files, rest: self.rest.clone() }
    }
}

impl File {
    /// What is on its way arrives, as far as the lot says so for each sector.
    fn keep(&mut self, pending: &Pending, arrives: &mut dyn FnMut(usize) -> bool) {
        match pending {
            Pending::Reserve(size) => {
                if arrives(0) {
                    self.kept.resize(*size as usize, 0);
                }
            }
            Pending::Write(offset, bytes) => {
                let mut at = 0;
                while at < bytes.len() {
                    let offset = *offset as usize + at;
                    let end = (at + SECTOR_BYTES - offset % SECTOR_BYTES).min(bytes.len());
                    if arrives(end - at) {
                        put(&mut self.kept, &bytes[at..end], offset);
                    }
                    at = end;
                }
            }
        }
    }

    fn after(&self, crash: Crash, lot: &mut Lot) -> Vec<u8> {
        if crash == Crash::Kill {
            return self.now.clone();
        }
        let mut file = Self { kept: self.kept.clone(), ..Self::default() };
        let bytes: usize = self
            .pending
            .iter()
            .map(|pending| if let Pending::Write(_, bytes) = pending { bytes.len() } else { 0 })
            .sum();
        let mut left = lot.below(bytes as u64 + 1) as usize;
        for pending in &self.pending {
            file.keep(pending, &mut |size| match crash {
                Crash::Power(of_16) => lot.below(16) < u64::from(of_16),
                _ => {
                    let arrives = left >= size;
                    left = if arrives { left - size } else { 0 };
                    arrives
                }
            });
        }
        file.kept
    }
}

/// Draws lots, always the same ones for a seed.
#[derive(Clone)]
pub(crate) struct Lot(u64);

impl Lot {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Less than `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 11) % bound
    }
}
