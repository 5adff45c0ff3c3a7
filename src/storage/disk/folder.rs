//! A folder that is held by descriptor: its path is followed once.
//!
//! A path may lead elsewhere at any time: a volume is mounted over it, a link is turned, the folder
//! is renamed. A program that follows the path at every call then writes into files that another
//! engine owns. A descriptor stays with the folder that was opened.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, Stat};
use rustix::io::{Errno, retry_on_intr};

/// Needs no permission to list the folder.
const SEARCH: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// The folder, and the folders below it from their first use on.
///
/// Invariant: no descriptor here is ever locked. A lock belongs to an open file, which all copies
/// of its descriptor share, so a lock has an open file of its own; see [`Folder::open_again`].
#[derive(Debug)]
pub(super) struct Folder {
    root: Arc<OwnedFd>,
    below: Mutex<BTreeMap<String, Arc<OwnedFd>>>,
}

impl Folder {
    /// Follows a path to a folder.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = retry_on_intr(|| rustix::fs::open(path, flags, Mode::empty()))?;
        Ok(Self { root: Arc::new(root), below: Mutex::default() })
    }

    /// The folder itself, opened once more.
    pub(super) fn open_again(&self) -> io::Result<OwnedFd> {
        open_folder(&self.root, ".")
    }

    /// The folder at a path below this one, `""` being this one.
    pub(super) fn get(&self, path: &str) -> io::Result<Arc<OwnedFd>> {
        check(path)?;
        self.walk(path)
    }

    /// The folder of a path below this one, and the name in it.
    pub(super) fn parent<'a>(&self, path: &'a str) -> io::Result<(Arc<OwnedFd>, &'a str)> {
        check(path)?;
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        Ok((self.walk(folder)?, name))
    }

    fn walk(&self, path: &str) -> io::Result<Arc<OwnedFd>> {
        if path.is_empty() {
            return Ok(self.root.clone());
        }
        if let Some(folder) = self.below.lock().get(path) {
            return Ok(folder.clone());
        }
        let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
        let folder = open_folder(&*self.walk(above)?, name)?;
        // Two threads may come here at once: both must go on with the same folder.
        Ok(self.below.lock().entry(path.to_owned()).or_insert(Arc::new(folder)).clone())
    }

    /// Makes a folder and its missing parents. It is no error if they exist.
    pub(super) fn create(&self, path: &str) -> io::Result<()> {
        check(path)?;
        let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
        for level in ends.map(|end| &path[..end]).filter(|level| !level.is_empty()) {
            let (above, name) = self.parent(level)?;
            match rustix::fs::mkdirat(&*above, name, Mode::from_raw_mode(0o777)) {
                // Nothing had this name, so a folder that was held under it is gone.
                Ok(()) => drop(self.below.lock().remove(level)),
                // Fails if it is something else than a folder.
                Err(Errno::EXIST) => drop(self.walk(level)?),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// The names in a folder.
    pub(super) fn list(&self, path: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(&*self.get(path)?)? {
            // The engine makes no name that is not UTF-8; another program's is shown as well as it goes.
            let name = entry?.file_name().to_string_lossy().into_owned();
            if !matches!(&*name, "." | "..") {
                names.push(name);
            }
        }
        Ok(names)
    }

    /// Whether a folder at this path is, or would be, this one, one in use below it, or inside of one.
    /// Asks each folder for the one above it: a path may come here through a link.
    pub(super) fn contains(&self, path: &Path) -> io::Result<bool> {
        let mut own = vec![rustix::fs::fstat(&self.root)?];
        for folder in self.below.lock().values() {
            own.push(rustix::fs::fstat(folder)?);
        }
        let mut level = open_deepest(path)?;
        let mut found = rustix::fs::fstat(&level)?;
        loop {
            if own.iter().any(|own| is_same(own, &found)) {
                return Ok(true);
            }
            level = retry_on_intr(|| rustix::fs::openat(&level, "..", SEARCH, Mode::empty()))?;
            let above = rustix::fs::fstat(&level)?;
            if is_same(&above, &found) {
                return Ok(false);
            }
            found = above;
        }
    }

    /// Whether the path, and the paths of all folders in use below it, lead to what is held.
    pub(super) fn is_at(&self, path: &Path) -> io::Result<bool> {
        let is_at = |held: &OwnedFd, path: &Path| -> io::Result<bool> {
            match rustix::fs::statat(CWD, path, AtFlags::empty()) {
                Ok(found) => Ok(is_same(&found, &rustix::fs::fstat(held)?)),
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(false),
                Err(error) => Err(error.into()),
            }
        };
        if !is_at(&self.root, path)? {
            return Ok(false);
        }
        for (name, folder) in &*self.below.lock() {
            if !is_at(folder, &path.join(name))? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Whether two files are one.
fn is_same(one: &Stat, other: &Stat) -> bool {
    (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)
}

/// The folder at a path, or the one in which the first missing folder of the path would be made.
fn open_deepest(path: &Path) -> io::Result<OwnedFd> {
    for level in path.ancestors() {
        match retry_on_intr(|| rustix::fs::open(level, SEARCH, Mode::empty())) {
            Err(Errno::NOENT | Errno::NOTDIR) => {}
            opened => return Ok(opened?),
        }
    }
    Err(io::ErrorKind::NotFound.into())
}

fn open_folder(above: &OwnedFd, name: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(retry_on_intr(|| rustix::fs::openat(above, name, flags, Mode::empty()))?)
}

fn check(path: &str) -> io::Result<()> {
    if !path.is_empty() && path.split('/').any(|name| matches!(name, "" | "." | "..")) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("storage path {path:?} is not of the form `name` or `folder/name`"),
        ));
    }
    Ok(())
}
