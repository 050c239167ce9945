//! An export in protobuf (opentelemetry/proto/metrics/v1/metrics.proto).

use super::types::*;
use crate::server::receive::proto::{Fields, Malformed, Value};

type Outcome<T> = Result<T, Malformed>;

/// An `ExportMetricsServiceRequest`.
pub(super) fn export(bytes: &[u8]) -> Outcome<Export> {
    let mut out = Export::default();
    for field in Fields::new(bytes) {
        if let (1, resource) = field? {
            out.resource_metrics.push(resource_metrics(resource.bytes()?)?);
        }
    }
    Ok(out)
}

fn resource_metrics(bytes: &[u8]) -> Outcome<ResourceMetrics> {
    let mut out = ResourceMetrics::default();
    for field in Fields::new(bytes) {
        match field? {
            (1, resource) => {
                for field in Fields::new(resource.bytes()?) {
                    if let (1, pair) = field? {
                        attribute(pair.bytes()?, &mut out.resource.attributes)?;
                    }
                }
            }
            (2, scope) => {
                let mut metrics = Vec::new();
                for field in Fields::new(scope.bytes()?) {
                    if let (2, one) = field? {
                        metrics.push(metric(one.bytes()?)?);
                    }
                }
                out.scope_metrics.push(ScopeMetrics { metrics });
            }
            _ => {}
        }
    }
    Ok(out)
}

fn attribute(bytes: &[u8], out: &mut Attributes) -> Outcome<()> {
    let (mut name, mut value) = ("", None);
    for field in Fields::new(bytes) {
        match field? {
            (1, text) => name = text.text()?,
            (2, any) => {
                for field in Fields::new(any.bytes()?) {
                    value = match field? {
                        (1, text) => Some(text.text()?.to_owned()),
                        (2, flag) => Some((flag.int()? != 0).to_string()),
                        (3, number) => Some(number.int()?.to_string()),
                        (4, number) => Some(number.double()?.to_string()),
                        _ => None,
                    };
                }
            }
            _ => {}
        }
    }
    out.0.extend(value.map(|value| (name.to_owned(), value)));
    Ok(())
}

fn metric(bytes: &[u8]) -> Outcome<Metric> {
    let mut out = Metric::default();
    for field in Fields::new(bytes) {
        match field? {
            (1, name) => out.name = name.text()?.to_owned(),
            (3, unit) => out.unit = unit.text()?.to_owned(),
            (5, gauge) => {
                let data_points = points(gauge, number)?.0;
                out.gauge = Some(Gauge { data_points });
            }
            (7, sum) => {
                let (data_points, aggregation_temporality, is_monotonic) = points(sum, number)?;
                out.sum = Some(Sum { data_points, aggregation_temporality, is_monotonic });
            }
            (9, all) => {
                let (data_points, aggregation_temporality, _) = points(all, histogram)?;
                out.histogram = Some(Histogram { data_points, aggregation_temporality });
            }
            (10, all) => {
                let ignored = |_: &[u8]| Ok(serde::de::IgnoredAny);
                let data_points = points(all, ignored)?.0;
                out.exponential_histogram = Some(Others { data_points });
            }
            (11, all) => {
                let data_points = points(all, summary)?.0;
                out.summary = Some(Summary { data_points });
            }
            _ => {}
        }
    }
    Ok(out)
}

/// Points, temporality and whether they only rise; every kind has them in the same fields.
fn points<T>(
    value: Value<'_>,
    point: impl Fn(&[u8]) -> Outcome<T>,
) -> Outcome<(Vec<T>, Whole, bool)> {
    let (mut out, mut temporality, mut rises) = (Vec::new(), Whole(0), false);
    for field in Fields::new(value.bytes()?) {
        match field? {
            (1, one) => out.push(point(one.bytes()?)?),
            (2, number) => temporality = Whole(number.int()?),
            (3, flag) => rises = flag.int()? != 0,
            _ => {}
        }
    }
    Ok((out, temporality, rises))
}

fn number(bytes: &[u8]) -> Outcome<NumberPoint> {
    let mut out = NumberPoint::default();
    for field in Fields::new(bytes) {
        match field? {
            (3, time) => out.time_unix_nano = Whole(time.int()?),
            (4, value) => out.as_double = Some(Real(value.double()?)),
            (6, value) => out.as_int = Some(Whole(value.int()?)),
            (7, pair) => attribute(pair.bytes()?, &mut out.attributes)?,
            (8, flags) => out.flags = Whole(flags.int()?),
            _ => {}
        }
    }
    Ok(out)
}

/// Numbers of eight bytes, one after the other or each a field of its own.
fn eights(value: Value<'_>, mut each: impl FnMut(u64)) -> Outcome<()> {
    match value {
        Value::Fixed64(number) => each(number),
        Value::Bytes(bytes) => {
            let (numbers, rest) = bytes.as_chunks::<8>();
            if !rest.is_empty() {
                return Err(Malformed);
            }
            numbers.iter().for_each(|number| each(u64::from_le_bytes(*number)));
        }
        _ => return Err(Malformed),
    }
    Ok(())
}

fn histogram(bytes: &[u8]) -> Outcome<HistogramPoint> {
    let mut out = HistogramPoint::default();
    for field in Fields::new(bytes) {
        match field? {
            (3, time) => out.time_unix_nano = Whole(time.int()?),
            (4, count) => out.count = Whole(count.int()?),
            (5, sum) => out.sum = Some(Real(sum.double()?)),
            (6, counts) => eights(counts, |count| out.bucket_counts.push(Whole(count as i64)))?,
            (7, bounds) => {
                eights(bounds, |bits| out.explicit_bounds.push(Real(f64::from_bits(bits))))?;
            }
            (9, pair) => attribute(pair.bytes()?, &mut out.attributes)?,
            (10, flags) => out.flags = Whole(flags.int()?),
            _ => {}
        }
    }
    Ok(out)
}

fn summary(bytes: &[u8]) -> Outcome<SummaryPoint> {
    let mut out = SummaryPoint::default();
    for field in Fields::new(bytes) {
        match field? {
            (3, time) => out.time_unix_nano = Whole(time.int()?),
            (4, count) => out.count = Whole(count.int()?),
            (5, sum) => out.sum = Real(sum.double()?),
            (6, value) => {
                let mut one = QuantileValue::default();
                for field in Fields::new(value.bytes()?) {
                    match field? {
                        (1, quantile) => one.quantile = Real(quantile.double()?),
                        (2, value) => one.value = Real(value.double()?),
                        _ => {}
                    }
                }
                out.quantile_values.push(one);
            }
            (7, pair) => attribute(pair.bytes()?, &mut out.attributes)?,
            _ => {}
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    proptest::proptest! {
        #[test]
        fn nothing_panics(bytes in proptest::collection::vec(0..=u8::MAX, 0..300)) {
            let _ = super::export(&bytes);
        }
    }
}
