//! From an accepted socket to the first byte of MQTT: who a proxy says it is, TLS, the upgrade to WebSocket.
//!
//! All of it happens within the time and the number of those who have not said CONNECT yet. Work on TLS handshakes is done
//! one step at a time, with everybody else's turn in between.

use super::admission::Seat;
use super::certificate;
use super::counts::Cause;
use super::credentials::Credentials;
use super::listener::{Door, Peer};
use super::proxy;
use super::stream::{BUFFER_BYTES, Encoded, Input, Stream, read};
use super::thread::Thread;
use super::tls::{Tls, guess};
use super::websocket::{NotUpgraded, WebSocketSettings};
use crate::access::Certificate;
use crate::broker::Refused;
use crate::notice::Outside;
use std::borrow::Cow;
use std::future::poll_fn;
use std::sync::Arc;
use tokio::time::Instant;

/// A connection that speaks MQTT from now on.
pub(super) struct Arrived {
    pub(super) peer: Peer,
    /// What it has shown; an error is for the answer to its CONNECT.
    pub(super) certificate: Result<Option<Box<Certificate>>, &'static str>,
}

/// A connection that gets no further: send `answer` (it may be empty), then close.
pub(super) struct Turned {
    pub(super) answer: Vec<u8>,
    pub(super) cause: Cause,
    pub(super) why: Cow<'static, str>,
}

impl From<Refused> for Turned {
    fn from(refused: Refused) -> Self {
        let cause = refused.reason.map_or(Cause::NotMqtt, Cause::Said);
        Self { answer: refused.answer, cause, why: refused.why.into() }
    }
}

impl Turned {
    /// Without a word.
    pub(super) fn silently(cause: Cause, why: &'static str) -> Self {
        Self { answer: Vec::new(), cause, why: why.into() }
    }
}

/// Read at a time while layers are put on.
const READ_BYTES: usize = 4096;

pub(super) async fn arrive(
    thread: &Thread,
    stream: &mut Stream,
    peer: Peer,
    seat: &mut Seat,
) -> Result<Arrived, Turned> {
    let door = Arc::clone(&seat.door);
    let mut arrived = Arrived { peer, certificate: Ok(None) };
    if door.proxies.is_some() {
        let proxied = read_proxy_header(thread, stream).await?;
        if let Some(address) = proxied.address {
            arrived.peer = Peer::Ip(address);
        }
        if let Some(name) = proxied.common_name {
            arrived.certificate = certificate::of_common_name(name, door.identity).map(|found| Some(Box::new(found)));
        }
        let seated = seat.take_address(&thread.admission, arrived.peer);
        seated.map_err(|(cause, why)| Turned::silently(cause, why))?;
    }
    if let Some(credentials) = &door.tls {
        thread.admission.counts.handshakes.note(accept_tls(thread, stream, credentials).await)?;
        if let Some(found) = shown(stream, &door) {
            arrived.certificate = found;
        }
    }
    if let Some(settings) = &door.websocket {
        upgrade(thread, stream, settings).await?;
    }
    Ok(arrived)
}

/// The certificate of a Client that has shown one.
fn shown(stream: &Stream, door: &Door) -> Option<Result<Option<Box<Certificate>>, &'static str>> {
    let tls = stream.layers.as_ref()?.tls.as_ref()?;
    let der = tls.peer_certificates().first()?;
    Some(certificate::read(der, door.identity).map(|found| Some(Box::new(found))))
}

async fn read_proxy_header(thread: &Thread, stream: &mut Stream) -> Result<proxy::Proxied, Turned> {
    let mut received = Vec::new();
    loop {
        if !read(thread, stream, |bytes| received.extend_from_slice(bytes)).await {
            return Err(Turned::silently(Cause::Gone, "closed before its PROXY header was complete"));
        }
        let header = proxy::read(&received).map_err(|why| Turned::silently(Cause::ProxyHeader, why))?;
        if let Some((proxied, size)) = header {
            stream.ahead = received.split_off(size);
            return Ok(proxied);
        }
    }
}

async fn accept_tls(thread: &Thread, stream: &mut Stream, credentials: &Arc<Credentials>) -> Result<(), Turned> {
    let failed = |answer: Vec<u8>, error: rustls::Error| Turned {
        answer,
        cause: Cause::Tls,
        why: format!("TLS handshake failed: {}", Outside::of(&error.to_string())).into(),
    };
    let mut tls =
        Tls::new(credentials, std::mem::take(&mut stream.ahead)).map_err(|error| failed(Vec::new(), error))?;
    let mut under_way = None;
    let mut ahead = Vec::new();
    let mut looked_at = 0;
    while tls.is_handshaking() {
        // A message of the handshake may go over several records, and stays until it is complete.
        if !tls.has_record() || tls.unprocessed().len() <= looked_at {
            if !collect(thread, stream, &mut tls).await {
                return Err(Turned::silently(Cause::Gone, "closed during the TLS handshake"));
            }
            if tls.unprocessed().len() > BUFFER_BYTES {
                return Err(Turned::silently(Cause::Tls, "a TLS handshake that is too large"));
            }
            continue;
        }
        if under_way.is_none() {
            let too_many = || Turned::silently(Cause::TooManyHandshakes, "too many TLS handshakes at a time");
            under_way = Some(thread.admission.begin_handshake().ok_or_else(too_many)?);
        }
        let is_tls = tls.is_tls();
        let meant = guess(tls.unprocessed());
        let (step, answer) = {
            // One step on this thread, then everybody else, then the next one.
            let _turn = thread.handshake_turns.acquire().await;
            let due = thread.handshake_share.borrow().due();
            if due > Instant::now() {
                tokio::time::sleep_until(due).await;
            }
            let began = Instant::now();
            let mut encoded = Encoded::default();
            let step = tls.shake_hands(&mut encoded, &mut ahead);
            thread.handshake_share.borrow_mut().spend(began, began.elapsed());
            tokio::task::yield_now().await;
            (step, encoded.filled().to_vec())
        };
        match step {
            Ok(()) => {}
            Err(_) if !is_tls => return Err(Turned { answer, cause: Cause::Tls, why: meant.into() }),
            Err(error) => return Err(failed(answer, error)),
        }
        if stream.write_all(&thread.buffers, &answer).await.is_err() {
            return Err(Turned::silently(Cause::Gone, "closed during the TLS handshake"));
        }
        looked_at = tls.unprocessed().len();
    }
    stream.ahead = ahead;
    stream.layers_mut().tls = Some(Box::new(tls));
    Ok(())
}

/// Reads once. `false`: closed.
async fn collect(thread: &Thread, stream: &mut Stream, tls: &mut Tls) -> bool {
    poll_fn(|context| {
        let mut scratch = thread.scratch.borrow_mut();
        stream.poll_read_socket(context, &mut scratch[..READ_BYTES]).map(|input| match input {
            Input::Closed => false,
            Input::Bytes { count, .. } => {
                tls.collect(&scratch[..count]);
                true
            }
        })
    })
    .await
}

async fn upgrade(thread: &Thread, stream: &mut Stream, settings: &WebSocketSettings) -> Result<(), Turned> {
    let mut received = Vec::new();
    loop {
        let before = received.len();
        if !read(thread, stream, |bytes| received.extend_from_slice(bytes)).await {
            return Err(Turned::silently(Cause::Gone, "closed before its WebSocket request was complete"));
        }
        // Looked at line by line, so that a request that comes byte by byte is not read as often as it has bytes.
        let has_line = memchr::memchr(b'\n', &received[before..]).is_some();
        if before > 0 && !has_line && received.len() < READ_BYTES * 2 {
            continue;
        }
        match settings.upgrade(&received) {
            Ok(None) => {}
            Ok(Some((answer, size))) => {
                if stream.write_all(&thread.buffers, &answer).await.is_err() {
                    return Err(Turned::silently(Cause::Gone, "closed before its WebSocket request was answered"));
                }
                stream.ahead = received.split_off(size);
                stream.layers_mut().websocket = Some(Box::default());
                return Ok(());
            }
            // HTTP is no answer to somebody who does not speak it.
            Err(NotUpgraded { why, .. }) if !received.first().is_some_and(u8::is_ascii_uppercase) => {
                let why = match received.first() {
                    Some(0x10) => "not WebSocket; it looks like MQTT without WebSocket",
                    Some(0x16) => "not WebSocket; it looks like TLS",
                    _ => why,
                };
                return Err(Turned::silently(Cause::WebSocket, why));
            }
            Err(NotUpgraded { answer, why }) => {
                return Err(Turned { answer, cause: Cause::WebSocket, why: why.into() });
            }
        }
    }
}
