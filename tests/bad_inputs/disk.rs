//! A disk that fails, tears, forgets and is slow: `disk.c` between the broker and the C library, where nobody needs rights for it.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::broker::{Place, Profile};
use crate::g_authentication::Files;

/// Kinds of calls; several may be added up.
pub(crate) const SYNC: i64 = 1;
pub(crate) const WRITE: i64 = 2;
pub(crate) const READ: i64 = 4;
pub(crate) const OPEN: i64 = 8;
pub(crate) const RENAME: i64 = 16;

/// How a call goes wrong: as the system says it, or one of these.
pub(crate) const SHORT: i64 = -1;
pub(crate) const DIE_BEFORE: i64 = -2;
pub(crate) const DIE_AFTER: i64 = -3;
pub(crate) const EINTR: i64 = 4;
pub(crate) const EIO: i64 = 5;
pub(crate) const EMFILE: i64 = 24;
pub(crate) const ENOSPC: i64 = 28;
pub(crate) const EROFS: i64 = 30;

/// Calls of these kinds go wrong: from the `first`, counted from now on, `count` of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    pub(crate) kinds: i64,
    pub(crate) how: i64,
    pub(crate) first: i64,
    pub(crate) count: i64,
}

/// Places of numbers in the file that is shared.
const KINDS: u64 = 0;
const FIRST: u64 = 1;
const LOSES: u64 = 4;
const SYNC_US: u64 = 5;
const RATE: u64 = 6;
const COUNTED: u64 = 7;
const WRONG: u64 = 8;
const SYNCS: u64 = 9;
/// Where the names of the last rename are, and how long they can be.
const NAMES: u64 = 80;
const NAME_BYTES: usize = 2048;

/// The disk of a broker.
pub(crate) struct Disk {
    files: Files,
    library: String,
    shared: File,
}

impl Disk {
    /// A good one, as fast as this machine's.
    pub(crate) fn new() -> Self {
        let files = Files::new();
        let library = preloaded(&files, "disk", include_str!("disk.c"));
        let shared = files.write("control", vec![0; NAMES as usize + 2 * NAME_BYTES]);
        let shared = OpenOptions::new().read(true).write(true).open(shared).expect("it was just written");
        Self { files, library, shared }
    }

    /// What the broker keeps in this place is on this disk.
    pub(crate) fn give_to(&self, profile: &mut Profile, place: &Place) {
        profile.keeps_in(place);
        profile
            .environment("LD_PRELOAD", &self.library)
            .environment("DISK_CONTROL", self.files.path("control"))
            .environment("DISK_FOLDER", place.data().display().to_string());
    }

    fn set(&self, at: u64, value: i64) {
        self.shared.write_all_at(&value.to_ne_bytes(), at * 8).expect("the file can be written");
    }

    fn get(&self, at: u64) -> i64 {
        let mut bytes = [0; 8];
        self.shared.read_exact_at(&mut bytes, at * 8).expect("the file is that long");
        i64::from_ne_bytes(bytes)
    }

    pub(crate) fn fails(&self, fault: Fault) {
        self.is_well();
        self.set(COUNTED, 0);
        self.set(WRONG, 0);
        for (at, value) in (FIRST..).zip([fault.first, fault.count, fault.how]) {
            self.set(at, value);
        }
        self.set(KINDS, fault.kinds);
    }

    /// Nothing goes wrong any more.
    pub(crate) fn is_well(&self) {
        self.set(KINDS, 0);
    }

    /// Calls of the kinds that were to go wrong, and how many of them did.
    pub(crate) fn counted(&self) -> (i64, i64) {
        (self.get(COUNTED), self.get(WRONG))
    }

    /// What a failed sync was to bring to the disk is not there: some systems forget it then.
    pub(crate) fn forgets_what_it_cannot_sync(&self) {
        self.set(LOSES, 1);
    }

    /// How long each sync takes.
    pub(crate) fn syncs_in(&self, time: std::time::Duration) {
        self.set(SYNC_US, time.as_micros() as i64);
    }

    /// How many bytes it takes in a second; 0: as many as it can.
    pub(crate) fn takes(&self, bytes_per_second: i64) {
        self.set(RATE, bytes_per_second);
    }

    pub(crate) fn syncs(&self) -> i64 {
        self.get(SYNCS)
    }

    /// The last file that got the name of another, or one that was free: what it was called, and what it is.
    pub(crate) fn last_rename(&self) -> [PathBuf; 2] {
        [0, 1].map(|at| {
            let mut bytes = [0; NAME_BYTES];
            self.shared.read_exact_at(&mut bytes, NAMES + at * NAME_BYTES as u64).expect("the file is that long");
            let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(NAME_BYTES);
            PathBuf::from(String::from_utf8_lossy(&bytes[..end]).into_owned())
        })
    }
}

/// A library to be loaded before all others, made with the compiler that building this broker needs as well.
pub(crate) fn preloaded(files: &Files, name: &str, source: &str) -> String {
    let library = files.path(&format!("{name}.so"));
    let source = files.write(&format!("{name}.c"), source);
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    let status = Command::new(compiler).args(["-shared", "-fPIC", "-O1", "-o", &library, &source]).status();
    assert!(status.expect("there is a C compiler").success(), "{name}.c compiles");
    library
}

/// Copies a folder with all that is in it, but for the room at the end of journals that nothing was written to yet.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("the temporary folder can be written");
    for entry in fs::read_dir(from).expect("the folder is there") {
        let path = entry.expect("the folder can be read").path();
        let copied = to.join(path.file_name().expect("it is in a folder"));
        let is_journal = path.extension().is_some_and(|kind| kind == "log" || kind == "jnl");
        if path.is_dir() {
            copy(&path, &copied);
        } else if is_journal {
            fs::write(&copied, used(&path)).expect("the temporary folder can be written");
        } else {
            fs::copy(&path, &copied).expect("the temporary folder can be written");
        }
    }
}

/// The bytes of a file up to the last that is not zero, and some more, since a record may end with zeros.
pub(crate) fn used(path: &Path) -> Vec<u8> {
    const ZEROS: &[u8] = &[0; 4096];
    let about = fs::metadata(path).expect("the file is there");
    if about.blocks() == 0 {
        return Vec::new(); // nothing but a hole
    }
    let mut bytes = fs::read(path).expect("the file is there");
    let mut end = bytes.len();
    while bytes[..end].ends_with(ZEROS) {
        end -= ZEROS.len();
    }
    end = bytes[..end].iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    bytes.truncate(end + 64);
    bytes
}

/// Every file below a folder, in order.
pub(crate) fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { files.extend(files_below(&path)) } else { files.push(path) }
    }
    files.sort();
    files
}

/// The room that a folder takes on the disk, in bytes.
pub(crate) fn room_taken(folder: &Path) -> u64 {
    files_below(folder).iter().filter_map(|path| fs::metadata(path).ok()).map(|about| about.blocks() * 512).sum()
}
