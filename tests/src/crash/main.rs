//! `make crash ROUNDS=1000`: runs the fault campaign, going on where an earlier run was left, and prints the totals.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use e2e::crash::tally::Totals;
use e2e::crash::{self, Options};

/// Deaths between two comparisons: what is interrupted loses no more than these.
const STRETCH_ROUNDS: u64 = 100;
/// Gateways at once.
const GATEWAYS: usize = 4;

fn say(words: &str) {
    // Nobody may be listening any more.
    writeln!(std::io::stdout(), "{words}").ok();
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let rounds: u64 =
        std::env::args().nth(1).context("how many rounds?")?.parse().context("rounds are a whole number")?;
    // Beside the program, so that it goes with `cargo clean`.
    let path: PathBuf = std::env::current_exe()?.with_file_name("crash-campaign.json");
    let mut totals = Totals::read(&path).with_context(|| format!("{} is damaged: remove it", path.display()))?;
    if totals.rounds > 0 {
        say(&format!("so far, by {}: {totals}", path.display()));
    }
    if totals.rounds >= rounds {
        say("nothing is left to do; remove that file to begin anew");
    } else {
        let seed =
            std::env::var("E2E_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
        say(&format!("choices by E2E_SEED={seed}"));
        let options = Options { rounds: rounds - totals.rounds, stretch: STRETCH_ROUNDS, gateways: GATEWAYS, seed };
        crash::run(options, say, |tally| {
            crash::add(&mut totals, tally);
            if let Err(error) = totals.write(&path) {
                say(&format!("the totals could not be kept: {error}"));
            }
            say(&format!("{totals}"));
        })
        .await;
    }
    Ok(if totals.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
