//! The data directory: who has it, what format it has, and where what is damaged goes.

use super::batch::{Operation, Operations};
use super::disk::{Disk, read_full, write_all};
use super::record::HEADER_BYTES;
use super::{Damage, Error, Findings, Position};
use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use xxhash_rust::xxh3::xxh3_64;

/// The format that this version writes.
pub(super) const FORMAT: u32 = 1;

pub(super) const FORMAT_FILE: &str = "format";
const QUARANTINE: &str = "quarantine";

/// Holds the directory against other processes until it is dropped.
pub(super) fn lock(dir: &Path) -> Result<File, Error> {
    let fault = |what: &str, source| Error::Io { what: format!("{what} {}", dir.display()), source };
    // What people write to one another lies in it: nobody else's business, whatever the umask.
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|error| fault("make the data directory", error))?;
    let path = dir.join("lock");
    let file = File::options().read(true).write(true).create(true).truncate(false).open(&path);
    let file = file.map_err(|error| fault("lock the data directory", error))?;
    match file.try_lock() {
        Ok(()) => {
            // Only for people: whoever is refused is told whom to stop. The lock is what counts.
            let _ = file.set_len(0).and_then(|()| writeln!(&file, "{}", std::process::id()));
            Ok(file)
        }
        Err(TryLockError::WouldBlock) => {
            let holder = fs::read_to_string(&path).ok().and_then(|pid| pid.trim().parse().ok());
            Err(Error::Locked { dir: dir.to_owned(), holder })
        }
        Err(TryLockError::Error(error)) => Err(fault("lock the data directory", error)),
    }
}

/// What the format file says.
pub(super) enum Format {
    /// A store with this id.
    Store(u64),
    None,
    Damaged,
}

/// Newer formats keep the form of the first line, so that every version can say that it is too old.
pub(super) fn read_format(disk: &dyn Disk, dir: &Path) -> Result<Format, Error> {
    let file = match disk.open(FORMAT_FILE) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Format::None),
        Err(source) => return Err(Error::Io { what: format!("open {FORMAT_FILE}"), source }),
    };
    let mut bytes = [0; 256];
    let read = read_full(&*file, &mut bytes, 0);
    let read = read.map_err(|source| Error::Io { what: format!("read {FORMAT_FILE}"), source })?;
    let Some((format, store)) = parse_format(&bytes[..read]) else { return Ok(Format::Damaged) };
    if format > FORMAT {
        return Err(Error::Newer { path: dir.join(FORMAT_FILE), found: format, known: FORMAT });
    }
    Ok(Format::Store(store))
}

fn parse_format(bytes: &[u8]) -> Option<(u32, u64)> {
    let line = std::str::from_utf8(bytes).ok()?.lines().next()?;
    let (said, check) = line.rsplit_once(" check ")?;
    let is_right = u64::from_str_radix(check, 16).ok()? == xxh3_64(said.as_bytes());
    let mut words = said.strip_prefix("waypost-store format ")?.split(' ');
    let format = words.next()?.parse().ok()?;
    let ("id", id) = (words.next()?, words.next()?) else { return None };
    is_right.then_some((format, u64::from_str_radix(id, 16).ok()?))
}

pub(super) fn write_format(disk: &dyn Disk, store: u64) -> io::Result<()> {
    let said = format!("waypost-store format {FORMAT} id {store:016x}");
    let line = format!("{said} check {:016x}\n", xxh3_64(said.as_bytes()));
    let next = format!("{FORMAT_FILE}.next");
    let file = disk.create(&next)?;
    write_all(&*file, line.as_bytes(), 0)?;
    file.sync()?;
    disk.rename(&next, FORMAT_FILE)?;
    disk.sync_folder("")
}

/// Puts bytes that are damaged beside the data, with a report of what they are. Nothing that goes wrong here is worse than
/// what is being reported.
pub(super) fn quarantine(disk: &dyn Disk, damage: Damage, bytes: &[u8], findings: &mut Findings) {
    let name = format!("{QUARANTINE}/{:016x}-{}", damage.position.0, damage.file.replace('/', "-"));
    let report = format!(
        "{}\n{}, position {}, {} bytes. What can be read of it:\n{}",
        damage.what,
        damage.file,
        damage.position.0,
        damage.bytes,
        describe(bytes)
    );
    let keep = || -> io::Result<()> {
        disk.list(QUARANTINE)?;
        for (name, bytes) in [(format!("{name}.bytes"), bytes), (format!("{name}.txt"), report.as_bytes())] {
            let file = disk.create(&name)?;
            write_all(&*file, bytes, 0)?;
            file.sync()?;
        }
        disk.sync_folder(QUARANTINE)
    };
    let mut damage = damage;
    if let Err(error) = keep() {
        damage.what = format!("{} (and it cannot be put aside: {error})", damage.what);
    }
    findings.damage.push(damage);
}

/// Operations that are named in a report.
const DESCRIBED_MAX: usize = 100;

/// What a record held, as far as it can be read: it is damaged, so none of it is certain.
fn describe(bytes: &[u8]) -> String {
    let mut lines = String::new();
    let short = |bytes: &[u8]| bytes[..bytes.len().min(200)].escape_ascii().to_string();
    for operation in Operations::new(bytes.get(HEADER_BYTES..).unwrap_or_default()).take(DESCRIBED_MAX) {
        lines += &match operation {
            Operation::Blob(bytes) => format!("blob of {} bytes: {}", bytes.len(), short(bytes)),
            Operation::Put { table, key, value, .. } => {
                format!("row of table {table}: {} = {}", short(key), short(value))
            }
            Operation::Delete { table, key } => format!("row of table {table} goes: {}", short(key)),
            Operation::DeleteOf { table, key, blob } => {
                format!("row of table {table} with blob {blob} goes: {}", short(key))
            }
            Operation::Enter { queue, tag, .. } => format!("entry of queue {queue}, tag {tag}"),
            Operation::Mark { queue, blob, tag, .. } => format!("mark in queue {queue}, blob {blob}, tag {tag}"),
            Operation::Leave { queue, blob, tag } => format!("leaves queue {queue}: blob {blob}, tag {tag}"),
            Operation::ClearQueue(queue) => format!("queue {queue} is cleared"),
        };
        lines.push('\n');
    }
    lines
}

/// Puts a whole file aside.
pub(super) fn put_aside(disk: &dyn Disk, file: &str, position: Position, what: &str, findings: &mut Findings) {
    let bytes = disk.open(file).and_then(|file| file.size()).unwrap_or(0);
    let to = format!("{QUARANTINE}/{}", file.replace('/', "-"));
    let moved = disk.list(QUARANTINE).and_then(|_| disk.rename(file, &to)).and_then(|()| disk.sync_folder(QUARANTINE));
    let what = match moved {
        Ok(()) => format!("{what}; it is now {to}"),
        Err(error) => format!("{what} (and it cannot be put aside: {error})"),
    };
    findings.damage.push(Damage { file: file.to_owned(), position, bytes, what });
}
