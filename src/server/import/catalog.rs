//! Series of the first release's rows, looked up once, and the lists of series that ticks share.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::model::agent_id::check_agent_id;
use crate::model::series::{Labels, SeriesKey};
use crate::server::ingest::admit::{Reason, check_series};
use crate::server::storage::{Series, SeriesList, StorageError, Store};

/// Agents that are named.
const REFUSED_MAX: usize = 20;

/// A series of the catalog: its dense number and that of its agent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    /// Number of the series.
    pub series: u32,
    /// Number of its agent.
    pub agent: u32,
}

/// Every series that was seen, by the text of its row.
pub(super) struct Catalog<'a> {
    store: &'a dyn Store,
    by_text: HashMap<Box<[u8]>, Result<Known, Reason>>,
    by_number: HashMap<u32, u32>,
    series: Vec<Arc<Series>>,
    agents: Vec<Arc<str>>,
    agent_numbers: HashMap<Arc<str>, u32>,
    lists: HashMap<Box<[u32]>, SeriesList>,
    /// Agents whose ids can't be, and why.
    pub refused: BTreeSet<String>,
    key: Vec<u8>,
}

impl<'a> Catalog<'a> {
    /// An empty catalog.
    pub(super) fn new(store: &'a dyn Store) -> Self {
        Self {
            store,
            by_text: HashMap::new(),
            by_number: HashMap::new(),
            series: Vec::new(),
            agents: Vec::new(),
            agent_numbers: HashMap::new(),
            lists: HashMap::new(),
            refused: BTreeSet::new(),
            key: Vec::new(),
        }
    }

    /// The series of a row; the reason why it can't be stored.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub(super) fn find(
        &mut self,
        agent: &str,
        metric: &str,
        labels: &str,
    ) -> Result<Result<Known, Reason>, StorageError> {
        self.key.clear();
        for part in [agent, metric] {
            self.key.extend_from_slice(&(part.len() as u64).to_le_bytes());
            self.key.extend_from_slice(part.as_bytes());
        }
        self.key.extend_from_slice(labels.as_bytes());
        if let Some(known) = self.by_text.get(self.key.as_slice()) {
            return Ok(*known);
        }
        let found = self.add(agent, metric, labels)?;
        self.by_text.insert(self.key.as_slice().into(), found);
        Ok(found)
    }

    fn add(
        &mut self,
        agent: &str,
        metric: &str,
        labels: &str,
    ) -> Result<Result<Known, Reason>, StorageError> {
        // The first release read labels that are no object as none.
        let labels = Labels::from_json(labels).unwrap_or_default();
        if let Err(why) = check_agent_id(agent) {
            if self.refused.len() < REFUSED_MAX {
                self.refused.insert(format!("points of agent {agent:?} do not come over: {why}"));
            }
            return Ok(Err(Reason::NoRoom));
        }
        if let Err(reason) = check_series(metric, labels.iter()) {
            return Ok(Err(reason));
        }
        let agent_number = self.agent_number(agent);
        let agent = Arc::clone(&self.agents[agent_number as usize]);
        let series = match self.store.resolve(SeriesKey { agent, metric: metric.into(), labels }) {
            Ok(series) => series,
            Err(error @ StorageError::NoRoom(_)) => return Ok(Err(Reason::of(&error))),
            Err(error) => return Err(error),
        };
        let next = self.series.len() as u32;
        // The same labels may be written in another order.
        let number = *self.by_number.entry(series.number).or_insert(next);
        if number == next {
            self.series.push(series);
        }
        Ok(Ok(Known { series: number, agent: agent_number }))
    }

    fn agent_number(&mut self, agent: &str) -> u32 {
        if let Some(number) = self.agent_numbers.get(agent) {
            return *number;
        }
        let (name, number): (Arc<str>, u32) = (agent.into(), self.agents.len() as u32);
        self.agents.push(Arc::clone(&name));
        self.agent_numbers.insert(name, number);
        number
    }

    /// The name of an agent.
    pub(super) fn agent(&self, number: u32) -> Arc<str> {
        Arc::clone(&self.agents[number as usize])
    }

    /// The list of these series, the same for every tick that has them.
    pub(super) fn list(&mut self, numbers: &[u32]) -> SeriesList {
        if let Some(list) = self.lists.get(numbers) {
            return Arc::clone(list);
        }
        let list: SeriesList =
            numbers.iter().map(|number| Arc::clone(&self.series[*number as usize])).collect();
        self.lists.insert(numbers.into(), Arc::clone(&list));
        list
    }

    /// Forgets the lists, so that they do not pile up from file to file.
    pub(super) fn forget_lists(&mut self) {
        self.lists.clear();
    }
}
