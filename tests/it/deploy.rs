//! What starts the server elsewhere: systemd, a package, a container, a shell.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use clap::CommandFactory;
use peristyle::config::Cli;

use crate::binary::Binary;
use crate::http_client::Client;
use crate::processes::output;

const UNIT: &str = include_str!("../../schemas/deploy/peristyle.service");
const IMAGE: &str = include_str!("../../schemas/deploy/Dockerfile");
const CLUSTER: &str = include_str!("../../schemas/deploy/kubernetes.yaml");
const MANIFEST: &str = include_str!("../../Cargo.toml");
const PACKAGE: &str = include_str!("../../schemas/deploy/package.sh");
const INSTALLED: &str = include_str!("../../schemas/deploy/debian/postinst");
const REMOVED: &str = include_str!("../../schemas/deploy/debian/postrm");
const SETTINGS: &str = "schemas/deploy/config.toml";

fn run(arguments: &[&str]) -> Output {
    output(Command::new(env!("CARGO_BIN_EXE_peristyle")).args(arguments).env_clear())
}

/// The next thing that systemd is told, which may take as long as a start or a stop.
fn told(socket: &UnixDatagram) -> String {
    let mut bytes = vec![0; 4096];
    let length = socket.recv(&mut bytes).expect("a notification");
    bytes.truncate(length);
    String::from_utf8(bytes).expect("text").trim_end().to_owned()
}

/// What comes next besides pleas for more time.
fn told_of_state(socket: &UnixDatagram) -> String {
    loop {
        let told = told(socket);
        if !told.starts_with("EXTEND_TIMEOUT_USEC=") {
            return told;
        }
    }
}

#[test]
fn systemd_hears_of_the_start_when_the_journal_is_replayed_and_of_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let path = directory.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    // Not a pause: a server that says nothing fails the test instead of hanging it.
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let killed = Binary::start(&data, &[]);
    let answer = Client::connect(killed.address()).post("/write?db=d", "m f=1i 1000\n");
    assert_eq!(answer.status, 204);
    killed.signal("-KILL");
    killed.end();

    let variables = [("NOTIFY_SOCKET", path.to_str().expect("text")), ("WATCHDOG_USEC", "200000")];
    let binary = Binary::start_with(&data, &[], &variables);
    assert!(told(&socket).starts_with("EXTEND_TIMEOUT_USEC="), "the start asks for time first");
    assert_eq!(told_of_state(&socket), "READY=1");
    let tables = Client::connect(binary.address()).get("/api/v1/tables?db=d").body;
    assert!(tables.contains("\"rows\":1,\"files\":1"), "replayed before it was ready: {tables}");
    for _ in 0..3 {
        assert_eq!(told_of_state(&socket), "WATCHDOG=1");
    }
    binary.signal("-TERM");
    let mut last = told_of_state(&socket);
    while last == "WATCHDOG=1" {
        last = told_of_state(&socket);
    }
    assert_eq!(last, "STOPPING=1");
    assert_eq!(binary.end().0, Some(0));
}

#[test]
fn the_unit_starts_what_there_is() {
    let value = |key: &str| {
        let line = UNIT.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.unwrap_or_else(|| panic!("{key}"))
    };
    assert_eq!(value("Type"), "notify");
    assert_eq!(value("ExecStart"), "/usr/bin/peristyle serve --config /etc/peristyle/config.toml");
    for variable in [UNIT, IMAGE, CLUSTER].iter().flat_map(|text| {
        let is_name = |char: char| char.is_ascii_uppercase() || char == '_';
        text.split(move |char| !is_name(char)).filter(|word| word.starts_with("PERISTYLE_"))
    }) {
        let command = Cli::command();
        let serve = command.find_subcommand("serve").expect("a command");
        let is_known =
            serve.get_arguments().any(|it| it.get_env().is_some_and(|it| it == variable));
        assert!(is_known, "{variable} is no setting");
    }
    for path in ["/ready", "/health", "/metrics"] {
        assert!(CLUSTER.contains(&format!("path: {path}\n")), "{path}");
    }
    let shown = run(&["config", "--config", SETTINGS]);
    assert_eq!(shown.status.code(), Some(0), "{}", String::from_utf8_lossy(&shown.stderr));
}

#[test]
fn shells_and_man_know_every_command_and_setting() {
    let command = Cli::command();
    let serve = command.find_subcommand("serve").expect("a command");
    let long = serve.get_arguments().filter_map(clap::Arg::get_long);
    let settings: Vec<&str> =
        long.filter(|it| !["help", "help-all", "version"].contains(it)).collect();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let made = run(&["completions", shell]);
        assert_eq!(made.status.code(), Some(0));
        let text = String::from_utf8(made.stdout).expect("text");
        for setting in &settings {
            assert!(text.contains(setting), "{shell}: {setting}");
        }
    }
    let page = String::from_utf8(run(&["man"]).stdout).expect("text").replace("\\-", "-");
    for setting in settings {
        assert!(page.contains(&format!("--{setting}")), "{setting}");
    }
    for name in command.get_subcommands().map(clap::Command::get_name) {
        assert!(page.contains(name), "{name}");
    }
}

/// `tests/package/run.sh` installs it.
#[test]
fn the_package_holds_what_is_made_for_it_and_serves_as_the_user_of_the_unit() {
    let manifest: toml::Table = MANIFEST.parse().expect("TOML");
    let package = manifest["package"]["metadata"]["deb"].as_table().expect("a table");
    let assets = package["assets"].as_array().expect("a list");
    let mut installed = Vec::new();
    for asset in assets {
        let text = |at: usize| asset[at].as_str().expect("text");
        let (source, target) = (text(0), text(1));
        let name = source.rsplit('/').next().expect("a name");
        let is_made = source.starts_with("target/release/package/");
        // Completions are made by a loop over the shells.
        let made =
            name.replace("bash", "$shell").replace("fish", "$shell").replace("zsh", "$shell");
        let is_there = if is_made {
            PACKAGE.contains(name) || PACKAGE.contains(&made)
        } else {
            Path::new(env!("CARGO_MANIFEST_DIR")).join(source).exists()
        };
        assert!(is_there, "{source}");
        installed.push(if target.ends_with('/') {
            format!("{target}{name}")
        } else {
            target.into()
        });
    }
    for path in
        ["usr/bin/peristyle", "etc/peristyle/config.toml", "usr/share/doc/peristyle/sbom.cdx.json"]
    {
        assert!(installed.iter().any(|it| it == path), "{path} in {installed:?}");
    }
    assert_eq!(package["conf-files"][0].as_str(), Some("/etc/peristyle/config.toml"));
    assert!(UNIT.contains("\nUser=peristyle\nGroup=peristyle\n"));
    assert!(
        INSTALLED.contains("adduser --quiet --system --group")
            && INSTALLED.contains(" peristyle\n")
    );
    for script in [INSTALLED, REMOVED] {
        assert!(script.ends_with("\n#DEBHELPER#\n") && script.contains("\nset -e\n"), "{script}");
        assert!(script.contains("/var/lib/peristyle"));
    }
}
