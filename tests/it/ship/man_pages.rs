//! Man pages and completions, held against what the programs say of themselves.

use std::collections::BTreeSet;
use std::process::Command;

use crate::support::tools::{must, root, there};
use crate::support::{agent, server};

fn programs() -> [(&'static str, &'static str); 2] {
    [("oxmon-agent", agent::program()), ("oxmon-server", server::program())]
}

/// Long options in a text: `--` and a name.
fn options(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in text.match_indices("--") {
        let begins =
            text[..at].chars().next_back().is_none_or(|c| !c.is_ascii_alphanumeric() && c != '-');
        let rest = &text[at + 2..];
        let end = rest.find(|c: char| !c.is_ascii_lowercase() && c != '-').unwrap_or(rest.len());
        let name = rest[..end].trim_end_matches('-');
        if begins && !name.is_empty() {
            found.insert(format!("--{name}"));
        }
    }
    found
}

/// Words that stand first on the command line, by the usage lines of `--help`.
fn commands(name: &str, help: &str) -> BTreeSet<String> {
    let usage = help
        .lines()
        .filter_map(|line| line.trim().trim_start_matches("Usage:").trim().strip_prefix(name));
    let first = usage.filter_map(|rest| rest.split_whitespace().next());
    first
        .filter(|word| word.starts_with(|c: char| c.is_ascii_lowercase()))
        .map(str::to_owned)
        .collect()
}

fn read(file: &str) -> String {
    std::fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

#[test]
fn every_option_and_command_stands_in_man_page_and_completions_and_no_other() {
    for (name, program) in programs() {
        let help = must(program, &["--help"]);
        let (options_there, commands_there) = (options(&help), commands(name, &help));
        assert!(options_there.contains("--check-config"), "{options_there:?}");
        assert!(!commands_there.is_empty(), "{help}");
        let man = read(&format!("packaging/man/{name}.1"));
        let bash = read(&format!("packaging/completions/{name}.bash"));
        let zsh = read(&format!("packaging/completions/_{name}"));
        let fish = read(&format!("packaging/completions/{name}.fish"));
        // fish has options as `-l name`.
        let fish = fish.replace(" -l ", " --");
        for (kind, text) in [("man page", &man), ("bash", &bash), ("zsh", &zsh), ("fish", &fish)] {
            assert_eq!(options(text), options_there, "{kind} of {name}");
            for command in &commands_there {
                assert!(text.contains(command.as_str()), "{kind} of {name} lacks {command}");
            }
        }
    }
}

#[test]
fn man_pages_are_well_formed() {
    if !there("man") {
        return;
    }
    for (name, _) in programs() {
        let page = root().join(format!("packaging/man/{name}.1"));
        let out = Command::new("man")
            .args(["--warnings", "--encoding=UTF-8", "--local-file"])
            .arg(page)
            .env("MANWIDTH", "100")
            .output()
            .unwrap();
        let (text, wrong) =
            (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        assert!(out.status.success() && wrong.is_empty(), "{name}: {wrong}");
        assert!(text.contains("EXIT STATUS"), "{text}");
    }
}

/// The lines that a shell's script prints.
fn completed(shell: &str, script: &str) -> BTreeSet<String> {
    must(shell, &["-c", script]).lines().map(|line| line.trim_end().to_owned()).collect()
}

#[test]
fn bash_completes_commands_and_options() {
    let complete = |name: &str, words: &str| {
        let file = format!("packaging/completions/{name}.bash");
        let function = format!("_{}", name.replace('-', "_"));
        completed(
            "bash",
            &format!(
                ". {file}; COMP_WORDS=({name} {words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); \
                 {function}; printf '%s\\n' \"${{COMPREPLY[@]}}\""
            ),
        )
    };
    assert!(complete("oxmon-agent", "enr").contains("enroll"));
    assert!(complete("oxmon-agent", "enroll --ca").contains("--ca-file"));
    assert!(complete("oxmon-server", "init").is_superset(&["init-rules".to_owned()].into()));
    assert!(complete("oxmon-server", "sql data x --format js").contains("json"));
    assert!(complete("oxmon-server", "config/server.ex").contains("config/server.example.toml"));
}

#[test]
fn fish_completes_and_zsh_parses() {
    if there("fish") {
        let script =
            "source packaging/completions/oxmon-agent.fish; complete -C'oxmon-agent enroll --co'";
        let said = must("fish", &["--no-config", "-c", script]);
        assert!(said.contains("--code") && said.contains("--config"), "{said}");
        let script = "source packaging/completions/oxmon-server.fish; complete -C'oxmon-server ba'";
        assert!(must("fish", &["--no-config", "-c", script]).contains("backup"));
    }
    if there("zsh") {
        for (name, _) in programs() {
            must("zsh", &["-n", &format!("packaging/completions/_{name}")]);
        }
        // A real completion, in a terminal of zsh's own.
        for (line, word) in [
            ("oxmon-server rest", "oxmon-server restore"),
            ("oxmon-server sql config/server.ex", "server.example.toml"),
            ("oxmon-agent enr", "oxmon-agent enroll"),
        ] {
            let script = format!(
                "zmodload zsh/zpty; zpty z zsh -f -i
                 zpty -w z \"fpath=($PWD/packaging/completions \\$fpath); \
                    autoload -Uz compinit; compinit -u -D; print rea''dy\"
                 zpty -r z out '*ready*'; zpty -n -w z $'{line}\\t'; zpty -r z out '*{word}*'
                 print -r -- \"$out\"; zpty -d z"
            );
            let said = must("timeout", &["60", "zsh", "-f", "-c", &script]);
            assert!(said.contains(word) && !said.contains("bad option"), "{line}: {said}");
        }
    }
}
