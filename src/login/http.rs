//! A service of the operator's is asked about logins, by HTTP. It is somebody else's program: it may be slow, gone or wrong, and
//! each of that is a no. What is asked are passwords: over plain HTTP it belongs on this machine or in a trusted network. How a
//! request is made is in `fetch.rs`.

use super::chain::{Answer, Asked, Link, Porter};
use super::fetch::{Failure, NotAUrl, Server, Url};
use super::waiting::Waiting;
use crate::access::{Identity, Login, Proof};
use crate::codec::{Moment, ReasonCode};
use crate::notice::{LINES_PER_SECOND_MAX, Limited, Outside, Permit};
use aws_lc_rs::hmac;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::{HashSet, VecDeque};
use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;
use thiserror::Error;
use tokio::sync::Semaphore;

/// Which service is asked, and how patiently.
#[derive(Clone)]
pub struct HttpSettings {
    pub url: Url,
    pub authorization: Option<String>,
    /// For one answer, the wait for a free request included.
    pub timeout: Duration,
    pub requests_max: usize,
    /// Logins that wait for a free request; further ones are refused.
    pub waiting_max: usize,
    /// Zero: nothing is remembered.
    pub cache_time: Duration,
    pub cache_entries_max: usize,
    pub failures_max: u32,
    pub pause: Duration,
}

/// Why a service cannot be asked.
#[derive(Debug, Error)]
pub enum NotAService {
    #[error("{0}")]
    Url(#[from] NotAUrl),
    #[error("http_login.authorization is not what a header may hold")]
    Authorization,
}

/// Asks the service.
pub struct HttpLink {
    service: Arc<Service>,
}

struct Service {
    server: Server,
    authorization: Option<HeaderValue>,
    settings: HttpSettings,
    free: Semaphore,
    waiting: AtomicUsize,
    /// What a login is remembered by: nobody can tell a password from it.
    key: hmac::Key,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    known: Known,
    failures: u32,
    /// Until then the service is left alone.
    resting_until: Moment,
}

/// Logins that were allowed, the oldest first; all are remembered equally long.
#[derive(Default)]
struct Known {
    marks: HashSet<Mark>,
    order: VecDeque<(Moment, Mark)>,
}

type Mark = [u8; 32];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Allow,
    Deny,
    Ignore,
}

/// Largest answer, in bytes.
const ANSWER_SIZE_MAX: usize = 64 << 10;
/// Longest password that is passed on, in bytes.
const PASSWORD_SIZE_MAX: usize = 16 << 10;

impl HttpLink {
    /// # Errors
    /// What of the settings cannot be used. The service itself is not asked before somebody comes.
    pub fn new(settings: HttpSettings) -> Result<Self, NotAService> {
        let server = Server::new(&settings.url)?;
        let authorization = settings.authorization.as_deref().map(HeaderValue::try_from).transpose();
        let mut authorization = authorization.map_err(|_| NotAService::Authorization)?;
        if let Some(secret) = &mut authorization {
            secret.set_sensitive(true);
        }
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &aws_lc_rs::rand::SystemRandom::new());
        let service = Service {
            server,
            authorization,
            free: Semaphore::new(settings.requests_max.clamp(1, Semaphore::MAX_PERMITS)),
            waiting: AtomicUsize::new(0),
            key: key.expect("the system has random numbers; without them nothing may be remembered"),
            state: Mutex::default(),
            settings,
        };
        Ok(Self { service: Arc::new(service) })
    }
}

impl HttpLink {
    /// Reads again who may have issued the service's certificate.
    ///
    /// # Errors
    /// The file cannot be used; then nothing has changed.
    pub fn reload(&self) -> Result<(), NotAUrl> {
        self.service.server.reload()
    }
}

impl Link for HttpLink {
    fn ask(&self, porter: &Porter, login: &Arc<Login>) -> Asked {
        if login.user_name.is_none() && login.password.is_none() {
            return Box::pin(ready(Answer::NotMine));
        }
        let (service, porter, login) = (Arc::clone(&self.service), porter.clone(), Arc::clone(login));
        Box::pin(async move { service.judge(&porter, &login).await })
    }
}

impl Service {
    async fn judge(&self, porter: &Porter, login: &Login) -> Answer {
        let accept = || {
            let user_name = login.user_name.clone();
            let identity = Identity { user_name, proof: Proof::Shown, ..Identity::default() };
            Answer::Accept { identity, data: None }
        };
        let password = login.password.as_deref().unwrap_or_default();
        let Some(password) = std::str::from_utf8(password).ok().filter(|text| text.len() <= PASSWORD_SIZE_MAX) else {
            return Answer::wrong("a password that is not UTF-8 or too long");
        };
        let mark = self.mark(login);
        if self.state.lock().known.has(&mark, porter.now()) {
            return accept();
        }
        let busy = Answer::Deny { reason: ReasonCode::ServerBusy, why: "too many logins wait for the login service" };
        let Some(_waiting) = Waiting::among(&self.waiting, self.settings.waiting_max) else { return busy };
        if !self.state.lock().may_ask(porter.now(), &self.settings) {
            return unavailable("the login service has failed and is left alone for a while");
        }
        let answered = tokio::time::timeout(self.settings.timeout, async {
            let _free = self.free.acquire().await.map_err(|_| Trouble::Late)?;
            self.ask(login, password).await
        });
        let answered = answered.await.unwrap_or(Err(Trouble::Late));
        self.state.lock().note(answered.is_ok(), porter.now(), &self.settings);
        match answered {
            Ok(Verdict::Allow) => {
                self.state.lock().known.add(mark, porter.now(), &self.settings);
                accept()
            }
            Ok(Verdict::Deny) => Answer::wrong("the login service says no"),
            Ok(Verdict::Ignore) => Answer::NotMine,
            Err(trouble) => {
                if let Permit::Log { suppressed } = FAILED.permit(porter.now().as_millis()) {
                    let trouble = trouble.to_string();
                    tracing::warn!(
                        target: "waypost::login",
                        service = %self.server.name(),
                        suppressed,
                        "login refused: the login service {}",
                        Outside::of(&trouble)
                    );
                }
                unavailable("the login service has failed")
            }
        }
    }

    async fn ask(&self, login: &Login, password: &str) -> Result<Verdict, Trouble> {
        verdict(&self.server.ask(self.request(login, password), ANSWER_SIZE_MAX).await?)
    }

    /// Everything that a peer chose goes into a JSON string, where it cannot be anything else.
    fn request(&self, login: &Login, password: &str) -> Request<Full<Bytes>> {
        let body = json!({
            "client_id": login.client_id,
            "user_name": login.user_name,
            "password": login.password.is_some().then_some(password),
            "address": login.address.map(|address| address.to_string()),
            "listener": login.listener.as_deref(),
        });
        let mut request = Request::new(Full::new(Bytes::from(body.to_string())));
        *request.method_mut() = Method::POST;
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(secret) = &self.authorization {
            headers.insert(AUTHORIZATION, secret.clone());
        }
        request
    }

    /// Each part with its length before it: what is two parts cannot be taken for one.
    fn mark(&self, login: &Login) -> Mark {
        let mut context = hmac::Context::with_key(&self.key);
        let address = login.address.map(|address| address.to_string());
        let parts: [Option<&[u8]>; 5] = [
            Some(login.client_id.as_bytes()),
            login.user_name.as_deref().map(str::as_bytes),
            login.password.as_deref(),
            address.as_deref().map(str::as_bytes),
            login.listener.as_deref().map(str::as_bytes),
        ];
        for part in parts {
            context.update(&part.map_or(u64::MAX, |part| part.len() as u64).to_be_bytes());
            context.update(part.unwrap_or_default());
        }
        context.sign().as_ref().try_into().expect("SHA-256 has 32 bytes")
    }
}

/// A service that breaks can be made to break as often as a peer likes.
static FAILED: Limited = Limited::new(LINES_PER_SECOND_MAX);

fn unavailable(why: &'static str) -> Answer {
    Answer::Deny { reason: ReasonCode::ServerUnavailable, why }
}

/// Why there is no verdict. It continues a sentence that begins with the login service.
#[derive(Debug, Error)]
enum Trouble {
    #[error("{0}")]
    Fetch(#[from] Failure),
    #[error("did not answer in time")]
    Late,
    #[error("gave an answer that {0}")]
    Answer(&'static str),
}

fn verdict(body: &[u8]) -> Result<Verdict, Trouble> {
    let answer: Value = serde_json::from_slice(body).map_err(|_| Trouble::Answer("is not JSON"))?;
    match answer.get("result").and_then(Value::as_str) {
        Some("allow") => Ok(Verdict::Allow),
        Some("deny") => Ok(Verdict::Deny),
        Some("ignore") => Ok(Verdict::Ignore),
        _ => Err(Trouble::Answer("has no result that is allow, deny or ignore")),
    }
}

impl State {
    /// When a pause is over, one login is asked about; how that goes decides about the others.
    fn may_ask(&mut self, now: Moment, settings: &HttpSettings) -> bool {
        if self.failures < settings.failures_max {
            return true;
        }
        let is_over = now >= self.resting_until;
        if is_over {
            self.resting_until = now.plus(settings.pause);
        }
        is_over
    }

    fn note(&mut self, has_answered: bool, now: Moment, settings: &HttpSettings) {
        if has_answered {
            self.failures = 0;
        } else {
            self.failures = self.failures.saturating_add(1);
            if self.failures >= settings.failures_max {
                self.resting_until = now.plus(settings.pause);
            }
        }
    }
}

impl Known {
    fn has(&mut self, mark: &Mark, now: Moment) -> bool {
        while self.order.front().is_some_and(|(until, _)| *until <= now) {
            self.forget_oldest();
        }
        self.marks.contains(mark)
    }

    fn add(&mut self, mark: Mark, now: Moment, settings: &HttpSettings) {
        if settings.cache_time.is_zero() || !self.marks.insert(mark) {
            return;
        }
        self.order.push_back((now.plus(settings.cache_time), mark));
        if self.order.len() > settings.cache_entries_max {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, mark)) = self.order.pop_front() {
            self.marks.remove(&mark);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::stub::{Authority, Stub, gone, wait_for};
    use super::{Answer, HttpLink, HttpSettings, Url};
    use crate::access::Login;
    use crate::codec::{Moment, ReasonCode};
    use crate::login::{Link, Patience, Porter, Throttle};
    use std::net::{Ipv4Addr, TcpListener};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
    use std::time::Duration;

    const ALLOW: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 18\r\n\r\n{\"result\":\"allow\"}";
    const DENY: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 17\r\n\r\n{\"result\":\"deny\"}";
    const IGNORE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 19\r\n\r\n{\"result\":\"ignore\"}";

    fn settings(url: String) -> HttpSettings {
        HttpSettings {
            url: Url { key: "http_login.url", url, ca_key: "http_login.ca_file", ca_file: None },
            authorization: Some("Bearer x".to_owned()),
            timeout: Duration::from_secs(5),
            requests_max: 10,
            waiting_max: 10,
            cache_time: Duration::from_secs(10),
            cache_entries_max: 2,
            failures_max: 3,
            pause: Duration::from_secs(5),
        }
    }

    struct House {
        link: HttpLink,
        porter: Porter,
        now_ms: Arc<AtomicU64>,
    }

    impl House {
        fn new(settings: HttpSettings) -> Self {
            let now_ms = Arc::new(AtomicU64::new(0));
            let clock = Arc::clone(&now_ms);
            let second = Duration::from_secs(1);
            let patience = Patience { failures_max: 1000, window: second, block_max: second };
            let porter =
                Porter::new(Throttle::new(patience), move || Moment::from_millis(clock.load(Ordering::Relaxed)));
            Self { link: HttpLink::new(settings).expect("they are sound"), porter, now_ms }
        }

        fn pass(&self, seconds: u64) {
            self.now_ms.fetch_add(seconds * 1000, Ordering::Relaxed);
        }

        fn logs_in(&self, user: &str, password: &str) -> Result<String, ReasonCode> {
            let login = Login {
                client_id: "c".into(),
                user_name: Some(user.into()),
                password: Some(password.as_bytes().into()),
                ..Login::default()
            };
            match wait_for(self.link.ask(&self.porter, &Arc::new(login))) {
                Answer::Accept { identity, .. } => Ok(identity.proven_name().expect("it has shown its name").into()),
                Answer::Deny { reason, .. } => Err(reason),
                Answer::NotMine => Ok("not mine".to_owned()),
                Answer::Challenge { .. } => unreachable!("there is nothing to challenge"),
            }
        }
    }

    #[test]
    fn the_service_decides() {
        let stub = Stub::answering(vec![ALLOW, DENY, IGNORE]);
        let house = House::new(settings(stub.url()));
        assert_eq!(house.logs_in("alice", "1").as_deref(), Ok("alice"));
        assert_eq!(house.logs_in("alice", "2"), Err(ReasonCode::BadUserNameOrPassword));
        assert_eq!(house.logs_in("alice", "3").as_deref(), Ok("not mine"));
    }

    #[test]
    fn whatever_a_peer_says_is_a_string_in_the_request() {
        let stub = Stub::answering(vec![DENY]);
        let house = House::new(settings(stub.url()));
        let _ = house.logs_in("a&b=%\r\nX: \"${x}", "p\0\u{1}'");
        let request = stub.asked.recv().expect("it was asked");
        let (head, body) = request.split_once("\r\n\r\n").expect("a request");
        assert!(head.starts_with("POST /login?a=b HTTP/1.1\r\n"), "{head}");
        assert!(head.contains("authorization: Bearer x") && !head.contains("\nX:"), "{head}");
        let body: serde_json::Value = serde_json::from_str(body).expect("JSON");
        assert_eq!(body["user_name"], "a&b=%\r\nX: \"${x}");
        assert_eq!(body["password"], "p\0\u{1}'");
    }

    #[test]
    fn every_failure_is_a_no() {
        for answer in [
            &b""[..],
            b"nonsense",
            b"HTTP/1.1 404 Not Found\r\nContent-Length: 18\r\n\r\n{\"result\":\"allow\"}",
            b"HTTP/1.1 500 Oops\r\nContent-Length: 18\r\n\r\n{\"result\":\"allow\"}",
            b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{\"result\":\"allow\"}",
            b"HTTP/1.1 200 OK\r\nContent-Length: 17\r\n\r\n{\"result\":\"allow\"",
            b"HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{\"result\":true}",
            b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n[\"allow\"]",
            b"HTTP/1.1 200 OK\r\nContent-Length: 18\r\n\r\n{\"result\":\"ALLOW\"}",
        ] {
            let stub = Stub::answering(vec![answer]);
            let house = House::new(settings(stub.url()));
            let shown = String::from_utf8_lossy(answer);
            assert_eq!(house.logs_in("alice", "1"), Err(ReasonCode::ServerUnavailable), "{shown}");
        }
        // Nobody listens there any more.
        let house = House::new(settings(format!("http://{}", gone())));
        assert_eq!(house.logs_in("alice", "1"), Err(ReasonCode::ServerUnavailable));
    }

    #[test]
    fn a_service_that_says_nothing_is_not_waited_for_without_end() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("it is bound"));
        let house = House::new(HttpSettings { timeout: Duration::from_millis(50), ..settings(url) });
        assert_eq!(house.logs_in("alice", "1"), Err(ReasonCode::ServerUnavailable));
    }

    #[test]
    fn a_yes_is_remembered_for_a_while_and_for_few() {
        let stub = Stub::answering(vec![ALLOW, DENY, ALLOW, ALLOW, ALLOW]);
        let house = House::new(settings(stub.url()));
        let asked = AtomicUsize::new(0);
        let was_asked = || {
            let new = stub.asked.try_iter().count();
            asked.fetch_add(new, Ordering::Relaxed);
            new > 0
        };
        assert!(house.logs_in("alice", "1").is_ok() && was_asked());
        assert!(house.logs_in("alice", "1").is_ok() && !was_asked());
        // Another password is another login, and so is the same text split in another way.
        assert!(house.logs_in("alic", "e1").is_err() && was_asked());
        house.pass(10);
        assert!(house.logs_in("alice", "1").is_ok() && was_asked(), "it was forgotten in time");
        assert!(house.logs_in("bob", "1").is_ok() && was_asked());
        assert!(house.logs_in("carol", "1").is_ok() && was_asked());
        assert_eq!(house.link.service.state.lock().known.order.len(), 2);
        assert!(house.logs_in("carol", "1").is_ok() && !was_asked());
    }

    #[test]
    fn a_service_that_fails_is_left_alone_and_then_tried_once() {
        let stub = Stub::answering(vec![b"", b"", b"", b"", ALLOW, ALLOW]);
        let house = House::new(HttpSettings { cache_time: Duration::ZERO, ..settings(stub.url()) });
        let asked = || stub.asked.try_iter().count();
        for _ in 0..10 {
            assert_eq!(house.logs_in("alice", "1"), Err(ReasonCode::ServerUnavailable));
        }
        assert_eq!(asked(), 3);
        house.pass(5);
        for _ in 0..10 {
            assert!(house.logs_in("alice", "1").is_err());
        }
        assert_eq!(asked(), 1);
        house.pass(5);
        assert!(house.logs_in("alice", "1").is_ok() && house.logs_in("alice", "1").is_ok());
        assert_eq!(asked(), 2);
    }

    #[test]
    fn what_is_no_service_is_told_at_the_start() {
        for url in ["https://a_b:x/", "a/b", "/b", "http://", "ftp://a", "http://a b"] {
            assert!(HttpLink::new(settings(url.to_owned())).is_err(), "{url}");
        }
        let secret = HttpSettings { authorization: Some("a\r\nb".to_owned()), ..settings("http://a".to_owned()) };
        assert!(HttpLink::new(secret).is_err());
    }

    #[test]
    fn a_service_over_tls_decides_if_it_is_trusted() {
        let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
        let over_tls = |stub: &Stub| {
            let mut settings = settings(format!("https://localhost:{}/login", stub.port()));
            settings.url.ca_file = Some(ours.file());
            House::new(HttpSettings { failures_max: 10, ..settings })
        };
        let stub = Stub::over_tls(vec![ALLOW, DENY], ours.server("localhost"));
        let house = over_tls(&stub);
        assert_eq!(house.logs_in("alice", "1").as_deref(), Ok("alice"));
        assert_eq!(house.logs_in("alice", "2"), Err(ReasonCode::BadUserNameOrPassword));
        assert!(stub.asked.recv().expect("it was asked").starts_with("POST /login HTTP/1.1\r\n"));
        // Row P10: never is anybody let in on the word of a stranger, nor is the stranger told a password.
        let stranger = Stub::over_tls(vec![ALLOW; 3], theirs.server("localhost"));
        let house = over_tls(&stranger);
        for _ in 0..3 {
            assert_eq!(house.logs_in("alice", "1"), Err(ReasonCode::ServerUnavailable));
            assert_eq!(stranger.asked.recv().as_deref(), Ok(""));
        }
    }
}
