//! OpenTelemetry's metrics over HTTP (OTLP 1.x), protobuf and JSON: gauges, cumulative sums,
//! classic histograms, summaries. A resource's `service.name` and `service.instance.id` become
//! `job` and `instance`, as in Prometheus; its `host.name` is the agent.

use serde::Deserialize;

use super::otlp_names;
use super::{Incoming, Receiver, Refusal, Request, Writer, Written};
use crate::server::promql::number_text;

mod proto;
mod types;

use types::{Attributes, Export, HistogramPoint, Metric, NumberPoint, SummaryPoint};

/// Sums since the start, the only ones that a series of numbers has room for.
const CUMULATIVE: i64 = 2;
/// A point's flag that it has no value.
const NO_VALUE: i64 = 1;

impl Receiver {
    /// Takes an export in protobuf or JSON.
    ///
    /// # Errors
    ///
    /// When it is malformed, or the store can't take it now.
    pub(crate) fn otlp(
        &self,
        writer: &Writer,
        body: &[u8],
        json: bool,
    ) -> Result<Written, Refusal> {
        let malformed = |error: &dyn std::fmt::Display| Refusal::Malformed(error.to_string());
        let export = if json {
            let mut reader = serde_json::Deserializer::from_slice(body);
            Export::deserialize(&mut reader).map_err(|error| malformed(&error))?
        } else {
            proto::export(body).map_err(|error| malformed(&error))?
        };
        let mut request = self.request(writer);
        for resource in &export.resource_metrics {
            let base = Base::new(&resource.resource.attributes, self.agent_label());
            for metric in resource.scope_metrics.iter().flat_map(|scope| &scope.metrics) {
                metric_of(metric, &base, &mut request);
            }
        }
        request.store()
    }
}

/// What all series of a resource have.
struct Base {
    agent: Option<String>,
    labels: Vec<(String, String)>,
}

impl Base {
    fn new(attributes: &Attributes, agent_label: &str) -> Self {
        let get = |name: &str| attributes.get(name).filter(|value| !value.is_empty());
        let mut labels = Vec::new();
        if let Some(service) = get("service.name") {
            let job = get("service.namespace")
                .map_or_else(|| service.clone(), |space| format!("{space}/{service}"));
            labels.push(("job".to_owned(), job));
        }
        if let Some(instance) = get("service.instance.id") {
            labels.push(("instance".to_owned(), instance));
        }
        let named = get(agent_label).or_else(|| get("host.name"));
        let label = labels.iter().position(|(name, _)| name == agent_label);
        let agent = match label {
            Some(at) => Some(labels.remove(at).1),
            None => named,
        };
        Self { agent, labels }
    }

    /// Adds a sample with these attributes and one more label.
    fn add(
        &self,
        request: &mut Request<'_>,
        name: &str,
        attributes: &Attributes,
        more: Option<(&str, &str)>,
        sample: (i64, f64),
    ) {
        let own = attributes.0.iter().map(|(name, value)| (otlp_names::label(name), value));
        let own: Vec<(String, &String)> = own.collect();
        let mut labels: Vec<(&str, &str)> =
            self.labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        labels.extend(own.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        labels.extend(more);
        labels.retain(|(_, value)| !value.is_empty());
        let agent = self.agent.as_deref();
        request.add(&Incoming { metric: name, labels: &labels, agent, samples: &[sample] });
    }
}

fn metric_of(metric: &Metric, base: &Base, request: &mut Request<'_>) {
    let name = |counter, gauge| otlp_names::metric(&metric.name, &metric.unit, counter, gauge);
    if let Some(gauge) = &metric.gauge {
        let name = name(false, true);
        gauge.data_points.iter().for_each(|point| number(point, &name, base, request));
    }
    if let Some(sum) = &metric.sum {
        if sum.aggregation_temporality.0 != CUMULATIVE {
            request.written.unsupported += sum.data_points.len() as u64;
        } else {
            let name = name(sum.is_monotonic, !sum.is_monotonic);
            sum.data_points.iter().for_each(|point| number(point, &name, base, request));
        }
    }
    if let Some(histogram) = &metric.histogram {
        if histogram.aggregation_temporality.0 != CUMULATIVE {
            request.written.unsupported += histogram.data_points.len() as u64;
        } else {
            let name = name(false, false);
            histogram.data_points.iter().for_each(|point| buckets(point, &name, base, request));
        }
    }
    if let Some(summary) = &metric.summary {
        let name = name(false, false);
        summary.data_points.iter().for_each(|point| quantiles(point, &name, base, request));
    }
    if let Some(others) = &metric.exponential_histogram {
        request.written.histograms += others.data_points.len() as u64;
    }
}

fn ms(ns: types::Whole) -> i64 {
    ns.0.div_euclid(1_000_000)
}

fn number(point: &NumberPoint, name: &str, base: &Base, request: &mut Request<'_>) {
    if point.flags.0 & NO_VALUE > 0 {
        request.written.stale += 1;
        return;
    }
    let whole = point.as_int.map(|number| number.0 as f64);
    let Some(value) = point.as_double.map(|number| number.0).or(whole) else {
        request.written.unsupported += 1;
        return;
    };
    base.add(request, name, &point.attributes, None, (ms(point.time_unix_nano), value));
}

fn buckets(point: &HistogramPoint, name: &str, base: &Base, request: &mut Request<'_>) {
    if point.flags.0 & NO_VALUE > 0 {
        request.written.stale += 1;
        return;
    }
    let (at, attributes) = (ms(point.time_unix_nano), &point.attributes);
    let count = point.count.0 as f64;
    let bucket = format!("{name}_bucket");
    let mut sum = 0.0;
    for (bound, count) in point.explicit_bounds.iter().zip(&point.bucket_counts) {
        sum += count.0 as f64;
        let le = number_text(bound.0);
        base.add(request, &bucket, attributes, Some(("le", &le)), (at, sum));
    }
    base.add(request, &bucket, attributes, Some(("le", "+Inf")), (at, count));
    base.add(request, &format!("{name}_count"), attributes, None, (at, count));
    if let Some(sum) = point.sum {
        base.add(request, &format!("{name}_sum"), attributes, None, (at, sum.0));
    }
}

fn quantiles(point: &SummaryPoint, name: &str, base: &Base, request: &mut Request<'_>) {
    let (at, attributes) = (ms(point.time_unix_nano), &point.attributes);
    for value in &point.quantile_values {
        let quantile = number_text(value.quantile.0);
        base.add(request, name, attributes, Some(("quantile", &quantile)), (at, value.value.0));
    }
    base.add(request, &format!("{name}_count"), attributes, None, (at, point.count.0 as f64));
    base.add(request, &format!("{name}_sum"), attributes, None, (at, point.sum.0));
}
