//! Calls over a real connection, as clients make them.

use ::bytes::Bytes;
use futures_util::stream;
use prost::Message;
use tonic::transport::Channel;
use tonic::{Code, Request};

use super::api::bytestream::byte_stream_client::ByteStreamClient;
use super::api::bytestream::{ReadRequest, WriteRequest};
use super::api::re::action_cache_client::ActionCacheClient;
use super::api::re::capabilities_client::CapabilitiesClient;
use super::api::re::content_addressable_storage_client::ContentAddressableStorageClient;
use super::api::re::{self, digest_function};
use crate::front::{AccessConfig, CredentialConfig, Front, FrontConfig, Right};
use crate::{Sha256Digest, Store, StoreConfig};

pub(super) const SHA256: i32 = digest_function::Value::Sha256 as i32;
pub(super) const BLAKE3: i32 = digest_function::Value::Blake3 as i32;

pub(super) struct Node {
    pub(super) front: Front,
    pub(super) channel: Channel,
    pub(super) uri: String,
    _system: actor_rt::System,
    pub(super) directory: tempfile::TempDir,
}

impl Node {
    pub(super) async fn start(config: &FrontConfig) -> Self {
        Self::over(tempfile::tempdir().unwrap(), config).await
    }

    /// A node over what lies in a directory.
    pub(super) async fn over(directory: tempfile::TempDir, config: &FrontConfig) -> Self {
        let system = actor_rt::System::new().unwrap();
        let store = StoreConfig {
            sha256_names: true,
            ..StoreConfig::new(directory.path())
        };
        let store = Store::open(store, &system).unwrap();
        let front = Front::new(store, config).unwrap();
        let address = front.listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let uri = format!("http://{address}");
        let channel = Channel::from_shared(uri.clone()).unwrap();
        Self {
            front,
            uri,
            channel: channel.connect().await.unwrap(),
            _system: system,
            directory,
        }
    }

    pub(super) fn blobs(&self) -> ContentAddressableStorageClient<Channel> {
        ContentAddressableStorageClient::new(self.channel.clone())
    }

    pub(super) fn bytes(&self) -> ByteStreamClient<Channel> {
        ByteStreamClient::new(self.channel.clone())
    }

    pub(super) fn actions(&self) -> ActionCacheClient<Channel> {
        ActionCacheClient::new(self.channel.clone())
    }

    /// Keeps a result whose output directories are these trees; what asks for it.
    pub(super) async fn keep_result(&self, trees: &[crate::Digest]) -> re::GetActionResultRequest {
        let directory = |(number, tree): (usize, &crate::Digest)| re::OutputDirectory {
            path: number.to_string(),
            tree_digest: Some(re::Digest {
                hash: tree.hex(),
                size_bytes: tree.size_bytes() as i64,
            }),
            ..Default::default()
        };
        let action_digest = Some(blake3(b"action"));
        let update = re::UpdateActionResultRequest {
            action_digest: action_digest.clone(),
            action_result: Some(re::ActionResult {
                output_directories: trees.iter().enumerate().map(directory).collect(),
                ..Default::default()
            }),
            digest_function: BLAKE3,
            ..Default::default()
        };
        self.actions().update_action_result(update).await.unwrap();
        re::GetActionResultRequest {
            action_digest,
            digest_function: BLAKE3,
            ..Default::default()
        }
    }

    pub(super) async fn missing(
        &self,
        digests: &[re::Digest],
        digest_function: i32,
    ) -> Vec<re::Digest> {
        let request = re::FindMissingBlobsRequest {
            blob_digests: digests.to_vec(),
            digest_function,
            ..Default::default()
        };
        let found = self.blobs().find_missing_blobs(request).await.unwrap();
        found.into_inner().missing_blob_digests
    }

    pub(super) async fn update(
        &self,
        blobs: &[(re::Digest, &[u8])],
        digest_function: i32,
    ) -> Vec<Code> {
        let requests = blobs
            .iter()
            .map(|(digest, data)| re::batch_update_blobs_request::Request {
                digest: Some(digest.clone()),
                data: Bytes::copy_from_slice(data),
                compressor: 0,
            });
        let request = re::BatchUpdateBlobsRequest {
            requests: requests.collect(),
            digest_function,
            ..Default::default()
        };
        let answer = self.blobs().batch_update_blobs(request).await.unwrap();
        let responses = answer.into_inner().responses.into_iter();
        responses
            .map(|blob| Code::from(blob.status.unwrap().code))
            .collect()
    }

    pub(super) async fn read(
        &self,
        name: &str,
        read_offset: i64,
        read_limit: i64,
    ) -> Result<Vec<u8>, Code> {
        let request = ReadRequest {
            resource_name: name.to_owned(),
            read_offset,
            read_limit,
        };
        let answer = self.bytes().read(request).await;
        let mut pieces = answer.map_err(|status| status.code())?.into_inner();
        let mut content = Vec::new();
        while let Some(piece) = pieces.message().await.unwrap() {
            content.extend_from_slice(&piece.data);
        }
        Ok(content)
    }

    /// Uploads `content` from `offset` on in pieces; the last one ends the upload if `finish`.
    pub(super) async fn write(
        &self,
        name: &str,
        content: &[u8],
        offset: usize,
        finish: bool,
    ) -> Result<i64, Code> {
        let rest = &content[offset..];
        let pieces = rest.chunks(1000.max(rest.len() / 3)).enumerate();
        let mut at = offset;
        let mut messages: Vec<WriteRequest> = pieces
            .map(|(index, piece)| {
                let write_offset = at as i64;
                at += piece.len();
                WriteRequest {
                    resource_name: if index == 0 {
                        name.to_owned()
                    } else {
                        String::new()
                    },
                    write_offset,
                    finish_write: finish && at == content.len(),
                    data: Bytes::copy_from_slice(piece),
                }
            })
            .collect();
        if messages.is_empty() {
            messages.push(WriteRequest {
                resource_name: name.to_owned(),
                finish_write: finish,
                ..Default::default()
            });
        }
        let answer = self.bytes().write(stream::iter(messages)).await;
        answer
            .map(|answer| answer.into_inner().committed_size)
            .map_err(|status| status.code())
    }
}

pub(super) fn sha256(content: &[u8]) -> re::Digest {
    re::Digest {
        hash: Sha256Digest::of(content).hex(),
        size_bytes: content.len() as i64,
    }
}

pub(super) fn blake3(content: &[u8]) -> re::Digest {
    re::Digest {
        hash: crate::Digest::of(content).hex(),
        size_bytes: content.len() as i64,
    }
}

pub(super) fn sample(size: u32) -> Vec<u8> {
    (0..size)
        .map(|at| (at.wrapping_mul(at) >> 9) as u8)
        .collect()
}

#[tokio::test]
async fn batches_of_both_functions() {
    let node = Node::start(&FrontConfig::default()).await;
    for (function, name) in [
        (SHA256, sha256 as fn(&[u8]) -> re::Digest),
        (BLAKE3, blake3),
    ] {
        let text = format!("content {function}");
        let (here, wrong, empty) = (name(text.as_bytes()), name(b"other"), name(b""));
        assert_eq!(
            node.missing(&[here.clone(), empty.clone()], function).await,
            std::slice::from_ref(&here)
        );
        let blobs = [(here.clone(), text.as_bytes()), (wrong.clone(), b"other!")];
        assert_eq!(
            node.update(&blobs, function).await,
            [Code::Ok, Code::InvalidArgument]
        );
        let asked = [here.clone(), wrong.clone(), empty];
        let missing = node.missing(&asked, function).await;
        assert_eq!(missing, std::slice::from_ref(&wrong));

        let request = re::BatchReadBlobsRequest {
            digests: vec![here, wrong],
            digest_function: function,
            ..Default::default()
        };
        let answer = node.blobs().batch_read_blobs(request).await.unwrap();
        let [read, unread] = &answer.into_inner().responses[..] else {
            panic!("two answers")
        };
        assert_eq!(read.data, text);
        assert_eq!(unread.status.as_ref().unwrap().code, Code::NotFound as i32);
    }
}

#[tokio::test]
async fn a_batch_has_a_limit_and_so_has_a_digest() {
    let node = Node::start(&FrontConfig::default()).await;
    let large = vec![7; 5 * 1024 * 1024];
    let request = re::BatchUpdateBlobsRequest {
        requests: vec![re::batch_update_blobs_request::Request {
            digest: Some(sha256(&large)),
            data: large.into(),
            compressor: 0,
        }],
        ..Default::default()
    };
    let said = node.blobs().batch_update_blobs(request).await.unwrap_err();
    assert_eq!(said.code(), Code::InvalidArgument);
    assert!(said.message().contains("limit of 4194304 bytes"), "{said}");
    for (hash, size_bytes) in [("abc".to_owned(), 1), (sha256(b"").hash, -1)] {
        let request = re::FindMissingBlobsRequest {
            blob_digests: vec![re::Digest { hash, size_bytes }],
            ..Default::default()
        };
        let said = node.blobs().find_missing_blobs(request).await.unwrap_err();
        assert_eq!(said.code(), Code::InvalidArgument);
    }
}

#[tokio::test]
async fn streams_of_both_functions_plain_and_compressed() {
    let node = Node::start(&FrontConfig::default()).await;
    let content = sample(3_000_000);
    let packed = zstd::encode_all(&content[..], 1).unwrap();
    let size = content.len();
    let hash = sha256(&content).hash;
    let plain = format!("blobs/{hash}/{size}");
    assert_eq!(node.read(&plain, 0, 0).await, Err(Code::NotFound));
    let upload = format!("main/uploads/1/blobs/{hash}/{size}");
    assert_eq!(
        node.write(&upload, &content, 0, true).await,
        Ok(size as i64)
    );
    assert_eq!(
        node.write(&upload, &content, 0, true).await,
        Ok(size as i64),
        "present"
    );
    assert!(node.read(&plain, 0, 0).await.unwrap() == content);
    assert_eq!(node.read(&plain, 5, 10).await.unwrap(), &content[5..15]);
    assert_eq!(node.read(&plain, size as i64, 0).await.unwrap(), b"");
    assert_eq!(
        node.read(&plain, size as i64 + 1, 0).await,
        Err(Code::OutOfRange)
    );

    let compressed = format!("compressed-blobs/zstd/{hash}/{size}");
    let read = node.read(&compressed, 100, 0).await.unwrap();
    assert!(zstd::decode_all(&read[..]).unwrap() == content[100..]);
    assert_eq!(
        node.read(&compressed, 0, 1).await,
        Err(Code::InvalidArgument)
    );
    let again = format!("uploads/2/{compressed}");
    assert_eq!(
        node.write(&again, &packed, 0, true).await,
        Ok(-1),
        "present"
    );

    let hash = blake3(&content).hash;
    let other = format!("uploads/3/compressed-blobs/zstd/blake3/{hash}/{size}");
    assert_eq!(
        node.write(&other, &packed, 0, true).await,
        Ok(-1),
        "the blob has both names"
    );
    let content = sample(200_000);
    let packed = zstd::encode_all(&content[..], 1).unwrap();
    let (hash, size) = (blake3(&content).hash, content.len());
    let name = format!("compressed-blobs/zstd/blake3/{hash}/{size}");
    let written = node
        .write(&format!("uploads/4/{name}"), &packed, 0, true)
        .await;
    assert_eq!(written, Ok(packed.len() as i64));
    let read = node.read(&name, 0, 0).await.unwrap();
    assert!(zstd::decode_all(&read[..]).unwrap() == content);
}

#[tokio::test]
async fn an_upload_that_is_wrong_leaves_nothing() {
    let node = Node::start(&FrontConfig::default()).await;
    let content = sample(10_000);
    let digest = sha256(&content);
    let name = format!("uploads/1/blobs/{}/{}", digest.hash, content.len());
    let mut other = content.clone();
    other[77] ^= 1;
    assert_eq!(
        node.write(&name, &other, 0, true).await,
        Err(Code::InvalidArgument)
    );
    let longer = [&content[..], b"more"].concat();
    assert_eq!(
        node.write(&name, &longer, 0, true).await,
        Err(Code::InvalidArgument)
    );
    assert_eq!(
        node.write(&name, &content[..9000], 0, true).await,
        Err(Code::InvalidArgument)
    );
    assert_eq!(
        node.missing(std::slice::from_ref(&digest), SHA256).await,
        [digest]
    );
    assert_eq!(
        node.write("uploads/1/blobs/x/1", b"x", 0, true).await,
        Err(Code::InvalidArgument)
    );
    let huge = format!("uploads/1/blobs/{}/{}", sha256(b"x").hash, i64::MAX);
    assert_eq!(
        node.write(&huge, b"x", 0, true).await,
        Err(Code::InvalidArgument)
    );
}

#[tokio::test]
async fn a_result_is_served_only_while_it_is_complete() {
    let node = Node::start(&FrontConfig::default()).await;
    let action = sha256(b"action");
    let file = |content: &[u8]| re::FileNode {
        name: "f".into(),
        digest: Some(sha256(content)),
        ..Default::default()
    };
    let tree = re::Tree {
        root: Some(re::Directory {
            files: vec![file(b"in the tree")],
            ..Default::default()
        }),
        children: vec![],
    }
    .encode_to_vec();
    let result = re::ActionResult {
        output_files: vec![re::OutputFile {
            path: "out".into(),
            digest: Some(sha256(b"out")),
            ..Default::default()
        }],
        output_directories: vec![re::OutputDirectory {
            path: "dir".into(),
            tree_digest: Some(sha256(&tree)),
            ..Default::default()
        }],
        ..Default::default()
    };
    let get = || re::GetActionResultRequest {
        action_digest: Some(action.clone()),
        ..Default::default()
    };
    let miss = async || {
        node.actions()
            .get_action_result(get())
            .await
            .unwrap_err()
            .code()
    };
    assert_eq!(miss().await, Code::NotFound);
    let update = re::UpdateActionResultRequest {
        action_digest: Some(action.clone()),
        action_result: Some(result.clone()),
        ..Default::default()
    };
    node.actions().update_action_result(update).await.unwrap();
    for content in [&b"out"[..], &tree, b"in the tree"] {
        assert_eq!(miss().await, Code::NotFound);
        assert_eq!(
            node.update(&[(sha256(content), content)], SHA256).await,
            [Code::Ok]
        );
    }
    let found = node.actions().get_action_result(get()).await.unwrap();
    assert_eq!(found.into_inner(), result);
    let mut other = get();
    other.instance_name = "other".into();
    let said = node.actions().get_action_result(other).await.unwrap_err();
    assert_eq!(said.code(), Code::NotFound, "instances are apart");
}

#[tokio::test]
async fn a_tree_is_walked_once_and_what_is_missing_is_left_out() {
    let node = Node::start(&FrontConfig::default()).await;
    let leaf = re::Directory {
        symlinks: vec![re::SymlinkNode {
            name: "l".into(),
            target: "t".into(),
            ..Default::default()
        }],
        ..Default::default()
    };
    let child = |name: &str, content: &[u8]| re::DirectoryNode {
        name: name.into(),
        digest: Some(sha256(content)),
    };
    let leaf_bytes = leaf.encode_to_vec();
    let root = re::Directory {
        directories: vec![
            child("a", &leaf_bytes),
            child("b", &leaf_bytes),
            child("c", b"gone"),
        ],
        ..Default::default()
    };
    let root_bytes = root.encode_to_vec();
    let tree = async || {
        let request = re::GetTreeRequest {
            root_digest: Some(sha256(&root_bytes)),
            page_size: 1,
            ..Default::default()
        };
        let mut pages = node.blobs().get_tree(request).await?.into_inner();
        let mut all = Vec::new();
        while let Some(page) = pages.message().await? {
            all.extend(page.directories);
        }
        Ok::<_, tonic::Status>(all)
    };
    assert_eq!(tree().await.unwrap_err().code(), Code::NotFound);
    let blobs = [
        (sha256(&root_bytes), &root_bytes[..]),
        (sha256(&leaf_bytes), &leaf_bytes),
    ];
    assert_eq!(node.update(&blobs, SHA256).await, [Code::Ok, Code::Ok]);
    assert_eq!(tree().await.unwrap(), [root.clone(), leaf.clone()]);
}

#[tokio::test]
async fn capabilities_health_and_credentials() {
    let ci = CredentialConfig {
        name: "ci".into(),
        bearer: Some("token".into()),
        right: Right::Read,
        ..Default::default()
    };
    let node = Node::start(&FrontConfig {
        access: AccessConfig {
            anonymous: None,
            credential: vec![ci],
        },
        ..Default::default()
    })
    .await;
    let mut capabilities = CapabilitiesClient::new(node.channel.clone());
    let stranger = capabilities.get_capabilities(re::GetCapabilitiesRequest::default());
    assert_eq!(stranger.await.unwrap_err().code(), Code::Unauthenticated);
    let mut request = Request::new(re::GetCapabilitiesRequest::default());
    let token = "Bearer token"
        .parse::<tonic::metadata::MetadataValue<_>>()
        .unwrap();
    request
        .metadata_mut()
        .insert("authorization", token.clone());
    let answer = capabilities
        .get_capabilities(request)
        .await
        .unwrap()
        .into_inner();
    let cache = answer.cache_capabilities.unwrap();
    assert_eq!(cache.digest_functions, [SHA256, BLAKE3]);
    assert!(
        !cache
            .action_cache_update_capabilities
            .unwrap()
            .update_enabled,
        "may only read"
    );

    let mut request = Request::new(re::UpdateActionResultRequest::default());
    request.metadata_mut().insert("authorization", token);
    let refused = node
        .actions()
        .update_action_result(request)
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);

    let mut health = tonic_health::pb::health_client::HealthClient::new(node.channel.clone());
    let check = health.check(tonic_health::pb::HealthCheckRequest::default());
    assert_eq!(check.await.unwrap().into_inner().status, 1);
}

#[tokio::test]
async fn reflection_knows_the_services() {
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
    let node = Node::start(&FrontConfig::default()).await;
    let request = tonic_reflection::pb::v1::ServerReflectionRequest {
        message_request: Some(MessageRequest::ListServices(String::new())),
        ..Default::default()
    };
    let mut client = ServerReflectionClient::new(node.channel.clone());
    let answer = client.server_reflection_info(stream::iter([request])).await;
    let answer = answer
        .unwrap()
        .into_inner()
        .message()
        .await
        .unwrap()
        .unwrap();
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
        panic!("no list");
    };
    let names: Vec<&str> = list
        .service
        .iter()
        .map(|service| service.name.as_str())
        .collect();
    for name in [
        "build.bazel.remote.execution.v2.ContentAddressableStorage",
        "google.bytestream.ByteStream",
        "grpc.health.v1.Health",
    ] {
        assert!(names.contains(&name), "{names:?}");
    }
}
