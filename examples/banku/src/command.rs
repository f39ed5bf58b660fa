//! The words of the prompt: `create###NAME` and its like.

use crate::event::MAX_AMOUNT;
use crate::refusal::Refusal;

/// Every command, as it is typed.
pub(crate) const USAGES: [&str; 6] = [CREATE, DEPOSIT, WITHDRAW, TRANSFER, SEND, BALANCE];

const CREATE: &str = "create###Account Name";
const DEPOSIT: &str = "deposit###ID###AMOUNT";
const WITHDRAW: &str = "withdraw###ID###AMOUNT";
const TRANSFER: &str = "transfer###FROM###TO###AMOUNT";
const SEND: &str = "send###FROM###TO###AMOUNT";
const BALANCE: &str = "balance###ID";

/// A well-formed line. Amounts are positive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    Create {
        name: String,
    },
    Deposit {
        account: String,
        amount: u64,
    },
    Withdraw {
        account: String,
        amount: u64,
    },
    Transfer {
        from: String,
        to: String,
        amount: u64,
    },
    /// To an account at the other bank.
    Send {
        from: String,
        to: String,
        amount: u64,
    },
    Balance {
        account: String,
    },
}

/// Reads one line. An empty one is no command, and nothing to complain about.
///
/// # Errors
/// [`Refusal::UnknownCommand`], [`Refusal::WrongArguments`], [`Refusal::WrongAmount`].
pub(crate) fn parse(line: &str) -> Result<Option<Command>, Refusal> {
    let line = line.trim();
    if line.is_empty() {
        return Ok(None);
    }
    let words: Vec<&str> = line.split("###").map(str::trim).collect();
    let (name, arguments) = words.split_first().map_or(("", &[][..]), |(name, arguments)| (*name, arguments));
    let command = match name {
        "create" => {
            let [name] = take(arguments, CREATE)?;
            Command::Create { name }
        }
        "deposit" => {
            let [account, amount] = take(arguments, DEPOSIT)?;
            Command::Deposit { account, amount: parse_amount(&amount)? }
        }
        "withdraw" => {
            let [account, amount] = take(arguments, WITHDRAW)?;
            Command::Withdraw { account, amount: parse_amount(&amount)? }
        }
        "transfer" => {
            let [from, to, amount] = take(arguments, TRANSFER)?;
            Command::Transfer { from, to, amount: parse_amount(&amount)? }
        }
        "send" => {
            let [from, to, amount] = take(arguments, SEND)?;
            Command::Send { from, to, amount: parse_amount(&amount)? }
        }
        "balance" => {
            let [account] = take(arguments, BALANCE)?;
            Command::Balance { account }
        }
        other => return Err(Refusal::UnknownCommand(other.to_owned())),
    };
    Ok(Some(command))
}

/// Exactly `N` arguments, none of them empty.
fn take<const N: usize>(arguments: &[&str], usage: &'static str) -> Result<[String; N], Refusal> {
    let arguments: [&str; N] = arguments.try_into().map_err(|_| Refusal::WrongArguments(usage))?;
    if arguments.iter().any(|argument| argument.is_empty()) {
        return Err(Refusal::WrongArguments(usage));
    }
    Ok(arguments.map(str::to_owned))
}

fn parse_amount(text: &str) -> Result<u64, Refusal> {
    let refusal = || Refusal::WrongAmount(text.to_owned());
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(refusal());
    }
    match text.parse() {
        Ok(amount @ 1..=MAX_AMOUNT) => Ok(amount),
        _ => Err(refusal()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_command() {
        fn check(line: &str, command: Option<Command>) {
            assert_eq!(parse(line), Ok(command), "{line:?}");
        }
        check("", None);
        check("  \r", None);
        check("create###Adam Pahlevi", Some(Command::Create { name: "Adam Pahlevi".into() }));
        check("create###Adam Pahlevi\r", Some(Command::Create { name: "Adam Pahlevi".into() }));
        check("deposit###a###2000", Some(Command::Deposit { account: "a".into(), amount: 2000 }));
        check("withdraw###a###500", Some(Command::Withdraw { account: "a".into(), amount: 500 }));
        check(
            "transfer###a###b###1000",
            Some(Command::Transfer { from: "a".into(), to: "b".into(), amount: 1000 }),
        );
        check("send###a###b###10", Some(Command::Send { from: "a".into(), to: "b".into(), amount: 10 }));
        check("balance###a", Some(Command::Balance { account: "a".into() }));
        check(
            "deposit###a###1000000000000000",
            Some(Command::Deposit { account: "a".into(), amount: MAX_AMOUNT }),
        );
    }

    #[test]
    fn other_lines_are_refused() {
        fn check(line: &str, message: &str) {
            assert_eq!(parse(line).unwrap_err().to_string(), message, "{line:?}");
        }
        check(
            "destroy###a",
            "Unknown command destroy, only: create###Account Name, deposit###ID###AMOUNT, withdraw###ID###AMOUNT, transfer###FROM###TO###AMOUNT, send###FROM###TO###AMOUNT, balance###ID",
        );
        check("create", "Only specify create###Account Name");
        check("create###", "Only specify create###Account Name");
        check("create###Adam###Pahlevi", "Only specify create###Account Name");
        check("deposit###a", "Only specify deposit###ID###AMOUNT");
        check("withdraw###a###1###2", "Only specify withdraw###ID###AMOUNT");
        check("transfer###a###1", "Only specify transfer###FROM###TO###AMOUNT");
        check("send###a###b", "Only specify send###FROM###TO###AMOUNT");
        check("balance", "Only specify balance###ID");
        for amount in ["0", "-1", "+1", "1.5", "1e3", "ten", "1000000000000001", "99999999999999999999"] {
            check(
                &format!("deposit###a###{amount}"),
                &format!("Amount {amount} is not a positive whole number up to 1000000000000000"),
            );
        }
    }
}
