//! The ordered chain of a listener.

use crate::access::{Authenticator, Exchange, Identity, Login, Pending, Step};
use crate::codec::ReasonCode;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

/// What a link says about a login.
pub enum Answer {
    /// It is this one; `data` goes back to a Client that sent an Authentication Method.
    Accept { identity: Identity, data: Option<Vec<u8>> },
    /// No, and nobody else is asked. `why` is for the log.
    Deny { reason: ReasonCode, why: &'static str },
    /// The Client has to say more.
    Challenge { data: Vec<u8>, exchange: Box<dyn Exchange> },
    /// The login is not of the kind that this link judges, or not for somebody it knows: ask the next one.
    NotMine,
}

/// A question to a link that is under way.
pub type Asked = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// One way to find out who somebody is.
pub trait Link: Send + Sync {
    /// The Authentication Method that it speaks; `None`: it judges what CONNECT itself brings.
    fn method(&self) -> Option<&'static str> {
        None
    }

    /// Answers in bounded time.
    fn ask(&self, login: &Arc<Login>) -> Asked;
}

/// All ways in through one listener.
#[derive(Clone)]
pub struct Chain {
    links: Arc<[Arc<dyn Link>]>,
    allow_anonymous: bool,
}

impl Chain {
    /// Without links there is nothing that a name could be proved by: then `allow_anonymous` lets everybody in and believes the
    /// name. With links it lets in who brings no credentials at all.
    pub fn new(links: Vec<Arc<dyn Link>>, allow_anonymous: bool) -> Self {
        Self { links: links.into(), allow_anonymous }
    }

    async fn ask(self, login: Login) -> Step {
        let login = Arc::new(login);
        let method = login.method.as_deref();
        if method.is_some() && !self.links.iter().any(|link| link.method() == method) {
            return Step::Refuse(ReasonCode::BadAuthenticationMethod); // [MQTT-4.12.0-1]
        }
        for link in self.links.iter().filter(|link| link.method() == method) {
            match link.ask(&login).await {
                Answer::NotMine => {}
                Answer::Accept { identity, data } => return Step::Accept { identity, data },
                Answer::Deny { reason, .. } => return Step::Refuse(reason),
                Answer::Challenge { data, exchange } => return Step::Challenge { data, exchange },
            }
        }
        self.nobody_knows(&login)
    }

    fn nobody_knows(&self, login: &Login) -> Step {
        let says_nothing = login.user_name.is_none() && login.password.is_none() && login.method.is_none();
        if self.allow_anonymous && (self.links.is_empty() || says_nothing) {
            let identity = Identity::of_user(login.user_name.clone());
            return Step::Accept { identity, data: None };
        }
        // Without a way to prove it, a name is as good as none.
        Step::Refuse(if says_nothing { ReasonCode::NotAuthorized } else { ReasonCode::BadUserNameOrPassword })
    }
}

impl Authenticator for Chain {
    fn begin(&self, login: Login) -> Pending {
        Box::pin(self.clone().ask(login))
    }
}
