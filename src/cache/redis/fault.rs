//! What goes wrong with Redis, in few kinds: for metrics, for the breaker, and for one log line each.

use std::fmt;

/// Why a command gave nothing. The words never repeat what the server said beyond its error code: an error text may
/// repeat the password that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// No connection: refused, no such name, TLS not believed.
    Connect,
    /// The connection ended under the command.
    Lost,
    /// No answer in time.
    Timeout,
    /// Nothing was tried: Redis is known to be away.
    Away,
    /// Too much waits for Redis already; nothing was sent.
    Full,
    /// It reads its data from disk (LOADING).
    Loading,
    /// No or the wrong password (NOAUTH, WRONGPASS).
    Auth,
    /// The user may not do that (NOPERM).
    Permission,
    /// This is a node of a Redis Cluster, or a Sentinel (MOVED, ASK, CROSSSLOT, CLUSTERDOWN).
    Cluster,
    /// A replica, which takes no writes (READONLY).
    ReadOnly,
    /// Out of memory under `noeviction` (OOM).
    Memory,
    /// Writes are stopped: the disk failed or too few replicas are there (MISCONF, NOREPLICAS).
    Stopped,
    /// Busy with a script, or a replica without its primary (BUSY, MASTERDOWN, TRYAGAIN).
    Busy,
    /// What came is no answer of Redis'.
    Garbage,
    /// Any other error.
    Other,
}

impl Fault {
    /// Every kind, in the order of the metrics' cells.
    pub const ALL: [Fault; 15] = [
        Fault::Connect,
        Fault::Lost,
        Fault::Timeout,
        Fault::Away,
        Fault::Full,
        Fault::Loading,
        Fault::Auth,
        Fault::Permission,
        Fault::Cluster,
        Fault::ReadOnly,
        Fault::Memory,
        Fault::Stopped,
        Fault::Busy,
        Fault::Garbage,
        Fault::Other,
    ];

    /// The names of the kinds, for metrics and log fields.
    pub const NAMES: [&'static str; 15] = [
        "connect",
        "lost",
        "timeout",
        "away",
        "full",
        "loading",
        "auth",
        "permission",
        "cluster",
        "read_only",
        "out_of_memory",
        "writes_stopped",
        "busy",
        "garbage",
        "other",
    ];

    /// From the code of an error answer.
    pub(super) fn of_code(code: &str) -> Fault {
        match code {
            "LOADING" => Fault::Loading,
            "NOAUTH" | "WRONGPASS" => Fault::Auth,
            "NOPERM" => Fault::Permission,
            "MOVED" | "ASK" | "CROSSSLOT" | "CLUSTERDOWN" => Fault::Cluster,
            "READONLY" => Fault::ReadOnly,
            "OOM" => Fault::Memory,
            "MISCONF" | "NOREPLICAS" => Fault::Stopped,
            "BUSY" | "MASTERDOWN" | "TRYAGAIN" => Fault::Busy,
            _ => Fault::Other,
        }
    }

    /// The kind's name.
    pub fn name(self) -> &'static str {
        Fault::NAMES.get(self as usize).copied().unwrap_or("other")
    }

    /// What it means and what to do, for the operator.
    pub fn advice(self) -> &'static str {
        match self {
            Fault::Connect => "it cannot be reached; check host, port, TLS and whether it runs",
            Fault::Lost => "it closed the connection; check whether it restarts or kills clients",
            Fault::Timeout => "it does not answer in time; check its load, SLOWLOG and the network",
            Fault::Away => "it is away",
            Fault::Full => "more waits for it than it takes",
            Fault::Loading => "it still reads its data from disk",
            Fault::Auth => "it refuses the user or the password in REDIS_URL",
            Fault::Permission => {
                "the user may not use these commands or keys; allow GET, SET, EVAL, DEL and PING on the prefix"
            }
            Fault::Cluster => {
                "this is a node of a Redis Cluster, or a Sentinel, which are not supported; give one server or a proxy"
            }
            Fault::ReadOnly => "this is a replica; give the address of the primary",
            Fault::Memory => "it is out of memory and evicts nothing; set maxmemory-policy to allkeys-lru",
            Fault::Stopped => "it takes no writes, because its disk failed or replicas are missing",
            Fault::Busy => "it is busy with a script, or a replica without its primary",
            Fault::Garbage => "what answers there is no Redis",
            Fault::Other => "it answers with an error",
        }
    }

    /// Whether the server cannot serve anybody for now, so that nothing more need be sent.
    pub(super) fn is_outage(self) -> bool {
        matches!(
            self,
            Fault::Loading | Fault::Auth | Fault::Cluster | Fault::Busy | Fault::Garbage | Fault::Connect
        )
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.advice())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_and_names_are_in_step() {
        for (at, fault) in Fault::ALL.iter().enumerate() {
            assert_eq!(*fault as usize, at);
        }
        let names: std::collections::BTreeSet<_> = Fault::ALL.iter().map(|fault| fault.name()).collect();
        assert_eq!(names.len(), Fault::ALL.len());
        assert_eq!(Fault::of_code("WRONGPASS"), Fault::Auth);
        assert_eq!(Fault::of_code("ERR"), Fault::Other);
    }
}
