//! Topic Aliases: the Client's, resolved on arrival, and ours, given to the topics that a receiver is sent most.
//!
//! Both tables belong to one Network Connection and die with it [MQTT-3.3.2-7]. The two directions know nothing of each
//! other. `publish.rs` uses the first, `deliver.rs` the second.

use crate::codec::OutAlias;
use foldhash::fast::RandomState;
use std::collections::HashMap;
use std::num::NonZeroU16;

/// Of one Network Connection. Exists only once one was defined.
#[derive(Default)]
pub(super) struct Aliases {
    pub(super) inbound: Option<InboundAliases>,
    pub(super) outbound: Option<OutboundAliases>,
}

/// The aliases that a Client has defined. Holds at most `maximum` Topic Names.
pub(super) struct InboundAliases {
    maximum: u16,
    topics: Vec<Option<Box<[u8]>>>,
}

impl InboundAliases {
    pub(super) fn new(maximum: u16) -> Self {
        Self { maximum, topics: Vec::new() }
    }

    /// Remembers or replaces one alias. `false`: it is above the maximum that we announced.
    pub(super) fn define(&mut self, alias: NonZeroU16, topic: &[u8]) -> bool {
        if alias.get() > self.maximum {
            return false;
        }
        let place = usize::from(alias.get()) - 1;
        if self.topics.len() <= place {
            self.topics.resize(place + 1, None);
        }
        if self.topics[place].as_deref() != Some(topic) {
            self.topics[place] = Some(topic.into());
        }
        true
    }

    pub(super) fn resolve(&self, alias: NonZeroU16) -> Option<&[u8]> {
        self.topics.get(usize::from(alias.get()) - 1)?.as_deref()
    }

    pub(super) fn maximum(&self) -> u16 {
        self.maximum
    }
}

/// Shorter names gain nothing: the alias property itself takes three bytes.
const TOPIC_SIZE_MIN: usize = 5;

/// The aliases that we have defined towards a receiver, most used first. Holds at most `maximum` names and counts at most
/// eight times as many topics; all counts are halved when that table is full, so old fame fades.
pub(super) struct OutboundAliases {
    maximum: u16,
    names: Vec<Named>,
    uses: HashMap<u64, Uses, RandomState>,
    hasher: RandomState,
}

struct Named {
    topic: Box<[u8]>,
    hash: u64,
}

#[derive(Default)]
struct Uses {
    count: u32,
    alias: Option<NonZeroU16>,
}

impl OutboundAliases {
    pub(super) fn new(maximum: u16) -> Self {
        Self { maximum, names: Vec::new(), uses: HashMap::default(), hasher: RandomState::default() }
    }

    /// The alias to send with this topic, if it has or now gets one. A new alias must be sent together with the name, so
    /// call this only for a packet that is certainly sent.
    pub(super) fn choose(&mut self, topic: &[u8]) -> Option<OutAlias> {
        if topic.len() < TOPIC_SIZE_MIN {
            return None;
        }
        let hash = std::hash::BuildHasher::hash_one(&self.hasher, topic);
        if !self.uses.contains_key(&hash) && self.uses.len() >= usize::from(self.maximum) * 8 {
            self.fade();
        }
        let uses = self.uses.entry(hash).or_default();
        uses.count = uses.count.saturating_add(1);
        let count = uses.count;
        if let Some(alias) = uses.alias {
            // Two topics with one hash: the second goes without.
            let known = *self.names[usize::from(alias.get()) - 1].topic == *topic;
            return known.then_some(OutAlias { alias, name_known: true });
        }
        let alias = if self.names.len() < usize::from(self.maximum) {
            self.names.push(Named { topic: topic.into(), hash });
            NonZeroU16::new(self.names.len() as u16)?
        } else {
            self.displace(topic, hash, count)?
        };
        self.uses.entry(hash).or_default().alias = Some(alias);
        Some(OutAlias { alias, name_known: false })
    }

    /// Takes the alias of the least used name, if this topic is used at least twice as often.
    fn displace(&mut self, topic: &[u8], hash: u64, count: u32) -> Option<NonZeroU16> {
        if count < 4 || !count.is_power_of_two() {
            return None; // looking for the least used costs a walk; do it rarely
        }
        let of = |named: &Named| self.uses.get(&named.hash).map_or(0, |uses| uses.count);
        let place = (0..self.names.len()).min_by_key(|place| of(&self.names[*place]))?;
        if of(&self.names[place]) * 2 > count {
            return None;
        }
        if let Some(former) = self.uses.get_mut(&self.names[place].hash) {
            former.alias = None;
        }
        self.names[place] = Named { topic: topic.into(), hash };
        NonZeroU16::new(place as u16 + 1)
    }

    fn fade(&mut self) {
        self.uses.retain(|_, uses| {
            uses.count /= 2;
            uses.count > 0 || uses.alias.is_some()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_used_topics_get_the_aliases() {
        let mut aliases = OutboundAliases::new(2);
        for _ in 0..3 {
            aliases.choose(b"rarely/one");
            aliases.choose(b"rarely/two");
        }
        let mut gained = false;
        for _ in 0..16 {
            gained |= aliases.choose(b"often/three").is_some();
        }
        assert!(gained);
        let again = aliases.choose(b"often/three").expect("it has one now");
        assert!(again.name_known && again.alias.get() <= 2);
    }

    #[test]
    fn a_first_alias_comes_with_the_name_and_later_ones_without() {
        let mut aliases = OutboundAliases::new(1);
        let first = aliases.choose(b"a/topic").expect("free");
        assert!(!first.name_known);
        let second = aliases.choose(b"a/topic").expect("known");
        assert!(second.name_known && second.alias == first.alias);
        assert!(aliases.choose(b"b/topic").is_none());
    }

    #[test]
    fn counting_many_topics_stays_bounded() {
        let mut aliases = OutboundAliases::new(4);
        for number in 0..10_000 {
            aliases.choose(format!("topic/{number}").as_bytes());
        }
        assert!(aliases.uses.len() <= 4 * 8 + 4);
    }
}
