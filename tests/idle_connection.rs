//! What a Client costs that is connected and says nothing: bytes on the broker's heap, counted in a whole node with real
//! sockets.
#![expect(clippy::disallowed_methods, reason = "who meets the broker from outside has clocks and sockets of his own")]

use std::alloc::System;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use waypost::config::{Address, Config};
use waypost::node::Node;

#[global_allocator]
static COUNTED: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const CLIENTS: usize = 2_000;
/// Bytes for one of them. Measured: 1,183, and the aim is 900. The Client's place in its shard 384, the task 384, the
/// runtime's registration of the socket 256, the directory 68, the halves of the socket 48, the Client Identifier 32, what
/// CONNACK was written in 19 and the timer 17; places kept for more Clients are counted, too.
const LIMIT: usize = 1_260;

/// In 5.0, without Keep Alive or properties, and a Client Identifier of eleven letters.
fn connect(address: SocketAddr, number: usize) -> TcpStream {
    let mut packet = *b"\x10\x18\0\x04MQTT\x05\x02\0\0\0\0\x0bdevice-0000";
    let digits = packet.len() - 4;
    write!(&mut packet[digits..], "{number:04}").expect("four digits");
    let mut stream = TcpStream::connect(address).expect("the node listens");
    stream.write_all(&packet).expect("the node reads");
    let mut header = [0; 2];
    stream.read_exact(&mut header).expect("the node answers");
    assert_eq!(header[0], 0x20, "CONNACK");
    let mut rest = [0; 127];
    let rest = &mut rest[..usize::from(header[1])];
    stream.read_exact(rest).expect("all of it");
    assert_eq!(rest[1], 0, "connected");
    stream
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

#[test]
fn an_idle_connection_takes_few_bytes() {
    let mut config = Config::default();
    config.node.shards = 1;
    config.sys.interval = Duration::ZERO;
    config.listeners[0].address = Address::Ip(SocketAddr::from(([127, 0, 0, 1], 0)));
    let node = Node::start(&config).expect("a free port");
    let address = node.addresses()[0];
    let first = connect(address, 0); // whatever is there once for all
    let mut clients = Vec::with_capacity(CLIENTS);
    let before = bytes_in_use();
    for number in 1..=CLIENTS {
        clients.push(connect(address, number));
    }
    let each = (bytes_in_use() - before) / CLIENTS;
    drop((first, clients));
    node.stop().expect("no thread has panicked");
    assert!(each <= LIMIT, "an idle connection takes {each} bytes, at most {LIMIT}");
}
