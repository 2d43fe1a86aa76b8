//! Who may do what: every route with every kind of token, every way of passing one, and tokens that
//! come and go while the server runs.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use peristyle::accept::route::ROUTES;
use peristyle::access::{
    self, ADMIN_FILE_NAME, AccessError, FILE_NAME, Grant, Guard, Permission, Token,
};

use crate::http::{row, write_paths};
use crate::http_client::{Answer, Client, head};
use crate::live::Live;
use crate::processes::{none_starts, output};

fn grant(name: &str, permissions: &[Permission], databases: &[&str]) -> Grant {
    Grant {
        name: name.to_owned(),
        permissions: permissions.to_vec(),
        databases: databases.iter().map(|it| (*it).to_owned()).collect(),
        created_s: 0,
        expires_s: None,
    }
}

fn create(live: &Live, grant: Grant) -> (Token, String) {
    let _alone = none_starts();
    access::create(live.directory.path(), grant).expect("a token")
}

fn revoke(live: &Live, id: u64) -> Result<Token, AccessError> {
    let _alone = none_starts();
    access::revoke(live.directory.path(), id)
}

fn secret(live: &Live, permissions: &[Permission], databases: &[&str]) -> String {
    create(live, grant("test", permissions, databases)).1
}

fn bearer(secret: &str) -> String {
    format!("Authorization: Bearer {secret}\r\n")
}

/// No token, a wrong one, an expired one; one that may read `a`, write `b`, write `a`, everything.
const SENDERS: usize = 7;

fn senders(live: &Live) -> [String; SENDERS] {
    use Permission::{Admin, Read, Write};
    let expired = Grant { expires_s: Some(1), ..grant("expired", &[Admin], &[]) };
    [
        String::new(),
        bearer(&format!("peristyle_{}", "0".repeat(64))),
        bearer(&create(live, expired).1),
        bearer(&secret(live, &[Read], &["a"])),
        bearer(&secret(live, &[Write], &["b"])),
        bearer(&secret(live, &[Write], &["a"])),
        bearer(&secret(live, &[Admin], &[])),
    ]
}

/// What each of the senders is answered.
type Statuses = [u16; SENDERS];

const PUBLIC: Statuses = [200; SENDERS];
const PUBLIC_EMPTY: Statuses = [204; SENDERS];
const ANY_TOKEN: Statuses = [401, 401, 401, 200, 200, 200, 200];
const READ: Statuses = [401, 401, 401, 200, 403, 403, 200];
const WRITE: Statuses = [401, 401, 401, 403, 403, 200, 200];
const ADMIN: Statuses = [401, 401, 401, 403, 403, 403, 200];

/// All requests but writes; `HEAD` is answered as `GET`.
const REQUESTS: &[(&str, &str, &str, Statuses)] = &[
    ("POST", "/api/v1/flush?db=a", "", WRITE),
    ("POST", "/api/v1/flush", "", ADMIN),
    ("GET", "/api/v1/tables", "", ANY_TOKEN),
    ("GET", "/api/v1/tables?db=a", "", READ),
    ("GET", "/api/v1/rejects", "", ANY_TOKEN),
    ("GET", "/api/v1/rejects?db=a", "", READ),
    ("GET", "/api/v3/configure/database", "", ANY_TOKEN),
    ("POST", "/api/v3/configure/database", r#"{"db":"a"}"#, [401, 401, 401, 403, 403, 409, 409]),
    ("DELETE", "/api/v3/configure/database?db=missing", "", [401, 401, 401, 403, 403, 403, 404]),
    ("GET", "/", "", PUBLIC),
    ("GET", "/health", "", PUBLIC),
    ("GET", "/api/v1/health", "", PUBLIC),
    ("GET", "/ready", "", PUBLIC),
    ("GET", "/metrics", "", PUBLIC),
    ("GET", "/ping", "", PUBLIC_EMPTY),
    ("POST", "/ping", "", PUBLIC_EMPTY),
    ("GET", "/query?q=SHOW+DATABASES", "", ANY_TOKEN),
    ("POST", "/query", "q=CREATE+DATABASE+a", WRITE),
    ("POST", "/query", "q=SHOW+MEASUREMENTS+ON+a", READ),
    ("POST", "/query?db=a", "q=SHOW+MEASUREMENTS", READ),
    ("POST", "/query", "q=DROP+DATABASE+missing", ADMIN),
    ("POST", "/query", "q=SHOW+DATABASES;DROP+DATABASE+a", ADMIN),
];

#[test]
fn every_route_asks_for_what_the_table_says() {
    let live = Live::start();
    let senders = senders(&live);
    let mut client = live.client();
    let mut seen = BTreeSet::new();
    let mut check = |method: &str, target: &str, body: &[u8], expected: Statuses| {
        let path = target.split('?').next().expect("a path").to_owned();
        seen.insert((path, method.to_owned()));
        for (sender, expected) in senders.iter().zip(expected) {
            let answer = client.request(method, target, sender, body);
            assert_eq!(answer.status, expected, "{method} {target} {sender}: {answer:?}");
            let challenge = answer.header("www-authenticate");
            assert_eq!(challenge.is_some(), expected == 401, "{answer:?}");
        }
    };
    for (path, dialect) in write_paths() {
        let stored = [401, 401, 401, 403, 403, 204, 204];
        check("POST", &format!("{path}?db=a"), row(dialect), stored);
        // The header names the database that is asked for.
        check("POST", &format!("{path}?bucket=a"), row(dialect), stored);
    }
    for (method, target, body, expected) in REQUESTS {
        check(method, target, body.as_bytes(), *expected);
        let path = target.split('?').next().expect("a path");
        let route = ROUTES.iter().find(|route| route.path == path).expect("a route");
        if *method == "GET" && route.allow.contains("HEAD") {
            check("HEAD", target, b"", *expected);
        }
    }
    let all: BTreeSet<(String, String)> = ROUTES
        .iter()
        .flat_map(|route| {
            let methods = route.allow.split(", ").filter(|method| *method != "OPTIONS");
            methods.map(|method| (route.path.to_owned(), method.to_owned()))
        })
        .collect();
    assert_eq!(seen, all, "a route is not in the table");
    // What is no endpoint tells nobody anything; browsers and QuestDB's clients ask without one.
    for target in ["/settings", "/nowhere"] {
        assert_eq!(client.get(target).status, 404);
    }
    assert_eq!(client.request("OPTIONS", "/write", "", b"").status, 204);
    assert_eq!(client.request("PUT", "/write", "", b"").status, 405);
}

#[test]
fn a_token_is_for_the_database_that_is_written_to() {
    let live = Live::start();
    let secret = bearer(&secret(&live, &[Permission::Write], &["a", "b/month"]));
    let mut client = live.client();
    for (target, headers, expected) in [
        ("/write?db=a", "", 204),
        ("/write", "X-Arc-Database: a\r\n", 204),
        ("/write?db=b", "X-Arc-Database: a\r\n", 204),
        ("/write", "X-Database: a\r\n", 204),
        ("/write?db=b&rp=month", "", 204),
        ("/write?db=a", "X-Arc-Database: b\r\n", 403),
        ("/write", "", 403),
        ("/write?db=a&rp=month", "", 403),
        ("/write?db=A", "", 403),
    ] {
        let answer = client.request("POST", target, &format!("{headers}{secret}"), b"cpu v=1");
        assert_eq!(answer.status, expected, "{target} {headers}");
    }
}

#[test]
fn a_token_is_passed_in_every_way_that_clients_know() {
    let live = Live::start();
    let secret = secret(&live, &[Permission::Write], &[]);
    let mut client = live.client();
    let basic = |pair: String| BASE64_STANDARD.encode(pair);
    let padded = basic(format!("user:{secret}"));
    let authorizations = [
        format!("Bearer {secret}"),
        format!("bearer   {secret} "),
        format!("BEARER\t{secret}"),
        format!("Token {secret}"),
        format!("token user:{secret}"),
        format!("Basic {padded}"),
        format!("basic {}", padded.trim_end_matches('=')),
        format!("Basic {}", basic(format!(":{secret}"))),
        secret.clone(),
    ];
    for authorization in authorizations {
        let headers = format!("Authorization: {authorization}\r\n");
        let answer = client.request("POST", "/write", &headers, b"cpu v=1");
        assert_eq!(answer.status, 204, "{authorization}");
    }
    for (target, headers) in [
        ("/write", format!("x-api-key: {secret}\r\n")),
        (&*format!("/write?u=any&p={secret}"), String::new()),
        (&*format!("/write?p={}", secret.replace('_', "%5F")), String::new()),
        // One that is good is enough: influxdb-python always sends root and root.
        (&*format!("/write?p={secret}"), "Authorization: Basic cm9vdDpyb290\r\n".to_owned()),
        ("/write", format!("Authorization: Token \r\nx-api-key: {secret}\r\n")),
    ] {
        assert_eq!(client.request("POST", target, &headers, b"cpu v=1").status, 204, "{target}");
    }
    for wrong in [
        String::new(),
        "Authorization: Bearer \r\n".to_owned(),
        "Authorization: Token \r\n".to_owned(),
        "Authorization: Basic !\r\n".to_owned(),
        format!("Authorization: Basic {secret}\r\n"),
        format!("Authorization: Digest {secret}\r\n"),
        format!("Authorization: Bearer {secret}0\r\n"),
        format!("Authorization: Bearer {}\r\n", secret.to_uppercase()),
        format!("Authorization: Bearer {}\r\n", &secret[..secret.len() - 1]),
    ] {
        assert_eq!(client.request("POST", "/write", &wrong, b"cpu v=1").status, 401, "{wrong}");
    }
}

#[test]
fn a_refusal_is_told_in_each_endpoints_shape() {
    let live = Live::start();
    let reader = bearer(&secret(&live, &[Permission::Read], &["a"]));
    let wrong = bearer("wrong");
    let mut client = live.client();
    let v1 = r#"{"error":"unable to parse authentication credentials"}"#;
    let nobody = r#"{"error":"the request was not authenticated"}"#;
    let v2 = concat!(
        r#"{"error":"the request was not authenticated","code":"unauthorized","#,
        r#""message":"the request was not authenticated"}"#
    );
    let arc = r#"{"error":"Authentication required","success":false}"#;
    let forbidden = r#"forbidden: the token does not permit write for database \"b\""#;
    for (target, headers, status, expected) in [
        ("/write?db=b", "", 401, v1.to_owned()),
        ("/write?db=b", &wrong, 401, r#"{"error":"authorization failed"}"#.to_owned()),
        ("/write?db=b", &reader, 403, format!("{{\"error\":\"{forbidden}\"}}")),
        ("/query?q=SHOW+DATABASES", "", 401, v1.to_owned()),
        ("/api/v2/write?bucket=b", "", 401, v2.to_owned()),
        (
            "/api/v2/write?bucket=b",
            &reader,
            403,
            format!(
                "{{\"error\":\"{forbidden}\",\"code\":\"forbidden\",\"message\":\"{forbidden}\"}}"
            ),
        ),
        ("/api/v3/write_lp?db=b", "", 401, nobody.to_owned()),
        ("/api/v3/write_lp?db=b", &wrong, 401, nobody.to_owned()),
        ("/api/v1/flush", "", 401, nobody.to_owned()),
        ("/api/v1/write/msgpack", "", 401, arc.to_owned()),
        (
            "/api/v1/write/line-protocol",
            &wrong,
            401,
            r#"{"error":"Invalid or expired token","success":false}"#.to_owned(),
        ),
        (
            "/api/v1/write?db=b",
            &reader,
            403,
            format!("{{\"error\":\"{forbidden}\",\"success\":false}}"),
        ),
    ] {
        let answer = client.request("POST", target, headers, b"cpu v=1");
        assert_eq!((answer.status, answer.body), (status, expected), "{target}");
        let basic = (status == 401).then_some("Basic realm=\"InfluxDB\"");
        let challenge = answer.headers.iter().find(|(name, _)| name == "www-authenticate");
        assert_eq!(challenge.map(|(_, value)| value.as_str()), basic);
    }
    let agent = "User-Agent: questdb/rust/6.0.0\r\n";
    let answer = client.request("POST", "/write?precision=n", agent, b"cpu v=1");
    assert_eq!(answer.status, 401);
    let expected = r#"{"code":"unauthorised","message":"the request was not authenticated""#;
    assert!(answer.body.starts_with(expected), "{}", answer.body);
}

#[test]
fn nothing_is_read_of_a_body_before_its_sender_is_known() {
    let live = Live::start();
    let reader = bearer(&secret(&live, &[Permission::Read], &[]));
    for (headers, status) in [("", 401), (&*reader, 403)] {
        let mut client = live.client();
        let headers = format!("Expect: 100-continue\r\n{headers}");
        client.send(&head("POST", "/write", &headers, 7));
        assert_eq!(client.answer_to_head().status, status);
        // Nor is looked at what else is wrong with the request, while nobody is known.
        let answer = live.client().request("POST", "/write?precision=x", "", b"");
        assert_eq!(answer.status, 401);
    }
    assert_eq!(live.engine.stats().line_protocol.received_bytes.get(), 0);
}

#[test]
fn only_what_a_sender_may_see_is_listed() {
    let live = Live::start();
    let mut client = live.client();
    for database in ["a", "b", "c"] {
        assert_eq!(client.post(&format!("/write?db={database}"), "cpu v=1").status, 204);
    }
    let sender = |permission| bearer(&secret(&live, &[permission], &["a", "c"]));
    let (reader, writer) = (sender(Permission::Read), sender(Permission::Write));
    let mut get = |target: &str, headers: &str| client.request("GET", target, headers, b"").body;
    for headers in [&reader, &writer] {
        let names = get("/query?q=SHOW+DATABASES", headers);
        assert!(names.contains(r#""values":[["a"],["c"]]"#), "{names}");
        let names = get("/api/v3/configure/database", headers);
        assert_eq!(names, r#"[{"iox::database":"a"},{"iox::database":"c"}]"#);
    }
    let tables = get("/api/v1/tables", &reader);
    assert!(tables.contains(r#"{"name":"a","#) && tables.contains(r#"{"name":"c","#), "{tables}");
    assert!(!tables.contains(r#"{"name":"b","#), "{tables}");
    assert_eq!(get("/api/v1/tables", &writer), r#"{"databases":[]}"#);
}

fn write(client: &mut Client, secret: &str) -> u16 {
    client.request("POST", "/write?db=a", &bearer(secret), b"cpu v=1").status
}

#[test]
fn tokens_come_and_go_without_a_restart() {
    let live = Live::start();
    // More clients than shards: each shard has to hear of it.
    let mut clients: Vec<Client> = (0..8).map(|_| live.client()).collect();
    for client in &mut clients {
        assert_eq!(client.post("/write?db=a", "cpu v=1").status, 204, "no token is defined");
    }
    let (first, one) = create(&live, grant("one", &[Permission::Write], &[]));
    let (_, two) = create(&live, grant("two", &[Permission::Write], &[]));
    for client in &mut clients {
        assert_eq!(client.post("/write?db=a", "cpu v=1").status, 401);
        assert_eq!((write(client, &one), write(client, &two)), (204, 204));
    }
    for _ in 0..2 {
        assert!(revoke(&live, first.id).expect("it is there").is_revoked);
        for client in &mut clients {
            assert_eq!((write(client, &one), write(client, &two)), (401, 204));
        }
    }
    let error = revoke(&live, 5).expect_err("there is none");
    assert_eq!(error.to_string(), "there is no token 0000000000000005");
    // Files that cannot be used, and none at all, change nothing for a server that runs.
    let path = live.directory.path().join(FILE_NAME);
    for content in [Some("{"), Some(r#"{"version":1}"#), None, Some("")] {
        match content {
            Some(content) => fs::write(&path, content).expect("a file"),
            None => fs::remove_file(&path).expect("a file"),
        }
        for client in &mut clients {
            assert_eq!((write(client, &one), write(client, &two)), (401, 204), "{content:?}");
        }
    }
    // Nor does a list of none open a server that once had one.
    fs::write(&path, r#"{"version":1,"tokens":[]}"#).expect("a file");
    for client in &mut clients {
        assert_eq!(client.post("/write?db=a", "cpu v=1").status, 401);
        assert_eq!((write(client, &one), write(client, &two)), (401, 401));
    }
}

#[test]
fn revoking_the_last_token_locks_the_server_across_restarts() {
    let mut live = Live::start();
    let (token, secret) = create(&live, grant("only", &[Permission::Admin], &[]));
    revoke(&live, token.id).expect("it is there");
    assert_eq!(write(&mut live.client(), &secret), 401);
    live.restart(|_| {});
    assert_eq!(write(&mut live.client(), &secret), 401);
    assert_eq!(live.post("/write", "cpu v=1").status, 401);
}

#[test]
fn an_expiry_holds_to_the_second() {
    let _alone = none_starts();
    let directory = tempfile::tempdir().expect("a directory");
    let until = Grant { expires_s: Some(1_000), ..grant("until", &[Permission::Read], &[]) };
    let (token, secret) = access::create(directory.path(), until).expect("a token");
    let mut guard = Guard::open(directory.path()).expect("a file");
    for (now_s, is_valid) in [(0, true), (999, true), (1_000, false), (u64::MAX, false)] {
        let secrets = || vec![secret.clone().into_bytes()];
        let sender = guard.recognise(secrets, now_s, |error| panic!("{error}"));
        assert_eq!(sender.is_ok(), is_valid, "{now_s}");
        assert_eq!(token.is_valid(now_s), is_valid);
    }
}

#[test]
fn the_file_holds_no_secret_and_is_its_owners() {
    let _alone = none_starts();
    let directory = tempfile::tempdir().expect("a directory");
    let data_dir = directory.path().join("made/when/missing");
    let (token, secret) =
        access::create(&data_dir, grant("a \"name\" \u{e9}", &[Permission::Write], &["a,b"]))
            .expect("a token");
    let (other, other_secret) =
        access::create(&data_dir, grant("b", &[Permission::Admin], &[])).expect("a token");
    assert_ne!((token.id, &secret), (other.id, &other_secret));
    assert_eq!(secret.len(), "peristyle_".len() + 64);
    let path = data_dir.join(FILE_NAME);
    let text = fs::read_to_string(&path).expect("text");
    for secret in [&secret, &other_secret] {
        assert!(!text.contains(secret.trim_start_matches("peristyle_")), "{text}");
    }
    let mode = fs::metadata(&path).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let loaded = access::load(&data_dir).expect("a file").expect("tokens");
    assert_eq!(loaded, [token, other]);
}

#[test]
fn a_file_that_cannot_be_used_keeps_a_server_from_its_start() {
    let directory = tempfile::tempdir().expect("a directory");
    let good = concat!(
        r#"{"version":1,"tokens":[{"id":"1","name":"n","sha256":"SUM","#,
        r#""permissions":["read"],"databases":[],"created_s":1}]}"#
    );
    let good = good.replace("SUM", &"0f".repeat(32));
    let check = |text: &str| {
        fs::write(directory.path().join(FILE_NAME), text).expect("a file");
        Guard::open(directory.path()).map(|guard| guard.is_guarded())
    };
    assert!(check(&good).expect("it is good"));
    assert!(!check(r#"{"version":1,"tokens":[]}"#).expect("it lists none"));
    for (from, to, expected) in [
        ("{\"version\"", "\"version\"", "expected JSON"),
        ("\"version\":1", "\"version\":2", "\"version\":1"),
        ("\"tokens\"", "\"other\"", "an array \"tokens\""),
        ("\"id\":\"1\"", "\"id\":\"0\"", "an \"id\" in hex"),
        ("0f0f", "0f", "64 hex digits"),
        ("0f0f", "0f0x", "64 hex digits"),
        ("[\"read\"]", "[\"all\"]", "admin, read and write"),
        ("[\"read\"]", "\"read\"", "admin, read and write"),
        ("\"databases\":[]", "\"databases\":[5]", "an array \"databases\""),
        // What cannot be read must not make a token worth more.
        ("\"created_s\":1", "\"created_s\":1,\"expires_s\":\"1\"", "a number \"expires_s\""),
        ("\"created_s\":1", "\"created_s\":1,\"revoked\":1", "true or false"),
        ("\"databases\":[],", "", "an array \"databases\""),
    ] {
        let text = good.replacen(from, to, 1);
        assert_ne!(text, good, "{from}");
        let error = check(&text).expect_err(&text).to_string();
        assert!(error.contains(expected) && error.contains(FILE_NAME), "{error}");
    }
}

#[test]
fn grants_that_mean_nothing_are_refused() {
    use Permission::{Admin, Read};
    let _alone = none_starts();
    let directory = tempfile::tempdir().expect("a directory");
    let long = "n".repeat(256);
    for (grant, expected) in [
        (grant("", &[Read], &[]), "a name"),
        (grant(&long, &[Read], &[]), "a name"),
        (grant("a\nb", &[Read], &[]), "a name"),
        (grant("a", &[], &[]), "at least one permission"),
        (grant("a", &[Admin], &["a"]), "no databases beside admin"),
    ] {
        let error = access::create(directory.path(), grant).expect_err(expected);
        assert!(matches!(error, AccessError::InvalidGrant { .. }));
        assert!(error.to_string().contains(expected), "{error}");
    }
    assert!(access::create(directory.path(), grant(&long[1..], &[Read], &[])).is_ok());
}

/// A body that a token sent is known again when that token sends it again; the same body of another
/// token is another request, even with the same `Idempotency-Key`.
#[test]
fn what_one_token_sent_is_not_taken_for_what_another_sends() {
    let live = Live::start_with(|options| options.retries.knows_bodies = true);
    let one = bearer(&secret(&live, &[Permission::Write], &[]));
    let two = bearer(&secret(&live, &[Permission::Write], &[]));
    let mut client = live.client();
    let mut send = |headers: &str, body: &str| -> Answer {
        client.request("POST", "/write?db=a", headers, body.as_bytes())
    };
    for sender in [&one, &one, &two, &two] {
        assert_eq!(send(sender, "cpu v=1 1").status, 204);
        let key = format!("{sender}Idempotency-Key: k\r\n");
        assert_eq!(send(&key, "cpu v=2 2").status, 204);
    }
    assert_eq!(live.engine.stats().line_protocol.rows_accepted.get(), 8);
    let flush = client.request("POST", "/api/v1/flush?db=a", &one, b"");
    assert_eq!(flush.body, "{\"files\":1,\"rows\":4}");
}

fn run(data_dir: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_peristyle"));
    output(command.args(arguments).arg("--data-dir").arg(data_dir))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

#[test]
fn the_command_makes_lists_and_revokes() {
    let live = Live::start();
    let data_dir = live.directory.path();
    let none = run(data_dir, &["token", "list"]);
    assert_eq!((none.status.code(), text(&none.stdout).as_str()), (Some(0), ""));
    let arguments = ["token", "create", "my agent", "--allow", "write,read", "--database", "a,b"];
    let made = run(data_dir, &[&arguments[..], &["--expires-in", "90d"]].concat());
    assert_eq!(made.status.code(), Some(0), "{}", text(&made.stderr));
    let secret = text(&made.stdout).trim_end().to_owned();
    assert!(!text(&made.stderr).contains(&secret), "a log is no place for it");
    assert_eq!(write(&mut live.client(), &secret), 204);

    let listed = text(&run(data_dir, &["token", "list"]).stdout);
    let (id, rest) = listed.split_once("  ").expect("columns");
    assert!(rest.starts_with("write,read  a,b  expires in "), "{listed}");
    assert!(rest.ends_with("d  my agent\n") && !listed.contains(&secret), "{listed}");

    let revoked = run(data_dir, &["token", "revoke", id]);
    assert_eq!(text(&revoked.stdout), format!("revoked {id} (my agent)\n"));
    assert_eq!(write(&mut live.client(), &secret), 401);
    let listed = text(&run(data_dir, &["token", "list"]).stdout);
    assert!(listed.contains("  revoked  my agent"), "{listed}");

    for arguments in [
        &["token", "create", "n"][..],
        &["token", "create", "n", "--allow", "all"],
        &["token", "create", "n", "--allow", "admin", "--database", "a"],
        &["token", "create", "", "--allow", "read"],
        &["token", "create", "n", "--allow", "read", "--expires-in", "0s"],
        &["token", "revoke", "xyz"],
        &["token", "revoke", "0000000000000001"],
    ] {
        assert_ne!(run(data_dir, arguments).status.code(), Some(0), "{arguments:?}");
    }
}

#[test]
fn a_server_is_not_open_to_a_network_by_mistake() {
    let directory = tempfile::tempdir().expect("a directory");
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:80"] {
        let refused = run(directory.path(), &["serve", "--listen", address]);
        assert_eq!(refused.status.code(), Some(1));
        let log = text(&refused.stderr);
        assert!(log.contains("expected an address of loopback") && log.contains("--insecure-http"));
    }
    assert!(fs::read_dir(directory.path()).expect("a directory").next().is_none());
}

#[test]
fn the_first_token_is_made_once_for_its_owner_and_permits_everything() {
    let mut live = Live::start();
    let data_dir = live.directory.path().to_owned();
    assert_eq!(live.client().post("/write?db=a", "m v=1").status, 204);
    // What a crash before the token counted left, for all to read.
    fs::write(data_dir.join(ADMIN_FILE_NAME), "half a secret").expect("a file");
    let alone = none_starts();
    let made = access::create_first(&data_dir, 1_700_000_000).expect("a token");
    assert_eq!(made.as_deref(), Some(&*data_dir.join(ADMIN_FILE_NAME)));
    let path = made.expect("a path");
    let kept = fs::read_to_string(&path).expect("text");
    let secret = kept.trim_end();
    assert_eq!(fs::metadata(&path).expect("a file").permissions().mode() & 0o777, 0o600);
    let tokens = fs::read_to_string(data_dir.join(FILE_NAME)).expect("text");
    assert!(!tokens.contains(secret) && tokens.contains("first admin"), "{tokens}");
    // Not twice, not when it is revoked, not when its file is gone.
    assert_eq!(access::create_first(&data_dir, 1_700_000_001).expect("none"), None);
    assert_eq!(fs::read_to_string(&path).expect("text"), kept);
    drop(alone);

    let query = "/query?q=DROP+DATABASE+a";
    assert_eq!(live.client().post(query, "").status, 401);
    assert_eq!(live.client().request("POST", query, &bearer(secret), b"").status, 200);
    live.restart(|_| {});
    assert_eq!(write(&mut live.client(), secret), 204);
    let id = access::load(&data_dir).expect("tokens").expect("a file")[0].id;
    revoke(&live, id).expect("it is known");
    fs::remove_file(&path).expect("it is there");
    assert_eq!(access::create_first(&data_dir, 1_700_000_002).expect("none"), None);
    assert!(!path.exists());
    assert_eq!(write(&mut live.client(), secret), 401);
}

#[test]
fn a_server_that_others_can_reach_names_the_file_of_its_first_token() {
    let directory = tempfile::tempdir().expect("a directory");
    let data_dir = directory.path().join("data");
    let [certificate, key] = ["cert.pem", "key.pem"].map(|name| directory.path().join(name));
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    fs::write(&certificate, made.cert.pem()).expect("a file");
    fs::write(&key, made.signing_key.serialize_pem()).expect("a file");
    let [certificate, key] = [&certificate, &key].map(|path| path.to_str().expect("text"));
    // An address for documentation (RFC 5737): no machine has it, so that nobody is let in.
    let arguments =
        ["serve", "--listen", "192.0.2.1:0", "--tls-cert", certificate, "--tls-key", key];
    let path = data_dir.join(ADMIN_FILE_NAME);
    for is_first in [true, false] {
        let ended = run(&data_dir, &arguments);
        let log = text(&ended.stderr);
        assert!(log.contains("cannot listen on 192.0.2.1:0"), "{log}");
        let names = log.matches(path.to_str().expect("text")).count();
        assert_eq!(names, usize::from(is_first), "{log}");
        let secret = fs::read_to_string(&path).expect("a secret");
        assert!(secret.starts_with("peristyle_") && !log.contains(secret.trim_end()), "{log}");
    }
    let mut guard = Guard::open(&data_dir).expect("tokens");
    let secret = fs::read(&path).expect("a secret").trim_ascii().to_vec();
    let sender = guard.recognise(|| vec![secret], 1_700_000_000, |error| panic!("{error}"));
    assert!(sender.expect("it is good").may(Permission::Admin, None));
    // Said so, it is open, and no secret is made.
    let open = directory.path().join("open");
    let log = text(&run(&open, &["serve", "--listen", "192.0.2.1:0", "--insecure-http"]).stderr);
    assert!(log.contains("whoever reaches this server may do everything"), "{log}");
    assert!(!open.join(ADMIN_FILE_NAME).exists());
}
