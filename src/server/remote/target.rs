//! Where samples go: one engine with several addresses, or one node of a ring.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sha2::{Digest as _, Sha256};

use crate::server::config::Remote;
use crate::server::remote::gaps::Gaps;
use crate::server::remote::metrics::{Metrics, TargetMetrics};
use crate::server::remote::progress::Progress;
use crate::server::remote::queue::{Queue, Room};

/// The name of an engine with several addresses, in metrics.
const ENGINE: &str = "engine";

/// An engine or a node, and what it lacks.
pub(super) struct Target {
    /// Its name in `cert.db`: empty for an engine, the URL for a node.
    pub(super) key: String,
    /// Its name in metrics and messages.
    pub(super) name: String,
    urls: Vec<String>,
    /// Which URL is used now.
    current: AtomicUsize,
    /// One for each shard.
    pub(super) queues: Vec<Queue>,
    /// What is read from the store later.
    pub(super) gaps: Gaps,
    /// How far what it has was counted.
    pub(super) audit: Progress,
    /// Where it is read.
    pub(super) read_urls: Vec<String>,
    /// Its figures.
    pub(super) metrics: TargetMetrics,
}

impl Target {
    /// The targets of a configuration.
    pub(super) fn all(config: &Remote, room: &Arc<Room>, metrics: &Metrics) -> Vec<Self> {
        let one = |key: &str, name: String, urls: Vec<String>, read_urls: Vec<String>| Self {
            key: key.to_owned(),
            metrics: TargetMetrics::of(metrics, &name),
            name,
            urls,
            current: AtomicUsize::new(0),
            queues: (0..config.shards).map(|_| Queue::new(room)).collect(),
            gaps: Gaps::default(),
            audit: Progress::new(config.audit_after_secs),
            read_urls,
        };
        if config.is_ring() {
            let node = |(url, read): (&String, &String)| {
                one(url, place(url).to_owned(), vec![url.clone()], vec![read.clone()])
            };
            return config.write_urls.iter().zip(&config.read_urls).map(node).collect();
        }
        let (urls, reads) = (config.write_urls.clone(), config.read_urls.clone());
        vec![one("", ENGINE.to_owned(), urls, reads)]
    }

    /// When the oldest sample arrived that it has not taken, Unix milliseconds.
    pub(super) fn oldest_ms(&self) -> Option<i64> {
        self.queues.iter().filter_map(Queue::oldest_ms).min()
    }

    /// The URL that is used now.
    pub(super) fn url(&self) -> &str {
        let at = self.current.load(Ordering::Relaxed) % self.urls.len().max(1);
        self.urls.get(at).map_or("", String::as_str)
    }

    /// `url` does not answer: the next one is used, unless another shard has moved on already.
    pub(super) fn move_on(&self, url: &str) {
        if self.urls.len() > 1 && self.url() == url {
            let at = self.current.load(Ordering::Relaxed);
            // A second shard that fails at the same time changes nothing.
            let _ = self.current.compare_exchange(
                at,
                at.wrapping_add(1),
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
        }
    }
}

/// Host and port of a URL.
fn place(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split(['/', '?']).next().unwrap_or(rest)
}

/// How far an agent is from a node: the nodes with the greatest weights hold it (rendezvous
/// hashing), so that a node that comes or goes moves only its own agents.
fn weight(node: &str, agent: &str) -> u64 {
    let hash = Sha256::new().chain_update(node).chain_update([0]).chain_update(agent).finalize();
    hash.iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

/// The places of the `replicas` targets that hold an agent, the first of them first.
pub(super) fn homes<'a>(
    keys: impl ExactSizeIterator<Item = &'a str>,
    agent: &str,
    replicas: usize,
) -> Vec<usize> {
    if keys.len() == 1 {
        return vec![0];
    }
    let mut weighed: Vec<(u64, usize)> =
        keys.enumerate().map(|(at, key)| (weight(key, agent), at)).collect();
    weighed.sort_unstable_by(|a, b| b.cmp(a));
    weighed.into_iter().take(replicas).map(|(_, at)| at).collect()
}

/// The shard of an agent.
pub(super) fn shard_of(agent: &str, shards: usize) -> usize {
    // FNV-1a: it need only spread names, and a restart may change it.
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = agent.as_bytes().iter().fold(0xcbf2_9ce4_8422_2325, step);
    usize::try_from(hash % shards.max(1) as u64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_goes_moves_only_its_own_agents() {
        let nodes = ["http://a/w", "http://b/w", "http://c/w"];
        let left = ["http://a/w", "http://c/w"];
        let mut on = [0; 3];
        for number in 0..3_000 {
            let agent = format!("web-{number}");
            let before: Vec<&str> =
                homes(nodes.iter().copied(), &agent, 2).into_iter().map(|at| nodes[at]).collect();
            let after: Vec<&str> =
                homes(left.iter().copied(), &agent, 2).into_iter().map(|at| left[at]).collect();
            let kept = before.iter().filter(|node| **node != "http://b/w");
            assert!(kept.clone().all(|node| after.contains(node)));
            for (count, node) in on.iter_mut().zip(nodes) {
                *count += usize::from(before.contains(&node));
            }
        }
        assert!(on.iter().all(|count| (1_850..2_150).contains(count)), "{on:?}");
        // The same for all versions: where an agent's samples are must not change.
        assert_eq!(
            homes(nodes.iter().copied(), "web-01", 3),
            homes(nodes.iter().copied(), "web-01", 3)
        );
    }

    #[test]
    fn shards_share_agents() {
        let mut on = [0; 4];
        (0..1_000).for_each(|number| on[shard_of(&format!("web-{number}"), 4)] += 1);
        assert!(on.iter().all(|count| *count > 150), "{on:?}");
        assert_eq!(place("https://vm:8428/api/v1/write"), "vm:8428");
    }
}
