//! What may end the process: limits of memory, and how near each is to be reached.

use crate::config::MemoryMax;
use crate::resilience::memory::{Figures, share};
use crate::runtime::topology::memory::{MemoryGroup, limited_groups, machine_bytes, resident_bytes};
use std::fmt;
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

    /// Its use now, if that can be read.
    pub(super) fn figures(&self, root: &Path) -> Option<Figures> {
        let limit = self.limit();
        match self {
            Source::Group(group) => group.usage(root).map(|usage| Figures {
                limit,
                used: usage.used(),
                working_set: usage.working_set(),
            }),
            Source::Own(..) => Some(resident_bytes(root))
                .filter(|bytes| *bytes > 0)
                .map(|bytes| Figures {
                    limit,
                    used: bytes,
                    working_set: bytes,
                }),
        }
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
pub(super) fn sources(max: MemoryMax, root: &Path) -> Vec<Source> {
    if max == MemoryMax::Off {
        return Vec::new();
    }
    let mut sources: Vec<Source> = limited_groups(root).into_iter().map(Source::Group).collect();
    match max {
        MemoryMax::Bytes(bytes) => sources.push(Source::Own(bytes, "MEMORY_MAX")),
        // Where the machine runs out, the kernel takes the largest process, which may be this one.
        _ if sources.is_empty() => {
            sources.extend(machine_bytes(root).map(|bytes| Source::Own(bytes, "the machine's memory")));
        }
        _ => {}
    }
    sources
}

/// The one that is nearest to its limit; none where nothing can be read.
pub(super) fn nearest<'s>(sources: &'s [Source], root: &Path) -> Option<(&'s Source, Figures)> {
    let read = sources
        .iter()
        .filter_map(|source| Some((source, source.figures(root)?)));
    read.max_by_key(|(_, figures)| share(figures.used, figures.limit))
}
