"""The gRPC door: `sync.proto` is its contract, everything behind it is what REST calls, too.

`door` opens and closes the port, `calls` is what happens around every message, `sync` the three calls of the service,
`messages` their protobuf, `problems` how an error ends a call. `sync_pb2` is made from `sync.proto` by `make protobuf`.
"""
