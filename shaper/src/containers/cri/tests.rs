//! A server that answers as no runtime should.

use std::{collections::HashMap, path::PathBuf};

use h2::{RecvStream, server::SendResponse};
use hyper::{HeaderMap, Request, Response, body::Bytes};
use prost::Message;
use tokio::{net::UnixListener, time::timeout};

use super::*;

/// The answers of a server, by the path of the method. Without one, a method is not implemented.
type Answers = HashMap<&'static str, Answer>;

#[derive(Clone)]
enum Answer {
    /// A message.
    Whole(Vec<u8>),
    /// A message of which more was announced.
    Half(Vec<u8>),
    /// A message of this many bytes, which never come.
    Huge(u32),
}

fn whole(message: &impl Message) -> Answer {
    Answer::Whole(message.encode_to_vec())
}

/// A directory with a socket at which a server answers for as long as the test lasts.
struct Server {
    directory: tempfile::TempDir,
}

impl Server {
    fn start(answers: Answers) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let listener = UnixListener::bind(directory.path().join("cri.sock")).expect("a socket");
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let answers = answers.clone();
                tokio::spawn(async move {
                    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
                    while let Some(Ok((request, respond))) = connection.accept().await {
                        answer(&request, respond, answers.get(request.uri().path()));
                    }
                });
            }
        });
        Self { directory }
    }

    /// The first news of a watcher at its socket.
    async fn news(&self) -> (Update, mpsc::Receiver<Update>) {
        let socket: PathBuf = self.directory.path().join("cri.sock");
        let source = Source::at(RuntimeName::CriO, &*socket);
        let (sender, mut updates) = mpsc::channel(1);
        tokio::spawn(Cri::new(source, socket.into(), true, false).watch(sender));
        (next(&mut updates).await, updates)
    }
}

async fn next(updates: &mut mpsc::Receiver<Update>) -> Update {
    timeout(Duration::from_secs(30), updates.recv()).await.expect("in time").expect("a watcher")
}

fn answer(_: &Request<RecvStream>, mut respond: SendResponse<Bytes>, answer: Option<&Answer>) {
    let head = Response::builder().header("content-type", "application/grpc");
    let Some(answer) = answer else {
        let head = head.header("grpc-status", "12").body(()).expect("a head");
        respond.send_response(head, true).expect("it is connected");
        return;
    };
    let (length, bytes) = match answer {
        Answer::Whole(bytes) => (bytes.len(), &bytes[..]),
        Answer::Half(bytes) => (bytes.len(), &bytes[..bytes.len() / 2]),
        Answer::Huge(length) => (*length as usize, &[][..]),
    };
    let mut frame = vec![0];
    frame.extend(u32::try_from(length).expect("short").to_be_bytes());
    frame.extend(bytes);
    let mut stream = respond.send_response(head.body(()).expect("a head"), false).expect("it is connected");
    stream.send_data(frame.into(), false).expect("it is connected");
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().expect("a number"));
    stream.send_trailers(trailers).expect("it is connected");
}

fn version() -> (&'static str, Answer) {
    (api::VERSION, whole(&api::Version { runtime_name: "cri-o".to_owned() }))
}

fn pod(id: &str, name: &str) -> api::PodSandbox {
    let metadata =
        api::PodMetadata { name: name.to_owned(), uid: String::new(), namespace: "shop".to_owned() };
    let state = api::PodState::Ready.into();
    api::PodSandbox { id: id.to_owned(), metadata: Some(metadata), state, ..api::PodSandbox::default() }
}

fn problem(update: Update) -> String {
    match update {
        Update::Lost { problem, .. } => problem,
        other => panic!("expected a loss, got {other:?}"),
    }
}

#[tokio::test]
async fn half_an_answer_is_not_taken_for_the_whole() {
    let pods = api::Pods { items: vec![pod("s1", "a"), pod("s2", "b")] };
    for (bad, said) in [
        (Answer::Half(pods.encode_to_vec()), "list pods"),
        (Answer::Huge(u32::MAX), "list pods"),
        (Answer::Whole(b"\xff\xff\xff".to_vec()), "list pods"),
    ] {
        let containers = (api::LIST_CONTAINERS, whole(&api::Containers::default()));
        let server = Server::start(HashMap::from([version(), containers, (api::LIST_PODS, bad)]));
        let (news, _updates) = server.news().await;
        let problem = problem(news);
        assert!(problem.starts_with(said), "{problem}");
    }
}

#[tokio::test]
async fn what_serves_no_cri_is_said() {
    let server = Server::start(HashMap::new());
    let (news, _updates) = server.news().await;
    assert!(problem(news).starts_with("ask for the version of CRI: does it serve CRI v1?"));
}

#[tokio::test]
async fn a_pod_that_cannot_be_described_keeps_no_other_from_being_listed() {
    let odd = HashMap::from([("info".to_owned(), "{".to_owned())]);
    let pods = api::Pods { items: vec![pod("s1", "fine"), pod("s2", "a\nb")] };
    let server = Server::start(HashMap::from([
        version(),
        (api::LIST_CONTAINERS, whole(&api::Containers::default())),
        (api::LIST_PODS, whole(&pods)),
        (api::POD_STATUS, whole(&api::PodStatusResponse { status: None, info: odd })),
    ]));
    let (news, mut updates) = server.news().await;
    let Update::All { containers, .. } = news else { panic!("{news:?}") };
    let [fine] = &*containers else { panic!("{containers:?}") };
    assert_eq!((&*fine.name, fine.is_unseen()), ("shop/fine", true), "it may be shaped all the same");
    assert!(timeout(Duration::from_millis(300), updates.recv()).await.is_err(), "nothing changes");
}

#[tokio::test]
async fn events_that_end_are_an_end_of_the_connection() {
    let server = Server::start(HashMap::from([
        version(),
        (api::LIST_CONTAINERS, whole(&api::Containers::default())),
        (api::LIST_PODS, whole(&api::Pods::default())),
        (api::EVENTS, whole(&api::Event {})),
    ]));
    let (news, mut updates) = server.news().await;
    assert!(matches!(news, Update::All { .. }), "{news:?}");
    let problem = problem(next(&mut updates).await);
    assert!(problem.starts_with("read the runtime's events"), "{problem}");
    assert!(matches!(next(&mut updates).await, Update::All { .. }), "it is connected with again");
}

#[tokio::test]
async fn a_runtime_without_events_is_listed_at_a_bounded_pace() {
    let server = Server::start(HashMap::from([
        version(),
        (api::LIST_CONTAINERS, whole(&api::Containers::default())),
        (api::LIST_PODS, whole(&api::Pods::default())),
    ]));
    let (news, mut updates) = server.news().await;
    assert!(matches!(news, Update::All { .. }), "{news:?}");
    assert!(timeout(Duration::from_millis(300), updates.recv()).await.is_err(), "it stays connected");
}
