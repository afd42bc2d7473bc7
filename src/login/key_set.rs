//! Keys of tokens that live at a URL. They are fetched at the start, now and then, and when a token names one that is not
//! there; the last good set stays in force while the server fails.
//!
//! A thread of its own fetches. A login that lacks a key waits for it, in bounded time; nothing else does.

use super::chain::Porter;
use super::fetch::{Failure, NotAUrl, Server, Url};
use super::jwt::{Key, keys_of_others};
use super::waiting::Waiting;
use crate::codec::Moment;
use crate::notice::{Limited, Outcomes, Outside, Permit};
use arc_swap::ArcSwapOption;
use http_body_util::Full;
use hyper::Request;
use parking_lot::Mutex;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use thiserror::Error;
use tokio::sync::{Notify, watch};

/// Where a set of keys is, and how fresh it has to be.
#[derive(Clone, Debug)]
pub struct KeySetSettings {
    pub url: Url,
    /// From one time that it is fetched to the next.
    pub refresh: Duration,
    /// For one answer.
    pub timeout: Duration,
    /// Logins that wait for a key; further ones do not wait.
    pub waiting_max: usize,
}

/// The set, and the thread that keeps it fresh, which ends when this is dropped.
pub struct KeySet {
    shared: Arc<Shared>,
    handle: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    server: Server,
    settings: KeySetSettings,
    porter: Porter,
    /// `None`: none has been fetched yet.
    keys: ArcSwapOption<Vec<Key>>,
    attempts: watch::Sender<Attempts>,
    /// Wakes the thread.
    call: Notify,
    is_over: AtomicBool,
    waiting: AtomicUsize,
    outcomes: Arc<Outcomes>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Attempts {
    /// Another one shall begin. The beginning of one takes this back in the same step, so that whoever wished for one that is
    /// not under way yet never gets two.
    is_wanted: bool,
    is_under_way: bool,
    done: u64,
    last_began: Option<Moment>,
}

/// Largest set, in bytes.
const SET_SIZE_MAX: usize = 1 << 20;
/// From one time that tokens have a set fetched to the next, and from a failure to the next attempt; less where `refresh` is.
const GAP: Duration = Duration::from_secs(30);
/// A server that fails is spoken of no more often than this.
static FAILED: Limited = Limited::new(1);

/// Why keys were not taken. It continues a sentence that begins with the name of the server.
#[derive(Debug, Error)]
enum Trouble {
    #[error("{0}")]
    Fetch(#[from] Failure),
    #[error("did not answer in time")]
    Late,
    #[error("gave a set of keys that is not taken: {0}")]
    Set(String),
}

impl KeySet {
    /// Fetches nothing yet.
    ///
    /// # Errors
    /// The URL or the file of authorities cannot be used.
    pub fn new(settings: KeySetSettings, porter: Porter) -> Result<Self, NotAUrl> {
        let shared = Arc::new(Shared {
            server: Server::new(&settings.url)?,
            settings,
            porter,
            keys: ArcSwapOption::empty(),
            attempts: watch::Sender::default(),
            call: Notify::new(),
            is_over: AtomicBool::new(false),
            waiting: AtomicUsize::new(0),
            outcomes: Arc::default(),
        });
        Ok(Self { shared, handle: Mutex::default() })
    }

    /// Begins to fetch, and does not wait for it. Once is enough.
    ///
    /// # Errors
    /// The system has no thread or no epoll for us.
    pub(super) fn start(&self) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let fetching = Arc::clone(&self.shared);
        let handle = std::thread::Builder::new().name("waypost-keys".to_owned()).spawn(move || {
            runtime.block_on(fetching.keep_fresh());
            runtime.shutdown_background(); // a name that is being looked up is not waited for
        })?;
        *self.handle.lock() = Some(handle);
        Ok(())
    }

    /// `None`: none has been fetched yet.
    pub(super) fn keys(&self) -> Option<Arc<Vec<Key>>> {
        self.shared.keys.load_full()
    }

    /// How often a set was fetched and taken, and how often not.
    pub fn outcomes(&self) -> &Arc<Outcomes> {
        &self.shared.outcomes
    }

    /// Reads again who may have issued the server's certificate, and has the set fetched.
    ///
    /// # Errors
    /// The file cannot be used; then the former authorities stay.
    pub fn reload(&self) -> Result<(), NotAUrl> {
        let reloaded = self.shared.server.reload();
        self.refresh();
        reloaded
    }

    /// Has it fetched now, whenever the last time was.
    fn refresh(&self) {
        self.shared.attempts.send_modify(|attempts| attempts.is_wanted = true);
        self.shared.call.notify_one();
    }

    /// Comes back when the set has been fetched again, at once where it is too early for that or too many wait.
    pub(super) async fn fresher(&self) {
        let shared = &self.shared;
        let Some(_waiting) = Waiting::among(&shared.waiting, shared.settings.waiting_max) else { return };
        let mut attempts = shared.attempts.subscribe();
        let (mut done, mut will_come) = (0, false);
        shared.attempts.send_if_modified(|now| {
            let is_new = !now.is_under_way && !now.is_wanted && shared.is_due(*now);
            now.is_wanted |= is_new;
            (done, will_come) = (now.done, now.is_under_way || now.is_wanted);
            is_new
        });
        if !will_come {
            return;
        }
        shared.call.notify_one();
        // What an attempt may take, and a little for its thread.
        let patience = shared.settings.timeout + Duration::from_millis(500);
        let _ = tokio::time::timeout(patience, attempts.wait_for(|attempts| attempts.done > done)).await;
    }
}

impl Drop for KeySet {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        self.shared.call.notify_one();
        if let Some(handle) = self.handle.get_mut().take() {
            let _ = handle.join(); // if it has panicked, the log says so
        }
    }
}

impl Shared {
    async fn keep_fresh(&self) {
        while !self.is_over.load(Ordering::Relaxed) {
            let is_good = tokio::select! {
                is_good = self.attempt() => is_good,
                () = self.over() => return,
            };
            let pause = if is_good { self.settings.refresh } else { self.gap() };
            let _ = tokio::time::timeout(pause, self.wanted()).await;
        }
    }

    async fn attempt(&self) -> bool {
        self.attempts.send_modify(|attempts| {
            attempts.is_wanted = false;
            attempts.is_under_way = true;
            attempts.last_began = Some(self.porter.now());
        });
        let fetched = tokio::time::timeout(self.settings.timeout, self.fetch()).await.unwrap_or(Err(Trouble::Late));
        let is_good = match self.outcomes.note(fetched) {
            Ok(keys) => {
                tracing::debug!(target: "waypost::login", server = %self.server.name(), keys = keys.len(), "keys of tokens fetched");
                self.keys.store(Some(Arc::new(keys)));
                true
            }
            Err(trouble) => {
                self.tell(&trouble);
                false
            }
        };
        self.attempts.send_modify(|attempts| {
            attempts.is_under_way = false;
            attempts.done += 1;
        });
        is_good
    }

    async fn fetch(&self) -> Result<Vec<Key>, Trouble> {
        let body = self.server.ask(Request::new(Full::default()), SET_SIZE_MAX).await?;
        keys_of_others(&body).map_err(Trouble::Set)
    }

    fn tell(&self, trouble: &Trouble) {
        let Permit::Log { suppressed } = FAILED.permit(self.porter.now().as_millis()) else { return };
        let trouble = trouble.to_string();
        let then = match self.keys.load().as_ref() {
            Some(_) => "the former keys stay in force",
            None => "there are no keys of it yet, and tokens that need one are refused",
        };
        tracing::warn!(
            target: "waypost::login",
            server = %self.server.name(),
            suppressed,
            "the server of {} {}; {then}",
            self.settings.url.key,
            Outside::of(&trouble)
        );
    }

    /// Comes back when somebody wants it fetched, or when it is over.
    async fn wanted(&self) {
        while !self.attempts.borrow().is_wanted && !self.is_over.load(Ordering::Relaxed) {
            self.call.notified().await;
        }
    }

    async fn over(&self) {
        while !self.is_over.load(Ordering::Relaxed) {
            self.call.notified().await;
        }
    }

    fn gap(&self) -> Duration {
        GAP.min(self.settings.refresh)
    }

    fn is_due(&self, attempts: Attempts) -> bool {
        attempts.last_began.is_none_or(|began| self.porter.now() >= began.plus(self.gap()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::jwt::{JwtLink, TokenRules, Tokens};
    use super::super::stub::{Authority, Stub, gone, hold, wait_for};
    use super::{KeySet, KeySetSettings, SET_SIZE_MAX, Url};
    use crate::access::Login;
    use crate::codec::{Moment, ReasonCode};
    use crate::login::{Answer, Link, Patience, Porter, Throttle};
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
    use base64ct::{Base64UrlUnpadded, Encoding};
    use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
    use serde_json::{Value, json};
    use std::io::{Read, Write};
    use std::path::PathBuf;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    /// A key with a name, as the server publishes it and as a token is signed with it.
    struct Pair {
        name: &'static str,
        private: EncodingKey,
        published: Value,
    }

    impl Pair {
        fn new(name: &'static str) -> Self {
            let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("a key");
            let pair = Ed25519KeyPair::from_pkcs8(document.as_ref()).expect("a key");
            let x = Base64UrlUnpadded::encode_string(pair.public_key().as_ref());
            let published = json!({"kty": "OKP", "crv": "Ed25519", "kid": name, "x": x, "alg": "EdDSA"});
            Self { name, private: EncodingKey::from_ed_der(document.as_ref()), published }
        }

        fn token(&self, user: &str) -> String {
            let header = Header { kid: Some(self.name.to_owned()), ..Header::new(Algorithm::EdDSA) };
            encode(&header, &json!({"sub": user, "exp": 2_000}), &self.private).expect("a token")
        }
    }

    fn answer(status: &str, body: &str) -> Vec<u8> {
        format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
    }

    fn published(pairs: &[&Pair]) -> Vec<u8> {
        let keys: Vec<&Value> = pairs.iter().map(|pair| &pair.published).collect();
        answer("200 OK", &json!({ "keys": keys }).to_string())
    }

    /// Somebody who lets in who has a token, by a clock of the test's.
    struct House {
        link: JwtLink,
        tokens: Arc<Tokens>,
        porter: Porter,
        now_ms: Arc<AtomicU64>,
        outcomes: Arc<crate::notice::Outcomes>,
    }

    impl House {
        fn new(url: String) -> Self {
            Self::with(url, None, Duration::from_secs(20))
        }

        fn with(url: String, ca_file: Option<PathBuf>, timeout: Duration) -> Self {
            let now_ms = Arc::new(AtomicU64::new(0));
            let clock = Arc::clone(&now_ms);
            let second = Duration::from_secs(1);
            let patience = Patience { failures_max: 1000, window: second, block_max: second };
            let porter =
                Porter::new(Throttle::new(patience), move || Moment::from_millis(clock.load(Ordering::Relaxed)));
            let url = Url { key: "jwt.jwks_url", url, ca_key: "jwt.jwks_ca_file", ca_file };
            // Nothing is fetched for the sake of time: tests that wait for time are slow.
            let settings = KeySetSettings { url, refresh: Duration::from_secs(3600), timeout, waiting_max: 10 };
            let set = KeySet::new(settings, porter.clone()).expect("a URL");
            let outcomes = Arc::clone(set.outcomes());
            let rules = TokenRules { user_claim: "sub".to_owned(), ..TokenRules::default() };
            let tokens = Arc::new(Tokens::load(rules, Vec::new(), Some(set)).expect("there is no file"));
            tokens.start().expect("a thread");
            let link = JwtLink::new(Arc::clone(&tokens), || 1_000.0);
            Self { link, tokens, porter, now_ms, outcomes }
        }

        fn pass(&self, seconds: u64) {
            self.now_ms.fetch_add(seconds * 1000, Ordering::Relaxed);
        }

        fn lets_in(&self, token: &str) -> Result<String, ReasonCode> {
            let login = Login { client_id: "c".into(), password: Some(token.as_bytes().into()), ..Login::default() };
            match wait_for(self.link.ask(&self.porter, &Arc::new(login))) {
                Answer::Accept { identity, .. } => Ok(identity.proven_name().expect("it has shown its name").into()),
                Answer::Deny { reason, .. } => Err(reason),
                Answer::NotMine | Answer::Challenge { .. } => unreachable!("it is a token"),
            }
        }

        /// Waits until so many attempts have come to an end.
        #[track_caller]
        fn has_fetched(&self, well: u64, badly: u64) {
            let mut attempts = self.tokens.set().expect("it has one").shared.attempts.subscribe();
            let enough = attempts.wait_for(|attempts| !attempts.is_under_way && attempts.done >= well + badly);
            wait_for(async { drop(enough.await.expect("the set is there")) });
            assert_eq!((self.outcomes.well.get(), self.outcomes.badly.get()), (well, badly));
        }
    }

    const ALICE: Result<&str, &ReasonCode> = Ok("alice");
    const NO: Result<String, ReasonCode> = Err(ReasonCode::BadUserNameOrPassword);
    const DOUBT: Result<String, ReasonCode> = Err(ReasonCode::ServerUnavailable);

    #[test]
    fn a_token_waits_for_the_first_set_and_for_the_next_one_when_keys_rotate() {
        let (old, new, forged) = (Pair::new("old"), Pair::new("new"), Pair::new("new"));
        let stub = Stub::answering(vec![published(&[&old]), published(&[&old, &new]), published(&[&new])]);
        let house = House::new(stub.url());
        assert_eq!(house.lets_in(&old.token("alice")).as_deref(), ALICE, "the first login waits for the keys");
        assert_eq!(house.lets_in(&new.token("alice")), NO, "too early to ask for another key");
        assert_eq!(stub.asked.try_iter().count(), 1);
        house.pass(30);
        assert_eq!(house.lets_in(&new.token("alice")).as_deref(), ALICE, "fetched because a token named it");
        assert_eq!(house.lets_in(&old.token("alice")).as_deref(), ALICE);
        house.pass(30);
        assert_eq!(house.lets_in(&forged.token("mallory")), NO, "the name is known, and so its key is");
        assert_eq!(stub.asked.try_iter().count(), 1);
        assert_eq!(house.lets_in(&Pair::new("newest").token("mallory")), NO, "fetched, and it is not there");
        assert_eq!(stub.asked.try_iter().count(), 1);
        assert_eq!(house.lets_in(&old.token("alice")), NO, "the old key was withdrawn");
        assert_eq!(house.lets_in(&new.token("alice")).as_deref(), ALICE);
    }

    #[test]
    fn keys_stay_in_force_while_the_server_fails() {
        let (key, other) = (Pair::new("key"), Pair::new("other"));
        let secret = json!({"keys": [{"kty": "oct", "kid": "other", "k": Base64UrlUnpadded::encode_string(&[7; 32])}]});
        let huge = format!("{{\"keys\": [], \"x\": \"{}\"}}", "x".repeat(SET_SIZE_MAX));
        let failing = vec![
            answer("500 Oops", ""),
            answer("302 Found", ""),
            answer("200 OK", "<html>"),
            answer("200 OK", "{\"keys\": []}"),
            answer("200 OK", &"[".repeat(100_000)),
            answer("200 OK", &huge),
            answer("200 OK", &secret.to_string()), // what everybody can read is no secret
            b"nonsense".to_vec(),
            Vec::new(),
        ];
        let count = failing.len() as u64;
        let answers = [vec![published(&[&key])], failing, vec![published(&[&other])]].concat();
        let stub = Stub::answering(answers);
        let house = House::new(stub.url());
        assert_eq!(house.lets_in(&key.token("alice")).as_deref(), ALICE);
        for attempt in 1..=count {
            house.pass(30);
            assert_eq!(house.lets_in(&other.token("alice")), NO, "{attempt}");
            house.has_fetched(1, attempt);
            assert_eq!(house.lets_in(&key.token("alice")).as_deref(), ALICE, "{attempt}");
        }
        house.pass(30);
        assert_eq!(house.lets_in(&other.token("alice")).as_deref(), ALICE, "it is back");
        // And gone for good.
        house.pass(30);
        assert_eq!(house.lets_in(&key.token("alice")), NO);
        assert_eq!(house.lets_in(&other.token("alice")).as_deref(), ALICE);
    }

    #[test]
    fn without_any_set_there_is_doubt_and_no_token_is_good() {
        let key = Pair::new("key");
        let house = House::new(format!("http://{}/", gone()));
        assert_eq!(house.lets_in(&key.token("alice")), DOUBT);
        assert_eq!(house.lets_in(&key.token("alice")), DOUBT, "nor is it tried for each of them");
        house.has_fetched(0, 1);
        let stub = Stub::answering(vec![answer("404 Not Found", ""), published(&[&key])]);
        let house = House::new(stub.url());
        assert_eq!(house.lets_in(&key.token("alice")), DOUBT);
        house.pass(30);
        assert_eq!(house.lets_in(&key.token("alice")).as_deref(), ALICE);
    }

    #[test]
    fn a_server_that_is_slow_is_not_waited_for_without_end() {
        let key = Pair::new("key");
        let stub = Stub::serving(|listener, _| {
            // One says nothing, and one stops in the middle of its answer, for as long as anybody listens.
            let mut silent = hold(listener);
            let mut slow = hold(listener);
            let _ = slow.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{\"keys\":");
            for link in [&mut silent, &mut slow] {
                let _ = link.read_to_end(&mut Vec::new());
            }
        });
        let house = House::with(stub.url(), None, Duration::from_millis(200));
        for attempt in 1..=2 {
            assert_eq!(house.lets_in(&key.token("alice")), DOUBT);
            house.has_fetched(0, attempt);
            house.pass(30);
        }
    }

    #[test]
    fn a_set_is_fetched_when_somebody_asks_for_it() {
        let (old, new) = (Pair::new("old"), Pair::new("new"));
        let stub = Stub::answering(vec![published(&[&old]), published(&[&new])]);
        let house = House::new(stub.url());
        house.has_fetched(1, 0);
        house.tokens.set().expect("it has one").reload().expect("there is no file");
        house.has_fetched(2, 0);
        assert_eq!(house.lets_in(&new.token("alice")).as_deref(), ALICE);
    }

    #[test]
    fn keys_over_tls_come_from_a_trusted_server() {
        let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
        let key = Pair::new("key");
        for (server, expected) in
            [(ours.server("localhost"), ALICE), (theirs.server("localhost"), Err(&ReasonCode::ServerUnavailable))]
        {
            let stub = Stub::over_tls(vec![published(&[&key])], server);
            let url = format!("https://localhost:{}/keys", stub.port());
            let house = House::with(url, Some(ours.file()), Duration::from_secs(20));
            assert_eq!(house.lets_in(&key.token("alice")).as_deref(), expected);
        }
    }
}
