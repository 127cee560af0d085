//! The page's certificate as someone changes it: one of their own, back again, a new one; on the page and through the interface.

use super::entering::{WithJson, send};
use super::served::Served;
use crate::access::{Action, AuditFilter};
use crate::config::WebOptions;
use rcgen::{CertificateParams, KeyPair};
use std::fs;
use std::os::unix::fs::PermissionsExt;

/// A certificate for a name, and its key.
fn made(name: &str) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

/// The fingerprint and origin that the interface tells.
async fn told(served: &Served) -> (String, String) {
    let told = served.json("/api/v1/certificate").await["certificate"].clone();
    (told["fingerprint"].as_str().unwrap().to_owned(), told["origin"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn a_technician_brings_a_certificate_and_goes_back_without_a_terminal() {
    let served = Served::start_with_https(WebOptions::default()).await;
    let cookie = served.signed_in("anna", super::served::PASSWORD).await;
    let (own, origin) = told(&served).await;
    assert_eq!(origin, "own");
    let (certificate, key) = made("gateway.example.com");
    let own_form = "/settings/security/certificate/own";
    let wrong = made("gateway.example.com").1;
    let refused = send(served.form(own_form, &cookie, &[("certificate", &certificate), ("key", &wrong)])).await;
    assert_eq!(refused.status(), 422);
    let page = refused.text().await.unwrap();
    assert!(page.contains("belongs to none") && page.contains("BEGIN CERTIFICATE"), "{page}");
    assert!(!page.contains(wrong.lines().nth(1).unwrap()), "a key is never sent back");
    assert_eq!(told(&served).await, (own.clone(), "own".to_owned()));

    let done = send(served.form(own_form, &cookie, &[("certificate", &certificate), ("key", &key)])).await;
    assert_eq!(done.status(), 303);
    let (brought, origin) = told(&served).await;
    assert!(brought != own && origin == "given");
    let file = served.directory.path().join("access/tls/given.pem");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let page = served.seen("/settings/security", &cookie).await.text().await.unwrap();
    assert!(page.contains(&brought) && page.contains("your own") && !page.contains("PRIVATE KEY-----\n"), "{page}");

    let back = send(served.form("/settings/security/certificate/back", &cookie, &[])).await;
    assert_eq!(back.status(), 303);
    assert_eq!(told(&served).await, (own, "own".to_owned()));
    assert!(!file.exists());
    let audit = served.access.audit(None, 10, AuditFilter::default()).await.unwrap();
    let changes: Vec<_> = audit.entries.iter().filter(|entry| entry.action == Action::CertificateChanged).collect();
    assert_eq!(changes.len(), 2);
    assert!(changes.iter().all(|change| change.who == "anna" && !change.detail.contains("KEY")));
}

#[tokio::test]
async fn the_interface_does_what_the_page_does_with_the_certificate() {
    let served = Served::start_with_https(WebOptions::default()).await;
    let place = format!("{}/api/v1/certificate", served.base);
    let (own, _) = told(&served).await;
    let anew = send(served.client.post(&place)).await;
    assert_eq!(anew.status(), 200);
    assert_ne!(told(&served).await.0, own);
    assert_eq!(send(served.client.delete(&place)).await.status(), 404);
    let (certificate, key) = made("gateway.example.com");
    let put = |certificate: &str, key: &str| {
        served.client.put(&place).json(&serde_json::json!({ "certificate": certificate, "key": key }))
    };
    let refused: serde_json::Value =
        serde_json::from_str(&send(put(&certificate, "hello")).await.text().await.unwrap()).unwrap();
    assert_eq!(refused["errors"][0]["path"], "certificate", "{refused}");
    assert_eq!(send(put(&certificate, &key)).await.status(), 200);
    assert_eq!(told(&served).await.1, "given");
    assert_eq!(send(served.client.post(&place)).await.status(), 409, "a new one would serve nobody");
    let install = served.get("/api/v1/certificate/download").await;
    assert_eq!(install.headers()["content-type"], "application/x-x509-ca-cert");
    assert_eq!(install.bytes().await.unwrap()[0], 0x30, "DER begins with a sequence");
    assert_eq!(send(served.client.delete(&place)).await.status(), 204);
    assert_eq!(told(&served).await.1, "own");
}

#[tokio::test]
async fn without_https_there_is_no_certificate_to_change() {
    let served = Served::start().await;
    let told = served.json("/api/v1/certificate").await;
    assert_eq!((&told["https"], &told["certificate"]), (&"off".into(), &serde_json::Value::Null));
    let (certificate, key) = made("gateway.example.com");
    let body = serde_json::json!({ "certificate": certificate, "key": key });
    let refused = send(served.client.put(format!("{}/api/v1/certificate", served.base)).json(&body)).await;
    assert_eq!(refused.status(), 503);
    assert_eq!(served.get("/api/v1/certificate/download").await.status(), 404);
}
