#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;

#[test]
fn spelt_out_paths_go_before_parts_that_vary() {
    assert_eq!(matches("/v1/agents/{id}/latest", &["", "v1", "agents", "a", "latest"]), Some(4));
    assert_eq!(matches("/v1/agents/{id}", &["", "v1", "agents", ""]), None);
    assert_eq!(matches("/v1/agents", &["", "v1", "agents", "x"]), None);
}
