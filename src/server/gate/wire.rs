//! A client's socket, plain or under TLS, which never blocks.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};

use openssl::error::ErrorStack;
use openssl::ssl::{Error, ErrorCode, Ssl, SslAcceptor, SslStream};

/// A socket that was set not to block.
pub enum Wire {
    /// TCP alone.
    Plain(TcpStream),
    /// TLS over it.
    Tls(SslStream<TcpStream>),
}

/// What the system must tell before it is worth trying again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// Bytes have come.
    Read,
    /// There is room for bytes.
    Write,
}

/// What came of a try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Did {
    /// So many bytes moved.
    Moved(usize),
    /// None can move now.
    Wait(Want),
    /// The far side has ended it, or the connection is broken.
    Ended,
}

impl Wire {
    /// Puts TLS over a socket where there is an acceptor for it.
    ///
    /// # Errors
    ///
    /// When the TLS library gives no state for the connection.
    pub fn new(socket: TcpStream, tls: Option<&SslAcceptor>) -> Result<Self, ErrorStack> {
        match tls {
            None => Ok(Self::Plain(socket)),
            Some(acceptor) => {
                let ssl = Ssl::new(acceptor.context())?;
                Ok(Self::Tls(SslStream::new(ssl, socket)?))
            }
        }
    }

    /// The socket.
    pub fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => stream.get_ref(),
        }
    }

    /// Whether bytes go under TLS.
    pub fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// Goes on with the handshake; [`Did::Moved`] once it is done.
    pub fn shake_hands(&mut self) -> Did {
        match self {
            Self::Plain(_) => Did::Moved(0),
            Self::Tls(stream) => did_tls(stream.accept().map(|()| 0)),
        }
    }

    /// Reads what has come.
    pub fn read(&mut self, into: &mut [u8]) -> Did {
        match self {
            Self::Plain(socket) => did(socket.read(into), Want::Read),
            Self::Tls(stream) => did_tls(stream.ssl_read(into)),
        }
    }

    /// Writes what there is room for.
    pub fn write(&mut self, from: &[u8]) -> Did {
        match self {
            Self::Plain(socket) => did(socket.write(from), Want::Write),
            Self::Tls(stream) => did_tls(stream.ssl_write(from)),
        }
    }

    /// Says that no more will be written.
    pub fn end(&mut self) {
        if let Self::Tls(stream) = self {
            // One that does not hear it sees the connection's end.
            let _ = stream.shutdown();
        }
        let _ = self.socket().shutdown(Shutdown::Write);
    }

    /// Reads what is thrown away, under TLS without taking it apart.
    pub fn discard(&mut self, scratch: &mut [u8]) -> Did {
        did((&mut self.socket()).read(scratch), Want::Read)
    }
}

fn did(outcome: io::Result<usize>, want: Want) -> Did {
    match outcome {
        Ok(0) => Did::Ended,
        Ok(bytes) => Did::Moved(bytes),
        Err(error) => match error.kind() {
            ErrorKind::WouldBlock => Did::Wait(want),
            ErrorKind::Interrupted => Did::Moved(0),
            _ => Did::Ended,
        },
    }
}

fn did_tls(outcome: Result<usize, Error>) -> Did {
    match outcome {
        Ok(bytes) => Did::Moved(bytes),
        Err(error) => match error.code() {
            ErrorCode::WANT_READ => Did::Wait(Want::Read),
            ErrorCode::WANT_WRITE => Did::Wait(Want::Write),
            _ => Did::Ended,
        },
    }
}
