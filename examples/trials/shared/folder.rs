//! Where the engines of one run live.
//!
//! Without `--dir`: a new folder in the system's folder for temporary files, removed when the run
//! ends, also when it ends with an error. With `--dir`: a new folder `run-1`, `run-2`, … in it,
//! kept; what is there already is neither read nor touched.

use std::error::Error;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

type Failure = Box<dyn Error + Send + Sync>;

/// How many runs one `--dir` may keep.
const RUNS_MAX: u32 = 100_000;

/// The folder of this run.
pub(crate) enum RunFolder {
    /// Removed when this value is dropped.
    Temporary(TempDir),
    /// Kept.
    Kept(PathBuf),
}

impl RunFolder {
    /// `name` is the program's.
    pub(crate) fn new(name: &str, dir: Option<&Path>) -> Result<Self, Failure> {
        let Some(dir) = dir else {
            let prefix = format!("doorbuster-{name}-");
            return match tempfile::Builder::new().prefix(&prefix).tempdir() {
                Ok(temporary) => Ok(Self::Temporary(temporary)),
                Err(e) => Err(format!("{}: {e}", std::env::temp_dir().display()).into()),
            };
        };
        let fail = |path: &Path, e: io::Error| Failure::from(format!("{}: {e}", path.display()));
        fs::create_dir_all(dir).map_err(|e| fail(dir, e))?;
        for run in 1..=RUNS_MAX {
            let path = dir.join(format!("run-{run}"));
            match fs::create_dir(&path) {
                Ok(()) => return Ok(Self::Kept(path)),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(fail(&path, e)),
            }
        }
        Err(format!("{}: {RUNS_MAX} runs are kept there already", dir.display()).into())
    }

    /// The folder for one engine.
    pub(crate) fn part(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Temporary(temporary) => temporary.path(),
            Self::Kept(path) => path,
        }
    }
}

impl fmt::Display for RunFolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fate = match self {
            Self::Temporary(_) => "removed at the end",
            Self::Kept(_) => "kept",
        };
        write!(f, "folder {} ({fate})", self.path().display())
    }
}
