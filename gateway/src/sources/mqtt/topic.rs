//! Topics: filters, and names made from topic levels.

/// Longest topic filter, in bytes: far above what people use, far below the protocol's 64 KiB.
const FILTER_BYTES_MAX: usize = 1024;
/// Most topic levels that a name can speak of; a topic of 1024 bytes has hardly more.
const LEVELS_MAX: usize = 128;

/// Whether a topic is meant by a filter (MQTT 3.1.1, section 4.7).
pub(super) fn matches(filter: &str, topic: &str) -> bool {
    // A wildcard in front does not take the broker's own topics (section 4.7.2).
    if topic.starts_with('$') && !filter.starts_with('$') {
        return false;
    }
    let mut levels = topic.split('/');
    for part in filter.split('/') {
        match (part, levels.next()) {
            ("#", _) => return true,
            ("+", Some(_)) => {}
            (part, Some(level)) if part == level => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

/// What is wrong with a filter, if anything.
pub(super) fn filter_problem(filter: &str) -> Option<String> {
    if filter.is_empty() || filter.len() > FILTER_BYTES_MAX || filter.contains(char::is_control) {
        return Some(format!("a filter must have 1 to {FILTER_BYTES_MAX} bytes and no control characters"));
    }
    if filter.starts_with("$share/") {
        return Some("a shared subscription would give each message to one of its members only".to_owned());
    }
    let last = filter.split('/').count() - 1;
    for (position, level) in filter.split('/').enumerate() {
        if level.contains('#') && (level != "#" || position != last) {
            return Some(format!("filter {filter:?}: `#` must be the whole last level"));
        }
        if level.contains('+') && level != "+" {
            return Some(format!("filter {filter:?}: `+` must be a whole level"));
        }
    }
    None
}

/// A name with placeholders for topic levels: `{2}` is the second level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    /// A topic level, counted from 1.
    Level(usize),
}

impl Template {
    /// Reads a template; the error names what is wrong.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let (number, after) = after.split_once('}').ok_or_else(|| format!("{text:?}: `{{` has no closing `}}`"))?;
            // One spelling only: `{01}` would be shown as `{1}`.
            let level = number.parse().ok().filter(|level: &usize| level.to_string() == number);
            let level = level.filter(|level| (1..=LEVELS_MAX).contains(level));
            let wrong = || format!("{text:?}: {{{number}}} is not a topic level; write {{1}} for the first one");
            parts.push(Part::Text(before.to_owned()));
            parts.push(Part::Level(level.ok_or_else(wrong)?));
            rest = after;
        }
        parts.push(Part::Text(rest.to_owned()));
        Ok(Self(parts))
    }

    /// The highest level that a topic of this filter may lack.
    pub(super) fn problem_with(&self, filter: &str) -> Option<String> {
        if filter.ends_with('#') {
            return None;
        }
        let levels = filter.split('/').count();
        let deepest = self.0.iter().map(|part| if let Part::Level(level) = part { *level } else { 0 }).max()?;
        let message = || format!("{{{deepest}}} is deeper than the {levels} levels of filter {filter:?}");
        (deepest > levels).then(message)
    }

    /// The name for a topic; the error names the level that it lacks.
    pub(super) fn expand(&self, topic: &str) -> Result<String, String> {
        let mut name = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => name.push_str(text),
                Part::Level(level) => name.push_str(
                    topic.split('/').nth(level - 1).ok_or_else(|| format!("the topic has no level {{{level}}}"))?,
                ),
            }
        }
        Ok(name)
    }
}

impl std::fmt::Display for Template {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|part| match part {
            Part::Text(text) => f.write_str(text),
            Part::Level(level) => write!(f, "{{{level}}}"),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn filters_match_as_the_standard_says() {
        // The examples of MQTT 3.1.1, sections 4.7.1 and 4.7.2.
        for (filter, topic, expected) in [
            ("sport/tennis/player1/#", "sport/tennis/player1", true),
            ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true),
            ("sport/#", "sport", true),
            ("#", "sport/tennis", true),
            ("sport/tennis/+", "sport/tennis/player1", true),
            ("sport/tennis/+", "sport/tennis/player1/ranking", false),
            ("sport/+", "sport", false),
            ("sport/+", "sport/", true),
            ("+/+", "/finance", true),
            ("/+", "/finance", true),
            ("+", "/finance", false),
            ("#", "$SYS/uptime", false),
            ("+/monitor/Clients", "$SYS/monitor/Clients", false),
            ("$SYS/#", "$SYS/uptime", true),
        ] {
            assert_eq!(matches(filter, topic), expected, "{filter} {topic}");
        }
    }

    #[test]
    fn unfit_filters_are_named() {
        for filter in ["", "a/#/b", "a#", "a+/b", "$share/group/a", &"x".repeat(2_000)] {
            assert!(filter_problem(filter).is_some(), "{filter}");
        }
        for filter in ["#", "+", "a/+/b/#", "/", "plant/+/+"] {
            assert_eq!(filter_problem(filter), None, "{filter}");
        }
    }

    #[test]
    fn names_are_made_from_topic_levels() {
        let template = Template::parse("{1}-{3}").unwrap();
        assert_eq!(template.to_string(), "{1}-{3}");
        assert_eq!(template.expand("plant/boiler/3").unwrap(), "plant-3");
        assert!(template.expand("plant/boiler").unwrap_err().contains("{3}"));
        assert!(template.problem_with("plant/+").unwrap().contains("2 levels"));
        assert_eq!(template.problem_with("plant/#"), None);
        assert_eq!(Template::parse("boiler").unwrap().expand("x").unwrap(), "boiler");
        for wrong in ["{0}", "{", "{a}", "{999}", "x{1", "{01}", "{+1}"] {
            assert!(Template::parse(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_taken_or_refused(filter in "[a+#/$]{0,8}", topic in "[a/$]{0,8}", text in "[{}0-9a]{0,8}") {
            drop(filter_problem(&filter));
            matches(&filter, &topic);
            if let Ok(template) = Template::parse(&text) {
                prop_assert_eq!(template.to_string(), text);
                drop(template.expand(&topic));
            }
        }
    }
}
