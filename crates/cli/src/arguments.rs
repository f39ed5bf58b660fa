use clap::{Args, Parser, Subcommand};

use headwater_api::{Client, Credentials};
use headwater_server::ClientArguments;

use crate::address::Address;
use crate::commands::{append, completion, crd, dev, projections, query, read, sagas, subscribe, validate};
use crate::console::Format;
use crate::queries::Queries;

const EXIT_CODES: &str = "\
Exit codes:
  0  it worked
  1  it failed
  2  the arguments, the input or a manifest are wrong
  3  what is there stands in the way: another version, an id that is taken, a directory in use
  4  what was asked for is not there
  5  the server cannot be reached, or did not answer in time
  6  the server does not know the caller, or does not let it do this
  129, 130, 143  a signal ended it: SIGHUP, SIGINT, SIGTERM

Examples:
  headwater dev examples/orders --demo
  headwater append order-1 --type OrderCreated --data '{\"order_id\": \"1\"}' --expected no-stream
  headwater read order-1
  headwater query orders/orders --where status=Approved";

/// Event sourcing, declared: event streams, projections and sagas as YAML, on a laptop or on Kubernetes.
#[derive(Debug, Parser)]
#[command(name = "headwater", version, after_help = EXIT_CODES, disable_help_subcommand = true)]
pub(crate) struct Arguments {
    /// What standard output is written as.
    #[arg(long, global = true, value_enum, default_value_t, value_name = "FORMAT")]
    pub(crate) output: Format,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Dev(dev::Arguments),
    Validate(validate::Arguments),
    Append(append::Arguments),
    Read(read::Arguments),
    Subscribe(subscribe::Arguments),
    Query(query::Arguments),
    Projections(projections::Arguments),
    Sagas(sagas::Arguments),
    Crd(crd::Arguments),
    Completion(completion::Arguments),
}

/// Which event store.
#[derive(Debug, Args)]
pub(crate) struct Server {
    /// Where the event store is.
    #[arg(
        long,
        env = "HEADWATER_SERVER",
        default_value = "http://127.0.0.1:50051",
        value_name = "URL",
        hide_env_values = true
    )]
    server: Address,

    #[command(flatten)]
    shown: Shown,
}

impl Server {
    /// A client of it.
    pub(crate) fn connect(&self) -> headwater_core::Result<Client> {
        Client::with_credentials(self.server.url(), &self.shown.credentials()?)
    }
}

/// What is shown to the server.
#[derive(Debug, Args)]
#[command(next_help_heading = "Whom it calls")]
struct Shown {
    #[command(flatten)]
    client: ClientArguments,

    /// Send the token to another machine without TLS: something else encrypts it.
    #[arg(long, env = "HEADWATER_PLAIN_TEXT")]
    plain_text: bool,
}

impl Shown {
    fn credentials(&self) -> headwater_core::Result<Credentials> {
        self.client.credentials(self.plain_text)
    }
}

/// Which query API.
#[derive(Debug, Args)]
pub(crate) struct QueryServer {
    /// Where the query API is.
    #[arg(
        long,
        env = "HEADWATER_QUERY_SERVER",
        default_value = "http://127.0.0.1:8080",
        value_name = "URL",
        hide_env_values = true
    )]
    query_server: Address,

    #[command(flatten)]
    shown: Shown,
}

impl QueryServer {
    /// A client of it.
    pub(crate) fn connect(&self) -> anyhow::Result<Queries> {
        Queries::new(&self.query_server, self.shown.credentials()?)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_hold_together() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_command_says_what_it_does_and_gives_an_example() {
        for command in Arguments::command().get_subcommands() {
            let name = command.get_name();
            assert!(command.get_about().is_some(), "{name} does not say what it does");
            let example = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(example.contains(&format!("headwater {name}")), "{name} has no example");
        }
    }
}
