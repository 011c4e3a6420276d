//! ActionCache: results of actions.
//!
//! Owns: their names, which are the same over HTTP.
//! Invariant: a result is served only while everything that it points at is here.
#![forbid(unsafe_code)]

use prost::Message;
use tonic::{Request, Response, Status};

use super::api::re::{self, action_cache_server::ActionCache};
use super::call::FACTOR;
use super::failure::{failed, whole};
use super::weight::{RESULT, weight};
use super::{Api, Function, Name, key_of, share_of};
use crate::front::Space;
use crate::front::access::Right;
use crate::front::behind::EntryName;
use crate::front::held::Share;
use crate::front::intake::Intake;
use crate::front::names::Bound;
use crate::{Durability, GetError};

/// A result with more than this in it should have put it into blobs.
pub(crate) const RESULT_BYTES: u64 = 16 * 1024 * 1024;

#[tonic::async_trait]
impl ActionCache for Api {
    async fn get_action_result(
        &self,
        request: Request<re::GetActionResultRequest>,
    ) -> Result<Response<re::ActionResult>, Status> {
        let may_be_key = self.may_all(request.metadata().as_ref(), Right::Read);
        let share = share_of(&request)?;
        let request = request.into_inner();
        let function = self.function(request.digest_function)?;
        let digest = request.action_digest.as_ref();
        let action = Name::required(digest, function, "action_digest")?;
        let counters = self.shared.counters.space(Space::Bazel);
        let name = Self::name_of(&request.instance_name, &action, may_be_key);
        let result = self.result(&name, &share).await?;
        if let Some(result) = result
            && self.is_complete(&result, function, &share).await?
        {
            counters.hit(0);
            return Ok(Response::new(result));
        }
        counters.miss();
        let hash = action.hex();
        Err(Status::not_found(format!(
            "no complete result of action {hash}"
        )))
    }

    async fn update_action_result(
        &self,
        request: Request<re::UpdateActionResultRequest>,
    ) -> Result<Response<re::ActionResult>, Status> {
        let may_be_key = self.may_all(request.metadata().as_ref(), Right::Write);
        let request = request.into_inner();
        let function = self.function(request.digest_function)?;
        let digest = request.action_digest.as_ref();
        let action = Name::required(digest, function, "action_digest")?;
        let missing = || Status::invalid_argument("`action_result` is missing");
        let result = request.action_result.ok_or_else(missing)?;

        let mut intake = Intake::new(self.shared.store.upload(None), RESULT_BYTES);
        let encoded = intake.take(result.encode_to_vec().into());
        encoded.await.map_err(failed)?;
        let complete = intake.complete().await.map_err(failed)?;
        let stored = complete.store(&self.shared.store, Durability::Relaxed);
        let bound = Bound::now(stored.await.map_err(failed)?, ::bytes::Bytes::new());
        let name = Self::name_of(&request.instance_name, &action, may_be_key);
        let named = self.shared.names.bind(&name, &bound).await;
        named.map_err(failed)?;
        let counters = self.shared.counters.space(Space::Bazel);
        counters.store(bound.digest.size_bytes());
        Ok(Response::new(result))
    }
}

/// What a result becomes in memory.
pub(crate) fn result_bytes(content: &[u8]) -> u64 {
    FACTOR * content.len() as u64 + weight(&RESULT, content)
}

/// Says why a content is not a result of an action; `None` when it is one.
pub(crate) fn why_no_result(content: &[u8]) -> Option<String> {
    let result = match re::ActionResult::decode(content) {
        Ok(result) => result,
        Err(error) => return Some(error.to_string()),
    };
    let files = result.output_files.iter().map(|file| &file.digest);
    let trees = result
        .output_directories
        .iter()
        .map(|tree| &tree.tree_digest);
    let texts = [&result.stdout_digest, &result.stderr_digest];
    // Both functions have hashes of one form.
    let digests = files.chain(trees).chain(texts).flatten();
    let read = digests.map(|digest| Name::read(digest, Function::Sha256));
    let wrong = read.filter_map(Result::err).next();
    wrong.map(|status| status.message().to_owned())
}

impl Api {
    /// The same as over HTTP. `may_be_key` says whether the caller has the right to all entries.
    fn name_of(instance: &str, action: &Name, may_be_key: bool) -> EntryName {
        let is_shared = instance.is_empty();
        EntryName {
            key: key_of("ac", &[instance, &action.hex()]),
            action: is_shared.then(|| action.blob()),
            may_be_key: is_shared && may_be_key,
        }
    }

    async fn result(
        &self,
        name: &EntryName,
        share: &Share,
    ) -> Result<Option<re::ActionResult>, Status> {
        let bound = self.shared.names.resolve(name).await.map_err(failed)?;
        // What came over HTTP may be anything.
        let bound = bound.filter(|bound| bound.digest.size_bytes() <= RESULT_BYTES);
        let Some(bound) = bound else {
            return Ok(None);
        };
        let content = match self.shared.store.get(&bound.digest).await {
            Ok(blob) => whole(blob)?,
            Err(GetError::NotFound(_) | GetError::Corrupt { .. }) => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        // Decoded, and encoded again in an answer that may wait for its reader.
        share.add(result_bytes(&content)).map_err(failed)?;
        Ok(re::ActionResult::decode(content).ok())
    }
}
