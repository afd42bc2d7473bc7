//! From a Topic Name to the filters that match it and the shards that have subscribers for them. Shared by all shards.
//!
//! The tree holds no Client: each shard keeps its own subscribers by filter, so Sessions come and go without touching it.
//! Looking up takes the read lock only when a shard's cache does not know the Topic. `publish.rs` and `subscribe.rs` are
//! the two sides.

use super::{Durability, ShardId};
use crate::session::GroupId;
use crate::topic::{Epochs, HashKey, NodeId, Strategy, TopicTree};
use parking_lot::RwLock;
use smallvec::SmallVec;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// A filter that somebody subscribes to; never reused, so a stale one matches nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct FilterId(u64);

/// A set of shards. 64 is the most a node can have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ShardSet(u64);

pub(super) const SHARDS_MAX: usize = 64;

impl ShardSet {
    pub(super) fn insert(&mut self, shard: ShardId) -> bool {
        let before = self.0;
        self.0 |= 1 << shard.0;
        before != self.0
    }

    pub(super) fn remove(&mut self, shard: ShardId) {
        self.0 &= !(1 << shard.0);
    }

    pub(super) fn contains(self, shard: ShardId) -> bool {
        self.0 & (1 << shard.0) != 0
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) fn has_others_than(self, shard: ShardId) -> bool {
        self.0 & !(1 << shard.0) != 0
    }

    pub(super) fn add_all(&mut self, other: Self) {
        self.0 |= other.0;
    }

    pub(super) fn iter(self) -> impl Iterator<Item = ShardId> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            (rest != 0).then(|| {
                let shard = rest.trailing_zeros();
                rest &= rest - 1;
                ShardId(shard as u16)
            })
        })
    }
}

/// A shared subscription: a share name and a filter. One shard is its home and owns its queue.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) id: GroupId,
    pub(super) name: Box<str>,
    pub(super) filter: Box<[u8]>,
    pub(super) home: ShardId,
    pub(super) strategy: Strategy,
    /// The number of the group in the store; 0 = it is not there. Set once, when the first member joins whose Session is kept.
    kept_as: AtomicU64,
}

impl Seat {
    pub(super) fn kept_as(&self) -> u64 {
        self.kept_as.load(Ordering::Acquire)
    }

    pub(super) fn keep_as(&self, number: u64) {
        self.kept_as.store(number, Ordering::Release);
    }

    /// The filter as it is subscribed to.
    pub(super) fn text(&self) -> Vec<u8> {
        share_text(&self.name, &self.filter)
    }
}

/// `$share/NAME/FILTER`.
pub(super) fn share_text(name: &str, filter: &[u8]) -> Vec<u8> {
    [b"$share/", name.as_bytes(), b"/", filter].concat()
}

/// What the tree holds for one filter.
struct Route {
    id: FilterId,
    shards: ShardSet,
    groups: SmallVec<[(Arc<Seat>, u32); 0]>,
}

/// What matches one Topic Name.
#[derive(Debug, Default)]
pub(super) struct Matched {
    /// Who has subscribers, or is the home of a group.
    pub(super) reach: ShardSet,
    /// Who has subscribers.
    pub(super) shards: ShardSet,
    /// Ascending.
    pub(super) filters: SmallVec<[FilterId; 4]>,
    pub(super) groups: SmallVec<[Arc<Seat>; 0]>,
    pub(super) durability: Durability,
}

pub(super) struct Router {
    /// The place of each filter in the list, and what it says.
    durability: TopicTree<(usize, Durability)>,
    routes: RwLock<Routes>,
    pub(super) epochs: Epochs,
    next_group: AtomicU32,
}

struct Routes {
    tree: TopicTree<Route>,
    next: u64,
}

impl Router {
    pub(super) fn new(key: HashKey, rules: &[(String, Durability)]) -> Self {
        let mut durability = TopicTree::with_key(key.clone());
        for (place, (filter, says)) in rules.iter().enumerate() {
            durability.insert_with(filter.as_bytes(), || (place, *says)); // the first of several with one filter
        }
        Self {
            durability,
            routes: RwLock::new(Routes { tree: TopicTree::with_key(key.clone()), next: 1 }),
            epochs: Epochs::with_key(key),
            next_group: AtomicU32::new(1),
        }
    }

    /// Searches the tree. The caller's cache must have read its stamps before.
    pub(super) fn search(&self, topic: &[u8]) -> Matched {
        let mut matched = Matched { durability: self.durability_of(topic), ..Matched::default() };
        self.routes.read().tree.for_each_match(topic, &mut |route| {
            if !route.shards.is_empty() {
                matched.filters.push(route.id);
                matched.shards.add_all(route.shards);
            }
            matched.groups.extend(route.groups.iter().map(|(seat, _)| Arc::clone(seat)));
        });
        matched.filters.sort_unstable();
        matched.reach = matched.shards;
        for seat in &matched.groups {
            matched.reach.insert(seat.home);
        }
        matched
    }

    /// What the first of the rules that match says.
    fn durability_of(&self, topic: &[u8]) -> Durability {
        let mut first = (usize::MAX, Durability::Usual);
        if !self.durability.is_empty() {
            self.durability.for_each_match(topic, &mut |rule| {
                if rule.0 < first.0 {
                    first = *rule;
                }
            });
        }
        first.1
    }

    /// This shard has a subscriber for the filter, perhaps its first.
    pub(super) fn subscribe(&self, filter: &[u8], shard: ShardId) -> (FilterId, NodeId) {
        let mut routes = self.routes.write();
        let routes = &mut *routes;
        let (node, route) = routes.tree.insert_with(filter, || Route::new(&mut routes.next));
        if route.shards.insert(shard) {
            self.epochs.bump(filter);
        }
        (route.id, node)
    }

    /// The identifier of a filter, if anybody subscribes to it.
    pub(super) fn find(&self, filter: &[u8]) -> Option<FilterId> {
        self.routes.read().tree.get(filter).map(|route| route.id)
    }

    /// The text of a filter that somebody subscribes to.
    pub(super) fn filter_of(&self, node: NodeId) -> Vec<u8> {
        self.routes.read().tree.filter_of(node)
    }

    /// This shard has no subscriber left for the filter.
    pub(super) fn unsubscribe(&self, node: NodeId, shard: ShardId) {
        let mut routes = self.routes.write();
        let filter = routes.tree.filter_of(node);
        if let Some(route) = routes.tree.get_mut(&filter) {
            route.shards.remove(shard);
            let unused = route.is_unused();
            if unused {
                routes.tree.remove(&filter);
            }
            self.epochs.bump(&filter);
        }
    }

    /// One more member joins a shared subscription; the first makes its own shard the home.
    pub(super) fn join(&self, name: &str, filter: &[u8], shard: ShardId, strategy: Strategy) -> Arc<Seat> {
        let mut routes = self.routes.write();
        let routes = &mut *routes;
        let (_, route) = routes.tree.insert_with(filter, || Route::new(&mut routes.next));
        if let Some((seat, members)) = route.groups.iter_mut().find(|(seat, _)| *seat.name == *name) {
            *members += 1;
            return Arc::clone(seat);
        }
        let id = GroupId(self.next_group.fetch_add(1, Ordering::Relaxed));
        let kept_as = AtomicU64::new(0);
        let seat = Arc::new(Seat { id, name: name.into(), filter: filter.into(), home: shard, strategy, kept_as });
        route.groups.push((Arc::clone(&seat), 1));
        self.epochs.bump(filter);
        seat
    }

    /// Whether a shared subscription has any member, joined or about to.
    pub(super) fn has_seat(&self, seat: &Seat) -> bool {
        let routes = self.routes.read();
        routes.tree.get(&seat.filter).is_some_and(|route| route.groups.iter().any(|(known, _)| known.id == seat.id))
    }

    /// A member has left; with the last one the seat goes.
    pub(super) fn leave(&self, seat: &Seat) {
        let mut routes = self.routes.write();
        let Some(route) = routes.tree.get_mut(&seat.filter) else { return };
        let Some(place) = route.groups.iter().position(|(known, _)| known.id == seat.id) else { return };
        route.groups[place].1 -= 1;
        if route.groups[place].1 == 0 {
            route.groups.swap_remove(place);
            if route.is_unused() {
                routes.tree.remove(&seat.filter);
            }
            self.epochs.bump(&seat.filter);
        }
    }

    pub(super) fn filters(&self) -> usize {
        self.routes.read().tree.len()
    }
}

impl Route {
    fn new(next: &mut u64) -> Self {
        let id = FilterId(*next);
        *next += 1;
        Self { id, shards: ShardSet::default(), groups: SmallVec::new() }
    }

    fn is_unused(&self) -> bool {
        self.shards.is_empty() && self.groups.is_empty()
    }
}
