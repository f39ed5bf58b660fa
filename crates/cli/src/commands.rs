//! One module a command: its arguments, and what it does.

pub(crate) mod append;
pub(crate) mod completion;
pub(crate) mod crd;
pub(crate) mod dev;
pub(crate) mod projections;
pub(crate) mod query;
pub(crate) mod read;
pub(crate) mod sagas;
pub(crate) mod schemas;
pub(crate) mod subscribe;
pub(crate) mod validate;

use anyhow::{Context, Result};
use tokio::runtime::Builder;

use crate::arguments::{Arguments, Command};
use crate::console::Console;
use crate::kubectl;

/// Does what the arguments say.
pub(crate) fn run(arguments: Arguments, console: &Console) -> Result<()> {
    match arguments.command {
        Command::Completion(arguments) => completion::run(&arguments, console),
        Command::Crd(arguments) => crd::run(&arguments, console),
        Command::Validate(arguments) => validate::run(&arguments, &console.to_the_end()),
        Command::Dev(arguments) => dev::run(arguments, console),
        Command::Append(arguments) => block_on(append::run(arguments, &console.to_the_end())),
        Command::Read(arguments) => block_on(read::run(arguments, console)),
        Command::Subscribe(arguments) => block_on(subscribe::run(arguments, console)),
        Command::Query(arguments) => block_on(query::run(arguments, console)),
        Command::Projections(arguments) => block_on(projections::run(arguments, &console.to_the_end())),
        Command::Sagas(arguments) => block_on(sagas::run(arguments, console)),
        Command::Schemas(arguments) => block_on(schemas::run(arguments, console)),
        Command::Kubectl(arguments) => block_on(kubectl::run(arguments, console)),
    }
}

/// Clients have one connection and need one thread.
fn block_on(command: impl Future<Output = Result<()>>) -> Result<()> {
    Builder::new_current_thread().enable_all().build().context("start the runtime")?.block_on(command)
}
