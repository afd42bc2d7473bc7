//! What a mosquitto.conf says of one listener, gathered line by line, and the `[[listener]]` that becomes of it.
//! Who may enter is always stated in the result, whether the file states it or mosquitto's default does.
//! Read `convert.rs` next, which writes the result as TOML.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::arithmetic_side_effects)]

use super::super::kind::Given;
use super::Outcome;
use super::lines::{Line, number};
use super::translate::{At, Placed, Setting, Translator, bounded};
use crate::notice::Outside;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// What was said of one listener.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    place: String,
    pub(super) port: u16,
    pub(super) host: Option<String>,
    /// A path in place of an address.
    is_unix: bool,
    pub(super) family: Option<Family>,
    settings: BTreeMap<&'static str, (Given, String)>,
    pub(super) origins: Vec<Placed<String>>,
    pub(super) who: Who,
    /// Wins over what `who` says.
    pub(super) allow_anonymous: Option<Placed<bool>>,
    pub(super) tls: Tls,
    pub(super) maximum_qos: Option<Placed<i64>>,
    pub(super) topic_aliases: Option<Placed<i64>>,
    pub(super) topic_aliases_outbound: Option<Placed<i64>>,
    pub(super) is_left_out: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

/// What says who may enter.
#[derive(Debug, Default)]
pub(super) struct Who {
    pub(super) allow_anonymous: Option<Placed<bool>>,
    pub(super) password_file: Option<Placed<String>>,
    pub(super) acl_file: Option<Placed<String>>,
    pub(super) id_prefix: Option<Placed<String>>,
}

/// Certificates, and what is taken from those of Clients.
#[derive(Debug, Default)]
pub(super) struct Tls {
    cafile: Option<Placed<String>>,
    capath: Option<Placed<String>>,
    certfile: Option<Placed<String>>,
    keyfile: Option<Placed<String>>,
    crlfile: Option<Placed<String>>,
    version: Option<Placed<&'static str>>,
    require_certificate: Option<Placed<bool>>,
    use_identity: Option<Placed<bool>>,
    use_subject: Option<Placed<bool>>,
}

impl Gathered {
    /// `listener PORT [HOST or PATH]`
    pub(super) fn read(line: &Line<'_>, place: &str) -> Result<Self, String> {
        let mut words = line.words().map(str::trim).filter(|word| !word.is_empty());
        let written = words.next().ok_or("has no port")?;
        let port = u16::try_from(number(written)?)
            .map_err(|_| format!("is \"{}\"; allowed: 0 to 65535", Outside::of(written)))?;
        let host = words.next().filter(|host| !host.starts_with('#'));
        if port == 0 && host.is_none() {
            return Err("0 needs the path of a Unix socket behind it".to_owned());
        }
        Ok(Self { host: host.map(str::to_owned), is_unix: port == 0, ..Self::at_port(port, place) })
    }

    pub(super) fn at_port(port: u16, place: &str) -> Self {
        Self { place: place.to_owned(), port, ..Self::default() }
    }

    /// What there is without any: this machine reaches it and nobody else.
    pub(super) fn of_this_machine(place: &str) -> Self {
        Self { host: Some("localhost".to_owned()), ..Self::at_port(1883, place) }
    }

    pub(super) fn set(&mut self, key: &'static str, value: Given, place: &str) {
        self.settings.insert(key, (value, place.to_owned()));
    }

    fn address(&self) -> String {
        let port = self.port;
        match (&self.host, self.family) {
            (Some(path), _) if self.is_unix => format!("unix:{path}"),
            (Some(host), _) => match host.parse::<IpAddr>() {
                Ok(IpAddr::V6(_)) => format!("[{host}]:{port}"),
                _ => format!("{host}:{port}"),
            },
            (None, None) => format!("*:{port}"),
            (None, Some(Family::V4)) => format!("0.0.0.0:{port}"),
            (None, Some(Family::V6)) => format!("[::]:{port}"),
        }
    }
}

impl Tls {
    pub(super) fn switch(&mut self, at: &At<'_>, on: bool) {
        let field = match at.row.name {
            "require_certificate" => &mut self.require_certificate,
            "use_identity_as_username" => &mut self.use_identity,
            "use_subject_as_username" => &mut self.use_subject,
            _ => return,
        };
        *field = Some(at.placed(on));
    }

    pub(super) fn text(&mut self, at: &At<'_>, text: &str) -> Result<Option<Outcome>, String> {
        let field = match at.row.name {
            "cafile" => &mut self.cafile,
            "capath" => &mut self.capath,
            "certfile" => &mut self.certfile,
            "keyfile" => &mut self.keyfile,
            "crlfile" => &mut self.crlfile,
            "tls_version" => return self.oldest_version(at, text),
            "ciphers" => return Ok(Some(judge(text, CIPHERS_1_2))),
            "ciphers_tls1.3" => return Ok(Some(judge(text, CIPHERS_1_3))),
            _ => return Ok(None),
        };
        *field = Some(at.placed(text.to_owned()));
        Ok(None)
    }

    fn oldest_version(&mut self, at: &At<'_>, text: &str) -> Result<Option<Outcome>, String> {
        let (version, outcome) = match text {
            "tlsv1.3" => ("1.3", None),
            "tlsv1.2" => ("1.2", None),
            "tlsv1.1" | "tlsv1" => (
                "1.2",
                Some(Outcome::Changed("listener.tls_version_min is \"1.2\"; older ones are not safe".to_owned())),
            ),
            _ => return Err(format!("is \"{}\"; allowed: tlsv1.3, tlsv1.2 and tlsv1.1", Outside::of(text))),
        };
        self.version = Some(at.placed(version));
        Ok(outcome)
    }

    fn is_on(field: Option<&Placed<bool>>) -> bool {
        field.is_some_and(|field| field.value)
    }

    /// What of a certificate is the user name; of two, mosquitto takes the first.
    fn identity(&self) -> Option<(&'static str, &Placed<bool>)> {
        let fields = [("common_name", &self.use_identity), ("subject", &self.use_subject)];
        fields.into_iter().find_map(|(word, field)| Some((word, field.as_ref().filter(|field| field.value)?)))
    }
}

/// What rustls offers with TLS 1.2, as OpenSSL names it.
const CIPHERS_1_2: &[&str] = &[
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-RSA-CHACHA20-POLY1305",
];

const CIPHERS_1_3: &[&str] = &["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"];

/// Words of a cipher list that include all of ours, and that exclude none of them.
const INCLUDING: &[&str] = &["ALL", "DEFAULT", "HIGH", "ECDHE", "EECDH", "kECDHE", "kEECDH"];
const EXCLUDING_OTHERS: &[&str] = &[
    "3DES", "ADH", "AECDH", "CAMELLIA", "DES", "DH", "DHE", "DSS", "EDH", "EXP", "EXPORT", "EXPORT40", "EXPORT56",
    "IDEA", "LOW", "MD5", "MEDIUM", "NULL", "PSK", "RC2", "RC4", "SEED", "SHA1", "SRP", "SSLv2", "SSLv3", "aDSS",
    "aECDH", "aNULL", "eNULL", "kDH", "kDHE", "kEDH", "kPSK", "kRSA",
];

/// A list is kept when all that could be offered lies within it; what lies within it besides is not missed.
fn judge(list: &str, ours: &[&str]) -> Outcome {
    let words = || list.split([':', ',', ' ']).filter(|word| !word.is_empty());
    let is_excluding = |word: &&str| word.starts_with(['!', '-']);
    let excludes_one =
        words().filter(is_excluding).any(|word| !EXCLUDING_OTHERS.contains(&word.trim_start_matches(['!', '-'])));
    let includes_all = words().any(|word| INCLUDING.contains(&word));
    let missing = ours.iter().find(|cipher| !includes_all && !words().any(|word| word == **cipher));
    match missing {
        None if !excludes_one => Outcome::Honoured("what TLS offers lies within this list".to_owned()),
        _ => {
            let example = missing.copied().map_or_else(String::new, |cipher| format!(" such as {cipher}"));
            Outcome::Refused(format!(
                "what TLS offers cannot be chosen; it is ECDHE with AES-GCM or ChaCha20-Poly1305, of which this list leaves out \
                 some{example}. Remove the line if you agree"
            ))
        }
    }
}

impl Translator {
    /// Options that mosquitto has for each listener and Waypost for all together.
    pub(super) fn of_any_listener(&mut self, global: &mut BTreeMap<(&'static str, &'static str), (Given, String)>) {
        type Field = fn(&Gathered) -> Option<&Placed<i64>>;
        let fields: [(&'static str, &'static str, i64, Field); 3] = [
            ("mqtt", "maximum_qos", 2, |listener| listener.maximum_qos.as_ref()),
            ("limits", "topic_alias_maximum", 10, |listener| listener.topic_aliases.as_ref()),
            ("limits", "topic_alias_outbound_max", 10, |listener| listener.topic_aliases_outbound.as_ref()),
        ];
        let mut outcomes = Vec::new();
        for (section, key, default, field) in fields {
            let stated: Vec<&Placed<i64>> = self.listeners.iter().filter_map(field).collect();
            let values = self.listeners.iter().map(|listener| field(listener).map_or(default, |stated| stated.value));
            let (Some(first), Some(most), Some(least)) = (stated.first(), values.clone().max(), values.min()) else {
                continue;
            };
            let (value, _) = bounded(section, key, most, -1);
            global.insert((section, key), (value, first.place.clone()));
            if most != least {
                let how = format!("there is one {section}.{key} for all listeners: {most}");
                outcomes.extend(stated.iter().map(|stated| (stated.finding, Outcome::Changed(how.clone()))));
            }
        }
        let prefixes =
            self.listeners.iter().filter_map(|listener| listener.who.id_prefix.as_ref()).chain(&self.who.id_prefix);
        let prefixes: Vec<&Placed<String>> = prefixes.collect();
        if let Some(first) = prefixes.first() {
            let value = Given::Text(first.value.clone());
            global.insert(("mqtt", "assigned_client_id_prefix"), (value, first.place.clone()));
            if prefixes.iter().any(|prefix| prefix.value != first.value) {
                let how = "there is one mqtt.assigned_client_id_prefix for all listeners: the first one";
                outcomes.extend(prefixes.iter().map(|prefix| (prefix.finding, Outcome::Changed(how.to_owned()))));
            }
        }
        for (finding, outcome) in outcomes {
            self.conclude(finding, Some(outcome));
        }
    }

    /// Makes a table of each listener, and the sections that they share.
    pub(super) fn finish_listeners(&mut self, default: &str) {
        let listeners = std::mem::take(&mut self.listeners);
        let whose = listeners.iter().map(|listener| &listener.who).chain([&self.who]);
        if whose.filter_map(|who| who.acl_file.as_ref()).next().is_some() {
            self.add("acl", None, "subscribe", Given::Text("lenient".to_owned()), default);
        }
        for (index, listener) in listeners.into_iter().enumerate() {
            self.out.listeners.push(listener.place.clone());
            self.finish_listener(index, listener);
        }
        // With `per_listener_settings` there are none for all, and a listener without a file has none.
        if let Some(file) = self.who.password_file.take() {
            self.add("password", None, "file", Given::Text(file.value), &file.place);
        }
        if let Some(file) = self.who.acl_file.take() {
            self.add("acl", None, "files", words(&[&file.value]), &file.place);
        }
    }

    fn finish_listener(&mut self, index: usize, listener: Gathered) {
        let at = Some(index);
        let place = listener.place.clone();
        self.add("listener", at, "address", Given::Text(listener.address()), &place);
        if self.is_per_listener {
            self.add_own_files(index, &listener);
        }
        for (key, (value, place)) in listener.settings {
            self.add("listener", at, key, value, &place);
        }
        if let Some(first) = listener.origins.first() {
            let origins = listener.origins.iter().map(|origin| Given::Text(origin.value.clone())).collect();
            self.add("listener", at, "websocket_origins", Given::List(origins), &first.place);
        }
        let who = if self.is_per_listener { &listener.who } else { &self.who };
        let stated = listener.allow_anonymous.as_ref().or(who.allow_anonymous.as_ref());
        let (anonymous, anonymous_place) = match stated {
            Some(stated) => (stated.value, stated.place.clone()),
            None => (self.is_local_only, place.clone()),
        };
        let password = who.password_file.clone();
        let identity = listener.tls.identity().filter(|_| Tls::is_on(listener.tls.require_certificate.as_ref()));
        if let Some((_, field)) = identity {
            // The certificate says who it is, and mosquitto asks for nothing else.
            self.add("listener", at, "authentication", words(&["certificate"]), &field.place);
            self.add("listener", at, "allow_anonymous", Given::Switch(false), &field.place);
        } else {
            if let Some(file) = &password {
                self.add("listener", at, "authentication", words(&["password"]), &file.place);
            }
            self.add("listener", at, "allow_anonymous", Given::Switch(anonymous), &anonymous_place);
        }
        self.finish_tls(index, listener.tls);
    }

    fn add_own_files(&mut self, index: usize, listener: &Gathered) {
        let at = Some(index);
        let Who { password_file, acl_file, .. } = &listener.who;
        if let Some(file) = password_file {
            self.add("listener", at, "password_file", Given::Text(file.value.clone()), &file.place);
            let how = "listener.password_file and listener.authentication";
            self.conclude(file.finding, Some(Outcome::Honoured(how.to_owned())));
        }
        if let Some(file) = acl_file {
            self.add("listener", at, "acl_files", words(&[&file.value]), &file.place);
            self.conclude(file.finding, Some(Outcome::Honoured("listener.acl_files".to_owned())));
        }
        // Files are found by the name, and several interfaces can have the same address.
        if (password_file.is_some() || acl_file.is_some())
            && let Some((Given::Text(interface), place)) = listener.settings.get("interface")
        {
            let name = format!("{} at {interface}", listener.address());
            self.add("listener", at, "name", Given::Text(name), place);
        }
    }

    fn finish_tls(&mut self, index: usize, tls: Tls) {
        let at = Some(index);
        let asks = Tls::is_on(tls.require_certificate.as_ref());
        let identity = tls.identity().map(|(word, field)| (word, field.place.clone()));
        match (&tls.certfile, &tls.keyfile) {
            (Some(certificate), Some(key)) => {
                self.add("listener", at, "tls_certificate", words(&[&certificate.value]), &certificate.place);
                self.add("listener", at, "tls_key", words(&[&key.value]), &key.place);
            }
            (Some(certificate), None) => self.fault(&certificate.place, "certfile needs keyfile beside it".to_owned()),
            (None, Some(key)) => self.fault(&key.place, "keyfile needs certfile beside it".to_owned()),
            (None, None) => {
                let options = [("cafile", &tls.cafile), ("capath", &tls.capath)];
                for (option, field) in options.into_iter().filter_map(|(option, field)| Some((option, field.as_ref()?)))
                {
                    self.fault(&field.place, format!("{option} needs certfile and keyfile beside it"));
                }
            }
        }
        if let Some(version) = &tls.version {
            self.add("listener", at, "tls_version_min", Given::Text(version.value.to_owned()), &version.place);
        }
        let idle = "no effect without require_certificate, as in mosquitto";
        for field in [&tls.cafile, &tls.capath, &tls.crlfile].into_iter().flatten().filter(|_| !asks) {
            self.conclude(field.finding, Some(Outcome::Honoured(idle.to_owned())));
        }
        let Some(required) = tls.require_certificate.filter(|required| required.value) else {
            if let Some((_, place)) = identity {
                let message = "needs require_certificate true beside it; without it mosquitto lets nobody in";
                self.fault(&place, format!("the user name of a certificate {message}"));
            }
            return;
        };
        self.add("listener", at, "client_auth", Given::Text("required".to_owned()), &required.place);
        if let Some(file) = tls.cafile {
            self.add("listener", at, "client_ca", Given::Text(file.value), &file.place);
        }
        if let Some(folder) = tls.capath {
            self.add("listener", at, "client_ca_folder", Given::Text(folder.value), &folder.place);
        }
        if let Some(list) = tls.crlfile {
            self.add("listener", at, "client_crl", words(&[&list.value]), &list.place);
        }
        if let Some((word, place)) = identity {
            self.add("listener", at, "client_identity", Given::Text(word.to_owned()), &place);
        }
    }

    fn add(&mut self, section: &'static str, index: Option<usize>, key: &'static str, value: Given, place: &str) {
        self.out.settings.push(Setting { section, index, key, value, place: place.to_owned() });
    }
}

fn words(words: &[&str]) -> Given {
    Given::List(words.iter().map(|word| Given::Text((*word).to_owned())).collect())
}

#[cfg(test)]
mod tests {
    use super::{CIPHERS_1_2, CIPHERS_1_3, judge};
    use crate::config::mosquitto::Outcome;

    #[test]
    fn a_cipher_list_is_kept_when_all_that_is_offered_lies_within_it() {
        for list in
            ["HIGH", "DEFAULT:!aNULL:!MD5", "ECDHE:!RC4,!3DES", &CIPHERS_1_2.join(":"), "HIGH:ECDHE-RSA-AES128-SHA"]
        {
            assert!(matches!(judge(list, CIPHERS_1_2), Outcome::Honoured(_)), "{list}");
        }
        assert!(matches!(judge(&CIPHERS_1_3.join(":"), CIPHERS_1_3), Outcome::Honoured(_)));
        for list in [
            "AES256-SHA",
            "ECDHE-RSA-AES256-GCM-SHA384",
            "HIGH:!AESGCM",
            "HIGH:!ECDSA",
            "DEFAULT:@SECLEVEL=2:-ECDHE",
            "",
        ] {
            assert!(matches!(judge(list, CIPHERS_1_2), Outcome::Refused(_)), "{list}");
        }
    }
}
