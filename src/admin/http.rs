//! Answers HTTP requests, one for each connection, within bounds of size, number and time.
//!
//! A page on the loopback is for this machine: a request that names another host comes from a browser that somebody else's
//! name has led here, and is refused.

#![expect(clippy::disallowed_methods, reason = "a wing starts its own thread and its tasks, and waits")]

use super::page::CONTENT_TYPE;
use super::{Sources, metrics};
use crate::broker::Level;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE as TYPE, HOST};
use axum::http::{StatusCode, uri::Authority};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::sync::oneshot;

/// Connections at the same time; further ones wait to be accepted.
const CONNECTIONS_MAX: usize = 64;
/// From accepting a connection to its end, whoever is slow.
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(5);
/// The head of a request, in bytes. A larger one gets 431.
const HEAD_SIZE_MAX: usize = 16 << 10;
/// For a sign of life of every shard.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(2);
/// How long accepting pauses when the process has no descriptor or memory left.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(50);

/// Sockets that listen and are not served yet.
pub struct Bound {
    sockets: Vec<TcpListener>,
    addresses: Vec<SocketAddr>,
}

impl Bound {
    /// # Errors
    /// What the system says: an address is in use or not ours. None is bound then.
    pub fn bind(addresses: &[SocketAddr]) -> io::Result<Self> {
        let sockets = addresses.iter().map(|address| {
            let socket = TcpListener::bind(address)?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        });
        let sockets: Vec<TcpListener> = sockets.collect::<io::Result<_>>()?;
        let addresses = sockets.iter().map(TcpListener::local_addr).collect::<io::Result<_>>()?;
        Ok(Self { sockets, addresses })
    }

    /// Answers from a thread of its own, until it is stopped.
    ///
    /// # Errors
    /// The system has no thread or no epoll for us.
    pub fn serve(self, sources: Sources) -> io::Result<Admin> {
        let Self { sockets, addresses } = self;
        let is_stopping = Arc::new(AtomicBool::new(false));
        let router = router(sources, Arc::clone(&is_stopping));
        let local = router.clone().layer(middleware::from_fn(for_this_machine));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let (stop, stopped) = oneshot::channel();
        let handle = std::thread::Builder::new().name("waypost-admin".to_owned()).spawn(move || {
            runtime.block_on(async {
                let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
                for socket in sockets {
                    let is_local = socket.local_addr().is_ok_and(|address| is_loopback(address.ip()));
                    let router = if is_local { local.clone() } else { router.clone() };
                    tokio::spawn(accept(socket, router, Arc::clone(&places)));
                }
                let _ = stopped.await; // or dropped, which means the same
            });
        })?;
        Ok(Admin { addresses, is_stopping, stop: Some(stop), handle: Some(handle) })
    }
}

/// The thread that answers; it ends when this is dropped.
pub struct Admin {
    addresses: Vec<SocketAddr>,
    is_stopping: Arc<AtomicBool>,
    stop: Option<oneshot::Sender<()>>,
    handle: Option<JoinHandle<()>>,
}

impl Admin {
    /// Where it answers, with real ports.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The node is not ready any more.
    pub fn note_stopping(&self) {
        self.is_stopping.store(true, Ordering::Relaxed);
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(handle) = self.handle.take() {
            let _ = handle.join(); // if it has panicked, the log says so
        }
    }
}

async fn accept(socket: TcpListener, router: Router, places: Arc<Semaphore>) {
    let socket = match tokio::net::TcpListener::from_std(socket) {
        Ok(socket) => socket,
        Err(error) => return tracing::error!(target: "waypost::admin", %error, "the metrics page cannot be served"),
    };
    let mut is_exhausted = false;
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        match socket.accept().await {
            Ok((stream, _)) => {
                is_exhausted = false;
                let router = router.clone();
                tokio::spawn(async move {
                    let _ = tokio::time::timeout(CONNECTION_TIME_MAX, answer(stream, router)).await;
                    drop(place);
                });
            }
            Err(error) => {
                if !is_exhausted {
                    tracing::error!(target: "waypost::admin", %error, "cannot accept; trying again");
                    is_exhausted = true;
                }
                tokio::time::sleep(EXHAUSTED_PAUSE).await;
            }
        }
    }
}

/// One request, one answer. What is wrong with a connection is its own affair.
async fn answer(stream: TcpStream, router: Router) {
    let mut builder = http1::Builder::new();
    builder.keep_alive(false).max_buf_size(HEAD_SIZE_MAX).header_read_timeout(None);
    let _ = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router)).await;
}

#[derive(Clone)]
struct Asked {
    sources: Arc<Sources>,
    is_stopping: Arc<AtomicBool>,
}

fn router(sources: Sources, is_stopping: Arc<AtomicBool>) -> Router {
    Router::new()
        .route("/metrics", get(metrics_page))
        .route("/healthz", get(health))
        .route("/readyz", get(readiness))
        .fallback(|| async { (StatusCode::NOT_FOUND, "there are /metrics, /healthz and /readyz\n") })
        .method_not_allowed_fallback(|| async {
            (StatusCode::METHOD_NOT_ALLOWED, [(ALLOW, "GET, HEAD")], "GET only\n")
        })
        .with_state(Asked { sources: Arc::new(sources), is_stopping })
}

async fn metrics_page(State(asked): State<Asked>) -> impl IntoResponse {
    ([(TYPE, CONTENT_TYPE), (CACHE_CONTROL, "no-store")], metrics::write(&asked.sources))
}

/// Whether every shard does its work.
async fn health(State(asked): State<Asked>) -> Response {
    match asked.sources.doors.answer(ANSWER_TIME_MAX).await {
        Ok(()) => "well\n".into_response(),
        Err(shard) => (StatusCode::SERVICE_UNAVAILABLE, format!("shard {shard} does not answer\n")).into_response(),
    }
}

/// Whether Clients may come.
async fn readiness(State(asked): State<Asked>) -> Response {
    let (_, level) = asked.sources.shared.memory();
    let why_not = match level {
        _ if asked.is_stopping.load(Ordering::Relaxed) => "the node is stopping\n",
        Level::Critical | Level::Full => "the memory budget is used up\n",
        Level::Normal | Level::High => return "ready\n".into_response(),
    };
    (StatusCode::SERVICE_UNAVAILABLE, why_not).into_response()
}

async fn for_this_machine(request: Request, next: Next) -> Response {
    let host = request.headers().get(HOST).map(|host| host.to_str().ok().and_then(|host| host.parse().ok()));
    match host {
        // HTTP/1.0 knows no hosts, and no browser speaks it.
        None => next.run(request).await,
        Some(Some(host)) if names_this_machine(&host) => next.run(request).await,
        Some(_) => (StatusCode::FORBIDDEN, "this page is for this machine only\n").into_response(),
    }
}

fn names_this_machine(host: &Authority) -> bool {
    let name = host.host();
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost") || address.parse().is_ok_and(is_loopback)
}

fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use super::names_this_machine;

    #[test]
    fn a_page_on_the_loopback_is_asked_for_by_its_names() {
        for (host, is_ours) in [
            ("localhost:18083", true),
            ("LOCALHOST", true),
            ("127.0.0.1:18083", true),
            ("127.9.9.9", true),
            ("[::1]:18083", true),
            ("example.org", false),
            ("localhost.example.org:18083", false),
            ("127.0.0.1.example.org", false),
            ("10.0.0.1:18083", false),
        ] {
            assert_eq!(names_this_machine(&host.parse().expect("an authority")), is_ours, "{host}");
        }
    }
}
