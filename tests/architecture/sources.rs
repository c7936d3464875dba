//! What the sources import of each other, from parsed code: `use` trees with all their branches, and every path in
//! expressions, types and macros that begins with `crate`, `self` or `super`.
//!
//! Code that is compiled for tests alone is left out.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use syn::visit::{self, Visit};

/// One file of the product.
pub struct Source {
    /// Its path.
    pub path: PathBuf,
    /// Its module, below the crate.
    pub module: Vec<String>,
    /// The paths below the crate that it names.
    pub names: Vec<Vec<String>>,
    /// The types and traits that it declares.
    pub types: Vec<String>,
    /// Its length in lines.
    pub lines: usize,
}

/// Every Rust file below a directory, sorted.
pub fn files_below(directory: impl AsRef<Path>) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(files_below(path));
        } else if path.extension().is_some_and(|end| end == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// Whether a file holds tests and nothing else.
pub fn is_test_file(path: &Path) -> bool {
    let stem = path.file_stem().and_then(|stem| stem.to_str());
    stem.is_some_and(|stem| stem == "tests" || stem.ends_with("_test"))
        || path.components().any(|part| part.as_os_str() == "tests")
}

/// Those of the product, read once.
pub fn product() -> &'static [Source] {
    static SOURCES: OnceLock<Vec<Source>> = OnceLock::new();
    SOURCES.get_or_init(|| read_sources(Path::new("src")))
}

/// The sources below `root`, tests left out.
pub fn read_sources(root: &Path) -> Vec<Source> {
    let files = files_below(root).into_iter();
    let files = files.filter(|path| !is_test_file(path.strip_prefix(root).unwrap()));
    files.map(|path| read_source(root, path)).collect()
}

fn read_source(root: &Path, path: PathBuf) -> Source {
    let text = std::fs::read_to_string(&path).unwrap();
    let file = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let below = path.strip_prefix(root).unwrap().with_extension("");
    let mut module: Vec<String> = below
        .iter()
        .map(|part| part.to_str().unwrap().to_owned())
        .collect();
    if matches!(
        module.last().map(String::as_str),
        Some("mod" | "lib" | "main")
    ) {
        module.pop();
    }
    let mut reader = Reader {
        module: module.clone(),
        names: Vec::new(),
        types: Vec::new(),
    };
    reader.visit_file(&file);
    Source {
        path,
        module,
        names: reader.names,
        types: reader.types,
        lines: text.lines().count(),
    }
}

struct Reader {
    module: Vec<String>,
    names: Vec<Vec<String>>,
    types: Vec<String>,
}

impl Reader {
    /// Notes a path, if it is one of the crate's.
    fn note_path(&mut self, segments: &[String]) {
        let mut base = self.module.clone();
        let mut rest = segments;
        match segments.first().map(String::as_str) {
            Some("crate" | "lameduck") => {
                base.clear();
                rest = &rest[1..];
            }
            Some("self") => rest = &rest[1..],
            Some("super") => {
                while rest.first().is_some_and(|segment| segment == "super") {
                    base.pop();
                    rest = &rest[1..];
                }
            }
            _ => return,
        }
        base.extend(rest.iter().cloned());
        // `pub(crate)` is a path, too.
        if !base.is_empty() {
            self.names.push(base);
        }
    }

    fn note_use(&mut self, prefix: &[String], tree: &syn::UseTree) {
        let mut path = prefix.to_vec();
        match tree {
            syn::UseTree::Path(tree) => {
                path.push(tree.ident.to_string());
                self.note_use(&path, &tree.tree);
            }
            syn::UseTree::Group(group) => {
                for tree in &group.items {
                    self.note_use(prefix, tree);
                }
            }
            syn::UseTree::Name(name) => {
                // `a::{self}` is `a`.
                if path.is_empty() || name.ident != "self" {
                    path.push(name.ident.to_string());
                }
                self.note_path(&path);
            }
            syn::UseTree::Rename(name) => {
                if path.is_empty() || name.ident != "self" {
                    path.push(name.ident.to_string());
                }
                self.note_path(&path);
            }
            syn::UseTree::Glob(_) => self.note_path(&path),
        }
    }
}

/// Whether an item is compiled for tests alone.
fn is_for_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let syn::Meta::List(list) = &attribute.meta else {
            return attribute.path().is_ident("test");
        };
        let condition = list.tokens.to_string();
        list.path.is_ident("cfg")
            && condition
                .split(|c: char| !c.is_alphanumeric() && c != '_')
                .any(|word| word == "test")
            && !condition.contains("not")
    })
}

fn attributes_of(item: &syn::Item) -> &[syn::Attribute] {
    match item {
        syn::Item::Const(item) => &item.attrs,
        syn::Item::Enum(item) => &item.attrs,
        syn::Item::Fn(item) => &item.attrs,
        syn::Item::Impl(item) => &item.attrs,
        syn::Item::Macro(item) => &item.attrs,
        syn::Item::Mod(item) => &item.attrs,
        syn::Item::Static(item) => &item.attrs,
        syn::Item::Struct(item) => &item.attrs,
        syn::Item::Trait(item) => &item.attrs,
        syn::Item::Type(item) => &item.attrs,
        syn::Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if is_for_tests(attributes_of(item)) {
            return;
        }
        match item {
            syn::Item::Struct(item) => self.types.push(item.ident.to_string()),
            syn::Item::Enum(item) => self.types.push(item.ident.to_string()),
            syn::Item::Trait(item) => self.types.push(item.ident.to_string()),
            syn::Item::Type(item) => self.types.push(item.ident.to_string()),
            _ => {}
        }
        visit::visit_item(self, item);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        if !is_for_tests(&function.attrs) {
            visit::visit_impl_item_fn(self, function);
        }
    }

    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        self.module.push(module.ident.to_string());
        visit::visit_item_mod(self, module);
        self.module.pop();
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.note_use(&[], &item.tree);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments = path.segments.iter();
        let segments: Vec<_> = segments.map(|part| part.ident.to_string()).collect();
        self.note_path(&segments);
        visit::visit_path(self, path);
    }

    /// What stands in a macro is only words to the parser.
    fn visit_macro(&mut self, invocation: &'ast syn::Macro) {
        let text = invocation.tokens.to_string();
        let words: Vec<&str> = text
            .split(|c: char| c.is_whitespace() || "(){}[],;&".contains(c))
            .filter(|word| !word.is_empty())
            .collect();
        for (at, word) in words.iter().enumerate() {
            if !matches!(*word, "crate" | "super" | "self") {
                continue;
            }
            let mut segments = vec![(*word).to_owned()];
            for pair in words[at + 1..].chunks(2) {
                match pair {
                    ["::", name] => segments.push((*name).to_owned()),
                    _ => break,
                }
            }
            if segments.len() > 1 {
                self.note_path(&segments);
            }
        }
        visit::visit_macro(self, invocation);
    }
}
