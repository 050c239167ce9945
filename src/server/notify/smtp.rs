//! One mail to one recipient over SMTP (RFC 5321), with STARTTLS (RFC 3207) and AUTH (RFC 4954).
//!
//! lettre makes the mail. Its client knows the keywords of EHLO in capitals only, though they are
//! the same in any case, so that a mail to a server which offers `starttls` would go in the clear,
//! and neither its stream nor what it has understood can be replaced. So the dialogue is here.

use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use native_tls::{HandshakeError, TlsConnector, TlsStream};

use crate::server::config::outgoing::Denied;

/// Bytes of a line of an answer that are read; RFC 5321 allows 512.
const LINE_BYTES_MAX: u64 = 4_096;
/// Lines of one answer.
const LINES_MAX: usize = 200;

/// When the connection is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Security {
    /// Never.
    None,
    /// Where the mail server offers it.
    Offered,
    /// By STARTTLS, or the mail is not sent.
    Required,
    /// From the first byte.
    Wrapped,
}

/// A mail server, and how mails go there.
pub(crate) struct MailServer {
    /// Its name, in ASCII, or its address.
    pub(crate) host: String,
    /// Its port.
    pub(crate) port: u16,
    /// What EHLO says.
    pub(crate) hello: String,
    /// When the connection is encrypted.
    pub(crate) security: Security,
    /// Authorities to trust besides the system's.
    pub(crate) authorities: Vec<native_tls::Certificate>,
    /// User and password, where it wants them.
    pub(crate) login: Option<(String, String)>,
    /// The time of each step.
    pub(crate) timeout: Duration,
    /// Addresses that must not be connected to.
    pub(crate) denied: Denied,
}

/// An answer of the mail server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Its code, such as 250.
    pub(crate) code: u16,
    /// Its lines without the code.
    pub(crate) lines: Vec<String>,
}

impl Answer {
    fn is_positive(&self) -> bool {
        (200..400).contains(&self.code)
    }

    /// Whether trying again can't help (RFC 5321, section 4.2.1).
    pub(crate) fn is_permanent(&self) -> bool {
        (500..600).contains(&self.code)
    }

    /// The whole on one line.
    pub(crate) fn text(&self) -> String {
        format!("{} {}", self.code, self.lines.join(" "))
    }

    /// What follows a keyword of EHLO, in whatever case it is written (RFC 5321, section 2.4).
    fn keyword(&self, name: &str) -> Option<&str> {
        // The first line is the server's name.
        self.lines.iter().skip(1).find_map(|line| {
            let (keyword, rest) = line.split_once([' ', '=']).unwrap_or((line, ""));
            keyword.trim().eq_ignore_ascii_case(name).then_some(rest)
        })
    }
}

/// Why a mail was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SmtpError {
    /// The mail server refused a step.
    #[error("{}", .0.text())]
    Refused(Answer),
    /// It does not offer what is needed, which trying again does not change.
    #[error("{0}")]
    Missing(String),
    /// Its address must not be connected to.
    #[error("{0}")]
    Denied(String),
    /// It can't be reached, or left in the middle.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The connection can't be encrypted.
    #[error("{0}")]
    Tls(String),
    /// What it said is not SMTP.
    #[error("{0}")]
    Garbage(&'static str),
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(buffer),
            Self::Tls(stream) => stream.write(buffer),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

impl MailServer {
    /// Sends a mail, lines ending in CR LF, and gives the answer that took it.
    ///
    /// # Errors
    ///
    /// Why it was not taken.
    pub(crate) fn send(&self, from: &str, to: &str, mail: &[u8]) -> Result<Answer, SmtpError> {
        let mut stream = Stream::Plain(self.connect()?);
        if self.security == Security::Wrapped {
            stream = self.encrypt(stream)?;
        }
        let mut session = Session(BufReader::new(stream));
        session.expect_positive()?;
        let mut offers = session.hello(&self.hello)?;
        if matches!(self.security, Security::Offered | Security::Required) {
            if offers.keyword("STARTTLS").is_some() {
                session = self.start_tls(session)?;
                offers = session.hello(&self.hello)?;
            } else if self.security == Security::Required {
                let why = "the mail server does not offer STARTTLS; set `tls` if it needs none";
                return Err(SmtpError::Missing(why.to_owned()));
            }
        }
        if let Some(login) = &self.login {
            session.log_in(&offers, login)?;
        }
        session.command(&format!("MAIL FROM:<{from}>"))?;
        session.command(&format!("RCPT TO:<{to}>"))?;
        session.command("DATA")?;
        let answer = session.data(mail)?;
        // The mail is taken: how the connection ends no longer matters.
        let _ = session.0.get_mut().write_all(b"QUIT\r\n");
        Ok(answer)
    }

    fn connect(&self) -> Result<TcpStream, SmtpError> {
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        let mut failed = io::Error::other("the host name has no address");
        for address in (host, self.port).to_socket_addrs()? {
            self.denied.check(address.ip()).map_err(SmtpError::Denied)?;
            match TcpStream::connect_timeout(&address, self.timeout) {
                Ok(stream) => {
                    stream.set_read_timeout(Some(self.timeout))?;
                    stream.set_write_timeout(Some(self.timeout))?;
                    return Ok(stream);
                }
                Err(error) => failed = error,
            }
        }
        Err(failed.into())
    }

    fn start_tls(&self, mut session: Session) -> Result<Session, SmtpError> {
        session.command("STARTTLS")?;
        if !session.0.buffer().is_empty() {
            // Whoever put that there wants it to be taken for encrypted.
            return Err(SmtpError::Garbage("the mail server spoke before the encryption began"));
        }
        Ok(Session(BufReader::new(self.encrypt(session.0.into_inner())?)))
    }

    fn encrypt(&self, stream: Stream) -> Result<Stream, SmtpError> {
        let Stream::Plain(stream) = stream else { return Ok(stream) };
        let mut builder = TlsConnector::builder();
        for authority in &self.authorities {
            builder.add_root_certificate(authority.clone());
        }
        let failed = |error: native_tls::Error| SmtpError::Tls(crate::rt::thread::chain(&error));
        let connector = builder.build().map_err(failed)?;
        match connector.connect(&self.host, stream) {
            Ok(stream) => Ok(Stream::Tls(Box::new(stream))),
            Err(HandshakeError::Failure(error)) => Err(failed(error)),
            Err(HandshakeError::WouldBlock(_)) => {
                Err(io::Error::from(io::ErrorKind::TimedOut).into())
            }
        }
    }
}

struct Session(BufReader<Stream>);

impl Session {
    /// Says EHLO, or HELO to a server that does not know it; gives what the server offers.
    fn hello(&mut self, name: &str) -> Result<Answer, SmtpError> {
        match self.command(&format!("EHLO {name}")) {
            Err(SmtpError::Refused(answer)) if [500, 501, 502].contains(&answer.code) => {
                self.command(&format!("HELO {name}"))
            }
            other => other,
        }
    }

    fn log_in(
        &mut self,
        offers: &Answer,
        (user, password): &(String, String),
    ) -> Result<(), SmtpError> {
        let offered = offers.keyword("AUTH").unwrap_or_default();
        let has = |name: &str| offered.split(' ').any(|word| word.eq_ignore_ascii_case(name));
        if has("PLAIN") {
            let secret = STANDARD.encode(format!("\0{user}\0{password}"));
            self.command(&format!("AUTH PLAIN {secret}"))?;
        } else if has("LOGIN") {
            self.command("AUTH LOGIN")?;
            self.command(&STANDARD.encode(user))?;
            self.command(&STANDARD.encode(password))?;
        } else {
            let shown = if offered.is_empty() { "none" } else { offered };
            return Err(SmtpError::Missing(format!(
                "the mail server offers no login by PLAIN or LOGIN here, but {shown}"
            )));
        }
        Ok(())
    }

    fn command(&mut self, line: &str) -> Result<Answer, SmtpError> {
        if line.contains(['\r', '\n']) {
            return Err(SmtpError::Garbage("a command must be one line"));
        }
        self.0.get_mut().write_all(format!("{line}\r\n").as_bytes())?;
        self.expect_positive()
    }

    /// Sends the mail with the dots that begin its lines doubled, and the dot that ends it.
    fn data(&mut self, mail: &[u8]) -> Result<Answer, SmtpError> {
        let mut text = Vec::with_capacity(mail.len() + 64);
        for line in mail.split_inclusive(|byte| *byte == b'\n') {
            if line.starts_with(b".") {
                text.push(b'.');
            }
            text.extend_from_slice(line);
        }
        if !text.ends_with(b"\r\n") {
            text.extend_from_slice(b"\r\n");
        }
        text.extend_from_slice(b".\r\n");
        self.0.get_mut().write_all(&text)?;
        self.expect_positive()
    }

    fn expect_positive(&mut self) -> Result<Answer, SmtpError> {
        self.0.get_mut().flush()?;
        let answer = self.answer()?;
        if answer.is_positive() { Ok(answer) } else { Err(SmtpError::Refused(answer)) }
    }

    fn answer(&mut self) -> Result<Answer, SmtpError> {
        let mut lines = Vec::new();
        while lines.len() < LINES_MAX {
            let mut bytes = Vec::new();
            self.0.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut bytes)?;
            if bytes.is_empty() {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            let line = String::from_utf8_lossy(&bytes);
            let line = line.trim_end();
            let code = line.get(..3).and_then(|code| code.parse().ok());
            let code: u16 = code.ok_or(SmtpError::Garbage("the answer is not a mail server's"))?;
            lines.push(line.get(4..).unwrap_or_default().to_owned());
            if line.as_bytes().get(3) != Some(&b'-') {
                return Ok(Answer { code, lines });
            }
        }
        Err(SmtpError::Garbage("the mail server's answer has too many lines"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keywords_are_the_same_in_any_case() {
        let lines = ["mx.example.com", "size 1000", "Starttls", "auth plain Login", "AUTH=LOGIN"];
        let answer = Answer { code: 250, lines: lines.map(str::to_owned).to_vec() };
        assert_eq!(answer.keyword("STARTTLS"), Some(""));
        assert_eq!(answer.keyword("AUTH"), Some("plain Login"));
        assert_eq!(answer.keyword("8BITMIME"), None);
        let name = Answer { code: 250, lines: vec!["STARTTLS".to_owned()] };
        assert_eq!(name.keyword("STARTTLS"), None, "a server's name offers nothing");
    }
}
