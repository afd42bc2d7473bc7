//! `waypost acl`: are rule files right, may somebody do something and by which rule, and who has to do with a topic.
//! The answers are those of the running broker, because the same function gives them.
//! Exit codes: 0 allowed or valid, 1 denied, 2 wrong arguments or rules.

use super::{WRONG_SETTINGS, complain, print};
use crate::access::{Access, Act, Identity, Token, Verdict};
use crate::acl::{self, RuleFiles};
use crate::codec::{Moment, Qos, TopicLimits, check_filter, check_name};
use crate::config::{Config, Sources};
use clap::{Args, Subcommand};
use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Debug, Subcommand)]
pub(super) enum AclCommand {
    /// Check rule files: mosquitto's form, or ours when the name ends in .toml
    Check {
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Say whether somebody may do something, and by which rule; exit code 0: allowed, 1: denied
    Explain(Explain),
    /// List the rules about a topic, whoever they are for
    Who(Who),
}

/// Which rules are asked.
#[derive(Debug, Args)]
struct Where {
    /// Configuration file whose acl.files are asked
    #[arg(short, long = "config", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Rule file to ask instead; can be given several times
    #[arg(long = "file", value_name = "FILE", conflicts_with = "config")]
    files: Vec<PathBuf>,
    /// Name of the listener that the Client uses; without a name it is called by its address
    #[arg(long, value_name = "NAME")]
    listener: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct Explain {
    #[command(flatten)]
    whence: Where,
    /// User name; without it, a Client that has none
    #[arg(short, long, value_name = "NAME")]
    user: Option<String>,
    /// Client Identifier
    #[arg(long = "client", value_name = "ID", default_value = "client")]
    client: String,
    /// Group that the Client's token names; can be given several times
    #[arg(long = "group", value_name = "NAME")]
    groups: Vec<String>,
    /// IP address of the Client
    #[arg(long, value_name = "IP")]
    address: Option<IpAddr>,
    #[command(flatten)]
    what: What,
    /// QoS of what is published
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=2), conflicts_with_all = ["subscribe", "receive"])]
    qos: u8,
    /// What is published is to be retained
    #[arg(long, conflicts_with_all = ["subscribe", "receive"])]
    retain: bool,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct What {
    /// May it publish to this topic?
    #[arg(long, value_name = "TOPIC")]
    publish: Option<String>,
    /// May it subscribe with this filter?
    #[arg(long, value_name = "FILTER")]
    subscribe: Option<String>,
    /// May it receive messages of this topic?
    #[arg(long, value_name = "TOPIC")]
    receive: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct Who {
    #[command(flatten)]
    whence: Where,
    #[arg(long, value_name = "TOPIC")]
    topic: String,
}

pub(super) fn run(command: AclCommand, environment: Vec<(OsString, OsString)>) -> ExitCode {
    let done = match command {
        AclCommand::Check { files } => check(&files),
        AclCommand::Explain(explain) => self::explain(explain, environment),
        AclCommand::Who(who) => self::who(&who, environment),
    };
    done.unwrap_or_else(|fault| complain(&fault, ExitCode::from(WRONG_SETTINGS)))
}

fn check(files: &[PathBuf]) -> Result<ExitCode, String> {
    let rules = acl::read(files).map_err(|error| error.to_string())?;
    let names: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
    let bans = match rules.bans() {
        0 => String::new(),
        bans => format!(", {bans} bans"),
    };
    let mut text = format!("{}: valid; {} rules{bans}\n", names.join(", "), rules.len());
    for note in rules.notes() {
        text.push_str(&format!("note: {note}\n"));
    }
    Ok(print(&text))
}

impl Where {
    fn access(&self, environment: Vec<(OsString, OsString)>) -> Result<Access, String> {
        if !self.files.is_empty() {
            let rules = acl::read(&self.files).map_err(|error| error.to_string())?;
            return Ok(acl::at_this_time(Access::with_rules(rules), Moment::default()));
        }
        let sources = Sources { file: self.config.clone(), environment, ..Sources::default() };
        let config = Config::load(&sources).map_err(|errors| errors.to_string())?;
        let files = RuleFiles::of(&config);
        let access = files.load(Moment::default()).map_err(|error| error.to_string())?;
        let listeners = files.listeners();
        match &self.listener {
            Some(name) if !listeners.contains(name) => {
                Err(format!("there is no listener {name:?}; there are: {}", listeners.join(", ")))
            }
            None if config.listeners.iter().any(|listener| listener.acl_files.is_some()) => Err(format!(
                "not all listeners have the same rules; say which one is meant, with --listener: {}",
                listeners.join(", ")
            )),
            _ => Ok(access),
        }
    }
}

fn explain(explain: Explain, environment: Vec<(OsString, OsString)>) -> Result<ExitCode, String> {
    let access = explain.whence.access(environment)?;
    let Explain { whence, user, client, groups, address, what, qos, retain } = explain;
    let token = Token { groups: groups.into_iter().map(Into::into).collect(), ..Token::default() };
    let who = Identity {
        user_name: user.map(Into::into),
        client_id: client.into(),
        listener: whence.listener.map(Into::into),
        address,
        token: Some(Box::new(token)),
        ..Identity::default()
    };
    let act = what.act(Qos::from_value(qos).unwrap_or_default(), retain)?;
    if let Some(ban) = access.banned(&who, Moment::default()) {
        print(&format!("denied: {ban}\n"));
        return Ok(ExitCode::FAILURE);
    }
    let explanation = access.explain(&who, act);
    let mut text = format!("{explanation}\n");
    if explanation.verdict == Verdict::Allowed
        && let Some(rate) = access.rate(&who, act)
    {
        text.push_str(&format!("at most {rate} messages in a second\n"));
    }
    let printed = print(&text);
    Ok(if explanation.verdict == Verdict::Allowed { printed } else { ExitCode::FAILURE })
}

impl What {
    fn act(&self, qos: Qos, retain: bool) -> Result<Act<'_>, String> {
        match (&self.publish, &self.subscribe, &self.receive) {
            (Some(topic), ..) => Ok(Act::Publish { topic: checked(topic)?, qos, retain }),
            (_, Some(filter), _) => match check_filter(filter, TopicLimits::NONE) {
                Ok(subscription) => Ok(Act::Subscribe { filter: subscription.filter.as_bytes() }),
                Err(_) => Err(format!("{filter:?} is no Topic Filter")),
            },
            (.., Some(topic)) => Ok(Act::Receive { topic: checked(topic)? }),
            (None, None, None) => Err("nothing is asked".to_owned()),
        }
    }
}

fn checked(topic: &str) -> Result<&[u8], String> {
    match check_name(topic, TopicLimits::NONE) {
        Ok(()) => Ok(topic.as_bytes()),
        Err(_) => Err(format!("{topic:?} is no Topic Name: it must not be empty or hold + or #")),
    }
}

fn who(who: &Who, environment: Vec<(OsString, OsString)>) -> Result<ExitCode, String> {
    let access = who.whence.access(environment)?;
    let topic = checked(&who.topic)?;
    let listener = who.whence.listener.as_deref();
    if access.rules_at(listener).is_none() {
        return Ok(print("there are no rules: everybody may do everything\n"));
    }
    let concerned = access.who(listener, topic);
    if concerned.is_empty() {
        return Ok(print("no rule is about this topic: nobody may publish to it or receive it\n"));
    }
    Ok(print(&concerned.iter().map(|rule| format!("{rule}\n")).collect::<String>()))
}
