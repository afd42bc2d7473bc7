//! Builds each listener's chain out of the configuration, and reads again what it judges by.

use crate::access::{Access, Accounts};
use crate::admin::Reloads;
use crate::config::{self, Config, Method};
use crate::login::{
    CertificateLink, Chain, Hashing, HttpLink, HttpSettings, JwtLink, KeyFile, KeySet, KeySetSettings, KeysNotLoaded,
    Link, NotAService, NotAUrl, NotLoaded, PasswordFiles, PasswordLink, Passwords, Patience, Porter, ScramLink,
    Throttle, TokenRules, Tokens, Url,
};
use crate::net::Clock;
use crate::notice::{Outcomes, Tally};
use jsonwebtoken::Algorithm;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use thiserror::Error;

/// For one answer of the server that has keys of tokens; logins may wait for it.
const KEY_SET_TIMEOUT: Duration = Duration::from_secs(5);

/// What the chains of all listeners share.
pub(super) struct Logins {
    porter: Porter,
    hashing: Arc<Hashing>,
    passwords: Arc<PasswordFiles>,
    tokens: Option<Arc<Tokens>>,
    key_set: Option<Arc<Outcomes>>,
    service: Option<Arc<HttpLink>>,
}

/// Why nobody could be recognised. Nothing is left behind.
#[derive(Debug, Error)]
pub enum LoginsError {
    #[error("{0}")]
    Passwords(#[from] NotLoaded),
    #[error("{0}")]
    Keys(#[from] KeysNotLoaded),
    #[error("{0}")]
    KeySet(#[from] NotAUrl),
    #[error("{0}")]
    Service(#[from] NotAService),
}

impl Logins {
    /// Reads every file that a listener's `authentication` needs, and no other.
    ///
    /// # Errors
    /// The first that cannot be used.
    pub(super) fn prepare(config: &Config, clock: Clock) -> Result<Self, LoginsError> {
        let limits = &config.limits;
        let is_used = |method| config.listeners.iter().any(|listener| listener.methods().contains(&method));
        let asks = |listener: &&config::Listener| {
            listener.methods().iter().any(|method| matches!(method, Method::Password | Method::Scram))
        };
        let mut asking = config.listeners.iter().filter(asks);
        let own = asking.clone().filter_map(|one| Some((one.called(), one.password_file.as_deref()?)));
        let general = config.password.file.as_deref().filter(|_| asking.any(|one| one.password_file.is_none()));
        let passwords = Arc::new(PasswordFiles::load(general, own)?);
        let patience = Patience {
            failures_max: limits.failed_logins_max,
            window: limits.failed_logins_window,
            block_max: limits.failed_login_block_max,
        };
        let at_work = match limits.password_hashes_max {
            0 => std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).max(1)),
            max => max,
        };
        let porter = Porter::new(Throttle::new(patience), move || clock.now());
        let (mut tokens, mut key_set) = (None, None);
        if is_used(Method::Jwt) {
            let set = key_set_of(config).map(|settings| KeySet::new(settings, porter.clone())).transpose()?;
            key_set = set.as_ref().map(|set| Arc::clone(set.outcomes()));
            tokens = Some(Arc::new(tokens_of(&config.jwt, set)?));
        }
        Ok(Self {
            porter,
            hashing: Arc::new(Hashing::new(at_work, limits.logins_waiting_max)),
            passwords,
            service: if is_used(Method::Http) { service(config)? } else { None },
            tokens,
            key_set,
        })
    }

    /// Starts what does not wait to be asked.
    ///
    /// # Errors
    /// The system has no thread for it.
    pub(super) fn start(&self) -> io::Result<()> {
        self.tokens.as_ref().map_or(Ok(()), |tokens| tokens.start())
    }

    pub(super) fn chain(&self, listener: &config::Listener) -> Chain {
        let passwords = self.passwords.at(Some(&listener.called()));
        let links = listener.methods().iter().filter_map(|method| self.link(*method, passwords)).collect();
        Chain::new(links, listener.lets_anyone_in(), self.porter.clone())
    }

    /// `None` cannot be: the configuration demands the section that a method needs.
    fn link(&self, method: Method, passwords: Option<&Arc<Passwords>>) -> Option<Arc<dyn Link>> {
        match method {
            Method::Certificate => Some(Arc::new(CertificateLink)),
            Method::Password => Some(Arc::new(PasswordLink::new(Arc::clone(passwords?), Arc::clone(&self.hashing)))),
            Method::Scram => Some(Arc::new(ScramLink::new(Arc::clone(passwords?)))),
            Method::Jwt => Some(Arc::new(JwtLink::new(Arc::clone(self.tokens.as_ref()?), wall_clock))),
            Method::Http => Some(Arc::clone(self.service.as_ref()?) as Arc<dyn Link>),
        }
    }

    /// Rights that know which accounts there are.
    pub(super) fn known_to(&self, access: Access) -> Access {
        match self.passwords.each().next() {
            Some(_) => access.with_accounts(Arc::clone(&self.passwords) as Arc<dyn Accounts>),
            None => access,
        }
    }

    /// What came of fetching keys, if they are fetched.
    pub(super) fn key_set(&self) -> Option<&Arc<Outcomes>> {
        self.key_set.as_ref()
    }

    /// Logins that have failed.
    pub(super) fn failed(&self) -> &Arc<Tally> {
        self.porter.failed()
    }

    /// Reads all files again; what cannot be read leaves the former in force, and the log says so.
    pub(super) fn reload(&self, reloads: &Reloads) {
        if let Some(tokens) = &self.tokens {
            match reloads.keys.note(tokens.reload()) {
                Ok(keys) => tracing::info!(target: "waypost::login", keys, "keys of tokens read again"),
                Err(error) => tracing::error!(target: "waypost::login", "{error}; the former keys stay in force"),
            }
        }
        let service = self.service.as_ref().map(|service| service.reload());
        let set = self.tokens.as_ref().and_then(|tokens| tokens.set()).map(KeySet::reload);
        for reloaded in service.into_iter().chain(set) {
            if let Err(error) = reloads.authorities.note(reloaded) {
                tracing::error!(target: "waypost::login", "{error}; the former authorities stay in force");
            }
        }
        self.passwords.each().for_each(|passwords| reload_passwords(passwords, reloads));
    }
}

fn reload_passwords(passwords: &Passwords, reloads: &Reloads) {
    let path = passwords.path().display();
    match reloads.passwords.note(passwords.reload()) {
        Ok(()) => {
            let users = passwords.current().len();
            tracing::info!(target: "waypost::login", file = %path, users, "password file read again");
        }
        Err(error) => {
            for line in error.to_string().lines() {
                tracing::error!(target: "waypost::login", "{line}");
            }
            tracing::error!(target: "waypost::login", file = %path, "password file not taken; the former one stays in force");
        }
    }
}

fn key_set_of(config: &Config) -> Option<KeySetSettings> {
    let jwt = &config.jwt;
    Some(KeySetSettings {
        url: Url {
            key: "jwt.jwks_url",
            url: jwt.jwks_url.clone()?,
            ca_key: "jwt.jwks_ca_file",
            ca_file: jwt.jwks_ca_file.clone(),
        },
        refresh: jwt.jwks_refresh,
        timeout: KEY_SET_TIMEOUT,
        waiting_max: config.limits.logins_waiting_max,
    })
}

fn tokens_of(jwt: &config::Jwt, set: Option<KeySet>) -> Result<Tokens, KeysNotLoaded> {
    let rules = TokenRules {
        issuer: jwt.issuer.clone(),
        audience: jwt.audience.clone(),
        user_claim: jwt.user_claim.clone(),
        client_id_claim: jwt.client_id_claim.clone(),
        publish_claim: jwt.publish_claim.clone(),
        subscribe_claim: jwt.subscribe_claim.clone(),
        leeway: jwt.leeway,
    };
    let bare = jwt.key_file.clone().zip(jwt.algorithm).map(|(path, algorithm)| {
        let algorithm = match algorithm {
            config::Algorithm::Hs256 => Algorithm::HS256,
            config::Algorithm::Rs256 => Algorithm::RS256,
            config::Algorithm::Es256 => Algorithm::ES256,
            config::Algorithm::EdDsa => Algorithm::EdDSA,
        };
        KeyFile::Bare(path, algorithm)
    });
    let file = jwt.jwks_file.clone().map(KeyFile::Set);
    Tokens::load(rules, bare.into_iter().chain(file).collect(), set)
}

fn service(config: &Config) -> Result<Option<Arc<HttpLink>>, NotAService> {
    let http = &config.http_login;
    let Some(url) = http.url.clone() else { return Ok(None) };
    let link = HttpLink::new(HttpSettings {
        url: Url { key: "http_login.url", url, ca_key: "http_login.ca_file", ca_file: http.ca_file.clone() },
        authorization: http.authorization.clone(),
        timeout: http.timeout,
        requests_max: http.requests_max,
        waiting_max: config.limits.logins_waiting_max,
        cache_time: http.cache_time,
        cache_entries_max: http.cache_entries_max,
        failures_max: http.failures_max,
        pause: http.pause,
    })?;
    Ok(Some(Arc::new(link)))
}

/// Seconds since 1970.
#[expect(clippy::disallowed_methods, reason = "tokens expire by the clock on the wall")]
pub(super) fn wall_clock() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}
