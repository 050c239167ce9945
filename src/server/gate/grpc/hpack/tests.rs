use super::*;

fn decode(decoder: &mut Decoder, hex: &str) -> Result<Decoded, HpackError> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
    let block: Vec<u8> = digits.chunks(2).map(byte).collect();
    decoder.decode(&block, 16_384)
}

fn bytes(fields: &[(&str, &str)]) -> usize {
    fields.iter().map(|(name, value)| name.len() + value.len() + FIELD_OVERHEAD).sum()
}

#[test]
fn huffman_lengths_are_a_complete_code() {
    let (mut next, mut before, mut symbols) = (0_u32, 0, 0);
    for (length, first, count) in LENGTHS {
        next <<= length - before;
        assert_eq!(next, first, "the first code of {length} bits");
        (next, before, symbols) = (next + count, length, symbols + count);
    }
    assert_eq!((next, before, symbols), (1 << 30, 30, 257));
}

#[test]
fn the_examples_of_the_rfc_have_their_sizes() {
    // RFC 7541, C.3 and C.4: three requests on one connection, plain and Huffman-coded.
    let plain = [
        "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "8286 84be 5808 6e6f 2d63 6163 6865",
        "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
    ];
    let coded = [
        "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
        "8286 84be 5886 a8eb 1064 9cbf",
        "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
    ];
    let get = [(":method", "GET"), (":scheme", "http"), (":path", "/")];
    let host = (":authority", "www.example.com");
    let last = [(":method", "GET"), (":scheme", "https"), (":path", "/index.html"), host];
    let sizes = [
        bytes(&get) + bytes(&[host]),
        bytes(&get) + bytes(&[host, ("cache-control", "no-cache")]),
        bytes(&last) + bytes(&[("custom-key", "custom-value")]),
    ];
    for requests in [plain, coded] {
        let mut decoder = Decoder::new();
        let mut tables = Vec::new();
        for (request, size) in requests.iter().zip(sizes) {
            assert_eq!(decode(&mut decoder, request).unwrap().bytes, size, "{request}");
            tables.push(decoder.bytes);
        }
        assert_eq!(tables, [57, 110, 164]);
    }
}

#[test]
fn entries_are_evicted_as_the_rfc_does() {
    // RFC 7541, C.5 and C.6: the table of 256 bytes holds three or four of the fields.
    let mut decoder = Decoder::new();
    decoder.resize(256, 0).unwrap();
    decode(
        &mut decoder,
        "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a \
         3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
    )
    .unwrap();
    assert_eq!(decoder.bytes, 222);
    decode(&mut decoder, "4803 3330 37c1 c0bf").unwrap();
    assert_eq!((decoder.bytes, decoder.table.len()), (222, 4));
    assert_eq!(decoder.resize(5_000, 0), Err(HpackError::Malformed));
}

#[test]
fn references_count_as_what_they_become() {
    let mut decoder = Decoder::new();
    let mut block = vec![0x40, 1, b'x', 0x7f, 0xa1, 0x1e];
    block.extend(vec![b'v'; 4_000]);
    assert_eq!(decoder.decode(&block, 16_384).unwrap().bytes, 4_033);
    assert_eq!(decoder.decode(&[0xbe; 4], 16_384).unwrap().bytes, 4 * 4_033);
    assert_eq!(decoder.decode(&[0xbe; 5], 16_384), Err(HpackError::TooLarge));
}

#[test]
fn a_path_says_what_its_call_carries() {
    let literal =
        |name: &[u8], value: &str| [name, &[value.len() as u8], value.as_bytes()].concat();
    let report = "/oxmon.MetricService/ReportMetrics";
    let mut decoder = Decoder::new();
    let kind = |decoder: &mut Decoder, block: &[u8]| decoder.decode(block, 16_384).unwrap().kind;
    assert_eq!(kind(&mut decoder, &literal(&[0x04], report)), CallKind::Report);
    assert_eq!(kind(&mut decoder, &literal(b"\x00\x05:path", report)), CallKind::Report);
    assert_eq!(kind(&mut decoder, &literal(b"\x00\x05xpath", report)), CallKind::Other);
    assert_eq!(kind(&mut decoder, &literal(&[0x44], "/oxmon.X/Enroll")), CallKind::Other);
    assert_eq!(kind(&mut decoder, &literal(&[0x44], report)), CallKind::Report);
    assert_eq!(kind(&mut decoder, &[0xbe]), CallKind::Report);
    assert_eq!(kind(&mut decoder, &[0xbf]), CallKind::Other);
    assert_eq!(kind(&mut decoder, &[0x84]), CallKind::Other);
    let stream = literal(&[0x04], "/oxmon.MetricService/ReportPacked");
    assert_eq!(kind(&mut decoder, &stream), CallKind::Stream);
    // `/oxmon.MetricService/ReportMetrics` in Huffman code.
    let mut text = Vec::new();
    huffman(&encode(report), &mut text).unwrap();
    assert_eq!(text, report.as_bytes());
}

#[test]
fn every_symbol_comes_back_from_its_code() {
    let mut symbols = SYMBOLS.to_vec();
    symbols.sort_unstable();
    assert_eq!(symbols, (0..=255).collect::<Vec<u8>>());
    let mut text = Vec::new();
    huffman(&encode_bytes(SYMBOLS), &mut text).unwrap();
    assert_eq!(text, SYMBOLS);
    // RFC 7541, appendix B: `\` has 19 bits, `^` 14, and 22 has the last code of 30 bits but one.
    assert_eq!(encode("\\")[..2], [0xff, 0xfe]);
    assert_eq!(encode("^")[..2], [0xff, 0xf3]);
    assert_eq!(encode_bytes(&[22]), [0xff, 0xff, 0xff, 0xfb]);
}

#[test]
fn what_a_caller_says_of_itself_is_kept_however_it_is_sent() {
    let literal = |name: &[u8], value: &[u8]| [name, &[value.len() as u8], value].concat();
    let mut decoder = Decoder::new();
    let mut said = |block: &[u8]| {
        let decoded = decoder.decode(block, 16_384).unwrap();
        let text =
            |value: Option<Arc<[u8]>>| value.map(|it| String::from_utf8(it.to_vec()).unwrap());
        (text(decoded.agent_id), text(decoded.authorization))
    };
    let some = |text: &str| Some(text.to_owned());
    // A name and a value, both indexed from then on; a value under the static name.
    let agent = literal(b"\x40\x08agent-id", b"web-01");
    assert_eq!(said(&agent), (some("web-01"), None));
    assert_eq!(said(&[0xbe]), (some("web-01"), None));
    // Index 23 takes the five bits of the prefix and one more byte where it is not indexed.
    assert_eq!(said(&literal(&[0x0f, 0x08], b"Bearer x")), (None, some("Bearer x")));
    assert_eq!(said(&literal(&[0x57], b"Bearer y")), (None, some("Bearer y")));
    assert_eq!(said(&[0xbe, 0xbf]), (some("web-01"), some("Bearer y")));
    assert_eq!(said(&literal(&[0x7f, 0x00], b"web-02")), (some("web-02"), None));
    assert_eq!(said(&[0x97]), (None, some("")));
    // The last one counts, as in the handler.
    assert_eq!(said(&[0x57, 1, b'a', 0x57, 1, b'b']), (None, some("b")));
    let coded = encode("Bearer {\\^~}");
    let block = [&[0x57, 0x80 | coded.len() as u8], coded.as_slice()].concat();
    assert_eq!(said(&block), (None, some("Bearer {\\^~}")));
}

/// Huffman code of a text.
fn encode(text: &str) -> Vec<u8> {
    encode_bytes(text.as_bytes())
}

fn encode_bytes(text: &[u8]) -> Vec<u8> {
    let mut bits = String::new();
    for &byte in text {
        let mut at = SYMBOLS.iter().position(|known| *known == byte).unwrap() as u32;
        for (length, first, count) in LENGTHS {
            if at < count {
                bits.push_str(&format!("{:0width$b}", first + at, width = length as usize));
                break;
            }
            at -= count;
        }
    }
    while !bits.len().is_multiple_of(8) {
        bits.push('1');
    }
    bits.as_bytes()
        .chunks(8)
        .map(|byte| u8::from_str_radix(str::from_utf8(byte).unwrap(), 2).unwrap())
        .collect()
}

#[test]
fn what_is_malformed_is_refused() {
    for hex in [
        "80",                      // index 0
        "be",                      // an entry that is not there
        "ff ff ff ff ff ff ff",    // an integer without an end
        "40 01",                   // a string without its bytes
        "40 85 ff ff ff ff ff 00", // the end of a string within one
        "40 81 00 00",             // padding of zeros
        "82 20",                   // a new size after a field
        "3f e2 1f",                // a size above the limit
    ] {
        assert_eq!(decode(&mut Decoder::new(), hex), Err(HpackError::Malformed), "{hex}");
    }
}

proptest::proptest! {
    #[test]
    fn noise_panics_nowhere(block in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
        let _ = Decoder::new().decode(&block, 16_384);
    }
}
