//! The gateway's own certificate: made at the first start, kept beside its key, renewed before it ends.

use super::{CertificateError, Origin, Pair, files, machine};
use crate::clock::{EARLIEST_PLAUSIBLE_US, Tick};
use crate::reading::{TimeQuality, UnixMicros};
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints, PKCS_ECDSA_P256_SHA256, SanType,
};
use rustls::pki_types::DnsName;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// A day.
const DAY: Duration = Duration::from_secs(24 * 3_600);

/// How long a new one is valid, from the day before it is made. Apple's browsers refuse one of more than 825 days.
const VALID: Duration = Duration::from_secs(820 * 24 * 3_600);

/// A new one is made so long before the end of the old one: a gateway that is off for a month comes back with a valid one.
const RENEW_BEFORE: Duration = Duration::from_secs(30 * 24 * 3_600);

/// The name that every gateway answers to in its own network.
const COMMON_NAME: &str = "forebay.local";

/// What the authority of a gateway's certificate is called, before the gateway's name.
const AUTHORITY: &str = "Forebay certificate of";

/// Longest common name that X.509 allows, in characters.
const SUBJECT_CHARS_MAX: usize = 64;

/// The gateway's own certificate and where it is kept.
#[derive(Debug)]
pub struct OwnCertificate {
    folder: PathBuf,
    gateway: String,
    kept: Mutex<Option<Kept>>,
}

#[derive(Debug)]
struct Kept {
    pair: Pair,
    /// What could not be written yet, and why; it is tried again.
    unsaved: Option<(Texts, String)>,
}

#[derive(Debug)]
struct Texts {
    certificate: String,
    key: String,
}

impl OwnCertificate {
    /// The certificate of this gateway below `data_dir`; nothing is read or made yet.
    #[must_use]
    pub fn new(data_dir: &Path, gateway: &str) -> Self {
        let folder = files::folder(data_dir);
        Self { folder, gateway: gateway.to_owned(), kept: Mutex::new(None) }
    }

    /// The certificate to serve now: the kept one, or a new one if there is none, it cannot be read, or ends within 30 days.
    ///
    /// # Errors
    /// If none can be made. One that cannot be written down is served all the same; see [`OwnCertificate::unsaved`].
    pub fn current(&self, now: Tick) -> Result<Pair, CertificateError> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.is_none() {
            *kept = self.read().map(|pair| Kept { pair, unsaved: None });
        }
        match kept.as_mut().filter(|known| is_good(&known.pair, now)) {
            Some(known) => {
                if let Some((texts, why)) = &mut known.unsaved {
                    match self.save(texts) {
                        Ok(()) => known.unsaved = None,
                        Err(error) => *why = error.to_string(),
                    }
                }
                Ok(known.pair.clone())
            }
            None => self.renew(&mut kept, now),
        }
    }

    /// Makes a new certificate with a new key, whatever the old one is like.
    ///
    /// # Errors
    /// If none can be made; the old one stays.
    pub fn regenerate(&self, now: Tick) -> Result<Pair, CertificateError> {
        self.renew(&mut self.kept.lock().unwrap_or_else(PoisonError::into_inner), now)
    }

    /// Why the one that is served could not be written down: the next start makes another one.
    #[must_use]
    pub fn unsaved(&self) -> Option<String> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.as_ref().and_then(|kept| kept.unsaved.as_ref()).map(|(_, why)| why.clone())
    }

    fn renew(&self, kept: &mut Option<Kept>, now: Tick) -> Result<Pair, CertificateError> {
        let texts = make(&self.gateway, now)?;
        let pair = Pair::from_pem(&texts.certificate, &texts.key, Origin::Own)?;
        let unsaved = self.save(&texts).err().map(|error| (texts, error.to_string()));
        tracing::info!(fingerprint = pair.info.fingerprint, "the page has a new certificate of its own");
        *kept = Some(Kept { pair: pair.clone(), unsaved });
        Ok(pair)
    }

    /// The kept one, if it is there and whole. One from before the gateway got its name stays: whoever has compared its fingerprint,
    /// or installed it, is not to do so again because of a name.
    fn read(&self) -> Option<Pair> {
        let [certificate, key] = self.paths();
        let texts = (files::read_text(&certificate), files::read_text(&key));
        let (Ok(certificate), Ok(key)) = texts else {
            if let (Err(error), _) | (_, Err(error)) = &texts
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(%error, folder = %self.folder.display(), "the page's own certificate cannot be read; a new one is made");
            }
            return None;
        };
        // A power cut between the two files leaves a key without its certificate: it is made anew.
        let pair = Pair::from_pem(&certificate, &key, Origin::Own)
            .inspect_err(|error| tracing::warn!(%error, "the page's own certificate is damaged; a new one is made"));
        pair.ok()
    }

    fn paths(&self) -> [PathBuf; 2] {
        ["certificate.pem", "key.pem"].map(|name| self.folder.join(name))
    }

    fn save(&self, texts: &Texts) -> Result<(), CertificateError> {
        let [certificate, key] = self.paths();
        // The certificate last: a new one beside an old key would be noticed, too.
        files::save(&self.folder, &[(&key, &texts.key), (&certificate, &texts.certificate)])
    }
}

/// Whether a certificate can be served still. While the clock is not set nobody knows, and the one at hand is as good as any.
fn is_good(pair: &Pair, now: Tick) -> bool {
    let lead_us = micros(RENEW_BEFORE);
    now.quality == TimeQuality::Unset
        || (pair.info.not_before_us <= now.wall_us && now.wall_us.saturating_add(lead_us) < pair.info.not_after_us)
}

/// A certificate for the gateway, signed by an authority that exists for nothing else: its key is forgotten here, and it may name
/// none but this gateway. Phones install authorities alone, and one whose key could sign for any site must not lie on a card.
fn make(gateway: &str, now: Tick) -> Result<Texts, CertificateError> {
    let failed = |error: rcgen::Error| CertificateError::Make(error.to_string());
    // A clock that was never set says 1970; no Forebay existed before the earliest date, and no browser is behind it. Else a day
    // earlier than now: a phone's clock may be behind.
    let from_us = if now.quality == TimeQuality::Unset {
        EARLIEST_PLAUSIBLE_US
    } else {
        now.wall_us.saturating_sub(micros(DAY)).max(EARLIEST_PLAUSIBLE_US)
    };
    let from = Duration::from_secs(u64::try_from(from_us / 1_000_000).unwrap_or_default());
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let ends = epoch.checked_add((from + VALID).try_into().map_err(|_| beyond())?).ok_or_else(beyond)?;
    let named = |name: String| {
        let mut params = CertificateParams::default();
        (params.not_before, params.not_after) = (epoch + from, ends);
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name.chars().take(SUBJECT_CHARS_MAX).collect::<String>());
        params.distinguished_name.push(DnType::OrganizationName, "Forebay");
        params
    };
    let (names, addresses) = (dns_names(gateway), machine::addresses());

    let mut authority = named(format!("{AUTHORITY} {gateway}"));
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let permitted = names.iter().cloned().map(GeneralSubtree::DnsName);
    let permitted = permitted.chain(addresses.iter().map(|address| GeneralSubtree::IpAddress(alone(*address))));
    authority.name_constraints =
        Some(NameConstraints { permitted_subtrees: permitted.collect(), excluded_subtrees: Vec::new() });
    let authority_key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
    let authority_pem = authority.self_signed(&authority_key).map_err(failed)?.pem();

    let mut params = named(gateway.to_owned());
    let names = names.into_iter().map(|name| name.try_into().map(SanType::DnsName));
    params.subject_alt_names = names.collect::<Result<_, _>>().map_err(failed)?;
    params.subject_alt_names.extend(addresses.into_iter().map(SanType::IpAddress));
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
    let certificate = params.signed_by(&key, &Issuer::new(authority, authority_key)).map_err(failed)?;
    Ok(Texts { certificate: certificate.pem() + &authority_pem, key: key.serialize_pem() })
}

/// A network of this address alone.
fn alone(address: IpAddr) -> CidrSubnet {
    CidrSubnet::from_addr_prefix(address, if address.is_ipv4() { 32 } else { 128 })
}

/// A clock that stands tens of thousands of years ahead.
fn beyond() -> CertificateError {
    CertificateError::Make("the clock is beyond any date; set it".to_owned())
}

/// The names that hang on the gateway's id.
fn gateway_names(gateway: &str) -> impl Iterator<Item = String> + use<> {
    let gateway = gateway.to_ascii_lowercase();
    [format!("{gateway}.local"), gateway].into_iter()
}

/// The host names that the gateway may be called by.
fn dns_names(gateway: &str) -> Vec<String> {
    let host = machine::host_name();
    let local = host.as_ref().filter(|host| !host.contains('.')).map(|host| format!("{host}.local"));
    let fixed = [COMMON_NAME, "localhost"].map(str::to_owned);
    named(gateway_names(gateway).chain(fixed).chain(host).chain(local))
}

/// Each once, without those that are no host names.
fn named(names: impl Iterator<Item = String>) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for name in names {
        if DnsName::try_from(name.as_str()).is_ok() && !found.contains(&name) {
            found.push(name);
        }
    }
    found
}

fn micros(duration: Duration) -> UnixMicros {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::clock::Clock;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use x509_parser::extensions::GeneralName;
    use x509_parser::prelude::{FromDer, X509Certificate};

    /// 2027-01-15.
    const NOW_US: i64 = 1_800_000_000_000_000;
    const DAY_US: i64 = 86_400_000_000;

    fn at(wall_us: i64) -> Tick {
        Clock::manual(1, 1, wall_us).tick()
    }

    #[test]
    fn the_key_is_for_the_gateway_alone_and_the_names_are_those_it_is_called_by() {
        let dir = tempfile::tempdir().unwrap();
        let own = OwnCertificate::new(dir.path(), "Plant-7");
        let info = own.current(at(NOW_US)).unwrap().info;
        for name in ["plant-7", "plant-7.local", "forebay.local", "localhost", "127.0.0.1", "::1"] {
            assert!(info.names.iter().any(|known| known == name), "{name}: {:?}", info.names);
        }
        assert!(info.not_after_us - info.not_before_us <= 825 * DAY_US);
        let mode = |path: &str| fs::metadata(dir.path().join(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("access/tls"), mode("access/tls/key.pem")), (0o700, 0o600));
        assert_eq!(fs::read_dir(dir.path().join("access/tls")).unwrap().count(), 2);
        assert_eq!(own.unsaved(), None);
    }

    #[test]
    fn it_stays_over_a_restart_and_is_renewed_a_month_before_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let first = OwnCertificate::new(dir.path(), "plant-7").current(at(NOW_US)).unwrap().info;
        let again = OwnCertificate::new(dir.path(), "plant-7");
        assert_eq!(again.current(at(NOW_US + 700 * DAY_US)).unwrap().info, first);
        let renewed = again.current(at(NOW_US + 790 * DAY_US)).unwrap().info;
        assert_ne!(renewed.fingerprint, first.fingerprint);
        assert_eq!(
            OwnCertificate::new(dir.path(), "plant-7").current(at(NOW_US + 790 * DAY_US)).unwrap().info,
            renewed
        );
        let asked = again.regenerate(at(NOW_US + 790 * DAY_US)).unwrap().info;
        assert_ne!(asked.fingerprint, renewed.fingerprint);
    }

    #[test]
    fn naming_the_gateway_keeps_its_certificate_until_a_new_one_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let before = OwnCertificate::new(dir.path(), "forebay-1a2b").current(at(NOW_US)).unwrap().info;
        let named = OwnCertificate::new(dir.path(), "plant-8");
        assert_eq!(named.current(at(NOW_US)).unwrap().info, before);
        let info = named.regenerate(at(NOW_US)).unwrap().info;
        assert!(info.names.contains(&"plant-8.local".to_owned()) && !info.names.contains(&"forebay-1a2b".to_owned()));
    }

    #[test]
    fn a_phone_installs_an_authority_that_can_name_no_other_site() {
        let dir = tempfile::tempdir().unwrap();
        let pair = OwnCertificate::new(dir.path(), "plant-7").current(at(NOW_US)).unwrap();
        let [leaf, authority] = pair.served.cert.as_slice() else { panic!("a certificate and its authority") };
        let (_, leaf) = X509Certificate::from_der(leaf).unwrap();
        let (_, authority) = X509Certificate::from_der(authority).unwrap();
        assert!(!leaf.is_ca() && authority.is_ca());
        assert_eq!(leaf.issuer(), authority.subject());
        let constraints = authority.name_constraints().unwrap().unwrap().value;
        let permitted = constraints.permitted_subtrees.as_ref().unwrap();
        assert!(permitted.iter().any(|subtree| subtree.base == GeneralName::DNSName("plant-7.local")));
        let files: Vec<_> = fs::read_dir(dir.path().join("access/tls")).unwrap().collect();
        assert_eq!(files.len(), 2, "the authority's key is nowhere");
    }

    #[test]
    fn a_clock_that_was_never_set_makes_one_that_is_valid_once_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let own = OwnCertificate::new(dir.path(), "plant-7");
        let early = own.current(at(0)).unwrap().info;
        assert_eq!(early.not_before_us, EARLIEST_PLAUSIBLE_US);
        assert_eq!(own.current(at(NOW_US)).unwrap().info, early);
        let late = own.current(at(NOW_US + 800 * DAY_US)).unwrap().info;
        assert_ne!(late, early);
        // A clock that was years ahead and is put right.
        let back = own.current(at(NOW_US)).unwrap().info;
        assert!(back.not_before_us <= NOW_US);
    }

    #[test]
    fn damage_and_a_half_replaced_pair_are_mended_with_a_new_one() {
        let dir = tempfile::tempdir().unwrap();
        let other = tempfile::tempdir().unwrap();
        for damage in ["key.pem", "certificate.pem"] {
            OwnCertificate::new(other.path(), "plant-7").regenerate(at(NOW_US)).unwrap();
            let before = OwnCertificate::new(dir.path(), "plant-7").current(at(NOW_US)).unwrap().info;
            fs::copy(other.path().join("access/tls").join(damage), dir.path().join("access/tls").join(damage)).unwrap();
            let after = OwnCertificate::new(dir.path(), "plant-7").current(at(NOW_US)).unwrap().info;
            assert_ne!(before.fingerprint, after.fingerprint);
            fs::write(dir.path().join("access/tls").join(damage), [0xff; 40]).unwrap();
            OwnCertificate::new(dir.path(), "plant-7").current(at(NOW_US)).unwrap();
        }
    }

    #[test]
    fn where_nothing_can_be_written_it_is_served_all_the_same_and_written_later() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("access"), "in the way").unwrap();
        let own = OwnCertificate::new(dir.path(), "plant-7");
        let first = own.current(at(NOW_US)).unwrap().info;
        assert!(own.unsaved().unwrap().contains("access/tls"));
        fs::remove_file(dir.path().join("access")).unwrap();
        assert_eq!(own.current(at(NOW_US)).unwrap().info, first);
        assert_eq!(own.unsaved(), None);
        assert_eq!(OwnCertificate::new(dir.path(), "plant-7").current(at(NOW_US)).unwrap().info, first);
    }

    #[test]
    fn ids_that_are_no_host_names_are_left_out() {
        assert!(!dns_names("-plant..7").iter().any(|name| name.contains("plant")));
        assert!(dns_names("plant_7").contains(&"forebay.local".to_owned()));
    }
}
