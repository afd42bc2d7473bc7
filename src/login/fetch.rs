//! One request to a server of the operator's, by HTTP or HTTPS, on a connection of its own. Whatever is wrong with the answer is
//! an error: redirects are not followed, and a certificate is verified each time, for no TLS session is resumed.
//! It has no deadline; whoever calls it has.

use crate::files;
use arc_swap::ArcSwap;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{CONNECTION, HOST, HeaderValue};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Where a server is, and the keys of the configuration that say so.
#[derive(Clone, Debug)]
pub struct Url {
    pub key: &'static str,
    /// `http://HOST[:PORT]/PATH` or `https://…`.
    pub url: String,
    pub ca_key: &'static str,
    /// Certificates of those whom an https server's may come from, PEM. `None`: those that this system trusts.
    pub ca_file: Option<PathBuf>,
}

/// Why a server cannot be asked. Nobody has tried yet.
#[derive(Debug, Error)]
pub enum NotAUrl {
    #[error("{0} is not a URL: {1}")]
    Url(&'static str, String),
    #[error("{0} does not begin with http://HOST or https://HOST")]
    Scheme(&'static str),
    #[error("{0} holds a user name or password; a URL is no place for secrets")]
    Secret(&'static str),
    #[error("{}: {why}", file.display())]
    Authorities { file: PathBuf, why: String },
    #[error(
        "{key} is https, but this system has no certificates of authorities that it trusts; name a file with {ca_key}"
    )]
    NoAuthorities { key: &'static str, ca_key: &'static str },
}

/// What became of a request. It continues a sentence that begins with the name of the server; what the server's certificate says
/// may be in it.
#[derive(Debug, Error)]
pub(super) enum Failure {
    #[error("cannot be reached: {0}")]
    Unreachable(io::Error),
    #[error("is not trusted, or does not speak TLS: {0}")]
    Tls(io::Error),
    #[error("does not speak HTTP")]
    NotHttp,
    #[error("answered with a status other than 200")]
    Status,
    #[error("gave an answer that is cut or too large")]
    Body,
}

/// A server that can be asked.
pub(super) struct Server {
    /// `HOST:PORT`
    authority: Box<str>,
    host: HeaderValue,
    path: Uri,
    tls: Option<Tls>,
}

struct Tls {
    name: ServerName<'static>,
    place: Url,
    connector: ArcSwap<TlsConnector>,
}

/// The most of an answer's headers, in bytes.
const HEADERS_SIZE_MAX: usize = 16 << 10;
/// Largest file of authorities, in bytes.
const FILE_SIZE_MAX: u64 = 4 << 20;

impl Server {
    /// Reads the certificates of authorities that an https URL needs.
    ///
    /// # Errors
    /// What of the URL or of the file cannot be used.
    pub(super) fn new(place: &Url) -> Result<Self, NotAUrl> {
        let key = place.key;
        let uri: Uri = place.url.parse().map_err(|error| NotAUrl::Url(key, format!("{error}")))?;
        let authority = uri.authority().filter(|authority| !authority.host().is_empty());
        let authority = authority.ok_or(NotAUrl::Scheme(key))?;
        if authority.as_str().contains('@') {
            return Err(NotAUrl::Secret(key));
        }
        let (port, is_tls) = match uri.scheme_str() {
            Some("http") => (80, false),
            Some("https") => (443, true),
            _ => return Err(NotAUrl::Scheme(key)),
        };
        let host = authority.host();
        if authority.as_str() != host && authority.port_u16().is_none() {
            return Err(NotAUrl::Url(key, "the port is not a number from 0 to 65535".to_owned()));
        }
        let tls = if is_tls {
            let name = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
            let name = ServerName::try_from(name.to_owned()).map_err(|_| NotAUrl::Scheme(key))?;
            Some(Tls { name, place: place.clone(), connector: ArcSwap::from_pointee(connector(place)?) })
        } else {
            None
        };
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        Ok(Self {
            authority: format!("{host}:{}", authority.port_u16().unwrap_or(port)).into(),
            host: HeaderValue::try_from(authority.as_str()).map_err(|_| NotAUrl::Scheme(key))?,
            path: path.parse().map_err(|_| NotAUrl::Scheme(key))?,
            tls,
        })
    }

    /// Reads again who may have issued the server's certificate.
    ///
    /// # Errors
    /// As [`Server::new`]; then nothing has changed.
    pub(super) fn reload(&self) -> Result<(), NotAUrl> {
        if let Some(tls) = &self.tls {
            tls.connector.store(Arc::new(connector(&tls.place)?));
        }
        Ok(())
    }

    /// For the log: `HOST:PORT`.
    pub(super) fn name(&self) -> &str {
        &self.authority
    }

    /// The body of the answer to one request, whose path and host are filled in.
    ///
    /// # Errors
    /// There is no answer with status 200 and a whole body of at most so many bytes.
    pub(super) async fn ask(&self, mut request: Request<Full<Bytes>>, size_max: usize) -> Result<Bytes, Failure> {
        *request.uri_mut() = self.path.clone();
        request.headers_mut().insert(HOST, self.host.clone());
        request.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        let stream = TcpStream::connect(&*self.authority).await.map_err(Failure::Unreachable)?;
        match &self.tls {
            None => exchange(stream, request, size_max).await,
            Some(tls) => {
                let connector = tls.connector.load_full();
                let stream = connector.connect(tls.name.clone(), stream).await.map_err(Failure::Tls)?;
                exchange(stream, request, size_max).await
            }
        }
    }
}

async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    request: Request<Full<Bytes>>,
    size_max: usize,
) -> Result<Bytes, Failure> {
    let mut builder = hyper::client::conn::http1::Builder::new();
    let handshake = builder.max_buf_size(HEADERS_SIZE_MAX).handshake(TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.map_err(|_| Failure::NotHttp)?;
    let mut connection = pin!(connection);
    let mut answer = pin!(async {
        let response = sender.send_request(request).await.map_err(|_| Failure::NotHttp)?;
        if response.status() != StatusCode::OK {
            return Err(Failure::Status);
        }
        let body = Limited::new(response.into_body(), size_max).collect().await;
        Ok(body.map_err(|_| Failure::Body)?.to_bytes())
    });
    tokio::select! {
        answer = &mut answer => answer,
        // Whatever has arrived before the connection ended can still be taken.
        _ = &mut connection => answer.await,
    }
}

fn connector(place: &Url) -> Result<TlsConnector, NotAUrl> {
    let mut roots = RootCertStore::empty();
    match &place.ca_file {
        Some(file) => {
            let failed = |why: String| NotAUrl::Authorities { file: file.clone(), why };
            for certificate in read(file).map_err(failed)? {
                roots
                    .add(certificate)
                    .map_err(|error| failed(format!("not a certificate of an authority: {error}")))?;
            }
        }
        // What of the system's list cannot be read is missing from it: then servers of those authorities are not trusted.
        None => drop(roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
    }
    if roots.is_empty() {
        return Err(NotAUrl::NoAuthorities { key: place.key, ca_key: place.ca_key });
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider knows TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = Resumption::disabled();
    Ok(TlsConnector::from(Arc::new(config)))
}

fn read(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let unreadable = |error| format!("the file of authorities cannot be read: {error}");
    let bytes = files::read_whole(file, FILE_SIZE_MAX).map_err(unreadable)?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&bytes)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("not certificates as PEM: {error}"))?;
    if certificates.is_empty() { Err("there is no certificate as PEM in it".to_owned()) } else { Ok(certificates) }
}

#[cfg(test)]
mod tests {
    use super::super::stub::{Authority, Stub, hold, wait_for};
    use super::{Failure, NotAUrl, Server, Url};
    use http_body_util::Full;
    use hyper::Request;
    use std::io::Write;
    use std::path::PathBuf;

    fn url(url: &str, ca_file: Option<PathBuf>) -> Url {
        Url { key: "x.url", url: url.to_owned(), ca_key: "x.ca_file", ca_file }
    }

    fn ask(server: &Server, size_max: usize) -> Result<String, Failure> {
        let body = wait_for(server.ask(Request::new(Full::default()), size_max))?;
        Ok(String::from_utf8(body.to_vec()).expect("UTF-8"))
    }

    const FINE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine";

    #[test]
    fn what_is_no_url_is_told_with_its_key() {
        for (text, why) in [
            ("a/b", "x.url is not a URL"),
            ("http://a:65536/", "x.url is not a URL"),
            ("/b", "x.url does not begin with http://HOST or https://HOST"),
            ("ftp://a", "x.url does not begin with http://HOST or https://HOST"),
            ("https://a_b:x/", "x.url is not a URL"),
            ("http://", "x.url is not a URL"),
            ("http://a b", "x.url is not a URL"),
            ("http://user:s3cr3t@a/", "x.url holds a user name or password"),
        ] {
            let error = Server::new(&url(text, None)).map(drop).expect_err(text).to_string();
            assert!(error.starts_with(why) && !error.contains("s3cr3t"), "{text}: {error}");
        }
        for (text, name) in [
            ("http://a", "a:80"),
            ("http://a:8/x?y", "a:8"),
            ("http://[::1]/x", "[::1]:80"),
            ("http://127.0.0.1:1/x", "127.0.0.1:1"),
        ] {
            assert_eq!(Server::new(&url(text, None)).expect(text).name(), name);
        }
    }

    #[test]
    fn authorities_come_from_a_file_of_certificates() {
        let authority = Authority::new("authorities");
        assert_eq!(Server::new(&url("https://a", Some(authority.file()))).expect("it is one").name(), "a:443");
        assert!(Server::new(&url("https://[::1]:8/x", Some(authority.file()))).is_ok());
        for (name, text) in
            [("empty.pem", ""), ("nonsense.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n"), ("other.pem", "x")]
        {
            let file = authority.write(name, text);
            let error = Server::new(&url("https://a", Some(file.clone()))).map(drop).expect_err(name);
            assert!(matches!(error, NotAUrl::Authorities { .. }), "{name}: {error}");
            assert!(error.to_string().starts_with(&file.display().to_string()), "{error}");
        }
        let missing = Server::new(&url("https://a", Some("/nowhere/ca.pem".into()))).map(drop).expect_err("no file");
        assert!(
            missing.to_string().starts_with("/nowhere/ca.pem: the file of authorities cannot be read"),
            "{missing}"
        );
    }

    #[test]
    fn a_trusted_server_is_asked_and_answers() {
        let authority = Authority::new("trusted");
        let stub = Stub::over_tls(vec![FINE, FINE], authority.server("localhost"));
        let server = Server::new(&url(&format!("https://localhost:{}/a?b", stub.port()), Some(authority.file())));
        let server = server.expect("it is one");
        for _ in 0..2 {
            assert_eq!(ask(&server, 4).expect("it is trusted"), "fine");
        }
        let request = stub.asked.recv().expect("it was asked");
        assert!(request.starts_with("GET /a?b HTTP/1.1\r\n"), "{request}");
        assert!(request.contains(&format!("host: localhost:{}\r\n", stub.port())), "{request}");
    }

    #[test]
    fn authorities_are_read_again_and_stay_when_they_cannot_be() {
        let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
        let stub = Stub::over_tls(vec![FINE; 4], theirs.server("localhost"));
        let address = format!("https://localhost:{}/", stub.port());
        let server = Server::new(&url(&address, Some(ours.file()))).expect("it is one");
        assert!(matches!(ask(&server, 4), Err(Failure::Tls(_))));
        ours.write("ca.pem", &std::fs::read_to_string(theirs.file()).expect("a file"));
        assert!(matches!(ask(&server, 4), Err(Failure::Tls(_))), "nobody has said so yet");
        server.reload().expect("a certificate");
        assert_eq!(ask(&server, 4).expect("it is trusted now"), "fine");
        ours.write("ca.pem", "nonsense");
        assert!(server.reload().is_err());
        assert_eq!(ask(&server, 4).expect("the former is in force"), "fine");
    }

    /// Row P10: what is not trusted is not trusted the second and third time either, and nothing is said to it.
    #[test]
    fn p10_a_server_is_verified_on_every_attempt() {
        let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
        for (what, certificate, told) in [
            ("another authority", theirs.server("localhost"), "UnknownIssuer"),
            ("another name", ours.server("example.org"), "not valid for name"),
            ("expired", ours.expired("localhost"), "expired"),
        ] {
            let stub = Stub::over_tls(vec![FINE; 3], certificate);
            let address = format!("https://localhost:{}/", stub.port());
            let server = Server::new(&url(&address, Some(ours.file()))).expect("it is one");
            for attempt in 1..=3 {
                let failure = ask(&server, 100).expect_err(what);
                assert!(matches!(failure, Failure::Tls(_)), "{what}, {attempt}: {failure}");
                assert!(failure.to_string().contains(told), "{what}, {attempt}: {failure}");
                assert_eq!(stub.asked.recv().as_deref(), Ok(""), "{what}, {attempt}: it has heard nothing");
            }
        }
        // One that does not speak TLS at all gets no plain request instead.
        let plain = Stub::serving(|listener, _| {
            for _ in 0..3 {
                let _ = hold(listener).write_all(FINE);
            }
        });
        let address = format!("https://localhost:{}/", plain.port());
        let server = Server::new(&url(&address, Some(ours.file()))).expect("it is one");
        for _ in 0..3 {
            assert!(matches!(ask(&server, 100), Err(Failure::Tls(_))));
        }
    }

    #[test]
    fn answers_are_whole_of_status_200_and_not_too_large() {
        for (answer, is_good) in [
            (FINE, true),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nlarge", false),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ncut", false),
            (b"HTTP/1.1 200 OK\r\n\r\nfine", true),
            (b"HTTP/1.1 200 OK\r\n\r\nlarge", false),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nfine\r\n0\r\n\r\n", true),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nfine\r\n", false),
            (b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n", false),
            (b"HTTP/1.1 204 No Content\r\n\r\n", false),
            (b"nonsense", false),
            (b"", false),
        ] {
            let stub = Stub::answering(vec![answer]);
            let server = Server::new(&url(&stub.url(), None)).expect("it is one");
            let shown = String::from_utf8_lossy(answer);
            assert_eq!(ask(&server, 4).is_ok(), is_good, "{shown}");
        }
    }
}
