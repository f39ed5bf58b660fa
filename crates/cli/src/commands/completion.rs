use anyhow::Result;
use clap_complete::Shell;

use crate::console::Console;

/// Print the completion script of a shell.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  headwater completion bash > ~/.local/share/bash-completion/completions/headwater
  headwater completion zsh > \"${fpath[1]}/_headwater\"
  headwater completion fish > ~/.config/fish/completions/headwater.fish")]
pub(crate) struct Arguments {
    /// Which shell.
    shell: Shell,
}

pub(crate) fn run(arguments: &Arguments, console: &Console) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(
        arguments.shell,
        &mut crate::arguments::Arguments::definition(),
        "headwater",
        &mut script,
    );
    console.line(String::from_utf8(script)?.trim_end())?;
    Ok(())
}
