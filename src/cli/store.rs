//! `waypost store`: what is in a data folder, whether all of it is readable, out of it as lines of JSON and into another one.
//! The broker that uses the folder has to be stopped.
//! Exit codes: 0 well, 1 something is damaged or cannot be done, 2 wrong arguments.

use super::{complain, print};
use crate::broker::TABLES;
use crate::store::{Contents, Damage, Error, Options, Store};
use clap::{Args, Subcommand};
use std::fs::File;
use std::io::{self, BufReader, BufWriter};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Debug, Subcommand)]
pub(super) enum StoreCommand {
    /// Read everything and say what is damaged; exit code 1 if anything is
    Check(Where),
    /// Say how much there is
    Stats(Where),
    /// Write everything as lines of JSON
    Export {
        #[command(flatten)]
        whence: Where,
        /// File to write; without it, standard output
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Fill a data folder that has no store yet with what `export` has written
    Import {
        #[command(flatten)]
        whither: Where,
        /// File to read; without it, standard input
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
pub(super) struct Where {
    /// Data folder
    #[arg(long, value_name = "DIR", default_value = "waypost-data")]
    data_dir: PathBuf,
}

impl StoreCommand {
    pub(super) fn run(self) -> ExitCode {
        let done = match self {
            Self::Check(place) => check(&place),
            Self::Stats(place) => stats(&place),
            Self::Export { whence, file } => export(&whence, file),
            Self::Import { whither, file } => import(&whither, file),
        };
        done.unwrap_or_else(|error| complain(&error.to_string(), ExitCode::FAILURE))
    }
}

fn open(place: &Where) -> Result<(Store, Vec<Damage>), Error> {
    // A folder that is not there would be made.
    if !Store::is_in(&place.data_dir) {
        let source = io::Error::new(io::ErrorKind::NotFound, "there is no store in this folder");
        return Err(Error::Io { what: format!("use {}", place.data_dir.display()), source });
    }
    let (store, findings) = Store::open(&place.data_dir, Options::default(), &mut |_, _| ())?;
    Ok((store, findings.damage))
}

fn check(place: &Where) -> Result<ExitCode, Error> {
    let (store, mut damage) = open(place)?;
    let contents = store.contents()?;
    damage.extend(store.take_damage());
    let mut text = String::new();
    for Damage { file, position, bytes, what } in &damage {
        text.push_str(&format!("{file}: {what} ({bytes} bytes at position {})\n", position.0));
    }
    if contents.without_blob > 0 {
        text.push_str(&format!("{} rows and entries whose message is lost\n", contents.without_blob));
    }
    text.push_str(&in_words(contents));
    print(&text);
    Ok(if damage.is_empty() && contents.without_blob == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn stats(place: &Where) -> Result<ExitCode, Error> {
    let (store, _) = open(place)?;
    let mut text = String::new();
    for (table, name) in TABLES {
        let mut count = 0_u64;
        store.rows(*table, &mut |_, _, _| count += 1)?;
        text.push_str(&format!("{name}: {count}\n"));
    }
    let mut waiting = 0;
    store.entries(&mut |_, _, _, _, count| waiting += u64::from(count))?;
    text.push_str(&format!("deliveries that wait: {waiting}\n{}", in_words(store.contents()?)));
    print(&text);
    Ok(ExitCode::SUCCESS)
}

fn export(place: &Where, file: Option<PathBuf>) -> Result<ExitCode, Error> {
    let (store, _) = open(place)?;
    match file {
        None => store.export(&mut BufWriter::new(io::stdout().lock()))?,
        Some(path) => {
            let created = File::create(&path);
            let file = created.map_err(|source| Error::Io { what: format!("write {}", path.display()), source })?;
            store.export(&mut BufWriter::new(file))?
        }
    };
    Ok(ExitCode::SUCCESS)
}

fn import(place: &Where, file: Option<PathBuf>) -> Result<ExitCode, Error> {
    let contents = match file {
        None => Store::import(&place.data_dir, &Options::default(), &mut io::stdin().lock())?,
        Some(path) => {
            let opened = File::open(&path);
            let file = opened.map_err(|source| Error::Io { what: format!("read {}", path.display()), source })?;
            Store::import(&place.data_dir, &Options::default(), &mut BufReader::new(file))?
        }
    };
    print(&in_words(contents));
    Ok(ExitCode::SUCCESS)
}

fn in_words(contents: Contents) -> String {
    let Contents { rows, entries, blobs, bytes, .. } = contents;
    format!("{rows} rows, {entries} queue entries and {blobs} messages, {bytes} bytes in all\n")
}
