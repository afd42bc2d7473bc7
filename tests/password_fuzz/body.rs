//! What must hold for any password file and any message of SCRAM: the body that the fuzz target and the bounded test share.

use std::num::NonZeroU32;

use waypost::access::password::{Hash, PasswordFile, check_user_name};
use waypost::access::scram::{ClientFirst, Secret};

/// An even first byte: the rest is a password file. An odd one: two messages of a Client, with a NUL between them.
pub(crate) fn check(data: &[u8]) {
    match data.split_first() {
        Some((choice, text)) if choice % 2 == 0 => file(text),
        Some((_, messages)) => exchange(messages),
        None => {}
    }
}

fn file(text: &[u8]) {
    let file = match PasswordFile::parse("file", text) {
        Ok(file) => file,
        Err(errors) => {
            let lines = text.split(|byte| *byte == b'\n').count();
            assert!(errors.faults.iter().all(|(line, _)| (1..=lines).contains(line)));
            assert!(errors.to_string().lines().all(|line| line.starts_with("file:") && line.len() < 1000));
            return;
        }
    };
    let text = String::from_utf8_lossy(text); // a comment may be anything
    let mut users = 0;
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (user, written) = line.split_once(':').expect("a line that is taken has a colon");
        check_user_name(user).expect("a user that is taken has a name");
        let hash = file.hash(user).expect("each user is known");
        assert_eq!(hash.to_string(), written, "nothing is read into a line that is not there");
        assert!(Hash::parse(written).as_ref() == Ok(hash));
        assert!(file.scram(user) == file.scram(user));
        users += 1;
    }
    assert_eq!(file.len(), users);
    // At once, whatever the hashes cost.
    assert!(!file.verify("somebody", &[b'x'; 1025]) && !file.verify("somebody", b"\0"));
}

fn exchange(messages: &[u8]) {
    let mut messages = messages.splitn(2, |byte| *byte == 0);
    let Ok(first) = ClientFirst::read(messages.next().unwrap_or_default()) else { return };
    assert!(!first.user().is_empty());
    let secret = Secret {
        iterations: NonZeroU32::MIN,
        salt: Box::new([1]),
        stored_key: [2; 32], // nobody knows what has this hash
        server_key: [3; 32],
    };
    let (challenge, challenged) = first.challenge(secret, "ours");
    assert!(challenge.starts_with("r=") && challenge.ends_with("ours,s=AQ==,i=1"));
    assert!(challenged.finish(messages.next().unwrap_or_default()).is_err());
}
