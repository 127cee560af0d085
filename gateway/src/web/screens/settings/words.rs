//! Keys and descriptions of options in words for people.

use crate::web::locale::Locale;
use crate::web::words::sentence;

/// A piece of a description: whether it is a name from the file, and its text.
pub(super) struct Piece {
    /// Whether it stands in the file like this.
    pub(super) code: bool,
    /// The text.
    pub(super) text: String,
}

/// `unit` names what a value is measured in, and the list of what is on a bus; `id` a gateway or device, and a number on a bus.
const UNITS: &str = "unit[]";
const UNIT_ID: &str = "unit.id";

/// What each option is called, as the forms for sources and ways upstream call it, too.
const LABELS: &[(&str, &str)] = &[
    ("id", "ID"),
    ("data_dir", "Data folder"),
    ("certificate_file", "Certificate"),
    ("hsts", "HSTS"),
    ("https", "HTTPS"),
    ("key_file", "Private key"),
    ("listen", "Address and port"),
    ("trusted_proxies", "Trusted proxies"),
    ("card_capacity", "Size of the card"),
    ("card_write_cycles", "Times it can be written"),
    ("commit_interval_max_ms", "Longest wait for the disk (ms)"),
    ("commit_interval_ms", "Longest wait of what comes only once (ms)"),
    ("daily_write_max", "Most to write a day"),
    ("disk_max", "Most space on disk"),
    ("encryption", "Encryption"),
    ("free_min", "Space left free"),
    ("keep_delivered", "Keep what was delivered"),
    ("limits", "Limits of its parts"),
    ("when_full", "When it is full"),
    ("alerts", "Alerts"),
    ("dead_letters", "Dead letters"),
    ("raw", "Raw payloads"),
    ("readings", "Readings"),
    ("age_max", "Oldest that is kept"),
    ("tags", "Tags"),
    ("name", "Name"),
    ("url", "Address"),
    ("subscribe", "Subscriptions"),
    ("client_id", "Client id"),
    ("keep_alive_s", "Sign of life every (s)"),
    ("packet_max", "Largest payload"),
    ("password_file", "Password"),
    ("username", "User"),
    ("filter", "Topics"),
    ("device", "Device"),
    ("point", "Quantity"),
    ("payload", "Payload"),
    ("qos", "Quality of service"),
    ("unit", "Unit"),
    ("time", "Where the device's own time stands"),
    ("value", "Where the value stands"),
    ("quiet_ms", "Silence between frames (ms)"),
    ("timeout_ms", "How long an answer may take (ms)"),
    ("registers", "Registers"),
    ("every_ms", "Read every (ms)"),
    ("table", "Table"),
    ("address", "Address"),
    ("kind", "Kind"),
    ("type", "Kind"),
    (UNITS, "Units on the bus"),
    (UNIT_ID, "Unit id"),
    ("not_available", "Not available"),
    ("offset", "Offset"),
    ("order", "Order"),
    ("scale", "Scale"),
    ("port", "Port"),
    ("framing", "Where messages begin and end"),
    ("baud", "Speed (baud)"),
    ("parity", "Parity"),
    ("bytes_max", "Longest message (bytes)"),
    ("delimiter", "What ends a message"),
    ("columns", "Columns"),
    ("separator", "Separator"),
    ("points", "Points"),
    ("action", "Outside the possible range"),
    ("range", "Limits"),
    ("severity", "How much it matters"),
    ("operating", "Usual range"),
    ("possible", "Possible range"),
    ("false_alarms_per_month", "False alarms a month"),
    ("brokers", "Brokers"),
    ("topic_prefix", "Beginning of the topics"),
    ("batch_max", "Largest batch (bytes)"),
    ("compression", "Compression"),
    ("devices", "Devices"),
    ("exactly_once", "Each reading exactly once"),
    ("linger_ms", "Wait for more (ms)"),
    ("link", "Link"),
    ("start", "Where it begins"),
    ("streams", "What goes there"),
    ("bytes_per_day", "Bytes a day"),
    ("bytes_per_second", "Bytes a second"),
    ("auth", "Proof of identity"),
    ("format", "Format"),
    ("bearer_file", "Token"),
    ("gateway", "Gateway"),
    ("web", "Web page"),
    ("buffer", "Buffer"),
    ("source", "Source"),
    ("sink", "Way upstream"),
    ("check", "Check"),
    ("anomaly", "Anomaly rule"),
];

/// What an option is called: `commit_interval_ms` is the `Longest wait of what comes only once (ms)`. A key that has no name
/// here is said as it is, with spaces.
pub(in crate::web) fn readable(key: &str, l: Locale) -> String {
    let label = LABELS.iter().find(|(known, _)| *known == key).map(|(_, label)| (*label).to_owned());
    l.say(&label.unwrap_or_else(|| sentence(&key.replace('_', " ")).trim_end_matches('.').to_owned())).into_owned()
}

/// What the words of the file mean, in short, where they are no words of a person.
const WORDS: &[(&str, &str, &str)] = &[
    ("type", "mqtt", "MQTT"),
    ("type", "modbus", "Modbus"),
    ("type", "serial", "serial line"),
    ("type", "http", "HTTP"),
    ("type", "kafka", "Kafka"),
    ("kind", "firmware", "frames of firmware-protocols"),
    ("kind", "delimiter", "a message a line"),
    ("format", "number", "the number alone"),
    ("format", "json", "JSON"),
    ("format", "ndjson", "one JSON object a line"),
    ("format", "csv", "values between separators"),
    ("action", "flag", "is flagged"),
    ("action", "dead_letter", "becomes a dead letter"),
    ("severity", "info", "is noted"),
    ("severity", "warning", "uncertain"),
    ("severity", "error", "bad"),
    ("order", "live_first", "new readings first"),
    ("order", "in_order", "the oldest first"),
    ("start", "now", "with the next record"),
    ("streams", "dead-letters", "dead letters"),
    ("streams", "readings", "readings"),
    ("streams", "alerts", "alerts"),
    ("streams", "gaps", "gaps"),
];

/// What a word of the file means.
pub(super) fn word_of(key: &str, word: &str) -> Option<&'static str> {
    WORDS.iter().find(|(of, known, _)| *of == key && *known == word).map(|(.., words)| *words)
}

/// What an option with tables or whole numbers in it is called, where another one has the same key.
pub(super) fn readable_as(key: &str, is_list: bool, is_number: bool, l: Locale) -> String {
    match key {
        "unit" if is_list => readable(UNITS, l),
        "id" if is_number => readable(UNIT_ID, l),
        key => readable(key, l),
    }
}

/// A description in the viewer's language and in pieces: what stands between backticks is as in the file.
pub(super) fn pieces(description: &str, l: Locale) -> Vec<Piece> {
    let said = l.say(description);
    let parts = said.split('`').enumerate();
    let parts = parts.map(|(place, text)| Piece { code: place % 2 == 1, text: text.to_owned() });
    parts.filter(|piece| !piece.text.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::edit::{self, Edit, Place};
    use crate::config::form::{self, Form, Kind, Word};
    use crate::web::locale::Language;
    use std::collections::BTreeSet;

    #[test]
    fn an_option_is_called_by_words_with_its_unit() {
        let words = |key| readable(key, Locale::ENGLISH);
        assert_eq!(words("linger_ms"), "Wait for more (ms)");
        assert_eq!(words("name_of_a_key"), "Name of a key");
        let code: Vec<_> = pieces("as `a` or b", Locale::ENGLISH).into_iter().map(|piece| piece.code).collect();
        assert_eq!(code, [false, true, false]);
    }

    /// All that is said of a place and what is below it: names, descriptions, what words mean.
    fn said(text: &str, place: &Place, variant: Option<&str>, found: &mut BTreeSet<String>) {
        let Some(form) = form::at(text, place, variant) else { return };
        found.insert(form.description.clone());
        let tag = form.tag.as_ref().filter(|_| variant.is_none());
        for word in tag.iter().flat_map(|tag| &tag.words) {
            found.insert(word.description.clone());
            said(&chosen(text, place, &form, &word.word), place, Some(&word.word), found);
        }
        for field in form.fields.iter().filter(|_| tag.is_none()) {
            let label = LABELS.iter().find(|(key, _)| *key == field.name).map(|(_, label)| (*label).to_owned());
            found.insert(label.unwrap_or_else(|| format!("a name for `{}` in LABELS", field.name)));
            found.insert(field.description.clone());
            found.extend(words(&field.kind).iter().map(|word| word.description.clone()));
            match &field.kind {
                Kind::Table | Kind::Variants { .. } => said(text, &field.path, None, found),
                Kind::List { of, .. } if matches!(**of, Kind::Table | Kind::Variants { .. }) => {
                    said(text, &field.path.item(0), None, found);
                }
                _ => {}
            }
        }
    }

    fn words(kind: &Kind) -> &[Word] {
        match kind {
            Kind::Choice { words } | Kind::Variants { words, .. } => words,
            Kind::List { of, .. } => words(of),
            _ => &[],
        }
    }

    /// A text in which the table of a place has the kind `word`.
    fn chosen(text: &str, place: &Place, form: &Form, word: &str) -> String {
        let tag = form.tag.as_ref().map(|tag| tag.name.clone()).unwrap_or_default();
        edit::apply(text, &[Edit::set(&place.key(&tag), edit::quote(word))]).unwrap_or_else(|_| text.to_owned())
    }

    #[test]
    fn every_option_of_the_reference_is_said_in_german() {
        let german = Locale { language: Language::German, decimal: ',' };
        let mut found = BTreeSet::new();
        for table in ["gateway", "web", "buffer"] {
            said("", &Place::root().key(table), None, &mut found);
        }
        for list in ["device", "source", "check", "anomaly", "sink"] {
            said("", &Place::root().key(list).item(0), None, &mut found);
        }
        assert!(found.len() > LABELS.len() * 2, "only {} texts were found", found.len());
        found.retain(|text| !text.is_empty() && !german.knows(text));
        found.extend(WORDS.iter().map(|(.., words)| (*words).to_owned()).filter(|words| !german.knows(words)));
        assert!(found.is_empty(), "not in German yet:\n{}", found.into_iter().collect::<Vec<_>>().join("\n"));
        // What the reference prints is what was walked through.
        let keys = crate::config::reference();
        let keys = keys.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`')).map(|(key, _)| key);
        let unnamed: Vec<_> = keys.filter(|key| !LABELS.iter().any(|(known, _)| known == key)).collect();
        assert_eq!(unnamed, Vec::<&str>::new());
    }
}
