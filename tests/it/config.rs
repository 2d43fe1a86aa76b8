//! Settings: defaults, their file, their environment, and what a bad value is told.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command as Process, Output};
use std::time::Duration;

use clap::{CommandFactory, Parser};
use peristyle::config::{
    Automatic, ByteSize, Cli, Command, CommandLine, Config, Inspect, LogFormat, Origin, duration,
    file_descriptors, memory_bytes, to_toml,
};
use peristyle::limits::Limits;
use peristyle::schema::Unsigned;
use tempfile::TempDir;

use crate::processes::output;

const CONFIG_TOML: &str = include_str!("../../schemas/config.toml");
/// Arguments that are no settings.
const OTHERS: [&str; 4] = ["config", "help", "help_all", "version"];

fn parse(args: &[&str]) -> Result<Config, String> {
    let args = ["peristyle"].iter().chain(args);
    match Cli::try_parse_from(args).map_err(|error| error.to_string())?.into_command() {
        Command::Serve(config) => Ok(*config),
        _ => Err("expected the settings of the server".to_owned()),
    }
}

/// The identifiers of the settings, with whether each has a default.
fn settings() -> BTreeMap<String, bool> {
    let command = Cli::command();
    let serve = command.find_subcommand("serve").unwrap();
    serve
        .get_arguments()
        .filter(|argument| !OTHERS.contains(&argument.get_id().as_str()))
        .map(|it| (it.get_id().to_string(), !it.get_default_values().is_empty()))
        .collect()
}

#[test]
fn config_toml_holds_every_setting_with_its_default() {
    let table: toml::Table = CONFIG_TOML.parse().expect("TOML");
    let mut args = vec![];
    for (name, has_default) in settings() {
        let value = table.get(&name).map(|value| value.as_str().expect("a string"));
        assert_eq!(value.is_some(), has_default, "{name}");
        if let Some(value) = value {
            args.push(format!("--{}={value}", name.replace('_', "-")));
        } else {
            assert!(CONFIG_TOML.contains(&format!("\n# {name} = ")), "{name} is not shown");
        }
    }
    assert_eq!(table.len(), args.len(), "a key that is no setting");
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    assert_eq!(parse(&args), parse(&[]));
}

#[test]
fn every_setting_has_its_environment_variable_and_two_paragraphs() {
    for command in [Cli::command(), Cli::command().find_subcommand("serve").unwrap().clone()] {
        for argument in command.get_arguments() {
            let name = argument.get_id().as_str();
            if ["help", "help_all", "version"].contains(&name) {
                continue;
            }
            let variable = format!("PERISTYLE_{}", name.to_uppercase());
            assert_eq!(argument.get_env().unwrap(), variable.as_str());
            let short = argument.get_help().expect(name).to_string();
            let long = argument.get_long_help().expect(name).to_string();
            assert!(long.len() > short.len() + 40, "{name} says no unit, default, minimum, reason");
        }
    }
}

#[test]
fn peristyle_alone_serves() {
    let config = parse(&[]).unwrap();
    assert_eq!(config.data_dir, Path::new("./peristyle-data"));
    assert_eq!(config.listen.to_string(), "127.0.0.1:8086");
    assert_eq!(config.flush_interval, Duration::from_secs(10));
    assert_eq!(config.log_format, LogFormat::Text);
    assert_eq!(config.unsigned, Unsigned::Int64);
    assert_eq!(config.check(), Ok(()));
    assert_eq!(parse(&["serve"]), parse(&[]));
}

#[test]
fn options_stand_with_and_without_the_command() {
    let options = ["--listen=[::1]:0", "--shards=3", "--log-format=json", "--unsigned=decimal"];
    let with: Vec<&str> = ["serve"].into_iter().chain(options).collect();
    assert_eq!(parse(&options), parse(&with));
    let config = parse(&options).unwrap();
    assert_eq!(config.shard_count(), 3);
    assert_eq!(config.unsigned, Unsigned::Decimal);
    assert!(parse(&["--shards=3", "serve"]).is_err());
}

#[test]
fn inspect_takes_a_directory_and_a_form() {
    let served = parse(&[]).unwrap().data_dir;
    let parse = |args: &[&str]| {
        let args = ["peristyle", "inspect"].iter().chain(args);
        match Cli::try_parse_from(args).unwrap().into_command() {
            Command::Inspect(Inspect { data_dir, json }) => (data_dir, json),
            _ => panic!("expected inspect"),
        }
    };
    assert_eq!(parse(&[]), (served, false));
    assert_eq!(parse(&["--json", "/data"]), ("/data".into(), true));
}

#[test]
fn bad_values_are_told_what_was_expected() {
    let cases = [
        ("--listen=8086", "an address and a port such as 127.0.0.1:8086, found \"8086\""),
        ("--listen=localhost", "an address and a port such as 127.0.0.1:8086"),
        ("--flush-interval=10", "a duration such as 500ms, 10s or 1m30s, found \"10\""),
        ("--flush-interval=", "a duration such as 500ms, 10s or 1m30s"),
        ("--flush-interval=s", "a duration such as"),
        ("--flush-interval=-1s", "a duration such as"),
        ("--flush-interval=99999999999999999999d", "a duration such as"),
        ("--flush-interval=99ms", "expected at least 100ms"),
        ("--flush-bytes=1XB", "bytes such as 1048576, 64MiB or 1GB, found \"1XB\""),
        ("--flush-bytes=1048575", "expected at least 1MiB"),
        ("--memory-limit=63MiB", "expected at least 64MiB"),
        ("--memory-limit=99999999T", "bytes such as"),
        ("--max-body-bytes=1023", "expected at least 1KiB"),
        ("--shards=0", "auto or a number from 1 to 1024, found \"0\""),
        ("--shards=1025", "auto or a number from 1 to 1024"),
        ("--log-format=xml", "[possible values: json, text]"),
        ("--unsigned=u64", "int64 or decimal, found \"u64\""),
        ("--durability=sync", "fsync, os or memory, found \"sync\""),
        ("--wal-segment-bytes=63KiB", "expected at least 64KiB"),
        ("--wal-segment-bytes=1025MiB", "at most 1GiB"),
        ("--retries=always", "[possible values: bodies, keys, off]"),
        ("--retry-window=999ms", "expected at least 1s"),
        ("--slow-request=0s", "expected at least 1ms"),
        ("--max-connections=15", "expected at least 16"),
        ("--max-connections=all", "auto or a number of connections, found \"all\""),
        ("--max-connections-per-address=0", "expected at least 1"),
        ("--handshake-timeout=999ms", "expected at least 1s"),
        ("--tls-cert=a", "--tls-key <FILE>"),
        ("--tls-key=a", "--tls-cert <FILE>"),
        ("--tls-client-ca=a", "--tls-cert <FILE>"),
        ("--head-timeout=999ms", "expected at least 1s"),
        ("--body-idle-timeout=0s", "expected at least 1s"),
        ("--body-timeout=5", "a duration such as"),
        ("--min-body-rate=0", "expected at least 1"),
        ("--durable", "unexpected argument '--durable'"),
    ];
    for (argument, message) in cases {
        let error = parse(&[argument]).expect_err(argument);
        assert!(error.contains(message), "{argument}: {error}");
    }
}

#[test]
fn values_at_their_minimum_are_taken() {
    for argument in [
        "--flush-interval=100ms",
        "--flush-bytes=1MiB",
        "--memory-limit=64MiB",
        "--max-body-bytes=1KiB",
        "--shards=1",
        "--shards=1024",
        "--max-connections=16",
        "--max-connections-per-address=1",
        "--handshake-timeout=1s",
        "--head-timeout=1s",
        "--body-idle-timeout=1s",
        "--body-timeout=1s",
        "--min-body-rate=1",
    ] {
        assert!(parse(&[argument]).is_ok(), "{argument}");
    }
}

#[test]
fn a_body_must_fit_into_half_of_the_memory() {
    let memory = "--memory-limit=64MiB";
    let config = parse(&[memory, "--max-body-bytes=32MiB"]).unwrap();
    assert_eq!(config.check(), Ok(()));
    let config = parse(&[memory, "--max-body-bytes=33554433"]).unwrap();
    assert_eq!(
        config.check().unwrap_err().to_string(),
        "--max-body-bytes: expected at most half of --memory-limit (64MiB), found 33554433"
    );
}

#[test]
fn limits_follow_the_settings() {
    let limits = |args: &[&str]| {
        let limits = parse(args).unwrap().limits();
        (limits.body_bytes_max, limits.inflated_bytes_max)
    };
    let default = Limits::DEFAULT;
    let small = "--max-body-bytes=1MiB";
    let large = "--max-body-bytes=256MiB";
    assert_eq!(
        limits(&["--memory-limit=1GiB"]),
        (default.body_bytes_max, default.inflated_bytes_max)
    );
    assert_eq!(limits(&["--memory-limit=1GiB", small]), (1 << 20, default.inflated_bytes_max));
    assert_eq!(limits(&["--memory-limit=1GiB", large]), (256 << 20, 256 << 20));
    assert_eq!(limits(&["--memory-limit=64MiB"]), (default.body_bytes_max, 32 << 20));
    assert_eq!(parse(&["--memory-limit=64MiB"]).unwrap().flush_bytes_max(), 16 << 20);
    assert_eq!(parse(&["--memory-limit=4GiB"]).unwrap().flush_bytes_max(), 256 << 20);
}

#[test]
fn connections_follow_the_settings_and_the_machine() {
    let limits = |args: &[&str], memory: usize| {
        let limits = parse(args).unwrap().network.limits(memory);
        (limits.connections_max, limits.connections_per_address_max)
    };
    assert_eq!(limits(&["--max-connections=100"], 1 << 30), (100, 50));
    let given = ["--max-connections=100", "--max-connections-per-address=200"];
    assert_eq!(limits(&given, 1 << 30), (100, 200));
    // 64 MiB leave room for 256 heads; the test has that many descriptors, or fewer.
    let (all, _) = limits(&[], 64 << 20);
    assert!((16..=256).contains(&all), "{all}");
    assert_eq!(limits(&[], 0), (16, 8));

    let root = TempDir::new().unwrap();
    assert_eq!(file_descriptors(root.path()), None);
    let path = root.path().join("proc/self/limits");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let line = |soft| format!("Max open files            {soft}   1048576   files\n");
    fs::write(&path, format!("Limit  Soft Limit  Hard Limit\n{}", line("1024"))).unwrap();
    assert_eq!(file_descriptors(root.path()), Some(1024));
    fs::write(&path, line("unlimited")).unwrap();
    assert_eq!(file_descriptors(root.path()), None);
}

#[test]
fn byte_sizes_are_read_and_shown() {
    let cases = [
        ("0", 0, "0"),
        ("1000", 1000, "1000"),
        ("1024b", 1024, "1KiB"),
        ("64M", 64 << 20, "64MiB"),
        ("64 MiB", 64 << 20, "64MiB"),
        ("1gb", 1_000_000_000, "1000000000"),
        ("3GiB", 3 << 30, "3GiB"),
        ("2048GiB", 2 << 40, "2TiB"),
    ];
    for (text, bytes, shown) in cases {
        let size: ByteSize = text.parse().unwrap();
        assert_eq!((size.0, size.to_string().as_str()), (bytes, shown), "{text}");
    }
}

#[test]
fn durations_are_sums_of_parts() {
    let cases =
        [("0s", 0), ("500ms", 500), ("1m30s", 90_000), ("2h", 7_200_000), ("1d", 86_400_000)];
    for (text, ms) in cases {
        assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
    }
}

#[test]
fn memory_is_the_lower_of_the_machine_and_its_control_groups() {
    let root = TempDir::new().unwrap();
    let put = |path: &str, text: &str| {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    assert_eq!(memory_bytes(root.path()), 2 << 30, "nothing is known");
    put("proc/meminfo", "MemFree: 1 kB\nMemTotal:        8388608 kB\n");
    assert_eq!(memory_bytes(root.path()), 8 << 30, "no control group");
    put("proc/self/cgroup", "0::/system.slice/peristyle.service\n");
    put("sys/fs/cgroup/system.slice/peristyle.service/memory.max", "max\n");
    assert_eq!(memory_bytes(root.path()), 8 << 30, "version 2 without a limit");
    put("sys/fs/cgroup/system.slice/memory.max", "4294967296\n");
    assert_eq!(memory_bytes(root.path()), 4 << 30, "version 2, the limit of an ancestor");
    put("proc/self/cgroup", "5:cpu:/\n4:memory:/docker/1\n");
    put("sys/fs/cgroup/memory/docker/1/memory.limit_in_bytes", "1073741824\n");
    assert_eq!(memory_bytes(root.path()), 1 << 30, "version 1");
    put("sys/fs/cgroup/memory/docker/1/memory.limit_in_bytes", "9223372036854771712\n");
    assert_eq!(memory_bytes(root.path()), 8 << 30, "version 1 without a limit");
}

#[test]
fn what_the_machine_decides_is_at_least_the_minimum() {
    let config = parse(&[]).unwrap();
    assert_eq!(config.memory_limit, Automatic::Auto);
    assert!(config.memory_limit_bytes() >= 64 << 20);
    assert!(config.shard_count() >= 1);
}

/// Reads a command line with `--config` for a file of `text`.
fn read(text: &str, options: &[&str]) -> Result<CommandLine, String> {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("p.toml");
    fs::write(&path, text).unwrap();
    let file = format!("--config={}", path.display());
    let arguments = ["peristyle", "config", file.as_str()].into_iter();
    let read = CommandLine::read(arguments.chain(options.iter().copied()).map(Into::into));
    read.map_err(|error| error.to_string().replace(&*path.to_string_lossy(), "p.toml"))
}

/// The settings that a file and options give.
fn config(text: &str, options: &[&str]) -> Config {
    match read(text, options).unwrap().command {
        Command::Config(config) => Config { config: None, ..*config },
        _ => panic!("expected the settings"),
    }
}

#[test]
fn the_file_of_defaults_gives_the_defaults() {
    assert_eq!(config(CONFIG_TOML, &[]), parse(&[]).unwrap());
    let read = read(CONFIG_TOML, &[]).unwrap();
    let of_file = read.settings.iter().filter(|it| matches!(it.origin, Origin::File(_)));
    assert_eq!(of_file.count(), settings().values().filter(|has_default| **has_default).count());
}

#[test]
fn options_win_over_the_file() {
    let text = "shards = 3\nlog_format = 'json'\ninsecure_http = true\n";
    let config = config(text, &["--shards", "5"]);
    assert_eq!(config.shard_count(), 5);
    assert_eq!(config.log_format, LogFormat::Json);
    assert!(config.insecure_http);
    let read = read(text, &["--shards", "5"]).unwrap();
    let origin =
        |name: &str| read.settings.iter().find(|it| it.name == name).unwrap().origin.clone();
    assert_eq!(origin("shards"), Origin::Option);
    assert!(matches!(origin("log_format"), Origin::File(_)));
    assert_eq!(origin("listen"), Origin::Default);
}

#[test]
fn what_is_wrong_in_a_file_is_told_with_its_line() {
    let cases = [
        (
            "flush_intervall = '1s'",
            "p.toml:1: unknown key \"flush_intervall\": did you mean \"flush_interval\"?",
        ),
        (
            "\n\nmemory-limit = 'auto'",
            "p.toml:3: unknown key \"memory-limit\": did you mean \"memory_limit\"?",
        ),
        ("zzz = 1", "p.toml:1: unknown key \"zzz\": `peristyle --help-all` has all of them"),
        ("config = 'x'", "p.toml:1: unknown key \"config\""),
        ("# why\nflush_interval = '99ms'", "p.toml:2: flush_interval: expected at least 100ms"),
        (
            "log_format = 'xml'",
            "log_format: error: invalid value 'xml' for '--log-format <FORMAT>' \
             [possible values: json, text]",
        ),
        (
            "shards = [1]",
            "p.toml:1: shards: expected a string, a decimal integer or a boolean, found array",
        ),
        (
            "shards = 0x10",
            "shards: expected a string, a decimal integer or a boolean, found integer",
        ),
        (
            "[shards]\na = 1",
            "p.toml:1: shards: expected a string, a decimal integer or a boolean, found table",
        ),
        ("shards = ", "p.toml:1: "),
        ("shards = 1\nshards = 2", "p.toml:2: duplicate key"),
    ];
    for (text, message) in cases {
        let error = read(text, &[]).expect_err(text);
        assert!(error.contains(message), "{text}: {error}");
    }
    let missing = CommandLine::read(["p", "serve", "--config=/missing/p.toml"].map(Into::into));
    let error = missing.unwrap_err().to_string();
    assert!(error.starts_with("--config: cannot read /missing/p.toml: "), "{error}");
}

#[test]
fn what_config_prints_is_a_file_that_gives_the_same() {
    let options = ["--data-dir", "/a \"b\"\\c\u{7}", "--shards=2", "--memory-limit=1GiB"];
    let read_once = read("retries = 'keys'", &options).unwrap();
    let Command::Config(given) = &read_once.command else { panic!("expected the settings") };
    let text = to_toml(given, &read_once.settings);
    assert_eq!(config(&text, &[]), Config { config: None, ..*given.clone() }, "{text}");
    assert!(text.contains("p.toml\n"), "{text}");
}

/// Runs the binary with variables of its own.
fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Process::new(env!("CARGO_BIN_EXE_peristyle"));
    output(command.args(arguments).env_clear().envs(variables.iter().copied()))
}

#[test]
fn variables_win_over_the_file_and_are_told() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("p.toml");
    fs::write(&path, "shards = 3\nlog_format = 'json'\nretries = 'off'\n").unwrap();
    let path = path.to_str().unwrap();
    let variables =
        [("PERISTYLE_CONFIG", path), ("PERISTYLE_SHARDS", "4"), ("PERISTYLE_LOG_FORMAT", "text")];
    let output = run(&["config", "--log-format=json"], &variables);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    let line = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).expect(name);
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(line("shards "), "shards = \"4\" # environment PERISTYLE_SHARDS");
    assert_eq!(line("log_format "), "log_format = \"json\" # option");
    assert_eq!(line("retries "), format!("retries = \"off\" # file {path}"));
    assert_eq!(line("listen "), "listen = \"127.0.0.1:8086\" # default");
}

#[test]
fn a_server_that_could_not_start_is_told_so_by_config() {
    let output = run(&["config", "--listen=0.0.0.0:1"], &[]);
    assert_eq!(output.status.code(), Some(2));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.starts_with("error: --listen: expected an address of loopback"), "{told}");
    let output = run(&["serve", "--config=/missing"], &[]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn help_is_short_and_help_all_has_everything() {
    for command in [vec![], vec!["serve"]] {
        let help = |flag: &str| {
            let output = run(&[command.as_slice(), &[flag]].concat(), &[]);
            assert_eq!(output.status.code(), Some(0));
            String::from_utf8(output.stdout).unwrap()
        };
        let (short, all) = (help("--help"), help("--help-all"));
        assert_eq!(short, help("-h"));
        assert!(short.lines().count() <= 50, "{short}");
        for name in settings().keys() {
            let option = format!("--{}", name.replace('_', "-"));
            assert!(all.contains(&option), "{option}");
            assert!(all.contains(&format!("PERISTYLE_{}", name.to_uppercase())), "{name}");
        }
        assert!(short.contains("--listen") && !short.contains("--wal-salvage"), "{short}");
    }
}
