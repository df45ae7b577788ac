//! Modules that know one another in a circle: none can be read, tested or changed without all of the others.
//!
//! The modules of one directory are compared, by the paths that begin with `super::`, and those at the root of a crate by
//! those that begin with `crate::` as well. Tests do not count.

use std::collections::{BTreeMap, BTreeSet};

use super::layers::{named_after, without_comment};

/// The modules that each module of a directory names.
type Graph = BTreeMap<String, BTreeSet<String>>;

/// Finds the circles among sources, which are paths with texts: for each its directory, and its modules in order.
pub(super) fn find(sources: &[(String, String)]) -> Vec<(String, Vec<String>)> {
    let mut graphs: BTreeMap<String, Graph> = BTreeMap::new();
    let test_modules = test_modules(sources);
    for (path, text) in sources {
        let Some(place) = Place::of(path) else { continue };
        if test_modules.iter().any(|module| {
            path.starts_with(&format!("{module}.rs")) || path.starts_with(&format!("{module}/"))
        }) {
            continue;
        }
        let code: Vec<_> =
            text.lines().take_while(|line| *line != "mod tests {").map(without_comment).collect();
        let siblings = named_after(&code, "super::").into_iter().map(|(_, name)| name);
        graphs.entry(place.directory).or_default().entry(place.module).or_default().extend(siblings);
        let roots = named_after(&code, "crate::").into_iter().map(|(_, name)| name);
        graphs.entry(place.root).or_default().entry(place.of_root).or_default().extend(roots);
    }
    graphs
        .iter()
        .flat_map(|(directory, graph)| circle(graph).map(|found| (directory.clone(), found)))
        .collect()
}

/// Where a source is among the modules.
struct Place {
    /// The directory, and its name there.
    directory: String,
    module: String,
    /// The root of its crate, and the module there that it belongs to.
    root: String,
    of_root: String,
}

impl Place {
    fn of(path: &str) -> Option<Self> {
        let (package, rest) = path.strip_suffix(".rs")?.split_once("/src/")?;
        let root = format!("{package}/src");
        let rest = rest.strip_suffix("/mod").unwrap_or(rest);
        if ["main", "lib"].contains(&rest) || rest.starts_with("bin/") {
            return None;
        }
        let of_root = rest.split('/').next()?.to_owned();
        let (directory, module) = match rest.rsplit_once('/') {
            Some((directory, module)) => (format!("{root}/{directory}"), module.to_owned()),
            None => (root.clone(), rest.to_owned()),
        };
        Some(Self { directory, module, root, of_root })
    }
}

/// The paths, without `.rs`, of modules that are there for tests only.
fn test_modules(sources: &[(String, String)]) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in sources {
        let Some(path) = path.strip_suffix(".rs") else { continue };
        let directory =
            ["/mod", "/main", "/lib"].iter().find_map(|end| path.strip_suffix(end)).unwrap_or(path);
        for (attribute, line) in text.lines().zip(text.lines().skip(1)) {
            let name = line.strip_suffix(';').and_then(|line| line.rsplit_once("mod ")).map(|(_, name)| name);
            if let Some(name) = name.filter(|_| attribute == "#[cfg(test)]") {
                found.push(format!("{directory}/{name}"));
            }
        }
    }
    found
}

/// A circle in a graph, if there is one.
fn circle(graph: &Graph) -> Option<Vec<String>> {
    let mut done = BTreeSet::new();
    graph.keys().find_map(|module| walk(graph, module, &mut Vec::new(), &mut done))
}

fn walk<'a>(
    graph: &'a Graph,
    module: &'a str,
    way: &mut Vec<&'a str>,
    done: &mut BTreeSet<&'a str>,
) -> Option<Vec<String>> {
    if let Some(begin) = way.iter().position(|other| *other == module) {
        return Some(way[begin..].iter().chain([&module]).map(|&name| name.to_owned()).collect());
    }
    if !done.insert(module) {
        return None;
    }
    way.push(module);
    let others = graph[module].iter().filter(|other| *other != module && graph.contains_key(*other));
    let found = others.into_iter().find_map(|other| walk(graph, other, way, done));
    way.pop();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn circles(sources: &[(&str, &str)]) -> Vec<String> {
        let sources: Vec<_> =
            sources.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
        find(&sources)
            .into_iter()
            .map(|(directory, modules)| format!("{directory}: {}", modules.join(" ")))
            .collect()
    }

    #[test]
    fn modules_that_know_one_another_are_found_however_long_the_way_is() {
        assert_eq!(
            circles(&[
                ("a/src/x/one.rs", "use super::{two::Two, zero};\n"),
                ("a/src/x/two.rs", "use super::three;\n"),
                ("a/src/x/three/mod.rs", "fn f() { super::one::g() }\n"),
                ("a/src/x/zero.rs", "// super::one\n"),
                ("b/src/two.rs", "use super::three;\n"),
            ]),
            ["a/src/x: one two three one"]
        );
        assert_eq!(
            circles(&[("a/src/x/one.rs", "use crate::y::Two;\n"), ("a/src/y.rs", "use crate::{x, z};\n")]),
            ["a/src: x y x"]
        );
    }

    #[test]
    fn tests_may_know_everything() {
        assert_eq!(
            circles(&[
                ("a/src/lib.rs", "mod one;\n#[cfg(test)]\nmod samples;\n"),
                ("a/src/one.rs", "fn f() {}\n\n#[cfg(test)]\nmod tests {\n    use crate::samples;\n}\n"),
                ("a/src/samples.rs", "use crate::one;\n"),
            ]),
            [] as [&str; 0]
        );
    }
}
