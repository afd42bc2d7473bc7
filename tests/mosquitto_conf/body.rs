//! What must hold for any bytes as a mosquitto.conf: they are read or refused, in bounded words, and what is accepted becomes
//! a file of ours that means the same.

use std::fs;
use std::path::Path;
use waypost::config::{Config, ConfigErrors, Sources, convert, findings};

/// Panics when a promise is broken.
pub(crate) fn check(data: &[u8]) {
    let folder = std::env::temp_dir().join(format!("waypost-mosquitto-conf-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder for files");
    let (theirs, ours) = (folder.join("any.conf"), folder.join("any.toml"));
    fs::write(&theirs, data).expect("a file");
    for finding in findings(&theirs) {
        assert!(finding.to_string().len() < 4096, "{finding}");
    }
    match (convert(&theirs), load(&theirs)) {
        (Ok(text), Ok(config)) => {
            fs::write(&ours, &text).expect("a file");
            let again = load(&ours).unwrap_or_else(|errors| panic!("{errors}\n{text}"));
            assert_eq!(settings(config), settings(again), "{text}");
        }
        (Err(_), Err(errors)) => assert!(errors.to_string().len() < 65_536, "{errors}"),
        // A file of ours with that name.
        (Err(errors), Ok(_)) => assert!(errors.to_string().ends_with("is not a mosquitto.conf"), "{errors}"),
        (Ok(text), Err(errors)) => panic!("{errors}\n{text}"),
    }
    fs::remove_dir_all(&folder).expect("the folder of this check");
}

fn load(file: &Path) -> Result<Config, ConfigErrors> {
    Config::load(&Sources { file: Some(file.to_owned()), ..Sources::default() })
}

fn settings(config: Config) -> Config {
    Config { sources: Sources::default(), files: Vec::new(), findings: Vec::new(), ..config }
}
