//! Names in folders: those that the disk has for certain, those that are seen, and the changes
//! between the two.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

/// A file, whatever its name.
pub(super) type FileId = u64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    Folder,
    File(FileId),
}

/// One creation, removal or rename; atomic.
#[derive(Clone, Debug)]
struct Change {
    /// What each path stands for afterwards.
    edits: Vec<(String, Option<Entry>)>,
    /// The file that got, lost or changed its name.
    file: Option<FileId>,
}

/// The folder tree. Paths as in [`Storage`](crate::storage::Storage), `""` being the root.
///
/// Invariants:
/// - `seen` is `durable` with `unsynced` applied in order.
/// - In `seen`, the parent of every path is a folder. In `durable` it need not be: a synced name
///   in a folder whose own name is not synced is lost with it.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    seen: BTreeMap<String, Entry>,
    durable: BTreeMap<String, Entry>,
    unsynced: Vec<Change>,
}

impl Names {
    /// Makes the root, durably.
    pub(super) fn create_root(&mut self) {
        self.seen.insert(String::new(), Entry::Folder);
        self.durable.insert(String::new(), Entry::Folder);
    }

    pub(super) fn get(&self, path: &str) -> io::Result<Entry> {
        check_path(path)?;
        self.seen.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(super) fn file(&self, path: &str) -> io::Result<FileId> {
        match self.get(path)? {
            Entry::File(id) => Ok(id),
            Entry::Folder => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    /// Every file's path, in order.
    pub(super) fn files(&self) -> impl Iterator<Item = &str> {
        self.seen
            .iter()
            .filter(|(_, entry)| matches!(entry, Entry::File(_)))
            .map(|(path, _)| path.as_str())
    }

    pub(super) fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        self.require_folder(folder)?;
        let names = self.seen.keys().filter(|path| !path.is_empty() && parent(path) == folder);
        Ok(names.map(|path| path.rsplit('/').next().unwrap_or(path).to_owned()).collect())
    }

    pub(super) fn create_folder(&mut self, path: &str) -> io::Result<()> {
        check_path(path)?;
        self.require_folder("")?;
        let ends = path.match_indices('/').map(|(end, _)| end).chain([path.len()]);
        for level in ends.map(|end| &path[..end]) {
            match self.seen.get(level) {
                Some(Entry::Folder) => {}
                Some(Entry::File(_)) => return Err(io::ErrorKind::NotADirectory.into()),
                None => self.change(None, [(level, Some(Entry::Folder))]),
            }
        }
        Ok(())
    }

    pub(super) fn create(&mut self, path: &str, id: FileId) -> io::Result<()> {
        check_path(path)?;
        self.require_folder(parent(path))?;
        if self.seen.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.change(Some(id), [(path, Some(Entry::File(id)))]);
        Ok(())
    }

    pub(super) fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let id = self.file(from)?;
        check_path(to)?;
        self.require_folder(parent(to))?;
        if self.seen.get(to) == Some(&Entry::Folder) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        if from != to {
            self.change(Some(id), [(from, None), (to, Some(Entry::File(id)))]);
        }
        Ok(())
    }

    pub(super) fn remove(&mut self, path: &str) -> io::Result<()> {
        let id = self.file(path)?;
        self.change(Some(id), [(path, None)]);
        Ok(())
    }

    /// Makes durable what changed in the folder, and the changes that it rests on.
    pub(super) fn sync_folder(&mut self, folder: &str) -> io::Result<()> {
        self.require_folder(folder)?;
        let mut needed: Vec<Change> = Vec::new();
        let mut left: Vec<Change> = Vec::new();
        for change in std::mem::take(&mut self.unsynced).into_iter().rev() {
            if change.touches(folder) || needed.iter().any(|later| later.rests_on(&change)) {
                needed.push(change);
            } else {
                left.push(change);
            }
        }
        for change in needed.iter().rev() {
            change.apply(&mut self.durable);
        }
        left.reverse();
        self.unsynced = left;
        Ok(())
    }

    /// What a power loss leaves. Each unsynced change survives if a draw below 2 is 1 and no
    /// change that it rests on was lost.
    pub(super) fn after_power_loss(&self, draw: &mut dyn FnMut(u64) -> u64) -> Self {
        let mut left = self.durable.clone();
        let mut lost: Vec<&Change> = Vec::new();
        for change in &self.unsynced {
            let survives = draw(2) == 1;
            if survives && !lost.iter().any(|earlier| change.rests_on(earlier)) {
                change.apply(&mut left);
            } else {
                lost.push(change);
            }
        }
        let mut reachable: BTreeMap<String, Entry> = BTreeMap::new();
        // A folder sorts before what is in it.
        for (path, entry) in left {
            if path.is_empty() || reachable.get(parent(&path)) == Some(&Entry::Folder) {
                reachable.insert(path, entry);
            }
        }
        Self { seen: reachable.clone(), durable: reachable, unsynced: Vec::new() }
    }

    /// The files that a name stands for, or may after a crash.
    pub(super) fn referenced(&self) -> BTreeSet<FileId> {
        let named = self.seen.values().chain(self.durable.values());
        let named = named.filter_map(|entry| match entry {
            Entry::File(id) => Some(*id),
            Entry::Folder => None,
        });
        named.chain(self.unsynced.iter().filter_map(|change| change.file)).collect()
    }

    fn require_folder(&self, folder: &str) -> io::Result<()> {
        match self.get(folder)? {
            Entry::Folder => Ok(()),
            Entry::File(_) => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    fn change<const N: usize>(&mut self, file: Option<FileId>, edits: [(&str, Option<Entry>); N]) {
        let edits = edits.map(|(path, entry)| (path.to_owned(), entry)).to_vec();
        let change = Change { edits, file };
        change.apply(&mut self.seen);
        self.unsynced.push(change);
    }
}

impl Change {
    fn apply(&self, names: &mut BTreeMap<String, Entry>) {
        for (path, entry) in &self.edits {
            match entry {
                Some(entry) => names.insert(path.clone(), *entry),
                None => names.remove(path),
            };
        }
    }

    fn touches(&self, folder: &str) -> bool {
        self.edits.iter().any(|(path, _)| parent(path) == folder)
    }

    /// Whether this change cannot be on the disk without the earlier one: they share a path or a
    /// file. Changes that share neither may reach the disk in any order.
    fn rests_on(&self, earlier: &Self) -> bool {
        let shares_path =
            |(path, _): &(String, _)| earlier.edits.iter().any(|(old, _)| old == path);
        (self.file.is_some() && self.file == earlier.file) || self.edits.iter().any(shares_path)
    }
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// The real disk refuses the same paths.
fn check_path(path: &str) -> io::Result<()> {
    if !path.is_empty() && path.split('/').any(|name| matches!(name, "" | "." | "..")) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("storage path {path:?} is not of the form `name` or `folder/name`"),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        let mut names = Names::default();
        names.create_root();
        names
    }

    fn left(names: &Names, draws: &[u64]) -> Vec<String> {
        let mut draws = draws.iter().copied();
        let after = names.after_power_loss(&mut |_| draws.next().expect("a draw each change"));
        after.files().map(str::to_owned).collect()
    }

    #[test]
    fn a_name_is_lost_without_a_sync_of_its_folder() {
        let mut names = names();
        names.create("a", 1).expect("create");
        assert_eq!(names.list("").expect("list"), ["a"]);
        assert!(left(&names, &[0]).is_empty());
        assert_eq!(left(&names, &[1]), ["a"]);
        names.sync_folder("").expect("sync");
        assert_eq!(left(&names, &[]), ["a"]);
        names.remove("a").expect("remove");
        assert_eq!(left(&names, &[0]), ["a"], "a removal is lost likewise");
    }

    #[test]
    fn a_rename_leaves_the_old_state_or_the_new() {
        let mut names = names();
        names.create("old", 1).expect("create");
        names.create("new", 2).expect("create");
        names.sync_folder("").expect("sync");
        names.rename("new", "old").expect("replaces");
        assert_eq!(names.file("old").expect("seen"), 2);
        assert!(names.referenced().contains(&1), "the replaced file may come back");
        assert_eq!(left(&names, &[0]), ["new", "old"]);
        let after = names.after_power_loss(&mut |_| 1);
        assert_eq!((left(&names, &[1]), after.file("old").expect("new")), (vec!["old".into()], 2));
    }

    #[test]
    fn changes_of_one_file_survive_in_order_and_others_in_any() {
        let mut names = names();
        names.create("a", 1).expect("create");
        names.create("b", 2).expect("create");
        names.rename("a", "c").expect("rename");
        assert_eq!(left(&names, &[1, 0, 0]), ["a"]);
        assert_eq!(left(&names, &[0, 1, 1]), ["b"], "no rename of what was never made");
        assert_eq!(left(&names, &[1, 0, 1]), ["c"]);
    }

    #[test]
    fn a_sync_takes_along_what_the_folder_rests_on_and_nothing_else() {
        let mut names = names();
        names.create_folder("x").expect("folder");
        names.create_folder("y").expect("folder");
        names.sync_folder("").expect("sync");
        names.create("x/moved", 1).expect("create");
        names.create("x/left", 2).expect("create");
        names.rename("x/moved", "y/moved").expect("rename");
        names.sync_folder("y").expect("sync");
        assert_eq!(left(&names, &[0]), ["y/moved"]);
    }

    #[test]
    fn a_synced_name_is_lost_with_its_unsynced_folder() {
        let mut names = names();
        names.create_folder("log/0").expect("with its parent");
        names.create("log/0/a", 1).expect("create");
        names.sync_folder("log/0").expect("sync");
        names.sync_folder("log").expect("sync");
        assert!(left(&names, &[0]).is_empty());
        assert_eq!(left(&names, &[1]), ["log/0/a"]);
    }

    #[test]
    fn wrong_paths_are_refused_as_the_disk_refuses_them() {
        let mut names = Names::default();
        let kind = |result: io::Result<()>| result.expect_err("refused").kind();
        assert_eq!(kind(names.create("a", 1)), io::ErrorKind::NotFound, "no root yet");
        names.create_root();
        names.create("a", 1).expect("create");
        assert_eq!(kind(names.create("a", 2)), io::ErrorKind::AlreadyExists);
        assert_eq!(kind(names.create("a/b", 2)), io::ErrorKind::NotADirectory);
        assert_eq!(kind(names.create_folder("a")), io::ErrorKind::NotADirectory);
        assert_eq!(kind(names.create("no/b", 2)), io::ErrorKind::NotFound);
        assert_eq!(kind(names.create("../b", 2)), io::ErrorKind::InvalidInput);
        assert_eq!(kind(names.create_folder("/b")), io::ErrorKind::InvalidInput);
        assert_eq!(kind(names.remove("b")), io::ErrorKind::NotFound);
        assert_eq!(kind(names.rename("a", "no/b")), io::ErrorKind::NotFound);
        assert_eq!(kind(names.sync_folder("no")), io::ErrorKind::NotFound);
    }
}
