//! Users of a test: who they are and what they know. They come and go while the broker runs.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use waypost::access::{Accounts, Authenticator, Identity, Login, Pending, Proof, Step, Token};
use waypost::codec::ReasonCode;

/// A register of users. Whoever names none is let in without a name. Clones are the same register.
#[derive(Clone, Default)]
pub struct People(Arc<Mutex<Register>>);

#[derive(Default)]
struct Register {
    accounts: BTreeMap<String, Account>,
    listener: Option<Arc<str>>,
    address: Option<IpAddr>,
    /// Logins are not answered before somebody asks for it.
    slow: bool,
    /// Each listener has users of its own.
    apart: bool,
}

struct Account {
    password: Vec<u8>,
    token: Option<Token>,
}

impl People {
    /// Each has its name as its password.
    pub fn named(names: &[&str]) -> Self {
        let people = Self::default();
        for name in names {
            people.admit(name, name.as_bytes());
        }
        people
    }

    /// A new account, or another password for one that there is.
    pub fn admit(&self, name: &str, password: &[u8]) {
        self.lock().accounts.insert(name.to_owned(), Account { password: password.to_vec(), token: None });
    }

    pub fn remove(&self, name: &str) {
        self.lock().accounts.remove(name);
    }

    /// What the bearer's token says from its next login on.
    pub fn give_token(&self, name: &str, token: Token) {
        if let Some(account) = self.lock().accounts.get_mut(name) {
            account.token = Some(token);
        }
    }

    /// Whoever comes next comes through this listener, or from this address.
    pub fn come_through(&self, listener: &str) {
        self.lock().listener = Some(listener.into());
    }

    pub fn come_from(&self, address: IpAddr) {
        self.lock().address = Some(address);
    }

    /// Users of one listener are others than those of the same name at another.
    pub fn are_apart_by_listener(&self) {
        self.lock().apart = true;
    }

    /// From now on a login is judged at once and its answer comes when [`People::answer`] is called.
    pub fn take_their_time(&self) {
        self.lock().slow = true;
    }

    pub fn answer(&self) {
        self.lock().slow = false;
    }

    fn lock(&self) -> MutexGuard<'_, Register> {
        self.0.lock().expect("no test panics in here")
    }
}

fn mark(password: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    password.hash(&mut hasher);
    hasher.finish()
}

impl Authenticator for People {
    fn begin(&self, login: Login) -> Pending {
        let register = self.lock();
        let refused = Step::Refuse(ReasonCode::BadUserNameOrPassword, "an unknown user or a wrong password");
        let step = match &login.user_name {
            None => accepted(Identity::default(), &register),
            Some(name) => match register.accounts.get(&**name) {
                Some(account) if login.password.as_deref() == Some(&account.password) => {
                    let identity = Identity {
                        token: account.token.clone().map(Box::new),
                        ..Identity::proven(name, Proof::Password(mark(&account.password)))
                    };
                    accepted(identity, &register)
                }
                _ => refused,
            },
        };
        let (people, mut step) = (self.clone(), Some(step));
        Box::pin(std::future::poll_fn(move |_| {
            if people.lock().slow {
                return std::task::Poll::Pending;
            }
            std::task::Poll::Ready(step.take().expect("asked once"))
        }))
    }
}

fn accepted(identity: Identity, register: &Register) -> Step {
    let identity = Identity { listener: register.listener.clone(), address: register.address, ..identity };
    Step::Accept { identity, data: None }
}

impl Accounts for People {
    fn knows(&self, who: &Identity) -> bool {
        let (Proof::Password(proof), Some(name)) = (who.proof, &who.user_name) else { return true };
        self.lock().accounts.get(&**name).is_some_and(|account| mark(&account.password) == proof)
    }

    fn are_one(&self, one: &Identity, other: &Identity) -> bool {
        one.user_name == other.user_name && (!self.lock().apart || one.listener == other.listener)
    }
}
