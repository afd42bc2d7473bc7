//! Many Sessions, several shards, virtual time, one seed: random publishing, subscribing, losses of connection, resumptions,
//! shards that work in any order, and a journal whose records become safe late.
//!
//! What is checked is what Clients see: QoS 2 exactly once, QoS 1 at least once (and once only on an undisturbed
//! connection), order for each (publisher, Topic, QoS), nothing without a subscription, acknowledgements in order.
//!
//! A failure prints its seed; `SEED=123 cargo test --test simulation` plays it again, `SEEDS=1000` runs that many and
//! `TALK=1` prints every packet.

#![expect(clippy::print_stdout, reason = "a seed has to be seen")]

#[path = "../support/mod.rs"]
mod support;

#[allow(unreachable_pub, reason = "the modules of one test crate")]
mod client;
#[path = "../store/model.rs"]
#[allow(dead_code, reason = "the tests of the store need more of it")]
mod model;
#[path = "../support/random.rs"]
#[allow(unreachable_pub, reason = "the modules of one test crate")]
mod random;

use client::{Client, Got, STEADY_SHARE, Sent};
use model::{Crash, Follower, Image, Lot, Model};
use random::Random;
use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use support::{TestBroker, TestJournal};
use waypost::codec::{Qos, filter_matches};
use waypost::store::{Disk, Options, Rest, Store};

/// Runs in CI; each takes some milliseconds.
const SEEDS_DEFAULT: u64 = 300;
/// The same where the broker dies about five times a run.
const SEEDS_OF_CRASHES: u64 = 200;
const STEPS: usize = 1_500;

const TOPICS: &[&str] = &["a", "a/b", "a/b/c", "b", "b/x", "s/1", "s/2", "a//c"];
const FILTERS: &[&str] =
    &["b/#", "a/#", "a/+", "+", "a/b/c", "+/b/#", "b", "b/+", "a//c", "$share/g/a/#", "$share/g/b", STEADY_SHARE];

struct Simulation {
    random: Random,
    broker: TestBroker,
    clients: Vec<Client>,
    /// What it appends becomes safe when the simulation says so; not where there is a disk.
    journal: Arc<TestJournal>,
    /// Where the broker dies now and then: a disk that loses what was not synced.
    disk: Option<Rc<RefCell<Mortal>>>,
    deaths: u64,
}

/// The disk of a process, and what was on it when that began.
struct Mortal {
    model: Model,
    began_with: Image,
    lot: Lot,
}

impl Mortal {
    /// What the end of the process, or of the machine, leaves is what the next one begins with.
    fn dies(&mut self, crash: Crash) {
        let mut follower = Follower::of(&self.began_with);
        let events = std::mem::take(&mut self.model.world().events);
        events.iter().for_each(|event| follower.follow(event, &mut self.lot));
        self.began_with = follower.crash(crash, &mut self.lot);
        self.model = Model::of(self.began_with.clone());
    }

    fn open(&self) -> Store {
        let disk: Arc<dyn Disk> = Arc::new(self.model.clone());
        let rest: Arc<dyn Rest> = Arc::new(self.model.clone());
        // Small segments, so that what lasts moves to rest while others still talk about it; and windows of ten entries.
        let options = Options { segment_size: 4 << 10, window_bytes: 1 << 10, ..Options::default() };
        let opened = Store::open_on(disk, rest, Path::new("model"), options, &mut |_, _| ());
        let (store, findings) = opened.expect("whatever a crash leaves can be opened");
        assert!(findings.damage.is_empty(), "a crash damages nothing that was safe: {findings:?}");
        store
    }
}

#[test]
fn whatever_happens_clients_get_what_they_were_promised() {
    let mut totals = (0, 0);
    for seed in seeds(SEEDS_DEFAULT) {
        let shown = SeedOnPanic(seed);
        let mut simulation = Simulation::new(seed, false);
        simulation.run();
        let (published, received) = simulation.check();
        totals.0 += published;
        totals.1 += received;
        drop(shown);
    }
    assert!(totals.0 > 0 && totals.1 > 0, "the simulation did nothing at all: {totals:?}");
}

/// The same while the process is killed and the power goes, again and again, and the disk loses what was not synced.
#[test]
fn whatever_crashes_clients_get_what_they_were_promised() {
    let (mut deaths, mut received) = (0, 0);
    for seed in seeds(SEEDS_OF_CRASHES) {
        let shown = SeedOnPanic(seed);
        let mut simulation = Simulation::new(seed, true);
        simulation.run();
        received += simulation.check().1;
        deaths += simulation.deaths;
        drop(shown);
    }
    assert!(deaths > 0 && received > 0, "the simulation did nothing at all: {deaths} deaths, {received} received");
}

fn seeds(count: u64) -> Vec<u64> {
    match std::env::var("SEED") {
        Ok(seed) => vec![seed.parse().expect("SEED is a number")],
        Err(_) => {
            let count = std::env::var("SEEDS").ok().and_then(|count| count.parse().ok()).unwrap_or(count);
            (1..=count).collect()
        }
    }
}

/// With `TALK` set, everything that is said is printed; for a look at a single seed.
fn talk(what: std::fmt::Arguments<'_>) {
    if std::env::var_os("TALK").is_some() {
        println!("{what}");
    }
}

struct SeedOnPanic(u64);

impl Drop for SeedOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("replay with: SEED={} cargo test --test simulation", self.0);
        }
    }
}

impl Simulation {
    fn new(seed: u64, is_mortal: bool) -> Self {
        let mut random = Random::new(seed);
        let shards = 1 + random.below(4);
        let journal = if random.one_in(2) { TestJournal::safe_up_to(0) } else { TestJournal::new() };
        let receive_maximum = [1, 2, 5, 100][random.below(4)];
        // What waits behind so many is in the store alone.
        let at_hand = [1, 2, 8, 1000][random.below(4)];
        let change = |settings: &mut support::Settings| {
            settings.shards = shards;
            settings.seed = Some(seed);
            settings.session.receive_maximum = 100;
            settings.session.in_flight_max = receive_maximum;
            settings.session.queue_at_hand_max = at_hand;
            settings.session.queue_messages_max = 1_000_000;
            settings.session.queue_bytes_max = 1 << 30;
        };
        let mortal = || Mortal { model: Model::default(), began_with: Image::default(), lot: Lot::new(seed) };
        let disk = is_mortal.then(|| Rc::new(RefCell::new(mortal())));
        let broker = match &disk {
            Some(disk) => {
                let disk = Rc::clone(disk);
                TestBroker::on_disk(change, true, move || disk.borrow().open())
            }
            None => TestBroker::with_journal(change, Some(Arc::clone(&journal)), true),
        };
        let count = 3 + random.below(8);
        // The first half are steady: their Sessions last and their subscriptions stay.
        let clients = (0..count).map(|number| Client::new(number, number * 2 < count, &mut random)).collect();
        Self { random, broker, clients, journal, disk, deaths: 0 }
    }

    fn run(&mut self) {
        for _ in 0..STEPS {
            self.step();
        }
        self.come_to_rest();
    }

    fn step(&mut self) {
        let number = self.random.below(self.clients.len());
        match self.random.below(100) {
            0..25 => {
                let shard = self.random.below(self.broker.shards());
                self.broker.tick(shard);
            }
            25..45 => self.clients[number].let_broker_read(&self.broker),
            45..60 => self.clients[number].read(&mut self.random),
            60..62 => self.clients[number].lose_connection(),
            62..70 => self.clients[number].connect(&self.broker, &mut self.random),
            70..74 => {
                let filter = self.random.pick(FILTERS);
                self.clients[number].subscribe(filter, &mut self.random);
            }
            74..75 => {
                let filter = self.random.pick(FILTERS);
                self.clients[number].unsubscribe(filter);
            }
            75..97 => {
                let topic = self.random.pick(TOPICS);
                self.clients[number].publish(topic, &mut self.random);
            }
            97..98 if self.disk.is_some() && self.random.one_in(3) => self.crash(),
            97..98 => self.broker.advance(Duration::from_millis(self.random.below(2000) as u64)),
            _ => {
                self.journal.keeps_more(self.random.below(20) as u64);
                self.broker.commit();
            }
        }
    }

    fn crash(&mut self) {
        let Some(disk) = self.disk.clone() else { return };
        self.deaths += 1;
        talk(format_args!("death {}", self.deaths));
        let crash = match self.random.below(4) {
            0 => Crash::Kill,
            1 => Crash::Torn,
            _ => Crash::Power(self.random.below(17) as u32),
        };
        for client in &mut self.clients {
            client.sees_death();
        }
        self.broker
            .is_killed_on(Duration::from_millis(self.random.below(5000) as u64), |_| disk.borrow_mut().dies(crash));
    }

    /// Everybody comes back, everything becomes safe, and the broker works until nothing moves.
    fn come_to_rest(&mut self) {
        self.journal.is_let_go();
        let mut quiet_rounds = 0;
        for _ in 0..20_000 {
            let mut quiet = true;
            for client in &mut self.clients {
                client.connect_steadily(&self.broker, &mut self.random);
                client.let_broker_read(&self.broker);
                quiet &= !client.read_all();
            }
            for shard in 0..self.broker.shards() {
                self.broker.tick(shard);
            }
            self.broker.commit();
            quiet &= self.clients.iter().all(Client::is_quiet);
            quiet_rounds = if quiet { quiet_rounds + 1 } else { 0 };
            if quiet_rounds == 10 {
                return;
            }
        }
        panic!("the broker never comes to rest");
    }

    /// Messages published and received.
    fn check(&self) -> (usize, usize) {
        for receiver in self.clients.iter().filter(|client| client.steady) {
            for publisher in &self.clients {
                for sent in &publisher.sent {
                    self.check_promise(receiver, publisher, sent);
                }
            }
        }
        self.check_steady_share();
        let count = |of: fn(&Client) -> usize| self.clients.iter().map(of).sum();
        (count(|client| client.sent.len()), count(|client| client.received.len()))
    }

    /// A group with a member whose Session lasts gets every acknowledged Message, and each QoS 2 one goes to one member only.
    fn check_steady_share(&self) {
        let joined = self
            .clients
            .iter()
            .flat_map(|client| &client.steady_filters)
            .filter(|steady| steady.filter == STEADY_SHARE)
            .map(|steady| steady.since)
            .min();
        for publisher in &self.clients {
            for sent in publisher.sent.iter().filter(|sent| sent.topic.starts_with("s/")) {
                let of_this =
                    |got: &&Got| got.by_steady_share && got.publisher == publisher.number && got.serial == sent.serial;
                let copies: usize =
                    self.clients.iter().map(|client| client.received.iter().filter(of_this).count()).sum();
                if sent.acknowledged && sent.qos != Qos::AtMostOnce && joined.is_some_and(|since| since <= sent.at) {
                    assert!(copies >= 1, "no member of the steady share got {sent:?} of client {}", publisher.number);
                }
                if sent.qos == Qos::ExactlyOnce {
                    assert!(
                        copies <= 1,
                        "the steady share got {sent:?} of client {} {copies} times at QoS 2",
                        publisher.number
                    );
                }
            }
        }
    }

    /// A steady subscription that stood before the Message was published gets what was acknowledged.
    fn check_promise(&self, receiver: &Client, publisher: &Client, sent: &Sent) {
        if sent.topic.starts_with("s/") {
            return; // Topics of the steady share, which has its own check
        }
        let Some(granted) = receiver
            .steady_filters
            .iter()
            .filter(|steady| {
                steady.filter != STEADY_SHARE
                    && steady.since <= sent.at
                    && filter_matches(steady.filter.as_bytes(), sent.topic.as_bytes())
            })
            .map(|steady| steady.qos)
            .max()
        else {
            return;
        };
        let copies = receiver
            .received
            .iter()
            .filter(|got| got.publisher == publisher.number && got.serial == sent.serial)
            .count();
        let qos = granted.min(sent.qos);
        if sent.acknowledged && qos != Qos::AtMostOnce {
            assert!(
                copies >= 1,
                "client {} never got acknowledged message {:?} of client {} (granted {granted:?})",
                receiver.number,
                sent,
                publisher.number
            );
        }
        if qos == Qos::ExactlyOnce {
            assert!(
                copies <= 1,
                "client {} got message {:?} of client {} {copies} times at QoS 2",
                receiver.number,
                sent,
                publisher.number
            );
        }
    }
}
