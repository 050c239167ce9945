//! Protocols that begin in plain and turn to TLS when they are asked: one row and one short
//! conversation each.

use std::io::{self, ErrorKind, Read as _, Write as _};

use crate::server::cert::fault::{Fault, Kind};
use crate::server::cert::link::Link;

/// A protocol whose connections turn to TLS by a command of its own.
pub(super) struct Protocol {
    /// Its name in the API and the database.
    pub name: &'static str,
    /// The port where none is given.
    pub port: u16,
    /// Brings the connection to where TLS begins.
    talk: fn(&mut Link) -> Result<(), Trouble>,
}

/// The protocols.
pub(super) const PROTOCOLS: &[Protocol] = &[
    Protocol { name: "smtp", port: 25, talk: smtp },
    Protocol { name: "imap", port: 143, talk: imap },
    Protocol { name: "pop3", port: 110, talk: pop3 },
    Protocol { name: "ldap", port: 389, talk: ldap },
    Protocol { name: "postgres", port: 5432, talk: postgres },
];

/// The protocol of this name.
pub(super) fn find(name: &str) -> Option<&'static Protocol> {
    PROTOCOLS.iter().find(|protocol| protocol.name == name)
}

/// Why a conversation did not come to TLS.
enum Trouble {
    Io(io::Error),
    /// What was said instead.
    Said(String),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Protocol {
    /// Has the endpoint turn to TLS.
    pub(super) fn begin(&self, link: &mut Link) -> Result<(), Fault> {
        let name = self.name;
        (self.talk)(link).map_err(|trouble| match trouble {
            Trouble::Said(said) => {
                let sentence = format!("the server offers no STARTTLS over {name}: {said}");
                Fault::new(Kind::NoStarttls, sentence)
            }
            Trouble::Io(error) if error.kind() == ErrorKind::TimedOut => {
                let sentence = format!("the server does not continue with {name} before STARTTLS");
                Fault::new(Kind::Timeout, sentence)
            }
            Trouble::Io(_) => {
                let sentence = format!("the server ended {name} before STARTTLS");
                Fault::new(Kind::Closed, sentence)
            }
        })?;
        link.mark();
        Ok(())
    }
}

/// Bytes of a line, and lines of an answer, that are read before it is something else.
const LINE_BYTES_MAX: usize = 2_048;
const LINES_MAX: usize = 100;

/// One line without its end, read byte by byte: what follows the last one is TLS.
fn line(link: &mut Link) -> Result<String, Trouble> {
    let mut line = Vec::new();
    let mut byte = [0];
    while line.len() < LINE_BYTES_MAX {
        link.read_exact(&mut byte)?;
        if byte == *b"\n" {
            break;
        }
        line.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
}

fn said(line: &str) -> Trouble {
    let shown: String = line.chars().filter(|sign| !sign.is_control()).take(120).collect();
    Trouble::Said(format!("it says `{shown}`"))
}

/// Reads lines until one is the answer, which must then begin with `wanted`.
fn expect(link: &mut Link, wanted: &str, is_answer: impl Fn(&str) -> bool) -> Result<(), Trouble> {
    for _ in 0..LINES_MAX {
        let line = line(link)?;
        if is_answer(&line) {
            return if line.starts_with(wanted) { Ok(()) } else { Err(said(&line)) };
        }
    }
    Err(Trouble::Said("it talks without end".to_owned()))
}

/// RFC 3207.
fn smtp(link: &mut Link) -> Result<(), Trouble> {
    // `250-…` goes on, `250 …` is the last line.
    let last = |line: &str| line.as_bytes().get(3) != Some(&b'-');
    expect(link, "220", last)?;
    link.write_all(b"EHLO oxmon.invalid\r\n")?;
    expect(link, "250", last)?;
    link.write_all(b"STARTTLS\r\n")?;
    expect(link, "220", last)
}

/// RFC 9051, section 6.2.1.
fn imap(link: &mut Link) -> Result<(), Trouble> {
    expect(link, "* OK", |_| true)?;
    link.write_all(b"a1 STARTTLS\r\n")?;
    expect(link, "a1 OK", |line| line.starts_with("a1 "))
}

/// RFC 2595, section 4.
fn pop3(link: &mut Link) -> Result<(), Trouble> {
    expect(link, "+OK", |_| true)?;
    link.write_all(b"STLS\r\n")?;
    expect(link, "+OK", |_| true)
}

/// RFC 4511, section 4.14: an extended request with the number of StartTLS, in BER.
fn ldap(link: &mut Link) -> Result<(), Trouble> {
    const REQUEST: &[u8] = b"\x30\x1d\x02\x01\x01\x77\x18\x80\x161.3.6.1.4.1.1466.20037";
    link.write_all(REQUEST)?;
    let mut head = [0; 2];
    link.read_exact(&mut head)?;
    let long = usize::from(head[1] & 0x7f);
    // Below 128 it is the length itself, else how many bytes of length follow.
    let length = if head[1] < 0x80 {
        long
    } else {
        let mut bytes = vec![0; long.min(8)];
        link.read_exact(&mut bytes)?;
        bytes.iter().fold(0_usize, |sum, byte| (sum << 8) | usize::from(*byte))
    };
    if head[0] != 0x30 || length > LINE_BYTES_MAX {
        return Err(Trouble::Said("it does not speak LDAP".to_owned()));
    }
    let mut body = vec![0; length];
    link.read_exact(&mut body)?;
    // An extended response (tag 0x78) whose first field is the result code, 0 being success.
    let at = body.iter().position(|byte| *byte == 0x78);
    let code = at.and_then(|at| body[at..].windows(3).find(|part| part.starts_with(&[10, 1])));
    match code {
        Some([_, _, 0]) => Ok(()),
        Some([_, _, code]) => Err(Trouble::Said(format!("it answers with result {code}"))),
        _ => Err(Trouble::Said("it does not answer the request".to_owned())),
    }
}

/// PostgreSQL's SSLRequest: `S` when it is willing, `N` when it is not.
fn postgres(link: &mut Link) -> Result<(), Trouble> {
    link.write_all(&[0, 0, 0, 8, 4, 210, 22, 47])?;
    let mut answer = [0];
    link.read_exact(&mut answer)?;
    match answer {
        [b'S'] => Ok(()),
        [b'N'] => Err(Trouble::Said("it answers that it has no TLS".to_owned())),
        _ => Err(Trouble::Said("it does not speak PostgreSQL".to_owned())),
    }
}
