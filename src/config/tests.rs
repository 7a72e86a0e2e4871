use super::parse::parse_number;
use super::*;
use proptest::prelude::*;
use std::os::unix::ffi::OsStringExt;

fn read(pairs: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
    let home = [("HOME", "/home/ada")];
    Config::read(
        home.iter()
            .chain(pairs)
            .map(|(name, value)| ((*name).into(), (*value).into())),
    )
}

fn faulty(errors: &ConfigErrors) -> Vec<&str> {
    errors.0.iter().map(|error| error.variable).collect()
}

#[test]
fn an_empty_environment_gives_the_defaults() {
    let config = read(&[]).unwrap();
    let listen = Listen {
        address: None,
        port: 8080,
        v6only: false,
    };
    assert_eq!(
        config.listen,
        [Bind {
            scheme: Scheme::Default,
            at: At::Tcp(listen)
        }]
    );
    let candidates: Vec<String> = listen.candidates().iter().map(ToString::to_string).collect();
    assert_eq!(candidates, ["[::]:8080", "0.0.0.0:8080"]);
    assert_eq!(
        config.store,
        StoreAt::Folder("/home/ada/.local/share/roadtrip-api".into())
    );
    assert_eq!(
        (config.workers, config.pin, config.io_driver),
        (None, Pin::Auto, IoDriver::Auto)
    );
    assert_eq!(config.timeouts.keep_alive, Duration::from_secs(75));
    assert_eq!(config.timeouts.graceful, Duration::from_secs(30));
    assert_eq!(config.timeouts.drain_delay, Duration::ZERO);
    assert_eq!(config.cache_bytes, 64 << 20);
    assert_eq!(
        config.log,
        LogSettings {
            level: LogLevel::Info,
            format: LogFormat::Text,
            access: AccessLog::Errors
        }
    );
    assert!(config.warnings.is_empty() && !config.rate_limit.enabled && config.admin_token.is_none());
}

#[test]
fn every_variable_is_read_once_and_listed() {
    let config = read(&[]).unwrap();
    for variable in VARIABLES {
        let settings: Vec<_> = config.settings.iter().filter(|s| s.variable == variable.name).collect();
        assert_eq!(
            settings.len(),
            1,
            "{} is in the table but not parsed, or parsed twice",
            variable.name
        );
        assert!(!settings[0].set);
    }
    assert_eq!(config.settings.len(), VARIABLES.len());
}

#[test]
fn every_default_is_a_value_that_may_be_given() {
    // The text of a default, put into the environment, must give what leaving it out gives.
    let plain = read(&[]).unwrap();
    for variable in VARIABLES {
        if matches!(variable.preset, Preset::Unset(_)) {
            continue;
        }
        let mut given = read(&[(variable.name, &variable.preset_text())]).unwrap();
        given.settings.clone_from(&plain.settings);
        assert_eq!(given, plain, "{}", variable.name);
    }
}

#[test]
fn all_values_are_taken() {
    let config = read(&[
        ("PORT", " 0 "),
        ("HOST", "[::1]"),
        ("ENVIRONMENT", "Production"),
        ("DATABASE_URL", "postgresql+asyncpg://u:p@db/trips"),
        ("REDIS_URL", "rediss://cache"),
        ("GUNICORN_WORKERS", "4"),
        ("PIN", "never"),
        ("IO_DRIVER", "EPOLL"),
        ("LOG_LEVEL", "CRITICAL"),
        ("ACCESS_LOG", "all"),
        ("CACHE_BYTES", "2GiB"),
        ("CACHE_TTL_SECONDS", "5m"),
        ("HEAD_TIMEOUT", "250ms"),
        ("RATE_LIMIT_ENABLED", "True"),
        ("ADMIN_TOKEN", "0123456789abcdef"),
    ])
    .unwrap();
    let said: Vec<String> = config.listen.iter().map(ToString::to_string).collect();
    assert_eq!(said, ["[::1]:0"]);
    assert_eq!(config.environment, Environment::Production);
    let StoreAt::Postgres(postgres) = &config.store else {
        panic!("{:?}", config.store)
    };
    assert_eq!(postgres.url.expose(), "postgresql://u:p@db/trips");
    assert!(!postgres.auto_migrate && (postgres.pool.size, postgres.pool.overflow) == (20, 40));
    assert_eq!(config.redis_url.as_ref().unwrap().expose(), "rediss://cache");
    assert_eq!(
        config.workers,
        Some(Requested {
            count: 4,
            variable: "GUNICORN_WORKERS"
        })
    );
    assert_eq!((config.pin, config.io_driver), (Pin::Never, IoDriver::Epoll));
    assert_eq!(
        config.log,
        LogSettings {
            level: LogLevel::Error,
            format: LogFormat::Json,
            access: AccessLog::All
        }
    );
    assert_eq!(
        (config.cache_bytes, config.cache_ttl),
        (2 << 30, Duration::from_secs(300))
    );
    assert_eq!(config.timeouts.head, Duration::from_millis(250));
    assert!(config.admin_token.as_ref().unwrap().matches(b"0123456789abcdef"));
    assert!(
        config.rate_limit.enabled && config.warnings.is_empty(),
        "{:?}",
        config.warnings
    );
    let all = format!("{config:?}");
    assert!(!all.contains("u:p@") && !all.contains("0123456789abcdef"), "{all}");
}

#[test]
fn faults_come_together_with_name_value_and_what_is_allowed() {
    let errors = read(&[
        ("PORT", "65536"),
        ("HOST", "myhost"),
        ("WORKERS", "0"),
        ("PIN", "sometimes"),
        ("LOG_LEVEL", "loud\n"),
        ("KEEP_ALIVE", "75 parsecs"),
        ("CACHE_BYTES", "-1"),
        ("CACHE_TTL_SECONDS", "99999999999999999999h"),
        ("ADMIN_TOKEN", "hunter2"),
        ("DATABASE_URL", "mysql://u:hunter2@db"),
    ])
    .unwrap_err();
    let mut names = faulty(&errors);
    names.sort_unstable();
    let expected = [
        "ADMIN_TOKEN",
        "CACHE_BYTES",
        "CACHE_TTL_SECONDS",
        "DATABASE_URL",
        "HOST",
        "KEEP_ALIVE",
        "LOG_LEVEL",
        "PIN",
        "PORT",
        "WORKERS",
    ];
    assert_eq!(names, expected);
    let text = errors.to_string();
    assert!(text.starts_with("10 environment variables cannot be used:\n  PORT is \"65536\", but must be a whole number from 0 to 65535\n"), "{text}");
    assert!(
        text.contains("PIN is \"sometimes\", but must be auto, always, never"),
        "{text}"
    );
    assert!(text.contains("KEEP_ALIVE is \"75 parsecs\""), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn production_requires_both_urls() {
    let errors = read(&[("ENVIRONMENT", "production")]).unwrap_err();
    assert_eq!(faulty(&errors), ["DATABASE_URL", "REDIS_URL"]);
    assert!(errors.to_string().contains("ENVIRONMENT=production requires it"));
    let errors = read(&[
        ("ENVIRONMENT", "prod"),
        ("DATABASE_URL", "postgres://db/x"),
        ("REDIS_URL", " "),
    ]);
    // A blank value is a value that is missing.
    assert!(errors.is_err(), "{errors:?}");
}

#[test]
fn the_data_folder_follows_xdg_then_home_then_asks() {
    let folder = |pairs: &[(&str, &str)]| {
        let env = pairs
            .iter()
            .map(|(name, value)| (OsString::from(name), OsString::from(value)));
        Config::read(env).map(|config| config.store)
    };
    let at = |path: &str| Ok(StoreAt::Folder(path.into()));
    assert_eq!(folder(&[("DATA_DIR", "rel"), ("HOME", "/h")]), at("rel"));
    assert_eq!(
        folder(&[("XDG_DATA_HOME", "/x"), ("HOME", "/h")]),
        at("/x/roadtrip-api")
    );
    assert_eq!(
        folder(&[("XDG_DATA_HOME", "x"), ("HOME", "/h")]),
        at("/h/.local/share/roadtrip-api")
    );
    let errors = folder(&[("HOME", "")]).unwrap_err();
    assert_eq!(faulty(&errors), ["DATA_DIR"]);
    assert!(errors.to_string().contains("Set DATA_DIR to a folder"), "{errors}");
    assert!(
        folder(&[("DATABASE_URL", "postgres://db/x")]).is_ok(),
        "no folder is needed beside a database"
    );
    assert_eq!(
        faulty(&folder(&[("DATABASE_URL", "nonsense")]).unwrap_err()),
        ["DATABASE_URL"]
    );
}

#[test]
fn workers_wins_and_says_so() {
    let config = read(&[("WORKERS", "2"), ("GUNICORN_WORKERS", "9")]).unwrap();
    assert_eq!(
        config.workers,
        Some(Requested {
            count: 2,
            variable: "WORKERS"
        })
    );
    assert_eq!(config.warnings, ["WORKERS=2 wins over GUNICORN_WORKERS=9"]);
    assert!(
        read(&[("WORKERS", "2"), ("GUNICORN_WORKERS", "2")])
            .unwrap()
            .warnings
            .is_empty()
    );
}

#[test]
fn slips_of_the_pen_are_noticed_and_strangers_are_not() {
    let slips = [
        "DATABASE_URI",
        "LOGLEVEL",
        "LOG_LEVLE",
        "WORKER",
        "keep_alive",
        "CACHE_BYTE",
    ];
    for slip in slips {
        let config = read(&[(slip, "1")]).unwrap();
        assert_eq!(config.warnings.len(), 1, "{slip}");
        assert!(config.warnings[0].starts_with(&format!("{slip:?} is not read; did you mean ")));
    }
    let strangers = [
        "PATH",
        "PWD",
        "SHELL",
        "TERM",
        "LANG",
        "HOSTNAME",
        "REDIS_PORT",
        "POSTGRES_PORT",
        "PINS",
        "PORTS",
    ];
    let pairs: Vec<(&str, &str)> = strangers.iter().map(|name| (*name, "1")).collect();
    assert!(
        read(&pairs).unwrap().warnings.is_empty(),
        "{:?}",
        read(&pairs).unwrap().warnings
    );
}

#[test]
fn bytes_that_are_no_text_are_a_fault_except_in_a_path() {
    let bad = || OsString::from_vec(vec![b'/', 0xff]);
    let env = |name: &str| vec![(OsString::from(name), bad()), ("HOME".into(), "/h".into())];
    assert_eq!(faulty(&Config::read(env("PORT")).unwrap_err()), ["PORT"]);
    assert_eq!(
        faulty(&Config::read(env("DATABASE_URL")).unwrap_err()),
        ["DATABASE_URL"]
    );
    assert_eq!(
        Config::read(env("DATA_DIR")).unwrap().store,
        StoreAt::Folder(bad().into())
    );
    assert!(Config::read([(bad(), bad()), ("HOME".into(), "/h".into())]).is_ok());
}

#[test]
fn the_tables_hold_every_variable() {
    let (markdown, help) = (markdown_table(), help_text());
    assert_eq!(markdown.lines().count(), VARIABLES.len() + 2);
    for variable in VARIABLES {
        assert!(markdown.contains(&format!("| `{}` | ", variable.name)) && help.contains(variable.name));
    }
    assert!(
        markdown.contains("| `KEEP_ALIVE` | `75s` | seconds (or ms, s, m, h) |"),
        "{markdown}"
    );
    assert!(markdown.contains("| `CACHE_BYTES` | `64M` |"), "{markdown}");
    assert!(help.lines().all(|line| line.len() <= 160), "{help}");
}

proptest! {
    #[test]
    fn no_value_panics_and_faults_name_the_variable(at in 0..VARIABLES.len(), value in ".{0,30}") {
        let name = VARIABLES[at].name;
        if value.contains('\0') { return Ok(()); }
        if let Err(errors) = read(&[(name, &value)]) {
            prop_assert!(errors.to_string().contains(name));
        }
    }

    #[test]
    fn numbers_parse_to_what_they_say(n in 0u64..1_000_000) {
        let time = Kind::Duration { ms_min: 0, ms_max: u64::MAX };
        prop_assert_eq!(parse_number(time, &format!("{n}")), Some(n * 1000));
        prop_assert_eq!(parse_number(time, &format!("{n} ms")), Some(n));
        prop_assert_eq!(parse_number(time, &format!("{n}m")), Some(n * 60_000));
        let size = Kind::Bytes { min: 0, max: u64::MAX };
        prop_assert_eq!(parse_number(size, &format!("{n}k")), Some(n << 10));
        prop_assert_eq!(parse_number(size, &variables::bytes_text(n)), Some(n));
        prop_assert_eq!(parse_number(time, &variables::duration_text(n)), Some(n));
        prop_assert_eq!(parse_number(Kind::Count { min: 0, max: 10 }, &n.to_string()), (n <= 10).then_some(n));
    }
}

/// Between these two lines of the README stands [`markdown_table`].
const README_MARKS: [&str; 2] = ["<!-- config:begin -->\n", "<!-- config:end -->\n"];

#[test]
fn the_readme_has_this_table() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let readme = std::fs::read_to_string(path).unwrap();
    let (before, rest) = readme.split_once(README_MARKS[0]).unwrap();
    let (told, after) = rest.split_once(README_MARKS[1]).unwrap();
    let table = markdown_table();
    if told == table {
        return;
    }
    if std::env::var_os("UPDATE_README").is_some() {
        let [begin, end] = README_MARKS;
        std::fs::write(path, format!("{before}{begin}{table}{end}{after}")).unwrap();
        return;
    }
    let lines = |one: &str, other: &str, sign: &str| {
        let only = one.lines().filter(|line| !other.lines().any(|theirs| theirs == *line));
        only.map(|line| format!("{sign} {line}\n")).collect::<String>()
    };
    panic!(
        "README.md (-) and src/config/variables.rs (+) differ:\n{}{}\
         To write the table anew: UPDATE_README=1 cargo test --lib the_readme_has_this_table",
        lines(told, &table, "-"),
        lines(&table, told, "+")
    );
}

#[test]
fn one_address_may_hold_half_of_the_connections_unless_told_otherwise() {
    let per_address = |env: &[(&str, &str)]| {
        let config = Config::read(env.iter().map(|(name, value)| (name.into(), value.into()))).unwrap();
        config.connections_per_address
    };
    let home = ("HOME", "/home/ada");
    assert_eq!(per_address(&[home]), 8192);
    assert_eq!(per_address(&[home, ("CONNECTIONS_MAX", "10")]), 5);
    assert_eq!(per_address(&[home, ("CONNECTIONS_MAX", "1")]), 1, "0 would be no limit");
    assert_eq!(per_address(&[home, ("CONNECTIONS_PER_ADDRESS", "0")]), 0);
    assert_eq!(per_address(&[home, ("CONNECTIONS_PER_ADDRESS", "7")]), 7);
}
