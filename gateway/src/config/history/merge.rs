//! Two changes of the same text, made without knowing of each other, as one.

use similar::{DiffTag, TextDiff};
use std::ops::Range;
use std::time::Duration;

/// Longest time for finding what each side changed; behind it a larger change than there is will do.
const SEARCH_MAX: Duration = Duration::from_millis(200);

/// A change of some lines of the text before.
#[derive(Debug, PartialEq, Eq)]
struct Hunk<'t> {
    /// The lines that it takes the place of; none where it only adds.
    lines: Range<usize>,
    /// What stands there then.
    text: Vec<&'t str>,
}

/// The text with what `mine` and `theirs` changed of `before`; nothing where both changed the same lines, or lines side by side.
/// Whether it makes sense is for the check to say.
#[must_use]
pub fn merge(before: &str, mine: &str, theirs: &str) -> Option<String> {
    let (mine, theirs) = (hunks(before, mine), hunks(before, theirs));
    let mut all: Vec<&Hunk<'_>> = mine.iter().chain(theirs.iter().filter(|hunk| !mine.contains(hunk))).collect();
    all.sort_by_key(|hunk| (hunk.lines.start, hunk.lines.end));
    let lines: Vec<&str> = before.split_inclusive('\n').collect();
    let (mut merged, mut at) = (String::with_capacity(before.len() + 256), 0);
    for (index, hunk) in all.iter().enumerate() {
        // Lines that touch mean the same table or entry more often than not.
        if index > 0 && hunk.lines.start <= at {
            return None;
        }
        merged.extend(lines.get(at..hunk.lines.start)?.iter().copied());
        merged.extend(hunk.text.iter().copied());
        at = hunk.lines.end;
    }
    merged.extend(lines.get(at..)?.iter().copied());
    Some(merged)
}

fn hunks<'t>(before: &str, after: &'t str) -> Vec<Hunk<'t>> {
    let diff = TextDiff::configure().timeout(SEARCH_MAX).diff_lines(before, after);
    let lines: Vec<&'t str> = after.split_inclusive('\n').collect();
    let changed = diff.ops().iter().filter(|op| op.tag() != DiffTag::Equal);
    changed
        .map(|op| Hunk { lines: op.old_range(), text: lines.get(op.new_range()).unwrap_or_default().to_vec() })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;

    const BEFORE: &str =
        "[gateway]\nid = \"a\"\n\n[buffer]\ndisk_max = \"2 GiB\"\nkeep_delivered = \"7 days\"\n\n# The end.\n";

    #[test]
    fn changes_in_different_places_are_both_there() {
        let mine = BEFORE.replace("\"a\"", "\"b\"");
        let theirs = BEFORE.replace("7 days", "3 days") + "\n[web]\nhttps = \"off\"\n";
        let merged = merge(BEFORE, &mine, &theirs).unwrap();
        assert!(merged.contains("id = \"b\"") && merged.contains("3 days") && merged.contains("https"), "{merged}");
    }

    #[test]
    fn the_same_line_changed_twice_is_for_a_person() {
        let change = |to: &str| BEFORE.replace("2 GiB", to);
        assert_eq!(merge(BEFORE, &change("1 GiB"), &change("4 GiB")), None);
        assert_eq!(merge(BEFORE, &change("1 GiB"), &change("1 GiB")), Some(change("1 GiB")));
    }

    #[test]
    fn two_that_add_at_the_same_place_are_for_a_person_too() {
        let mine = BEFORE.to_owned() + "[[sink]]\nname = \"a\"\n";
        let theirs = BEFORE.to_owned() + "[[sink]]\nname = \"b\"\n";
        assert_eq!(merge(BEFORE, &mine, &theirs), None);
    }

    proptest! {
        #[test]
        fn a_side_that_changed_nothing_changes_nothing(before in "([a-c]?\n){0,12}", after in "([a-d]?\n){0,12}") {
            prop_assert_eq!(merge(&before, &after, &before), Some(after.clone()));
            prop_assert_eq!(merge(&before, &before, &after), Some(after));
        }
    }
}
