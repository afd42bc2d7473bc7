//! V: those rows about the process that need no disk: its clock, its being stopped, its end, and where its log goes.
//!
//! V09 is played over TCP alone: a process that is stopped finishes no handshake of TLS or WebSocket, so that nobody could come to it
//! meanwhile, as the row wants.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use crate::broker::{Broker, Profile, Signal};
use crate::client::{Client, Event, PATIENCE, connected, prompt};
use crate::disk::preloaded;
use crate::g_authentication::Files;
use crate::n_exhaustion::wait_until;
use crate::packet::{Connect, PINGREQ, Version, Will, code, connect, kind, property, publish, will};
use crate::rules::{Scene, Turn, busyness, load};

each_version_over_tcp! {
    v09_frozen,
    v13_log_is_full_or_gone,
}

all_versions_over_tcp! {
    v12_orderly_stop: alone,
}

/// A wall clock that the test sets, in place of the C library's: it adds as many seconds as a file says.
const CLOCK: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
static volatile long *shift;
__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("CLOCK_SHIFT");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *place = mmap(0, sizeof(long), PROT_READ, MAP_SHARED, file, 0);
    if (place != MAP_FAILED) shift = place;
    close(file);
}
int clock_gettime(clockid_t clock, struct timespec *now) {
    int result = syscall(SYS_clock_gettime, clock, now);
    if (result == 0 && clock == CLOCK_REALTIME && shift) now->tv_sec += *shift;
    return result;
}
"#;

/// The clock of a process, and how far off it is.
struct Clock {
    files: Files,
    library: String,
}

impl Clock {
    fn new() -> Self {
        let files = Files::new();
        let library = preloaded(&files, "clock", CLOCK);
        fs::write(files.path("shift"), 0_i64.to_ne_bytes()).expect("the temporary folder can be written");
        Self { files, library }
    }

    fn give_to(&self, profile: &mut Profile) {
        profile.environment("LD_PRELOAD", &self.library).environment("CLOCK_SHIFT", self.files.path("shift"));
    }

    /// Written in place: the process has the file in its memory.
    fn jump_by(&self, seconds: i64) {
        let path = PathBuf::from(self.files.path("shift"));
        let file = fs::OpenOptions::new().write(true).open(path).expect("it was written before");
        std::os::unix::fs::FileExt::write_all_at(&file, &seconds.to_ne_bytes(), 0).expect("the file can be written");
    }
}

/// The wall clock jumps, and nobody notices but the log: what lasts a while lasts as long as before.
#[test]
fn v08_clock_jumps() {
    const HOUR: i64 = 3600;
    const YEAR: i64 = 365 * 24 * HOUR;
    let clock = Clock::new();
    let scene = Scene::with(|profile| {
        clock.give_to(profile);
        profile.set("limits.message_rate_max", 500);
    });
    for (round, seconds) in [-HOUR, HOUR, 10 * YEAR, 0].into_iter().enumerate() {
        let version = Version::BOTH[round % 2];
        let id = format!("v08-{round}");
        let mut publisher = scene.connected(Version::V5, format!("{id}-publisher"));
        let mut watcher = scene.connected(version, format!("{id}-watcher"));
        assert_eq!(watcher.subscribe(format!("v08/{round}/#"), 0), 0);
        // A Session with a message in it, a Keep Alive of a second, a Will that is due soon, a message that is not due for long.
        let staying = Connect {
            clean: false,
            properties: property::of_u32(property::SESSION_EXPIRY_INTERVAL, 600),
            ..connect(version, format!("{id}-away"))
        };
        let mut away = scene.open(version);
        away.connect(&staying);
        assert_eq!(away.subscribe(format!("v08-queued/{round}"), 1), 1);
        away.disconnect();
        let expires = property::of_u32(property::MESSAGE_EXPIRY_INTERVAL, 600);
        for (topic, retained) in [(format!("v08-queued/{round}"), false), (format!("v08-retained/{round}"), true)] {
            let message = publish(Version::V5, topic, "kept").qos(1, 1).with(&expires);
            publisher.send(&if retained { message.retained() } else { message }.bytes());
            assert!(publisher.receive_ack(kind::PUBACK, 1) <= code::NO_MATCHING_SUBSCRIBERS);
        }
        let mut alive = scene.open(version);
        alive.connect(&Connect { keep_alive_s: 1, ..connect(version, format!("{id}-alive")) });
        let mut dying = scene.open(Version::V5);
        dying.connect(&Connect {
            properties: property::of_u32(property::SESSION_EXPIRY_INTERVAL, 600),
            will: Some(Will {
                properties: property::of_u32(property::WILL_DELAY_INTERVAL, 1),
                ..will(format!("v08/{round}/will"), "will")
            }),
            ..connect(Version::V5, format!("{id}-dying"))
        });
        dying.reset();
        let lost = Instant::now();
        clock.jump_by(seconds);
        // The Will comes when it is due, not before, and the one that pings is not taken for dead meanwhile.
        let delivered = loop {
            alive.ping();
            match watcher.event(Duration::from_millis(100)) {
                Event::Packet(packet) => break packet.delivery(version),
                Event::Closed => panic!("the watcher was disconnected"),
                Event::Silence => assert!(lost.elapsed() < PATIENCE + prompt(), "the Will does not come"),
            }
        };
        assert_eq!(delivered.payload, b"will");
        assert!(lost.elapsed() >= Duration::from_millis(900), "the Will came after {:?}", lost.elapsed());
        // Rates go on as they were.
        for number in 0..50 {
            publisher.send(&publish(Version::V5, format!("v08/{round}/rate"), number.to_string()).bytes());
            assert_eq!(watcher.receive_message().payload, number.to_string().as_bytes());
        }
        let mut back = scene.open(version);
        assert!(back.connect(&staying).session_present, "the Session is still there");
        let kept = back.receive_message();
        assert_eq!(kept.payload, b"kept");
        back.finish_delivery(&kept);
        back.disconnect();
        let mut late = scene.connected(Version::V5, format!("{id}-late"));
        let subscription = crate::packet::subscribe(Version::V5, 9, &[(format!("v08-retained/{round}").as_bytes(), 0)]);
        late.send(&subscription).receive_kind(kind::SUBACK);
        let retained = late.receive_kind(kind::PUBLISH);
        let left = retained.delivery(Version::V5).properties.into_iter().find_map(|(id, value)| {
            (id == property::MESSAGE_EXPIRY_INTERVAL).then(|| u32::from_be_bytes(value.try_into().expect("four bytes")))
        });
        assert!(left.is_some_and(|left| (500..=600).contains(&left)), "{left:?} seconds are left of 600");
        for client in [publisher, watcher, alive, late] {
            client.disconnect();
        }
    }
    // That the clock has jumped at all, the log shows.
    clock.jump_by(10 * YEAR);
    let this_year = &scene.broker().log()[..4].parse::<u32>().expect("lines begin with the year");
    scene.open(Version::V5).send(b"GET / HTTP/1.1\r\n\r\n").expect_close();
    let later = format!("{}-", this_year + 9);
    wait_until("the log has the new time", PATIENCE, || {
        scene.broker().log().lines().any(|line| line > later.as_str() && line.starts_with("20"))
    });
    scene.holds();
}

/// A process that was stopped for a while closes those whose time is over, once, and nobody else.
fn v09_frozen(version: Version) {
    let _turn = Turn::of_this_test();
    let mut broker = Broker::start(&Profile::test());
    let address = broker.address();
    let mut watcher = connected(address, Version::V5, "v09-watcher");
    assert_eq!(watcher.subscribe("v09/will", 0), 0);
    let enter = |id: &str, keep_alive_s: u16| {
        let mut client = Client::open(address, version);
        let will = Some(will("v09/will", id));
        client.connect(&Connect { keep_alive_s, will, ..connect(version, format!("v09-{id}")) });
        client
    };
    let (mut silent, mut talking, mut patient) = (enter("silent", 1), enter("talking", 1), enter("patient", 600));
    broker.signal(Signal::STOP);
    let frozen = Instant::now();
    let lasts = Duration::from_secs(load(3, 30) as u64);
    let mut pings = 0;
    while frozen.elapsed() < lasts {
        talking.send(PINGREQ);
        pings += 1;
        thread::sleep(Duration::from_millis(200));
    }
    // Who comes now waits in the backlog, and so does one who comes with a name that is in use.
    let mut early = Client::open(address, version);
    early.send(&connect(version, "v09-early").bytes());
    broker.signal(Signal::CONT);
    let thawed = Instant::now();
    assert_eq!(early.receive_connack().code, 0);
    if version.is_v5() {
        silent.expect_refusal(&[code::KEEP_ALIVE_TIMEOUT]);
    } else {
        silent.expect_close();
    }
    assert!(thawed.elapsed() <= 2 * prompt(), "closed {:?} after it went on", thawed.elapsed());
    for _ in 0..pings {
        talking.receive_kind(kind::PINGRESP);
    }
    patient.ping();
    talking.ping();
    let wills: Vec<_> = watcher.settle();
    assert_eq!(wills.len(), 1, "one Will of one Client: {wills:?}");
    assert_eq!(wills[0].delivery(Version::V5).payload, b"silent");
    // Afterwards all is quiet.
    let before = broker.usage().expect("it is ours").cpu;
    thread::sleep(Duration::from_millis(500));
    let spent = broker.usage().expect("it is ours").cpu.saturating_sub(before);
    assert!(spent <= Duration::from_millis(50), "{spent:?} of CPU in half a second");
    let log = broker.log();
    assert!(broker.is_alive() && !log.contains("panicked"), "{log}");
    for client in [talking, patient, early, watcher] {
        client.disconnect();
    }
}

/// A thousand Clients and ten thousand queued messages when the broker is told to stop: all are told, and it ends in time.
fn v12_orderly_stop() {
    let _turn = Turn::of_this_test();
    let mut profile = Profile::test();
    profile.set("limits.connections_pending_max", 2000);
    let mut broker = Broker::start(&profile);
    let address = broker.address();
    let (clients, sessions) = (load(200, 1000), load(2, 10));
    for number in 0..sessions {
        let mut away = Client::open(address, Version::V5);
        away.connect(&Connect {
            clean: false,
            properties: property::of_u32(property::SESSION_EXPIRY_INTERVAL, 600),
            ..connect(Version::V5, format!("v12-away-{number}"))
        });
        assert_eq!(away.subscribe("v12/queued", 1), 1);
        away.disconnect();
    }
    let mut publisher = connected(address, Version::V5, "v12-publisher");
    for number in 0..1000 {
        assert_eq!(publisher.publish("v12/queued", number.to_string(), 1), 0);
    }
    let mut clients: Vec<_> =
        (0..clients).map(|number| connected(address, Version::BOTH[number % 2], format!("v12-{number}"))).collect();
    clients.push(publisher);
    broker.signal(Signal::TERM);
    let told = Instant::now();
    for client in &mut clients {
        client.expect_refusal(&[0x8B]);
    }
    // They close as well, as they should; a broker that has nobody left does not wait.
    drop(clients);
    let code = broker.exit_code(Duration::from_secs(10).mul_f64(busyness()));
    assert_eq!(code, Some(0), "after {:?}:\n{}", told.elapsed(), broker.log());
    crate::report(&format!("v12: ended {:.1?} after SIGTERM", told.elapsed()));
    let log = broker.log();
    assert!(log.contains("stopped") && !log.contains("panicked"), "{log}");
}

/// Where the log goes is full, gone or closed: the broker goes on without it.
fn v13_log_is_full_or_gone(version: Version) {
    for prelude in [
        "exec 2>/dev/full",
        "exec 2>&-",
        // A reader that has enough after the first byte.
        "pipe=$(mktemp -u); mkfifo \"$pipe\"; head -c 1 <\"$pipe\" >/dev/null & exec 2>\"$pipe\"; rm \"$pipe\"",
    ] {
        let scene = Scene::with(|profile| {
            profile.prelude(prelude);
        });
        for _ in 0..300 {
            scene.open(version).send(b"GET / HTTP/1.1\r\n\r\n").expect_close();
        }
        let mut client = scene.connected(version, "v13");
        // Nothing of the log has got into a connection that has taken the place of its file.
        assert!(client.settle().is_empty());
        client.disconnect();
        assert_eq!(scene.broker().log(), "", "{prelude}");
        scene.holds();
    }
}
