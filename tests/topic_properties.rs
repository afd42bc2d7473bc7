//! What must hold for subscriptions, caches, retained messages and groups, whatever is done to them in whatever order.
//! Each property is checked against something too simple to be wrong, and never against a clock or a second thread.
//! A failure prints its seed: `SEED=… cargo test --test topic_properties` repeats it, `PROPTEST_CASES=…` tries more.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::ops::ControlFlow;
use std::rc::Rc;

use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any};
use proptest::prop_oneof;
use proptest::sample::select;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};
use waypost::codec::Moment;
use waypost::topic::{
    Cursor, Epochs, Group, Kept, MatchCache, NodeId, Progress, Queued, Retained, Stamps, Stored, SweepCursor,
    TopicTree, Waiting, WaitingLimits,
};

/// Tries the property on many inputs.
fn check<S: Strategy>(inputs: S, property: impl Fn(S::Value)) {
    let seed = match std::env::var("SEED") {
        Ok(seed) => seed.parse().expect("SEED is a number"),
        Err(_) => RandomState::new().hash_one(()),
    };
    let mut seed_bytes = [0; 32];
    seed_bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config { failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &seed_bytes));
    let outcome = runner.run(&inputs, |input| {
        property(input);
        Ok(())
    });
    match outcome {
        Ok(()) => {}
        Err(TestError::Fail(reason, input)) => {
            panic!("SEED={seed}: {reason}\nsmallest input: {input:#?}")
        }
        Err(TestError::Abort(reason)) => panic!("SEED={seed}: {reason}"),
    }
}

/// The rules of section 4.7, word for word [MQTT-4.7.2-1].
fn naive_match(filter: &str, topic: &str) -> bool {
    let (filter_levels, topic_levels): (Vec<&str>, Vec<&str>) =
        (filter.split('/').collect(), topic.split('/').collect());
    if topic.starts_with('$') && matches!(filter_levels[0], "+" | "#") {
        return false;
    }
    let (levels, multi) = match filter_levels.split_last() {
        Some((&"#", before)) => (before, true),
        _ => (&filter_levels[..], false),
    };
    let is_long_enough = if multi { topic_levels.len() >= levels.len() } else { topic_levels.len() == levels.len() };
    // A wildcard in the wrong place is text.
    is_long_enough && levels.iter().zip(topic_levels).all(|(level, text)| *level == "+" || *level == text)
}

fn topics() -> impl Strategy<Value = String> {
    vec(select(&["a", "b", "", "$x"][..]), 1..6).prop_map(|levels| levels.join("/"))
}

fn filters() -> impl Strategy<Value = String> {
    let level = || select(&["a", "a", "b", "b", "", "+", "+", "$x", "#"][..]);
    let well_formed = (vec(level(), 1..6), any::<bool>()).prop_map(|(mut levels, multi)| {
        levels.retain(|level| *level != "#");
        if multi || levels.is_empty() {
            levels.push("#");
        }
        levels.join("/")
    });
    prop_oneof![9 => well_formed, 1 => vec(level(), 1..6).prop_map(|levels| levels.join("/"))]
}

// ---- The tree --------------------------------------------------------------------------------------------------------

#[derive(Clone, Debug)]
enum TreeAction {
    Insert(String),
    Remove(String),
    Match(String),
}

fn tree_actions() -> impl Strategy<Value = Vec<TreeAction>> {
    let action = prop_oneof![
        3 => filters().prop_map(TreeAction::Insert),
        2 => filters().prop_map(TreeAction::Remove),
        3 => topics().prop_map(TreeAction::Match),
    ];
    vec(action, 0..200)
}

#[test]
fn the_tree_matches_like_a_list_of_filters() {
    check(tree_actions(), |actions| {
        let mut tree = TopicTree::new();
        let mut model: BTreeMap<String, (NodeId, usize)> = BTreeMap::new();
        for (number, action) in actions.into_iter().enumerate() {
            match action {
                TreeAction::Insert(filter) => {
                    let id = tree.insert_with(filter.as_bytes(), || number).0;
                    let expected = *model.entry(filter).or_insert((id, number));
                    assert_eq!((id, tree.get_by_id(id)), (expected.0, Some(&expected.1)));
                }
                TreeAction::Remove(filter) => {
                    assert_eq!(tree.remove(filter.as_bytes()), model.remove(&filter).map(|(_, value)| value));
                    assert_eq!(tree.get(filter.as_bytes()), None);
                }
                TreeAction::Match(topic) => {
                    let mut found = Vec::new();
                    tree.for_each_match(topic.as_bytes(), &mut |value| found.push(*value));
                    let matching = model.iter().filter(|(filter, _)| naive_match(filter, &topic));
                    let mut expected: Vec<usize> = matching.map(|(_, (_, value))| *value).collect();
                    found.sort_unstable();
                    expected.sort_unstable();
                    assert_eq!(found, expected, "{topic}");
                }
            }
            assert_eq!(tree.len(), model.len());
        }
        for (filter, (id, value)) in &model {
            assert_eq!(tree.get(filter.as_bytes()), Some(value));
            assert_eq!(tree.id_of(filter.as_bytes()), Some(*id));
            assert_eq!(tree.filter_of(*id), filter.as_bytes());
        }
        let all: BTreeMap<Vec<u8>, usize> = tree.iter().map(|(filter, value)| (filter, *value)).collect();
        let expected = model.iter().map(|(filter, (_, value))| (filter.clone().into_bytes(), *value));
        assert_eq!(all, expected.collect());
    });
}

#[test]
fn any_bytes_at_all_do_no_harm() {
    let inputs = vec((vec(select(&b"/+#$ab\0\xFF"[..]), 0..12), vec(any::<u8>(), 0..40)), 0..50);
    check(inputs, |pairs| {
        let mut tree = TopicTree::new();
        let mut inserted = BTreeSet::new();
        for (few, many) in &pairs {
            for bytes in [few, many] {
                let (id, _) = tree.insert_with(bytes, || bytes.clone());
                assert_eq!(tree.filter_of(id), *bytes);
                inserted.insert(bytes);
                tree.for_each_match(bytes, &mut |_| {});
            }
        }
        for bytes in inserted {
            assert_eq!(tree.remove(bytes).as_ref(), Some(bytes));
        }
        assert_eq!(tree.iter().count(), 0);
    });
}

// ---- The cache -------------------------------------------------------------------------------------------------------

#[derive(Clone, Debug)]
enum CacheAction {
    Subscribe(String),
    Unsubscribe(String),
    /// By one of two threads.
    Publish(bool, String),
    /// A search begins now; others act before its result is kept.
    BeginSearch(bool, String),
    EndSearch,
}

struct Search {
    second: bool,
    topic: String,
    stamps: Stamps,
    found: Rc<[usize]>,
}

#[test]
fn a_cached_match_is_what_the_tree_would_say() {
    let action = prop_oneof![
        2 => filters().prop_map(CacheAction::Subscribe),
        2 => filters().prop_map(CacheAction::Unsubscribe),
        6 => (any::<bool>(), topics()).prop_map(|(second, topic)| CacheAction::Publish(second, topic)),
        1 => (any::<bool>(), topics()).prop_map(|(second, topic)| CacheAction::BeginSearch(second, topic)),
        1 => Just(CacheAction::EndSearch),
    ];
    check(vec(action, 0..300), |actions| {
        let epochs = Epochs::new();
        let mut tree = TopicTree::new();
        let mut caches: [MatchCache<Rc<[usize]>>; 2] = [MatchCache::new(), MatchCache::new()];
        let mut searches: VecDeque<Search> = VecDeque::new();
        for (number, action) in actions.into_iter().enumerate() {
            match action {
                CacheAction::Subscribe(filter) => {
                    tree.insert_with(filter.as_bytes(), || number);
                    epochs.bump(filter.as_bytes());
                }
                CacheAction::Unsubscribe(filter) => {
                    if tree.remove(filter.as_bytes()).is_some() {
                        epochs.bump(filter.as_bytes());
                    }
                }
                CacheAction::Publish(second, topic) => {
                    let (cache, hash) = (&mut caches[usize::from(second)], epochs.hash(topic.as_bytes()));
                    let expected = search(&tree, &topic);
                    match cache.lookup(topic.as_bytes(), hash, &epochs) {
                        Some(found) => assert_eq!(*found, expected, "{topic}"),
                        None => {
                            let stamps = epochs.stamps(topic.as_bytes(), hash);
                            cache.insert(topic.as_bytes(), hash, stamps, expected);
                            assert!(cache.lookup(topic.as_bytes(), hash, &epochs).is_some(), "kept");
                        }
                    }
                }
                CacheAction::BeginSearch(second, topic) => {
                    let stamps = epochs.stamps(topic.as_bytes(), epochs.hash(topic.as_bytes()));
                    let found = search(&tree, &topic);
                    searches.push_back(Search { second, topic, stamps, found });
                }
                CacheAction::EndSearch => {
                    if let Some(Search { second, topic, stamps, found }) = searches.pop_front() {
                        let hash = epochs.hash(topic.as_bytes());
                        caches[usize::from(second)].insert(topic.as_bytes(), hash, stamps, found);
                    }
                }
            }
        }
    });
}

fn search(tree: &TopicTree<usize>, topic: &str) -> Rc<[usize]> {
    let mut found = Vec::new();
    tree.for_each_match(topic.as_bytes(), &mut |value| found.push(*value));
    found.sort_unstable();
    found.into()
}

// ---- Retained messages -----------------------------------------------------------------------------------------------

#[derive(Clone, Debug)]
struct Note {
    topic: String,
    number: usize,
    expires_at: usize,
}

impl Kept for Note {
    fn topic(&self) -> &[u8] {
        self.topic.as_bytes()
    }

    fn is_expired(&self, now: Moment) -> bool {
        now.as_millis() >= self.expires_at as u64
    }

    fn size(&self) -> usize {
        self.number
    }
}

#[derive(Clone, Debug)]
enum RetainedAction {
    /// The message expires after so many actions, if at all.
    Set(String, Option<usize>),
    Clear(String),
    /// So many entries; and whether the callback breaks off at the second message.
    Step(usize, bool),
    Sweep(usize),
}

#[test]
fn a_replay_visits_what_is_there_once_whatever_happens_meanwhile() {
    let expiry = prop_oneof![3 => Just(None), 1 => (1..60_usize).prop_map(Some)];
    let action = prop_oneof![
        3 => (topics(), expiry).prop_map(|(topic, expiry)| RetainedAction::Set(topic, expiry)),
        2 => topics().prop_map(RetainedAction::Clear),
        3 => (1..40_usize, any::<bool>()).prop_map(|(entries, breaks)| RetainedAction::Step(entries, breaks)),
        1 => (1..100_usize).prop_map(RetainedAction::Sweep),
    ];
    let inputs = (vec(topics(), 0..100), filters(), vec(action, 0..200));
    check(inputs, |(topics, filter, actions)| {
        let retained = Retained::new();
        let mut model: BTreeMap<String, Note> = BTreeMap::new();
        for (number, topic) in topics.into_iter().enumerate() {
            let note = Note { topic: topic.clone(), number, expires_at: usize::MAX };
            retained.set(note.clone());
            model.insert(topic, note);
        }
        let matching = model.keys().filter(|topic| naive_match(&filter, topic));
        let mut there_all_the_while: BTreeSet<String> = matching.cloned().collect();
        let (mut cursor, mut sweep) = (Cursor::new(filter.as_bytes()), SweepCursor::default());
        let mut visited: BTreeSet<String> = BTreeSet::new();
        let mut done = false;
        let the_rest = std::iter::repeat_n(RetainedAction::Step(1000, false), 3);
        for (now, action) in actions.into_iter().chain(the_rest).enumerate() {
            let moment = Moment::from_millis(now as u64);
            match action {
                RetainedAction::Set(topic, expiry) => {
                    let expires_at = expiry.map_or(usize::MAX, |after| now + after);
                    let note = Note { topic: topic.clone(), number: now, expires_at };
                    let stored = retained.set(note.clone());
                    let replaced = model.insert(topic, note).is_some();
                    assert_eq!(stored, if replaced { Stored::Replaced } else { Stored::New });
                }
                RetainedAction::Clear(topic) => {
                    assert_eq!(retained.clear(topic.as_bytes()), model.remove(&topic).is_some());
                    there_all_the_while.remove(&topic);
                }
                RetainedAction::Step(entries_max, breaks) => {
                    let mut room = if breaks { 1 } else { usize::MAX };
                    let progress = retained.step(&mut cursor, entries_max, moment, &mut |note| {
                        assert!(naive_match(&filter, &note.topic), "{} for {filter}", note.topic);
                        assert_eq!(model.get(&note.topic).map(|current| current.number), Some(note.number), "current");
                        assert!(now < note.expires_at);
                        if room == 0 {
                            return ControlFlow::Break(());
                        }
                        room -= 1;
                        assert!(visited.insert(note.topic.clone()), "{} twice", note.topic);
                        ControlFlow::Continue(())
                    });
                    assert!(!done || progress == Progress::Done);
                    done = progress == Progress::Done;
                }
                RetainedAction::Sweep(entries_max) => {
                    let removed = retained.sweep(moment, &mut sweep, entries_max, &mut |_| ());
                    let before = model.len();
                    model.retain(|topic, note| now < note.expires_at || retained.get(topic.as_bytes()).is_some());
                    assert_eq!(before - model.len(), removed);
                }
            }
            there_all_the_while.retain(|topic| model.get(topic).is_some_and(|note| now + 1 < note.expires_at));
            assert_eq!(retained.len(), model.len());
            assert_eq!(retained.bytes(), model.values().map(|note| note.number).sum::<usize>());
        }
        assert!(done, "3,000 entries are enough for 64 stripes and 300 topics");
        assert!(there_all_the_while.is_subset(&visited), "{there_all_the_while:?} but only {visited:?}");
        for (topic, note) in &model {
            assert_eq!(retained.get(topic.as_bytes()).map(|found| found.number), Some(note.number));
        }
    });
}

// ---- Shared subscriptions --------------------------------------------------------------------------------------------

#[derive(Clone, Debug)]
enum GroupAction {
    Join(u8, u32),
    Leave(u8),
    SetOnline(u8, bool),
    SetWindow(u8, u32),
    Settle(u8),
    Publish(u64),
}

#[derive(Default)]
struct Member {
    online: bool,
    window: u32,
    holds: VecDeque<Queued<usize>>,
}

#[test]
fn a_group_gives_each_message_to_one_who_can_take_it_and_keeps_none_back() {
    let action = prop_oneof![
        1 => (0..4_u8, 0..4_u32).prop_map(|(id, window)| GroupAction::Join(id, window)),
        1 => (0..4_u8).prop_map(GroupAction::Leave),
        2 => (0..4_u8, any::<bool>()).prop_map(|(id, online)| GroupAction::SetOnline(id, online)),
        1 => (0..4_u8, 0..4_u32).prop_map(|(id, window)| GroupAction::SetWindow(id, window)),
        4 => (0..4_u8).prop_map(GroupAction::Settle),
        6 => (0..5_u64).prop_map(GroupAction::Publish),
    ];
    let strategies = select(&["round_robin", "random", "sticky", "hash_client", "hash_topic", "least_in_flight"][..]);
    check((strategies, any::<u64>(), vec(action, 0..200)), |(strategy, seed, actions)| {
        let strategy = strategy.parse().expect("these are the names");
        let limits = WaitingLimits { messages_max: 20, bytes_max: 100 };
        let (mut group, mut queue) = (Group::new(strategy, seed), Waiting::new(limits));
        let mut members: BTreeMap<u8, Member> = BTreeMap::new();
        let (mut accepted, mut settled, mut waiting) = (0, 0, 0);
        for (number, action) in actions.into_iter().enumerate() {
            match action {
                GroupAction::Join(id, window) => {
                    assert_eq!(group.join(id, window), !members.contains_key(&id));
                    let member = members.entry(id).or_default();
                    (member.online, member.window) = (true, window);
                }
                GroupAction::Leave(id) => {
                    let member = members.remove(&id);
                    assert_eq!(group.leave(id), member.is_some());
                    let returned = member.map(|member| member.holds).unwrap_or_default();
                    let first = returned.front().map(|queued| queued.message);
                    waiting += returned.len();
                    queue.push_front(returned);
                    assert!(first.is_none_or(|first| { queue.front().is_some_and(|front| front.message == first) }));
                }
                GroupAction::SetOnline(id, online) => {
                    let is_member = members.get_mut(&id).map(|member| member.online = online).is_some();
                    assert_eq!(group.set_online(id, online), is_member);
                }
                GroupAction::SetWindow(id, window) => {
                    let is_member = members.get_mut(&id).map(|member| member.window = window).is_some();
                    assert_eq!(group.set_window(id, window), is_member);
                }
                GroupAction::Settle(id) => {
                    let held = members.get_mut(&id).and_then(|member| member.holds.pop_front());
                    settled += usize::from(held.is_some());
                    assert_eq!(group.settle(id), members.contains_key(&id));
                }
                GroupAction::Publish(hash) => {
                    let queued = Queued { message: number, size: 10, origin_hash: hash, topic_hash: hash };
                    if let Some(id) = queue.is_empty().then(|| group.offer(hash, hash)).flatten() {
                        accepted += 1;
                        give(&mut members, id, queued);
                    } else if queue.push_back(queued).is_ok() {
                        accepted += 1;
                        waiting += 1;
                    } else {
                        assert!(waiting >= 10, "100 bytes are 10 messages");
                    }
                }
            }
            while let Some((id, queued)) = queue.take_next(&mut group) {
                waiting -= 1;
                give(&mut members, id, queued);
            }
            let somebody_can = members.values().any(can_take);
            assert!(!somebody_can || waiting == 0, "nothing waits while somebody can take it");
            assert_eq!((queue.len(), queue.bytes(), group.len()), (waiting, waiting * 10, members.len()));
            for (id, member) in &members {
                assert_eq!(group.in_flight(*id).map(|count| count as usize), Some(member.holds.len()));
            }
            let held: usize = members.values().map(|member| member.holds.len()).sum();
            assert_eq!(accepted, settled + waiting + held, "none lost, none twice");
        }
    });
}

fn can_take(member: &Member) -> bool {
    member.online && member.holds.len() < member.window as usize
}

fn give(members: &mut BTreeMap<u8, Member>, id: u8, queued: Queued<usize>) {
    let member = members.get_mut(&id).expect("only members are chosen");
    assert!(can_take(member));
    member.holds.push_back(queued);
}
