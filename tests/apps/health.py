"""A gRPC server with the standard health service: health.py [--without] [--cert FILE --key FILE]

Prints its port. Each line on standard input sets the server's status (SERVING, NOT_SERVING, UNKNOWN); its end stops
the server the usual way: no new calls, those under way finish.
"""
import argparse
import sys
from concurrent import futures

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

options = argparse.ArgumentParser()
options.add_argument("--without", action="store_true", help="no health service")
options.add_argument("--cert")
options.add_argument("--key")
options = options.parse_args()

server = grpc.server(futures.ThreadPoolExecutor(4))
servicer = health.HealthServicer()
if not options.without:
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
if options.cert:
    with open(options.cert, "rb") as cert, open(options.key, "rb") as key:
        credentials = grpc.ssl_server_credentials([(key.read(), cert.read())])
    port = server.add_secure_port("127.0.0.1:0", credentials)
else:
    port = server.add_insecure_port("127.0.0.1:0")
servicer.set("", health_pb2.HealthCheckResponse.SERVING)
server.start()
print(port, flush=True)
for line in sys.stdin:
    servicer.set("", health_pb2.HealthCheckResponse.ServingStatus.Value(line.strip()))
    print("set", flush=True)
server.stop(grace=5).wait()
