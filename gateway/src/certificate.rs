//! Certificates of the page: read, understood, shown; [`own`] makes the gateway's own one, [`given`] keeps one that someone brought
//! to the page. What is served with them is `web`'s work.

mod files;
pub mod given;
mod machine;
pub mod own;

use crate::reading::UnixMicros;
use crate::secret::{SecretError, SecretFile};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error as TlsError, InconsistentKeys};
use schemars::JsonSchema;
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Most certificates of a chain that are sent with every handshake; public authorities need two or three.
const CHAIN_MAX: usize = 8;

/// Most names that are shown of a certificate.
const NAMES_SHOWN_MAX: usize = 64;

/// Where a certificate comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// The gateway made it itself.
    Own,
    /// Someone brought it to the page, or to the interface.
    Given,
    /// The files that the configuration names.
    File,
}

/// What a person is shown of a certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct CertificateInfo {
    /// Where it comes from.
    pub origin: Origin,
    /// SHA-256 of the certificate, as browsers show it: `AA:BB:…`.
    pub fingerprint: String,
    /// The host names and addresses that it is for.
    pub names: Vec<String>,
    /// Valid from, in microseconds since 1970.
    pub not_before_us: UnixMicros,
    /// Valid until, in microseconds since 1970.
    pub not_after_us: UnixMicros,
}

/// A certificate with its chain and key, fit to be served.
#[derive(Clone, Debug)]
pub struct Pair {
    /// For the handshake.
    pub served: Arc<CertifiedKey>,
    /// For people.
    pub info: CertificateInfo,
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file that the configuration names cannot be read.
    #[error(transparent)]
    Unreadable(#[from] SecretError),
    /// No certificate in the file.
    #[error(
        "certificate_file holds no certificate in PEM form; it begins with -----BEGIN CERTIFICATE-----, the gateway's own certificate first, then those that it is signed by"
    )]
    NoCertificate,
    /// A chain that is longer than any that is needed.
    #[error(
        "certificate_file holds more than {CHAIN_MAX} certificates; leave the gateway's own and those that it is signed by"
    )]
    LongChain,
    /// No key in the file.
    #[error(
        "key_file holds no private key in PEM form; it begins with -----BEGIN PRIVATE KEY-----, and a key with a passphrase is opened by: openssl pkey -in key.pem -out open.pem"
    )]
    NoKey,
    /// The two do not belong together.
    #[error(
        "the key in key_file does not belong to the first certificate in certificate_file; put the gateway's own certificate first, and the key that it was asked for with"
    )]
    Mismatch,
    /// What was brought lacks something.
    #[error("{0}")]
    Lacking(&'static str),
    /// None of the certificates that someone brought belongs to the key.
    #[error("the key belongs to none of these certificates; bring the certificate that was made with it")]
    Apart,
    /// They are of a kind that cannot be used.
    #[error("the certificate or its key cannot be used: {0}; ECDSA P-256 works everywhere")]
    Unusable(String),
    /// The key is locked.
    #[error("the key is locked with a passphrase; ask whoever made it for one without")]
    Locked,
    /// A kind of key that no browser takes.
    #[error("browsers take no certificate with an Ed25519 key; use one with ECDSA P-256 or RSA 2048")]
    Unfamiliar,
    /// Nothing in it says what it is for.
    #[error(
        "the certificate names neither hosts nor addresses (subjectAltName), and browsers refuse one without; ask for one with names"
    )]
    Nameless,
    /// It is not in its time.
    #[error("{0}")]
    Untimely(String),
    /// Too long to be one.
    #[error(
        "certificate and key together have more than 64 KiB; leave the gateway's own certificate, those that it is signed by, and the key"
    )]
    Large,
    /// A new one could not be made.
    #[error("a certificate could not be made: {0}")]
    Make(String),
    /// The gateway's own one cannot be kept or read.
    #[error("{path:?} cannot be {doing}: {error}; check that the user `forebay` may write data_dir")]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What was tried: written, removed.
        doing: &'static str,
        /// What the system said.
        error: io::Error,
    },
}

impl Pair {
    /// The pair in two texts in PEM form.
    ///
    /// # Errors
    /// If one is not what it should be, or they do not belong together.
    pub fn from_pem(certificate: &str, key: &str, origin: Origin) -> Result<Self, CertificateError> {
        let chain: Result<Vec<_>, _> =
            CertificateDer::pem_slice_iter(certificate.as_bytes()).take(CHAIN_MAX + 1).collect();
        let chain = chain.map_err(|_| CertificateError::NoCertificate)?;
        if chain.len() > CHAIN_MAX {
            return Err(CertificateError::LongChain);
        }
        let first = chain.first().ok_or(CertificateError::NoCertificate)?;
        let info = understand(first, origin)?;
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|_| CertificateError::NoKey)?;
        let served = CertifiedKey::from_der(chain, key, &provider()).map_err(|error| match error {
            TlsError::InconsistentKeys(InconsistentKeys::KeyMismatch) => CertificateError::Mismatch,
            error => CertificateError::Unusable(error.to_string()),
        })?;
        Ok(Self { served: Arc::new(served), info })
    }

    /// The pair in the two files that the configuration names.
    ///
    /// # Errors
    /// If one cannot be read or is not what it should be, or they do not belong together.
    pub fn from_files(certificate: &SecretFile, key: &SecretFile) -> Result<Self, CertificateError> {
        Self::from_pem(certificate.read()?.expose(), key.read()?.expose(), Origin::File)
    }
}

impl CertificateInfo {
    /// Why browsers refuse it at a time of a clock that is set; `None` if they do not.
    #[must_use]
    pub fn refused_at(&self, now_us: UnixMicros) -> Option<String> {
        if now_us > self.not_after_us {
            return Some(format!("the certificate has expired on {}; renew it", day(self.not_after_us)));
        }
        (now_us < self.not_before_us)
            .then(|| format!("the certificate is valid from {} on only; check the clock", day(self.not_before_us)))
    }
}

/// The one provider of cryptography, whatever the process has installed.
#[must_use]
pub fn provider() -> CryptoProvider {
    rustls::crypto::ring::default_provider()
}

fn understand(certificate: &CertificateDer<'_>, origin: Origin) -> Result<CertificateInfo, CertificateError> {
    let (_, parsed) =
        X509Certificate::from_der(certificate).map_err(|error| CertificateError::Unusable(error.to_string()))?;
    let validity = parsed.validity();
    let alternatives = parsed.subject_alternative_name().ok().flatten();
    let names = alternatives.iter().flat_map(|names| &names.value.general_names).filter_map(name_of);
    let mut names: Vec<String> = names.take(NAMES_SHOWN_MAX).collect();
    if names.is_empty() {
        let common = parsed.subject().iter_common_name().filter_map(|name| name.as_str().ok());
        names.extend(common.take(1).map(str::to_owned));
    }
    Ok(CertificateInfo {
        origin,
        fingerprint: fingerprint(certificate),
        names,
        not_before_us: validity.not_before.timestamp().saturating_mul(1_000_000),
        not_after_us: validity.not_after.timestamp().saturating_mul(1_000_000),
    })
}

fn name_of(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => {
            let four = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
            let address = four.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from));
            address.ok().map(|address| address.to_string())
        }
        _ => None,
    }
}

fn fingerprint(certificate: &[u8]) -> String {
    let mut text = String::with_capacity(95);
    for (index, byte) in Sha256::digest(certificate).iter().enumerate() {
        let colon = if index == 0 { "" } else { ":" };
        // Writing into a text does not fail.
        write!(text, "{colon}{byte:02X}").ok();
    }
    text
}

fn day(at_us: UnixMicros) -> String {
    let at = jiff::Timestamp::from_microsecond(at_us).unwrap_or_default();
    at.strftime("%Y-%m-%d").to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P384_SHA384, PKCS_ED25519};

    fn pem(names: &[&str], key: &KeyPair) -> String {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        CertificateParams::new(names).unwrap().self_signed(key).unwrap().pem()
    }

    #[test]
    fn a_users_pair_is_read_and_its_names_and_fingerprint_are_shown() {
        for algorithm in [&PKCS_ECDSA_P384_SHA384, &PKCS_ED25519] {
            let key = KeyPair::generate_for(algorithm).unwrap();
            let certificate = pem(&["gateway.example.com", "10.0.0.7", "fd00::7"], &key);
            let pair = Pair::from_pem(&certificate, &key.serialize_pem(), Origin::File).unwrap();
            assert_eq!(pair.info.names, ["gateway.example.com", "10.0.0.7", "fd00::7"]);
            let bytes: Vec<&str> = pair.info.fingerprint.split(':').collect();
            assert_eq!(bytes.len(), 32);
            assert!(bytes.iter().all(|byte| byte.len() == 2 && *byte == byte.to_uppercase()), "{bytes:?}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_pair_is_said_in_words_that_help() {
        let (one, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let certificate = pem(&["a"], &one);
        let error =
            |certificate: &str, key: &str| Pair::from_pem(certificate, key, Origin::File).unwrap_err().to_string();
        assert!(error(&certificate, &other.serialize_pem()).contains("does not belong"));
        assert!(error("hello", &one.serialize_pem()).contains("BEGIN CERTIFICATE"));
        assert!(error(&one.serialize_pem(), &one.serialize_pem()).contains("BEGIN CERTIFICATE"));
        assert!(error(&certificate, &certificate).contains("BEGIN PRIVATE KEY"));
        assert!(error(&certificate.repeat(9), &one.serialize_pem()).contains("more than 8"));
        let rubbish = "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n";
        assert!(error(rubbish, &one.serialize_pem()).contains("cannot be used"));
    }

    #[test]
    fn a_certificate_out_of_its_time_says_why() {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["a".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2026, 3, 1);
        params.not_after = rcgen::date_time_ymd(2026, 6, 1);
        let certificate = params.self_signed(&key).unwrap().pem();
        let info = Pair::from_pem(&certificate, &key.serialize_pem(), Origin::File).unwrap().info;
        let at = |text: &str| info.refused_at(text.parse::<jiff::Timestamp>().unwrap().as_microsecond());
        assert_eq!(at("2026-04-01T00:00:00Z"), None);
        assert!(at("2026-07-01T00:00:00Z").unwrap().contains("expired on 2026-06-01"));
        assert!(at("2026-02-01T00:00:00Z").unwrap().contains("valid from 2026-03-01"));
    }
}
