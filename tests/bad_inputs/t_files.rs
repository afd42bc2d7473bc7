//! T: those rows of configuration and stored files that need the running binary; `t_store.rs` has those about what is in the store.
//!
//! T04 and T06, T08 stand in `tests/transports/limits.rs` and `tests/config.rs`.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::broker::Place;
use crate::client::{Client, PATIENCE};
use crate::g_authentication::{Files, by_password, lines, with};
use crate::n_exhaustion::wait_until;
use crate::packet::{Version, code};
use crate::rules::Scene;

each_version_over_tcp! {
    t07_bad_reload,
}

/// Everything below a folder, the folder included.
fn all_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = vec![folder.to_owned()];
    let mut at = 0;
    while let Some(path) = found.get(at).cloned() {
        found.extend(fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()));
        at += 1;
    }
    found.retain(|path| path.exists());
    found
}

/// Whatever a process is told about its umask, nobody else reads what the broker and its commands write.
#[test]
fn t03_permissions() {
    let files = Files::new();
    let place = Place::new();
    let scene = Scene::with(|profile| {
        profile.keeps_in(&place).prelude("umask 000");
    });
    let mut writer = scene.connected(Version::V5, "t03");
    writer.send(&crate::packet::publish(Version::V5, "t03", "x").retained().bytes());
    writer.disconnect();
    let data = place.data();
    assert!(all_below(&data).len() > 10, "the store is where it should be");
    for path in all_below(&data) {
        let metadata = fs::metadata(&path).expect("it is there");
        assert_eq!(metadata.mode() & 0o077, 0, "{} has mode {:o}", path.display(), metadata.mode());
    }
    scene.holds();
    let waypost = |arguments: &[&str]| {
        let mut shell = Command::new("sh");
        shell.args(["-c", "umask 000; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_waypost")]).args(arguments);
        let output = shell.stdin(Stdio::null()).output().expect("the binary runs");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    let users = files.path("passwd");
    waypost(&["passwd", "-c", "-b", &users, "alice", "right"]);
    assert_eq!(fs::metadata(&users).expect("it was made").mode() & 0o777, 0o600);
    let folder = files.path("certs");
    waypost(&["cert", "ca", "--dir", &folder]);
    let keys: Vec<_> = all_below(Path::new(&folder))
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "key"))
        .collect();
    assert!(!keys.is_empty(), "an authority has a key");
    for key in keys {
        assert_eq!(fs::metadata(&key).expect("it is there").mode() & 0o777, 0o600, "{}", key.display());
    }
}

/// A file that cannot be used changes nothing: what was in force stays as a whole, and the log says what is wrong and where.
fn t07_bad_reload(version: Version) {
    let files = Files::new();
    let users = lines(&["alice"], "right", 10);
    let passwords = files.write("passwd", &users);
    let rules = "user alice\ntopic readwrite a/#\npattern readwrite innocent/#\npattern readwrite bad/#\n";
    let rules_file = files.write("rules", rules);
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let key = files.write("server.key", made.signing_key.serialize_pem());
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("it is ours");
    let scene = Scene::with(|profile| {
        by_password(profile, &passwords);
        profile.set("acl.files", [&rules_file]);
        profile
            .environment("WAYPOST__LISTENER__1__ADDRESS", "127.0.0.1:0")
            .environment("WAYPOST__LISTENER__1__TLS_CERTIFICATE", files.write("server.pem", made.cert.pem()))
            .environment("WAYPOST__LISTENER__1__TLS_KEY", key);
    });
    let mut alice = scene.open(version);
    alice.connect(&with(version, "t07-alice", "alice", "right"));
    assert_eq!(alice.subscribe("a/t07", 1), 1);
    let all_is_as_before = |alice: &mut Client| {
        assert_eq!(alice.publish("a/t07", "mine", 1), 0);
        let delivery = alice.receive_message();
        assert_eq!(delivery.payload, b"mine");
        alice.acknowledge(&delivery);
        let denied = alice.publish("b/t07", "not mine", 1);
        assert_eq!(denied, if version.is_v5() { code::NOT_AUTHORIZED } else { 0 });
        let mut again = scene.open(version);
        again.connect(&with(version, "t07-again", "alice", "right"));
        again.disconnect();
    };
    all_is_as_before(&mut alice);
    let good = [("passwd", users.clone()), ("rules", rules.to_owned()), ("server.pem", made.cert.pem())];
    let configuration = scene.broker().folder().join("broker.toml");
    let written = fs::read(&configuration).expect("the harness wrote it");
    for (name, bad, said) in [
        ("passwd", format!("{users}bob:$6$c2FsdA==$broken\n"), "the former one stays in force"),
        ("passwd", "\0\0\0".to_owned(), "the former one stays in force"),
        ("rules", format!("{rules}nonsense\n"), "the former rules are still in force"),
        ("rules", "user alice\ntopic everything #\n".to_owned(), "rules:2"),
        ("server.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned(), "server.pem"),
        ("broker.toml", "[[listener]]\naddress = 17\n".to_owned(), "other settings need a restart"),
    ] {
        let before = scene.log_lines_with(said);
        if name == "broker.toml" {
            fs::write(&configuration, bad).expect("the folder can be written");
        } else {
            files.write(name, bad);
        }
        scene.broker().hang_up();
        wait_until(said, PATIENCE, || scene.log_lines_with(said) > before);
        all_is_as_before(&mut alice);
        for (name, text) in &good {
            files.write(name, text);
        }
    }
    fs::write(&configuration, written).expect("the folder can be written");
    // And a good file is taken again.
    let before = scene.log_lines_with("password file read again");
    files.write("passwd", format!("{users}{}", lines(&["bob"], "right", 10)));
    scene.broker().hang_up();
    wait_until("good files are read", PATIENCE, || scene.log_lines_with("password file read again") > before);
    let mut bob = scene.open(version);
    bob.connect(&with(version, "t07-bob", "bob", "right"));
    bob.disconnect();
    alice.disconnect();
    scene.holds();
}

/// A start that fails says why, ends with a code, and has touched nothing.
#[test]
fn t11_start_fails_late() {
    let files = Files::new();
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
    let port = taken.local_addr().expect("a bound socket has an address").port();
    let data = PathBuf::from(files.path("data"));
    fs::create_dir(&data).expect("the temporary folder can be written");
    fs::write(data.join("precious"), b"precious").expect("the temporary folder can be written");
    let look = || -> Vec<_> {
        all_below(&data)
            .into_iter()
            .map(|path| {
                let metadata = fs::metadata(&path).expect("it is there");
                (fs::read(&path).unwrap_or_default(), metadata.modified().expect("Linux knows"), metadata.mode(), path)
            })
            .collect()
    };
    let before = look();
    let mut command = Command::new(env!("CARGO_BIN_EXE_waypost"));
    command.args(["-p", &port.to_string(), "--data-dir"]).arg(&data);
    let output = command.stdin(Stdio::null()).output().expect("the binary runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("cannot listen on 127.0.0.1:{port}")) && said.contains("-p"), "{said}");
    assert!(!said.contains("panicked"), "{said}");
    assert_eq!(look(), before, "the data folder is as it was");
}
