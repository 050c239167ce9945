#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;

#[test]
fn every_route_is_in_the_document_and_nothing_else() {
    let document = document();
    let paths = document["paths"].as_object().unwrap();
    let mut wanted = BTreeSet::new();
    for route in routes() {
        let method = route.method.name().to_lowercase();
        assert!(paths[route.path][&method].is_object(), "{method} {} is missing", route.path);
        assert!(wanted.insert((route.path, method)), "{} stands there twice", route.path);
        assert!(!route.summary.is_empty(), "{} has no summary", route.path);
    }
    let listed: usize = paths.values().map(|item| item.as_object().unwrap().len()).sum();
    assert_eq!(listed, wanted.len());
}
