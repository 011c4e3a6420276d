"""An independent client of the remote execution API, made from the published protocol files by
another implementation of gRPC than the node's.

Usage: reapi.py ADDRESS GENERATED TOKEN (put|get|begin|resume). `put` stores blobs and a result and
reads them back, also by BLAKE3, compressed with zstd and as a tree; `get` only reads, as after a restart of the node. `begin` uploads a part of a blob,
says so, and waits for its end; `resume` uploads the rest.
"""

import hashlib
import sys
import threading
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
LARGER = LARGE + b"more"
INTERRUPTED = b"interrupted" * 500_000
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


def messages(resource, content, begin, end):
    for at in range(begin, end, 100_000):
        piece = content[at : min(at + 100_000, end)]
        yield bs.WriteRequest(
            resource_name=resource,
            write_offset=at,
            data=piece,
            finish_write=at + len(piece) == len(content),
        )


def read_all(content):
    read = stream.Read(bs.ReadRequest(resource_name=name(content)), metadata=who)
    return b"".join(piece.data for piece in read)


interrupted = "uploads/00000000-0000-4000-8000-000000000000/" + name(INTERRUPTED)


def status():
    request = bs.QueryWriteStatusRequest(resource_name=interrupted)
    return stream.QueryWriteStatus(request, metadata=who)


if what == "begin":

    def a_part_and_no_end():
        yield from messages(interrupted, INTERRUPTED, 0, 3_000_000)
        threading.Event().wait()

    upload = threading.Thread(
        target=lambda: stream.Write(a_part_and_no_end(), metadata=who), daemon=True
    )
    upload.start()
    while True:
        try:
            committed = status().committed_size
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.NOT_FOUND, error
            continue
        if committed >= 1_000_000:
            break
    print("committed", committed, flush=True)
    upload.join()

if what == "resume":
    found = status()
    assert found.committed_size >= 1_000_000 and not found.complete, found
    rest = messages(interrupted, INTERRUPTED, found.committed_size, len(INTERRUPTED))
    assert stream.Write(rest, metadata=who).committed_size == len(INTERRUPTED)
    assert status().complete
    assert read_all(INTERRUPTED) == INTERRUPTED
    print("all is well")
    sys.exit()



def by_blake3(content, known):
    """A blob by its other name, which Python does not compute."""
    named = re.Digest(hash=known, size_bytes=len(content))
    request = re.FindMissingBlobsRequest(
        blob_digests=[named], digest_function=re.DigestFunction.BLAKE3
    )
    assert list(cas.FindMissingBlobs(request, metadata=who).missing_blob_digests) == []
    resource = f"blobs/blake3/{known}/{len(content)}"
    read = stream.Read(bs.ReadRequest(resource_name=resource), metadata=who)
    assert b"".join(piece.data for piece in read) == content


def zstd(content):
    """A frame of zstd (RFC 8878) whose blocks are not compressed."""
    frame = b"\x28\xb5\x2f\xfd\xa0" + len(content).to_bytes(4, "little")
    for at in range(0, len(content), 100_000):
        piece = content[at : at + 100_000]
        is_last = at + len(piece) == len(content)
        frame += (is_last | len(piece) << 3).to_bytes(3, "little") + piece
    return frame


def compressed(content):
    """Through `compressed-blobs/zstd`, in and out."""
    named = digest(content)
    resource = f"compressed-blobs/zstd/{named.hash}/{named.size_bytes}"
    if what == "put":
        frame = zstd(content)
        pieces = messages(f"uploads/{uuid.uuid4()}/{resource}", frame, 0, len(frame))
        assert stream.Write(pieces, metadata=who).committed_size == len(frame)
    assert read_all(content) == content
    read = stream.Read(bs.ReadRequest(resource_name=resource), metadata=who)
    frame = b"".join(piece.data for piece in read)
    assert frame[:4] == b"\x28\xb5\x2f\xfd" and len(frame) < len(content) // 10


def tree():
    """A root with two directories of the same content: the walk finds it once."""
    leaf = re.Directory(files=[re.FileNode(name="f", digest=digest(SMALL))])
    below = digest(leaf.SerializeToString())
    nodes = [re.DirectoryNode(name=name, digest=below) for name in ("a", "b")]
    root = re.Directory(directories=nodes)
    blobs = [one.SerializeToString() for one in (root, leaf)]
    requests = [re.BatchUpdateBlobsRequest.Request(digest=digest(it), data=it) for it in blobs]
    if what == "put":
        cas.BatchUpdateBlobs(re.BatchUpdateBlobsRequest(requests=requests), metadata=who)
    request = re.GetTreeRequest(root_digest=digest(blobs[0]))
    pages = cas.GetTree(request, metadata=who)
    assert [one for page in pages for one in page.directories] == [root, leaf]


def health_and_reflection():
    """Without their protocol files: the messages are a few bytes."""
    check = channel.unary_unary("/grpc.health.v1.Health/Check")
    serving = b"\x08\x01"
    for service in (b"", b"google.bytestream.ByteStream"):
        request = b"\x0a" + bytes([len(service)]) + service if service else b""
        assert check(request) == serving, service
    ask = channel.stream_stream("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")
    list_services = b"\x3a\x01*"
    (listed,) = ask(iter([list_services]))
    for service in (
        b"build.bazel.remote.execution.v2.ContentAddressableStorage",
        b"google.bytestream.ByteStream",
        b"grpc.health.v1.Health",
    ):
        assert service in listed, listed


capabilities = re_grpc.CapabilitiesStub(channel)
said = capabilities.GetCapabilities(re.GetCapabilitiesRequest(), metadata=who)
assert re.DigestFunction.SHA256 in said.cache_capabilities.digest_functions
assert said.cache_capabilities.split_blob_support and said.cache_capabilities.splice_blob_support
assert said.cache_capabilities.fast_cdc_2020_params.avg_chunk_size_bytes == 512 * 1024

if what == "put":
    assert missing() == both
    update = re.BatchUpdateBlobsRequest(
        requests=[re.BatchUpdateBlobsRequest.Request(digest=both[0], data=SMALL)]
    )
    answer = cas.BatchUpdateBlobs(update, metadata=who)
    assert [one.status.code for one in answer.responses] == [0]
    resource = f"uploads/{uuid.uuid4()}/{name(LARGE)}"
    pieces = messages(resource, LARGE, 0, len(LARGE))
    assert stream.Write(pieces, metadata=who).committed_size == len(LARGE)
    split = cas.SplitBlob(re.SplitBlobRequest(blob_digest=both[1]), metadata=who)
    assert sum(chunk.size_bytes for chunk in split.chunk_digests) == len(LARGE)
    more = re.BatchUpdateBlobsRequest.Request(digest=digest(b"more"), data=b"more")
    cas.BatchUpdateBlobs(re.BatchUpdateBlobsRequest(requests=[more]), metadata=who)
    splice = re.SpliceBlobRequest(
        blob_digest=digest(LARGER),
        chunk_digests=[*split.chunk_digests, digest(b"more")],
    )
    assert cas.SpliceBlob(splice, metadata=who).blob_digest == digest(LARGER)
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
assert read_all(LARGE) == LARGE
assert read_all(LARGER) == LARGER
request = re.GetActionResultRequest(action_digest=action)
assert actions.GetActionResult(request, metadata=who) == result
by_blake3(SMALL, "2e84b2449bd19f947d09ce1d9666d2d49c932d55da9afe9d04c2e25fb6f1cb5a")
by_blake3(LARGE, "fc37c6cfbcf97c709c0757df3152bc6c30d72307267ce5c71a64870d3e036061")
compressed(b"compress me " * 50_000)
tree()
health_and_reflection()
if token:
    try:
        cas.FindMissingBlobs(re.FindMissingBlobsRequest(blob_digests=both))
        raise SystemExit("a stranger was let in")
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.UNAUTHENTICATED, error
print("all is well")
