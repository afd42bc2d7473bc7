//! The command line: run the broker, check a configuration, print the reference; `cli/passwd.rs` keeps password files.
//! It reads arguments and the environment, reports what is wrong, and leaves all work to the rooms below.
//! Exit codes: 0 when all went well, 2 when the arguments or the configuration are wrong, 1 when something else failed.

mod acl;
mod cert;
mod passwd;
mod store;

use crate::access::{Access, Rules};
use crate::acl::RuleFiles;
use crate::config::{self, Config, ConfigErrors, Finding, Flags, Listener, Sources};
use crate::log::{self, Level};
use crate::node;
use clap::{ArgAction, Args, Parser, Subcommand};
use std::env;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// The exit code of wrong arguments, which is also clap's, and of a wrong configuration.
const WRONG_SETTINGS: u8 = 2;

#[derive(Debug, Parser)]
#[command(name = "waypost", version, about, args_conflicts_with_subcommands = true)]
#[command(
    after_help = "Without a configuration file Waypost listens on 127.0.0.1:1883, lets everybody in and keeps its data \
in ./waypost-data. `waypost config reference` prints every setting."
)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the broker; the same as no command at all
    Run(Settings),
    /// Check the configuration in all its layers without running anything
    Check(Settings),
    /// Print a mosquitto.conf as a configuration file of Waypost
    Convert {
        /// The mosquitto.conf
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Make certificates: an authority, servers, Clients
    Cert(cert::Arguments),
    /// Make and change password files, as mosquitto_passwd does
    Passwd(passwd::Passwd),
    /// Print what can be configured
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Ask the rules who may publish and subscribe
    Acl {
        #[command(subcommand)]
        command: acl::AclCommand,
    },
    /// Look into a data folder, and move what is in it; the broker has to be stopped
    Store {
        #[command(subcommand)]
        command: store::StoreCommand,
    },
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Every setting with its text, its bounds and its default, as TOML
    Reference,
}

#[derive(Debug, Default, Args)]
struct Settings {
    /// Configuration file, TOML or a mosquitto.conf; TOML files in the folder FILE.d are read after it
    #[arg(short, long = "config", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Port of the default listener on 127.0.0.1; 0 means any free one
    #[arg(short, long, value_name = "PORT")]
    port: Option<u16>,
    /// Folder for everything that survives a restart
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Log at level debug; twice: trace
    #[arg(short, long, action = ArgAction::Count)]
    verbose: u8,
}

/// What `main` does.
pub fn run() -> ExitCode {
    run_with(env::args_os(), env::vars_os().collect())
}

fn run_with(arguments: impl Iterator<Item = OsString>, environment: Vec<(OsString, OsString)>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            // It goes to whichever output it is for; when that one is closed, the exit code still says it.
            let _ = error.print();
            return u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from);
        }
    };
    match arguments.command.unwrap_or(Command::Run(arguments.settings)) {
        Command::Run(settings) => run_broker(&settings.sources(environment)),
        Command::Check(settings) => check(&settings.sources(environment)),
        Command::Convert { file } => match config::convert(&file) {
            Ok(text) => print(&text),
            Err(errors) => refuse(&errors),
        },
        Command::Cert(arguments) => match arguments.run() {
            Ok(made) => print(&made),
            Err(error) => complain(&error.to_string(), ExitCode::FAILURE),
        },
        Command::Passwd(passwd) => passwd::run(&passwd),
        Command::Config { command: ConfigCommand::Reference } => print(&config::reference()),
        Command::Acl { command } => acl::run(command, settings_of(environment)),
        Command::Store { command } => command.run(),
    }
}

fn run_broker(sources: &Sources) -> ExitCode {
    let config = match Config::load(sources) {
        Ok(config) => config,
        Err(errors) => return refuse(&errors),
    };
    let _flush = match log::install(config.log.level, config.log.format) {
        Ok(flush) => flush,
        Err(error) => return complain(&error.to_string(), ExitCode::FAILURE),
    };
    for note in config.notes() {
        tracing::warn!("{note}");
    }
    node::run(&config)
}

fn check(sources: &Sources) -> ExitCode {
    // Each option of a mosquitto.conf with what becomes of it, whether the whole is valid or not.
    let findings = sources.file.as_deref().map(config::findings).unwrap_or_default();
    if !findings.is_empty() {
        let lines: String = findings.iter().map(|finding| format!("{finding}\n")).collect();
        if print(&lines) != ExitCode::SUCCESS {
            return ExitCode::FAILURE;
        }
    }
    match Config::load(sources) {
        Ok(config) => match node::check(&config) {
            Ok(access) => print(&summary(&config, &access, &findings)),
            Err(error) => complain(&error.to_string(), ExitCode::from(WRONG_SETTINGS)),
        },
        Err(errors) => refuse(&errors),
    }
}

/// One line, and one more for each note.
fn summary(config: &Config, access: &Access, listed: &[Finding]) -> String {
    let files: Vec<String> = config.files.iter().map(|file| file.display().to_string()).collect();
    let files = if files.is_empty() { "the configuration without a file".to_owned() } else { files.join(", ") };
    let listeners: Vec<String> = config.listeners.iter().map(described).collect();
    let mut sets: Vec<&Rules> = Vec::new();
    for (_, rules) in access.rules() {
        if !sets.contains(&rules) {
            sets.push(rules);
        }
    }
    let count: usize = sets.iter().map(|rules| rules.len()).sum();
    let rules = if sets.is_empty() { String::new() } else { format!("; {count} access rules") };
    let data_dir = config.node.data_dir.display();
    let mut summary = format!("{files}: valid; listens on {}; data in {data_dir}{rules}\n", listeners.join(", "));
    let of_rules = RuleFiles::of(config).notes(access);
    // What differs in a mosquitto.conf stands above already, in the list of all options.
    let told: Vec<String> = listed.iter().map(ToString::to_string).collect();
    for note in config.notes().into_iter().chain(of_rules).filter(|note| !told.contains(note)) {
        summary.push_str(&format!("note: {note}\n"));
    }
    summary
}

fn described(listener: &Listener) -> String {
    let anonymous = if listener.lets_anyone_in() { " (anonymous allowed)" } else { "" };
    format!("{}{anonymous}", listener.address)
}

fn refuse(errors: &ConfigErrors) -> ExitCode {
    complain(&errors.to_string(), ExitCode::from(WRONG_SETTINGS))
}

/// Standard error may be closed; the exit code still says it.
fn complain(text: &str, code: ExitCode) -> ExitCode {
    let _ = writeln!(io::stderr().lock(), "{text}");
    code
}

/// A reader that has read enough, such as `head`, closes the pipe; that is no failure.
fn print(text: &str) -> ExitCode {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => complain(&format!("cannot write to standard output: {error}"), ExitCode::FAILURE),
    }
}

impl Settings {
    fn sources(self, environment: Vec<(OsString, OsString)>) -> Sources {
        let level = match self.verbose {
            0 => None,
            1 => Some(Level::Debug),
            _ => Some(Level::Trace),
        };
        let environment = settings_of(environment);
        Sources { file: self.config, environment, flags: Flags { port: self.port, data_dir: self.data_dir, level } }
    }
}

/// What the variables of others hold is none of our business, and must not turn up in a log.
fn settings_of(environment: Vec<(OsString, OsString)>) -> Vec<(OsString, OsString)> {
    environment.into_iter().filter(|(name, _)| config::is_setting(name)).collect()
}
