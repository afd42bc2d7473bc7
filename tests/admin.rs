//! The metrics page and the health pages of the built binary, as a program that watches the broker meets them.

#![expect(clippy::disallowed_methods, reason = "who meets the broker from outside has clocks of his own")]

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use waypost::config::{Config, Sources};

/// For one event on a busy machine; what works takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(30);

// What is on the page

#[test]
fn the_page_says_what_happened() {
    let folder = Folder::new();
    for arguments in [&["ca"][..], &["server", "localhost"]] {
        let made = waypost().arg("cert").args(arguments).arg("--dir").arg(&folder.0).output().expect("it runs");
        assert!(made.status.success(), "{made:?}");
    }
    folder.write("acl", "topic readwrite a/#\n");
    let broker = Broker::start(
        &folder,
        "[acl]\nfiles = ['{dir}/acl']\n[[listener]]\naddress = '127.0.0.1:0'\ntls_certificate = ['{dir}/server.pem']\n\
         tls_key = ['{dir}/server.key']\n",
    );
    let page = broker.page();
    assert_eq!(page.value("waypost_clients"), 0.0);
    assert_eq!(page.value(&format!("waypost_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"))), 1.0);
    let certificate =
        format!("waypost_certificate_expiry_timestamp_seconds{{file=\"{}\"}}", folder.path("server.pem").display());
    assert!(page.value(&certificate) > page.value("waypost_start_time_seconds"), "{certificate}");
    assert_eq!(page.kinds["waypost_clients"], "gauge");
    assert_eq!(page.kinds["waypost_messages_total"], "counter");

    let mut reader = broker.enter("reader");
    reader.say(b"\x82\x08\x00\x01\x00\x03a/#\x01");
    assert_eq!(reader.hear::<5>(), *b"\x90\x03\x00\x01\x01");
    let mut writer = broker.enter("writer");
    writer.say(b"\x33\x08\x00\x03a/b\x00\x01x"); // QoS 1, retained
    assert_eq!(writer.hear::<4>(), *b"\x40\x02\x00\x01");
    assert_eq!(reader.hear::<10>(), *b"\x32\x08\x00\x03a/b\x00\x01x");
    reader.say(b"\x40\x02\x00\x01");
    writer.say(b"\x32\x08\x00\x03b/b\x00\x02x"); // which no rule allows
    assert_eq!(writer.hear::<4>(), *b"\x40\x02\x00\x02");
    // One says goodbye, one is lost, one breaks the rules, and one never says CONNECT.
    let mut polite = broker.enter("polite");
    polite.say(b"\xe0\x00");
    drop(broker.enter("lost"));
    broker.enter("wrong").say(b"\xf0\xff");
    broker.link().say(b"GET / HTTP/1.1\r\n\r\n");
    broker.shows(&[
        ("waypost_clients", 2.0),
        ("waypost_sessions", 2.0),
        ("waypost_connects_total", 5.0),
        ("waypost_subscriptions{kind=\"own\"}", 1.0),
        ("waypost_subscriptions{kind=\"shared\"}", 0.0),
        ("waypost_topic_filters", 1.0),
        ("waypost_messages_total{direction=\"received\"}", 2.0),
        ("waypost_messages_total{direction=\"sent\"}", 1.0),
        ("waypost_denials_total{act=\"publish\"}", 1.0),
        ("waypost_retained_messages", 1.0),
        ("waypost_disconnects_total{reason=\"client_disconnect\"}", 1.0),
        ("waypost_disconnects_total{reason=\"connection_lost\"}", 1.0),
        ("waypost_disconnects_total{reason=\"malformed_packet\"}", 1.0),
        ("waypost_connections_refused_total{reason=\"not_mqtt\"}", 1.0),
        ("waypost_connections_pending", 0.0),
        ("waypost_memory_level{level=\"normal\"}", 1.0),
        ("waypost_memory_level{level=\"full\"}", 0.0),
        ("waypost_store_trouble", 0.0),
        ("waypost_store_failures_total", 0.0),
        ("waypost_store_segments", 1.0),
    ]);
    assert!(broker.page().value("waypost_store_records_total") > 0.0, "a message was retained");
    assert!(broker.page().value("waypost_network_bytes_total{direction=\"received\"}") > 30.0);
}

#[test]
fn what_is_refused_is_counted_by_reason_and_so_are_files_read_again() {
    let folder = Folder::new();
    let made = waypost().args(["passwd", "-c", "-b"]).arg(folder.path("users")).args(["alice", "secret"]).output();
    assert!(made.expect("it runs").status.success());
    folder.write("acl", "topic readwrite a/#\n");
    let broker = Broker::start(
        &folder,
        "authentication = ['password']\n[password]\nfile = '{dir}/users'\n[acl]\nfiles = ['{dir}/acl']\n",
    );
    let mut stranger = broker.link();
    stranger.say(b"\x10\x19\x00\x04MQTT\x04\xc2\x00\x00\x00\x01c\x00\x05alice\x00\x03bad");
    assert_eq!(stranger.hear::<4>(), *b"\x20\x02\x00\x04");
    drop(broker.link());
    broker.shows(&[
        ("waypost_failed_logins_total", 1.0),
        ("waypost_connections_refused_total{reason=\"bad_user_name_or_password\"}", 1.0),
        ("waypost_connections_refused_total{reason=\"closed_by_peer\"}", 1.0),
        ("waypost_clients", 0.0),
    ]);
    folder.write("acl", "this is no rule\n");
    broker.hang_up();
    broker.shows(&[
        ("waypost_reload_failures_total{what=\"rules\"}", 1.0),
        ("waypost_reloads_total{what=\"rules\"}", 0.0),
        ("waypost_reloads_total{what=\"passwords\"}", 1.0),
    ]);
}

/// Row N19: a hundred thousand Topics, and names of Clients, do not show on the page.
#[test]
fn n19_the_page_does_not_grow_with_clients_and_topics() {
    const TOPICS: u32 = 100_000;
    const CLIENTS: u32 = 1_000;
    let folder = Folder::new();
    let broker = Broker::start(&folder, "");
    let before = broker.page();
    let mut writer = broker.enter("writer");
    let mut packets = Vec::new();
    for number in 0..TOPICS {
        packets.extend_from_slice(b"\x31\x0a\x00\x07");
        packets.extend_from_slice(format!("t{number:06}x").as_bytes());
    }
    packets.extend_from_slice(b"\xc0\x00");
    writer.say(&packets);
    assert_eq!(writer.hear::<2>(), *b"\xd0\x00");
    for number in 0..CLIENTS {
        // Their Sessions stay.
        let mut client = broker.link();
        client.say(b"\x10\x12\x00\x04MQTT\x04\x00\x00\x00\x00\x06");
        client.say(format!("{number:06}").as_bytes());
        assert_eq!(client.hear::<4>(), *b"\x20\x02\x00\x00");
    }
    broker.shows(&[("waypost_retained_messages", f64::from(TOPICS)), ("waypost_sessions", f64::from(CLIENTS + 1))]);
    let after = broker.page();
    assert_eq!(before.series(), after.series());
    assert_eq!(before.lines, after.lines);
    assert!(after.size < before.size + 200, "{} and {} bytes", before.size, after.size);
}

// Who is answered

#[test]
fn three_pages_and_no_others() {
    let folder = Folder::new();
    let broker = Broker::start(&folder, "");
    let get = |path| broker.ask(Method::GET, path, None);
    assert_eq!(get("/healthz"), (StatusCode::OK, "well\n".to_owned()));
    assert_eq!(get("/readyz"), (StatusCode::OK, "ready\n".to_owned()));
    for path in ["/", "/metrics/", "/METRICS", "/metrics/../metrics", "/healthz/x", "/%2e%2e/etc/passwd", "//metrics"] {
        assert_eq!(get(path).0, StatusCode::NOT_FOUND, "{path}");
    }
    assert_eq!(get("/metrics?x=y").0, StatusCode::OK);
    for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS, Method::PATCH] {
        for path in ["/metrics", "/healthz", "/readyz"] {
            assert_eq!(broker.ask(method.clone(), path, None).0, StatusCode::METHOD_NOT_ALLOWED, "{method} {path}");
        }
    }
    assert_eq!(broker.ask(Method::HEAD, "/metrics", None), (StatusCode::OK, String::new()));
    // A browser that somebody else's name has led here.
    for (host, status) in [
        ("localhost", StatusCode::OK),
        ("127.0.0.1:1", StatusCode::OK),
        ("[::1]", StatusCode::OK),
        ("evil.example.org", StatusCode::FORBIDDEN),
        ("127.0.0.1.example.org", StatusCode::FORBIDDEN),
        ("192.0.2.1:18083", StatusCode::FORBIDDEN),
    ] {
        assert_eq!(broker.ask(Method::GET, "/metrics", Some(host)).0, status, "{host}");
    }
}

/// Row S10: whoever is slow or says too much is let go, others are served, and MQTT does not notice.
#[test]
fn s10_slow_and_large_requests_are_bounded() {
    let folder = Folder::new();
    let broker = Broker::start(&folder, "");
    let large = [b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nX: ".as_slice(), &[b'x'; 100 << 10]].concat();
    let mut link = Link(TcpStream::connect(broker.admin).expect("it listens"));
    let _ = link.0.write_all(&large); // it may be let go before it has said everything
    let mut answer = [0; 12];
    // Where the reset overtakes the answer, the end is all there is to see.
    if link.0.read_exact(&mut answer).is_ok() {
        assert_eq!(answer, *b"HTTP/1.1 431");
    }
    for nonsense in [
        &b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00"[..],
        b"\x16\x03\x01\x00\x05hello",
        b"\r\n\r\n\r\n",
        b"GET\r\n\r\n",
    ] {
        let mut link = Link(TcpStream::connect(broker.admin).expect("it listens"));
        link.say(nonsense);
        link.0.shutdown(std::net::Shutdown::Write).expect("it is open");
        link.ends();
    }
    // More than it serves at a time, none of which ever finishes its request.
    let slow: Vec<Link> = (0..70)
        .map(|_| {
            let mut link = Link(TcpStream::connect(broker.admin).expect("it listens"));
            link.say(b"GET /metrics HTTP/1.1\r\nHost: loc");
            link
        })
        .collect();
    let mut client = broker.enter("c");
    client.say(b"\xc0\x00");
    assert_eq!(client.hear::<2>(), *b"\xd0\x00");
    assert_eq!(broker.ask(Method::GET, "/healthz", None).0, StatusCode::OK, "in the end it has a turn");
    for mut link in slow {
        link.ends();
    }
}

#[test]
fn a_broker_without_memory_is_well_but_not_ready() {
    let folder = Folder::new();
    let broker = Broker::start(&folder, "[node]\nmemory_budget = '16MiB'\n");
    let mut writer = broker.enter("writer");
    let mut packet = b"\x31\x83\x80\x40\x00\x01".to_vec(); // a retained mebibyte
    packet.resize(packet.len() + (1 << 20), b'x');
    for topic in b'a'..b'a' + 15 {
        packet.insert(6, topic);
        writer.say(&packet);
        packet.remove(6);
    }
    broker.shows(&[("waypost_memory_level{level=\"critical\"}", 1.0), ("waypost_memory_level{level=\"normal\"}", 0.0)]);
    let (status, why) = broker.ask(Method::GET, "/readyz", None);
    assert_eq!((status, why.as_str()), (StatusCode::SERVICE_UNAVAILABLE, "the memory budget is used up\n"));
    assert_eq!(broker.ask(Method::GET, "/healthz", None).0, StatusCode::OK);
}

// Where it is

#[test]
fn the_default_address_may_be_taken_and_a_written_one_may_not() {
    let folder = Folder::new();
    let _taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 18083)); // or by somebody else: all the same
    let (_, line) = Broker::spawn(&folder, "", None, "there is no metrics page");
    assert!(line.contains("WARN") && line.contains("127.0.0.1:18083") && line.contains("\"off\""), "{line}");

    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = taken.local_addr().expect("it is bound").to_string();
    folder.write("broker.toml", &format!("[admin]\naddress = '{address}'\n[[listener]]\naddress = '127.0.0.1:0'\n"));
    let ended = waypost().arg("-c").arg(folder.path("broker.toml")).output().expect("it runs");
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(
        said.contains("cannot serve the metrics page on") && said.contains(&address) && said.contains("\"off\""),
        "{said}"
    );
}

#[test]
fn an_address_that_others_can_reach_needs_a_decision() {
    let load = |address: &str, more: &[(&str, &str)]| {
        let settings = [("WAYPOST__ADMIN__ADDRESS", address), ("WAYPOST__LISTENER__0__ADDRESS", "127.0.0.1:1883")];
        let environment = settings.iter().chain(more).map(|(name, value)| (name.into(), value.into())).collect();
        Config::load(&Sources { environment, ..Sources::default() }).map(drop).map_err(|errors| errors.to_string())
    };
    for address in ["off", "127.0.0.1:0", "[::1]:18083", "localhost:18083", "127.0.0.1:1884"] {
        assert_eq!(load(address, &[]), Ok(()), "{address}");
    }
    for address in ["0.0.0.0:18083", "*:18083", "[::]:18083", "10.0.0.1:18083", "example.org:18083"] {
        let refused = load(address, &[]).expect_err("nobody has decided");
        assert!(
            refused.contains("no login for it") && refused.contains("WAYPOST__ADMIN__ALLOW_REMOTE=true"),
            "{refused}"
        );
        assert_eq!(load(address, &[("WAYPOST__ADMIN__ALLOW_REMOTE", "true")]), Ok(()), "{address}");
    }
    for (address, why) in [
        ("unix:/run/waypost.sock", "cannot be a unix: socket"),
        ("127.0.0.1:1883", "takes the same address as listener 127.0.0.1:1883"),
        ("of", "has no port"),
        ("", "has no port"),
    ] {
        let refused = load(address, &[]).expect_err("it is none");
        assert!(refused.contains(why), "{refused}");
    }
}

// What the tests are written with

/// A page of metrics, read as strictly as its format says.
struct Page {
    values: BTreeMap<String, f64>,
    kinds: BTreeMap<String, String>,
    lines: usize,
    size: usize,
}

impl Page {
    #[track_caller]
    fn read(text: &str) -> Self {
        let mut page =
            Self { values: BTreeMap::new(), kinds: BTreeMap::new(), lines: text.lines().count(), size: text.len() };
        assert!(text.ends_with('\n'), "the last line is complete");
        let mut lines = text.lines().peekable();
        while let Some(line) = lines.next() {
            let (name, help) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')).expect(line);
            assert!(help.ends_with('.') && help.len() > 5, "{line}");
            let kind = lines.next().and_then(|line| line.strip_prefix(&format!("# TYPE {name} "))).expect(line);
            assert!(matches!(kind, "counter" | "gauge"), "{line} is a {kind}");
            assert_eq!(name.ends_with("_total"), kind == "counter", "{name} is a {kind}");
            let word = name.strip_prefix("waypost_").expect("one prefix");
            assert!(word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
            assert!(page.kinds.insert(name.to_owned(), kind.to_owned()).is_none(), "{name} is there twice");
            let mut count = 0;
            while let Some(line) = lines.next_if(|line| !line.starts_with('#')) {
                let (series, value) = line.rsplit_once(' ').expect(line);
                let labels = series.strip_prefix(name).expect(line);
                assert!(labels.is_empty() || is_one_label(labels), "{line}");
                let value: f64 = value.parse().expect(line);
                assert!(value.is_finite() && value >= 0.0, "{line}");
                assert!(page.values.insert(series.to_owned(), value).is_none(), "{series} is there twice");
                count += 1;
            }
            assert!(count > 0, "{name} has no value");
        }
        page
    }

    #[track_caller]
    fn value(&self, series: &str) -> f64 {
        *self.values.get(series).unwrap_or_else(|| panic!("{series} is not among {:#?}", self.values))
    }

    fn series(&self) -> BTreeSet<&str> {
        self.values.keys().map(String::as_str).collect()
    }
}

/// `{name="value"}`
fn is_one_label(labels: &str) -> bool {
    let inside = labels.strip_prefix('{').and_then(|rest| rest.strip_suffix("\"}"));
    let Some((name, value)) = inside.and_then(|inside| inside.split_once("=\"")) else { return false };
    let plain = value.replace("\\\\", "").replace("\\\"", "").replace("\\n", "");
    name.bytes().all(|byte| byte.is_ascii_lowercase()) && !name.is_empty() && !plain.contains(['"', '\\', '\n'])
}

/// The built broker with a metrics page, killed at the end of its test.
struct Broker {
    child: Child,
    /// Its first listener.
    mqtt: SocketAddr,
    admin: SocketAddr,
}

impl Broker {
    /// With these lines after those of its one listener.
    fn start(folder: &Folder, more: &str) -> Self {
        let (mut broker, line) = Self::spawn(folder, more, Some("127.0.0.1:0"), "metrics page");
        let (_, url) = line.split_once("http://").expect("where it is");
        broker.admin = url.split('/').next().expect("an address").parse().expect("an address");
        broker
    }

    /// Waits for a line of the log that says this, and for the broker to be ready.
    fn spawn(folder: &Folder, more: &str, admin: Option<&str>, says: &str) -> (Self, String) {
        let admin = admin.map_or_else(String::new, |address| format!("[admin]\naddress = '{address}'\n"));
        let text = format!("{admin}[sys]\ninterval = '0s'\n[[listener]]\naddress = '127.0.0.1:0'\n{more}");
        folder.write("broker.toml", &text.replace("{dir}", &folder.0.display().to_string()));
        let mut command = waypost();
        command.arg("-c").arg(folder.path("broker.toml")).arg("--data-dir").arg(folder.path("data"));
        let mut child = command.stderr(Stdio::piped()).spawn().expect("it runs");
        let (mut mqtt, mut said, mut log) = (None, None, Vec::new());
        let mut lines = BufReader::new(child.stderr.take().expect("it is piped")).lines();
        for line in &mut lines {
            let line = line.expect("the log is UTF-8");
            log.push(line.clone());
            if mqtt.is_none() && line.contains(" listening ") {
                let (_, address) = line.split_once("address=").expect("where it listens");
                mqtt = address.split(' ').next().map(|address| address.parse().expect("an address"));
            }
            if line.contains(says) {
                said = Some(line);
            } else if line.contains("waypost is ready") {
                break;
            }
        }
        // Somebody has to read the rest.
        thread::spawn(move || lines.for_each(drop));
        let placeholder = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let broker =
            Self { child, mqtt: mqtt.unwrap_or_else(|| panic!("it does not listen: {log:#?}")), admin: placeholder };
        (broker, said.unwrap_or_else(|| panic!("the log does not say {says:?}: {log:#?}")))
    }

    fn ask(&self, method: Method, path: &str, host: Option<&str>) -> (StatusCode, String) {
        let own = self.admin.to_string();
        let request = Request::builder().method(method).uri(path).header("host", host.unwrap_or(&own));
        let request = request.body(Empty::<Bytes>::new()).expect("a request");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let asked = async {
            let stream = tokio::net::TcpStream::connect(self.admin).await.expect("it listens");
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("HTTP");
            tokio::spawn(connection);
            let response = sender.send_request(request).await.expect("an answer");
            let (head, body) = response.into_parts();
            if head.status == StatusCode::METHOD_NOT_ALLOWED {
                assert_eq!(head.headers["allow"], "GET, HEAD");
            } else if path == "/metrics" && head.status == StatusCode::OK {
                assert_eq!(head.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
            }
            let body = body.collect().await.expect("a whole body").to_bytes();
            (head.status, String::from_utf8(body.to_vec()).expect("UTF-8"))
        };
        runtime.block_on(async { tokio::time::timeout(PATIENCE, asked).await }).expect("an answer in time")
    }

    #[track_caller]
    fn page(&self) -> Page {
        let (status, text) = self.ask(Method::GET, "/metrics", None);
        assert_eq!(status, StatusCode::OK);
        Page::read(&text)
    }

    /// Figures come with the next tick: soon the page has all of these.
    #[track_caller]
    fn shows(&self, expected: &[(&str, f64)]) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let page = self.page();
            let shown: Vec<(&str, f64)> = expected.iter().map(|(series, _)| (*series, page.value(series))).collect();
            if shown == expected {
                return;
            }
            assert!(Instant::now() < deadline, "{shown:?} is not {expected:?}");
        }
    }

    fn link(&self) -> Link {
        let stream = TcpStream::connect(self.mqtt).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        Link(stream)
    }

    /// A Client of MQTT 3.1.1 with a clean Session.
    fn enter(&self, client_id: &str) -> Link {
        let mut link = self.link();
        let length = u8::try_from(client_id.len()).expect("a short name");
        link.say(&[b"\x10".as_slice(), &[12 + length], b"\x00\x04MQTT\x04\x02\x00\x00\x00", &[length]].concat());
        link.say(client_id.as_bytes());
        assert_eq!(link.hear::<4>(), *b"\x20\x02\x00\x00");
        link
    }

    fn hang_up(&self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::HUP).expect("it is ours");
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Link(TcpStream);

impl Link {
    fn say(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).expect("it is open");
    }

    #[track_caller]
    fn hear<const LENGTH: usize>(&mut self) -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        self.0.read_exact(&mut bytes).expect("an answer");
        bytes
    }

    /// Whatever is still said, the end comes.
    #[track_caller]
    fn ends(&mut self) {
        self.0.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let mut rest = Vec::new();
        if let Err(error) = self.0.read_to_end(&mut rest) {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
        }
    }
}

/// The binary without any settings of whoever runs the tests.
fn waypost() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_waypost"));
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"WAYPOST__") {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}

struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("admin-{}-{number}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("a folder");
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn write(&self, name: &str, text: &str) {
        File::create(self.path(name)).and_then(|mut file| file.write_all(text.as_bytes())).expect("a file");
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0); // what cannot be removed stays in the build folder
    }
}
