//! One stream of packed batches: the table of series that its agent has defined, and the samples
//! that refer to it.

use std::sync::Arc;

use super::admit::{self, AcceptedTimes, Reason, Rejected};
use super::decode_packed::{NewSeries, Packed, Tick};
use super::intake::{Caller, Intake};
use super::outcome::{Decision, Outcome};
use crate::base::limits::STREAM_SERIES_MAX;
use crate::model::agent_id::check_agent_id;
use crate::model::series::Labels;
use crate::server::storage::{AgentSamples, SampleSet, Series, SeriesList};

/// A series of the stream, or why its points are rejected.
type Defined = Result<Arc<Series>, Reason>;

/// The state of a stream. Series and numbers stay, whatever becomes of the batch that brought them:
/// the agent does not send them again.
#[derive(Default)]
pub(crate) struct Stream {
    agent_id: Option<Arc<str>>,
    series: Vec<Defined>,
    /// The numbers of the last tick.
    last: Vec<u32>,
    /// Their series, where all of them can be stored.
    list: Option<SeriesList>,
}

impl Stream {
    /// Admits the next message, and queues what is valid. One without samples is taken where it
    /// says something of the host.
    ///
    /// # Errors
    ///
    /// The outcome that ends the stream.
    pub(crate) fn take(
        &mut self,
        intake: &Intake,
        caller: &Caller,
        message: Packed,
    ) -> Result<Decision, Outcome> {
        // Checked at each message: a revoked token ends the stream.
        intake.authenticate(caller)?;
        let agent = self.agent(&message.agent_id)?;
        intake.authorize(caller, &agent)?;
        intake.check_twin(caller, &agent)?;
        intake.admit_agent(&agent)?;
        let is_over = message.is_over();
        self.define(intake, &agent, message.new_series)?;
        if is_over {
            // Not all of it was kept: what a later tick would refer to is not known.
            self.last = Vec::new();
            self.list = None;
            return Ok(refused(intake, &agent, message.count));
        }
        let of: usize = message.ticks.iter().map(|tick| tick.values.len()).sum();
        let times = intake.accepted_times();
        let mut rejected = Rejected::default();
        let mut sets = Vec::with_capacity(message.ticks.len());
        for tick in message.ticks {
            sets.extend(self.sample_set(tick, &times, &mut rejected)?);
        }
        if of == 0 && sets.is_empty() && !message.host.is_empty() {
            return Ok(Decision::Now(Outcome::Stored(String::new())));
        }
        if admit::check_batch(&agent, of).is_err() {
            return Ok(refused(intake, &agent, of));
        }
        let decision = intake.submit(vec![AgentSamples { agent, sets }], rejected, of);
        if let Decision::Now(outcome) = &decision {
            intake.metrics.count(outcome);
        }
        Ok(decision)
    }

    fn sample_set(
        &mut self,
        tick: Tick,
        times: &AcceptedTimes,
        rejected: &mut Rejected,
    ) -> Result<Option<SampleSet>, Outcome> {
        if !tick.series.is_empty() {
            self.last = tick.series;
            let named = |number: &u32| self.series.get(*number as usize)?.as_ref().ok().cloned();
            self.list = self.last.iter().map(named).collect();
        }
        if tick.values.len() != self.last.len() {
            let (values, series) = (tick.values.len(), self.last.len());
            let message = format!("a tick has {values} values for {series} series");
            return Err(Outcome::Refused(message));
        }
        let timestamp_ms = tick.timestamp_ms;
        let whole = tick.values.iter().all(|value| times.check(timestamp_ms, *value).is_ok());
        if let (true, Some(list)) = (whole, &self.list) {
            let (series, values) = (Arc::clone(list), tick.values);
            return Ok(Some(SampleSet { timestamp_ms, series, values }));
        }
        let (mut series, mut values) = (Vec::new(), Vec::new());
        for (number, value) in self.last.iter().zip(tick.values) {
            let named = match self.series.get(*number as usize) {
                Some(Ok(named)) => times.check(timestamp_ms, value).map(|()| named),
                Some(Err(reason)) => Err(*reason),
                None => Err(Reason::UnknownSeries),
            };
            match named {
                Ok(named) => {
                    series.push(Arc::clone(named));
                    values.push(value);
                }
                Err(reason) => rejected.add(reason),
            }
        }
        let any = !series.is_empty();
        Ok(any.then(|| SampleSet { timestamp_ms, series: series.into(), values }))
    }

    /// The agent of the stream; empty before its first message.
    pub(crate) fn agent_id(&self) -> &str {
        self.agent_id.as_deref().unwrap_or_default()
    }

    /// The stream's agent, set by its first message.
    fn agent(&mut self, named: &str) -> Result<Arc<str>, Outcome> {
        match &self.agent_id {
            Some(agent) if named.is_empty() || **agent == *named => Ok(agent.clone()),
            Some(_) => Err(Outcome::Refused("a stream belongs to one agent".to_owned())),
            None => {
                check_agent_id(named).map_err(Outcome::Refused)?;
                self.agent_id = Some(named.into());
                Ok(named.into())
            }
        }
    }

    fn define(&mut self, intake: &Intake, agent: &str, new: Vec<NewSeries>) -> Result<(), Outcome> {
        if self.series.len() + new.len() > STREAM_SERIES_MAX {
            let message =
                format!("a stream may define {STREAM_SERIES_MAX} series; start a new one");
            return Err(Outcome::Refused(message));
        }
        self.series.extend(new.into_iter().map(|series| {
            let labels = series.labels.iter().map(|(n, v)| (n.as_str(), v.as_str()));
            admit::check_series(&series.metric, labels)?;
            let labels = Labels::from_pairs(series.labels);
            intake.resolve(agent, series.metric.into(), labels)
        }));
        Ok(())
    }
}

/// The answer to a batch of `points` that `check_batch` refuses.
fn refused(intake: &Intake, agent: &str, points: usize) -> Decision {
    let message = admit::check_batch(agent, points).err().unwrap_or_default();
    let outcome = Outcome::Refused(message);
    intake.metrics.count(&outcome);
    Decision::Now(outcome)
}
