//! TLS of one connection: records in, bytes out, and the other way round.
//!
//! It stands on rustls' unbuffered interface, so that a connection that waits keeps its keys and nothing else. Nothing here
//! waits or touches a socket: `stream.rs` moves the bytes, `connection.rs` waits for the handshake, `credentials.rs` says
//! with which certificates.

use super::credentials::{Credentials, Loaded};
use super::stream::Encoded;
use crate::broker::Broken;
use rustls::HandshakeKind;
use rustls::pki_types::CertificateDer;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, InsufficientSizeError, UnbufferedStatus, WriteTraffic,
};
use std::sync::Arc;

pub(super) struct Tls {
    connection: UnbufferedServerConnection,
    /// Bytes from the peer that are no complete message yet. Empty most of the time, and at most what one read takes.
    unprocessed: Vec<u8>,
    peer_has_closed: bool,
    /// The peer has broken the rules and been told so.
    has_failed: bool,
    credentials: Arc<Credentials>,
    /// Those in force when the handshake began.
    loaded: Arc<Loaded>,
}

/// What rustls needs beside the content of a record: header, nonce, content type and tag.
const RECORD_OVERHEAD: usize = 64;
/// Content of a record.
const RECORD_BYTES: usize = 16 << 10;
const RECORD_HEADER_BYTES: usize = 5;
/// First byte of a record with a message of the handshake.
const HANDSHAKE: u8 = 22;

impl Tls {
    /// # Errors
    /// rustls refuses its own configuration.
    pub(super) fn new(credentials: &Arc<Credentials>, unprocessed: Vec<u8>) -> Result<Self, rustls::Error> {
        let loaded = credentials.loaded();
        let connection = UnbufferedServerConnection::new(Arc::clone(loaded.server()))?;
        Ok(Self {
            connection,
            unprocessed,
            peer_has_closed: false,
            has_failed: false,
            credentials: Arc::clone(credentials),
            loaded,
        })
    }

    pub(super) fn unprocessed(&self) -> &[u8] {
        &self.unprocessed
    }

    pub(super) fn peer_has_closed(&self) -> bool {
        self.peer_has_closed
    }

    pub(super) fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    pub(super) fn credentials(&self) -> &Arc<Credentials> {
        &self.credentials
    }

    pub(super) fn peer_certificates(&self) -> &[CertificateDer<'static>] {
        self.connection.peer_certificates().unwrap_or_default()
    }

    /// Whether the peer has begun as TLS begins.
    pub(super) fn is_tls(&self) -> bool {
        self.unprocessed.first().is_none_or(|first| *first == HANDSHAKE) || self.connection.protocol_version().is_some()
    }

    /// Adds bytes of the handshake as they come.
    pub(super) fn collect(&mut self, bytes: &[u8]) {
        self.unprocessed.extend_from_slice(bytes);
    }

    /// Whether there is work to do: a complete record, or what will never be one.
    pub(super) fn has_record(&self) -> bool {
        let [kind, _, _, high, low, ..] = self.unprocessed[..] else {
            return self.unprocessed.first().is_some_and(|first| *first != HANDSHAKE);
        };
        let size = usize::from(u16::from_be_bytes([high, low]));
        kind != HANDSHAKE || size > RECORD_BYTES || self.unprocessed.len() >= RECORD_HEADER_BYTES + size
    }

    /// One step of the handshake with what was collected. Answers go to `encoded`, and bytes that the peer has sent behind its
    /// handshake to `ahead`.
    ///
    /// # Errors
    /// Why there will be no connection; `encoded` holds the alert that says so.
    pub(super) fn shake_hands(&mut self, encoded: &mut Encoded, ahead: &mut Vec<u8>) -> Result<(), rustls::Error> {
        let mut received = std::mem::take(&mut self.unprocessed);
        self.receive(&mut received, encoded, |plain| ahead.extend_from_slice(plain))?;
        if self.connection.is_handshaking() {
            return Ok(());
        }
        // A ticket says what was true when it was made.
        if self.connection.handshake_kind() == Some(HandshakeKind::Resumed) { self.check_again() } else { Ok(()) }
    }

    /// Whether the peer's certificate, if it has shown one, would be accepted now.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn check_again(&self) -> Result<(), rustls::Error> {
        self.credentials.loaded().verify(self.peer_certificates())
    }

    /// Whether other certificates have come into force since the handshake.
    pub(super) fn is_outdated(&self) -> bool {
        !Arc::ptr_eq(&self.loaded, &self.credentials.loaded())
    }

    /// Takes what has come, `unprocessed` first. Content goes to `take`, what has to be answered to `encoded`.
    ///
    /// # Errors
    /// The peer has broken the rules; `encoded` holds the alert that says so, and nothing more can be received.
    pub(super) fn receive(
        &mut self,
        received: &mut [u8],
        encoded: &mut Encoded,
        mut take: impl FnMut(&[u8]),
    ) -> Result<(), rustls::Error> {
        let mut start = 0;
        loop {
            let UnbufferedStatus { mut discard, state } = self.connection.process_tls_records(&mut received[start..]);
            let mut is_done = false;
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record?;
                        discard += record.discard;
                        take(record.payload);
                    }
                }
                Ok(ConnectionState::EncodeTlsData(data)) => {
                    add(data, encoded).map_err(|Broken| rustls::Error::EncryptError)?;
                }
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => {
                    is_done = self.peer_has_closed;
                    self.peer_has_closed = true;
                }
                // Early data is not offered.
                Ok(_) => is_done = true,
                Err(error) => {
                    self.has_failed = true;
                    self.encode_alert(&mut received[start..], encoded);
                    return Err(error);
                }
            }
            start += discard;
            if is_done {
                break;
            }
        }
        self.unprocessed = received[start..].to_vec();
        Ok(())
    }

    /// What rustls wants to say about a failure. After that it must not be asked for anything any more: it would look at the
    /// same bytes again and take it for a mistake of ours.
    fn encode_alert(&mut self, received: &mut [u8], encoded: &mut Encoded) {
        while self.connection.wants_write() {
            let state = self.connection.process_tls_records(received).state;
            let Ok(ConnectionState::EncodeTlsData(data)) = state else { return };
            if add(data, encoded).is_err() {
                return;
            }
        }
    }

    /// # Errors
    /// The connection has used up its keys, or is closed.
    pub(super) fn encrypt(&mut self, parts: &[&[u8]], encoded: &mut Encoded) -> Result<(), Broken> {
        // A frame's header is not worth a record of its own.
        let joined;
        let plain = match parts {
            [plain] => *plain,
            _ => {
                joined = parts.concat();
                &joined
            }
        };
        self.write(encoded, |traffic, encoded| {
            let room = plain.len() + (plain.len() / RECORD_BYTES + 1) * RECORD_OVERHEAD;
            fit(encoded, room, |room| traffic.encrypt(plain, room).map_err(insufficient))
        })
    }

    pub(super) fn say_goodbye(&mut self, encoded: &mut Encoded) {
        // Where nothing can be said any more, closing says it.
        let _ = self.write(encoded, |traffic, encoded| {
            fit(encoded, RECORD_OVERHEAD, |room| traffic.queue_close_notify(room).map_err(insufficient))
        });
    }

    /// Brings rustls into the state in which it encrypts. It is always shown what it has not used yet, because it may have
    /// noted where in there a message lies.
    fn write(
        &mut self,
        encoded: &mut Encoded,
        mut write: impl FnMut(&mut WriteTraffic<'_, ServerConnectionData>, &mut Encoded) -> Result<(), Broken>,
    ) -> Result<(), Broken> {
        if self.has_failed {
            return Err(Broken);
        }
        loop {
            let UnbufferedStatus { discard, state } = self.connection.process_tls_records(&mut self.unprocessed);
            let result = match state {
                Ok(ConnectionState::WriteTraffic(mut traffic)) => Some(write(&mut traffic, encoded)),
                Ok(ConnectionState::EncodeTlsData(data)) => add(data, encoded).err().map(Err),
                Ok(ConnectionState::TransmitTlsData(data)) => {
                    data.done();
                    None
                }
                Ok(ConnectionState::PeerClosed) => {
                    self.peer_has_closed = true;
                    None
                }
                Ok(_) => Some(Err(Broken)),
                Err(_) => {
                    self.has_failed = true;
                    Some(Err(Broken))
                }
            };
            self.unprocessed.drain(..discard);
            if let Some(result) = result {
                return result;
            }
        }
    }
}

/// Messages of the handshake and alerts, as they travel.
fn add(mut data: EncodeTlsData<'_, ServerConnectionData>, encoded: &mut Encoded) -> Result<(), Broken> {
    fit(encoded, RECORD_OVERHEAD, |room| {
        data.encode(room).map_err(|error| match error {
            EncodeError::InsufficientSize(error) => Some(error),
            EncodeError::AlreadyEncoded => None,
        })
    })
}

/// Lets rustls write; where it needs more room than was thought, it says how much.
fn fit(
    encoded: &mut Encoded,
    room: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, Option<InsufficientSizeError>>,
) -> Result<(), Broken> {
    match encoded.add(room, &mut write) {
        Ok(()) => Ok(()),
        Err(Some(InsufficientSizeError { required_size })) => encoded.add(required_size, write).map_err(|_| Broken),
        Err(None) => Err(Broken),
    }
}

fn insufficient(error: EncryptError) -> Option<InsufficientSizeError> {
    match error {
        EncryptError::InsufficientSize(error) => Some(error),
        EncryptError::EncryptExhausted => None,
    }
}

/// What a peer may have meant that does not speak TLS.
pub(super) fn guess(bytes: &[u8]) -> &'static str {
    match bytes {
        [0x10, ..] => "not TLS; it looks like MQTT without TLS",
        [b'G', b'E', b'T', b' ', ..] => "not TLS; it looks like HTTP without TLS",
        [b'P', b'R', b'O', b'X', b'Y', b' ', ..] | [0x0D, 0x0A, 0x0D, 0x0A, 0, ..] => {
            "not TLS; it looks like PROXY protocol"
        }
        _ => "not TLS",
    }
}
