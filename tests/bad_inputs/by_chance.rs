//! Packets made by chance, some of them broken, sent over real sockets in pieces: whatever they do, the broker comes to an end
//! with each connection, and nobody else notices. What it answers is judged in memory, by the thousand, in `tests/wire_fuzz.rs`.

use crate::client::{Client, Event, PATIENCE};
use crate::grammar;
use crate::packet::Version;
use crate::random::{Random, from_environment};
use crate::rules::{Scene, load};
use crate::transport::Transport;

each_transport! {
    whatever_is_said_comes_to_an_end: alone,
}

fn whatever_is_said_comes_to_an_end() {
    let scene = Scene::under_load_with(|profile| {
        // Assigned Client Identifiers are new each time, and their Sessions are not what is tested.
        profile.set("limits.session_expiry_max", "1s");
    });
    let seed = from_environment("SEED", 1);
    let times = if Transport::of_this_test() == Transport::Tcp { load(1_500, 100_000) } else { load(250, 20_000) };
    scene.repeat(times, |round| {
        let mut random = Random::new(seed.wrapping_add(round as u64));
        let mut clients: Vec<Client> = (0..3).map(|_| speak(&scene, &mut random)).collect();
        for client in &mut clients {
            client.finish_sending();
        }
        for client in &mut clients {
            while let Event::Packet(_) = until_the_end(client, seed.wrapping_add(round as u64)) {}
        }
    });
    scene.holds();
}

fn speak(scene: &Scene, random: &mut Random) -> Client {
    let version = [3, 4, 5][random.below(3)];
    let mut client = scene.open(if version == 5 { Version::V5 } else { Version::V311 });
    let mut bytes = grammar::packet(grammar::CONNECT, version, random);
    for _ in 0..random.below(12) {
        let kind = [3, 3, 3, 4, 5, 6, 7, 8, 8, 10, 12, 14, 15, 1][random.below(14)];
        let mut packet = grammar::packet(kind, version, random);
        if random.one_in(15) {
            grammar::mutate(&mut packet, random);
        }
        bytes.extend(packet);
    }
    let (first, rest) = bytes.split_at(random.below(bytes.len() + 1));
    client.send(first).send(rest);
    client
}

fn until_the_end(client: &mut Client, seed: u64) -> Event {
    match client.event(PATIENCE) {
        Event::Silence => panic!("SEED={seed}: the broker is never done with it"),
        event => event,
    }
}
