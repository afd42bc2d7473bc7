//! What a Session that outlives its Network Connection has gone through and the store does not know yet.
//!
//! The Session writes it down while it works, and the hall takes it over before anything is written to the Client. What must not
//! be said before the store knows why (so that QoS 2 stays exactly once whatever happens to the process) is not among the packets
//! that wait to be written: the hall gets it with the changes and hands it back once they are safe.

use super::Session;
use super::in_flight::{InFlight, Slot};
use super::publish::Received;
use super::queue::{Bound, GroupId, How, Outgoing, Queued, packed};
use crate::codec::{PacketId, Qos};
use std::rc::Rc;

/// One delivery as the store knows it: which Message, and in which of the forms that a Session may get it in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Kept {
    /// [`Message::record`](crate::codec::Message::record).
    pub record: u64,
    /// Subscription Identifier, RETAIN and QoS.
    pub tag: u64,
}

/// One step of a Session's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A delivery is settled or given up.
    Left(Kept),
    /// A delivery was sent, or will be, under this Packet Identifier; with these Subscription Identifiers, where it has several.
    Sent(Kept, PacketId, Box<[u32]>),
    /// The same of one that was this group's so far. An exchange that has begun belongs to the Session [MQTT-4.8.2-4].
    Taken(Kept, PacketId, GroupId),
    /// PUBREC has come: the Message is done, the Packet Identifier is not.
    Released(Kept, PacketId),
    /// PUBCOMP has come.
    Completed(PacketId),
    /// PUBREL has come for a Message that the Client has published.
    Finished(PacketId),
}

pub(super) struct Log {
    pub(super) changes: Vec<Change>,
    /// Encoded packets that may be written once the changes are safe.
    pub(super) withheld: Vec<u8>,
}

/// What a Client that acknowledges one packet after the other has in one read.
const CHANGES: usize = 24;

impl Default for Log {
    fn default() -> Self {
        Self { changes: Vec::with_capacity(CHANGES), withheld: Vec::new() }
    }
}

const QOS_AT: u32 = 32;

impl Kept {
    pub fn new(record: u64, subscription_id: u32, retain: bool, qos: Qos) -> Self {
        let how = How { qos, retain, subscription_id, group: GroupId::NONE, bound: Bound::Caller };
        Self { record, tag: how.tag() }
    }

    /// How the store knows a delivery of a Session that it keeps or not. `None`: not at all, or as its group's.
    #[inline]
    pub(super) fn of(is_kept: bool, queued: &Queued, qos: Qos) -> Option<Self> {
        let is_known = is_kept && qos != Qos::AtMostOnce && queued.message().record() != 0 && !queued.is_groups();
        is_known.then(|| {
            let tag = u64::from(queued.packed()) | u64::from(qos.value()) << QOS_AT;
            Self { record: queued.message().record(), tag }
        })
    }
}

/// A delivery is over. One that the store has never known leaves no trace.
#[inline]
pub(super) fn note_left(is_kept: bool, log: &mut Option<Box<Log>>, queued: &Queued, qos: Qos) {
    if let Some(kept) = Kept::of(is_kept, queued, qos) {
        log.get_or_insert_default().changes.push(Change::Left(kept));
    }
}

impl How {
    /// See [`Kept::tag`].
    pub fn tag(self) -> u64 {
        u64::from(packed(self)) | u64::from(self.qos.value()) << QOS_AT
    }
}

/// What the store knows of a Session that is there again.
#[derive(Default)]
pub struct Restored {
    /// Messages that wait in the store, and their bytes.
    pub waiting: (usize, usize),
    /// Some of that came into the store after it was opened.
    pub is_waiting_late: bool,
    /// What was sent and is not settled.
    pub sent: Vec<(PacketId, Rc<Outgoing>, Kept)>,
    /// The Client was connected: whether what waits with QoS 1 was sent nobody knows, so it is sent as a repetition, if its number
    /// in the store is less than this.
    pub perhaps_sent_before: u64,
    /// Between PUBREC and PUBCOMP.
    pub released: Vec<PacketId>,
    /// Published by the Client, between PUBLISH and PUBREL.
    pub received: Vec<PacketId>,
}

impl Kept {
    /// The QoS with which it is delivered; `None`: this is no tag.
    pub fn qos(self) -> Option<Qos> {
        Qos::from_value((self.tag >> QOS_AT) as u8)
    }
}

impl Session {
    /// QoS 2 Packet Identifiers of the Client between PUBLISH and PUBREL.
    pub fn unreleased(&self) -> impl Iterator<Item = PacketId> {
        self.received.iter().flat_map(|received| received.unreleased())
    }

    /// Ours between PUBREC and PUBCOMP.
    pub fn released(&self) -> impl Iterator<Item = PacketId> {
        self.in_flight.iter().flat_map(|in_flight| in_flight.released())
    }

    /// Whether what waits with QoS 1 may have been sent by a former process. What may have been is in front.
    pub fn is_waiting_again(&self) -> bool {
        let front = self.queue.as_ref().and_then(|queue| queue.front(Qos::AtLeastOnce as usize));
        front.is_some_and(Queued::is_again) || self.has_spilled_again()
    }

    /// Puts back what the store knows. The Session is new, and its Client away. What is not QoS 1 or 2 is left out.
    pub fn restore(&mut self, restored: Restored) {
        let (messages, bytes) = restored.waiting;
        self.restore_spilled(messages, bytes, restored.perhaps_sent_before, restored.is_waiting_late);
        let mut slots: Vec<_> = restored.released.into_iter().map(|id| (id, Slot::Released(GroupId::NONE))).collect();
        for (packet_id, outgoing, kept) in restored.sent {
            let queued = Queued::restored(outgoing, kept.tag as u32);
            match kept.qos() {
                Some(Qos::AtLeastOnce) => slots.push((packet_id, Slot::AtLeastOnce(queued))),
                Some(Qos::ExactlyOnce) => slots.push((packet_id, Slot::ExactlyOnce(queued))),
                _ => {}
            }
        }
        if !slots.is_empty() {
            self.in_flight = Some(Box::new(InFlight::restore(slots)));
        }
        if !restored.received.is_empty() {
            self.received = Some(Box::new(Received::restore(restored.received)));
        }
        self.shrink();
    }
}
