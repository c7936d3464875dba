use super::*;
use proptest::prelude::*;

fn refused(text: &str, wanted: TemplateUse) -> String {
    TextTemplate::parse(text, wanted).unwrap_err().0
}

#[test]
fn placeholders_and_text_are_told_apart() {
    let text = "a{host}{{x}}${header.X-A}$1$$2{cookie.b}";
    let template = TextTemplate::parse(text, TemplateUse::FieldValue).unwrap();
    let plain = |text: &str| TemplatePiece::Text(text.into());
    assert_eq!(
        template.pieces(),
        [
            plain("a"),
            TemplatePiece::Value(Placeholder::Host),
            plain("{x}$"),
            TemplatePiece::Value(Placeholder::Header("X-A".into())),
            TemplatePiece::Value(Placeholder::Group(1)),
            plain("$2"),
            TemplatePiece::Value(Placeholder::Cookie("b".into())),
        ]
    );
    assert_eq!(template.as_str(), text);
    assert_eq!(template.highest_group(), Some(1));
    assert_eq!(template.fixed(), None);
    let fixed = TextTemplate::parse("{{}}", TemplateUse::FieldValue).unwrap();
    assert_eq!(fixed.fixed(), Some("{}"));
}

#[test]
fn mistakes_are_told() {
    for (text, wanted, why) in [
        ("{hots}", TemplateUse::FieldValue, "there is no \"{hots}\""),
        ("a {", TemplateUse::FieldValue, "(character 3)"),
        ("é}", TemplateUse::FieldValue, "(character 2)"),
        ("{header.}", TemplateUse::FieldValue, "needs a name"),
        ("{header.a b}", TemplateUse::FieldValue, "needs a name"),
        ("a\r\nb: c", TemplateUse::FieldValue, "control characters"),
        (" a", TemplateUse::FieldValue, "spaces around"),
        ("new", TemplateUse::Path, "begins with a slash"),
        ("https://a/new", TemplateUse::Path, "begins with a slash"),
        ("{host}/x", TemplateUse::Path, "begins with a slash"),
        ("//evil.test{path}", TemplateUse::Path, "read as a host"),
        ("/a b", TemplateUse::Path, "a path can't have"),
        ("/a\\b", TemplateUse::Path, "a path can't have"),
        ("/a#b", TemplateUse::Path, "a path can't have"),
        ("/a%2", TemplateUse::Path, "hexadecimal"),
        ("/a/%2E./{rest}", TemplateUse::Path, "segment"),
        ("/a/..{rest}", TemplateUse::Path, "segment"),
        ("{header.X}.test", TemplateUse::Host, "only `{host}`"),
        ("a.test:80", TemplateUse::Host, "without its port"),
        ("*.test", TemplateUse::Host, "`*`"),
        ("a\u{0}", TemplateUse::Body, "control character"),
    ] {
        let said = refused(text, wanted);
        assert!(said.contains(why), "{text}: {said}");
    }
    let many = "{host}".repeat(MAX_PLACEHOLDERS + 1);
    assert!(refused(&many, TemplateUse::Body).contains("16 placeholders"));
    let long = "a".repeat(MAX_TEXT + 1);
    assert!(refused(&long, TemplateUse::FieldValue).contains("4097 bytes"));
    assert!(TextTemplate::parse(&long, TemplateUse::Body).is_ok());
}

proptest! {
    #[test]
    fn printed_template_parses_to_the_same_template(text in "[a{}$1/.%é\\\\#? \u{0}-]{0,12}|(\\{(host|rest|header\\.A)\\}|\\{\\{|/|\\$1|a){0,8}") {
        for wanted in [TemplateUse::FieldValue, TemplateUse::Path, TemplateUse::Host, TemplateUse::Body] {
            if let Ok(template) = TextTemplate::parse(&text, wanted) {
                let again = TextTemplate::parse(template.as_str(), wanted);
                prop_assert_eq!(again.as_ref(), Ok(&template));
                let filled = template.filled("x");
                prop_assert!(wanted == TemplateUse::Body || !filled.contains(['\r', '\n']));
            }
        }
    }
}
