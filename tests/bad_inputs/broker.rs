//! The built binary as a process of its own, with the test profile: small limits, so that tests reach them fast.
//!
//! Each broker has a port, a data folder and a log file of its own, and is gone with its test: when the test ends,
//! when it panics, and, through a watching shell, when the test process is killed.
//!
//! `BAD_INPUTS_PORT` names the port of a broker that is already running; the rows then run against that one, so that
//! two brokers can be compared. `BAD_INPUTS_PID` tells its process id, if its memory and descriptors shall be checked.

use std::collections::BTreeMap;
use std::fmt::{Debug, Write as _};
use std::fs::{self, File};
use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::transport::Transport;
pub(crate) use rustix::process::Signal;

/// The largest packet after CONNECT in the test profile.
pub(crate) const PACKET_SIZE_MAX: usize = 1024 * 1024;
pub(crate) const RECEIVE_MAXIMUM: u16 = 100;
pub(crate) const TOPIC_ALIAS_MAXIMUM: u16 = 16;
pub(crate) const TOPIC_LEVELS_MAX: usize = 128;
pub(crate) const CLIENT_ID_SIZE_MAX: usize = 1024;
pub(crate) const FILTERS_PER_SUBSCRIBE_MAX: usize = 100;
pub(crate) const SUBSCRIPTIONS_PER_SESSION_MAX: usize = 1000;
pub(crate) const SESSION_EXPIRY_MAX_S: u32 = 7 * 24 * 3600;
pub(crate) const KEEP_ALIVE_MAX_S: u16 = 3600;

/// The configuration of one broker, and the environment of its process.
pub(crate) struct Profile {
    /// Values as they are written in the file, by section and key.
    sections: BTreeMap<String, BTreeMap<String, String>>,
    environment: Vec<(&'static str, String)>,
    transport: Transport,
    /// What the shell does before it becomes the broker.
    prelude: Option<String>,
    /// The shell has mounts of its own, which nobody else sees and which end with the broker.
    has_own_mounts: bool,
    /// Where the broker's files are, when they outlive it.
    place: Option<PathBuf>,
    /// The data folder within that.
    data: &'static str,
}

impl Profile {
    /// The one listener speaks what the test is played over.
    pub(crate) fn test() -> Self {
        let transport = Transport::of_this_test();
        let mut profile = Self {
            sections: BTreeMap::new(),
            environment: Vec::new(),
            transport,
            prelude: None,
            has_own_mounts: false,
            place: None,
            data: "data",
        };
        profile
            .set("node.shards", 2)
            .set("node.memory_budget", "256MiB")
            .set("limits.packet_size_max", "1MiB")
            .set("limits.connect_packet_size_max", "384KiB")
            .set("limits.connect_timeout", "5s")
            .set("limits.connections_pending_max", 1000)
            .set("limits.receive_maximum", 100)
            .set("limits.topic_alias_maximum", 16)
            .set("limits.topic_levels_max", 128)
            .set("limits.client_id_size_max", 1024)
            .set("limits.user_properties_max", 64)
            .set("limits.property_size_max", "64KiB")
            .set("limits.filters_per_subscribe_max", 100)
            .set("limits.subscriptions_per_session_max", 1000)
            .set("limits.session_expiry_max", "7d")
            .set("limits.keep_alive_max", "1h")
            .set("limits.queue_messages_max", 1000)
            .set("limits.queue_size_max", "8MiB")
            .set("limits.takeovers_per_minute_max", 60_000)
            .set("limits.write_stall_max", "20s")
            .set("limits.retained_messages_max", 100_000)
            .set("limits.retained_size_max", "64MiB")
            .set("admin.address", "off")
            .set("store.durability", "memory")
            .set("mqtt.bridge_bit", false)
            .set("[listener].allow_anonymous", true);
        profile
    }

    /// Sets `section.key`, or `[listener].key` for the one listener. The Debug form of numbers, switches, strings and
    /// lists of strings is also their form in TOML, as long as the strings are plain.
    pub(crate) fn set(&mut self, key: &str, value: impl Debug) -> &mut Self {
        let (section, key) = key.split_once('.').expect("a key is `section.key`");
        let section = self.sections.entry(section.to_owned()).or_default();
        section.insert(key.to_owned(), format!("{value:?}"));
        self
    }

    pub(crate) fn environment(&mut self, name: &'static str, value: impl Into<String>) -> &mut Self {
        self.environment.push((name, value.into()));
        self
    }

    /// Lets a shell set up the process, `ulimit` and the like, before it becomes the broker; the last words may redirect.
    pub(crate) fn prelude(&mut self, script: impl Into<String>) -> &mut Self {
        self.prelude = Some(script.into());
        self
    }

    /// The broker keeps what it acknowledges, in this place, where the next one finds it.
    pub(crate) fn keeps_in(&mut self, place: &Place) -> &mut Self {
        self.place = Some(place.0.clone());
        self.set("store.durability", "disk")
    }

    /// The data folder lies in a file system of its own, which only the broker sees ([`Broker::disk`]) and which goes with it.
    /// `script` mounts it on `$1`.
    pub(crate) fn on_disk_of_its_own(&mut self, script: &str) -> &mut Self {
        let place = self.place.as_ref().expect("`keeps_in` comes first").join("disk");
        fs::create_dir_all(&place).expect("the temporary folder can be written");
        self.has_own_mounts = true;
        self.data = "disk/data";
        let place = place.display();
        self.prelude(format!("mount_it() {{ {script}; }}; mount_it {place} || exit 111"))
    }

    /// The broker, without its arguments.
    fn command(&self) -> Command {
        let binary = env!("CARGO_BIN_EXE_waypost");
        let Some(prelude) = &self.prelude else { return Command::new(binary) };
        let mut command = Command::new(if self.has_own_mounts { "unshare" } else { "sh" });
        if self.has_own_mounts {
            command.args(["--mount", "sh"]);
        }
        command.arg("-c").arg(format!("{prelude}; exec \"$0\" \"$@\"")).arg(binary);
        command
    }

    /// The file of a broker that listens there. Whoever opens a [`Client`](crate::client::Client) there is told what to speak.
    pub(crate) fn to_toml(&self, address: SocketAddr) -> String {
        self.transport.is_spoken_at(address);
        let mut text = String::new();
        for (section, values) in &self.sections {
            let _ = writeln!(text, "[{section}]");
            if section == "[listener]" {
                let _ = write!(text, "address = \"{address}\"\n{}", self.transport.listener_lines());
            }
            for (key, value) in values {
                let _ = writeln!(text, "{key} = {value}");
            }
        }
        text
    }
}

pub(crate) struct Broker {
    address: SocketAddr,
    pid: Option<u32>,
    process: Option<Process>,
}

/// What has to be taken down again.
struct Process {
    child: Child,
    watch: Child,
    folder: PathBuf,
    /// The folder goes with the broker.
    is_its_own: bool,
}

/// A folder that outlives brokers: each begins with what the one before has left. It goes with the test.
pub(crate) struct Place(PathBuf);

impl Place {
    pub(crate) fn new() -> Self {
        let folder = new_folder();
        fs::create_dir_all(&folder).expect("the temporary folder can be written");
        Self(folder)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.0.join("data")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // What cannot be removed stays where the system cleans up.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn new_folder() -> PathBuf {
    static MADE: AtomicU32 = AtomicU32::new(0);
    let number = MADE.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("waypost-bad-inputs-{}-{number}", std::process::id()))
}

impl Broker {
    pub(crate) fn start(profile: &Profile) -> Self {
        Self::try_start(profile).unwrap_or_else(|log| panic!("the broker does not start; its log:\n{log}"))
    }

    /// The same where it may refuse to; then its log, and how it ended.
    pub(crate) fn try_start(profile: &Profile) -> Result<Self, String> {
        if let Some(port) = number_from_environment("BAD_INPUTS_PORT") {
            let port = u16::try_from(port).expect("BAD_INPUTS_PORT is a port");
            assert_eq!(profile.transport, Transport::Tcp, "BAD_INPUTS_PORT is for the tests over TCP");
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            return Ok(Self { address, pid: number_from_environment("BAD_INPUTS_PID"), process: None });
        }
        // A free port may be taken by somebody else before the broker binds it: then the broker ends, and we try another.
        let mut log = String::new();
        for _ in 0..5 {
            match Self::start_once(profile) {
                Ok(broker) => return Ok(broker),
                Err(its_log) => log = its_log,
            }
            if !log.contains("cannot listen on") {
                break;
            }
        }
        Err(log)
    }

    fn start_once(profile: &Profile) -> Result<Self, String> {
        let folder = profile.place.clone().unwrap_or_else(new_folder);
        fs::create_dir_all(&folder).expect("the temporary folder can be written");
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, crate::port::free_port()));
        let file = folder.join("broker.toml");
        fs::write(&file, profile.to_toml(address)).expect("the temporary folder can be written");
        let log = File::create(folder.join("log")).expect("the temporary folder can be written");
        let child = profile
            .command()
            .arg("-c")
            .arg(&file)
            .arg("--data-dir")
            .arg(folder.join(profile.data))
            .envs(profile.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file can be cloned"))
            .stderr(log)
            .spawn()
            .expect("the binary runs");
        let watch = watch_over(child.id(), &folder);
        let mut broker = Self {
            address,
            pid: Some(child.id()),
            process: Some(Process { child, watch, folder, is_its_own: profile.place.is_none() }),
        };
        if broker.accepts_within(Duration::from_secs(20)) {
            return Ok(broker);
        }
        let ended = broker.process.as_mut().and_then(|process| process.child.try_wait().ok().flatten());
        let ended = ended.map_or_else(|| "it still runs".to_owned(), |status| status.to_string());
        Err(format!("{}\n{ended}", broker.log()))
    }

    fn accepts_within(&mut self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        let mut accepted = None;
        while Instant::now() < deadline && self.is_alive() {
            if accepted.is_none() && TcpStream::connect(self.address).is_ok() {
                accepted = Some(Instant::now());
            }
            // Somebody else's broker may accept there. Where there is no log to read, ours would have ended by then.
            if accepted
                .is_some_and(|since| self.log().contains("listening") || since.elapsed() > Duration::from_secs(1))
            {
                return self.is_alive();
            }
            thread::sleep(Duration::from_millis(5));
        }
        false
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether the process that was started is still the one that runs.
    pub(crate) fn is_alive(&mut self) -> bool {
        match &mut self.process {
            Some(process) => matches!(process.child.try_wait(), Ok(None)),
            None => true,
        }
    }

    /// Whether this is our binary, whose log and answers are checked in full, or a broker that somebody else started.
    pub(crate) fn is_ours(&self) -> bool {
        self.process.is_some()
    }

    /// All that the process has written so far. Bytes that are not UTF-8 show as replacement characters.
    pub(crate) fn log(&self) -> String {
        let mut bytes = Vec::new();
        if let Some(process) = &self.process {
            let mut file = File::open(process.folder.join("log")).expect("the log was created at the start");
            file.read_to_end(&mut bytes).expect("the log can be read");
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Asks the process to read its files again.
    pub(crate) fn hang_up(&self) {
        self.signal(Signal::HUP);
    }

    /// Asks the process to stop.
    pub(crate) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = self.pid.and_then(|pid| rustix::process::Pid::from_raw(pid.cast_signed()));
        rustix::process::kill_process(pid.expect("the process is known"), signal).expect("it is ours");
    }

    /// Waits for the process to end by itself; gives its exit code.
    pub(crate) fn exit_code(&mut self, patience: Duration) -> Option<i32> {
        let child = &mut self.process.as_mut().expect("it was started here").child;
        let deadline = Instant::now() + patience;
        loop {
            match child.try_wait() {
                Ok(Some(status)) => return status.code(),
                _ if Instant::now() >= deadline => return None,
                _ => thread::sleep(Duration::from_millis(5)),
            }
        }
    }

    /// Where its configuration, its data folder and its log are.
    pub(crate) fn folder(&self) -> &Path {
        &self.process.as_ref().expect("it was started here").folder
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid.expect("the process is known")
    }

    /// A path on the disk that only the broker sees.
    pub(crate) fn disk(&self, path: &str) -> PathBuf {
        let folder = self.folder().join("disk").join(path);
        let folder = folder.strip_prefix("/").unwrap_or(&folder);
        Path::new("/proc").join(self.pid().to_string()).join("root").join(folder)
    }

    /// Ends the process without a word, and waits until it has ended.
    pub(crate) fn kill(&mut self) {
        let child = &mut self.process.as_mut().expect("it was started here").child;
        let _ = child.kill();
        let _ = child.wait();
    }

    /// A look at the process, where there is one to look at.
    pub(crate) fn usage(&self) -> Option<Usage> {
        self.pid.map(Usage::of)
    }

    /// Forgets the highest memory use so far, so that the next look shows the peak from now on.
    pub(crate) fn forget_peak(&self) {
        if let Some(pid) = self.pid {
            // Without this right the peak since the start is compared, which is stricter and not wrong.
            let _ = fs::write(format!("/proc/{pid}/clear_refs"), "5");
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if thread::panicking() && self.is_ours() {
            let log = self.log();
            let lines: Vec<_> = log.lines().collect();
            crate::report(&format!(
                "the end of the broker's log:\n{}",
                lines[lines.len().saturating_sub(20)..].join("\n")
            ));
        }
        if let Some(mut process) = self.process.take() {
            // The watch first: once the broker is reaped, its process id may belong to somebody else.
            for child in [&mut process.watch, &mut process.child] {
                let _ = child.kill();
                let _ = child.wait();
            }
            if process.is_its_own {
                let _ = fs::remove_dir_all(&process.folder);
            }
        }
    }
}

/// A shell that waits for its standard input to end, which it does when this process is gone, and then cleans up.
fn watch_over(pid: u32, folder: &Path) -> Child {
    Command::new("sh")
        .args(["-c", "read line; kill -9 \"$1\"; rm -rf \"$2\"", "watch"])
        .arg(pid.to_string())
        .arg(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("every system has sh")
}

fn number_from_environment(name: &str) -> Option<u32> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text}")))
}

/// What a process holds at one moment, from /proc.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    pub(crate) resident_bytes: u64,
    pub(crate) peak_bytes: u64,
    pub(crate) threads: u64,
    /// But for those of the store's files.
    pub(crate) descriptors: usize,
    /// Time on a processor, summed over the threads that live now.
    pub(crate) cpu: Duration,
}

impl Usage {
    fn of(pid: u32) -> Self {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("0");
            line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0)
        };
        Self {
            resident_bytes: field("VmRSS:") * 1024,
            peak_bytes: field("VmHWM:") * 1024,
            threads: field("Threads:"),
            descriptors: descriptors_of(pid),
            cpu: cpu_of(pid),
        }
    }
}

/// Those of the store's files are left out: their number is bounded by itself, and goes up and down with what it does.
fn descriptors_of(pid: u32) -> usize {
    let open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let is_of_store =
        |path: PathBuf| ["/journal/", "/rest/"].iter().any(|folder| path.to_string_lossy().contains(folder));
    open.filter(|entry| !fs::read_link(entry.path()).is_ok_and(is_of_store)).count()
}

fn cpu_of(pid: u32) -> Duration {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return Duration::ZERO;
    };
    let nanoseconds = threads.flatten().map(|thread| {
        let text = fs::read_to_string(thread.path().join("schedstat")).unwrap_or_default();
        text.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0)
    });
    Duration::from_nanos(nanoseconds.sum())
}
