//! Why the gate refuses a request. What is answered is written by whoever starts the gate.

/// Writes the answer to a refused request of `client`, an address: its bytes, which end with the
/// body unless `head_only`, and its status.
pub(crate) type Render = fn(refusal: Refusal, client: &str, head_only: bool) -> (Vec<u8>, u16);

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It breaks the protocol (400).
    Malformed(&'static str),
    /// It did not arrive in time (408).
    Slow,
    /// It has a body without a length (411).
    NoLength,
    /// Its body exceeds the limit (413).
    LargeBody(usize),
    /// Its request line exceeds the limit (414).
    LongUrl,
    /// It expects something other than `100-continue` (417).
    Expectation,
    /// Its headers exceed the limit (431).
    LargeHeaders,
    /// Its body has a transfer coding other than `chunked` (501).
    Coding,
    /// The queue for the workers is full (503).
    QueueFull,
    /// Requests of its address have their share of that queue (503).
    AddressShare,
    /// The limit of connections is reached (503).
    Crowded,
    /// Its version is neither 1.0 nor 1.1 (505).
    Version,
}

impl Refusal {
    /// The value of the metrics' label `reason`.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Malformed(_) | Self::Expectation | Self::Coding | Self::Version => "malformed",
            Self::Slow => "slow",
            Self::NoLength => "no_length",
            Self::LargeBody(_) | Self::LongUrl | Self::LargeHeaders => "too_large",
            Self::QueueFull => "queue_full",
            Self::AddressShare => "address_share",
            Self::Crowded => "connections",
        }
    }
}
