//! Builds each listener's chain out of the configuration, and reads again what it judges by.

use crate::access::{Access, Accounts};
use crate::config::{self, Config, Method};
use crate::login::{
    CertificateLink, Chain, Hashing, Link, NotLoaded, PasswordLink, Passwords, Patience, Porter, Throttle,
};
use crate::net::Clock;
use std::sync::Arc;
use thiserror::Error;

/// What the chains of all listeners share.
pub(super) struct Logins {
    porter: Porter,
    hashing: Arc<Hashing>,
    passwords: Option<Arc<Passwords>>,
}

/// Why nobody could be recognised. Nothing is left behind.
#[derive(Debug, Error)]
pub enum LoginsError {
    #[error("{0}")]
    Passwords(#[from] NotLoaded),
}

impl Logins {
    /// Reads every file that a listener's `authentication` needs, and no other.
    ///
    /// # Errors
    /// The first that cannot be used.
    pub(super) fn prepare(config: &Config, clock: Clock) -> Result<Self, LoginsError> {
        let limits = &config.limits;
        let is_used = |method| config.listeners.iter().any(|listener| listener.methods().contains(&method));
        let passwords = match &config.password.file {
            Some(file) if is_used(Method::Password) || is_used(Method::Scram) => Some(Arc::new(Passwords::load(file)?)),
            _ => None,
        };
        let patience = Patience {
            failures_max: limits.failed_logins_max,
            window: limits.failed_logins_window,
            block_max: limits.failed_login_block_max,
        };
        let at_work = match limits.password_hashes_max {
            0 => std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).max(1)),
            max => max,
        };
        Ok(Self {
            porter: Porter::new(Throttle::new(patience), move || clock.now()),
            hashing: Arc::new(Hashing::new(at_work, limits.logins_waiting_max)),
            passwords,
        })
    }

    pub(super) fn chain(&self, listener: &config::Listener) -> Chain {
        let links = listener.methods().iter().filter_map(|method| self.link(*method)).collect();
        Chain::new(links, listener.lets_anyone_in(), self.porter.clone())
    }

    /// `None` cannot be: the configuration demands the section that a method needs.
    fn link(&self, method: Method) -> Option<Arc<dyn Link>> {
        match method {
            Method::Certificate => Some(Arc::new(CertificateLink)),
            Method::Password => {
                let passwords = Arc::clone(self.passwords.as_ref()?);
                Some(Arc::new(PasswordLink::new(passwords, Arc::clone(&self.hashing))))
            }
            Method::Scram | Method::Jwt | Method::Http => None,
        }
    }

    /// Rights that know which accounts there are.
    pub(super) fn known_to(&self, access: Access) -> Access {
        match &self.passwords {
            Some(passwords) => access.with_accounts(Arc::clone(passwords) as Arc<dyn Accounts>),
            None => access,
        }
    }

    /// Reads all files again; what cannot be read leaves the former in force, and the log says so.
    pub(super) fn reload(&self) {
        let Some(passwords) = &self.passwords else { return };
        let path = passwords.path().display();
        match passwords.reload() {
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
}
