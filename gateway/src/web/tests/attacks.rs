//! What someone tries who is not to get in, or not to get further: each refused, and the next honest request answered.

use super::entering::{WithJson, send};
use super::served::{PASSWORD, PATIENCE, Served, client};
use crate::access::{Action, AuditFilter, By, Right, Rights, Role};
use crate::config::{HttpsMode, WebOptions};
use reqwest::header::HeaderMap;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// What comes back to bytes that no client library would send, until the connection ends.
async fn raw(served: &Served, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(served.base.trim_start_matches("http://")).await.unwrap();
    stream.write_all(request).await.ok();
    let mut answer = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap().ok();
    String::from_utf8_lossy(&answer).into_owned()
}

/// A served page that believes the proxy on its own machine.
async fn behind_a_proxy() -> Served {
    let options = WebOptions {
        https: HttpsMode::Offered,
        trusted_proxies: vec!["127.0.0.1".to_owned()],
        ..WebOptions::default()
    };
    Served::start_with_https(options).await
}

async fn signs_in(served: &Served, password: &str, headers: &[(&str, &str)]) -> reqwest::Response {
    let mut form = served.form("/sign-in", "", &[("name", "anna"), ("password", password)]);
    for (name, value) in headers {
        form = form.header(*name, *value);
    }
    send(form).await
}

#[tokio::test]
async fn no_address_leads_out_of_the_page_into_the_files_of_the_board() {
    let served = Served::start().await;
    let cookie = served.signed_in("anna", PASSWORD).await;
    let climbs = [
        "../../../../etc/passwd",
        "..%2f..%2f..%2f..%2fetc%2fpasswd",
        "%2e%2e/%2e%2e/etc/passwd",
        "..\\..\\etc\\passwd",
        "%00",
        "....//etc/passwd",
    ];
    for root in ["/static/", "/settings/templates/", "/settings/history/", "/sources/", "/api/v1/config/history/"] {
        for climb in climbs {
            let request =
                format!("GET {root}{climb} HTTP/1.1\r\nhost: x\r\ncookie: {cookie}\r\nconnection: close\r\n\r\n");
            let answer = raw(&served, request.as_bytes()).await;
            assert!(!answer.contains("root:") && !answer.starts_with("HTTP/1.1 5"), "{root}{climb}: {answer}");
            assert!(!answer.starts_with("HTTP/1.1 200"), "{root}{climb}: {answer}");
        }
    }
    let people = served.directory.path().join("access/people.json");
    for name in ["../access/people.json", "../../access/people.json", "/etc/passwd", "."] {
        let answer = send(served.form("/settings/security/secret", &cookie, &[("name", name)])).await;
        assert!(answer.status().is_client_error(), "{name}: {}", answer.status());
    }
    assert!(people.exists());
}

#[tokio::test]
async fn a_header_that_is_too_large_is_refused_and_two_lengths_end_the_connection() {
    let served = Served::start().await;
    let long = format!("GET /live HTTP/1.1\r\nhost: x\r\nx-filler: {}\r\n\r\n", "a".repeat(40_000));
    assert!(raw(&served, long.as_bytes()).await.starts_with("HTTP/1.1 431"));
    let many = format!("x-filler: {}\r\n", "a".repeat(400)).repeat(90);
    assert!(
        raw(&served, format!("GET /live HTTP/1.1\r\nhost: x\r\n{many}\r\n").as_bytes())
            .await
            .starts_with("HTTP/1.1 431")
    );
    // What a proxy in front takes for the body of the first request is no request of its own here.
    let two = b"POST /sign-in HTTP/1.1\r\nhost: x\r\ncontent-length: 48\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET /live HTTP/1.1\r\nhost: x\r\nx-smuggled: yes\r\n\r\n";
    let answer = raw(&served, two).await;
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    assert_eq!(served.get("/live").await.status(), 200);
}

#[tokio::test]
async fn another_site_changes_no_certificate_in_a_signed_in_browser() {
    let served = Served::start_with_https(WebOptions::default()).await;
    let cookie = served.signed_in("anna", PASSWORD).await;
    let before = served.text("/api/v1/certificate").await;
    for path in
        ["/settings/security/certificate", "/settings/security/certificate/own", "/settings/security/certificate/back"]
    {
        for (name, value) in [("origin", "https://evil.example"), ("sec-fetch-site", "cross-site")] {
            let form = served.form(path, &cookie, &[("certificate", "x"), ("key", "y")]);
            assert_eq!(send(form.header(name, value)).await.status(), 403, "{path} {name}");
        }
    }
    assert_eq!(served.text("/api/v1/certificate").await, before);
}

#[tokio::test]
async fn who_sends_wrong_tokens_is_slowed_down_and_written_down_and_a_right_one_never_waits() {
    let served = Served::start().await;
    let stranger = client(HeaderMap::new());
    let wrong = |token: String| stranger.get(format!("{}/api/v1/status", served.base)).bearer_auth(token);
    let mut statuses = Vec::new();
    for n in 0..8 {
        statuses.push(send(wrong(format!("fbt_{n:043}"))).await.status().as_u16());
    }
    assert_eq!(statuses, [401, 401, 401, 401, 401, 429, 429, 429]);
    assert_eq!(served.get("/api/v1/status").await.status(), 200, "the right one, from the same address");
    served.signed_in("anna", PASSWORD).await;
    let filter = AuditFilter { action: Some(Action::SignInRefused), ..AuditFilter::default() };
    let audit = served.access.audit(None, 50, filter).await.unwrap();
    assert_eq!(audit.entries.len(), 8);
    assert!(
        audit.entries.iter().all(|entry| entry.detail.contains("wrong API token") && !entry.detail.contains("fbt_"))
    );
}

#[tokio::test]
async fn strangers_who_guess_do_not_keep_a_browser_out_that_signed_in_before() {
    let served = Served::start().await;
    let answer = signs_in(&served, PASSWORD, &[]).await;
    let cookies: Vec<String> =
        answer.headers().get_all("set-cookie").iter().map(|cookie| cookie.to_str().unwrap().to_owned()).collect();
    let device = cookies.iter().find(|cookie| cookie.starts_with("forebay-device=")).unwrap();
    assert!(device.contains("HttpOnly") && device.contains("SameSite=Strict"), "{device}");
    let device = device.split(';').next().unwrap();
    for _ in 0..5 {
        assert_eq!(signs_in(&served, "a wrong password", &[]).await.status(), 401);
    }
    let refused = signs_in(&served, PASSWORD, &[]).await;
    assert_eq!(refused.status(), 429);
    assert!(refused.text().await.unwrap().contains("data-wait=\"1\""), "the button counts down");
    assert_eq!(signs_in(&served, PASSWORD, &[("cookie", device)]).await.status(), 303);
    // It is no key: without the password it opens nothing.
    assert_eq!(served.seen("/", device).await.status(), 303);
    assert_eq!(signs_in(&served, "a wrong password", &[("cookie", device)]).await.status(), 401);
}

#[tokio::test]
async fn a_trusted_proxy_says_who_asks_and_nobody_else_is_believed() {
    let served = behind_a_proxy().await;
    for _ in 0..5 {
        // What stands before the last address is what the stranger wrote.
        let headers = [("x-forwarded-for", "10.0.0.1, 192.0.2.9")];
        assert_eq!(signs_in(&served, "a wrong password", &headers).await.status(), 401);
    }
    assert_eq!(signs_in(&served, PASSWORD, &[("x-forwarded-for", "198.51.100.1, 192.0.2.9")]).await.status(), 429);
    // The name waits, too, so another name from another address shows that the address is not the proxy's.
    served.add("ben", Role::Viewer, PASSWORD).await;
    let ben = served.form("/sign-in", "", &[("name", "ben"), ("password", PASSWORD)]);
    let ben = send(ben.header("x-forwarded-for", "192.0.2.10:4711").header("x-forwarded-proto", "https")).await;
    assert_eq!(ben.status(), 303);
    let cookie = ben.headers()["set-cookie"].to_str().unwrap();
    assert!(cookie.starts_with("__Host-forebay-session=") && cookie.contains("Secure"), "{cookie}");
    let audit = served.access.audit(None, 50, AuditFilter::default()).await.unwrap();
    let from = |action| audit.entries.iter().find(|entry| entry.action == action).unwrap().from.clone().unwrap();
    assert_eq!((from(Action::SignInRefused).as_str(), from(Action::SignedIn).as_str()), ("192.0.2.9", "192.0.2.10"));

    let alone = Served::start().await;
    for n in 0..5 {
        let spoofed = format!("192.0.2.{n}");
        signs_in(&alone, "a wrong password", &[("x-forwarded-for", &spoofed)]).await;
    }
    assert_eq!(signs_in(&alone, PASSWORD, &[("x-forwarded-for", "192.0.2.77")]).await.status(), 429);
}

#[tokio::test]
async fn one_token_does_not_take_all_places_of_searches() {
    let served = Served::start().await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("mqtt://{}", silent.local_addr().unwrap());
    let by = By::tool();
    let rights: Rights = [Right::Configure].into_iter().collect();
    let other = served.access.make_token(&by, "other", rights, None).await.unwrap().token;
    let place = format!("{}/api/v1/discover/mqtt", served.base);
    let body = serde_json::json!({ "url": url, "seconds": 5 });
    let first = send(served.client.post(&place).json(&body));
    let second = send(served.client.post(&place).json(&body));
    let rest = async {
        // Both are under way once the broker has heard of them.
        let _held = (silent.accept().await.unwrap(), silent.accept().await.unwrap());
        let third = send(served.client.post(&place).json(&body)).await;
        let others = send(
            client(HeaderMap::new())
                .post(&place)
                .bearer_auth(&other)
                .json(&serde_json::json!({ "url": "mqtt://127.0.0.1:1", "seconds": 1 })),
        )
        .await;
        (third.status().as_u16(), others.status().as_u16())
    };
    let ((third, others), ..) = tokio::join!(rest, first, second);
    assert_eq!((third, others), (503, 422), "the other one is told that nobody listens there");
}
