//! How many agents there are over all days, known at any time without a look at the days.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

/// Agents with points in some day, each counted once however many days it has.
#[derive(Debug, Default)]
pub(crate) struct AgentCount(Mutex<HashMap<Arc<str>, u32>>);

impl AgentCount {
    /// How many there are.
    pub(crate) fn get(&self) -> usize {
        self.0.lock().len()
    }
}

/// Counts an agent of one day until it is dropped.
#[derive(Debug)]
pub(crate) struct Counted {
    count: Arc<AgentCount>,
    agent: Arc<str>,
}

impl Counted {
    /// Counts an agent.
    pub(crate) fn new(count: &Arc<AgentCount>, agent: &Arc<str>) -> Self {
        *count.0.lock().entry(Arc::clone(agent)).or_default() += 1;
        Self { count: Arc::clone(count), agent: Arc::clone(agent) }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut counts = self.count.0.lock();
        if let Some(days) = counts.get_mut(&self.agent) {
            *days -= 1;
            if *days == 0 {
                counts.remove(&self.agent);
            }
        }
    }
}
