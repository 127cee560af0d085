//! Before a gateway is set up: says on the console, in the log and in a file for a label where its page is and what to type there.

use super::page;
use crate::access::Access;
use crate::config::HttpsMode;
use crate::web::Tls;
use std::net::{IpAddr, SocketAddr, UdpSocket};

/// An address that nobody has (RFC 5737), to learn which own address would be used to reach others. Nothing is sent.
const ELSEWHERE: (&str, u16) = ("192.0.2.1", 9);

/// Where the kernel tells the machine's name.
const HOST_NAME_FILE: &str = "/proc/sys/kernel/hostname";

/// Announces a gateway that nobody has set up yet.
pub(super) async fn announce(access: &Access, tls: &Tls, page: Option<SocketAddr>) {
    let Some(token) = access.set_up_token() else { return };
    let addresses = page.map(|page| addresses(page, tls.mode())).unwrap_or_default();
    let first = addresses.first().map_or("its page", String::as_str);
    tracing::info!(set_up_token = %token, page = %first, "this gateway is not set up yet: open its page and type the set-up token");
    let certificate = tls.certificate();
    if let Err(error) =
        access.write_label(&addresses, certificate.as_ref().map(|certificate| certificate.fingerprint.as_str())).await
    {
        tracing::warn!(%error, "the text for the label could not be written");
    }
}

/// Where others find the page: by number and by name if it listens on every address, else just there.
fn addresses(page: SocketAddr, https: HttpsMode) -> Vec<String> {
    if !page.ip().is_unspecified() {
        return vec![page::address(page, https)];
    }
    let scheme = if https == HttpsMode::Off { "http" } else { "https" };
    let port = page.port();
    let mut found = Vec::new();
    if let Some(own) = own_address() {
        found.push(format!("{scheme}://{}", SocketAddr::new(own, port)));
    }
    // On a system that keeps its name elsewhere the number has to do.
    let name = std::fs::read_to_string(HOST_NAME_FILE).unwrap_or_default();
    let name = name.trim();
    if !name.is_empty() && name != "localhost" {
        let domain = if name.contains('.') { "" } else { ".local" };
        found.push(format!("{scheme}://{name}{domain}:{port}"));
    }
    found
}

/// The address by which this machine reaches others, if it has a way to them yet.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind(("0.0.0.0", 0)).ok()?;
    socket.connect(ELSEWHERE).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::{By, Role};
    use crate::clock::Clock;
    use std::os::unix::fs::PermissionsExt;

    #[tokio::test]
    async fn the_label_tells_page_and_token_until_the_gateway_is_set_up() {
        let directory = tempfile::tempdir().unwrap();
        let access = Access::open(directory.path(), Clock::manual(1, 60_000_000, 1_800_000_000_000_000)).unwrap();
        let token = access.set_up_token().unwrap();
        announce(&access, &Tls::plain(), Some("10.0.0.7:8080".parse().unwrap())).await;
        let path = directory.path().join("access/label.txt");
        let label = std::fs::read_to_string(&path).unwrap();
        assert!(label.contains(&token) && label.contains("http://10.0.0.7:8080"), "{label}");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        access.add_person(&By::tool(), "Eva", Role::Administrator, "kettle boils at noon").await.unwrap();
        assert!(!path.exists());
        announce(&access, &Tls::plain(), None).await;
        assert!(!path.exists());
    }

    #[test]
    fn a_page_on_every_address_is_told_by_ones_that_can_be_typed() {
        for address in addresses("0.0.0.0:8080".parse().unwrap(), HttpsMode::Required) {
            assert!(
                address.starts_with("https://") && address.ends_with(":8080") && !address.contains("0.0.0.0"),
                "{address}"
            );
        }
    }
}
