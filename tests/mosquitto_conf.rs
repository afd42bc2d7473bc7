//! What a mosquitto.conf means here. `tests/mosquitto_conf/` holds files as people have them; beside each stands what `waypost check` says of
//! its options (`.check`) and, where nothing is wrong with it, the file of ours that it becomes (`.toml`).
//! `UPDATE=1 cargo test --test mosquitto_conf` writes both anew; read the difference before it is committed.

use std::fs;
use std::path::{Path, PathBuf};
use waypost::config::{Config, Flags, Outcome, Sources, convert, findings};
use waypost::log::Level;

#[path = "mosquitto_conf/body.rs"]
mod body;

const FOLDER: &str = "tests/mosquitto_conf";

#[test]
fn each_file_of_the_corpus_says_what_becomes_of_its_options() {
    for conf in corpus() {
        let listed: String = findings(&conf).iter().map(|finding| format!("{finding}\n")).collect();
        let errors = load(&conf).err().map_or_else(String::new, |errors| format!("{errors}\n"));
        is_committed(&conf.with_extension("check"), &(listed + &errors));
    }
}

#[test]
fn each_file_of_the_corpus_becomes_one_of_ours_that_means_the_same() {
    let mut converted = 0;
    for conf in corpus() {
        let ours = conf.with_extension("toml");
        match (convert(&conf), load(&conf)) {
            (Ok(text), Ok(config)) => {
                is_committed(&ours, &text);
                let again = load(&ours).unwrap_or_else(|errors| panic!("{}:\n{errors}", ours.display()));
                assert_eq!(settings(&config), settings(&again), "{}", conf.display());
                converted += 1;
            }
            (Err(one), Err(other)) => {
                assert_eq!(one, other, "{}", conf.display());
                assert!(!ours.exists(), "{} is of no use any more", ours.display());
            }
            (text, config) => panic!("{}: {text:?} {config:?}", conf.display()),
        }
    }
    assert!(converted >= 10, "{converted}");
}

#[test]
fn included_files_are_read_in_mosquittos_order_and_are_part_of_the_configuration() {
    let config = load(&Path::new(FOLDER).join("debian.conf")).expect("it is valid");
    let files = ["debian.conf", "debian.d/Access.conf", "debian.d/listener.conf"];
    assert_eq!(config.files, files.map(|file| Path::new(FOLDER).join(file)));
}

#[test]
fn the_flags_apply_on_top_as_mosquittos_do() {
    let load = |file: &str, port| {
        let flags = Flags { port: Some(port), level: Some(Level::Debug), ..Flags::default() };
        Config::load(&Sources { file: Some(Path::new(FOLDER).join(file)), flags, ..Sources::default() })
            .expect("it is valid")
    };
    let local = load("local_only.conf", 1999);
    assert_eq!((local.listeners[0].address.to_string().as_str(), local.log.level), ("localhost:1999", Level::Debug));
    assert!(local.listeners[0].lets_anyone_in());
    let minimal = load("minimal.conf", 1999);
    assert_eq!(minimal.listeners[0].address.to_string(), "*:1883");
    let told = minimal.notes();
    assert_eq!(
        told,
        [
            "command line: -p: not supported: the file says where to listen, at tests/mosquitto_conf/minimal.conf:2; mosquitto ignores it, too"
        ]
    );
}

#[test]
fn our_drop_in_files_and_the_environment_apply_on_top() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("mosquitto-conf-{}", std::process::id()));
    let conf = folder.join("mosquitto.conf");
    fs::create_dir_all(folder.join("mosquitto.conf.d")).expect("a folder");
    fs::write(&conf, "listener 1883\nallow_anonymous true\nmax_keepalive 60\n").expect("a file");
    fs::write(folder.join("mosquitto.conf.d/ours.toml"), "[limits]\nreceive_maximum = 7\n").expect("a file");
    let environment = vec![("WAYPOST__LISTENER__0__ALLOW_ANONYMOUS".into(), "false".into())];
    let config = Config::load(&Sources { file: Some(conf), environment, ..Sources::default() });
    fs::remove_dir_all(&folder).expect("the folder of the test");
    let config = config.expect("it is valid");
    assert_eq!((config.limits.receive_maximum, config.limits.keep_alive_max.as_secs()), (7, 60));
    assert!(!config.listeners[0].lets_anyone_in());
}

/// Whether a file is for mosquitto says its content and, where both could be meant, its name.
#[test]
fn a_file_is_recognized_whatever_its_name() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("mosquitto-name-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder");
    let is_mosquitto = |name: &str, text: &str| {
        let file = folder.join(name);
        fs::write(&file, text).expect("a file");
        !convert(&file).is_err_and(|errors| errors.to_string().contains("is not a mosquitto.conf"))
    };
    for (name, text, expected) in [
        ("mosquitto.conf", "listener 1883\n", true),
        ("mosquitto.conf", "# nothing\n", true),
        ("mosquitto.conf", "nonsense\n", true),
        ("broker", "# old\nlistener 1883\n", true),
        ("broker.toml", "allow_anonymous true\n", true),
        ("waypost.conf", "[log]\nlevel = 'warn'\n", false),
        ("waypost.conf", "[log\nlevel = 'warn'\n", false),
        ("waypost.conf", "log.level = warn\n", false),
        ("waypost.toml", "", false),
        ("waypost.toml", "listener = 5 5\n", false),
        ("waypost.toml", "nonsense\n", false),
    ] {
        assert_eq!(is_mosquitto(name, text), expected, "{name}: {text:?}");
    }
    fs::remove_dir_all(&folder).expect("the folder of the test");
}

/// What concerns security is never passed over: without a hint in `check` nothing may be different.
#[test]
fn t06_what_is_not_supported_is_an_error_where_it_concerns_security() {
    let conf = Path::new(FOLDER).join("refused.conf");
    let errors = load(&conf).expect_err("it asks for much").to_string();
    for finding in findings(&conf) {
        if let Outcome::Refused(why) = &finding.outcome {
            assert!(
                errors.contains(&format!("{}: {} is not supported: {why}", finding.place, finding.option)),
                "{errors}"
            );
        }
    }
    let refused = findings(&conf).iter().filter(|finding| matches!(finding.outcome, Outcome::Refused(_))).count();
    assert!(refused >= 10, "{refused}");
}

/// The body of the fuzz target, bounded: each file of the corpus with lines dropped, doubled, cut and mixed.
#[test]
fn t06_any_text_is_read_or_refused() {
    let texts: Vec<String> =
        corpus().iter().map(|conf| String::from_utf8_lossy(&fs::read(conf).expect("a file")).into_owned()).collect();
    let lines: Vec<&str> = texts.iter().flat_map(|text| text.lines()).collect();
    let mut state = 1_u64;
    let mut below = |end: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % end.max(1)
    };
    for _ in 0..2_000 {
        let mut text = String::new();
        for _ in 0..below(12) {
            let line = lines[below(lines.len())];
            match below(8) {
                0 => text.extend(line.chars().take(below(line.len() + 1))),
                1 => text.extend(line.chars().rev()),
                2 => text.push_str(&line.replace(' ', ["  ", "\t", "", " -"][below(4)])),
                3 => text.push_str(&format!(
                    "{line} {}",
                    ["-1", "0", "99999999999999999999", "é", "\"", "0x", "#"][below(7)]
                )),
                _ => text.push_str(line),
            }
            text.push_str(["\n", "\r\n", "\n\n", " \n"][below(4)]);
        }
        body::check(text.as_bytes());
    }
}

/// Within the bounds on a file, every text is judged in little time.
#[test]
fn t06_hostile_files_end_soon_with_a_bounded_list_of_errors() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("mosquitto-hostile-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder");
    let file = folder.join("mosquitto.conf");
    for (line, error) in [
        ("listener 1", "there are too many listeners; allowed: up to 64"),
        ("connection b", "connection \"b\" is there twice"),
        ("x{}", "unknown option"),
        ("websockets_origin {}", "listener.websocket_origins is"),
    ] {
        let lines: String = (0..11_000).map(|number| line.replace("{}", &number.to_string()) + "\n").collect();
        fs::write(&file, lines).expect("a file");
        let errors = load(&file).expect_err("it is too much").to_string();
        assert!(errors.contains(error), "{line}: {errors}");
        assert!(errors.len() < 65_536, "{line}: {} bytes", errors.len());
    }
    fs::remove_dir_all(&folder).expect("the folder of the test");
}

fn corpus() -> Vec<PathBuf> {
    let entries = fs::read_dir(FOLDER).expect("the corpus is there").map(|entry| entry.expect("a file").path());
    let mut confs: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|extension| extension == "conf")).collect();
    confs.sort();
    assert!(confs.len() >= 12, "{confs:?}");
    confs
}

fn load(file: &Path) -> Result<Config, waypost::config::ConfigErrors> {
    Config::load(&Sources { file: Some(file.to_owned()), ..Sources::default() })
}

fn settings(config: &Config) -> Config {
    Config { sources: Sources::default(), files: Vec::new(), findings: Vec::new(), ..config.clone() }
}

#[track_caller]
fn is_committed(path: &Path, text: &str) {
    if std::env::var_os("UPDATE").is_some() {
        fs::write(path, text).expect("a file of the corpus");
    }
    let committed = fs::read_to_string(path).unwrap_or_default();
    assert_eq!(
        committed,
        text,
        "{} is stale; write it anew with: UPDATE=1 cargo test --test mosquitto_conf",
        path.display()
    );
}
