//! Metrics of the gRPC side of the gate.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use super::frames::Violation;

/// `oxmon_grpc_…`.
pub(super) struct Metrics {
    /// Open connections.
    pub(super) open: IntGauge,
    closed: [IntCounter; Closed::ALL.len()],
}

/// Why the gate closed a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Closed {
    /// The limit of connections, or of descriptors, is reached.
    Crowded,
    /// The limit of its address is reached.
    Address,
    /// Its address opened too many in too short a time.
    Rate,
    /// The handshake failed or took too long.
    Handshake,
    /// No message came in time.
    FirstMessage,
    /// The client was silent for too long.
    Silent,
    /// The client did not read what was sent to it.
    SlowReader,
    /// The C core took no connection.
    Core,
    /// The client broke a limit or HTTP/2.
    Violation(Violation),
}

impl Closed {
    const ALL: [Self; 18] = [
        Self::Crowded,
        Self::Address,
        Self::Rate,
        Self::Handshake,
        Self::FirstMessage,
        Self::Silent,
        Self::SlowReader,
        Self::Core,
        Self::Violation(Violation::Protocol),
        Self::Violation(Violation::HeaderBytes),
        Self::Violation(Violation::Streams),
        Self::Violation(Violation::Resets),
        Self::Violation(Violation::Pings),
        Self::Violation(Violation::Settings),
        Self::Violation(Violation::EmptyFrames),
        Self::Violation(Violation::SmallFrames),
        Self::Violation(Violation::ControlFrames),
        Self::Violation(Violation::MessageBytes),
    ];

    /// The value of the metric's label `reason`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Crowded => "connections",
            Self::Address => "connections_of_address",
            Self::Rate => "rate",
            Self::Handshake => "handshake",
            Self::FirstMessage | Self::Violation(Violation::Slow) => "first_message",
            Self::Silent => "silent",
            Self::SlowReader => "slow_reader",
            Self::Core => "core",
            Self::Violation(Violation::Protocol) => "protocol",
            Self::Violation(Violation::HeaderBytes) => "header_bytes",
            Self::Violation(Violation::Streams) => "streams",
            Self::Violation(Violation::Resets) => "resets",
            Self::Violation(Violation::Pings) => "pings",
            Self::Violation(Violation::Settings) => "settings",
            Self::Violation(Violation::EmptyFrames) => "empty_frames",
            Self::Violation(Violation::SmallFrames) => "small_frames",
            Self::Violation(Violation::ControlFrames) => "control_frames",
            Self::Violation(Violation::MessageBytes) => "message_bytes",
        }
    }
}

impl Metrics {
    /// Makes and registers them.
    pub(super) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let open = IntGauge::new("oxmon_grpc_connections", "Open gRPC connections.")?;
        registry.register(Box::new(open.clone()))?;
        let closed = IntCounterVec::new(
            Opts::new(
                "oxmon_grpc_connections_closed_total",
                "gRPC connections closed by the server, by the limit that they exceeded.",
            ),
            &["reason"],
        )?;
        registry.register(Box::new(closed.clone()))?;
        let closed = Closed::ALL.map(|reason| closed.with_label_values(&[reason.name()]));
        Ok(Self { open, closed })
    }

    /// Counts a connection that the gate closes.
    pub(super) fn close(&self, reason: Closed) {
        let at = Closed::ALL.iter().position(|known| known.name() == reason.name());
        if let Some(counter) = at.and_then(|at| self.closed.get(at)) {
            counter.inc();
        }
    }
}
