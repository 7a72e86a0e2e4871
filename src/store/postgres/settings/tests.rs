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
        ("port=0", "port"),
        ("host=a,b&port=1,2,3", "3 ports"),
        ("options=%zz", "options"),
    ] {
        refused(&format!("postgres://u:s3cret@db/x?{query}"), named);
    }
    refused("postgres://u@db:99999/x", "port");
    refused("postgres://u@[::1/x", "bracket");
    refused("postgres://%zz@db/x", "percent-encoded");
    refused("postgres://u@d b/x", "host");
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

proptest! {
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
