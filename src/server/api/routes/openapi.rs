//! The OpenAPI document of this table.

use std::sync::OnceLock;

use crate::server::api::openapi::document;
use crate::server::api::reply::{ApiError, Code, Reply};
use crate::server::api::request::Call;
use crate::server::api::router::{Access, Gives, Route};

/// The endpoints.
pub(crate) const ROUTES: &[Route] = &[
    Route {
        access: Access::Public,
        ..Route::get(
            "/v1/openapi.json",
            "This API as an OpenAPI document.",
            Gives::Raw("application/json"),
            json,
        )
    },
    Route {
        access: Access::Public,
        ..Route::get(
            "/v1/openapi.yaml",
            "This API as an OpenAPI document.",
            Gives::Raw("application/yaml"),
            yaml,
        )
    },
];

/// The document in a format, written when it is first asked for, or why it can't be.
type Written = OnceLock<Result<Vec<u8>, String>>;

fn json(_: &Call<'_>) -> Result<Reply, ApiError> {
    static WRITTEN: Written = OnceLock::new();
    let write = || serde_json::to_vec_pretty(&document()).map_err(|error| error.to_string());
    let bytes = WRITTEN.get_or_init(write).as_ref().map_err(|error| failed(error))?;
    Ok(Reply::raw_static("application/json", bytes))
}

fn yaml(_: &Call<'_>) -> Result<Reply, ApiError> {
    static WRITTEN: Written = OnceLock::new();
    let write = || match yaml_serde::to_string(&document()) {
        Ok(text) => Ok(text.into_bytes()),
        Err(error) => Err(error.to_string()),
    };
    let bytes = WRITTEN.get_or_init(write).as_ref().map_err(|error| failed(error))?;
    Ok(Reply::raw_static("application/yaml", bytes))
}

fn failed(error: &str) -> ApiError {
    log::error!("the OpenAPI document can't be written: {error}");
    ApiError::new(Code::Internal, "the OpenAPI document can't be written")
}
