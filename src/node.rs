//! A running broker, built out of a configuration: the only place where keys of the file become settings of the rooms.
//!
//! [`Node::start`] binds all listeners before anything else can go wrong, so that a start that fails has changed nothing;
//! [`Node::stop`] says goodbye to every Client. [`run`] does both, with signals in between. `logins.rs` builds the chains by
//! which listeners find out who is coming.

mod keeper;
mod logins;

pub use logins::LoginsError;

use crate::access::{Access, Authenticator};
use crate::acl::{AclError, RuleFiles};
use crate::admin::{Admin, Bound, Reloads, Sources};
use crate::broker::{Durability, Settings, Shared, Strategies, Versions};
use crate::codec::{Characters, Limits as CodecLimits, Moment, Qos, TopicLimits};
use crate::config::{self, Address, AddressOrOff, Config, QueueDrops, SharedStrategy, Version};
use crate::net::{
    ClientAuth, ClientIdentity, Clock, Credentials, CredentialsError, DoorSettings, Expiry, Issuers, Listener,
    ListenerSettings, Place, Threads, TlsSettings, UnixSettings, WebSocketSettings,
};
use crate::session::{Amount, Drops, Limits};
use crate::store;
use crate::topic::Strategy;
use keeper::Keeper;
use logins::Logins;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Why a node did not start. Nothing is left behind.
#[derive(Debug, Error)]
pub enum NodeError {
    #[error("cannot listen on {address}: {error}{}", hint(error))]
    Listen { address: String, error: io::Error },
    #[error("cannot serve the metrics page on {address}: {error}; choose another [admin] address, or \"off\"")]
    Admin { address: String, error: io::Error },
    #[error("cannot use the certificates of listener {listener}: {error}")]
    Credentials { listener: String, error: CredentialsError },
    #[error("{0}")]
    Logins(#[from] LoginsError),
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
    #[error("{0}")]
    Acl(#[from] AclError),
    #[error("cannot use the data folder: {0}")]
    Store(#[from] store::Error),
    #[error("a shard has panicked; this is a bug in Waypost")]
    Panicked,
}

/// What to do about the usual reasons.
fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "; is another broker running? Choose another port with -p or [[listener]] address",
        io::ErrorKind::AddrNotAvailable => "; this machine does not have that address",
        io::ErrorKind::PermissionDenied => "; ports below 1024 and network interfaces need privileges",
        _ => "",
    }
}

/// A broker that serves.
pub struct Node {
    shared: Arc<Shared>,
    threads: Threads,
    addresses: Vec<SocketAddr>,
    rule_files: RuleFiles,
    clock: Clock,
    logins: Logins,
    reloads: Arc<Reloads>,
    admin: Option<Admin>,
    keeper: Option<Keeper>,
}

/// Where the metrics page is when nobody says where.
const ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 18083);

/// How long a stop waits for Clients to take their DISCONNECT.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

impl Node {
    /// Binds every listener and starts the shards.
    ///
    /// # Errors
    /// Rule files that cannot be read or have faults, the first listener that cannot be bound, or a thread that cannot be started.
    pub fn start(config: &Config) -> Result<Self, NodeError> {
        Self::start_with(config, settings(config), None)
    }

    /// The same with settings that differ from the configuration's, and with one authenticator for all listeners in place of
    /// those that they name.
    ///
    /// # Errors
    /// As [`Node::start`].
    pub fn start_with(
        config: &Config,
        settings: Settings,
        guard: Option<Arc<dyn Authenticator>>,
    ) -> Result<Self, NodeError> {
        let open_files_max = raise_open_files();
        let clock = Clock::new();
        let rule_files = RuleFiles::of(config);
        let access = rule_files.load(clock.now())?;
        let logins = Logins::prepare(config, clock)?;
        // What can be wrong with certificates shows before anybody can connect.
        let credentials: Vec<Option<Arc<Credentials>>> =
            config.listeners.iter().map(credentials).collect::<Result<_, NodeError>>()?;
        let mut listeners = Vec::new();
        for (listener, tls) in config.listeners.iter().zip(credentials) {
            let failed = |error| NodeError::Listen { address: listener.address.to_string(), error };
            let name: Arc<str> = listener.called().into();
            let authenticator: Arc<dyn Authenticator> =
                guard.clone().unwrap_or_else(|| Arc::new(logins.chain(listener)));
            for place in places(listener).map_err(failed)? {
                let settings = ListenerSettings {
                    name: Arc::clone(&name),
                    place,
                    interface: listener.interface.clone(),
                    versions: versions(&listener.versions),
                    authenticator: Arc::clone(&authenticator),
                    backlog: listener.backlog,
                    connections_max: listener.connections_max,
                    connect_rate_max: config.limits.connect_rate_max,
                    tls: tls.clone(),
                    websocket: websocket(listener),
                    proxies: listener.proxy_protocol.then(|| listener.proxy_trusted.clone()),
                    identity: identity(listener.client_identity),
                    is_client_id_bound: listener.client_id_bound,
                };
                listeners.push(Listener::bind(settings).map_err(failed)?);
            }
        }
        let admin = bind_admin(&config.admin)?;
        let addresses: Vec<SocketAddr> = listeners.iter().filter_map(Listener::address).collect();
        let described: Vec<_> = listeners.iter().map(Listener::described).collect();
        // All that can be wrong with the configuration is known: now the data folder is touched.
        let (mut keeper, keeping) = keeper::open(config, clock)?.unzip();
        let shared = Shared::keeping(settings, keeping);
        note_rights(&access, &rule_files);
        shared.set_access(logins.known_to(access));
        let restored = match &mut keeper {
            Some(keeper) => keeper.restore(&shared, clock)?,
            None => Vec::new(),
        };
        for (listener, address) in listeners.iter().zip(&described) {
            let failed = |error| NodeError::Listen { address: address.0.clone(), error };
            listener.open().map_err(failed)?;
        }
        let doors = DoorSettings {
            connect_timeout: config.limits.connect_timeout,
            connections_max: config.limits.connections_max,
            connections_pending_max: config.limits.connections_pending_max,
            connections_per_address_max: config.limits.connections_per_address_max,
            connect_rate_per_address_max: config.limits.connect_rate_per_address_max,
            sockets_max: sockets_max(open_files_max, shared.shards().count(), listeners.len()),
            tls_handshakes_max: config.limits.tls_handshakes_max,
            tls_handshake_share_max: config.limits.tls_handshake_share_max,
            stop_timeout: STOP_TIMEOUT,
        };
        logins.start().map_err(NodeError::Thread)?;
        keeper.iter_mut().try_for_each(|keeper| keeper.start(&shared)).map_err(NodeError::Thread)?;
        let threads = Threads::start(&shared, clock, &doors, listeners, restored).map_err(NodeError::Thread)?;
        for (address, speaks) in described {
            tracing::info!(%address, speaks, "listening");
        }
        let reloads = Arc::new(Reloads::default());
        let sources = Sources {
            shared: Arc::clone(&shared),
            doors: threads.doors().clone(),
            failed_logins: Arc::clone(logins.failed()),
            reloads: Arc::clone(&reloads),
            key_set: logins.key_set().cloned(),
            store: keeper.as_ref().map(Keeper::store),
            log_lines_lost: crate::log::lines_lost,
            started_s: logins::wall_clock(),
        };
        let admin = admin.map(|bound| bound.serve(sources)).transpose().map_err(NodeError::Thread)?;
        for address in admin.iter().flat_map(Admin::addresses) {
            tracing::info!(url = %format_args!("http://{address}/metrics"), "metrics page");
        }
        Ok(Self { shared, threads, addresses, rule_files, clock, logins, reloads, admin, keeper })
    }

    /// Where it listens, with real ports.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where the metrics page is, with real ports.
    pub fn admin_addresses(&self) -> &[SocketAddr] {
        self.admin.as_ref().map(Admin::addresses).unwrap_or_default()
    }

    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Reads certificates, keys and revocation lists again. What could not be read is in the answer and in the log; for the
    /// listeners concerned, what was in force stays.
    pub fn reload_certificates(&self) -> Vec<CredentialsError> {
        self.threads.reload_certificates()
    }

    /// When each certificate in force ends, of all listeners.
    pub fn certificate_expiries(&self) -> Vec<Expiry> {
        self.threads.doors().certificate_expiries()
    }

    /// Reads again what logins and rights are judged by; it holds for everybody who is there as well, at once. What cannot be
    /// read, or has a fault, leaves the former in force, and the log says so.
    pub fn reload(&self) {
        self.logins.reload(&self.reloads);
        let access = self.reloads.rules.note(self.rule_files.load(self.clock.now()));
        let access = access.inspect(|access| note_rights(access, &self.rule_files)).unwrap_or_else(|error| {
            error.to_string().lines().for_each(|fault| tracing::error!("{fault}"));
            tracing::error!("the rule files are not taken; the former rules are still in force");
            (*self.shared.access()).clone()
        });
        self.shared.set_access(self.logins.known_to(access));
        self.reload_certificates(); // the log says what came of it
    }

    /// DISCONNECT with 0x8B to every Client, and the end of all threads.
    ///
    /// # Errors
    /// `Panicked`: a thread had ended before, by a bug.
    pub fn stop(self) -> Result<(), NodeError> {
        self.admin.iter().for_each(Admin::note_stopping);
        let is_well = self.threads.stop();
        self.keeper.into_iter().for_each(Keeper::stop);
        if is_well { Ok(()) } else { Err(NodeError::Panicked) }
    }
}

fn note_rights(access: &Access, files: &RuleFiles) {
    for (listener, rules) in access.rules() {
        tracing::info!(rules = rules.len(), bans = rules.bans(), listener, "access rules are in force");
    }
    for note in files.notes(access) {
        tracing::warn!("{note}");
    }
}

/// Reads every file that a start would read, and starts nothing. The rights that there would be.
///
/// # Errors
/// The first file that cannot be used.
pub fn check(config: &Config) -> Result<Access, NodeError> {
    config.listeners.iter().try_for_each(|listener| credentials(listener).map(drop))?;
    Logins::prepare(config, Clock::new())?;
    Ok(RuleFiles::of(config).load(Moment::default())?)
}

/// Runs a node until SIGTERM or SIGINT; a second one ends the process at once.
pub fn run(config: &Config) -> ExitCode {
    // What the store and its engine write is for nobody else, whatever the process was told.
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&NodeError::Thread(error)),
    };
    // Before anything else: from the first moment on a signal stops the node, and does not kill it.
    let mut signals = match runtime.block_on(async { Signals::new() }) {
        Ok(signals) => signals,
        Err(error) => return fail(&NodeError::Thread(error)),
    };
    let node = match Node::start(config) {
        Ok(node) => node,
        Err(error) => return fail(&error),
    };
    tracing::info!(version = env!("CARGO_PKG_VERSION"), shards = node.shared.shards().count(), "waypost is ready");
    runtime.block_on(signals.stop(|| reload(&node)));
    let stopped = std::thread::scope(|scope| {
        let stopping = scope.spawn(|| node.stop());
        runtime.block_on(async {
            while !stopping.is_finished() {
                let patience = tokio::time::timeout(LOOK_EVERY, signals.stop(|| ()));
                if patience.await.is_ok() {
                    tracing::warn!("second signal: stopping at once");
                    std::process::exit(1);
                }
            }
        });
        stopping.join().unwrap_or(Err(NodeError::Panicked))
    });
    match stopped {
        Ok(()) => {
            tracing::info!("stopped");
            ExitCode::SUCCESS
        }
        Err(error) => fail(&error),
    }
}

/// What SIGHUP asks for.
fn reload(node: &Node) {
    tracing::info!("SIGHUP: reading users, keys, rules and certificates again; other settings need a restart");
    node.reload(); // the log says what came of it
}

/// How often a stop looks whether it is done.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The signals that a node knows.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Comes back when the node is to stop.
    async fn stop(&mut self, mut reload: impl FnMut()) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hangup.recv() => reload(),
            }
        }
    }
}

fn fail(error: &NodeError) -> ExitCode {
    match error {
        // What is wrong with the settings has a line for each fault, and an exit code of its own.
        NodeError::Acl(error) => {
            error.to_string().lines().for_each(|fault| tracing::error!("{fault}"));
            ExitCode::from(2)
        }
        _ => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// A connection needs a descriptor: take as many as the system lets us have, and say how many that is.
fn raise_open_files() -> Option<u64> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            tracing::warn!(%error, "cannot raise the limit on open files");
        }
    }
    getrlimit(Resource::Nofile).current
}

/// Network Connections that leave descriptors for everything else: files of users and rules must be readable at any time.
fn sockets_max(open_files_max: Option<u64>, shards: usize, listeners: usize) -> usize {
    const FILES: usize = 32;
    /// What a thread's runtime and its letter box hold open.
    const PER_SHARD: usize = 8;
    let all = open_files_max.and_then(|max| usize::try_from(max).ok()).unwrap_or(usize::MAX);
    all.saturating_sub(FILES + PER_SHARD * shards + listeners).max(all / 2)
}

/// Where a listener listens; a host name may stand for several addresses.
fn places(listener: &config::Listener) -> io::Result<Vec<Place>> {
    match &listener.address {
        Address::Ip(address) => Ok(vec![Place::Ip(*address)]),
        Address::Name { host, port } => Ok(resolved(host, *port)?.into_iter().map(Place::Ip).collect()),
        Address::Unix(path) => Ok(vec![Place::Unix(UnixSettings {
            path: path.clone(),
            mode: u32::from_str_radix(&listener.unix_mode, 8).unwrap_or(0o600),
            owner: listener.unix_owner.clone(),
            group: listener.unix_group.clone(),
        })]),
    }
}

fn resolved(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let addresses = match host {
        config::ANY => both_families(Ipv4Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED, port),
        // Of which there is no need to ask anybody (RFC 6761, 6.3).
        host if host.eq_ignore_ascii_case("localhost") => both_families(Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST, port),
        host => (host, port).to_socket_addrs()?.collect(),
    };
    if addresses.is_empty() { Err(io::Error::other("the name has no address")) } else { Ok(addresses) }
}

/// Sockets for the metrics page. Nobody has asked for the one on the default address: then its absence is worth a warning, and
/// no more.
fn bind_admin(admin: &config::Admin) -> Result<Option<Bound>, NodeError> {
    let address = match &admin.address {
        Some(AddressOrOff::Off) => return Ok(None),
        Some(AddressOrOff::At(address)) => address,
        None => {
            return Ok(Bound::bind(&[ADMIN])
                .inspect_err(|error| {
                    tracing::warn!(
                        "there is no metrics page: cannot listen on {ADMIN}: {error}; to have one, set [admin] address to a \
                         free one, or to \"off\" to do without"
                    );
                })
                .ok());
        }
    };
    let addresses = match address {
        Address::Ip(address) => Ok(vec![*address]),
        Address::Name { host, port } => resolved(host, *port),
        Address::Unix(_) => Err(io::ErrorKind::Unsupported.into()), // the configuration refuses it
    };
    let bound = addresses.and_then(|addresses| Bound::bind(&addresses));
    bound.map(Some).map_err(|error| NodeError::Admin { address: address.to_string(), error })
}

/// The certificates of a listener that speaks TLS.
fn credentials(listener: &config::Listener) -> Result<Option<Arc<Credentials>>, NodeError> {
    let certificates: Vec<_> = listener.tls_certificate.iter().cloned().zip(listener.tls_key.iter().cloned()).collect();
    if certificates.is_empty() {
        return Ok(None);
    }
    let issuers = || Issuers {
        certificates: listener.client_ca.clone(),
        folder: listener.client_ca_folder.clone(),
        revoked: listener.client_crl.clone(),
    };
    let protocol = match listener.protocol {
        config::Protocol::Mqtt => "mqtt",
        config::Protocol::WebSocket => "http/1.1",
    };
    let settings = TlsSettings {
        certificates,
        is_1_2_allowed: listener.tls_version_min == config::TlsVersion::V1_2,
        client_auth: match listener.client_auth {
            config::ClientAuth::None => ClientAuth::None,
            config::ClientAuth::Optional => ClientAuth::Optional(issuers()),
            config::ClientAuth::Required => ClientAuth::Required(issuers()),
        },
        refuses_exposed_keys: listener.tls_key_exposed == config::KeyExposed::Refuse,
        protocols: vec![protocol.into()],
    };
    let loaded =
        Credentials::load(settings).map_err(|error| NodeError::Credentials { listener: listener.called(), error })?;
    Ok(Some(Arc::new(loaded)))
}

fn websocket(listener: &config::Listener) -> Option<WebSocketSettings> {
    (listener.protocol == config::Protocol::WebSocket).then(|| WebSocketSettings {
        origins: listener.websocket_origins.clone(),
        path: listener.websocket_path.clone(),
    })
}

fn identity(identity: config::ClientIdentity) -> ClientIdentity {
    match identity {
        config::ClientIdentity::None => ClientIdentity::None,
        config::ClientIdentity::CommonName => ClientIdentity::CommonName,
        config::ClientIdentity::SanDns => ClientIdentity::SanDns,
        config::ClientIdentity::SanEmail => ClientIdentity::SanEmail,
        config::ClientIdentity::SanUri => ClientIdentity::SanUri,
        config::ClientIdentity::Subject => ClientIdentity::Subject,
        config::ClientIdentity::Sha256 => ClientIdentity::Sha256,
    }
}

/// An address of each family, without that of IPv6 where this machine has none.
fn both_families(v4: Ipv4Addr, v6: Ipv6Addr, port: u16) -> Vec<SocketAddr> {
    let has_v6 = TcpListener::bind((v6, 0)).is_ok();
    let v6 = has_v6.then_some(IpAddr::V6(v6));
    [IpAddr::V4(v4)].into_iter().chain(v6).map(|ip| SocketAddr::new(ip, port)).collect()
}

fn versions(listed: &[Version]) -> Versions {
    Versions {
        v3_1: listed.contains(&Version::V3_1),
        v3_1_1: listed.contains(&Version::V3_1_1),
        v5: listed.contains(&Version::V5),
    }
}

/// The hall's settings out of the file's keys.
pub fn settings(config: &Config) -> Settings {
    let (limits, mqtt) = (&config.limits, &config.mqtt);
    let shards = match config.node.shards {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        shards => shards,
    };
    Settings {
        session: Limits {
            codec: CodecLimits {
                packet_size_max: narrow(limits.packet_size_max),
                user_properties_max: limits.user_properties_max,
                property_bytes_max: narrow(limits.property_size_max),
                characters: if mqtt.strict_characters { Characters::Strict } else { Characters::Lenient },
            },
            receive_maximum: limits.receive_maximum,
            topic_alias_maximum: limits.topic_alias_maximum,
            topic_alias_outbound_max: limits.topic_alias_outbound_max,
            topic: TopicLimits {
                levels_max: usize::from(limits.topic_levels_max),
                size_max: usize::from(limits.topic_size_max),
            },
            maximum_qos: Qos::from_value(mqtt.maximum_qos).unwrap_or(Qos::ExactlyOnce),
            retain_available: mqtt.retain_available,
            validate_utf8_payload: mqtt.validate_utf8_payload,
            session_expiry_max: limits.session_expiry_max,
            keep_alive_max: limits.keep_alive_max,
            in_flight_max: limits.in_flight_max,
            queue_at_hand_max: limits.queue_memory_messages_max,
            queue_messages_max: limits.queue_messages_max,
            queue_bytes_max: bytes(limits.queue_size_max),
            queue_drops: match limits.queue_drops {
                QueueDrops::Newest => Drops::Newest,
                QueueDrops::Oldest => Drops::Oldest,
                QueueDrops::Lowest => Drops::Lowest,
            },
            queue_qos0_messages_max: limits.queue_qos0_messages_max,
            queue_qos0_bytes_max: bytes(limits.queue_qos0_size_max),
            queue_qos0_offline: mqtt.queue_qos0_offline,
            filters_per_subscribe_max: limits.filters_per_subscribe_max,
        },
        shards,
        connect_packet_size_max: narrow(limits.connect_packet_size_max),
        client_id_size_max: bytes(limits.client_id_size_max),
        subscriptions_per_session_max: limits.subscriptions_per_session_max,
        retained_messages_max: limits.retained_messages_max,
        retained_bytes_max: bytes(limits.retained_size_max),
        retained_per_user_max: limits.retained_per_user_max,
        retained_payload_bytes_max: bytes(limits.retained_payload_size_max),
        queue_per_user_max: Amount {
            messages: limits.queue_messages_per_user_max,
            bytes: bytes(limits.queue_size_per_user_max),
        },
        memory_budget: bytes(config.node.memory_budget),
        message_rate_max: limits.message_rate_max,
        byte_rate_max: limits.byte_rate_max,
        message_rate_out_max: limits.message_rate_out_max,
        byte_rate_out_max: limits.byte_rate_out_max,
        sessions_per_user_max: limits.sessions_per_user_max,
        takeovers_per_minute_max: limits.takeovers_per_minute_max,
        write_stall_max: limits.write_stall_max,
        wildcard_subscription_available: mqtt.wildcard_subscription_available,
        shared_subscription_available: mqtt.shared_subscription_available,
        response_information: mqtt.response_information.clone(),
        assigned_client_id_prefix: mqtt.assigned_client_id_prefix.clone(),
        bridge_bit: mqtt.bridge_bit,
        shared_strategies: Strategies {
            default: strategy(mqtt.shared_strategy),
            by_name: config.shared_groups.iter().map(|group| (group.name.clone(), strategy(group.strategy))).collect(),
        },
        durability: config.store_rules.iter().map(|rule| (rule.filter.clone(), durability(rule.durability))).collect(),
        sys_interval: config.sys.interval,
        seed: None,
    }
}

fn durability(durability: config::Durability) -> Durability {
    match durability {
        config::Durability::Disk => Durability::Disk,
        config::Durability::Os => Durability::Os,
        config::Durability::Memory => Durability::Memory,
    }
}

fn strategy(strategy: SharedStrategy) -> Strategy {
    match strategy {
        SharedStrategy::RoundRobin => Strategy::RoundRobin,
        SharedStrategy::Random => Strategy::Random,
        SharedStrategy::Sticky => Strategy::Sticky,
        SharedStrategy::HashClient => Strategy::HashClient,
        SharedStrategy::HashTopic => Strategy::HashTopic,
        SharedStrategy::LeastInFlight => Strategy::LeastInFlight,
    }
}

/// The configuration's bounds keep these within range.
fn narrow(size: u64) -> u32 {
    u32::try_from(size).unwrap_or(u32::MAX)
}

fn bytes(size: u64) -> usize {
    usize::try_from(size).unwrap_or(usize::MAX)
}
