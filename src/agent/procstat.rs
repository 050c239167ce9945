//! /proc/[pid]/stat (proc_pid_stat(5)).

/// The fields of a process that count.
#[derive(Debug, PartialEq)]
pub(crate) struct ProcStat {
    /// The name, 15 bytes at the most.
    pub(crate) name: String,
    /// CPU time in the kernel and in programs, clock ticks.
    pub(crate) ticks: u64,
    /// Threads.
    pub(crate) threads: u64,
    /// Clock ticks after the system's start.
    pub(crate) started: u64,
    /// Resident memory.
    pub(crate) pages: u64,
}

/// Reads `pid (name) state …`; the name may hold anything, brackets too. `None` for a text that
/// breaks off.
pub(crate) fn parse(text: &str) -> Option<ProcStat> {
    let (head, tail) = text.rsplit_once(')')?;
    let (_, name) = head.split_once('(')?;
    let fields: Vec<&str> = tail.split_ascii_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    Some(ProcStat {
        name: name.to_owned(),
        ticks: number(11)?.saturating_add(number(12)?),
        threads: number(17)?,
        started: number(19)?,
        pages: number(21).unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_name_may_hold_brackets_and_spaces() {
        let text = "7 (a b) (c)) S 1 7 7 0 -1 4194560 1 2 3 4 50 60 7 8 20 0 3 0 900 1000000 250 1";
        let stat = parse(text).unwrap();
        assert_eq!((stat.name.as_str(), stat.ticks, stat.threads), ("a b) (c)", 110, 3));
        assert_eq!((stat.started, stat.pages), (900, 250));
        assert_eq!(parse("7 (cut) S 1"), None);
    }
}
