//! The sizes of file systems (statvfs(3)), asked so that a dead server of one can't stop the rest.
//!
//! File systems of local disks are asked directly. All others are asked on helper threads that can
//! be given up on. A helper that hangs keeps its file system; the next ones take the rest. There
//! are [`HELPERS_MAX`] helpers at the most, and the last one asks only what has answered before.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::agent::collectors::{Samples, percent};
use crate::base::limits::MOUNTS_MAX;
use crate::rt::thread;

/// Sizes in bytes, and what else the system says of a file system.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sizes {
    /// All blocks.
    pub total: u64,
    /// Blocks that are free, for the superuser too.
    pub free: u64,
    /// Blocks that are free for everyone.
    pub available: u64,
    /// All inodes; 0 where the file system makes them as it needs them.
    pub inodes: u64,
    /// Inodes that are free.
    pub inodes_free: u64,
}

/// A file system's sizes, and the device that is seen at its path where that was asked for.
pub(super) type Answer = io::Result<(Sizes, Option<(u32, u32)>)>;

/// How a path is asked; another function takes its place in tests of a mount that hangs.
pub(super) type Ask = fn(&Path, bool) -> Answer;

/// How long all file systems on helpers together may take.
const PATIENCE: Duration = Duration::from_secs(1);
/// One that failed or hung is asked again after this time.
const ASK_AGAIN: Duration = Duration::from_secs(60);
/// Helper threads at the most.
const HELPERS_MAX: usize = 8;
/// Helpers that are started at once where several file systems have never answered.
const HELPERS_AT_ONCE: usize = 4;

/// A file system to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Question {
    /// Where it is mounted, as this process sees it.
    pub path: PathBuf,
    /// Whether asking may hang.
    pub doubtful: bool,
    /// Whether to say which device is seen there.
    pub device: bool,
}

/// Asks file systems.
pub(super) struct Asker {
    ask: Ask,
    known: HashMap<PathBuf, Known>,
    /// Made when a file system is first asked by a helper: most hosts have none to ask so, and
    /// the queue's room is 8 KB.
    queue: OnceCell<(Sender<Request>, Receiver<Request>)>,
    helpers: usize,
}

#[derive(Default)]
struct Known {
    /// Whether it has ever answered.
    proven: bool,
    /// Under way since an earlier collection.
    pending: Option<Receiver<Answer>>,
    /// Not to be asked before, and why.
    resting: Option<(Instant, io::ErrorKind, String)>,
}

struct Request {
    question: Question,
    reply: Sender<Answer>,
    state: Arc<AtomicU8>,
}

const WAITING: u8 = 0;
const STARTED: u8 = 1;
const CANCELLED: u8 = 2;

impl Asker {
    /// An asker that asks with `ask`.
    pub(super) fn new(ask: Ask) -> Self {
        Self { ask, known: HashMap::new(), queue: OnceCell::new(), helpers: 0 }
    }

    /// Both ends of the queue. A file system is queued once at a time.
    fn queue(&self) -> &(Sender<Request>, Receiver<Request>) {
        self.queue.get_or_init(|| bounded(MOUNTS_MAX))
    }

    /// The answers to `questions`, in their order. `TimedOut` stands for one that hangs.
    pub(super) fn ask(&mut self, questions: &[Question]) -> Vec<Answer> {
        self.known.retain(|path, _| questions.iter().any(|question| question.path == *path));
        let now = Instant::now();
        let mut answers: Vec<Option<Answer>> = Vec::with_capacity(questions.len());
        let mut doubtful = Vec::new();
        for (index, question) in questions.iter().enumerate() {
            let known = if question.doubtful {
                self.recall(question, now)
            } else {
                Some((self.ask)(&question.path, question.device))
            };
            if known.is_none() {
                doubtful.push(index);
            }
            answers.push(known);
        }
        if !doubtful.is_empty() {
            self.ask_helpers(questions, doubtful, now, &mut answers);
        }
        answers.into_iter().map(|answer| answer.unwrap_or_else(|| Err(hangs()))).collect()
    }

    /// What is known of a doubtful file system without asking it; `None` when it is to be asked.
    fn recall(&mut self, question: &Question, now: Instant) -> Option<Answer> {
        let known = self.known.entry(question.path.clone()).or_default();
        if let Some(pending) = &known.pending {
            let Ok(answer) = pending.try_recv() else { return Some(Err(hangs())) };
            known.pending = None;
            return Some(known.learn(answer, now));
        }
        let (until, kind, why) = known.resting.as_ref()?;
        if now < *until {
            return Some(Err(io::Error::new(*kind, why.clone())));
        }
        known.resting = None;
        None
    }

    fn ask_helpers(
        &mut self,
        questions: &[Question],
        mut indices: Vec<usize>,
        now: Instant,
        answers: &mut [Option<Answer>],
    ) {
        let proven = |asker: &Self, index: usize| {
            asker.known.get(&questions[index].path).is_some_and(|known| known.proven)
        };
        // What has answered before comes first: it is likely to answer again.
        indices.sort_by_key(|index| !proven(self, *index));
        let hanging = self.known.values().filter(|known| known.pending.is_some()).count();
        let unproven = indices.iter().filter(|index| !proven(self, **index)).count();
        if hanging + 1 >= HELPERS_MAX {
            indices.retain(|index| proven(self, *index));
        }
        let spare = (HELPERS_MAX - 1).saturating_sub(hanging).clamp(1, HELPERS_AT_ONCE);
        self.start_helpers((hanging + unproven.clamp(1, spare)).min(HELPERS_MAX));
        let mut under_way = Vec::new();
        for index in indices {
            let (reply, answer) = bounded(1);
            let state = Arc::new(AtomicU8::new(WAITING));
            let question = questions[index].clone();
            let request = Request { question, reply, state: Arc::clone(&state) };
            if self.queue().0.try_send(request).is_ok() {
                under_way.push((index, answer, state));
            }
        }
        let deadline = now + PATIENCE;
        for (index, answer, state) in under_way {
            let known = self.known.entry(questions[index].path.clone()).or_default();
            if let Ok(answer) = answer.recv_deadline(deadline) {
                answers[index] = Some(known.learn(answer, now));
            } else if state
                .compare_exchange(WAITING, CANCELLED, Ordering::SeqCst, Ordering::SeqCst)
                .is_err()
            {
                known.pending = Some(answer);
            }
        }
    }

    fn start_helpers(&mut self, wanted: usize) {
        while self.helpers < wanted {
            let (queue, ask) = (self.queue().1.clone(), self.ask);
            let body = move || {
                for request in queue {
                    let Request { question, reply, state } = request;
                    let began = state
                        .compare_exchange(WAITING, STARTED, Ordering::SeqCst, Ordering::SeqCst)
                        .is_ok();
                    if began {
                        // Nobody waits any more when the mounts have changed meanwhile.
                        let _ = reply.send(ask(&question.path, question.device));
                    }
                }
                Ok(())
            };
            if let Err(error) = thread::try_spawn("statfs", body) {
                log::debug!("cannot start a thread to ask file systems: {error}");
                return;
            }
            self.helpers += 1;
        }
    }
}

impl Known {
    fn learn(&mut self, answer: Answer, now: Instant) -> Answer {
        match &answer {
            Ok(_) => self.proven = true,
            Err(error) => {
                self.resting = Some((now + ASK_AGAIN, error.kind(), error.to_string()));
            }
        }
        answer
    }
}

fn hangs() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "it does not answer")
}

/// statvfs(3) of a path, and stat(2) for its device where that is wanted.
pub(super) fn statvfs(path: &Path, device: bool) -> Answer {
    let stat = rustix::fs::statvfs(path)?;
    let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
    let sizes = Sizes {
        total: bytes(stat.f_blocks),
        free: bytes(stat.f_bfree),
        available: bytes(stat.f_bavail),
        inodes: stat.f_files,
        inodes_free: stat.f_ffree,
    };
    let device = device.then(|| rustix::fs::stat(path)).transpose()?;
    #[allow(clippy::unnecessary_cast, reason = "its type differs between systems")]
    let device = device.map(|stat| stat.st_dev as rustix::fs::Dev);
    Ok((sizes, device.map(|dev| (rustix::fs::major(dev), rustix::fs::minor(dev)))))
}

/// The points of one file system, as `df` counts: blocks for the superuser alone are neither used
/// nor available.
pub(super) fn push_sizes(point: &str, sizes: Sizes, out: &mut Samples) {
    let used = sizes.total.saturating_sub(sizes.free);
    // A server of BSD gives less than nothing where only root can write on: NFS makes that a huge
    // number of it.
    let available = if sizes.available > sizes.total { 0 } else { sizes.available };
    let usable = used.saturating_add(available);
    let mut push = |metric, value| out.labelled(metric, "mount", point, value);
    push("disk.total", sizes.total as f64);
    push("disk.used", used as f64);
    push("disk.available", available as f64);
    push("disk.used_percent", percent(used as f64, usable as f64));
    if out.moment.slow && sizes.inodes > 0 {
        let used = sizes.inodes.saturating_sub(sizes.inodes_free);
        out.labelled("disk.inodes_total", "mount", point, sizes.inodes as f64);
        out.labelled("disk.inodes_used", "mount", point, used as f64);
        let share = percent(used as f64, sizes.inodes as f64);
        out.labelled("disk.inodes_used_percent", "mount", point, share);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::agent::collectors::Moment;
    use std::sync::atomic::AtomicUsize;

    static ASKED: AtomicUsize = AtomicUsize::new(0);

    fn hang_below_dead(path: &Path, device: bool) -> Answer {
        if !path.starts_with("/dead") {
            return statvfs(Path::new("/"), device);
        }
        ASKED.fetch_add(1, Ordering::SeqCst);
        loop {
            std::thread::park();
        }
    }

    fn question(path: &str, doubtful: bool) -> Question {
        Question { path: path.into(), doubtful, device: false }
    }

    #[test]
    fn seventy_mounts_that_hang_take_a_bounded_number_of_threads_and_stop_no_other() {
        let mut asker = Asker::new(hang_below_dead);
        let alive = question("/alive/nfs", true);
        assert!(asker.ask(std::slice::from_ref(&alive))[0].is_ok());
        let mut questions: Vec<Question> =
            (0..70).map(|n| question(&format!("/dead/{n}"), true)).collect();
        questions.push(alive);
        questions.push(question("/", false));
        let started = Instant::now();
        for _ in 0..6 {
            let answers = asker.ask(&questions);
            assert!(
                answers[..70]
                    .iter()
                    .all(|a| a.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::TimedOut))
            );
            assert!(answers[70].is_ok() && answers[71].is_ok());
        }
        let asked = ASKED.load(Ordering::SeqCst);
        assert!((4..HELPERS_MAX).contains(&asked), "{asked} threads hang");
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    }

    #[test]
    fn a_live_file_system_answers_both_ways() {
        let mut asker = Asker::new(statvfs);
        let answers =
            asker.ask(&[question("/", false), question("/", true), question("/no", false)]);
        let sizes: Vec<Sizes> = answers.iter().flatten().map(|(sizes, _)| *sizes).collect();
        assert_eq!(sizes.len(), 2);
        assert_eq!(sizes[0].total, sizes[1].total);
        assert!(sizes[0].total >= sizes[0].free && sizes[0].free >= sizes[0].available);
    }

    #[test]
    fn blocks_for_the_superuser_count_as_df_counts_them() {
        let mut out = Samples::new(Moment { timestamp_ms: 1, at: Instant::now(), slow: true });
        let sizes = Sizes { total: 1_000, free: 300, available: 250, inodes: 10, inodes_free: 4 };
        push_sizes("/", sizes, &mut out);
        let values: Vec<f64> = out.into_parts().0.iter().map(|point| point.value).collect();
        assert_eq!(values, [1_000.0, 700.0, 250.0, 73.68, 10.0, 6.0, 60.0]);
    }
}
