//! A service of the operator's is asked about logins, by HTTP. It is somebody else's program: it may be slow, gone or wrong, and
//! each of that is a no. Plain HTTP only: what is asked are passwords, so it belongs on this machine or in a trusted network.

use super::chain::{Answer, Asked, Link, Porter};
use super::waiting::Waiting;
use crate::access::{Identity, Login, Proof};
use crate::codec::{Moment, ReasonCode};
use crate::notice::{LINES_PER_SECOND_MAX, Limited, Permit};
use aws_lc_rs::hmac;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::{HashSet, VecDeque};
use std::future::ready;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

/// Which service is asked, and how patiently.
#[derive(Clone)]
pub struct HttpSettings {
    /// `http://HOST:PORT/PATH`
    pub url: String,
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
    #[error("http_login.url is not a URL: {0}")]
    Url(String),
    #[error("http_login.url does not begin with http://HOST; https is not supported, use a service on this machine")]
    Scheme,
    #[error("http_login.authorization is not what a header may hold")]
    Authorization,
}

/// Asks the service.
pub struct HttpLink {
    service: Arc<Service>,
}

struct Service {
    /// `HOST:PORT`
    authority: Box<str>,
    host: HeaderValue,
    path: Box<str>,
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

/// Largest answer, in bytes, and the most of its headers.
const ANSWER_SIZE_MAX: usize = 64 << 10;
const HEADERS_SIZE_MAX: usize = 16 << 10;
/// Longest password that is passed on, in bytes.
const PASSWORD_SIZE_MAX: usize = 16 << 10;

impl HttpLink {
    /// # Errors
    /// What of the settings cannot be used. The service itself is not asked before somebody comes.
    pub fn new(settings: HttpSettings) -> Result<Self, NotAService> {
        let uri: Uri = settings.url.parse().map_err(|error| NotAService::Url(format!("{error}")))?;
        let authority = uri.authority().filter(|_| uri.scheme_str() == Some("http")).ok_or(NotAService::Scheme)?;
        let authorization = settings.authorization.as_deref().map(HeaderValue::try_from).transpose();
        let mut authorization = authorization.map_err(|_| NotAService::Authorization)?;
        if let Some(secret) = &mut authorization {
            secret.set_sensitive(true);
        }
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &aws_lc_rs::rand::SystemRandom::new());
        let service = Service {
            authority: format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(80)).into(),
            host: HeaderValue::try_from(authority.as_str()).map_err(|_| NotAService::Scheme)?,
            path: uri.path_and_query().map_or("/", |path| path.as_str()).into(),
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
            let _free = self.free.acquire().await.map_err(|_| "the node is stopping")?;
            self.ask(login, password).await
        });
        let answered = answered.await.unwrap_or(Err("the login service did not answer in time"));
        self.state.lock().note(answered.is_ok(), porter.now(), &self.settings);
        match answered {
            Ok(Verdict::Allow) => {
                self.state.lock().known.add(mark, porter.now(), &self.settings);
                accept()
            }
            Ok(Verdict::Deny) => Answer::wrong("the login service says no"),
            Ok(Verdict::Ignore) => Answer::NotMine,
            Err(why) => {
                if let Permit::Log { suppressed } = FAILED.permit(porter.now().as_millis()) {
                    tracing::warn!(target: "waypost::login", service = %self.authority, suppressed, "login refused: {why}");
                }
                unavailable(why)
            }
        }
    }

    /// One request on a connection of its own.
    async fn ask(&self, login: &Login, password: &str) -> Result<Verdict, &'static str> {
        let stream = TcpStream::connect(&*self.authority).await;
        let stream = stream.map_err(|_| "the login service cannot be reached")?;
        let mut builder = hyper::client::conn::http1::Builder::new();
        let handshake = builder.max_buf_size(HEADERS_SIZE_MAX).handshake(TokioIo::new(stream));
        let (mut sender, connection) = handshake.await.map_err(|_| "the login service cannot be reached")?;
        let request = self.request(login, password);
        let mut connection = pin!(connection);
        let mut answer = pin!(async {
            let response = sender.send_request(request).await.map_err(|_| "the login service does not speak HTTP")?;
            if response.status() != StatusCode::OK {
                return Err("the login service answered with a status other than 200");
            }
            let body = http_body_util::Limited::new(response.into_body(), ANSWER_SIZE_MAX).collect().await;
            verdict(&body.map_err(|_| "the login service's answer is cut or too large")?.to_bytes())
        });
        tokio::select! {
            answer = &mut answer => answer,
            // Whatever has arrived before the connection ended can still be taken.
            _ = &mut connection => answer.await,
        }
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
        *request.method_mut() = hyper::Method::POST;
        *request.uri_mut() = self.path.parse().unwrap_or_default(); // it came out of a URL
        let headers = request.headers_mut();
        headers.insert(HOST, self.host.clone());
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
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

fn verdict(body: &[u8]) -> Result<Verdict, &'static str> {
    let answer: Value = serde_json::from_slice(body).map_err(|_| "the login service's answer is not JSON")?;
    match answer.get("result").and_then(Value::as_str) {
        Some("allow") => Ok(Verdict::Allow),
        Some("deny") => Ok(Verdict::Deny),
        Some("ignore") => Ok(Verdict::Ignore),
        _ => Err("the login service's answer has no result that is allow, deny or ignore"),
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
    use super::{Answer, HttpLink, HttpSettings};
    use crate::access::Login;
    use crate::codec::{Moment, ReasonCode};
    use crate::login::{Link, Patience, Porter, Throttle};
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, SocketAddr, TcpListener};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
    use std::sync::mpsc::{Receiver, channel};
    use std::time::Duration;

    /// A service that answers each request with these bytes, and tells what it was asked.
    struct Stub {
        address: SocketAddr,
        asked: Receiver<String>,
    }

    impl Stub {
        #[expect(clippy::disallowed_methods, reason = "a service is a program of its own")]
        fn answering(answers: Vec<&'static [u8]>) -> Self {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
            let address = listener.local_addr().expect("it is bound");
            let (tell, asked) = channel();
            std::thread::spawn(move || {
                for answer in answers {
                    let Ok((mut stream, _)) = listener.accept() else { return };
                    let mut request = Vec::new();
                    let mut some = [0; 4096];
                    while !is_whole(&request) {
                        match stream.read(&mut some) {
                            Ok(count) if count > 0 => request.extend_from_slice(&some[..count]),
                            _ => break,
                        }
                    }
                    let _ = tell.send(String::from_utf8(request).expect("a request is UTF-8"));
                    let _ = stream.write_all(answer);
                }
            });
            Self { address, asked }
        }

        fn url(&self) -> String {
            format!("http://{}/login?a=b", self.address)
        }
    }

    fn is_whole(request: &[u8]) -> bool {
        let text = String::from_utf8_lossy(request);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
        let length =
            head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
        body.len() >= length.unwrap_or(0_usize)
    }

    const ALLOW: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 18\r\n\r\n{\"result\":\"allow\"}";
    const DENY: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 17\r\n\r\n{\"result\":\"deny\"}";
    const IGNORE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 19\r\n\r\n{\"result\":\"ignore\"}";

    fn settings(url: String) -> HttpSettings {
        HttpSettings {
            url,
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
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            match runtime.block_on(self.link.ask(&self.porter, &Arc::new(login))) {
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
        let gone = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port").local_addr().expect("it is bound");
        let house = House::new(settings(format!("http://{gone}")));
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
        for url in ["https://a/b", "a/b", "/b", "http://", "ftp://a", "http://a b"] {
            assert!(HttpLink::new(settings(url.to_owned())).is_err(), "{url}");
        }
        let secret = HttpSettings { authorization: Some("a\r\nb".to_owned()), ..settings("http://a".to_owned()) };
        assert!(HttpLink::new(secret).is_err());
    }
}
