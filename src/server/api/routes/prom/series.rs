//! What series there are: `series`, `labels`, `label/{name}/values`, `metadata`.

use std::collections::{BTreeMap, BTreeSet};

use super::form::Form;
use super::{Failure, json, reply, source};
use crate::base::limits::PROMQL_SERIES_MAX;
use crate::server::api::reply::{ApiError, Reply};
use crate::server::api::request::Call;
use crate::server::api::routes::prometheus::help;
use crate::server::promql::store::StoreSource;
use crate::server::promql::{LabelSet, PromError};

/// Series that a selector gives, by their labels.
pub(super) fn series(call: &Call<'_>) -> Result<Reply, ApiError> {
    let source = source(call);
    reply(all_series(call, &source))
}

fn all_series(call: &Call<'_>, source: &StoreSource<'_>) -> Result<Vec<u8>, Failure> {
    let form = Form::of(call)?;
    if form.all("match[]").next().is_none() {
        return Err(Failure::Bad("no match[] parameter provided".to_owned()));
    }
    let limit = form.limit("limit")?;
    let mut found: BTreeSet<LabelSet> = BTreeSet::new();
    each(source, &form, &mut |labels| {
        found.insert(labels);
    })?;
    let mut out = vec![b'['];
    for (index, labels) in found.iter().take(limit).enumerate() {
        if index > 0 {
            out.push(b',');
        }
        json::labels(&mut out, labels);
    }
    out.push(b']');
    Ok(out)
}

/// Names of labels.
pub(super) fn labels(call: &Call<'_>) -> Result<Reply, ApiError> {
    let source = source(call);
    let found = || -> Result<Vec<u8>, Failure> {
        let form = Form::of(call)?;
        let mut found: BTreeSet<String> = BTreeSet::new();
        each(&source, &form, &mut |labels| {
            for (name, _) in
                labels.iter().filter(|(name, _)| !found.contains(*name)).collect::<Vec<_>>()
            {
                found.insert(name.to_owned());
            }
        })?;
        Ok(list(&found, form.limit("limit")?))
    };
    reply(found())
}

/// Values of one label.
pub(super) fn values(call: &Call<'_>) -> Result<Reply, ApiError> {
    let source = source(call);
    let found = || -> Result<Vec<u8>, Failure> {
        let form = Form::of(call)?;
        let name = decoded(call.param("name"));
        let mut found: BTreeSet<String> = BTreeSet::new();
        each(&source, &form, &mut |labels| {
            let value = labels.get(&name);
            if !value.is_empty() && !found.contains(value) {
                found.insert(value.to_owned());
            }
        })?;
        Ok(list(&found, form.limit("limit")?))
    };
    reply(found())
}

/// A label's name as paths have it: one that is not plain is written as `U__cpu_2e_usage`.
fn decoded(name: &str) -> String {
    let Some(rest) = name.strip_prefix("U__") else { return name.to_owned() };
    let mut out = String::new();
    let mut rest = rest;
    while let Some(at) = rest.find('_') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('_') {
            out.push('_');
            rest = after;
        } else if let Some((code, after)) = rest.split_once('_')
            && let Some(letter) = u32::from_str_radix(code, 16).ok().and_then(char::from_u32)
        {
            out.push(letter);
            rest = after;
        } else {
            return name.to_owned();
        }
    }
    out.push_str(rest);
    out
}

/// Hands each series of the selectors, or every one where there are none, to `visit`.
fn each(
    source: &StoreSource<'_>,
    form: &Form,
    visit: &mut dyn FnMut(LabelSet),
) -> Result<(), Failure> {
    let times = form.times()?;
    let mut selectors = form.selectors()?;
    if selectors.is_empty() {
        selectors.push(Vec::new());
    }
    let mut left = PROMQL_SERIES_MAX;
    for matchers in &selectors {
        source
            .series(matchers, times, &mut |labels| {
                visit(labels);
                left = left.saturating_sub(1);
                left > 0
            })
            .map_err(PromError::Storage)?;
    }
    if left == 0 {
        let message = format!("over {PROMQL_SERIES_MAX} series; narrow match[], start and end");
        return Err(PromError::Execution(message).into());
    }
    Ok(())
}

fn list(found: &BTreeSet<String>, limit: usize) -> Vec<u8> {
    let listed: Vec<&String> = found.iter().take(limit).collect();
    serde_json::to_vec(&listed).unwrap_or_default()
}

/// Type and meaning of metrics.
pub(super) fn metadata(call: &Call<'_>) -> Result<Reply, ApiError> {
    let source = source(call);
    let found = || -> Result<Vec<u8>, Failure> {
        let form = Form::of(call)?;
        let (only, limit) = (form.get("metric"), form.limit("limit")?);
        if let Some(missing) = &source.missing {
            return Err(PromError::Storage(missing.repeat()).into());
        }
        let mut found: BTreeMap<&str, serde_json::Value> = BTreeMap::new();
        for (named, metric) in source.names.iter() {
            if only.is_none_or(|only| only == &*named.name) {
                found.insert(&named.name, about(metric, &named.name));
            }
        }
        let found: BTreeMap<_, _> = found.into_iter().take(limit).collect();
        Ok(serde_json::to_vec(&found).unwrap_or_default())
    };
    reply(found())
}

fn about(metric: &str, name: &str) -> serde_json::Value {
    let kind = if name.ends_with("_total") {
        "counter"
    } else if name.ends_with("_bucket") || name.ends_with("_count") || name.ends_with("_sum") {
        "unknown"
    } else {
        "gauge"
    };
    serde_json::json!([{ "type": kind, "help": help(metric).unwrap_or_default(), "unit": "" }])
}

#[cfg(test)]
mod tests {
    use super::decoded;

    #[test]
    fn names_in_paths_are_read() {
        assert_eq!(decoded("agent"), "agent");
        assert_eq!(decoded("U__cpu_2e_usage"), "cpu.usage");
        assert_eq!(decoded("U__a__b"), "a_b");
        assert_eq!(decoded("U__a_zz_b"), "U__a_zz_b");
        assert_eq!(decoded("U__a_1"), "U__a_1");
    }
}
