//! A client's non-blocking socket, plain or TLS.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};

use openssl::error::ErrorStack;
use openssl::ssl::{Error, ErrorCode, Ssl, SslAcceptor, SslStream};

/// A non-blocking socket.
pub(crate) enum Stream {
    /// TCP alone.
    Plain(TcpStream),
    /// TLS over it.
    Tls(SslStream<TcpStream>),
}

/// What a socket waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interest {
    /// Bytes to read.
    Read,
    /// Room to write.
    Write,
    /// Either of them.
    Both,
    /// The peer to end its side, where the system reports that.
    End,
}

/// What came of a read, a write or a handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Io {
    /// So many bytes moved.
    Done(usize),
    /// None can move before the socket is ready.
    Wait(Interest),
    /// The peer has closed it, or the connection is broken.
    Closed,
}

impl Stream {
    /// A stream over a socket, with TLS where there is an acceptor.
    ///
    /// # Errors
    ///
    /// When the TLS library gives no state for the connection.
    pub(crate) fn new(socket: TcpStream, tls: Option<&SslAcceptor>) -> Result<Self, ErrorStack> {
        match tls {
            None => Ok(Self::Plain(socket)),
            Some(acceptor) => {
                let ssl = Ssl::new(acceptor.context())?;
                Ok(Self::Tls(SslStream::new(ssl, socket)?))
            }
        }
    }

    /// The TCP connection below TLS.
    pub(crate) fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => stream.get_ref(),
        }
    }

    /// Whether it is TLS.
    pub(crate) fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// Goes on with the handshake; [`Io::Done`] once it is done.
    pub(crate) fn handshake(&mut self) -> Io {
        match self {
            Self::Plain(_) => Io::Done(0),
            Self::Tls(stream) => io_of_tls(stream.accept().map(|()| 0)),
        }
    }

    /// Reads what has arrived.
    pub(crate) fn read(&mut self, into: &mut [u8]) -> Io {
        match self {
            Self::Plain(socket) => io_of(socket.read(into), Interest::Read),
            Self::Tls(stream) => io_of_tls(stream.ssl_read(into)),
        }
    }

    /// Writes what there is room for.
    pub(crate) fn write(&mut self, from: &[u8]) -> Io {
        match self {
            Self::Plain(socket) => io_of(socket.write(from), Interest::Write),
            Self::Tls(stream) => io_of_tls(stream.ssl_write(from)),
        }
    }

    /// Closes the writing half.
    pub(crate) fn end(&mut self) {
        if let Self::Tls(stream) = self {
            // One that does not on_backend it sees the connection's end.
            let _ = stream.shutdown();
        }
        let _ = self.socket().shutdown(Shutdown::Write);
    }

    /// Reads and drops what arrives, without decrypting it.
    pub(crate) fn discard(&mut self, scratch: &mut [u8]) -> Io {
        io_of((&mut self.socket()).read(scratch), Interest::Read)
    }
}

fn io_of(outcome: io::Result<usize>, want: Interest) -> Io {
    match outcome {
        Ok(0) => Io::Closed,
        Ok(bytes) => Io::Done(bytes),
        Err(error) => match error.kind() {
            ErrorKind::WouldBlock => Io::Wait(want),
            ErrorKind::Interrupted => Io::Done(0),
            _ => Io::Closed,
        },
    }
}

fn io_of_tls(outcome: Result<usize, Error>) -> Io {
    match outcome {
        Ok(bytes) => Io::Done(bytes),
        Err(error) => match error.code() {
            ErrorCode::WANT_READ => Io::Wait(Interest::Read),
            ErrorCode::WANT_WRITE => Io::Wait(Interest::Write),
            _ => Io::Closed,
        },
    }
}
