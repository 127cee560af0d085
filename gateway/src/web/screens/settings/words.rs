//! Keys and descriptions of options in words for people.

use crate::web::locale::Locale;

/// A piece of a description: whether it is a name from the file, and its text.
pub(super) struct Piece {
    /// Whether it stands in the file like this.
    pub(super) code: bool,
    /// The text.
    pub(super) text: String,
}

/// Words that are written otherwise than a key.
const NAMES: [(&str, &str); 14] = [
    ("url", "URL"),
    ("id", "ID"),
    ("https", "HTTPS"),
    ("hsts", "HSTS"),
    ("qos", "QoS"),
    ("tls", "TLS"),
    ("ca", "CA"),
    ("json", "JSON"),
    ("csv", "CSV"),
    ("mqtt", "MQTT"),
    ("http", "HTTP"),
    ("crc", "CRC"),
    ("utc", "UTC"),
    ("bytes", "bytes"),
];

/// A key as words: `commit_interval_ms` becomes `Commit interval (ms)`.
pub(super) fn readable(key: &str, l: Locale) -> String {
    let (stem, unit) = match key.rsplit_once('_') {
        Some((stem, unit @ ("ms" | "s"))) => (stem, unit),
        _ => (key, ""),
    };
    let words = stem.split('_').enumerate().map(|(place, word)| {
        let known = NAMES.iter().find(|(key, _)| *key == word).map(|(_, name)| (*name).to_owned());
        known.unwrap_or_else(|| {
            if place == 0 { crate::web::words::sentence(word).replace('.', "") } else { word.to_owned() }
        })
    });
    let words = words.collect::<Vec<_>>().join(" ");
    let words = l.say(&words).into_owned();
    if unit.is_empty() { words } else { format!("{words} ({unit})") }
}

/// A description in pieces: what stands between backticks is as in the file.
pub(super) fn pieces(description: &str) -> Vec<Piece> {
    let parts = description.split('`').enumerate();
    let parts = parts.map(|(place, text)| Piece { code: place % 2 == 1, text: text.to_owned() });
    parts.filter(|piece| !piece.text.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_said_in_words_with_its_unit() {
        let words = |key| readable(key, Locale::ENGLISH);
        assert_eq!(words("commit_interval_ms"), "Commit interval (ms)");
        assert_eq!(words("url"), "URL");
        assert_eq!(words("keep_alive_s"), "Keep alive (s)");
        assert_eq!(words("client_id"), "Client ID");
        let code: Vec<_> = pieces("as `a` or b").into_iter().map(|piece| piece.code).collect();
        assert_eq!(code, [false, true, false]);
    }
}
