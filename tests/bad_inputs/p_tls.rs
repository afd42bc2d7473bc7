//! P: those rows of TLS that need the built binary; the others stand in `tests/transports/`.

use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::broker::Profile;
use crate::client::PATIENCE;
use crate::g_authentication::Files;
use crate::packet::{Version, connect};
use crate::rules::{SLOWNESS, Scene, busyness, load};

all_versions_over_tcp! {
    p01_handshake_flood: alone,
}

/// A certificate for `localhost` and its key, as files.
struct Certificate {
    files: Files,
    der: CertificateDer<'static>,
}

impl Certificate {
    fn new(key_mode: u32) -> Self {
        let files = Files::new();
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        files.write("server.pem", made.cert.pem());
        let key = files.write("server.key", made.signing_key.serialize_pem());
        fs::set_permissions(key, fs::Permissions::from_mode(key_mode)).expect("it is ours");
        Self { files, der: made.cert.der().clone() }
    }

    /// A second listener, which speaks TLS; the first one stays as it is.
    fn serve(&self, profile: &mut Profile) -> SocketAddr {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
        let address = free.local_addr().expect("a bound socket has an address");
        profile
            .environment("WAYPOST__LISTENER__1__ADDRESS", address.to_string())
            .environment("WAYPOST__LISTENER__1__TLS_CERTIFICATE", self.files.path("server.pem"))
            .environment("WAYPOST__LISTENER__1__TLS_KEY", self.files.path("server.key"));
        address
    }

    fn trusted(&self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).expect("a certificate");
        let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.resumption = rustls::client::Resumption::disabled(); // each handshake is a whole one
        Arc::new(config)
    }
}

fn shake_hands(address: SocketAddr, config: &Arc<ClientConfig>) -> Option<StreamOwned<ClientConnection, TcpStream>> {
    let name = ServerName::try_from("localhost").expect("a name");
    let mut connection = ClientConnection::new(Arc::clone(config), name).expect("a connection");
    let mut socket = TcpStream::connect_timeout(&address, PATIENCE).expect("the broker accepts connections");
    socket.set_read_timeout(Some(PATIENCE)).expect("the duration is not zero");
    while connection.is_handshaking() {
        connection.complete_io(&mut socket).ok()?;
    }
    Some(StreamOwned::new(connection, socket))
}

/// Handshakes get a share of the time, and whoever is there is served in the rest of it.
fn p01_handshake_flood() {
    const SHARE: u32 = 5;
    const SHARDS: u32 = 2;
    let certificate = Certificate::new(0o600);
    let mut tls = None;
    let scene = Scene::under_load_with(|profile| {
        profile.set("limits.tls_handshake_share_max", SHARE).set("limits.tls_handshakes_max", 20);
        tls = Some(certificate.serve(profile));
    })
    .may_grow_by(32 * 1024 * 1024);
    let address = tls.expect("it was set");
    let config = certificate.trusted();
    let mut present = shake_hands(address, &config).expect("one is let in");
    present.write_all(&connect(Version::V311, "p01").bytes()).expect("it is read");
    let mut answer = [0; 4];
    present.read_exact(&mut answer).expect("CONNACK");
    let (done, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let lasts = Duration::from_secs(load(2, 30) as u64);
    let idle = scene.cpu_of(|| thread::sleep(Duration::from_millis(500))) * 2;
    let mut slowest = Duration::ZERO;
    let begun = Instant::now();
    let spent = scene.cpu_of(|| {
        thread::scope(|scope| {
            let floods: Vec<_> = (0..50)
                .map(|number: u32| {
                    let (config, done, refused) = (&config, &done, &refused);
                    scope.spawn(move || {
                        // 500 a second in all, as far as they are answered.
                        for round in 0.. {
                            let due = begun + Duration::from_millis(100) * round + Duration::from_millis(2) * number;
                            if due > begun + lasts {
                                return;
                            }
                            thread::sleep(due.saturating_duration_since(Instant::now()));
                            if begun.elapsed() > lasts {
                                return;
                            }
                            let counter = if shake_hands(address, config).is_some() { done } else { refused };
                            counter.fetch_add(1, Ordering::Relaxed);
                        }
                    })
                })
                .collect();
            while floods.iter().any(|flood| !flood.is_finished()) {
                let asked = Instant::now();
                present.write_all(&[0xC0, 0]).expect("it is read");
                present.read_exact(&mut answer[..2]).expect("PINGRESP");
                slowest = slowest.max(asked.elapsed());
                thread::sleep(Duration::from_millis(5));
            }
        });
    });
    let took = begun.elapsed();
    let (done, refused) = (done.into_inner(), refused.into_inner());
    crate::report(&format!(
        "p01: {done} handshakes and {refused} refused in {took:.1?}, {spent:.2?} of CPU, of which the innocents {:.2?}, \
         slowest answer over TLS {slowest:.1?}",
        idle.mul_f64(took.as_secs_f64())
    ));
    assert!(refused > 0 && done > 0, "{done} handshakes and {refused} refused");
    // The share of each thread, what may be taken in advance, and what accepting and refusing the rest costs.
    let allowed = (took * SHARE / 100 + Duration::from_millis(100)) * SHARDS
        + idle.mul_f64(took.as_secs_f64()) * 2
        + Duration::from_micros(150) * SLOWNESS * (done + refused) as u32;
    assert!(spent <= allowed.mul_f64(busyness()), "{spent:?} of CPU, {allowed:?} allowed");
    assert!(slowest <= Duration::from_millis(250).mul_f64(busyness()) * SLOWNESS.min(4), "an answer took {slowest:?}");
    drop(present);
    scene.holds();
}

/// The log says that a private key is open to everybody; where that is so configured, it is not used.
#[test]
fn p11_key_file_readable_by_all() {
    let certificate = Certificate::new(0o644);
    let scene = Scene::with(|profile| {
        certificate.serve(profile);
    });
    assert_eq!(scene.log_lines_with("its mode should be 0600"), 1);
    scene.holds();
    let good = Certificate::new(0o600);
    let scene = Scene::with(|profile| {
        good.serve(profile);
        profile.environment("WAYPOST__LISTENER__1__TLS_KEY_EXPOSED", "refuse");
    });
    assert_eq!(scene.log_lines_with("its mode should be 0600"), 0);
    // From now on it is open, and so it is not taken when it is read again.
    fs::set_permissions(good.files.path("server.key"), fs::Permissions::from_mode(0o644)).expect("it is ours");
    scene.broker().hang_up();
    crate::n_exhaustion::wait_until("the reload is refused", PATIENCE, || {
        scene.log_lines_with("everybody on this machine can read or replace this private key; run chmod 0600") >= 1
    });
    assert!(shake_hands(scene.broker().address(), &good.trusted()).is_none(), "the first listener speaks no TLS");
    scene.holds();
    // Nor does the broker start with it.
    let mut command = Command::new(env!("CARGO_BIN_EXE_waypost"));
    command
        .args(["--data-dir", &certificate.files.path("data")])
        .env("WAYPOST__LISTENER__0__ADDRESS", "127.0.0.1:0")
        .env("WAYPOST__LISTENER__0__TLS_CERTIFICATE", certificate.files.path("server.pem"))
        .env("WAYPOST__LISTENER__0__TLS_KEY", certificate.files.path("server.key"))
        .env("WAYPOST__LISTENER__0__TLS_KEY_EXPOSED", "refuse");
    let output = command.stdin(Stdio::null()).output().expect("the binary runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("server.key") && said.contains("chmod 0600"), "{said}");
    let left = fs::metadata(certificate.files.path("data")).map_err(|error| error.kind()).err();
    assert_eq!(left, Some(ErrorKind::NotFound), "a start that fails leaves nothing behind");
}
