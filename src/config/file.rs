//! One configuration file as text, with bounds on its size, and the place of everything in it.
//! It knows nothing of TOML or of keys; a file that is no text, or no file, is refused here.
//! Read `layers.rs` next, which reads what the text says.

use super::errors::ConfigError;
use crate::files::{self, Unread};
use crate::notice::Outside;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Largest configuration file, in bytes.
const FILE_SIZE_MAX: usize = 256 * 1024;

/// Longest line, in bytes.
const LINE_SIZE_MAX: usize = 8 * 1024;

/// How much is read of a file that is too large, so that the error can name the line that makes it so.
const READ_SIZE_MAX: u64 = 4 * 1024 * 1024;

/// Most files in a drop-in folder.
const DROP_INS_MAX: usize = 1000;

/// A file that has been read.
pub(super) struct Text {
    name: String,
    pub(super) content: String,
    /// Where each line begins.
    lines: Vec<usize>,
}

impl Text {
    /// Reads a file. The error says why there is no text.
    pub(super) fn read(path: &Path) -> Result<Self, ConfigError> {
        let name = shown(path);
        let mut bytes = read_bounded(path).map_err(|message| ConfigError { place: name.clone(), message })?;
        if is_conf(path) {
            plain_comments(&mut bytes);
        }
        Self::of(name, bytes)
    }

    /// Takes what a file holds.
    pub(super) fn of(name: String, bytes: Vec<u8>) -> Result<Self, ConfigError> {
        let mut lines = vec![0];
        lines.extend(memchr::memchr_iter(b'\n', &bytes).map(|end| end + 1));
        if let Some(error) = overlong_line(&name, &bytes, &lines) {
            return Err(error);
        }
        if bytes.len() > FILE_SIZE_MAX {
            let message = format!("the file is larger than allowed: up to {FILE_SIZE_MAX} bytes");
            return Err(ConfigError { place: name, message });
        }
        match String::from_utf8(bytes) {
            Ok(content) => Ok(Self { name, content, lines }),
            Err(error) => {
                let good = error.utf8_error().valid_up_to();
                let bytes = error.into_bytes();
                let content = String::from_utf8_lossy(&bytes[..good]).into_owned();
                let place = Self { name, content, lines }.place(good);
                let message = format!("the byte 0x{:02x} is not UTF-8; save the file as UTF-8", bytes[good]);
                Err(ConfigError { place, message })
            }
        }
    }

    /// `waypost.toml:7:20`; lines and columns count from 1, columns in characters.
    pub(super) fn place(&self, offset: usize) -> String {
        let line = self.line(offset);
        let start = self.lines[line];
        let before = self.content.get(start..offset).unwrap_or_default();
        format!("{}:{}:{}", self.name, line + 1, before.chars().count() + 1)
    }

    /// `mosquitto.conf:7`; lines count from 1.
    pub(super) fn line_place(&self, line: usize) -> String {
        format!("{}:{line}", self.name)
    }

    /// As errors show it.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The number of the line, from 0, that a byte lies in.
    pub(super) fn line(&self, offset: usize) -> usize {
        self.lines.partition_point(|start| *start <= offset) - 1
    }
}

/// Whether a file may be a mosquitto.conf by its name.
pub(super) fn is_conf(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "conf")
}

/// Mosquitto does not look at comments, so they may be in the encoding of former days: bytes that are not ASCII become `?`.
fn plain_comments(bytes: &mut [u8]) {
    for line in bytes.split_mut(|byte| *byte == b'\n').filter(|line| line.starts_with(b"#")) {
        line.iter_mut().filter(|byte| !byte.is_ascii()).for_each(|byte| *byte = b'?');
    }
}

/// A path as errors show it.
pub(super) fn shown(path: &Path) -> String {
    Outside::of(path.as_os_str().as_encoded_bytes()).to_string()
}

fn read_bounded(path: &Path) -> Result<Vec<u8>, String> {
    // Some start mosquitto with this in place of a configuration.
    if path == Path::new("/dev/null") {
        return Ok(Vec::new());
    }
    files::read_start(path, READ_SIZE_MAX).map_err(|unread| match unread {
        Unread::Folder => "is a folder; name a file".to_owned(),
        unread => format!("cannot be read: {unread}"),
    })
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    }
}

fn overlong_line(name: &str, bytes: &[u8], lines: &[usize]) -> Option<ConfigError> {
    let ends = lines.iter().skip(1).copied().chain([bytes.len()]);
    let (number, (start, end)) =
        lines.iter().copied().zip(ends).enumerate().find(|(_, (start, end))| end - start > LINE_SIZE_MAX)?;
    let line = &bytes[start..end];
    let key = &line[..memchr::memchr(b'=', line).unwrap_or(line.len()).min(40)];
    let message = format!(
        "the line that begins with {} is longer than allowed: up to {LINE_SIZE_MAX} bytes",
        Outside::of(key.trim_ascii())
    );
    Some(ConfigError { place: format!("{name}:{}:1", number + 1), message })
}

/// The files that mosquitto's `include_dir` names, in its order: letters without regard to case, of the same letter the capital
/// one first. The error is the rest of a sentence that begins with the folder.
pub(super) fn included(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let cannot = |error: io::Error| format!("the folder cannot be read: {}", reason(&error));
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(cannot)? {
        let name = entry.map_err(cannot)?.file_name();
        let bytes = name.as_encoded_bytes();
        if bytes.len() > ".conf".len() && bytes.ends_with(b".conf") {
            files.push(name);
        }
        if files.len() > DROP_INS_MAX {
            return Err(format!("the folder holds more files than allowed: up to {DROP_INS_MAX}"));
        }
    }
    files.sort_by_key(|name| {
        let letters = name.as_encoded_bytes().iter().map(|byte| (byte.to_ascii_uppercase(), *byte));
        letters.collect::<Vec<_>>()
    });
    Ok(files.into_iter().map(|name| folder.join(name)).collect())
}

/// The files of the drop-in folder of a configuration file, `waypost.toml.d/*.toml`, in the order of their names.
/// As in a shell, `*` does not stand for a leading dot; files with other endings belong to somebody else.
pub(super) fn drop_ins(file: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    let mut folder = file.as_os_str().to_owned();
    folder.push(".d");
    let folder = PathBuf::from(folder);
    let fault = |message: String| ConfigError { place: shown(&folder), message };
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(fault(format!("the drop-in folder cannot be read: {}", reason(&error)))),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path =
            entry.map_err(|error| fault(format!("the drop-in folder cannot be read: {}", reason(&error))))?.path();
        let is_hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if path.extension().is_some_and(|extension| extension == "toml") && !is_hidden {
            files.push(path);
        }
        if files.len() > DROP_INS_MAX {
            return Err(fault(format!("the drop-in folder holds more files than allowed: up to {DROP_INS_MAX}")));
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::{FILE_SIZE_MAX, LINE_SIZE_MAX, Text};

    fn text(bytes: &[u8]) -> Result<Text, String> {
        Text::of("f.toml".to_owned(), bytes.to_vec()).map_err(|error| error.to_string())
    }

    #[test]
    fn places_count_lines_and_characters_from_one() {
        let text = text("ab\näö = 1\n\n".as_bytes()).expect("a text");
        for (offset, place) in [
            (0, "f.toml:1:1"),
            (1, "f.toml:1:2"),
            (3, "f.toml:2:1"),
            (7, "f.toml:2:3"),
            (11, "f.toml:2:7"),
            (12, "f.toml:3:1"),
            (13, "f.toml:4:1"),
        ] {
            assert_eq!(text.place(offset), place, "offset {offset}");
        }
    }

    #[test]
    fn ill_formed_utf_8_is_refused_with_its_place() {
        let error = text(b"a = 1\nb = \"\xc3\xa4\xff\"\n").err();
        assert_eq!(error.as_deref(), Some("f.toml:2:7: the byte 0xff is not UTF-8; save the file as UTF-8"));
    }

    #[test]
    fn a_huge_line_is_refused_with_its_line_and_key() {
        let mut bytes = b"[mqtt]\nresponse_information = \"".to_vec();
        bytes.resize(bytes.len() + 1024 * 1024, b'x');
        let error = text(&bytes).err();
        assert_eq!(
            error.as_deref(),
            Some("f.toml:2:1: the line that begins with response_information is longer than allowed: up to 8192 bytes")
        );
        assert!(text(&vec![b'#'; LINE_SIZE_MAX]).is_ok());
    }

    #[test]
    fn a_huge_file_is_refused() {
        let line = b"# comment\n";
        assert!(text(&line.repeat(FILE_SIZE_MAX / line.len())).is_ok());
        let error = text(&line.repeat(FILE_SIZE_MAX / line.len() + 1)).err();
        assert_eq!(error.as_deref(), Some("f.toml: the file is larger than allowed: up to 262144 bytes"));
    }
}
