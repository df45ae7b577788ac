//! Speaks gRPC with what listens on a socket.

use std::{io, path::Path, sync::Arc, time::Duration};

use anyhow::Context as _;
use futures_util::{Stream, TryStreamExt as _};
use hyper::http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use prost::Message;
use tokio::{net::UnixStream, time::timeout};
use tonic::{
    Code, Request, Status,
    client::Grpc,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstCodec;
use tower::service_fn;

/// The longest time until an answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The largest answer, in bytes: that of the kubelet.
const LARGEST: usize = 16 << 20;

/// A connection.
#[derive(Clone, Debug)]
pub(super) struct Connection(Channel);

impl Connection {
    /// Connects with what listens on a socket.
    ///
    /// # Errors
    ///
    /// When nothing does, or it does not speak HTTP/2.
    pub(super) async fn open(socket: &Path) -> anyhow::Result<Self> {
        let socket: Arc<Path> = socket.into();
        let connector = service_fn(move |_| {
            let socket = Arc::clone(&socket);
            async move { io::Result::Ok(TokioIo::new(UnixStream::connect(&*socket).await?)) }
        });
        // The name that servers expect of a client on a socket.
        let endpoint = Endpoint::from_static("http://localhost").connect_timeout(TIMEOUT);
        Ok(Self(endpoint.connect_with_connector(connector).await.context("connect: is it running?")?))
    }

    /// Asks, in a namespace of containerd's if there is one, and waits for the answer.
    pub(super) async fn ask<Q, A>(
        &self,
        path: &'static str,
        namespace: Option<&str>,
        question: Q,
    ) -> Result<A, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let mut client = self.client().await?;
        let (codec, path) = (ProstCodec::default(), PathAndQuery::from_static(path));
        let answer = timeout(TIMEOUT, client.unary(request(question, namespace)?, path, codec)).await;
        let late = |_| Status::deadline_exceeded(format!("no answer within {TIMEOUT:?}"));
        Ok(answer.map_err(late)??.into_inner())
    }

    /// Asks for a stream of answers. The question is sent when the stream is first polled.
    pub(super) fn stream<Q, A>(
        &self,
        path: &'static str,
        question: Q,
    ) -> impl Stream<Item = Result<A, Status>> + Send + use<Q, A>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let connection = self.clone();
        let answers = async move {
            let mut client = connection.client().await?;
            let (codec, path) = (ProstCodec::default(), PathAndQuery::from_static(path));
            // A server in Go sends nothing at all before the first answer.
            let answers = client.server_streaming(request(question, None)?, path, codec).await?;
            Ok::<_, Status>(answers.into_inner())
        };
        futures_util::stream::once(answers).try_flatten()
    }

    async fn client(&self) -> Result<Grpc<Channel>, Status> {
        let mut client = Grpc::new(self.0.clone()).max_decoding_message_size(LARGEST);
        let ready = timeout(TIMEOUT, client.ready()).await;
        ready
            .map_err(|_| Status::deadline_exceeded(format!("not connected within {TIMEOUT:?}")))?
            .map_err(|error| Status::unavailable(error.to_string()))?;
        Ok(client)
    }
}

/// Tells whether a service has no such method.
pub(super) fn is_unimplemented(status: &Status) -> bool {
    status.code() == Code::Unimplemented
}

fn request<Q>(question: Q, namespace: Option<&str>) -> Result<Request<Q>, Status> {
    let mut request = Request::new(question);
    if let Some(namespace) = namespace {
        let value: MetadataValue<Ascii> =
            namespace.parse().map_err(|_| Status::invalid_argument("a namespace that is not ASCII"))?;
        request.metadata_mut().insert("containerd-namespace", value);
    }
    Ok(request)
}
