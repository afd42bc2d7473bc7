//! What the journal holds and rest does not take: read as if it were at rest.
//!
//! A store on a full disk opens all the same. What recovery would bring to rest is held in memory instead, over what is at rest;
//! the segments stay, and checkpoints do the same work again until the disk takes it. Then this goes.

use super::Error;
use super::rest::{Change, Each, Rest, Space};
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::ops::Bound;

/// Changes of keys, the last of each.
#[derive(Default)]
pub(super) struct Held(RwLock<BTreeMap<Key, Option<Vec<u8>>>>);

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Key(Space, Vec<u8>);

/// Rest as it will be. What is written to it is held.
pub(super) struct Over<'a> {
    pub(super) rest: &'a dyn Rest,
    pub(super) held: &'a Held,
}

impl Rest for Over<'_> {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        match self.held.0.read().get(&Key(space, key.to_vec())) {
            Some(held) => Ok(held.clone()),
            None => self.rest.get(space, key),
        }
    }

    fn scan(&self, space: Space, prefix: &[u8], from: &[u8], each: &mut Each<'_>) -> Result<(), Error> {
        let held = self.held.0.read();
        let first = Bound::Included(Key(space, prefix.max(from).to_vec()));
        let mut held = held
            .range((first, Bound::Unbounded))
            .take_while(|(Key(found, key), _)| *found == space && key.starts_with(prefix))
            .map(|(Key(_, key), value)| (key, value))
            .peekable();
        let mut is_over = false;
        self.rest.scan(space, prefix, from, &mut |key, value| {
            while let Some((before, value)) = held.next_if(|(held, _)| ***held < *key) {
                is_over |= value.as_ref().is_some_and(|value| !each(before, value));
                if is_over {
                    return false;
                }
            }
            let go_on = match held.next_if(|(held, _)| **held == *key) {
                Some((_, held)) => held.as_ref().is_none_or(|held| each(key, held)),
                None => each(key, value),
            };
            is_over |= !go_on;
            go_on
        })?;
        if !is_over {
            let mut left = held.filter_map(|(key, value)| Some((key, value.as_ref()?)));
            let _ = left.all(|(key, value)| each(key, value));
        }
        Ok(())
    }

    fn apply(&self, changes: Vec<Change>) -> Result<(), Error> {
        self.held.0.write().extend(changes.into_iter().map(|(space, key, value)| (Key(space, key), value)));
        Ok(())
    }
}
