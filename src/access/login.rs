//! Who is coming: what a door knows about a peer that wants to enter, and the answer to it.
//!
//! Nothing here finds out who that is; `crate::login` does, and tests bring authenticators of their own. An answer may take
//! time, so it is a future, which the doors await.

use super::Identity;
use crate::codec::ReasonCode;
use core::net::IpAddr;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

/// What is known about who is coming: what CONNECT (or AUTH) says, and what the door has seen.
#[derive(Clone, Default)]
pub struct Login {
    /// The Client's own, or the one that the broker has assigned to it.
    pub client_id: Box<str>,
    pub user_name: Option<Box<str>>,
    pub password: Option<Box<[u8]>>,
    /// Authentication Method and Authentication Data of MQTT 5.
    pub method: Option<Box<str>>,
    pub data: Option<Box<[u8]>>,
    /// Where the Client is. `None`: on this machine, by way of a Unix socket.
    pub address: Option<IpAddr>,
    /// The name of the listener.
    pub listener: Option<Arc<str>>,
    /// What the peer has proved by TLS, checked against the listener's authorities.
    pub certificate: Option<Box<Certificate>>,
}

/// A Client's certificate, as far as it can say who somebody is. Strings are as the certificate has them: a name with a
/// NUL, a wildcard or nothing in it is for the reader to refuse.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Certificate {
    /// The last one of the subject.
    pub common_name: Option<Box<str>>,
    pub san_dns: Vec<Box<str>>,
    pub san_email: Vec<Box<str>>,
    pub san_uri: Vec<Box<str>>,
    /// As RFC 4514 writes it.
    pub subject: Box<str>,
    /// Of the whole certificate, as 64 lower-case hexadecimal digits.
    pub sha256: Box<str>,
    /// The one of the above that the listener takes for the user name; `None` = it takes none of them.
    pub user_name: Option<Box<str>>,
}

/// The next thing in a login or re-authentication.
pub enum Step {
    /// Recognised; `data` goes back in CONNACK (or in AUTH 0x00 after a re-authentication).
    Accept { identity: Identity, data: Option<Vec<u8>> },
    /// Not let in. Goes into CONNACK (or DISCONNECT); 3.x Clients get the return code nearest to it. Why is for the log.
    Refuse(ReasonCode, &'static str),
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
            Some(_) => Step::Refuse(ReasonCode::BadAuthenticationMethod, "an unknown Authentication Method"),
            None => Step::Accept { identity: Identity::believed(login.user_name), data: None },
        };
        Box::pin(std::future::ready(step))
    }
}

/// Without what is secret.
impl fmt::Debug for Login {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Login")
            .field("client_id", &self.client_id)
            .field("user_name", &self.user_name)
            .field("password", &self.password.as_ref().map(|_| "not shown"))
            .field("method", &self.method)
            .field("data", &self.data.as_ref().map(|_| "not shown"))
            .field("address", &self.address)
            .field("listener", &self.listener)
            .field("certificate", &self.certificate)
            .finish()
    }
}
