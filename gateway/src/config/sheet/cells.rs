//! What people and manuals write into cells, in the words of the file.

/// Headings by which a column is known, in English and German, small letters and digits only.
const HEADINGS: [&[&str]; 9] = [
    &[
        "point",
        "name",
        "pointname",
        "tag",
        "signal",
        "messpunkt",
        "punkt",
        "bezeichnung",
        "label",
        "datenpunkt",
        "parameter",
        "variable",
    ],
    &[
        "table",
        "tabelle",
        "area",
        "bereich",
        "registertype",
        "registertyp",
        "function",
        "functioncode",
        "funktion",
        "funktionscode",
        "fc",
        "objecttype",
    ],
    &[
        "address",
        "adresse",
        "addr",
        "register",
        "registeraddress",
        "registeradresse",
        "offsetaddress",
        "startaddress",
        "startadresse",
        "registernummer",
        "registernumber",
    ],
    &["kind", "type", "typ", "datatype", "datentyp", "format", "dataformat", "datenformat"],
    &["order", "wordorder", "byteorder", "reihenfolge", "wortreihenfolge", "bytereihenfolge", "endian", "endianness"],
    &[
        "scale",
        "factor",
        "faktor",
        "skalierung",
        "scaling",
        "scalefactor",
        "multiplier",
        "multiplikator",
        "gain",
        "aufloesung",
        "auflösung",
        "resolution",
    ],
    &["offset", "versatz", "shift"],
    &["unit", "einheit", "units", "einheiten", "uom"],
    &["notavailable", "na", "nichtverfügbar", "nichtverfuegbar", "invalid", "ungültig", "ungueltig", "fehlwert", "nan"],
];

const TABLES: [(&str, &[&str]); 4] = [
    (
        "holding",
        &[
            "holdingregister",
            "holdingregisters",
            "hr",
            "4x",
            "4",
            "3",
            "03",
            "fc3",
            "fc03",
            "0x03",
            "halteregister",
            "rw",
            "readwrite",
        ],
    ),
    (
        "input",
        &[
            "inputregister",
            "inputregisters",
            "ir",
            "3x",
            "04",
            "fc4",
            "fc04",
            "0x04",
            "eingangsregister",
            "eingaberegister",
        ],
    ),
    ("coil", &["coils", "0x", "01", "1", "fc1", "fc01", "0x01", "spule", "ausgang"]),
    (
        "discrete",
        &[
            "discreteinput",
            "discreteinputs",
            "di",
            "1x",
            "02",
            "2",
            "fc2",
            "fc02",
            "0x02",
            "eingang",
            "digitaleingang",
            "diskretereingang",
        ],
    ),
];

const KINDS: [(&str, &[&str]); 6] = [
    ("bool", &["bit", "boolean", "binary", "binär"]),
    ("i16", &["int16", "s16", "sint16", "short", "int", "signed16", "signed"]),
    ("u16", &["uint16", "word", "ushort", "uint", "unsigned16", "unsigned"]),
    ("i32", &["int32", "s32", "sint32", "dint", "long", "signed32"]),
    ("u32", &["uint32", "dword", "udint", "ulong", "unsigned32"]),
    ("f32", &["float", "float32", "real", "single", "ieee754", "ieee"]),
];

const ORDERS: [(&str, &[&str]); 4] = [
    ("abcd", &["big", "bigendian", "be", "1234", "msb", "msw"]),
    ("cdab", &["wordswap", "swapped", "swap", "3412", "littleendianbyteswap", "lsw"]),
    ("badc", &["byteswap", "2143", "bigendianbyteswap"]),
    ("dcba", &["little", "littleendian", "le", "4321", "lsb"]),
];

/// The column that a heading names.
pub(super) fn column(heading: &str) -> Option<usize> {
    // "Scale (factor)" and "Address [dec]" are known by what stands before the bracket.
    let heading = plain(heading.split(['(', '[']).next().unwrap_or_default());
    let exact = HEADINGS.iter().position(|names| names.contains(&heading.as_str()));
    exact.or_else(|| near(&heading))
}

/// Letters that may be wrong in a heading of so many: short words of different columns are alike.
fn slips_max(letters: usize) -> usize {
    match letters {
        ..4 => 0,
        4..6 => 1,
        6..=HEADING_CHARS_MAX => 2,
        _ => 0,
    }
}

/// Longest heading that is compared: comparing costs the product of both lengths.
const HEADING_CHARS_MAX: usize = 40;

/// The column whose heading is nearly this one; none if two columns are as near.
fn near(heading: &str) -> Option<usize> {
    let slips_max = slips_max(heading.chars().count());
    if slips_max == 0 {
        return None;
    }
    let slips = |names: &&[&str]| names.iter().map(|name| strsim::damerau_levenshtein(name, heading)).min();
    let distances: Vec<usize> = HEADINGS.iter().map(|names| slips(names).unwrap_or(usize::MAX)).collect();
    let least = distances.iter().min().copied().filter(|least| *least <= slips_max)?;
    let alone = distances.iter().filter(|distance| **distance == least).count() == 1;
    distances.iter().position(|distance| *distance == least).filter(|_| alone)
}

/// A cell in the words of the file; what is not known stays for the check to name.
pub(super) fn in_our_words(key: &str, cell: &str) -> String {
    let cell = cell.trim();
    let words: &[(&str, &[&str])] = match key {
        "table" => &TABLES,
        "kind" => &KINDS,
        "order" => &ORDERS,
        "scale" => return scale(cell),
        _ => return cell.to_owned(),
    };
    let said = plain(cell);
    let known = words.iter().find(|(word, others)| *word == said || others.contains(&said.as_str()));
    known.map_or_else(|| cell.to_owned(), |(word, _)| (*word).to_owned())
}

/// `/10`, `1/10`, `x0.1` and `*0,1` as numbers.
fn scale(cell: &str) -> String {
    let number = |text: &str| text.trim().replace(',', ".").parse::<f64>().ok().filter(|number| number.is_finite());
    if let Some((above, below)) = cell.split_once('/') {
        let above = if above.trim().is_empty() { Some(1.0) } else { number(above) };
        return match (above, number(below)) {
            (Some(above), Some(below)) if below != 0.0 => (above / below).to_string(),
            _ => cell.to_owned(),
        };
    }
    cell.trim_start_matches(['x', '*', '×', ' ']).to_owned()
}

/// A row's table and address in the words of the file, and what to say about it. Manuals count from 1 and put the number of the
/// table in front: 40001 is holding register 0.
pub(super) fn address(table: &str, cell: &str) -> (String, String, Option<String>) {
    let cell = cell.trim();
    let same = |address: String| (table.to_owned(), address, None);
    if let Some(digits) = cell.strip_suffix(['h', 'H']).filter(|digits| !digits.is_empty()) {
        return match u32::from_str_radix(digits, 16) {
            Ok(address) => same(address.to_string()),
            Err(_) => same(cell.to_owned()),
        };
    }
    if let Some(digits) = cell.strip_prefix("0x").or_else(|| cell.strip_prefix("0X")) {
        return match u32::from_str_radix(digits, 16) {
            Ok(address) => same(address.to_string()),
            Err(_) => same(cell.to_owned()),
        };
    }
    let digits: String = cell.chars().filter(|letter| !letter.is_whitespace()).collect();
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) || digits.is_empty() {
        return same(cell.to_owned());
    }
    let (front, rest) = digits.split_at(1);
    let meant = match front {
        "0" => "coil",
        "1" => "discrete",
        "3" => "input",
        "4" => "holding",
        _ => "",
    };
    let number = rest.parse::<u32>().ok().filter(|number| (1..=65_536).contains(number));
    match number.filter(|_| matches!(digits.len(), 5 | 6) && !meant.is_empty()) {
        Some(number) if table.is_empty() || table == meant => {
            let address = number - 1;
            let note =
                format!("{digits} was read as {meant} {address}: manuals count from 1 and put the table in front");
            (meant.to_owned(), address.to_string(), Some(note))
        }
        // Without zeros in front, which TOML does not have.
        _ => same(digits.parse::<u64>().map_or(digits, |number| number.to_string())),
    }
}

/// Small letters and digits.
fn plain(text: &str) -> String {
    text.to_lowercase().chars().filter(|letter| letter.is_alphanumeric()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_manuals_are_read_as_they_are_meant() {
        let read = |table: &str, cell: &str| {
            let (table, address, note) = address(table, cell);
            (table, address, note.is_some())
        };
        let is = |table: &str, address: &str, noted| (table.to_owned(), address.to_owned(), noted);
        assert_eq!(read("", "40001"), is("holding", "0", true));
        assert_eq!(read("holding", "40108"), is("holding", "107", true));
        assert_eq!(read("", "30073"), is("input", "72", true));
        assert_eq!(read("", "400100"), is("holding", "99", true));
        assert_eq!(read("", "00017"), is("coil", "16", true));
        assert_eq!(read("input", "0x10"), is("input", "16", false));
        assert_eq!(read("input", "1Fh"), is("input", "31", false));
        assert_eq!(read("input", "40001"), is("input", "40001", false));
        assert_eq!(read("holding", "107"), is("holding", "107", false));
        assert_eq!(read("", "x"), is("", "x", false));
    }

    #[test]
    fn words_of_manuals_become_those_of_the_file() {
        assert_eq!(in_our_words("kind", " Float 32 "), "f32");
        assert_eq!(in_our_words("table", "Holding Register"), "holding");
        assert_eq!(in_our_words("order", "Little Endian"), "dcba");
        assert_eq!(in_our_words("scale", "1/10"), "0.1");
        assert_eq!(in_our_words("scale", "x 0,01"), "0,01");
        assert_eq!(in_our_words("kind", "f33"), "f33");
        assert_eq!(column("Registeradresse [dez]"), Some(2));
        assert_eq!(column("Skalierung"), Some(5));
    }
}
