//! The hall, where Clients meet. A broker is N shards; a shard is one thread and everything about the Clients that live
//! on it. Shards share three things only (router, retained Messages, directory) and otherwise tell each other by mail.
//!
//! Nothing in here knows a socket, a clock or a runtime: bytes and the time come in through [`Shard::receive`] and
//! [`Shard::tick`], bytes go out through a [`Wire`]. Read `shard.rs`, then `publish.rs`.

mod budget;
mod client;
mod connect;
mod directory;
mod durable;
mod fields;
mod flush;
mod mail;
mod pace;
mod publish;
mod recall;
mod restore;
mod retained;
mod rights;
mod router;
mod shard;
mod share;
mod slab;
mod subscribe;
mod sys;
mod takeover;
mod timer;

pub use budget::Level;
pub use connect::{Handshake, Opened, Refused, Request, Versions};
pub use directory::Home;
pub use durable::TABLES;
pub use mail::Strategies;
pub use recall::{Recall, Wanted};
pub use restore::{Counts, RestoredClient};
pub use shard::{Attachment, Broken, End, Shard, Wire};
pub use sys::{Denials, Drops, Ends, ReasonTallies, Statistics};

use crate::access::{Access, Identity};
use crate::codec::{Message, Origin};
use crate::session;
use crate::store::{Journal, Safety};
use crate::topic::{HashKey, Retained};
use arc_swap::ArcSwap;
use budget::Budget;
use directory::Directory;
use mail::Port;
use parking_lot::Mutex;
use restore::RestoredGroups;
use router::Router;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::Waker;
use std::time::Duration;

/// One of the node's shards, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShardId(pub u16);

/// The hall's settings: every bound that a Client can meet. The roof fills them from the configuration.
#[derive(Clone)]
pub struct Settings {
    pub session: session::Limits,
    /// 1 to 64.
    pub shards: usize,
    pub connect_packet_size_max: u32,
    pub client_id_size_max: usize,
    pub subscriptions_per_session_max: usize,
    pub retained_messages_max: usize,
    pub retained_bytes_max: usize,
    /// Retained Messages of one user that has proved who it is.
    pub retained_per_user_max: usize,
    /// Largest payload that is retained.
    pub retained_payload_bytes_max: usize,
    /// QoS 1 and 2 Messages that wait for all Sessions of one user that has proved who it is.
    pub queue_per_user_max: session::Amount,
    /// Bytes of Messages in all queues and the retained store together.
    pub memory_budget: usize,
    /// What one Client may publish in a second; a faster one is read later.
    pub message_rate_max: u32,
    /// What one Client may send in a second, everything counted; a faster one is read later.
    pub byte_rate_max: u64,
    /// Messages that one Client is sent in a second; further ones wait in its queue.
    pub message_rate_out_max: u32,
    /// Bytes that one Client is sent in a second, everything counted; further Messages wait in its queue.
    pub byte_rate_out_max: u64,
    /// Sessions of one user that has proved who it is, connected or not.
    pub sessions_per_user_max: usize,
    /// How often one Client may be taken over; then its new Network Connections wait.
    pub takeovers_per_minute_max: u32,
    /// A Client that takes nothing for so long, while there is something for it, is disconnected.
    pub write_stall_max: Duration,
    pub wildcard_subscription_available: bool,
    pub shared_subscription_available: bool,
    /// Prefix of Response Information; empty = none is given.
    pub response_information: String,
    pub assigned_client_id_prefix: String,
    /// Whether the protocol level may carry the bridge bit 0x80.
    pub bridge_bit: bool,
    pub shared_strategies: Strategies,
    /// How safe Messages have to be whose Topic matches a filter; the first that matches decides. They say nothing where nothing
    /// is kept. Looked up once for each Topic that a shard's cache does not know, however many they are.
    pub durability: Vec<(String, Durability)>,
    /// How often `$SYS` is published; zero = never.
    pub sys_interval: Duration,
    /// Of all hashing; `None` = one that nobody can guess. Simulations name one, to be repeatable.
    pub seed: Option<u64>,
}

/// How safe a Message has to be before its publisher is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// As safe as all else: see [`Keeping::safety`].
    #[default]
    Usual,
    /// Not at all. It waits in memory only, and the end of the process is its end. QoS 2 is as usual: exactly once cannot be had
    /// without the store.
    Memory,
    /// The store has it, and the operating system what the store has written. QoS 2 is as usual.
    Os,
    /// The store has it, and the disk says that it has.
    Disk,
}

/// Where what must survive goes.
#[derive(Clone)]
pub struct Keeping {
    pub journal: Arc<dyn Journal>,
    /// Who reads back what is in the store alone. `None`: everything stays in memory as well.
    pub recall: Option<Arc<dyn Recall>>,
    /// How safe something must be before anybody is told.
    pub safety: Safety,
    /// When the hall's time was 0, in milliseconds since 1970.
    pub began_unix_ms: u64,
}

/// What the shards of one node share.
pub struct Shared {
    settings: Settings,
    /// `None`: nothing survives.
    keeping: Option<Keeping>,
    /// The last number that a Session or a group in the store has.
    session_numbers: AtomicU64,
    /// When the last of the retained Messages that were there at the start expires, in milliseconds.
    retained_until: AtomicU64,
    /// By shard that sends, then by shard that receives: up to which number the latter is done with the former's Messages.
    done: Box<[AtomicU64]>,
    /// Shards whose gate is not empty.
    waiting: Box<[AtomicBool]>,
    router: Router,
    groups: Mutex<RestoredGroups>,
    retained: Retained<retained::Kept>,
    retainers: retained::Retainers,
    directory: Directory,
    ports: Box<[Port]>,
    access: ArcSwap<Access>,
    budget: Budget,
    /// Network Connections by shard, for placing new ones.
    connections: Box<[AtomicUsize]>,
    statistics: Box<[Mutex<Statistics>]>,
    ends: Ends,
}

impl Shared {
    /// Of a node of which nothing survives.
    pub fn new(settings: Settings) -> Arc<Self> {
        Self::keeping(settings, None)
    }

    pub fn keeping(settings: Settings, keeping: Option<Keeping>) -> Arc<Self> {
        let shards = settings.shards.clamp(1, router::SHARDS_MAX);
        let key = settings.seed.map_or_else(HashKey::random, HashKey::fixed);
        Arc::new(Self {
            keeping,
            session_numbers: AtomicU64::new(0),
            retained_until: AtomicU64::new(0),
            done: (0..shards * shards).map(|_| AtomicU64::new(0)).collect(),
            waiting: (0..shards).map(|_| AtomicBool::new(false)).collect(),
            router: Router::new(key.clone(), &settings.durability),
            groups: Mutex::default(),
            retained: Retained::with_key(key.clone()),
            retainers: retained::Retainers::default(),
            directory: Directory::new(key),
            ports: (0..shards).map(|_| Port::new(shards)).collect(),
            access: ArcSwap::from_pointee(Access::allow_all()),
            budget: Budget::new(settings.memory_budget, shards + 1), // one for those who are no shard
            connections: (0..shards).map(|_| AtomicUsize::new(0)).collect(),
            statistics: (0..shards).map(|_| Mutex::default()).collect(),
            ends: Ends::default(),
            settings: Settings { shards, ..settings },
        })
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    pub fn shards(&self) -> impl Iterator<Item = ShardId> {
        (0..self.ports.len() as u16).map(ShardId)
    }

    /// The journal has come further, or is in trouble: whoever waits for it looks.
    pub fn note_journal_moved(&self) {
        for (port, waiting) in self.ports.iter().zip(&self.waiting) {
            if waiting.load(Ordering::SeqCst) {
                port.call();
            }
        }
    }

    fn set_waiting(&self, shard: ShardId, is_waiting: bool) {
        self.waiting[usize::from(shard.0)].store(is_waiting, Ordering::SeqCst);
    }

    /// Where it is counted what waits for all Sessions of this user. `None`: it has not proved who it is.
    fn account_of(&self, owner: &Identity) -> Option<Arc<session::Account>> {
        self.directory.account_of(owner, self.settings.queue_per_user_max)
    }

    fn next_session_number(&self) -> u64 {
        self.session_numbers.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The store is to know this group from now on: under the number that it had before the start, or under a new one, of
    /// which `begin` tells the store.
    fn number_group(&self, seat: &router::Seat, begin: impl FnOnce(u64)) {
        if seat.kept_as() != 0 {
            return;
        }
        let mut groups = self.groups.lock();
        if seat.kept_as() == 0 {
            let number = groups.numbers.remove(&seat.text()).unwrap_or_else(|| {
                let number = self.next_session_number();
                begin(number);
                number
            });
            seat.keep_as(number);
        }
    }

    /// What waited for this group before the start. Once.
    fn take_restored(&self, group: u64) -> Vec<Message> {
        if group == 0 { Vec::new() } else { self.groups.lock().waiting.remove(&group).unwrap_or_default() }
    }

    /// Whether shard `by` is done with the Message of `from` that has this number.
    fn is_done(&self, from: ShardId, by: usize, number: u64) -> bool {
        self.done[usize::from(from.0) * self.ports.len() + by].load(Ordering::Acquire) >= number
    }

    /// Shard `by` is done with the Messages of `from` up to this number.
    fn note_done(&self, from: ShardId, by: ShardId, number: u64) {
        let done = &self.done[usize::from(from.0) * self.ports.len() + usize::from(by.0)];
        if done.load(Ordering::Relaxed) != number {
            done.store(number, Ordering::Release);
            if from != by {
                self.ports[usize::from(from.0)].call();
            }
        }
    }

    /// The shard with the fewest Network Connections.
    pub fn least_loaded(&self) -> ShardId {
        let load = |shard: &ShardId| self.connections[usize::from(shard.0)].load(Ordering::Relaxed);
        self.shards().min_by_key(load).unwrap_or(ShardId(0))
    }

    /// Network Connections of all shards that are past CONNECT.
    pub fn connections(&self) -> usize {
        self.connections.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// Who is to be woken when mail arrives for a sleeping shard.
    pub fn set_waker(&self, shard: ShardId, waker: Waker) {
        self.ports[usize::from(shard.0)].set_waker(waker);
    }

    /// The shard's thread is about to sleep; its waker is woken if mail has come meanwhile.
    pub fn fall_asleep(&self, shard: ShardId) {
        self.ports[usize::from(shard.0)].fall_asleep();
    }

    /// The mark by which a publisher's Messages are recognised.
    pub fn origin_of(&self, client_id: &str) -> Origin {
        self.directory.origin_of(client_id)
    }

    pub fn awake(&self, shard: ShardId) {
        self.ports[usize::from(shard.0)].awake();
    }

    /// Puts other rights in force, for Clients that are there as well: each shard takes them up with its next tick.
    pub fn set_access(&self, access: Access) {
        self.access.store(Arc::new(access));
        self.ports.iter().for_each(Port::call);
    }

    /// The rights in force.
    pub fn access(&self) -> Arc<Access> {
        self.access.load_full()
    }

    /// The payload retained for a Topic Name.
    pub fn retained_payload(&self, topic: &[u8]) -> Option<Vec<u8>> {
        self.retained.get(topic).map(|kept| kept.message.payload().to_vec())
    }

    /// The sum over all shards, as of their last ticks.
    pub fn statistics(&self) -> Statistics {
        let mut sum = Statistics::default();
        for one in &self.statistics {
            sum.add(&one.lock());
        }
        sum
    }

    /// How the Network Connections of Clients have ended, of all shards.
    pub fn ends(&self) -> &Ends {
        &self.ends
    }

    /// Retained Messages, and their bytes.
    pub fn retained(&self) -> (usize, usize) {
        (self.retained.len(), self.retained.bytes())
    }

    /// Bytes of live Messages, as of the last ticks, and what that means for those who publish.
    pub fn memory(&self) -> (u64, Level) {
        (self.budget.used().try_into().unwrap_or(0), self.budget.level())
    }

    /// Filters that somebody subscribes to, shared ones included.
    pub fn filters(&self) -> usize {
        self.router.filters()
    }
}
