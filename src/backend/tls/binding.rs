//! Channel binding: ties a password proof to the TLS session it is sent in.

use super::TlsStream;
use sha2::{Digest, Sha256, Sha384, Sha512};

/// The `tls-server-end-point` data of a session (RFC 5929 section 4): the hash of the server's certificate by the hash
/// of its signature, SHA-256 in the place of MD5 and SHA-1. None where the signature has no one hash (Ed25519, RSA-PSS):
/// the RFC leaves those undefined.
pub fn server_end_point<S>(stream: &TlsStream<S>) -> Option<Vec<u8>> {
    let (_, session) = stream.get_ref();
    of_certificate(session.peer_certificates()?.first()?)
}

/// Signature algorithms, as the bytes of their object identifiers, and the hash to take.
const ALGORITHMS: &[(&[u8], Hash)] = &[
    // 1.2.840.113549.1.1: RSA with MD5, SHA-1, SHA-256, SHA-384, SHA-512.
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x04], Hash::Sha256),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x05], Hash::Sha256),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b], Hash::Sha256),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0c], Hash::Sha384),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0d], Hash::Sha512),
    // 1.2.840.10045.4: ECDSA with SHA-1, SHA-256, SHA-384, SHA-512.
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01], Hash::Sha256),
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02], Hash::Sha256),
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03], Hash::Sha384),
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x04], Hash::Sha512),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

fn of_certificate(der: &[u8]) -> Option<Vec<u8>> {
    let oid = signature_algorithm(der)?;
    let (_, hash) = ALGORITHMS.iter().find(|(known, _)| *known == oid)?;
    Some(match hash {
        Hash::Sha256 => Sha256::digest(der).to_vec(),
        Hash::Sha384 => Sha384::digest(der).to_vec(),
        Hash::Sha512 => Sha512::digest(der).to_vec(),
    })
}

const SEQUENCE: u8 = 0x30;
const OBJECT_IDENTIFIER: u8 = 0x06;

/// `Certificate ::= SEQUENCE { tbsCertificate, signatureAlgorithm SEQUENCE { algorithm OBJECT IDENTIFIER, .. }, .. }`
/// (RFC 5280 section 4.1).
fn signature_algorithm(der: &[u8]) -> Option<&[u8]> {
    let (certificate, _) = value(der, SEQUENCE)?;
    let (_tbs, rest) = value(certificate, SEQUENCE)?;
    let (algorithm, _) = value(rest, SEQUENCE)?;
    Some(value(algorithm, OBJECT_IDENTIFIER)?.0)
}

/// The contents of the DER value that `der` begins with, which must have this tag, and what follows it.
fn value(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (first, rest) = der.split_first()?;
    let (length, rest) = rest.split_first()?;
    if *first != tag {
        return None;
    }
    if *length < 0x80 {
        return rest.split_at_checked(usize::from(*length));
    }
    // A certificate has fewer than 2^32 bytes.
    let digits = usize::from(*length & 0x7f);
    let (length, rest) = rest.split_at_checked(digits).filter(|_| digits <= 4)?;
    let length = length.iter().fold(0usize, |sum, byte| sum << 8 | usize::from(*byte));
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn certificate(algorithm: &'static rcgen::SignatureAlgorithm) -> Vec<u8> {
        let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
        let params = rcgen::CertificateParams::new(vec!["db".to_owned()]).unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn the_hash_is_that_of_the_signature() {
        let der = certificate(&rcgen::PKCS_ECDSA_P256_SHA256);
        assert_eq!(of_certificate(&der).unwrap(), Sha256::digest(&der).to_vec());
        let der = certificate(&rcgen::PKCS_ECDSA_P384_SHA384);
        assert_eq!(of_certificate(&der).unwrap(), Sha384::digest(&der).to_vec());
        // No hash is defined for it.
        assert_eq!(of_certificate(&certificate(&rcgen::PKCS_ED25519)), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>, at: proptest::sample::Index, byte: u8) {
            let _ = of_certificate(&bytes);
            let mut der = vec![0x30, 0x0c, 0x30, 0x00, 0x30, 0x03, 0x06, 0x01, 0x01, 0x03, 0x01, 0x00];
            let at = at.index(der.len());
            der[at] = byte;
            let _ = of_certificate(&der);
        }
    }
}
