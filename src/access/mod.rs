//! Who may connect, publish, subscribe and receive: the one place that decides about rights.
//!
//! Every path asks here: CONNECT, the Will, each PUBLISH, each filter of a SUBSCRIBE, and each delivery at the moment it is
//! encoded, be it live, retained, queued or sent again. The policy behind the door is still "allow all", but for Topics that
//! begin with `$`: those are the broker's own. Nothing here waits: logins that take time are futures that the doors await.
//! `broker/connect.rs`, `broker/publish.rs` and `broker/subscribe.rs` are the callers.

use crate::codec::{Qos, ReasonCode};
use std::future::Future;
use std::pin::Pin;

/// What a Client has been recognised as. Rights are decided for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    pub user_name: Option<Box<str>>,
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

/// What CONNECT says about who is coming.
#[derive(Clone, Debug)]
pub struct Login {
    pub client_id: Box<str>,
    pub user_name: Option<Box<str>>,
    pub password: Option<Box<[u8]>>,
    /// Authentication Method and Authentication Data of MQTT 5.
    pub method: Option<Box<str>>,
    pub data: Option<Box<[u8]>>,
}

/// The next thing in a login or re-authentication.
pub enum Step {
    /// Recognised; `data` goes back in CONNACK (or in AUTH 0x00 after a re-authentication).
    Accept { identity: Identity, data: Option<Vec<u8>> },
    /// Not let in. Goes into CONNACK (or DISCONNECT); 3.x Clients get the return code nearest to it.
    Refuse(ReasonCode),
    /// AUTH 0x18 with this data; the answer goes to `exchange`.
    Challenge { data: Vec<u8>, exchange: Box<dyn Exchange> },
}

/// A login under way. Whoever drops it has given up.
pub type Pending = Pin<Box<dyn Future<Output = Step> + Send>>;

/// Recognises Clients. Must answer in bounded time; deny when in doubt.
pub trait Authenticator: Send + Sync {
    /// Begins a login, or a re-authentication with the method of the first one.
    fn begin(&self, login: Login) -> Pending;
}

/// The server's half of an enhanced authentication (4.12) between two AUTH packets.
pub trait Exchange: Send {
    fn proceed(self: Box<Self>, data: Option<Box<[u8]>>) -> Pending;
}

/// The authenticator of a listener that lets everybody in: it believes the user name and knows no
/// Authentication Method [MQTT-4.12.0-1].
pub struct Anyone;

impl Authenticator for Anyone {
    fn begin(&self, login: Login) -> Pending {
        let step = match login.method {
            Some(_) => Step::Refuse(ReasonCode::BadAuthenticationMethod),
            None => Step::Accept { identity: Identity { user_name: login.user_name }, data: None },
        };
        Box::pin(std::future::ready(step))
    }
}
