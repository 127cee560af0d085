//! Long sheets of registers in the form of a source, as a browser meets them: what is not shown stays, and nothing is lost unsaid.

use super::served::{PATIENCE, Served, desk_state, good};
use crate::config::desk::DeskRequest;
use reqwest::{Response, StatusCode};
use tokio::time::timeout;

const REGISTERS: &str = "unit[0].registers";

/// A configuration whose bus has this many registers.
fn bus(registers: usize) -> String {
    let register = |at: usize| {
        format!("  {{ point = \"p{at:04}\", table = \"holding\", address = {at}, kind = \"u16\" }}, # number {at}\n")
    };
    let registers: String = (0..registers).map(register).collect();
    format!(
        "[gateway]\nid = \"plant-7\"\n\n[[source]]\ntype = \"modbus\"\nname = \"boiler-bus\"\nurl = \"tcp://10.0.0.9:502\"\n\n[[source.unit]]\nid = 1\ndevice = \"boiler-3\"\nevery_ms = 5000\nregisters = [\n{registers}]\n"
    )
}

/// What a browser would send of a form: the name and the value of every input, in order.
fn inputs(page: &str) -> Vec<(String, String)> {
    let form = page.split("<form method=\"post\" class=\"way-form").nth(1).unwrap();
    let attribute = |tag: &str, name: &str| {
        let value = tag.split(&format!(" {name}=\"")).nth(1)?.split('"').next()?;
        Some(value.replace("&#34;", "\"").replace("&#38;", "&"))
    };
    let tags = form.split("<input").skip(1).map(|tag| tag.split('>').next().unwrap());
    let known = tags.filter(|tag| !tag.contains("type=\"checkbox\""));
    let mut fields: Vec<_> =
        known.filter_map(|tag| Some((attribute(tag, "name")?, attribute(tag, "value").unwrap_or_default()))).collect();
    fields.retain(|(name, _)| !name.starts_with("_ask."));
    fields.push(("_reach".to_owned(), "tcp".to_owned()));
    fields
}

fn put(fields: &mut [(String, String)], name: &str, value: &str) {
    let field = fields.iter_mut().find(|(known, _)| known == name);
    value.clone_into(&mut field.unwrap_or_else(|| panic!("the form has no {name}")).1);
}

/// Sends the form with a button.
async fn send(served: &Served, path: &str, fields: &[(String, String)], button: &str) -> Response {
    let escape = |text: &str| {
        let letter =
            |byte: u8| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") };
        text.bytes().map(letter).collect::<String>()
    };
    let sent = fields.iter().map(|(name, value)| format!("{}={}", escape(name), escape(value)));
    let body: Vec<_> = sent.chain([format!("_do={}", escape(button))]).collect();
    let request = served.client.post(format!("{}{path}", served.base));
    let request = request.header("content-type", "application/x-www-form-urlencoded").body(body.join("&"));
    timeout(PATIENCE, request.send()).await.unwrap().unwrap()
}

/// Saves the form of the bus, and tells the text that was handed in.
async fn saved(served: &mut Served, fields: &[(String, String)]) -> String {
    let text = async |asked: &mut tokio::sync::mpsc::Receiver<DeskRequest>| {
        let Some(DeskRequest::Try(change, done)) = timeout(PATIENCE, asked.recv()).await.unwrap() else { panic!() };
        done.send(Ok(Vec::new())).unwrap();
        change.text
    };
    let mut asked = std::mem::replace(&mut served.asked, tokio::sync::mpsc::channel(1).1);
    let (answer, text) = tokio::join!(send(served, "/sources/boiler-bus/edit", fields, "save"), text(&mut asked));
    served.asked = asked;
    assert_eq!(answer.status(), StatusCode::SEE_OTHER);
    text
}

#[tokio::test]
async fn registers_that_the_form_does_not_show_stay_when_it_is_saved() {
    let mut served = Served::start().await;
    served.desk.send_replace(desk_state(&bus(800)));
    let page = served.text("/sources/boiler-bus/edit").await;
    let mut fields = inputs(&page);
    put(&mut fields, "unit[0].every_ms", "2000");
    let text = saved(&mut served, &fields).await;
    assert_eq!(text, bus(800).replace("every_ms = 5000", "every_ms = 2000"));
    assert!(page.contains("300 further registers are not shown here and stay as they are"), "{page}");
    assert_eq!(served.text("/sources/boiler-bus/registers.csv").await.lines().count(), 801);
}

#[tokio::test]
async fn shown_registers_are_renamed_taken_out_and_added_before_those_that_are_not_shown() {
    let mut served = Served::start().await;
    served.desk.send_replace(desk_state(&bus(800)));
    let path = "/sources/boiler-bus/edit";
    let mut fields = inputs(&served.text(path).await);
    put(&mut fields, &format!("{REGISTERS}[1].point"), "renamed");
    let page = send(&served, path, &fields, &format!("drop:{REGISTERS}:0")).await.text().await.unwrap();
    let page = send(&served, path, &inputs(&page), &format!("add:{REGISTERS}")).await.text().await.unwrap();
    let page = send(&served, path, &inputs(&page), &format!("add:{REGISTERS}")).await.text().await.unwrap();
    assert!(page.contains("300 further registers"), "{page}");
    let mut fields = inputs(&page);
    for (at, point) in [(499, "new-a"), (500, "new-b")] {
        put(&mut fields, &format!("{REGISTERS}[{at}].point"), point);
        put(&mut fields, &format!("{REGISTERS}[{at}].table"), "input");
        put(&mut fields, &format!("{REGISTERS}[{at}].address"), &at.to_string());
        put(&mut fields, &format!("{REGISTERS}[{at}].kind"), "u16");
    }
    let text = saved(&mut served, &fields).await;
    let points: Vec<_> = text.split("point = \"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    assert_eq!(points.len(), 801, "{text}");
    assert_eq!((points[0], points[498], points[499], points[500]), ("renamed", "p0499", "new-a", "new-b"));
    assert_eq!((points[501], points[800]), ("p0500", "p0799"));
}

#[tokio::test]
async fn a_problem_with_a_register_that_is_not_shown_says_which_it_is() {
    let served = Served::start().await;
    served.desk.send_replace(desk_state(&bus(800)));
    let path = "/sources/boiler-bus/edit";
    let mut fields = inputs(&served.text(path).await);
    put(&mut fields, &format!("{REGISTERS}[3].point"), "p0700");
    let answer = send(&served, path, &fields, "save").await;
    assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let page = answer.text().await.unwrap();
    let page = page.split("<form").next().unwrap();
    assert!(page.contains("ource[0].unit[0].registers[700].point") && page.contains("in row 4 already"), "{page}");
}

#[tokio::test]
async fn a_paste_of_more_rows_than_the_form_holds_says_what_was_not_taken() {
    let served = Served::start().await;
    let row = |at: usize| format!("p{at}\tholding\t{at}\tu16\n");
    let sheet: String = (0..1_500).map(row).collect();
    let own = [("type", "modbus"), ("name", "bus"), ("_host", "10.0.0.9"), ("_reach", "tcp"), ("unit[0].id", "1")];
    let mut fields: Vec<_> = own.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    fields.push((format!("_paste.{REGISTERS}"), sheet));
    let page = send(&served, "/sources/new", &fields, &format!("paste:{REGISTERS}")).await.text().await.unwrap();
    assert!(page.contains("600 of 1500 rows were taken over."), "{page}");
    assert!(page.contains("the last 900 rows were not taken. The file takes longer sheets."), "{page}");
    let shown = inputs(&page).iter().filter(|(name, _)| name.ends_with("].point")).count();
    assert_eq!(shown, 600, "what was taken over is in the form");
    fields.pop();
    fields.push((format!("_paste.{REGISTERS}"), "x".repeat(1_050_000)));
    let page = send(&served, "/sources/new", &fields, &format!("paste:{REGISTERS}")).await.text().await.unwrap();
    assert!(page.contains("the text is larger than 1024 KiB; paste it in parts"), "{page}");
}

#[tokio::test]
async fn values_come_as_data_for_the_registers_that_are_asked_for() {
    let served = Served::start().await;
    served.desk.send_replace(desk_state(&bus(3)));
    served.point("boiler-3", "p0000", good(52.5));
    served.point("boiler-3", "p0001", good(1.0));
    let page = served.text("/sources/boiler-bus/edit").await;
    assert!(page.contains("data-values=\"/sources/boiler-bus/values\" data-device=\"boiler-3\""), "{page}");
    assert!(page.contains("data-point=\"p0002\"") && !page.contains("every 2s"), "{page}");
    let values = served.json("/sources/boiler-bus/values?device=boiler-3&point=p0000&point=p0002").await;
    assert_eq!(values, serde_json::json!({"p0000": ["52.5 °C", "good"]}));
}
