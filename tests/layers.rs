//! The layers of the crate: which room may import which, and that no files import each other in a circle.
//!
//! The test reads every `use` line and every `crate::…` path of `src/`. Tests inside the crate may import anything.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Rooms of one line do not import each other. A room imports rooms of the lines above its own.
const LAYERS: [&[&str]; 13] = [
    &["bounds", "ids", "memory", "mutants", "prefetch", "progress", "sync"],
    &["routing", "serialised", "storage", "wakes"],
    &["clock", "error"],
    &["options"],
    &["order"],
    &["log"],
    &["partition", "stock"],
    &["checkpoint"],
    &["estimate", "recovery"],
    &["engine"],
    &["testing"],
    &["guide"],
    &["lib"],
];

/// A file of the crate as a path of modules, such as `engine::place`.
type Module = String;

/// Modules, and which others each imports.
type Imports = BTreeMap<Module, BTreeSet<Module>>;

#[test]
fn rooms_import_only_what_lies_above_them() {
    let layer_of = |room: &str| LAYERS.iter().position(|rooms| rooms.contains(&room));
    let mut wrong = Vec::new();
    for (module, imported) in imports() {
        let room = room_of(&module);
        let Some(layer) = layer_of(room) else {
            wrong.push(format!("{room} has no layer"));
            continue;
        };
        for other in imported.iter().filter(|other| room_of(other) != room) {
            if layer_of(room_of(other)).is_none_or(|above| above >= layer) {
                wrong.push(format!("{module} imports {other}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn no_verb_is_imported_by_the_core() {
    let imports = imports();
    for core in ["engine::core", "engine::id_ceiling"] {
        let verbs = imports[core].iter().filter(|other| room_of(other) == "engine");
        let verbs: Vec<_> = verbs.filter(|other| *other != "engine::id_ceiling").collect();
        assert!(verbs.is_empty(), "{core} imports {verbs:?}");
    }
}

/// A module and its own children may import each other.
#[test]
fn no_files_import_each_other_in_a_circle() {
    let mut imports = imports();
    let is_inside = |inner: &str, outer: &str| inner.starts_with(&format!("{outer}::"));
    for (module, imported) in &mut imports {
        imported.retain(|other| !is_inside(module, other) && !is_inside(other, module));
    }
    // Takes away the modules that import none of the others left, and those that none of them imports, until only
    // circles are left, and what lies between two circles.
    loop {
        let left: BTreeSet<_> = imports.keys().cloned().collect();
        imports.values_mut().for_each(|imported| imported.retain(|other| left.contains(other)));
        let imported: BTreeSet<_> = imports.values().flatten().cloned().collect();
        imports.retain(|module, others| !others.is_empty() && imported.contains(module));
        if imports.len() == left.len() {
            break;
        }
    }
    assert!(imports.is_empty(), "in circles: {imports:#?}");
}

#[test]
fn files_and_functions_are_short() {
    let mut long = Vec::new();
    for (module, path) in modules() {
        let text = fs::read_to_string(&path).expect("reads");
        let is_test = is_test(&module);
        let all = [(String::new(), text.lines().count())].into_iter().filter(|(_, it)| *it > 600);
        let functions = functions(&text).into_iter().filter(|(_, lines)| *lines > 70 && !is_test);
        long.extend(all.chain(functions).map(|(name, lines)| format!("{module} {name}: {lines}")));
    }
    assert!(long.is_empty(), "more than 600 lines of a file or 70 of a function: {long:#?}");
}

fn is_test(module: &str) -> bool {
    module.split("::").any(|part| part.ends_with("tests"))
}

fn room_of(module: &str) -> &str {
    module.split("::").next().unwrap_or(module)
}

fn modules() -> BTreeMap<Module, PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut folders, mut found) = (vec![root.clone()], BTreeMap::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("lists").map(|entry| entry.expect("lists")) {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let inside = path.strip_prefix(&root).expect("inside").with_extension("");
                let parts: Vec<_> = inside.iter().map(|part| part.to_string_lossy()).collect();
                let parts = parts.strip_suffix(&["mod".into()]).unwrap_or(&parts);
                found.insert(parts.join("::"), path);
            }
        }
    }
    assert!(found.len() > 100, "{} modules found", found.len());
    found
}

/// What the files of the crate import, tests left out.
fn imports() -> Imports {
    let modules = modules();
    let mut imports = Imports::new();
    for (module, path) in modules.iter().filter(|(module, _)| !is_test(module)) {
        let text = code(&fs::read_to_string(path).expect("reads"));
        let paths = used(&text).into_iter().chain(inline(&text));
        let targets = paths.filter_map(|path| target(&modules, module, &path));
        let imported = targets.filter(|target| target != module && !is_test(target)).collect();
        imports.insert(module.clone(), imported);
    }
    imports
}

/// The text without comments, and without the tests at its end.
fn code(text: &str) -> String {
    let lines = text.lines().map(|line| line.split("//").next().unwrap_or_default());
    let text = lines.collect::<Vec<_>>().join("\n");
    let end = ["#[cfg(test)]\nmod ", "#[cfg(all(test, not(loom)))]\nmod "];
    let inline = |at: &usize| text[*at..].lines().nth(1).is_some_and(|line| line.ends_with('{'));
    let ends = end.iter().flat_map(|end| text.match_indices(end).map(|(at, _)| at)).filter(inline);
    let end = ends.min().unwrap_or(text.len());
    text[..end].to_string()
}

/// The paths of all `use` items.
fn used(text: &str) -> Vec<String> {
    let mut paths = Vec::new();
    for part in text.split('\n').flat_map(|line| line.find("use ").map(|at| (line, at))) {
        let (line, at) = part;
        let before = line[..at].trim();
        if !(before.is_empty() || before.starts_with("pub")) {
            continue;
        }
        let begin = text.find(line).expect("a line of it") + at + "use ".len();
        let item: String = text[begin..].split(';').next().unwrap_or_default().to_string();
        expand(&item.split_whitespace().collect::<Vec<_>>().join(" "), &mut paths);
    }
    paths
}

/// `a::{b, c::d}` as `a::b` and `a::c::d`.
fn expand(path: &str, into: &mut Vec<String>) {
    let Some(begin) = path.find('{') else {
        let path = path.split(" as ").next().unwrap_or(path);
        into.push(path.trim().to_string());
        return;
    };
    let (mut depth, mut from) = (0, begin + 1);
    for (at, character) in path.char_indices().skip_while(|(at, _)| *at < begin) {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if (character == ',' && depth == 1) || depth == 0 {
            let part = path[from..at].trim();
            if !part.is_empty() {
                expand(&format!("{}{part}", &path[..begin]), into);
            }
            from = at + 1;
        }
        if depth == 0 {
            return;
        }
    }
}

/// The paths that begin with `crate::` inside the code.
fn inline(text: &str) -> Vec<String> {
    let is_path =
        |character: char| character.is_alphanumeric() || character == '_' || character == ':';
    let paths = text.match_indices("crate::").map(|(at, _)| {
        let path: String = text[at..].chars().take_while(|character| is_path(*character)).collect();
        path.trim_end_matches(':').to_string()
    });
    paths.collect()
}

/// The module that a path inside `module` leads to.
fn target(modules: &BTreeMap<Module, PathBuf>, module: &str, path: &str) -> Option<Module> {
    let mut parts: Vec<&str> = path.split("::").collect();
    let mut base: Vec<&str> = module.split("::").collect();
    match parts[0] {
        "crate" => base.clear(),
        "self" => {}
        "super" => {
            while parts[0] == "super" {
                base.pop();
                parts.remove(0);
            }
            parts.insert(0, "super");
        }
        // A child that is named without `self`.
        _ => parts.insert(0, "self"),
    }
    let full: Vec<&str> = base.iter().copied().chain(parts[1..].iter().copied()).collect();
    let found = (1..=full.len()).rev().map(|len| full[..len].join("::"));
    found.into_iter().find(|found| modules.contains_key(found))
}

/// The functions of a file, as rustfmt writes them, and how many lines each has.
fn functions(text: &str) -> Vec<(String, usize)> {
    let (mut found, mut open) = (Vec::new(), None::<(String, usize, usize)>);
    for (number, line) in text.lines().enumerate() {
        let indent = line.len() - line.trim_start().len();
        match &open {
            None => {
                let words: Vec<_> = line.split_whitespace().collect();
                let at = words.iter().position(|word| *word == "fn");
                let is_signature = at.is_some_and(|at| {
                    let is_modifier = |word: &&str| {
                        word.starts_with("pub")
                            || ["const", "async", "unsafe", "in"].contains(word)
                            || word.ends_with(')')
                    };
                    words[..at].iter().all(is_modifier)
                });
                if is_signature && !line.ends_with(';') && !line.ends_with('}') {
                    let name = words[at.unwrap_or(0) + 1].split(['(', '<']).next();
                    open = Some((name.unwrap_or_default().to_string(), indent, number));
                }
            }
            Some((name, at, begin))
                if indent == *at && (line.trim() == "}" || line.ends_with(';')) =>
            {
                found.push((name.clone(), number - begin + 1));
                open = None;
            }
            Some(_) => {}
        }
    }
    found
}
