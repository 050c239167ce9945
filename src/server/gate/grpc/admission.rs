//! Whether a caller may send a report: asked once its headers have come, before the C core reads
//! the message.

use std::fmt;
use std::sync::Arc;

/// Says of the values of `agent-id` and `authorization` whether they may report.
type Admits = dyn Fn(&str, &str) -> bool + Send + Sync;

/// Who may report. Without a rule everybody may.
#[derive(Clone, Default)]
pub(crate) struct Admission(Option<Arc<Admits>>);

impl Admission {
    /// Callers of whom `admits` says so, by the values of `agent-id` and `authorization`, which are
    /// empty where a call has none.
    pub(crate) fn by(admits: impl Fn(&str, &str) -> bool + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(admits)))
    }

    /// Whether a caller may report.
    pub(super) fn admits(&self, agent_id: Option<&[u8]>, authorization: Option<&[u8]>) -> bool {
        let Some(admits) = &self.0 else { return true };
        // As the handler of the call takes them.
        let text = |value: Option<&[u8]>| {
            str::from_utf8(value.unwrap_or_default()).unwrap_or("").to_owned()
        };
        admits(&text(agent_id), &text(authorization))
    }
}

impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Admission(by rule)" } else { "Admission(all)" })
    }
}
