//! The embedded files of the page, each under a name with a hash of its content, so that a browser keeps it for good.

use super::pages::compress;
use axum::extract::Path;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use sha2::{Digest, Sha256};
use std::sync::LazyLock;

/// A file of the page.
pub(super) struct Asset {
    /// Its address, with the hash of its content.
    pub(super) url: String,
    name: String,
    content_type: &'static str,
    plain: &'static [u8],
    zipped: Bytes,
}

/// Every file of the page.
pub(super) struct Assets {
    /// The style sheet.
    pub(super) css: Asset,
    /// What the page does by itself.
    pub(super) script: Asset,
    /// htmx.
    pub(super) htmx: Asset,
    /// Its extension for server-sent events.
    pub(super) sse: Asset,
    /// The icon.
    pub(super) icon: Asset,
}

/// The files, hashed and compressed once.
pub(super) static ASSETS: LazyLock<Assets> = LazyLock::new(|| {
    const SCRIPT: &str = "text/javascript; charset=utf-8";
    Assets {
        css: Asset::new("page", "css", "text/css; charset=utf-8", include_bytes!("static/page.css")),
        script: Asset::new("page", "js", SCRIPT, include_bytes!("static/page.js")),
        htmx: Asset::new("htmx", "js", SCRIPT, include_bytes!("static/htmx.min.js")),
        sse: Asset::new("htmx-ext-sse", "js", SCRIPT, include_bytes!("static/htmx-ext-sse.min.js")),
        icon: Asset::new("icon", "svg", "image/svg+xml", include_bytes!("static/icon.svg")),
    }
});

impl Asset {
    fn new(stem: &str, extension: &str, content_type: &'static str, plain: &'static [u8]) -> Self {
        let hash = hex::encode(Sha256::digest(plain));
        let name = format!("{stem}.{}.{extension}", hash.get(..12).unwrap_or_default());
        Self { url: format!("/static/{name}"), name, content_type, plain, zipped: compress(plain) }
    }
}

impl Assets {
    /// All of them.
    pub(super) fn all(&self) -> [&Asset; 5] {
        [&self.css, &self.script, &self.htmx, &self.sse, &self.icon]
    }
}

/// `GET /static/{name}`.
pub(super) async fn asset(Path(name): Path<String>, headers: HeaderMap) -> Response {
    let Some(asset) = ASSETS.all().into_iter().find(|asset| asset.name == name) else {
        return (StatusCode::NOT_FOUND, "this file belongs to another version of the page; reload the page\n")
            .into_response();
    };
    let forever = (header::CACHE_CONTROL, "public, max-age=31536000, immutable");
    let kind = (header::CONTENT_TYPE, asset.content_type);
    if super::pages::takes_gzip(&headers) {
        let zip = (header::CONTENT_ENCODING, "gzip");
        ([kind, forever, zip, (header::VARY, "accept-encoding")], asset.zipped.clone()).into_response()
    } else {
        ([kind, forever, (header::VARY, "accept-encoding")], asset.plain).into_response()
    }
}
