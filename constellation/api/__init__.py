"""The outside of the service over HTTP. Thin: decode, call the shard, encode.

One sync goes `edge` (request id, accounting) -> `sync` (the handler) -> `form` and `body` (headers, bytes) ->
`wire.sync` (columns) -> `shard` -> `wire.sync` (bytes). Whatever is refused on the way becomes a reply in `problems`.
"""
