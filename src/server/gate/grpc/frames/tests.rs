use super::*;

/// `:method: POST`, `:scheme: http`, `:path: /`.
const FIELDS: &[u8] = &[0x83, 0x86, 0x84];

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

fn settings() -> Vec<u8> {
    frame(kind::SETTINGS, 0, 0, &[])
}

fn open(stream: u32) -> Vec<u8> {
    frame(kind::HEADERS, flag::END_HEADERS, stream, FIELDS)
}

/// Follows bytes after preface and SETTINGS; what was passed on of them.
fn follow(bytes: &[u8]) -> Result<Vec<u8>, Violation> {
    let now = Instant::now();
    let (mut requests, mut out) = (Requests::new(now), Vec::new());
    let greeting = [PREFACE, &settings()].concat();
    requests.follow(&greeting, now, &mut out)?;
    assert_eq!(out, greeting);
    out.clear();
    requests.follow(bytes, now, &mut out)?;
    Ok(out)
}

#[test]
fn bytes_are_passed_on_as_they_came_however_they_came() {
    let block = [&[0x40, 1, b'x', 1, b'y'], FIELDS].concat();
    let padded = [&[2, 0, 0, 0, 0, 7], FIELDS, &[0, 0]].concat();
    let all = [
        PREFACE.to_vec(),
        settings(),
        frame(kind::SETTINGS, flag::ACK, 0, &[]),
        frame(kind::HEADERS, 0, 1, &block[..4]),
        frame(kind::CONTINUATION, flag::END_HEADERS, 1, &block[4..]),
        frame(kind::DATA, 0, 1, &[7; 100]),
        frame(kind::WINDOW_UPDATE, 0, 0, &[0, 0, 1, 0]),
        frame(kind::HEADERS, flag::END_HEADERS | flag::PADDED | flag::PRIORITY, 3, &padded),
        frame(kind::PING, 0, 0, &[1; 8]),
        frame(kind::RST_STREAM, 0, 3, &[0; 4]),
        frame(77, 0, 0, &[1, 2, 3]),
    ]
    .concat();
    for step in [1, 2, 7, 50, all.len()] {
        let now = Instant::now();
        let (mut requests, mut out) = (Requests::new(now), Vec::new());
        for piece in all.chunks(step) {
            requests.follow(piece, now, &mut out).unwrap();
        }
        assert_eq!(out, all, "in pieces of {step}");
        assert!(requests.is_greeted() && requests.has_data() && requests.open() == 1);
        requests.ended(1);
        assert_eq!((requests.open(), requests.held()), (0, 0));
    }
}

#[test]
fn a_header_block_is_held_back_until_it_is_whole() {
    let first = frame(kind::HEADERS, 0, 1, &FIELDS[..1]);
    assert!(follow(&first).unwrap().is_empty());
    let rest = frame(kind::CONTINUATION, flag::END_HEADERS, 1, &FIELDS[1..]);
    let whole = [first, rest].concat();
    assert_eq!(follow(&whole).unwrap(), whole);
}

#[test]
fn what_breaks_the_protocol_ends_the_connection() {
    let now = Instant::now();
    for greeting in [b"GET / HTTP/1.1\r\n".to_vec(), [PREFACE, &open(1)].concat()] {
        let outcome = Requests::new(now).follow(&greeting, now, &mut Vec::new());
        assert_eq!(outcome, Err(Violation::Protocol));
    }
    for bytes in [
        open(2),
        frame(kind::DATA, 0, 1, &[1]),
        frame(kind::DATA, 0, 0, &[1]),
        frame(kind::PING, 0, 0, &[1]),
        frame(kind::SETTINGS, 0, 0, &[1]),
        frame(kind::PUSH_PROMISE, 0, 1, &[0; 4]),
        frame(kind::CONTINUATION, flag::END_HEADERS, 1, FIELDS),
        [frame(kind::HEADERS, 0, 1, FIELDS), open(3)].concat(),
        frame(kind::HEADERS, flag::END_HEADERS | flag::PADDED, 1, &[9, 0x83]),
        frame(kind::HEADERS, flag::END_HEADERS, 1, &[0xff, 0xff, 0xff, 0xff, 0xff]),
        frame(kind::DATA, 0, 1, &vec![0; FRAME_BYTES_MAX + 1]),
    ] {
        assert_eq!(follow(&bytes), Err(Violation::Protocol), "{:?}", &bytes[..9]);
    }
}

#[test]
fn each_flood_has_its_end() {
    let many = |frame: Vec<u8>, times: u16| frame.repeat(usize::from(times));
    let reset = |stream| [open(stream), frame(kind::RST_STREAM, 0, stream, &[0; 4])].concat();
    let resets: Vec<u8> =
        (0..=u32::from(GRPC_RESETS_PER_SEC_MAX)).flat_map(|n| reset(2 * n + 1)).collect();
    let streams: Vec<u8> = (0..=GRPC_STREAMS_MAX as u32).flat_map(|n| open(2 * n + 1)).collect();
    let large = [&[0x40, 1, b'x', 0x7f, 0xa1, 0x1e], [b'v'; 4_000].as_slice()].concat();
    let refers = frame(kind::HEADERS, flag::END_HEADERS, 3, &[0xbe; 5]);
    let name = frame(kind::HEADERS, flag::END_HEADERS, 1, &large);
    let string = [&[0x00, 0x01, b'x', 0x7f, 0xff, 0xff, 0x7f], FIELDS].concat();
    let continued = frame(kind::CONTINUATION, 0, 1, &[b'y'; 10_000]);
    for (bytes, violation) in [
        (resets, Violation::Resets),
        (streams, Violation::Streams),
        (many(frame(kind::PING, 0, 0, &[0; 8]), GRPC_PINGS_PER_SEC_MAX + 1), Violation::Pings),
        (many(settings(), GRPC_SETTINGS_PER_SEC_MAX), Violation::Settings),
        (frame(kind::SETTINGS, 0, 0, &[0; 198]), Violation::Settings),
        (
            [open(1), many(frame(kind::DATA, 0, 1, &[]), GRPC_EMPTY_FRAMES_PER_SEC_MAX + 1)]
                .concat(),
            Violation::EmptyFrames,
        ),
        (
            [open(1), many(frame(kind::DATA, 0, 1, &[1]), GRPC_SMALL_FRAMES_PER_SEC_MAX + 1)]
                .concat(),
            Violation::SmallFrames,
        ),
        (
            many(frame(2, 0, 1, &[0; 5]), GRPC_CONTROL_FRAMES_PER_SEC_MAX + 1),
            Violation::ControlFrames,
        ),
        (
            [open(1), frame(kind::DATA, 0, 1, &[0; FRAME_BYTES_MAX]).repeat(2)].concat(),
            Violation::MessageBytes,
        ),
        ([name, refers].concat(), Violation::HeaderBytes),
        (
            [frame(kind::HEADERS, 0, 1, &string), continued.repeat(2)].concat(),
            Violation::HeaderBytes,
        ),
    ] {
        assert_eq!(follow(&bytes), Err(violation));
    }
}

#[test]
fn counts_start_again_each_second() {
    let now = Instant::now();
    let (mut requests, mut out) = (Requests::new(now), Vec::new());
    requests.follow(&[PREFACE, &settings()].concat(), now, &mut out).unwrap();
    let pings = frame(kind::PING, 0, 0, &[0; 8]).repeat(usize::from(GRPC_PINGS_PER_SEC_MAX));
    for second in 0..3 {
        let at = now + Duration::from_secs(second);
        requests.follow(&pings, at, &mut out).unwrap();
        requests.check_time(at).unwrap();
    }
    let late = now + Duration::from_secs(GRPC_HANDSHAKE_SECS_MAX + 1);
    assert_eq!(requests.check_time(late), Err(Violation::Settings), "they are not acknowledged");
}

#[test]
fn the_ends_of_streams_are_found_in_what_the_core_sends() {
    let answers = [
        settings(),
        frame(kind::HEADERS, flag::END_HEADERS, 1, FIELDS),
        frame(kind::DATA, 0, 1, &[0; 300]),
        frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 1, FIELDS),
        frame(kind::RST_STREAM, 0, 3, &[0; 4]),
    ]
    .concat();
    for step in [1, 5, answers.len()] {
        let (mut follower, mut ended) = (Answers::default(), Vec::new());
        for piece in answers.chunks(step) {
            follower.follow(piece, |id| ended.push(id));
        }
        assert_eq!(ended, [1, 3]);
        assert!(follower.is_between_frames());
        follower.follow(&[0], |_| {});
        assert!(!follower.is_between_frames());
    }
}

proptest::proptest! {
    #[test]
    fn noise_panics_nowhere(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
        let _ = follow(&bytes);
    }
}

#[test]
fn the_message_of_a_caller_who_may_not_report_is_replaced() {
    let literal = |name: &[u8], value: &[u8]| [name, &[value.len() as u8], value].concat();
    let call = |stream: u32, path: &str, token: &[u8], flags: u8| {
        let path = literal(&[0x04], path.as_bytes());
        let token = literal(&[0x0f, 0x08], token);
        let agent = literal(b"\x00\x08agent-id", b"web-01");
        frame(kind::HEADERS, flag::END_HEADERS | flags, stream, &[path, agent, token].concat())
    };
    let (report, packed) =
        ("/oxmon.MetricService/ReportMetrics", "/oxmon.MetricService/ReportPacked");
    let message = |stream| frame(kind::DATA, flag::END_STREAM, stream, &[1; 100]);
    let now = Instant::now();
    let admission = Admission::by(|agent, token| (agent, token) == ("web-01", "Bearer good"));
    let follow = |input: &[u8]| {
        let mut requests = Requests::new(now).with_admission(admission.clone());
        let mut out = Vec::new();
        let all = [PREFACE, &settings(), input].concat();
        requests.follow(&all, now, &mut out).unwrap();
        out.split_off(PREFACE.len() + settings().len())
    };
    // Who may report, streams, whose handler reads nothing before it has asked, and others.
    for whole in [
        call(1, report, b"Bearer good", 0),
        call(1, packed, b"Bearer bad", 0),
        call(1, "/oxmon.MetricService/Enroll", b"", 0),
        call(1, report, b"Bearer bad", flag::END_STREAM),
    ] {
        assert_eq!(follow(&whole), whole);
    }
    for token in [&b"Bearer bad"[..], b"", b"\xff"] {
        let refused = call(1, report, token, 0);
        let good = [call(3, report, b"Bearer good", 0), message(3)].concat();
        let last = flag::END_STREAM;
        let frames = |of: &[(usize, u8, u8)]| -> Vec<u8> {
            let one = |(bytes, flags, byte): &(usize, u8, u8)| {
                frame(kind::DATA, *flags, 1, &vec![*byte; *bytes])
            };
            of.iter().flat_map(one).collect()
        };
        // However the first five bytes come, an empty message takes their place and ends the call.
        // As many bytes as the client sends get to the core, which counts them for the windows.
        let cases: [(&[_], &[_]); 5] = [
            (&[(100, last, 1)], &[(5, last, 0), (95, last, 1)]),
            (&[(100, 0, 1), (7, last, 1)], &[(5, last, 0), (95, 0, 1), (7, last, 1)]),
            (&[(5, 0, 1), (1, 0, 1)], &[(5, last, 0), (1, 0, 1)]),
            (
                &[(2, 0, 1), (0, 0, 1), (2, 0, 1), (9, 0, 1)],
                &[(2, 0, 0), (0, 0, 0), (2, 0, 0), (1, last, 0), (8, 0, 1)],
            ),
            (&[(3, last, 1)], &[(3, last, 0)]),
        ];
        for (sent, wanted) in cases {
            let input = [refused.clone(), frames(sent), good.clone()].concat();
            let wanted = [refused.clone(), frames(wanted), good.clone()].concat();
            assert_eq!(follow(&input), wanted);
            let mut requests = Requests::new(now).with_admission(admission.clone());
            let mut out = Vec::new();
            for byte in [PREFACE, &settings(), &input].concat() {
                requests.follow(&[byte], now, &mut out).unwrap();
            }
            assert_eq!(out.split_off(PREFACE.len() + settings().len()), wanted, "byte by byte");
        }
    }
}
