"""Codecs between the bytes of a request or reply and the columns of `model`: JSON, msgpack, zstd, embeddings.

Everything untrusted is refused here, with the path of the field at fault; what leaves this package is valid.
Pure functions: no I/O, no clock. Called by `api` and by the client.
"""
