//! What a release consists of: packages, units, scripts, man pages.

// The packages under a booted systemd.
mod booted;
// Both images: built and run by a real engine.
mod containers;
// The examples of the first oxmon's README.
mod first_release;
// Names of a release's files: workflow, package script and install script.
mod artefacts;
// Threads, memory and system calls of both daemons, against the budget.
mod footprint;
// `scripts/install.sh`, with systemd and PM2.
mod install;
// Scripts, container files and workflows under their linters.
mod lint;
// `scripts/newcomer.sh`: from an empty folder to the first alert and its recovery.
mod newcomer;
// `make run` in a checkout without data.
mod make_run;
// Man pages and completions, against `--help`.
mod man_pages;
// .deb and .rpm: built, installed, upgraded, purged.
mod packaging;
// What scripts of repositories refuse.
mod repos;
// The RPM packages, by dnf and under a booted systemd.
mod rpm;
// `scripts/release.sh` in a scratch clone.
mod release;
// The systemd units: syntax, rating, and both daemons within them.
mod units;
// The signature over a release's checksums.
mod signature;
// What the release workflow may do, and its steps.
mod workflow;
