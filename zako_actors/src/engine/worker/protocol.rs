//! What is said to a worker process and what it answers: Bazel's worker protocol as JSON, one object a
//! line.
//!
//! Owns the shapes. Does not know pipes. Fields that a worker leaves out have their defaults, as in
//! the JSON form of Protocol Buffers.

use serde::{Deserialize, Serialize};

/// One piece of work.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkRequest<'a> {
    /// What the tool would be given as arguments.
    pub arguments: &'a [String],
    /// What it may read.
    pub inputs: Vec<WorkInput<'a>>,
    /// 0: the worker does one thing at a time.
    pub request_id: i32,
    /// The request of this number is to be given up.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub cancel: bool,
}

/// A file that a request may read.
#[derive(Debug, Serialize)]
pub struct WorkInput<'a> {
    /// From the worker's working directory.
    pub path: &'a str,
    /// Equal digests mean equal content.
    pub digest: String,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkResponse {
    /// 0 for success.
    #[serde(alias = "exit_code")]
    pub exit_code: i32,
    /// What the tool would have printed.
    pub output: String,
    /// That of the request.
    #[serde(alias = "request_id")]
    pub request_id: i32,
    /// Whether it was given up because that was asked for.
    #[serde(alias = "was_cancelled")]
    pub was_cancelled: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_those_of_the_protocol() {
        let request = WorkRequest {
            arguments: &["-o".to_owned()],
            inputs: vec![WorkInput {
                path: "a",
                digest: "00".into(),
            }],
            request_id: 0,
            cancel: false,
        };
        let text = serde_json::to_string(&request).unwrap();
        assert_eq!(
            text,
            r#"{"arguments":["-o"],"inputs":[{"path":"a","digest":"00"}],"requestId":0}"#
        );
        let request = WorkRequest {
            arguments: &[],
            inputs: Vec::new(),
            request_id: 7,
            cancel: true,
        };
        let text = serde_json::to_string(&request).unwrap();
        assert_eq!(
            text,
            r#"{"arguments":[],"inputs":[],"requestId":7,"cancel":true}"#
        );
        let response: WorkResponse = serde_json::from_str(r#"{"exitCode": 2, "more": 1}"#).unwrap();
        assert_eq!((response.exit_code, &*response.output), (2, ""));
        assert_eq!(
            serde_json::from_str::<WorkResponse>("{}").unwrap(),
            WorkResponse::default()
        );
    }
}
