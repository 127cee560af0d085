//! Who asks, from where, in which language, and how the answer is to look: read once for every handler.

use super::failure::Failure;
use super::locale::Locale;
use super::server::Peer;
use crate::access::{By, Right, Who};
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr};

/// A request as the handlers see it.
#[derive(Clone, Debug)]
pub(in crate::web) struct Visit {
    /// Who is signed in, or whose token it is.
    pub(in crate::web) who: Option<Who>,
    /// Language and decimal sign.
    pub(in crate::web) l: Locale,
    /// Whether htmx asks, for a part of the page.
    pub(in crate::web) htmx: bool,
    /// Whether the answer may be compressed.
    pub(in crate::web) gzip: bool,
    /// Where from.
    pub(in crate::web) from: IpAddr,
    /// Whether the connection is encrypted.
    pub(in crate::web) secure: bool,
}

impl Visit {
    /// The request of these parts.
    pub(in crate::web) fn of(parts: &Parts) -> Self {
        let peer = parts.extensions.get::<Peer>();
        Self {
            who: parts.extensions.get::<Who>().cloned(),
            l: Locale::of(&parts.headers),
            htmx: parts.headers.contains_key("hx-request"),
            gzip: takes_gzip(&parts.headers),
            from: peer.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |peer| peer.address.ip().to_canonical()),
            secure: peer.is_some_and(|peer| peer.tls),
        }
    }

    /// Whether whoever asks has a right.
    pub(in crate::web) fn may(&self, right: Right) -> bool {
        self.who.as_ref().is_some_and(|who| who.may(right))
    }

    /// Whoever asks and where from, for what they change.
    ///
    /// # Errors
    /// If nobody is signed in, which the guard lets no change come to.
    pub(in crate::web) fn by(&self) -> Result<By, Failure> {
        let stranger = || Failure::new(StatusCode::UNAUTHORIZED, "Nobody is signed in", "sign in first");
        Ok(By::new(self.who.clone().ok_or_else(stranger)?, self.from))
    }

    /// The name of whoever asks, for the audit log.
    pub(in crate::web) fn name(&self) -> &str {
        self.who.as_ref().map_or("nobody", |who| who.name.as_str())
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Visit {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::of(parts))
    }
}

/// The value of a cookie.
pub(in crate::web) fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let pairs = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = pairs.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(found, _)| *found == name).map(|(_, value)| value)
}

/// Whether the browser takes gzip.
pub(in crate::web) fn takes_gzip(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        name.trim().eq_ignore_ascii_case("gzip") && !matches!(weight.trim(), "q=0" | "q=0.0")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn a_cookie_is_found_among_others_and_by_its_whole_name() {
        let mut headers = HeaderMap::new();
        headers.insert(header::COOKIE, HeaderValue::from_static("xid=1; id=2;id2=3"));
        assert_eq!(cookie(&headers, "id"), Some("2"));
        assert_eq!(cookie(&headers, "d"), None);
    }
}
