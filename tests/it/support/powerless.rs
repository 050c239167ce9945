//! A disk whose power goes. strace records what a daemon does to the files of a folder; from that
//! follows what may be on the disk at any instant: what was flushed is there, and of what was only
//! written each piece is there, or not, or in part.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::wait_for;

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;
/// Every call that changes a folder's files or flushes them. One on a file of the folder that
/// nothing here knows what to make of fails the test.
const CALLS: &str = "openat,pwrite64,ftruncate,fsync,fdatasync,unlink,unlinkat,rename,mkdir,\
                     open,creat,write,writev,pwritev,pwritev2,truncate,fallocate,link,linkat,\
                     symlink,symlinkat,renameat,renameat2,mkdirat,rmdir,copy_file_range,sendfile";

/// The words before a program that have its calls recorded in files that begin with `prefix`.
pub fn recorder(prefix: &Path) -> Vec<String> {
    let words = ["strace", "-D", "-ff", "-q", "-ttt", "-T", "-y", "-xx", "-s", "1000000", "-e"];
    let mut words: Vec<String> = words.map(str::to_owned).into();
    words.extend([format!("trace={CALLS}"), "-o".to_owned(), prefix.display().to_string()]);
    words
}

/// When a call began and ended, in seconds since 1970; one that never ended has no end.
#[derive(Clone, Copy)]
struct Span {
    begin: f64,
    end: f64,
}

enum Change {
    Write { at: usize, bytes: Vec<u8> },
    Size(usize),
}

#[derive(Default)]
struct File {
    changes: Vec<(Span, Change)>,
    flushes: Vec<Span>,
}

enum Naming {
    Made(String, usize),
    Gone(String),
    Renamed(String, String),
}

/// What was done to the files of one folder, which was empty at the beginning.
pub struct Record {
    files: Vec<File>,
    namings: Vec<(Span, Naming)>,
    /// Flushes of the folder itself, which keep the names.
    flushes: Vec<Span>,
    /// When each change, flush and naming began, in order.
    pub begins: Vec<f64>,
}

struct Call {
    span: Span,
    name: String,
    arguments: String,
    result: String,
}

impl Call {
    /// Reads `TIME NAME(ARGUMENTS) = RESULT <DURATION>`; `None` for lines about signals and ends.
    fn read(line: &str) -> Option<Self> {
        let (begin, rest) = line.split_once(' ')?;
        let begin: f64 = begin.parse().ok()?;
        let (name, rest) = rest.split_once('(')?;
        let (arguments, rest) = rest.rsplit_once(") = ").unwrap_or((rest, "? <"));
        let (result, duration) = rest.rsplit_once(" <").unwrap_or((rest, ""));
        let lasted: Option<f64> = duration.trim_end_matches('>').parse().ok();
        let end = lasted.map_or(f64::INFINITY, |lasted| begin + lasted);
        let (name, arguments) = (name.to_owned(), arguments.to_owned());
        let result = result.to_owned();
        (!name.starts_with(['+', '-'])).then_some(Self {
            span: Span { begin, end },
            name,
            arguments,
            result,
        })
    }

    /// The quoted texts among the arguments.
    fn texts(&self) -> Vec<Vec<u8>> {
        self.arguments.split('"').skip(1).step_by(2).map(bytes_of).collect()
    }

    /// The path of the descriptor that is the first argument.
    fn path(&self) -> Option<String> {
        let (_, rest) = self.arguments.split_once('<')?;
        let (path, rest) = rest.split_once('>')?;
        (!rest.starts_with("(deleted)")).then(|| String::from_utf8_lossy(&bytes_of(path)).into())
    }

    fn last_number(&self) -> usize {
        let last = self.arguments.rsplit(", ").next().expect("an argument");
        last.parse().unwrap_or_else(|_| panic!("{}({}): no number", self.name, self.arguments))
    }
}

/// `\x68\x69` as bytes.
fn bytes_of(text: &str) -> Vec<u8> {
    let hex = |code: &str| u8::from_str_radix(code, 16).expect("strace's hexadecimal");
    text.split("\\x").skip(1).map(hex).collect()
}

impl Record {
    /// Reads what was recorded under `prefix` about the files of `folder`, once the program has
    /// ended.
    pub fn read(prefix: &Path, folder: &Path) -> Self {
        let texts = wait_for("the end of the record", Duration::from_secs(30), || {
            let texts: Vec<String> = traces(prefix)
                .iter()
                .map(|path| std::fs::read_to_string(path).expect("a trace is text"))
                .collect();
            let is_over = |text: &String| text.lines().last().is_some_and(|it| it.contains("+++"));
            (!texts.is_empty() && texts.iter().all(is_over)).then_some(texts)
        });
        let mut calls: Vec<Call> =
            texts.iter().flat_map(|text| text.lines()).filter_map(Call::read).collect();
        calls.retain(|call| !call.result.starts_with('-'));
        calls.sort_by(|one, other| one.span.begin.total_cmp(&other.span.begin));
        let mut record = Self {
            files: Vec::new(),
            namings: Vec::new(),
            flushes: Vec::new(),
            begins: Vec::new(),
        };
        let mut names = BTreeMap::new();
        for call in &calls {
            record.take(call, folder, &mut names);
        }
        record
    }

    fn take(&mut self, call: &Call, folder: &Path, names: &mut BTreeMap<String, usize>) {
        let inside = |path: &[u8]| {
            let path = PathBuf::from(String::from_utf8_lossy(path).into_owned());
            let name = path.strip_prefix(folder).ok()?.to_str()?.to_owned();
            // The lock and the reserve hold nothing.
            (!name.starts_with('.')).then_some(name)
        };
        let on = call.path().and_then(|path| inside(path.as_bytes()));
        let texts = call.texts();
        let named: Vec<String> = texts.iter().filter_map(|text| inside(text)).collect();
        let known = on.as_ref().and_then(|name| names.get(name).copied());
        let span = call.span;
        match (call.name.as_str(), named.as_slice(), known) {
            ("openat" | "open", [name], _) if !name.is_empty() => {
                assert!(!call.arguments.contains("O_TRUNC"), "{name} is emptied");
                if call.arguments.contains("O_CREAT") && !names.contains_key(name) {
                    names.insert(name.clone(), self.files.len());
                    self.namings.push((span, Naming::Made(name.clone(), self.files.len())));
                    self.files.push(File::default());
                }
            }
            ("unlink" | "unlinkat", [name], _) => {
                names.remove(name);
                self.namings.push((span, Naming::Gone(name.clone())));
            }
            ("rename", [from, to], _) => {
                let file = names.remove(from).expect("a file that is renamed is known");
                names.insert(to.clone(), file);
                self.namings.push((span, Naming::Renamed(from.clone(), to.clone())));
            }
            ("pwrite64", _, Some(file)) => {
                let (at, bytes) = (call.last_number(), texts[0].clone());
                self.files[file].changes.push((span, Change::Write { at, bytes }));
            }
            ("ftruncate", _, Some(file)) => {
                self.files[file].changes.push((span, Change::Size(call.last_number())));
            }
            ("fsync" | "fdatasync", _, Some(file)) => self.files[file].flushes.push(span),
            ("fsync", _, None) if on.as_deref() == Some("") => self.flushes.push(span),
            ("openat" | "open" | "mkdir", ..) => return,
            _ if on.is_none() && named.is_empty() => return,
            (name, ..) => panic!("nobody knows what {name}({:.300}) does", call.arguments),
        }
        self.begins.push(span.begin);
    }

    /// Whether a file whose name ends so was written and flushed after this time.
    pub fn was_flushed(&self, end: &str, after: f64) -> bool {
        self.namings.iter().any(|(_, naming)| match naming {
            Naming::Made(name, file) if name.ends_with(end) => {
                let file = &self.files[*file];
                let is_flushed = |span: &Span| file.flushes.iter().any(|it| it.begin >= span.end);
                file.changes.iter().any(|(span, _)| span.begin > after && is_flushed(span))
            }
            _ => false,
        })
    }

    /// Makes `target` what the folder may be when the power goes at `cut`. With `None` in place of
    /// a source of chances nothing is there that was not flushed. A flush after `honest_until` is
    /// one that the disk only claims.
    pub fn leave(
        &self,
        target: &Path,
        cut: f64,
        honest_until: f64,
        random: &mut Option<fastrand::Rng>,
    ) {
        let until = cut.min(honest_until);
        let mut names: BTreeMap<&str, usize> = BTreeMap::new();
        let kept = flushed(&self.flushes, until);
        for (span, naming) in &self.namings {
            // Names are kept in the order in which they were given.
            let is_kept = span.end <= kept || (span.begin < cut && chance(random, 0..2) == 1);
            if !is_kept {
                break;
            }
            match naming {
                Naming::Made(name, file) => drop(names.insert(name, *file)),
                Naming::Gone(name) => drop(names.remove(name.as_str())),
                Naming::Renamed(from, to) => {
                    if let Some(file) = names.remove(from.as_str()) {
                        names.insert(to, file);
                    }
                }
            }
        }
        for (name, file) in names {
            let mut content = self.files[file].left(cut, until, random);
            if let (Some(random), true) = (random.as_mut(), name.ends_with("-shm")) {
                // It is shared memory, which the system writes when it likes.
                random.fill(&mut content);
            }
            std::fs::write(target.join(name), content).expect("the file is written");
        }
    }
}

impl File {
    fn left(&self, cut: f64, until: f64, random: &mut Option<fastrand::Rng>) -> Vec<u8> {
        let kept = flushed(&self.flushes, until);
        let mut content = Vec::new();
        for (span, change) in self.changes.iter().filter(|(span, _)| span.begin < cut) {
            let fate = if span.end <= kept { 1 } else { chance(random, 0..3) };
            match change {
                _ if fate == 0 => {}
                Change::Size(size) => content.resize(*size, 0),
                Change::Write { at, bytes } => {
                    content.resize(content.len().max(at + bytes.len()), 0);
                    let mut from = 0;
                    while from < bytes.len() {
                        let to = bytes.len().min((at + from) / SECTOR * SECTOR + SECTOR - at);
                        if fate == 1 || chance(random, 0..2) == 1 {
                            content[at + from..at + to].copy_from_slice(&bytes[from..to]);
                        }
                        from = to;
                    }
                }
            }
        }
        content
    }
}

/// The begin of the last flush that had ended: what ended before that is on the disk.
fn flushed(flushes: &[Span], until: f64) -> f64 {
    let over = flushes.iter().filter(|flush| flush.end <= until);
    over.map(|flush| flush.begin).fold(f64::NEG_INFINITY, f64::max)
}

fn chance(random: &mut Option<fastrand::Rng>, range: std::ops::Range<u8>) -> u8 {
    random.as_mut().map_or(0, |random| random.u8(range))
}

fn traces(prefix: &Path) -> Vec<PathBuf> {
    let folder = prefix.parent().expect("a folder");
    let name = prefix.file_name().and_then(|name| name.to_str()).expect("a name");
    let entries = std::fs::read_dir(folder).expect("the folder of the traces").flatten();
    let is_one = |path: &PathBuf| {
        path.file_name().and_then(|it| it.to_str()).is_some_and(|it| it.starts_with(name))
    };
    entries.map(|entry| entry.path()).filter(is_one).collect()
}
