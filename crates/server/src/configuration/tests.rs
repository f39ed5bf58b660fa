use std::net::SocketAddr;

use clap::Parser;

use super::*;

#[derive(Debug, Parser)]
#[command(name = "test")]
struct Arguments {
    #[arg(required = true, value_name = "DIR", env = "HEADWATER_TEST_MANIFESTS")]
    manifests: Vec<PathBuf>,
    #[arg(long, conflicts_with = "data_dir")]
    database: Option<String>,
    #[arg(long, value_name = "PATH")]
    data_dir: Option<PathBuf>,
    #[arg(long, default_value = "127.0.0.1:1")]
    listen: SocketAddr,
    #[arg(long)]
    log_json: bool,
    #[arg(long = "event-store", value_delimiter = ',')]
    event_stores: Vec<String>,
    // What every shell has: tests cannot set variables of their own.
    #[arg(long, env = "PATH")]
    path: Option<String>,
    #[arg(long, requires = "key")]
    cert: Option<PathBuf>,
    #[arg(long, requires = "cert")]
    key: Option<PathBuf>,
    #[command(flatten)]
    configuration: ConfigurationArguments,
}

fn configured(file: &str, words: &[&str]) -> Result<Configured<Arguments>, Refused> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("options.yaml");
    std::fs::write(&path, file).unwrap();
    let config = format!("--config={}", path.display());
    read(["test", &config].iter().chain(words).map(OsString::from).collect())
}

#[track_caller]
fn run(file: &str, words: &[&str]) -> Arguments {
    match configured(file, words) {
        Ok(Configured::Run(arguments)) => arguments,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn faults(file: &str, words: &[&str]) -> Vec<String> {
    match configured(file, words) {
        Err(Refused::File(faults)) => faults.iter().map(ToString::to_string).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_file_stands_between_defaults_and_environment_and_flags_come_first() {
    let file = "manifests: [a, b]\ndata-dir: /data\nlisten: 127.0.0.1:2\nlog-json: true\nevent-store: [x=1, y=2]\npath: p\n";
    let arguments = run(file, &[]);
    assert_eq!(arguments.manifests, ["a", "b"].map(PathBuf::from));
    assert_eq!(arguments.data_dir, Some("/data".into()));
    assert_eq!(arguments.listen.port(), 2);
    assert!(arguments.log_json);
    assert_eq!(arguments.event_stores, ["x=1", "y=2"]);
    assert_eq!(arguments.path, std::env::var("PATH").ok());
    let arguments = run(file, &["c", "--listen", "127.0.0.1:3", "--event-store", "z=3"]);
    assert_eq!(arguments.manifests, [PathBuf::from("c")]);
    assert_eq!(arguments.listen.port(), 3);
    assert_eq!(arguments.event_stores, ["z=3"]);
    assert_eq!(run("manifests: [a]\n", &[]).listen.port(), 1);
}

#[test]
fn a_flag_precedes_what_it_conflicts_with_in_the_file() {
    let arguments = run("manifests: [a]\ndatabase: postgres://db/x\n", &["--data-dir", "/data"]);
    assert_eq!((arguments.database, arguments.data_dir), (None, Some("/data".into())));
    let both = "manifests: [a]\ndatabase: postgres://db/x\ndata-dir: /data\n";
    let said = faults(both, &[]);
    assert!(said[0].contains(":3:11: data-dir: cannot be there with database; remove one"), "{said:?}");
    assert_eq!(said.len(), 1, "{said:?}");
}

#[test]
fn all_faults_of_the_file_are_said_at_once_even_of_what_a_flag_precedes() {
    let said = faults(
        "listen: nowhere\nlisten-on: x\nlog-json: 7\nconfig: other.yaml\n",
        &["a", "--listen", "127.0.0.1:3"],
    );
    let said = said.join("\n");
    for part in [
        "options.yaml:1:9: listen: invalid value 'nowhere' for '--listen <LISTEN>'",
        "options.yaml:2:1: listen-on: ",
        "options.yaml:3:11: log-json: ",
        "options.yaml:4:1: config: ",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[test]
fn what_is_asked_for_and_nowhere_said_is_missed_as_without_a_file() {
    let Err(Refused::Flags(error)) = configured("log-json: true\n", &[]) else { panic!("it was taken") };
    assert_eq!(error.kind(), clap::error::ErrorKind::MissingRequiredArgument);
    let missing = read::<Arguments>(["test", "--config", "/nowhere.yaml", "a"].map(OsString::from).into());
    let Err(Refused::File(faults)) = missing else { panic!("it was taken") };
    assert!(faults[0].to_string().contains("cannot be read"), "{faults:?}");
}

#[test]
fn the_options_are_printed_with_where_they_are_from_and_can_be_read_again() {
    let file = "manifests: [a]\ndatabase: postgres://me:hush@db/x\nevent-store: [\"x=http://u:hush@y\"]\n";
    let Ok(Configured::Print(text)) = configured(file, &["--print-config", "--listen", "127.0.0.1:3"]) else {
        panic!("nothing is printed")
    };
    for line in [
        "manifests: [\"a\"]  # /",
        "database: \"postgres://me:***@db/x\"  # /",
        "# data-dir: not set\n",
        "listen: \"127.0.0.1:3\"  # flag\n",
        "log-json: false  # default\n",
        "event-store: [\"x=http://u:***@y\"]  # /",
        "  # environment, PATH\n",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    assert!(!text.contains("hush"), "{text}");
    assert_eq!(run(&text, &[]).listen.port(), 3);
}

#[test]
fn options_that_belong_together_are_taken_from_a_file() {
    let arguments = run("manifests: [a]\ncert: c\nkey: k\n", &[]);
    assert_eq!((arguments.cert, arguments.key), (Some("c".into()), Some("k".into())));
}
