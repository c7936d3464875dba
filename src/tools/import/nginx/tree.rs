//! Tree of directives, with includes inserted in their places.
//!
//! Limits make hostile input harmless: total size of all files, number of files, and depth of blocks and includes. An
//! include of the file itself is found by the depth.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::lexer::{LexError, NginxLexer, NginxToken, TokenKind};
use crate::config::file_patterns::find_files;
use crate::tools::import::notice::{ImportNotice, SourcePlace};

/// Most bytes of all files together.
const MAX_TOTAL: usize = 16 << 20;
/// Most files; each inclusion counts.
const MAX_FILES: usize = 5_000;
/// Deepest nesting of blocks, and of files.
const MAX_DEPTH: usize = 32;

/// A directive with the content of its block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NginxDirective {
    /// Place of its name.
    pub place: SourcePlace,
    /// Name and arguments; never empty.
    pub words: Vec<String>,
    /// Content of its block, if it has one.
    pub block: Option<Vec<NginxDirective>>,
}

impl NginxDirective {
    /// Its name.
    pub fn name(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }

    /// The argument with this index; empty if there is none.
    pub fn arg(&self, index: usize) -> &str {
        self.words.get(index + 1).map_or("", String::as_str)
    }

    /// Its parameters.
    pub fn args(&self) -> &[String] {
        self.words.get(1..).unwrap_or_default()
    }

    /// Content of its block; empty if it has none.
    pub fn inner(&self) -> &[NginxDirective] {
        self.block.as_deref().unwrap_or_default()
    }

    /// Notice that it is left out, with the reason.
    pub fn refusal(&self, why: &str) -> ImportNotice {
        ImportNotice::left_out(&self.place, format!("`{}`: {why}", self.line()))
    }

    /// Notice that it has a different effect in the result.
    pub fn difference(&self, what: &str) -> ImportNotice {
        ImportNotice::differs(&self.place, format!("`{}`: {what}", self.line()))
    }

    /// Text in one line, for messages.
    pub fn line(&self) -> String {
        let line = self.words.join(" ");
        match line.char_indices().nth(100) {
            Some((at, _)) => format!("{}…", &line[..at]),
            None => line,
        }
    }
}

/// Reason why a configuration can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {message}")]
pub struct NginxReadError {
    /// File and line; line 0 means the whole file.
    pub place: SourcePlace,
    /// What is wrong, and what to do.
    pub message: String,
}

/// Reader for a configuration file with its includes.
#[derive(Debug)]
pub struct TreeReader {
    /// Directory for relative includes.
    prefix: PathBuf,
    total: usize,
    files: usize,
}

/// End of a list of directives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ListEnd {
    EndOfFile,
    ClosingBrace,
}

impl TreeReader {
    /// A reader with the directory for relative includes, which in nginx is that of `nginx.conf`.
    pub fn new(prefix: impl Into<PathBuf>) -> Self {
        TreeReader {
            prefix: prefix.into(),
            total: 0,
            files: 0,
        }
    }

    /// Reads the directives of a file.
    ///
    /// # Errors
    /// The file, or an included one, can't be read or parsed, or a limit is exceeded.
    pub fn read_file(&mut self, path: &Path) -> Result<Vec<NginxDirective>, NginxReadError> {
        self.read_nested(path, 0, &SourcePlace::new(&path.display().to_string(), 0))
    }

    fn read_nested(
        &mut self,
        path: &Path,
        depth: usize,
        asked: &SourcePlace,
    ) -> Result<Vec<NginxDirective>, NginxReadError> {
        let fail = |message: String| NginxReadError {
            place: asked.clone(),
            message,
        };
        self.files += 1;
        if self.files > MAX_FILES {
            return Err(fail(format!(
                "more than {MAX_FILES} files are included; does a file include itself?"
            )));
        }
        // A pipe or a device might be endless.
        let is_file = std::fs::metadata(path).map(|meta| meta.is_file());
        let bytes = match is_file {
            Ok(true) => std::fs::read(path),
            Ok(false) => return Err(fail(format!("{} is not a file", path.display()))),
            Err(error) => Err(error),
        };
        let bytes = bytes.map_err(|error| {
            fail(format!(
                "can't read {}: {}; run this where nginx's files are, as a user who may read them",
                path.display(),
                crate::config::plain(&error)
            ))
        })?;
        self.total += bytes.len();
        if self.total > MAX_TOTAL {
            return Err(fail(
                "all files together have more than 16 MiB; is this a configuration?".into(),
            ));
        }
        self.read_text(
            &path.display().to_string(),
            &String::from_utf8_lossy(&bytes),
            depth,
        )
    }

    /// Reads the directives of a text; `name` is shown in messages.
    ///
    /// # Errors
    /// As for [`TreeReader::read_file`].
    pub fn read_text(
        &mut self,
        name: &str,
        text: &str,
        depth: usize,
    ) -> Result<Vec<NginxDirective>, NginxReadError> {
        let mut file = OpenFile {
            name: name.into(),
            lexer: NginxLexer::new(text),
        };
        self.read_list(&mut file, depth, ListEnd::EndOfFile)
    }

    fn read_list(
        &mut self,
        file: &mut OpenFile<'_>,
        depth: usize,
        end: ListEnd,
    ) -> Result<Vec<NginxDirective>, NginxReadError> {
        let mut list = Vec::new();
        if depth > MAX_DEPTH {
            let what = format!(
                "blocks or includes are more than {MAX_DEPTH} deep; does a file include itself?"
            );
            return Err(file.error(file.lexer.line(), what));
        }
        loop {
            let Some(token) = file.next()? else {
                return match end {
                    ListEnd::EndOfFile => Ok(list),
                    ListEnd::ClosingBrace => {
                        Err(file.error(file.lexer.line(), "the file ends, and a `}` is missing"))
                    }
                };
            };
            match token.kind {
                TokenKind::Close if end == ListEnd::ClosingBrace => return Ok(list),
                TokenKind::Close => {
                    return Err(file.error(token.line, "unexpected `}`: no block is open here"));
                }
                TokenKind::Semicolon => return Err(file.error(token.line, "unexpected `;`")),
                TokenKind::Open => return Err(file.error(token.line, "unexpected `{`")),
                TokenKind::Word(name) => {
                    let directive = self.read_directive(file, depth, name, token.line)?;
                    if directive.name() == "include" && directive.block.is_none() {
                        self.include(&directive, depth, &mut list)?;
                    } else {
                        list.push(directive);
                    }
                }
            }
        }
    }

    fn read_directive(
        &mut self,
        file: &mut OpenFile<'_>,
        depth: usize,
        name: String,
        line: u32,
    ) -> Result<NginxDirective, NginxReadError> {
        let mut words = vec![name];
        let block = loop {
            let Some(token) = file.next()? else {
                let what = format!(
                    "the file ends within `{}`: `;` or `{{` is missing",
                    words[0]
                );
                return Err(file.error(line, what));
            };
            match token.kind {
                TokenKind::Word(word) => words.push(word),
                TokenKind::Semicolon => break None,
                TokenKind::Open if words[0].ends_with("_by_lua_block") => {
                    let skipped = file.lexer.skip_foreign_block();
                    skipped.map_err(|error| file.lex_error(error))?;
                    break Some(Vec::new());
                }
                TokenKind::Open => {
                    break Some(self.read_list(file, depth + 1, ListEnd::ClosingBrace)?);
                }
                TokenKind::Close => {
                    let what = format!("unexpected `}}`: `{}` has no `;`", words[0]);
                    return Err(file.error(token.line, what));
                }
            }
        };
        Ok(NginxDirective {
            place: SourcePlace {
                file: Arc::clone(&file.name),
                line,
            },
            words,
            block,
        })
    }

    fn include(
        &mut self,
        directive: &NginxDirective,
        depth: usize,
        list: &mut Vec<NginxDirective>,
    ) -> Result<(), NginxReadError> {
        let [pattern] = directive.args() else {
            return Err(NginxReadError {
                place: directive.place.clone(),
                message: "`include` takes one file name or pattern".into(),
            });
        };
        for path in find_files(&self.prefix, pattern).files {
            list.extend(self.read_nested(&path, depth + 1, &directive.place)?);
        }
        Ok(())
    }
}

struct OpenFile<'a> {
    name: Arc<str>,
    lexer: NginxLexer<'a>,
}

impl OpenFile<'_> {
    fn next(&mut self) -> Result<Option<NginxToken>, NginxReadError> {
        self.lexer
            .next_token()
            .map_err(|error| self.lex_error(error))
    }

    fn lex_error(&self, error: LexError) -> NginxReadError {
        self.error(error.line, error.message)
    }

    fn error(&self, line: u32, message: impl Into<String>) -> NginxReadError {
        NginxReadError {
            place: SourcePlace {
                file: Arc::clone(&self.name),
                line,
            },
            message: message.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<NginxDirective>, String> {
        let read = TreeReader::new(".").read_text("x.conf", text, 0);
        read.map_err(|error| error.to_string())
    }

    #[test]
    fn blocks_become_a_tree_with_lines() {
        let tree = read("a 1;\nb {\n  c 2 3;\n  d { }\n}\n").unwrap();
        assert_eq!(tree.len(), 2);
        let inner = tree[1].inner();
        assert_eq!((inner[0].line(), inner[0].place.line), ("c 2 3".into(), 3));
        assert_eq!(inner[1].block, Some(Vec::new()));
    }

    #[test]
    fn code_in_a_block_of_lua_is_not_read_as_directives() {
        let tree = read("content_by_lua_block { x = {'}', y};  \n z = '}' }\na;").unwrap();
        let names: Vec<_> = tree.iter().map(NginxDirective::name).collect();
        assert_eq!(names, ["content_by_lua_block", "a"]);
    }

    #[test]
    fn mistakes_are_named_with_file_and_line() {
        for (text, says) in [
            ("a;\n}", "x.conf:2: unexpected `}`"),
            (
                "a {\n b;\n",
                "x.conf:3: the file ends, and a `}` is missing",
            ),
            ("\na b", "x.conf:2: the file ends within `a`"),
            ("a { b }", "x.conf:1: unexpected `}`: `b` has no `;`"),
            (";", "x.conf:1: unexpected `;`"),
            ("{", "x.conf:1: unexpected `{`"),
            ("a \"b;", "x.conf:1: a quote"),
            ("include a b;", "x.conf:1: `include` takes one"),
            (
                "include nowhere.conf;",
                "x.conf:1: can't read ./nowhere.conf: no such file",
            ),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.starts_with(says), "{text:?}: {error}");
        }
    }

    #[test]
    fn depth_and_circles_are_bounded() {
        let deep = format!("{}{}", "a {".repeat(40), "}".repeat(40));
        assert!(read(&deep).unwrap_err().contains("32 deep"));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("self.conf");
        std::fs::write(&path, "include self.conf; include *.conf;").unwrap();
        let error = TreeReader::new(dir.path()).read_file(&path).unwrap_err();
        assert!(error.message.contains("include itself"), "{error}");
    }

    #[test]
    fn includes_are_put_in_at_their_place_in_the_order_of_names() {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("b.conf", "b;"),
            ("a.conf", "a;"),
            (".c.conf", "c;"),
            ("n.conf", "x; include [ab].conf; y; include none*.conf;"),
        ] {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let tree = TreeReader::new(dir.path())
            .read_file(&dir.path().join("n.conf"))
            .unwrap();
        let names: Vec<_> = tree.iter().map(NginxDirective::name).collect();
        assert_eq!(names, ["x", "a", "b", "y"]);
        assert!(tree[1].place.file.ends_with("/a.conf"));
    }
}
