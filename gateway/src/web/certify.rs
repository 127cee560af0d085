//! How the page and the interface change the page's certificate: one that someone brings, back to the gateway's own, a new one; each
//! with its entry in the audit log, and never with a key in it.

use super::change::apart;
use super::failure::{Failure, FieldError};
use super::live::Shared;
use super::visit::Visit;
use crate::access::{Action, Deed};
use crate::certificate::given::covers;
use crate::certificate::{CertificateError, CertificateInfo, Origin};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

/// What phones and computers take as a certificate to install.
pub(in crate::web) const CERTIFICATE_TYPE: &str = "application/x-x509-ca-cert";

/// Serves a certificate that someone brings, from now on.
pub(in crate::web) async fn give(
    shared: &Shared,
    visit: &Visit,
    certificate: String,
    key: String,
) -> Result<CertificateInfo, Failure> {
    let tls = shared.state.tls.clone();
    if tls.certificate().is_some_and(|served| served.origin == Origin::File) {
        return Err(named_by_configuration());
    }
    let looker = tls.clone();
    let given = apart(move || looker.look_over(&certificate, &key)).await?.map_err(|error| refused(&error))?;
    // Browsers that were told to insist let nobody pass a warning: they would be locked out with it.
    if tls.insists() && visit.secure && !covers(&given.pair.info.names, &visit.host) {
        let words = format!(
            "browsers insist on HTTPS here (web.hsts) and would lock you out: the certificate is not for {}; bring one with this name",
            visit.host
        );
        return Err(at("certificate", words));
    }
    let info = apart(move || tls.give(given)).await?.map_err(|error| refused(&error))?;
    record(shared, visit, format!("brought: {} for {}", info.fingerprint, info.names.join(", "))).await;
    Ok(info)
}

/// Goes back to the gateway's own certificate, and forgets the one that someone brought.
pub(in crate::web) async fn back(shared: &Shared, visit: &Visit) -> Result<(), Failure> {
    let tls = shared.state.tls.clone();
    if !apart(move || tls.forget_given()).await?.map_err(|error| refused(&error))? {
        return Err(Failure::missing("nobody has brought a certificate; there is nothing to go back from"));
    }
    let served = shared.state.tls.certificate().map(|info| info.fingerprint).unwrap_or_default();
    record(shared, visit, format!("back to the gateway's own: {served}")).await;
    Ok(())
}

/// Makes a new certificate of the gateway's own.
pub(in crate::web) async fn renew(shared: &Shared, visit: &Visit) -> Result<CertificateInfo, Failure> {
    let tls = shared.state.tls.clone();
    match tls.certificate().map(|served| served.origin) {
        Some(Origin::File) => return Err(named_by_configuration()),
        Some(Origin::Given) => {
            return Err(Failure::conflict(
                "the page is served with a certificate that someone brought; go back to the gateway's own first",
            ));
        }
        Some(Origin::Own) | None => {}
    }
    let info = apart(move || tls.regenerate()).await?.map_err(|error| refused(&error))?;
    record(shared, visit, format!("made anew: {}", info.fingerprint)).await;
    Ok(info)
}

/// The certificate as phones install it.
pub(in crate::web) fn download(shared: &Shared) -> Result<Response, Failure> {
    let none = || Failure::missing("there is no certificate: the page is served without encryption");
    let bytes = shared.state.tls.authority().ok_or_else(none)?;
    let head = [
        (header::CONTENT_TYPE, HeaderValue::from_static(CERTIFICATE_TYPE)),
        (header::CONTENT_DISPOSITION, HeaderValue::from_static("attachment; filename=\"forebay.crt\"")),
    ];
    Ok((StatusCode::OK, head, bytes).into_response())
}

fn named_by_configuration() -> Failure {
    Failure::conflict(
        "the configuration names the files of the certificate (web.certificate_file, web.key_file), and they go first; take both out of it, then bring another one here",
    )
}

fn refused(error: &CertificateError) -> Failure {
    let words = error.to_string();
    match error {
        CertificateError::File { .. } | CertificateError::Make(_) => Failure::unavailable(words),
        CertificateError::Locked => at("key", words),
        _ => at("certificate", words),
    }
}

fn at(path: &str, message: String) -> Failure {
    let field = FieldError { path: path.to_owned(), message: message.clone(), line: 0, column: 0 };
    Failure::unfit(message, vec![field])
}

async fn record(shared: &Shared, visit: &Visit, detail: String) {
    let Some(who) = visit.who.clone() else { return };
    let (action, subject) = (Action::CertificateChanged, "certificate".to_owned());
    // That it could not be written is logged there; what is served is served.
    shared.state.access.record(Deed { who, from: Some(visit.from), action, subject, detail }).await.ok();
}
