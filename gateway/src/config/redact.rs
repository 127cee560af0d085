//! Hides what may be secret in a file before it is shown: users and passwords in URLs, and what stands after `?` in a web
//! address. Other secrets are in files of their own.

/// What stands in place of something hidden.
const HIDDEN: &str = "***";

/// Where an address ends in a file.
const ENDS: [char; 8] = ['"', '\'', ' ', '\t', '\n', '\r', ',', '`'];

/// The text of a configuration, comments and all, fit to be shown.
#[must_use]
pub fn redacted_toml(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        shown.push_str(before);
        let end = after.find(ENDS).unwrap_or(after.len());
        let (address, behind) = after.split_at(end);
        let scheme = before.trim_end_matches("://");
        push_address(&mut shown, address, scheme.ends_with("http") || scheme.ends_with("https"));
        rest = behind;
    }
    shown.push_str(rest);
    shown
}

/// A password may hold a `/` that should have been escaped, so that everything before the last `@` is hidden, even where
/// that hides a path.
fn push_address(shown: &mut String, address: &str, web: bool) {
    let address = address.rsplit_once('@').map_or(address, |(_, host)| {
        shown.push_str(HIDDEN);
        shown.push('@');
        host
    });
    match address.split_once('?') {
        Some((place, _)) if web => {
            shown.push_str(place);
            shown.push('?');
            shown.push_str(HIDDEN);
        }
        _ => shown.push_str(address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_passwords_in_urls_are_hidden() {
        let text = "# was mqtt://ann:s3cret@broker:1883\nurl = \"https://bob:p/w@d@host/v1?token=abc#x\" # yes\nport = 'rtu:///dev/a?baud=9600'\n";
        let shown = redacted_toml(text);
        assert_eq!(
            shown,
            "# was mqtt://***@broker:1883\nurl = \"https://***@host/v1?***\" # yes\nport = 'rtu:///dev/a?baud=9600'\n"
        );
    }

    #[test]
    fn a_file_without_urls_stays_as_it_is() {
        for text in ["", "a = 1\n# b@c\n", "://", "x = \"http://\""] {
            assert_eq!(redacted_toml(text), text);
        }
    }
}
