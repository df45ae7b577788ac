//! Looks up hosts: in `/etc/hosts`, and from the name servers of `/etc/resolv.conf`, whose search list is heeded.
//!
//! What else a machine may be set up to ask (`nsswitch.conf`) is not asked: the C library does so with a blocking call
//! that has no time-out of ours, and so with a thread for each name.

use std::{fs, io, net::IpAddr, sync::Arc, time::Duration};

use hickory_resolver::{
    Hosts as HostsFile, Resolver, TokioResolver,
    config::{LookupIpStrategy, ResolveHosts},
    net::{NetError, runtime::TokioRuntimeProvider},
    proto::{
        op::Query,
        rr::{Name, RecordType},
    },
    system_conf::parse_resolv_conf,
};
use parking_lot::Mutex;
use thiserror::Error;
use tokio::{sync::Semaphore, time::timeout};

/// The longest time that name servers may take altogether to give the addresses of a name.
const PATIENCE: Duration = Duration::from_secs(3);
/// The longest time that one of them may take, if `/etc/resolv.conf` does not say less.
const PATIENCE_WITH_ONE: Duration = Duration::from_secs(1);
/// The longest time that an answer is believed, whatever it says.
const MOST_TTL: Duration = Duration::from_secs(30);
/// The time that the answer that there is no such name is believed.
const MOST_NEGATIVE_TTL: Duration = Duration::from_secs(2);
/// The number of names that are asked for at once.
pub(super) const AT_ONCE: usize = 64;

/// Finds the addresses of hosts.
pub(super) struct Hosts {
    /// The resolver, with the configuration that it was made of: made anew when that has changed.
    resolver: Mutex<Option<(Vec<u8>, TokioResolver)>>,
    /// The contents of `/etc/hosts`, with its text: read anew when that has changed.
    file: Mutex<Option<(Vec<u8>, Arc<HostsFile>)>>,
    places: Semaphore,
}

impl Hosts {
    /// Of those who look up names with this, [`AT_ONCE`] do so at once.
    pub(super) fn new() -> Self {
        Self { resolver: Mutex::default(), file: Mutex::default(), places: Semaphore::new(AT_ONCE) }
    }

    /// The addresses of `host`; at least one.
    ///
    /// # Errors
    ///
    /// Why there are none: the host is not known, or no name server answers in time.
    pub(super) async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, LookupError> {
        let written = self.in_file(host);
        if !written.is_empty() {
            return Ok(written);
        }
        let resolver = self.resolver().map_err(LookupError::Configuration)?;
        let ask = async {
            let _place = self.places.acquire().await;
            resolver.lookup_ip(host).await
        };
        match timeout(PATIENCE, ask).await {
            Ok(Ok(found)) => Ok(found.iter().collect()),
            Ok(Err(error)) => Err(LookupError::of(error)),
            Err(_) => Err(LookupError::Silent),
        }
    }

    /// The addresses that `/etc/hosts` has for a host; where it has any, no name server is asked, as the C library does it.
    fn in_file(&self, host: &str) -> Vec<IpAddr> {
        let (Ok(file), Ok(name)) = (self.file(), Name::from_utf8(host)) else { return Vec::new() };
        let found = [RecordType::A, RecordType::AAAA]
            .into_iter()
            .filter_map(|kind| file.lookup_static_host(&Query::query(name.clone(), kind)));
        found
            .flat_map(|lookup| {
                lookup.answers().iter().filter_map(|record| record.data.ip_addr()).collect::<Vec<_>>()
            })
            .collect()
    }

    fn file(&self) -> io::Result<Arc<HostsFile>> {
        let text = fs::read("/etc/hosts")?;
        let mut present = self.file.lock();
        if let Some((_, file)) = present.as_ref().filter(|(of, _)| *of == text) {
            return Ok(Arc::clone(file));
        }
        let mut file = HostsFile::default();
        file.read_hosts_conf(&text[..])?;
        let file = Arc::new(file);
        *present = Some((text, Arc::clone(&file)));
        Ok(file)
    }

    fn resolver(&self) -> Result<TokioResolver, NetError> {
        let configuration = fs::read("/etc/resolv.conf")?;
        let mut present = self.resolver.lock();
        if let Some((_, resolver)) = present.as_ref().filter(|(of, _)| *of == configuration) {
            return Ok(resolver.clone());
        }
        let (servers, options) = parse_resolv_conf(&configuration)?;
        let mut builder = Resolver::builder_with_config(servers, TokioRuntimeProvider::default());
        let asked = builder.options_mut();
        *asked = options;
        asked.timeout = asked.timeout.min(PATIENCE_WITH_ONE);
        asked.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        asked.use_hosts_file = ResolveHosts::Never;
        asked.positive_max_ttl = Some(MOST_TTL);
        asked.negative_max_ttl = Some(MOST_NEGATIVE_TTL);
        asked.max_active_requests = 4 * AT_ONCE;
        let resolver = builder.build()?;
        *present = Some((configuration, resolver.clone()));
        Ok(resolver)
    }
}

/// The reason why a host has no address.
#[derive(Debug, Error)]
pub(super) enum LookupError {
    #[error("no name server answered")]
    Silent,
    #[error("there is no such name")]
    UnknownName,
    #[error("it has no address")]
    NoAddress,
    #[error("/etc/resolv.conf: {0}")]
    Configuration(NetError),
    #[error(transparent)]
    Other(NetError),
}

impl LookupError {
    fn of(error: NetError) -> Self {
        match error {
            NetError::Timeout | NetError::NoConnections => Self::Silent,
            error if error.is_nx_domain() => Self::UnknownName,
            error if error.is_no_records_found() => Self::NoAddress,
            error => Self::Other(error),
        }
    }
}
