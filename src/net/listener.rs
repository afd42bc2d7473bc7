//! Sockets that listen, and how Network Connections are handed to shards.
//!
//! Options are set on the listening socket; Linux passes them on to what is accepted. Running out of descriptors or memory
//! pauses accepting for a moment and never ends it.

#![expect(clippy::disallowed_methods, reason = "a door waits")]

use super::thread::Errand;
use crate::access::Authenticator;
use crate::broker::{Shared, Versions};
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::mpsc::UnboundedSender;

/// What one listener is told by the configuration.
#[derive(Clone)]
pub struct ListenerSettings {
    /// What it is called in rules and in the log.
    pub name: Arc<str>,
    pub address: SocketAddr,
    /// Network interface to bind to, as `SO_BINDTODEVICE` has it.
    pub interface: Option<String>,
    pub versions: Versions,
    /// Finds out who is coming, and decides about those who do not say.
    pub authenticator: Arc<dyn Authenticator>,
    pub backlog: u32,
    pub connections_max: usize,
}

/// A socket that listens but is not served yet.
pub struct Listener {
    socket: Socket,
    settings: ListenerSettings,
}

/// Unsent bytes above which a socket counts as full: what waits in the kernel cannot be overtaken any more.
const NOT_SENT_BYTES: u32 = 32 << 10;
/// A peer that has vanished without a word is noticed after this time and three probes.
const KEEP_ALIVE_AFTER: Duration = Duration::from_secs(60);
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(10);
const KEEP_ALIVE_PROBES: u32 = 3;
/// How long accepting pauses when the process has no descriptor or memory left.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(50);

impl Listener {
    /// Binds and listens; peers may connect from now on, though nobody answers before [`Listener::serve`].
    ///
    /// # Errors
    /// What the system says: the address is in use or not ours, the port is privileged, the interface is unknown.
    pub fn bind(settings: ListenerSettings) -> io::Result<Self> {
        let socket = Socket::new(
            Domain::for_address(settings.address),
            Type::STREAM.nonblocking().cloexec(),
            Some(Protocol::TCP),
        )?;
        if settings.address.is_ipv6() {
            socket.set_only_v6(true)?; // 0.0.0.0 and [::] may both be listed
        }
        socket.set_reuse_address(true)?;
        if let Some(interface) = &settings.interface {
            socket.bind_device(Some(interface.as_bytes()))?;
        }
        socket.set_tcp_nodelay(true)?;
        socket.set_keepalive(true)?;
        socket.set_tcp_keepalive(
            &TcpKeepalive::new()
                .with_time(KEEP_ALIVE_AFTER)
                .with_interval(KEEP_ALIVE_EVERY)
                .with_retries(KEEP_ALIVE_PROBES),
        )?;
        socket.set_tcp_notsent_lowat(NOT_SENT_BYTES)?;
        socket.bind(&settings.address.into())?;
        socket.listen(i32::try_from(settings.backlog).unwrap_or(i32::MAX))?;
        Ok(Self { socket, settings })
    }

    /// The address that it has; the port is the real one even if 0 was asked for.
    pub fn address(&self) -> io::Result<SocketAddr> {
        let address = self.socket.local_addr()?;
        address.as_socket().ok_or_else(|| io::Error::other("not an IP address"))
    }

    /// Accepts for ever. Each connection goes to the shard that has the fewest.
    pub(super) async fn serve(
        self,
        shared: Arc<Shared>,
        shards: Vec<UnboundedSender<Errand>>,
        admission: Arc<Admission>,
    ) {
        let listener = match tokio::net::TcpListener::from_std(self.socket.into()) {
            Ok(listener) => listener,
            Err(error) => {
                return tracing::error!(target: "waypost::listener", address = %self.settings.address, %error, "listener failed");
            }
        };
        let connections_max = self.settings.connections_max;
        let here = Arc::new(Door {
            versions: self.settings.versions,
            name: self.settings.name,
            authenticator: self.settings.authenticator,
            taken: AtomicUsize::new(0),
        });
        let mut exhausted = false;
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    exhausted = false;
                    let seats = (admission.enter(&shared), Seat::take(&here, connections_max));
                    let (Some(pass), Some(seat)) = seats else {
                        tracing::info!(target: "waypost::listener", %peer, "connection refused: too many connections");
                        continue;
                    };
                    let home = shared.least_loaded();
                    if let Ok(stream) = unregister(stream) {
                        let _ =
                            shards[usize::from(home.0)].send(Errand::Accepted(Accepted { stream, peer, pass, seat }));
                    }
                }
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    if !exhausted {
                        tracing::error!(target: "waypost::listener", address = %self.settings.address, %error, "cannot accept; trying again");
                        exhausted = true;
                    }
                    tokio::time::sleep(EXHAUSTED_PAUSE).await;
                }
            }
        }
    }
}

/// A Network Connection on its way to its first shard.
pub(super) struct Accepted {
    pub(super) stream: std::net::TcpStream,
    pub(super) peer: SocketAddr,
    /// Given back when CONNECT is through.
    pub(super) pass: Pass,
    /// Given back when the connection ends.
    pub(super) seat: Seat,
}

fn unregister(stream: TcpStream) -> io::Result<std::net::TcpStream> {
    stream.into_std()
}

/// The peer gave up before we accepted: nothing is wrong with the listener.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

/// How many Network Connections there may be, in all and before CONNECT is complete.
pub(super) struct Admission {
    pub(super) pending: Arc<AtomicUsize>,
    pub(super) pending_max: usize,
    pub(super) connections_max: usize,
}

impl Admission {
    fn enter(&self, shared: &Shared) -> Option<Pass> {
        if shared.connections() >= self.connections_max {
            return None;
        }
        Pass::take(&self.pending, self.pending_max)
    }
}

/// What a listener's Network Connections have in common.
pub(super) struct Door {
    pub(super) versions: Versions,
    pub(super) name: Arc<str>,
    pub(super) authenticator: Arc<dyn Authenticator>,
    /// Those that are open.
    taken: AtomicUsize,
}

/// One of a listener's bounded number of Network Connections; given back when dropped.
pub(super) struct Seat {
    pub(super) door: Arc<Door>,
}

impl Seat {
    fn take(door: &Arc<Door>, max: usize) -> Option<Self> {
        enter(&door.taken, max).then(|| Self { door: Arc::clone(door) })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.door.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The right to be connected without having said who one is; one of a bounded number, given back when dropped.
pub(super) struct Pass {
    taken: Arc<AtomicUsize>,
}

impl Pass {
    fn take(taken: &Arc<AtomicUsize>, max: usize) -> Option<Self> {
        enter(taken, max).then(|| Self { taken: Arc::clone(taken) })
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

fn enter(taken: &AtomicUsize, max: usize) -> bool {
    let fits = taken.fetch_add(1, Ordering::Relaxed) < max;
    if !fits {
        taken.fetch_sub(1, Ordering::Relaxed);
    }
    fits
}
