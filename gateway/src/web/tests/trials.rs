//! The banner of a change on trial, and what the interface says of it.

use super::served::{NOW_US, Served};
use super::settings::PLANT;
use crate::config::desk::{Doubts, Trial};
use reqwest::Method;
use serde_json::json;

impl Served {
    /// Puts a change of anna on trial.
    fn on_trial(&self, doubts: Doubts) {
        self.desk.send_modify(|state| {
            state.trial = Some(Trial {
                by: "anna".to_owned(),
                since_us: NOW_US,
                until_us: NOW_US + 300_000_000,
                until_mono_us: 360_000_000,
                changes: vec!["something".to_owned()],
                before: state.text.clone(),
                doubts,
            });
        });
    }
}

#[tokio::test]
async fn a_source_that_is_silent_on_trial_is_named_on_every_page_and_by_the_interface() {
    let (served, _works) = Served::with(PLANT).await;
    served.on_trial(Doubts { silent: vec!["meter-bus".to_owned()], ..Doubts::default() });
    let page = served.text("/points").await;
    assert!(page.contains("meter-bus has not brought a value yet"), "{page}");
    assert!(page.contains("Keep it without a value of meter-bus") && page.contains("value=\"force\""), "{page}");
    for untrue in ["no reading yet", "nothing flows", "readings flow", "btn primary\" name=\"do\" value=\"confirm"] {
        assert!(!page.contains(untrue), "{untrue}: {page}");
    }
    assert_eq!(served.json("/api/v1/config").await["trial"]["silent"], json!(["meter-bus"]));
    let refused = served.send_json(Method::POST, "/api/v1/config/confirm", json!({})).await;
    assert_eq!(refused.status(), 409);
    let told = refused.text().await.unwrap();
    assert!(told.contains("meter-bus has not brought a value since the change"), "{told}");
    assert!(!told.contains("no reading"), "{told}");

    let several = vec!["meter-bus".to_owned(), "line-2".to_owned()];
    served.on_trial(Doubts { silent: several, ..Doubts::default() });
    let page = served.client.get(format!("{}/points", served.base)).header("accept-language", "de").send().await.unwrap();
    let page = page.text().await.unwrap();
    assert!(page.contains("meter-bus und line-2 haben noch keinen Wert gebracht"), "{page}");
    assert_eq!(served.send_json(Method::POST, "/api/v1/config/confirm", json!({ "force": true })).await.status(), 200);
    assert!(!served.text("/points").await.contains("on trial"));
}
