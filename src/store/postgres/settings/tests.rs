//! Connection strings, good and bad.

use super::*;
use proptest::prelude::*;

fn parsed(url: &str) -> Settings {
    Settings::parse(url).unwrap_or_else(|error| panic!("{url} {error}"))
}

fn refused(url: &str, named: &str) {
    let error = Settings::parse(url).expect_err(url).to_string();
    assert!(error.contains(named), "{url}: {error:?} does not say {named:?}");
}

fn tcp(host: &str, port: u16) -> Target {
    Target::Tcp {
        host: host.into(),
        port,
    }
}

#[test]
fn the_usual_forms() {
    let plain = parsed("postgresql://u:p%40ss@db:5433/trips");
    assert_eq!(plain.hosts, [tcp("db", 5433)]);
    assert_eq!((plain.user.as_str(), plain.database.as_str()), ("u", "trips"));
    assert_eq!(plain.password.unwrap().expose(), b"p@ss");
    assert_eq!(
        (plain.ssl, plain.session, plain.prepare),
        (SslMode::Prefer, Session::Any, Prepare::Auto)
    );

    assert_eq!(parsed("postgres://u@db").hosts, [tcp("db", 5432)]);
    assert_eq!(parsed("postgres://u@db").database, "u", "libpq's default");
    assert_eq!(parsed("postgres://u@[::1]:1/x").hosts, [tcp("::1", 1)]);
    let several = parsed("postgres://u@a,b:2,c:3/x?load_balance_hosts=random");
    assert_eq!(several.hosts, [tcp("a", 5432), tcp("b", 2), tcp("c", 3)]);
    assert!(several.shuffle && several.session == Session::ReadWrite);
    assert_eq!(
        parsed("postgres://u@a,b/x?target_session_attrs=any").session,
        Session::Any
    );
    assert_eq!(
        parsed("postgres:///x?host=a,b&port=7&user=u").hosts,
        [tcp("a", 7), tcp("b", 7)]
    );
    assert_eq!(parsed("postgres:///x?host=a,b&port=7,8&user=u").hosts[1], tcp("b", 8));

    let socket = Target::Unix("/run/pg/.s.PGSQL.6000".into());
    assert_eq!(
        parsed("postgres://u@/x?host=/run/pg&port=6000").hosts,
        std::slice::from_ref(&socket)
    );
    assert_eq!(parsed("postgres://u@%2Frun%2Fpg:6000/x").hosts, [socket]);
    // Peer authentication: whoever runs this has a name.
    assert!(!parsed("postgres://localhost/x").user.is_empty());
}

#[test]
fn tls_and_what_it_believes() {
    let mode = |query: &str| {
        let settings = parsed(&format!("postgres://u@db/x?{query}"));
        (settings.ssl, settings.tls.verify)
    };
    assert_eq!(mode("sslmode=disable"), (SslMode::Disable, Verify::Nothing));
    assert_eq!(mode("ssl=require"), (SslMode::Require, Verify::Nothing));
    assert_eq!(mode("sslmode=verify-ca"), (SslMode::Require, Verify::Ca));
    assert_eq!(
        mode("sslmode=verify-full&sslrootcert=system"),
        (SslMode::Require, Verify::Full)
    );
    // libpq's rule.
    assert_eq!(
        mode("sslmode=require&sslrootcert=/ca.pem"),
        (SslMode::Require, Verify::Ca)
    );
    let own = parsed(
        "postgres://u@db/x?sslmode=verify-full&sslrootcert=%2Fca.pem&sslcert=/c&sslkey=/k&channel_binding=require&ssl_min_protocol_version=TLSv1.3",
    );
    assert_eq!(own.tls.roots.as_deref(), Some(Path::new("/ca.pem")));
    assert_eq!(own.tls.identity, Some(("/c".into(), "/k".into())));
    assert!(own.tls.only_tls13 && own.binding == Binding::Require);
}

#[test]
fn the_other_parameters() {
    let given = parsed(
        "postgres://u@db/x?application_name=a%20b&options=-c%20work_mem%3D8MB&connect_timeout=3&keepalives_idle=7&keepalives_count=2&tcp_user_timeout=900&statement_cache=off&gssencmode=disable",
    );
    assert_eq!(given.application_name, "a b");
    assert_eq!(given.options.as_deref(), Some("-c work_mem=8MB"));
    assert_eq!(given.connect_timeout, Duration::from_secs(3));
    let keepalive = given.keepalive.unwrap();
    assert_eq!((keepalive.idle.as_secs(), keepalive.probes), (7, 2));
    assert_eq!(keepalive.user_timeout.as_millis(), 900);
    assert_eq!(given.prepare, Prepare::Off);
    assert_eq!(parsed("postgres://u@db/x?statement_cache=on").prepare, Prepare::On);
    for (size, prepare) in [("0", Prepare::Off), ("100", Prepare::Auto)] {
        let url = format!("postgres://u@db/x?prepared_statement_cache_size={size}");
        assert_eq!(parsed(&url).prepare, prepare);
    }
    assert!(parsed("postgres://u@db/x?keepalives=0").keepalive.is_none());
}

#[test]
fn what_is_not_supported_is_named() {
    for (query, named) in [
        ("sslmode=allow", "sslmode=allow"),
        ("sslrootcert=system", "verify-full"),
        ("sslcert=/c", "sslkey"),
        ("sslcrl=/c", "sslcrl"),
        ("service=x", "service"),
        ("passfile=x", "passfile"),
        ("target_session_attrs=prefer-standby", "prefer-standby"),
        ("target_session_attrs=read-only", "read-only"),
        ("channel_binding=require&sslmode=disable", "channel_binding"),
        ("connect_timeout=soon", "connect_timeout"),
        ("sslmod=require", "sslmod"),
        ("gssencmode=require", "gssencmode"),
        ("sslnegotiation=direct", "sslnegotiation=direct"),
        ("sslcert=/c&sslkey=/k&sslpassword=x", "sslpassword"),
        ("sslcertmode=require", "sslcertmode"),
        ("sslcompression=1", "sslcompression"),
        ("sslcrldir=/c", "sslcrldir"),
        ("sslsni=0", "sslsni"),
        ("ssl_max_protocol_version=TLSv1.2", "ssl_max_protocol_version"),
        ("ssl_min_protocol_version=TLSv1", "ssl_min_protocol_version=TLSv1"),
        ("requirepeer=x", "requirepeer"),
        ("require_auth=md5", "require_auth"),
        ("requiressl=1", "requiressl"),
        ("hostaddr=10.0.0.1", "hostaddr"),
        ("krbsrvname=x", "krbsrvname"),
        ("gsslib=x", "gsslib"),
        ("gssdelegation=1", "gssdelegation"),
        ("replication=database", "replication"),
        ("servicefile=x", "servicefile"),
        ("client_encoding=latin1", "client_encoding"),
        ("load_balance_hosts=always", "load_balance_hosts"),
        ("host=a:1&host=b:1", "host twice"),
        ("async_fallback=true", "async_fallback"),
        ("port=0", "port"),
        ("host=a,b&port=1,2,3", "3 ports"),
        ("options=%zz", "options"),
    ] {
        refused(&format!("postgres://u:s3cret@db/x?{query}"), named);
    }
    refused("postgres://u@db:99999/x", "port");
    refused("postgres://u@[::1/x", "bracket");
    refused("postgres://u@[::1]5433/x", "port");
    refused("postgres://%zz@db/x", "percent-encoded");
    refused("postgres://u@d%20b/x", "host");
    refused("postgres://u@d b/x", "%20");
}

#[test]
fn pairs_say_the_same_as_a_url() {
    for (pairs, url) in [
        (
            "host=db port=5433 user=u password=p@ss dbname=trips sslmode=require",
            "postgresql://u:p%40ss@db:5433/trips?sslmode=require",
        ),
        (
            "host=a,b port=7,8 user=u dbname=x",
            "postgres:///x?host=a,b&port=7,8&user=u",
        ),
        (r"host = /run/pg  user = 'a b' dbname='it''", ""),
        (
            r"host=/run/pg user='a \'b\\' dbname=c\ d password=''",
            "postgres:///c%20d?host=/run/pg&user=a%20'b%5C",
        ),
        (
            " host=db\tuser = u\n password='a://b?c=d@e' ",
            "postgresql://u:a%3A%2F%2Fb%3Fc%3Dd%40e@db",
        ),
        (
            "host=db user=u options='-c work_mem=8MB' application_name=x",
            "postgres://u@db?options=-c%20work_mem%3D8MB&application_name=x",
        ),
    ] {
        match url {
            "" => refused(pairs, "dbname whose quotes"),
            url => assert_eq!(parsed(pairs), parsed(url), "{pairs}"),
        }
    }
    for (pairs, named) in [
        ("host=db user=u sslpassword=x", "sslpassword"),
        ("host=db user=u password='s3cret", "password whose quotes"),
        ("host=db user=u password='s3c'ret", "password whose quotes"),
        ("host=db user=u password=s3cret s3cret", "key=value"),
        ("host=db user=u s3cret! = 1", "key=value"),
        ("host=db host=db2", "host twice"),
        ("user=u\\", "user whose"),
    ] {
        refused(pairs, named);
        assert!(!Settings::parse(pairs).unwrap_err().to_string().contains("s3c"));
    }
}

#[test]
fn schemes_of_sqlalchemy_and_of_others() {
    for scheme in [
        "postgres",
        "PostgreSQL",
        "postgresql+asyncpg",
        "postgresql+psycopg",
        "postgresql+psycopg2",
        "postgresql+pg8000",
        "postgres+psycopg_async",
    ] {
        assert_eq!(parsed(&format!("{scheme}://u:p@db/x")), parsed("postgresql://u:p@db/x"));
    }
    refused("postgresql+nonsense://u:s3cret@db/x", "nonsense");
    refused("mysql://u:s3cret@db/x", "postgresql://");
    refused("jdbc:postgresql://db/x?user=u&password=s3cret", "JDBC");
    refused("s3cret", "neither");
    refused("postgresql://", "nothing");
    refused("postgresql://u:s3 cret@db", "%20");
}

#[test]
fn passwords_that_were_not_encoded_are_not_repeated() {
    for url in [
        "postgres://u:s3cret/@db/x",
        "postgres://u:s3cret?@db/x",
        "postgres://u:12?s3cret@db/x",
        "postgres://u:p@ss?s3cret@db",
        "postgres://u:p@ss?s3cret=1@db",
        "postgres://u:p#s3cret@db/x",
        "postgres://u:%s3cret@db/x",
        "postgres://u:s3cret",
        "postgres://u@db/x?s3cret!",
        "postgres://u@db/x?password=%s3cret",
        "postgres://u@db/x?sslmode=s3cret!",
    ] {
        let error = Settings::parse(url).expect_err(url).to_string();
        assert!(!error.contains("s3cret"), "{error}");
    }
    let settings = parsed("postgres://u:s3cret@db/x");
    assert!(!format!("{settings:?}").contains("s3cret"));
    // As a parameter, too.
    let settings = parsed("postgres://u@db/x?password=s3cr%65t");
    assert_eq!(settings.password.as_ref().unwrap().expose(), b"s3cret");
    assert!(!format!("{settings:?}").contains("s3cr"));
}

/// A password between sentinels, percent-encoded for a URL.
fn encoded(password: &str) -> String {
    let hex = |byte: u8| match byte {
        b if b.is_ascii_alphanumeric() => char::from(b).to_string(),
        b => format!("%{b:02X}"),
    };
    password.bytes().map(hex).collect()
}

/// The same quoted for pairs.
fn quoted(password: &str) -> String {
    format!("'{}'", password.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// All that can be said about a connection string: at boot, by `check`, by whoever prints what is in memory.
fn said(text: &str) -> String {
    let config = |url: &str| crate::store::postgres::Config {
        url: crate::config::SecretUrl::for_test(url),
        pool: crate::store::postgres::PoolSettings {
            size: 1,
            overflow: 0,
            wait: Duration::ZERO,
            recycle: Duration::ZERO,
            pre_ping: false,
        },
        auto_migrate: false,
        pods_max: 1,
    };
    let env = [("DATABASE_URL", text), ("DATA_DIR", "/nowhere")].map(|(name, value)| (name.into(), value.into()));
    let opened = crate::store::postgres::Postgres::new(&config(text), 1);
    let opened = opened.as_ref().map_err(|error| format!("{error} {error:?}"));
    let parsed = Settings::parse(text);
    let shown = parsed.as_ref().map_err(|error| format!("{error} {error:?}"));
    let read = crate::config::Config::read(env);
    let told = read.as_ref().map_err(|error| format!("{error} {error:?}"));
    format!("{shown:?} {opened:?} {told:?} {:?} {}", config(text), config(text).url)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn a_password_that_is_where_it_belongs_is_never_said(
        password in "[ -~]{1,12}", name in "[a-z_]{1,12}", value in "[!-~]{0,12}", cut in 0usize..60, broken in "[ -~]{0,3}",
    ) {
        let sentinel = format!("QQ{password}QQ");
        let (in_url, in_pairs) = (encoded(&sentinel), quoted(&sentinel));
        let tails = [
            String::new(),
            format!("{name}={}", encoded(&value)),
            "sslmode=verify-full&sslrootcert=/no/such/file".to_owned(),
            "sslmode=require&sslcert=/no/such/file&sslkey=/nor/this".to_owned(),
            format!("{name}={value}"),
        ];
        for tail in &tails {
            for url in [
                format!("postgresql://u:{in_url}@db/x?{tail}"),
                format!("postgresql+asyncpg://u:{in_url}@a:1,b:2/x?{tail}"),
                format!("postgresql://u@db/x?password={in_url}&{tail}"),
            ] {
                let said = said(&url);
                prop_assert!(!said.contains(&sentinel) && !said.contains(&in_url), "{said}");
            }
            let pairs = tail.replace('&', " ");
            let text = format!("host=db user=u password={in_pairs} dbname=x {pairs}");
            let mut damaged = text.clone();
            // Anything may be lost or come in before the password or behind it.
            let before = "host=db user=u ".len();
            let at = if cut < before { cut } else { text.len() - (cut - before).min("dbname=x ".len()) };
            if damaged.is_char_boundary(at) {
                damaged.insert_str(at, &broken);
            }
            for text in [text, damaged] {
                let said = said(&text);
                prop_assert!(!said.contains(&sentinel) && !said.contains(&in_pairs), "{text}: {said}");
            }
        }
    }

    #[test]
    fn no_text_panics_and_no_password_shows(password in "[!-~]{1,12}", tail in "[ -~]{0,40}") {
        let sentinel = format!("QQ{password}QQ");
        for url in [format!("postgres://u:{sentinel}@db/x?{tail}"), format!("postgres://u:{sentinel}{tail}")] {
            let said = match Settings::parse(&url) {
                Ok(settings) => format!("{settings:?}"),
                Err(error) => error.to_string(),
            };
            // What was read as another part than the password may show, where the string leaves no other reading: a
            // host that begins behind a raw '@'.
            if !password.contains(['@', ':']) && !tail.contains(['@', '/', '?', ',', '[']) {
                prop_assert!(!said.contains(&sentinel), "{said}");
            }
        }
    }
}
