//! Reads a file as a whole: a regular one, of bounded size, and without waiting for anybody. For rules, users, keys, certificates
//! and configurations, any of which may be named wrongly.
//!
//! What the file is for, its reader knows. Nobody on the floors between the ground and the doors reads files this way.

use rustix::fs::OFlags;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use thiserror::Error;

/// Why a file was not read: what comes after "cannot be read: ".
#[derive(Debug, Error)]
pub enum Unread {
    #[error("it is a folder; name a file")]
    Folder,
    /// A pipe, a socket or a device.
    #[error("it is no regular file")]
    NotAFile,
    #[error("it is larger than allowed: up to {0} bytes")]
    TooLarge(u64),
    #[error("{}", reason(.0))]
    Failed(#[from] io::Error),
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    }
}

impl Unread {
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Failed(error) if error.kind() == io::ErrorKind::NotFound)
    }
}

/// All of a file of at most so many bytes.
///
/// # Errors
/// As [`Unread`] says.
pub fn read_whole(path: &Path, size_max: u64) -> Result<Vec<u8>, Unread> {
    let bytes = read_start(path, size_max.saturating_add(1))?;
    if bytes.len() as u64 > size_max { Err(Unread::TooLarge(size_max)) } else { Ok(bytes) }
}

/// At most so many bytes from the start of a file.
///
/// # Errors
/// As [`Unread`] says, but for `TooLarge`.
pub fn read_start(path: &Path, size_max: u64) -> Result<Vec<u8>, Unread> {
    regular(&fs::metadata(path)?)?;
    // Should it be a pipe by now, opening it must not wait for its other end.
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file: File = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    regular(&file.metadata()?)?;
    let mut bytes = Vec::new();
    file.take(size_max).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn regular(metadata: &fs::Metadata) -> Result<(), Unread> {
    match metadata {
        metadata if metadata.is_file() => Ok(()),
        metadata if metadata.is_dir() => Err(Unread::Folder),
        _ => Err(Unread::NotAFile),
    }
}

#[cfg(test)]
mod tests {
    use super::{Unread, read_start, read_whole};
    use std::fs;
    use std::os::unix::net::UnixListener;
    use std::path::Path;

    #[test]
    fn only_regular_files_of_bounded_size_are_read() {
        let folder = std::env::temp_dir().join(format!("waypost-files-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("the temporary folder can be written");
        let path = |name: &str| folder.join(name);
        fs::write(path("file"), "12345").expect("the temporary folder can be written");
        std::os::unix::fs::symlink(path("file"), path("link")).expect("the temporary folder can be written");
        let pipe = std::process::Command::new("mkfifo").arg(path("pipe")).status().expect("mkfifo is there");
        assert!(pipe.success());
        let _listener = UnixListener::bind(path("socket")).expect("a socket");
        let said = |path: &Path, size_max| match read_whole(path, size_max) {
            Ok(bytes) => String::from_utf8(bytes).expect("our text"),
            Err(unread) => format!("cannot be read: {unread}"),
        };
        for (name, expected) in [
            ("file", "12345"),
            ("link", "12345"),
            ("pipe", "cannot be read: it is no regular file"),
            ("socket", "cannot be read: it is no regular file"),
            (".", "cannot be read: it is a folder; name a file"),
            ("gone", "cannot be read: there is no such file"),
        ] {
            assert_eq!(said(&path(name), 5), expected, "{name}");
        }
        assert_eq!(said(Path::new("/dev/zero"), 5), "cannot be read: it is no regular file");
        assert_eq!(said(&path("file"), 4), "cannot be read: it is larger than allowed: up to 4 bytes");
        assert_eq!(read_start(&path("file"), 4).expect("it is there"), b"1234");
        assert!(read_whole(&path("gone"), 1).is_err_and(|unread: Unread| unread.is_missing()));
        fs::remove_dir_all(&folder).expect("it was ours");
    }
}
