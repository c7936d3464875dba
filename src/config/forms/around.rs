//! Forms that are based on another form: with `"auto"`, optional, or as a list.

use super::{KeyContext, SpannedProblems, ValueForm};
use crate::config::print::{text, texts_of};
use crate::config::reader::{ValueError, describe};
use crate::config::values::{self, ValueResult};
use toml::Spanned;
use toml::de::DeValue;

/// Another form, or `"auto"`: the proxy determines the value itself.
pub(in crate::config) struct OrAuto<F>(pub(in crate::config) F);

impl<T, F: ValueForm<T>> ValueForm<Option<T>> for OrAuto<F> {
    fn name(&self) -> String {
        format!("{}, or `{}`", self.0.name(), values::AUTO)
    }

    fn read(&self, key: &KeyContext<'_>, value: &DeValue<'_>) -> ValueResult<Option<T>> {
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

    fn is_public(&self) -> bool {
        self.0.is_public()
    }
}

/// Another form, in which zero means none.
pub(in crate::config) struct ZeroIsNone<F>(pub(in crate::config) F);

impl<T: Default + PartialEq, F: ValueForm<T>> ValueForm<Option<T>> for ZeroIsNone<F> {
    fn name(&self) -> String {
        self.0.name()
    }

    fn read(&self, key: &KeyContext<'_>, value: &DeValue<'_>) -> ValueResult<Option<T>> {
        let read = self.0.read(key, value)?;
        Ok(Some(read).filter(|read| *read != T::default()))
    }

    fn print(&self, value: &Option<T>) -> String {
        match value {
            Some(value) => self.0.print(value),
            None => self.0.print(&T::default()),
        }
    }

    fn is_public(&self) -> bool {
        self.0.is_public()
    }
}

/// Another form under another name.
pub(in crate::config) struct NamedForm<F>(
    pub(in crate::config) &'static str,
    pub(in crate::config) F,
);

impl<T, F: ValueForm<T>> ValueForm<T> for NamedForm<F> {
    fn name(&self) -> String {
        self.0.into()
    }

    fn read(&self, key: &KeyContext<'_>, value: &DeValue<'_>) -> ValueResult<T> {
        self.1.read(key, value)
    }

    fn print(&self, value: &T) -> String {
        self.1.print(value)
    }

    fn is_public(&self) -> bool {
        self.1.is_public()
    }
}

/// Another form, in which `""` means none; the text is an example for advice.
pub(in crate::config) struct EmptyIsNone<F>(
    pub(in crate::config) &'static str,
    pub(in crate::config) F,
);

impl<T, F: ValueForm<T>> ValueForm<Option<T>> for EmptyIsNone<F> {
    fn name(&self) -> String {
        self.1.name()
    }

    fn read(&self, key: &KeyContext<'_>, value: &DeValue<'_>) -> ValueResult<Option<T>> {
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

    fn is_public(&self) -> bool {
        self.1.is_public()
    }
}

/// A list of values of one form; each invalid value is a problem of its own.
pub(in crate::config) struct ListForm<F> {
    name: &'static str,
    example: &'static str,
    item: F,
    empty: Option<(&'static str, &'static str)>,
}

/// Returns the form of a list. `example` is for advice.
pub(in crate::config) fn list<F>(
    name: &'static str,
    example: &'static str,
    item: F,
) -> ListForm<F> {
    ListForm {
        name,
        example,
        item,
        empty: None,
    }
}

impl<F> ListForm<F> {
    /// Refuses an empty list; the text says why, and what to write.
    pub(in crate::config) fn unless_empty(
        mut self,
        why: &'static str,
        remedy: &'static str,
    ) -> Self {
        self.empty = Some((why, remedy));
        self
    }
}

impl<T, F: ValueForm<T>> ValueForm<Vec<T>> for ListForm<F> {
    fn name(&self) -> String {
        self.name.into()
    }

    fn read(&self, key: &KeyContext<'_>, value: &DeValue<'_>) -> ValueResult<Vec<T>> {
        let DeValue::Array(items) = value else {
            let (name, is) = (key.name, describe(value));
            return Err(ValueError::new(
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

    fn is_public(&self) -> bool {
        self.item.is_public()
    }

    fn read_whole(
        &self,
        key: &KeyContext<'_>,
        value: &Spanned<DeValue<'_>>,
        problems: &mut SpannedProblems,
    ) -> Option<Vec<T>> {
        let DeValue::Array(items) = value.get_ref() else {
            return self.read_at(key, value, problems);
        };
        if let Some((why, remedy)) = self.empty.filter(|_| items.is_empty()) {
            let why = format!("`{}` is empty: {why}", key.name);
            problems.push((value.span(), ValueError::new(why, remedy)));
            return None;
        }
        let items = items.iter();
        let items = items.filter_map(|item| self.item.read_whole(key, item, problems));
        Some(items.collect())
    }
}
