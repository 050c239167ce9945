//! Crashes, damage, full disks, outages, power cuts: nothing acknowledged is lost.

// The server killed under load.
mod crash;
// Day files cut short, overwritten, removed.
mod damage;
// A full disk under a running server, and a start on one.
mod diskfull;
// SIGKILL between a point and its notification, at seeded random moments.
mod kills;
// The server away while agents report: buffers, order, duplicates.
mod outage;
// Power taken from the server's disk, replayed from a trace of its writes.
mod power;
// What each recipient has received after each step of an alert's life.
mod sequences;
