//! `forebay token`, `forebay set-up-token`: secrets for programs, and the one for the first visit.

use super::{Where, wait};
use crate::access::{By, Right, Token};
use crate::cli::when;
use crate::clock::Clock;
use crate::reading::UnixMicros;
use crate::units::HumanDuration;
use anyhow::{Result, anyhow, bail};
use clap::Subcommand;
use std::io::Write;

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum TokenCommand {
    /// Makes an API token and prints it, alone: it cannot be shown again.
    Add {
        /// A name for it: the program that uses it.
        name: String,
        /// What it allows: see, metrics, operate, configure, people; several with commas.
        #[arg(long, required = true, value_delimiter = ',')]
        rights: Vec<Right>,
        /// When it ends: "90 days" from now, or 2027-01-01T00:00:00Z [default: never].
        #[arg(long, value_name = "WHEN")]
        expires: Option<String>,
        #[command(flatten)]
        place: Where,
    },
    /// Lists the API tokens, without the tokens themselves.
    List(Where),
    /// Puts an API token out of force at once.
    Revoke {
        /// Its name.
        name: String,
        #[command(flatten)]
        place: Where,
    },
}

/// Does what is asked.
pub(in crate::cli) fn execute(command: TokenCommand) -> Result<()> {
    let by = By::tool();
    let mut out = std::io::stdout();
    match command {
        TokenCommand::Add { name, rights, expires, place } => {
            let expires_us = expires.map(|text| end(&text, Clock::system().tick().wall_us)).transpose()?;
            let rights = rights.into_iter().collect();
            let made = wait(place.open()?.make_token(&by, &name, rights, expires_us))?;
            writeln!(out, "{}", made.token)?;
        }
        TokenCommand::List(place) => list(&place.open()?.tokens()?)?,
        TokenCommand::Revoke { name, place } => {
            wait(place.open()?.revoke_token(&by, &name))?;
            writeln!(out, "{name} is out of force")?;
        }
    }
    Ok(())
}

/// Prints the set-up token, alone.
pub(in crate::cli) fn show_set_up_token(place: &Where) -> Result<()> {
    let access = place.open()?;
    let Some(token) = access.set_up_token() else {
        match access.problem() {
            Some(problem) => bail!(problem),
            None if access.is_set_up() => bail!("this gateway is set up already: there is no set-up token any more"),
            None => bail!("the set-up token cannot be read; run this as root"),
        }
    };
    writeln!(std::io::stdout(), "{token}")?;
    Ok(())
}

/// When a token ends: after a time from now, or at a moment.
fn end(text: &str, now_us: UnixMicros) -> Result<UnixMicros> {
    if let Ok(HumanDuration(duration)) = text.trim().parse() {
        return Ok(now_us.saturating_add(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)));
    }
    let is_moment = text.contains('T');
    let moment = when::parse(text, now_us).ok().filter(|_| is_moment);
    moment.ok_or_else(|| anyhow!("{text:?} is no end; write \"90 days\" (from now) or 2027-01-01T00:00:00Z"))
}

fn list(tokens: &[Token]) -> Result<()> {
    let mut out = std::io::stdout().lock();
    if tokens.is_empty() {
        writeln!(out, "there are no API tokens")?;
    }
    let widest = tokens.iter().map(|token| token.name.chars().count()).max().unwrap_or(0);
    for Token { name, rights, made_us, made_by, expires_us, .. } in tokens {
        let end = expires_us.map_or_else(|| "never".to_owned(), when::show_second);
        let made = when::show_second(*made_us);
        writeln!(out, "{name:widest$}  {rights}; made {made} by {made_by}, ends {end}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_a_time_from_now_or_a_moment() {
        let now_us = 1_790_000_000_000_000;
        assert_eq!(end("90 days", now_us).unwrap(), now_us + 90 * 86_400_000_000);
        assert_eq!(end("2026-09-21T14:13:20Z", now_us).unwrap(), now_us);
        for text in ["", "now", "2 h ago", "soon", "90"] {
            assert!(end(text, now_us).unwrap_err().to_string().contains("is no end"), "{text}");
        }
    }
}
