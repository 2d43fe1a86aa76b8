//! The secrets that a request carries, in every way that clients pass one.
//!
//! | where                          | form                                     | sent by          |
//! |--------------------------------|------------------------------------------|------------------|
//! | `Authorization: Bearer S`      | `S`                                      | InfluxDB 3, Arc  |
//! | `Authorization: Token S`       | `S`; also `user:S`                       | InfluxDB 2, 1    |
//! | `Authorization: S`             | `S`                                      | Arc              |
//! | `Authorization: Basic B`       | base64 of `user:S`, the user is not seen | InfluxDB 1, 3    |
//! | `x-api-key: S`                 | `S`                                      | Arc              |
//! | `?p=S`                         | `S`; `u` is not seen                     | InfluxDB 1, 3    |
//!
//! Schemes are read in any case, and any number of spaces behind them. One good secret is enough:
//! some clients send a user and a password of their own beside the one that they were given.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use hyper::header::{self, HeaderMap};

/// Basic credentials, with padding or without.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// All secrets of a request, none of them empty. `p` is the parameter.
pub(super) fn secrets(headers: &HeaderMap, p: Option<&str>) -> Vec<Vec<u8>> {
    let mut secrets = Vec::new();
    for value in headers.get_all(header::AUTHORIZATION) {
        authorization(value.as_bytes(), &mut secrets);
    }
    for value in headers.get_all("x-api-key") {
        secrets.push(value.as_bytes().trim_ascii().to_vec());
    }
    secrets.extend(p.map(|p| p.as_bytes().to_vec()));
    secrets.retain(|secret| !secret.is_empty());
    secrets
}

fn authorization(value: &[u8], secrets: &mut Vec<Vec<u8>>) {
    let value = value.trim_ascii();
    let end = value.iter().position(u8::is_ascii_whitespace).unwrap_or(value.len());
    let (scheme, rest) = value.split_at_checked(end).unwrap_or_default();
    let rest = rest.trim_ascii();
    let is = |name: &str| scheme.eq_ignore_ascii_case(name.as_bytes());
    if is("basic") {
        if let Ok(pair) = BASE64.decode(rest) {
            secrets.extend(password(&pair).map(<[u8]>::to_vec));
        }
    } else if is("token") {
        secrets.push(rest.to_vec());
        secrets.extend(password(rest).map(<[u8]>::to_vec));
    } else if is("bearer") {
        secrets.push(rest.to_vec());
    } else if rest.is_empty() {
        secrets.push(scheme.to_vec());
    }
}

/// What stands behind the first colon.
fn password(pair: &[u8]) -> Option<&[u8]> {
    let colon = memchr::memchr(b':', pair)?;
    pair.get(colon + 1..)
}
