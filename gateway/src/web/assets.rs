//! The embedded files of the page, each under a name with a hash of its content, so that a browser keeps it for good.

use super::pages::compress;
use axum::extract::Path;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use sha2::{Digest, Sha256};
use std::sync::LazyLock;

/// A file of the page.
pub(in crate::web) struct Asset {
    /// Its address, with the hash of its content.
    pub(in crate::web) url: String,
    name: String,
    content_type: &'static str,
    plain: &'static [u8],
    zipped: Bytes,
}

/// Every file of the page.
pub(in crate::web) struct Assets {
    /// The style sheet.
    pub(in crate::web) css: Asset,
    /// What the page does by itself.
    pub(in crate::web) script: Asset,
    /// htmx.
    pub(in crate::web) htmx: Asset,
    /// Its extension for server-sent events.
    pub(in crate::web) sse: Asset,
    /// Idiomorph: live parts change what differs and leave the rest, so that focus and a tap under way stay.
    pub(in crate::web) morph: Asset,
    /// uPlot, which draws the charts.
    pub(in crate::web) uplot: Asset,
    /// What the gateway's charts are made of, on top of it.
    pub(in crate::web) chart: Asset,
    /// What forms do by themselves: rows to add, pasted sheets, checks while one types.
    pub(in crate::web) form: Asset,
    /// What the log does by itself: follows, pauses, counts what it missed.
    pub(in crate::web) log: Asset,
    /// The icon.
    pub(in crate::web) icon: Asset,
}

/// The style sheet: the ground, then what each group of screens adds.
const CSS: &str = concat!(
    include_str!("static/page.css"),
    include_str!("static/people.css"),
    include_str!("static/settings.css"),
    include_str!("static/ways.css"),
    include_str!("static/see.css"),
);

/// The files, hashed and compressed once.
pub(in crate::web) static ASSETS: LazyLock<Assets> = LazyLock::new(|| {
    const SCRIPT: &str = "text/javascript; charset=utf-8";
    Assets {
        css: Asset::new("page", "css", "text/css; charset=utf-8", CSS.as_bytes()),
        script: Asset::new("page", "js", SCRIPT, include_bytes!("static/page.js")),
        htmx: Asset::new("htmx", "js", SCRIPT, include_bytes!("static/htmx.min.js")),
        sse: Asset::new("htmx-ext-sse", "js", SCRIPT, include_bytes!("static/htmx-ext-sse.min.js")),
        morph: Asset::new("idiomorph-ext", "js", SCRIPT, include_bytes!("static/idiomorph-ext.min.js")),
        uplot: Asset::new("uplot", "js", SCRIPT, include_bytes!("static/uplot.min.js")),
        chart: Asset::new("chart", "js", SCRIPT, include_bytes!("static/chart.js")),
        form: Asset::new("form", "js", SCRIPT, include_bytes!("static/form.js")),
        log: Asset::new("log", "js", SCRIPT, include_bytes!("static/log.js")),
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
    pub(in crate::web) fn all(&self) -> [&Asset; 10] {
        [
            &self.css,
            &self.script,
            &self.htmx,
            &self.sse,
            &self.morph,
            &self.uplot,
            &self.chart,
            &self.form,
            &self.log,
            &self.icon,
        ]
    }
}

/// `GET /static/{name}`.
pub(in crate::web) async fn asset(Path(name): Path<String>, headers: HeaderMap) -> Response {
    let Some(asset) = ASSETS.all().into_iter().find(|asset| asset.name == name) else {
        return (StatusCode::NOT_FOUND, "this file belongs to another version of the page; reload the page\n")
            .into_response();
    };
    let forever = (header::CACHE_CONTROL, "public, max-age=31536000, immutable");
    let kind = (header::CONTENT_TYPE, asset.content_type);
    if super::visit::takes_gzip(&headers) {
        let zip = (header::CONTENT_ENCODING, "gzip");
        ([kind, forever, zip, (header::VARY, "accept-encoding")], asset.zipped.clone()).into_response()
    } else {
        ([kind, forever, (header::VARY, "accept-encoding")], asset.plain).into_response()
    }
}
