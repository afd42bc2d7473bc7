//! Every option of mosquitto.conf(5), of mosquitto 2.0 and 2.1, each stated once: here, with what becomes of it.
//! What is not supported is an error where it concerns who gets in and what they may do, and a warning elsewhere.
//! Read `translate.rs` next, which carries out what the table promises.

use super::super::unknown::nearest;
use crate::notice::Outside;

/// One option.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) scope: Scope,
    pub(super) form: Form,
    /// Whether a second value is an error instead of taking the place of the first one.
    pub(super) once: bool,
    pub(super) support: Support,
    /// With this value Waypost does the same, although the option as such is not supported.
    pub(super) harmless: Option<&'static str>,
}

/// Where an option may stand and what it applies to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    Global,
    /// All listeners, or with `per_listener_settings` the one that it stands below.
    Security,
    /// The listener that it stands below, or the default one.
    Listener,
    /// The bridge that it stands below.
    Bridge,
    /// The plugin that it stands below.
    Plugin,
}

/// What stands behind the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Switch,
    Number,
    /// The first word.
    Word,
    /// The rest of the line.
    Text,
    /// Not looked at.
    Any,
}

/// What becomes of an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Support {
    /// It means the same as this key: `section.key`, or a sentence.
    Honoured(&'static str),
    /// It becomes this key; the sentence says what is different.
    Changed(&'static str, &'static str),
    /// It has no effect, and the broker starts nevertheless; the sentence says why, or what to do instead.
    NotSupported(&'static str),
    /// The broker does not start with it.
    Refused(&'static str),
}

use Form::{Any, Number, Switch, Text, Word};
use Scope::{Bridge, Global, Listener, Plugin, Security};
use Support::{Changed, Honoured, NotSupported, Refused};

const NO_BRIDGES: Support = NotSupported("there are no bridges yet; this one is not started");
const NO_PLUGINS: Support = Refused("plugins of mosquitto cannot be loaded; see [[listener]] authentication and [acl]");
const NO_PSK: Support =
    Refused("there is no TLS with pre-shared keys; give Clients certificates (require_certificate)");
const NO_ENGINES: Support = Refused("there are no OpenSSL engines; give the private key as a PEM file in keyfile");
const FORMER: Support = Honoured("no effect, as in mosquitto 2");
const NO_WEBSITE: Support = NotSupported("no files are served over HTTP");
const BUFFERS: Support = NotSupported("buffers have the size that they need");

/// In the order of their names. `auth_opt_*` and `plugin_opt_*` stand for all options that begin so.
pub(super) const ROWS: &[Row] = &[
    row("accept_protocol_versions", Listener, Text, Honoured("listener.versions")),
    row("acl_file", Security, Text, Honoured("acl.files")),
    row("address", Bridge, Any, NO_BRIDGES),
    row("addresses", Bridge, Any, NO_BRIDGES),
    row("allow_anonymous", Security, Switch, Honoured("listener.allow_anonymous")),
    row(
        "allow_duplicate_messages",
        Global,
        Switch,
        NotSupported("a Client gets each message once, however many of its subscriptions match"),
    )
    .harmless("true"),
    row(
        "allow_zero_length_clientid",
        Security,
        Switch,
        NotSupported("a Client without a Client Identifier is always given one"),
    )
    .harmless("true"),
    row("auth_opt_*", Plugin, Any, NO_PLUGINS),
    row("auth_plugin", Security, Any, NO_PLUGINS),
    row("auth_plugin_deny_special_chars", Plugin, Any, NO_PLUGINS),
    row("auto_id_prefix", Security, Text, Honoured("mqtt.assigned_client_id_prefix")).once(),
    row("autosave_interval", Global, Number, NotSupported("what is acknowledged is saved already")),
    row("autosave_on_changes", Global, Switch, NotSupported("what is acknowledged is saved already")),
    row("bind_address", Listener, Text, Honoured("listener.address")).once(),
    row("bind_interface", Listener, Text, Honoured("listener.interface")).once(),
    row("bridge_alpn", Bridge, Any, NO_BRIDGES),
    row("bridge_attempt_unsubscribe", Bridge, Any, NO_BRIDGES),
    row("bridge_bind_address", Bridge, Any, NO_BRIDGES),
    row("bridge_cafile", Bridge, Any, NO_BRIDGES),
    row("bridge_capath", Bridge, Any, NO_BRIDGES),
    row("bridge_certfile", Bridge, Any, NO_BRIDGES),
    row("bridge_ciphers", Bridge, Any, NO_BRIDGES),
    row("bridge_ciphers_tls1.3", Bridge, Any, NO_BRIDGES),
    row("bridge_identity", Bridge, Any, NO_BRIDGES),
    row("bridge_insecure", Bridge, Any, NO_BRIDGES),
    row("bridge_keyfile", Bridge, Any, NO_BRIDGES),
    row("bridge_max_packet_size", Bridge, Any, NO_BRIDGES),
    row("bridge_max_topic_alias", Bridge, Any, NO_BRIDGES),
    row("bridge_outgoing_retain", Bridge, Any, NO_BRIDGES),
    row("bridge_protocol_version", Bridge, Any, NO_BRIDGES),
    row("bridge_psk", Bridge, Any, NO_BRIDGES),
    row("bridge_receive_maximum", Bridge, Any, NO_BRIDGES),
    row("bridge_reload_type", Bridge, Any, NO_BRIDGES),
    row("bridge_require_ocsp", Bridge, Any, NO_BRIDGES),
    row("bridge_session_expiry_interval", Bridge, Any, NO_BRIDGES),
    row("bridge_tcp_keepalive", Bridge, Any, NO_BRIDGES),
    row("bridge_tcp_user_timeout", Bridge, Any, NO_BRIDGES),
    row("bridge_tls_use_os_certs", Bridge, Any, NO_BRIDGES),
    row("bridge_tls_version", Bridge, Any, NO_BRIDGES),
    row("cafile", Listener, Text, Honoured("listener.client_ca")),
    row("capath", Listener, Text, Honoured("listener.client_ca_folder")),
    row("certfile", Listener, Text, Honoured("listener.tls_certificate")),
    row(
        "check_retain_source",
        Global,
        Switch,
        NotSupported("a retained message is only delivered while its publisher may still publish there"),
    )
    .harmless("true"),
    row("ciphers", Listener, Text, Honoured("what TLS offers lies within this list")),
    row("ciphers_tls1.3", Listener, Text, Honoured("what TLS offers lies within this list")),
    row("cleansession", Bridge, Any, NO_BRIDGES),
    row("clientid", Bridge, Any, NO_BRIDGES),
    row("clientid_prefixes", Global, Text, Refused("Client Identifiers cannot be held to a prefix; let users log in")),
    row("connection", Global, Word, NO_BRIDGES),
    row(
        "connection_messages",
        Global,
        Switch,
        NotSupported("whether connections are logged is a matter of log.level"),
    )
    .harmless("true"),
    row("crlfile", Listener, Text, Honoured("listener.client_crl")),
    row("dhparamfile", Listener, Any, NotSupported("keys are exchanged over elliptic curves, without parameters")),
    row(
        "disable_client_cert_date_checks",
        Listener,
        Switch,
        Refused("certificates of Clients that have expired are never accepted"),
    )
    .harmless("false"),
    row("enable_control_api", Global, Switch, NotSupported("there are no $CONTROL Topics")).harmless("false"),
    row(
        "enable_proxy_protocol",
        Listener,
        Number,
        Changed("listener.proxy_protocol", "both versions are taken, and as in mosquitto from every address: name your proxies in proxy_trusted"),
    ),
    row("global_max_clients", Global, Number, NotSupported("Sessions are bounded by memory and limits.session_expiry_max"))
        .harmless("-1"),
    row("global_max_connections", Global, Number, Honoured("limits.connections_max")),
    row("global_plugin", Security, Any, NO_PLUGINS),
    row("http_dir", Listener, Text, NO_WEBSITE),
    row("idle_timeout", Bridge, Any, NO_BRIDGES),
    row("include_dir", Global, Text, Honoured("its files follow")),
    row("keepalive_interval", Bridge, Any, NO_BRIDGES),
    row("keyfile", Listener, Text, Honoured("listener.tls_key")),
    row("listener", Listener, Text, Honoured("listener.address")),
    row("listener_allow_anonymous", Listener, Switch, Honoured("listener.allow_anonymous")),
    row("listener_auto_id_prefix", Listener, Text, Honoured("mqtt.assigned_client_id_prefix")).once(),
    row("local_cleansession", Bridge, Any, NO_BRIDGES),
    row("local_clientid", Bridge, Any, NO_BRIDGES),
    row("local_password", Bridge, Any, NO_BRIDGES),
    row("local_username", Bridge, Any, NO_BRIDGES),
    row("log_dest", Global, Word, NotSupported("the log goes to standard error")),
    row("log_facility", Global, Number, NotSupported("the log goes to standard error")),
    row("log_timestamp", Global, Switch, NotSupported("every line has the time")).harmless("true"),
    row("log_timestamp_format", Global, Text, NotSupported("the time is in the form of RFC 3339")).once(),
    row("log_type", Global, Word, Honoured("log.level")),
    row("max_connections", Listener, Number, Honoured("listener.connections_max")),
    row("max_inflight_bytes", Global, Number, NotSupported("messages on their way are counted, not weighed; see limits.in_flight_max"))
        .harmless("0"),
    row("max_inflight_messages", Global, Number, Honoured("limits.in_flight_max and limits.receive_maximum")),
    row("max_keepalive", Global, Number, Honoured("limits.keep_alive_max")),
    row("max_packet_size", Global, Number, Honoured("limits.packet_size_max")),
    row("max_qos", Listener, Number, Honoured("mqtt.maximum_qos")),
    row("max_queued_bytes", Global, Number, Honoured("limits.queue_size_max")),
    row("max_queued_messages", Global, Number, Honoured("limits.queue_messages_max")),
    row("max_topic_alias", Listener, Number, Honoured("limits.topic_alias_maximum")),
    row("max_topic_alias_broker", Listener, Number, Honoured("limits.topic_alias_outbound_max")),
    row("maximum_qos", Listener, Number, Honoured("mqtt.maximum_qos")),
    row("memory_limit", Global, Number, Honoured("node.memory_budget")),
    row(
        "message_size_limit",
        Global,
        Number,
        Changed(
            "limits.packet_size_max",
            "a packet that is larger than such a message can be ends its Network Connection instead of being dropped",
        ),
    ),
    row("mount_point", Listener, Text, Refused("Topics cannot be mounted below a prefix; keep groups of Clients apart with rules in acl_file")),
    row("notification_topic", Bridge, Any, NO_BRIDGES),
    row("notifications", Bridge, Any, NO_BRIDGES),
    row("notifications_local_only", Bridge, Any, NO_BRIDGES),
    row("packet_buffer_size", Global, Number, BUFFERS),
    row("password", Bridge, Any, NO_BRIDGES),
    row("password_file", Security, Text, Honoured("password.file and listener.authentication")),
    row("per_listener_settings", Global, Switch, Honoured("each [[listener]] says who may enter")),
    row("persistence", Global, Switch, Honoured("store.durability")),
    row("persistence_file", Global, Text, NotSupported("mosquitto's database is neither read nor written")).once(),
    row("persistence_location", Global, Text, Changed("node.data_dir", "the data lies in the folder waypost-data there")).once(),
    row("persistent_client_expiration", Global, Word, Honoured("limits.session_expiry_max")),
    row("pid_file", Global, Text, NotSupported("no file is written; a service manager knows the process without it")).once(),
    row("plugin", Security, Any, NO_PLUGINS),
    row("plugin_load", Global, Any, NO_PLUGINS),
    row("plugin_opt_*", Plugin, Any, NO_PLUGINS),
    row("plugin_use", Listener, Any, NO_PLUGINS),
    row("port", Listener, Number, Honoured("listener.address")),
    row("protocol", Listener, Word, Honoured("listener.protocol")),
    row(
        "proxy_protocol_v2_require_tls",
        Listener,
        Switch,
        Refused("a proxy cannot be made to say that its Client used TLS; let it accept TLS only"),
    )
    .harmless("false"),
    row("psk_file", Security, Text, NO_PSK),
    row("psk_hint", Listener, Text, NO_PSK),
    row("queue_qos0_messages", Global, Switch, Honoured("mqtt.queue_qos0_offline")),
    row("remote_clientid", Bridge, Any, NO_BRIDGES),
    row("remote_password", Bridge, Any, NO_BRIDGES),
    row("remote_username", Bridge, Any, NO_BRIDGES),
    row("require_certificate", Listener, Switch, Honoured("listener.client_auth")),
    row("restart_timeout", Bridge, Any, NO_BRIDGES),
    row("retain_available", Global, Switch, Honoured("mqtt.retain_available")),
    row("retain_expiry_interval", Global, Number, NotSupported("a retained message expires when its publisher says so")),
    row("retained_persistence", Global, Switch, NotSupported("retained messages survive like all else")).harmless("true"),
    row("retry_interval", Global, Any, FORMER),
    row("round_robin", Bridge, Any, NO_BRIDGES),
    row("set_tcp_nodelay", Global, Switch, NotSupported("small packets are never held back (TCP_NODELAY)")).harmless("true"),
    row("socket_domain", Listener, Word, Honoured("listener.address")),
    row("start_type", Bridge, Any, NO_BRIDGES),
    row("sys_interval", Global, Number, Honoured("sys.interval")),
    row("threshold", Bridge, Any, NO_BRIDGES),
    row("tls_engine", Listener, Text, NO_ENGINES),
    row("tls_engine_kpass_sha1", Listener, Text, NO_ENGINES),
    row("tls_keyform", Listener, Word, NO_ENGINES).harmless("pem"),
    row("tls_version", Listener, Text, Honoured("listener.tls_version_min")).once(),
    row("topic", Bridge, Any, NO_BRIDGES),
    row("try_private", Bridge, Any, NO_BRIDGES),
    row("upgrade_outgoing_qos", Global, Switch, NotSupported("a message never gets a higher QoS than it was published with"))
        .harmless("false"),
    row("use_identity_as_username", Listener, Switch, Honoured("listener.client_identity")),
    row("use_subject_as_username", Listener, Switch, Honoured("listener.client_identity")),
    row(
        "use_username_as_clientid",
        Listener,
        Switch,
        Refused("the Client Identifier cannot be replaced by the user name; with certificates, see listener.client_id_bound"),
    )
    .harmless("false"),
    row("user", Global, Text, NotSupported("privileges are not given up; start the broker as that user")),
    row("username", Bridge, Any, NO_BRIDGES),
    row("websockets_headers_size", Global, Number, BUFFERS),
    row("websockets_log_level", Global, Number, NotSupported("what is logged is a matter of log.level")),
    row("websockets_origin", Listener, Text, Honoured("listener.websocket_origins")),
];

const fn row(name: &'static str, scope: Scope, form: Form, support: Support) -> Row {
    Row { name, scope, form, once: false, support, harmless: None }
}

impl Row {
    const fn once(self) -> Self {
        Self { once: true, ..self }
    }

    const fn harmless(self, value: &'static str) -> Self {
        Self { harmless: Some(value), ..self }
    }
}

/// The row of an option.
pub(super) fn find(name: &str) -> Option<&'static Row> {
    let family = ["auth_opt_", "plugin_opt_"].into_iter().find(|family| name.starts_with(family));
    match family {
        Some(family) => ROWS.iter().find(|row| row.name.strip_suffix('*') == Some(family)),
        None => ROWS.iter().find(|row| row.name == name && !row.name.ends_with('*')),
    }
}

/// What is wrong with a first word that is no option.
pub(super) fn unknown(name: &str) -> String {
    let shown = Outside::of(name);
    if name.starts_with('\u{feff}') {
        return "the file begins with a byte order mark; save it as UTF-8 without one".to_owned();
    }
    if name.starts_with('#') {
        return "a comment begins in the first column; remove the space before #".to_owned();
    }
    if let Some((before, _)) = name.split_once('\t')
        && find(before).is_some()
    {
        return format!("unknown option \"{shown}\"; write a space instead of the tab behind {before}");
    }
    match nearest(name, ROWS.iter().map(|row| row.name)) {
        Some(nearest) => format!("unknown option \"{shown}\"; did you mean {nearest}?"),
        None => format!("unknown option \"{shown}\"; mosquitto.conf has no option of this or a similar name"),
    }
}

#[cfg(test)]
mod tests {
    use super::{ROWS, Support, find, unknown};

    #[test]
    fn the_table_is_in_order_and_each_option_stands_in_it_once() {
        assert!(ROWS.is_sorted_by(|one, two| one.name < two.name));
        assert_eq!(find("plugin_opt_config_file").map(|row| row.name), Some("plugin_opt_*"));
        assert!(find("plugin_opt").is_none() && find("auth_opt_*").is_some());
    }

    #[test]
    fn each_key_that_the_table_names_exists() {
        for row in ROWS {
            let (Support::Honoured(keys) | Support::Changed(keys, _)) = row.support else { continue };
            for key in keys.split(" and ").filter(|key| key.contains('.') && !key.contains(' ')) {
                let (section, name) = key.split_once('.').expect("a key has a section");
                assert!(super::super::find_key(section, name).is_some(), "{}: {key}", row.name);
            }
        }
    }

    #[test]
    fn what_is_unknown_says_what_was_probably_meant() {
        for (name, part) in [
            ("alow_anonymous", "did you mean allow_anonymous?"),
            ("listener\t1883", "write a space instead of the tab behind listener"),
            ("#", "remove the space before #"),
            ("\u{feff}listener", "byte order mark"),
            ("foo", "no option of this or a similar name"),
        ] {
            assert!(unknown(name).contains(part), "{name}: {}", unknown(name));
        }
    }
}
