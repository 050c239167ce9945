//! The tables of all languages have the same entries, none of them empty.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use super::*;

/// The names in braces.
fn names(template: &str) -> BTreeSet<&str> {
    template.split('{').skip(1).map(|part| part.split('}').next().unwrap()).collect()
}

fn keys(pairs: Pairs) -> BTreeSet<&'static str> {
    pairs.iter().map(|(key, _)| *key).collect()
}

#[test]
fn no_string_is_missing_in_any_language() {
    let english = Language::En.words();
    for name in NAMES {
        let words = Language::from_name(name).unwrap().words();
        for ((key, text), (_, wanted)) in words.all().iter().zip(english.all()) {
            assert!(!text.trim().is_empty(), "{name} {key}");
            assert_eq!(names(text), names(wanted), "{name} {key}");
        }
        for (table, wanted) in [
            (words.metrics, english.metrics),
            (words.units, english.units),
            (words.reasons, english.reasons),
            (words.faults, english.faults),
        ] {
            assert_eq!(keys(table), keys(wanted), "{name}");
            assert!(table.iter().all(|(_, text)| !text.trim().is_empty()), "{name}");
        }
    }
    let chinese = Language::ZhCn.words();
    for ((key, text), (_, english)) in chinese.all().iter().zip(english.all()) {
        let same = ["with_unit"].contains(key);
        assert!(same || *text != english, "{key} is not translated");
    }
}

#[test]
fn every_metric_name_of_the_tables_is_one_and_every_unit_is_known() {
    let words = Language::En.words();
    for (metric, _) in words.metrics {
        assert!(crate::agent::collectors::metric(metric).is_some(), "{metric}");
    }
    let plain =
        ["%", "bytes", "bytes/s", "s", "ms", "0 or 1", "°C", "MHz", "rpm", "dBm", "Mbit/s", ""];
    for spec in crate::agent::collectors::SPECS {
        for metric in spec.metrics {
            let known = plain.contains(&metric.unit) || find(words.units, metric.unit).is_some();
            assert!(known, "{} {}", metric.name, metric.unit);
        }
    }
}

#[test]
fn a_value_with_braces_is_no_template() {
    assert_eq!(fill("{a} {b}{c}", &[("a", "{b}"), ("b", "2")]), "{b} 2");
    assert_eq!(fill("100 {", &[]), "100 ");
}
