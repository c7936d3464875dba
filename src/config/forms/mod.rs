//! The forms that values have in the file: how one is read, printed, and named in the reference.
//!
//! [`single`] has those of one value, [`around`] those that are made of another form. A key that needs a form of its own
//! has it from [`custom`], with two functions beside its section.

mod around;
mod single;

pub(super) use around::{EmptyIsNone, ListForm, NamedForm, OrAuto, ZeroIsNone, list};
pub(super) use single::{
    ByteSize, COUNT, FilePath, HeadSize, ListenAddressForm, TcpAddressForm, WordChoice, integer,
    some_time,
};

use super::reader::ValueError;
use super::values::ValueResult;
use std::ops::Range;
use std::path::Path;
use toml::Spanned;
use toml::de::DeValue;

/// The key that a value is read for.
pub(super) struct KeyContext<'a> {
    /// As written.
    pub(super) name: &'a str,
    /// Its default as TOML; empty where it has none. For advice.
    pub(super) default: &'a str,
    /// Where relative paths are taken from.
    pub(super) base: &'a Path,
}

impl KeyContext<'_> {
    /// The default without its quotes.
    fn default_text(&self) -> &str {
        self.default.trim_matches('"')
    }
}

/// Problems with the place of each.
pub(super) type SpannedProblems = Vec<(Range<usize>, ValueError)>;

/// How values of type `T` are written.
pub(super) trait ValueForm<T> {
    /// For people: `integer, 1 to 100`.
    fn name(&self) -> String;

    /// One value from TOML.
    fn read(&self, key: &KeyContext<'_>, value: &DeValue<'_>) -> ValueResult<T>;

    /// A value as TOML, which [`ValueForm::read`] reads back.
    fn print(&self, value: &T) -> String;

    /// Whether a value may be shown wherever it comes from: a number, a word, a name. Free text from the environment may
    /// be a secret.
    fn is_public(&self) -> bool {
        false
    }

    /// As [`ValueForm::read`]; a form that is made of several values may report several problems, each with its
    /// place. `None`: no part of it can be used.
    fn read_whole(
        &self,
        key: &KeyContext<'_>,
        value: &Spanned<DeValue<'_>>,
        problems: &mut SpannedProblems,
    ) -> Option<T> {
        self.read_at(key, value, problems)
    }

    /// As [`ValueForm::read`], with the value's place for its problem.
    fn read_at(
        &self,
        key: &KeyContext<'_>,
        value: &Spanned<DeValue<'_>>,
        problems: &mut SpannedProblems,
    ) -> Option<T> {
        let read = self.read(key, value.get_ref());
        read.map_err(|problem| problems.push((value.span(), problem)))
            .ok()
    }
}

/// A type with a default form.
pub(super) trait ConfigValue: Sized {
    /// Of which type the form is.
    type Form: ValueForm<Self>;

    /// The form.
    fn form() -> Self::Form;
}

/// A form that one key, or a few of one section, has for itself.
pub(super) struct CustomForm<T> {
    name: &'static str,
    read: fn(&KeyContext<'_>, &DeValue<'_>) -> ValueResult<T>,
    print: fn(&T) -> String,
    is_public: bool,
}

impl<T> CustomForm<T> {
    /// Its values are no secrets, wherever they come from.
    pub(super) fn public(mut self) -> Self {
        self.is_public = true;
        self
    }
}

/// A form from its name for people, a function that reads it and one that prints it.
pub(super) fn custom<T>(
    name: &'static str,
    read: fn(&KeyContext<'_>, &DeValue<'_>) -> ValueResult<T>,
    print: fn(&T) -> String,
) -> CustomForm<T> {
    CustomForm {
        name,
        read,
        print,
        is_public: false,
    }
}

impl<T> ValueForm<T> for CustomForm<T> {
    fn name(&self) -> String {
        self.name.into()
    }

    fn read(&self, key: &KeyContext<'_>, value: &DeValue<'_>) -> ValueResult<T> {
        (self.read)(key, value)
    }

    fn print(&self, value: &T) -> String {
        (self.print)(value)
    }

    fn is_public(&self) -> bool {
        self.is_public
    }
}
