//! The languages of mails and chat messages: one table each, with the same entries.

pub(crate) mod en;
pub(crate) mod fault;
pub(crate) mod zh_cn;

/// A language of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Language {
    /// English.
    #[default]
    En,
    /// Simplified Chinese.
    ZhCn,
}

/// The names that `language` takes.
pub(crate) const NAMES: &[&str] = &crate::server::config::LANGUAGES;

impl Language {
    /// The language with this name.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        match name {
            "en" => Some(Self::En),
            "zh-CN" => Some(Self::ZhCn),
            _ => None,
        }
    }

    /// Its table.
    pub(crate) fn words(self) -> &'static Words {
        match self {
            Self::En => &en::WORDS,
            Self::ZhCn => &zh_cn::WORDS,
        }
    }
}

/// Pairs of a key and what it is in a language.
pub(crate) type Pairs = &'static [(&'static str, &'static str)];

macro_rules! words {
    ($($(#[$meta:meta])* $name:ident,)*) => {
        /// Every string of one language. `{name}` stands for a value.
        #[derive(Debug)]
        pub(crate) struct Words {
            $($(#[$meta])* pub $name: &'static str,)*
            /// What parts a name that begins or ends with a Latin letter from the words around it,
            /// where the language itself has no spaces.
            pub gap: &'static str,
            /// What metrics are called that people know; others keep their own name.
            pub metrics: Pairs,
            /// Units of counts, as `docs/metrics.md` has them.
            pub units: Pairs,
            /// Why an alert ended without a recovery.
            pub reasons: Pairs,
            /// What certificate checks find wrong, by the sentence that they store.
            pub faults: Pairs,
        }

        #[cfg(test)]
        impl Words {
            /// Every string with its name.
            fn all(&self) -> Vec<(&'static str, &'static str)> {
                vec![$((stringify!($name), self.$name),)*]
            }
        }
    };
}

words! {
    // Titles.
    critical,
    warning,
    info,
    resolved,
    test,
    title,
    many,
    and_more,
    list,
    more,
    // What an alert is about.
    subject,
    subject_labels,
    subject_domain,
    // Threshold.
    over,
    at_least,
    under,
    at_most,
    breach,
    breach_for,
    back,
    // Change.
    rose,
    fell,
    changes_less,
    // Trend.
    reached,
    will_reach,
    no_longer_on_its_way,
    // Certificates.
    expires,
    expired,
    renewed,
    invalid,
    at_address,
    and_then,
    valid_again,
    // Absence.
    not_reporting,
    metric_not_reported,
    reports_again,
    metric_reported_again,
    clock_ahead,
    clock_behind,
    // PromQL.
    matches,
    matches_for,
    no_longer_matches,
    own_message,
    // Ends.
    ended,
    resolved_by,
    // The process that uses the most.
    most_cpu,
    most_memory,
    most_io,
    // Messages of older versions.
    plain,
    plain_ended,
    // Tests.
    trial,
    // Links and tables.
    open_alert,
    open_alerts,
    host,
    message,
    since,
    // Times and counts.
    day,
    days,
    span_days,
    span_hours,
    span_minutes,
    span_seconds,
    with_unit,
}

/// A template with its values in place of their names in braces.
pub(crate) fn fill(template: &str, values: &[(&str, &str)]) -> String {
    let mut out = String::with_capacity(template.len() + 64);
    let mut rest = template;
    // Read once from left to right: a brace in a value does not belong to the template.
    while let Some((before, after)) = rest.split_once('{') {
        out.push_str(before);
        let Some((name, behind)) = after.split_once('}') else {
            rest = after;
            break;
        };
        let value = values.iter().find(|(known, _)| *known == name);
        out.push_str(value.map_or("", |(_, value)| value));
        rest = behind;
    }
    out.push_str(rest);
    out
}

/// What a key is in a language.
pub(crate) fn find(pairs: Pairs, key: &str) -> Option<&'static str> {
    pairs.iter().find(|(known, _)| *known == key).map(|(_, value)| *value)
}

#[cfg(test)]
mod tests;
