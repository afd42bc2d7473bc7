//! T: what is in the data folder is damaged, made up, of another version, of another broker, or cannot be written.
//!
//! Most of the damage of T01 is done to copies that the store opens in this process, since each start of a broker takes a while; `tests/store`
//! does much more of it on a disk in memory. What a Client sees of it is V07.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::broker::{Broker, Place, Profile, Usage};
use crate::client::{Client, Event, connected};
use crate::disk::{Disk, EROFS, Fault, OPEN, SYNC, WRITE, copy, files_below, used};
use crate::n_exhaustion::wait_until;
use crate::packet::{Version, code, kind, publish, subscribe};
use crate::rules::{Scene, Turn, busyness, load};
use crate::transport::{Noise, PATIENCE};
use waypost::store::{Findings, Options, Store};
use xxhash_rust::xxh3::xxh3_64;

each_version_over_tcp! {
    t10_folder_not_writable,
}

const MIB: u64 = 1024 * 1024;
/// Retained messages in the store that is damaged.
const KEPT: usize = 40;
/// The table of retained messages, which is for ever.
const RETAINED: u8 = 3;
const SEGMENT_HEADER_BYTES: usize = 40;

fn profile_in(place: &Place) -> Profile {
    let mut profile = Profile::test();
    profile.keeps_in(place);
    profile
}

fn payload(number: usize) -> String {
    format!("payload number {number:04} and a little more of it")
}

/// A store that a broker has left, with numbered retained messages, each of them in a record of its own.
fn left_by_a_broker() -> Place {
    let place = Place::new();
    let mut broker = Broker::start(&profile_in(&place));
    let mut client = connected(broker.address(), Version::V5, "t-writer");
    for number in 0..KEPT {
        let message = publish(Version::V5, format!("ok/t/{number:04}"), payload(number)).retained().qos(1, 1);
        let answer = client.send(&message.bytes()).receive_ack(kind::PUBACK, 1);
        assert!(answer <= code::NO_MATCHING_SUBSCRIBERS);
    }
    broker.kill();
    place
}

/// The one journal segment of a store.
#[track_caller]
fn segment(data: &Path) -> PathBuf {
    let mut files = files_below(&data.join("journal"));
    files.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    assert_eq!(files.len(), 1, "{files:?}");
    files.remove(0)
}

/// What a store holds: which of the numbered messages, all of which are what they were.
#[track_caller]
fn opened(data: &Path, what: &str) -> (Vec<usize>, Findings, Store) {
    let (store, findings) = Store::open(data, Options::default(), &mut |_, _| ())
        .unwrap_or_else(|error| panic!("{what}: the store does not open: {error}"));
    let mut rows = Vec::new();
    store.rows(RETAINED, &mut |topic, _, blob| rows.push((topic.to_vec(), blob))).expect("rows are read");
    let mut numbers = Vec::new();
    for (topic, blob) in rows {
        let topic = String::from_utf8(topic).expect("a topic is UTF-8");
        let number = topic.strip_prefix("ok/t/").and_then(|number| number.parse().ok()).expect("one of ours");
        let Some(bytes) = store.blob(blob).expect("blobs are read") else { continue };
        assert!(bytes.ends_with(payload(number).as_bytes()), "{what}: {number} is not what it was");
        numbers.push(number);
    }
    (numbers, findings, store)
}

/// Copies of one store, one after another.
struct Copies {
    original: PathBuf,
    work: PathBuf,
    _place: Place,
}

impl Copies {
    fn of(place: Place) -> Self {
        // Without the room that the store takes beforehand, so that copies cost little.
        let (original, work) = (place.path().join("original"), place.path().join("copy"));
        copy(&place.data(), &original);
        Self { original, work, _place: place }
    }

    fn another(&self) -> &Path {
        let _ = fs::remove_dir_all(&self.work);
        copy(&self.original, &self.work);
        &self.work
    }
}

/// Where the record of each message begins and ends in a segment, at the latest.
fn records(segment: &[u8]) -> Vec<Range<usize>> {
    let at = |number: usize| memchr::memmem::find(segment, payload(number).as_bytes()).expect("it is in the journal");
    let starts: Vec<usize> = (0..KEPT).map(at).collect();
    let ends = starts.iter().skip(1).copied().chain([segment.len()]);
    starts.iter().copied().zip(ends).map(|(start, end)| start..end).collect()
}

/// Cut anywhere, with a bit that is not what it was, or zeros at the end: what is whole is there, and what is lost is said.
#[test]
fn t01_damaged_store() {
    let _turn = Turn::beside_others();
    let copies = Copies::of(left_by_a_broker());
    let whole = used(&segment(&copies.original));
    let records = records(&whole);
    let mut noise = Noise(0x1001_2545_F491_4F6C);
    let mut anywhere = |below: usize| {
        let bytes = [(); 4].map(|()| noise.byte());
        u32::from_le_bytes(bytes) as usize % below
    };
    // Cut, and where the rest is zeros instead.
    let cuts = load(12, whole.len().min(64 * 1024));
    for round in 0..cuts {
        let cut = if cuts > 12 { whole.len() - round - 1 } else { anywhere(whole.len()) };
        let data = copies.another();
        let mut bytes = whole[..cut].to_vec();
        if round % 2 == 1 {
            bytes.resize(whole.len(), 0);
        }
        fs::write(segment(data), bytes).expect("it is ours");
        let (numbers, findings, _) = opened(data, &format!("cut at {cut}"));
        let intact = records.iter().take_while(|record| record.end <= cut).count().saturating_sub(1);
        assert!(numbers.len() >= intact, "cut at {cut}: {numbers:?} of {intact}, {findings:?}");
        assert!(numbers.iter().copied().eq(0..numbers.len()), "cut at {cut}: {numbers:?}");
    }
    // A bit.
    let flips = load(16, 10_000);
    for _ in 0..flips {
        let (at, bit) = (anywhere(whole.len()), anywhere(8));
        let data = copies.another();
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << bit;
        fs::write(segment(data), bytes).expect("it is ours");
        let (numbers, findings, _) = opened(data, &format!("bit {bit} of byte {at}"));
        assert!(numbers.len() + 1 >= KEPT, "bit {bit} of byte {at}: {numbers:?}, {findings:?}");
        let is_told = !findings.damage.is_empty() || findings.torn_bytes > 0;
        assert!(numbers.len() == KEPT || is_told, "bit {bit} of byte {at}: {numbers:?}, and nobody says so");
        let aside = files_below(&data.join("quarantine"));
        assert!(findings.damage.iter().all(|damage| damage.bytes == 0) || !aside.is_empty(), "{findings:?}");
    }
    crate::report(&format!("t01: {cuts} cuts and {flips} bits in {} bytes", whole.len()));
}

/// A file is missing, or has the place of another.
#[test]
fn t01_missing_and_swapped_files() {
    let _turn = Turn::beside_others();
    let place = left_by_a_broker();
    // The messages are at rest then.
    drop(opened(&place.data(), "the original"));
    let copies = Copies::of(place);
    let names: Vec<PathBuf> = files_below(&copies.original)
        .iter()
        .map(|path| path.strip_prefix(&copies.original).expect("it is in it").to_owned())
        .collect();
    let mut whole = 0;
    for name in &names {
        let data = copies.another();
        fs::remove_file(data.join(name)).expect("it is ours");
        let what = format!("without {}", name.display());
        let (numbers, findings, store) = opened(data, &what);
        let is_told = !findings.damage.is_empty() || findings.unfinished > 0 || !store.take_damage().is_empty();
        assert!(numbers.len() == KEPT || is_told, "{what}: {numbers:?}, and nobody says so");
        whole += usize::from(numbers.len() == KEPT);
    }
    let mut noise = Noise(0x1002_2545_F491_4F6C);
    for _ in 0..load(6, 200) {
        let [one, other] = [(); 2].map(|()| &names[usize::from(noise.byte()) % names.len()]);
        let data = copies.another();
        let between = data.join("between");
        fs::rename(data.join(one), &between).expect("it is ours");
        // The same one: then there is nothing in its place.
        let _ = fs::rename(data.join(other), data.join(one));
        fs::rename(between, data.join(other)).expect("it is ours");
        opened(data, &format!("{} and {} swapped", one.display(), other.display()));
    }
    crate::report(&format!("t01: {} files, {whole} of which nobody misses", names.len()));
    // And a broker goes on with what is left.
    let data = copies.another();
    let place = Place::new();
    fs::remove_file(data.join("format")).expect("it is ours");
    copy(data, &place.data());
    let broker = Broker::start(&profile_in(&place));
    assert_eq!(kept(&broker).len(), KEPT);
}

/// The numbers of the messages that a broker has retained, all of which are what they were.
#[track_caller]
fn kept(broker: &Broker) -> Vec<usize> {
    let mut reader = connected(broker.address(), Version::V5, "t-reader");
    reader.send(&subscribe(Version::V5, 1, &[(b"ok/t/#", 0)])).receive_kind(kind::SUBACK);
    let packets = reader.settle();
    let mut numbers: Vec<usize> = packets
        .iter()
        .map(|packet| {
            let message = packet.delivery(Version::V5);
            let topic = String::from_utf8(message.topic).expect("a topic is UTF-8");
            let number = topic.rsplit('/').next().and_then(|number| number.parse().ok()).expect("a number");
            assert_eq!(message.payload, payload(number).as_bytes());
            number
        })
        .collect();
    numbers.sort_unstable();
    numbers
}

/// A record that says it is so long and has this batch, right in all its checksums.
fn record(store: u64, position: u64, length: u32, batch: &[u8]) -> Vec<u8> {
    let mut head = [store.to_le_bytes(), position.to_le_bytes()].concat();
    let (back, body) = (0_u32.to_le_bytes(), (xxh3_64(batch) as u32).to_le_bytes());
    head.extend([length.to_le_bytes(), back, body].concat());
    let check = (xxh3_64(&head) as u32).to_le_bytes();
    [&length.to_le_bytes()[..], &back, &check, &body, batch].concat()
}

/// Records that lie about how much they hold, and are right in all else, are left out at once, and cost nothing.
#[test]
fn t02_lying_record() {
    let _turn = Turn::beside_others();
    let original = left_by_a_broker();
    let copies = Copies::of(original);
    let starts = |what: &str, more: &[u8]| -> (Usage, Duration, String) {
        let place = Place::new();
        copy(copies.another(), &place.data());
        let path = segment(&place.data());
        let mut bytes = fs::read(&path).expect("it is ours");
        bytes.truncate(end_of_records(&bytes));
        bytes.extend(more);
        fs::write(path, bytes).expect("it is ours");
        let begun = Instant::now();
        let broker = Broker::start(&profile_in(&place));
        let took = begun.elapsed();
        assert_eq!(kept(&broker).len(), KEPT, "{what}");
        let log = broker.log();
        assert!(!log.contains("panicked"), "{what}:\n{log}");
        (broker.usage().expect("it is ours"), took, log)
    };
    let bytes = used(&segment(copies.another()));
    let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    let (store, end) = (number(16), number(24) + (end_of_records(&bytes) - SEGMENT_HEADER_BYTES) as u64);
    let (good, ..) = starts("as it was", &[]);
    let huge = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
    let batch = |first: &[u8], rest: &[u8]| [first, &huge, rest].concat();
    let after = |lie: Vec<u8>| {
        let position = end + lie.len() as u64;
        [lie, record(store, position, 3, &[3, 200, 0])].concat() // a row that is not there is deleted
    };
    let lies = [
        ("a record of 4 GiB", record(store, end, u32::MAX, b"x")),
        ("a record of 1 GiB", record(store, end, 1 << 30, b"x")),
        ("a blob of 2^63 bytes", record(store, end, 13, &batch(&[1], b"xxx"))),
        ("a key of 2^63 bytes", record(store, end, 14, &batch(&[2, 3], b"xxx"))),
        ("a row of a table nobody knows", record(store, end, 7, &[2, 250, 1, b'k', 1, b'v', 0])),
        ("an entry that came 2^63 times", record(store, end, 13, &batch(&[4], &[1, 1, 0]))),
        ("an operation nobody knows", record(store, end, 4, &[200, 1, 2, 3])),
    ];
    for (what, lie) in lies {
        let (usage, took, log) = starts(what, &after(lie));
        let grown = usage.peak_bytes.saturating_sub(good.peak_bytes);
        assert!(grown <= 16 * MIB, "{what}: {grown} bytes");
        assert!(took <= Duration::from_secs(1).mul_f64(2.0 * busyness()), "{what}: {took:?}");
        let is_known = what.contains("table") || what.contains("times");
        assert!(is_known || log.contains("damaged, and put aside"), "{what}:\n{log}");
    }
}

/// Where the last record of a segment ends.
fn end_of_records(bytes: &[u8]) -> usize {
    let mut at = SEGMENT_HEADER_BYTES;
    while let Some(length) = bytes.get(at..at + 4) {
        let length = u32::from_le_bytes(length.try_into().expect("four bytes"));
        if length == 0 {
            break;
        }
        at += 16 + length as usize;
    }
    at
}

/// The second broker on a data folder says who has it, and leaves; the first notices nothing.
#[test]
fn t05_two_brokers_one_folder() {
    let place = Place::new();
    let scene = Scene::with(|profile| {
        profile.keeps_in(&place);
    });
    let mut client = scene.connected(Version::V311, "t05");
    client.send(&publish(Version::V311, "ok/t05", "kept").retained().qos(1, 1).bytes()).receive_ack(kind::PUBACK, 1);
    let before: Vec<_> = files_below(&place.data()).iter().map(|path| used(path)).collect();
    // It has its log and its configuration elsewhere, as another broker would.
    let other = Place::new();
    let mut profile = profile_in(&other);
    profile.environment("WAYPOST__NODE__DATA_DIR", "unused");
    std::os::unix::fs::symlink(place.data(), other.data()).expect("the temporary folder can be written");
    let log = Broker::try_start(&profile).map(drop).expect_err("two brokers have one folder");
    let holder = format!("in use by process {}", scene.broker().pid());
    assert!(log.contains(&holder) && log.contains("exit status: 1"), "{log}");
    let after: Vec<_> = files_below(&place.data()).iter().map(|path| used(path)).collect();
    assert!(before == after, "the first one's files are as they were");
    client.send(&publish(Version::V311, "ok/t05", "").retained().qos(1, 2).bytes()).receive_ack(kind::PUBACK, 2);
    client.disconnect();
    scene.holds();
}

/// A store of a newer release is left alone, and one of the first format is read. There is no older format yet that would have to be
/// rewritten, and so no copy to be kept of it.
#[test]
fn t09_other_versions_data() {
    let place = left_by_a_broker();
    let line = "waypost-store format 2 id 00000000000000ff";
    let format = format!("{line} check {:016x}\nand more that only that version knows\n", xxh3_64(line.as_bytes()));
    let ours = fs::read(place.data().join("format")).expect("it is there");
    fs::write(place.data().join("format"), format).expect("it is ours");
    let look = || -> Vec<_> {
        let files = files_below(&place.data()).into_iter().filter(|path| !path.ends_with("lock"));
        files.map(|path| (used(&path), path)).collect()
    };
    let before = look();
    let log = Broker::try_start(&profile_in(&place)).map(drop).expect_err("it takes a newer store");
    assert!(log.contains("written by a newer version (format 2") && log.contains("exit status: 1"), "{log}");
    assert!(log.contains("start that version"), "what to do: {log}");
    assert!(look() == before, "the newer version's files are as they were");
    fs::write(place.data().join("format"), ours).expect("it is ours");
    assert_eq!(kept(&Broker::start(&profile_in(&place))).len(), KEPT);
    // What the first release wrote, as it is in the repository for ever.
    let first = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/store/format-1");
    let place = Place::new();
    copy(&first, &place.data());
    let (numbers, findings, store) = opened(&place.data(), "format 1");
    assert_eq!((numbers.len(), &findings.damage[..]), (KEPT, &[][..]));
    let contents = store.contents().expect("it is read");
    assert_eq!((contents.entries, contents.blobs, contents.without_blob), (1, KEPT as u64 + 1, 0));
    drop(store);
    let scene = Scene::with(|profile| {
        profile.keeps_in(&place);
    });
    assert_eq!(kept(scene.broker()).len(), KEPT);
    scene.holds();
}

/// Nothing can be written where it should be kept: the broker does not start, or acknowledges nothing.
fn t10_folder_not_writable(version: Version) {
    let _turn = Turn::beside_others();
    let refused = |place: &Place, what: &str| {
        let log = Broker::try_start(&profile_in(place)).map(drop).expect_err(what);
        assert!(log.contains("cannot use the data folder") && log.contains("exit status: 1"), "{what}: {log}");
    };
    let place = Place::new();
    fs::write(place.data(), "not a folder").expect("the temporary folder can be written");
    refused(&place, "a file in place of the folder");
    fs::remove_file(place.data()).expect("it is ours");
    // Nobody can make one there, whatever rights he has.
    std::os::unix::fs::symlink("/proc/waypost-data", place.data()).expect("the temporary folder can be written");
    refused(&place, "a folder that cannot be made");
    fs::remove_file(place.data()).expect("it is ours");
    // From some moment on it can only be read.
    let disk = Disk::new();
    let mut profile = Profile::test();
    disk.give_to(&mut profile, &place);
    let mut broker = Broker::start(&profile);
    let mut client = connected(broker.address(), version, "t10");
    let keep = |client: &mut Client, id: u16| {
        client.send(&publish(version, "ok/t10", id.to_string()).retained().qos(1, id).bytes());
    };
    keep(&mut client, 1);
    assert!(client.receive_ack(kind::PUBACK, 1) <= code::NO_MATCHING_SUBSCRIBERS);
    disk.fails(Fault { kinds: WRITE | SYNC | OPEN, how: EROFS, first: 1, count: i64::MAX / 2 });
    keep(&mut client, 2);
    if version.is_v5() {
        assert_eq!(client.receive_ack(kind::PUBACK, 2), code::QUOTA_EXCEEDED);
    } else {
        wait_until("the log says so", PATIENCE, || broker.log().contains("the disk does not take"));
        assert!(matches!(client.event(Duration::from_millis(300)), Event::Silence), "acknowledged, and not kept");
    }
    wait_until("the log says why", PATIENCE, || broker.log().contains("Read-only file system"));
    assert!(broker.is_alive() && !broker.log().contains("panicked"));
    broker.kill();
    // It cannot start so either.
    disk.fails(Fault { kinds: WRITE | SYNC, how: EROFS, first: 1, count: i64::MAX / 2 });
    match Broker::try_start(&profile) {
        Err(log) => assert!(log.contains("cannot use the data folder"), "{log}"),
        Ok(broker) => {
            let mut client = connected(broker.address(), Version::V5, "t10");
            client.send(&publish(Version::V5, "ok/t10", "3").retained().qos(1, 3).bytes());
            assert_eq!(client.receive_ack(kind::PUBACK, 3), code::QUOTA_EXCEEDED);
        }
    }
    disk.is_well();
    let broker = Broker::start(&profile);
    let mut reader = connected(broker.address(), version, "t10-reader");
    reader.send(&subscribe(version, 1, &[(b"ok/t10", 0)])).receive_kind(kind::SUBACK);
    assert_eq!(reader.receive_message().payload, b"1");
}
