//! The banner of a change on trial, and what the interface says of it.

use super::served::{NOW_US, Served, event_with};
use super::settings::PLANT;
use crate::access::{Action, Deed, Who};
use crate::config::desk::{Doubts, Reverted, Stuck, Trial};
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
    let page =
        served.client.get(format!("{}/points", served.base)).header("accept-language", "de").send().await.unwrap();
    let page = page.text().await.unwrap();
    assert!(page.contains("meter-bus und line-2 haben noch keinen Wert gebracht"), "{page}");
    assert_eq!(served.send_json(Method::POST, "/api/v1/config/confirm", json!({ "force": true })).await.status(), 200);
    assert!(!served.text("/points").await.contains("on trial"));
}

#[tokio::test]
async fn a_page_that_comes_back_to_a_gateway_without_a_trial_draws_no_banner() {
    let (served, _works) = Served::with(PLANT).await;
    // An event without data never reaches a page: the banner of before would stay, and count down.
    let mut events = served.get("/events?of=points").await;
    event_with(&mut events, &["event: trial\ndata:"]).await;
    served.on_trial(Doubts::default());
    event_with(&mut events, &["event: trial\ndata:", "Keep it"]).await;
    let mut again = served.get("/events?of=points").await;
    event_with(&mut again, &["event: trial\ndata:", "Keep it"]).await;
    served.desk.send_modify(|state| state.trial = None);
    event_with(&mut events, &["event: trial\ndata: \ndata:"]).await;
}

#[tokio::test]
async fn a_trial_that_the_end_of_the_gateway_has_ended_is_told_with_what_it_changed() {
    let (served, _works) = Served::with(PLANT).await;
    served.desk.send_modify(|state| {
        state.reverted = Some(Reverted {
            at_us: NOW_US,
            by: "anna".to_owned(),
            why: "the gateway started anew while it was on trial".to_owned(),
            changes: vec!["source \"meter-bus\" added".to_owned()],
            text: None,
        });
    });
    let page = served.text("/points").await;
    let told = "The gateway started anew while a change of anna was on trial; the old configuration runs.";
    assert!(page.contains(told) && page.contains("meter-bus"), "{page}");
    assert!(!page.contains("tried=1"), "the text is not known any more: {page}");
    assert!(served.text("/settings/file?tried=1").await.contains("named by Ann"), "what runs is shown");
}

#[tokio::test]
async fn a_sink_that_takes_nothing_on_trial_is_named_and_not_kept_without_a_word() {
    let (served, _works) = Served::with(PLANT).await;
    let stuck = vec![Stuck { sink: "audit".to_owned(), why: "the endpoint answers 401".to_owned() }];
    served.on_trial(Doubts { stuck, ..Doubts::default() });
    let page = served.text("/points").await;
    for part in
        ["readings flow", "audit takes nothing: the endpoint answers 401", "Keep it, though audit takes nothing"]
    {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert!(!page.contains("value=\"confirm\""), "{page}");
    assert_eq!(served.json("/api/v1/config").await["trial"]["stuck"][0]["sink"], "audit");
    let refused = served.send_json(Method::POST, "/api/v1/config/confirm", json!({})).await;
    assert_eq!(refused.status(), 409);
    let told = refused.text().await.unwrap();
    assert!(told.contains("audit takes nothing: the endpoint answers 401"), "{told}");
    assert_eq!(served.send_json(Method::POST, "/api/v1/config/confirm", json!({ "force": true })).await.status(), 200);
}

#[tokio::test]
async fn a_change_that_takes_the_last_source_away_says_so() {
    let (served, _works) = Served::with(PLANT).await;
    served.on_trial(Doubts { no_source: true, ..Doubts::default() });
    let page = served.text("/points").await;
    assert!(page.contains("no source is left") && page.contains("Keep it without any source"), "{page}");
    assert!(!page.contains("readings flow") && !page.contains("value=\"confirm\""), "{page}");
    let refused = served.send_json(Method::POST, "/api/v1/config/confirm", json!({})).await;
    assert_eq!(refused.status(), 409);
    assert!(refused.text().await.unwrap().contains("no source is left"));
}

#[tokio::test]
async fn what_the_gateway_did_by_itself_is_said_of_the_gateway() {
    let (served, _works) = Served::with(PLANT).await;
    let deed = Deed {
        who: Who::gateway(),
        from: None,
        action: Action::ConfigurationTakenBack,
        subject: "configuration".to_owned(),
        detail: "the change of anna went back by itself".to_owned(),
    };
    served.access.record(deed).await.unwrap();
    let page = served.text("/settings/audit").await;
    let entry = page.split("took back the change on trial").next().unwrap().rsplit("<p>").next().unwrap();
    assert!(entry.contains("the gateway") && !entry.contains("command line"), "{entry}");
}
