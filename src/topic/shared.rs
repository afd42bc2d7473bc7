//! Shared subscriptions: who of a group gets the next message, and which messages wait until somebody can.
//! It knows members by an id only, and nothing of what a Session does with a message; it never gives one to a member
//! that is away or has no quota, and never loses one on its own.
//! Read `arena.rs` and `index.rs` next, for how all of these keep what they hold.
//!
//! The messages wait with the group and not with its members, so that each can go to whoever can take it first, and
//! none is stranded with a member that stays away. Whoever changes a member (it joins, comes back, settles, gets a
//! larger window) asks [`Waiting::take_next`] until it has nothing to give.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::str::FromStr;

use foldhash::fast::{FixedState, RandomState};
use hashbrown::HashMap;
use smallvec::SmallVec;

use super::arena::Arena;
use super::hash::mix;

/// How the member is chosen that gets the next message, out of those that are online and have quota.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strategy {
    /// The one that has waited longest since its last message.
    #[default]
    RoundRobin,
    /// Any, all equally likely.
    Random,
    /// The same as last time, for as long as it can; then the one that has waited longest.
    Sticky,
    /// The same for all messages of one publishing Client. While the member whose turn it is has no quota, its messages
    /// go to the one that would be chosen if it were not there, rather than wait; when members come and go, only the
    /// messages of those members go to others.
    HashClient,
    /// The same for all messages of one topic; otherwise like `HashClient`.
    HashTopic,
    /// The one with the fewest messages not yet acknowledged; of equals, the one that has waited longest.
    LeastInFlight,
}

/// Not the name of a strategy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown strategy: use one of round_robin, random, sticky, hash_client, hash_topic, least_in_flight")]
pub struct UnknownStrategy;

/// How much may wait for one group. Both hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitingLimits {
    /// Messages.
    pub messages_max: usize,
    /// The sum of their sizes.
    pub bytes_max: usize,
}

/// A message that waits for a group, with what its choice of a member depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queued<T> {
    /// The message.
    pub message: T,
    /// Its bytes, as far as the limit is concerned.
    pub size: usize,
    /// A hash of the publishing Client's identifier.
    pub origin_hash: u64,
    /// A hash of the Topic Name.
    pub topic_hash: u64,
}

/// The queue was full; here is the message back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Full<T>(pub Queued<T>);

/// The members of one shared subscription.
///
/// Choosing takes time in proportion to the logarithm of the number of members; with `Random`, `HashClient` and
/// `HashTopic`, to the number of those that can take a message.
pub struct Group<M> {
    strategy: Strategy,
    members: Arena<Member<M>>,
    places: HashMap<M, u32, RandomState>,
    /// Exactly the members that are online and have quota, in the order in which they are chosen.
    ready: BTreeSet<Ready>,
    turns_given: u64,
    sticky: Option<u32>,
    random: u64,
    hashing: FixedState,
}

/// The messages that wait for one group, in the order in which they are to go.
pub struct Waiting<T> {
    queue: VecDeque<Queued<T>>,
    bytes: usize,
    limits: WaitingLimits,
}

struct Member<M> {
    id: M,
    hash: u64,
    online: bool,
    in_flight: u32,
    window: u32,
    /// Goes up with each message given to any member.
    turn: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Ready {
    /// Nothing, except for `LeastInFlight`.
    in_flight: u32,
    turn: u64,
    place: u32,
}

impl<M: Copy + Eq + Hash> Group<M> {
    /// A group without members. Two groups with equal seeds and equal histories choose equally.
    pub fn new(strategy: Strategy, seed: u64) -> Self {
        Self {
            strategy,
            members: Arena::new(),
            places: HashMap::default(),
            ready: BTreeSet::new(),
            turns_given: 0,
            sticky: None,
            random: seed,
            hashing: FixedState::with_seed(seed),
        }
    }

    /// How many members there are, online or not.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there is no member.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// A member comes in, online, behind those that are there. One that is there already gets the new window and is
    /// online; what it has in flight stays. Says whether the member is new.
    pub fn join(&mut self, id: M, window: u32) -> bool {
        if let Some(place) = self.places.get(&id).copied() {
            self.change(place, |member| (member.online, member.window) = (true, window));
            return false;
        }
        let turn = self.next_turn();
        let hash = self.hashing.hash_one(id);
        // It enters the order of those that are ready by the change from offline to online.
        let place = self.members.insert(Member { id, hash, online: false, in_flight: 0, window, turn });
        self.places.insert(id, place);
        self.change(place, |member| member.online = true);
        true
    }

    /// A member goes for good. What it had in flight is the caller's to hand back, with [`Waiting::push_front`],
    /// or not: a QoS 2 message that was begun goes to nobody else [MQTT-4.8.2-5]. Says whether it was a member.
    pub fn leave(&mut self, id: M) -> bool {
        let Some(place) = self.places.remove(&id) else {
            return false;
        };
        self.change(place, |member| member.online = false);
        self.members.remove(place);
        if self.sticky == Some(place) {
            self.sticky = None;
        }
        true
    }

    /// A member's Network Connection was lost, or is there again. What it has in flight stays counted until it is
    /// settled, also when the caller hands it back. Says whether it is a member.
    pub fn set_online(&mut self, id: M, online: bool) -> bool {
        self.change_by_id(id, |member| member.online = online)
    }

    /// How many messages the member may have in flight; those above it are not taken away. Says whether it is a member.
    pub fn set_window(&mut self, id: M, window: u32) -> bool {
        self.change_by_id(id, |member| member.window = window)
    }

    /// The member is done with one of the messages it was given. Says whether it is a member.
    pub fn settle(&mut self, id: M) -> bool {
        self.change_by_id(id, |member| member.in_flight = member.in_flight.saturating_sub(1))
    }

    /// How many messages the member has not settled yet.
    pub fn in_flight(&self, id: M) -> Option<u32> {
        let place = self.places.get(&id)?;
        Some(self.members.get(*place)?.in_flight)
    }

    /// Chooses the member for a message, and counts it as in flight there. None if nobody can take it; then it has to
    /// wait. The hashes stand for the publishing Client and for the topic.
    ///
    /// A message that has just come is not to overtake those that wait, so this is for when none do.
    pub fn offer(&mut self, origin_hash: u64, topic_hash: u64) -> Option<M> {
        self.offer_where(origin_hash, topic_hash, |_| true)
    }

    /// As [`offer`](Self::offer), but only among members of which `fits` says yes: the message may be too large for
    /// some. It is asked about members in the order in which they would be chosen.
    pub fn offer_where(&mut self, origin_hash: u64, topic_hash: u64, mut fits: impl FnMut(M) -> bool) -> Option<M> {
        let members = &self.members;
        let mut fits = |place: &u32| fits(members[*place].id);
        let mut ready = self.ready.iter().map(|ready| ready.place);
        let place = match self.strategy {
            Strategy::RoundRobin | Strategy::LeastInFlight => ready.find(fits)?,
            Strategy::Sticky => {
                let same = self.sticky.filter(|place| members[*place].is_ready() && fits(place));
                same.or_else(|| ready.find(fits))?
            }
            Strategy::Random => {
                let able: SmallVec<[u32; 16]> = ready.filter(fits).collect();
                self.random = self.random.wrapping_add(GOLDEN_RATIO);
                let number = u128::from(scramble(self.random)) * able.len() as u128;
                *able.get((number >> u64::BITS) as usize)?
            }
            Strategy::HashClient => highest_bidder(members, ready.filter(fits), origin_hash)?,
            Strategy::HashTopic => highest_bidder(members, ready.filter(fits), topic_hash)?,
        };
        self.sticky = Some(place);
        let turn = self.next_turn();
        self.change(place, |member| {
            member.in_flight += 1;
            member.turn = turn;
        });
        Some(self.members[place].id)
    }

    /// Every change of a member goes through here, so that `ready` is always right.
    fn change(&mut self, place: u32, change: impl FnOnce(&mut Member<M>)) {
        let member = &mut self.members[place];
        if member.is_ready() {
            self.ready.remove(&member.ready(self.strategy, place));
        }
        change(member);
        if member.is_ready() {
            self.ready.insert(member.ready(self.strategy, place));
        }
    }

    fn change_by_id(&mut self, id: M, change: impl FnOnce(&mut Member<M>)) -> bool {
        let Some(place) = self.places.get(&id).copied() else {
            return false;
        };
        self.change(place, change);
        true
    }

    fn next_turn(&mut self) -> u64 {
        self.turns_given += 1;
        self.turns_given
    }
}

/// Rendezvous hashing: every member bids for the key, each with a number that depends on nobody else.
fn highest_bidder<M>(members: &Arena<Member<M>>, places: impl Iterator<Item = u32>, key: u64) -> Option<u32> {
    places.max_by_key(|place| scramble(members[*place].hash ^ key))
}

impl<T> Waiting<T> {
    /// Nothing waits yet.
    pub const fn new(limits: WaitingLimits) -> Self {
        Self { queue: VecDeque::new(), bytes: 0, limits }
    }

    /// How many messages wait.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether no message waits.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// The sum of the sizes of the messages that wait.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Puts a message behind those that wait.
    ///
    /// # Errors
    /// When it would pass one of the limits; nothing changes and the message comes back.
    pub fn push_back(&mut self, queued: Queued<T>) -> Result<(), Full<T>> {
        let bytes = self.bytes.saturating_add(queued.size);
        if self.queue.len() >= self.limits.messages_max || bytes > self.limits.bytes_max {
            return Err(Full(queued));
        }
        self.bytes = bytes;
        self.queue.push_back(queued);
        Ok(())
    }

    /// Puts messages that a member gave back, in the order in which it got them, before those that wait.
    ///
    /// They were accepted once and are not refused now, so the queue may pass its limits by what was in flight: what
    /// waits and what is in flight is never more than `messages_max` and the sum of all windows.
    pub fn push_front<I>(&mut self, returned: I)
    where
        I: IntoIterator<Item = Queued<T>>,
        I::IntoIter: DoubleEndedIterator,
    {
        for queued in returned.into_iter().rev() {
            self.bytes = self.bytes.saturating_add(queued.size);
            self.queue.push_front(queued);
        }
    }

    /// The messages that wait, in order. Their sizes must stay as they are.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.queue.iter_mut().map(|queued| &mut queued.message)
    }

    /// The message that has waited longest.
    pub fn front(&self) -> Option<&Queued<T>> {
        self.queue.front()
    }

    /// Takes the message out that has waited longest, without choosing a member: it has expired, or the group ends.
    pub fn pop_front(&mut self) -> Option<Queued<T>> {
        let queued = self.queue.pop_front()?;
        self.bytes -= queued.size;
        Some(queued)
    }

    /// Drops the messages of which `keep` says no. Returns how many these were.
    pub fn retain(&mut self, mut keep: impl FnMut(&Queued<T>) -> bool) -> usize {
        let before = self.queue.len();
        let bytes = &mut self.bytes;
        self.queue.retain(|queued| {
            let kept = keep(queued);
            *bytes -= if kept { 0 } else { queued.size };
            kept
        });
        before - self.queue.len()
    }

    /// Takes the message out that has waited longest, chooses a member for it and counts it as in flight there. None if
    /// nothing waits or nobody can take it.
    pub fn take_next<M: Copy + Eq + Hash>(&mut self, group: &mut Group<M>) -> Option<(M, Queued<T>)> {
        let front = self.queue.front()?;
        let id = group.offer(front.origin_hash, front.topic_hash)?;
        Some((id, self.pop_front()?))
    }
}

impl<M> Member<M> {
    fn is_ready(&self) -> bool {
        self.online && self.in_flight < self.window
    }

    fn ready(&self, strategy: Strategy, place: u32) -> Ready {
        let in_flight = if strategy == Strategy::LeastInFlight { self.in_flight } else { 0 };
        Ready { in_flight, turn: self.turn, place }
    }
}

const GOLDEN_RATIO: u64 = 0x9E37_79B9_7F4A_7C15;

/// Spreads neighbouring numbers evenly; after a counter it makes a good enough random generator.
fn scramble(number: u64) -> u64 {
    mix(mix(number ^ 0xD1B5_4A32_D192_ED03, GOLDEN_RATIO) ^ number, 0x8CB9_2BA7_2F3D_8DD7)
}

impl Strategy {
    const NAMES: [(Self, &'static str); 6] = [
        (Self::RoundRobin, "round_robin"),
        (Self::Random, "random"),
        (Self::Sticky, "sticky"),
        (Self::HashClient, "hash_client"),
        (Self::HashTopic, "hash_topic"),
        (Self::LeastInFlight, "least_in_flight"),
    ];
}

impl FromStr for Strategy {
    type Err = UnknownStrategy;

    fn from_str(text: &str) -> Result<Self, UnknownStrategy> {
        let named = Self::NAMES.iter().find(|(_, name)| *name == text);
        named.map(|(strategy, _)| *strategy).ok_or(UnknownStrategy)
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = Self::NAMES.iter().find(|(strategy, _)| strategy == self);
        formatter.write_str(named.map_or("", |(_, name)| name))
    }
}

#[cfg(test)]
mod tests {
    use super::{Full, Group, Queued, Strategy, UnknownStrategy, Waiting, WaitingLimits};

    const LIMITS: WaitingLimits = WaitingLimits { messages_max: 5, bytes_max: 1000 };

    fn group(strategy: Strategy, members: u32, window: u32) -> Group<u32> {
        let mut group = Group::new(strategy, 7);
        for member in 0..members {
            assert!(group.join(member, window));
        }
        group
    }

    fn queued(message: u32) -> Queued<u32> {
        Queued { message, size: 100, origin_hash: 1, topic_hash: u64::from(message) }
    }

    /// How many of the messages each member gets.
    fn shares(group: &mut Group<u32>, members: usize, messages: u64) -> Vec<u32> {
        let mut shares = vec![0; members];
        for number in 0..messages {
            if let Some(member) = group.offer(number % 97, number) {
                shares[member as usize] += 1;
                group.settle(member);
            }
        }
        shares
    }

    #[test]
    fn round_robin_goes_around() {
        let mut group = group(Strategy::RoundRobin, 3, 100);
        let chosen: Vec<_> = (0..7).map(|_| group.offer(0, 0)).collect();
        assert_eq!(chosen, [Some(0), Some(1), Some(2), Some(0), Some(1), Some(2), Some(0)]);
        group.set_online(1, false);
        assert_eq!((group.offer(0, 0), group.offer(0, 0)), (Some(2), Some(0)));
        group.set_online(1, true);
        assert_eq!(group.offer(0, 0), Some(1), "who was away is the one that waited longest");
        group.join(9, 100);
        assert_eq!(group.offer(0, 0), Some(2), "who is new comes last");
    }

    #[test]
    fn random_is_fair_and_repeats_with_its_seed() {
        let messages = 40_000;
        let shares_of_4 = shares(&mut group(Strategy::Random, 4, 100), 4, messages);
        assert!(shares_of_4.iter().all(|share| (9_600..10_400).contains(share)), "{shares_of_4:?}");
        let again = shares(&mut group(Strategy::Random, 4, 100), 4, messages);
        assert_eq!(shares_of_4, again);
        let mut other = Group::<u32>::new(Strategy::Random, 8);
        (0..4).for_each(|member| assert!(other.join(member, 100)));
        assert_ne!(shares_of_4, shares(&mut other, 4, messages));
    }

    #[test]
    fn sticky_stays_until_it_cannot() {
        let mut group = group(Strategy::Sticky, 3, 2);
        assert_eq!((group.offer(0, 0), group.offer(0, 0)), (Some(0), Some(0)));
        assert_eq!(group.offer(0, 0), Some(1), "0 is full");
        group.settle(0);
        assert_eq!(group.offer(0, 0), Some(1), "no need to go back");
        assert_eq!(group.offer(0, 0), Some(2), "2 has waited longer than 0");
        group.leave(2);
        assert_eq!(group.offer(0, 0), Some(0));
        assert_eq!(group.offer(0, 0), None);
    }

    #[test]
    fn hash_strategies_keep_to_a_member_and_move_little() {
        for strategy in [Strategy::HashClient, Strategy::HashTopic] {
            let choose = |group: &mut Group<u32>, key: u64| {
                let (origin, topic) = match strategy {
                    Strategy::HashClient => (key, 5),
                    _ => (5, key),
                };
                let chosen = group.offer(origin, topic);
                chosen.into_iter().for_each(|member| assert!(group.settle(member)));
                chosen
            };
            let mut group = group(strategy, 10, 1);
            let before: Vec<_> = (0..10_000).map(|key| choose(&mut group, key)).collect();
            let again: Vec<_> = (0..10_000).map(|key| choose(&mut group, key)).collect();
            assert_eq!(before, again);
            let of_3 = before.iter().filter(|chosen| **chosen == Some(3)).count();
            assert!((850..1150).contains(&of_3), "{of_3}");

            group.leave(3);
            for (key, chosen) in (0..).zip(&before) {
                let now = choose(&mut group, key);
                assert!(now == *chosen || *chosen == Some(3), "only what was 3's moves");
                assert!(now.is_some_and(|member| member != 3));
            }
            group.join(3, 1);
            assert_eq!((0..10_000).map(|key| choose(&mut group, key)).collect::<Vec<_>>(), before, "and moves back");
        }
    }

    #[test]
    fn a_hashed_member_without_quota_is_passed_over() {
        let mut group = group(Strategy::HashTopic, 3, 1);
        let mut chosen: Vec<_> = (0..4).map(|_| group.offer(0, 42)).collect();
        assert_eq!(chosen.pop(), Some(None), "all three are full");
        let first = chosen[0];
        chosen.sort_unstable();
        assert_eq!(chosen, [Some(0), Some(1), Some(2)]);
        first.into_iter().for_each(|member| assert!(group.settle(member)));
        assert_eq!(group.offer(0, 42), first);
    }

    #[test]
    fn least_in_flight_levels_the_load() {
        let mut group = group(Strategy::LeastInFlight, 3, 100);
        for _ in 0..9 {
            assert!(group.offer(0, 0).is_some());
        }
        for _ in 0..2 {
            group.settle(1);
        }
        assert_eq!((group.offer(0, 0), group.offer(0, 0)), (Some(1), Some(1)));
        assert_eq!((0..3).map(|member| group.in_flight(member)).collect::<Vec<_>>(), [Some(3); 3]);
        assert_eq!(group.offer(0, 0), Some(0), "of equals the one that has waited longest");
    }

    #[test]
    fn everybody_gets_a_share_with_every_strategy_but_sticky() {
        for (strategy, name) in Strategy::NAMES {
            let shares = shares(&mut group(strategy, 5, 3), 5, 5_000);
            assert_eq!(shares.iter().sum::<u32>(), 5_000, "{name}");
            if strategy != Strategy::Sticky {
                assert!(shares.iter().all(|share| *share > 500), "{name}: {shares:?}");
            }
        }
    }

    #[test]
    fn a_message_goes_only_to_a_member_that_it_fits() {
        for (strategy, name) in Strategy::NAMES {
            let mut group = group(strategy, 4, 100);
            for key in 0..20 {
                assert_eq!(group.offer_where(key, key, |id| id == 2), Some(2), "{name}");
            }
            assert_eq!(group.offer_where(1, 1, |_| false), None, "{name}");
            assert_eq!(group.in_flight(2), Some(20), "{name}");
        }
    }

    #[test]
    fn nothing_is_stranded_with_members_that_are_away() {
        for (strategy, name) in Strategy::NAMES {
            let (mut group, mut waiting) = (group(strategy, 3, 1), Waiting::new(LIMITS));
            for member in 0..3 {
                group.set_online(member, false);
            }
            assert_eq!(group.offer(1, 1), None, "{name}");
            for message in 0..3 {
                assert_eq!(waiting.push_back(queued(message)), Ok(()));
            }
            assert_eq!(waiting.take_next(&mut group), None);
            group.set_online(1, true);
            assert_eq!(waiting.take_next(&mut group), Some((1, queued(0))));
            assert_eq!(waiting.take_next(&mut group), None, "its window is used up");
            group.settle(1);
            assert_eq!(waiting.take_next(&mut group), Some((1, queued(1))));

            // It goes away for good and gives back what it has: that comes before what is newer.
            group.leave(1);
            waiting.push_front([queued(1)]);
            group.set_online(0, true);
            assert_eq!(waiting.take_next(&mut group), Some((0, queued(1))));
            group.set_window(0, 2);
            assert_eq!(waiting.take_next(&mut group), Some((0, queued(2))));
            assert_eq!(waiting.take_next(&mut group), None);
            assert_eq!((waiting.is_empty(), waiting.bytes()), (true, 0));
        }
    }

    #[test]
    fn the_queue_has_limits_but_takes_back_what_was_accepted() {
        let mut waiting = Waiting::new(LIMITS);
        for message in 0..5 {
            assert_eq!(waiting.push_back(queued(message)), Ok(()));
        }
        assert_eq!(waiting.push_back(queued(5)), Err(Full(queued(5))), "5 messages");
        waiting.push_front([queued(10), queued(11)]);
        assert_eq!((waiting.len(), waiting.bytes()), (7, 700));
        assert_eq!(waiting.retain(|queued| queued.message != 2), 1);
        assert_eq!((waiting.len(), waiting.bytes()), (6, 600));
        let rest = std::iter::from_fn(|| waiting.pop_front());
        assert_eq!(rest.map(|queued| queued.message).collect::<Vec<_>>(), [10, 11, 0, 1, 3, 4]);
        let large = Queued { size: 1001, ..queued(6) };
        assert_eq!(waiting.push_back(large.clone()), Err(Full(large)), "1,000 bytes");
        assert_eq!(waiting.push_back(Queued { size: 1000, ..queued(7) }), Ok(()));
        let one_more = Queued { size: 1, ..queued(8) };
        assert!(waiting.push_back(one_more).is_err());
    }

    #[test]
    fn members_are_counted_and_strangers_change_nothing() {
        let mut group = group(Strategy::RoundRobin, 2, 1);
        assert!(!group.join(0, 5), "there already");
        assert!(!group.leave(7) && !group.settle(7) && !group.set_online(7, true) && !group.set_window(7, 1));
        assert_eq!((group.len(), group.in_flight(7)), (2, None));
        group.settle(0);
        assert_eq!(group.in_flight(0), Some(0), "not below zero");
        assert!(group.leave(0) && group.leave(1) && group.is_empty());
        assert_eq!(group.offer(0, 0), None);
    }

    #[test]
    fn strategies_have_names() {
        for (strategy, name) in Strategy::NAMES {
            assert_eq!((name.parse(), strategy.to_string().as_str()), (Ok(strategy), name));
        }
        assert_eq!("RoundRobin".parse::<Strategy>(), Err(UnknownStrategy));
        assert_eq!(Strategy::default(), Strategy::RoundRobin);
    }
}
