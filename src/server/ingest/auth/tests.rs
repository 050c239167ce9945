#![allow(clippy::unwrap_used)]
use super::*;
use crate::base::clock::ManualClock;
use crate::base::limits::AGENT_ID_BYTES_MAX;

const NOW_MS: i64 = 1_770_625_800_000;

fn open() -> (tempfile::TempDir, Arc<ManualClock>, Whitelist) {
    let dir = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(NOW_MS);
    let control = Control::open(dir.path()).unwrap();
    let list = Whitelist::open(control, clock.clone()).unwrap();
    (dir, clock, list)
}

#[test]
fn a_token_works_until_it_is_replaced_or_its_agent_goes() {
    let (dir, _clock, list) = open();
    let (row, token) = list.create("web-01", Some("front")).unwrap();
    assert!(list.allows("web-01", &token) && !list.allows("web-02", &token));
    assert!(!list.allows("web-01", ""));
    assert!(matches!(list.create("web-01", None), Err(WhitelistError::Exists(_))));
    let (agent, new) = list.regenerate("web-01").unwrap();
    assert_eq!(agent, "web-01");
    assert!(!list.allows("web-01", &token) && list.allows("web-01", &new));
    let again = Whitelist::open(list.control.clone(), ManualClock::at(0)).unwrap();
    assert!(again.allows("web-01", &new), "the list outlives the process");
    list.delete(&row.id).unwrap();
    assert!(!list.allows("web-01", &new));
    assert!(matches!(list.get("web-01"), Err(WhitelistError::NotFound(_))));
    let bytes = std::fs::read(dir.path().join("cert.db-wal")).unwrap();
    let text = String::from_utf8_lossy(&bytes);
    assert!(!text.contains(&token) && !text.contains(&new), "a token is on the disk");
}

#[test]
fn lists_are_newest_first_and_take_either_id() {
    let (_dir, clock, list) = open();
    for name in ["a", "b", "c"] {
        list.create(name, None).unwrap();
        clock.advance(1_000);
    }
    let page = list.list(Page { limit: 2, offset: 0 }).unwrap();
    let names: Vec<&str> = page.items.iter().map(|row| row.agent_id.as_str()).collect();
    assert_eq!((names, page.total), (vec!["c", "b"], 3));
    let row = list.set_description("a", Some("first")).unwrap();
    assert_eq!(list.get(&row.id).unwrap().description.as_deref(), Some("first"));
    assert_eq!(row.updated_ms, NOW_MS + 3_000);
    assert!(list.create("", None).is_err() && list.create("a\n", None).is_err());
    assert!(list.create(&"a".repeat(AGENT_ID_BYTES_MAX + 1), None).is_err());
}

#[test]
fn a_code_works_once_in_time_and_for_its_agent() {
    let (_dir, clock, list) = open();
    let (code, expires_ms) = list.create_code(Some("web-01"), "admin").unwrap();
    assert_eq!(expires_ms, NOW_MS + CODE_LIFE_MS);
    assert!(matches!(list.redeem(&code, "web-02", None), Err(WhitelistError::BadCode)));
    let token = list.redeem(&code, "web-01", None).unwrap();
    assert!(list.allows("web-01", &token));
    assert!(matches!(list.redeem(&code, "web-01", None), Err(WhitelistError::BadCode)));
    let (open_code, _) = list.create_code(None, "admin").unwrap();
    let taken = list.redeem(&open_code, "web-01", None);
    assert!(matches!(taken, Err(WhitelistError::Bound(_))), "it takes over nobody");
    assert!(list.allows("web-01", &token));
    // The id of a row counts for nothing: an agent of that name is a new one.
    let row = list.get("web-01").unwrap();
    let new = list.redeem(&open_code, &row.id, None).unwrap();
    assert!(list.allows(&row.id, &new) && list.allows("web-01", &token));
    let (bound, _) = list.create_code(Some("web-01"), "admin").unwrap();
    let new = list.redeem(&bound, "web-01", None).unwrap();
    assert!(list.allows("web-01", &new) && !list.allows("web-01", &token));
    let (late, _) = list.create_code(None, "admin").unwrap();
    clock.advance(CODE_LIFE_MS);
    assert!(matches!(list.redeem(&late, "web-03", None), Err(WhitelistError::BadCode)));
    assert!(matches!(list.redeem("guess", "web-03", None), Err(WhitelistError::BadCode)));
}
