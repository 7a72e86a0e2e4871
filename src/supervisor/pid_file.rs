//! PIDFILE: the id of the process that serves, for init scripts and for those who send signals.
//!
//! Written when the process serves, whole at once (a file beside it is renamed). In a hot upgrade the old process's file
//! becomes `PIDFILE.oldbin`, as nginx has it, and comes back if the upgrade fails. A process removes the file only while
//! its own id stands in it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The file while it is this process's; dropping it removes it.
#[derive(Debug)]
pub(super) struct PidFile {
    path: PathBuf,
    aside: PathBuf,
    is_aside: bool,
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(ending);
    name.into()
}

impl PidFile {
    /// Writes it. One that cannot be written is told, and does not keep the process from serving.
    pub(super) fn write(path: &Path) -> Option<PidFile> {
        // Whatever becomes of the working directory.
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
        let id = std::process::id();
        let new = beside(&path, &format!(".{id}.new"));
        let written = std::fs::write(&new, format!("{id}\n")).and_then(|()| std::fs::rename(&new, &path));
        if let Err(error) = written {
            let _ = std::fs::remove_file(&new);
            tracing::error!(%error, path = %path.display(), "PIDFILE cannot be written; the process serves without");
            return None;
        }
        let aside = beside(&path, ".oldbin");
        Some(PidFile {
            path,
            aside,
            is_aside: false,
        })
    }

    /// Makes room for a successor's.
    pub(super) fn step_aside(&mut self) {
        self.is_aside = std::fs::rename(&self.path, &self.aside).is_ok();
    }

    /// There is no successor: the file is this process's again.
    pub(super) fn step_back(&mut self) {
        if std::mem::take(&mut self.is_aside)
            && let Err(error) = std::fs::rename(&self.aside, &self.path)
        {
            tracing::error!(%error, path = %self.path.display(), "PIDFILE cannot be put back");
        }
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let path = if self.is_aside { &self.aside } else { &self.path };
        let is_own = std::fs::read_to_string(path).is_ok_and(|text| text.trim() == std::process::id().to_string());
        if is_own {
            let _ = std::fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_comes_goes_aside_and_is_left_to_others() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("api.pid");
        std::fs::write(&path, "1\n").unwrap();
        let own = format!("{}\n", std::process::id());
        let mut file = PidFile::write(&path).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), own);
        file.step_aside();
        assert!(!path.exists());
        assert_eq!(
            std::fs::read_to_string(folder.path().join("api.pid.oldbin")).unwrap(),
            own
        );
        file.step_back();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), own);
        // A successor's stays, ours beside it goes.
        file.step_aside();
        std::fs::write(&path, "2\n").unwrap();
        drop(file);
        let left: Vec<_> = std::fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(left, ["api.pid"]);
        assert!(PidFile::write(&folder.path().join("missing/api.pid")).is_none());
    }
}
