//! Rights: decisions that nobody remembers. The limits are what was measured and six percent; the aim is under 2 µs, about 6,000
//! instructions at the very most, with 10,000 users and 100,000 rules.

use std::fmt::Write;
use std::hint::black_box;

use super::limits::at_most;
use super::rules::{self, USERS};
use gungraun::prelude::*;
use waypost::access::{Access, Act, Form, Identity, Rules, Source, Verdict};
use waypost::codec::Qos;

struct Asking {
    access: Access,
    who: Vec<Identity>,
    topics: Vec<String>,
    expected: Verdict,
}

fn asking(form: Form, text: &str, topic: impl Fn(usize) -> String, expected: Verdict) -> Asking {
    let rules = Rules::read(&[Source { name: "acl", text: text.as_bytes(), form }]).expect("rules");
    assert!(rules.len() >= 100_000);
    let numbers = || (0..1_000).map(|number| number * 7 % USERS);
    let who = |number: usize| Identity {
        user_name: Some(format!("user-{number:05}").into()),
        client_id: format!("client-{number:05}").into(),
        ..Identity::default()
    };
    Asking {
        access: Access::with_rules(rules),
        who: numbers().map(who).collect(),
        topics: numbers().map(topic).collect(),
        expected,
    }
}

fn mosquitto(topic: impl Fn(usize) -> String, expected: Verdict) -> Asking {
    asking(Form::Mosquitto, &rules::mosquitto(), topic, expected)
}

/// The same by roles: ten rules for each user, three roles with ten, and a thousand for everyone.
fn native(topic: impl Fn(usize) -> String, expected: Verdict) -> Asking {
    let mut text = String::new();
    for role in 0..3 {
        let _ = writeln!(text, "[role.role-{role}]\ndeny = {{ all = \"plant/{role}/secret/#\" }}\nallow = [");
        for rule in 0..10 {
            let _ = writeln!(text, "{{ subscribe = \"role-{role}/{rule}/+/state\" }},");
        }
        let _ = writeln!(text, "]");
    }
    let _ = writeln!(text, "[everyone]\nallow = [{{ all = \"device/%c/#\" }},");
    for rule in 0..1_000 {
        let _ = writeln!(text, "{{ subscribe = \"common/{rule}/#\" }},");
    }
    let _ = writeln!(text, "]");
    for user in 0..USERS {
        let _ = writeln!(text, "[user.user-{user:05}]\nroles = [\"role-0\", \"role-1\", \"role-2\"]\nallow = [");
        for rule in 0..10 {
            let _ = writeln!(text, "{{ all = \"plant/{}/machine-{user:05}/{rule}/+\" }},", rule % 3);
        }
        let _ = writeln!(text, "]");
    }
    asking(Form::Native, &text, topic, expected)
}

fn of_a_machine(number: usize) -> String {
    format!("plant/{}/machine-{number:05}/{}/temperature", number % 9 % 3, number % 9)
}

fn own() -> Asking {
    mosquitto(of_a_machine, Verdict::Allowed)
}

fn by_pattern() -> Asking {
    mosquitto(|number| format!("area-{}/user-{number:05}/x/state", number % 10), Verdict::Allowed)
}

fn of_nobody() -> Asking {
    mosquitto(|number| format!("plant/{}/machine-{number:05}/else/temperature", number % 3), Verdict::Denied)
}

fn own_of_native() -> Asking {
    native(of_a_machine, Verdict::Allowed)
}

fn of_everyone() -> Asking {
    native(|number| format!("device/client-{number:05}/state/x/y"), Verdict::Allowed)
}

fn of_nobody_native() -> Asking {
    native(|number| format!("plant/{}/machine-{number:05}/else/temperature", number % 3), Verdict::Denied)
}

// For one of a thousand decisions.
#[library_benchmark]
#[bench::mosquitto_own_rule(args = (), setup = own, config = at_most(2_720, 1_000))]
#[bench::mosquitto_pattern(args = (), setup = by_pattern, config = at_most(4_400, 1_000))]
#[bench::mosquitto_denied(args = (), setup = of_nobody, config = at_most(4_590, 1_000))]
#[bench::roles_own_rule(args = (), setup = own_of_native, config = at_most(4_300, 1_000))]
#[bench::roles_everyone(args = (), setup = of_everyone, config = at_most(3_350, 1_000))]
#[bench::roles_denied(args = (), setup = of_nobody_native, config = at_most(4_800, 1_000))]
fn deciding(asking: Asking) -> Asking {
    for (who, topic) in asking.who.iter().zip(&asking.topics) {
        let act = Act::Publish { topic: topic.as_bytes(), qos: Qos::AtMostOnce, retain: false };
        assert!(asking.access.decide(black_box(who), black_box(act)) == asking.expected);
    }
    asking
}

library_benchmark_group!(name = decisions, benchmarks = deciding);
