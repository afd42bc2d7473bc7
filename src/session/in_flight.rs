//! QoS 1 and 2 deliveries that were sent and are not settled, in the order of sending.
//!
//! Packet Identifiers are handed out in sequence, so the place of an identifier in the ring is its distance from the
//! first; the ring is at the same time the list for resending [MQTT-4.4.0-1]. It holds no quota of the peer's making:
//! only what was sent counts, so an acknowledgement that comes twice changes nothing.

use super::log::Kept;
use super::queue::{GroupId, Queued};
use crate::codec::{PacketId, Qos};
use std::collections::VecDeque;

pub(super) const FIRST: PacketId = PacketId::new(1).expect("1 is not 0");

/// Packet Identifiers are 1 to 65,535.
const IDENTIFIERS: u32 = 65_535;

#[derive(Debug)]
pub(super) enum Slot {
    /// Waits for PUBACK.
    AtLeastOnce(Queued),
    /// Waits for PUBREC.
    ExactlyOnce(Queued),
    /// PUBREL sent, waits for PUBCOMP; the Message is no longer needed.
    Released(GroupId),
    /// The same, but of a former Network Connection: the repeated PUBREL takes no send quota (4.9).
    ReleasedBefore(GroupId),
    Done,
}

#[derive(Debug)]
pub(super) struct InFlight {
    /// Identifier of the front of the ring; while the ring is empty, the next one to hand out.
    first: PacketId,
    ring: VecDeque<Slot>,
    /// Slots sent on this Network Connection and not done. Sending stops at the peer's Receive Maximum.
    open: u32,
    /// Slots from here on have not been sent on this Network Connection.
    resend: usize,
}

impl Default for InFlight {
    fn default() -> Self {
        Self { first: FIRST, ring: VecDeque::new(), open: 0, resend: 0 }
    }
}

impl InFlight {
    pub(super) fn open(&self) -> u32 {
        self.open
    }

    /// Whether one more may begin. The ring itself is bounded too: a Client that never acknowledges one packet but all
    /// later ones cannot make it grow without end, and identifiers that were just freed rest before they come again.
    pub(super) fn has_room(&self, receive_maximum: u16) -> bool {
        let ring_max = (u32::from(receive_maximum) * 4).clamp(16, IDENTIFIERS - 1);
        self.open < u32::from(receive_maximum)
            && (self.ring.len() as u32) < ring_max.max(u32::from(receive_maximum).min(IDENTIFIERS))
    }

    /// The next free Packet Identifier [MQTT-2.2.1-4], taken by [`Self::begin`].
    #[inline]
    pub(super) fn next_packet_id(&self) -> PacketId {
        self.id_at(self.ring.len())
    }

    pub(super) fn begin(&mut self, slot: Slot) {
        self.ring.push_back(slot);
        self.open += 1;
        self.resend = self.ring.len();
    }

    /// The slot of an identifier that has been sent on this Network Connection and is not done.
    pub(super) fn sent(&mut self, packet_id: PacketId) -> Option<&mut Slot> {
        let place = self.place(packet_id)?;
        match &mut self.ring[place] {
            Slot::Done => None,
            slot => Some(slot),
        }
    }

    /// The exchange with this identifier has ended.
    pub(super) fn finish(&mut self, packet_id: PacketId) {
        if let Some(place) = self.place(packet_id) {
            if !matches!(self.ring[place], Slot::ReleasedBefore(_)) {
                self.open = self.open.saturating_sub(1);
            }
            self.ring[place] = Slot::Done;
            self.pop_done();
        }
    }

    fn pop_done(&mut self) {
        while matches!(self.ring.front(), Some(Slot::Done)) {
            self.first = self.id_at(1);
            self.ring.pop_front();
            self.resend = self.resend.saturating_sub(1);
        }
    }

    /// Everything is to be sent again, in the first order.
    pub(super) fn resend_all(&mut self) {
        self.resend = 0;
        self.open = 0;
    }

    pub(super) fn has_resends(&self) -> bool {
        self.resend < self.ring.len()
    }

    /// Whether the next of them may go now.
    pub(super) fn can_resend(&self, receive_maximum: u16) -> bool {
        match self.ring.get(self.resend) {
            None => false,
            Some(Slot::Released(_) | Slot::ReleasedBefore(_) | Slot::Done) => true,
            Some(_) => self.open < u32::from(receive_maximum),
        }
    }

    /// All PUBREL packets to send again, at once and in order: they never wait for send quota [MQTT-3.3.4-10].
    pub(super) fn resend_released(&mut self, mut send: impl FnMut(PacketId)) {
        for place in 0..self.ring.len() {
            if let Slot::Released(group) | Slot::ReleasedBefore(group) = self.ring[place] {
                self.ring[place] = Slot::ReleasedBefore(group);
                send(self.id_at(place));
            }
        }
    }

    /// The next PUBLISH to send again, if the peer's Receive Maximum allows it.
    pub(super) fn next_resend(&mut self, receive_maximum: u16) -> Option<PacketId> {
        while let Some(slot) = self.ring.get(self.resend) {
            let waits = matches!(slot, Slot::AtLeastOnce(_) | Slot::ExactlyOnce(_));
            if waits && self.open >= u32::from(receive_maximum) {
                return None;
            }
            let packet_id = self.id_at(self.resend);
            self.resend += 1;
            if waits {
                self.open += 1;
                return Some(packet_id);
            }
        }
        None
    }

    /// Between PUBREC and PUBCOMP.
    pub(super) fn released(&self) -> impl Iterator<Item = PacketId> {
        let is_released = |slot: &Slot| matches!(slot, Slot::Released(_) | Slot::ReleasedBefore(_));
        self.ring.iter().enumerate().filter(move |(_, slot)| is_released(slot)).map(|(place, _)| self.id_at(place))
    }

    /// QoS 1 deliveries that wait for PUBACK.
    pub(super) fn unacknowledged(&self) -> impl Iterator<Item = (PacketId, &Queued)> {
        self.ring.iter().enumerate().filter_map(|(place, slot)| match slot {
            Slot::AtLeastOnce(queued) => Some((self.id_at(place), queued)),
            _ => None,
        })
    }

    /// What is under way and is in the store.
    pub(super) fn kept(&self) -> impl Iterator<Item = Kept> {
        self.ring.iter().filter_map(|slot| match slot {
            Slot::AtLeastOnce(queued) => Kept::of(true, queued, Qos::AtLeastOnce),
            Slot::ExactlyOnce(queued) => Kept::of(true, queued, Qos::ExactlyOnce),
            _ => None,
        })
    }

    /// Puts in what a former process had under way. Identifiers that are free between them count as done.
    pub(super) fn restore(mut slots: Vec<(PacketId, Slot)>) -> Self {
        slots.sort_by_key(|(packet_id, _)| *packet_id);
        let distance =
            |from: PacketId, to: PacketId| (u32::from(to.get()) + IDENTIFIERS - u32::from(from.get())) % IDENTIFIERS;
        // The numbering goes on in a circle: it began behind the widest gap.
        let gap_before = |place: usize| {
            let before = slots[(place + slots.len() - 1) % slots.len()].0;
            let gap = distance(before, slots[place].0);
            if gap == 0 { IDENTIFIERS } else { gap }
        };
        let begin = (0..slots.len()).max_by_key(|place| gap_before(*place)).unwrap_or(0);
        slots.rotate_left(begin);
        let mut in_flight = Self { first: slots.first().map_or(FIRST, |(first, _)| *first), ..Self::default() };
        for (packet_id, slot) in slots {
            let place = distance(in_flight.first, packet_id) as usize;
            while in_flight.ring.len() < place {
                in_flight.ring.push_back(Slot::Done);
            }
            in_flight.ring.push_back(slot);
        }
        in_flight
    }

    /// Takes out QoS 1 deliveries of shared subscriptions, in order. QoS 2 ones stay: once begun with a member they are
    /// finished with that member or not at all [MQTT-4.8.2-4] [MQTT-4.8.2-5].
    pub(super) fn take_shared(&mut self, mut take: impl FnMut(Queued)) {
        for slot in &mut self.ring {
            if matches!(slot, Slot::AtLeastOnce(queued) if queued.group.is_some())
                && let Slot::AtLeastOnce(queued) = std::mem::replace(slot, Slot::Done)
            {
                take(queued);
            }
        }
        self.pop_done();
    }

    /// Deliveries of this shared subscription belong to the Session from now on.
    pub(super) fn own_group(&mut self, own: GroupId, mut on_owned: impl FnMut(&mut Queued, Qos)) {
        for slot in &mut self.ring {
            match slot {
                Slot::AtLeastOnce(queued) if queued.group == own => {
                    queued.group = GroupId::NONE;
                    on_owned(queued, Qos::AtLeastOnce);
                }
                Slot::ExactlyOnce(queued) if queued.group == own => {
                    queued.group = GroupId::NONE;
                    on_owned(queued, Qos::ExactlyOnce);
                }
                Slot::Released(group) | Slot::ReleasedBefore(group) if *group == own => *group = GroupId::NONE,
                _ => {}
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.ring.iter().filter(|slot| !matches!(slot, Slot::Done)).count()
    }

    /// Keeps the numbering, gives back the memory.
    pub(super) fn shrink(&mut self) {
        if self.ring.is_empty() {
            self.ring = VecDeque::new();
        }
    }

    fn id_at(&self, place: usize) -> PacketId {
        let zero_based = (u32::from(self.first.get()) - 1 + place as u32) % IDENTIFIERS;
        PacketId::new(zero_based as u16 + 1).unwrap_or(FIRST)
    }

    /// `None` for identifiers that are not in the ring, or whose PUBLISH was not yet sent on this Network Connection.
    fn place(&self, packet_id: PacketId) -> Option<usize> {
        let place = ((u32::from(packet_id.get()) + IDENTIFIERS - u32::from(self.first.get())) % IDENTIFIERS) as usize;
        let slot = self.ring.get(place)?;
        (place < self.resend || matches!(slot, Slot::ReleasedBefore(_))).then_some(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin(in_flight: &mut InFlight) -> u16 {
        let packet_id = in_flight.next_packet_id();
        in_flight.begin(Slot::Released(GroupId::NONE));
        packet_id.get()
    }

    #[test]
    fn identifiers_run_in_sequence_and_skip_zero() {
        let mut in_flight = InFlight { first: PacketId::new(65_534).expect("not zero"), ..InFlight::default() };
        assert_eq!([begin(&mut in_flight), begin(&mut in_flight), begin(&mut in_flight)], [65_534, 65_535, 1]);
        in_flight.finish(PacketId::new(65_535).expect("not zero"));
        in_flight.finish(PacketId::new(65_534).expect("not zero"));
        assert_eq!(in_flight.ring.len(), 1);
        assert!(in_flight.sent(FIRST).is_some());
        assert!(in_flight.sent(PacketId::new(65_535).expect("not zero")).is_none());
        assert_eq!(begin(&mut in_flight), 2);
    }

    #[test]
    fn an_acknowledgement_that_comes_twice_counts_once() {
        let mut in_flight = InFlight::default();
        let one = PacketId::new(begin(&mut in_flight)).expect("not zero");
        begin(&mut in_flight);
        assert!(!in_flight.has_room(2));
        for _ in 0..3 {
            if in_flight.sent(one).is_some() {
                in_flight.finish(one);
            }
        }
        assert_eq!(in_flight.open(), 1);
    }

    #[test]
    fn one_laggard_cannot_make_the_ring_grow_for_ever() {
        let mut in_flight = InFlight::default();
        begin(&mut in_flight);
        let mut begun = 1;
        while in_flight.has_room(10) {
            let packet_id = in_flight.next_packet_id();
            begin(&mut in_flight);
            in_flight.finish(packet_id);
            begun += 1;
        }
        assert_eq!(begun, 40);
    }

    #[test]
    fn all_identifiers_may_be_in_flight_but_never_one_twice() {
        let mut in_flight = InFlight::default();
        let mut begun = 0;
        while in_flight.has_room(65_535) {
            begin(&mut in_flight);
            begun += 1;
        }
        assert_eq!(begun, 65_535);
    }
}
