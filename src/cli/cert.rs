//! `waypost cert`: a certificate authority of one's own, and certificates for servers and Clients, to begin with.
//! Files are made and never overwritten; private keys are for their owner alone. Nothing that is made here is trusted by
//! anything that is not told to.

#![expect(clippy::disallowed_methods, reason = "certificates begin now")]

use clap::{Args, Subcommand};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use thiserror::Error;
use x509_cert::der::Decode;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Folder for certificates and keys; it is made when it does not exist
    #[arg(long, value_name = "DIR", default_value = "certs", global = true)]
    dir: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make an authority that issues certificates: ca.pem and ca.key
    Ca,
    /// Make a certificate for a broker: server.pem and server.key
    Server {
        /// Host names and IP addresses that Clients connect to
        #[arg(value_name = "NAME", required = true)]
        names: Vec<String>,
    },
    /// Make a certificate for a Client: NAME.pem and NAME.key
    Client {
        /// Its Common Name, and the name of its files
        #[arg(value_name = "NAME")]
        name: String,
    },
}

/// Why there are no new certificates. Files that were there are as they were.
#[derive(Debug, Error)]
pub(super) enum CertError {
    #[error("{0} is there already; nothing is overwritten: remove it first, or choose another folder with --dir")]
    Exists(String),
    #[error("there is no authority in {0}; make one first: waypost cert ca")]
    NoAuthority(String),
    #[error("{0} was not made by `waypost cert ca`, and only such an authority can be used here")]
    OtherAuthority(String),
    #[error(
        "\"{0}\" cannot be the name of a file; allowed: letters, digits, `-`, `_`, `.` and `@`, not beginning with `.`"
    )]
    Name(String),
    #[error("\"{0}\" is not a host name or an IP address")]
    Host(String),
    #[error("{file}: {error}")]
    File { file: String, error: io::Error },
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
}

const DAY: Duration = Duration::from_secs(24 * 3600);
const AUTHORITY_DAYS: u32 = 3650;
const CERTIFICATE_DAYS: u32 = 365;
/// Clocks of devices are not always right.
const BEFORE: Duration = DAY;
/// Every authority has its own, so that none is taken for another.
const AUTHORITY_NAME: &str = "Waypost development CA";
/// Names of files that a Client's would collide with.
const RESERVED: [&str; 2] = ["ca", "server"];

impl Arguments {
    /// Makes what is asked for, and says what and how to use it.
    ///
    /// # Errors
    /// Nothing was made, or only the first of two files, which the error names.
    pub(super) fn run(self) -> Result<String, CertError> {
        let dir = &self.dir;
        match self.command {
            Command::Ca => authority(dir),
            Command::Server { names } => server(dir, &names),
            Command::Client { name } => client(dir, &name),
        }
    }
}

fn authority(dir: &Path) -> Result<String, CertError> {
    let mut random = [0; 4];
    getrandom::fill(&mut random).map_err(|error| failed(dir, io::Error::other(error.to_string())))?;
    let mut params = params(AUTHORITY_DAYS, &format!("{AUTHORITY_NAME} {:08x}", u32::from_be_bytes(random)));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    let [pem, key] = write(dir, "ca", &certificate.pem(), &key)?;
    Ok(format!("{pem}: give it to Clients, which check the broker with it\n{key}: keep it; it issues certificates\n"))
}

fn server(dir: &Path, names: &[String]) -> Result<String, CertError> {
    let issuer = issuer(dir)?;
    let [first, ..] = names else { return Err(CertError::Host(String::new())) };
    let made = CertificateParams::new(names).map_err(|_| CertError::Host(names.join(" ")))?;
    let mut params = params(CERTIFICATE_DAYS, first);
    params.subject_alt_names = made.subject_alt_names;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let [pem, key] = issue(dir, "server", params, &issuer)?;
    Ok(format!(
        "{pem}\n{key}\n\n[[listener]]\naddress = \"0.0.0.0:8883\"\ntls_certificate = [\"{pem}\"]\ntls_key = [\"{key}\"]\n"
    ))
}

fn client(dir: &Path, name: &str) -> Result<String, CertError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.@".contains(c);
    if !(1..=64).contains(&name.len())
        || name.starts_with('.')
        || !name.chars().all(allowed)
        || RESERVED.contains(&name)
    {
        return Err(CertError::Name(name.to_owned()));
    }
    let issuer = issuer(dir)?;
    let mut params = params(CERTIFICATE_DAYS, name);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let [pem, key] = issue(dir, name, params, &issuer)?;
    let ca = dir.join("ca.pem").display().to_string();
    Ok(format!(
        "{pem}\n{key}\n\n[[listener]]  # besides its tls_certificate and tls_key\nclient_auth = \"required\"\n\
         client_ca = \"{ca}\"\nclient_identity = \"common_name\"\n\n\
         mosquitto_pub --cafile {ca} --cert {pem} --key {key} -h HOST -p 8883 -t TOPIC -m MESSAGE\n"
    ))
}

fn issue(
    dir: &Path,
    name: &str,
    mut params: CertificateParams,
    issuer: &Issuer<'_, KeyPair>,
) -> Result<[String; 2], CertError> {
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, issuer)?;
    write(dir, name, &certificate.pem(), &key)
}

fn params(days: u32, common_name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named(common_name);
    let now = SystemTime::now();
    params.not_before = (now - BEFORE).into();
    params.not_after = (now + DAY * days).into();
    params
}

fn named(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

/// The authority of this folder.
fn issuer(dir: &Path) -> Result<Issuer<'static, KeyPair>, CertError> {
    let (pem, key) = (dir.join("ca.pem"), dir.join("ca.key"));
    if !pem.exists() || !key.exists() {
        return Err(CertError::NoAuthority(dir.display().to_string()));
    }
    let foreign = || CertError::OtherAuthority(pem.display().to_string());
    let read = |file: &Path| fs::read_to_string(file).map_err(|error| failed(file, error));
    let der = CertificateDer::from_pem_slice(read(&pem)?.as_bytes()).map_err(|_| foreign())?;
    let certificate = x509_cert::Certificate::from_der(&der).map_err(|_| foreign())?;
    let subject = certificate.tbs_certificate.subject.to_string();
    let name = subject.strip_prefix("CN=").filter(|name| name.starts_with(AUTHORITY_NAME)).ok_or_else(foreign)?;
    let key = KeyPair::from_pem(&read(&key)?)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = named(name);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    Ok(Issuer::new(params, key))
}

/// Writes `NAME.pem` and `NAME.key`, and says where.
fn write(dir: &Path, name: &str, certificate: &str, key: &KeyPair) -> Result<[String; 2], CertError> {
    fs::create_dir_all(dir).map_err(|error| failed(dir, error))?;
    let (pem, private) = (dir.join(format!("{name}.pem")), dir.join(format!("{name}.key")));
    for file in [&pem, &private] {
        if fs::symlink_metadata(file).is_ok() {
            return Err(CertError::Exists(file.display().to_string()));
        }
    }
    write_new(&private, 0o600, &key.serialize_pem())?;
    write_new(&pem, 0o644, certificate)?;
    Ok([pem.display().to_string(), private.display().to_string()])
}

fn write_new(file: &Path, mode: u32, content: &str) -> Result<(), CertError> {
    let mut out =
        OpenOptions::new().write(true).create_new(true).mode(mode).open(file).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => CertError::Exists(file.display().to_string()),
            _ => failed(file, error),
        })?;
    out.write_all(content.as_bytes()).and_then(|()| out.sync_all()).map_err(|error| failed(file, error))
}

fn failed(file: &Path, error: io::Error) -> CertError {
    CertError::File { file: file.display().to_string(), error }
}
