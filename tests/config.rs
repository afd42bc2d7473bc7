//! What a configuration means and what is refused, through files on disk as an operator has them.
//! Each fault is compared with the whole text of its error: place, what was found, what is allowed.

use proptest::prelude::*;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use waypost::config::{
    Config, Fallback, Flags, Kind, Method, SECTIONS, Section, SharedStrategy, Sources, Version, reference,
};
use waypost::log::{Format, Level};

// Defaults

#[test]
fn without_any_configuration_this_machine_is_served_and_nobody_else() {
    let config = Config::default();
    let addresses: Vec<String> = config.listeners.iter().map(|listener| listener.address.to_string()).collect();
    assert_eq!(addresses, ["127.0.0.1:1883"]);
    let listener = &config.listeners[0];
    assert!(listener.lets_anyone_in() && listener.methods().is_empty());
    assert_eq!((listener.connections_max, listener.backlog, &listener.interface), (100_000, 1024, &None));
    assert_eq!(listener.versions, [Version::V3_1, Version::V3_1_1, Version::V5]);
    assert_eq!(config.node.data_dir, Path::new("waypost-data"));
    assert_eq!((config.node.shards, config.node.memory_budget), (0, 1 << 30));
    assert_eq!(config.limits.packet_size_max, 16 << 20);
    assert_eq!(config.limits.connect_timeout, Duration::from_secs(10));
    assert_eq!(config.limits.session_expiry_max, Duration::from_secs(7 * 24 * 3600));
    assert_eq!((config.limits.receive_maximum, config.limits.topic_alias_maximum), (1000, 16));
    assert_eq!((config.mqtt.maximum_qos, config.mqtt.strict_characters, config.mqtt.bridge_bit), (2, false, true));
    assert_eq!(config.mqtt.shared_strategy, SharedStrategy::RoundRobin);
    assert_eq!((config.shared_groups.len(), config.sys.interval), (0, Duration::from_secs(10)));
    assert_eq!((config.log.level, config.log.format), (Level::Info, Format::Text));
    assert!(config.notes().is_empty());
}

// The reference and the file as shipped

#[test]
fn the_committed_reference_is_what_the_code_says() {
    let path = repository("config/reference.toml");
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, reference()).expect("config/reference.toml can be written");
    }
    let committed = fs::read_to_string(&path).expect("config/reference.toml is there");
    assert!(
        committed == reference(),
        "config/reference.toml is stale; write it anew with: UPDATE=1 cargo test --test config"
    );
}

#[test]
fn the_reference_holds_every_key_commented_out() {
    let folder = Folder::new();
    folder.write("waypost.toml", reference());
    assert_same_settings(&folder.load().expect("the reference is valid"), &Config::default());
    let lines: Vec<String> = reference().lines().map(str::to_owned).collect();
    for section in SECTIONS {
        for key in section.keys {
            let setting = format!("#{} = ", key.name);
            assert!(lines.iter().any(|line| line.starts_with(&setting)), "{}.{}", section.name, key.name);
        }
    }
}

#[test]
fn the_reference_says_the_defaults_when_everything_in_it_is_uncommented() {
    let folder = Folder::new();
    folder.write("waypost.toml", uncommented(&reference()));
    let config = folder.load().expect("the uncommented reference is valid");
    assert_eq!(config.listeners.len(), 1);
    assert_eq!(config.listeners[0].interface.as_deref(), Some("eth0"));
    assert_eq!(config.listeners[0].client_ca.as_deref(), Some(Path::new("certs/ca.pem")));
    assert_eq!(config.shared_groups[0].name, "workers");
    assert_eq!(config.shared_groups[0].strategy, SharedStrategy::LeastInFlight);
    let methods = [Method::Password];
    assert_eq!((config.listeners[0].methods(), config.listeners[0].allow_anonymous), (&methods[..], Some(true)));
    assert!(config.password.file.is_some() && config.jwt.key_file.is_some() && config.http_login.url.is_some());
    let mut others = config.clone();
    let default = Config::default();
    (others.password, others.jwt, others.http_login) = (default.password, default.jwt, default.http_login);
    others.admin = default.admin;
    let listener = &mut others.listeners[0];
    (listener.authentication, listener.allow_anonymous) = (None, None);
    (listener.interface, listener.name, listener.websocket_path) = (None, None, None);
    (listener.password_file, listener.acl_files, listener.client_ca_folder) = (None, None, None);
    (listener.client_ca, listener.unix_owner, listener.unix_group) = (None, None, None);
    others.shared_groups.clear();
    others.store_rules.clear();
    assert_same_settings(&others, &Config::default());
}

/// Settings are `#key = value` and headers `#[[name]]`; prose has a space after its mark.
fn uncommented(reference: &str) -> String {
    let line = |line: &str| match line.strip_prefix('#') {
        Some(setting) if !setting.is_empty() && !setting.starts_with(' ') => setting.to_owned() + "\n",
        _ => line.to_owned() + "\n",
    };
    reference.lines().map(line).collect()
}

#[test]
fn the_file_as_shipped_is_valid_and_so_is_all_that_it_suggests() {
    let shipped = fs::read_to_string(repository("config/broker.toml")).expect("config/broker.toml is there");
    let folder = Folder::new();
    folder.write("waypost.toml", &shipped);
    let mut loaded = folder.load().expect("it is valid");
    assert_eq!(loaded.listeners[0].allow_anonymous.take(), Some(true), "it says what is the default");
    assert_same_settings(&loaded, &Config::default());
    folder.write("waypost.toml", uncommented(&shipped));
    assert_eq!(folder.load().expect("it is valid").listeners.len(), 2);
}

#[test]
fn the_secure_file_lets_in_certificates_only() {
    let folder = Folder::new();
    folder.write("waypost.toml", fs::read_to_string(repository("config/secure.toml")).expect("config/secure.toml"));
    let loaded = folder.load().expect("it is valid");
    assert!(loaded.listeners.iter().all(|listener| !listener.lets_anyone_in()));
    assert_eq!(loaded.listeners[0].methods(), [Method::Certificate]);
}

// Layers

#[test]
fn later_layers_win() {
    let folder = Folder::new();
    folder.write(
        "waypost.toml",
        "[node]\nshards = 1\ndata_dir = 'a'\n[limits]\nreceive_maximum = 1\nin_flight_max = 1\n[log]\nlevel = 'warn'\n",
    );
    folder.write("waypost.toml.d/20-second.toml", "[limits]\nreceive_maximum = 3\n");
    folder.write("waypost.toml.d/10-first.toml", "[limits]\nreceive_maximum = 2\nin_flight_max = 2\n");
    let sources = Sources {
        environment: environment(&[("WAYPOST__NODE__DATA_DIR", "b"), ("WAYPOST__LIMITS__CONNECT_TIMEOUT", "1m30s")]),
        flags: Flags { port: Some(1999), data_dir: Some(PathBuf::from("c")), level: Some(Level::Debug) },
        ..folder.sources()
    };
    let config = Config::load(&sources).expect("all layers are valid");
    assert_eq!(config.node.shards, 1, "from the file");
    assert_eq!(
        (config.limits.in_flight_max, config.limits.receive_maximum),
        (2, 3),
        "from the drop-in folder, in the order of names"
    );
    assert_eq!(config.limits.connect_timeout, Duration::from_secs(90), "from the environment");
    assert_eq!((config.node.data_dir.as_path(), config.log.level), (Path::new("c"), Level::Debug), "from the flags");
    assert_eq!(config.listeners[0].address.to_string(), "127.0.0.1:1999");
    let read: Vec<_> =
        config.files.iter().map(|file| file.strip_prefix(&folder.0).expect("it lies in the folder")).collect();
    assert_eq!(read, ["waypost.toml", "waypost.toml.d/10-first.toml", "waypost.toml.d/20-second.toml"].map(Path::new));
    assert_eq!(config.reload().expect("nothing has changed"), config);
}

#[test]
fn a_reload_reads_the_same_sources_again_and_an_error_leaves_the_old_settings() {
    let folder = Folder::new();
    folder.write("waypost.toml", "[node]\nshards = 1\n");
    let config = folder.load().expect("it is valid");
    folder.write("waypost.toml", "[node]\nshards = 2\n");
    assert_eq!(config.reload().expect("it is valid").node.shards, 2);
    folder.write("waypost.toml", "[node]\nshards = x\n");
    assert!(config.reload().is_err());
    assert_eq!(config.node.shards, 1);
}

#[test]
fn drop_in_files_add_their_listeners() {
    let folder = Folder::new();
    folder.write("waypost.toml", "[[listener]]\naddress = '127.0.0.1:1'\n");
    folder.write(
        "waypost.toml.d/a.toml",
        "[[listener]]\naddress = '127.0.0.1:2'\n[[listener]]\naddress = '127.0.0.1:3'\n",
    );
    folder.write("waypost.toml.d/b.toml", "listener = [{ address = '127.0.0.1:4' }]\n");
    assert_eq!(
        addresses(&folder.load().expect("it is valid")),
        ["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3", "127.0.0.1:4"]
    );
}

#[test]
fn only_toml_files_of_the_drop_in_folder_are_read() {
    let folder = Folder::new();
    folder.write("waypost.toml", "");
    for name in ["README", "a.toml~", "a.toml.bak", ".hidden.toml", ".toml"] {
        folder.write(&format!("waypost.toml.d/{name}"), "nonsense");
    }
    assert_eq!(folder.load().expect("none of them counts").files.len(), 1);
    folder.write("waypost.toml.d/a.toml", "nonsense");
    assert_eq!(folder.errors(), ["waypost.toml.d/a.toml:1:9: not TOML: key with no value, expected `=`"]);
}

#[test]
fn variables_reach_every_kind_of_key_and_the_tables_of_lists() {
    let folder = Folder::new();
    folder.write("waypost.toml", "[[listener]]\naddress = '127.0.0.1:1'\nbacklog = 5\n");
    let config = folder
        .load_with(&[
            ("WAYPOST__LISTENER__0__ADDRESS", "0.0.0.0:2"),
            ("WAYPOST__LISTENER__0__ALLOW_ANONYMOUS", "false"),
            ("WAYPOST__LISTENER__1__ADDRESS", "[::1]:3"),
            ("WAYPOST__LISTENER__1__VERSIONS", "5.0, 3.1.1"),
            ("WAYPOST__LIMITS__PACKET_SIZE_MAX", "1MiB"),
            ("WAYPOST__LIMITS__QUEUE_SIZE_MAX", "1048576"),
            ("WAYPOST__LIMITS__RECEIVE_MAXIMUM", "7"),
            ("WAYPOST__MQTT__BRIDGE_BIT", "false"),
            ("WAYPOST__MQTT__RESPONSE_INFORMATION", "answers/\"quoted\""),
            ("WAYPOST__MQTT__SHARED_STRATEGY", "sticky"),
            ("WAYPOST__SYS__INTERVAL", "0"),
            ("WAYPOST_LOAD", "another program's"),
            ("PATH", "/bin"),
        ])
        .expect("all variables are valid");
    assert_eq!(addresses(&config), ["0.0.0.0:2", "[::1]:3"]);
    assert_eq!((config.listeners[0].backlog, config.listeners[0].allow_anonymous), (5, Some(false)));
    assert_eq!(config.listeners[1].versions, [Version::V5, Version::V3_1_1]);
    assert_eq!((config.limits.packet_size_max, config.limits.queue_size_max), (1 << 20, 1 << 20));
    assert_eq!((config.limits.receive_maximum, config.mqtt.bridge_bit), (7, false));
    assert_eq!(config.mqtt.response_information, "answers/\"quoted\"");
    assert_eq!((config.mqtt.shared_strategy, config.sys.interval), (SharedStrategy::Sticky, Duration::ZERO));
}

#[test]
fn eleven_listeners_can_come_from_the_environment_in_the_order_of_their_numbers() {
    let variables: Vec<(String, String)> =
        (0..11).map(|n| (format!("WAYPOST__LISTENER__{n}__ADDRESS"), format!("127.0.0.1:{}", 10 + n))).collect();
    let variables: Vec<(&str, &str)> = variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let config =
        Config::load(&Sources { environment: environment(&variables), ..Sources::default() }).expect("it is valid");
    assert_eq!(addresses(&config).last().map(String::as_str), Some("127.0.0.1:20"));
}

// Faults of values

#[test]
fn t06_unknown_keys_and_sections_are_errors_that_name_the_nearest() {
    refuses(
        "receive_maximum = 4\nshard = 1\n[limits]\n  recieve_maximum = 5\nbridge_bit = true\n[limit]\nx = 1\n[[listeners]]\n[nonsense]\n",
        &[
            "waypost.toml:1:1: unknown key \"receive_maximum\" outside of a section; it belongs in [limits]",
            "waypost.toml:2:1: unknown key \"shard\" outside of a section; sections: [node], [store], [[store_rule]], [[listener]], [limits], [mqtt], [acl], [[shared_group]], [password], [jwt], [http_login], [sys], [admin], [log]",
            "waypost.toml:4:3: unknown key \"recieve_maximum\" in [limits]; did you mean \"receive_maximum\"?",
            "waypost.toml:5:1: unknown key \"bridge_bit\" in [limits]; it belongs in [mqtt]",
            "waypost.toml:6:2: unknown section \"limit\"; did you mean [limits]?",
            "waypost.toml:8:3: unknown section \"listeners\"; did you mean [[listener]]?",
            "waypost.toml:9:2: unknown section \"nonsense\"; known sections: [node], [store], [[store_rule]], [[listener]], [limits], [mqtt], [acl], [[shared_group]], [password], [jwt], [http_login], [sys], [admin], [log]",
        ],
    );
    refuses("[sys]\ncolour = 1\n", &["waypost.toml:2:1: unknown key \"colour\" in [sys]; known keys: interval"]);
    refuses(
        "[[listener]]\naddress = '127.0.0.1:1'\n[listener.tls]\n",
        &[
            "waypost.toml:3:11: unknown key \"tls\" in [[listener]]; known keys: address, name, protocol, interface, versions, authentication, allow_anonymous, password_file, acl_files, connections_max, backlog, tls_certificate, tls_key, tls_key_exposed, tls_version_min, client_auth, client_ca, client_ca_folder, client_crl, client_identity, client_id_bound, websocket_origins, websocket_path, unix_mode, unix_owner, unix_group, proxy_protocol, proxy_trusted",
        ],
    );
}

#[test]
fn t06_values_of_the_wrong_form_say_what_to_write() {
    refuses(
        "[limits]\nconnect_timeout = \"5x\"\nkeep_alive_max = 10\npacket_size_max = \"1K\"\nreceive_maximum = \"10\"\n\
         in_flight_max = 1.5\ntopic_levels_max = nan\nsession_expiry_max = inf\nwrite_stall_max = { s = 1 }\nqueue_size_max = [1]\n\
         [mqtt]\nbridge_bit = \"true\"\nretain_available = 1\nresponse_information = 2026-11-22\n[log]\nlevel = 5\n",
        &[
            "waypost.toml:2:19: limits.connect_timeout is \"5x\", which is not a duration; write for example \"5s\", \"1m30s\" or \"250ms\"",
            "waypost.toml:3:18: limits.keep_alive_max is 10, which has no unit; write for example \"5s\", \"1m30s\" or \"250ms\"",
            "waypost.toml:4:19: limits.packet_size_max is \"1K\", which is not a size in bytes; write for example \"64KiB\", \"8MB\" or 65536",
            "waypost.toml:5:19: limits.receive_maximum is \"10\", which is text; write it without the quotation marks",
            "waypost.toml:6:17: limits.in_flight_max is 1.5, which is not a whole number; write for example 10",
            "waypost.toml:7:20: limits.topic_levels_max is nan, which is not a whole number; write for example 10",
            "waypost.toml:8:22: limits.session_expiry_max is inf, which is not a duration; write for example \"5s\", \"1m30s\" or \"250ms\"",
            "waypost.toml:9:19: limits.write_stall_max is a table, which is not a duration; write for example \"5s\", \"1m30s\" or \"250ms\"",
            "waypost.toml:10:18: limits.queue_size_max is [1], which is not a size in bytes; write for example \"64KiB\", \"8MB\" or 65536",
            "waypost.toml:12:14: mqtt.bridge_bit is \"true\", which is text; write it without the quotation marks",
            "waypost.toml:13:20: mqtt.retain_available is 1, which is not true or false; write for example true",
            "waypost.toml:14:24: mqtt.response_information is 2026-11-22, which is not text; write for example \"some text\"",
            "waypost.toml:16:9: log.level is 5, which is not text; write for example \"error\"",
        ],
    );
}

#[test]
fn t06_values_out_of_bounds_say_the_bounds() {
    refuses(
        "[limits]\nreceive_maximum = 0\nin_flight_max = 65_536\nuser_properties_max = -1\nqueue_messages_max = 99999999999999999999999999999999999999999\n\
         connect_timeout = \"1ms\"\nsession_expiry_max = \"999999d\"\nkeep_alive_max = \"0s\"\npacket_size_max = \"1TiB\"\nqueue_size_max = \"99999999999TiB\"\nclient_id_size_max = -5\n\
         [mqtt]\nmaximum_qos = 3\nresponse_information = \"a/#\"\n[log]\nlevel = \"loud\"\n[node]\ndata_dir = \"\"\n",
        &[
            "waypost.toml:2:19: limits.receive_maximum is 0; allowed: 1 to 65535",
            "waypost.toml:3:17: limits.in_flight_max is 65536; allowed: 1 to 65535",
            "waypost.toml:4:23: limits.user_properties_max is -1; allowed: 0 to 65535",
            "waypost.toml:5:22: limits.queue_messages_max is 99999999999999999999999999999999999999999; allowed: 1 to 1000000000",
            "waypost.toml:6:19: limits.connect_timeout is \"1ms\"; allowed: 100ms to 10m",
            "waypost.toml:7:22: limits.session_expiry_max is \"999999d\"; allowed: 0s, or 1s to 49710d",
            "waypost.toml:8:18: limits.keep_alive_max is \"0s\"; allowed: 1s to 18h12m15s",
            "waypost.toml:9:19: limits.packet_size_max is \"1TiB\"; allowed: 128B to 268435460B",
            "waypost.toml:10:18: limits.queue_size_max is \"99999999999TiB\"; allowed: 1KiB to 64TiB",
            "waypost.toml:11:22: limits.client_id_size_max is -5; allowed: 23B to 65535B",
            "waypost.toml:13:15: mqtt.maximum_qos is 3; allowed: 0 to 2",
            "waypost.toml:14:24: mqtt.response_information is \"a/#\"; allowed: 0 to 1024 bytes without control characters and without \"+\" or \"#\"",
            "waypost.toml:16:9: log.level is \"loud\"; allowed: \"error\", \"warn\", \"info\", \"debug\" or \"trace\"",
            "waypost.toml:18:12: node.data_dir is \"\"; allowed: 1 to 4095 bytes without control characters",
        ],
    );
}

#[test]
fn lists_hold_at_least_one_word_and_each_once() {
    for versions in ["[]", "[\"4\"]", "[\"5.0\", \"5.0\"]"] {
        refuses(
            &format!("[[listener]]\naddress = '127.0.0.1:1'\nversions = {versions}\n"),
            &[&format!(
                "waypost.toml:3:12: listener.versions is {versions}; allowed: a list of one or more of \"3.1\", \"3.1.1\" and \"5.0\""
            )],
        );
    }
    refuses(
        "[[listener]]\naddress = '127.0.0.1:1'\nversions = 'all'\n",
        &[
            "waypost.toml:3:12: listener.versions is \"all\", which is not a list of words; write for example [\"3.1\", \"3.1.1\", \"5.0\"]",
        ],
    );
}

#[test]
fn what_an_error_shows_is_cut_and_escaped() {
    let folder = Folder::new();
    folder.write("waypost.toml", format!("[log]\nlevel = \"\\u001b[31m{}\"\n", "x".repeat(7000)));
    let errors = folder.errors();
    assert!(errors[0].starts_with("waypost.toml:2:9: log.level is \"\\u{1b}[31mxxx"), "{errors:?}");
    assert!(errors[0].contains("x…\"; allowed: ") && errors[0].len() < 400, "{errors:?}");
}

// Faults of the form

#[test]
fn t06_a_duplicate_key_is_an_error_and_what_stands_below_is_still_read() {
    refuses(
        "[node]\nshards = 1\nshards = 2\n[log]\nlevel = 'loud'\n[node]\n",
        &[
            "waypost.toml:3:1: duplicate key \"shards\"; each key may be set once",
            "waypost.toml:5:9: log.level is \"loud\"; allowed: \"error\", \"warn\", \"info\", \"debug\" or \"trace\"",
            "waypost.toml:6:2: duplicate key \"node\"; each key may be set once",
        ],
    );
}

#[test]
fn t06_what_is_not_toml_is_an_error_with_its_place() {
    for (content, error) in [
        ("[limits\n", "waypost.toml:1:8: not TOML: unclosed table, expected `]`"),
        ("[limits]\nreceive_maximum 5\n", "waypost.toml:2:17: not TOML: key with no value, expected `=`"),
        ("[limits]\nreceive_maximum = \n", "waypost.toml:2:19: not TOML: the value is missing"),
        (
            "[limits]\nreceive_maximum = 5x\n",
            "waypost.toml:2:19: not TOML: \"5x\" is no value; text needs quotation marks",
        ),
        ("[log]\nlevel = info\n", "waypost.toml:2:9: not TOML: \"info\" is no value; text needs quotation marks"),
        ("[log]\nlevel = \"info\n", "waypost.toml:2:14: not TOML: invalid basic string, expected `\"`"),
    ] {
        refuses(content, &[error]);
    }
}

#[test]
fn nothing_is_said_about_lines_below_one_that_is_not_toml() {
    refuses(
        "[log]\nlevel = 'loud'\n[limits\nlevel = 'x'\n",
        &[
            "waypost.toml:2:9: log.level is \"loud\"; allowed: \"error\", \"warn\", \"info\", \"debug\" or \"trace\"",
            "waypost.toml:3:8: not TOML: unclosed table, expected `]`",
        ],
    );
}

#[test]
fn sections_and_lists_are_not_mistaken_for_one_another() {
    refuses("limits = 5\n", &["waypost.toml:1:1: limits is a single table; write [limits]"]);
    refuses("[[sys]]\n", &["waypost.toml:1:3: sys is a single table; write [sys]"]);
    refuses("[listener]\n", &["waypost.toml:1:2: listener is a list of tables; write [[listener]]"]);
    refuses("listener = [5]\n", &["waypost.toml:1:13: listener is a list of tables; write [[listener]]"]);
}

#[test]
fn t06_ill_formed_utf_8_is_an_error_with_its_place() {
    let folder = Folder::new();
    folder.write("waypost.toml", b"[log]\nlevel = \"\xff\"\n");
    assert_eq!(folder.errors(), ["waypost.toml:2:10: the byte 0xff is not UTF-8; save the file as UTF-8"]);
    folder.write("waypost.toml", b"\xff\xfe[\0l\0o\0g\0]\0");
    assert_eq!(folder.errors(), ["waypost.toml:1:1: the byte 0xff is not UTF-8; save the file as UTF-8"]);
}

#[test]
fn t06_a_line_of_a_mebibyte_is_an_error_with_its_line_and_key() {
    let folder = Folder::new();
    folder.write("waypost.toml", format!("[mqtt]\nresponse_information = \"{}\"\n", "x".repeat(1 << 20)));
    assert_eq!(
        folder.errors(),
        ["waypost.toml:2:1: the line that begins with response_information is longer than allowed: up to 8192 bytes"]
    );
}

#[test]
fn t06_a_folder_in_place_of_a_file_and_a_file_in_place_of_a_folder_are_errors() {
    let folder = Folder::new();
    fs::create_dir_all(folder.0.join("waypost.toml")).expect("a folder");
    assert_eq!(folder.errors(), ["waypost.toml: is a folder; name a file"]);
    let folder = Folder::new();
    folder.write("waypost.toml", "");
    folder.write("waypost.toml.d", "");
    assert_eq!(folder.errors().len(), 1);
    assert!(
        folder.errors()[0].starts_with("waypost.toml.d: the drop-in folder cannot be read: "),
        "{:?}",
        folder.errors()
    );
    let folder = Folder::new();
    folder.write("waypost.toml", "");
    fs::create_dir_all(folder.0.join("waypost.toml.d/a.toml")).expect("a folder");
    assert_eq!(folder.errors(), ["waypost.toml.d/a.toml: is a folder; name a file"]);
}

#[test]
fn t06_a_file_that_is_missing_or_cannot_be_read_is_an_error() {
    let folder = Folder::new();
    assert_eq!(folder.errors(), ["waypost.toml: cannot be read: there is no such file"]);
    folder.write("waypost.toml", "");
    std::os::unix::fs::symlink("nowhere", folder.0.join("gone.toml")).expect("a link");
    fs::create_dir_all(folder.0.join("waypost.toml.d")).expect("a folder");
    fs::rename(folder.0.join("gone.toml"), folder.0.join("waypost.toml.d/gone.toml")).expect("the link moves");
    assert_eq!(folder.errors(), ["waypost.toml.d/gone.toml: cannot be read: there is no such file"]);
    // Reading it fails even for root, for nothing is mapped at address 0.
    let memory = Sources { file: Some(PathBuf::from("/proc/self/mem")), ..Sources::default() };
    let error = Config::load(&memory).expect_err("it cannot be read").to_string();
    assert!(error.starts_with("/proc/self/mem: cannot be read: "), "{error}");
}

#[test]
fn t06_what_has_no_end_or_no_writer_is_no_file() {
    let folder = Folder::new();
    let pipe = folder.0.join("pipe");
    assert!(process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo is there").success());
    for path in [Path::new("/dev/zero"), &pipe] {
        let sources = Sources { file: Some(path.to_owned()), ..Sources::default() };
        let errors = Config::load(&sources).expect_err("it is not read").to_string();
        assert!(errors.ends_with(": cannot be read: it is no regular file"), "{errors}");
    }
    let nothing = Sources { file: Some(PathBuf::from("/dev/null")), ..Sources::default() };
    assert_same_settings(&Config::load(&nothing).expect("as mosquitto takes it"), &Config::default());
}

#[test]
fn windows_line_ends_and_a_byte_order_mark_do_no_harm() {
    let folder = Folder::new();
    folder.write("waypost.toml", "\u{feff}[node]\r\nshards = 3\r\n");
    assert_eq!(folder.load().expect("it is valid").node.shards, 3);
    folder.write("waypost.toml", "\u{feff}[node]\r\nshards = 'x'\r\n");
    assert_eq!(
        folder.errors(),
        ["waypost.toml:2:10: node.shards is \"x\", which is not a whole number; write for example 10"]
    );
}

#[expect(clippy::disallowed_methods, reason = "how long it really takes is what is tested")]
#[test]
fn hostile_files_end_soon_with_a_bounded_list_of_errors() {
    let many_keys = |n: usize| (0..n).map(|n| format!("k{n} = 1")).collect::<Vec<_>>();
    for content in [
        format!("x = {}", "[".repeat(8000)),
        format!("x = {}", "{a=".repeat(2600)),
        format!("{} = 1", vec!["a"; 4000].join(".")),
        format!("[a{}]\n", ".b".repeat(4000)).repeat(30),
        many_keys(20_000).join("\n"),
        format!("limits = {{{}}}\n", many_keys(700).join(", ")).repeat(30),
        "[limits]\nreceive_maximum = 0\n".repeat(9000),
        "[[listener]]\n".repeat(19_000),
        "\"\"\"".repeat(2000),
        "= \n".repeat(80_000),
        "]\n".repeat(100_000),
    ] {
        let start = Instant::now();
        let folder = Folder::new();
        folder.write("waypost.toml", &content);
        let errors = folder.errors();
        assert!(!errors.is_empty() && errors.len() <= 51, "{} errors", errors.len());
        assert!(start.elapsed() < Duration::from_secs(20), "{:?} for {}", start.elapsed(), &content[..20]);
    }
}

// Faults of variables

#[test]
fn variables_are_as_strict_as_files() {
    let folder = Folder::new();
    folder.write("waypost.toml", "");
    let errors = folder.errors_with(&[
        ("WAYPOST__LOG__LEVL", "x"),
        ("WAYPOST__NONSENSE", "x"),
        ("WAYPOST__", "x"),
        ("WAYPOST__log__level", "debug"),
        ("WAYPOST__LISTENER__ADDRESS", "127.0.0.1:1"),
        ("WAYPOST__LISTENER__1__ADDRESS", "127.0.0.1:1"),
        ("WAYPOST__LISTENER__99999__ADDRESS", "127.0.0.1:1"),
        ("WAYPOST__LISTENER__-1__ADDRESS", "127.0.0.1:1"),
        ("WAYPOST__LIMITS__CONNECT_TIMEOUT", "5x"),
        ("WAYPOST__LIMITS__KEEP_ALIVE_MAX", "10"),
        ("WAYPOST__LIMITS__RECEIVE_MAXIMUM", "0"),
        ("WAYPOST__LIMITS__IN_FLIGHT_MAX", ""),
        ("WAYPOST__MQTT__BRIDGE_BIT", "yes"),
        ("WAYPOST__LIMITS__0__RECEIVE_MAXIMUM", "1"),
        ("WAYPOST__NODE__SHARDS", "99999999999999999999999999999999999999999"),
    ]);
    assert_eq!(
        errors,
        [
            "WAYPOST__LOG__LEVL: unknown variable; did you mean WAYPOST__LOG__LEVEL?",
            "WAYPOST__NONSENSE: unknown variable; the names are WAYPOST__SECTION__KEY, for example WAYPOST__LOG__LEVEL",
            "WAYPOST__: unknown variable; the names are WAYPOST__SECTION__KEY, for example WAYPOST__LOG__LEVEL",
            "WAYPOST__log__level: unknown variable; did you mean WAYPOST__LOG__LEVEL?",
            "WAYPOST__LISTENER__ADDRESS: there can be several [[listener]]; write WAYPOST__LISTENER__0__ADDRESS for the first one",
            "WAYPOST__LISTENER__99999__ADDRESS: unknown variable; did you mean WAYPOST__LISTENER__0__ADDRESS?",
            "WAYPOST__LISTENER__-1__ADDRESS: unknown variable; did you mean WAYPOST__LISTENER__0__ADDRESS?",
            "WAYPOST__LIMITS__0__RECEIVE_MAXIMUM: unknown variable; did you mean WAYPOST__LIMITS__RECEIVE_MAXIMUM?",
            "WAYPOST__LIMITS__CONNECT_TIMEOUT: limits.connect_timeout is \"5x\", which is not a duration; write for example \"5s\", \"1m30s\" or \"250ms\"",
            "WAYPOST__LIMITS__IN_FLIGHT_MAX: limits.in_flight_max is \"\", which is not a whole number; write for example 10",
            "WAYPOST__LIMITS__KEEP_ALIVE_MAX: limits.keep_alive_max is 10, which has no unit; write for example \"5s\", \"1m30s\" or \"250ms\"",
            "WAYPOST__LIMITS__RECEIVE_MAXIMUM: limits.receive_maximum is 0; allowed: 1 to 65535",
            "WAYPOST__MQTT__BRIDGE_BIT: mqtt.bridge_bit is \"yes\", which is not true or false; write for example true",
            "WAYPOST__NODE__SHARDS: node.shards is 99999999999999999999999999999999999999999; allowed: 0 to 64",
            "WAYPOST__LISTENER__1__ADDRESS: there is no [[listener]] yet; the first one has the number 0",
        ]
    );
}

#[test]
fn a_variable_cannot_be_set_twice() {
    let twice = [("WAYPOST__LOG__LEVEL", "info"), ("WAYPOST__LOG__LEVEL", "debug")];
    let sources = Sources { environment: environment(&twice), ..Sources::default() };
    let errors = Config::load(&sources).expect_err("which one holds?").to_string();
    assert_eq!(errors, "WAYPOST__LOG__LEVEL: the variable is there twice");
    let other_number = [("WAYPOST__LISTENER__00__ADDRESS", "127.0.0.1:1")];
    let sources = Sources { environment: environment(&other_number), ..Sources::default() };
    let errors = Config::load(&sources).expect_err("it is no number of ours").to_string();
    assert!(errors.ends_with("unknown variable; did you mean WAYPOST__LISTENER__0__ADDRESS?"), "{errors}");
}

#[test]
fn names_and_values_of_variables_that_are_not_utf_8_are_errors() {
    use std::os::unix::ffi::OsStringExt;
    let sources = Sources {
        environment: vec![
            (OsString::from_vec(b"WAYPOST__\xff".to_vec()), OsString::from("x")),
            (OsString::from("WAYPOST__LOG__LEVEL"), OsString::from_vec(b"\xff".to_vec())),
        ],
        flags: Flags { data_dir: Some(PathBuf::from(OsString::from_vec(b"\xff".to_vec()))), ..Flags::default() },
        ..Sources::default()
    };
    assert_eq!(
        Config::load(&sources).expect_err("nothing of it is UTF-8").to_string(),
        "WAYPOST__\\xff: the name is not UTF-8\nWAYPOST__LOG__LEVEL: log.level is not UTF-8\n--data-dir: node.data_dir is not UTF-8"
    );
}

#[test]
fn a_wrong_value_is_an_error_even_where_another_layer_overrides_it() {
    let folder = Folder::new();
    folder.write("waypost.toml", "[log]\nlevel = 'loud'\n");
    folder.write("waypost.toml.d/a.toml", "[log]\nlevel = 'quiet'\n");
    let allowed = "allowed: \"error\", \"warn\", \"info\", \"debug\" or \"trace\"";
    assert_eq!(
        folder.errors_with(&[("WAYPOST__LOG__LEVEL", "info")]),
        [
            format!("waypost.toml:2:9: log.level is \"loud\"; {allowed}"),
            format!("waypost.toml.d/a.toml:2:9: log.level is \"quiet\"; {allowed}"),
        ]
    );
}

// Listeners and groups

/// What a listener needs that judges by certificates.
const CERTIFICATES: &str = "client_identity = 'common_name'\nclient_auth = 'required'\nclient_ca = 'ca.pem'\n\
     tls_certificate = ['a.pem']\ntls_key = ['a.key']\n";

#[test]
fn a_listener_that_others_can_reach_must_say_who_may_enter() {
    for (address, port) in [("0.0.0.0:1883", 1883), ("[::]:1", 1), ("10.0.0.1:2", 2), ("broker.example:3", 3)] {
        let listener = format!("[[listener]]\naddress = \"{address}\"\n");
        let error = format!(
            "waypost.toml:2:11: other machines can reach listener {address}, but nothing says who may enter; write the line \
             authentication = [\"password\"] in this [[listener]] to ask for passwords, or allow_anonymous = true to let everybody in, or listen on 127.0.0.1:{port} for this machine only"
        );
        refuses(&listener, &[&error]);
        for decision in [true, false] {
            let folder = Folder::new();
            folder.write("waypost.toml", format!("{listener}allow_anonymous = {decision}\n"));
            assert_eq!(folder.load().expect("it is decided").listeners[0].lets_anyone_in(), decision);
        }
        let folder = Folder::new();
        folder.write("waypost.toml", format!("{listener}authentication = ['certificate']\n{CERTIFICATES}"));
        assert!(!folder.load().expect("it is decided").listeners[0].lets_anyone_in());
    }
    for address in ["127.0.0.1:1", "[::1]:1", "localhost:1", "127.1.2.3:1"] {
        let folder = Folder::new();
        folder.write("waypost.toml", format!("[[listener]]\naddress = \"{address}\"\n"));
        assert!(folder.load().expect("only this machine reaches it").listeners[0].lets_anyone_in());
        folder.write(
            "waypost.toml",
            format!("[[listener]]\naddress = \"{address}\"\nauthentication = ['certificate']\n{CERTIFICATES}"),
        );
        assert!(!folder.load().expect("it says how to enter").listeners[0].lets_anyone_in());
    }
}

#[test]
fn a_way_to_enter_needs_what_it_judges_by() {
    let listener = "[[listener]]\naddress = '127.0.0.1:0'\nauthentication = ";
    for (method, missing) in [
        ("password", "[password] has no file; write for example file = \"/etc/waypost/passwd\" there"),
        ("scram", "[password] has no file; write for example file = \"/etc/waypost/passwd\" there"),
        ("jwt", "[jwt] has no key_file, no jwks_file and no jwks_url; one of them must say where the key is"),
        ("http", "[http_login] has no url; write for example url = \"https://login.example.org/mqtt\" there"),
    ] {
        refuses(
            &format!("{listener}['{method}']\n"),
            &[&format!("waypost.toml:3:18: listener.authentication has \"{method}\", but {missing}")],
        );
    }
    let sections = "[password]\nfile = 'a'\n[jwt]\njwks_file = 'b'\n[http_login]\nurl = 'http://c'\n";
    let folder = Folder::new();
    folder.write(
        "waypost.toml",
        format!("{listener}['jwt', 'http', 'scram', 'password', 'certificate']\n{CERTIFICATES}{sections}"),
    );
    let methods = [Method::Jwt, Method::Http, Method::Scram, Method::Password, Method::Certificate];
    assert_eq!(folder.load().expect("all are there").listeners[0].methods(), methods);
    folder.write("waypost.toml", format!("{listener}['password']\npassword_file = 'its own'\n"));
    assert_eq!(
        folder.load().expect("it has its own").listeners[0].password_file.as_deref(),
        Some(Path::new("its own"))
    );
}

#[test]
fn listeners_of_one_name_have_the_same_files() {
    let two = |first: &str, second: &str| {
        format!("[[listener]]\naddress = '127.0.0.1:1'\n{first}\n[[listener]]\naddress = '127.0.0.1:2'\n{second}\n")
    };
    for (first, second) in [
        ("", ""),
        ("name = 'a'", "name = 'a'"),
        ("acl_files = ['x']", "acl_files = ['y']"),
        ("name = 'a'\nacl_files = ['x']", "name = 'a'\nacl_files = ['x']"),
        ("name = 'a'\nacl_files = ['x']", "name = 'b'\nacl_files = []"),
    ] {
        let folder = Folder::new();
        folder.write("waypost.toml", two(first, second));
        assert_eq!(folder.load().expect("nobody can take one for the other").listeners.len(), 2);
    }
    refuses(
        &two("name = 'a'\nacl_files = ['x']", "name = 'a'\nacl_files = ['x', 'y']"),
        &[
            "waypost.toml:8:13: two listeners are called \"a\" and have different acl_files, the other at waypost.toml:4:13; give each a name of its own",
        ],
    );
    refuses(
        &two("name = 'a'\npassword_file = 'x'\nauthentication = ['password']\nacl_files = []", "name = 'a'"),
        &[
            "waypost.toml:8:11: two listeners are called \"a\" and have different password_file, the other at waypost.toml:4:17; give each a name of its own",
            "waypost.toml:8:11: two listeners are called \"a\" and have different acl_files, the other at waypost.toml:6:13; give each a name of its own",
        ],
    );
    // A name may be the address of another.
    refuses(
        &two("acl_files = ['x']", "name = '127.0.0.1:1'"),
        &[
            "waypost.toml:5:11: two listeners are called \"127.0.0.1:1\" and have different acl_files, the other at waypost.toml:3:13; give each a name of its own",
        ],
    );
}

#[test]
fn a_bare_key_has_an_algorithm() {
    refuses(
        "[jwt]\nkey_file = 'k'\n",
        &["waypost.toml:2:12: jwt.key_file needs jwt.algorithm beside it; write for example algorithm = \"ES256\""],
    );
}

#[test]
fn the_decision_can_be_in_another_layer_and_the_error_says_how_to_write_it_there() {
    let folder = Folder::new();
    folder.write("waypost.toml", "");
    assert_eq!(
        folder.errors_with(&[("WAYPOST__LISTENER__0__ADDRESS", "0.0.0.0:1883")]),
        [
            "WAYPOST__LISTENER__0__ADDRESS: other machines can reach listener 0.0.0.0:1883, but nothing says who may enter; set \
          WAYPOST__LISTENER__0__AUTHENTICATION=password to ask for passwords, or WAYPOST__LISTENER__0__ALLOW_ANONYMOUS=true \
          to let everybody in, or listen on 127.0.0.1:1883 for this machine only"
        ]
    );
    folder.write("waypost.toml", "[[listener]]\naddress = \"0.0.0.0:1883\"\n");
    assert!(folder.load_with(&[("WAYPOST__LISTENER__0__ALLOW_ANONYMOUS", "true")]).is_ok());
}

#[test]
fn a_listener_has_an_address_and_a_group_its_name_and_strategy() {
    refuses(
        "[[listener]]\n[[shared_group]]\nname = 'a'\n[[shared_group]]\nstrategy = 'x'\n[[listener]]\naddress = 5\n",
        &[
            "waypost.toml:5:12: shared_group.strategy is \"x\"; allowed: \"round_robin\", \"random\", \"sticky\", \"hash_client\", \"hash_topic\" or \"least_in_flight\"",
            "waypost.toml:7:11: listener.address is 5, which is not text; write for example \"127.0.0.1:1883\", \"[::1]:1883\", \"localhost:1883\" or \"unix:/run/waypost.sock\"",
            "waypost.toml:1:1: this [[listener]] has no address; write for example address = \"127.0.0.1:1883\"",
            "waypost.toml:2:1: this [[shared_group]] has no strategy; write for example strategy = \"least_in_flight\"",
            "waypost.toml:4:1: this [[shared_group]] has no name; write for example name = \"workers\"",
        ],
    );
}

#[test]
fn a_rule_of_the_store_has_a_filter_of_its_own_and_a_store() {
    refuses(
        "[[store_rule]]\nfilter = 'a/#/b'\ndurability = 'memory'\n[[store_rule]]\nfilter = 'a'\ndurability = 'memory'\n\
         [[store_rule]]\nfilter = 'a'\ndurability = 'os'\n[[store_rule]]\nfilter = '$share/g/a'\ndurability = 'disk'\n",
        &[
            "waypost.toml:2:10: store_rule.filter \"a/#/b\" is no Topic Filter; write for example \"telemetry/#\"",
            "waypost.toml:8:10: store_rule.filter \"a\" is there twice; the first one, at waypost.toml:5:10, decides",
            "waypost.toml:11:10: store_rule.filter \"$share/g/a\" is no Topic Filter; write for example \"telemetry/#\"",
        ],
    );
    refuses(
        "[store]\ndurability = 'memory'\n[[store_rule]]\nfilter = 'alarms/#'\ndurability = 'disk'\n",
        &[
            "waypost.toml:4:10: a [[store_rule]] needs a store, and store.durability is \"memory\"; write \"disk\" there, and a \
           last rule with filter = \"#\" and durability = \"memory\"",
        ],
    );
}

#[test]
fn what_is_no_address_says_why() {
    for (address, why) in [
        ("1883", "which has no port; write for example \"127.0.0.1:1883\""),
        ("::1:1883", "whose IPv6 address needs brackets; write for example \"[::1]:1883\""),
        ("127.0.0.1:99999", "whose port is not a number from 0 to 65535; write for example \"127.0.0.1:1883\""),
        (":1883", "which has no host; write \"*:PORT\" for all addresses, or \"127.0.0.1:PORT\" for this machine only"),
    ] {
        refuses(
            &format!("[[listener]]\naddress = \"{address}\"\n"),
            &[&format!("waypost.toml:2:11: listener.address is \"{address}\", {why}")],
        );
    }
}

#[test]
fn what_tls_certificates_and_proxies_demand_of_one_another_is_checked() {
    for (lines, errors) in [
        ("tls_certificate = ['a.pem']\ntls_key = ['a.key']", &[][..]),
        (
            "tls_certificate = ['a.pem', 'b.pem']\ntls_key = ['a.key']",
            &[
                "listener.tls_certificate lists 2 and listener.tls_key lists 1; each certificate needs its key, in the same order",
            ],
        ),
        (
            "client_auth = 'required'",
            &[
                "listener.client_auth is \"required\", but nothing says who may issue certificates; write for example client_ca = \"certs/ca.pem\"",
                "listener.client_auth is \"required\", but without TLS nobody can show a certificate; set tls_certificate and tls_key",
            ],
        ),
        (
            "client_identity = 'common_name'",
            &[
                "listener.client_identity is \"common_name\", but no certificate is asked for; write client_auth = \"required\"",
            ],
        ),
        ("client_identity = 'common_name'\nproxy_protocol = true\nproxy_trusted = ['::1']", &[]),
        (
            "authentication = ['certificate']",
            &[
                "listener.authentication lists \"certificate\", but nothing says what of it is the user name; write for example client_identity = \"common_name\"",
            ],
        ),
        (
            "client_id_bound = true",
            &[
                "listener.client_id_bound is true, but nothing says what of the certificate the Client Identifier must be; write for example client_identity = \"common_name\"",
            ],
        ),
        (
            "client_crl = ['revoked.pem']",
            &["listener.client_crl is set, but no certificate is asked for; set client_auth"],
        ),
        (
            "proxy_protocol = true",
            &[
                "listener.proxy_protocol is true, but nothing says which proxies are believed; write for example proxy_trusted = [\"10.0.0.0/8\"]",
            ],
        ),
        (
            "proxy_trusted = ['10.0.0.0/33']",
            &[
                "listener.proxy_trusted is [\"10.0.0.0/33\"], which is not a list of networks; write for example [\"10.0.0.0/8\", \"::1\"]",
            ],
        ),
        (
            "unix_mode = '0888'",
            &["listener.unix_mode is \"0888\", which is not permissions in octal; write for example \"0660\""],
        ),
    ] {
        let content = format!("[[listener]]\naddress = '127.0.0.1:8883'\n{lines}\n");
        let folder = Folder::new();
        folder.write("waypost.toml", content);
        let mut found = folder.load().map_or_else(|errors| folder.relative(&errors.to_string()), |_| Vec::new());
        for error in &mut found {
            let (place, message) = error.split_once(": ").expect("a place and a message");
            assert!(place.starts_with("waypost.toml:3:"), "{place}");
            *error = message.to_owned();
        }
        found.sort();
        assert_eq!(found, errors, "{lines}");
    }
}

#[test]
fn two_listeners_cannot_have_one_address() {
    let two = |one: &str, two: &str| {
        format!("[[listener]]\n{one}\nallow_anonymous = true\n[[listener]]\n{two}\nallow_anonymous = true\n")
    };
    refuses(
        &two("address = '127.0.0.1:1883'", "address = '127.0.0.1:1883'"),
        &[
            "waypost.toml:5:11: listener 127.0.0.1:1883 takes the same address as listener 127.0.0.1:1883 at waypost.toml:2:11; give each its own",
        ],
    );
    refuses(
        &two("address = '0.0.0.0:1883'", "address = '10.0.0.1:1883'"),
        &[
            "waypost.toml:5:11: listener 10.0.0.1:1883 takes the same address as listener 0.0.0.0:1883 at waypost.toml:2:11; give each its own",
        ],
    );
    for (one, other) in [
        ("address = '127.0.0.1:1883'", "address = '127.0.0.1:1884'"),
        ("address = '127.0.0.1:0'", "address = '127.0.0.1:0'"),
        ("address = '0.0.0.0:1883'", "address = '[::]:1883'"),
        ("address = '0.0.0.0:1883'\ninterface = 'eth0'", "address = '0.0.0.0:1883'\ninterface = 'eth1'"),
    ] {
        let folder = Folder::new();
        folder.write("waypost.toml", two(one, other));
        assert_eq!(folder.load().map(|config| config.listeners.len()), Ok(2), "{one} {other}");
    }
}

#[test]
fn two_entries_for_one_shared_group_are_an_error() {
    refuses(
        "[[shared_group]]\nname = 'a'\nstrategy = 'random'\n[[shared_group]]\nname = 'a'\nstrategy = 'sticky'\n",
        &["waypost.toml:5:8: shared_group.name \"a\" is there twice; the first one is at waypost.toml:2:8"],
    );
}

#[test]
fn the_port_flag_is_for_the_default_listener_only() {
    let folder = Folder::new();
    folder.write("waypost.toml", "[[listener]]\naddress = '127.0.0.1:1'\n");
    let sources = Sources { flags: Flags { port: Some(0), ..Flags::default() }, ..folder.sources() };
    assert_eq!(
        folder.relative(&Config::load(&sources).expect_err("there is a listener").to_string()),
        [
            "-p: sets the port of the default listener, but there is a [[listener]] at waypost.toml:1:1; set the port in its address"
        ]
    );
    let sources = Sources { flags: Flags { port: Some(0), ..Flags::default() }, ..Sources::default() };
    assert_eq!(addresses(&Config::load(&sources).expect("there is none")), ["127.0.0.1:0"]);
}

#[test]
fn lists_are_bounded() {
    let folder = Folder::new();
    let listeners: String = (1..=65).map(|port| format!("[[listener]]\naddress = '127.0.0.1:{port}'\n")).collect();
    folder.write("waypost.toml", listeners);
    assert_eq!(folder.errors(), ["waypost.toml:129:1: there are too many [[listener]]; allowed: up to 64"]);
}

#[test]
fn settings_that_defeat_one_another_are_noted() {
    let folder = Folder::new();
    folder.write("waypost.toml", "[limits]\npacket_size_max = \"128MiB\"\n");
    assert_eq!(
        folder.load().expect("it is allowed").notes(),
        [
            "limits.queue_size_max is 64MiB, less than one packet of limits.packet_size_max, 128MiB: the largest messages will not fit",
            "limits.queue_qos0_size_max is 16MiB, less than one packet of limits.packet_size_max, 128MiB: the largest messages will not fit",
        ]
    );
}

// Every number at its ends

#[test]
fn t08_every_number_at_0_at_1_and_at_both_ends_is_accepted_or_refused_by_its_bounds() {
    let mut tried = 0;
    for section in SECTIONS {
        for key in section.keys {
            let Some((least, most, or_zero, unit)) = bounds(key.kind) else { continue };
            for number in [0, 1, least.saturating_sub(1), least, most, most + 1] {
                let allowed = (least..=most).contains(&number) || (or_zero && number == 0);
                let value = if unit.is_empty() { number.to_string() } else { format!("\"{number}{unit}\"") };
                let in_file = in_file(section, key.name, &value);
                let in_variable = in_variable(section, key.name, &format!("{number}{unit}"));
                for (layer, result) in [("a file", in_file), ("a variable", in_variable)] {
                    let name = format!("{}.{} = {value} in {layer}", section.name, key.name);
                    assert_eq!(result.is_ok(), allowed, "{name}");
                    if let Err(errors) = result {
                        assert!(errors.contains(&format!("; allowed: {}", key.kind.allowed())), "{name}: {errors}");
                    }
                }
                tried += 1;
            }
        }
    }
    assert!(tried > 150, "only {tried} values were tried");
}

#[test]
fn every_word_that_the_reference_names_is_understood() {
    for section in SECTIONS.iter().filter(|section| section.list_max.is_none()) {
        for key in section.keys {
            let (Kind::OneOf(words) | Kind::SomeOf(words)) = key.kind else { continue };
            for word in words {
                assert_eq!(in_variable(section, key.name, word).err(), None, "{}.{} = {word}", section.name, key.name);
            }
        }
    }
}

#[test]
fn t08_no_limit_is_unlimited() {
    for section in SECTIONS {
        for key in section.keys {
            if let Some((_, most, _, _)) = bounds(key.kind) {
                assert!(most < u64::from(u32::MAX) * 100_000, "{}.{}", section.name, key.name);
                assert!(!matches!(key.fallback, Fallback::Absent { .. }), "{}.{}", section.name, key.name);
            }
        }
    }
}

fn bounds(kind: Kind) -> Option<(u64, u64, bool, &'static str)> {
    let ms = |time: Duration| u64::try_from(time.as_millis()).expect("bounds fit 64 bits");
    match kind {
        Kind::Count { least, most } | Kind::Size { least, most } => Some((least, most, false, "")),
        Kind::Time { least, most, or_zero } => Some((ms(least), ms(most), or_zero, "ms")),
        _ => None,
    }
}

fn in_file(section: &Section, key: &str, value: &str) -> Result<Config, String> {
    let folder = Folder::new();
    let name = section.name;
    folder.write(
        "waypost.toml",
        match section.list_max {
            None => format!("[{name}]\n{key} = {value}\n"),
            Some(_) => format!("[[{name}]]\naddress = '127.0.0.1:1'\n{key} = {value}\n"),
        },
    );
    folder.load().map_err(|errors| errors.to_string())
}

fn in_variable(section: &Section, key: &str, value: &str) -> Result<Config, String> {
    let (name, key) = (section.name.to_uppercase(), key.to_uppercase());
    let environment = match section.list_max {
        None => environment(&[(&format!("WAYPOST__{name}__{key}"), value)]),
        Some(_) => environment(&[
            (&format!("WAYPOST__{name}__0__{key}"), value),
            ("WAYPOST__LISTENER__0__ADDRESS", "127.0.0.1:1"),
        ]),
    };
    Config::load(&Sources { environment, ..Sources::default() }).map_err(|errors| errors.to_string())
}

// Noise

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn no_file_makes_it_panic(content in prop::collection::vec(any::<u8>(), 0..600)) {
        let folder = Folder::new();
        folder.write("waypost.toml", content);
        let _ = folder.load();
    }

    #[test]
    fn no_change_of_a_good_file_makes_it_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), "[\\[\\]{}=\"'#.,\\\\ \n\ta-z0-9é]{0,4}", 0_usize..9), 1..12),
    ) {
        let mut content: Vec<char> = uncommented(&reference()).lines().filter(|line| !line.starts_with('#')).flat_map(|line| line.chars().chain(['\n'])).collect();
        for (at, inserted, removed) in changes {
            let at = at.index(content.len() + 1);
            let end = content.len().min(at + removed);
            content.splice(at..end, inserted.chars());
        }
        let folder = Folder::new();
        folder.write("waypost.toml", content.into_iter().collect::<String>());
        if let Err(errors) = folder.load() {
            prop_assert!(!errors.is_empty() && !errors.to_string().is_empty());
        }
    }

    #[test]
    fn no_variable_makes_it_panic(name in "(LIMITS|LISTENER|NODE|LOG)?(__)?[A-Z0-9_]{0,20}", value in any::<String>()) {
        let environment = environment(&[(&format!("WAYPOST__{name}"), value.as_str())]);
        let _ = Config::load(&Sources { environment, ..Sources::default() });
    }
}

// What the tests are written with

/// A folder of this test alone with a `waypost.toml`; removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("config-{}-{number}", process::id()));
        fs::create_dir_all(&path).expect("a folder for the test");
        Self(path)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().expect("it lies in the folder")).expect("a folder");
        fs::write(path, content).expect("a file");
    }

    fn sources(&self) -> Sources {
        Sources { file: Some(self.0.join("waypost.toml")), ..Sources::default() }
    }

    fn load(&self) -> Result<Config, waypost::config::ConfigErrors> {
        Config::load(&self.sources())
    }

    fn load_with(&self, variables: &[(&str, &str)]) -> Result<Config, waypost::config::ConfigErrors> {
        Config::load(&Sources { environment: environment(variables), ..self.sources() })
    }

    fn errors(&self) -> Vec<String> {
        self.errors_with(&[])
    }

    fn errors_with(&self, variables: &[(&str, &str)]) -> Vec<String> {
        self.relative(&self.load_with(variables).expect_err("it has a fault").to_string())
    }

    /// Lines of errors with paths that start in this folder.
    fn relative(&self, errors: &str) -> Vec<String> {
        let prefix = format!("{}/", self.0.display());
        errors.lines().map(|line| line.replace(&prefix, "")).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed stays in the build folder.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[track_caller]
fn refuses(content: &str, errors: &[&str]) {
    let folder = Folder::new();
    folder.write("waypost.toml", content);
    assert_eq!(folder.errors(), errors);
}

fn environment(variables: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    variables.iter().map(|(name, value)| (name.into(), value.into())).collect()
}

fn addresses(config: &Config) -> Vec<String> {
    config.listeners.iter().map(|listener| listener.address.to_string()).collect()
}

/// Everything but where it came from.
#[track_caller]
fn assert_same_settings(one: &Config, other: &Config) {
    let without_sources = |config: &Config| Config { sources: Sources::default(), files: Vec::new(), ..config.clone() };
    assert_eq!(without_sources(one), without_sources(other));
}

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

#[test]
fn what_goes_openly_to_another_machine_is_noted() {
    for (url, is_noted) in [
        ("http://127.0.0.1:8000/login", false),
        ("http://localhost/login", false),
        ("http://[::1]/login", false),
        ("http://[::1]:8/login", false),
        ("https://login.example.org/mqtt", false),
        ("http://login.example.org/mqtt", true),
        ("http://10.0.0.1:8000?x=http://127.0.0.1", true),
    ] {
        let variables = [("WAYPOST__HTTP_LOGIN__URL", url), ("WAYPOST__JWT__JWKS_URL", url)];
        let config = Config::load(&Sources { environment: environment(&variables), ..Sources::default() });
        let notes = config.expect("it is valid").notes();
        let noted = |key: &str| notes.iter().any(|note| note.starts_with(&format!("{key} is http, and the way to it")));
        assert_eq!((noted("http_login.url"), noted("jwt.jwks_url")), (is_noted, is_noted), "{url}: {notes:?}");
    }
}
