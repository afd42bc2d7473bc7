//! One task, one Network Connection: reads bytes, hands them to the shard, and closes so that the last packet arrives.
//!
//! It owns no buffer, channel or timer while the Client is connected: what is read goes through the thread's scratch, what is
//! written is written by the shard's tick. The shard is never borrowed across an await.

#![expect(clippy::disallowed_methods, reason = "a door starts tasks")]

use super::admission::Seat;
use super::arrival::{Turned, arrive};
use super::counts::Cause;
use super::listener::{Accepted, Door, Peer};
use super::stream::{Input, Reader, SocketWire, Source, Stream, read};
use super::thread::{Counted, Errand, Moved, Thread};
use crate::access::{Authenticator, Exchange, Identity, Login, Step};
use crate::broker::{Attachment, Handshake, Opened, Refused, Request, Versions};
use crate::codec::{Auth, Header, Packet, ReasonCode, Sender, Version};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::net::TcpStream;

/// How long we wait for the peer to close after our last packet, and how much we drop meanwhile. Closing with unread input
/// makes the kernel send a reset, and the peer would never see the Reason Code.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 64 << 20;

/// Serves a Network Connection until it is known who it is from; what follows is a task of its own, because what a task needs
/// once is part of it for ever.
pub(super) async fn serve(thread: Rc<Thread>, accepted: Box<Accepted>, count: Counted) {
    let Accepted { stream, peer, pass, mut seat } = *accepted;
    let Ok(socket) = TcpStream::from_std(stream) else { return };
    if let Some((stream, request, identity)) = enter(&thread, Stream::new(socket), peer, &mut seat).await {
        tokio::task::spawn_local(connect(thread, Box::new(Entered { stream, request, identity, seat }), count));
    }
    drop(pass);
}

/// Serves a Client that another shard has sent here, its home.
pub(super) fn serve_moved(thread: Rc<Thread>, moved: Moved, count: Counted) {
    let Moved { stream, layers, request, identity, seat } = moved;
    if let Ok(socket) = TcpStream::from_std(stream) {
        let stream = Stream { layers, ..Stream::new(socket) };
        tokio::task::spawn_local(connect(thread, Box::new(Entered { stream, request, identity, seat }), count));
    }
}

/// A Client that has been recognised.
struct Entered {
    stream: Stream,
    request: Box<Request>,
    identity: Identity,
    seat: Seat,
}

/// CONNECT and who it is from. `None`: refused, closed.
async fn enter(
    thread: &Thread,
    mut stream: Stream,
    peer: Peer,
    seat: &mut Seat,
) -> Option<(Stream, Box<Request>, Identity)> {
    let mut known_as = peer;
    let entering = async {
        let arrived = arrive(thread, &mut stream, peer, seat).await?;
        known_as = arrived.peer;
        let door = &seat.door;
        let mut request = read_connect(thread, &mut stream, door.versions).await?;
        request.login.address = arrived.peer.ip();
        request.login.listener = Some(Arc::clone(&door.name));
        let shared = Arc::clone(thread.shard.borrow().shared());
        if let Some(refused) = request.refuse_banned(&shared.access(), thread.clock.now()) {
            return Err(refused.into());
        }
        request.login.certificate =
            arrived.certificate.map_err(|why| request.refused(ReasonCode::NotAuthorized, why))?;
        if door.is_client_id_bound && !is_bound(&request) {
            let why = "a Client Identifier that is not the one of the certificate";
            return Err(request.refused(ReasonCode::ClientIdentifierNotValid, why).into());
        }
        log_in(thread, &mut stream, request, &*door.authenticator).await
    };
    let turned = match tokio::time::timeout(thread.settings.connect_timeout, entering).await {
        Ok(Ok((request, mut identity))) => {
            identity.listener = Some(Arc::clone(&seat.door.name));
            identity.address = known_as.ip();
            return Some((stream, request, identity));
        }
        Ok(Err(turned)) => turned,
        Err(_) => Turned::silently(Cause::TooLate, "CONNECT was not complete in time"),
    };
    thread.note_turned(known_as, turned.cause, &turned.why);
    say_last(thread, stream, &turned.answer).await;
    None
}

/// Whether the Client is called what its certificate says. Without a certificate there is nothing to compare it with.
fn is_bound(request: &Request) -> bool {
    match &request.login.certificate {
        Some(certificate) => certificate.user_name.as_deref() == Some(&*request.client_id),
        None => true,
    }
}

async fn read_connect(thread: &Thread, stream: &mut Stream, versions: Versions) -> Result<Box<Request>, Turned> {
    let mut handshake = Handshake::new(versions);
    let shared = thread.shard.borrow().shared().clone();
    loop {
        let mut request = Ok(None);
        let take = |bytes: &[u8]| {
            request = handshake
                .receive(bytes, shared.settings(), thread.clock.now(), |client_id| shared.origin_of(client_id));
        };
        if !read(thread, stream, take).await {
            return Err(Turned::silently(Cause::Gone, "closed by the peer before CONNECT was complete"));
        }
        if let Some(request) = request? {
            return Ok(request);
        }
    }
}

/// Finds out who this is; it may take AUTH packets to and fro [MQTT-4.12.0-2]. Nothing else is read meanwhile.
async fn log_in(
    thread: &Thread,
    stream: &mut Stream,
    mut request: Box<Request>,
    authenticator: &dyn Authenticator,
) -> Result<(Box<Request>, Identity), Turned> {
    let mut step = authenticator.begin(request.login.clone()).await;
    loop {
        step = match step {
            Step::Accept { identity, data } => {
                request.authentication_data = data;
                return Ok((request, identity));
            }
            Step::Refuse(reason, why) => return Err(request.refused(reason, why).into()),
            Step::Challenge { data, exchange } => {
                let mut packet = Vec::new();
                let auth = Auth {
                    data: Some(&data),
                    ..Auth::new(ReasonCode::ContinueAuthentication, request.login.method.as_deref())
                };
                Packet::Auth(auth).encode(request.version, &mut packet);
                if !request.takes(&packet) {
                    let why = "an AUTH larger than the Client takes";
                    return Err(request.refused(ReasonCode::ImplementationSpecificError, why).into());
                }
                let _ = stream.write_all(&thread.buffers, &packet).await;
                let answer = read_auth(thread, stream, &mut request).await?;
                exchange.proceed(answer).await
            }
        };
    }
}

/// The Client's next packet, which must be AUTH 0x18 with the same method [MQTT-4.12.0-3] [MQTT-3.1.2-30].
async fn read_auth(thread: &Thread, stream: &mut Stream, request: &mut Request) -> Result<Option<Box<[u8]>>, Turned> {
    let limits = thread.shard.borrow().shared().settings().session.codec;
    loop {
        match Header::decode(&request.rest, Sender::Client, Version::V5, &limits) {
            Err(violation) => return Err(request.refused(violation.reason, violation.why).into()),
            Ok(Some(header)) if header.packet_size() > limits.property_bytes_max as usize + 16 => {
                return Err(request.refused(ReasonCode::PacketTooLarge, "a large packet during authentication").into());
            }
            Ok(Some(header)) if header.packet_size() <= request.rest.len() => {
                let packet: Vec<u8> = request.rest.drain(..header.packet_size()).collect();
                return match Packet::decode(&header, &packet[header.header_size()..], Version::V5, &limits) {
                    Err(violation) => Err(request.refused(violation.reason, violation.why).into()),
                    Ok(Packet::Auth(auth))
                        if auth.reason == ReasonCode::ContinueAuthentication
                            && auth.method == request.login.method.as_deref() =>
                    {
                        Ok(auth.data.map(Into::into))
                    }
                    Ok(Packet::Disconnect(_)) => {
                        Err(Turned::silently(Cause::Gone, "the Client gave up its authentication"))
                    }
                    Ok(_) => {
                        let why = "something else than AUTH during authentication";
                        Err(request.refused(ReasonCode::ProtocolError, why).into())
                    }
                };
            }
            Ok(_) => {}
        }
        if !read(thread, stream, |bytes| request.rest.extend_from_slice(bytes)).await {
            return Err(Turned::silently(Cause::Gone, "closed by the peer during authentication"));
        }
    }
}

/// Opens the Session in its home shard and reads until the end. What lives here lives as long as the connection, in each of
/// them: keep it small.
async fn connect(thread: Rc<Thread>, entered: Box<Entered>, count: Counted) {
    let waker = poll_fn(|context| Poll::Ready(context.waker().clone())).await;
    let (me, mut reader, seat) = match open(&thread, *entered, waker) {
        Ok(opened) => opened,
        Err(None) => return,
        Err(Some((stream, refused))) => {
            // A task of its own: awaited here, it would be part of every connection.
            tokio::task::spawn_local(async move {
                say_last(&thread, stream, &refused.answer).await;
                drop(count);
            });
            return;
        }
    };
    thread.note_certified(me, &reader);
    let mut exchange = None;
    while let Some(authentication) = poll_fn(|context| thread.poll_read(me, &mut reader, context)).await {
        exchange = Box::pin(reauthenticate(&thread, me, &seat.door, authentication, exchange)).await;
    }
    Box::pin(part(&thread, me, reader)).await;
    drop(count);
}

/// `Err`: the Client was sent on to its home, has to wait, or is refused.
fn open(
    thread: &Rc<Thread>,
    entered: Entered,
    reader_waker: Waker,
) -> Result<(Attachment, Reader, Seat), Option<(Stream, Refused)>> {
    let Entered { stream, mut request, identity, seat } = entered;
    let (reader, wire) = stream.split(&thread.buffers, reader_waker);
    let rest = std::mem::take(&mut request.rest);
    let opened = thread.shard.borrow_mut().open(request, identity.clone(), wire, thread.clock.now());
    let opened = match opened {
        Opened::Here(me) => {
            if !rest.is_empty() {
                thread.shard.borrow_mut().receive(me, &rest, thread.clock.now());
            }
            Ok((me, reader, seat))
        }
        Opened::Elsewhere(home, mut request, wire) => {
            request.rest = rest;
            if let Some(moved) = moved(reader, wire, request, identity, seat) {
                thread.send(home, Errand::Moved(moved));
            }
            Err(None)
        }
        Opened::Later(due, mut request, wire) => {
            request.rest = rest;
            if let Some(moved) = moved(reader, wire, request, identity, seat) {
                let (thread, due) = (Rc::clone(thread), thread.clock.instant(due).into());
                // It comes as one that has moved here. A stop does not wait for it.
                tokio::task::spawn_local(async move {
                    tokio::time::sleep_until(due).await;
                    let home = thread.shard.borrow().id();
                    thread.send(home, Errand::Moved(moved));
                });
            }
            Err(None)
        }
        Opened::Refused(refused, wire) => {
            thread.admission.counts.turned(refused.reason.map_or(Cause::NotMqtt, Cause::Said));
            Err(Stream::whole(reader, wire).map(|stream| (stream, refused)))
        }
    };
    thread.see_to_tick();
    opened
}

/// A Client on its way to where it will be opened. `None`: its Network Connection has failed.
fn moved(
    reader: Reader,
    wire: SocketWire,
    request: Box<Request>,
    identity: Identity,
    seat: Seat,
) -> Option<Box<Moved>> {
    let Stream { socket, layers, .. } = Stream::whole(reader, wire)?;
    let stream = socket.into_std().ok()?;
    Some(Box::new(Moved { stream, layers, request, identity, seat }))
}

/// A Client proves again who it is while its Session goes on (4.12.1).
async fn reauthenticate(
    thread: &Thread,
    me: Attachment,
    door: &Door,
    authentication: Box<(ReasonCode, Login)>,
    exchange: Option<Box<dyn Exchange>>,
) -> Option<Box<dyn Exchange>> {
    let (reason, login) = *authentication;
    let step = match (reason, exchange) {
        (ReasonCode::ReAuthenticate, None) => door.authenticator.begin(login).await,
        (ReasonCode::ContinueAuthentication, Some(exchange)) => exchange.proceed(login.data).await,
        _ => Step::Refuse(ReasonCode::ProtocolError, "an AUTH packet out of turn"),
    };
    let mut shard = thread.shard.borrow_mut();
    match step {
        Step::Accept { identity, data } => shard.say_auth(me, ReasonCode::Success, data.as_deref(), Some(identity)),
        Step::Refuse(reason, _) => shard.reauthentication_failed(me, reason),
        Step::Challenge { data, exchange } => {
            shard.say_auth(me, ReasonCode::ContinueAuthentication, Some(&data), None);
            return Some(exchange);
        }
    }
    None
}

impl Thread {
    /// Reads what there is and hands it to the shard. Ready when the shard has let go of the connection (`None`), or when the
    /// Client wants to authenticate again.
    fn poll_read(
        &self,
        me: Attachment,
        reader: &mut Reader,
        context: &mut Context<'_>,
    ) -> Poll<Option<Box<(ReasonCode, Login)>>> {
        let polled = self.poll_read_shard(me, reader, context);
        self.see_to_tick();
        polled
    }

    fn poll_read_shard(
        &self,
        me: Attachment,
        reader: &mut Reader,
        context: &mut Context<'_>,
    ) -> Poll<Option<Box<(ReasonCode, Login)>>> {
        let mut shard = self.shard.borrow_mut();
        let mut scratch = self.scratch.borrow_mut();
        loop {
            if !shard.is_attached(me) {
                return Poll::Ready(None);
            }
            while shard.is_blocked(me) {
                match reader.poll_write_ready(context) {
                    Poll::Ready(Ok(())) => shard.writable(me, self.clock.now()),
                    Poll::Ready(Err(_)) => break,
                    Poll::Pending => break,
                }
            }
            if let Some(authentication) = shard.take_reauthentication(me) {
                return Poll::Ready(Some(authentication));
            }
            if !shard.may_read(me, context.waker()) {
                return Poll::Pending;
            }
            let room = if shard.sends_many(me) { reader.least_room() } else { scratch.len() };
            match reader.poll_read(context, &mut scratch[..room]) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Input::Closed) => {
                    shard.lost(me, self.clock.now());
                    return Poll::Ready(None);
                }
                Poll::Ready(Input::Bytes { count, more }) => {
                    shard.receive(me, &scratch[..count], self.clock.now());
                    if more {
                        // There is more, but others have a turn first.
                        context.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                }
            }
        }
    }
}

/// The last packet, then nothing more: see [`LINGER`].
async fn say_last(thread: &Thread, mut stream: Stream, answer: &[u8]) {
    if answer.is_empty() && stream.layers.is_none() {
        return;
    }
    let _ = tokio::time::timeout(LINGER, async {
        let _ = stream.write_all(&thread.buffers, answer).await;
        let _ = stream.shutdown(&thread.buffers).await;
        drop_input(thread, stream).await;
    })
    .await;
}

/// The same for a Client whose last packet the shard has written already, unless the Client took nothing then.
async fn part(thread: &Thread, me: Attachment, reader: Reader) {
    let parting = thread.shard.borrow_mut().take_parting(me);
    match parting {
        None => drop(tokio::time::timeout(LINGER, drop_input(thread, reader)).await),
        Some((wire, words)) => {
            if let Some(stream) = Stream::whole(reader, wire) {
                say_last(thread, stream, &words).await;
            }
        }
    }
}

async fn drop_input(thread: &Thread, mut source: impl Source) {
    let mut dropped = 0;
    while dropped <= LINGER_BYTES && read(thread, &mut source, |bytes| dropped += bytes.len()).await {}
}
