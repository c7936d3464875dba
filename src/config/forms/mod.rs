//! Forms of values in the file: how a value is read, printed, and named in the reference.
//!
//! [`single`] has the forms of single values, [`around`] those that are based on another form. A key that needs a
//! form of its own gets it from [`custom`], with two functions beside its section.

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

/// The key for which a value is read.
pub(super) struct KeyContext<'a> {
    /// Name, as written.
    pub(super) name: &'a str,
    /// Default as TOML, for advice; empty if there is none.
    pub(super) default: &'a str,
    /// Directory to which paths are relative.
    pub(super) base: &'a Path,
}

impl KeyContext<'_> {
    /// Returns the default without its quotes.
    fn default_text(&self) -> &str {
        self.default.trim_matches('"')
    }
}

/// Problems, each with its position.
pub(super) type SpannedProblems = Vec<(Range<usize>, ValueError)>;

/// The form in which values of type `T` are written.
pub(super) trait ValueForm<T> {
    /// Returns the name of the form for the reference: `integer, 1 to 100`.
    fn name(&self) -> String;

    /// Reads a value from TOML.
    fn read(&self, key: &KeyContext<'_>, value: &DeValue<'_>) -> ValueResult<T>;

    /// Prints a value as TOML, which [`ValueForm::read`] reads back.
    fn print(&self, value: &T) -> String;

    /// Whether a value may be shown wherever it comes from: a number, a word, a name. Free text from the environment
    /// may be a secret.
    fn is_public(&self) -> bool {
        false
    }

    /// As [`ValueForm::read`], but a form that is composed of several values may report several problems, each with
    /// its position. `None`: no part of the value can be used.
    fn read_whole(
        &self,
        key: &KeyContext<'_>,
        value: &Spanned<DeValue<'_>>,
        problems: &mut SpannedProblems,
    ) -> Option<T> {
        self.read_at(key, value, problems)
    }

    /// As [`ValueForm::read`], with the value's position for a problem.
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
    /// Type of the form.
    type Form: ValueForm<Self>;

    /// Returns the form.
    fn form() -> Self::Form;
}

/// A form for one key, or for a few of one section.
pub(super) struct CustomForm<T> {
    name: &'static str,
    read: fn(&KeyContext<'_>, &DeValue<'_>) -> ValueResult<T>,
    print: fn(&T) -> String,
    is_public: bool,
}

impl<T> CustomForm<T> {
    /// Declares that its values are no secrets, wherever they come from.
    pub(super) fn public(mut self) -> Self {
        self.is_public = true;
        self
    }
}

/// Creates a form from its name in the reference, a function that reads values and one that prints them.
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
