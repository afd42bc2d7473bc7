//! What a connection reads from and writes to: a socket with nothing on top of it, or with TLS, WebSocket or both.
//!
//! A plain connection has the two halves of its socket and nothing else. Layers live in one allocation that the reading task
//! and the shard's writing side share; they own no buffer while nothing is on its way, and travel with the connection when
//! that moves to another shard. A Unix socket is read, written and shut down like a TCP one, so it is kept as one.

use super::thread::Thread;
use super::tls::Tls;
use super::websocket::WebSocket;
use crate::broker::{Broken, Wire};
use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker, ready};
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// What one read has brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Input {
    /// Nothing will come any more.
    Closed,
    /// So many bytes, at least one. `more`: there may be more already, but others have a turn first.
    Bytes { count: usize, more: bool },
}

/// Bytes that one read takes from the socket, for all connections of a thread, before they are decrypted; and one write gives
/// it.
pub(super) const BUFFER_BYTES: usize = 64 << 10;
/// Reads in a row that may bring nothing for the shard: incomplete records, handshake messages, frames without content.
const EMPTY_READS_MAX: usize = 8;
/// Encoded bytes beyond those of the shard that may wait for the socket: answers of the layers themselves.
const ANSWERS_BYTES_MAX: usize = 4 << 10;

/// Where the layers of all connections of a thread work: none of them owns a buffer.
pub(super) struct Buffers {
    received: RefCell<Box<[u8]>>,
    encoded: RefCell<Encoded>,
}

impl Buffers {
    /// The memory is taken when the first layer needs it.
    pub(super) fn new() -> Self {
        Self { received: RefCell::default(), encoded: RefCell::default() }
    }
}

/// Bytes on their way to the socket.
#[derive(Default)]
pub(super) struct Encoded {
    bytes: Vec<u8>,
    filled: usize,
}

impl Encoded {
    /// Lets `write` fill at least `room` bytes; it says how many it has filled.
    pub(super) fn add<E>(&mut self, room: usize, write: impl FnOnce(&mut [u8]) -> Result<usize, E>) -> Result<(), E> {
        if self.bytes.len() < self.filled + room {
            self.bytes.resize(self.filled + room, 0);
        }
        self.filled += write(&mut self.bytes[self.filled..])?;
        Ok(())
    }

    pub(super) fn extend(&mut self, bytes: &[u8]) {
        let Ok(()) = self.add::<std::convert::Infallible>(bytes.len(), |room| {
            room[..bytes.len()].copy_from_slice(bytes);
            Ok(bytes.len())
        });
    }

    pub(super) fn filled(&self) -> &[u8] {
        &self.bytes[..self.filled]
    }

    fn clear(&mut self) {
        self.filled = 0;
        if self.bytes.len() > 4 * BUFFER_BYTES {
            *self = Self::default();
        }
    }
}

/// A whole connection, as long as it is not known who it is from.
pub(super) struct Stream {
    pub(super) socket: TcpStream,
    pub(super) layers: Option<Box<Layers>>,
    /// Received together with what came before; read first.
    pub(super) ahead: Vec<u8>,
}

/// What lies between the socket and MQTT. At least one of them is there.
#[derive(Default)]
pub(super) struct Layers {
    pub(super) tls: Option<Box<Tls>>,
    pub(super) websocket: Option<Box<WebSocket>>,
    /// Encoded, and not yet taken by the socket.
    unsent: Vec<u8>,
    /// Bytes of the shard that `unsent` holds in their encoded form; they are said to be written when it is empty.
    owed: usize,
    /// The peer sends nothing more. Over TCP and TLS it may still wait for answers: each direction has an end of its own.
    ended: bool,
    /// Nothing more may be said: the peer has broken the rules of a layer, or closed WebSocket, which closes both directions.
    silenced: bool,
}

impl Stream {
    pub(super) fn new(socket: TcpStream) -> Self {
        Self { socket, layers: None, ahead: Vec::new() }
    }

    pub(super) fn layers_mut(&mut self) -> &mut Layers {
        self.layers.get_or_insert_default()
    }

    pub(super) fn poll_read(&mut self, buffers: &Buffers, context: &mut Context<'_>, out: &mut [u8]) -> Poll<Input> {
        if let Some(layers) = &mut self.layers {
            return layers.poll_read(&mut self.socket, &mut self.ahead, buffers, context, out);
        }
        if !self.ahead.is_empty() {
            let count = self.ahead.len().min(out.len());
            out[..count].copy_from_slice(&self.ahead[..count]);
            self.ahead.drain(..count);
            return Poll::Ready(Input::Bytes { count, more: false });
        }
        poll_socket(&mut self.socket, context, out)
    }

    /// Reads once, past all layers. For those that are being put on.
    pub(super) fn poll_read_socket(&mut self, context: &mut Context<'_>, out: &mut [u8]) -> Poll<Input> {
        poll_socket(&mut self.socket, context, out)
    }

    /// Writes all of it. After an error the connection is of no use.
    pub(super) async fn write_all(&mut self, buffers: &Buffers, bytes: &[u8]) -> io::Result<()> {
        let Some(layers) = &mut self.layers else { return self.socket.write_all(bytes).await };
        // Of what the shard could not write, some is encoded already.
        let unencoded = &bytes[std::mem::take(&mut layers.owed).min(bytes.len())..];
        if unencoded.is_empty() {
            let unsent = std::mem::take(&mut layers.unsent);
            self.socket.write_all(&unsent).await?;
        }
        for part in unencoded.chunks(BUFFER_BYTES) {
            let encoded = {
                let mut encoded = buffers.encoded.borrow_mut();
                encoded.clear();
                layers.encode(part, &mut encoded).map_err(|Broken| io::Error::from(io::ErrorKind::BrokenPipe))?;
                encoded.filled().to_vec()
            };
            let unsent = std::mem::take(&mut layers.unsent);
            self.socket.write_all(&unsent).await?;
            self.socket.write_all(&encoded).await?;
        }
        Ok(())
    }

    /// Says goodbye in the words of all layers and shuts the sending side down.
    pub(super) async fn shutdown(&mut self, buffers: &Buffers) -> io::Result<()> {
        if let Some(layers) = &mut self.layers {
            let goodbye = {
                let mut encoded = buffers.encoded.borrow_mut();
                encoded.clear();
                layers.say_goodbye(&mut encoded);
                encoded.filled().to_vec()
            };
            self.socket.write_all(&goodbye).await?;
        }
        self.socket.shutdown().await
    }

    /// For the task that reads, and for the shard that writes. `reader` wakes the former.
    pub(super) fn split(self, buffers: &Rc<Buffers>, reader: Waker) -> (Reader, SocketWire) {
        let Self { socket, layers, ahead } = self;
        let (reading, writing) = match layers {
            None => {
                let (reading, writing) = socket.into_split();
                (Reader::Plain(reading), Writer::Plain(writing))
            }
            Some(layers) => {
                let layered = Layered { socket, layers, ahead, buffers: Rc::clone(buffers), is_open: true };
                let layered = Rc::new(RefCell::new(layered));
                (Reader::Layered(Rc::clone(&layered)), Writer::Layered(LayeredWriter(layered)))
            }
        };
        (reading, SocketWire { writer: writing, reader })
    }

    /// Puts together what was split. `None`: they are not of the same connection.
    pub(super) fn whole(reader: Reader, wire: SocketWire) -> Option<Self> {
        match (reader, wire.writer) {
            (Reader::Plain(reader), Writer::Plain(writer)) => reader.reunite(writer).ok().map(Self::new),
            (Reader::Layered(reader), Writer::Layered(writer)) => {
                writer.0.borrow_mut().is_open = false; // this is not its end
                drop(writer);
                let Layered { socket, layers, ahead, .. } = Rc::into_inner(reader)?.into_inner();
                Some(Self { socket, layers: Some(layers), ahead })
            }
            _ => None,
        }
    }
}

/// Something that a connection is read from.
pub(super) trait Source {
    /// Whether input goes through layers, which need room for all that one read may bring.
    fn is_layered(&self) -> bool;
    fn poll_input(&mut self, buffers: &Buffers, context: &mut Context<'_>, out: &mut [u8]) -> Poll<Input>;
}

impl Source for Stream {
    fn is_layered(&self) -> bool {
        self.layers.is_some()
    }

    fn poll_input(&mut self, buffers: &Buffers, context: &mut Context<'_>, out: &mut [u8]) -> Poll<Input> {
        self.poll_read(buffers, context, out)
    }
}

impl Source for Reader {
    fn is_layered(&self) -> bool {
        matches!(self, Self::Layered(_))
    }

    fn poll_input(&mut self, _: &Buffers, context: &mut Context<'_>, out: &mut [u8]) -> Poll<Input> {
        self.poll_read(context, out)
    }
}

/// Read at a time before CONNECT.
const HANDSHAKE_READ: usize = 4096;

/// Reads once, through the thread's scratch: a connection that waits owns no buffer. `false`: closed.
pub(super) async fn read(thread: &Thread, source: &mut impl Source, mut take: impl FnMut(&[u8])) -> bool {
    poll_fn(|context| {
        let mut scratch = thread.scratch.borrow_mut();
        let room = if source.is_layered() { scratch.len() } else { HANDSHAKE_READ };
        source.poll_input(&thread.buffers, context, &mut scratch[..room]).map(|input| match input {
            Input::Closed => false,
            Input::Bytes { count, .. } => {
                take(&scratch[..count]);
                true
            }
        })
    })
    .await
}

fn poll_socket(socket: &mut (impl AsyncRead + Unpin), context: &mut Context<'_>, out: &mut [u8]) -> Poll<Input> {
    let mut buffer = ReadBuf::new(out);
    let read = ready!(Pin::new(socket).poll_read(context, &mut buffer));
    Poll::Ready(match (read, buffer.filled().len()) {
        (Err(_), _) | (Ok(()), 0) => Input::Closed,
        (Ok(()), count) => Input::Bytes { count, more: buffer.remaining() == 0 },
    })
}

/// The reading side, owned by the connection's task.
pub(super) enum Reader {
    Plain(OwnedReadHalf),
    Layered(Rc<RefCell<Layered>>),
}

impl Reader {
    pub(super) fn poll_read(&mut self, context: &mut Context<'_>, out: &mut [u8]) -> Poll<Input> {
        match self {
            Self::Plain(reader) => poll_socket(reader, context, out),
            Self::Layered(layered) => {
                let Layered { socket, layers, ahead, buffers, .. } = &mut *layered.borrow_mut();
                layers.poll_read(socket, ahead, buffers, context, out)
            }
        }
    }

    /// Bytes to read at a time from a peer of whom less is to be read: a few thousand of the smallest packets, or what a
    /// record of TLS needs.
    pub(super) fn least_room(&self) -> usize {
        match self {
            Self::Plain(_) => 8 << 10,
            Self::Layered(_) => 32 << 10,
        }
    }

    /// The layers of a Client that has shown a certificate.
    pub(super) fn certified(&self) -> Option<Weak<RefCell<Layered>>> {
        let Self::Layered(layered) = self else { return None };
        let has_certificate =
            layered.borrow().layers.tls.as_ref().is_some_and(|tls| !tls.peer_certificates().is_empty());
        has_certificate.then(|| Rc::downgrade(layered))
    }

    pub(super) fn poll_write_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(reader) => reader.as_ref().poll_write_ready(context),
            Self::Layered(layered) => layered.borrow().socket.poll_write_ready(context),
        }
    }
}

/// A connection with layers, shared by the task that reads it and the shard that writes to it.
pub(super) struct Layered {
    socket: TcpStream,
    pub(super) layers: Box<Layers>,
    ahead: Vec<u8>,
    buffers: Rc<Buffers>,
    /// Whether there is somebody to say goodbye to when the writing side goes.
    is_open: bool,
}

/// The writing side, owned by the shard. Dropping it says goodbye and shuts the sending side down.
pub(super) struct SocketWire {
    writer: Writer,
    reader: Waker,
}

enum Writer {
    Plain(OwnedWriteHalf),
    Layered(LayeredWriter),
}

struct LayeredWriter(Rc<RefCell<Layered>>);

impl Wire for SocketWire {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Broken> {
        match &mut self.writer {
            Writer::Plain(writer) => taken(writer.try_write(bytes)),
            Writer::Layered(writer) => {
                let Layered { socket, layers, buffers, .. } = &mut *writer.0.borrow_mut();
                layers.write(socket, buffers, bytes)
            }
        }
    }

    fn reader(&self) -> &Waker {
        &self.reader
    }
}

impl Drop for LayeredWriter {
    fn drop(&mut self) {
        let Layered { socket, layers, buffers, is_open, .. } = &mut *self.0.borrow_mut();
        if *is_open {
            let mut encoded = buffers.encoded.borrow_mut();
            encoded.clear();
            if layers.unsent.is_empty() {
                layers.say_goodbye(&mut encoded);
                let _ = socket.try_write(encoded.filled()); // whoever takes nothing any more is not owed a goodbye
            }
            let _ = socket2::SockRef::from(&*socket).shutdown(std::net::Shutdown::Write);
        }
    }
}

/// How much of what was written the socket has taken.
fn taken(written: io::Result<usize>) -> Result<usize, Broken> {
    match written {
        Ok(count) => Ok(count),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        Err(_) => Err(Broken),
    }
}

impl Layers {
    fn poll_read(
        &mut self,
        socket: &mut TcpStream,
        ahead: &mut Vec<u8>,
        buffers: &Buffers,
        context: &mut Context<'_>,
        out: &mut [u8],
    ) -> Poll<Input> {
        for _ in 0..EMPTY_READS_MAX {
            if self.ended {
                return Poll::Ready(Input::Closed);
            }
            self.send_answers(socket, context);
            let mut encoded = buffers.encoded.borrow_mut();
            encoded.clear();
            let Input::Bytes { mut count, more } =
                ready!(self.poll_below(socket, ahead, buffers, context, out, &mut encoded))
            else {
                self.ended = true;
                return Poll::Ready(Input::Closed);
            };
            if let Some(websocket) = &mut self.websocket {
                let answers_wait = self.unsent.len() + encoded.filled().len() > ANSWERS_BYTES_MAX;
                let read = websocket.receive(&mut out[..count]);
                count = read.count;
                if let Some(answer) = read.answer.filter(|_| !answers_wait || read.ended) {
                    // A failure to say it is noticed by whoever writes next.
                    let _ = encode_with(&mut self.tls, &answer.parts(), &mut encoded);
                }
                self.ended |= read.ended;
                self.silenced |= read.ended;
            }
            if !encoded.filled().is_empty() {
                let _ = self.send(socket, &encoded);
            }
            if count > 0 {
                return Poll::Ready(Input::Bytes { count, more });
            }
        }
        if self.ended {
            return Poll::Ready(Input::Closed);
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// What comes out of TLS, or of the socket where there is none; `count` may be 0 where TLS keeps it all.
    fn poll_below(
        &mut self,
        socket: &mut TcpStream,
        ahead: &mut Vec<u8>,
        buffers: &Buffers,
        context: &mut Context<'_>,
        out: &mut [u8],
        encoded: &mut Encoded,
    ) -> Poll<Input> {
        if !ahead.is_empty() {
            let count = ahead.len().min(out.len());
            out[..count].copy_from_slice(&ahead[..count]);
            ahead.drain(..count);
            if ahead.is_empty() {
                *ahead = Vec::new();
            }
            return Poll::Ready(Input::Bytes { count, more: false });
        }
        let Some(tls) = &mut self.tls else { return poll_socket(socket, context, out) };
        let mut received = buffers.received.borrow_mut();
        if received.is_empty() {
            *received = vec![0; BUFFER_BYTES].into();
        }
        let room = out.len().min(received.len()); // what is decrypted is never longer than what was encrypted
        let kept = tls.unprocessed().len();
        if kept >= room {
            return Poll::Ready(Input::Closed); // no record is that large, and no message of a handshake should be
        }
        received[..kept].copy_from_slice(tls.unprocessed());
        let Input::Bytes { count, more } = ready!(poll_socket(socket, context, &mut received[kept..room])) else {
            return Poll::Ready(Input::Closed);
        };
        let mut decrypted = 0;
        let received = tls.receive(&mut received[..kept + count], encoded, |plain| {
            out[decrypted..decrypted + plain.len()].copy_from_slice(plain);
            decrypted += plain.len();
        });
        self.ended |= received.is_err() || tls.peer_has_closed();
        self.silenced |= received.is_err();
        Poll::Ready(Input::Bytes { count: decrypted, more })
    }

    /// Encodes and writes. What the socket takes only in part counts as not written: the shard offers the same bytes again when
    /// there is room, and until then finds out that the peer takes nothing.
    fn write(&mut self, socket: &TcpStream, buffers: &Buffers, bytes: &[u8]) -> Result<usize, Broken> {
        if self.silenced {
            return Err(Broken);
        }
        if !self.flush(socket)? {
            return Ok(0);
        }
        // The shard may offer them in smaller pieces than before.
        let mut written = self.owed.min(bytes.len());
        self.owed -= written;
        let mut encoded = buffers.encoded.borrow_mut();
        for part in bytes[written..].chunks(BUFFER_BYTES) {
            encoded.clear();
            self.encode(part, &mut encoded)?;
            if !self.send(socket, &encoded)? {
                self.owed = part.len();
                break;
            }
            written += part.len();
        }
        Ok(written)
    }

    fn encode(&mut self, bytes: &[u8], encoded: &mut Encoded) -> Result<(), Broken> {
        let Some(websocket) = &self.websocket else { return encode_with(&mut self.tls, &[bytes], encoded) };
        let header = websocket.header(bytes.len());
        encode_with(&mut self.tls, &[header.as_ref(), bytes], encoded)
    }

    fn say_goodbye(&mut self, encoded: &mut Encoded) {
        if let Some(websocket) = &mut self.websocket
            && let Some(close) = websocket.close()
        {
            let _ = encode_with(&mut self.tls, &close.parts(), encoded);
        }
        if let Some(tls) = &mut self.tls {
            tls.say_goodbye(encoded);
        }
    }

    /// Sends, and keeps what the socket does not take. `true`: it has taken everything.
    fn send(&mut self, socket: &TcpStream, encoded: &Encoded) -> Result<bool, Broken> {
        let count = if self.unsent.is_empty() { taken(socket.try_write(encoded.filled()))? } else { 0 };
        self.unsent.extend_from_slice(&encoded.filled()[count..]);
        Ok(self.unsent.is_empty())
    }

    /// `true`: nothing is left from before.
    fn flush(&mut self, socket: &TcpStream) -> Result<bool, Broken> {
        if !self.unsent.is_empty() {
            let count = taken(socket.try_write(&self.unsent))?;
            self.unsent.drain(..count);
            if self.unsent.is_empty() {
                self.unsent = Vec::new();
            }
        }
        Ok(self.unsent.is_empty())
    }

    /// Answers of the layers of which the shard knows nothing: somebody has to send them.
    fn send_answers(&mut self, socket: &TcpStream, context: &mut Context<'_>) {
        while self.owed == 0 && !self.unsent.is_empty() && socket.poll_write_ready(context).is_ready() {
            if self.flush(socket).is_err() {
                self.unsent = Vec::new(); // the next read or write says that it is over
            }
        }
    }
}

fn encode_with(tls: &mut Option<Box<Tls>>, parts: &[&[u8]], encoded: &mut Encoded) -> Result<(), Broken> {
    match tls {
        None => parts.iter().for_each(|part| encoded.extend(part)),
        Some(tls) => tls.encrypt(parts, encoded)?,
    }
    Ok(())
}
