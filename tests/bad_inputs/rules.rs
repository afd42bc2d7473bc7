//! What must hold whatever a Client sends, checked around every row.
//!
//! - **G1 alive**: the process is the same one and no panic is in its log.
//! - **G2 isolated**: two innocents, one per protocol version, exchange 50 QoS 1 messages a second all the while; none
//!   is lost, and their round trips stay short.
//! - **G3 bounded**: memory, threads and descriptors come back to where they were.
//! - **G4 quiet**: nothing spins once the attackers idle or are gone (once a section, see `quiet`).
//! - **G5 prompt**: [`prompt`](crate::client::prompt), in the expectations of the Client.
//! - **G6 no effect**: an observer subscribes to `bad/#`; packets that must be refused publish there.
//! - **G7 told right**: the expectations of the Client.
//! - **G8 counted**: rejections are logged, escaped, shortened, and not without end.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::broker::{Broker, Profile, Usage};
use crate::client::{Client, Event, PATIENCE, connected};
use crate::packet::{Version, code, connect, kind, publish};
use crate::transport::Transport;

/// Topics of the innocents begin with this.
pub(crate) const INNOCENT_TOPICS: &str = "innocent/";

const MIB: u64 = 1024 * 1024;
const INNOCENT_PACE: Duration = Duration::from_millis(20);
/// So many round trips follow upon one another without a pause at the start: they only warm the broker up.
const WARMING_ROUNDS: usize = 10;
const LOG_LINE_MAX: usize = 1024;
/// Length of a time in the log down to its seconds.
const SECOND: usize = "2026-01-01T00:00:00".len();

/// How often something is done that is done `times` times over TCP: with layers below the point is that they do not change
/// the verdict, which is seen sooner.
pub(crate) fn rounds(times: usize) -> usize {
    if Transport::of_this_test() == Transport::Tcp || load_is_full() { times } else { times.min(2) }
}

/// Of many inputs of one kind, each over TCP and every so manyth with layers.
pub(crate) fn some_of<T>(all: impl IntoIterator<Item = T>, one_in: usize) -> impl Iterator<Item = T> {
    let is_all = Transport::of_this_test() == Transport::Tcp || load_is_full();
    all.into_iter().step_by(if is_all { 1 } else { one_in })
}

/// How many of something a load row does: few by default, fewer with layers below, all of it when `WAYPOST_LOAD=full` is set.
pub(crate) fn load(small: usize, full: usize) -> usize {
    match Transport::of_this_test() {
        _ if load_is_full() => full,
        Transport::Tcp => small,
        _ => (small / 5).max(1),
    }
}

pub(crate) fn load_is_full() -> bool {
    std::env::var("WAYPOST_LOAD").is_ok_and(|load| load == "full")
}

/// How much longer than an optimized binary the tested one may take for the same work.
pub(crate) const SLOWNESS: u32 = if cfg!(debug_assertions) { 10 } else { 1 };

/// How many times more work there is on this machine than it has cores for: 1 where nobody waits. Bounds on time are
/// stretched by it, since what waits for a processor is not the broker's fault.
pub(crate) fn busyness() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: f64 = text.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(1.0);
    let cores = thread::available_parallelism().map_or(1, usize::from);
    (load / cores as f64).clamp(1.0, 8.0)
}

/// A broker with innocents and an observer, on which one row is played.
pub(crate) struct Scene {
    broker: Broker,
    observer: Client,
    innocents: Innocents,
    baseline: Option<Usage>,
    kind: RowKind,
    transport: Transport,
    started: Instant,
    peak_max: u64,
    keep_max: u64,
    rejections: AtomicUsize,
    _turn: Turn,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum RowKind {
    Functional,
    Load,
}

impl Scene {
    pub(crate) fn start() -> Self {
        Self::with(|_| {})
    }

    /// A scene whose broker deviates from the test profile.
    pub(crate) fn with(adapt: impl FnOnce(&mut Profile)) -> Self {
        Self::set(RowKind::Functional, adapt)
    }

    /// A scene for a load row: the innocents may wait longer, and the row plays alone if its list says so.
    pub(crate) fn under_load() -> Self {
        Self::under_load_with(|_| {})
    }

    pub(crate) fn under_load_with(adapt: impl FnOnce(&mut Profile)) -> Self {
        Self::set(RowKind::Load, adapt)
    }

    fn set(kind: RowKind, adapt: impl FnOnce(&mut Profile)) -> Self {
        // Over layers a load row has less to do, and plays beside those over other layers.
        let transport = Transport::of_this_test();
        let turn = match kind {
            RowKind::Functional => Turn::beside_others(),
            RowKind::Load if load_is_full() => Turn::alone(),
            RowKind::Load => Turn::of_this_test(),
        };
        let mut profile = Profile::test();
        adapt(&mut profile);
        let broker = Broker::start(&profile);
        let mut observer = connected(broker.address(), Version::V5, unique("observer"));
        assert_eq!(observer.subscribe("bad/#", 0), 0);
        let innocents = Innocents::start(broker.address());
        let mut scene = Self {
            broker,
            observer,
            innocents,
            baseline: None,
            kind,
            transport,
            started: Instant::now(),
            peak_max: 16 * MIB,
            keep_max: 8 * MIB,
            rejections: AtomicUsize::new(0),
            _turn: turn,
        };
        scene.set_baseline();
        scene
    }

    /// Memory, threads and descriptors are compared with this moment from now on.
    pub(crate) fn set_baseline(&mut self) {
        self.broker.forget_peak();
        self.baseline = self.broker.usage();
    }

    /// The row may take this much memory while it runs, instead of 16 MiB. Of what it takes, a quarter may stay with the
    /// allocator, and 8 MiB in any case.
    pub(crate) fn may_grow_by(mut self, bytes: u64) -> Self {
        self.peak_max = bytes;
        self.keep_max = self.keep_max.max(bytes / 4);
        self
    }

    /// The allocator may keep all of that for the next time: what is free lies between what is not. For rows that fill the
    /// memory budget.
    pub(crate) fn may_keep_it(mut self) -> Self {
        self.keep_max = self.peak_max;
        self
    }

    pub(crate) fn broker(&self) -> &Broker {
        &self.broker
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.broker.address()
    }

    pub(crate) fn open(&self, version: Version) -> Client {
        Client::open(self.address(), version)
    }

    #[track_caller]
    pub(crate) fn connected(&self, version: Version, client_id: impl AsRef<[u8]>) -> Client {
        connected(self.address(), version, client_id)
    }

    /// The same where the broker may be short of memory for a moment, and says so.
    #[track_caller]
    pub(crate) fn connected_when_there_is_room(&self, version: Version, client_id: &str) -> Client {
        let deadline = Instant::now() + Duration::from_secs(10).mul_f64(busyness());
        loop {
            let mut client = self.open(version);
            let answer = client.send(&connect(version, client_id).bytes()).receive_connack();
            if answer.code == 0 {
                return client;
            }
            assert!(Instant::now() < deadline, "the broker stays short of memory: {answer:?}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Sends one packet where it belongs, a CONNECT first and any other after CONNACK, and sees the connection refused:
    /// with one of these codes in MQTT 5, by a close in MQTT 3.1.1.
    #[track_caller]
    pub(crate) fn expect_refusal(&self, version: Version, packet: &[u8], codes: &[u8]) {
        self.rejected(1);
        if packet[0] >> 4 == kind::CONNECT {
            self.open(version).send(packet).expect_connect_refusal(codes);
        } else {
            self.connected(version, "bad-client").send(packet).expect_refusal(codes);
        }
    }

    /// Says that the row has had this many connections rejected, so that the log must show it.
    pub(crate) fn rejected(&self, count: usize) {
        self.rejections.fetch_add(count, Ordering::Relaxed);
    }

    /// The messages below `bad/` that the observer has received, which are forgiven by this.
    #[track_caller]
    pub(crate) fn observed(&mut self) -> Vec<Vec<u8>> {
        let fence = unique("fence");
        self.observer.send(&publish(Version::V5, "bad/fence", &fence).bytes());
        self.observer.messages_until(fence.as_bytes()).into_iter().map(|delivery| delivery.payload).collect()
    }

    /// Waits until the observer has received this payload below `bad/`.
    #[track_caller]
    pub(crate) fn observe(&mut self, payload: &[u8]) {
        assert_eq!(self.observer.receive_message().payload, payload);
    }

    /// Plays a row several times on this one broker ([`rounds`]) and sees that memory does not grow with every time.
    #[track_caller]
    pub(crate) fn repeat(&self, times: usize, mut row: impl FnMut(usize)) {
        let times = rounds(times);
        let warm = (times / 4).max(2);
        let mut after_warming = None;
        for round in 0..times {
            row(round);
            if round + 1 == warm {
                after_warming = self.broker.usage();
            }
        }
        if let (Some(before), Some(now)) = (after_warming, self.broker.usage()) {
            let rounds = (times - warm) as u64;
            let allowed = before.resident_bytes / 100 * rounds.min(100) + 2 * MIB;
            let grown = now.resident_bytes.saturating_sub(before.resident_bytes);
            assert!(grown <= allowed, "memory grew by {grown} bytes in {rounds} repetitions, {allowed} are allowed");
        }
    }

    /// Peak of the resident memory above the baseline so far.
    pub(crate) fn growth(&self) -> u64 {
        match (self.baseline, self.broker.usage()) {
            (Some(before), Some(now)) => now.peak_bytes.saturating_sub(before.resident_bytes),
            _ => 0,
        }
    }

    /// Time on a processor that the broker spends while this runs, its service to the innocents included.
    pub(crate) fn cpu_of(&self, run: impl FnOnce()) -> Duration {
        let before = self.broker.usage();
        run();
        match (before, self.broker.usage()) {
            (Some(before), Some(after)) => after.cpu.saturating_sub(before.cpu),
            _ => Duration::ZERO,
        }
    }

    /// Log lines so far that contain `text`, without regard to case.
    pub(crate) fn log_lines_with(&self, text: &str) -> usize {
        let text = text.to_lowercase();
        self.broker.log().lines().filter(|line| line.to_lowercase().contains(&text)).count()
    }

    /// Ends the broker by kill -9 in the middle of everything, and those who watch it with it.
    #[track_caller]
    pub(crate) fn falls(mut self) {
        self.innocents.stop.store(true, Ordering::Relaxed);
        assert!(self.broker.is_alive(), "G1: the broker's process has ended");
        self.broker.kill();
        let log = self.broker.log();
        assert!(!log.contains("panicked at"), "G1: a panic in the log:\n{log}");
    }

    /// Ends the row, all of whose Clients are gone by now, and checks every rule.
    #[track_caller]
    pub(crate) fn holds(mut self) {
        self.check_no_effect();
        self.innocents.wait_for_rounds(if self.transport == Transport::Tcp { 10 } else { 3 });
        self.check_bounded();
        let latencies = self.innocents.finish(self.kind);
        self.check_log();
        assert!(self.broker.is_alive(), "G1: the broker's process has ended");
        if self.kind == RowKind::Load {
            let name = thread::current().name().unwrap_or("a load row").to_owned();
            let took = self.started.elapsed();
            crate::report(&format!(
                "{name}: {took:.1?}, memory +{} KiB at most, innocents {latencies}",
                self.growth() / 1024
            ));
        }
    }

    #[track_caller]
    fn check_no_effect(&mut self) {
        let observed = self.observed();
        assert!(observed.is_empty(), "G6: rejected packets were published: {:?}", in_words(&observed));
        let mut late = connected(self.address(), Version::V5, unique("late-observer"));
        assert_eq!(late.subscribe("bad/#", 0), 0);
        let fence = unique("fence");
        late.send(&publish(Version::V5, "bad/fence", &fence).bytes());
        let retained = late.messages_until(fence.as_bytes());
        let retained: Vec<_> = retained.into_iter().map(|delivery| delivery.payload).collect();
        assert!(retained.is_empty(), "G6: rejected packets were retained: {:?}", in_words(&retained));
        late.disconnect();
        self.observed();
    }

    #[track_caller]
    fn check_bounded(&self) {
        let Some(before) = self.baseline else { return };
        let growth = self.growth();
        assert!(
            growth <= self.peak_max,
            "G3: memory grew by {growth} bytes during the row, {} are allowed",
            self.peak_max
        );
        let deadline = Instant::now() + Duration::from_secs(10).mul_f64(busyness());
        loop {
            let now = self.broker.usage().expect("there was one at the start");
            let grown = now.resident_bytes.saturating_sub(before.resident_bytes);
            if now.descriptors <= before.descriptors && now.threads <= before.threads && grown <= self.keep_max {
                return;
            }
            assert!(Instant::now() < deadline, "G3: not back where it was; before {before:?}, now {now:?}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// The log, once it shows that connections were rejected: it is written beside the work and may be a little behind.
    #[track_caller]
    fn complete_log(&self) -> String {
        let rejections = self.rejections.load(Ordering::Relaxed);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let log = self.broker.log();
            let lines = log.lines().count();
            if lines >= rejections.min(50) || !self.broker.is_ours() {
                return log;
            }
            assert!(Instant::now() < deadline, "G8: {rejections} rejected connections and {lines} lines in the log");
            thread::sleep(Duration::from_millis(5));
        }
    }

    #[track_caller]
    fn check_log(&self) {
        let log = self.complete_log();
        assert!(!log.contains("panicked at"), "G1: a panic in the log:\n{log}");
        let hidden = |c: char| (c.is_control() && c != '\n') || ('\u{202A}'..='\u{202E}').contains(&c);
        assert!(!log.contains(hidden), "G8: control characters in the log:\n{log:?}");
        for line in log.lines() {
            assert!(line.len() <= LOG_LINE_MAX, "G8: a log line of {} bytes: {line:.300}", line.len());
        }
        if !self.broker.is_ours() {
            return;
        }
        // A class is what a line says before its values. The limit is 100 a second; seconds of the clock may cut two of them.
        let mut classes: HashMap<(&str, &str), usize> = HashMap::new();
        for line in log.lines().filter(|line| line.len() > SECOND) {
            let (second, rest) = line.split_at(SECOND);
            let said = rest.split_once('=').map_or(rest, |(words, _)| words);
            let class = said.split_once(' ').map_or(said, |(_, words)| words);
            *classes.entry((second, class)).or_default() += 1;
        }
        if let Some((class, count)) = classes.iter().max_by_key(|(_, count)| **count) {
            assert!(*count <= 210, "G8: {count} lines in a second of {class:?}");
        }
    }
}

/// Sees that a Reason String helps and does not tell what others should not know.
#[track_caller]
pub(crate) fn check_reason_string(text: &[u8]) {
    let text = str::from_utf8(text).expect("G7: a Reason String is UTF-8");
    assert!(text.len() <= 256, "G7: a Reason String of {} bytes", text.len());
    for internal in [".rs", "panicked", "innocent", "/src", "::"] {
        assert!(!text.contains(internal), "G7: a Reason String that names internals: {text}");
    }
}

/// Payloads for a message to whoever reads the failure.
fn in_words(payloads: &[Vec<u8>]) -> Vec<String> {
    payloads.iter().take(10).map(|payload| payload.escape_ascii().to_string()).collect()
}

/// A name that no other test uses on a broker that they may share.
pub(crate) fn unique(name: &str) -> String {
    static USED: AtomicU32 = AtomicU32::new(0);
    format!("{name}-{}-{}", std::process::id(), USED.fetch_add(1, Ordering::Relaxed))
}

/// The right to play: most rows side by side, some alone. It is the lock of a file, since some runners start a process for each
/// test.
pub(crate) struct Turn {
    _file: File,
    _process: Option<MutexGuard<'static, ()>>,
}

impl Turn {
    /// Alone if the list of rows says so.
    pub(crate) fn of_this_test() -> Self {
        let is_alone = thread::current().name().is_some_and(|name| name.contains("::alone"));
        if is_alone { Self::alone() } else { Self::beside_others() }
    }

    fn alone() -> Self {
        Self { _file: locked(File::lock), _process: None }
    }

    pub(crate) fn beside_others() -> Self {
        Self { _file: locked(File::lock_shared), _process: None }
    }

    /// Nothing else runs in this process: for rows that measure it.
    pub(crate) fn alone_in_this_process() -> Self {
        static PROCESS: Mutex<()> = Mutex::new(());
        if std::env::var_os("NEXTEST").is_none() {
            return Self::alone();
        }
        // It starts a process for each test; what else is in this one is the same row over other layers.
        let process = PROCESS.lock().unwrap_or_else(PoisonError::into_inner);
        Self { _process: Some(process), ..Self::beside_others() }
    }
}

fn locked(lock: impl FnOnce(&File) -> std::io::Result<()>) -> File {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bad-inputs-turn");
    let file = File::create(path).expect("the target folder can be written");
    lock(&file).expect("the file system has locks");
    file
}

/// Two Clients that have done nothing wrong, and a yardstick: the same exchange with a socket that only echoes, which
/// shows how long this machine takes at the moment when no broker is in between.
struct Innocents {
    stop: Arc<AtomicBool>,
    rounds: Vec<Arc<AtomicUsize>>,
    threads: Vec<JoinHandle<Result<Vec<Duration>, String>>>,
}

impl Innocents {
    fn start(address: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut innocents = Self { stop, rounds: Vec::new(), threads: Vec::new() };
        for version in Version::BOTH {
            innocents.spawn(move |stop, rounds| be_innocent(address, version, stop, rounds));
        }
        innocents.spawn(measure_machine);
        innocents.wait_for_rounds(WARMING_ROUNDS);
        innocents
    }

    fn spawn(&mut self, run: impl FnOnce(&AtomicBool, &AtomicUsize) -> Result<Vec<Duration>, String> + Send + 'static) {
        let rounds = Arc::new(AtomicUsize::new(0));
        let stop = Arc::clone(&self.stop);
        self.rounds.push(Arc::clone(&rounds));
        self.threads.push(thread::spawn(move || run(&stop, &rounds)));
    }

    /// Waits until each has done this many more round trips, or one has ended, which `finish` will tell.
    #[track_caller]
    fn wait_for_rounds(&self, more: usize) {
        let goals: Vec<_> = self.rounds.iter().map(|rounds| rounds.load(Ordering::Relaxed) + more).collect();
        let deadline = Instant::now() + 2 * PATIENCE;
        while self.rounds.iter().zip(&goals).any(|(rounds, goal)| rounds.load(Ordering::Relaxed) < *goal) {
            if self.threads.iter().any(JoinHandle::is_finished) {
                return;
            }
            assert!(Instant::now() < deadline, "G2: the innocents get no answers");
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Stops them and checks what they have seen; gives it in words.
    #[track_caller]
    fn finish(&mut self, kind: RowKind) -> String {
        self.stop.store(true, Ordering::Relaxed);
        let mut measured: Vec<_> = self
            .threads
            .drain(..)
            .map(|thread| match thread.join() {
                Ok(Ok(latencies)) => Latencies::of(latencies),
                Ok(Err(fault)) => panic!("G2: {fault}"),
                Err(_) => panic!("G2: an innocent got what it does not understand"),
            })
            .collect();
        let machine = measured.pop().expect("the yardstick is the last thread");
        // Under load the speed of the broker decides how long others wait, so that one that is not optimized may take longer.
        let (limit, slowness) = match kind {
            RowKind::Functional => (Duration::from_millis(100), 1),
            RowKind::Load => (Duration::from_millis(250), SLOWNESS.min(4)),
        };
        let limit = limit.mul_f64(busyness()) * slowness;
        let mut words = String::new();
        for (version, latencies) in Version::BOTH.iter().zip(measured) {
            let _ = write!(words, "{version:?} p99 {:.1?} max {:.1?}, ", latencies.p99, latencies.max);
            let allowed = limit + 3 * machine.p99;
            assert!(
                latencies.p99 <= allowed,
                "G2: {version:?} waited {latencies:?}, {allowed:?} allowed, machine {machine:?}"
            );
            let allowed = crate::client::prompt() * slowness + 3 * machine.max;
            assert!(latencies.max <= allowed, "G2: {version:?} waited {latencies:?}, machine {machine:?}");
        }
        let _ = write!(words, "machine p99 {:.1?}", machine.p99);
        words
    }
}

impl Drop for Innocents {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

#[derive(Debug)]
struct Latencies {
    p99: Duration,
    max: Duration,
}

impl Latencies {
    fn of(mut all: Vec<Duration>) -> Self {
        all.sort_unstable();
        let at =
            |share: usize| all.get((all.len() * share).div_ceil(100).saturating_sub(1)).copied().unwrap_or_default();
        Self { p99: at(99), max: at(100) }
    }
}

/// Publishes to itself at its pace until told to stop; each round trip is measured from the moment it was due, so that a
/// broker that stalls is charged for every message that waits.
fn be_innocent(
    address: SocketAddr,
    version: Version,
    stop: &AtomicBool,
    rounds: &AtomicUsize,
) -> Result<Vec<Duration>, String> {
    let topic = format!("{INNOCENT_TOPICS}{}", unique("v"));
    let mut client = Client::open(address, version);
    client.connect(&connect(version, unique("innocent")));
    if client.subscribe(&topic, 1) != 1 {
        return Err("an innocent may not subscribe".into());
    }
    let mut latencies = Vec::new();
    let mut sent: Vec<Instant> = Vec::new();
    let mut acknowledged = 0;
    let mut next = Instant::now();
    let mut last_chance = None;
    loop {
        let now = Instant::now();
        if stop.load(Ordering::Relaxed) {
            let deadline = *last_chance.get_or_insert(now + Duration::from_secs(2));
            if latencies.len() == sent.len() && acknowledged == sent.len() {
                return Ok(latencies);
            }
            if now > deadline {
                return Err(format!(
                    "{version:?}: of {} messages {} arrived and {acknowledged} were acknowledged",
                    sent.len(),
                    latencies.len()
                ));
            }
        } else {
            let is_warming = sent.len() < WARMING_ROUNDS;
            if is_warming && latencies.len() == sent.len() {
                next = now;
            }
            if now >= next {
                let id = (sent.len() % 60_000 + 1) as u16;
                client.send(&publish(version, &topic, sent.len().to_be_bytes()).qos(1, id).bytes());
                sent.push(next);
                next += INNOCENT_PACE;
            }
        }
        let until = if last_chance.is_some() { Duration::from_millis(20) } else { next.saturating_duration_since(now) };
        match client.event(until) {
            Event::Silence => {}
            Event::Closed => return Err(format!("{version:?}: an innocent was disconnected")),
            Event::Packet(packet) if packet.kind() == kind::PUBACK => {
                if packet.reason() > code::NO_MATCHING_SUBSCRIBERS {
                    return Err(format!("{version:?}: an innocent was refused: {packet:02x?}"));
                }
                acknowledged += 1;
            }
            Event::Packet(packet) if packet.kind() == kind::PUBLISH => {
                let delivery = packet.delivery(version);
                client.acknowledge(&delivery);
                let number = usize::from_be_bytes(
                    delivery.payload.try_into().map_err(|payload| format!("payload {payload:?}"))?,
                );
                if number != latencies.len() {
                    return Err(format!("{version:?}: message {number} came where {} was due", latencies.len()));
                }
                latencies.push(sent[number].elapsed());
                rounds.fetch_add(1, Ordering::Relaxed);
            }
            Event::Packet(packet) => {
                return Err(format!("{version:?}: an innocent got {packet:02x?}"));
            }
        }
    }
}

/// The yardstick of [`Innocents`].
fn measure_machine(stop: &AtomicBool, rounds: &AtomicUsize) -> Result<Vec<Duration>, String> {
    let say = |error: std::io::Error| format!("the yardstick broke: {error}");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(say)?;
    let mut near = TcpStream::connect(listener.local_addr().map_err(say)?).map_err(say)?;
    let (mut far, _) = listener.accept().map_err(say)?;
    let echo = thread::spawn(move || {
        let mut bytes = [0; 32];
        while far.read_exact(&mut bytes).is_ok() && far.write_all(&bytes).is_ok() {}
    });
    let mut latencies = Vec::new();
    let mut bytes = [0; 32];
    let mut next = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        near.write_all(&bytes).map_err(say)?;
        near.read_exact(&mut bytes).map_err(say)?;
        latencies.push(next.elapsed());
        rounds.fetch_add(1, Ordering::Relaxed);
        next = if latencies.len() < WARMING_ROUNDS { Instant::now() } else { next + INNOCENT_PACE };
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    drop(near);
    echo.join().map_err(|_| "the yardstick's echo broke".to_owned())?;
    Ok(latencies)
}

/// G4: what a broker costs on which attackers have done this and are still connected, while nobody says a word.
///
/// No innocents here, since serving them costs something.
pub(crate) fn quiet(attack: impl FnOnce(SocketAddr) -> Vec<Client>) {
    let is_tcp = Transport::of_this_test() == Transport::Tcp;
    let _turn = Turn::beside_others(); // it is the time of its own process that counts
    let broker = Broker::start(&Profile::test());
    let attackers = attack(broker.address());
    // What the attack has left to do may still run for a moment: the second look decides.
    for last in [false, true] {
        let watched = Duration::from_secs(if is_tcp { 3 } else { 1 });
        let Some(before) = broker.usage() else { return };
        thread::sleep(watched);
        let spent = broker.usage().expect("there was one before").cpu.saturating_sub(before.cpu);
        if spent <= watched / 100 {
            break;
        }
        assert!(!last, "G4: {spent:?} on a processor in {watched:?} of silence");
    }
    drop(attackers);
}
