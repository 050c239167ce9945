//! What a user may be called. A name must be readable in a log and in a list, and must not look
//! like another user's.

use crate::base::limits::USERNAME_BYTES_MAX;
use crate::server::api::reply::ApiError;

/// Whether a new user may be called `name`.
///
/// # Errors
///
/// 1001 that says what a name must be.
pub(crate) fn check_name(name: &str) -> Result<(), ApiError> {
    let fits = (1..=USERNAME_BYTES_MAX).contains(&name.len())
        && name.trim() == name
        && !name.contains("  ")
        && name.chars().all(is_plain);
    if fits {
        return Ok(());
    }
    Err(ApiError::bad(format!(
        "`username` must have 1 to {USERNAME_BYTES_MAX} bytes of letters, digits, single blanks and \
         . _ - + @, without blanks around it"
    )))
}

/// Letters and digits of any script, but none of the forms that Unicode keeps for compatibility
/// (full width, circled, mathematical), which look like plain letters.
fn is_plain(letter: char) -> bool {
    let compatible = matches!(u32::from(letter),
        0x2100..=0x214f | 0x2460..=0x24ff | 0x3200..=0x33ff | 0xf900..=0xfaff | 0xfb00..=0xfdff
        | 0xfe00..=0xfeff | 0xff00..=0xffef | 0x1d400..=0x1d7ff | 0x1f100..=0x1f1ff);
    " ._-+@".contains(letter) || (letter.is_alphanumeric() && !compatible)
}

/// What two names that look alike have in common: lower case, with letters of other scripts and
/// digits replaced by the Latin letters that they look like.
pub(crate) fn skeleton(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for letter in name.chars().flat_map(char::to_lowercase) {
        text.push(match letter {
            'а' | 'α' | 'ɑ' => 'a',
            'Ь' | 'ь' | 'β' => 'b',
            'с' | 'ϲ' => 'c',
            'ԁ' | 'ɗ' => 'd',
            'е' | 'ё' | 'є' | 'ε' => 'e',
            'ɡ' => 'g',
            'һ' => 'h',
            // One stroke, whatever it is called.
            'l' | '1' | 'і' | 'ї' | 'ι' | 'ı' | 'ӏ' | '|' => 'i',
            'ј' => 'j',
            'к' | 'κ' => 'k',
            'м' | 'μ' => 'm',
            'п' | 'ո' | 'η' => 'n',
            'о' | 'ο' | 'σ' | 'օ' | '0' => 'o',
            'р' | 'ρ' => 'p',
            'ѕ' => 's',
            'т' | 'τ' => 't',
            'υ' | 'ս' => 'u',
            'ν' | 'ѵ' => 'v',
            'ԝ' | 'ω' => 'w',
            'х' | 'χ' => 'x',
            'у' | 'γ' => 'y',
            // Combining marks are hard to see.
            '\u{300}'..='\u{36f}' => continue,
            other => other,
        });
    }
    text.replace("rn", "m")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_readable() {
        for good in ["eve", "Zoë", "ann.b-c_d+e@example.com", "王伟", "Дмитрий", "a b"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            " ",
            " bob",
            "a\tb",
            "a  b",
            "ａdmin",
            "a\u{200b}b",
            "a\u{202e}b",
            "𝐚dmin",
            "a/b",
            "ⓐ",
        ] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
        assert!(check_name(&"x".repeat(USERNAME_BYTES_MAX + 1)).is_err());
    }

    #[test]
    fn names_that_look_alike_have_one_skeleton() {
        for alike in [
            "admin",
            "Admin",
            "ADMIN",
            "аdmin",
            "аԁmіn",
            "adm1n",
            "admln",
            "adrnin",
            "admi\u{307}n",
        ] {
            assert_eq!(skeleton(alike), skeleton("admin"), "{alike}");
        }
        for other in ["admins", "adam", "root", "адмін-2"] {
            assert_ne!(skeleton(other), skeleton("admin"), "{other}");
        }
    }
}
