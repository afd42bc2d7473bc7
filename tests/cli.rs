//! The built binary as an operator meets it: arguments in, text and exit codes out.
//! Only what ends by itself is waited for without a limit; a broker that runs is stopped by the test that started it.

#![expect(clippy::disallowed_methods, reason = "a real process takes real time")]

#[path = "support/port.rs"]
#[allow(unreachable_pub, reason = "other test programs share it")]
mod port;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use waypost::store::{Batch, BlobRef, Options, Safety, Store};

// Help and version

#[test]
fn version_names_the_program_and_its_version() {
    for flag in ["--version", "-V"] {
        let output = waypost().arg(flag).output().expect("it runs");
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
        assert_eq!(text(&output.stdout), format!("waypost {}\n", env!("CARGO_PKG_VERSION")));
    }
}

#[test]
fn help_names_every_command_and_flag() {
    let output = waypost().arg("--help").output().expect("it runs");
    assert_eq!(output.status.code(), Some(0));
    let help = text(&output.stdout);
    for part in [
        "run",
        "check",
        "convert",
        "config",
        "acl",
        "store",
        "-c, --config <FILE>",
        "-p, --port <PORT>",
        "--data-dir <DIR>",
        "-v, --verbose",
    ] {
        assert!(help.contains(part), "{part} is missing in:\n{help}");
    }
}

// A mosquitto.conf

#[test]
fn check_lists_what_becomes_of_each_option_of_a_mosquitto_conf() {
    let folder = Folder::new();
    folder.write(
        "mosquitto.conf",
        "# ours\nlistener 1883\nallow_anonymous true\nmax_queued_messages 0\nlog_dest syslog\n",
    );
    let output = folder.waypost().args(["check", "-c", "mosquitto.conf"]).output().expect("it runs");
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
    assert_eq!(
        text(&output.stdout).lines().collect::<Vec<_>>(),
        [
            "mosquitto.conf:2: listener: honoured: listener.address",
            "mosquitto.conf:3: allow_anonymous: honoured: listener.allow_anonymous",
            "mosquitto.conf:4: max_queued_messages: changed: there is always a limit: limits.queue_messages_max is 1000000000, its most",
            "mosquitto.conf:5: log_dest: not supported: the log goes to standard error",
            "mosquitto.conf: valid; listens on *:1883 (anonymous allowed); data in waypost-data",
        ]
    );

    folder.write("mosquitto.conf", "listener 1883\nallow_anonymous true\n");
    let output = folder.waypost().args(["check", "-c", "mosquitto.conf", "-p", "1884"]).output().expect("it runs");
    let last = text(&output.stdout).lines().last().map(str::to_owned);
    let note = "note: command line: -p: not supported: the file says where to listen, at mosquitto.conf:1; mosquitto ignores it, too";
    assert_eq!(last.as_deref(), Some(note));

    folder.write("mosquitto.conf", "listener 1883\nplugin /lib/x.so\nallow_anonymus true\n");
    let output = folder.waypost().args(["check", "-c", "mosquitto.conf"]).output().expect("it runs");
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(text(&output.stdout).lines().count(), 3, "the list is there nevertheless");
    assert_eq!(
        text(&output.stderr),
        "mosquitto.conf:2: plugin is not supported: plugins of mosquitto cannot be loaded; see [[listener]] authentication and [acl]\n\
         mosquitto.conf:3: unknown option \"allow_anonymus\"; did you mean allow_anonymous?\n"
    );
}

#[test]
fn convert_prints_a_file_of_ours_that_the_broker_takes() {
    let folder = Folder::new();
    folder.write("mosquitto.conf", "listener 1883 127.0.0.1\nallow_anonymous true\n");
    let output = folder.waypost().args(["convert", "mosquitto.conf"]).output().expect("it runs");
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
    folder.write("waypost.toml", &text(&output.stdout));
    let output = folder.waypost().args(["check", "-c", "waypost.toml"]).output().expect("it runs");
    assert_eq!(
        text(&output.stdout),
        "waypost.toml: valid; listens on 127.0.0.1:1883 (anonymous allowed); data in waypost-data\n"
    );

    let output = folder.waypost().args(["convert", "waypost.toml"]).output().expect("it runs");
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(2), String::new()));
    assert_eq!(text(&output.stderr), "waypost.toml: is not a mosquitto.conf\n");
}

// check

#[test]
fn check_says_in_one_line_what_would_run() {
    let folder = Folder::new();
    let output = folder.waypost().arg("check").output().expect("it runs");
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
    assert_eq!(
        text(&output.stdout),
        "the configuration without a file: valid; listens on 127.0.0.1:1883 (anonymous allowed); data in waypost-data\n"
    );

    folder.write(
        "a.toml",
        "[[listener]]\naddress = '0.0.0.0:1'\nallow_anonymous = false\n[[listener]]\naddress = '[::1]:2'\n",
    );
    folder.write("a.toml.d/b.toml", "[node]\ndata_dir = '/var/lib/waypost'\n");
    let output = folder.waypost().args(["check", "-c", "a.toml"]).output().expect("it runs");
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
    assert_eq!(
        text(&output.stdout),
        "a.toml, a.toml.d/b.toml: valid; listens on 0.0.0.0:1, [::1]:2 (anonymous allowed); data in /var/lib/waypost\n\
         note: nobody can enter by listener 0.0.0.0:1: it has no authentication, and allow_anonymous is false\n"
    );
}

#[test]
fn check_finds_certificates_that_cannot_be_used() {
    let folder = Folder::new();
    folder.write("a.toml", "[[listener]]\naddress = '127.0.0.1:1'\ntls_certificate = ['a.pem']\ntls_key = ['a.key']\n");
    let output = folder.waypost().args(["check", "-c", "a.toml"]).output().expect("it runs");
    assert_eq!(output.status.code(), Some(2));
    let error = text(&output.stderr);
    assert!(error.contains("cannot use the certificates of listener 127.0.0.1:1: "), "{error}");
    assert!(error.contains("a.pem: there is no such file; `waypost cert` makes certificates"), "{error}");
}

// cert

#[test]
fn cert_makes_an_authority_servers_and_clients_and_overwrites_nothing() {
    let folder = Folder::new();
    let cert = |arguments: &[&str]| folder.waypost().arg("cert").args(arguments).output().expect("it runs");
    let refused = cert(&["server", "localhost"]);
    assert_eq!(refused.status.code(), Some(1));
    assert_eq!(text(&refused.stderr), "there is no authority in certs; make one first: waypost cert ca\n");
    for arguments in [&["ca"][..], &["server", "localhost", "127.0.0.1"], &["client", "device-7"]] {
        let output = cert(arguments);
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()), "{arguments:?}");
    }
    for name in ["ca", "server", "device-7"] {
        let mode = |name: String| fs::metadata(folder.0.join(name)).expect("it is there").permissions().mode() & 0o777;
        assert_eq!(mode(format!("certs/{name}.key")), 0o600);
        assert_eq!(mode(format!("certs/{name}.pem")), 0o644);
    }
    let before = fs::read(folder.0.join("certs/ca.pem")).expect("it is there");
    for (arguments, why) in [
        (&["ca"][..], "certs/ca.pem is there already; nothing is overwritten"),
        (&["client", "device-7"], "certs/device-7.pem is there already"),
        (&["client", "../device"], "cannot be the name of a file"),
        (&["client", "ca"], "cannot be the name of a file"),
        (&["client", ".hidden"], "cannot be the name of a file"),
    ] {
        let output = cert(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(text(&output.stderr).contains(why), "{}", text(&output.stderr));
    }
    assert_eq!(fs::read(folder.0.join("certs/ca.pem")).expect("it is there"), before);
    // What is made can be used at once.
    folder.write(
        "a.toml",
        "[[listener]]\naddress = '127.0.0.1:1'\ntls_certificate = ['certs/server.pem']\ntls_key = ['certs/server.key']\n\
         client_auth = 'required'\nclient_ca = 'certs/ca.pem'\nclient_identity = 'common_name'\n",
    );
    let output = folder.waypost().args(["check", "-c", "a.toml"]).output().expect("it runs");
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
}

#[test]
fn check_touches_nothing() {
    let folder = Folder::new();
    let output = folder.waypost().args(["check", "--data-dir", "data"]).output().expect("it runs");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(fs::read_dir(&folder.0).expect("the folder is there").count(), 0);
}

#[test]
fn check_notes_what_is_allowed_and_yet_probably_not_meant() {
    let folder = Folder::new();
    folder.write("a.toml", "[limits]\nretained_size_max = '1MiB'\n");
    let output = folder.waypost().args(["check", "-c", "a.toml"]).output().expect("it runs");
    assert_eq!(output.status.code(), Some(0));
    let note = "note: limits.retained_size_max is 1MiB, less than one packet of limits.packet_size_max, 16MiB: the largest messages will not fit";
    assert_eq!(text(&output.stdout).lines().last(), Some(note));
}

// acl

const ACL: &str = "user alice\ntopic readwrite a/#\ntopic deny a/secret\npattern read dev/%c/#\n";

#[test]
fn acl_check_says_how_many_rules_or_every_fault() {
    let folder = Folder::new();
    folder.write("acl", ACL);
    folder.write("acl.toml", include_str!("../config/acl.toml"));
    folder.write("wrong", "topic red a\nuser\n");
    folder.write("wrong.toml", "[user.a]\nallow = { pubish = 'a' }\n");
    let run = |arguments: &[&str]| {
        let output = folder.waypost().args(["acl", "check"]).args(arguments).output().expect("it runs");
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    assert_eq!(
        run(&["acl", "acl.toml"]),
        (Some(0), "acl, acl.toml: valid; 13 rules, 2 bans\n".to_owned(), String::new())
    );
    let (code, stdout, stderr) = run(&["wrong", "wrong.toml"]);
    assert_eq!((code, stdout), (Some(2), String::new()));
    let places: Vec<&str> = stderr.lines().map(|line| line.split(": ").next().unwrap_or_default()).collect();
    assert_eq!(places, ["wrong:1", "wrong:2", "wrong.toml:2:9", "wrong.toml:2:11"], "{stderr}");
    let (code, _, stderr) = run(&["gone"]);
    assert_eq!(code, Some(2));
    assert_eq!(
        stderr,
        "the rule file gone cannot be read: there is no such file; see acl.files and listener.acl_files\n"
    );
}

#[test]
fn a_rule_file_that_is_a_pipe_is_not_waited_for() {
    let folder = Folder::new();
    assert!(Command::new("mkfifo").arg(folder.0.join("pipe")).status().expect("mkfifo is there").success());
    folder.write("waypost.toml", "[acl]\nfiles = ['pipe']\n");
    for arguments in [&["acl", "check", "pipe"][..], &["check", "-c", "waypost.toml"], &["-c", "waypost.toml"]] {
        let output = folder.waypost().args(arguments).output().expect("it runs");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let stderr = text(&output.stderr);
        assert!(stderr.contains("the rule file pipe cannot be read: it is no regular file"), "{arguments:?}: {stderr}");
    }
}

#[test]
fn acl_explain_says_which_rule_and_exits_by_the_verdict() {
    let folder = Folder::new();
    folder.write("acl", ACL);
    folder.write("waypost.toml", "[acl]\nfiles = ['acl']\n");
    folder.write("lenient.toml", "[acl]\nfiles = ['acl']\nsubscribe = 'lenient'\n");
    folder.write("open.toml", "");
    for (config, question, code, answer) in [
        (
            "waypost.toml",
            &["--user", "alice", "--publish", "a/b"][..],
            0,
            "allowed by acl:2 (user alice): topic readwrite a/#\n",
        ),
        (
            "waypost.toml",
            &["--user", "alice", "--receive", "a/secret"],
            1,
            "denied by acl:3 (user alice): topic deny a/secret\n",
        ),
        (
            "waypost.toml",
            &["--user", "bob", "--publish", "a/b", "--qos", "1", "--retain"],
            1,
            "denied: no rule allows it\n",
        ),
        (
            "waypost.toml",
            &["--client", "c7", "--subscribe", "$share/g/dev/c7/#"],
            0,
            "allowed by acl:4 (everyone): pattern read dev/%c/#\n",
        ),
        (
            "waypost.toml",
            &["--user", "alice", "--subscribe", "#"],
            1,
            "denied: no rule allows all topics of the filter; some are allowed by acl:2 (user alice): topic readwrite a/# (see acl.subscribe)\n",
        ),
        (
            "lenient.toml",
            &["--user", "alice", "--subscribe", "#"],
            0,
            "allowed: acl.subscribe is \"lenient\"; each message is judged when it is delivered\n",
        ),
        ("open.toml", &["--publish", "a"], 0, "allowed: there are no rules, so everything is allowed\n"),
        ("open.toml", &["--publish", "$SYS/a"], 1, "denied: topics that begin with $ belong to the broker\n"),
    ] {
        let output = folder.waypost().args(["acl", "explain", "-c", config]).args(question).output().expect("it runs");
        let found = (output.status.code(), text(&output.stdout), text(&output.stderr));
        assert_eq!(found, (Some(code), answer.to_owned(), String::new()), "{question:?}");
    }
    for wrong in [
        &["--publish", "a/+"][..],
        &["--subscribe", "a#"],
        &[],
        &["--publish", "a", "--receive", "a"],
        &["--receive", "a", "--qos", "1"],
        &["--publish", "a", "--qos", "3"],
    ] {
        let output = folder.waypost().args(["acl", "explain", "--file", "acl"]).args(wrong).output().expect("it runs");
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(2), String::new()), "{wrong:?}");
    }
}

#[test]
fn j15_acl_explain_says_who_is_banned_and_by_which_line() {
    let folder = Folder::new();
    folder.write(
        "acl.toml",
        "[everyone]\nallow = { all = '#' }\n[[ban]]\nuser = 'mallory'\nreason = 'too loud'\n\
         [[ban]]\naddress = '10.0.0.0/8'\nuntil = 2999-12-31T23:59:59Z\n[[ban]]\nclient_id = 'c'\nuntil = 2020-01-01T00:00:00Z\n",
    );
    folder.write("waypost.toml", "[acl]\nfiles = ['acl.toml']\n");
    for (question, code, answer) in [
        (&["--user", "mallory"][..], 1, "denied: banned by acl.toml:4: user = 'mallory': too loud\n"),
        (
            &["--address", "10.1.2.3"],
            1,
            "denied: banned by acl.toml:7: address = '10.0.0.0/8' until 2999-12-31T23:59:59Z\n",
        ),
        (&["--client", "c"], 0, "allowed by acl.toml:2 (everyone): allow = { all = '#' }\n"),
    ] {
        for whence in [["-c", "waypost.toml"], ["--file", "acl.toml"]] {
            let output =
                folder.waypost().args(["acl", "explain", "--publish", "x"]).args(whence).args(question).output();
            let output = output.expect("it runs");
            assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(code), answer));
        }
    }
}

#[test]
fn acl_asks_the_rules_of_the_listener_that_is_named() {
    let folder = Folder::new();
    folder.write("acl", ACL);
    folder.write("inner.toml", "[user.alice]\nallow = { all = 'in/#' }\n");
    folder.write(
        "waypost.toml",
        "[[listener]]\naddress = '127.0.0.1:1'\n[[listener]]\naddress = '127.0.0.1:2'\nname = 'inner'\nacl_files = ['inner.toml']\n\
         [[listener]]\naddress = '127.0.0.1:3'\nname = 'open'\nacl_files = []\n[acl]\nfiles = ['acl']\n",
    );
    let run = |arguments: &[&str]| {
        let output = folder.waypost().arg("acl").args(arguments).output().expect("it runs");
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let ask = |command: &[&str], listener: &str| {
        let (code, stdout, stderr) = run(&[command, &["-c", "waypost.toml", "--listener", listener]].concat());
        assert_eq!(stderr, "");
        (code, stdout)
    };
    let explain = &["explain", "--user", "alice", "--publish", "in/x"];
    assert_eq!(ask(explain, "127.0.0.1:1"), (Some(1), "denied: no rule allows it\n".to_owned()));
    let own = "allowed by inner.toml:2 (user alice): allow = { all = 'in/#' }\n";
    assert_eq!(ask(explain, "inner"), (Some(0), own.to_owned()));
    assert_eq!(ask(explain, "open"), (Some(0), "allowed: there are no rules, so everything is allowed\n".to_owned()));
    let who = &["who", "--topic", "in/x"];
    let nobody = "no rule is about this topic: nobody may publish to it or receive it\n";
    assert_eq!(ask(who, "127.0.0.1:1"), (Some(0), nobody.to_owned()));
    let own = "allow  publish, subscribe  inner.toml:2 (user alice): allow = { all = 'in/#' }\n";
    assert_eq!(ask(who, "inner"), (Some(0), own.to_owned()));
    assert_eq!(ask(who, "open"), (Some(0), "there are no rules: everybody may do everything\n".to_owned()));
    for (listener, fault) in [
        (&["--listener", "outer"][..], "there is no listener \"outer\"; there are: 127.0.0.1:1, inner, open\n"),
        (
            &[],
            "not all listeners have the same rules; say which one is meant, with --listener: 127.0.0.1:1, inner, open\n",
        ),
    ] {
        for command in [&explain[..], who] {
            let (code, _, stderr) = run(&[command, &["-c", "waypost.toml"], listener].concat());
            assert_eq!((code, stderr.as_str()), (Some(2), fault));
        }
    }
    let output = folder.waypost().args(["check", "-c", "waypost.toml"]).output().expect("it runs");
    assert!(text(&output.stdout).contains("; 4 access rules\n"), "{}", text(&output.stdout));
    folder.write("acl", "topic read a/#\n");
    folder.write("inner.toml", "[everyone]\nallow = { all = 'a', listener = ['inner', 'open', 'elsewhere'] }\n");
    let output = folder.waypost().args(["check", "-c", "waypost.toml"]).output().expect("it runs");
    assert!(
        text(&output.stdout).ends_with(
            "note: rules ask for a listener \"elsewhere\", which there is none of; see listener.name\n\
             note: rules that are not for the listener \"open\" ask for it; see listener.acl_files\n"
        ),
        "{}",
        text(&output.stdout)
    );
}

#[test]
fn acl_who_lists_the_rules_about_a_topic() {
    let folder = Folder::new();
    folder.write("acl", ACL);
    for (topic, answer) in [
        (
            "a/secret",
            "allow  publish, subscribe  acl:2 (user alice): topic readwrite a/#\ndeny  publish, subscribe  acl:3 (user alice): topic deny a/secret\n",
        ),
        ("dev/x/y", "allow  subscribe  acl:4 (everyone): pattern read dev/%c/#\n"),
        ("else", "no rule is about this topic: nobody may publish to it or receive it\n"),
    ] {
        let output =
            folder.waypost().args(["acl", "who", "--file", "acl", "--topic", topic]).output().expect("it runs");
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), answer.to_owned()));
    }
}

#[test]
fn faults_of_rule_files_stop_the_start_and_the_check() {
    let folder = Folder::new();
    folder.write("acl", "topic read a/#/b\n");
    folder.write("waypost.toml", "[acl]\nfiles = ['acl']\n");
    for command in ["check", "run"] {
        let output = folder.waypost().args([command, "-c", "waypost.toml"]).output().expect("it runs");
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(2), String::new()), "{command}");
        let fault = "acl:1: the topic \"a/#/b\" has levels after #, which must be the last";
        assert!(text(&output.stderr).contains(fault), "{command}: {}", text(&output.stderr));
    }
    folder.write("acl", ACL);
    let output = folder.waypost().args(["check", "-c", "waypost.toml"]).output().expect("it runs");
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stdout).ends_with("data in waypost-data; 3 access rules\n"), "{}", text(&output.stdout));
    folder.write("acl.toml", "[everyone]\nallow = { all = 'a', listener = ['127.0.0.1:1883', 'insde'] }\n");
    folder.write("waypost.toml", "[acl]\nfiles = ['acl.toml']\n");
    let output = folder.waypost().args(["check", "-c", "waypost.toml"]).output().expect("it runs");
    let note = "note: rules ask for a listener \"insde\", which there is none of; see listener.name\n";
    assert!(text(&output.stdout).ends_with(note), "{}", text(&output.stdout));
}

// Wrong settings

#[test]
fn every_fault_is_reported_and_the_exit_code_is_2_to_check_and_to_run() {
    let folder = Folder::new();
    folder.write("a.toml", "[limits]\nrecieve_maximum = 5\nconnect_timeout = '5x'\n");
    let errors = "a.toml:2:1: unknown key \"recieve_maximum\" in [limits]; did you mean \"receive_maximum\"?\n\
                  a.toml:3:19: limits.connect_timeout is \"5x\", which is not a duration; write for example \"5s\", \"1m30s\" or \"250ms\"\n\
                  WAYPOST__LOG__LEVEL: log.level is \"loud\"; allowed: \"error\", \"warn\", \"info\", \"debug\" or \"trace\"\n";
    for command in [&["check"][..], &["run"], &[]] {
        let output = folder
            .waypost()
            .args(command)
            .args(["-c", "a.toml"])
            .env("WAYPOST__LOG__LEVEL", "loud")
            .output()
            .expect("it runs");
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(2), String::new()), "{command:?}");
        assert_eq!(text(&output.stderr), errors, "{command:?}");
    }
    assert_eq!(fs::read_dir(&folder.0).expect("the folder is there").count(), 1, "nothing but the file");
}

#[test]
fn files_that_cannot_be_read_are_faults() {
    let folder = Folder::new();
    for (path, error) in
        [("gone.toml", "gone.toml: cannot be read: there is no such file\n"), (".", ".: is a folder; name a file\n")]
    {
        let output = folder.waypost().args(["-c", path]).output().expect("it runs");
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(2), error.to_owned()));
    }
}

#[test]
fn wrong_arguments_are_faults() {
    let folder = Folder::new();
    for (arguments, part) in [
        (&["--prot", "1"][..], "'--port'"),
        (&["-p", "65536"], "65536"),
        (&["-p", "-1"], "-1"),
        (&["-p", "x"], "invalid value 'x'"),
        (&["-p"], "a value is required"),
        (&["serve"], "unrecognized subcommand 'serve'"),
        (&["-c", "a", "-c", "b"], "cannot be used multiple times"),
        (&["config"], "Usage:"),
        (&["-v", "check"], "Usage:"),
    ] {
        let output = folder.waypost().args(arguments).output().expect("it runs");
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(2), String::new()), "{arguments:?}");
        assert!(text(&output.stderr).contains(part), "{arguments:?}: {}", text(&output.stderr));
    }
}

#[test]
fn the_port_flag_and_a_listener_in_the_file_contradict_each_other() {
    let folder = Folder::new();
    folder.write("a.toml", "[[listener]]\naddress = '127.0.0.1:1'\n");
    let output = folder.waypost().args(["check", "-c", "a.toml", "-p", "2"]).output().expect("it runs");
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        text(&output.stderr),
        "-p: sets the port of the default listener, but there is a [[listener]] at a.toml:1:1; set the port in its address\n"
    );
    let output = folder.waypost().args(["check", "-p", "2"]).output().expect("it runs");
    assert!(text(&output.stdout).contains("listens on 127.0.0.1:2 "), "{}", text(&output.stdout));
}

// config reference

#[test]
fn config_reference_prints_the_reference() {
    let output = waypost().args(["config", "reference"]).output().expect("it runs");
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stdout) == waypost::config::reference(), "it prints something else");
}

// Broken outputs

#[test]
fn a_reader_that_leaves_early_is_no_failure() {
    let mut child =
        waypost().args(["config", "reference"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
}

#[test]
fn an_output_that_is_full_is_a_failure() {
    let full = File::options().write(true).open("/dev/full").expect("the device is there");
    let output = waypost().args(["config", "reference"]).stdout(full).output().expect("it runs");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).starts_with("cannot write to standard output: "), "{}", text(&output.stderr));
}

#[test]
fn faults_keep_their_exit_code_when_standard_error_is_closed() {
    let folder = Folder::new();
    for arguments in [&["-c", "gone.toml"][..], &["check", "-c", "gone.toml"], &["--nonsense"]] {
        let mut child = folder.waypost().args(arguments).stderr(Stdio::piped()).spawn().expect("it runs");
        drop(child.stderr.take());
        assert_eq!(child.wait().expect("it ends").code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn a_broker_whose_standard_error_is_closed_runs_on() {
    for closed in [true, false] {
        let folder = Folder::new();
        let port = port::free_port();
        let mut broker = folder.waypost();
        broker
            .args(["-vv", "--data-dir", "data", "-p", &port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut broker = Running(broker.spawn().expect("it runs"));
        let stderr = broker.0.stderr.take();
        if closed {
            drop(stderr);
        }
        broker.serves(port);
        for _ in 0..20 {
            // Each connection is logged, at the latest when it is closed.
            TcpStream::connect((Ipv4Addr::LOCALHOST, port)).and_then(|mut client| client.write_all(b"nonsense")).ok();
        }
        broker.serves(port);
    }
}

// Running

#[test]
fn a_running_broker_logs_lines_of_time_level_and_message_to_standard_error() {
    let folder = Folder::new();
    folder.write("a.toml", "[limits]\nretained_size_max = '1MiB'\n");
    let port = port::free_port();
    let mut broker = folder.waypost();
    broker.args(["-c", "a.toml", "--data-dir", "data", "-p", &port.to_string()]);
    let mut broker = Running(broker.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it runs"));
    let line = broker.first_line();
    let (time, rest) = line.split_once(' ').expect("a time, then the rest");
    assert!(time.len() == 24 && time.ends_with('Z'), "{line}");
    assert!(rest.starts_with("WARN limits.retained_size_max is 1MiB, less than one packet"), "{line}");
    broker.serves(port);
}

#[test]
fn a_running_broker_logs_json_when_it_is_told_to() {
    let folder = Folder::new();
    let port = port::free_port();
    let mut broker = folder.waypost();
    broker.args(["--data-dir", "data", "-p", &port.to_string()]).env("WAYPOST__LOG__FORMAT", "json");
    broker.env("WAYPOST__LIMITS__RETAINED_SIZE_MAX", "1MiB").stdout(Stdio::null()).stderr(Stdio::piped());
    let mut broker = Running(broker.spawn().expect("it runs"));
    let line = broker.first_line();
    assert!(line.starts_with("{\"timestamp\":\"") && line.ends_with("}\n"), "{line}");
    assert!(line.contains("\"level\":\"WARN\",\"message\":\"limits.retained_size_max is 1MiB"), "{line}");
    broker.serves(port);
}

// What is in a data folder

#[test]
fn a_store_is_checked_counted_and_moved() {
    let folder = Folder::new();
    {
        let dir = folder.0.join("from");
        let (store, _) = Store::open(&dir, Options::default(), &mut |_, _| ()).expect("the folder is ours");
        let mut batch = Batch::new();
        batch.blob(&[b"a message"]);
        batch.put(3, b"a/topic", b"", BlobRef::This);
        batch.enter(7, BlobRef::This, 1, b"");
        store.journal().append(&batch, Safety::Synced);
        store.commit(&|| ()).expect("the disk works");
    }
    let run = |arguments: &[&str]| {
        let output = folder.waypost().arg("store").args(arguments).output().expect("it runs");
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let whole = "1 rows, 1 queue entries and 1 messages, 16 bytes in all\n";
    assert_eq!(run(&["check", "--data-dir", "from"]), (Some(0), whole.to_owned(), String::new()));
    let (code, stats, _) = run(&["stats", "--data-dir", "from"]);
    assert!(code == Some(0) && stats.contains("\nretained messages: 1\n"), "{stats}");
    assert!(stats.contains("\ndeliveries that wait: 1\n") && stats.ends_with(whole), "{stats}");
    assert_eq!(run(&["export", "--data-dir", "from", "lines"]).0, Some(0));
    assert_eq!(run(&["import", "--data-dir", "to", "lines"]), (Some(0), whole.to_owned(), String::new()));
    let (_, again, _) = run(&["export", "--data-dir", "to"]);
    assert_eq!(again, fs::read_to_string(folder.0.join("lines")).expect("it was written"));
    // Not over what is there, not out of what is not, and not while somebody has it.
    let (code, _, why) = run(&["import", "--data-dir", "to", "lines"]);
    assert!(code == Some(1) && why.contains("there is a store in this directory already"), "{why}");
    let (code, _, why) = run(&["check", "--data-dir", "nowhere"]);
    assert!(code == Some(1) && why.contains("there is no store in this folder"), "{why}");
    assert!(!folder.0.join("nowhere").exists());
    let held = Store::open(&folder.0.join("to"), Options::default(), &mut |_, _| ()).expect("nobody has it");
    let (code, _, why) = run(&["stats", "--data-dir", "to"]);
    assert!(code == Some(1) && why.contains(&format!("is in use by process {}", std::process::id())), "{why}");
    drop(held);
}

// What the tests are written with

/// The binary without any settings of whoever runs the tests.
fn waypost() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_waypost"));
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"WAYPOST__") {
            command.env_remove(name);
        }
    }
    // Several run at a time, and one of them would have the page.
    command.env("WAYPOST__ADMIN__ADDRESS", "off").env("WAYPOST__STORE__DURABILITY", "memory").stdin(Stdio::null());
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("all that it prints is UTF-8")
}

/// A broker that is killed at the end of its test.
struct Running(Child);

impl Running {
    /// Waits until it accepts connections.
    #[track_caller]
    fn serves(&mut self, port: u16) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            if let Some(status) = self.0.try_wait().expect("it can be asked") {
                panic!("it has ended with {status}");
            }
            assert!(Instant::now() < deadline, "it does not serve");
            thread::yield_now();
        }
    }

    /// The first line of its log, which it keeps open.
    fn first_line(&mut self) -> String {
        let mut stderr = BufReader::new(self.0.stderr.take().expect("the log is piped"));
        let mut line = String::new();
        stderr.read_line(&mut line).expect("the log is UTF-8");
        self.0.stderr = Some(stderr.into_inner());
        line
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A folder of this test alone; removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("cli-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).expect("a folder for the test");
        Self(path)
    }

    fn write(&self, name: &str, content: &str) {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().expect("it lies in the folder")).expect("a folder");
        fs::write(path, content).expect("a file");
    }

    /// The binary with this folder as its working directory.
    fn waypost(&self) -> Command {
        let mut command = waypost();
        command.current_dir(&self.0);
        command
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed stays in the build folder.
        let _ = fs::remove_dir_all(&self.0);
    }
}
