//! WebSocket (RFC 6455), the server's half: the upgrade request, and frames there and back.
//!
//! Frames are taken apart where they lie and their content handed on as it comes, however they are cut: a connection keeps a
//! few bytes about the frame it is in, and no content. Nothing here waits or touches a socket; `stream.rs` moves the bytes.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::arithmetic_side_effects)]

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use httparse::{EMPTY_HEADER, Header, Request, Status};

/// What a listener asks of an upgrade request.
#[derive(Clone, Debug)]
pub struct WebSocketSettings {
    /// Web pages that may connect; `*` stands for all, and `none` for programs that do not say where they come from.
    pub origins: Vec<String>,
    /// The one path; `None`: any.
    pub path: Option<String>,
}

/// A request that is answered, and the connection closed.
#[derive(Debug, PartialEq, Eq)]
pub struct NotUpgraded {
    pub answer: Vec<u8>,
    pub why: &'static str,
}

/// Largest upgrade request.
const REQUEST_BYTES_MAX: usize = 8 << 10;
const HEADERS_MAX: usize = 64;
/// Names of MQTT among the subprotocols [MQTT-6.0.0-3], the preferred one first.
const SUBPROTOCOLS: [&str; 2] = ["mqtt", "mqttv3.1"];

impl WebSocketSettings {
    /// Looks at what has come of a request. `Some`: the answer, and how many bytes the request has.
    ///
    /// # Errors
    /// The answer to a request that is refused.
    pub fn upgrade(&self, received: &[u8]) -> Result<Option<(Vec<u8>, usize)>, NotUpgraded> {
        let mut headers = [EMPTY_HEADER; HEADERS_MAX];
        let mut request = Request::new(&mut headers);
        let size = match request.parse(received) {
            Ok(Status::Complete(size)) if size <= REQUEST_BYTES_MAX => size,
            Ok(Status::Partial) if received.len() <= REQUEST_BYTES_MAX => return Ok(None),
            Ok(_) => {
                return Err(refuse("431 Request Header Fields Too Large", "", "an upgrade request that is too large"));
            }
            Err(httparse::Error::TooManyHeaders) => {
                return Err(refuse(
                    "431 Request Header Fields Too Large",
                    "",
                    "an upgrade request with too many headers",
                ));
            }
            Err(_) => return Err(refuse("400 Bad Request", "", "not an HTTP request")),
        };
        let path = request.path.unwrap_or_default();
        if request.method != Some("GET") || request.version != Some(1) {
            return Err(refuse("400 Bad Request", "", "an HTTP request that cannot become WebSocket"));
        }
        let path = path.split('?').next().unwrap_or_default();
        if self.path.as_deref().is_some_and(|allowed| allowed != path) {
            return Err(refuse("404 Not Found", "", "a WebSocket request for another path"));
        }
        let headers = Headers(request.headers);
        if headers.one("content-length").is_ok_and(|length| length.is_some_and(|length| length != b"0"))
            || headers.one("transfer-encoding") != Ok(None)
        {
            return Err(refuse("400 Bad Request", "", "an upgrade request with a body"));
        }
        if !headers.list("upgrade").any(|word| word.eq_ignore_ascii_case(b"websocket"))
            || !headers.list("connection").any(|word| word.eq_ignore_ascii_case(b"upgrade"))
        {
            return Err(refuse(
                "426 Upgrade Required",
                "Upgrade: websocket\r\nConnection: Upgrade\r\n",
                "HTTP, not WebSocket",
            ));
        }
        if headers.one("sec-websocket-version") != Ok(Some(b"13")) {
            return Err(refuse(
                "426 Upgrade Required",
                "Sec-WebSocket-Version: 13\r\n",
                "another version of WebSocket",
            ));
        }
        let key = match headers.one("sec-websocket-key") {
            Ok(Some(key)) if key.len() == 24 => key,
            _ => return Err(refuse("400 Bad Request", "", "a WebSocket request without a key")),
        };
        match headers.one("origin") {
            Ok(origin) if self.allows(origin) => {}
            _ => return Err(refuse("403 Forbidden", "", "a WebSocket request from an Origin that is not on the list")),
        }
        let offered = |name: &&&str| headers.list("sec-websocket-protocol").any(|word| word == name.as_bytes());
        let Some(subprotocol) = SUBPROTOCOLS.iter().find(offered) else {
            return Err(refuse("400 Bad Request", "", "a WebSocket request without the subprotocol mqtt"));
        };
        // Extensions are not answered, and so not used. [MQTT-6.0.0-4]
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {}\r\nSec-WebSocket-Protocol: {subprotocol}\r\n\r\n",
            accept(key)
        );
        Ok(Some((answer.into_bytes(), size)))
    }

    fn allows(&self, origin: Option<&[u8]>) -> bool {
        self.origins.iter().any(|allowed| match (allowed.as_str(), origin) {
            ("*", _) | ("none", None) => true,
            (allowed, Some(origin)) => origin.eq_ignore_ascii_case(allowed.as_bytes()),
            (_, None) => false,
        })
    }
}

fn refuse(status: &str, headers: &str, why: &'static str) -> NotUpgraded {
    let answer = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: 0\r\nConnection: close\r\n\r\n");
    // `Connection: Upgrade` and `Connection: close` are one list.
    NotUpgraded { answer: answer.into_bytes(), why }
}

/// Header fields of a request; names are compared without regard to case.
struct Headers<'a>(&'a [Header<'a>]);

impl<'a> Headers<'a> {
    fn all(&self, name: &'static str) -> impl Iterator<Item = &'a [u8]> {
        self.0.iter().filter(move |header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value)
    }

    /// A field that may be there once.
    fn one(&self, name: &'static str) -> Result<Option<&'a [u8]>, ()> {
        let mut all = self.all(name);
        match (all.next(), all.next()) {
            (value, None) => Ok(value.map(<[u8]>::trim_ascii)),
            (_, Some(_)) => Err(()),
        }
    }

    /// The words of a field that is a list.
    fn list(&self, name: &'static str) -> impl Iterator<Item = &'a [u8]> {
        self.all(name).flat_map(|value| value.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii)
    }
}

/// The proof that the request was understood (RFC 6455, 4.2.2).
fn accept(key: &[u8]) -> String {
    let digest = digest(&SHA1_FOR_LEGACY_USE_ONLY, &[key, b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"].concat());
    base64(digest.as_ref())
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().chain(&[0; 2]).take(3).fold(0_usize, |bits, byte| bits << 8 | usize::from(*byte));
        for (digit, shift) in [18, 12, 6, 0].into_iter().enumerate() {
            let character = DIGITS.get(bits >> shift & 63).filter(|_| digit <= chunk.len());
            text.push(character.map_or('=', |character| char::from(*character)));
        }
    }
    text
}

/// One connection after the upgrade.
#[derive(Debug)]
pub struct WebSocket {
    /// The beginning of a frame, as far as it has come.
    header: [u8; HEADER_BYTES_MAX],
    header_filled: u8,
    frame: Frame,
    /// A message goes on in another frame.
    in_message: bool,
    /// Content of the control frame that is being read.
    control: [u8; CONTROL_BYTES_MAX],
    control_filled: u8,
    /// A Close frame was sent; nothing may follow it.
    closed: bool,
}

/// The frame whose content is being read.
#[derive(Clone, Copy, Debug, Default)]
struct Frame {
    opcode: u8,
    left: u64,
    mask: [u8; 4],
    /// Which byte of the mask is next.
    at: u8,
}

/// What came out of some bytes.
#[derive(Debug)]
pub struct Received {
    /// Bytes of content, which stand at the beginning now.
    pub count: usize,
    /// A frame that is owed.
    pub answer: Option<ControlFrame>,
    /// Nothing more is to be read; `answer` says why.
    pub ended: bool,
}

/// A Pong or Close frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlFrame {
    header: [u8; 2],
    content: Vec<u8>,
}

impl ControlFrame {
    fn new(opcode: u8, content: &[u8]) -> Self {
        Self { header: [FIN | opcode, content.len() as u8], content: content.to_vec() } // at most 125
    }

    pub fn parts(&self) -> [&[u8]; 2] {
        [&self.header, &self.content]
    }
}

/// The header of a frame that we send.
pub struct FrameHeader {
    bytes: [u8; 10],
    size: usize,
}

impl AsRef<[u8]> for FrameHeader {
    fn as_ref(&self) -> &[u8] {
        self.bytes.get(..self.size).unwrap_or(&self.bytes)
    }
}

const HEADER_BYTES_MAX: usize = 14;
const CONTROL_BYTES_MAX: usize = 125;
/// Content of one frame; more than the largest packet of MQTT.
const FRAME_BYTES_MAX: u64 = 512 << 20;

const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
const OPCODE: u8 = 0x0F;
const MASKED: u8 = 0x80;
const LENGTH: u8 = 0x7F;

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

const NORMAL: u16 = 1000;
const PROTOCOL_ERROR: u16 = 1002;
const UNACCEPTABLE: u16 = 1003;
const TOO_LARGE: u16 = 1009;

impl Default for WebSocket {
    fn default() -> Self {
        Self {
            header: [0; HEADER_BYTES_MAX],
            header_filled: 0,
            frame: Frame::default(),
            in_message: false,
            control: [0; CONTROL_BYTES_MAX],
            control_filled: 0,
            closed: false,
        }
    }
}

impl WebSocket {
    /// Takes frames apart in place: content moves to the front of `bytes`. Of several Pings only the last one is answered.
    pub fn receive(&mut self, bytes: &mut [u8]) -> Received {
        let mut received = Received { count: 0, answer: None, ended: false };
        let mut at = 0;
        while at < bytes.len() && !received.ended {
            if self.frame.left == 0 && !self.has_header() {
                let (Some(place), Some(byte)) = (self.header.get_mut(usize::from(self.header_filled)), bytes.get(at))
                else {
                    break;
                };
                *place = *byte;
                self.header_filled = self.header_filled.saturating_add(1);
                at = at.saturating_add(1);
                if let Err(code) = self.read_header() {
                    self.end(code, &mut received);
                    break;
                }
            }
            let end = usize::try_from(self.frame.left).unwrap_or(usize::MAX).saturating_add(at).min(bytes.len());
            let Some(content) = bytes.get_mut(at..end) else { break };
            self.unmask(content);
            if self.frame.opcode >= CLOSE {
                let free = self.control.iter_mut().skip(usize::from(self.control_filled));
                free.zip(&*content).for_each(|(place, byte)| *place = *byte);
                self.control_filled = self.control_filled.saturating_add(content.len() as u8); // at most 125
            } else {
                let count = content.len();
                bytes.copy_within(at..end, received.count);
                received.count = received.count.saturating_add(count);
            }
            self.frame.left = self.frame.left.saturating_sub(end.saturating_sub(at) as u64);
            at = end;
            if self.has_header() && self.frame.left == 0 {
                self.end_frame(&mut received);
            }
        }
        received
    }

    fn has_header(&self) -> bool {
        let filled = usize::from(self.header_filled);
        filled >= 2 && filled == header_size(self.header[1])
    }

    /// Looks at what has come of a header.
    fn read_header(&mut self) -> Result<(), u16> {
        let [first, second, rest @ ..] = self.header;
        let (opcode, is_last) = (first & OPCODE, first & FIN != 0);
        if self.header_filled == 1 {
            return match opcode {
                _ if first & RESERVED != 0 => Err(PROTOCOL_ERROR),
                CONTINUATION if self.in_message => Ok(()),
                BINARY if !self.in_message => Ok(()),
                TEXT if !self.in_message => Err(UNACCEPTABLE), // [MQTT-6.0.0-1]
                CLOSE | PING | PONG if is_last => Ok(()),
                _ => Err(PROTOCOL_ERROR),
            };
        }
        if self.header_filled == 2 && (second & MASKED == 0 || (opcode >= CLOSE && second & LENGTH > 125)) {
            return Err(PROTOCOL_ERROR);
        }
        if !self.has_header() {
            return Ok(());
        }
        let [a, b, c, d, e, f, g, h, i, j, k, l] = rest;
        let (left, mask) = match second & LENGTH {
            126 => (u64::from(u16::from_be_bytes([a, b])), [c, d, e, f]),
            127 => (u64::from_be_bytes([a, b, c, d, e, f, g, h]), [i, j, k, l]),
            length => (u64::from(length), [a, b, c, d]),
        };
        if left > FRAME_BYTES_MAX {
            return Err(TOO_LARGE);
        }
        self.frame = Frame { opcode, left, mask, at: 0 };
        Ok(())
    }

    fn unmask(&mut self, content: &mut [u8]) {
        let mut mask = self.frame.mask;
        mask.rotate_left(usize::from(self.frame.at));
        let word = u64::from_ne_bytes([mask[0], mask[1], mask[2], mask[3], mask[0], mask[1], mask[2], mask[3]]);
        let (words, rest) = content.as_chunks_mut::<8>();
        for bytes in words {
            *bytes = (u64::from_ne_bytes(*bytes) ^ word).to_ne_bytes();
        }
        rest.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
        self.frame.at = self.frame.at.wrapping_add(content.len() as u8) % 4; // 256 is a multiple of four
    }

    fn end_frame(&mut self, received: &mut Received) {
        let is_last = self.header[0] & FIN != 0;
        let content = self.control.get(..usize::from(self.control_filled)).unwrap_or(&self.control);
        match self.frame.opcode {
            PING => received.answer = Some(ControlFrame::new(PONG, content)),
            CLOSE => {
                let code = match content {
                    [] => NORMAL,
                    [a, b, reason @ ..] if std::str::from_utf8(reason).is_ok() => match u16::from_be_bytes([*a, *b]) {
                        code @ (1000..=1003 | 1007..=1014 | 3000..=4999) => code,
                        _ => PROTOCOL_ERROR,
                    },
                    _ => PROTOCOL_ERROR,
                };
                self.end(code, received);
            }
            PONG => {}
            _ => self.in_message = !is_last,
        }
        self.header_filled = 0;
        self.control_filled = 0;
        self.frame = Frame::default();
    }

    fn end(&mut self, code: u16, received: &mut Received) {
        received.ended = true;
        if !std::mem::replace(&mut self.closed, true) {
            received.answer = Some(ControlFrame::new(CLOSE, &code.to_be_bytes()));
        }
    }

    /// For so much content in one binary frame [MQTT-6.0.0-1].
    pub fn header(&self, content_size: usize) -> FrameHeader {
        let mut bytes = [FIN | BINARY, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let size = match (u8::try_from(content_size), u16::try_from(content_size)) {
            (Ok(short @ 0..=125), _) => {
                bytes[1] = short;
                2
            }
            (_, Ok(middle)) => {
                bytes[1] = 126;
                bytes[2..4].copy_from_slice(&middle.to_be_bytes());
                4
            }
            _ => {
                bytes[1] = 127;
                bytes[2..].copy_from_slice(&(content_size as u64).to_be_bytes());
                10
            }
        };
        FrameHeader { bytes, size }
    }

    /// The Close frame with which we end it. `None`: one was sent already.
    pub fn close(&mut self) -> Option<ControlFrame> {
        (!std::mem::replace(&mut self.closed, true)).then(|| ControlFrame::new(CLOSE, &NORMAL.to_be_bytes()))
    }
}

/// Of a frame from a Client, by its second byte.
fn header_size(second: u8) -> usize {
    match second & LENGTH {
        126 => 8,
        127 => HEADER_BYTES_MAX,
        _ => 6,
    }
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "a test may panic")]
mod tests {
    use super::{WebSocket, accept};
    use proptest::prelude::*;
    use std::io::{self, Read, Write};
    use tungstenite::protocol::Role;

    #[test]
    fn the_proof_is_the_one_of_the_rfc() {
        assert_eq!(accept(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    /// What a peer sends; what is sent to it is forgotten.
    struct Peer<'a>(&'a [u8]);

    impl Read for Peer<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            self.0.read(out)
        }
    }

    impl Write for Peer<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The content of all binary messages, and how it ended.
    fn of_tungstenite(bytes: &[u8]) -> (Vec<u8>, End) {
        let mut socket = tungstenite::WebSocket::from_raw_socket(Peer(bytes), Role::Server, None);
        let mut content = Vec::new();
        loop {
            match socket.read() {
                Ok(tungstenite::Message::Binary(message)) => content.extend_from_slice(&message),
                Ok(tungstenite::Message::Text(_)) => return (content, End::Text),
                Ok(tungstenite::Message::Close(_)) => return (content, End::Closed),
                Ok(_) => {}
                Err(tungstenite::Error::Protocol(tungstenite::error::ProtocolError::ResetWithoutClosingHandshake)) => {
                    return (content, End::NotYet);
                }
                Err(tungstenite::Error::Io(_)) => return (content, End::NotYet),
                Err(_) => return (content, End::Wrong),
            }
        }
    }

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum End {
        NotYet,
        Closed,
        Text,
        Wrong,
    }

    fn ours(bytes: &[u8], cut: usize) -> (Vec<u8>, bool) {
        let mut socket = WebSocket::default();
        let mut content = Vec::new();
        for part in bytes.chunks(cut) {
            let mut part = part.to_vec();
            let received = socket.receive(&mut part);
            content.extend_from_slice(&part[..received.count]);
            if received.ended {
                return (content, true);
            }
        }
        (content, false)
    }

    /// Mostly as it should be.
    fn frame() -> impl Strategy<Value = Vec<u8>> {
        let first = prop_oneof![
            12 => Just(0x82_u8), 4 => Just(0x02), 6 => Just(0x00), 6 => Just(0x80), 3 => Just(0x89), 2 => Just(0x8A),
            1 => Just(0x88), 1 => any::<u8>()
        ];
        let masked = prop_oneof![40 => Just(0x80_u8), 1 => Just(0)];
        let size = prop_oneof![8 => 0..40_usize, 3 => 120..130_usize, 1 => 65_530..65_540_usize];
        (first, masked, any::<[u8; 4]>(), size, any::<u8>()).prop_map(|(first, masked, mask, size, fill)| {
            let mut bytes = vec![first];
            match size {
                0..=125 => bytes.push(masked | size as u8),
                126..=0xFFFF => {
                    bytes.push(masked | 126);
                    bytes.extend_from_slice(&(size as u16).to_be_bytes());
                }
                _ => {
                    bytes.push(masked | 127);
                    bytes.extend_from_slice(&(size as u64).to_be_bytes());
                }
            }
            bytes.extend_from_slice(&mask);
            bytes.extend((0..size).map(|at| fill.wrapping_add(at as u8)));
            bytes
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2_000) })]

        #[test]
        fn frames_mean_what_they_mean_to_tungstenite(
            frames in prop::collection::vec(frame(), 1..12),
            cut in prop_oneof![Just(1_usize), Just(7), Just(100), Just(100_000)],
        ) {
            let bytes = frames.concat();
            let (their_content, end) = of_tungstenite(&bytes);
            let (content, ended) = ours(&bytes, cut);
            // Ours comes as it arrives, theirs when a message is complete.
            prop_assert!(content.starts_with(&their_content), "{end:?}");
            match end {
                End::NotYet => prop_assert!(!ended || text_begins(&bytes) || close_is_wrong(&bytes)),
                End::Closed | End::Text | End::Wrong => prop_assert!(ended, "{end:?}"),
            }
        }

        #[test]
        fn garbage_does_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..400), cut in 1..50_usize) {
            let (content, _) = ours(&bytes, cut);
            prop_assert!(content.len() <= bytes.len());
            prop_assert_eq!(content, ours(&bytes, 1).0);
        }
    }

    /// A text frame is refused by its first byte, before tungstenite has seen all of it.
    fn text_begins(bytes: &[u8]) -> bool {
        let mut socket = WebSocket::default();
        let mut bytes = bytes.to_vec();
        let received = socket.receive(&mut bytes);
        received.answer.is_some_and(|answer| answer.content == 1003_u16.to_be_bytes())
    }

    /// A frame that breaks the rules is refused by its first bytes, too.
    fn close_is_wrong(bytes: &[u8]) -> bool {
        let mut socket = WebSocket::default();
        let mut bytes = bytes.to_vec();
        socket.receive(&mut bytes).answer.is_some_and(|answer| answer.content == 1002_u16.to_be_bytes())
    }
}
