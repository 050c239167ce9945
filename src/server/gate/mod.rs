//! The front of the server's ports. Clients' connections end here, under limits of number, time and
//! size, and what is behind sees only what was checked.
//!
//! | file | what | used by |
//! |---|---|---|
//! | `running.rs` | starts and stops a gate's thread | both ports |
//! | `port.rs` | the listeners of a port and its poller | both ports |
//! | `listener.rs` | accepts connections, shares out descriptors | both ports |
//! | `poll.rs` | epoll(7), or poll(2): which sockets are ready | both ports |
//! | `stream.rs` | a client's socket, plain or TLS | both ports |
//! | `tls.rs` | the certificate of `[tls]` | both ports |
//! | `private.rs` | the folder of the sockets inside | both ports |
//! | `grpc/` | follows HTTP/2 frames before the C core | `ingest/grpc.rs` |
//! | `http/` | collects whole requests for the HTTP workers | `api/server.rs` |

pub(crate) mod grpc;
pub(crate) mod http;
pub(crate) mod listener;
mod poll;
mod port;
pub(crate) mod private;
pub(crate) mod running;
mod stream;
pub(crate) mod tls;
