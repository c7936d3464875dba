//! Conditions of a route on a request, besides host and path.

use std::borrow::Cow;
use std::cmp::Reverse;

use ipnet::IpNet;
use regex::bytes::Regex;

use super::rules::RoutedRequest;
use crate::config::{FieldMatch, ListenAddress, Route, TextMatch, compile_regex};
use crate::core::uri::hex_byte;

/// The conditions of a route; all of them must hold.
#[derive(Debug)]
pub(super) struct RouteConditions {
    methods: Vec<Box<[u8]>>,
    headers: Vec<NamedTest>,
    query: Vec<NamedTest>,
    cookies: Vec<NamedTest>,
    clients: Vec<IpNet>,
    listeners: Vec<ListenAddress>,
}

/// A name, and a test for the value of a field with that name.
#[derive(Debug)]
struct NamedTest {
    name: Box<str>,
    value: ValueTest,
}

#[derive(Debug)]
enum ValueTest {
    Exact(Box<[u8]>),
    /// `None` matches nothing: the expression is not valid, which does not occur in a checked configuration.
    Regex(Option<Regex>),
}

/// Sort key of conditions: of two routes with the same host and path, the one with the smaller value comes first.
pub(super) type ConditionRank = Reverse<(bool, bool, usize, usize, usize, bool)>;

impl RouteConditions {
    pub(super) fn new(route: &Route) -> Self {
        Self {
            methods: route.methods.iter().map(|m| m.as_bytes().into()).collect(),
            headers: tests(&route.headers),
            query: tests(&route.query),
            cookies: tests(&route.cookies),
            clients: route.clients.clone(),
            listeners: route.listeners.clone(),
        }
    }

    /// Returns the sort key: a listener, which counts like a host; then the Gateway API's order, then our own: a
    /// method, the number of header fields, of query parameters, of cookies, a client.
    pub(super) fn rank(&self) -> ConditionRank {
        Reverse((
            !self.listeners.is_empty(),
            !self.methods.is_empty(),
            self.headers.len(),
            self.query.len(),
            self.cookies.len(),
            !self.clients.is_empty(),
        ))
    }

    /// Whether all conditions hold.
    pub(super) fn hold(&self, request: &impl RoutedRequest) -> bool {
        let fits_method = || {
            let method = request.method();
            self.methods.iter().any(|other| **other == *method)
        };
        let fits_listener = || {
            let listener = request.listener();
            listener.is_some_and(|address| self.listeners.contains(address))
        };
        (self.methods.is_empty() || fits_method())
            && (self.listeners.is_empty() || fits_listener())
            && (self.headers.iter())
                .all(|test| request.has_field(&test.name, &mut |value| test.value.fits(value)))
            && (self.query.iter()).all(|test| test.fits_query(request.query()))
            && (self.cookies.iter())
                .all(|test| request.has_cookie(&test.name, &mut |value| test.value.fits(value)))
            && (self.clients.is_empty()
                || request
                    .client()
                    .is_some_and(|ip| self.clients.iter().any(|network| network.contains(&ip))))
    }
}

fn tests(fields: &[FieldMatch]) -> Vec<NamedTest> {
    let test = |field: &FieldMatch| {
        let value = match &field.value {
            TextMatch::Exact(text) => ValueTest::Exact(text.as_bytes().into()),
            TextMatch::Regex(pattern) => ValueTest::Regex(compile_regex(pattern).ok()),
        };
        NamedTest {
            name: field.name.as_str().into(),
            value,
        }
    };
    fields.iter().map(test).collect()
}

impl ValueTest {
    fn fits(&self, value: &[u8]) -> bool {
        match self {
            Self::Exact(text) => **text == *value,
            Self::Regex(regex) => regex.as_ref().is_some_and(|regex| regex.is_match(value)),
        }
    }
}

impl NamedTest {
    /// Whether a query parameter matches. Names and values are compared decoded, as an app reads them.
    fn fits_query(&self, query: &[u8]) -> bool {
        let pairs = query.split(|byte| *byte == b'&');
        pairs
            .filter(|pair| !pair.is_empty())
            .map(split_at_equals)
            .any(|(name, value)| {
                decoded(name).eq(self.name.bytes())
                    && match &self.value {
                        ValueTest::Exact(text) => decoded(value).eq(text.iter().copied()),
                        ValueTest::Regex(_) => self.value.fits(&decoded_text(value)),
                    }
            })
    }
}

fn split_at_equals(pair: &[u8]) -> (&[u8], &[u8]) {
    match memchr::memchr(b'=', pair) {
        Some(at) => (&pair[..at], &pair[at + 1..]),
        None => (pair, b""),
    }
}

/// Decodes a query's name or value: `+` is a space, and percent-encoding is decoded once.
fn decoded(text: &[u8]) -> impl Iterator<Item = u8> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let byte = *text.get(at)?;
        let encoded = (byte == b'%')
            .then(|| hex_byte(text.get(at + 1..at + 3)))
            .flatten();
        at += if encoded.is_some() { 3 } else { 1 };
        Some(match (byte, encoded) {
            (_, Some(byte)) => byte,
            (b'+', None) => b' ',
            (byte, None) => byte,
        })
    })
}

fn decoded_text(text: &[u8]) -> Cow<'_, [u8]> {
    match memchr::memchr2(b'%', b'+', text) {
        Some(_) => Cow::Owned(decoded(text).collect()),
        None => Cow::Borrowed(text),
    }
}
