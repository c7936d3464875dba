//! Declaration of a section of the file: once, by `section!`, with all properties of each key.
//!
//! ```text
//! section! {
//!     /// What the section is for, as shown in the reference.
//!     [pool.retry]
//!     #[derive(Debug, Clone, PartialEq)]
//!     pub struct Retry {
//!         /// What the key means, as shown in the reference.
//!         ///
//!         /// Notes that only readers of the code need.
//!         attempts: u32 = 3, integer(1..=100);
//!     }
//! }
//! ```
//!
//! The macro generates the struct and its documentation, the default (the text after `=` is written as in the file,
//! and parsed in the same way), the reader with its messages, the printer, the row of the reference in
//! `docs/configuration.md` and the line in `config/lameduck.toml`, and the comparison for a reload.
//!
//! The type is followed by the default value and, if the type alone does not determine it, the form
//! ([`forms`](super::forms)). Attributes above a key, in this order:
//!
//! - `#[key = "type"]`: name of the key in the file, if the field has another name.
//! - `#[no_default(needed)]`: the key must be written. The value is then an example for advice.
//! - `#[no_default(optional)]`: the key may be left out, which has a meaning of its own. The value is an example,
//!   too.
//! - `#[needs(restart)]`: a reload can't apply the key. On a section: this holds for all of its keys.
//!
//! After the struct's braces, the following may be given, in this order:
//!
//! - `group { … }`: fields that several keys form together ([`KeyGroup`](super::section_traits::KeyGroup)); they come
//!   before the others.
//! - `sections { … }`: the subsections: `T` for one that is always there, `Option<T>`, and `Vec<T>` for those in
//!   double brackets.
//! - `state { … }`: fields that are not keys, with their value when the section is not written, and a function from
//!   the table for when it is.
//!
//! Relations between values are not declared: defaults that depend on other keys are in `dependent_defaults`, checks
//! in `validate`.

macro_rules! section {
    (
        $(#[doc = $doc:literal])+
        $(#[needs($section_needs:ident)])?
        [$($header:tt)*]
        $(#[derive($($derive:path),+)])?
        $visible:vis struct $Section:ident {
            $(
                $(#[doc = $text:literal])+
                $(#[key = $name:literal])?
                $(#[no_default($without:ident)])?
                $(#[needs($needs:ident)])?
                $key:ident: $type:ty = $default:tt $(, $form:expr)?;
            )*
        }
        $(group {
            $(
                $(#[doc = $group_text:literal])+
                $group:ident: $group_type:ty;
            )+
        })?
        $(sections {
            $(
                $(#[doc = $child_text:literal])+
                $(#[key = $child_name:literal])?
                $child:ident: $child_type:ty;
            )+
        })?
        $(state {
            $(
                $(#[doc = $state_text:literal])+
                $state:ident: $state_type:ty = $start:expr, $read_state:expr;
            )+
        })?
    ) => {
        #[doc = concat!("`", $crate::config::declare::header!([$($header)*]), "`:")]
        $(#[doc = $doc])+
        $(#[derive($($derive),+)])?
        $visible struct $Section {
            $($(
                $(#[doc = $group_text])+
                pub $group: $group_type,
            )+)?
            $(
                $(#[doc = $text])+
                #[doc = ""]
                #[doc = $crate::config::declare::default_text!($default $($without)?)]
                pub $key: $type,
            )*
            $($(
                $(#[doc = $child_text])+
                pub $child: $child_type,
            )+)?
            $($(
                $(#[doc = $state_text])+
                pub $state: $state_type,
            )+)?
        }

        const _: () = {
            #[allow(unused_imports, reason = "not every section has groups, sections and so on")]
            use $crate::config::{
                declare,
                forms::{ConfigValue, ValueForm},
                reader::{ConfigFindings, ConfigTable},
                schema::{KeySchema, SectionSchema},
                section_traits::{
                    self, ConfigSection, TomlEntries, PrintExtent, KeyGroup, PrintedSections, StandInValue, Subsection,
                },
            };
            use std::sync::LazyLock;

            #[allow(
                unused_variables,
                clippy::redundant_closure_call,
                reason = "not every section has keys, or state"
            )]
            impl ConfigSection for $Section {
                fn section() -> &'static SectionSchema {
                    static SECTION: LazyLock<SectionSchema> = LazyLock::new(|| {
                        let restart = declare::needs!($($section_needs)?);
                        let groups: &[&[KeySchema]] = &[$($(<$group_type as KeyGroup>::keys()),+)?];
                        let own: &[KeySchema] = &[$(KeySchema {
                            name: declare::key_name!($key $($name)?),
                            form: ValueForm::<$type>::name(&declare::form!($type $(, $form)?)).leak(),
                            default: declare::default!($default $($without)?).map(section_traits::one_line),
                            example: section_traits::one_line(stringify!($default)),
                            doc: section_traits::prose(&[$($text),+]),
                            is_needed: declare::needs!($($without)?),
                            restart: restart || declare::needs!($($needs)?),
                        }),*];
                        SectionSchema::new(
                            declare::header!([$($header)*]),
                            section_traits::prose(&[$($doc),+]),
                            [&groups.concat(), own].concat(),
                        )
                    });
                    &SECTION
                }

                fn unwritten() -> &'static Self {
                    static UNWRITTEN: LazyLock<$Section> = LazyLock::new(|| $Section {
                        $($($group: <$group_type as KeyGroup>::unwritten(),)+)?
                        $($key: declare::unwritten!(
                            $Section,
                            declare::key_name!($key $($name)?),
                            declare::form!($type $(, $form)?)
                            $(, $without)?
                        ),)*
                        $($($child: <$child_type as Subsection>::absent(),)+)?
                        $($($state: $start,)+)?
                    });
                    &UNWRITTEN
                }

                fn read(table: &ConfigTable<'_>, found: &mut ConfigFindings) -> Self {
                    let unwritten = <Self as ConfigSection>::unwritten();
                    Self {
                        $($($group: <$group_type as KeyGroup>::read(table, found),)+)?
                        $($key: table.value(
                            declare::key_name!($key $($name)?),
                            &declare::form!($type $(, $form)?),
                            &unwritten.$key,
                            found,
                        ),)*
                        $($($child: <$child_type as Subsection>::read_below(
                            table,
                            declare::key_name!($child $($child_name)?),
                            found,
                        ),)+)?
                        $($($state: ($read_state)(table),)+)?
                    }
                }

                fn entries(&self) -> TomlEntries {
                    let groups: &[TomlEntries] = &[$($(KeyGroup::entries(&self.$group)),+)?];
                    let own: &[_] = &[$((
                        declare::key_name!($key $($name)?),
                        ValueForm::<$type>::print(&declare::form!($type $(, $form)?), &self.$key),
                    )),*];
                    [&groups.concat(), own].concat()
                }

                fn print(&self, extent: PrintExtent, out: &mut PrintedSections) {
                    out.push((Self::section().header, ConfigSection::entries(self)));
                    $($(KeyGroup::print_below(&self.$group, out);)+)?
                    $($(Subsection::print_below(&self.$child, extent, out);)+)?
                }
            }
        };

        $crate::config::declare::default_impl!([$($header)*] $Section);
    };
}

/// Returns a header as it is written, from its tokens.
macro_rules! header {
    ([]) => { "" };
    ([[$first:ident $(. $next:ident)*]]) => {
        concat!("[[", stringify!($first) $(, ".", stringify!($next))*, "]]")
    };
    ([$first:ident $(. $next:ident)*]) => {
        concat!("[", stringify!($first) $(, ".", stringify!($next))*, "]")
    };
}

/// Returns a key's name in the file.
macro_rules! key_name {
    ($field:ident) => {
        stringify!($field)
    };
    ($field:ident $name:literal) => {
        $name
    };
}

/// Returns the form of a value: the given one, else that of its type.
macro_rules! form {
    ($type:ty) => {
        <$type as ConfigValue>::form()
    };
    ($type:ty, $form:expr) => {
        $form
    };
}

/// Returns the default as it would be written.
macro_rules! default {
    ($default:tt) => {
        Some(stringify!($default))
    };
    ($default:tt $without:ident) => {
        None
    };
}

/// Returns the line about the default in the documentation of a field.
macro_rules! default_text {
    ($default:tt) => {
        concat!("Default: `", stringify!($default), "`.")
    };
    ($default:tt needed) => {
        concat!("Needed; such as `", stringify!($default), "`.")
    };
    ($default:tt optional) => {
        concat!("No default; such as `", stringify!($default), "`.")
    };
}

/// Returns the value of a field whose key is not written.
macro_rules! unwritten {
    ($Section:ty, $key:expr, $form:expr) => {
        <$Section>::section().default_of($key, &$form)
    };
    ($Section:ty, $key:expr, $form:expr, $without:ident) => {
        StandInValue::stand_in()
    };
}

/// Returns whether an attribute is there.
macro_rules! needs {
    () => {
        false
    };
    (restart) => {
        true
    };
    (needed) => {
        true
    };
    (optional) => {
        false
    };
}

/// Implements `Default` for a section that exists once: one in a list needs a value without a default, such as a
/// name.
macro_rules! default_impl {
    ([] $Section:ident) => {};
    ([[$($header:tt)*]] $Section:ident) => {};
    ([$($header:tt)*] $Section:ident) => {
        impl Default for $Section {
            fn default() -> Self {
                <Self as $crate::config::section_traits::ConfigSection>::unwritten().clone()
            }
        }
    };
}

/// Declares an enum whose values have one word each in the file.
macro_rules! words {
    (
        $(#[$attribute:meta])*
        $visible:vis enum $Enum:ident {
            $($(#[$case_attribute:meta])* $Case:ident = $word:literal,)+
        }
    ) => {
        $(#[$attribute])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        $visible enum $Enum {
            $($(#[$case_attribute])* $Case,)+
        }

        impl $Enum {
            /// All values with their word in the file, in the order of their declaration.
            $visible const WORDS: &'static [(&'static str, Self)] = &[$(($word, Self::$Case)),+];

            /// Returns the word in the file.
            $visible fn as_str(self) -> &'static str {
                match self {
                    $(Self::$Case => $word,)+
                }
            }
        }

        impl std::fmt::Display for $Enum {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl $crate::config::forms::ConfigValue for $Enum {
            type Form = $crate::config::forms::WordChoice<Self>;

            fn form() -> Self::Form {
                $crate::config::forms::WordChoice(Self::WORDS)
            }
        }
    };
}

pub(super) use {
    default, default_impl, default_text, form, header, key_name, needs, section, unwritten, words,
};
