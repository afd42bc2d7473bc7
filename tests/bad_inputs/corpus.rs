//! Every input that has ever broken the broker, sent again: the bytes of one file are those of one connection.

use std::fs;
use std::path::{Path, PathBuf};

use crate::client::{Client, Event, PATIENCE};
use crate::packet::{Version, connect};
use crate::rules::Scene;

each_transport! {
    what_once_broke_the_broker_does_so_no_more,
}

fn what_once_broke_the_broker_does_so_no_more() {
    let mut scene = Scene::start();
    let mut files = Vec::new();
    find(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus"), &mut files);
    assert!(files.len() > 10, "the corpus is not where it should be");
    for path in files {
        let mut input = fs::read(&path).expect("the file can be read");
        if path.parent().is_some_and(|folder| folder.ends_with("codec")) {
            // The first byte is an option of the codec's own tests.
            input.remove(0);
        }
        for version in Version::BOTH {
            see_end(scene.open(version), &input, &path);
            let greeted = [connect(version, "bad-client").bytes(), input.clone()].concat();
            see_end(scene.open(version), &greeted, &path);
        }
    }
    // What is answered and published is for the rows to say; here the broker only has to come to an end with it.
    scene.observed();
    scene.holds();
}

fn find(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("the folder is part of the repository") {
        let path = entry.expect("the folder can be read").path();
        if path.is_dir() {
            find(&path, files);
        } else if path.extension().is_none_or(|extension| extension != "md") {
            files.push(path);
        }
    }
}

#[track_caller]
fn see_end(mut client: Client, input: &[u8], path: &Path) {
    client.send(input).finish_sending();
    loop {
        match client.event(PATIENCE) {
            Event::Packet(_) => {}
            Event::Closed => return,
            Event::Silence => panic!("{} is never done with", path.display()),
        }
    }
}
