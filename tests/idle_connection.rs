//! What a Client costs that is connected and says nothing: bytes on the broker's heap, counted in a whole node with real
//! sockets.
#![expect(clippy::disallowed_methods, reason = "who meets the broker from outside has clocks and sockets of his own")]

use std::alloc::System;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use waypost::config::{Address, AddressOrOff, Config, Durability, Listener, Protocol};
use waypost::node::Node;

#[global_allocator]
static COUNTED: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const CLIENTS: usize = 2_000;
/// Bytes for one of them. Measured: 1,221, and the aim is 900. The Client's place in its shard about 290, the task 256, the
/// runtime's registration of the socket 256, who it is 112, the directory 68, the halves of the socket 48, the Client
/// Identifier 32, the timer about 20; places kept for more Clients are counted, too.
const LIMIT: usize = 1_260;

/// For one over TLS 1.3. Measured: 3,782, of which rustls keeps about 2,300: its state and the keys of both directions.
const TLS_LIMIT: usize = 4_000;
/// For one over WebSocket. Measured: 1,485.
const WEBSOCKET_LIMIT: usize = 1_600;

/// Counting works when one counts.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// In 5.0, without Keep Alive or properties, and a Client Identifier of eleven letters.
fn connect(stream: &mut (impl Read + Write), number: usize) {
    let mut packet = *b"\x10\x18\0\x04MQTT\x05\x02\0\0\0\0\x0bdevice-0000";
    let digits = packet.len() - 4;
    write!(&mut packet[digits..], "{number:04}").expect("four digits");
    stream.write_all(&packet).expect("the node reads");
    let mut header = [0; 2];
    stream.read_exact(&mut header).expect("the node answers");
    assert_eq!(header[0], 0x20, "CONNACK");
    let mut rest = [0; 127];
    let rest = &mut rest[..usize::from(header[1])];
    stream.read_exact(rest).expect("all of it");
    assert_eq!(rest[1], 0, "connected");
}

/// Bytes of the heap in use, once that has not changed for a while.
fn bytes_in_use() -> usize {
    let began = Instant::now();
    let now = || {
        let stats = COUNTED.stats();
        stats.bytes_allocated.wrapping_sub(stats.bytes_deallocated)
    };
    let (mut bytes, mut since) = (now(), began);
    while since.elapsed() < Duration::from_millis(500) {
        assert!(began.elapsed() < Duration::from_secs(30), "the node never comes to rest");
        std::thread::sleep(Duration::from_millis(10));
        if now() != bytes {
            (bytes, since) = (now(), Instant::now());
        }
    }
    bytes
}

/// Bytes on the broker's heap for each Client that `enter` has connected; what it keeps must not be on the heap.
fn measure(listener: impl FnOnce(&mut Listener), enter: impl Fn(SocketAddr, usize) -> TcpStream) -> usize {
    let mut config = Config::default();
    config.node.shards = 1;
    config.sys.interval = Duration::ZERO;
    config.admin.address = Some(AddressOrOff::Off);
    config.store.durability = Durability::Memory;
    config.listeners[0].address = Address::Ip(SocketAddr::from(([127, 0, 0, 1], 0)));
    listener(&mut config.listeners[0]);
    let node = Node::start(&config).expect("a free port");
    let address = node.addresses()[0];
    let first = enter(address, 0); // whatever is there once for all
    let mut clients = Vec::with_capacity(CLIENTS);
    let before = bytes_in_use();
    for number in 1..=CLIENTS {
        clients.push(enter(address, number));
    }
    let each = (bytes_in_use() - before) / CLIENTS;
    drop((first, clients));
    node.stop().expect("no thread has panicked");
    each
}

#[test]
fn an_idle_connection_takes_few_bytes() {
    let _alone = ONE_AT_A_TIME.lock();
    let each = measure(
        |_| (),
        |address, number| {
            let mut stream = TcpStream::connect(address).expect("the node listens");
            connect(&mut stream, number);
            stream
        },
    );
    assert!(each <= LIMIT, "an idle connection takes {each} bytes, at most {LIMIT}");
}

#[test]
fn an_idle_connection_over_tls_takes_few_bytes() {
    let _alone = ONE_AT_A_TIME.lock();
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("idle-tls");
    fs::create_dir_all(&folder).expect("a folder");
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let (pem, key) = (folder.join("server.pem"), folder.join("server.key"));
    fs::write(&pem, made.cert.pem()).expect("a file");
    fs::write(&key, made.signing_key.serialize_pem()).expect("a file");
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).expect("a certificate");
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    let config = Arc::new(config);
    let each = measure(
        |listener| (listener.tls_certificate, listener.tls_key) = (vec![pem], vec![key]),
        |address, number| {
            let name = ServerName::try_from("localhost").expect("a name");
            let connection = ClientConnection::new(Arc::clone(&config), name).expect("a connection");
            let stream = TcpStream::connect(address).expect("the node listens");
            let mut stream = StreamOwned::new(connection, stream);
            connect(&mut stream, number);
            stream.sock // what the Client kept about TLS goes; the node has no way to know
        },
    );
    assert!(each <= TLS_LIMIT, "an idle connection over TLS takes {each} bytes, at most {TLS_LIMIT}");
}

#[test]
fn an_idle_connection_over_websocket_takes_few_bytes() {
    let _alone = ONE_AT_A_TIME.lock();
    let each = measure(
        |listener| listener.protocol = Protocol::WebSocket,
        |address, number| {
            let mut stream = TcpStream::connect(address).expect("the node listens");
            stream
                .write_all(
                    b"GET /mqtt HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                      Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                      Sec-WebSocket-Protocol: mqtt\r\n\r\n",
                )
                .expect("the node reads");
            let mut byte = [0];
            let mut last = [0; 4];
            while last != *b"\r\n\r\n" {
                stream.read_exact(&mut byte).expect("the node answers");
                last.rotate_left(1);
                last[3] = byte[0];
            }
            connect(&mut Framed(&mut stream), number);
            stream
        },
    );
    assert!(each <= WEBSOCKET_LIMIT, "an idle connection over WebSocket takes {each} bytes, at most {WEBSOCKET_LIMIT}");
}

/// One short frame for each write, masked with zeros; reading skips the header of one frame.
struct Framed<'a>(&'a mut TcpStream);

impl Write for Framed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write_all(&[&[0x82, 0x80 | bytes.len() as u8, 0, 0, 0, 0], bytes].concat())?;
        self.0.read_exact(&mut [0; 2])?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for Framed<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.0.read(bytes)
    }
}
