//! A broker with users and rules, both of which change while it runs.

use crate::support::people::People;
use crate::support::talk::Client;
use crate::support::wire::{Connect, Version, connect};
use crate::support::{Settings, TestBroker, TestJournal};
use std::sync::Arc;
use waypost::access::{Access, Form, Rules, Source};

/// The users of the page, and a group of two more.
pub(crate) const RULES: &str = "\
user alice
topic a/#
topic read pub/#
user bob
topic b/#
topic read pub/#
user root
topic #
topic read $SYS/#
pattern write dev/%c/#
";

pub(crate) struct Stage {
    pub(crate) broker: TestBroker,
    pub(crate) people: People,
}

impl Stage {
    pub(crate) fn new() -> Self {
        Self::with(RULES)
    }

    pub(crate) fn with(rules: &str) -> Self {
        Self::on(TestBroker::new(), rules)
    }

    /// The usual rules in a broker with other settings.
    pub(crate) fn with_settings(change: impl FnOnce(&mut Settings)) -> Self {
        Self::on(TestBroker::with(change), RULES)
    }

    /// The usual rules, and Sessions that are kept in this journal.
    pub(crate) fn with_journal(journal: &Arc<TestJournal>) -> Self {
        Self::on(TestBroker::with_journal(|_| (), Some(Arc::clone(journal)), false), RULES)
    }

    fn on(broker: TestBroker, rules: &str) -> Self {
        let people = People::named(&["alice", "bob", "mallory", "root", "carol"]);
        let stage = Self { broker: broker.guarded_by(people.clone()), people };
        stage.rule(rules);
        stage
    }

    /// Other rules are in force from now on, in the form of mosquitto.
    pub(crate) fn rule(&self, text: &str) {
        self.rule_by("acl.conf", text, Form::Mosquitto);
    }

    /// The same in our form.
    pub(crate) fn rule_natively(&self, text: &str) {
        self.rule_by("acl.toml", text, Form::Native);
    }

    fn rule_by(&self, name: &str, text: &str, form: Form) {
        let rules = read(name, text, form);
        self.broker.set_access(Access::with_rules(rules).with_accounts(Arc::new(self.people.clone())));
    }

    /// These rules, in our form, hold at this listener, and those of the page at all others.
    pub(crate) fn rule_at(&self, listener: &str, text: &str) {
        let access = Access::with_rules(read("acl.conf", RULES, Form::Mosquitto));
        let access = access.at_listener(listener, Some(read("own.toml", text, Form::Native)));
        self.broker.set_access(access.with_accounts(Arc::new(self.people.clone())));
    }

    /// The rules of the page, and these bans. It is 1970, and the broker has just begun.
    pub(crate) fn ban(&self, text: &str) {
        let sources = [
            Source { name: "acl.conf", text: RULES.as_bytes(), form: Form::Mosquitto },
            Source { name: "bans.toml", text: text.as_bytes(), form: Form::Native },
        ];
        let access = Access::with_rules(Rules::read(&sources).expect("the bans of a test are bans"));
        self.broker.set_access(access.with_accounts(Arc::new(self.people.clone())));
    }

    /// The rules without these lines.
    pub(crate) fn revoke(&self, lines: &[&str]) {
        let kept = |line: &&str| !lines.contains(line);
        self.rule(&RULES.lines().filter(kept).map(|line| format!("{line}\n")).collect::<String>());
    }

    /// What is said about accounts is looked at again, rules stay.
    pub(crate) fn look_again(&self) {
        self.rule(RULES);
    }

    /// Connects; the Client Identifier is the user's name.
    #[track_caller]
    pub(crate) fn enter(&self, version: Version, user: &str) -> Client {
        Client::connects(&self.broker, hello(version, user))
    }

    /// Connects with a Session that lasts.
    #[track_caller]
    pub(crate) fn stay(&self, version: Version, user: &str) -> Client {
        Client::connects(&self.broker, hello(version, user).persistent())
    }

    #[track_caller]
    pub(crate) fn resume(&self, version: Version, user: &str) -> Client {
        Client::resumes(&self.broker, hello(version, user).persistent())
    }

    /// A thousand Clients of alice and bob in turn, each third of which has lost its connection.
    pub(crate) fn crowd(&self) -> Vec<Client> {
        let clients: Vec<Client> = (0..1000)
            .map(|number| {
                let user = if number % 2 == 0 { "alice" } else { "bob" };
                Client::connects(&self.broker, hello_as(Version::V5, &format!("{user}-{number}"), user).persistent())
            })
            .collect();
        for client in clients.iter().step_by(3) {
            client.vanishes();
        }
        clients
    }
}

fn read(name: &str, text: &str, form: Form) -> Rules {
    Rules::read(&[Source { name, text: text.as_bytes(), form }]).expect("the rules of a test are rules")
}

/// CONNECT of a user whose Client Identifier and password are its name.
pub(crate) fn hello(version: Version, user: &str) -> Connect {
    hello_as(version, user, user)
}

pub(crate) fn hello_as(version: Version, client_id: &str, user: &str) -> Connect {
    connect(version, client_id).user_name(user).password(user.as_bytes())
}

/// What a CONNECT is told that is banned.
pub(crate) fn banned(version: Version) -> u8 {
    if version.is_v5() { 0x8a } else { 5 }
}

/// What a SUBSCRIBE is told that is denied.
pub(crate) fn denied(version: Version) -> u8 {
    if version.is_v5() { 0x87 } else { 0x80 }
}

/// What a CONNECT is told that is not authorized.
pub(crate) fn not_authorized(version: Version) -> u8 {
    if version.is_v5() { 0x87 } else { 5 }
}
