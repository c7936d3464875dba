//! The forms that values have in the file: how one is read, printed, and named in the reference.
//!
//! A key that needs a form of its own has it from [`custom`], with two functions beside its section.
#![allow(dead_code)] // As long as some sections are not declared yet.

use super::print::{text, texts_of};
use super::reader::{Problem, describe};
use super::values::{self, Read};
use super::{duration, size};
use std::net::SocketAddr;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};
use std::time::Duration;
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
pub(super) type Problems = Vec<(Range<usize>, Problem)>;

/// How values of type `T` are written.
pub(super) trait Form<T> {
    /// For people: `integer, 1 to 100`.
    fn name(&self) -> String;

    /// One value from TOML.
    fn read(&self, key: &KeyContext<'_>, value: &DeValue<'_>) -> Read<T>;

    /// A value as TOML, which [`Form::read`] reads back.
    fn print(&self, value: &T) -> String;

    /// As [`Form::read`]; a form that is made of several values may tell several problems, each with its place.
    /// `None`: there is nothing of use in it.
    fn read_whole(
        &self,
        key: &KeyContext<'_>,
        value: &Spanned<DeValue<'_>>,
        problems: &mut Problems,
    ) -> Option<T> {
        let read = self.read(key, value.get_ref());
        read.map_err(|problem| problems.push((value.span(), problem)))
            .ok()
    }
}

/// A type with a form that goes without saying.
pub(super) trait ConfigValue: Sized {
    /// Of which type the form is.
    type Form: Form<Self>;

    /// The form.
    fn form() -> Self::Form;
}

/// `true` or `false`.
pub(super) struct TrueOrFalse;

impl Form<bool> for TrueOrFalse {
    fn name(&self) -> String {
        "true or false".into()
    }

    fn read(&self, key: &KeyContext<'_>, value: &DeValue<'_>) -> Read<bool> {
        values::boolean(key.name, value)
    }

    fn print(&self, value: &bool) -> String {
        value.to_string()
    }
}

impl ConfigValue for bool {
    type Form = TrueOrFalse;

    fn form() -> Self::Form {
        TrueOrFalse
    }
}

/// A length of time. Zero is one unless it is refused.
pub(super) struct Time {
    can_be_zero: bool,
}

/// A length of time that must not be zero, because nothing could happen in it.
pub(super) fn some_time() -> Time {
    Time { can_be_zero: false }
}

impl Form<Duration> for Time {
    fn name(&self) -> String {
        "duration".into()
    }

    fn read(&self, key: &KeyContext<'_>, value: &DeValue<'_>) -> Read<Duration> {
        let time = values::duration_of(key.name, value)?;
        if time.is_zero() && !self.can_be_zero {
            let example = duration::parse(key.default_text()).unwrap_or_default();
            let (key, example) = (key.name, duration::format(example));
            return Err(Problem::new(
                format!("`{key}` can't be zero"),
                format!("write how long, such as `{key} = \"{example}\"`"),
            ));
        }
        Ok(time)
    }

    fn print(&self, value: &Duration) -> String {
        text(&duration::format(*value))
    }
}

impl ConfigValue for Duration {
    type Form = Time;

    fn form() -> Self::Form {
        Time { can_be_zero: true }
    }
}

/// One of a few words. [`words!`](super::declare) declares an enum with them.
pub(super) struct Word<T: 'static>(pub(super) &'static [(&'static str, T)]);

impl<T: Copy + PartialEq> Form<T> for Word<T> {
    fn name(&self) -> String {
        values::all_words(self.0)
    }

    fn read(&self, key: &KeyContext<'_>, value: &DeValue<'_>) -> Read<T> {
        values::choice(key.name, value, self.0)
    }

    fn print(&self, value: &T) -> String {
        let found = self.0.iter().find(|(_, other)| other == value);
        text(found.map_or("", |(word, _)| word))
    }
}

/// A whole number.
pub(super) struct Integer {
    range: RangeInclusive<i64>,
    tells_range: bool,
}

/// What may be counted: connections, requests, streams.
pub(super) const COUNT: RangeInclusive<i64> = 0..=1_000_000_000;

/// A whole number in a range that its type can hold.
pub(super) fn integer(range: RangeInclusive<i64>) -> Integer {
    Integer {
        range,
        tells_range: false,
    }
}

impl Integer {
    /// The reference tells the range, too.
    pub(super) fn told(mut self) -> Self {
        self.tells_range = true;
        self
    }
}

impl<T: TryFrom<i64> + ToString> Form<T> for Integer {
    fn name(&self) -> String {
        if self.tells_range {
            format!("integer, {} to {}", self.range.start(), self.range.end())
        } else {
            "integer".into()
        }
    }

    fn read(&self, key: &KeyContext<'_>, value: &DeValue<'_>) -> Read<T> {
        let number = values::integer(key.name, value, &self.range)?;
        T::try_from(number)
            .map_err(|_| values::out_of_range(key.name, number, Some(number), &self.range))
    }

    fn print(&self, value: &T) -> String {
        value.to_string()
    }
}

/// A number of bytes.
pub(super) struct Size;

impl Form<u64> for Size {
    fn name(&self) -> String {
        "size".into()
    }

    fn read(&self, key: &KeyContext<'_>, value: &DeValue<'_>) -> Read<u64> {
        values::size_of(key.name, value)
    }

    fn print(&self, value: &u64) -> String {
        text(&size::format(*value))
    }
}

/// A number of bytes in a range that a head or a part of it can have: small enough to be buffered, large enough to be
/// of use.
pub(super) struct HeadSize;

impl Form<usize> for HeadSize {
    fn name(&self) -> String {
        Size.name()
    }

    fn read(&self, key: &KeyContext<'_>, value: &DeValue<'_>) -> Read<usize> {
        let bytes = Size.read(key, value)?;
        match usize::try_from(bytes) {
            Ok(bytes) if (1 << 10..=1 << 20).contains(&bytes) => Ok(bytes),
            _ => {
                let default = size::parse(key.default_text()).unwrap_or_default();
                Err(Problem::new(
                    format!(
                        "`{}` is {bytes} bytes, and must be from 1KiB to 1MiB",
                        key.name
                    ),
                    format!(
                        "write a size such as \"{}\"; browsers send up to about 16KiB of headers",
                        size::format(default)
                    ),
                ))
            }
        }
    }

    fn print(&self, value: &usize) -> String {
        text(&size::format(*value as u64))
    }
}

/// Another form, or `"auto"`: the proxy finds out by itself.
pub(super) struct Auto<F>(pub(super) F);

impl<T, F: Form<T>> Form<Option<T>> for Auto<F> {
    fn name(&self) -> String {
        format!("{}, or `{}`", self.0.name(), values::AUTO)
    }

    fn read(&self, key: &KeyContext<'_>, value: &DeValue<'_>) -> Read<Option<T>> {
        match value {
            DeValue::String(text) if text == values::AUTO => Ok(None),
            value => self.0.read(key, value).map(Some),
        }
    }

    fn print(&self, value: &Option<T>) -> String {
        match value {
            Some(value) => self.0.print(value),
            None => text(values::AUTO),
        }
    }
}

/// Another form, in which zero stands for none.
pub(super) struct ZeroIsNone<F>(pub(super) F);

impl<T: Default + PartialEq, F: Form<T>> Form<Option<T>> for ZeroIsNone<F> {
    fn name(&self) -> String {
        self.0.name()
    }

    fn read(&self, key: &KeyContext<'_>, value: &DeValue<'_>) -> Read<Option<T>> {
        let read = self.0.read(key, value)?;
        Ok(Some(read).filter(|read| *read != T::default()))
    }

    fn print(&self, value: &Option<T>) -> String {
        match value {
            Some(value) => self.0.print(value),
            None => self.0.print(&T::default()),
        }
    }
}

/// Another form under another name.
pub(super) struct Named<F>(pub(super) &'static str, pub(super) F);

impl<T, F: Form<T>> Form<T> for Named<F> {
    fn name(&self) -> String {
        self.0.into()
    }

    fn read(&self, key: &KeyContext<'_>, value: &DeValue<'_>) -> Read<T> {
        self.1.read(key, value)
    }

    fn print(&self, value: &T) -> String {
        self.1.print(value)
    }
}

/// A path, taken from the directory of the file; `""` is none.
pub(super) struct FilePath;

impl Form<Option<PathBuf>> for FilePath {
    fn name(&self) -> String {
        "path".into()
    }

    fn read(&self, key: &KeyContext<'_>, value: &DeValue<'_>) -> Read<Option<PathBuf>> {
        values::path_of(key.name, value, key.base)
    }

    fn print(&self, value: &Option<PathBuf>) -> String {
        super::print::path(value)
    }
}

/// An IP address and a port to listen on.
pub(super) struct ListenAddress;

impl Form<SocketAddr> for ListenAddress {
    fn name(&self) -> String {
        "IP address and port".into()
    }

    fn read(&self, key: &KeyContext<'_>, value: &DeValue<'_>) -> Read<SocketAddr> {
        values::listen(key.name, value)
    }

    fn print(&self, value: &SocketAddr) -> String {
        text(&value.to_string())
    }
}

/// Another form, in which `""` stands for none; the text is an example for advice.
pub(super) struct EmptyIsNone<F>(pub(super) &'static str, pub(super) F);

impl<T, F: Form<T>> Form<Option<T>> for EmptyIsNone<F> {
    fn name(&self) -> String {
        self.1.name()
    }

    fn read(&self, key: &KeyContext<'_>, value: &DeValue<'_>) -> Read<Option<T>> {
        match values::text(key.name, value, self.0)? {
            "" => Ok(None),
            _ => self.1.read(key, value).map(Some),
        }
    }

    fn print(&self, value: &Option<T>) -> String {
        match value {
            Some(value) => self.1.print(value),
            None => text(""),
        }
    }
}

/// A list of values of one form; each wrong one is a problem of its own.
pub(super) struct List<F> {
    name: &'static str,
    example: &'static str,
    item: F,
    empty: Option<(&'static str, &'static str)>,
}

/// A list. `example` is for advice.
pub(super) fn list<F>(name: &'static str, example: &'static str, item: F) -> List<F> {
    List {
        name,
        example,
        item,
        empty: None,
    }
}

impl<F> List<F> {
    /// It must not be empty: why, and what to write.
    pub(super) fn unless_empty(mut self, why: &'static str, remedy: &'static str) -> Self {
        self.empty = Some((why, remedy));
        self
    }
}

impl<T, F: Form<T>> Form<Vec<T>> for List<F> {
    fn name(&self) -> String {
        self.name.into()
    }

    fn read(&self, key: &KeyContext<'_>, value: &DeValue<'_>) -> Read<Vec<T>> {
        let DeValue::Array(items) = value else {
            let (name, is) = (key.name, describe(value));
            return Err(Problem::new(
                format!("`{name}` is {is}, but must be a list"),
                format!("write it in brackets, such as `{name} = {}`", self.example),
            ));
        };
        let items = items.iter();
        items
            .map(|item| self.item.read(key, item.get_ref()))
            .collect()
    }

    fn print(&self, value: &Vec<T>) -> String {
        texts_of(value.iter().map(|item| self.item.print(item)))
    }

    fn read_whole(
        &self,
        key: &KeyContext<'_>,
        value: &Spanned<DeValue<'_>>,
        problems: &mut Problems,
    ) -> Option<Vec<T>> {
        let DeValue::Array(items) = value.get_ref() else {
            let read = self.read(key, value.get_ref());
            problems.extend(read.err().map(|problem| (value.span(), problem)));
            return None;
        };
        if let Some((why, remedy)) = self.empty.filter(|_| items.is_empty()) {
            let why = format!("`{}` is empty: {why}", key.name);
            problems.push((value.span(), Problem::new(why, remedy)));
            return None;
        }
        let items = items.iter();
        let items = items.filter_map(|item| self.item.read_whole(key, item, problems));
        Some(items.collect())
    }
}

/// A form that one key, or a few of one section, has for itself.
pub(super) struct Custom<T> {
    name: &'static str,
    read: fn(&KeyContext<'_>, &DeValue<'_>) -> Read<T>,
    print: fn(&T) -> String,
}

/// A form from its name for people, a function that reads it and one that prints it.
pub(super) fn custom<T>(
    name: &'static str,
    read: fn(&KeyContext<'_>, &DeValue<'_>) -> Read<T>,
    print: fn(&T) -> String,
) -> Custom<T> {
    Custom { name, read, print }
}

impl<T> Form<T> for Custom<T> {
    fn name(&self) -> String {
        self.name.into()
    }

    fn read(&self, key: &KeyContext<'_>, value: &DeValue<'_>) -> Read<T> {
        (self.read)(key, value)
    }

    fn print(&self, value: &T) -> String {
        (self.print)(value)
    }
}
