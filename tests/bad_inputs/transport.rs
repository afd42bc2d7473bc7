//! What lies between a Client of bytes and its socket: nothing, TLS, WebSocket, or WebSocket inside TLS.
//!
//! A test says over what it is played ([`play_over_layers`]); the brokers that it starts listen with that, and whoever opens
//! a connection to one of them speaks what is spoken there ([`Transport::at`]). So rows know nothing of all this.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind, Read as _, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::thread;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

#[path = "../support/frame.rs"]
mod frame;
use frame::frame;

/// How long something may take that must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Tcp,
    Tls,
    Ws,
    Wss,
}

/// Plays a row over everything but plain TCP, which is a test of its own.
pub(crate) fn play_over_layers(row: impl Fn() + Sync) {
    play_over(&[Transport::Tls, Transport::Ws, Transport::Wss], row);
}

/// Plays a row over each of these. At once, because most of the time they wait.
pub(crate) fn play_over(transports: &[Transport], row: impl Fn() + Sync) {
    thread::scope(|scope| {
        for &transport in transports {
            let row = &row;
            let play = move || {
                OF_THIS_TEST.set(transport);
                row();
            };
            thread::Builder::new().name(format!("over {transport:?}")).spawn_scoped(scope, play).expect("a thread");
        }
    });
}

thread_local! {
    /// Brokers that are started in this thread listen with this.
    static OF_THIS_TEST: Cell<Transport> = const { Cell::new(Transport::Tcp) };
}

/// What is spoken at the ports of this process's brokers, where that is not plain TCP. A port that is bound anew is told anew.
static SPOKEN: Mutex<BTreeMap<u16, Transport>> = Mutex::new(BTreeMap::new());

impl Transport {
    pub(crate) fn of_this_test() -> Self {
        OF_THIS_TEST.get()
    }

    /// What to speak at this address.
    pub(crate) fn at(address: SocketAddr) -> Self {
        locked(&SPOKEN).get(&address.port()).copied().unwrap_or(Self::Tcp)
    }

    /// From now on this is spoken at that address.
    pub(crate) fn is_spoken_at(self, address: SocketAddr) {
        locked(&SPOKEN).insert(address.port(), self);
    }

    pub(crate) fn has_tls(self) -> bool {
        matches!(self, Self::Tls | Self::Wss)
    }

    pub(crate) fn has_websocket(self) -> bool {
        matches!(self, Self::Ws | Self::Wss)
    }

    /// Lines of a listener that speaks this.
    pub(crate) fn listener_lines(self) -> String {
        let mut lines = String::new();
        if self.has_websocket() {
            lines.push_str("protocol = \"websocket\"\n");
        }
        if self.has_tls() {
            let Certificate { certificate, key, .. } = Certificate::of_these_tests();
            lines.push_str(&format!("tls_certificate = [{certificate:?}]\ntls_key = [{key:?}]\n"));
        }
        lines
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nobody panics while holding it")
}

/// What all brokers of these tests show, and what their Clients trust.
struct Certificate {
    certificate: PathBuf,
    key: PathBuf,
    client: Arc<ClientConfig>,
}

impl Certificate {
    /// Made by the first test process that needs it, for all that come later: some runners start a process for each test.
    fn of_these_tests() -> &'static Self {
        static MADE: OnceLock<Certificate> = OnceLock::new();
        MADE.get_or_init(|| {
            let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bad-inputs-certificate");
            if !folder.exists() {
                Self::make(&folder);
            }
            let certificate = folder.join("server.pem");
            let der = CertificateDer::from_pem_file(&certificate).expect("a certificate is there");
            let mut roots = RootCertStore::empty();
            roots.add(der).expect("a certificate can be trusted");
            let client = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .expect("the provider has the usual versions")
                .with_root_certificates(roots)
                .with_no_client_auth();
            Self { certificate, key: folder.join("server.key"), client: Arc::new(client) }
        })
    }

    fn make(folder: &Path) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate can be made");
        let beside = folder.with_extension(format!("{}", std::process::id()));
        fs::create_dir_all(&beside).expect("the target folder can be written");
        fs::write(beside.join("server.pem"), made.cert.pem()).expect("the target folder can be written");
        fs::write(beside.join("server.key"), made.signing_key.serialize_pem())
            .expect("the target folder can be written");
        // As a whole, or not at all because another process was faster.
        if fs::rename(&beside, folder).is_err() {
            let _ = fs::remove_dir_all(&beside);
        }
        assert!(folder.join("server.key").exists(), "the certificate is where all look for it");
    }
}

/// How a Network Connection has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Each layer said that it ends: TLS by close_notify, WebSocket by a Close frame. TCP alone has nothing to say.
    Said,
    /// The socket ended before a layer had said so.
    CutOff,
    /// It was over before all layers stood.
    NeverStood,
}

/// A connection with its layers. Reading is this one's; writers may be many.
pub(crate) struct Link {
    writer: Writer,
    frames: Option<Frames>,
    tls_has_ended: bool,
    end: Option<End>,
}

impl Link {
    /// Puts the layers of `transport` onto a socket. A broker that refuses to is a connection that has ended.
    pub(crate) fn over(socket: TcpStream, transport: Transport) -> Self {
        let tls = transport.has_tls().then(|| {
            let name = ServerName::try_from("localhost").expect("it is a name");
            let mut tls = ClientConnection::new(Arc::clone(&Certificate::of_these_tests().client), name)
                .expect("the configuration is good");
            tls.set_buffer_limit(None);
            Arc::new(Mutex::new(tls))
        });
        let masks = transport.has_websocket().then_some(Noise(0x2545_F491_4F6C_DD1D));
        let writer = Writer { socket: Arc::new(socket), tls, sending: Arc::new(Mutex::new(masks)) };
        let mut link = Self { writer, frames: None, tls_has_ended: false, end: None };
        if link.put_on_layers(transport).is_err() {
            link.end = Some(End::NeverStood);
        }
        link
    }

    fn put_on_layers(&mut self, transport: Transport) -> io::Result<()> {
        self.socket().set_read_timeout(Some(PATIENCE))?;
        if let Some(tls) = &self.writer.tls {
            locked(tls).complete_io(&mut &*self.writer.socket)?;
        }
        if transport.has_websocket() {
            let request = "GET /mqtt HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                 Sec-WebSocket-Protocol: mqtt\r\n\r\n";
            self.writer.encrypt_and_send(request.as_bytes())?;
            let mut answer = Vec::new();
            let end_of_head = loop {
                if let Some(at) = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                    break at + 4;
                }
                self.read(PATIENCE, &mut answer);
                if self.end.is_some() {
                    return Err(ErrorKind::UnexpectedEof.into());
                }
            };
            if !answer.starts_with(b"HTTP/1.1 101 ") {
                return Err(ErrorKind::ConnectionRefused.into());
            }
            self.frames = Some(Frames { waiting: answer.split_off(end_of_head), has_ended: false });
        }
        Ok(())
    }

    pub(crate) fn socket(&self) -> &TcpStream {
        &self.writer.socket
    }

    /// A writer of its own, for a thread that sends while another reads.
    pub(crate) fn writer(&self) -> Writer {
        self.writer.clone()
    }

    pub(crate) fn end(&self) -> Option<End> {
        self.end
    }

    /// Ends the sending side and no more, as far as there is such a thing: TCP and TLS have two directions, each with an end
    /// of its own. A Close frame of WebSocket would end both, so none is sent.
    pub(crate) fn finish_sending(&mut self) {
        if let Some(tls) = &self.writer.tls {
            locked(tls).send_close_notify();
            let _ = self.writer.encrypt_and_send(&[]);
        }
        self.cut_off_sending();
    }

    /// Ends the sending side of the socket, below all layers, which have not said a word about it.
    pub(crate) fn cut_off_sending(&mut self) {
        let _ = self.socket().shutdown(Shutdown::Write);
    }

    /// Sends a Close frame, which ends WebSocket in both directions.
    pub(crate) fn close_websocket(&mut self) {
        let close = frame(0x88, &1000_u16.to_be_bytes(), [1, 2, 3, 4]);
        let _ = self.writer.encrypt_and_send(&close);
    }

    /// Reads what there is, or what comes within this time, and adds the content to `out`.
    pub(crate) fn read(&mut self, patience: Duration, out: &mut Vec<u8>) {
        let before = out.len();
        self.unwrap(&[], out);
        if out.len() > before || self.end.is_some() {
            return;
        }
        self.socket().set_read_timeout(Some(patience.max(Duration::from_micros(1)))).expect("the duration is not zero");
        let mut chunk = [0; 65536];
        match (&*self.writer.socket).read(&mut chunk) {
            Ok(0) => self.has_ended(),
            Ok(size) => self.unwrap(&chunk[..size], out),
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => {}
                _ => self.has_ended(),
            },
        }
    }

    fn has_ended(&mut self) {
        let all_said = (self.writer.tls.is_none() || self.tls_has_ended)
            && self.frames.as_ref().is_none_or(|frames| frames.has_ended);
        self.end.get_or_insert(if all_said { End::Said } else { End::CutOff });
    }

    /// Takes bytes of the socket through all layers.
    fn unwrap(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let mut plain = Vec::new();
        if let Some(tls) = &self.writer.tls {
            match decrypt(&mut locked(tls), bytes, &mut plain) {
                Ok(has_ended) => self.tls_has_ended = has_ended,
                Err(_) => self.end = Some(End::CutOff),
            }
        } else {
            plain.extend_from_slice(bytes);
        }
        match &mut self.frames {
            Some(frames) => frames.take_apart(&plain, out),
            None => out.append(&mut plain),
        }
    }
}

/// Gives whether the other side has said that it ends.
fn decrypt(tls: &mut ClientConnection, mut bytes: &[u8], plain: &mut Vec<u8>) -> Result<bool, rustls::Error> {
    loop {
        let size = if bytes.is_empty() { 0 } else { tls.read_tls(&mut bytes).expect("memory can be read") };
        let state = tls.process_new_packets()?;
        let at = plain.len();
        plain.resize(at + state.plaintext_bytes_to_read(), 0);
        if plain.len() > at {
            tls.reader().read_exact(&mut plain[at..]).expect("so many bytes are there");
        }
        if bytes.is_empty() || size == 0 {
            return Ok(state.peer_has_closed());
        }
    }
}

/// Content that is encoded at a time.
const PART_BYTES: usize = 1 << 16;

/// The sending side of a [`Link`].
#[derive(Clone)]
pub(crate) struct Writer {
    socket: Arc<TcpStream>,
    tls: Option<Arc<Mutex<ClientConnection>>>,
    /// Held while something is sent, so that what is encoded first is sent first. Where there is WebSocket, it says how frames
    /// are cut and masked.
    sending: Arc<Mutex<Option<Noise>>>,
}

impl Writer {
    /// Sends bytes through all layers.
    pub(crate) fn send(&self, bytes: &[u8]) -> io::Result<()> {
        let mut sending = locked(&self.sending);
        match &mut *sending {
            None => self.encrypt_and_send(bytes),
            // In parts, so that a test that sends much needs no more memory for it than the broker may.
            Some(noise) => bytes.chunks(PART_BYTES).try_for_each(|part| self.encrypt_and_send(&in_frames(part, noise))),
        }
    }

    fn encrypt_and_send(&self, bytes: &[u8]) -> io::Result<()> {
        let Some(tls) = &self.tls else { return (&*self.socket).write_all(bytes) };
        // In parts, since whoever reads needs the same lock, and nobody holds it while the socket takes nothing.
        let mut parts = bytes.chunks(PART_BYTES);
        loop {
            let part = parts.next();
            let mut encrypted = Vec::new();
            let mut tls = locked(tls);
            if let Some(part) = part {
                tls.writer().write_all(part)?;
            }
            while tls.wants_write() {
                tls.write_tls(&mut encrypted)?;
            }
            drop(tls);
            (&*self.socket).write_all(&encrypted)?;
            if part.is_none() {
                return Ok(());
            }
        }
    }

    /// How long the socket may take nothing.
    pub(crate) fn set_write_timeout(&self, patience: Option<Duration>) -> io::Result<()> {
        self.socket.set_write_timeout(patience)
    }
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.send(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Binary frames with this content, cut where chance wants it: packets and frames have nothing to do with one another
/// [MQTT-6.0.0-2]. Now and then a message has several frames, or a frame has nothing in it.
fn in_frames(content: &[u8], noise: &mut Noise) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(content.len() + 64);
    let first = content.len().min(usize::from(noise.byte() % 32));
    let (first, rest) = content.split_at(first);
    let as_one_message = noise.byte().is_multiple_of(2);
    bytes.extend(frame(if as_one_message { 0x02 } else { 0x82 }, first, noise.bytes()));
    bytes.extend(frame(if as_one_message { 0x80 } else { 0x82 }, rest, noise.bytes()));
    bytes
}

/// Takes apart what the broker sends.
struct Frames {
    /// The beginning of a frame whose end has not come.
    waiting: Vec<u8>,
    /// A Close frame has come.
    has_ended: bool,
}

impl Frames {
    fn take_apart(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        self.waiting.extend_from_slice(bytes);
        let mut at = 0;
        while let Some((first, content, size)) = first_frame(&self.waiting[at..]) {
            assert!(!self.has_ended, "a frame after a Close frame: {first:02x} {content:02x?}");
            match first {
                0x82 => out.extend_from_slice(content),
                0x88 => self.has_ended = true,
                _ => panic!("a frame that no Client has asked for: {first:02x} {content:02x?}"),
            }
            at += size;
        }
        self.waiting.drain(..at);
    }
}

/// First byte, content, and size of the frame at the beginning of these bytes, if all of it is there.
fn first_frame(bytes: &[u8]) -> Option<(u8, &[u8], usize)> {
    let &[first, length, ..] = bytes else { return None };
    assert_eq!(length & 0x80, 0, "a Server masks nothing [RFC 6455, 5.1]");
    let (header, size) = match length {
        126 => (4, usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?))),
        127 => (10, usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)).ok()?),
        size => (2, usize::from(size)),
    };
    Some((first, bytes.get(header..header + size)?, header + size))
}

/// A pseudo-random sequence, the same in every run (xorshift).
pub(crate) struct Noise(pub(crate) u64);

impl Noise {
    pub(crate) fn byte(&mut self) -> u8 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 32) as u8
    }

    fn bytes(&mut self) -> [u8; 4] {
        [(); 4].map(|()| self.byte())
    }
}
