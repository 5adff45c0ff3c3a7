//! Where the files go that a run leaves behind.

use std::path::PathBuf;

use crate::shared::folder::RunFolder;

/// Returns the path of a file that outlives the run: `kept` in the folder that `--dir` keeps, or else `temporary` in
/// the system's folder for temporary files.
pub(crate) fn file(folder: &RunFolder, kept: &str, temporary: &str) -> PathBuf {
    match folder {
        RunFolder::Kept(_) => folder.part(kept),
        RunFolder::Temporary(_) => std::env::temp_dir().join(temporary),
    }
}
