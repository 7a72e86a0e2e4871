use super::*;
use proptest::prelude::*;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, PKCS_ED25519, date_time_ymd};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;

/// A folder with files for a certificate, its key and an authority.
struct Folder(TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(TempDir::new().unwrap())
    }

    fn put(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        path
    }

    fn files(&self, cert: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> TlsFiles {
        TlsFiles {
            cert: self.put("cert.pem", cert),
            key: self.put("key.pem", key),
            client_ca: None,
            min_version: MinVersion::Tls12,
        }
    }
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(vec!["localhost".to_owned(), "example.org".to_owned()]).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    if !name.is_empty() {
        params.distinguished_name.push(DnType::CommonName, name);
        params.distinguished_name.push(DnType::OrganizationName, "Ada & Söhne");
    }
    params
}

fn key() -> KeyPair {
    KeyPair::generate_for(&PKCS_ED25519).unwrap()
}

fn said(result: Result<Loaded, TlsError>) -> String {
    let said = result.expect_err("it was taken").to_string();
    assert!(said.contains("Cause: ") && said.contains("Remedy: "), "{said}");
    assert!(said.lines().count() < 10, "more than a screen: {said}");
    said
}

#[test]
fn a_certificate_tells_what_openssl_tells_of_it() {
    let folder = Folder::new();
    let mut params = params("trips");
    params.not_before = date_time_ymd(2001, 2, 3);
    params.not_after = date_time_ymd(2051, 12, 31);
    let key = key();
    let cert = params.self_signed(&key).unwrap();
    let loaded = load(&folder.files(cert.pem(), key.serialize_pem()), None).unwrap();
    let facts = loaded.facts;
    assert_eq!(facts.subject, "CN=trips, O=Ada & Söhne");
    // UTCTime and GeneralizedTime: RFC 5280 changes over in 2050.
    assert_eq!(facts.not_before.to_string(), "2001-02-03T00:00:00Z");
    assert_eq!(facts.not_after.to_string(), "2051-12-31T00:00:00Z");
    let path = folder.0.path().join("cert.pem");
    let openssl = std::process::Command::new("openssl")
        .args(["x509", "-noout", "-fingerprint", "-sha256", "-in"])
        .arg(&path)
        .output()
        .expect("openssl; tests/run installs it");
    let printed = String::from_utf8(openssl.stdout).unwrap();
    assert_eq!(printed.trim().split_once('=').unwrap().1, facts.fingerprint);
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    assert!(!loaded.settings.ignore_client_order && loaded.settings.max_early_data_size == 0);

    let nameless = super::tests::params("").self_signed(&key).unwrap();
    let facts = Facts::of(nameless.der()).unwrap();
    assert_eq!(facts.subject, "DNS:localhost, DNS:example.org");
}

#[test]
fn dates_and_a_key_for_all_to_read_are_warned_of() {
    let folder = Folder::new();
    let key = key();
    for (from, to, word) in [(2001, 2002, "expired on 2002"), (2091, 2092, "not valid before 2091")] {
        let mut params = params("trips");
        params.not_before = date_time_ymd(from, 1, 1);
        params.not_after = date_time_ymd(to, 1, 1);
        let files = folder.files(params.self_signed(&key).unwrap().pem(), key.serialize_pem());
        let loaded = load(&files, None).unwrap();
        assert!(
            loaded.warnings.len() == 1 && loaded.warnings[0].contains(word),
            "{:?}",
            loaded.warnings
        );
        fs::set_permissions(&files.key, Permissions::from_mode(0o644)).unwrap();
        let loaded = load(&files, None).unwrap();
        assert!(loaded.warnings.iter().any(|warning| warning.contains("chmod o-r")));
    }
}

#[test]
fn what_cannot_be_used_is_refused_with_cause_and_remedy() {
    let folder = Folder::new();
    let (ours, other) = (key(), key());
    let cert = params("trips").self_signed(&ours).unwrap().pem();
    let key = ours.serialize_pem();

    let mut files = folder.files(&cert, &key);
    files.cert = "/nowhere/cert.pem".into();
    assert!(said(load(&files, None)).contains("no such file"));
    files.cert = folder.0.path().to_owned();
    assert!(said(load(&files, None)).contains("TLS_CERT"));
    files = folder.files(&cert, &key);
    files.key = "/nowhere/key.pem".into();
    assert!(said(load(&files, None)).contains("TLS_KEY"));

    for (cert_text, key_text, words) in [
        ("", key.as_str(), "TLS_CERT: ; it is empty"),
        ("hello", &key, "it is not PEM"),
        (&key, &key, "it holds a private key"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n", &key, "PEM cannot be read"),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            &key,
            "certificate 1",
        ),
        (&cert, "", "TLS_KEY: ; it is empty"),
        (&cert, &cert, "it holds a certificate"),
        (
            &cert,
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
            "under a passphrase",
        ),
        (
            &cert,
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
            "neither RSA",
        ),
        (&cert, &other.serialize_pem(), "not that of the first certificate"),
    ] {
        let said = said(load(&folder.files(cert_text, key_text), None));
        for word in words.split("; ") {
            assert!(said.contains(word.trim()), "{word:?} is not in {said:?}");
        }
    }
    let large = folder.files(&cert, &key);
    fs::write(&large.cert, vec![b'\n'; 2 << 20]).unwrap();
    assert!(said(load(&large, None)).contains("larger than 1 MiB"));

    // The chain the wrong way round.
    let mut authority = params("authority");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = authority.self_signed(&other).unwrap().pem();
    let issuer = Issuer::new(authority, other);
    let own = params("trips").signed_by(&ours, &issuer).unwrap().pem();
    assert!(load(&folder.files(format!("{own}{root}"), &key), None).is_ok());
    assert!(said(load(&folder.files(format!("{root}{own}"), &key), None)).contains("come first"));
}

#[test]
fn tickets_outlive_a_reload_unless_other_clients_are_let_in() {
    let folder = Folder::new();
    let key = key();
    let cert = params("trips").self_signed(&key).unwrap().pem();
    let mut files = folder.files(&cert, key.serialize_pem());
    let first = load(&files, None).unwrap();
    let second = load(&files, Some(&first)).unwrap();
    assert!(Arc::ptr_eq(&first.settings.ticketer, &second.settings.ticketer));
    files.client_ca = Some(folder.put("ca.pem", &cert));
    let third = load(&files, Some(&second)).unwrap();
    assert!(!Arc::ptr_eq(&second.settings.ticketer, &third.settings.ticketer));
    let fourth = load(&files, Some(&third)).unwrap();
    assert!(Arc::ptr_eq(&third.settings.ticketer, &fourth.settings.ticketer));
    files.client_ca = Some(folder.put("ca.pem", "nothing"));
    assert!(said(load(&files, Some(&fourth))).contains("TLS_CLIENT_CA"));
    files.client_ca = Some(Path::new("/nowhere").to_owned());
    assert!(said(load(&files, Some(&fourth))).contains("TLS_CLIENT_CA"));
}

proptest! {
    #[test]
    fn any_bytes_are_a_certificate_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Facts::of(&bytes);
    }

    #[test]
    fn a_damaged_certificate_is_read_or_not(at in 0usize..400, with in any::<u8>(), cut in 0usize..400) {
        let mut der = params("trips").self_signed(&key()).unwrap().der().to_vec();
        let place = at % der.len();
        der[place] = with;
        let _ = Facts::of(&der);
        let _ = Facts::of(der.get(..cut.min(der.len())).unwrap());
    }
}
