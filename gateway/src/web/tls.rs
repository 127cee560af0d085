//! How the page's port is opened: with or without HTTPS, and with which certificate. The certificate is looked after while the page
//! is served: files that were renewed are taken in, the gateway's own one is renewed before it ends.

use crate::block::records::Severity;
use crate::certificate::given::{GivenCertificate, LookedOver, look_over};
use crate::certificate::own::OwnCertificate;
use crate::certificate::{self, CertificateError, CertificateInfo, Origin, Pair};
use crate::clock::Clock;
use crate::config::{HttpsMode, Network, WebOptions};
use crate::reading::TimeQuality;
use crate::secret::SecretFile;
use crate::status::{Status, Trouble};
use axum::http::HeaderValue;
use rustls::sign::SingleCertAndKey;
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, crypto::CryptoProvider};
use sha2::{Digest, Sha256};
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// Between two looks at the certificate: two small files are read.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// So long before its end a certificate of the user's is told of, in microseconds: 14 days.
const TELL_BEFORE_US: i64 = 14 * 24 * 3_600 * 1_000_000;

/// The key of the trouble with the certificate.
const TROUBLE: &str = "web/certificate";

/// How the page's port is opened; clones are the same one.
#[derive(Clone, Debug)]
pub struct Tls(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// What certificates come from; none where HTTPS is out of the question.
    workshop: Option<Workshop>,
    /// One change at a time.
    changing: Mutex<Seen>,
    now: watch::Sender<Now>,
}

#[derive(Debug)]
struct Workshop {
    own: OwnCertificate,
    given: GivenCertificate,
    provider: Arc<CryptoProvider>,
    clock: Clock,
    status: Arc<Status>,
}

/// What was last read of the user's files.
#[derive(Debug, Default)]
struct Seen {
    files: Option<(SecretFile, SecretFile)>,
    /// A digest of the files as they are served.
    served: Option<[u8; 32]>,
    /// A digest of the files as they could not be served.
    refused: Option<[u8; 32]>,
}

/// How a connection is opened now.
#[derive(Clone, Debug)]
struct Now {
    mode: HttpsMode,
    hsts: Option<HeaderValue>,
    /// Reverse proxies that are believed who asks.
    proxies: Vec<Network>,
    served: Option<Served>,
}

#[derive(Clone)]
struct Served {
    acceptor: TlsAcceptor,
    info: CertificateInfo,
    /// The last certificate of the chain, as bytes: what a phone installs.
    authority: Vec<u8>,
}

/// What is done with a request that came without HTTPS from another machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plain {
    /// It is answered.
    Serve,
    /// It is sent to HTTPS.
    Redirect,
    /// There is no certificate, so that there is nowhere to send it.
    Refuse,
}

impl Tls {
    /// Plain HTTP only, for whoever brings no certificate.
    #[must_use]
    pub fn plain() -> Self {
        Self::with(None)
    }

    /// As the options say. Without a certificate the page is served on this machine alone, and a trouble says why.
    #[must_use]
    pub fn new(data_dir: &Path, gateway: &str, options: &WebOptions, clock: Clock, status: Arc<Status>) -> Self {
        let (own, given) = (OwnCertificate::new(data_dir, gateway), GivenCertificate::of(data_dir));
        let tls = Self::with(Some(Workshop { own, given, provider: Arc::new(certificate::provider()), clock, status }));
        tls.configure(options);
        tls
    }

    fn with(workshop: Option<Workshop>) -> Self {
        let now = watch::Sender::new(Now { mode: HttpsMode::Off, hsts: None, proxies: Vec::new(), served: None });
        Self(Arc::new(Inner { workshop, changing: Mutex::default(), now }))
    }

    /// Goes on by other options; connections that are open stay. Files are read again.
    pub fn configure(&self, options: &WebOptions) {
        let Some(workshop) = &self.0.workshop else { return };
        let mut seen = self.changing();
        let hsts = options.hsts.and_then(|time| HeaderValue::try_from(format!("max-age={}", time.0.as_secs())).ok());
        let files = options.certificate_file.clone().zip(options.key_file.clone());
        if seen.files != files {
            *seen = Seen { files, ..Seen::default() };
        }
        let proxies = options.trusted_proxies.iter().filter_map(|proxy| proxy.parse().ok()).collect();
        self.0.now.send_modify(|now| (now.mode, now.hsts, now.proxies) = (options.https, hsts, proxies));
        self.settle(workshop, &mut seen, true);
    }

    /// What is served; `None` without HTTPS.
    #[must_use]
    pub fn certificate(&self) -> Option<CertificateInfo> {
        self.0.now.borrow().served.as_ref().map(|served| served.info.clone())
    }

    /// Whether and how HTTPS is served.
    #[must_use]
    pub fn mode(&self) -> HttpsMode {
        self.0.now.borrow().mode
    }

    /// The certificate that a phone or a browser has to know to trust this page, as bytes (DER); `None` without HTTPS.
    #[must_use]
    pub fn authority(&self) -> Option<Vec<u8>> {
        self.0.now.borrow().served.as_ref().map(|served| served.authority.clone())
    }

    /// Whether browsers are told to take this page with HTTPS alone.
    #[must_use]
    pub fn insists(&self) -> bool {
        self.0.now.borrow().hsts.is_some()
    }

    /// Looks over a certificate that someone brings, and its key, both in PEM form.
    ///
    /// # Errors
    /// If it cannot be served, or HTTPS is off.
    pub fn look_over(&self, certificate: &str, key: &str) -> Result<LookedOver, CertificateError> {
        look_over(certificate, key, self.workshop()?.clock.tick())
    }

    /// Keeps a certificate that someone brought and serves it at once; open connections keep the old one. What is served is answered:
    /// the files that the configuration names go first.
    ///
    /// # Errors
    /// If it cannot be kept; what was served before is served still.
    pub fn give(&self, given: LookedOver) -> Result<CertificateInfo, CertificateError> {
        let workshop = self.workshop()?;
        let mut seen = self.changing();
        workshop.given.keep(given)?;
        self.settle(workshop, &mut seen, true);
        self.certificate().ok_or_else(unavailable)
    }

    /// Forgets the certificate that someone brought, and goes back to the gateway's own; tells whether there was one.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn forget_given(&self) -> Result<bool, CertificateError> {
        let workshop = self.workshop()?;
        let mut seen = self.changing();
        let was = workshop.given.forget()?;
        self.settle(workshop, &mut seen, true);
        Ok(was)
    }

    fn workshop(&self) -> Result<&Workshop, CertificateError> {
        let workshop = self.0.workshop.as_ref().filter(|_| self.mode() != HttpsMode::Off);
        workshop.ok_or_else(unavailable)
    }

    /// Makes a new certificate of the gateway's own, with a new key; open connections keep the old one, the next ones get it. What is
    /// served is answered: while the user's is, the new one waits behind it.
    ///
    /// # Errors
    /// If none can be made; the old one stays.
    pub fn regenerate(&self) -> Result<CertificateInfo, CertificateError> {
        let workshop = self.workshop()?;
        let mut seen = self.changing();
        workshop.own.regenerate(workshop.clock.tick())?;
        self.settle(workshop, &mut seen, false);
        self.certificate().ok_or_else(unavailable)
    }

    /// Looks after the certificate until `stop`.
    pub(super) async fn keep(&self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK_EVERY) => self.look(),
            }
        }
    }

    /// Takes in what has changed since the last look.
    pub(super) fn look(&self) {
        if let Some(workshop) = &self.0.workshop {
            self.settle(workshop, &mut self.changing(), false);
        }
    }

    /// What takes a connection that begins as HTTPS does.
    pub(super) fn acceptor(&self) -> Option<TlsAcceptor> {
        self.0.now.borrow().served.as_ref().map(|served| served.acceptor.clone())
    }

    /// What becomes of plain HTTP from another machine.
    pub(super) fn plain_rule(&self) -> Plain {
        let now = self.0.now.borrow();
        match (now.mode, &now.served) {
            (HttpsMode::Off | HttpsMode::Offered, _) => Plain::Serve,
            (HttpsMode::Required, Some(_)) => Plain::Redirect,
            (HttpsMode::Required, None) => Plain::Refuse,
        }
    }

    /// Whether an address is that of a reverse proxy that is believed who asks.
    pub(super) fn trusts(&self, address: IpAddr) -> bool {
        self.0.now.borrow().proxies.iter().any(|proxy| proxy.contains(address))
    }

    /// What answers over HTTPS tell the browser to remember.
    pub(super) fn hsts(&self) -> Option<HeaderValue> {
        self.0.now.borrow().hsts.clone()
    }

    fn changing(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.0.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Chooses the certificate and puts it to use. `fresh` says that a person has just changed something and wants to hear at once.
    fn settle(&self, workshop: &Workshop, seen: &mut Seen, fresh: bool) {
        if self.mode() == HttpsMode::Off {
            self.0.now.send_modify(|now| now.served = None);
            (seen.served, seen.refused) = (None, None);
            workshop.calm();
            return;
        }
        let now = workshop.clock.tick();
        let mut trouble = None;
        let choice = match seen.files.clone() {
            Some(files) => choose_from_files(seen, &files, fresh, &mut trouble),
            None => Choice::Own,
        };
        let mut given = || match workshop.given.current()? {
            Ok(pair) => Some(pair),
            Err(why) => {
                let meanwhile = "bring it again at Settings, Security; the gateway serves its own one until then";
                trouble = trouble.take().or_else(|| Some(Telling::new(why, meanwhile)));
                None
            }
        };
        let choice = match choice {
            Choice::Own => given().map_or(Choice::Own, Choice::Take),
            choice => choice,
        };
        let chosen = match choice {
            Choice::Stay => None,
            Choice::Take(pair) => Some(pair),
            Choice::Own => match workshop.own.current(now) {
                Ok(pair) => {
                    let unsaved = || {
                        workshop
                            .own
                            .unsaved()
                            .map(|why| Telling::new(why, "every restart makes another one until then"))
                    };
                    trouble = trouble.or_else(unsaved);
                    Some(pair)
                }
                Err(error) => {
                    trouble = Some(Telling {
                        severity: Severity::Error,
                        ..Telling::new(error.to_string(), "the page is served on this machine alone until then")
                    });
                    None
                }
            },
        };
        if let Some(pair) = chosen {
            match workshop.served(&pair) {
                Ok(served) => self.0.now.send_if_modified(|now| {
                    let is_new = now.served.as_ref().is_none_or(|known| known.info != served.info);
                    if is_new {
                        tracing::info!(fingerprint = served.info.fingerprint, origin = ?served.info.origin, "the page's certificate");
                        now.served = Some(served);
                    }
                    is_new
                }),
                Err(error) => {
                    trouble = Some(Telling::new(error.to_string(), "the page is served as before until then"));
                    false
                }
            };
        }
        let info = self.certificate().filter(|info| info.origin != Origin::Own && now.quality != TimeQuality::Unset);
        let ending = info.and_then(|info| {
            let renew = match info.origin {
                Origin::File => "put the renewed one into the same files; it is taken in by itself",
                Origin::Given | Origin::Own => "bring the renewed one to Settings, Security",
            };
            let said = info.refused_at(now.wall_us).or_else(|| {
                info.refused_at(now.wall_us + TELL_BEFORE_US)
                    .map(|_| format!("the certificate ends within {} days; renew it", TELL_BEFORE_US / 86_400_000_000))
            });
            said.map(|said| Telling::new(said, renew))
        });
        match trouble.or(ending) {
            Some(telling) => workshop.tell(&telling),
            None if seen.refused.is_none() => workshop.calm(),
            None => {}
        }
    }
}

/// Which certificate is served.
enum Choice {
    /// As before.
    Stay,
    /// This one.
    Take(Pair),
    /// The gateway's own.
    Own,
}

/// A trouble to be.
struct Telling {
    what: String,
    meanwhile: &'static str,
    severity: Severity,
}

impl Telling {
    fn new(what: String, meanwhile: &'static str) -> Self {
        Self { what, meanwhile, severity: Severity::Warning }
    }
}

impl Workshop {
    fn served(&self, pair: &Pair) -> Result<Served, CertificateError> {
        let unusable = |error: rustls::Error| CertificateError::Unusable(error.to_string());
        let mut config = ServerConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(unusable)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(pair.served.clone())));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let authority = pair.served.cert.last().map(|certificate| certificate.to_vec()).unwrap_or_default();
        Ok(Served { acceptor: TlsAcceptor::from(Arc::new(config)), info: pair.info.clone(), authority })
    }

    fn tell(&self, telling: &Telling) {
        let trouble = Trouble {
            subject: "web".to_owned(),
            what: format!("The page's certificate: {}", telling.what),
            advice: format!("Mend it; {}", telling.meanwhile),
            severity: telling.severity,
            since_us: self.clock.tick().wall_us,
        };
        self.status.raise(TROUBLE, trouble);
    }

    fn calm(&self) {
        self.status.clear(TROUBLE, self.clock.tick().wall_us);
    }
}

impl std::fmt::Debug for Served {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Served").field("info", &self.info).finish_non_exhaustive()
    }
}

fn unavailable() -> CertificateError {
    CertificateError::Make("HTTPS is off (web.https)".to_owned())
}

fn digest(certificate: &SecretFile, key: &SecretFile) -> [u8; 32] {
    let mut digest = Sha256::new();
    for file in [certificate, key] {
        // What cannot be read is told apart by its words.
        match file.read() {
            Ok(text) => digest.update(text.expose()),
            Err(error) => digest.update(error.to_string()),
        }
        digest.update([0]);
    }
    digest.finalize().into()
}

/// The pair in the user's files. While someone replaces them one by one they do not fit: only what stays wrong is told.
fn choose_from_files(
    seen: &mut Seen,
    (certificate, key): &(SecretFile, SecretFile),
    fresh: bool,
    trouble: &mut Option<Telling>,
) -> Choice {
    let digest = digest(certificate, key);
    if seen.served == Some(digest) {
        seen.refused = None;
        return Choice::Stay;
    }
    match Pair::from_files(certificate, key) {
        Ok(pair) => {
            (seen.served, seen.refused) = (Some(digest), None);
            Choice::Take(pair)
        }
        Err(error) => {
            let has_old = seen.served.is_some();
            let stands = fresh || !has_old || seen.refused == Some(digest);
            seen.refused = Some(digest);
            if stands {
                let meanwhile = if has_old {
                    "the one before is served until then"
                } else {
                    "the gateway serves its own one until then"
                };
                *trouble = Some(Telling::new(error.to_string(), meanwhile));
            }
            if has_old { Choice::Stay } else { Choice::Own }
        }
    }
}
