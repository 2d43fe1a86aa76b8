//! Requests that come twice are stored once; what is not the same request is stored.

use std::io::Write;
use std::sync::Arc;
use std::thread;

use flate2::{Compression, GzBuilder};
use rmpv::Value as Tree;

use crate::http_client::{Answer, Client};
use crate::live::{self, Live};

const TIMED: &str = "cpu,host=a v=1 1700000000000000001\nmem v=2 1700000000000000002\n";
const UNTIMED: &str = "cpu,host=a v=1 1700000000000000001\nmem v=2\n";

fn start() -> Live {
    Live::start_with(|options| options.retries.knows_bodies = true)
}

fn send_twice(live: &Live, target: &str, body: &[u8]) -> [Answer; 2] {
    [live.post(target, body), live.post(target, body)]
}

#[test]
fn a_body_with_its_own_times_is_stored_once() {
    let live = start();
    for answer in send_twice(&live, "/write?db=a", TIMED.as_bytes()) {
        assert_eq!(answer.status, 204);
        assert_eq!(answer.header("x-peristyle-durability"), Some("fsync"));
    }
    assert_eq!(live.rows("a").len(), 2);
    // It is known after a flush, too.
    assert_eq!(live.post("/write?db=a", TIMED).status, 204);
    assert_eq!(live.rows("a").len(), 2);
}

/// Python's clients doubled 50 rows when the server was killed between a record and its answer:
/// what they send again they compress again, and gzip says when.
#[test]
fn a_body_that_is_compressed_again_is_stored_once() {
    let live = start();
    let gzip = |mtime: u32, body: &str| {
        let mut encoder = GzBuilder::new().mtime(mtime).write(Vec::new(), Compression::default());
        encoder.write_all(body.as_bytes()).unwrap();
        encoder.finish().unwrap()
    };
    for mtime in [1_700_000_000, 1_700_000_001] {
        assert_eq!(live.post("/write?db=a", gzip(mtime, TIMED)).status, 204);
    }
    assert_eq!(live.rows("a").len(), 2);
    let another = TIMED.replace("v=2", "v=3");
    assert_eq!(live.post("/write?db=a", gzip(1_700_000_000, &another)).status, 204);
    assert_eq!(live.rows("a").len(), 4);
}

#[test]
fn what_differs_in_anything_that_matters_is_stored() {
    let live = start();
    for target in
        ["/write?db=a", "/write?db=b", "/api/v3/write_lp?db=a&precision=ns&accept_partial=false"]
    {
        assert_eq!(live.post(target, TIMED).status, 204, "{target}");
    }
    assert_eq!(live.post("/write?db=a", TIMED.replace("v=2", "v=3")).status, 204);
    assert_eq!(live.rows("a").len(), 6);
    assert_eq!(live.rows("b").len(), 2);
}

#[test]
fn a_body_with_a_received_time_is_stored_each_time() {
    let live = start();
    for answer in send_twice(&live, "/write?db=a", UNTIMED.as_bytes()) {
        assert_eq!(answer.status, 204);
    }
    assert_eq!(live.rows("a").len(), 4);
    let row = |time: Option<i64>| {
        let mut pairs = vec![
            (Tree::from("m"), Tree::from("cpu")),
            (Tree::from("fields"), Tree::Map(vec![("v".into(), 1.5.into())])),
        ];
        pairs.extend(time.map(|time| ("t".into(), time.into())));
        let mut body = Vec::new();
        rmpv::encode::write_value(&mut body, &Tree::Map(pairs)).unwrap();
        body
    };
    for (database, time, count) in [("m", Some(1_700_000_000_000), 1), ("n", None, 2)] {
        let target = format!("/api/v1/write/msgpack?db={database}");
        for answer in send_twice(&live, &target, &row(time)) {
            assert_eq!(answer.status, 204);
        }
        assert_eq!(live.rows(database).len(), count, "{time:?}");
    }
}

#[test]
fn a_partial_body_gets_the_same_answer_again() {
    let live = start();
    let body = "cpu v=1 1\ncpu v= 2\ncpu v=3 3\n";
    let [first, second] = send_twice(&live, "/api/v2/write?bucket=a", body.as_bytes());
    assert_eq!((first.status, &first.body), (400, &second.body));
    assert_eq!(second.status, 400);
    assert_eq!(live.rows("a").len(), 2);
}

#[test]
fn a_key_is_known_whatever_the_body() {
    let live = start();
    let send = |key: &str, body: &str| {
        let header = format!("Idempotency-Key: {key}\r\n");
        live.client().request("POST", "/write?db=a", &header, body.as_bytes())
    };
    assert_eq!(send("one", UNTIMED).status, 204);
    assert_eq!(send("one", UNTIMED).status, 204);
    assert_eq!(live.rows("a").len(), 2);
    assert_eq!(send("two", UNTIMED).status, 204);
    assert_eq!(live.rows("a").len(), 4);
}

#[test]
fn each_can_be_switched_off() {
    let live = Live::start_with(|options| {
        options.retries.knows_bodies = false;
        options.retries.knows_keys = false;
    });
    send_twice(&live, "/write?db=a", TIMED.as_bytes());
    for _ in 0..2 {
        let header = "Idempotency-Key: one\r\n";
        live.client().request("POST", "/write?db=b", header, TIMED.as_bytes());
    }
    assert_eq!((live.rows("a").len(), live.rows("b").len()), (4, 4));
}

#[test]
fn the_same_body_on_many_connections_is_stored_once() {
    let live = Arc::new(start());
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let live = Arc::clone(&live);
            thread::spawn(move || {
                let mut client: Client = live.client();
                (0..20).map(|_| client.post("/write?db=a", TIMED).status).collect::<Vec<_>>()
            })
        })
        .collect();
    for thread in threads {
        assert_eq!(thread.join().unwrap(), [204; 20]);
    }
    assert_eq!(live.rows("a").len(), 2);
}

#[test]
fn the_window_survives_a_restart() {
    let mut live = start();
    assert_eq!(live.post("/write?db=a", TIMED).status, 204);
    for _ in 0..2 {
        live.restart(|options| options.retries.knows_bodies = true);
        assert_eq!(live.post("/write?db=a", TIMED).status, 204);
        assert_eq!(live::read_rows(live.directory.path(), "a").len(), 2);
    }
    assert_eq!(live.rows("a").len(), 2);
}
