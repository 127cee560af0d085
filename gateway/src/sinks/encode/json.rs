//! JSON written by hand into one buffer: no allocation for a field, and bytes that no library's next version can change.

/// Hexadecimal digits, as in RFC 4648, section 8, in lower case.
const HEX: [u8; 16] = *b"0123456789abcdef";

/// The alphabet of base64 (RFC 4648, section 4).
const BASE64: [u8; 64] = *b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// One object being written, field after field.
pub(super) struct Object<'a> {
    out: &'a mut Vec<u8>,
    /// What stands before the next name.
    separator: &'static [u8],
}

impl<'a> Object<'a> {
    /// A new object.
    pub(super) fn begin(out: &'a mut Vec<u8>) -> Self {
        Self { out, separator: b"{\"" }
    }

    /// Further fields of an object that has some already.
    pub(super) fn resume(out: &'a mut Vec<u8>) -> Self {
        Self { out, separator: b",\"" }
    }

    /// The end of the object; it has at least one field.
    pub(super) fn end(&mut self) {
        self.out.push(b'}');
    }

    /// A name whose value the caller writes.
    pub(super) fn name(&mut self, name: &str) -> &mut Vec<u8> {
        self.out.extend_from_slice(self.separator);
        self.separator = b",\"";
        put_escaped(self.out, name);
        self.out.extend_from_slice(b"\":");
        self.out
    }

    pub(super) fn text(&mut self, name: &str, text: &str) -> &mut Self {
        put_text(self.name(name), text);
        self
    }

    pub(super) fn whole(&mut self, name: &str, number: u64) -> &mut Self {
        put_whole(self.name(name), number);
        self
    }

    pub(super) fn number(&mut self, name: &str, number: f64) -> &mut Self {
        put_number(self.name(name), number);
        self
    }

    pub(super) fn boolean(&mut self, name: &str, boolean: bool) -> &mut Self {
        self.name(name).extend_from_slice(if boolean { b"true" } else { b"false" });
        self
    }

    /// 32 digits.
    pub(super) fn hex128(&mut self, name: &str, number: u128) -> &mut Self {
        put_hex(self.name(name), number, 32);
        self
    }

    /// An object inside, perhaps empty.
    pub(super) fn object(&mut self, name: &str, fields: impl FnOnce(&mut Object<'_>)) -> &mut Self {
        let out = self.name(name);
        out.push(b'{');
        let mut inner = Object { out, separator: b"\"" };
        fields(&mut inner);
        inner.end();
        self
    }
}

pub(super) fn put_whole(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// The shortest digits that read back as the same number; JSON has no NaN and no infinities, they become `null`.
pub(super) fn put_number(out: &mut Vec<u8>, number: f64) {
    if number.is_finite() {
        out.extend_from_slice(ryu::Buffer::new().format_finite(number).as_bytes());
    } else {
        out.extend_from_slice(b"null");
    }
}

/// The last `digits` hexadecimal digits of a number, in quotes.
pub(super) fn put_hex(out: &mut Vec<u8>, number: u128, digits: u32) {
    out.push(b'"');
    for digit in (0..digits).rev() {
        out.push(hex_digit((number >> (4 * digit)) & 0xf));
    }
    out.push(b'"');
}

pub(super) fn put_text(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    put_escaped(out, text);
    out.push(b'"');
}

/// Text with what RFC 8259, section 7 wants escaped, in the short forms where there are some; the rest is plain UTF-8.
fn put_escaped(out: &mut Vec<u8>, text: &str) {
    let mut plain = text.as_bytes();
    while let Some(position) = plain.iter().position(|byte| *byte < 0x20 || *byte == b'"' || *byte == b'\\') {
        let (before, rest) = plain.split_at(position);
        out.extend_from_slice(before);
        let Some((byte, after)) = rest.split_first() else { break };
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x0c => out.extend_from_slice(b"\\f"),
            control => {
                out.extend_from_slice(b"\\u00");
                out.push(hex_digit(u128::from(control >> 4)));
                out.push(hex_digit(u128::from(control & 0xf)));
            }
        }
        plain = after;
    }
    out.extend_from_slice(plain);
}

/// Bytes in base64 with padding (RFC 4648, section 4), in quotes.
pub(super) fn put_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    for group in bytes.chunks(3) {
        let byte = |position: usize| u32::from(group.get(position).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            // A group of n bytes has n + 1 digits.
            let value = (bits >> (18 - 6 * digit)) & 0x3f;
            let known = digit <= group.len();
            out.push(BASE64.get(value as usize).copied().filter(|_| known).unwrap_or(b'='));
        }
    }
    out.push(b'"');
}

fn hex_digit(value: u128) -> u8 {
    usize::try_from(value).ok().and_then(|value| HEX.get(value)).copied().unwrap_or(b'0')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;

    fn written(put: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        put(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn base64_is_that_of_the_standard() {
        // RFC 4648, section 10.
        let vectors =
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("foobar", "Zm9vYmFy")];
        for (plain, coded) in vectors {
            assert_eq!(written(|out| put_base64(out, plain.as_bytes())), format!("\"{coded}\""));
        }
        assert_eq!(written(|out| put_base64(out, &[0xfb, 0xff, 0xfe])), "\"+//+\"");
    }

    proptest! {
        #[test]
        fn any_text_is_escaped_as_serde_json_does(text: String) {
            prop_assert_eq!(written(|out| put_text(out, &text)), serde_json::to_string(&text).unwrap());
        }

        #[test]
        fn any_number_reads_back_bit_by_bit(bits: u64) {
            let number = f64::from_bits(bits);
            let text = written(|out| put_number(out, number));
            if number.is_finite() {
                prop_assert_eq!(text.parse::<f64>().unwrap().to_bits(), bits);
                prop_assert!(serde_json::from_str::<serde_json::Value>(&text).unwrap().is_number());
            } else {
                prop_assert_eq!(text, "null");
            }
        }

        #[test]
        fn hexadecimal_is_that_of_the_standard_library(number: u128) {
            prop_assert_eq!(written(|out| put_hex(out, number, 32)), format!("\"{number:032x}\""));
        }
    }
}
