//! Prometheus' remote write, 1.0 and 2.0: a protobuf message, packed.
//!
//! ```text
//! 1.0  WriteRequest  1: timeseries { 1: labels { 1: name, 2: value },
//!                                    2: samples { 1: value, 2: ms } }
//! 2.0  Request       4: symbols, 5: timeseries { 1: pairs of symbols, 2: samples, 3: histograms }
//! ```

use super::proto::{Fields, Malformed, Value, packed};
use super::{Incoming, Receiver, Refusal, Request, Writer, Written};
use crate::base::limits::RECEIVE_SYMBOLS_MAX;
use crate::server::ingest::admit::Reason;

/// The value by which a sender says that a series has ended.
const STALE_MARKER: u64 = 0x7ff0_0000_0000_0002;

/// Whether a value says that its series has ended.
pub(crate) fn is_stale_marker(value: f64) -> bool {
    value.to_bits() == STALE_MARKER
}

/// Which message a request holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    /// `prometheus.WriteRequest`
    One,
    /// `io.prometheus.write.v2.Request`
    Two,
}

impl Version {
    /// The version that a `Content-Type` names.
    ///
    /// # Errors
    ///
    /// A type that is not taken.
    pub(crate) fn of(content_type: &str) -> Result<Self, Refusal> {
        let mut parts = content_type.split(';').map(str::trim);
        let is_protobuf = parts.next() == Some("application/x-protobuf");
        let proto = parts.find_map(|part| part.strip_prefix("proto="));
        match (is_protobuf, proto) {
            (true, None | Some("prometheus.WriteRequest")) => Ok(Self::One),
            (true, Some("io.prometheus.write.v2.Request")) => Ok(Self::Two),
            _ => Err(Refusal::Malformed(format!("unsupported content type {content_type:?}"))),
        }
    }
}

impl Receiver {
    /// Takes the message of a remote write.
    ///
    /// # Errors
    ///
    /// Why not. Samples that can't be stored are no reason: they are counted.
    pub(crate) fn remote_write(
        &self,
        writer: &Writer,
        version: Version,
        message: &[u8],
    ) -> Result<Written, Refusal> {
        let mut request = self.request(writer);
        let read = match version {
            Version::One => first(message, self.agent_label(), &mut request),
            Version::Two => second(message, self.agent_label(), &mut request),
        };
        read.map_err(|error| Refusal::Malformed(error.to_string()))?;
        request.store()
    }
}

/// What is read of one series before it is added; kept from series to series.
#[derive(Default)]
struct Scratch<'a> {
    metric: &'a str,
    agent: Option<&'a str>,
    labels: Vec<(&'a str, &'a str)>,
    samples: Vec<(i64, f64)>,
    histograms: u64,
}

impl<'a> Scratch<'a> {
    fn clear(&mut self) {
        (self.metric, self.agent, self.histograms) = ("", None, 0);
        self.labels.clear();
        self.samples.clear();
    }

    fn label(&mut self, name: &'a str, value: &'a str, agent_label: &str) {
        if name == "__name__" {
            self.metric = value;
        } else if name == agent_label && !value.is_empty() {
            self.agent = Some(value);
        } else if !value.is_empty() {
            self.labels.push((name, value));
        }
    }

    fn sample(&mut self, message: &[u8]) -> Result<(), Malformed> {
        let (mut ms, mut value) = (0, 0.0);
        for field in Fields::new(message) {
            match field? {
                (1, number) => value = number.double()?,
                (2, number) => ms = number.int()?,
                _ => {}
            }
        }
        self.samples.push((ms, value));
        Ok(())
    }

    fn add_to(&self, request: &mut Request<'_>) {
        request.written.histograms += self.histograms;
        if self.samples.is_empty() {
            return;
        }
        if self.metric.is_empty() {
            request.written.rejected.add_many(Reason::MetricName, self.samples.len());
            return;
        }
        request.add(&Incoming {
            metric: self.metric,
            labels: &self.labels,
            agent: self.agent,
            samples: &self.samples,
        });
    }
}

fn first(message: &[u8], agent_label: &str, request: &mut Request<'_>) -> Result<(), Malformed> {
    let mut scratch = Scratch::default();
    for field in Fields::new(message) {
        let (1, Value::Bytes(series)) = field? else { continue };
        scratch.clear();
        for field in Fields::new(series) {
            match field? {
                (1, label) => {
                    let (mut name, mut value) = ("", "");
                    for field in Fields::new(label.bytes()?) {
                        match field? {
                            (1, text) => name = text.text()?,
                            (2, text) => value = text.text()?,
                            _ => {}
                        }
                    }
                    scratch.label(name, value, agent_label);
                }
                (2, sample) => scratch.sample(sample.bytes()?)?,
                (4, _) => scratch.histograms += 1,
                _ => {}
            }
        }
        scratch.add_to(request);
    }
    Ok(())
}

fn second(message: &[u8], agent_label: &str, request: &mut Request<'_>) -> Result<(), Malformed> {
    let mut symbols: Vec<&str> = Vec::new();
    for field in Fields::new(message) {
        if let (4, symbol) = field? {
            if symbols.len() >= RECEIVE_SYMBOLS_MAX {
                return Err(Malformed);
            }
            symbols.push(symbol.text()?);
        }
    }
    let symbol = |number: u64| {
        let place = usize::try_from(number).map_err(|_| Malformed)?;
        symbols.get(place).copied().ok_or(Malformed)
    };
    let mut scratch = Scratch::default();
    let mut refs: Vec<u64> = Vec::new();
    for field in Fields::new(message) {
        let (5, Value::Bytes(series)) = field? else { continue };
        scratch.clear();
        refs.clear();
        for field in Fields::new(series) {
            match field? {
                // Protobuf allows a list both packed and number by number.
                (1, Value::Varint(number)) => refs.push(number),
                (1, list) => refs.append(&mut packed(list.bytes()?)?),
                (2, sample) => scratch.sample(sample.bytes()?)?,
                (3, _) => scratch.histograms += 1,
                _ => {}
            }
        }
        if !refs.len().is_multiple_of(2) {
            return Err(Malformed);
        }
        for pair in refs.chunks_exact(2) {
            scratch.label(symbol(pair[0])?, symbol(pair[1])?, agent_label);
        }
        scratch.add_to(request);
    }
    Ok(())
}
