//! Who wants what, and what is kept: subscriptions, shared subscriptions, retained messages and a cache of matches.
//! Nothing here knows a Session, a Quality of Service, a right or a clock: bytes and values go in, values come out.
//! Read `tree.rs` next; it is what every PUBLISH meets first.
//!
//! Topic Names and Topic Filters are bytes here. Two of them are the same when their bytes are, and nothing is
//! normalised or substituted [MQTT-4.7.3-4]. Whether they are well formed was decided by whoever made them; a filter
//! that is not, such as `a#` or `#/b`, does no harm: its odd level is taken as text, which no Topic Name contains.

mod arena;
mod cache;
mod hash;
mod index;
mod inline;
mod retained;
mod shared;
mod tree;

pub use cache::{Epochs, MatchCache, Stamps};
pub use hash::HashKey;
pub use retained::{Cursor, Kept, Progress, Retained, Stored, SweepCursor};
pub use shared::{Full, Group, Queued, Strategy, UnknownStrategy, Waiting, WaitingLimits};
pub use tree::{NodeId, TopicTree};
