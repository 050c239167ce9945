//! A client of the server's gRPC port.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use grpcio::{
    CallOption, Channel, ChannelBuilder, ChannelCredentialsBuilder, EnvBuilder, Environment,
    MetadataBuilder,
};

use crate::base::exit::{Exit, Fatal};
use crate::wire::{META_AGENT_ID, META_AUTHORIZATION};

/// How to reach a server.
#[derive(Debug, Clone, Default)]
pub(crate) struct Endpoint {
    /// `host:port`.
    pub server: String,
    /// PEM file of the authority of a server that speaks TLS.
    pub tls_ca: Option<PathBuf>,
}

/// An environment with `queues` completion queues.
pub(super) fn environment(queues: usize) -> Arc<Environment> {
    Arc::new(EnvBuilder::new().cq_count(queues).name_prefix("mock").build())
}

/// A connection of its own: channels of one process share connections unless they are asked not to.
pub(super) fn connect(env: &Arc<Environment>, endpoint: &Endpoint) -> Result<Channel, Fatal> {
    let builder = ChannelBuilder::new(Arc::clone(env))
        .use_local_subchannel_pool(true)
        .max_send_message_len(-1);
    let Some(ca) = &endpoint.tls_ca else { return Ok(builder.connect(&endpoint.server)) };
    let pem = std::fs::read(ca).map_err(|error| {
        Fatal::new(Exit::Failed, format!("cannot read {}: {error}", ca.display()))
    })?;
    let credentials = ChannelCredentialsBuilder::new().root_cert(pem).build();
    Ok(builder.set_credentials(credentials).connect(&endpoint.server))
}

/// A call's options: a deadline, and the agent's token where it has one.
pub(super) fn options(agent: &str, token: Option<&str>) -> Result<CallOption, Fatal> {
    let mut metadata = MetadataBuilder::new();
    let bad = |error| Fatal::new(Exit::Failed, format!("the token of {agent}: {error}"));
    metadata.add_str(META_AGENT_ID, agent).map_err(bad)?;
    if let Some(token) = token {
        metadata.add_str(META_AUTHORIZATION, &format!("Bearer {token}")).map_err(bad)?;
    }
    let options = CallOption::default().wait_for_ready(true).timeout(Duration::from_secs(20));
    Ok(options.headers(metadata.build()))
}
