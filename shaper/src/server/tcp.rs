//! Listens on TCP, where that is asked for; with TLS, where there is a certificate.

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc};

use anyhow::{Context as _, Result, bail};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        RootCertStore, ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
        server::WebPkiClientVerifier,
    },
    server::TlsStream,
};

use super::{access::Access, client::Client};

/// The place to listen on TCP, and who may come.
#[derive(Clone, Debug)]
pub(crate) struct TcpOptions {
    /// The address and port.
    pub(crate) address: SocketAddr,
    /// A file with tokens.
    pub(crate) tokens: Option<PathBuf>,
    /// Names by which clients may call this machine, besides its addresses and `localhost`.
    pub(crate) hosts: Vec<String>,
    /// The files of TLS.
    pub(crate) tls: Option<TlsFiles>,
}

/// The files of TLS, in PEM.
#[derive(Clone, Debug)]
pub(crate) struct TlsFiles {
    /// The certificate and those that lead to its authority.
    pub(crate) certificate: PathBuf,
    /// The private key of the certificate.
    pub(crate) key: PathBuf,
    /// The authorities of which a client needs a certificate; none is of no client.
    pub(crate) client_authorities: Option<PathBuf>,
}

/// The listening socket.
pub(crate) struct TcpSocket {
    listener: TcpListener,
    access: Arc<Access>,
    tls: Option<TlsAcceptor>,
    /// True if nobody comes without a certificate.
    asks_certificates: bool,
}

impl TcpSocket {
    /// Listens.
    ///
    /// # Errors
    ///
    /// When a file cannot be used, when the address cannot be had, and when everybody could come from elsewhere.
    pub(crate) async fn bind(options: TcpOptions) -> Result<Self> {
        let TcpOptions { address, tokens, hosts, tls } = options;
        let asks_certificates = tls.as_ref().is_some_and(|tls| tls.client_authorities.is_some());
        let is_local = address.ip().is_loopback();
        if !is_local && tokens.is_none() && !asks_certificates {
            bail!(
                "--listen {address} can be reached from elsewhere: give --tokens, or --tls-client-ca, or listen on 127.0.0.1"
            );
        }
        let access = Arc::new(Access::new(tokens.as_deref(), hosts, is_local).context("--tokens")?);
        let tls = tls.map(|files| config(&files)).transpose()?;
        let listener =
            TcpListener::bind(address).await.with_context(|| format!("listen on {address} (--listen)"))?;
        if !is_local && tls.is_none() {
            tracing::warn!(%address, "tokens can be read on their way here: give --tls-cert and --tls-key");
        }
        let tls = tls.map(|config| TlsAcceptor::from(Arc::new(config)));
        Ok(Self { listener, access, tls, asks_certificates })
    }

    /// The address, with the port that the kernel chose if 0 was asked for.
    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Waits for a client, which has still to come to terms over TLS, if there is any.
    pub(super) async fn accept(&self) -> io::Result<(TcpStream, Client)> {
        let (stream, address) = self.listener.accept().await?;
        stream.set_nodelay(true)?;
        let client = Client::remote(&stream, address, Arc::clone(&self.access), self.asks_certificates)?;
        Ok((stream, client))
    }

    /// The acceptor of TLS; none where there is none.
    pub(super) fn tls(&self) -> Option<TlsAcceptor> {
        self.tls.clone()
    }
}

/// A stream of TLS over TCP.
pub(super) type Tls = TlsStream<TcpStream>;

fn config(files: &TlsFiles) -> Result<ServerConfig> {
    let TlsFiles { certificate, key, client_authorities } = files;
    let reading = |path: &PathBuf| format!("read {}", path.display());
    let certificates = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .with_context(|| reading(certificate))?;
    let key = PrivateKeyDer::from_pem_file(key).with_context(|| reading(key))?;
    let provider = Arc::new(ring::default_provider());
    let config =
        ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
    let config = match client_authorities {
        None => config.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for authority in CertificateDer::pem_file_iter(path).with_context(|| reading(path))? {
                roots.add(authority.with_context(|| reading(path))?).with_context(|| reading(path))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .with_context(|| reading(path))?;
            config.with_client_cert_verifier(verifier)
        }
    };
    let mut config = config
        .with_single_cert(certificates, key)
        .with_context(|| format!("use the certificate {}", certificate.display()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use axum::{
        Router,
        routing::{get, post},
    };
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
    use tokio_rustls::{
        TlsConnector,
        rustls::{ClientConfig, pki_types::ServerName},
    };

    use super::*;
    use crate::server::{PluginSocket, serve};

    const TOKEN: &str = "0123456789abcdef0123456789abcdef";

    /// Serves on loopback with files in a directory, and gives the address.
    async fn start(directory: &tempfile::TempDir, tls: Option<TlsFiles>, tokens: bool) -> SocketAddr {
        let tokens = tokens.then(|| {
            let path = directory.path().join("tokens.toml");
            let text = format!("[[token]]\nname = \"admin\"\ntoken = \"{TOKEN}\"\naccess = \"full\"\n");
            fs::write(&path, text).expect("a file");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("a mode");
            path
        });
        let address = "127.0.0.1:0".parse().expect("an address");
        let tcp = TcpSocket::bind(TcpOptions { address, tokens, hosts: Vec::new(), tls });
        let tcp = tcp.await.expect("it listens");
        let address = tcp.address().expect("an address");
        let socket = PluginSocket::bind(&directory.path().join("a.sock"), None).expect("the socket");
        let router = Router::new().route("/", get(|| async { "read" })).route("/", post(|| async { "done" }));
        tokio::spawn(serve(socket, Some(tcp), router, std::future::pending()));
        address
    }

    /// The status of an answer, and its body.
    async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin, method: &str, more: &str) -> (u16, String) {
        let request = format!(
            "{method} / HTTP/1.1\r\nHost: localhost\r\n{more}Content-Length: 0\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.expect("a request");
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer).await;
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
        (status, answer.split("\r\n\r\n").nth(1).unwrap_or_default().to_owned())
    }

    #[tokio::test]
    async fn whoever_has_a_token_may_change_what_others_on_the_machine_may_read() {
        let directory = tempfile::tempdir().expect("a directory");
        let address = start(&directory, None, true).await;
        let connect = async || TcpStream::connect(address).await.expect("a connection");
        let bearer = format!("Authorization: Bearer {TOKEN}\r\n");
        assert_eq!(ask(connect().await, "GET", "").await, (200, "read".to_owned()));
        assert_eq!(ask(connect().await, "POST", &bearer).await, (200, "done".to_owned()));
        let (status, said) = ask(connect().await, "POST", "").await;
        assert_eq!(status, 401);
        assert!(
            said.starts_with(r#"{"title":"Unauthorized","status":401,"detail":"a token is needed"#),
            "{said}"
        );
        let (status, _) = ask(connect().await, "POST", "Authorization: Bearer of bad news\r\n").await;
        assert_eq!(status, 401);
        let (status, _) =
            ask(connect().await, "POST", &format!("{bearer}Origin: http://attacker.example\r\n")).await;
        assert_eq!(status, 403);
    }

    #[tokio::test]
    async fn everybody_from_elsewhere_is_not_let_in() {
        let address = "0.0.0.0:0".parse().expect("an address");
        let options = TcpOptions { address, tokens: None, hosts: Vec::new(), tls: None };
        let error = TcpSocket::bind(options).await.err().expect("it does not listen");
        assert!(error.to_string().contains("give --tokens, or --tls-client-ca"), "{error}");
    }

    /// An authority, and a certificate of its for a name, as files and as the client's part of TLS.
    struct Authority(CertifiedIssuer<'static, KeyPair>);

    impl Authority {
        fn new() -> Self {
            let mut params = CertificateParams::default();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let key = KeyPair::generate().expect("a key");
            Self(CertifiedIssuer::self_signed(params, key).expect("an authority"))
        }

        fn certify(&self, name: &str) -> (String, String) {
            let key = KeyPair::generate().expect("a key");
            let params = CertificateParams::new([name.to_owned()]).expect("a name");
            let certificate = params.signed_by(&key, &self.0).expect("a certificate");
            (certificate.pem(), key.serialize_pem())
        }

        /// A client that trusts this authority, with a certificate of another one's if there is one.
        fn client(&self, certificate: Option<(String, String)>) -> TlsConnector {
            let mut roots = RootCertStore::empty();
            roots.add(self.0.der().clone()).expect("a certificate");
            let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
                .with_safe_default_protocol_versions()
                .expect("versions")
                .with_root_certificates(roots);
            let config = match certificate {
                None => config.with_no_client_auth(),
                Some((certificate, key)) => {
                    let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).expect("PEM")];
                    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("PEM");
                    config.with_client_auth_cert(chain, key).expect("a certificate")
                }
            };
            TlsConnector::from(Arc::new(config))
        }
    }

    #[tokio::test]
    async fn where_certificates_are_asked_for_nobody_comes_without_one() {
        let directory = tempfile::tempdir().expect("a directory");
        let (authority, stranger) = (Authority::new(), Authority::new());
        let file = |name: &str, text: &str| {
            let path = directory.path().join(name);
            fs::write(&path, text).expect("a file");
            path
        };
        let (certificate, key) = authority.certify("localhost");
        let tls = TlsFiles {
            certificate: file("cert.pem", &certificate),
            key: file("key.pem", &key),
            client_authorities: Some(file("ca.pem", &authority.0.pem())),
        };
        let address = start(&directory, Some(tls), false).await;
        let ask_as = async |certificate| {
            let stream = TcpStream::connect(address).await.expect("a connection");
            let name = ServerName::try_from("localhost").expect("a name");
            match authority.client(certificate).connect(name, stream).await {
                Ok(stream) => ask(stream, "POST", "").await.0,
                Err(_) => 0,
            }
        };
        assert_eq!(ask_as(Some(authority.certify("somebody"))).await, 200);
        assert_eq!(ask_as(None).await, 0, "without a certificate");
        assert_eq!(ask_as(Some(stranger.certify("somebody"))).await, 0, "of another authority");
        let plain = TcpStream::connect(address).await.expect("a connection");
        assert_eq!(ask(plain, "GET", "").await.0, 0, "without TLS");
    }
}
