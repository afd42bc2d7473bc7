//! What shards tell each other. Posted once per tick, taken once per tick, in order for each pair of shards.
//!
//! A sender never waits for a receiver. Where too much has gathered, the *sender's* side stops reading from its
//! Clients until the receiver has caught up; taking mail never waits for anyone, so no circle can form.

use super::ShardId;
use super::router::{Matched, Seat};
use crate::codec::{Message, Qos};
use crate::session::{GroupId, How};
use crate::topic::Strategy;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
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

pub(super) enum Mail {
    /// For the subscribers of these filters that live at the receiver's.
    Publish(Message, Arc<Matched>),
    /// For the home of a shared subscription: one of its members is to get this.
    Offer(Arc<Seat>, Message),
    /// For the home: a member joins or has changed.
    Join(Arc<Seat>, Member),
    /// For the home: a member leaves for good.
    Leave(GroupId, SessionRef),
    /// For the home: the member is away now.
    Away(GroupId, SessionRef),
    /// For the home: a delivery is settled.
    Settled(GroupId, SessionRef),
    /// For the home: a member could not be given this; somebody else is to get it, before anything newer.
    HandedBack(GroupId, SessionRef, Message, Qos),
    /// From the home, which is named: deliver this to a member.
    Deliver(ShardId, SessionRef, Message, How),
}

impl Mail {
    fn size(&self) -> usize {
        match self {
            Self::Publish(message, _)
            | Self::Offer(_, message)
            | Self::HandedBack(_, _, message, _)
            | Self::Deliver(_, _, message, _) => message.size(),
            Self::Join(..) | Self::Leave(..) | Self::Away(..) | Self::Settled(..) => 0,
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

/// Bytes of Messages in one slot above which the sender stops reading from its Clients.
const SLOT_BYTES_MAX: usize = 8 << 20;

#[derive(Default)]
struct Slot {
    mail: Vec<Mail>,
    bytes: usize,
}

/// The letter box of one shard, with a slot for each sender.
pub(super) struct Port {
    from: Box<[Mutex<Slot>]>,
    pending: AtomicU64,
    asleep: AtomicBool,
    waker: OnceLock<Waker>,
}

impl Port {
    pub(super) fn new(shards: usize) -> Self {
        Self {
            from: (0..shards).map(|_| Mutex::default()).collect(),
            pending: AtomicU64::new(0),
            asleep: AtomicBool::new(false),
            waker: OnceLock::new(),
        }
    }

    /// Posts everything in `mail`, and wakes the receiver if it sleeps. `true`: the slot is too full, slow down.
    pub(super) fn post(&self, from: ShardId, mail: &mut Vec<Mail>) -> bool {
        let full = {
            let mut slot = self.from[usize::from(from.0)].lock();
            slot.bytes += mail.iter().map(Mail::size).sum::<usize>();
            slot.mail.append(mail);
            slot.bytes > SLOT_BYTES_MAX
        };
        self.pending.fetch_or(1 << from.0, Ordering::Release);
        self.wake();
        full
    }

    /// Wakes the receiver if it sleeps; a busy one sees its mail at its next tick.
    pub(super) fn wake(&self) {
        fence(Ordering::SeqCst);
        if self.asleep.swap(false, Ordering::AcqRel)
            && let Some(waker) = self.waker.get()
        {
            waker.wake_by_ref();
        }
    }

    pub(super) fn is_congested(&self, from: ShardId) -> bool {
        self.from[usize::from(from.0)].lock().bytes > SLOT_BYTES_MAX
    }

    /// Moves all that has arrived into `into`, sender by sender. Returns the senders whose slot had been too full.
    pub(super) fn take(&self, into: &mut std::collections::VecDeque<Mail>) -> u64 {
        let mut pending = self.pending.swap(0, Ordering::Acquire);
        let mut relieved = 0;
        while pending != 0 {
            let from = pending.trailing_zeros();
            pending &= pending - 1;
            let mut slot = self.from[from as usize].lock();
            into.extend(slot.mail.drain(..));
            if slot.bytes > SLOT_BYTES_MAX {
                relieved |= 1 << from;
                slot.mail = Vec::new();
            }
            slot.bytes = 0;
        }
        relieved
    }

    /// A letter box that was too full for this shard has room again: a tick will notice.
    pub(super) fn relieve(&self, by: ShardId) {
        self.pending.fetch_or(1 << by.0, Ordering::Release);
        self.wake();
    }

    pub(super) fn has_mail(&self) -> bool {
        self.pending.load(Ordering::Acquire) != 0
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
