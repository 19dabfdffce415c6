//! A directory in the making: filled under a temporary name beside its own, so that it is there whole or not at all.
//!
//! What is given up, or fails, is removed with all that is in it. Only the death of the process leaves one behind, under a
//! name that says what it is.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{DiskStorage, empty, make_private, not_a_directory, place, refused, sync_directory};
use crate::error::{Error, Result};

/// A directory that has not got its name yet.
#[derive(Debug)]
pub(crate) struct NewDirectory {
    temporary: PathBuf,
    to: PathBuf,
    parent: PathBuf,
    is_named: bool,
}

impl NewDirectory {
    /// Begins a directory that is to be `to`, which does not exist or is empty, and does not lie in `not_in`.
    ///
    /// # Errors
    /// `INVALID`, `STORAGE_FULL`, `IO`.
    pub(crate) fn begin(to: &Path, not_in: &Path) -> Result<Self> {
        // Where nobody knows what it is, nobody is in it.
        let to = resolve(to, &std::env::current_dir().unwrap_or_default())?;
        let Some((parent, name)) = to.parent().zip(to.file_name()) else {
            return Err(Error::invalid(format!("{} cannot be made", to.display())).at(&to));
        };
        // By what they are, not by their names: it may be mounted in other places, too.
        let own = fs::metadata(not_in).map(|about| place(&about)).ok();
        let is_own = |path: &Path| {
            own.is_some() && fs::metadata(path).map(|about| place(&about)).ok() == own
        };
        if to.ancestors().any(is_own) {
            let text = format!("{} lies in the broker's own directory", to.display());
            return Err(Error::invalid(text).at(&to));
        }
        mounted(&to, parent)?;
        let mut temporary = name.to_owned();
        temporary.push(format!(".tmp-{:016x}", crate::random::u64()));
        let temporary = parent.join(temporary);
        make_private(&temporary).map_err(|cause| Error::storage("make", &temporary, &cause))?;
        Ok(Self { temporary, parent: parent.to_owned(), to, is_named: false })
    }

    /// The directory, to be filled.
    pub(crate) fn storage(&self) -> DiskStorage {
        DiskStorage::new(&self.temporary)
    }

    /// Gives it its name, durably. What is in it was synced, and so was the list of its names.
    ///
    /// # Errors
    /// `INVALID` where something has come there meanwhile, `STORAGE_FULL`, `IO`.
    pub(crate) fn finish(mut self) -> Result<()> {
        fs::rename(&self.temporary, &self.to).map_err(|cause| match cause.kind() {
            io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists => not_empty(&self.to),
            io::ErrorKind::NotADirectory => not_a_directory(&self.to),
            // Of a file system that is mounted beside itself nothing says so before.
            io::ErrorKind::ResourceBusy => mount_point(&self.to),
            _ => Error::storage("make", &self.to, &cause),
        })?;
        self.is_named = true;
        sync_directory(&self.parent).map_err(|cause| {
            self.is_named = fs::rename(&self.to, &self.temporary).is_err();
            Error::io("sync", &self.parent, &cause)
        })
    }
}

impl Drop for NewDirectory {
    fn drop(&mut self) {
        if !self.is_named {
            // Whatever failed before is what there is to tell of.
            let _ = fs::remove_dir_all(&self.temporary);
        }
    }
}

/// The path without symbolic links, of a directory that is empty or not there, and is not the one that the process works in:
/// that would be without a name when another one has taken its place.
fn resolve(to: &Path, working: &Path) -> Result<PathBuf> {
    if to.as_os_str().is_empty() {
        return Err(empty());
    }
    let to = std::path::absolute(to).map_err(|cause| refused(to, &cause))?;
    if to.is_symlink() && !to.exists() {
        return Err(Error::invalid(format!("{} is a link to nothing", to.display())).at(&to));
    }
    match fs::canonicalize(&to) {
        Ok(found) => {
            let mut entries = fs::read_dir(&found).map_err(|cause| refused(&found, &cause))?;
            if entries.next().is_some() {
                return Err(not_empty(&found));
            }
            if fs::canonicalize(working).is_ok_and(|working| working == found) {
                let text = format!("{} is the process's working directory", found.display());
                return Err(Error::invalid(text).at(&found));
            }
            Ok(found)
        }
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => {
            let Some((parent, name)) = to.parent().zip(to.file_name()) else {
                return Err(refused(&to, &missing));
            };
            let parent = fs::canonicalize(parent).map_err(|cause| refused(parent, &cause))?;
            Ok(parent.join(name))
        }
        Err(cause) => Err(refused(&to, &cause)),
    }
}

/// Refuses a directory on which another file system is mounted than on the one above it.
fn mounted(to: &Path, above: &Path) -> Result<()> {
    match (fs::metadata(to), fs::metadata(above)) {
        (Ok(there), Ok(above)) if there.dev() != above.dev() => Err(mount_point(to)),
        _ => Ok(()),
    }
}

/// Nothing can take the place of one, and what is copied into it would not be whole from the first moment.
fn mount_point(path: &Path) -> Error {
    Error::invalid(format!("{} is a mount point: name a directory in it", path.display())).at(path)
}

fn not_empty(path: &Path) -> Error {
    Error::invalid(format!("{} is there, and not empty", path.display())).at(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;
    use crate::error::ErrorKind;
    use crate::storage::Storage;

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn it_is_there_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let (nowhere, to) = (dir.path().join("nowhere"), dir.path().join("to"));
        let new = NewDirectory::begin(&to, &nowhere).unwrap();
        new.storage().create("file", 10).unwrap();
        assert_eq!(names(dir.path()).len(), 1);
        assert!(names(dir.path())[0].starts_with("to.tmp-"));
        drop(new);
        assert!(names(dir.path()).is_empty());

        // An empty directory is as good as none, and may be reached through a link.
        fs::create_dir(dir.path().join("real")).unwrap();
        symlink(dir.path().join("real"), &to).unwrap();
        let new = NewDirectory::begin(&to, &nowhere).unwrap();
        new.storage().create("file", 10).unwrap();
        new.finish().unwrap();
        assert_eq!(names(&dir.path().join("real")), ["file"]);
        let mode = fs::metadata(&to).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o700);
        assert_eq!(names(dir.path()).len(), 2);
    }

    #[test]
    fn what_is_in_the_way_is_invalid() {
        let dir = tempfile::tempdir().unwrap();
        let broker = dir.path().join("broker");
        fs::create_dir_all(broker.join("empty")).unwrap();
        fs::write(dir.path().join("file"), "precious").unwrap();
        symlink(&broker, dir.path().join("link")).unwrap();
        symlink("nothing", dir.path().join("dangling")).unwrap();
        let refused = |to: &Path| NewDirectory::begin(to, &broker).unwrap_err().kind();
        for to in ["", "/", "nul\0in/it"] {
            assert_eq!(refused(Path::new(to)), ErrorKind::Invalid, "{to:?}");
        }
        for to in
            ["broker", "broker/new", "broker/empty", "link/new", "file", "file/below", "dangling"]
        {
            assert_eq!(refused(&dir.path().join(to)), ErrorKind::Invalid, "{to}");
        }
        assert_eq!(refused(&dir.path().join("missing/to")), ErrorKind::Io);
        let empty = dir.path().join("elsewhere");
        fs::create_dir(&empty).unwrap();
        assert_eq!(resolve(&empty, &empty).unwrap_err().kind(), ErrorKind::Invalid);
        assert!(resolve(&empty, dir.path()).is_ok() && resolve(&empty, Path::new("")).is_ok());
        // What is mounted there: `/proc` is, and nothing can be made beside it that could take its place.
        assert_eq!(
            mounted(Path::new("/proc"), Path::new("/")).unwrap_err().kind(),
            ErrorKind::Invalid
        );
        mounted(&empty, dir.path()).unwrap();
        // What has come there since it was looked at.
        let to = dir.path().join("to");
        let new = NewDirectory::begin(&to, &broker).unwrap();
        fs::create_dir(&to).unwrap();
        fs::write(to.join("file"), "precious").unwrap();
        assert_eq!(new.finish().unwrap_err().kind(), ErrorKind::Invalid);
        assert_eq!(names(&to), ["file"]);
        assert!(names(dir.path()).iter().all(|name| !name.contains(".tmp-")));
    }
}
