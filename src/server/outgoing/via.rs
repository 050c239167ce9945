//! Calls through a proxy: encrypted endpoints through a tunnel (`CONNECT`), plain ones by their
//! whole URL in the request line (RFC 9112, section 3.2.2), since many proxies open tunnels to 443
//! alone.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, DefaultConnector, NextTimeout, Transport,
};
use ureq::{Agent, Proxy, ProxyProtocol};

use crate::server::outgoing::guard::Guarded;

/// An agent that calls through a proxy.
pub(crate) struct Via {
    /// The agent.
    pub(crate) agent: Agent,
    /// What the proxy wants of a plain call: a tunnel says it itself.
    pub(crate) authorization: Option<String>,
    /// The proxy, without its password.
    pub(crate) name: String,
}

impl Via {
    /// Calls of plain or encrypted endpoints through the proxy of this URL.
    ///
    /// # Errors
    ///
    /// When it can't be used.
    pub(crate) fn new(
        url: &str,
        is_https: bool,
        config: &dyn Fn(Option<Proxy>) -> Config,
        guarded: &Guarded,
    ) -> Result<Self, String> {
        let name = mask_proxy(url);
        let wrong = || format!("the proxy {name} can't be used: it must be an http:// URL");
        let proxy = Proxy::new(url).map_err(|_| wrong())?;
        if !matches!(proxy.protocol(), ProxyProtocol::Http | ProxyProtocol::Https) {
            return Err(wrong());
        }
        let mut authorization = None;
        let agent = if is_https || proxy.protocol() == ProxyProtocol::Https {
            let config = config(Some(proxy));
            Agent::with_parts(config, DefaultConnector::default(), guarded.clone())
        } else {
            if let Some(user) = proxy.username() {
                let pair = format!("{user}:{}", proxy.password().unwrap_or_default());
                authorization = Some(format!("Basic {}", STANDARD.encode(pair)));
            }
            let resolver = ToProxy { proxy: proxy.uri().clone(), guarded: guarded.clone() };
            Agent::with_parts(config(None), WholeUrl(DefaultConnector::default()), resolver)
        };
        Ok(Self { agent, authorization, name })
    }
}

/// A proxy's URL as it may be shown: without user and password.
pub(crate) fn mask_proxy(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
    format!("{scheme}://{}", rest.rsplit_once('@').map_or(rest, |(_, place)| place))
}

/// Looks the proxy up in place of the endpoint, so that it is connected to.
#[derive(Debug)]
struct ToProxy {
    proxy: Uri,
    guarded: Guarded,
}

impl Resolver for ToProxy {
    fn resolve(
        &self,
        _: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        self.guarded.resolve(&self.proxy, config, timeout)
    }
}

/// Writes the endpoint's whole URL into the request line.
#[derive(Debug)]
struct WholeUrl(DefaultConnector);

impl Connector for WholeUrl {
    type Out = WholeUrlTransport;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<()>,
    ) -> Result<Option<Self::Out>, ureq::Error> {
        let origin = details.uri.authority().map(|place| format!("http://{place}"));
        let inner = self.0.connect(details, chained)?;
        Ok(inner.map(|inner| WholeUrlTransport { inner, origin: origin.unwrap_or_default() }))
    }
}

/// A connection to the proxy.
#[derive(Debug)]
struct WholeUrlTransport {
    inner: Box<dyn Transport>,
    /// What is put before the path of the request line; empty once it is written.
    origin: String,
}

impl Transport for WholeUrlTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        let origin = std::mem::take(&mut self.origin).into_bytes();
        let output = self.inner.buffers().output();
        let path = output.get(..amount).and_then(|head| head.iter().position(|byte| *byte == b' '));
        let Some(path) = path.filter(|_| !origin.is_empty()).map(|space| space + 1) else {
            return self.inner.transmit_output(amount, timeout);
        };
        let whole = amount + origin.len();
        if whole > output.len() {
            return Err(ureq::Error::Other("the request line is too long for a proxy".into()));
        }
        output.copy_within(path..amount, path + origin.len());
        output[path..path + origin.len()].copy_from_slice(&origin);
        self.inner.transmit_output(whole, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        self.inner.await_input(timeout)
    }

    fn is_open(&mut self) -> bool {
        self.inner.is_open()
    }
}
