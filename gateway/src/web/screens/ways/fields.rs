//! The fields of the forms for sources and ways upstream: what each is called, what it means, how it is filled.

use super::draft::Draft;
use super::pasting::PastedView;
use crate::config::sheet::COLUMNS;
use crate::web::locale::Locale;

/// Words to choose from: what stands in the file, what a person reads.
type Words = &'static [(&'static str, &'static str)];

/// How a field is filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Input {
    Text,
    Number,
    Password,
    Area,
    Choice(Words),
    /// A text with the ports of this machine to choose from.
    Port,
    /// What the form only carries.
    Hidden,
}

/// A field as it is written down here.
struct Spec {
    name: &'static str,
    label: &'static str,
    hint: &'static str,
    input: Input,
    example: &'static str,
    /// When it is of use, as a class.
    only: &'static str,
}

const fn field(
    name: &'static str,
    label: &'static str,
    hint: &'static str,
    input: Input,
    example: &'static str,
) -> Spec {
    Spec { name, label, hint, input, example, only: "" }
}

impl Spec {
    const fn only(self, only: &'static str) -> Self {
        Self { only, ..self }
    }
}

const NAME: Spec =
    field("name", "Name", "How this page and the books call it: letters, digits, - and _.", Input::Text, "boiler-room");

const PARITIES: Words = &[("", "as usual"), ("none", "none"), ("even", "even"), ("odd", "odd")];

const MQTT: &[Spec] = &[
    NAME,
    field("url", "Address of the broker", "mqtt://, then host and port.", Input::Text, "mqtt://192.168.1.20:1883"),
    field("username", "User", "Empty if the broker asks for none.", Input::Text, ""),
    field(
        "_password",
        "Password",
        "Kept in a file of its own on the gateway, never in the configuration. Leave it empty to keep the one that is there.",
        Input::Password,
        "",
    ),
    field("password_file", "", "", Input::Hidden, ""),
];

const SUBSCRIPTION: &[Spec] = &[
    field("filter", "Topics", "+ stands for one level, # at the end for all that follow.", Input::Text, "plant/+/+"),
    field("device", "Device", "{1} is the first level of the topic, {2} the second.", Input::Text, "{2}"),
    field("point", "Quantity", "What is measured; levels of the topic as above.", Input::Text, "{3}"),
    field("unit", "Unit", "", Input::Text, "°C"),
    field(
        "payload.format",
        "Payload",
        "",
        Input::Choice(&[("number", "the number alone"), ("json", "a JSON document")]),
        "",
    ),
    field(
        "payload.value",
        "Where the value stands in it",
        "A JSON pointer; empty for the whole.",
        Input::Text,
        "/value",
    )
    .only("only-json"),
    field("payload.time", "Where the device's own time stands", "Empty if it sends none.", Input::Text, "/ts")
        .only("only-json"),
    field(
        "qos",
        "Delivery",
        "",
        Input::Choice(&[("", "acknowledged once it is on disk"), ("0", "as it comes: the broker may lose some")]),
        "",
    ),
];

const MODBUS: &[Spec] = &[
    NAME,
    field(
        "_reach",
        "How the bus is reached",
        "",
        Input::Choice(&[
            ("tcp", "network (Modbus TCP)"),
            ("rtu", "serial line (Modbus RTU)"),
            ("rtu-over-tcp", "serial server (RTU over TCP)"),
        ]),
        "",
    ),
    field("_host", "Address of the device", "Host and port.", Input::Text, "192.168.1.30:502").only("not-rtu"),
    field(
        "_line",
        "Port",
        "A name below /dev/serial/by-id stays the same after a restart.",
        Input::Port,
        "/dev/ttyUSB0",
    )
    .only("only-rtu"),
    field("_baud", "Speed (baud)", "19200 if it is empty.", Input::Number, "19200").only("only-rtu"),
    field("_parity", "Parity", "Even as usual.", Input::Choice(PARITIES), "").only("only-rtu"),
    field("_stop_bits", "Stop bits", "", Input::Choice(&[("", "as usual"), ("1", "1"), ("2", "2")]), "")
        .only("only-rtu"),
    field("timeout_ms", "How long a reply may take (ms)", "1000 if it is empty.", Input::Number, "1000"),
];

const UNIT: &[Spec] = &[
    field("id", "Unit id", "1 to 247; 255 for many devices on the network.", Input::Number, "1"),
    field("device", "Device", "The name of the device in every reading.", Input::Text, "meter-1"),
    field("every_ms", "Read every (ms)", "1000 if it is empty.", Input::Number, "1000"),
];

const SERIAL: &[Spec] = &[
    NAME,
    field(
        "port",
        "Port",
        "A name below /dev/serial/by-id stays the same after a restart.",
        Input::Port,
        "/dev/ttyUSB0",
    ),
    field("baud", "Speed (baud)", "115200 if it is empty.", Input::Number, "9600"),
    field("parity", "Parity", "None as usual.", Input::Choice(PARITIES), ""),
    field("device", "Device", "The name of the device in every reading.", Input::Text, "scale-1"),
    field(
        "framing.kind",
        "Where messages begin and end",
        "",
        Input::Choice(&[("delimiter", "a message a line"), ("firmware", "frames of firmware-protocols")]),
        "",
    ),
    field("framing.delimiter", "What ends a message", "Empty for the end of a line.", Input::Text, "")
        .only("not-firmware"),
    field(
        "payload.format",
        "What stands in a message",
        "",
        Input::Choice(&[("number", "one number"), ("csv", "values between separators")]),
        "",
    )
    .only("not-firmware"),
    field("payload.point", "Quantity", "What is measured.", Input::Text, "weight").only("not-firmware not-csv"),
    field("payload.unit", "Unit", "", Input::Text, "kg").only("not-firmware not-csv"),
    field("payload.separator", "Separator", "A comma if it is empty.", Input::Text, ";").only("not-firmware only-csv"),
];

const COLUMN: &[Spec] = &[
    field("point", "Quantity", "Empty to pass the column over.", Input::Text, "temp"),
    field("unit", "Unit", "", Input::Text, "°C"),
];

const HTTP: &[Spec] = &[
    NAME,
    field(
        "url",
        "Address",
        "Where readings are posted. {stream} in it becomes readings, alerts, dead-letters or gaps.",
        Input::Text,
        "https://ingest.example.com/v1/readings",
    ),
    field(
        "_token",
        "Token",
        "Sent as bearer token, kept in a file of its own on the gateway. Leave it empty to keep the one that is there, or if none is asked for.",
        Input::Password,
        "",
    ),
    field("auth.bearer_file", "", "", Input::Hidden, ""),
    field("format", "Format", "", Input::Choice(&[("", "one JSON object a line"), ("json", "one JSON array")]), ""),
    field("compression", "Compression", "", Input::Choice(&[("", "gzip, as usual"), ("none", "none")]), ""),
    field("timeout_ms", "How long an answer may take (ms)", "10000 if it is empty.", Input::Number, "10000"),
];

const KAFKA: &[Spec] = &[
    NAME,
    field(
        "brokers",
        "Brokers",
        "Host and port, one a line; those that are asked first.",
        Input::Area,
        "192.168.1.40:9092",
    ),
    field(
        "topic_prefix",
        "Beginning of the topics",
        "Readings go to the topic with this and .readings at the end.",
        Input::Text,
        "plant",
    ),
    field(
        "exactly_once",
        "Each reading",
        "Once needs transactions in the cluster, and readers that set isolation.level=read_committed.",
        Input::Choice(&[("", "exactly once"), ("false", "at least once")]),
        "",
    ),
    field(
        "compression",
        "Compression",
        "",
        Input::Choice(&[
            ("", "zstd, as usual"),
            ("lz4", "lz4"),
            ("snappy", "snappy"),
            ("gzip", "gzip"),
            ("none", "none"),
        ]),
        "",
    ),
];

/// A field as it is shown.
pub(in crate::web) struct FieldView {
    /// Its name in the form.
    pub(in crate::web) name: String,
    /// The same as an id.
    pub(in crate::web) id: String,
    /// What it is called.
    pub(in crate::web) label: &'static str,
    /// What it means.
    pub(in crate::web) hint: &'static str,
    /// `text`, `number`, `password`, `area`, `choice`, `port`, `hidden`.
    pub(in crate::web) input: &'static str,
    /// Words to choose from, with whether it is this one.
    pub(in crate::web) words: Vec<(String, &'static str, bool)>,
    /// What is in it.
    pub(in crate::web) value: String,
    /// An example.
    pub(in crate::web) example: &'static str,
    /// What is wrong with it.
    pub(in crate::web) wrong: String,
    /// When it is of use, as a class.
    pub(in crate::web) only: &'static str,
    /// Whether one looks at it first.
    pub(in crate::web) focus: bool,
}

/// A cell of a sheet.
pub(in crate::web) struct CellView {
    /// Its name in the form.
    pub(in crate::web) name: String,
    /// The heading of its column.
    pub(in crate::web) heading: &'static str,
    /// The same as an id.
    pub(in crate::web) id: String,
    /// What is in it.
    pub(in crate::web) value: String,
    /// What is wrong with it.
    pub(in crate::web) wrong: String,
    /// The list of words that are suggested.
    pub(in crate::web) list: &'static str,
}

/// The registers of a unit.
pub(in crate::web) struct SheetView {
    /// `unit[0].registers`
    pub(in crate::web) list: String,
    /// The same as an id.
    pub(in crate::web) id: String,
    /// The headings.
    pub(in crate::web) headings: Vec<&'static str>,
    /// The rows: their number, their cells, what is wrong with the whole of them.
    pub(in crate::web) rows: Vec<RowView>,
    /// Rows beyond those that are shown.
    pub(in crate::web) more: usize,
    /// Which unit it is, counted from 0.
    pub(in crate::web) unit: usize,
    /// The device whose values stand beside the rows.
    pub(in crate::web) device: String,
    /// What was just made of a pasted text.
    pub(in crate::web) pasted: Option<PastedView>,
    /// The columns: key and heading.
    pub(in crate::web) columns: Vec<(&'static str, &'static str)>,
}

/// A register.
pub(in crate::web) struct RowView {
    /// Its number.
    pub(in crate::web) index: usize,
    /// Its cells.
    pub(in crate::web) cells: Vec<CellView>,
    /// What is wrong with it.
    pub(in crate::web) wrong: Vec<String>,
    /// The point whose value stands beside it.
    pub(in crate::web) point: String,
}

/// A part of a form.
pub(in crate::web) struct Section {
    /// Its heading; empty for the first.
    pub(in crate::web) title: String,
    /// Its fields.
    pub(in crate::web) fields: Vec<FieldView>,
    /// What takes it out; empty if it cannot be.
    pub(in crate::web) drop: String,
    /// Registers.
    pub(in crate::web) sheet: Option<SheetView>,
    /// The place of what would become of a message; empty if there is none.
    pub(in crate::web) preview: String,
    /// What would become of one now.
    pub(in crate::web) becomes: String,
}

/// The parts of the form of a draft.
pub(in crate::web) fn sections(draft: &Draft, l: Locale) -> Vec<Section> {
    let (own, list, below, name): (&[Spec], &str, &[Spec], &'static str) = match draft.kind() {
        "mqtt" => (MQTT, "subscribe", SUBSCRIPTION, "Subscription {}"),
        "modbus" => (MODBUS, "unit", UNIT, "Unit {}"),
        "serial" => (SERIAL, "payload.columns", COLUMN, "Column {}"),
        "http" => (HTTP, "", &[], ""),
        "kafka" => (KAFKA, "", &[], ""),
        _ => return Vec::new(),
    };
    let mut sections = vec![section(String::new(), own, "", draft)];
    if list.is_empty() {
        return sections;
    }
    for (number, index) in draft.rows(list).into_iter().enumerate() {
        let row = format!("{list}[{index}]");
        let mut part = section(l.f1(name, number + 1), below, &row, draft);
        part.drop = format!("drop:{list}:{index}");
        match draft.kind() {
            "modbus" => part.sheet = Some(sheet(draft, &format!("{row}.registers"), &row, l)),
            "mqtt" => {
                part.preview = id_of(&format!("{row}-becomes"));
                part.becomes = becomes(draft, &row, l);
            }
            _ => {}
        }
        sections.push(part);
    }
    sections
}

/// The fields and cells that need something else, by id and what they are called.
pub(in crate::web) fn wrong(sections: &[Section], l: Locale) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for section in sections {
        let of = |label: &'static str| {
            let label = l.t(label);
            if section.title.is_empty() { label.to_owned() } else { format!("{}: {label}", section.title) }
        };
        let fields = section.fields.iter().filter(|field| !field.wrong.is_empty() && field.input != "hidden");
        found.extend(fields.map(|field| (field.id.clone(), of(field.label))));
        for row in section.sheet.iter().flat_map(|sheet| &sheet.rows) {
            let cells = row.cells.iter().filter(|cell| !cell.wrong.is_empty());
            let number = row.index + 1;
            found.extend(cells.map(|cell| (cell.id.clone(), l.f2("{}, register {}", of(cell.heading), number))));
        }
    }
    found
}

/// Every field that is not a cell, with what is wrong with it, for checks while one types.
pub(in crate::web) fn checked(draft: &Draft, l: Locale) -> Vec<Section> {
    let mut sections = sections(draft, l);
    for field in sections.iter_mut().flat_map(|section| &mut section.fields) {
        // What nobody has come to yet is not wrong yet.
        if field.value.is_empty() && field.input != "password" {
            field.wrong.clear();
        }
    }
    sections
}

fn section(title: String, specs: &[Spec], row: &str, draft: &Draft) -> Section {
    let fields = specs.iter().map(|spec| view(spec, row, draft)).collect();
    Section { title, fields, drop: String::new(), sheet: None, preview: String::new(), becomes: String::new() }
}

/// What a field means on a new one, where there is nothing yet to keep.
fn new_hint(spec: &Spec) -> &'static str {
    match spec.name {
        "_password" => "Kept in a file of its own on the gateway, never in the configuration.",
        "_token" => "Sent as bearer token, kept in a file of its own on the gateway. Empty if none is asked for.",
        _ => spec.hint,
    }
}

fn view(spec: &Spec, row: &str, draft: &Draft) -> FieldView {
    let name = if row.is_empty() { spec.name.to_owned() } else { format!("{row}.{}", spec.name) };
    let (input, words): (_, Words) = match spec.input {
        Input::Text => ("text", &[]),
        Input::Number => ("number", &[]),
        Input::Password => ("password", &[]),
        Input::Area => ("area", &[]),
        Input::Port => ("port", &[]),
        Input::Hidden => ("hidden", &[]),
        Input::Choice(words) => ("choice", words),
    };
    let value = if input == "password" { "" } else { draft.get(&name) };
    let mut words: Vec<(String, &'static str, bool)> =
        words.iter().map(|(word, say)| ((*word).to_owned(), *say, *word == value)).collect();
    // What the file says in full stays, though it says what holds without it.
    if input == "choice" && !value.is_empty() && !words.iter().any(|(_, _, here)| *here) {
        words.push((value.to_owned(), "", true));
    }
    FieldView {
        id: id_of(&name),
        label: spec.label,
        hint: if draft.was.is_empty() { new_hint(spec) } else { spec.hint },
        input,
        words,
        value: value.to_owned(),
        example: spec.example,
        wrong: draft.wrong(&name).to_owned(),
        only: spec.only,
        focus: draft.get("_focus") == name,
        name,
    }
}

fn sheet(draft: &Draft, list: &str, unit: &str, l: Locale) -> SheetView {
    let rows = draft.rows(list);
    let device = draft.get(&format!("{unit}.device"));
    let row = |index: usize| {
        let base = format!("{list}[{index}]");
        let cell = |column: &crate::config::sheet::Column| {
            let name = format!("{base}.{}", column.key);
            CellView {
                heading: column.heading,
                id: id_of(&name),
                value: draft.get(&name).to_owned(),
                wrong: draft.wrong(&name).to_owned(),
                list: match column.key {
                    "table" => "tables",
                    "kind" => "kinds",
                    "order" => "orders",
                    _ => "",
                },
                name,
            }
        };
        let wrong = draft.wrong.iter().filter(|(name, _)| name.starts_with(&base));
        let wrong = wrong.map(|(name, message)| {
            let key = name.strip_prefix(&base).unwrap_or_default().trim_start_matches('.');
            let column = COLUMNS.iter().find(|column| column.key == key);
            let message = l.say(message);
            column.map_or_else(|| message.to_string(), |column| format!("{}: {message}", l.t(column.heading)))
        });
        RowView {
            index,
            cells: COLUMNS.iter().map(cell).collect(),
            wrong: wrong.collect(),
            point: draft.get(&format!("{base}.point")).to_owned(),
        }
    };
    SheetView {
        id: id_of(list),
        headings: COLUMNS.iter().map(|column| column.heading).collect(),
        // Whatever was sent is shown again: what is not in the form would be gone with the next click.
        rows: rows.into_iter().map(row).collect(),
        more: draft.unshown(list).len(),
        unit: unit.trim_start_matches("unit[").trim_end_matches(']').parse().unwrap_or(0),
        device: device.to_owned(),
        pasted: draft.pasted.get(list).cloned(),
        columns: COLUMNS.iter().map(|column| (column.key, column.heading)).collect(),
        list: list.to_owned(),
    }
}

/// What would become of a message on a topic that was seen, or on one that the filter would take.
pub(in crate::web) fn becomes(draft: &Draft, row: &str, l: Locale) -> String {
    let get = |name: &str| draft.get(&format!("{row}.{name}"));
    let (filter, seen) = (get("filter"), draft.get(&format!("_seen.{row}")));
    let topic = if seen.is_empty() { filter.replace(['+', '#'], "abc") } else { seen.to_owned() };
    if filter.is_empty() || get("point").is_empty() {
        return String::new();
    }
    let levels: Vec<&str> = topic.split('/').collect();
    let fill = |template: &str| {
        let mut filled = String::new();
        let mut rest = template;
        while let Some((before, after)) = rest.split_once('{') {
            let Some((number, behind)) = after.split_once('}') else { break };
            filled.push_str(before);
            let level = number.parse::<usize>().ok().and_then(|number| levels.get(number.checked_sub(1)?));
            filled.push_str(level.copied().unwrap_or("?"));
            rest = behind;
        }
        filled + rest
    };
    let unit = fill(get("unit"));
    let name =
        format!("{} · {}{}{unit}", fill(get("device")), fill(get("point")), if unit.is_empty() { "" } else { " in " });
    l.f2("A message on {} becomes {}", topic, name)
}

/// A name as the id of an element.
pub(in crate::web) fn id_of(name: &str) -> String {
    let letter = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '-' };
    format!("f-{}", name.chars().map(letter).collect::<String>())
}
