//! The retained message of each topic, for all threads, with replays that can stop anywhere and go on later.
//! It sets no limits, reads no clock and never copies a message or a list of results; a message is a handle to it.
//! Read `shared.rs` next.
//!
//! Topics are spread over 64 stripes, each behind a lock of its own: their first two levels choose one of eight groups,
//! the whole topic one of the eight stripes in it. So a filter that begins with two literal levels, which is what most
//! Clients use, is looked for in eight stripes, and a single busy `building/floor` is still spread over eight locks.
//!
//! In a stripe a message is found by the hash of its topic, which is all that replacing it touches, and by the order of
//! topics, which is what a replay with wildcards walks along. That order takes `/` as the lowest byte: then topics
//! compare level by level, and whatever lies below a topic follows right after it.
//!
//! A replay holds the lock of one stripe at a time, for a bounded number of entries, and remembers nothing but the last
//! topic it met. So nothing that is set or cleared meanwhile can lead it astray.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow, Range};
use std::sync::atomic::{self, AtomicUsize};

use parking_lot::RwLock;
use smallvec::SmallVec;

use super::arena::Arena;
use super::hash::{HashKey, first_levels};
use super::index::Index;
use super::inline::InlineBytes;
use crate::codec::{Message, Moment};

const GROUP_BITS: u32 = 3;
const STRIPE_IN_GROUP_BITS: u32 = 3;
const STRIPES_IN_GROUP: usize = 1 << STRIPE_IN_GROUP_BITS;
const STRIPES: usize = STRIPES_IN_GROUP << GROUP_BITS;
/// Finding a place in the order costs about as much as visiting this many entries.
const SEEK_ENTRIES: usize = 8;
/// Expired messages that are removed while a stripe is locked: each removal takes a few microseconds.
const SWEEP_REMOVALS_MAX: usize = 16;

/// What can be retained: a handle to a message.
pub trait Kept: Clone {
    /// The Topic Name under which it is kept.
    fn topic(&self) -> &[u8];
    /// Whether its Message Expiry Interval has passed.
    fn is_expired(&self, now: Moment) -> bool;
    /// The bytes it takes in memory, the same each time it is asked.
    fn size(&self) -> usize;
}

impl Kept for Message {
    fn topic(&self) -> &[u8] {
        self.topic()
    }

    fn is_expired(&self, now: Moment) -> bool {
        self.is_expired(now)
    }

    fn size(&self) -> usize {
        self.size()
    }
}

/// At most one message for each topic. All methods may be called from all threads.
pub struct Retained<M> {
    stripes: Box<[RwLock<Stripe<M>>]>,
    key: HashKey,
    len: AtomicUsize,
    bytes: AtomicUsize,
}

/// What [`Retained::set`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// The topic had no message.
    New,
    /// The topic had a message, which is gone.
    Replaced,
}

/// Whether a replay is through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Call again.
    More,
    /// Everything that matches was visited.
    Done,
}

/// How far a replay has come. Takes a few times the filter's length in memory.
pub struct Cursor {
    sought: Sought,
    /// Those not done with. Not known before the first step.
    stripes: Option<Range<usize>>,
    /// Where to go on in the first of them.
    from: Bound<Vec<u8>>,
}

/// How far a round of [`Retained::sweep`] has come. The default is the beginning of a round.
#[derive(Clone, Copy, Debug, Default)]
pub struct SweepCursor {
    stripe: usize,
    place: u32,
}

struct Stripe<M> {
    by_topic: Index,
    order: BTreeMap<OrderedTopic, u32>,
    messages: Arena<M>,
}

/// A topic with its bytes changed so that they sort as topics should. In place for most, so that going through the order
/// does not mean following a pointer for each.
type OrderedTopic = InlineBytes<46>;

impl<M: Kept> Retained<M> {
    /// An empty store with a key of its own.
    pub fn new() -> Self {
        Self::with_key(HashKey::random())
    }

    /// An empty store. The key decides in which stripe a topic lies, and thereby the order of a replay.
    pub fn with_key(key: HashKey) -> Self {
        Self {
            stripes: (0..STRIPES).map(|_| RwLock::new(Stripe::new())).collect(),
            key,
            len: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
        }
    }

    /// How many messages there are. Exact whenever no other thread is changing the store.
    pub fn len(&self) -> usize {
        self.len.load(atomic::Ordering::Relaxed)
    }

    /// Whether there is no message.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The sum of the messages' sizes. What the store itself needs for each comes on top: about 115 bytes, and the topic
    /// once more if it is longer than 46.
    /// Exact whenever no other thread is changing the store.
    pub fn bytes(&self) -> usize {
        self.bytes.load(atomic::Ordering::Relaxed)
    }

    /// Keeps the message in place of the one its topic had, if any [MQTT-3.3.1-5]. Limits are the caller's to check
    /// before, with [`len`](Self::len) and [`bytes`](Self::bytes).
    pub fn set(&self, message: M) -> Stored {
        let (topic, size) = (message.topic(), message.size());
        let hash = self.key.hash(topic);
        let mut stripe = self.stripe(topic, hash).write();
        let Some(place) = stripe.find(hash, topic) else {
            stripe.insert(hash, message);
            self.len.fetch_add(1, atomic::Ordering::Relaxed);
            self.bytes.fetch_add(size, atomic::Ordering::Relaxed);
            return Stored::New;
        };
        let old = std::mem::replace(&mut stripe.messages[place], message);
        // Wraps to a subtraction where the new one is smaller. The counters change under the lock, or a thread that
        // removes what another has just added could take them below zero.
        self.bytes.fetch_add(size.wrapping_sub(old.size()), atomic::Ordering::Relaxed);
        drop(stripe);
        drop(old);
        Stored::Replaced
    }

    /// Forgets the topic's message. Says whether there was one.
    pub fn clear(&self, topic: &[u8]) -> bool {
        self.clear_if(topic, |_| true)
    }

    /// Forgets the topic's message if it is one that `unwanted` says so of, asked under the lock. Says whether it was.
    pub fn clear_if(&self, topic: &[u8], unwanted: impl FnOnce(&M) -> bool) -> bool {
        let hash = self.key.hash(topic);
        let mut stripe = self.stripe(topic, hash).write();
        let Some(place) = stripe.find(hash, topic).filter(|place| stripe.messages.get(*place).is_some_and(unwanted))
        else {
            return false;
        };
        let taken = self.take(&mut stripe, hash, place);
        drop(stripe);
        taken.is_some()
    }

    /// The topic's message, also if it has expired but was not swept yet.
    pub fn get(&self, topic: &[u8]) -> Option<M> {
        let hash = self.key.hash(topic);
        let stripe = self.stripe(topic, hash).read();
        let place = stripe.find(hash, topic)?;
        stripe.messages.get(place).cloned()
    }

    /// Goes on with a replay: calls `visit` with messages that match and have not expired, until about `entries_max`
    /// entries were looked at. Breaking off ends the step, and the next one begins with the same topic again.
    ///
    /// A replay that is stepped until it is done has visited each message that was there all the while exactly once, and
    /// each of the others at most once; in every case with the value it had when it was visited.
    ///
    /// One stripe at a time is locked for reading while `visit` is called, so it must not call [`set`](Self::set),
    /// [`clear`](Self::clear) or [`sweep`](Self::sweep), and should be quick.
    pub fn step(
        &self,
        cursor: &mut Cursor,
        entries_max: usize,
        now: Moment,
        visit: &mut impl FnMut(&M) -> ControlFlow<()>,
    ) -> Progress {
        let pattern = match &cursor.sought {
            Sought::Topic(topic) => {
                let message = if cursor.is_done() { None } else { self.get(topic) };
                if message.is_some_and(|message| !message.is_expired(now) && visit(&message).is_break()) {
                    return Progress::More;
                }
                cursor.stripes = Some(0..0);
                return Progress::Done;
            }
            Sought::Pattern(pattern) => pattern,
        };
        let stripes = cursor.stripes.get_or_insert_with(|| self.stripes_for(pattern));
        let mut entries_left = entries_max;
        while let Some(stripe) = self.stripes[stripes.clone()].first() {
            match stripe.read().walk(pattern, &mut cursor.from, &mut entries_left, now, visit) {
                Walk::Paused => return Progress::More,
                Walk::Ended => {
                    stripes.start += 1;
                    cursor.from = pattern.start();
                }
            }
            if entries_left == 0 {
                break;
            }
        }
        if cursor.is_done() { Progress::Done } else { Progress::More }
    }

    /// Looks at up to `entries_max` messages and removes those that have expired. Goes round and round the store, a
    /// piece at each call. `ended` is told each, under the lock, so it should be quick. Returns how many were
    /// removed.
    pub fn sweep(
        &self,
        now: Moment,
        cursor: &mut SweepCursor,
        entries_max: usize,
        ended: &mut impl FnMut(&M),
    ) -> usize {
        let (mut removed, mut entries_left) = (0, entries_max);
        for _ in 0..STRIPES {
            let stripe = &self.stripes[cursor.stripe % STRIPES];
            let mut expired = Vec::new();
            let mut next = None;
            for (place, message) in stripe.read().messages.iter_from(cursor.place) {
                if entries_left == 0 {
                    next = Some(place);
                    break;
                }
                entries_left -= 1;
                if message.is_expired(now) {
                    expired.push(place);
                }
            }
            for places in expired.chunks(SWEEP_REMOVALS_MAX) {
                removed += self.remove_expired(&mut stripe.write(), now, places, ended);
            }
            if let Some(place) = next {
                cursor.place = place;
                break;
            }
            *cursor = SweepCursor { stripe: (cursor.stripe + 1) % STRIPES, place: 0 };
        }
        removed
    }

    /// The places were found under another lock, so that there may be something else by now.
    fn remove_expired(&self, stripe: &mut Stripe<M>, now: Moment, places: &[u32], ended: &mut impl FnMut(&M)) -> usize {
        let mut removed = 0;
        for place in places {
            if let Some(message) = stripe.messages.get(*place).filter(|message| message.is_expired(now)) {
                let hash = self.key.hash(message.topic());
                if let Some(message) = self.take(stripe, hash, *place) {
                    ended(&message);
                    removed += 1;
                }
            }
        }
        removed
    }

    fn take(&self, stripe: &mut Stripe<M>, hash: u64, place: u32) -> Option<M> {
        let message = stripe.remove(hash, place)?;
        self.len.fetch_sub(1, atomic::Ordering::Relaxed);
        self.bytes.fetch_sub(message.size(), atomic::Ordering::Relaxed);
        Some(message)
    }

    fn stripe(&self, topic: &[u8], hash: u64) -> &RwLock<Stripe<M>> {
        &self.stripes[self.group(first_levels(topic, 2)).start + high_bits(hash, STRIPE_IN_GROUP_BITS)]
    }

    fn stripes_for(&self, pattern: &Pattern) -> Range<usize> {
        pattern.first_two.as_ref().map_or(0..STRIPES, |levels| self.group(levels))
    }

    fn group(&self, first_two_levels: &[u8]) -> Range<usize> {
        let start = high_bits(self.key.hash(first_two_levels), GROUP_BITS) * STRIPES_IN_GROUP;
        start..start + STRIPES_IN_GROUP
    }
}

/// The index of a stripe takes the low ones.
fn high_bits(hash: u64, count: u32) -> usize {
    (hash >> (u64::BITS - count)) as usize
}

impl<M: Kept> Default for Retained<M> {
    fn default() -> Self {
        Self::new()
    }
}

impl Cursor {
    /// At the beginning of a replay of what matches the filter. The filter's levels are bounded by the caller.
    pub fn new(filter: &[u8]) -> Self {
        let pattern = Pattern::of(filter);
        if pattern.has_wildcard() { Self::along(pattern) } else { Self::at(filter) }
    }

    /// At the beginning of a replay of everything, also of topics that begin with `$`.
    pub fn everything() -> Self {
        Self::along(Pattern { levels: Box::default(), multi: true, dollar: true, first_two: None })
    }

    fn is_done(&self) -> bool {
        self.stripes.as_ref().is_some_and(Range::is_empty)
    }

    fn at(topic: &[u8]) -> Self {
        Self { sought: Sought::Topic(topic.into()), stripes: None, from: Bound::Unbounded }
    }

    fn along(pattern: Pattern) -> Self {
        Self { from: pattern.start(), sought: Sought::Pattern(pattern), stripes: None }
    }
}

impl<M: Kept> Stripe<M> {
    fn new() -> Self {
        Self { by_topic: Index::new(), order: BTreeMap::new(), messages: Arena::new() }
    }

    fn find(&self, hash: u64, topic: &[u8]) -> Option<u32> {
        self.by_topic
            .find(hash as u32, |place| self.messages.get(place).is_some_and(|message| message.topic() == topic))
    }

    fn insert(&mut self, hash: u64, message: M) {
        let ordered = OrderedTopic::of(&ordered(message.topic()));
        let place = self.messages.insert(message);
        self.by_topic.insert(hash as u32, place);
        self.order.insert(ordered, place);
    }

    fn remove(&mut self, hash: u64, place: u32) -> Option<M> {
        let message = self.messages.remove(place)?;
        self.by_topic.remove(hash as u32, place);
        self.order.remove(&*ordered(message.topic()));
        Some(message)
    }

    /// Walks along the order, from `from` on, which is moved to where to go on.
    fn walk(
        &self,
        pattern: &Pattern,
        from: &mut Bound<Vec<u8>>,
        entries_left: &mut usize,
        now: Moment,
        visit: &mut impl FnMut(&M) -> ControlFlow<()>,
    ) -> Walk {
        // Nothing below this can match, once it is set.
        let mut floor = Vec::new();
        'seek: loop {
            *entries_left = entries_left.saturating_sub(SEEK_ENTRIES);
            let start = from.as_ref().map(Vec::as_slice);
            let mut walked_below_floor = 0;
            for (topic, place) in self.order.range::<[u8], _>((start, Bound::Unbounded)) {
                let topic = topic.as_bytes();
                *entries_left = entries_left.saturating_sub(1);
                if *topic >= *floor {
                    walked_below_floor = 0;
                    match pattern.compare(topic, &mut floor) {
                        Verdict::Never => return Walk::Ended,
                        Verdict::Seek | Verdict::No => {}
                        Verdict::Match => {
                            let message = &self.messages[*place];
                            if !message.is_expired(now) && visit(message).is_break() {
                                *from = Bound::Included(topic.to_vec());
                                return Walk::Paused;
                            }
                        }
                    }
                }
                let is_below_floor = *topic < *floor;
                walked_below_floor += usize::from(is_below_floor);
                let is_far_below = walked_below_floor > SEEK_ENTRIES;
                if is_far_below || *entries_left == 0 {
                    *from = match is_below_floor {
                        true => Bound::Included(std::mem::take(&mut floor)),
                        false => Bound::Excluded(topic.to_vec()),
                    };
                    if *entries_left == 0 {
                        return Walk::Paused;
                    }
                    continue 'seek;
                }
            }
            return Walk::Ended;
        }
    }
}

enum Walk {
    Paused,
    Ended,
}

/// What a replay looks for.
enum Sought {
    Topic(Box<[u8]>),
    Pattern(Pattern),
}

/// A filter with wildcards, its literal levels in ordered bytes.
struct Pattern {
    levels: Box<[Level]>,
    /// Whether `#` follows the levels.
    multi: bool,
    /// Whether topics that begin with `$` match.
    dollar: bool,
    /// The first two levels, as they are in the filter, if both are literal: then they are those of every match.
    first_two: Option<Box<[u8]>>,
}

enum Level {
    Literal(Box<[u8]>),
    Plus,
}

enum Verdict {
    Match,
    /// Not this topic; perhaps the next.
    No,
    /// Neither this topic nor any below the floor, which was set.
    Seek,
    /// Neither this topic nor any after it.
    Never,
}

impl Pattern {
    fn of(filter: &[u8]) -> Self {
        let mut texts: Vec<&[u8]> = filter.split(|byte| *byte == b'/').collect();
        let multi = texts.last() == Some(&&b"#"[..]);
        if multi {
            texts.pop();
        }
        let levels: Box<[Level]> = texts
            .into_iter()
            .map(|text| if text == b"+" { Level::Plus } else { Level::Literal(ordered(text).as_slice().into()) })
            .collect();
        // A filter that begins with a wildcard matches no topic that begins with $ [MQTT-4.7.2-1].
        let dollar = matches!(levels.first(), Some(Level::Literal(_)));
        let first_two = match &*levels {
            [Level::Literal(_), Level::Literal(_), ..] => Some(first_levels(filter, 2).into()),
            _ => None,
        };
        Self { levels, multi, dollar, first_two }
    }

    fn has_wildcard(&self) -> bool {
        self.multi || self.levels.iter().any(|level| matches!(level, Level::Plus))
    }

    /// Nothing before its leading literal levels matches.
    fn start(&self) -> Bound<Vec<u8>> {
        let mut start = Vec::new();
        for (number, level) in self.levels.iter().enumerate() {
            let Level::Literal(text) = level else { break };
            if number > 0 {
                start.push(SLASH);
            }
            start.extend_from_slice(text);
        }
        Bound::Included(start)
    }

    /// Compares level by level. With [`Verdict::Seek`], `floor` becomes the lowest that can still match; it is above
    /// the topic.
    fn compare(&self, topic: &[u8], floor: &mut Vec<u8>) -> Verdict {
        if !self.dollar && topic.first() == Some(&DOLLAR) {
            floor.clear();
            floor.push(DOLLAR + 1);
            return Verdict::Seek;
        }
        let mut level_start = 0;
        // Where the last level ends that a + stands for. The next topic to match, if any, differs in that level.
        let mut last_plus_end = None;
        for level in &self.levels {
            let Some(rest) = topic.get(level_start..) else {
                // The topic is too short; below it there may be matches, and they come next.
                let Level::Literal(text) = level else {
                    return Verdict::No;
                };
                set(floor, topic, &[SLASH]);
                floor.extend_from_slice(text);
                return Verdict::Seek;
            };
            let len = rest.iter().position(|byte| *byte == SLASH).unwrap_or(rest.len());
            match level {
                Level::Plus => last_plus_end = Some(level_start + len),
                Level::Literal(text) => match rest[..len].cmp(text) {
                    Ordering::Equal => {}
                    Ordering::Less => {
                        set(floor, &topic[..level_start], text);
                        return Verdict::Seek;
                    }
                    Ordering::Greater => return beyond(topic, last_plus_end, floor),
                },
            }
            level_start += len + 1;
        }
        let is_used_up = level_start > topic.len();
        if self.multi || is_used_up { Verdict::Match } else { beyond(topic, last_plus_end, floor) }
    }
}

/// Nothing more can match in the subtree that the last `+` led into.
fn beyond(topic: &[u8], last_plus_end: Option<usize>, floor: &mut Vec<u8>) -> Verdict {
    let Some(end) = last_plus_end else {
        return Verdict::Never;
    };
    set(floor, &topic[..end], &[SLASH + 1]);
    Verdict::Seek
}

fn set(floor: &mut Vec<u8>, first: &[u8], second: &[u8]) {
    floor.clear();
    floor.extend_from_slice(first);
    floor.extend_from_slice(second);
}

/// `/` in ordered bytes.
const SLASH: u8 = 0;
/// `$` in ordered bytes.
const DOLLAR: u8 = b'$' + 1;

/// Makes `/` the lowest byte and moves those that were lower up by one.
fn ordered(topic: &[u8]) -> SmallVec<[u8; 64]> {
    topic
        .iter()
        .map(|byte| match byte {
            b'/' => SLASH,
            lower if *lower < b'/' => lower + 1,
            higher => *higher,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;
    use std::sync::Arc;

    use super::{Cursor, Kept, Pattern, Progress, Retained, Stored, SweepCursor, Verdict, ordered};
    use crate::codec::{Message, Moment, Qos, filter_matches};
    use crate::topic::HashKey;

    #[derive(Clone)]
    struct Note(Arc<(String, usize, u64)>);

    impl Kept for Note {
        fn topic(&self) -> &[u8] {
            self.0.0.as_bytes()
        }

        fn is_expired(&self, now: Moment) -> bool {
            now.as_millis() >= self.0.2
        }

        fn size(&self) -> usize {
            self.0.1
        }
    }

    fn at(milliseconds: u64) -> Moment {
        Moment::from_millis(milliseconds)
    }

    fn note(topic: &str) -> Note {
        expiring(topic, u64::MAX)
    }

    fn expiring(topic: &str, at: u64) -> Note {
        Note(Arc::new((topic.to_owned(), 100, at)))
    }

    fn store(topics: &[&str]) -> Retained<Note> {
        let retained = Retained::with_key(HashKey::fixed(1));
        for topic in topics {
            retained.set(note(topic));
        }
        retained
    }

    /// What a replay visits with this many entries in each step, sorted; and the number of steps.
    fn replay(retained: &Retained<Note>, filter: &str, entries_max: usize) -> (Vec<String>, usize) {
        let (mut cursor, mut found, mut steps) = (Cursor::new(filter.as_bytes()), Vec::new(), 1);
        while retained.step(&mut cursor, entries_max, at(0), &mut |note| {
            found.push(note.0.0.clone());
            ControlFlow::Continue(())
        }) == Progress::More
        {
            steps += 1;
        }
        found.sort_unstable();
        (found, steps)
    }

    #[test]
    fn a_topic_has_one_message_and_the_counters_are_exact() {
        let retained = store(&[]);
        assert!(retained.is_empty());
        assert_eq!(retained.set(note("a/b")), Stored::New);
        assert_eq!(retained.set(Note(Arc::new(("a/b".to_owned(), 30, 9)))), Stored::Replaced);
        assert_eq!((retained.len(), retained.bytes()), (1, 30));
        assert_eq!(retained.set(note("a")), Stored::New);
        assert_eq!((retained.len(), retained.bytes()), (2, 130));
        assert_eq!(retained.get(b"a/b").map(|note| note.0.2), Some(9));
        assert!(retained.clear(b"a/b"));
        assert!(!retained.clear(b"a/b"));
        assert!(retained.get(b"a/b").is_none());
        assert_eq!((retained.len(), retained.bytes()), (1, 100));
    }

    #[test]
    fn replays_find_what_matches() {
        let topics = [
            "a", "a/", "a/b", "a/b/c", "a!", "a!/b", "a/b!", "a/c", "a/c/c", "b", "b/b/c", "/", "/a", "//", "$SYS/a",
            "$SYS", "ab/b/c", "a/b/d", "a/-/c", "a/z/c", "%", "#x",
        ];
        let retained = store(&topics);
        for (filter, expected) in [
            ("a", vec!["a"]),
            ("nothing", vec![]),
            ("a/#", vec!["a", "a/", "a/-/c", "a/b", "a/b!", "a/b/c", "a/b/d", "a/c", "a/c/c", "a/z/c"]),
            ("a/+", vec!["a/", "a/b", "a/b!", "a/c"]),
            ("a/+/c", vec!["a/-/c", "a/b/c", "a/c/c", "a/z/c"]),
            ("+/b/c", vec!["a/b/c", "ab/b/c", "b/b/c"]),
            ("+/+/c", vec!["a/-/c", "a/b/c", "a/c/c", "a/z/c", "ab/b/c", "b/b/c"]),
            ("+", vec!["#x", "%", "a", "a!", "b"]),
            ("+/#", topics.into_iter().filter(|topic| !topic.starts_with('$')).collect()),
            ("#", topics.into_iter().filter(|topic| !topic.starts_with('$')).collect()),
            ("$SYS/#", vec!["$SYS", "$SYS/a"]),
            ("$SYS/+", vec!["$SYS/a"]),
            ("/+", vec!["/", "/a"]),
            ("/#", vec!["/", "//", "/a"]),
            ("+/", vec!["/", "a/"]),
            ("//", vec!["//"]),
            ("a/b/c/#", vec!["a/b/c"]),
            ("a/+/#", vec!["a/", "a/-/c", "a/b", "a/b!", "a/b/c", "a/b/d", "a/c", "a/c/c", "a/z/c"]),
        ] {
            let mut expected = expected;
            expected.sort_unstable();
            for entries_max in [1, 2, 7, 100, 10_000] {
                assert_eq!(replay(&retained, filter, entries_max).0, expected, "{filter} by {entries_max}");
            }
        }
        let mut cursor = Cursor::everything();
        let mut count = 0;
        let progress = retained.step(&mut cursor, 10_000, at(0), &mut |_| {
            count += 1;
            ControlFlow::Continue(())
        });
        assert_eq!((progress, count), (Progress::Done, topics.len()));
    }

    #[test]
    fn a_replay_stops_where_it_was_broken_off_and_begins_there_again() {
        let retained = store(&["a/1", "a/2", "a/3"]);
        for filter in ["a/#", "a/+", "a/2"] {
            let mut cursor = Cursor::new(filter.as_bytes());
            let (mut refused, mut accepted) = (Vec::new(), Vec::new());
            loop {
                let progress = retained.step(&mut cursor, 100, at(0), &mut |note| {
                    if refused.last() == Some(&note.0.0) {
                        accepted.push(note.0.0.clone());
                        ControlFlow::Continue(())
                    } else {
                        refused.push(note.0.0.clone());
                        ControlFlow::Break(())
                    }
                });
                if progress == Progress::Done {
                    break;
                }
            }
            assert_eq!(accepted, refused, "each was refused once and then visited again");
            assert_eq!(accepted.len(), if filter == "a/2" { 1 } else { 3 });
            assert_eq!(retained.step(&mut cursor, 100, at(0), &mut |_| panic!("done is done")), Progress::Done);
        }
    }

    #[test]
    fn expired_messages_are_skipped_and_swept() {
        let retained = store(&[]);
        for number in 0..1000 {
            retained.set(expiring(&format!("a/{number}"), if number % 2 == 0 { 10 } else { 20 }));
        }
        let count = |now| {
            let (mut cursor, mut count) = (Cursor::new(b"a/#"), 0);
            while retained.step(&mut cursor, 100, at(now), &mut |_| {
                count += 1;
                ControlFlow::Continue(())
            }) == Progress::More
            {}
            count
        };
        assert_eq!((count(9), count(10), count(20)), (1000, 500, 0));
        let mut literal = Cursor::new(b"a/0");
        assert_eq!(retained.step(&mut literal, 1, at(10), &mut |_| panic!("expired")), Progress::Done);
        assert!(retained.get(b"a/0").is_some(), "not swept yet");

        let mut cursor = SweepCursor::default();
        assert_eq!(retained.sweep(at(9), &mut cursor, 1000, &mut |_| ()), 0);
        let mut removed = 0;
        for _ in 0..10 {
            let now = retained.sweep(at(10), &mut cursor, 100, &mut |_| ());
            assert!(now <= 100);
            removed += now;
        }
        assert_eq!((removed, retained.len(), retained.bytes()), (500, 500, 50_000));
        assert_eq!((0..10).map(|_| retained.sweep(at(20), &mut cursor, 100, &mut |_| ())).sum::<usize>(), 500);
        assert!(retained.is_empty());
        assert_eq!(retained.sweep(at(20), &mut cursor, 100, &mut |_| ()), 0, "an empty store ends the sweep");
    }

    #[test]
    fn a_replay_skips_what_cannot_match() {
        let retained = store(&[]);
        for device in 0..10 {
            for sensor in 0..2000 {
                retained.set(note(&format!("device/{device}/sensor/{sensor}")));
            }
            retained.set(note(&format!("device/{device}/state")));
        }
        let (found, steps) = replay(&retained, "device/+/state", 256);
        assert_eq!(found.len(), 10);
        assert!(steps < 64, "{steps} steps of 256, where visiting all 20,010 entries would take 79");
        let (found, _) = replay(&retained, "device/3/+", 256);
        assert_eq!(found, ["device/3/state"]);
    }

    #[test]
    fn all_threads_may_use_it_at_once() {
        let retained = store(&[]);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let retained = &retained;
                scope.spawn(move || {
                    for round in 0..2000_u32 {
                        let topic = format!("t/{}", (round * 7 + thread * 3) % 50);
                        if round % 3 == thread % 3 {
                            retained.clear(topic.as_bytes());
                        } else {
                            retained.set(Note(Arc::new((topic, (round % 90) as usize, u64::MAX))));
                        }
                        if round % 100 == 0 {
                            replay(retained, "t/#", 16);
                        }
                    }
                });
            }
        });
        let (left, _) = replay(&retained, "#", 256);
        let bytes: usize = left.iter().filter_map(|topic| retained.get(topic.as_bytes())).map(|note| note.0.1).sum();
        assert_eq!((retained.len(), retained.bytes()), (left.len(), bytes));
    }

    #[test]
    fn messages_are_kept_as_they_are() {
        let retained = Retained::new();
        let message = Message::new("a/b", b"payload", Qos::AtLeastOnce, true, at(0));
        assert_eq!(retained.set(message.clone()), Stored::New);
        assert_eq!(retained.bytes(), message.size());
        assert!(retained.get(b"a/b").is_some_and(|kept| kept.is_same(&message)));
    }

    #[test]
    fn the_floor_leaves_nothing_out() {
        let all = |texts: &[&str]| -> Vec<String> {
            let mut topics: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
            let mut longer = topics.clone();
            for _ in 0..2 {
                longer =
                    longer.iter().flat_map(|topic| texts.iter().map(move |text| format!("{topic}/{text}"))).collect();
                topics.extend(longer.clone());
            }
            topics
        };
        let mut topics: Vec<_> =
            all(&["", "a", "$x", "%"]).iter().map(|topic| (ordered(topic.as_bytes()), topic.clone())).collect();
        topics.sort_unstable();
        for mut filter in all(&["", "a", "$x", "+"]) {
            for _ in 0..2 {
                let pattern = Pattern::of(filter.as_bytes());
                let matching: Vec<&[u8]> = topics
                    .iter()
                    .filter(|(_, topic)| filter_matches(filter.as_bytes(), topic.as_bytes()))
                    .map(|(ordered, _)| &**ordered)
                    .collect();
                for (ordered, topic) in &topics {
                    let mut floor = Vec::new();
                    let next = matching.iter().find(|matching| ***matching >= **ordered);
                    let matches = next == Some(&&**ordered);
                    match pattern.compare(ordered, &mut floor) {
                        Verdict::Match => assert!(matches, "{filter} {topic}"),
                        Verdict::No => assert!(!matches, "{filter} {topic}"),
                        Verdict::Never => assert_eq!(next, None, "{filter} {topic}"),
                        Verdict::Seek => {
                            assert!(*floor > **ordered, "{filter} {topic}");
                            assert!(next.is_none_or(|next| **next >= *floor), "{filter} {topic}");
                        }
                    }
                }
                filter.push_str("/#");
            }
        }
    }
}
