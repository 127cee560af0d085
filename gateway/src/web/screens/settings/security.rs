//! How the page is encrypted: the certificate with its fingerprint, names and dates, how to use one's own; and the secrets
//! that the gateway keeps.

use super::draft;
use super::edit::running;
use crate::access::{Action, Deed};
use crate::certificate::Origin;
use crate::certificate::given::covers;
use crate::config::secrets::{Secrets, SecretsError};
use crate::config::{HttpsMode, parse};
use crate::web::assets::ASSETS;
use crate::web::certify;
use crate::web::change;
use crate::web::failure::Failure;
use crate::web::live::Shared;
use crate::web::pages::{self, Frame, Nav};
use crate::web::visit::Visit;
use crate::web::words::{Moment, sentence};
use askama::Template;
use axum::Form;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;
use std::sync::Arc;

struct Certificate {
    origin: Origin,
    /// The name that the page was opened by, if the certificate is not for it.
    elsewhere: String,
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
    may_bring: bool,
    brought: String,
    /// What is wrong with the certificate, and with the key, that someone brought.
    wrong: [String; 2],
}

/// Which secret.
#[derive(Debug, Deserialize)]
pub(super) struct Named {
    name: String,
}

/// A certificate that someone brings.
#[derive(Deserialize)]
pub(super) struct Brought {
    #[serde(default)]
    certificate: String,
    #[serde(default)]
    key: String,
}

/// `GET /settings/security`.
pub(super) async fn page(State(shared): State<Arc<Shared>>, visit: Visit) -> Result<Response, Failure> {
    show(&shared, &visit, String::new(), None).await
}

async fn show(shared: &Shared, visit: &Visit, brought: String, refused: Option<Failure>) -> Result<Response, Failure> {
    let now_us = shared.state.clock.tick().wall_us;
    let tls = &shared.state.tls;
    let certificate = tls.certificate().map(|info| Certificate {
        origin: info.origin,
        elsewhere: not_for(&info.names, visit),
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
    let texts = texts(shared);
    let secrets = draft::secrets(shared);
    let (hsts, secrets) = change::apart(move || {
        let config = texts.first().and_then(|text| parse("configuration", text.clone()).ok());
        let hsts = config.and_then(|loaded| loaded.config.web.hsts).map(|hsts| hsts.to_string()).unwrap_or_default();
        let used = |name: &str| secrets.path(name).is_ok_and(|path| names(&texts, &path.to_string_lossy()));
        let list = secrets.list().into_iter().map(|name| Secret { used: used(&name), name }).collect();
        (hsts, list)
    })
    .await?;
    let frame = Frame::new(shared, visit, Nav::Settings).tab("/settings/security").script(&ASSETS.form.url);
    let on = tls.mode() != HttpsMode::Off;
    let may_make = on && certificate.as_ref().is_none_or(|certificate| certificate.origin == Origin::Own);
    let may_bring = on && certificate.as_ref().is_none_or(|certificate| certificate.origin != Origin::File);
    let status = refused.as_ref().map_or(StatusCode::OK, |failure| failure.status);
    let said = |field: &str| {
        let error = refused.iter().flat_map(|failure| &failure.fields).find(|error| error.path == field);
        error.map(|error| sentence(&visit.l.say(&error.message))).unwrap_or_default()
    };
    let wrong = [said("certificate"), said("key")];
    let page = Page { frame, mode, tone, certificate, hsts, secrets, may_make, may_bring, brought, wrong };
    Ok(pages::html(status, visit, page.render()))
}

/// The name that the page was opened by over HTTPS, if its certificate is not for it: browsers warn there.
fn not_for(names: &[String], visit: &Visit) -> String {
    let is_strange = visit.secure && !visit.host.is_empty() && !covers(names, &visit.host);
    if is_strange { visit.host.clone() } else { String::new() }
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
pub(super) async fn renew(State(shared): State<Arc<Shared>>, visit: Visit) -> Result<Response, Failure> {
    certify::renew(&shared, &visit).await?;
    Ok(Redirect::to("/settings/security").into_response())
}

/// `POST /settings/security/certificate/own`: one of the user's.
pub(super) async fn give(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Form(Brought { certificate, key }): Form<Brought>,
) -> Result<Response, Failure> {
    match certify::give(&shared, &visit, certificate.clone(), key).await {
        Ok(_) => Ok(Redirect::to("/settings/security").into_response()),
        // The key is not sent back.
        Err(failure) if failure.status == StatusCode::UNPROCESSABLE_ENTITY => {
            show(&shared, &visit, certificate, Some(failure)).await
        }
        Err(failure) => Err(failure),
    }
}

/// `POST /settings/security/certificate/back`: the gateway's own again.
pub(super) async fn back(State(shared): State<Arc<Shared>>, visit: Visit) -> Result<Response, Failure> {
    certify::back(&shared, &visit).await?;
    Ok(Redirect::to("/settings/security").into_response())
}

/// `GET /settings/security/certificate/download`: what a phone installs.
pub(super) async fn download(State(shared): State<Arc<Shared>>) -> Result<Response, Failure> {
    certify::download(&shared)
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
