//! Reads lines, has them carried out, and says what came of them.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use tokio::io::{AsyncBufReadExt, BufReader};

use crate::bank::{Bank, Failure};
use crate::command;

/// Carries out the commands on standard input until it ends.
///
/// # Errors
/// When standard input or output cannot be used.
pub(crate) async fn run(bank: &mut Bank) -> anyhow::Result<ExitCode> {
    let interactive = std::io::stdin().is_terminal();
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let mut out = std::io::stdout();
    let mut all_done = true;
    loop {
        if interactive {
            write!(out, "-> ")?;
        }
        out.flush()?;
        let Some(line) = lines.next_line().await? else { break };
        match answer(bank, &line).await {
            Ok(answer) => write!(out, "{answer}")?,
            Err(failure) => {
                all_done = false;
                eprintln!("{failure}");
            }
        }
    }
    if interactive {
        writeln!(out)?;
    }
    Ok(if interactive || all_done { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn answer(bank: &mut Bank, line: &str) -> Result<String, Failure> {
    match command::parse(line)? {
        Some(command) => Ok(bank.execute(command).await?.to_string()),
        None => Ok(String::new()),
    }
}
