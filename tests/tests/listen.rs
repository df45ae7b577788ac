//! The daemon on TCP, for those who cannot use its socket.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    os::unix::fs::PermissionsExt as _,
};

use shaper_tests::{
    daemon::{eventually, program},
    needs,
    netns::Netns,
    world::World,
};

const ADDRESS: &str = "127.0.0.1:7474";
const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// The status of an answer to a request within a namespace, and its body.
fn ask(host: &Netns, method: &str, path: &str, token: Option<&str>, body: &str) -> (u16, String) {
    let authorization = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {ADDRESS}\r\n{authorization}Content-Length: {length}\r\n\
         Connection: close\r\n\r\n{body}"
    );
    let answer = host.enter(|| {
        let mut stream = TcpStream::connect(ADDRESS).expect("a connection");
        stream.write_all(request.as_bytes()).expect("a request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    });
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, answer.split("\r\n\r\n").nth(1).unwrap_or_default().to_owned())
}

#[test]
fn a_token_shapes_over_tcp_and_the_log_says_whose_it_was() {
    needs!(Root);
    let world = World::new().expect("a world");
    let _web = world.container("web").expect("a container");
    let tokens = world.directory().join("tokens.toml");
    let text = format!("[[token]]\nname = \"admin\"\ntoken = \"{TOKEN}\"\naccess = \"full\"\n");
    fs::write(&tokens, text).expect("it can be written");
    fs::set_permissions(&tokens, fs::Permissions::from_mode(0o600)).expect("a mode");
    let tokens = tokens.display().to_string();
    let arguments = ["--runtime", "netns", "--listen", ADDRESS, "--tokens", &tokens];
    let daemon = world.spawn(world.host().command(program()), world.pin_dir(), &arguments).expect("a daemon");
    drop(daemon.view("web"));

    let shaping = "/api/v1/containers/web/shaping";
    let (status, said) = ask(world.host(), "PATCH", shaping, None, r#"{"loss": "5%"}"#);
    assert_eq!(status, 401, "{said}");
    let (status, said) = ask(world.host(), "PATCH", shaping, Some(TOKEN), r#"{"loss": "5%"}"#);
    assert_eq!(status, 200, "{said}");
    let (status, said) = ask(world.host(), "GET", shaping, None, "");
    assert_eq!((status, said.contains("loss 5%")), (200, true), "{said}");
    assert!(daemon.run("list").contains("5%"));
    eventually("the log names the token", || {
        let log = daemon.log();
        log.lines().any(|line| line.contains("token=\"admin\"") && line.contains("set ")).then_some(())
    });
}

#[test]
fn a_daemon_does_not_let_everybody_in_from_elsewhere() {
    needs!(Root);
    let world = World::new().expect("a world");
    let arguments = ["--runtime", "netns", "--listen", "0.0.0.0:7474"];
    let error = world.spawn(world.host().command(program()), world.pin_dir(), &arguments);
    let error = format!("{:#}", error.expect_err("it does not start"));
    assert!(error.contains("can be reached from elsewhere: give --tokens"), "{error}");
}
