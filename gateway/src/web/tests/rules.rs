//! Rules as someone makes them by hand: which points they hold, what is wrong with them, what becomes of the file.

use super::served::{Served, good};
use crate::config;

const TEXT: &str = "[gateway]\nid = \"plant-7\"\n\n# Agreed with Ann.\n[[check]]\npoints = \"boiler-*/temperature\" # all boilers\nrange = { operating = [60.0, 80.0] }\n\n[[anomaly]]\npoints = \"*/flow\"\n";

/// A page over these rules, and three points that it knows.
async fn plant() -> (Served, tokio::task::JoinSet<()>) {
    let (served, works) = Served::with(TEXT).await;
    for (device, point, unit) in
        [("boiler-1", "temperature", "°C"), ("boiler-2", "temperature", "°C"), ("tank-1", "level", "m")]
    {
        served.registry.intern(device, point, unit, "boiler-bus").unwrap();
    }
    served.status.update_points(|points| *points = vec![Some(good(71.5)), Some(good(70.0)), None]);
    (served, works)
}

fn check(served: &Served) -> config::Config {
    config::parse("text", served.text_now()).unwrap().config
}

#[tokio::test]
async fn limits_are_filled_into_fields_and_the_comments_of_the_file_survive() {
    let (served, _works) = plant().await;
    let form = served.get("/settings/rules/edit?at=check[0]").await.text().await.unwrap();
    assert!(form.contains("name=\"range.operating[1]\" value=\"80\""), "{form}");
    assert!(form.contains("Matches 2 of 3 points"), "{form}");
    assert!(form.contains(">71.5 °C<"), "the value now stands beside: {form}");
    let revision = served.revision();
    let fields = [
        (":at", "check[0]"),
        (":base", revision.as_str()),
        ("points", "boiler-*/temperature"),
        ("range.operating[0]", "55,5"),
        ("range.operating[1]", "80"),
        ("range.possible[0]", "\u{2212}40"),
        ("range.possible[1]", "150"),
        ("severity", "warning"),
        ("action", "dead_letter"),
    ];
    let answer = served.post("/settings/rules/edit?kind=limits", &fields).await;
    assert_eq!(answer.status(), 303, "{}", answer.text().await.unwrap());
    let text = served.text_now();
    assert!(text.contains("# Agreed with Ann.") && text.contains("# all boilers"), "{text}");
    assert!(!text.contains("severity"), "what is usual is not written: {text}");
    let range = check(&served).check[0].range.clone().unwrap();
    assert_eq!((range.operating, range.possible), (Some([55.5, 80.0]), Some([-40.0, 150.0])));
}

#[tokio::test]
async fn what_is_wrong_stands_at_its_field_and_nothing_is_changed() {
    let (served, _works) = plant().await;
    let revision = served.revision();
    let with = |low: &'static str, high: &'static str, points: &'static str| {
        vec![
            (":at", "check[0]".to_owned()),
            (":base", revision.clone()),
            ("points", points.to_owned()),
            ("range.operating[0]", low.to_owned()),
            ("range.operating[1]", high.to_owned()),
        ]
    };
    for (fields, slot, said) in [
        (with("90", "abc", "a/*"), "e-f-range-operating-1-", "Expected a number"),
        (with("90", "60", "a/*"), "e-f-range-operating", "The lowest value comes first"),
        (with("", "60", "a/*"), "e-f-range-operating-0-", "belong together"),
        (with("", "", "a/*"), "e-f-range", "No limits are given"),
        (with("1", "2", ""), "e-f-points", "Say which points"),
        (with("1", "2", "boiler"), "e-f-points", "device/point"),
    ] {
        let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let answer = served.post("/settings/rules/edit?kind=limits", &fields).await;
        assert_eq!(answer.status(), 422);
        let page = answer.text().await.unwrap();
        let at = page.find(&format!("id=\"{slot}\"")).unwrap_or_else(|| panic!("no place {slot}: {page}"));
        let wrong = &page[at..page[at..].find("</div>").unwrap() + at];
        assert!(wrong.contains(said), "{slot} says {wrong:?}, not {said:?}");
    }
    assert_eq!(served.text_now(), TEXT);
}

#[tokio::test]
async fn a_pattern_is_counted_as_it_is_typed_and_names_that_are_markup_stay_text() {
    let (served, _works) = plant().await;
    served.registry.intern("<script>x", "temperature", "K", "boiler-bus").unwrap();
    let revision = served.revision();
    let fields = [(":at", "check[1]"), (":base", revision.as_str()), ("points", "*/temperature")];
    let part = served.post("/settings/rules/points?kind=limits", &fields).await.text().await.unwrap();
    assert!(part.contains("Matches 3 of 4 points"), "{part}");
    assert!(part.contains("different units (K, °C)"), "{part}");
    assert!(part.contains("boiler-*/temperature"), "the other rule for them is named: {part}");
    assert!(!part.contains("<script>x"), "{part}");
}

#[tokio::test]
async fn the_page_of_a_point_leads_to_its_limits_or_to_new_ones() {
    let (served, _works) = plant().await;
    let page = served.get("/points/0").await.text().await.unwrap();
    assert!(page.contains("/settings/rules/edit?at=check%5B0%5D") && page.contains("Change limits"), "{page}");
    let page = served.get("/points/2").await.text().await.unwrap();
    assert!(page.contains("Set limits"), "{page}");
    let new = served.get("/settings/rules/new?kind=limits&points=tank-1%2Flevel").await.text().await.unwrap();
    assert!(new.contains("Matches 1 of 3 points") && new.contains("check[1]"), "{new}");
    let revision = served.revision();
    let fields = [
        (":at", "check[1]"),
        (":base", revision.as_str()),
        ("points", "tank-1/level"),
        ("range.operating[0]", "1"),
        ("range.operating[1]", "4"),
        ("range.possible[0]", ""),
        ("range.possible[1]", ""),
        ("severity", "error"),
        ("action", "flag"),
    ];
    let answer = served.post("/settings/rules/edit?kind=limits", &fields).await;
    assert_eq!(answer.headers()["location"], "/points/2", "one sees what the limits do");
    assert_eq!(check(&served).check[1].points, "tank-1/level");
}

#[tokio::test]
async fn every_rule_is_listed_in_words_and_says_how_many_points_it_holds() {
    let (served, _works) = plant().await;
    let list = served.get("/settings/rules").await.text().await.unwrap();
    for said in [
        "normal from 60 to 80\u{a0}°C",
        "holds 2 of 3 points",
        "about 4 false alarms a month",
        "holds no point that is known yet",
    ] {
        assert!(list.contains(said), "{said}: {list}");
    }
    let revision = served.revision();
    let fields = [(":at", "anomaly[0]"), (":base", revision.as_str()), (":do", "remove")];
    assert_eq!(served.post("/settings/item", &fields).await.headers()["location"], "/settings/rules");
    assert!(check(&served).anomaly.is_empty());
}

#[tokio::test]
async fn a_form_made_from_an_older_text_meets_the_newer_one() {
    let (served, _works) = plant().await;
    let fields = [(":at", "anomaly[0]"), (":base", "0000"), ("points", "*/flow"), ("false_alarms_per_month", "30")];
    assert_eq!(served.post("/settings/rules/edit?kind=unusual", &fields).await.status(), 409);
    assert_eq!(served.text_now(), TEXT);
}
