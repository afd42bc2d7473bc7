//! The compiled rules against a slow and obvious reading of the same rule files: random rules, names, topics and filters.
//! `SEED=… CASES=… cargo test --test access_model` repeats or extends a run.

#[path = "support/random.rs"]
#[allow(unreachable_pub, reason = "other test programs share it")]
mod random;

use random::{Random, from_environment};
use std::fmt::Write;
use waypost::access::{Access, Act, Coverage, Form, Identity, Reason, Rules, Source, Subscribing, Verdict};
use waypost::codec::Qos;

// The model

#[derive(Clone, Copy, Debug, PartialEq)]
enum Owner {
    Anonymous,
    User(&'static str),
    Everyone,
    /// A role that these users have, and whose first one is named by a group.
    Role(&'static [&'static str]),
}

#[derive(Clone, Debug)]
struct Rule {
    owner: Owner,
    deny: bool,
    publish: bool,
    receive: bool,
    filter: String,
    /// Whether `%c` and `%u` stand for names.
    pattern: bool,
}

#[derive(Clone, Copy)]
struct Who<'a> {
    user: Option<&'a str>,
    client: &'a str,
}

impl Rule {
    fn is_about(&self, who: Who<'_>, publish: bool, topic: &str) -> bool {
        (if publish { self.publish } else { self.receive }) && self.matches(who, topic)
    }

    fn matches(&self, who: Who<'_>, topic: &str) -> bool {
        let wildcard_first = self.filter.starts_with(['+', '#']) || self.pattern && self.filter.starts_with('%');
        if topic.starts_with('$') && wildcard_first {
            return false;
        }
        let levels: Vec<&str> = self.filter.split('/').collect();
        let topics: Vec<&str> = topic.split('/').collect();
        let mut at = 0;
        for level in &levels {
            if *level == "#" {
                return true;
            }
            let Some(wanted) = topics.get(at) else { return false };
            if *level != "+" && !self.level_matches(level, wanted, who) {
                return false;
            }
            at += 1;
        }
        at == topics.len()
    }

    /// In a grant, a name that is no level matches nothing; in a denial, it matches whatever stands from there on.
    fn level_matches(&self, level: &str, text: &str, who: Who<'_>) -> bool {
        if !self.pattern || !(level.contains("%c") || level.contains("%u")) {
            return level == text;
        }
        if level.contains("%u") && who.user.is_none() {
            return false;
        }
        let usable = |name: &str| !name.is_empty() && !name.contains(['/', '+', '#']);
        let mut wanted = String::new();
        let mut rest = level;
        while !rest.is_empty() {
            let name = match rest.get(..2) {
                Some("%c") => Some(who.client),
                Some("%u") => who.user,
                _ => None,
            };
            match name {
                Some(name) if usable(name) => wanted.push_str(name),
                Some(_) => return self.deny && text.starts_with(&wanted),
                None => {
                    wanted.push_str(&rest[..1]);
                    rest = &rest[1..];
                    continue;
                }
            }
            rest = &rest[2..];
        }
        wanted == text
    }
}

/// `None`: this file says nothing.
fn mosquitto_says(rules: &[Rule], who: Who<'_>, publish: bool, topic: &str) -> Option<bool> {
    let owner = who.user.map_or(Owner::Anonymous, |_| Owner::Everyone);
    let own = |rule: &&Rule| match rule.owner {
        Owner::User(name) => who.user == Some(name),
        Owner::Anonymous => owner == Owner::Anonymous,
        _ => false,
    };
    let judge = |rules: Vec<&Rule>| {
        let about: Vec<&Rule> = rules.into_iter().filter(|rule| rule.is_about(who, publish, topic)).collect();
        if about.is_empty() { None } else { Some(!about.iter().any(|rule| rule.deny)) }
    };
    if let Some(said) = judge(rules.iter().filter(own).collect()) {
        return Some(said);
    }
    let patterns: Vec<&Rule> = rules.iter().filter(|rule| rule.owner == Owner::Everyone).collect();
    let is_unsafe = |name: &str| name.contains(['+', '#']);
    if !patterns.is_empty() && (is_unsafe(who.client) || who.user.is_some_and(is_unsafe)) {
        return Some(false);
    }
    judge(patterns)
}

fn native_says(rules: &[Rule], who: Who<'_>, publish: bool, topic: &str) -> Option<bool> {
    let own = |rule: &&Rule| match rule.owner {
        Owner::User(name) => who.user == Some(name),
        Owner::Role(names) => who.user.is_some_and(|user| names.contains(&user)),
        Owner::Anonymous => who.user.is_none(),
        Owner::Everyone => true,
    };
    let about: Vec<&Rule> = rules.iter().filter(own).filter(|rule| rule.is_about(who, publish, topic)).collect();
    if about.is_empty() { None } else { Some(!about.iter().any(|rule| rule.deny)) }
}

struct Model {
    mosquitto: Option<Vec<Rule>>,
    native: Option<Vec<Rule>>,
}

impl Model {
    fn allows(&self, who: Who<'_>, publish: bool, topic: &str) -> bool {
        if publish && topic.starts_with('$') {
            return false;
        }
        let said = [
            self.mosquitto.as_ref().and_then(|rules| mosquitto_says(rules, who, publish, topic)),
            self.native.as_ref().and_then(|rules| native_says(rules, who, publish, topic)),
        ];
        !said.contains(&Some(false)) && said.contains(&Some(true))
    }
}

// Random rules, and their files

const NAMES: &[&str] = &["u", "v", "a"];

fn filter(random: &mut Random, placeholders: &[&'static str]) -> String {
    let mut filter = String::new();
    if random.below(8) == 0 {
        filter.push_str("$SYS/");
    }
    let depth = 1 + random.below(3);
    for number in 0..depth {
        if number > 0 {
            filter.push('/');
        }
        match random.below(10) {
            0..=3 => filter.push_str(random.pick(&["a", "b", "u", "c", ""])),
            4 | 5 => filter.push('+'),
            6 | 7 if !placeholders.is_empty() => filter.push_str(random.pick(placeholders)),
            8 if number + 1 == depth => filter.push('#'),
            _ => filter.push_str(random.pick(&["a", "b"])),
        }
    }
    if filter.is_empty() { "a".to_owned() } else { filter }
}

fn mosquitto(random: &mut Random) -> (Vec<Rule>, String) {
    let (mut rules, mut text) = (Vec::new(), String::new());
    let mut user = Owner::Anonymous;
    for _ in 0..random.below(8) {
        if random.below(4) == 0 {
            let name = NAMES[random.below(NAMES.len())];
            user = Owner::User(name);
            let _ = writeln!(text, "user {name}");
        }
        let pattern = random.below(3) == 0;
        let filter = filter(random, if pattern { &["%c", "%u", "a%c", "%u-%c", "%ub"] } else { &["%c"] });
        let (word, deny, publish, receive) = [
            ("read ", false, false, true),
            ("write ", false, true, false),
            ("readwrite ", false, true, true),
            ("deny ", true, true, true),
        ][random.below(4)];
        let _ = writeln!(text, "{} {word}{filter}", if pattern { "pattern" } else { "topic" });
        // A level of blanks or nothing at the end would be trimmed away.
        let owner = if pattern { Owner::Everyone } else { user };
        rules.push(Rule { owner, deny, publish, receive, filter, pattern });
    }
    (rules, text)
}

fn native(random: &mut Random) -> (Vec<Rule>, String) {
    let (mut rules, mut text) = (Vec::new(), String::new());
    let owners = [
        (Owner::Role(&["u", "v"]), "[role.r]"),
        (Owner::User("u"), "[user.u]\nroles = [\"r\"]"),
        (Owner::User("a"), "[user.a]"),
        (Owner::Role(&["v"]), "[group.g]\nusers = [\"v\"]\nroles = \"r\""),
        (Owner::Everyone, "[everyone]"),
        (Owner::Anonymous, "[anonymous]"),
    ];
    for (owner, header) in owners {
        let _ = writeln!(text, "{header}");
        for deny in [false, true] {
            let mut lines = String::new();
            for _ in 0..random.below(if deny { 2 } else { 3 }) {
                let filter = filter(random, &["%c", "%u"]);
                let (word, publish, receive) =
                    [("publish", true, false), ("subscribe", false, true), ("all", true, true)][random.below(3)];
                let _ = writeln!(lines, "    {{ {word} = \"{filter}\" }},");
                rules.push(Rule { owner, deny, publish, receive, filter, pattern: true });
            }
            let _ = writeln!(text, "{} = [\n{lines}]", if deny { "deny" } else { "allow" });
        }
    }
    (rules, text)
}

/// All topics of up to three of these levels.
fn topics() -> Vec<String> {
    let levels = ["a", "b", "u", "c", "", "ac", "$SYS"];
    let mut topics: Vec<String> = levels.iter().map(|level| (*level).to_owned()).collect();
    for depth in 0..2 {
        let longer: Vec<String> = topics
            .iter()
            .filter(|topic| topic.matches('/').count() == depth)
            .flat_map(|topic| levels[..6].iter().map(move |level| format!("{topic}/{level}")))
            .collect();
        topics.extend(longer);
    }
    topics.retain(|topic| !topic.is_empty());
    topics
}

fn act(publish: bool, topic: &str) -> Act<'_> {
    match publish {
        true => Act::Publish { topic: topic.as_bytes(), qos: Qos::AtMostOnce, retain: false },
        false => Act::Receive { topic: topic.as_bytes() },
    }
}

#[test]
fn compiled_rules_decide_as_the_obvious_reading_does() {
    let seed = from_environment("SEED", 1);
    let mut random = Random(seed);
    let topics = topics();
    for case in 0..from_environment("CASES", 120) {
        let mosquitto = (random.below(4) > 0).then(|| mosquitto(&mut random));
        let native = (mosquitto.is_none() || random.below(2) == 0).then(|| native(&mut random));
        let text = |file: &Option<(Vec<Rule>, String)>| file.as_ref().map(|(_, text)| text.clone());
        let texts = [("acl", text(&mosquitto)), ("acl.toml", text(&native))];
        let sources: Vec<Source<'_>> = texts
            .iter()
            .filter_map(|(name, text)| Some(Source { name, text: text.as_ref()?.as_bytes(), form: Form::of(name) }))
            .collect();
        let shown = || {
            format!(
                "SEED={seed}, case {case}\n{}",
                sources.iter().map(|s| String::from_utf8_lossy(s.text)).collect::<String>()
            )
        };
        let rules = Rules::read(&sources).unwrap_or_else(|faults| panic!("{}\n{faults}", shown()));
        let access = Access::with_rules(rules).subscribing(Subscribing::Overlap);
        let strict = access.clone().subscribing(Subscribing::Strict);
        let model = Model { mosquitto: mosquitto.map(|(rules, _)| rules), native: native.map(|(rules, _)| rules) };
        for _ in 0..3 {
            let user =
                [None, Some("u"), Some("v"), Some("a"), Some(""), Some("a/b"), Some("+"), Some("$SYS"), Some("other")]
                    [random.below(9)];
            let client = random.pick(&["c", "a", "b/a", "#", "b", "$SYS"]);
            let model_who = Who { user, client };
            let who = Identity { user_name: user.map(Into::into), client_id: client.into(), ..Identity::default() };
            let readable: Vec<bool> = topics.iter().map(|topic| model.allows(model_who, false, topic)).collect();
            for (topic, readable) in topics.iter().zip(&readable) {
                for publish in [false, true] {
                    let expected = if publish { model.allows(model_who, true, topic) } else { *readable };
                    let explanation = access.explain(&who, act(publish, topic));
                    let decided = access.decide(&who, act(publish, topic));
                    assert_eq!(
                        decided == Verdict::Allowed,
                        expected,
                        "{topic} {publish} {user:?} {client}: {explanation}\n{}",
                        shown()
                    );
                    assert_eq!(decided, explanation.verdict);
                    check_reason(&explanation, topic, publish);
                }
                // A topic is a filter without wildcards.
                let expected = if *readable { Coverage::Everything } else { Coverage::Nothing };
                assert_eq!(access.covers(&who, topic.as_bytes()), expected, "{topic} {user:?} {client}\n{}", shown());
            }
            for _ in 0..30 {
                let filter = filter(&mut random, &[]);
                let coverage = access.covers(&who, filter.as_bytes());
                let is_filter = Rule {
                    owner: Owner::Everyone,
                    deny: false,
                    publish: true,
                    receive: true,
                    filter: filter.clone(),
                    pattern: false,
                };
                for (topic, readable) in
                    topics.iter().zip(&readable).filter(|(topic, _)| is_filter.matches(model_who, topic))
                {
                    let contradiction = match coverage {
                        Coverage::Everything => !readable,
                        Coverage::Nothing => *readable,
                        Coverage::Part => false,
                    };
                    assert!(
                        !contradiction,
                        "{filter} is {coverage:?}, but {topic} is not: {user:?} {client}\n{}",
                        shown()
                    );
                }
                let subscribe = Act::Subscribe { filter: filter.as_bytes() };
                let granted = access.decide(&who, subscribe) == Verdict::Allowed;
                assert_eq!(granted, coverage != Coverage::Nothing, "{filter} {user:?} {client}\n{}", shown());
                assert!(granted || strict.decide(&who, subscribe) == Verdict::Denied, "strict grants no more");
                assert!(
                    coverage != Coverage::Everything || strict.decide(&who, subscribe) == Verdict::Allowed,
                    "{filter}\n{}",
                    shown()
                );
                assert_eq!(strict.explain(&who, subscribe).verdict, strict.decide(&who, subscribe));
            }
        }
    }
}

/// The rule that an explanation names does what the verdict says.
fn check_reason(explanation: &waypost::access::Explanation, topic: &str, publish: bool) {
    let Reason::Rule(place) = &explanation.reason else { return };
    let text = &place.text;
    match explanation.verdict {
        Verdict::Denied if &*place.file == "acl" => assert!(text.contains(" deny "), "{topic}: {text}"),
        Verdict::Allowed if &*place.file == "acl" => {
            assert!(!text.contains(" deny "), "{topic}: {text}");
            assert!(!text.contains(if publish { " read " } else { " write " }), "{topic}: {text}");
        }
        Verdict::Denied => assert!(!text.contains(if publish { "subscribe" } else { "publish" }), "{topic}: {text}"),
        Verdict::Allowed => assert!(!text.contains(if publish { "subscribe" } else { "publish" }), "{topic}: {text}"),
    }
}
