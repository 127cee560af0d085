//! The part of a text that is about one place: its lines, with the comment above them.

use crate::config::edit::Place;
use std::collections::HashMap;
use toml_edit::Key;

/// The lines that say what stands at a place, and the number of the first. Where it is only a value within others, those of
/// the table around it; nothing if nothing stands there.
pub(super) fn excerpt(text: &str, place: &Place) -> (usize, String) {
    let lines: Vec<&str> = text.lines().collect();
    let sections = sections(&lines);
    let mut place = place.clone();
    loop {
        let within: Vec<_> = sections.iter().filter(|section| section.place.is_within(&place)).collect();
        if let (Some(first), Some(last), false) = (within.first(), within.last(), place.steps().is_empty()) {
            let part = lines.get(first.start..last.end).unwrap_or_default();
            let blank = part.iter().rev().take_while(|line| line.trim().is_empty()).count();
            let part = part.get(..part.len() - blank).unwrap_or_default();
            return (first.start + 1, part.join("\n"));
        }
        match place.split_last() {
            Some((around, _)) => place = around,
            None => return (1, String::new()),
        }
    }
}

struct Section {
    place: Place,
    start: usize,
    end: usize,
}

/// The tables of the text by their headers. What looks like a header inside a text of several lines is taken for one: it is
/// only shown.
fn sections(lines: &[&str]) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    let mut counts: HashMap<String, usize> = HashMap::new();
    for (number, line) in lines.iter().enumerate() {
        let Some((keys, is_item)) = header(line) else { continue };
        let mut place = Place::root();
        for (depth, key) in keys.iter().enumerate() {
            place = place.key(key);
            let known = counts.get_mut(&place.to_string());
            let is_last = depth + 1 == keys.len();
            match known {
                Some(count) if is_last && is_item => {
                    *count += 1;
                    place = place.item(*count - 1);
                }
                None if is_last && is_item => {
                    counts.insert(place.to_string(), 1);
                    place = place.item(0);
                }
                Some(count) => place = place.item(*count - 1),
                None => {}
            }
        }
        let comment = lines.get(..number).unwrap_or_default().iter().rev();
        let start = number - comment.take_while(|line| line.trim_start().starts_with('#')).count();
        if let Some(last) = sections.last_mut() {
            last.end = start.max(last.start);
        }
        sections.push(Section { place, start, end: lines.len() });
    }
    sections
}

/// The keys of a header, and whether it is that of an item.
fn header(line: &str) -> Option<(Vec<String>, bool)> {
    let line = line.trim_start();
    let (inner, is_item) = match line.strip_prefix("[[") {
        Some(rest) => (rest.split_once("]]")?.0, true),
        None => (line.strip_prefix('[')?.split_once(']')?.0, false),
    };
    let keys = Key::parse(inner).ok()?;
    Some((keys.iter().map(|key| key.get().to_owned()).collect(), is_item))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const TEXT: &str = "# top\n[gateway]\nid = \"a\"\n\n# the bus\n[[source]]\nname = \"x\"\n\n[[source.unit]]\nid = 1\n\n[[source]]\nname = \"y\"\n";

    #[test]
    fn the_lines_of_a_place_come_with_their_comment_and_what_lies_below() {
        let at = |place: &str| excerpt(TEXT, &place.parse().unwrap());
        assert_eq!(at("source[0]"), (5, "# the bus\n[[source]]\nname = \"x\"\n\n[[source.unit]]\nid = 1".to_owned()));
        assert_eq!(at("source[0].unit[0]").1, "[[source.unit]]\nid = 1");
        assert_eq!(at("source[1].url"), (12, "[[source]]\nname = \"y\"".to_owned()));
        assert_eq!(at("gateway").0, 1);
        assert_eq!(at("buffer"), (1, String::new()));
    }
}
