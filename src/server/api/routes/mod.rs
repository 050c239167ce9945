//! One file a resource, each with its `ROUTES`.

use crate::server::api::router::Route;

/// Every endpoint, by resource.
pub const ROUTES: &[&[Route]] = &[];
