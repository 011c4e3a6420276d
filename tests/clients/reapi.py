"""An independent client of the remote execution API, made from the published protocol files by
another implementation of gRPC than the node's.

Usage: reapi.py ADDRESS GENERATED TOKEN (put|get). `put` stores blobs and a result and reads them
back; `get` only reads, as after a restart of the node.
"""

import hashlib
import sys
import uuid

import grpc

address, generated, token, what = sys.argv[1:]
sys.path.insert(0, generated)
from build.bazel.remote.execution.v2 import remote_execution_pb2 as re  # noqa: E402
from build.bazel.remote.execution.v2 import remote_execution_pb2_grpc as re_grpc  # noqa: E402
from google.bytestream import bytestream_pb2 as bs  # noqa: E402
from google.bytestream import bytestream_pb2_grpc as bs_grpc  # noqa: E402

SMALL = b"a small blob"
LARGE = bytes(range(256)) * 12000
who = [("authorization", "Bearer " + token)] if token else []


def digest(content):
    return re.Digest(hash=hashlib.sha256(content).hexdigest(), size_bytes=len(content))


def name(content):
    named = digest(content)
    return f"blobs/{named.hash}/{named.size_bytes}"


channel = grpc.insecure_channel(address)
cas = re_grpc.ContentAddressableStorageStub(channel)
stream = bs_grpc.ByteStreamStub(channel)
actions = re_grpc.ActionCacheStub(channel)
both = [digest(SMALL), digest(LARGE)]
action = digest(b"the action")
result = re.ActionResult(exit_code=7, output_files=[re.OutputFile(path="out", digest=both[1])])


def missing():
    request = re.FindMissingBlobsRequest(blob_digests=both)
    return list(cas.FindMissingBlobs(request, metadata=who).missing_blob_digests)


capabilities = re_grpc.CapabilitiesStub(channel)
said = capabilities.GetCapabilities(re.GetCapabilitiesRequest(), metadata=who)
assert re.DigestFunction.SHA256 in said.cache_capabilities.digest_functions

if what == "put":
    assert missing() == both
    update = re.BatchUpdateBlobsRequest(
        requests=[re.BatchUpdateBlobsRequest.Request(digest=both[0], data=SMALL)]
    )
    answer = cas.BatchUpdateBlobs(update, metadata=who)
    assert [one.status.code for one in answer.responses] == [0]
    resource = f"uploads/{uuid.uuid4()}/{name(LARGE)}"

    def pieces():
        for at in range(0, len(LARGE), 100_000):
            piece = LARGE[at : at + 100_000]
            yield bs.WriteRequest(
                resource_name=resource,
                write_offset=at,
                data=piece,
                finish_write=at + len(piece) == len(LARGE),
            )

    assert stream.Write(pieces(), metadata=who).committed_size == len(LARGE)
    update = re.UpdateActionResultRequest(action_digest=action, action_result=result)
    actions.UpdateActionResult(update, metadata=who)
    wrong = re.BatchUpdateBlobsRequest(
        requests=[re.BatchUpdateBlobsRequest.Request(digest=digest(b"x"), data=b"y")]
    )
    answer = cas.BatchUpdateBlobs(wrong, metadata=who)
    assert answer.responses[0].status.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]

assert missing() == []
read = re.BatchReadBlobsRequest(digests=[both[0]])
assert cas.BatchReadBlobs(read, metadata=who).responses[0].data == SMALL
read = stream.Read(bs.ReadRequest(resource_name=name(LARGE)), metadata=who)
assert b"".join(piece.data for piece in read) == LARGE
request = re.GetActionResultRequest(action_digest=action)
assert actions.GetActionResult(request, metadata=who) == result
if token:
    try:
        cas.FindMissingBlobs(re.FindMissingBlobsRequest(blob_digests=both))
        raise SystemExit("a stranger was let in")
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.UNAUTHENTICATED, error
print("all is well")
