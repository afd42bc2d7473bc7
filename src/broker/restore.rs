//! After a start: out of the rows and queues of the store, Sessions at home in their shards, and retained Messages.
//!
//! Time has passed meanwhile: what has expired is left out, and the rest of an interval goes on. A Client that was connected when
//! the process ended counts as gone since the node was last known to run. What of a row cannot be read is left out, and counted.

use super::client::{Client, Will};
use super::directory::Claim;
use super::durable::{
    CLOCK, EVERYWHERE, GROUPS, GROUPS_TAG, HELD, META, ON_ITS_WAY, RECEIVED, RELEASED, RETAINED, SESSIONS,
    SUBSCRIPTIONS, TAKEN,
};
use super::fields::{Fields, put_identity, put_meta};
use super::retained::{Kept as RetainedMessage, Share};
use super::shard::{Shard, Wire};
use super::{ShardId, Shared};
use crate::access::Identity;
use crate::codec::{
    Message, Moment, Options, Origin, PacketId, Qos, Version, check_filter, filter_matches, live_bytes,
};
use crate::session::{Kept, Outgoing, Restored, Session, Terms};
use crate::store::{Batch, BlobRef, Error, Store};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// What a row of a Session says.
pub(super) struct SessionRow {
    /// The number of the Session in the store.
    pub(super) number: u64,
    /// Since when its Client is away, in milliseconds since 1970; 0 = it is connected.
    pub(super) away_since_ms: u64,
    pub(super) expiry_s: u32,
    pub(super) version: Version,
    /// What waits with QoS 1 may have been sent by a former process.
    pub(super) perhaps_sent: bool,
    /// Of its Will, if it has one: the delay, and when it is due in milliseconds since 1970; 0 = not known yet.
    pub(super) will: (Duration, u64),
    pub(super) identity: Arc<Identity>,
}

impl SessionRow {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = self.number.to_be_bytes().to_vec();
        out.extend_from_slice(&self.away_since_ms.to_be_bytes());
        out.extend_from_slice(&self.expiry_s.to_be_bytes());
        out.push(self.version as u8);
        out.push(u8::from(self.perhaps_sent));
        out.extend_from_slice(&(self.will.0.as_secs().min(u64::from(u32::MAX)) as u32).to_be_bytes());
        out.extend_from_slice(&self.will.1.to_be_bytes());
        put_identity(&mut out, &self.identity);
        out
    }

    fn decode(client_id: &str, value: &[u8]) -> Option<Self> {
        let mut fields = Fields(value);
        Some(Self {
            number: fields.u64()?,
            away_since_ms: fields.u64()?,
            expiry_s: fields.u32()?,
            version: Version::from_level(fields.u8()?)?,
            perhaps_sent: fields.u8()? != 0,
            will: (Duration::from_secs(fields.u32()?.into()), fields.u64()?),
            identity: Arc::new(fields.identity(client_id)?),
        })
    }
}

/// One Session on its way to its home.
pub struct RestoredClient {
    row: SessionRow,
    expires_in: Duration,
    /// With the rest of its delay.
    will: Option<(Message, Duration, Duration)>,
    subscriptions: Vec<(Box<str>, Options, u32)>,
    /// Messages, and their bytes.
    waiting: (usize, usize),
    /// Some of that came into the store after it was opened.
    is_waiting_late: bool,
    sent: Vec<Sent>,
    released: Vec<PacketId>,
    received: Vec<PacketId>,
}

/// Shared subscriptions that the store knows, until their members have joined them again.
#[derive(Default)]
pub(super) struct RestoredGroups {
    /// By filter, as it is subscribed to.
    pub(super) numbers: HashMap<Vec<u8>, u64>,
    /// By number, in order.
    pub(super) waiting: HashMap<u64, Vec<Message>>,
}

struct GroupRow {
    /// As it is subscribed to.
    text: Box<str>,
    waiting: Vec<Message>,
}

impl GroupRow {
    fn filter(&self) -> &str {
        self.text.splitn(3, '/').nth(2).unwrap_or_default()
    }
}

/// What is under way.
struct Sent {
    message: Message,
    kept: Kept,
    packet_id: PacketId,
    subscription_ids: Box<[u32]>,
}

/// Of a key of RECEIVED: the number of the Session and the Packet Identifier.
const EXCHANGE_BYTES: usize = 10;

/// How often progress is told.
const PROGRESS_EVERY: usize = 50_000;

/// Of a batch of many changes that need not be one.
const BATCH_BYTES: usize = 64 << 10;

/// The Sessions in a value of RECEIVED or TAKEN.
fn takers_in(value: &[u8]) -> impl Iterator<Item = u64> {
    value.get(1..).unwrap_or_default().chunks_exact(8).filter_map(|number| Fields(number).u64())
}

/// What the store held.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub sessions: usize,
    pub subscriptions: usize,
    pub retained: usize,
    pub queued: usize,
    /// Sessions and Messages that have expired meanwhile.
    pub expired: usize,
    /// Rows and deliveries that could not be read.
    pub unreadable: usize,
}

struct Reader<'a> {
    store: &'a Store,
    shared: &'a Shared,
    progress: &'a mut dyn FnMut(usize, usize),
    now: Moment,
    now_ms: u64,
    counts: Counts,
    sessions: HashMap<u64, RestoredClient>,
    groups: BTreeMap<u64, GroupRow>,
    /// Groups without a member.
    ended_groups: HashSet<u64>,
    messages: HashMap<u64, Message>,
}

impl Shared {
    /// Reads all that the store holds: retained Messages into their place, Sessions for each shard to take in
    /// ([`Shard::restore`]) before it serves anybody. `progress` is told now and then how many retained Messages are read, and of how
    /// many.
    ///
    /// # Errors
    /// The store cannot be read. Nobody has been served then.
    pub fn restore(
        &self,
        store: &Store,
        now: Moment,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<(Vec<Vec<RestoredClient>>, Counts), Error> {
        let Some(keeping) = &self.keeping else { return Ok((Vec::new(), Counts::default())) };
        let now_ms = keeping.began_unix_ms.saturating_add(now.as_millis());
        let mut reader = Reader {
            store,
            shared: self,
            progress,
            now,
            now_ms,
            counts: Counts::default(),
            sessions: HashMap::new(),
            groups: BTreeMap::new(),
            ended_groups: HashSet::new(),
            messages: HashMap::new(),
        };
        reader.read_retained()?;
        reader.read_sessions()?;
        reader.read_subscriptions()?;
        reader.read_groups()?;
        reader.read_entries()?;
        reader.read_exchanges()?;
        self.budget.report(ShardId(self.ports.len() as u16), live_bytes());
        let counts = reader.counts;
        let mut groups = self.groups.lock();
        for (number, row) in reader.groups {
            groups.numbers.insert(row.text.as_bytes().to_vec(), number);
            groups.waiting.insert(number, row.waiting);
        }
        drop(groups);
        let mut sessions: Vec<RestoredClient> = reader.sessions.into_values().collect();
        sessions.sort_by_key(|client| client.row.number);
        if let Some(last) = sessions.last() {
            self.session_numbers.fetch_max(last.row.number, Ordering::Relaxed);
        }
        let mut shards: Vec<Vec<RestoredClient>> = self.shards().map(|_| Vec::new()).collect();
        let count = shards.len();
        for (place, client) in sessions.into_iter().enumerate() {
            shards[place % count].push(client);
        }
        Ok((shards, counts))
    }
}

/// Who has published something that is retained.
#[derive(Clone)]
struct Writer {
    identity: Arc<Identity>,
    origin: Origin,
    share: Option<Share>,
}

impl Writer {
    fn read(value: &[u8], shared: &Shared) -> Option<Self> {
        // The Client Identifier stands in front: who it was cannot be told from the identity alone.
        let mut fields = Fields(value);
        let identity = fields.text().and_then(|client_id| fields.identity(client_id))?;
        let share = identity.proven_name().map(|user| shared.retainers.share_of(user));
        Some(Self { origin: shared.origin_of(&identity.client_id), identity: Arc::new(identity), share })
    }
}

impl Reader<'_> {
    fn message(&mut self, record: u64, origin: Origin) -> Result<Option<Message>, Error> {
        if let Some(known) = self.messages.get(&record) {
            return Ok(Some(known.clone()));
        }
        let stored = self.store.blob(record)?;
        let message = stored.and_then(|stored| Message::from_stored(&stored, origin, self.now, self.now_ms));
        match &message {
            Some(message) => {
                message.set_record(record);
                self.messages.insert(record, message.clone());
            }
            None => self.counts.unreadable += 1,
        }
        Ok(message)
    }

    fn read_retained(&mut self) -> Result<(), Error> {
        // Very many Messages, few who have published them.
        let mut writers: Vec<Option<Writer>> = Vec::new();
        let mut numbers: HashMap<Box<[u8]>, usize> = HashMap::new();
        let mut found: Vec<(u64, usize)> = Vec::new();
        let shared = self.shared;
        self.store.rows(RETAINED, &mut |_, value, record| {
            let number = numbers.get(value).copied().unwrap_or_else(|| {
                writers.push(Writer::read(value, shared));
                numbers.insert(value.into(), writers.len() - 1);
                writers.len() - 1
            });
            found.push((record, number));
        })?;
        drop(numbers);
        // Read in the order in which they lie, and kept in the order of Topics, which is how they are found: both many times faster.
        let mut places: Vec<usize> = (0..found.len()).collect();
        places.sort_unstable_by_key(|place| found[*place].0);
        let records: Vec<u64> = places.iter().map(|place| found[*place].0).collect();
        let mut messages: Vec<Option<Message>> = vec![None; found.len()];
        let (store, mut read) = (self.store, 0);
        store.blobs(&records, &mut |at, stored| {
            let (_, number) = found[places[at]];
            let origin = writers[number].as_ref().map_or(Origin::BROKER, |writer| writer.origin);
            messages[places[at]] =
                stored.and_then(|stored| Message::from_stored(stored, origin, self.now, self.now_ms));
            read += 1;
            if read % PROGRESS_EVERY == 0 {
                (self.progress)(read, found.len());
            }
        })?;
        drop((places, records));
        let mut ended = Batch::new();
        for ((record, number), message) in found.into_iter().zip(messages) {
            let (Some(message), Some(writer)) = (message, &writers[number]) else {
                self.counts.unreadable += 1;
                continue;
            };
            if message.is_expired(self.now) {
                self.counts.expired += 1;
                ended.delete_of(RETAINED, message.topic(), record);
                if ended.size() > BATCH_BYTES {
                    self.append(&ended);
                    ended.clear();
                }
                continue;
            }
            self.counts.retained += 1;
            message.set_record(record);
            if let Some(expires) = message.expires_at() {
                shared.retained_until.fetch_max(expires.as_millis(), Ordering::Relaxed);
            }
            let Writer { identity, share, .. } = writer.clone();
            shared.retained.set(RetainedMessage { message, writer: Some(identity), share });
        }
        self.append(&ended);
        Ok(())
    }

    fn read_sessions(&mut self) -> Result<(), Error> {
        let mut clock = 0;
        self.store.rows(META, &mut |key, value, _| {
            if key == CLOCK {
                clock = Fields(value).u64().unwrap_or(0);
            }
        })?;
        let mut found = Vec::new();
        let mut unreadable = 0;
        self.store.rows(SESSIONS, &mut |key, value, record| match std::str::from_utf8(key)
            .ok()
            .and_then(|client_id| SessionRow::decode(client_id, value))
        {
            Some(row) => found.push((row, record)),
            None => unreadable += 1,
        })?;
        self.counts.unreadable += unreadable;
        for (row, record) in found {
            let away_since_ms = if row.away_since_ms == 0 { clock.min(self.now_ms) } else { row.away_since_ms };
            let away = Duration::from_millis(self.now_ms.saturating_sub(away_since_ms));
            let expires_in = Duration::from_secs(row.expiry_s.into()).saturating_sub(away);
            let mut will = None;
            if record != 0 {
                let origin = self.shared.origin_of(&row.identity.client_id);
                if let Some(message) = self.message(record, origin)? {
                    let due_ms = match row.will.1 {
                        0 => away_since_ms.saturating_add(row.will.0.as_millis() as u64),
                        due_ms => due_ms,
                    };
                    will = Some((message, row.will.0, Duration::from_millis(due_ms.saturating_sub(self.now_ms))));
                }
            }
            self.counts.sessions += 1;
            let number = row.number;
            let client = RestoredClient {
                row,
                expires_in,
                will,
                subscriptions: Vec::new(),
                waiting: (0, 0),
                is_waiting_late: false,
                sent: Vec::new(),
                released: Vec::new(),
                received: Vec::new(),
            };
            self.sessions.insert(number, client);
        }
        Ok(())
    }

    fn read_subscriptions(&mut self) -> Result<(), Error> {
        let (sessions, counts) = (&mut self.sessions, &mut self.counts);
        self.store.rows(SUBSCRIPTIONS, &mut |key, value, _| {
            let (mut key, mut value) = (Fields(key), Fields(value));
            let row = key.u64().and_then(|number| {
                let filter = std::str::from_utf8(key.0).ok()?;
                Some((number, filter, value.read_options()?, value.u32()?))
            });
            match row.map(|(number, filter, options, id)| (sessions.get_mut(&number), filter, options, id)) {
                Some((Some(client), filter, options, id)) => {
                    counts.subscriptions += 1;
                    client.subscriptions.push((filter.into(), options, id));
                }
                _ => counts.unreadable += 1,
            }
        })
    }

    /// A group is there as long as it has a member. Those of Sessions that do not outlive a process are gone.
    fn read_groups(&mut self) -> Result<(), Error> {
        let subscriptions = self.sessions.values().flat_map(|client| &client.subscriptions);
        let joined: HashSet<&str> = subscriptions.map(|(filter, ..)| &**filter).collect();
        let (mut rows, mut unreadable) = (BTreeMap::new(), 0);
        self.store.rows(GROUPS, &mut |key, value, _| match Fields(key).u64().zip(std::str::from_utf8(value).ok()) {
            Some((number, text)) => _ = rows.insert(number, Box::<str>::from(text)),
            None => unreadable += 1,
        })?;
        self.counts.unreadable += unreadable;
        if let Some((last, _)) = rows.last_key_value() {
            self.shared.session_numbers.fetch_max(*last, Ordering::Relaxed);
        }
        let (mut batch, mut known) = (Batch::new(), HashSet::new());
        // Of several under one name the last is the one that there is.
        for (number, text) in rows.iter().rev() {
            if joined.contains(&**text) && known.insert(text.clone()) {
                self.groups.insert(*number, GroupRow { text: text.clone(), waiting: Vec::new() });
            } else {
                self.ended_groups.insert(*number);
                batch.clear_queue(*number);
                batch.delete(GROUPS, &number.to_be_bytes());
            }
        }
        self.append(&batch);
        Ok(())
    }

    /// What waits for a Session stays where it is and is counted; what it was sent, and what waits for a group, is read.
    fn read_entries(&mut self) -> Result<(), Error> {
        let mut found = Vec::new();
        let (sessions, groups, counts) = (&mut self.sessions, &self.groups, &mut self.counts);
        self.store.entries(&mut |queue, record, tag, meta, count| {
            if groups.contains_key(&queue) {
                counts.queued += 1;
                return found.push((queue, Kept { record, tag }, None));
            }
            match (sessions.get_mut(&queue), Fields(meta).read_meta()) {
                (Some(_), Some((Some(packet_id), _, subscription_ids))) => {
                    counts.queued += 1;
                    found.push((queue, Kept { record, tag }, Some((packet_id, subscription_ids))));
                }
                (Some(client), Some((None, size, _))) => {
                    let count = count.max(1) as usize;
                    counts.queued += count;
                    client.waiting.0 += count;
                    client.waiting.1 += count * size;
                }
                _ if self.ended_groups.contains(&queue) => {}
                _ => counts.unreadable += 1,
            }
        })?;
        for (queue, kept, sent) in found {
            let Some(message) = self.message(kept.record, Origin::BROKER)? else { continue }; // counted there
            if let Some(group) = self.groups.get_mut(&queue) {
                group.waiting.push(message);
            } else if let (Some(client), Some((packet_id, subscription_ids))) = (self.sessions.get_mut(&queue), sent) {
                client.sent.push(Sent { message, kept, packet_id, subscription_ids });
            }
        }
        Ok(())
    }

    fn read_exchanges(&mut self) -> Result<(), Error> {
        let mut taken: HashMap<Vec<u8>, Vec<Vec<u8>>> = HashMap::new();
        let mut takers: HashMap<Vec<u8>, HashSet<u64>> = HashMap::new();
        self.store.rows(TAKEN, &mut |key, value, _| {
            let exchange = key[..key.len().min(EXCHANGE_BYTES)].to_vec();
            taken.entry(exchange.clone()).or_default().push(key.to_vec());
            takers.entry(exchange).or_default().extend(takers_in(value));
        })?;
        let (mut on_their_way, mut ended) = (Vec::new(), Vec::new());
        for table in [RECEIVED, RELEASED] {
            let sessions = &mut self.sessions;
            self.store.rows(table, &mut |key, value, record| {
                let whole = key;
                let mut key = Fields(key);
                let exchange = key.u64().zip(key.u16().and_then(PacketId::new));
                match exchange.and_then(|(number, packet_id)| Some((sessions.get_mut(&number)?, packet_id))) {
                    Some((client, packet_id)) if table == RELEASED => client.released.push(packet_id),
                    Some((client, packet_id)) => {
                        client.received.push(packet_id);
                        if value.first() == Some(&ON_ITS_WAY) && record != 0 {
                            let mut has_it = takers.remove(whole).unwrap_or_default();
                            has_it.extend(takers_in(value));
                            on_their_way.push((whole.to_vec(), Arc::clone(&client.row.identity), record, has_it));
                        }
                    }
                    // Its Session has ended while the exchange waited for other shards.
                    None => ended.push((table, whole.to_vec())),
                }
            })?;
        }
        for (exchange, publisher, record, has_it) in on_their_way {
            let origin = self.shared.origin_of(&publisher.client_id);
            let mut batch = Batch::new();
            if let Some(message) = self.message(record, origin)? {
                self.route_again(&message, &publisher.client_id, &has_it, &mut batch);
            }
            batch.put(RECEIVED, &exchange, &[EVERYWHERE], BlobRef::None);
            taken.remove(&exchange).iter().flatten().for_each(|key| batch.delete(TAKEN, key));
            self.append(&batch);
        }
        let mut batch = Batch::new();
        ended.iter().for_each(|(table, key)| batch.delete(*table, key));
        taken.values().flatten().for_each(|key| batch.delete(TAKEN, key)); // of exchanges that have ended
        self.store.rows(HELD, &mut |key, _, _| batch.delete(HELD, key))?; // nothing is on its way any more
        self.append(&batch);
        Ok(())
    }

    /// The process ended while a QoS 2 Message was on its way to other shards: whoever has it not yet, gets it now. Its publisher
    /// will repeat it, and that will be a repetition.
    fn route_again(&mut self, message: &Message, publisher: &str, has_it: &HashSet<u64>, batch: &mut Batch) {
        let Ok(topic) = std::str::from_utf8(message.topic()) else { return };
        for (number, group) in &mut self.groups {
            if filter_matches(group.filter().as_bytes(), topic.as_bytes()) && !has_it.contains(number) {
                let mut meta = Vec::new();
                put_meta(&mut meta, None, 0, &[]);
                batch.enter(*number, BlobRef::Of(message.record()), GROUPS_TAG, &meta);
                let at = group.waiting.partition_point(|waiting| waiting.record() <= message.record());
                group.waiting.insert(at, message.clone());
            }
        }
        for client in self.sessions.values_mut() {
            let own = *client.row.identity.client_id == *publisher;
            let matching = client.subscriptions.iter().filter(|(filter, options, _)| {
                let is_shared = filter.starts_with("$share/");
                let is_echo = own && options.no_local;
                !is_shared && !is_echo && filter_matches(filter.as_bytes(), topic.as_bytes())
            });
            let best = matching.max_by_key(|(_, options, _)| options.qos);
            let Some((_, options, id)) = best else { continue };
            let qos = options.qos.min(message.qos());
            if qos == Qos::AtMostOnce || has_it.contains(&client.row.number) {
                continue;
            }
            let kept = Kept::new(message.record(), *id, message.retain() && options.retain_as_published, qos);
            let mut meta = Vec::new();
            put_meta(&mut meta, None, message.size(), &[]);
            batch.enter(client.row.number, BlobRef::Of(kept.record), kept.tag, &meta);
            client.waiting.0 += 1;
            client.waiting.1 += message.size();
            client.is_waiting_late = true;
        }
    }

    fn append(&self, batch: &Batch) {
        if let Some(keeping) = self.shared.keeping.as_ref().filter(|_| !batch.is_empty()) {
            keeping.journal.append(batch, keeping.safety);
            keeping.journal.commit_soon();
        }
    }
}

impl<W: Wire> Shard<W> {
    /// Takes in Sessions whose Clients are away. Call it before anything else happens in the shard.
    pub fn restore(&mut self, clients: Vec<RestoredClient>, now: Moment) {
        self.now = now;
        if self.id == ShardId(0) {
            self.expect_expiries();
        }
        for client in clients {
            self.restore_one(client);
        }
        self.wants_tick = true;
    }

    fn restore_one(&mut self, restored: RestoredClient) {
        let RestoredClient { row, expires_in, will, subscriptions, waiting, is_waiting_late, sent, released, received } =
            restored;
        let now = self.now;
        let shared = Arc::clone(&self.shared);
        let client_id = Arc::clone(&row.identity.client_id);
        let terms = Terms {
            version: row.version,
            bridge: false,
            receive_maximum: shared.settings.session.in_flight_max,
            packet_size_max: u32::MAX,
            topic_alias_maximum: 0,
            problem_information: false,
            session_expiry_s: expires_in.as_secs().min(u64::from(u32::MAX)) as u32,
            keep_alive_s: 0,
        };
        let mut session = Session::new(terms);
        session.keep(true);
        let perhaps_sent = row.away_since_ms == 0 || row.perhaps_sent;
        let perhaps_sent_before = if perhaps_sent { self.durable.tail().0 } else { 0 };
        let sent = sent
            .into_iter()
            .map(|sent| (sent.packet_id, Outgoing::with_ids(sent.message, sent.subscription_ids), sent.kept));
        let sent = sent.collect();
        session.restore(Restored { waiting, is_waiting_late, sent, perhaps_sent_before, released, received });
        let claim = shared.directory.claim(self.id, &client_id, || {
            let origin = shared.directory.origin_of(&client_id);
            let mut client = Client::new(Arc::clone(&row.identity), origin, session, now);
            client.kept_as = row.number;
            client.will = will.map(|(message, delay, due_in)| {
                Box::new(Will { message, delay, due: Some(now.plus(due_in.min(expires_in))) })
            });
            self.clients.insert(client)
        });
        let Claim::New(home) = claim else { return };
        shared.directory.note_begun(&row.identity);
        if let Some(client) = self.clients.get_mut(home.slot) {
            client.session.charge(shared.account_of(&row.identity));
        }
        for (filter, options, subscription_id) in subscriptions {
            let Ok(parsed) = check_filter(&filter, shared.settings.session.topic) else { continue };
            match parsed.share {
                Some(share) => {
                    self.join_share(home.slot, share, parsed.filter.as_bytes(), options, subscription_id);
                }
                None => self.add_subscription(home.slot, &parsed, options, subscription_id, false),
            }
        }
        self.review_subscriptions(home.slot);
        self.set_timer(home.slot);
    }

    /// What is to be written of the Session in this slot.
    pub(super) fn session_row(&self, slot: u32) -> Option<(Vec<u8>, Arc<str>, Option<Message>)> {
        let client = self.clients.get(slot)?;
        let will = client.will.as_deref();
        let due_ms = will.and_then(|will| will.due).map_or(0, |due| self.durable.unix_ms(due));
        let row = SessionRow {
            number: client.kept_as,
            away_since_ms: if client.wire.is_some() { 0 } else { self.durable.unix_ms(client.last_received) },
            expiry_s: client.session.terms().session_expiry_s,
            version: client.session.terms().version,
            perhaps_sent: client.session.is_waiting_again(),
            will: (will.map_or(Duration::ZERO, |will| will.delay), due_ms),
            identity: Arc::clone(&client.identity),
        };
        Some((row.encode(), Arc::clone(client.id()), will.map(|will| will.message.clone())))
    }

    /// Writes what there is to know of the Session, if it outlives its Network Connection.
    pub(super) fn keep_session(&mut self, slot: u32) {
        let is_kept = self.clients.get(slot).is_some_and(|client| client.kept_as != 0);
        if is_kept && let Some((value, client_id, will)) = self.session_row(slot) {
            self.durable.session(&client_id, &value, will.as_ref());
            self.durable.commit(will.as_ref());
        }
    }

    /// The Session begins to outlive its Network Connection, or stops to.
    pub(super) fn settle_durability(&mut self, slot: u32) {
        if !self.durable.is_on() {
            return;
        }
        let Some(client) = self.clients.get_mut(slot) else { return };
        match (client.is_durable(), client.kept_as) {
            (true, 0) => {
                client.kept_as = self.shared.next_session_number();
                client.session.keep(true);
            }
            (false, number) if number != 0 => {
                self.forget_kept(slot);
                return;
            }
            (false, _) => return,
            _ => {}
        }
        self.keep_session(slot);
    }

    /// Nothing of the Session in this slot stays in the store.
    pub(super) fn forget_kept(&mut self, slot: u32) {
        let Some(client) = self.clients.get_mut(slot).filter(|client| client.kept_as != 0) else { return };
        let number = std::mem::take(&mut client.kept_as);
        let exchanges: Vec<_> = client
            .session
            .released()
            .map(|packet_id| (RELEASED, packet_id))
            .chain(client.session.unreleased().map(|packet_id| (RECEIVED, packet_id)))
            .collect();
        client.session.keep(false);
        let client_id = Arc::clone(client.id());
        let filters: Vec<_> = client.subscriptions.iter().map(|subscription| subscription.filter).collect();
        let shares = client.shares().to_vec();
        for filter in filters {
            if let Some(text) = self.filter_text(filter) {
                self.durable.unsubscribe(number, &text);
            }
        }
        for (seat, _) in shares {
            self.durable.unsubscribe(number, &seat.text());
        }
        self.durable.forget_session(&client_id, number, &exchanges);
        self.durable.commit(None);
    }
}
