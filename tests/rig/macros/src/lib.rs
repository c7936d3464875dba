//! The attribute of tests; `lameduck_rig` hands it on.

use proc_macro::{Delimiter, Group, Ident, Span, TokenStream, TokenTree};

/// A test. If it is asynchronous, `#[lameduck_rig::test]` has a runtime of one thread, as `#[tokio::test]` does, and
/// `#[lameduck_rig::test(threads = 2)]` has two. `lameduck_rig::standstill` runs it.
#[proc_macro_attribute]
pub fn test(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let threads = match arguments.to_string().as_str() {
        "" => "1",
        "threads = 2" => "2",
        _ => return parse("compile_error!(\"either nothing or `threads = 2`\");"),
    };
    let tokens: Vec<TokenTree> = item.into_iter().collect();
    let place = |word: &str| {
        let is_word = |token: &TokenTree| matches!(token, TokenTree::Ident(ident) if ident.to_string() == word);
        tokens.iter().position(is_word)
    };
    // Attributes, perhaps `async`, then `fn`, the name and the rest.
    let (begin, call) = match (place("async"), place("fn")) {
        (Some(begin), Some(_)) => (begin, format!("run_test({threads}, ")),
        (None, Some(begin)) => (begin, "run_blocking(".to_owned()),
        (_, None) => return parse("compile_error!(\"this attribute is for functions\");"),
    };
    let name = match place("fn").and_then(|place| tokens.get(place + 1)) {
        Some(TokenTree::Ident(name)) => name.clone(),
        _ => Ident::new("test", Span::call_site()),
    };
    let mut whole: TokenStream = tokens[..begin].iter().cloned().collect();
    whole.extend(parse("#[::core::prelude::v1::test] fn"));
    whole.extend([TokenTree::Ident(name.clone())]);
    whole.extend(parse("()"));
    let mut body: TokenStream = tokens[begin..].iter().cloned().collect();
    body.extend(parse(&format!("::lameduck_rig::standstill::{call}{name})")));
    whole.extend([TokenTree::Group(Group::new(Delimiter::Brace, body))]);
    whole
}

fn parse(text: &str) -> TokenStream {
    text.parse().unwrap_or_default()
}
