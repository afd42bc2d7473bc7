//! What a shard keeps of one Client: its Session, its Network Connection if it has one, and its place in the shard's lists.
//!
//! There may be very many of them and most are idle, so what few Clients have is in a box of its own.

use super::mail::Member;
use super::pace::Pace;
use super::retained::Replay;
use super::rights::Decisions;
use super::router::Seat;
use super::shard::{Attachment, Broken, Wire, may_log};
use super::subscribe::Subscription;
use super::takeover::Takeovers;
use super::timer::{Due, NEVER};
use crate::access::{Identity, Login};
use crate::codec::{LiveBytes, Message, Moment, Origin, ReasonCode};
use crate::faults::{Fault, is_left_out};
use crate::notice::{LINES_PER_SECOND_MAX, Limited, Outside};
use crate::session::{Dropped, GroupId, Session};
use std::sync::Arc;
use std::time::Duration;
use thin_vec::ThinVec;

pub(super) struct Client<W> {
    pub(super) origin: Origin,
    /// Who this is and, of a Client that is away, was: the Session belongs to this user.
    pub(super) identity: Arc<Identity>,
    /// Once there are rules and it has asked for something.
    pub(super) decisions: Option<Box<Decisions>>,
    pub(super) session: Session,
    /// The number of the Session in the store; 0 = it is not there.
    pub(super) kept_as: u64,
    pub(super) wire: Option<W>,
    /// Counts Network Connections, so that late events of a former one are recognised.
    pub(super) attachment: u64,
    /// An incomplete packet, and the size that it will have (0: not known yet).
    pub(super) partial: Option<Box<Partial>>,
    /// What the socket did not take.
    pub(super) tail: Option<Box<Tail>>,
    /// By filter, ascending.
    pub(super) subscriptions: ThinVec<Subscription>,
    pub(super) will: Option<Box<Will>>,
    /// When the last packet came or, for a Client that is away, when it left.
    pub(super) last_received: Moment,
    /// The timer that is set for this Client, or [`NEVER`].
    pub(super) timer: Due,
    pub(super) fanout_seen: u64,
    pub(super) dirty: Dirty,
    pub(super) pace: Pace,
    /// Answers to it that wait for the disk.
    pub(super) unanswered: u16,
    /// It is ahead of its pace and not read; its timer wakes the reader.
    pub(super) held: bool,
    /// What was read from it last was very many packets.
    pub(super) sends_many: bool,
    /// Of what is sent to it.
    pub(super) pace_out: Pace,
    /// It has got its share, and Messages wait for its timer.
    pub(super) held_out: bool,
    rare: Option<Box<Rare>>,
}

/// What few Clients have.
#[derive(Default)]
pub(super) struct Rare {
    pub(super) shares: Vec<(Arc<Seat>, Member)>,
    pub(super) replays: Vec<Replay>,
    /// A step of the last replay is due.
    pub(super) replaying: bool,
    /// An AUTH packet that the door has to deal with.
    pub(super) reauthentication: Option<Box<(ReasonCode, Login)>>,
    pub(super) takeovers: Takeovers,
    drops: Drops,
}

/// A Will, and when it goes out once the Network Connection has ended.
pub(super) struct Will {
    pub(super) message: Message,
    pub(super) delay: Duration,
    pub(super) due: Option<Moment>,
}

pub(super) struct Partial {
    pub(super) bytes: Vec<u8>,
    pub(super) size: usize,
    pub(super) live: LiveBytes,
}

/// What a socket did not take: bytes, then perhaps the end of a payload that stays where it is, in its Message.
pub(super) struct Tail {
    bytes: Vec<u8>,
    payload: Option<Message>,
    /// Of `bytes`, and of the end of the payload, still to be written.
    left: [usize; 2],
    /// Since when the socket has taken nothing.
    pub(super) since: Moment,
    _live: LiveBytes,
}

impl Tail {
    /// `large`: the Message with whose payload `unwritten` ends.
    pub(super) fn new(unwritten: &[u8], large: Option<&Message>, now: Moment) -> Self {
        let shared = large.map_or(0, |message| message.payload().len().min(unwritten.len()));
        let own = &unwritten[..unwritten.len() - shared];
        Self {
            bytes: own.to_vec(),
            payload: large.cloned(),
            left: [own.len(), shared],
            since: now,
            _live: LiveBytes::of(own.len()),
        }
    }

    /// What is left of it, with `last` behind it. `None`: it is so much that it is not worth the memory.
    pub(super) fn last_words(&self, last: &[u8]) -> Option<Vec<u8>> {
        let [own, shared] = self.left;
        let payload = self.payload.as_ref().map_or(&[][..], Message::payload);
        (own + shared <= LAST_WORDS_MAX).then(|| {
            [&self.bytes[self.bytes.len() - own..], &payload[payload.len() - shared.min(payload.len())..], last]
                .concat()
        })
    }

    /// Writes what the wire takes now. `true`: that was all.
    pub(super) fn write(&mut self, wire: &mut impl Wire, now: Moment, written: &mut u64) -> Result<bool, Broken> {
        loop {
            let (left, all) = match (&mut self.left, &self.payload) {
                ([0, 0], _) | ([0, _], None) => return Ok(true),
                ([0, left], Some(message)) => (left, message.payload()),
                ([left, _], _) => (left, &self.bytes[..]),
            };
            let count = wire.write(&all[all.len() - *left..])?;
            *left -= count;
            if count > 0 {
                *written += count as u64;
                self.since = now;
            }
            if *left > 0 {
                return Ok(false);
            }
        }
    }
}

/// What a Client has lost, and when the log was told.
#[derive(Default)]
struct Drops {
    said: Option<Moment>,
    /// Since then.
    since: u64,
}

/// Which queue for flushing a Client stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dirty {
    No,
    Bulk,
    Yes,
    /// Nothing may be written yet.
    Held,
}

/// Bytes that are still offered to a Client that has taken nothing for a while, so that it may read why it was disconnected.
const LAST_WORDS_MAX: usize = 256 << 10;
/// How often the log is told what one Client loses.
const DROPS_SAID_EVERY: Duration = Duration::from_secs(60);
static DROPPED: Limited = Limited::new(LINES_PER_SECOND_MAX);

impl<W> Client<W> {
    pub(super) fn new(identity: Arc<Identity>, origin: Origin, session: Session, now: Moment) -> Self {
        Self {
            origin,
            identity,
            decisions: None,
            session,
            kept_as: 0,
            wire: None,
            attachment: 0,
            partial: None,
            tail: None,
            subscriptions: ThinVec::new(),
            will: None,
            last_received: now,
            timer: NEVER,
            fanout_seen: 0,
            dirty: Dirty::No,
            pace: Pace::default(),
            unanswered: 0,
            held: false,
            sends_many: false,
            pace_out: Pace::default(),
            held_out: false,
            rare: None,
        }
    }

    /// A Network Connection begins.
    pub(super) fn attach(&mut self, wire: W, attachment: u64, now: Moment) {
        self.wire = Some(wire);
        self.attachment = attachment;
        self.last_received = now;
        self.dirty = Dirty::No;
        self.unanswered = 0;
    }

    /// CONNACK, and all that follows it, waits for the disk.
    pub(super) fn hold_welcome(&mut self) {
        self.dirty = Dirty::Held;
    }

    pub(super) fn welcome(&mut self) {
        self.dirty = Dirty::No;
    }

    /// A Network Connection has ended; what was its own goes.
    pub(super) fn detach(&mut self, now: Moment) {
        self.partial = None;
        self.tail = None;
        if let Some(rare) = &mut self.rare {
            rare.reauthentication = None;
        }
        self.shrink(now);
    }

    pub(super) fn id(&self) -> &Arc<str> {
        &self.identity.client_id
    }

    pub(super) fn attached(&self, slot: u32) -> Attachment {
        Attachment { slot, number: self.attachment }
    }

    /// Gives back the memory of what is empty. For Clients that have been quiet for a while.
    pub(super) fn shrink(&mut self, now: Moment) {
        self.session.shrink();
        if self.rare.as_ref().is_some_and(|rare| rare.is_over(now)) {
            self.rare = None;
        }
    }

    pub(super) fn is_durable(&self) -> bool {
        !self.session.expiry().is_zero()
    }

    pub(super) fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    /// An AUTH packet that the door has not dealt with.
    pub(super) fn take_reauthentication(&mut self) -> Option<Box<(ReasonCode, Login)>> {
        self.rare.as_mut()?.reauthentication.take()
    }

    pub(super) fn shares(&self) -> &[(Arc<Seat>, Member)] {
        self.rare.as_ref().map_or(&[], |rare| &rare.shares)
    }

    /// Of a shared subscription that it is a member of.
    pub(super) fn seat_of(&self, group: GroupId) -> Option<&Arc<Seat>> {
        self.shares().iter().find(|(seat, _)| seat.id == group).map(|(seat, _)| seat)
    }

    /// How often it was taken over lately.
    pub(super) fn takeovers(&self) -> Takeovers {
        self.rare.as_ref().map_or_else(Takeovers::default, |rare| rare.takeovers)
    }

    pub(super) fn has_replays(&self) -> bool {
        self.rare.as_ref().is_some_and(|rare| !rare.replays.is_empty())
    }

    /// A replay waits for room, and no step of it is due.
    pub(super) fn replay_waits(&self) -> bool {
        self.rare.as_ref().is_some_and(|rare| !rare.replays.is_empty() && !rare.replaying)
    }

    /// Says in the log what was lost, once a minute for each Client.
    pub(super) fn note_drop(&mut self, reason: Dropped, now: Moment) {
        let drops = &mut self.rare.get_or_insert_default().drops;
        drops.since += 1;
        if drops.said.is_none_or(|said| said.plus(DROPS_SAID_EVERY) <= now) {
            drops.said = Some(now);
            let count = std::mem::take(&mut drops.since);
            if may_log(&DROPPED, now) {
                tracing::warn!(target: "waypost::drop", client = %Outside::of(self.id().as_bytes()), ?reason, count, "messages dropped");
            }
        }
    }

    /// When the Session of a Client that is away is over.
    pub(super) fn expires(&self) -> Moment {
        self.last_received.plus(self.session.expiry())
    }

    /// One and a half times the Keep Alive after the last packet [MQTT-3.1.2-22].
    pub(super) fn keep_alive_ends(&self) -> Option<Moment> {
        let keep_alive_ms = u64::from(self.session.terms().keep_alive_s) * 1000;
        (keep_alive_ms != 0).then(|| self.last_received.plus(Duration::from_millis(keep_alive_ms / 2 * 3)))
    }

    /// When whoever it has shown to be by a token is nobody any more.
    pub(super) fn token_ends(&self) -> Option<Moment> {
        self.identity.expires_at().filter(|_| !is_left_out(Fault::Token))
    }

    pub(super) fn next_due(&self, write_stall_max: Duration) -> Option<Moment> {
        if self.wire.is_some() {
            let stalled = self.tail.as_ref().map(|tail| tail.since.plus(write_stall_max));
            let held = self.held.then(|| self.pace.due());
            let held_out = self.held_out.then(|| self.pace_out.due());
            [self.keep_alive_ends(), stalled, self.token_ends(), held, held_out].into_iter().flatten().min()
        } else {
            let will = self.will.as_ref().and_then(|will| will.due);
            [Some(self.expires()), will].into_iter().flatten().min()
        }
    }
}

impl<W: Wire> Client<W> {
    /// One of the answers that waited for the disk has gone.
    pub(super) fn note_answered(&mut self) {
        self.unanswered = self.unanswered.saturating_sub(1);
        if let Some(wire) = self.wire.as_ref().filter(|_| self.unanswered == 0) {
            wire.reader().wake_by_ref();
        }
    }
}

impl Rare {
    fn is_over(&self, now: Moment) -> bool {
        self.shares.is_empty()
            && self.replays.is_empty()
            && self.takeovers.are_over(now)
            && self.reauthentication.is_none()
            && self.drops.said.is_none()
    }
}
