//! Every key of the configuration with its text, its kind, its bounds and its default, each stated once: here.
//! The structs that the node reads, `config/reference.toml`, the error messages and the names of environment variables all come from this table.
//! Read `kind.rs` for what a kind accepts and `mod.rs` for how layers of settings become one `Config`.

use super::address::{Address, AddressOrOff};
use super::kind::Kind;
use super::macros::{settings, words};
use crate::access::Network;
use crate::log::{Format, Level};
use std::path::PathBuf;
use std::time::Duration;

/// A table of the configuration, `[limits]`, or a list of tables, `[[listener]]`.
#[derive(Debug)]
pub struct Section {
    pub name: &'static str,
    /// How many tables of this name there may be; `None` for the one and only `[name]`.
    pub list_max: Option<usize>,
    /// Lines of text.
    pub docs: &'static [&'static str],
    pub keys: &'static [Key],
}

/// One key of a section.
#[derive(Debug)]
pub struct Key {
    pub name: &'static str,
    /// Lines of text.
    pub docs: &'static [&'static str],
    pub kind: Kind,
    pub fallback: Fallback,
}

/// What holds when nobody sets a key. Values are written as in TOML.
#[derive(Debug)]
pub enum Fallback {
    Value(&'static str),
    /// Nothing holds; `example` shows how to set it.
    Absent {
        example: &'static str,
    },
    /// Every table must set it.
    Required {
        example: &'static str,
    },
}

/// All sections, in the order of the reference.
pub const SECTIONS: &[Section] = &[
    Node::SECTION,
    Store::SECTION,
    StoreRule::SECTION,
    Listener::SECTION,
    Limits::SECTION,
    Mqtt::SECTION,
    Acl::SECTION,
    SharedGroup::SECTION,
    Password::SECTION,
    Jwt::SECTION,
    HttpLogin::SECTION,
    Sys::SECTION,
    Admin::SECTION,
    Log::SECTION,
];

settings! {
    /// The process as a whole.
    [node] Node {
        /// Folder for everything that survives a restart. It is made when it does not exist; a relative path starts at the
        /// working directory. Two nodes cannot share one.
        data_dir: PathBuf = Kind::Path, default "waypost-data";
        /// Threads that own Clients. 0 means one per core that this process may use, but not more than 64.
        shards: usize = count(0, 64), default 0;
        /// Memory that queued and retained messages and buffers may take in all. When it gets short, QoS 0 messages
        /// are dropped first, then new Clients are refused; the process does not grow beyond it for the sake of a Client.
        memory_budget: u64 = size(16 * MIB, 64 * TIB), default "1GiB";
    }

    /// What survives: retained messages, Sessions that outlive their connection, what waits for them, and their Wills.
    [store] Store {
        /// When a Client is told that something is kept. `disk`: once the disk says that it has it, so it survives a power cut; what
        /// many Clients wait for goes there together. `os`: once the operating system has it, so it survives the end of the
        /// process in any way, but not a power cut. `memory`: nothing is kept, and nothing survives.
        durability: Durability = Kind::OneOf(Durability::WORDS), default "disk";
        /// The longest that a write to the disk waits for more to gather. Nothing waits by default: what gathers during one
        /// write is the next.
        commit_wait: Duration = time_or_zero(1, 1000), default "0s";
    }

    /// How safe messages have to be whose Topic matches a filter, in place of `store.durability`: `memory` for telemetry that may go
    /// with the process, `os` for what need not survive a power cut, `disk` for alarms. The first rule that matches decides; a
    /// retained message and what waits for a Client that is away go by the rule of their Topic. Sessions and subscriptions do not,
    /// and QoS 2 is never kept less well than `store.durability` says. Needs a store: `store.durability` is `disk` or `os`.
    [[store_rule; 1000]] StoreRule {
        /// A Topic Filter, not of a shared subscription.
        filter: String = text(1, 65_535, ""), required "telemetry/#";
        /// As `store.durability`, for these messages. `memory`: the publisher is told at once.
        durability: Durability = Kind::OneOf(Durability::WORDS), required "memory";
    }

    /// Where Clients connect. One `[[listener]]` for each address; a drop-in file adds its listeners to those of the main file.
    /// Without any there is one on 127.0.0.1:1883 that only this machine reaches and that lets everybody in.
    [[listener; 64]] Listener {
        /// `IP:PORT`, `[IPv6]:PORT`, `HOST:PORT` or `unix:PATH`. `*` means all addresses of this machine, `0.0.0.0` those of IPv4
        /// and `[::]` those of IPv6. Port 0 means any free port; the log says which one it became.
        address: Address = Kind::Address, required "127.0.0.1:1883";
        /// What the log and rules call this listener. Without it, it is called by its address.
        name: Option<String> = text(1, 64, "\""), absent "devices";
        /// `mqtt`: MQTT straight away; `websocket`: MQTT inside WebSocket (RFC 6455).
        protocol: Protocol = Kind::OneOf(Protocol::WORDS), default "mqtt";
        /// Accepts only what comes in through this network interface.
        interface: Option<String> = text(1, 15, "/ "), absent "eth0";
        /// Protocol versions that are spoken here. A Client that asks for another one is refused: with Reason Code 0x84, or
        /// return code 1 where its version has no Reason Codes.
        versions: Vec<Version> = Kind::SomeOf(Version::WORDS), default ["3.1", "3.1.1", "5.0"];
        /// Ways to find out who a Client is, asked in this order until one of them says yes or no. `certificate`: the name in
        /// the Client's certificate; `password`: user name and password, by a password file; `scram`: the same by the
        /// Authentication Method SCRAM-SHA-256 of MQTT 5.0; `jwt`: a token in place of the password, by `[jwt]`; `http`: a
        /// service of yours, by `[http_login]`. Who is known to none of them stays outside.
        authentication: Option<Vec<Method>> = Kind::SomeOf(Method::WORDS), absent ["password"];
        /// Whether Clients may enter without saying who they are. When it is not set, they may where only this machine reaches
        /// the address and there is no `authentication`. An address that other machines can reach needs one of the two lines, or
        /// the broker does not start. Without `authentication` a user name is believed.
        allow_anonymous: Option<bool> = Kind::Switch, absent true;
        /// The password file for those who enter here, in place of `password.file`. Its users are others than those of the same name
        /// elsewhere: they do not get one another's Sessions.
        password_file: Option<PathBuf> = Kind::Path, absent "/etc/waypost/passwd-outside";
        /// Rule files for those who enter here, in place of `acl.files`; none (`[]`) allows everything. What waits for a Client, and
        /// its Will, are judged by the rules of the listener that it came through last.
        acl_files: Option<Vec<PathBuf>> = Kind::ListOf(&Kind::Path), absent ["/etc/waypost/acl-outside.toml"];
        /// Network Connections that are open here at the same time. Further ones are closed at once and counted.
        connections_max: usize = count(1, 10_000_000), default 100_000;
        /// Connections that the operating system completes and keeps until the broker accepts them.
        /// The operating system has a bound of its own (`net.core.somaxconn`).
        backlog: u32 = count(1, 65_535), default 1024;
        /// Certificates of this broker, PEM, each file with the intermediate ones after it. With any, only TLS is spoken here. Of several,
        /// the Client gets the first that is for the host name it asks for (SNI), or else the first of all.
        tls_certificate: Vec<PathBuf> = Kind::ListOf(&Kind::Path), default [];
        /// The private key of each certificate, PEM, in the same order.
        tls_key: Vec<PathBuf> = Kind::ListOf(&Kind::Path), default [];
        /// What happens when everybody on this machine may read or replace a private key. `warn`: the log says so; `refuse`: the
        /// key is not used, and the broker does not start or keeps the former certificates.
        tls_key_exposed: KeyExposed = Kind::OneOf(KeyExposed::WORDS), default "warn";
        /// Oldest version of TLS that is spoken.
        tls_version_min: TlsVersion = Kind::OneOf(TlsVersion::WORDS), default "1.2";
        /// Whether Clients show a certificate. `optional`: those that show one must show a good one; `required`: without a
        /// good one there is no connection. It must come from `client_ca` or `client_ca_folder`.
        client_auth: ClientAuth = Kind::OneOf(ClientAuth::WORDS), default "none";
        /// Certificates of those who may issue certificates for Clients, PEM.
        client_ca: Option<PathBuf> = Kind::Path, absent "certs/ca.pem";
        /// A folder of such certificates as `openssl rehash` keeps it, besides or in place of `client_ca`: files that are called by
        /// the hash of the certificate, `1a2b3c4d.0`. Others in it are not looked at.
        client_ca_folder: Option<PathBuf> = Kind::Path, absent "/etc/ssl/certs";
        /// Lists of revoked certificates, PEM or DER, at least one for each issuer once there is any. A list that is missing,
        /// out of date or not from a known issuer keeps Clients out. When a new list revokes the certificate of a connected
        /// Client, its Network Connection is closed.
        client_crl: Vec<PathBuf> = Kind::ListOf(&Kind::Path), default [];
        /// What of a Client's certificate is its user name: the Common Name, the first DNS name, e-mail address or URI among its
        /// Subject Alternative Names, the whole subject as in RFC 4514, or the SHA-256 fingerprint in hexadecimal. A certificate
        /// without it, or with one that holds `+`, `#` or control characters, is refused. Of a certificate that a proxy has
        /// checked (`proxy_protocol`) only the Common Name is known.
        client_identity: ClientIdentity = Kind::OneOf(ClientIdentity::WORDS), default "none";
        /// Whether the Client Identifier must be what `client_identity` says. Otherwise Reason Code 0x85, or return code 2.
        client_id_bound: bool = Kind::Switch, default false;
        /// Web pages whose scripts may connect by WebSocket, as browsers say it in Origin, `https://example.org`. `*` lets all in;
        /// `none` lets in who says no Origin, as programs outside of browsers do. Others get 403.
        websocket_origins: Vec<String> = Kind::ListOf(&text(1, 255, " ")), default ["*"];
        /// The one path at which WebSocket is offered; at others there is 404. Without it, every path will do.
        websocket_path: Option<String> = text(1, 255, " ?#"), absent "/mqtt";
        /// Permissions of the socket file of a `unix:` address, octal. Who may write to it may connect.
        unix_mode: String = Kind::Mode, default "0660";
        /// User that the socket file is given to, by name or number.
        unix_owner: Option<String> = text(1, 32, "/: "), absent "waypost";
        /// Group that the socket file is given to, by name or number.
        unix_group: Option<String> = text(1, 32, "/: "), absent "mqtt";
        /// Whether each Network Connection begins with a PROXY protocol header, version 1 or 2, in which a proxy says
        /// whom it speaks for. Without a header it is closed.
        proxy_protocol: bool = Kind::Switch, default false;
        /// Networks of proxies that are believed, `10.0.0.0/8` or `::1`. Others are closed at once.
        proxy_trusted: Vec<Network> = Kind::ListOf(&Kind::Network), default [];
    }

    /// What one Client may ask of the broker. Each limit is finite; what happens at the limit stands beside it.
    [limits] Limits {
        /// Largest packet that is taken after CONNECT, announced as Maximum Packet Size. A larger one ends the Network
        /// Connection with Reason Code 0x95, and a CONNECT whose Will would be larger is refused with it. The most that MQTT can
        /// express is 268435460 bytes.
        packet_size_max: u64 = size(128, 268_435_460), default "16MiB";
        /// Largest CONNECT packet. A larger one is refused before its body is read.
        connect_packet_size_max: u64 = size(128, 268_435_460), default "384KiB";
        /// Longest time from accepting a Network Connection to its complete CONNECT packet; then it is closed.
        connect_timeout: Duration = time(100 * MILLISECOND, 10 * MINUTE), default "10s";
        /// Network Connections of all listeners together. Further ones are closed at once and counted.
        connections_max: usize = count(1, 10_000_000), default 100_000;
        /// Network Connections that have not yet completed their CONNECT. Further ones are closed at once and counted.
        connections_pending_max: usize = count(1, 1_000_000), default 1_000;
        /// Network Connections from one address, of all listeners together. Further ones are closed at once and counted.
        connections_per_address_max: usize = count(1, 10_000_000), default 50_000;
        /// Network Connections that one listener accepts in a second. Further ones wait in its backlog.
        connect_rate_max: u32 = count(1, 1_000_000), default 5_000;
        /// Network Connections from one address that are accepted in a second, of all listeners together. A second's worth may
        /// come at once. Further ones are closed at once and counted, so that others need not wait behind them. Where each Client
        /// has an address of its own, far less will do; behind a proxy or a gateway all of them may have the same.
        connect_rate_per_address_max: u32 = count(1, 1_000_000), default 10_000;
        /// TLS handshakes that are under way at the same time, from the first complete message of the Client on. Further ones are
        /// closed at once and counted. A thread works on one at a time and on everything else in between.
        tls_handshakes_max: usize = count(1, 1_000_000), default 500;
        /// Time of each thread that may go into TLS handshakes, in percent. When more of them come, they take longer, and those
        /// that are not complete within `connect_timeout` are closed; Clients that are there are served all the same.
        tls_handshake_share_max: u8 = count(1, 100), default 50;
        /// Failed logins of one address, or at one user, that cost nothing as long as no more come within
        /// `failed_logins_window`. The next ones are refused for a second, two seconds, four and so on, with Reason Code 0x8A.
        /// A user under attack can still log in from addresses that have not failed.
        failed_logins_max: u32 = count(1, 1_000_000), default 10;
        /// See `failed_logins_max`.
        failed_logins_window: Duration = time(SECOND, DAY), default "1m";
        /// The longest time for which logins are refused after a failed one.
        failed_login_block_max: Duration = time(SECOND, DAY), default "1m";
        /// Passwords that are hashed at the same time. 0 means one for every two cores that this process may use, at least one.
        password_hashes_max: usize = count(0, 1024), default 0;
        /// Logins that wait for their password to be hashed or for an answer over HTTP. Further ones are refused with Reason
        /// Code 0x89.
        logins_waiting_max: usize = count(1, 1_000_000), default 1_000;
        /// PUBLISH packets of QoS 1 and 2 that a Client may send before the first of them is acknowledged, announced as Receive
        /// Maximum. A 5.0 Client that sends more is disconnected with Reason Code 0x93, an older one without a word.
        receive_maximum: u16 = count(1, 65_535), default 1_000;
        /// Topic Aliases that a Client may use when it publishes, announced as Topic Alias Maximum. 0 means none.
        topic_alias_maximum: u16 = count(0, 65_535), default 16;
        /// Topic Aliases that the broker uses towards one Client, as far as that Client allows. 0 means none.
        topic_alias_outbound_max: u16 = count(0, 65_535), default 32;
        /// Levels of a Topic Name or Topic Filter, the parts between the slashes. More are refused with Reason Code 0x90 or 0x8F.
        topic_levels_max: u16 = count(1, 65_535), default 128;
        /// Longest Topic Name or Topic Filter, in bytes. A longer one is refused in the same way.
        topic_size_max: u16 = count(1, 65_535), default 65_535;
        /// Longest Client Identifier. A longer one is refused with Reason Code 0x85, or return code 2.
        client_id_size_max: u64 = size(23, 65_535), default "1KiB";
        /// User Properties in one packet. More end the Network Connection with Reason Code 0x97. 0 means none.
        user_properties_max: u16 = count(0, 65_535), default 64;
        /// Bytes of all properties of one packet. More end the Network Connection with Reason Code 0x97.
        property_size_max: u64 = size(128, 16 * MIB), default "64KiB";
        /// Topic Filters in one SUBSCRIBE packet. Those beyond are refused with Reason Code 0x97, or 0x80 before 5.0.
        filters_per_subscribe_max: usize = count(1, 1_000_000), default 1_000;
        /// Subscriptions of one Session. Further ones are refused with Reason Code 0x97, or 0x80 before 5.0.
        subscriptions_per_session_max: usize = count(1, 10_000_000), default 10_000;
        /// Longest time that a Session outlives its Network Connection. A 5.0 Client that asks for more is told this one;
        /// a persistent Session of an older Client gets exactly this. 0s means that every Session ends with its Network Connection.
        session_expiry_max: Duration = time_or_zero(SECOND, 49_710 * DAY), default "7d";
        /// Longest Keep Alive. A 5.0 Client that asks for more, or for none, is told this one as Server Keep Alive. An older
        /// Client cannot be told: what it asks for holds, and probes of the operating system find those that are gone.
        keep_alive_max: Duration = time(SECOND, 65_535 * SECOND), default "1h";
        /// QoS 1 and 2 messages on their way to one Client, sent and not yet acknowledged. A 5.0 Client can ask for fewer with its
        /// Receive Maximum. Further messages wait in the queue.
        in_flight_max: u16 = count(1, 65_535), default 1_000;
        /// QoS 1 and 2 messages that wait for one Session. Beyond this bound `queue_drops` says which of them goes; it is
        /// counted, and the log says so.
        queue_messages_max: usize = count(1, 1_000_000_000), default 100_000;
        /// QoS 1 and 2 messages that wait for one Session in memory. What waits behind them waits on the disk alone, if the store
        /// keeps the Session (see `store.durability`). Fewer while memory is short.
        queue_memory_messages_max: usize = count(16, 1_000_000_000), default 10_000;
        /// Bytes of the QoS 1 and 2 messages that wait for one Session. The same happens at this bound.
        queue_size_max: u64 = size(KIB, 64 * TIB), default "64MiB";
        /// Which QoS 1 or 2 message goes when a queue is full. `newest`: the one that comes; where nobody can take it, its 5.0
        /// publisher is told so by Reason Code 0x97. `oldest`: those that have waited longest, although their publishers
        /// were told that they are kept. `lowest`: those in memory of a lower QoS than the one that comes, the oldest first;
        /// where there is none, the one that comes. Those on their way to the Client always stay.
        queue_drops: QueueDrops = Kind::OneOf(QueueDrops::WORDS), default "newest";
        /// QoS 1 and 2 messages that wait for all Sessions of one user that has proved who it is. The same happens in the Session
        /// that would go beyond it. Each is counted to the next 64 messages or more, its first 64 are not.
        queue_messages_per_user_max: usize = count(1, 1_000_000_000), default 100_000_000;
        /// Bytes of them. The same happens at this bound; each Session is counted to the next 64 KiB, its first 64 KiB are not.
        queue_size_per_user_max: u64 = size(KIB, 64 * TIB), default "64GiB";
        /// QoS 0 messages that wait for one connected Client that reads too slowly. At this bound new ones are dropped and counted.
        queue_qos0_messages_max: usize = count(1, 1_000_000_000), default 100_000;
        /// Bytes of the QoS 0 messages that wait for one connected Client. The same happens at this bound.
        queue_qos0_size_max: u64 = size(KIB, 64 * TIB), default "16MiB";
        /// Messages that one Client may publish in a second. A faster one is read more slowly, so that its own side waits;
        /// nothing is lost. A second's worth may come at once.
        message_rate_max: u32 = count(1, 1_000_000_000), default 1_000_000;
        /// Bytes that one Client may send in a second, everything counted. The same happens.
        byte_rate_max: u64 = size(KIB, TIB), default "1GiB";
        /// Messages that one Client is sent in a second. Further ones wait in its queue, with its bounds; acknowledgements do not
        /// wait. A second's worth may go at once. With both rates at their most, which is more than anybody can be sent, nothing
        /// is counted.
        message_rate_out_max: u32 = count(1, 1_000_000_000), default 1_000_000_000;
        /// Bytes that one Client is sent in a second, everything counted. The same happens.
        byte_rate_out_max: u64 = size(KIB, TIB), default "1TiB";
        /// Sessions of one user that has proved who it is, connected or not. Further ones are refused with Reason Code 0x97, or
        /// return code 3.
        sessions_per_user_max: usize = count(1, 1_000_000_000), default 100_000;
        /// Times a minute that one Client may be taken over by a new Network Connection with its Client Identifier, as when
        /// two devices have the same. A minute's worth may come at once; further ones wait for their turn, one of each
        /// Client. When another comes meanwhile, the one that waited is refused with Reason Code 0x89, or return code 3.
        takeovers_per_minute_max: u32 = count(1, 60_000), default 6_000;
        /// Longest time that a Client may take nothing of what is written to it; then its Network Connection is closed, with Reason
        /// Code 0x97.
        write_stall_max: Duration = time(100 * MILLISECOND, HOUR), default "20s";
        /// Retained messages in all. At this bound those for new Topics are refused with Reason Code 0x97 or not retained, and
        /// counted. To retain none at all, set `mqtt.retain_available = false`.
        retained_messages_max: usize = count(1, 1_000_000_000), default 10_000_000;
        /// Bytes of all retained messages with their Topics. The same happens at this bound.
        retained_size_max: u64 = size(KIB, 64 * TIB), default "512MiB";
        /// Retained messages of one user that has proved who it is, by whichever of its Clients they were published. The same
        /// happens at this bound.
        retained_per_user_max: usize = count(1, 1_000_000_000), default 1_000_000;
        /// Largest payload of a message that is retained. A larger one is refused with Reason Code 0x97 or not retained, and
        /// counted. A Will that is too large for it is refused with its CONNECT.
        retained_payload_size_max: u64 = size(1, 268_435_460), default "16MiB";
    }

    /// Who may publish and subscribe to what. Without rule files everybody may everything, but publish to topics that begin with
    /// `$`; with them nothing is allowed that no rule allows. `waypost acl explain` says why somebody may do something or not.
    [acl] Acl {
        /// Rule files. One that ends in `.toml` is in the form of `config/acl.toml`, all others are as mosquitto's `acl_file`. A
        /// denial in any file wins. A relative path starts at the working directory.
        files: Vec<PathBuf> = Kind::ListOf(&Kind::Path), default [];
        /// When a subscription is granted. `strict`: when one rule allows all topics of the filter, from which others may
        /// exclude some; `overlap`: when some topic of the filter is allowed; `lenient`: always, as mosquitto does. Otherwise it is
        /// refused with Reason Code 0x87, or 0x80 before 5.0. Each message is checked again when it is delivered.
        subscribe: SubscribePolicy = Kind::OneOf(SubscribePolicy::WORDS), default "strict";
    }

    /// What of the protocol is offered, and how strictly it is read.
    [mqtt] Mqtt {
        /// Highest QoS that Clients may publish with, announced as Maximum QoS.
        maximum_qos: u8 = count(0, 2), default 2;
        /// Whether messages can be retained, announced as Retain Available. Otherwise a PUBLISH or Will with RETAIN ends the
        /// Network Connection with Reason Code 0x9A.
        retain_available: bool = Kind::Switch, default true;
        /// Whether Topic Filters may hold `+` and `#`. Otherwise such a subscription is refused with Reason Code 0xA2.
        wildcard_subscription_available: bool = Kind::Switch, default true;
        /// Whether there are Shared Subscriptions (`$share/...`). Otherwise such a subscription is refused with Reason Code 0x9E.
        shared_subscription_available: bool = Kind::Switch, default true;
        /// Whether a payload that its Payload Format Indicator calls UTF-8 is checked. One that is not is refused with
        /// Reason Code 0x99.
        validate_utf8_payload: bool = Kind::Switch, default false;
        /// Whether control characters (U+0001 to U+001F, U+007F to U+009F) and non-characters are refused in Topics, Topic
        /// Filters, Wills and Client Identifiers. The standard leaves it to the Server.
        strict_characters: bool = Kind::Switch, default false;
        /// Whether protocol levels 0x83 and 0x84 are taken as 3.1 and 3.1.1 of a bridge, as Mosquitto's bridges say them.
        bridge_bit: bool = Kind::Switch, default true;
        /// Start of the Topics for responses, told to a 5.0 Client that requests Response Information. Empty means that
        /// none is told.
        response_information: String = text(0, 1024, "+#"), default "";
        /// Start of the Client Identifiers that the broker assigns.
        assigned_client_id_prefix: String = text(0, 64, ""), default "auto-";
        /// Whether QoS 0 messages, too, wait for a Session whose Client is away.
        queue_qos0_offline: bool = Kind::Switch, default false;
        /// Which member of a shared group gets a message, unless a `[[shared_group]]` says otherwise. `round_robin`: each in turn;
        /// `random`: any; `sticky`: the same one as long as it can; `hash_client` and `hash_topic`: chosen by the publisher or
        /// by the Topic; `least_in_flight`: the one with the fewest unacknowledged messages.
        shared_strategy: SharedStrategy = Kind::OneOf(SharedStrategy::WORDS), default "round_robin";
    }

    /// The strategy of one group of Shared Subscriptions; each group once.
    [[shared_group; 1000]] SharedGroup {
        /// The ShareName, as in `$share/NAME/filter`.
        name: String = text(1, 1024, "/+#"), required "workers";
        /// As `mqtt.shared_strategy`, for this group.
        strategy: SharedStrategy = Kind::OneOf(SharedStrategy::WORDS), required "least_in_flight";
    }

    /// Users with passwords, for listeners whose `authentication` has `password` or `scram`.
    [password] Password {
        /// A password file in the format of Mosquitto; `waypost passwd` writes it. SIGHUP reads it again. A listener can have
        /// one of its own.
        file: Option<PathBuf> = Kind::Path, absent "/etc/waypost/passwd";
    }

    /// Tokens (RFC 7519) that Clients send as their password, for listeners whose `authentication` has `jwt`. A token must have
    /// been signed by the key and must say when it expires (`exp`); then the Network Connection ends.
    [jwt] Jwt {
        /// The key that tokens are signed with: a public key as PEM, or for HS256 the secret itself, at least 32 bytes.
        key_file: Option<PathBuf> = Kind::Path, absent "/etc/waypost/jwt.pem";
        /// The one algorithm of that key; whatever else a token names is refused.
        algorithm: Option<Algorithm> = Kind::OneOf(Algorithm::WORDS), absent "ES256";
        /// Keys as a JSON Web Key Set (RFC 7517), each of which names its algorithm. SIGHUP reads it again.
        jwks_file: Option<PathBuf> = Kind::Path, absent "/etc/waypost/jwks.json";
        /// The same at `https://HOST:PORT/PATH` or `http://HOST:PORT/PATH`, for public keys only. It is fetched at the start, every
        /// `jwks_refresh`, and when a token names a key that is not there, but for that at most every 30s. While the server fails,
        /// the last good keys stay in force; before there are any, tokens that need them are refused with Reason Code 0x88.
        jwks_url: Option<String> = text(1, 2048, " "), absent "https://id.example.org/jwks.json";
        /// Certificates of those who may issue the certificate of an https server of keys, PEM. Not set: those that this system trusts.
        jwks_ca_file: Option<PathBuf> = Kind::Path, absent "/etc/waypost/jwks-ca.pem";
        /// See `jwks_url`.
        jwks_refresh: Duration = time(SECOND, DAY), default "10m";
        /// What `iss` must be. Not set: anything.
        issuer: Option<String> = text(1, 1024, ""), absent "https://id.example.org";
        /// What `aud` must be or contain. Not set: only tokens without `aud` are taken.
        audience: Option<String> = text(1, 1024, ""), absent "mqtt";
        /// The claim that is the user name. A token without it is refused, and so is one whose claim is not the user name
        /// that CONNECT has, when it has one.
        user_claim: String = text(1, 256, ""), default "sub";
        /// A claim that the Client Identifier must be equal to.
        client_id_claim: Option<String> = text(1, 256, ""), absent "client_id";
        /// A claim with a list of Topic Filters. In tokens that have it or `subscribe_claim`, these are all that may be
        /// published to.
        publish_claim: String = text(1, 256, ""), default "publish";
        /// The same for subscribing and receiving.
        subscribe_claim: String = text(1, 256, ""), default "subscribe";
        /// How far the clocks of the issuer and of this machine may be apart.
        leeway: Duration = time_or_zero(MILLISECOND, 10 * MINUTE), default "0s";
    }

    /// A service of yours that is asked about logins, for listeners whose `authentication` has `http`. It gets a POST request with
    /// a JSON object: `client_id`, `user_name`, `password`, `address`, `listener`. 200 with `{"result": "allow"}` lets the
    /// Client in, 200 with `{"result": "deny"}` does not, 200 with `{"result": "ignore"}` leaves it to the next way. Anything
    /// else, no answer in time, and a password that is not UTF-8, is a no.
    [http_login] HttpLogin {
        /// `https://HOST:PORT/PATH` or `http://HOST:PORT/PATH`. With http the passwords are not encrypted on their way: then let the
        /// service be on this machine or in a trusted network.
        url: Option<String> = text(1, 2048, " "), absent "https://login.example.org/mqtt";
        /// Certificates of those who may issue the certificate of an https service, PEM. Not set: those that this system trusts.
        ca_file: Option<PathBuf> = Kind::Path, absent "/etc/waypost/login-ca.pem";
        /// Sent as the header `Authorization`.
        authorization: Option<String> = text(1, 4096, ""), absent "Bearer SECRET";
        /// Longest time for one answer.
        timeout: Duration = time(10 * MILLISECOND, MINUTE), default "3s";
        /// Requests at the same time; further logins wait.
        requests_max: usize = count(1, 10_000), default 100;
        /// How long a yes is remembered, for the same credentials from the same address. 0s means that each login is asked about.
        cache_time: Duration = time_or_zero(SECOND, HOUR), default "2s";
        /// Logins that are remembered.
        cache_entries_max: usize = count(1, 1_000_000), default 10_000;
        /// Failures in a row after which the service is left alone for `pause`; meanwhile logins are refused at once, with
        /// Reason Code 0x88.
        failures_max: u32 = count(1, 10_000), default 5;
        /// See `failures_max`.
        pause: Duration = time(100 * MILLISECOND, HOUR), default "5s";
    }

    /// Figures of the broker, published below `$SYS/`.
    [sys] Sys {
        /// How often they are published. 0s means never.
        interval: Duration = time_or_zero(100 * MILLISECOND, DAY), default "10s";
    }

    /// Figures and health for programs that watch the broker, over HTTP: `GET /metrics` (Prometheus text format), `/healthz` (does
    /// every thread answer) and `/readyz` (may Clients come).
    [admin] Admin {
        /// Where they are served, by plain HTTP and to everybody who can reach it. Not set: on 127.0.0.1:18083, and when that is taken
        /// the broker says so and goes on without; where an address is set, it does not start without it. `off`: nowhere.
        address: Option<AddressOrOff> = Kind::AddressOrOff, absent "127.0.0.1:18083";
        /// Whether `address` may be one that other machines can reach. There is no login: let a firewall or a proxy stand before it.
        allow_remote: bool = Kind::Switch, default false;
    }

    /// The log, written to standard error.
    [log] Log {
        /// How much is logged. Each level includes those before it. The flag `-v` means `debug`, `-vv` means `trace`.
        level: Level = Kind::OneOf(&["error", "warn", "info", "debug", "trace"]), default "info";
        /// `text`: time, level, message and `key=value`; `json`: one object per line.
        format: Format = Kind::OneOf(&["text", "json"]), default "text";
    }
}

impl Listener {
    /// What the log and rules call it.
    pub fn called(&self) -> String {
        self.name.clone().unwrap_or_else(|| self.address.to_string())
    }

    /// Whether Clients may enter here without saying who they are.
    pub fn lets_anyone_in(&self) -> bool {
        self.allow_anonymous.unwrap_or_else(|| self.address.is_loopback() && self.authentication.is_none())
    }

    /// The ways to find out who a Client is, in order.
    pub fn methods(&self) -> &[Method] {
        self.authentication.as_deref().unwrap_or_default()
    }
}

words! {
    /// A version of the protocol.
    pub enum Version { V3_1 = "3.1", V3_1_1 = "3.1.1", V5 = "5.0" }
}

words! {
    /// What is spoken on a listener.
    pub enum Protocol { Mqtt = "mqtt", WebSocket = "websocket" }
}

words! {
    /// A version of TLS.
    pub enum TlsVersion { V1_2 = "1.2", V1_3 = "1.3" }
}

words! {
    /// What happens when a private key is open to everybody on this machine.
    pub enum KeyExposed { Warn = "warn", Refuse = "refuse" }
}

words! {
    /// Whether Clients show a certificate.
    pub enum ClientAuth { None = "none", Optional = "optional", Required = "required" }
}

words! {
    /// What of a Client's certificate is its user name.
    pub enum ClientIdentity {
        None = "none",
        CommonName = "common_name",
        SanDns = "san_dns",
        SanEmail = "san_email",
        SanUri = "san_uri",
        Subject = "subject",
        Sha256 = "sha256",
    }
}

words! {
    /// A way to find out who a Client is.
    pub enum Method {
        Certificate = "certificate",
        Password = "password",
        Scram = "scram",
        Jwt = "jwt",
        Http = "http",
    }
}

words! {
    /// How tokens are signed.
    pub enum Algorithm { Hs256 = "HS256", Rs256 = "RS256", Es256 = "ES256", EdDsa = "EdDSA" }
}

words! {
    /// When a subscription is granted.
    pub enum SubscribePolicy { Strict = "strict", Overlap = "overlap", Lenient = "lenient" }
}

words! {
    /// When a Client is told that something is kept.
    pub enum Durability { Disk = "disk", Os = "os", Memory = "memory" }
}

words! {
    /// Which message goes when a queue is full.
    pub enum QueueDrops { Newest = "newest", Oldest = "oldest", Lowest = "lowest" }
}

words! {
    /// How a shared group chooses the member that gets a message.
    pub enum SharedStrategy {
        RoundRobin = "round_robin",
        Random = "random",
        Sticky = "sticky",
        HashClient = "hash_client",
        HashTopic = "hash_topic",
        LeastInFlight = "least_in_flight",
    }
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const TIB: u64 = 1 << 40;

// In milliseconds.
const MILLISECOND: u64 = 1;
const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

const fn count(least: u64, most: u64) -> Kind {
    Kind::Count { least, most }
}

const fn size(least: u64, most: u64) -> Kind {
    Kind::Size { least, most }
}

const fn time(least_ms: u64, most_ms: u64) -> Kind {
    Kind::Time { least: Duration::from_millis(least_ms), most: Duration::from_millis(most_ms), or_zero: false }
}

const fn time_or_zero(least_ms: u64, most_ms: u64) -> Kind {
    Kind::Time { least: Duration::from_millis(least_ms), most: Duration::from_millis(most_ms), or_zero: true }
}

const fn text(least: usize, most: usize, refused: &'static str) -> Kind {
    Kind::Text { least, most, refused }
}
