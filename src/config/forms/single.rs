//! Forms of single values: `true`, `"10s"`, `"64KiB"`, a word, a number, a path, an address.

use super::{ConfigValue, KeyContext, ValueForm};
use crate::config::print::{self, text};
use crate::config::reader::ValueError;
use crate::config::values::{self, ValueResult};
use crate::config::{ListenAddress, duration, size};
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;
use toml::de::DeValue;

/// `true` or `false`.
pub(in crate::config) struct TrueOrFalse;

impl ValueForm<bool> for TrueOrFalse {
    fn name(&self) -> String {
        "true or false".into()
    }

    fn read(&self, key: &KeyContext<'_>, value: &DeValue<'_>) -> ValueResult<bool> {
        values::boolean(key.name, value)
    }

    fn print(&self, value: &bool) -> String {
        value.to_string()
    }

    fn is_public(&self) -> bool {
        true
    }
}

impl ConfigValue for bool {
    type Form = TrueOrFalse;

    fn form() -> Self::Form {
        TrueOrFalse
    }
}

/// A duration. Zero is allowed unless the form refuses it.
pub(in crate::config) struct TimeSpan {
    can_be_zero: bool,
}

/// Returns the form of a duration that must not be zero, because nothing could happen in it.
pub(in crate::config) fn some_time() -> TimeSpan {
    TimeSpan { can_be_zero: false }
}

impl ValueForm<Duration> for TimeSpan {
    fn name(&self) -> String {
        "duration".into()
    }

    fn read(&self, key: &KeyContext<'_>, value: &DeValue<'_>) -> ValueResult<Duration> {
        let time = values::duration_of(key.name, value)?;
        if time.is_zero() && !self.can_be_zero {
            let example = duration::parse(key.default_text()).ok();
            let example = example.filter(|time| !time.is_zero());
            let example = example.unwrap_or(Duration::from_secs(30));
            let (key, example) = (key.name, duration::format(example));
            return Err(ValueError::new(
                format!("`{key}` can't be zero"),
                format!("write how long, such as `{key} = \"{example}\"`"),
            ));
        }
        Ok(time)
    }

    fn print(&self, value: &Duration) -> String {
        text(&duration::format(*value))
    }

    fn is_public(&self) -> bool {
        true
    }
}

impl ConfigValue for Duration {
    type Form = TimeSpan;

    fn form() -> Self::Form {
        TimeSpan { can_be_zero: true }
    }
}

/// One of a few words. `words!` declares an enum with them.
pub(in crate::config) struct WordChoice<T: 'static>(
    pub(in crate::config) &'static [(&'static str, T)],
);

impl<T: Copy + PartialEq> ValueForm<T> for WordChoice<T> {
    fn name(&self) -> String {
        values::all_words(self.0)
    }

    fn read(&self, key: &KeyContext<'_>, value: &DeValue<'_>) -> ValueResult<T> {
        values::choice(key.name, value, self.0)
    }

    fn print(&self, value: &T) -> String {
        let found = self.0.iter().find(|(_, other)| other == value);
        text(found.map_or("", |(word, _)| word))
    }

    fn is_public(&self) -> bool {
        true
    }
}

/// A whole number.
pub(in crate::config) struct WholeNumber {
    range: RangeInclusive<i64>,
    tells_range: bool,
}

/// Range of numbers of things: connections, requests, streams.
pub(in crate::config) const COUNT: RangeInclusive<i64> = 0..=1_000_000_000;

/// Returns the form of a whole number in a range that its type can hold.
pub(in crate::config) fn integer(range: RangeInclusive<i64>) -> WholeNumber {
    WholeNumber {
        range,
        tells_range: false,
    }
}

impl WholeNumber {
    /// Shows the range in the reference.
    pub(in crate::config) fn told(mut self) -> Self {
        self.tells_range = true;
        self
    }
}

impl<T: TryFrom<i64> + ToString> ValueForm<T> for WholeNumber {
    fn name(&self) -> String {
        if self.tells_range {
            format!("integer, {} to {}", self.range.start(), self.range.end())
        } else {
            "integer".into()
        }
    }

    fn read(&self, key: &KeyContext<'_>, value: &DeValue<'_>) -> ValueResult<T> {
        let number = values::integer(key.name, value, &self.range)?;
        T::try_from(number)
            .map_err(|_| values::out_of_range(key.name, number, Some(number), &self.range))
    }

    fn print(&self, value: &T) -> String {
        value.to_string()
    }

    fn is_public(&self) -> bool {
        true
    }
}

/// A number of bytes.
pub(in crate::config) struct ByteSize;

impl ValueForm<u64> for ByteSize {
    fn name(&self) -> String {
        "size".into()
    }

    fn read(&self, key: &KeyContext<'_>, value: &DeValue<'_>) -> ValueResult<u64> {
        values::size_of(key.name, value)
    }

    fn print(&self, value: &u64) -> String {
        text(&size::format(*value))
    }

    fn is_public(&self) -> bool {
        true
    }
}

/// A number of bytes, in the range for a request head or a part of it: small enough to be buffered, large enough to
/// be useful.
pub(in crate::config) struct HeadSize;

impl ValueForm<usize> for HeadSize {
    fn name(&self) -> String {
        ByteSize.name()
    }

    fn read(&self, key: &KeyContext<'_>, value: &DeValue<'_>) -> ValueResult<usize> {
        let bytes = ByteSize.read(key, value)?;
        match usize::try_from(bytes) {
            Ok(bytes) if (1 << 10..=1 << 20).contains(&bytes) => Ok(bytes),
            _ => {
                let default = size::parse(key.default_text()).unwrap_or_default();
                Err(ValueError::new(
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

    fn is_public(&self) -> bool {
        true
    }
}

/// A path, relative to the directory of the file; `""` means none.
pub(in crate::config) struct FilePath;

impl ValueForm<Option<PathBuf>> for FilePath {
    fn name(&self) -> String {
        "path".into()
    }

    fn read(&self, key: &KeyContext<'_>, value: &DeValue<'_>) -> ValueResult<Option<PathBuf>> {
        values::path_of(key.name, value, key.base)
    }

    fn print(&self, value: &Option<PathBuf>) -> String {
        print::path(value)
    }

    fn is_public(&self) -> bool {
        true
    }
}

/// An IP address and a port to listen on.
pub(in crate::config) struct TcpAddressForm;

impl ValueForm<SocketAddr> for TcpAddressForm {
    fn name(&self) -> String {
        "IP address and port".into()
    }

    fn read(&self, key: &KeyContext<'_>, value: &DeValue<'_>) -> ValueResult<SocketAddr> {
        values::listen(key.name, value)
    }

    fn print(&self, value: &SocketAddr) -> String {
        text(&value.to_string())
    }

    fn is_public(&self) -> bool {
        true
    }
}

/// An IP address and a port to listen on, or a unix socket.
pub(in crate::config) struct ListenAddressForm;

impl ValueForm<ListenAddress> for ListenAddressForm {
    fn name(&self) -> String {
        "IP address and port, or unix socket".into()
    }

    fn read(&self, key: &KeyContext<'_>, value: &DeValue<'_>) -> ValueResult<ListenAddress> {
        values::listen_address(key.name, value)
    }

    fn print(&self, value: &ListenAddress) -> String {
        text(&value.to_string())
    }

    fn is_public(&self) -> bool {
        true
    }
}
