//! Passwords as Argon2id (RFC 9106) with the parameters that the `argon2` crate recommends: 19 MiB
//! and two passes. Two checks run at once at the most, so that a flood of logins takes neither
//! all processors nor the memory. Users of the first oxmon come with bcrypt.

use std::time::Duration;

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use crossbeam_channel::{Receiver, Sender, bounded};

use crate::base::limits::{PASSWORD_BYTES_MAX, PASSWORD_BYTES_MIN};
use crate::server::api::reply::{ApiError, Code};

/// Checks at once.
const AT_ONCE: usize = 2;
/// How long one waits for its turn before the caller gets an error and retries later.
const WAIT: Duration = Duration::from_secs(5);

/// Hashes and checks passwords, a few at a time.
pub struct Hasher {
    turns: (Sender<()>, Receiver<()>),
    /// Checked when there is no such user, so that the answer takes as long as with one.
    nobody: String,
}

impl Hasher {
    /// A hasher with its turns free.
    ///
    /// # Errors
    ///
    /// When the system gives no randomness.
    pub fn new() -> Result<Self, ApiError> {
        let nobody = hash_now("nobody's password")?;
        Ok(Self { turns: bounded(AT_ONCE), nobody })
    }

    /// The PHC string of a password.
    ///
    /// # Errors
    ///
    /// 1006 when too many are being checked.
    pub fn hash(&self, password: &str) -> Result<String, ApiError> {
        self.in_turn(|| hash_now(password))?
    }

    /// Whether a password belongs to a PHC string; `None` stands for a user who does not exist,
    /// and takes as long.
    ///
    /// # Errors
    ///
    /// 1006 when too many are being checked.
    pub fn verify(&self, password: &str, hash: Option<&str>) -> Result<bool, ApiError> {
        self.in_turn(|| {
            let text = hash.unwrap_or(&self.nobody);
            fits(password, text) && hash.is_some()
        })
    }

    fn in_turn<T>(&self, body: impl FnOnce() -> T) -> Result<T, ApiError> {
        if self.turns.0.send_timeout((), WAIT).is_err() {
            let mut error = ApiError::new(Code::TooMany, "too many logins at once; try again");
            error.retry_after_secs = Some(2);
            return Err(error);
        }
        let value = body();
        // The turn that was taken above is given back, so there is always one to take.
        let _ = self.turns.1.try_recv();
        Ok(value)
    }
}

fn fits(password: &str, hash: &str) -> bool {
    if is_of_first_release(hash) {
        return bcrypt::verify(password, hash).unwrap_or(false);
    }
    PasswordHash::new(hash)
        .is_ok_and(|parsed| Argon2::default().verify_password(password.as_bytes(), &parsed).is_ok())
}

/// Whether a hash is one of bcrypt, which the first oxmon used. It is replaced at the next login.
pub fn is_of_first_release(hash: &str) -> bool {
    hash.starts_with("$2")
}

fn hash_now(password: &str) -> Result<String, ApiError> {
    let failed = |error| {
        log::error!("a password can't be hashed: {error}");
        ApiError::new(Code::Internal, "the password can't be hashed; see the server's log")
    };
    Argon2::default()
        .hash_password(password.as_bytes())
        .map(|hash| hash.to_string())
        .map_err(failed)
}

/// Whether a new password may be one.
///
/// # Errors
///
/// 1001 that says what it must be.
pub fn check_new(field: &str, password: &str) -> Result<(), ApiError> {
    if (PASSWORD_BYTES_MIN..=PASSWORD_BYTES_MAX).contains(&password.len()) {
        return Ok(());
    }
    Err(ApiError::bad(format!(
        "`{field}` must have {PASSWORD_BYTES_MIN} to {PASSWORD_BYTES_MAX} bytes"
    )))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_the_password_fits_its_hash() {
        let hasher = Hasher::new().unwrap();
        let hash = hasher.hash("correct horse").unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert_ne!(hash, hasher.hash("correct horse").unwrap(), "each has its own salt");
        assert!(hasher.verify("correct horse", Some(&hash)).unwrap());
        assert!(!hasher.verify("correct hors", Some(&hash)).unwrap());
        assert!(!hasher.verify("correct horse", None).unwrap());
        assert!(!hasher.verify("x", Some("no hash at all")).unwrap());
        let old = bcrypt::hash("correct horse", 4).unwrap();
        assert!(is_of_first_release(&old) && !is_of_first_release(&hash));
        assert!(hasher.verify("correct horse", Some(&old)).unwrap());
        assert!(!hasher.verify("correct hors", Some(&old)).unwrap());
        assert!(!hasher.verify("x", Some("$2b$12$cut")).unwrap());
    }

    #[test]
    fn new_passwords_have_a_least_and_a_greatest_length() {
        assert!(check_new("new_password", "short").is_err());
        assert!(check_new("new_password", "long enough").is_ok());
        assert!(check_new("new_password", &"x".repeat(PASSWORD_BYTES_MAX + 1)).is_err());
    }
}
