//! Listens on a serial port at the usual speeds, and guesses what it hears.

use super::{Column, Framing, LinePayload, SerialOptions};
use crate::decode;
use crate::sources::SourceOptions;
use crate::sources::discover::DiscoverError;
use crate::sources::line::{self, LineSettings, Parity, baud_problem};
use crate::sources::tryout::owner;
use crate::tryout::excerpt;
use firmware_protocols::Decoder;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

/// The speeds that devices are set to, the likeliest first.
const BAUDS_USUAL: [u32; 7] = [115_200, 9_600, 19_200, 38_400, 57_600, 4_800, 2_400];
/// Most speeds that are tried in one go.
const BAUDS_MAX: usize = 12;
/// Longest time at one speed, in seconds: devices that send by themselves mostly do so every second.
const SECONDS_MAX: f64 = 2.0;
/// Bytes after which a speed needs no more listening.
const BYTES_ENOUGH: usize = 2_048;
/// Whole lines after which text needs no more listening.
const LINES_ENOUGH: usize = 3;
/// Most columns that are suggested.
const COLUMNS_MAX: usize = 64;

/// What is listened to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListenRequest {
    /// The port.
    #[schemars(length(min = 1))]
    pub port: String,
    /// Speeds to try, in bits per second, at most 12; the usual ones if there are none.
    #[serde(default)]
    #[schemars(length(max = 12))]
    pub bauds: Vec<u32>,
    /// Parity of each character.
    #[serde(default)]
    pub parity: Parity,
    /// Seconds at each speed, at most 2.
    #[serde(default = "seconds")]
    #[schemars(range(min = 0.1, max = 2.0))]
    pub seconds: f64,
}

fn seconds() -> f64 {
    SECONDS_MAX
}

/// What was heard at one speed.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Heard {
    /// The speed.
    pub baud: u32,
    /// How many bytes came.
    pub bytes: usize,
    /// What came, as text or hexadecimal digits.
    pub excerpt: String,
    /// What it looks like.
    pub guess: Guess,
    /// A source that would read it, as in the file; none if it cannot be read.
    pub suggestion: Option<SourceOptions>,
}

/// What a line looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Guess {
    /// Nothing came.
    Nothing,
    /// Bytes without an order: most likely the wrong speed or parity.
    Noise,
    /// Frames of firmware-protocols.
    Firmware,
    /// One number a line.
    Numbers,
    /// Values between separators.
    Columns,
    /// NMEA 0183 sentences, as GPS receivers and wind sensors send.
    Nmea,
    /// JSON documents, one a line.
    Json,
    /// Other lines of text.
    Text,
    /// Text that no line ends.
    TextWithoutEnd,
}

impl Guess {
    /// Whether the speed must be right.
    fn is_convincing(self) -> bool {
        !matches!(self, Self::Nothing | Self::Noise | Self::TextWithoutEnd)
    }
}

/// Listens at one speed after the other, until one makes sense.
pub(in crate::sources) async fn listen(
    request: &ListenRequest,
    running: &[SourceOptions],
    watcher: Option<mpsc::Sender<Heard>>,
) -> Result<Vec<Heard>, DiscoverError> {
    if let Some(owner) = owner(&request.port, running) {
        return Err(DiscoverError::in_use(&request.port, &owner));
    }
    let bauds = if request.bauds.is_empty() { &BAUDS_USUAL[..] } else { &request.bauds };
    if let Some(problem) = bauds.iter().find_map(|baud| baud_problem(*baud)) {
        return Err(DiscoverError::new(problem, "leave it out to try the usual speeds"));
    }
    let seconds = if request.seconds.is_finite() { request.seconds.clamp(0.1, SECONDS_MAX) } else { SECONDS_MAX };
    let mut all = Vec::new();
    for baud in bauds.iter().take(BAUDS_MAX) {
        let settings =
            LineSettings { port: request.port.clone(), baud: *baud, parity: request.parity, two_stop_bits: false };
        let bytes = read(&settings, Duration::from_secs_f64(seconds)).await?;
        let guess = guess(&bytes);
        let suggestion = suggestion(&settings, guess, &bytes);
        let heard = Heard { baud: *baud, bytes: bytes.len(), excerpt: excerpt(&bytes), guess, suggestion };
        let is_over = guess.is_convincing();
        if let Some(watcher) = &watcher {
            // A watcher that cannot keep up finds all of it in the answer.
            drop(watcher.try_send(heard.clone()));
        }
        all.push(heard);
        if is_over || watcher.as_ref().is_some_and(mpsc::Sender::is_closed) {
            break;
        }
    }
    Ok(all)
}

/// What comes within the time, or enough of it.
async fn read(settings: &LineSettings, limit: Duration) -> Result<Vec<u8>, DiscoverError> {
    let failed = |what: String| DiscoverError::new(what, "choose a port from the list of those that are there");
    let mut port = settings.open().map_err(failed)?;
    line::discard_input(&port).map_err(|error| failed(format!("{}: {error}", settings.port)))?;
    let deadline = Instant::now() + limit;
    let mut bytes = Vec::new();
    let mut buffer = [0; 512];
    while bytes.len() < BYTES_ENOUGH {
        match timeout_at(deadline, port.read(&mut buffer)).await {
            Ok(Ok(0)) => return Err(failed(format!("{} was unplugged", settings.port))),
            Ok(Ok(count)) => bytes.extend(buffer.iter().take(count)),
            Ok(Err(error)) => return Err(failed(format!("{}: {error}", settings.port))),
            Err(_) => break,
        }
        if lines(&bytes).len() >= LINES_ENOUGH && guess(&bytes).is_convincing() {
            break;
        }
    }
    Ok(bytes)
}

/// What bytes look like.
fn guess(bytes: &[u8]) -> Guess {
    if bytes.is_empty() {
        return Guess::Nothing;
    }
    let mut frames = 0;
    Decoder::new().feed(bytes, |frame| frames += u32::from(frame.is_ok()));
    if frames > 0 {
        return Guess::Firmware;
    }
    let is_text = |byte: &u8| (b' '..=b'~').contains(byte) || byte.is_ascii_whitespace();
    let is_utf8 = std::str::from_utf8(bytes).map_or_else(|error| error.error_len().is_none(), |_| true);
    let printable = bytes.iter().filter(|byte| is_text(byte) || (is_utf8 && !byte.is_ascii())).count();
    // One byte in twenty may be hurt by a bad cable or the moment of opening.
    if printable * 20 < bytes.len() * 19 {
        return Guess::Noise;
    }
    let lines = lines(bytes);
    let Some(last) = lines.last() else { return Guess::TextWithoutEnd };
    let most = |holds: &dyn Fn(&[u8]) -> bool| lines.iter().filter(|line| holds(line)).count() * 4 >= lines.len() * 3;
    if most(&is_nmea) {
        Guess::Nmea
    } else if most(&|line| {
        matches!(line.first(), Some(b'{' | b'[')) && serde_json::from_slice::<serde::de::IgnoredAny>(line).is_ok()
    }) {
        Guess::Json
    } else if most(&|line| decode::number(line).is_ok()) {
        Guess::Numbers
    } else if separator(last).is_some() {
        Guess::Columns
    } else {
        Guess::Text
    }
}

/// The whole lines, without the first: it may have begun before the port was opened.
fn lines(bytes: &[u8]) -> Vec<&[u8]> {
    let mut pieces: Vec<&[u8]> = bytes.split(|byte| matches!(byte, b'\n' | b'\r')).collect();
    // What follows the last end is not whole.
    pieces.pop();
    let whole: Vec<&[u8]> = pieces.into_iter().map(<[u8]>::trim_ascii).filter(|line| !line.is_empty()).collect();
    if whole.len() > 1 { whole.get(1..).unwrap_or_default().to_vec() } else { whole }
}

/// `$GPGGA,…*47`: a sentence with the checksum of NMEA 0183.
fn is_nmea(line: &[u8]) -> bool {
    let Some(inner) = line.strip_prefix(b"$").or_else(|| line.strip_prefix(b"!")) else { return false };
    let Some((body, digits)) = inner.split_last_chunk::<2>() else { return false };
    let Some(body) = body.strip_suffix(b"*") else { return false };
    let sum = body.iter().fold(0, |sum, byte| sum ^ byte);
    std::str::from_utf8(digits).is_ok_and(|digits| u8::from_str_radix(digits, 16) == Ok(sum))
}

/// What stands between the values of a line, if at least half of them are numbers.
fn separator(line: &[u8]) -> Option<char> {
    let text = std::str::from_utf8(line).ok()?;
    let fits = |separator: &char| {
        let fields: Vec<&str> = text.split(*separator).collect();
        let numbers = fields.iter().filter(|field| decode::number(field.as_bytes()).is_ok()).count();
        fields.len() > 1 && numbers * 2 >= fields.len()
    };
    [';', ',', '\t', '|', ' '].into_iter().find(fits)
}

/// A source that would read it.
fn suggestion(settings: &LineSettings, guess: Guess, bytes: &[u8]) -> Option<SourceOptions> {
    let lines = lines(bytes);
    let delimiter = if bytes.contains(&b'\n') { "\n" } else { "\r" };
    let delimited = Framing::Delimiter { delimiter: delimiter.to_owned(), bytes_max: super::line_bytes_max() };
    let (framing, payload) = match guess {
        Guess::Firmware => (Framing::Firmware {}, None),
        Guess::Numbers => (delimited, Some(LinePayload::Number { point: "value".to_owned(), unit: String::new() })),
        Guess::Columns => {
            let line = lines.last()?;
            let separator = separator(line)?;
            let text = std::str::from_utf8(line).ok()?;
            // A column without a number is skipped.
            let column = |(index, field): (usize, &str)| Column {
                point: if decode::number(field.as_bytes()).is_ok() {
                    format!("column-{}", index + 1)
                } else {
                    String::new()
                },
                unit: String::new(),
            };
            let columns = text.split(separator).enumerate().take(COLUMNS_MAX).map(column).collect();
            (delimited, Some(LinePayload::Csv { separator, columns }))
        }
        Guess::Nothing | Guess::Noise | Guess::Nmea | Guess::Json | Guess::Text | Guess::TextWithoutEnd => return None,
    };
    let name = settings.port.rsplit('/').next().unwrap_or_default().to_lowercase();
    let options = SerialOptions {
        device: name.clone(),
        name,
        port: settings.port.clone(),
        baud: settings.baud,
        parity: settings.parity,
        framing,
        payload,
    };
    options.problems().is_empty().then_some(SourceOptions::Serial(options))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]
    use super::*;
    use crate::sources::line::tests::pseudo_terminal;
    use firmware_protocols::sender::Sender;
    use proptest::prelude::*;
    use tokio::io::AsyncWriteExt as _;

    #[test]
    fn what_a_line_sends_is_recognised() {
        let sentence = b"x\n$GPGLL,4916.45,N,12311.12,W,225444,A*31\r\n$GPGLL,4916.45,N,12311.12,W,225444,A*31\r\n";
        for (bytes, expected) in [
            (&b""[..], Guess::Nothing),
            (b"71.5\r\n71.6\r\n7", Guess::Numbers),
            (b"5;ok\n1.5;2;on\n1.6;2;on\n", Guess::Columns),
            (b"{\"v\":1}\n{\"v\":2}\n", Guess::Json),
            (b"hello\nworld\n", Guess::Text),
            (b"hello", Guess::TextWithoutEnd),
            (sentence, Guess::Nmea),
            (&[0x80, 0xf1, 0x07, 0xff, 0x0a, 0x93], Guess::Noise),
        ] {
            assert_eq!(guess(bytes), expected, "{}", String::from_utf8_lossy(bytes));
        }
        let mut sender: Sender<8> = Sender::new(7, "1.0".try_into().unwrap(), "probe".try_into().unwrap());
        assert_eq!(guess(sender.poll(0).unwrap()), Guess::Firmware);
    }

    #[tokio::test]
    async fn a_talking_port_is_heard_and_a_source_for_it_suggested() {
        let (mut far_end, path) = pseudo_terminal();
        let talking = tokio::spawn(async move {
            loop {
                drop(far_end.write_all(b"71.5;on\r\n").await);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        let request = ListenRequest { port: path.clone(), bauds: vec![], parity: Parity::None, seconds: 2.0 };
        let heard = listen(&request, &[], None).await.unwrap();
        talking.abort();
        assert_eq!(heard.len(), 1, "the first speed makes sense: {heard:?}");
        assert_eq!((heard[0].guess, heard[0].baud), (Guess::Columns, 115_200));
        let Some(SourceOptions::Serial(options)) = &heard[0].suggestion else { panic!("{heard:?}") };
        assert!(toml::to_string(options).unwrap().contains("separator = \";\""));

        let running = SourceOptions::Serial(options.clone());
        let error = listen(&request, &[running], None).await.unwrap_err();
        assert!(error.what.contains("the running gateway reads"), "{error}");
    }

    #[tokio::test]
    async fn a_silent_port_is_tried_at_each_speed_and_a_missing_one_told() {
        let (_far_end, path) = pseudo_terminal();
        let request = ListenRequest { port: path, bauds: vec![9_600, 19_200], parity: Parity::None, seconds: 0.1 };
        let heard = listen(&request, &[], None).await.unwrap();
        assert_eq!(heard.iter().map(|heard| heard.guess).collect::<Vec<_>>(), [Guess::Nothing, Guess::Nothing]);
        let missing = ListenRequest { port: "/dev/no-such-port".into(), ..request };
        assert!(listen(&missing, &[], None).await.unwrap_err().what.contains("is not there"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_guessed(bytes in proptest::collection::vec(any::<u8>(), 0..600), text in "[0-9;,.\n\r ab{}$*]{0,80}") {
            let settings = LineSettings { port: "/dev/x".into(), baud: 9_600, parity: Parity::None, two_stop_bits: false };
            for bytes in [&bytes[..], text.as_bytes()] {
                let guess = guess(bytes);
                drop(suggestion(&settings, guess, bytes));
            }
        }
    }
}
