use proptest::prelude::*;

use super::*;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let pairs = digits
        .chunks(2)
        .map(|pair| std::str::from_utf8(pair).unwrap());
    pairs
        .map(|pair| u8::from_str_radix(pair, 16).unwrap())
        .collect()
}

fn read(table: &mut FieldTable, block: &[u8]) -> Result<Vec<(String, String)>, HpackError> {
    let (mut reader, mut field) = (BlockReader::new(block), FieldBuffer::default());
    let mut fields = Vec::new();
    while let Some(piece) = reader.next_piece(table, &mut field)? {
        let (name, value) = match piece {
            BlockPiece::Indexed(index) => table.get(index)?,
            BlockPiece::Literal => field.parts(),
            BlockPiece::Resize => continue,
        };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        fields.push((text(name), text(value)));
    }
    Ok(fields)
}

fn pairs(fields: &[(&str, &str)]) -> Vec<(String, String)> {
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    fields.iter().map(own).collect()
}

/// RFC 7541, appendix C.4: three requests on one connection.
#[test]
fn coded_requests_of_the_rfc_are_read() {
    let mut table = FieldTable::default();
    let first = [
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/"),
        (":authority", "www.example.com"),
    ];
    let block = hex("8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff");
    assert_eq!(read(&mut table, &block).unwrap(), pairs(&first));
    let block = hex("8286 84be 5886 a8eb 1064 9cbf");
    let second = [&first[..], &[("cache-control", "no-cache")]].concat();
    assert_eq!(read(&mut table, &block).unwrap(), pairs(&second));
    let block = hex("8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf");
    let third = [
        (":method", "GET"),
        (":scheme", "https"),
        (":path", "/index.html"),
        (":authority", "www.example.com"),
        ("custom-key", "custom-value"),
    ];
    assert_eq!(read(&mut table, &block).unwrap(), pairs(&third));
    assert_eq!(table.size, 164);
}

/// RFC 7541, appendix C.6: a table of 256 bytes, from which fields are evicted.
#[test]
fn responses_of_the_rfc_evict_fields_without_room() {
    let mut table = FieldTable::default();
    table.resize(256).unwrap();
    let first = hex(
        "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
    );
    let fields = read(&mut table, &first).unwrap();
    assert_eq!(fields[0], (":status".into(), "302".into()));
    assert_eq!(fields[2].1, "Mon, 21 Oct 2013 20:13:21 GMT");
    assert_eq!(table.size, 222);
    let fields = read(&mut table, &hex("4883 640e ffc1 c0bf")).unwrap();
    assert_eq!(fields[0], (":status".into(), "307".into()));
    assert_eq!(
        fields[3],
        ("location".into(), "https://www.example.com".into())
    );
    assert_eq!(table.size, 222);
    let third = hex(
        "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
    );
    let fields = read(&mut table, &third).unwrap();
    assert_eq!(fields[4], ("content-encoding".into(), "gzip".into()));
    assert_eq!(
        fields[5].1,
        "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1"
    );
    assert_eq!(table.size, 215);
}

#[test]
fn blocks_that_violate_the_rfc_are_malformed() {
    for bad in [
        "80",            // index 0
        "be",            // an index that is not in use
        "ff80808080 01", // an integer without end
        "3fe21f",        // a table of 4097 bytes
        "8220",          // a size update after a field
        "0081ff",        // padding of eight bits
        "00 84ffffffff", // the end-of-string symbol as a code
        "00 8100 00",    // padding of zeros
    ] {
        let outcome = read(&mut FieldTable::default(), &hex(bad));
        assert_eq!(outcome, Err(HpackError::Malformed), "{bad}");
    }
    for part in ["40", "4003", "400161", "40016102 62", "ff", "0085f1"] {
        let outcome = read(&mut FieldTable::default(), &hex(part));
        assert_eq!(outcome, Err(HpackError::Incomplete), "{part}");
    }
    // Two sizes in a row are allowed (RFC 7541 §4.2).
    assert_eq!(
        read(&mut FieldTable::default(), &hex("203f e11f 82"))
            .unwrap()
            .len(),
        1
    );
}

proptest! {
    #[test]
    fn strings_are_read_as_they_were_written(
        fields in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..40), prop::collection::vec(any::<u8>(), 0..400)), 1..8),
    ) {
        let mut block = Vec::new();
        for (name, value) in &fields {
            put_literal(&mut block, name, value);
            let coded = huffman::encode(value);
            block.extend_from_slice(&[0x40, 1, b'n']);
            let at = block.len();
            put_string(&mut block, &coded);
            block[at] |= 0x80;
        }
        let (mut reader, mut field) = (BlockReader::new(&block), FieldBuffer::default());
        let mut table = FieldTable::default();
        for (name, value) in &fields {
            prop_assert_eq!(reader.next_piece(&mut table, &mut field), Ok(Some(BlockPiece::Literal)));
            prop_assert_eq!(field.parts(), (&name[..], &value[..]));
            prop_assert_eq!(reader.next_piece(&mut table, &mut field), Ok(Some(BlockPiece::Literal)));
            prop_assert_eq!(field.parts(), (&b"n"[..], &value[..]));
            prop_assert_eq!(table.get(62), Ok((&b"n"[..], &value[..])));
        }
        prop_assert_eq!(reader.next_piece(&mut table, &mut field), Ok(None));
    }

    #[test]
    fn random_blocks_end_without_a_panic(block in prop::collection::vec(any::<u8>(), 0..400)) {
        let mut table = FieldTable::default();
        let _ = read(&mut table, &block);
        prop_assert!(table.size <= TABLE_SIZE);
    }
}
