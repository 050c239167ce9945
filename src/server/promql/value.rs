//! Types of expressions, and how a step without a value is written.

/// What an expression gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Type {
    /// A number at each step.
    Scalar,
    /// Series with one value at a step each.
    Vector,
    /// Series with many samples at a step each.
    Matrix,
    /// A text.
    Text,
}

impl Type {
    /// Its name in messages.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Vector => "instant vector",
            Self::Matrix => "range vector",
            Self::Text => "string",
        }
    }
}

/// The value of a step at which a series has none. No arithmetic gives these bits: what a
/// processor makes of numbers is a quiet NaN, and this one signals.
pub(crate) const ABSENT: f64 = f64::from_bits(0x7ff0_0000_0000_0002);

/// Whether a step has no value.
#[inline]
pub(crate) fn is_absent(value: f64) -> bool {
    value.to_bits() == 0x7ff0_0000_0000_0002
}
