//! Who may connect, publish, subscribe and receive: the one place that decides about rights.
//!
//! Every path asks [`Access::decide`]: CONNECT, the Will, each PUBLISH, each filter of a SUBSCRIBE, and each delivery at the moment
//! it is encoded, be it live, retained, queued or sent again. Without rules everything is allowed, with rules nothing that none of
//! them allows; Topics that begin with `$` are the broker's own and never published to. Text comes in and verdicts go out: no file
//! is opened here and nothing waits; logins that take time are futures that the doors await.
//! Read `rules.rs` next (how rules add up), then `trie.rs` (how they are found), `mosquitto.rs` and `native.rs` (their two
//! languages), `explain.rs` (verdicts in words) and `login.rs` (who is coming).

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
pub use rules::{Concerned, Effect, Form, Place, RULES_SIZE_MAX, Rules, Source, Subject};
pub use token::{Grants, Token};

use crate::codec::{Moment, Qos};
use core::net::IpAddr;
use rules::{Because, PUBLISH, Question, RECEIVE, Said};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use trie::Relation;

/// What a Client has been recognised as. Rights are decided for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    pub user_name: Option<Box<str>>,
    /// The hall fills it in; whatever an authenticator says, rights are decided for the one that is used.
    pub client_id: Arc<str>,
    /// The name of the listener. `None`: not known, such as for a Session that nobody has resumed.
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
    pub fn of_user(user_name: Option<Box<str>>) -> Self {
        Self { user_name, ..Self::default() }
    }

    /// Somebody who has shown who it is.
    pub fn proven(user_name: &str, proof: Proof) -> Self {
        Self { user_name: Some(user_name.into()), proof, ..Self::default() }
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

/// The accounts that there are. Asked after each change, about everybody who is connected or has a Session.
pub trait Accounts: Send + Sync {
    /// Whether this is still somebody whom the authenticators would let in by what it has proved.
    fn knows(&self, who: &Identity) -> bool;
}

/// The rights in force. A change makes a new one.
#[derive(Clone)]
pub struct Access {
    version: u64,
    rules: Option<Rules>,
    subscribing: Subscribing,
    accounts: Option<Arc<dyn Accounts>>,
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
        Self { version: next_version(), rules: None, subscribing: Subscribing::default(), accounts: None }
    }

    /// With rules, and be they none: what no rule allows is denied.
    pub fn with_rules(rules: Rules) -> Self {
        Self { rules: Some(rules), ..Self::allow_all() }
    }

    pub fn with_accounts(self, accounts: Arc<dyn Accounts>) -> Self {
        Self { version: next_version(), accounts: Some(accounts), ..self }
    }

    /// Whether whoever was recognised as this still would be.
    pub fn knows(&self, who: &Identity) -> bool {
        self.accounts.as_ref().is_none_or(|accounts| accounts.knows(who))
    }

    pub fn subscribing(self, subscribing: Subscribing) -> Self {
        Self { version: next_version(), subscribing, ..self }
    }

    /// Whether everything is allowed to it, but to publish to `$` topics: there are no rules, and it brought none.
    #[inline]
    pub fn is_open_to(&self, who: &Identity) -> bool {
        self.rules.is_none() && who.token.is_none()
    }

    /// Each value has its own, also across reloads, so that decisions that somebody keeps can be told to be stale.
    pub fn version(&self) -> u64 {
        self.version
    }

    pub fn rules(&self) -> Option<&Rules> {
        self.rules.as_ref()
    }

    /// Decides about one act. Cheap, and allocates nothing: it is called for each Message and receiver.
    #[inline]
    pub fn decide(&self, who: &Identity, act: Act<'_>) -> Verdict {
        self.judge(who, act).0
    }

    /// How much of what a filter matches may be received. `Everything` and `Nothing` hold for each topic that the filter
    /// matches, until the rights change; for a filter without wildcards there is no `Part`.
    pub fn covers(&self, who: &Identity, filter: &[u8]) -> Coverage {
        self.survey(who, filter).kept.0
    }

    /// The same decision with its reason.
    pub fn explain(&self, who: &Identity, act: Act<'_>) -> Explanation {
        let (verdict, cause) = self.judge(who, act);
        Explanation { verdict, reason: self.reason(cause) }
    }

    /// Most messages in a second that the rules allow of this act; `None` where nothing bounds them. Only what is
    /// published and allowed has such a bound.
    pub fn rate(&self, who: &Identity, act: Act<'_>) -> Option<u32> {
        match (&self.rules, who.grants(), act) {
            (Some(rules), None, Act::Publish { topic, qos, retain }) => {
                rules.rate(&about_publishing(who, topic, qos, retain))
            }
            _ => None,
        }
    }

    /// All rules about a topic, whoever they are for, in the order of the files. `topic` is a topic, not a filter.
    pub fn who(&self, topic: &[u8]) -> Vec<Concerned> {
        self.rules.as_ref().map(|rules| rules.about(topic)).unwrap_or_default()
    }

    /// The one way to a verdict.
    #[inline]
    fn judge<'a>(&'a self, who: &'a Identity, act: Act<'a>) -> (Verdict, Cause<'a>) {
        match act {
            // A Client's message must never look like one of the broker's (forged `$SYS`, `$share`, `$CONTROL`).
            Act::Publish { topic: [b'$', ..], .. } => (Verdict::Denied, Cause::TopicOfTheBroker),
            _ if self.rules.is_none() && who.token.is_none() => (Verdict::Allowed, Cause::NoRules),
            Act::Publish { topic, qos, retain } => self.judge_topic(&about_publishing(who, topic, qos, retain)),
            Act::Receive { topic } => self.judge_topic(&about_receiving(who, topic)),
            Act::Subscribe { .. } if self.subscribing == Subscribing::Lenient => (Verdict::Allowed, Cause::Lenient),
            Act::Subscribe { filter } => self.judge_filter(who, filter),
        }
    }

    fn judge_topic<'a>(&'a self, question: &Question<'a>) -> (Verdict, Cause<'a>) {
        let said = match &self.rules {
            Some(rules) => rules.say(question),
            None => Said::Nothing,
        };
        match (said, question.who.grants()) {
            (Said::No(because), _) => (Verdict::Denied, Cause::Because(because)),
            (_, Some(grants)) => match grants.find(question) {
                Some(filter) => (Verdict::Allowed, Cause::Token(filter)),
                None => (Verdict::Denied, Cause::NotInToken),
            },
            (_, None) if self.rules.is_none() => (Verdict::Allowed, Cause::NoRules),
            (Said::Yes(rule), None) => (Verdict::Allowed, Cause::Because(Because::Rule(rule))),
            (Said::Nothing, None) => (Verdict::Denied, Cause::NoRule),
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
        let shares = self.rules.as_ref().map(|rules| rules.shares(&question));
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

    fn reason(&self, cause: Cause<'_>) -> Reason {
        let place = |because| match (because, &self.rules) {
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

fn about_publishing<'a>(who: &'a Identity, topic: &'a [u8], qos: Qos, retain: bool) -> Question<'a> {
    Question { who, relation: Relation::Matches, text: topic, rights: PUBLISH, publish: Some((qos, retain)) }
}

fn about_receiving<'a>(who: &'a Identity, text: &'a [u8]) -> Question<'a> {
    Question { who, relation: Relation::Matches, text, rights: RECEIVE, publish: None }
}
