//! Verdicts with their reasons, in words for an operator.
//! Nothing is decided here: an explanation is made from what the decision itself found.

use super::Verdict;
use super::rules::{BanInWords, Concerned, Effect, Place, Subject};
use crate::notice::Outside;
use std::fmt;

/// A verdict and what decided it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    pub verdict: Verdict,
    pub reason: Reason,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// There are no rules at all.
    NoRules,
    /// Clients do not publish to Topics that begin with `$`.
    TopicOfTheBroker,
    Rule(Place),
    /// Nothing allows it.
    NoRule,
    /// Nothing allows it as it is; this rule does for other listeners, addresses, QoS or without RETAIN.
    OnlyUnderConditions(Place),
    /// The Client's token grants it, by this filter.
    Token(Box<str>),
    /// The Client brings a token that does not grant it.
    NotInToken,
    /// The user name or Client Identifier holds a wildcard, and this file has patterns.
    UnsafeName(Box<str>),
    /// This rule allows some of the filter's topics, and nothing allows all of them.
    OnlyPart(Place),
    /// Subscriptions are always granted; deliveries are not.
    Lenient,
}

impl fmt::Display for Explanation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.verdict {
            Verdict::Allowed => out.write_str("allowed")?,
            Verdict::Denied => out.write_str("denied")?,
        }
        match &self.reason {
            Reason::NoRules => out.write_str(": there are no rules, so everything is allowed"),
            Reason::TopicOfTheBroker => out.write_str(": topics that begin with $ belong to the broker"),
            Reason::Rule(place) => write!(out, " by {place}"),
            Reason::NoRule => out.write_str(": no rule allows it"),
            Reason::OnlyUnderConditions(place) => {
                write!(out, ": no rule allows it; one does under conditions that are not met: {place}")
            }
            Reason::Token(filter) => write!(out, ": the token grants {}", Outside::of(&**filter)),
            Reason::NotInToken => out.write_str(": the token does not grant it"),
            Reason::UnsafeName(file) => write!(
                out,
                ": the user name or client id holds + or #, so the patterns of {} allow nothing",
                Outside::of(&**file)
            ),
            Reason::OnlyPart(place) => write!(
                out,
                ": no rule allows all topics of the filter; some are allowed by {place} (see acl.subscribe)"
            ),
            Reason::Lenient => {
                out.write_str(": acl.subscribe is \"lenient\"; each message is judged when it is delivered")
            }
        }
    }
}

/// `banned by acl.toml:7: user = "mallory" until 2026-12-31T23:59:59Z: sends too much`
impl fmt::Display for BanInWords {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, text, until, reason } = self;
        write!(out, "banned by {}:{line}: {}", Outside::of(&**file), Outside::of(&**text))?;
        if let Some(until) = until {
            write!(out, " until {}", Outside::of(&**until))?;
        }
        match reason {
            Some(reason) => write!(out, ": {}", Outside::of(&**reason)),
            None => Ok(()),
        }
    }
}

/// `acl.conf:7 (user alice): topic read a/#`
impl fmt::Display for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, text, subject } = self;
        write!(out, "{}:{line} ({subject}): {}", Outside::of(&**file), Outside::of(&**text))
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(name) => write!(out, "user {}", Outside::of(&**name)),
            Self::Anonymous => out.write_str("clients without a user name"),
            Self::Everyone => out.write_str("everyone"),
            Self::Group(name) => write!(out, "group {}", Outside::of(&**name)),
            Self::Role(name) => write!(out, "role {}", Outside::of(&**name)),
        }
    }
}

/// `allow  publish, subscribe  user alice  acl.conf:7: topic a/#`
impl fmt::Display for Concerned {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let effect = match self.effect {
            Effect::Allow => "allow",
            Effect::Deny => "deny",
        };
        let rights = match (self.publish, self.receive) {
            (true, true) => "publish, subscribe",
            (true, false) => "publish",
            _ => "subscribe",
        };
        let condition = if self.is_conditional { " (under conditions)" } else { "" };
        write!(out, "{effect}  {rights}{condition}  {}", self.place)
    }
}
