//! A plan as a document: a policy file in TOML or JSON, a body for the HTTP API, and what is kept in the kernel.
//!
//! What is wrong is said where it is: each value is checked while it is read. What only shows at the end of a table is
//! found by reading once, and said by reading again up to the value that is to blame.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    fmt,
};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use super::{
    deliveries::Deliveries,
    distribution::Distribution,
    effects::{CLAUSES, Draft, Effects, Named},
    plan::{Course, Plan, Step, Target},
    policy::parse_duration,
    selector::{Peer, Selector},
};

/// How a document is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// As `Cargo.toml` is.
    Toml,
    /// As our HTTP API is.
    Json,
}

/// Where the files are that a document names in place of tables.
pub(crate) trait Files {
    /// The distribution in the file at `path`.
    ///
    /// # Errors
    ///
    /// When there is none.
    fn distribution(&self, name: &str, path: &str) -> Result<Distribution, String>;

    /// The delivery trace in the file at `path`.
    ///
    /// # Errors
    ///
    /// When there is none.
    fn trace(&self, name: &str, path: &str) -> Result<Deliveries, String>;
}

/// Where no file may be named.
pub(crate) struct NoFiles;

impl NoFiles {
    fn refuse<T>(path: &str) -> Result<T, String> {
        Err(format!("{path:?} is no list of numbers: only the command line reads files"))
    }
}

impl Files for NoFiles {
    fn distribution(&self, _: &str, path: &str) -> Result<Distribution, String> {
        Self::refuse(path)
    }

    fn trace(&self, _: &str, path: &str) -> Result<Deliveries, String> {
        Self::refuse(path)
    }
}

impl Plan {
    /// Reads a plan; names are those of its own tables and of `named`.
    ///
    /// # Errors
    ///
    /// When it is not well-formed, or says what cannot be: with the line that does.
    pub(crate) fn parse(
        text: &str,
        format: Format,
        files: &dyn Files,
        named: &Named,
    ) -> Result<Self, String> {
        match format {
            Format::Toml => read(files, named, || toml::Deserializer::parse(text), |error| error.to_string()),
            Format::Json => {
                let plan = read_json(text, files, named);
                plan.map_err(|error| error.to_string())
            }
        }
    }
}

fn read_json(text: &str, files: &dyn Files, named: &Named) -> Result<Plan, serde_json::Error> {
    let mut named = named.clone();
    let mut json = serde_json::Deserializer::from_str(text);
    OnlyTables { files, named: &mut named }.deserialize(&mut json)?;
    json.end()?;
    twice(&named, |document| document.deserialize(&mut serde_json::Deserializer::from_str(text)))
}

/// Reads tables first, and then the rest, from a deserializer made anew each time.
fn read<'de, D: Deserializer<'de>, E: From<D::Error>>(
    files: &dyn Files,
    named: &Named,
    make: impl Fn() -> Result<D, E>,
    show: impl Fn(E) -> String,
) -> Result<Plan, String> {
    let mut named = named.clone();
    let tables = || OnlyTables { files, named: &mut named }.deserialize(make()?).map_err(E::from);
    let mut tables = tables;
    tables().map_err(&show)?;
    twice(&named, |document| Ok(document.deserialize(make()?)?)).map_err(show)
}

/// Reads a document, and if what is wrong only showed at the end of a table, once more.
fn twice<T, E>(named: &Named, read: impl Fn(Document<'_>) -> Result<T, E>) -> Result<T, E> {
    let context = Context { named, tables: Cell::new(0), blamed: RefCell::default() };
    read(Document { context: &context }).or_else(|error| {
        if context.blamed.borrow().is_none() {
            return Err(error);
        }
        context.tables.set(0);
        read(Document { context: &context }).and(Err(error))
    })
}

impl<'de> Deserialize<'de> for Plan {
    /// Without files, by way of a value that is read as often as needed.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        let made = || Ok::<_, serde_json::Error>(&value);
        read(&NoFiles, &Named::default(), made, |error| error.to_string()).map_err(D::Error::custom)
    }
}

/// What the tables of a document have in common.
struct Context<'a> {
    named: &'a Named,
    /// How many were begun.
    tables: Cell<usize>,
    /// What is wrong with which key of which table.
    blamed: RefCell<Option<(usize, String, String)>>,
}

impl Context<'_> {
    /// The number of a table that begins.
    fn begin(&self) -> usize {
        self.tables.replace(self.tables.get() + 1)
    }

    /// Blames the key of `table` that `error` names first or, if there is none, `usual` or the first one.
    fn blame<E: Error>(&self, table: &Keys, usual: &str, error: String) -> E {
        let mut words =
            error.split_whitespace().map(|word| word.trim_matches(|c: char| !c.is_alphanumeric()));
        let named = words.find_map(|word| table.keys.iter().find(|key| *key == word));
        if let Some(key) = named.or(table.keys.iter().find(|key| *key == usual)).or(table.keys.first()) {
            self.blamed.borrow_mut().get_or_insert_with(|| (table.number, key.clone(), error.clone()));
        }
        E::custom(error)
    }
}

/// The keys of a table, as far as it was read.
struct Keys {
    number: usize,
    keys: Vec<String>,
}

impl Keys {
    fn of(context: &Context<'_>) -> Self {
        Self { number: context.begin(), keys: Vec::new() }
    }

    fn next<'de, A: MapAccess<'de>>(
        &mut self,
        map: &mut A,
        known: &'static [&'static str],
    ) -> Result<Option<String>, A::Error> {
        let Some(key) = map.next_key_seed(Key { known, before: &self.keys })? else { return Ok(None) };
        self.keys.push(key.clone());
        Ok(Some(key))
    }

    /// The value of the last key.
    fn value<'de, A: MapAccess<'de>, S: DeserializeSeed<'de>>(
        &self,
        map: &mut A,
        context: &Context<'_>,
        seed: S,
    ) -> Result<S::Value, A::Error> {
        let blamed = context.blamed.borrow().clone();
        let blamed = blamed.filter(|(table, key, _)| *table == self.number && self.keys.last() == Some(key));
        map.next_value_seed(Blamed { error: blamed.map(|(_, _, error)| error), seed })
    }
}

/// A key that is known and new.
struct Key<'a> {
    known: &'static [&'static str],
    before: &'a [String],
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<String, E> {
        if !self.known.contains(&key) {
            return Err(E::unknown_field(key, self.known));
        }
        if self.before.iter().any(|before| before == key) {
            return Err(E::custom(format!("{key} is there twice: leave one of them out")));
        }
        Ok(key.to_owned())
    }
}

/// A value, or what is wrong with it.
struct Blamed<S> {
    error: Option<String>,
    seed: S,
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Blamed<S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<S::Value, D::Error> {
        self.error.map_or_else(|| self.seed.deserialize(deserializer), |error| Err(D::Error::custom(error)))
    }
}

/// Text that something is made of while it is read. Numbers are text as well, where they `may_be_numbers`.
struct Text<F> {
    expecting: &'static str,
    may_be_number: bool,
    make: F,
}

fn text<T, F: FnOnce(&str) -> Result<T, String>>(expecting: &'static str, make: F) -> Text<F> {
    Text { expecting, may_be_number: false, make }
}

impl<'de, T, F: FnOnce(&str) -> Result<T, String>> DeserializeSeed<'de> for Text<F> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<T, F: FnOnce(&str) -> Result<T, String>> Visitor<'_> for Text<F> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expecting)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        (self.make)(text).map_err(E::custom)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<T, E> {
        if self.may_be_number {
            return self.visit_str(&number.to_string());
        }
        Err(E::invalid_type(serde::de::Unexpected::Unsigned(number), &self))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
        if self.may_be_number {
            return self.visit_str(&number.to_string());
        }
        Err(E::invalid_type(serde::de::Unexpected::Signed(number), &self))
    }
}

/// A list, of which each element is made with the number of its place.
struct List<F> {
    expecting: &'static str,
    element: F,
}

/// Makes the seed of a list's element, or of anything like it.
trait Each<'de> {
    type Value;
    fn read<A: SeqAccess<'de>>(&mut self, list: &mut A) -> Result<Option<Self::Value>, A::Error>;
}

impl<'de, E: Each<'de>> DeserializeSeed<'de> for List<E> {
    type Value = Vec<E::Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, E: Each<'de>> Visitor<'de> for List<E> {
    type Value = Vec<E::Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expecting)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut all = Vec::new();
        while let Some(one) = self.element.read(&mut list)? {
            all.push(one);
        }
        Ok(all)
    }
}

macro_rules! table {
    ($type:ident, $value:ty, $expecting:literal) => {
        impl<'de> DeserializeSeed<'de> for $type<'_> {
            type Value = $value;

            fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<$value, D::Error> {
                deserializer.deserialize_map(self)
            }
        }

        impl<'de> Visitor<'de> for $type<'_> {
            type Value = $value;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str($expecting)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<$value, A::Error> {
                self.read(map)
            }
        }
    };
}

/// The whole of it.
struct Document<'a> {
    context: &'a Context<'a>,
}
table!(Document, Plan, "a plan");

const PLAN_FIELDS: &[&str] = &[
    "seed",
    "netem",
    "delay",
    "loss",
    "duplicate",
    "corrupt",
    "reorder",
    "rate",
    "trace",
    "queue",
    "mark",
    "slot",
    "limit",
    "ecn",
    "repeat",
    "step",
    "target",
    "distributions",
    "traces",
];
const STEP_FIELDS: &[&str] = &[
    "for",
    "ramp",
    "netem",
    "delay",
    "loss",
    "duplicate",
    "corrupt",
    "reorder",
    "rate",
    "trace",
    "queue",
    "mark",
    "slot",
    "limit",
    "ecn",
];
const TARGET_FIELDS: &[&str] = &[
    "to",
    "protocol",
    "port",
    "local-port",
    "netem",
    "delay",
    "loss",
    "duplicate",
    "corrupt",
    "reorder",
    "rate",
    "trace",
    "queue",
    "mark",
    "slot",
    "limit",
    "ecn",
    "repeat",
    "step",
];

impl Document<'_> {
    fn read<'de, A: MapAccess<'de>>(self, mut map: A) -> Result<Plan, A::Error> {
        let context = self.context;
        let (mut keys, mut seed) = (Keys::of(context), None);
        let (mut course, mut targets) = (CourseParts::default(), Vec::new());
        while let Some(key) = keys.next(&mut map, PLAN_FIELDS)? {
            match key.as_str() {
                "seed" => seed = Some(keys.value(&mut map, context, std::marker::PhantomData::<u64>)?),
                "target" => {
                    targets = keys.value(
                        &mut map,
                        context,
                        List { expecting: "targets", element: Targets(context) },
                    )?;
                }
                "distributions" | "traces" => {
                    keys.value(&mut map, context, std::marker::PhantomData::<IgnoredAny>)?;
                }
                _ => course.read(&key, &keys, &mut map, context)?,
            }
        }
        let course = course.finish(&keys, context)?;
        let last = targets.pop();
        let last_keys = last.as_ref().map(|(_, keys)| Keys { number: keys.number, keys: keys.keys.clone() });
        let targets = targets.into_iter().chain(last).map(|(target, _)| target).collect();
        let plan = Plan { seed, course, targets };
        plan.checked().map_err(|error| context.blame(last_keys.as_ref().unwrap_or(&keys), "to", error))
    }
}

/// The effects that a table has, at all times or in steps.
#[derive(Default)]
struct CourseParts {
    draft: Draft,
    has_clauses: bool,
    repeats: Option<bool>,
    steps: Option<Vec<(Step, Keys)>>,
}

impl CourseParts {
    fn read<'de, A: MapAccess<'de>>(
        &mut self,
        key: &str,
        keys: &Keys,
        map: &mut A,
        context: &Context<'_>,
    ) -> Result<(), A::Error> {
        match key {
            "repeat" => self.repeats = Some(keys.value(map, context, std::marker::PhantomData::<bool>)?),
            "step" => {
                self.steps =
                    Some(keys.value(map, context, List { expecting: "steps", element: Steps(context) })?);
            }
            _ => {
                self.has_clauses = true;
                read_clause(&mut self.draft, key, keys, map, context)?;
            }
        }
        Ok(())
    }

    fn finish<E: Error>(self, keys: &Keys, context: &Context<'_>) -> Result<Course, E> {
        let blame = |error: &str| Err(context.blame(keys, "netem", error.to_owned()));
        match self.steps {
            Some(_) if self.has_clauses => {
                blame("there are effects beside steps: put them into a step, or leave the steps out")
            }
            None if self.repeats.is_some() => blame("repeat needs steps: add some"),
            None => {
                let effects = self.draft.finish().map_err(|error| context.blame(keys, "netem", error))?;
                Ok(Course::always(effects))
            }
            Some(steps) => {
                let (steps, tables): (Vec<Step>, Vec<Keys>) = steps.into_iter().unzip();
                Course::new(steps, self.repeats.unwrap_or(false)).map_err(|error| {
                    let number =
                        error.strip_prefix("step ").and_then(|rest| rest.split(' ').next()?.parse().ok());
                    let table = number.and_then(|number: usize| tables.get(number - 1)).or(tables.last());
                    context.blame(table.unwrap_or(keys), "for", error)
                })
            }
        }
    }
}

/// Reads one clause, or any in netem's words.
fn read_clause<'de, A: MapAccess<'de>>(
    draft: &mut Draft,
    key: &str,
    keys: &Keys,
    map: &mut A,
    context: &Context<'_>,
) -> Result<(), A::Error> {
    if key == "ecn" {
        let ecn = keys.value(map, context, std::marker::PhantomData::<bool>)?;
        return if ecn { draft.set_ecn().map_err(A::Error::custom) } else { Ok(()) };
    }
    let clause = CLAUSES.iter().find(|(clause, _)| *clause == key);
    let read = |text: &str| match clause {
        None => draft.read(text, context.named),
        Some((clause, _)) => draft.read_clause(clause, text, context.named),
    };
    keys.value(map, context, Text { expecting: "netem's words", may_be_number: key == "limit", make: read })
}

struct Steps<'a>(&'a Context<'a>);

impl<'de> Each<'de> for Steps<'_> {
    type Value = (Step, Keys);

    fn read<A: SeqAccess<'de>>(&mut self, list: &mut A) -> Result<Option<Self::Value>, A::Error> {
        list.next_element_seed(StepTable { context: self.0 })
    }
}

struct StepTable<'a> {
    context: &'a Context<'a>,
}
table!(StepTable, (Step, Keys), "a step");

impl StepTable<'_> {
    fn read<'de, A: MapAccess<'de>>(self, mut map: A) -> Result<(Step, Keys), A::Error> {
        let context = self.context;
        let (mut keys, mut step, mut draft) = (Keys::of(context), Step::default(), Draft::default());
        while let Some(key) = keys.next(&mut map, STEP_FIELDS)? {
            match key.as_str() {
                "for" => {
                    let lasts = text("a time, for example 10s", |text| parse_duration(text, "time"));
                    step.lasts = Some(keys.value(&mut map, context, lasts)?);
                }
                "ramp" => step.ramp = keys.value(&mut map, context, std::marker::PhantomData::<bool>)?,
                _ => read_clause(&mut draft, &key, &keys, &mut map, context)?,
            }
        }
        step.effects = draft.finish().map_err(|error| context.blame(&keys, "netem", error))?;
        Ok((step, keys))
    }
}

struct Targets<'a>(&'a Context<'a>);

impl<'de> Each<'de> for Targets<'_> {
    type Value = (Target, Keys);

    fn read<A: SeqAccess<'de>>(&mut self, list: &mut A) -> Result<Option<Self::Value>, A::Error> {
        list.next_element_seed(TargetTable { context: self.0 })
    }
}

struct TargetTable<'a> {
    context: &'a Context<'a>,
}
table!(TargetTable, (Target, Keys), "a target");

impl TargetTable<'_> {
    fn read<'de, A: MapAccess<'de>>(self, mut map: A) -> Result<(Target, Keys), A::Error> {
        let context = self.context;
        let (mut keys, mut course) = (Keys::of(context), CourseParts::default());
        let mut to = Selector::default();
        let mut rest = Selector::default();
        while let Some(key) = keys.next(&mut map, TARGET_FIELDS)? {
            let port = |ports| Text { expecting: "ports", may_be_number: true, make: ports };
            match key.as_str() {
                "to" => to = keys.value(&mut map, context, To)?,
                "protocol" => {
                    let protocol = |text: &str| rest.set_protocol(text.parse()?);
                    keys.value(
                        &mut map,
                        context,
                        Text { expecting: "a protocol", may_be_number: true, make: protocol },
                    )?;
                }
                "port" => keys.value(&mut map, context, port(|text: &str| rest.ports.once("port", text)))?,
                "local-port" => {
                    let ports = Text {
                        expecting: "ports",
                        may_be_number: true,
                        make: |text: &str| rest.local_ports.once("local-port", text),
                    };
                    keys.value(&mut map, context, ports)?;
                }
                _ => course.read(&key, &keys, &mut map, context)?,
            }
        }
        let selector = joined(to, rest).map_err(|error| context.blame(&keys, "to", error))?;
        let course = course.finish(&keys, context)?;
        Ok((Target { selector, course }, keys))
    }
}

/// What one line says and what fields say, together.
fn joined(mut line: Selector, fields: Selector) -> Result<Selector, String> {
    if let Some(protocol) = fields.protocol {
        line.set_protocol(protocol)?;
    }
    for (word, place, ports) in
        [("port", &mut line.ports, fields.ports), ("local-port", &mut line.local_ports, fields.local_ports)]
    {
        if ports != Default::default() {
            place.once(word, &ports.to_string())?;
        }
    }
    line.checked()
}

/// One line, or a list of peers.
struct To;

impl<'de> DeserializeSeed<'de> for To {
    type Value = Selector;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Selector, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for To {
    type Value = Selector;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a target, or a list of peers")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Selector, E> {
        text.parse::<Selector>().map_err(E::custom)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Selector, A::Error> {
        let mut peers = Vec::new();
        while let Some(peer) = list.next_element_seed(text("a peer", str::parse::<Peer>))? {
            peers.push(peer);
        }
        if peers.is_empty() {
            return Err(A::Error::custom("a target of nobody: leave `to` out if it is all"));
        }
        Selector::default().with_peers(peers).map_err(A::Error::custom)
    }
}

/// The tables of a document; the rest is not looked at.
struct OnlyTables<'a> {
    files: &'a dyn Files,
    named: &'a mut Named,
}
table!(OnlyTables, (), "a plan");

impl OnlyTables<'_> {
    fn read<'de, A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let files = self.files;
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "distributions" => {
                    let read = |name: &str, path: &str| files.distribution(name, path);
                    map.next_value_seed(Tables {
                        into: &mut self.named.distributions,
                        read,
                        make: |name, entries: Vec<i32>| Distribution::from_entries(name, entries),
                    })?;
                }
                "traces" => {
                    let read = |name: &str, path: &str| files.trace(name, path);
                    map.next_value_seed(Tables {
                        into: &mut self.named.traces,
                        read,
                        make: |name, times: Vec<u32>| Deliveries::from_times(name, times),
                    })?;
                }
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

/// Tables of one kind by name.
struct Tables<'a, T, N, R> {
    into: &'a mut BTreeMap<String, T>,
    read: R,
    make: fn(&str, Vec<N>) -> Result<T, String>,
}

impl<'de, T, N: Deserialize<'de>, R: Fn(&str, &str) -> Result<T, String>> DeserializeSeed<'de>
    for Tables<'_, T, N, R>
{
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, T, N: Deserialize<'de>, R: Fn(&str, &str) -> Result<T, String>> Visitor<'de>
    for Tables<'_, T, N, R>
{
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("tables by name")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<String>()? {
            let table = OneTable { name: &name, read: &self.read, make: self.make };
            let table = map.next_value_seed(table)?;
            self.into.insert(name, table);
        }
        Ok(())
    }
}

/// Numbers, or the path of a file.
struct OneTable<'a, T, N, R> {
    name: &'a str,
    read: &'a R,
    make: fn(&str, Vec<N>) -> Result<T, String>,
}

impl<'de, T, N: Deserialize<'de>, R: Fn(&str, &str) -> Result<T, String>> DeserializeSeed<'de>
    for OneTable<'_, T, N, R>
{
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, T, N: Deserialize<'de>, R: Fn(&str, &str) -> Result<T, String>> Visitor<'de>
    for OneTable<'_, T, N, R>
{
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of numbers, or the path of a file")
    }

    fn visit_str<E: Error>(self, path: &str) -> Result<T, E> {
        (self.read)(self.name, path).map_err(E::custom)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<T, A::Error> {
        let mut numbers = Vec::new();
        while let Some(number) = list.next_element()? {
            numbers.push(number);
        }
        (self.make)(self.name, numbers).map_err(A::Error::custom)
    }
}

impl Serialize for Plan {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Shown::of(self).serialize(serializer)
    }
}

fn is_false(value: &bool) -> bool {
    !value
}

/// A plan as it is written.
#[derive(Serialize)]
struct Shown<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<u64>,
    #[serde(flatten)]
    course: ShownCourse,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    target: Vec<ShownTarget>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    distributions: BTreeMap<&'a str, &'a [i32]>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    traces: BTreeMap<&'a str, &'a [u32]>,
}

#[derive(Serialize)]
struct ShownCourse {
    #[serde(skip_serializing_if = "String::is_empty")]
    netem: String,
    #[serde(skip_serializing_if = "is_false")]
    repeat: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    step: Vec<ShownStep>,
}

#[derive(Serialize)]
struct ShownStep {
    #[serde(skip_serializing_if = "Option::is_none")]
    r#for: Option<String>,
    #[serde(skip_serializing_if = "is_false")]
    ramp: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    netem: String,
}

#[derive(Serialize)]
struct ShownTarget {
    to: String,
    #[serde(flatten)]
    course: ShownCourse,
}

impl<'a> Shown<'a> {
    fn of(plan: &'a Plan) -> Self {
        let target = |target: &Target| ShownTarget {
            to: target.selector.to_string(),
            course: ShownCourse::of(&target.course),
        };
        let distribution = |distribution: &'a Distribution| match distribution {
            Distribution::Table { name, entries } => Some((name.as_str(), &entries[..])),
            _ => None,
        };
        Self {
            seed: plan.seed,
            course: ShownCourse::of(&plan.course),
            target: plan.targets.iter().map(target).collect(),
            distributions: plan.distributions().filter_map(distribution).collect(),
            traces: plan.traces().map(|trace| (trace.name.as_str(), &trace.times_ms[..])).collect(),
        }
    }
}

impl ShownCourse {
    fn of(course: &Course) -> Self {
        if let Some(effects) = course.constant().filter(|_| !course.repeats()) {
            return Self { netem: effects.to_string(), repeat: false, step: Vec::new() };
        }
        let step = |step: &Step| ShownStep {
            r#for: step.lasts.map(|lasts| humantime::format_duration(lasts).to_string()),
            ramp: step.ramp,
            netem: Effects::to_string(&step.effects),
        };
        Self {
            netem: String::new(),
            repeat: course.repeats(),
            step: course.steps().iter().map(step).collect(),
        }
    }
}

#[cfg(test)]
mod tests;
