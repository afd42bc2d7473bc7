//! Who may connect, publish, subscribe and receive: the one place that decides about rights.
//!
//! Every path asks here: CONNECT, the Will, each PUBLISH, each filter of a SUBSCRIBE, and each delivery at the moment it is
//! encoded, be it live, retained, queued or sent again. The policy behind the door is still "allow all", but for Topics that
//! begin with `$`: those are the broker's own. Nothing here waits: logins that take time are futures that the doors await.
//! `broker/connect.rs`, `broker/publish.rs` and `broker/subscribe.rs` are the callers.

mod login;
pub mod password;
pub mod scram;

pub use login::{Anyone, Authenticator, Certificate, Exchange, Login, Pending, Step};

use crate::codec::{Moment, Qos};

/// What a Client has been recognised as. Rights are decided for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    pub user_name: Option<Box<str>>,
    /// What came with a token, for the few that bring one.
    pub token: Option<Box<Token>>,
}

/// What a token says about its bearer besides the name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Token {
    /// From then on the bearer is nobody: the Network Connection ends.
    pub expires_at: Option<Moment>,
    /// The only rights that the bearer has; `None`: those of its user name.
    pub grants: Option<Grants>,
}

/// Topic Filters that a token allows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    pub publish: Box<[Box<str>]>,
    /// To subscribe to, and to receive.
    pub subscribe: Box<[Box<str>]>,
}

impl Identity {
    pub fn of_user(user_name: Option<Box<str>>) -> Self {
        Self { user_name, ..Self::default() }
    }

    /// When it stops being recognised.
    pub fn expires_at(&self) -> Option<Moment> {
        self.token.as_ref()?.expires_at
    }
}

/// Something that an identity wants to do.
#[derive(Clone, Copy, Debug)]
pub enum Act<'a> {
    Publish { topic: &'a [u8], qos: Qos, retain: bool },
    Subscribe { filter: &'a [u8] },
    Receive { topic: &'a [u8] },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Allowed,
    Denied,
}

/// The rights in force.
#[derive(Clone, Debug, Default)]
pub struct Access;

impl Access {
    /// Decides about one act. Cheap: it is called for each Message and receiver.
    #[inline]
    pub fn decide(&self, _who: &Identity, act: Act<'_>) -> Verdict {
        match act {
            // A Client's message must never look like one of the broker's (forged `$SYS`, `$share`, `$CONTROL`).
            Act::Publish { topic: [b'$', ..], .. } => Verdict::Denied,
            Act::Publish { .. } | Act::Subscribe { .. } | Act::Receive { .. } => Verdict::Allowed,
        }
    }
}
