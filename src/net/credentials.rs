//! The certificates and keys of a listener: read from their files, and read again when these change.
//!
//! New files come into force as a whole or not at all: a file that is broken, does not fit its key or has expired leaves the
//! former ones in force, and the log says which and why. Connections that stand are not touched, except those of Clients whose
//! certificate would not be accepted any more; `thread.rs` looks for them. `watch.rs` looks at the files.

use crate::files::{self, Unread};
use crate::notice::Outside;
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::client::verify_server_name;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert, VerifierBuilderError, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig};
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use thiserror::Error;
use x509_cert::der::Decode;

/// Where the certificates of a listener come from, and what they are for.
#[derive(Clone, Debug)]
pub struct TlsSettings {
    /// Each certificate with its private key; the first is for Clients that ask for no name or for one that none is for.
    pub certificates: Vec<(PathBuf, PathBuf)>,
    /// Whether TLS 1.2 is spoken, too.
    pub is_1_2_allowed: bool,
    pub client_auth: ClientAuth,
    /// Whether a private key that everybody on this machine may read or replace is refused; otherwise the log says so.
    pub refuses_exposed_keys: bool,
    /// What is offered as the protocol inside TLS (ALPN). A Client that names none may do so.
    pub protocols: Vec<Vec<u8>>,
}

/// Whether Clients show certificates, and which are accepted.
#[derive(Clone, Debug)]
pub enum ClientAuth {
    None,
    Optional(Issuers),
    Required(Issuers),
}

/// Who may issue certificates for Clients, and which of these are revoked.
#[derive(Clone, Debug)]
pub struct Issuers {
    pub certificates: Option<PathBuf>,
    /// As `openssl rehash` keeps it; files with other names are not looked at.
    pub folder: Option<PathBuf>,
    /// Without any, nothing is revoked.
    pub revoked: Vec<PathBuf>,
}

/// Why certificates cannot be used. What was in force before stays.
#[derive(Debug, Error)]
#[error("{}: {why}", file.display())]
pub struct CredentialsError {
    pub file: PathBuf,
    pub why: String,
}

/// When a certificate ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expiry {
    pub file: PathBuf,
    /// Seconds since 1970.
    pub not_after_s: u64,
}

/// How long before its end a certificate is spoken of.
const WARN_BEFORE: Duration = Duration::from_secs(30 * 24 * 3600);

/// The credentials of one listener.
pub struct Credentials {
    settings: TlsSettings,
    loaded: ArcSwap<Loaded>,
    /// How the files looked when they were last read.
    stamps: Mutex<Vec<Option<Stamp>>>,
}

/// Enough of a file to see that it has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    size: u64,
    inode: u64,
}

/// What the files said when they were read.
pub(super) struct Loaded {
    server: Arc<ServerConfig>,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    expiries: Vec<Expiry>,
}

impl Credentials {
    /// # Errors
    /// The first file that cannot be used.
    pub fn load(settings: TlsSettings) -> Result<Self, CredentialsError> {
        let stamps = settings.stamps();
        let loaded = Loaded::read(&settings)?;
        Ok(Self { settings, loaded: ArcSwap::from_pointee(loaded), stamps: Mutex::new(stamps) })
    }

    /// Reads the files again. `true`: something else is in force now.
    ///
    /// # Errors
    /// The first file that cannot be used. The former certificates stay in force, all of them.
    pub fn reload(&self) -> Result<(), CredentialsError> {
        *self.stamps.lock() = self.settings.stamps();
        let loaded = Loaded::read(&self.settings)?;
        let now_s = UnixTime::now().as_secs();
        let mut own = loaded.expiries.iter().take(self.settings.certificates.len());
        if let Some(expiry) = own.find(|expiry| expiry.not_after_s < now_s) {
            return Err(failed(&expiry.file, "the certificate has expired"));
        }
        self.loaded.store(Arc::new(loaded));
        Ok(())
    }

    /// Whether a file has changed since it was last read.
    pub(super) fn has_changed(&self) -> bool {
        *self.stamps.lock() != self.settings.stamps()
    }

    /// When each certificate in force ends: those of the listener first, then those of the issuers.
    pub fn expiries(&self) -> Vec<Expiry> {
        self.loaded.load().expiries.clone()
    }

    pub(super) fn loaded(&self) -> Arc<Loaded> {
        self.loaded.load_full()
    }

    /// Tells the log which certificates end soon or have ended.
    pub(super) fn warn_of_expiry(&self) {
        let now_s = UnixTime::now().as_secs();
        for Expiry { file, not_after_s } in &self.loaded.load().expiries {
            let file = file.display();
            match not_after_s.checked_sub(now_s) {
                None => tracing::error!(target: "waypost::listener", %file, "certificate has expired"),
                Some(left_s) if left_s < WARN_BEFORE.as_secs() => {
                    let days = left_s / (24 * 3600);
                    tracing::warn!(target: "waypost::listener", %file, days, "certificate expires soon");
                }
                Some(_) => {}
            }
        }
    }
}

impl TlsSettings {
    fn files(&self) -> impl Iterator<Item = &Path> {
        let own = self.certificates.iter().flat_map(|(certificate, key)| [certificate, key]);
        let issuers = self.client_auth.issuers().into_iter();
        let issuers =
            issuers.flat_map(|issuers| issuers.certificates.iter().chain(&issuers.folder).chain(&issuers.revoked));
        own.chain(issuers).map(PathBuf::as_path)
    }

    fn stamps(&self) -> Vec<Option<Stamp>> {
        let folder = self.client_auth.issuers().and_then(|issuers| issuers.folder.as_deref());
        // One that cannot be read now is noticed when it can be.
        let within = folder.and_then(|folder| hashed(folder).ok()).unwrap_or_default();
        let all = self.files().chain(within.iter().map(PathBuf::as_path));
        all.map(|file| fs::metadata(file).ok().map(|metadata| Stamp::of(&metadata))).collect()
    }
}

impl Stamp {
    fn of(metadata: &fs::Metadata) -> Self {
        Self { modified: metadata.modified().ok(), size: metadata.len(), inode: metadata.ino() }
    }
}

impl ClientAuth {
    fn issuers(&self) -> Option<&Issuers> {
        match self {
            Self::None => None,
            Self::Optional(issuers) | Self::Required(issuers) => Some(issuers),
        }
    }
}

impl Loaded {
    fn read(settings: &TlsSettings) -> Result<Self, CredentialsError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut expiries = Vec::new();
        let mut certified = Vec::new();
        for (certificate, key) in &settings.certificates {
            certified.push(Arc::new(certified_key(
                certificate,
                key,
                settings.refuses_exposed_keys,
                &provider,
                &mut expiries,
            )?));
        }
        let verifier = match &settings.client_auth {
            ClientAuth::None => None,
            ClientAuth::Optional(issuers) => Some(verifier(issuers, false, &provider, &mut expiries)?),
            ClientAuth::Required(issuers) => Some(verifier(issuers, true, &provider, &mut expiries)?),
        };
        let first = settings.certificates.first().map_or(Path::new(""), |(certificate, _)| certificate);
        let rustls_failed = |error: rustls::Error| failed(first, error);
        let versions: &[_] = if settings.is_1_2_allowed { &[&TLS13, &TLS12] } else { &[&TLS13] };
        let builder =
            ServerConfig::builder_with_provider(provider).with_protocol_versions(versions).map_err(rustls_failed)?;
        let builder = match &verifier {
            None => builder.with_no_client_auth(),
            Some(verifier) => builder.with_client_cert_verifier(Arc::clone(verifier)),
        };
        let mut server = builder.with_cert_resolver(Arc::new(ByName(certified)));
        // Sessions are resumed by ticket: nothing is kept here for Clients that are away. The keys of tickets are as old as
        // the certificates, so none of them outlives these; early data is never taken, for it can be replayed.
        server.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().map_err(rustls_failed)?;
        server.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        server.send_tls13_tickets = 1;
        server.max_early_data_size = 0;
        server.alpn_protocols.clone_from(&settings.protocols);
        Ok(Self { server: Arc::new(server), verifier, expiries })
    }

    pub(super) fn server(&self) -> &Arc<ServerConfig> {
        &self.server
    }

    /// Whether a Client with these certificates would be let in now.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn verify(&self, certificates: &[CertificateDer<'_>]) -> Result<(), rustls::Error> {
        match (&self.verifier, certificates) {
            (None, _) => Ok(()),
            (Some(verifier), []) if verifier.client_auth_mandatory() => Err(rustls::Error::NoCertificatesPresented),
            (Some(_), []) => Ok(()),
            (Some(verifier), [end_entity, intermediates @ ..]) => {
                verifier.verify_client_cert(end_entity, intermediates, UnixTime::now()).map(drop)
            }
        }
    }
}

/// Permissions of those who are neither the owner nor in the group.
const OTHERS: u32 = 0o007;

fn certified_key(
    certificate: &Path,
    key: &Path,
    refuses_exposed: bool,
    provider: &CryptoProvider,
    expiries: &mut Vec<Expiry>,
) -> Result<CertifiedKey, CredentialsError> {
    let chain = certificates(certificate)?;
    expiries.extend(expiry(certificate, &chain)?);
    if fs::metadata(key).is_ok_and(|metadata| metadata.permissions().mode() & OTHERS != 0) {
        if refuses_exposed {
            return Err(failed(key, "everybody on this machine can read or replace this private key; run chmod 0600"));
        }
        let file = key.display();
        tracing::warn!(target: "waypost::listener", %file, "everybody on this machine can read or replace this private key; its mode should be 0600");
    }
    let private_key = PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|error| {
        failed(key, format!("no private key in PEM that can be used without a pass phrase ({error:?})"))
    })?;
    let private_key = provider
        .key_provider
        .load_private_key(private_key)
        .map_err(|error| failed(key, format!("a private key that cannot be used: {error}")))?;
    let certified = CertifiedKey::new(chain, private_key);
    match certified.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Ok(certified),
        Err(_) => Err(failed(key, format!("not the private key of the certificate in {}", certificate.display()))),
    }
}

fn verifier(
    issuers: &Issuers,
    is_required: bool,
    provider: &Arc<CryptoProvider>,
    expiries: &mut Vec<Expiry>,
) -> Result<Arc<dyn ClientCertVerifier>, CredentialsError> {
    let mut files: Vec<PathBuf> = issuers.certificates.iter().cloned().collect();
    if let Some(folder) = &issuers.folder {
        files.extend(hashed(folder)?);
    }
    let place = issuers.certificates.as_ref().or(issuers.folder.as_ref()).map_or(Path::new(""), PathBuf::as_path);
    if files.is_empty() {
        return Err(failed(place, "no certificate in a file that is called by its hash; run `openssl rehash`"));
    }
    let mut roots = RootCertStore::empty();
    for file in &files {
        let chain = certificates(file)?;
        expiries.extend(expiry(file, &chain)?);
        for certificate in chain {
            roots.add(certificate).map_err(|error| failed(file, error))?;
        }
    }
    let mut lists = Vec::new();
    for file in &issuers.revoked {
        lists.extend(revocation_lists(file)?);
    }
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .with_crls(lists)
        .enforce_revocation_expiration();
    if !is_required {
        builder = builder.allow_unauthenticated();
    }
    builder.build().map_err(|error| match error {
        VerifierBuilderError::InvalidCrl(error) => {
            failed(issuers.revoked.first().map_or(place, PathBuf::as_path), format!("{error:?}"))
        }
        error => failed(place, error),
    })
}

/// Entries of a folder of certificates.
const FOLDER_ENTRIES_MAX: usize = 10_000;

/// The certificates of a folder as OpenSSL takes them from there: called by the hash of the subject and a number, `1a2b3c4d.0`.
/// A certificate of something else that lies beside them, a Client's perhaps, issues nothing.
fn hashed(folder: &Path) -> Result<Vec<PathBuf>, CredentialsError> {
    let unreadable = |error: io::Error| failed(folder, reason(&error));
    let is_hashed = |name: &str| {
        let (hash, number) = name.split_once('.').unwrap_or_default();
        hash.len() == 8
            && hash.bytes().all(|digit| digit.is_ascii_hexdigit())
            && !number.is_empty()
            && number.bytes().all(|digit| digit.is_ascii_digit())
    };
    let mut files = Vec::new();
    for (number, entry) in fs::read_dir(folder).map_err(unreadable)?.enumerate() {
        if number == FOLDER_ENTRIES_MAX {
            return Err(failed(folder, format!("more than {FOLDER_ENTRIES_MAX} files")));
        }
        let entry = entry.map_err(unreadable)?;
        if entry.file_name().to_str().is_some_and(is_hashed) {
            files.push(entry.path());
        }
    }
    files.sort_unstable();
    Ok(files)
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, CredentialsError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(file)?).collect();
    match chain {
        Ok(chain) if chain.is_empty() => Err(failed(file, "no certificate in PEM")),
        Ok(chain) => Ok(chain),
        Err(error) => Err(failed(file, format!("not PEM: {error:?}"))),
    }
}

/// One or more lists in PEM, or one in DER; each is checked by itself, so that an error names its file.
fn revocation_lists(file: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, CredentialsError> {
    let content = read(file)?;
    let lists: Vec<CertificateRevocationListDer<'static>> = if content.starts_with(b"-----BEGIN") {
        CertificateRevocationListDer::pem_slice_iter(&content)
            .collect::<Result<_, _>>()
            .map_err(|error| failed(file, format!("not PEM: {error:?}")))?
    } else {
        vec![CertificateRevocationListDer::from(content)]
    };
    if lists.is_empty() {
        return Err(failed(file, "no list of revoked certificates in PEM"));
    }
    for list in &lists {
        if x509_cert::crl::CertificateList::from_der(list).is_err() {
            return Err(failed(file, "no list of revoked certificates in PEM or DER"));
        }
    }
    Ok(lists)
}

/// The end of the certificate that ends first.
fn expiry(file: &Path, chain: &[CertificateDer<'_>]) -> Result<Option<Expiry>, CredentialsError> {
    let mut first = None;
    for certificate in chain {
        let certificate = x509_cert::Certificate::from_der(certificate)
            .map_err(|error| failed(file, format!("not a certificate: {error}")))?;
        let not_after_s = certificate.tbs_certificate.validity.not_after.to_unix_duration().as_secs();
        first = Some(first.map_or(not_after_s, |first: u64| first.min(not_after_s)));
    }
    Ok(first.map(|not_after_s| Expiry { file: file.to_owned(), not_after_s }))
}

/// Files of this kind are small; one that is not is something else.
const FILE_BYTES_MAX: u64 = 16 << 20;

fn read(file: &Path) -> Result<Vec<u8>, CredentialsError> {
    files::read_whole(file, FILE_BYTES_MAX).map_err(|unread| match unread {
        Unread::Failed(error) => failed(file, reason(&error)),
        unread => failed(file, unread),
    })
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => {
            "there is no such file; `waypost cert` makes certificates to try things with".to_owned()
        }
        io::ErrorKind::PermissionDenied => "the broker may not read it".to_owned(),
        _ => error.to_string(),
    }
}

fn failed(file: &Path, why: impl ToString) -> CredentialsError {
    CredentialsError { file: file.to_owned(), why: Outside::of(&why.to_string()).to_string() }
}

/// Finds the certificate that is for the name that a Client asks for.
#[derive(Debug)]
struct ByName(Vec<Arc<CertifiedKey>>);

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let first = self.0.first()?;
        if self.0.len() == 1 {
            return Some(Arc::clone(first));
        }
        let name = hello.server_name().and_then(|name| ServerName::try_from(name).ok());
        let named = name.and_then(|name| self.0.iter().find(|certified| is_for(certified, &name)));
        Some(Arc::clone(named.unwrap_or(first)))
    }
}

fn is_for(certified: &CertifiedKey, name: &ServerName<'_>) -> bool {
    let Some(certificate) = certified.cert.first() else { return false };
    ParsedCertificate::try_from(certificate).is_ok_and(|certificate| verify_server_name(&certificate, name).is_ok())
}
