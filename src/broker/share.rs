//! Shared subscriptions: the group owns the queue, its home shard owns the group.
//!
//! Members pull: a Message goes to a member only while that member has fewer open deliveries than its window, and waits in
//! the group otherwise. So a member that is away or slow strands nothing. What a member had not acknowledged when it went away
//! comes back and is given to another, but for QoS 2 exchanges that have begun (4.8.2). Members may live in other shards;
//! then all this goes by mail.
//!
//! A group that has had a member whose Session is kept has a number in the store, until its last member leaves. A Message of
//! QoS 1 or 2 is in the queue of that number until a member is done with it, whoever has it meanwhile; a QoS 2 exchange that
//! has begun is moved to the member's own queue, if the store knows its Session. After a crash all that is left there waits
//! for the group again.

use super::ShardId;
use super::budget::Level;
use super::durable::Durable;
use super::mail::{Mail, Member, Offered, SessionRef};
use super::publish::Routed;
use super::router::{Matched, Seat};
use super::shard::{Shard, Wire};
use crate::codec::{Delivery, Message, Moment, Options, PacketId, Qos, Version, publish_size};
use crate::session::{Bound, Dropped, GroupId, HandedBack, How, Limits, Outgoing, Settled};
use crate::topic::{Epochs, Group, Queued, Waiting, WaitingLimits};
use foldhash::fast::RandomState;
use std::collections::HashMap;
use std::sync::Arc;

/// Deliveries that one member may have open, whatever its Receive Maximum.
pub(super) const WINDOW_MAX: u32 = 1000;

/// A group, at its home.
pub(super) struct SharedGroup {
    seat: Arc<Seat>,
    /// The store has all that waits with QoS 1 or 2.
    is_kept: bool,
    /// Who is chosen.
    group: Group<SessionRef>,
    /// What no member has place for. QoS 0 waits only while somebody is there.
    waiting: Waiting<Offered>,
    members: HashMap<SessionRef, Member, RandomState>,
}

impl<W: Wire> Shard<W> {
    // --- the member's side ----------------------------------------------------------------------------------------

    pub(super) fn join_share(&mut self, slot: u32, name: &str, filter: &[u8], options: Options, subscription_id: u32) {
        let Some(member) = self.member(slot, options, subscription_id) else { return };
        let Some(client) = self.clients.get_mut(slot) else { return };
        let is_kept = client.kept_as != 0;
        let shares = &mut client.rare().shares;
        let known = shares.iter_mut().find(|(seat, _)| *seat.name == *name && *seat.filter == *filter);
        let seat = match known {
            Some((seat, joined)) => {
                *joined = member;
                Arc::clone(seat)
            }
            None => {
                let strategy = self.shared.settings.shared_strategies.of(name);
                let seat = self.shared.router.join(name, filter, self.id, strategy);
                shares.push((Arc::clone(&seat), member));
                self.statistics.shared_subscriptions += 1;
                if is_kept {
                    self.shared.number_group(&seat, |number| self.durable.begin_group(number, &seat.text()));
                }
                seat
            }
        };
        self.group_mail(&Arc::clone(&seat), Mail::Join(seat, member));
    }

    /// `true`: there was such a subscription.
    pub(super) fn leave_share(&mut self, slot: u32, name: &str, filter: &[u8]) -> bool {
        let Some(client) = self.clients.get_mut(slot) else { return false };
        let Some(at) = client.shares().iter().position(|(seat, _)| *seat.name == *name && *seat.filter == *filter)
        else {
            return false;
        };
        let (seat, _) = client.rare().shares.swap_remove(at);
        self.leave_seat(slot, &seat);
        true
    }

    /// The same for a member that may not have what it has not been sent yet: that goes back to the group.
    pub(super) fn expel_from_share(&mut self, slot: u32, name: &str, filter: &[u8]) {
        let session = self.reference(slot);
        let Some(client) = self.clients.get_mut(slot) else { return };
        let found = client.shares().iter().find(|(seat, _)| *seat.name == *name && *seat.filter == *filter);
        let Some(seat) = found.map(|(seat, _)| Arc::clone(seat)) else { return };
        let mut returned = Vec::new();
        client.session.take_waiting(|group| group == seat.id, &mut returned);
        self.leave_share(slot, name, filter); // first, or it would be chosen again
        if !returned.is_empty() {
            let returned = returned.into_iter().map(Offered::from).collect();
            self.group_mail(&seat, Mail::HandedBack(seat.id, session, returned));
        }
    }

    pub(super) fn leave_all_shares(&mut self, slot: u32) {
        let Some(client) = self.clients.get_mut(slot).filter(|client| !client.shares().is_empty()) else { return };
        for (seat, _) in std::mem::take(&mut client.rare().shares) {
            self.leave_seat(slot, &seat);
        }
    }

    fn leave_seat(&mut self, slot: u32, seat: &Arc<Seat>) {
        if let Some(client) = self.clients.get_mut(slot) {
            for owned in client.session.own_group(seat.id) {
                match owned.kept {
                    Some(kept) => self.durable.take_over(seat.kept_as(), client.kept_as, kept, None),
                    None => _ = self.durable.leave_group(seat.kept_as(), owned.record),
                }
            }
        }
        self.statistics.shared_subscriptions -= 1;
        let session = self.reference(slot);
        self.shared.router.leave(seat);
        self.group_mail(seat, Mail::Leave(seat.id, session));
    }

    /// The Client is back, perhaps on other terms.
    pub(super) fn rejoin_groups(&mut self, slot: u32) {
        let Some(client) = self.clients.get(slot) else { return };
        let terms = client.session.terms();
        let (window, packet_size_max) = (u32::from(terms.receive_maximum).min(WINDOW_MAX), terms.packet_size_max);
        for (seat, mut member) in client.shares().to_vec() {
            member.online = true;
            member.window = window;
            member.packet_size_max = packet_size_max;
            self.group_mail(&Arc::clone(&seat), Mail::Join(seat, member));
        }
    }

    /// The Client has gone: what it had not acknowledged goes back to its groups, before anything newer.
    pub(super) fn leave_groups(&mut self, slot: u32) {
        let session = self.reference(slot);
        let Some(client) = self.clients.get_mut(slot) else { return };
        if client.shares().is_empty() {
            return;
        }
        let mut returned = Vec::new();
        client.session.take_shared(&mut returned);
        let shares = client.shares().to_vec();
        for (seat, _) in &shares {
            self.group_mail(seat, Mail::Away(seat.id, session));
        }
        for (seat, _) in &shares {
            let back: Vec<_> = returned.extract_if(.., |back| back.group == seat.id).map(Offered::from).collect();
            if !back.is_empty() {
                self.group_mail(seat, Mail::HandedBack(seat.id, session, back));
            }
        }
    }

    /// Gives back what this member cannot take.
    pub(super) fn hand_on(&mut self, slot: u32, handed_back: HandedBack) {
        let session = self.reference(slot);
        if let Some(seat) = self.seat_of(slot, handed_back.group) {
            self.group_mail(&seat, Mail::HandedBack(seat.id, session, vec![handed_back.into()]));
        }
    }

    /// A delivery of a shared subscription is settled; its member has a place free.
    pub(super) fn settle(&mut self, slot: u32, over: Settled) {
        let session = self.reference(slot);
        if let Some(seat) = self.seat_of(slot, over.group) {
            self.wants_tick |= self.durable.leave_group(seat.kept_as(), over.record);
            self.group_mail(&seat, Mail::Settled(seat.id, session));
        }
    }

    /// The Message of such a delivery need not be kept any more.
    #[cold]
    pub(super) fn forget_shared(&mut self, slot: u32, over: Settled) {
        if let Some(seat) = self.seat_of(slot, over.group) {
            self.durable.leave_group(seat.kept_as(), over.record);
        }
    }

    fn seat_of(&self, slot: u32, group: GroupId) -> Option<Arc<Seat>> {
        self.clients.get(slot)?.seat_of(group).map(Arc::clone)
    }

    /// Delivers what the group's home has chosen this member for. If it went away or left while the Message was under way, the
    /// Message goes back, together with others of the same tick, in their order.
    pub(super) fn deliver_shared(&mut self, home: ShardId, to: SessionRef, message: Message, how: How) {
        let limits = &self.shared.settings.session;
        let here = self.clients.is_current(to.slot, to.generation);
        if here
            && let Some(client) = self.clients.get_mut(to.slot)
            && client.wire.is_some()
            && client.shares().iter().any(|(seat, _)| seat.id == how.group)
            && client.session.push(&Outgoing::new(message.clone()), how, limits).is_ok()
        {
            self.mark_dirty(to.slot);
        } else {
            let offered = Offered { message, qos: how.qos, is_kept: how.is_kept_by_group() };
            self.refused_shares.push((home, how.group, to, offered));
            self.wants_tick = true;
        }
    }

    pub(super) fn hand_back_refused(&mut self) {
        let mut refused = std::mem::take(&mut self.refused_shares).into_iter().peekable();
        while let Some((home, group, member, first)) = refused.next() {
            let mut back = vec![first];
            while let Some((_, _, _, next)) = refused.next_if(|next| (next.0, next.1, next.2) == (home, group, member))
            {
                back.push(next);
            }
            let mail = Mail::HandedBack(group, member, back);
            if home == self.id { self.take_group_mail(mail) } else { self.mail(home, mail) }
        }
    }

    // --- the group's side -----------------------------------------------------------------------------------------

    /// For one of the members of each of these groups that are at home here.
    pub(super) fn offer(&mut self, matched: &Matched, message: &Message) -> Routed {
        let (here, mut routed) = (self.id, Routed::default());
        for seat in matched.groups.iter().filter(|seat| seat.home == here) {
            let (taken, full) = self.offer_to(seat, message);
            routed.taken |= taken;
            routed.full |= full;
        }
        routed
    }

    fn group_mail(&mut self, seat: &Arc<Seat>, mail: Mail) {
        if seat.home == self.id {
            self.take_group_mail(mail);
        } else {
            self.mail(seat.home, mail);
        }
    }

    /// Mail for a group that is not known comes from somebody who has not noticed yet that its last member has left.
    pub(super) fn take_group_mail(&mut self, mail: Mail) {
        let group = match &mail {
            Mail::Join(seat, member) => return self.take_join(seat, *member),
            Mail::Leave(group, _) | Mail::Away(group, _) | Mail::Settled(group, _) | Mail::HandedBack(group, ..) => {
                *group
            }
            Mail::Publish(..) | Mail::Deliver(..) | Mail::Recalled(..) => return,
        };
        let Some(known) = self.groups.get_mut(&group) else { return };
        match mail {
            Mail::Leave(_, session) => {
                known.leave(session);
                // Another member's Join may still be on its way: then the queue waits for it.
                if known.members.is_empty() && !self.shared.router.has_seat(&known.seat) {
                    let lost = known.waiting.len() as u64;
                    self.statistics.dropped.group_ended += lost;
                    self.durable.end_group(known.seat.kept_as());
                    self.groups.remove(&group);
                }
            }
            Mail::Away(_, session) => {
                known.set_away(session);
                let number = known.seat.kept_as();
                let dropped = known.drop_qos0_if_alone(|record| _ = self.durable.leave_group(number, record));
                self.statistics.dropped.note_some(Dropped::Offline, dropped);
            }
            Mail::Settled(_, session) => {
                known.group.settle(session);
            }
            Mail::HandedBack(_, session, mut back) => {
                for offered in &mut back {
                    known.group.settle(session);
                    if known.is_kept {
                        keep(&mut self.durable, known.seat.kept_as(), offered);
                    }
                }
                let epochs = &self.shared.router.epochs;
                known.waiting.push_front(back.into_iter().map(|offered| queued(offered, epochs)));
            }
            Mail::Join(..) | Mail::Publish(..) | Mail::Deliver(..) | Mail::Recalled(..) => {}
        }
        self.pump(group);
    }

    fn take_join(&mut self, seat: &Arc<Seat>, member: Member) {
        let limits = &self.shared.settings.session;
        let known = self.groups.entry(seat.id).or_insert_with(|| SharedGroup::new(Arc::clone(seat), limits));
        known.join(member);
        let number = seat.kept_as();
        if number != 0 && !known.is_kept {
            // From now on the store has all that waits: before a Session that is kept gets any of it.
            known.is_kept = true;
            known.waiting.iter_mut().for_each(|offered| keep(&mut self.durable, number, offered));
            let restored = self.shared.take_restored(number).into_iter();
            let restored = restored.map(|message| Offered { qos: message.qos(), message, is_kept: true });
            known.waiting.push_front(restored.map(|offered| queued(offered, &self.shared.router.epochs)));
        }
        self.pump(seat.id);
    }

    /// Whether the group has it, and if not, whether because its queue is full.
    fn offer_to(&mut self, seat: &Seat, message: &Message) -> (bool, bool) {
        let Some(known) = self.groups.get(&seat.id) else { return (false, false) };
        if !known.waiting.is_empty() {
            self.pump(seat.id); // what is in front may have expired
        }
        let epochs = &self.shared.router.epochs;
        let topic_hash = epochs.hash(message.topic());
        let Some(known) = self.groups.get_mut(&seat.id) else { return (false, false) };
        let qos = message.qos();
        let is_passing = qos == Qos::AtMostOnce || self.durable.is_passing();
        let number = if is_passing { 0 } else { seat.kept_as() };
        let offered = Offered { message: message.clone(), qos, is_kept: number != 0 };
        let is_first = known.waiting.is_empty();
        if is_first && let Some(member) = known.choose(message, topic_hash) {
            self.give(seat.id, member, offered);
        } else if qos == Qos::AtMostOnce && !known.is_attended() {
            self.statistics.dropped.note(Dropped::Offline);
        } else if is_first && let Some(reason) = known.is_in_vain(message, self.now) {
            // What no member can ever take must not stay in front.
            self.statistics.dropped.note(reason);
            return (true, false);
        } else if self.level == Level::Full || known.waiting.push_back(queued(offered, epochs)).is_err() {
            self.statistics.dropped.note(Dropped::QueueFull);
            return (false, true);
        }
        if number != 0 {
            self.durable.enter_group(number, message);
        }
        (true, false)
    }

    /// Gives out what waits, as far as members have place.
    fn pump(&mut self, group: GroupId) {
        let now = self.now;
        loop {
            let Some(known) = self.groups.get_mut(&group) else { return };
            let Some(front) = known.waiting.front() else { return };
            let offered = front.message.clone();
            let topic_hash = front.topic_hash;
            let message = &offered.message;
            let member = if message.is_expired(now) { None } else { known.choose(message, topic_hash) };
            if let Some(member) = member {
                known.waiting.pop_front();
                self.give(group, member, offered);
            } else if let Some(reason) = known.is_in_vain(message, now) {
                // As if it had been delivered.
                known.waiting.pop_front();
                self.statistics.dropped.note(reason);
                if offered.is_kept {
                    self.wants_tick |= self.durable.leave_group(known.seat.kept_as(), offered.message.record());
                }
            } else {
                return;
            }
        }
    }

    fn give(&mut self, group: GroupId, member: Member, offered: Offered) {
        let Offered { message, qos, is_kept } = offered;
        let how = How {
            qos: qos.min(message.qos()).min(member.qos), // [MQTT-4.8.2-3]
            retain: message.retain() && member.retain_as_published,
            subscription_id: member.subscription_id,
            group,
            bound: Bound::Caller,
        };
        let how = if is_kept { how.kept_by_group() } else { how };
        if member.session.shard == self.id {
            self.deliver_shared(self.id, member.session, message, how);
        } else {
            self.mail(member.session.shard, Mail::Deliver(self.id, member.session, message, how));
        }
    }
}

/// The store has the Message in the queue of the group with this number from now on.
fn keep(durable: &mut Durable, number: u64, offered: &mut Offered) {
    if offered.is_kept || offered.qos == Qos::AtMostOnce {
        return;
    }
    if offered.message.record() != 0 {
        // Those who had it kept may be done with it: its bytes may be gone.
        offered.message = offered.message.anew();
    }
    durable.enter_group(number, &offered.message);
    durable.commit(Some(&offered.message));
    offered.is_kept = true;
}

fn queued(offered: Offered, epochs: &Epochs) -> Queued<Offered> {
    let message = &offered.message;
    let (size, origin_hash) = (message.size(), message.origin().value());
    Queued { size, origin_hash, topic_hash: epochs.hash(message.topic()), message: offered }
}

impl SharedGroup {
    fn new(seat: Arc<Seat>, limits: &Limits) -> Self {
        let limits = WaitingLimits { messages_max: limits.queue_messages_max, bytes_max: limits.queue_bytes_max };
        Self {
            group: Group::new(seat.strategy, u64::from(seat.id.0)),
            waiting: Waiting::new(limits),
            members: HashMap::default(),
            is_kept: false,
            seat,
        }
    }

    fn join(&mut self, member: Member) {
        self.members.insert(member.session, member);
        self.group.join(member.session, member.window);
        self.group.set_online(member.session, member.online);
    }

    fn leave(&mut self, session: SessionRef) {
        self.members.remove(&session);
        self.group.leave(session);
    }

    fn set_away(&mut self, session: SessionRef) {
        if let Some(member) = self.members.get_mut(&session) {
            member.online = false;
        }
        self.group.set_online(session, false);
    }

    fn is_attended(&self) -> bool {
        self.members.values().any(|member| member.online)
    }

    /// A member with place for this Message, which is taken from now on. Members whose Maximum Packet Size is too small
    /// for it are passed over.
    fn choose(&mut self, message: &Message, topic_hash: u64) -> Option<Member> {
        let members = &self.members;
        let fits = |session| members.get(&session).is_some_and(|member| Self::takes(member, message));
        let chosen = self.group.offer_where(message.origin().value(), topic_hash, fits)?;
        self.members.get(&chosen).copied()
    }

    fn takes(member: &Member, message: &Message) -> bool {
        // Only 5.0 Clients have a Maximum Packet Size.
        let single = [member.subscription_id];
        let delivery = Delivery {
            qos: message.qos().min(member.qos),
            packet_id: PacketId::new(1).filter(|_| message.qos().min(member.qos) != Qos::AtMostOnce),
            subscription_ids: if member.subscription_id == 0 { &[] } else { &single },
            ..Delivery::default()
        };
        publish_size(message, &delivery, Version::V5) <= member.packet_size_max as usize
    }

    /// Why no member will ever get it.
    fn is_in_vain(&self, message: &Message, now: Moment) -> Option<Dropped> {
        let nobody_takes =
            || !self.members.is_empty() && !self.members.values().any(|member| Self::takes(member, message));
        match message.is_expired(now) {
            true => Some(Dropped::Expired),
            false => nobody_takes().then_some(Dropped::PacketTooLarge),
        }
    }

    /// With nobody there QoS 0 has nothing to wait for.
    fn drop_qos0_if_alone(&mut self, mut on_dropped: impl FnMut(u64)) -> usize {
        if self.is_attended() {
            return 0;
        }
        self.waiting.retain(|queued| {
            let Offered { message, qos, is_kept } = &queued.message;
            if *qos == Qos::AtMostOnce && *is_kept {
                on_dropped(message.record());
            }
            *qos != Qos::AtMostOnce
        })
    }
}
