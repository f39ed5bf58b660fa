//! Reads lines, has them carried out, and says what came of them.

use std::io::{ErrorKind, IsTerminal, Write};
use std::process::ExitCode;

use tokio::io::{AsyncBufReadExt, BufReader};

use crate::bank::{Bank, Failure};
use crate::command;

/// Carries out the commands on standard input until it ends, or until nobody reads the answers any more.
///
/// # Errors
/// When standard input or output cannot be used.
pub(crate) async fn run(bank: &mut Bank) -> anyhow::Result<ExitCode> {
    let mut all_done = true;
    let interactive = std::io::stdin().is_terminal();
    match prompt(bank, interactive, &mut all_done).await {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => return Err(error.into()),
        _ => {}
    }
    Ok(if interactive || all_done { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn prompt(bank: &mut Bank, interactive: bool, all_done: &mut bool) -> std::io::Result<()> {
    let mut lines = BufReader::new(tokio::io::stdin()).split(b'\n');
    let mut out = std::io::stdout();
    loop {
        if interactive {
            write!(out, "-> ")?;
        }
        out.flush()?;
        let Some(line) = lines.next_segment().await? else { break };
        let Ok(line) = str::from_utf8(&line) else {
            *all_done = false;
            eprintln!("the line is no UTF-8: write the command again");
            continue;
        };
        match answer(bank, line.trim_end_matches('\r')).await {
            Ok(answer) => write!(out, "{answer}")?,
            Err(failure) => {
                *all_done = false;
                eprintln!("{failure}");
            }
        }
    }
    if interactive {
        writeln!(out)?;
    }
    Ok(())
}

async fn answer(bank: &mut Bank, line: &str) -> Result<String, Failure> {
    match command::parse(line)? {
        Some(command) => Ok(bank.execute(command).await?.to_string()),
        None => Ok(String::new()),
    }
}
