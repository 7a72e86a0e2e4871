//! From nothing to a connection that may be used: dialled, encrypted, greeted, and found to answer in time.

use super::connection::Connection;
use super::fault::Fault;
use super::resp::Reply;
use super::url::Target;
use crate::backend::dial::dial;
use crate::backend::tls::Tls;
use crate::limits::redis as limits;
use crate::runtime::time::timeout;
use std::time::Duration;

/// Why there is no connection: the kind, and words for the log that hold no secret.
pub(super) struct Failure {
    pub(super) fault: Fault,
    pub(super) detail: String,
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Failure {
        Failure {
            fault,
            detail: String::new(),
        }
    }
}

/// What the server said of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Greeting {
    /// "7.0.15"; empty where it did not say.
    pub(super) version: String,
    /// "master" or "replica"; empty where it did not say.
    pub(super) role: String,
    mode: String,
}

/// Connects and greets; `probe` is what the last ping may take.
pub(super) async fn connect(
    target: &Target,
    tls: Option<&Tls>,
    name: &str,
    probe: Duration,
) -> Result<(Connection, Greeting), Failure> {
    let all = async {
        let connection = open(target, tls).await?;
        let greeting = greet(&connection, target, name).await?;
        if matches!(greeting.mode.as_str(), "cluster" | "sentinel") {
            return Err(Fault::Cluster.into());
        }
        // A server that answers, but later than anybody waits for it, is of no use.
        match timeout(probe, ask(&connection, &[b"PING"])).await {
            Ok(Ok(Reply::Error(code))) if code == "NOPERM" => {}
            Ok(Ok(Reply::Error(code))) => return Err(Fault::of_code(&code).into()),
            Ok(Ok(_)) => {}
            Ok(Err(fault)) => return Err(fault.into()),
            Err(_) => return Err(Fault::Timeout.into()),
        }
        Ok((connection, greeting))
    };
    match timeout(Duration::from_millis(limits::CONNECT_MS), all).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Fault::Timeout.into()),
    }
}

async fn open(target: &Target, tls: Option<&Tls>) -> Result<Connection, Failure> {
    let failure = |detail: String| Failure {
        fault: Fault::Connect,
        detail,
    };
    let stream = dial(&target.endpoint, None, Duration::from_millis(limits::CONNECT_MS))
        .await
        .map_err(|error| failure(error.to_string()))?;
    Ok(match (tls, &target.endpoint) {
        (Some(tls), crate::backend::dial::Target::Tcp { host, .. }) => {
            let stream = tls.connect(host, stream).await;
            Connection::over(stream.map_err(|error| failure(format!("TLS: {error}")))?)
        }
        _ => Connection::over(stream),
    })
}

async fn ask(connection: &Connection, words: &[&[u8]]) -> Result<Reply, Fault> {
    connection.send(words)?.await
}

/// HELLO 3 says all in one command (Redis 6 and later, Valkey, KeyDB); a server that does not know it gets the older
/// commands.
async fn greet(connection: &Connection, target: &Target, name: &str) -> Result<Greeting, Failure> {
    let name = target.client_name.as_deref().unwrap_or(name).as_bytes();
    let user = target.user.as_deref().unwrap_or("default").as_bytes();
    let mut greeting = None;
    if !target.resp2 {
        let mut words: Vec<&[u8]> = vec![b"HELLO", b"3"];
        if let Some(password) = &target.password {
            words.extend_from_slice(&[b"AUTH", user, password.expose()]);
        }
        words.extend_from_slice(&[b"SETNAME", name]);
        match ask(connection, &words).await? {
            Reply::Many(facts) => greeting = Some(read_facts(&facts)),
            Reply::Error(code) => match Fault::of_code(&code) {
                // "ERR unknown command", NOPROTO, or a user who may not say HELLO.
                Fault::Other | Fault::Permission => {}
                fault => return Err(fault.into()),
            },
            _ => return Err(Fault::Garbage.into()),
        }
    }
    if greeting.is_none() {
        if let Some(password) = &target.password {
            let reply = match &target.user {
                Some(user) => ask(connection, &[b"AUTH", user.as_bytes(), password.expose()]).await?,
                None => ask(connection, &[b"AUTH", password.expose()]).await?,
            };
            if let Reply::Error(code) = reply {
                return Err(match Fault::of_code(&code) {
                    Fault::Loading => Fault::Loading.into(),
                    _ => Fault::Auth.into(),
                });
            }
        }
        // Refused: CLIENT LIST shows no name, nothing else is lost.
        ask(connection, &[b"CLIENT", b"SETNAME", name]).await?;
    }
    if target.database != 0 {
        let number = target.database.to_string();
        if let Reply::Error(code) = ask(connection, &[b"SELECT", number.as_bytes()]).await? {
            return Err(match Fault::of_code(&code) {
                Fault::Other => Failure {
                    fault: Fault::Other,
                    detail: format!("there is no database {number}"),
                },
                fault => fault.into(),
            });
        }
    }
    Ok(greeting.unwrap_or_default())
}

/// The facts of HELLO come as names and values by turns; nested lists stand last.
fn read_facts(facts: &[Reply]) -> Greeting {
    let text = |reply: &Reply| match reply {
        Reply::Bulk(bytes) | Reply::Text(bytes) if bytes.len() <= 32 && bytes.iter().all(u8::is_ascii_graphic) => {
            String::from_utf8_lossy(bytes).into_owned()
        }
        _ => String::new(),
    };
    let mut greeting = Greeting::default();
    let mut facts = facts.iter();
    while let (Some(name), Some(value)) = (facts.next(), facts.next()) {
        match text(name).as_str() {
            "version" => greeting.version = text(value),
            "role" => greeting.role = text(value),
            "mode" => greeting.mode = text(value),
            "modules" => break,
            _ => {}
        }
    }
    greeting
}
