//! TOML with its parts told apart, line by line, for reading.

/// Most bytes that are coloured; a longer text is shown as it is.
const BYTES_MAX: usize = 256 * 1024;

/// A line of a text.
pub(super) struct Line {
    /// Its number.
    pub(super) number: usize,
    /// Its parts, each with its class.
    pub(super) parts: Vec<(&'static str, String)>,
}

/// The lines of a text whose first line has this number.
pub(super) fn lines(text: &str, first: usize) -> Vec<Line> {
    let plain = text.len() > BYTES_MAX;
    let mut open = "";
    let lines = text.lines().zip(first..).map(|(line, number)| {
        let parts = if plain { vec![("", line.to_owned())] } else { parts(line, &mut open) };
        Line { number, parts }
    });
    lines.collect()
}

/// The parts of a line. `open` is what ends a text of several lines that was begun above.
fn parts(line: &str, open: &mut &'static str) -> Vec<(&'static str, String)> {
    let mut parts = Vec::new();
    let mut rest = line;
    if !open.is_empty() {
        let Some(end) = rest.find(*open) else { return vec![("text", line.to_owned())] };
        let (text, behind) = rest.split_at(end + open.len());
        parts.push(("text", text.to_owned()));
        (rest, *open) = (behind, "");
    } else if rest.trim_start().starts_with('[')
        && rest.find('=').is_none_or(|at| rest.find('#').is_some_and(|c| c < at))
    {
        let end = rest.rfind(']').map_or(rest.len(), |at| at + 1);
        let (head, behind) = rest.split_at(end);
        let class = if head
            .trim_start()
            .trim_start_matches('[')
            .starts_with(|c: char| c.is_alphabetic() || c == '"' || c == '_')
        {
            "head"
        } else {
            ""
        };
        parts.push((class, head.to_owned()));
        rest = behind;
    }
    while let Some(letter) = rest.chars().next() {
        let (class, length) = match letter {
            '#' => ("comment", rest.len()),
            '"' | '\'' => {
                let triple = if letter == '"' { "\"\"\"" } else { "'''" };
                match rest.strip_prefix(triple) {
                    Some(inside) => {
                        let end = inside.find(triple);
                        if end.is_none() {
                            *open = triple;
                        }
                        ("text", end.map_or(rest.len(), |end| end + 6))
                    }
                    None => ("text", text_length(rest, letter)),
                }
            }
            letter if letter.is_alphanumeric() || matches!(letter, '_' | '-' | '+') => {
                let length = rest
                    .find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '-' | '+' | '.' | ':')))
                    .unwrap_or(rest.len());
                let (word, behind) = rest.split_at(length);
                let class = if behind.trim_start().starts_with('=') {
                    "key"
                } else if word.starts_with(|c: char| c.is_ascii_digit() || c == '-' || c == '+')
                    || matches!(word, "true" | "false")
                {
                    "number"
                } else {
                    ""
                };
                (class, length)
            }
            _ => (
                "",
                rest.find(|c: char| {
                    c == '#' || c == '"' || c == '\'' || c.is_alphanumeric() || c == '_' || c == '-' || c == '+'
                })
                .unwrap_or(rest.len())
                .max(letter.len_utf8()),
            ),
        };
        let (part, behind) = rest.split_at_checked(length).unwrap_or((rest, ""));
        parts.push((class, part.to_owned()));
        rest = behind;
    }
    parts
}

/// The length of a text in quotes that begins a line's rest.
fn text_length(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, letter) in rest.char_indices().skip(1) {
        if letter == quote && !escaped {
            return at + 1;
        }
        escaped = quote == '"' && letter == '\\' && !escaped;
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn told(text: &str) -> Vec<(&'static str, String)> {
        lines(text, 1).into_iter().flat_map(|line| line.parts).filter(|(class, _)| !class.is_empty()).collect()
    }

    #[test]
    fn the_parts_of_a_line_are_told_apart() {
        let parts = told("[a.b] # c\nid = \"x # y\" # z\nn = [1, true]\nt = \"\"\"\nk = 1\n\"\"\"\nm = 2\n");
        let classes: Vec<_> = parts.iter().map(|(class, _)| *class).collect();
        assert_eq!(
            classes,
            [
                "head", "comment", "key", "text", "comment", "key", "number", "number", "key", "text", "text", "text",
                "key", "number"
            ]
        );
    }

    proptest! {
        #[test]
        fn nothing_of_a_text_is_lost(text in "[ -~\u{e4}\n\"'#=\\[\\]\\\\]{0,80}") {
            let shown: Vec<String> = lines(&text, 1)
                .into_iter()
                .map(|line| line.parts.into_iter().map(|(_, part)| part).collect())
                .collect();
            let wanted: Vec<&str> = text.lines().collect();
            prop_assert_eq!(shown, wanted);
        }
    }
}
