//! Sockets that listen, and how Network Connections are handed to shards.
//!
//! Options are set on the listening socket; Linux passes them on to what is accepted. Running out of descriptors or memory
//! pauses accepting for a moment and never ends it.

#![expect(clippy::disallowed_methods, reason = "a door waits")]

use super::Clock;
use super::admission::{Admission, Pass, Rate, Seat};
use super::certificate::ClientIdentity;
use super::counts::Cause;
use super::credentials::Credentials;
use super::thread::{Errand, log_refused};
use super::unix::{self, SocketFile, UnixSettings};
use super::websocket::WebSocketSettings;
use crate::access::{Authenticator, Network};
use crate::broker::{Shared, Versions};
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::Instant;

/// What one listener is told by the configuration.
#[derive(Clone)]
pub struct ListenerSettings {
    /// What it is called in rules and in the log.
    pub name: Arc<str>,
    pub place: Place,
    /// Network interface to bind to, as `SO_BINDTODEVICE` has it.
    pub interface: Option<String>,
    pub versions: Versions,
    /// Finds out who is coming, and decides about those who do not say.
    pub authenticator: Arc<dyn Authenticator>,
    pub backlog: u32,
    pub connections_max: usize,
    /// Connections accepted in a second; further ones wait.
    pub connect_rate_max: u32,
    /// With them, only TLS is spoken.
    pub tls: Option<Arc<Credentials>>,
    /// With it, MQTT is spoken inside WebSocket.
    pub websocket: Option<WebSocketSettings>,
    /// With them, each connection begins with a PROXY header, and comes from one of these networks or a Unix socket.
    pub proxies: Option<Vec<Network>>,
    /// Which part of a Client's certificate is its user name.
    pub identity: ClientIdentity,
    /// Whether it is the Client Identifier, too.
    pub is_client_id_bound: bool,
}

/// Where a listener listens.
#[derive(Clone, Debug)]
pub enum Place {
    Ip(SocketAddr),
    Unix(UnixSettings),
}

/// A socket that listens but is not served yet.
pub struct Listener {
    socket: Socket,
    file: Option<SocketFile>,
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
/// Connections that a listener refuses while it could accept one. Refusing is cheap, and whoever waits in the backlog behind a
/// flood gets through the faster; without a bound it would be all that the thread does.
const REFUSED_PER_ACCEPTED: u32 = 4;

impl Listener {
    /// Takes the address. Nobody can connect before [`Listener::open`].
    ///
    /// # Errors
    /// What the system says: the address is in use or not ours, the port is privileged, the interface is unknown.
    pub fn bind(settings: ListenerSettings) -> io::Result<Self> {
        let (socket, file) = match &settings.place {
            Place::Ip(address) => (bind_ip(*address, settings.interface.as_deref())?, None),
            Place::Unix(unix) => {
                let (socket, file) = unix::bind(unix)?;
                (socket, Some(file))
            }
        };
        Ok(Self { socket, file, settings })
    }

    /// From now on Clients can connect.
    ///
    /// # Errors
    /// Somebody else has begun to listen there meanwhile.
    pub fn open(&self) -> io::Result<()> {
        self.socket.listen(i32::try_from(self.settings.backlog).unwrap_or(i32::MAX))
    }

    /// The address that it has; the port is the real one even if 0 was asked for. A Unix socket has none.
    pub fn address(&self) -> Option<SocketAddr> {
        self.socket.local_addr().ok()?.as_socket()
    }

    /// For the log: where it listens, and what it speaks.
    pub fn described(&self) -> (String, &'static str) {
        let ListenerSettings { place, tls, websocket, .. } = &self.settings;
        let address = match (self.address(), place) {
            (Some(address), _) => address.to_string(),
            (None, Place::Ip(address)) => address.to_string(),
            (None, Place::Unix(unix)) => format!("unix:{}", unix.path.display()),
        };
        let speaks = match (websocket, tls) {
            (None, None) => "mqtt",
            (None, Some(_)) => "mqtt over tls",
            (Some(_), None) => "mqtt over websocket",
            (Some(_), Some(_)) => "mqtt over websocket over tls",
        };
        (address, speaks)
    }

    pub(super) fn credentials(&self) -> Option<&Arc<Credentials>> {
        self.settings.tls.as_ref()
    }

    /// Accepts for ever. Each connection goes to the shard that has the fewest.
    pub(super) async fn serve(
        self,
        shared: Arc<Shared>,
        shards: Vec<UnboundedSender<Errand>>,
        admission: Arc<Admission>,
        clock: Clock,
    ) {
        let Self { socket, file: _file, settings } = self;
        let socket = match Listening::of(socket, &settings.place) {
            Ok(socket) => socket,
            Err(error) => {
                return tracing::error!(target: "waypost::listener", listener = %settings.name, %error, "listener failed");
            }
        };
        let connections_max = settings.connections_max;
        let mut rate = Rate::per_second(settings.connect_rate_max);
        let door = Arc::new(Door {
            versions: settings.versions,
            name: settings.name,
            authenticator: settings.authenticator,
            tls: settings.tls,
            websocket: settings.websocket,
            proxies: settings.proxies,
            identity: settings.identity,
            is_client_id_bound: settings.is_client_id_bound,
            taken: AtomicUsize::new(0),
            sockets: Arc::clone(admission.sockets()),
        });
        let mut refused_rate = Rate::per_second(settings.connect_rate_max.saturating_mul(REFUSED_PER_ACCEPTED));
        let mut exhausted = false;
        loop {
            if !admission.has_room_for_socket() {
                if !exhausted {
                    tracing::error!(target: "waypost::listener", listener = %door.name, "all file descriptors are in use; accepting again when connections have closed (see `ulimit -n`)");
                    exhausted = true;
                }
                tokio::time::sleep(EXHAUSTED_PAUSE).await;
                continue;
            }
            match socket.accept().await {
                Ok((stream, peer)) => {
                    exhausted = false;
                    let wait = match door.let_in(&admission, &shared, peer, connections_max) {
                        Ok((pass, seat)) => {
                            let accepted = Box::new(Accepted { stream, peer, pass, seat });
                            let home = shared.least_loaded();
                            let _ = shards[usize::from(home.0)].send(Errand::Accepted(accepted));
                            rate.take(Instant::now())
                        }
                        Err((cause, why)) => {
                            admission.counts.turned(cause);
                            log_refused(clock.now(), peer, why);
                            refused_rate.take(Instant::now())
                        }
                    };
                    if let Some(until) = wait {
                        tokio::time::sleep_until(until).await;
                    }
                }
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    if !exhausted {
                        tracing::error!(target: "waypost::listener", listener = %door.name, %error, "cannot accept; trying again");
                        exhausted = true;
                    }
                    tokio::time::sleep(EXHAUSTED_PAUSE).await;
                }
            }
        }
    }
}

fn bind_ip(address: SocketAddr, interface: Option<&str>) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?; // 0.0.0.0 and [::] may both be listed
    }
    socket.set_reuse_address(true)?;
    if let Some(interface) = interface {
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
    socket.bind(&address.into())?;
    Ok(socket)
}

/// A socket that the runtime knows.
enum Listening {
    Ip(TcpListener),
    Unix(UnixListener),
}

impl Listening {
    fn of(socket: Socket, place: &Place) -> io::Result<Self> {
        match place {
            Place::Ip(_) => TcpListener::from_std(socket.into()).map(Self::Ip),
            Place::Unix(_) => UnixListener::from_std(socket.into()).map(Self::Unix),
        }
    }

    /// What is accepted is not known to the runtime any more: it goes to a thread that has another one.
    async fn accept(&self) -> io::Result<(std::net::TcpStream, Peer)> {
        match self {
            Self::Ip(listener) => {
                let (stream, peer) = listener.accept().await?;
                Ok((stream.into_std()?, Peer::Ip(peer)))
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                Ok((OwnedFd::from(stream.into_std()?).into(), Peer::Unix))
            }
        }
    }
}

/// Where a Network Connection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    Ip(SocketAddr),
    /// This machine.
    Unix,
}

impl Peer {
    pub(super) fn ip(self) -> Option<IpAddr> {
        match self {
            Self::Ip(address) => Some(address.ip()),
            Self::Unix => None,
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(out),
            Self::Unix => out.write_str("unix"),
        }
    }
}

/// A Network Connection on its way to its first shard.
pub(super) struct Accepted {
    pub(super) stream: std::net::TcpStream,
    pub(super) peer: Peer,
    /// Given back when CONNECT is through.
    pub(super) pass: Pass,
    /// Given back when the connection ends.
    pub(super) seat: Seat,
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

/// What a listener's Network Connections have in common.
pub(super) struct Door {
    pub(super) versions: Versions,
    pub(super) name: Arc<str>,
    pub(super) authenticator: Arc<dyn Authenticator>,
    pub(super) tls: Option<Arc<Credentials>>,
    pub(super) websocket: Option<WebSocketSettings>,
    pub(super) proxies: Option<Vec<Network>>,
    pub(super) identity: ClientIdentity,
    pub(super) is_client_id_bound: bool,
    /// Those that are open.
    pub(super) taken: AtomicUsize,
    /// Those of all listeners.
    pub(super) sockets: Arc<AtomicUsize>,
}

impl Door {
    fn let_in(
        self: &Arc<Self>,
        admission: &Admission,
        shared: &Shared,
        peer: Peer,
        connections_max: usize,
    ) -> Result<(Pass, Seat), (Cause, &'static str)> {
        let is_trusted = match (&self.proxies, peer) {
            (Some(proxies), Peer::Ip(address)) => proxies.iter().any(|network| network.contains(address.ip())),
            (Some(_), Peer::Unix) | (None, _) => true,
        };
        if !is_trusted {
            return Err((Cause::UntrustedProxy, "not one of the trusted proxies"));
        }
        let pass = admission.enter(shared).ok_or((Cause::TooMany, "too many connections"))?;
        let mut seat = Seat::take(self, connections_max)
            .ok_or((Cause::TooManyOfListener, "too many connections on this listener"))?;
        // Behind a proxy, the Client's own address counts, once it is known.
        if self.proxies.is_none() {
            seat.take_address(admission, peer)?;
        }
        Ok((pass, seat))
    }
}
