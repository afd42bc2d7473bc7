//! What keys demand of one another: required keys, listeners that can stand side by side, who may enter.
//! It looks at the merged layers only, and judges nothing that a kind has refused already.
//! Read `mod.rs` next, which makes the `Config` once all rules hold.

use super::Config;
use super::Durability;
use super::address::{Address, AddressOrOff};
use super::errors::ConfigErrors;
use super::keys::{ClientAuth, Fallback, Listener, Method, Protocol, SECTIONS};
use super::layers::{DEFAULT, Layers, PREFIX};
use super::units::ShownSize;
use super::unknown::header;
use crate::codec::{TopicLimits, check_filter};
use crate::notice::Outside;
use config::{Map, Value, ValueKind};

/// Adds to `layers.errors` what is wrong with the whole.
pub(super) fn check(merged: &Map<String, Value>, layers: &mut Layers) {
    let mut errors = std::mem::take(&mut layers.errors);
    required_keys(merged, layers, &mut errors);
    listeners(&tables(merged, "listener"), layers, &mut errors);
    namesakes(&tables(merged, "listener"), &mut errors);
    methods(merged, layers, &mut errors);
    jwt_keys(merged, layers, &mut errors);
    shared_groups(&tables(merged, "shared_group"), &mut errors);
    store_rules(merged, &mut errors);
    admin(merged, layers, &mut errors);
    layers.errors = errors;
}

fn required_keys(merged: &Map<String, Value>, layers: &Layers, errors: &mut ConfigErrors) {
    for section in SECTIONS.iter().filter(|section| section.list_max.is_some()) {
        let places = layers.lists.get(section.name).map_or(&[][..], Vec::as_slice);
        for (index, place) in places.iter().enumerate() {
            let table = tables(merged, section.name).get(index).copied();
            for key in section.keys {
                let Fallback::Required { example } = key.fallback else { continue };
                let is_set = table.is_some_and(|table| table.contains_key(key.name));
                if !is_set && !layers.refused.contains(&format!("{}[{index}].{}", section.name, key.name)) {
                    let header = header(section);
                    errors.push(
                        place,
                        format!("this {header} has no {name}; write for example {name} = {example}", name = key.name),
                    );
                }
            }
        }
    }
}

fn listeners(tables: &[&Map<String, Value>], layers: &Layers, errors: &mut ConfigErrors) {
    let mut earlier: Vec<(Address, Option<&Value>, &str)> = Vec::new();
    for (index, listener) in tables.iter().enumerate() {
        let Some((address, place)) = address(listener) else { continue };
        let interface = listener.get("interface");
        let is_stated = ["allow_anonymous", "authentication"]
            .iter()
            .any(|key| listener.contains_key(*key) || layers.refused.contains(&format!("listener[{index}].{key}")));
        if !address.is_loopback() && !is_stated {
            errors.push(place, decision_missing(&address, index, place));
        }
        let collision = earlier.iter().find(|(other, other_interface, _)| {
            address.collides(other) && interface.map(|value| &value.kind) == other_interface.map(|value| &value.kind)
        });
        if let Some((other, _, other_place)) = collision {
            let message = format!(
                "listener {address} takes the same address as listener {other} at {other_place}; give each its own"
            );
            errors.push(place, message);
        }
        earlier.push((address, interface, place));
        security(listener, index, layers, errors);
    }
}

/// Rights are found by the name of the listener, so those who share one share the files.
fn namesakes(tables: &[&Map<String, Value>], errors: &mut ConfigErrors) {
    let name = |listener: &Map<String, Value>| {
        let called = listener.get("name").map(ToString::to_string);
        called.or_else(|| Some(address(listener)?.0.to_string()))
    };
    for (index, listener) in tables.iter().enumerate() {
        let Some(called) = name(listener) else { continue };
        let earlier = &tables[..index];
        for key in ["password_file", "acl_files"] {
            let file = |table: &Map<String, Value>| table.get(key).map(ToString::to_string);
            let other = earlier.iter().find(|other| name(other).as_ref() == Some(&called));
            let Some(other) = other.filter(|other| file(other) != file(listener)) else { continue };
            let place = |table: &Map<String, Value>| {
                let said = table.get(key).and_then(place_of).or_else(|| table.get("address")?.origin());
                said.unwrap_or(DEFAULT).to_owned()
            };
            let message = format!(
                "two listeners are called \"{}\" and have different {key}, the other at {}; give each a name of its own",
                Outside::of(&called),
                place(other)
            );
            errors.push(place(listener), message);
        }
    }
}

/// Where a value stands; of a list, where its first item does.
fn place_of(value: &Value) -> Option<&str> {
    let first = || match &value.kind {
        ValueKind::Array(items) => items.first()?.origin(),
        _ => None,
    };
    value.origin().or_else(first)
}

/// What TLS, certificates of Clients and the PROXY protocol demand of one another. Each sentence stands at the key that asks
/// for something, or at the listener's address.
fn security(listener: &Map<String, Value>, index: usize, layers: &Layers, errors: &mut ConfigErrors) {
    // What was refused already is neither set nor missing.
    let unknown = |key: &str| layers.refused.contains(&format!("listener[{index}].{key}"));
    let length = |key: &str| match listener.get(key).map(|value| &value.kind) {
        Some(ValueKind::Array(items)) => items.len(),
        _ => 0,
    };
    let text = |key: &str| match listener.get(key).map(|value| &value.kind) {
        Some(ValueKind::String(text)) => text.as_str(),
        _ => "",
    };
    let is_on = |key: &str| matches!(listener.get(key).map(|value| &value.kind), Some(ValueKind::Boolean(true)));
    let mut complain = |key: &str, others: &[&str], message: String| {
        if !others.iter().copied().chain([key]).any(unknown) {
            errors.push(listener.get(key).and_then(|value| value.origin()).unwrap_or(DEFAULT), message);
        }
    };
    let (certificates, keys) = (length("tls_certificate"), length("tls_key"));
    if certificates != keys {
        let key = if certificates > keys { "tls_certificate" } else { "tls_key" };
        let message = format!(
            "listener.tls_certificate lists {certificates} and listener.tls_key lists {keys}; each certificate needs its key, in the same order"
        );
        complain(key, &["tls_certificate", "tls_key"], message);
    }
    let (auth, identity) = (text("client_auth"), text("client_identity"));
    if auth != "none" && certificates == 0 {
        let message = format!(
            "listener.client_auth is \"{auth}\", but without TLS nobody can show a certificate; set tls_certificate and tls_key"
        );
        complain("client_auth", &["tls_certificate"], message);
    }
    if auth != "none" && !listener.contains_key("client_ca") && !listener.contains_key("client_ca_folder") {
        let message = format!(
            "listener.client_auth is \"{auth}\", but nothing says who may issue certificates; write for example client_ca = \"certs/ca.pem\""
        );
        complain("client_auth", &["client_ca", "client_ca_folder"], message);
    }
    if length("client_crl") > 0 && auth == "none" {
        let message = "listener.client_crl is set, but no certificate is asked for; set client_auth".to_owned();
        complain("client_crl", &["client_auth"], message);
    }
    // A proxy may have asked for it.
    if identity != "none" && auth == "none" && !is_on("proxy_protocol") {
        let message = format!(
            "listener.client_identity is \"{identity}\", but no certificate is asked for; write client_auth = \"required\""
        );
        complain("client_identity", &["client_auth"], message);
    }
    let takes_certificates = match listener.get("authentication").map(|value| &value.kind) {
        Some(ValueKind::Array(methods)) => methods.iter().any(|method| method.to_string() == "certificate"),
        _ => false,
    };
    if takes_certificates && identity == "none" {
        let message = "listener.authentication lists \"certificate\", but nothing says what of it is the user name; \
                       write for example client_identity = \"common_name\"";
        complain("authentication", &["client_identity"], message.to_owned());
    }
    if is_on("client_id_bound") && identity == "none" {
        let message = "listener.client_id_bound is true, but nothing says what of the certificate the Client Identifier must be; \
                       write for example client_identity = \"common_name\"";
        complain("client_id_bound", &["client_identity"], message.to_owned());
    }
    if is_on("proxy_protocol") && length("proxy_trusted") == 0 && !text("address").starts_with("unix:") {
        let message = "listener.proxy_protocol is true, but nothing says which proxies are believed; \
                       write for example proxy_trusted = [\"10.0.0.0/8\"]";
        complain("proxy_protocol", &["proxy_trusted"], message.to_owned());
    }
}

fn address(listener: &Map<String, Value>) -> Option<(Address, &str)> {
    let value = listener.get("address")?;
    match &value.kind {
        ValueKind::String(text) => Some((text.parse().ok()?, value.origin().unwrap_or(DEFAULT))),
        _ => None,
    }
}

fn decision_missing(address: &Address, index: usize, place: &str) -> String {
    let (ways, anyone) = if place.starts_with(PREFIX) {
        let name = format!("{PREFIX}LISTENER__{index}__");
        (format!("set {name}AUTHENTICATION=password"), format!("{name}ALLOW_ANONYMOUS=true"))
    } else {
        let line = "write the line authentication = [\"password\"] in this [[listener]]";
        (line.to_owned(), "allow_anonymous = true".to_owned())
    };
    format!(
        "other machines can reach listener {address}, but nothing says who may enter; \
         {ways} to ask for passwords, or {anyone} to let everybody in, or listen on 127.0.0.1:{} for this machine only",
        address.port()
    )
}

/// A way to find out who somebody is needs what it judges by.
fn methods(merged: &Map<String, Value>, layers: &Layers, errors: &mut ConfigErrors) {
    let is_set = |section: &str, key: &str| {
        table(merged, section).is_some_and(|table| table.contains_key(key))
            || layers.refused.contains(&format!("{section}.{key}"))
    };
    for listener in tables(merged, "listener") {
        let Some(value) = listener.get("authentication") else { continue };
        let ValueKind::Array(items) = &value.kind else { continue };
        let place = place_of(value).unwrap_or(DEFAULT);
        for method in items.iter().map(ToString::to_string) {
            let missing = match method.as_str() {
                "password" | "scram" if !listener.contains_key("password_file") && !is_set("password", "file") => {
                    "[password] has no file; write for example file = \"/etc/waypost/passwd\" there"
                }
                "jwt" if !["key_file", "jwks_file", "jwks_url"].iter().any(|key| is_set("jwt", key)) => {
                    "[jwt] has no key_file, no jwks_file and no jwks_url; one of them must say where the key is"
                }
                "http" if !is_set("http_login", "url") => {
                    "[http_login] has no url; write for example url = \"https://login.example.org/mqtt\" there"
                }
                _ => continue,
            };
            errors.push(place, format!("listener.authentication has \"{method}\", but {missing}"));
        }
    }
}

/// A bare key has one algorithm, and it is not for the token to choose.
fn jwt_keys(merged: &Map<String, Value>, layers: &Layers, errors: &mut ConfigErrors) {
    let Some(jwt) = table(merged, "jwt") else { return };
    let Some(key_file) = jwt.get("key_file") else { return };
    let place = key_file.origin().unwrap_or(DEFAULT);
    if !jwt.contains_key("algorithm") && !layers.refused.contains("jwt.algorithm") {
        errors.push(
            place,
            "jwt.key_file needs jwt.algorithm beside it; write for example algorithm = \"ES256\"".to_owned(),
        );
    }
}

/// There is no login: only this machine may reach it, unless somebody has decided otherwise.
fn admin(merged: &Map<String, Value>, layers: &Layers, errors: &mut ConfigErrors) {
    let Some(table) = table(merged, "admin") else { return };
    let Some(value) = table.get("address") else { return };
    let ValueKind::String(text) = &value.kind else { return };
    let Ok(AddressOrOff::At(own)) = text.parse() else { return };
    let place = value.origin().unwrap_or(DEFAULT);
    let may_be_remote = matches!(table.get("allow_remote").map(|value| &value.kind), Some(ValueKind::Boolean(true)))
        || layers.refused.contains("admin.allow_remote");
    if matches!(own, Address::Unix(_)) {
        let message = "admin.address cannot be a unix: socket; write for example \"127.0.0.1:18083\", or \"off\"";
        errors.push(place, message.to_owned());
    } else if !own.is_loopback() && !may_be_remote {
        let line = if place.starts_with(PREFIX) {
            format!("set {PREFIX}ADMIN__ALLOW_REMOTE=true")
        } else {
            "write the line allow_remote = true in [admin]".to_owned()
        };
        errors.push(
            place,
            format!(
                "other machines can reach admin.address {own}, and there is no login for it; {line} if a firewall or a \
                 proxy stands before it, or let it be 127.0.0.1:{} for this machine only",
                own.port()
            ),
        );
    }
    for (listener, other_place) in tables(merged, "listener").into_iter().filter_map(address) {
        if own.collides(&listener) {
            let message = format!(
                "admin.address {own} takes the same address as listener {listener} at {other_place}; give each its own"
            );
            errors.push(place, message);
        }
    }
}

fn table<'a>(merged: &'a Map<String, Value>, name: &str) -> Option<&'a Map<String, Value>> {
    match merged.get(name).map(|value| &value.kind) {
        Some(ValueKind::Table(table)) => Some(table),
        _ => None,
    }
}

fn store_rules(merged: &Map<String, Value>, errors: &mut ConfigErrors) {
    let tables = tables(merged, "store_rule");
    let filters = tables.iter().filter_map(|table| table.get("filter"));
    let is_off = table(merged, "store").and_then(|store| store.get("durability")).is_some_and(
        |durability| matches!(&durability.kind, ValueKind::String(word) if word == Durability::Memory.word()),
    );
    for (at, filter) in filters.clone().enumerate() {
        let place = filter.origin().unwrap_or(DEFAULT);
        let text = filter.to_string();
        let shown = Outside::of(&text);
        if is_off {
            errors.push(
                place,
                "a [[store_rule]] needs a store, and store.durability is \"memory\"; write \"disk\" there, and a last rule with \
                 filter = \"#\" and durability = \"memory\"",
            );
        }
        if check_filter(&text, TopicLimits::NONE).map_or(true, |parsed| parsed.share.is_some()) {
            errors.push(
                place,
                format!("store_rule.filter \"{shown}\" is no Topic Filter; write for example \"telemetry/#\""),
            );
        }
        if let Some(first) = filters.clone().take(at).find(|other| other.kind == filter.kind) {
            let first = first.origin().unwrap_or(DEFAULT);
            errors.push(
                place,
                format!("store_rule.filter \"{shown}\" is there twice; the first one, at {first}, decides"),
            );
        }
    }
}

fn shared_groups(tables: &[&Map<String, Value>], errors: &mut ConfigErrors) {
    let mut earlier: Vec<&Value> = Vec::new();
    for name in tables.iter().filter_map(|table| table.get("name")) {
        match earlier.iter().find(|other| other.kind == name.kind) {
            Some(other) => {
                let (place, other_place) = (name.origin().unwrap_or(DEFAULT), other.origin().unwrap_or(DEFAULT));
                let name = name.to_string();
                let shown = Outside::of(&name);
                errors.push(
                    place,
                    format!("shared_group.name \"{shown}\" is there twice; the first one is at {other_place}"),
                );
            }
            None => earlier.push(name),
        }
    }
}

fn tables<'a>(merged: &'a Map<String, Value>, name: &str) -> Vec<&'a Map<String, Value>> {
    let Some(ValueKind::Array(items)) = merged.get(name).map(|value| &value.kind) else { return Vec::new() };
    let table = |item: &'a Value| match &item.kind {
        ValueKind::Table(table) => Some(table),
        _ => None,
    };
    items.iter().filter_map(table).collect()
}

/// What is allowed and yet probably not meant, one sentence each.
pub(super) fn notes(config: &Config) -> Vec<String> {
    let limits = &config.limits;
    let packet = limits.packet_size_max;
    let mut notes: Vec<String> =
        config.findings.iter().filter(|finding| finding.differs()).map(ToString::to_string).collect();
    notes.extend(config.listeners.iter().flat_map(notes_on));
    for listener in &config.listeners {
        if !listener.lets_anyone_in() && listener.methods().is_empty() {
            notes.push(format!(
                "nobody can enter by listener {}: it has no authentication, and allow_anonymous is false",
                listener.address
            ));
        }
    }
    for (key, url, what) in [
        ("http_login.url", &config.http_login.url, "passwords are on it as they are"),
        ("jwt.jwks_url", &config.jwt.jwks_url, "whoever is on it can make keys"),
    ] {
        if url.as_deref().is_some_and(leaves_this_machine_openly) {
            notes.push(format!("{key} is http, and the way to it leaves this machine: {what}; use https"));
        }
    }
    for (key, size) in [
        ("limits.queue_size_max", limits.queue_size_max),
        ("limits.queue_qos0_size_max", limits.queue_qos0_size_max),
        ("limits.retained_size_max", limits.retained_size_max),
        ("node.memory_budget", config.node.memory_budget),
    ] {
        if size < packet {
            notes.push(format!(
                "{key} is {}, less than one packet of limits.packet_size_max, {}: the largest messages will not fit",
                ShownSize(size),
                ShownSize(packet)
            ));
        }
    }
    notes
}

/// Whether a URL is http and not of this machine.
fn leaves_this_machine_openly(url: &str) -> bool {
    let Some(rest) = url.strip_prefix("http://") else { return false };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let with_port =
        if authority.ends_with(']') || !authority.contains(':') { &format!("{authority}:80") } else { authority };
    !with_port.parse::<Address>().is_ok_and(|address| address.is_loopback())
}

/// Keys of a listener that have no effect there.
fn notes_on(listener: &Listener) -> Vec<String> {
    let is_unix = matches!(listener.address, Address::Unix(_));
    let is_websocket = listener.protocol == Protocol::WebSocket;
    [
        (
            listener.client_ca.is_some() && listener.client_auth == ClientAuth::None,
            "client_ca",
            "client_auth is \"none\"",
        ),
        (
            listener.password_file.is_some()
                && !listener.methods().iter().any(|method| matches!(method, Method::Password | Method::Scram)),
            "password_file",
            "authentication lists neither \"password\" nor \"scram\"",
        ),
        (
            listener.client_ca_folder.is_some() && listener.client_auth == ClientAuth::None,
            "client_ca_folder",
            "client_auth is \"none\"",
        ),
        (!is_websocket && listener.websocket_path.is_some(), "websocket_path", "protocol is \"mqtt\""),
        (!is_unix && listener.unix_owner.is_some(), "unix_owner", "it is no unix: socket"),
        (!is_unix && listener.unix_group.is_some(), "unix_group", "it is no unix: socket"),
        (is_unix && listener.interface.is_some(), "interface", "it is a unix: socket"),
    ]
    .into_iter()
    .filter(|(is_idle, _, _)| *is_idle)
    .map(|(_, key, why)| format!("listener {}: {key} has no effect, because {why}", listener.address))
    .collect()
}
