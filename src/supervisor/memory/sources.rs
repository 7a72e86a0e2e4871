//! What may end the process: limits of memory, and how near each is to be reached.

use crate::config::MemoryMax;
use crate::resilience::memory::{Figures, share};
use crate::runtime::topology::is_starved;
use crate::runtime::topology::memory::{MemoryGroup, UsageFiles, limited_groups, machine_bytes, resident};
use std::fmt;
use std::io;
use std::path::Path;

/// What may end the process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    /// A control group and all that is in it.
    Group(MemoryGroup),
    /// This process alone, by a number of that name.
    Own(u64, &'static str),
}

impl Source {
    pub(super) fn limit(&self) -> u64 {
        match self {
            Source::Group(group) => group.limit,
            Source::Own(limit, _) => *limit,
        }
    }
}

/// A source, and what tells its use. Files of a group stay open: clients can use up all descriptors, and memory must be
/// watched then, too.
#[derive(Debug)]
pub(super) struct Gauge {
    pub(super) source: Source,
    /// None where it is not a group's, or the last look at it failed.
    files: Option<UsageFiles>,
}

impl Gauge {
    /// # Errors
    /// There is no descriptor. A group whose files are not there is one that cannot be read, perhaps later.
    pub(super) fn open(source: Source, root: &Path) -> io::Result<Gauge> {
        let files = match &source {
            Source::Group(group) => match group.open(root) {
                Err(error) if is_starved(&error) => return Err(error),
                opened => opened.ok(),
            },
            Source::Own(..) => None,
        };
        Ok(Gauge { source, files })
    }

    /// Its use now, if that can be read.
    pub(super) fn figures(&mut self, root: &Path) -> Option<Figures> {
        let limit = self.source.limit();
        let group = match &self.source {
            Source::Group(group) => group,
            Source::Own(..) => {
                return resident(root).map(|bytes| Figures {
                    limit,
                    used: bytes,
                    working_set: bytes,
                });
            }
        };
        let usage = self.files.as_ref().and_then(UsageFiles::usage).or_else(|| {
            // The group may have been made anew in its place.
            self.files = group.open(root).ok();
            self.files.as_ref().and_then(UsageFiles::usage)
        })?;
        Some(Figures {
            limit,
            used: usage.used(),
            working_set: usage.working_set(),
        })
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Group(group) => write!(f, "{}/{}", group.dir.display(), group.file),
            Source::Own(_, name) => f.write_str(name),
        }
    }
}

/// All of them, below this root of the file system.
///
/// # Errors
/// There is no descriptor to look with: those before still hold.
pub(super) fn sources(max: MemoryMax, root: &Path) -> io::Result<Vec<Source>> {
    if max == MemoryMax::Off {
        return Ok(Vec::new());
    }
    let mut sources: Vec<Source> = limited_groups(root)?.into_iter().map(Source::Group).collect();
    match max {
        MemoryMax::Bytes(bytes) => sources.push(Source::Own(bytes, "MEMORY_MAX")),
        // Where the machine runs out, the kernel takes the largest process, which may be this one.
        _ if sources.is_empty() => {
            sources.extend(machine_bytes(root)?.map(|bytes| Source::Own(bytes, "the machine's memory")));
        }
        _ => {}
    }
    Ok(sources)
}

/// The one that is nearest to its limit; none where nothing can be read.
pub(super) fn nearest<'g>(gauges: &'g mut [Gauge], root: &Path) -> Option<(&'g Source, Figures)> {
    let read = gauges.iter_mut().filter_map(|gauge| {
        let figures = gauge.figures(root)?;
        Some((&gauge.source, figures))
    });
    read.max_by_key(|(_, figures)| share(figures.used, figures.limit))
}
