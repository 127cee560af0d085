//! How the page is encrypted: the certificate with its fingerprint, names and dates, how to use one's own; and the secrets
//! that the gateway keeps.

use super::draft;
use super::edit::running;
use crate::access::{Action, Deed};
use crate::certificate::Origin;
use crate::config::secrets::{Secrets, SecretsError};
use crate::config::{HttpsMode, parse};
use crate::web::change;
use crate::web::failure::Failure;
use crate::web::live::Shared;
use crate::web::pages::{self, Frame, Nav};
use crate::web::visit::Visit;
use crate::web::words::Moment;
use askama::Template;
use axum::Form;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;
use std::sync::Arc;

struct Certificate {
    own: bool,
    fingerprint: String,
    names: Vec<String>,
    from: Moment,
    until: Moment,
    over: bool,
}

struct Secret {
    name: String,
    used: bool,
}

#[derive(Template)]
#[template(path = "settings/security.html")]
struct Page {
    frame: Frame,
    mode: &'static str,
    tone: &'static str,
    certificate: Option<Certificate>,
    hsts: String,
    secrets: Vec<Secret>,
    may_make: bool,
}

/// Which secret.
#[derive(Debug, Deserialize)]
pub(super) struct Named {
    name: String,
}

/// `GET /settings/security`.
pub(super) async fn page(State(shared): State<Arc<Shared>>, visit: Visit) -> Result<Response, Failure> {
    let now_us = shared.state.clock.tick().wall_us;
    let tls = &shared.state.tls;
    let certificate = tls.certificate().map(|info| Certificate {
        own: info.origin == Origin::Own,
        fingerprint: info.fingerprint,
        names: info.names,
        from: Moment::new(info.not_before_us, now_us, visit.l),
        until: Moment::new(info.not_after_us, now_us, visit.l),
        over: info.not_after_us < now_us,
    });
    let (mode, tone) = match tls.mode() {
        HttpsMode::Required => ("Always encrypted", "good"),
        HttpsMode::Offered => ("Encrypted where the browser asks for it", "warn"),
        HttpsMode::Off => ("Not encrypted", "bad"),
    };
    let texts = texts(&shared);
    let secrets = draft::secrets(&shared);
    let (hsts, secrets) = change::apart(move || {
        let config = texts.first().and_then(|text| parse("configuration", text.clone()).ok());
        let hsts = config.and_then(|loaded| loaded.config.web.hsts).map(|hsts| hsts.to_string()).unwrap_or_default();
        let used = |name: &str| secrets.path(name).is_ok_and(|path| names(&texts, &path.to_string_lossy()));
        let list = secrets.list().into_iter().map(|name| Secret { used: used(&name), name }).collect();
        (hsts, list)
    })
    .await?;
    let frame = Frame::new(&shared, &visit, Nav::Settings).tab("/settings/security");
    let may_make = tls.mode() != HttpsMode::Off && certificate.as_ref().is_none_or(|certificate| certificate.own);
    let page = Page { frame, mode, tone, certificate, hsts, secrets, may_make };
    Ok(pages::html(StatusCode::OK, &visit, page.render()))
}

/// The texts that run, or may run again.
pub(in crate::web) fn texts(shared: &Shared) -> Vec<String> {
    let desk = shared.state.desk.state().borrow().clone();
    let before = desk.trial.map(|trial| trial.before.to_string());
    std::iter::once(running(shared).0).chain(before).collect()
}

/// Whether a text names the file of a secret: one of which the name is only the beginning is another.
pub(in crate::web) fn names(texts: &[String], path: &str) -> bool {
    let goes_on = |rest: &str| rest.starts_with(|next: char| next.is_ascii_alphanumeric() || next == '-');
    let found = |text: &String| text.match_indices(path).any(|(at, _)| !goes_on(&text[at + path.len()..]));
    texts.iter().any(found)
}

/// The secrets that are kept by the gateway.
pub(in crate::web) fn secrets(shared: &Shared) -> Secrets {
    draft::secrets(shared)
}

/// Why a secret was not kept, or not removed.
pub(in crate::web) fn refused(error: &SecretsError) -> Failure {
    let said = error.to_string();
    match error {
        SecretsError::Name => Failure::bad(said),
        SecretsError::Size => Failure::unfit(said, Vec::new()),
        SecretsError::Full => Failure::conflict(said),
        SecretsError::Unwritable(_) => Failure::unavailable(said),
    }
}

/// `POST /settings/security/certificate`: a new certificate of the gateway's own.
pub(super) async fn certificate(State(shared): State<Arc<Shared>>, visit: Visit) -> Result<Response, Failure> {
    let tls = shared.state.tls.clone();
    let made = change::apart(move || tls.regenerate()).await?;
    let info = made.map_err(|error| Failure::unavailable(error.to_string()))?;
    if let Some(who) = visit.who.clone() {
        let (action, subject) = (Action::CertificateChanged, "certificate".to_owned());
        let deed = Deed { who, from: Some(visit.from), action, subject, detail: info.fingerprint };
        // That it could not be written is logged there; the certificate is made.
        shared.state.access.record(deed).await.ok();
    }
    Ok(Redirect::to("/settings/security").into_response())
}

/// `POST /settings/security/secret`: removes a secret that nothing names.
pub(super) async fn forget(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Form(Named { name }): Form<Named>,
) -> Result<Response, Failure> {
    forget_one(&shared, &visit, name).await?;
    Ok(Redirect::to("/settings/security").into_response())
}

/// Removes a secret that nothing names.
pub(in crate::web) async fn forget_one(shared: &Shared, visit: &Visit, name: String) -> Result<(), Failure> {
    let secrets = draft::secrets(shared);
    let path = secrets.path(&name).map_err(|error| Failure::bad(error.to_string()))?;
    if names(&texts(shared), &path.to_string_lossy()) {
        return Err(Failure::conflict("the configuration names this secret; change it there first"));
    }
    let subject = name.clone();
    let removed = change::apart(move || secrets.list().contains(&name).then(|| secrets.remove(&name))).await?;
    let Some(removed) = removed else { return Err(Failure::missing(format!("there is no secret {subject:?}"))) };
    removed.map_err(|error| refused(&error))?;
    if let Some(who) = visit.who.clone() {
        let detail = "a secret that nothing names was removed".to_owned();
        let deed = Deed { who, from: Some(visit.from), action: Action::Operated, subject, detail };
        // That it could not be written is logged there; the secret is gone.
        shared.state.access.record(deed).await.ok();
    }
    Ok(())
}
