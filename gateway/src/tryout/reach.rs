//! The first steps of whatever speaks TCP: find the address of a name, and see whether anybody listens there.

use super::Steps;
use std::io::{Error, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

/// How long finding a name's address may take: a resolver asks twice within it.
const RESOLVE_LIMIT: Duration = Duration::from_secs(4);
/// How long connecting may take; the same as the sources and sinks wait.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// Most addresses of a name that are tried and shown.
const ADDRESSES_MAX: usize = 4;

/// Finds the addresses of a host, as a step; none if it has failed. An address instead of a name needs no step.
pub async fn resolve(steps: &mut Steps, host: &str, port: u16) -> Option<Vec<SocketAddr>> {
    let bare = host.strip_prefix('[').and_then(|bare| bare.strip_suffix(']')).unwrap_or(host);
    if let Ok(address) = bare.parse() {
        return Some(vec![SocketAddr::new(address, port)]);
    }
    steps.begin(format!("find the address of {host}"));
    let found = timeout(RESOLVE_LIMIT, lookup_host((bare, port))).await;
    let advice =
        "check the spelling, and that this gateway has a name server; an address such as 10.0.0.5 works without one";
    match found {
        Ok(Ok(addresses)) => {
            let addresses: Vec<SocketAddr> = addresses.take(ADDRESSES_MAX).collect();
            if addresses.is_empty() {
                steps.failed(format!("{host} has no address"), advice);
                return None;
            }
            let shown: Vec<String> = addresses.iter().map(|address| address.ip().to_string()).collect();
            steps.ok(shown.join(", "));
            Some(addresses)
        }
        Ok(Err(error)) => {
            steps.failed(format!("the name {host} is not known: {error}"), advice);
            None
        }
        Err(_) => {
            let seconds = RESOLVE_LIMIT.as_secs();
            steps.failed(format!("no name server answered within {seconds} s about {host}"), advice);
            None
        }
    }
}

/// Sees whether anybody listens at one of the addresses, as a step; the connection is closed at once.
pub async fn connect(steps: &mut Steps, shown: &str, addresses: &[SocketAddr]) -> bool {
    steps.begin(format!("connect to {shown}"));
    match timeout(CONNECT_LIMIT, TcpStream::connect(addresses)).await {
        Ok(Ok(stream)) => {
            let own = stream.local_addr().map(|own| format!("from {}", own.ip())).unwrap_or_default();
            steps.ok(own);
            true
        }
        Ok(Err(error)) => {
            steps.failed(format!("no connection to {shown}: {error}"), advice(&error));
            false
        }
        Err(_) => {
            let what = format!("no connection to {shown} within {} s", CONNECT_LIMIT.as_secs());
            steps.failed(what, "check the address, the cable, and a firewall between");
            false
        }
    }
}

/// Sees whether anybody listens at a host, where there are no steps to tell; if not, what is wrong and what to do.
///
/// # Errors
/// With what is wrong, and what to do.
pub async fn check(shown: &str, host: &str, port: u16) -> Result<(), (String, &'static str)> {
    let bare = host.strip_prefix('[').and_then(|bare| bare.strip_suffix(']')).unwrap_or(host);
    match timeout(CONNECT_LIMIT, TcpStream::connect((bare, port))).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err((format!("no connection to {shown}: {error}"), advice(&error))),
        Err(_) => {
            let what = format!("no connection to {shown} within {} s", CONNECT_LIMIT.as_secs());
            Err((what, "check the address, the cable, and a firewall between"))
        }
    }
}

/// What to do about an error of connecting.
fn advice(error: &Error) -> &'static str {
    match error.kind() {
        ErrorKind::ConnectionRefused => "nothing listens there: check the port, and that the service runs",
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => {
            "this gateway has no way there: check its network settings and the address"
        }
        ErrorKind::TimedOut => "check the address, the cable, and a firewall between",
        _ => "check address and port",
    }
}
