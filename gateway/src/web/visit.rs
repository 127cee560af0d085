//! Who asks, from where, in which language, and how the answer is to look: read once for every handler.

use super::failure::Failure;
use super::locale::Locale;
use super::server::Peer;
use crate::access::{Access, By, Right, Who};
use axum::extract::{FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap, StatusCode, header};
use std::convert::Infallible;
use std::fmt;
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
    /// Whether a browser says that a page of this gateway led here, and no other site, typed address or code.
    pub(in crate::web) is_from_here: bool,
    /// Whether a program asks, through the interface.
    pub(in crate::web) interface: bool,
    /// The name that the page was opened by, without its port.
    pub(in crate::web) host: String,
    /// What let them in, for what goes on after the answer began.
    pub(in crate::web) pass: Option<Pass>,
}

/// What lets someone in: a session or a token. Its text is a secret.
#[derive(Clone)]
pub(in crate::web) enum Pass {
    /// The value of a session's cookie.
    Session(String),
    /// An API token.
    Token(String),
}

impl Pass {
    /// Who it lets in.
    pub(in crate::web) fn who(&self, access: &Access) -> Option<Who> {
        match self {
            Self::Session(cookie) => access.session(cookie),
            Self::Token(bearer) => access.token(bearer),
        }
    }

    /// Whether it still lets someone in who has a right; that it is asked counts as no use of it.
    pub(in crate::web) fn goes_on(&self, access: &Access, right: Right) -> bool {
        let who = match self {
            Self::Session(cookie) => access.session_goes_on(cookie),
            Self::Token(bearer) => access.token_goes_on(bearer),
        };
        who.is_some_and(|who| who.may(right))
    }
}

impl fmt::Debug for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
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
            from: address(&parts.extensions),
            secure: peer.is_some_and(|peer| peer.tls),
            is_from_here: parts.headers.get("sec-fetch-site").is_some_and(|site| site == "same-origin"),
            interface: parts.uri.path().starts_with("/api/"),
            host: host(&parts.headers).to_owned(),
            pass: parts.extensions.get::<Pass>().cloned(),
        }
    }

    /// Where a request comes from.
    pub(in crate::web) fn of_request(request: &Request) -> IpAddr {
        address(request.extensions())
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

/// The client's address, of this machine itself where nobody says otherwise.
fn address(extensions: &Extensions) -> IpAddr {
    extensions.get::<Peer>().map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |peer| peer.client.to_canonical())
}

/// The name that a browser has opened the page by, without its port.
fn host(headers: &HeaderMap) -> &str {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let (name, port) = host.rsplit_once(':').unwrap_or((host, ""));
    let has_port = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    if has_port { name } else { host }
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
