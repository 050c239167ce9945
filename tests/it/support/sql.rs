//! `oxmon-server sql` and plain `sqlite3`, as users call them.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};

use super::server::program;

/// Runs `oxmon-server sql` with these arguments.
pub fn run(data: &Path, arguments: &[&str]) -> Output {
    Command::new(program()).arg("sql").arg(data).args(arguments).output().expect("the program runs")
}

/// What a query prints as CSV, with `\n` for the ends of lines.
pub fn csv(data: &Path, query: &str) -> String {
    let out = run(data, &[query, "--format", "csv"]);
    let wrong = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{query}: {wrong}");
    String::from_utf8(out.stdout).expect("UTF-8").replace("\r\n", "\n")
}

/// What plain `sqlite3` prints for a query on a file that it may not change.
pub fn sqlite3(file: &Path, query: &str) -> String {
    let out = Command::new("sqlite3").arg("-readonly").arg(file).arg(query).output();
    let out = out.expect("sqlite3 runs");
    let wrong = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success() && wrong.is_empty(), "{query}: {wrong}");
    String::from_utf8_lossy(&out.stdout).trim().to_owned()
}

/// Day files in a folder, without those that were set aside, oldest first.
pub fn days(data: &Path) -> Vec<std::path::PathBuf> {
    let mut days: Vec<_> = std::fs::read_dir(data)
        .expect("the data folder")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.len() == "YYYY-MM-DD.db".len() && name.ends_with(".db")
        })
        .collect();
    days.sort();
    days
}

/// Chunks in each day file.
pub fn chunks(data: &Path) -> BTreeMap<String, u64> {
    let count = |path: std::path::PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let count = sqlite3(&path, "SELECT count(*) FROM metric_chunks");
        (name, count.parse().expect("a number"))
    };
    days(data).into_iter().map(count).collect()
}
