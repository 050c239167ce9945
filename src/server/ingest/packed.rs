//! One stream of packed batches: the table of series that its agent has named, and the ticks that
//! refer to it.

use crate::base::limits::{BATCH_POINTS_MAX, STREAM_SERIES_MAX};
use crate::model::point::{Batch, Point};
use crate::model::series::Labels;
use crate::server::ingest::admit::{self, LeftOut, Reason};
use crate::server::ingest::take::{Caller, Decision, Intake, Outcome};
use crate::wire::pb::metrics::{PackedBatch, PackedSeries};

/// A series of the stream, or why its points are left out.
type Named = Result<(Box<str>, Labels), Reason>;

/// What a stream has said so far. Names and numbers stay, whatever becomes of the batch that
/// brought them: the agent does not say them again.
#[derive(Default)]
pub struct Stream {
    agent_id: Option<Box<str>>,
    series: Vec<Named>,
    last: Vec<u32>,
}

impl Stream {
    /// Takes the next message.
    ///
    /// # Errors
    ///
    /// What ends the stream.
    pub fn take(
        &mut self,
        intake: &Intake,
        caller: &Caller,
        message: PackedBatch,
    ) -> Result<Decision, Outcome> {
        // Asked at each message, so that a token that was cut off ends the stream.
        intake.authenticate(caller)?;
        let agent = self.agent(&message.agent_id)?;
        intake.authorize(caller, &agent)?;
        self.name(message.new_series)?;
        let of: usize = message.ticks.iter().map(|tick| tick.values.len()).sum();
        let checked = admit::check_batch(&agent, of);
        let window = intake.window();
        let mut left_out = LeftOut::default();
        let mut points = Vec::with_capacity(of.min(BATCH_POINTS_MAX));
        for tick in message.ticks {
            if !tick.series.is_empty() {
                self.last = tick.series;
            }
            if tick.values.len() != self.last.len() {
                let (values, series) = (tick.values.len(), self.last.len());
                let told = format!("a tick has {values} values for {series} series");
                return Err(Outcome::Refused(told));
            }
            if checked.is_err() {
                continue;
            }
            for (number, value) in self.last.iter().zip(tick.values) {
                let named = self.series.get(*number as usize);
                let named = match named.map(Result::as_ref) {
                    Some(Ok(named)) => window.check(tick.timestamp_ms, value).map(|()| named),
                    Some(Err(reason)) => Err(*reason),
                    None => Err(Reason::UnknownSeries),
                };
                match named {
                    Ok((metric, labels)) => points.push(Point {
                        metric: metric.clone(),
                        labels: labels.clone(),
                        timestamp_ms: tick.timestamp_ms,
                        value,
                    }),
                    Err(reason) => left_out.add(reason),
                }
            }
        }
        if let Err(told) = checked {
            let outcome = Outcome::Refused(told);
            intake.metrics.count(&outcome);
            return Ok(Decision::Now(outcome));
        }
        let timestamp_ms = points.last().map_or(0, |point| point.timestamp_ms);
        let mut batches = vec![Batch { agent_id: agent, timestamp_ms, points }];
        batches.retain(|batch| !batch.points.is_empty());
        Ok(intake.submit(batches, left_out, of))
    }

    /// The stream's agent, which its first message names.
    fn agent(&mut self, named: &str) -> Result<Box<str>, Outcome> {
        match &self.agent_id {
            Some(agent) if named.is_empty() || **agent == *named => Ok(agent.clone()),
            Some(_) => Err(Outcome::Refused("a stream belongs to one agent".to_owned())),
            None => {
                admit::check_agent_id(named).map_err(Outcome::Refused)?;
                self.agent_id = Some(named.into());
                Ok(named.into())
            }
        }
    }

    fn name(&mut self, new: Vec<PackedSeries>) -> Result<(), Outcome> {
        if self.series.len() + new.len() > STREAM_SERIES_MAX {
            let told = format!("a stream may name {STREAM_SERIES_MAX} series; start a new one");
            return Err(Outcome::Refused(told));
        }
        self.series.extend(new.into_iter().map(|series| {
            let labels = series.labels.iter().map(|(n, v)| (n.as_str(), v.as_str()));
            admit::check_series(&series.metric_name, labels)?;
            Ok((series.metric_name.into(), Labels::from_pairs(series.labels)))
        }));
        Ok(())
    }
}
