//! Rules as the model reads them: every rule is gone through for every question, and what a filter covers is found out by
//! trying topics. Nothing here is taken from `waypost::access`; the broker gets the same rules as text.

use crate::random::Random;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use waypost::access::{Access, Form, Rules, Source};

pub const USERS: &[&str] = &["alice", "bob", "carol", "dave"];
pub const TOPICS: &[&str] =
    &["a", "a/b", "a/b/c", "b", "b/x", "b/x/c", "dev/c0/x", "dev/c1/x", "users/alice", "users/bob", "open/1"];
pub const FILTERS: &[&str] = &[
    "#",
    "a/#",
    "a/+",
    "+",
    "b/#",
    "b/x",
    "+/x",
    "dev/+/x",
    "dev/c0/x",
    "a/b",
    "+/b/#",
    "users/alice",
    "w/#",
    "open/+",
];

/// Who asks: the name, if there is one, and the Client Identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Who {
    pub user: Option<&'static str>,
    pub client: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Whose {
    Nobody,
    User(&'static str),
    Everyone,
}

#[derive(Clone, Copy, Debug)]
struct Rule {
    whose: Whose,
    deny: bool,
    publish: bool,
    receive: bool,
    filter: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    Publish,
    Receive,
}

/// Client Identifiers that may be banned.
const CLIENTS: &[&str] = &["c0", "c1", "d0", "n0", "s0", "s2"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ban {
    User(&'static str),
    Client(&'static str),
}

/// All rules, in one of the two languages, and who is banned.
#[derive(Clone, Debug)]
pub struct Book {
    native: bool,
    rules: Vec<Rule>,
    bans: Vec<Ban>,
}

impl Book {
    pub fn new(random: &mut Random) -> Self {
        let mut book = Self { native: random.one_in(2), rules: Vec::new(), bans: Vec::new() };
        // Most may most, so that something happens.
        for user in USERS {
            if !random.one_in(5) {
                book.rules.push(Rule::all(Whose::User(user)));
            }
        }
        if random.one_in(2) {
            book.rules.push(Rule::all(Whose::Nobody));
        }
        for _ in 0..3 + random.below(6) {
            book.add(random);
        }
        if book.is_plain() { book } else { Self::new(random) }
    }

    /// The same with a rule more, a rule less, or both.
    pub fn changed(&self, random: &mut Random) -> Self {
        let mut book = self.clone();
        if !book.rules.is_empty() && !random.one_in(3) {
            book.rules.swap_remove(random.below(book.rules.len()));
        }
        if book.rules.len() < 14 && !random.one_in(3) {
            book.add(random);
        }
        let user = Whose::User(random.pick(USERS));
        if !random.one_in(3) && !book.rules.iter().any(|rule| rule.whose == user && rule.filter == "#") {
            book.rules.push(Rule::all(user));
        }
        if book.is_plain() { book } else { self.changed(random) }
    }

    /// The same with somebody banned, or with nobody: bans are short, so that something happens.
    pub fn with_other_bans(&self, random: &mut Random) -> Self {
        let mut bans = Vec::new();
        if self.bans.is_empty() || random.one_in(3) {
            bans.push(if random.one_in(2) { Ban::User(random.pick(USERS)) } else { Ban::Client(random.pick(CLIENTS)) });
        }
        Self { bans, ..self.clone() }
    }

    fn add(&mut self, random: &mut Random) {
        let own = ["dev/%c/x", "users/%u"];
        let is_own = random.one_in(5);
        let deny = random.one_in(3);
        let whose = match random.below(6) {
            _ if is_own => Whose::Everyone,
            0 => Whose::Nobody,
            1 => Whose::Everyone,
            _ => Whose::User(random.pick(USERS)),
        };
        let (publish, receive) = match random.below(3) {
            _ if deny && !self.native => (true, true),
            0 => (true, false),
            1 => (false, true),
            _ => (true, true),
        };
        let filter = match () {
            () if is_own => own[random.below(2)],
            // A denial is to be a hole, not all there is.
            () if deny => TOPICS[random.below(TOPICS.len())],
            () => FILTERS[random.below(FILTERS.len())],
        };
        self.rules.push(Rule { whose, deny, publish, receive, filter });
    }

    /// The broker's own reading of it.
    pub fn access(&self) -> Access {
        let (name, form) = if self.native { ("acl.toml", Form::Native) } else { ("acl.conf", Form::Mosquitto) };
        let (text, bans) = (self.text(), self.bans());
        let rules = Rules::read(&[
            Source { name, text: text.as_bytes(), form },
            Source { name: "bans.toml", text: bans.as_bytes(), form: Form::Native },
        ]);
        Access::with_rules(rules.unwrap_or_else(|faults| panic!("{faults}\n{text}\n{bans}")))
    }

    /// A file of ours with the bans and nothing else.
    pub fn bans(&self) -> String {
        let ban = |ban: &Ban| match ban {
            Ban::User(name) => format!("[[ban]]\nuser = \"{name}\"\n"),
            Ban::Client(id) => format!("[[ban]]\nclient_id = \"{id}\"\n"),
        };
        self.bans.iter().map(ban).collect()
    }

    pub fn is_native(&self) -> bool {
        self.native
    }

    pub fn text(&self) -> String {
        if self.native { self.native_text() } else { self.mosquitto_text() }
    }

    fn native_text(&self) -> String {
        let mut text = String::new();
        let sections: BTreeSet<Whose> = self.rules.iter().map(|rule| rule.whose).collect();
        for whose in sections {
            match whose {
                Whose::Nobody => text.push_str("[anonymous]\n"),
                Whose::Everyone => text.push_str("[everyone]\n"),
                Whose::User(name) => writeln!(text, "[user.{name}]").expect("a string takes it"),
            }
            for (deny, key) in [(false, "allow"), (true, "deny")] {
                let of_this = self.rules.iter().filter(|rule| rule.whose == whose && rule.deny == deny);
                let list: Vec<String> = of_this
                    .map(|rule| {
                        let right = match (rule.publish, rule.receive) {
                            (true, true) => "all",
                            (true, false) => "publish",
                            _ => "subscribe",
                        };
                        format!("{{ {right} = \"{}\" }}", rule.filter)
                    })
                    .collect();
                if !list.is_empty() {
                    writeln!(text, "{key} = [{}]", list.join(", ")).expect("a string takes it");
                }
            }
        }
        text
    }

    fn mosquitto_text(&self) -> String {
        let mut text = String::new();
        let mut sorted = self.rules.clone();
        sorted.sort_by_key(|rule| rule.whose); // nobody's rules first
        let mut user = None;
        for rule in sorted {
            if let Whose::User(name) = rule.whose
                && user != Some(name)
            {
                user = Some(name);
                writeln!(text, "user {name}").expect("a string takes it");
            }
            let word = if rule.whose == Whose::Everyone { "pattern" } else { "topic" };
            let right = match rule {
                Rule { deny: true, .. } => "deny",
                Rule { publish: true, receive: true, .. } => "readwrite",
                Rule { publish: true, .. } => "write",
                _ => "read",
            };
            writeln!(text, "{word} {right} {}", rule.filter).expect("a string takes it");
        }
        text
    }

    // --- what they mean -------------------------------------------------------------------------------------------

    pub fn is_banned(&self, who: Who) -> bool {
        self.bans.iter().any(|ban| match ban {
            Ban::User(name) => who.user == Some(name),
            Ban::Client(id) => who.client == *id,
        })
    }

    pub fn may(&self, who: Who, right: Right, topic: &str) -> bool {
        let about = |rule: &&Rule| {
            rule.is_about(who, right) && rule.filter_for(who).is_some_and(|filter| matches(&filter, topic))
        };
        let said = |rules: &mut dyn Iterator<Item = &Rule>| {
            let mut said = None;
            for rule in rules {
                said = Some(said.unwrap_or(true) && !rule.deny);
            }
            said
        };
        if self.native {
            return said(&mut self.rules.iter().filter(about)) == Some(true);
        }
        // A user's own list first; only what it says nothing about is left to the patterns.
        let own = said(&mut self.rules.iter().filter(about).filter(|rule| rule.whose != Whose::Everyone));
        let patterns = said(&mut self.rules.iter().filter(about).filter(|rule| rule.whose == Whose::Everyone));
        own.or(patterns) == Some(true)
    }

    /// Whether a SUBSCRIBE is granted: one rule must allow all of the filter, and no rule deny all of it.
    pub fn grants(&self, who: Who, filter: &str) -> bool {
        let covering = |deny: bool| {
            self.rules.iter().any(|rule| {
                rule.deny == deny
                    && rule.is_about(who, Right::Receive)
                    && rule.filter_for(who).is_some_and(|wide| covers(&wide, filter))
            })
        };
        covering(false) && if self.native { !covering(true) } else { self.leaves_something(who, filter) }
    }

    fn leaves_something(&self, who: Who, filter: &str) -> bool {
        let more =
            ["zz", "a/zz", "b/zz", "b/zz/zz", "a/b/zz", "dev/zz/x", "zz/x", "zz/b/zz", "w/zz", "open/zz", "zz/b"];
        TOPICS.iter().chain(&more).any(|topic| matches(filter, topic) && self.may(who, Right::Receive, topic))
    }

    /// Whether all of it can be told by looking at single rules. In mosquitto's lists a user's grant may stand before a
    /// pattern's denial; filters of which rules together leave nothing are not what this model is about.
    fn is_plain(&self) -> bool {
        if self.native {
            return true;
        }
        let users = USERS.iter().copied().map(Some).chain([None]);
        users.flat_map(|user| ["c0", "c1", "zz"].map(|client| Who { user, client })).all(|who| {
            FILTERS.iter().all(|filter| {
                let covered = self.rules.iter().any(|rule| {
                    !rule.deny
                        && rule.is_about(who, Right::Receive)
                        && rule.filter_for(who).is_some_and(|wide| covers(&wide, filter))
                });
                !covered || self.leaves_something(who, filter) || !filter.contains(['+', '#'])
            })
        })
    }
}

impl Rule {
    fn all(whose: Whose) -> Self {
        Self { whose, deny: false, publish: true, receive: true, filter: "#" }
    }

    fn is_about(&self, who: Who, right: Right) -> bool {
        let its = match self.whose {
            Whose::Nobody => who.user.is_none(),
            Whose::User(name) => who.user == Some(name),
            Whose::Everyone => true,
        };
        its && if right == Right::Publish { self.publish } else { self.receive }
    }

    fn filter_for(&self, who: Who) -> Option<String> {
        if self.filter.contains("%u") {
            return Some(self.filter.replace("%u", who.user?));
        }
        Some(self.filter.replace("%c", who.client))
    }
}

/// Whether a filter matches a topic. None of either begins with `$` here.
pub fn matches(filter: &str, topic: &str) -> bool {
    fn levels(filter: &[&str], topic: &[&str]) -> bool {
        match (filter, topic) {
            ([], []) | (["#"], _) => true,
            (["+", filter @ ..], [_, topic @ ..]) => levels(filter, topic),
            ([wanted, filter @ ..], [level, topic @ ..]) => wanted == level && levels(filter, topic),
            _ => false,
        }
    }
    let (filter, topic): (Vec<_>, Vec<_>) = (filter.split('/').collect(), topic.split('/').collect());
    levels(&filter, &topic)
}

thread_local! {
    static COVERS: RefCell<BTreeMap<(String, String), bool>> = const { RefCell::new(BTreeMap::new()) };
}

/// Whether each topic of a filter is one of `wide`, too: tried with all topics of the words of both and one word more.
fn covers(wide: &str, filter: &str) -> bool {
    let key = (wide.to_owned(), filter.to_owned());
    if let Some(known) = COVERS.with_borrow(|covers| covers.get(&key).copied()) {
        return known;
    }
    let words: BTreeSet<&str> =
        wide.split('/').chain(filter.split('/')).filter(|word| !["+", "#"].contains(word)).chain(["zz"]).collect();
    let mut topics: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    let mut last = topics.clone();
    for _ in 1..4 {
        last = last.iter().flat_map(|topic| words.iter().map(move |word| format!("{topic}/{word}"))).collect();
        topics.extend(last.iter().cloned());
    }
    let found = topics.iter().all(|topic| !matches(filter, topic) || matches(wide, topic));
    COVERS.with_borrow_mut(|covers| covers.insert(key, found));
    found
}
