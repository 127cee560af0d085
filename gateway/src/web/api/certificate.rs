//! `/api/v1/certificate`: how the page is encrypted, and with which certificate.

use super::given::Given;
use super::{Api, delete, get, post, put};
use crate::certificate::CertificateInfo;
use crate::config::HttpsMode;
use crate::web::certify;
use crate::web::failure::Failure;
use crate::web::live::Shared;
use crate::web::pages;
use crate::web::visit::Visit;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// How the page is encrypted.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::web) struct Encryption {
    /// Whether it is.
    https: HttpsMode,
    /// The certificate that is served; none without HTTPS.
    certificate: Option<CertificateInfo>,
}

/// A certificate to serve.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::web) struct OwnPair {
    /// The gateway's certificate and those that it is signed by, in PEM form.
    #[schemars(length(min = 1))]
    certificate: String,
    /// Its private key in PEM form, without a passphrase. It is kept for the gateway alone and never shown.
    #[schemars(length(min = 1))]
    key: String,
}

/// Adds the addresses of this file.
pub(in crate::web) fn add_to(api: Api) -> Api {
    const PATH: &str = "/api/v1/certificate";
    api.at(PATH, get("How the page is encrypted, and with which certificate.").answers::<Encryption>(), show)
        .at(
            PATH,
            post("Makes a new certificate of the gateway's own, with a new key.").answers::<CertificateInfo>(),
            renew,
        )
        .at(
            PATH,
            put("Serves a certificate of your own at once; it is checked first.")
                .takes::<OwnPair>()
                .answers::<CertificateInfo>(),
            give,
        )
        .at(PATH, delete("Goes back to the gateway's own certificate and forgets yours."), back)
        .at(
            "/api/v1/certificate/download",
            get("The certificate that a browser or phone installs to trust this page, as bytes (DER).")
                .answers_as(&[certify::CERTIFICATE_TYPE]),
            download,
        )
}

/// `GET /api/v1/certificate`.
pub(in crate::web) async fn show(State(shared): State<Arc<Shared>>, visit: Visit) -> Response {
    let tls = &shared.state.tls;
    pages::json(&visit, &Encryption { https: tls.mode(), certificate: tls.certificate() })
}

/// `POST /api/v1/certificate`.
pub(in crate::web) async fn renew(State(shared): State<Arc<Shared>>, visit: Visit) -> Result<Response, Failure> {
    Ok(pages::json(&visit, &certify::renew(&shared, &visit).await?))
}

/// `PUT /api/v1/certificate`.
pub(in crate::web) async fn give(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Given(OwnPair { certificate, key }): Given<OwnPair>,
) -> Result<Response, Failure> {
    Ok(pages::json(&visit, &certify::give(&shared, &visit, certificate, key).await?))
}

/// `DELETE /api/v1/certificate`.
pub(in crate::web) async fn back(State(shared): State<Arc<Shared>>, visit: Visit) -> Result<StatusCode, Failure> {
    certify::back(&shared, &visit).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `GET /api/v1/certificate/download`.
pub(in crate::web) async fn download(State(shared): State<Arc<Shared>>) -> Result<Response, Failure> {
    certify::download(&shared)
}
