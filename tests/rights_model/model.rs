//! What the broker has to do, step by step, and whether it did.
//!
//! The broker comes to rest after each step, so that everything is known exactly. The few places where the order of two
//! things of the same step is the broker's own (a change of rights that sends somebody away whose Will somebody else may just
//! still get) are marked as open: there both are right.

use crate::random::Random;
use crate::rules::{Book, FILTERS, Right, TOPICS, USERS, Who, matches};
use crate::stage::{Accounts, Line, Memory, Sockets, Stage, password};
use crate::support::TestBroker;
use crate::support::people::People;
use crate::support::wire::{self, AckKind, Packet, Parsed, Version, property};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;
use waypost::access::Token;

/// Shared subscriptions; the Subscription Identifier is the place in this list, from 1.
const GROUPS: &[(&str, &str)] = &[("$share/g/a/#", "a/#"), ("$share/h/+/x", "+/x")];

/// Client Identifiers, with the user that mostly comes with it and whether it joins groups and nothing else.
const CLIENTS: &[(&str, Option<&str>, bool)] = &[
    ("c0", Some("alice"), false),
    ("c1", Some("bob"), false),
    ("c2", Some("carol"), false),
    ("d0", Some("dave"), false),
    ("n0", None, false),
    ("s0", Some("alice"), true),
    ("s1", Some("bob"), true),
    ("s2", Some("carol"), true),
];
/// Its bearer has a token that runs out. Only one Client has one, so that no two things happen in the same moment.
const BEARER: &str = "dave";
const SEVEN_DAYS_MS: u64 = 7 * 24 * 3_600_000;
const HELD_MAX: usize = 10;

#[derive(Debug, Default)]
pub struct Done {
    pub steps: usize,
    pub delivered: usize,
    /// Requests that were refused.
    pub denied: usize,
    /// Deliveries that rights forbade.
    pub kept_back: usize,
}

impl Done {
    pub fn add(&mut self, other: Self) {
        self.steps += other.steps;
        self.delivered += other.delivered;
        self.denied += other.denied;
        self.kept_back += other.kept_back;
    }
}

pub struct Model {
    random: Random,
    stage: Box<dyn Stage>,
    now_ms: u64,
    book: Book,
    accounts: Accounts,
    peers: Vec<Peer>,
    retained: BTreeMap<String, Kept>,
    groups: Vec<Group>,
    serial: u64,
    packet_id: u16,
    done: Done,
}

struct Peer {
    id: &'static str,
    usual: Option<&'static str>,
    shares: bool,
    connection: Option<Connection>,
    session: Option<Session>,
}

struct Connection {
    link: Rc<dyn Line>,
    version: Version,
    expires_ms: Option<u64>,
    expected: Vec<Delivery>,
    /// Packets that are no PUBLISH and not answered by the Client itself.
    answers: Vec<Parsed>,
}

struct Session {
    who: Who,
    /// The number of the password; `None`: nothing was proved.
    proof: Option<u32>,
    version: Version,
    expiry_ms: u64,
    left_ms: u64,
    subscriptions: BTreeMap<&'static str, u8>,
    queue: Vec<Delivery>,
    in_flight: Vec<InFlight>,
    will: Option<Will>,
}

#[derive(Clone, Debug)]
struct Will {
    message: Message,
    delay_ms: u64,
    due_ms: Option<u64>,
}

#[derive(Clone, Debug, PartialEq)]
struct Message {
    topic: String,
    payload: String,
    qos: u8,
    retain: bool,
}

#[derive(Clone, Debug)]
struct Delivery {
    topic: String,
    payload: String,
    qos: u8,
    retain: bool,
    dup: Option<u16>,
    group: Option<usize>,
    /// Whether it comes is the broker's to choose.
    open: bool,
}

#[derive(Clone, Debug)]
struct InFlight {
    packet_id: u16,
    delivery: Delivery,
    /// PUBREC was said, nothing is left but to finish.
    group: Option<usize>,
}

struct Kept {
    message: Message,
    writer: Who,
}

#[derive(Default)]
struct Group {
    waiting: Vec<Message>,
    /// May come or not, and to members of the step before as well.
    open: Vec<Message>,
    former: BTreeSet<usize>,
}

impl Model {
    pub fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let shards = 1 + random.below(3);
        let people = People::named(USERS);
        let broker = TestBroker::with(|settings| {
            settings.shards = shards;
            settings.seed = Some(seed);
        });
        let broker = broker.guarded_by(people.clone());
        let book = Book::new(&mut random);
        Self::on(Box::new(Memory { broker, people }), book, random)
    }

    /// The same over sockets.
    pub fn over_sockets(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let shards = 1 + random.below(3);
        let book = Book::new(&mut random);
        Self::on(Box::new(Sockets::start(&book, shards)), book, random)
    }

    fn on(stage: Box<dyn Stage>, book: Book, random: Random) -> Self {
        let peer = |(id, usual, shares): &(&'static str, Option<&'static str>, bool)| Peer {
            id,
            usual: *usual,
            shares: *shares,
            connection: None,
            session: None,
        };
        let mut model = Self {
            stage,
            now_ms: 0,
            book,
            accounts: Accounts::new(),
            peers: CLIENTS.iter().map(peer).collect(),
            retained: BTreeMap::new(),
            groups: GROUPS.iter().map(|_| Group::default()).collect(),
            serial: 0,
            packet_id: 0,
            done: Done::default(),
            random,
        };
        for user in USERS {
            model.set_account(user, Some(0));
        }
        model.put_in_force();
        model
    }

    pub fn run(mut self, steps: usize) -> Done {
        for at in 0..self.peers.len() {
            self.come(at, false);
            self.subscribe(at);
        }
        for _ in 0..steps {
            self.step();
            self.hear();
        }
        self.done.steps = steps;
        self.done
    }

    fn step(&mut self) {
        let at = self.random.below(self.peers.len());
        match self.random.below(100) {
            // Mostly whoever is away; now and then somebody takes over, or tries to.
            0..20 if self.peers[at].connection.is_none() || self.random.one_in(6) => self.come(at, false),
            20..21 if self.has_time() => self.come(at, true),
            21..26 => self.vanish(at),
            26..27 => self.say_goodbye(at),
            27..37 => self.subscribe(at),
            37..39 => self.unsubscribe(at),
            39..85 => self.publish(at),
            85..86 => self.guess(at),
            86..90 => {
                self.book = self.book.changed(&mut self.random);
                crate::talk(format_args!("rules:\n{}", self.book.text()));
                self.change_rights();
            }
            90..91 => {
                self.change_account();
                self.change_rights();
            }
            91..92 => {
                self.change_bans();
                self.change_rights();
            }
            92..94 => self.acknowledge_held(at),
            _ if !self.has_time() => self.publish(at),
            _ => {
                let seconds = [1, 2, 5, 20][self.random.below(4)];
                self.let_time_pass(seconds * 1000);
            }
        }
    }

    /// Whether time and logins are the test's to command.
    fn has_time(&self) -> bool {
        self.stage.memory().is_some()
    }

    fn put_in_force(&self) {
        self.stage.put_in_force(&self.book, &self.accounts);
    }

    fn set_account(&mut self, user: &'static str, number: Option<u32>) {
        if let Some(memory) = self.stage.memory() {
            match number {
                Some(number) => memory.people.admit(user, &password(user, number)),
                None => memory.people.remove(user),
            }
        }
        match number {
            Some(number) => self.accounts.insert(user, number),
            None => self.accounts.remove(user),
        };
    }

    // --- coming and going -----------------------------------------------------------------------------------------

    /// CONNECT. `meanwhile`: an account changes while the login is under way.
    fn come(&mut self, at: usize, meanwhile: bool) {
        let id = self.peers[at].id;
        let user = if self.random.one_in(8) && id != "d0" {
            [None, Some("alice"), Some("bob"), Some("carol")][self.random.below(4)]
        } else {
            self.peers[at].usual
        };
        let proof = user.map(|user| self.accounts.get(user).copied());
        let version = if self.peers[at].shares || self.random.one_in(2) { Version::V5 } else { Version::V311 };
        let clean = self.random.one_in(8);
        let expiry_s: u64 = [0, if self.has_time() { 10 } else { 0 }, 100_000, 100_000][self.random.below(4)];
        let expiry_ms = match version {
            Version::V5 => expiry_s * 1000,
            _ if clean => 0,
            _ => SEVEN_DAYS_MS,
        };
        let mut connect = wire::connect(version, id).keep_alive(0);
        connect.clean_start = clean;
        if version.is_v5() {
            connect = connect.with(property::session_expiry_interval(expiry_s as u32));
        }
        if let Some(user) = user {
            let number = proof.flatten().unwrap_or_default();
            connect = connect.user_name(user).password(&password(user, number));
        }
        let who = Who { user, client: id };
        let will = self.random.one_in(2).then(|| self.will(id, version));
        if let Some(will) = &will {
            let mut packet = wire::will(&will.message.topic, &will.message.payload).qos(will.message.qos);
            packet.retain = will.message.retain;
            if will.delay_ms > 0 {
                packet = packet.with(property::will_delay_interval((will.delay_ms / 1000) as u32));
            }
            connect = connect.will(packet);
        }
        crate::talk(format_args!(
            "{} {who:?} connects: {version:?} clean {clean} expiry {expiry_ms} will {will:?}",
            self.now_ms
        ));
        let bears = user == Some(BEARER) && self.has_time();
        let expires_ms = bears.then(|| self.now_ms + 500 + 1000 * self.random.below(60) as u64);
        if let (Some(user), Some(expires_ms), Some(memory)) = (user, expires_ms, self.stage.memory()) {
            let expires_at = Some(waypost::codec::Moment::from_millis(expires_ms));
            memory.people.give_token(user, Token { expires_at, ..Token::default() });
        }
        if let Some(memory) = self.stage.memory().filter(|_| meanwhile) {
            memory.people.take_their_time();
        }
        let link = self.stage.open();
        link.send(&connect.bytes(version));
        let accepted = proof != Some(None);
        // By its Client Identifier it is known before anybody looks at a password.
        let stays_outside = self.book.is_banned(Who { user: None, client: id });
        if meanwhile {
            if self.random.one_in(2) {
                self.change_account();
            } else {
                self.change_bans();
            }
            self.change_rights();
            self.hear();
            if let Some(memory) = self.stage.memory() {
                memory.people.answer();
                memory.broker.settle();
            }
        }
        self.stage.settle();
        let known = user.is_none() || accepted && user.map(|user| self.accounts.get(user).copied()) == proof;
        let will_allowed = will.as_ref().is_none_or(|will| self.may_publish(who, &will.message));
        let refused = match () {
            () if !accepted && !stays_outside => Some(if version.is_v5() { 0x86 } else { 4 }),
            () if stays_outside || self.book.is_banned(who) => {
                self.done.denied += 1;
                Some(if version.is_v5() { 0x8a } else { 5 })
            }
            () if !known || !will_allowed || self.belongs_to_another(at, user) => {
                self.done.denied += 1;
                Some(if version.is_v5() { 0x87 } else { 5 })
            }
            () => None,
        };
        if let Some(code) = refused {
            let heard = wire::parse(&link.received(), version.is_v5());
            match &heard[..] {
                [Parsed::ConnAck(connack)] => assert_eq!(connack.code, code, "{who:?} is refused with another code"),
                other => panic!("{who:?} should have been refused with {code:02x}: {other:?}"),
            }
            assert!(link.must_close(), "{who:?} was refused and may stay");
            return;
        }
        // The one who was there gives way.
        let takes_over = self.peers[at].connection.is_some();
        if takes_over {
            self.end(at, Some(0x8e), true);
        }
        let replaced =
            self.peers[at].session.as_ref().is_some_and(|session| clean || session.proof.is_none() && user.is_some());
        if replaced {
            self.end_session(at);
        }
        let present = self.peers[at].session.is_some();
        let proof = proof.flatten();
        let connection = Connection { link, version, expires_ms, expected: Vec::new(), answers: Vec::new() };
        self.peers[at].connection = Some(connection);
        let session = self.peers[at].session.get_or_insert_with(|| Session::new(who));
        (session.who, session.proof, session.version, session.expiry_ms) = (who, proof, version, expiry_ms);
        session.will = will;
        self.resume(at);
        self.hear();
        let answers = self.take_answers(at);
        match &answers[..] {
            [Parsed::ConnAck(connack)] => {
                assert_eq!(connack.code, 0, "{who:?} should have been let in");
                assert_eq!(connack.session_present, present, "Session Present of {who:?}");
            }
            other => panic!("{who:?} should have been let in: {other:?}"),
        }
    }

    fn will(&mut self, id: &'static str, version: Version) -> Will {
        self.serial += 1;
        let retain = self.random.one_in(3);
        let topic = if retain { format!("w/{id}") } else { TOPICS[self.random.below(TOPICS.len())].to_owned() };
        let delay_s = if version.is_v5() && self.has_time() { [0, 0, 3, 15][self.random.below(4)] } else { 0 };
        let qos = self.random.below(3) as u8;
        let payload = format!("will {}", self.serial);
        Will { message: Message { topic, payload, qos, retain }, delay_ms: delay_s * 1000, due_ms: None }
    }

    /// Its Session is somebody else's.
    fn belongs_to_another(&self, at: usize, user: Option<&str>) -> bool {
        self.peers[at].session.as_ref().is_some_and(|session| session.proof.is_some() && session.who.user != user)
    }

    /// What waited for a Session comes, as far as it may now.
    fn resume(&mut self, at: usize) {
        let Some(session) = &mut self.peers[at].session else { return };
        let who = session.who;
        let queue = std::mem::take(&mut session.queue);
        let (again, given_up): (Vec<_>, Vec<_>) = std::mem::take(&mut session.in_flight)
            .into_iter()
            .partition(|sent| self.book.may(who, Right::Receive, &sent.delivery.topic));
        self.done.kept_back += given_up.len();
        for sent in &again {
            self.expect(at, Delivery { dup: Some(sent.packet_id), ..sent.delivery.clone() });
        }
        if let Some(session) = &mut self.peers[at].session {
            session.in_flight = again;
        }
        for delivery in queue {
            if self.book.may(who, Right::Receive, &delivery.topic) {
                self.expect(at, delivery);
            } else {
                self.done.kept_back += 1;
            }
        }
    }

    /// A wrong password, the name of somebody who is there, and a Will: nothing happens.
    fn guess(&mut self, at: usize) {
        let (id, user) = (self.peers[at].id, self.random.pick(USERS));
        let will = wire::will("a/b", "forged").retain();
        let connect = wire::connect_v5(id).user_name(user).password(b"guessed").will(will);
        crate::talk(format_args!("somebody guesses the password of {user} as {id}"));
        let link = self.stage.open();
        link.send(&connect.bytes(Version::V5));
        self.stage.settle();
        let heard = wire::parse(&link.received(), true);
        let code = if self.book.is_banned(Who { user: None, client: id }) { 0x8a } else { 0x86 };
        assert!(matches!(&heard[..], [Parsed::ConnAck(connack)] if connack.code == code), "a guess: {heard:?}");
    }

    fn vanish(&mut self, at: usize) {
        let Some(connection) = &self.peers[at].connection else { return };
        crate::talk(format_args!("{} vanishes", self.peers[at].id));
        connection.link.drop_connection();
        self.end(at, None, true);
    }

    fn say_goodbye(&mut self, at: usize) {
        let Some(connection) = &self.peers[at].connection else { return };
        crate::talk(format_args!("{} says DISCONNECT", self.peers[at].id));
        connection.link.send(&wire::disconnect(0).bytes(connection.version));
        connection.link.drop_connection();
        self.end(at, None, false);
    }

    /// A Network Connection is over. `said`: what the broker must have told it.
    fn end(&mut self, at: usize, said: Option<u8>, will_is_due: bool) {
        let Some(mut connection) = self.peers[at].connection.take() else { return };
        let closed = said.is_none() || connection.link.must_close();
        let mut heard = wire::parse(&connection.link.received(), connection.version.is_v5());
        if let Some(code) = said {
            assert!(closed, "{} should have been sent away", self.peers[at].id);
            if connection.version.is_v5() {
                match heard.pop() {
                    Some(Parsed::Disconnect(farewell)) => {
                        assert_eq!(farewell.reason, code, "the reason of a DISCONNECT")
                    }
                    other => panic!("{} should have been told {code:02x}: {other:?}", self.peers[at].id),
                }
            }
        }
        for packet in heard {
            let Parsed::Publish(publish) = packet else { panic!("{}: {packet:?} at the end", self.peers[at].id) };
            let delivery = self.judge(at, &mut connection.expected, &publish);
            // Heard, and no longer acknowledged.
            if let (Some(packet_id), Some(session)) = (publish.packet_id, &mut self.peers[at].session)
                && !session.in_flight.iter().any(|sent| sent.packet_id == packet_id)
            {
                let group = delivery.group;
                session.in_flight.push(InFlight { packet_id, delivery, group });
            }
        }
        let owed = connection.expected.iter().filter(|delivery| !delivery.open).count();
        assert!(owed == 0 || said.is_some(), "owed to {}: {:?}", self.peers[at].id, connection.expected);
        let now_ms = self.now_ms;
        let Some(session) = &mut self.peers[at].session else { return };
        session.left_ms = now_ms;
        // What it had not acknowledged goes back to its groups.
        let (back, kept) = std::mem::take(&mut session.in_flight)
            .into_iter()
            .partition(|sent: &InFlight| sent.group.is_some() && sent.delivery.qos == 1);
        session.in_flight = kept;
        match &mut session.will {
            Some(will) if will_is_due => will.due_ms = Some(now_ms + will.delay_ms.min(session.expiry_ms)),
            will => *will = None,
        }
        let is_over = session.expiry_ms == 0;
        for sent in back {
            let Delivery { topic, payload, qos, retain, .. } = sent.delivery;
            if let Some(group) = sent.group {
                self.groups[group].waiting.push(Message { topic, payload, qos, retain });
            }
        }
        if is_over {
            self.end_session(at);
        } else {
            self.publish_will_if_due(at);
        }
    }

    fn end_session(&mut self, at: usize) {
        let Some(session) = &mut self.peers[at].session else { return };
        let (will, who) = (session.will.take(), session.who);
        if let Some(will) = will {
            self.publish_will(who, &will.message);
        }
        self.peers[at].session = None;
        self.forget_empty_groups();
    }

    fn publish_will_if_due(&mut self, at: usize) {
        let now_ms = self.now_ms;
        let Some(session) = &mut self.peers[at].session else { return };
        if session.will.as_ref().is_some_and(|will| will.due_ms.is_some_and(|due| due <= now_ms))
            && let Some(will) = session.will.take()
        {
            let who = session.who;
            self.publish_will(who, &will.message);
        }
    }

    fn publish_will(&mut self, who: Who, message: &Message) {
        if self.may_publish(who, message) {
            self.spread(who, message, |_| false);
        } else {
            self.done.denied += 1;
        }
    }

    // --- time -----------------------------------------------------------------------------------------------------

    fn let_time_pass(&mut self, ms: u64) {
        crate::talk(format_args!("{ms} ms pass"));
        for peer in self.peers.iter().filter_map(|peer| peer.connection.as_ref()) {
            peer.link.send(&wire::PINGREQ);
        }
        self.hear();
        for at in 0..self.peers.len() {
            self.take_answers(at);
        }
        if let Some(memory) = self.stage.memory() {
            memory.broker.advance(Duration::from_millis(ms));
        }
        let end_ms = self.now_ms + ms;
        while let Some((due_ms, at, what)) = self.next_event().filter(|(due_ms, ..)| *due_ms <= end_ms) {
            self.now_ms = due_ms.max(self.now_ms);
            crate::talk(format_args!("{}: {} of {}", self.now_ms, what, self.peers[at].id));
            match what {
                "will" => self.publish_will_if_due(at),
                "session" => self.end_session(at),
                _ => self.end(at, Some(0x87), true),
            }
        }
        self.now_ms = end_ms;
    }

    fn next_event(&self) -> Option<(u64, usize, &'static str)> {
        let events = self.peers.iter().enumerate().flat_map(|(at, peer)| {
            let token = peer.connection.as_ref().and_then(|connection| connection.expires_ms);
            let away = peer.session.as_ref().filter(|_| peer.connection.is_none());
            let will = away.and_then(|session| session.will.as_ref()?.due_ms);
            let over = away.map(|session| session.left_ms + session.expiry_ms);
            [(will, "will"), (over, "session"), (token, "token")]
                .into_iter()
                .filter_map(move |(due, what)| due.map(|due| (due, at, what)))
        });
        events.min_by_key(|(due, ..)| *due)
    }

    // --- publishing -----------------------------------------------------------------------------------------------

    fn may_publish(&self, who: Who, message: &Message) -> bool {
        self.book.may(who, Right::Publish, &message.topic)
    }

    fn publish(&mut self, at: usize) {
        if self.peers[at].connection.is_none() {
            return;
        }
        let Some(who) = self.peers[at].session.as_ref().map(|session| session.who) else { return };
        self.serial += 1;
        let retain = self.random.one_in(4);
        let payload = if retain && self.random.one_in(6) { String::new() } else { format!("{}", self.serial) };
        let topic = self.random.pick(TOPICS).to_owned();
        let message = Message { topic, payload, qos: self.random.below(3) as u8, retain };
        let packet_id = self.next_packet_id();
        let mut packet = wire::publish(&message.topic, &message.payload).qos(message.qos, packet_id);
        packet.retain = retain;
        let allowed = self.may_publish(who, &message);
        crate::talk(format_args!("{who:?} publishes {message:?}: {allowed}"));
        self.send(at, &packet);
        if allowed {
            self.spread(who, &message, |_| false);
        } else {
            self.done.denied += 1;
        }
        self.hear();
        let is_v5 = self.peers[at].connection.as_ref().is_some_and(|connection| connection.version.is_v5());
        let refused = !allowed && is_v5;
        let check = |answers: Vec<Parsed>, kind: AckKind| match &answers[..] {
            [Parsed::Ack(ack)] if ack.kind == kind && ack.packet_id == packet_id => {
                let told = if ack.reason < 0x80 { None } else { Some(ack.reason) };
                assert_eq!(told, refused.then_some(0x87), "{kind:?} for {message:?} of {who:?}");
            }
            other => panic!("{kind:?} {packet_id} expected for {message:?}: {other:?}"),
        };
        match message.qos {
            0 => assert_eq!(self.take_answers(at), [], "nothing answers QoS 0"),
            1 => check(self.take_answers(at), AckKind::PubAck),
            _ => {
                check(self.take_answers(at), AckKind::PubRec);
                if !refused {
                    self.send(at, &wire::pubrel(packet_id));
                    self.hear();
                    let answers = self.take_answers(at);
                    assert_eq!(answers, [Parsed::Ack(wire::pubcomp(packet_id))]);
                }
            }
        }
    }

    /// A Message that was allowed reaches whoever subscribes and may have it. `is_open`: whether a peer gets it is the
    /// broker's to choose.
    fn spread(&mut self, writer: Who, message: &Message, is_open: impl Fn(usize) -> bool) {
        if message.retain {
            if message.payload.is_empty() {
                self.retained.remove(&message.topic);
            } else {
                self.retained.insert(message.topic.clone(), Kept { message: message.clone(), writer });
            }
        }
        for at in 0..self.peers.len() {
            let peer = &self.peers[at];
            let Some(session) = &peer.session else { continue };
            let of_this = session.subscriptions.iter().filter(|(filter, _)| matches(filter, &message.topic));
            let Some(granted) = of_this.filter(|_| !peer.shares).map(|(_, qos)| *qos).max() else { continue };
            let delivery = Delivery {
                topic: message.topic.clone(),
                payload: message.payload.clone(),
                qos: granted.min(message.qos),
                retain: false,
                dup: None,
                group: None,
                open: is_open(at),
            };
            if peer.connection.is_none() {
                if delivery.qos > 0
                    && let Some(session) = &mut self.peers[at].session
                {
                    session.queue.push(delivery);
                }
            } else if self.book.may(session.who, Right::Receive, &message.topic) {
                self.expect(at, delivery);
            } else {
                self.done.kept_back += 1;
            }
        }
        for (group, (_, filter)) in GROUPS.iter().enumerate() {
            if matches(filter, &message.topic) && self.members(group).next().is_some() {
                let open = self.members(group).any(|(at, _)| is_open(at));
                let attended = self.members(group).any(|(_, peer)| peer.connection.is_some());
                if message.qos == 0 && !attended && !open {
                    continue;
                }
                let message = Message { retain: false, ..message.clone() };
                let lists = &mut self.groups[group];
                if open { lists.open.push(message) } else { lists.waiting.push(message) }
            }
        }
    }

    fn members(&self, group: usize) -> impl Iterator<Item = (usize, &Peer)> {
        self.peers.iter().enumerate().filter(move |(_, peer)| {
            peer.shares
                && peer.session.as_ref().is_some_and(|session| session.subscriptions.contains_key(GROUPS[group].0))
        })
    }

    fn forget_empty_groups(&mut self) {
        for group in 0..GROUPS.len() {
            if self.members(group).next().is_none() {
                // A last delivery may have been on its way.
                let waiting = std::mem::take(&mut self.groups[group].waiting);
                self.groups[group].open.extend(waiting);
            }
        }
    }

    fn expect(&mut self, at: usize, delivery: Delivery) {
        if let Some(connection) = &mut self.peers[at].connection {
            connection.expected.push(delivery);
        }
    }

    // --- subscribing ----------------------------------------------------------------------------------------------

    fn subscribe(&mut self, at: usize) {
        if self.peers[at].connection.is_none() {
            return;
        }
        let Some(who) = self.peers[at].session.as_ref().map(|session| session.who) else { return };
        let packet_id = self.next_packet_id();
        let qos = self.random.below(3) as u8;
        let group = self.peers[at].shares.then(|| self.random.below(GROUPS.len()));
        let (text, filter) = match group {
            Some(group) => GROUPS[group],
            None => {
                let filter = if self.random.one_in(3) { "#" } else { self.random.pick(FILTERS) };
                (filter, filter)
            }
        };
        let mut packet = wire::subscribe(packet_id).to(text, qos);
        if let Some(group) = group {
            packet = packet.with(property::subscription_identifier(group as u32 + 1));
        }
        let granted = self.book.grants(who, filter);
        crate::talk(format_args!("{who:?} subscribes {text} QoS {qos}: {granted}"));
        self.send(at, &packet);
        if granted {
            if let Some(session) = &mut self.peers[at].session {
                session.subscriptions.insert(text, qos);
            }
            if group.is_none() {
                self.replay(at, who, filter, qos);
            }
        } else {
            self.done.denied += 1;
        }
        self.hear();
        let is_v5 = self.peers[at].connection.as_ref().is_some_and(|connection| connection.version.is_v5());
        let code = match (granted, is_v5) {
            (true, _) => qos,
            (false, true) => 0x87,
            (false, false) => 0x80,
        };
        assert_eq!(self.take_answers(at), [wire::suback(packet_id, &[code])], "{who:?} subscribes {text}");
    }

    /// What is retained comes, as far as its writers still may say it. What they may not goes.
    fn replay(&mut self, at: usize, who: Who, filter: &str, granted: u8) {
        let matching: Vec<String> = self.retained.keys().filter(|topic| matches(filter, topic)).cloned().collect();
        for topic in matching {
            let Some(Kept { message, writer }) = self.retained.get(&topic) else { continue };
            let message = message.clone();
            if !self.may_publish(*writer, &message) {
                self.done.kept_back += 1;
                self.retained.remove(&topic);
            } else if self.book.may(who, Right::Receive, &topic) {
                let qos = granted.min(message.qos);
                let payload = message.payload;
                self.expect(at, Delivery { topic, payload, qos, retain: true, dup: None, group: None, open: false });
            } else {
                self.done.kept_back += 1;
            }
        }
    }

    fn unsubscribe(&mut self, at: usize) {
        let Some(connection) = &self.peers[at].connection else { return };
        let is_v5 = connection.version.is_v5();
        let Some(session) = &self.peers[at].session else { return };
        let Some(filter) = session.subscriptions.keys().next().copied() else { return };
        let packet_id = self.next_packet_id();
        crate::talk(format_args!("{} unsubscribes {filter}", self.peers[at].id));
        self.send(at, &wire::unsubscribe(packet_id).from(filter));
        self.lose_subscription(at, filter);
        self.hear();
        let codes: &[u8] = if is_v5 { &[0] } else { &[] };
        assert_eq!(self.take_answers(at), [wire::unsuback(packet_id, codes)]);
    }

    fn lose_subscription(&mut self, at: usize, filter: &str) {
        let Some(session) = &mut self.peers[at].session else { return };
        session.subscriptions.remove(filter);
        // What a member was given already is its own.
        let group = GROUPS.iter().position(|(text, _)| *text == filter);
        for sent in &mut session.in_flight {
            if sent.group.is_some() && sent.group == group {
                sent.group = None;
            }
        }
        self.forget_empty_groups();
    }

    // --- rights change --------------------------------------------------------------------------------------------

    fn change_account(&mut self) {
        let user = USERS[self.random.below(USERS.len())];
        let number = self.accounts.get(user).map_or_else(|| 1 + self.random.below(1000) as u32, |number| number + 1);
        if self.accounts.contains_key(user) && self.random.one_in(2) {
            crate::talk(format_args!("{user} is no user any more"));
            self.set_account(user, None);
        } else {
            crate::talk(format_args!("{user} has another password"));
            self.set_account(user, Some(number));
        }
    }

    fn change_bans(&mut self) {
        self.book = self.book.with_other_bans(&mut self.random);
        crate::talk(format_args!("bans:\n{}", self.book.bans()));
    }

    /// Rules, bans or accounts have changed: Sessions of those who are banned or not known any more end, subscriptions go that
    /// would not be granted.
    fn change_rights(&mut self) {
        self.put_in_force();
        let ends = |session: &Session| match (session.proof, session.who.user) {
            _ if self.book.is_banned(session.who) => true,
            (Some(number), Some(user)) => self.accounts.get(user) != Some(&number),
            _ => false,
        };
        let over: Vec<usize> =
            (0..self.peers.len()).filter(|at| self.peers[*at].session.as_ref().is_some_and(ends)).collect();
        let mut lost = Vec::new();
        for (at, peer) in self.peers.iter().enumerate() {
            let Some(session) = &peer.session else { continue };
            let denied = |filter: &&&'static str| !self.book.grants(session.who, plain(filter));
            lost.extend(session.subscriptions.keys().filter(denied).map(|filter| (at, *filter)));
        }
        for group in 0..GROUPS.len() {
            self.groups[group].former = self.members(group).map(|(at, _)| at).collect();
        }
        let affected: BTreeSet<usize> = over.iter().copied().chain(lost.iter().map(|(at, _)| *at)).collect();
        for at in &over {
            let Some(session) = &mut self.peers[*at].session else { continue };
            let (will, who) = (session.will.take(), session.who);
            if let Some(will) = will.filter(|_| !self.book.is_banned(who)) {
                if self.may_publish(who, &will.message) {
                    self.spread(who, &will.message, |at| affected.contains(&at));
                } else {
                    self.done.denied += 1;
                }
            }
        }
        for at in &over {
            crate::talk(format_args!("the Session of {} ends", self.peers[*at].id));
            let is_banned = self.peers[*at].session.as_ref().is_some_and(|session| self.book.is_banned(session.who));
            self.end(*at, Some(if is_banned { 0x98 } else { 0x87 }), false);
            self.end_session(*at);
        }
        for (at, filter) in lost {
            self.lose_subscription(at, filter);
        }
        if !affected.is_empty() {
            // What goes back to a group in this step may meet a member that is about to leave.
            for group in &mut self.groups {
                group.open.append(&mut group.waiting);
            }
        }
    }

    // --- hearing --------------------------------------------------------------------------------------------------

    /// Everybody hears what has come, and answers; then nobody may be owed anything.
    fn hear(&mut self) {
        loop {
            self.stage.settle();
            let heard: Vec<bool> = (0..self.peers.len()).map(|at| self.hear_one(at)).collect();
            if !heard.contains(&true) {
                break;
            }
        }
        for at in 0..self.peers.len() {
            let Some(connection) = &mut self.peers[at].connection else { continue };
            assert!(!connection.link.is_closed(), "{} was disconnected", self.peers[at].id);
            let owed: Vec<Delivery> =
                std::mem::take(&mut connection.expected).into_iter().filter(|delivery| !delivery.open).collect();
            assert!(owed.is_empty(), "{} is owed {owed:?}", self.peers[at].id);
        }
        for group in 0..GROUPS.len() {
            self.check_group(group);
        }
    }

    /// With somebody there nothing waits; what went to a member that may not read it is lost.
    fn check_group(&mut self, group: usize) {
        let there: Vec<Who> = self
            .members(group)
            .filter(|(_, peer)| peer.connection.is_some())
            .filter_map(|(_, peer)| peer.session.as_ref().map(|session| session.who))
            .collect();
        let empty = self.members(group).next().is_none();
        let lists = &mut self.groups[group];
        lists.former.clear();
        if there.is_empty() && !empty {
            lists.waiting.retain(|message| message.qos > 0); // QoS 0 waits for nobody
            return;
        }
        for message in &lists.waiting {
            let all = !empty && there.iter().all(|who| self.book.may(*who, Right::Receive, &message.topic));
            assert!(!all, "{} is owed {message:?}", GROUPS[group].0);
        }
        self.done.kept_back += lists.waiting.len();
        lists.waiting.clear();
        lists.open.clear();
    }

    /// `true`: something was said that may cause more.
    fn hear_one(&mut self, at: usize) -> bool {
        let Some(connection) = &self.peers[at].connection else { return false };
        let heard = wire::parse(&connection.link.received(), connection.version.is_v5());
        let any = !heard.is_empty();
        for packet in heard {
            match packet {
                Parsed::Publish(publish) => {
                    let Some(connection) = &mut self.peers[at].connection else { continue };
                    let mut expected = std::mem::take(&mut connection.expected);
                    let delivery = self.judge(at, &mut expected, &publish);
                    if let Some(connection) = &mut self.peers[at].connection {
                        connection.expected = expected;
                    }
                    self.receive(at, delivery, publish.packet_id);
                }
                Parsed::Ack(ack) if ack.kind == AckKind::PubRel => self.send(at, &wire::pubcomp(ack.packet_id)),
                other => {
                    if let Some(connection) = &mut self.peers[at].connection {
                        connection.answers.push(other);
                    }
                }
            }
        }
        any
    }

    /// Whether this PUBLISH was to come, and what it is.
    fn judge(&mut self, at: usize, expected: &mut Vec<Delivery>, publish: &wire::Publish) -> Delivery {
        let id = self.peers[at].id;
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("our own text");
        let (topic, payload) = (text(&publish.topic), text(&publish.payload));
        crate::talk(format_args!("  {id} hears {publish:?}"));
        self.done.delivered += 1;
        let is_it = |delivery: &Delivery| {
            delivery.topic == topic
                && delivery.payload == payload
                && delivery.qos == publish.qos
                && delivery.retain == publish.retain
                && delivery.dup == publish.packet_id.filter(|_| publish.dup)
        };
        if let Some(place) = expected.iter().position(is_it) {
            return expected.remove(place);
        }
        let group = match publish.property(property::SUBSCRIPTION_IDENTIFIER) {
            Some(wire::Value::Variable(number)) => *number as usize - 1,
            _ => panic!("{id} must not get {publish:?}"),
        };
        let who = self.peers[at].session.as_ref().map(|session| session.who);
        assert!(
            who.is_some_and(|who| self.book.may(who, Right::Receive, &topic)),
            "{id} may not read what it gets: {publish:?}"
        );
        let is_member = self.members(group).any(|(member, _)| member == at) || self.groups[group].former.contains(&at);
        assert!(is_member, "{id} is no member and gets {publish:?}");
        let lists = &mut self.groups[group];
        let is_it =
            |message: &Message| message.topic == topic && message.payload == payload && message.qos >= publish.qos;
        let message = match (lists.waiting.iter().position(is_it), lists.open.iter().position(is_it)) {
            (Some(place), _) => lists.waiting.remove(place),
            (None, Some(place)) => lists.open.remove(place),
            (None, None) => panic!("{id} must not get {publish:?} from its group"),
        };
        let Message { topic, payload, .. } = message;
        Delivery {
            topic,
            payload,
            qos: publish.qos,
            retain: publish.retain,
            dup: None,
            group: Some(group),
            open: false,
        }
    }

    /// Acknowledges, or holds the acknowledgement back.
    fn receive(&mut self, at: usize, delivery: Delivery, packet_id: Option<u16>) {
        let Some(packet_id) = packet_id else { return };
        let holds = self.random.one_in(4);
        let Some(session) = &mut self.peers[at].session else { return };
        let known = session.in_flight.iter().position(|sent| sent.packet_id == packet_id);
        if holds && (known.is_some() || session.in_flight.len() < HELD_MAX) {
            if known.is_none() {
                let group = delivery.group;
                session.in_flight.push(InFlight { packet_id, delivery, group });
            }
            return;
        }
        if let Some(known) = known {
            session.in_flight.remove(known);
        }
        self.acknowledge(at, delivery.qos, packet_id);
    }

    fn acknowledge(&self, at: usize, qos: u8, packet_id: u16) {
        if qos == 1 {
            self.send(at, &wire::puback(packet_id));
        } else {
            self.send(at, &wire::pubrec(packet_id));
        }
    }

    fn acknowledge_held(&mut self, at: usize) {
        if self.peers[at].connection.is_none() {
            return;
        }
        let held = self.peers[at].session.as_mut().map(|session| std::mem::take(&mut session.in_flight));
        for sent in held.unwrap_or_default() {
            self.acknowledge(at, sent.delivery.qos, sent.packet_id);
        }
    }

    // --- small things ---------------------------------------------------------------------------------------------

    fn take_answers(&mut self, at: usize) -> Vec<Parsed> {
        self.peers[at].connection.as_mut().map(|connection| std::mem::take(&mut connection.answers)).unwrap_or_default()
    }

    fn send(&self, at: usize, packet: &impl Packet) {
        if let Some(connection) = &self.peers[at].connection {
            connection.link.send(&packet.bytes(connection.version));
        }
    }

    fn next_packet_id(&mut self) -> u16 {
        self.packet_id = self.packet_id % 60_000 + 1;
        self.packet_id
    }
}

impl Session {
    fn new(who: Who) -> Self {
        Self {
            who,
            proof: None,
            version: Version::V5,
            expiry_ms: 0,
            left_ms: 0,
            subscriptions: BTreeMap::new(),
            queue: Vec::new(),
            in_flight: Vec::new(),
            will: None,
        }
    }
}

/// A filter without `$share/` and the share name.
fn plain(filter: &str) -> &str {
    GROUPS.iter().find(|(text, _)| *text == filter).map_or(filter, |(_, plain)| plain)
}
