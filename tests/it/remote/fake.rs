//! An engine that takes remote write, and misbehaves in the ways that real ones do.

use std::collections::{BTreeMap, HashMap};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use oxmon::server::receive::proto::Fields;

/// Labels of a series and the time of a sample.
pub type Key = (Arc<BTreeMap<String, String>>, i64);

/// Samples that were taken, by the place of their series and their time.
#[derive(Default)]
struct Kept {
    series: HashMap<Arc<BTreeMap<String, String>>, usize>,
    samples: HashMap<(usize, i64), f64>,
}

/// A request that came: its samples.
pub type Samples = Vec<(Key, f64)>;

/// What to do with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Keep the samples, answer 204.
    Take,
    /// Keep the samples, and break the answer off.
    BreakOff,
    /// Answer with this status and words.
    Answer(u16, &'static str),
    /// Answer 429 with this `Retry-After`.
    RetryAfter(u32),
    /// Hold the connection open and say nothing.
    Hang,
    /// Close without an answer.
    Close,
}

type Decide = Box<dyn Fn(&Samples, usize) -> Act + Send + Sync>;

/// A running engine. Its threads end with the test's process.
pub struct Fake {
    pub port: u16,
    kept: Arc<Mutex<Kept>>,
    decide: Arc<Mutex<Arc<Decide>>>,
    seen: Arc<Mutex<Vec<(Act, usize)>>>,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Fake {
    /// Starts one that takes everything.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let take: Decide = Box::new(|_, _| Act::Take);
        let fake = Self {
            port: listener.local_addr().unwrap().port(),
            kept: Arc::default(),
            decide: Arc::new(Mutex::new(Arc::new(take))),
            seen: Arc::default(),
            heads: Arc::default(),
        };
        let shared = fake.share();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let shared = shared.share();
                thread::spawn(move || shared.serve(stream.unwrap()));
            }
        });
        fake
    }

    fn share(&self) -> Self {
        Self {
            port: self.port,
            kept: Arc::clone(&self.kept),
            decide: Arc::clone(&self.decide),
            seen: Arc::clone(&self.seen),
            heads: Arc::clone(&self.heads),
        }
    }

    pub fn write_url(&self) -> String {
        format!("http://127.0.0.1:{}/api/v1/write", self.port)
    }

    /// From now on `decide` is asked, with the samples of a request and its number.
    pub fn decide(&self, decide: impl Fn(&Samples, usize) -> Act + Send + Sync + 'static) {
        *self.decide.lock().unwrap() = Arc::new(Box::new(decide));
    }

    /// From now on every request meets the same.
    pub fn always(&self, act: Act) {
        self.decide(move |_, _| act);
    }

    /// What it has.
    pub fn kept(&self) -> BTreeMap<Key, f64> {
        let kept = self.kept.lock().unwrap();
        let series: HashMap<usize, _> = kept.series.iter().map(|(key, at)| (*at, key)).collect();
        let one =
            |(&(at, ms), &value): (&(usize, i64), &f64)| ((Arc::clone(series[&at]), ms), value);
        kept.samples.iter().map(one).collect()
    }

    /// Number of samples that it has.
    pub fn len(&self) -> usize {
        self.kept.lock().unwrap().samples.len()
    }

    /// What was done with each request, and how many samples it had.
    pub fn seen(&self) -> Vec<(Act, usize)> {
        self.seen.lock().unwrap().clone()
    }

    /// The heads of the requests.
    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }

    fn serve(&self, mut stream: TcpStream) {
        let mut bytes = Vec::new();
        while let Some((head, body)) = read_request(&mut stream, &mut bytes) {
            let message = snap::raw::Decoder::new().decompress_vec(&body).expect("snappy");
            let samples = samples(&message);
            let decide = Arc::clone(&self.decide.lock().unwrap());
            let number = self.seen.lock().unwrap().len();
            let act = decide(&samples, number);
            self.seen.lock().unwrap().push((act, samples.len()));
            self.heads.lock().unwrap().push(head);
            if matches!(act, Act::Take | Act::BreakOff) {
                let mut kept = self.kept.lock().unwrap();
                for ((labels, ms), value) in samples {
                    let next = kept.series.len();
                    let at = *kept.series.entry(labels).or_insert(next);
                    // The first value stays.
                    kept.samples.entry((at, ms)).or_insert(value);
                }
            }
            let answer = match act {
                Act::Take => "HTTP/1.1 204 No Content\r\n\r\n".to_owned(),
                Act::BreakOff => "HTTP/1.1 2".to_owned(),
                Act::Answer(status, words) => format!(
                    "HTTP/1.1 {status} Said\r\nContent-Length: {}\r\n\r\n{words}",
                    words.len()
                ),
                Act::RetryAfter(secs) => format!(
                    "HTTP/1.1 429 Too Many\r\nRetry-After: {secs}\r\nContent-Length: 0\r\n\r\n"
                ),
                Act::Hang => {
                    let _ = stream.read(&mut [0]);
                    return;
                }
                Act::Close => return,
            };
            if stream.write_all(answer.as_bytes()).is_err() || act == Act::BreakOff {
                return;
            }
        }
    }
}

fn read_request(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<(String, Vec<u8>)> {
    let mut buffer = [0; 65_536];
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                let is_it = name.eq_ignore_ascii_case("content-length");
                is_it.then(|| value.trim().parse::<usize>().ok())?
            });
            let length = length.unwrap_or(0);
            while bytes.len() < end + 4 + length {
                let count = stream.read(&mut buffer).ok().filter(|count| *count > 0)?;
                bytes.extend_from_slice(&buffer[..count]);
            }
            let rest = bytes.split_off(end + 4 + length);
            let body = bytes.split_off(end + 4);
            *bytes = rest;
            return Some((head, body));
        }
        let count = stream.read(&mut buffer).ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&buffer[..count]);
    }
}

fn samples(message: &[u8]) -> Samples {
    let mut out = Samples::new();
    for series in Fields::new(message) {
        let (mut labels, mut points) = (BTreeMap::new(), Vec::new());
        for field in Fields::new(series.unwrap().1.bytes().unwrap()) {
            let (number, value) = field.unwrap();
            let parts: Vec<_> =
                Fields::new(value.bytes().unwrap()).map(|part| part.unwrap().1).collect();
            if number == 1 {
                let text = |at: usize| parts[at].text().unwrap().to_owned();
                assert!(labels.insert(text(0), text(1)).is_none(), "a label comes twice");
            } else {
                points.push((parts[1].int().unwrap(), parts[0].double().unwrap()));
            }
        }
        let labels = Arc::new(labels);
        out.extend(points.into_iter().map(|(ms, value)| ((Arc::clone(&labels), ms), value)));
    }
    out
}
