//! The deployment files are well-formed, agree with one another and with the README, and name what there is.

use std::{
    collections::BTreeSet,
    process::{Command, Output},
};

use k8s_openapi::api::{
    apps::v1::DaemonSet,
    core::v1::{Container, PodSpec, ServiceAccount},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use shaper_tests::{
    daemon::program,
    documents::{docker_run, image, option, read, root},
};

const PLUGINS: &str = "/var/run/scope/plugins";
const DOCKER_SOCKET: &str = "/var/run/docker.sock";

fn kubernetes() -> Vec<Value> {
    serde_saphyr::from_multiple(&read("deployments/kubernetes.yaml")).expect("YAML")
}

/// The object of a kind, of which every field must be one that Kubernetes knows.
fn strictly<T: Serialize + DeserializeOwned>(kind: &str) -> T {
    let objects = kubernetes();
    let [object] = *objects.iter().filter(|object| object["kind"] == kind).collect::<Vec<_>>() else {
        panic!("there is not one {kind}");
    };
    let typed: T = serde_json::from_value(object.clone()).expect("fields of the right types");
    assert_eq!(serde_json::to_value(&typed).expect("JSON"), *object, "a field that {kind} does not have");
    typed
}

fn pod() -> PodSpec {
    let set: DaemonSet = strictly("DaemonSet");
    set.spec.and_then(|spec| spec.template.spec).expect("a pod")
}

fn container() -> Container {
    let [container] = pod().containers.try_into().expect("one container");
    container
}

fn compose() -> Value {
    serde_saphyr::from_str(&read("deployments/docker-compose.yaml")).expect("YAML")
}

fn strings(value: &Value) -> Vec<String> {
    let list = value.as_array().unwrap_or_else(|| panic!("{value} is no list"));
    list.iter().map(|one| one.as_str().expect("a string").to_owned()).collect()
}

fn set<T: Ord>(all: impl IntoIterator<Item = T>) -> BTreeSet<T> {
    all.into_iter().collect()
}

fn run(arguments: &[String]) -> Output {
    Command::new(program()).args(arguments).output().expect("the program runs")
}

/// Has the real program look at a command line, up to the help that it then prints.
fn accepts(arguments: &[String]) {
    let output = run(&[arguments, &["--help".to_owned()]].concat());
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Returns the default of an option of `shaper serve`, as its help says.
fn default_of(flag: &str) -> String {
    let output = run(&["serve".to_owned(), "--help".to_owned()]);
    let help = String::from_utf8(output.stdout).expect("text");
    let words: Vec<_> = help.split_whitespace().collect();
    let after = words.iter().position(|word| *word == flag).expect("the flag is in the help");
    let default = words[after..].iter().skip_while(|word| **word != "[default:").nth(1);
    default.expect("it has a default").trim_end_matches(']').to_owned()
}

#[test]
fn kubernetes_knows_every_field() {
    let account: ServiceAccount = strictly("ServiceAccount");
    let daemons: DaemonSet = strictly("DaemonSet");
    assert_eq!(kubernetes().len(), 2);
    assert_eq!(account.metadata.namespace.as_deref(), Some("weave"));
    assert_eq!(account.metadata.namespace, daemons.metadata.namespace);
    let (spec, pod) = (daemons.spec.expect("a spec"), pod());
    assert_eq!(spec.selector.match_labels, spec.template.metadata.expect("labels").labels);
    assert_eq!(pod.service_account_name, account.metadata.name);
    assert_eq!(pod.automount_service_account_token, Some(false), "it asks the API server nothing");
}

#[test]
fn the_pod_is_where_the_hosts_veths_and_processes_are() {
    let pod = pod();
    assert_eq!((pod.host_network, pod.host_pid), (Some(true), Some(true)));
}

#[test]
fn the_pod_resolves_the_clusters_names() {
    assert_eq!(pod().dns_policy.as_deref(), Some("ClusterFirstWithHostNet"), "it is on the host's network");
}

#[test]
fn every_volume_is_mounted_and_every_mount_is_a_volume() {
    let volumes = pod().volumes.expect("volumes");
    let mounts = container().volume_mounts.expect("mounts");
    let names = |mounted: bool| match mounted {
        true => set(mounts.iter().map(|mount| mount.name.clone())),
        false => set(volumes.iter().map(|volume| volume.name.clone())),
    };
    assert_eq!(names(true), names(false));
    assert_eq!((names(true).len(), names(false).len()), (mounts.len(), volumes.len()), "a name twice");
    for volume in &volumes {
        let host = volume.host_path.as_ref().expect("all are the host's");
        let mount = mounts.iter().find(|mount| mount.name == volume.name).expect("it is mounted");
        let is_elsewhere = mount.mount_path == format!("/host{}", host.path);
        assert!(
            mount.mount_path == host.path || is_elsewhere,
            "{}: inspect's paths are the host's",
            host.path
        );
    }
}

/// Where a path of the container is on the host, through Kubernetes' mounts; with what is mounted later, if so.
fn on_the_host(path: &str) -> Option<(String, bool)> {
    let mounts = container().volume_mounts?;
    let under =
        |mount: &str| path.strip_prefix(mount).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let mount =
        mounts.iter().filter(|mount| under(&mount.mount_path)).max_by_key(|mount| mount.mount_path.len())?;
    let volume = pod().volumes?.into_iter().find(|volume| volume.name == mount.name)?;
    let rest = path.strip_prefix(&mount.mount_path)?;
    Some((volume.host_path?.path + rest, mount.mount_propagation.as_deref() == Some("HostToContainer")))
}

#[test]
fn what_the_daemon_uses_is_mounted() {
    let arguments = container().args.expect("arguments");
    let used = |flag: &str| {
        let given = option(&arguments, flag);
        given.into_iter().next().unwrap_or_else(|| default_of(flag))
    };
    let at = |flag: &str| on_the_host(&used(flag)).unwrap_or_else(|| panic!("{flag} is not on the host"));
    assert!(at("--plugin-socket").0.starts_with(PLUGINS));
    assert_eq!(at("--pin-dir").0, default_of("--pin-dir"));
    assert_eq!(at("--state-dir").0, default_of("--state-dir"));
    assert_eq!(at("--netns-dir"), (default_of("--netns-dir"), true), "namespaces come and go");
    assert_eq!(at("--docker-socket").0, DOCKER_SOCKET.replace("/var/run", "/run"));
    let cri = option(&arguments, "--cri-socket").into_iter().map(|socket| on_the_host(&socket));
    let cri: Vec<_> = cri.map(|socket| socket.expect("it is on the host").0).collect();
    let page = read("docs/runtimes.md");
    assert!(
        !cri.is_empty() && cri.iter().all(|socket| page.contains(&format!("\n| `{socket}` |"))),
        "{cri:?}"
    );
}

#[test]
fn the_image_and_its_arguments_are_what_there_is() {
    let container = container();
    assert_eq!(container.image.as_deref(), Some(&*image()));
    assert_eq!(container.command, None, "the image knows its program");
    let arguments = container.args.expect("arguments");
    assert_eq!(arguments[0], "serve");
    accepts(&arguments);
    let (entry, _) = entry_point();
    let probes = [container.liveness_probe, container.readiness_probe];
    for (probe, arguments) in probes.into_iter().zip([&["status", "--live"][..], &["status"]]) {
        let probe = probe.and_then(|probe| probe.exec?.command).expect("a command");
        assert_eq!(
            (&probe[0], &probe[1..]),
            (&entry[0], &*arguments.iter().map(|&word| word.to_owned()).collect::<Vec<_>>())
        );
        accepts(&probe[1..]);
    }
    let compose = compose();
    assert_eq!(compose["services"]["shaper"]["image"], *image());
    assert_eq!(docker_run().last(), Some(&image()));
}

#[test]
fn every_way_to_start_it_has_the_same_least_capabilities() {
    let run = docker_run();
    let documented = set(option(&run, "--cap-add"));
    assert_eq!(option(&run, "--cap-drop"), ["ALL"]);
    assert!(!run.contains(&"--privileged".to_owned()));

    let table = read("docs/operations.md");
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `CAP_")?.split('`').next());
    assert_eq!(set(rows.map(str::to_owned)), documented, "the table of capabilities");

    let security = container().security_context.expect("a security context");
    let capabilities = security.capabilities.expect("capabilities");
    assert_eq!(capabilities.drop, Some(vec!["ALL".to_owned()]));
    assert_eq!(set(capabilities.add.expect("some")), documented);
    assert_eq!((security.privileged, security.read_only_root_filesystem), (None, Some(true)));

    let shaper = &compose()["services"]["shaper"];
    assert_eq!(strings(&shaper["cap_drop"]), ["ALL"]);
    assert_eq!(set(strings(&shaper["cap_add"])), documented);
    assert_eq!(shaper.get("privileged"), None);
    // Compose looks for the list of system calls beside its own file.
    let options = option(&run, "--security-opt");
    let options: Vec<_> = options.iter().map(|option| option.replace("=deployments/", "=")).collect();
    assert_eq!(strings(&shaper["security_opt"]), options);
}

#[test]
fn compose_starts_it_as_the_readme_does() {
    let (compose, run) = (compose(), docker_run());
    let services = compose["services"].as_object().expect("services");
    assert_eq!(set(services.keys().map(String::as_str)), set(["scope", "shaper"]));
    let (scope, shaper) = (&services["scope"], &services["shaper"]);
    assert_eq!(set(strings(&shaper["volumes"])), set(option(&run, "-v")));
    assert_eq!(shaper["restart"], *option(&run, "--restart")[0]);
    assert_eq!(shaper["read_only"] == true, run.contains(&"--read-only".to_owned()));
    for service in [scope, shaper] {
        assert_eq!((&service["network_mode"], &service["pid"]), (&"host".into(), &"host".into()));
        let plugins = format!("{PLUGINS}:{PLUGINS}");
        assert!(strings(&service["volumes"]).contains(&plugins), "that is where they meet");
    }
    assert_eq!(
        (option(&run, "--net"), option(&run, "--pid")),
        (vec!["host".to_owned()], vec!["host".to_owned()])
    );
    assert_eq!(scope["image"], "weaveworks/scope:1.13.2");
    assert!(strings(&scope["volumes"]).contains(&format!("{DOCKER_SOCKET}:{DOCKER_SOCKET}")));
    let context = root().join("deployments").join(shaper["build"].as_str().expect("a directory"));
    assert!(context.join("Dockerfile").exists());
}

#[test]
fn what_docker_mounts_is_where_the_daemon_looks() {
    let targets: Vec<_> = option(&docker_run(), "-v")
        .iter()
        .map(|volume| volume.split(':').nth(1).expect("a target").to_owned())
        .collect();
    for flag in ["--plugin-socket", "--docker-socket", "--netns-dir", "--pin-dir", "--state-dir"] {
        let path = default_of(flag);
        assert!(
            targets.iter().any(|target| path.starts_with(target)),
            "{flag} {path} is not among {targets:?}"
        );
    }
}

/// The instructions of the Dockerfile's stages, each a word and what follows it.
fn stages() -> Vec<Vec<(String, String)>> {
    let text = read("Dockerfile").replace("\\\n", " ");
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut stages: Vec<Vec<_>> = Vec::new();
    for line in lines {
        let (word, rest) = line.split_once(' ').expect("an instruction has arguments");
        if word == "FROM" {
            stages.push(Vec::new());
        }
        let stage = stages.last_mut().expect("it begins with FROM");
        stage.push((word.to_owned(), rest.trim().to_owned()));
    }
    stages
}

fn all<'a>(stage: &'a [(String, String)], word: &str) -> Vec<&'a str> {
    stage.iter().filter(|(instruction, _)| instruction == word).map(|(_, rest)| &**rest).collect()
}

/// The image's ENTRYPOINT and CMD.
fn entry_point() -> (Vec<String>, Vec<String>) {
    let stages = stages();
    let json = |word| {
        let [list] = *all(stages.last().expect("a stage"), word) else { panic!("there is not one {word}") };
        serde_json::from_str(list).expect("a list in JSON")
    };
    (json("ENTRYPOINT"), json("CMD"))
}

#[test]
fn the_image_starts_the_binary_that_was_built() {
    let stages = stages();
    let [build, image] = &*stages else { panic!("there are not two stages") };
    let (entry, command) = entry_point();
    accepts(&command);
    let [copy] = *all(image, "COPY") else { panic!("more than the binary is copied") };
    let [from, source, target] = *copy.split_whitespace().collect::<Vec<_>>() else { panic!("{copy}") };
    let name = all(build, "FROM")[0].rsplit_once(" AS ").expect("it has a name").1;
    assert_eq!(from, format!("--from={name}"));
    assert_eq!([target], *entry);
    let [check] = *all(image, "HEALTHCHECK") else { panic!("there is not one check") };
    let (_, check) = check.split_once(" CMD ").expect("a command");
    let check: Vec<String> = serde_json::from_str(check).expect("a list in JSON");
    assert_eq!(check[0], target);
    accepts(&check[1..]);
    let directory = all(build, "WORKDIR")[0];
    assert_eq!(source, format!("{directory}/target/release/shaper"));
    assert!(all(build, "RUN").iter().any(|run| run.contains("cargo build --release --locked -p shaper")));
}

#[test]
fn the_images_labels_are_the_packages() {
    let stages = stages();
    let labels = all(stages.last().expect("a stage"), "LABEL").join(" ");
    for (label, value) in [
        ("title", "shaper".to_owned()),
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ("licenses", "Apache-2.0".to_owned()),
    ] {
        let label = format!("org.opencontainers.image.{label}=\"{value}\"");
        assert!(labels.contains(&label), "{label} is not among {labels}");
    }
}

#[test]
fn the_build_copies_each_members_manifest_before_the_sources() {
    let stages = stages();
    let copied: Vec<_> = all(&stages[0], "COPY").into_iter().flat_map(str::split_whitespace).collect();
    let manifest = read("Cargo.toml");
    let members = manifest.lines().find_map(|line| line.strip_prefix("members = ")).expect("members");
    let members: Vec<String> = serde_json::from_str(members).expect("a list");
    for member in members.iter().filter(|member| *member != "xtask") {
        assert!(copied.contains(&&*format!("{member}/Cargo.toml")), "{member} is not among {copied:?}");
    }
    for source in copied.iter().filter(|source| !source.ends_with('/') && **source != "./") {
        assert!(root().join(source).exists(), "there is no {source}");
    }
}
