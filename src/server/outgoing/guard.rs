//! Looking names up without addresses that must not be connected to.

use std::io;

use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

use crate::server::config::outgoing::Denied;

/// The addresses of a name, without those that must not be connected to. What is connected to is
/// what was looked up here, so that a name can't lead elsewhere between a check and its use.
#[derive(Debug, Clone)]
pub(crate) struct Guarded {
    denied: Denied,
}

impl Guarded {
    /// Looks names up, and leaves out what is `denied`.
    pub(crate) fn new(denied: Denied) -> Self {
        Self { denied }
    }
}

impl Resolver for Guarded {
    fn resolve(
        &self,
        uri: &ureq::http::Uri,
        config: &ureq::config::Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let found = DefaultResolver::default().resolve(uri, config, timeout)?;
        let mut kept = self.empty();
        let mut refused = None;
        for address in found.iter() {
            match self.denied.check(address.ip()) {
                Ok(()) => kept.push(*address),
                Err(why) => refused = Some(why),
            }
        }
        match refused {
            Some(why) if kept.is_empty() => {
                Err(ureq::Error::Io(io::Error::new(io::ErrorKind::PermissionDenied, Refused(why))))
            }
            _ => Ok(kept),
        }
    }
}

/// Why an address is not connected to.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Refused(String);

impl Refused {
    /// The sentence, where an error is one.
    pub(crate) fn of(error: &ureq::Error) -> Option<String> {
        let ureq::Error::Io(error) = error else { return None };
        error.get_ref()?.downcast_ref::<Self>().map(ToString::to_string)
    }
}
