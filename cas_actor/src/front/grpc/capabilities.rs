//! What this node can do, as clients ask first.
#![forbid(unsafe_code)]

use tonic::{Request, Response, Status};

use super::api::SemVer;
use super::api::re::{self, capabilities_server::Capabilities};
use super::{Api, BATCH_BYTES};
use crate::Chunking;
use crate::front::access::Right;

#[tonic::async_trait]
impl Capabilities for Api {
    async fn get_capabilities(
        &self,
        request: Request<re::GetCapabilitiesRequest>,
    ) -> Result<Response<re::ServerCapabilities>, Status> {
        let headers = request.metadata().as_ref();
        let may_write = self.allows(headers, Right::Write).is_ok();
        let version = |minor| SemVer {
            major: 2,
            minor,
            ..Default::default()
        };
        let largest = self.shared.limits.upload_bytes;
        let mut functions = vec![re::digest_function::Value::Sha256 as i32];
        if self.shared.dialects.blake3 {
            functions.push(re::digest_function::Value::Blake3 as i32);
        }
        let zstd = vec![re::compressor::Value::Zstd as i32];
        Ok(Response::new(re::ServerCapabilities {
            cache_capabilities: Some(re::CacheCapabilities {
                digest_functions: functions,
                action_cache_update_capabilities: Some(re::ActionCacheUpdateCapabilities {
                    update_enabled: may_write,
                }),
                max_batch_total_size_bytes: BATCH_BYTES.cast_signed(),
                symlink_absolute_path_strategy: re::symlink_absolute_path_strategy::Value::Allowed
                    as i32,
                supported_compressors: zstd.clone(),
                supported_batch_update_compressors: zstd,
                max_cas_blob_size_bytes: i64::try_from(largest).unwrap_or(i64::MAX),
                // Most clients name chunks by SHA-256.
                split_blob_support: self.shared.store.config().sha256_names,
                splice_blob_support: true,
                fast_cdc_2020_params: Some(re::FastCdc2020Params {
                    avg_chunk_size_bytes: Chunking::default().average_bytes().into(),
                    seed: 0,
                }),
                ..Default::default()
            }),
            low_api_version: Some(version(0)),
            high_api_version: Some(version(3)),
            ..Default::default()
        }))
    }
}
