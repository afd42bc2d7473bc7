//! Who may connect, publish, subscribe and receive: the one place that decides about rights.
//!
//! Every path asks [`Access::decide`]: CONNECT, the Will, each PUBLISH, each filter of a SUBSCRIBE, and each delivery at the moment
//! it is encoded, be it live, retained, queued or sent again. Without rules everything is allowed, with rules nothing that none of
//! them allows; Topics that begin with `$` are the broker's own and never published to. Text comes in and verdicts go out: no file
//! is opened here and nothing waits; logins that take time are futures that the doors await.
//! Whoever is banned stays outside, whatever the rules allow: [`Access::is_banned`]. Read `rules.rs` next (how rules add up), then `trie.rs` (how they are found), `mosquitto.rs` and `native.rs` (their two
//! languages), `explain.rs` (verdicts in words) and `login.rs` (who is coming).

mod ban;
mod explain;
mod fault;
mod filter;
mod login;
mod mosquitto;
mod native;
mod network;
pub mod password;
mod rules;
pub mod scram;
mod token;
mod trie;

pub use explain::{Explanation, Reason};
pub use fault::{Fault, Faults};
pub use login::{Anyone, Authenticator, Certificate, Exchange, Login, Pending, Step};
pub use network::Network;
pub use rules::{BanInWords, Concerned, Effect, Form, Place, RULES_SIZE_MAX, Rules, Source, Subject};
pub use token::{Grants, Token};

use crate::codec::{Moment, Qos};
use core::net::IpAddr;
use rules::{Because, PUBLISH, Question, RECEIVE, Said};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use trie::Relation;

/// What a Client has been recognised as. Rights are decided for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    pub user_name: Option<Box<str>>,
    /// The hall fills it in, whatever an authenticator says: rights are decided for the Client Identifier that is used.
    pub client_id: Arc<str>,
    /// The name of the listener; this and the address, the door fills in. `None`: not known.
    pub listener: Option<Arc<str>>,
    /// `None`: not known, or on this machine by way of a Unix socket.
    pub address: Option<IpAddr>,
    pub proof: Proof,
    /// What came with a token, for the few that bring one.
    pub token: Option<Box<Token>>,
}

/// How somebody has shown to be who it says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Proof {
    /// Not at all: the name is believed.
    #[default]
    None,
    /// By a password; the mark stands for it, and another password has another one.
    Password(u64),
    /// By something that cannot be looked up again: a certificate, a token, the word of a server.
    Shown,
}

impl Identity {
    /// Somebody whose name nobody has checked.
    pub fn believed(user_name: Option<Box<str>>) -> Self {
        Self { user_name, ..Self::default() }
    }

    /// Somebody who has shown who it is.
    pub fn proven(user_name: &str, proof: Proof) -> Self {
        Self { user_name: Some(user_name.into()), proof, ..Self::default() }
    }

    /// The user name, if it has shown that it is its own.
    pub fn proven_name(&self) -> Option<&str> {
        self.user_name.as_deref().filter(|_| self.proof != Proof::None)
    }

    /// When it stops being recognised.
    pub fn expires_at(&self) -> Option<Moment> {
        self.token.as_ref()?.expires_at
    }

    fn grants(&self) -> Option<&Grants> {
        self.token.as_ref()?.grants.as_ref()
    }
}

/// Something that an identity wants to do.
#[derive(Clone, Copy, Debug)]
pub enum Act<'a> {
    Publish {
        topic: &'a [u8],
        qos: Qos,
        retain: bool,
    },
    /// `filter` is without `$share/` and the share name.
    Subscribe {
        filter: &'a [u8],
    },
    Receive {
        topic: &'a [u8],
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Allowed,
    Denied,
}

/// How many of the topics that a filter matches may be received.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Coverage {
    /// None of them.
    Nothing,
    /// Some of them, or perhaps none or all: each has to be asked about.
    Part,
    /// All of them.
    Everything,
}

/// When a SUBSCRIBE is granted. Whatever is granted, each Message is judged again when it is delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Subscribing {
    /// When one rule allows all topics of the filter; denials may cut holes into it.
    #[default]
    Strict,
    /// When some topic of the filter may be received.
    Overlap,
    /// Always, as mosquitto does.
    Lenient,
}

/// The rights in force. A change makes a new one.
#[derive(Clone)]
pub struct Access {
    version: u64,
    /// Of all listeners that have none of their own.
    rules: Option<Rules>,
    /// By the name of the listener; few have any. `None`: there everything is allowed.
    of_listeners: Box<[(Box<str>, Option<Rules>)]>,
    subscribing: Subscribing,
    accounts: Option<Arc<dyn Accounts>>,
    /// What the time was, in milliseconds since 1970, when the hall's began; bans end by it.
    began_unix_ms: u64,
}

/// Who still has an account.
pub trait Accounts: Send + Sync {
    /// Whether somebody who was recognised would be recognised now. Answers at once.
    fn knows(&self, who: &Identity) -> bool;

    /// Whether two who have both proved their user names are the same user. Answers at once.
    fn are_one(&self, one: &Identity, other: &Identity) -> bool {
        one.user_name == other.user_name
    }
}

impl Default for Access {
    fn default() -> Self {
        Self::allow_all()
    }
}

/// What settled a decision.
#[derive(Clone, Copy, Debug)]
enum Cause<'a> {
    NoRules,
    TopicOfTheBroker,
    Because(Because),
    NoRule,
    Token(&'a str),
    NotInToken,
    OnlyPart(Because),
    Lenient,
}

impl Access {
    /// Without rules: everything is allowed, but to publish to `$` topics.
    pub fn allow_all() -> Self {
        Self {
            version: next_version(),
            rules: None,
            of_listeners: Box::default(),
            subscribing: Subscribing::default(),
            accounts: None,
            began_unix_ms: 0,
        }
    }

    /// With rules, and be they none: what no rule allows is denied.
    pub fn with_rules(rules: Rules) -> Self {
        Self { rules: Some(rules), ..Self::allow_all() }
    }

    /// Whoever comes through this listener is judged by these rules and no others; `None`: may do everything.
    pub fn at_listener(self, name: &str, rules: Option<Rules>) -> Self {
        let others = self.of_listeners.into_iter().filter(|(other, _)| **other != *name);
        let of_listeners = others.chain([(name.into(), rules)]).collect();
        Self { version: next_version(), of_listeners, ..self }
    }

    pub fn subscribing(self, subscribing: Subscribing) -> Self {
        Self { version: next_version(), subscribing, ..self }
    }

    /// Those who have no account any more are not known. Without this everybody is.
    pub fn with_accounts(self, accounts: Arc<dyn Accounts>) -> Self {
        Self { version: next_version(), accounts: Some(accounts), ..self }
    }

    /// Whether somebody is still who it was recognised as.
    pub fn knows(&self, who: &Identity) -> bool {
        self.accounts.as_ref().is_none_or(|accounts| accounts.knows(who))
    }

    /// What time it is, in milliseconds since 1970, at this moment of the hall. Bans end by it. Without this it is 1970.
    pub fn at_time(self, now: Moment, unix_ms: u64) -> Self {
        Self { began_unix_ms: unix_ms.saturating_sub(now.as_millis()), ..self }
    }

    /// Whether somebody is banned. A ban of the general rules holds at all listeners, one of a listener's own rules there.
    pub fn is_banned(&self, who: &Identity, now: Moment) -> bool {
        self.ban_of(who, now).is_some()
    }

    /// The ban that somebody is under.
    pub fn banned(&self, who: &Identity, now: Moment) -> Option<BanInWords> {
        self.ban_of(who, now).map(|(rules, ban)| rules.ban_in_words(ban))
    }

    fn ban_of(&self, who: &Identity, now: Moment) -> Option<(&Rules, &ban::Ban)> {
        let unix_ms = self.began_unix_ms.saturating_add(now.as_millis());
        let sets = [self.rules.as_ref(), self.rules_for(who)];
        sets.into_iter().flatten().find_map(|rules| Some((rules, rules.ban_of(who, unix_ms)?)))
    }

    /// Whether two who have both proved their user names are the same user.
    pub fn are_one(&self, one: &Identity, other: &Identity) -> bool {
        match &self.accounts {
            Some(accounts) => accounts.are_one(one, other),
            None => one.user_name == other.user_name,
        }
    }

    /// Whether this one may receive everything and publish everything that does not begin with `$`.
    #[inline]
    pub fn is_open_to(&self, who: &Identity) -> bool {
        self.rules_for(who).is_none() && who.grants().is_none()
    }

    /// The rules that somebody is judged by.
    #[inline]
    fn rules_for(&self, who: &Identity) -> Option<&Rules> {
        if self.of_listeners.is_empty() { self.rules.as_ref() } else { self.rules_by_listener(who) }
    }

    #[cold]
    #[inline(never)]
    fn rules_by_listener(&self, who: &Identity) -> Option<&Rules> {
        self.rules_at(who.listener.as_deref())
    }

    /// The rules of a listener: its own, or else those of all. `None`: there are none, and everything is allowed.
    pub fn rules_at(&self, listener: Option<&str>) -> Option<&Rules> {
        let own = |name: &str| self.of_listeners.iter().find(|(listener, _)| **listener == *name);
        match listener.and_then(own) {
            Some((_, rules)) => rules.as_ref(),
            None => self.rules.as_ref(),
        }
    }

    /// Each set of rules, with the listener whose own it is.
    pub fn rules(&self) -> impl Iterator<Item = (Option<&str>, &Rules)> {
        let own = self.of_listeners.iter().filter_map(|(name, rules)| Some((Some(&**name), rules.as_ref()?)));
        self.rules.iter().map(|rules| (None, rules)).chain(own)
    }

    /// Each value has its own, also across reloads, so that decisions that somebody keeps can be told to be stale.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Decides about one act. Cheap, and allocates nothing: it is called for each Message and receiver.
    #[inline]
    pub fn decide(&self, who: &Identity, act: Act<'_>) -> Verdict {
        self.decide_at_once(who, act).unwrap_or_else(|| self.judge(who, act).0)
    }

    /// How much of what a filter matches may be received. `Everything` and `Nothing` hold for each topic that the filter
    /// matches, until the rights change; for a filter without wildcards there is no `Part`.
    pub fn covers(&self, who: &Identity, filter: &[u8]) -> Coverage {
        self.survey(who, filter).kept.0
    }

    /// The same decision with its reason.
    pub fn explain(&self, who: &Identity, act: Act<'_>) -> Explanation {
        let (verdict, cause) = self.judge(who, act);
        let reason = match (cause, self.rules_for(who)) {
            (Cause::NoRule, Some(rules)) => nearest_miss(rules, who, act),
            (_, rules) => reason(rules, cause),
        };
        Explanation { verdict, reason }
    }

    /// Most messages in a second that the rules allow of this act; `None` where nothing bounds them. Only what is
    /// published and allowed has such a bound.
    pub fn rate(&self, who: &Identity, act: Act<'_>) -> Option<u32> {
        match (self.rules_for(who), who.grants(), act) {
            (Some(rules), None, Act::Publish { topic, qos, retain }) => {
                rules.rate(&about_publishing(who, topic, qos, retain))
            }
            _ => None,
        }
    }

    /// All rules of a listener about a topic, whoever they are for, in the order of the files. `topic` is a topic, not a filter.
    pub fn who(&self, listener: Option<&str>, topic: &[u8]) -> Vec<Concerned> {
        self.rules_at(listener).map(|rules| rules.about(topic)).unwrap_or_default()
    }

    /// The verdict where no rule has to be looked at.
    #[inline]
    pub fn decide_at_once(&self, who: &Identity, act: Act<'_>) -> Option<Verdict> {
        match act {
            // A Client's message must never look like one of the broker's (forged `$SYS`, `$share`, `$CONTROL`).
            Act::Publish { topic: [b'$', ..], .. } => Some(Verdict::Denied),
            _ => self.is_open_to(who).then_some(Verdict::Allowed),
        }
    }

    /// The one way to a verdict.
    fn judge<'a>(&'a self, who: &'a Identity, act: Act<'a>) -> (Verdict, Cause<'a>) {
        match act {
            _ if let Some(verdict) = self.decide_at_once(who, act) => match verdict {
                Verdict::Denied => (verdict, Cause::TopicOfTheBroker),
                Verdict::Allowed => (verdict, Cause::NoRules),
            },
            Act::Publish { topic, qos, retain } => {
                judge_topic(self.rules_for(who), &about_publishing(who, topic, qos, retain))
            }
            Act::Receive { topic } => judge_topic(self.rules_for(who), &about_receiving(who, topic)),
            Act::Subscribe { .. } if self.subscribing == Subscribing::Lenient => (Verdict::Allowed, Cause::Lenient),
            Act::Subscribe { filter } => self.judge_filter(who, filter),
        }
    }

    fn judge_filter<'a>(&'a self, who: &'a Identity, filter: &'a [u8]) -> (Verdict, Cause<'a>) {
        let Survey { granted, kept, denied } = self.survey(who, filter);
        match (kept.0, granted.0) {
            (Coverage::Nothing, Coverage::Nothing) => (Verdict::Denied, granted.1),
            (Coverage::Nothing, _) => (Verdict::Denied, denied.map_or(granted.1, Cause::Because)),
            (_, Coverage::Part) if self.subscribing == Subscribing::Strict => match granted.1 {
                Cause::Because(because) => (Verdict::Denied, Cause::OnlyPart(because)),
                other => (Verdict::Denied, other),
            },
            _ => (Verdict::Allowed, granted.1),
        }
    }

    /// What is granted of a filter, and what of that is kept when denials are taken off.
    fn survey<'a>(&'a self, who: &'a Identity, filter: &'a [u8]) -> Survey<'a> {
        let question = about_receiving(who, filter);
        let shares = self.rules_for(who).map(|rules| rules.shares(&question));
        let denied = shares.map_or(rules::Share::NOTHING, |shares| shares.denied);
        let (granted, kept) = match (shares, who.grants()) {
            (_, Some(grants)) => {
                let (coverage, filter) = grants.share(&question);
                let granted = (coverage, filter.map_or(Cause::NotInToken, Cause::Token));
                (granted, granted)
            }
            (None, None) => {
                let granted = (Coverage::Everything, Cause::NoRules);
                (granted, granted)
            }
            (Some(shares), None) => {
                let with_cause =
                    |share: rules::Share| (share.coverage, share.because.map_or(Cause::NoRule, Cause::Because));
                (with_cause(shares.granted), with_cause(shares.kept))
            }
        };
        let kept = (rules::Share { coverage: kept.0, because: None }.without(denied).coverage, kept.1);
        Survey { granted, kept, denied: denied.because }
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { version, rules, of_listeners, subscribing, accounts: _, began_unix_ms: _ } = self;
        write!(out, "Access({version}, {rules:?}, {of_listeners:?}, {subscribing:?})")
    }
}

/// What is known about a filter.
struct Survey<'a> {
    granted: (Coverage, Cause<'a>),
    kept: (Coverage, Cause<'a>),
    denied: Option<Because>,
}

fn next_version() -> u64 {
    static VERSIONS: AtomicU64 = AtomicU64::new(1);
    VERSIONS.fetch_add(1, Ordering::Relaxed)
}

fn judge_topic<'a>(rules: Option<&Rules>, question: &Question<'a>) -> (Verdict, Cause<'a>) {
    let said = match rules {
        Some(rules) => rules.say(question),
        None => Said::Nothing,
    };
    match (said, question.who.grants()) {
        (Said::No(because), _) => (Verdict::Denied, Cause::Because(because)),
        (_, Some(grants)) => match grants.find(question) {
            Some(filter) => (Verdict::Allowed, Cause::Token(filter)),
            None => (Verdict::Denied, Cause::NotInToken),
        },
        (Said::Yes(rule), None) => (Verdict::Allowed, Cause::Because(Because::Rule(rule))),
        (Said::Nothing, None) => (Verdict::Denied, Cause::NoRule),
    }
}

/// What settled a decision by these rules, in words.
fn reason(rules: Option<&Rules>, cause: Cause<'_>) -> Reason {
    let place = |because| match (because, rules) {
        (Because::Rule(rule), Some(rules)) => rules.place(rule).map_or(Reason::NoRule, Reason::Rule),
        (Because::UnsafeName(file), Some(rules)) => Reason::UnsafeName(rules.file_name(file).into()),
        (_, None) => Reason::NoRules,
    };
    match cause {
        Cause::NoRules => Reason::NoRules,
        Cause::TopicOfTheBroker => Reason::TopicOfTheBroker,
        Cause::Because(because) => place(because),
        Cause::NoRule => Reason::NoRule,
        Cause::Token(filter) => Reason::Token(filter.into()),
        Cause::NotInToken => Reason::NotInToken,
        Cause::OnlyPart(because) => match place(because) {
            Reason::Rule(place) => Reason::OnlyPart(place),
            other => other,
        },
        Cause::Lenient => Reason::Lenient,
    }
}

/// Why nothing allows it: perhaps a rule is there, but its conditions are not met.
fn nearest_miss(rules: &Rules, who: &Identity, act: Act<'_>) -> Reason {
    let question = match act {
        Act::Publish { topic, qos, retain } => about_publishing(who, topic, qos, retain),
        Act::Receive { topic } => about_receiving(who, topic),
        Act::Subscribe { filter } => Question { relation: Relation::Overlaps, ..about_receiving(who, filter) },
    };
    let miss = rules.would_allow(&question).and_then(|rule| rules.place(rule));
    miss.map_or(Reason::NoRule, Reason::OnlyUnderConditions)
}

fn about_publishing<'a>(who: &'a Identity, topic: &'a [u8], qos: Qos, retain: bool) -> Question<'a> {
    Question { who, relation: Relation::Matches, text: topic, rights: PUBLISH, publish: Some((qos, retain)) }
}

fn about_receiving<'a>(who: &'a Identity, text: &'a [u8]) -> Question<'a> {
    Question { who, relation: Relation::Matches, text, rights: RECEIVE, publish: None }
}

#[cfg(test)]
mod tests {
    use super::{Access, Act, Coverage, Form, Grants, Identity, Rules, Source, Subscribing, Token, Verdict};
    use crate::codec::{Moment, Qos};

    fn rules(name: &str, text: &str) -> Rules {
        match Rules::read(&[Source { name, text: text.as_bytes(), form: Form::of(name) }]) {
            Ok(rules) => rules,
            Err(faults) => panic!("{faults}"),
        }
    }

    fn faults(name: &str, text: &[u8]) -> String {
        match Rules::read(&[Source { name, text, form: Form::of(name) }]) {
            Ok(_) => String::new(),
            Err(faults) => faults.to_string(),
        }
    }

    fn user(name: &str, client_id: &str) -> Identity {
        let user_name = if name == "-" { None } else { Some(name.into()) };
        Identity { user_name, client_id: client_id.into(), ..Identity::default() }
    }

    /// Asks with a word for each act: `pub`, `sub` or `recv`, and `+` for allowed or `-` for denied.
    struct Asking {
        access: Access,
        who: Identity,
    }

    impl Asking {
        fn of(access: &Access, who: Identity) -> Self {
            Self { access: access.clone(), who }
        }

        fn gives(self, expected: &[&str]) -> Self {
            for line in expected {
                let (sign, rest) = line.split_at(1);
                let (verb, text) = rest.split_once(' ').expect("a verb and a topic");
                let text = text.as_bytes();
                let act = match verb {
                    "pub" => Act::Publish { topic: text, qos: Qos::AtMostOnce, retain: false },
                    "sub" => Act::Subscribe { filter: text },
                    "recv" => Act::Receive { topic: text },
                    _ => panic!("{line}"),
                };
                let expected = if sign == "+" { Verdict::Allowed } else { Verdict::Denied };
                let explained = self.access.explain(&self.who, act);
                assert_eq!(self.access.decide(&self.who, act), expected, "{line} as {:?}: {explained}", self.who);
                assert_eq!(explained.verdict, expected);
            }
            self
        }

        fn covers(self, expected: &[(&str, Coverage)]) -> Self {
            for (filter, coverage) in expected {
                assert_eq!(self.access.covers(&self.who, filter.as_bytes()), *coverage, "{filter}");
            }
            self
        }

        fn because(self, act: Act<'_>, expected: &str) -> Self {
            assert_eq!(self.access.explain(&self.who, act).to_string(), expected);
            self
        }
    }

    /// The users that the catalogue of bad inputs is about.
    const USERS: &str = "\
user alice
topic readwrite a/#
topic read pub/#
user bob
topic readwrite b/#
topic read pub/#
pattern write dev/%c/#
";

    #[test]
    fn j01_j04_a_subscription_wider_than_allowed_is_refused() {
        let access = Access::with_rules(rules("acl", USERS));
        let wide = [
            "-sub #",
            "-sub +/#",
            "-sub +/x",
            "-sub b/#",
            "-sub b/x",
            "+sub pub/#",
            "+sub a/+/#",
            "+sub a",
            "-sub $SYS/#",
        ];
        Asking::of(&access, user("alice", "c1"))
            .gives(&wide)
            .gives(&[
                "+recv a/b",
                "+recv a",
                "-recv b/x",
                "+pub a/b",
                "-pub pub/x",
                "+pub dev/c1/x",
                "-pub dev/c2/x",
                "-recv dev/c1/x",
            ])
            .covers(&[
                ("#", Coverage::Part),
                ("a/#", Coverage::Everything),
                ("b/#", Coverage::Nothing),
                ("+/x", Coverage::Part),
            ]);
        Asking::of(&access, user("mallory", "m")).gives(&["-sub #", "-recv a/b", "-pub a/b", "+pub dev/m/x"]);
        Asking::of(&access.clone().subscribing(Subscribing::Overlap), user("alice", "c1"))
            .gives(&["+sub #", "+sub +/x", "-sub b/#"]);
        Asking::of(&access.subscribing(Subscribing::Lenient), user("alice", "c1")).gives(&[
            "+sub #",
            "+sub b/#",
            "-recv b/x",
        ]);
    }

    #[test]
    fn j02_a_denial_is_a_hole_in_a_grant() {
        for access in [
            Access::with_rules(rules("acl", "user u\ntopic read #\ntopic deny secret/#\ntopic read $SYS/#\n")),
            Access::with_rules(rules(
                "acl.toml",
                "[user.u]\nallow = { subscribe = [\"#\", \"$SYS/#\"] }\ndeny = { all = \"secret/#\" }",
            )),
        ] {
            Asking::of(&access, user("u", "c"))
                .gives(&[
                    "+sub #",
                    "-recv secret/x",
                    "-recv secret",
                    "+recv x",
                    "-sub secret/+",
                    "-sub secret",
                    "+sub $SYS/#",
                    "-pub x",
                ])
                .covers(&[
                    ("#", Coverage::Part),
                    ("a/#", Coverage::Everything),
                    ("secret/#", Coverage::Nothing),
                    ("$SYS/#", Coverage::Everything),
                ]);
        }
    }

    #[test]
    fn j06_names_never_widen_a_right() {
        let file = "pattern readwrite dev/%c/#\npattern readwrite home/%u/x\npattern readwrite mid/a-%u-b/+\npattern readwrite %u/top\n";
        let access = Access::with_rules(rules("acl", file));
        Asking::of(&access, user("ann", "c1")).gives(&[
            "+recv dev/c1/x",
            "+recv home/ann/x",
            "+recv mid/a-ann-b/y",
            "-recv mid/a-bob-b/y",
            "-recv dev/c2/x",
        ]);
        for name in ["+", "#", "a/b", "", "a/#", "$SYS"] {
            Asking::of(&access, user(name, "c1")).gives(&[
                "-recv home/ann/x",
                "-recv home/a/b/x",
                "-recv home//x",
                "-recv $SYS/top",
                "-recv mid/a--b/y",
            ]);
            Asking::of(&access, user("ann", name)).gives(&["-recv dev/c1/x", "-recv dev/a/b/x", "-recv dev//x"]);
        }
        Asking::of(&access, user("%u", "%c")).gives(&["+recv home/%u/x", "-recv home/ann/x", "+recv dev/%c/x"]);
        Asking::of(&access, user(".*", "^")).gives(&["+recv home/.*/x", "-recv home/ann/x"]);
        Asking::of(&access, user("-", "c1")).gives(&["+recv dev/c1/x", "-recv home//x", "-recv home/ann/x"]);
    }

    #[test]
    fn a_denial_with_an_unusable_name_is_about_every_name() {
        for (name, text) in [
            ("acl", "pattern readwrite #\npattern deny home/%u/x\n"),
            ("acl.toml", "[everyone]\nallow = { all = \"#\" }\ndeny = { all = \"home/%u/x\" }"),
        ] {
            let access = Access::with_rules(rules(name, text));
            Asking::of(&access, user("ann", "c")).gives(&["-recv home/ann/x", "+recv home/bob/x"]);
            for user_name in ["", "a/b"] {
                Asking::of(&access, user(user_name, "c")).gives(&[
                    "-recv home/ann/x",
                    "-recv home//x",
                    "+recv other",
                    "-sub home/+/x",
                ]);
            }
            Asking::of(&access, user("-", "c")).gives(&["+recv home/ann/x"]);
        }
    }

    #[test]
    fn j07_empty_rules_deny_all() {
        for (name, text) in
            [("acl", ""), ("acl", "# nothing\n\r\n"), ("acl.toml", ""), ("acl.toml", "# nothing\n[everyone]\n")]
        {
            let access = Access::with_rules(rules(name, text));
            Asking::of(&access, user("u", "c")).gives(&["-pub a", "-sub #", "-recv a"]);
        }
        Asking::of(&Access::allow_all(), user("u", "c")).gives(&["+pub a", "+sub #", "+recv $SYS/x", "-pub $SYS/x"]);
    }

    #[test]
    fn mosquitto_lists_of_users_come_before_patterns() {
        let access = Access::with_rules(rules(
            "acl",
            "topic read anon/#\nuser u\ntopic read x/1\ntopic deny x/2\ntopic x/#\npattern deny x/1\npattern read x/2\npattern read y\nuser v\ntopic write z\nuser u\ntopic deny x/3\n",
        ));
        Asking::of(&access, user("u", "c")).gives(&[
            "+recv x/1",
            "-recv x/2",
            "-recv x/3",
            "+pub x/4",
            "+recv y",
            "-recv anon/a",
        ]);
        Asking::of(&access, user("-", "c")).gives(&["+recv anon/a", "+recv y", "-recv x/1", "+recv x/2"]);
        Asking::of(&access, user("other", "c")).gives(&["-recv anon/a", "+recv y"]);
        Asking::of(&access, user("v+", "c")).gives(&["-recv y"]);
        Asking::of(&access, user("v", "c#")).gives(&["-recv y", "+pub z"]);
    }

    #[test]
    fn mosquitto_files_are_read_as_mosquitto_reads_them() {
        let text = "\u{feff}# bom\r\n  topic  read   with space/and\ttab \t\r\ntopic read\r\nuser  Dr. No  \r\ntopic a/#\n\ttab\n";
        assert_eq!(
            faults("acl", text.as_bytes()),
            "acl:6: unknown word \"\\ttab\"; a line begins with topic, user, pattern or #"
        );
        let text = text.replace("\ttab\n", "");
        let access = Access::with_rules(rules("acl", &text));
        Asking::of(&access, user("-", "c")).gives(&["+recv with space/and\ttab", "+pub read", "+recv read"]);
        Asking::of(&access, user("Dr. No", "c")).gives(&["+pub a/b", "-pub read"]);
        for (text, fault) in [
            ("topic", "acl:1: the topic is missing"),
            (
                "\ntopic red a",
                "acl:2: unknown access \"red\"; write read, write, readwrite or deny (a topic with spaces needs one of them)",
            ),
            ("topic read a/#/b", "acl:1: the topic \"a/#/b\" has levels after #, which must be the last"),
            (
                "topic a/# # comment",
                "acl:1: unknown access \"a/#\"; write read, write, readwrite or deny (a topic with spaces needs one of them)",
            ),
            ("topic read a/# # comment", "acl:1: the topic \"a/# # comment\" has a + or # that is not a whole level"),
            ("pattern read b+", "acl:1: the topic \"b+\" has a + or # that is not a whole level"),
            ("user", "acl:1: the user name is missing; write user NAME"),
            ("user   ", "acl:1: the user name is missing; write user NAME"),
            (" # comment", "acl:1: is no comment: # must be the first character of the line"),
            ("Topic read a", "acl:1: unknown word \"Topic\"; a line begins with topic, user, pattern or #"),
            (
                "allow a\ndeny b",
                "acl:1: unknown word \"allow\"; a line begins with topic, user, pattern or #\nacl:2: unknown word \"deny\"; a line begins with topic, user, pattern or #",
            ),
        ] {
            assert_eq!(faults("acl", text.as_bytes()), fault, "{text}");
        }
        assert_eq!(faults("acl", b"# \xe4\ntopic \xe4\n"), "acl:2: is not UTF-8; topics and user names are");
    }

    const PLANT: &str = r##"
[user.alice]
roles = ["operator"]
allow = { publish = "alice/only" }

[group.line]
users = ["bob"]
roles = ["operator"]

[role.operator]
allow = [
    { subscribe = "plant/#" },
    { publish = "plant/+/set", qos_max = 1, retain = false, rate = 10 },
    { publish = "local/#", address = ["10.0.0.0/8", "::1"], listener = "inside" },
]
deny = { all = "plant/+/secret/#" }

[everyone]
allow = { all = "dev/%c/#" }

[anonymous]
allow.subscribe = "pub/#"
"##;

    #[test]
    fn roles_and_groups_add_up() {
        let access = Access::with_rules(rules("acl.toml", PLANT));
        let operator = [
            "+sub plant/#",
            "-recv plant/1/secret/x",
            "-sub plant/1/secret/x",
            "+pub plant/1/set",
            "-pub plant/1/x",
            "+pub dev/c/x",
            "-recv pub/x",
        ];
        Asking::of(&access, user("alice", "c")).gives(&operator).gives(&["+pub alice/only"]);
        Asking::of(&access, user("bob", "c")).gives(&operator).gives(&["-pub alice/only"]);
        Asking::of(&access, user("eve", "c")).gives(&["-sub plant/#", "+pub dev/c/x", "-pub dev/d/x"]);
        Asking::of(&access, user("-", "c")).gives(&["+sub pub/#", "-recv plant/x", "+recv dev/c/x"]);
        let token = Token { groups: ["line".into(), "no such".into()].into(), ..Token::default() };
        Asking::of(&access, Identity { token: Some(token.into()), ..user("eve", "c") }).gives(&operator);
    }

    #[test]
    fn conditions_bound_a_grant() {
        let access = Access::with_rules(rules("acl.toml", PLANT));
        let decide = |who: &Identity, topic: &str, qos, retain| {
            access.decide(who, Act::Publish { topic: topic.as_bytes(), qos, retain }) == Verdict::Allowed
        };
        let alice = user("alice", "c");
        assert!(decide(&alice, "plant/1/set", Qos::AtLeastOnce, false));
        assert!(!decide(&alice, "plant/1/set", Qos::ExactlyOnce, false));
        assert!(!decide(&alice, "plant/1/set", Qos::AtMostOnce, true));
        assert!(!decide(&alice, "local/x", Qos::AtMostOnce, false), "from nobody knows where");
        for (listener, address, expected) in [
            ("inside", "10.1.2.3", true),
            ("inside", "::ffff:10.1.2.3", true),
            ("inside", "11.0.0.1", false),
            ("outside", "::1", false),
        ] {
            let who = Identity {
                listener: Some(listener.into()),
                address: Some(address.parse().expect("an address")),
                ..alice.clone()
            };
            assert_eq!(decide(&who, "local/x", Qos::AtMostOnce, false), expected, "{listener} {address}");
        }
        let act = Act::Publish { topic: b"plant/1/set", qos: Qos::ExactlyOnce, retain: false };
        assert_eq!(
            access.explain(&alice, act).to_string(),
            "denied: no rule allows it; one does under conditions that are not met: acl.toml:13 (role operator): { publish = \"plant/+/set\", qos_max = 1, retain = false, rate = 10 },"
        );
        let rate = |topic: &str| {
            access.rate(&alice, Act::Publish { topic: topic.as_bytes(), qos: Qos::AtMostOnce, retain: false })
        };
        assert_eq!(rate("plant/1/set"), Some(10));
        assert_eq!(rate("alice/only"), None);
    }

    #[test]
    fn toml_faults_have_places_and_nearest_names() {
        for (text, fault) in [
            ("[usr.a]", "acl.toml:1:2: unknown section \"usr\"; did you mean [user.NAME]?"),
            ("[user.a]\nalow = {}", "acl.toml:2:1: unknown key \"alow\" in [user.NAME]; did you mean \"allow\"?"),
            (
                "[user.a]\npublish = \"a\"",
                "acl.toml:2:1: publish belongs into a rule; write allow = { publish = … } or deny = { publish = … }",
            ),
            (
                "[user.a]\nallow = { pubish = \"a\", all = \"b\" }",
                "acl.toml:2:11: unknown key \"pubish\" in a rule; did you mean \"publish\"?",
            ),
            (
                "[user.a]\nallow = { read = \"a\", all = \"b\" }",
                "acl.toml:2:11: unknown key \"read\" in a rule; did you mean \"subscribe\"?",
            ),
            (
                "[user.a]\nallow = { qos_max = 1 }",
                "acl.toml:2:9: this allow is about no topic; write publish, subscribe or all",
            ),
            (
                "[user.a]\nallow = { subscribe = \"a\", retain = true }",
                "acl.toml:2:28: retain is about publishing, but this rule allows only to subscribe",
            ),
            (
                "[user.a]\ndeny = { all = \"a\", rate = 1 }",
                "acl.toml:2:21: a deny has no rate; what an allow does not cover is denied already",
            ),
            (
                "[user.a]\nallow = { all = \"a/b#\" }",
                "acl.toml:2:17: the filter \"a/b#\" has a + or # that is not a whole level",
            ),
            (
                "[user.a]\nallow = { all = \"dev-%c\" }",
                "acl.toml:2:17: the filter \"dev-%c\" has a placeholder, %c or %u, that is not a whole level",
            ),
            (
                "[user.a]\nallow = { all = \"a\", rate = 0 }",
                "acl.toml:2:29: rate is a whole number; allowed: 1 to 1000000",
            ),
            (
                "[user.a]\nallow = { all = \"a\", address = \"10.0.0.1/8\" }",
                "acl.toml:2:32: \"10.0.0.1/8\" names an address inside the network; its first address is 10.0.0.0/8",
            ),
            (
                "[user.a]\nroles = [\"reader\"]\n[role.readers]",
                "acl.toml:2:10: there is no role \"reader\"; did you mean \"readers\"?",
            ),
            ("user = 1", "acl.toml:1:8: user is a table; write [user.NAME]"),
            ("[user]\na = 1", "acl.toml:2:1: user.a is a table; write [user.a]"),
            ("[user.a]\nallow = \"x\"", "acl.toml:2:9: is no rule; write for example allow = { publish = \"a/#\" }"),
            ("[user.a]\nallow = { all = [] }", "acl.toml:2:17: all is empty; leave it out, or name something"),
            ("[user.a]\n[user.a]", "acl.toml:2:7: duplicate key \"a\"; each key may be set once"),
        ] {
            assert_eq!(faults("acl.toml", text.as_bytes()), fault, "{text}");
        }
        assert_eq!(faults("acl.toml", b"[user.a]\nallow = {\n"), faults("acl.toml", b"[user.a]\nallow = {\n"));
        assert!(faults("acl.toml", b"x = \xff").starts_with("acl.toml:1:5: is not UTF-8"));
    }

    #[test]
    fn a_denial_in_any_file_wins() {
        let sources = [
            Source { name: "one", text: b"user u\ntopic readwrite #\n", form: Form::Mosquitto },
            Source {
                name: "two.toml",
                text: b"[everyone]\ndeny = { all = \"x/#\" }\n[user.v]\nallow = { all = \"v\" }",
                form: Form::Native,
            },
        ];
        let access = Access::with_rules(Rules::read(&sources).expect("rules"));
        Asking::of(&access, user("u", "c"))
            .gives(&["+recv y", "-recv x/1", "-sub x/#", "+sub #"])
            .covers(&[("#", Coverage::Part), ("y", Coverage::Everything)])
            .because(Act::Receive { topic: b"x/1" }, "denied by two.toml:2 (everyone): deny = { all = \"x/#\" }")
            .because(Act::Receive { topic: b"y" }, "allowed by one:2 (user u): topic readwrite #")
            .because(Act::Subscribe { filter: b"x/+" }, "denied by two.toml:2 (everyone): deny = { all = \"x/#\" }");
        Asking::of(&access, user("v", "c"))
            .gives(&["+pub v"])
            .because(Act::Receive { topic: b"y" }, "denied: no rule allows it")
            .because(Act::Subscribe { filter: b"+" }, "denied: no rule allows all topics of the filter; some are allowed by two.toml:4 (user v): allow = { all = \"v\" } (see acl.subscribe)");
    }

    #[test]
    fn a_filter_that_could_mean_thousands_of_rules_takes_bounded_time() {
        let many: String = (0..5_000).map(|number| format!("pattern read site-{number}/%c/x\n")).collect();
        let access = Access::with_rules(rules("acl", &(many + "user u\ntopic read last/a\n")));
        let who = || user("u", "c");
        Asking::of(&access, who())
            .gives(&["-sub +/+/y", "-sub +/other/x", "+sub site-4999/c/x", "-sub site-1/d/+", "-recv site-1/d/x"])
            .covers(&[
                ("site-1/c/x", Coverage::Everything),
                ("site-1/d/x", Coverage::Nothing),
                ("+/d/x", Coverage::Part),
            ]);
        Asking::of(&access.subscribing(Subscribing::Overlap), who()).gives(&[
            "+sub +/c/x",
            "+sub #",
            "-recv site-1/d/x",
        ]);
    }

    #[test]
    fn a_token_bounds_its_bearer() {
        let grants = Grants { publish: ["t/1".into()].into(), subscribe: ["t/#".into(), "x/#".into()].into() };
        let token = Token { grants: Some(grants), ..Token::default() };
        let bearer = Identity { token: Some(token.into()), ..user("u", "c") };
        let granted = ["+pub t/1", "-pub t/2", "+recv t/2", "+sub t/+", "-sub #", "-recv y", "-pub $SYS/x"];
        assert!(!Access::allow_all().is_open_to(&bearer));
        Asking::of(&Access::allow_all(), bearer.clone()).gives(&granted).gives(&["+sub x/#"]);
        let ruled = Access::with_rules(rules(
            "acl.toml",
            "[everyone]\nallow = { all = \"y\" }\ndeny = { subscribe = \"x/#\" }",
        ));
        Asking::of(&ruled, bearer).gives(&granted).gives(&["-sub x/#", "-recv x/1"]);
    }

    #[test]
    fn who_lists_the_rules_about_a_topic() {
        let access = Access::with_rules(rules("acl", USERS));
        let who = |topic: &str| access.who(None, topic.as_bytes()).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(who("a/b"), ["allow  publish, subscribe  acl:2 (user alice): topic readwrite a/#"]);
        assert_eq!(who("dev/x/y"), ["allow  publish  acl:7 (everyone): pattern write dev/%c/#"]);
        assert_eq!(who("pub/x").len(), 2);
    }

    #[test]
    fn j08_whoever_comes_through_a_listener_is_judged_by_its_own_rules() {
        let access = Access::with_rules(rules("acl", "user u\ntopic general\n"))
            .at_listener("inner", Some(rules("inner", "user u\ntopic inner\n")))
            .at_listener("open", None)
            .at_listener("none", Some(rules("none", "")));
        let through = |listener: Option<&str>| Identity { listener: listener.map(Into::into), ..user("u", "c") };
        for listener in [None, Some("outer"), Some("Inner"), Some("")] {
            Asking::of(&access, through(listener)).gives(&[
                "+pub general",
                "-pub inner",
                "+sub general",
                "-recv inner",
            ]);
        }
        Asking::of(&access, through(Some("inner")))
            .gives(&["-pub general", "+pub inner", "+sub inner", "-sub general", "-recv general"])
            .covers(&[("general", Coverage::Nothing), ("inner", Coverage::Everything)])
            .because(Act::Receive { topic: b"inner" }, "allowed by inner:2 (user u): topic inner");
        Asking::of(&access, through(Some("open"))).gives(&["+pub anything", "+sub #", "+recv general", "-pub $SYS/x"]);
        Asking::of(&access, through(Some("none"))).gives(&["-pub general", "-sub general", "-recv inner"]);
        let is_open_to = |listener: &str| access.is_open_to(&through(Some(listener)));
        assert!(is_open_to("open") && !is_open_to("inner") && !is_open_to("outer"));
        // Rules at one listener close no other.
        let one = Access::allow_all().at_listener("inner", Some(rules("inner", "user u\ntopic inner\n")));
        Asking::of(&one, through(Some("inner"))).gives(&["-pub general", "+pub inner"]);
        Asking::of(&one, through(Some("outer"))).gives(&["+pub general", "+sub #"]);
        assert_eq!(one.at_listener("inner", None).rules().count(), 0);
    }

    #[test]
    fn j15_bans_are_of_users_clients_and_networks() {
        let text = r#"
[[ban]]
user = "mallory"
reason = "sends\ttoo much"

[[ban]]
client_id = ["c7", "c8"]
until = 1970-01-01T00:01:00Z

[[ban]]
address = "10.0.0.0/8"
until = "1970-01-01T01:02:00+01:00"

[[ban]]
address = ["10.1.0.0/16", "fd00::/8"]

[everyone]
allow = { all = "dev/+" }
"#;
        let access = Access::with_rules(rules("acl.toml", text));
        let banned = |who: &Identity, now_s: u64| {
            let now = Moment::from_millis(now_s * 1_000);
            let banned = access.banned(who, now).map(|ban| ban.to_string());
            assert_eq!(banned.is_some(), access.is_banned(who, now));
            banned.unwrap_or_default()
        };
        let from = |address: &str| Identity { address: address.parse().ok(), ..user("u", "c") };
        let mallory = "banned by acl.toml:3: user = \"mallory\": sends\\ttoo much";
        assert_eq!(banned(&user("mallory", "c"), 0), mallory);
        assert_eq!(banned(&Identity { proof: super::Proof::Shown, ..user("mallory", "c") }, 1 << 40), mallory);
        for who in [user("-", "mallory"), user("Mallory", "c"), user("u", "c9"), user("-", ""), from("11.0.0.1")] {
            assert_eq!(banned(&who, 0), "", "{who:?}");
        }
        let clients = "banned by acl.toml:7: client_id = [\"c7\", \"c8\"] until 1970-01-01T00:01:00Z";
        assert_eq!(banned(&user("u", "c8"), 59), clients);
        assert_eq!(banned(&user("u", "c8"), 60), "");
        assert!(!banned(&from("10.2.3.4"), 119).is_empty() && !banned(&from("::ffff:10.2.3.4"), 119).is_empty());
        assert_eq!(banned(&from("10.2.3.4"), 120), "");
        assert!(!banned(&from("10.1.3.4"), 120).is_empty(), "the larger network is free again, and this one is not");
        assert!(!banned(&from("fd12::1"), 0).is_empty() && banned(&from("fe80::1"), 0).is_empty());
        // What was before the hall began has passed.
        let later = access.clone().at_time(Moment::from_millis(5_000), 65_000);
        assert!(!later.is_banned(&user("u", "c7"), Moment::from_millis(0)));
        assert!(
            access.clone().at_time(Moment::from_millis(5_000), 64_999).is_banned(&user("u", "c7"), Moment::default())
        );
    }

    #[test]
    fn j15_the_ban_that_ends_last_holds() {
        for (first, second) in [("until = 1970-01-01T00:01:00Z", ""), ("", "until = 1970-01-01T00:01:00Z")] {
            let text = format!("[[ban]]\nuser = \"u\"\n{first}\n[[ban]]\nuser = \"u\"\n{second}\n");
            let access = Access::with_rules(rules("acl.toml", &text));
            assert!(access.is_banned(&user("u", "c"), Moment::from_millis(1 << 50)));
        }
    }

    #[test]
    fn j15_a_ban_in_general_holds_everywhere_and_one_of_a_listener_there() {
        let ban = |user: &str| Some(rules("acl.toml", &format!("[[ban]]\nuser = \"{user}\"\n")));
        let access = Access::with_rules(ban("general").expect("rules")).at_listener("inner", ban("inner"));
        let access = access.at_listener("open", None);
        let is_banned = |name: &str, listener: Option<&str>| {
            let who = Identity { listener: listener.map(Into::into), ..user(name, "c") };
            access.is_banned(&who, Moment::default())
        };
        for listener in [None, Some("inner"), Some("open"), Some("other")] {
            assert!(is_banned("general", listener));
            assert_eq!(is_banned("inner", listener), listener == Some("inner"));
        }
    }

    #[test]
    fn bans_say_one_thing_each() {
        for (text, fault) in [
            ("ban = 1", "acl.toml:1:7: ban is a list of tables; write [[ban]]"),
            ("[ban]\nuser = \"a\"", "acl.toml:1:1: ban is a list of tables; write [[ban]]"),
            ("ban = [1]", "acl.toml:1:8: is no ban; write [[ban]]"),
            (
                "[[ban]]\nreason = \"x\"",
                "acl.toml:1:1: a ban is of one of user, client_id and address; write a [[ban]] for each",
            ),
            (
                "[[ban]]\nuser = \"a\"\nclient_id = \"b\"",
                "acl.toml:1:1: a ban is of one of user, client_id and address; write a [[ban]] for each",
            ),
            ("[[ban]]\nuser = 1", "acl.toml:2:8: user is a text or a list of texts"),
            ("[[ban]]\nuser = []", "acl.toml:2:8: user is empty; leave it out, or name something"),
            (
                "[[ban]]\nuser = \"a\"\nreasn = \"x\"",
                "acl.toml:3:1: unknown key \"reasn\" in [[ban]]; did you mean \"reason\"?",
            ),
            ("[[ban]]\nuser = \"a\"\nreason = [\"x\", \"y\"]", "acl.toml:3:16: a ban has one reason"),
            (
                "[[ban]]\naddress = \"10.0.0.1/8\"",
                "acl.toml:2:11: \"10.0.0.1/8\" names an address inside the network; its first address is 10.0.0.0/8",
            ),
            (
                "[[ban]]\nuser = \"a\"\nuntil = 2026-12-31",
                "acl.toml:3:9: until is a date with its time and Z or the distance from UTC; write for example 2026-12-31T23:59:59Z",
            ),
            (
                "[[ban]]\nuser = \"a\"\nuntil = 5",
                "acl.toml:3:9: until is a date with its time and Z or the distance from UTC; write for example 2026-12-31T23:59:59Z",
            ),
            ("[[bans]]\nuser = \"a\"", "acl.toml:1:3: unknown section \"bans\"; did you mean [[ban]]?"),
        ] {
            assert_eq!(faults("acl.toml", text.as_bytes()), fault, "{text}");
        }
        let alone = rules("acl.toml", "[[ban]]\nuser = \"a\"\n[everyone]\ndeny = { all = \"x\" }\n");
        assert_eq!((alone.bans(), alone.notes().count()), (1, 1));
        assert_eq!(
            rules("acl.toml", "[[ban]]\nuser = \"a\"\n[everyone]\nallow = { all = \"x\" }\n").notes().count(),
            0
        );
    }

    #[test]
    fn versions_differ() {
        let access = Access::allow_all();
        assert_ne!(access.version(), Access::allow_all().version());
        assert_eq!(access.version(), access.clone().version());
        assert_ne!(access.version(), access.clone().subscribing(Subscribing::Lenient).version());
    }
}
