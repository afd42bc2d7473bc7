//! The ordered chain of a listener, and what it does around each link: hold up who guesses, count failures, bound exchanges.

use super::throttle::{Held, Throttle};
use crate::access::{Authenticator, Exchange, Identity, Login, Pending, Step};
use crate::codec::{Moment, ReasonCode};
use crate::notice::{LINES_PER_SECOND_MAX, Limited, Outside, Permit, Tally};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

/// What a link says about a login.
pub enum Answer {
    /// It is this one; `data` goes back to a Client that sent an Authentication Method.
    Accept { identity: Identity, data: Option<Vec<u8>> },
    /// No, and nobody else is asked. `why` is for the log.
    Deny { reason: ReasonCode, why: &'static str },
    /// The Client, who calls itself `user`, has to say more.
    Challenge { user: Option<Box<str>>, data: Vec<u8>, exchange: Box<dyn Exchange> },
    /// The login is not of the kind that this link judges, or not for somebody it knows: ask the next one.
    NotMine,
}

impl Answer {
    /// Credentials that are wrong.
    pub fn wrong(why: &'static str) -> Self {
        Self::Deny { reason: ReasonCode::BadUserNameOrPassword, why }
    }
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
    fn ask(&self, porter: &Porter, login: &Arc<Login>) -> Asked;
}

/// What all chains of a node share: who has failed lately, and what time it is.
#[derive(Clone)]
pub struct Porter {
    throttle: Arc<Throttle>,
    failed: Arc<Tally>,
    now: Arc<dyn Fn() -> Moment + Send + Sync>,
}

/// All ways in through one listener.
#[derive(Clone)]
pub struct Chain {
    links: Arc<[Arc<dyn Link>]>,
    allow_anonymous: bool,
    porter: Porter,
}

/// Steps of one exchange of AUTH packets.
const STEPS_MAX: u32 = 10;

impl Porter {
    pub fn new(throttle: Throttle, now: impl Fn() -> Moment + Send + Sync + 'static) -> Self {
        Self { throttle: Arc::new(throttle), failed: Arc::default(), now: Arc::new(now) }
    }

    pub fn now(&self) -> Moment {
        (self.now)()
    }

    /// Logins that have failed, for what they brought.
    pub fn failed(&self) -> &Arc<Tally> {
        &self.failed
    }

    /// Whether that login is worth looking at, or its turn has not come yet.
    pub fn is_open_to(&self, login: &Login, user: Option<&str>) -> bool {
        self.held(login, user).is_none()
    }

    fn held(&self, login: &Login, user: Option<&str>) -> Option<Held> {
        self.throttle.check(self.now(), login.address, user)
    }

    /// A failure is counted and told; any other refusal passes.
    fn refused(&self, login: &Login, user: Option<&str>, reason: ReasonCode, why: &'static str) -> Step {
        if matches!(reason, ReasonCode::BadUserNameOrPassword | ReasonCode::NotAuthorized) {
            self.failed.add();
            self.throttle.failed(self.now(), login.address, user);
        }
        if let Permit::Log { suppressed } = REFUSED.permit(self.now().as_millis()) {
            tracing::debug!(
                target: "waypost::login",
                address = login.address.map(tracing::field::display),
                listener = login.listener.as_deref(),
                user = user.map(|user| tracing::field::display(Outside::of(user))),
                client_id = %Outside::of(&*login.client_id),
                suppressed,
                "login refused: {why}"
            );
        }
        Step::Refuse(reason, why)
    }
}

/// Peers can have themselves refused as often as they like.
static REFUSED: Limited = Limited::new(LINES_PER_SECOND_MAX);

impl Chain {
    /// Without links there is nothing that a name could be proved by: then `allow_anonymous` lets everybody in and believes the
    /// name. With links it lets in who brings no credentials at all.
    pub fn new(links: Vec<Arc<dyn Link>>, allow_anonymous: bool, porter: Porter) -> Self {
        Self { links: links.into(), allow_anonymous, porter }
    }

    async fn ask(self, login: Login) -> Step {
        let login = Arc::new(login);
        let (method, user) = (login.method.as_deref(), login.user_name.as_deref());
        if method.is_some() && !self.links.iter().any(|link| link.method() == method) {
            // [MQTT-4.12.0-1]
            return Step::Refuse(ReasonCode::BadAuthenticationMethod, "an Authentication Method not offered here");
        }
        match self.porter.held(&login, user) {
            _ if self.links.is_empty() => {}
            None => {}
            Some(held) => return held_up(held),
        }
        for link in self.links.iter().filter(|link| link.method() == method) {
            match link.ask(&self.porter, &login).await {
                Answer::NotMine => {}
                Answer::Accept { identity, data } => return Step::Accept { identity, data },
                Answer::Deny { reason, why } => return self.porter.refused(&login, user, reason, why),
                Answer::Challenge { user, data, exchange } => {
                    let watch =
                        Watch { exchange, porter: self.porter.clone(), login: Arc::clone(&login), user, step: 1 };
                    return Step::Challenge { data, exchange: Box::new(watch) };
                }
            }
        }
        self.nobody_knows(&login)
    }

    fn nobody_knows(&self, login: &Login) -> Step {
        let says_nothing = login.user_name.is_none() && login.password.is_none() && login.method.is_none();
        match (self.links.is_empty(), self.allow_anonymous) {
            (true, true) => Step::Accept { identity: Identity::believed(login.user_name.clone()), data: None },
            (false, true) if says_nothing => Step::Accept { identity: Identity::default(), data: None },
            _ if says_nothing => {
                Step::Refuse(ReasonCode::NotAuthorized, "no credentials, and anonymous Clients may not enter")
            }
            // Without a way to prove it, a name is as good as none.
            (true, _) => Step::Refuse(ReasonCode::BadUserNameOrPassword, "this listener has no authentication"),
            // The same words as for a wrong password: who may read the log has the debug line of the link.
            (false, _) => self.porter.refused(
                login,
                login.user_name.as_deref(),
                ReasonCode::BadUserNameOrPassword,
                "a user nobody knows, or no password",
            ),
        }
    }
}

fn held_up(held: Held) -> Step {
    match held {
        Held::Address => Step::Refuse(ReasonCode::Banned, "too many failed logins from this address"),
        Held::User => {
            Step::Refuse(ReasonCode::Banned, "too many failed logins of this user, and some from this address")
        }
    }
}

impl Authenticator for Chain {
    fn begin(&self, login: Login) -> Pending {
        Box::pin(self.clone().ask(login))
    }
}

/// An exchange whose failures count, and whose steps are counted.
struct Watch {
    exchange: Box<dyn Exchange>,
    porter: Porter,
    login: Arc<Login>,
    user: Option<Box<str>>,
    step: u32,
}

impl Exchange for Watch {
    fn proceed(self: Box<Self>, data: Option<Box<[u8]>>) -> Pending {
        let Self { exchange, porter, login, user, step } = *self;
        Box::pin(async move {
            if step >= STEPS_MAX {
                return porter.refused(&login, user.as_deref(), ReasonCode::QuotaExceeded, "an endless authentication");
            }
            if let Some(held) = porter.held(&login, user.as_deref()) {
                return held_up(held);
            }
            match exchange.proceed(data).await {
                Step::Refuse(reason, why) => porter.refused(&login, user.as_deref(), reason, why),
                Step::Challenge { data, exchange } => {
                    let watch = Self { exchange, porter, login, user, step: step + 1 };
                    Step::Challenge { data, exchange: Box::new(watch) }
                }
                accept @ Step::Accept { .. } => accept,
            }
        })
    }
}
