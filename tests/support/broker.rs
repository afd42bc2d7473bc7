//! A whole broker in memory: real bytes, real shards, virtual time, no socket and no thread.
//!
//! `TestBroker` runs its shards until nothing moves after each thing that a test does, so a test reads like a conversation.
//! The simulation uses the same world by hand (`TestBroker::by_hand`): it decides itself which shard works next.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::TestJournal;
use waypost::access::{Access, Anyone, Authenticator, Identity, Pending, Step};
use waypost::broker::{
    Attachment, Broken, Handshake, Keeping, Opened, Recall, Refused, Request, Settings, Shard, ShardId, Shared,
    Strategies, Versions, Wanted, Wire,
};
use waypost::codec::{Characters, Limits as CodecLimits, Moment, Qos, ReasonCode, TopicLimits};
use waypost::session::{Amount, Drops, Limits};
use waypost::store::{Position, Safety, Store};

/// The settings that tests start from: small, so that bounds are reached fast.
pub fn settings() -> Settings {
    Settings {
        session: Limits {
            codec: CodecLimits {
                packet_size_max: 1 << 20,
                user_properties_max: 64,
                property_bytes_max: 64 << 10,
                characters: Characters::Lenient,
            },
            receive_maximum: 100,
            topic_alias_maximum: 16,
            topic_alias_outbound_max: 16,
            topic: TopicLimits { levels_max: 128, ..TopicLimits::NONE },
            maximum_qos: Qos::ExactlyOnce,
            retain_available: true,
            validate_utf8_payload: false,
            session_expiry_max: Duration::from_secs(7 * 24 * 3600),
            keep_alive_max: Duration::from_secs(3600),
            in_flight_max: 100,
            queue_at_hand_max: 1000,
            queue_messages_max: 1000,
            queue_bytes_max: 8 << 20,
            queue_drops: Drops::Newest,
            queue_qos0_messages_max: 1000,
            queue_qos0_bytes_max: 8 << 20,
            queue_qos0_offline: false,
            filters_per_subscribe_max: 100,
        },
        shards: 2,
        connect_packet_size_max: 384 << 10,
        client_id_size_max: 1024,
        subscriptions_per_session_max: 1000,
        retained_messages_max: 100_000,
        retained_bytes_max: 64 << 20,
        retained_per_user_max: 10_000,
        retained_payload_bytes_max: 1 << 20,
        queue_per_user_max: Amount { messages: 1_000_000, bytes: 1 << 30 },
        memory_budget: 256 << 20,
        message_rate_max: 1_000_000_000,
        byte_rate_max: u64::MAX,
        message_rate_out_max: u32::MAX,
        byte_rate_out_max: u64::MAX,
        sessions_per_user_max: 1_000,
        takeovers_per_minute_max: 60_000,
        write_stall_max: Duration::from_secs(20),
        wildcard_subscription_available: true,
        shared_subscription_available: true,
        response_information: String::new(),
        assigned_client_id_prefix: "auto-".to_owned(),
        bridge_bit: true,
        shared_strategies: Strategies::default(),
        durability: Vec::new(),
        sys_interval: Duration::ZERO,
        seed: Some(1),
    }
}

/// The time of day when the time of a test begins: 2026-01-01.
pub const BEGAN_UNIX_MS: u64 = 1_767_225_600_000;

/// The broker, shared by all links to it.
#[derive(Clone)]
pub struct TestBroker {
    world: Rc<RefCell<World>>,
    by_hand: bool,
}

/// One Network Connection, seen from the Client's end.
pub struct Link {
    broker: TestBroker,
    number: usize,
}

struct World {
    /// Of a broker whose journal a test holds in its hand.
    journal: Option<Arc<TestJournal>>,
    /// What survives, where something does.
    kept: Option<Kept>,
    /// Where the journal ended when it could not be committed.
    failed_at: Cell<Option<Position>>,
    shared: Arc<Shared>,
    shards: Vec<Shard<Pipe>>,
    links: Vec<LinkState>,
    now: Moment,
    next_shard: usize,
    guard: Arc<dyn Authenticator>,
}

struct Kept {
    store: Store,
    open: Rc<dyn Fn() -> Store>,
    /// What the shards want to have read.
    asked: Arc<Mutex<Vec<Wanted>>>,
    settings: Settings,
    /// The time of day when the present process began.
    began_unix_ms: u64,
}

struct Asked(Arc<Mutex<Vec<Wanted>>>);

impl Recall for Asked {
    fn recall(&self, wanted: Wanted) {
        self.0.lock().expect("nobody panicked").push(wanted);
    }
}

struct LinkState {
    shard: usize,
    stage: Stage,
    /// Sent by the Client, not yet read by the broker.
    inbox: Vec<u8>,
    pipe: Rc<PipeState>,
}

enum Stage {
    Handshake(Handshake),
    LogIn(Box<Request>, Pending),
    Open(Attachment),
    /// The Client is taken over too often; again at this moment.
    Waiting(Moment, Box<Request>, Identity),
    Closed,
}

/// What the broker has written.
#[derive(Default)]
struct PipeState {
    bytes: RefCell<Vec<u8>>,
    stopped: Cell<bool>,
}

struct Pipe {
    state: Rc<PipeState>,
}

impl Wire for Pipe {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Broken> {
        if self.state.stopped.get() {
            return Ok(0);
        }
        self.state.bytes.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn reader(&self) -> &Waker {
        Waker::noop()
    }
}

impl Default for TestBroker {
    fn default() -> Self {
        Self::new()
    }
}

impl TestBroker {
    pub fn new() -> Self {
        Self::with(|_| ())
    }

    pub fn with(change: impl FnOnce(&mut Settings)) -> Self {
        Self::with_journal(change, None, false)
    }

    /// Nothing moves unless the test says so.
    pub fn by_hand(change: impl FnOnce(&mut Settings)) -> Self {
        Self::with_journal(change, None, true)
    }

    /// The same broker, for those steps of a test after which nothing is to move by itself.
    pub fn held(&self) -> Self {
        Self { by_hand: true, ..self.clone() }
    }

    /// Sessions that outlive their Network Connections are kept in this journal.
    pub fn with_journal(change: impl FnOnce(&mut Settings), journal: Option<Arc<TestJournal>>, by_hand: bool) -> Self {
        let mut settings = settings();
        change(&mut settings);
        let now = Moment::from_millis(0);
        let keeping = journal.clone().map(|journal| Keeping {
            journal,
            recall: None,
            safety: Safety::Synced,
            began_unix_ms: BEGAN_UNIX_MS,
        });
        let shared = Shared::keeping(settings, keeping);
        let shards = shared.shards().map(|id| Shard::new(id, Arc::clone(&shared), now)).collect();
        let broker = Self {
            world: Rc::new(RefCell::new(World {
                journal,
                kept: None,
                failed_at: Cell::new(None),
                shared,
                shards,
                links: Vec::new(),
                now,
                next_shard: 0,
                guard: Arc::new(Anyone),
            })),
            by_hand,
        };
        broker.settle();
        broker
    }

    /// What must survive is in a store, which is opened again for each process. Nothing is committed before the broker comes to
    /// rest or [`commit`](Self::commit) is called.
    pub fn on_disk(change: impl FnOnce(&mut Settings), by_hand: bool, open: impl Fn() -> Store + 'static) -> Self {
        let broker = Self::with_journal(change, None, true);
        {
            let mut world = broker.world.borrow_mut();
            let settings = world.shared.settings().clone();
            world.kept = Some(Kept {
                store: open(),
                open: Rc::new(open),
                asked: Arc::default(),
                settings,
                began_unix_ms: BEGAN_UNIX_MS,
            });
            world.begin();
        }
        let broker = Self { by_hand, ..broker };
        broker.after_action();
        broker
    }

    /// The process ends without a word and another one begins on what the store has. All Network Connections are gone.
    pub fn is_killed(&self, away: Duration) {
        self.is_killed_on(away, |_| ());
    }

    /// The same, and something happens to the disk before the next process opens it.
    pub fn is_killed_on(&self, away: Duration, between: impl FnOnce(&Store)) {
        let mut world = self.world.borrow_mut();
        world.end(between);
        let passed = world.now.plus(away).as_millis();
        world.now = Moment::from_millis(0);
        let kept = world.kept.as_mut().expect("there is a store");
        kept.began_unix_ms += passed;
        world.begin();
        drop(world);
        self.after_action();
    }

    /// The process stops in order.
    pub fn restarts(&self, away: Duration) {
        self.stop();
        self.commit();
        self.is_killed(away);
    }

    /// What has gathered is safe now. `false`: there was nothing.
    pub fn commit(&self) -> bool {
        let mut world = self.world.borrow_mut();
        world.failed_at.set(None);
        world.commit()
    }

    /// From now on, this one decides who may enter.
    pub fn guarded_by(self, guard: impl Authenticator + 'static) -> Self {
        self.world.borrow_mut().guard = Arc::new(guard);
        self
    }

    /// Puts other rights in force, for those who are there as well.
    pub fn set_access(&self, access: Access) {
        self.world.borrow().shared.set_access(access);
        self.after_action();
    }

    pub fn now(&self) -> Moment {
        self.world.borrow().now
    }

    /// A Network Connection; shards get them in turn.
    pub fn link(&self) -> Link {
        let mut world = self.world.borrow_mut();
        let shard = world.next_shard;
        world.next_shard = (shard + 1) % world.shards.len();
        world.links.push(LinkState {
            shard,
            stage: Stage::Handshake(Handshake::new(Versions::ALL)),
            inbox: Vec::new(),
            pipe: Rc::default(),
        });
        Link { broker: self.clone(), number: world.links.len() - 1 }
    }

    /// Time passes, and whatever is due happens when it is due.
    pub fn advance(&self, duration: Duration) {
        let end = self.world.borrow().now.plus(duration);
        loop {
            let next = {
                let world = self.world.borrow();
                world.shards.iter().filter_map(Shard::deadline).filter(|deadline| *deadline <= end).min()
            };
            let Some(next) = next else { break };
            {
                let mut world = self.world.borrow_mut();
                world.now = world.now.max(next);
                let now = world.now;
                for shard in &mut world.shards {
                    if shard.deadline().is_some_and(|deadline| deadline <= now) {
                        shard.tick(now);
                    }
                }
            }
            self.settle();
        }
        self.world.borrow_mut().now = end;
        self.settle();
    }

    pub fn retained(&self, topic: &str) -> Option<Vec<u8>> {
        self.world.borrow().shared.retained_payload(topic.as_bytes())
    }

    /// Sessions, connected or not.
    pub fn sessions(&self) -> usize {
        self.world.borrow().shards.iter().map(Shard::sessions).sum()
    }

    /// Subscriptions of all Sessions, shared ones included.
    pub fn subscriptions(&self) -> usize {
        self.tick_all();
        let sum = self.world.borrow().shared.statistics();
        usize::try_from(sum.subscriptions + sum.shared_subscriptions).expect("not that many")
    }

    /// Different filters in the tree.
    pub fn filters(&self) -> usize {
        self.world.borrow().shared.filters()
    }

    pub fn statistics(&self) -> waypost::broker::Statistics {
        self.tick_all();
        self.world.borrow().shared.statistics()
    }

    /// A clean stop of the node.
    pub fn stop(&self) {
        let mut world = self.world.borrow_mut();
        let now = world.now;
        world.shards.iter_mut().for_each(|shard| shard.publish_last_wills(now));
        for _ in 0..2 {
            world.shards.iter_mut().for_each(|shard| shard.tick(now));
        }
        for shard in &mut world.shards {
            shard.stop(ReasonCode::ServerShuttingDown, now);
        }
    }

    /// One tick of one shard, whether it wants one or not.
    pub fn tick(&self, shard: usize) {
        let mut world = self.world.borrow_mut();
        let now = world.now;
        world.shards[shard].tick(now);
    }

    pub fn wants_tick(&self, shard: usize) -> bool {
        self.world.borrow().shards[shard].wants_tick()
    }

    pub fn shards(&self) -> usize {
        self.world.borrow().shards.len()
    }

    /// Lets one link's bytes be read. `false`: there was nothing to read, or the shard did not want to.
    pub fn read(&self, link: usize) -> bool {
        self.world.borrow_mut().read(link)
    }

    fn tick_all(&self) {
        for shard in 0..self.shards() {
            self.tick(shard);
        }
        self.settle();
    }

    fn after_action(&self) {
        if !self.by_hand {
            self.settle();
        }
    }

    /// Runs everything until nothing moves any more.
    pub fn settle(&self) {
        let mut world = self.world.borrow_mut();
        for _ in 0..100_000 {
            let mut moved = false;
            for link in 0..world.links.len() {
                moved |= world.read(link);
            }
            let now = world.now;
            for shard in &mut world.shards {
                if shard.wants_tick() {
                    shard.tick(now);
                    moved = true;
                }
            }
            moved |= world.commit();
            if !moved {
                return;
            }
        }
        panic!("the broker never comes to rest");
    }
}

impl World {
    fn commit(&mut self) -> bool {
        let has_recalled = self.recall();
        if self.journal.as_ref().is_some_and(|journal| journal.has_moved()) {
            self.shared.note_journal_moved();
            return true;
        }
        let Some(kept) = &self.kept else { return false };
        let journal = kept.store.journal();
        let reached = || (journal.reached(Safety::Written), journal.reached(Safety::Synced));
        let (before, tail) = (reached(), journal.tail());
        if before == (tail, tail) {
            return has_recalled;
        }
        let shared = Arc::clone(&self.shared);
        // In vain once more; nobody is told twice.
        if self.failed_at.replace(Some(journal.tail())) == Some(journal.tail()) {
            return has_recalled;
        }
        match kept.store.commit(&|| shared.note_journal_moved()) {
            // What nobody wants to be synced is not.
            Ok(()) => {
                self.failed_at.set(None);
                return has_recalled || reached() != before;
            }
            Err(error) => {
                assert_eq!(error.kind(), std::io::ErrorKind::StorageFull, "the disk works, unless it is full")
            }
        }
        true
    }

    /// Reads what the shards want to have read. `true`: something was.
    fn recall(&mut self) -> bool {
        let Some(kept) = &self.kept else { return false };
        let asked = std::mem::take(&mut *kept.asked.lock().expect("nobody panicked"));
        let mut has_recalled = false;
        for mut wanted in asked {
            if kept.store.journal().reached(Safety::Written) < wanted.up_to() {
                let _ = kept.store.commit(&|| self.shared.note_journal_moved()); // said by what is not written
            }
            match wanted.read(&kept.store) {
                Ok(Some(entries)) => {
                    self.shared.recalled(wanted, entries);
                    has_recalled = true;
                }
                Ok(None) | Err(_) => kept.asked.lock().expect("nobody panicked").push(wanted),
            }
            // Some of what is read next is at rest, and some is not.
            let _ = kept.store.checkpoint(); // done again by the next
        }
        has_recalled
    }

    /// Everything in memory goes.
    fn end(&mut self, between: impl FnOnce(&Store)) {
        for link in &mut self.links {
            link.stage = Stage::Closed;
            link.inbox.clear();
            link.pipe.bytes.borrow_mut().clear();
        }
        self.shards.clear();
        let kept = self.kept.as_mut().expect("there is a store");
        self.shared = Shared::new(kept.settings.clone());
        between(&kept.store);
        // The directory is free before it is opened again.
        let open = Rc::clone(&kept.open);
        let kept = self.kept.take().expect("there is one");
        let Kept { store, asked, settings, began_unix_ms, .. } = kept;
        drop(store);
        self.kept = Some(Kept { store: open(), open, asked, settings, began_unix_ms });
    }

    /// A process begins on what the store has.
    fn begin(&mut self) {
        let kept = self.kept.as_ref().expect("there is a store");
        let journal = kept.store.journal();
        kept.asked.lock().expect("nobody panicked").clear();
        let recall: Arc<dyn Recall> = Arc::new(Asked(Arc::clone(&kept.asked)));
        let keeping =
            Keeping { journal, recall: Some(recall), safety: Safety::Synced, began_unix_ms: kept.began_unix_ms };
        self.shared = Shared::keeping(kept.settings.clone(), Some(keeping));
        let (clients, counts) =
            self.shared.restore(&kept.store, self.now, &mut |_, _| ()).expect("the store can be read");
        assert_eq!(counts.unreadable, 0, "{counts:?}");
        self.shards = self.shared.shards().map(|id| Shard::new(id, Arc::clone(&self.shared), self.now)).collect();
        for (shard, clients) in self.shards.iter_mut().zip(clients) {
            shard.restore(clients, self.now);
        }
        self.next_shard = 0;
    }

    fn read(&mut self, number: usize) -> bool {
        let (now, shared) = (self.now, Arc::clone(&self.shared));
        let link = &mut self.links[number];
        match &mut link.stage {
            Stage::Closed => false,
            Stage::Handshake(handshake) => {
                if link.inbox.is_empty() {
                    return false;
                }
                let bytes = std::mem::take(&mut link.inbox);
                match handshake.receive(&bytes, shared.settings(), now, |client_id| shared.origin_of(client_id)) {
                    Ok(None) => {}
                    Ok(Some(request)) => self.log_in(number, request),
                    Err(refused) => self.refuse(number, &refused),
                }
                true
            }
            Stage::LogIn(_, pending) => {
                let Poll::Ready(step) = pending.as_mut().poll(&mut Context::from_waker(Waker::noop())) else {
                    return false;
                };
                let Stage::LogIn(request, _) = std::mem::replace(&mut link.stage, Stage::Closed) else {
                    unreachable!("it was just that")
                };
                match step {
                    Step::Accept { identity, data } => {
                        let mut request = request;
                        request.authentication_data = data;
                        self.open(number, request, identity);
                    }
                    Step::Refuse(reason, why) => self.refuse(number, &request.refused(reason, why)),
                    Step::Challenge { .. } => panic!("AUTH packets are tested over sockets"),
                }
                true
            }
            Stage::Waiting(due, ..) if *due > now => false,
            Stage::Waiting(..) => {
                let Stage::Waiting(_, request, identity) = std::mem::replace(&mut link.stage, Stage::Closed) else {
                    unreachable!("it was just that")
                };
                self.open(number, request, identity);
                true
            }
            Stage::Open(me) => {
                let me = *me;
                let shard = &mut self.shards[link.shard];
                if !shard.is_attached(me) {
                    link.stage = Stage::Closed;
                    return true;
                }
                if shard.is_blocked(me) && !link.pipe.stopped.get() {
                    shard.writable(me, now);
                }
                if link.inbox.is_empty() || !shard.may_read(me, Waker::noop()) {
                    return false;
                }
                let bytes = std::mem::take(&mut link.inbox);
                shard.receive(me, &bytes, now);
                true
            }
        }
    }

    fn log_in(&mut self, number: usize, request: Box<Request>) {
        if let Some(refused) = request.refuse_banned(&self.shared.access(), self.now) {
            return self.refuse(number, &refused);
        }
        let pending = self.guard.begin(request.login.clone());
        self.links[number].stage = Stage::LogIn(request, pending);
        self.read(number); // most authenticators know at once
    }

    fn open(&mut self, number: usize, mut request: Box<Request>, identity: Identity) {
        let now = self.now;
        let mut wire = Pipe { state: Rc::clone(&self.links[number].pipe) };
        let rest = std::mem::take(&mut request.rest);
        loop {
            let shard = self.links[number].shard;
            match self.shards[shard].open(request, identity.clone(), wire, now) {
                Opened::Here(me) => {
                    self.links[number].stage = Stage::Open(me);
                    self.links[number].inbox.splice(0..0, rest);
                    return;
                }
                Opened::Elsewhere(ShardId(home), again, back) => {
                    self.links[number].shard = usize::from(home);
                    (request, wire) = (again, back);
                }
                Opened::Later(due, mut request, _) => {
                    request.rest = rest;
                    self.links[number].stage = Stage::Waiting(due, request, identity);
                    return;
                }
                Opened::Refused(refused, _) => return self.refuse(number, &refused),
            }
        }
    }

    fn refuse(&mut self, number: usize, refused: &Refused) {
        let link = &mut self.links[number];
        link.pipe.bytes.borrow_mut().extend_from_slice(&refused.answer);
        link.stage = Stage::Closed;
    }
}

impl Link {
    /// Hands bytes over. Bytes sent on a closed connection are lost, as they are on the wire.
    pub fn send(&self, bytes: &[u8]) {
        self.state(|link| link.inbox.extend_from_slice(bytes));
        self.broker.after_action();
    }

    /// Everything that the broker has written since the last call.
    pub fn received(&self) -> Vec<u8> {
        self.state(|link| std::mem::take(&mut *link.pipe.bytes.borrow_mut()))
    }

    pub fn is_closed(&self) -> bool {
        let world = self.broker.world.borrow();
        let link = &world.links[self.number];
        match link.stage {
            Stage::Closed => true,
            Stage::Open(me) => !world.shards[link.shard].is_attached(me),
            Stage::Handshake(_) | Stage::LogIn(..) | Stage::Waiting(..) => false,
        }
    }

    /// The network fails: no DISCONNECT.
    pub fn drop_connection(&self) {
        {
            let mut world = self.broker.world.borrow_mut();
            let now = world.now;
            let world = &mut *world;
            let link = &mut world.links[self.number];
            if let Stage::Open(me) = link.stage {
                world.shards[link.shard].lost(me, now);
            }
            link.stage = Stage::Closed;
            link.inbox.clear();
        }
        self.broker.after_action();
    }

    /// The socket takes no more bytes.
    pub fn stop_reading(&self) {
        self.state(|link| link.pipe.stopped.set(true));
    }

    pub fn resume_reading(&self) {
        self.state(|link| link.pipe.stopped.set(false));
        self.broker.after_action();
    }

    /// Its number, for `TestBroker::read`.
    pub fn number(&self) -> usize {
        self.number
    }

    fn state<T>(&self, look: impl FnOnce(&mut LinkState) -> T) -> T {
        look(&mut self.broker.world.borrow_mut().links[self.number])
    }
}
