//! `waypost passwd` as an operator uses it, and its files in both brokers: Waypost, and Mosquitto where it is installed.
//! Only what stands on standard error of a test says that nothing was compared.

#![expect(
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "real processes take real time, and a test reports"
)]

#[path = "support/port.rs"]
#[allow(unreachable_pub, reason = "other test programs share it")]
mod port;

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const HASHES: [&str; 4] = ["sha512", "sha512-pbkdf2", "argon2id", "scram-sha-256"];
/// Those that Mosquitto 2.0 knows.
const OF_MOSQUITTO: [&str; 2] = ["sha512", "sha512-pbkdf2"];

// The verbs

#[test]
fn users_come_change_and_go_and_the_rest_of_the_file_stays() {
    let folder = Folder::new();
    folder.says(&["-c", "-b", "file", "alice", "one"], "");
    assert_eq!(folder.mode("file"), 0o600);
    folder.says(&["-b", "-H", "sha512", "file", "bob", "two"], "");
    let bob = folder.line_of("bob");
    fs::write(folder.path("file"), format!("# staff\n{}\n# guests\n{bob}", folder.line_of("alice"))).expect("a file");
    folder.says(&["-b", "-H", "argon2id", "-I", "1", "file", "alice", "three"], "");
    folder.says(&["-b", "-H", "scram-sha-256", "-I", "4096", "file", "carol", "four"], "");
    let (alice, carol) = (folder.line_of("alice"), folder.line_of("carol"));
    assert!(alice.starts_with("alice:$argon2id$v=19$m=19456,t=1,p=1$"), "{alice}");
    assert!(carol.starts_with("carol:$scram-sha-256$4096$"), "{carol}");
    assert_eq!(folder.text("file"), format!("# staff\n{alice}\n# guests\n{bob}\n{carol}\n"));
    folder.says(&["-D", "file", "bob"], "");
    assert_eq!(folder.text("file"), format!("# staff\n{alice}\n# guests\n{carol}\n"));
    folder.says(&["-c", "-b", "file", "dave", "five"], "");
    assert_eq!(folder.text("file"), format!("{}\n", folder.line_of("dave")));
    assert_eq!(fs::read_dir(&folder.0).expect("the folder is there").count(), 1, "nothing else is left");
}

#[test]
fn a_password_can_come_from_standard_input_and_is_shown_nowhere() {
    let folder = Folder::new();
    for input in ["geheim\n", "geheim", "geheim\ngeheim\n", "geheim\r\n"] {
        let output = folder.passwd(&["-c", "-H", "sha512", "file", "alice"], input);
        assert_eq!((output.status.code(), text(&output.stdout), text(&output.stderr)), (Some(0), "".into(), "".into()));
        assert!(!folder.text("file").contains("geheim"));
        let file = fs::read(folder.path("file")).expect("it was made");
        let file = waypost::access::password::PasswordFile::parse("file", &file).expect("it is sound");
        assert!(file.verify("alice", b"geheim"), "{input:?}");
    }
    let output = folder.passwd(&["file", "bob"], "one\ntwo\n");
    let said = "error: cannot read the password: the two passwords are not the same; nothing was changed\n";
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(1), said.to_owned()));
}

#[test]
fn a_file_of_plain_passwords_is_upgraded() {
    let folder = Folder::new();
    folder.says(&["-c", "-b", "-H", "sha512", "file", "bob", "two"], "");
    let bob = folder.line_of("bob");
    fs::write(folder.path("file"), format!("# old\nalice:one:with:colons\r\n\n{bob}\n")).expect("a file");
    folder.says(&["-U", "-H", "sha512", "file"], "1 passwords replaced by hashes\n");
    assert_eq!(folder.text("file"), format!("# old\n{}\n{bob}\n", folder.line_of("alice")));
    let file = waypost::access::password::PasswordFile::parse("file", folder.text("file").as_bytes()).expect("sound");
    assert!(file.verify("alice", b"one:with:colons"));
    folder.says(&["-U", "file"], "0 passwords replaced by hashes\n");
}

#[test]
fn what_cannot_be_done_changes_nothing() {
    let folder = Folder::new();
    folder.says(&["-c", "-b", "-H", "sha512", "file", "alice", "one"], "");
    let before = folder.text("file");
    let long = "x".repeat(1025);
    for (arguments, code, said) in [
        (&["-D", "file", "bob"][..], 1, "error: file: there is no user \"bob\"; nothing was changed\n"),
        (
            &["-b", "gone", "bob", "x"],
            1,
            "error: gone: cannot be read: No such file or directory (os error 2); -c makes a new one; nothing was changed\n",
        ),
        (&["-b", "file", "b:b", "x"], 2, "error: the user name has a colon in it\n"),
        (&["-b", "file", "", "x"], 2, "error: the user name is empty\n"),
        (&["-b", "file", "b\nb", "x"], 2, "error: the user name has a control character in it\n"),
        (&["-b", "file", "bob", ""], 2, "error: the password is empty\n"),
        (&["-b", "file", "bob", &long], 2, "error: the password is longer than 1024 bytes\n"),
        (
            &["-b", "-H", "scram-sha-256", "file", "bob", "größe"],
            2,
            "error: the password has characters other than printable ASCII, which SCRAM clients write differently\n",
        ),
        (&["-b", "-I", "0", "file", "bob", "x"], 2, "error: the iterations are not from 1 to 10000000\n"),
    ] {
        let output = folder.passwd(arguments, "");
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(code), said.to_owned()), "{arguments:?}");
    }
    for arguments in
        [&["file"][..], &["-U", "file", "bob"], &["file", "bob", "x"], &["-b", "file", "bob"], &["-D", "-U", "file"]]
    {
        assert_eq!(folder.passwd(arguments, "").status.code(), Some(2), "{arguments:?}");
    }
    // Somebody else is at it.
    fs::write(folder.path("file.new"), "").expect("a file");
    let output = folder.passwd(&["-b", "file", "bob", "x"], "");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("file.new is there: somebody else is changing"), "{}", text(&output.stderr));
    fs::remove_file(folder.path("file.new")).expect("it is there");
    // What is damaged is told, and not made worse.
    fs::write(folder.path("damaged"), "alice:$6$\n").expect("a file");
    let output = folder.passwd(&["-b", "damaged", "bob", "x"], "");
    assert!(
        text(&output.stderr).contains("damaged:1: the hash of user \"alice\" has 1 parts"),
        "{}",
        text(&output.stderr)
    );
    assert_eq!(folder.text("damaged"), "alice:$6$\n");
    assert_eq!(folder.text("file"), before);
}

#[test]
fn whoever_could_read_a_file_still_can_and_nobody_else() {
    let folder = Folder::new();
    folder.says(&["-c", "-b", "-H", "sha512", "file", "alice", "one"], "");
    for (before, after) in [(0o640, 0o640), (0o644, 0o640), (0o666, 0o640), (0o400, 0o600), (0o600, 0o600)] {
        fs::set_permissions(folder.path("file"), fs::Permissions::from_mode(before)).expect("it is ours");
        folder.says(&["-b", "-H", "sha512", "file", "alice", "two"], "");
        assert_eq!(folder.mode("file"), after, "{before:o}");
    }
    std::os::unix::fs::symlink("file", folder.path("link")).expect("a link");
    folder.says(&["-b", "-H", "sha512", "link", "bob", "two"], "");
    assert!(fs::symlink_metadata(folder.path("link")).expect("it is there").is_symlink());
    assert!(folder.line_of("bob").starts_with("bob:$6$"));
}

// In brokers

#[test]
fn waypost_knows_the_users_of_its_files_and_nobody_else() {
    let folder = Folder::new();
    folder.says(&["-c", "-b", "file", "nobody", "x"], "");
    for hash in HASHES {
        folder.says(&["-b", "-H", hash, "file", hash, "right"], "");
    }
    let broker = Broker::waypost(&folder);
    for hash in HASHES {
        assert_eq!(broker.log_in(hash, "right"), 0, "{hash}");
        assert_eq!(broker.log_in(hash, "wrong"), 4, "{hash}");
    }
    assert_eq!(broker.log_in("stranger", "right"), 4);
}

#[test]
fn mosquitto_and_waypost_read_the_files_of_one_another() {
    if !["mosquitto", "mosquitto_passwd"].iter().all(|name| is_installed(name)) {
        return eprintln!("Mosquitto is not installed here: nothing was compared");
    }
    let folder = Folder::new();
    folder.says(&["-c", "-b", "file", "nobody", "x"], "");
    for hash in OF_MOSQUITTO {
        folder.says(&["-b", "-H", hash, "-I", "1000", "file", &format!("ours-{hash}"), "right one"], "");
        let theirs = format!("theirs-{hash}");
        let mut made = Command::new("mosquitto_passwd");
        let made = made
            .args(["-H", hash, "-b"])
            .arg(folder.path("file"))
            .args([&theirs, "right one"])
            .output()
            .expect("it runs");
        assert!(made.status.success(), "{}", text(&made.stderr));
    }
    // And after their tool has rewritten ours and ours theirs.
    folder.says(&["-b", "file", "last", "right one"], "");
    for broker in [Broker::mosquitto(&folder), Broker::waypost(&folder)] {
        for user in OF_MOSQUITTO.iter().flat_map(|hash| [format!("ours-{hash}"), format!("theirs-{hash}")]) {
            assert_eq!(broker.log_in(&user, "right one"), 0, "{user} in {}", broker.name);
            assert!([4, 5].contains(&broker.log_in(&user, "right on")), "{user} in {}", broker.name);
        }
        assert_eq!(broker.log_in("last", "right one"), 0, "in {}", broker.name);
    }
}

// What the tests are written with

struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("passwd-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).expect("a folder for the test");
        Self(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).expect("it is there and UTF-8")
    }

    fn line_of(&self, user: &str) -> String {
        let start = format!("{user}:");
        self.text("file").lines().find(|line| line.starts_with(&start)).expect("the user is there").to_owned()
    }

    fn mode(&self, name: &str) -> u32 {
        fs::metadata(self.path(name)).expect("it is there").permissions().mode() & 0o777
    }

    fn passwd(&self, arguments: &[&str], input: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_waypost"));
        command.current_dir(&self.0).arg("passwd").args(arguments);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
        // Whoever reads nothing closes the pipe.
        let _ = child.stdin.take().expect("it is piped").write_all(input.as_bytes());
        child.wait_with_output().expect("it ends")
    }

    #[track_caller]
    fn says(&self, arguments: &[&str], said: &str) {
        let output = self.passwd(arguments, "");
        let all = (output.status.code(), text(&output.stdout), text(&output.stderr));
        assert_eq!(all, (Some(0), said.to_owned(), String::new()), "{arguments:?}");
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed stays in the build folder.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A broker that judges by `file` of a folder.
struct Broker {
    name: &'static str,
    child: Child,
    port: u16,
}

impl Broker {
    fn waypost(folder: &Folder) -> Self {
        let port = port::free_port();
        let config = format!(
            "[[listener]]\naddress = '127.0.0.1:{port}'\nauthentication = ['password']\n[password]\nfile = 'file'\n\
             [limits]\nfailed_logins_max = 1000\n[admin]\naddress = 'off'\n[store]\ndurability = 'memory'\n"
        );
        fs::write(folder.path("broker.toml"), config).expect("a file");
        let mut command = Command::new(env!("CARGO_BIN_EXE_waypost"));
        Self::run("waypost", command.current_dir(&folder.0).args(["-c", "broker.toml"]), port)
    }

    fn mosquitto(folder: &Folder) -> Self {
        let port = port::free_port();
        let file = folder.path("file");
        // Started by root it reads its files as the user `mosquitto`, unless told otherwise.
        let config = format!("listener {port} 127.0.0.1\npassword_file {}\nuser root\n", file.display());
        fs::write(folder.path("mosquitto.conf"), config).expect("a file");
        Self::run("mosquitto", Command::new(program("mosquitto")).arg("-c").arg(folder.path("mosquitto.conf")), port)
    }

    fn run(name: &'static str, command: &mut Command, port: u16) -> Self {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let mut broker = Self { name, child: child.expect("it runs"), port };
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            let ended = broker.child.try_wait().expect("it can be asked");
            assert!(ended.is_none() && Instant::now() < deadline, "{name} does not serve: {ended:?}");
            thread::yield_now();
        }
        broker
    }

    /// The return code of a CONNACK of 3.1.1.
    fn log_in(&self, user: &str, password: &str) -> u8 {
        let mut body = b"\0\x04MQTT\x04\xC2\0\0\0\x01c".to_vec();
        for field in [user, password] {
            body.extend((field.len() as u16).to_be_bytes());
            body.extend(field.as_bytes());
        }
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("ten seconds");
        stream.write_all(&[&[0x10, body.len() as u8], &*body].concat()).expect("it reads");
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).expect("it answers");
        assert_eq!(answer[..3], [0x20, 2, 0]);
        answer[3]
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Debian keeps servers where an ordinary user's path does not lead.
fn program(name: &str) -> PathBuf {
    let there = Path::new("/usr/sbin").join(name);
    if there.exists() { there } else { name.into() }
}

fn is_installed(name: &str) -> bool {
    let found = Command::new(program(name)).arg("--help").stdout(Stdio::null()).stderr(Stdio::null()).status();
    found.is_ok()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("all that it prints is UTF-8")
}
