//! The rig reads and writes HPACK as RFC 7541 shows it.

use lameduck_rig::hpack::{DynamicTable, RawField, block, read, read_raw};

#[test]
fn what_rfc_7541_shows_is_read() {
    // Appendix C.6.1 (its first block needs no dynamic table) and C.4.1.
    let response = b"\x48\x82\x64\x02\x58\x85\xae\xc3\x77\x1a\x4b";
    let fields = read(response).unwrap();
    assert_eq!(fields[0], (":status".to_owned(), "302".to_owned()));
    assert_eq!(
        fields[1],
        ("cache-control".to_owned(), "private".to_owned())
    );
    let request = b"\x82\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff";
    let fields = read(request).unwrap();
    assert_eq!(
        fields[3],
        (":authority".to_owned(), "www.example.com".to_owned())
    );
    let long = "v".repeat(300);
    let written = read(&block(&[("x", &long)])).unwrap();
    assert_eq!(written, [("x".to_owned(), long)]);
}

#[test]
fn table_of_a_connection_is_kept_from_block_to_block() {
    // RFC 7541 appendix C.4.1 to C.4.3.
    let mut table = DynamicTable::default();
    let value = |fields: &[RawField], at: usize| String::from_utf8(fields[at].1.clone()).unwrap();
    for (block, at, expected) in [
        (
            &b"\x82\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff"[..],
            3,
            "www.example.com",
        ),
        (
            b"\x82\x86\x84\xbe\x58\x86\xa8\xeb\x10\x64\x9c\xbf",
            4,
            "no-cache",
        ),
        (
            b"\x82\x87\x85\xbf\x40\x88\x25\xa8\x49\xe9\x5b\xa9\x7d\x7f\x89\x25\xa8\x49\xe9\x5b\xb8\xe8\xb4\xbf",
            4,
            "custom-value",
        ),
    ] {
        let fields = read_raw(block, &mut table).unwrap();
        assert_eq!(value(&fields, at), expected);
        assert_eq!(value(&fields, 3), "www.example.com");
        let is_known_elsewhere = read(block).is_some();
        assert_eq!(is_known_elsewhere, expected == "www.example.com");
    }
}
