//! The `respond` action: a fixed response.

use super::ActionAnswer;
use crate::config::RespondAction;
use crate::proxy::transaction::local_response::LocalResponse;
use crate::proxy::transaction::placeholders::{RequestValues, ValueEncoding};

/// Returns the response, with its placeholders filled in.
pub(super) fn make_response(
    respond: &RespondAction,
    values: &RequestValues<'_>,
) -> Result<ActionAnswer, LocalResponse> {
    let mut content = Vec::new();
    let encoding = encoding_in(&respond.media_type);
    values.expand(&mut content, &respond.body, encoding)?;
    Ok(ActionAnswer {
        status: respond.status,
        content_type: respond.media_type.clone(),
        content,
        ..ActionAnswer::default()
    })
}

/// Returns how values that a client sent are encoded in content of this type, so that they remain plain text there.
fn encoding_in(media_type: &str) -> ValueEncoding {
    let media_type = media_type.to_ascii_lowercase();
    let is_any = |words: &[&str]| words.iter().any(|word| media_type.contains(word));
    if is_any(&["json", "javascript", "ecmascript"]) {
        ValueEncoding::Json
    } else if is_any(&["html", "xml", "svg"]) {
        ValueEncoding::Markup
    } else {
        ValueEncoding::Plain
    }
}
