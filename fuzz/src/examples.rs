//! Sound bytes: those that `tests/data` pins, and nobody has to invent.

use bytes::Bytes;
use coterie::wire::{Decode, VERSION};
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// Everything that is pinned: messages, records, values, commands, answers, a frame, a journal's segment, a snapshot.
pub fn all() -> &'static [Bytes] {
    static ALL: OnceLock<Vec<Bytes>> = OnceLock::new();
    ALL.get_or_init(|| {
        let files = [
            include_str!("../../tests/data/wire-v1.json"),
            include_str!("../../tests/data/asks-v1.json"),
            include_str!("../../tests/data/store-v1.json"),
        ];
        let all: Vec<Bytes> = files.into_iter().flat_map(read).collect();
        assert!(all.len() > 100, "only {} examples are left", all.len());
        all
    })
}

/// Those that are a `T`.
pub fn examples<T: Decode>() -> Vec<Bytes> {
    all().iter().filter(|bytes| T::from_bytes((*bytes).clone(), VERSION).is_ok()).cloned().collect()
}

fn read(file: &str) -> Vec<Bytes> {
    let named: BTreeMap<String, String> = serde_json::from_str(file).expect("names and hexadecimal bytes");
    named.into_values().map(|digits| from_hexadecimal(&digits)).collect()
}

fn from_hexadecimal(digits: &str) -> Bytes {
    let byte = |pair: &[u8]| {
        let pair = std::str::from_utf8(pair).expect("ASCII");
        u8::from_str_radix(pair, 16).expect("hexadecimal digits")
    };
    digits.as_bytes().chunks(2).map(byte).collect()
}
