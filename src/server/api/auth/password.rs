//! Passwords as Argon2id (RFC 9106) with the parameters that the `argon2` crate recommends: 19 MiB
//! and two passes. Two threads of their own hash, and no more callers wait for them than leave
//! HTTP workers for everything else, so that a flood of logins takes neither all processors nor
//! the memory nor the API. Users of the first oxmon come with bcrypt.

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use crossbeam_channel::{Receiver, Sender, bounded};

use crate::base::limits::{PASSWORD_BYTES_MAX, PASSWORD_BYTES_MIN};
use crate::rt::pool::Pool;
use crate::server::api::reply::{ApiError, Code};

/// The default of `auth.default_password`.
const DEFAULT: &str = "changeme";
/// Passwords that are hashed at once.
const AT_ONCE: usize = 2;

type Job = Box<dyn FnOnce() + Send>;

/// Hashes and checks passwords, a few at a time.
pub(crate) struct Hasher {
    pool: Pool<Job>,
    /// Holds one item a caller that is inside.
    places: (Sender<()>, Receiver<()>),
    /// Checked when there is no such user, so that the answer takes as long as with one.
    nobody: String,
}

impl Hasher {
    /// A hasher for an API with this many workers, of which logins may hold half.
    ///
    /// # Errors
    ///
    /// When the system gives no randomness.
    pub(crate) fn new(http_workers: usize) -> Result<Self, ApiError> {
        let nobody = hash_now("nobody's password")?;
        let places = (http_workers / 2).max(1);
        let pool = Pool::shared("password", AT_ONCE, places, |_| {
            |jobs: Receiver<Job>| {
                jobs.into_iter().for_each(|job| job());
                Ok(())
            }
        });
        Ok(Self { pool, places: bounded(places), nobody })
    }

    /// The PHC string of a password.
    ///
    /// # Errors
    ///
    /// 1006 when too many are being checked.
    pub(crate) fn hash(&self, password: &str) -> Result<String, ApiError> {
        let password = password.to_owned();
        self.run(move || hash_now(&password))?
    }

    /// Whether a password belongs to a PHC string; `None` stands for a user who does not exist,
    /// and takes as long.
    ///
    /// # Errors
    ///
    /// 1006 when too many are being checked.
    pub(crate) fn verify(&self, password: &str, hash: Option<&str>) -> Result<bool, ApiError> {
        let password = password.to_owned();
        let (text, exists) = (hash.unwrap_or(&self.nobody).to_owned(), hash.is_some());
        self.run(move || fits(&password, &text) && exists)
    }

    /// Runs `body` on a thread of the pool and waits for what it gives.
    fn run<T: Send + 'static>(
        &self,
        body: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        let busy = || ApiError {
            retry_after_secs: Some(2),
            ..ApiError::new(Code::TooMany, "too many logins at once; retry in 2 s")
        };
        if self.places.0.try_send(()).is_err() {
            return Err(busy());
        }
        let (reply, answer) = bounded(1);
        // The queue has a place for each caller that is inside.
        self.pool.put(
            0,
            Box::new(move || {
                let _ = reply.send(body());
            }),
        );
        let value = answer.recv();
        // The place that was taken above is given back, so there is always one to take.
        let _ = self.places.1.try_recv();
        value.map_err(|_| busy())
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
pub(crate) fn is_of_first_release(hash: &str) -> bool {
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

/// Whether a new password of `username` may be one. `known` is the password that came with the
/// configuration, which everybody can look up.
///
/// # Errors
///
/// 1001 that says what it must be.
pub(crate) fn check_new(
    field: &str,
    password: &str,
    username: &str,
    known: &str,
) -> Result<(), ApiError> {
    if !(PASSWORD_BYTES_MIN..=PASSWORD_BYTES_MAX).contains(&password.len()) {
        return Err(ApiError::bad(format!(
            "`{field}` must have {PASSWORD_BYTES_MIN} to {PASSWORD_BYTES_MAX} bytes"
        )));
    }
    if password == known || password == DEFAULT {
        return Err(ApiError::bad(format!("`{field}` must not be the default password")));
    }
    if password.eq_ignore_ascii_case(username) {
        return Err(ApiError::bad(format!("`{field}` must not be the user name")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_the_password_fits_its_hash() {
        let hasher = Hasher::new(4).unwrap();
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
        let check = |password: &str| check_new("new_password", password, "margarete", "as shipped");
        assert!(check("long enough").is_ok());
        for bad in ["short", "as shipped", "changeme", "Margarete", &"x".repeat(257)] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
