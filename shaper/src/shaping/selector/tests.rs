use proptest::prelude::*;

use super::*;
use crate::shaping::{ContainerState, Pod};

fn container(name: &str) -> Container {
    let id = ContainerId::new(format!("{name}-id").replace('/', "-")).expect("an id");
    Container::new(id, name.to_owned(), RuntimeName::Docker, ContainerState::Running, None)
}

fn labelled(name: &str, labels: &[(&str, &str)]) -> Container {
    let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    Container { labels, ..container(name) }
}

/// A world with all that selectors ask for.
fn all() -> Vec<Container> {
    let pod = |namespace: Option<&str>, name: &str| {
        Some(Pod { namespace: namespace.map(str::to_owned), name: name.to_owned(), uid: None })
    };
    let image = |name: &str, image: &str| Container { image: Some(image.to_owned()), ..container(name) };
    vec![
        container("web"),
        container("web-1"),
        container("web-22"),
        labelled("app", &[("app", "web"), ("empty", ""), ("a,b", "c+d")]),
        labelled(
            "shop-web-1",
            &[("com.docker.compose.project", "shop"), ("com.docker.compose.service", "web"), ("app", "db")],
        ),
        labelled(
            "stack_web.1",
            &[("com.docker.stack.namespace", "stack"), ("com.docker.swarm.service.name", "stack_web")],
        ),
        Container { pod: pod(Some("shop"), "web-7f9"), ..container("shop/web-7f9/nginx") },
        Container { pod: pod(None, "web-local"), runtime: RuntimeName::Podman, ..container("local") },
        image("one", "nginx:1.25"),
        image("two", "docker.io/library/nginx@sha256:0123"),
        image("three", "registry.example:5000/team/nginx"),
        Container { runtime: RuntimeName::Netns, ..container("a,b") },
    ]
}

fn selected(texts: &[&str]) -> Vec<String> {
    let selector = Selector::parse(texts.iter().copied()).unwrap_or_else(|error| panic!("{error}"));
    let all = all();
    let resolve = |name: &str| {
        let found = all.iter().find(|one| one.name == name || one.id.as_str() == name);
        found.cloned().ok_or_else(|| ShapingError::NotFound { name: name.to_owned(), near: Vec::new() })
    };
    let meant = selector.meant(false, resolve).unwrap_or_else(|error| panic!("{error}"));
    all.iter().filter(|one| selector.fits(one, &meant)).map(|one| one.name.clone()).collect()
}

#[test]
fn containers_are_selected_by_what_they_have() {
    for (text, names) in [
        ("web", &["web"][..]),
        ("web-id", &["web"]),
        ("web-*", &["web-1", "web-22"]),
        ("web-?", &["web-1"]),
        ("re:^web-[0-9]+$", &["web-1", "web-22"]),
        ("re:b-1", &["web-1", "shop-web-1"]),
        ("!re:.", &[]),
        ("label:app", &["app", "shop-web-1"]),
        ("label:app=web", &["app"]),
        ("label:app=*b", &["app", "shop-web-1"]),
        ("label:empty=", &["app"]),
        (r"label:a\,b=c\+d", &["app"]),
        ("service:web", &["shop-web-1", "stack_web.1"]),
        ("service:stack_web", &["stack_web.1"]),
        ("project:shop", &["shop-web-1"]),
        ("pod:shop/web-*", &["shop/web-7f9/nginx"]),
        ("pod:web-*", &["shop/web-7f9/nginx", "local"]),
        ("ns:shop", &["shop/web-7f9/nginx"]),
        ("shop/*", &["shop/web-7f9/nginx"]),
        ("image:nginx", &["one", "two"]),
        ("image:nginx:1.*", &["one"]),
        ("image:*nginx", &["one", "two", "three"]),
        ("image:registry.example:5000/team/nginx", &["three"]),
        ("runtime:podman", &["local"]),
        (r"a\,b", &["a,b"]),
        ("web,web-1", &["web", "web-1"]),
        ("web-*+!web-1", &["web-22"]),
        ("label:app+!project:shop,runtime:podman", &["app", "local"]),
        ("!!web", &["web"]),
        ("web+web-1", &[]),
    ] {
        assert_eq!(selected(&[text]), names, "{text}");
    }
    assert_eq!(selected(&["all"]).len(), all().len());
    assert_eq!(selected(&["re:^web$", "re:^local$"]), ["web", "local"], "several arguments are an or");
}

#[test]
fn only_one_name_alone_is_a_name() {
    let name = |texts: &[&str]| {
        let selector = Selector::parse(texts.iter().copied()).expect("a selector");
        selector.as_name().map(str::to_owned)
    };
    for (text, is) in [
        ("web", Some("web")),
        ("shop/web/nginx", Some("shop/web/nginx")),
        ("../../version", Some("../../version")),
        (r"a\,b", Some("a,b")),
        ("a[b", Some("a[b")),
        ("\u{1b}[31m", Some("\u{1b}[31m")),
        ("all", None),
        (r"\all", Some("all")),
        ("web*", None),
        ("!web", None),
        ("web,db", None),
        ("label:app", None),
    ] {
        assert_eq!(name(&[text]).as_deref(), is, "{text}");
    }
    assert_eq!(name(&["web", "db"]), None);
}

#[test]
fn errors_say_what_is_wrong_and_where() {
    let error = |text: &str| Selector::parse([text]).expect_err("no selector").to_string();
    let mut shown = String::new();
    for text in [
        "",
        "web,",
        "web++db",
        "!",
        "web,lable:app=web",
        "color:red",
        "label:",
        "label:=web",
        "image:",
        "re:",
        "web+re:[",
        &"x".repeat(5000),
        &"x,".repeat(300),
    ] {
        shown.push_str(&format!("{:.40}\n  {}\n", text, error(text)));
    }
    insta::assert_snapshot!(shown, @r#"

      selector "" at character 1: expected a name, a pattern such as 'shop-*', a kind such as label:app=web, or all
    web,
      selector "web," at character 5: expected a name, a pattern such as 'shop-*', a kind such as label:app=web, or all
    web++db
      selector "web++db" at character 5: expected a name, a pattern such as 'shop-*', a kind such as label:app=web, or all
    !
      selector "!" at character 2: expected a name, a pattern such as 'shop-*', a kind such as label:app=web, or all
    web,lable:app=web
      selector "web,lable:app=web" at character 5: unknown kind "lable"; did you mean "label"?
    color:red
      selector "color:red" at character 1: unknown kind "color": expected one of label, service, project, pod, ns, image, runtime, re; a colon in a name is \:
    label:
      selector "label:" at character 1: expected a value, for example label:app=web
    label:=web
      selector "label:=web" at character 1: expected a value, for example label:app=web
    image:
      selector "image:" at character 1: expected a value, for example image:nginx
    re:
      selector "re:" at character 1: expected a value, for example re:^web-[0-9]+$
    web+re:[
      selector "web+re:[" at character 5: invalid regular expression "[": unclosed character class
    xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx
      selector "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"...: expected at most 4096 bytes
    x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,
      selector "x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,"...: expected at most 256 names and kinds
    "#);
    assert!(Selector::parse([""; 0]).is_err());
}

/// A selector as its meaning: sets of containers.
#[derive(Clone, Debug)]
enum Meaning {
    All,
    /// The name of the container at an index.
    Name(usize),
    /// A first letter, and anything behind it.
    Beginning(char),
    Label(char, Option<char>),
    Namespace(char),
}

/// Containers of which some have each thing that [`Meaning`] asks for.
fn crowd() -> impl Strategy<Value = Vec<Container>> {
    let one = ("[ab]", prop::collection::btree_map("[kl]", "[vw]", 0..3), prop::option::of("[mn]"));
    prop::collection::vec(one, 1..8).prop_map(|all| {
        let numbered = all.into_iter().enumerate();
        let container =
            |(number, (letter, labels, namespace)): (usize, (String, _, Option<String>))| Container {
                labels,
                pod: namespace.map(|namespace| Pod {
                    namespace: Some(namespace),
                    name: "p".to_owned(),
                    uid: None,
                }),
                ..container(&format!("{letter}{number}"))
            };
        numbered.map(container).collect()
    })
}

fn meanings() -> impl Strategy<Value = Meaning> {
    prop_oneof![
        Just(Meaning::All),
        (0..8_usize).prop_map(Meaning::Name),
        prop::char::range('a', 'c').prop_map(Meaning::Beginning),
        (prop::char::range('k', 'm'), prop::option::of(prop::char::range('v', 'x')))
            .prop_map(|(key, value)| Meaning::Label(key, value)),
        prop::char::range('m', 'o').prop_map(Meaning::Namespace),
    ]
}

impl Meaning {
    fn text(&self, all: &[Container]) -> String {
        match self {
            Self::All => "all".to_owned(),
            Self::Name(index) => all[index % all.len()].name.clone(),
            Self::Beginning(letter) => format!("{letter}*"),
            Self::Label(key, None) => format!("label:{key}"),
            Self::Label(key, Some(value)) => format!("label:{key}={value}"),
            Self::Namespace(namespace) => format!("ns:{namespace}"),
        }
    }

    /// The indices of the containers that it means.
    fn of(&self, all: &[Container]) -> std::collections::BTreeSet<usize> {
        let those =
            |is: &dyn Fn(&Container) -> bool| (0..all.len()).filter(|index| is(&all[*index])).collect();
        match self {
            Self::All => (0..all.len()).collect(),
            Self::Name(index) => [index % all.len()].into(),
            Self::Beginning(letter) => those(&|one| one.name.starts_with(*letter)),
            Self::Label(key, value) => those(&|one| {
                let own = one.labels.get(&key.to_string());
                own.is_some_and(|own| value.is_none_or(|value| *own == value.to_string()))
            }),
            Self::Namespace(namespace) => those(&|one| {
                let of = |pod: &Pod| pod.namespace.clone();
                one.pod.as_ref().and_then(of) == Some(namespace.to_string())
            }),
        }
    }
}

proptest! {
    #[test]
    fn a_selector_means_the_union_of_intersections(
        all in crowd(),
        any in prop::collection::vec(prop::collection::vec((any::<bool>(), meanings()), 1..4), 1..4),
        together in any::<bool>(),
    ) {
        let mut expected = std::collections::BTreeSet::new();
        let mut texts = Vec::new();
        for parts in &any {
            let mut both: std::collections::BTreeSet<usize> = (0..all.len()).collect();
            let mut words = Vec::new();
            for (except, meaning) in parts {
                let of = meaning.of(&all);
                both = if *except { &both - &of } else { &both & &of };
                words.push(format!("{}{}", if *except { "!" } else { "" }, meaning.text(&all)));
            }
            expected.extend(both);
            texts.push(words.join("+"));
        }
        let texts = if together { vec![texts.join(",")] } else { texts };
        let selector = Selector::parse(texts.clone()).expect("a selector");
        let find = |name: &str| Ok(all.iter().find(|one| one.name == name).expect("a name").clone());
        let meant = selector.meant(false, find).expect("names of containers");
        let found: std::collections::BTreeSet<usize> =
            (0..all.len()).filter(|index| selector.fits(&all[*index], &meant)).collect();
        prop_assert_eq!(&found, &expected, "{}", selector);
        // A name that none but its container begins with means the same without knowing all.
        let loosely: std::collections::BTreeSet<usize> =
            (0..all.len()).filter(|index| selector.fits_loosely(&all[*index])).collect();
        prop_assert_eq!(&loosely, &expected, "{}", selector);
        let shown = selector.to_string();
        prop_assert_eq!(Selector::parse(shown.split(' ')), Ok(selector));
    }

    #[test]
    fn any_name_can_be_written(name in "\\PC{1,12}") {
        let selector = Selector::parse([Selector::escaped(&name)]).expect("a selector");
        prop_assert_eq!(selector.as_name(), Some(&*name));
        prop_assert_eq!(selector.names().collect::<Vec<_>>(), [&*name]);
    }
}

#[test]
fn plain_names_are_written_as_they_are_unless_they_mean_something() {
    assert_eq!(Selector::escaped("web-1.a_b"), "web-1.a_b");
    assert_eq!(Selector::escaped("a:b,c"), r"a\:b\,c");
    let selector = Selector::parse([Selector::escaped("all")]).expect("a selector");
    assert_eq!(selector.as_name(), Some("all"));
}
