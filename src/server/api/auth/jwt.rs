//! Login tokens: JWTs signed with HMAC-SHA-256 and nothing else. The cryptography that the
//! `jsonwebtoken` crate leaves open is filled in with the `hmac` and `sha2` crates, so that no
//! RSA or elliptic-curve code is linked for tokens that never use it.

use hmac::{Hmac, KeyInit as _, Mac as _};
use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{ErrorKind, Result as JwtResult};
use jsonwebtoken::signature::{Error as SignatureError, Signer, Verifier};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claims {
    /// The user's id.
    pub sub: String,
    /// The user's `token_epoch` when it was made.
    pub epoch: i64,
    /// Unix seconds when it was made.
    pub iat: i64,
    /// Unix seconds when it expires.
    pub exp: i64,
    /// Its own id, by which a sign-out ends it; empty in those of earlier releases.
    #[serde(default)]
    pub jti: String,
}

/// Why a token was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It was valid and has expired.
    Expired,
    /// This server did not issue it.
    Wrong,
}

/// Makes and checks tokens with one key.
pub(crate) struct Keys {
    encoding: EncodingKey,
    decoding: DecodingKey,
    validation: Validation,
}

impl Keys {
    /// Keys from a secret of 32 bytes or more.
    pub(crate) fn new(secret: &[u8]) -> Self {
        // A second call finds the same provider in place.
        let _ = PROVIDER.install_default();
        let mut validation = Validation::new(Algorithm::HS256);
        // The crate would read the system's clock; the caller's `now` is compared instead.
        validation.validate_exp = false;
        validation.required_spec_claims.clear();
        Self {
            encoding: EncodingKey::from_secret(secret),
            decoding: DecodingKey::from_secret(secret),
            validation,
        }
    }

    /// The token of `claims`; `None` when they can't be written, which plain data always can.
    pub(crate) fn sign(&self, claims: &Claims) -> Option<String> {
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &self.encoding).ok()
    }

    /// What a token says, when this key signed it and it is not over.
    ///
    /// # Errors
    ///
    /// Whether it has expired or is wrong.
    pub(crate) fn verify(&self, token: &str, now_ms: i64) -> Result<Claims, Refusal> {
        let data = jsonwebtoken::decode::<Claims>(token, &self.decoding, &self.validation);
        let claims = data.map_err(|_| Refusal::Wrong)?.claims;
        if claims.exp.saturating_mul(1_000) <= now_ms { Err(Refusal::Expired) } else { Ok(claims) }
    }
}

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: |algorithm, key| {
        require_hs256(algorithm)?;
        Ok(Box::new(Hs256(mac(key.as_bytes())?)))
    },
    verifier_factory: |algorithm, key| {
        require_hs256(algorithm)?;
        Ok(Box::new(Hs256(mac(key.try_get_as_bytes()?)?)))
    },
    key_utils: KeyUtils::new_unimplemented(),
};

fn require_hs256(algorithm: &Algorithm) -> JwtResult<()> {
    if *algorithm == Algorithm::HS256 { Ok(()) } else { Err(ErrorKind::InvalidAlgorithm.into()) }
}

fn mac(key: &[u8]) -> JwtResult<Hmac<Sha256>> {
    Hmac::new_from_slice(key).map_err(|_| ErrorKind::InvalidKeyFormat.into())
}

struct Hs256(Hmac<Sha256>);

impl Signer<Vec<u8>> for Hs256 {
    fn try_sign(&self, message: &[u8]) -> Result<Vec<u8>, SignatureError> {
        Ok(self.0.clone().chain_update(message).finalize().into_bytes().to_vec())
    }
}

impl Verifier<Vec<u8>> for Hs256 {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), SignatureError> {
        // The comparison takes the same time wherever the two differ.
        let computed = self.0.clone().chain_update(message);
        computed.verify_slice(signature).map_err(|_| SignatureError::new())
    }
}

impl JwtSigner for Hs256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::HS256
    }
}

impl JwtVerifier for Hs256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::HS256
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::*;

    fn claims() -> Claims {
        Claims { sub: "u1".into(), epoch: 3, iat: 1_000, exp: 2_000, jti: "j".into() }
    }

    #[test]
    fn a_token_comes_back_until_it_is_over() {
        let keys = Keys::new(&[7; 32]);
        let token = keys.sign(&claims()).unwrap();
        assert_eq!(keys.verify(&token, 1_999_999), Ok(claims()));
        assert_eq!(keys.verify(&token, 2_000_000), Err(Refusal::Expired));
    }

    #[test]
    fn other_keys_changed_claims_and_unsigned_tokens_are_refused() {
        let keys = Keys::new(&[7; 32]);
        let token = keys.sign(&claims()).unwrap();
        assert_eq!(Keys::new(&[8; 32]).verify(&token, 0), Err(Refusal::Wrong));
        let parts: Vec<&str> = token.split('.').collect();
        let forged = r#"{"sub":"root","epoch":3,"iat":1,"exp":9999999999}"#;
        let forged = URL_SAFE_NO_PAD.encode(forged);
        let swapped = format!("{}.{forged}.{}", parts[0], parts[2]);
        assert_eq!(keys.verify(&swapped, 0), Err(Refusal::Wrong));
        let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"JWT"}"#);
        assert_eq!(keys.verify(&format!("{none}.{forged}."), 0), Err(Refusal::Wrong));
        let hs512 = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS512","typ":"JWT"}"#);
        let other = format!("{hs512}.{}.{}", parts[1], parts[2]);
        assert_eq!(keys.verify(&other, 0), Err(Refusal::Wrong));
        for garbage in ["", ".", "..", "a.b.c", &"x".repeat(10_000)] {
            assert_eq!(keys.verify(garbage, 0), Err(Refusal::Wrong));
        }
    }

    #[test]
    fn the_signature_is_the_standard_one() {
        // RFC 7515, appendix A.1: an HS256 example with its key.
        let key = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
        let key = URL_SAFE_NO_PAD.decode(key).unwrap();
        let signed = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.\
                      eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
        let signature = Hs256(mac(&key).unwrap()).try_sign(signed.as_bytes()).unwrap();
        let expected = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        assert_eq!(URL_SAFE_NO_PAD.encode(signature), expected);
    }
}
