//! The Dockerfile makes an image that works with the privileges that the README gives it, and not with less.
//!
//! The images it begins with are stand-ins, since there is no registry: a `cargo` that hands out the binary built beside
//! this test, and a system that has the libraries of this one.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use shaper_tests::{
    daemon::{eventually, program},
    docker::DockerDaemon,
    documents::{docker_run, image, option, read, root},
    needs,
};

/// The libraries of debian:bookworm-slim that a Rust binary asks for, in libc6 and libgcc-s1.
const LIBRARIES: [&str; 4] = ["libc.so.6", "libm.so.6", "libgcc_s.so.1", "ld-linux-x86-64.so.2"];

const CARGO: &str =
    "#!/bin/sh\n[ \"$1\" = xtask ] || { mkdir -p target/release && cp /shaper target/release/; }\n";

fn sh(script: &str) -> String {
    let output = Command::new("sh").args(["-ec", script]).stdin(Stdio::null()).output().expect("sh runs");
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// The libraries that the program loads, by path.
fn libraries() -> Vec<PathBuf> {
    let listed = sh(&format!("ldd '{}'", program().display()));
    let paths = listed.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    paths.map(PathBuf::from).collect()
}

/// Gives Docker an image that is the directory `root`.
fn import(docker: &DockerDaemon, root: &Path, name: &str) {
    let tar = root.with_extension("tar");
    sh(&format!("tar -C '{}' -cf '{}' .", root.display(), tar.display()));
    docker.docker(&["import", &tar.to_string_lossy(), name]).expect("an image");
}

/// The images that the Dockerfile begins with, made of this machine's files.
fn import_stand_ins(docker: &DockerDaemon) {
    let scratch = tempfile::tempdir().expect("a directory");
    let (build, system) = (scratch.path().join("build"), scratch.path().join("system"));
    for directory in [build.join("bin"), system.clone()] {
        fs::create_dir_all(directory).expect("a directory");
    }
    let busybox = sh("command -v busybox");
    fs::copy(busybox.trim(), build.join("bin/busybox")).expect("busybox");
    for applet in ["sh", "mkdir", "touch", "cp", "rm"] {
        symlink("busybox", build.join("bin").join(applet)).expect("a link");
    }
    fs::write(build.join("bin/cargo"), CARGO).expect("a file");
    fs::set_permissions(build.join("bin/cargo"), PermissionsExt::from_mode(0o755)).expect("its mode");
    // Without what is for debuggers: it is the larger part by far.
    sh(&format!("strip -o '{}' '{}'", build.join("shaper").display(), program().display()));
    for library in libraries() {
        let copy = system.join(library.strip_prefix("/").expect("an absolute path"));
        fs::create_dir_all(copy.parent().expect("a directory")).expect("a directory");
        fs::copy(&library, copy).expect("a library");
    }
    let dockerfile = read("Dockerfile");
    let mut bases = dockerfile.lines().filter_map(|line| line.strip_prefix("FROM ")?.split(' ').next());
    import(docker, &build, bases.next().expect("a stage"));
    import(docker, &system, bases.next().expect("another"));
}

/// The README's `docker run`, with the socket of the test's own Docker, and without the option or capability `without`.
fn start(docker: &DockerDaemon, without: Option<&str>) {
    let words = docker_run();
    let mut run = Vec::new();
    for word in &words[1..] {
        if without == Some(word) {
            if !word.starts_with('-') {
                run.pop();
            }
            continue;
        }
        let word = word.replace("/var/run/docker.sock:/", &format!("{}:/", docker.socket().display()));
        run.push(word.replace("seccomp=", &format!("seccomp={}/", root().display())));
    }
    docker.docker(&run.iter().map(String::as_str).collect::<Vec<_>>()).expect("it starts");
}

fn shaper(docker: &DockerDaemon, line: &str) -> Result<String, String> {
    let words: Vec<_> = ["exec", "shaper", "shaper"].into_iter().chain(line.split(' ')).collect();
    docker.docker(&words).map_err(|error| format!("{error:#}"))
}

fn eventually_lists(docker: &DockerDaemon, name: &str) {
    eventually(&format!("{name} is listed"), || {
        shaper(docker, "list").ok()?.lines().any(|line| line.starts_with(name)).then_some(())
    });
}

fn pings_arrive(docker: &DockerDaemon) -> bool {
    docker.docker(&["exec", "web", "ping", "-c", "3", "-i", "0.1", "-W", "1", "172.17.0.1"]).is_ok()
}

#[test]
fn the_base_image_has_the_libraries_it_needs() {
    for library in libraries() {
        let name = library.file_name().and_then(|name| name.to_str()).expect("a name");
        assert!(LIBRARIES.contains(&name), "debian:bookworm-slim may lack {name}");
    }
}

#[test]
fn the_image_works_with_the_privileges_of_the_readme_and_not_with_less() {
    needs!(Root, Docker);
    let docker = DockerDaemon::start().expect("dockerd");
    // As systemd does; else Docker refuses to let mounts through.
    let shared = docker.command("mount").args(["--make-rshared", "/run"]).status().expect("mount runs");
    assert!(shared.success());
    import_stand_ins(&docker);
    docker.docker(&["build", "-t", &image(), &root().to_string_lossy()]).expect("the image is built");
    docker.run("web", &[]).expect("a container");

    start(&docker, None);
    eventually_lists(&docker, "web");
    assert!(pings_arrive(&docker));
    shaper(&docker, "set web --loss 100% --direction both").expect("it may do all that this needs");
    assert!(!pings_arrive(&docker));
    let named = docker.command("ip").args(["netns", "add", "later"]).status().expect("ip runs");
    assert!(named.success());
    eventually_lists(&docker, "later");
    docker.rm("shaper").expect("removed");
    assert!(!pings_arrive(&docker), "shaping outlives the container of the daemon");

    let namespaces = ["--pid=host", "--net=host"];
    for option in namespaces.into_iter().chain(["SYS_PTRACE"]) {
        start(&docker, Some(option));
        eventually(&format!("without {option} it is said"), || {
            let list = shaper(&docker, "list").ok()?;
            let web = list.lines().find(|line| line.starts_with("web"))?;
            (web.contains("unknown: ") && list.contains(option)).then_some(())
        });
        let refusal = shaper(&docker, "clear web").expect_err(option);
        assert!(refusal.contains(option), "{refusal}");
        docker.rm("shaper").expect("removed");
        assert!(!pings_arrive(&docker), "what it does not see stays");
    }

    start(&docker, None);
    eventually_lists(&docker, "web");
    let cleared = shaper(&docker, "clear web").expect("it was adopted");
    assert!(cleared.contains("is no longer shaped"), "{cleared}");
    assert!(pings_arrive(&docker));
    docker.rm("shaper").expect("removed");

    for option in namespaces {
        start(&docker, Some(option));
        eventually_lists(&docker, "web");
        let refusal = shaper(&docker, "set web --loss 1%").expect_err(option);
        assert!(refusal.contains(option), "{refusal}");
        docker.rm("shaper").expect("removed");
    }
    for capability in ["NET_ADMIN", "SYS_ADMIN", "SYS_PTRACE"] {
        assert!(option(&docker_run(), "--cap-add").contains(&capability.to_owned()));
        start(&docker, Some(capability));
        eventually_lists(&docker, "web");
        let refusal = shaper(&docker, "set web --loss 1%").expect_err(capability);
        println!("without {capability}: {refusal}");
        docker.rm("shaper").expect("removed");
    }
}
