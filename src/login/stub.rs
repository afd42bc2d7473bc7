//! Servers for tests: they answer what they are told to, plainly or over TLS, with certificates made on the spot.

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::fs;
use std::future::Future;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

/// Answers each request with the next of these bytes, and tells what it was asked; then it is gone.
pub(super) struct Stub {
    address: SocketAddr,
    pub(super) asked: Receiver<String>,
}

impl Stub {
    pub(super) fn answering(answers: Vec<impl AsRef<[u8]> + Send + 'static>) -> Self {
        Self::serving(move |listener, tell| {
            for answer in answers {
                let Ok((stream, _)) = listener.accept() else { return };
                serve(stream, answer.as_ref(), tell);
            }
        })
    }

    pub(super) fn over_tls(answers: Vec<impl AsRef<[u8]> + Send + 'static>, config: Arc<ServerConfig>) -> Self {
        Self::serving(move |listener, tell| {
            for answer in answers {
                let Ok((stream, _)) = listener.accept() else { return };
                let connection = ServerConnection::new(Arc::clone(&config)).expect("a connection");
                serve(StreamOwned::new(connection, stream), answer.as_ref(), tell);
            }
        })
    }

    #[expect(clippy::disallowed_methods, reason = "a server is a program of its own")]
    pub(super) fn serving(serve: impl FnOnce(&TcpListener, &Sender<String>) + Send + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (tell, asked) = channel();
        std::thread::spawn(move || serve(&listener, &tell));
        Self { address, asked }
    }

    pub(super) fn port(&self) -> u16 {
        self.address.port()
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}/login?a=b", self.address)
    }
}

/// Reads a request, tells it, and answers. What is told is empty when there was no request.
fn serve(mut stream: impl Read + Write, answer: &[u8], tell: &Sender<String>) {
    let mut request = Vec::new();
    let mut some = [0; 4096];
    while !is_whole(&request) {
        match stream.read(&mut some) {
            Ok(count) if count > 0 => request.extend_from_slice(&some[..count]),
            _ => break,
        }
    }
    let _ = tell.send(String::from_utf8_lossy(&request).into_owned());
    let _ = stream.write_all(answer);
    let _ = stream.flush();
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    body.len() >= length.unwrap_or(0_usize)
}

/// An address where nobody listens any more.
pub(super) fn gone() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("it is bound")
}

/// A socket whose peer is connected and stays silent.
pub(super) fn hold(listener: &TcpListener) -> TcpStream {
    listener.accept().expect("somebody comes").0
}

/// For one event on a busy machine; what works takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) fn wait_for<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async { tokio::time::timeout(PATIENCE, future).await }).expect("it comes to an end")
}

/// Who makes certificates for servers, with a folder for files.
pub(super) struct Authority {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(super) fn new(name: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("waypost-stub-{}-{number}-{name}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let authority = Self { issuer: Issuer::new(params.clone(), key), folder };
        let certificate = params.self_signed(authority.issuer.key()).expect("a certificate");
        authority.write("ca.pem", &certificate.pem());
        authority
    }

    pub(super) fn file(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    pub(super) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.join(name);
        fs::write(&path, text).expect("a file");
        path
    }

    /// A server of this name.
    pub(super) fn server(&self, name: &str) -> Arc<ServerConfig> {
        self.server_with(CertificateParams::new(vec![name.to_owned()]).expect("a name"))
    }

    /// The same with a certificate that was good once.
    pub(super) fn expired(&self, name: &str) -> Arc<ServerConfig> {
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
        self.server_with(params)
    }

    fn server_with(&self, params: CertificateParams) -> Arc<ServerConfig> {
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![CertificateDer::from(certificate)], key)
            .expect("they belong together");
        Arc::new(config)
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}
