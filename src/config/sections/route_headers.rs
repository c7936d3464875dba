//! `[route.request_headers]` and `[route.response_headers]`.

use crate::config::declare::section;
use crate::config::routes::{FieldRule, FieldRules, MessageSide, RemovedFields};

section! {
    /// What becomes of the [header fields](routes.md#header-fields) of requests on their way to the app.
    [route.request_headers]
    #[derive(Debug, Clone, PartialEq)]
    pub struct RequestHeaderRules {
        /// Fields that the app gets in place of all that the client has sent of the same name. A value that becomes
        /// empty is not sent.
        set: Vec<FieldRule> = {}, FieldRules::set(MessageSide::Request);
        /// Fields that the app gets besides the client's own. A list of texts: one field for each.
        add: Vec<FieldRule> = {}, FieldRules::add(MessageSide::Request);
        /// Names of fields that the app does not get, such as `["Accept-Encoding"]`.
        remove: Vec<String> = [], RemovedFields(MessageSide::Request);
    }
}

section! {
    /// What becomes of the [header fields](routes.md#header-fields) of answers, lameduck's own included.
    [route.response_headers]
    #[derive(Debug, Clone, PartialEq)]
    pub struct ResponseHeaderRules {
        /// Fields that the client gets in place of all that the app has sent of the same name. A value that becomes
        /// empty is not sent.
        set: Vec<FieldRule> = {}, FieldRules::set(MessageSide::Response);
        /// Fields that the client gets besides the app's own. A list of texts: one field for each.
        add: Vec<FieldRule> = {}, FieldRules::add(MessageSide::Response);
        /// Names of fields that the client does not get, such as `["X-Powered-By"]`.
        remove: Vec<String> = [], RemovedFields(MessageSide::Response);
    }
}
