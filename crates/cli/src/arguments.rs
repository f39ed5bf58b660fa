use std::ffi::OsString;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use headwater_api::{Client, Credentials};
use headwater_server::ClientArguments;

use crate::address::Address;
use crate::commands::{
    append, completion, crd, dev, projections, query, read, sagas, schemas, subscribe, validate,
};
use crate::console::Format;
use crate::kubectl;
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

/// Headwater's resources in a cluster, and what runs them.
#[derive(Debug, Parser)]
#[command(
    name = "kubectl-headwater",
    bin_name = "kubectl headwater",
    version,
    disable_help_subcommand = true
)]
struct Plugin {
    /// What standard output is written as.
    #[arg(long, short, global = true, value_enum, default_value_t, value_name = "FORMAT")]
    output: Format,

    #[command(flatten)]
    arguments: kubectl::Arguments,
}

impl Arguments {
    /// What the program was called with, and as what. Ends it where that cannot be read.
    pub(crate) fn read(words: impl IntoIterator<Item = OsString>) -> Self {
        let words: Vec<OsString> = words.into_iter().collect();
        if !kubectl::is_plugin(words.first().map(OsString::as_os_str)) {
            return parse(Self::definition(), words);
        }
        let Plugin { output, arguments } = parse(kubectl::hide_servers(Plugin::command()), words);
        Self { output, command: Command::Kubectl(arguments) }
    }

    /// As help and completion show it.
    pub(crate) fn definition() -> clap::Command {
        Self::command().mut_subcommand("kubectl", kubectl::hide_servers)
    }
}

/// As `Parser::parse_from` does it, of a command that was changed.
fn parse<A: FromArgMatches>(mut command: clap::Command, words: Vec<OsString>) -> A {
    let matches = command.clone().get_matches_from(words);
    A::from_arg_matches(&matches).unwrap_or_else(|error| error.format(&mut command).exit())
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
    Schemas(schemas::Arguments),
    Kubectl(kubectl::Arguments),
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
        id = "query_server",
        long = "query-server",
        env = "HEADWATER_QUERY_SERVER",
        default_value = "http://127.0.0.1:8080",
        value_name = "URL",
        hide_env_values = true
    )]
    address: Address,

    #[command(flatten)]
    shown: Shown,

    /// Where it is, whatever flags and environment say: there, nobody is asked who they are.
    #[arg(skip)]
    forwarded: Option<Address>,
}

impl QueryServer {
    /// It is at `address`, which is forwarded to where it is.
    pub(crate) fn is_at(&mut self, address: Address) {
        self.forwarded = Some(address);
    }

    /// A client of it.
    pub(crate) fn connect(&self) -> anyhow::Result<Queries> {
        match &self.forwarded {
            Some(address) => Queries::new(address, Credentials::default()),
            None => Queries::new(&self.address, self.shown.credentials()?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_hold_together() {
        Arguments::definition().debug_assert();
        kubectl::hide_servers(Plugin::command()).debug_assert();
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
