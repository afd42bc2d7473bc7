//! A node to meet, certificates to meet it with, and just enough of MQTT.

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime};
use waypost::config::{Config, Sources};
use waypost::node::Node;

/// For one event on a busy machine; what works takes milliseconds.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A node with a folder of its own for files. `{dir}` in the configuration is that folder.
pub(crate) struct World {
    pub(crate) folder: PathBuf,
    pub(crate) authority: Authority,
    node: Option<Node>,
}

impl World {
    /// A node with one listener on a free port of this machine, which has these further lines; `limits` has lines of [limits].
    pub(crate) fn new(listener: &str, limits: &str) -> Self {
        Self::with_address("127.0.0.1:0", listener, limits)
    }

    pub(crate) fn with_address(address: &str, listener: &str, limits: &str) -> Self {
        let mut world = Self::without_node();
        world.authority.server("server", &["localhost"]);
        world.start(address, listener, limits);
        world
    }

    /// Files only.
    pub(crate) fn without_node() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("transports-{}-{number}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("a folder");
        Self { authority: Authority::new(&folder, "ca"), folder, node: None }
    }

    pub(crate) fn start(&mut self, address: &str, listener: &str, limits: &str) {
        let dir = self.folder.display().to_string();
        let text = format!(
            "[node]\nshards = 2\n[sys]\ninterval = '0s'\n[admin]\naddress = 'off'\n[store]\ndurability = 'memory'\n[[listener]]\naddress = '{address}'\n{listener}\n[limits]\n{limits}\n"
        );
        let file = self.folder.join("waypost.toml");
        fs::write(&file, text.replace("{dir}", &dir)).expect("a file");
        let config = Config::load(&Sources { file: Some(file), ..Sources::default() }).expect("a valid configuration");
        self.node = Some(Node::start(&config).expect("it starts"));
    }

    pub(crate) fn node(&self) -> &Node {
        self.node.as_ref().expect("it was started")
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.node().addresses()[0]
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub(crate) fn tcp(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address()).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream
    }

    /// TLS, with the certificate of this name if there is one. The handshake is not done yet.
    pub(crate) fn tls(&self, certificate: Option<&str>) -> Tls {
        self.tls_with(self.client_config(certificate))
    }

    pub(crate) fn tls_with(&self, config: Arc<ClientConfig>) -> Tls {
        let name = ServerName::try_from("localhost").expect("a name");
        StreamOwned::new(ClientConnection::new(config, name).expect("a connection"), self.tcp())
    }

    pub(crate) fn client_config(&self, certificate: Option<&str>) -> Arc<ClientConfig> {
        self.client_config_of(certificate, rustls::ALL_VERSIONS)
    }

    pub(crate) fn client_config_of(
        &self,
        certificate: Option<&str>,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.der.clone()).expect("an authority");
        let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_protocol_versions(versions)
            .expect("versions")
            .with_root_certificates(roots);
        let mut config = match certificate {
            None => builder.with_no_client_auth(),
            Some(name) => {
                let chain = CertificateDer::pem_file_iter(self.path(&format!("{name}.pem"))).expect("a certificate");
                let key = PrivateKeyDer::from_pem_file(self.path(&format!("{name}.key"))).expect("a key");
                builder.with_client_auth_cert(chain.map(|one| one.expect("PEM")).collect(), key).expect("a pair")
            }
        };
        config.alpn_protocols = vec![b"mqtt".to_vec()];
        Arc::new(config)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(node) = self.node.take() {
            let stopped = node.stop();
            if !std::thread::panicking() {
                stopped.expect("no thread has panicked");
                let _ = fs::remove_dir_all(&self.folder);
            }
        }
    }
}

pub(crate) type Tls = StreamOwned<ClientConnection, TcpStream>;

/// An authority that issues certificates into its folder.
pub(crate) struct Authority {
    folder: PathBuf,
    pub(crate) der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

/// What is odd about a certificate.
#[derive(Default)]
pub(crate) struct Odd {
    pub(crate) serial: u64,
    pub(crate) expired: bool,
    pub(crate) not_yet: bool,
    pub(crate) for_servers: bool,
    pub(crate) names: Vec<SanType>,
}

const DAY: Duration = Duration::from_secs(24 * 3600);

impl Authority {
    pub(crate) fn new(folder: &Path, name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, format!("authority {name}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        fs::write(folder.join(format!("{name}.pem")), certificate.pem()).expect("a file");
        Self { folder: folder.to_owned(), der: certificate.der().clone(), issuer: Issuer::new(params, key) }
    }

    pub(crate) fn server(&self, file: &str, names: &[&str]) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.issue(file, &params);
    }

    pub(crate) fn client(&self, file: &str, common_name: &str, odd: Odd) {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.subject_alt_names = odd.names;
        params.serial_number = Some(SerialNumber::from(odd.serial + 1));
        let usage =
            if odd.for_servers { ExtendedKeyUsagePurpose::ServerAuth } else { ExtendedKeyUsagePurpose::ClientAuth };
        params.extended_key_usages = vec![usage];
        let now = SystemTime::now();
        params.not_before = (if odd.not_yet { now + DAY } else { now - 3 * DAY }).into();
        params.not_after = (if odd.expired { now - DAY } else { now + 60 * DAY }).into();
        self.issue(file, &params);
    }

    fn issue(&self, file: &str, params: &CertificateParams) {
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        fs::write(self.folder.join(format!("{file}.pem")), certificate.pem()).expect("a file");
        fs::write(self.folder.join(format!("{file}.key")), key.serialize_pem()).expect("a file");
    }

    /// A list that revokes the certificates with these serials; out of date if it is to be.
    pub(crate) fn revoke(&self, file: &str, serials: &[u64], expired: bool) {
        let now = SystemTime::now();
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(serial + 1),
            revocation_time: now.into(),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: (now - 2 * DAY).into(),
            next_update: (if expired { now - DAY } else { now + DAY }).into(),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&self.issuer).expect("a list").pem().expect("PEM");
        fs::write(self.folder.join(file), list).expect("a file");
    }
}

// MQTT

/// CONNECT of 3.1.1 with Clean Session.
pub(crate) fn connect(client_id: &str) -> Vec<u8> {
    let size = client_id.len() as u8;
    [&[0x10, 12 + size, 0, 4][..], b"MQTT\x04\x02\0\0\0", &[size], client_id.as_bytes()].concat()
}

pub(crate) fn subscribe(filter: &str) -> Vec<u8> {
    let size = filter.len() as u8;
    [&[0x82, 5 + size, 0, 1, 0, size][..], filter.as_bytes(), &[0]].concat()
}

/// QoS 0.
pub(crate) fn publish(topic: &str, payload: &[u8]) -> Vec<u8> {
    let mut size = 2 + topic.len() + payload.len();
    let mut packet = vec![0x30];
    loop {
        let byte = (size % 128) as u8;
        size /= 128;
        packet.push(if size > 0 { byte | 0x80 } else { byte });
        if size == 0 {
            break;
        }
    }
    packet.extend_from_slice(&[0, topic.len() as u8]);
    packet.extend_from_slice(topic.as_bytes());
    packet.extend_from_slice(payload);
    packet
}

/// First byte and body of the next packet.
pub(crate) fn packet(stream: &mut impl Read) -> io::Result<(u8, Vec<u8>)> {
    let mut byte = [0];
    stream.read_exact(&mut byte)?;
    let first = byte[0];
    let (mut size, mut shift) = (0, 0);
    loop {
        stream.read_exact(&mut byte)?;
        size |= usize::from(byte[0] & 0x7F) << shift;
        shift += 7;
        if byte[0] & 0x80 == 0 {
            break;
        }
    }
    let mut body = vec![0; size];
    stream.read_exact(&mut body)?;
    Ok((first, body))
}

/// CONNECT and its answer, return code included.
pub(crate) fn enter(stream: &mut (impl Read + Write), client_id: &str) -> io::Result<u8> {
    stream.write_all(&connect(client_id))?;
    stream.flush()?;
    let (first, body) = packet(stream)?;
    assert_eq!((first, body.len()), (0x20, 2), "CONNACK");
    Ok(body[1])
}

pub(crate) fn say(stream: &mut impl Write, bytes: &[u8]) {
    stream.write_all(bytes).and_then(|()| stream.flush()).expect("the node reads");
}

/// Subscribes and waits for the answer.
pub(crate) fn listen(stream: &mut (impl Read + Write), filter: &str) {
    say(stream, &subscribe(filter));
    assert_eq!(packet(stream).expect("SUBACK"), (0x90, vec![0, 1, 0]));
}

/// PINGREQ and its answer: the connection stands and nothing else is under way.
pub(crate) fn ping(stream: &mut (impl Read + Write)) {
    say(stream, &[0xC0, 0]);
    assert_eq!(packet(stream).expect("PINGRESP"), (0xD0, vec![]));
}

/// The node closes this, within its time.
pub(crate) fn is_closed(stream: &mut impl Read) -> bool {
    let began = Instant::now();
    let mut byte = [0; 512];
    while began.elapsed() < PATIENCE {
        match stream.read(&mut byte) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => {
                let kind = error.kind();
                return kind != io::ErrorKind::WouldBlock && kind != io::ErrorKind::TimedOut;
            }
        }
    }
    false
}
