use anyhow::Result;

use crate::support::run;

#[tokio::test]
async fn help_documents_the_exit_codes_and_gives_examples() -> Result<()> {
    let help = run(&["--help"]).await?.succeeded()?.out;
    for line in ["Exit codes:", "2  the arguments, the input or a manifest are wrong", "Examples:"] {
        assert!(help.contains(line), "{line} is not in\n{help}");
    }
    for command in [
        "append",
        "completion",
        "crd",
        "dev",
        "projections",
        "query",
        "read",
        "sagas",
        "subscribe",
        "validate",
    ] {
        assert!(help.contains(&format!("  {command} ")), "{command} is not in\n{help}");
        let help = run(&[command, "--help"]).await?.succeeded()?.out;
        assert!(help.contains("Examples:") && help.contains(&format!("headwater {command}")), "{help}");
    }
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_understood_is_a_usage_error() -> Result<()> {
    #[track_caller]
    fn check(done: &crate::support::Done, message: &str) {
        done.failed(2, message);
    }
    check(&run(&["frobnicate"]).await?, "unrecognized subcommand");
    check(&run(&["read"]).await?, "required");
    check(&run(&["read", "--all", "--from", "yesterday"]).await?, "neither a token");
    for flag in ["--from", "--up-to", "--type", "--prefix", "--partition"] {
        check(&run(&["read", "a", flag, "0"]).await?, flag);
    }
    check(&run(&["read", "--all", "--backwards"]).await?, "--backwards");
    check(&run(&["read", "--all", "--from-version", "2"]).await?, "--from-version");
    check(&run(&["read", "a", "--server", "ftp://x:1"]).await?, "the scheme is ftp");
    check(&run(&["query", "orders"]).await?, "give PROJECTION/TABLE");
    check(&run(&["append", "a", "--data", "1"]).await?, "--type");
    check(&run(&["append", "a", "--type", "b", "--data", "{"]).await?, "data: not JSON");
    check(&run(&["append", "a", "--type", "b", "--data", "@/nowhere"]).await?, "read /nowhere");
    check(
        &run(&["append", "a", "--type", "b", "--data", "1", "--expected", "new"]).await?,
        "is no expectation",
    );
    check(&run(&["dev"]).await?, "<DIR>");
    check(&run(&["sagas", "show", "order-1"]).await?, "<INSTANCE>");
    check(&run(&["sagas", "list", "a", "--state", "done"]).await?, "needs-attention");
    check(&run(&["sagas", "list", "--state", "running"]).await?, "<SAGA>");
    check(&run(&["sagas", "abort", "a", "b", "--step", "c"]).await?, "--step");
    Ok(())
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_unavailable() -> Result<()> {
    let nobody = "http://127.0.0.1:1";
    run(&["append", "a", "--type", "b", "--data", "1", "--server", nobody])
        .await?
        .failed(5, "hint: is it running?");
    run(&["query", "a/b", "--query-server", nobody]).await?.failed(5, nobody);
    run(&["projections", "list", "--query-server", nobody]).await?.failed(5, nobody);
    run(&["sagas", "list", "--query-server", nobody]).await?.failed(5, nobody);
    run(&["sagas", "skip", "a", "b", "--query-server", nobody])
        .await?
        .failed(5, "skip instance \"b\" of saga \"a\"");
    Ok(())
}

#[tokio::test]
async fn completions_and_definitions_are_printed() -> Result<()> {
    for shell in ["bash", "zsh", "fish"] {
        let script = run(&["completion", shell]).await?.succeeded()?.out;
        assert!(script.contains("headwater") && script.contains("subscribe"), "{shell}");
    }
    let yaml = run(&["crd"]).await?.succeeded()?.out;
    let names = ["eventstreams.headwater.dev", "projections.headwater.dev", "sagas.headwater.dev"];
    for name in names {
        assert!(yaml.contains(&format!("name: {name}")), "{name}");
    }
    let json = run(&["crd", "--output", "json"]).await?.succeeded()?.json_lines()?;
    assert_eq!(
        json.iter().map(|crd| crd["metadata"]["name"].as_str().unwrap_or_default()).collect::<Vec<_>>(),
        names
    );
    Ok(())
}
