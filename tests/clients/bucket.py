"""A bucket of moto, which is nobody's here: an S3 server that checks signatures, and a client of it.

Usage: bucket.py serve, which says `ADDRESS ID SECRET` once there is a bucket named `bucket`, and serves
until it is killed; bucket.py put|get ADDRESS ID SECRET KEY PATH, which stores a file as an object, or the
object as a file.
"""

import json
import os
import sys
import threading

# What is asked before there is a user to ask it.
SET_UP = 4
os.environ["INITIAL_NO_AUTH_ACTION_COUNT"] = str(SET_UP)

import boto3  # noqa: E402

what, *rest = sys.argv[1:]


def client(kind, address, key, secret):
    return boto3.client(
        kind,
        endpoint_url=address,
        region_name="us-east-1",
        aws_access_key_id=key,
        aws_secret_access_key=secret,
    )


if what == "serve":
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    address = f"http://{host}:{port}"
    anybody = (address, "nobody", "nothing")
    iam = client("iam", *anybody)
    iam.create_user(UserName="node")
    allowed = {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": allowed})
    iam.put_user_policy(UserName="node", PolicyName="all", PolicyDocument=policy)
    key = iam.create_access_key(UserName="node")["AccessKey"]
    client("s3", *anybody).create_bucket(Bucket="bucket")
    print(address, key["AccessKeyId"], key["SecretAccessKey"], flush=True)
    threading.Event().wait()

*who, name, path = rest
bucket = client("s3", *who)
if what == "put":
    bucket.upload_file(path, "bucket", name)
else:
    bucket.download_file("bucket", name, path)
