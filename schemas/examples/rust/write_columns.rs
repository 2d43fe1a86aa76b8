//! Writes the same two rows to Peristyle as `MessagePack` by columns, and as an Arrow IPC stream.
//!
//! ```sh
//! cargo run --example write_columns -- 127.0.0.1:8086 [TOKEN]
//! ```
//!
//! The requests are written to a plain socket, so that nothing hides what is sent; a program of
//! yours would use its HTTP client.

use std::error::Error;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use arrow_array::{
    ArrayRef, BooleanArray, Float64Array, RecordBatch, StringArray, TimestampNanosecondArray,
};
use arrow_ipc::writer::StreamWriter;
use rmp::encode;

const BEGIN: i64 = 1_700_000_000_000_000_000;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:8086".to_owned());
    let token = arguments.next();
    let post = |target: &str, body: &[u8]| post(&address, target, token.as_deref(), body);
    post("/api/v1/write/msgpack?db=examples", &by_columns()?)?;
    post("/api/v1/write/arrow?db=examples&measurement=rust_arrow&tags=room", &by_arrow()?)
}

/// Every column is an array; `tag_keys` says which ones are tags.
fn by_columns() -> Result<Vec<u8>, Box<dyn Error>> {
    let mut body = Vec::new();
    encode::write_map_len(&mut body, 3)?;
    encode::write_str(&mut body, "m")?;
    encode::write_str(&mut body, "rust_msgpack")?;
    encode::write_str(&mut body, "tag_keys")?;
    encode::write_array_len(&mut body, 1)?;
    encode::write_str(&mut body, "room")?;
    encode::write_str(&mut body, "columns")?;
    encode::write_map_len(&mut body, 4)?;
    encode::write_str(&mut body, "time")?;
    encode::write_array_len(&mut body, 2)?;
    encode::write_sint(&mut body, BEGIN)?;
    encode::write_sint(&mut body, BEGIN + 1)?;
    encode::write_str(&mut body, "room")?;
    encode::write_array_len(&mut body, 2)?;
    encode::write_str(&mut body, "hall")?;
    encode::write_str(&mut body, "attic")?;
    encode::write_str(&mut body, "level")?;
    encode::write_array_len(&mut body, 2)?;
    encode::write_f64(&mut body, 1.25)?;
    encode::write_nil(&mut body)?;
    encode::write_str(&mut body, "open")?;
    encode::write_array_len(&mut body, 2)?;
    encode::write_bool(&mut body, true)?;
    encode::write_bool(&mut body, false)?;
    Ok(body)
}

/// A record batch as it is in memory; the measurement is in the address.
fn by_arrow() -> Result<Vec<u8>, Box<dyn Error>> {
    let time = TimestampNanosecondArray::from(vec![BEGIN, BEGIN + 1]).with_timezone("UTC");
    let columns: [(&str, ArrayRef); 4] = [
        ("time", Arc::new(time)),
        ("room", Arc::new(StringArray::from(vec!["hall", "attic"]))),
        ("level", Arc::new(Float64Array::from(vec![Some(1.25), None]))),
        ("open", Arc::new(BooleanArray::from(vec![true, false]))),
    ];
    let batch = RecordBatch::try_from_iter(columns)?;
    let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema())?;
    writer.write(&batch)?;
    Ok(writer.into_inner()?)
}

/// Sends a body. Rows are on disk, synced, when the answer is 204; after a 503 nothing is stored,
/// and the same bytes may be sent again.
fn post(
    address: &str,
    target: &str,
    token: Option<&str>,
    body: &[u8],
) -> Result<(), Box<dyn Error>> {
    let mut connection = TcpStream::connect(address)?;
    let token = token.map_or_else(String::new, |it| format!("Authorization: Bearer {it}\r\n"));
    let head = format!(
        "POST {target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{token}\
         Content-Length: {}\r\n\r\n",
        body.len(),
    );
    connection.write_all(head.as_bytes())?;
    connection.write_all(body)?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    if answer.starts_with("HTTP/1.1 204") { Ok(()) } else { Err(answer.into()) }
}
