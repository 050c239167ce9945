//! Parameters of Prometheus' API: of the query and of a form in the body, any of them more than
//! once, those that are not known passed over.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use super::Failure;
use crate::base::clock::parse_rfc3339;
use crate::server::api::request::Call;
use crate::server::promql::Matcher;
use crate::server::promql::parse::{parse_duration, parse_selector};

/// Times before and after which no query looks: 100,000 years on both sides of 1970.
pub(super) const TIME_MS_MAX: i64 = 3_155_760_000_000_000;

/// The parameters of a call.
pub(super) struct Form(Vec<(String, String)>);

impl Form {
    /// Reads them.
    ///
    /// # Errors
    ///
    /// A name or value that is not UTF-8.
    pub(super) fn of(call: &Call<'_>) -> Result<Self, Failure> {
        let mut found = Vec::new();
        // The body's come first, as in Go.
        if call.content_type.trim_start().starts_with("application/x-www-form-urlencoded") {
            let body = std::str::from_utf8(call.body);
            let body = body.map_err(|_| Failure::Bad("the form is not UTF-8".to_owned()))?;
            parse(body, &mut found)?;
        }
        parse(call.query_text, &mut found)?;
        Ok(Self(found))
    }

    /// The first value of a parameter that is not empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let mut named = self.0.iter().filter(|(other, _)| other == name);
        named.find(|(_, value)| !value.is_empty()).map(|(_, value)| value.as_str())
    }

    /// Every value of a parameter.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// A time: Unix seconds or RFC 3339, as Unix milliseconds.
    pub(super) fn time(&self, name: &str) -> Result<Option<i64>, Failure> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let secs = text.parse::<f64>().ok().filter(|secs| secs.is_finite());
        let ms = match secs {
            Some(secs) => Some((secs * 1_000.0).round() as i64),
            None => parse_rfc3339(text),
        };
        let ms = ms.ok_or_else(|| {
            Failure::parameter(name, format!("cannot parse {text:?} to a valid timestamp"))
        })?;
        Ok(Some(ms.clamp(-TIME_MS_MAX, TIME_MS_MAX)))
    }

    /// A duration or a number of seconds, as milliseconds.
    pub(super) fn duration(&self, name: &str) -> Result<Option<i64>, Failure> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let ms = parse_duration(text).filter(|ms| ms.abs() <= TIME_MS_MAX);
        ms.map(Some).ok_or_else(|| {
            Failure::parameter(name, format!("cannot parse {text:?} to a valid duration"))
        })
    }

    /// `limit`: 0 or none means no limit.
    pub(super) fn limit(&self, name: &str) -> Result<usize, Failure> {
        let Some(text) = self.get(name) else { return Ok(usize::MAX) };
        match text.parse::<usize>() {
            Ok(0) => Ok(usize::MAX),
            Ok(limit) => Ok(limit),
            Err(error) => Err(Failure::parameter(name, error)),
        }
    }

    /// The selectors of `match[]`.
    pub(super) fn selectors(&self) -> Result<Vec<Vec<Matcher>>, Failure> {
        let one = |text| parse_selector(text).map_err(|error| Failure::parameter("match[]", error));
        self.all("match[]").map(one).collect()
    }

    /// `start` and `end`; everything where they are left out.
    pub(super) fn times(&self) -> Result<(i64, i64), Failure> {
        let from = self.time("start")?.unwrap_or(-TIME_MS_MAX);
        let to = self.time("end")?.unwrap_or(TIME_MS_MAX);
        if to < from {
            let message = "end timestamp must not be before start time";
            return Err(Failure::parameter("end", message));
        }
        Ok((from, to))
    }
}

fn parse(text: &str, out: &mut Vec<(String, String)>) -> Result<(), Failure> {
    for pair in text.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        out.push((decode(name)?, decode(value)?));
    }
    Ok(())
}

fn decode(text: &str) -> Result<String, Failure> {
    let spaced = text.replace('+', " ");
    let decoded = percent_decode_str(&spaced).decode_utf8().map(Cow::into_owned);
    decoded.map_err(|_| Failure::Bad("a parameter is not UTF-8".to_owned()))
}
