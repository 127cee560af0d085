//! `forebay selftest`: trials on the user's own board and card.

use crate::config;
use crate::selftest::{self, PowerCutOptions};
use anyhow::Result;
use clap::Subcommand;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// Trials unless another number is named: some minutes on a card.
const TRIALS: u32 = 200;

#[derive(Debug, Subcommand)]
pub(super) enum SelfTest {
    /// Kills a writing process again and again and tears what it had not synchronised; the exit status is 0 if nothing that was
    /// acknowledged is lost, repeated or out of order. Needs some 50 MB in a scratch directory; nothing else is touched.
    Powercut {
        /// Where the scratch directory is made [default: the `data_dir` of the configuration].
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
        /// The configuration that names `data_dir` [default: /etc/forebay/forebay.toml].
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// How many trials.
        #[arg(long, default_value_t = TRIALS)]
        trials: u32,
        /// Makes the same random choices again.
        #[arg(long)]
        seed: Option<u64>,
    },
    /// The process that is killed.
    #[command(hide = true)]
    Writer {
        /// Its data directory.
        #[arg(long)]
        dir: PathBuf,
        /// The first number that it writes.
        #[arg(long)]
        next: u64,
        /// What its random choices follow from.
        #[arg(long)]
        seed: u64,
    },
}

/// Does what is asked.
pub(super) fn run(test: SelfTest) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match test {
        SelfTest::Writer { dir, next, seed } => Ok(runtime.block_on(selftest::write(&dir, next, seed))?),
        SelfTest::Powercut { dir, config, trials, seed } => {
            let dir = match dir {
                Some(dir) => dir,
                None => {
                    config::load(config.as_deref().unwrap_or(Path::new(super::CONFIG_FILE)))?.config.gateway.data_dir
                }
            };
            let options = PowerCutOptions { dir, trials, seed: seed.unwrap_or_else(|| fastrand::u64(..)) };
            let mut out = std::io::stdout();
            writeln!(out, "power-cut trials in {} (--seed {})", options.dir.display(), options.seed)?;
            // A closed terminal does not end the trials; their exit status still tells.
            let tell = |line: &str| writeln!(std::io::stdout(), "  {line}").unwrap_or_default();
            let verdict = runtime.block_on(selftest::power_cut(&options, tell))?;
            write!(out, "{}", verdict.words())?;
            anyhow::ensure!(verdict.is_good(), "the trials found losses");
            Ok(())
        }
    }
}
