//! A password from a file, from a pipe, or typed unseen.

use anyhow::{Context, Result, ensure};
use rustix::termios::{LocalModes, OptionalActions, Termios, isatty, tcgetattr, tcsetattr};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;

/// Longest line that is read, in bytes: more than a password may have, so that a too long one is told as such.
const LINE_BYTES_MAX: u64 = 4_096;

/// Reads the password from the first line of a file or of standard input. At a terminal it is asked for twice.
pub(super) fn password(file: Option<&Path>) -> Result<String> {
    if let Some(path) = file {
        let open = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        return first_line(open).with_context(|| format!("cannot read a password from {}", path.display()));
    }
    let stdin = io::stdin();
    if !isatty(&stdin) {
        return first_line(stdin.lock()).context("cannot read a password from standard input");
    }
    let unseen = Unseen::begin()?;
    let password = ask("Password: ")?;
    let again = ask("The same again: ")?;
    drop(unseen);
    ensure!(password == again, "these were two different passwords; nothing was changed");
    Ok(password)
}

fn ask(what: &str) -> Result<String> {
    let mut err = io::stderr();
    write!(err, "{what}")?;
    err.flush()?;
    let password = first_line(io::stdin().lock());
    writeln!(err)?;
    password
}

/// The first line, without its end.
fn first_line(from: impl Read) -> Result<String> {
    let mut line = Vec::new();
    // A buffer of one byte: the second question finds its own line.
    BufReader::with_capacity(1, from.take(LINE_BYTES_MAX)).read_until(b'\n', &mut line)?;
    let line = String::from_utf8(line).context("the password is no UTF-8 text")?;
    let line = line.trim_end_matches(['\n', '\r']).to_owned();
    ensure!(!line.is_empty(), "the password is empty");
    Ok(line)
}

/// While it lives, the terminal does not show what is typed.
struct Unseen(Termios);

impl Unseen {
    fn begin() -> Result<Self> {
        let stdin = io::stdin();
        let before = tcgetattr(&stdin)?;
        let mut unseen = before.clone();
        unseen.local_modes.remove(LocalModes::ECHO);
        tcsetattr(&stdin, OptionalActions::Flush, &unseen)?;
        Ok(Self(before))
    }
}

impl Drop for Unseen {
    fn drop(&mut self) {
        // A terminal that is gone needs no echo.
        tcsetattr(io::stdin(), OptionalActions::Now, &self.0).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_the_first_line_without_its_end() {
        for text in ["three calm words", "three calm words\n", "three calm words\r\nmore\n"] {
            assert_eq!(first_line(text.as_bytes()).unwrap(), "three calm words");
        }
        assert_eq!(first_line(" kept as typed ".as_bytes()).unwrap(), " kept as typed ");
        assert!(first_line("\nsecond".as_bytes()).is_err() && first_line("".as_bytes()).is_err());
        assert!(first_line(&b"\xff\xfe\n"[..]).is_err());
    }
}
