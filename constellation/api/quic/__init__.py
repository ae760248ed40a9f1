"""The HTTP/3 door: the application of the REST port over QUIC (RFC 9000, RFC 9114), with the library aioquic.

`door` opens and closes the UDP port, `connection` is one client's connection with its bounds, `bounds` what the library
leaves open of them, `request` one request and its reply. Imported only where `--quic-port` asks for it: the library is
an extra.
"""
