//! The part of XML-RPC that supervisord's answers use: an array of structs of plain values.

use std::collections::HashMap;

/// Encodes a call without arguments.
pub(super) fn call(method: &str) -> String {
    format!(
        "<?xml version=\"1.0\"?><methodCall><methodName>{method}</methodName><params/></methodCall>"
    )
}

/// Parses the structs of an answer; each becomes a map of its members' texts.
///
/// # Errors
/// The fault in the answer, or that it is malformed.
pub(super) fn read_structs(text: &str) -> Result<Vec<HashMap<String, String>>, String> {
    if !text.contains("<methodResponse") {
        return Err("the answer is not XML-RPC".to_owned());
    }
    let fault = text.contains("<fault>");
    let mut structs = Vec::new();
    for body in text.split("<struct>").skip(1) {
        let body = body.split("</struct>").next().unwrap_or_default();
        let members = body.split("<member>").skip(1).filter_map(read_member);
        structs.push(members.collect::<HashMap<_, _>>());
    }
    if fault {
        let why = structs.first().and_then(|fault| fault.get("faultString"));
        return Err(why.cloned().unwrap_or_else(|| "a fault".to_owned()));
    }
    Ok(structs)
}

fn read_member(member: &str) -> Option<(String, String)> {
    let (_, rest) = member.split_once("<name>")?;
    let (name, rest) = rest.split_once("</name>")?;
    let (_, value) = rest.split_once("<value>")?;
    let (value, _) = value.split_once("</value>")?;
    // Values have the form `<string>text</string>`, `<int>1</int>`, `<string/>`, or only text.
    let value = match value.trim_start().strip_prefix('<') {
        Some(typed) => {
            let (tag, text) = typed.split_once('>')?;
            match tag.ends_with('/') {
                true => "",
                false => text.rsplit_once("</").map_or(text, |(text, _)| text),
            }
        }
        None => value,
    };
    Some((unescape(name), unescape(value)))
}

fn unescape(text: &str) -> String {
    let plain = text.replace("&lt;", "<").replace("&gt;", ">");
    let plain = plain.replace("&quot;", "\"").replace("&apos;", "'");
    plain.replace("&amp;", "&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structs_are_read_with_values_of_each_kind() {
        let text = "<?xml version='1.0'?><methodResponse><params><param><value><array><data>\
            <value><struct><member>\n<name>name</name>\n<value><string>a &amp; b</string></value></member>\
            <member><name>pid</name><value><int>42</int></value></member>\
            <member><name>spawnerr</name><value><string></string></value></member>\
            <member><name>none</name><value><string/></value></member></struct></value>\
            <value><struct><member><name>name</name><value>c</value></member></struct></value>\
            </data></array></value></param></params></methodResponse>";
        let structs = read_structs(text).unwrap();
        assert_eq!(structs.len(), 2);
        assert_eq!(structs[0]["name"], "a & b");
        assert_eq!(structs[0]["pid"], "42");
        assert_eq!(structs[0]["spawnerr"], "");
        assert_eq!(structs[0]["none"], "");
        assert_eq!(structs[1]["name"], "c");
    }

    #[test]
    fn faults_and_other_answers_are_errors() {
        let fault = "<methodResponse><fault><value><struct><member><name>faultCode</name><value><int>1</int></value>\
            </member><member><name>faultString</name><value><string>SHUTDOWN_STATE</string></value></member></struct>\
            </value></fault></methodResponse>";
        assert_eq!(read_structs(fault), Err("SHUTDOWN_STATE".to_owned()));
        assert!(read_structs("<html>").is_err());
    }
}
