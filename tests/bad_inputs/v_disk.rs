//! V: those rows in which what was acknowledged must outlive the process and the power, and those in which the disk is at fault.
//!
//! They are played over TCP: what is told to be kept is decided above the layers, as K08 shows over all of them. V02 and V03 need a file
//! system of their own: where this process may not mount one, they say so.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::broker::{Broker, Place, Profile, Signal};
use crate::client::{Client, PATIENCE, connected};
use crate::disk::{
    DIE_AFTER, DIE_BEFORE, Disk, EINTR, EIO, EMFILE, ENOSPC, EROFS, Fault, OPEN, READ, RENAME, SHORT, SYNC, WRITE,
    files_below,
};
use crate::flow::{Flow, Flows};
use crate::n_exhaustion::wait_until;
use crate::packet::{Connect, Version, code, connect, kind, property, publish};
use crate::rules::{SLOWNESS, Scene, Turn, busyness, load};
use crate::transport::Noise;

each_version_over_tcp! {
    v03_disk_full,
    v07_silent_damage,
    v10_slow_disk,
    v14_restart_storm: alone,
}

// Clients of both versions at once, since each life of a broker costs a start.
all_versions_over_tcp! {
    v01_kill_9,
    v02_power_cut,
    v04_fsync_fails_once,
    v05_read_and_write_errors,
    v06_lost_directory_entry,
    v11_out_of_memory_kill,
}

const MIB: u64 = 1024 * 1024;

/// A broker that keeps in this place what it acknowledges, on this disk.
fn profile_on(disk: Option<&Disk>, place: &Place) -> Profile {
    let mut profile = Profile::test();
    profile.keeps_in(place);
    if let Some(disk) = disk {
        disk.give_to(&mut profile, place);
    }
    profile
}

/// The last life of a broker, in which everything that was told to be kept is asked for, and the rules are checked.
#[track_caller]
fn finds_everything(place: &Place, flows: &mut Flows) {
    let scene = Scene::with(|profile| {
        profile.keeps_in(place);
    });
    flows.come(scene.address());
    flows.go_on(Duration::from_millis(50));
    flows.end(scene.address());
    scene.may_grow_by(64 * MIB).may_keep_it().holds();
}

/// Killed at random times, again and again: all that a Client was told is so, and nothing comes twice at QoS 2.
fn v01_kill_9() {
    let place = Place::new();
    let mut flows = Flows::new("v01");
    let mut noise = Noise(0x0101_2545_F491_4F6C);
    let mut slowest = Duration::ZERO;
    let rounds = load(6, 100);
    for _ in 0..rounds {
        let begun = Instant::now();
        let mut broker = Broker::start(&profile_on(None, &place));
        slowest = slowest.max(begun.elapsed());
        flows.come(broker.address());
        let lasts = Duration::from_millis(u64::from(noise.byte()));
        flows.go_on(lasts);
        broker.kill();
        flows.fall();
    }
    crate::report(&format!("v01: {} kept over {rounds} kills, ready after {slowest:.1?} at most", flows.told()));
    let allowed = Duration::from_secs(2).mul_f64(busyness());
    assert!(slowest <= allowed, "ready after {slowest:?}, {allowed:?} allowed");
    finds_everything(&place, &mut flows);
}

/// The power goes at random times: what the next broker starts on is what the disk had at that moment, and a file system that
/// writes early now and then.
fn v02_power_cut() {
    let place = Place::new();
    let image = |number: usize| place.path().join(format!("image-{number}")).display().to_string();
    if !makes_file_system(&image(0)) {
        return crate::report("v02 is not played: there is no mkfs.ext4");
    }
    let mut flows = Flows::new("v02");
    let mut noise = Noise(0x0202_2545_F491_4F6C);
    let rounds = load(4, 100);
    for number in 0..rounds {
        let mut profile = profile_on(None, &place);
        profile.on_disk_of_its_own(&format!("mount -o loop,commit=600 {} \"$1\"", image(number)));
        let mut broker = match Broker::try_start(&profile) {
            Ok(broker) => broker,
            Err(log) if number == 0 && is_not_permitted(&log) => {
                return crate::report(&format!("v02 is not played: no file system can be mounted here: {log}"));
            }
            Err(log) => panic!("after a power cut the broker does not start; its log:\n{log}"),
        };
        flows.come(broker.address());
        flows.go_on(Duration::from_millis(20 + u64::from(noise.byte())));
        writes_something_early(&broker, &mut noise);
        flows.go_on(Duration::from_millis(u64::from(noise.byte() / 8)));
        stops(&broker);
        copies(&image(number), &image(number + 1));
        flows.fall();
        let log = broker.log();
        assert!(!log.contains("panicked") && !log.contains("damaged"), "after a power cut:\n{log}");
        broker.kill();
        fs::remove_file(image(number)).expect("it is ours");
    }
    crate::report(&format!("v02: {} kept over {rounds} power cuts", flows.told()));
    let scene = Scene::with(|profile| {
        profile.keeps_in(&place).on_disk_of_its_own(&format!("mount -o loop {} \"$1\"", image(rounds)));
    });
    flows.come(scene.address());
    flows.end(scene.address());
    scene.may_grow_by(64 * MIB).may_keep_it().holds();
}

/// Whether a shell could not get the file system that it wanted.
fn is_not_permitted(log: &str) -> bool {
    log.contains("Operation not permitted") || log.contains("exit status: 111") || log.contains("unshare")
}

fn makes_file_system(image: &str) -> bool {
    fs::File::create(image).and_then(|file| file.set_len(256 * MIB)).expect("the temporary folder can be written");
    let made = Command::new("mkfs.ext4").args(["-q", "-F", "-b", "4096", "-J", "size=4", image]).output();
    made.is_ok_and(|made| made.status.success())
}

fn copies(from: &str, to: &str) {
    let copied = Command::new("cp").args(["--sparse=auto", from, to]).status().expect("every system has cp");
    assert!(copied.success(), "an image is copied");
}

/// A file system may write anything before it is asked to, in any order, and another program's sync takes more along.
fn writes_something_early(broker: &Broker, noise: &mut Noise) {
    for path in files_below(&broker.disk("data")) {
        let Ok(file) = fs::File::open(&path) else { continue };
        let size = file.metadata().map_or(0, |about| about.len());
        let at = u64::from(noise.byte()) * size / 256;
        let length = std::num::NonZeroU64::new(1 + u64::from(noise.byte()) * 256);
        let _ = rustix::fs::fadvise(&file, at, length, rustix::fs::Advice::DontNeed);
    }
    let other = fs::File::create(broker.disk("other")).expect("the disk can be written");
    other.write_all_at(b"x", 0).and_then(|()| other.sync_all()).expect("the disk can be written");
}

/// Stops the process, and returns when none of its threads runs any more.
#[track_caller]
fn stops(broker: &Broker) {
    broker.signal(Signal::STOP);
    let pid = broker.pid();
    wait_until("all of its threads are stopped", PATIENCE.mul_f64(busyness()), || {
        let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("it is there").flatten();
        threads.into_iter().all(|thread| {
            let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            stat.rsplit(')').next().is_none_or(|rest| rest.trim_start().starts_with(['T', 't']))
        })
    });
}

/// A volume of its own fills up: who publishes is told or held back, what needs no disk goes on, and when there is room again
/// everything does.
fn v03_disk_full(version: Version) {
    let place = Place::new();
    let mut profile = profile_on(None, &place);
    profile.on_disk_of_its_own("mount -t tmpfs -o size=160m none \"$1\"");
    // No innocents: while the disk is full they would be told so as well.
    let _turn = Turn::beside_others();
    let mut broker = match Broker::try_start(&profile) {
        Ok(broker) => broker,
        Err(log) => {
            assert!(is_not_permitted(&log), "{log}");
            return crate::report(&format!("v03 is not played: no file system can be mounted here: {log}"));
        }
    };
    let address = broker.address();
    let (mut flow, mut other) = (Flow::new(version, "v03").of_size(16 * 1024), connected(address, version, "v03"));
    assert_eq!(other.subscribe("ok/v03-passing", 0), 0);
    flow.comes(address);
    flow.goes_on(Duration::from_millis(20));
    let mut passes = |number: u32| {
        other.send(&publish(version, "ok/v03-passing", number.to_be_bytes()).bytes());
        assert_eq!(other.receive_message().payload, number.to_be_bytes());
    };
    fills(&broker.disk("filler"));
    let is_said = || broker.log().contains("the disk does not take");
    let deadline = Instant::now() + 6 * PATIENCE.mul_f64(busyness());
    assert!(flow.goes_on_until(|_| is_said() || Instant::now() > deadline), "the publisher was thrown out");
    assert!(is_said(), "the disk is full and nobody says so");
    // From the moment on that nothing is taken any more, nothing is said to be kept.
    flow.goes_on(Duration::from_millis(100));
    let (told, refused) = (flow.told(), flow.refused());
    (0..20).for_each(&mut passes);
    flow.goes_on(Duration::from_millis(300));
    assert_eq!(flow.told(), told, "told to be kept on a full disk");
    assert_eq!(flow.refused() > 0, version.is_v5(), "{refused} refused, then {}", flow.refused());
    (20..40).for_each(&mut passes);
    fs::remove_file(broker.disk("filler")).expect("it is ours");
    let free = Instant::now();
    let deadline = free + Duration::from_secs(5).mul_f64(busyness());
    flow.goes_on_until(|flow| flow.told() > told + 60 || Instant::now() > deadline);
    assert!(flow.told() > told + 60, "not served again: {} told", flow.told() - told);
    crate::report(&format!("v03: {} refused, served again after {:.1?}", flow.refused(), free.elapsed()));
    (40..60).for_each(&mut passes);
    flow.ends(address);
    other.disconnect();
    let log = broker.log();
    assert!(!log.contains("panicked"), "{log}");
    assert!(broker.is_alive());
}

/// Writes to a file until there is no room for a byte more.
fn fills(path: &Path) {
    let file = fs::File::create(path).expect("the volume can be written");
    let mut at = 0;
    for size in [MIB as usize, 4096, 1] {
        while let Ok(written) = file.write_at(&vec![b'x'; size], at) {
            at += written as u64;
        }
    }
}

/// Lives with one fault each, over starts that may refuse. Nothing that was told to be kept is lost by it. Gives how many of the faults
/// hit a broker that ran, and said so.
#[track_caller]
fn lives_with(disk: &Disk, place: &Place, flows: &mut Flows, faults: impl IntoIterator<Item = Fault>) -> usize {
    let mut said = 0;
    for fault in faults {
        disk.fails(fault);
        let mut broker = match Broker::try_start(&profile_on(Some(disk), place)) {
            Ok(broker) => broker,
            Err(log) => {
                let is_clear = log.contains("cannot use the data folder") || log.contains("cannot start a thread");
                assert!(is_clear && !log.contains("panicked"), "{fault:?}: it ends without a clear word:\n{log}");
                disk.is_well();
                Broker::start(&profile_on(Some(disk), place))
            }
        };
        let hit_at_start = disk.counted().1;
        flows.come(broker.address());
        let deadline = Instant::now() + Duration::from_millis(150);
        let is_connected = flows.go_on_until(|| disk.counted().1 > hit_at_start || Instant::now() > deadline);
        flows.go_on(Duration::from_millis(20));
        let log = broker.log();
        assert!(broker.is_alive() && is_connected && !log.contains("panicked"), "{fault:?}:\n{log}");
        said += usize::from(log.contains("the disk does not take"));
        broker.kill();
        flows.fall();
    }
    disk.is_well();
    said
}

/// Each sync in turn fails once, and what it was to bring to the disk is forgotten by the system, as some do it.
fn v04_fsync_fails_once() {
    let (disk, place) = (Disk::new(), Place::new());
    disk.forgets_what_it_cannot_sync();
    let mut flows = Flows::new("v04");
    let each = (1..=load(12, 60) as i64).map(|first| Fault { kinds: SYNC, how: EIO, first, count: 1 });
    let said = lives_with(&disk, &place, &mut flows, each);
    crate::report(&format!("v04: {} kept over syncs that fail, {said} said", flows.told()));
    assert!(said > 0, "none of them hit a broker that ran");
    finds_everything(&place, &mut flows);
}

/// Calls of every kind fail in every way that they can, at the start and while the broker runs.
fn v05_read_and_write_errors() {
    let (disk, place) = (Disk::new(), Place::new());
    disk.forgets_what_it_cannot_sync();
    let mut flows = Flows::new("v05");
    let mut noise = Noise(0x0505_2545_F491_4F6C);
    for (kinds, how) in [
        (READ, EIO),
        (READ, EINTR),
        (READ, SHORT),
        (WRITE, EIO),
        (WRITE, ENOSPC),
        (WRITE, EINTR),
        (WRITE, SHORT),
        (WRITE | SYNC, EROFS),
        (SYNC, EINTR),
        (OPEN, EIO),
        (OPEN, EMFILE),
        (RENAME, EIO),
    ] {
        // A start makes more than a hundred of some of them, and some only while it runs.
        let firsts = (0..load(2, 40)).map(|at| if at == 0 { 1 } else { 2 + i64::from(noise.byte()) % 120 });
        let faults: Vec<_> = firsts.map(|first| Fault { kinds, how, first, count: 3 }).collect();
        lives_with(&disk, &place, &mut flows, faults);
    }
    crate::report(&format!("v05: {} kept over calls that fail", flows.told()));
    finds_everything(&place, &mut flows);
}

/// The process ends beside a rename, and the folder has the old name, or the new one.
fn v06_lost_directory_entry() {
    let (disk, place) = (Disk::new(), Place::new());
    let mut flows = Flows::new("v06");
    fs::create_dir(place.data()).expect("the temporary folder can be written");
    let mut renames = 0;
    for first in 1.. {
        let mut is_over = false;
        for (how, is_lost) in [(DIE_BEFORE, false), (DIE_AFTER, false), (DIE_AFTER, true)] {
            let before = place.path().join("before");
            crate::disk::copy(&place.data(), &before);
            disk.fails(Fault { kinds: RENAME, how, first, count: 1 });
            let mut started = Broker::try_start(&profile_on(Some(&disk), &place));
            if let Ok(broker) = &started {
                writes_something(broker.address());
            }
            is_over = disk.counted().1 == 0;
            renames += disk.counted().1;
            disk.is_well();
            if is_lost && !is_over {
                undoes(disk.last_rename(), &place.data(), &before);
            }
            fs::remove_dir_all(&before).expect("it is ours");
            if let Ok(broker) = &mut started {
                let deadline = Instant::now() + Duration::from_secs(10);
                while !is_over && broker.is_alive() && Instant::now() < deadline {
                    thread::yield_now(); // it is about to end
                }
            }
            let lives_on = started.as_mut().is_ok_and(Broker::is_alive);
            assert_eq!(lives_on, is_over, "it lives on, or ends: {first} {how}");
            drop(started);
            let mut broker = Broker::start(&profile_on(Some(&disk), &place));
            flows.come(broker.address());
            flows.go_on(Duration::from_millis(10));
            let log = broker.log();
            assert!(!log.contains("panicked") && !log.contains("damaged"), "{first} {how} {is_lost}:\n{log}");
            broker.kill();
            flows.fall();
        }
        if is_over {
            break;
        }
    }
    crate::report(&format!("v06: ended beside {renames} renames"));
    assert!(renames > 0, "it renames nothing when it starts");
    finds_everything(&place, &mut flows);
}

/// Has something kept, by a broker that may end meanwhile; returns when it is kept or the broker has ended.
fn writes_something(address: SocketAddr) {
    let Ok(mut socket) = TcpStream::connect(address) else { return };
    socket.set_read_timeout(Some(PATIENCE)).expect("the duration is not zero");
    let message = publish(Version::V311, "ok/v06", "x").retained().qos(1, 1);
    let _ = socket.write_all(&[connect(Version::V311, "v06-writer").bytes(), message.bytes()].concat());
    let _ = socket.read_exact(&mut [0; 8]); // CONNACK and PUBACK
}

/// The folder is as it was before the rename.
fn undoes([from, to]: [PathBuf; 2], data: &Path, before: &Path) {
    fs::rename(&to, &from).expect("it was renamed");
    let former = before.join(to.strip_prefix(data).expect("it is in the data folder"));
    if former.exists() {
        fs::copy(former, to).expect("the data folder can be written");
    }
}

/// Flips a bit of the first file of the journal that has these bytes, in the middle of them.
#[track_caller]
fn flips_a_bit(data: &Path, bytes: &[u8]) {
    for path in files_below(&data.join("journal")) {
        let all = crate::disk::used(&path);
        if let Some(at) = memchr::memmem::find(&all, bytes) {
            let at = at + bytes.len() / 2;
            let file = fs::OpenOptions::new().write(true).open(&path).expect("it is ours");
            return file.write_all_at(&[all[at] ^ 4], at as u64).expect("it is ours");
        }
    }
    panic!("nowhere in the journal: {}", bytes.escape_ascii());
}

/// One bit of one record is not what was written: the record is reported and left out, its neighbours are whole.
fn v07_silent_damage(version: Version) {
    let place = Place::new();
    let (mut away, payload) = (staying(version, "v07-away"), |number: u32| format!("v07 number {number:04} of this"));
    away.properties = property::of_u32(property::SESSION_EXPIRY_INTERVAL, 3600);
    let mut broker = Broker::start(&profile_on(None, &place));
    let mut client = Client::open(broker.address(), version);
    client.connect(&away);
    assert_eq!(client.subscribe("ok/v07", 1), 1);
    client.reset();
    let mut sender = connected(broker.address(), version, "v07-sender");
    for number in 0..10 {
        assert_eq!(sender.publish("ok/v07", payload(number), 1), 0);
        let kept = publish(version, format!("ok/v07-kept/{number}"), format!("kept {}", payload(number)));
        sender.send(&kept.retained().qos(1, 1).bytes());
        assert!(sender.receive_ack(kind::PUBACK, 1) <= code::NO_MATCHING_SUBSCRIBERS);
    }
    // While it runs: what has been in the journal for a while is brought to rest, and then it shows.
    flips_a_bit(&place.data(), format!("kept {}", payload(3)).as_bytes());
    let large = vec![b'x'; MIB as usize - 100];
    let damaged = |broker: &Broker| broker.log().matches("damaged, and put aside").count();
    for _ in 0..120 {
        if damaged(&broker) > 0 {
            break;
        }
        sender.send(&publish(version, "ok/v07-large", &large).retained().qos(1, 2).bytes());
        assert!(sender.receive_ack(kind::PUBACK, 2) <= code::NO_MATCHING_SUBSCRIBERS);
    }
    wait_until("the damage is reported while it runs", 2 * PATIENCE.mul_f64(busyness()), || damaged(&broker) == 1);
    let kept = |broker: &Broker| {
        let mut reader = connected(broker.address(), Version::V5, "v07-reader");
        reader.send(&crate::packet::subscribe(Version::V5, 9, &[(b"ok/v07-kept/#", 0)])).receive_kind(kind::SUBACK);
        let found = reader.settle().into_iter().map(|packet| packet.delivery(Version::V5));
        let mut found: Vec<u32> = found
            .map(|message| {
                let text = String::from_utf8(message.payload).expect("text was retained");
                let number = text.split(' ').nth(3).and_then(|number| number.parse().ok()).expect("a number");
                assert_eq!(text, format!("kept {}", payload(number)), "delivered wrong");
                number
            })
            .collect();
        found.sort_unstable();
        found
    };
    let all = kept(&broker);
    assert!(all.len() >= 9, "{all:?}");
    broker.kill();
    // At the start: two more, of which one waits for a Client.
    let mut broker = Broker::start(&profile_on(None, &place));
    assert_eq!(kept(&broker), [0, 1, 2, 4, 5, 6, 7, 8, 9]);
    let mut sender = connected(broker.address(), version, "v07-sender");
    for number in 10..15 {
        assert_eq!(sender.publish("ok/v07", payload(number), 1), 0);
    }
    broker.kill();
    flips_a_bit(&place.data(), payload(12).as_bytes());
    let scene = Scene::with(|profile| {
        profile.keeps_in(&place);
    });
    let log = scene.broker().log();
    assert_eq!(log.matches("damaged, and put aside").count(), 1, "{log}");
    assert!(log.contains("journal/") && log.contains("quarantine"), "which file, and where it is now:\n{log}");
    assert!(!files_below(&place.data().join("quarantine")).is_empty());
    let mut client = scene.open(version);
    assert!(client.connect(&away).session_present);
    for number in (0..15).filter(|number| *number != 12) {
        let message = client.receive_message();
        assert_eq!(message.payload, payload(number).as_bytes());
        client.finish_delivery(&message);
    }
    client.ping();
    drop(client);
    scene.connected(version, "v07-away").disconnect();
    scene.may_grow_by(64 * MIB).may_keep_it().holds();
}

fn staying(version: Version, client_id: &str) -> Connect {
    let properties = property::of_u32(property::SESSION_EXPIRY_INTERVAL, 3600);
    Connect { clean: false, properties, ..connect(version, client_id) }
}

/// Every sync takes seconds: who waits for the disk waits, nobody else does, and nothing is lost.
fn v10_slow_disk(version: Version) {
    let (disk, place) = (Disk::new(), Place::new());
    let takes = Duration::from_millis(load(400, 2000) as u64);
    let scene = Scene::under_load_with(|profile| disk.give_to(profile, &place));
    let mut flow = Flow::new(version, "v10");
    flow.comes(scene.address());
    flow.goes_on(Duration::from_millis(50));
    let mut sender = scene.connected(version, "v10-sender");
    disk.syncs_in(takes);
    let syncs = disk.syncs();
    let told = flow.told();
    // The next sync begins after this, so that the answer is at least that late.
    flow.goes_on_until(|_| disk.syncs() > syncs);
    let begun = Instant::now();
    let kept = publish(version, "ok/v10", "kept").retained().qos(1, 1);
    assert!(sender.send(&kept.bytes()).receive_ack(kind::PUBACK, 1) <= code::NO_MATCHING_SUBSCRIBERS);
    let late = begun.elapsed();
    // All that waits for the disk goes along with a sync, whichever shards it concerns.
    flow.goes_on_until(|_| disk.syncs() > syncs + 6);
    let more = flow.told() - told;
    crate::report(&format!(
        "v10: told {late:.1?} after it was sent, where a sync takes {takes:?}; {more} in six syncs"
    ));
    assert!(more >= 20, "{more} messages were told to be kept in six syncs");
    assert!(late >= takes / 2, "told after {late:?}, before the disk had it");
    disk.syncs_in(Duration::ZERO);
    flow.ends(scene.address());
    sender.disconnect();
    scene.may_grow_by(32 * MIB).holds();
    let broker = Broker::start(&profile_on(None, &place));
    let mut reader = connected(broker.address(), version, "v10-reader");
    reader.send(&crate::packet::subscribe(version, 1, &[(b"ok/v10", 0)])).receive_kind(kind::SUBACK);
    assert_eq!(reader.receive_message().payload, b"kept");
}

/// A group of processes that may take so much memory, and is then killed by the system.
struct MemoryGroup(PathBuf);

impl MemoryGroup {
    /// Where this process may make one.
    fn new() -> std::io::Result<Self> {
        let root = Path::new("/sys/fs/cgroup");
        let root = if root.join("memory").exists() { root.join("memory") } else { root.to_owned() };
        let folder = root.join(crate::rules::unique("waypost-bad-inputs"));
        fs::create_dir(&folder)?;
        let group = Self(folder);
        fs::metadata(group.0.join(group.limit())).map(|_| group)
    }

    fn limit(&self) -> &'static str {
        if self.0.join("memory.limit_in_bytes").exists() { "memory.limit_in_bytes" } else { "memory.max" }
    }

    /// From now on: what it has, and so much more.
    fn may_grow_by(&self, broker: &Broker, bytes: u64) -> std::io::Result<()> {
        fs::write(self.0.join("cgroup.procs"), broker.pid().to_string())?;
        let has = broker.usage().expect("it is ours").resident_bytes;
        fs::write(self.0.join(self.limit()), (has + bytes).to_string())
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        // A process that has just ended may still be in it.
        for _ in 0..100 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Killed by the system for the memory that it takes, or by its signal where no memory controller is at hand.
fn v11_out_of_memory_kill() {
    let place = Place::new();
    let mut flows = Flows::new("v11");
    for _ in 0..load(2, 20) {
        let mut broker = Broker::start(&profile_on(None, &place));
        flows.come(broker.address());
        flows.go_on(Duration::from_millis(50));
        let group = MemoryGroup::new().and_then(|group| group.may_grow_by(&broker, 8 * MIB).map(|()| group));
        match &group {
            Ok(_) => eats_memory(&mut broker, &mut flows),
            Err(error) => {
                crate::report(&format!(
                    "v11: killed by its signal, since there is no memory controller for us: {error}"
                ));
                broker.signal(Signal::KILL);
            }
        }
        assert_eq!(broker.exit_code(PATIENCE.mul_f64(busyness())), None, "a process that is killed has no exit code");
        broker.kill();
        flows.fall();
    }
    finds_everything(&place, &mut flows);
}

/// Lets messages wait for those who do not read them, until the broker is gone.
#[track_caller]
fn eats_memory(broker: &mut Broker, flows: &mut Flows) {
    let blocked: Vec<Client> = (0..20)
        .map(|number| {
            let mut client = connected(broker.address(), Version::V311, format!("v11-blocked-{number}"));
            client.shrink();
            client.subscribe(format!("ok/v11/{number}"), 1);
            client
        })
        .collect();
    let mut publisher = connected(broker.address(), Version::V311, "v11-publisher");
    let payload = vec![b'x'; 256 * 1024];
    let deadline = Instant::now() + 3 * PATIENCE.mul_f64(busyness());
    while broker.is_alive() {
        assert!(Instant::now() < deadline, "it lives on with the memory that it has");
        for number in 0..blocked.len() {
            publisher
                .send(&publish(Version::V311, format!("ok/v11/{number}"), &payload).qos(1, 1 + number as u16).bytes());
        }
        flows.go_on(Duration::from_millis(1));
    }
}

/// After a fall everybody comes back at the same moment.
fn v14_restart_storm(version: Version) {
    let place = Place::new();
    let clients = load(200, 1000);
    let storm = |profile: &mut Profile| {
        profile
            .keeps_in(&place)
            .set("limits.connect_rate_max", 1_000_000)
            .set("limits.connect_rate_per_address_max", 1_000_000)
            .set("limits.connections_pending_max", 2_000);
    };
    let scene = Scene::under_load_with(storm);
    let mut sender = scene.connected(version, "v14-sender");
    for number in 0..clients {
        let mut client = scene.open(version);
        client.connect(&staying(version, &format!("v14-{number}")));
        assert_eq!(client.subscribe(format!("ok/v14/{number}"), 1), 1);
        client.disconnect();
        assert_eq!(sender.publish(format!("ok/v14/{number}"), number.to_string(), 1), 0);
    }
    drop(sender);
    scene.falls();
    let scene = Scene::under_load_with(storm).may_grow_by(64 * MIB).may_keep_it();
    let begun = Instant::now();
    let start = std::sync::Barrier::new(8);
    let slowest = thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|part| {
                let (scene, start) = (&scene, &start);
                scope.spawn(move || {
                    start.wait();
                    let mine = (0..clients).skip(part).step_by(8);
                    let mut back: Vec<_> = mine
                        .map(|number| {
                            let mut client = scene.open(version);
                            client.send(&staying(version, &format!("v14-{number}")).bytes());
                            (number, client)
                        })
                        .collect();
                    for (number, client) in &mut back {
                        let answer = client.receive_connack();
                        assert!(answer.code == 0 && answer.session_present, "{number}: {answer:?}");
                        let message = client.receive_message();
                        assert_eq!(message.payload, number.to_string().as_bytes());
                        client.finish_delivery(&message);
                    }
                    begun.elapsed()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("each is let in")).max()
    });
    let slowest = slowest.expect("there are threads");
    crate::report(&format!("v14: {clients} are back after {slowest:.1?}"));
    let allowed = Duration::from_secs(10).mul_f64(busyness()) * SLOWNESS.min(2);
    assert!(slowest <= allowed, "all are back after {slowest:?}");
    for number in 0..clients {
        scene.connected(version, format!("v14-{number}")).disconnect();
    }
    scene.holds();
}
