//! Every input that has ever broken the broker, sent again: the bytes of one file are those of one connection.

use std::fs;
use std::path::Path;

use crate::client::Event;
use crate::packet::Version;
use crate::rules::Scene;

#[test]
fn what_once_broke_the_broker_does_so_no_more() {
    let scene = Scene::start();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    for entry in fs::read_dir(folder).expect("the folder is part of the repository") {
        let path = entry.expect("the folder can be read").path();
        if path.extension().is_none_or(|extension| extension != "bin") {
            continue;
        }
        let input = fs::read(&path).expect("the file can be read");
        let mut client = scene.open(Version::V5);
        client.send(&input).finish_sending();
        // What is answered is for the rows to say; here the broker only has to come to an end with it.
        let patience = crate::client::PATIENCE;
        while matches!(client.event(patience), Event::Packet(_)) {}
        assert!(matches!(client.event(patience), Event::Closed), "{} is never done with", path.display());
    }
    scene.holds();
}
