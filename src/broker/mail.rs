//! What shards tell each other. Posted once per tick, taken once per tick, in the order of posting.
//!
//! A sender never waits for a receiver. Where too much has gathered, the *sender's* side stops reading from its
//! Clients until the receiver has caught up; taking mail never waits for anyone, so no circle can form.

use super::ShardId;
use super::recall::Wanted;
use super::router::{Matched, Seat};
use crate::codec::{Message, PacketId, Qos};
use crate::session::{GroupId, HandedBack, How};
use crate::store::Entry;
use crate::topic::Strategy;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, OnceLock};
use std::task::Waker;

/// A Client's Session, wherever it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct SessionRef {
    pub(super) shard: ShardId,
    pub(super) slot: u32,
    pub(super) generation: u32,
}

/// A member of a shared subscription, as its home needs to know it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member {
    pub(super) session: SessionRef,
    pub(super) qos: Qos,
    pub(super) retain_as_published: bool,
    pub(super) subscription_id: u32,
    /// Deliveries that it may have open at a time.
    pub(super) window: u32,
    pub(super) packet_size_max: u32,
    pub(super) online: bool,
}

/// A Message on its way to another shard whose publisher waits until the shard is done with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) from: ShardId,
    /// Counted by the shard that it comes from; 0 = nobody waits.
    pub(super) number: u64,
    /// It is to be taken once, whatever happens: the QoS 2 exchange in which it came.
    pub(super) exchange: Option<Exchange>,
}

/// A QoS 2 exchange with a Session that the store knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Exchange {
    pub(super) session: u64,
    pub(super) packet_id: PacketId,
}

/// A Message of a shared subscription that waits for a member.
#[derive(Clone, Debug)]
pub(super) struct Offered {
    pub(super) message: Message,
    /// At most that; a former member may have got it with less than the Message has.
    pub(super) qos: Qos,
    /// The store has it in the queue of the group.
    pub(super) is_kept: bool,
}

impl From<HandedBack> for Offered {
    fn from(HandedBack { message, qos, is_kept, .. }: HandedBack) -> Self {
        Self { message, qos, is_kept }
    }
}

pub(super) enum Mail {
    /// For those subscribers of these filters that live at the receiver's, and those groups that are at home there.
    Publish(Message, Arc<Matched>, Route),
    /// For the home: a member joins or has changed.
    Join(Arc<Seat>, Member),
    /// For the home: a member leaves for good.
    Leave(GroupId, SessionRef),
    /// For the home: the member is away now.
    Away(GroupId, SessionRef),
    /// For the home: a delivery is settled.
    Settled(GroupId, SessionRef),
    /// For the home: a member could not be given these; somebody else is to get them, before anything newer.
    HandedBack(GroupId, SessionRef, Vec<Offered>),
    /// From the home, which is named: deliver this to a member.
    Deliver(ShardId, SessionRef, Message, How),
    /// From the store: what was asked for, in order.
    Recalled(Box<(Wanted, Vec<Entry>)>),
}

impl Mail {
    fn size(&self) -> usize {
        match self {
            Self::Publish(message, ..) | Self::Deliver(_, _, message, _) => message.size(),
            Self::HandedBack(_, _, back) => back.iter().map(|offered| offered.message.size()).sum(),
            Self::Join(..) | Self::Leave(..) | Self::Away(..) | Self::Settled(..) | Self::Recalled(..) => 0,
        }
    }
}

/// A strategy by share name, or the default.
#[derive(Clone, Debug, Default)]
pub struct Strategies {
    pub default: Strategy,
    pub by_name: std::collections::HashMap<String, Strategy>,
}

impl Strategies {
    pub(super) fn of(&self, name: &str) -> Strategy {
        self.by_name.get(name).copied().unwrap_or(self.default)
    }
}

/// Bytes of Messages that one sender may have in a letter box before it stops reading from its Clients.
const SENDER_BYTES_MAX: usize = 8 << 20;

/// The letter box of one shard. Letters lie in the order in which they were posted, whoever posted them: what a Client
/// publishes after it has seen an acknowledgement never overtakes what was acknowledged.
pub(super) struct Port {
    letters: Mutex<Letters>,
    /// There is mail, or something else to look at.
    pending: AtomicBool,
    asleep: AtomicBool,
    waker: OnceLock<Waker>,
}

struct Letters {
    mail: VecDeque<Mail>,
    /// Bytes of Messages by sender.
    bytes: Box<[usize]>,
}

impl Port {
    pub(super) fn new(shards: usize) -> Self {
        Self {
            letters: Mutex::new(Letters { mail: VecDeque::new(), bytes: vec![0; shards].into() }),
            pending: AtomicBool::new(false),
            asleep: AtomicBool::new(false),
            waker: OnceLock::new(),
        }
    }

    /// Posts everything in `mail`, and wakes the receiver if it sleeps. `true`: there is too much of this sender's, slow
    /// down.
    pub(super) fn post(&self, from: ShardId, mail: &mut Vec<Mail>) -> bool {
        let full = {
            let mut letters = self.letters.lock();
            let bytes = &mut letters.bytes[usize::from(from.0)];
            *bytes += mail.iter().map(Mail::size).sum::<usize>();
            let full = *bytes > SENDER_BYTES_MAX;
            letters.mail.extend(mail.drain(..));
            full
        };
        self.call();
        full
    }

    /// Posts what comes from outside of all shards.
    pub(super) fn post_from_outside(&self, mail: Mail) {
        self.letters.lock().mail.push_back(mail);
        self.call();
    }

    /// Makes the shard look at its letter box, even if there is nothing in it: something that it waits for has changed.
    pub(super) fn call(&self) {
        self.pending.store(true, Ordering::Release);
        self.wake();
    }

    /// Wakes the shard if it sleeps; a busy one sees its mail at its next tick.
    fn wake(&self) {
        fence(Ordering::SeqCst);
        if self.asleep.swap(false, Ordering::AcqRel)
            && let Some(waker) = self.waker.get()
        {
            waker.wake_by_ref();
        }
    }

    pub(super) fn is_congested(&self, from: ShardId) -> bool {
        self.letters.lock().bytes[usize::from(from.0)] > SENDER_BYTES_MAX
    }

    /// Moves all that has arrived into `into`, which is empty. Returns the senders that had been told to slow down.
    pub(super) fn take(&self, into: &mut VecDeque<Mail>) -> u64 {
        if !self.pending.swap(false, Ordering::Acquire) {
            return 0;
        }
        let mut letters = self.letters.lock();
        std::mem::swap(&mut letters.mail, into);
        let mut relieved = 0;
        for (from, bytes) in letters.bytes.iter_mut().enumerate() {
            if std::mem::take(bytes) > SENDER_BYTES_MAX {
                relieved |= 1 << from;
            }
        }
        relieved
    }

    pub(super) fn has_mail(&self) -> bool {
        self.pending.load(Ordering::Acquire)
    }

    /// Who to wake when mail arrives while the shard sleeps. Set once.
    pub(super) fn set_waker(&self, waker: Waker) {
        let _ = self.waker.set(waker);
    }

    /// The shard is about to sleep. If mail has come meanwhile it wakes itself, and does not.
    pub(super) fn fall_asleep(&self) {
        self.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if self.has_mail() {
            self.wake();
        }
    }

    pub(super) fn awake(&self) {
        self.asleep.store(false, Ordering::Relaxed);
    }
}
