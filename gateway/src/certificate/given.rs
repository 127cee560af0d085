//! A certificate that someone brought to the page: looked over with what a technician may have in hand, and kept in one file with its
//! key, so that there is never half a pair.

use super::files::{self, FILE_BYTES_MAX};
use super::{CertificateError, Origin, Pair, understand};
use crate::clock::Tick;
use crate::reading::TimeQuality;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error as TlsError, InconsistentKeys, SignatureAlgorithm};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use x509_parser::prelude::{FromDer, X509Certificate};

/// The file in the folder of the certificates.
const FILE: &str = "given.pem";

/// Most certificates that are looked at to find the chain among them.
const LOOKED_AT_MAX: usize = 16;

/// Most certificates that are sent with every handshake.
const CHAIN_MAX: usize = super::CHAIN_MAX;

const NO_CERTIFICATE: &str = "there is no certificate in it; in PEM form it begins with -----BEGIN CERTIFICATE-----, and a .pfx or .p12 has to be exported as PEM";
const NO_KEY: &str = "there is no private key in it; in PEM form it begins with -----BEGIN PRIVATE KEY-----";
const TOO_MANY: &str =
    "there are more than 16 certificates in it; leave the gateway's own and those that it is signed by";

/// The certificate that someone brought, if anyone did.
#[derive(Debug)]
pub struct GivenCertificate {
    folder: PathBuf,
    kept: Mutex<Option<Kept>>,
}

/// What is in the file: nothing, a pair, or what is wrong with it.
type Kept = Option<Result<Pair, String>>;

/// A certificate that was looked over, and the text that is kept of it.
#[derive(Debug)]
pub struct LookedOver {
    /// What will be served.
    pub pair: Pair,
    text: String,
}

impl GivenCertificate {
    /// The one of a gateway; nothing is read yet.
    #[must_use]
    pub fn of(data_dir: &Path) -> Self {
        Self { folder: files::folder(data_dir), kept: Mutex::new(None) }
    }

    /// The kept one. What is wrong with it is said in words; there is nothing to serve then.
    #[must_use]
    pub fn current(&self) -> Option<Result<Pair, String>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get_or_insert_with(|| self.read()).clone()
    }

    /// Keeps one that was looked over, in the place of an older one.
    ///
    /// # Errors
    /// If it cannot be written; the older one stays.
    pub fn keep(&self, given: LookedOver) -> Result<(), CertificateError> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        files::save(&self.folder, &[(&self.path(), &given.text)])?;
        *kept = Some(Some(Ok(given.pair)));
        Ok(())
    }

    /// Forgets it, with its key; tells whether there was one.
    ///
    /// # Errors
    /// If the file cannot be removed; it stays in use.
    pub fn forget(&self) -> Result<bool, CertificateError> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let was = kept.get_or_insert_with(|| self.read()).is_some();
        files::remove(&self.folder, &self.path())?;
        *kept = Some(None);
        Ok(was)
    }

    fn path(&self) -> PathBuf {
        self.folder.join(FILE)
    }

    fn read(&self) -> Kept {
        let text = match files::read_text(&self.path()) {
            Ok(text) => text,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return None;
            }
            Err(error) => return Some(Err(format!("the certificate that was brought cannot be read: {error}"))),
        };
        Some(paired(&text).map_err(|error| format!("the certificate that was brought is damaged: {error}")))
    }
}

/// Looks over a certificate with its chain, and its key, both in PEM form, in whatever order, or both in the first text.
///
/// # Errors
/// If browsers would refuse it, or it cannot be served, whatever is wrong.
pub fn look_over(certificate: &str, key: &str, now: Tick) -> Result<LookedOver, CertificateError> {
    let text = format!("{}\n{}\n", key.trim(), certificate.trim());
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(CertificateError::Large);
    }
    let pair = paired(&text)?;
    if pair.served.key.algorithm() == SignatureAlgorithm::ED25519 {
        return Err(CertificateError::Unfamiliar);
    }
    if pair.info.names.is_empty() || !has_alternatives(&pair) {
        return Err(CertificateError::Nameless);
    }
    // While the clock was never set nobody can tell.
    let refused = (now.quality != TimeQuality::Unset).then(|| pair.info.refused_at(now.wall_us)).flatten();
    match refused {
        Some(why) => Err(CertificateError::Untimely(why)),
        None => Ok(LookedOver { pair, text }),
    }
}

/// Whether a host that a browser asked for is among the names of a certificate.
#[must_use]
pub fn covers(names: &[String], host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.');
    names.iter().any(|name| {
        let whole = name.eq_ignore_ascii_case(host);
        let wild = name.strip_prefix("*.").zip(host.split_once('.'));
        whole || wild.is_some_and(|(name, (_, host))| name.eq_ignore_ascii_case(host))
    })
}

/// The pair in a text: the certificate that the key belongs to, and those that it is signed by.
fn paired(text: &str) -> Result<Pair, CertificateError> {
    if text.contains("ENCRYPTED") {
        return Err(CertificateError::Locked);
    }
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).take(LOOKED_AT_MAX + 1).collect();
    let found = found.ok().filter(|found| !found.is_empty()).ok_or(CertificateError::Lacking(NO_CERTIFICATE))?;
    if found.len() > LOOKED_AT_MAX {
        return Err(CertificateError::Lacking(TOO_MANY));
    }
    let key = PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(|_| CertificateError::Lacking(NO_KEY))?;
    let mut own = None;
    for certificate in &found {
        match CertifiedKey::from_der(vec![certificate.clone()], key.clone_key(), &super::provider()) {
            Ok(served) => {
                own = Some((certificate, served));
                break;
            }
            Err(TlsError::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {}
            Err(error) => return Err(CertificateError::Unusable(error.to_string())),
        }
    }
    let (own, mut served) = own.ok_or(CertificateError::Apart)?;
    let info = understand(own, Origin::Given)?;
    served.cert = chain(own, &found)?;
    Ok(Pair { served: Arc::new(served), info })
}

/// A certificate and those that it is signed by, in their order; what does not belong to them is left out.
fn chain(
    own: &CertificateDer<'static>,
    found: &[CertificateDer<'static>],
) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let parse = |certificate| {
        let parsed = X509Certificate::from_der(certificate);
        parsed.map(|(_, parsed)| parsed).map_err(|error| CertificateError::Unusable(error.to_string()))
    };
    let mut chain = vec![own.clone()];
    let mut last = parse(own)?;
    while last.issuer().as_raw() != last.subject().as_raw() && chain.len() < CHAIN_MAX {
        let mut next = None;
        for certificate in found {
            let parsed = parse(certificate)?;
            if parsed.subject().as_raw() == last.issuer().as_raw() && !chain.contains(certificate) {
                next = Some((certificate, parsed));
                break;
            }
        }
        let Some((certificate, parsed)) = next else { break };
        chain.push(certificate.clone());
        last = parsed;
    }
    Ok(chain)
}

/// Whether the certificate says what it is for where browsers look.
fn has_alternatives(pair: &Pair) -> bool {
    let first = pair.served.cert.first();
    let parsed = first.and_then(|certificate| X509Certificate::from_der(certificate).ok());
    parsed.is_some_and(|(_, parsed)| parsed.subject_alternative_name().ok().flatten().is_some())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::clock::Clock;
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, PKCS_ED25519};
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    /// 2027-01-15.
    const NOW_US: i64 = 1_800_000_000_000_000;

    fn now() -> Tick {
        Clock::manual(1, 1, NOW_US).tick()
    }

    /// A certificate, its authority, and its key.
    fn made(names: &[&str]) -> [String; 3] {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.distinguished_name.push(rcgen::DnType::CommonName, "plant authority");
        let authority_key = KeyPair::generate().unwrap();
        let authority_pem = authority.self_signed(&authority_key).unwrap().pem();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(names).unwrap();
        let certificate = params.signed_by(&key, &Issuer::new(authority, authority_key)).unwrap().pem();
        [certificate, authority_pem, key.serialize_pem()]
    }

    #[test]
    fn whatever_the_order_of_the_files_the_chain_is_served_in_its_own() {
        let [certificate, authority, key] = made(&["gateway.example.com"]);
        let [stranger, _, _] = made(&["other.example.com"]);
        let texts = [
            (format!("{certificate}{authority}"), key.clone()),
            (format!("{authority}{stranger}{certificate}"), key.clone()),
            (format!("{authority}{certificate}{key}"), String::new()),
            (key.clone(), format!("{certificate}{authority}")),
        ];
        for (first, second) in texts {
            let given = look_over(&first, &second, now()).unwrap();
            assert_eq!(given.pair.info.names, ["gateway.example.com"]);
            assert_eq!(given.pair.info.origin, Origin::Given);
            assert_eq!(given.pair.served.cert.len(), 2, "without the stranger");
        }
    }

    #[test]
    fn what_browsers_would_refuse_is_refused_in_words_that_help() {
        let [certificate, _, key] = made(&["a.example.com"]);
        let said = |certificate: &str, key: &str| look_over(certificate, key, now()).unwrap_err().to_string();
        assert!(said(&certificate, &made(&["b"])[2]).contains("belongs to none"));
        assert!(said("hello", &key).contains("BEGIN CERTIFICATE"));
        assert!(said(&certificate, "").contains("BEGIN PRIVATE KEY"));
        let locked = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
        assert!(said(&certificate, &locked).contains("passphrase"));
        let [nameless, _, its_key] = made(&[]);
        assert!(said(&nameless, &its_key).contains("subjectAltName"));
        assert!(said(&"x".repeat(70_000), &key).contains("64 KiB"));
        let edwards = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let params = CertificateParams::new(vec!["a".to_owned()]).unwrap();
        assert!(said(&params.self_signed(&edwards).unwrap().pem(), &edwards.serialize_pem()).contains("Ed25519"));
        let (mut params, key) = (params, KeyPair::generate().unwrap());
        params.not_after = rcgen::date_time_ymd(2026, 6, 1);
        let over = params.self_signed(&key).unwrap().pem();
        assert!(said(&over, &key.serialize_pem()).contains("expired on 2026-06-01"));
        let unset = Clock::manual(1, 1, 0).tick();
        assert!(look_over(&over, &key.serialize_pem(), unset).is_ok(), "without a clock nobody can tell");
    }

    #[test]
    fn it_is_kept_for_the_gateway_alone_and_forgotten_with_its_key() {
        let dir = tempfile::tempdir().unwrap();
        let given = GivenCertificate::of(dir.path());
        assert!(given.current().is_none() && !given.forget().unwrap());
        let [certificate, authority, key] = made(&["a.example.com"]);
        given.keep(look_over(&format!("{authority}{certificate}"), &key, now()).unwrap()).unwrap();
        let path = dir.path().join("access/tls/given.pem");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let again = GivenCertificate::of(dir.path()).current().unwrap().unwrap();
        assert_eq!(again.info, given.current().unwrap().unwrap().info);
        assert_eq!(again.served.cert.len(), 2);
        assert!(given.forget().unwrap() && given.current().is_none() && !path.exists());
        fs::write(&path, "half").unwrap();
        assert!(GivenCertificate::of(dir.path()).current().unwrap().unwrap_err().contains("damaged"));
    }

    #[test]
    fn a_host_is_covered_by_its_name_or_by_a_star_in_place_of_its_first_part() {
        let names = ["gateway.example.com", "*.plant.example.com", "fd00::7"].map(str::to_owned);
        for host in ["Gateway.example.com", "seven.plant.example.com", "[fd00::7]"] {
            assert!(covers(&names, host), "{host}");
        }
        for host in ["example.com", "plant.example.com", "a.b.plant.example.com", "10.0.0.7", ""] {
            assert!(!covers(&names, host), "{host}");
        }
    }
}
