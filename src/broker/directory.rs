//! Which shard is home to which Client Identifier. Touched once per CONNECT.
//!
//! The home stays the same for as long as anything of the Client exists: a Session, a Network Connection, mail under way.
//! A guard of the map never leaves this file.

use super::ShardId;
use crate::access::Identity;
use crate::codec::Origin;
use crate::session::{Account, Amount};
use crate::topic::HashKey;
use dashmap::{DashMap, Entry};
use foldhash::fast::RandomState;
use std::sync::Arc;

/// Where a Client lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Home {
    pub shard: ShardId,
    pub slot: u32,
    pub generation: u32,
}

/// What [`Directory::claim`] found.
pub(super) enum Claim {
    /// The Client is already at home in this shard.
    Here(Home),
    /// It is at home in another; take the Network Connection there.
    Elsewhere(ShardId),
    /// It was unknown and is at home here now.
    New(Home),
}

/// What is counted of one user.
#[derive(Default)]
struct User {
    sessions: usize,
    /// What waits for it, once much has waited for one of its Sessions.
    waiting: Option<Arc<Account>>,
}

pub(super) struct Directory {
    homes: DashMap<Arc<str>, Home, RandomState>,
    /// By user, of those who have proved who they are.
    users: DashMap<Box<str>, User, RandomState>,
    key: HashKey,
}

impl Directory {
    pub(super) fn new(key: HashKey) -> Self {
        Self {
            homes: DashMap::with_hasher(RandomState::default()),
            users: DashMap::with_hasher(RandomState::default()),
            key,
        }
    }

    /// Looks a Client Identifier up and, where it is unknown, makes this shard its home at the place that `settle` returns.
    pub(super) fn claim(&self, shard: ShardId, client_id: &Arc<str>, settle: impl FnOnce() -> (u32, u32)) -> Claim {
        match self.homes.entry(Arc::clone(client_id)) {
            Entry::Occupied(entry) if entry.get().shard == shard => Claim::Here(*entry.get()),
            Entry::Occupied(entry) => Claim::Elsewhere(entry.get().shard),
            Entry::Vacant(entry) => {
                let (slot, generation) = settle();
                let home = Home { shard, slot, generation };
                entry.insert(home);
                Claim::New(home)
            }
        }
    }

    /// Forgets a Client that has left this very place; a later tenant is not touched.
    pub(super) fn forget(&self, client_id: &str, home: Home) {
        self.homes.remove_if(client_id, |_, known| *known == home);
    }

    /// Sessions that belong to this user.
    pub(super) fn sessions_of(&self, owner: &Identity) -> usize {
        owner.proven_name().and_then(|name| self.users.get(name).map(|user| user.sessions)).unwrap_or(0)
    }

    /// Where it is counted what waits for all Sessions of this user; `most` if it begins with this one.
    pub(super) fn account_of(&self, owner: &Identity, most: Amount) -> Option<Arc<Account>> {
        let mut user = self.users.get_mut(owner.proven_name()?)?;
        Some(Arc::clone(user.waiting.get_or_insert_with(|| Account::new(most))))
    }

    /// A Session of this user has begun.
    pub(super) fn note_begun(&self, owner: &Identity) {
        if let Some(name) = owner.proven_name() {
            self.users.entry(name.into()).or_default().sessions += 1;
        }
    }

    /// A Session of this user has ended.
    pub(super) fn note_ended(&self, owner: &Identity) {
        if let Some(name) = owner.proven_name()
            && let Entry::Occupied(mut entry) = self.users.entry(name.into())
        {
            match entry.get().sessions {
                0 | 1 => drop(entry.remove()),
                _ => entry.get_mut().sessions -= 1,
            }
        }
    }

    pub(super) fn knows(&self, client_id: &str) -> bool {
        self.homes.contains_key(client_id)
    }

    /// Recognises a publisher in its Messages [MQTT-3.8.3-3], whatever happens to its Session in between.
    pub(super) fn origin_of(&self, client_id: &str) -> Origin {
        Origin::new(self.key.hash(client_id.as_bytes()))
    }
}
