//! "did you mean": the nearest of the words that may stand somewhere.

/// Longest word that is compared, in bytes: no key or choice is longer, and comparing costs the product of both lengths.
const COMPARED_BYTES_MAX: usize = 64;

/// The word nearest to `found`, if it is near enough to be a slip: one letter in three, and always one.
pub(super) fn nearest<'a>(found: &str, words: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if found.len() > COMPARED_BYTES_MAX {
        return None;
    }
    let slips_max = (found.chars().count() / 3).max(1);
    let near = words.into_iter().map(|word| (distance(found, word), word));
    near.filter(|(slips, word)| *slips <= slips_max && *slips < word.chars().count()).min().map(|(_, word)| word)
}

/// Letters changed, added, left out or swapped; small and capital letters, `-` and `_` are taken for the same.
fn distance(a: &str, b: &str) -> usize {
    let plain = |text: &str| text.to_lowercase().replace('-', "_");
    strsim::damerau_levenshtein(&plain(a), &plain(b))
}

/// The longest part of a found word that is repeated in a message, in characters.
const SHOWN_CHARS_MAX: usize = 40;

/// A word from the file as it appears in a message: quoted, escaped and shortened.
pub(super) fn quoted(found: &str) -> String {
    if found.chars().count() <= SHOWN_CHARS_MAX {
        return format!("{found:?}");
    }
    format!("{:?}", found.chars().take(SHOWN_CHARS_MAX).chain(['…']).collect::<String>())
}

/// `; did you mean "x"?`, or nothing.
pub(super) fn did_you_mean(nearest: Option<&str>) -> String {
    nearest.map(|word| format!("; did you mean {word:?}?")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognised_and_another_word_is_not() {
        let words = ["registers", "device", "id", "every_ms"];
        assert_eq!(nearest("registres", words), Some("registers"));
        assert_eq!(nearest("Every-ms", words), Some("every_ms"));
        assert_eq!(nearest("ix", words), Some("id"));
        assert_eq!(nearest("colour", words), None);
        assert_eq!(nearest("", words), None);
    }

    #[test]
    fn a_long_word_is_shortened() {
        assert!(quoted(&"x".repeat(10_000)).len() < 60);
        assert_eq!(quoted("a\nb"), "\"a\\nb\"");
    }
}
