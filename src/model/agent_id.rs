//! What an agent's id may be, wherever one comes in: a report, the whitelist, a code, a file.

use crate::base::limits::AGENT_ID_BYTES_MAX;

/// Whether `agent_id` can be one: 1 to [`AGENT_ID_BYTES_MAX`] bytes without control characters.
///
/// # Errors
///
/// What is wrong with it, in a sentence that begins with `agent_id`.
pub fn check_agent_id(agent_id: &str) -> Result<(), String> {
    match agent_id.len() {
        0 => Err("agent_id is empty".to_owned()),
        1..=AGENT_ID_BYTES_MAX if agent_id.chars().any(char::is_control) => {
            Err("agent_id must not hold control characters".to_owned())
        }
        1..=AGENT_ID_BYTES_MAX => Ok(()),
        bytes => Err(format!(
            "agent_id has {bytes} bytes, {AGENT_ID_BYTES_MAX} are the most that one may have"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_and_control_characters_are_checked() {
        for good in ["a", "büro-nas", "web 01", &"x".repeat(AGENT_ID_BYTES_MAX)] {
            assert_eq!(check_agent_id(good), Ok(()), "{good}");
        }
        let long = "x".repeat(AGENT_ID_BYTES_MAX + 1);
        for bad in ["", "a\nb", "a\0", "\u{1b}[2J", "a\u{85}", &long] {
            assert!(check_agent_id(bad).is_err(), "{bad:?}");
        }
    }
}
