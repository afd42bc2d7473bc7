//! J: what rules cost. All other rows of J, which need no socket, stand in `tests/rights/`.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use waypost::access::{Access, Act, Identity, Verdict};
use waypost::codec::Qos;

use crate::client::Client;
use crate::g_authentication::Files;
use crate::packet::{Connect, PINGREQ, Version, connect, kind, publish};
use crate::rules::{SLOWNESS, Scene, busyness, load};

all_versions_over_tcp! {
    j21_rule_engine_cost: alone,
}

const RULES: usize = 10_000;

/// Rules of every form: for each user, for everybody with placeholders, with wildcards in every place, denials.
fn rules() -> String {
    let mut text = "pattern readwrite innocent/#\npattern readwrite bad/#\npattern readwrite own/%u/%c/#\n".to_owned();
    for number in 0..RULES / 10 {
        let _ = write!(
            text,
            "user user-{number}\ntopic readwrite a/{number}/#\ntopic read b/+/{number}/#\ntopic write c/{number}/+/+/d\n\
             topic deny a/{number}/secret/#\ntopic read +/e/{number}\ntopic write f/{number}\ntopic readwrite g/{number}/+\n\
             topic read h/+/+/{number}/#\ntopic deny g/{number}/not\n"
        );
        let _ = writeln!(text, "pattern write p/{number}/%c/#");
    }
    text
}

/// Ten thousand rules, many Clients, and topics that nobody has asked about before.
fn j21_rule_engine_cost() {
    let files = Files::new();
    let file = files.write("rules", rules());
    // What one decision takes, without anything around it.
    let access = Access::with_rules(waypost::acl::read(&[PathBuf::from(&file)]).expect("good rules"));
    let mut times = Vec::new();
    for number in 0..load(2_000, 20_000) {
        let user = number * 7 % (RULES / 10);
        let who = Identity {
            user_name: Some(format!("user-{user}").into()),
            client_id: format!("client-{user}").into(),
            ..Identity::default()
        };
        for (topic, expected) in [
            (format!("a/{user}/x/{number}"), Verdict::Allowed),
            (format!("a/{user}/secret/{number}"), Verdict::Denied),
            (format!("b/{number}/{user}/x"), Verdict::Denied),
            (format!("p/{user}/client-{user}/{number}"), Verdict::Allowed),
        ] {
            let begun = Instant::now();
            let act = Act::Publish { topic: topic.as_bytes(), qos: Qos::AtMostOnce, retain: false };
            let verdict = access.decide(&who, act);
            times.push(begun.elapsed());
            assert_eq!(verdict, expected, "{topic}");
        }
    }
    times.sort_unstable();
    let (median, p99) = (times[times.len() / 2], times[times.len() / 100 * 99]);
    crate::report(&format!("j21: {RULES} rules, a new topic each time: median {median:.2?}, p99 {p99:.2?}"));
    assert!(median <= Duration::from_micros(50).mul_f64(busyness()), "a decision takes {median:?}");
    drop(access);
    // And in the broker, whose memory of decisions is bounded.
    let clients = load(100, 1000);
    let scene = Scene::under_load_with(|profile| {
        profile.set("acl.files", [&file]);
    })
    .may_grow_by((clients * 16 * 1024 + 16 * 1024 * 1024) as u64);
    let mut people: Vec<_> = (0..clients)
        .map(|number| {
            let version = Version::BOTH[number % 2];
            let mut client = Client::open(scene.address(), version);
            client.connect(&Connect {
                user_name: Some(format!("user-{number}").into_bytes()),
                ..connect(version, format!("client-{number}"))
            });
            client
        })
        .collect();
    let (rounds, each) = (load(2, 10), load(50, 100));
    let mut grown = Vec::new();
    let begun = Instant::now();
    for round in 0..rounds {
        for (number, client) in people.iter_mut().enumerate() {
            let version = client.version();
            let packets: Vec<u8> = (0..each)
                .flat_map(|message| publish(version, format!("a/{number}/{round}/{message}"), "x").bytes())
                .collect();
            client.send(&packets).send(PINGREQ);
        }
        for client in &mut people {
            client.receive_kind(kind::PINGRESP);
        }
        grown.push(scene.growth());
    }
    let (took, count) = (begun.elapsed(), rounds * each * clients);
    crate::report(&format!(
        "j21: {count} messages of {clients} Clients to new topics in {took:.1?}, {:.0} a second, memory +{} KiB and then {} KiB",
        count as f64 / took.as_secs_f64(),
        grown[0] / 1024,
        grown[grown.len() - 1] / 1024
    ));
    let allowed = Duration::from_micros(50) * SLOWNESS.min(4) * count as u32;
    assert!(took <= allowed.mul_f64(busyness()) + Duration::from_secs(1), "{count} messages took {took:?}");
    people.into_iter().for_each(Client::disconnect);
    scene.holds();
}
