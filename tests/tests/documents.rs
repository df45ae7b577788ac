//! Tests of the documents: the lines to type work, and quotes are true.

use std::{
    fs,
    os::unix::net::UnixStream,
    path::Path,
    process::{Child, Command, Stdio},
};

use shaper_tests::{
    daemon::{PATIENCE, eventually, program},
    documents::{all, commands, option, read, root, words},
    http::exchange,
};

const SOCKET: &str = "/var/run/scope/plugins/traffic-control/traffic-control.sock";

/// All that the documents tell their readers to type, as words.
fn typed() -> Vec<Vec<String>> {
    all().iter().flat_map(|path| commands(&read(path))).map(|command| words(&command)).collect()
}

/// The commands of `shaper`, as its help lists them.
fn subcommands() -> Vec<String> {
    let output = Command::new(program()).arg("--help").output().expect("the program runs");
    let help = String::from_utf8(output.stdout).expect("text");
    let lines =
        help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let names = lines.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help");
    names.map(str::to_owned).collect()
}

#[test]
fn every_command_has_a_section_with_examples() {
    let page = read("docs/commands.md");
    let typed = typed();
    assert!(!subcommands().is_empty());
    for command in subcommands() {
        assert!(page.contains(&format!("\n### `shaper {command}`\n")), "{command} has no section");
        let example = ["shaper".to_owned(), command.clone()];
        assert!(typed.iter().any(|words| words.starts_with(&example)), "{command} has no example");
    }
}

#[test]
fn the_program_takes_every_example() {
    let directory = tempfile::tempdir().expect("a directory");
    let nobody = directory.path().join("traffic-control.sock");
    put_files(directory.path());
    let mut count = 0;
    for words in typed() {
        // Also what is run in a container: `docker exec shaper shaper list`.
        let Some(at) = words.iter().rposition(|word| word == "shaper") else { continue };
        let arguments = &words[at + 1..];
        let Some(name) = arguments.first().filter(|name| subcommands().contains(name)) else { continue };
        count += 1;
        let mut command = Command::new(program());
        command.args(arguments).current_dir(directory.path());
        // The daemon's own is not to start; the others are to find no daemon, once they are understood.
        let understood = match &**name {
            "serve" => command.arg("--help").output().is_ok_and(|output| output.status.success()),
            "completions" | "explain" | "man" => command.output().is_ok_and(|output| output.status.success()),
            // It may find a problem of the machine.
            "doctor" => command.output().is_ok_and(|output| matches!(output.status.code(), Some(0 | 1))),
            _ => {
                let output = command.env("SHAPER_PLUGIN_SOCKET", &nobody).output().expect("the program runs");
                let said = String::from_utf8_lossy(&output.stderr);
                said.lines().any(|line| line.starts_with("error: no daemon listens on "))
            }
        };
        assert!(understood, "shaper {}", arguments.join(" "));
    }
    assert!(count >= subcommands().len());
}

#[test]
fn the_explanation_in_the_page_is_what_the_program_prints() {
    let page = read("docs/commands.md");
    let block = page.split("$ shaper explain '").nth(1).and_then(|rest| rest.split("```").next());
    let (netem, said) = block.expect("an example").split_once("'\n").expect("its answer");
    let output = Command::new(program()).args(["explain", netem]).output().expect("the program runs");
    assert!(String::from_utf8_lossy(&output.stdout).starts_with(said), "{said}");
}

/// The files that examples name: the policy file, which names a table, and the rule file are the documents' own.
fn put_files(directory: &Path) {
    let first = |kind: &str, document: &str| {
        let page = read(document);
        let file = page.split(&format!("```{kind}\n")).nth(1).expect("a file");
        file.split("```").next().expect("its text").to_owned()
    };
    let (shaping, rules) = (first("toml", "docs/policy-files.md"), first("toml", "docs/rules.md"));
    let exported = first("json", "docs/commands.md");
    for (name, text) in [
        ("evening.toml", &*shaping),
        ("shop.toml", &*rules),
        ("shaping.json", &*exported),
        ("wifi.dist", "# a table\n-8192 0 8192\n"),
        ("cellular.down", "1\n2\n5\n"),
    ] {
        fs::write(directory.join(name), text).expect("it can be written");
    }
}

#[test]
fn every_option_of_serve_is_explained() {
    let output = Command::new(program()).args(["serve", "--help"]).output().expect("the program runs");
    let help = String::from_utf8(output.stdout).expect("text");
    let flags = help.lines().filter_map(|line| line.trim_start().strip_prefix("--")?.split(' ').next());
    let page = read("docs/commands.md");
    for flag in flags {
        assert!(page.contains(&format!("\n| `--{flag}` |")), "--{flag} is not in the table");
    }
}

/// A daemon that sees no containers and can shape none; it needs no privileges.
struct Daemon(Child);

impl Daemon {
    fn start(directory: &Path) -> Self {
        let mut command = Command::new(program());
        command.args(["serve", "--runtime", "netns", "--log-level", "off"]);
        for (flag, name) in [
            ("--plugin-socket", "socket"),
            ("--netns-dir", "netns"),
            ("--pin-dir", "pins"),
            ("--rules-dir", "rules.d"),
            ("--state-dir", "state"),
        ] {
            command.arg(flag).arg(directory.join(name));
        }
        let daemon = Self(command.stdin(Stdio::null()).spawn().expect("the program runs"));
        eventually("it listens", || UnixStream::connect(directory.join("socket")).ok());
        daemon
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Does what curl would do with these words; the status and the body of the answer.
fn curl(words: &[String], socket: &Path) -> (u16, String) {
    let host = if option(words, "--unix-socket").is_empty() { "127.0.0.1:7474" } else { "shaper" };
    let url = words.iter().find_map(|word| word.strip_prefix("http://")?.strip_prefix(host));
    let url = url.expect("a URL of ours");
    let method = option(words, "-X").pop().unwrap_or_else(|| "GET".to_owned());
    let body = option(words, "-d").pop().unwrap_or_default();
    let head = format!("{method} {url} HTTP/1.1\r\nHost: shaper\r\nConnection: close");
    let request = format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let answer = exchange(socket, request.as_bytes(), PATIENCE, 1 << 20).expect("an answer");
    (answer.status, String::from_utf8(answer.body).expect("text"))
}

#[test]
fn the_api_takes_every_example() {
    let directory = tempfile::tempdir().expect("a directory");
    let _daemon = Daemon::start(directory.path());
    let examples: Vec<_> = typed().into_iter().filter(|words| words[0] == "curl").collect();
    for words in &examples {
        assert!([vec![SOCKET.to_owned()], vec![]].contains(&option(words, "--unix-socket")));
        let (status, answer) = curl(words, &directory.path().join("socket"));
        let is_understood = status == 200
            || answer.contains("no container is called")
            || answer.contains("no container fits");
        assert!(is_understood, "{}: {status} {answer}", words.join(" "));
    }
    let page = read("docs/api.md");
    let routes = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once(" /api/v1/"));
    let routes: Vec<_> = routes.map(|(method, rest)| (method, rest.split('`').next())).collect();
    assert_eq!(routes.len(), 18);
    for (method, rest) in routes {
        let path = format!(
            "/api/v1/{}",
            rest.expect("a route").replace("NAME", "web").replace("SELECTOR", "label:app=web")
        );
        let is_shown = |words: &Vec<String>| {
            let of = option(words, "-X").pop().unwrap_or_else(|| "GET".to_owned());
            of == method && words.iter().any(|word| *word == format!("http://shaper{path}"))
        };
        assert!(examples.iter().any(is_shown), "{method} {path} has no example");
    }
}

/// The anchors of a document's headings, as Markdown viewers make them.
fn anchors(document: &Path) -> Vec<String> {
    let slug = |heading: &str| {
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -".contains(*c));
        kept.collect::<String>().to_lowercase().replace(' ', "-")
    };
    let text = fs::read_to_string(document).expect("a document");
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings.map(|line| slug(line.trim_start_matches('#').trim())).collect()
}

#[test]
fn links_lead_somewhere() {
    for document in all() {
        let path = root().join(&document);
        let text = read(&document);
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.starts_with("https://") {
                continue;
            }
            let (file, anchor) =
                link.split_once('#').map_or((link, None), |(file, anchor)| (file, Some(anchor)));
            let target =
                if file.is_empty() { path.clone() } else { path.parent().expect("a directory").join(file) };
            assert!(target.exists(), "{document}: there is no {link}");
            if let Some(anchor) = anchor {
                assert!(anchors(&target).contains(&anchor.to_owned()), "{document}: there is no {link}");
            }
        }
    }
}

#[test]
fn the_readme_is_one_page_and_links_to_all_others() {
    let readme = read("README.md");
    assert!(readme.len() <= 9 * 1024, "{} bytes", readme.len());
    for document in all().iter().filter(|document| *document != "README.md") {
        assert!(readme.contains(&format!("]({document})")), "no link to {document}");
    }
}

/// The sources of the daemon, without line breaks within strings.
fn sources(directory: &Path) -> String {
    let entries = fs::read_dir(directory).expect("a directory").flatten().map(|entry| entry.path());
    entries
        .map(|path| match path.extension().and_then(|extension| extension.to_str()) {
            Some("rs") => {
                let text = fs::read_to_string(&path).expect("text");
                let mut parts = text.split("\\\n");
                let first = parts.next().unwrap_or_default().to_owned();
                parts.fold(first, |text, part| text + part.trim_start())
            }
            None if path.is_dir() => sources(&path),
            _ => String::new(),
        })
        .collect()
}

#[test]
fn errors_are_quoted_as_they_are() {
    let of = |package: &str| sources(&root().join(package).join("src"));
    let sources = ["shaper", "shaper-policy", "shaper-ebpf"].map(of).concat();
    let page = read("docs/troubleshooting.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |"));
    let quotes: Vec<_> = rows.flat_map(|(quotes, _)| quotes.split("`, `")).collect();
    assert!(quotes.len() > 30, "{quotes:?}");
    for quote in quotes {
        assert!(sources.contains(quote), "the daemon does not say {quote:?}");
    }
}

#[test]
fn automation_is_named_as_it_is() {
    let tasks = read("xtask/src/main.rs");
    for words in typed().iter().filter(|words| words.starts_with(&["cargo".to_owned(), "xtask".to_owned()])) {
        let task = &words[2];
        let (first, rest) = task.split_at(1);
        let variant = first.to_uppercase() + rest;
        let is_task = ["(", ",", " {"].iter().any(|after| tasks.contains(&format!("\n    {variant}{after}")));
        assert!(is_task, "cargo xtask {task}");
    }
}

#[test]
fn the_architecture_names_every_module_and_only_tests_there_are() {
    let text = read("ARCHITECTURE.md");
    for entry in fs::read_dir(root().join("shaper/src")).expect("a directory").flatten() {
        let name = entry.file_name().to_string_lossy().trim_end_matches(".rs").to_owned();
        assert!(
            text.contains(&format!("`{name}`")) || text.contains(&format!("`{name}/`")),
            "{name} is not explained"
        );
    }
    let tests = sources(&root().join("shaper"))
        + &sources(&root().join("tests"))
        + &sources(&root().join("xtask"))
        + &sources(&root().join("shaper-common"))
        + &sources(&root().join("shaper-policy"));
    let rows = text.lines().filter(|line| line.starts_with("| ") && line.contains("::"));
    let mut count = 0;
    for named in
        rows.flat_map(|row| row.split('`').skip(1).step_by(2)).filter_map(|code| code.rsplit_once("::"))
    {
        count += 1;
        assert!(tests.contains(&format!("fn {}(", named.1)), "there is no test {}::{}", named.0, named.1);
    }
    assert!(count > 10, "the invariants name their guards");
}
