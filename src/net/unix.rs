//! The file of a Unix socket: made with its permissions, and taken away again.

use socket2::{Domain, SockAddr, Socket, Type};
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// What a Unix socket is to be.
#[derive(Clone, Debug)]
pub struct UnixSettings {
    pub path: PathBuf,
    /// Permissions of the file; who may write to it may connect.
    pub mode: u32,
    /// User and group that it is given to, by name or number.
    pub owner: Option<String>,
    pub group: Option<String>,
}

/// The file of a socket that listens; removed when this is dropped, unless somebody has put another one there.
pub(super) struct SocketFile {
    path: PathBuf,
    inode: u64,
}

/// Binds a socket, not listening yet: whoever connects before it has its permissions is refused.
///
/// # Errors
/// Somebody listens there, something else lies there, or the system does not let us.
pub(super) fn bind(settings: &UnixSettings) -> io::Result<(Socket, SocketFile)> {
    let path = &settings.path;
    remove_stale(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    let file = SocketFile { path: path.clone(), inode: fs::symlink_metadata(path)?.ino() };
    let owner = settings.owner.as_deref().map(|name| number(name, Path::new("/etc/passwd"))).transpose()?;
    let group = settings.group.as_deref().map(|name| number(name, Path::new("/etc/group"))).transpose()?;
    if owner.is_some() || group.is_some() {
        chown(path, owner, group)?;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(settings.mode))?;
    Ok((socket, file))
}

/// Removes what a broker has left behind that was killed.
fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(metadata) if metadata.file_type().is_socket() => {}
        Ok(_) => return Err(io::Error::other("something that is no socket lies there")),
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(io::Error::from(io::ErrorKind::AddrInUse)),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) => Err(error),
    }
}

/// Of a user or group, from the file that lists them: `name:x:number:…`.
fn number(name: &str, file: &Path) -> io::Result<u32> {
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    let listed = fs::read_to_string(file)?;
    let number = listed.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok()).flatten()
    });
    number.ok_or_else(|| io::Error::other(format!("{} does not know \"{name}\"; a number will do", file.display())))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|metadata| metadata.ino() == self.inode) {
            let _ = fs::remove_file(&self.path); // if it stays, the next start removes it
        }
    }
}
