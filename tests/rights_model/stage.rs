//! Where the model meets a broker: one in memory with a time of its own, or the built binary over sockets, whose rule and
//! password files are written anew and read again on SIGHUP.

use crate::broker::{Broker, Profile};
use crate::rules::Book;
use crate::support::people::People;
use crate::support::wire::{self, Packet, Version};
use crate::support::{Link, TestBroker};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use waypost::access::password::{Hash, Scheme};

/// The number of each user's password.
pub type Accounts = BTreeMap<&'static str, u32>;

pub trait Stage {
    fn open(&self) -> Rc<dyn Line>;
    /// Comes back when the broker has dealt with all that was said.
    fn settle(&self);
    /// These rules and accounts hold from now on.
    fn put_in_force(&self, book: &Book, accounts: &Accounts);
    /// Its time, its logins and its tokens, where they are the test's to command.
    fn memory(&self) -> Option<&Memory>;
}

/// A Network Connection, seen from the Client's end.
pub trait Line {
    fn send(&self, bytes: &[u8]);
    /// Whole packets.
    fn received(&self) -> Vec<u8>;
    fn is_closed(&self) -> bool;
    /// For one that the broker has to close.
    fn must_close(&self) -> bool;
    fn drop_connection(&self);
}

pub struct Memory {
    pub broker: TestBroker,
    pub people: People,
}

impl Stage for Memory {
    fn open(&self) -> Rc<dyn Line> {
        Rc::new(self.broker.link())
    }

    fn settle(&self) {}

    fn put_in_force(&self, book: &Book, _: &Accounts) {
        self.broker.set_access(book.access().with_accounts(Arc::new(self.people.clone())));
    }

    fn memory(&self) -> Option<&Memory> {
        Some(self)
    }
}

impl Line for Link {
    fn send(&self, bytes: &[u8]) {
        Self::send(self, bytes);
    }

    fn received(&self) -> Vec<u8> {
        Self::received(self)
    }

    fn is_closed(&self) -> bool {
        Self::is_closed(self)
    }

    fn must_close(&self) -> bool {
        Self::is_closed(self)
    }

    fn drop_connection(&self) {
        Self::drop_connection(self);
    }
}

pub fn password(user: &str, number: u32) -> Vec<u8> {
    format!("{user} {number}").into_bytes()
}

// --- over sockets -----------------------------------------------------------------------------------------------------

/// Longest wait for something that must come.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between publisher, a group's home and its member there are two letters between shards; each is taken before the answer
/// to the PINGREQ after the next.
const ROUNDS: usize = 4;
/// Somebody whose one right tells which rules are in force. No rule of the model is about topics that begin with `$`.
const CANARY: &str = "canary";

pub struct Sockets {
    broker: Broker,
    folder: PathBuf,
    sockets: RefCell<Vec<Rc<Socket>>>,
    /// The last of one for each shard.
    canary: RefCell<Option<Rc<Socket>>>,
    /// By user and number of the password. Another hash of the same password would be another password.
    hashes: RefCell<BTreeMap<(String, u32), String>>,
    changes: Cell<u32>,
}

struct Socket {
    stream: TcpStream,
    raw: RefCell<Vec<u8>>,
    packets: RefCell<Vec<u8>>,
    pongs: Cell<usize>,
    connected: Cell<bool>,
    closed: Cell<bool>,
}

impl Sockets {
    pub fn start(book: &Book, shards: usize) -> Self {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("waypost-rights-model-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder).expect("the temporary folder can be written");
        let path = |name: &str| folder.join(name).display().to_string();
        let mut profile = Profile::test();
        profile
            .set("node.shards", shards)
            .set("[listener].authentication", ["password"])
            .set("password.file", path("passwd"))
            .set("acl.files", [path(rule_file(book)), path("bans.toml")])
            .set("limits.failed_logins_max", 1_000_000);
        let hashes = RefCell::default();
        write_files(&folder, &hashes, book, &Accounts::new(), 0);
        let broker = Broker::start(&profile);
        let stage = Self {
            broker,
            folder,
            sockets: RefCell::default(),
            canary: RefCell::default(),
            hashes,
            changes: Cell::new(0),
        };
        // The broker puts each new connection where there are fewest, so there is one in each shard. Without, a shard whose
        // Clients have all gone could take its time with their Wills.
        for shard in 0..shards {
            let canary = stage.socket();
            let hello = wire::connect(Version::V5, &format!("{CANARY}-{shard}")).keep_alive(0);
            let hello = hello.user_name(CANARY).password(&password(CANARY, 0));
            canary.send(&hello.bytes(Version::V5));
            *stage.canary.borrow_mut() = Some(canary);
            stage.settle();
        }
        stage
    }

    fn socket(&self) -> Rc<Socket> {
        let stream = TcpStream::connect(self.broker.address()).expect("the broker accepts connections");
        stream.set_nodelay(true).expect("a socket has this option");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket has this option");
        let socket = Rc::new(Socket {
            stream,
            raw: RefCell::default(),
            packets: RefCell::default(),
            pongs: Cell::new(0),
            connected: Cell::new(false),
            closed: Cell::new(false),
        });
        self.sockets.borrow_mut().push(Rc::clone(&socket));
        socket
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn rule_file(book: &Book) -> &'static str {
    if book.is_native() { "acl.toml" } else { "acl.conf" }
}

fn write_files(
    folder: &std::path::Path,
    hashes: &RefCell<BTreeMap<(String, u32), String>>,
    book: &Book,
    accounts: &Accounts,
    change: u32,
) {
    let mut rules = book.text();
    let _ = if book.is_native() {
        writeln!(rules, "[user.{CANARY}]\nallow = {{ subscribe = \"$canary/{change}\" }}")
    } else {
        writeln!(rules, "user {CANARY}\ntopic read $canary/{change}")
    };
    let mut passwords = String::new();
    for (user, number) in accounts.iter().map(|(user, number)| (*user, *number)).chain([(CANARY, 0)]) {
        let mut hashes = hashes.borrow_mut();
        let hash = hashes.entry((user.to_owned(), number)).or_insert_with(|| {
            let hash = Hash::create(Scheme::Pbkdf2, &password(user, number), Some(1));
            hash.expect("a good password").to_string()
        });
        let _ = writeln!(passwords, "{user}:{hash}");
    }
    // Each replaced as a whole: nobody reads half of it.
    for (name, text) in [(rule_file(book), rules), ("bans.toml", book.bans()), ("passwd", passwords)] {
        let new = folder.join("new");
        fs::write(&new, text).expect("the temporary folder can be written");
        fs::rename(&new, folder.join(name)).expect("the temporary folder can be written");
    }
}

impl Stage for Sockets {
    fn open(&self) -> Rc<dyn Line> {
        self.socket()
    }

    fn settle(&self) {
        self.sockets.borrow_mut().retain(|socket| !socket.closed.get());
        let sockets: Vec<Rc<Socket>> = self.sockets.borrow().clone();
        for socket in &sockets {
            socket.read_until(|socket| socket.connected.get());
        }
        for _ in 0..ROUNDS {
            for socket in &sockets {
                socket.pongs.set(0);
                socket.send(&wire::PINGREQ);
            }
            for socket in &sockets {
                socket.read_until(|socket| socket.pongs.get() > 0);
            }
        }
    }

    fn put_in_force(&self, book: &Book, accounts: &Accounts) {
        let change = self.changes.get() + 1;
        self.changes.set(change);
        write_files(&self.folder, &self.hashes, book, accounts, change);
        self.broker.hang_up();
        let canary = self.canary.borrow().clone().expect("it came first");
        let deadline = Instant::now() + PATIENCE;
        let packet = wire::subscribe(1).to(format!("$canary/{change}"), 0).bytes(Version::V5);
        loop {
            assert!(Instant::now() < deadline, "the rules are not in force: {}", self.broker.log());
            canary.packets.borrow_mut().clear();
            canary.send(&packet);
            canary.read_until(|canary| !canary.packets.borrow().is_empty());
            if canary.packets.borrow().last() == Some(&0) {
                break; // granted
            }
        }
        self.settle();
    }

    fn memory(&self) -> Option<&Memory> {
        None
    }
}

impl Socket {
    fn read_until(&self, enough: impl Fn(&Self) -> bool) {
        while !self.closed.get() && !enough(self) {
            let mut bytes = [0; 4096];
            match (&self.stream).read(&mut bytes) {
                Ok(0) => self.closed.set(true),
                Ok(count) => {
                    self.raw.borrow_mut().extend_from_slice(&bytes[..count]);
                    self.sort();
                }
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => self.closed.set(true),
                Err(error) => panic!("nothing came: {error}"),
            }
        }
    }

    /// Takes whole packets out of what has come.
    fn sort(&self) {
        let mut raw = self.raw.borrow_mut();
        loop {
            let (mut length, mut at, mut shift) = (0_usize, 1, 0);
            loop {
                let Some(byte) = raw.get(at) else { return };
                length |= usize::from(byte & 0x7f) << shift;
                (at, shift) = (at + 1, shift + 7);
                if byte & 0x80 == 0 {
                    break;
                }
            }
            if raw.len() < at + length {
                return;
            }
            let packet: Vec<u8> = raw.drain(..at + length).collect();
            match packet[0] >> 4 {
                13 => self.pongs.set(self.pongs.get() + 1),
                kind => {
                    if kind == 2 {
                        self.connected.set(true);
                    }
                    self.packets.borrow_mut().extend(packet);
                }
            }
        }
    }
}

impl Line for Socket {
    fn send(&self, bytes: &[u8]) {
        let _ = (&self.stream).write_all(bytes); // what the broker has closed takes nothing
    }

    fn received(&self) -> Vec<u8> {
        self.packets.take()
    }

    fn is_closed(&self) -> bool {
        self.closed.get()
    }

    fn must_close(&self) -> bool {
        self.read_until(|_| false);
        self.closed.get()
    }

    /// The broker closes its side when it knows of it.
    fn drop_connection(&self) {
        let _ = self.stream.shutdown(Shutdown::Write);
        self.read_until(|_| false);
    }
}
